//! How often the messages of a quorum queue were delivered in vain.
//!
//! Two counts, told to consumers as headers from the second delivery on: `x-acquired-count`, how often it was delivered
//! before, and `x-delivery-count`, how often of these it failed: it was rejected to be requeued, or its consumer went
//! away. What is given back with a nack counts as no failure. A message beyond its limit dies. A dead letter goes on from
//! what it failed where it died.
//!
//! After a restart each delivery that is on disk counts as failed: if it was the message that ended the process, it
//! must not do so for ever.

use super::{settings::DELIVERY_LIMIT, settings::DeliveryLimit, slab::MessageRef};
use alloc::vec::Vec;
use hashbrown::HashMap;
use leveret_model::{Change, MessageView, Name, Patch, Value};

#[derive(Clone, Copy, Default)]
struct Count {
    acquired: u32,
    failed: u32,
}

/// The counts of a queue's messages; of those alone that came back.
pub(super) struct Tries {
    limit: DeliveryLimit,
    /// `None` in queues that do not count.
    counts: Option<HashMap<(u16, u64), Count, foldhash::fast::RandomState>>,
}

impl Tries {
    pub(super) fn of(limit: DeliveryLimit, is_counting: bool) -> Self {
        Self { limit, counts: is_counting.then(HashMap::default) }
    }

    /// Whether there is any count.
    #[inline]
    pub(super) fn has_any(&self) -> bool {
        self.counts.as_ref().is_some_and(|counts| !counts.is_empty())
    }

    /// Has another limit. Those that had too many deliveries already die when they are next.
    pub(super) fn set_limit(&mut self, limit: DeliveryLimit) {
        self.limit = limit;
    }

    /// Notes what the store tells of messages of a lane.
    pub(super) fn recover(&mut self, lane: u16, deliveries: &[(u64, u16)]) {
        let Some(counts) = &mut self.counts else { return };
        for (sequence, times) in deliveries {
            let times = u32::from(*times);
            counts.entry((lane, *sequence)).or_insert(Count { acquired: times, failed: times });
        }
    }

    /// Counts a delivery that came back; whether there were too many. Without a limit of its own a message stays
    /// that has nowhere to go.
    pub(super) fn is_over(&mut self, message: MessageRef, failed: bool, has_letters: bool) -> bool {
        let Some(counts) = &mut self.counts else { return false };
        let count = counts.entry((message.lane, message.sequence)).or_default();
        count.acquired = count.acquired.saturating_add(1);
        count.failed = count.failed.saturating_add(failed.into());
        self.limit.is_over(*count, has_letters)
    }

    /// Whether a ready message was delivered too often: it was there before a restart, or before the limit changed.
    #[inline]
    pub(super) fn is_worn_out(&self, message: MessageRef, has_letters: bool) -> bool {
        let counts = self.counts.as_ref().filter(|counts| !counts.is_empty());
        let count = counts.and_then(|counts| counts.get(&(message.lane, message.sequence)));
        // One that failed elsewhere is tried here first.
        count.is_some_and(|count| count.acquired > 0 && self.limit.is_over(*count, has_letters))
    }

    /// A message that comes failed so often before. False where that is not counted.
    pub(super) fn begin_with(&mut self, (lane, sequence): (u16, u64), failed: u32) -> bool {
        let Some(counts) = &mut self.counts else { return false };
        counts.insert((lane, sequence), Count { acquired: 0, failed });
        true
    }

    /// How often a message failed, where that is counted.
    pub(super) fn counted_failures(&self, message: MessageRef) -> Option<u32> {
        self.counts.as_ref().map(|_| self.failures(message))
    }

    /// How often a message failed.
    pub(super) fn failures(&self, message: MessageRef) -> u32 {
        let count = self.counts.as_ref().and_then(|counts| counts.get(&(message.lane, message.sequence)));
        count.map_or(0, |count| count.failed)
    }

    /// A message is done with.
    pub(super) fn forget(&mut self, message: MessageRef) {
        if let Some(counts) = &mut self.counts
            && !counts.is_empty()
        {
            counts.remove(&(message.lane, message.sequence));
        }
    }

    /// The message as it is told to a consumer; `patched` has what it needs.
    #[inline]
    pub(super) fn told<'a>(
        &self,
        message: MessageRef,
        view: MessageView<'a>,
        patched: &'a mut Vec<u8>,
    ) -> MessageView<'a> {
        let counts = self.counts.as_ref().filter(|counts| !counts.is_empty());
        match counts.and_then(|counts| counts.get(&(message.lane, message.sequence))) {
            Some(count) => count.told(view, patched),
            None => view,
        }
    }
}

impl DeliveryLimit {
    fn is_over(self, count: Count, has_letters: bool) -> bool {
        match self {
            Self::None => false,
            Self::Default => has_letters && count.failed > DELIVERY_LIMIT,
            Self::Times(most) => count.failed > most,
        }
    }
}

impl Count {
    fn told<'a>(self, view: MessageView<'a>, patched: &'a mut Vec<u8>) -> MessageView<'a> {
        let count = self;
        let header = |name, count: u32| Change::SetHeader {
            name: Name::from_static(name),
            value: Value::Integer(count.into()),
        };
        let failed = (count.failed > 0).then(|| header("x-delivery-count", count.failed));
        // As RabbitMQ says it of one that failed elsewhere and was not given to anybody here.
        let acquired = if count.acquired == 0 { count.failed } else { count.acquired };
        let patch: Patch = [header("x-acquired-count", acquired)].into_iter().chain(failed).collect();
        patched.clear();
        match view.form.patch(view.properties, &patch, patched) {
            Ok(()) => MessageView { properties: patched, ..view },
            // Its headers are as many as can be.
            Err(_) => view,
        }
    }
}
