//! What a plugin's calls in a virtual host came to, counted where messages pass.
//!
//! Each worker has a [`Tally`] of its own for each plugin and virtual host, and is the only one to write
//! it: a load and a store, which cost what plain integers cost. Whoever looks adds up the tallies of all
//! workers. So nothing has to be published now and then, and an idle worker's counts are there too.

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// How many ranges of time are told apart.
const RANGES: usize = 24;
/// What is below is one range, in nanoseconds; each range is twice as wide as the one before.
const FIRST_RANGE_NS: u64 = 512;
/// Of calls about fewer messages than this, one in as many is timed: two looks at the clock cost as much
/// as an eighth of such a call.
const TIMED_EVERY: u64 = 16;
/// And all of the first: what is called rarely is to have times, too.
const TIMED_FIRST: u64 = 64;

/// A number that one thread changes and others read.
#[derive(Debug, Default)]
struct Count(AtomicU64);

impl Count {
    /// Only the thread that writes the tally may do this.
    fn add(&self, more: u64) {
        self.0.store(self.get().wrapping_add(more), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One worker's counts of a plugin in a virtual host. Written by that worker alone.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    remembered: Count,
    asked: Count,
    calls: Count,
    failed: Count,
    dead_ids: Count,
    stood_in: Count,
    call_time: [Count; RANGES],
}

/// What the calls of a plugin in a virtual host came to, over its versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Messages answered from memory.
    pub remembered: u64,
    /// Messages that the plugin was asked about.
    pub asked: u64,
    /// Calls for them.
    pub calls: u64,
    /// Messages that got no answer because the plugin failed or is not there.
    pub failed: u64,
    /// Ids in decisions that were not live bindings.
    pub dead_ids: u64,
    /// Of the messages that got no answer, those that another type answered in its place.
    pub stood_in: u64,
    /// How long calls took.
    pub call_time: CallTime,
}

/// How many calls took how long: each worker's first 64, then every call about 16 messages or more, and one in
/// 16 of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallTime([u64; RANGES]);

impl CallTime {
    /// The ranges in which there are calls: up to how long, and how many. The last has no upper end.
    pub fn ranges(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let end = |range: usize| {
            (range + 1 < RANGES).then(|| Duration::from_nanos(FIRST_RANGE_NS.wrapping_shl(range as u32)))
        };
        self.0.iter().enumerate().filter(|(_, count)| **count > 0).map(move |(at, count)| (end(at), *count))
    }

    /// The end of the range in which that part of all calls is reached, between 0 and 1; the beginning of
    /// the last range, where it is there. `None` without calls.
    #[must_use]
    pub fn at(&self, part: f64) -> Option<Duration> {
        let all: u64 = self.0.iter().sum();
        let wanted = (part.clamp(0.0, 1.0) * all as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let place = self.0.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        (all > 0).then(|| Duration::from_nanos(FIRST_RANGE_NS.wrapping_shl(place.min(RANGES - 2) as u32)))
    }
}

impl Tally {
    /// Messages were answered from memory.
    pub(crate) fn remembered(&self, messages: u64) {
        self.remembered.add(messages);
    }

    /// Messages were asked about, in so many calls, or got no answer.
    pub(crate) fn asked(&self, messages: u64, calls: u64, failed: u64, dead_ids: u64) {
        self.asked.add(messages);
        self.calls.add(calls);
        self.failed.add(failed);
        self.dead_ids.add(dead_ids);
    }

    /// Another type answered in its place.
    pub(crate) fn stood_in(&self, messages: u64) {
        self.stood_in.add(messages);
    }

    /// Whether the next call is one to time. `calls` counts all of this worker, of whichever plugin.
    pub(crate) fn is_timed(&self, messages: usize, calls: u64) -> bool {
        messages as u64 >= TIMED_EVERY || calls.is_multiple_of(TIMED_EVERY) || self.calls.get() < TIMED_FIRST
    }

    /// A call took so long.
    pub(crate) fn took(&self, time: Duration) {
        let ranges = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX) / FIRST_RANGE_NS;
        let range = (u64::BITS - ranges.leading_zeros()) as usize;
        if let Some(count) = self.call_time.get(range).or(self.call_time.last()) {
            count.add(1);
        }
    }
}

impl Calls {
    /// And what that tally has.
    pub(crate) fn add(&mut self, tally: &Tally) {
        self.remembered += tally.remembered.get();
        self.asked += tally.asked.get();
        self.calls += tally.calls.get();
        self.failed += tally.failed.get();
        self.dead_ids += tally.dead_ids.get();
        self.stood_in += tally.stood_in.get();
        let more: [u64; RANGES] = array::from_fn(|range| tally.call_time.get(range).map_or(0, Count::get));
        self.call_time.0.iter_mut().zip(more).for_each(|(count, more)| *count += more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_ranges_that_double() {
        let (tally, mut calls) = (Tally::default(), Calls::default());
        for ns in [0, 511, 512, 1023, 1024, 1_000_000_000_000] {
            tally.took(Duration::from_nanos(ns));
        }
        calls.add(&tally);
        let ranges: Vec<_> = calls.call_time.ranges().collect();
        let end = |ns| Some(Duration::from_nanos(ns));
        assert_eq!(ranges, [(end(512), 2), (end(1024), 2), (end(2048), 1), (None, 1)]);
        assert_eq!(calls.call_time.at(0.5), end(1024));
        assert_eq!(calls.call_time.at(1.0), end(512 << 22));
        assert_eq!(CallTime::default().at(0.5), None);
    }

    #[test]
    fn every_large_call_is_timed_and_some_small_ones() {
        let tally = Tally::default();
        tally.asked(TIMED_FIRST, TIMED_FIRST, 0, 0);
        assert!((1..100).all(|calls| tally.is_timed(16, calls)));
        assert_eq!((0..160).filter(|calls| tally.is_timed(1, *calls)).count(), 10);
    }

    #[test]
    fn the_first_calls_are_timed_whatever_else_was_called() {
        let tally = Tally::default();
        for call in 0..TIMED_FIRST {
            assert!(tally.is_timed(1, 16_001 + 16 * call));
            tally.asked(1, 1, 0, 0);
        }
        assert!(!tally.is_timed(1, 16_001));
    }
}
