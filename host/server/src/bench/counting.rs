//! What the threads of a load count, and what the kernel says of processes.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Instant,
};

/// What the threads count, all of them together.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) published: AtomicU64,
    pub(super) confirmed: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) consumed: AtomicU64,
    /// Latencies are recorded only while this is set.
    pub(super) measuring: AtomicBool,
    pub(super) stop: AtomicBool,
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
    fn this_process_uses_memory() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.memory_bytes > 100_000 && usage.cpu_seconds >= 0.0, "{usage:?}");
    }
}
