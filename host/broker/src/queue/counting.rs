//! How long bodies are together, where that is limited, of messages that are in the store on disk alone.
//!
//! Of what a queue let go of itself it knows that. Of what it found at a start nobody does: the housekeeper reads it,
//! one piece after another and under no lock, and keeps nothing of it. Until all is counted a limit holds for what is:
//! so nothing is let go or refused too early, and some of it late.

use super::{
    Queue,
    keeping::{Keeping, Progress},
    lanes::Lanes,
    load::{Hole, LOAD_BYTES},
    slab::Store,
    state::State,
};
use crate::store::Stored;
use alloc::sync::Arc;
use core::ops::Range;

/// What a piece left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// There is more.
    Piece,
    /// There is nothing more to be counted.
    All,
    /// What comes next cannot be read now.
    Later,
}

impl Queue {
    /// Counts what comes next, about [`LOAD_BYTES`]; what is too much by that goes. What the store is to be told goes into
    /// `progress`.
    pub(crate) fn count_piece(self: &Arc<Self>, progress: &mut Progress) -> Counted {
        let next = self.state.lock().next_to_count();
        let Some((lane, keeping, numbers)) = next else { return Counted::All };
        let (mut body_bytes, mut later) = (0, None);
        let after = keeping.store.read(keeping.id, numbers.start, LOAD_BYTES, &mut |stored: Stored<'_>| {
            if later.is_some() || !numbers.contains(&stored.sequence) {
                return;
            }
            match &stored.message {
                Some(message) => body_bytes += message.body_bytes(),
                None if stored.is_later => later = Some(stored.sequence),
                None => {}
            }
        });
        let end = match later.or(after.filter(|after| *after > numbers.start)) {
            Some(end) => end.min(numbers.end),
            // What is missing is nowhere.
            None => numbers.end,
        };
        let mut state = self.state.lock();
        if state.is_deleted() {
            return Counted::All;
        }
        state.counted(lane, numbers.start..end, body_bytes);
        state.is_counting = later.is_none();
        state.shorten();
        state.pass_on(progress);
        self.part(state);
        if later.is_some() { Counted::Later } else { Counted::Piece }
    }
}

impl State {
    /// Whether bodies are to be counted and nobody does. From then on it is taken that somebody does, until there is
    /// nothing more, or it cannot be read.
    pub(super) fn begin_counting(&mut self) -> bool {
        let begins = !self.is_counting && self.next_to_count().is_some();
        self.is_counting |= begins;
        begins
    }

    /// Where what is not counted begins, and the numbers up to which it may go.
    fn next_to_count(&mut self) -> Option<(u16, Keeping, Range<u64>)> {
        let next = self.settings.max_length_bytes.and_then(|_| self.lanes.uncounted());
        self.is_counting &= next.is_some();
        next
    }

    /// The bodies of these numbers are so long, if they are still where they were.
    fn counted(&mut self, lane: u16, numbers: Range<u64>, body_bytes: u64) {
        let is_known = self.lanes.lane_mut(lane).store.counted(numbers, body_bytes);
        if is_known && self.settings.max_length_bytes.is_some() {
            self.ready_bytes += body_bytes;
        }
    }
}

impl Lanes {
    /// The first that are not counted: in which lane, and where that is kept.
    fn uncounted(&self) -> Option<(u16, Keeping, Range<u64>)> {
        self.places().find_map(|at| {
            let lane = self.lane(at);
            Some((at, lane.keeping.clone()?, lane.store.uncounted()?))
        })
    }
}

impl Store {
    /// The first numbers in a hole of which it is not known how long the bodies are.
    fn uncounted(&self) -> Option<Range<u64>> {
        let hole = self.holes.iter().find(|hole| hole.counted < hole.end)?;
        Some(hole.counted..hole.end)
    }

    /// Notes how long the bodies of these numbers are. Whether they were still to be counted.
    fn counted(&mut self, numbers: Range<u64>, body_bytes: u64) -> bool {
        let to_count = |hole: &&mut Hole| hole.counted == numbers.start && numbers.end <= hole.end;
        let Some(hole) = self.holes.iter_mut().find(to_count) else { return false };
        hole.counted = numbers.end;
        hole.body_bytes += body_bytes;
        true
    }
}
