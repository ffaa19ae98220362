//! Deliveries that were not settled in time, and those that are held while their consumer is gone, on the side of their
//! queue.

use super::{
    MessageRef, Queue,
    consumers::ConsumerKey,
    keeping::Progress,
    state::{State, unassign},
};
use alloc::sync::Arc;
use leveret_model::MessageView;

impl Queue {
    /// Takes back messages that were not settled in time; they count as given back. Their consumer is given nothing more
    /// until [`Self::is_back`] was called as often.
    pub(crate) fn time_out(
        self: &Arc<Self>,
        messages: &[MessageRef],
        key: Option<ConsumerKey>,
        progress: &mut Progress,
    ) {
        let mut state = self.state.lock();
        if state.is_deleted() {
            return;
        }
        if let Some(key) = key {
            state.hold_back(key, messages.len() as u32);
        }
        for message in messages {
            state.give_back(*message, false);
        }
        state.serve();
        state.shorten();
        state.pass_on(progress);
        self.part(state);
    }

    /// A delivery is not its consumer's any more, though it is not settled.
    pub(crate) fn let_go(&self, key: ConsumerKey) {
        let mut state = self.state.lock();
        state.let_go(Some(key), 1);
        state.serve();
    }

    /// Looks at a message that is handed out, as whoever gets it again would see it, and whether it came back before.
    /// `None` if the queue is deleted.
    pub(crate) fn look_at<R>(
        &self,
        message: MessageRef,
        look: impl FnOnce(MessageView<'_>, bool) -> R,
    ) -> Option<R> {
        let mut state = self.state.lock();
        if state.is_deleted() {
            return None;
        }
        let State { lanes, tries, patched, .. } = &mut *state;
        let stored = lanes.stored(message)?;
        let redelivered = stored.redelivered;
        Some(look(tries.told(message, stored.message, patched), redelivered))
    }

    /// A consumer settled one that timed out.
    pub(crate) fn is_back(&self, key: ConsumerKey) {
        let mut state = self.state.lock();
        if let Some(consumer) = state.consumers.get_mut(key) {
            consumer.late = consumer.late.saturating_sub(1);
        }
        state.let_go(Some(key), 1);
        state.consumers.skip_late();
        state.serve();
    }
}

impl State {
    /// A consumer has so many that timed out. What was assigned to it and not handed out is for others.
    fn hold_back(&mut self, key: ConsumerKey, messages: u32) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        consumer.late += messages;
        let assigned = unassign(consumer);
        assigned.into_iter().rev().for_each(|message| self.untake(message));
        self.consumers.skip_late();
        // Whoever knew that something is to be read later may be the one that is held back.
        self.later = false;
    }
}
