//! The vocabulary of the broker, lowered to the types of the contract: borrowed, except for
//! lists, maps and decimals in arguments, which are encoded first.

use crate::bindings::v0_2::leveret::routing::types as wit;
use leveret_broker::exchange::Binding;
use leveret_model::{HeaderSelection, Name, Reads, Table, Value, flat};
use std::slice;

/// Values of some tables that arrive encoded, in their order: made before [`fields`] borrows
/// from them.
pub(super) fn encoded<'a>(fields: impl Iterator<Item = (&'a Name, &'a Value)>) -> Vec<Vec<u8>> {
    fields
        .filter(|(_, value)| matches!(value, Value::Decimal { .. } | Value::List(_) | Value::Map(_)))
        .map(|(_, value)| {
            let mut out = Vec::new();
            flat::put_value(&mut out, value);
            out
        })
        .collect()
}

/// The fields of a table; `encoded` gives the next value that [`encoded`] made.
pub(super) fn fields<'a>(
    fields: impl Iterator<Item = (&'a Name, &'a Value)>,
    encoded: &mut slice::Iter<'a, Vec<u8>>,
) -> Vec<wit::FieldParam<'a>> {
    fields
        .map(|(name, value)| wit::FieldParam {
            name: name.as_bytes(),
            value: match value {
                Value::Void => wit::ValueParam::Void,
                Value::Boolean(boolean) => wit::ValueParam::Boolean(*boolean),
                Value::Integer(integer) => wit::ValueParam::Integer(*integer),
                Value::Unsigned(integer) => match i64::try_from(*integer) {
                    Ok(integer) => wit::ValueParam::Integer(integer),
                    Err(_) => wit::ValueParam::Unsigned(*integer),
                },
                Value::Real(real) => wit::ValueParam::Real(*real),
                Value::Text(text) => wit::ValueParam::Text(text),
                Value::Binary(bytes) => wit::ValueParam::Binary(bytes),
                Value::Timestamp(milliseconds) => wit::ValueParam::Timestamp(*milliseconds),
                Value::Decimal { .. } | Value::List(_) | Value::Map(_) => {
                    wit::ValueParam::Encoded(encoded.next().map_or(&[], Vec::as_slice))
                }
            },
        })
        .collect()
}

/// All encoded values of the arguments of these bindings.
pub(super) fn encoded_in_bindings(bindings: &[&Binding]) -> Vec<Vec<u8>> {
    encoded(bindings.iter().flat_map(|binding| binding.arguments.iter()))
}

/// The bytes of the keys and arguments of these bindings, about: what is no text counts eight.
pub(super) fn bytes(bindings: &[&Binding]) -> usize {
    bindings.iter().map(|binding| binding.routing_key.len() + table_bytes(&binding.arguments)).sum()
}

/// The bytes of the names and values of a table, about: what is no text counts eight.
pub(super) fn table_bytes(table: &Table) -> usize {
    table.iter().map(|(name, value)| name.len() + value_bytes(value)).sum()
}

fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Binary(bytes) => bytes.len(),
        Value::List(values) => values.iter().map(value_bytes).sum(),
        Value::Map(fields) => fields.iter().map(|(name, value)| value_bytes(name) + value_bytes(value)).sum(),
        Value::Void
        | Value::Boolean(_)
        | Value::Integer(_)
        | Value::Unsigned(_)
        | Value::Real(_)
        | Value::Decimal { .. }
        | Value::Timestamp(_) => 8,
    }
}

/// The parts of a message in the plain form.
#[derive(Default)]
pub(super) struct PlainMessage<'a> {
    pub(super) routing_key: &'a [u8],
    pub(super) headers: Vec<wit::FieldParam<'a>>,
    pub(super) properties: Vec<Option<wit::ValueParam<'a>>>,
    pub(super) body: Option<&'a [u8]>,
    pub(super) publisher: Option<wit::Publisher<'a>>,
    pub(super) exchange: &'a [u8],
    pub(super) queue: &'a [u8],
    pub(super) reason: &'a str,
}

impl<'a> PlainMessage<'a> {
    /// The message that a projection shows; `None` if it is not one of these reads.
    pub(super) fn from_projection(projection: &'a [u8], reads: &Reads) -> Option<Self> {
        let mut message = Self::default();
        let mut rest = Bytes(projection);
        if reads.routing_key {
            let length = rest.u16()?;
            message.routing_key = rest.take(length.into())?;
        }
        if reads.headers != HeaderSelection::None {
            for _ in 0..rest.u16()? {
                let length = rest.u8()?;
                let name = rest.take(length.into())?;
                message.headers.push(wit::FieldParam { name, value: rest.value()?? });
            }
        }
        for _ in &reads.properties {
            message.properties.push(rest.value()?);
        }
        if reads.body.is_some() {
            let length = rest.u32()?;
            if length != u32::MAX {
                message.body = Some(rest.take(usize::try_from(length).ok()?)?);
            }
        }
        if reads.publisher {
            let user = std::str::from_utf8(rest.short()?).unwrap_or_default();
            let length = rest.u16()?;
            let connection = std::str::from_utf8(rest.take(length.into())?).unwrap_or_default();
            let protocol = std::str::from_utf8(rest.short()?).unwrap_or_default();
            if !protocol.is_empty() {
                message.publisher = Some(wit::Publisher { user, connection, protocol });
            }
        }
        if reads.exchange {
            message.exchange = rest.short()?;
        }
        if reads.queue {
            message.queue = rest.short()?;
        }
        if reads.reason {
            message.reason = std::str::from_utf8(rest.short()?).ok()?;
        }
        rest.0.is_empty().then_some(message)
    }
}

/// Reads flat values from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(length.into())
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.take(length)
    }

    /// The next value; the inner `None` is [`flat::ABSENT`].
    fn value(&mut self) -> Option<Option<wit::ValueParam<'a>>> {
        let whole = self.0;
        let value = match self.u8()? {
            flat::ABSENT => return Some(None),
            flat::VOID => wit::ValueParam::Void,
            flat::BOOLEAN => wit::ValueParam::Boolean(self.u8()? != 0),
            flat::INTEGER => wit::ValueParam::Integer(self.array().map(i64::from_le_bytes)?),
            flat::UNSIGNED => wit::ValueParam::Unsigned(self.array().map(u64::from_le_bytes)?),
            flat::REAL => wit::ValueParam::Real(self.array().map(f64::from_le_bytes)?),
            flat::TIMESTAMP => wit::ValueParam::Timestamp(self.array().map(i64::from_le_bytes)?),
            flat::TEXT => wit::ValueParam::Text(std::str::from_utf8(self.sized()?).ok()?),
            flat::BINARY => wit::ValueParam::Binary(self.sized()?),
            flat::DECIMAL => {
                self.take(9)?;
                wit::ValueParam::Encoded(whole.get(..10)?)
            }
            flat::LIST | flat::MAP => {
                let length = self.sized()?.len();
                wit::ValueParam::Encoded(whole.get(..length + 5)?)
            }
            _ => return None,
        };
        Some(Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_model::{BodyReading, Property};

    #[test]
    fn a_projection_is_read_back() {
        let reads = Reads {
            routing_key: true,
            headers: HeaderSelection::All,
            properties: vec![Property::AppId, Property::Priority],
            body: Some(BodyReading { bytes_max: 10, rejects_above: false }),
            exchange: true,
            ..Reads::default()
        };
        let mut bytes = vec![2, 0, b'r', b'k', 2, 0, 1, b'a'];
        flat::put_value(&mut bytes, &Value::List(vec![Value::Void]));
        bytes.extend([1, b'b']);
        flat::put_string(&mut bytes, b"text");
        bytes.push(flat::ABSENT);
        flat::put_integer(&mut bytes, 3);
        bytes.extend([3, 0, 0, 0, 1, 2, 3]);
        bytes.extend([2, b'e', b'x']);
        let message = PlainMessage::from_projection(&bytes, &reads).unwrap();
        assert_eq!(message.routing_key, b"rk");
        assert!(matches!(message.headers[0].value, wit::ValueParam::Encoded(&[flat::LIST, 1, 0, 0, 0, 0])));
        assert!(matches!(message.headers[1].value, wit::ValueParam::Text("text")));
        assert!(matches!(message.properties[..], [None, Some(wit::ValueParam::Integer(3))]));
        assert_eq!(message.body, Some(&[1, 2, 3][..]));
        assert_eq!(message.exchange, b"ex");
        for end in 0..bytes.len() {
            assert!(PlainMessage::from_projection(&bytes[..end], &reads).is_none());
        }
    }

    #[test]
    fn arguments_are_lowered() {
        let name = Name::from_static;
        let table: Table = [
            (name("l"), Value::List(vec![])),
            (name("n"), Value::Unsigned(7)),
            (name("d"), Value::Decimal { scale: 2, unscaled: 5 }),
        ]
        .into_iter()
        .collect();
        let encoded = encoded(table.iter());
        let fields = fields(table.iter(), &mut encoded.iter());
        assert_eq!(fields.len(), 3);
        assert!(matches!(fields[0].value, wit::ValueParam::Encoded([flat::LIST, ..])));
        assert!(matches!(fields[1].value, wit::ValueParam::Integer(7)));
        assert!(matches!(fields[2].value, wit::ValueParam::Encoded([flat::DECIMAL, 2, ..])));
    }
}
