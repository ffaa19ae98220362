//! Groups with bodies that are files of their own: those are written and synced first.

use super::{Core, Sync, inbox::Waiter, segments::FileName};
use crate::{
    Failed,
    error::{DiskError, Refused},
    record::{
        group::{ExtentBody, GROUP_HEADER_BYTES, Group},
        op::ExtentRef,
    },
};

/// A group that waits for its extents.
pub(crate) struct Large {
    bytes: Vec<u8>,
    extents: Vec<(ExtentRef, ExtentBody)>,
    sync: Sync,
    pub(crate) waiter: Option<Waiter>,
}

impl Core {
    pub(super) fn submit_large(
        &self,
        group: &mut Group,
        header: &[u8; GROUP_HEADER_BYTES],
        (sync, waiter): (Sync, Option<Waiter>),
    ) -> Result<(), Refused> {
        let mut large = self.large.lock();
        if self.inbox.lock().closed {
            return Err(Refused::Closed);
        }
        let waiting = large.iter().flat_map(|large| &large.extents).map(|(extent, _)| extent.bytes);
        if !large.is_empty() && waiting.sum::<u64>() > self.config.pending_bytes_max as u64 {
            return Err(Refused::Behind);
        }
        let mut bytes = Vec::with_capacity(group.len_bytes());
        group.append_to(header, &mut bytes);
        let extents = core::mem::take(&mut group.extents);
        large.push_back(Large { bytes, extents, sync, waiter });
        drop(large);
        self.large_arrived.notify_one();
        Ok(())
    }

    /// Writes the extents of a group, and hands the group to the writer. False if none waits, or while there is
    /// less than the reserve: what room there is then is the keeper's.
    pub(crate) fn large_step(&self, now_ms: u64) -> bool {
        if self.large.lock().is_empty() {
            return false;
        }
        let full = self.room.is_full();
        let segments = self.segments.lock();
        let waits = !full && segments.free() < self.reserve(&segments);
        drop(segments);
        if waits {
            self.tidy();
            return false;
        }
        let Some(large) = self.large.lock().pop_front() else { return false };
        if full {
            self.fail_large(large, Failed::Full);
        } else if let Err(error) = self.write_extents(&large) {
            if error.is_full() {
                self.room.press();
            }
            for (extent, _) in &large.extents {
                // What was not made is not there; what cannot be removed is at the next start.
                let _ = self.disk.remove(&FileName::Extent(extent.number).to_string());
            }
            self.fail_large(large, if error.is_full() { Failed::Full } else { Failed::Disk });
        } else {
            let mut inbox = self.inbox.lock();
            inbox.begin(large.bytes.len(), &self.config).extend_from_slice(&large.bytes);
            let wake = inbox.end((large.sync, large.waiter), (now_ms, true), &self.config);
            drop(inbox);
            if wake {
                self.arrived.notify_one();
            }
        }
        true
    }

    fn fail_large(&self, large: Large, failed: Failed) {
        if let Some(waiter) = large.waiter {
            waiter.done.done(waiter.token, Err(failed));
        }
        self.tidy();
    }

    fn write_extents(&self, large: &Large) -> Result<(), DiskError> {
        for (extent, body) in &large.extents {
            let file = self.disk.create(&FileName::Extent(extent.number).to_string(), 0)?;
            file.write_at((**body).as_ref(), 0)?;
            file.sync()?;
        }
        self.disk.sync_names()
    }
}
