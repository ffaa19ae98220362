//! Changes of headers and properties, made in the encoded form: what is not changed is copied as it
//! lies there, integer widths, order and repeated names included.
//!
//! *In:* properties as [`crate::properties`] lays them out, and a [`Patch`]. *Out:* the same with the
//! changes made. New values are written as [`wire::put_field`] writes them: integers as `l`, reals
//! as `d`, strings as `S`, points in time as `T` (in seconds).
//!
//! *Invariants:* the outcome passes [`crate::properties::check`], whatever bytes came in, as long as
//! the headers that are kept do. It is never longer than [`PROPERTIES_BYTES_MAX`], but where it was before and does not
//! grow.

use crate::{
    properties::{self, CONTINUED, HEADERS},
    wire::{self, Reader},
};
use alloc::{vec, vec::Vec};
use leveret_model::{Name, Patch, PatchError, Property, Value, limits::VALUE_DEPTH_MAX, patch::HeaderChange};

/// The most bytes that patched properties may have, flags included. A content header is one frame
/// (section 4.2.6.1): so many fit the largest that a session agrees to, beside the class, the weight
/// and the length of the body (12 bytes) and the frame's own 8.
pub const PROPERTIES_BYTES_MAX: usize = 131_072 - 12 - 8;

/// Appends properties with the patch's changes made; all or nothing but for what was appended to
/// `out`.
pub(crate) fn patch(properties: &[u8], patch: &Patch, out: &mut Vec<u8>) -> Result<(), PatchError> {
    if patch.keeps_properties() {
        out.extend_from_slice(properties);
        return Ok(());
    }
    let start = out.len();
    let mut reader = Reader::new(properties);
    let flags = reader.short().unwrap_or_default() & !CONTINUED;
    out.extend_from_slice(&[0; 2]);
    let mut patched = flags & !properties::DEFINED;
    // Where the rest makes no sense, it is as if it were not there.
    let mut whole = true;
    for bit in (2..16).rev() {
        let before = reader.rest();
        let mut span = None;
        if whole && flags & (1 << bit) != 0 {
            whole = properties::skip(&mut reader, bit).is_ok();
            span = before.get(..before.len() - reader.rest().len()).filter(|_| whole);
        }
        let written = if bit == HEADERS {
            patch_headers(span, patch, out)?
        } else {
            patch_property(bit, span, patch, out)?
        };
        if written {
            patched |= 1 << bit;
        }
    }
    if let Some(place) = out.get_mut(start..start + 2) {
        place.copy_from_slice(&patched.to_be_bytes());
    }
    let bytes = out.len() - start;
    if bytes > PROPERTIES_BYTES_MAX.max(properties.len()) {
        return Err(PatchError::TooLarge { bytes, bytes_max: PROPERTIES_BYTES_MAX });
    }
    Ok(())
}

/// Appends one property other than the headers; false if there is none.
fn patch_property(
    bit: u32,
    span: Option<&[u8]>,
    patch: &Patch,
    out: &mut Vec<u8>,
) -> Result<bool, PatchError> {
    let change = properties::of_flag(bit)
        .and_then(|property| patch.property(property).map(|change| (property, change)));
    match change {
        None => out.extend_from_slice(span.unwrap_or_default()),
        Some((_, None)) => return Ok(false),
        Some((property, Some(value))) => {
            put_property(property, value, out)?;
            return Ok(true);
        }
    }
    Ok(span.is_some())
}

fn put_property(property: Property, value: &Value, out: &mut Vec<u8>) -> Result<(), PatchError> {
    let unfit = |why| PatchError::PropertyValue { property, why };
    match (property, value) {
        (Property::DeliveryMode | Property::Priority, Value::Integer(integer)) => {
            out.push(u8::try_from(*integer).map_err(|_| unfit("it is not between 0 and 255"))?);
        }
        (Property::Timestamp, Value::Timestamp(milliseconds)) => {
            let milliseconds = u64::try_from(*milliseconds).map_err(|_| unfit("it is before 1970"))?;
            out.extend_from_slice(&(milliseconds / 1000).to_be_bytes());
        }
        (Property::DeliveryMode | Property::Priority | Property::Timestamp, _) => {
            return Err(PatchError::PropertyClass { property, class: value.class() });
        }
        (_, Value::Text(text)) => put_string(text.as_bytes(), out).ok_or(unfit(TOO_LONG))?,
        (_, Value::Binary(bytes)) => put_string(bytes, out).ok_or(unfit(TOO_LONG))?,
        _ => return Err(PatchError::PropertyClass { property, class: value.class() }),
    }
    Ok(())
}

const TOO_LONG: &str = "it has more than 255 bytes";

fn put_string(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if bytes.len() > Name::BYTES_MAX {
        return None;
    }
    wire::put_shortstr(out, bytes);
    Some(())
}

/// Appends the headers with their length; false if there are none. `span` is the table with its
/// length.
fn patch_headers(span: Option<&[u8]>, patch: &Patch, out: &mut Vec<u8>) -> Result<bool, PatchError> {
    if patch.headers().is_empty() {
        out.extend_from_slice(span.unwrap_or_default());
        return Ok(span.is_some());
    }
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    let mut written = vec![false; patch.headers().len()];
    let content = span.and_then(|span| span.get(4..)).unwrap_or_default();
    let mut reader = Reader::new(content);
    while !reader.is_empty() {
        let before = reader.rest();
        let (Ok(name), Ok(_)) = (reader.shortstr(), reader.field()) else { break };
        let place = patch.header_place(name);
        let change = place.and_then(|place| Some((patch.headers().get(place)?, written.get_mut(place)?)));
        match change {
            None => out.extend_from_slice(before.get(..before.len() - reader.rest().len()).unwrap_or(before)),
            Some((change, written)) if !change.to_end && !*written => {
                *written = true;
                put_header(change, out)?;
            }
            Some(_) => {}
        }
    }
    for (change, written) in patch.headers().iter().zip(written) {
        if !written {
            put_header(change, out)?;
        }
    }
    let length = out.len() - length_at - 4;
    if length == 0 && (span.is_none() || !content.is_empty()) {
        out.truncate(length_at);
        return Ok(false);
    }
    let Ok(length) = u32::try_from(length) else {
        return Err(PatchError::TooLarge { bytes: length, bytes_max: PROPERTIES_BYTES_MAX });
    };
    if let Some(place) = out.get_mut(length_at..length_at + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    Ok(true)
}

/// Appends a header that is set; nothing for one that goes.
fn put_header(change: &HeaderChange, out: &mut Vec<u8>) -> Result<(), PatchError> {
    let Some(value) = &change.value else {
        return Ok(());
    };
    check_value(value, VALUE_DEPTH_MAX)
        .map_err(|why| PatchError::Header { name: change.name.clone(), why })?;
    wire::put_shortstr(out, &change.name);
    wire::put_field(out, value);
    Ok(())
}

/// Whether a value is read back as it is written.
fn check_value(value: &Value, depth: usize) -> Result<(), &'static str> {
    const TOO_DEEP: &str = "it nests too deep";
    match value {
        Value::Unsigned(_) => Err("an integer above 2^63 - 1 has no encoding"),
        Value::Decimal { unscaled, .. } if u32::try_from(*unscaled).is_err() => {
            Err("the digits of a decimal are not between 0 and 2^32 - 1")
        }
        Value::Timestamp(milliseconds) if *milliseconds < 0 => Err("it is before 1970"),
        Value::List(values) => {
            let depth = depth.checked_sub(1).ok_or(TOO_DEEP)?;
            values.iter().try_for_each(|value| check_value(value, depth))
        }
        Value::Map(pairs) => {
            let depth = depth.checked_sub(1).ok_or(TOO_DEEP)?;
            pairs.iter().try_for_each(|(key, value)| {
                let name = match key {
                    Value::Text(text) => text.as_bytes(),
                    Value::Binary(bytes) => bytes,
                    _ => return Err("a key of a table is no string"),
                };
                if name.len() > Name::BYTES_MAX {
                    return Err("a key of a table has more than 255 bytes");
                }
                check_value(value, depth)
            })
        }
        Value::Void
        | Value::Boolean(_)
        | Value::Integer(_)
        | Value::Real(_)
        | Value::Decimal { .. }
        | Value::Text(_)
        | Value::Binary(_)
        | Value::Timestamp(_) => Ok(()),
    }
}
