//! Field values, read from and written to the flat layout of `wit/CONTRACT.md`, "Flat values".
//!
//! ```text
//! 00 void                       06 timestamp  i64 LE, milliseconds since 1970
//! 01 boolean    u8              07 list       u32 LE bytes, values
//! 02 integer    i64 LE          08 map        u32 LE bytes, (key value, mapped value)*
//! 03 real       f64 LE          09 unsigned   u64 LE
//! 04 text       u32 LE, UTF-8   0a decimal    u8 scale, i64 LE unscaled
//! 05 binary     u32 LE, bytes   ff absent
//! ```

use std::fmt;

const VOID: u8 = 0x00;
const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const REAL: u8 = 0x03;
const TEXT: u8 = 0x04;
const BINARY: u8 = 0x05;
const TIMESTAMP: u8 = 0x06;
const LIST: u8 = 0x07;
const MAP: u8 = 0x08;
const UNSIGNED: u8 = 0x09;
const DECIMAL: u8 = 0x0a;
/// The tag of a property that is not there.
pub(crate) const ABSENT: u8 = 0xff;

/// The value of a header, a property or an argument.
///
/// Integers of all widths are one class and floats of both widths another. A string is text where
/// it is UTF-8, binary where it is not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// There, without a value.
    Void,
    /// A truth value.
    Boolean(bool),
    /// An integer.
    Integer(i64),
    /// An integer above `i64::MAX`.
    Unsigned(u64),
    /// A float.
    Real(f64),
    /// `unscaled / 10^scale`.
    Decimal {
        /// The number of decimal places.
        scale: u8,
        /// The digits.
        unscaled: i64,
    },
    /// A string that is UTF-8.
    Text(&'a str),
    /// Any other string.
    Binary(&'a [u8]),
    /// Milliseconds since 1970-01-01T00:00:00Z.
    Timestamp(i64),
    /// Values in order.
    List(List<'a>),
    /// Pairs of a key and a value, in order.
    Map(Map<'a>),
}

impl<'a> Value<'a> {
    /// Reads a value from its flat bytes; none where they are not one value and nothing more.
    #[must_use]
    pub fn from_flat(flat: &'a [u8]) -> Option<Self> {
        let mut bytes = Bytes(flat);
        bytes.value().filter(|_| bytes.0.is_empty())
    }

    /// Appends the flat bytes of the value.
    pub fn put_flat(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Void => out.push(VOID),
            Self::Boolean(boolean) => out.extend_from_slice(&[BOOLEAN, u8::from(boolean)]),
            Self::Integer(integer) => put_eight(out, INTEGER, integer.to_le_bytes()),
            Self::Unsigned(integer) => put_eight(out, UNSIGNED, integer.to_le_bytes()),
            Self::Real(real) => put_eight(out, REAL, real.to_le_bytes()),
            Self::Decimal { scale, unscaled } => {
                out.extend_from_slice(&[DECIMAL, scale]);
                out.extend_from_slice(&unscaled.to_le_bytes());
            }
            Self::Text(text) => put_sized(out, TEXT, text.as_bytes()),
            Self::Binary(bytes) => put_sized(out, BINARY, bytes),
            Self::Timestamp(milliseconds) => put_eight(out, TIMESTAMP, milliseconds.to_le_bytes()),
            Self::List(List(bytes)) => put_sized(out, LIST, bytes.0),
            Self::Map(Map(bytes)) => put_sized(out, MAP, bytes.0),
        }
    }

    /// The class of the value, for a message to people.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Void => "void",
            Self::Boolean(_) => "a boolean",
            Self::Integer(_) | Self::Unsigned(_) => "an integer",
            Self::Real(_) => "a real number",
            Self::Decimal { .. } => "a decimal",
            Self::Text(_) => "text",
            Self::Binary(_) => "binary",
            Self::Timestamp(_) => "a timestamp",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

fn put_eight(out: &mut Vec<u8>, tag: u8, content: [u8; 8]) {
    out.push(tag);
    out.extend_from_slice(&content);
}

fn put_sized(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    out.extend_from_slice(&u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(content);
}

/// The values of a list, in order; ends at the first byte that makes no sense.
#[derive(Clone, Copy, PartialEq)]
pub struct List<'a>(Bytes<'a>);

impl<'a> Iterator for List<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.0.value()
    }
}

impl fmt::Debug for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}

/// The pairs of a map, in order; ends at the first byte that makes no sense.
#[derive(Clone, Copy, PartialEq)]
pub struct Map<'a>(Bytes<'a>);

impl<'a> Iterator for Map<'a> {
    type Item = (Value<'a>, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        Some((self.0.value()?, self.0.value()?))
    }
}

impl fmt::Debug for Map<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(*self).finish()
    }
}

/// What is left of some bytes that are read from the front.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    #[inline]
    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// What comes after its length (u8).
    #[inline]
    pub(crate) fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    /// The next value; none where the bytes end, or make no sense, or say that it is absent.
    pub(crate) fn value(&mut self) -> Option<Value<'a>> {
        Some(match self.u8()? {
            VOID => Value::Void,
            BOOLEAN => Value::Boolean(self.u8()? != 0),
            INTEGER => Value::Integer(self.i64()?),
            REAL => Value::Real(f64::from_le_bytes(self.array()?)),
            TEXT => {
                let bytes = self.sized()?;
                std::str::from_utf8(bytes).map_or(Value::Binary(bytes), Value::Text)
            }
            BINARY => Value::Binary(self.sized()?),
            TIMESTAMP => Value::Timestamp(self.i64()?),
            LIST => Value::List(List(Bytes(self.sized()?))),
            MAP => Value::Map(Map(Bytes(self.sized()?))),
            UNSIGNED => Value::Unsigned(u64::from_le_bytes(self.array()?)),
            DECIMAL => Value::Decimal { scale: self.u8()?, unscaled: self.i64()? },
            _ => return None,
        })
    }

    /// The flat bytes of the next value, tag included, without looking into them.
    #[inline]
    pub(crate) fn flat(&mut self) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let content_bytes = match ahead.u8()? {
            VOID | ABSENT => 0,
            BOOLEAN => 1,
            INTEGER | REAL | TIMESTAMP | UNSIGNED => 8,
            DECIMAL => 9,
            TEXT | BINARY | LIST | MAP => (ahead.u32()? as usize).checked_add(4)?,
            _ => return None,
        };
        self.take(content_bytes.checked_add(1)?)
    }
}

macro_rules! integers {
    ($($integer:ty),+) => {
        $(impl From<$integer> for Value<'_> {
            fn from(integer: $integer) -> Self {
                Self::Integer(i64::from(integer))
            }
        })+
    };
}
integers!(i8, i16, i32, i64, u8, u16, u32);

impl From<u64> for Value<'_> {
    fn from(integer: u64) -> Self {
        i64::try_from(integer).map_or(Self::Unsigned(integer), Self::Integer)
    }
}

impl From<bool> for Value<'_> {
    fn from(boolean: bool) -> Self {
        Self::Boolean(boolean)
    }
}

impl From<f64> for Value<'_> {
    fn from(real: f64) -> Self {
        Self::Real(real)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    /// Text where it is UTF-8, as it would arrive.
    fn from(bytes: &'a [u8]) -> Self {
        std::str::from_utf8(bytes).map_or(Self::Binary(bytes), Self::Text)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_the_documented_one() {
        let inner = [0x02, 7, 0, 0, 0, 0, 0, 0, 0, 0x04, 2, 0, 0, 0, b'h', b'i'];
        let mut flat = vec![0x07, inner.len() as u8, 0, 0, 0];
        flat.extend(inner);
        let Some(Value::List(list)) = Value::from_flat(&flat) else { panic!("not a list") };
        assert_eq!(list.collect::<Vec<_>>(), [Value::Integer(7), Value::Text("hi")]);
        let mut again = Vec::new();
        Value::List(list).put_flat(&mut again);
        assert_eq!(again, flat);
    }

    #[test]
    fn every_class_comes_back_as_it_was_written() {
        let map = [0x04, 1, 0, 0, 0, b'k', 0x01, 0x01];
        let values = [
            Value::Void,
            Value::from(true),
            Value::from(-5),
            Value::from(u64::MAX),
            Value::from(1.5),
            Value::Decimal { scale: 2, unscaled: -314 },
            Value::from("text"),
            Value::Binary(&[0xff, 0]),
            Value::Timestamp(1_700_000_000_000),
            Value::List(List(Bytes(&[0x00]))),
            Value::Map(Map(Bytes(&map))),
        ];
        let mut all = Vec::new();
        for value in &values {
            let mut flat = Vec::new();
            value.put_flat(&mut flat);
            assert_eq!(Value::from_flat(&flat), Some(*value));
            all.extend_from_slice(&flat);
        }
        let mut bytes = Bytes(&all);
        for value in &values {
            assert_eq!(bytes.flat().and_then(Value::from_flat), Some(*value));
        }
        assert!(bytes.0.is_empty());
    }

    #[test]
    fn bytes_that_are_no_value_are_none_and_never_panic() {
        for flat in [&[][..], &[0xfe], &[0x02, 1], &[0x04, 9, 0, 0, 0, b'x'], &[0x00, 0x00], &[ABSENT]] {
            assert_eq!(Value::from_flat(flat), None, "{flat:?}");
        }
        assert_eq!(Value::from_flat(&[0x04, 1, 0, 0, 0, 0xff]), Some(Value::Binary(&[0xff])));
    }
}
