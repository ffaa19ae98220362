//! A message as it is kept, and as the rest of the broker reads it.
//!
//! ```text
//! properties  header? message-annotations? properties? application-properties? data-head? footer?
//! body        after a data-head the content of that data section; else the sections of the body, as they came
//! data-head   00, descriptor (75), the code and the length of the content; there where the body is one data section
//! ```
//! All parts are encoded as they came, so what a receiver of the same protocol gets is put together without encoding
//! anything anew ([`give`]), and the bare message is the same byte for byte. What plugins and the other protocols see
//! is in `project`; what patches change, in `patch`.

pub mod address;
mod give;
pub mod large;
mod parts;
mod patch;
mod project;
#[cfg(test)]
mod tests;

pub use give::{Giving, Head, give, give_around};
pub use parts::Kept;
pub use project::model_value;

use crate::{
    message::{Body, Message},
    types::Value,
};
use alloc::{boxed::Box, format, string::String, vec::Vec};
use leveret_model::{Form, HeaderSelection, MoreKeys, Name, Patch, PatchError, Property};
use parts::{Parts, annotations_of, header_fields_max, header_of};

/// What this protocol is called ([`Form::protocol`]), also to plugins.
pub(crate) const PROTOCOL: &str = "amqp-1-0";

/// The form of AMQP 1.0.
pub static FORM: &dyn Form = &Amqp10;

/// The most bytes that patched properties may have.
pub const PROPERTIES_BYTES_MAX: usize = 1024 * 1024;

/// The properties of a message that has none, and whose body is the content of a data section.
pub const NONE: &[u8] = &[0x00, 0x53, 0x75, 0xb0, 0, 0, 0, 0];

struct Amqp10;

impl Form for Amqp10 {
    fn protocol(&self) -> &'static str {
        PROTOCOL
    }

    fn put_headers(&self, properties: &[u8], selection: &HeaderSelection, out: &mut Vec<u8>) {
        project::put_headers(properties, selection, out);
    }

    fn put_property(&self, properties: &[u8], property: Property, out: &mut Vec<u8>) {
        project::put_property(properties, property, out);
    }

    fn is_persistent(&self, properties: &[u8]) -> bool {
        header_fields_max(properties) >= 1 && header_of(properties).durable == Some(true)
    }

    fn ttl_ms(&self, properties: &[u8]) -> Result<Option<u64>, String> {
        if header_fields_max(properties) < 3 {
            return Ok(None);
        }
        Ok(header_of(properties).ttl.map(u64::from))
    }

    fn priority(&self, properties: &[u8]) -> Option<u8> {
        if header_fields_max(properties) < 2 { None } else { header_of(properties).priority }
    }

    fn more_keys(&self, properties: &[u8]) -> Result<Option<Box<MoreKeys>>, String> {
        let Some(value) = annotations_of(properties).get("x-cc") else { return Ok(None) };
        let Value::List(list) = value else {
            return Err(format!("x-cc is of type {}, not a list of strings", value.type_name()));
        };
        let mut keys = Vec::new();
        for key in list.iter() {
            let wrong = || format!("x-cc has a value of type {}, not strings alone", key.type_name());
            let key = key.as_str().ok_or_else(wrong)?;
            if key.len() <= Name::BYTES_MAX {
                keys.push(Box::from(key.as_bytes()));
            }
        }
        Ok(Some(Box::new(MoreKeys { told: keys.len(), keys, hides: false })))
    }

    fn empty(&self) -> &'static [u8] {
        NONE
    }

    fn frames_body(&self) -> bool {
        true
    }

    fn tells_failures(&self) -> bool {
        true
    }

    fn touches_signed(&self, properties: &[u8], patch: &Patch) -> bool {
        patch::touches_bare(&Parts::of(properties), patch)
    }

    fn patch(&self, properties: &[u8], patch: &Patch, out: &mut Vec<u8>) -> Result<(), PatchError> {
        patch::patch(properties, patch, out)
    }
}

/// The type of AMQP 0-9-1 that the properties of a kept message say, whatever its body is.
#[must_use]
pub fn said_type(properties: &[u8]) -> Option<&str> {
    Parts::of(properties).annotations().get(project::BASIC_TYPE).and_then(|value| value.as_str())
}

/// The content of several data sections, which are kept as they came, one behind the other; `None` of any other body.
#[must_use]
pub fn joined_data(properties: &[u8], body: &[u8]) -> Option<Vec<u8>> {
    if !Parts::of(properties).data_head.is_empty() || !is_body(body) {
        return None;
    }
    let Body::Data(sections) = Message::new(body).ok()?.body() else { return None };
    Some(sections.data().flatten().copied().collect())
}

/// Whether bytes are the sections of a body, as they are kept of a message whose body is more than one data section.
#[must_use]
pub fn is_body(bytes: &[u8]) -> bool {
    Message::new(bytes).is_ok_and(|message| {
        let layout = message.layout();
        layout.bare().len() == bytes.len() && layout.body.is_some_and(|body| body.span.len() == bytes.len())
    })
}
