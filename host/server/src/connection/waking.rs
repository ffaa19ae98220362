//! What wakes a connection's task, beside what wakes it from its socket and timers.

use super::ConnectionWake;
use leveret_access::login::Outcome;
use leveret_broker::port::Wake;
use parking_lot::Mutex;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Waits for this connection on somebody's list, once at a time.
pub(crate) struct OnceWake {
    /// It is on the list, and was not woken since.
    waits: AtomicBool,
    connection: Arc<ConnectionWake>,
}

impl OnceWake {
    pub(crate) fn new(connection: Arc<ConnectionWake>) -> Arc<Self> {
        Arc::new(Self { waits: AtomicBool::new(false), connection })
    }

    /// Puts it on the list unless it is there; `false` from `enlist` says that there is nothing to wait for.
    pub(crate) fn wait(self: &Arc<Self>, enlist: impl FnOnce(&Arc<dyn Wake>) -> bool) -> bool {
        if self.waits.swap(true, Ordering::AcqRel) {
            return true;
        }
        let waker: Arc<dyn Wake> = self.clone();
        let waits = enlist(&waker);
        if !waits {
            self.waits.store(false, Ordering::Release);
        }
        waits
    }
}

impl Wake for OnceWake {
    fn wake(&self) {
        self.waits.store(false, Ordering::Release);
        self.connection.wake();
    }
}

/// A claim that is being checked on another thread, and wakes the connection once that is done.
pub(crate) struct LoginCheck {
    /// The user that is claimed, for the log.
    user: String,
    outcome: Mutex<Option<Outcome>>,
    wake: Arc<ConnectionWake>,
}

impl LoginCheck {
    pub(crate) fn new(user: &[u8], wake: &Arc<ConnectionWake>) -> Arc<Self> {
        let user = String::from_utf8_lossy(user).into_owned();
        Arc::new(Self { user, outcome: Mutex::new(None), wake: wake.clone() })
    }

    /// The user that is claimed, for the log.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// It is done.
    pub(crate) fn tell(&self, outcome: Outcome) {
        *self.outcome.lock() = Some(outcome);
        self.wake.wake();
    }

    /// What came of it, once.
    pub(crate) fn take(&self) -> Option<Outcome> {
        self.outcome.lock().take()
    }
}
