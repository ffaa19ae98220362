//! The syncer's step, in two parts: between them the writer goes on.

use super::{Core, Counts, inbox::Waiter, room::Trouble};
use crate::{disk::File, error::DiskError};
use std::sync::Arc;

/// A sync that is to be made.
pub(crate) struct SyncJob {
    pub(crate) file: Arc<dyn File>,
    pub(crate) segment: u64,
    /// The last batch that it covers.
    last: u64,
}

impl Core {
    /// What is to be synced now.
    pub(crate) fn sync_begin(&self, now_ms: u64) -> Option<SyncJob> {
        let mut flight = self.flight.lock();
        if !flight.is_due(now_ms) {
            return None;
        }
        let next = flight.next()?;
        let job = SyncJob { file: next.file.clone(), segment: next.segment, last: next.number };
        flight.syncing = true;
        self.inbox.lock().set_syncing(true);
        Some(job)
    }

    /// What came of it: tells those who waited, or has all written again elsewhere.
    // A function of its own: its instructions are counted (`tests/instructions`).
    #[inline(never)]
    pub(crate) fn sync_end(&self, job: &SyncJob, outcome: Result<(), DiskError>, told: &mut Vec<Waiter>) {
        Counts::add(&self.counts.syncs, 1);
        let mut flight = self.flight.lock();
        flight.syncing = false;
        if let Err(error) = outcome {
            flight.failed = true;
            if let Some(segment) = self.segments.lock().files.get_mut(&job.segment) {
                segment.suspicious = true;
            }
            self.inbox.lock().set_syncing(false);
            drop(flight);
            self.room.trouble(Trouble::Journal, error);
            return self.kick();
        }
        let mut done = Vec::new();
        while let Some(batch) = flight.batches.pop_front_if(|batch| batch.number <= job.last) {
            flight.unsynced_bytes -= batch.chunk.bytes.len() as u64;
            done.push(batch.chunk);
        }
        flight.synced = job.last;
        self.manifest.was_synced(job.last, job.segment);
        if flight.batches.iter().all(|batch| batch.chunk.sync_within_ms.is_none()) {
            flight.due_ms = None;
        }
        let failed = flight.failed;
        if !failed {
            (flight.attempts, flight.retry_at_ms) = (0, 0);
        }
        drop(flight);
        if failed {
            // The writer waited for this sync.
            self.kick();
        } else {
            self.room.solved(Trouble::Journal);
        }
        if self.is_short() {
            // The writer may have waited for what was in flight.
            self.kick();
        }
        if self.room.is_awaited() || self.manifest.is_behind() {
            self.tidy();
        }
        let mut inbox = self.inbox.lock();
        let wake = inbox.set_syncing(false);
        for mut chunk in done {
            // Those who were to be told when it was written are still here if it was not at once.
            told.append(&mut chunk.waiters);
            inbox.give_back(chunk);
        }
        drop(inbox);
        if wake {
            self.arrived.notify_one();
        }
        told.drain(..).for_each(|waiter| waiter.done.done(waiter.token, Ok(())));
    }
}
