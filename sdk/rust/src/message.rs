//! A message as it was declared to be read, read in place.
//!
//! The bytes are a projection as `wit/CONTRACT.md` lays it out under "Batches":
//!
//! ```text
//! if the routing key is read:   length (u16 LE), key
//! if headers are read:          number (u16 LE), then for each: length of name (u8), name, flat value
//! for each property read:       flat value, or ff
//! if the body is read:          length (u32 LE), body; or ffffffff where it is longer than the limit
//! if the publisher is read:     length (u8), user; length (u16 LE), connection; length (u8), protocol
//! if the exchange is read:      length (u8), name
//! if the queue is read:         length (u8), name
//! if the reason is read:        length (u8), reason
//! ```

use crate::{Property, Reads, Value, reads::HeaderSelection, value::Bytes};
use std::fmt;

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
    #[track_caller]
    pub fn routing_key(&self) -> &'a [u8] {
        if !self.reads.routing_key {
            undeclared(format_args!("the routing key"), format_args!("routing_key()"));
        }
        self.routing_key
    }

    /// The headers that are read and there. Named ones come in the order in which
    /// [`Reads`] names them.
    #[inline]
    #[must_use]
    #[track_caller]
    pub fn headers(&self) -> Fields<'a> {
        if matches!(self.reads.headers, HeaderSelection::None) {
            undeclared(format_args!("headers"), format_args!("all_headers()"));
        }
        self.headers_and_rest().0
    }

    /// A header; none unless it is read and there.
    #[track_caller]
    pub fn header(&self, name: impl AsRef<[u8]>) -> Option<Value<'a>> {
        let name = name.as_ref();
        let (mut headers, _) = self.headers_and_rest();
        let Some(field) = headers.find(|field| field.name() == name) else {
            if !self.reads.headers.has(name) {
                let shown = name.escape_ascii();
                undeclared(format_args!("the header \"{shown}\""), format_args!("header(\"{shown}\")"));
            }
            return None;
        };
        field.value()
    }

    /// A property; none unless it is read and there.
    #[must_use]
    #[track_caller]
    pub fn property(&self, property: Property) -> Option<Value<'a>> {
        let Some(position) = self.reads.properties.iter().position(|p| *p == property) else {
            undeclared(
                format_args!("the property {property:?}"),
                format_args!("property(Property::{property:?})"),
            );
            return None;
        };
        let mut bytes = self.after_headers();
        for _ in 0..position {
            bytes.flat()?;
        }
        bytes.value()
    }

    /// The body; none unless it is read and within the limit.
    #[must_use]
    #[track_caller]
    pub fn body(&self) -> Option<&'a [u8]> {
        if self.reads.body.is_none() {
            undeclared(format_args!("the body"), format_args!("body(…, Above::…)"));
            return None;
        }
        let mut bytes = self.after_properties()?;
        let length = bytes.u32().filter(|length| *length != u32::MAX)?;
        bytes.take(length as usize)
    }

    /// Who published it; none unless it is read, and for a message that the broker or a plugin
    /// published.
    #[must_use]
    #[track_caller]
    pub fn publisher(&self) -> Option<Publisher<'a>> {
        if !self.reads.publisher {
            undeclared(format_args!("the publisher"), format_args!("publisher()"));
            return None;
        }
        let (publisher, _) = self.publisher_and_rest()?;
        (publisher != Publisher::default()).then_some(publisher)
    }

    /// The exchange it was published to; empty unless it is read.
    #[must_use]
    #[track_caller]
    pub fn exchange(&self) -> &'a [u8] {
        self.name_after_publisher(0).unwrap_or_default()
    }

    /// The queue it comes from; empty unless it is read, which interceptors can on deliver and on
    /// dead-letter.
    #[must_use]
    #[track_caller]
    pub fn queue(&self) -> &'a [u8] {
        self.name_after_publisher(1).unwrap_or_default()
    }

    /// Why it is dead-lettered: `rejected`, `expired`, `maxlen`, `delivery_limit`; empty unless it is
    /// read, which interceptors can on dead-letter.
    #[must_use]
    #[track_caller]
    pub fn reason(&self) -> &'a str {
        self.name_after_publisher(2).and_then(|reason| std::str::from_utf8(reason).ok()).unwrap_or_default()
    }

    #[inline]
    fn headers_and_rest(&self) -> (Fields<'a>, Bytes<'a>) {
        let mut bytes = self.rest;
        let left = if self.reads.headers.is_any() { bytes.u16().unwrap_or(0) } else { 0 };
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

    fn after_properties(&self) -> Option<Bytes<'a>> {
        let mut bytes = self.after_headers();
        for _ in &self.reads.properties {
            bytes.flat()?;
        }
        Some(bytes)
    }

    fn publisher_and_rest(&self) -> Option<(Publisher<'a>, Bytes<'a>)> {
        let mut bytes = self.after_properties()?;
        if self.reads.body.is_some() {
            let length = bytes.u32()?;
            if length != u32::MAX {
                bytes.take(length as usize)?;
            }
        }
        if !self.reads.publisher {
            return Some((Publisher::default(), bytes));
        }
        let publisher = Publisher {
            user: text(bytes.short()?),
            connection: text(bytes.u16().and_then(|length| bytes.take(usize::from(length)))?),
            protocol: text(bytes.short()?),
        };
        Some((publisher, bytes))
    }

    /// The name at this place of exchange, queue and reason.
    #[track_caller]
    fn name_after_publisher(&self, wanted: usize) -> Option<&'a [u8]> {
        let reads = [self.reads.exchange, self.reads.queue, self.reads.reason];
        if !*reads.get(wanted)? {
            let name = ["exchange", "queue", "reason"].get(wanted)?;
            undeclared(format_args!("the {name}"), format_args!("{name}()"));
            return None;
        }
        let (_, mut bytes) = self.publisher_and_rest()?;
        for _ in reads.iter().take(wanted).filter(|is_read| **is_read) {
            bytes.short()?;
        }
        bytes.short()
    }
}

/// What is not declared is not there. In a test of the plugin that is a failure.
#[track_caller]
#[inline]
fn undeclared(what: fmt::Arguments<'_>, declaration: fmt::Arguments<'_>) {
    #[cfg(not(target_family = "wasm"))]
    crate::testkit::undeclared::read(what, declaration);
    #[cfg(target_family = "wasm")]
    let _ = (what, declaration);
}

/// Who published a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Publisher<'a> {
    /// The user's name.
    pub user: &'a str,
    /// The connection's name, as in the management API.
    pub connection: &'a str,
    /// `amqp-0-9-1`, `amqp-1-0`, …
    pub protocol: &'a str,
}

/// The broker sends these as UTF-8 and nothing else.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
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

    #[inline(always)]
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

impl fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {:?}", String::from_utf8_lossy(self.name), self.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Above;

    fn reads_everything() -> Reads {
        let reads = Reads::nothing().routing_key().all_headers().body(10, Above::Absent);
        let reads = reads.property(Property::Priority).property(Property::AppId);
        reads.publisher().exchange().queue().reason()
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
        2, b'm', b'e', 1, 0, b'c', 1, b'p', // user, connection, protocol
        2, b'e', b'x', 1, b'q', 3, b'w', b'h', b'y', // exchange, queue, reason
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
        let publisher = Publisher { user: "me", connection: "c", protocol: "p" };
        assert_eq!(message.publisher(), Some(publisher));
        assert_eq!((message.exchange(), message.queue(), message.reason()), (&b"ex"[..], &b"q"[..], "why"));
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
        assert_eq!(message.publisher(), None);
        assert_eq!((message.exchange(), message.queue(), message.reason()), (&b""[..], &b""[..], ""));
    }

    #[test]
    fn what_comes_after_a_body_that_is_not_there_is_read() {
        let reads = Reads::nothing().body(1, Above::Absent).publisher().queue();
        let message = Message::new(&reads, &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1, b'q']);
        assert_eq!((message.body(), message.publisher(), message.queue()), (None, None, &b"q"[..]));
    }

    #[test]
    fn a_body_over_the_limit_is_not_there() {
        let reads = Reads::nothing().body(10, Above::Absent);
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
            assert!(message.body().is_none_or(|body| body == b"one"));
            assert!(message.publisher().is_none_or(|publisher| publisher.user == "me"));
            assert_eq!(message.reason(), "");
        }
    }
}
