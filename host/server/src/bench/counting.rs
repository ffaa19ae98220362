//! What the threads of a load count.

use super::{Interrupt, usage::Usage, wire::Patience};
use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Instant,
};

/// What the threads count, all of them together.
pub(super) struct Counters {
    pub(super) published: AtomicU64,
    pub(super) confirmed: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) consumed: AtomicU64,
    /// Where the clock of all threads begins.
    epoch: Instant,
    /// From when on latencies are recorded, in nanoseconds of that clock.
    from: AtomicU64,
    /// When the measuring ended; what comes later was outstanding then.
    until: AtomicU64,
    /// All threads are to stop: the measuring ended, or one of them failed.
    pub(super) stop: AtomicBool,
    /// By which whoever watches the threads sleeps.
    watcher: Interrupt,
}

/// One reading of the counters.
pub(super) struct Reading {
    pub(super) at: Instant,
    pub(super) published: u64,
    pub(super) confirmed: u64,
    pub(super) refused: u64,
    pub(super) consumed: u64,
    /// Of the generator and of the broker, where it was looked at, and they are known and there.
    pub(super) usages: [Option<Usage>; 2],
}

impl Counters {
    /// `watcher` is what whoever watches the threads sleeps by.
    pub(super) fn new(watcher: Interrupt) -> Self {
        let never = || AtomicU64::new(u64::MAX);
        let zero = || AtomicU64::new(0);
        Self {
            published: zero(),
            confirmed: zero(),
            refused: zero(),
            consumed: zero(),
            epoch: Instant::now(),
            from: never(),
            until: never(),
            stop: AtomicBool::new(false),
            watcher,
        }
    }

    /// How long the threads wait for the broker while they prepare.
    pub(super) fn patience(&self) -> Patience {
        Patience::until(&self.watcher)
    }

    /// The time, in nanoseconds.
    pub(super) fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// From now on latencies are recorded.
    pub(super) fn begin(&self) {
        self.from.store(self.now(), Ordering::Relaxed);
    }

    /// From now on they are not any more, and all threads are to stop.
    pub(super) fn end(&self) {
        self.until.store(self.now(), Ordering::Relaxed);
        self.stop.store(true, Ordering::Release);
    }

    /// All threads are to stop, because one failed.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.watcher.look_again();
    }

    /// When the measuring ended; `None` if it has not.
    pub(super) fn ended(&self) -> Option<u64> {
        let until = self.until.load(Ordering::Relaxed);
        (until != u64::MAX).then_some(until)
    }

    /// Whether what came at that time is to be recorded.
    pub(super) fn records(&self, now: u64) -> bool {
        now >= self.from.load(Ordering::Relaxed)
    }

    /// All as they are now.
    pub(super) fn read(&self) -> Reading {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Reading {
            at: Instant::now(),
            published: get(&self.published),
            confirmed: get(&self.confirmed),
            refused: get(&self.refused),
            consumed: get(&self.consumed),
            usages: [None, None],
        }
    }

    /// With what was used, of the broker in that process too.
    pub(super) fn read_with_usage(&self, broker: Option<u32>) -> Reading {
        let reading = self.read();
        Reading { usages: [Usage::of(std::process::id()), broker.and_then(Usage::of)], ..reading }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_before_the_measuring_or_after_it_is_told_apart() {
        let counters = Counters::new(Interrupt::default());
        assert!(!counters.records(counters.now()) && counters.ended().is_none());
        counters.begin();
        assert!(counters.records(counters.now()) && counters.ended().is_none());
        counters.end();
        assert!(counters.ended().is_some_and(|end| end <= counters.now()));
        assert!(counters.stop.load(Ordering::Acquire));
    }
}
