//! Telling types what changed: at once those that are quick, the others by somebody who may wait.
//!
//! Whoever takes something away (a binding, a queue, an exchange) does so at once, under the lock for
//! changes, and publishes that begin afterwards do not find it. Types that want to know are told after
//! that. What concerns types that may take long lies in the [`Topology`] until [`Vhost::tell_types`] is
//! called; the housekeeper is woken for it ([`Vhost::errands_due`]).

use crate::{origin::Origin, port::Router, receipt::Receipt, topology::Topology, vhost::Vhost};
use alloc::vec::Vec;
use parking_lot::MutexGuard;

/// What came of a change that was to be made at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Now<T> {
    /// It is made. Where something durable is concerned it counts as done when it is safe.
    Done(T, Receipt),
    /// It is made, and types are to be told of it that may take long: by [`Vhost::tell_types`], in another
    /// thread than one that others wait for. It counts as done when that has returned, and it is safe.
    Tell(T, Receipt),
    /// Nothing was changed: a type is to be asked that may take long. The function whose name lacks the
    /// `_now` does it, likewise in another thread.
    Ask,
}

impl<T> Now<T> {
    /// What the change came to, if it is made.
    #[must_use]
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Done(value, _) | Self::Tell(value, _) => Some(value),
            Self::Ask => None,
        }
    }
}

impl Vhost {
    /// Tells types, also those that may take long, of all that is gone. Waits for whoever is asking or
    /// telling such types at the moment.
    pub fn tell_types(&self, router: &mut dyn Router) {
        let _order = self.order.lock();
        self.tell_all(router);
    }

    /// The same; the order is kept by the caller, if the types may take long.
    pub(crate) fn tell_all(&self, router: &mut dyn Router) {
        let untold = self.changes.lock().take_untold(|_| true);
        let mut deeds = Vec::new();
        untold.tell(router, &mut deeds);
        self.perform(&mut deeds, Origin::default(), router.now_ms());
    }

    /// Tells the types that are quick. Gives whether others are to be told.
    pub(crate) fn tell_quick(&self, router: &mut dyn Router) -> bool {
        let (untold, others) = {
            let mut changes = self.changes.lock();
            (changes.take_untold(|exchange| router.is_quick(exchange)), changes.has_untold())
        };
        let mut deeds = Vec::new();
        untold.tell(router, &mut deeds);
        self.perform(&mut deeds, Origin::default(), router.now_ms());
        others
    }

    /// The end of a change that took something away: tells types that are quick, and sees to it that the
    /// others are told.
    pub(crate) fn made<T>(
        &self,
        changes: MutexGuard<'_, Topology>,
        router: Option<&mut (dyn Router + '_)>,
        (value, receipt): (T, Receipt),
    ) -> Now<T> {
        if !changes.has_untold() {
            return Now::Done(value, receipt);
        }
        drop(changes);
        let others = router.is_none_or(|router| self.tell_quick(router));
        if !others {
            return Now::Done(value, receipt);
        }
        self.later.wake_housekeeper();
        Now::Tell(value, receipt)
    }

    /// Whether there is something to do by [`Self::run_errands`].
    #[must_use]
    pub fn errands_due(&self, now_ms: u64) -> bool {
        self.changes.lock().has_untold() || self.next_timer_ms().is_some_and(|due_ms| due_ms <= now_ms)
    }

    /// Tells types what is gone, and fires some of the timers that are due. Takes as long as the types
    /// do: not for a thread that others wait for.
    pub fn run_errands(&self, router: &mut dyn Router) {
        self.tell_types(router);
        self.fire_timers(router);
    }
}
