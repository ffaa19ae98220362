//! Flat values: the bytes in which a value crosses the plugin boundary and keys the memo.
//!
//! ```text
//! 00 void                       06 timestamp  i64 LE, milliseconds since 1970
//! 01 boolean    u8              07 list       u32 LE bytes, values
//! 02 integer    i64 LE          08 map        u32 LE bytes, (key value, mapped value)*
//! 03 real       f64 LE          09 unsigned   u64 LE
//! 04 text       u32 LE, UTF-8   0a decimal    u8 scale, i64 LE unscaled
//! 05 binary     u32 LE, bytes   ff absent
//! ```
//!
//! The public description is `wit/CONTRACT.md`, "Flat values".

use crate::{Value, limits::VALUE_DEPTH_MAX};
use alloc::{string::String, vec::Vec};
use bytes::Bytes;

/// Tag of a field that is there without a value.
pub const VOID: u8 = 0x00;
/// Tag of a truth value.
pub const BOOLEAN: u8 = 0x01;
/// Tag of an integer that fits an `i64`.
pub const INTEGER: u8 = 0x02;
/// Tag of a float.
pub const REAL: u8 = 0x03;
/// Tag of a UTF-8 string.
pub const TEXT: u8 = 0x04;
/// Tag of any other string.
pub const BINARY: u8 = 0x05;
/// Tag of a point in time.
pub const TIMESTAMP: u8 = 0x06;
/// Tag of a list.
pub const LIST: u8 = 0x07;
/// Tag of a map.
pub const MAP: u8 = 0x08;
/// Tag of an integer above `i64::MAX`.
pub const UNSIGNED: u8 = 0x09;
/// Tag of a decimal.
pub const DECIMAL: u8 = 0x0a;
/// Tag that stands for a property that is not there.
pub const ABSENT: u8 = 0xff;

/// Appends an integer.
pub fn put_integer(out: &mut Vec<u8>, integer: i64) {
    out.push(INTEGER);
    out.extend_from_slice(&integer.to_le_bytes());
}

/// Appends an unsigned integer, as an integer where it fits.
pub fn put_unsigned(out: &mut Vec<u8>, integer: u64) {
    if let Ok(integer) = i64::try_from(integer) {
        put_integer(out, integer);
    } else {
        out.push(UNSIGNED);
        out.extend_from_slice(&integer.to_le_bytes());
    }
}

/// Appends a truth value.
pub fn put_boolean(out: &mut Vec<u8>, boolean: bool) {
    out.extend_from_slice(&[BOOLEAN, u8::from(boolean)]);
}

/// Appends a float.
pub fn put_real(out: &mut Vec<u8>, real: f64) {
    out.push(REAL);
    out.extend_from_slice(&real.to_le_bytes());
}

/// Appends a decimal.
pub fn put_decimal(out: &mut Vec<u8>, scale: u8, unscaled: i64) {
    out.extend_from_slice(&[DECIMAL, scale]);
    out.extend_from_slice(&unscaled.to_le_bytes());
}

/// Appends a point in time, in milliseconds since 1970.
pub fn put_timestamp(out: &mut Vec<u8>, milliseconds: i64) {
    out.push(TIMESTAMP);
    out.extend_from_slice(&milliseconds.to_le_bytes());
}

/// Appends a string: as text if it is UTF-8, else as binary.
pub fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    let tag = if core::str::from_utf8(bytes).is_ok() { TEXT } else { BINARY };
    put_sized(out, tag, bytes);
}

/// Appends bytes that are no string.
pub fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    put_sized(out, BINARY, bytes);
}

fn put_sized(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a list or a map ([`LIST`], [`MAP`]) whose content `fill` appends.
pub fn put_nested(out: &mut Vec<u8>, tag: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    fill(out);
    let length = u32::try_from(out.len() - length_at - 4).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(length_at..length_at + 4) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

/// Appends any value.
pub fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Void => out.push(VOID),
        Value::Boolean(boolean) => put_boolean(out, *boolean),
        Value::Integer(integer) => put_integer(out, *integer),
        Value::Unsigned(integer) => put_unsigned(out, *integer),
        Value::Real(real) => put_real(out, *real),
        Value::Decimal { scale, unscaled } => put_decimal(out, *scale, *unscaled),
        Value::Text(text) => put_string(out, text.as_bytes()),
        Value::Binary(bytes) => put_binary(out, bytes),
        Value::Timestamp(milliseconds) => put_timestamp(out, *milliseconds),
        Value::List(values) => put_nested(out, LIST, |out| values.iter().for_each(|v| put_value(out, v))),
        Value::Map(pairs) => put_nested(out, MAP, |out| {
            for (key, value) in pairs {
                put_value(out, key);
                put_value(out, value);
            }
        }),
    }
}

/// Takes a value from the front. `None` for [`ABSENT`], for what makes no sense, and for what nests
/// deeper than [`VALUE_DEPTH_MAX`].
#[must_use]
pub fn take_value(bytes: &mut &[u8]) -> Option<Value> {
    let mut any_number = usize::MAX;
    take_value_within(bytes, VALUE_DEPTH_MAX, &mut any_number)
}

/// [`take_value`] from somebody who is not trusted: a value in a list takes one byte there and forty here.
/// `left` is how many values there may be, and is lessened by those there were; `None` if they are more.
#[must_use]
pub fn take_value_of(bytes: &mut &[u8], left: &mut usize) -> Option<Value> {
    take_value_within(bytes, VALUE_DEPTH_MAX, left)
}

fn take_value_within(bytes: &mut &[u8], depth: usize, left: &mut usize) -> Option<Value> {
    *left = left.checked_sub(1)?;
    let [tag] = take_array(bytes)?;
    Some(match tag {
        VOID => Value::Void,
        BOOLEAN => Value::Boolean(take_array::<1>(bytes)? != [0]),
        INTEGER => Value::Integer(i64::from_le_bytes(take_array(bytes)?)),
        REAL => Value::Real(f64::from_le_bytes(take_array(bytes)?)),
        TEXT => Value::Text(String::from(core::str::from_utf8(take_sized(bytes)?).ok()?)),
        BINARY => Value::Binary(Bytes::copy_from_slice(take_sized(bytes)?)),
        TIMESTAMP => Value::Timestamp(i64::from_le_bytes(take_array(bytes)?)),
        LIST => {
            let (mut nested, depth) = (take_sized(bytes)?, depth.checked_sub(1)?);
            let mut values = Vec::new();
            while !nested.is_empty() {
                values.push(take_value_within(&mut nested, depth, left)?);
            }
            Value::List(values)
        }
        MAP => {
            let (mut nested, depth) = (take_sized(bytes)?, depth.checked_sub(1)?);
            let mut pairs = Vec::new();
            while !nested.is_empty() {
                let key = take_value_within(&mut nested, depth, left)?;
                pairs.push((key, take_value_within(&mut nested, depth, left)?));
            }
            Value::Map(pairs)
        }
        UNSIGNED => Value::Unsigned(u64::from_le_bytes(take_array(bytes)?)),
        DECIMAL => {
            let [scale] = take_array(bytes)?;
            Value::Decimal { scale, unscaled: i64::from_le_bytes(take_array(bytes)?) }
        }
        _ => return None,
    })
}

fn take_array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

fn take_sized<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(u32::from_le_bytes(take_array(bytes)?)).ok()?;
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn values_are_counted_before_there_is_room_for_them() {
        let mut list = vec![LIST, 10, 0, 0, 0];
        list.extend([VOID; 10]);
        for (allowed, taken) in [(11, true), (10, false), (0, false)] {
            assert_eq!(take_value_of(&mut &*list, &mut { allowed }).is_some(), taken, "{allowed}");
        }
        let mut left = 12;
        assert!(take_value_of(&mut &*list, &mut left).is_some());
        assert_eq!(left, 1);
    }

    #[test]
    fn a_value_is_read_back_and_a_cut_one_is_none() {
        let value = Value::List(vec![
            Value::Void,
            Value::Boolean(true),
            Value::Integer(-2),
            Value::Unsigned(u64::MAX),
            Value::Real(1.5),
            Value::Decimal { scale: 2, unscaled: -7 },
            Value::Text(String::from("hi")),
            Value::Binary(Bytes::from_static(&[0xff])),
            Value::Timestamp(-3),
            Value::Map(vec![(Value::Text(String::from("k")), Value::List(vec![]))]),
        ]);
        let mut out = Vec::new();
        put_value(&mut out, &value);
        let mut rest = out.as_slice();
        assert_eq!(take_value(&mut rest), Some(value));
        assert!(rest.is_empty());
        for end in 0..out.len() {
            assert_eq!(take_value(&mut &out[..end]), None, "cut at {end}");
        }
        assert_eq!(take_value(&mut [ABSENT].as_slice()), None);
    }

    #[test]
    fn reading_stops_at_the_depth_limit() {
        let nested = |depth: usize| {
            let mut out = Vec::new();
            put_value(&mut out, &(0..depth).fold(Value::Void, |value, _| Value::List(vec![value])));
            take_value(&mut out.as_slice())
        };
        assert!(nested(VALUE_DEPTH_MAX).is_some());
        assert_eq!(nested(VALUE_DEPTH_MAX + 1), None);
    }

    #[test]
    fn layout_is_the_documented_one() {
        let value = Value::List(vec![
            Value::Void,
            Value::Integer(-2),
            Value::Text(String::from("hi")),
            Value::Map(vec![(Value::Text(String::from("k")), Value::Boolean(true))]),
        ]);
        let mut out = Vec::new();
        put_value(&mut out, &value);
        let mut expected = vec![0x07, 30, 0, 0, 0, 0x00];
        expected.extend([0x02, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        expected.extend([0x04, 2, 0, 0, 0, b'h', b'i']);
        expected.extend([0x08, 8, 0, 0, 0, 0x04, 1, 0, 0, 0, b'k', 0x01, 0x01]);
        assert_eq!(out, expected);
    }

    #[test]
    fn strings_that_are_not_utf8_are_binary_and_large_integers_unsigned() {
        let mut out = Vec::new();
        put_string(&mut out, &[0xff]);
        put_unsigned(&mut out, 7);
        put_unsigned(&mut out, u64::MAX);
        assert_eq!(out.first(), Some(&BINARY));
        assert_eq!(out.get(6), Some(&INTEGER));
        assert_eq!(out.get(15), Some(&UNSIGNED));
    }
}
