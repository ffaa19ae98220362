//! Pages: messages for which memory has no room, as queues that are marked as half made. So the next start deletes what is
//! left of them, as it deletes what a crash left half filled (`state.rs`).
//!
//! A page is one group, without a sync. Large bodies are among the rest: nobody waits for them. A body that is far stays in
//! its file.

use super::{
    DiskStore, message,
    parts::{Apart, Parts},
    spaces::OTHERS,
    state,
};
use leveret_broker::store::{KeptId, Paged};
use leveret_store::{Payload, QueueId, Sync};

impl DiskStore {
    /// Where the disk is nearly behind a page would wait in memory too, and whoever publishes what is persistent for it.
    pub(super) fn has_room_for_pages(&self) -> bool {
        let store = &self.shared.store;
        store.admits().is_ok() && store.has_little_to_write() && self.pressure().is_none()
    }

    pub(super) fn write_page(&self, messages: &mut dyn Iterator<Item = Paged<'_>>) -> Option<KeptId> {
        if !self.has_room_for_pages() {
            return None;
        }
        let shared = &*self.shared;
        let id = shared.ids.next(&shared.store);
        let mut parts = Parts::new(shared.group_bytes_max);
        state::mark_pending(&mut parts, QueueId(id));
        parts.create(QueueId(id));
        for Paged { sequence, message, noted, redelivered, is_kept } in messages {
            let mut flags = if noted.dead_lettered { message::DEAD_LETTERED } else { 0 };
            flags |= if is_kept { message::ELSEWHERE } else { 0 };
            flags |= if message.is_far() { message::FAR } else { 0 };
            let form = message::number_of(message.near_form())?;
            let payload = Payload { flags, at_ms: noted.came_ms, ..Payload::of(&message, form) };
            let body = message.far().map(|stub| shared.body(&stub));
            let apart = body.as_ref().map(Apart::Written);
            if !parts.enqueue((&payload, redelivered), apart, &[(QueueId(id), sequence)]) {
                return None;
            }
        }
        parts.submit(&shared.store, Sync::Never, None).ok()?;
        Some(KeptId(id))
    }

    pub(super) fn delete_pages(&self, pages: &[KeptId]) {
        self.ride(Sync::Ride, |riding| {
            for page in pages {
                riding.parts.delete(QueueId(page.0));
                riding.parts.unset(OTHERS, &state::pending_key(page.0));
            }
        });
    }
}
