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
        self.by_ids.allocation_size() + self.by_targets.allocation_size() + self.sets_bytes
    }

    /// These bindings are gone.
    pub(crate) fn forget_bindings(&mut self, gone: &[BindingId]) {
        let before = self.by_ids.len();
        self.by_ids.retain(|kept| !kept.ids().unwrap_or_default().iter().any(|id| gone.contains(id)));
        if self.by_ids.len() < before {
            // Else a queue that is gone would be held for as long as its set.
            self.by_targets.clear();
            self.targets_bytes = 0;
            let ids = self.by_ids.iter().map(|kept| kept.ids().map_or(0, |ids| ids.len()));
            self.sets_bytes = ids.map(|ids| 2 * SET_BYTES + 16 * ids).sum();
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
        let hash = self.hasher.hash_one(ids);
        if let Some(kept) = self.by_ids.find(hash, |kept| kept.ids().as_deref() == Some(ids)) {
            return Resolved { kept: kept.clone(), dead: 0, new_bytes: 0 };
        }
        let (routes, dead) = exchange.resolve(&mut ids.iter().copied());
        let (routes, routes_bytes) = self.share(routes);
        let (kept, ids_bytes) = match *ids {
            [id] => (Kept::One(id, routes), 0),
            _ => Kept::several(ids, routes),
        };
        if dead == 0 {
            if self.by_ids.len() >= SETS_MAX {
                self.by_ids.clear();
                self.sets_bytes = 0;
            }
            self.sets_bytes += routes_bytes + ids_bytes;
            let hasher = &self.hasher;
            self.by_ids
                .insert_unique(hash, kept.clone(), |kept| hasher.hash_one(&*kept.ids().unwrap_or_default()));
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
