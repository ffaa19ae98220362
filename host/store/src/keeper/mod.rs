//! Keeps the files in order, beside the journal: spare segments, dead ones, checkpoints, and segments
//! that are mostly dead.
//!
//! *When a segment may go:* nothing in it is live, since a batch that is synced; and all of it is older
//! than the older of the two checkpoints that are kept, so no start needs to read it.
//!
//! *When live messages are copied forward:* when the segments have more than twice the live bytes and
//! four segments besides, those of the segment of which the least is live, if that is less than half.

mod checkpoint;
mod moving;

use crate::journal::{Core, segments::FileName};
use checkpoint::Saving;
pub(crate) use checkpoint::{UNFINISHED, write_now};
use moving::Moving;
use std::sync::atomic::Ordering;

/// Where the keeper stands.
#[derive(Default)]
pub(crate) struct Keeper {
    saving: Option<Saving>,
    moving: Option<Moving>,
    /// The batches of the checkpoints that are kept, the older first.
    pub(crate) checkpoints: Vec<u64>,
    /// How long the last one was.
    checkpoint_bytes: u64,
    /// How many bytes the journal had then.
    journal_bytes: u64,
    /// One is to be made, due or not.
    pub(crate) save_now: bool,
}

impl Keeper {
    pub(crate) fn new(checkpoints: Vec<u64>, checkpoint_bytes: u64) -> Self {
        Self { checkpoints, checkpoint_bytes, ..Self::default() }
    }
}

/// How many free segments are kept at most.
const SPARES_MAX: usize = 12;

impl Core {
    /// Does something that there is to do. False if there was nothing, or it could not be done.
    pub(crate) fn keep_step(&self, keeper: &mut Keeper, now_ms: u64) -> bool {
        let mut did = self.retire(keeper);
        did |= self.remove_extents();
        did |= self.save_step(keeper);
        // To make a file takes long; with what a checkpoint sets free there may be no need to.
        if !did || self.segments.lock().free() < 2 {
            did |= self.make_spares(keeper);
        }
        did |= self.move_step(keeper, now_ms);
        did
    }

    fn make_spares(&self, keeper: &Keeper) -> bool {
        let enough = self.config.reserve_segments + 1;
        let failed = self.flight.lock().failed;
        // On a full disk what room there is is a checkpoint's first, unless there is nothing to save, or what
        // failed has to be written before.
        let saves_first = self.full.load(Ordering::Relaxed) && !failed && !self.is_saved(keeper);
        let mut segments = self.segments.lock();
        let mut did = false;
        if segments.free() < enough && !saves_first {
            let number = segments.next_spare;
            segments.next_spare += 1;
            drop(segments);
            // Long: nobody is to wait for it.
            let made = self.disk.create(&FileName::Spare(number).to_string(), self.config.segment_bytes);
            segments = self.segments.lock();
            match made {
                Ok(_) => {
                    segments.spares.push(number);
                    did = true;
                }
                Err(error) if error.is_full() && segments.free() <= self.config.reserve_segments => {
                    self.full.store(true, Ordering::Relaxed);
                }
                Err(_) => {}
            }
        }
        if segments.ready.is_none() && segments.spares.len() > usize::from(saves_first) {
            // If it fails the writer meets it, and tells.
            did |= segments.make_ready(&*self.disk, self.config.segment_bytes).is_ok();
        }
        let free = segments.free();
        drop(segments);
        if free >= enough && self.full.swap(false, Ordering::Relaxed) {
            self.trouble.lock().take_if(|error| error.is_full());
            self.kick();
        } else if did {
            self.kick();
        }
        did
    }

    /// Whether the last checkpoint has all that was written.
    fn is_saved(&self, keeper: &Keeper) -> bool {
        keeper.saving.is_none() && keeper.checkpoints.last() == Some(&self.index.lock().position)
    }

    /// Up to this batch no start reads the journal.
    fn floor(&self, keeper: &Keeper) -> u64 {
        keeper.checkpoints.first().copied().unwrap_or_default()
    }

    fn retire(&self, keeper: &Keeper) -> bool {
        let (floor, synced) = (self.floor(keeper), self.flight.lock().synced);
        let mut segments = self.segments.lock();
        let mut index = self.index.lock();
        let position = index.position;
        let mut dead = Vec::new();
        for (number, segment) in &mut segments.files {
            let Some(last) = segment.last else { continue };
            if index.held.of(*number as u32).messages > 0 {
                segment.dead_since = None;
            } else if *segment.dead_since.get_or_insert(position) <= synced && last <= floor {
                dead.push(*number);
            }
        }
        dead.iter().for_each(|number| index.held.forget(*number as u32));
        drop(index);
        for number in &dead {
            // A file that cannot be removed is found again at the next start.
            let _ = segments.retire(*number, &*self.disk, SPARES_MAX);
        }
        !dead.is_empty()
    }

    fn remove_extents(&self) -> bool {
        let synced = self.flight.lock().synced;
        let mut gone = Vec::new();
        self.index.lock().held.dead_extents.retain(|(batch, number)| {
            gone.extend((*batch <= synced).then_some(*number));
            *batch > synced
        });
        for number in &gone {
            // As for segments.
            let _ = self.disk.remove(&FileName::Extent(*number).to_string());
        }
        !gone.is_empty()
    }
}
