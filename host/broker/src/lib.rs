//! Virtual hosts, exchanges, bindings, the routing walk, queues, consumers, acknowledgements.
//!
//! *Not here:* sockets, clocks, wire formats, WebAssembly. Exchange types are asked through a
//! port ([`port::Router`]); a consumer's connection is woken through another ([`port::Wake`]).
//!
//! *In:* declarations and bindings ([`Vhost`]), batches of publishes ([`Publisher`]), and what a
//! connection says of its consumers and deliveries ([`Client`]). *Out:* outcomes of publishes,
//! deliveries into a [`Sink`], refusals. A message keeps the form in which it came.
//!
//! *Invariants:* from one channel to one queue messages stay in order. A message is in a queue,
//! assigned to a consumer, in one channel's ledger or among one connection's dead letters, never in
//! two of these, until it is settled.
//! Locks are taken in this order: the vhost's for changes, the name maps, a queue's, then those
//! that guard a list and nothing else (ready lists, waiters, what is to happen later). Nothing is called under a queue's
//! lock but a [`Sink`], a [`Selector`] and a [`port::Wake`].
//!
//! Read [`port`] first, then [`exchange`], `publish.rs` for the way in, `client/deliver.rs`
//! for the way out, and [`later`] for what happens in between.

extern crate alloc;

mod after;
mod bind;
mod client;
mod credit;
mod dead_letter;
mod deeds;
mod equivalence;
pub mod exchange;
pub mod explain;
mod far;
mod intercept;
mod keep;
pub mod later;
mod memory;
mod names;
mod origin;
pub mod policy;
pub mod port;
mod publish;
pub mod queue;
mod reasons;
mod receipt;
mod recent;
mod reconfigure;
mod relief;
mod replies;
mod restore;
mod selector;
mod stage;
pub mod store;
mod telling;
mod topology;
pub mod traffic;
mod vhost;
mod walk;

pub use bind::BindTo;
pub use client::{
    CONSUMER_TIMEOUT_MS, Client, ConsumeSpec, DELIVER_BURST_MESSAGES_MAX, Delivery, Got, Held, Remark, Sink,
    TimedOut,
};
pub use dead_letter::{BACK_OFF_MS_FIRST, BACK_OFF_MS_MAX, DEATHS_MAX, DeathReason, REFUSALS_MAX};
pub use exchange::ExchangeSpec;
pub use explain::Explanation;
pub use memory::MemoryAccount;
pub use names::{
    check_queue as check_queue_name, declared as declared_name, is_reserved as is_reserved_name,
    made_queue as made_queue_name, unbroken as unbroken_name,
};
pub use publish::{MESSAGE_HEAD_BYTES_MAX, NoRoom, Publish, Published, Publisher, Transaction};
pub use queue::{
    AddedHeader, DeadLetterCounts, DeadLettering, QueueCounts, QueueSettings, QueueSpec, QueueStatus, Settle,
    header_bytes,
};
pub use reasons::ReasonCounts;
pub use receipt::Receipt;
pub use replies::REPLY_TO;
pub use restore::Restored;
pub use selector::Selector;
pub use telling::Now;
pub use vhost::Vhost;

/// Numbers a connection for as long as the broker runs; never used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ConnectionId(pub u64);
