//! What is there at a start.
//!
//! The latest checkpoint that can be read, then the batches after it, in order. Two are kept; the second is older and
//! has the journal kept for it, or is the same one once more, a *twin*, where the journal does not serve for that
//! because something of it was cut off or is missing. Of a batch that is there
//! twice (a sync failed, it was written again) the latest one that is whole counts. Each batch says up to where the
//! journal was known to be synced when it was written, and so does the manifest of what came last: what is missing or
//! damaged before the highest of these was once safe, is told, and the rest goes on; the first that is missing or damaged
//! after it is where the journal ends.

mod checkpoints;
#[cfg(test)]
mod forged;
mod named;
mod report;
mod rewrite;
mod scan;
mod settle;
mod verdict;

pub use report::{Problem, Report};
pub(crate) use settle::settle;
pub use verdict::{Lost, Refusal, Verdict};

use crate::{
    aside,
    disk::Disk,
    error::{DiskError, OpenError},
    index::{Coming, Index, chunk::Location},
    journal::{
        manifest,
        segments::{FIRST_BATCH_AT, FileName, Segment, Segments, read_header},
    },
    keeper::UNFINISHED,
    record::{
        frame::{BATCH_HEADER_BYTES, Opening},
        group::GroupView,
        key::Key,
        manifest::Record,
        op::QueueId,
    },
};
use checkpoints::Checkpoints;
use hashbrown::HashSet;
use scan::{Found, Tail};
use std::collections::{BTreeMap, BTreeSet};

/// There while a store is open.
pub(crate) const RUNNING: &str = "running";

/// What a start found.
pub(crate) struct Recovered {
    pub(crate) index: Index,
    pub(crate) segments: Segments,
    /// The batches of those that are kept, the older first; the last is the one that was read.
    pub(crate) checkpoints: Vec<u64>,
    /// The last of them is there twice.
    pub(crate) has_twin: bool,
    /// The file that was read.
    pub(crate) used: Option<FileName>,
    pub(crate) checkpoint_bytes: u64,
    /// The number that the next batch gets.
    pub(crate) next_batch: u64,
    pub(crate) next_extent: u64,
    /// What the manifest says.
    pub(crate) manifest: Option<Record>,
    /// Checkpoints that cannot be read.
    pub(crate) unreadable: Vec<FileName>,
    /// Batches that were read and are not known to be synced.
    unsynced: Vec<(u64, Found)>,
    /// Segments that have nothing any more.
    spent: Vec<u64>,
    /// Free files for those of them that are long, in order.
    own: Vec<u64>,
    /// What is to be set aside.
    aside: Vec<String>,
    /// What was set aside and is removed for its room.
    given_up: Vec<String>,
}

/// The files of a directory, by what they are.
#[derive(Default)]
struct Names {
    segments: Vec<FileName>,
    spares: Vec<u64>,
    checkpoints: Vec<u64>,
    twins: Vec<u64>,
    extents: Vec<u64>,
    running: bool,
}

/// Reads what is there, and judges it. Nothing is changed, so that it can be tried again, or only looked at.
///
/// # Errors
/// If the directory cannot be read, or something is of a later format.
pub(crate) fn read(disk: &dyn Disk, report: &mut Report) -> Result<Recovered, OpenError> {
    let mut names = sort_names(disk, report)?;
    let next_spare = names.spares.iter().max().map_or(0, |last| last + 1);
    let mut aside = Vec::new();
    let Opened { mut files, headless } = open_segments(disk, &names.segments, &mut aside, report)?;
    let mut key = files.values().map(|segment| segment.key).find(|key| !key.is_none()).unwrap_or_default();
    let next_segment = next_segment(disk, &mut names, &mut key);
    for number in headless {
        files.entry(number).and_modify(|segment| segment.key = key);
    }
    // A new folder, or one of format 1.
    let key = if key.is_none() { Key::random() } else { key };
    let Checkpoints { mut index, used, bytes: checkpoint_bytes, others, unreadable } =
        checkpoints::load(disk, &names, report)?;
    let position = used.and_then(FileName::position);
    index.position = position.unwrap_or_default();
    // What a checkpoint has was synced before it got its name.
    let manifest = named::read(disk, &mut aside, report)?;
    let said = manifest.as_ref().map_or(0, |manifest| manifest.synced);
    let synced = index.position.max(report.verdict.passed_over_to()).max(said);
    let mut tail = scan::tail(&files, (index.position, synced), report);
    tail.end = manifest.as_ref().filter(|_| said == tail.synced).map(|manifest| manifest.segment);
    let orphaned = position.is_none() && !tail.is_whole();
    let coming = if orphaned { Coming::Orphaned } else { Coming::New };
    index.unknown = Some(BTreeMap::new());
    let gone = manifest.iter().flat_map(|manifest| named::gone(manifest, index.position, &files, &tail));
    gone.for_each(|gone| report.tell(gone));
    let spent = spent(&index, &files, &tail);
    let unsynced = replay(&mut index, &files, &tail, coming, report);
    report.lacks_end(index.position);
    let next_batch = tail.highest.max(index.position).max(tail.synced) + 1;
    // What was cut off is never counted again.
    index.position = next_batch - 1;
    for (number, file) in &mut files {
        file.last = Some(tail.last_of.get(number).copied().unwrap_or(index.position));
    }
    drop_missing(&mut index, &files, report);
    report.unknown = unknown(&mut index, report);
    check_extents(&mut index, &names.extents, report);
    report.clean = !names.running;
    report.judge((position, index.position), names.extents.len() as u64);
    index.settle(names.running || report.verdict.is_doubtful());
    report.messages = index.queues.values().map(|queue| queue.live).sum();
    report.values = index.values.by_key.len() as u64;
    aside.extend(unreadable.iter().map(FileName::to_string));
    let spares = names.spares;
    let segments = Segments { next_segment, files, next_spare, spares, key, ..Segments::default() };
    let twin = position.map(FileName::Twin);
    let has_twin = used == twin || others.iter().any(|other| Some(*other) == twin);
    let mut older = others.iter().filter_map(|other| match other {
        FileName::Checkpoint(older) if Some(*older) < position && !has_twin => Some(*older),
        _ => None,
    });
    Ok(Recovered {
        // The latest comes first.
        checkpoints: older.next().into_iter().chain(position).collect(),
        index,
        segments,
        has_twin: has_twin && twin.is_some(),
        used,
        checkpoint_bytes,
        manifest,
        next_batch,
        next_extent: names.extents.iter().max().map_or(0, |last| last + 1),
        unreadable,
        unsynced,
        // Where something is damaged or gone it may be what they had.
        spent: if report.is_sound() { spent } else { Vec::new() },
        own: Vec::new(),
        aside,
        given_up: Vec::new(),
    })
}

/// Segments of which nothing is live as of the checkpoint that was read, and that have no batch after it. A start with that
/// one does not need them, nor does what comes after it bring anything there.
fn spent(index: &Index, files: &BTreeMap<u64, Segment>, tail: &Tail) -> Vec<u64> {
    let after = tail.batches.values().chain(tail.older.values().flatten());
    let needed: BTreeSet<u64> = after.map(|found| found.segment).collect();
    let is_spent = |(number, segment): &(&u64, &Segment)| {
        index.held.of(**number as u32).messages == 0 && !needed.contains(number) && !segment.damaged
    };
    files.iter().filter(is_spent).map(|(number, _)| *number).collect()
}

/// Messages whose bytes no segment has are lost.
fn drop_missing(index: &mut Index, files: &BTreeMap<u64, Segment>, report: &mut Report) {
    let all_there = index.segments_used().all(|segment| files.contains_key(&segment.into()));
    if all_there && report.verdict.segments_cut == 0 {
        return;
    }
    let is_there = |location: Location, bytes: u32| {
        let end = u64::from(location.offset) + u64::from(bytes);
        files.get(&location.segment.into()).is_some_and(|segment| end <= segment.bytes)
    };
    index.drop_missing(is_there, |queue, sequence| report.tell(Problem::MessageLost { queue, sequence }));
}

/// Queues that messages came for and that are not there. Where nothing is lost they were deleted before.
fn unknown(index: &mut Index, report: &Report) -> Vec<(QueueId, u64)> {
    let unknown = index.unknown.take().unwrap_or_default();
    if report.verdict.lost.lacks_journal() { unknown.into_iter().collect() } else { Vec::new() }
}

impl Names {
    /// The highest number of a segment.
    fn last_segment(&self) -> Option<u64> {
        let number = |name: &FileName| match *name {
            FileName::Segment(number) | FileName::Damaged(number) => Some(number),
            _ => None,
        };
        self.segments.iter().filter_map(number).max()
    }
}

fn sort_names(disk: &dyn Disk, report: &mut Report) -> Result<Names, OpenError> {
    let mut names = Names::default();
    for name in disk.list()? {
        match FileName::parse(&name) {
            Some(segment @ (FileName::Segment(_) | FileName::Damaged(_))) => names.segments.push(segment),
            Some(FileName::Spare(number)) => names.spares.push(number),
            Some(FileName::Checkpoint(number)) => names.checkpoints.push(number),
            Some(FileName::Twin(number)) => names.twins.push(number),
            Some(FileName::Extent(number)) => names.extents.push(number),
            None if name == RUNNING => names.running = true,
            None if [UNFINISHED, manifest::UNFINISHED, manifest::MANIFEST].contains(&&*name) => {}
            None if aside::is_aside(&name) => report.set_aside.push(name),
            None => report.foreign.push(name),
        }
    }
    // The latest first.
    names.checkpoints.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

/// The number of the next segment, which is none that a free file had: that may have its batches still, and where the
/// next segment had both number and file, they would count as its own before it is written to. Then all before it would
/// count as older than the checkpoint that has these.
fn next_segment(disk: &dyn Disk, names: &mut Names, key: &mut Key) -> u64 {
    let mut last = names.last_segment();
    // One that cannot be read is not used.
    names.spares.retain(|number| {
        let used =
            disk.open(&FileName::Spare(*number).to_string()).and_then(|file| scan::last_use(&*file, key));
        last = last.max(used.as_ref().ok().copied().flatten());
        used.is_ok()
    });
    last.map_or(0, |last| last + 1)
}

/// Segments that could be opened.
#[derive(Default)]
struct Opened {
    files: BTreeMap<u64, Segment>,
    /// Those of which no header says what key they have.
    headless: Vec<u64>,
}

fn open_segments(
    disk: &dyn Disk,
    names: &[FileName],
    aside: &mut Vec<String>,
    report: &mut Report,
) -> Result<Opened, OpenError> {
    let Opened { mut files, mut headless } = Opened::default();
    for segment in names {
        let (FileName::Segment(number) | FileName::Damaged(number)) = *segment else { continue };
        let (name, damaged) = (segment.to_string(), *segment == FileName::Damaged(number));
        let opened = disk.open(&name).and_then(|file| {
            let bytes = file.len_bytes()?;
            // Of the key there are as many copies as files; all else batches say themselves.
            let opening = read_header(&*file);
            Ok((file, bytes, opening))
        });
        match opened {
            Ok((file, bytes, opening)) => {
                let key = match &opening {
                    Ok(Opening::Segment(header)) => Some(header.key),
                    _ => None,
                };
                headless.extend(key.is_none().then_some(number));
                match opening {
                    Ok(Opening::Newer(version)) => return Err(OpenError::Newer { file: name, version }),
                    // A segment has its length before anything is written into it.
                    Ok(Opening::Segment(header)) if bytes < header.bytes && !damaged => {
                        report.damaged.insert(number);
                        report.tell(Problem::SegmentCut { file: name, bytes, whole: header.bytes });
                    }
                    // Nor can it end before its first batch.
                    Ok(Opening::Unreadable) if bytes < FIRST_BATCH_AT && !damaged => {
                        report.damaged.insert(number);
                        report.tell(Problem::SegmentCut { file: name, bytes, whole: FIRST_BATCH_AT });
                    }
                    _ => {}
                }
                let segment = Segment::new(file, bytes, (0, key.unwrap_or_default()));
                files.insert(number, Segment { damaged, ..segment });
            }
            Err(error) => {
                report.tell(Problem::Unreadable(error));
                aside.push(name);
            }
        }
    }
    Ok(Opened { files, headless })
}

fn replay(
    index: &mut Index,
    files: &BTreeMap<u64, Segment>,
    tail: &Tail,
    coming: Coming,
    report: &mut Report,
) -> Vec<(u64, Found)> {
    let mut bytes = Vec::new();
    let mut unsynced = Vec::new();
    let (mut expected, mut previous) = (index.position + 1, None);
    for (number, latest) in &tail.batches {
        let found = &whole_one(files, tail, *number, *latest, &mut bytes);
        if *number != expected {
            if expected > tail.synced {
                break;
            }
            report.tell(Problem::BatchesLost { first: expected, last: *number - 1 });
            report.damaged.extend(with_gap(previous, *found));
        }
        previous = Some(found.segment);
        let was_synced = *number <= tail.synced;
        let whole = replay_batch(index, files, (*number, *found), (coming, was_synced), &mut bytes, report);
        index.position = *number;
        expected = *number + 1;
        report.batches += 1;
        unsynced.extend((!was_synced).then_some((*number, *found)));
        if !whole && !was_synced {
            break;
        }
    }
    let cut = tail.batches.range(expected..).count() as u64;
    if index.position < tail.synced && cut == 0 {
        report.tell(Problem::BatchesLost { first: expected, last: tail.synced });
        // Unless a file is gone that had them.
        let had = tail.end.filter(|end| files.contains_key(end)).or(previous);
        report.damaged.extend(had.filter(|_| report.verdict.lost.segments == 0));
    }
    report.cut_batches += cut;
    unsynced
}

/// The segment in which batches before one are missing, if it is there: that one's, or the one before.
fn with_gap(previous: Option<u64>, found: Found) -> Option<u64> {
    if found.offset > FIRST_BATCH_AT {
        return Some(found.segment);
    }
    previous.filter(|previous| previous + 1 == found.segment)
}

/// The latest of a batch that is whole; if none is, the latest.
fn whole_one(
    files: &BTreeMap<u64, Segment>,
    tail: &Tail,
    number: u64,
    latest: Found,
    bytes: &mut Vec<u8>,
) -> Found {
    let Some(older) = tail.older.get(&number) else { return latest };
    let mut all = core::iter::once(&latest).chain(older.iter().rev());
    let whole = all.find(|found| {
        let key = files.get(&found.segment).map(|segment| segment.key).unwrap_or_default();
        if !matches!(read_batch(files, **found, bytes), Some(Ok(()))) {
            return false;
        }
        let mut at = BATCH_HEADER_BYTES;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match GroupView::decode(rest, number, key)
                .and_then(|group| group.check().map(|()| group.len_bytes))
            {
                Ok(length) => at += length,
                Err(_) => return false,
            }
        }
        true
    });
    whole.copied().unwrap_or(latest)
}

/// Reads a batch, all of it or an error; `None` if its file is not there or too short.
fn read_batch(
    files: &BTreeMap<u64, Segment>,
    found: Found,
    bytes: &mut Vec<u8>,
) -> Option<Result<(), DiskError>> {
    let length = BATCH_HEADER_BYTES + found.bytes as usize;
    bytes.clear();
    bytes.resize(length, 0);
    match files.get(&found.segment)?.file.read_at(bytes, found.offset) {
        Ok(read) => (read == length).then_some(Ok(())),
        Err(error) => Some(Err(error)),
    }
}

/// Applies what can be read of a batch; tells whether that was all.
fn replay_batch(
    index: &mut Index,
    files: &BTreeMap<u64, Segment>,
    (number, found): (u64, Found),
    (coming, was_synced): (Coming, bool),
    bytes: &mut Vec<u8>,
    report: &mut Report,
) -> bool {
    let read = read_batch(files, found, bytes);
    if !matches!(read, Some(Ok(()))) {
        if let Some(Err(error)) = read {
            report.tell(Problem::Unreadable(error));
        }
        report.tell_damaged((number, found, 0), found.groups, was_synced);
        return false;
    }
    let key = files.get(&found.segment).map(|segment| segment.key).unwrap_or_default();
    let (mut at, mut left, mut whole) = (BATCH_HEADER_BYTES, found.groups, true);
    while at < bytes.len() {
        let group =
            bytes.get(at..).ok_or(()).and_then(|rest| GroupView::decode(rest, number, key).map_err(drop));
        let Ok(group) = group else {
            report.tell_damaged((number, found, at as u64), left.max(1), was_synced);
            return false;
        };
        left = left.saturating_sub(1);
        let damaged = group.damaged_payloads();
        // Of what was synced the operations count; that a payload is damaged is told to whoever reads it.
        if damaged == Ok(0) || (was_synced && damaged.is_ok()) {
            index.apply(&group, (number, found.segment as u32, found.offset + at as u64), coming);
            report.groups += 1;
            report.tell_payloads((number, found, at as u64), damaged.unwrap_or_default());
        } else {
            whole = false;
            report.tell_damaged((number, found, at as u64), 1, was_synced);
            if !was_synced {
                return false;
            }
        }
        at += group.len_bytes;
    }
    whole
}

/// A message whose body is not there is lost.
fn check_extents(index: &mut Index, there: &[u64], report: &mut Report) {
    let there: HashSet<u64, foldhash::fast::RandomState> = there.iter().copied().collect();
    let missing: Vec<_> =
        index.held.extents.iter().filter(|(_, extent)| !there.contains(&extent.number)).collect();
    for (_, extent) in missing {
        report.tell(Problem::BodyLost { extent: extent.number });
    }
}
