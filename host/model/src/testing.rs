//! The form of the messages in this room's tests.

use crate::{Form, HeaderSelection, Patch, PatchError, Property};
use alloc::vec::Vec;

/// It says nothing but its bytes, and of all messages that they are persistent.
pub(crate) struct Bare;

impl Form for Bare {
    fn protocol(&self) -> &'static str {
        "bare"
    }
    fn put_headers(&self, _: &[u8], _: &HeaderSelection, _: &mut Vec<u8>) {}
    fn put_property(&self, _: &[u8], _: Property, _: &mut Vec<u8>) {}
    fn is_persistent(&self, _: &[u8]) -> bool {
        true
    }
    fn empty(&self) -> &'static [u8] {
        b""
    }
    fn patch(&self, properties: &[u8], _: &Patch, out: &mut Vec<u8>) -> Result<(), PatchError> {
        out.extend_from_slice(properties);
        Ok(())
    }
}
