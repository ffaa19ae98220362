//! Whether there is room, and what is wrong.
//!
//! *The reserve.* Free segments that only what takes away may use: [`Config::reserve_segments`] for acks and
//! deletions, as many as a checkpoint may need, as many as what was taken before the disk was known to be
//! full, and one for what failed and is written again. A small store has a smaller one. What grows waits while there is no more than that, until the keeper
//! has made segments or has found that it cannot.
//!
//! *A young store*, that has next to nothing and wrote next to nothing since it was opened, has few free segments: those
//! of a checkpoint, that for what failed and two, which with what is left of the segment that is written is room for all that may be taken
//! before the disk is known to be full. It gets the others when it is not young any more.
//!
//! *Pressed:* a segment could not be made, so the keeper frees what it can: it saves, so that dead segments
//! may go, with one checkpoint instead of two, and moves what is live closer together. What waits to be written has a
//! lower bound then, so that it needs fewer segments of the reserve. Only when all of that
//! is done and there is still no room the disk is *full*. It is not any more once there are two segments
//! beside the reserve.
//!
//! *Large bodies* have no reserve: one for which there is no room waits for it, and what grows is refused until all that
//! wait are written and a segment could be made besides, or no large body is there any more. Free segments that are not
//! needed go for that. A body that comes in pieces does not wait, and what grows is refused all the same.
//!
//! *Why acks always have room:* a segment of acks has nothing live, so after a checkpoint it is free again. The
//! checkpoint has the room that the one before had, or that of spare segments which acks leave to it. Where one was given
//! up for that, the rest of it is for those that follow, and acks need not leave them another one. So it is unless somebody
//! else takes that room, or syncs fail more often than checkpoints can be made between: each time may cost a segment,
//! until what is in it is dead.

use super::{Core, segments::Segments};
use crate::{
    Config, Health,
    error::DiskError,
    index::{Index, save},
    record::BLOCK_BYTES,
};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// What is next to nothing is no more than that part of a segment.
const LITTLE_PART: u64 = 8;

/// How many free segments only what failed may use.
pub(crate) const OF_RESCUES: usize = 1;

/// What may be wrong.
#[derive(Clone, Copy)]
pub(crate) enum Trouble {
    /// Writing or syncing the journal.
    Journal,
    /// Making segments.
    Segments,
    /// Checkpoints.
    Checkpoint,
    /// Writing large bodies.
    Large,
}

/// What a segment is taken for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// What grows.
    Grows,
    /// What takes away.
    Frees,
    /// What failed elsewhere: until it is written nothing else can go on, checkpoints neither.
    Rescue,
}

/// What is known of it.
#[derive(Default)]
pub(crate) struct Room {
    /// Nothing is free but the reserve: what grows is refused.
    full: AtomicBool,
    /// A large body waits for room.
    large_waits: AtomicBool,
    /// One did, or was given up, and no more room came since: what grows is refused.
    large_lacked: AtomicBool,
    /// The keeper frees what it can.
    pressed: AtomicBool,
    /// The keeper waits for a sync.
    awaited: AtomicBool,
    /// How many segments a checkpoint may need.
    checkpoint_segments: AtomicUsize,
    /// The bytes of live messages, when that was looked up.
    live_bytes: AtomicU64,
    /// How many segments were given up for one since there was room: what they took is its.
    given_to_checkpoints: AtomicUsize,
    /// What takes away may have one of theirs.
    lent: AtomicBool,
    troubles: Mutex<[Option<DiskError>; 4]>,
    /// What began to fail and was not told yet.
    news: Mutex<Option<String>>,
    has_news: AtomicBool,
}

impl Room {
    /// Whether nothing is free but the reserve.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Whether what grows is refused.
    pub(crate) fn refuses(&self) -> bool {
        self.is_full() || self.large_lacked()
    }

    pub(crate) fn set_full(&self) {
        self.full.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_pressed(&self) -> bool {
        self.pressed.load(Ordering::Relaxed)
    }

    pub(crate) fn press(&self) {
        self.pressed.store(true, Ordering::Relaxed);
    }

    /// There is room again; tells whether there was none.
    pub(crate) fn relax(&self) -> bool {
        self.pressed.store(false, Ordering::Relaxed);
        self.large_lacked.swap(false, Ordering::Relaxed) | self.full.swap(false, Ordering::Relaxed)
    }

    /// There was no room for a large body.
    pub(crate) fn lack_for_large(&self) {
        self.press();
        self.large_waits.store(true, Ordering::Relaxed);
        self.large_lacked.store(true, Ordering::Relaxed);
    }

    /// There was none for a body that came in pieces, and does not wait.
    pub(crate) fn lack_for_body(&self) {
        self.press();
        self.large_lacked.store(true, Ordering::Relaxed);
    }

    /// No large body waits any more.
    pub(crate) fn large_done(&self) {
        self.large_waits.store(false, Ordering::Relaxed);
    }

    /// Whether one waits for room.
    pub(crate) fn large_waits(&self) -> bool {
        self.large_waits.load(Ordering::Relaxed)
    }

    /// Whether one did, and what grows is refused since.
    pub(crate) fn large_lacked(&self) -> bool {
        self.large_lacked.load(Ordering::Relaxed)
    }

    /// Has the keeper told of the next sync.
    pub(crate) fn await_sync(&self) {
        self.awaited.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_awaited(&self) -> bool {
        self.awaited.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn trouble(&self, what: Trouble, error: DiskError) {
        let mut troubles = self.troubles.lock();
        let Some(place) = troubles.get_mut(what as usize) else { return };
        let is_new = place.is_none();
        *place = Some(error);
        drop(troubles);
        if is_new && let Health::Failing(why) = self.health() {
            *self.news.lock() = Some(why);
            self.has_news.store(true, Ordering::Release);
        }
    }

    /// What began to fail since it was asked.
    pub(crate) fn take_news(&self) -> Option<String> {
        if !self.has_news.load(Ordering::Acquire) || !self.has_news.swap(false, Ordering::AcqRel) {
            return None;
        }
        self.news.lock().take()
    }

    pub(crate) fn solved(&self, what: Trouble) {
        if let Some(place) = self.troubles.lock().get_mut(what as usize) {
            *place = None;
        }
    }

    pub(crate) fn health(&self) -> Health {
        if let [Some(error), ..] = &*self.troubles.lock() {
            let help = error.help();
            return Health::Failing(format!("{error}; nothing is confirmed until it succeeds: {help}"));
        }
        if let [.., Some(error)] = &*self.troubles.lock() {
            let help = error.help();
            return Health::Failing(format!(
                "{error}; what comes with large bodies is not confirmed until it succeeds: {help}"
            ));
        }
        if let [_, Some(error), ..] | [_, _, Some(error), _] = &*self.troubles.lock() {
            let help = error.help();
            return Health::Failing(format!(
                "{error}; what is confirmed is safe, but the disk fills: {help}"
            ));
        }
        if self.refuses() { Health::Full } else { Health::Well }
    }

    /// What a checkpoint may need was looked up anew.
    pub(crate) fn measure(&self, index: &Index, config: &Config) {
        let segments = save::estimate(index).div_ceil(config.segment_bytes) as usize;
        self.checkpoint_segments.store(segments, Ordering::Relaxed);
        self.live_bytes.store(index.held.live.bytes, Ordering::Relaxed);
    }

    /// How many free segments are the checkpoints'.
    pub(crate) fn of_checkpoints(&self) -> usize {
        self.checkpoint_segments.load(Ordering::Relaxed)
    }

    /// How many free segments are the checkpoints' still, where room is short.
    pub(crate) fn left_to_checkpoints(&self) -> usize {
        self.of_checkpoints().saturating_sub(self.given_to_checkpoints.load(Ordering::Relaxed))
    }

    /// A checkpoint has the room of a segment.
    pub(crate) fn gave_to_checkpoint(&self) {
        self.given_to_checkpoints.fetch_add(1, Ordering::Relaxed);
    }

    /// A segment was made, so that room is one again.
    pub(crate) fn took_back(&self) {
        let less = |given: usize| Some(given.saturating_sub(1));
        let _ = self.given_to_checkpoints.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// There are enough free segments.
    pub(crate) fn took_all_back(&self) {
        self.given_to_checkpoints.store(0, Ordering::Relaxed);
    }

    /// What takes away waits for a segment, and nothing can be freed before it has one. So it may be after a start, which
    /// does not go on in a segment that has room left: acks may have those that are for checkpoints, and the last one
    /// where nothing is in flight. What they take away sets others free.
    pub(crate) fn lend(&self) {
        self.lent.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_lent(&self) -> bool {
        self.lent.load(Ordering::Relaxed)
    }

    /// It has one.
    pub(super) fn was_lent(&self) {
        self.lent.store(false, Ordering::Relaxed);
    }

    /// Whether checkpoints have room that no file has.
    pub(crate) fn is_given(&self) -> bool {
        self.given_to_checkpoints.load(Ordering::Relaxed) > 0
    }
}

impl Core {
    /// How many free segments what grows leaves alone.
    pub(crate) fn reserve(&self, segments: &Segments) -> usize {
        let count = segments.files.len();
        if self.is_young() {
            (self.room.of_checkpoints() + OF_RESCUES).min(3 * count)
        } else {
            self.reserve_of(count)
        }
    }

    /// The reserve of a store of so many segments.
    fn reserve_of(&self, count: usize) -> usize {
        let taken = self.of_taken(self.growth_bytes_max());
        (self.config.reserve_segments + self.room.of_checkpoints() + OF_RESCUES + taken).min(3 * count)
    }

    /// How many segments so much needs that waits, with what the writer has; each batch begins with a block.
    pub(crate) fn of_taken(&self, waiting: usize) -> usize {
        let Config { own_segment_bytes, batch_bytes, segment_bytes, .. } = self.config;
        let taken = (waiting + own_segment_bytes.max(batch_bytes)) as u64;
        taken.div_ceil(segment_bytes - 2 * BLOCK_BYTES) as usize
    }

    /// Beyond so many bytes that wait what grows is refused.
    pub(crate) fn growth_bytes_max(&self) -> usize {
        let most = self.config.pending_bytes_max;
        if self.is_short() { most.min((self.config.segment_bytes / LITTLE_PART) as usize) } else { most }
    }

    /// How many free segments the keeper provides: once one of them is taken there is still one beside the
    /// reserve.
    pub(crate) fn enough(&self, segments: &Segments) -> usize {
        let beside = if self.is_young() {
            self.room.of_checkpoints() + OF_RESCUES
        } else {
            self.reserve_of(segments.files.len() + 1)
        };
        beside + 2
    }

    /// How many free segments there are before anything is taken.
    pub(crate) fn at_first(&self, segments: &Segments) -> usize {
        let few = self.enough(segments).min(3 * segments.files.len());
        if self.is_young() { few } else { self.reserve(segments) }
    }

    pub(super) fn is_short(&self) -> bool {
        self.room.is_pressed() || self.room.is_full()
    }

    /// Whether the store has next to nothing, of what was there when it was opened and of what came since.
    pub(crate) fn is_young(&self) -> bool {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let written = load(&self.counts.journal_bytes) + load(&self.counts.batches) * BLOCK_BYTES;
        let little = self.config.segment_bytes / LITTLE_PART;
        !self.is_short() && written <= little && load(&self.room.live_bytes) <= little
    }

    /// Whether a segment may be taken. Where nothing is in flight, which the writer says, what it takes is `alone`: nothing
    /// that failed can need the last one.
    pub(super) fn may_take(&self, segments: &Segments, claim: Claim, alone: bool) -> bool {
        segments.free() > self.left_by(segments, claim, alone)
    }

    /// How many free segments it leaves to others.
    fn left_by(&self, segments: &Segments, claim: Claim, alone: bool) -> usize {
        let of_checkpoints = if self.is_short() { self.room.left_to_checkpoints() } else { 0 };
        match claim {
            Claim::Rescue => 0,
            Claim::Grows if !self.room.is_full() => self.reserve(segments),
            // What was taken before it was full is like what takes away, which may stand behind it.
            Claim::Grows | Claim::Frees if self.room.is_lent() && alone => 0,
            // A checkpoint may have that for what failed.
            Claim::Grows | Claim::Frees if self.room.is_lent() => OF_RESCUES.max(of_checkpoints),
            Claim::Grows | Claim::Frees => OF_RESCUES + of_checkpoints,
        }
    }
}
