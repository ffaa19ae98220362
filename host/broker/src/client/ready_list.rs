//! How a queue tells a connection that a consumer has something to do.

use crate::port::Wake;
use alloc::{sync::Arc, vec::Vec};
use core::{
    mem,
    sync::atomic::{AtomicBool, Ordering},
};
use parking_lot::Mutex;

/// Names a consumer within its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConsumerAt {
    pub(crate) channel: u16,
    /// Its place among the channel's holders. It may have passed to another consumer since;
    /// looking there in vain does no harm.
    pub(crate) holder: u32,
}

/// The consumers of a connection that have something to do. Bounded by the number of its
/// consumers: each is in it once, and those that were cancelled since.
pub(crate) struct ReadyList {
    list: Mutex<Vec<ConsumerAt>>,
    wake: Arc<dyn Wake>,
    /// Some consumer is active that was not, or no more.
    activity: AtomicBool,
}

impl ReadyList {
    pub(crate) fn new(wake: Arc<dyn Wake>) -> Arc<Self> {
        Arc::new(Self { list: Mutex::default(), wake, activity: AtomicBool::new(false) })
    }

    /// What wakes the connection.
    pub(crate) fn wake(&self) -> &Arc<dyn Wake> {
        &self.wake
    }

    /// Whether a consumer became active, or is no more, since this was asked.
    pub(crate) fn take_activity(&self) -> bool {
        self.activity.load(Ordering::Relaxed) && self.activity.swap(false, Ordering::AcqRel)
    }

    /// Swaps the list for an empty one.
    pub(crate) fn take_into(&self, taken: &mut Vec<ConsumerAt>) {
        taken.clear();
        mem::swap(&mut *self.list.lock(), taken);
    }
}

/// A consumer as its queue sees it.
///
/// *No wake-up is lost:* the flag is set under the queue's lock after the change, and cleared by
/// the connection before it takes that lock to look. So either the connection looks after the
/// change, or the change finds the flag cleared.
pub(crate) struct Handle {
    ready: AtomicBool,
    queue_deleted: AtomicBool,
    /// It does not stand by while another one is active.
    active: AtomicBool,
    list: Arc<ReadyList>,
    at: ConsumerAt,
}

impl Handle {
    pub(crate) fn new(list: Arc<ReadyList>, at: ConsumerAt) -> Arc<Self> {
        let [ready, queue_deleted, active] = [false, false, true].map(AtomicBool::new);
        Arc::new(Self { ready, queue_deleted, active, list, at })
    }

    /// Something to do. The first to say so puts the consumer on its connection's list, and the
    /// first consumer on the list wakes the connection.
    pub(crate) fn notify(&self) {
        if self.ready.load(Ordering::Relaxed) || self.ready.swap(true, Ordering::AcqRel) {
            return;
        }
        self.put_on_list();
    }

    fn put_on_list(&self) {
        let first = {
            let mut list = self.list.list.lock();
            list.push(self.at);
            list.len() == 1
        };
        if first {
            self.list.wake.wake();
        }
    }

    /// The queue is gone, and the consumer with it. Its connection is woken though it keeps the consumer on a list of
    /// its own, as one that cannot be given anything now.
    pub(crate) fn notify_deleted(&self) {
        self.queue_deleted.store(true, Ordering::Release);
        if self.ready.swap(true, Ordering::AcqRel) {
            self.list.wake.wake();
        } else {
            self.put_on_list();
        }
    }

    /// It stands by until it is told otherwise.
    pub(crate) fn stand_by(&self) {
        self.active.store(false, Ordering::Release);
    }

    /// It is active from now on, or stands by.
    pub(crate) fn tell_active(&self, is_active: bool) {
        self.active.store(is_active, Ordering::Release);
        self.list.activity.store(true, Ordering::Release);
        self.list.wake.wake();
    }

    pub(crate) fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    pub(crate) fn is_queue_deleted(&self) -> bool {
        self.queue_deleted.load(Ordering::Acquire)
    }

    /// The connection is about to look.
    pub(crate) fn clear(&self) {
        self.ready.store(false, Ordering::Release);
    }

    /// The connection stopped before the end and keeps the consumer on a list of its own. False
    /// if it is on the shared list again already.
    pub(crate) fn keep(&self) -> bool {
        !self.ready.swap(true, Ordering::AcqRel)
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
    fn wakes_once_for_many_messages_and_many_consumers() {
        let counter = Arc::new(Counter::default());
        let list = ReadyList::new(counter.clone());
        let at = |holder| ConsumerAt { channel: 1, holder };
        let handles = [Handle::new(list.clone(), at(0)), Handle::new(list.clone(), at(1))];
        for _ in 0..10 {
            handles[0].notify();
            handles[1].notify();
        }
        assert_eq!(counter.0.load(Ordering::SeqCst), 1);
        let mut taken = Vec::new();
        list.take_into(&mut taken);
        assert_eq!(taken, [at(0), at(1)]);
        handles[0].clear();
        handles[0].notify();
        assert_eq!(counter.0.load(Ordering::SeqCst), 2);
        assert!(!handles[1].keep(), "the flag was never cleared");
        handles[1].clear();
        assert!(handles[1].keep());
        handles[1].notify();
        list.take_into(&mut taken);
        assert_eq!(taken, [at(0)]);
    }
}
