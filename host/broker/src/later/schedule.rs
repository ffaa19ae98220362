//! Things that are due at some time, in lanes: what one lane waits for keeps no other lane.
//!
//! *Invariant:* a lane is there while something is in it, and then `order` has it once, at
//! [`Lane::at`].

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

/// When something is due, in milliseconds since 1970, and a number by which things due at the same
/// time are ordered. No two things of one schedule have the same.
pub(super) type At = (u64, u64);

pub(super) struct Schedule<K, T> {
    lanes: BTreeMap<K, Lane<T>>,
    order: BTreeSet<(At, K)>,
    /// Lanes that are blocked until something happens, or their time comes.
    waiting: Vec<K>,
}

struct Lane<T> {
    things: BTreeMap<At, T>,
    /// Nothing is taken before.
    blocked_until_ms: u64,
    /// How often in a row it was blocked.
    tries: u32,
    /// It was unblocked by what it waited for.
    woken: bool,
    at: At,
}

/// Things of one lane, taken out because they were due, and what is to be given back with them.
pub(super) struct Taken<K, T> {
    pub(super) lane: K,
    pub(super) things: Vec<(At, T)>,
    /// How often in a row the lane was blocked before.
    pub(super) tries: u32,
    /// The lane is tried because what it waited for happened, not because its time came.
    pub(super) woken: bool,
}

impl<K, T> Default for Schedule<K, T> {
    fn default() -> Self {
        Self { lanes: BTreeMap::new(), order: BTreeSet::new(), waiting: Vec::new() }
    }
}

impl<K: Ord + Clone, T> Schedule<K, T> {
    /// When the next lane is to be looked at.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.order.first().map(|((due_ms, _), _)| *due_ms)
    }

    /// Whether a lane waits for something to happen.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn insert(&mut self, lane: K, at: At, thing: T) {
        let entry = self.lanes.entry(lane.clone()).or_insert_with(|| Lane {
            things: BTreeMap::new(),
            blocked_until_ms: 0,
            tries: 0,
            woken: false,
            at,
        });
        entry.things.insert(at, thing);
        self.place(lane);
    }

    pub(super) fn remove(&mut self, lane: &K, at: At) -> Option<T> {
        let thing = self.lanes.get_mut(lane)?.things.remove(&at)?;
        self.place(lane.clone());
        Some(thing)
    }

    /// Removes a lane with all that is in it.
    pub(super) fn remove_lane(&mut self, lane: &K) -> Vec<(At, T)> {
        let Some(removed) = self.lanes.remove(lane) else {
            return Vec::new();
        };
        self.order.remove(&(removed.at, lane.clone()));
        removed.things.into_iter().collect()
    }

    /// The lanes of a range, each with its things in order.
    pub(super) fn lanes(
        &self,
        range: impl core::ops::RangeBounds<K>,
    ) -> impl Iterator<Item = (&K, &BTreeMap<At, T>)> {
        self.lanes.range(range).map(|(key, lane)| (key, &lane.things))
    }

    /// What is in a lane.
    pub(super) fn things_mut(&mut self, lane: &K) -> impl Iterator<Item = &mut T> {
        self.lanes.get_mut(lane).into_iter().flat_map(|lane| lane.things.values_mut())
    }

    /// Takes out what is due first: things of one lane, in order, up to where another lane has
    /// something earlier, at most `max`; only one of a lane that was blocked the last time.
    pub(super) fn take(&mut self, now_ms: u64, max: usize) -> Option<Taken<K, T>> {
        let (at, key) = self.order.first()?.clone();
        if at.0 > now_ms {
            return None;
        }
        let end = self.order.iter().nth(1).map_or((u64::MAX, u64::MAX), |(at, _)| *at);
        let lane = self.lanes.get_mut(&key)?;
        let (tries, woken) = (lane.tries, core::mem::take(&mut lane.woken));
        let max = if tries > 0 { 1 } else { max };
        let mut things = Vec::new();
        while things.len() < max
            && let Some(first) = lane.things.first_entry()
            && first.key().0 <= now_ms
            && (things.is_empty() || *first.key() < end)
        {
            things.push(first.remove_entry());
        }
        self.place(key.clone());
        Some(Taken { lane: key, things, tries, woken })
    }

    /// Lets nothing of a lane be taken before a time or, with `waits`, before
    /// [`Self::unblock_waiting`].
    pub(super) fn block(&mut self, key: K, until_ms: u64, tries: u32, waits: bool) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            (lane.blocked_until_ms, lane.tries) = (until_ms, tries);
            if waits && !self.waiting.contains(&key) {
                self.waiting.push(key.clone());
            }
            self.place(key);
        }
    }

    /// A lane was tried and need not be blocked.
    pub(super) fn unblock(&mut self, key: K) {
        if let Some(lane) = self.lanes.get_mut(&key)
            && lane.tries > 0
        {
            (lane.blocked_until_ms, lane.tries) = (0, 0);
            self.place(key);
        }
    }

    /// What lanes waited for may have happened.
    pub(super) fn unblock_waiting(&mut self) {
        for key in core::mem::take(&mut self.waiting) {
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.blocked_until_ms = 0;
                lane.woken = true;
                self.place(key);
            }
        }
    }

    /// Puts a lane where it belongs in the order, or removes it if nothing is in it.
    fn place(&mut self, key: K) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let Some((due_ms, number)) = lane.things.keys().next().copied() else {
            self.remove_lane(&key);
            return;
        };
        let at = (due_ms.max(lane.blocked_until_ms), number);
        let before = core::mem::replace(&mut lane.at, at);
        if before != at {
            self.order.remove(&(before, key.clone()));
        }
        self.order.insert((at, key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(schedule: &mut Schedule<u8, char>, now_ms: u64) -> Option<(u8, alloc::string::String)> {
        let taken = schedule.take(now_ms, 10)?;
        Some((taken.lane, taken.things.into_iter().map(|(_, thing)| thing).collect()))
    }

    fn text(lane: u8, things: &str) -> Option<(u8, alloc::string::String)> {
        Some((lane, things.into()))
    }

    #[test]
    fn the_order_is_that_of_all_lanes_together() {
        let mut schedule = Schedule::default();
        for (number, (lane, due_ms, thing)) in
            (0..).zip([(1, 5, 'a'), (1, 5, 'b'), (2, 5, 'c'), (1, 6, 'd'), (1, 4, 'e'), (2, 9, 'f')])
        {
            schedule.insert(lane, (due_ms, number), thing);
        }
        assert_eq!(schedule.next_ms(), Some(4));
        assert_eq!(taken(&mut schedule, 3), None);
        assert_eq!(taken(&mut schedule, 8), text(1, "eab"));
        assert_eq!(taken(&mut schedule, 8), text(2, "c"));
        assert_eq!(taken(&mut schedule, 8), text(1, "d"));
        assert_eq!((taken(&mut schedule, 8), schedule.next_ms()), (None, Some(9)));
        assert_eq!(schedule.remove(&2, (9, 5)), Some('f'));
        assert_eq!((schedule.next_ms(), schedule.lanes.len(), schedule.order.len()), (None, 0, 0));
    }

    #[test]
    fn a_blocked_lane_keeps_its_order_and_no_other() {
        let mut schedule = Schedule::default();
        for (number, (lane, thing)) in (0..).zip([(1, 'a'), (2, 'b'), (1, 'c')]) {
            schedule.insert(lane, (1, number), thing);
        }
        schedule.block(1, 7, 1, true);
        assert_eq!(schedule.next_ms(), Some(1));
        assert_eq!(taken(&mut schedule, 5), text(2, "b"));
        assert_eq!((taken(&mut schedule, 5), schedule.next_ms()), (None, Some(7)));
        schedule.unblock_waiting();
        let first = schedule.take(5, 10).unwrap();
        assert!((first.woken, first.tries, first.things.len()) == (true, 1, 1), "one, to try");
        schedule.unblock(1);
        assert_eq!(taken(&mut schedule, 5), text(1, "c"));
        assert!(!schedule.waits());
    }
}
