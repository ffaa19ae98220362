//! What is to be one group, in as many as it takes: a group of the store has a greatest length.

use super::told::{Told, Waiter, refused};
use leveret_broker::store::StoreFailure;
use leveret_store::{Body, Done, ExtentBody, Group, Payload, QueueId, Range, Sequence, Space, Store, Sync};
use std::sync::Arc;

/// The most queues of one operation; a message to more is written again for the rest.
const TARGETS_MAX: usize = 32 * 1024;
/// The most ranges of one operation.
const RANGES_MAX: usize = 64 * 1024;
/// More than any operation has beside keys, values, targets and payloads.
const OPERATION_BYTES: usize = 64;
const TARGET_BYTES: usize = 16;
const RANGE_BYTES: usize = 12;

/// The body of a message that is a file of its own.
#[derive(Clone, Copy)]
pub(super) enum Apart<'a> {
    /// It is written with the group.
    ToWrite(&'a Store, &'a ExtentBody),
    /// It was before.
    Written(&'a Arc<Body>),
}

/// Groups that are being made: the ones that are full, and the last. The last has what must come after the others.
pub(super) struct Parts {
    full: Vec<Group>,
    open: Group,
    bytes_max: usize,
    /// The process is to crash before the last of them.
    #[cfg(test)]
    pub(super) crashes: bool,
}

impl Parts {
    /// None yet; each of them has at most so many bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            full: Vec::new(),
            open: Group::default(),
            bytes_max,
            #[cfg(test)]
            crashes: false,
        }
    }

    /// From now on that is the most.
    pub(super) fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// What all of them have, in bytes.
    pub(super) fn len_bytes(&self) -> usize {
        self.full.iter().map(Group::len_bytes).sum::<usize>() + self.open.len_bytes()
    }

    /// The most that one of them may have, in bytes.
    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    pub(super) fn is_empty(&self) -> bool {
        self.full.is_empty() && self.open.is_empty()
    }

    /// Begins anew, with the memory that there is.
    pub(super) fn clear(&mut self) {
        self.full.clear();
        self.open.clear();
    }

    /// The group that has room for so many more bytes.
    fn with_room(&mut self, bytes: usize) -> &mut Group {
        if !self.open.is_empty() && self.open.len_bytes() + bytes + OPERATION_BYTES > self.bytes_max {
            self.full.push(core::mem::take(&mut self.open));
        }
        &mut self.open
    }

    /// From here on so many bytes are in one group.
    pub(super) fn keep_together(&mut self, bytes: usize) {
        self.with_room(bytes);
    }

    /// Queues get a message. `apart` is its body, where that is not in the payload. False if it is none that can be kept.
    pub(super) fn enqueue(
        &mut self,
        (payload, redelivered): (&Payload<'_>, bool),
        apart: Option<Apart<'_>>,
        targets: &[(QueueId, Sequence)],
    ) -> bool {
        let Some(head) = payload.head() else { return false };
        let parts = payload.parts(&head);
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        if bytes + TARGET_BYTES * targets.len().min(TARGETS_MAX) + OPERATION_BYTES > self.bytes_max {
            return false;
        }
        for targets in targets.chunks(TARGETS_MAX) {
            let group = self.with_room(bytes + TARGET_BYTES * targets.len());
            match apart {
                Some(Apart::Written(body)) => group.enqueue_body(&parts, redelivered, body, targets),
                Some(Apart::ToWrite(store, body)) => {
                    group.enqueue_apart(&parts, redelivered, (store.next_extent(), body.clone()), targets);
                }
                None => group.enqueue(&parts, redelivered, targets),
            }
        }
        true
    }

    pub(super) fn ack(&mut self, queue: QueueId, ranges: &[Range]) {
        for ranges in ranges.chunks(RANGES_MAX) {
            self.with_room(RANGE_BYTES * ranges.len()).ack(queue, ranges);
        }
    }

    pub(super) fn delivered(&mut self, queue: QueueId, ranges: &[Range]) {
        for ranges in ranges.chunks(RANGES_MAX) {
            self.with_room(RANGE_BYTES * ranges.len()).delivered(queue, ranges);
        }
    }

    pub(super) fn create(&mut self, queue: QueueId) {
        self.with_room(0).create(queue);
    }

    pub(super) fn delete(&mut self, queue: QueueId) {
        self.with_room(0).delete(queue);
    }

    pub(super) fn set(&mut self, space: Space, key: &[u8], value: &[u8], end_ms: u64) {
        self.with_room(key.len() + value.len()).set(space, key, value, end_ms);
    }

    pub(super) fn unset(&mut self, space: Space, key: &[u8]) {
        self.with_room(key.len()).unset(space, key);
    }

    pub(super) fn clear_space(&mut self, space: Space) {
        self.with_room(0).clear_space(space);
    }

    /// Has the store take them in order, whether it is full or not; and is empty again. `waiter` is told under its
    /// token once all are safe, or one will not be.
    ///
    /// # Errors
    /// They were not taken. `waiter` is told that too.
    pub(super) fn submit(
        &mut self,
        store: &Store,
        sync: Sync,
        waiter: Waiter<'_>,
    ) -> Result<(), StoreFailure> {
        #[cfg(test)]
        if self.crashes {
            assert!(!self.full.is_empty(), "there is more than one");
            self.open = self.full.pop().unwrap_or_default();
        }
        let told = waiter.map(|(to, token)| Told::new(self.full.len() + 1, to, token));
        let done: Option<Arc<dyn Done>> = told.clone().map(|told| told as _);
        let mut outcome = Ok(());
        for group in self.full.iter_mut().chain([&mut self.open]) {
            // What follows what was not taken is not to be there.
            if outcome.is_ok() {
                let taken = store.submit_admitted(group, sync, done.as_ref().map(|done| (done, 0)));
                outcome = taken.map_err(refused);
            }
            if let (Some(told), Err(_)) = (&told, &outcome) {
                told.tell(outcome.clone());
            }
        }
        self.clear();
        outcome
    }
}
