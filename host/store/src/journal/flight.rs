//! Batches that were written and are not known to be on disk.

use super::inbox::Chunk;
use crate::disk::File;
use std::{collections::VecDeque, sync::Arc};

/// A sync is made when so much was written since the last, even if nobody asks.
pub(crate) const UNSYNCED_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Beyond so many nothing more is written: the disk does not keep up.
const IN_FLIGHT_BYTES_MAX: u64 = 2 * UNSYNCED_BYTES_MAX;

/// A batch, still in memory.
pub(crate) struct Batch {
    pub(crate) number: u64,
    pub(crate) segment: u64,
    /// The segment's file.
    pub(crate) file: Arc<dyn File>,
    /// Where it is in the segment.
    pub(crate) offset: u64,
    pub(crate) chunk: Chunk,
    /// The index has it.
    pub(crate) applied: bool,
}

/// What is in flight, in order.
#[derive(Default)]
pub(crate) struct Flight {
    pub(crate) batches: VecDeque<Batch>,
    /// Up to here all is on disk.
    pub(crate) synced: u64,
    /// Up to here somebody waits for that.
    pub(crate) wanted: u64,
    /// When the next sync is due, if nobody wants one before.
    pub(crate) due_ms: Option<u64>,
    pub(crate) unsynced_bytes: u64,
    /// A sync is under way.
    pub(crate) syncing: bool,
    /// A sync or a write failed: all of it is to be written again elsewhere.
    pub(crate) failed: bool,
    /// How often it was to be written again since a sync succeeded last.
    pub(crate) attempts: u32,
    /// Not to be tried again before.
    pub(crate) retry_at_ms: u64,
    /// How often it was written again.
    pub(crate) rescues: u64,
}

impl Flight {
    /// A batch was written, or was to be.
    pub(crate) fn push(&mut self, batch: Batch, now_ms: u64) {
        self.unsynced_bytes += batch.chunk.bytes.len() as u64;
        if batch.chunk.sync_now || self.unsynced_bytes > UNSYNCED_BYTES_MAX {
            self.wanted = batch.number;
        }
        if let Some(within) = batch.chunk.sync_within_ms {
            let due = now_ms + u64::from(within);
            self.due_ms = Some(self.due_ms.map_or(due, |before| before.min(due)));
        }
        self.batches.push_back(batch);
    }

    /// Whether nothing more is to be written for now.
    pub(crate) fn is_too_much(&self) -> bool {
        self.unsynced_bytes > IN_FLIGHT_BYTES_MAX
    }

    /// Whether the journal does what it should.
    pub(crate) fn is_well(&self) -> bool {
        !self.failed && self.attempts == 0
    }

    /// Somebody waits for the sync of all that was written.
    pub(crate) fn want_all(&mut self) {
        self.wanted = self.batches.back().map_or(self.wanted, |batch| batch.number);
    }

    /// Whether a sync is to be made now.
    pub(crate) fn is_due(&self, now_ms: u64) -> bool {
        let due = self.wanted > self.synced || self.due_ms.is_some_and(|due| due <= now_ms);
        due && !self.failed && !self.syncing && !self.batches.is_empty()
    }

    /// The last batch of the segment that is to be synced next.
    pub(crate) fn next(&self) -> Option<&Batch> {
        let segment = self.batches.front()?.segment;
        self.batches.iter().take_while(|batch| batch.segment == segment).last()
    }
}
