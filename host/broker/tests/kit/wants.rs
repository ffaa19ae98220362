//! A consumer that wants some messages, and counts how often it was asked.

use leveret_broker::Selector;
use leveret_model::MessageView;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

type By = Box<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// By the body of a message.
pub struct Wants {
    by: By,
    asked: AtomicUsize,
}

impl Wants {
    pub fn by(by: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { by: Box::new(by), asked: AtomicUsize::new(0) })
    }

    /// Those whose body begins so.
    pub fn beginning(with: &'static str) -> Arc<Self> {
        Self::by(move |body| body.starts_with(with.as_bytes()))
    }

    /// How often it was asked since the last time.
    pub fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::SeqCst)
    }
}

impl Selector for Wants {
    fn wants(&self, message: &MessageView<'_>, _: bool) -> bool {
        self.asked.fetch_add(1, Ordering::SeqCst);
        (self.by)(message.body)
    }
}

impl fmt::Debug for Wants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wants").finish_non_exhaustive()
    }
}
