//! What is said of a queue and what it says of itself.

use super::Queue;
use leveret_model::{Name, Table};

/// What a declarer says of a queue.
#[derive(Clone, Debug, Default)]
pub struct QueueSpec {
    /// Its name; empty to have one made.
    pub name: Name,
    /// Survives a restart, where there is a store. An exclusive queue never does.
    pub durable: bool,
    /// Of the declaring connection alone; goes with it.
    pub exclusive: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// All arguments.
    pub arguments: Table,
}

/// What `queue.declare-ok` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueStatus {
    /// The queue's name.
    pub name: Name,
    /// How many messages are ready: neither delivered nor on their way to a consumer.
    pub messages: u64,
    /// How many consumers there are.
    pub consumers: u64,
}

/// What is in a queue at one moment, for people to look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Messages that wait for a consumer.
    pub ready: u64,
    /// Messages that were delivered or assigned to consumers and are not settled.
    pub unsettled: u64,
    /// Consumers.
    pub consumers: u64,
    /// Messages that were in the store and could not be read from there.
    pub unreadable: u64,
}

impl Queue {
    /// All counts, of one moment.
    #[must_use]
    pub fn counts(&self) -> QueueCounts {
        let state = self.state.lock();
        QueueCounts {
            ready: state.ready() as u64,
            unsettled: state.unsettled() as u64,
            consumers: state.consumer_count() as u64,
            unreadable: state.lost(),
        }
    }
}

/// What becomes of delivered messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// Done.
    Accepted,
    /// Not wanted: dead-lettered if the queue has a dead-letter exchange, else dropped. A dead letter counts that as
    /// one more failure where its queue counted some.
    Rejected,
    /// The same where it is no failure.
    Discarded,
    /// Back to where it was in the queue, marked as redelivered.
    Requeue {
        /// Its consumer failed on it or went away: that counts where deliveries are limited.
        failed: bool,
    },
}
