//! Destinations of decisions, shared: many keys of an exchange lead to few sets of destinations.

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use leveret_broker::exchange::{BindingId, Exchange, Generation, RouteSet};
use std::hash::BuildHasher as _;

/// How many sets are kept for an exchange.
const SETS_MAX: usize = 4_096;
/// Sets of more ids are not kept.
const IDS_KEPT_MAX: usize = 64;
/// What a set takes that has no destinations, in bytes.
const SET_BYTES: usize = 96;

/// The sets of destinations that decisions of one generation of an exchange lead to.
#[derive(Default)]
pub(crate) struct RouteSets {
    generation: Generation,
    table: HashTable<Set>,
    hasher: RandomState,
}

struct Set {
    ids: Box<[BindingId]>,
    routes: RouteSet,
}

/// Where a decision leads.
pub(crate) struct Resolved {
    pub(crate) routes: RouteSet,
    /// Ids that are not live bindings.
    pub(crate) dead: usize,
    /// What the set takes that was not there before, in bytes.
    pub(crate) new_bytes: usize,
}

impl RouteSets {
    /// From now on the sets are those of this generation.
    pub(crate) fn at_generation(&mut self, generation: Generation) {
        if self.generation != generation {
            self.table.clear();
            self.generation = generation;
        }
    }

    /// The destinations of these bindings of the exchange.
    pub(crate) fn resolve(&mut self, exchange: &Exchange, ids: &[BindingId]) -> Resolved {
        if ids.is_empty() {
            return Resolved { routes: RouteSet::default(), dead: 0, new_bytes: 0 };
        }
        if ids.len() > IDS_KEPT_MAX {
            let (routes, dead) = exchange.resolve(&mut ids.iter().copied());
            return Resolved { routes, dead, new_bytes: SET_BYTES + 8 * ids.len() };
        }
        let hash = self.hasher.hash_one(ids);
        if let Some(set) = self.table.find(hash, |set| *set.ids == *ids) {
            return Resolved { routes: set.routes.clone(), dead: 0, new_bytes: 0 };
        }
        let (routes, dead) = exchange.resolve(&mut ids.iter().copied());
        if dead == 0 {
            if self.table.len() >= SETS_MAX {
                self.table.clear();
            }
            let (set, hasher) = (Set { ids: ids.into(), routes: routes.clone() }, &self.hasher);
            self.table.insert_unique(hash, set, |set| hasher.hash_one(&*set.ids));
        }
        Resolved { routes, dead, new_bytes: SET_BYTES + 8 * ids.len() }
    }
}
