//! Groups with bodies that are files of their own: those are written and synced first.
//!
//! *Where that fails* the group waits, and those behind it, and it is tried again with new files: for want of room
//! whenever some may have come (`room.rs`), else at intervals that double. Who has its messages and acks of it does not
//! wait for that. A group for which there is no room is given up only when the store is closed, or where nothing is left
//! whose end could make room.

use super::{Core, Sync, inbox::Waiter, own::Own, room::Trouble, segments::FileName};
use crate::{
    Failed,
    error::{DiskError, Refused},
    record::{
        group::{ExtentBody, GROUP_HEADER_BYTES, Group},
        op::ExtentRef,
    },
};
use std::{collections::VecDeque, sync::atomic::Ordering};

/// Where bodies cannot be written it is tried again after so long, then after twice that, up to the most.
const RETRY_MS: u64 = 10;
const RETRY_MS_MAX: u64 = 5000;
/// The most where only room is lacking.
const RETRY_FULL_MS_MAX: u64 = 160;
/// After so many attempts, for a second, between which no room came, none comes where nothing is left.
const HOPELESS_FAILURES: u32 = 10;

/// A group that waits for its extents.
pub(crate) struct Large {
    bytes: Vec<u8>,
    extents: Vec<(ExtentRef, ExtentBody)>,
    own: Option<Own>,
    sync: Sync,
    waiter: Option<Waiter>,
}

/// Those that wait, in order.
#[derive(Default)]
pub(crate) struct Larges {
    groups: VecDeque<Large>,
    /// The first is not tried again before.
    retry_at_ms: u64,
    failures: u32,
}

impl Larges {
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether the first is to be tried now.
    fn is_due(&self, now_ms: u64) -> bool {
        !self.is_empty() && now_ms >= self.retry_at_ms
    }

    /// The bytes of the bodies that wait.
    pub(crate) fn bytes(&self) -> u64 {
        self.groups.iter().flat_map(|large| &large.extents).map(|(extent, _)| extent.bytes).sum()
    }

    /// None waits any more; gives who waited for them.
    pub(crate) fn give_up(&mut self) -> impl Iterator<Item = Waiter> {
        self.groups.drain(..).filter_map(|large| large.waiter)
    }

    /// Some room may have come.
    pub(crate) fn try_now(&mut self) {
        (self.retry_at_ms, self.failures) = (0, 0);
    }

    fn try_later(&mut self, large: Large, now_ms: u64, most: u64) {
        self.groups.push_front(large);
        self.retry_at_ms = now_ms + (RETRY_MS << self.failures.min(16)).min(most);
        self.failures = self.failures.saturating_add(1);
    }
}

impl Core {
    pub(super) fn submit_large(
        &self,
        group: &mut Group,
        header: &[u8; GROUP_HEADER_BYTES],
        (sync, waiter): (Sync, Option<Waiter>),
        (own, admitted): (Option<Own>, bool),
    ) -> Result<(), Refused> {
        let mut large = self.large.lock();
        if self.inbox.lock().closed {
            drop(large);
            self.give_up_own(own);
            return Err(Refused::Closed);
        }
        let is_much = !large.is_empty() && large.bytes() > self.config.pending_bytes_max as u64;
        if is_much && !admitted {
            drop(large);
            self.give_up_own(own);
            return Err(Refused::Behind);
        }
        let mut bytes = Vec::with_capacity(group.len_bytes());
        group.append_to(header, &mut bytes);
        let extents = core::mem::take(&mut group.extents);
        large.groups.push_back(Large { bytes, extents, own, sync, waiter });
        self.large_count.fetch_add(1, Ordering::AcqRel);
        drop(large);
        self.large_arrived.notify_one();
        Ok(())
    }

    /// Writes the extents of a group, and hands the group to the writer. False if none waits, or while there is
    /// less than the reserve: what room there is then is the keeper's; or if they could not be written.
    pub(crate) fn large_step(&self, now_ms: u64) -> bool {
        if !self.large.lock().is_due(now_ms) {
            return false;
        }
        let segments = self.segments.lock();
        let is_short = self.room.is_full() && !self.room.large_waits();
        let waits = is_short || self.room.is_given() || segments.free() < self.reserve(&segments);
        drop(segments);
        if waits {
            self.tidy();
            return false;
        }
        let Some(large) = self.large.lock().groups.pop_front() else { return false };
        if let Err(error) = self.write_extents(&large) {
            self.put_off(large, error, now_ms);
            return false;
        }
        let mut inbox = self.inbox.lock();
        inbox.begin((large.bytes.len(), large.own), &self.config).extend_from_slice(&large.bytes);
        let wake = inbox.end((large.sync, large.waiter), (now_ms, true), &self.config);
        drop(inbox);
        if wake {
            self.arrived.notify_one();
        }
        self.room.solved(Trouble::Large);
        self.large.lock().try_now();
        self.ended_large();
        true
    }

    /// One waits no more.
    fn ended_large(&self) {
        self.large_count.fetch_sub(1, Ordering::AcqRel);
        if self.room.large_waits() && self.large.lock().is_empty() {
            self.room.large_done();
            self.tidy();
        }
    }

    /// A group whose extents could not be written waits.
    fn put_off(&self, large: Large, error: DiskError, now_ms: u64) {
        for (extent, _) in &large.extents {
            // What was not made is not there; what cannot be removed is in the way of the next attempt, which removes it.
            let _ = self.disk.remove(&FileName::Extent(extent.number).to_string());
        }
        let is_hopeless = error.is_full() && self.is_hopeless();
        let mut larges = self.large.lock();
        if is_hopeless && larges.failures >= HOPELESS_FAILURES {
            larges.try_now();
            drop(larges);
            self.give_up_own(large.own);
            self.ended_large();
            return tell(large.waiter, Failed::Full);
        }
        if error.is_full() {
            self.room.solved(Trouble::Large);
            self.room.lack_for_large();
            larges.try_later(large, now_ms, RETRY_FULL_MS_MAX);
        } else {
            self.room.trouble(Trouble::Large, error);
            larges.try_later(large, now_ms, RETRY_MS_MAX);
        }
        drop(larges);
        self.tidy();
    }

    /// Whether nothing is left whose end could make room.
    fn is_hopeless(&self) -> bool {
        let index = self.index.lock();
        index.held.live.messages == 0 && index.held.dead_extents.is_empty()
    }

    /// Has large bodies tried again that wait for room.
    pub(crate) fn try_large(&self) {
        if self.room.large_waits() {
            self.large.lock().try_now();
            self.large_arrived.notify_one();
        }
    }

    fn write_extents(&self, large: &Large) -> Result<(), DiskError> {
        for (extent, body) in &large.extents {
            let name = FileName::Extent(extent.number).to_string();
            let file = self.disk.create(&name, 0)?;
            file.write_at((**body).as_ref(), 0)?;
            file.sync()?;
        }
        self.disk.sync_names()
    }
}

fn tell(waiter: Option<Waiter>, failed: Failed) {
    if let Some(waiter) = waiter {
        waiter.done.done(waiter.token, Err(failed));
    }
}
