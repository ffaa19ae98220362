//! The prefetch limit of a whole channel (`basic.qos` with `global`), shared with the queues that
//! its consumers are on.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// How many messages a channel's consumers may hold unacknowledged, and how many they do.
///
/// Messages got with `basic.get` do not count, nor do those of consumers without acks.
#[derive(Debug, Default)]
pub(crate) struct ChannelCredit {
    /// In messages; 0 is no limit.
    limit: AtomicU32,
    in_use: AtomicU32,
    /// Somebody was refused since the last look.
    blocked: AtomicBool,
}

impl ChannelCredit {
    pub(crate) fn set_limit(&self, messages: u16) {
        self.limit.store(u32::from(messages), Ordering::SeqCst);
    }

    /// Takes credit for up to `wanted` messages; returns for how many.
    pub(crate) fn acquire(&self, wanted: u32) -> u32 {
        if let Some(got) = self.try_acquire(wanted) {
            return got;
        }
        // First say that somebody waits, then look again: whoever releases does it the other way round.
        self.blocked.store(true, Ordering::SeqCst);
        self.try_acquire(wanted).unwrap_or(0)
    }

    /// For how many messages there is credit, at most `wanted`.
    pub(crate) fn available(&self, wanted: u32) -> u32 {
        match self.limit.load(Ordering::SeqCst) {
            0 => wanted,
            limit => wanted.min(limit.saturating_sub(self.in_use.load(Ordering::SeqCst))),
        }
    }

    fn try_acquire(&self, wanted: u32) -> Option<u32> {
        let limit = self.limit.load(Ordering::SeqCst);
        if limit == 0 {
            self.in_use.fetch_add(wanted, Ordering::SeqCst);
            return Some(wanted);
        }
        let grant = |in_use: u32| wanted.min(limit.saturating_sub(in_use));
        let before =
            self.in_use.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |in_use| match grant(in_use) {
                0 => None,
                granted => Some(in_use + granted),
            });
        before.ok().map(grant)
    }

    pub(crate) fn release(&self, messages: u32) {
        self.in_use.fetch_sub(messages, Ordering::SeqCst);
    }

    /// Whether a consumer was refused since the last look and would not be now.
    pub(crate) fn take_unblocked(&self) -> bool {
        self.blocked.load(Ordering::SeqCst) && self.has_some() && self.blocked.swap(false, Ordering::SeqCst)
    }

    fn has_some(&self) -> bool {
        let limit = self.limit.load(Ordering::SeqCst);
        limit == 0 || self.in_use.load(Ordering::SeqCst) < limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_up_to_the_limit_and_tells_when_there_is_some_again() {
        let credit = ChannelCredit::default();
        assert_eq!(credit.acquire(5), 5, "no limit");
        credit.set_limit(7);
        assert_eq!(credit.acquire(5), 2);
        assert_eq!(credit.acquire(1), 0);
        assert!(!credit.take_unblocked());
        credit.release(1);
        assert!(credit.take_unblocked());
        assert!(!credit.take_unblocked(), "told once");
        credit.set_limit(3);
        assert_eq!(credit.acquire(1), 0, "more in use than the new limit");
    }
}
