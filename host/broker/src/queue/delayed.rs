//! Messages of a quorum queue that wait before they are tried again (`x-delayed-retry-type`).
//!
//! A message that comes back is ready at once, or after `min(least × failures, most)`: the failures are those that
//! count for the delivery limit, at least one; or when whoever gave it back has said. It is in no lane meanwhile and
//! counts as unsettled. The queue has no clock, so a message waits from the housekeeper's next visit on, which is asked
//! for at once. After a restart it is ready.

use super::{slab::MessageRef, state::State};
use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};

/// Which messages wait when they come back, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DelayedRetry {
    /// Those that failed: rejected, or of a consumer that went away.
    pub failed: bool,
    /// Those that were only given back, or not settled in time.
    pub returned: bool,
    /// The shortest wait, in milliseconds.
    pub least_ms: u64,
    /// The longest, in milliseconds.
    pub most_ms: u64,
}

impl DelayedRetry {
    /// How long a message waits that came back after so many failures; `None` if it does not.
    fn delay_ms(&self, failed: bool, failures: u32) -> Option<u64> {
        let waits = if failed { self.failed } else { self.returned };
        waits.then(|| self.least_ms.saturating_mul(u64::from(failures.max(1))).min(self.most_ms))
    }
}

/// How long a message waits.
enum Wait {
    /// So many milliseconds.
    For(u64),
    /// Until then, in milliseconds since 1970.
    Until(u64),
}

/// The messages of a queue that wait.
#[derive(Default)]
pub(super) struct Delayed {
    /// They came since the last visit: with how long they wait.
    fresh: Vec<(MessageRef, Wait)>,
    /// By when they are over, in milliseconds since 1970; in the order in which they came back.
    waiting: BTreeMap<u64, VecDeque<MessageRef>>,
    /// When the housekeeper was here last.
    visited_ms: u64,
}

impl Delayed {
    /// Whether a visit is needed that was not asked for.
    pub(super) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// How many wait.
    pub(super) fn count(&self) -> usize {
        self.fresh.len() + self.waiting.values().map(VecDeque::len).sum::<usize>()
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes all, in no order.
    fn take(&mut self) -> impl Iterator<Item = MessageRef> + use<> {
        let (fresh, waiting) = (core::mem::take(&mut self.fresh), core::mem::take(&mut self.waiting));
        fresh.into_iter().map(|(message, _)| message).chain(waiting.into_values().flatten())
    }

    /// The housekeeper is here. Gives what is over, and when the next is.
    fn visit(&mut self, now_ms: u64) -> (Vec<MessageRef>, Option<u64>) {
        for (message, wait) in self.fresh.drain(..) {
            let due_ms = match wait {
                Wait::For(delay_ms) => now_ms.saturating_add(delay_ms),
                Wait::Until(due_ms) => due_ms,
            };
            self.waiting.entry(due_ms).or_default().push_back(message);
        }
        // A clock that was set back must not keep them waiting.
        let set_back = now_ms < self.visited_ms;
        self.visited_ms = now_ms;
        let mut over = Vec::new();
        while let Some(first) = self.waiting.first_entry() {
            if *first.key() > now_ms && !set_back {
                break;
            }
            over.extend(first.remove());
        }
        (over, self.waiting.first_key_value().map(|(due_ms, _)| *due_ms))
    }
}

impl State {
    /// Keeps a message that came back from being ready for a while, if it is to wait.
    pub(super) fn delay(&mut self, message: MessageRef, failed: bool) -> bool {
        let wait = match self.tries.take_due_ms(message) {
            Some(due_ms) => Wait::Until(due_ms),
            None => {
                let Some(retry) = self.settings.delayed_retry else { return false };
                let delay_ms = retry.delay_ms(failed, self.tries.failures(message));
                let Some(delay_ms) = delay_ms else { return false };
                Wait::For(delay_ms)
            }
        };
        self.delayed.fresh.push((message, wait));
        true
    }

    /// Forgets those that wait. Gives how many.
    pub(super) fn purge_delayed(&mut self) -> usize {
        self.delayed.take().map(|message| self.forget(message)).count()
    }

    /// Has those ready whose wait is over at the time `now_ms`. Gives when the next is.
    pub(super) fn end_delays(&mut self, now_ms: u64) -> Option<u64> {
        let (over, next_ms) = self.delayed.visit(now_ms);
        let any = !over.is_empty();
        over.into_iter().for_each(|message| self.ready_again(message));
        if any {
            self.serve();
        }
        next_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_with_each_failure_up_to_the_longest() {
        let retry = DelayedRetry { failed: true, returned: true, least_ms: 400, most_ms: 1000 };
        let failed: Vec<_> = (1..5).map(|failures| retry.delay_ms(true, failures)).collect();
        assert_eq!(failed, [Some(400), Some(800), Some(1000), Some(1000)]);
        assert_eq!(retry.delay_ms(false, 0), Some(400));
        let less = DelayedRetry { most_ms: 300, ..retry };
        assert_eq!(less.delay_ms(true, u32::MAX), Some(300));
        for (failed, returned) in [(true, false), (false, true), (false, false)] {
            let retry = DelayedRetry { failed, returned, ..retry };
            assert_eq!([true, false].map(|f| retry.delay_ms(f, 1).is_some()), [failed, returned]);
        }
    }
}
