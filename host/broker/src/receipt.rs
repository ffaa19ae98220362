//! Whether a change that was handed to the store is safe.

use crate::store::{Durability, KeptId, Ranges, Store, StoreFailure, Written};
use alloc::{sync::Arc, vec::Vec};
use core::fmt;
use parking_lot::Mutex;

/// For a change of what a virtual host consists of, or messages that were removed: it is made, and perhaps not safe yet. The default is one for
/// which nothing had to be written.
#[derive(Clone, Default)]
pub struct Receipt(Option<Arc<Slip>>);

/// What is known of a group.
#[derive(Default)]
pub(crate) struct Slip(Mutex<State>);

#[derive(Default)]
struct State {
    outcome: Option<Result<(), StoreFailure>>,
    waiting: Vec<(Arc<dyn Written>, u64)>,
}

impl Written for Slip {
    fn written(&self, _token: u64, outcome: Result<(), StoreFailure>) {
        let waiting = {
            let mut state = self.0.lock();
            state.outcome = Some(outcome.clone());
            core::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(|(waiter, token)| waiter.written(token, outcome.clone()));
    }
}

impl Receipt {
    /// For a group that is told of on this slip.
    pub(crate) fn of(slip: &Arc<Slip>) -> Self {
        Self(Some(slip.clone()))
    }

    /// Tells a store that messages are done with, and asks when that is safe, and all that it was told before: where
    /// there is nothing any more, somebody else may have taken it away just now.
    pub(crate) fn for_settled(
        store: &dyn Store,
        durability: Durability,
        settled: &[(KeptId, Ranges)],
    ) -> Self {
        let (slip, mut group) = (Arc::new(Slip::default()), store.group());
        let waiter: Arc<dyn Written> = slip.clone();
        settled.iter().for_each(|(queue, range)| group.settle(*queue, &[*range]));
        group.submit(durability, Some((&waiter, 0)));
        Self::of(&slip)
    }

    /// Whether it is not known yet if the change is safe.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.0.as_ref().is_some_and(|slip| slip.0.lock().outcome.is_none())
    }

    /// Whether there is nothing to wait for: the change is safe, or nothing had to be written.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        self.0.as_ref().is_none_or(|slip| slip.0.lock().outcome == Some(Ok(())))
    }

    /// Has `waiter` told when the change is safe, or will not be; at once if that is known.
    pub fn when_safe(&self, waiter: &Arc<dyn Written>, token: u64) {
        let known = self.0.as_ref().map_or(Some(Ok(())), |slip| {
            let mut state = slip.0.lock();
            if state.outcome.is_none() {
                state.waiting.push((waiter.clone(), token));
            }
            state.outcome.clone()
        });
        if let Some(outcome) = known {
            waiter.written(token, outcome);
        }
    }
}

/// The same group, or none for both.
impl PartialEq for Receipt {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl Eq for Receipt {}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").field("is_pending", &self.is_pending()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Told(Mutex<Vec<(u64, bool)>>);

    impl Written for Told {
        fn written(&self, token: u64, outcome: Result<(), StoreFailure>) {
            self.0.lock().push((token, outcome.is_ok()));
        }
    }

    #[test]
    fn whoever_asks_is_told_once_before_and_after_it_is_known() {
        let told = Arc::new(Told::default());
        let waiter: Arc<dyn Written> = told.clone();
        Receipt::default().when_safe(&waiter, 1);
        assert_eq!(*told.0.lock(), [(1, true)]);
        let slip = Arc::new(Slip::default());
        let receipt = Receipt::of(&slip);
        receipt.when_safe(&waiter, 2);
        assert!(receipt.is_pending() && !receipt.is_safe());
        assert_eq!(told.0.lock().len(), 1);
        slip.written(0, Err(StoreFailure(Arc::from("full"))));
        receipt.when_safe(&waiter, 3);
        assert_eq!(*told.0.lock(), [(1, true), (2, false), (3, false)]);
        assert!(!receipt.is_pending() && !receipt.is_safe());
    }
}
