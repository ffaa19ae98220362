//! What became of a published message, and what that means for whoever hears of it.

use super::checks::failed;
use crate::{port::Fate, walk::Walked};
use alloc::{format, sync::Arc};
use leveret_model::{Name, Refusal};

/// What became of a published message.
#[derive(Clone, Debug, PartialEq)]
pub enum Published {
    /// At least one queue took it, or it is held.
    Routed,
    /// The exchange's type dropped it on purpose: to be confirmed, not returned.
    Dropped,
    /// There is no queue for it: to be returned if it is mandatory, then confirmed.
    Unroutable,
    /// The type did not accept it, or failed on it: a negative confirm where confirms are on.
    Rejected(Arc<str>),
    /// Not accepted, because a plugin cannot be asked about any message now: to its publisher the same as
    /// [`Self::Rejected`]. Whoever tries again may count it as no try.
    Unavailable(Arc<str>),
    /// Not accepted, because a queue has no room for it and says so, or there is none for what a type emits or enqueues because
    /// of it: to its publisher the same again. Of what the broker
    /// publishes only where no other queue took it, which would get it once more with another try.
    Full(NoRoom),
    /// The publish is an error of its channel. Whatever else the batch has from that channel
    /// after it went nowhere, and has the same outcome.
    Refused(Refusal),
}

/// Where there is no room for a message.
#[derive(Clone, Debug, PartialEq)]
pub struct NoRoom {
    /// For people to read.
    pub why: Arc<str>,
    /// The queue that is full, the first one of several; `None` where it is no queue, or none that the message goes to.
    pub queue: Option<Name>,
}

impl NoRoom {
    /// A queue is full; in RabbitMQ's words.
    pub(crate) fn in_queue(queue: &Name) -> Self {
        let why = format!("queue '{}' exceeded maximum length", queue.to_text());
        Self { why: why.into(), queue: Some(queue.clone()) }
    }
}

impl From<Arc<str>> for NoRoom {
    fn from(why: Arc<str>) -> Self {
        Self { why, queue: None }
    }
}

impl Published {
    /// What that means for effects; none where the message is not accepted.
    pub(crate) fn fate(&self) -> Option<Fate> {
        match self {
            Self::Routed => Some(Fate::Routed),
            Self::Dropped => Some(Fate::Dropped),
            Self::Unroutable => Some(Fate::Unroutable),
            Self::Rejected(_) | Self::Unavailable(_) | Self::Full(_) | Self::Refused(_) => None,
        }
    }
}

/// What a publish is told of where its walk ended; `None` if it has to wait.
pub(crate) fn published(walked: Walked) -> Option<Published> {
    match walked {
        Walked::Pending => None,
        Walked::Routed => Some(Published::Routed),
        Walked::Unroutable => Some(Published::Unroutable),
        Walked::Dropped => Some(Published::Dropped),
        Walked::Rejected(reason) => Some(Published::Rejected(reason)),
        Walked::Failed(refusal) => Some(failed(*refusal)),
    }
}
