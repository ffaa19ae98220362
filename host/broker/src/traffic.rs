//! What happened to messages, counted for people to look at.
//!
//! Numbers go up and begin anew with the process; those of a queue, an exchange or a channel end with it. Nothing
//! is counted message by message where it can be added for a batch or a burst at once: what is counted on a message's
//! path is a load, an addition and a store for many messages.
//!
//! What only one thread counts ([`Count::add`]) costs no more than that; what several may ([`Count::add_shared`]) is an
//! atomic addition for each batch.

use crate::{ConnectionId, Vhost, exchange::Exchange, queue::QueueKind};
use alloc::{sync::Arc, vec::Vec};
use core::{
    ops::AddAssign,
    sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
};
use leveret_model::{Name, Table};

/// A number that goes up, for whoever looks from another thread.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds; only one thread may at a time.
    #[inline]
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// Adds; any thread may.
    #[inline]
    pub fn add_shared(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What was handed out, and what was done with it: [`Count`]s, or numbers of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandedOut<C> {
    /// To consumers that acknowledge.
    pub deliver: C,
    /// To consumers that do not.
    pub deliver_no_ack: C,
    /// To `basic.get` with acknowledgements.
    pub get: C,
    /// To `basic.get` without.
    pub get_no_ack: C,
    /// `basic.get` that found nothing.
    pub get_empty: C,
    /// Of all that was handed out, what was marked as redelivered.
    pub redeliver: C,
    /// What was acknowledged.
    pub ack: C,
}

impl HandedOut<Count> {
    /// The numbers now.
    #[must_use]
    pub fn read(&self) -> HandedOut<u64> {
        HandedOut {
            deliver: self.deliver.get(),
            deliver_no_ack: self.deliver_no_ack.get(),
            get: self.get.get(),
            get_no_ack: self.get_no_ack.get(),
            get_empty: self.get_empty.get(),
            redeliver: self.redeliver.get(),
            ack: self.ack.get(),
        }
    }
}

impl HandedOut<u64> {
    /// All that was handed out.
    #[must_use]
    pub fn deliver_get(&self) -> u64 {
        self.deliver + self.deliver_no_ack + self.get + self.get_no_ack
    }
}

impl AddAssign for HandedOut<u64> {
    fn add_assign(&mut self, other: Self) {
        self.deliver += other.deliver;
        self.deliver_no_ack += other.deliver_no_ack;
        self.get += other.get;
        self.get_no_ack += other.get_no_ack;
        self.get_empty += other.get_empty;
        self.redeliver += other.redeliver;
        self.ack += other.ack;
    }
}

/// Of a queue.
#[derive(Debug, Default)]
pub struct QueueTraffic {
    /// Messages that it took.
    pub publish: Count,
    /// What became of them.
    pub handed_out: HandedOut<Count>,
}

/// Of an exchange that clients publish to.
#[derive(Debug, Default)]
pub struct ExchangeTraffic {
    /// Messages that were published to it.
    pub publish_in: Count,
    /// What went to queues of that, once for each queue.
    pub publish_out: Count,
    /// Messages that its types did not accept, whoever published them.
    pub(crate) rejected: Count,
}

impl Exchange {
    /// How many messages its types did not accept since it was declared.
    #[must_use]
    pub fn rejected_count(&self) -> u64 {
        self.traffic.rejected.get()
    }

    pub(crate) fn count_rejected(&self) {
        self.traffic.rejected.add_shared(1);
    }
}

/// Of a virtual host.
#[derive(Debug, Default)]
pub struct VhostTraffic {
    /// Of its default exchange, which publishing does not look up.
    pub(crate) default_exchange: ExchangeTraffic,
    /// How often a queue was declared, those that were there included.
    pub queues_declared: Count,
    /// How many were made.
    pub queues_created: Count,
    /// How many were deleted.
    pub queues_deleted: Count,
}

impl Vhost {
    /// What came and went in it, since it was made or the process began.
    #[must_use]
    pub fn traffic(&self) -> &VhostTraffic {
        &self.traffic
    }

    /// What clients published to an exchange of it.
    #[must_use]
    pub fn traffic_of<'a>(&'a self, exchange: &'a Exchange) -> &'a ExchangeTraffic {
        if exchange.spec.name.is_empty() { &self.traffic.default_exchange } else { &exchange.traffic }
    }
}

/// Of a channel.
#[derive(Debug, Default)]
pub struct ChannelTraffic {
    /// Messages that were published on it.
    pub publish: Count,
    /// Those of them that were published with confirms on.
    pub publish_confirm: Count,
    /// Those that are confirmed, or will be once they are safe.
    pub confirm: Count,
    /// Those that went back to their publisher because there was no queue for them.
    pub return_unroutable: Count,
    /// Those that went nowhere because there was no queue for them.
    pub drop_unroutable: Count,
    /// What went to queues, once for each queue.
    pub routed: Count,
    /// How it was set up.
    pub mode: ChannelMode,
    /// What was handed out and settled otherwise than by an acknowledgement.
    pub(crate) given_back: Count,
    classic: HandedOut<Count>,
    quorum: HandedOut<Count>,
}

/// How a channel was set up, for whoever looks from another thread.
#[derive(Debug, Default)]
pub struct ChannelMode {
    /// How many messages a new consumer may hold unacknowledged; 0 is no limit.
    pub(crate) prefetch: AtomicU16,
    /// How many all consumers together.
    pub(crate) global_prefetch: AtomicU16,
    /// What is published and settled waits for a commit.
    pub(crate) transactional: AtomicBool,
    /// What is published is confirmed.
    pub confirms: AtomicBool,
}

impl ChannelMode {
    /// How many messages a new consumer may hold unacknowledged, and how many all together; 0 is no limit.
    #[must_use]
    pub fn prefetch(&self) -> (u16, u16) {
        (self.prefetch.load(Ordering::Relaxed), self.global_prefetch.load(Ordering::Relaxed))
    }

    /// Whether what is published and settled waits for a commit.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.transactional.load(Ordering::Relaxed)
    }
}

impl ChannelTraffic {
    /// How many messages were handed out and are not settled, about: nobody stops while it is read.
    #[must_use]
    pub fn unacknowledged(&self) -> u64 {
        let settled = self.given_back.get();
        let HandedOut { deliver, get, ack, .. } = self.read().handed_out();
        (deliver + get).saturating_sub(ack + settled)
    }

    /// What was handed out of queues of a kind.
    #[must_use]
    pub fn handed_out(&self, kind: QueueKind) -> &HandedOut<Count> {
        match kind {
            QueueKind::Classic => &self.classic,
            QueueKind::Quorum => &self.quorum,
        }
    }
}

/// The numbers of a channel at one moment, or of several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "see `ChannelTraffic`")]
pub struct ChannelCounts {
    pub publish: u64,
    pub publish_confirm: u64,
    pub confirm: u64,
    pub return_unroutable: u64,
    pub drop_unroutable: u64,
    pub routed: u64,
    pub classic: HandedOut<u64>,
    pub quorum: HandedOut<u64>,
}

impl ChannelTraffic {
    /// The numbers now.
    #[must_use]
    pub fn read(&self) -> ChannelCounts {
        ChannelCounts {
            publish: self.publish.get(),
            publish_confirm: self.publish_confirm.get(),
            confirm: self.confirm.get(),
            return_unroutable: self.return_unroutable.get(),
            drop_unroutable: self.drop_unroutable.get(),
            routed: self.routed.get(),
            classic: self.classic.read(),
            quorum: self.quorum.read(),
        }
    }
}

impl ChannelCounts {
    /// What was handed out of queues of all kinds.
    #[must_use]
    pub fn handed_out(&self) -> HandedOut<u64> {
        let mut all = self.classic;
        all += self.quorum;
        all
    }
}

impl AddAssign for ChannelCounts {
    fn add_assign(&mut self, other: Self) {
        self.publish += other.publish;
        self.publish_confirm += other.publish_confirm;
        self.confirm += other.confirm;
        self.return_unroutable += other.return_unroutable;
        self.drop_unroutable += other.drop_unroutable;
        self.routed += other.routed;
        self.classic += other.classic;
        self.quorum += other.quorum;
    }
}

/// How messages were handed out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    /// To a consumer.
    Deliver { no_ack: bool },
    /// To `basic.get`.
    Get { no_ack: bool },
}

impl<C> HandedOut<C> {
    fn of(&self, by: By) -> &C {
        match by {
            By::Deliver { no_ack: false } => &self.deliver,
            By::Deliver { no_ack: true } => &self.deliver_no_ack,
            By::Get { no_ack: false } => &self.get,
            By::Get { no_ack: true } => &self.get_no_ack,
        }
    }
}

/// Counts for a channel and a queue that so many messages were handed out, and how many of them again.
#[inline]
pub(crate) fn count_handed_out(
    channel: &HandedOut<Count>,
    queue: &HandedOut<Count>,
    by: By,
    (count, again): (u32, u32),
) {
    if count > 0 {
        channel.of(by).add(count.into());
        queue.of(by).add_shared(count.into());
    }
    if again > 0 {
        channel.redeliver.add(again.into());
        queue.redeliver.add_shared(again.into());
    }
}

/// What is told of a consumer.
#[derive(Clone, Debug)]
pub struct ConsumerInfo {
    /// The connection that it is on.
    pub connection: ConnectionId,
    /// Its channel.
    pub channel: u16,
    /// Its tag.
    pub tag: Name,
    /// What it is given counts as acknowledged.
    pub no_ack: bool,
    /// It admits no other.
    pub exclusive: bool,
    /// How many messages it may hold unacknowledged; 0 is no limit.
    pub prefetch: u16,
    /// How long a delivery may take, in milliseconds; `None` is for ever.
    pub timeout_ms: Option<u64>,
    /// Its arguments.
    pub arguments: Table,
}

/// A consumer of a queue, and whether it is served: with a single active consumer the others stand by.
pub type ConsumerStatus = (Arc<ConsumerInfo>, bool);

/// The consumers of a queue.
pub type ConsumerList = Vec<ConsumerStatus>;
