//! Reading values from bytes.

use super::{
    Array, DecodeError, Described, FREE_ELEMENTS_MAX, List, Map, Symbol, Timestamp, Uuid, Value,
    code::{self, Width},
};
use leveret_model::limits::VALUE_DEPTH_MAX;

/// Reads values from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
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

    /// The next value, checked at every level.
    ///
    /// # Errors
    /// If anything in it makes no sense, or it is beyond the limits that [`super`] states.
    #[inline]
    pub fn value(&mut self) -> Result<Value<'a>, DecodeError> {
        let value = self.shallow()?;
        if matches!(value, Value::List(_) | Value::Map(_) | Value::Array(_) | Value::Described(_)) {
            Check { free: FREE_ELEMENTS_MAX }.value(&value, VALUE_DEPTH_MAX)?;
        }
        Ok(value)
    }

    /// The next value as its bytes, unread. Whether it makes sense within is not looked at.
    ///
    /// # Errors
    /// If it is cut short.
    pub fn span(&mut self) -> Result<&'a [u8], DecodeError> {
        let before = self.rest;
        self.skip_value()?;
        Ok(self.since(before))
    }

    /// The next value; what lies in it is only known not to reach beyond it.
    pub(crate) fn shallow(&mut self) -> Result<Value<'a>, DecodeError> {
        let code = self.octet()?;
        if code == code::DESCRIBED { self.described().map(Value::Described) } else { self.primitive(code) }
    }

    /// A list that is described by a small number, if that is what comes, written as small as it can be: the number, and
    /// the list. Else nothing is read.
    #[inline]
    pub(crate) fn small_list(&mut self) -> Option<(u64, List<'a>)> {
        let [code::DESCRIBED, code::SMALL_ULONG, descriptor, rest @ ..] = self.rest else { return None };
        let (list, rest) = match rest {
            [code::LIST0, rest @ ..] => (List::EMPTY, rest),
            [code::LIST8, size, count, rest @ ..] if count < size => {
                let (items, rest) = rest.split_at_checked(usize::from(*size) - 1)?;
                (List { count: (*count).into(), items }, rest)
            }
            _ => return None,
        };
        self.rest = rest;
        Some(((*descriptor).into(), list))
    }

    /// A null, if that is what comes.
    #[inline]
    pub(crate) fn null(&mut self) -> bool {
        let [code::NULL, rest @ ..] = self.rest else { return false };
        self.rest = rest;
        true
    }

    /// A `boolean` without data, if that is what comes.
    #[inline]
    pub(crate) fn small_boolean(&mut self) -> Option<bool> {
        let (value, rest) = match self.rest {
            [code::TRUE, rest @ ..] => (true, rest),
            [code::FALSE, rest @ ..] => (false, rest),
            _ => return None,
        };
        self.rest = rest;
        Some(value)
    }

    /// A `uint`, if that is what comes.
    #[inline]
    pub(crate) fn uint(&mut self) -> Option<u32> {
        let (number, rest) = match self.rest {
            [code::UINT0, rest @ ..] => (0, rest),
            [code::SMALL_UINT, number, rest @ ..] => ((*number).into(), rest),
            [code::UINT, a, b, c, d, rest @ ..] => (u32::from_be_bytes([*a, *b, *c, *d]), rest),
            _ => return None,
        };
        self.rest = rest;
        Some(number)
    }

    /// A `binary` of at most 255 bytes, if that is what comes.
    #[inline]
    pub(crate) fn small_binary(&mut self) -> Option<&'a [u8]> {
        let [code::VBIN8, length, rest @ ..] = self.rest else { return None };
        let (bytes, rest) = rest.split_at_checked((*length).into())?;
        self.rest = rest;
        Some(bytes)
    }

    /// Behind a zero byte: a descriptor and what it describes.
    fn described(&mut self) -> Result<Described<'a>, DecodeError> {
        let descriptor = self.span()?;
        let (constructor, code) = self.constructor()?;
        let data = self.rest;
        self.data(code)?;
        Ok(Described { descriptor, constructor, data: self.since(data) })
    }

    /// A constructor as its bytes, and the code in which it ends.
    pub(crate) fn constructor(&mut self) -> Result<(&'a [u8], u8), DecodeError> {
        let before = self.rest;
        loop {
            match self.octet()? {
                code::DESCRIBED => self.skip_value()?,
                code => return Ok((self.since(before), code)),
            }
        }
    }

    /// The data of a primitive type, whose code was read.
    #[inline]
    pub(crate) fn primitive(&mut self, code: u8) -> Result<Value<'a>, DecodeError> {
        Ok(match code {
            code::NULL => Value::Null,
            code::TRUE => Value::Boolean(true),
            code::FALSE => Value::Boolean(false),
            code::UINT0 => Value::Uint(0),
            code::ULONG0 => Value::Ulong(0),
            code::LIST0 => Value::List(List::EMPTY),
            code::UBYTE => Value::Ubyte(self.octet()?),
            code::BYTE => Value::Byte(self.octet()?.cast_signed()),
            code::SMALL_UINT => Value::Uint(self.octet()?.into()),
            code::SMALL_ULONG => Value::Ulong(self.octet()?.into()),
            code::SMALL_INT => Value::Int(self.octet()?.cast_signed().into()),
            code::SMALL_LONG => Value::Long(self.octet()?.cast_signed().into()),
            code::BOOLEAN => match self.octet()? {
                0 => Value::Boolean(false),
                1 => Value::Boolean(true),
                other => return Err(DecodeError::Boolean(other)),
            },
            code::USHORT => Value::Ushort(u16::from_be_bytes(self.array()?)),
            code::SHORT => Value::Short(i16::from_be_bytes(self.array()?)),
            code::UINT => Value::Uint(u32::from_be_bytes(self.array()?)),
            code::INT => Value::Int(i32::from_be_bytes(self.array()?)),
            code::FLOAT => Value::Float(f32::from_be_bytes(self.array()?)),
            code::CHAR => {
                let number = u32::from_be_bytes(self.array()?);
                Value::Char(char::from_u32(number).ok_or(DecodeError::Char(number))?)
            }
            code::DECIMAL32 => Value::Decimal32(self.array()?),
            code::ULONG => Value::Ulong(u64::from_be_bytes(self.array()?)),
            code::LONG => Value::Long(i64::from_be_bytes(self.array()?)),
            code::DOUBLE => Value::Double(f64::from_be_bytes(self.array()?)),
            code::TIMESTAMP => Value::Timestamp(Timestamp(i64::from_be_bytes(self.array()?))),
            code::DECIMAL64 => Value::Decimal64(self.array()?),
            code::DECIMAL128 => Value::Decimal128(self.array()?),
            code::UUID => Value::Uuid(Uuid(self.array()?)),
            _ => self.sized(code)?,
        })
    }

    /// The data of a type whose values have a size in front.
    fn sized(&mut self, code: u8) -> Result<Value<'a>, DecodeError> {
        Ok(match code {
            code::VBIN8 | code::VBIN32 => Value::Binary(self.data(code)?),
            code::STR8 | code::STR32 => {
                Value::String(core::str::from_utf8(self.data(code)?).map_err(|_| DecodeError::Utf8)?)
            }
            code::SYM8 | code::SYM32 => {
                Value::Symbol(Symbol::from_bytes(self.data(code)?).ok_or(DecodeError::Ascii)?)
            }
            code::LIST8 | code::LIST32 => {
                let (count, items) = self.compound(code)?;
                Value::List(List { count, items })
            }
            code::MAP8 | code::MAP32 => {
                let (count, items) = self.compound(code)?;
                if count % 2 != 0 {
                    return Err(DecodeError::OddMap);
                }
                Value::Map(Map { count, items })
            }
            code::ARRAY8 | code::ARRAY32 => {
                let (count, rest) = self.counted(code)?;
                let mut content = Reader::new(rest);
                let (constructor, code) = content.constructor()?;
                Value::Array(Array { count, constructor, code, items: content.rest })
            }
            other => return Err(DecodeError::UnknownCode(other)),
        })
    }

    /// The count and the elements of a list or a map. Each has at least one byte.
    fn compound(&mut self, code: u8) -> Result<(u32, &'a [u8]), DecodeError> {
        let (count, items) = self.counted(code)?;
        if usize::try_from(count).is_ok_and(|count| count <= items.len()) {
            Ok((count, items))
        } else {
            Err(DecodeError::Count)
        }
    }

    /// The count, and what follows it within the size.
    fn counted(&mut self, code: u8) -> Result<(u32, &'a [u8]), DecodeError> {
        let mut content = Reader::new(self.data(code)?);
        let count = if code::width(code) == Some(Width::Sized8) {
            content.octet()?.into()
        } else {
            u32::from_be_bytes(content.array()?)
        };
        Ok((count, content.rest))
    }

    /// The data of a code, without its size.
    pub(crate) fn data(&mut self, code: u8) -> Result<&'a [u8], DecodeError> {
        match code::width(code).ok_or(DecodeError::UnknownCode(code))? {
            Width::Fixed(bytes) => self.take(bytes),
            Width::Sized8 => {
                let bytes = self.octet()?;
                self.take(bytes.into())
            }
            Width::Sized32 => {
                let bytes = u32::from_be_bytes(self.array()?);
                self.take(usize::try_from(bytes).map_err(|_| DecodeError::Truncated)?)
            }
        }
    }

    /// A zero byte is followed by two values: the descriptor, and what it describes.
    fn skip_value(&mut self) -> Result<(), DecodeError> {
        let mut values = 1_usize;
        while values > 0 {
            match self.octet()? {
                code::DESCRIBED => values += 1,
                code => {
                    self.data(code)?;
                    values -= 1;
                }
            }
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn octet(&mut self) -> Result<u8, DecodeError> {
        let (octet, rest) = self.rest.split_first().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*octet)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }

    #[inline]
    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// What was read of `before`, which is what was not read then.
    pub(crate) fn since(&self, before: &'a [u8]) -> &'a [u8] {
        before.get(..before.len() - self.rest.len()).unwrap_or_default()
    }
}

/// The head of a described value, written as small as it can be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SmallHead {
    /// The number that describes it.
    pub(crate) descriptor: u64,
    /// The code of the value.
    pub(crate) code: u8,
    /// How many bytes stand in front of the value's data: the descriptor, the code, the size.
    pub(crate) head_bytes: usize,
    /// How many bytes of data the head says that there are.
    pub(crate) data_bytes: usize,
}

impl SmallHead {
    /// Of what is in front; `None` if that is anything else, or has another descriptor within.
    #[inline]
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let [code::DESCRIBED, code::SMALL_ULONG, descriptor, code, rest @ ..] = bytes else { return None };
        let (size_bytes, data_bytes) = match (code::width(*code)?, rest) {
            (Width::Fixed(bytes), _) => (0, bytes),
            (Width::Sized8, [size, ..]) => (1, usize::from(*size)),
            (Width::Sized32, [a, b, c, d, ..]) => {
                (4, usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).ok()?)
            }
            _ => return None,
        };
        let descriptor = (*descriptor).into();
        Some(Self { descriptor, code: *code, head_bytes: 4 + size_bytes, data_bytes })
    }
}

/// Goes through everything that lies in a value.
struct Check {
    /// How many more elements may take no bytes.
    free: usize,
}

impl Check {
    /// `depth`: how many levels there may be within.
    fn value(&mut self, value: &Value<'_>, depth: usize) -> Result<(), DecodeError> {
        match value {
            Value::List(list) => self.items(list.count, list.items, within(depth)?),
            Value::Map(map) => self.items(map.count, map.items, within(depth)?),
            Value::Array(array) => self.array(array, within(depth)?),
            Value::Described(described) => {
                let depth = within(depth)?;
                self.value(&Reader::new(described.descriptor).shallow()?, depth)?;
                self.value(&described.read()?, depth)
            }
            _ => Ok(()),
        }
    }

    fn items(&mut self, count: u32, items: &[u8], depth: usize) -> Result<(), DecodeError> {
        let mut reader = Reader::new(items);
        for _ in 0..count {
            let value = reader.shallow().map_err(cut_is_count)?;
            self.value(&value, depth)?;
        }
        if reader.is_empty() { Ok(()) } else { Err(DecodeError::Count) }
    }

    /// All elements have one constructor, whose descriptors are looked at once.
    fn array(&mut self, array: &Array<'_>, depth: usize) -> Result<(), DecodeError> {
        let mut constructor = Reader::new(array.constructor);
        let mut depth = depth;
        while constructor.octet()? == code::DESCRIBED {
            depth = within(depth)?;
            self.value(&constructor.shallow()?, depth)?;
        }
        if code::width(array.code) == Some(Width::Fixed(0)) {
            let count = usize::try_from(array.count).unwrap_or(usize::MAX);
            self.free = self.free.checked_sub(count).ok_or(DecodeError::TooManyElements)?;
        }
        let mut reader = Reader::new(array.items);
        if array.count == 0 {
            // Its constructor has to be one all the same.
            code::width(array.code).ok_or(DecodeError::UnknownCode(array.code))?;
        }
        for _ in 0..array.count {
            let value = reader.primitive(array.code).map_err(cut_is_count)?;
            self.value(&value, depth)?;
        }
        if reader.is_empty() { Ok(()) } else { Err(DecodeError::Count) }
    }
}

fn within(depth: usize) -> Result<usize, DecodeError> {
    depth.checked_sub(1).ok_or(DecodeError::TooDeep)
}

/// An element that reaches beyond the list is a wrong size of the list.
fn cut_is_count(error: DecodeError) -> DecodeError {
    if error == DecodeError::Truncated { DecodeError::Count } else { error }
}
