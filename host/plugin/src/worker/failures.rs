//! How often a plugin failed on this worker, and whether it is set aside for it: quarantined, as operators see it.

use std::time::{Duration, Instant};

/// After so many failed calls in a row a plugin is set aside.
pub const FAILURES_IN_A_ROW_MAX: u32 = 5;
/// How long it is set aside the first time.
pub const SET_ASIDE_MIN: Duration = Duration::from_millis(100);
/// The longest it is set aside: each failure after the first time doubles it.
pub const SET_ASIDE_MAX: Duration = Duration::from_secs(10);
/// How much of a worker's CPU time failed calls of one plugin may take within [`FAILED_TIME_WITHIN`]; at
/// more it is set aside, whatever succeeds between them. So a message that loops for ever, among many
/// that do not, holds up its neighbours for a moment only.
pub const FAILED_TIME_MAX: Duration = Duration::from_millis(50);
/// The span of time for [`FAILED_TIME_MAX`].
pub const FAILED_TIME_WITHIN: Duration = Duration::from_secs(1);
/// How long a plugin that took too much time must behave to be set aside for [`SET_ASIDE_MIN`] again.
const FORGIVEN_AFTER: Duration = Duration::from_secs(30);
/// How often at most failures of one plugin are logged by one worker.
const LOGGED_EVERY: Duration = Duration::from_secs(1);

/// The failures of one plugin in one vhost on one worker.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    in_a_row: u32,
    until: Option<Instant>,
    /// What failed calls took since `costly_since`.
    cost: Duration,
    costly_since: Option<Instant>,
    /// How often in a row it was set aside for the time it took.
    too_costly: u32,
    last: String,
    logged: Option<Instant>,
    not_logged: u32,
}

impl Failures {
    /// If it is set aside, why, for the publisher.
    pub(crate) fn set_aside(&self) -> Option<String> {
        self.set_aside_at(self.until.map(|_| Instant::now())?)
    }

    /// For how long it is set aside.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.until?.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// What is set aside, however shortly, stays so for longer than a test takes on a machine that is busy with
    /// other things.
    #[cfg(test)]
    pub(crate) fn stay_aside(&mut self) {
        self.until = self.until.map(|until| until + Duration::from_secs(3_600));
    }

    fn set_aside_at(&self, now: Instant) -> Option<String> {
        let left = self.until?.checked_duration_since(now).filter(|left| !left.is_zero())?;
        let (failures, left, last) = (self.in_a_row, left.as_millis(), &self.last);
        Some(format!("quarantined for {left} ms after {failures} failures, the last: {last}"))
    }

    /// A call succeeded.
    pub(crate) fn succeeded(&mut self) {
        if self.in_a_row > 0 {
            self.in_a_row = 0;
            self.until = None;
        }
    }

    /// A call failed that took so long. Gives how many failures to log, this one included, if it is
    /// time to.
    pub(crate) fn failed(&mut self, what: String, took: Duration) -> Option<u32> {
        self.failed_at(what, took, Instant::now())
    }

    fn failed_at(&mut self, what: String, took: Duration, now: Instant) -> Option<u32> {
        self.last = what;
        self.charge(took, now);
        self.in_a_row = self.in_a_row.saturating_add(1);
        if let Some(doublings) = self.in_a_row.checked_sub(FAILURES_IN_A_ROW_MAX) {
            let aside = SET_ASIDE_MIN.saturating_mul(1 << doublings.min(16)).min(SET_ASIDE_MAX);
            self.until = Some(now + aside);
        }
        self.until = self.until.max(self.too_costly_until(now));
        self.not_logged += 1;
        if self.logged.is_some_and(|logged| now.duration_since(logged) < LOGGED_EVERY) {
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.not_logged))
    }

    fn charge(&mut self, took: Duration, now: Instant) {
        let age = self.costly_since.map(|since| now.saturating_duration_since(since));
        if age.is_none_or(|age| age > FAILED_TIME_WITHIN) {
            if age.is_some_and(|age| age > FORGIVEN_AFTER) {
                self.too_costly = 0;
            }
            (self.cost, self.costly_since) = (Duration::ZERO, Some(now));
        }
        self.cost += took;
    }

    fn too_costly_until(&mut self, now: Instant) -> Option<Instant> {
        if self.cost < FAILED_TIME_MAX {
            return None;
        }
        self.cost = Duration::ZERO;
        let aside = SET_ASIDE_MIN.saturating_mul(1 << self.too_costly.min(16)).min(SET_ASIDE_MAX);
        self.too_costly += 1;
        Some(now + aside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_set_aside_longer_and_longer_until_it_succeeds() {
        let (mut failures, mut now) = (Failures::default(), Instant::now());
        for _ in 1..FAILURES_IN_A_ROW_MAX {
            failures.failed_at("trap".into(), Duration::ZERO, now);
            assert!(failures.set_aside_at(now).is_none());
        }
        let mut aside = SET_ASIDE_MIN;
        for _ in 0..20 {
            failures.failed_at("trap".into(), Duration::ZERO, now);
            assert!(failures.set_aside_at(now + aside - Duration::from_millis(1)).is_some());
            now += aside;
            assert!(failures.set_aside_at(now).is_none());
            aside = (aside * 2).min(SET_ASIDE_MAX);
        }
        failures.succeeded();
        failures.failed_at("trap".into(), Duration::ZERO, now);
        assert!(failures.set_aside_at(now).is_none());
    }

    #[test]
    fn a_plugin_whose_failures_take_long_is_set_aside_whatever_succeeds_between() {
        let (mut failures, mut now) = (Failures::default(), Instant::now());
        let took = FAILED_TIME_MAX / 4;
        let mut aside = SET_ASIDE_MIN;
        for _ in 0..3 {
            for _ in 0..3 {
                failures.failed_at("loop".into(), took, now);
                assert!(failures.set_aside_at(now).is_none());
                failures.succeeded();
            }
            failures.failed_at("loop".into(), took, now);
            assert!(failures.set_aside_at(now + aside - Duration::from_millis(1)).is_some());
            now += aside;
            assert!(failures.set_aside_at(now).is_none());
            aside *= 2;
        }
        now += FORGIVEN_AFTER * 2;
        failures.failed_at("loop".into(), FAILED_TIME_MAX, now);
        assert!(failures.set_aside_at(now + SET_ASIDE_MIN).is_none(), "it had behaved");
    }

    #[test]
    fn failures_are_logged_once_in_a_while() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        assert_eq!(failures.failed_at("trap".into(), Duration::ZERO, now), Some(1));
        for _ in 0..10 {
            assert_eq!(failures.failed_at("trap".into(), Duration::ZERO, now), None);
        }
        assert_eq!(failures.failed_at("trap".into(), Duration::ZERO, now + LOGGED_EVERY), Some(11));
    }
}
