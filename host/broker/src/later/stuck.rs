//! Held messages that their exchange refused too often: they stay, are listed and can be cancelled, and
//! nobody is asked about them until something has changed that may have been the reason.
//!
//! *Invariant:* a lane is there while something is in it. It has the oldest state of what answers that
//! something in it was refused by.

use super::{At, Held, Place};
use crate::{exchange::Exchange, port::Router};
use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
use core::ops::RangeInclusive;

/// How often it is looked at whether something has changed, in milliseconds, where nothing is to be tried more
/// often.
pub(super) const LOOK_EVERY_MS: u64 = 30_000;

/// What an exchange's answers follow from: its bindings and arguments, and the code that answers in its
/// virtual host.
pub(super) type Answering = (u64, u64);

pub(super) fn answering(exchange: &Exchange, router: &dyn Router) -> Answering {
    (exchange.own_generation(), router.plugins_generation(&exchange.vhost))
}

#[derive(Default)]
pub(super) struct Stuck {
    lanes: BTreeMap<Place, Lane>,
    /// When to look next.
    look_ms: u64,
}

struct Lane {
    answering: Answering,
    things: BTreeMap<At, Held>,
}

impl Stuck {
    /// When to look whether something has changed.
    pub(super) fn look_ms(&self) -> Option<u64> {
        (!self.lanes.is_empty()).then_some(self.look_ms)
    }

    /// Sets a message aside. With when to look, if it is the first.
    pub(super) fn keep(
        &mut self,
        (look_ms, place, at): (u64, Place, At),
        mut held: Held,
        why: Arc<str>,
        answering: Answering,
    ) {
        if self.lanes.is_empty() {
            self.look_ms = look_ms;
        }
        held.stuck = Some(why);
        let lane = self.lanes.entry(place).or_insert_with(|| Lane { answering, things: BTreeMap::new() });
        lane.things.insert(at, held);
    }

    pub(super) fn remove(&mut self, place: &Place, at: At) -> Option<Held> {
        let lane = self.lanes.get_mut(place)?;
        let held = lane.things.remove(&at);
        if lane.things.is_empty() {
            self.lanes.remove(place);
        }
        held
    }

    pub(super) fn lanes(
        &self,
        range: RangeInclusive<Place>,
    ) -> impl Iterator<Item = (&Place, &BTreeMap<At, Held>)> {
        self.lanes.range(range).map(|(place, lane)| (place, &lane.things))
    }

    /// What is set aside of a place.
    pub(super) fn things_mut(&mut self, place: &Place) -> impl Iterator<Item = &mut Held> {
        self.lanes.get_mut(place).into_iter().flat_map(|lane| lane.things.values_mut())
    }

    pub(super) fn remove_all(&mut self, range: RangeInclusive<Place>) -> Vec<(At, Held)> {
        let places: Vec<Place> = self.lanes.range(range).map(|(place, _)| *place).collect();
        let lanes = places.iter().filter_map(|place| self.lanes.remove(place));
        lanes.flat_map(|lane| lane.things).collect()
    }

    /// Takes out what may be answered otherwise now, as if it had not been tried.
    pub(super) fn take_changed(
        &mut self,
        (now_ms, look_every_ms): (u64, u64),
        router: &dyn Router,
    ) -> Vec<(Place, At, Held)> {
        // A clock that was set back must not keep them waiting.
        let due = now_ms >= self.look_ms || self.look_ms > now_ms.saturating_add(look_every_ms);
        if self.lanes.is_empty() || !due {
            return Vec::new();
        }
        self.look_ms = now_ms.saturating_add(look_every_ms);
        let changed = |lane: &Lane| {
            let exchange = lane.things.values().next().map(|held| &held.exchange);
            exchange.is_none_or(|exchange| answering(exchange, router) != lane.answering)
        };
        let places: Vec<Place> =
            self.lanes.iter().filter(|(_, lane)| changed(lane)).map(|(place, _)| *place).collect();
        let mut taken = Vec::new();
        for place in places {
            for (at, held) in self.lanes.remove(&place).into_iter().flat_map(|lane| lane.things) {
                taken.push((place, at, Held { tries: 0, stuck: None, ..held }));
            }
        }
        taken
    }
}
