//! What a group is made of.

use super::{Change, StoreFailure};
use crate::{
    exchange::{ExchangeSpec, TypeSpec},
    memory::LargeBody,
    port::Layer,
    queue::{AddedHeader, QueueSpec},
};
use alloc::{sync::Arc, vec::Vec};
use leveret_model::{MessageView, Name, Table};

/// Numbers a queue or an exchange, or what is like a queue (what a virtual host holds), for ever.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct KeptId(pub u64);

impl KeptId {
    /// Where the number of a lane begins.
    const LANE_SHIFT: u32 = 56;

    /// The number of a lane: what a queue has of one priority. Lane 0 has the queue's own. The numbers that a store gives
    /// out are below 2^56.
    #[must_use]
    pub fn lane(self, lane: u8) -> Self {
        Self(self.0 | u64::from(lane) << Self::LANE_SHIFT)
    }

    /// The number of the queue that a lane belongs to; of a queue's own it is the same.
    #[must_use]
    pub fn queue(self) -> Self {
        Self(self.0 & ((1 << Self::LANE_SHIFT) - 1))
    }
}

/// Where a message goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// The queue.
    pub queue: KeptId,
    /// The message's number there: messages come out in the order of their numbers.
    pub sequence: u64,
}

/// Numbers that follow each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ranges {
    /// The first.
    pub first: u64,
    /// How many; at least one.
    pub count: u32,
}

impl Ranges {
    /// Adds a number to a list of ranges, joined to the last one if it follows that.
    pub fn push(ranges: &mut Vec<Self>, number: u64) {
        if let Some(last) = ranges.last_mut()
            && last.first + u64::from(last.count) == number
            && last.count < u32::MAX
        {
            last.count += 1;
        } else {
            ranges.push(Self { first: number, count: 1 });
        }
    }

    /// What of it begins at a number; `None` if it ends before.
    pub(crate) fn from(&self, number: u64) -> Option<Self> {
        let first = self.first.max(number);
        let count = (self.first + u64::from(self.count)).checked_sub(first)?;
        u32::try_from(count).ok().filter(|count| *count > 0).map(|count| Self { first, count })
    }
}

/// When a group counts as safe. The greater one asks for more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Durability {
    /// Once it is written: it outlives the process.
    Never,
    /// The same, and loss of power so many milliseconds later.
    Interval(core::cmp::Reverse<u32>),
    /// Once it is on disk.
    #[default]
    Always,
}

/// Is told that what was handed over is safe.
pub trait Written: Send + Sync {
    /// What was handed over with that token is safe, or will not be. Called on other threads, and perhaps before
    /// what handed it over returns; must not wait.
    fn written(&self, token: u64, outcome: Result<(), StoreFailure>);
}

/// Where a held message goes on, and when.
#[derive(Clone, Copy, Debug)]
pub struct HeldAs<'a> {
    /// In milliseconds since 1970.
    pub due_ms: u64,
    /// The exchange that holds it.
    pub exchange: &'a Name,
    /// From which of its types on.
    pub resume: Layer,
    /// How many emissions led to it.
    pub hops: u8,
}

/// What is noted of a message beyond what it says itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// Its headers tell of a death, and the broker wrote them.
    pub dead_lettered: bool,
    /// When it came, in milliseconds since 1970; 0 if that is not known.
    pub came_ms: u64,
}

/// What is suspected of the messages of a queue: that they end the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suspicion {
    /// [`Store::handing_out`](super::Store::handing_out) is to be called, for messages from before the start.
    pub tells: bool,
    /// The numbers of those that are handed out in a burst of their own.
    pub alone: Vec<u64>,
    /// The numbers of those that are given to nobody.
    pub aside: Vec<u64>,
}

/// A message of a page.
#[derive(Clone, Copy, Debug)]
pub struct Paged<'a> {
    /// Its number in its queue.
    pub sequence: u64,
    /// The message.
    pub message: MessageView<'a>,
    /// What is noted of it.
    pub noted: Noted,
    /// It was delivered before.
    pub redelivered: bool,
    /// It is kept where its queue is, too.
    pub is_kept: bool,
}

/// A group of changes that is being made, and then taken as a whole. Used again and again.
pub trait Group: Send {
    /// Whether nothing was added.
    fn is_empty(&self) -> bool;

    /// Queues get a message. `large` has its body where that is shared.
    fn enqueue(
        &mut self,
        message: &MessageView<'_>,
        large: Option<&Arc<LargeBody>>,
        noted: Noted,
        targets: &[Target],
    );

    /// A message is held.
    fn hold(&mut self, message: &MessageView<'_>, dead_lettered: bool, held: HeldAs<'_>, target: Target);

    /// A queue no longer has messages.
    fn settle(&mut self, queue: KeptId, ranges: &[Ranges]);

    /// Consumers added headers to a message of a queue, or failed on it; these are all that it has, and how often it failed
    /// in a queue that does not count deliveries. They are kept until it is settled, or not at all where nothing is taken
    /// that grows. Called before anybody else can settle it.
    fn added(&mut self, queue: KeptId, sequence: u64, headers: &[AddedHeader], failed: u32) {
        let _ = (queue, sequence, headers, failed);
    }

    /// What exchange types keep changes.
    fn change(&mut self, changes: &[Change]);

    /// What a virtual host consists of changes. Of queues that are gone the messages go too.
    fn topology(&mut self, vhost: &Name, change: TopologyChange<'_>);

    /// Hands it over, and it is empty again. `waiter` is told under its token. [`super::Store::admit`] was asked
    /// before, unless it only takes away.
    fn submit(&mut self, durability: Durability, waiter: Option<(&Arc<dyn Written>, u64)>);
}

/// How what a virtual host consists of changes.
#[derive(Clone, Copy, Debug)]
pub enum TopologyChange<'a> {
    /// There is this.
    Declared(Topology<'a>),
    /// An exchange is gone, with its bindings both ways.
    ExchangeGone(&'a Name),
    /// A queue is gone, with its messages and bindings.
    QueueGone(KeptId, &'a Name),
    /// A lane of a queue is gone, with its messages.
    LaneGone(KeptId),
    /// A binding is gone.
    Unbound(BindingSpec<'a>),
}

/// Something that a virtual host has.
#[derive(Clone, Copy, Debug)]
pub enum Topology<'a> {
    /// An exchange.
    Exchange(KeptExchange<'a>),
    /// A queue and its number.
    Queue(KeptId, &'a QueueSpec),
    /// What a queue has of one priority, as a queue ([`KeptId::lane`]). Not handed over at a start.
    Lane(KeptId),
    /// A binding.
    Binding(BindingSpec<'a>),
    /// What the virtual host holds, as a queue.
    Holds(KeptId),
}

/// An exchange, with all that its declaration alone does not tell.
#[derive(Clone, Copy, Debug)]
pub struct KeptExchange<'a> {
    /// Its number.
    pub id: KeptId,
    /// What it was declared as.
    pub spec: &'a ExchangeSpec,
    /// The arguments that count now: others than those of its declaration where an operator changed them.
    pub arguments: &'a Table,
    /// Its types, those in front first. They were found when it was declared, by plugins that may be missing or
    /// others at the next start, and what types keep is kept by their places here.
    pub types: &'a [TypeSpec],
}

/// A binding by names.
#[derive(Clone, Copy, Debug)]
pub struct BindingSpec<'a> {
    /// The exchange that messages come from.
    pub source: &'a Name,
    /// Where it leads: to a queue, else to an exchange.
    pub to_queue: bool,
    /// The name of that.
    pub destination: &'a Name,
    /// The binding key.
    pub routing_key: &'a Name,
    /// Its arguments.
    pub arguments: &'a Table,
}

/// What there is of a queue at a start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// How many messages.
    pub messages: u64,
    /// The number of the first; the same as the next if there is none.
    pub first: u64,
    /// The number that follows the last one ever used.
    pub next: u64,
}

/// A message as the store has it.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// Its number.
    pub sequence: u64,
    /// The message; `None` if it cannot be read.
    pub message: Option<MessageView<'a>>,
    /// It cannot be read now, for want of a resource such as files that may be open, and is to be read again later.
    pub is_later: bool,
    /// It was delivered before, or may have been.
    pub redelivered: bool,
    /// How often it was delivered, as far as is known.
    pub deliveries: u16,
    /// Its headers tell of a death, and the broker wrote them.
    pub dead_lettered: bool,
    /// When it came, in milliseconds since 1970; 0 if that is not known.
    pub came_ms: u64,
    /// Where it goes on, if it is held.
    pub held: Option<HeldAs<'a>>,
    /// Of a page: it is kept where its queue is, too.
    pub is_kept: bool,
}

/// Keeps nothing.
pub(super) struct Nowhere;

impl Group for Nowhere {
    fn is_empty(&self) -> bool {
        true
    }

    fn enqueue(&mut self, _: &MessageView<'_>, _: Option<&Arc<LargeBody>>, _: Noted, _: &[Target]) {}

    fn hold(&mut self, _: &MessageView<'_>, _: bool, _: HeldAs<'_>, _: Target) {}

    fn settle(&mut self, _: KeptId, _: &[Ranges]) {}

    fn change(&mut self, _: &[Change]) {}

    fn topology(&mut self, _: &Name, _: TopologyChange<'_>) {}

    fn submit(&mut self, _: Durability, waiter: Option<(&Arc<dyn Written>, u64)>) {
        if let Some((waiter, token)) = waiter {
            waiter.written(token, Ok(()));
        }
    }
}
