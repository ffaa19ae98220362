//! Whether a redeclaration says the same as the declaration, and in which words it does not.

use crate::{exchange::ExchangeSpec, queue::QueueSpec};
use alloc::{
    format,
    string::{String, ToString},
};
use leveret_model::{Name, Refusal, Table, Value, refusal::Resource};

/// The queue arguments that a redeclaration must repeat; others are kept and not compared.
const QUEUE_ARGUMENTS: [&[u8]; 13] = [
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
];

/// The types whose own arguments mean nothing.
const TYPES_WITHOUT_ARGUMENTS: [&[u8]; 4] = [b"direct", b"fanout", b"topic", b"headers"];

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
        if received == current {
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
    if TYPES_WITHOUT_ARGUMENTS.contains(&current.type_name.as_bytes()) {
        return Ok(());
    }
    let names = |table: &Table| table.iter().map(|(name, _)| name.clone()).collect::<alloc::vec::Vec<_>>();
    for name in names(&current.arguments).iter().chain(&names(&received.arguments)) {
        compare.argument(name, received.arguments.get(name), current.arguments.get(name))?;
    }
    Ok(())
}

/// The value as RabbitMQ prints it.
fn show(value: &Value) -> String {
    match value {
        Value::Void => String::from("undefined"),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Integer(integer) | Value::Timestamp(integer) => integer.to_string(),
        Value::Unsigned(integer) => integer.to_string(),
        Value::Real(real) => format!("{real:?}"),
        Value::Text(text) => text.clone(),
        other => format!("{other:?}"),
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
