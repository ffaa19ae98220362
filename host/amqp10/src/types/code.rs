//! Format codes of the primitive types (section 1.6), and what their upper half says of the size (section 1.2).

/// In front of a descriptor and the constructor of what it describes.
pub const DESCRIBED: u8 = 0x00;
/// `null`.
pub const NULL: u8 = 0x40;
/// `boolean` true, without data.
pub const TRUE: u8 = 0x41;
/// `boolean` false, without data.
pub const FALSE: u8 = 0x42;
/// `uint` 0, without data.
pub const UINT0: u8 = 0x43;
/// `ulong` 0, without data.
pub const ULONG0: u8 = 0x44;
/// `list` without elements.
pub const LIST0: u8 = 0x45;
/// `ubyte`.
pub const UBYTE: u8 = 0x50;
/// `byte`.
pub const BYTE: u8 = 0x51;
/// `uint` in one byte.
pub const SMALL_UINT: u8 = 0x52;
/// `ulong` in one byte.
pub const SMALL_ULONG: u8 = 0x53;
/// `int` in one byte.
pub const SMALL_INT: u8 = 0x54;
/// `long` in one byte.
pub const SMALL_LONG: u8 = 0x55;
/// `boolean` with a byte of data.
pub const BOOLEAN: u8 = 0x56;
/// `ushort`.
pub const USHORT: u8 = 0x60;
/// `short`.
pub const SHORT: u8 = 0x61;
/// `uint`.
pub const UINT: u8 = 0x70;
/// `int`.
pub const INT: u8 = 0x71;
/// `float`.
pub const FLOAT: u8 = 0x72;
/// `char`.
pub const CHAR: u8 = 0x73;
/// `decimal32`.
pub const DECIMAL32: u8 = 0x74;
/// `ulong`.
pub const ULONG: u8 = 0x80;
/// `long`.
pub const LONG: u8 = 0x81;
/// `double`.
pub const DOUBLE: u8 = 0x82;
/// `timestamp`.
pub const TIMESTAMP: u8 = 0x83;
/// `decimal64`.
pub const DECIMAL64: u8 = 0x84;
/// `decimal128`.
pub const DECIMAL128: u8 = 0x94;
/// `uuid`.
pub const UUID: u8 = 0x98;
/// `binary` of up to 255 bytes.
pub const VBIN8: u8 = 0xa0;
/// `string` of up to 255 bytes.
pub const STR8: u8 = 0xa1;
/// `symbol` of up to 255 bytes.
pub const SYM8: u8 = 0xa3;
/// `binary`.
pub const VBIN32: u8 = 0xb0;
/// `string`.
pub const STR32: u8 = 0xb1;
/// `symbol`.
pub const SYM32: u8 = 0xb3;
/// `list` of up to 255 bytes and elements.
pub const LIST8: u8 = 0xc0;
/// `map` of up to 255 bytes and elements.
pub const MAP8: u8 = 0xc1;
/// `list`.
pub const LIST32: u8 = 0xd0;
/// `map`.
pub const MAP32: u8 = 0xd1;
/// `array` of up to 255 bytes and elements.
pub const ARRAY8: u8 = 0xe0;
/// `array`.
pub const ARRAY32: u8 = 0xf0;

/// How the data behind a constructor is sized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// So many bytes.
    Fixed(usize),
    /// As many as the byte in front says.
    Sized8,
    /// As many as the four bytes in front say.
    Sized32,
}

/// The width of a code's data; `None` where no code can be. A code need not be known for it.
#[must_use]
#[inline]
pub fn width(code: u8) -> Option<Width> {
    Some(match code >> 4 {
        0x4 => Width::Fixed(0),
        0x5 => Width::Fixed(1),
        0x6 => Width::Fixed(2),
        0x7 => Width::Fixed(4),
        0x8 => Width::Fixed(8),
        0x9 => Width::Fixed(16),
        0xa | 0xc | 0xe => Width::Sized8,
        0xb | 0xd | 0xf => Width::Sized32,
        _ => return None,
    })
}

/// The encodings of a type, smallest first, where it has several.
const FAMILIES: [&[u8]; 11] = [
    &[TRUE, FALSE, BOOLEAN],
    &[UINT0, SMALL_UINT, UINT],
    &[ULONG0, SMALL_ULONG, ULONG],
    &[SMALL_INT, INT],
    &[SMALL_LONG, LONG],
    &[VBIN8, VBIN32],
    &[STR8, STR32],
    &[SYM8, SYM32],
    &[LIST0, LIST8, LIST32],
    &[MAP8, MAP32],
    &[ARRAY8, ARRAY32],
];

/// The code of the same type that has data for each value; itself where it has some, or where the type has none.
#[must_use]
pub(crate) fn with_data(code: u8) -> u8 {
    match code {
        TRUE | FALSE => BOOLEAN,
        UINT0 => SMALL_UINT,
        ULONG0 => SMALL_ULONG,
        LIST0 => LIST8,
        other => other,
    }
}

/// The smallest code that says what either says; `None` if they are of different types.
#[must_use]
pub(crate) fn common(one: u8, other: u8) -> Option<u8> {
    if one == other {
        return Some(one);
    }
    let family = FAMILIES.iter().find(|family| family.contains(&one) && family.contains(&other))?;
    let mut widest_first = family.iter().rev();
    widest_first.find(|code| **code == one || **code == other).copied()
}
