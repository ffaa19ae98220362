//! Groups: made, checked, read.

use super::{
    Malformed, Take, check,
    key::Key,
    op::{self, Enqueue, ExtentRef, Op, QueueId, Range, Sequence, Space, kind},
};
use crate::Body;
use std::sync::Arc;

/// The bytes before a group's operations.
pub const GROUP_HEADER_BYTES: usize = 16;
/// The bytes before a payload: its checksum, for who reads it alone.
pub const PAYLOAD_HEADER_BYTES: usize = 4;

/// The body of a message that is to be a file of its own.
pub type ExtentBody = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// An atomic group of operations that is being made. Kept by whoever makes groups, and used again.
#[derive(Default)]
pub struct Group {
    ops: Vec<u8>,
    payloads: Vec<u8>,
    count: u32,
    grows: bool,
    pub(crate) extents: Vec<(ExtentRef, ExtentBody)>,
    /// Bodies that were written before, which are not let go of until the index has the group.
    pub(crate) bodies: Vec<Arc<Body>>,
    /// Whether a count or a length did not fit: such a group is refused.
    pub(crate) overflown: bool,
}

impl Group {
    /// Begins anew, with the memory that there is.
    pub fn clear(&mut self) {
        self.ops.clear();
        self.payloads.clear();
        self.extents.clear();
        self.bodies.clear();
        (self.count, self.grows, self.overflown) = (0, false, false);
    }

    /// Whether it has no operation.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Its length as it is written.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        (GROUP_HEADER_BYTES + self.ops.len() + self.payloads.len()).next_multiple_of(8)
    }

    /// Whether it takes space for longer than until the next checkpoint: those are refused on a full disk.
    #[must_use]
    pub fn grows(&self) -> bool {
        self.grows
    }

    /// Queues get a message, whose payload is these parts one after the other. The places are the
    /// caller's; one that is taken already keeps what it has.
    pub fn enqueue(&mut self, parts: &[&[u8]], redelivered: bool, targets: &[(QueueId, Sequence)]) {
        self.push_enqueue(kind::ENQUEUE, parts, redelivered, None, targets.iter().copied());
    }

    /// The same for a message whose body is a file of its own, which is written first. `number` is from
    /// [`crate::Store::next_extent`].
    pub fn enqueue_apart(
        &mut self,
        parts: &[&[u8]],
        redelivered: bool,
        (number, body): (u64, ExtentBody),
        targets: &[(QueueId, Sequence)],
    ) {
        let bytes: &[u8] = (*body).as_ref();
        let extent = ExtentRef { number, bytes: bytes.len() as u64, check: check::check(bytes) };
        self.extents.push((extent, body));
        self.push_enqueue(kind::ENQUEUE, parts, redelivered, Some(extent), targets.iter().copied());
    }

    /// The same for a message whose body is in a file already, which others may have too.
    pub fn enqueue_body(
        &mut self,
        parts: &[&[u8]],
        redelivered: bool,
        body: &Arc<Body>,
        targets: &[(QueueId, Sequence)],
    ) {
        self.bodies.push(body.clone());
        self.push_enqueue(kind::ENQUEUE, parts, redelivered, Some(body.extent()), targets.iter().copied());
    }

    /// The same bytes at a new place.
    pub(crate) fn moved(
        &mut self,
        payload: &[u8],
        extent: Option<ExtentRef>,
        targets: impl ExactSizeIterator<Item = (QueueId, Sequence)>,
    ) {
        self.push_enqueue(kind::MOVED, &[payload], false, extent, targets);
        // It is to free space.
        self.grows = false;
    }

    fn push_enqueue(
        &mut self,
        kind: u8,
        parts: &[&[u8]],
        redelivered: bool,
        extent: Option<ExtentRef>,
        targets: impl ExactSizeIterator<Item = (QueueId, Sequence)>,
    ) {
        let start = self.payloads.len() + PAYLOAD_HEADER_BYTES;
        self.payloads.resize(start, 0);
        let mut check = 0;
        for part in parts {
            self.payloads.extend_from_slice(part);
            check = check::append(check, part);
        }
        if let Some(place) = self.payloads.get_mut(start - PAYLOAD_HEADER_BYTES..start) {
            place.copy_from_slice(&check.to_le_bytes());
        }
        let Ok(bytes) = u32::try_from(self.payloads.len() - start) else { return self.overflow() };
        let Ok(target_count) = u16::try_from(targets.len()) else { return self.overflow() };
        let flags = if extent.is_some() { op::EXTENT } else { 0 };
        self.begin(kind);
        self.ops.push(if redelivered { flags | op::REDELIVERED } else { flags });
        self.ops.extend_from_slice(&target_count.to_le_bytes());
        self.ops.extend_from_slice(&bytes.to_le_bytes());
        self.ops.extend_from_slice(&check.to_le_bytes());
        if let Some(extent) = extent {
            self.ops.extend_from_slice(&extent.number.to_le_bytes());
            self.ops.extend_from_slice(&extent.bytes.to_le_bytes());
            self.ops.extend_from_slice(&extent.check.to_le_bytes());
        }
        for (queue, sequence) in targets {
            self.ops.extend_from_slice(&queue.0.to_le_bytes());
            self.ops.extend_from_slice(&sequence.to_le_bytes());
        }
        self.grows = true;
    }

    fn overflow(&mut self) {
        self.overflown = true;
    }

    fn begin(&mut self, kind: u8) {
        self.count += 1;
        self.ops.push(kind);
    }

    /// A queue no longer has messages: acknowledged, rejected, purged, expired. Name only messages that
    /// were or will be enqueued: what comes later to a place that was acked is not kept.
    pub fn ack(&mut self, queue: QueueId, ranges: &[Range]) {
        self.push_ranges(kind::ACK, queue, ranges);
    }

    /// Messages are delivered once more: from now on they are marked so, and counted.
    pub fn delivered(&mut self, queue: QueueId, ranges: &[Range]) {
        self.push_ranges(kind::DELIVERED, queue, ranges);
    }

    fn push_ranges(&mut self, kind: u8, queue: QueueId, ranges: &[Range]) {
        let fits = |range: &&Range| range.count > 0 && range.first.checked_add(range.count.into()).is_some();
        let count = ranges.iter().filter(fits).count();
        let Ok(count) = u32::try_from(count) else { return self.overflow() };
        self.begin(kind);
        self.ops.reserve(12 + ranges.len() * op::RANGE_BYTES);
        self.ops.extend_from_slice(&queue.0.to_le_bytes());
        self.ops.extend_from_slice(&count.to_le_bytes());
        for range in ranges.iter().filter(fits) {
            self.ops.extend_from_slice(&range.first.to_le_bytes());
            self.ops.extend_from_slice(&range.count.to_le_bytes());
        }
    }

    /// There is a queue, empty. What it is called is a value in a space.
    pub fn create(&mut self, queue: QueueId) {
        self.begin(kind::CREATE);
        self.ops.extend_from_slice(&queue.0.to_le_bytes());
        self.grows = true;
    }

    /// The queue and its messages are gone.
    pub fn delete(&mut self, queue: QueueId) {
        self.begin(kind::DELETE);
        self.ops.extend_from_slice(&queue.0.to_le_bytes());
    }

    /// A value is kept. `expires_ms` is in milliseconds since 1970, 0 for never.
    pub fn set(&mut self, space: Space, key: &[u8], value: &[u8], expires_ms: u64) {
        let (Ok(key_bytes), Ok(value_bytes)) = (u32::try_from(key.len()), u32::try_from(value.len())) else {
            return self.overflow();
        };
        if key.len() > super::KEY_BYTES_MAX {
            return self.overflow();
        }
        self.begin(kind::SET);
        self.ops.extend_from_slice(&space.0.to_le_bytes());
        self.ops.extend_from_slice(&expires_ms.to_le_bytes());
        self.ops.extend_from_slice(&key_bytes.to_le_bytes());
        self.ops.extend_from_slice(&value_bytes.to_le_bytes());
        self.ops.extend_from_slice(key);
        self.ops.extend_from_slice(value);
        self.grows = true;
    }

    /// A value is gone.
    pub fn unset(&mut self, space: Space, key: &[u8]) {
        if key.len() > super::KEY_BYTES_MAX {
            return self.overflow();
        }
        self.begin(kind::UNSET);
        self.ops.extend_from_slice(&space.0.to_le_bytes());
        self.ops.extend_from_slice(&(key.len() as u32).to_le_bytes());
        self.ops.extend_from_slice(key);
    }

    /// All values of a space are gone.
    pub fn clear_space(&mut self, space: Space) {
        self.begin(kind::CLEAR);
        self.ops.extend_from_slice(&space.0.to_le_bytes());
    }

    /// Its header, with a checksum that the number of the batch is still to be mixed into.
    pub(crate) fn header(&self) -> [u8; GROUP_HEADER_BYTES] {
        let mut header = [0; GROUP_HEADER_BYTES];
        header[..4].copy_from_slice(&(self.ops.len() as u32).to_le_bytes());
        header[4..8].copy_from_slice(&(self.payloads.len() as u32).to_le_bytes());
        header[8..12].copy_from_slice(&self.count.to_le_bytes());
        let check = check::append(check::check(&header[..12]), &self.ops);
        header[12..].copy_from_slice(&check.to_le_bytes());
        header
    }

    /// Appends its bytes; see [`Self::header`].
    pub(crate) fn append_to(&self, header: &[u8; GROUP_HEADER_BYTES], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(header);
        out.extend_from_slice(&self.ops);
        out.extend_from_slice(&self.payloads);
        out.resize(start + self.len_bytes(), 0);
    }
}

/// A group in a batch.
#[derive(Clone, Copy, Debug)]
pub struct GroupView<'a> {
    ops: &'a [u8],
    payloads: &'a [u8],
    count: u32,
    /// Where its payloads begin, from the group's first byte on.
    payloads_at: usize,
    /// Its length with what fills it up.
    pub len_bytes: usize,
}

impl<'a> GroupView<'a> {
    /// The group at the front, whose operations check. Payloads do not have to: see [`Self::check`].
    ///
    /// # Errors
    /// If there is none of that batch, or of another key.
    pub fn decode(bytes: &'a [u8], batch: u64, key: Key) -> Result<Self, Malformed> {
        let mut take = Take(bytes);
        let (ops, payloads) = (take.u32()? as usize, take.u32()? as usize);
        let (count, check) = (take.u32()?, take.u32()?);
        let (ops, payloads) = (take.bytes(ops)?, take.bytes(payloads)?);
        let found = check::append(check::check(bytes.get(..12).ok_or(Malformed)?), ops);
        if found ^ key.of_groups(batch) != check {
            return Err(Malformed);
        }
        let payloads_at = GROUP_HEADER_BYTES + ops.len();
        let len_bytes = (payloads_at + payloads.len()).next_multiple_of(8);
        if len_bytes > bytes.len() {
            return Err(Malformed);
        }
        Ok(Self { ops, payloads, count, payloads_at, len_bytes })
    }

    /// Calls `each` with each operation, its payload, and where that begins in the group: at its checksum.
    ///
    /// # Errors
    /// If the operations are not those of a group. Some may have been handed over then, unless
    /// [`Self::check`] said that all is well.
    pub fn each(&self, mut each: impl FnMut(Op<'a>, &'a [u8], usize)) -> Result<(), Malformed> {
        let (mut ops, mut payloads) = (Take(self.ops), Take(self.payloads));
        for _ in 0..self.count {
            let op = Op::take(&mut ops)?;
            let at = self.payloads_at + self.payloads.len() - payloads.0.len();
            let payload = match op {
                Op::Enqueue(Enqueue { payload_bytes, .. }) => {
                    payloads.bytes(PAYLOAD_HEADER_BYTES)?;
                    payloads.bytes(payload_bytes as usize)?
                }
                _ => &[],
            };
            each(op, payload, at);
        }
        if ops.0.is_empty() && payloads.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    /// Whether all of it can be read, payloads too.
    ///
    /// # Errors
    /// If not.
    pub fn check(&self) -> Result<(), Malformed> {
        if self.damaged_payloads()? == 0 { Ok(()) } else { Err(Malformed) }
    }

    /// How many payloads do not check.
    ///
    /// # Errors
    /// If the operations are not those of a group.
    pub fn damaged_payloads(&self) -> Result<u64, Malformed> {
        let mut damaged = 0;
        let section = self.payloads;
        let mut before = 0;
        self.each(|op, payload, _| {
            if let Op::Enqueue(enqueue) = op {
                let own = section.get(before..before + PAYLOAD_HEADER_BYTES);
                before += PAYLOAD_HEADER_BYTES + payload.len();
                let is_sound = own == Some(&enqueue.payload_check.to_le_bytes())
                    && check::check(payload) == enqueue.payload_check;
                damaged += u64::from(!is_sound);
            }
        })?;
        Ok(damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Group {
        let mut group = Group::default();
        group.enqueue(&[b"head", b"body"], false, &[(QueueId(1), 10), (QueueId(2), 20)]);
        group.ack(QueueId(3), &[Range { first: 5, count: 2 }, Range { first: 9, count: 1 }]);
        group.delivered(QueueId(3), &[Range { first: 7, count: 1 }]);
        group.create(QueueId(4));
        group.delete(QueueId(5));
        group.set(Space(6), b"key", b"value", 77);
        group.unset(Space(6), b"other");
        group.clear_space(Space(8));
        group.enqueue_apart(&[b"h"], true, (99, Arc::new(vec![1, 2, 3])), &[(QueueId(1), 11)]);
        group
    }

    fn encoded(group: &Group, batch: u64) -> Vec<u8> {
        let mut header = group.header();
        let check = u32::from_le_bytes([header[12], header[13], header[14], header[15]])
            ^ Key::default().of_groups(batch);
        header[12..].copy_from_slice(&check.to_le_bytes());
        let mut bytes = Vec::new();
        group.append_to(&header, &mut bytes);
        bytes
    }

    fn described(group: &GroupView<'_>) -> Vec<String> {
        let mut out = Vec::new();
        let each = |op: Op<'_>, payload: &[u8], _| {
            out.push(match op {
                Op::Enqueue(e) => {
                    let extent = e.extent.map(|extent| (extent.number, extent.bytes));
                    let targets: Vec<_> = e.targets().map(|(queue, at)| (queue.0, at)).collect();
                    let payload = String::from_utf8_lossy(payload).into_owned();
                    format!("enqueue {payload} {targets:?} {extent:?} {} {}", e.redelivered, e.moved)
                }
                Op::Ack(ranges) => format!("ack {} {:?}", ranges.queue.0, ranges.iter().collect::<Vec<_>>()),
                Op::Delivered(ranges) => format!("delivered {} {}", ranges.queue.0, ranges.iter().len()),
                other => format!("{other:?}"),
            });
        };
        group.each(each).unwrap();
        out
    }

    #[test]
    fn a_group_is_read_as_it_was_made() {
        let group = sample();
        let bytes = encoded(&group, 5);
        assert_eq!(bytes.len(), group.len_bytes());
        let view = GroupView::decode(&bytes, 5, Key::default()).unwrap();
        view.check().unwrap();
        assert_eq!(
            described(&view),
            [
                "enqueue headbody [(1, 10), (2, 20)] None false false",
                "ack 3 [Range { first: 5, count: 2 }, Range { first: 9, count: 1 }]",
                "delivered 3 1",
                "Create(QueueId(4))",
                "Delete(QueueId(5))",
                "Set { space: Space(6), key: [107, 101, 121], value: [118, 97, 108, 117, 101], expires_ms: 77 }",
                "Unset { space: Space(6), key: [111, 116, 104, 101, 114] }",
                "Clear(Space(8))",
                "enqueue h [(1, 11)] Some((99, 3)) true false",
            ]
        );
        assert!(
            GroupView::decode(&bytes, 6, Key::default()).is_err(),
            "the same group of another batch does not check"
        );
    }

    #[test]
    fn no_bit_of_a_group_may_be_wrong() {
        let bytes = encoded(&sample(), 5);
        let padded = bytes.len() - 2;
        for bit in 0..padded * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = GroupView::decode(&bytes, 5, Key::default()).and_then(|group| group.check());
            // What fills it up is not looked at.
            assert!(read.is_err() || bit / 8 >= bytes.len() - 7, "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_group_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(group) = GroupView::decode(&bytes, 0, Key::default()) {
                let _ = group.each(|_, _, _| {});
            }
        }

        #[test]
        fn any_operations_that_check_are_read_or_refused(
            ops in proptest::collection::vec(any::<u8>(), 0..200),
            kinds in proptest::collection::vec((0_u8..12, 0_usize..200), 0..8),
            count in 0_u32..10,
        ) {
            let mut group = Group { ops, count, ..Group::default() };
            for (kind, at) in kinds {
                if let Some(byte) = group.ops.get_mut(at) {
                    *byte = kind;
                }
            }
            let bytes = encoded(&group, 1);
            let view = GroupView::decode(&bytes, 1, Key::default()).unwrap();
            let mut seen = 0;
            if view.each(|op, _, _| {
                seen += 1;
                if let Op::Enqueue(enqueue) = op { assert!(enqueue.targets().len() <= 200 / 16); }
            }).is_ok() {
                prop_assert_eq!(seen, count);
            }
        }

        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            use crate::record::message::Payload;
            if let Ok(payload) = Payload::decode(&bytes) {
                let head = payload.head().unwrap();
                prop_assert_eq!(payload.parts(&head).concat(), bytes);
            }
        }
    }
}
