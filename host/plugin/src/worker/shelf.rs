//! Things that are found by what they are about, whatever else is there, and of which the oldest go.

use hashbrown::HashMap;
use std::{collections::BTreeMap, hash::Hash};

/// Things by what they are about: looked for, noted and removed in a time that does not grow with those that
/// are about something else.
pub(super) struct Shelf<K, T> {
    by_key: HashMap<K, Vec<(u64, T)>, foldhash::fast::RandomState>,
    /// What each is about, by its number: the oldest first.
    by_age: BTreeMap<u64, K>,
    last_number: u64,
    /// How many may be noted before all are looked through again.
    until_sweep: usize,
}

/// So many at least are noted between two times that all are looked through.
const SWEEP_AFTER_MIN: usize = 16;

impl<K, T> Default for Shelf<K, T> {
    fn default() -> Self {
        Self {
            by_key: HashMap::default(),
            by_age: BTreeMap::new(),
            last_number: 0,
            until_sweep: SWEEP_AFTER_MIN,
        }
    }
}

impl<K: Clone + Eq + Hash, T> Shelf<K, T> {
    pub(super) fn is_empty(&self) -> bool {
        self.by_age.is_empty()
    }

    /// Notes one more; the oldest of all goes where there are `max`. Now and then those go that are of no use:
    /// so seldom that it costs each that is noted the same.
    pub(super) fn note(&mut self, key: K, thing: T, max: usize, is_of_use: impl Fn(&T) -> bool) {
        self.until_sweep = self.until_sweep.saturating_sub(1);
        if self.until_sweep == 0 {
            self.sweep(is_of_use);
            self.until_sweep = self.by_age.len().max(SWEEP_AFTER_MIN);
        }
        if self.by_age.len() >= max
            && let Some((oldest, key)) = self.by_age.pop_first()
        {
            self.take_out(&key, |number, _| number == oldest);
        }
        self.last_number += 1;
        self.by_age.insert(self.last_number, key.clone());
        self.by_key.entry(key).or_default().push((self.last_number, thing));
    }

    /// Those about something, the oldest first.
    pub(super) fn about(&self, key: &K) -> impl Iterator<Item = &T> {
        self.by_key.get(key).into_iter().flatten().map(|(_, thing)| thing)
    }

    /// Lets go of those about something for which that holds.
    pub(super) fn remove(&mut self, key: &K, is_it: impl Fn(&T) -> bool) {
        for number in self.take_out(key, |_, thing| is_it(thing)) {
            self.by_age.remove(&number);
        }
    }

    fn take_out(&mut self, key: &K, is_it: impl Fn(u64, &T) -> bool) -> Vec<u64> {
        let Some(things) = self.by_key.get_mut(key) else { return Vec::new() };
        let gone = things.extract_if(.., |(number, thing)| is_it(*number, thing));
        let numbers = gone.map(|(number, _)| number).collect();
        if things.is_empty() {
            self.by_key.remove(key);
        }
        numbers
    }

    fn sweep(&mut self, is_of_use: impl Fn(&T) -> bool) {
        let Self { by_key, by_age, .. } = self;
        by_key.retain(|_, things| {
            things.retain(|(number, thing)| {
                let stays = is_of_use(thing);
                if !stays {
                    by_age.remove(number);
                }
                stays
            });
            !things.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const MAX: usize = 1_024;

    /// A shelf with as many as there may be, each about something else.
    fn full() -> Shelf<usize, usize> {
        let mut shelf = Shelf::default();
        (0..MAX).for_each(|number| shelf.note(number, number, MAX, |_| true));
        shelf
    }

    #[test]
    fn nothing_is_looked_at_that_is_about_something_else() {
        let (mut shelf, looked) = (full(), Cell::new(0));
        let look = |thing: &usize| {
            looked.set(looked.get() + 1);
            *thing == 7
        };
        assert!(shelf.about(&7).any(look));
        shelf.remove(&7, look);
        assert_eq!((looked.get(), shelf.about(&7).count(), shelf.about(&8).count()), (2, 0, 1));
    }

    #[test]
    fn the_oldest_of_all_goes_and_what_is_of_no_use_before_long() {
        let mut shelf = full();
        shelf.note(7, 0, MAX, |_| true);
        assert_eq!(shelf.about(&0).count(), 0);
        assert_eq!(shelf.about(&7).copied().collect::<Vec<_>>(), [7, 0]);
        let swept = Cell::new(0);
        let is_of_use = |thing: &usize| {
            swept.set(swept.get() + 1);
            *thing >= 2_000
        };
        for number in 0..4 * MAX {
            shelf.note(2_000 + number, 2_000 + number, MAX, is_of_use);
        }
        assert!(swept.get() <= 6 * MAX, "{} looked at for {}", swept.get(), 4 * MAX);
        assert_eq!(shelf.by_age.len(), shelf.by_key.values().map(Vec::len).sum::<usize>());
        assert!(shelf.by_key.keys().all(|key| *key >= 2_000) && shelf.by_age.len() == MAX);
        for number in 0..4 * MAX {
            shelf.remove(&(2_000 + number), |_| true);
        }
        assert!(shelf.is_empty() && shelf.by_key.is_empty());
    }
}
