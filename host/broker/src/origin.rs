//! Messages that the broker itself publishes, and what it knows of them that they do not say.
//!
//! They go the way of any publish (`publish.rs`). Who sends them stands behind [`Sender`]: the
//! housekeeper with what was held or emitted, a connection with its dead letters.

use crate::{later::EMISSIONS_MAX, memory::LargeBody, publish::Published, queue::Queue, store::Group};
use alloc::{sync::Arc, vec::Vec};

/// Where a message comes from. That of a publish is the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// How many emissions led to it.
    pub(crate) hops: u8,
    /// It was dead-lettered: its headers tell of it, and the broker wrote them.
    pub(crate) dead_lettered: bool,
    /// It comes as one that somebody had before.
    pub(crate) redelivered: bool,
    /// How often it failed in queues where it died: the next one goes on from there.
    pub(crate) failures: u32,
    /// How many messages may be emitted because of it.
    pub(crate) emissions_max: u32,
}

impl Default for Origin {
    fn default() -> Self {
        Self { hops: 0, dead_lettered: false, redelivered: false, failures: 0, emissions_max: EMISSIONS_MAX }
    }
}

/// Who in the broker publishes a batch of messages, told apart by their places in it.
pub(crate) trait Sender {
    /// Where a message comes from.
    fn origin(&self, message: u32) -> Origin;

    /// Its body, if that has an allocation of its own already.
    fn large(&self, message: u32) -> Option<Arc<LargeBody>> {
        let _ = message;
        None
    }

    /// Whether a queue that was found for a message may have it. Asked perhaps more than once.
    fn may_reach(&mut self, message: u32, queue: &Queue) -> bool {
        let _ = (message, queue);
        true
    }

    /// The first messages of the batch, as many as there are outcomes, are in their queues or held.
    /// What else follows from them comes after this: effects are committed, what is wanted is done. What is to be
    /// written together with them is added to the group; without one nothing is written.
    fn placed(&mut self, outcomes: &[Published], group: Option<&mut dyn Group>) {
        let _ = (outcomes, group);
    }
}

/// The housekeeper: the origins of its messages.
impl Sender for Vec<Origin> {
    fn origin(&self, message: u32) -> Origin {
        self.get(message as usize).copied().unwrap_or_default()
    }
}
