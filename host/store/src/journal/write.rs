//! The writer's step.

use super::{
    Core, Counts, Sync,
    flight::Batch,
    inbox::{Chunk, Waiter},
    room::{Claim, Trouble},
    segments::{FIRST_BATCH_AT, Named, Segment, Segments},
};
use crate::{
    disk::File,
    index::Coming,
    record::{
        frame::{BATCH_HEADER_BYTES, BatchHeader},
        group::{GROUP_HEADER_BYTES, GroupView},
        key::Key,
    },
};
use std::sync::Arc;

/// Where the journal is written.
#[derive(Default)]
pub(crate) struct Writer {
    /// The number, the file and its length.
    pub(super) segment: Option<(u64, Arc<dyn File>, u64)>,
    pub(super) offset: u64,
    /// The number of the next batch.
    pub(crate) next: u64,
    /// Nothing is in flight, which could fail and would have to be written again.
    alone: bool,
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

    /// How long that one is; 0 if none waits.
    pub(crate) fn stuck_bytes(&self) -> usize {
        self.stuck.as_ref().map_or(0, |chunk| chunk.bytes.len())
    }

    pub(super) fn fits(&self, bytes: usize) -> bool {
        self.segment.as_ref().is_some_and(|(.., length)| self.offset + bytes as u64 <= *length)
    }
}

impl Core {
    /// Writes a batch, or writes again what failed. False if there was nothing to do, or it could not be.
    // A function of its own: its instructions are counted (`tests/instructions`).
    #[inline(never)]
    pub(crate) fn write_step(&self, now_ms: u64) -> bool {
        let mut writer = self.writer.lock();
        let did = self.write_locked(&mut writer, now_ms);
        if writer.told.is_empty() {
            return did;
        }
        let mut told = core::mem::take(&mut writer.told);
        drop(writer);
        // Whoever is told may ask the store for anything.
        told.drain(..).for_each(|waiter| waiter.done.done(waiter.token, Ok(())));
        self.writer.lock().told = told;
        did
    }

    fn write_locked(&self, writer: &mut Writer, now_ms: u64) -> bool {
        let (failed, too_much) = {
            let flight = self.flight.lock();
            writer.alone = flight.batches.is_empty();
            (flight.failed, flight.is_too_much())
        };
        if failed {
            return self.rescue(writer, now_ms);
        }
        if too_much {
            return false;
        }
        let taken = writer.stuck.take().or_else(|| self.inbox.lock().take(now_ms));
        let Some(mut chunk) = taken else {
            return false;
        };
        if self.is_short() && self.waits_for_sync(writer, &chunk) {
            writer.stuck = Some(chunk);
            return false;
        }
        let claim = if chunk.grows { Claim::Grows } else { Claim::Frees };
        let goes_on = if chunk.own.is_some() {
            self.roll_own(writer, &mut chunk, (writer.next, usize::MAX))
        } else {
            writer.fits(chunk.bytes.len()) || self.roll(writer, (writer.next, claim))
        };
        if !goes_on {
            writer.stuck = Some(chunk);
            return false;
        }
        self.write(writer, chunk, now_ms);
        true
    }

    /// Whether with one more batch there would be more in flight than could be written again in what is free. One alone
    /// does not wait: more would not come of that.
    fn waits_for_sync(&self, writer: &Writer, chunk: &Chunk) -> bool {
        if chunk.own.is_some() {
            // It has its file.
            return false;
        }
        let mut flight = self.flight.lock();
        let bytes = chunk.bytes.len();
        let needed = self.needed(&flight, Some(bytes)) + usize::from(!writer.fits(bytes));
        if flight.batches.is_empty() || needed <= self.segments.lock().free() {
            return false;
        }
        flight.want_all();
        self.written.notify_one();
        true
    }

    fn write(&self, writer: &mut Writer, mut chunk: Chunk, now_ms: u64) {
        let Some((segment, file, _)) = &writer.segment else { return };
        let (number, segment, file) = (writer.next, *segment, file.clone());
        writer.next += 1;
        let synced = self.flight.lock().synced;
        mix_groups(&mut chunk.bytes, self.key.of_groups(number));
        let header = put_header(&mut chunk, (number, segment, synced), self.key);
        let offset = writer.offset;
        let written = file.write_at(&chunk.bytes, offset);
        writer.offset = header.end(offset);
        let failed = written.is_err();
        if let Err(error) = written {
            self.room.trouble(Trouble::Journal, error);
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

    pub(super) fn apply(&self, bytes: &[u8], (number, segment, offset): (u64, u64, u64), coming: Coming) {
        let mut index = self.index.lock();
        let mut at = BATCH_HEADER_BYTES;
        // Groups were made here, so they can be read.
        while let Some(Ok(group)) = bytes.get(at..).map(|rest| GroupView::decode(rest, number, self.key)) {
            index.apply(&group, (number, segment as u32, offset + at as u64), coming);
            at += group.len_bytes;
        }
        index.position = index.position.max(number);
    }

    /// Ends the segment that is written.
    pub(super) fn seal(&self, writer: &mut Writer, segments: &mut Segments) {
        if let Some((number, ..)) = writer.segment.take()
            && let Some(segment) = segments.files.get_mut(&number)
        {
            segment.last = Some(writer.next - 1);
        }
    }

    /// Goes on in the next segment, with that batch. False if there is none to be had for that.
    pub(super) fn roll(&self, writer: &mut Writer, (first, claim): (u64, Claim)) -> bool {
        let mut segments = self.segments.lock();
        // Nothing that is written comes to it any more, so it may be free soon.
        self.seal(writer, &mut segments);
        let alone = writer.alone;
        let may_take = |segments: &Segments| self.may_take(segments, claim, alone);
        let mut taken = if may_take(&segments) { segments.ready.take() } else { None };
        if taken.is_none() && may_take(&segments) {
            drop(segments);
            self.make_ready();
            segments = self.segments.lock();
            taken = if may_take(&segments) { segments.ready.take() } else { None };
        }
        let Some((number, file)) = taken else {
            drop(segments);
            self.tidy();
            return false;
        };
        let bytes = self.config.segment_bytes;
        segments.files.insert(number, Segment::new(file.clone(), bytes, (first, self.key)));
        drop(segments);
        self.room.was_lent();
        writer.segment = Some((number, file, bytes));
        writer.offset = FIRST_BATCH_AT;
        self.tidy();
        true
    }

    /// Names the next segment, if nobody else does. False if that failed.
    pub(crate) fn make_ready(&self) -> bool {
        let Some(naming) = self.segments.lock().begin_naming() else { return true };
        let outcome = naming.run(&*self.disk, self.config.segment_bytes);
        if matches!(outcome, Named::Done(_)) {
            // Before anything is written to it.
            self.manifest.name(&*self.disk, naming.number(), !self.room.is_pressed());
        }
        let ended = self.segments.lock().end_naming(&naming, outcome);
        match ended {
            Ok(()) => self.room.solved(Trouble::Segments),
            Err(error) => {
                self.room.trouble(Trouble::Segments, error);
                return false;
            }
        }
        true
    }
}

pub(super) fn put_header(
    chunk: &mut Chunk,
    (number, segment, synced): (u64, u64, u64),
    key: Key,
) -> BatchHeader {
    let bytes = (chunk.bytes.len() - BATCH_HEADER_BYTES) as u32;
    let header = BatchHeader { bytes, number, synced, segment, groups: chunk.groups };
    if let Some(place) = chunk.bytes.first_chunk_mut::<BATCH_HEADER_BYTES>() {
        *place = header.encode(key);
    }
    header
}

/// Mixes what stands for their batch into the checksums of the groups of a batch, or out of them.
pub(crate) fn mix_groups(bytes: &mut [u8], mixed: u32) {
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
