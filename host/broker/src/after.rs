//! What follows once the queues have a batch's messages: holds, the effects of the types that were
//! asked, the reasons for which some were dropped or not accepted. And what comes before: what of the effects
//! is to outlive the process is written, or their messages are not accepted.
//!
//! Scratch of one publisher. A batch without any of it costs one look.

use crate::{
    later::{Emitting, Holding, ToKeep, is_kept},
    port::{Deed, Effects, Fate},
    publish::{Batch, Earlier, Published},
    stage::Stage,
    store::{Change, Group},
    walk::{Decider, Walk},
};
use alloc::{boxed::Box, collections::VecDeque, string::ToString, sync::Arc, vec::Vec};

#[derive(Default)]
pub(crate) struct After {
    /// Which message of the batch, and where; for each there is room already. In order.
    holds: Vec<(u32, Holding)>,
    effects: Vec<Pending>,
    /// The room for what they emit, by their message, in order.
    emitting: Vec<(u32, Emitting)>,
    drops: Vec<(Decider, Arc<str>)>,
    rejections: Vec<(Decider, Arc<str>)>,
    deeds: Vec<Deed>,
    changes: Vec<Change>,
    /// What is held from now on, and to be written.
    to_keep: Vec<ToKeep>,
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
            && self.emitting.is_empty()
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

    /// Takes the room that effects need, of messages that are about to be where they belong; one for which there is none
    /// is not accepted. Then collects what of the effects is to outlive the process.
    /// Where the store would take nothing, neither they nor messages that it is to have are accepted. Says whether
    /// there is any of both.
    pub(crate) fn admit(&mut self, batch: &mut Batch<'_, '_>, stage: &mut Stage) -> bool {
        self.make_room(batch, stage);
        if !batch.vhost.store.keeps() {
            return false;
        }
        for pending in &mut self.effects {
            let Some(fate) = fate(batch, pending.message) else { continue };
            let before = self.changes.len();
            pending.effects.record(fate, &mut self.changes);
            pending.written = Some(fate).filter(|_| self.changes.len() > before);
        }
        let messages = batch.messages;
        let message = move |index: u32| messages.get(index as usize).map(|publish| &publish.message);
        let store = &*batch.vhost.store;
        let kept_holds = self.holds.iter().filter_map(|(index, holding)| {
            let publish = messages.get(*index as usize)?;
            is_kept(store, &holding.exchange, &publish.message).then_some(*index)
        });
        let mut kept = stage.kept(message).chain(kept_holds).peekable();
        if self.changes.is_empty() && kept.peek().is_none() {
            return false;
        }
        if let Err(failure) = store.admit() {
            let mut lost: Vec<u32> = kept.collect();
            self.changes.clear();
            let written = self.effects.iter().filter(|pending| pending.written.is_some());
            lost.extend(written.map(|pending| pending.message));
            lost.sort_unstable();
            lost.dedup();
            let outcome = Published::Unavailable(Arc::from(failure.to_string()));
            let lost: Vec<_> = lost.into_iter().map(|message| (message, outcome.clone())).collect();
            self.give_up(batch, stage, &lost);
        }
        true
    }

    /// Takes room for what effects emit, and looks whether there is some for what they enqueue.
    fn make_room(&mut self, batch: &mut Batch<'_, '_>, stage: &mut Stage) {
        if !self.effects.is_sorted_by_key(|pending| pending.message) {
            self.effects.sort_by_key(|pending| pending.message);
        }
        let mut lost = Vec::new();
        for of_one in self.effects.chunk_by(|a, b| a.message == b.message) {
            let Some(message) = of_one.first().map(|pending| pending.message) else { continue };
            let Some(fate) = fate(batch, message) else { continue };
            let origin = batch.origin(message);
            let effects = of_one.iter().map(|pending| &*pending.effects);
            match batch.vhost.room_for((origin, fate), effects) {
                Ok(emitting) => self.emitting.extend(emitting.map(|emitting| (message, emitting))),
                // A letter that finds a queue full is gone; it is to come again.
                Err(why) if origin.dead_lettered => lost.push((message, Published::Rejected(why))),
                Err(why) => lost.push((message, Published::Full(why.into()))),
            }
        }
        if !lost.is_empty() {
            self.give_up(batch, stage, &lost);
        }
    }

    /// Takes what was collected.
    pub(crate) fn take_changes(&mut self, each: impl FnOnce(&[Change])) {
        if !self.changes.is_empty() {
            each(&self.changes);
            self.changes.clear();
        }
    }

    /// These messages, in order, go nowhere.
    fn give_up(&mut self, batch: &mut Batch<'_, '_>, stage: &mut Stage, lost: &[(u32, Published)]) {
        let is_lost = |message: &u32| lost.binary_search_by_key(message, |(lost, _)| *lost).is_ok();
        stage.remove(is_lost);
        for (index, holding) in self.holds.extract_if(.., |(message, _)| is_lost(message)) {
            if let Some(publish) = batch.messages.get(index as usize) {
                batch.vhost.later.give_back_room(&publish.message, &holding);
            }
        }
        // Dropped, they are undone.
        self.effects.retain(|pending| !is_lost(&pending.message));
        for (index, instead) in lost {
            if let Some(outcome) = batch.outcomes.get_mut(batch.before + *index as usize) {
                *outcome = instead.clone();
            }
        }
    }

    /// Holds what is to be held.
    pub(crate) fn hold(&mut self, batch: &Batch<'_, '_>) {
        if self.holds.is_empty() {
            return;
        }
        let now_ms = batch.router.now_ms();
        let holds = self.holds.drain(..).filter_map(|(index, holding)| {
            let message = batch.messages.get(index as usize)?.message;
            Some((index, holding, message, batch.origin(index)))
        });
        batch.vhost.later.hold(now_ms, holds, &mut self.to_keep);
    }

    /// Adds what is held from now on to a group.
    pub(crate) fn write_holds(&mut self, batch: &Batch<'_, '_>, group: &mut dyn Group) {
        let holds = self.to_keep.drain(..).filter_map(|held| {
            let message = batch.messages.get(held.message as usize)?.message;
            let origin = batch.origin(held.message);
            Some((held, message, origin))
        });
        batch.vhost.write_holds(holds, group);
    }

    /// Counts drops and rejections, commits the effects of what was accepted, and does what they ask.
    pub(crate) fn settle(&mut self, batch: &mut Batch<'_, '_>) {
        if !self.drops.is_empty() {
            batch.vhost.drops.count(self.drops.drain(..));
        }
        if !self.rejections.is_empty() {
            batch.vhost.rejections.count(self.rejections.drain(..));
        }
        if self.effects.is_empty() && self.emitting.is_empty() {
            return;
        }
        let now_ms = batch.router.now_ms();
        for Pending { message, effects, written } in self.effects.drain(..) {
            let Some(fate) = written.or_else(|| fate(batch, message)) else { continue };
            if let Some(publish) = batch.messages.get(message as usize) {
                effects.commit(fate, &publish.kept(), &mut self.deeds);
                let room = self.emitting.binary_search_by_key(&message, |(of, _)| *of).ok();
                match room.and_then(|place| self.emitting.get_mut(place)) {
                    Some((_, emitting)) => batch.vhost.perform_with(&mut self.deeds, emitting, now_ms),
                    None => batch.vhost.perform(&mut self.deeds, batch.origin(message), now_ms),
                }
            }
        }
        self.emitting.drain(..).for_each(|(_, emitting)| batch.vhost.later.give_back_unused(emitting));
    }
}

/// What becomes of a message of the batch; none where it is not accepted.
fn fate(batch: &Batch<'_, '_>, message: u32) -> Option<Fate> {
    batch.outcomes.get(batch.before + message as usize).and_then(Published::fate)
}
