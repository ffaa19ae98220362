//! The argument `x-match`: how the other arguments of a binding are matched.

use leveret_sdk::{Arguments, Refusal, Value};
use std::fmt::Write;

const NAME: &[u8] = b"x-match";

/// How a binding is matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XMatch {
    /// All arguments, but for those that begin with `x-`.
    All,
    /// At least one argument, but for those that begin with `x-`.
    Any,
    /// All arguments.
    AllWithX,
    /// At least one argument.
    AnyWithX,
}

/// How many of its conditions a binding wants met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantifier {
    /// Each; so it is met where there are none.
    All,
    /// At least one; so it is not met where there are none.
    Any,
}

impl XMatch {
    /// What a binding's arguments say.
    ///
    /// # Errors
    /// `x-match` is no text, or another one than the four.
    pub fn of(arguments: &Arguments) -> Result<Self, Refusal> {
        match arguments.get(NAME) {
            None | Some(Value::Text("all")) => Ok(Self::All),
            Some(Value::Text("any")) => Ok(Self::Any),
            Some(Value::Text("all-with-x")) => Ok(Self::AllWithX),
            Some(Value::Text("any-with-x")) => Ok(Self::AnyWithX),
            Some(Value::Text(other)) => Err(unknown(&string(other.as_bytes()))),
            Some(Value::Binary(other)) => Err(unknown(&string(other))),
            Some(other) => Err(Refusal::new(format!(
                "Invalid x-match field type {} (value {}); expected longstr",
                class(&other),
                shown(&other)
            ))),
        }
    }

    /// Whether an argument is a condition.
    #[must_use]
    pub fn looks_at(self, name: &[u8]) -> bool {
        match self {
            Self::All | Self::Any => !name.starts_with(b"x-"),
            Self::AllWithX | Self::AnyWithX => name != NAME,
        }
    }

    /// How many conditions are to be met.
    #[must_use]
    pub fn quantifier(self) -> Quantifier {
        match self {
            Self::All | Self::AllWithX => Quantifier::All,
            Self::Any | Self::AnyWithX => Quantifier::Any,
        }
    }
}

fn unknown(shown: &str) -> Refusal {
    Refusal::new(format!("Invalid x-match field value {shown}; expected all, any, all-with-x, or any-with-x"))
}

/// The class as RabbitMQ's text names it. Which width an integer had is not known here; what fits 32 bits is taken for
/// the type that clients send such numbers as.
fn class(value: &Value<'_>) -> &'static str {
    match value {
        Value::Void => "void",
        Value::Boolean(_) => "bool",
        Value::Integer(integer) if i32::try_from(*integer).is_ok() => "signedint",
        Value::Integer(_) | Value::Unsigned(_) => "long",
        Value::Real(_) => "double",
        Value::Decimal { .. } => "decimal",
        Value::Text(_) => "longstr",
        Value::Binary(_) => "binary",
        Value::Timestamp(_) => "timestamp",
        Value::List(_) => "array",
        Value::Map(_) => "table",
    }
}

/// The value as RabbitMQ's text shows it; what is neither short nor likely is left out, since the
/// code that writes floats would make a third of the component.
fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Void => "undefined".into(),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Integer(integer) | Value::Timestamp(integer) => integer.to_string(),
        Value::Unsigned(integer) => integer.to_string(),
        _ => "...".into(),
    }
}

/// A string as RabbitMQ's text shows it: `<<"none">>`, `<<255,0>>`, `<<>>`.
fn string(bytes: &[u8]) -> String {
    let printable = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    let mut shown = String::from("<<");
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && bytes.iter().all(printable) => {
            // Writing to a string cannot fail.
            let _ = write!(shown, "{text:?}");
        }
        _ => {
            for (position, byte) in bytes.iter().enumerate() {
                let comma = if position == 0 { "" } else { "," };
                let _ = write!(shown, "{comma}{byte}");
            }
        }
    }
    shown + ">>"
}
