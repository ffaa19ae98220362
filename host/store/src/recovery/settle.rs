//! Makes what a start found the beginning of a new run.

use super::{RUNNING, Recovered, Report};
use crate::{
    aside,
    disk::Disk,
    error::{DiskError, OpenError},
    index::save,
    journal::{manifest, segments::FileName},
    keeper::{self, UNFINISHED},
    record::BLOCK_BYTES,
};
use hashbrown::HashSet;

/// What is not known to be synced is written again, a
/// checkpoint too, and what nothing refers to is removed.
pub(crate) fn settle(
    disk: &dyn Disk,
    segment_bytes: u64,
    recovered: &mut Recovered,
    report: &mut Report,
) -> Result<(), OpenError> {
    let mut settling = Settling { disk, segment_bytes, recovered };
    settling.drop_unfinished()?;
    settling.mark_running()?;
    settling.set_aside(report)?;
    let unsynced = core::mem::take(&mut settling.recovered.unsynced);
    loop {
        let bytes = settling.provide(&unsynced)?;
        if bytes == 0 {
            break;
        }
        if !settling.give_up()? {
            return Err(OpenError::Full { bytes });
        }
    }
    settling.rewrite(&unsynced)?;
    settling.keep_two(report)?;
    settling.remove_unused()?;
    recovered.index.held.dead_extents.clear();
    report.given_up = core::mem::take(&mut recovered.given_up);
    report.set_aside.retain(|name| !report.given_up.contains(name));
    disk.sync_names()?;
    Ok(())
}

/// What it is done with.
pub(super) struct Settling<'a> {
    pub(super) disk: &'a dyn Disk,
    /// How long the segments are that batches share.
    pub(super) segment_bytes: u64,
    pub(super) recovered: &'a mut Recovered,
}

impl Settling<'_> {
    /// Removes what was begun when the process ended, for the room that it takes, and free segments that were not made to
    /// their end, or that are of another length.
    fn drop_unfinished(&mut self) -> Result<(), DiskError> {
        for begun in [UNFINISHED, manifest::UNFINISHED] {
            match self.disk.remove(begun) {
                Err(error) if !error.is_missing() => return Err(error),
                _ => {}
            }
        }
        let spares = &mut self.recovered.segments.spares;
        for number in core::mem::take(spares) {
            let name = FileName::Spare(number).to_string();
            if self.disk.open(&name)?.len_bytes()? == self.segment_bytes {
                spares.push(number);
            } else {
                self.disk.remove(&name)?;
            }
        }
        Ok(())
    }

    /// What cannot be read, and bodies of which it is not known that nobody has them, are kept under other names.
    fn set_aside(&mut self, report: &mut Report) -> Result<(), DiskError> {
        let mut aside = core::mem::take(&mut self.recovered.aside);
        if report.verdict.lost.lacks_journal() || report.verdict.refusal.is_some() {
            aside.extend(
                self.unused()?
                    .into_iter()
                    .filter(|name| matches!(FileName::parse(name), Some(FileName::Extent(_)))),
            );
        }
        for number in &report.damaged {
            self.recovered.segments.mark_damaged(*number, self.disk)?;
        }
        for name in aside {
            match aside::set_aside(self.disk, &name) {
                Ok(name) => report.set_aside.push(name),
                // Its room was needed.
                Err(error) if error.is_missing() => self.recovered.given_up.push(name),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says that a store is open; on a full disk even a name may need the room of something else.
    fn mark_running(&mut self) -> Result<(), OpenError> {
        loop {
            match self.disk.create(RUNNING, 0) {
                Ok(_) => return Ok(self.disk.sync_names()?),
                Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
                Err(error) if error.is_full() => {
                    if !self.make_room()? {
                        return Err(OpenError::Full { bytes: BLOCK_BYTES });
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sees to it that there are two checkpoints that serve, and that the last of them is of now.
    ///
    /// An older one serves with the journal that is kept for it; but not where the journal has what does not count, or
    /// lacks something: then the new one is written twice, the twin first, so that there is never only one of which
    /// an older one is believed to serve.
    fn keep_two(&mut self, report: &Report) -> Result<(), OpenError> {
        let read = self.recovered.checkpoints.last().copied();
        let now = self.recovered.index.position;
        let is_whole = report.verdict.is_whole();
        if report.clean && report.batches == 0 && is_whole && read.is_some() {
            return Ok(());
        }
        let needs_twin = !is_whole;
        let twin = needs_twin || (self.recovered.has_twin && read == Some(now));
        let has_twin = twin && self.write_twin()?;
        self.recovered.checkpoint_bytes = self.save()?;
        // If there was no room for the older ones they are gone by now.
        let older =
            self.recovered.checkpoints.iter().rev().copied().find(|older| *older < now && !needs_twin);
        self.recovered.checkpoints = older.into_iter().chain([now]).collect();
        self.recovered.has_twin = has_twin;
        Ok(())
    }

    /// Writes a checkpoint's twin. False if there is no room for it.
    fn write_twin(&self) -> Result<bool, DiskError> {
        let index = &self.recovered.index;
        match keeper::write_now(self.disk, index, FileName::Twin(index.position)) {
            Ok(_) => Ok(true),
            Err(error) if error.is_full() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes a checkpoint, on a full disk in the room of what is not needed.
    fn save(&mut self) -> Result<u64, OpenError> {
        let file = FileName::Checkpoint(self.recovered.index.position);
        loop {
            match keeper::write_now(self.disk, &self.recovered.index, file) {
                Err(error) if error.is_full() => {
                    if !self.make_room()? {
                        return Err(OpenError::Full { bytes: save::estimate(&self.recovered.index) });
                    }
                }
                saved => return Ok(saved?),
            }
        }
    }

    /// Gives up what is needed least. False if nothing is left.
    fn make_room(&mut self) -> Result<bool, DiskError> {
        Ok(self.give_up()? || self.recovered.segments.give_up(self.disk))
    }

    /// The same, but for free segments.
    fn give_up(&mut self) -> Result<bool, DiskError> {
        if self.remove_unused()? || self.give_up_aside()? {
            return Ok(true);
        }
        if self.recovered.checkpoints.len() > 1 {
            self.recovered.checkpoints.remove(0);
            if self.remove_unused()? {
                return Ok(true);
            }
        }
        self.free_spent()
    }

    /// Segments that have nothing any more are free. False if there are none.
    fn free_spent(&mut self) -> Result<bool, DiskError> {
        let spent = core::mem::take(&mut self.recovered.spent);
        if let Some(found) = self.recovered.manifest.as_mut().filter(|_| !spent.is_empty()) {
            manifest::forget_found(self.disk, found, &spent)?;
        }
        for number in &spent {
            self.recovered.segments.retire(*number, self.disk, (usize::MAX, self.segment_bytes))?;
        }
        Ok(!spent.is_empty())
    }

    /// Removes a file that was set aside: to serve is worth more, and it is told. False if there is none.
    fn give_up_aside(&mut self) -> Result<bool, DiskError> {
        let aside = self.disk.list()?.into_iter().find(|name| aside::is_aside(name));
        let Some(name) = aside else { return Ok(false) };
        self.disk.remove(&name)?;
        self.recovered.given_up.push(name);
        Ok(true)
    }

    /// Removes checkpoints that were not used, and bodies that nothing refers to. Whether there were any.
    fn remove_unused(&self) -> Result<bool, DiskError> {
        let mut did = false;
        for name in self.unused()? {
            self.disk.remove(&name)?;
            // What was begun comes again with each attempt.
            did |= name != UNFINISHED && name != manifest::UNFINISHED;
        }
        Ok(did)
    }

    /// Files that nothing needs.
    fn unused(&self) -> Result<Vec<String>, DiskError> {
        let recovered = &self.recovered;
        let extents: HashSet<u64, foldhash::fast::RandomState> =
            recovered.index.held.extents.values().map(|extent| extent.number).collect();
        let keeps = |name: &String| match FileName::parse(name) {
            Some(FileName::Checkpoint(number)) => recovered.checkpoints.contains(&number),
            Some(FileName::Twin(number)) => {
                recovered.has_twin && recovered.checkpoints.last() == Some(&number)
            }
            Some(FileName::Extent(number)) => extents.contains(&number),
            Some(FileName::Segment(_) | FileName::Damaged(_) | FileName::Spare(_)) => true,
            None => *name != UNFINISHED && *name != manifest::UNFINISHED,
        };
        let mut names = self.disk.list()?;
        names.retain(|name| !keeps(name));
        Ok(names)
    }
}
