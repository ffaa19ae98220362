//! Numbers that are never used again, for queues, for what is like one, and for the spaces of what plugins keep.
//!
//! A value says below which number all may be in use. It is raised by many at a time, before the first of them is
//! given out; as groups are written in the order in which they are taken, whatever has a number comes after that.

use super::{
    spaces::{NEXT_ID, OTHERS},
    topology,
};
use leveret_broker::store::KeptId;
use leveret_store::{Group, Store, Sync};
use parking_lot::Mutex;

/// The first number: those below are the topology's spaces.
const FIRST: u64 = 64;
/// By how much the value is raised.
const BLOCK: u64 = 1024;

pub(super) struct Ids(Mutex<Block>);

struct Block {
    next: u64,
    end: u64,
}

impl Ids {
    /// Goes on after all numbers that a store ever gave out.
    pub(super) fn open(store: &Store) -> Self {
        let mut next = FIRST;
        store.values_with(OTHERS, NEXT_ID, |_, value, _| {
            next = next.max(value.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)));
        });
        // The value may be lost where the disk was damaged; the queues are not, then.
        let queues = store.queues().into_iter().map(|(id, ..)| KeptId(id.0).queue().0);
        let spaces = store.spaces().into_iter().map(|space| space.0);
        let exchanges = topology::exchange_numbers(store).into_values().flatten().map(|id| id.0);
        next = next.max(queues.chain(spaces).chain(exchanges).max().map_or(0, |last| last + 1));
        Self(Mutex::new(Block { next, end: next }))
    }

    /// The next one.
    pub(super) fn next(&self, store: &Store) -> u64 {
        let mut block = self.0.lock();
        if block.next == block.end {
            block.end += BLOCK;
            let mut group = Group::default();
            group.set(OTHERS, NEXT_ID, &block.end.to_le_bytes(), 0);
            // Once the store is closed nothing that has the number is taken either.
            let _ = store.submit_admitted(&mut group, Sync::Ride, None);
        }
        block.next += 1;
        block.next - 1
    }
}
