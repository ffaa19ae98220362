//! What must be there: a file that names the latest segments, and says up to which batch all is on disk.
//!
//! A batch says what was synced before it, so what the last ones of the journal had could be gone, with their file or
//! in it, and nobody would miss it. Therefore a segment is named here before it is written to, and not named any more
//! before its file goes; those before the one that was synced last need not be named, since the batch number covers
//! them. Nobody who waits for a confirm waits for that: the keeper names a segment while another one is written, and
//! writes down what was synced: when a segment has its first batch, and then once in [`EVERY_MS`].
//!
//! *How it is written:* in two places in turn, so that one is whole whatever happens. After a write or a sync that
//! failed the file is made anew. Where that cannot be done it is removed: no manifest says nothing, an old one would
//! say what is not so any more.

use crate::{
    disk::{Disk, File},
    error::{DiskError, OpenError},
    record::manifest::{MANIFEST_BYTES, PLACE_BYTES, Read, Record},
};
use parking_lot::Mutex;
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// The name of the file.
pub(crate) const MANIFEST: &str = "manifest";
/// One that is being made has this name.
pub(crate) const UNFINISHED: &str = "manifest.unfinished";
/// What was synced in a segment is written down at most once in so long, and no later than that.
pub(crate) const EVERY_MS: u64 = 1000;

/// What is known of it.
#[derive(Default)]
pub(crate) struct Manifest {
    /// Up to this batch all is on disk. Written before [`Self::segment`], and read after it.
    synced: AtomicU64,
    /// The segment that has that batch.
    segment: AtomicU64,
    /// That is another one than before.
    behind: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None` while there is none that can be written to.
    file: Option<Arc<dyn File>>,
    /// What is to be there.
    record: Record,
    /// Every segment that the file may name, in either place, whatever of it is on disk.
    claimed: BTreeSet<u64>,
    /// What was written last names these.
    latest: Vec<u64>,
    /// The batch and the segment that the file says.
    said: (u64, u64),
    due_ms: u64,
}

impl State {
    /// Writes the record. If that fails it is not known which one is there.
    fn write(&mut self, disk: &dyn Disk) -> Result<(), DiskError> {
        self.claimed.extend(&self.record.segments);
        // The other place says still what was written before.
        let before = if self.file.is_some() { core::mem::take(&mut self.latest) } else { Vec::new() };
        self.record.number += 1;
        let bytes = self.record.encode();
        let written = match &self.file {
            Some(file) => {
                let place = self.record.number % 2 * PLACE_BYTES as u64;
                file.write_at(&bytes, place).and_then(|()| file.sync())
            }
            None => make(disk, &bytes).map(|file| self.file = Some(file)),
        };
        if let Err(error) = written {
            // What a sync that failed left in a file is not known, and it is not asked again.
            self.file = None;
            return Err(error);
        }
        self.claimed = self.record.segments.iter().copied().chain(before).collect();
        self.latest.clone_from(&self.record.segments);
        self.said = (self.record.synced, self.record.segment);
        Ok(())
    }

    /// The same; where that cannot be done there is none.
    fn write_or_remove(&mut self, disk: &dyn Disk, has_room: bool) -> Result<(), DiskError> {
        if (has_room || self.file.is_some()) && self.write(disk).is_ok() {
            return Ok(());
        }
        match disk.remove(MANIFEST) {
            Err(error) if !error.is_missing() => return Err(error),
            removed => {
                disk.sync_names()?;
                self.claimed.clear();
                if removed.is_ok() {
                    // In the room that it had.
                    let _ = self.write(disk);
                }
            }
        }
        Ok(())
    }

    /// Takes over what is synced, and names no segment before that one.
    fn update(&mut self, manifest: &Manifest) {
        let first = manifest.segment.load(Ordering::Acquire);
        self.record.synced = manifest.synced.load(Ordering::Acquire);
        self.record.segment = first;
        self.record.segments.retain(|segment| *segment >= first);
    }
}

/// A new file with a record.
fn make(disk: &dyn Disk, record: &[u8]) -> Result<Arc<dyn File>, DiskError> {
    match disk.remove(UNFINISHED) {
        Err(error) if !error.is_missing() => return Err(error),
        _ => {}
    }
    let file = disk.create(UNFINISHED, MANIFEST_BYTES)?;
    // In both places, so that one that is damaged does not show what was before.
    let named = file
        .write_at(record, 0)
        .and_then(|()| file.write_at(record, PLACE_BYTES as u64))
        .and_then(|()| file.sync())
        .and_then(|()| disk.rename(UNFINISHED, MANIFEST));
    if let Err(error) = named {
        // Its room may be needed; what cannot be removed is removed the next time.
        let _ = disk.remove(UNFINISHED);
        return Err(error);
    }
    disk.sync_names()?;
    Ok(file)
}

impl Manifest {
    /// One that takes the place of what a start read, which may be there still.
    pub(crate) fn after(found: Option<&Record>, synced: u64) -> Self {
        let claimed = found.map(|found| found.segments.iter().copied().collect()).unwrap_or_default();
        let number = found.map_or(0, |found| found.number);
        let record = Record { number, synced, ..Record::default() };
        let state = State { record, claimed, ..State::default() };
        Self { synced: AtomicU64::new(synced), state: Mutex::new(state), ..Self::default() }
    }

    /// Up to that batch, in that segment, all is on disk.
    pub(crate) fn was_synced(&self, batch: u64, segment: u64) {
        self.synced.store(batch, Ordering::Release);
        self.behind.fetch_or(self.segment.swap(segment, Ordering::AcqRel) != segment, Ordering::AcqRel);
    }

    /// Whether a segment has its first batch on disk and the file does not say so; told once.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed) && self.behind.swap(false, Ordering::AcqRel)
    }

    /// A checkpoint has all that there is: no segment need be named.
    pub(crate) fn all_is_saved(&self, disk: &dyn Disk, batch: u64, has_room: bool) {
        let mut state = self.state.lock();
        self.synced.store(batch, Ordering::Release);
        (state.record.synced, state.record.segment) = (batch, 0);
        state.record.segments.clear();
        // If neither worked a start finds that all is there that it names.
        let _ = state.write_or_remove(disk, has_room);
    }

    /// A segment is there from now on. If that cannot be written down it serves all the same.
    pub(crate) fn name(&self, disk: &dyn Disk, segment: u64, has_room: bool) {
        let mut state = self.state.lock();
        state.update(self);
        state.record.segments.push(segment);
        let _ = state.write_or_remove(disk, has_room);
    }

    /// The files of these segments may go.
    ///
    /// # Errors
    /// If one of them may still be named: then they may not.
    pub(crate) fn forget(&self, disk: &dyn Disk, segments: &[u64]) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        state.record.segments.retain(|segment| !segments.contains(segment));
        // Both places, so that neither says what is not so any more, whatever happens to the other.
        for _ in 0..2 {
            if segments.iter().all(|segment| !state.claimed.contains(segment)) {
                break;
            }
            state.update(self);
            state.write_or_remove(disk, false)?;
        }
        Ok(())
    }

    /// Writes down what is synced, if that is to be done. Without room there need not be one.
    pub(crate) fn step(&self, disk: &dyn Disk, now_ms: u64, has_room: bool) {
        let mut state = self.state.lock();
        let segment = self.segment.load(Ordering::Acquire);
        let is_news = state.file.is_none() || state.said.0 != self.synced.load(Ordering::Acquire);
        // That a segment has something is written down at once.
        let waits = now_ms < state.due_ms && (state.file.is_none() || state.said.1 == segment);
        if !is_news || waits || (state.file.is_none() && !has_room) {
            return;
        }
        state.due_ms = now_ms + EVERY_MS;
        state.update(self);
        let _ = state.write(disk);
    }
}

/// The files of these segments may go, before there is a [`Manifest`]: what a start found is made anew, in the room that it
/// had.
///
/// # Errors
/// If one of them may still be named: then they may not.
pub(crate) fn forget_found(disk: &dyn Disk, found: &mut Record, segments: &[u64]) -> Result<(), DiskError> {
    found.segments.retain(|segment| !segments.contains(segment));
    let mut state = State { record: found.clone(), ..State::default() };
    state.write_or_remove(disk, false)?;
    found.number = state.record.number;
    Ok(())
}

/// What a start finds.
pub(crate) enum Found {
    /// No file: an older version made the folder, or there was no room for one.
    Nothing,
    /// What it says.
    Record(Record),
    /// It does not check.
    Damaged,
}

/// Reads it.
///
/// # Errors
/// If it is of a later format.
pub(crate) fn read(disk: &dyn Disk) -> Result<Result<Found, DiskError>, OpenError> {
    let read = disk.open(MANIFEST).and_then(|file| {
        let mut bytes = vec![0; MANIFEST_BYTES as usize];
        let length = file.read_at(&mut bytes, 0)?;
        bytes.truncate(length);
        Ok(bytes)
    });
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) if error.is_missing() => return Ok(Ok(Found::Nothing)),
        Err(error) => return Ok(Err(error)),
    };
    let mut latest: Option<Record> = None;
    for place in bytes.chunks(PLACE_BYTES) {
        match Record::decode(place) {
            Read::Record(record) if latest.as_ref().is_none_or(|latest| latest.number < record.number) => {
                latest = Some(record);
            }
            Read::Newer(version) => return Err(OpenError::Newer { file: MANIFEST.to_owned(), version }),
            Read::Record(_) | Read::Unreadable => {}
        }
    }
    Ok(Ok(latest.map_or(Found::Damaged, Found::Record)))
}
