//! A message as an exchange declared to read it, read in place.
//!
//! The bytes are a projection as `wit/CONTRACT.md` lays it out under "Batches":
//!
//! ```text
//! if the routing key is read:   length (u16 LE), key
//! if headers are read:          number (u16 LE), then for each: length of name (u8), name, flat value
//! for each property read:       flat value, or ff
//! if the body is read:          length (u32 LE), body; or ffffffff where it is longer than the limit
//! ```

use crate::{
    Property, Reads, Value,
    reads::HeaderSelection,
    value::{ABSENT, Bytes},
};

/// A message on its way. Looking something up walks the bytes; nothing is copied.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    reads: &'a Reads,
    routing_key: &'a [u8],
    /// What comes after the routing key.
    rest: Bytes<'a>,
}

impl<'a> Message<'a> {
    #[inline]
    pub(crate) fn new(reads: &'a Reads, projection: &'a [u8]) -> Self {
        let mut rest = Bytes(projection);
        let mut routing_key: &[u8] = &[];
        if reads.routing_key
            && let Some(length) = rest.u16()
        {
            routing_key = rest.take(usize::from(length)).unwrap_or_default();
        }
        Self { reads, routing_key, rest }
    }

    /// The routing key; empty unless it is read.
    #[inline]
    #[must_use]
    pub fn routing_key(&self) -> &'a [u8] {
        self.routing_key
    }

    /// The headers that are read and there. Named ones come in the order in which
    /// [`Reads`] names them.
    #[must_use]
    pub fn headers(&self) -> Fields<'a> {
        self.headers_and_rest().0
    }

    /// A header; none unless it is read and there.
    pub fn header(&self, name: impl AsRef<[u8]>) -> Option<Value<'a>> {
        self.headers().find(|field| field.name() == name.as_ref()).and_then(|field| field.value())
    }

    /// A property; none unless it is read and there.
    #[must_use]
    pub fn property(&self, property: Property) -> Option<Value<'a>> {
        let position = self.reads.properties.iter().position(|p| *p == property)?;
        let mut bytes = self.after_headers();
        for _ in 0..position {
            bytes.flat()?;
        }
        bytes.value()
    }

    /// The body; none unless it is read and within the limit.
    #[must_use]
    pub fn body(&self) -> Option<&'a [u8]> {
        self.reads.body_bytes_max?;
        let mut bytes = self.after_headers();
        for _ in &self.reads.properties {
            bytes.flat()?;
        }
        let length = bytes.u32().filter(|length| *length != u32::MAX)?;
        bytes.take(length as usize)
    }

    #[inline]
    fn headers_and_rest(&self) -> (Fields<'a>, Bytes<'a>) {
        let mut bytes = self.rest;
        let left = if self.reads.headers == HeaderSelection::None { 0 } else { bytes.u16().unwrap_or(0) };
        (Fields { bytes, left: usize::from(left) }, bytes)
    }

    fn after_headers(&self) -> Bytes<'a> {
        let (mut headers, rest) = self.headers_and_rest();
        if headers.left == 0 {
            return rest;
        }
        headers.by_ref().for_each(drop);
        headers.bytes
    }
}

/// Named values, in order; ends at the first byte that makes no sense.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    bytes: Bytes<'a>,
    left: usize,
}

impl<'a> Fields<'a> {
    pub(crate) fn to_the_end_of(flat: &'a [u8]) -> Self {
        Self { bytes: Bytes(flat), left: usize::MAX }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Field<'a>> {
        self.left = self.left.checked_sub(1)?;
        let whole = self.bytes.0;
        let name_length = self.bytes.u8()?;
        let name = self.bytes.take(usize::from(name_length))?;
        let flat_value = self.bytes.flat()?;
        let flat = whole.get(..1 + name.len() + flat_value.len())?;
        Some(Field { flat, name, flat_value })
    }
}

/// A named value: a header or an argument.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    flat: &'a [u8],
    name: &'a [u8],
    flat_value: &'a [u8],
}

impl<'a> Field<'a> {
    /// Its name.
    #[inline]
    #[must_use]
    pub fn name(&self) -> &'a [u8] {
        self.name
    }

    /// Its value.
    #[must_use]
    pub fn value(&self) -> Option<Value<'a>> {
        Value::from_flat(self.flat_value)
    }

    /// The bytes of its value in the flat layout. Two values are the same, class included, where
    /// these are.
    #[inline]
    #[must_use]
    pub fn flat_value(&self) -> &'a [u8] {
        self.flat_value
    }

    /// The bytes of name and value: length of the name (one byte), the name, the flat value. Two
    /// fields are the same where these are, which makes them a key to look bindings up by.
    #[inline]
    #[must_use]
    pub fn flat(&self) -> &'a [u8] {
        self.flat
    }
}

/// Appends a field; nothing where the name does not fit. Says whether it did.
pub(crate) fn put_field(out: &mut Vec<u8>, name: &[u8], put_value: impl FnOnce(&mut Vec<u8>)) -> bool {
    let Ok(length) = u8::try_from(name.len()) else {
        return false;
    };
    out.push(length);
    out.extend_from_slice(name);
    put_value(out);
    true
}

/// Appends a routing key as a projection begins with it.
pub(crate) fn put_routing_key(out: &mut Vec<u8>, key: &[u8]) {
    out.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(key);
}

/// Appends headers: their number, then what `fill` appends, which returns how many those are.
pub(crate) fn put_headers(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>) -> u16) {
    let number_at = out.len();
    out.extend_from_slice(&[0; 2]);
    let number = fill(out);
    if let Some(place) = out.get_mut(number_at..number_at + 2) {
        place.copy_from_slice(&number.to_le_bytes());
    }
}

/// Appends a property that is not there.
pub(crate) fn put_absent(out: &mut Vec<u8>) {
    out.push(ABSENT);
}

/// Appends the body, or the mark of one that is too long to pass.
pub(crate) fn put_body(out: &mut Vec<u8>, body: Option<&[u8]>) {
    match body.map(|body| (u32::try_from(body.len()), body)) {
        Some((Ok(length), body)) => {
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(body);
        }
        _ => out.extend_from_slice(&u32::MAX.to_le_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads_everything() -> Reads {
        let reads = Reads::nothing().routing_key().all_headers().body_up_to_bytes(10);
        reads.property(Property::Priority).property(Property::AppId)
    }

    /// The layout of the header comment, by hand.
    const PROJECTION: &[u8] = &[
        2, 0, b'r', b'k', // routing key
        2, 0, // two headers
        1, b'a', 0x04, 1, 0, 0, 0, b'x', // a = "x"
        2, b'b', b'b', 0x01, 1, // bb = true
        0x02, 9, 0, 0, 0, 0, 0, 0, 0,    // priority 9
        0xff, // no app-id
        3, 0, 0, 0, b'o', b'n', b'e', // body
    ];

    #[test]
    fn a_projection_is_read_in_place() {
        let reads = reads_everything();
        let message = Message::new(&reads, PROJECTION);
        assert_eq!(message.routing_key(), b"rk");
        assert_eq!(message.header("a"), Some(Value::Text("x")));
        assert_eq!(message.header(b"bb"), Some(Value::Boolean(true)));
        assert_eq!(message.header("c"), None);
        assert_eq!(message.property(Property::Priority), Some(Value::Integer(9)));
        assert_eq!(message.property(Property::AppId), None);
        assert_eq!(message.property(Property::UserId), None);
        assert_eq!(message.body(), Some(&b"one"[..]));
        let fields: Vec<_> = message.headers().map(|field| field.flat().len()).collect();
        assert_eq!(fields, [8, 5]);
    }

    #[test]
    fn what_is_not_read_is_not_there() {
        let reads = Reads::nothing();
        let message = Message::new(&reads, &[]);
        assert_eq!(message.routing_key(), b"");
        assert_eq!(message.headers().count(), 0);
        assert_eq!(message.property(Property::Priority), None);
        assert_eq!(message.body(), None);
    }

    #[test]
    fn a_body_over_the_limit_is_not_there() {
        let reads = Reads::nothing().body_up_to_bytes(10);
        assert_eq!(Message::new(&reads, &[0xff; 4]).body(), None);
        assert_eq!(Message::new(&reads, &[0; 4]).body(), Some(&[][..]));
    }

    #[test]
    fn a_projection_cut_anywhere_never_panics() {
        let reads = reads_everything();
        for end in 0..PROJECTION.len() {
            let message = Message::new(&reads, &PROJECTION[..end]);
            assert!(message.routing_key().len() <= 2);
            assert!(message.headers().count() <= 2);
            assert_eq!(message.property(Property::AppId), None);
            assert_eq!(message.body(), None);
        }
    }
}
