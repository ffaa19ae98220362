//! Keeps the files in order, beside the journal: spare segments, dead ones, checkpoints, and segments
//! that are mostly dead. When there is nothing else to do it reads what is live (`scrub.rs`).
//!
//! *When a segment may go:* nothing in it is live, since a batch that is synced; and all of it is older
//! than the older of the two checkpoints that are kept, so no start needs to read it. If something in it is damaged it
//! is set aside then, and so is a damaged body; nobody but the operator removes them.
//!
//! *When live messages are copied forward:* when the segments that no start reads any more, and that stay for what is live
//! alone, have more than twice the live bytes and four segments besides: those of the segment of which the least is live,
//! if that is less than half. Where room is short, when all segments have more than twice the live bytes and one besides.

mod checkpoint;
mod moving;
pub(crate) mod scrub;

use crate::{
    DiskError, aside,
    journal::{
        Core,
        room::{OF_RESCUES, Trouble},
        segments::{FileName, Segments},
    },
};
use checkpoint::Saving;
pub(crate) use checkpoint::{UNFINISHED, write_now};
use moving::Moving;
use parking_lot::MutexGuard;
use scrub::Scrubbing;

/// Where the keeper stands.
#[derive(Default)]
pub(crate) struct Keeper {
    saving: Option<Saving>,
    moving: Option<Moving>,
    scrubbing: Scrubbing,
    /// The batches of the checkpoints that are kept, the older first.
    pub(crate) checkpoints: Vec<u64>,
    /// One of them is there twice, until the next is.
    twin: Option<u64>,
    /// How long the last one was.
    checkpoint_bytes: u64,
    /// How many bytes the journal had then.
    journal_bytes: u64,
    /// One is to be made, due or not.
    pub(crate) save_now: bool,
    /// None is begun before, after one could not be written for another reason than room.
    save_at_ms: u64,
    save_failures: u32,
    /// When this step is.
    now_ms: u64,
    /// In this step something could have been freed, had a sync come.
    waits: bool,
    /// Since when bodies that nobody needs wait for a sync.
    bodies_wait_since_ms: Option<u64>,
    /// In this step no segment could be made.
    lacks: bool,
    /// No segment is made before, after one could not be made for another reason than room.
    make_at_ms: u64,
    failures: u32,
    /// The segment that came next when it was measured what a checkpoint may need.
    measured_at: Option<u64>,
}

impl Keeper {
    pub(crate) fn new(checkpoints: Vec<u64>, has_twin: bool, checkpoint_bytes: u64) -> Self {
        let twin = checkpoints.last().copied().filter(|_| has_twin);
        Self { checkpoints, twin, checkpoint_bytes, ..Self::default() }
    }
}

/// Bodies that nobody needs any more wait so long for a sync that comes anyway.
const BODIES_WAIT_MS: u64 = 1000;
/// How many free segments are kept at most, beside those that are needed.
const SPARES_MAX: usize = 12;
/// Where files cannot be made it is tried again after so long, then after twice that, up to the most.
const RETRY_MS: u64 = 100;
const RETRY_MS_MAX: u64 = 5000;

/// How long to wait after so many failures, and one more.
fn retry_ms(failures: &mut u32) -> u64 {
    let wait = (RETRY_MS << (*failures).min(8)).min(RETRY_MS_MAX);
    *failures = failures.saturating_add(1);
    wait
}

impl Core {
    /// Does something that there is to do. False if there was nothing, or it could not be done.
    pub(crate) fn keep_step(&self, keeper: &mut Keeper, now_ms: u64) -> bool {
        self.keep_in_order(keeper, now_ms) || self.scrub_step(&mut keeper.scrubbing, now_ms)
    }

    /// The same, but for reading what is live.
    pub(crate) fn keep_in_order(&self, keeper: &mut Keeper, now_ms: u64) -> bool {
        (keeper.waits, keeper.lacks, keeper.now_ms) = (false, false, now_ms);
        self.measure(keeper);
        let was_pressed = self.room.is_pressed();
        self.manifest.step(&*self.disk, now_ms, !was_pressed);
        // The writer is to have the next segment whatever else there is to do.
        let mut did = self.next_ready();
        did |= self.drop_older(keeper);
        did |= self.retire(keeper);
        did |= self.remove_extents(keeper);
        did |= self.save_step(keeper);
        // To make a file takes long; with what a checkpoint sets free there may be no need to.
        if !did || self.runs_short() {
            did |= self.make_spares(keeper);
        }
        if self.room.is_pressed() || !self.runs_short() {
            did |= self.move_step(keeper, now_ms);
        }
        let awaited = keeper.waits && self.await_sync();
        if keeper.lacks && !did && !awaited {
            if !was_pressed {
                // What can be freed only where room is short was not tried yet.
                return true;
            }
            self.refuse_growth();
            if self.writer.lock().is_stuck() {
                self.room.lend();
                self.kick();
            }
        }
        did
    }

    /// What grows is refused if nothing is free but the reserve.
    fn refuse_growth(&self) {
        let segments = self.segments.lock();
        if segments.free() <= self.reserve(&segments) {
            self.room.set_full();
            drop(segments);
            // What grows and was taken may have the reserve.
            self.kick();
        }
    }

    /// Sees to it that a sync comes, and that the keeper hears of it. False if syncs fail.
    fn await_sync(&self) -> bool {
        self.room.await_sync();
        let mut flight = self.flight.lock();
        flight.want_all();
        self.written.notify_one();
        flight.is_well()
    }

    /// Looks up what a checkpoint may need, once for each segment of the journal.
    fn measure(&self, keeper: &mut Keeper) {
        let next = Some(self.segments.lock().next_segment);
        if core::mem::replace(&mut keeper.measured_at, next) != next {
            self.room.measure(&self.index.lock(), &self.config);
        }
    }

    fn make_spares(&self, keeper: &mut Keeper) -> bool {
        // What room there is is that of the checkpoint which is being written, or is to be; but not while that waits for
        // what is to be written again, for which there may be no segment.
        let is_its = self.room.is_pressed()
            && !self.flight.lock().failed
            && (keeper.saving.is_some() || self.is_due(keeper));
        let mut segments = self.segments.lock();
        let enough = self.wanted(&segments);
        let (mut did, mut gave) = (false, false);
        if segments.free() < enough && !is_its {
            (segments, did) = self.make_spare(keeper, segments);
        } else if segments.free() > enough.max(OF_RESCUES) && self.room.is_pressed() {
            // Something else needs the room.
            did = segments.give_up(&*self.disk);
            gave = did;
        }
        drop(segments);
        if gave {
            self.try_large();
        }
        did |= self.next_ready();
        let segments = self.segments.lock();
        // On a small disk there may never be enough; where nothing else is used no more will come.
        let all_is_free = segments.files.len() <= 1
            && segments.free() > self.reserve(&segments)
            && !self.room.large_lacked();
        let may_go_on = segments.free() >= enough || all_is_free;
        drop(segments);
        if may_go_on {
            // The reserve has those of the checkpoints again.
            self.room.took_all_back();
            did |= !self.room.large_waits() && self.room.relax();
        }
        if did {
            self.kick();
        }
        did
    }

    /// Names the next segment, if there is none and a file for it.
    fn next_ready(&self) -> bool {
        let segments = self.segments.lock();
        let names = segments.ready.is_none() && !self.room.is_pressed() && !segments.spares.is_empty();
        drop(segments);
        let named = names && self.make_ready();
        if named {
            self.kick();
        }
        named
    }

    /// Whether what grows has one segment at most before it has to wait.
    fn runs_short(&self) -> bool {
        let segments = self.segments.lock();
        segments.free() < 2 || segments.free() <= self.reserve(&segments) + 1
    }

    /// How many free segments there are to be. While large bodies wait for room they have that of all that what was
    /// taken does not need. After that one more has to be made before what grows is taken again, so that not each that
    /// is acked lets in one to wait for the next; unless none is there any more, for then no more room may come.
    fn wanted(&self, segments: &Segments) -> usize {
        if self.room.large_waits() {
            return self.reserve(segments) + 1;
        }
        let more = self.room.large_lacked() && !self.index.lock().held.extents.is_empty();
        self.enough(segments) + usize::from(more)
    }

    fn make_spare<'a>(
        &'a self,
        keeper: &mut Keeper,
        mut segments: MutexGuard<'a, Segments>,
    ) -> (MutexGuard<'a, Segments>, bool) {
        if keeper.now_ms < keeper.make_at_ms {
            keeper.lacks = true;
            return (segments, false);
        }
        let number = segments.next_spare;
        segments.next_spare += 1;
        // What grows waits for it, or will in a moment.
        let hurries = segments.free() <= self.reserve(&segments);
        drop(segments);
        // Long: nobody is to wait for it.
        let (name, bytes) = (FileName::Spare(number).to_string(), self.config.segment_bytes);
        let made =
            if hurries { self.disk.create_quickly(&name, bytes) } else { self.disk.create(&name, bytes) };
        let mut segments = self.segments.lock();
        match made {
            Ok(_) => {
                segments.spares.push(number);
                self.room.took_back();
                (keeper.failures, keeper.make_at_ms) = (0, 0);
                self.room.solved(Trouble::Segments);
                return (segments, true);
            }
            Err(error) => {
                keeper.lacks = true;
                self.room.press();
                self.cannot_make(keeper, error);
            }
        }
        (segments, false)
    }

    /// For want of room it may be tried at any time; for other reasons it is not to be tried all the time.
    fn cannot_make(&self, keeper: &mut Keeper, error: DiskError) {
        if error.is_full() {
            return self.room.solved(Trouble::Segments);
        }
        keeper.make_at_ms = keeper.now_ms + retry_ms(&mut keeper.failures);
        self.room.trouble(Trouble::Segments, error);
    }

    /// Up to this batch no start reads the journal.
    fn floor(&self, keeper: &Keeper) -> u64 {
        keeper.checkpoints.first().copied().unwrap_or_default()
    }

    /// Whether a checkpoint would free a segment.
    fn would_free(&self, keeper: &Keeper) -> bool {
        let floor = self.floor(keeper);
        let segments = self.segments.lock();
        let index = self.index.lock();
        let mut sealed = segments.files.iter().filter_map(|(number, segment)| Some((*number, segment.last?)));
        sealed.any(|(number, last)| last > floor && index.held.of(number as u32).messages == 0)
    }

    fn retire(&self, keeper: &mut Keeper) -> bool {
        let (floor, pressed) = (self.floor(keeper), self.room.is_pressed());
        let flight = self.flight.lock();
        let synced = flight.synced;
        let mut segments = self.segments.lock();
        let mut index = self.index.lock();
        let position = index.position;
        let mut dead = Vec::new();
        for (number, segment) in &mut segments.files {
            let Some(last) = segment.last else { continue };
            if index.held.of(*number as u32).messages > 0 {
                segment.dead_since = None;
                continue;
            }
            let is_dead = *segment.dead_since.get_or_insert(position) <= synced;
            if segment.superseded || (is_dead && last <= floor) {
                dead.push(*number);
            }
            keeper.waits |= pressed && !is_dead;
        }
        drop(flight);
        dead.iter().for_each(|number| index.held.forget(*number as u32));
        drop(index);
        drop(segments);
        if self.manifest.forget(&*self.disk, &dead).is_err() {
            // They stay until that can be said.
            return false;
        }
        let mut segments = self.segments.lock();
        let spares_max = SPARES_MAX.max(self.enough(&segments));
        let (mut did, mut aside) = (false, Vec::new());
        for number in &dead {
            let retired = segments.retire(*number, &*self.disk, (spares_max, self.config.segment_bytes));
            did |= retired.is_ok();
            aside.extend(retired.ok().flatten());
        }
        drop(segments);
        aside.iter().for_each(|file| self.tell_set_aside(file));
        if did {
            self.kick();
        }
        did
    }

    fn remove_extents(&self, keeper: &mut Keeper) -> bool {
        let synced = self.flight.lock().synced;
        let mut gone = Vec::new();
        let mut index = self.index.lock();
        self.bury_bodies(&mut index);
        let mut dead = core::mem::take(&mut index.held.dead_extents);
        // Who has one buries it again.
        dead.retain(|(_, number)| !index.held.refers_to(*number) && !self.is_held(*number));
        dead.retain(|(batch, number)| {
            gone.extend((*batch <= synced).then_some(*number));
            *batch > synced
        });
        index.held.dead_extents = dead;
        let any = !index.held.dead_extents.is_empty();
        drop(index);
        // Acks ride on what is synced next; what takes so much room is not to wait for that long.
        let now_ms = keeper.now_ms;
        let since_ms = keeper.bodies_wait_since_ms.filter(|_| any);
        keeper.bodies_wait_since_ms = any.then(|| since_ms.unwrap_or(now_ms));
        let is_long = since_ms.is_some_and(|since_ms| now_ms >= since_ms + BODIES_WAIT_MS);
        keeper.waits |= any && (self.room.is_pressed() || is_long);
        for number in &gone {
            let name = FileName::Extent(*number).to_string();
            if !self.scrubbed.lock().is_damaged(*number) {
                // A file that cannot be removed is found again at the next start.
                let _ = self.disk.remove(&name);
            } else if let Ok(file) = aside::set_aside(&*self.disk, &name) {
                self.tell_set_aside(&file);
            }
        }
        if !gone.is_empty() {
            self.try_large();
        }
        !gone.is_empty()
    }
}
