//! The arguments of a declaration, and the keys of bindings. What is refused is refused in RabbitMQ's words.

use leveret_sdk::{Arguments, Message, Property, Reads, Refusal};

pub(crate) const HEADER: &str = "hash-header";
pub(crate) const PROPERTY: &str = "hash-property";
/// Names of headers are no longer in AMQP 0-9-1.
const HEADER_BYTES_MAX: usize = 255;

/// What of a message is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hashed {
    RoutingKey,
    Header(Vec<u8>),
    Property(Property),
}

impl Hashed {
    pub(crate) fn read(arguments: &Arguments) -> Result<Self, Refusal> {
        let header: Option<&[u8]> = arguments.optional(HEADER)?;
        match (header, arguments.optional(PROPERTY)?) {
            (Some(_), Some(_)) => Err("hash-header and hash-property are mutually exclusive".into()),
            (Some(name), None) if name.len() <= HEADER_BYTES_MAX => Ok(Self::Header(name.to_vec())),
            (Some(_), None) => {
                Err(Refusal::invalid_argument(HEADER, "must be the name of a header, of 255 bytes at most"))
            }
            (None, Some("message_id")) => Ok(Self::Property(Property::MessageId)),
            (None, Some("correlation_id")) => Ok(Self::Property(Property::CorrelationId)),
            (None, Some("timestamp")) => Ok(Self::Property(Property::Timestamp)),
            (None, Some(other)) => Err(format!("Unsupported property: {other}").into()),
            (None, None) => Ok(Self::RoutingKey),
        }
    }

    pub(crate) fn reads(&self) -> Reads {
        match self {
            Self::RoutingKey => Reads::nothing().routing_key(),
            Self::Header(name) => Reads::nothing().header(name.as_slice()),
            Self::Property(property) => Reads::nothing().property(*property),
        }
    }

    /// What of this message is hashed; a value as its flat bytes, nothing where it is not there. `value` is room for it.
    pub(crate) fn of<'b>(&self, message: &Message<'b>, value: &'b mut Vec<u8>) -> &'b [u8] {
        match self {
            Self::RoutingKey => message.routing_key(),
            Self::Header(_) => message.headers().next().map(|field| field.flat_value()).unwrap_or_default(),
            Self::Property(property) => {
                value.clear();
                if let Some(property) = message.property(*property) {
                    property.put_flat(value);
                }
                value
            }
        }
    }
}

/// The weight that a binding key says: an integer above 0, with or without a sign and zeros before it.
///
/// # Errors
/// It is none. Above 4,294,967,295 it is none here.
pub(crate) fn weight(key: &[u8]) -> Result<u32, Refusal> {
    let (negative, digits) = match key {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(format!("The binding key must be an integer: {}", in_erlang(key)).into());
    }
    let first = digits.iter().position(|digit| *digit != b'0');
    let Some(significant) = first.and_then(|first| digits.get(first..)).filter(|_| !negative) else {
        return Err("The binding key must be greater than 0".into());
    };
    let weight = std::str::from_utf8(significant).ok().and_then(|digits| digits.parse().ok());
    weight.ok_or_else(|| format!("The binding key must be at most {}", u32::MAX).into())
}

/// Bytes as RabbitMQ shows them.
fn in_erlang(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok("") => "<<>>".to_owned(),
        Ok(text) if !text.contains(char::is_control) => format!("<<\"{text}\">>"),
        _ => {
            let numbers: Vec<_> = bytes.iter().map(u8::to_string).collect();
            format!("<<{}>>", numbers.join(","))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was expected was seen on RabbitMQ 4.3.6, but for the last two.
    #[test]
    fn a_binding_key_is_an_integer_above_0() {
        for (key, expected) in [("1", 1), ("10", 10), ("+1", 1), ("007", 7)] {
            assert_eq!(weight(key.as_bytes()), Ok(expected), "{key}");
        }
        for (key, expected) in [
            ("0", "The binding key must be greater than 0"),
            ("-1", "The binding key must be greater than 0"),
            ("", "The binding key must be an integer: <<>>"),
            ("abc", "The binding key must be an integer: <<\"abc\">>"),
            (" 1", "The binding key must be an integer: <<\" 1\">>"),
            ("1.0", "The binding key must be an integer: <<\"1.0\">>"),
            ("-", "The binding key must be an integer: <<\"-\">>"),
            ("4294967296", "The binding key must be at most 4294967295"),
        ] {
            assert_eq!(
                weight(key.as_bytes()).map_err(|refusal| refusal.to_string()),
                Err(expected.to_owned())
            );
        }
        assert_eq!(weight(b"4294967295"), Ok(u32::MAX));
        let refusal = weight(&[b'a', 0xff]).map_err(|refusal| refusal.to_string());
        assert_eq!(refusal, Err("The binding key must be an integer: <<97,255>>".to_owned()));
    }
}
