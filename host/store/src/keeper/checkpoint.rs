//! Checkpoints: the index written beside the journal, a block at a time.

use super::Keeper;
use crate::{
    disk::{Disk, File},
    error::DiskError,
    index::{Index, save, save::Save},
    journal::{Core, Counts, room::Trouble, segments::FileName},
};
use std::sync::{Arc, atomic::Ordering};

/// A checkpoint that is being written has this name.
pub(crate) const UNFINISHED: &str = "checkpoint.unfinished";

/// A checkpoint that is being written.
pub(super) struct Saving {
    save: Save,
    file: Arc<dyn File>,
    offset: u64,
    /// Up to this batch all is in it.
    position: u64,
    whole: bool,
    /// How often batches had been written again when it was begun: what is so may have been saved where
    /// it was before.
    rescues: u64,
}

/// How a checkpoint ends.
enum Finish {
    Done,
    /// For a sync.
    Waits,
    /// It is to be made anew.
    Stale,
}

impl Saving {
    fn begin(disk: &dyn Disk, position: u64, rescues: u64) -> Result<Self, DiskError> {
        match disk.remove(UNFINISHED) {
            Err(error) if !error.is_missing() => return Err(error),
            _ => {}
        }
        let file = disk.create(UNFINISHED, 0)?;
        file.write_at(&save::header(position), 0)?;
        let (save, offset) = (Save::new(), save::HEADER_BYTES as u64);
        Ok(Self { save, file, offset, position, whole: false, rescues })
    }

    fn write_block(&mut self, block: &[u8]) -> Result<(), DiskError> {
        self.file.write_at(block, self.offset)?;
        self.offset += block.len() as u64;
        Ok(())
    }

    fn finish(&self, disk: &dyn Disk, name: FileName) -> Result<(), DiskError> {
        self.file.sync()?;
        disk.rename(UNFINISHED, &name.to_string())?;
        disk.sync_names()
    }
}

/// Writes a checkpoint of an index that nobody else uses, as that file. Returns its length.
pub(crate) fn write_now(disk: &dyn Disk, index: &Index, name: FileName) -> Result<u64, DiskError> {
    let mut saving = Saving::begin(disk, index.position, 0)?;
    let mut block = Vec::new();
    while saving.save.next(index, &mut block) {
        saving.write_block(&block)?;
        block.clear();
    }
    saving.finish(disk, name)?;
    Ok(saving.offset)
}

impl Core {
    /// Goes on with a checkpoint, or begins one that is due.
    pub(super) fn save_step(&self, keeper: &mut Keeper) -> bool {
        let Some(saving) = &mut keeper.saving else {
            if self.is_saved(keeper) {
                self.room.solved(Trouble::Checkpoint);
            }
            return self.is_due(keeper) && self.begin_saving(keeper);
        };
        if self.room.is_pressed() && self.flight.lock().failed {
            // It would have to be made again, and what failed may need its room.
            keeper.saving = None;
            let _ = self.disk.remove(UNFINISHED);
            return true;
        }
        if !saving.whole {
            if let Err(error) = self.save_block(saving) {
                keeper.saving = None;
                return self.make_room(keeper, error);
            }
            return true;
        }
        match self.finish_saving(saving) {
            Ok(Finish::Done) => self.saved(keeper),
            Ok(Finish::Waits) => {
                keeper.waits = true;
                return false;
            }
            Ok(Finish::Stale) => (keeper.saving, keeper.save_now) = (None, true),
            Err(error) => {
                keeper.saving = None;
                return self.make_room(keeper, error);
            }
        }
        true
    }

    /// Whether the last checkpoint has all that was written.
    fn is_saved(&self, keeper: &Keeper) -> bool {
        keeper.checkpoints.last().copied().unwrap_or_default() == self.index.lock().position
    }

    /// Whether a checkpoint is to be begun.
    pub(super) fn is_due(&self, keeper: &Keeper) -> bool {
        if self.is_saved(keeper) || keeper.now_ms < keeper.save_at_ms || !self.flight.lock().is_well() {
            // It is there, or would have to be made again.
            return false;
        }
        // One that could not be written is tried again until there is one, whatever became of the attempts between.
        let is_wanted = keeper.save_now || keeper.save_failures > 0;
        if self.room.is_pressed() {
            return is_wanted || self.would_free(keeper);
        }
        let written = self.counts.journal_bytes.load(Ordering::Relaxed) - keeper.journal_bytes;
        is_wanted || written >= self.config.checkpoint_bytes.max(2 * keeper.checkpoint_bytes)
    }

    fn begin_saving(&self, keeper: &mut Keeper) -> bool {
        keeper.save_now = false;
        let rescues = self.flight.lock().rescues;
        let position = self.index.lock().position;
        match Saving::begin(&*self.disk, position, rescues) {
            Ok(saving) => {
                keeper.journal_bytes = self.counts.journal_bytes.load(Ordering::Relaxed);
                keeper.saving = Some(saving);
                true
            }
            Err(error) => self.make_room(keeper, error),
        }
    }

    fn save_block(&self, saving: &mut Saving) -> Result<(), DiskError> {
        let mut block = Vec::new();
        // The lock is held for one block.
        saving.whole = !saving.save.next(&self.index.lock(), &mut block);
        saving.write_block(&block)?;
        Counts::add(&self.counts.checkpoint_bytes, block.len() as u64);
        Ok(())
    }

    /// What it says must be on disk before it counts.
    fn finish_saving(&self, saving: &Saving) -> Result<Finish, DiskError> {
        let flight = self.flight.lock();
        if flight.failed || flight.rescues != saving.rescues {
            return Ok(if flight.failed { Finish::Waits } else { Finish::Stale });
        }
        if flight.synced < saving.save.position {
            return Ok(Finish::Waits);
        }
        drop(flight);
        saving.finish(&*self.disk, FileName::Checkpoint(saving.position))?;
        Ok(Finish::Done)
    }

    fn saved(&self, keeper: &mut Keeper) {
        let Some(saving) = keeper.saving.take() else { return };
        self.room.solved(Trouble::Checkpoint);
        keeper.save_failures = 0;
        keeper.checkpoint_bytes = saving.offset;
        keeper.checkpoints.retain(|position| *position != saving.position);
        keeper.checkpoints.push(saving.position);
        self.drop_twin(keeper);
        while keeper.checkpoints.len() > 2 {
            let oldest = keeper.checkpoints.remove(0);
            // A file too many is removed at the next start.
            let _ = self.disk.remove(&FileName::Checkpoint(oldest).to_string());
        }
    }

    /// The twin of a checkpoint goes with the next one. False if there is none.
    fn drop_twin(&self, keeper: &mut Keeper) -> bool {
        let Some(twin) = keeper.twin.take() else { return false };
        // A file too many is removed at the next start.
        let _ = self.disk.remove(&FileName::Twin(twin).to_string());
        true
    }

    /// Where room is short one checkpoint is enough: the older takes room, and holds segments that it needs. False
    /// if there is no older one.
    pub(super) fn drop_older(&self, keeper: &mut Keeper) -> bool {
        if !self.room.is_pressed() {
            return false;
        }
        if self.drop_twin(keeper) {
            return true;
        }
        if keeper.checkpoints.len() < 2 {
            return false;
        }
        let oldest = keeper.checkpoints.remove(0);
        // A file too many is removed at the next start.
        let _ = self.disk.remove(&FileName::Checkpoint(oldest).to_string());
        true
    }

    /// A checkpoint frees segments, so it may have the room of the one before the last, and of free segments.
    /// False if there is none to be had, or room is not what it lacks.
    fn make_room(&self, keeper: &mut Keeper, error: DiskError) -> bool {
        // What was begun takes room too.
        let _ = self.disk.remove(UNFINISHED);
        if !error.is_full() {
            self.room.trouble(Trouble::Checkpoint, error);
            keeper.save_now = true;
            keeper.save_at_ms = keeper.now_ms + super::retry_ms(&mut keeper.save_failures);
            return false;
        }
        self.room.solved(Trouble::Checkpoint);
        self.room.press();
        if self.drop_older(keeper) {
            return true;
        }
        keeper.lacks = true;
        // That for what failed too: it is what frees others.
        let gave = self.segments.lock().give_up(&*self.disk);
        if gave {
            self.room.gave_to_checkpoint();
        }
        gave
    }
}
