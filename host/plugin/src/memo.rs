//! Remembered answers of one exchange on one worker.
//!
//! The key is the projection that a guest would get (of an exchange that reads the routing key
//! alone: the key itself), the value its answer. All entries belong to one generation of the
//! exchange, which the owner compares before it uses the memo. Nothing relies on being told of a
//! change.
//!
//! *Memory.* [`MEMO_BYTES_MAX`] by default, of what the virtual host and the broker have for all of them
//! ([`room`]). Keys lie back to back in segments ([`keys`]); an entry of the table knows where. What is
//! charged is what was allocated for table, keys and answers, and all of it begins small. When there is no
//! more, the oldest segment goes: entries hit since they were written move to the newest one, the
//! others are forgotten. From then on a key is only taken when it is asked for a second time, so
//! that keys which never come again do not drive out those which do.
//!
//! *Long keys.* Before anything is forgotten, long keys are made short: of those in the oldest segment only
//! digests stay ([`digest`]), but for the newest eighth. They are found as before, but nobody can be
//! asked about them once more: where that is needed, they are forgotten. So what fits as it is pays nothing.
//! A key is looked for first among those that most are of, whole ones or digests.
//!
//! *Answers* are small: of two bindings the ids lie in the table ([`Kept::Two`]), and destinations are shared.
//!
//! *Worth.* Where fewer than one lookup in ten hits, remembering costs more than it saves: the
//! memo then forgets everything and stays away for a while before it tries again. One that still
//! fills, at a generation that lasts, is given the time to.
//!
//! *Churn.* When the exchange's bindings change, the memo forgets everything, unless the type says
//! that each binding decides for itself. Then the bindings that went are taken out of the answers
//! that name them ([`Memo::remove_bindings`]), and the guest is asked about keys once more with the new
//! bindings alone, hundreds of keys in a call, to add what they decide ([`Memo::add_bindings`]): about
//! those that have the mark of a new binding ([`marks`]), about all where a type gives none. Where there
//! are many more keys than lookups came since the last time, those that nobody asked for are forgotten
//! first.
//! Either way all entries belong to one generation afterwards.
//!
//! *Audit.* The first hits and later one in [`HITS_PER_AUDIT`] are checked by another instance, beside.

mod budget;
mod churn;
mod digest;
mod kept;
mod keys;
mod known;
mod marks;
mod named;
mod room;
#[cfg(test)]
mod tests;

pub(crate) use budget::Shrink;
pub(crate) use churn::NotAUnion;
pub(crate) use kept::Kept;
pub(crate) use keys::KeyForm;
pub(crate) use known::Known;
pub(crate) use marks::{MARKS_MAX, Marks};
pub(crate) use room::{BrokerRoom, PluginRoom, VhostRoom};

use digest::{DIGEST_BYTES, Secret};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use keys::{Place, Segments};
use leveret_broker::exchange::Generation;
use named::Named;
use room::Grant;
use std::hash::BuildHasher as _;

/// The memory of the remembered answers of one exchange on one worker, in bytes.
pub const MEMO_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longer keys are not remembered.
const KEY_BYTES_MAX: usize = 1024;
/// A new segment is this part of what is there, so that not much goes with the oldest.
const SEGMENTS: usize = 16;
/// And at least this large, in bytes.
const SEGMENT_BYTES_MIN: usize = 1_024;
/// What a table takes for the first entries, at least, in bytes.
const TABLE_BYTES_MIN: usize = 256;
/// Keys whose questions are longer are worth a digest, in bytes.
const DIGEST_WORTH_BYTES: usize = 2 * DIGEST_BYTES;
/// The newest keys stay whole, in this part of the memory.
const WHOLE_KEYS_SHARE: usize = 8;
/// What has less than this part of its budget because there is no more room for all is not judged by its hits.
const JUDGED_SHARE: usize = 8;
/// After so many times that there was no room for one that wants it, it says so again.
const REFUSALS_PER_WANT: u32 = 1_024;
/// After so many lookups the worth of the memo is judged.
const JUDGED_AFTER_LOOKUPS: u64 = 16_384;
/// Fewer hits than one in this many lookups are not worth it.
const LOOKUPS_PER_HIT_MAX: u64 = 10;
/// How many lookups are left out after that.
const AWAY_LOOKUPS: u64 = 16 * JUDGED_AFTER_LOOKUPS;
/// How many keys that came once are noted while the memo is full.
const DOOR_PLACES: usize = 8192;
/// So many keys are asked about new bindings for each lookup since it was done last. To ask about
/// that many takes no longer than to ask about one that was forgotten.
const KEYS_ASKED_PER_LOOKUP_MAX: u64 = 4;
/// So many keys are searched for marks for each lookup since it was done last.
const KEYS_SEARCHED_PER_LOOKUP_MAX: u64 = 64;
/// So many keys are asked about however few lookups came.
const KEYS_ASKED_ALWAYS: u64 = 256;
/// How many keys are asked about in one call, and how many bytes of them.
const KEYS_PER_CALL_MAX: usize = 1024;
const CALL_BYTES_MAX: usize = 64 * 1024;
/// One hit in this many is audited; of the first ones each that is a power of two.
pub(crate) const HITS_PER_AUDIT: u64 = 4096;

/// Remembered answers.
///
/// What is kept for a key is an exchange type's answer ([`Kept`]), or an interceptor's verdict.
pub(crate) struct Memo<V = Kept> {
    generation: Generation,
    table: HashTable<Entry<V>>,
    keys: Segments,
    /// The keys of which only digests are kept.
    digests: Segments,
    secret: Option<Secret>,
    bytes_max: usize,
    grant: Grant,
    /// What is kept beside that belongs to it, in bytes.
    beside_bytes: usize,
    /// How often there was no room since it last took some.
    refusals: u32,
    /// Which tick it was last used in, as far as was looked, and how many lookups there were then.
    used_at: u64,
    lookups_at: u64,
    hasher: RandomState,
    /// Marks of keys that came once since the memo is full; empty before.
    door: Vec<u8>,
    lookups: u64,
    hits: u64,
    judged: Judged,
    /// Which bindings are named by answers.
    named: Named,
    /// How many lookups there had been when the guest was last asked about all keys.
    lookups_when_asked: u64,
    /// How many times a key was asked about once more.
    asked_again: u64,
    /// The hit that is audited next.
    audit_at: u64,
    /// How many lookups are still left out.
    away: u64,
}

/// When the worth was judged last.
#[derive(Default)]
struct Judged {
    lookups: u64,
    hits: u64,
    /// Everything was forgotten since.
    restarted: bool,
    /// There was no room since.
    starved: bool,
}

struct Entry<V> {
    kept: V,
    at: u32,
    segment: u16,
    /// The length of the key in bytes; above it [`TOUCHED`], [`NEW`] and [`DIGEST`].
    length_and_marks: u16,
}

/// The entry was hit since it was written.
const TOUCHED: u16 = 1 << 15;
/// The entry was not there when keys were last forgotten because they were too many.
const NEW: u16 = 1 << 14;
/// Of the key only a digest is kept.
const DIGEST: u16 = 1 << 13;
const _: () = assert!(size_of::<Entry<Kept>>() == 32 && KEY_BYTES_MAX < DIGEST as usize);

impl<V> Entry<V> {
    fn new(kept: V, place: Place, marks: u16) -> Self {
        Self { kept, at: place.at, segment: place.segment, length_and_marks: place.length | marks }
    }

    #[inline]
    fn place(&self) -> Place {
        Place {
            at: self.at,
            segment: self.segment,
            length: self.length_and_marks & !(TOUCHED | NEW | DIGEST),
        }
    }

    fn is_digest(&self) -> bool {
        self.length_and_marks & DIGEST != 0
    }

    fn is_touched(&self) -> bool {
        self.length_and_marks & TOUCHED != 0
    }
}

impl<V: Clone> Memo<V> {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            generation: Generation::default(),
            table: HashTable::new(),
            keys: Segments::default(),
            digests: Segments::of(KeyForm::Digest),
            secret: None,
            bytes_max,
            grant: Grant::default(),
            beside_bytes: 0,
            refusals: 0,
            used_at: 0,
            lookups_at: 0,
            hasher: RandomState::default(),
            door: Vec::new(),
            lookups: 0,
            hits: 0,
            judged: Judged::default(),
            named: Named::default(),
            lookups_when_asked: 0,
            asked_again: 0,
            audit_at: 1,
            away: 0,
        }
    }

    /// From now on the answers are those of this generation; those of another are forgotten.
    pub(crate) fn at_generation(&mut self, generation: Generation, form: KeyForm) {
        if self.generation != generation || self.keys.form != form {
            self.forget();
            self.keys.form = form;
            self.generation = generation;
            self.lookups_when_asked = self.lookups;
            self.judged.restarted |= self.lookups > self.judged.lookups;
        }
    }

    /// The answers were brought to this generation.
    pub(crate) fn carried_to(&mut self, generation: Generation) {
        self.generation = generation;
    }

    /// Forgets everything.
    pub(crate) fn forget(&mut self) {
        if !self.keys.is_empty() || !self.digests.is_empty() {
            self.table.clear();
            self.keys.clear();
            self.digests.clear();
            self.door.clear();
            self.named.clear();
        }
    }

    /// Whether nothing is to be looked up now, because it is away or may keep nothing.
    #[inline]
    pub(crate) fn leaves_out(&self) -> bool {
        self.away > 0 || self.bytes_max == 0
    }

    /// So many lookups were left out.
    pub(crate) fn left_out(&mut self, count: usize) {
        self.away = self.away.saturating_sub(count as u64);
    }

    /// Whether to look anything up now. Counts as a lookup where not.
    pub(crate) fn is_away(&mut self) -> bool {
        if self.away == 0 {
            return false;
        }
        self.away -= 1;
        true
    }

    /// Whether anything that is put may be taken now.
    pub(crate) fn takes_any(&self) -> bool {
        self.bytes_max > 0 && self.away == 0
    }

    /// A key is looked for, and not found so far: counts as a lookup.
    #[inline]
    pub(crate) fn looked_up(&mut self) {
        self.lookups += 1;
        if self.lookups - self.judged.lookups >= JUDGED_AFTER_LOOKUPS {
            self.judge();
        }
    }

    /// What is remembered for this key.
    #[inline]
    pub(crate) fn find(&mut self, key: &[u8]) -> Option<&V> {
        self.looked_up();
        if self.table.is_empty() {
            return None;
        }
        let hash = self.hasher.hash_one(key);
        if !self.digests.is_empty() {
            return self.find_among_digests(hash, key);
        }
        let keys = &self.keys;
        let entry = self.table.find_mut(hash, |entry| keys.key(entry.place()) == Some(key))?;
        if !entry.is_touched() {
            entry.length_and_marks |= TOUCHED;
        }
        self.hits += 1;
        Some(&entry.kept)
    }

    #[inline(never)]
    fn find_among_digests(&mut self, hash: u64, key: &[u8]) -> Option<&V> {
        let (keys, digests) = (&self.keys, &self.digests);
        let digest = self.secret.as_ref()?;
        let whole = |entry: &Entry<V>| is_of(entry, keys, digests, key, None);
        let entry = if digests.bytes() > keys.bytes() {
            // Most are digests.
            let digest = digest.digest(key);
            let is_it = |entry: &Entry<V>| is_of(entry, keys, digests, key, Some(&digest));
            match self.table.find_entry(digest::hash_of(&digest), is_it) {
                Ok(found) => found.into_mut(),
                Err(absent) => absent.into_table().find_mut(hash, whole)?,
            }
        } else {
            match self.table.find_entry(hash, whole) {
                Ok(found) => found.into_mut(),
                Err(absent) => {
                    let digest = digest.digest(key);
                    let is_it = |entry: &Entry<V>| is_of(entry, keys, digests, key, Some(&digest));
                    absent.into_table().find_mut(digest::hash_of(&digest), is_it)?
                }
            }
        };
        entry.length_and_marks |= TOUCHED;
        self.hits += 1;
        Some(&entry.kept)
    }

    /// Where the entry of a key is in the table, and its digest if only that is kept.
    fn whereabouts(&self, hash: u64, key: &[u8]) -> Option<(u64, Option<digest::Digest>)> {
        if self.table.find(hash, |entry| is_of(entry, &self.keys, &self.digests, key, None)).is_some() {
            return Some((hash, None));
        }
        let digest = self.secret.as_ref().filter(|_| !self.digests.is_empty())?.digest(key);
        Some((digest::hash_of(&digest), Some(digest)))
    }

    /// The key before came once more: counts as a lookup and a hit.
    #[inline]
    pub(crate) fn hit_again(&mut self) {
        self.lookups += 1;
        self.hits += 1;
    }

    /// Whether the last hit is one to be audited.
    #[inline]
    pub(crate) fn is_audit_due(&mut self) -> bool {
        if self.hits < self.audit_at {
            return false;
        }
        self.audit_at = self.hits + self.hits.min(HITS_PER_AUDIT);
        true
    }

    /// What is kept for a key, without counting.
    pub(crate) fn peek(&self, key: &[u8]) -> Option<&V> {
        let (hash, digest) = self.whereabouts(self.hasher.hash_one(key), key)?;
        let digest = digest.as_ref().map(|digest| digest.as_slice());
        let found = self.table.find(hash, |entry| is_of(entry, &self.keys, &self.digests, key, digest));
        found.map(|entry| &entry.kept)
    }

    /// Remembers what belongs to the memo's generation. `kept_bytes` is what it takes for itself, in
    /// bytes. False if it was not taken.
    pub(crate) fn put(&mut self, key: &[u8], kept: &V, kept_bytes: usize) -> bool {
        let bytes = self.keys.form.head_bytes() + key.len() + kept_bytes;
        if key.len() > KEY_BYTES_MAX || self.away > 0 || bytes > self.bytes_max / SEGMENTS {
            return false;
        }
        if self.peek(key).is_some() {
            return false;
        }
        let hash = self.hasher.hash_one(key);
        if !self.let_in(hash) || !self.make_room(key.len(), kept_bytes) {
            return false;
        }
        self.write(hash, key, kept.clone(), kept_bytes, NEW);
        true
    }

    /// Whether there is nothing.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// While there is room, every key; then those that come a second time.
    fn let_in(&mut self, hash: u64) -> bool {
        if self.door.is_empty() {
            return true;
        }
        let mark = (hash >> 56) as u8 | 1;
        // Two at a place, so that two keys that come in turn do not keep each other out for ever.
        let (places, _) = self.door.as_chunks_mut::<2>();
        let Some(place) = places.get_mut(hash as usize % (DOOR_PLACES / 2)) else { return true };
        if place.contains(&mark) {
            return true;
        }
        *place = [mark, place[0]];
        false
    }

    fn write(&mut self, hash: u64, key: &[u8], kept: V, kept_bytes: usize, marks: u16) {
        let capacity_bytes = self.segment_bytes();
        let Some(place) = self.keys.push(key, kept_bytes, capacity_bytes) else {
            return;
        };
        self.enter(hash, Entry::new(kept, place, marks));
    }

    fn enter(&mut self, hash: u64, entry: Entry<V>) {
        let (keys, digests, hasher) = (&self.keys, &self.digests, &self.hasher);
        self.table.insert_unique(hash, entry, |entry| hash_of(entry, keys, digests, hasher));
    }

    fn judge(&mut self) {
        let (lookups, hits) = (self.lookups - self.judged.lookups, self.hits - self.judged.hits);
        let is_starved = self.judged.starved && self.bytes() < self.bytes_max / JUDGED_SHARE;
        let full = !self.door.is_empty() && !is_starved;
        if hits < lookups / LOOKUPS_PER_HIT_MAX && (full || self.judged.restarted) {
            self.give_up();
            self.away = AWAY_LOOKUPS;
        }
        self.judged = Judged { lookups: self.lookups, hits: self.hits, ..Judged::default() };
    }
}

/// Whether an entry is that of a key: of which there is the digest if only that is kept.
#[inline]
fn is_of<V>(
    entry: &Entry<V>,
    keys: &Segments,
    digests: &Segments,
    key: &[u8],
    digest: Option<&[u8]>,
) -> bool {
    match digest {
        None => !entry.is_digest() && keys.key(entry.place()) == Some(key),
        Some(digest) => entry.is_digest() && digests.key(entry.place()) == Some(digest),
    }
}

/// Where an entry is in the table.
fn hash_of<V>(entry: &Entry<V>, keys: &Segments, digests: &Segments, hasher: &RandomState) -> u64 {
    match entry.is_digest() {
        true => digest::hash_of(digests.key(entry.place()).unwrap_or_default()),
        false => hasher.hash_one(keys.key(entry.place()).unwrap_or_default()),
    }
}
