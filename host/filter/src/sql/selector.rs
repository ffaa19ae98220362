//! The names that JMS defines: headers of Jakarta Messaging by fields of AMQP 1.0, as "AMQP Binding and Mapping for JMS"
//! has them.

use super::tree::Reference;
use crate::{Field, Header, Message, Property, Value};
use alloc::{borrow::Cow, format, string::String};
use core::fmt::Write;

/// A name that is made of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Selected {
    /// `PERSISTENT` or `NON_PERSISTENT`.
    DeliveryMode,
    /// A text with `ID:` in front.
    MessageId,
    /// A text; with `ID:` in front if it was none.
    CorrelationId,
    /// An integer: which delivery this is, from 1.
    DeliveryCount,
}

/// What a name stands for. `None` if it is of those that JMS keeps for itself, and is none of them.
pub(super) fn reference(name: &str) -> Option<Reference> {
    let property = |property| Some(Reference::Field(Field::Property(property)));
    match name {
        "JMSDeliveryMode" => Some(Reference::Selected(Selected::DeliveryMode)),
        "JMSMessageID" => Some(Reference::Selected(Selected::MessageId)),
        "JMSCorrelationID" => Some(Reference::Selected(Selected::CorrelationId)),
        "JMSXDeliveryCount" => Some(Reference::Selected(Selected::DeliveryCount)),
        "JMSPriority" => Some(Reference::Field(Field::Header(Header::Priority))),
        "JMSTimestamp" => property(Property::CreationTime),
        "JMSExpiration" => property(Property::AbsoluteExpiryTime),
        "JMSType" => property(Property::Subject),
        "JMSXGroupID" => property(Property::GroupId),
        "JMSXGroupSeq" => property(Property::GroupSequence),
        "JMSXUserID" => property(Property::UserId),
        // Names with an underscore are those of providers and applications.
        _ if name.starts_with("JMS") && !name.starts_with("JMS_") => None,
        _ => Some(Reference::Field(Field::ApplicationProperty(name.into()))),
    }
}

impl Selected {
    pub(super) fn value<'m>(self, message: &'m dyn Message) -> Option<Value<'m>> {
        match self {
            Self::DeliveryMode => {
                let is_durable =
                    matches!(message.field(&Field::Header(Header::Durable)), Some(Value::Boolean(true)));
                let name = if is_durable { "PERSISTENT" } else { "NON_PERSISTENT" };
                Some(Value::Text(Cow::Borrowed(name)))
            }
            Self::DeliveryCount => match message.field(&Field::Header(Header::DeliveryCount)) {
                Some(Value::Integer(failed)) => Some(Value::Integer(failed.saturating_add(1))),
                _ => Some(Value::Integer(1)),
            },
            Self::MessageId => {
                let id = message.field(&Field::Property(Property::MessageId))?;
                Some(Value::Text(match identifier(id)? {
                    text if text.starts_with("ID:") => text,
                    text => Cow::Owned(format!("ID:AMQP_NO_PREFIX:{text}")),
                }))
            }
            Self::CorrelationId => {
                identifier(message.field(&Field::Property(Property::CorrelationId))?).map(Value::Text)
            }
        }
    }
}

/// An identifier as a text.
fn identifier(id: Value<'_>) -> Option<Cow<'_, str>> {
    match id {
        Value::Text(text) => Some(text),
        Value::Integer(number) => Some(Cow::Owned(format!("ID:AMQP_ULONG:{number}"))),
        Value::Binary(bytes) => {
            let mut text = String::from("ID:AMQP_BINARY:");
            for byte in bytes.iter() {
                let _ = write!(text, "{byte:02X}");
            }
            Some(Cow::Owned(text))
        }
        Value::Uuid(bytes) => {
            let mut text = String::from("ID:AMQP_UUID:");
            for (number, byte) in bytes.iter().enumerate() {
                if matches!(number, 4 | 6 | 8 | 10) {
                    text.push('-');
                }
                let _ = write!(text, "{byte:02x}");
            }
            Some(Cow::Owned(text))
        }
        _ => None,
    }
}
