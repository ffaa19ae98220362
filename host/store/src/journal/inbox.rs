//! Where groups wait to be written.

use super::{Sync, own::Own};
use crate::{Config, Done, error::Refused, record::frame::BATCH_HEADER_BYTES};
use std::{collections::VecDeque, sync::Arc};

/// How many buffers are kept for later.
const POOL_MAX: usize = 8;
/// Buffers that have grown beyond are not.
const POOL_BYTES_MAX: usize = 8 * 1024 * 1024;

/// While a sync is under way fewer bytes than that wait for its end: they can be synced no earlier, and each
/// batch fills up a block.
const HELD_BYTES: usize = 128 * 1024;

/// What is copied forward may wait with that part of what may come; whoever publishes has the rest.
const COPIES_PART: usize = 4;

/// Who is told when a group is safe.
pub(crate) struct Waiter {
    pub(crate) done: Arc<dyn Done>,
    pub(crate) token: u64,
    pub(crate) sync: Sync,
}

/// Groups that are written together.
#[derive(Default)]
pub(crate) struct Chunk {
    /// Room for the header, then groups.
    pub(crate) bytes: Vec<u8>,
    pub(crate) groups: u32,
    /// How much of it is copied forward.
    copied_bytes: usize,
    pub(crate) waiters: Vec<Waiter>,
    /// Whether a group of it takes space for long.
    pub(crate) grows: bool,
    /// Whether a group of it asks for a sync.
    pub(crate) sync_now: bool,
    /// By when the first is to be synced that asks for that.
    pub(crate) sync_within_ms: Option<u32>,
    /// It is one group that has a segment of its own.
    pub(crate) own: Option<Own>,
}

/// Chunks that wait, the last of them open.
#[derive(Default)]
pub(crate) struct Inbox {
    closed_chunks: VecDeque<Chunk>,
    open: Chunk,
    pool: Vec<Chunk>,
    waiting_bytes: usize,
    /// How much of that is copied forward.
    copied_bytes: usize,
    /// When the open chunk is to be written; `None` while it is empty.
    write_at_ms: Option<u64>,
    /// The writer waits for somebody.
    pub(crate) idle: bool,
    /// A sync is under way.
    syncing: bool,
    /// The writer is to look at other things.
    pub(crate) kicked: bool,
    /// Nothing is taken any more.
    pub(crate) closed: bool,
}

impl Inbox {
    /// Whether a group of that length may come. What does not grow may come where what grows has to wait, because there
    /// is `growth_max` of it.
    pub(crate) fn room(
        &self,
        (bytes, grows): (usize, bool),
        growth_max: usize,
        config: &Config,
    ) -> Result<(), Refused> {
        if self.closed {
            return Err(Refused::Closed);
        }
        let waiting = self.waiting_bytes;
        let most = if grows { growth_max } else { 2 * config.pending_bytes_max };
        if waiting > 0 && waiting + bytes > most { Err(Refused::Behind) } else { Ok(()) }
    }

    /// Whether so much more that is copied forward may come, where there is `growth_max` of what grows. One group of it
    /// always may.
    pub(crate) fn takes_copies(&self, bytes: usize, growth_max: usize) -> bool {
        self.copied_bytes == 0 || self.copied_bytes + bytes <= growth_max / COPIES_PART
    }

    /// What was just appended is copied forward.
    pub(crate) fn count_copied(&mut self, bytes: usize) {
        self.open.copied_bytes += bytes;
        self.copied_bytes += bytes;
    }

    /// How long the groups are together that wait.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Where a group of that length is to be appended. One with a segment of its own is longer than a batch that is
    /// added to.
    pub(crate) fn begin(&mut self, (bytes, own): (usize, Option<Own>), config: &Config) -> &mut Vec<u8> {
        if self.open.groups > 0 && self.open.bytes.len() + bytes > config.batch_bytes {
            let next = self.pool.pop().unwrap_or_default();
            self.closed_chunks.push_back(core::mem::replace(&mut self.open, next));
        }
        if self.open.bytes.is_empty() {
            self.open.bytes.resize(BATCH_HEADER_BYTES, 0);
        }
        self.open.own = own;
        self.waiting_bytes += bytes;
        &mut self.open.bytes
    }

    /// A group was appended. Whether the writer is to be woken.
    pub(crate) fn end(
        &mut self,
        (sync, waiter): (Sync, Option<Waiter>),
        (now_ms, grows): (u64, bool),
        config: &Config,
    ) -> bool {
        let open = &mut self.open;
        open.groups += 1;
        open.grows |= grows;
        open.waiters.extend(waiter);
        let at = match sync {
            Sync::Always => {
                open.sync_now = true;
                now_ms
            }
            Sync::Interval(within) => {
                open.sync_within_ms = Some(open.sync_within_ms.map_or(within, |before| before.min(within)));
                now_ms
            }
            Sync::Never => now_ms,
            Sync::Ride => now_ms + config.ride_ms,
        };
        self.write_at_ms = Some(self.write_at_ms.map_or(at, |before| before.min(at)));
        // While nobody waits the writer comes by itself; one that waits for a time is woken for less.
        let first = open.groups == 1 && self.closed_chunks.is_empty();
        let wake = self.idle && !self.holds() && (sync != Sync::Ride || first);
        self.idle &= !wake;
        wake
    }

    /// The next chunk, if there is one whose time has come.
    pub(crate) fn take(&mut self, now_ms: u64) -> Option<Chunk> {
        if self.holds() {
            return None;
        }
        let chunk = self.closed_chunks.pop_front().or_else(|| {
            if self.write_at_ms.is_none_or(|at| at > now_ms) {
                return None;
            }
            self.write_at_ms = None;
            let next = self.pool.pop().unwrap_or_default();
            Some(core::mem::replace(&mut self.open, next))
        })?;
        self.waiting_bytes = self.waiting_bytes.saturating_sub(chunk.bytes.len() - BATCH_HEADER_BYTES);
        self.copied_bytes = self.copied_bytes.saturating_sub(chunk.copied_bytes);
        Some(chunk)
    }

    /// Whether the end of a sync is waited for.
    fn holds(&self) -> bool {
        self.syncing && self.waiting_bytes < HELD_BYTES
    }

    /// A sync begins or is over; in the latter case whether the writer is to be woken.
    pub(crate) fn set_syncing(&mut self, syncing: bool) -> bool {
        self.syncing = syncing;
        let wake = !syncing && self.idle && !self.is_empty();
        self.idle &= !wake;
        wake
    }

    /// When the open chunk is to be written; `None` too if whoever ends a sync says so.
    pub(crate) fn write_at_ms(&self) -> Option<u64> {
        if self.holds() {
            return None;
        }
        if self.closed_chunks.is_empty() { self.write_at_ms } else { Some(0) }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.closed_chunks.is_empty() && self.open.groups == 0
    }

    /// Has everything written now.
    pub(crate) fn flush(&mut self) {
        if self.open.groups > 0 {
            self.write_at_ms = Some(0);
        }
    }

    /// A chunk that is done with.
    pub(crate) fn give_back(&mut self, mut chunk: Chunk) {
        if self.pool.len() < POOL_MAX && chunk.bytes.capacity() <= POOL_BYTES_MAX {
            chunk.bytes.clear();
            chunk.waiters.clear();
            (chunk.groups, chunk.grows, chunk.sync_now, chunk.sync_within_ms) = (0, false, false, None);
            (chunk.copied_bytes, chunk.own) = (0, None);
            self.pool.push(chunk);
        }
    }
}
