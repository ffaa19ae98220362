//! What the threads of a load count, and what the kernel says of processes.

use super::{Interrupt, wire::Patience};
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
    /// Of the generator.
    pub(super) cpu_seconds: f64,
    /// Of the broker, if its process is known and there.
    pub(super) broker: Option<Usage>,
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

    /// All as they are now; `broker` is its process.
    pub(super) fn read(&self, broker: Option<u32>) -> Reading {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Reading {
            at: Instant::now(),
            published: get(&self.published),
            confirmed: get(&self.confirmed),
            refused: get(&self.refused),
            consumed: get(&self.consumed),
            cpu_seconds: Usage::of(std::process::id()).map_or(0.0, |usage| usage.cpu_seconds),
            broker: broker.and_then(Usage::of),
        }
    }
}

/// What a process used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    /// User and system time so far.
    pub(super) cpu_seconds: f64,
    /// Resident memory now.
    pub(super) memory_bytes: u64,
}

impl Usage {
    /// From the kernel's accounting; `None` where that is not to be had.
    pub(super) fn of(process: u32) -> Option<Self> {
        /// Linux counts these in hundredths of a second for every program.
        const TICKS_PER_SECOND: f64 = 100.0;
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{process}/{file}")).ok();
        let stat = read("stat")?;
        // The second field is the name in parentheses and may contain spaces.
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        let ticks: u64 = fields.get(11..13)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
        let status = read("status")?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: u64 = resident.trim().trim_end_matches(" kB").parse().ok()?;
        Some(Self { cpu_seconds: ticks as f64 / TICKS_PER_SECOND, memory_bytes: kilobytes * 1024 })
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

    #[test]
    fn this_process_uses_memory() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.memory_bytes > 100_000 && usage.cpu_seconds >= 0.0, "{usage:?}");
    }
}
