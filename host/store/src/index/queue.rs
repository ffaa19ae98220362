//! The messages of one queue.

use super::chunk::{self, Chunk, Entry};
use crate::record::op::{Range, Sequence};
use std::collections::BTreeMap;

/// The messages of a queue, by their sequences.
#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) chunks: BTreeMap<u64, Chunk>,
    /// One more than the highest sequence that was named.
    pub(crate) next: Sequence,
    /// What is before this was there before an unclean end.
    pub(crate) doubtful_below: Sequence,
    pub(crate) live: u64,
    /// During recovery: up to which chunk, exclusive, the checkpoint has it as of which batch.
    pub(crate) spans: Vec<(u64, u64)>,
}

impl Queue {
    /// Whether the checkpoint already has what a batch did to a chunk.
    fn knows(&self, chunk: u64, batch: u64) -> bool {
        !self.spans.is_empty()
            && self.spans.iter().find(|(end, _)| chunk < *end).is_some_and(|(_, position)| batch <= *position)
    }

    /// Takes a message; false if it has it, had it, or it was acked before.
    pub(super) fn insert(&mut self, sequence: Sequence, entry: Entry, batch: u64) -> bool {
        let number = chunk::number(sequence);
        if self.knows(number, batch) {
            return false;
        }
        self.next = self.next.max(sequence.saturating_add(1));
        let chunk = self.chunks.entry(number).or_default();
        let taken = chunk.insert(entry);
        self.live += u64::from(taken);
        if chunk.is_empty() {
            self.chunks.remove(&number);
        }
        taken
    }

    pub(crate) fn get(&self, sequence: Sequence) -> Option<&Entry> {
        let low = chunk::first(chunk::number(sequence));
        let chunk = self.chunks.get(&chunk::number(sequence))?;
        chunk
            .live_from((sequence - low) as u16)
            .next()
            .filter(|entry| u64::from(entry.low()) + low == sequence)
    }

    pub(super) fn get_mut(&mut self, sequence: Sequence, batch: u64) -> Option<&mut Entry> {
        let number = chunk::number(sequence);
        if self.knows(number, batch) {
            return None;
        }
        self.chunks.get_mut(&number)?.get_mut((sequence - chunk::first(number)) as u16)
    }

    pub(super) fn deliver(&mut self, range: Range, batch: u64) {
        chunk::split(range, |number, from, to| {
            if !self.knows(number, batch)
                && let Some(chunk) = self.chunks.get_mut(&number)
            {
                chunk.live_mut(from, to).for_each(Entry::deliver);
            }
        });
    }

    pub(super) fn ack(&mut self, range: Range, batch: u64, mut gone: impl FnMut(Entry)) {
        self.next = self.next.max(range.first + u64::from(range.count));
        chunk::split(range, |number, from, to| {
            if self.knows(number, batch) {
                return;
            }
            let chunk = self.chunks.entry(number).or_default();
            let before = chunk.live();
            chunk.ack(from, to, &mut gone);
            self.live -= (before - chunk.live()) as u64;
            if chunk.is_empty() {
                self.chunks.remove(&number);
            }
        });
    }

    /// Calls `each` with every message, in order.
    pub(crate) fn each(&self, mut each: impl FnMut(Sequence, Entry)) {
        for (number, chunk) in &self.chunks {
            let first = chunk::first(*number);
            chunk.live_from(0).for_each(|entry| each(first + u64::from(entry.low()), *entry));
        }
    }

    /// The messages from a sequence on, in order.
    pub(crate) fn from(&self, sequence: Sequence) -> impl Iterator<Item = (Sequence, &Entry)> {
        let start = chunk::number(sequence);
        self.chunks.range(start..).flat_map(move |(number, chunk)| {
            let first = chunk::first(*number);
            let low = if *number == start { (sequence - first) as u16 } else { 0 };
            chunk.live_from(low).map(move |entry| (first + u64::from(entry.low()), entry))
        })
    }

    /// How many messages have these sequences.
    pub(crate) fn count(&self, sequences: core::ops::Range<Sequence>) -> u64 {
        if sequences.is_empty() {
            return 0;
        }
        let last = sequences.end - 1;
        let chunks = self.chunks.range(chunk::number(sequences.start)..=chunk::number(last));
        let counts = chunks.map(|(number, chunk)| {
            let first = chunk::first(*number);
            let whole = first >= sequences.start && first + (chunk::CHUNK_SEQUENCES - 1) <= last;
            if whole {
                return chunk.live() as u64;
            }
            let from = sequences.start.saturating_sub(first) as u16;
            let live = chunk.live_from(from).take_while(|entry| first + u64::from(entry.low()) <= last);
            live.count() as u64
        });
        counts.sum()
    }

    /// Whether a message counts as delivered before.
    pub(crate) fn is_redelivered(&self, sequence: Sequence, entry: &Entry) -> bool {
        entry.has(chunk::DELIVERED) || sequence < self.doubtful_below
    }

    pub(super) fn settle(&mut self, unclean: bool) {
        self.spans = Vec::new();
        if unclean {
            self.doubtful_below = self.next;
        }
        self.chunks.values_mut().for_each(Chunk::forget_early);
        self.chunks.retain(|_, chunk| !chunk.is_empty());
    }
}
