//! What follows once the queues have a batch's messages: holds, the effects of the types that were
//! asked, the reasons for which some were dropped.
//!
//! Scratch of one publisher. A batch without any of it costs one look.

use crate::{
    exchange::Exchange,
    later::Holding,
    port::{Deed, Effects, Fate},
    publish::{Batch, Published},
    walk::Walk,
};
use alloc::{boxed::Box, sync::Arc, vec::Vec};

#[derive(Default)]
pub(crate) struct After {
    /// Which message of the batch, and where; for each there is room already. In order.
    holds: Vec<(u32, Holding)>,
    effects: Vec<(u32, Box<dyn Effects>)>,
    drops: Vec<(Arc<Exchange>, Arc<str>)>,
    deeds: Vec<Deed>,
}

impl After {
    pub(crate) fn is_empty(&self) -> bool {
        self.holds.is_empty() && self.effects.is_empty() && self.drops.is_empty()
    }

    /// Keeps the effects of an answer for a message.
    pub(crate) fn keep(&mut self, message: u32, effects: Option<Box<dyn Effects>>) {
        self.effects.extend(effects.map(|effects| (message, effects)));
    }

    /// Keeps what a message's walk found.
    pub(crate) fn keep_walked(&mut self, message: u32, walk: &mut Walk) {
        self.holds.extend(walk.holds().drain(..).map(|holding| (message, holding)));
        self.effects.extend(walk.effects().drain(..).map(|effects| (message, effects)));
        self.drops.append(walk.drops());
    }

    /// Whether a message is to be held.
    pub(crate) fn holds(&self, message: u32) -> bool {
        self.holds.binary_search_by_key(&message, |(held, ..)| *held).is_ok()
    }

    /// Holds what is to be held.
    pub(crate) fn hold(&mut self, batch: &Batch<'_, '_>) {
        if self.holds.is_empty() {
            return;
        }
        let now_ms = batch.router.now_ms();
        batch.vhost.later.hold(
            now_ms,
            self.holds.drain(..).filter_map(|(index, holding)| {
                let message = batch.messages.get(index as usize)?.message;
                Some((holding, message, batch.origin(index)))
            }),
        );
    }

    /// Counts drops, commits the effects of what was accepted, and does what they ask.
    pub(crate) fn settle(&mut self, batch: &mut Batch<'_, '_>) {
        if !self.drops.is_empty() {
            batch.vhost.drops.count(self.drops.drain(..));
        }
        for (index, effects) in self.effects.drain(..) {
            let outcome = batch.outcomes.get(batch.before + index as usize);
            let fate = match outcome {
                Some(Published::Routed) => Fate::Routed,
                Some(Published::Dropped) => Fate::Dropped,
                Some(Published::Unroutable) => Fate::Unroutable,
                Some(Published::Rejected(_) | Published::Unavailable(_) | Published::Refused(_)) | None => {
                    continue;
                }
            };
            if let Some(publish) = batch.messages.get(index as usize) {
                effects.commit(fate, &publish.message, &mut self.deeds);
                batch.vhost.perform(&mut self.deeds, batch.origin(index).hops);
            }
        }
    }
}
