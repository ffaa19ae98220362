//! Room for what connections send while their publishes are held back: each has a little of its own, and all together
//! have a part of the memory for messages. It is not counted as theirs: what waits to be published must not keep it
//! from being published.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// What every connection may keep, in bytes.
pub(super) const OWN_BYTES: usize = 16 * 1024;
/// What one connection may keep beyond that, in bytes.
pub(super) const TAKEN_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How much of the room is taken at once, in bytes.
const PIECE_BYTES: usize = 64 * 1024;
/// Which part of the memory for messages the room is.
const PART_OF_MEMORY: u64 = 8;

/// What all connections may keep together beyond what each has of its own.
pub struct StashRoom {
    left_bytes: AtomicUsize,
}

impl StashRoom {
    /// The room beside so many bytes of memory for messages.
    #[must_use]
    pub fn beside(memory_bytes: u64) -> Arc<Self> {
        let bytes = usize::try_from(memory_bytes / PART_OF_MEMORY).unwrap_or(usize::MAX);
        Arc::new(Self { left_bytes: AtomicUsize::new(bytes) })
    }

    fn take(&self, bytes: usize) -> bool {
        let less = |left: usize| left.checked_sub(bytes);
        self.left_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.left_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What a connection took of the room; it gives that back when it is dropped.
pub(super) struct Share {
    room: Arc<StashRoom>,
    taken_bytes: usize,
}

impl Share {
    pub(super) fn of(room: Arc<StashRoom>) -> Self {
        Self { room, taken_bytes: 0 }
    }

    /// How many of so many bytes more may be kept beside those that are. Takes more of the room for them.
    pub(super) fn room_for(&mut self, kept: usize, more: usize) -> usize {
        while OWN_BYTES + self.taken_bytes < kept + more
            && self.taken_bytes < TAKEN_BYTES_MAX
            && self.room.take(PIECE_BYTES)
        {
            self.taken_bytes += PIECE_BYTES;
        }
        more.min((OWN_BYTES + self.taken_bytes).saturating_sub(kept))
    }

    /// Gives back what is not needed for so many bytes.
    pub(super) fn shrink(&mut self, kept: usize) {
        let needed = kept.saturating_sub(OWN_BYTES).next_multiple_of(PIECE_BYTES);
        if needed < self.taken_bytes {
            self.room.give_back(self.taken_bytes - needed);
            self.taken_bytes = needed;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_and_all_share_the_rest() {
        let room = StashRoom::beside(8 * (TAKEN_BYTES_MAX + PIECE_BYTES) as u64);
        let (mut first, mut second) = (Share::of(room.clone()), Share::of(room.clone()));
        assert_eq!(first.room_for(0, OWN_BYTES), OWN_BYTES);
        assert_eq!(room.left_bytes.load(Ordering::Relaxed), TAKEN_BYTES_MAX + PIECE_BYTES);
        assert_eq!(first.room_for(OWN_BYTES, usize::MAX / 2), TAKEN_BYTES_MAX);
        assert_eq!(
            first.room_for(OWN_BYTES + TAKEN_BYTES_MAX, 1),
            0,
            "there is room, but not for one connection"
        );
        assert_eq!(second.room_for(0, usize::MAX / 2), OWN_BYTES + PIECE_BYTES);
        assert_eq!(second.room_for(OWN_BYTES + PIECE_BYTES, 1), 0);
        first.shrink(OWN_BYTES + 1);
        assert_eq!(room.left_bytes.load(Ordering::Relaxed), TAKEN_BYTES_MAX - PIECE_BYTES);
        drop((first, second));
        assert_eq!(room.left_bytes.load(Ordering::Relaxed), TAKEN_BYTES_MAX + PIECE_BYTES);
    }
}
