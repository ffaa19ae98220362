//! Writing values: the smallest encoding of each.

use super::{Array, Described, List, Map, Value, code};
use alloc::vec::Vec;
use core::fmt;

/// Appends a value.
#[inline]
pub fn put<'a>(out: &mut Vec<u8>, value: impl Into<Value<'a>>) {
    let value = value.into();
    if let Value::Described(described) = value {
        put_encoded(out, &described);
        return;
    }
    let code = smallest(&value);
    out.push(code);
    put_data(out, code, &value);
}

/// Appends a descriptor with a number, as the specification's types have them; the value that it describes is to
/// follow.
#[inline]
pub fn put_descriptor(out: &mut Vec<u8>, descriptor: u64) {
    match u8::try_from(descriptor) {
        Ok(small) if small > 0 => out.extend_from_slice(&[code::DESCRIBED, code::SMALL_ULONG, small]),
        _ => {
            out.push(code::DESCRIBED);
            put(out, descriptor);
        }
    }
}

/// [`put`] of a `boolean`.
#[inline]
pub(crate) fn put_boolean(out: &mut Vec<u8>, value: bool) {
    out.push(if value { code::TRUE } else { code::FALSE });
}

/// [`put`] of a `uint`.
#[inline]
pub(crate) fn put_uint(out: &mut Vec<u8>, number: u32) {
    let [a, b, c, d] = number.to_be_bytes();
    match number {
        0 => out.push(code::UINT0),
        1..=255 => out.extend_from_slice(&[code::SMALL_UINT, d]),
        _ => out.extend_from_slice(&[code::UINT, a, b, c, d]),
    }
}

/// [`put`] of bytes, of the type that has these two codes.
#[inline]
pub(crate) fn put_bytes(out: &mut Vec<u8>, (small, large): (u8, u8), bytes: &[u8]) {
    match u8::try_from(bytes.len()) {
        Ok(length) => out.extend_from_slice(&[small, length]),
        Err(_) => {
            out.push(large);
            out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

fn put_encoded(out: &mut Vec<u8>, described: &Described<'_>) {
    out.push(code::DESCRIBED);
    out.extend_from_slice(described.descriptor);
    out.extend_from_slice(described.constructor);
    out.extend_from_slice(described.data);
}

/// An array can not have these elements: they are not all of one type and one descriptor, or have more than one
/// descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUniform;

impl fmt::Display for NotUniform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the elements of an array are not of one type")
    }
}

impl core::error::Error for NotUniform {}

/// Appends an array. Of the codes that take no bytes only that of `null` is written, because decoders are known that
/// do not read the others there; so it is for an array without elements.
///
/// # Errors
/// If they are not of one type; then nothing is appended.
pub fn put_array<'a>(
    out: &mut Vec<u8>,
    elements: impl Iterator<Item = Value<'a>> + Clone,
) -> Result<(), NotUniform> {
    let mut constructor: Option<(&[u8], u8)> = None;
    for element in elements.clone() {
        let (descriptor, value) = peel(element)?;
        let code = code::with_data(smallest(&value));
        constructor = match constructor {
            None => Some((descriptor, code)),
            Some((other, _)) if other != descriptor => return Err(NotUniform),
            Some((_, other)) => Some((descriptor, code::common(code, other).ok_or(NotUniform)?)),
        };
    }
    let (descriptor, code) = constructor.unwrap_or((&[], code::NULL));
    put_counted(out, code::ARRAY8, code::ARRAY32, |out| {
        if !descriptor.is_empty() {
            out.push(code::DESCRIBED);
            out.extend_from_slice(descriptor);
        }
        out.push(code);
        let mut count = 0;
        for element in elements {
            if let Ok((_, value)) = peel(element) {
                put_data(out, code, &value);
                count += 1;
            }
        }
        count
    });
    Ok(())
}

/// A value's descriptor, encoded, and what it describes.
fn peel(value: Value<'_>) -> Result<(&[u8], Value<'_>), NotUniform> {
    let Value::Described(described) = value else { return Ok((&[], value)) };
    match described.value() {
        Value::Described(_) => Err(NotUniform),
        inner => Ok((described.descriptor, inner)),
    }
}

/// The code of the smallest encoding.
fn smallest(value: &Value<'_>) -> u8 {
    match value {
        Value::Null => code::NULL,
        Value::Boolean(true) => code::TRUE,
        Value::Boolean(false) => code::FALSE,
        Value::Ubyte(_) => code::UBYTE,
        Value::Ushort(_) => code::USHORT,
        Value::Uint(0) => code::UINT0,
        Value::Uint(number) => either(u8::try_from(*number).is_ok(), code::SMALL_UINT, code::UINT),
        Value::Ulong(0) => code::ULONG0,
        Value::Ulong(number) => either(u8::try_from(*number).is_ok(), code::SMALL_ULONG, code::ULONG),
        Value::Byte(_) => code::BYTE,
        Value::Short(_) => code::SHORT,
        Value::Int(number) => either(i8::try_from(*number).is_ok(), code::SMALL_INT, code::INT),
        Value::Long(number) => either(i8::try_from(*number).is_ok(), code::SMALL_LONG, code::LONG),
        Value::Float(_) => code::FLOAT,
        Value::Double(_) => code::DOUBLE,
        Value::Decimal32(_) => code::DECIMAL32,
        Value::Decimal64(_) => code::DECIMAL64,
        Value::Decimal128(_) => code::DECIMAL128,
        Value::Char(_) => code::CHAR,
        Value::Timestamp(_) => code::TIMESTAMP,
        Value::Uuid(_) => code::UUID,
        Value::Binary(bytes) => either(is_small(bytes.len()), code::VBIN8, code::VBIN32),
        Value::String(text) => either(is_small(text.len()), code::STR8, code::STR32),
        Value::Symbol(symbol) => either(is_small(symbol.as_str().len()), code::SYM8, code::SYM32),
        Value::List(list) if list.is_empty() => code::LIST0,
        Value::List(List { count, items }) => {
            either(is_small_compound(*count, items.len()), code::LIST8, code::LIST32)
        }
        Value::Map(Map { count, items }) => {
            either(is_small_compound(*count, items.len()), code::MAP8, code::MAP32)
        }
        Value::Array(Array { count, constructor, items, .. }) => {
            let content_bytes = constructor.len() + items.len();
            either(is_small_compound(*count, content_bytes), code::ARRAY8, code::ARRAY32)
        }
        Value::Described(_) => code::DESCRIBED,
    }
}

fn either(is_small: bool, small: u8, large: u8) -> u8 {
    if is_small { small } else { large }
}

fn is_small(bytes: usize) -> bool {
    u8::try_from(bytes).is_ok()
}

/// Whether size and count each fit a byte; the size has the count's byte in it.
fn is_small_compound(count: u32, content_bytes: usize) -> bool {
    u8::try_from(count).is_ok() && content_bytes < 255
}

/// Appends the data of a value for a code of its type that can say it.
#[inline]
fn put_data(out: &mut Vec<u8>, code: u8, value: &Value<'_>) {
    match value {
        Value::Null | Value::Described(_) => {}
        Value::Boolean(boolean) => {
            if code == code::BOOLEAN {
                out.push(u8::from(*boolean));
            }
        }
        Value::Ubyte(number) => out.push(*number),
        Value::Byte(number) => out.push(number.cast_unsigned()),
        Value::Ushort(number) => out.extend_from_slice(&number.to_be_bytes()),
        Value::Short(number) => out.extend_from_slice(&number.to_be_bytes()),
        Value::Uint(number) => put_narrow(out, code, &number.to_be_bytes()),
        Value::Int(number) => put_narrow(out, code, &number.to_be_bytes()),
        Value::Ulong(number) => put_narrow(out, code, &number.to_be_bytes()),
        Value::Long(number) => put_narrow(out, code, &number.to_be_bytes()),
        Value::Float(number) => out.extend_from_slice(&number.to_be_bytes()),
        Value::Double(number) => out.extend_from_slice(&number.to_be_bytes()),
        Value::Decimal32(bytes) => out.extend_from_slice(bytes),
        Value::Decimal64(bytes) => out.extend_from_slice(bytes),
        Value::Decimal128(bytes) => out.extend_from_slice(bytes),
        Value::Char(character) => out.extend_from_slice(&u32::from(*character).to_be_bytes()),
        Value::Timestamp(time) => out.extend_from_slice(&time.0.to_be_bytes()),
        Value::Uuid(uuid) => out.extend_from_slice(&uuid.0),
        Value::Binary(bytes) => put_sized(out, code, None, &[bytes]),
        Value::String(text) => put_sized(out, code, None, &[text.as_bytes()]),
        Value::Symbol(symbol) => put_sized(out, code, None, &[symbol.as_str().as_bytes()]),
        Value::List(List { count, items }) | Value::Map(Map { count, items }) => {
            if code != code::LIST0 {
                put_sized(out, code, Some(*count), &[items]);
            }
        }
        Value::Array(array) => put_sized(out, code, Some(array.count), &[array.constructor, array.items]),
    }
}

/// The lowest bytes of a number, as many as its code has.
fn put_narrow(out: &mut Vec<u8>, code: u8, bytes: &[u8]) {
    let Some(code::Width::Fixed(width)) = code::width(code) else { return };
    out.extend_from_slice(bytes.get(bytes.len().saturating_sub(width)..).unwrap_or_default());
}

fn put_sized(out: &mut Vec<u8>, code: u8, count: Option<u32>, parts: &[&[u8]]) {
    let content_bytes: usize = parts.iter().map(|part| part.len()).sum();
    if code::width(code) == Some(code::Width::Sized8) {
        out.push(u8::try_from(content_bytes + usize::from(count.is_some())).unwrap_or(u8::MAX));
        out.extend(count.map(|count| u8::try_from(count).unwrap_or(u8::MAX)));
    } else {
        let size_bytes = content_bytes + if count.is_some() { 4 } else { 0 };
        out.extend_from_slice(&u32::try_from(size_bytes).unwrap_or(u32::MAX).to_be_bytes());
        out.extend(count.into_iter().flat_map(u32::to_be_bytes));
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Appends a list, a map or an array whose content `fill` appends, and of whose elements it says how many there are.
#[inline]
pub(crate) fn put_counted(out: &mut Vec<u8>, small: u8, large: u8, fill: impl FnOnce(&mut Vec<u8>) -> u32) {
    const SMALL_HEAD: usize = 3;
    let start = out.len();
    out.extend_from_slice(&[small, 0, 0]);
    let count = fill(out);
    let content_bytes = out.len() - start - SMALL_HEAD;
    if !is_small_compound(count, content_bytes) {
        return enlarge(out, (start, large), count, content_bytes);
    }
    let [_, _, _, count] = count.to_be_bytes();
    let size = u8::try_from(content_bytes + 1).unwrap_or(u8::MAX);
    if let Some([_, size_place, count_place]) = out.get_mut(start..start + SMALL_HEAD) {
        (*size_place, *count_place) = (size, count);
    }
}

/// Makes the head of a small compound value that of a large one.
#[cold]
fn enlarge(out: &mut Vec<u8>, (start, large): (usize, u8), count: u32, content_bytes: usize) {
    let size = u32::try_from(content_bytes + 4).unwrap_or(u32::MAX);
    let head = [large].into_iter().chain(size.to_be_bytes()).chain(count.to_be_bytes());
    drop(out.splice(start..start + 3, head));
}

/// A list in the making.
#[derive(Clone, Debug, Default)]
pub struct ListBuilder {
    count: u32,
    items: Vec<u8>,
}

impl ListBuilder {
    /// Without elements.
    #[must_use]
    pub const fn new() -> Self {
        Self { count: 0, items: Vec::new() }
    }

    /// Adds an element to the end.
    pub fn push<'a>(&mut self, value: impl Into<Value<'a>>) -> &mut Self {
        put(&mut self.items, value);
        self.count += 1;
        self
    }

    /// What it is so far.
    #[must_use]
    pub fn view(&self) -> List<'_> {
        List { count: self.count, items: &self.items }
    }
}

/// A map in the making. Who makes it sees to it that no key comes twice.
#[derive(Clone, Debug, Default)]
pub struct MapBuilder {
    count: u32,
    items: Vec<u8>,
}

impl MapBuilder {
    /// Without pairs.
    #[must_use]
    pub const fn new() -> Self {
        Self { count: 0, items: Vec::new() }
    }

    /// Adds a pair to the end.
    pub fn push<'k, 'v>(&mut self, key: impl Into<Value<'k>>, value: impl Into<Value<'v>>) -> &mut Self {
        put(&mut self.items, key);
        put(&mut self.items, value);
        self.count += 2;
        self
    }

    /// Adds a pair that is encoded already.
    pub(crate) fn push_encoded(&mut self, pair: &[u8]) {
        self.items.extend_from_slice(pair);
        self.count += 2;
    }

    /// What it is so far.
    #[must_use]
    pub fn view(&self) -> Map<'_> {
        Map { count: self.count, items: &self.items }
    }
}
