//! What the kernel says that a process used.

use std::{collections::BTreeMap, fs};

/// What a process used until now.
#[derive(Clone, Debug)]
pub(super) struct Usage {
    /// User and system time of all its threads, of those that ended too, in hundredths of a second.
    hundredths: u64,
    /// Of each thread that is there, in nanoseconds.
    threads: BTreeMap<u32, u64>,
    /// Resident memory now.
    pub(super) memory_bytes: u64,
}

impl Usage {
    /// From the kernel's accounting; `None` where that is not to be had.
    pub(super) fn of(process: u32) -> Option<Self> {
        let read = |file: &str| fs::read_to_string(format!("/proc/{process}/{file}")).ok();
        let stat = read("stat")?;
        // The second field is the name in parentheses and may contain spaces.
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        let hundredths = fields.get(11..13)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
        let status = read("status")?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: u64 = resident.trim().trim_end_matches(" kB").parse().ok()?;
        let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
        let threads = tasks.filter_map(|task| {
            let thread = task.file_name().to_str()?.parse().ok()?;
            // Time on a processor, time spent waiting for one, turns.
            let times = fs::read_to_string(task.path().join("schedstat")).ok()?;
            Some((thread, times.split_whitespace().next()?.parse().ok()?))
        });
        Some(Self { hundredths, threads: threads.collect(), memory_bytes: kilobytes * 1024 })
    }

    /// CPU seconds since that reading. To the nanosecond, of the threads that are there; where others ended meanwhile,
    /// or the kernel does not keep that of each, to a hundredth of a second.
    pub(super) fn cpu_seconds_since(&self, before: &Self) -> f64 {
        /// How far hundredths may be above the truth: user and system time are cut off, each at both ends. And a thread
        /// that runs is some way ahead of what is known of it.
        const ERROR_SECONDS: f64 = 0.03;
        let threads = self.threads.iter().map(|(thread, time)| {
            // The number may be another thread's by now.
            let earlier = before.threads.get(thread).filter(|earlier| *earlier <= time);
            time - earlier.copied().unwrap_or(0)
        });
        let fine = threads.sum::<u64>() as f64 / 1e9;
        let coarse = self.hundredths.saturating_sub(before.hundredths) as f64 / 100.0;
        if coarse > fine + ERROR_SECONDS { coarse } else { fine }
    }

    #[cfg(test)]
    pub(super) fn of_one_thread(cpu_seconds: f64, memory_bytes: u64) -> Self {
        let threads = [(1, (cpu_seconds * 1e9) as u64)].into_iter().collect();
        Self { hundredths: 0, threads, memory_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn what_is_less_than_a_hundredth_of_a_second_is_seen() {
        let mut child = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let before = Usage::of(child.id()).unwrap();
        let used = loop {
            let used = Usage::of(child.id()).unwrap().cpu_seconds_since(&before);
            if used > 0.0 {
                break used;
            }
        };
        child.kill().unwrap();
        child.wait().unwrap();
        assert!((used * 100.0).fract() > 1e-6, "{used}");
    }

    #[test]
    fn what_threads_used_that_ended_is_not_lost() {
        let of_this = || Usage::of(std::process::id()).unwrap();
        let before = of_this();
        assert!(before.memory_bytes > 100_000, "{before:?}");
        let works = || while of_this().hundredths < before.hundredths + 10 {};
        std::thread::scope(|scope| scope.spawn(works).join().unwrap());
        let used = of_this().cpu_seconds_since(&before);
        assert!(used > 0.069, "{used}");
    }

    #[test]
    fn a_number_that_another_thread_has_now_counts_from_nothing() {
        let (before, after) = (Usage::of_one_thread(5.0, 0), Usage::of_one_thread(2.0, 0));
        assert!((after.cpu_seconds_since(&before) - 2.0).abs() < 1e-9);
        assert!((before.cpu_seconds_since(&after) - 3.0).abs() < 1e-9);
        // Without times of threads.
        let coarse = |hundredths| Usage { hundredths, threads: BTreeMap::new(), memory_bytes: 0 };
        assert!((coarse(250).cpu_seconds_since(&coarse(50)) - 2.0).abs() < 1e-9);
    }
}
