//! How long a call may take: CPU time of the thread, not time on the wall, so that a busy
//! machine never kills a healthy plugin.
//!
//! The clock of the thread is a system call, too dear for each call of a guest. It is read only
//! when a tick finds the guest still running: the first tick of a call (within a millisecond of
//! its begin) notes the time, later ones compare. A call is therefore cut off at most one tick
//! and one tick's distance after its limit.

use rustix::time::{ClockId, clock_gettime};
use std::{fmt, time::Duration};

/// The deadline of the call that is on.
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    base: Duration,
    per_item: Duration,
    items: usize,
    /// The thread's CPU time at the first tick of the call.
    began: Option<Duration>,
}

/// A call used more CPU time than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CpuExceeded {
    used: Duration,
    limit: Duration,
}

impl Deadline {
    /// A call begins, with so many messages or bindings in it: `base` is allowed, and `per_item` for each.
    #[inline]
    pub(crate) fn begin(&mut self, base: Duration, per_item: Duration, items: usize) {
        *self = Self { base, per_item, items, began: None };
    }

    fn limit(&self) -> Duration {
        let items = u32::try_from(self.items).unwrap_or(u32::MAX);
        self.base.saturating_add(self.per_item.saturating_mul(items))
    }

    /// A tick came while the guest runs.
    ///
    /// # Errors
    /// If its time is up.
    pub(crate) fn tick(&mut self) -> Result<(), CpuExceeded> {
        self.check(thread_cpu_time())
    }

    /// How much CPU time the call that just ended used, as far as ticks saw it.
    pub(crate) fn used(&self) -> Duration {
        self.began.map_or(Duration::ZERO, |began| thread_cpu_time().saturating_sub(began))
    }

    fn check(&mut self, now: Duration) -> Result<(), CpuExceeded> {
        let began = *self.began.get_or_insert(now);
        let (used, limit) = (now.saturating_sub(began), self.limit());
        if used > limit { Err(CpuExceeded { used, limit }) } else { Ok(()) }
    }
}

/// How much CPU time this thread has used.
fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

impl fmt::Display for CpuExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (used, limit) = (self.used.as_secs_f64() * 1000.0, self.limit.as_secs_f64() * 1000.0);
        write!(f, "used {used:.1} ms of CPU; the limit is {limit:.1} ms")
    }
}

impl std::error::Error for CpuExceeded {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_counts_from_the_first_tick_and_grows_with_the_items() {
        let mut deadline = Deadline::default();
        deadline.begin(Duration::from_millis(10), Duration::from_micros(100), 10);
        let start = Duration::from_secs(5);
        let limit = Duration::from_millis(11);
        assert_eq!(deadline.check(start), Ok(()));
        assert_eq!(deadline.check(start + limit), Ok(()));
        let used = limit + Duration::from_micros(500);
        let error = deadline.check(start + used).unwrap_err();
        assert_eq!(error, CpuExceeded { used, limit });
        assert_eq!(error.to_string(), "used 11.5 ms of CPU; the limit is 11.0 ms");
        deadline.begin(Duration::from_millis(10), Duration::from_micros(100), 0);
        assert_eq!(deadline.check(start + used), Ok(()), "a new call starts anew");
    }
}
