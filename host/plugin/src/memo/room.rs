//! How much memory remembered answers may take together: those of a virtual host, and all of the broker's.
//!
//! Memos belong to worker threads, and nobody takes memory from another thread's. So there is a number for
//! the broker and one for each virtual host that all share, and a memo takes from them in pieces when it has
//! to allocate, never for a lookup. One that finds no room says so ([`VhostRoom::want`]): then each worker
//! makes its least useful memos smaller (`worker/relief.rs`).
//!
//! *Fairness.* What a virtual host lacks by its own limit, its own memos give. What lacks because the broker's
//! total is used up, is given by those virtual hosts that have more than the one that wants.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// Memory is taken in pieces of this many bytes.
const PIECE_BYTES: usize = 1_024;

/// What remembered answers take, of a most; and who lacks.
#[derive(Debug)]
struct Room {
    bytes: AtomicUsize,
    bytes_max: usize,
    /// How often somebody found that there is no more.
    shortages: AtomicU64,
    /// What whoever found that had, in bytes.
    had: AtomicUsize,
}

impl Room {
    fn new(bytes_max: usize) -> Self {
        let (bytes, had) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { bytes, bytes_max, shortages: AtomicU64::new(0), had }
    }

    fn take(&self, bytes: usize) -> bool {
        let fits = self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= self.bytes_max;
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn is_short(&self, had: usize) {
        self.had.store(had, Ordering::Relaxed);
        self.shortages.fetch_add(1, Ordering::Release);
    }

    fn shortage(&self) -> Shortage {
        Shortage { number: self.shortages.load(Ordering::Acquire), had: self.had.load(Ordering::Relaxed) }
    }
}

/// That there was no more room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shortage {
    /// Tells it from those before.
    pub(crate) number: u64,
    /// What whoever wanted more had, in bytes: of a virtual host's shortage the memo, of the broker's the
    /// virtual host.
    pub(crate) had: usize,
}

/// What all remembered answers of the broker take.
#[derive(Debug)]
pub(crate) struct BrokerRoom {
    room: Room,
    /// How often anything was wanted, of the broker or of a virtual host.
    wants: AtomicU64,
}

impl BrokerRoom {
    /// Of so many bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { room: Room::new(bytes_max), wants: AtomicU64::new(0) }
    }

    /// Changes whenever somebody wants room.
    #[inline]
    pub(crate) fn wants(&self) -> u64 {
        self.wants.load(Ordering::Relaxed)
    }

    /// The last time that the broker's total was used up.
    pub(crate) fn shortage(&self) -> Shortage {
        self.room.shortage()
    }

    /// What is taken, and the most, in bytes.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.room.bytes.load(Ordering::Relaxed)
    }
}

/// What the remembered answers of a virtual host take.
#[derive(Debug)]
pub(crate) struct VhostRoom {
    broker: Arc<BrokerRoom>,
    room: Room,
}

/// Which limit leaves no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Short {
    Vhost,
    Broker,
}

impl VhostRoom {
    /// Of so many bytes, of those of the broker.
    pub(crate) fn new(broker: &Arc<BrokerRoom>, bytes_max: usize) -> Self {
        Self { broker: broker.clone(), room: Room::new(bytes_max) }
    }

    /// What is taken, in bytes.
    pub(crate) fn taken(&self) -> usize {
        self.room.bytes.load(Ordering::Relaxed)
    }

    /// The most, in bytes.
    pub(crate) fn bytes_max(&self) -> usize {
        self.room.bytes_max
    }

    /// The last time that there was no room for one of its memos.
    pub(crate) fn shortage(&self) -> Shortage {
        self.room.shortage()
    }

    fn take(&self, bytes: usize) -> Result<(), Short> {
        if !self.room.take(bytes) {
            return Err(Short::Vhost);
        }
        if !self.broker.room.take(bytes) {
            self.room.give_back(bytes);
            return Err(Short::Broker);
        }
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        self.room.give_back(bytes);
        self.broker.room.give_back(bytes);
    }

    /// A memo that has so many bytes wants more.
    fn want(&self, had: usize, short: Short) {
        match short {
            Short::Vhost => self.room.is_short(had),
            Short::Broker => {
                self.room.had.store(had, Ordering::Relaxed);
                self.broker.room.is_short(self.taken());
            }
        }
        self.broker.wants.fetch_add(1, Ordering::Release);
    }
}

/// What the remembered answers of a plugin take in a virtual host.
#[derive(Debug)]
pub(crate) struct PluginRoom {
    vhost: Arc<VhostRoom>,
    bytes: AtomicUsize,
}

impl PluginRoom {
    /// Nothing yet, of that virtual host's.
    pub(crate) fn new(vhost: &Arc<VhostRoom>) -> Self {
        Self { vhost: vhost.clone(), bytes: AtomicUsize::new(0) }
    }

    /// The virtual host's.
    pub(crate) fn vhost(&self) -> &Arc<VhostRoom> {
        &self.vhost
    }

    /// What is taken, in bytes.
    pub(crate) fn taken(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// What a memo has taken; given back when it is dropped. Without a room there is no limit.
#[derive(Default)]
pub(super) struct Grant {
    room: Option<Arc<PluginRoom>>,
    bytes: usize,
}

impl Grant {
    pub(super) fn room(&self) -> Option<&Arc<PluginRoom>> {
        self.room.as_ref()
    }

    /// What is taken, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes what is missing to so many bytes.
    #[inline]
    pub(super) fn cover(&mut self, bytes: usize) -> Result<(), Short> {
        if bytes <= self.bytes { Ok(()) } else { self.take(bytes - self.bytes) }
    }

    fn take(&mut self, bytes: usize) -> Result<(), Short> {
        let bytes = bytes.next_multiple_of(PIECE_BYTES);
        if let Some(room) = &self.room {
            room.vhost.take(bytes)?;
            room.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Gives back what is more than so many bytes.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.bytes.saturating_sub(bytes.next_multiple_of(PIECE_BYTES));
        self.bytes -= surplus;
        if let Some(room) = self.room.as_ref().filter(|_| surplus > 0) {
            room.vhost.give_back(surplus);
            room.bytes.fetch_sub(surplus, Ordering::Relaxed);
        }
    }

    /// From now on it is taken there. What was taken elsewhere is given back; gives whether there was
    /// room for it there.
    pub(super) fn move_to(&mut self, room: &Arc<PluginRoom>) -> bool {
        if self.room.as_ref().is_some_and(|known| Arc::ptr_eq(known, room)) {
            return true;
        }
        let bytes = self.bytes;
        self.shrink_to(0);
        self.room = Some(room.clone());
        self.cover(bytes).is_ok()
    }

    /// There was no room for more.
    pub(super) fn want(&self, short: Short) {
        if let Some(room) = &self.room {
            room.vhost.want(self.bytes, short);
        }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1_024;

    fn grant(vhost: &Arc<VhostRoom>) -> Grant {
        let mut grant = Grant::default();
        assert!(grant.move_to(&Arc::new(PluginRoom::new(vhost))));
        grant
    }

    #[test]
    fn both_limits_hold_and_nothing_stays_charged() {
        let broker = Arc::new(BrokerRoom::new(10 * KIB));
        let [a, b] = [8, 8].map(|kib| Arc::new(VhostRoom::new(&broker, kib * KIB)));
        let (mut first, mut second, mut other) = (grant(&a), grant(&a), grant(&b));
        assert_eq!(first.cover(5 * KIB), Ok(()));
        assert_eq!(second.cover(4 * KIB), Err(Short::Vhost));
        assert_eq!(second.cover(2 * KIB + 1), Ok(()), "in whole pieces");
        assert_eq!(other.cover(3 * KIB), Err(Short::Broker));
        assert_eq!((a.taken(), b.taken(), broker.taken()), (8 * KIB, 0, 8 * KIB));
        first.shrink_to(KIB + 1);
        assert_eq!(first.room().unwrap().taken(), 2 * KIB);
        assert_eq!(other.cover(5 * KIB), Ok(()));
        drop((first, second, other));
        assert_eq!((a.taken(), b.taken(), broker.taken()), (0, 0, 0));
    }

    #[test]
    fn a_memo_that_changes_its_plugin_takes_what_it_has_along_or_says_that_it_cannot() {
        let broker = Arc::new(BrokerRoom::new(100 * KIB));
        let (large, small) =
            (Arc::new(VhostRoom::new(&broker, 50 * KIB)), Arc::new(VhostRoom::new(&broker, KIB)));
        let mut moving = Grant::default();
        moving.cover(3 * KIB).unwrap();
        assert!(moving.move_to(&Arc::new(PluginRoom::new(&large))));
        assert_eq!(large.taken(), 3 * KIB);
        assert!(!moving.move_to(&Arc::new(PluginRoom::new(&small))));
        assert_eq!((large.taken(), small.taken(), moving.bytes()), (0, 0, 0));
    }

    #[test]
    fn who_lacks_is_told_with_what_it_had() {
        let broker = Arc::new(BrokerRoom::new(10 * KIB));
        let vhost = Arc::new(VhostRoom::new(&broker, 8 * KIB));
        let mut memo = grant(&vhost);
        memo.cover(2 * KIB).unwrap();
        memo.want(Short::Vhost);
        assert_eq!(vhost.shortage(), Shortage { number: 1, had: 2 * KIB });
        assert_eq!((broker.shortage(), broker.wants()), (Shortage::default(), 1));
        let mut second = grant(&vhost);
        second.cover(KIB).unwrap();
        second.want(Short::Broker);
        assert_eq!(broker.shortage(), Shortage { number: 1, had: 3 * KIB });
        assert_eq!((vhost.shortage(), broker.wants()), (Shortage { number: 1, had: KIB }, 2));
    }
}
