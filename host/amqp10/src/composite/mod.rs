//! Composite types (section 1.4): described lists whose elements are the fields, in the order of the definition.
//!
//! ```text
//! 00, descriptor (ulong or symbol), list of fields
//! ```
//! A field that is null or beyond the end of the list is absent: then its default counts, if it has one, and it is an
//! error if it is mandatory. Trailing nulls are not written, nor is a value that is the default.
//!
//! The types themselves are tables (`composite!`, in `table`), laid out as in the specification.

mod maps;
pub(crate) mod table;

pub use maps::{Annotations, ApplicationMap, Fields, Symbols};

use crate::types::{
    DecodeError, List, Reader, Symbol, Timestamp, Uuid, Value, code,
    write::{put, put_boolean, put_bytes, put_counted, put_descriptor, put_uint},
};
use alloc::vec::Vec;

/// A described list with fields.
pub trait Composite<'a>: Sized {
    /// Its descriptor's number.
    const CODE: u64;
    /// Its descriptor's name.
    const NAME: &'static str;

    /// Takes the fields.
    ///
    /// # Errors
    /// If a field is missing, or not what it should be.
    fn read(fields: &mut FieldReader<'a>) -> Result<Self, DecodeError>;

    /// Gives the fields.
    fn write(&self, fields: &mut FieldWriter<'_>);

    /// Of the list of fields, all of it.
    ///
    /// # Errors
    /// If a field is missing or not what it should be, or there are too many.
    #[inline]
    fn from_list(list: List<'a>) -> Result<Self, DecodeError> {
        let mut fields =
            FieldReader { left: list.count, reader: Reader::new(list.items), composite: Self::NAME };
        let composite = Self::read(&mut fields)?;
        fields.finish()?;
        Ok(composite)
    }

    /// Of the front of some bytes.
    ///
    /// # Errors
    /// As [`Self::from_list`], and if it is another type.
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match head(reader)? {
            (code, list) if code == Self::CODE => Self::from_list(list),
            (code, _) => Err(DecodeError::Descriptor(code)),
        }
    }

    /// Appends it.
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        put_descriptor(out, Self::CODE);
        put_list(out, |fields| self.write(fields));
    }
}

/// The descriptor of a described list, and the list, whose elements are unread.
#[inline]
pub(crate) fn head<'a>(reader: &mut Reader<'a>) -> Result<(u64, List<'a>), DecodeError> {
    if let Some(head) = reader.small_list() {
        return Ok(head);
    }
    if reader.octet()? != code::DESCRIBED {
        return Err(DecodeError::NotDescribed);
    }
    // What is no number is skipped as a whole, so that its depth costs nothing.
    let descriptor = Reader::new(reader.span()?).shallow()?;
    let code = crate::descriptor::code(&descriptor).ok_or(DecodeError::Descriptor(0))?;
    match reader.shallow()? {
        Value::List(list) => Ok((code, list)),
        _ => Err(DecodeError::Content(crate::descriptor::name(code).unwrap_or("a described value"))),
    }
}

/// Appends a list of fields.
fn put_list(out: &mut Vec<u8>, write: impl FnOnce(&mut FieldWriter<'_>)) {
    let start = out.len();
    let mut count = 0;
    put_counted(out, code::LIST8, code::LIST32, |out| {
        let mut fields = FieldWriter { out, count: 0, nulls: 0 };
        write(&mut fields);
        count = fields.count;
        count
    });
    if count == 0 {
        out.truncate(start);
        out.push(code::LIST0);
    }
}

/// Why a value cannot be a field's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is of another type.
    Type,
    /// It is of the type, and not one of the values that the field may have.
    Value,
    /// It is of the type, and something within it is wrong.
    Within(DecodeError),
}

impl From<DecodeError> for Unfit {
    fn from(error: DecodeError) -> Self {
        Self::Within(error)
    }
}

/// What a field may be.
pub trait Field<'a>: Sized {
    /// Of a value that is not null.
    ///
    /// # Errors
    /// If it cannot be that.
    fn from_value(value: Value<'a>) -> Result<Self, Unfit>;

    /// Of what comes next, if that is such a value and written as most write it. Else nothing is read, and the value is
    /// read as any other.
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let _ = reader;
        None
    }

    /// Appends the value.
    fn put(&self, out: &mut Vec<u8>);
}

macro_rules! primitive_fields {
    ($($variant:ident => $type:ty),* $(,)?) => { $(
        impl<'a> Field<'a> for $type {
            #[inline]
            fn from_value(value: Value<'a>) -> Result<Self, Unfit> {
                if let Value::$variant(value) = value { Ok(value) } else { Err(Unfit::Type) }
            }

            #[inline]
            fn put(&self, out: &mut Vec<u8>) {
                put(out, *self);
            }
        }
    )* };
}

primitive_fields! {
    Ubyte => u8,
    Ushort => u16,
    Ulong => u64,
    Timestamp => Timestamp,
    Uuid => Uuid,
    String => &'a str,
    Symbol => Symbol<'a>,
}

/// Those of which most transfers consist are read and written straight away.
macro_rules! frequent_fields {
    ($($variant:ident => $type:ty, $read:ident, |$out:ident, $value:ident| $put:expr;)*) => { $(
        impl<'a> Field<'a> for $type {
            fn from_value(value: Value<'a>) -> Result<Self, Unfit> {
                if let Value::$variant(value) = value { Ok(value) } else { Err(Unfit::Type) }
            }

            #[inline]
            fn read(reader: &mut Reader<'a>) -> Option<Self> {
                reader.$read()
            }

            #[inline]
            fn put(&self, $out: &mut Vec<u8>) {
                let $value = *self;
                $put;
            }
        }
    )* };
}

frequent_fields! {
    Boolean => bool, small_boolean, |out, value| put_boolean(out, value);
    Uint => u32, uint, |out, number| put_uint(out, number);
    Binary => &'a [u8], small_binary, |out, bytes| put_bytes(out, (code::VBIN8, code::VBIN32), bytes);
}

impl<'a> Field<'a> for Value<'a> {
    fn from_value(value: Value<'a>) -> Result<Self, Unfit> {
        Ok(value)
    }

    fn put(&self, out: &mut Vec<u8>) {
        put(out, *self);
    }
}

/// The fields of a composite that is read.
#[derive(Debug)]
pub struct FieldReader<'a> {
    left: u32,
    reader: Reader<'a>,
    composite: &'static str,
}

impl<'a> FieldReader<'a> {
    /// The next field; `None` if it is absent.
    #[inline]
    pub(crate) fn optional<T: Field<'a>>(&mut self, field: &'static str) -> Result<Option<T>, DecodeError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        if self.reader.null() {
            return Ok(None);
        }
        if let Some(value) = T::read(&mut self.reader) {
            return Ok(Some(value));
        }
        let value = self.reader.value().map_err(|error| match error {
            DecodeError::Truncated => DecodeError::Count,
            other => other,
        })?;
        if matches!(value, Value::Null) {
            return Ok(None);
        }
        T::from_value(value).map(Some).map_err(|unfit| match unfit {
            Unfit::Type => DecodeError::FieldType { composite: self.composite, field },
            Unfit::Value => DecodeError::FieldValue { composite: self.composite, field },
            Unfit::Within(error) => error,
        })
    }

    /// The next field, which must be there.
    #[inline]
    pub(crate) fn mandatory<T: Field<'a>>(&mut self, field: &'static str) -> Result<T, DecodeError> {
        self.optional(field)?.ok_or(DecodeError::Missing { composite: self.composite, field })
    }

    /// The next field, or what counts where it is absent.
    #[inline]
    pub(crate) fn default<T: Field<'a>>(
        &mut self,
        field: &'static str,
        default: T,
    ) -> Result<T, DecodeError> {
        Ok(self.optional(field)?.unwrap_or(default))
    }

    fn finish(&self) -> Result<(), DecodeError> {
        if self.left > 0 {
            return Err(DecodeError::TooManyFields(self.composite));
        }
        if self.reader.is_empty() { Ok(()) } else { Err(DecodeError::Count) }
    }
}

/// The fields of a composite that is written.
#[derive(Debug)]
pub struct FieldWriter<'o> {
    out: &'o mut Vec<u8>,
    count: u32,
    /// Absent fields that are written only if another one follows.
    nulls: u32,
}

impl FieldWriter<'_> {
    #[inline]
    pub(crate) fn mandatory<'a, T: Field<'a>>(&mut self, field: &T) {
        while self.nulls > 0 {
            self.out.push(code::NULL);
            self.nulls -= 1;
            self.count += 1;
        }
        field.put(self.out);
        self.count += 1;
    }

    #[inline]
    pub(crate) fn optional<'a, T: Field<'a>>(&mut self, field: &Option<T>) {
        match field {
            Some(field) => self.mandatory(field),
            None => self.nulls += 1,
        }
    }

    #[inline]
    pub(crate) fn default<'a, T: Field<'a> + PartialEq>(&mut self, field: &T, default: &T) {
        if field == default {
            self.nulls += 1;
        } else {
            self.mandatory(field);
        }
    }
}

/// The descriptor's number and the list that it describes.
pub(crate) fn described_list(value: Value<'_>) -> Option<(u64, List<'_>)> {
    let Value::Described(described) = value else { return None };
    match (described.descriptor_code(), described.value()) {
        (Some(code), Value::List(list)) => Some((code, list)),
        _ => None,
    }
}
