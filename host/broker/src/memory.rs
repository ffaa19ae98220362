//! The account of memory that queued messages take.

use crate::{port::Wake, store::Store};
use alloc::{
    sync::{Arc, Weak},
    vec::Vec,
};
use core::{
    fmt, mem,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};
use leveret_model::MessageView;
use parking_lot::Mutex;

/// Such a part of the watermark is to be free before a shortage is over.
const RELIEF_PART: u64 = 16;

/// Counts the bytes of the queued messages of the whole broker, unacknowledged ones included.
///
/// Memory is short from the moment when the watermark is reached until a sixteenth of it is free again: publishers that
/// are faster than the consumers are not told of it with each message that leaves.
///
/// Queues add to it once a batch. What was acknowledged may be taken off later, but never more
/// than a queue still holds, nor more than [`crate::queue::RELEASE_BYTES_MAX`] a queue.
pub struct MemoryAccount {
    bytes: AtomicU64,
    watermark_bytes: u64,
    /// Below this a shortage is over.
    relief_bytes: u64,
    paging_bytes: u64,
    /// Memory is short. It is set and taken back with `waiters` locked; they are empty while it is not set.
    short: AtomicBool,
    waiters: Mutex<Vec<Arc<dyn Wake>>>,
    /// Who can let go of something.
    relievers: Mutex<Vec<Weak<dyn Wake>>>,
    /// Who is told when memory becomes short.
    told: Mutex<Vec<Weak<dyn Wake>>>,
}

impl MemoryAccount {
    /// An empty account. At `watermark_bytes` and above it is over its watermark; above the half of it queues page.
    #[must_use]
    pub fn new(watermark_bytes: u64) -> Self {
        Self {
            bytes: AtomicU64::new(0),
            watermark_bytes,
            relief_bytes: watermark_bytes - watermark_bytes / RELIEF_PART,
            paging_bytes: watermark_bytes / 2,
            short: AtomicBool::new(false),
            waiters: Mutex::default(),
            relievers: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// Above that part of the watermark queues page, in hundredths; from 100 on they never do.
    #[must_use]
    pub fn paging_from(mut self, percent: u8) -> Self {
        let part = || (u128::from(self.watermark_bytes) * u128::from(percent) / 100) as u64;
        self.paging_bytes = if percent < 100 { part() } else { u64::MAX };
        self
    }

    /// Whether queues may write to the store what they have no room for in memory, if it comes to that.
    pub(crate) fn may_page(&self) -> bool {
        self.paging_bytes < u64::MAX
    }

    /// Whether they are to do so now.
    pub(crate) fn pages(&self) -> bool {
        self.bytes() > self.paging_bytes
    }

    /// How many bytes are charged now.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The watermark, in bytes.
    #[must_use]
    pub fn watermark_bytes(&self) -> u64 {
        self.watermark_bytes
    }

    /// Whether publishers should be held back.
    #[must_use]
    pub fn over_watermark(&self) -> bool {
        let (bytes, short) = (self.bytes(), self.short.load(Ordering::Relaxed));
        if bytes >= self.watermark_bytes && !short {
            let (is_short, is_new) = self.begin_shortage(&self.waiters.lock());
            if is_new {
                self.tell();
            }
            return is_short;
        }
        short && bytes >= self.relief_bytes
    }

    /// Wakes `waker` once when memory is not short any more. False if it is not short now: then nobody is woken. Call it
    /// once for each time of waiting.
    pub fn wake_when_below(&self, waker: &Arc<dyn Wake>) -> bool {
        let mut waiters = self.waiters.lock();
        let (is_short, is_new) = self.begin_shortage(&waiters);
        if !is_short {
            return false;
        }
        let is_first = waiters.is_empty();
        waiters.push(waker.clone());
        drop(waiters);
        if is_new {
            self.tell();
        }
        if is_first {
            self.wake_relievers();
        }
        true
    }

    /// Memory is short from now on, if it is; whether it is, and was not before.
    #[cold]
    fn begin_shortage(&self, waiters: &[Arc<dyn Wake>]) -> (bool, bool) {
        let was_short = self.short.load(Ordering::SeqCst);
        if !was_short && self.bytes() < self.watermark_bytes {
            return (false, false);
        }
        // First say so, then look: whoever releases does it the other way round.
        self.short.store(true, Ordering::SeqCst);
        let is_short = self.bytes.load(Ordering::SeqCst) >= self.relief_bytes;
        if !is_short && waiters.is_empty() {
            self.short.store(false, Ordering::SeqCst);
        }
        (is_short, is_short && !was_short)
    }

    /// Wakes `listener` whenever memory becomes short, for as long as it is there.
    pub fn wake_when_short(&self, listener: Weak<dyn Wake>) {
        let mut told = self.told.lock();
        if told.len() == told.capacity() {
            told.retain(|listener| listener.strong_count() > 0);
        }
        told.push(listener);
    }

    fn tell(&self) {
        let told: Vec<_> = self.told.lock().iter().filter_map(Weak::upgrade).collect();
        told.iter().for_each(|listener| listener.wake());
    }

    /// Has `reliever` woken when somebody begins to wait, for as long as it is there.
    pub(crate) fn relieved_by(&self, reliever: Weak<dyn Wake>) {
        let mut relievers = self.relievers.lock();
        relievers.retain(|reliever| reliever.strong_count() > 0);
        relievers.push(reliever);
    }

    fn wake_relievers(&self) {
        let relievers = self.relievers.lock().clone();
        relievers.iter().filter_map(Weak::upgrade).for_each(|reliever| reliever.wake());
    }

    /// So many bytes more are held.
    pub fn charge(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// So many bytes are held no more.
    pub fn release(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes as u64, Ordering::SeqCst);
        let now = before.saturating_sub(bytes as u64);
        if now < self.relief_bytes && self.short.load(Ordering::SeqCst) {
            self.end_shortage();
        }
    }

    #[cold]
    fn end_shortage(&self) {
        let waiters = {
            let mut waiters = self.waiters.lock();
            self.short.store(false, Ordering::SeqCst);
            mem::take(&mut *waiters)
        };
        waiters.iter().for_each(|waker| waker.wake());
    }
}

impl fmt::Debug for MemoryAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryAccount")
            .field("bytes", &self.bytes())
            .field("watermark_bytes", &self.watermark_bytes)
            .finish_non_exhaustive()
    }
}

/// Holds on to a body that is in a file, for as long as it is there.
pub type FarBody = Arc<dyn core::any::Any + Send + Sync>;

/// A body too large for a slab, shared by all queues that hold the message and charged once. Of one that is far
/// ([`leveret_model::far`]) it has the stub, and holds on to the file.
pub struct LargeBody {
    bytes: alloc::boxed::Box<[u8]>,
    far: Option<(FarBody, u64)>,
    account: Arc<MemoryAccount>,
}

impl LargeBody {
    pub(crate) fn new(body: &[u8], account: &Arc<MemoryAccount>) -> Arc<Self> {
        account.charge(body.len());
        Arc::new(Self { bytes: body.into(), far: None, account: account.clone() })
    }

    /// The body of a message, wherever it is.
    pub(crate) fn of(
        message: &MessageView<'_>,
        store: &dyn Store,
        account: &Arc<MemoryAccount>,
    ) -> Arc<Self> {
        let Some(stub) = message.far() else { return Self::new(message.body, account) };
        account.charge(message.body.len());
        let far = store.far(&stub).map(|far| (far, stub.body_bytes()));
        Arc::new(Self { bytes: message.body.into(), far, account: account.clone() })
    }

    /// How long the body is, wherever that is.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.far.as_ref().map_or(self.bytes.len() as u64, |(_, bytes)| *bytes)
    }

    /// What holds on to it, where it is far.
    #[must_use]
    pub fn far(&self) -> Option<&FarBody> {
        self.far.as_ref().map(|(far, _)| far)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for LargeBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for LargeBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LargeBody").field("len", &self.bytes.len()).finish_non_exhaustive()
    }
}

impl Drop for LargeBody {
    fn drop(&mut self) {
        self.account.release(self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Counter(AtomicUsize);
    impl Wake for Counter {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn wakes_once_when_a_sixteenth_is_free() {
        let account = MemoryAccount::new(100);
        let counter = Arc::new(Counter::default());
        let waker: Arc<dyn Wake> = counter.clone();
        account.charge(99);
        assert!(!account.over_watermark());
        assert!(!account.wake_when_below(&waker), "nothing to wait for");
        account.charge(51);
        assert!(account.over_watermark());
        assert!(account.wake_when_below(&waker));
        account.release(56);
        assert_eq!(counter.0.load(Ordering::SeqCst), 0, "94 of 100 is not yet enough");
        assert!(account.over_watermark());
        account.release(1);
        account.release(1);
        assert_eq!(counter.0.load(Ordering::SeqCst), 1);
        assert!(!account.over_watermark());
        account.charge(7);
        assert!(!account.over_watermark(), "99 of 100 is short only where 100 was reached before");
        assert!(!account.wake_when_below(&waker));
    }

    #[test]
    fn who_listens_is_told_of_each_shortage_once() {
        let account = MemoryAccount::new(100);
        let [there, gone] = [(); 2].map(|()| Arc::new(Counter::default()));
        for listener in [&there, &gone] {
            let listener: Arc<dyn Wake> = listener.clone();
            account.wake_when_short(Arc::downgrade(&listener));
        }
        drop(gone);
        for shortages in 1..=2 {
            account.charge(100);
            assert!(account.over_watermark() && account.over_watermark());
            assert_eq!(there.0.load(Ordering::SeqCst), shortages);
            account.release(100);
            assert!(!account.over_watermark());
        }
    }

    #[test]
    fn a_publisher_faster_than_its_consumer_is_not_told_with_each_message() {
        let account = MemoryAccount::new(1600);
        let (mut told, mut was_short) = (0, false);
        for _ in 0..1000 {
            let is_short = account.over_watermark();
            told += usize::from(is_short && !was_short);
            was_short = is_short;
            if is_short { account.release(1) } else { account.charge(2) }
        }
        // It takes 800 to get there, then fifty and 101 a round.
        assert_eq!(told, 2);
    }

    #[test]
    fn a_large_body_is_charged_once_until_its_last_owner_goes() {
        let account = Arc::new(MemoryAccount::new(100));
        let body = LargeBody::new(&[7; 1000], &account);
        let other = body.clone();
        drop(body);
        assert_eq!(account.bytes(), 1000);
        assert_eq!(other.as_bytes().len(), 1000);
        drop(other);
        assert_eq!(account.bytes(), 0);
    }
}
