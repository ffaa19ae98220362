//! How remembered answers follow the bindings: what went is taken out, what came is asked about alone.

use super::{
    CALL_BYTES_MAX, Entry, KEYS_ASKED_ALWAYS, KEYS_ASKED_PER_LOOKUP_MAX, KEYS_PER_CALL_MAX,
    KEYS_SEARCHED_PER_LOOKUP_MAX, Kept, Marks, Memo, NEW, TOUCHED,
    keys::{Place, Segments},
};
use crate::guest::{Decision, Decisions};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use leveret_broker::{exchange::BindingId, port::Answer};
use std::hash::BuildHasher as _;

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
            self.name(&kept.ids().unwrap_or_default());
            self.fit();
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
        self.forget_digests();
        let (table, keys) = (std::mem::take(&mut self.table), self.keys.start_anew());
        for entry in table.into_iter().filter(|entry| entry.length_and_marks & (TOUCHED | NEW) != 0) {
            let Some(key) = keys.key(entry.place()) else {
                continue;
            };
            let answer_bytes = size_of::<BindingId>() * entry.kept.ids().map_or(0, |ids| ids.len());
            self.write(self.hasher.hash_one(key), key, entry.kept, answer_bytes, 0);
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
        if !gone.iter().any(|id| self.named.contains(*id)) {
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
        self.forget_digests();
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
        }
        self.fit();
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

    /// What only digests are kept of cannot be asked about, so it is forgotten.
    fn forget_digests(&mut self) {
        if !self.digests.is_empty() {
            self.table.retain(|entry| !entry.is_digest());
            self.digests.clear();
        }
    }

    fn name(&mut self, ids: &[BindingId]) {
        self.named.insert(ids);
        if self.named.is_crowded() {
            self.named.grow();
            self.table.iter().for_each(|entry| self.named.insert(&entry.kept.ids().unwrap_or_default()));
        }
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
