//! Writes again what is in flight after something failed.
//!
//! *Where:* to new segments, however often it fails: what a sync that failed left in a file is not known, and that
//! file is not asked again. Where there are not as many segments as it needs it waits for them; what acks have in
//! reserve may be used, as what is superseded comes back. Only on a disk that is full, with nothing free, it is written
//! to where it was: all of it, so that the next sync has all of it to write. It is all the one or all the other, and
//! nothing counts as moved before all of it is written: so each segment begins with a batch that is not older than
//! those of the segments before, which recovery relies on. What was begun elsewhere and not ended is removed before
//! anything is written in place: a start takes the latest of a batch, and that one would not have been synced.
//!
//! *When:* at once, and then at intervals that double, up to [`RETRY_MS_MAX`].

use super::{
    Core, Counts,
    flight::{Batch, Flight},
    room::{Claim, Trouble},
    write::{Writer, put_header},
};
use crate::{
    disk::File,
    error::DiskError,
    index::Coming,
    journal::segments::{FIRST_BATCH_AT, Segment},
    record::BLOCK_BYTES,
};
use std::sync::Arc;

/// The first time it waits so long, in milliseconds.
const RETRY_MS: u64 = 10;
/// It waits no longer.
pub(crate) const RETRY_MS_MAX: u64 = 5000;

/// A segment, its file, and where in it.
type Place = (u64, Arc<dyn File>, u64);

impl Core {
    /// Writes all that is in flight again. False if it is not the time.
    pub(super) fn rescue(&self, writer: &mut Writer, now_ms: u64) -> bool {
        let flight = &mut *self.flight.lock();
        // While a sync is under way, what it covers is not to be elsewhere when it says that it is safe.
        if flight.syncing || now_ms < flight.retry_at_ms || self.segments.lock().is_naming {
            return false;
        }
        let attempt = flight.attempts;
        flight.attempts = attempt.saturating_add(1);
        flight.retry_at_ms = now_ms + (RETRY_MS << attempt.min(16)).min(RETRY_MS_MAX);
        if let Some((number, ..)) = &writer.segment
            && let Some(segment) = self.segments.lock().files.get_mut(number)
        {
            segment.suspicious = true;
        }
        let written = if self.has_room(flight) {
            self.write_elsewhere(writer, flight)
        } else if flight.remains || !self.room.is_full() {
            // For room.
            self.tidy();
            return false;
        } else {
            self.write_in_place(flight)
        };
        if let Err(error) = written {
            self.room.trouble(Trouble::Journal, error);
            return true;
        }
        Counts::add(&self.counts.rescues, 1);
        flight.rescues += 1;
        flight.failed = false;
        // All of it is unsynced, whoever asked for what before.
        flight.want_all();
        self.written.notify_one();
        true
    }

    /// Whether there are segments for all of it.
    fn has_room(&self, flight: &Flight) -> bool {
        let length = self.config.segment_bytes;
        let (mut needed, mut offset) = (0, length);
        for batch in &flight.batches {
            let bytes = batch.chunk.bytes.len() as u64;
            if offset + bytes > length {
                (needed, offset) = (needed + 1, FIRST_BATCH_AT);
            }
            offset = (offset + bytes).next_multiple_of(BLOCK_BYTES);
        }
        self.segments.lock().free() >= needed + self.room.of_checkpoints()
    }

    fn write_elsewhere(&self, writer: &mut Writer, flight: &mut Flight) -> Result<(), DiskError> {
        let first_new = {
            let segments = self.segments.lock();
            segments.ready.as_ref().map_or(segments.next_segment, |(number, _)| *number)
        };
        let mut places: Vec<Place> = Vec::with_capacity(flight.batches.len());
        for at in 0..flight.batches.len() {
            let Some(batch) = flight.batches.get_mut(at) else { break };
            let begins = places.is_empty() || !writer.fits(batch.chunk.bytes.len());
            let written = if begins && !self.roll(writer, (batch.number, Claim::Rescue)) {
                // It was to have room, so something else failed, and is told.
                Err(DiskError::new("open", "segment", std::io::ErrorKind::Other.into()))
            } else {
                write_to(writer, batch, flight.synced)
            };
            match written {
                Ok(place) => {
                    Counts::add(&self.counts.journal_bytes, batch.chunk.bytes.len() as u64);
                    places.push(place);
                }
                Err(error) => {
                    flight.remains |= self.abandon(writer, first_new).is_err();
                    return Err(error);
                }
            }
        }
        flight.remains = false;
        self.supersede(flight, &places);
        for (batch, (segment, file, offset)) in flight.batches.iter_mut().zip(places) {
            (batch.segment, batch.file, batch.offset) = (segment, file, offset);
            self.apply_again(batch);
        }
        Ok(())
    }

    /// Removes the segments from there on, to which nothing refers.
    fn abandon(&self, writer: &mut Writer, first: u64) -> Result<(), DiskError> {
        writer.segment.take_if(|(number, ..)| *number >= first);
        let mut segments = self.segments.lock();
        let of = |(number, segment): (&u64, &Segment)| (*number, segment.name(*number));
        let begun: Vec<_> = segments.files.range(first..).map(of).collect();
        let numbers: Vec<_> = begun.iter().map(|(number, _)| *number).collect();
        self.manifest.forget(&*self.disk, &numbers)?;
        for (number, name) in begun {
            self.disk.remove(&name.to_string())?;
            segments.files.remove(&number);
        }
        Ok(())
    }

    /// Segments that have nothing but what is in flight have nothing any more.
    fn supersede(&self, flight: &Flight, places: &[Place]) {
        let Some(front) = flight.batches.front() else { return };
        let mut segments = self.segments.lock();
        for (number, segment) in &mut segments.files {
            let is_new = places.iter().any(|(new, ..)| new == number);
            segment.superseded |= segment.first >= front.number && !is_new;
        }
    }

    fn write_in_place(&self, flight: &mut Flight) -> Result<(), DiskError> {
        let synced = flight.synced;
        for batch in &mut flight.batches {
            put_header(&mut batch.chunk, (batch.number, batch.segment, synced));
            batch.file.write_at(&batch.chunk.bytes, batch.offset)?;
            Counts::add(&self.counts.journal_bytes, batch.chunk.bytes.len() as u64);
        }
        flight.batches.iter_mut().for_each(|batch| self.apply_again(batch));
        Ok(())
    }

    fn apply_again(&self, batch: &mut Batch) {
        let coming = if batch.applied { Coming::Again } else { Coming::New };
        batch.applied = true;
        self.apply(&batch.chunk.bytes, (batch.number, batch.segment, batch.offset), coming);
    }
}

/// Writes a batch where the writer stands.
fn write_to(writer: &mut Writer, batch: &mut Batch, synced: u64) -> Result<Place, DiskError> {
    let Some((segment, file, _)) = &writer.segment else {
        return Err(DiskError::new("open", "segment", std::io::ErrorKind::NotFound.into()));
    };
    let header = put_header(&mut batch.chunk, (batch.number, *segment, synced));
    file.write_at(&batch.chunk.bytes, writer.offset)?;
    let place = (*segment, file.clone(), writer.offset);
    writer.offset = header.end(writer.offset);
    Ok(place)
}
