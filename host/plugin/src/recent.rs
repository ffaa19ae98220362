//! A map that remembers which of its entries was looked for last: calls come in runs about the same thing,
//! and that is found without a hash.

use foldhash::fast::RandomState;
use hashbrown::{Equivalent, HashTable};
use std::{cell::Cell, hash::BuildHasher as _, hash::Hash};

/// Values by their keys.
pub(crate) struct Recent<K, V> {
    entries: Vec<(K, V)>,
    /// Where each is among them.
    places: HashTable<usize>,
    hasher: RandomState,
    /// Where the one is that was looked for last.
    last: Cell<usize>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            places: HashTable::new(),
            hasher: RandomState::default(),
            last: Cell::new(0),
        }
    }
}

impl<K: Hash + Eq, V> Recent<K, V> {
    /// What is there for a key.
    #[inline]
    pub(crate) fn get<Q: Hash + Equivalent<K>>(&self, key: &Q) -> Option<&V> {
        let place = self.place(key)?;
        self.entries.get(place).map(|(_, value)| value)
    }

    /// The same, to change it.
    #[inline]
    pub(crate) fn get_mut<Q: Hash + Equivalent<K>>(&mut self, key: &Q) -> Option<&mut V> {
        let place = self.place(key)?;
        self.entries.get_mut(place).map(|(_, value)| value)
    }

    /// Whether there is something for a key.
    pub(crate) fn contains_key<Q: Hash + Equivalent<K>>(&self, key: &Q) -> bool {
        self.place(key).is_some()
    }

    /// What is there for a key; made and put there if there is nothing.
    #[inline]
    pub(crate) fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let place = match self.place(&key) {
            Some(place) => place,
            None => self.push(key, make()),
        };
        &mut self.entries[place].1
    }

    /// Puts a value there, in place of another one for the same key.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        match self.get_mut(&key) {
            Some(place) => *place = value,
            None => {
                self.push(key, value);
            }
        }
    }

    /// Takes out what is there for a key.
    pub(crate) fn remove<Q: Hash + Equivalent<K>>(&mut self, key: &Q) -> Option<V> {
        let place = self.place(key)?;
        let forget = |places: &mut HashTable<usize>, hash, place| {
            if let Ok(found) = places.find_entry(hash, |at| *at == place) {
                found.remove();
            }
        };
        forget(&mut self.places, self.hasher.hash_one(key), place);
        let last = self.entries.len() - 1;
        if place != last {
            // The last one takes its place.
            let hash = self.hasher.hash_one(&self.entries[last].0);
            forget(&mut self.places, hash, last);
            self.note(hash, place);
        }
        Some(self.entries.swap_remove(place).1)
    }

    /// Takes out all for which that does not hold.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        let before = self.entries.len();
        self.entries.retain_mut(|(key, value)| keep(key, value));
        if self.entries.len() == before {
            return;
        }
        self.places.clear();
        for place in 0..self.entries.len() {
            self.note(self.hasher.hash_one(&self.entries[place].0), place);
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All of them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    /// All values, in no order.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.iter_mut().map(|(_, value)| value)
    }

    #[inline]
    fn place<Q: Hash + Equivalent<K>>(&self, key: &Q) -> Option<usize> {
        let last = self.last.get();
        match self.entries.get(last) {
            Some((known, _)) if key.equivalent(known) => Some(last),
            _ => self.search(key),
        }
    }

    fn search<Q: Hash + Equivalent<K>>(&self, key: &Q) -> Option<usize> {
        let is_it = |place: &usize| self.entries.get(*place).is_some_and(|(known, _)| key.equivalent(known));
        let place = *self.places.find(self.hasher.hash_one(key), is_it)?;
        self.last.set(place);
        Some(place)
    }

    fn push(&mut self, key: K, value: V) -> usize {
        let place = self.entries.len();
        let hash = self.hasher.hash_one(&key);
        self.entries.push((key, value));
        self.note(hash, place);
        self.last.set(place);
        place
    }

    fn note(&mut self, hash: u64, place: usize) {
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.places.insert_unique(hash, place, |place| hasher.hash_one(&entries[*place].0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u8, u16),
        Make(u8, u16),
        Remove(u8),
        Retain(u8),
        Change(u8, u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        let key = 0_u8..12;
        prop_oneof![
            (key.clone(), any::<u16>()).prop_map(|(key, value)| Step::Insert(key, value)),
            (key.clone(), any::<u16>()).prop_map(|(key, value)| Step::Make(key, value)),
            key.clone().prop_map(Step::Remove),
            (1_u8..4).prop_map(Step::Retain),
            (key, any::<u16>()).prop_map(|(key, value)| Step::Change(key, value)),
        ]
    }

    proptest! {
        #[test]
        fn it_has_what_any_map_has(steps in proptest::collection::vec(step(), 0..60)) {
            let (mut recent, mut model) = (Recent::<u8, u16>::default(), BTreeMap::new());
            for step in steps {
                match step {
                    Step::Insert(key, value) => {
                        recent.insert(key, value);
                        model.insert(key, value);
                    }
                    Step::Make(key, value) => {
                        let made = *recent.get_or_insert_with(key, || value);
                        prop_assert_eq!(made, *model.entry(key).or_insert(value));
                    }
                    Step::Remove(key) => prop_assert_eq!(recent.remove(&key), model.remove(&key)),
                    Step::Retain(part) => {
                        recent.retain(|key, _| key % part == 0);
                        model.retain(|key, _| key % part == 0);
                    }
                    Step::Change(key, value) => {
                        recent.get_mut(&key).into_iter().for_each(|place| *place = value);
                        model.get_mut(&key).into_iter().for_each(|place| *place = value);
                    }
                }
                prop_assert!((0..12).all(|key| recent.get(&key) == model.get(&key)));
                prop_assert!((0..12).all(|key| recent.contains_key(&key) == model.contains_key(&key)));
                let all: BTreeMap<u8, u16> = recent.iter().map(|(key, value)| (*key, *value)).collect();
                prop_assert_eq!((&all, recent.len()), (&model, model.len()));
            }
        }
    }
}
