//! How long a call may take: CPU time of the thread, not time on the wall, so that a busy
//! machine never kills a healthy plugin.
//!
//! The clock of the thread is a system call, too dear for each call of a guest. It is read only
//! when a tick finds the guest still running: the first tick of a call (within a millisecond of
//! its begin) notes the time, later ones compare. A call is therefore cut off at most one tick
//! and one tick's distance after its limit. No tick comes while the host does something for the guest: what may take
//! long there notes the time itself ([`Deadline::counts_from_here`]), and is done in pieces with a tick after each.

use rustix::time::{ClockId, clock_gettime};
use std::{fmt, time::Duration};

/// The deadline of the call that is on.
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    base: Duration,
    per_item: Duration,
    items: usize,
    /// Others wait: the call is cut off after that, though it may take longer.
    within: Option<Duration>,
    /// The thread's CPU time at the first tick of the call, or when the host began something that takes long.
    began: Option<Duration>,
}

/// A call used more CPU time than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CpuExceeded {
    used: Duration,
    limit: Duration,
    /// It was cut off for others, within its limit.
    pub(super) within: bool,
}

impl Deadline {
    /// A call begins, with so many messages or bindings in it: `base` is allowed, and `per_item` for each.
    /// It is cut off earlier where it should end `within` a time.
    #[inline]
    pub(crate) fn begin(
        &mut self,
        base: Duration,
        per_item: Duration,
        items: usize,
        within: Option<Duration>,
    ) {
        *self = Self { base, per_item, items, within, began: None };
    }

    fn limit(&self) -> Duration {
        let items = u32::try_from(self.items).unwrap_or(u32::MAX);
        self.base.saturating_add(self.per_item.saturating_mul(items))
    }

    /// What follows may take long: the call's time counts from here at the latest.
    pub(crate) fn counts_from_here(&mut self) {
        self.began.get_or_insert_with(thread_cpu_time);
    }

    /// A tick came while the guest runs, or the host has done a piece of what takes long.
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
        if used > limit {
            return Err(CpuExceeded { used, limit, within: false });
        }
        match self.within {
            Some(limit) if used > limit => Err(CpuExceeded { used, limit, within: true }),
            _ => Ok(()),
        }
    }
}

/// How much CPU time this thread has used.
pub(crate) fn thread_cpu_time() -> Duration {
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
        deadline.begin(Duration::from_millis(10), Duration::from_micros(100), 10, None);
        let start = Duration::from_secs(5);
        let limit = Duration::from_millis(11);
        assert_eq!(deadline.check(start), Ok(()));
        assert_eq!(deadline.check(start + limit), Ok(()));
        let used = limit + Duration::from_micros(500);
        let error = deadline.check(start + used).unwrap_err();
        assert_eq!(error, CpuExceeded { used, limit, within: false });
        assert_eq!(error.to_string(), "used 11.5 ms of CPU; the limit is 11.0 ms");
        deadline.begin(Duration::from_millis(10), Duration::from_micros(100), 0, None);
        assert_eq!(deadline.check(start + used), Ok(()), "a new call starts anew");
    }

    #[test]
    fn what_the_host_did_before_the_first_tick_counts() {
        let mut deadline = Deadline::default();
        deadline.begin(Duration::from_millis(10), Duration::ZERO, 0, None);
        deadline.counts_from_here();
        let start = deadline.began.unwrap();
        deadline.counts_from_here();
        assert_eq!(deadline.began, Some(start), "the first time counts");
        let used = Duration::from_millis(11);
        assert_eq!(deadline.check(start + used).unwrap_err().used, used);
    }

    #[test]
    fn where_others_wait_a_call_ends_earlier_and_never_later() {
        let (limit, within) = (Duration::from_millis(10), Duration::from_millis(1));
        let (start, more) = (Duration::from_secs(5), Duration::from_micros(1));
        for (limit, within, cut_for_others) in [(limit, within, true), (within, limit, false)] {
            let mut deadline = Deadline::default();
            deadline.begin(limit, Duration::ZERO, 1, Some(within));
            let first = limit.min(within);
            assert_eq!((deadline.check(start), deadline.check(start + first)), (Ok(()), Ok(())));
            assert_eq!(deadline.check(start + first + more).unwrap_err().within, cut_for_others);
        }
    }
}
