//! The encoded form of this protocol, as the rest of the broker reads it.
//!
//! The bytes read are those of [`crate::properties`]; those written are the flat values and the
//! header lists of `wit/CONTRACT.md`:
//! ```text
//! headers   u16 LE count, (u8 name length, name, flat value)*
//! ```
//!
//! A message with a header `BCC` lies in queues as it was sent, in a form of its own that shows it to nobody: so others pay
//! nothing for it, and a dead letter still knows the keys.

use crate::{
    expiration, more_keys, patch,
    properties::Properties,
    wire::{Field, Fields},
};
use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    string::String,
    vec::Vec,
};
use leveret_model::{Form, HeaderSelection, MoreKeys, Name, Patch, PatchError, Property, flat};

/// The form of AMQP 0-9-1.
pub static FORM: &dyn Form = &Amqp091;

/// The form of messages with keys that receivers do not see ([`more_keys::shown`]).
pub static HIDING: &dyn Form = &Hiding;

/// Up to so many headers or names a look through all of them is quicker than an index.
const SCAN_MAX: usize = 16;

struct Amqp091;

impl Form for Amqp091 {
    fn protocol(&self) -> &'static str {
        "amqp-0-9-1"
    }

    fn is_persistent(&self, properties: &[u8]) -> bool {
        Properties::new(properties).is_persistent()
    }

    fn ttl_ms(&self, properties: &[u8]) -> Result<Option<u64>, String> {
        // Bit 8 of the flags, which few messages have.
        if properties.first().is_none_or(|flags| flags & 1 == 0) {
            return Ok(None);
        }
        Properties::new(properties).string(Property::Expiration).map(expiration::parse).transpose()
    }

    fn priority(&self, properties: &[u8]) -> Option<u8> {
        match Properties::new(properties).get(Property::Priority) {
            Some(Field::Integer(priority)) => u8::try_from(priority).ok(),
            _ => None,
        }
    }

    fn more_keys(&self, properties: &[u8]) -> Result<Option<Box<MoreKeys>>, String> {
        more_keys::read(properties)
    }

    fn hiding(&self) -> Option<&'static dyn Form> {
        Some(HIDING)
    }

    fn empty(&self) -> &'static [u8] {
        crate::properties::NONE
    }

    fn put_headers(&self, properties: &[u8], selection: &HeaderSelection, out: &mut Vec<u8>) {
        let count_at = out.len();
        out.extend_from_slice(&[0; 2]);
        let mut list = HeaderList { out, count: 0 };
        match selection {
            HeaderSelection::None => {}
            HeaderSelection::All => put_all(Properties::new(properties).headers(), &mut list),
            HeaderSelection::Named(names) => {
                put_named(Properties::new(properties).headers(), names, &mut list)
            }
        }
        let count = list.count;
        if let Some(place) = out.get_mut(count_at..count_at + 2) {
            place.copy_from_slice(&count.to_le_bytes());
        }
    }

    fn put_property(&self, properties: &[u8], property: Property, out: &mut Vec<u8>) {
        match Properties::new(properties).get(property) {
            Some(field) => field.put_flat(out),
            None => out.push(flat::ABSENT),
        }
    }

    fn patch(&self, properties: &[u8], patch: &Patch, out: &mut Vec<u8>) -> Result<(), PatchError> {
        patch::patch(properties, patch, out)
    }
}

struct Hiding;

impl Form for Hiding {
    fn protocol(&self) -> &'static str {
        "amqp-0-9-1, hiding"
    }

    fn is_persistent(&self, properties: &[u8]) -> bool {
        FORM.is_persistent(properties)
    }

    fn ttl_ms(&self, properties: &[u8]) -> Result<Option<u64>, String> {
        FORM.ttl_ms(properties)
    }

    fn priority(&self, properties: &[u8]) -> Option<u8> {
        FORM.priority(properties)
    }

    fn more_keys(&self, properties: &[u8]) -> Result<Option<Box<MoreKeys>>, String> {
        FORM.more_keys(properties)
    }

    fn hiding(&self) -> Option<&'static dyn Form> {
        Some(HIDING)
    }

    fn empty(&self) -> &'static [u8] {
        FORM.empty()
    }

    fn put_headers(&self, properties: &[u8], selection: &HeaderSelection, out: &mut Vec<u8>) {
        FORM.put_headers(&more_keys::shown(properties), selection, out);
    }

    fn put_property(&self, properties: &[u8], property: Property, out: &mut Vec<u8>) {
        FORM.put_property(properties, property, out);
    }

    fn patch(&self, properties: &[u8], patch: &Patch, out: &mut Vec<u8>) -> Result<(), PatchError> {
        FORM.patch(properties, patch, out)
    }
}

struct HeaderList<'o> {
    out: &'o mut Vec<u8>,
    count: u16,
}

impl HeaderList<'_> {
    /// Appends a header, unless there are as many as can be counted.
    fn put(&mut self, name: &[u8], field: Field<'_>) {
        let (Some(count), Ok(length)) = (self.count.checked_add(1), u8::try_from(name.len())) else {
            return;
        };
        self.count = count;
        self.out.push(length);
        self.out.extend_from_slice(name);
        field.put_flat(self.out);
    }
}

/// Each name once: its first field.
fn put_all(headers: Fields<'_>, list: &mut HeaderList<'_>) {
    let mut ahead = headers;
    if ahead.nth(SCAN_MAX).is_some() {
        let mut seen = BTreeSet::new();
        headers.filter(|(name, _)| seen.insert(*name)).for_each(|(name, field)| list.put(name, field));
        return;
    }
    for (index, (name, field)) in headers.enumerate() {
        if !headers.take(index).any(|(earlier, _)| earlier == name) {
            list.put(name, field);
        }
    }
}

/// In the order of `names`.
fn put_named(headers: Fields<'_>, names: &[Name], list: &mut HeaderList<'_>) {
    if names.len() > SCAN_MAX {
        let mut index = BTreeMap::new();
        for (name, field) in headers {
            if let Entry::Vacant(place) = index.entry(name) {
                place.insert(field);
            }
        }
        for name in names {
            if let Some(field) = index.get(name.as_bytes()) {
                list.put(name, *field);
            }
        }
        return;
    }
    for name in names {
        let mut headers = headers;
        if let Some((name, field)) = headers.find(|(header, _)| *header == name.as_bytes()) {
            list.put(name, field);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        properties::{NONE, tests::FIXTURE},
        wire,
    };
    use alloc::{format, string::String, vec};

    fn headers(properties: &[u8], selection: &HeaderSelection) -> Vec<u8> {
        let mut out = Vec::new();
        FORM.put_headers(properties, selection, &mut out);
        out
    }

    fn with_headers(content: &[u8]) -> Vec<u8> {
        let mut properties = vec![0x20, 0];
        wire::put_longstr(&mut properties, content);
        properties
    }

    fn named(names: &[&'static str]) -> HeaderSelection {
        HeaderSelection::Named(names.iter().map(|name| Name::from_static(name)).collect())
    }

    #[test]
    fn headers_are_the_stored_bytes() {
        let a = b"\x01a\x02\x05\0\0\0\0\0\0\0".as_slice();
        let b = b"\x01b\x04\0\0\0\0".as_slice();
        assert_eq!(headers(FIXTURE, &HeaderSelection::All), [b"\x02\0", a, b].concat());
        assert_eq!(headers(FIXTURE, &HeaderSelection::None), [0, 0]);
        assert_eq!(headers(FIXTURE, &named(&["b", "no", "a"])), [b"\x02\0", b, a].concat());
        assert_eq!(headers(NONE, &HeaderSelection::All), [0, 0]);
        assert_eq!(headers(NONE, &named(&["a"])), [0, 0]);
    }

    #[test]
    fn of_equal_names_the_first_counts() {
        let properties = with_headers(b"\x01at\x01\x01bV\x01at\x00");
        assert_eq!(headers(&properties, &HeaderSelection::All), b"\x02\0\x01a\x01\x01\x01b\0");
        assert_eq!(headers(&properties, &named(&["a"])), b"\x01\0\x01a\x01\x01");
    }

    #[test]
    fn many_headers_and_many_names_give_the_same_as_few() {
        let mut content = Vec::new();
        for round in 0..2u8 {
            for i in 0..30 {
                wire::put_shortstr(&mut content, format!("h{i}").as_bytes());
                content.extend_from_slice(&[b't', 1 - round]);
            }
        }
        let properties = with_headers(&content);
        let mut expected = vec![30, 0];
        let mut names = Vec::new();
        for i in 0..30 {
            let name = format!("h{i}");
            wire::put_shortstr(&mut expected, name.as_bytes());
            expected.extend_from_slice(&[flat::BOOLEAN, 1]);
            names.push(Name::new(name.as_bytes()).unwrap());
        }
        assert_eq!(headers(&properties, &HeaderSelection::All), expected);
        names.push(Name::from_static("not-there"));
        assert_eq!(headers(&properties, &HeaderSelection::Named(names)), expected);
    }

    #[test]
    fn fields_become_flat_values_of_their_class() {
        let properties = with_headers(
            b"\x01aS\0\0\0\x01\xff\x01bx\0\0\0\x01b\x01cT\0\0\0\0\0\0\0\x02\x01dD\x01\0\0\0\x03",
        );
        let mut expected = b"\x04\0\x01a\x05\x01\0\0\0\xff\x01b\x05\x01\0\0\0b".to_vec();
        expected.extend_from_slice(b"\x01c\x06\xd0\x07\0\0\0\0\0\0");
        expected.extend_from_slice(b"\x01d\x0a\x01\x03\0\0\0\0\0\0\0");
        assert_eq!(headers(&properties, &HeaderSelection::All), expected);
    }

    #[test]
    fn properties_are_flat_values() {
        let put = |property| {
            let mut out = Vec::new();
            FORM.put_property(FIXTURE, property, &mut out);
            out
        };
        assert_eq!(put(Property::MessageId), b"\x04\x03\0\0\0mid");
        assert_eq!(put(Property::Priority), b"\x02\x09\0\0\0\0\0\0\0");
        assert_eq!(put(Property::Timestamp), b"\x06\x58\x1b\0\0\0\0\0\0");
        let mut out = Vec::new();
        FORM.put_property(NONE, Property::AppId, &mut out);
        assert_eq!(out, [flat::ABSENT]);
        assert_eq!(FORM.protocol(), String::from("amqp-0-9-1"));
    }
}
