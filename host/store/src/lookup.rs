//! What is there, for whoever asks.

use crate::{QueueId, Sequence, Space, Store};

/// What there is of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStat {
    /// How many messages.
    pub messages: u64,
    /// The sequence of the first; the same as `next` if there is none.
    pub first: Sequence,
    /// The sequence after the last that was ever named.
    pub next: Sequence,
}

impl Store {
    /// What there is of a queue; `None` if there is no such queue. What was taken and is not written yet is not seen.
    #[must_use]
    pub fn queue(&self, queue: QueueId) -> Option<QueueStat> {
        let index = self.core.index.lock();
        let queue = index.queues.get(&queue)?;
        let first = queue.from(0).next().map_or(queue.next, |(first, _)| first);
        Some(QueueStat { messages: queue.live, first, next: queue.next })
    }

    /// How many messages of a queue have these sequences; likewise.
    #[must_use]
    pub fn count(&self, queue: QueueId, sequences: core::ops::Range<Sequence>) -> u64 {
        let index = self.core.index.lock();
        index.queues.get(&queue).map_or(0, |queue| queue.count(sequences))
    }

    /// Hands the values of a space whose keys begin with `prefix` to `each`, by key: key, value, and when it ends in
    /// milliseconds since 1970, or 0. Called under a lock: ask the store nothing there.
    pub fn values_with(&self, space: Space, prefix: &[u8], mut each: impl FnMut(&[u8], &[u8], u64)) {
        let index = self.core.index.lock();
        let found = index.values.with(space, prefix);
        found.for_each(|(key, value)| each(key, &value.bytes, value.expires_ms));
    }

    /// The spaces that have values, in order.
    #[must_use]
    pub fn spaces(&self) -> Vec<Space> {
        self.core.index.lock().values.spaces()
    }
}
