//! Who is told that something is safe, and the words for what is not.

use leveret_broker::store::{StoreFailure, Written};
use leveret_store::{Done, Failed, Refused};
use parking_lot::Mutex;
use std::sync::Arc;

/// Who is told of what was handed over, and under which token.
pub(super) type Waiter<'a> = Option<(&'a Arc<dyn Written>, u64)>;

/// Why nothing is taken.
pub(super) fn refused(why: Refused) -> StoreFailure {
    StoreFailure(Arc::from(match why {
        Refused::Full => "the disk is full; give it room, or have messages consumed",
        Refused::Behind => "the disk does not keep up; try again",
        Refused::TooLarge => "more at once than the store takes",
        Refused::Closed => "it is closed, because the broker stops",
    }))
}

/// Why what was taken is not safe.
pub(super) fn failed(why: Failed) -> StoreFailure {
    StoreFailure(Arc::from(match why {
        Failed::Full => "the disk is full, there was no room for a large body; give it room",
        Failed::Disk => "a large body could not be written; the log says why",
        Failed::Closed => "the broker stopped before it was safe",
    }))
}

/// Tells somebody of the broker, once, of what is in one or several groups.
pub(super) struct Told {
    /// How many groups are not safe yet, and what went wrong until now.
    left: Mutex<(usize, Result<(), StoreFailure>)>,
    to: Arc<dyn Written>,
    token: u64,
}

impl Told {
    /// Somebody who waits for so many groups.
    pub(super) fn new(groups: usize, to: &Arc<dyn Written>, token: u64) -> Arc<Self> {
        Arc::new(Self { left: Mutex::new((groups, Ok(()))), to: to.clone(), token })
    }

    /// What came of one of them.
    pub(super) fn tell(&self, outcome: Result<(), StoreFailure>) {
        let mut left = self.left.lock();
        left.0 = left.0.saturating_sub(1);
        if left.1.is_ok() {
            left.1 = outcome;
        }
        let told = (left.0 == 0).then(|| left.1.clone());
        drop(left);
        if let Some(outcome) = told {
            self.to.written(self.token, outcome);
        }
    }
}

impl Done for Told {
    fn done(&self, _token: u64, outcome: Result<(), Failed>) {
        self.tell(outcome.map_err(failed));
    }
}
