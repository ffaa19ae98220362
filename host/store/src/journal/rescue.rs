//! Writes again what is in flight after something failed.
//!
//! *Where:* to new segments, however often it fails: what a sync that failed left in a file is not known, and that
//! file is not asked again. Where there are not as many segments as it needs it waits for them, on a full disk too; what
//! acks and checkpoints have in reserve may be used, as what is superseded comes back. So that there are as many, no
//! more is in flight where room is short than what is free has room for (`write.rs`). Nothing counts as moved before all
//! of it is written: so each segment begins with a batch that is not older than those of the segments before, which
//! recovery relies on. What was begun and not ended is removed before it is begun again: a start takes the latest of a
//! batch, and that one would not have been synced.
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
    record::{BLOCK_BYTES, key::Key},
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
        if !self.has_room(flight) {
            // Nothing is confirmed until there is.
            self.tidy();
            return false;
        }
        if let Err(error) = self.write_elsewhere(writer, flight) {
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
        let segments = self.segments.lock();
        let Some(front) = flight.batches.front() else { return true };
        let is_its = |batch: &Batch| {
            let segment = segments.files.get(&batch.segment);
            segment.is_none_or(|segment| segment.first >= front.number)
        };
        // Where it is all that its segments have they come back at once.
        let comes_back = self.room.is_full() && flight.batches.iter().all(is_its);
        let left = if comes_back { 0 } else { self.room.left_to_checkpoints() };
        segments.free() >= self.needed(flight, None) + left
    }

    /// How many segments all of it would need, and one more batch of that length.
    pub(crate) fn needed(&self, flight: &Flight, more: Option<usize>) -> usize {
        let length = self.config.segment_bytes;
        let (mut needed, mut offset) = (0, length);
        let shared = |batch: &Batch| batch.chunk.own.is_none().then_some(batch.chunk.bytes.len());
        for bytes in flight.batches.iter().map(shared).chain(more.map(Some)) {
            let Some(bytes) = bytes.map(|bytes| bytes as u64) else {
                // It gets a file of its own.
                offset = length;
                continue;
            };
            if offset + bytes > length {
                (needed, offset) = (needed + 1, FIRST_BATCH_AT);
            }
            offset = (offset + bytes).next_multiple_of(BLOCK_BYTES);
        }
        needed
    }

    fn write_elsewhere(&self, writer: &mut Writer, flight: &mut Flight) -> Result<(), DiskError> {
        let first_new = {
            let segments = self.segments.lock();
            segments.ready.as_ref().map_or(segments.next_segment, |(number, _)| *number)
        };
        let kept = self.needed(flight, None) + self.room.left_to_checkpoints();
        let mut places: Vec<Place> = Vec::with_capacity(flight.batches.len());
        for at in 0..flight.batches.len() {
            let Some(batch) = flight.batches.get_mut(at) else { break };
            let begins = places.is_empty() || !writer.fits(batch.chunk.bytes.len());
            let goes_on = if batch.chunk.own.is_some() {
                self.roll_own(writer, &mut batch.chunk, (batch.number, kept))
            } else {
                !begins || self.roll(writer, (batch.number, Claim::Rescue))
            };
            let written = if !goes_on {
                // It was to have room, so something else failed, and is told.
                Err(DiskError::new("open", "segment", std::io::ErrorKind::Other.into()))
            } else {
                write_to(writer, batch, (flight.synced, self.key))
            };
            match written {
                Ok(place) => {
                    Counts::add(&self.counts.journal_bytes, batch.chunk.bytes.len() as u64);
                    places.push(place);
                }
                Err(error) => {
                    // What cannot be removed is older than what is written next.
                    let _ = self.abandon(writer, first_new);
                    return Err(error);
                }
            }
        }
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

    fn apply_again(&self, batch: &mut Batch) {
        let coming = if batch.applied { Coming::Again } else { Coming::New };
        batch.applied = true;
        self.apply(&batch.chunk.bytes, (batch.number, batch.segment, batch.offset), coming);
    }
}

/// Writes a batch where the writer stands.
fn write_to(writer: &mut Writer, batch: &mut Batch, (synced, key): (u64, Key)) -> Result<Place, DiskError> {
    let Some((segment, file, _)) = &writer.segment else {
        return Err(DiskError::new("open", "segment", std::io::ErrorKind::NotFound.into()));
    };
    let header = put_header(&mut batch.chunk, (batch.number, *segment, synced), key);
    file.write_at(&batch.chunk.bytes, writer.offset)?;
    let place = (*segment, file.clone(), writer.offset);
    writer.offset = header.end(writer.offset);
    Ok(place)
}
