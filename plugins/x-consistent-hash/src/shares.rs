//! Which destination a key belongs to: the nearest, by distances that are shorter the heavier a destination is.
//!
//! Weighted rendezvous hashing. Each pair of key and destination has a number `u`, spread evenly over 0 to 1, and the
//! destination of the smallest `-ln(1 - u) / weight` has the key. Such numbers are exponentially distributed, so each
//! destination is the smallest for just its weight's share of all keys. A destination that comes takes keys from others and
//! gives none to them; one that goes gives what it had to the others, in their shares; one whose weight changes does
//! one of both. Which key is whose depends on nothing but what is there.
//!
//! It takes a few operations for each destination, as RabbitMQ's rings and jumps do not; what they save shows only
//! above some hundred destinations, and they move more keys or spread them less evenly.

use crate::hash::{self, Role};
use leveret_sdk::{BindingId, Destination};
use std::{collections::BTreeMap, rc::Rc};

/// Who has a share.
#[derive(Debug)]
struct Sharer {
    destination: Rc<Destination>,
    /// One of its bindings.
    id: BindingId,
}

/// Those of the same weight: the one with the smallest number is the nearest of them, without a logarithm.
#[derive(Debug, Default)]
struct Equals {
    /// The hashes of their destinations, ascending.
    hashes: Vec<u64>,
    /// In the same order; those of one hash by their destination.
    sharers: Vec<Sharer>,
}

impl Equals {
    /// Where a destination is, or belongs.
    fn place(&self, hash: u64, destination: &Destination) -> Result<usize, usize> {
        let begin = self.hashes.partition_point(|other| *other < hash);
        let same = self.hashes.iter().skip(begin).take_while(|other| **other == hash).count();
        let sharers = self.sharers.get(begin..begin + same).unwrap_or_default();
        let found = sharers.binary_search_by(|sharer| (*sharer.destination).cmp(destination));
        found.map(|place| begin + place).map_err(|place| begin + place)
    }

    /// The nearest to a key, and how near.
    fn nearest(&self, key: u64) -> Option<(u64, BindingId)> {
        let mut nearest = (u64::MAX, 0);
        for (place, hash) in self.hashes.iter().enumerate() {
            let distance = hash::distance(key, *hash);
            if distance < nearest.0 {
                nearest = (distance, place);
            }
        }
        let (distance, place) = nearest;
        self.sharers.get(place).map(|sharer| (distance, sharer.id))
    }
}

/// All destinations with their weights.
#[derive(Debug, Default)]
pub struct Shares {
    by_weight: BTreeMap<u64, Equals>,
}

impl Shares {
    /// Gives a destination that has none a share of this weight; its messages go by this binding.
    pub fn insert(&mut self, destination: Rc<Destination>, weight: u64, id: BindingId) {
        let hash = hash_of(&destination);
        let equals = self.by_weight.entry(weight).or_default();
        match equals.place(hash, &destination) {
            Ok(place) => {
                if let Some(sharer) = equals.sharers.get_mut(place) {
                    sharer.id = id;
                }
            }
            Err(place) => {
                equals.hashes.insert(place, hash);
                equals.sharers.insert(place, Sharer { destination, id });
            }
        }
    }

    /// Takes the share of this weight from a destination.
    pub fn remove(&mut self, destination: &Destination, weight: u64) {
        let Some(equals) = self.by_weight.get_mut(&weight) else {
            return;
        };
        if let Ok(place) = equals.place(hash_of(destination), destination) {
            equals.hashes.remove(place);
            equals.sharers.remove(place);
        }
        if equals.hashes.is_empty() {
            self.by_weight.remove(&weight);
        }
    }

    /// The destination that a key belongs to, by one of its bindings; none where there is no destination.
    #[must_use]
    pub fn of(&self, key: u64) -> Option<BindingId> {
        let mut nearest: Option<(f64, BindingId)> = None;
        for (weight, equals) in &self.by_weight {
            let Some((distance, id)) = equals.nearest(key) else { continue };
            if self.by_weight.len() == 1 {
                return Some(id);
            }
            let part = (distance as f64 + 0.5) / 2.0_f64.powi(64);
            let weight = *weight as f64;
            // It is at least that, and then needs no logarithm where something nearer is known.
            if nearest.is_some_and(|(known, _)| part / weight >= known) {
                continue;
            }
            let weighted = -(-part).ln_1p() / weight;
            if nearest.is_none_or(|(known, _)| weighted < known) {
                nearest = Some((weighted, id));
            }
        }
        nearest.map(|(_, id)| id)
    }
}

fn hash_of(destination: &Destination) -> u64 {
    match destination {
        Destination::Queue(name) => hash::of_bytes(Role::Queue, name),
        Destination::Exchange(name) => hash::of_bytes(Role::Exchange, name),
    }
}
