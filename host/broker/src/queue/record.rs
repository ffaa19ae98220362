//! A message as it lies in a queue's slab.
//!
//! ```text
//!  0  u32 LE  length of the record, this header included
//!  4  u8      flags: 01 settled, 02 redelivered, 04 the body is kept apart, 08 dead-lettered, 10 in the store,
//!             20 taken out of turn, 40 the time when it came is told, 80 it has a time to live of its own
//!  5  u8      form: which of the store's forms the properties are in; ff is no message but a gap
//!  6  u8      length of the exchange's name
//!  7  u8      length of the routing key
//!  8  u32 LE  length of the properties
//! 12  u32 LE  length of the body; 0 if it is kept apart
//! 16          with flag 40: u64 LE when it came, in milliseconds since 1970
//!             exchange, routing key, properties, body
//! ```
//!
//! A gap is a header alone, with flag 01, of which 8 to 16 say how many numbers are left out (u64 LE).

use super::slab::Stored;
use crate::{memory::LargeBody, origin::Origin};
use alloc::{sync::Arc, vec::Vec};
use leveret_model::{Form, MessageView};

/// The bytes before the exchange's name.
pub(super) const HEADER_BYTES: usize = 16;

const FLAGS_AT: usize = 4;
/// The message is settled: the record only takes up space.
pub(super) const SETTLED: u8 = 1;
/// The message was delivered before.
pub(super) const REDELIVERED: u8 = 2;
/// The body is in an allocation of its own.
pub(super) const APART: u8 = 4;
/// The message was dead-lettered: its headers tell of it, and the broker wrote them.
pub(super) const DEAD_LETTERED: u8 = 8;
/// The message is in the store too, or will be: that it is settled is to be told there.
pub(super) const KEPT: u8 = 16;
/// The message was taken while others before it were not.
pub(super) const TAKEN: u8 = 32;
/// The time when it came is in the record: it may expire.
pub(super) const TIMED: u8 = 64;
/// Its publisher said how long it may wait.
pub(super) const OWN_TTL: u8 = 128;

/// The form of what is no message: numbers that are not there. Always with [`SETTLED`].
const GAP: u8 = u8::MAX;
/// The bytes of the time when a message came.
const TIME_BYTES: usize = 8;

/// What a queue notes of a message that the message does not say.
#[derive(Clone, Copy, Default)]
pub(super) struct Marks {
    /// Of [`DEAD_LETTERED`], [`KEPT`], [`REDELIVERED`], [`APART`], [`TIMED`], [`OWN_TTL`].
    pub(super) flags: u8,
    /// With [`TIMED`]: when it came, in milliseconds since 1970.
    pub(super) came_ms: u64,
}

impl Marks {
    /// Flags alone.
    pub(super) fn of(flags: u8) -> Self {
        Self { flags, came_ms: 0 }
    }
}

/// The fixed part of a record.
#[derive(Clone, Copy)]
pub(super) struct Header {
    /// Of the whole record, in bytes.
    pub(super) length: usize,
    pub(super) flags: u8,
    pub(super) form: u8,
    exchange_length: u8,
    routing_key_length: u8,
    properties_length: u32,
    body_length: u32,
}

/// The variable part of a record.
pub(super) struct Fields<'a> {
    /// When the message came, in milliseconds since 1970, if that is told.
    pub(super) came_ms: Option<u64>,
    pub(super) exchange: &'a [u8],
    pub(super) routing_key: &'a [u8],
    pub(super) properties: &'a [u8],
    pub(super) body: &'a [u8],
}

/// How long the record of a message with these flags is, in bytes.
pub(super) fn length_bytes(message: &MessageView<'_>, flags: u8) -> usize {
    let body_bytes = if flags & APART != 0 { message.body.len() } else { 0 };
    let time_bytes = if flags & TIMED != 0 { TIME_BYTES } else { 0 };
    HEADER_BYTES + time_bytes + message.len_bytes() - body_bytes
}

/// Appends a record. Lengths were checked when the message was published.
pub(super) fn append(out: &mut Vec<u8>, message: &MessageView<'_>, form: u8, marks: Marks) {
    let flags = marks.flags;
    let body = if flags & APART != 0 { &[] } else { message.body };
    let length = length_bytes(message, flags);
    let mut header = [0; HEADER_BYTES];
    header[0..4].copy_from_slice(&(length as u32).to_le_bytes());
    header[4] = flags;
    header[5] = form;
    header[6] = message.exchange.len() as u8;
    header[7] = message.routing_key.len() as u8;
    header[8..12].copy_from_slice(&(message.properties.len() as u32).to_le_bytes());
    header[12..16].copy_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&header);
    if flags & TIMED != 0 {
        out.extend_from_slice(&marks.came_ms.to_le_bytes());
    }
    out.extend_from_slice(message.exchange);
    out.extend_from_slice(message.routing_key);
    out.extend_from_slice(message.properties);
    out.extend_from_slice(body);
}

/// Appends a gap of so many numbers.
pub(super) fn append_gap(out: &mut Vec<u8>, numbers: u64) {
    let mut header = [0; HEADER_BYTES];
    header[0..4].copy_from_slice(&(HEADER_BYTES as u32).to_le_bytes());
    header[4] = SETTLED;
    header[5] = GAP;
    header[8..16].copy_from_slice(&numbers.to_le_bytes());
    out.extend_from_slice(&header);
}

/// Reads the fixed part at an offset.
pub(super) fn header(bytes: &[u8], offset: usize) -> Option<Header> {
    let h: &[u8; HEADER_BYTES] = bytes.get(offset..)?.first_chunk()?;
    Some(Header {
        length: u32::from_le_bytes([h[0], h[1], h[2], h[3]]) as usize,
        flags: h[4],
        form: h[5],
        exchange_length: h[6],
        routing_key_length: h[7],
        properties_length: u32::from_le_bytes([h[8], h[9], h[10], h[11]]),
        body_length: u32::from_le_bytes([h[12], h[13], h[14], h[15]]),
    })
}

impl Header {
    /// How long the body in the record is; 0 if it is kept apart.
    pub(super) fn body_bytes(&self) -> u64 {
        self.body_length.into()
    }

    /// Whether nobody has taken it.
    #[inline]
    pub(super) fn is_untaken(&self) -> bool {
        self.flags & (SETTLED | TAKEN) == 0
    }

    /// How many numbers the record stands for.
    #[inline]
    pub(super) fn numbers(&self) -> u64 {
        if self.form != GAP {
            return 1;
        }
        u64::from(self.properties_length) | u64::from(self.body_length) << 32
    }
}

/// Reads the variable part of the record at an offset.
pub(super) fn fields(bytes: &[u8], offset: usize, header: Header) -> Option<Fields<'_>> {
    let rest = bytes.get(offset + HEADER_BYTES..offset + header.length)?;
    let (came_ms, rest) = match rest.split_first_chunk::<TIME_BYTES>() {
        Some((time, rest)) if header.flags & TIMED != 0 => (Some(u64::from_le_bytes(*time)), rest),
        _ => (None, rest),
    };
    let (exchange, rest) = rest.split_at_checked(usize::from(header.exchange_length))?;
    let (routing_key, rest) = rest.split_at_checked(usize::from(header.routing_key_length))?;
    let (properties, body) = rest.split_at_checked(header.properties_length as usize)?;
    debug_assert_eq!(body.len(), header.body_length as usize);
    Some(Fields { came_ms, exchange, routing_key, properties, body })
}

impl<'a> Stored<'a> {
    /// A message whose properties are in that form, and whose body is in its record unless it is kept apart.
    #[inline]
    pub(super) fn of(
        (header, fields): (Header, Fields<'a>),
        form: &'static dyn Form,
        apart: Option<&'a Arc<LargeBody>>,
    ) -> Self {
        let message = MessageView {
            exchange: fields.exchange,
            routing_key: fields.routing_key,
            form,
            properties: fields.properties,
            body: apart.map_or(fields.body, |body| body.as_bytes()),
            publisher: None,
        };
        Self {
            message,
            redelivered: header.flags & REDELIVERED != 0,
            dead_lettered: header.flags & DEAD_LETTERED != 0,
            apart,
            kept: header.flags & KEPT != 0,
            came_ms: fields.came_ms,
            has_own_ttl: header.flags & OWN_TTL != 0,
        }
    }
}

/// Sets flags of the record at an offset.
pub(super) fn set_flags(bytes: &mut [u8], offset: usize, flags: u8) {
    if let Some(place) = bytes.get_mut(offset + FLAGS_AT) {
        *place |= flags;
    }
}

/// What is said of a message that the broker itself publishes.
pub(super) fn flags_of(origin: Origin) -> u8 {
    let dead_lettered = if origin.dead_lettered { DEAD_LETTERED } else { 0 };
    dead_lettered | if origin.redelivered { REDELIVERED } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_amqp091::FORM;

    #[test]
    fn layout_is_the_documented_one() {
        let message = MessageView {
            exchange: b"ex",
            routing_key: b"k",
            form: FORM,
            properties: &[0xff, 0],
            body: b"body",
            publisher: None,
        };
        let mut out = Vec::new();
        append(&mut out, &message, 7, Marks::default());
        let mut expected = vec![25, 0, 0, 0, 0, 7, 2, 1, 2, 0, 0, 0, 4, 0, 0, 0];
        expected.extend(b"exk\xff\x00body");
        assert_eq!(out, expected);
        set_flags(&mut out, 0, REDELIVERED);
        let header = header(&out, 0).unwrap();
        assert_eq!((header.length, header.flags, header.form), (25, REDELIVERED, 7));
        let fields = fields(&out, 0, header).unwrap();
        assert_eq!((fields.exchange, fields.routing_key), (&b"ex"[..], &b"k"[..]));
        assert_eq!((fields.properties, fields.body), (&[0xff, 0][..], &b"body"[..]));
    }

    #[test]
    fn a_body_kept_apart_is_not_in_the_record() {
        let message = MessageView {
            exchange: b"",
            routing_key: b"q",
            form: FORM,
            properties: &[],
            body: b"large",
            publisher: None,
        };
        let mut out = Vec::new();
        append(&mut out, &message, 0, Marks::of(APART | DEAD_LETTERED));
        assert_eq!(out.len(), length_bytes(&message, APART));
        assert_eq!(header(&out, 0).map(|h| (h.length, h.flags)), Some((17, APART | DEAD_LETTERED)));
    }

    #[test]
    fn the_time_when_a_message_came_is_told_where_it_counts() {
        let message = MessageView {
            exchange: b"ex",
            routing_key: b"k",
            form: FORM,
            properties: &[0, 0],
            body: b"body",
            publisher: None,
        };
        let mut out = Vec::new();
        append(&mut out, &message, 0, Marks { flags: TIMED, came_ms: 1_700_000_000_123 });
        assert_eq!(out.len(), length_bytes(&message, TIMED));
        let fields = fields(&out, 0, header(&out, 0).unwrap()).unwrap();
        assert_eq!((fields.came_ms, fields.exchange), (Some(1_700_000_000_123), &b"ex"[..]));
        assert_eq!(fields.body, b"body");
    }

    #[test]
    fn a_gap_stands_for_its_numbers() {
        let mut out = Vec::new();
        append_gap(&mut out, (7 << 32) + 3);
        let gap = header(&out, 0).unwrap();
        assert_eq!((gap.length, gap.numbers(), gap.flags & SETTLED), (HEADER_BYTES, (7 << 32) + 3, SETTLED));
    }

    #[test]
    fn a_cut_record_is_none() {
        assert!(header(&[0; 15], 0).is_none());
        let message = MessageView {
            exchange: b"",
            routing_key: b"q",
            form: FORM,
            properties: &[],
            body: b"b",
            publisher: None,
        };
        let mut out = Vec::new();
        append(&mut out, &message, 0, Marks::default());
        let header = header(&out, 0).unwrap();
        assert!(fields(&out[..out.len() - 1], 0, header).is_none());
    }
}
