//! Where a queue keeps its messages: records back to back in segments.
//!
//! Messages are numbered in the order in which they came. A cursor stands at the next one that
//! nobody has taken; what was taken stays in its segment until it is settled. A segment whose
//! messages are all settled is used again; a store without messages holds no segment.
//!
//! *In the store alone.* Of a durable queue with a long backlog whole segments are let go whose messages can all be
//! read from the store again ([`Store::evict`]); what is left is a [`Hole`]. When the cursor comes to one, a piece of
//! it is read ([`Next::Load`], `load.rs`). After a start everything is a hole. Where memory is short segments are written
//! to the store as pages whose messages it does not have, transient ones, and let go then (`paging.rs`).
//!
//! *Bound:* a few messages that nobody settles must not keep segments that are otherwise dead.
//! When the segments hold more than [`HELD_FACTOR`] times the bytes of live records, and
//! [`HELD_SLACK_BYTES`] besides, segments that are less than a quarter live are dissolved: each
//! of their live records moves to an allocation of its own. Only segments that were read to their
//! end are dissolved, so reading in order never meets one; of others what nobody has taken is kept (`ahead.rs`).
//!
//! *Invariants:* a segment is known by the number of its first message, and segments are in that order. The cursor
//! stands at the end of a segment only if that is the last, or a hole follows. A segment that is neither the last nor
//! the cursor's was read to its end or not at all, but for what was taken out of turn (`ahead.rs`), which is marked. Holes
//! are in order, none overlaps a segment, and nothing in one was taken.

use super::{
    apart::Apart,
    forms::form_in,
    load::Hole,
    paging::Pages,
    pool::{self, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN},
    record::{self, APART, KEPT, Marks, REDELIVERED, SETTLED},
    runs::mark_settled,
};
use crate::{
    memory::LargeBody,
    store::{KeptId, Ranges},
};
use alloc::{boxed::Box, collections::VecDeque, sync::Arc, vec::Vec};
use hashbrown::HashMap;
use leveret_model::{Form, MessageView};

/// How often the bytes of live records the segments may hold.
const HELD_FACTOR: usize = 4;
/// How many bytes the segments may hold besides.
const HELD_SLACK_BYTES: usize = 2 * SEGMENT_BYTES_MAX;

pub(super) type Numbered<T> = HashMap<u64, T, foldhash::fast::RandomState>;

/// A message in a store. Good for one settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MessageRef {
    /// Its number, in the order in which messages came.
    pub(crate) sequence: u64,
    /// The number of the first message of its segment.
    pub(crate) segment: u64,
    pub(crate) offset: u32,
    /// Its lane in the queue.
    pub(crate) lane: u16,
}

/// What comes next in a store.
pub(super) enum Next {
    /// This message.
    Message(MessageRef),
    /// The front of the first hole is to be read first.
    Load,
    /// Nothing.
    Nothing,
}

/// What settling a message came to.
#[derive(Clone, Copy, Default)]
pub(super) struct Settled {
    /// The length of its record; 0 if it was settled before.
    pub(super) bytes: usize,
    /// That it is settled is to be told to the store on disk.
    pub(super) kept: bool,
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
    /// It is in the store on disk, or will be.
    pub(crate) kept: bool,
    /// When it came, in milliseconds since 1970, if it may expire.
    pub(crate) came_ms: Option<u64>,
    /// Its publisher said how long it may wait.
    pub(crate) has_own_ttl: bool,
}

pub(super) struct Segment {
    /// The number of its first message.
    pub(super) first: u64,
    /// The number after its last message.
    pub(super) next: u64,
    pub(super) bytes: Vec<u8>,
    /// How many messages are not settled, and how long their records are.
    pub(super) live: usize,
    pub(super) live_bytes: usize,
    /// How long the large bodies are that came with its messages.
    pub(super) apart_bytes: usize,
    /// How many were kept in the store on disk when they came.
    pub(super) kept: usize,
    /// Noted in `Store::sparse`.
    pub(super) noted: bool,
    /// The page that has its messages, or will have.
    pub(super) page: Option<KeptId>,
}

impl Segment {
    /// One for numbers from the first to the second, exclusive, of which nothing is counted yet.
    pub(super) fn new((first, next): (u64, u64), bytes: Vec<u8>) -> Self {
        let (live, live_bytes, apart_bytes, kept) = (0, 0, 0, 0);
        Self { first, next, bytes, live, live_bytes, apart_bytes, kept, noted: false, page: None }
    }
}

/// The next message nobody has taken.
#[derive(Clone, Copy, Default)]
pub(super) struct Cursor {
    pub(super) segment: u64,
    pub(super) offset: usize,
    pub(super) sequence: u64,
}

#[derive(Default)]
pub(super) struct Store {
    /// Whose messages they are.
    pub(super) lane: u16,
    pub(super) segments: VecDeque<Segment>,
    pub(super) holes: VecDeque<Hole>,
    /// Numbers in order of messages that are where the queue is and could not be read: they are left out, and may be
    /// readable after another start.
    pub(super) unreadable: Vec<Ranges>,
    pub(super) next_sequence: u64,
    pub(super) cursor: Cursor,
    pub(super) untaken: usize,
    /// Of all messages, those in holes too; the bytes are of those in memory.
    pub(super) live: usize,
    pub(super) live_bytes: usize,
    /// The capacity of all segments.
    pub(super) held_bytes: usize,
    /// Segments that may be dissolved, the longest noted first.
    sparse: VecDeque<u64>,
    pub(super) moved: Numbered<Box<[u8]>>,
    pub(super) apart: Apart,
    pub(super) forms: Vec<&'static dyn Form>,
    spare: Option<Vec<u8>>,
    /// A segment was added since [`Self::take_grown`].
    pub(super) grown: bool,
    /// Messages were taken out of turn.
    pub(super) is_mixed: bool,
    /// How often records were moved, or let go of, that nobody had taken.
    pub(super) moves: u64,
    /// What it has of pages.
    pub(super) pages: Pages,
}

impl Store {
    /// One for a lane.
    pub(super) fn of_lane(lane: u16) -> Self {
        Self { lane, ..Self::default() }
    }

    /// How many messages nobody has taken.
    pub(super) fn untaken(&self) -> usize {
        self.untaken
    }

    /// How many messages are not settled, and how long the records of those in memory are.
    pub(super) fn live(&self) -> (usize, usize) {
        (self.live, self.live_bytes)
    }

    /// How much of messages is in memory that are not settled, in bytes.
    pub(super) fn in_memory_bytes(&self) -> usize {
        self.live_bytes + self.apart.bytes()
    }

    /// The number of the next message.
    pub(super) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Whether a segment was added since this was asked.
    pub(super) fn take_grown(&mut self) -> bool {
        core::mem::take(&mut self.grown)
    }

    /// Keeps a message. Returns the length of its record.
    pub(super) fn append(
        &mut self,
        message: &MessageView<'_>,
        apart: Option<Arc<LargeBody>>,
        mut marks: Marks,
    ) -> usize {
        marks.flags |= if apart.is_some() { APART } else { 0 };
        let form = form_in(&mut self.forms, message.form);
        let length = record::length_bytes(message, marks.flags);
        let sequence = self.next_sequence;
        let apart_bytes = apart.as_ref().map_or(0, |body| body.as_bytes().len());
        let goes_on = |last: &Segment| {
            // What was read from the store on disk may end before the number that comes next; and what is let go is a
            // segment with its large bodies.
            last.next == sequence
                && last.bytes.capacity() - last.bytes.len() >= length
                && (apart_bytes == 0 || last.apart_bytes < SEGMENT_BYTES_MAX)
        };
        if !self.segments.back().is_some_and(goes_on) || self.ends_in_hole() {
            self.add_segment(length);
        }
        if let Some(last) = self.segments.back_mut() {
            record::append(&mut last.bytes, message, form, marks);
            last.next = sequence + 1;
            last.live += 1;
            last.live_bytes += length;
            last.apart_bytes += apart_bytes;
            last.kept += usize::from(marks.flags & KEPT != 0);
        }
        if let Some(body) = apart {
            self.apart.insert(sequence, body);
        }
        self.next_sequence += 1;
        self.untaken += 1;
        self.live += 1;
        self.live_bytes += length;
        length
    }

    /// Takes the oldest message that nobody has taken.
    pub(super) fn take(&mut self) -> Next {
        if self.untaken == 0 {
            return Next::Nothing;
        }
        loop {
            let at = self.position(self.cursor.segment);
            if let Some(index) = at
                && let Some(segment) = self.segments.get(index)
                && let Some(header) = record::header(&segment.bytes, self.cursor.offset)
            {
                let (first, offset) = (segment.first, self.cursor.offset as u32);
                let taken =
                    MessageRef { sequence: self.cursor.sequence, segment: first, offset, lane: self.lane };
                self.cursor.sequence += header.numbers();
                self.cursor.offset += header.length;
                self.leave_segment(index);
                if header.is_untaken() {
                    self.untaken -= 1;
                    return Next::Message(taken);
                }
                continue;
            }
            // It stands where a hole begins or began, or where there is nothing any more.
            let next = at.map_or_else(|| self.position_after(self.cursor.sequence), |index| index + 1);
            let first = self.segments.get(next).map(|segment| segment.first);
            if self.holes.front().is_some_and(|hole| first.is_none_or(|first| hole.first < first)) {
                return Next::Load;
            }
            let Some(first) = first else { return Next::Nothing };
            self.cursor = Cursor { segment: first, offset: 0, sequence: first };
            if let Some(left) = at {
                self.note_if_sparse(left);
            }
        }
    }

    /// Goes on to the next segment if the cursor is at the end of one and no hole follows.
    pub(super) fn leave_segment(&mut self, index: usize) {
        let at_end =
            self.segments.get(index).is_some_and(|segment| self.cursor.offset == segment.bytes.len());
        let Some(next) = self.segments.get(index + 1).map(|segment| segment.first).filter(|_| at_end) else {
            return;
        };
        if self.holes.front().is_none_or(|hole| hole.first > next) {
            self.cursor = Cursor { segment: next, offset: 0, sequence: next };
            self.note_if_sparse(index);
        }
    }

    /// Where the segment is that a message lies in; `None` if it was moved out of it.
    #[inline]
    fn position_of(&self, message: MessageRef) -> Option<usize> {
        // What is left of its segment may have a place that begins with the same number.
        if self.has_strays() && self.moved.contains_key(&message.sequence) {
            return None;
        }
        self.position(message.segment)
    }

    /// Whether messages may have been moved out of segments that are still there, or can be read again.
    #[inline]
    pub(super) fn has_strays(&self) -> bool {
        self.is_mixed && !self.moved.is_empty()
    }

    /// Reads a message that is not settled.
    pub(super) fn stored(&self, message: MessageRef) -> Option<Stored<'_>> {
        let (bytes, offset) = match self.position_of(message).and_then(|index| self.segments.get(index)) {
            Some(segment) => (segment.bytes.as_slice(), message.offset as usize),
            None => (&**self.moved.get(&message.sequence)?, 0),
        };
        let header = record::header(bytes, offset)?;
        let fields = record::fields(bytes, offset, header)?;
        let apart = if header.flags & APART == 0 { None } else { self.apart.get(message.sequence) };
        let form = *self.forms.get(usize::from(header.form))?;
        Some(Stored::of((header, fields), form, apart))
    }

    /// Marks a message as delivered before.
    pub(super) fn mark_redelivered(&mut self, message: MessageRef) {
        match self.position_of(message).and_then(|index| self.segments.get_mut(index)) {
            Some(segment) => record::set_flags(&mut segment.bytes, message.offset as usize, REDELIVERED),
            None => {
                if let Some(bytes) = self.moved.get_mut(&message.sequence) {
                    record::set_flags(bytes, 0, REDELIVERED);
                }
            }
        }
    }

    /// Forgets a message that was taken.
    pub(super) fn settle(&mut self, message: MessageRef) -> Settled {
        let Some(index) = self.position_of(message) else {
            let Some(bytes) = self.moved.remove(&message.sequence) else {
                return Settled::default();
            };
            let flags = record::header(&bytes, 0).map_or(0, |header| header.flags);
            if flags & APART != 0 {
                self.apart.remove(message.sequence);
            }
            self.count_gone(1, bytes.len());
            return Settled { bytes: bytes.len(), kept: flags & KEPT != 0 };
        };
        let Some(segment) = self.segments.get_mut(index) else {
            return Settled::default();
        };
        let offset = message.offset as usize;
        let Some((flags, bytes)) = mark_settled(segment, offset) else {
            return Settled::default();
        };
        if flags & APART != 0 {
            self.apart.remove(message.sequence);
        }
        self.count_settled(index, 1, bytes);
        Settled { bytes, kept: flags & KEPT != 0 }
    }

    /// So many messages more of a segment, with records so long together, are settled.
    #[inline]
    pub(super) fn count_settled(&mut self, index: usize, count: usize, bytes: usize) {
        if let Some(segment) = self.segments.get_mut(index) {
            segment.live -= count;
            segment.live_bytes -= bytes;
            if segment.live == 0 {
                self.reuse(index);
            } else {
                self.note_if_sparse(index);
            }
        }
        self.count_gone(count, bytes);
    }

    #[inline]
    fn count_gone(&mut self, count: usize, bytes: usize) {
        self.live -= count;
        self.live_bytes -= bytes;
        if self.live == 0 {
            self.clear();
        } else {
            self.dissolve_sparse();
        }
    }

    /// Forgets all messages, and all memory. Returns the length of their records.
    pub(super) fn clear(&mut self) -> usize {
        let bytes = self.live_bytes;
        self.pages.release_all();
        for segment in self.segments.drain(..) {
            pool::give(segment.bytes);
        }
        if let Some(spare) = self.spare.take() {
            pool::give(spare);
        }
        if self.moved.capacity() > 0 {
            self.moved = Numbered::default();
        }
        self.apart.clear();
        self.sparse.clear();
        self.holes.clear();
        self.cursor.sequence = self.next_sequence;
        self.is_mixed = false;
        (self.untaken, self.live, self.live_bytes, self.held_bytes) = (0, 0, 0, 0);
        bytes
    }

    /// Where the segment is that begins with this number, if it is still there.
    pub(super) fn position(&self, first: u64) -> Option<usize> {
        let begins = |segment: &Segment| segment.first == first;
        if self.segments.front().is_some_and(begins) {
            return Some(0);
        }
        if self.segments.back().is_some_and(begins) {
            return Some(self.segments.len() - 1);
        }
        self.segments.binary_search_by_key(&first, |segment| segment.first).ok()
    }

    /// Where the first segment is that begins with this number or a later one.
    pub(super) fn position_after(&self, sequence: u64) -> usize {
        self.segments.partition_point(|segment| segment.first < sequence)
    }

    fn add_segment(&mut self, length: usize) {
        if let Some(empty) = self.segments.pop_back_if(|last| last.bytes.is_empty()) {
            // Too small; the new one begins with the same number.
            self.held_bytes -= empty.bytes.capacity();
            pool::give(empty.bytes);
        }
        // One that ends because of its large bodies was longer than needed.
        let grown = self.segments.back().map_or(SEGMENT_BYTES_MIN, |last| {
            match last.apart_bytes < SEGMENT_BYTES_MAX {
                true => last.bytes.capacity().saturating_mul(2),
                false => last.bytes.len().next_power_of_two(),
            }
        });
        let wanted = grown.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX).max(length.next_power_of_two());
        let bytes = match self.spare.take_if(|spare| spare.capacity() >= length) {
            Some(spare) => spare,
            None => pool::take(wanted),
        };
        let first = self.next_sequence;
        self.grown = true;
        self.held_bytes += bytes.capacity();
        self.segments.push_back(Segment::new((first, first), bytes));
        if self.untaken == 0 {
            self.cursor = Cursor { segment: first, offset: 0, sequence: first };
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

    /// Whether the newest messages are in a hole: what comes is no part of the last segment.
    fn ends_in_hole(&self) -> bool {
        let last = self.segments.back().map_or(0, |last| last.first);
        self.holes.back().is_some_and(|hole| hole.first > last)
    }

    /// Uses the space of a segment without live messages again.
    fn reuse(&mut self, index: usize) {
        if index + 1 == self.segments.len() && self.untaken == 0 {
            // Nothing live in the last segment: everything was taken.
            if let Some(segment) = self.segments.get_mut(index) {
                segment.bytes.clear();
                (segment.first, segment.next) = (self.next_sequence, self.next_sequence);
                (segment.kept, segment.apart_bytes) = (0, 0);
                self.pages.release(segment.page.take());
                self.cursor = Cursor { segment: self.next_sequence, offset: 0, sequence: self.next_sequence };
            }
        } else if let Some(segment) = self.segments.remove(index) {
            self.held_bytes -= segment.bytes.capacity();
            self.pages.release(segment.page);
            self.keep_spare(segment.bytes);
            if index == self.segments.len() {
                self.close_last();
            }
        }
    }

    pub(super) fn keep_spare(&mut self, mut bytes: Vec<u8>) {
        if self.spare.is_none() && bytes.capacity() <= SEGMENT_BYTES_MAX {
            bytes.clear();
            self.spare = Some(bytes);
        } else {
            pool::give(bytes);
        }
    }

    pub(super) fn note_if_sparse(&mut self, index: usize) {
        let last = index + 1 == self.segments.len();
        let cursor = self.cursor.segment;
        if let Some(segment) = self.segments.get_mut(index) {
            let sparse = segment.live_bytes.saturating_mul(HELD_FACTOR) < segment.bytes.capacity();
            if sparse && !segment.noted && !last && segment.first != cursor {
                segment.noted = true;
                self.sparse.push_back(segment.first);
            }
        }
    }

    fn dissolve_sparse(&mut self) {
        while self.held_bytes > self.live_bytes.saturating_mul(HELD_FACTOR) + HELD_SLACK_BYTES {
            let Some(first) = self.sparse.pop_front() else { return };
            let Some(index) = self.position(first) else { continue };
            if first == self.cursor.segment || first >= self.cursor.sequence {
                // Not read to its end: what is settled of it was taken out of turn.
                self.compact(index);
                continue;
            }
            let Some(segment) = self.segments.remove(index) else { continue };
            self.held_bytes -= segment.bytes.capacity();
            let (mut offset, mut sequence) = (0, segment.first);
            while let Some(header) = record::header(&segment.bytes, offset) {
                if header.flags & SETTLED == 0
                    && let Some(bytes) = segment.bytes.get(offset..offset + header.length)
                {
                    self.moved.insert(sequence, bytes.into());
                }
                offset += header.length;
                sequence += header.numbers();
            }
            self.pages.release(segment.page);
            self.keep_spare(segment.bytes);
        }
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
mod tests;
