//! What of a batch is to outlive the process: handed to the store as one group once queues have numbered it.

use super::{Batch, Publish, Published, Publisher, Scratch};
use crate::{
    queue::{Notes, large_of},
    store::{Noted, Written},
};
use alloc::sync::Arc;

impl Publisher {
    /// Has `waiter` told under this token when what the next call publishes is safe, as often as [`Self::groups`]
    /// says after it. It may be told before that returns.
    pub fn confirm_to(&mut self, waiter: &Arc<dyn Written>, token: u64) {
        self.scratch.confirm = Some((waiter.clone(), token));
    }

    /// How often somebody is told that what the last call published is safe: not at all if nothing of it is to
    /// outlive the process.
    #[must_use]
    pub fn groups(&self) -> u32 {
        self.scratch.groups
    }

    /// Whether something that was published since this was asked was for the store, taken by it or not.
    pub fn take_writes(&mut self) -> bool {
        core::mem::take(&mut self.scratch.writes)
    }
}

impl Scratch {
    /// A persistent message that a type dropped may be a duplicate of one that is not safe yet: then it is confirmed
    /// with that one.
    pub(super) fn wait_for_earlier(&mut self, batch: &Batch<'_, '_>) {
        let Some((waiter, token)) = &self.confirm else { return };
        let outcomes = batch.outcomes.get(batch.before..).unwrap_or_default();
        let mut dealt = outcomes.iter().zip(batch.messages);
        let is_dropped = |(outcome, publish): (&Published, &Publish<'_>)| {
            *outcome == Published::Dropped && publish.message.is_persistent()
        };
        if batch.vhost.store.keeps() && dealt.any(is_dropped) {
            batch.vhost.store.when_safe(waiter, *token);
            self.groups += 1;
        }
    }

    /// Hands over what is to be written, as one group. `messages` are those of the batch as receivers see them.
    pub(super) fn write(&mut self, batch: &mut Batch<'_, '_>, messages: &[Publish<'_>], now_ms: u64) {
        let Self { large, after, notes, group, .. } = self;
        let Notes { placing, progress, .. } = notes;
        let outcomes = batch.outcomes.get(batch.before..).unwrap_or_default();
        let store = &*batch.vhost.store;
        if !store.keeps() {
            if let Some(sender) = &mut batch.sender {
                sender.placed(outcomes, None);
            }
            return;
        }
        let group = &mut **group.get_or_insert_with(|| store.group());
        let durability = if placing.is_empty() { store.durability() } else { placing.durability() };
        if !placing.is_empty() {
            let sender = batch.sender.as_deref();
            placing.drain(|message, targets| {
                let dead_lettered = sender.is_some_and(|sender| sender.origin(message).dead_lettered);
                let noted = Noted { dead_lettered, came_ms: now_ms };
                if let Some(publish) = messages.get(message as usize) {
                    group.enqueue(&publish.message, large_of(large, message), noted, targets);
                }
            });
        }
        after.write_holds(batch, group);
        let outcomes = batch.outcomes.get(batch.before..).unwrap_or_default();
        if let Some(sender) = &mut batch.sender {
            sender.placed(outcomes, Some(group));
        }
        after.take_changes(|changes| group.change(changes));
        if let Some(so_far) = &mut self.transaction {
            *so_far = durability.max(*so_far);
        } else if !group.is_empty() {
            self.groups += u32::from(self.confirm.is_some());
            group.submit(durability, self.confirm.as_ref().map(|(waiter, token)| (waiter, *token)));
        }
        progress.tell(store);
    }
}
