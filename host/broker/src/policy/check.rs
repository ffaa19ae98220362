//! Which keys a definition may have, and which values, in RabbitMQ's words.
//!
//! Keys that say something of several nodes, of streams or of how RabbitMQ keeps messages are taken, and mean nothing
//! here. Those of mirrored queues are not, nor those of RabbitMQ's plugins, as in RabbitMQ without them.

use super::PolicyKind;
use crate::queue::QueueKind;
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use leveret_model::{Name, Table, Value};

/// The queue types for whose queues a definition is not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NotFor {
    classic: bool,
    quorum: bool,
}

impl NotFor {
    pub(super) fn has(self, kind: QueueKind) -> bool {
        match kind {
            QueueKind::Classic => self.classic,
            QueueKind::Quorum => self.quorum,
        }
    }
}

/// What a value has to be.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Integer,
    /// An integer from the first to the second.
    Within(i64, i64),
    OneOf(&'static [&'static str]),
    /// A number and a unit.
    Age,
    /// Nothing is good.
    Refused,
}

/// Who may have a key, and for which queues.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Users, for all.
    User,
    /// Operators too, for all.
    Both,
    /// Users, and for quorum queues, not classic ones.
    UserQuorum,
    /// Operators too, and for quorum queues, not classic ones.
    BothQuorum,
    /// Users, and for classic queues, not quorum queues.
    UserClassic,
    /// Users, and for neither.
    UserStream,
}

struct Key {
    key: &'static str,
    kind: Kind,
    scope: Scope,
    /// What the value would have to be, in words.
    what: &'static str,
}

const fn key(key: &'static str, kind: Kind, scope: Scope, what: &'static str) -> Key {
    Key { key, kind, scope, what }
}

const AT_LEAST_0: Kind = Kind::Within(0, i64::MAX);
const AT_LEAST_1: Kind = Kind::Within(1, i64::MAX);

/// By key, since they are looked at in this order.
const KEYS: [Key; 26] = [
    key("alternate-exchange", Kind::Text, Scope::User, "alternate exchange name"),
    key("consumer-disconnected-timeout", AT_LEAST_0, Scope::User, "consumer disconnected timeout"),
    key("consumer-timeout", AT_LEAST_0, Scope::User, "consumer timeout"),
    key("dead-letter-exchange", Kind::Text, Scope::User, "dead letter exchange name"),
    key("dead-letter-routing-key", Kind::Text, Scope::User, "dead letter routing key"),
    key(
        "dead-letter-strategy",
        Kind::OneOf(&["at-most-once", "at-least-once"]),
        Scope::UserQuorum,
        "dead letter strategy",
    ),
    key(
        "delayed-retry-max",
        AT_LEAST_1,
        Scope::Both,
        "delayed retry maximum delay. Must be a positive integer",
    ),
    key(
        "delayed-retry-min",
        AT_LEAST_1,
        Scope::Both,
        "delayed retry minimum delay. Must be a positive integer",
    ),
    key(
        "delayed-retry-type",
        Kind::OneOf(&["all", "failed", "returned", "disabled"]),
        Scope::Both,
        "delayed retry type. Must be one of: all, failed, returned, disabled",
    ),
    key("delivery-limit", Kind::Integer, Scope::BothQuorum, "delivery limit"),
    key("expires", AT_LEAST_1, Scope::Both, "queue expiry"),
    key("initial-cluster-size", AT_LEAST_0, Scope::UserStream, "cluster size"),
    key("max-age", Kind::Age, Scope::UserStream, "max age"),
    key("max-in-memory-bytes", AT_LEAST_0, Scope::BothQuorum, "maximum memory in bytes"),
    key("max-in-memory-length", AT_LEAST_0, Scope::BothQuorum, "maximum memory in bytes"),
    key("max-length", AT_LEAST_0, Scope::Both, "maximum length"),
    key("max-length-bytes", AT_LEAST_0, Scope::Both, "maximum length in bytes"),
    key("message-ttl", AT_LEAST_0, Scope::Both, "message TTL"),
    key(
        "overflow",
        Kind::OneOf(&["drop-head", "reject-publish", "reject-publish-dlx"]),
        Scope::Both,
        "overflow value",
    ),
    key(
        "queue-leader-locator",
        Kind::OneOf(&["client-local", "balanced", "random", "least-leaders"]),
        Scope::User,
        "queue leader locator value",
    ),
    key("queue-master-locator", Kind::Refused, Scope::Both, ""),
    key("queue-mode", Kind::OneOf(&["default", "lazy"]), Scope::UserClassic, "queue-mode value"),
    key("queue-version", Kind::Within(1, 2), Scope::Both, "queue-version value"),
    key("stream-filter-size-bytes", Kind::Within(16, 255), Scope::User, "filter size. Valid range is 16-255"),
    key("stream-max-segment-size-bytes", Kind::Within(0, 3_000_000_000), Scope::UserStream, "segment size"),
    key("target-group-size", AT_LEAST_1, Scope::BothQuorum, "qq target count value"),
];

/// Checks a definition, and says for which queues it is not.
///
/// # Errors
/// What is wrong, for people to read, in RabbitMQ's words.
pub(super) fn definition(kind: PolicyKind, definition: &Table) -> Result<NotFor, String> {
    if definition.is_empty() {
        return Err("no policy provided".into());
    }
    let mut not_for = NotFor::default();
    for key in &KEYS {
        let Some(value) = definition.get(key.key.as_bytes()) else { continue };
        if !key.may_have(kind) {
            continue;
        }
        key.check(value)?;
        not_for.classic |= matches!(key.scope, Scope::UserQuorum | Scope::BothQuorum | Scope::UserStream);
        not_for.quorum |= matches!(key.scope, Scope::UserClassic | Scope::UserStream);
    }
    let is_known =
        |name: &Name| KEYS.iter().any(|key| key.key.as_bytes() == name.as_bytes() && key.may_have(kind));
    let mut unknown: Vec<(&Name, &Value)> = definition.iter().filter(|(name, _)| !is_known(name)).collect();
    if !unknown.is_empty() {
        unknown.sort_by_key(|(key, _)| *key);
        let shown = |(name, value): (&Name, &Value)| format!("{{<<\"{name}\">>,{}}}", term(value));
        let shown: Vec<String> = unknown.into_iter().map(shown).collect();
        return Err(format!("[{}] are not recognised policy settings", shown.join(",")));
    }
    delayed_retry(definition)?;
    Ok(not_for)
}

/// What the keys of delayed retry say together.
fn delayed_retry(definition: &Table) -> Result<(), String> {
    let number = |key: &[u8]| definition.get(key).and_then(Value::as_integer);
    let (least, most) = (number(b"delayed-retry-min"), number(b"delayed-retry-max"));
    let kind = definition.get(b"delayed-retry-type").and_then(Value::as_text);
    match (kind, least, most) {
        (Some(kind), None, _) if kind != "disabled" => {
            Err(format!("delayed-retry-min is required when delayed-retry-type is {kind}"))
        }
        (_, Some(least), Some(most)) if most < least => {
            Err(format!("delayed-retry-max ({most}) must not be smaller than delayed-retry-min ({least})"))
        }
        _ => Ok(()),
    }
}

impl Key {
    fn may_have(&self, kind: PolicyKind) -> bool {
        kind == PolicyKind::User || matches!(self.scope, Scope::Both | Scope::BothQuorum)
    }

    fn check(&self, value: &Value) -> Result<(), String> {
        let is_good = match (self.kind, value) {
            (Kind::Refused, _) => {
                return Err(format!("use of deprecated {} argument is not permitted", self.key));
            }
            (Kind::Text, Value::Text(_)) | (Kind::Integer, Value::Integer(_)) => true,
            (Kind::Within(least, most), Value::Integer(number)) => (least..=most).contains(number),
            (Kind::Within(_, most), Value::Unsigned(_)) => most == i64::MAX,
            (Kind::OneOf(words), Value::Text(word)) => words.contains(&word.as_str()),
            (Kind::Age, Value::Text(age)) => is_age(age),
            _ => false,
        };
        if is_good { Ok(()) } else { Err(format!("{} is not a valid {}", term(value), self.what)) }
    }
}

/// A number and one of the units of time.
fn is_age(text: &str) -> bool {
    let number = text.strip_suffix(['Y', 'M', 'D', 'h', 'm', 's']);
    number.is_some_and(|number| number.parse::<u32>().is_ok())
}

/// A value as RabbitMQ shows it in reasons.
#[must_use]
pub fn term(value: &Value) -> String {
    match value {
        Value::Void => "null".into(),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Integer(number) | Value::Timestamp(number) => number.to_string(),
        Value::Unsigned(number) => number.to_string(),
        Value::Real(number) => format!("{number:?}"),
        Value::Text(text) if text.is_empty() => "<<>>".into(),
        Value::Text(text) => format!("<<{text:?}>>"),
        Value::List(values) => format!("[{}]", values.iter().map(term).collect::<Vec<_>>().join(",")),
        Value::Map(fields) => {
            let field = |(key, value): &(Value, Value)| format!("{} => {}", term(key), term(value));
            format!("#{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(","))
        }
        other => format!("{other:?}"),
    }
}
