//! Which messages of a batch are to be written, and where they are.
//!
//! Filled in under the locks of the queues that take them, and read when all have.

use super::{Keeping, MessageRef, Progress, Queue, lanes::Lane};
use crate::{
    dead_letter::DeathReason,
    store::{Durability, Target},
};
use alloc::{sync::Arc, vec::Vec};
use leveret_model::{MessageView, Name};

/// A message of a batch, by its place there, in a queue.
pub(crate) struct Placed {
    pub(crate) message: u32,
    pub(crate) target: Target,
}

/// What queues note while they take a batch. Scratch of one publisher.
#[derive(Default)]
pub(crate) struct Notes {
    /// What is to be written, and where it is.
    pub(crate) placing: Placing,
    /// The members that a queue did not accept, since it is full, and that queue.
    pub(crate) refused: Vec<(u32, Name)>,
    /// What the store is to be told of messages that had to go.
    pub(crate) progress: Progress,
    /// What died, and where, for whoever publishes to send on.
    pub(crate) dying: Vec<(Arc<Queue>, MessageRef, DeathReason)>,
    /// Whoever publishes has looked, and no message of the batch says how long it may wait.
    pub(crate) is_timeless: bool,
}

impl Notes {
    /// A queue did not accept a member.
    #[cold]
    pub(super) fn refuse(&mut self, member: u32, queue: &Name) {
        self.refused.push((member, queue.clone()));
    }

    /// Leaves it to the housekeepers of the queues to send on what died.
    pub(crate) fn leave_dying(&mut self) {
        for (queue, message, reason) in self.dying.drain(..) {
            queue.leave_dying(message, reason);
        }
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        self.leave_dying();
    }
}

#[derive(Default)]
pub(crate) struct Placing {
    placed: Vec<Placed>,
    durability: Option<Durability>,
}

impl Lane {
    /// Notes that it takes a message, if it is one to be written; says whether.
    pub(super) fn place(&self, placing: &mut Placing, message: u32, view: &MessageView<'_>) -> bool {
        let sequence = self.store.next_sequence();
        self.keeping.as_ref().is_some_and(|keeping| placing.place(keeping, message, view, sequence))
    }
}

impl Placing {
    /// Notes that a queue takes a message under that number, if it is one to be written; says whether.
    pub(super) fn place(
        &mut self,
        to: &Keeping,
        message: u32,
        view: &MessageView<'_>,
        sequence: u64,
    ) -> bool {
        if !to.keeps(view) {
            return false;
        }
        self.placed.push(Placed { message, target: Target { queue: to.id, sequence } });
        self.durability = self.durability.max(Some(to.durability));
        true
    }

    /// When what was noted counts as safe: as the strictest of the queues says.
    pub(crate) fn durability(&self) -> Durability {
        self.durability.unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.placed.is_empty()
    }

    /// Calls `each` with each message that is to be written and where it is, in the order of the batch; then
    /// nothing is noted any more.
    pub(crate) fn drain(&mut self, mut each: impl FnMut(u32, &[Target])) {
        // Those of one queue are in order already, and most batches are for one.
        self.placed.sort_by_key(|placed| placed.message);
        let mut targets = Vec::new();
        for same in self.placed.chunk_by(|a, b| a.message == b.message) {
            targets.clear();
            targets.extend(same.iter().map(|placed| placed.target));
            if let Some(first) = same.first() {
                each(first.message, &targets);
            }
        }
        self.placed.clear();
        self.durability = None;
    }
}
