//! Destinations of decisions, shared: many keys of an exchange lead to few sets of bindings, and
//! many sets of bindings to few sets of queues.
//!
//! An id belongs to one binding for ever, and a binding to one destination. So what is known of ids
//! holds until one of them is gone, which [`RouteSets::forget_bindings`] is told.

use crate::memo::Kept;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use leveret_broker::exchange::{BindingId, Exchange, RouteSet, Targets};
use std::{hash::BuildHasher as _, sync::Arc};

/// How many sets of bindings are kept for an exchange.
const SETS_MAX: usize = 4_096;
/// How many places there are for decisions for few bindings at first. A power of two, as [`SETS_MAX`] is, the most.
const FEW_PLACES_MIN: usize = 16;
/// What the sets of destinations take that are kept for it, in bytes.
const TARGETS_BYTES_MAX: usize = 2 << 20;
/// Sets of more are not kept.
const MEMBERS_KEPT_MAX: usize = 64;
/// What a set takes that has no members, in bytes.
const SET_BYTES: usize = 96;

/// The sets of destinations that decisions of one exchange lead to.
#[derive(Default)]
pub(crate) struct RouteSets {
    by_ids: HashTable<Kept>,
    /// Those for one or two bindings once more, each at a place that follows from the lowest bits of the ids: ids are
    /// given in turn, so few want the same place, and it is found without a hash. [`Kept::Nowhere`] where there is none.
    few: Vec<Kept>,
    by_targets: HashTable<RouteSet>,
    hasher: RandomState,
    /// What the sets take beside the tables, in bytes.
    sets_bytes: usize,
    /// What the sets of destinations take. They are charged with the answers that they came with.
    targets_bytes: usize,
}

/// Where a decision leads.
pub(crate) struct Resolved {
    pub(crate) kept: Kept,
    /// Ids that are not live bindings.
    pub(crate) dead: usize,
    /// What of it was not there before, in bytes.
    pub(crate) new_bytes: usize,
}

impl RouteSets {
    /// Forgets everything, and gives its memory back.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// What is kept, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let few_bytes = size_of::<Kept>() * self.few.capacity();
        self.by_ids.allocation_size() + self.by_targets.allocation_size() + few_bytes + self.sets_bytes
    }

    /// These bindings are gone.
    pub(crate) fn forget_bindings(&mut self, gone: &[BindingId]) {
        let before = self.by_ids.len();
        self.by_ids.retain(|kept| !kept.ids().unwrap_or_default().iter().any(|id| gone.contains(id)));
        if self.by_ids.len() < before {
            self.few.fill(Kept::Nowhere);
            // Else a queue that is gone would be held for as long as its set.
            self.by_targets.clear();
            self.targets_bytes = 0;
            let ids = self.by_ids.iter().map(|kept| kept.ids().map_or(0, |ids| ids.len()));
            self.sets_bytes = ids.map(|ids| 2 * SET_BYTES + 16 * ids).sum();
        }
    }

    /// Where these bindings lead, if there are one or two and that is at hand.
    #[inline]
    pub(crate) fn known(&self, ids: &[BindingId]) -> Option<&RouteSet> {
        match (ids, self.few.get(self.place(ids))?) {
            ([id], Kept::One(there, routes)) if there == id => Some(routes),
            ([a, b], Kept::Two(this, that, routes)) if [*this, *that].map(u64::from) == [a.0, b.0] => {
                Some(routes)
            }
            _ => None,
        }
    }

    /// The place of a decision for few bindings.
    #[inline]
    fn place(&self, ids: &[BindingId]) -> usize {
        let number = match ids {
            [id] => id.0,
            [a, b] => a.0.wrapping_mul(31).wrapping_add(b.0),
            _ => return usize::MAX,
        };
        number as usize & self.few.len().wrapping_sub(1)
    }

    /// Puts a decision at its place, if it is for few. Which was there gives way, once there are twice as many places
    /// as decisions.
    fn put_few(&mut self, kept: &Kept) {
        let (Kept::One(..) | Kept::Two(..), Some(ids)) = (kept, kept.ids()) else { return };
        while !matches!(self.few.get(self.place(&ids)), Some(Kept::Nowhere))
            && self.few.len() < SETS_MAX.min(2 * self.by_ids.len())
        {
            let places = (2 * self.few.len()).max(FEW_PLACES_MIN);
            for kept in std::mem::replace(&mut self.few, vec![Kept::Nowhere; places]) {
                let place = kept.ids().map_or(usize::MAX, |ids| self.place(&ids));
                self.set_few(place, kept);
            }
        }
        self.set_few(self.place(&ids), kept.clone());
    }

    fn set_few(&mut self, place: usize, kept: Kept) {
        if let Some(at) = self.few.get_mut(place) {
            *at = kept;
        }
    }

    /// The destinations of these bindings of the exchange.
    pub(crate) fn resolve(&mut self, exchange: &Exchange, ids: &[BindingId]) -> Resolved {
        if ids.is_empty() {
            return Resolved { kept: Kept::Nowhere, dead: 0, new_bytes: 0 };
        }
        let mut resolved = self.resolve_live(exchange, ids);
        if resolved.dead > 0 {
            // What is kept names no id that a later binding might get.
            let live = exchange.live(ids);
            let dead = resolved.dead;
            resolved = if live.is_empty() {
                Resolved { kept: Kept::Nowhere, dead, new_bytes: 0 }
            } else {
                Resolved { dead, ..self.resolve_live(exchange, &live) }
            };
        }
        resolved
    }

    fn resolve_live(&mut self, exchange: &Exchange, ids: &[BindingId]) -> Resolved {
        if ids.len() > MEMBERS_KEPT_MAX {
            let (routes, dead) = exchange.resolve(&mut ids.iter().copied());
            let (kept, ids_bytes) = Kept::several(ids, routes);
            return Resolved { kept, dead, new_bytes: SET_BYTES + 8 * ids.len() + ids_bytes };
        }
        if let Some(routes) = self.known(ids) {
            let (kept, _) = kept_for(ids, routes.clone());
            return Resolved { kept, dead: 0, new_bytes: 0 };
        }
        let hash = self.hasher.hash_one(ids);
        if let Some(kept) = self.by_ids.find(hash, |kept| kept.ids().as_deref() == Some(ids)) {
            let kept = kept.clone();
            self.put_few(&kept);
            return Resolved { kept, dead: 0, new_bytes: 0 };
        }
        let (routes, dead) = exchange.resolve(&mut ids.iter().copied());
        let (routes, routes_bytes) = self.share(routes);
        let (kept, ids_bytes) = kept_for(ids, routes);
        if dead == 0 {
            if self.by_ids.len() >= SETS_MAX {
                self.by_ids.clear();
                self.few.fill(Kept::Nowhere);
                self.sets_bytes = 0;
            }
            self.sets_bytes += routes_bytes + ids_bytes;
            let hasher = &self.hasher;
            self.by_ids
                .insert_unique(hash, kept.clone(), |kept| hasher.hash_one(&*kept.ids().unwrap_or_default()));
            self.put_few(&kept);
        }
        Resolved { kept, dead, new_bytes: routes_bytes + ids_bytes }
    }

    /// The same destinations, and what of them was not there before, in bytes.
    fn share(&mut self, routes: RouteSet) -> (RouteSet, usize) {
        let targets = routes.targets();
        let members = targets.queues.len() + targets.exchanges.len();
        if members == 0 {
            return (routes, 0);
        }
        let new_bytes = SET_BYTES + 8 * members;
        if members > MEMBERS_KEPT_MAX {
            return (routes, new_bytes);
        }
        let hash = hash_of(&self.hasher, targets);
        if let Some(known) = self.by_targets.find(hash, |known| are_same(known.targets(), targets)) {
            return (known.clone(), 0);
        }
        if self.targets_bytes + new_bytes > TARGETS_BYTES_MAX {
            self.by_targets.clear();
            self.targets_bytes = 0;
        }
        self.targets_bytes += new_bytes;
        let hasher = &self.hasher;
        self.by_targets.insert_unique(hash, routes.clone(), |known| hash_of(hasher, known.targets()));
        (routes, new_bytes)
    }
}

/// What is kept for these bindings, and what that takes but for the routes, in bytes.
fn kept_for(ids: &[BindingId], routes: RouteSet) -> (Kept, usize) {
    match *ids {
        [id] => (Kept::One(id, routes), 0),
        _ => Kept::several(ids, routes),
    }
}

fn addresses(targets: &Targets) -> impl Iterator<Item = usize> {
    let queues = targets.queues.iter().map(|queue| Arc::as_ptr(queue).cast::<()>() as usize);
    queues.chain(targets.exchanges.iter().map(|exchange| Arc::as_ptr(exchange).cast::<()>() as usize))
}

fn are_same(a: &Targets, b: &Targets) -> bool {
    a.queues.len() == b.queues.len() && addresses(a).eq(addresses(b))
}

fn hash_of(hasher: &RandomState, targets: &Targets) -> u64 {
    addresses(targets).fold(0, |hash, address| hasher.hash_one((hash, address)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;
    use leveret_broker::exchange::Destination;
    use leveret_model::Table;

    /// An exchange with so many bindings, each to a queue of its own, and their ids.
    fn bound(count: usize) -> (World, Arc<Exchange>, Vec<BindingId>) {
        let mut world = World::empty(1);
        world.declare_with(0, "x", "direct", Table::new()).unwrap();
        (0..count).for_each(|number| world.bind(0, "x", &format!("k{number}")).unwrap());
        let exchange = world.exchange("x");
        let mut ids: Vec<BindingId> = exchange.all_bindings().1.iter().map(|binding| binding.id).collect();
        ids.sort();
        (world, exchange, ids)
    }

    /// Whether these lead to the queues of those bindings and to nothing else.
    fn lead_to(routes: Option<&RouteSet>, exchange: &Exchange, ids: &[BindingId]) -> bool {
        let queue_of = |id: &BindingId| match exchange.destination(*id) {
            Some(Destination::Queue(queue)) => Arc::as_ptr(&queue),
            _ => std::ptr::null(),
        };
        routes.is_some_and(|routes| {
            let targets = routes.targets();
            targets.exchanges.is_empty()
                && targets.queues.iter().map(Arc::as_ptr).eq(ids.iter().map(queue_of))
        })
    }

    #[test]
    fn where_one_or_two_bindings_lead_is_at_hand_until_one_is_gone() {
        let (_world, exchange, ids) = bound(200);
        let mut sets = RouteSets::default();
        let singles = || ids.chunks(1);
        let pairs = || ids.windows(2);
        assert!(sets.known(&ids[..1]).is_none());
        for few in singles().chain(pairs()) {
            assert_eq!(sets.resolve(&exchange, few).dead, 0);
            assert!(lead_to(sets.known(few), &exchange, few), "{few:?}");
        }
        assert!(sets.few.len() <= 4 * sets.by_ids.len(), "{} places", sets.few.len());
        assert!(sets.bytes() > sets.few.len() * size_of::<Kept>(), "their places are charged");
        let known = singles().chain(pairs()).filter(|few| sets.known(few).is_some());
        assert!(known.clone().count() > ids.len(), "most have places of their own");
        assert!(known.clone().all(|few| lead_to(sets.known(few), &exchange, few)));

        assert!(sets.known(&[]).is_none() && sets.known(&ids[..3]).is_none());
        let not_there = [BindingId(ids[199].0 + 1)];
        assert!(sets.known(&not_there).is_none(), "another one at a place that is taken");
        assert_eq!(sets.resolve(&exchange, &not_there).dead, 1);
        assert!(sets.known(&not_there).is_none());

        let (gone, left) = ids.split_at(100);
        sets.forget_bindings(gone);
        let with_gone = singles().chain(pairs()).filter(|few| few.iter().any(|id| gone.contains(id)));
        assert!(with_gone.clone().all(|few| sets.known(few).is_none()));
        for few in left.chunks(1).chain(left.windows(2)) {
            sets.resolve(&exchange, few);
            assert!(lead_to(sets.known(few), &exchange, few));
        }
    }

    #[test]
    fn of_two_at_one_place_each_is_found_when_it_is_asked_for() {
        let (_world, exchange, ids) = bound(FEW_PLACES_MIN + 1);
        let (one, other) = (&ids[..1], &ids[FEW_PLACES_MIN..]);
        assert_eq!(one[0].0 + FEW_PLACES_MIN as u64, other[0].0);
        let mut sets = RouteSets::default();
        for few in [one, other, one, other] {
            sets.resolve(&exchange, few);
            assert!(lead_to(sets.known(few), &exchange, few));
        }
        assert_eq!(sets.few.len(), FEW_PLACES_MIN, "two need no more places");
    }
}
