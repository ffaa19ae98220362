//! Field values and tables, owned: arguments of exchanges, queues, bindings and consumers.

use crate::Name;
use alloc::{string::String, vec::Vec};
use bytes::Bytes;

/// A field value, in the classes that both protocols share.
///
/// Integers of every width are one class and reals of every width another, since that is how
/// arguments are compared; a string is `Text` where it is UTF-8 and `Binary` where it is not.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Present, without a value.
    Void,
    /// A truth value.
    Boolean(bool),
    /// Any integer that fits.
    Integer(i64),
    /// An integer above `i64::MAX`.
    Unsigned(u64),
    /// A float of either width.
    Real(f64),
    /// `unscaled / 10^scale`.
    Decimal {
        /// The number of decimal places.
        scale: u8,
        /// The digits.
        unscaled: i64,
    },
    /// A string that is UTF-8.
    Text(String),
    /// Any other string.
    Binary(Bytes),
    /// Milliseconds since 1970.
    Timestamp(i64),
    /// A list (0-9-1: array).
    List(Vec<Value>),
    /// A map (0-9-1: table, whose keys are `Text` or `Binary`).
    Map(Vec<(Value, Value)>),
}

impl Value {
    /// A string: text if it is UTF-8, else binary.
    #[must_use]
    pub fn string(bytes: &[u8]) -> Self {
        match core::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.into()),
            Err(_) => Self::Binary(Bytes::copy_from_slice(bytes)),
        }
    }

    /// The class of the value, as RabbitMQ's error texts name it.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Void => "void",
            Self::Boolean(_) => "bool",
            Self::Integer(_) | Self::Unsigned(_) => "long",
            Self::Real(_) => "double",
            Self::Decimal { .. } => "decimal",
            Self::Text(_) => "longstr",
            Self::Binary(_) => "binary",
            Self::Timestamp(_) => "timestamp",
            Self::List(_) => "array",
            Self::Map(_) => "table",
        }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The integer, if it is one that fits.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        if let Self::Integer(integer) = self { Some(*integer) } else { None }
    }
}

/// Named values in the order in which they came. Of a name that came twice the first counts.
#[derive(Clone, Debug, Default)]
pub struct Table(Vec<(Name, Value)>);

impl Table {
    /// A table without fields.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&Value> {
        self.0.iter().find(|(n, _)| n.as_bytes() == name).map(|(_, value)| value)
    }

    /// Adds a field, unless one of that name is there already.
    pub fn push(&mut self, name: Name, value: Value) {
        if self.get(&name).is_none() {
            self.0.push((name, value));
        }
    }

    /// The fields, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Name, &Value)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// How many fields there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The order of fields does not matter.
impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().all(|(name, value)| other.get(name) == Some(value))
    }
}

impl FromIterator<(Name, Value)> for Table {
    fn from_iter<I: IntoIterator<Item = (Name, Value)>>(fields: I) -> Self {
        let mut table = Self::new();
        for (name, value) in fields {
            table.push(name, value);
        }
        table
    }
}
