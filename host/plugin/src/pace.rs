//! How much CPU time a plugin takes for a message in a virtual host, and where it is asked for that: on the
//! worker that wants to know, or in the slow lane ([`crate::lane`]).
//!
//! *In:* the CPU time of calls, from whichever thread made them. *Out:* the moving cost of a message, how
//! many messages a worker asks about in one turn, whether the plugin is slow.
//!
//! A plugin is slow when a message takes more than [`InlineTimes::message_max`], or when a call on a worker was
//! cut off after [`InlineTimes::call_max`]. It is fast again after a time in which its calls were, and that time
//! doubles each time that it does not stay so.

use crate::version::VersionId;
use parking_lot::Mutex;
use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// [`InlineTimes::turn`] by default.
pub const INLINE_TURN: Duration = Duration::from_micros(250);
/// [`InlineTimes::message_max`] by default.
pub const INLINE_MESSAGE_MAX: Duration = Duration::from_micros(100);
/// [`InlineTimes::call_max`] by default.
pub const INLINE_CALL_MAX: Duration = Duration::from_millis(2);
/// How many messages a worker asks about in one turn while it is not known what they take.
const UNKNOWN_MESSAGES_MAX: u64 = 16;
/// How many calls in a row must be fast for a slow plugin to count as fast.
const FAST_CALLS_MIN: u32 = 32;
/// For how long a plugin that became slow stays in the slow lane at least, the first time.
const STAY_MIN: Duration = Duration::from_secs(1);
/// And the longest.
const STAY_MAX: Duration = Duration::from_secs(60);
/// A plugin that was fast for so long may be slow for [`STAY_MIN`] again.
const FORGIVEN_AFTER: Duration = Duration::from_secs(120);
/// A new measurement counts for one in so many, once there are as many.
const WEIGHT: u64 = 16;
/// How much CPU time of a plugin is enough to know that it is slow, before there are [`WEIGHT`] measurements:
/// the first calls of an instance take longer than later ones.
const ENOUGH_TO_KNOW: Duration = Duration::from_millis(3);

/// How much CPU time plugins may take on a worker, where others wait. What they may take at all is a matter of
/// the policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InlineTimes {
    /// How much CPU time a worker gives a plugin in one turn of a connection; then others have theirs. What is left
    /// of the connection's batch is asked about in its next turn.
    pub turn: Duration,
    /// A plugin that takes more CPU time for a message is asked in the slow lane.
    pub message_max: Duration,
    /// A call on a worker that took more CPU time is cut off, and its messages are asked about in the slow lane: there
    /// it may take as long as its limits say. One tick of the clock (a millisecond) comes on top at most.
    pub call_max: Duration,
}

impl Default for InlineTimes {
    fn default() -> Self {
        Self { turn: INLINE_TURN, message_max: INLINE_MESSAGE_MAX, call_max: INLINE_CALL_MAX }
    }
}

/// The pace of a plugin in a virtual host, over all threads.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    times: InlineTimes,
    /// Nanoseconds of CPU a message; 0 is not known.
    cost_ns: AtomicU64,
    /// How many measurements there were, and their sum in nanoseconds.
    measured: AtomicU64,
    sum_ns: AtomicU64,
    slow: AtomicBool,
    stay: Mutex<Stay>,
    aside: Mutex<Option<Aside>>,
    is_aside: AtomicBool,
}

/// A version that is set aside in the slow lane.
#[derive(Debug)]
struct Aside {
    version: VersionId,
    until: Instant,
    why: String,
}

/// Its time in the slow lane.
#[derive(Debug, Default)]
struct Stay {
    since: Option<Instant>,
    at_least: Duration,
    fast_calls: u32,
}

impl Pace {
    /// Nothing is known yet.
    pub(crate) fn new(times: InlineTimes) -> Self {
        Self { times, ..Self::default() }
    }

    /// What it may take on a worker.
    pub(crate) fn times(&self) -> &InlineTimes {
        &self.times
    }

    /// Whether it is asked in the slow lane.
    #[inline]
    pub(crate) fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }

    /// What a message takes; `None` while that is not known.
    pub(crate) fn cost(&self) -> Option<Duration> {
        Some(self.cost_ns.load(Ordering::Relaxed)).filter(|cost| *cost > 0).map(Duration::from_nanos)
    }

    /// About how many messages to ask at most in that much CPU time; at least one.
    pub(crate) fn messages_in(&self, time: Duration) -> usize {
        let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let count = match self.cost_ns.load(Ordering::Relaxed) {
            0 => UNKNOWN_MESSAGES_MAX,
            cost => time_ns / cost,
        };
        usize::try_from(count.max(1)).unwrap_or(usize::MAX)
    }

    /// About how many messages a worker asks about in one turn; at least one.
    pub(crate) fn messages_in_turn(&self) -> usize {
        self.messages_in(self.times.turn)
    }

    /// Whether a worker asks about less in a turn than while it is not known what a message takes.
    #[cfg(test)]
    pub(crate) fn took_long(&self) -> bool {
        self.is_slow() || self.messages_in_turn() < UNKNOWN_MESSAGES_MAX as usize
    }

    /// A call about so many messages took so much CPU time.
    pub(crate) fn took(&self, messages: usize, time: Duration) {
        self.took_at(messages, time, Instant::now());
    }

    fn took_at(&self, messages: usize, time: Duration, now: Instant) {
        let ns = |time: u128| i64::try_from(time).unwrap_or(i64::MAX);
        let each = ns(time.as_nanos() / (messages as u128).max(1)).max(1);
        let measured = self.measured.fetch_add(1, Ordering::Relaxed) + 1;
        let sum_ns = self.sum_ns.fetch_add(ns(time.as_nanos()).unsigned_abs(), Ordering::Relaxed);
        let before = i64::try_from(self.cost_ns.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        let weight = i64::try_from(measured.min(WEIGHT)).unwrap_or(1);
        let cost = (before + (each - before) / weight).unsigned_abs().max(1);
        // Of two threads one may be lost: it is an average.
        self.cost_ns.store(cost, Ordering::Relaxed);
        let cost = Duration::from_nanos(cost);
        if !self.is_slow() {
            let known =
                measured >= WEIGHT || Duration::from_nanos(sum_ns).saturating_add(time) >= ENOUGH_TO_KNOW;
            if known && cost > self.times.message_max {
                self.slowed_down(now);
            }
            return;
        }
        let mut stay = self.stay.lock();
        let is_fast = Duration::from_nanos(each.unsigned_abs()) <= self.times.message_max / 2;
        stay.fast_calls = if is_fast { stay.fast_calls.saturating_add(1) } else { 0 };
        let long_enough = stay.since.is_none_or(|since| now.duration_since(since) >= stay.at_least);
        if long_enough && stay.fast_calls >= FAST_CALLS_MIN {
            stay.since = Some(now);
            // What it took before says nothing of it any more.
            self.cost_ns.store(each.unsigned_abs(), Ordering::Relaxed);
            self.slow.store(false, Ordering::Relaxed);
        }
    }

    /// A call on a worker was cut off because others wait.
    pub(crate) fn was_cut_off(&self) {
        self.slowed_down(Instant::now());
    }

    /// A call failed: it does not count as fast.
    pub(crate) fn failed(&self) {
        self.stay.lock().fast_calls = 0;
    }

    fn slowed_down(&self, now: Instant) {
        let mut stay = self.stay.lock();
        stay.fast_calls = 0;
        if self.slow.swap(true, Ordering::Relaxed) {
            return;
        }
        // While it is fast, `since` is when it became so again.
        let soon = stay.since.is_some_and(|since| now.duration_since(since) < FORGIVEN_AFTER);
        stay.at_least = if soon { (stay.at_least * 2).clamp(STAY_MIN, STAY_MAX) } else { STAY_MIN };
        stay.since = Some(now);
    }

    /// A version failed too often in the slow lane: nobody is to ask it for so long, for this reason.
    pub(crate) fn set_aside(&self, version: VersionId, aside: Duration, why: String) {
        *self.aside.lock() = Some(Aside { version, until: Instant::now() + aside, why });
        self.is_aside.store(true, Ordering::Release);
    }

    /// Why a version is not asked in the slow lane, if it is set aside there.
    pub(crate) fn aside(&self, version: VersionId) -> Option<String> {
        if !self.is_aside.load(Ordering::Acquire) {
            return None;
        }
        let mut aside = self.aside.lock();
        let set = aside.as_ref()?;
        if Instant::now() < set.until {
            return (set.version == version).then(|| set.why.clone());
        }
        *aside = None;
        self.is_aside.store(false, Ordering::Release);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Duration = Duration::from_millis(9);
    const FAST: Duration = Duration::from_micros(1);

    #[test]
    fn one_slow_message_is_enough_at_first_and_a_single_one_later_is_not() {
        let pace = Pace::default();
        pace.took(1, SLOW);
        assert!(pace.is_slow());
        let pace = Pace::default();
        (0..100).for_each(|_| pace.took(10, FAST * 10));
        pace.took(1, INLINE_MESSAGE_MAX * 2);
        assert!(!pace.is_slow());
        (0..100).for_each(|_| pace.took(1, INLINE_MESSAGE_MAX * 2));
        assert!(pace.is_slow());
        let pace = Pace::default();
        pace.took(1, INLINE_MESSAGE_MAX * 4);
        assert!(!pace.is_slow(), "the first call of an instance takes longer");
        (0..100).for_each(|_| pace.took(1, FAST));
        assert!(!pace.is_slow());
    }

    #[test]
    fn it_comes_back_when_it_is_fast_and_later_each_time() {
        let (pace, mut now) = (Pace::default(), Instant::now());
        let mut at_least = STAY_MIN;
        for _ in 0..8 {
            pace.took_at(1, SLOW * 100, now);
            assert!(pace.is_slow());
            now += at_least - Duration::from_millis(1);
            (0..FAST_CALLS_MIN * 2).for_each(|_| pace.took_at(1, FAST, now));
            assert!(pace.is_slow(), "not before {at_least:?}");
            now += Duration::from_millis(1);
            pace.took_at(1, FAST, now);
            assert!(!pace.is_slow(), "after {at_least:?}");
            at_least = (at_least * 2).min(STAY_MAX);
        }
        now += FORGIVEN_AFTER;
        pace.took_at(1, SLOW * 100, now);
        now += STAY_MIN;
        (0..FAST_CALLS_MIN * 2).for_each(|_| pace.took_at(1, FAST, now));
        assert!(!pace.is_slow(), "it had behaved");
    }

    #[test]
    fn a_failure_begins_the_count_of_fast_calls_anew() {
        let (pace, mut now) = (Pace::default(), Instant::now());
        pace.took_at(1, SLOW, now);
        now += STAY_MAX;
        for _ in 0..10 {
            (1..FAST_CALLS_MIN).for_each(|_| pace.took_at(1, FAST, now));
            pace.failed();
        }
        assert!(pace.is_slow());
    }

    #[test]
    fn what_a_worker_gives_is_as_it_is_set() {
        let times = InlineTimes { turn: SLOW * 10, message_max: SLOW * 2, call_max: SLOW };
        let pace = Pace::new(times);
        (0..100).for_each(|_| pace.took(1, SLOW));
        assert!(!pace.is_slow());
        assert_eq!(pace.messages_in_turn(), 10);
        (0..100).for_each(|_| pace.took(1, times.message_max * 2));
        assert!(pace.is_slow());
    }

    #[test]
    fn the_batch_follows_the_cost() {
        let pace = Pace::default();
        assert_eq!(pace.messages_in_turn(), 16);
        pace.took(100, INLINE_TURN);
        assert_eq!(pace.messages_in_turn(), 100);
        pace.took(1, Duration::from_secs(1));
        assert_eq!(pace.messages_in_turn(), 1);
    }
}
