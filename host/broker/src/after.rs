//! What follows once the queues have a batch's messages: holds, the effects of the types that were
//! asked, the reasons for which some were dropped or not accepted. And what comes before: what of the effects
//! is to outlive the process is written, or their messages are not accepted.
//!
//! Scratch of one publisher. A batch without any of it costs one look.

use crate::{
    later::Holding,
    port::{Deed, Effects, Fate},
    publish::{Batch, Earlier, Published},
    stage::Stage,
    store::Change,
    walk::{Decider, Walk},
};
use alloc::{boxed::Box, collections::VecDeque, string::ToString, sync::Arc, vec::Vec};

#[derive(Default)]
pub(crate) struct After {
    /// Which message of the batch, and where; for each there is room already. In order.
    holds: Vec<(u32, Holding)>,
    effects: Vec<Pending>,
    drops: Vec<(Decider, Arc<str>)>,
    rejections: Vec<(Decider, Arc<str>)>,
    deeds: Vec<Deed>,
    group: Vec<Change>,
}

/// Effects that are not committed yet.
struct Pending {
    message: u32,
    effects: Box<dyn Effects>,
    /// The fate with which they are written. It counts, even where the message's queues were deleted since:
    /// as if they had been a moment later.
    written: Option<Fate>,
}

impl After {
    pub(crate) fn is_empty(&self) -> bool {
        self.holds.is_empty()
            && self.effects.is_empty()
            && self.drops.is_empty()
            && self.rejections.is_empty()
    }

    /// Keeps the effects of an answer for a message.
    pub(crate) fn keep(&mut self, message: u32, effects: Option<Box<dyn Effects>>) {
        self.effects.extend(effects.map(|effects| Pending { message, effects, written: None }));
    }

    /// Keeps what was done for messages before their exchange was asked, as far as they are dealt with:
    /// those before the place `dealt`.
    pub(crate) fn keep_earlier(&mut self, earlier: &mut VecDeque<Earlier>, dealt: u32) {
        while let Some((message, effects)) = earlier.pop_front_if(|(message, _)| *message < dealt) {
            self.effects.push(Pending { message, effects, written: None });
        }
    }

    /// Keeps what a message's walk found.
    pub(crate) fn keep_walked(&mut self, message: u32, walk: &mut Walk) {
        self.holds.extend(walk.holds().drain(..).map(|holding| (message, holding)));
        let effects = walk.effects().drain(..);
        self.effects.extend(effects.map(|effects| Pending { message, effects, written: None }));
        self.drops.append(walk.drops());
    }

    /// An exchange's type did not accept a message.
    pub(crate) fn rejected(&mut self, by: &Decider, reason: &Arc<str>) {
        by.0.count_rejected();
        self.rejections.push((by.clone(), reason.clone()));
    }

    /// Whether a message is to be held.
    pub(crate) fn holds(&self, message: u32) -> bool {
        self.holds.binary_search_by_key(&message, |(held, ..)| *held).is_ok()
    }

    /// Writes what of the effects is to outlive the process, for messages that are about to be where they
    /// belong. Where the store takes nothing, those messages are not accepted.
    pub(crate) fn write(&mut self, batch: &mut Batch<'_, '_>, stage: &mut Stage) {
        if self.effects.is_empty() || !batch.vhost.store.keeps() {
            return;
        }
        for pending in &mut self.effects {
            let Some(fate) = fate(batch, pending.message) else { continue };
            let before = self.group.len();
            pending.effects.record(fate, &mut self.group);
            pending.written = Some(fate).filter(|_| self.group.len() > before);
        }
        if self.group.is_empty() {
            return;
        }
        let taken = batch.vhost.store.append(&self.group);
        self.group.clear();
        if let Err(failure) = taken {
            self.give_up(batch, stage, &Arc::from(failure.to_string()));
        }
    }

    /// What was to be written is not: its messages go nowhere.
    fn give_up(&mut self, batch: &mut Batch<'_, '_>, stage: &mut Stage, reason: &Arc<str>) {
        let written = self.effects.iter().filter(|pending| pending.written.is_some());
        let mut lost: Vec<u32> = written.map(|pending| pending.message).collect();
        lost.sort_unstable();
        lost.dedup();
        let is_lost = |message: &u32| lost.binary_search(message).is_ok();
        stage.remove(is_lost);
        for (index, holding) in self.holds.extract_if(.., |(message, _)| is_lost(message)) {
            if let Some(publish) = batch.messages.get(index as usize) {
                batch.vhost.later.give_back_room(&publish.message, &holding);
            }
        }
        // Dropped, they are undone.
        self.effects.retain(|pending| !is_lost(&pending.message));
        for index in &lost {
            if let Some(outcome) = batch.outcomes.get_mut(batch.before + *index as usize) {
                *outcome = Published::Unavailable(reason.clone());
            }
        }
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

    /// Counts drops and rejections, commits the effects of what was accepted, and does what they ask.
    pub(crate) fn settle(&mut self, batch: &mut Batch<'_, '_>) {
        if !self.drops.is_empty() {
            batch.vhost.drops.count(self.drops.drain(..));
        }
        if !self.rejections.is_empty() {
            batch.vhost.rejections.count(self.rejections.drain(..));
        }
        for Pending { message, effects, written } in self.effects.drain(..) {
            let Some(fate) = written.or_else(|| fate(batch, message)) else { continue };
            if let Some(publish) = batch.messages.get(message as usize) {
                effects.commit(fate, &publish.message, &mut self.deeds);
                batch.vhost.perform(&mut self.deeds, batch.origin(message).hops);
            }
        }
    }
}

/// What becomes of a message of the batch; none where it is not accepted.
fn fate(batch: &Batch<'_, '_>, message: u32) -> Option<Fate> {
    batch.outcomes.get(batch.before + message as usize).and_then(Published::fate)
}
