//! Deliveries that are not settled and whose consumer is gone for a while: somebody holds on to them until their client
//! comes again and goes on with them (AMQP 1.0, section 2.6.13), or does not come.
//!
//! They are taken from their queue as before: nobody else gets them. Whoever lets go of them puts them back.

use super::{Client, unacked::Entry};
use crate::{
    port::Router,
    queue::{MessageRef, Queue, Settle},
};
use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
use core::fmt;
use leveret_model::MessageView;

/// Deliveries of one queue, by numbers that whoever holds them gave them. Dropped, what is left is put back into the queue
/// in the order of the numbers, and counts as a failure as with the end of a channel.
pub struct Held {
    queue: Arc<Queue>,
    messages: BTreeMap<u64, MessageRef>,
}

impl Held {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Their numbers, in order.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.messages.keys().copied()
    }

    /// Whether one is there.
    #[must_use]
    pub fn has(&self, number: u64) -> bool {
        self.messages.contains_key(&number)
    }

    /// Whether they are of the queue of this name, and that is still there.
    #[must_use]
    pub fn is_of(&self, queue: &[u8]) -> bool {
        !self.is_gone() && self.queue.name().as_bytes() == queue
    }

    /// Whether the queue was deleted, and they with it.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.queue.is_deleted()
    }

    /// Puts those back that are not to stay.
    pub fn retain(&mut self, mut stays: impl FnMut(u64) -> bool) {
        let (mut kept, mut back) = (BTreeMap::new(), Vec::new());
        for (number, message) in core::mem::take(&mut self.messages) {
            if stays(number) {
                kept.insert(number, message);
            } else {
                back.push((message, None));
            }
        }
        self.messages = kept;
        // Where the queue does not tell its counts this one is told all the same, as of a session that ends.
        self.queue.fail(back.iter().map(|(message, _)| *message));
        if !back.is_empty() {
            self.queue.settle_others_now(&back, Settle::Requeue { failed: true });
        }
    }

    /// Looks at one, under the queue's lock: `look` must not call back into the broker. `None` if it is not there.
    pub fn look<R>(&self, number: u64, look: impl FnOnce(MessageView<'_>, bool) -> R) -> Option<R> {
        self.queue.look_at(*self.messages.get(&number)?, look)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.retain(|_| false);
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("queue", self.queue.name())
            .field("messages", &self.messages.len())
            .finish()
    }
}

impl Client {
    /// Takes deliveries off a channel without settling them, given by the numbers that they have from then on and their
    /// tags in the order of these, and adds them to what is `held` of the same queue already. What timed out is in its
    /// queue, and is not there; what goes past interceptors, which would have to be asked anew, and what is of another
    /// queue than the first, is put back. `None` if there is nothing. To be followed by [`Self::tell_store`].
    pub fn hold(
        &mut self,
        n: u16,
        deliveries: &[(u64, u64)],
        mut held: Option<Held>,
        router: &mut dyn Router,
    ) -> Option<Held> {
        self.tell_accepted();
        for (number, tag) in deliveries {
            let queue = self.channels.get(&n).and_then(|channel| {
                let entry = channel.unacked.get(*tag)?;
                Some(channel.holders.get(entry.place() as usize)?.as_ref()?.queue.clone())
            });
            let Some(queue) = queue else { continue };
            let is_other = held.as_ref().is_some_and(|held| !Arc::ptr_eq(&held.queue, &queue));
            if is_other || self.is_intercepted(&queue, router) {
                // It is there.
                let _ = self.settle(n, *tag, false, Settle::Requeue { failed: true });
                continue;
            }
            let Some(channel) = self.channels.get_mut(&n) else { continue };
            let Some(entry) = channel.unacked.take(*tag) else { continue };
            if entry.is_late() {
                channel.settle_late(entry);
                continue;
            }
            if let Some(key) = channel.let_go(entry.holder) {
                channel.credit.release(1);
                queue.let_go(key);
            }
            let held = held.get_or_insert_with(|| Held { queue, messages: BTreeMap::new() });
            held.messages.insert(*number, entry.message);
        }
        held
    }

    /// A delivery that was held is one of a channel again, of no consumer; its tag there. `None` if it is not held, or
    /// the channel not open.
    pub fn take_up(&mut self, n: u16, held: &mut Held, number: u64, now_ms: u64) -> Option<u64> {
        let channel = self.channels.get_mut(&n)?;
        let message = held.messages.remove(&number)?;
        let holder = channel.getter(&held.queue, self.consumer_timeout_ms);
        channel.last_tag += 1;
        let tag = channel.last_tag;
        channel.unacked.push(Entry { tag, message, holder });
        let due_ms = channel.note_delivered(holder, 1, now_ms);
        self.note_due(due_ms);
        Some(tag)
    }
}
