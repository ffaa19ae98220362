//! Field values and tables, owned: arguments of exchanges, queues, bindings and consumers.

use crate::Name;
use alloc::{collections::BTreeMap, string::String, vec::Vec};
use bytes::Bytes;

/// Tables of more fields are looked through by a sorted index where all fields are compared with all.
const FIELDS_COMPARED_MAX: usize = 16;

/// A field value, in the classes that both protocols share.
///
/// Integers of every width are one class and reals of every width another, since that is how
/// arguments are compared; a string is `Text` where it is UTF-8 and `Binary` where it is not.
#[derive(Clone, Debug)]
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

/// What is no number equals itself, so that a binding or an exchange with such an argument is found again.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Real(a), Self::Real(b)) => a == b || (a.is_nan() && b.is_nan()),
            (Self::Void, Self::Void) => true,
            (Self::Boolean(a), Self::Boolean(b)) => a == b,
            (Self::Integer(a), Self::Integer(b)) | (Self::Timestamp(a), Self::Timestamp(b)) => a == b,
            (Self::Unsigned(a), Self::Unsigned(b)) => a == b,
            (Self::Decimal { scale: a, unscaled: x }, Self::Decimal { scale: b, unscaled: y }) => {
                a == b && x == y
            }
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Binary(a), Self::Binary(b)) => a == b,
            (Self::List(a), Self::List(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            _ => false,
        }
    }
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
            // A long string of AMQP 0-9-1 comes as that where it is not UTF-8.
            Self::Binary(_) => self.as_string().map_or("binary", |_| "longstr"),
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

    /// The bytes of a string, which names are: of text, or of what was no text ([`Self::string`]).
    #[must_use]
    pub fn as_string(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => Some(text.as_bytes()),
            Self::Binary(bytes) if core::str::from_utf8(bytes).is_err() => Some(bytes),
            _ => None,
        }
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

    fn by_name(&self) -> BTreeMap<&[u8], &Value> {
        self.0.iter().map(|(name, value)| (name.as_bytes(), value)).collect()
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
        if self.len() != other.len() {
            return false;
        }
        if self.len() > FIELDS_COMPARED_MAX {
            return self.by_name() == other.by_name();
        }
        self.iter().all(|(name, value)| other.get(name) == Some(value))
    }
}

impl FromIterator<(Name, Value)> for Table {
    fn from_iter<I: IntoIterator<Item = (Name, Value)>>(fields: I) -> Self {
        let mut table = Self::new();
        let mut fields = fields.into_iter();
        for (name, value) in fields.by_ref().take(FIELDS_COMPARED_MAX) {
            table.push(name, value);
        }
        let rest: Vec<_> = fields.collect();
        if !rest.is_empty() {
            let all = core::mem::take(&mut table.0).into_iter().chain(rest);
            let mut known = BTreeMap::new();
            table.0 = all.filter(|(name, _)| known.insert(name.clone(), ()).is_none()).collect();
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn table(fields: impl IntoIterator<Item = (usize, f64)>) -> Table {
        let named =
            |(name, value): (usize, f64)| (Name::new(format!("n{name}").as_bytes()), Value::Real(value));
        fields.into_iter().map(named).filter_map(|(name, value)| Some((name.ok()?, value))).collect()
    }

    #[test]
    fn of_a_name_that_came_twice_the_first_counts_however_many_there_are() {
        for fields in [3, FIELDS_COMPARED_MAX, 100] {
            let once = (0..fields).map(|n| (n, 1.0));
            let twice = once.clone().chain((0..fields).map(|n| (n, 2.0)));
            assert_eq!(table(twice), table(once.clone()));
            assert_eq!(table(once.clone().rev()), table(once.clone()), "the order does not matter");
            assert_ne!(
                table(once.clone()),
                table(once.map(|(n, value)| (n, if n == 2 { 3.0 } else { value })))
            );
        }
    }

    #[test]
    fn what_is_no_number_equals_itself() {
        assert_eq!(table([(1, f64::NAN)]), table([(1, f64::NAN)]));
        assert_ne!(table([(1, f64::NAN)]), table([(1, 1.0)]));
        assert_eq!(Value::Real(0.0), Value::Real(-0.0));
    }
}
