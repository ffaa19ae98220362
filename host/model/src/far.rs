//! Messages whose body is in a file, and read from there in windows: what stands for the body in memory and on disk.
//!
//! Such a message has a [`Far`] form, which says of its properties what the near one does, and its body is a [`Stub`]. So
//! it goes the way of any message, as a small one; who wants the bytes asks the store for them. It is told apart by
//! [`MessageView::far`], at the cost of a comparison of lengths for all others.

use crate::{Form, HeaderSelection, MessageView, MoreKeys, OwnedMessage, Patch, PatchError, Property};
use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};
use bytes::Bytes;
use core::any::Any;

/// How long an encoded [`Stub`] is.
pub const STUB_BYTES: usize = 37;

const VERSION: u8 = 1;

/// What stands for a body that is a part of a file.
///
/// ```text
///  0  u8      version, 1
///  1  u64 LE  number of the file      9  u64 LE  its length
/// 17  u32 LE  its checksum           21  u64 LE  where the body begins in it
/// 29  u64 LE  where the body ends
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stub {
    /// The file.
    pub number: u64,
    /// How long the file is.
    pub file_bytes: u64,
    /// The checksum of the file.
    pub check: u32,
    /// Where the body begins in it.
    pub start: u64,
    /// Where the body ends.
    pub end: u64,
}

impl Stub {
    /// As it stands where a body would.
    #[must_use]
    pub fn encode(&self) -> [u8; STUB_BYTES] {
        let mut bytes = [VERSION; STUB_BYTES];
        bytes[1..9].copy_from_slice(&self.number.to_le_bytes());
        bytes[9..17].copy_from_slice(&self.file_bytes.to_le_bytes());
        bytes[17..21].copy_from_slice(&self.check.to_le_bytes());
        bytes[21..29].copy_from_slice(&self.start.to_le_bytes());
        bytes[29..37].copy_from_slice(&self.end.to_le_bytes());
        bytes
    }

    /// Reads what stands where a body would; `None` if that is no such thing.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (file_bytes, rest) = rest.split_first_chunk()?;
        let (check, rest) = rest.split_first_chunk()?;
        let (start, rest) = rest.split_first_chunk()?;
        let (end, rest) = rest.split_first_chunk()?;
        let stub = Self {
            number: u64::from_le_bytes(*number),
            file_bytes: u64::from_le_bytes(*file_bytes),
            check: u32::from_le_bytes(*check),
            start: u64::from_le_bytes(*start),
            end: u64::from_le_bytes(*end),
        };
        let is_part = stub.start <= stub.end && stub.end <= stub.file_bytes;
        (*version == VERSION && rest.is_empty() && is_part).then_some(stub)
    }

    /// How long the body is.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        self.end - self.start
    }
}

/// The form of messages whose properties have another form, the near one, and whose body is far.
pub struct Far {
    near: &'static dyn Form,
    protocol: &'static str,
}

impl Far {
    /// `protocol` is no other form's.
    #[must_use]
    pub const fn new(near: &'static dyn Form, protocol: &'static str) -> Self {
        Self { near, protocol }
    }
}

impl Form for Far {
    fn protocol(&self) -> &'static str {
        self.protocol
    }

    fn near(&self) -> Option<&'static dyn Form> {
        Some(self.near)
    }

    fn put_headers(&self, properties: &[u8], selection: &HeaderSelection, out: &mut Vec<u8>) {
        self.near.put_headers(properties, selection, out);
    }

    fn put_property(&self, properties: &[u8], property: Property, out: &mut Vec<u8>) {
        self.near.put_property(properties, property, out);
    }

    fn is_persistent(&self, properties: &[u8]) -> bool {
        self.near.is_persistent(properties)
    }

    fn ttl_ms(&self, properties: &[u8]) -> Result<Option<u64>, String> {
        self.near.ttl_ms(properties)
    }

    fn priority(&self, properties: &[u8]) -> Option<u8> {
        self.near.priority(properties)
    }

    fn more_keys(&self, properties: &[u8]) -> Result<Option<Box<MoreKeys>>, String> {
        self.near.more_keys(properties)
    }

    fn empty(&self) -> &'static [u8] {
        self.near.empty()
    }

    fn frames_body(&self) -> bool {
        self.near.frames_body()
    }

    fn tells_failures(&self) -> bool {
        self.near.tells_failures()
    }

    fn touches_signed(&self, properties: &[u8], patch: &Patch) -> bool {
        self.near.touches_signed(properties, patch)
    }

    fn patch(&self, properties: &[u8], patch: &Patch, out: &mut Vec<u8>) -> Result<(), PatchError> {
        self.near.patch(properties, patch, out)
    }
}

/// A stub, and what holds on to its file.
struct Held {
    stub: Bytes,
    _by: Arc<dyn Any + Send + Sync>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.stub
    }
}

impl OwnedMessage {
    /// The same message; what holds on to its far body is there for as long as it and its clones are.
    #[must_use]
    pub fn holding(self, far: Arc<dyn Any + Send + Sync>) -> Self {
        let held = Held { stub: self.body, _by: far };
        Self { body: Bytes::from_owner(held), ..self }
    }
}

impl MessageView<'_> {
    /// Whether its body is far. For what is asked of each message.
    #[inline]
    #[must_use]
    pub fn is_far(&self) -> bool {
        self.body.len() == STUB_BYTES && self.look_is_far()
    }

    #[cold]
    fn look_is_far(&self) -> bool {
        self.look_far().is_some()
    }

    /// What stands for its body, where that is far.
    #[inline]
    #[must_use]
    pub fn far(&self) -> Option<Stub> {
        if self.body.len() == STUB_BYTES { self.look_far() } else { None }
    }

    #[cold]
    fn look_far(&self) -> Option<Stub> {
        self.form.near().and_then(|_| Stub::decode(self.body))
    }

    /// How long its body is, wherever that is.
    #[inline(never)]
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        self.far().map_or(self.body.len() as u64, |stub| stub.body_bytes())
    }

    /// How many bytes it has, with its body wherever that is.
    #[must_use]
    pub fn whole_bytes(&self) -> u64 {
        (self.len_bytes() - self.body.len()) as u64 + self.body_bytes()
    }

    /// How long its body is to who reads bodies up to a limit: one that is far is longer than any.
    #[inline]
    #[must_use]
    pub fn readable_bytes(&self) -> usize {
        self.far().map_or(self.body.len(), |_| usize::MAX)
    }

    /// The form of its properties, and of its body once that is not far any more.
    #[must_use]
    pub fn near_form(&self) -> &'static dyn Form {
        self.form.near().unwrap_or(self.form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BodyReading, Change, Reads, testing::Bare};

    static FAR: Far = Far::new(&Bare, "bare, far");

    fn view<'a>(form: &'static dyn Form, body: &'a [u8]) -> MessageView<'a> {
        MessageView { exchange: b"x", routing_key: b"k", form, properties: b"p", body, publisher: None }
    }

    #[test]
    fn a_stub_is_read_as_it_was_written_and_nothing_else_is_one() {
        let stub = Stub { number: 7, file_bytes: 300, check: 9, start: 5, end: 290 };
        let bytes = stub.encode();
        assert_eq!(Stub::decode(&bytes), Some(stub));
        assert_eq!(Stub::decode(&Stub { end: 301, ..stub }.encode()), None);
        assert_eq!(Stub::decode(&Stub { start: 291, ..stub }.encode()), None);
        (0..STUB_BYTES).for_each(|bytes_there| assert_eq!(Stub::decode(&bytes[..bytes_there]), None));
        assert_eq!((view(&FAR, &bytes).far(), view(&FAR, &bytes).body_bytes()), (Some(stub), 285));
        assert!(view(&FAR, &bytes).is_persistent());
        assert_eq!((view(&Bare, &bytes).far(), view(&Bare, &bytes).body_bytes()), (None, 37));
    }

    #[test]
    fn who_reads_bodies_is_told_that_a_far_one_is_too_long() {
        let bytes = Stub { number: 7, file_bytes: 300, check: 9, start: 5, end: 290 }.encode();
        let body = Some(BodyReading { bytes_max: u32::MAX, rejects_above: true });
        let reads = Reads { body, ..Reads::default() };
        let mut out = Vec::new();
        view(&FAR, &bytes).project(&reads, &mut out);
        assert_eq!(out, u32::MAX.to_le_bytes());
        assert!(reads.rejects_body(view(&FAR, &bytes).readable_bytes()));
        assert!(!reads.rejects_body(view(&Bare, &bytes).readable_bytes()));
    }

    #[test]
    fn a_far_body_that_is_replaced_is_near() {
        let bytes = Stub::default().encode();
        let patch: Patch = [Change::SetBody(b"new".to_vec().into())].into_iter().collect();
        let mut arena = Vec::new();
        let patched = view(&FAR, &bytes).patched(&patch, &mut arena).unwrap();
        assert_eq!((patched.body, patched.form.protocol()), (&b"new"[..], "bare"));
    }
}
