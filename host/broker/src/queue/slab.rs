//! Where a queue keeps its messages: records back to back in segments.
//!
//! Messages are numbered in the order in which they came. A cursor stands at the next one that
//! nobody has taken; what was taken stays in its segment until it is settled. A segment whose
//! messages are all settled is used again; a store without messages holds no segment.
//!
//! *Bound:* a few messages that nobody settles must not keep segments that are otherwise dead.
//! When the segments hold more than [`HELD_FACTOR`] times the bytes of live records, and
//! [`HELD_SLACK_BYTES`] besides, segments that are less than a quarter live are dissolved: each
//! of their live records moves to an allocation of its own. Only segments that were read to their
//! end are dissolved, so reading in order never meets one.
//!
//! *Invariants:* segments are in the order of their ids. The cursor never stands at the end of a
//! segment that is not the last. A segment that is neither the last nor the cursor's was read to
//! its end or not at all.

use super::{
    pool::{self, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN},
    record::{self, APART, DEAD_LETTERED, REDELIVERED, SETTLED},
};
use crate::memory::LargeBody;
use alloc::{boxed::Box, collections::VecDeque, sync::Arc, vec::Vec};
use hashbrown::HashMap;
use leveret_model::{Form, MessageView};

/// How often the bytes of live records the segments may hold.
const HELD_FACTOR: usize = 4;
/// How many bytes the segments may hold besides.
const HELD_SLACK_BYTES: usize = 2 * SEGMENT_BYTES_MAX;
/// How many forms of messages one queue tells apart; there is one for each protocol.
const FORMS_MAX: usize = 255;

type Numbered<T> = HashMap<u64, T, foldhash::fast::RandomState>;

/// A message in a store. Good for one settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MessageRef {
    /// Its number, in the order in which messages came.
    pub(crate) sequence: u64,
    pub(crate) segment: u64,
    pub(crate) offset: u32,
}

/// A message as a store has it.
pub(crate) struct Stored<'a> {
    pub(crate) message: MessageView<'a>,
    /// It was delivered before.
    pub(crate) redelivered: bool,
    /// It was dead-lettered, and its headers tell of it.
    pub(crate) dead_lettered: bool,
    /// Its body, if that has an allocation of its own.
    pub(crate) apart: Option<&'a Arc<LargeBody>>,
}

struct Segment {
    id: u64,
    bytes: Vec<u8>,
    first_sequence: u64,
    /// How many messages are not settled, and how long their records are.
    live: usize,
    live_bytes: usize,
    /// Noted in `Store::sparse`.
    noted: bool,
}

/// The next message nobody has taken.
#[derive(Clone, Copy, Default)]
struct Cursor {
    segment: u64,
    offset: usize,
    sequence: u64,
}

#[derive(Default)]
pub(super) struct Store {
    segments: VecDeque<Segment>,
    next_segment: u64,
    next_sequence: u64,
    cursor: Cursor,
    live: usize,
    live_bytes: usize,
    /// The capacity of all segments.
    held_bytes: usize,
    /// Segments that may be dissolved, the longest noted first.
    sparse: VecDeque<u64>,
    moved: Numbered<Box<[u8]>>,
    apart: Numbered<Arc<LargeBody>>,
    forms: Vec<&'static dyn Form>,
    spare: Option<Vec<u8>>,
}

impl Store {
    /// How many messages nobody has taken.
    pub(super) fn untaken(&self) -> usize {
        (self.next_sequence - self.cursor.sequence) as usize
    }

    /// How many messages are not settled, and how long their records are.
    pub(super) fn live(&self) -> (usize, usize) {
        (self.live, self.live_bytes)
    }

    /// Keeps a message. Returns the length of its record.
    pub(super) fn append(&mut self, message: &MessageView<'_>, apart: Option<Arc<LargeBody>>) -> usize {
        self.append_flagged(message, apart, 0)
    }

    /// Keeps a dead letter, whose headers tell of its death. Returns the length of its record.
    pub(super) fn append_dead(&mut self, message: &MessageView<'_>, apart: Option<Arc<LargeBody>>) -> usize {
        self.append_flagged(message, apart, DEAD_LETTERED)
    }

    fn append_flagged(
        &mut self,
        message: &MessageView<'_>,
        apart: Option<Arc<LargeBody>>,
        flags: u8,
    ) -> usize {
        let flags = if apart.is_some() { flags | APART } else { flags };
        let form = self.form_of(message.form);
        let length = record::length_bytes(message, apart.is_some());
        if self.segments.back().is_none_or(|last| last.bytes.capacity() - last.bytes.len() < length) {
            self.add_segment(length);
        }
        let sequence = self.next_sequence;
        if let Some(last) = self.segments.back_mut() {
            record::append(&mut last.bytes, message, form, flags);
            last.live += 1;
            last.live_bytes += length;
        }
        if let Some(body) = apart {
            self.apart.insert(sequence, body);
        }
        self.next_sequence += 1;
        self.live += 1;
        self.live_bytes += length;
        length
    }

    /// Takes the oldest message that nobody has taken.
    pub(super) fn take(&mut self) -> Option<MessageRef> {
        if self.cursor.sequence == self.next_sequence {
            return None;
        }
        let index = self.position(self.cursor.segment)?;
        let last = index + 1 == self.segments.len();
        let segment = self.segments.get(index)?;
        let header = record::header(&segment.bytes, self.cursor.offset)?;
        let taken = MessageRef {
            sequence: self.cursor.sequence,
            segment: segment.id,
            offset: self.cursor.offset as u32,
        };
        self.cursor.sequence += 1;
        self.cursor.offset += header.length;
        if self.cursor.offset == segment.bytes.len() && !last {
            self.cursor.offset = 0;
            self.cursor.segment = self.segments.get(index + 1)?.id;
            self.note_if_sparse(index);
        }
        Some(taken)
    }

    /// Reads a message that is not settled, and whether it was delivered before.
    pub(super) fn view(&self, message: MessageRef) -> Option<(MessageView<'_>, bool)> {
        self.stored(message).map(|stored| (stored.message, stored.redelivered))
    }

    /// Reads a message that is not settled.
    pub(super) fn stored(&self, message: MessageRef) -> Option<Stored<'_>> {
        let (bytes, offset) = match self.position(message.segment).and_then(|index| self.segments.get(index))
        {
            Some(segment) => (segment.bytes.as_slice(), message.offset as usize),
            None => (&**self.moved.get(&message.sequence)?, 0),
        };
        let header = record::header(bytes, offset)?;
        let fields = record::fields(bytes, offset, header)?;
        let apart = if header.flags & APART == 0 { None } else { self.apart.get(&message.sequence) };
        let view = MessageView {
            exchange: fields.exchange,
            routing_key: fields.routing_key,
            form: *self.forms.get(usize::from(header.form))?,
            properties: fields.properties,
            body: apart.map_or(fields.body, |body| body.as_bytes()),
            publisher: None,
        };
        Some(Stored {
            message: view,
            redelivered: header.flags & REDELIVERED != 0,
            dead_lettered: header.flags & DEAD_LETTERED != 0,
            apart,
        })
    }

    /// Marks a message as delivered before.
    pub(super) fn mark_redelivered(&mut self, message: MessageRef) {
        match self.position(message.segment).and_then(|index| self.segments.get_mut(index)) {
            Some(segment) => record::set_flags(&mut segment.bytes, message.offset as usize, REDELIVERED),
            None => {
                if let Some(bytes) = self.moved.get_mut(&message.sequence) {
                    record::set_flags(bytes, 0, REDELIVERED);
                }
            }
        }
    }

    /// Forgets a message that was taken. Returns the length of its record.
    pub(super) fn settle(&mut self, message: MessageRef) -> usize {
        let Some(index) = self.position(message.segment) else {
            let Some(bytes) = self.moved.remove(&message.sequence) else {
                return 0;
            };
            let apart = record::header(&bytes, 0).is_some_and(|header| header.flags & APART != 0);
            return self.settled(message.sequence, apart, bytes.len());
        };
        let Some(segment) = self.segments.get_mut(index) else {
            return 0;
        };
        let offset = message.offset as usize;
        let Some(header) = record::header(&segment.bytes, offset) else {
            return 0;
        };
        if header.flags & SETTLED != 0 {
            return 0;
        }
        record::set_flags(&mut segment.bytes, offset, SETTLED);
        segment.live -= 1;
        segment.live_bytes -= header.length;
        let dead = segment.live == 0;
        if dead {
            self.reuse(index);
        } else {
            self.note_if_sparse(index);
        }
        self.settled(message.sequence, header.flags & APART != 0, header.length)
    }

    fn settled(&mut self, sequence: u64, apart: bool, length: usize) -> usize {
        if apart {
            self.apart.remove(&sequence);
        }
        self.live -= 1;
        self.live_bytes -= length;
        if self.live == 0 {
            self.clear();
        } else {
            self.dissolve_sparse();
        }
        length
    }

    /// Forgets all messages, and all memory. Returns the length of their records.
    pub(super) fn clear(&mut self) -> usize {
        let bytes = self.live_bytes;
        for segment in self.segments.drain(..) {
            pool::give(segment.bytes);
        }
        if let Some(spare) = self.spare.take() {
            pool::give(spare);
        }
        if self.moved.capacity() > 0 {
            self.moved = Numbered::default();
        }
        if self.apart.capacity() > 0 {
            self.apart = Numbered::default();
        }
        self.sparse.clear();
        self.cursor.sequence = self.next_sequence;
        (self.live, self.live_bytes, self.held_bytes) = (0, 0, 0);
        bytes
    }

    /// Where the segment of an id is, if it is still there. Segments only ever move forward.
    fn position(&self, id: u64) -> Option<usize> {
        let first = self.segments.front()?.id;
        let guess = usize::try_from(id.checked_sub(first)?).ok()?;
        if self.segments.get(guess).is_some_and(|segment| segment.id == id) {
            return Some(guess);
        }
        self.segments.binary_search_by_key(&id, |segment| segment.id).ok()
    }

    fn add_segment(&mut self, length: usize) {
        let grown =
            self.segments.back().map_or(SEGMENT_BYTES_MIN, |last| last.bytes.capacity().saturating_mul(2));
        let wanted = grown.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX).max(length.next_power_of_two());
        let bytes = match self.spare.take_if(|spare| spare.capacity() >= length) {
            Some(spare) => spare,
            None => pool::take(wanted),
        };
        let id = self.next_segment;
        self.next_segment += 1;
        self.held_bytes += bytes.capacity();
        self.segments.push_back(Segment {
            id,
            bytes,
            first_sequence: self.next_sequence,
            live: 0,
            live_bytes: 0,
            noted: false,
        });
        if self.untaken() == 0 {
            self.cursor = Cursor { segment: id, offset: 0, sequence: self.next_sequence };
            // The segment that was the last is read to its end now.
            if let Some(before) = self.segments.len().checked_sub(2) {
                if self.segments.get(before).is_some_and(|segment| segment.live == 0) {
                    self.reuse(before);
                } else {
                    self.note_if_sparse(before);
                }
            }
        }
    }

    /// Uses the space of a segment without live messages again.
    fn reuse(&mut self, index: usize) {
        if index + 1 == self.segments.len() {
            // Nothing live in the last segment: everything was taken.
            if let Some(segment) = self.segments.get_mut(index) {
                segment.bytes.clear();
                segment.first_sequence = self.next_sequence;
                self.cursor.offset = 0;
            }
        } else if let Some(segment) = self.segments.remove(index) {
            self.held_bytes -= segment.bytes.capacity();
            self.keep_spare(segment.bytes);
        }
    }

    fn keep_spare(&mut self, mut bytes: Vec<u8>) {
        if self.spare.is_none() && bytes.capacity() <= SEGMENT_BYTES_MAX {
            bytes.clear();
            self.spare = Some(bytes);
        } else {
            pool::give(bytes);
        }
    }

    fn note_if_sparse(&mut self, index: usize) {
        let last = index + 1 == self.segments.len();
        let cursor = self.cursor.segment;
        if let Some(segment) = self.segments.get_mut(index) {
            let sparse = segment.live_bytes.saturating_mul(HELD_FACTOR) < segment.bytes.capacity();
            if sparse && !segment.noted && !last && segment.id != cursor {
                segment.noted = true;
                self.sparse.push_back(segment.id);
            }
        }
    }

    fn dissolve_sparse(&mut self) {
        while self.held_bytes > self.live_bytes.saturating_mul(HELD_FACTOR) + HELD_SLACK_BYTES {
            let Some(id) = self.sparse.pop_front() else { return };
            let Some(segment) = self.position(id).and_then(|index| self.segments.remove(index)) else {
                continue;
            };
            self.held_bytes -= segment.bytes.capacity();
            let (mut offset, mut sequence) = (0, segment.first_sequence);
            while let Some(header) = record::header(&segment.bytes, offset) {
                if header.flags & SETTLED == 0
                    && let Some(bytes) = segment.bytes.get(offset..offset + header.length)
                {
                    self.moved.insert(sequence, bytes.into());
                }
                offset += header.length;
                sequence += 1;
            }
            self.keep_spare(segment.bytes);
        }
    }

    /// The number of a message's form in this queue. Forms are told apart by their protocol.
    fn form_of(&mut self, form: &'static dyn Form) -> u8 {
        let known = self.forms.iter().position(|known| {
            core::ptr::addr_eq(core::ptr::from_ref(*known), core::ptr::from_ref(form))
                && known.protocol() == form.protocol()
        });
        let index = known.or_else(|| self.forms.iter().position(|known| known.protocol() == form.protocol()));
        let index = index.unwrap_or_else(|| {
            debug_assert!(self.forms.len() < FORMS_MAX);
            self.forms.push(form);
            self.forms.len() - 1
        });
        index as u8
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes + self.moved.values().map(|bytes| bytes.len()).sum::<usize>()
    }

    #[cfg(test)]
    pub(super) fn segment_count(&self) -> usize {
        self.segments.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_amqp091::FORM;

    fn message(body: &[u8]) -> MessageView<'_> {
        MessageView { exchange: b"e", routing_key: b"k", form: FORM, properties: &[], body, publisher: None }
    }

    fn body(store: &Store, message: MessageRef) -> Vec<u8> {
        store.view(message).unwrap().0.body.to_vec()
    }

    #[test]
    fn an_empty_store_holds_nothing_and_messages_come_in_order() {
        let mut store = Store::default();
        for round in 0..3_u32 {
            for i in 0..10_000_u32 {
                store.append(&message(&(round + i).to_le_bytes()), None);
            }
            let taken: Vec<_> = core::iter::from_fn(|| store.take()).collect();
            assert_eq!(taken.len(), 10_000);
            for (i, taken) in taken.iter().enumerate() {
                assert_eq!(body(&store, *taken), (round + i as u32).to_le_bytes());
            }
            for taken in taken {
                assert!(store.settle(taken) > 0);
            }
            assert_eq!((store.live(), store.held_bytes(), store.segment_count()), ((0, 0), 0, 0));
        }
    }

    #[test]
    fn settling_twice_counts_once() {
        let mut store = Store::default();
        store.append(&message(b"a"), None);
        store.append(&message(b"b"), None);
        let first = store.take().unwrap();
        assert!(store.settle(first) > 0);
        assert_eq!(store.settle(first), 0);
        assert_eq!(store.live().0, 1);
    }

    #[test]
    fn stuck_messages_do_not_keep_dead_segments() {
        let mut store = Store::default();
        let filler = [0_u8; 1000];
        let mut stuck = Vec::new();
        for i in 0..200_000_u32 {
            store.append(&message(&filler), None);
            let taken = store.take().unwrap();
            // One in five thousand is never settled: some in every segment.
            if i % 5000 == 0 {
                stuck.push(taken)
            } else {
                assert!(store.settle(taken) > 0)
            }
            let (_, live_bytes) = store.live();
            assert!(store.held_bytes() <= HELD_FACTOR * live_bytes + HELD_SLACK_BYTES + SEGMENT_BYTES_MAX);
        }
        assert!(store.segment_count() < 20, "{}", store.segment_count());
        for (i, taken) in stuck.into_iter().enumerate() {
            assert!(!store.view(taken).unwrap().1);
            store.mark_redelivered(taken);
            assert!(store.view(taken).unwrap().1, "stuck message {i} can be marked");
            assert_eq!(body(&store, taken), filler);
            assert!(store.settle(taken) > 0);
            assert_eq!(store.settle(taken), 0);
        }
        assert_eq!((store.live(), store.held_bytes()), ((0, 0), 0));
    }

    #[test]
    fn a_record_larger_than_a_segment_has_one_of_its_own() {
        let mut store = Store::default();
        let large = alloc::vec![9; 3 * SEGMENT_BYTES_MAX];
        store.append(&message(b"small"), None);
        store.append(&message(&large), None);
        store.append(&message(b"small again"), None);
        let taken: Vec<_> = core::iter::from_fn(|| store.take()).collect();
        let bodies: Vec<_> = taken.iter().map(|taken| body(&store, *taken).len()).collect();
        assert_eq!(bodies, [5, large.len(), 11]);
        for taken in taken {
            store.settle(taken);
        }
        assert_eq!(store.held_bytes(), 0);
    }
}
