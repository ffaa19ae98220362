//! Which messages of 4,096 consecutive sequences are there, and where.

use crate::record::op::{Range, Sequence};

/// How many sequences a chunk has.
pub(crate) const CHUNK_SEQUENCES: u64 = 1 << SEQUENCE_BITS;
const SEQUENCE_BITS: u32 = 12;
const LOW: u16 = (CHUNK_SEQUENCES - 1) as u16;

/// The message is gone; the entry only takes up space.
const GONE: u16 = 1 << 12;
/// It was delivered.
pub(crate) const DELIVERED: u16 = 1 << 13;
/// Other queues have it too, or had.
pub(crate) const SHARED: u16 = 1 << 14;
/// Its body is a file of its own.
pub(crate) const EXTENT: u16 = 1 << 15;

/// Where the payload of a message is, from its checksum on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Location {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
}

/// A message of a queue: 16 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    low_and_flags: u16,
    /// How often it was delivered; stays at the most.
    pub(crate) deliveries: u16,
    pub(crate) location: Location,
    pub(crate) bytes: u32,
}

const _: () = assert!(size_of::<Entry>() == 16);

impl Entry {
    pub(crate) fn new(sequence: Sequence, flags: u16, location: Location, bytes: u32) -> Self {
        let low_and_flags = (sequence as u16 & LOW) | (flags & !(LOW | GONE));
        Self { low_and_flags, deliveries: 0, location, bytes }
    }

    pub(crate) fn low(&self) -> u16 {
        self.low_and_flags & LOW
    }

    pub(crate) fn has(&self, flag: u16) -> bool {
        self.low_and_flags & flag != 0
    }

    pub(crate) fn flags(&self) -> u16 {
        self.low_and_flags & !(LOW | GONE)
    }

    fn is_live(&self) -> bool {
        !self.has(GONE)
    }

    pub(crate) fn deliver(&mut self) {
        self.low_and_flags |= DELIVERED;
        self.deliveries = self.deliveries.saturating_add(1);
    }
}

/// The messages of some consecutive sequences, and acks that came before their messages.
#[derive(Default)]
pub(crate) struct Chunk {
    /// In the order of their sequences.
    entries: Vec<Entry>,
    gone: usize,
    /// First and last, apart from each other.
    early: Vec<(u16, u16)>,
}

/// The number of the chunk that has a sequence.
pub(crate) fn number(sequence: Sequence) -> u64 {
    sequence >> SEQUENCE_BITS
}

/// The first sequence of a chunk.
pub(crate) fn first(number: u64) -> Sequence {
    number << SEQUENCE_BITS
}

/// Calls `each` with the chunks that a range concerns: the number, the first and the last place in it.
pub(crate) fn split(range: Range, mut each: impl FnMut(u64, u16, u16)) {
    let last = range.first + u64::from(range.count.max(1)) - 1;
    for chunk in number(range.first)..=number(last) {
        let from = if chunk == number(range.first) { range.first as u16 & LOW } else { 0 };
        let to = if chunk == number(last) { last as u16 & LOW } else { LOW };
        each(chunk, from, to);
    }
}

impl Chunk {
    /// Whether there is nothing to remember.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.len() == self.gone && self.early.is_empty()
    }

    /// How many messages there are.
    pub(crate) fn live(&self) -> usize {
        self.entries.len() - self.gone
    }

    /// The messages at a place and after it.
    pub(crate) fn live_from(&self, low: u16) -> impl Iterator<Item = &Entry> {
        let start = self.entries.partition_point(|entry| entry.low() < low);
        self.entries.get(start..).unwrap_or_default().iter().filter(|entry| entry.is_live())
    }

    /// Takes a message; false if it is there already or was acked.
    pub(crate) fn insert(&mut self, entry: Entry) -> bool {
        if !self.early.is_empty() && self.take_early(entry.low()) {
            return false;
        }
        let follows = self.entries.last().is_none_or(|last| last.low() < entry.low());
        let place = if follows {
            self.entries.len()
        } else {
            match self.entries.binary_search_by_key(&entry.low(), Entry::low) {
                Ok(_) => return false,
                Err(place) => place,
            }
        };
        self.entries.insert(place, entry);
        true
    }

    /// The message at a place.
    pub(crate) fn get_mut(&mut self, low: u16) -> Option<&mut Entry> {
        let place = self.entries.binary_search_by_key(&low, Entry::low).ok()?;
        self.entries.get_mut(place).filter(|entry| entry.is_live())
    }

    /// The messages from a place to another.
    pub(crate) fn live_mut(&mut self, from: u16, to: u16) -> impl Iterator<Item = &mut Entry> {
        let start = self.entries.partition_point(|entry| entry.low() < from);
        let rest = self.entries.get_mut(start..).unwrap_or_default();
        rest.iter_mut().take_while(move |entry| entry.low() <= to).filter(|entry| entry.is_live())
    }

    /// Removes the messages from a place to another, each handed to `gone`; remembers those that are not
    /// there yet.
    pub(crate) fn ack(&mut self, from: u16, to: u16, mut gone: impl FnMut(Entry)) {
        let start = self.entries.partition_point(|entry| entry.low() < from);
        let (mut next, mut removed) = (from, 0);
        for place in start..self.entries.len() {
            let Some(entry) = self.entries.get_mut(place).filter(|entry| entry.low() <= to) else { break };
            let low = entry.low();
            if entry.is_live() {
                entry.low_and_flags |= GONE;
                removed += 1;
                gone(*entry);
            }
            if low > next {
                self.early.push((next, low - 1));
            }
            next = low + 1;
        }
        if next <= to {
            self.early.push((next, to));
        }
        self.gone += removed;
        if self.gone > 64 && self.gone * 4 > self.entries.len() * 3 {
            self.entries.retain(Entry::is_live);
            self.entries.shrink_to_fit();
            self.gone = 0;
        }
        if self.early.len() > 1 {
            self.merge_early();
        }
    }

    fn merge_early(&mut self) {
        self.early.sort_unstable();
        self.early.dedup_by(|next, kept| {
            let touches = next.0 <= kept.1.saturating_add(1);
            if touches {
                kept.1 = kept.1.max(next.1);
            }
            touches
        });
    }

    fn take_early(&mut self, low: u16) -> bool {
        let Some(place) = self.early.iter().position(|(from, to)| (*from..=*to).contains(&low)) else {
            return false;
        };
        let (from, to) = self.early.swap_remove(place);
        if from < low {
            self.early.push((from, low - 1));
        }
        if low < to {
            self.early.push((low + 1, to));
        }
        true
    }

    /// Whoever was to send what was acked early is no more.
    pub(crate) fn forget_early(&mut self) {
        self.early = Vec::new();
    }

    pub(crate) fn early(&self) -> &[(u16, u16)] {
        &self.early
    }

    /// As it was remembered.
    pub(crate) fn restore(entries: Vec<Entry>, early: Vec<(u16, u16)>) -> Self {
        Self { entries, gone: 0, early }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::Dice;
    use std::collections::BTreeSet;

    fn entry(low: u16) -> Entry {
        Entry::new(low.into(), 0, Location { segment: 0, offset: low.into() }, 1)
    }

    #[test]
    fn a_chunk_is_the_set_of_what_came_and_was_not_acked_in_whatever_order() {
        for seed in 0..200 {
            let (mut dice, mut chunk) = (Dice::new(seed), Chunk::default());
            let (mut come, mut acked, mut live) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
            for _ in 0..300 {
                let low = dice.below(200) as u16;
                if dice.chance(512) {
                    // As the contract has it: nothing comes twice.
                    if !come.insert(low) {
                        continue;
                    }
                    let new = !acked.contains(&low);
                    assert_eq!(chunk.insert(entry(low)), new, "seed {seed}");
                    if new {
                        live.insert(low);
                    }
                } else {
                    let to = low + dice.below(5) as u16;
                    let unacked: Vec<u16> = (low..=to).filter(|low| !acked.contains(low)).collect();
                    // Nor is it acked twice.
                    for low in unacked {
                        acked.insert(low);
                        let mut gone = 0;
                        chunk.ack(low, low, |_| gone += 1);
                        assert_eq!(gone == 1, live.remove(&low), "seed {seed}");
                    }
                }
                assert_eq!(chunk.live(), live.len(), "seed {seed}");
            }
            let lows: Vec<u16> = chunk.live_from(0).map(Entry::low).collect();
            assert!(lows.iter().eq(live.iter()), "seed {seed}");
        }
    }

    #[test]
    fn a_range_is_split_where_chunks_end() {
        let mut parts = Vec::new();
        split(Range { first: 4090, count: 4110 }, |chunk, from, to| parts.push((chunk, from, to)));
        assert_eq!(parts, [(0, 4090, 4095), (1, 0, 4095), (2, 0, 7)]);
    }
}
