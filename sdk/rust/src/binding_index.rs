//! Binding ids by key: what most exchange types need.

use crate::{BindingId, ExtendibleMap, quick_hash::QuickState};
use std::{borrow::Borrow, collections::HashMap, hash::Hash, rc::Rc};

/// A map whose hash function is quick on short keys and needs no random seed. (The standard one
/// works in a component as well; it is slower.) For what grows with the bindings take [`ExtendibleMap`].
pub type KeyMap<K, V> = HashMap<K, V, QuickState>;

/// The first eight bytes as a number, zeros for those that are not there. In a component slices are compared byte
/// by byte, which takes longer than all else for a short key; numbers are compared at once.
///
/// ```
/// # use leveret_sdk::binding_index::first_eight;
/// assert_eq!(first_eight(b"one"), u64::from_le_bytes(*b"one\0\0\0\0\0"));
/// assert_eq!(first_eight(b"much longer"), u64::from_le_bytes(*b"much lon"));
/// ```
#[inline]
#[must_use]
pub fn first_eight(bytes: &[u8]) -> u64 {
    if let Some(eight) = bytes.first_chunk() {
        return u64::from_le_bytes(*eight);
    }
    // What is read twice is the same.
    let length = bytes.len();
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let last = u64::from(u32::from_le_bytes(*last));
        return u64::from(u32::from_le_bytes(*first)) | last << (8 * (length - 4));
    }
    let at = |at: usize| u64::from(bytes.get(at).copied().unwrap_or(0)) << (8 * at);
    if length == 0 { 0 } else { at(0) | at(length / 2) | at(length - 1) }
}

/// A key of at most [`ShortKey::BYTES_MAX`] bytes as three numbers, which a component hashes and compares at once
/// ([`first_eight`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShortKey(u64, u64, u64);

impl ShortKey {
    /// The most bytes: the last of the numbers' says how many there are.
    pub const BYTES_MAX: usize = 23;

    /// These bytes, unless they are too many.
    #[inline(always)]
    #[must_use]
    pub fn of(key: &[u8]) -> Option<Self> {
        if key.len() > Self::BYTES_MAX {
            return None;
        }
        let from = |at: usize| key.get(at..).map_or(0, first_eight);
        Some(Self(from(0), from(8), from(16) | (key.len() as u64) << 56))
    }
}

/// Finds the bindings of a key, and forgets a binding by its id alone; both take the same time
/// however many bindings there are, and so does adding one.
///
/// ```
/// # use leveret_sdk::{BindingId, BindingIndex};
/// let mut index = BindingIndex::new();
/// index.insert(&b"invoices"[..], BindingId(1));
/// index.insert(&b"invoices"[..], BindingId(2));
/// index.remove(BindingId(1));
/// assert_eq!(index.get(&b"invoices"[..]), [BindingId(2)]);
/// ```
#[derive(Clone, Debug)]
pub struct BindingIndex<K = Rc<[u8]>> {
    groups: ExtendibleMap<K, Vec<BindingId>>,
    /// For each id its key, and where in the key's group it is.
    places: ExtendibleMap<BindingId, (K, usize)>,
}

impl BindingIndex {
    /// An index by bytes, without bindings; for another kind of key use `BindingIndex::default()`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl<K: Clone + Eq + Hash> BindingIndex<K> {
    /// Adds a binding under a key. An id that is there already moves to the key.
    pub fn insert(&mut self, key: impl Into<K>, id: BindingId) {
        self.remove(id);
        let key = key.into();
        // One allocation a key, not one a binding.
        let key = self.groups.get_key_value(&key).map_or(key, |(known, _)| known.clone());
        let place = match self.groups.get_mut(&key) {
            Some(group) => {
                group.push(id);
                group.len() - 1
            }
            None => {
                self.groups.insert(key.clone(), vec![id]);
                0
            }
        };
        self.places.insert(id, (key, place));
    }

    /// Removes a binding, and says under which key it was.
    pub fn remove(&mut self, id: BindingId) -> Option<K> {
        let (key, place) = self.places.remove(&id)?;
        let group = self.groups.get_mut(&key)?;
        group.swap_remove(place);
        match group.get(place).and_then(|moved| self.places.get_mut(moved)) {
            Some((_, moved_to)) => *moved_to = place,
            None if group.is_empty() => {
                self.groups.remove(&key);
            }
            None => {}
        }
        Some(key)
    }

    /// The bindings of a key, each once, in no particular order.
    #[inline(always)]
    #[must_use]
    pub fn get<Q>(&self, key: &Q) -> &[BindingId]
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        // To look at one key takes less than to hash another.
        let group = if self.groups.len() <= 1 {
            self.groups.iter().find(|(there, _)| Borrow::<Q>::borrow(*there) == key).map(|(_, group)| group)
        } else {
            self.groups.get(key)
        };
        group.map_or(&[], Vec::as_slice)
    }

    /// The same without a look at how many keys there are: for [`ExchangeType::route_at_once`](crate::ExchangeType::route_at_once).
    #[inline(always)]
    #[must_use]
    pub fn get_at_once(&self, key: &K) -> &[BindingId] {
        self.groups.get(key).map_or(&[], Vec::as_slice)
    }

    /// The keys that have bindings, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.groups.keys()
    }

    /// How many bindings there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

impl<K: Clone + Eq + Hash> Default for BindingIndex<K> {
    fn default() -> Self {
        Self { groups: ExtendibleMap::default(), places: ExtendibleMap::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_eight_bytes_are_those_of_any_length() {
        let bytes: Vec<u8> = (1..=10).collect();
        for length in 0..=bytes.len() {
            let mut eight = [0; 8];
            let first = length.min(8);
            eight[..first].copy_from_slice(&bytes[..first]);
            assert_eq!(first_eight(&bytes[..length]), u64::from_le_bytes(eight), "{length} bytes");
        }
    }

    #[test]
    fn removal_in_any_order_leaves_the_others() {
        let mut index = BindingIndex::new();
        for id in 0..10 {
            index.insert(if id % 2 == 0 { &b"even"[..] } else { b"odd" }, BindingId(id));
        }
        for id in [0, 9, 4, 1, 8] {
            assert!(index.remove(BindingId(id)).is_some());
            assert!(index.remove(BindingId(id)).is_none());
        }
        let mut even = index.get(&b"even"[..]).to_vec();
        even.sort();
        assert_eq!(even, [BindingId(2), BindingId(6)]);
        assert_eq!(index.len(), 5);
        for id in [2, 6] {
            index.remove(BindingId(id));
        }
        assert_eq!(index.keys().map(|key| &**key).collect::<Vec<_>>(), [b"odd"]);
        index.insert(&b"even"[..], BindingId(3));
        assert_eq!(index.get(&b"even"[..]), [BindingId(3)]);
        assert_eq!(index.len(), 3);
    }
}
