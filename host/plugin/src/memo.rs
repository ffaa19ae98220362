//! Remembered answers of one exchange on one worker.
//!
//! The key is the projection that a guest would get (of an exchange that reads the routing key
//! alone: the key itself), the value its answer. All entries belong to one generation of the
//! exchange, which the owner compares before it uses the memo. Nothing relies on being told of a
//! change.
//!
//! *Memory.* [`MEMO_BYTES_MAX`] by default. Keys lie back to back in segments ([`keys`]); an entry
//! of the table knows where. Entries, keys and answers are charged to the budget. When it is used
//! up, the oldest segment goes: entries hit since they were written move to the newest one, the
//! others are forgotten. From then on a key is only taken when it is asked for a second time, so
//! that keys which never come again do not drive out those which do.
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

mod kept;
mod keys;
mod marks;
#[cfg(test)]
mod tests;

pub(crate) use kept::{Kept, Many};
pub(crate) use keys::KeyForm;
pub(crate) use marks::{MARKS_MAX, Marks};

use crate::guest::{Decision, Decisions};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use keys::{Place, Segments};
use leveret_broker::{
    exchange::{BindingId, Generation},
    port::Answer,
};
use std::hash::BuildHasher as _;

/// The memory of the remembered answers of one exchange on one worker, in bytes.
pub const MEMO_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longer keys are not remembered.
const KEY_BYTES_MAX: usize = 1024;
/// How many segments of keys a full memo has.
const SEGMENTS: usize = 8;
/// What an entry takes in the table, with the table's spare room, and beside its key, in bytes.
const ENTRY_BYTES: usize = 56;
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
/// How many slots of bindings are told apart in [`Memo::named`].
const SLOTS_NAMED: usize = 1 << 16;
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
    bytes: usize,
    bytes_max: usize,
    hasher: RandomState,
    /// Marks of keys that came once since the memo is full; empty before.
    door: Vec<u8>,
    lookups: u64,
    hits: u64,
    judged: Judged,
    /// Which bindings are named by answers, by their ids' slots and some others with them; one bit
    /// each. Empty while none is.
    named: Vec<u64>,
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
}

struct Entry<V> {
    kept: V,
    at: u32,
    segment: u16,
    /// The length of the key in bytes; above it [`TOUCHED`] and [`NEW`].
    length_and_marks: u16,
}

/// The entry was hit since it was written.
const TOUCHED: u16 = 1 << 15;
/// The entry was not there when keys were last forgotten because they were too many.
const NEW: u16 = 1 << 14;
const _: () = assert!(size_of::<Entry<Kept>>() == 32 && KEY_BYTES_MAX < NEW as usize);

impl<V> Entry<V> {
    fn new(kept: V, place: Place, marks: u16) -> Self {
        Self { kept, at: place.at, segment: place.segment, length_and_marks: place.length | marks }
    }

    #[inline]
    fn place(&self) -> Place {
        Place { at: self.at, segment: self.segment, length: self.length_and_marks & !(TOUCHED | NEW) }
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
            bytes: 0,
            bytes_max,
            hasher: RandomState::default(),
            door: Vec::new(),
            lookups: 0,
            hits: 0,
            judged: Judged::default(),
            named: Vec::new(),
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
        if !self.keys.is_empty() {
            self.table.clear();
            self.keys.clear();
            self.door.clear();
            self.named.clear();
            self.bytes = 0;
        }
    }

    /// Whether to look anything up now. Counts as a lookup where not.
    pub(crate) fn is_away(&mut self) -> bool {
        if self.away == 0 {
            return false;
        }
        self.away -= 1;
        true
    }

    /// What is remembered for this key.
    #[inline]
    pub(crate) fn find(&mut self, key: &[u8]) -> Option<&V> {
        self.lookups += 1;
        if self.lookups - self.judged.lookups >= JUDGED_AFTER_LOOKUPS {
            self.judge();
        }
        let hash = self.hasher.hash_one(key);
        let keys = &self.keys;
        let entry = self.table.find_mut(hash, |entry| keys.key(entry.place()) == Some(key))?;
        if !entry.is_touched() {
            entry.length_and_marks |= TOUCHED;
        }
        self.hits += 1;
        Some(&entry.kept)
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
        let hash = self.hasher.hash_one(key);
        self.table.find(hash, |entry| self.keys.key(entry.place()) == Some(key)).map(|entry| &entry.kept)
    }

    /// Remembers what belongs to the memo's generation. `kept_bytes` is what it takes for itself, in
    /// bytes. False if it was not taken.
    pub(crate) fn put(&mut self, key: &[u8], kept: &V, kept_bytes: usize) -> bool {
        let bytes = ENTRY_BYTES + self.keys.form.head_bytes() + key.len() + kept_bytes;
        if key.len() > KEY_BYTES_MAX || self.away > 0 || bytes > self.bytes_max / SEGMENTS {
            return false;
        }
        let hash = self.hasher.hash_one(key);
        let keys = &self.keys;
        if self.table.find(hash, |entry| keys.key(entry.place()) == Some(key)).is_some() || !self.let_in(hash)
        {
            return false;
        }
        while self.bytes + bytes > self.bytes_max {
            self.drop_oldest_segment();
        }
        self.write(hash, key, kept.clone(), bytes, NEW);
        true
    }

    /// Whether there is nothing.
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
        match self.door.get_mut(hash as usize % DOOR_PLACES) {
            Some(place) if *place == mark => true,
            Some(place) => {
                *place = mark;
                false
            }
            None => true,
        }
    }

    fn write(&mut self, hash: u64, key: &[u8], kept: V, bytes: usize, marks: u16) {
        let Some(place) = self.keys.push(key, bytes, self.bytes_max / SEGMENTS) else {
            return;
        };
        self.bytes += bytes;
        let (keys, hasher) = (&self.keys, &self.hasher);
        self.table.insert_unique(hash, Entry::new(kept, place, marks), |entry| {
            hasher.hash_one(keys.key(entry.place()).unwrap_or_default())
        });
    }

    fn drop_oldest_segment(&mut self) {
        self.door.resize(DOOR_PLACES, 0);
        let Some(oldest) = self.keys.pop_oldest() else {
            return;
        };
        self.bytes -= oldest.segment.bytes;
        // What was hit moves on, at most half of it, so that there is always room afterwards. It is
        // written when the table knows nothing of the segment any more: to grow, the table reads
        // the keys of all its entries.
        let mut moved_bytes_left = oldest.segment.bytes / 2;
        let mut moving = Vec::new();
        for (place, key, bytes) in oldest.keys() {
            let hash = self.hasher.hash_one(key);
            let found = self.table.find_entry(hash, |entry| entry.place() == place);
            let Ok((entry, _)) = found.map(|found| found.remove()) else {
                continue;
            };
            if entry.is_touched() && bytes <= moved_bytes_left {
                moved_bytes_left -= bytes;
                moving.push((hash, key, entry.kept, bytes));
            }
        }
        for (hash, key, kept, bytes) in moving {
            self.write(hash, key, kept, bytes, 0);
        }
    }

    fn judge(&mut self) {
        let (lookups, hits) = (self.lookups - self.judged.lookups, self.hits - self.judged.hits);
        let full = !self.door.is_empty();
        if hits < lookups / LOOKUPS_PER_HIT_MAX && (full || self.judged.restarted) {
            self.forget();
            self.table = HashTable::new();
            self.away = AWAY_LOOKUPS;
        }
        self.judged = Judged { lookups: self.lookups, hits: self.hits, restarted: false };
    }
}

impl Memo {
    /// The answer remembered for this key.
    #[inline]
    pub(crate) fn get(&mut self, key: &[u8]) -> Option<Answer> {
        self.find(key).map(Kept::answer)
    }

    /// Remembers an answer of the memo's generation. `answer_bytes` is what the answer takes for
    /// itself, in bytes.
    pub(crate) fn insert(&mut self, key: &[u8], kept: &Kept, answer_bytes: usize) {
        if self.put(key, kept, answer_bytes) {
            self.name(kept.ids().unwrap_or_default());
        }
    }

    /// Makes the keys fewer where there are too many, for the lookups since the guest was asked about
    /// keys last: those that were neither written nor hit since keys were last forgotten here go. Gives
    /// whether any may have.
    fn forget_above(&mut self, keys: usize, keys_per_lookup_max: u64) -> bool {
        let since = self.lookups - self.lookups_when_asked;
        if keys as u64 <= KEYS_ASKED_ALWAYS.max(since.saturating_mul(keys_per_lookup_max)) {
            return false;
        }
        let (table, keys) = (std::mem::take(&mut self.table), self.keys.start_anew());
        self.bytes = 0;
        for entry in table.into_iter().filter(|entry| entry.length_and_marks & (TOUCHED | NEW) != 0) {
            let Some(key) = keys.key(entry.place()) else {
                continue;
            };
            let ids = entry.kept.ids().map_or(0, <[BindingId]>::len);
            let bytes = ENTRY_BYTES + self.keys.form.head_bytes() + key.len() + size_of::<BindingId>() * ids;
            self.write(self.hasher.hash_one(key), key, entry.kept, bytes, 0);
        }
        true
    }

    /// Takes bindings out of all answers that name them. `resolve` gives what is to be kept for
    /// the others, and what that takes, in bytes.
    pub(crate) fn remove_bindings(
        &mut self,
        gone: &[BindingId],
        mut resolve: impl FnMut(&[BindingId]) -> (Kept, usize),
    ) {
        if !gone.iter().any(|id| self.is_named(*id)) {
            return;
        }
        for entry in &mut self.table {
            let Some(ids) = entry.kept.ids() else {
                continue;
            };
            if ids.iter().any(|id| gone.contains(id)) {
                let left: Vec<BindingId> = ids.iter().copied().filter(|id| !gone.contains(id)).collect();
                // What it takes is less than what is charged already.
                (entry.kept, _) = resolve(&left);
            }
        }
    }

    /// Adds to the answers what new bindings decide; only questions with one of the marks can be
    /// concerned, if there are marks. `ask` gives the bindings' decisions alone for so many questions back
    /// to back, `resolve` what is to be kept for bindings.
    ///
    /// # Errors
    /// That of `ask`; or [`NotAUnion`] where a decision is not to bindings. The memo is of no use
    /// then.
    pub(crate) fn add_bindings<E: From<NotAUnion>>(
        &mut self,
        marks: Option<&Marks<'_>>,
        mut ask: impl FnMut(&[u8], usize) -> Result<Decisions, E>,
        resolve: impl FnMut(&[BindingId]) -> (Kept, usize),
    ) -> Result<(), E> {
        let marked = marks.map(|marks| self.marked(marks));
        if marked.is_none() {
            self.forget_above(self.table.len(), KEYS_ASKED_PER_LOOKUP_MAX);
        }
        self.lookups_when_asked = self.lookups;
        let (keys, hasher) = (&self.keys, &self.hasher);
        let mut adding = Adding::new(&mut self.table, keys, hasher, resolve);
        match marked {
            Some(places) => {
                let mut questions = Vec::new();
                let mut left = places.as_slice();
                while !left.is_empty() {
                    let (these, rest) = left.split_at(keys.put_questions(left, &mut questions));
                    adding.add(&ask(&questions, these.len())?, |index| these.get(index).copied())?;
                    left = rest;
                }
            }
            None => {
                for questions in keys.questions(KEYS_PER_CALL_MAX, CALL_BYTES_MAX) {
                    let decisions = ask(questions.bytes, questions.count())?;
                    adding.add(&decisions, |index| questions.place(index))?;
                }
            }
        }
        let Added { ids, charges, questions } = adding.added;
        self.asked_again += questions;
        self.name(&ids);
        for (segment, bytes) in charges {
            self.keys.charge(segment, bytes);
            self.bytes += bytes;
        }
        while self.bytes > self.bytes_max {
            self.drop_oldest_segment();
        }
        Ok(())
    }

    /// How many times a key was asked about once more since that was last asked.
    pub(crate) fn take_asked_again(&mut self) -> u64 {
        std::mem::take(&mut self.asked_again)
    }

    /// Where the keys are that have one of the marks.
    fn marked(&mut self, marks: &Marks<'_>) -> Vec<Place> {
        self.forget_above(self.table.len(), KEYS_SEARCHED_PER_LOOKUP_MAX);
        let places = self.keys.marked(marks);
        match self.forget_above(places.len(), KEYS_ASKED_PER_LOOKUP_MAX) {
            true => self.keys.marked(marks),
            false => places,
        }
    }

    fn name(&mut self, ids: &[BindingId]) {
        if self.named.is_empty() && !ids.is_empty() {
            self.named.resize(SLOTS_NAMED / 64, 0);
        }
        for id in ids {
            let slot = id.0 as usize % SLOTS_NAMED;
            if let Some(bits) = self.named.get_mut(slot / 64) {
                *bits |= 1 << (slot % 64);
            }
        }
    }

    /// Whether an answer may name a binding.
    fn is_named(&self, id: BindingId) -> bool {
        let slot = id.0 as usize % SLOTS_NAMED;
        self.named.get(slot / 64).is_some_and(|bits| bits & 1 << (slot % 64) != 0)
    }
}

/// Adds decisions to what is remembered.
struct Adding<'a, R> {
    table: &'a mut HashTable<Entry<Kept>>,
    keys: &'a Segments,
    hasher: &'a RandomState,
    resolve: R,
    added: Added,
}

/// What was added.
#[derive(Default)]
struct Added {
    ids: Vec<BindingId>,
    /// What the new answers of a segment take, in bytes.
    charges: Vec<(u16, usize)>,
    questions: u64,
}

impl<'a, R: FnMut(&[BindingId]) -> (Kept, usize)> Adding<'a, R> {
    fn new(
        table: &'a mut HashTable<Entry<Kept>>,
        keys: &'a Segments,
        hasher: &'a RandomState,
        resolve: R,
    ) -> Self {
        Self { table, keys, hasher, resolve, added: Added::default() }
    }

    /// Adds the decisions for keys at these places, by their positions among the decisions.
    fn add(
        &mut self,
        decisions: &Decisions,
        place: impl Fn(usize) -> Option<Place>,
    ) -> Result<(), NotAUnion> {
        for (index, decision) in decisions.iter().enumerate() {
            self.added.questions += 1;
            let Decision::Deliver(new) = decision else {
                return Err(NotAUnion);
            };
            let Some(place) = place(index).filter(|_| !new.is_empty()) else {
                continue;
            };
            let hash = self.hasher.hash_one(self.keys.key(place).unwrap_or_default());
            let Some(entry) = self.table.find_mut(hash, |entry| entry.place() == place) else {
                continue;
            };
            let mut ids = entry.kept.ids().ok_or(NotAUnion)?.to_vec();
            ids.extend(new.iter().filter(|id| !entry.kept.ids().is_some_and(|old| old.contains(id))));
            self.added.ids.extend_from_slice(new);
            let (kept, bytes) = (self.resolve)(&ids);
            entry.kept = kept;
            self.added.charges.push((place.segment, bytes));
        }
        Ok(())
    }
}

/// A type whose decisions are to be the union of what each binding decides gave one that is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotAUnion;
