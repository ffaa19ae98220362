//! What plugins and the other protocols see of a message: the fields of AMQP 0-9-1, by RabbitMQ's table of conversions.
//!
//! ```text
//! delivery-mode     header.durable: 2, else 1             priority        header.priority
//! expiration        header.ttl, as text                   message type    `amqp-1.0` where the body is not one data
//! message-id        text, or `urn:uuid:…`, or a number                    section, else annotation x-basic-type
//! correlation-id    the same                              user-id         user-id
//! reply-to          `q` of `/queues/q`, else as it is     app-id          group-id
//! content-type, content-encoding                          timestamp       creation-time
//! headers  annotations `x-*` (x-cc is CC, x-opt-deaths is x-death, x-opt-rabbitmq-received-time is timestamp_in_ms, in
//!          milliseconds), then application-properties of other names; ids that are no short text as x-message-id and
//!          x-correlation-id
//! ```

use super::{address, parts::Parts};
use crate::{
    messaging::MessageId,
    types::{Pairs, Uuid, Value},
};
use alloc::{collections::BTreeSet, format, string::String, vec::Vec};
use core::fmt::Write as _;
use leveret_model::{HeaderSelection, Property, flat};

/// The most bytes of a name and of a short text, as in AMQP 0-9-1.
const SHORT_BYTES_MAX: usize = 255;
/// Annotations that are no headers.
pub(super) const BASIC_TYPE: &str = "x-basic-type";
/// The exchange of a message, told to receivers.
pub(super) const EXCHANGE: &str = "x-exchange";
/// The routing key of a message, told to receivers.
pub(super) const ROUTING_KEY: &str = "x-routing-key";
/// The type of a message whose body is more than one data section.
pub(super) const ENCODED_TYPE: &str = "amqp-1.0";

/// Annotations that have another name among the headers.
const RENAMED: [(&str, &str); 3] =
    [("x-cc", "CC"), ("x-opt-deaths", "x-death"), ("x-opt-rabbitmq-received-time", RECEIVED_MS)];
/// When a message came, among the headers: in milliseconds since 1970.
pub(super) const RECEIVED_MS: &str = "timestamp_in_ms";

/// What an annotation is called among the headers; `None` if it is none of them.
fn header_of(annotation: &str) -> Option<&str> {
    if [BASIC_TYPE, EXCHANGE, ROUTING_KEY].contains(&annotation) || !annotation.starts_with("x-") {
        return None;
    }
    let renamed = RENAMED.iter().find(|(name, _)| *name == annotation);
    Some(renamed.map_or(annotation, |(_, header)| header))
}

/// Which annotation a header is; `None` if it is an application property.
pub(super) fn annotation_of(header: &str) -> Option<&str> {
    match RENAMED.iter().find(|(_, name)| *name == header) {
        Some((annotation, _)) => Some(annotation),
        None => header.starts_with("x-").then_some(header),
    }
}

/// A header.
type Item<'a> = (&'a str, Value<'a>);

#[derive(Clone)]
struct Items<'a> {
    ids: [Option<Item<'a>>; 2],
    application: Pairs<'a>,
    annotations: Pairs<'a>,
}

impl<'a> Items<'a> {
    fn of(parts: &Parts<'a>) -> Self {
        let properties = parts.properties();
        let long = |name, id: Option<MessageId<'a>>| match id? {
            MessageId::Binary(bytes) => Some((name, Value::Binary(bytes))),
            MessageId::String(text) if text.len() > SHORT_BYTES_MAX => Some((name, Value::String(text))),
            _ => None,
        };
        Self {
            ids: [
                long("x-message-id", properties.message_id),
                long("x-correlation-id", properties.correlation_id),
            ],
            application: parts.application().map().iter(),
            annotations: parts.annotations().map().iter(),
        }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        if let Some(id) = self.ids.iter_mut().find_map(Option::take) {
            return Some(id);
        }
        // Of one name an annotation comes first: it is what interceptors stamp, and no publisher's bare message hides that.
        for (key, value) in self.annotations.by_ref() {
            let name = key.as_symbol().and_then(|symbol| header_of(symbol.as_str()));
            if let Some(name) = name
                && is_header(name, &value)
            {
                return Some((name, value));
            }
        }
        for (key, value) in self.application.by_ref() {
            if let Some(name) = key.as_str()
                && is_header(name, &value)
            {
                return Some((name, value));
            }
        }
        None
    }
}

/// What has no counterpart is left out: decimals, and what is no number.
fn is_header(name: &str, value: &Value<'_>) -> bool {
    let has_counterpart = match value {
        Value::Decimal32(_) | Value::Decimal64(_) | Value::Decimal128(_) => false,
        Value::Float(number) => number.is_finite(),
        Value::Double(number) => number.is_finite(),
        _ => true,
    };
    has_counterpart && name.len() <= SHORT_BYTES_MAX
}

/// See [`leveret_model::Form::put_headers`].
pub(super) fn put_headers(kept: &[u8], selection: &HeaderSelection, out: &mut Vec<u8>) {
    let count_at = out.len();
    out.extend_from_slice(&[0; 2]);
    let mut count = 0u16;
    let mut put = |(name, value): Item<'_>| {
        let (Some(more), Ok(length)) = (count.checked_add(1), u8::try_from(name.len())) else { return };
        count = more;
        out.push(length);
        out.extend_from_slice(name.as_bytes());
        match (name, value) {
            ("x-death", deaths) => put_deaths(out, &deaths),
            // Milliseconds, which a timestamp of AMQP 0-9-1 has not.
            (RECEIVED_MS, Value::Timestamp(time)) => flat::put_integer(out, time.0),
            (_, value) => put_flat(out, &value),
        }
    };
    match selection {
        HeaderSelection::None => {}
        HeaderSelection::All => {
            let mut seen = BTreeSet::new();
            Items::of(&Parts::of(kept)).filter(|(name, _)| seen.insert(*name)).for_each(&mut put);
        }
        HeaderSelection::Named(names) => {
            let items = Items::of(&Parts::of(kept));
            for name in names {
                let mut items = items.clone();
                if let Some(item) = items.find(|(header, _)| header.as_bytes() == name.as_bytes()) {
                    put(item);
                }
            }
        }
    }
    if let Some(place) = out.get_mut(count_at..count_at + 2) {
        place.copy_from_slice(&count.to_le_bytes());
    }
}

/// See [`leveret_model::Form::put_property`].
pub(super) fn put_property(kept: &[u8], property: Property, out: &mut Vec<u8>) {
    let parts = Parts::of(kept);
    let fields = parts.properties();
    let mut text = |text: Option<&str>| match text {
        Some(text) => flat::put_string(out, text.as_bytes()),
        None => out.push(flat::ABSENT),
    };
    match property {
        Property::ContentType => text(fields.content_type.map(|symbol| symbol.as_str())),
        Property::ContentEncoding => text(fields.content_encoding.map(|symbol| symbol.as_str())),
        Property::ReplyTo => match fields.reply_to.and_then(address::queue_of) {
            Some(queue) => flat::put_string(out, &queue),
            None => text(fields.reply_to),
        },
        Property::AppId => text(fields.group_id),
        Property::MessageId => text(fields.message_id.and_then(short_id).as_deref()),
        Property::CorrelationId => text(fields.correlation_id.and_then(short_id).as_deref()),
        Property::Expiration => text(parts.header().ttl.map(|ttl| format!("{ttl}")).as_deref()),
        Property::MessageType => {
            let said = parts.annotations().get(BASIC_TYPE).and_then(|value| value.as_str());
            // Who gets the body has to know that it is encoded.
            text(if parts.data_head.is_empty() { Some(ENCODED_TYPE) } else { said });
        }
        Property::DeliveryMode => {
            flat::put_integer(out, if parts.header().durable == Some(true) { 2 } else { 1 })
        }
        Property::Priority => match parts.header().priority {
            Some(priority) => flat::put_integer(out, priority.into()),
            None => out.push(flat::ABSENT),
        },
        Property::Timestamp => match fields.creation_time {
            Some(time) => flat::put_timestamp(out, time.0),
            None => out.push(flat::ABSENT),
        },
        Property::UserId => match fields.user_id {
            Some(user) => flat::put_string(out, user),
            None => out.push(flat::ABSENT),
        },
    }
}

/// An id as a short text, if it is one.
fn short_id(id: MessageId<'_>) -> Option<String> {
    match id {
        MessageId::Ulong(number) => Some(format!("{number}")),
        MessageId::Uuid(uuid) => Some(urn_of(uuid)),
        MessageId::String(text) if text.len() <= SHORT_BYTES_MAX => Some(text.into()),
        MessageId::String(_) | MessageId::Binary(_) => None,
    }
}

/// A UUID as a URN (RFC 9562).
fn urn_of(uuid: Uuid) -> String {
    let mut text = String::from("urn:uuid:");
    for (place, octet) in uuid.0.iter().enumerate() {
        if [4, 6, 8, 10].contains(&place) {
            text.push('-');
        }
        let _ = write!(text, "{octet:02x}");
    }
    text
}

/// The UUID of such a URN.
pub(super) fn uuid_of(text: &str) -> Option<Uuid> {
    let digits = text.strip_prefix("urn:uuid:")?.as_bytes();
    let (mut uuid, mut at) = ([0u8; 16], 0);
    for (place, octet) in uuid.iter_mut().enumerate() {
        if [4, 6, 8, 10].contains(&place) {
            if digits.get(at) != Some(&b'-') {
                return None;
            }
            at += 1;
        }
        let pair = core::str::from_utf8(digits.get(at..at + 2)?).ok()?;
        if pair.starts_with('+') {
            return None;
        }
        *octet = u8::from_str_radix(pair, 16).ok()?;
        at += 2;
    }
    (at == digits.len()).then_some(Uuid(uuid))
}

/// A value in the broker's words. Decimals are their bytes.
#[must_use]
pub fn model_value(value: &Value<'_>) -> leveret_model::Value {
    let mut flat = Vec::new();
    put_flat(&mut flat, value);
    flat::take_value(&mut flat.as_slice()).unwrap_or(leveret_model::Value::Void)
}

/// Appends a value as a flat one.
fn put_flat(out: &mut Vec<u8>, value: &Value<'_>) {
    match *value {
        Value::Null => out.push(flat::VOID),
        Value::Boolean(boolean) => flat::put_boolean(out, boolean),
        Value::Ubyte(number) => flat::put_integer(out, number.into()),
        Value::Ushort(number) => flat::put_integer(out, number.into()),
        Value::Uint(number) => flat::put_integer(out, number.into()),
        Value::Ulong(number) => flat::put_unsigned(out, number),
        Value::Byte(number) => flat::put_integer(out, number.into()),
        Value::Short(number) => flat::put_integer(out, number.into()),
        Value::Int(number) => flat::put_integer(out, number.into()),
        Value::Long(number) => flat::put_integer(out, number),
        Value::Float(number) => flat::put_real(out, number.into()),
        Value::Double(number) => flat::put_real(out, number),
        Value::Decimal32(bytes) => flat::put_binary(out, &bytes),
        Value::Decimal64(bytes) => flat::put_binary(out, &bytes),
        Value::Decimal128(bytes) => flat::put_binary(out, &bytes),
        Value::Char(character) => flat::put_string(out, character.encode_utf8(&mut [0; 4]).as_bytes()),
        Value::Timestamp(time) => flat::put_timestamp(out, time.0),
        Value::Uuid(uuid) => flat::put_string(out, urn_of(uuid).as_bytes()),
        Value::Binary(bytes) => flat::put_binary(out, bytes),
        Value::String(text) => flat::put_string(out, text.as_bytes()),
        Value::Symbol(symbol) => flat::put_string(out, symbol.as_str().as_bytes()),
        Value::List(list) => flat::put_nested(out, flat::LIST, |out| {
            list.iter().for_each(|value| put_flat(out, &value));
        }),
        Value::Array(array) => flat::put_nested(out, flat::LIST, |out| {
            array.iter().for_each(|value| put_flat(out, &value));
        }),
        Value::Map(map) => flat::put_nested(out, flat::MAP, |out| {
            for (key, value) in map.iter() {
                put_flat(out, &key);
                put_flat(out, &value);
            }
        }),
        Value::Described(described) => put_flat(out, &described.value()),
    }
}

/// Names of what a death tells, in annotations and in headers.
pub(super) const DEATH_FIELDS: [(&str, &str); 2] = [("first-time", "time"), ("ttl", "original-expiration")];

/// Appends `x-opt-deaths` as `x-death`.
fn put_deaths(out: &mut Vec<u8>, value: &Value<'_>) {
    let Value::Array(deaths) = value else { return put_flat(out, value) };
    flat::put_nested(out, flat::LIST, |out| {
        for death in deaths.iter() {
            let Value::Map(death) = death else { continue };
            flat::put_nested(out, flat::MAP, |out| {
                for (key, value) in death.iter() {
                    let key = match key {
                        Value::Symbol(key) => key.as_str(),
                        Value::String(key) => key,
                        _ => continue,
                    };
                    let renamed = DEATH_FIELDS.iter().find(|(name, _)| *name == key);
                    match (key, value) {
                        ("last-time", _) => continue,
                        ("ttl", Value::Uint(ttl)) => {
                            flat::put_string(out, b"original-expiration");
                            flat::put_string(out, format!("{ttl}").as_bytes());
                        }
                        _ => {
                            flat::put_string(out, renamed.map_or(key, |(_, name)| name).as_bytes());
                            put_flat(out, &value);
                        }
                    }
                }
            });
        }
    });
}
