//! The type system (part 1): values as they lie in their bytes.
//!
//! All numbers are big-endian.
//! ```text
//! value        constructor, data
//! constructor  u8 code | 00, descriptor (a value), constructor
//! data         by the code's upper half:
//!   4 nothing   5 one byte   6 two   7 four   8 eight   9 sixteen
//!   a u8 size, bytes     c u8 size, u8 count, values     e u8 size, u8 count, constructor, data*
//!   b u32 size, bytes    d u32 size, u32 count, values   f u32 size, u32 count, constructor, data*
//! ```
//! The sizes of lists, maps and arrays do not count themselves, but all that follows. The codes are in [`code`].
//!
//! *In:* [`Reader::value`] checks a value to its last byte, at every level, and borrows it; what lies in it is then
//! iterated without errors. *Out:* [`write::put`] writes the smallest encoding of a value; of what was borrowed, the
//! bytes as they came. [`ListBuilder`] and [`MapBuilder`] make lists and maps.
//!
//! *Limits:* values nest [`leveret_model::limits::VALUE_DEPTH_MAX`] deep; arrays within one value have together
//! [`FREE_ELEMENTS_MAX`] elements that take no bytes, so a value never has more parts than it has bytes but for those.
//! Nothing is allocated when reading.

pub mod code;
mod compound;
mod error;
mod read;
pub mod write;

pub use compound::{Array, Described, Elements, Items, List, Map, Pairs};
pub use error::DecodeError;
pub use read::Reader;
pub(crate) use read::SmallHead;
pub use write::{ListBuilder, MapBuilder, NotUniform};

use core::fmt;

/// How many elements that take no bytes all arrays in a value may have together. An array of a billion nulls has
/// a dozen bytes.
pub const FREE_ELEMENTS_MAX: usize = 4096;

/// A value, borrowed where it has a size of its own.
///
/// Two are equal if they are of the same type and say the same, however they are encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Nothing (1.6.1).
    Null,
    /// True or false (1.6.2).
    Boolean(bool),
    /// 8 bits (1.6.3).
    Ubyte(u8),
    /// 16 bits (1.6.4).
    Ushort(u16),
    /// 32 bits (1.6.5).
    Uint(u32),
    /// 64 bits (1.6.6).
    Ulong(u64),
    /// 8 bits with a sign (1.6.7).
    Byte(i8),
    /// 16 bits with a sign (1.6.8).
    Short(i16),
    /// 32 bits with a sign (1.6.9).
    Int(i32),
    /// 64 bits with a sign (1.6.10).
    Long(i64),
    /// IEEE 754 binary32 (1.6.11).
    Float(f32),
    /// IEEE 754 binary64 (1.6.12).
    Double(f64),
    /// IEEE 754 decimal32, as its bytes (1.6.13).
    Decimal32([u8; 4]),
    /// IEEE 754 decimal64, as its bytes (1.6.14).
    Decimal64([u8; 8]),
    /// IEEE 754 decimal128, as its bytes (1.6.15).
    Decimal128([u8; 16]),
    /// A Unicode character (1.6.16).
    Char(char),
    /// A point in time (1.6.17).
    Timestamp(Timestamp),
    /// A UUID (1.6.18).
    Uuid(Uuid),
    /// Bytes (1.6.19).
    Binary(&'a [u8]),
    /// UTF-8 (1.6.20).
    String(&'a str),
    /// ASCII, from a set that both sides know (1.6.21).
    Symbol(Symbol<'a>),
    /// Values of any types (1.6.22).
    List(List<'a>),
    /// Values by keys (1.6.23).
    Map(Map<'a>),
    /// Values of one type (1.6.24).
    Array(Array<'a>),
    /// A value with its descriptor (1.2).
    Described(Described<'a>),
}

impl<'a> Value<'a> {
    /// The text, if it is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The symbol, if it is one.
    #[must_use]
    pub fn as_symbol(&self) -> Option<Symbol<'a>> {
        if let Self::Symbol(symbol) = self { Some(*symbol) } else { None }
    }

    /// The type, as the specification names it; `described` where there is a descriptor.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean(_) => "boolean",
            Self::Ubyte(_) => "ubyte",
            Self::Ushort(_) => "ushort",
            Self::Uint(_) => "uint",
            Self::Ulong(_) => "ulong",
            Self::Byte(_) => "byte",
            Self::Short(_) => "short",
            Self::Int(_) => "int",
            Self::Long(_) => "long",
            Self::Float(_) => "float",
            Self::Double(_) => "double",
            Self::Decimal32(_) => "decimal32",
            Self::Decimal64(_) => "decimal64",
            Self::Decimal128(_) => "decimal128",
            Self::Char(_) => "char",
            Self::Timestamp(_) => "timestamp",
            Self::Uuid(_) => "uuid",
            Self::Binary(_) => "binary",
            Self::String(_) => "string",
            Self::Symbol(_) => "symbol",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Array(_) => "array",
            Self::Described(_) => "described",
        }
    }
}

/// A symbol: ASCII.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol<'a>(&'a str);

impl<'a> Symbol<'a> {
    /// `None` if it is not ASCII.
    #[must_use]
    pub const fn new(text: &'a str) -> Option<Self> {
        if text.is_ascii() { Some(Self(text)) } else { None }
    }

    /// A symbol that is written in the program.
    ///
    /// # Panics
    /// If it is not ASCII; at compile time, where it is a constant.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Symbol<'static> {
        assert!(text.is_ascii(), "a symbol is ASCII");
        Symbol(text)
    }

    pub(crate) fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        core::str::from_utf8(bytes).ok().and_then(Self::new)
    }

    /// Its text.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

impl fmt::Debug for Symbol<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ":{}", self.0)
    }
}

impl fmt::Display for Symbol<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// A UUID, as its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

macro_rules! into_value {
    ($($from:ty => $variant:ident),* $(,)?) => { $(
        impl<'a> From<$from> for Value<'a> {
            fn from(value: $from) -> Self {
                Self::$variant(value)
            }
        }
    )* };
}

into_value! {
    bool => Boolean,
    u8 => Ubyte,
    u16 => Ushort,
    u32 => Uint,
    u64 => Ulong,
    i8 => Byte,
    i16 => Short,
    i32 => Int,
    i64 => Long,
    f32 => Float,
    f64 => Double,
    char => Char,
    Timestamp => Timestamp,
    Uuid => Uuid,
    &'a [u8] => Binary,
    &'a str => String,
    Symbol<'a> => Symbol,
    List<'a> => List,
    Map<'a> => Map,
    Array<'a> => Array,
    Described<'a> => Described,
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
