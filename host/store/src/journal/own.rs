//! Groups that are longer than what segments are shared by: each has a segment of its own.
//!
//! *The file* is there before the group is taken, so that nobody waits for room behind it: where a disk has none for it the
//! group is refused, and acks go on. What failed to sync is written to another file, in the room of free segments if there is
//! no other. It is named as the next segment when it is the group's turn; the segment that was
//! to come next is free again, for the numbers of segments are to be in the order of their batches. When nothing in it
//! is live it is removed, unless it is as long as the others.

use super::{
    Core,
    inbox::Chunk,
    room::Trouble,
    segments::{FIRST_BATCH_AT, FileName, Named, Segment},
    write::Writer,
};
use crate::{
    error::{DiskError, Refused},
    record::{BLOCK_BYTES, frame::BATCH_HEADER_BYTES, group::Group},
};

/// The segment of one group.
pub(crate) struct Own {
    /// The number of the file while it is free; `None` once it is used.
    spare: Option<u64>,
    /// The length of the file.
    bytes: u64,
}

/// How long the segment of a batch is, at least as long as others.
pub(crate) fn segment_bytes(batch_bytes: usize, usual: u64) -> u64 {
    (FIRST_BATCH_AT + batch_bytes as u64).next_multiple_of(BLOCK_BYTES).max(usual)
}

/// How long the segments are that batches in flight have of their own.
#[cfg(test)]
pub(crate) fn own_bytes(flight: &super::flight::Flight) -> u64 {
    flight.batches.iter().filter_map(|batch| batch.chunk.own.as_ref()).map(|own| own.bytes).sum()
}

impl Core {
    /// The file of a group that is to have one of its own.
    ///
    /// # Errors
    /// There is no room for it, or it cannot be made.
    pub(super) fn own_segment(&self, group: &Group) -> Result<Option<Own>, Refused> {
        if group.len_bytes() <= self.config.own_segment_bytes {
            return Ok(None);
        }
        if group.grows() && !self.has_reserve() {
            self.tidy();
            return Err(Refused::Full);
        }
        let bytes = segment_bytes(BATCH_HEADER_BYTES + group.len_bytes(), self.config.segment_bytes);
        match self.make_own(bytes) {
            Ok(spare) => Ok(Some(Own { spare: Some(spare), bytes })),
            Err(error) => {
                if !error.is_full() {
                    self.room.trouble(Trouble::Segments, error);
                }
                self.tidy();
                Err(Refused::Full)
            }
        }
    }

    /// Whether there is the reserve: what room there is is for that first. Where the keeper has not come to it, it is made.
    fn has_reserve(&self) -> bool {
        loop {
            let segments = self.segments.lock();
            if self.is_short() || segments.free() >= self.reserve(&segments) {
                return !self.is_short();
            }
            drop(segments);
            let Ok(spare) = self.make_own(self.config.segment_bytes) else { return false };
            self.segments.lock().spares.push(spare);
        }
    }

    fn make_own(&self, bytes: u64) -> Result<u64, DiskError> {
        let mut segments = self.segments.lock();
        let number = segments.next_spare;
        segments.next_spare += 1;
        drop(segments);
        self.disk.create_quickly(&FileName::Spare(number).to_string(), bytes)?;
        Ok(number)
    }

    /// The group is not taken after all.
    pub(super) fn give_up_own(&self, own: Option<Own>) {
        if let Some(spare) = own.and_then(|own| own.spare) {
            // A file that cannot be removed is found again at the next start.
            let _ = self.disk.remove(&FileName::Spare(spare).to_string());
        }
    }

    /// A file for what failed, where `kept` free segments are for other things.
    fn make_own_again(&self, bytes: u64, kept: usize) -> Result<u64, DiskError> {
        loop {
            let made = self.make_own(bytes);
            let is_full = made.as_ref().is_err_and(DiskError::is_full);
            let mut segments = self.segments.lock();
            if !is_full || segments.free() <= kept || !segments.give_up(&*self.disk) {
                return made;
            }
        }
    }

    /// Goes on in a chunk's own segment, with that batch; what failed before leaves `kept` free segments alone. False if
    /// that is not possible now.
    pub(super) fn roll_own(
        &self,
        writer: &mut Writer,
        chunk: &mut Chunk,
        (first, kept): (u64, usize),
    ) -> bool {
        let Some(own) = &mut chunk.own else { return false };
        let mut segments = self.segments.lock();
        if segments.is_naming {
            return false;
        }
        self.seal(writer, &mut segments);
        if let Err(error) = segments.free_ready(&*self.disk) {
            drop(segments);
            self.room.trouble(Trouble::Segments, error);
            return false;
        }
        drop(segments);
        let bytes = own.bytes;
        let spare = match own.spare.take().map_or_else(|| self.make_own_again(bytes, kept), Ok) {
            Ok(spare) => spare,
            Err(error) => {
                self.room.trouble(Trouble::Segments, error);
                return false;
            }
        };
        let naming = self.segments.lock().begin_naming_of(spare);
        let outcome = naming.run(&*self.disk, bytes);
        match &outcome {
            // Before anything is written to it.
            Named::Done(_) => self.manifest.name(&*self.disk, naming.number(), !self.room.is_pressed()),
            Named::Failed { is_spare, .. } => own.spare = is_spare.then_some(spare),
        }
        let mut segments = self.segments.lock();
        match segments.end_naming_of(&naming, outcome) {
            Ok(file) => {
                let number = naming.number();
                segments.files.insert(number, Segment::new(file.clone(), bytes, (first, self.key)));
                writer.segment = Some((number, file, bytes));
                writer.offset = FIRST_BATCH_AT;
            }
            Err(error) => {
                drop(segments);
                self.room.trouble(Trouble::Segments, error);
                return false;
            }
        }
        drop(segments);
        self.room.solved(Trouble::Segments);
        self.tidy();
        true
    }
}
