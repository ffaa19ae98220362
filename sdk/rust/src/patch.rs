//! Changes of a message, written as `wit/CONTRACT.md` lays them out under "Batches".
//!
//! ```text
//! 0 set header         length of name (u8), name, flat value
//! 1 remove header      length of name (u8), name
//! 2 set property       number (u8), flat value
//! 3 remove property    number (u8)
//! 4 set routing key    length (u8), key
//! 5 set body           length (u32 LE), body
//! ```

use crate::{
    Property, Value,
    message::{Field, Fields},
    value::Bytes,
};
use std::fmt;

const SET_HEADER: u8 = 0;
const REMOVE_HEADER: u8 = 1;
const SET_PROPERTY: u8 = 2;
const REMOVE_PROPERTY: u8 = 3;
const SET_ROUTING_KEY: u8 = 4;
const SET_BODY: u8 = 5;

/// Changes of a message, made in this order.
///
/// ```
/// # use leveret_sdk::{Patch, Property};
/// Patch::new().set_header("x-seen", true).remove_header("x-secret").set_property(Property::Priority, 3);
/// ```
/// A header's name or a routing key of more than 255 bytes fits no message: that change is left out.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Patch {
    number: u16,
    flat: Vec<u8>,
}

impl Patch {
    /// No changes.
    #[must_use]
    pub const fn new() -> Self {
        Self { number: 0, flat: Vec::new() }
    }

    /// Sets a header: in the place of the one of that name, or after the others.
    #[must_use]
    pub fn set_header<'v>(self, name: impl AsRef<[u8]>, value: impl Into<Value<'v>>) -> Self {
        self.named(SET_HEADER, name.as_ref(), |out| value.into().put_flat(out))
    }

    /// Removes a header.
    #[must_use]
    pub fn remove_header(self, name: impl AsRef<[u8]>) -> Self {
        self.named(REMOVE_HEADER, name.as_ref(), |_| {})
    }

    /// Sets a property.
    #[must_use]
    pub fn set_property<'v>(self, property: Property, value: impl Into<Value<'v>>) -> Self {
        self.change(SET_PROPERTY, |out| {
            out.push(property as u8);
            value.into().put_flat(out);
        })
    }

    /// Removes a property.
    #[must_use]
    pub fn remove_property(self, property: Property) -> Self {
        self.change(REMOVE_PROPERTY, |out| out.push(property as u8))
    }

    /// On publish and on dead-letter: the key it is routed by. On deliver: the key that the consumer
    /// sees.
    #[must_use]
    pub fn set_routing_key(self, key: impl AsRef<[u8]>) -> Self {
        self.named(SET_ROUTING_KEY, key.as_ref(), |_| {})
    }

    /// Sets the body. Needs the grant `modify-body`.
    #[must_use]
    pub fn set_body(self, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        match u32::try_from(body.len()) {
            Ok(length) => self.change(SET_BODY, |out| {
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(body);
            }),
            Err(_) => self,
        }
    }

    /// Whether there are no changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.number == 0
    }

    fn named(self, kind: u8, name: &[u8], put_more: impl FnOnce(&mut Vec<u8>)) -> Self {
        match u8::try_from(name.len()) {
            Ok(length) => self.change(kind, |out| {
                out.push(length);
                out.extend_from_slice(name);
                put_more(out);
            }),
            Err(_) => self,
        }
    }

    /// More changes than the contract can count are far more than the broker takes.
    fn change(mut self, kind: u8, put: impl FnOnce(&mut Vec<u8>)) -> Self {
        if let Some(number) = self.number.checked_add(1) {
            self.number = number;
            self.flat.push(kind);
            put(&mut self.flat);
        }
        self
    }

    /// Appends number and changes.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.flat);
    }

    pub(crate) fn changes(&self) -> Changes<'_> {
        Changes { bytes: Bytes(&self.flat), left: self.number }
    }
}

impl fmt::Debug for Patch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.changes()).finish()
    }
}

/// One change, read back.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change<'a> {
    SetHeader(Field<'a>),
    RemoveHeader(&'a [u8]),
    SetProperty(Property, Value<'a>),
    RemoveProperty(Property),
    SetRoutingKey(&'a [u8]),
    SetBody(&'a [u8]),
}

/// Changes in order; ends at the first byte that makes no sense.
#[derive(Clone, Copy)]
pub(crate) struct Changes<'a> {
    bytes: Bytes<'a>,
    left: u16,
}

impl<'a> Changes<'a> {
    /// So many changes from the front of these bytes.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn read(bytes: Bytes<'a>, number: u16) -> Self {
        Self { bytes, left: number }
    }

    /// What comes after the changes that were read.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn rest(self) -> Bytes<'a> {
        self.bytes
    }
}

impl<'a> Iterator for Changes<'a> {
    type Item = Change<'a>;

    fn next(&mut self) -> Option<Change<'a>> {
        self.left = self.left.checked_sub(1)?;
        let bytes = &mut self.bytes;
        let property = |number: u8| Property::ALL.get(usize::from(number)).copied();
        Some(match bytes.u8()? {
            SET_HEADER => {
                let mut fields = Fields::to_the_end_of(bytes.0);
                let field = fields.next()?;
                bytes.take(field.flat().len())?;
                Change::SetHeader(field)
            }
            REMOVE_HEADER => Change::RemoveHeader(bytes.short()?),
            SET_PROPERTY => Change::SetProperty(bytes.u8().and_then(property)?, bytes.value()?),
            REMOVE_PROPERTY => Change::RemoveProperty(bytes.u8().and_then(property)?),
            SET_ROUTING_KEY => Change::SetRoutingKey(bytes.short()?),
            SET_BODY => {
                let length = bytes.u32()?;
                Change::SetBody(bytes.take(length as usize)?)
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_the_documented_ones() {
        let patch = Patch::new()
            .set_header("h", true)
            .remove_header("gone")
            .set_property(Property::Priority, Value::Void)
            .remove_property(Property::AppId)
            .set_routing_key("k")
            .set_body("bo")
            .set_header("n".repeat(256), 1);
        let mut bytes = Vec::new();
        patch.put(&mut bytes);
        #[rustfmt::skip]
        let expected = [
            6, 0,
            0, 1, b'h', 0x01, 1,
            1, 4, b'g', b'o', b'n', b'e',
            2, 3, 0x00,
            3, 11,
            4, 1, b'k',
            5, 2, 0, 0, 0, b'b', b'o',
        ];
        assert_eq!(bytes, expected);
        let shown = format!("{patch:?}");
        assert_eq!(patch.changes().count(), 6, "{shown}");
        assert!(shown.contains("SetProperty(Priority, Void)"), "{shown}");
    }
}
