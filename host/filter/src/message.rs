//! What is asked about a message, and how a message answers that came by AMQP 0-9-1.

use crate::{Field, Header, Property, Value};
use alloc::{borrow::Cow, string::String};
use core::fmt::Write;
use leveret_model::{MessageView, Name, Property as Basic, Value as Owned};

/// A message that filters are asked about.
pub trait Message {
    /// The value of a field; `None` if it is absent or null.
    ///
    /// What the specification says of absent fields of the header counts without it being said here.
    fn field(&self, field: &Field) -> Option<Value<'_>>;
}

/// A message with the properties and headers of AMQP 0-9-1 has the fields that it would have after it was converted to
/// AMQP 1.0: headers with `x-` are message-annotations, all others application-properties. Values are copied.
impl Message for MessageView<'_> {
    fn field(&self, field: &Field) -> Option<Value<'_>> {
        match field {
            Field::Header(Header::Durable) => Some(Value::Boolean(self.is_persistent())),
            Field::Header(Header::Priority) => {
                self.priority().map(|priority| Value::Integer(priority.into()))
            }
            Field::Header(Header::Ttl) => self.ttl_ms().ok().flatten().map(|ttl| Value::Integer(ttl.into())),
            Field::Property(property) => basic_property(self, *property),
            Field::MessageAnnotation(name) => annotation(self, name),
            Field::ApplicationProperty(name) if !name.starts_with("x-") => match header(self, name)? {
                // They have no place in application-properties.
                Value::Opaque => None,
                value => Some(value),
            },
            Field::Header(Header::FirstAcquirer | Header::DeliveryCount)
            | Field::DeliveryAnnotation(_)
            | Field::ApplicationProperty(_)
            | Field::Footer(_) => None,
        }
    }
}

fn basic_property<'v>(view: &'v MessageView<'_>, property: Property) -> Option<Value<'v>> {
    let basic = match property {
        Property::MessageId => Basic::MessageId,
        Property::UserId => Basic::UserId,
        Property::ReplyTo => Basic::ReplyTo,
        Property::CorrelationId => Basic::CorrelationId,
        Property::ContentType => Basic::ContentType,
        Property::ContentEncoding => Basic::ContentEncoding,
        Property::CreationTime => Basic::Timestamp,
        Property::GroupId => Basic::AppId,
        Property::To
        | Property::Subject
        | Property::AbsoluteExpiryTime
        | Property::GroupSequence
        | Property::ReplyToGroupId => return None,
    };
    let value = owned(view.property(basic)?)?;
    if property != Property::ReplyTo {
        return Some(value);
    }
    // A queue's name there, an address here.
    let mut address = String::from("/queues/");
    for byte in value.into_text()?.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            address.push(char::from(byte));
        } else {
            let _ = write!(address, "%{byte:02X}");
        }
    }
    Some(Value::Text(Cow::Owned(address)))
}

fn annotation<'v>(view: &'v MessageView<'_>, name: &str) -> Option<Value<'v>> {
    match name {
        "x-exchange" => Some(Value::Text(String::from_utf8_lossy(view.exchange))),
        "x-routing-key" => Some(Value::Text(String::from_utf8_lossy(view.routing_key))),
        "x-basic-type" => owned(view.property(Basic::MessageType)?),
        name if name.starts_with("x-") => header(view, name),
        _ => None,
    }
}

fn header<'v>(view: &'v MessageView<'_>, name: &str) -> Option<Value<'v>> {
    owned(view.header(&Name::new(name.as_bytes()).ok()?)?)
}

fn owned<'v>(value: Owned) -> Option<Value<'v>> {
    Some(match value {
        Owned::Void => return None,
        Owned::Boolean(boolean) => Value::Boolean(boolean),
        Owned::Integer(integer) | Owned::Timestamp(integer) => Value::Integer(integer.into()),
        Owned::Unsigned(integer) => Value::Integer(integer.into()),
        Owned::Real(real) => Value::Real(real),
        Owned::Decimal { scale, unscaled } => decimal(scale, unscaled),
        Owned::Text(text) => Value::Text(Cow::Owned(text)),
        Owned::Binary(bytes) => Value::Binary(Cow::Owned(bytes.to_vec())),
        Owned::List(_) | Owned::Map(_) => Value::Opaque,
    })
}

/// The nearest approximate number.
fn decimal<'v>(scale: u8, unscaled: i64) -> Value<'v> {
    let mut text = String::new();
    let _ = write!(text, "{unscaled}E-{scale}");
    text.parse().map_or(Value::Opaque, Value::Real)
}
