//! Values and fields that a guest gives, lifted to the vocabulary of the broker and checked.

use crate::bindings::v0_2::leveret::routing::types as wit;
use leveret_model::{Name, Property, Value, flat};

/// A field.
///
/// # Errors
/// What is wrong with it, for people to read.
pub(crate) fn field(field: wit::FieldResult) -> Result<(Name, Value), String> {
    Ok((name(&field.name)?, value(field.value)?))
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
/// If its encoded form is none.
pub(crate) fn value(value: wit::ValueResult) -> Result<Value, String> {
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
        wit::ValueResult::Encoded(bytes) => whole(&bytes)?,
    })
}

fn whole(bytes: &[u8]) -> Result<Value, String> {
    let mut rest = bytes;
    let value = flat::take_value(&mut rest).filter(|_| rest.is_empty());
    value.ok_or_else(|| {
        String::from("an encoded value is not laid out as CONTRACT.md says under \"Flat values\"")
    })
}

/// A property.
pub(crate) fn property(property: wit::Property) -> Property {
    super::answer::property_of(property)
}
