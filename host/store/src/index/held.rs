//! How much of each segment is live, and which messages several queues have.

use super::chunk::{self, Entry, Location};
use crate::record::op::ExtentRef;
use hashbrown::HashMap;
use std::collections::BTreeMap;

type ByLocation<T> = HashMap<Location, T, foldhash::fast::RandomState>;

/// Messages, and the bytes of their payloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    /// The bytes of all that ever came there.
    pub(crate) placed_bytes: u64,
}

/// What is held where.
#[derive(Default)]
pub(crate) struct Held {
    pub(super) space: BTreeMap<u32, Live>,
    /// How many queues have a message, where that were more than one.
    shared: ByLocation<u32>,
    pub(crate) extents: ByLocation<ExtentRef>,
    /// How many of those there are of each number.
    referring: HashMap<u64, u32, foldhash::fast::RandomState>,
    /// The bytes of those, each number once.
    pub(crate) extent_bytes: u64,
    /// Extents of messages that are gone, and the batch since which they are.
    pub(crate) dead_extents: Vec<(u64, u64)>,
    pub(crate) live: Live,
}

impl Held {
    /// So many more queues have the message.
    pub(super) fn hold(&mut self, location: Location, bytes: u32, queues: u32, flags: u16) {
        if queues == 0 {
            return;
        }
        if flags & chunk::SHARED != 0 {
            let holders = self.shared.entry(location).or_default();
            *holders += queues;
            if *holders > queues {
                return;
            }
        }
        for live in [&mut self.live, self.space.entry(location.segment).or_default()] {
            live.messages += 1;
            live.bytes += u64::from(bytes);
            live.placed_bytes += u64::from(bytes);
        }
    }

    /// A message of a queue was read from a checkpoint.
    pub(super) fn restore(&mut self, entry: &Entry) {
        self.hold(entry.location, entry.bytes, 1, entry.flags());
    }

    /// A queue no longer has a message.
    pub(super) fn release(&mut self, entry: Entry, batch: u64) {
        if let Some(extent) = self.let_go(entry) {
            self.dead_extents.push((batch, extent.number));
        }
    }

    /// A queue no longer has a message at its place. Gives its extent if no message has that.
    pub(super) fn let_go(&mut self, entry: Entry) -> Option<ExtentRef> {
        let location = entry.location;
        if entry.has(chunk::SHARED)
            && let Some(holders) = self.shared.get_mut(&location)
        {
            *holders -= 1;
            if *holders > 0 {
                return None;
            }
            self.shared.remove(&location);
        }
        for live in [&mut self.live, self.space.entry(location.segment).or_default()] {
            live.messages = live.messages.saturating_sub(1);
            live.bytes = live.bytes.saturating_sub(u64::from(entry.bytes));
        }
        if !entry.has(chunk::EXTENT) {
            return None;
        }
        let extent = self.extents.remove(&location)?;
        if self.is_last(extent) { Some(extent) } else { None }
    }

    /// The body of the message there is a file of its own.
    pub(super) fn put_apart(&mut self, location: Location, extent: ExtentRef) {
        let referring = self.referring.entry(extent.number).or_default();
        *referring += 1;
        if *referring == 1 {
            self.extent_bytes += extent.bytes;
        }
        if let Some(before) = self.extents.insert(location, extent) {
            self.is_last(before);
        }
    }

    /// One place less refers to an extent; whether none does now.
    fn is_last(&mut self, extent: ExtentRef) -> bool {
        let Some(referring) = self.referring.get_mut(&extent.number) else { return true };
        *referring -= 1;
        let is_last = *referring == 0;
        if is_last {
            self.referring.remove(&extent.number);
            self.extent_bytes -= extent.bytes;
        }
        is_last
    }

    /// Whether a message that is live has that body.
    pub(crate) fn refers_to(&self, extent: u64) -> bool {
        self.referring.contains_key(&extent)
    }

    /// How much of a segment is live.
    pub(crate) fn of(&self, segment: u32) -> Live {
        self.space.get(&segment).copied().unwrap_or_default()
    }

    /// A segment is from before: what came there and is gone was not counted.
    pub(crate) fn was_filled(&mut self, segment: u32, bytes: u64) {
        if let Some(live) = self.space.get_mut(&segment) {
            live.placed_bytes = bytes;
        }
    }

    /// A segment is gone.
    pub(crate) fn forget(&mut self, segment: u32) {
        self.space.remove(&segment);
    }
}
