//! Values and fields that a guest gives, lifted to the vocabulary of the broker and checked.

use crate::bindings::v0_2::leveret::routing::types as wit;
use leveret_model::{Name, Property, Value, flat};

/// The most values in all that one answer, or one message that a plugin makes, has: a value within an
/// encoded list takes one byte there and forty in the host.
pub(crate) const VALUES_MAX: usize = 65_536;

/// How many more values may come.
pub(crate) struct ValuesLeft(usize);

impl Default for ValuesLeft {
    fn default() -> Self {
        Self(VALUES_MAX)
    }
}

impl ValuesLeft {
    /// Takes a flat value from the front of what a guest gave.
    ///
    /// # Errors
    /// What is wrong with it, for people to read.
    pub(super) fn take(&mut self, bytes: &mut &[u8]) -> Result<Value, String> {
        let value = flat::take_value_of(bytes, &mut self.0);
        match value {
            Some(value) => Ok(value),
            None if self.0 == 0 => Err(format!("there are more than {VALUES_MAX} values in it")),
            None => Err(String::from(
                "an encoded value is not laid out as CONTRACT.md says under \"Flat values\"",
            )),
        }
    }
}

/// A field.
///
/// # Errors
/// What is wrong with it, for people to read.
pub(crate) fn field(field: wit::FieldResult, left: &mut ValuesLeft) -> Result<(Name, Value), String> {
    let name = name(&field.name)?;
    let value = value(field.value, left).map_err(|error| format!("the field '{name}': {error}"))?;
    Ok((name, value))
}

/// A name.
///
/// # Errors
/// If it is too long.
pub(crate) fn name(bytes: &[u8]) -> Result<Name, String> {
    Name::new(bytes).map_err(|error| error.to_string())
}

/// A value.
///
/// # Errors
/// If its encoded form is none, or there are too many.
pub(crate) fn value(value: wit::ValueResult, left: &mut ValuesLeft) -> Result<Value, String> {
    Ok(match value {
        wit::ValueResult::Void => Value::Void,
        wit::ValueResult::Boolean(boolean) => Value::Boolean(boolean),
        wit::ValueResult::Integer(integer) => Value::Integer(integer),
        wit::ValueResult::Unsigned(integer) => {
            i64::try_from(integer).map_or(Value::Unsigned(integer), Value::Integer)
        }
        wit::ValueResult::Real(real) => Value::Real(real),
        wit::ValueResult::Text(text) => Value::Text(text),
        wit::ValueResult::Binary(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Value::Text(text),
            Err(error) => Value::Binary(error.into_bytes().into()),
        },
        wit::ValueResult::Timestamp(milliseconds) => Value::Timestamp(milliseconds),
        wit::ValueResult::Encoded(bytes) => whole(&bytes, left)?,
    })
}

fn whole(bytes: &[u8], left: &mut ValuesLeft) -> Result<Value, String> {
    let mut rest = bytes;
    let value = left.take(&mut rest)?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(format!("an encoded value has {} bytes too many", rest.len()))
    }
}

/// A property.
pub(crate) fn property(property: wit::Property) -> Property {
    super::answer::property_of(property)
}
