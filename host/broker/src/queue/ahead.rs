//! Messages that are taken out of turn: by consumers that want some messages and not others.
//!
//! Such a consumer walks over what nobody has taken ([`Store::seek`]) from a place of its own, and takes what it wants where
//! it lies ([`Store::take_ahead`]): its record is marked, and the cursor passes it when it comes there. What the consumer
//! does not want stays as it was. A message that was taken so and comes back is kept by its lane, as any that comes back; its
//! record stays marked.
//!
//! *Holes* are read piece by piece as the walk comes to them. Where the walk stands a segment is not let go, so a walk never
//! reads again what it went past.
//!
//! *Bound:* of a segment before which the cursor stands and that is mostly settled only the rest is kept
//! ([`Store::compact`]). What is handed out of such a segment, or of one that is let go, is moved to an allocation of its own
//! ([`Store::move_out`]); it is found by its number from then on, whatever becomes of the segment.

use super::{
    record::{self, KEPT, SETTLED, TAKEN},
    slab::{Cursor, MessageRef, Segment, Store},
};
use alloc::vec::Vec;

/// From where a consumer goes on looking at what nobody has taken.
#[derive(Clone, Copy, Default)]
pub(super) struct Walk {
    /// The record, which is good while nothing was moved.
    at: Cursor,
    /// [`Store::moves`] as of then.
    moves: u64,
}

/// What is next for a walk.
pub(super) enum Seen {
    /// This message.
    Message(MessageRef),
    /// The front of the hole that begins with this number is to be read first.
    Load(u64),
    /// Nothing.
    Nothing,
}

impl Walk {
    /// The number from which it goes on.
    pub(super) fn sequence(&self) -> u64 {
        self.at.sequence
    }
}

impl Store {
    /// The first message from a walk's place on that nobody has taken; the walk stands there then.
    pub(super) fn seek(&self, walk: &mut Walk) -> Seen {
        if walk.at.sequence < self.cursor.sequence {
            walk.at = self.cursor;
        } else if walk.moves != self.moves || self.position(walk.at.segment).is_none() {
            walk.at = self.locate(walk.at.sequence);
        }
        walk.moves = self.moves;
        loop {
            let index = self.position(walk.at.segment);
            if let Some(segment) = index.and_then(|index| self.segments.get(index))
                && let Some(header) = record::header(&segment.bytes, walk.at.offset)
            {
                if header.is_untaken() {
                    let Cursor { segment, offset, sequence } = walk.at;
                    return Seen::Message(MessageRef {
                        sequence,
                        segment,
                        offset: offset as u32,
                        lane: self.lane,
                    });
                }
                walk.at.offset += header.length;
                walk.at.sequence += header.numbers();
                continue;
            }
            let next = index.map_or_else(|| self.position_after(walk.at.sequence), |index| index + 1);
            let first = self.segments.get(next).map(|segment| segment.first);
            let hole = self.holes.partition_point(|hole| hole.end <= walk.at.sequence);
            if let Some(hole_first) = self.holes.get(hole).map(|hole| hole.first)
                && first.is_none_or(|first| hole_first < first)
            {
                return Seen::Load(hole_first);
            }
            let Some(first) = first else { return Seen::Nothing };
            walk.at = Cursor { segment: first, offset: 0, sequence: first };
        }
    }

    /// The walk goes past the message at which it stands.
    pub(super) fn pass(&self, walk: &mut Walk) {
        let segment = self.position(walk.at.segment).and_then(|index| self.segments.get(index));
        if let Some(header) = segment.and_then(|segment| record::header(&segment.bytes, walk.at.offset)) {
            walk.at.offset += header.length;
            walk.at.sequence += header.numbers();
        }
    }

    /// Where the first record is of that number or a later one, if it is in a segment with that number.
    fn locate(&self, sequence: u64) -> Cursor {
        let after = self.segments.partition_point(|segment| segment.first <= sequence);
        let segment = after.checked_sub(1).and_then(|index| self.segments.get(index));
        let Some(segment) = segment.filter(|segment| sequence < segment.next) else {
            // Of no segment: what is next is found by the number.
            return Cursor { segment: u64::MAX, offset: 0, sequence };
        };
        let mut at = Cursor { segment: segment.first, offset: 0, sequence: segment.first };
        while at.sequence < sequence
            && let Some(header) = record::header(&segment.bytes, at.offset)
        {
            at.offset += header.length;
            at.sequence += header.numbers();
        }
        at
    }

    /// Takes a message that [`Self::seek`] found.
    pub(super) fn take_ahead(&mut self, message: MessageRef) {
        if let Some(segment) = self.position(message.segment).and_then(|index| self.segments.get_mut(index)) {
            record::set_flags(&mut segment.bytes, message.offset as usize, TAKEN);
            self.is_mixed = true;
            self.untaken -= 1;
            self.pass_taken();
        }
    }

    /// The cursor goes on to what nobody has taken, or to a hole.
    fn pass_taken(&mut self) {
        loop {
            let at = self.position(self.cursor.segment);
            if let Some(index) = at
                && let Some(segment) = self.segments.get(index)
                && let Some(header) = record::header(&segment.bytes, self.cursor.offset)
            {
                if header.is_untaken() {
                    return;
                }
                self.cursor.sequence += header.numbers();
                self.cursor.offset += header.length;
                self.leave_segment(index);
                continue;
            }
            let next = at.map_or_else(|| self.position_after(self.cursor.sequence), |index| index + 1);
            let Some(first) = self.segments.get(next).map(|segment| segment.first) else { return };
            if self.holes.front().is_some_and(|hole| hole.first < first) {
                return;
            }
            self.cursor = Cursor { segment: first, offset: 0, sequence: first };
            if let Some(left) = at {
                self.note_if_sparse(left);
            }
        }
    }

    /// Whether what comes next has a number below this one.
    pub(super) fn is_next_before(&mut self, sequence: u64) -> bool {
        if self.untaken == 0 || sequence < self.cursor.sequence {
            return false;
        }
        self.pass_taken();
        let segment = self.position(self.cursor.segment).and_then(|index| self.segments.get(index));
        match segment.and_then(|segment| record::header(&segment.bytes, self.cursor.offset)) {
            Some(_) => self.cursor.sequence < sequence,
            None => self.holes.front().is_some_and(|hole| hole.first < sequence),
        }
    }

    /// Whether all of a segment that nobody has taken is in the store where the queue is, or will be.
    pub(super) fn is_kept_whole(&self, segment: &Segment) -> bool {
        if !self.is_mixed {
            return segment.kept == segment.live;
        }
        records(segment).all(|(_, _, header)| !header.is_untaken() || header.flags & KEPT != 0)
    }

    /// Gives what is handed out of a segment allocations of its own, so that the rest of it can go. Returns how many messages
    /// that are, and how long their records.
    pub(super) fn move_out(&mut self, segment: &Segment) -> (usize, usize) {
        let (mut count, mut bytes) = (0, 0);
        for (offset, sequence, header) in records(segment) {
            if header.flags & (SETTLED | TAKEN) == TAKEN
                && let Some(record) = segment.bytes.get(offset..offset + header.length)
            {
                self.moved.insert(sequence, record.into());
                (count, bytes) = (count + 1, bytes + header.length);
            }
        }
        (count, bytes)
    }

    /// Leaves out of a segment that was not read to its end what is settled or handed out.
    pub(super) fn compact(&mut self, index: usize) {
        let is_last = index + 1 == self.segments.len();
        let cursor = self.cursor.segment;
        let Some(segment) = self.segments.get_mut(index) else { return };
        segment.noted = false;
        if is_last || segment.first == cursor {
            return;
        }
        let Some(mut segment) = self.segments.remove(index) else { return };
        let (out, out_bytes) = self.move_out(&segment);
        let mut bytes = Vec::with_capacity(segment.live_bytes - out_bytes);
        let (mut first, mut next, mut kept) = (None, 0, 0);
        for (offset, sequence, header) in records(&segment).filter(|(.., header)| header.is_untaken()) {
            if first.is_none() {
                first = Some(sequence);
            } else if sequence > next {
                record::append_gap(&mut bytes, sequence - next);
            }
            bytes.extend_from_slice(segment.bytes.get(offset..offset + header.length).unwrap_or_default());
            next = sequence + 1;
            kept += usize::from(header.flags & KEPT != 0);
        }
        self.moves += 1;
        self.held_bytes -= segment.bytes.capacity();
        let Some(first) = first else {
            self.pages.release(segment.page);
            return self.keep_spare(segment.bytes);
        };
        self.held_bytes += bytes.capacity();
        (segment.first, segment.next, segment.kept) = (first, next, kept);
        (segment.live, segment.live_bytes) = (segment.live - out, segment.live_bytes - out_bytes);
        let spare = core::mem::replace(&mut segment.bytes, bytes);
        self.segments.insert(index, segment);
        self.keep_spare(spare);
    }
}

/// The records of a segment, gaps too, with their offsets and numbers.
pub(super) fn records(segment: &Segment) -> impl Iterator<Item = (usize, u64, record::Header)> {
    let (mut offset, mut sequence) = (0, segment.first);
    core::iter::from_fn(move || {
        let header = record::header(&segment.bytes, offset)?;
        let at = (offset, sequence, header);
        offset += header.length;
        sequence += header.numbers();
        Some(at)
    })
}
