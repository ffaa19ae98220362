//! What a durable queue needs to have its messages written, and to have told what becomes of them.

use crate::{
    receipt::Receipt,
    store::{Durability, Group, KeptId, Ranges, Store, Written},
};
use alloc::{sync::Arc, vec::Vec};
use core::fmt;
use leveret_model::MessageView;

/// Where a durable queue's messages are kept.
#[derive(Clone)]
pub(crate) struct Keeping {
    /// Its number there.
    pub(crate) id: KeptId,
    pub(crate) store: Arc<dyn Store>,
    /// When a message counts as safe.
    pub(crate) durability: Durability,
    /// It keeps transient messages too, as a quorum queue does.
    pub(crate) keeps_all: bool,
}

impl Keeping {
    /// Whether a message is to be written.
    pub(crate) fn keeps(&self, message: &MessageView<'_>) -> bool {
        self.keeps_all || message.is_persistent()
    }
}

impl fmt::Debug for Keeping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeping").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What became of messages that are kept, of any queues, until the store is told: collected under the queues' locks
/// and handed over under none.
#[derive(Default)]
pub(crate) struct Progress {
    settled: Vec<(KeptId, Ranges)>,
    delivered: Vec<(KeptId, Ranges)>,
    /// When what was settled counts as safe: as the strictest of its queues says.
    strictest: Option<Durability>,
    /// Some of what was delivered is of queues that count deliveries.
    counts: bool,
}

impl Progress {
    /// Messages of a queue are done with.
    pub(super) fn settled(&mut self, queue: &Keeping, ranges: &mut Vec<Ranges>) {
        if !ranges.is_empty() {
            self.strictest = self.strictest.max(Some(queue.durability));
            self.settled.extend(ranges.drain(..).map(|range| (queue.id, range)));
        }
    }

    /// Messages of a queue were given to consumers.
    pub(super) fn delivered(&mut self, queue: &Keeping, ranges: &mut Vec<Ranges>) {
        self.counts |= queue.keeps_all && !ranges.is_empty();
        self.delivered.extend(ranges.drain(..).map(|range| (queue.id, range)));
    }

    /// Tells the store all of it, as one group; then there is nothing.
    pub(crate) fn tell(&mut self, store: &dyn Store) {
        if self.settled.is_empty() && self.delivered.is_empty() {
            return;
        }
        self.join();
        store.progressed(&self.settled, &self.delivered, self.counts);
        self.settled.clear();
        self.delivered.clear();
        (self.strictest, self.counts) = (None, false);
    }

    /// The same; `waiter` is told under its token once what was settled is as safe as the strictest of its queues wants
    /// it. How often it is told: once, or not at all where nothing was settled that is written.
    pub(crate) fn tell_to(&mut self, store: &dyn Store, waiter: &Arc<dyn Written>, token: u64) -> u32 {
        let mut group = store.group();
        let settled = self.settle_in(&mut *group);
        if let Some(durability) = settled {
            group.submit(durability, Some((waiter, token)));
        }
        self.tell(store);
        settled.is_some().into()
    }

    /// Tells the store what was settled of one queue, and gives the receipt for that.
    pub(super) fn tell_kept(mut self, keeping: &Keeping) -> Receipt {
        self.join();
        Receipt::for_settled(&*keeping.store, keeping.durability, &self.settled)
    }

    /// Puts what was settled into a group, to be written with the rest of it; what was given to consumers is told as
    /// ever. Gives when it counts as safe; `None` if there was nothing.
    pub(crate) fn settle_in(&mut self, group: &mut dyn Group) -> Option<Durability> {
        self.join();
        self.settled.drain(..).for_each(|(queue, range)| group.settle(queue, &[range]));
        self.strictest.take()
    }

    fn join(&mut self) {
        join(&mut self.settled);
        join(&mut self.delivered);
    }
}

/// Sorts by queue and number, and joins what follows each other.
fn join(ranges: &mut Vec<(KeptId, Ranges)>) {
    ranges.sort_unstable_by_key(|(queue, range)| (*queue, range.first));
    ranges.dedup_by(|(queue, next), (last_queue, last)| {
        let end = last.first + u64::from(last.count);
        let joined = last.count.checked_add(next.count).filter(|_| queue == last_queue && next.first == end);
        last.count = joined.unwrap_or(last.count);
        joined.is_some()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_each_other_in_a_queue_is_one_range() {
        let range = |queue, first, count| (KeptId(queue), Ranges { first, count });
        let mut ranges =
            alloc::vec![range(2, 7, 1), range(1, 5, 1), range(1, 3, 2), range(2, 9, 1), range(2, 8, 1)];
        join(&mut ranges);
        assert_eq!(ranges, [range(1, 3, 3), range(2, 7, 3)]);
        let mut apart = alloc::vec![range(1, 0, u32::MAX), range(1, u64::from(u32::MAX), 1), range(2, 1, 1)];
        let before = apart.clone();
        join(&mut apart);
        assert_eq!(apart, before);
    }
}
