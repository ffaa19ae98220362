//! What a memo allocates, within its own budget and what there is for all, and what goes when that is used up.

use super::{
    DIGEST, DIGEST_WORTH_BYTES, DOOR_PLACES, Entry, KeyForm, Memo, PluginRoom, REFUSALS_PER_WANT,
    SEGMENT_BYTES_MIN, SEGMENTS, Secret, TABLE_BYTES_MIN, VhostRoom, WHOLE_KEYS_SHARE, digest, hash_of,
    keys::Oldest,
};
use hashbrown::HashTable;
use std::{hash::BuildHasher as _, sync::Arc};

/// A memo, whatever it keeps, as whoever makes memos smaller sees it.
pub(crate) trait Shrink {
    /// What is allocated, in bytes.
    fn bytes(&self) -> usize;
    /// The virtual host that it takes its memory from; `None` where it takes none.
    fn vhost(&self) -> Option<&Arc<VhostRoom>>;
    /// The tick of its last use, where ticks are as `now` says.
    fn used_at(&mut self, now: u64) -> u64;
    /// Forgets about an eighth, what is oldest first.
    fn shrink(&mut self);
    /// Forgets everything, and gives all memory back.
    fn give_up(&mut self);
}

impl<V: Clone> Shrink for Memo<V> {
    fn bytes(&self) -> usize {
        self.table.allocation_size()
            + self.keys.bytes()
            + self.digests.bytes()
            + self.door.capacity()
            + self.named.bytes()
            + self.beside_bytes
    }

    fn vhost(&self) -> Option<&Arc<VhostRoom>> {
        self.grant.room().map(|room| room.vhost()).filter(|_| self.grant.bytes() > 0)
    }

    fn used_at(&mut self, now: u64) -> u64 {
        if self.lookups != self.lookups_at {
            (self.lookups_at, self.used_at) = (self.lookups, now);
        }
        self.used_at
    }

    fn shrink(&mut self) {
        let goal = self.bytes() - self.bytes() / 8;
        while self.bytes() > goal && self.drop_oldest() {}
        if self.table.is_empty() {
            return self.give_up();
        }
        if self.table.len() <= self.table.num_buckets() / 4 {
            let (keys, digests, hasher) = (&self.keys, &self.digests, &self.hasher);
            self.table.shrink_to(self.table.len(), |entry| hash_of(entry, keys, digests, hasher));
        }
        self.grant.shrink_to(self.bytes());
    }

    fn give_up(&mut self) {
        self.forget();
        (self.table, self.door) = (HashTable::new(), Vec::new());
        self.beside_bytes = 0;
        self.grant.shrink_to(0);
    }
}

impl<V: Clone> Memo<V> {
    /// From now on its memory is that plugin's.
    pub(crate) fn charge_to(&mut self, room: &Arc<PluginRoom>) {
        if !self.grant.move_to(room) {
            self.give_up();
        }
    }

    /// What is kept beside that belongs to it takes so many bytes. False if there is no room for that even
    /// without any answers.
    pub(crate) fn charge_beside(&mut self, bytes: usize) -> bool {
        self.beside_bytes = bytes;
        self.bytes_max == 0 || self.fit()
    }

    /// How large the next segment will be, in bytes.
    pub(super) fn segment_bytes(&self) -> usize {
        (self.keys.bytes() / SEGMENTS).min(self.bytes_max / SEGMENTS).max(SEGMENT_BYTES_MIN)
    }

    /// How much larger the table becomes with one more entry, in bytes.
    fn table_growth(&self) -> usize {
        if self.table.len() < self.table.capacity() {
            return 0;
        }
        self.table.allocation_size().max(TABLE_BYTES_MIN)
    }

    /// Makes room for an entry. False where there is none.
    pub(super) fn make_room(&mut self, key_bytes: usize, kept_bytes: usize) -> bool {
        loop {
            let key_growth = self.keys.growth(key_bytes, self.segment_bytes());
            if self.may_have(self.bytes() + self.table_growth() + key_growth + kept_bytes) {
                return true;
            }
            if !self.shed() {
                return false;
            }
        }
    }

    /// Makes it as small as it has to be. False where that is not small enough.
    pub(super) fn fit(&mut self) -> bool {
        while !self.may_have(self.bytes()) {
            if !self.shed() {
                return false;
            }
        }
        true
    }

    fn may_have(&mut self, bytes: usize) -> bool {
        if bytes > self.bytes_max {
            return false;
        }
        let had = self.grant.bytes();
        match self.grant.cover(bytes) {
            Ok(()) => {
                if bytes > had {
                    self.refusals = 0;
                }
                true
            }
            Err(short) => {
                if self.refusals.is_multiple_of(REFUSALS_PER_WANT) {
                    self.grant.want(short);
                }
                self.refusals = self.refusals.wrapping_add(1);
                self.judged.starved = true;
                false
            }
        }
    }

    /// Makes something smaller, or forgets it. False if there is nothing.
    fn shed(&mut self) -> bool {
        let long = self.keys.form == KeyForm::Projection
            && self.keys.oldest_question_bytes() > DIGEST_WORTH_BYTES
            && self.keys.bytes() > self.bytes() / WHOLE_KEYS_SHARE;
        if long { self.digest_oldest() } else { self.drop_oldest() }
    }

    /// Keeps of the oldest keys only digests.
    fn digest_oldest(&mut self) -> bool {
        let Some(oldest) = self.keys.pop_oldest() else {
            return false;
        };
        let secret = self.secret.take().unwrap_or_else(Secret::new);
        let capacity_bytes =
            (self.digests.bytes() / SEGMENTS).min(self.bytes_max / SEGMENTS).max(SEGMENT_BYTES_MIN);
        let taken = self.take_out(&oldest, false);
        self.free_places(taken.len());
        for (entry, key, kept_bytes) in taken {
            let digest = secret.digest(key);
            if let Some(place) = self.digests.push(&digest, kept_bytes, capacity_bytes) {
                self.enter(digest::hash_of(&digest), Entry::new(entry.kept, place, DIGEST));
            }
        }
        self.secret = Some(secret);
        true
    }

    /// Forgets the oldest keys, but for those that were hit, at most half of them: these are new again, so that
    /// there is always room afterwards.
    fn drop_oldest(&mut self) -> bool {
        let of_digests = !self.digests.is_empty();
        let segments = if of_digests { &mut self.digests } else { &mut self.keys };
        let Some(oldest) = segments.pop_oldest() else {
            return false;
        };
        self.door.resize(DOOR_PLACES.min(self.bytes_max / 1_024), 0);
        let mut moved_bytes_left = oldest.bytes() / 2;
        let capacity_bytes = oldest.question_bytes() / 2;
        // Written when the table knows nothing of the segment any more: to grow, the table reads the keys of
        // all its entries.
        let taken = self.take_out(&oldest, of_digests);
        self.free_places(taken.len().div_ceil(2));
        for (entry, key, kept_bytes) in taken {
            let bytes = key.len() + kept_bytes;
            if !entry.is_touched() || bytes > moved_bytes_left || self.table.len() >= self.table.capacity() {
                continue;
            }
            moved_bytes_left -= bytes;
            let segments = if of_digests { &mut self.digests } else { &mut self.keys };
            let Some(place) = segments.push(key, kept_bytes, capacity_bytes) else {
                continue;
            };
            let (hash, mark) =
                if of_digests { (digest::hash_of(key), DIGEST) } else { (self.hasher.hash_one(key), 0) };
            self.enter(hash, Entry::new(entry.kept, place, mark));
        }
        true
    }

    /// Takes the entries of a segment that was taken out, with their keys and what their answers take.
    fn take_out<'a>(&mut self, oldest: &'a Oldest, of_digests: bool) -> Vec<(Entry<V>, &'a [u8], usize)> {
        let mut taken = Vec::new();
        for (place, key, kept_bytes) in oldest.keys() {
            let hash = if of_digests { digest::hash_of(key) } else { self.hasher.hash_one(key) };
            let is_it = |entry: &Entry<V>| entry.place() == place && entry.is_digest() == of_digests;
            if let Ok(found) = self.table.find_entry(hash, is_it) {
                taken.push((found.remove().0, key, kept_bytes));
            }
        }
        taken
    }

    /// Removed entries leave traces that take places: where so many places are not free, the table is made anew,
    /// as large as it is. (Else it would become larger by itself.)
    fn free_places(&mut self, count: usize) {
        let full = self.table.num_buckets() / 8 * 7;
        if self.table.capacity() - self.table.len() >= count || full - self.table.len().min(full) < count {
            return;
        }
        let before = std::mem::replace(&mut self.table, HashTable::with_capacity(full));
        for entry in before {
            let hash = hash_of(&entry, &self.keys, &self.digests, &self.hasher);
            self.enter(hash, entry);
        }
    }
}
