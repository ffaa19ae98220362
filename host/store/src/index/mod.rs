//! What is live, and where: queues, values, and how much of each segment.
//!
//! *In and out:* batches in the order of the journal, by [`Index::apply`]: the writer's while it writes
//! them, recovery's while it reads them. Both are the same function, so what is there after a start is
//! what was there before.
//!
//! *Memory:* 16 bytes for each message of a queue, in vectors of up to 4,096 that grow by doubling and
//! shrink when three quarters are gone; 24 to 48 more for a message that several queues have; keys and
//! values. No payload.
//!
//! *Invariants:* a segment's live bytes are those of messages that at least one queue has.

pub(crate) mod chunk;
mod held;
pub(crate) mod queue;
pub(crate) mod save;
pub(crate) mod values;

use crate::record::{
    group::{GroupView, PAYLOAD_HEADER_BYTES},
    op::{Enqueue, Op, QueueId, Range, Sequence},
};
use chunk::{Entry, Location};
use held::Held;
use queue::Queue;
use std::collections::BTreeMap;
use values::Values;

/// Everything that is live.
#[derive(Default)]
pub(crate) struct Index {
    pub(crate) queues: BTreeMap<QueueId, Queue>,
    pub(crate) values: Values,
    pub(crate) held: Held,
    /// The last batch that was applied.
    pub(crate) position: u64,
    /// At a start: how many messages came for queues that are not there and were not deleted.
    pub(crate) unknown: Option<BTreeMap<QueueId, u64>>,
}

/// How a batch came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coming {
    /// For the first time.
    New,
    /// Its bytes were written again elsewhere.
    Again,
    /// Read at a start without what is older: messages that are written again may be new.
    Orphaned,
}

impl Index {
    /// Applies a group of a batch. `offset` is where the group is in the segment.
    pub(crate) fn apply(
        &mut self,
        group: &GroupView<'_>,
        (batch, segment, offset): (u64, u32, u64),
        coming: Coming,
    ) {
        // Checked when it was made or when it was read.
        let _ = group.each(|op, payload, at| {
            let location = Location { segment, offset: (offset + at as u64) as u32 };
            match op {
                Op::Enqueue(enqueue) if enqueue.moved || coming == Coming::Again => {
                    self.place(&enqueue, payload.len(), location, (batch, coming));
                }
                Op::Enqueue(enqueue) => self.enqueue(&enqueue, payload.len(), location, batch),
                _ if coming == Coming::Again => {}
                Op::Ack(ranges) => {
                    if let Some(queue) = self.queues.get_mut(&ranges.queue) {
                        for range in ranges.iter() {
                            queue.ack(range, batch, |entry| self.held.release(entry, batch));
                        }
                    }
                }
                Op::Delivered(ranges) => {
                    if let Some(queue) = self.queues.get_mut(&ranges.queue) {
                        ranges.iter().for_each(|range| queue.deliver(range, batch));
                    }
                }
                Op::Create(queue) => {
                    self.queues.entry(queue).or_default();
                }
                Op::Delete(queue) => {
                    if let Some(unknown) = &mut self.unknown {
                        unknown.remove(&queue);
                    }
                    if let Some(queue) = self.queues.remove(&queue) {
                        queue.each(|_, entry| self.held.release(entry, batch));
                    }
                }
                Op::Set { space, key, value, expires_ms } => {
                    self.values.set(space, key, value, expires_ms, batch)
                }
                Op::Unset { space, key } => self.values.unset(space, key, batch),
                Op::Clear(space) => self.values.clear(space, batch),
            }
        });
    }

    fn enqueue(&mut self, enqueue: &Enqueue<'_>, payload: usize, location: Location, batch: u64) {
        let bytes = (payload + PAYLOAD_HEADER_BYTES) as u32;
        let mut flags = if enqueue.targets().len() > 1 { chunk::SHARED } else { 0 };
        flags |= if enqueue.extent.is_some() { chunk::EXTENT } else { 0 };
        flags |= if enqueue.redelivered { chunk::DELIVERED } else { 0 };
        let mut taken = 0;
        for (queue, sequence) in enqueue.targets() {
            let entry = Entry::new(sequence, flags, location, bytes);
            match self.queues.get_mut(&queue) {
                Some(queue) => taken += u32::from(queue.insert(sequence, entry, batch)),
                None => self.count_unknown(queue),
            }
        }
        self.held.hold(location, bytes, taken, flags);
        match enqueue.extent {
            Some(extent) if taken > 0 => {
                self.held.put_apart(location, extent);
            }
            // At a start it may be that the checkpoint has it already.
            Some(extent) if !self.held.refers_to(extent.number) => {
                self.held.dead_extents.push((batch, extent.number));
            }
            _ => {}
        }
    }

    fn count_unknown(&mut self, queue: QueueId) {
        if let Some(unknown) = &mut self.unknown {
            *unknown.entry(queue).or_default() += 1;
        }
    }

    /// A message is elsewhere from now on, in those queues that have it.
    fn place(&mut self, enqueue: &Enqueue<'_>, payload: usize, to: Location, (batch, coming): (u64, Coming)) {
        let bytes = (payload + PAYLOAD_HEADER_BYTES) as u32;
        if coming == Coming::Orphaned && enqueue.targets().any(|(queue, at)| self.lacks(queue, at)) {
            return self.enqueue(enqueue, payload, to, batch);
        }
        let mut moved = 0;
        let mut flags = 0;
        for (queue, sequence) in enqueue.targets() {
            let Some(queue) = self.queues.get_mut(&queue) else {
                if coming == Coming::Orphaned {
                    self.count_unknown(queue);
                }
                continue;
            };
            let Some(entry) = queue.get_mut(sequence, batch).filter(|entry| entry.location != to) else {
                continue;
            };
            let before = *entry;
            entry.location = to;
            flags = before.flags();
            moved += 1;
            self.held.let_go(before);
        }
        self.held.hold(to, bytes, moved, flags);
        if let (Some(extent), true) = (enqueue.extent, moved > 0) {
            self.held.put_apart(to, extent);
        }
    }

    fn lacks(&self, queue: QueueId, sequence: Sequence) -> bool {
        self.queues.get(&queue).is_some_and(|queue| queue.get(sequence).is_none())
    }

    /// Removes messages whose bytes are not there, whoever knows of them; each is handed to `lost`.
    pub(crate) fn drop_missing(
        &mut self,
        is_there: impl Fn(Location, u32) -> bool,
        mut lost: impl FnMut(QueueId, Sequence),
    ) {
        let mut missing = Vec::new();
        for (id, queue) in &self.queues {
            queue.each(|sequence, entry| {
                if !is_there(entry.location, entry.bytes) {
                    missing.push((*id, sequence));
                }
            });
        }
        let position = self.position;
        for (id, first) in missing {
            lost(id, first);
            if let Some(queue) = self.queues.get_mut(&id) {
                // As of after all batches: a checkpoint that has it does not keep it.
                let range = Range { first, count: 1 };
                queue.ack(range, u64::MAX, |entry| self.held.release(entry, position));
            }
        }
    }

    /// The segments that have messages.
    pub(crate) fn segments_used(&self) -> impl Iterator<Item = u32> {
        self.held.space.iter().filter(|(_, live)| live.messages > 0).map(|(segment, _)| *segment)
    }

    /// Recovery is done: what only it needs is forgotten. After an unclean end all that is there counts
    /// as delivered.
    pub(crate) fn settle(&mut self, unclean: bool) {
        self.values.settle();
        for queue in self.queues.values_mut() {
            queue.settle(unclean);
        }
    }
}
