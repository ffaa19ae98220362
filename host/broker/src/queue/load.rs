//! Messages that are in the store on disk alone: letting go of what can be read again, and reading it.

use super::{
    ahead::records,
    forms::form_in,
    paging::{Outside, Place},
    pool,
    record::{self, APART, DEAD_LETTERED, KEPT, Marks, OWN_TTL, REDELIVERED, TIMED},
    slab::{Segment, Store},
};
use crate::{
    memory::{LargeBody, MemoryAccount},
    queue::is_apart,
    store::{self, Kept, KeptId, Ranges, Stored},
};
use alloc::{collections::VecDeque, sync::Arc, vec::Vec};
use core::ops::Range;

/// About how many bytes are read in one go.
pub(super) const LOAD_BYTES: usize = 256 * 1024;

/// Numbers whose messages are in the store on disk alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Hole {
    /// The first number.
    pub(super) first: u64,
    /// The number after the last.
    pub(super) end: u64,
    /// How many messages.
    pub(super) messages: usize,
    /// Up to this number, exclusive, it is known how long the bodies are.
    pub(super) counted: u64,
    /// How long those are together.
    pub(super) body_bytes: u64,
    /// The page that has them; `None` if they are where the queue is.
    pub(super) page: Option<KeptId>,
    /// Of a page: numbers in order of those that are where the queue is, too.
    pub(super) kept: Vec<Ranges>,
    /// Numbers in order that are no part of it, though they may be read there: they were taken out of turn.
    pub(super) taken: Vec<Ranges>,
}

impl Hole {
    /// Whether it has a message that is read there.
    fn has(&self, sequence: u64) -> bool {
        let after = self.taken.partition_point(|range| range.first <= sequence);
        let taken = after.checked_sub(1).and_then(|at| self.taken.get(at));
        (self.first..self.end).contains(&sequence)
            && taken.is_none_or(|range| sequence >= range.first + u64::from(range.count))
    }

    /// The ranges of numbers that it has, and that are to be settled where the queue is if it is dropped.
    fn kept(&self, mut each: impl FnMut(Ranges)) {
        if self.page.is_some() {
            // The others never were there, and what is settled there before it comes is remembered for ever.
            return self.kept.iter().filter_map(|range| range.from(self.first)).for_each(each);
        }
        let mut first = self.first;
        let end = Ranges { first: self.end, count: 0 };
        for taken in self.taken.iter().chain([&end]) {
            while first < taken.first {
                let count = u32::try_from(taken.first - first).unwrap_or(u32::MAX);
                each(Ranges { first, count });
                first += u64::from(count);
            }
            first = first.max(taken.first + u64::from(taken.count));
        }
    }
}

/// What is being read.
struct Loaded {
    bytes: Vec<u8>,
    apart: Vec<(u64, Arc<LargeBody>)>,
    first: u64,
    /// The number after the last.
    next: u64,
    messages: usize,
    /// How many of them are kept where their queue is.
    kept: usize,
    /// The page that is read.
    page: Option<KeptId>,
    /// The length of the records of messages.
    length_bytes: usize,
    /// How long their bodies are, and those of numbers below [`Hole::counted`].
    body_bytes: u64,
    counted_bytes: u64,
    /// Could not be read.
    lost: usize,
    /// Those of them that are where the queue is.
    unreadable: Vec<Ranges>,
    /// The first that cannot be read now: it and what is behind it are read later.
    later: Option<u64>,
    /// How often those were delivered that were.
    deliveries: Vec<(u64, u16)>,
    /// One of them may expire.
    timed: bool,
}

/// What came of reading.
#[derive(Default)]
pub(super) struct Read {
    /// How many bytes are in memory by that.
    pub(super) bytes: usize,
    /// How long the bodies of the messages are that were read.
    pub(super) body_bytes: u64,
    /// How much of what was counted of bodies is for what was read, or is nowhere.
    pub(super) counted_bytes: u64,
    /// How many messages could not be read.
    pub(super) lost: usize,
    /// What comes next cannot be read now.
    pub(super) is_later: bool,
    /// Which messages were delivered before, and how often.
    pub(super) deliveries: Vec<(u64, u16)>,
    /// A message was read whose time to live may end.
    pub(super) timed: bool,
}

impl Store {
    /// Begins with what the store on disk has.
    pub(super) fn recover(&mut self, kept: Kept) {
        self.next_sequence = self.next_sequence.max(kept.next);
        if kept.messages > 0 {
            let messages = usize::try_from(kept.messages).unwrap_or(usize::MAX);
            let (first, end) = (kept.first, kept.next);
            self.holes.push_back(Hole { first, end, messages, counted: first, ..Hole::default() });
            self.cursor.sequence = kept.first;
            self.cursor.segment = kept.first;
            (self.untaken, self.live) = (messages, messages);
        }
    }

    /// The numbers in holes.
    pub(super) fn holes(&self) -> impl Iterator<Item = Range<u64>> {
        self.holes.iter().map(|hole| hole.first..hole.end)
    }

    /// How long the bodies are of messages that nobody has taken, as far as that is known of those in holes.
    pub(super) fn untaken_bytes(&self) -> u64 {
        let cursor = self.cursor;
        let untaken = self.segments.iter().filter_map(|segment| match segment.first {
            first if first == cursor.segment => Some((segment, cursor.offset, cursor.sequence)),
            first if first >= cursor.sequence => Some((segment, 0, first)),
            _ => None,
        });
        let in_holes: u64 = self.holes.iter().map(|hole| hole.body_bytes).sum();
        in_holes
            + untaken.map(|(segment, offset, first)| self.body_bytes(segment, offset, first)).sum::<u64>()
    }

    /// How long the bodies are in a segment that nobody has taken, from an offset on, where the message of that number is.
    fn body_bytes(&self, segment: &Segment, mut offset: usize, mut sequence: u64) -> u64 {
        let mut bytes = 0;
        while let Some(header) = record::header(&segment.bytes, offset) {
            if header.is_untaken() {
                let apart = if header.flags & APART == 0 { None } else { self.apart.get(sequence) };
                bytes += apart.map_or(header.body_bytes(), |body| body.body_bytes());
            }
            offset += header.length;
            sequence += header.numbers();
        }
        bytes
    }

    /// Forgets what is in holes, and what could not be read, which counts no more. Returns how many messages that were; `kept`
    /// is called with the numbers that are to be settled where the queue is.
    pub(super) fn drop_holes(&mut self, mut kept: impl FnMut(Ranges)) -> usize {
        let mut messages = 0;
        for hole in self.holes.drain(..) {
            hole.kept(&mut kept);
            messages += hole.messages;
            self.pages.release(hole.page);
        }
        self.unreadable.drain(..).for_each(kept);
        self.untaken -= messages;
        self.live -= messages;
        messages
    }

    /// Reads the front of a hole, by its place among them. `may_expire` says that all messages of the queue may. `None` where
    /// nobody says from where.
    pub(super) fn load(
        &mut self,
        at: usize,
        outside: &Outside<'_>,
        account: &Arc<MemoryAccount>,
        may_expire: bool,
    ) -> Option<Read> {
        let (store, id) = outside.source(self.holes.get(at)?.page)?;
        let mut hole = self.holes.remove(at)?;
        let (first, end) = (hole.first, hole.end);
        let mut loaded = Loaded {
            bytes: pool::take(LOAD_BYTES),
            apart: Vec::new(),
            first,
            next: first,
            messages: 0,
            kept: 0,
            page: hole.page,
            length_bytes: 0,
            body_bytes: 0,
            counted_bytes: 0,
            lost: 0,
            unreadable: Vec::new(),
            later: None,
            deliveries: Vec::new(),
            timed: false,
        };
        let forms = &mut self.forms;
        let read = store.read(id, first, LOAD_BYTES, &mut |stored: Stored<'_>| {
            if hole.has(stored.sequence) {
                let about = (account, store, may_expire);
                loaded.push(&stored, |form| form_in(forms, form), about, hole.counted);
            }
        });
        let later = loaded.later;
        let next = later.or(read);
        hole.messages = hole.messages.saturating_sub(loaded.messages);
        let (mut gone, lost, mut counted_bytes, mut done) = (0, loaded.lost, hole.body_bytes, None);
        match next {
            Some(next) if next < end && (next > first || later.is_some()) => {
                hole.messages = hole.messages.saturating_sub(lost);
                gone += lost;
                if next < hole.counted {
                    counted_bytes = counted_bytes.min(loaded.counted_bytes);
                }
                (hole.first, hole.counted) = (next, hole.counted.max(next));
                hole.body_bytes -= counted_bytes;
                hole.taken.retain(|range| range.first + u64::from(range.count) > next);
                hole.kept.retain(|range| range.first + u64::from(range.count) > next);
                self.holes.insert(at, hole);
            }
            // What is missing is nowhere.
            _ => {
                gone += hole.messages;
                done = hole.page;
            }
        }
        self.untaken = self.untaken.saturating_sub(gone);
        self.live = self.live.saturating_sub(gone);
        let came = Read {
            bytes: loaded.length_bytes,
            body_bytes: loaded.body_bytes,
            counted_bytes,
            lost: gone,
            is_later: later.is_some() && loaded.messages == 0,
            deliveries: core::mem::take(&mut loaded.deliveries),
            timed: loaded.timed,
        };
        self.unreadable.append(&mut loaded.unreadable);
        self.insert(loaded);
        self.pages.release(done);
        Some(came)
    }

    fn insert(&mut self, loaded: Loaded) {
        let Loaded { bytes, apart, first, next, messages, kept, page, length_bytes: live_bytes, .. } = loaded;
        if messages == 0 {
            pool::give(bytes);
            if self.live == 0 {
                self.clear();
            }
            return;
        }
        let apart_bytes = apart.iter().map(|(_, body)| body.as_bytes().len()).sum();
        apart.into_iter().for_each(|(sequence, body)| self.apart.insert(sequence, body));
        self.live_bytes += live_bytes;
        // Of bodies in files little is read, and there may be many such pieces.
        let bytes = if bytes.len() * 4 < bytes.capacity() { exactly(bytes) } else { bytes };
        self.held_bytes += bytes.capacity();
        let at = self.position_after(first);
        self.pages.hold(page);
        let segment = Segment::new((first, next), bytes);
        self.segments.insert(at, Segment { live: messages, live_bytes, apart_bytes, kept, page, ..segment });
        self.close_last();
    }

    /// Lets go of segments that can be read again, all but the first `keep_bytes` of what comes next and the last; what
    /// could not be may become a page. What holds one of the numbers `walks` stays too. Returns how many bytes are free by
    /// that.
    pub(super) fn evict(&mut self, keep_bytes: usize, walks: &[u64], outside: &mut Outside<'_>) -> usize {
        let mut at = self.position_after(self.cursor.sequence);
        if self.segments.get(at).is_some_and(|segment| segment.first == self.cursor.segment) {
            at += 1;
        }
        let mut ahead = 0;
        while let Some(segment) = self.segments.get(at).filter(|_| ahead < keep_bytes) {
            ahead += segment.bytes.len() + segment.apart_bytes;
            at += 1;
        }
        let mut freed = 0;
        while at + 1 < self.segments.len() {
            let Some(numbers) = self.numbers(at) else { break };
            let is_walked = walks.iter().any(|walk| numbers.contains(walk));
            let place = if is_walked { None } else { self.place_outside(at, numbers, outside) };
            match place {
                Some(place) => freed += self.let_go(at, place),
                None => at += 1,
            }
        }
        freed
    }

    /// The numbers that a segment stands for, which is not the last.
    pub(super) fn numbers(&self, at: usize) -> Option<Range<u64>> {
        let first = self.segments.get(at)?.first;
        let next = self.segments.get(at + 1)?.first;
        let hole = self.holes.iter().map(|hole| hole.first).find(|hole| *hole > first);
        Some(first..hole.map_or(next, |hole| hole.min(next)))
    }

    fn let_go(&mut self, at: usize, place: Place) -> usize {
        let Some(segment) = self.segments.remove(at) else { return 0 };
        let (out, out_bytes) = if self.is_mixed { self.move_out(&segment) } else { (0, 0) };
        let Place { numbers, page, taken } = place;
        let body_bytes = self.body_bytes(&segment, 0, segment.first);
        if segment.apart_bytes > 0 {
            let moved = &self.moved;
            self.apart.remove_all(&numbers, |number| moved.contains_key(&number));
        }
        let freed = segment.live_bytes - out_bytes;
        self.held_bytes -= segment.bytes.capacity();
        self.live_bytes -= freed;
        self.moves += 1;
        let (Range { start: first, end }, messages) = (numbers, segment.live - out);
        let kept = if page.is_some() && segment.kept > 0 { kept_of(&segment) } else { Vec::new() };
        let hole = Hole { first, end, messages, counted: end, body_bytes, page, kept, taken };
        if messages == 0 || !join(&mut self.holes, hole) {
            self.pages.release(page);
        }
        pool::give(segment.bytes);
        freed
    }
}

/// The numbers of a segment that nobody has taken and that are where the queue is.
fn kept_of(segment: &Segment) -> Vec<Ranges> {
    let mut ranges = Vec::new();
    let kept = records(segment).filter(|(.., header)| header.is_untaken() && header.flags & KEPT != 0);
    kept.for_each(|(_, sequence, _)| Ranges::push(&mut ranges, sequence));
    ranges
}

/// Adds a hole where it belongs. False if it is a part of another now.
fn join(holes: &mut VecDeque<Hole>, hole: Hole) -> bool {
    let at = holes.partition_point(|other| other.first < hole.first);
    if let Some(before) = at.checked_sub(1).and_then(|before| holes.get_mut(before))
        && before.end == hole.first
        && before.counted == before.end
        && before.page == hole.page
    {
        (before.end, before.counted) = (hole.end, hole.counted);
        before.messages += hole.messages;
        before.body_bytes += hole.body_bytes;
        before.kept.extend(hole.kept);
        before.taken.extend(hole.taken);
        false
    } else {
        holes.insert(at, hole);
        true
    }
}

impl Loaded {
    fn push(
        &mut self,
        stored: &Stored<'_>,
        form: impl FnOnce(&'static dyn leveret_model::Form) -> u8,
        (account, store, may_expire): (&Arc<MemoryAccount>, &dyn store::Store, bool),
        counted: u64,
    ) {
        if self.later.is_some() {
            return;
        }
        let Some(message) = &stored.message else {
            self.later = stored.is_later.then_some(stored.sequence);
            if !stored.is_later {
                self.lost += 1;
                if self.page.is_none() || stored.is_kept {
                    Ranges::push(&mut self.unreadable, stored.sequence);
                }
            }
            return;
        };
        if self.messages == 0 {
            self.first = stored.sequence;
        } else if stored.sequence > self.next {
            record::append_gap(&mut self.bytes, stored.sequence - self.next);
        }
        let is_kept = self.page.is_none() || stored.is_kept;
        let mut flags = if is_kept { KEPT } else { 0 };
        flags |= if stored.redelivered { REDELIVERED } else { 0 };
        flags |= if stored.dead_lettered { DEAD_LETTERED } else { 0 };
        if is_apart(message) {
            flags |= APART;
            self.apart.push((stored.sequence, LargeBody::of(message, store, account)));
        }
        // Of what was written by a version that did not tell when it came nothing expires.
        if stored.came_ms > 0 {
            let own = message.ttl_ms().is_ok_and(|ttl_ms| ttl_ms.is_some());
            flags |= if own { OWN_TTL | TIMED } else { 0 };
            flags |= if may_expire { TIMED } else { 0 };
        }
        self.timed |= flags & TIMED != 0;
        if stored.deliveries > 0 {
            self.deliveries.push((stored.sequence, stored.deliveries));
        }
        let body_bytes = message.body_bytes();
        self.body_bytes += body_bytes;
        self.counted_bytes += if stored.sequence < counted { body_bytes } else { 0 };
        self.length_bytes += record::length_bytes(message, flags);
        let marks = Marks { flags, came_ms: stored.came_ms };
        record::append(&mut self.bytes, message, form(message.form), marks);
        self.next = stored.sequence + 1;
        self.messages += 1;
        self.kept += usize::from(is_kept);
    }
}

/// What there is, in no more room than it takes.
fn exactly(bytes: Vec<u8>) -> Vec<u8> {
    let exact = bytes.as_slice().into();
    pool::give(bytes);
    exact
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_no_part_of_what_is_not() {
        let hole = |first, end, counted| {
            let body_bytes = counted - first;
            Hole { first, end, messages: 1, counted, body_bytes, ..Hole::default() }
        };
        let joined = |before: Hole| {
            let mut holes = VecDeque::from([before]);
            join(&mut holes, hole(10, 20, 20));
            let parts = holes.iter().map(|hole| (hole.first, hole.end, hole.counted, hole.body_bytes));
            parts.collect::<Vec<_>>()
        };
        assert_eq!(joined(hole(0, 10, 10)), [(0, 20, 20, 20)]);
        assert_eq!(joined(hole(0, 10, 9)), [(0, 10, 9, 9), (10, 20, 20, 10)]);
        assert_eq!(joined(hole(0, 9, 9)), [(0, 9, 9, 9), (10, 20, 20, 10)]);
    }
}
