//! The primitives of the wire: integers, strings, field tables (sections 4.2.5.2 to 4.2.5.5).
//!
//! All numbers are big-endian.
//! ```text
//! shortstr  u8 length, bytes            table  u32 length, (shortstr name, field)*
//! longstr   u32 length, bytes           array  u32 length, field*
//!
//! field     u8 type, then
//!   t u8 truth value   b i8   s i16   I i32   l i64   L i64   f f32   S longstr   A array
//!   T u64 seconds      B u8   u u16   i u32   V -             d f64   x longstr   F table
//!   D u8 scale, u32 unscaled
//! ```
//! The types are those that RabbitMQ speaks, not those that the specification's grammar lists:
//! the two differ in `s`, `l`, `L` and `x`.

use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use leveret_model::{Name, Table, Value, flat, limits::VALUE_DEPTH_MAX};

/// How many fields the arguments of one method may have.
pub const TABLE_FIELDS_MAX: usize = 4096;

/// The bytes are not what their place asks for; the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed field")
    }
}

impl core::error::Error for Malformed {}

/// Reads primitives from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

macro_rules! read_number {
    ($($(#[$doc:meta])* $name:ident: $number:ty),*) => { $(
        $(#[$doc])*
        ///
        /// # Errors
        /// If there are too few bytes.
        #[inline]
        pub fn $name(&mut self) -> Result<$number, Malformed> {
            let (bytes, rest) = self.rest.split_first_chunk().ok_or(Malformed)?;
            self.rest = rest;
            Ok(<$number>::from_be_bytes(*bytes))
        }
    )* };
}

impl<'a> Reader<'a> {
    /// A reader of these bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    read_number! {
        /// One byte.
        octet: u8,
        /// Two bytes.
        short: u16,
        /// Four bytes.
        long: u32,
        /// Eight bytes.
        longlong: u64
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// If there are fewer.
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or(Malformed)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// A short string, at most 255 bytes.
    ///
    /// # Errors
    /// If it is cut short.
    #[inline]
    pub fn shortstr(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.octet()?;
        self.take(usize::from(length))
    }

    /// A long string; also the content of a table or an array.
    ///
    /// # Errors
    /// If it is cut short.
    #[inline]
    pub fn longstr(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.long()?;
        self.take(usize::try_from(length).map_err(|_| Malformed)?)
    }

    /// One field value with its type.
    ///
    /// # Errors
    /// If the type is unknown or the value is cut short.
    pub fn field(&mut self) -> Result<Field<'a>, Malformed> {
        Ok(match self.octet()? {
            b't' => Field::Boolean(self.octet()? != 0),
            b'b' => Field::Integer(i64::from(self.octet()?.cast_signed())),
            b'B' => Field::Integer(i64::from(self.octet()?)),
            b's' => Field::Integer(i64::from(self.short()?.cast_signed())),
            b'u' => Field::Integer(i64::from(self.short()?)),
            b'I' => Field::Integer(i64::from(self.long()?.cast_signed())),
            b'i' => Field::Integer(i64::from(self.long()?)),
            b'l' | b'L' => Field::Integer(self.longlong()?.cast_signed()),
            b'f' => Field::Real(f64::from(f32::from_bits(self.long()?))),
            b'd' => Field::Real(f64::from_bits(self.longlong()?)),
            b'D' => Field::Decimal { scale: self.octet()?, unscaled: self.long()? },
            b'S' => Field::LongStr(self.longstr()?),
            b'A' => Field::Array(self.longstr()?),
            b'T' => Field::Timestamp(milliseconds(self.longlong()?)),
            b'F' => Field::Table(self.longstr()?),
            b'x' => Field::Bytes(self.longstr()?),
            b'V' => Field::Void,
            _ => return Err(Malformed),
        })
    }

    /// A field table, decoded. Of a name that came twice the first counts.
    ///
    /// # Errors
    /// If it makes no sense, nests too deep, or has more than [`TABLE_FIELDS_MAX`] fields.
    pub fn table(&mut self) -> Result<Table, Malformed> {
        let content = self.longstr()?;
        if content.is_empty() {
            return Ok(Table::new());
        }
        check_table(content)?;
        if (Fields { reader: Reader::new(content) }).nth(TABLE_FIELDS_MAX).is_some() {
            return Err(Malformed);
        }
        Fields { reader: Reader::new(content) }
            .map(|(name, field)| Ok((Name::new(name).map_err(|_| Malformed)?, field.to_value())))
            .collect()
    }
}

/// Seconds on the wire, milliseconds everywhere else.
pub(crate) fn milliseconds(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX)
}

/// A field value, borrowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Field<'a> {
    /// `V`.
    Void,
    /// `t`.
    Boolean(bool),
    /// `b`, `B`, `s`, `u`, `I`, `i`, `l`, `L`.
    Integer(i64),
    /// `f`, `d`.
    Real(f64),
    /// `D`: `unscaled / 10^scale`.
    Decimal {
        /// The number of decimal places.
        scale: u8,
        /// The digits.
        unscaled: u32,
    },
    /// `S`.
    LongStr(&'a [u8]),
    /// `x`.
    Bytes(&'a [u8]),
    /// `T`, in milliseconds since 1970.
    Timestamp(i64),
    /// `A`: the fields, back to back.
    Array(&'a [u8]),
    /// `F`: names and fields.
    Table(&'a [u8]),
}

impl Field<'_> {
    /// The owned value. Content that makes no sense, or nests deeper than
    /// [`VALUE_DEPTH_MAX`], is left out.
    #[must_use]
    pub fn to_value(&self) -> Value {
        self.to_value_within(VALUE_DEPTH_MAX)
    }

    fn to_value_within(self, depth: usize) -> Value {
        match self {
            Self::Void => Value::Void,
            Self::Boolean(boolean) => Value::Boolean(boolean),
            Self::Integer(integer) => Value::Integer(integer),
            Self::Real(real) => Value::Real(real),
            Self::Decimal { scale, unscaled } => Value::Decimal { scale, unscaled: i64::from(unscaled) },
            Self::LongStr(bytes) => Value::string(bytes),
            Self::Bytes(bytes) => Value::Binary(Bytes::copy_from_slice(bytes)),
            Self::Timestamp(milliseconds) => Value::Timestamp(milliseconds),
            Self::Array(_) | Self::Table(_) if depth == 0 => Value::Void,
            Self::Array(content) => {
                Value::List(Elements::new(content).map(|field| field.to_value_within(depth - 1)).collect())
            }
            Self::Table(content) => Value::Map(
                Fields::new(content)
                    .map(|(name, field)| (Value::string(name), field.to_value_within(depth - 1)))
                    .collect(),
            ),
        }
    }

    /// Appends the flat value ([`leveret_model::flat`]).
    pub fn put_flat(&self, out: &mut Vec<u8>) {
        self.put_flat_within(out, VALUE_DEPTH_MAX);
    }

    fn put_flat_within(self, out: &mut Vec<u8>, depth: usize) {
        match self {
            Self::Void => out.push(flat::VOID),
            Self::Boolean(boolean) => flat::put_boolean(out, boolean),
            Self::Integer(integer) => flat::put_integer(out, integer),
            Self::Real(real) => flat::put_real(out, real),
            Self::Decimal { scale, unscaled } => flat::put_decimal(out, scale, i64::from(unscaled)),
            Self::LongStr(bytes) => flat::put_string(out, bytes),
            Self::Bytes(bytes) => flat::put_binary(out, bytes),
            Self::Timestamp(milliseconds) => flat::put_timestamp(out, milliseconds),
            Self::Array(_) | Self::Table(_) if depth == 0 => out.push(flat::VOID),
            Self::Array(content) => flat::put_nested(out, flat::LIST, |out| {
                Elements::new(content).for_each(|field| field.put_flat_within(out, depth - 1));
            }),
            Self::Table(content) => flat::put_nested(out, flat::MAP, |out| {
                for (name, field) in Fields::new(content) {
                    flat::put_string(out, name);
                    field.put_flat_within(out, depth - 1);
                }
            }),
        }
    }
}

/// The names and fields of a table's content, ending at the first byte that makes no sense.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    reader: Reader<'a>,
}

impl<'a> Fields<'a> {
    /// Of a table without its length.
    #[must_use]
    pub fn new(content: &'a [u8]) -> Self {
        Self { reader: Reader::new(content) }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], Field<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let name = self.reader.shortstr().ok()?;
        let field = self.reader.field().ok()?;
        Some((name, field))
    }
}

/// The fields of an array's content, ending at the first byte that makes no sense.
#[derive(Clone, Copy, Debug)]
pub struct Elements<'a> {
    reader: Reader<'a>,
}

impl<'a> Elements<'a> {
    /// Of an array without its length.
    #[must_use]
    pub fn new(content: &'a [u8]) -> Self {
        Self { reader: Reader::new(content) }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        self.reader.field().ok()
    }
}

/// Checks a table's content, all of it.
///
/// # Errors
/// If it makes no sense, or nests deeper than [`VALUE_DEPTH_MAX`].
pub fn check_table(content: &[u8]) -> Result<(), Malformed> {
    check_fields(content, true, VALUE_DEPTH_MAX)
}

fn check_fields(content: &[u8], named: bool, depth: usize) -> Result<(), Malformed> {
    let mut reader = Reader::new(content);
    while !reader.is_empty() {
        if named {
            reader.shortstr()?;
        }
        match reader.field()? {
            Field::Array(nested) => check_fields(nested, false, depth.checked_sub(1).ok_or(Malformed)?)?,
            Field::Table(nested) => check_fields(nested, true, depth.checked_sub(1).ok_or(Malformed)?)?,
            _ => {}
        }
    }
    Ok(())
}

/// Appends a short string; what is above 255 bytes is cut.
#[inline]
pub fn put_shortstr(out: &mut Vec<u8>, bytes: &[u8]) {
    let (length, bytes) = match u8::try_from(bytes.len()) {
        Ok(length) => (length, bytes),
        Err(_) => (u8::MAX, bytes.get(..255).unwrap_or_default()),
    };
    out.push(length);
    out.extend_from_slice(bytes);
}

/// Appends a long string.
pub fn put_longstr(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a table with its length.
pub fn put_table(out: &mut Vec<u8>, table: &Table) {
    put_sized(out, |out| {
        for (name, value) in table.iter() {
            put_shortstr(out, name);
            put_field(out, value);
        }
    });
}

/// Appends a field with its type. Integers go as `l`, reals as `d`. What the wire cannot say
/// goes as what comes nearest: an unsigned integer above `i64::MAX` as a real, a decimal
/// saturated, of a map only the pairs whose key is a string.
pub fn put_field(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Void => out.push(b'V'),
        Value::Boolean(boolean) => out.extend_from_slice(&[b't', u8::from(*boolean)]),
        Value::Integer(integer) => put_number(out, b'l', integer.to_be_bytes()),
        Value::Unsigned(integer) => put_number(out, b'd', (*integer as f64).to_be_bytes()),
        Value::Real(real) => put_number(out, b'd', real.to_be_bytes()),
        Value::Decimal { scale, unscaled } => {
            let unscaled = u32::try_from((*unscaled).max(0)).unwrap_or(u32::MAX);
            out.extend_from_slice(&[b'D', *scale]);
            out.extend_from_slice(&unscaled.to_be_bytes());
        }
        Value::Text(text) => {
            out.push(b'S');
            put_longstr(out, text.as_bytes());
        }
        Value::Binary(bytes) => {
            out.push(b'x');
            put_longstr(out, bytes);
        }
        Value::Timestamp(milliseconds) => {
            put_number(out, b'T', milliseconds.div_euclid(1000).to_be_bytes());
        }
        Value::List(values) => {
            out.push(b'A');
            put_sized(out, |out| values.iter().for_each(|value| put_field(out, value)));
        }
        Value::Map(pairs) => {
            out.push(b'F');
            put_sized(out, |out| {
                for (key, value) in pairs {
                    match key {
                        Value::Text(text) => put_shortstr(out, text.as_bytes()),
                        Value::Binary(bytes) => put_shortstr(out, bytes),
                        _ => continue,
                    }
                    put_field(out, value);
                }
            });
        }
    }
}

fn put_number(out: &mut Vec<u8>, tag: u8, bytes: [u8; 8]) {
    out.push(tag);
    out.extend_from_slice(&bytes);
}

fn put_sized(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    fill(out);
    let length = u32::try_from(out.len() - length_at - 4).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(length_at..length_at + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{string::String, vec};

    /// One field of each type, without the table's length.
    const ALL_FIELDS: &[u8] = &[
        1, b'a', b't', 1, //
        1, b'b', b'b', 0xff, //
        1, b'c', b'B', 0xff, //
        1, b'd', b's', 0xff, 0xfe, //
        1, b'e', b'u', 0xff, 0xfe, //
        1, b'f', b'I', 0xff, 0xff, 0xff, 0xfd, //
        1, b'g', b'i', 0xff, 0xff, 0xff, 0xfd, //
        1, b'h', b'l', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfc, //
        1, b'i', b'L', 0, 0, 0, 0, 0, 0, 0, 7, //
        1, b'j', b'f', 0x3f, 0xc0, 0, 0, //
        1, b'k', b'd', 0x3f, 0xf8, 0, 0, 0, 0, 0, 0, //
        1, b'l', b'D', 2, 0, 0, 1, 0, //
        1, b'm', b'S', 0, 0, 0, 1, b'x', //
        1, b'n', b'S', 0, 0, 0, 1, 0xff, //
        1, b'o', b'A', 0, 0, 0, 3, b'V', b't', 0, //
        1, b'p', b'T', 0, 0, 0, 0, 0, 0, 0, 3, //
        1, b'q', b'F', 0, 0, 0, 3, 1, b'z', b'V', //
        1, b'r', b'x', 0, 0, 0, 1, b'y', //
        1, b's', b'V',
    ];

    fn text(text: &str) -> Value {
        Value::Text(String::from(text))
    }

    fn all_fields() -> Vec<u8> {
        let mut bytes = Vec::new();
        put_longstr(&mut bytes, ALL_FIELDS);
        bytes
    }

    #[test]
    fn every_field_type_is_read() {
        let bytes = all_fields();
        let mut reader = Reader::new(&bytes);
        let table = reader.table().unwrap();
        assert!(reader.is_empty());
        let values: Vec<Value> = table.iter().map(|(_, value)| value.clone()).collect();
        let expected = vec![
            Value::Boolean(true),
            Value::Integer(-1),
            Value::Integer(255),
            Value::Integer(-2),
            Value::Integer(65534),
            Value::Integer(-3),
            Value::Integer(4_294_967_293),
            Value::Integer(-4),
            Value::Integer(7),
            Value::Real(1.5),
            Value::Real(1.5),
            Value::Decimal { scale: 2, unscaled: 256 },
            text("x"),
            Value::Binary(Bytes::from_static(&[0xff])),
            Value::List(vec![Value::Void, Value::Boolean(false)]),
            Value::Timestamp(3000),
            Value::Map(vec![(text("z"), Value::Void)]),
            Value::Binary(Bytes::from_static(b"y")),
            Value::Void,
        ];
        assert_eq!(values, expected);
    }

    #[test]
    fn a_table_comes_back_as_it_was_written() {
        let bytes = all_fields();
        let table = Reader::new(&bytes).table().unwrap();
        let mut out = Vec::new();
        put_table(&mut out, &table);
        assert_eq!(Reader::new(&out).table().unwrap(), table);
    }

    #[test]
    fn every_cut_of_a_table_is_malformed() {
        let bytes = all_fields();
        for end in 0..bytes.len() {
            assert_eq!(Reader::new(&bytes[..end]).table(), Err(Malformed), "cut at {end}");
        }
        assert_eq!(check_table(&[1, b'a', b'Q']), Err(Malformed));
    }

    fn nested(depth: usize) -> Vec<u8> {
        let mut field = vec![b'V'];
        for _ in 0..depth {
            let mut outer = vec![b'A'];
            put_longstr(&mut outer, &field);
            field = outer;
        }
        [&[1, b'a'], field.as_slice()].concat()
    }

    #[test]
    fn nesting_has_a_limit() {
        assert_eq!(check_table(&nested(VALUE_DEPTH_MAX)), Ok(()));
        assert_eq!(check_table(&nested(VALUE_DEPTH_MAX + 1)), Err(Malformed));
        let deep = nested(10_000);
        assert_eq!(check_table(&deep), Err(Malformed));
        // The lenient readers stop there too.
        let mut out = Vec::new();
        Fields::new(&deep).for_each(|(_, field)| field.put_flat(&mut out));
        assert_eq!(out.len(), 5 * VALUE_DEPTH_MAX + 1);
    }

    #[test]
    fn a_table_has_a_limited_number_of_fields() {
        let fields = |count: usize| {
            let mut content = Vec::new();
            for i in 0..count {
                put_shortstr(&mut content, &u32::try_from(i).unwrap().to_be_bytes());
                content.push(b'V');
            }
            let mut out = Vec::new();
            put_longstr(&mut out, &content);
            out
        };
        assert_eq!(Reader::new(&fields(TABLE_FIELDS_MAX)).table().map(|t| t.len()), Ok(TABLE_FIELDS_MAX));
        assert_eq!(Reader::new(&fields(TABLE_FIELDS_MAX + 1)).table(), Err(Malformed));
    }

    #[test]
    fn the_first_of_equal_names_counts() {
        let bytes = [0, 0, 0, 8, 1, b'a', b't', 1, 1, b'a', b't', 0];
        let table = Reader::new(&bytes).table().unwrap();
        assert_eq!(table.get(b"a"), Some(&Value::Boolean(true)));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_short_string_is_cut_at_255_bytes() {
        let mut out = Vec::new();
        put_shortstr(&mut out, &[b'a'; 300]);
        assert_eq!(out.len(), 256);
        assert_eq!(Reader::new(&out).shortstr().unwrap().len(), 255);
    }
}
