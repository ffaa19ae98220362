//! The housekeeper's part: taking out what is due, publishing it, and putting back what was not
//! taken.

use super::{
    Bell, EMISSION_TRIES_MAX, Emission, Held, Later, Loss, Part, Place, RELEASE_TRIES_MAX, Taken, Why,
    keeping::Release,
    stuck::{Answering, answering},
};
use crate::{
    dead_letter::DeadLetters,
    origin::Origin,
    port::{HoldId, Router, Wake},
    publish::{NoRoom, Publish, Published, Publisher},
    relief::Relief,
    store::Ranges,
    vhost::Vhost,
};
use alloc::{boxed::Box, string::ToString, sync::Arc, vec::Vec};
use core::{mem, sync::atomic::Ordering};
use leveret_model::{MoreKeys, Name, OwnedMessage};

/// How many messages are published in one go at most.
const BATCH_MAX: usize = 256;
/// How many are at first: it is doubled while they are quick, and halved where they took long.
const BATCH_FIRST: usize = 32;
/// What takes so long is long, in milliseconds.
const LONG_MS: u64 = 3;
/// Why an emitted message was given up that waited for an answer.
const NOT_ANSWERED: &str = "the exchange's type did not answer";

/// What a run leaves.
#[derive(Debug, Default)]
pub struct Ran {
    /// There is more to do at once, by [`Vhost::run_later`] again.
    pub more: bool,
    /// When to come again, whatever [`Vhost::next_due_ms`] says: memory is short, and there may be more to let go.
    pub again_ms: Option<u64>,
    /// What was lost since the last run.
    pub losses: Vec<Loss>,
}

/// What a housekeeper has in hand: scratch, and letters that it is to send on.
pub struct Housekeeping {
    publisher: Publisher,
    letters: DeadLetters,
    relief: Relief,
    /// How many messages to publish in one go.
    batch: usize,
}

impl Default for Housekeeping {
    fn default() -> Self {
        let (publisher, letters) = (Publisher::default(), DeadLetters::default());
        Self { publisher, letters, relief: Relief::default(), batch: BATCH_FIRST }
    }
}

impl Housekeeping {
    /// What was published in one go began and ended then.
    fn took(&mut self, began_ms: u64, ended_ms: u64) {
        self.batch = match ended_ms.saturating_sub(began_ms) {
            0 => (self.batch * 2).min(BATCH_MAX),
            1..LONG_MS => self.batch,
            _ => (self.batch / 2).max(1),
        };
    }
}

impl Vhost {
    /// Does a bounded piece of what is due of messages: publishes those that were emitted, lets those go on
    /// that were held. By one housekeeper at a time, else what it does is in no order.
    pub fn run_later(self: &Arc<Self>, router: &mut dyn Router, hand: &mut Housekeeping) -> Ran {
        let now_ms = router.now_ms();
        if self.later.bell.answered.swap(false, Ordering::AcqRel) {
            let mut state = self.later.state.lock();
            state.holds.unblock_waiting();
            state.timers.unblock_waiting();
            state.outbox.unblock_waiting();
        }
        self.later.unstick(now_ms, router);
        self.run_deaths(now_ms, router, &mut hand.letters);
        let began_ms = router.now_ms();
        self.emit_some(now_ms, router, hand);
        self.release_some(now_ms, router, hand);
        hand.took(began_ms, router.now_ms());
        let again_ms = self.relieve_some(now_ms, &mut hand.relief);
        let losses = mem::take(&mut self.later.state.lock().losses);
        let mut due_ms = self.next_message_ms().into_iter().chain(again_ms);
        Ran { more: due_ms.any(|due_ms| due_ms <= now_ms), again_ms, losses }
    }

    fn emit_some(self: &Arc<Self>, now_ms: u64, router: &mut dyn Router, hand: &mut Housekeeping) {
        let Some(taken) = self.later.take_emitted(now_ms, hand.batch) else { return };
        let Some(exchange) = self.exchange(&taken.lane) else {
            self.later.not_emitted(&taken);
            return;
        };
        let keys = keys_of(taken.things.iter().map(|(_, emission)| &emission.message));
        let messages = taken.things.iter().map(|(_, emission)| &emission.message);
        let batch = batch_of(messages, &keys);
        let mut origins: Vec<Origin> = taken.things.iter().map(|(_, emission)| emission.origin).collect();
        let (mut outcomes, waker) = (Vec::with_capacity(batch.len()), self.later.waker());
        hand.publisher.publish_emitted(
            self,
            router,
            &exchange,
            (&batch, &mut origins),
            &mut outcomes,
            &waker,
        );
        self.later.emitted(now_ms, taken, &outcomes);
    }

    fn release_some(self: &Arc<Self>, now_ms: u64, router: &mut dyn Router, hand: &mut Housekeeping) {
        let Some(taken) = self.later.take_holds(now_ms, hand.batch) else { return };
        let Some(exchange) = taken.things.first().map(|(_, held)| held.exchange.clone()) else {
            return;
        };
        let keys = keys_of(taken.things.iter().map(|(_, held)| &held.message));
        let batch = batch_of(taken.things.iter().map(|(_, held)| &held.message), &keys);
        let mut release = Release { keeping: &self.later.keeping, things: &taken.things, dealt: 0 };
        let (mut outcomes, waker) = (Vec::with_capacity(batch.len()), self.later.waker());
        let to = (&exchange, taken.lane.1);
        // Before they are asked: what changes meanwhile may answer otherwise.
        let answering = answering(&exchange, router);
        hand.publisher.publish_own(self, router, to, (&batch, &mut release), &mut outcomes, &waker);
        self.later.released(now_ms, taken, &outcomes, answering);
    }
}

/// The further routing keys of messages. Where they make no sense, it is as if there were none.
fn keys_of<'a>(messages: impl Iterator<Item = &'a OwnedMessage>) -> Vec<Option<Box<MoreKeys>>> {
    messages.map(|message| message.view().more_keys().unwrap_or_default()).collect()
}

fn batch_of<'a>(
    messages: impl Iterator<Item = &'a OwnedMessage>,
    keys: &'a [Option<Box<MoreKeys>>],
) -> Vec<Publish<'a>> {
    let publish = |(message, keys): (&'a OwnedMessage, &'a Option<Box<MoreKeys>>)| Publish {
        channel: 0,
        message: message.view(),
        mandatory: false,
        more_keys: keys.as_deref(),
    };
    messages.zip(keys).map(publish).collect()
}

impl Later {
    /// What the router calls when it can answer what was pending.
    pub(crate) fn waker(&self) -> Arc<dyn Wake> {
        let bell: Arc<Bell> = self.bell.clone();
        bell
    }

    /// Takes out what is to be published now. What it leads to may have its room.
    fn take_emitted(&self, now_ms: u64, max: usize) -> Option<Taken<Name, Emission>> {
        let taken = self.state.lock().outbox.take(now_ms, max)?;
        for (_, Emission { plugin, message, .. }) in &taken.things {
            self.outbox.give_back(plugin, Part::of(message.len_bytes()));
        }
        Some(taken)
    }

    fn take_holds(&self, now_ms: u64, max: usize) -> Option<Taken<Place, Held>> {
        let mut state = self.state.lock();
        let taken = state.holds.take(now_ms, max)?;
        for (at, _) in &taken.things {
            state.held_at.remove(&HoldId(at.1));
        }
        Some(taken)
    }

    /// Has those tried again that are set aside and may be answered otherwise now.
    fn unstick(&self, now_ms: u64, router: &dyn Router) {
        let mut state = self.state.lock();
        for (place, at, held) in state.stuck.take_changed((now_ms, self.look_every_ms()), router) {
            let at = (now_ms, at.1);
            state.lost(Why::HoldAgain, &held.exchange.spec.name, 1);
            state.held_at.insert(HoldId(at.1), (place, at));
            state.holds.insert(place, at, held);
        }
    }

    /// Puts back what did not go on. Fewer outcomes than messages: the rest was not answered.
    fn released(&self, now_ms: u64, taken: Taken<Place, Held>, outcomes: &[Published], answering: Answering) {
        let (place, tries) = (taken.lane, taken.tries + 1);
        let mut blocked = None;
        let mut state = self.state.lock();
        let mut outcomes = outcomes.iter();
        for (mut at, mut held) in taken.things {
            let outcome = outcomes.next();
            match outcome {
                Some(Published::Routed) => state.counters.released += 1,
                Some(Published::Dropped) => state.counters.released_dropped += 1,
                Some(Published::Unroutable) => state.counters.released_unroutable += 1,
                Some(Published::Rejected(why)) => {
                    held.tries += 1;
                    if held.tries >= RELEASE_TRIES_MAX && !held.exchange.is_deleted() {
                        state.lost(Why::HoldStuck(why.clone()), &held.exchange.spec.name, 1);
                        state.held_at.insert(HoldId(at.1), (place, at));
                        let look_ms = now_ms.saturating_add(self.look_every_ms());
                        state.stuck.keep((look_ms, place, at), held, why.clone(), answering);
                        continue;
                    }
                    at.0 = now_ms.saturating_add(self.retry_after_ms(held.tries));
                }
                Some(Published::Full(_)) => {
                    // As often as it takes: its queue may have room whatever the exchange says.
                    held.tries = held.tries.saturating_add(1);
                    at.0 = now_ms.saturating_add(self.retry_after_ms(held.tries));
                }
                Some(Published::Unavailable(_) | Published::Refused(_)) => blocked = Some(false),
                None => blocked = blocked.or(Some(true)),
            }
            let gone = match outcome {
                Some(
                    Published::Rejected(_)
                    | Published::Unavailable(_)
                    | Published::Full(_)
                    | Published::Refused(_),
                )
                | None => {
                    state.counters.release_retries += 1;
                    let gone = state.keep(place, at, held);
                    if gone.as_ref().is_some_and(|held| held.kept) {
                        self.keeping.settle(&[Ranges { first: at.1, count: 1 }]);
                    }
                    gone
                }
                Some(_) => Some(held),
            };
            if let Some(held) = gone {
                self.let_go(&held);
            }
        }
        match blocked {
            Some(waits) => {
                state.holds.block(place, now_ms.saturating_add(self.retry_after_ms(tries)), tries, waits);
            }
            None => state.holds.unblock(place),
        }
    }

    /// The exchange to emit to is not there.
    fn not_emitted(&self, taken: &Taken<Name, Emission>) {
        self.state.lock().lost(Why::NoExchange, &taken.lane, taken.things.len() as u64);
    }

    /// Puts back what was not accepted, unless it was tried often enough.
    fn emitted(&self, now_ms: u64, taken: Taken<Name, Emission>, outcomes: &[Published]) {
        let (exchange, tries) = (taken.lane, taken.tries + 1);
        let mut blocked = None;
        let mut state = self.state.lock();
        let mut outcomes = outcomes.iter();
        for (mut at, mut emission) in taken.things {
            let reason: Arc<str> = match outcomes.next() {
                Some(outcome @ (Published::Routed | Published::Dropped | Published::Unroutable)) => {
                    *match outcome {
                        Published::Routed => &mut state.counters.emitted,
                        Published::Dropped => &mut state.counters.emitted_dropped,
                        _ => &mut state.counters.emitted_unroutable,
                    } += 1;
                    continue;
                }
                Some(Published::Rejected(reason) | Published::Full(NoRoom { why: reason, .. })) => {
                    emission.tries += 1;
                    emission.waits = false;
                    at.0 = now_ms.saturating_add(self.retry_after_ms(emission.tries));
                    reason.clone()
                }
                Some(Published::Unavailable(reason)) => {
                    emission.tries += 1;
                    emission.waits = false;
                    blocked = Some(false);
                    reason.clone()
                }
                Some(Published::Refused(refusal)) => {
                    emission.tries += 1;
                    emission.waits = false;
                    blocked = Some(false);
                    Arc::from(refusal.to_string())
                }
                None => {
                    // Only the first was asked about. That its answer comes later is no try, nor is a wake:
                    // only that it did not come in time.
                    let was_asked = blocked.is_none();
                    emission.tries += u32::from(was_asked && !taken.woken && emission.waits);
                    emission.waits |= was_asked;
                    blocked = blocked.or(Some(true));
                    Arc::from(NOT_ANSWERED)
                }
            };
            if emission.tries >= EMISSION_TRIES_MAX {
                state.lost(Why::NotAccepted(reason), &exchange, 1);
            } else {
                state.counters.emission_retries += 1;
                self.outbox.take_anyway(&emission.plugin, Part::of(emission.message.len_bytes()));
                state.outbox.insert(exchange.clone(), at, emission);
            }
        }
        match blocked {
            Some(waits) => {
                state.outbox.block(exchange, now_ms.saturating_add(self.retry_after_ms(tries)), tries, waits);
            }
            None => state.outbox.unblock(exchange),
        }
    }
}
