//! The writer's step.

use super::{
    Core, Counts, Sync,
    flight::{Batch, Flight},
    inbox::{Chunk, Waiter},
    segments::{FIRST_BATCH_AT, Segment},
};
use crate::{
    disk::File,
    error::DiskError,
    index::Coming,
    record::{
        frame::{BATCH_HEADER_BYTES, BatchHeader},
        group::{GROUP_HEADER_BYTES, GroupView, mix},
    },
};
use std::sync::Arc;

/// Where the journal is written.
#[derive(Default)]
pub(crate) struct Writer {
    /// The number, the file and its length.
    segment: Option<(u64, Arc<dyn File>, u64)>,
    offset: u64,
    /// The number of the next batch.
    pub(crate) next: u64,
    /// A chunk for which there is no segment.
    stuck: Option<Chunk>,
    told: Vec<Waiter>,
}

impl Writer {
    /// One whose first batch has that number.
    pub(crate) fn new(next: u64) -> Self {
        Self { next, ..Self::default() }
    }

    /// Whether a chunk waits for a segment.
    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck.is_some()
    }

    fn fits(&self, bytes: usize) -> bool {
        self.segment.as_ref().is_some_and(|(.., length)| self.offset + bytes as u64 <= *length)
    }
}

impl Core {
    /// Writes a batch, or writes again what failed. False if there was nothing to do, or it could not be.
    pub(crate) fn write_step(&self, now_ms: u64) -> bool {
        let writer = &mut *self.writer.lock();
        let (failed, too_much) = {
            let flight = self.flight.lock();
            (flight.failed, flight.is_too_much())
        };
        if failed {
            return self.rescue(writer);
        }
        if too_much {
            return false;
        }
        let taken = writer.stuck.take().or_else(|| self.inbox.lock().take(now_ms));
        let Some(chunk) = taken else {
            return false;
        };
        if !writer.fits(chunk.bytes.len()) && !self.roll(writer) {
            writer.stuck = Some(chunk);
            return false;
        }
        self.write(writer, chunk, now_ms);
        let mut told = core::mem::take(&mut writer.told);
        told.drain(..).for_each(|waiter| waiter.done.done(waiter.token, Ok(())));
        writer.told = told;
        true
    }

    fn write(&self, writer: &mut Writer, mut chunk: Chunk, now_ms: u64) {
        let Some((segment, file, _)) = &writer.segment else { return };
        let (number, segment, file) = (writer.next, *segment, file.clone());
        writer.next += 1;
        let synced = self.flight.lock().synced;
        mix_groups(&mut chunk.bytes, number);
        let header = put_header(&mut chunk, (number, segment, synced));
        let offset = writer.offset;
        let written = file.write_at(&chunk.bytes, offset);
        writer.offset = header.end(offset);
        let failed = written.is_err();
        if let Err(error) = written {
            *self.trouble.lock() = Some(error);
        } else {
            self.apply(&chunk.bytes, (number, segment, offset), Coming::New);
            // Only those that wait for a sync stay.
            let is_safe = |waiter: &mut Waiter| waiter.sync != Sync::Always;
            writer.told.extend(chunk.waiters.extract_if(.., is_safe));
        }
        Counts::add(&self.counts.batches, 1);
        Counts::add(&self.counts.groups, chunk.groups.into());
        Counts::add(&self.counts.journal_bytes, chunk.bytes.len() as u64);
        let mut flight = self.flight.lock();
        flight.push(Batch { number, segment, file, offset, chunk, applied: !failed }, now_ms);
        flight.failed |= failed;
        let due = flight.is_due(now_ms) || flight.due_ms.is_some();
        drop(flight);
        if due {
            self.written.notify_one();
        }
    }

    fn apply(&self, bytes: &[u8], (number, segment, offset): (u64, u64, u64), coming: Coming) {
        let mut index = self.index.lock();
        let mut at = BATCH_HEADER_BYTES;
        // Groups were made here, so they can be read.
        while let Some(Ok(group)) = bytes.get(at..).map(|rest| GroupView::decode(rest, number)) {
            index.apply(&group, (number, segment as u32, offset + at as u64), coming);
            at += group.len_bytes;
        }
        index.position = index.position.max(number);
    }

    /// Goes on in the next segment. False if there is none.
    fn roll(&self, writer: &mut Writer) -> bool {
        let mut segments = self.segments.lock();
        if segments.ready.is_none()
            && let Err(error) = self.make_ready_now(&mut segments)
        {
            drop(segments);
            self.fail(error);
            return false;
        }
        let Some((number, file)) = segments.ready.take() else { return false };
        if let Some((before, ..)) = writer.segment.take()
            && let Some(before) = segments.files.get_mut(&before)
        {
            before.last = Some(writer.next - 1);
        }
        let bytes = self.config.segment_bytes;
        let segment = Segment {
            file: file.clone(),
            bytes,
            last: None,
            suspicious: false,
            stuck: false,
            dead_since: None,
        };
        segments.files.insert(number, segment);
        drop(segments);
        writer.segment = Some((number, file, bytes));
        writer.offset = FIRST_BATCH_AT;
        self.tidy();
        true
    }

    fn make_ready_now(&self, segments: &mut super::Segments) -> Result<(), DiskError> {
        if self.full.load(core::sync::atomic::Ordering::Relaxed) {
            // The keeper has to save first: what is left is its room.
            self.tidy();
            return Ok(());
        }
        if segments.spares.is_empty() {
            segments.make_spare(&*self.disk, self.config.segment_bytes)?;
        }
        segments.make_ready(&*self.disk, self.config.segment_bytes)
    }

    fn fail(&self, error: DiskError) {
        if error.is_full() {
            self.full.store(true, core::sync::atomic::Ordering::Relaxed);
        }
        *self.trouble.lock() = Some(error);
        self.tidy();
    }

    /// Writes all that is in flight to a new segment.
    fn rescue(&self, writer: &mut Writer) -> bool {
        let flight = &mut *self.flight.lock();
        if flight.syncing {
            // What it covers is not to be elsewhere when it says that it is safe.
            return false;
        }
        // Where it could not go on it goes on here: files are not to be filled with the same again.
        let (mut at, mut begun) = (flight.rewritten.unwrap_or_default(), flight.rewritten.is_some());
        if let (Some((number, ..)), false) = (&writer.segment, begun)
            && let Some(segment) = self.segments.lock().files.get_mut(number)
        {
            segment.suspicious = true;
        }
        while let Some(length) = flight.batches.get(at).map(|batch| batch.chunk.bytes.len()) {
            if (!begun || !writer.fits(length)) && !self.roll(writer) {
                return false;
            }
            begun = true;
            flight.rewritten = Some(at);
            if let Err(error) = self.write_again(writer, flight, at) {
                *self.trouble.lock() = Some(error);
                flight.rewritten = None;
                return true;
            }
            at += 1;
            flight.rewritten = Some(at);
        }
        flight.rewritten = None;
        Counts::add(&self.counts.rescues, 1);
        flight.rescues += 1;
        flight.failed = false;
        // All of it is unsynced, whoever asked for what before.
        flight.wanted = flight.batches.back().map_or(flight.wanted, |batch| batch.number);
        self.written.notify_one();
        true
    }

    fn write_again(&self, writer: &mut Writer, flight: &mut Flight, at: usize) -> Result<(), DiskError> {
        let synced = flight.synced;
        let (Some((segment, file, _)), Some(batch)) = (&writer.segment, flight.batches.get_mut(at)) else {
            return Ok(());
        };
        let header = put_header(&mut batch.chunk, (batch.number, *segment, synced));
        file.write_at(&batch.chunk.bytes, writer.offset)?;
        let coming = if batch.applied { Coming::Again } else { Coming::New };
        (batch.segment, batch.file, batch.offset) = (*segment, file.clone(), writer.offset);
        batch.applied = true;
        writer.offset = header.end(writer.offset);
        self.apply(&batch.chunk.bytes, (batch.number, batch.segment, batch.offset), coming);
        Counts::add(&self.counts.journal_bytes, batch.chunk.bytes.len() as u64);
        Ok(())
    }
}

fn put_header(chunk: &mut Chunk, (number, segment, synced): (u64, u64, u64)) -> BatchHeader {
    let bytes = (chunk.bytes.len() - BATCH_HEADER_BYTES) as u32;
    let header = BatchHeader { bytes, number, synced, segment, groups: chunk.groups };
    if let Some(place) = chunk.bytes.first_chunk_mut::<BATCH_HEADER_BYTES>() {
        *place = header.encode();
    }
    header
}

/// Mixes the number of their batch into the checksums of groups that have none yet.
fn mix_groups(bytes: &mut [u8], number: u64) {
    let mixed = mix(number);
    let mut at = BATCH_HEADER_BYTES;
    while let Some(header) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<GROUP_HEADER_BYTES>())
    {
        let [a, b, c, d, e, f, g, h, .., w, x, y, z] = *header;
        let check = u32::from_le_bytes([w, x, y, z]) ^ mixed;
        header[12..].copy_from_slice(&check.to_le_bytes());
        let lengths = [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])];
        at += (GROUP_HEADER_BYTES + lengths[0] as usize + lengths[1] as usize).next_multiple_of(8);
    }
}
