//! Arguments read into a struct that derives serde's `Deserialize`. The feature `serde`, which is on unless
//! it is switched off, has it.
//!
//! Errors name the argument, and say what kind of value is expected and which is there.

use crate::{Arguments, Refusal, Value, message::Fields, value};
use serde_core::{
    Deserialize,
    de::{self, DeserializeSeed, Deserializer, Expected, MapAccess, SeqAccess, Unexpected, Visitor},
    forward_to_deserialize_any,
};
use std::fmt;

impl Arguments {
    /// Reads the arguments into a struct. Those it has no field for are let through, unless it says
    /// `#[serde(deny_unknown_fields)]`.
    ///
    /// The crate needs `serde` with the feature `derive`.
    ///
    /// ```
    /// # use leveret_sdk::{Arguments, Refusal};
    /// use serde::Deserialize;
    ///
    /// #[derive(Deserialize)]
    /// struct Settings {
    ///     #[serde(rename = "x-cache-size")]
    ///     cache_size: u32,
    ///     #[serde(rename = "x-header", default)]
    ///     header: Option<String>,
    /// }
    ///
    /// let settings: Settings = Arguments::new().with("x-cache-size", 500).parse()?;
    /// assert_eq!((settings.cache_size, settings.header), (500, None));
    ///
    /// let refusal = Arguments::new().with("x-cache-size", "big").parse::<Settings>().err();
    /// let reason = "must be an integer, not text";
    /// assert_eq!(refusal, Some(Refusal::invalid_argument("x-cache-size", reason)));
    /// # Ok::<(), Refusal>(())
    /// ```
    ///
    /// # Errors
    /// An argument is missing, or not what the struct takes.
    pub fn parse<'de, T: Deserialize<'de>>(&'de self) -> Result<T, Refusal> {
        T::deserialize(Source { fields: self.iter() }).map_err(|Error(refusal)| refusal)
    }
}

/// What serde makes of a refusal on its way: one that has no name yet gets it from the argument whose
/// value it was about.
#[derive(Debug)]
struct Error(Refusal);

impl Error {
    fn expected(expected: &str, value: &Value<'_>) -> Self {
        Self(Refusal::Other(format!("must be {expected}, not {}", value.class())))
    }

    /// The same, about the argument of this name.
    fn about(self, name: &[u8]) -> Self {
        match self.0 {
            Refusal::Other(reason) => {
                Self(Refusal::InvalidArgument { name: String::from_utf8_lossy(name).into_owned(), reason })
            }
            // A value inside of the argument's own: its name says where.
            Refusal::MissingArgument(inner) => {
                let reason = format!("lacks '{inner}'");
                Self(Refusal::InvalidArgument { name: String::from_utf8_lossy(name).into_owned(), reason })
            }
            Refusal::InvalidArgument { name: inner, reason } => Self(Refusal::InvalidArgument {
                name: format!("{}.{inner}", String::from_utf8_lossy(name)),
                reason,
            }),
            other @ Refusal::Unsupported(_) => Self(other),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self(Refusal::Other(format!("is not usable: {reason}")))
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self(Refusal::Other(format!("must be {expected}, not {}", shown(&unexpected))))
    }

    /// A number out of its range is most of these.
    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = expected.to_string();
        let range = match expected.as_str() {
            "u8" => "an integer from 0 to 255",
            "u16" => "an integer from 0 to 65535",
            "u32" => "an integer from 0 to 4294967295",
            "u64" | "u128" | "usize" => "an integer that is not negative",
            "i8" => "an integer from -128 to 127",
            "i16" => "an integer from -32768 to 32767",
            "i32" => "an integer from -2147483648 to 2147483647",
            other => other,
        };
        Self(Refusal::Other(format!("must be {range}, not {}", shown(&unexpected))))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self(Refusal::Other(format!("must be one of {}, not '{variant}'", expected.join(", "))))
    }

    fn unknown_field(field: &str, _: &'static [&'static str]) -> Self {
        Self(Refusal::InvalidArgument { name: field.into(), reason: "is not known".into() })
    }

    fn missing_field(field: &'static str) -> Self {
        Self(Refusal::MissingArgument(field.into()))
    }
}

/// What is there instead. Serde could show it too, but the code that writes floats would be a fifth of the
/// component.
fn shown(unexpected: &Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Signed(integer) => integer.to_string(),
        Unexpected::Unsigned(integer) => integer.to_string(),
        Unexpected::Str(text) => format!("'{text}'"),
        Unexpected::Bool(_) => "a boolean".into(),
        Unexpected::Float(_) => "a real number".into(),
        Unexpected::Bytes(_) => "binary".into(),
        Unexpected::Unit => "void".into(),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "a map".into(),
        _ => "that".into(),
    }
}

/// All arguments, as a map.
struct Source<'de> {
    fields: Fields<'de>,
}

impl<'de> Deserializer<'de> for Source<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Entries { fields: self.fields, value: None })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Entries<'de> {
    fields: Fields<'de>,
    /// Name and value of the argument whose name was read last.
    value: Option<(&'de [u8], Value<'de>)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(field) = self.fields.next() else {
            return Ok(None);
        };
        self.value = Some((field.name(), field.value().unwrap_or(Value::Void)));
        seed.deserialize(Single(Value::from(field.name()))).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let (name, value) = self.value.take().unwrap_or((b"", Value::Void));
        seed.deserialize(Single(value)).map_err(|error| error.about(name))
    }
}

/// One value.
struct Single<'de>(Value<'de>);

/// Methods that say what they expect before serde's own words could.
macro_rules! expecting {
    ($expected:literal, $pattern:pat => $($method:ident)+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.0 {
                $pattern => self.deserialize_any(visitor),
                other => Err(Error::expected($expected, &other)),
            }
        })+
    };
}

impl<'de> Deserializer<'de> for Single<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Void => visitor.visit_unit(),
            Value::Boolean(boolean) => visitor.visit_bool(boolean),
            Value::Integer(integer) | Value::Timestamp(integer) => visitor.visit_i64(integer),
            Value::Unsigned(integer) => visitor.visit_u64(integer),
            Value::Real(real) => visitor.visit_f64(real),
            Value::Decimal { scale, unscaled } => {
                visitor.visit_f64(unscaled as f64 / 10_f64.powi(i32::from(scale)))
            }
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::Binary(bytes) => visitor.visit_borrowed_bytes(bytes),
            Value::List(list) => visitor.visit_seq(Items(list)),
            Value::Map(map) => visitor.visit_map(Pairs { map, value: None }),
        }
    }

    expecting! { "an integer", Value::Integer(_) | Value::Unsigned(_) | Value::Timestamp(_) =>
    deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
    deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 }

    expecting! { "a number", Value::Integer(_) | Value::Unsigned(_) | Value::Real(_) | Value::Decimal { .. } =>
    deserialize_f32 deserialize_f64 }

    expecting! { "a boolean", Value::Boolean(_) => deserialize_bool }
    expecting! { "text", Value::Text(_) => deserialize_str deserialize_string deserialize_char }
    expecting! { "a list", Value::List(_) => deserialize_seq }
    expecting! { "a map", Value::Map(_) => deserialize_map }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0 == Value::Void { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Text(text) => visitor.visit_borrowed_bytes(text.as_bytes()),
            Value::Binary(bytes) => visitor.visit_borrowed_bytes(bytes),
            other => Err(Error::expected("a string", &other)),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    /// A variant without content, by its name.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Text(text) => visitor.visit_enum(de::value::BorrowedStrDeserializer::new(text)),
            other => Err(Error::expected("text", &other)),
        }
    }

    forward_to_deserialize_any! { unit unit_struct tuple tuple_struct struct identifier ignored_any }
}

struct Items<'de>(value::List<'de>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|value| seed.deserialize(Single(value))).transpose()
    }
}

struct Pairs<'de> {
    map: value::Map<'de>,
    /// Key and value of the pair whose key was read last.
    value: Option<(Value<'de>, Value<'de>)>,
}

impl<'de> MapAccess<'de> for Pairs<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.value = self.map.next();
        self.value.map(|(key, _)| seed.deserialize(Single(key))).transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let (key, value) = self.value.take().unwrap_or((Value::Void, Value::Void));
        let name = match key {
            Value::Text(text) => text.as_bytes(),
            Value::Binary(bytes) => bytes,
            _ => b"?",
        };
        seed.deserialize(Single(value)).map_err(|error| error.about(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize as Derive;
    use std::collections::BTreeMap;

    #[derive(Debug, PartialEq, Derive)]
    #[serde(rename_all = "kebab-case")]
    enum Mode {
        FirstOne,
        Other,
    }

    #[derive(Debug, PartialEq, Derive)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        #[serde(rename = "x-size")]
        size: u16,
        #[serde(rename = "x-ratio")]
        ratio: Option<f64>,
        #[serde(rename = "x-mode", default = "other")]
        mode: Mode,
        #[serde(rename = "x-names", default)]
        names: Vec<String>,
        #[serde(rename = "x-weights", default)]
        weights: BTreeMap<String, u8>,
        #[serde(rename = "x-flag", default)]
        flag: bool,
    }

    fn other() -> Mode {
        Mode::Other
    }

    /// A list, or a map, of these bytes.
    fn nested(tag: u8, content: &[Value<'_>]) -> Vec<u8> {
        let mut inner = Vec::new();
        content.iter().for_each(|value| value.put_flat(&mut inner));
        let mut flat = vec![tag];
        flat.extend_from_slice(&(inner.len() as u32).to_le_bytes());
        flat.extend_from_slice(&inner);
        flat
    }

    fn refused(arguments: &Arguments) -> String {
        arguments.parse::<Settings>().unwrap_err().to_string()
    }

    #[test]
    fn arguments_fill_a_struct() {
        let names = nested(0x07, &["a".into(), "b".into()]);
        let weights = nested(0x08, &["a".into(), 3.into()]);
        let arguments = Arguments::new()
            .with("x-size", 500)
            .with("x-ratio", 2)
            .with("x-mode", "first-one")
            .with("x-names", Value::from_flat(&names).unwrap())
            .with("x-weights", Value::from_flat(&weights).unwrap())
            .with("x-flag", true);
        let expected = Settings {
            size: 500,
            ratio: Some(2.0),
            mode: Mode::FirstOne,
            names: vec!["a".into(), "b".into()],
            weights: BTreeMap::from([("a".into(), 3)]),
            flag: true,
        };
        assert_eq!(arguments.parse(), Ok(expected));
        let sparse = Arguments::new().with("x-size", 1).with("x-ratio", Value::Void);
        assert!(sparse.parse().is_ok_and(|settings: Settings| settings.ratio.is_none()));
    }

    #[test]
    fn refusals_name_the_argument() {
        assert_eq!(Arguments::new().parse::<Settings>(), Err(Refusal::missing_argument("x-size")));
        let size = |value: Value<'_>| refused(&Arguments::new().with("x-size", value));
        assert_eq!(size("big".into()), "argument 'x-size' must be an integer, not text");
        assert_eq!(size(1.5.into()), "argument 'x-size' must be an integer, not a real number");
        assert_eq!(size(70_000.into()), "argument 'x-size' must be an integer from 0 to 65535, not 70000");
        let and =
            |name: &str, value: Value<'_>| refused(&Arguments::new().with("x-size", 1).with(name, value));
        assert_eq!(
            and("x-mode", "all".into()),
            "argument 'x-mode' must be one of first-one, other, not 'all'"
        );
        assert_eq!(and("x-mode", 1.into()), "argument 'x-mode' must be text, not an integer");
        assert_eq!(and("x-flag", 1.into()), "argument 'x-flag' must be a boolean, not an integer");
        assert_eq!(and("x-ratio", "half".into()), "argument 'x-ratio' must be a number, not text");
        assert_eq!(and("x-names", "a".into()), "argument 'x-names' must be a list, not text");
        assert_eq!(and("x-sise", 1.into()), "argument 'x-sise' is not known");
        let weights = nested(0x08, &["a".into(), "heavy".into()]);
        assert_eq!(
            and("x-weights", Value::from_flat(&weights).unwrap()),
            "argument 'x-weights.a' must be an integer, not text"
        );
    }
}
