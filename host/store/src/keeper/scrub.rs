//! Reads what is live, slowly, and says what is damaged before somebody needs it.
//!
//! *One pass* goes through all queues in order, a step at a time; after each step it rests as long as the rate
//! asks for. What is found stays told until the message is gone or can be read again. The segment that has it is marked,
//! so that it is set aside and not used again.
//!
//! *What it does not see:* what the system has in memory it does not read from the disk; so what was read is
//! given back, and the next pass reads it from there.

use crate::{
    Item, Reader,
    disk::Advice,
    index::chunk::{EXTENT, Entry},
    journal::{Core, segments::FileName},
    record::op::{ExtentRef, QueueId, Sequence},
};
use std::collections::{BTreeMap, BTreeSet};

/// How many damaged messages are told one by one.
const DAMAGED_MAX: usize = 1000;
/// What a message costs at least: a block of the disk.
const MESSAGE_BYTES: u64 = 4096;
/// When the next pass comes after one in which something could not be read for a while.
const LATER_MS: u64 = 1000;
/// Bodies that are longer are not checked: whoever reads them in windows does.
const BODY_BYTES_MAX: u64 = 32 << 20;
/// A step reads about so many bytes, at the least and at the most.
const STEP_BYTES: (u64, u64) = (64 * 1024, 4 << 20);

/// A message that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Its queue.
    pub queue: QueueId,
    /// Its place.
    pub sequence: Sequence,
    /// The file that has what cannot be read.
    pub file: String,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// How many bytes of the file, with the checksum before a payload.
    pub bytes: u64,
}

/// How far the check of what is live came, and what it found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrub {
    /// How often it went through everything.
    pub passes: u64,
    /// Messages read since the last pass ended; one that several queues have counts for each.
    pub messages: u64,
    /// Bytes of them, a block at least for each.
    pub bytes: u64,
    /// All messages that were read since the start.
    pub messages_total: u64,
    /// Damaged messages that are still there.
    pub damaged_count: u64,
    /// Those, the first thousand.
    pub damaged: Vec<Damaged>,
}

/// What is found.
#[derive(Default)]
pub(crate) struct Found {
    scrub: Scrub,
    /// With the pass that saw it last.
    damaged: BTreeMap<(QueueId, Sequence), (u64, Option<Damaged>)>,
    /// The numbers of bodies that are damaged, gone or not.
    extents: BTreeSet<u64>,
}

impl Found {
    /// For people.
    pub(crate) fn report(&self) -> Scrub {
        let damaged = self.damaged.values().filter_map(|(_, damaged)| damaged.clone());
        Scrub { damaged_count: self.damaged.len() as u64, damaged: damaged.collect(), ..self.scrub.clone() }
    }

    /// Whether a body was found to be damaged.
    pub(crate) fn is_damaged(&self, extent: u64) -> bool {
        self.extents.contains(&extent)
    }

    /// Passes, messages read, damaged messages.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        (self.scrub.passes, self.scrub.messages_total, self.damaged.len() as u64)
    }
}

/// Where a check stands.
pub(crate) struct Scrubbing {
    reader: Reader,
    /// Where it goes on; `None` between two passes.
    at: Option<(QueueId, Sequence)>,
    /// Not before.
    due_ms: u64,
    /// Files in which something is damaged are marked.
    marks: bool,
    /// Something could not be read in this pass, for a while.
    has_later: bool,
}

impl Scrubbing {
    /// One that begins, and checks bodies of at most so many bytes that are files of their own; of longer ones that they
    /// are there.
    pub(crate) fn new(body_bytes_max: u64) -> Self {
        let reader = Reader::checking(body_bytes_max);
        Self { reader, at: None, due_ms: 0, marks: false, has_later: false }
    }
}

impl Default for Scrubbing {
    fn default() -> Self {
        Self::new(BODY_BYTES_MAX)
    }
}

impl Core {
    /// Reads a little, if it is time. False if it is not.
    pub(super) fn scrub_step(&self, scrubbing: &mut Scrubbing, now_ms: u64) -> bool {
        let rate = self.config.scrub_bytes_per_s;
        if rate == 0 || now_ms < scrubbing.due_ms {
            return false;
        }
        scrubbing.marks = true;
        let budget = (rate / 4).clamp(STEP_BYTES.0, STEP_BYTES.1);
        match self.scrub_some(scrubbing, budget, &mut |_, _| {}) {
            Some(bytes) => scrubbing.due_ms = now_ms + bytes.saturating_mul(1000) / rate,
            None if std::mem::take(&mut scrubbing.has_later) => scrubbing.due_ms = now_ms + LATER_MS,
            None => scrubbing.due_ms = now_ms + self.config.scrub_pause_ms,
        }
        true
    }

    /// Reads about so many bytes, and gives how many they were; `None` at the end of a pass. `look` sees each message.
    pub(crate) fn scrub_some(
        &self,
        scrubbing: &mut Scrubbing,
        budget: u64,
        look: &mut dyn FnMut(QueueId, &Item<'_>),
    ) -> Option<u64> {
        let mut all = 0;
        while all < budget {
            let from = scrubbing.at.unwrap_or((QueueId(0), 0));
            let Some((queue, sequence)) = self.next_queue(from) else {
                self.end_pass();
                scrubbing.at = None;
                return None;
            };
            let (mut messages, mut bytes, mut suspects) = (0, 0, Vec::new());
            let each = &mut |item: Item<'_>| {
                let read = item.payload.map_or(0, <[u8]>::len) as u64 + item.body_bytes.min(BODY_BYTES_MAX);
                bytes += read.max(MESSAGE_BYTES);
                messages += 1;
                // What cannot be read now is read in the next pass, which comes soon then.
                scrubbing.has_later |= item.is_later;
                if item.payload.is_none() && !item.is_later {
                    suspects.push(item.sequence);
                }
                look(queue, &item);
            };
            let next = scrubbing.reader.read(self, (queue, sequence), budget as usize, each);
            scrubbing.at = match next {
                Some(next) => Some((queue, next)),
                None => Some((QueueId(queue.0.saturating_add(1)), 0)),
            };
            suspects.retain(|sequence| self.is_damaged(&mut scrubbing.reader, (queue, *sequence)));
            if scrubbing.marks {
                suspects.iter().for_each(|sequence| self.mark(queue, *sequence));
            }
            self.note((messages, bytes), queue, &suspects);
            all += bytes;
        }
        Some(all)
    }

    /// The place itself if its queue is there, or the beginning of the next queue.
    fn next_queue(&self, (id, sequence): (QueueId, Sequence)) -> Option<(QueueId, Sequence)> {
        if id == QueueId(u64::MAX) {
            return None;
        }
        let index = self.index.lock();
        let (found, _) = index.queues.range(id..).next()?;
        Some((*found, if *found == id { sequence } else { 0 }))
    }

    /// Looks again: it may have been moved while it was read.
    fn is_damaged(&self, reader: &mut Reader, (queue, sequence): (QueueId, Sequence)) -> bool {
        let mut damaged = false;
        reader.read_at(self, (queue, &[sequence]), 0, &mut |item| {
            damaged = item.payload.is_none() && !item.is_later;
        });
        damaged
    }

    fn note(&self, (messages, bytes): (u64, u64), queue: QueueId, damaged: &[Sequence]) {
        let described: Vec<_> =
            damaged.iter().map(|sequence| (*sequence, self.describe(queue, *sequence))).collect();
        let mut found = self.scrubbed.lock();
        found.scrub.messages += messages;
        found.scrub.messages_total += messages;
        found.scrub.bytes += bytes;
        let pass = found.scrub.passes;
        let mut news = Vec::new();
        for (sequence, damaged) in described {
            let told = found.damaged.len() < DAMAGED_MAX;
            let damaged = damaged.filter(|_| told);
            if found.damaged.insert((queue, sequence), (pass, damaged.clone())).is_none() {
                news.extend(damaged);
            }
        }
        // Who comes to watch later is told then of what was found before.
        let is_watched = self.is_watched();
        drop(found);
        if is_watched {
            news.iter().for_each(|damaged| self.tell_damaged(damaged));
        }
    }

    /// Which file has what cannot be read, and where in it.
    fn place(&self, queue: QueueId, sequence: Sequence) -> Option<(FileName, u64, u64)> {
        let (entry, extent): (Entry, Option<ExtentRef>) = {
            let index = self.index.lock();
            let entry = *index.queues.get(&queue)?.get(sequence)?;
            let extent = if entry.has(EXTENT) { index.held.extents.get(&entry.location) } else { None };
            (entry, extent.copied())
        };
        let (location, bytes) = (entry.location, u64::from(entry.bytes));
        Some(match extent {
            Some(extent) if crate::reader::payload_checks(self, location, entry.bytes) => {
                (FileName::Extent(extent.number), 0, extent.bytes)
            }
            _ => {
                let number = location.segment.into();
                let segments = self.segments.lock();
                let name = segments.files.get(&number).map(|segment| segment.name(number));
                (name.unwrap_or(FileName::Segment(number)), location.offset.into(), bytes)
            }
        })
    }

    /// The file that has it is not used again, and not removed.
    fn mark(&self, queue: QueueId, sequence: Sequence) {
        match self.place(queue, sequence) {
            Some((FileName::Extent(number), ..)) => drop(self.scrubbed.lock().extents.insert(number)),
            // A name that cannot be changed now is tried again in the next pass.
            Some((FileName::Segment(number), ..)) => {
                let _ = self.segments.lock().mark_damaged(number, &*self.disk);
            }
            _ => {}
        }
    }

    fn describe(&self, queue: QueueId, sequence: Sequence) -> Option<Damaged> {
        let (file, offset, bytes) = self.place(queue, sequence)?;
        Some(Damaged { queue, sequence, file: file.to_string(), offset, bytes })
    }

    /// Forgets what was damaged before and is gone or can be read.
    fn end_pass(&self) {
        let mut found = self.scrubbed.lock();
        let pass = found.scrub.passes;
        found.damaged.retain(|_, (seen, _)| *seen == pass);
        found.scrub.passes += 1;
        (found.scrub.messages, found.scrub.bytes) = (0, 0);
        drop(found);
        // The next pass is to read from the disk.
        let segments = self.segments.lock();
        for segment in segments.files.values().filter(|segment| segment.last.is_some()) {
            segment.file.advise(Advice::Done, 0, segment.bytes);
        }
    }
}
