//! What operators see of what is to happen later.

use super::{EMISSIONS_MAX, HOPS_MAX, RELEASE_TRIES_MAX};
use crate::{
    dead_letter::REFUSALS_MAX,
    exchange::Exchange,
    port::{HoldId, Layer},
};
use alloc::sync::Arc;
use core::fmt;
use leveret_model::Name;

impl Exchange {
    /// How many messages it holds because its type at that layer said so, and how many of them are set aside
    /// because they were refused too often.
    #[must_use]
    pub fn held_by(&self, layer: Layer) -> (usize, usize) {
        self.later.upgrade().map_or((0, 0), |later| later.held_by(self.id, layer))
    }

    /// How many timers its type at that layer has set.
    #[must_use]
    pub fn timer_count(&self, layer: Layer) -> usize {
        self.later.upgrade().map_or(0, |later| later.timer_count((self.id, layer)))
    }

    /// The timers of its type at that layer that are due first, at most `max`.
    #[must_use]
    pub fn timers(&self, layer: Layer, max: usize) -> Vec<TimerInfo> {
        self.later.upgrade().map(|later| later.timers((self.id, layer), max)).unwrap_or_default()
    }
}

/// A held message, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldInfo {
    /// Its number, good for [`crate::Vhost::cancel_hold`].
    pub id: HoldId,
    /// When it goes on, in milliseconds since 1970; past if it was tried and could not.
    pub due_ms: u64,
    /// How long the message is, in bytes.
    pub length_bytes: u64,
    /// The key it was published with.
    pub routing_key: Name,
    /// How often its exchange refused it since it was due, or since bindings or plugins changed.
    pub tries: u32,
    /// Why it is set aside, if it was refused [`RELEASE_TRIES_MAX`](super::RELEASE_TRIES_MAX) times: it is
    /// tried again when the exchange's bindings or the plugins change.
    pub stuck: Option<Arc<str>>,
}

/// A timer that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimerInfo {
    /// Its name among those of its type.
    pub name: Name,
    /// When it fires, in milliseconds since 1970; past if it was tried and could not.
    pub due_ms: u64,
}

/// What a vhost counted since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaterCounters {
    /// Messages that were held.
    pub held: u64,
    /// Held messages that went on to a queue, or to be held again.
    pub released: u64,
    /// Held messages that had no destination when they were due.
    pub released_unroutable: u64,
    /// Held messages that a type dropped when they were due.
    pub released_dropped: u64,
    /// Held messages that were cancelled.
    pub holds_cancelled: u64,
    /// Held messages whose exchange was deleted.
    pub holds_lost: u64,
    /// Times that a held message was due and its exchange's type did not accept it, or answered
    /// later.
    pub release_retries: u64,
    /// Emitted messages that got to a queue, or are held.
    pub emitted: u64,
    /// Emitted messages that had no destination.
    pub emitted_unroutable: u64,
    /// Emitted messages that a type dropped.
    pub emitted_dropped: u64,
    /// Emitted messages that were given up; the losses say why.
    pub emissions_lost: u64,
    /// Times that an emitted message was not accepted, or the answer came later.
    pub emission_retries: u64,
    /// Timers that fired.
    pub timers_fired: u64,
    /// Timers that were not set because there are too many.
    pub timers_refused: u64,
    /// Messages that exchange types wanted in a queue that is not there.
    pub enqueues_lost: u64,
    /// Messages that the broker put into a queue that had no room for them, while others took them or nobody waited.
    pub queues_full: u64,
    /// Times that a held message was set aside because its exchange refused it too often.
    pub holds_stuck: u64,
    /// Timers that were given up because their calls failed too often.
    pub timers_failed: u64,
    /// Times that a dead letter was set aside because it was refused too often.
    pub letters_stuck: u64,
    /// Dead letters that went on without all of their history, which did not fit.
    pub histories_shortened: u64,
    /// Times that something that was set aside was tried again, because what answers had changed.
    pub tried_again: u64,
    /// Messages for which what interceptors did on deliver and on dead-letter was undone: the store took nothing.
    pub effects_lost: u64,
}

/// Messages or timers that are lost or set aside, to be put into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Why.
    pub why: Why,
    /// The exchange or queue that they were for.
    pub name: Name,
    /// How many.
    pub count: u64,
}

/// Why something is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Emissions led to emissions, more often than [`HOPS_MAX`] times; this plugin made the last.
    TooManyHops(Arc<str>),
    /// More than [`EMISSIONS_MAX`] emissions led back to one message; this plugin made the last.
    TooManyEmissions(Arc<str>),
    /// Too many messages wait already that this plugin emitted, and no publish could be refused for it.
    OutboxFull(Arc<str>),
    /// The exchange to emit to is not there.
    NoExchange,
    /// The queue to put a message into is not there.
    NoQueue,
    /// A queue has no room for what the broker puts into it.
    QueueFull,
    /// An emitted message was not accepted again and again, for this reason the last time.
    NotAccepted(Arc<str>),
    /// The exchange that held it was deleted.
    ExchangeDeleted,
    /// Too many timers are set already.
    TooManyTimers,
    /// The call of a timer failed again and again, for this reason the last time.
    TimerFailed(Arc<str>),
    /// Not lost, but set aside: a held message was refused again and again, for this reason the last time.
    HoldStuck(Arc<str>),
    /// Not lost, but set aside: a dead letter of that queue, the same.
    LetterStuck(Arc<str>),
    /// Not lost, but tried again from the start: a held message that was set aside.
    HoldAgain,
    /// The same of a dead letter of that queue.
    LetterAgain,
    /// Not lost, but some of its history: a dead letter of that queue that would have been too large with all of it.
    HistoryShortened,
    /// What interceptors did for messages on their way out of that queue could not be written, for this reason.
    NotWritten(Arc<str>),
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { why, name, count } = self;
        let plural = if *count == 1 { "" } else { "s" };
        match why {
            Why::TooManyHops(plugin) => write!(
                f,
                "dropped {count} message{plural} that plugin '{plugin}' emitted to '{name}' after {HOPS_MAX} emissions"
            ),
            Why::TooManyEmissions(plugin) => write!(
                f,
                "dropped {count} message{plural} that plugin '{plugin}' emitted to '{name}': {EMISSIONS_MAX} emissions may \
                 lead back to one message"
            ),
            Why::OutboxFull(plugin) => write!(
                f,
                "dropped {count} message{plural} that plugin '{plugin}' emitted to '{name}': too many of it wait"
            ),
            Why::NoExchange => {
                write!(f, "dropped {count} message{plural} emitted to exchange '{name}': it is not there")
            }
            Why::NotAccepted(reason) => {
                write!(f, "dropped {count} message{plural} emitted to '{name}' and never accepted: {reason}")
            }
            Why::QueueFull => {
                write!(f, "dropped {count} message{plural} for '{name}' on the way to a queue that is full")
            }
            Why::NoQueue => write!(f, "dropped {count} message{plural} for queue '{name}': it is not there"),
            Why::ExchangeDeleted => {
                write!(f, "dropped {count} held message{plural}: exchange '{name}' was deleted")
            }
            Why::TimerFailed(reason) => {
                write!(
                    f,
                    "gave up {count} timer{plural} of exchange '{name}' that failed again and again: {reason}"
                )
            }
            Why::HoldStuck(reason) => write!(
                f,
                "set aside {count} held message{plural} of exchange '{name}' that it refused {RELEASE_TRIES_MAX} times: \
                 {reason}; tried again when its bindings or the versions that answer change"
            ),
            Why::LetterStuck(reason) => write!(
                f,
                "set aside {count} dead letter{plural} of queue '{name}', refused {REFUSALS_MAX} times: {reason}; tried \
                 again when the dead-letter exchange or the versions that answer change"
            ),
            Why::HoldAgain => write!(
                f,
                "tries {count} held message{plural} of exchange '{name}' again: its bindings or the versions that answer \
                 have changed"
            ),
            Why::LetterAgain => write!(
                f,
                "tries {count} dead letter{plural} of queue '{name}' again: the dead-letter exchange or the versions that \
                 answer have changed"
            ),
            Why::HistoryShortened => write!(
                f,
                "left out what did not fit of the history of {count} dead letter{plural} of queue '{name}'"
            ),
            Why::NotWritten(reason) => {
                write!(
                    f,
                    "undid what interceptors did for {count} message{plural} of queue '{name}': {reason}"
                )
            }
            Why::TooManyTimers => {
                write!(f, "did not set {count} timer{plural} of exchange '{name}': there are too many")
            }
        }
    }
}
