//! What a plugin's state takes in a virtual host, against its limits.
//!
//! *Caches.* Values of which there may be so many and no more go anyway, the oldest first. Where there is no room for a
//! new one they make some: the cache with the most first, so that none keeps the others out and all come to as much.

use super::{Cell, Space};
use parking_lot::Mutex;
use std::sync::{
    Arc, Weak,
    atomic::{AtomicU64, Ordering},
};

/// So small a part of a cache goes at a time, at least one value.
const CACHE_PART: usize = 256;

/// Bytes and entries of all state of a plugin in a virtual host.
pub(crate) struct Usage {
    bytes: AtomicU64,
    entries: AtomicU64,
    bytes_max: u64,
    entries_max: u64,
    refused: AtomicU64,
    /// Cells with a cache.
    caches: Mutex<Vec<Weak<Cell>>>,
}

impl std::fmt::Debug for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Usage").field("used", &self.used()).finish_non_exhaustive()
    }
}

/// The limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Usage {
    /// Nothing used, of so much.
    pub(crate) fn new(bytes_max: u64, entries_max: u64) -> Self {
        let [bytes, entries, refused] = [0, 0, 0].map(AtomicU64::new);
        Self { bytes, entries, bytes_max, entries_max, refused, caches: Mutex::default() }
    }

    /// A cell has a cache that is charged here.
    pub(crate) fn has_cache(&self, cell: &Arc<Cell>) {
        let mut caches = self.caches.lock();
        caches.retain(|known| known.strong_count() > 0);
        if !caches.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(cell))) {
            caches.push(Arc::downgrade(cell));
        }
    }

    /// Some of the oldest values of the largest cache go. False if there is none with any.
    pub(crate) fn shrink_a_cache(&self) -> bool {
        let cells: Vec<_> = self.caches.lock().iter().filter_map(Weak::upgrade).collect();
        let caches = cells.iter().flat_map(|cell| [(cell, Space::Memory), (cell, Space::Durable)]);
        let sized = caches.map(|(cell, space)| (cell.values(space).lock().cached(), cell, space));
        let Some((length, cell, space)) = sized.max_by_key(|(length, ..)| *length) else { return false };
        length > 0 && cell.values(space).lock().shrink(1 + length / CACHE_PART)
    }

    /// How many bytes and entries there may be.
    pub(crate) fn limits(&self) -> (u64, u64) {
        (self.bytes_max, self.entries_max)
    }

    /// Nothing used, of as much as there is: for copies that are there for a moment only.
    pub(crate) fn unlimited() -> Self {
        Self::new(u64::MAX, u64::MAX)
    }

    /// Charges an entry that is there already, whatever the limits are.
    pub(crate) fn take_over(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.entries.fetch_add(1, Ordering::Relaxed);
    }

    /// Charges an entry.
    ///
    /// # Errors
    /// If it does not fit; nothing is charged then.
    pub(crate) fn take(&self, bytes: u64) -> Result<(), Full> {
        if self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > self.bytes_max {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(self.full());
        }
        if self.entries.fetch_add(1, Ordering::Relaxed) >= self.entries_max {
            self.give_back(bytes);
            return Err(self.full());
        }
        Ok(())
    }

    /// Charges an entry that takes the place of others, which are charged until it has it: so much of bytes and entries.
    ///
    /// # Errors
    /// If it does not fit without them; nothing is charged then.
    pub(crate) fn take_instead(
        &self,
        (gone_bytes, gone_entries): (u64, u64),
        bytes: u64,
    ) -> Result<(), Full> {
        let used = self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if used.saturating_sub(gone_bytes) > self.bytes_max {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(self.full());
        }
        let entries = self.entries.fetch_add(1, Ordering::Relaxed);
        if entries.saturating_sub(gone_entries) >= self.entries_max {
            self.give_back(bytes);
            return Err(self.full());
        }
        Ok(())
    }

    /// Whether an entry fits now.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.has_room_without((0, 0), bytes)
    }

    /// Whether an entry would fit if so many bytes and entries were gone.
    pub(crate) fn has_room_without(&self, (gone_bytes, gone_entries): (u64, u64), bytes: u64) -> bool {
        let (used_bytes, used_entries) = self.used();
        used_bytes.saturating_sub(gone_bytes).saturating_add(bytes) <= self.bytes_max
            && used_entries.saturating_sub(gone_entries) < self.entries_max
    }

    /// Whether more is used than may be.
    pub(crate) fn is_over(&self) -> bool {
        let (bytes, entries) = self.used();
        bytes > self.bytes_max || entries > self.entries_max
    }

    /// How many entries there can be at most that take so many bytes each.
    pub(crate) fn entries_of(&self, bytes: u64) -> u64 {
        self.entries_max.min(self.bytes_max / bytes)
    }

    fn full(&self) -> Full {
        self.refused.fetch_add(1, Ordering::Relaxed);
        Full
    }

    /// How often something did not fit.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// An entry is gone.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.entries.fetch_sub(1, Ordering::Relaxed);
    }

    /// Bytes and entries used now.
    pub(crate) fn used(&self) -> (u64, u64) {
        (self.bytes.load(Ordering::Relaxed), self.entries.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_not_charged() {
        let usage = Usage::new(100, 2);
        usage.take(60).unwrap();
        assert_eq!(usage.take(41), Err(Full));
        usage.take(40).unwrap();
        assert_eq!(usage.take(0), Err(Full), "two entries");
        assert_eq!(usage.used(), (100, 2));
        usage.give_back(60);
        assert_eq!(usage.used(), (40, 1));
        assert_eq!((usage.entries_of(60), usage.entries_of(10)), (1, 2));
    }
}
