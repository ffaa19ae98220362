//! A map that never takes long to grow: extendible hashing.
//!
//! A hash map in one piece moves all its entries when it is full. With a million bindings that is a call of 10 ms and more,
//! which the host cuts off (`wit/CONTRACT.md`, "Limits"). Here a table that is full is parted in two, and no other is
//! touched. A directory says in which table a hash is; it doubles when a table of its full depth is parted.

use crate::{dense_table::DenseTable, quick_hash::QuickState};
use std::{
    borrow::Borrow,
    fmt,
    hash::{BuildHasher, Hash},
};

/// How many entries a table has before it is parted.
const TABLE_ENTRIES_MAX: usize = 3_584;
/// The most bits of a hash that the directory goes by: 65,536 tables. Beyond, tables just grow.
const DEPTH_MAX: u32 = 16;

/// A map for many keys. Its hash function is quick on short keys and needs no random seed; an insertion moves some
/// thousand entries at most, however many there are.
///
/// ```
/// # use leveret_sdk::ExtendibleMap;
/// let mut map = ExtendibleMap::default();
/// assert_eq!(map.insert("one", 1), None);
/// assert_eq!(map.insert("one", 2), Some(1));
/// assert_eq!(map.get("one"), Some(&2));
/// assert_eq!(map.remove("one"), Some(2));
/// assert!(map.is_empty());
/// ```
#[derive(Clone)]
pub struct ExtendibleMap<K, V> {
    hasher: QuickState,
    /// By the lowest bits of a hash's upper half, the number of its table; as many entries as those bits make.
    directory: Vec<u32>,
    tables: Vec<Table<K, V>>,
    len: usize,
}

#[derive(Clone)]
struct Table<K, V> {
    /// How many of those bits all its entries have in common.
    depth: u32,
    entries: DenseTable<(K, V)>,
}

impl<K, V> Table<K, V> {
    fn is_full(&self) -> bool {
        self.entries.len() >= TABLE_ENTRIES_MAX && self.depth < DEPTH_MAX
    }
}

/// What chooses the table. A table itself goes by the lower half, and tells entries apart by all of the upper one.
fn upper(hash: u64) -> usize {
    (hash >> 32) as usize
}

impl<K: Hash + Eq, V> ExtendibleMap<K, V> {
    /// The value of a key.
    #[inline(always)]
    #[must_use]
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_key_value(key).map(|(_, value)| value)
    }

    /// The key that is kept, and its value.
    #[inline(always)]
    #[must_use]
    pub fn get_key_value<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        let hash = self.hasher.hash_one(key);
        let table = self.tables.get(self.table_of(hash)?)?;
        table.entries.find(hash, |(there, _)| there.borrow() == key).map(|(key, value)| (key, value))
    }

    /// The value of a key, to change.
    #[inline]
    pub fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let hash = self.hasher.hash_one(key);
        let at = self.table_of(hash)?;
        let entries = &mut self.tables.get_mut(at)?.entries;
        entries.find_mut(hash, |(there, _)| there.borrow() == key).map(|(_, value)| value)
    }

    /// Whether a key is there.
    #[inline]
    #[must_use]
    pub fn contains_key<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// Puts a value under a key; the value that was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        if let Some(there) = self.get_mut(&key) {
            return Some(std::mem::replace(there, value));
        }
        self.insert_new(key, value);
        None
    }

    /// Removes a key; its value.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let hash = self.hasher.hash_one(key);
        let at = self.table_of(hash)?;
        let entries = &mut self.tables.get_mut(at)?.entries;
        let hasher = &self.hasher;
        let (_, value) =
            entries.remove(hash, |(there, _)| there.borrow() == key, |(key, _)| hasher.hash_one(key))?;
        self.len -= 1;
        Some(value)
    }

    fn insert_new(&mut self, key: K, value: V) {
        if self.tables.is_empty() {
            self.tables.push(Table { depth: 0, entries: DenseTable::default() });
            self.directory.push(0);
        }
        let hash = self.hasher.hash_one(&key);
        let Some(mut at) = table_of(&self.directory, hash) else { return };
        if self.tables.get(at).is_some_and(Table::is_full) {
            self.part(at);
            // If all went one way, the table grows a little, and is parted again by the next key.
            at = table_of(&self.directory, hash).unwrap_or(at);
        }
        let Self { hasher, tables, .. } = self;
        let Some(table) = tables.get_mut(at) else { return };
        table.entries.insert(hash, (key, value), |(key, _)| hasher.hash_one(key));
        self.len += 1;
    }

    /// Parts a table by the next bit.
    fn part(&mut self, at: usize) {
        let Self { hasher, directory, tables, .. } = self;
        let number = tables.len();
        let Some(table) = tables.get_mut(at) else { return };
        let bit = 1 << table.depth;
        if directory.len() == bit {
            directory.extend_from_within(..);
        }
        table.depth += 1;
        let depth = table.depth;
        let (mut goes, mut stays) = (DenseTable::default(), DenseTable::default());
        for entry in std::mem::take(&mut table.entries).into_entries() {
            let hash = hasher.hash_one(&entry.0);
            let half = if upper(hash) & bit == 0 { &mut stays } else { &mut goes };
            half.insert(hash, entry, |(key, _)| hasher.hash_one(key));
        }
        table.entries = stays;
        tables.push(Table { depth, entries: goes });
        for (place, table) in directory.iter_mut().enumerate() {
            if *table as usize == at && place & bit != 0 {
                *table = number as u32;
            }
        }
    }
}

impl<K, V> ExtendibleMap<K, V> {
    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All keys and values, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.tables.iter().flat_map(|table| table.entries.iter()).map(|(key, value)| (key, value))
    }

    /// All keys, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    #[inline]
    fn table_of(&self, hash: u64) -> Option<usize> {
        // Most maps are small.
        if self.tables.len() <= 1 { Some(0) } else { table_of(&self.directory, hash) }
    }
}

#[inline]
fn table_of(directory: &[u32], hash: u64) -> Option<usize> {
    directory.get(upper(hash) & directory.len().wrapping_sub(1)).map(|table| *table as usize)
}

impl<K, V> Default for ExtendibleMap<K, V> {
    fn default() -> Self {
        Self { hasher: QuickState::default(), directory: Vec::new(), tables: Vec::new(), len: 0 }
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for ExtendibleMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn however_many_keys_there_are_a_table_keeps_its_size() {
        let mut map = ExtendibleMap::default();
        for key in 0..200_000_u64 {
            assert_eq!(map.insert(key, key + 1), None);
        }
        assert_eq!(map.len(), 200_000);
        assert!(map.tables.iter().all(|table| table.entries.len() <= TABLE_ENTRIES_MAX));
        assert!(map.directory.len() <= 512, "{}", map.directory.len());
        assert!((0..200_000).all(|key| map.get(&key) == Some(&(key + 1))));
        assert_eq!(map.get(&200_000), None);
        assert_eq!(map.keys().count(), 200_000);
        assert!((0..200_000).all(|key| map.remove(&key) == Some(key + 1)));
        assert!(map.is_empty() && map.iter().next().is_none());
    }

    /// All in one table, whatever bits the directory goes by.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Alike(u32);

    impl Hash for Alike {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            state.write_u32(0);
        }
    }

    #[test]
    fn keys_that_no_bit_tells_apart_make_no_endless_directory() {
        let mut map = ExtendibleMap::default();
        let count = TABLE_ENTRIES_MAX as u32 + 40;
        for key in 0..count {
            map.insert(Alike(key), key);
        }
        assert_eq!((map.len(), map.directory.len()), (count as usize, 1 << DEPTH_MAX));
        assert_eq!(map.get(&Alike(count - 1)), Some(&(count - 1)));
    }

    proptest! {
        #[test]
        fn it_is_as_a_map_in_one_piece(
            steps in proptest::collection::vec((any::<bool>(), 0..20_000_u32, any::<u8>()), 0..200),
            start in 0..20_000_u32,
        ) {
            let mut map: ExtendibleMap<u32, u8> = ExtendibleMap::default();
            let mut plain: HashMap<u32, u8> = HashMap::new();
            for key in 0..start {
                prop_assert_eq!(map.insert(key, 0), plain.insert(key, 0));
            }
            for (inserts, key, value) in steps {
                if inserts {
                    prop_assert_eq!(map.insert(key, value), plain.insert(key, value));
                } else {
                    prop_assert_eq!(map.remove(&key), plain.remove(&key));
                }
                prop_assert_eq!(map.len(), plain.len());
                prop_assert_eq!(map.get_key_value(&key), plain.get_key_value(&key));
                prop_assert_eq!(map.get_mut(&key), plain.get_mut(&key));
            }
            let mut all: Vec<_> = map.iter().map(|(key, value)| (*key, *value)).collect();
            let mut plainly: Vec<_> = plain.into_iter().collect();
            all.sort_unstable();
            plainly.sort_unstable();
            prop_assert_eq!(all, plainly);
        }
    }
}
