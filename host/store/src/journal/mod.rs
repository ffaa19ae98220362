//! The journal: groups come in, are written in batches, synced, and confirmed.
//!
//! *The way of a group.* Whoever has one appends it to the open chunk under a short lock
//! (`inbox.rs`) and goes on. The writer takes the chunk, gives it a number, writes it, applies it to the
//! index (`write.rs`), and puts it among those in flight (`flight.rs`). The syncer syncs what was written
//! until now, while the writer writes the next, and then tells whoever waited (`sync.rs`). Nothing is
//! allocated for a message; buffers go round.
//!
//! *When a sync fails* nothing is known of what was written since the last one, and asking again would be
//! told a lie. So all that is in flight, which is still in memory, is written again (`rescue.rs`), and confirmed
//! when that is synced. Until then nothing is confirmed.
//!
//! *A group that is long* has a segment of its own, which is there before the group is taken (`own.rs`).
//!
//! *Steps, not threads.* Each thread repeats one function that does what there is to do and never
//! waits. A simulation calls the same functions in any order.
//!
//! *Locks*, in the order in which they may be taken: writer, flight, segments, manifest, index, inbox, troubles;
//! those of bodies (`body/mod.rs`) come last.

pub(crate) mod flight;
pub(crate) mod inbox;
pub(crate) mod large;
pub(crate) mod manifest;
pub(crate) mod own;
mod rescue;
pub(crate) mod room;
pub(crate) mod segments;
pub(crate) mod sync;
pub(crate) mod write;

use crate::{
    Config, Done, Health,
    body::{self, Bodies},
    disk::Disk,
    error::Refused,
    index::Index,
    keeper::scrub::Found,
    record::{group::Group, key::Key},
    watch::Watching,
};
use flight::Flight;
use inbox::{Inbox, Waiter};
use large::Larges;
use manifest::Manifest;
use parking_lot::{Condvar, Mutex};
use room::Room;
use segments::Segments;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
pub(crate) use write::Writer;

/// Who is told of a group, and under which token.
pub(crate) type Waiting<'a> = Option<(&'a Arc<dyn Done>, u64)>;

/// When a group counts as safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Sync {
    /// Once it is synced: it survives loss of power.
    #[default]
    Always,
    /// Once it is written: it survives the end of the process, and loss of power so many milliseconds
    /// later.
    Interval(u32),
    /// Once it is written; the system is asked to put it on disk only now and then.
    Never,
    /// It waits for others to go with, a few milliseconds at most, and counts once it is written. For acks.
    Ride,
}

/// Numbers for people.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) syncs: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) groups: AtomicU64,
    pub(crate) journal_bytes: AtomicU64,
    pub(crate) checkpoint_bytes: AtomicU64,
    pub(crate) moved_bytes: AtomicU64,
    pub(crate) rescues: AtomicU64,
}

impl Counts {
    pub(crate) fn add(counter: &AtomicU64, number: u64) {
        counter.fetch_add(number, Ordering::Relaxed);
    }
}

/// What all threads of a store share.
pub(crate) struct Core {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) config: Config,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) flight: Mutex<Flight>,
    /// There may be something to sync.
    pub(crate) written: Condvar,
    pub(crate) segments: Mutex<Segments>,
    pub(crate) manifest: Arc<Manifest>,
    /// Of all batches that are written.
    pub(crate) key: Key,
    pub(crate) index: Mutex<Index>,
    pub(crate) inbox: Mutex<Inbox>,
    /// There may be something to write.
    pub(crate) arrived: Condvar,
    pub(crate) large: Mutex<Larges>,
    pub(crate) large_arrived: Condvar,
    /// How many groups with large bodies were taken and are not among the others yet.
    pub(crate) large_count: AtomicU64,
    /// Whether there may be something to keep in order.
    pub(crate) untidy: Mutex<bool>,
    pub(crate) untidy_now: Condvar,
    pub(crate) room: Room,
    pub(crate) counts: Counts,
    pub(crate) scrubbed: Mutex<Found>,
    pub(crate) next_extent: AtomicU64,
    pub(crate) bodies: Bodies,
    pub(crate) watching: Watching,
}

/// How a group comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// It may be refused.
    Asks,
    /// It was admitted before: it is neither too much now nor without room.
    Admitted,
    /// It is what is copied forward, of which less may wait.
    Copied,
}

impl Core {
    /// Takes a group. What it says happens, and `waiter` is told when.
    pub(crate) fn submit(
        &self,
        group: &mut Group,
        sync: Sync,
        waiter: Option<(&Arc<dyn Done>, u64)>,
        now_ms: u64,
    ) -> Result<(), Refused> {
        self.take(group, (sync, waiter), now_ms, Pass::Asks)
    }

    /// Whether a group that grows may still be handed over.
    pub(crate) fn admits(&self) -> Result<(), Refused> {
        if self.room.is_full() {
            return Err(Refused::Full);
        }
        let large = self.large.lock();
        if !large.is_empty() && large.bytes() > self.config.pending_bytes_max as u64 {
            return Err(Refused::Behind);
        }
        drop(large);
        self.inbox.lock().room((0, true), self.growth_bytes_max(), &self.config)
    }

    /// [`Self::submit`], of one that may have been admitted or be copied forward.
    pub(crate) fn take(
        &self,
        group: &mut Group,
        (sync, waiter): (Sync, Waiting<'_>),
        now_ms: u64,
        pass: Pass,
    ) -> Result<(), Refused> {
        let admitted = pass == Pass::Admitted;
        if group.overflown || group.len_bytes() > self.config.group_bytes_max {
            return Err(Refused::TooLarge);
        }
        if !admitted && group.grows() && self.room.refuses() {
            return Err(Refused::Full);
        }
        let own = self.own_segment(group)?;
        let header = group.header();
        let waiter = match group.bodies.as_slice() {
            [] => waiter.map(|(done, token)| Waiter { done: done.clone(), token, sync }),
            bodies => Some(body::keeping(bodies, waiter, sync)),
        };
        // An empty one says when those before it are safe: it comes behind them.
        let behind_large = group.is_empty() && self.large_count.load(Ordering::Acquire) > 0;
        if behind_large || !group.extents.is_empty() {
            return self.submit_large(group, &header, (sync, waiter), (own, admitted));
        }
        let mut inbox = self.inbox.lock();
        let growth_max = self.growth_bytes_max();
        let room = if pass == Pass::Copied && !inbox.takes_copies(group.len_bytes(), growth_max) {
            Err(Refused::Behind)
        } else {
            inbox.room((group.len_bytes(), group.grows()), growth_max, &self.config)
        };
        match room {
            Ok(()) => {}
            Err(Refused::Behind) if admitted => {}
            Err(refused) => {
                drop(inbox);
                self.give_up_own(own);
                return Err(refused);
            }
        }
        group.append_to(&header, inbox.begin((group.len_bytes(), own), &self.config));
        if pass == Pass::Copied {
            inbox.count_copied(group.len_bytes());
        }
        let wake = inbox.end((sync, waiter), (now_ms, group.grows()), &self.config);
        drop(inbox);
        if wake {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Whether it goes on, and what is wrong if not.
    pub(crate) fn health(&self) -> Health {
        self.room.health()
    }

    /// Has the keeper look.
    pub(crate) fn tidy(&self) {
        *self.untidy.lock() = true;
        self.untidy_now.notify_one();
    }

    /// Has the writer look.
    pub(crate) fn kick(&self) {
        self.inbox.lock().kicked = true;
        self.arrived.notify_one();
    }
}
