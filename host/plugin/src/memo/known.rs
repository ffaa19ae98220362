//! Many keys that are looked for one behind the other, most of which are there.

use super::{Entry, JUDGED_AFTER_LOOKUPS, Memo, TOUCHED, keys::Segments};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher as _;

/// What is remembered, for as long as nothing but hits comes of it: what a lookup counts and decides beside is done once
/// for all of them.
pub(crate) struct Known<'a, V> {
    table: &'a mut HashTable<Entry<V>>,
    keys: &'a Segments,
    hasher: RandomState,
    lookups: &'a mut u64,
    hits: &'a mut u64,
    /// So many more hits may come before something is to be judged or audited, of so many.
    left: u64,
    all: u64,
}

impl<V> Memo<V> {
    /// What is remembered; `None` where a key takes more to find than a look at the table, or nothing is there.
    pub(crate) fn known(&mut self) -> Option<Known<'_, V>> {
        if self.away > 0 || self.table.is_empty() || !self.digests.is_empty() {
            return None;
        }
        let to_judge = JUDGED_AFTER_LOOKUPS.saturating_sub(self.lookups - self.judged.lookups);
        // The one that is due is looked for by itself.
        let all = self.audit_at.saturating_sub(self.hits).min(to_judge).saturating_sub(1);
        Some(Known {
            table: &mut self.table,
            keys: &self.keys,
            hasher: self.hasher.clone(),
            lookups: &mut self.lookups,
            hits: &mut self.hits,
            left: all,
            all,
        })
    }
}

impl<V> Known<'_, V> {
    /// What is kept for a key. `None` where nothing is, or its lookup is to be judged or audited: then it is to be looked
    /// for by itself, and was not counted.
    #[inline]
    pub(crate) fn find(&mut self, key: &[u8]) -> Option<&V> {
        self.left = self.left.checked_sub(1)?;
        let keys = self.keys;
        let hash = self.hasher.hash_one(key);
        let Some(entry) = self.table.find_mut(hash, |entry| keys.key(entry.place()) == Some(key)) else {
            self.left += 1;
            return None;
        };
        if !entry.is_touched() {
            entry.length_and_marks |= TOUCHED;
        }
        Some(&entry.kept)
    }

    /// The key before came once more: whether that is all there is to it, and was counted.
    #[inline]
    pub(crate) fn hit_again(&mut self) -> bool {
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or(0);
        left.is_some()
    }
}

impl<V> Drop for Known<'_, V> {
    fn drop(&mut self) {
        let hits = self.all - self.left;
        *self.lookups += hits;
        *self.hits += hits;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MEMO_BYTES_MAX, kept::Kept};
    use leveret_broker::port::Layer;

    type Memo = super::Memo<Kept>;

    /// Looks for keys of which one in `hit_of` is known; which lookups were audited, and how many keys were found at once.
    fn look_up(keys: u32, hit_of: u32, at_once: bool) -> (Memo, Vec<u32>, u32) {
        let mut memo = Memo::new(MEMO_BYTES_MAX);
        for key in (0..keys).filter(|key| key % hit_of == 0) {
            memo.insert(&key.to_le_bytes(), &Kept::Drop(None, Layer::FRONT), 0);
        }
        let (mut audited, mut found_at_once, mut next) = (Vec::new(), 0, 0);
        while next < keys {
            if at_once && let Some(mut known) = memo.known() {
                while next < keys && known.find(&next.to_le_bytes()).is_some() {
                    (next, found_at_once) = (next + 1, found_at_once + 1);
                }
            }
            if next < keys
                && !memo.is_away()
                && memo.get(&next.to_le_bytes()).is_some()
                && memo.is_audit_due()
            {
                audited.push(next);
            }
            next += 1;
        }
        (memo, audited, found_at_once)
    }

    #[test]
    fn what_is_found_at_once_counts_as_if_it_was_found_singly() {
        for (keys, hit_of) in [(40_000, 1), (40_000, 3), (40_000, 20)] {
            let (singly, audited, _) = look_up(keys, hit_of, false);
            let (at_once, audited_at_once, found) = look_up(keys, hit_of, true);
            assert!(audited.len() > 10 && found > 0);
            assert_eq!(audited, audited_at_once);
            let counts = |memo: &Memo| (memo.lookups, memo.hits, memo.away, memo.judged.lookups);
            assert_eq!(counts(&singly), counts(&at_once));
            assert!(singly.judged.lookups > 0, "it was judged");
        }
    }

    #[test]
    fn the_same_key_again_counts_until_an_audit_is_due() {
        let mut memo = Memo::new(MEMO_BYTES_MAX);
        assert!(memo.known().is_none(), "nothing is there");
        memo.insert(b"k", &Kept::Drop(None, Layer::FRONT), 0);
        for hits in 1..=64_u64 {
            let again = memo.known().is_some_and(|mut known| known.hit_again());
            assert_eq!(again, !hits.is_power_of_two());
            if !again {
                assert!(memo.get(b"k").is_some() && memo.is_audit_due());
            }
            assert_eq!((memo.lookups, memo.hits), (hits, hits));
        }
    }

    #[test]
    fn where_keys_may_be_digests_each_is_looked_for_by_itself() {
        let mut memo = Memo::new(16 * 1024);
        for number in 0..200_u32 {
            memo.insert(&[number.to_le_bytes(); 40].concat(), &Kept::Drop(None, Layer::FRONT), 0);
        }
        assert!(!memo.digests.is_empty() && memo.known().is_none());
    }
}
