//! The ledger of a channel: what was delivered or got and waits for its acknowledgement.
//!
//! Entries are in the order of their delivery tags. Settled ones in the middle stay as tombstones
//! until they are more than the live ones; so finding a tag is mostly one look at the place where
//! it is without gaps, and never more than a binary search.

use crate::queue::MessageRef;
use alloc::collections::VecDeque;

/// How many tombstones are kept besides as many as there are live entries.
const TOMBSTONES_MAX: usize = 64;

const TOMBSTONE: u32 = u32::MAX;
/// Of `holder`: it was not settled in time and is in its queue again.
const LATE: u32 = 1 << 31;

/// A message that is not settled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) tag: u64,
    pub(super) message: MessageRef,
    /// Its place among the channel's holders.
    pub(super) holder: u32,
}

impl Entry {
    /// Its holder's place.
    pub(super) fn place(&self) -> u32 {
        self.holder & !LATE
    }

    /// Whether it is in its queue again, since it was not settled in time.
    pub(super) fn is_late(&self) -> bool {
        self.holder & LATE != 0
    }

    /// It is in its queue again.
    pub(super) fn set_late(&mut self) {
        self.holder |= LATE;
    }
}

#[derive(Default)]
pub(super) struct Unacked {
    entries: VecDeque<Entry>,
    live: usize,
}

impl Unacked {
    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// The first that is not settled, timed out or not.
    pub(super) fn first_tag(&self) -> Option<u64> {
        self.entries.iter().find(|entry| entry.holder != TOMBSTONE).map(|entry| entry.tag)
    }

    /// Those that are neither settled nor in their queues again, in their order.
    pub(super) fn outstanding_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut().filter(|entry| entry.holder & LATE == 0)
    }

    /// Adds an entry. Tags only go up.
    pub(super) fn push(&mut self, entry: Entry) {
        self.entries.push_back(entry);
        self.live += 1;
    }

    /// An entry.
    pub(super) fn get(&self, tag: u64) -> Option<&Entry> {
        self.entries.get(self.find(tag)?)
    }

    /// Takes out one entry.
    pub(super) fn take(&mut self, tag: u64) -> Option<Entry> {
        let index = self.find(tag)?;
        let entry = self.entries.get_mut(index)?;
        let taken = *entry;
        entry.holder = TOMBSTONE;
        self.live -= 1;
        if index == 0 {
            while self.entries.front().is_some_and(|entry| entry.holder == TOMBSTONE) {
                self.entries.pop_front();
            }
        } else if self.entries.len() - self.live > self.live + TOMBSTONES_MAX {
            self.entries.retain(|entry| entry.holder != TOMBSTONE);
        }
        Some(taken)
    }

    /// Takes out everything up to a tag, which must be an entry; all of it for `None`. `None` if
    /// there is no such entry.
    pub(super) fn take_up_to(&mut self, tag: Option<u64>) -> Option<impl Iterator<Item = Entry> + '_> {
        let count = match tag {
            Some(tag) => self.find(tag)? + 1,
            None => self.entries.len(),
        };
        let taken = self.entries.range(..count).filter(|entry| entry.holder != TOMBSTONE).count();
        self.live -= taken;
        Some(self.entries.drain(..count).filter(|entry| entry.holder != TOMBSTONE))
    }

    /// Puts entries back that were taken out.
    pub(super) fn put_back(&mut self, entries: impl Iterator<Item = Entry>) {
        self.entries.retain(|entry| entry.holder != TOMBSTONE);
        self.entries.extend(entries);
        self.entries.make_contiguous().sort_unstable_by_key(|entry| entry.tag);
        self.live = self.entries.len();
    }

    fn find(&self, tag: u64) -> Option<usize> {
        let first = self.entries.front()?.tag;
        let guess = usize::try_from(tag.checked_sub(first)?).unwrap_or(usize::MAX);
        let index = match self.entries.get(guess) {
            Some(entry) if entry.tag == tag => guess,
            _ => self.entries.binary_search_by_key(&tag, |entry| entry.tag).ok()?,
        };
        self.entries.get(index).filter(|entry| entry.holder != TOMBSTONE).map(|_| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn ledger(tags: impl IntoIterator<Item = u64>) -> Unacked {
        let mut unacked = Unacked::default();
        for tag in tags {
            let message = MessageRef { sequence: tag, segment: 0, offset: 0, lane: 0 };
            unacked.push(Entry { tag, message, holder: 0 });
        }
        unacked
    }

    #[test]
    fn takes_each_tag_once_in_any_order() {
        let mut unacked = ledger((1..=1000).filter(|tag| tag % 3 != 0));
        for tag in (1..=1000).rev() {
            assert_eq!(unacked.take(tag).map(|entry| entry.tag), (tag % 3 != 0).then_some(tag));
            assert!(unacked.take(tag).is_none());
            assert!(unacked.entries.len() <= 2 * unacked.live + TOMBSTONES_MAX + 1);
        }
        assert_eq!((unacked.len(), unacked.entries.len()), (0, 0));
    }

    #[test]
    fn one_stuck_tag_keeps_few_tombstones() {
        let mut unacked = ledger([1]);
        for tag in 2..100_000 {
            unacked.push(Entry {
                tag,
                message: MessageRef { sequence: tag, segment: 0, offset: 0, lane: 0 },
                holder: 0,
            });
            assert!(unacked.take(tag).is_some());
            assert!(unacked.entries.len() <= TOMBSTONES_MAX + 3);
        }
        assert_eq!(unacked.len(), 1);
    }

    #[test]
    fn multiple_takes_what_is_left_up_to_a_live_tag() {
        let mut unacked = ledger(1..=6);
        unacked.take(2);
        unacked.take(5);
        assert!(unacked.take_up_to(Some(5)).is_none(), "settled already");
        assert!(unacked.take_up_to(Some(7)).is_none(), "never there");
        let tags: Vec<_> = unacked.take_up_to(Some(4)).unwrap().map(|entry| entry.tag).collect();
        assert_eq!(tags, [1, 3, 4]);
        let tags: Vec<_> = unacked.take_up_to(None).unwrap().map(|entry| entry.tag).collect();
        assert_eq!(tags, [6]);
        assert_eq!(unacked.len(), 0);
        assert_eq!(unacked.take_up_to(None).unwrap().count(), 0);
    }
}
