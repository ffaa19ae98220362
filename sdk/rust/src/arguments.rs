//! Arguments of exchanges and bindings, with refusals that say what is wrong.

#[cfg(feature = "serde")]
mod typed;

use crate::{
    Refusal, Value,
    message::{Field, Fields},
    projection::put_field,
};
use std::fmt;

/// Named values in the order in which they came, each name once.
///
/// ```
/// # use leveret_sdk::{Arguments, Refusal};
/// let arguments = Arguments::new().with("x-minimum", 18).with("x-label", "adults");
/// let minimum: i64 = arguments.required("x-minimum")?;
/// let maximum: Option<i64> = arguments.optional("x-maximum")?;
/// assert_eq!((minimum, maximum), (18, None));
/// let refusal = arguments.required::<i64>("x-label").unwrap_err();
/// assert_eq!(refusal.to_string(), "argument 'x-label' must be an integer, not text");
/// # Ok::<(), Refusal>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Arguments {
    /// For each: length of the name (u8), name, flat value.
    flat: Vec<u8>,
}

impl Arguments {
    /// No arguments.
    #[must_use]
    pub const fn new() -> Self {
        Self { flat: Vec::new() }
    }

    /// Adds an argument, unless one of that name is there or the name has more than 255 bytes.
    #[must_use]
    pub fn with<'v>(mut self, name: impl AsRef<[u8]>, value: impl Into<Value<'v>>) -> Self {
        if self.get(&name).is_none() {
            put_field(&mut self.flat, name.as_ref(), |out| value.into().put_flat(out));
        }
        self
    }

    pub(crate) fn from_flat(flat: Vec<u8>) -> Self {
        Self { flat }
    }

    /// The value of an argument.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<Value<'_>> {
        self.iter().find(|field| field.name() == name.as_ref()).and_then(|field| field.value())
    }

    /// The arguments, in order.
    #[must_use]
    pub fn iter(&self) -> Fields<'_> {
        Fields::to_the_end_of(&self.flat)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flat.is_empty()
    }

    /// The value of an argument that must be there.
    ///
    /// # Errors
    /// It is missing, or of another class.
    pub fn required<'a, T: FromValue<'a>>(&'a self, name: &str) -> Result<T, Refusal> {
        self.optional(name)?.ok_or_else(|| Refusal::missing_argument(name))
    }

    /// The value of an argument that may be there.
    ///
    /// # Errors
    /// It is there and of another class.
    pub fn optional<'a, T: FromValue<'a>>(&'a self, name: &str) -> Result<Option<T>, Refusal> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        match T::from_value(value) {
            Some(converted) => Ok(Some(converted)),
            None => {
                let reason = format!("must be {}, not {}", T::EXPECTED, value.class());
                Err(Refusal::invalid_argument(name, reason))
            }
        }
    }
}

impl<'a> IntoIterator for &'a Arguments {
    type Item = Field<'a>;
    type IntoIter = Fields<'a>;

    fn into_iter(self) -> Fields<'a> {
        self.iter()
    }
}

impl fmt::Debug for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |field: &Field<'_>| String::from_utf8_lossy(field.name()).into_owned();
        f.debug_map().entries(self.iter().map(|field| (name(&field), field.value()))).finish()
    }
}

/// What the value of an argument can be asked for as.
pub trait FromValue<'a>: Sized {
    /// What is expected, for a refusal: `an integer`.
    const EXPECTED: &'static str;

    /// The value as this type, if it is of that class and in its range.
    fn from_value(value: Value<'a>) -> Option<Self>;
}

macro_rules! from_value {
    ($($type:ty, $expected:literal, $($pattern:pat => $result:expr),+;)+) => {
        $(impl<'a> FromValue<'a> for $type {
            const EXPECTED: &'static str = $expected;

            fn from_value(value: Value<'a>) -> Option<Self> {
                match value {
                    $($pattern => $result,)+
                    _ => None,
                }
            }
        })+
    };
}

from_value! {
    &'a str, "text", Value::Text(text) => Some(text);
    &'a [u8], "a string", Value::Text(text) => Some(text.as_bytes()), Value::Binary(bytes) => Some(bytes);
    bool, "a boolean", Value::Boolean(boolean) => Some(boolean);
    i64, "an integer", Value::Integer(integer) => Some(integer);
    u64, "an integer that is not negative", Value::Integer(integer) => integer.try_into().ok(), Value::Unsigned(integer) => Some(integer);
    u32, "an integer from 0 to 4294967295", Value::Integer(integer) => integer.try_into().ok();
    f64, "a number", Value::Real(real) => Some(real), Value::Integer(integer) => Some(integer as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_what_is_wrong() {
        let arguments = Arguments::new().with("x-count", -1).with("x-name", "n").with("x-name", "second");
        let reason = |refusal: Refusal| refusal.to_string();
        assert_eq!(
            arguments.required::<&str>("x-none").map_err(reason),
            Err("argument 'x-none' is missing".into())
        );
        assert_eq!(
            arguments.optional::<u32>("x-count").map_err(reason),
            Err("argument 'x-count' must be an integer from 0 to 4294967295, not an integer".into())
        );
        assert_eq!(
            arguments.optional::<bool>("x-name").map_err(reason),
            Err("argument 'x-name' must be a boolean, not text".into())
        );
        assert_eq!(arguments.optional::<f64>("x-count").map_err(reason), Ok(Some(-1.0)));
        assert_eq!(arguments.required::<&str>("x-name").map_err(reason), Ok("n"));
        assert_eq!(arguments.optional::<i64>("x-none").map_err(reason), Ok(None));
    }

    #[test]
    fn a_name_that_does_not_fit_is_left_out() {
        let arguments = Arguments::new().with("n".repeat(256), 1).with("n".repeat(255), 2);
        assert_eq!(arguments.iter().count(), 1);
        assert_eq!(arguments.get("n".repeat(255)), Some(Value::Integer(2)));
    }
}
