//! What is there at a start.
//!
//! The latest checkpoint that can be read, then the batches after it, in order. Two are kept; the second is older and
//! has the journal kept for it, or is the same one once more, a *twin*, where the journal does not serve for that
//! because something of it was cut off or is missing. Of a batch that is there
//! twice (a sync failed, it was written again) the latest one that is whole counts. Each batch says up to where the
//! journal was known to be synced when it was written: what is missing or damaged before the highest of
//! these was once safe, is told, and the rest goes on; the first that is missing or damaged after it is
//! where the journal ends.

mod report;
mod rewrite;
mod scan;

pub use report::{Problem, Report};

use crate::{
    disk::{Disk, File},
    error::{DiskError, OpenError},
    index::{Coming, Index, chunk::Location, save},
    journal::segments::{FileName, Segment, Segments},
    keeper::{self, UNFINISHED},
    record::{
        Take, check,
        frame::{BATCH_HEADER_BYTES, Opening, SegmentHeader},
        group::GroupView,
        op::QueueId,
    },
};
use hashbrown::HashSet;
use scan::{Found, Tail};
use std::collections::BTreeMap;

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
    /// Batches that were read and are not known to be synced.
    unsynced: Vec<(u64, Found)>,
}

/// The files of a directory, by what they are.
#[derive(Default)]
struct Names {
    segments: Vec<u64>,
    spares: Vec<u64>,
    checkpoints: Vec<u64>,
    twins: Vec<u64>,
    extents: Vec<u64>,
    running: bool,
}

/// Reads what is there. Nothing is changed, so that it can be tried again, or only looked at.
///
/// # Errors
/// If the directory cannot be read, or something is of a later format.
pub(crate) fn read(disk: &dyn Disk, report: &mut Report) -> Result<Recovered, OpenError> {
    let names = sort_names(disk, report)?;
    let mut files = open_segments(disk, &names.segments, report)?;
    let (mut index, used, checkpoint_bytes) = load_latest(disk, &names, report)?;
    let position = used.and_then(FileName::position);
    let orphaned = position.is_none() && names.has_checkpoint();
    index.position = position.unwrap_or_default();
    let tail = scan::tail(&files, index.position, report);
    let coming = if orphaned { Coming::Orphaned } else { Coming::New };
    index.unknown = Some(BTreeMap::new());
    let unsynced = replay(&mut index, &files, &tail, coming, report);
    let next_batch = tail.highest.max(index.position) + 1;
    // What was cut off is never counted again.
    index.position = next_batch - 1;
    for (number, file) in &mut files {
        file.last = Some(tail.last_of.get(number).copied().unwrap_or(index.position));
    }
    drop_missing(&mut index, &files, report);
    report.unknown = unknown(&mut index, report);
    check_extents(&mut index, &names.extents, report);
    report.clean = !names.running;
    // The older checkpoint does not know what the later one had as doubtful.
    index.settle(names.running || report.lacks_checkpoint());
    report.messages = index.queues.values().map(|queue| queue.live).sum();
    report.values = index.values.by_key.len() as u64;
    let next_extent = names.extents.iter().max().map_or(0, |last| last + 1);
    let highest = names.segments.iter().max().map_or(0, |last| last + 1);
    let next_spare = names.spares.iter().max().map_or(0, |last| last + 1);
    let segments = Segments {
        files,
        ready: None,
        spares: names.spares,
        next_segment: highest,
        next_spare,
        is_naming: false,
    };
    let has_twin = position
        .is_some_and(|position| used == Some(FileName::Twin(position)) || names.twins.contains(&position));
    let mut older = names.checkpoints.iter().copied().filter(|older| Some(*older) < position && !has_twin);
    // The latest comes first.
    let checkpoints = older.next().into_iter().chain(position).collect();
    Ok(Recovered {
        index,
        segments,
        checkpoints,
        has_twin,
        used,
        checkpoint_bytes,
        next_batch,
        next_extent,
        unsynced,
    })
}

/// Messages whose bytes no segment has are lost.
fn drop_missing(index: &mut Index, files: &BTreeMap<u64, Segment>, report: &mut Report) {
    let is_cut = |problem: &Problem| matches!(problem, Problem::SegmentCut { .. });
    let all_there = index.segments_used().all(|segment| files.contains_key(&segment.into()));
    if all_there && !report.problems.iter().any(is_cut) {
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
    if report.is_sound() { Vec::new() } else { unknown.into_iter().collect() }
}

impl Names {
    fn has_checkpoint(&self) -> bool {
        !self.checkpoints.is_empty() || !self.twins.is_empty()
    }
}

fn sort_names(disk: &dyn Disk, report: &mut Report) -> Result<Names, OpenError> {
    let mut names = Names::default();
    for name in disk.list()? {
        match FileName::parse(&name) {
            Some(FileName::Segment(number)) => names.segments.push(number),
            Some(FileName::Spare(number)) => names.spares.push(number),
            Some(FileName::Checkpoint(number)) => names.checkpoints.push(number),
            Some(FileName::Twin(number)) => names.twins.push(number),
            Some(FileName::Extent(number)) => names.extents.push(number),
            None if name == RUNNING => names.running = true,
            None if name == UNFINISHED => {}
            None => report.foreign.push(name),
        }
    }
    names.segments.sort_unstable();
    // The latest first.
    names.checkpoints.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

fn open_segments(
    disk: &dyn Disk,
    numbers: &[u64],
    report: &mut Report,
) -> Result<BTreeMap<u64, Segment>, OpenError> {
    let mut files = BTreeMap::new();
    for number in numbers {
        let name = FileName::Segment(*number).to_string();
        let opened = disk.open(&name).and_then(|file| {
            let mut header = [0; 32];
            let bytes = file.len_bytes()?;
            // The header is for other versions: batches say themselves whose they are.
            let read = file.read_at(&mut header, 0);
            Ok((file, bytes, read.map(|_| header)))
        });
        match opened {
            Ok((file, bytes, header)) => {
                match header.map(|header| SegmentHeader::decode(&header)) {
                    Ok(Opening::Newer(version)) => return Err(OpenError::Newer { file: name, version }),
                    // A segment has its length before anything is written into it.
                    Ok(Opening::Segment(header)) if bytes < header.bytes => {
                        report.tell(Problem::SegmentCut { file: name, bytes, whole: header.bytes });
                    }
                    _ => {}
                }
                files.insert(*number, Segment::new(file, bytes, 0));
            }
            Err(error) => report.tell(Problem::Unreadable(error)),
        }
    }
    Ok(files)
}

/// The latest checkpoint that can be read, with the batch it goes to and its length.
fn load_latest(
    disk: &dyn Disk,
    names: &Names,
    report: &mut Report,
) -> Result<(Index, Option<FileName>, u64), OpenError> {
    let checkpoints = names.checkpoints.iter().map(|number| FileName::Checkpoint(*number));
    let mut all: Vec<_> =
        checkpoints.chain(names.twins.iter().map(|number| FileName::Twin(*number))).collect();
    all.sort_by_key(|file| core::cmp::Reverse(file.position()));
    for file in all {
        let name = file.to_string();
        match load(disk, &name) {
            Ok(Ok((index, position, bytes))) if Some(position) == file.position() => {
                return Ok((index, Some(file), bytes));
            }
            Ok(Err(Opening::Newer(version))) => return Err(OpenError::Newer { file: name, version }),
            Ok(_) => report.tell(Problem::CheckpointDamaged { file: name }),
            Err(error) => report.tell(Problem::Unreadable(error)),
        }
    }
    Ok((Index::default(), None, 0))
}

type Loaded = Result<(Index, u64, u64), Opening>;

fn load(disk: &dyn Disk, name: &str) -> Result<Loaded, DiskError> {
    let file = disk.open(name)?;
    let mut header = [0; save::HEADER_BYTES];
    file.read_at(&mut header, 0)?;
    let position = match save::read_header(&header) {
        Ok(position) => position,
        Err(opening) => return Ok(Err(opening)),
    };
    let (mut index, mut offset, mut blocks) = (Index::default(), header.len() as u64, 0);
    let mut block = Vec::new();
    loop {
        if !read_block(&*file, offset, &mut block)? {
            return Ok(Err(Opening::Unreadable));
        }
        offset += (save::BLOCK_HEADER_BYTES + block.len()) as u64;
        match save::load(&mut index, &block, blocks) {
            Ok(save::Loaded::More) => blocks += 1,
            Ok(save::Loaded::End) => return Ok(Ok((index, position, offset))),
            Err(_) => return Ok(Err(Opening::Unreadable)),
        }
    }
}

/// Reads a block; false if it is none.
fn read_block(file: &dyn File, offset: u64, block: &mut Vec<u8>) -> Result<bool, DiskError> {
    let mut header = [0; save::BLOCK_HEADER_BYTES];
    file.read_at(&mut header, offset)?;
    let mut take = Take(&header);
    let (Ok(length), Ok(check)) = (take.u32(), take.u32()) else { return Ok(false) };
    let rest = file.len_bytes()?.saturating_sub(offset + header.len() as u64);
    if u64::from(length) > rest || length as usize > save::BLOCK_BYTES_MAX {
        return Ok(false);
    }
    block.clear();
    block.resize(length as usize, 0);
    let read = file.read_at(block, offset + header.len() as u64)?;
    Ok(read == block.len() && check::check(block) == check)
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
    let mut expected = index.position + 1;
    for (number, latest) in &tail.batches {
        let found = &whole_one(files, tail, *number, *latest, &mut bytes);
        if *number != expected {
            if expected > tail.synced {
                break;
            }
            report.tell(Problem::BatchesLost { first: expected, last: *number - 1 });
        }
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
    }
    report.cut_batches += cut;
    unsynced
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
        if !matches!(read_batch(files, **found, bytes), Some(Ok(()))) {
            return false;
        }
        let mut at = BATCH_HEADER_BYTES;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match GroupView::decode(rest, number).and_then(|group| group.check().map(|()| group.len_bytes)) {
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
        report.tell_damaged((number, found, 0), was_synced);
        return false;
    }
    let (mut at, mut whole) = (BATCH_HEADER_BYTES, true);
    while at < bytes.len() {
        let group = bytes.get(at..).ok_or(()).and_then(|rest| GroupView::decode(rest, number).map_err(drop));
        let Ok(group) = group else {
            report.tell_damaged((number, found, at as u64), was_synced);
            return false;
        };
        if group.check().is_ok() {
            index.apply(&group, (number, found.segment as u32, found.offset + at as u64), coming);
            report.groups += 1;
        } else {
            whole = false;
            report.tell_damaged((number, found, at as u64), was_synced);
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

/// Makes what was found the beginning of a new run: what is not known to be synced is written again, a
/// checkpoint too, and what nothing refers to is removed.
pub(crate) fn settle(
    disk: &dyn Disk,
    segment_bytes: u64,
    recovered: &mut Recovered,
    report: &Report,
) -> Result<(), OpenError> {
    drop_unfinished(disk, segment_bytes, recovered)?;
    mark_running(disk, recovered)?;
    let unsynced = core::mem::take(&mut recovered.unsynced);
    if rewrite::has_room(disk, segment_bytes, recovered, &unsynced) {
        rewrite::rewrite(disk, segment_bytes, recovered, &unsynced)?;
    } else {
        rewrite::rewrite_in_place(recovered, &unsynced)?;
    }
    keep_two(disk, recovered, report)?;
    remove_unused(disk, recovered)?;
    recovered.index.held.dead_extents.clear();
    disk.sync_names()?;
    Ok(())
}

/// Removes free segments that were not made to their end when the process ended, or that are of another length.
fn drop_unfinished(disk: &dyn Disk, bytes: u64, recovered: &mut Recovered) -> Result<(), DiskError> {
    for number in core::mem::take(&mut recovered.segments.spares) {
        let name = FileName::Spare(number).to_string();
        if disk.open(&name)?.len_bytes()? == bytes {
            recovered.segments.spares.push(number);
        } else {
            disk.remove(&name)?;
        }
    }
    Ok(())
}

/// Says that a store is open; on a full disk even a name may need the room of something else.
fn mark_running(disk: &dyn Disk, recovered: &mut Recovered) -> Result<(), DiskError> {
    loop {
        match disk.create(RUNNING, 0) {
            Ok(_) => return disk.sync_names(),
            Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
            Err(error) if error.is_full() => {
                if !make_room(disk, recovered)? {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Sees to it that there are two checkpoints that serve, and that the last of them is of now.
///
/// An older one serves with the journal that is kept for it; but not where the journal has what does not count, or
/// lacks something: then the new one is written twice, the twin first, so that there is never only one of which
/// an older one is believed to serve.
fn keep_two(disk: &dyn Disk, recovered: &mut Recovered, report: &Report) -> Result<(), DiskError> {
    let read = recovered.checkpoints.last().copied();
    let now = recovered.index.position;
    let as_it_was = report.clean && report.batches == 0 && report.is_whole() && read.is_some();
    if as_it_was {
        return Ok(());
    }
    let needs_twin = !report.is_whole() && (read.is_some() || report.lacks_checkpoint());
    let twin = needs_twin || (recovered.has_twin && read == Some(now));
    let has_twin = twin && write_twin(disk, &recovered.index)?;
    recovered.checkpoint_bytes = save(disk, recovered)?;
    // If there was no room for the older ones they are gone by now.
    let older = recovered.checkpoints.iter().rev().copied().find(|older| *older < now && !needs_twin);
    recovered.checkpoints = older.into_iter().chain([now]).collect();
    recovered.has_twin = has_twin;
    Ok(())
}

/// Writes a checkpoint's twin. False if there is no room for it.
fn write_twin(disk: &dyn Disk, index: &Index) -> Result<bool, DiskError> {
    match keeper::write_now(disk, index, FileName::Twin(index.position)) {
        Ok(_) => Ok(true),
        Err(error) if error.is_full() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes a checkpoint, on a full disk in the room of what is not needed.
fn save(disk: &dyn Disk, recovered: &mut Recovered) -> Result<u64, DiskError> {
    let file = FileName::Checkpoint(recovered.index.position);
    loop {
        match keeper::write_now(disk, &recovered.index, file) {
            Err(error) if error.is_full() => {
                if !make_room(disk, recovered)? {
                    return Err(error);
                }
            }
            saved => return saved,
        }
    }
}

/// Gives up what is needed least. False if nothing is left.
fn make_room(disk: &dyn Disk, recovered: &mut Recovered) -> Result<bool, DiskError> {
    if remove_unused(disk, recovered)? {
        return Ok(true);
    }
    if recovered.checkpoints.len() > 1 {
        recovered.checkpoints.remove(0);
        return remove_unused(disk, recovered);
    }
    Ok(recovered.segments.give_up(disk))
}

/// Removes checkpoints that were not used, and bodies that nothing refers to. Whether there were any.
fn remove_unused(disk: &dyn Disk, recovered: &Recovered) -> Result<bool, DiskError> {
    let extents: HashSet<u64, foldhash::fast::RandomState> =
        recovered.index.held.extents.values().map(|extent| extent.number).collect();
    let mut did = false;
    for name in disk.list()? {
        let keeps = match FileName::parse(&name) {
            Some(FileName::Checkpoint(number)) => recovered.checkpoints.contains(&number),
            Some(FileName::Twin(number)) => {
                recovered.has_twin && recovered.checkpoints.last() == Some(&number)
            }
            Some(FileName::Extent(number)) => extents.contains(&number),
            Some(FileName::Segment(_) | FileName::Spare(_)) => true,
            None => name != UNFINISHED,
        };
        if !keeps {
            disk.remove(&name)?;
            // What was begun comes again with each attempt.
            did |= name != UNFINISHED;
        }
    }
    Ok(did)
}
