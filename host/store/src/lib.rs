//! The durable store: what was confirmed is on disk.
//!
//! *Not here:* what messages mean, who gets them, threads other than its own. The caller numbers queues,
//! messages and spaces; the store keeps them.
//!
//! *In and out:* [`Group`]s of operations in, each atomic, with a [`Sync`] that says when it counts as
//! safe; [`Done`] is told when it is. At a start [`Store::open`] tells what is there ([`Report`]), and
//! [`Reader`]s read it.
//!
//! # The promise
//!
//! | what ends | [`Sync::Always`] | [`Sync::Interval`] | [`Sync::Never`] | [`Sync::Ride`] |
//! |---|---|---|---|---|
//! | the process (`kill -9`) after `done` | is there | is there | is there | is there |
//! | power, after `done` | is there | is there, if older than the interval | may be gone | may be gone |
//! | either, before `done` | all of the group or nothing | the same | the same | the same |
//!
//! - A group is whole or not there at all, also where it concerns many queues.
//! - A message that was acked may come again if power is lost before the ack was synced, which happens
//!   with the next group that is. After any start but one that follows [`Store::close`] every message
//!   counts as delivered before.
//! - A sync that fails confirms nothing and is not tried again: what it was to cover is written again, to another file,
//!   at intervals that double up to five seconds. One is kept free for that; where a full disk has none any more it
//!   waits for room. Meanwhile what comes waits in memory up to a bound, and [`Health::Failing`] says what to do.
//! - There are two checkpoints, each of which serves alone with the journal that is kept for it: across starts too, so
//!   that with one of them damaged nothing is lost, but that every message counts as delivered before if it was the
//!   later one. A start reads both. On a full disk there may be one only.
//! - What is damaged is set aside and told ([`Report`]), and the rest serves, where it is known what that is: a payload
//!   or a body (told when it is read), a message whose segment is gone, batches and groups of the journal that no
//!   checkpoint was to have (told by their numbers, with counts), a checkpoint for which the other one or the journal
//!   makes up.
//! - A segment in which something is damaged is named `damaged-`, serves what of it can be read, and is not used again:
//!   when nothing in it is live it is set aside, and so are damaged bodies and checkpoints (`set-aside.`). Nobody removes
//!   such files but the operator, and a start on a full disk, which tells so ([`Report::given_up`]). A segment of which a
//!   write or a sync failed is removed when it is empty: what failed was written again, so nothing can be learnt from it.
//! - A start does not serve, and changes nothing ([`OpenError::Refused`]), where confirmed messages or settlements may be
//!   missing and nobody can tell which: a read fails; a checkpoint is damaged, and of the batches that it has and the
//!   other one has not something is missing in the journal, so that with that file brought back nothing would be lost;
//!   there is no checkpoint at all and the journal does not begin at the beginning, or lacks something. All of it is one
//!   [`Verdict`], by which a start, the tools and the log go. [`Store::salvage`] goes on with what is left.
//! - What is known of the journal's end a manifest says (`journal/manifest.rs`): the names of its last segments, before
//!   anything is written to them, and up to which batch it is synced, as of a second ago at most. That a checkpoint is
//!   there, damaged or not, says that the batches which it has were synced. Damage in what was never known to be
//!   synced cannot be told from the end of the journal, so it ends there; of a batch that is there in part that is told.
//! - What nobody can see: damage in batches of the last second; that the later checkpoint is not there at all, by which
//!   alone nothing is lost; that the manifest is gone together with the end of the journal, or could not be written,
//!   on a full disk or one that fails.
//! - On a full disk groups that grow are refused ([`Refused::Full`]), and it is the caller who tells whose they are;
//!   acks and deletions are taken all the while, from a reserve that is theirs and comes back as checkpoints are written
//!   (see `journal/room.rs`). When enough was acked, or there is room on the disk, it is [`Health::Well`] again, and
//!   takes at least as much as a segment has, or an eighth of that where it has next to nothing, large bodies apart. A
//!   group with a large body for which there is no room waits for it, and until then it counts as full; given up is one
//!   only when the store is closed, or when nothing is left that could be acked. A full disk can also be started from,
//!   in the room of free segments; where these are used up, by syncs that failed or starts that did not end, a start is
//!   refused ([`OpenError::Full`]) until there is room for a checkpoint and to write again what may not be on disk, since
//!   nothing is written over.
//!   A group that is so long that it has a segment of its own ([`Config::own_segment_bytes`]) is refused where there is no
//!   room for that beside the reserve, whether it was admitted or not.
//!   It holds if nobody else takes the room that a removed checkpoint leaves for the next one, and if syncs do not fail
//!   again and again while the disk is full, for each time may cost a segment; else acks may have to wait until there is
//!   room. And it needs a file system that writes in place: one that copies on write may have no room even for what
//!   is there.
//!
//! # What it takes
//!
//! - *Disk:* two times the live bytes; the journal since the older of two checkpoints, which is twice
//!   [`Config::checkpoint_bytes`], or four checkpoints if that is more; the checkpoints (16 bytes a message, and the
//!   values), and as much again in free segments; up to sixteen segments that are free or slack; and files that were
//!   set aside. A store that has and wrote next to nothing takes five segments in all, and a full disk leaves free what
//!   acks need: with the sizes of a broker five segments, six if a checkpoint may need two. A batch fills up to 4,096
//!   bytes: messages that
//!   come one at a time take that much each until they are acked.
//! - *Writing:* besides the journal, a live byte is copied at most once for each byte that is freed by it; checkpoints
//!   add about half a byte for each byte of the journal (0.62 of ten million messages of 16 bytes), more on a full disk; each new file is filled with zeros
//!   once, but where what grows waits for it.
//! - *Memory:* 16 bytes a message (see `index/mod.rs`), values with their keys, what waits to be written or
//!   synced: up to twice [`Config::pending_bytes_max`] and 64 MiB, and one group that is longer.
//!
//! # How what a broker has is said
//!
//! - A durable queue is a [`QueueId`]; its name and arguments are a value in a [`Space`] of the topology, set in the
//!   group that creates it. Ids are never used again: the highest is found among the values.
//! - A queue numbers its messages itself. Those that are not kept need not be named; gaps cost little.
//! - A message to ten queues is one enqueue with ten targets. A transaction is one group; so is a dead letter (an enqueue
//!   and an ack) and what a plugin did while it decided.
//! - Held messages are a queue of their own, with [`Payload::at_ms`] for when they are due and [`Payload::note`] for where
//!   they go on; release is an ack and an enqueue in one group. Messages that a plugin keeps are a queue, with the key as
//!   note.
//! - A body that is longer than anybody wants to hold in memory is written while it comes, and read in windows: a
//!   [`Body`], which any number of messages refer to.
//! - Values of a plugin are a [`Space`]; a counter is a value that is set. When a value ends is kept with it, and it is the
//!   caller who takes it away then.
//!
//! Read `record/mod.rs` first (the bytes), then `journal/mod.rs`, `index/mod.rs`, `keeper/mod.rs`,
//! `recovery/mod.rs`.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod aside;
mod body;
pub mod disk;
pub mod error;
mod index;
pub mod inspect;
mod journal;
mod keeper;
mod lookup;
mod reader;
pub mod record;
mod recovery;
#[cfg(test)]
mod simulation;
mod store;
mod threads;
mod watch;

pub use body::{Body, BodyFailed, BodyReader, BodyWatch, BodyWriter, Unreadable};
pub use error::{DiskError, OpenError, Refused};
pub use journal::Sync;
pub use keeper::scrub::{Damaged, Scrub};
pub use lookup::QueueStat;
pub use reader::{Item, Reader, Windowed};
pub use record::{
    group::{ExtentBody, Group},
    message::Payload,
    op::{ExtentRef, QueueId, Range, Sequence, Space},
};
pub use recovery::{Lost, Problem, Refusal, Report, Verdict};
pub use store::{Stat, Store};
pub use watch::Watch;

/// Sizes. The defaults are for a broker.
#[derive(Clone, Debug)]
pub struct Config {
    /// The length of a segment.
    pub segment_bytes: u64,
    /// The most bytes a group may have; below 4 GiB.
    pub group_bytes_max: usize,
    /// A group of more bytes has a segment of its own, of its length; less than a segment.
    pub own_segment_bytes: usize,
    /// A batch that has so many is not added to.
    pub batch_bytes: usize,
    /// Beyond so many bytes that wait to be written groups are refused.
    pub pending_bytes_max: usize,
    /// How many segments are kept free for acks and deletions on a full disk, beside those for a checkpoint and
    /// for what was taken before it was known to be full; at least one.
    pub reserve_segments: usize,
    /// At least so many bytes of the journal are between two checkpoints.
    pub checkpoint_bytes: u64,
    /// So many bytes a second are read in the background to find what is damaged; 0 for none.
    pub scrub_bytes_per_s: u64,
    /// After all was read it begins anew after so long, in milliseconds.
    pub scrub_pause_ms: u64,
    /// How long an ack waits for others, in milliseconds.
    pub ride_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            segment_bytes: 32 << 20,
            group_bytes_max: 1 << 30,
            own_segment_bytes: 20 << 20,
            batch_bytes: 1 << 20,
            pending_bytes_max: 32 << 20,
            reserve_segments: 2,
            checkpoint_bytes: 64 << 20,
            scrub_bytes_per_s: 1 << 20,
            scrub_pause_ms: 60 * 60 * 1000,
            ride_ms: 5,
        }
    }
}

/// Is told that a group is safe.
pub trait Done: Send + core::marker::Sync {
    /// What was submitted with that token is as safe as was asked for, or is not there and will not be.
    /// Called on the store's threads, under no lock of it: it must not wait.
    fn done(&self, token: u64, outcome: Result<(), Failed>);
}

/// Why a group that was taken is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The disk is full: there was no room for a large body, and nothing left that could be acked, or the store was closed.
    Full,
    /// A large body could not be written before the store was closed.
    Disk,
    /// The store was closed before it could be made safe; it may be there after all.
    Closed,
}

/// How the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does what it should.
    Well,
    /// The disk is full: what grows is refused until there is space.
    Full,
    /// The disk fails: with what, what that means, and what to do.
    Failing(String),
}
