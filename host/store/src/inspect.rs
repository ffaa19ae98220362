//! What is in a directory that nobody has open: for an offline tool. Nothing is changed.
//!
//! [`Look::open`] reads what a start reads and judges it as one does, and [`Look::inspect`] counts; [`Look::check`] also
//! reads every live payload and body and verifies their checksums.

use crate::{
    Config, Damaged, Item, OpenError, QueueId, Report, Scrub, Sequence, Space, Store,
    disk::Disk,
    error::DiskError,
    index::{chunk::EXTENT, queue::Queue},
    journal::{
        Core,
        segments::{FileName, Segment},
    },
    keeper::scrub::Scrubbing,
    record::SEGMENT_FORMAT,
    recovery::{self, RUNNING},
    store,
};
use std::{collections::BTreeMap, sync::Arc};

/// So much is read at once.
const STEP_BYTES: u64 = 4 << 20;

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSeen {
    /// Its number.
    pub id: QueueId,
    /// Its messages.
    pub messages: u64,
    /// The bytes of their payloads, with a checksum of four bytes each, and of bodies that are apart.
    pub bytes: u64,
    /// The places of its first and its last message.
    pub places: Option<(Sequence, Sequence)>,
    /// One more than the highest place that was ever named.
    pub next: Sequence,
    /// Messages that count as delivered before.
    pub redelivered: u64,
}

/// A space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpaceSeen {
    /// Its number.
    pub id: Space,
    /// Its values.
    pub values: u64,
    /// The bytes of keys and values.
    pub bytes: u64,
}

/// A file of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentSeen {
    /// Its name; `damaged-` where something in it is damaged.
    pub file: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Live messages in it; one that several queues have counts once.
    pub live_messages: u64,
    /// The bytes of their payloads.
    pub live_bytes: u64,
}

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointSeen {
    /// Its name.
    pub file: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// The last batch that is all in it.
    pub batch: u64,
    /// It is the one that a start reads.
    pub is_used: bool,
    /// All of it can be read and checks.
    pub is_readable: bool,
}

/// The body of a message, as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtentSeen {
    /// Its name.
    pub file: String,
    /// Its length in bytes; `None` if there is no such file.
    pub bytes: Option<u64>,
    /// What its message says that it has; `None` if no message has it.
    pub expected_bytes: Option<u64>,
}

/// What is in a directory.
#[derive(Debug)]
pub struct Inspection {
    /// The format of the files; others are refused with [`OpenError::Newer`].
    pub format: u32,
    /// Some process has it open, or it was not closed.
    pub was_open: bool,
    /// By number.
    pub queues: Vec<QueueSeen>,
    /// By number.
    pub spaces: Vec<SpaceSeen>,
    /// Those that have something, the oldest first.
    pub segments: Vec<SegmentSeen>,
    /// How many segments are free.
    pub free_segments: u64,
    /// Their bytes.
    pub free_bytes: u64,
    /// The oldest first.
    pub checkpoints: Vec<CheckpointSeen>,
    /// By number.
    pub extents: Vec<ExtentSeen>,
    /// The number of the last batch of the journal.
    pub last_batch: u64,
    /// Messages; one that several queues have counts once.
    pub messages: u64,
    /// The bytes of their payloads, without bodies that are apart.
    pub live_bytes: u64,
}

impl Inspection {
    /// How much of the segments that have something is live, from 0 to 1.
    #[must_use]
    pub fn live_share(&self) -> f64 {
        let bytes: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
        if bytes == 0 { 0.0 } else { self.live_bytes as f64 / bytes as f64 }
    }
}

/// What a deep check read and found.
#[derive(Debug)]
pub struct Checked {
    /// Messages that were read; one that several queues have counts for each.
    pub messages: u64,
    /// How many of them cannot be read or do not check.
    pub damaged_count: u64,
    /// Those, the first thousand, in the order of queues and places.
    pub damaged: Vec<Damaged>,
}

/// A directory that is looked into. Nobody may have it open.
pub struct Look {
    store: Store,
    report: Report,
    used: Option<FileName>,
    unreadable: Vec<FileName>,
}

impl Look {
    /// Reads a directory as a start would, whether one would serve or not; the [`Report`] says which.
    ///
    /// # Errors
    /// If it cannot be read at all, or something in it is of a later format.
    pub fn open(disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        let mut report = Report::default();
        let mut recovered = recovery::read(&*disk, &mut report)?;
        let (used, unreadable) = (recovered.used, core::mem::take(&mut recovered.unreadable));
        let (core, _) = store::build(disk, Config::default(), recovered);
        Ok(Self { store: Store::of(core), report, used, unreadable })
    }

    /// What a start would tell.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// What a start would find, to be read: nothing can be submitted.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Counts what there is.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn inspect(&self) -> Result<Inspection, OpenError> {
        let core = &self.store.core;
        let disk = &*core.disk;
        let names = Names::of(disk)?;
        let (free_segments, free_bytes) = (names.spares.len() as u64, bytes_of(disk, &names.spares)?);
        let (last_batch, live) = {
            let index = core.index.lock();
            (index.position, index.held.live)
        };
        Ok(Inspection {
            format: SEGMENT_FORMAT,
            was_open: names.running,
            queues: queues(core),
            spaces: spaces(core),
            segments: segments(core),
            free_segments,
            free_bytes,
            checkpoints: self.checkpoints(disk, &names.checkpoints)?,
            extents: extents(core, disk, &names.extents)?,
            last_batch,
            messages: live.messages,
            live_bytes: live.bytes,
        })
    }

    /// Reads every live payload and body. `each` gets every message, with its queue.
    pub fn check(&self, mut each: impl FnMut(QueueId, &Item<'_>)) -> Checked {
        let (core, mut scrubbing) = (&self.store.core, Scrubbing::new(u64::MAX));
        while core.scrub_some(&mut scrubbing, STEP_BYTES, &mut each).is_some() {}
        let Scrub { messages_total, damaged_count, damaged, .. } = core.scrubbed.lock().report();
        Checked { messages: messages_total, damaged_count, damaged }
    }

    fn checkpoints(&self, disk: &dyn Disk, files: &[FileName]) -> Result<Vec<CheckpointSeen>, DiskError> {
        let of = |file: &FileName| {
            Ok(CheckpointSeen {
                file: file.to_string(),
                bytes: length(disk, file)?,
                batch: file.position().unwrap_or_default(),
                is_used: self.used == Some(*file),
                is_readable: !self.unreadable.contains(file),
            })
        };
        files.iter().map(of).collect()
    }
}

/// The numbers of files, in order.
#[derive(Default)]
struct Names {
    spares: Vec<FileName>,
    checkpoints: Vec<FileName>,
    extents: Vec<u64>,
    running: bool,
}

impl Names {
    fn of(disk: &dyn Disk) -> Result<Self, DiskError> {
        let mut names = Self::default();
        for name in disk.list()? {
            match FileName::parse(&name) {
                Some(file @ (FileName::Checkpoint(_) | FileName::Twin(_))) => names.checkpoints.push(file),
                Some(FileName::Extent(number)) => names.extents.push(number),
                Some(spare @ FileName::Spare(_)) => names.spares.push(spare),
                Some(FileName::Segment(_) | FileName::Damaged(_)) => {}
                None => names.running |= name == RUNNING,
            }
        }
        names.checkpoints.sort_unstable_by_key(|file| file.position());
        names.extents.sort_unstable();
        Ok(names)
    }
}

fn length(disk: &dyn Disk, name: &FileName) -> Result<u64, DiskError> {
    disk.open(&name.to_string())?.len_bytes()
}

fn bytes_of(disk: &dyn Disk, names: &[FileName]) -> Result<u64, DiskError> {
    names.iter().map(|name| length(disk, name)).sum()
}

fn queues(core: &Core) -> Vec<QueueSeen> {
    let index = core.index.lock();
    let of = |(id, queue): (&QueueId, &Queue)| {
        let mut seen =
            QueueSeen { id: *id, messages: 0, bytes: 0, places: None, next: queue.next, redelivered: 0 };
        queue.each(|sequence, entry| {
            let extent = if entry.has(EXTENT) { index.held.extents.get(&entry.location) } else { None };
            seen.messages += 1;
            seen.bytes += u64::from(entry.bytes) + extent.map_or(0, |extent| extent.bytes);
            seen.redelivered += u64::from(queue.is_redelivered(sequence, &entry));
            seen.places = Some((seen.places.map_or(sequence, |(first, _)| first), sequence));
        });
        seen
    };
    index.queues.iter().map(of).collect()
}

fn spaces(core: &Core) -> Vec<SpaceSeen> {
    let index = core.index.lock();
    let mut spaces: BTreeMap<Space, (u64, u64)> = BTreeMap::new();
    for ((space, key), value) in &index.values.by_key {
        let (values, bytes) = spaces.entry(*space).or_default();
        *values += 1;
        *bytes += (key.len() + value.bytes.len()) as u64;
    }
    spaces.into_iter().map(|(id, (values, bytes))| SpaceSeen { id, values, bytes }).collect()
}

fn segments(core: &Core) -> Vec<SegmentSeen> {
    let (segments, index) = (core.segments.lock(), core.index.lock());
    let of = |(number, segment): (&u64, &Segment)| {
        let live = index.held.of(*number as u32);
        let file = segment.name(*number).to_string();
        SegmentSeen { file, bytes: segment.bytes, live_messages: live.messages, live_bytes: live.bytes }
    };
    segments.files.iter().map(of).collect()
}

/// Files, and those that messages have, whether they are there or not.
fn extents(core: &Core, disk: &dyn Disk, numbers: &[u64]) -> Result<Vec<ExtentSeen>, DiskError> {
    let mut seen: BTreeMap<u64, (Option<u64>, Option<u64>)> = BTreeMap::new();
    for number in numbers {
        seen.entry(*number).or_default().0 = Some(length(disk, &FileName::Extent(*number))?);
    }
    for extent in core.index.lock().held.extents.values() {
        seen.entry(extent.number).or_default().1 = Some(extent.bytes);
    }
    let of = |(number, (bytes, expected_bytes))| {
        let file = FileName::Extent(number).to_string();
        ExtentSeen { file, bytes, expected_bytes }
    };
    Ok(seen.into_iter().map(of).collect())
}
