//! Whether a redeclaration says the same as the declaration, and in which words it does not.

use crate::{exchange::ExchangeSpec, queue::QueueSpec};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use leveret_model::{Name, Refusal, Table, Value, refusal::Resource};

/// The queue arguments that a redeclaration must repeat; others are kept and not compared.
const QUEUE_ARGUMENTS: [&[u8]; 23] = [
    b"x-queue-type",
    b"x-expires",
    b"x-message-ttl",
    b"x-dead-letter-exchange",
    b"x-dead-letter-routing-key",
    b"x-dead-letter-strategy",
    b"x-max-length",
    b"x-max-length-bytes",
    b"x-overflow",
    b"x-max-priority",
    b"x-single-active-consumer",
    b"x-delivery-limit",
    b"x-consumer-timeout",
    b"x-delayed-retry-type",
    b"x-delayed-retry-min",
    b"x-delayed-retry-max",
    b"x-consumer-disconnected-timeout",
    b"x-quorum-initial-group-size",
    b"x-queue-leader-locator",
    b"x-max-in-memory-length",
    b"x-max-in-memory-bytes",
    b"x-queue-mode",
    b"x-queue-version",
];

/// The types that are everywhere. Arguments of their own mean nothing.
const CORE_TYPES: [&[u8]; 4] = [b"direct", b"fanout", b"topic", b"headers"];

/// Whether that is one of the types that are everywhere.
pub(crate) fn is_core(type_name: &Name) -> bool {
    CORE_TYPES.contains(&type_name.as_bytes())
}

struct Compare<'a> {
    resource: Resource,
    name: &'a Name,
    vhost: &'a Name,
}

impl Compare<'_> {
    fn differs(&self, argument: &[u8], received: String, current: String) -> Refusal {
        Refusal::Inequivalent {
            argument: String::from_utf8_lossy(argument).into_owned(),
            resource: self.resource,
            name: self.name.clone(),
            vhost: self.vhost.clone(),
            received,
            current,
        }
    }

    fn field<T: PartialEq + ToString>(
        &self,
        argument: &str,
        received: &T,
        current: &T,
    ) -> Result<(), Refusal> {
        if received == current {
            return Ok(());
        }
        Err(self.differs(
            argument.as_bytes(),
            format!("'{}'", received.to_string()),
            format!("'{}'", current.to_string()),
        ))
    }

    fn argument(
        &self,
        argument: &[u8],
        received: Option<&Value>,
        current: Option<&Value>,
    ) -> Result<(), Refusal> {
        if is_same(received, current) {
            return Ok(());
        }
        // With two values only the values are shown, with one also its type.
        let words = |value: Option<&Value>| match value {
            None => String::from("none"),
            Some(value) if received.is_some() && current.is_some() => format!("'{}'", show(value)),
            Some(value) => format!("the value '{}' of type '{}'", show(value), type_of(value)),
        };
        Err(self.differs(argument, words(received), words(current)))
    }
}

/// # Errors
/// [`Refusal::Inequivalent`] for the first difference.
pub(crate) fn check_queue(received: &QueueSpec, current: &QueueSpec, vhost: &Name) -> Result<(), Refusal> {
    let compare = Compare { resource: Resource::Queue, name: &current.name, vhost };
    compare.field("durable", &received.durable, &current.durable)?;
    compare.field("auto_delete", &received.auto_delete, &current.auto_delete)?;
    let classic = Value::Text(String::from("classic"));
    for argument in QUEUE_ARGUMENTS {
        let [mut new, mut old] = [received, current].map(|spec| spec.arguments.get(argument));
        if argument == b"x-queue-type" && (new.is_none() || old.is_none()) {
            // Not to name a type is to name this one.
            new = new.or(Some(&classic));
            old = old.or(Some(&classic));
        }
        compare.argument(argument, new, old)?;
    }
    Ok(())
}

/// # Errors
/// [`Refusal::Inequivalent`] for the first difference.
pub(crate) fn check_exchange(
    received: &ExchangeSpec,
    current: &ExchangeSpec,
    vhost: &Name,
) -> Result<(), Refusal> {
    let compare = Compare { resource: Resource::Exchange, name: &current.name, vhost };
    compare.field("type", &received.type_name, &current.type_name)?;
    compare.field("durable", &received.durable, &current.durable)?;
    compare.field("auto_delete", &received.auto_delete, &current.auto_delete)?;
    compare.field("internal", &received.internal, &current.internal)?;
    const ALTERNATE: &[u8] = b"alternate-exchange";
    compare.argument(ALTERNATE, received.arguments.get(ALTERNATE), current.arguments.get(ALTERNATE))?;
    if is_core(&current.type_name) {
        return Ok(());
    }
    let names = |table: &Table| table.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    for name in names(&current.arguments).iter().chain(&names(&received.arguments)) {
        compare.argument(name, received.arguments.get(name), current.arguments.get(name))?;
    }
    Ok(())
}

/// A string is the same whichever of the two types it has.
fn is_same(received: Option<&Value>, current: Option<&Value>) -> bool {
    match (received, current) {
        (Some(Value::Text(text)), Some(Value::Binary(bytes)))
        | (Some(Value::Binary(bytes)), Some(Value::Text(text))) => text.as_bytes() == bytes,
        (received, current) => received == current,
    }
}

/// The value as RabbitMQ prints it.
fn show(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Binary(bytes) => text_of(bytes),
        other => term(other),
    }
}

/// Bytes as text; what is not UTF-8 is taken for Latin-1.
fn text_of(bytes: &[u8]) -> String {
    match core::str::from_utf8(bytes) {
        Ok(text) => String::from(text),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

/// The value as a term of Erlang, as it stands within lists and tables.
fn term(value: &Value) -> String {
    match value {
        Value::Void => String::from("undefined"),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Integer(integer) | Value::Timestamp(integer) => integer.to_string(),
        Value::Unsigned(integer) => integer.to_string(),
        Value::Real(real) => format!("{real:?}"),
        Value::Decimal { scale, unscaled } => format!("{{{scale},{unscaled}}}"),
        Value::Text(text) => format!("<<\"{text}\">>"),
        Value::Binary(bytes) => format!("<<\"{}\">>", text_of(bytes)),
        Value::List(values) => {
            let values: Vec<String> =
                values.iter().map(|value| format!("{{{},{}}}", type_of(value), term(value))).collect();
            format!("[{}]", values.join(","))
        }
        Value::Map(fields) => {
            let fields = fields.iter().map(|(name, value)| {
                let (name, type_name, value) = (term(name), type_of(value), term(value));
                format!("{{{name},{type_name},{value}}}")
            });
            format!("[{}]", fields.collect::<Vec<_>>().join(","))
        }
    }
}

/// The type as RabbitMQ names it. Widths of integers are not kept; what fits 32 bits is taken for
/// the type that clients send such numbers as.
pub(crate) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Integer(integer) if i32::try_from(*integer).is_ok() => "signedint",
        other => other.class(),
    }
}
