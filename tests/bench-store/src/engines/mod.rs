//! What is compared: each keeps messages of queues, commits batches, and forgets what was acked.

mod fjall;
mod leveret;
mod raft_engine;
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;

use std::{error::Error, path::Path};

pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// A message: its queue and its place there.
pub type Place = (u32, u64);

/// Work for an engine: what is published, one after the other, and what is acked meanwhile.
pub struct Work<'a> {
    pub publishes: &'a [Place],
    /// After so many publishes this is acked: as many lists as there are batches.
    pub acks: &'a [Vec<Place>],
    pub body: &'a [u8],
    /// How many may be unconfirmed.
    pub window: usize,
}

/// An engine with a directory.
pub trait Engine {
    /// Publishes all, each confirmed when it is synced, at most the window unconfirmed. Returns how many
    /// syncs that took, if that is known.
    fn run(&mut self, work: &Work<'_>) -> Outcome<Option<u64>>;

    /// Reads all messages of a queue in order; tells how many.
    fn read(&mut self, queue: u32) -> Outcome<u64>;
}

/// Opens an engine in a directory, which may have been used by it before.
pub type Open = fn(&Path, queues: u32) -> Outcome<Box<dyn Engine>>;

/// All engines, by name.
pub const ENGINES: &[(&str, Open)] = &[
    ("leveret", leveret::open),
    ("fjall", fjall::open),
    ("redb", redb::open),
    ("raft-engine", raft_engine::open),
    #[cfg(feature = "rocksdb")]
    ("rocksdb", rocksdb::open),
];

/// A key that sorts by queue and place.
fn key(place: Place) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&place.0.to_be_bytes());
    key[4..].copy_from_slice(&place.1.to_be_bytes());
    key
}
