//! Messages that may be what ends the process.
//!
//! Where processes ended uncleanly several times in a row the store wants to know of each message from before the start, as
//! long as it says so, that it is about to be handed out ([`Store::handing_out`]), and when what was handed out has gone
//! ([`Store::handed_out`]): what lies between is this broker's work alone, whoever gets the message. What was in hand when a
//! process ended is a suspect of the next one. Of a suspect the store says which of two ways it goes ([`Suspicion`]):
//!
//! - *alone*: in a burst of its own. If the process ends again, it was this one.
//! - *set aside*: it is given to nobody. It dies, if what dies has somewhere to go; else it stays in its queue, as if
//!   somebody had it, until the queue is purged or deleted.
//!
//! A queue without suspects, which is about every queue, has nothing of this.
//!
//! [`Store::handing_out`]: crate::store::Store::handing_out
//! [`Store::handed_out`]: crate::store::Store::handed_out

use super::{Queue, slab::MessageRef, state::State};
use crate::{Vhost, dead_letter::DeathReason, store::Suspicion};
use alloc::{boxed::Box, sync::Arc, vec::Vec};
use hashbrown::HashSet;

/// A message by its lane and number.
type Place = (u16, u64);
type Places = HashSet<Place, foldhash::fast::RandomState>;

fn place(message: MessageRef) -> Place {
    (message.lane, message.sequence)
}

/// What a queue knows of suspects among its messages.
#[derive(Default)]
pub(super) struct Suspects {
    /// The store is told what is handed out.
    tells: bool,
    alone: Places,
    aside: Places,
    /// Those of `aside` that had their turn.
    parked: Vec<MessageRef>,
}

impl Suspects {
    fn note(&mut self, lane: u16, suspicion: Suspicion) {
        self.tells |= suspicion.tells;
        self.alone.extend(suspicion.alone.into_iter().map(|number| (lane, number)));
        self.aside.extend(suspicion.aside.into_iter().map(|number| (lane, number)));
    }

    /// Whether messages are to be looked at one by one.
    pub(super) fn looks(&self) -> bool {
        self.tells || !self.alone.is_empty() || !self.aside.is_empty()
    }

    pub(super) fn tells(&self) -> bool {
        self.tells
    }

    pub(super) fn is_alone(&self, message: MessageRef) -> bool {
        self.alone.contains(&place(message))
    }

    pub(super) fn is_aside(&self, message: MessageRef) -> bool {
        self.aside.contains(&place(message))
    }

    fn end(&mut self) {
        self.tells = false;
        self.alone.clear();
    }
}

impl State {
    /// Asks the store about what it has from before.
    pub(super) fn recover_suspects(&mut self) {
        for at in self.lanes.places() {
            let keeping = self.lanes.lane(at).keeping.as_ref();
            if let Some(suspicion) = keeping.and_then(|keeping| keeping.store.suspicion(keeping.id)) {
                self.tries.suspects.get_or_insert_default().note(at, suspicion);
            }
        }
    }

    /// What this thread handed out before has gone.
    #[inline]
    pub(super) fn tell_handed_out(&self) {
        if self.tries.tells() {
            self.tell_gone();
        }
    }

    #[cold]
    fn tell_gone(&self) {
        if let Some(keeping) = &self.lanes.lane(0).keeping {
            keeping.store.handed_out();
        }
    }

    /// A message is about to be handed out.
    #[cold]
    pub(super) fn tell_handing_out(&self, message: MessageRef) {
        if let Some(stored) = self.lanes.stored(message)
            && stored.kept
            && stored.redelivered
            && let Some(keeping) = &self.lanes.lane(message.lane).keeping
        {
            keeping.store.handing_out(keeping.id, message.sequence);
        }
    }

    /// Whether a message that was taken is not to be given to anybody; then it is seen to.
    #[inline]
    pub(super) fn is_unfit(&mut self, message: MessageRef, now_ms: u64) -> bool {
        (self.ageing.has_timed || self.tries.has_any()) && self.is_found_unfit(message, now_ms)
    }

    #[inline(never)]
    fn is_found_unfit(&mut self, message: MessageRef, now_ms: u64) -> bool {
        let reason = if self.is_expired(message, now_ms) {
            DeathReason::Expired
        } else if self.tries.is_worn_out(message, self.has_letters) {
            DeathReason::DeliveryLimit
        } else {
            return self.is_set_aside(message);
        };
        self.die(message, reason);
        true
    }

    fn is_set_aside(&mut self, message: MessageRef) -> bool {
        let Some(suspects) = self.tries.suspects.as_mut().filter(|suspects| suspects.is_aside(message))
        else {
            return false;
        };
        if self.has_letters {
            self.die(message, DeathReason::DeliveryLimit);
        } else {
            suspects.aside.remove(&place(message));
            suspects.parked.push(message);
        }
        true
    }

    /// Forgets those that were set aside and had their turn. Gives how many.
    pub(super) fn purge_suspects(&mut self) -> usize {
        let parked = self.tries.suspects.as_mut().map(|suspects| core::mem::take(&mut suspects.parked));
        let parked = parked.unwrap_or_default();
        parked.iter().for_each(|message| self.forget(*message));
        parked.len()
    }
}

impl Queue {
    /// The process has lived long enough: suspects go on as others do, but for those that were set aside.
    fn end_suspicion(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if let Some(suspects) = &mut state.tries.suspects {
            suspects.end();
        }
    }
}

/// What [`super::tries::Tries`] has of it.
pub(super) type Suspected = Option<Box<Suspects>>;

impl Vhost {
    /// The process has lived long enough: what is in its queues is not suspected of ending it any more, but for what was set
    /// aside.
    pub fn end_suspicion(&self) {
        self.queues().iter().for_each(Queue::end_suspicion);
    }
}
