//! Entries that lie one behind the other, and a table of where each is.
//!
//! A place of the table is a number that has half of the hash beside where the entry is. So a place is looked at at once,
//! and an entry only where it is very likely the one. Tables that look at many places together do so with vectors, which a
//! component has not; there a turn of a loop is dear, and at most half of the places here are taken, so that few turns
//! are needed.

/// A place that was never taken: a search ends there.
const FREE: u64 = 0;
/// A place that was taken: a search goes on. It leads to no entry.
const GONE: u64 = u64::MAX;
/// The fewest places, once there are any.
const PLACES_MIN: usize = 8;

/// Entries by their hashes. Whoever uses it says what the hash of an entry is.
#[derive(Clone)]
pub(crate) struct DenseTable<E> {
    /// As many as a power of two, or none.
    places: Vec<u64>,
    /// How many places are not [`FREE`].
    used: usize,
    entries: Vec<E>,
}

/// What a place has for the entry there.
fn place_of(hash: u64, entry: usize) -> u64 {
    hash & !u64::from(u32::MAX) | (entry as u64 + 1)
}

/// Which entry that is, if it is one at all.
#[inline(always)]
fn entry_at(place: u64) -> usize {
    (place as u32 as usize).wrapping_sub(1)
}

impl<E> DenseTable<E> {
    /// The entry with that hash for which `is_it` holds.
    #[inline(always)]
    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(&E) -> bool) -> Option<&E> {
        let (at, place) = self.first(hash)?;
        // Most are where they are looked for first: without a loop, which takes longer to begin.
        if (place ^ hash) >> 32 == 0
            && let Some(entry) = self.entries.get(entry_at(place)).filter(|entry| is_it(entry))
        {
            return Some(entry);
        }
        if place == FREE {
            return None;
        }
        let (_, entry) = self.search(hash, at, is_it)?;
        self.entries.get(entry)
    }

    /// The same, to change what is no part of the hash.
    #[inline]
    pub(crate) fn find_mut(&mut self, hash: u64, is_it: impl Fn(&E) -> bool) -> Option<&mut E> {
        let (_, entry) = self.whereabouts(hash, is_it)?;
        self.entries.get_mut(entry)
    }

    /// Adds an entry that is not there.
    pub(crate) fn insert(&mut self, hash: u64, entry: E, hash_of: impl Fn(&E) -> u64) {
        if 2 * (self.used + 1) > self.places.len() {
            self.make_places(hash_of);
        }
        let place = place_of(hash, self.entries.len());
        if put(&mut self.places, hash, place) == FREE {
            self.used += 1;
        }
        self.entries.push(entry);
    }

    /// Removes the entry with that hash for which `is_it` holds.
    pub(crate) fn remove(
        &mut self,
        hash: u64,
        is_it: impl Fn(&E) -> bool,
        hash_of: impl Fn(&E) -> u64,
    ) -> Option<E> {
        let (at, entry) = self.whereabouts(hash, is_it)?;
        if let Some(place) = self.places.get_mut(at) {
            *place = GONE;
        }
        // The last one takes its place among the entries.
        let last = self.entries.len() - 1;
        if entry < last {
            let moved = hash_of(self.entries.get(last)?);
            let leads_to_last = place_of(moved, last);
            let mask = self.places.len() - 1;
            let mut at = moved as usize & mask;
            while let Some(place) = self.places.get_mut(at).filter(|place| **place != FREE) {
                if *place == leads_to_last {
                    *place = place_of(moved, entry);
                    break;
                }
                at = (at + 1) & mask;
            }
        }
        Some(self.entries.swap_remove(entry))
    }

    /// How many there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All, in no particular order.
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, E> {
        self.entries.iter()
    }

    /// All, without the table.
    pub(crate) fn into_entries(self) -> Vec<E> {
        self.entries
    }

    /// The place where a hash is looked for first, and what is there; none where there are no places.
    #[inline(always)]
    fn first(&self, hash: u64) -> Option<(usize, u64)> {
        let at = hash as usize & self.places.len().wrapping_sub(1);
        Some((at, *self.places.get(at)?))
    }

    fn whereabouts(&self, hash: u64, is_it: impl Fn(&E) -> bool) -> Option<(usize, usize)> {
        let (at, _) = self.first(hash)?;
        // One before: the search begins behind the place that was looked at.
        self.search(hash, at.wrapping_sub(1) & (self.places.len() - 1), is_it)
    }

    /// The place and the number of an entry, from behind that place on.
    #[inline]
    fn search(&self, hash: u64, behind: usize, is_it: impl Fn(&E) -> bool) -> Option<(usize, usize)> {
        let mask = self.places.len().wrapping_sub(1);
        let mut at = behind;
        loop {
            at = (at + 1) & mask;
            let place = *self.places.get(at)?;
            if (place ^ hash) >> 32 == 0 && self.entries.get(entry_at(place)).is_some_and(&is_it) {
                return Some((at, entry_at(place)));
            }
            if place == FREE {
                return None;
            }
        }
    }

    /// Makes places anew: twice as many, or as many as before where many are gone, which are free again then.
    fn make_places(&mut self, hash_of: impl Fn(&E) -> u64) {
        // A third at most is taken, so that it is not done again soon.
        self.places = vec![FREE; (3 * self.entries.len()).next_power_of_two().max(PLACES_MIN)];
        for (at, entry) in self.entries.iter().enumerate() {
            let hash = hash_of(entry);
            put(&mut self.places, hash, place_of(hash, at));
        }
        self.used = self.entries.len();
    }
}

/// Puts something at the first place for that hash where nothing is. What was there: [`FREE`] or [`GONE`].
fn put(places: &mut [u64], hash: u64, what: u64) -> u64 {
    let mask = places.len().wrapping_sub(1);
    let mut at = hash as usize & mask;
    while let Some(place) = places.get_mut(at) {
        if *place == FREE || *place == GONE {
            return std::mem::replace(place, what);
        }
        at = (at + 1) & mask;
    }
    GONE
}

impl<E> Default for DenseTable<E> {
    fn default() -> Self {
        Self { places: Vec::new(), used: 0, entries: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn few_hashes(key: &u8) -> u64 {
        // Four at each place, with four different upper halves; two of each have the same hash.
        u64::from(key % 8) | u64::from(key / 16 % 4) << 32
    }

    #[test]
    fn what_comes_and_goes_leaves_no_more_places_than_are_needed() {
        let mut table = DenseTable::default();
        let hash = |number: &u64| *number;
        for number in 0..10_000_u64 {
            table.insert(number, number, hash);
            if let Some(gone) = number.checked_sub(3) {
                assert_eq!(table.remove(gone, |there| *there == gone, hash), Some(gone));
            }
        }
        assert_eq!(table.len(), 3);
        assert!(table.places.len() <= 2 * PLACES_MIN, "{} places", table.places.len());
    }

    #[test]
    fn the_number_of_no_entry_is_looked_for_and_not_found() {
        let mut table = DenseTable::default();
        assert_eq!(table.find(0, |_: &u64| true), None);
        assert_eq!(table.find_mut(0, |_: &u64| true), None);
        assert_eq!(table.remove(0, |_: &u64| true, |there| *there), None);
        table.insert(0, 7, |_| 0);
        table.remove(0, |_| true, |_| 0);
        // The upper half is that of a place that is free, and of one that is gone.
        for hash in [0, u64::MAX, u64::from(u32::MAX) << 32] {
            assert_eq!(table.find(hash, |_| true), None, "{hash:#x}");
        }
    }

    proptest! {
        #[test]
        fn it_is_as_a_list_that_is_searched(steps in proptest::collection::vec((any::<bool>(), any::<u8>()), 0..400)) {
            let mut table = DenseTable::default();
            let mut plain: Vec<u8> = Vec::new();
            for (inserts, key) in steps {
                let hash = few_hashes(&key);
                let there = plain.iter().position(|there| *there == key);
                prop_assert_eq!(table.find(hash, |there| *there == key).copied(), there.map(|at| plain[at]));
                prop_assert_eq!(table.find_mut(hash, |there| *there == key).copied(), there.map(|at| plain[at]));
                match there {
                    Some(at) if !inserts => {
                        prop_assert_eq!(table.remove(hash, |there| *there == key, few_hashes), Some(key));
                        plain.swap_remove(at);
                    }
                    None if inserts => {
                        table.insert(hash, key, few_hashes);
                        plain.push(key);
                    }
                    _ => {}
                }
                prop_assert_eq!(table.iter().collect::<Vec<_>>(), plain.iter().collect::<Vec<_>>());
                prop_assert!(2 * table.used <= table.places.len());
            }
            for key in &plain {
                prop_assert_eq!(table.find(few_hashes(key), |there| there == key), Some(key));
            }
            prop_assert_eq!(table.into_entries(), plain);
        }
    }
}
