//! The specification's described types by number and by name; either may come (section 1.2), numbers are written.

use crate::types::Value;

macro_rules! descriptors {
    ($($(#[$doc:meta])* $name:ident = ($code:literal, $text:literal),)*) => {
        $( $(#[$doc])* pub const $name: u64 = $code; )*

        /// Numbers and names.
        pub const ALL: &[(u64, &str)] = &[ $( ($code, $text), )* ];
    };
}

descriptors! {
    /// 2.7.1
    OPEN = (0x10, "amqp:open:list"),
    /// 2.7.2
    BEGIN = (0x11, "amqp:begin:list"),
    /// 2.7.3
    ATTACH = (0x12, "amqp:attach:list"),
    /// 2.7.4
    FLOW = (0x13, "amqp:flow:list"),
    /// 2.7.5
    TRANSFER = (0x14, "amqp:transfer:list"),
    /// 2.7.6
    DISPOSITION = (0x15, "amqp:disposition:list"),
    /// 2.7.7
    DETACH = (0x16, "amqp:detach:list"),
    /// 2.7.8
    END = (0x17, "amqp:end:list"),
    /// 2.7.9
    CLOSE = (0x18, "amqp:close:list"),
    /// 2.8.14
    ERROR = (0x1d, "amqp:error:list"),
    /// 3.4.1
    RECEIVED = (0x23, "amqp:received:list"),
    /// 3.4.2
    ACCEPTED = (0x24, "amqp:accepted:list"),
    /// 3.4.3
    REJECTED = (0x25, "amqp:rejected:list"),
    /// 3.4.4
    RELEASED = (0x26, "amqp:released:list"),
    /// 3.4.5
    MODIFIED = (0x27, "amqp:modified:list"),
    /// 3.5.3
    SOURCE = (0x28, "amqp:source:list"),
    /// 3.5.4
    TARGET = (0x29, "amqp:target:list"),
    /// 3.5.10
    DELETE_ON_CLOSE = (0x2b, "amqp:delete-on-close:list"),
    /// 3.5.11
    DELETE_ON_NO_LINKS = (0x2c, "amqp:delete-on-no-links:list"),
    /// 3.5.12
    DELETE_ON_NO_MESSAGES = (0x2d, "amqp:delete-on-no-messages:list"),
    /// 3.5.13
    DELETE_ON_NO_LINKS_OR_MESSAGES = (0x2e, "amqp:delete-on-no-links-or-messages:list"),
    /// 4.5.1
    COORDINATOR = (0x30, "amqp:coordinator:list"),
    /// 4.5.2
    DECLARE = (0x31, "amqp:declare:list"),
    /// 4.5.3
    DISCHARGE = (0x32, "amqp:discharge:list"),
    /// 4.5.5
    DECLARED = (0x33, "amqp:declared:list"),
    /// 4.5.6
    TRANSACTIONAL_STATE = (0x34, "amqp:transactional-state:list"),
    /// 5.3.3.1
    SASL_MECHANISMS = (0x40, "amqp:sasl-mechanisms:list"),
    /// 5.3.3.2
    SASL_INIT = (0x41, "amqp:sasl-init:list"),
    /// 5.3.3.3
    SASL_CHALLENGE = (0x42, "amqp:sasl-challenge:list"),
    /// 5.3.3.4
    SASL_RESPONSE = (0x43, "amqp:sasl-response:list"),
    /// 5.3.3.6
    SASL_OUTCOME = (0x44, "amqp:sasl-outcome:list"),
    /// 3.2.1
    HEADER = (0x70, "amqp:header:list"),
    /// 3.2.2
    DELIVERY_ANNOTATIONS = (0x71, "amqp:delivery-annotations:map"),
    /// 3.2.3
    MESSAGE_ANNOTATIONS = (0x72, "amqp:message-annotations:map"),
    /// 3.2.4
    PROPERTIES = (0x73, "amqp:properties:list"),
    /// 3.2.5
    APPLICATION_PROPERTIES = (0x74, "amqp:application-properties:map"),
    /// 3.2.6
    DATA = (0x75, "amqp:data:binary"),
    /// 3.2.7
    AMQP_SEQUENCE = (0x76, "amqp:amqp-sequence:list"),
    /// 3.2.8
    AMQP_VALUE = (0x77, "amqp:amqp-value:*"),
    /// 3.2.9
    FOOTER = (0x78, "amqp:footer:map"),
}

/// The number of a descriptor: of a `ulong` itself, of a symbol that which the specification gives it.
#[must_use]
#[inline]
pub fn code(descriptor: &Value<'_>) -> Option<u64> {
    match descriptor {
        Value::Ulong(code) => Some(*code),
        Value::Symbol(name) => ALL.iter().find(|(_, text)| *text == name.as_str()).map(|(code, _)| *code),
        _ => None,
    }
}

/// The name of a number.
#[must_use]
pub fn name(code: u64) -> Option<&'static str> {
    ALL.iter().find(|(known, _)| *known == code).map(|(_, name)| *name)
}

/// [`name`], for tables.
pub(crate) const fn constant_name(code: u64) -> Option<&'static str> {
    let mut rest = ALL;
    while let [(known, name), tail @ ..] = rest {
        if *known == code {
            return Some(name);
        }
        rest = tail;
    }
    None
}
