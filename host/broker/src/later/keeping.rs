//! Held messages that outlive the process: persistent ones, held by durable exchanges.
//!
//! They are what is like a queue of the virtual host's, a message under its number. One is written in the group of the
//! batch in which it came, and is gone by the group in which it goes on; so no crash loses it or lets it go on twice
//! once that is safe. After a start it is held again, whatever the limits are, and counts against those of the virtual host
//! and of the plugin that decides for its exchange now, as soon as there is one.

use super::{Held, HoldQuota, Later, Place, emitting::emissions_max_after_start};
use crate::{
    exchange::Exchange,
    far,
    origin::{Origin, Sender},
    port::{HoldId, Layer, Router},
    publish::Published,
    receipt::Receipt,
    store::{Group, HeldAs, KeptId, Ranges, Store, Stored, Target, Topology, TopologyChange},
    vhost::Vhost,
};
use alloc::{sync::Arc, vec::Vec};
use leveret_model::MessageView;
use std::sync::OnceLock;

/// How many bytes are read in one go.
const READ_BYTES: usize = 1024 * 1024;

/// Where held messages are kept.
pub(super) struct Keeping {
    pub(super) store: Arc<dyn Store>,
    /// Made with the first message.
    id: OnceLock<KeptId>,
}

/// A message that is held from now on, and to be written.
pub(crate) struct ToKeep {
    /// Its place in the batch.
    pub(crate) message: u32,
    pub(super) exchange: Arc<Exchange>,
    pub(super) resume: Layer,
    pub(super) due_ms: u64,
    pub(super) number: u64,
}

impl Keeping {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, id: OnceLock::new() }
    }

    /// Tells the store of messages that are held no longer.
    pub(super) fn settle(&self, ranges: &[Ranges]) {
        if let Some(id) = self.id.get()
            && !ranges.is_empty()
        {
            self.store.settled(*id, ranges);
        }
    }

    /// The same, with the receipt.
    pub(super) fn settle_kept(&self, ranges: &[Ranges]) -> Receipt {
        let id = self.id.get();
        let settle = |id: &KeptId| {
            let settled: Vec<_> = ranges.iter().map(|range| (*id, *range)).collect();
            Receipt::for_settled(&*self.store, self.store.durability(), &settled)
        };
        id.map(settle).unwrap_or_default()
    }

    /// Adds to a group that a message is held.
    fn write(
        &self,
        vhost: &Vhost,
        held: &ToKeep,
        message: &MessageView<'_>,
        origin: Origin,
        group: &mut dyn Group,
    ) {
        let id = *self.id.get_or_init(|| {
            // The store has it before anybody else finds its number.
            let (id, mut own) = (self.store.next_id(), self.store.group());
            own.topology(vhost.name(), TopologyChange::Declared(Topology::Holds(id)));
            own.submit(self.store.durability(), None);
            id
        });
        let ToKeep { exchange, resume, due_ms, number, .. } = held;
        let name = &exchange.spec.name;
        let held = HeldAs { due_ms: *due_ms, exchange: name, resume: *resume, hops: origin.hops };
        group.hold(message, origin.dead_lettered, held, Target { queue: id, sequence: *number });
    }
}

/// Whether what an exchange holds of a message is to outlive the process.
pub(crate) fn is_kept(store: &dyn Store, exchange: &Exchange, message: &MessageView<'_>) -> bool {
    exchange.spec.durable && store.keeps() && message.is_persistent()
}

impl Vhost {
    /// Adds to a group that messages of a batch are held.
    pub(crate) fn write_holds<'a>(
        &self,
        holds: impl Iterator<Item = (ToKeep, MessageView<'a>, Origin)>,
        group: &mut dyn Group,
    ) {
        holds.for_each(|(held, message, origin)| {
            self.later.keeping.write(self, &held, &message, origin, group);
        });
    }

    /// Holds again what the store has. Gives how many messages, and how many are of exchanges that are not there: those
    /// are let go.
    pub(crate) fn hold_again(&self, id: KeptId, router: &mut dyn Router) -> (u64, u64) {
        let later = &self.later;
        let _ = later.keeping.id.set(id);
        let store = &later.keeping.store;
        let kept = store.kept(id);
        let (mut again, mut lost, mut next) = (0, Vec::new(), Some(kept.first));
        while let Some(from) = next {
            let mut found = Vec::new();
            next = store.read(id, from, READ_BYTES, &mut |stored: Stored<'_>| {
                let (Some(message), Some(held)) = (&stored.message, &stored.held) else { return };
                let Some(exchange) = self.exchange(held.exchange) else {
                    return Ranges::push(&mut lost, stored.sequence);
                };
                let emissions_max = emissions_max_after_start(held.hops);
                let dead_lettered = stored.dead_lettered;
                let origin = Origin { hops: held.hops, dead_lettered, emissions_max, ..Origin::default() };
                let message = far::copy(message, &**store);
                let (place, at) = ((exchange.id, held.resume), (held.due_ms, stored.sequence));
                let due_ms = held.due_ms;
                let (quota, tries, stuck) = (None, 0, None);
                found.push((
                    place,
                    at,
                    Held { exchange, quota, message, due_ms, origin, tries, stuck, kept: true },
                ));
            });
            again += found.len() as u64;
            later.take_back(found);
        }
        later.change(|state| state.last_number = state.last_number.max(kept.next));
        later.keeping.settle(&lost);
        later.charge_uncharged(router);
        (again, lost.iter().map(|range| u64::from(range.count)).sum())
    }
}

impl Exchange {
    /// Charges what it held before a start to whoever decides at that layer now, unless that is done. Does nothing
    /// where nothing is left to be charged.
    pub fn charge_held(&self, layer: Layer, quota: &Arc<HoldQuota>) {
        if let Some(later) = self.later.upgrade() {
            later.charge_held((self.id, Layer(layer.0.saturating_add(1))), quota);
        }
    }
}

impl Later {
    fn charge_uncharged(&self, router: &mut dyn Router) {
        let uncharged: Vec<_> =
            self.state.lock().uncharged.iter().map(|(place, it)| (*place, it.clone())).collect();
        for (place, exchange) in uncharged {
            if let Some(quota) = router.hold_quota(&exchange, place.1) {
                self.charge_held(place, &quota);
            }
        }
    }

    fn charge_held(&self, place: Place, quota: &Arc<HoldQuota>) {
        let mut state = self.state.lock();
        if state.uncharged.remove(&place).is_none() {
            return;
        }
        let state = &mut *state;
        for held in state.holds.things_mut(&place).chain(state.stuck.things_mut(&place)) {
            if held.quota.is_none() {
                quota.take_anyway(&held.message.view());
                held.quota = Some(quota.clone());
            }
        }
    }

    /// Holds messages again, whatever the limits are now.
    fn take_back(&self, found: Vec<(Place, (u64, u64), Held)>) {
        found.iter().for_each(|(_, _, held)| self.held.take_anyway(&held.message.view()));
        self.change(|state| {
            for (place, at, held) in found {
                state.uncharged.entry(place).or_insert_with(|| held.exchange.clone());
                state.held_at.insert(HoldId(at.1), (place, at));
                state.holds.insert(place, at, held);
            }
        });
    }
}

/// The housekeeper with messages that were held.
pub(super) struct Release<'a> {
    pub(super) keeping: &'a Keeping,
    pub(super) things: &'a [((u64, u64), Held)],
    /// How many are dealt with.
    pub(super) dealt: usize,
}

impl Sender for Release<'_> {
    fn origin(&self, message: u32) -> Origin {
        self.things.get(message as usize).map_or_else(Origin::default, |(_, held)| held.origin)
    }

    /// What goes on is held no longer, by the same group.
    fn placed(&mut self, outcomes: &[Published], group: Option<&mut dyn Group>) {
        let mut gone = Vec::new();
        let things = self.things.iter().zip(outcomes).skip(self.dealt);
        for ((at, held), outcome) in things {
            let goes = matches!(outcome, Published::Routed | Published::Dropped | Published::Unroutable);
            if goes && held.kept {
                Ranges::push(&mut gone, at.1);
            }
        }
        self.dealt = outcomes.len();
        match (group, self.keeping.id.get()) {
            (Some(group), Some(id)) if !gone.is_empty() => group.settle(*id, &gone),
            _ => self.keeping.settle(&gone),
        }
    }
}
