//! What a virtual host did later than when it was asked to: held messages, emitted ones, timers.

use leveret_broker::later::LaterCounters;
use serde::Serialize;

/// Counts since the broker began.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LaterJson {
    /// Messages that were held.
    pub held: u64,
    /// Held messages that went on to a queue, that had no destination, that were dropped.
    pub released: u64,
    #[allow(missing_docs, reason = "see `released`")]
    pub released_unroutable: u64,
    #[allow(missing_docs, reason = "see `released`")]
    pub released_dropped: u64,
    /// Times that a held message was due and could not go on.
    pub release_retries: u64,
    /// Held messages that were cancelled, that went with their exchange, that were set aside.
    pub holds_cancelled: u64,
    #[allow(missing_docs, reason = "see `holds_cancelled`")]
    pub holds_lost: u64,
    #[allow(missing_docs, reason = "see `holds_cancelled`")]
    pub holds_set_aside: u64,
    /// Messages that plugins published, that had no destination, that a type dropped, that were given up or found no
    /// room.
    pub emitted: u64,
    #[allow(missing_docs, reason = "see `emitted`")]
    pub emitted_unroutable: u64,
    #[allow(missing_docs, reason = "see `emitted`")]
    pub emitted_dropped: u64,
    #[allow(missing_docs, reason = "see `emitted`")]
    pub emissions_lost: u64,
    /// Messages on their way out of a queue for which what interceptors did was undone: the store took nothing.
    pub effects_lost: u64,
    /// Messages that plugins wanted in a queue that is not there.
    pub enqueues_lost: u64,
    /// Messages that did not come into a queue because it was full.
    pub queues_full: u64,
    /// Timers that fired, that were not set because there are too many, that were given up.
    pub timers_fired: u64,
    #[allow(missing_docs, reason = "see `timers_fired`")]
    pub timers_refused: u64,
    #[allow(missing_docs, reason = "see `timers_fired`")]
    pub timers_failed: u64,
    /// Dead letters that were set aside.
    pub letters_set_aside: u64,
    /// Dead letters that went on without all of their history, which did not fit.
    pub histories_shortened: u64,
}

impl From<LaterCounters> for LaterJson {
    fn from(counted: LaterCounters) -> Self {
        Self {
            held: counted.held,
            released: counted.released,
            released_unroutable: counted.released_unroutable,
            released_dropped: counted.released_dropped,
            release_retries: counted.release_retries,
            holds_cancelled: counted.holds_cancelled,
            holds_lost: counted.holds_lost,
            holds_set_aside: counted.holds_stuck,
            emitted: counted.emitted,
            emitted_unroutable: counted.emitted_unroutable,
            emitted_dropped: counted.emitted_dropped,
            emissions_lost: counted.emissions_lost,
            effects_lost: counted.effects_lost,
            enqueues_lost: counted.enqueues_lost,
            queues_full: counted.queues_full,
            timers_fired: counted.timers_fired,
            timers_refused: counted.timers_refused,
            timers_failed: counted.timers_failed,
            letters_set_aside: counted.letters_stuck,
            histories_shortened: counted.histories_shortened,
        }
    }
}
