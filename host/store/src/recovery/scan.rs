//! Finds the batches of segments.

use super::{Problem, Report};
use crate::{
    disk::File,
    journal::segments::{FIRST_BATCH_AT, Segment, read_header},
    record::{
        BLOCK_BYTES,
        frame::{BATCH_HEADER_BYTES, BatchHeader, Opening},
        key::Key,
    },
};
use std::collections::BTreeMap;

/// How much is read at once where batches are searched for.
const WINDOW_BYTES: u64 = 1 << 20;

/// Where a batch is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    /// Of its groups.
    pub(crate) bytes: u32,
    /// How many groups it has.
    pub(crate) groups: u32,
}

/// The batches after a checkpoint.
#[derive(Default)]
pub(super) struct Tail {
    /// By number.
    pub(super) batches: BTreeMap<u64, Found>,
    /// Others of the same numbers, the latest last: they were written again because something failed.
    pub(super) older: BTreeMap<u64, Vec<Found>>,
    /// Up to here all was synced.
    pub(super) synced: u64,
    /// The segment that has the last of these, if that is known.
    pub(super) end: Option<u64>,
    /// The highest number that there is.
    pub(super) highest: u64,
    /// A batch after which there is none in a segment, for each.
    pub(super) last_of: BTreeMap<u64, u64>,
}

impl Tail {
    /// Whether it begins with the first batch of all and lacks none that was synced.
    pub(super) fn is_whole(&self) -> bool {
        (1..).zip(self.batches.keys()).take_while(|(expected, number)| *expected == **number).count() as u64
            >= self.synced
    }
}

/// Finds all batches after a position, where all is known to be synced up to another.
pub(super) fn tail(
    files: &BTreeMap<u64, Segment>,
    (position, synced): (u64, u64),
    report: &mut Report,
) -> Tail {
    let mut tail = Tail { synced, ..Tail::default() };
    // The first batch of a segment is not older than those of the segments before.
    let mut start = None;
    let mut next = None;
    for (number, segment) in files.iter().rev() {
        let first = first_of(*number, segment);
        if start.is_none() && position > 0 && first.is_some_and(|first| first <= position) {
            start = Some(*number);
        }
        if let Some(bound) = next {
            tail.last_of.insert(*number, bound);
        }
        next = first.or(next);
    }
    for (number, segment) in files.range(start.unwrap_or_default()..) {
        scan(*number, segment, position, &mut tail, report);
    }
    tail
}

fn scan(number: u64, segment: &Segment, position: u64, tail: &mut Tail, report: &mut Report) {
    let mut offset = FIRST_BATCH_AT;
    let mut last = 0;
    let mut told = false;
    while offset + BATCH_HEADER_BYTES as u64 <= segment.bytes {
        let header = match header_at(&*segment.file, (segment.bytes, segment.key), offset) {
            // Of an earlier use there may be others.
            Ok(header) => header.filter(|header| header.segment == number),
            Err(error) => {
                if !core::mem::replace(&mut told, true) {
                    report.tell(Problem::Unreadable(error));
                }
                None
            }
        };
        let Some(header) = header else {
            match search(segment, number, offset + BLOCK_BYTES) {
                Some(found) => offset = found,
                None => break,
            }
            continue;
        };
        last = last.max(header.number);
        tail.synced = tail.synced.max(header.synced);
        if header.number > position {
            let BatchHeader { bytes, groups, .. } = header;
            let found = Found { segment: number, offset, bytes, groups };
            // Later segments come later.
            if let Some(older) = tail.batches.insert(header.number, found) {
                tail.older.entry(header.number).or_default().push(older);
            }
        }
        offset = header.end(offset);
    }
    tail.highest = tail.highest.max(last);
    // One that was not written since it was named has none.
    let has_any = last > 0 || told;
    tail.last_of.entry(number).or_insert(if has_any { last.max(position) } else { 0 });
}

/// The first batch of a segment, if it can be read.
fn first_of(number: u64, segment: &Segment) -> Option<u64> {
    let header = header_at(&*segment.file, (segment.bytes, segment.key), FIRST_BATCH_AT).ok()??;
    (header.segment == number).then_some(header.number)
}

/// The segment that a free file was when it was written last, if it was one. It may have batches of it still. What its header
/// says of the key counts where nothing did before.
pub(super) fn last_use(file: &dyn File, key: &mut Key) -> Result<Option<u64>, crate::DiskError> {
    let named = match read_header(file)? {
        Opening::Segment(header) => Some(header),
        _ => None,
    };
    if let Some(header) = named.filter(|_| key.is_none()) {
        *key = header.key;
    }
    let its_key = named.map_or(*key, |header| header.key);
    let first = header_at(file, (file.len_bytes()?, its_key), FIRST_BATCH_AT)?;
    Ok(named.map(|header| header.number).max(first.map(|header| header.segment)))
}

/// The header at a place that fits into the segment.
fn header_at(
    file: &dyn File,
    (segment_bytes, key): (u64, Key),
    offset: u64,
) -> Result<Option<BatchHeader>, crate::DiskError> {
    let mut bytes = [0; BATCH_HEADER_BYTES];
    file.read_at(&mut bytes, offset)?;
    Ok(decode(&bytes, (segment_bytes, key), offset))
}

fn decode(bytes: &[u8], (segment_bytes, key): (u64, Key), offset: u64) -> Option<BatchHeader> {
    let owner = bytes.get(24..32)?.try_into().ok().map(u64::from_le_bytes)?;
    let header = BatchHeader::decode(bytes, owner, key).ok()?;
    let end = offset + BATCH_HEADER_BYTES as u64 + u64::from(header.bytes);
    (end <= segment_bytes).then_some(header)
}

/// Where the next batch of a segment begins, from a block on.
fn search(segment: &Segment, number: u64, from: u64) -> Option<u64> {
    let rest = segment.bytes.saturating_sub(from);
    let mut window = vec![0; rest.min(WINDOW_BYTES) as usize];
    let mut offset = from;
    while offset < segment.bytes {
        let read = match segment.file.read_at(&mut window, offset) {
            Ok(0) => return None,
            Ok(read) => read,
            // Perhaps the next block can be read.
            Err(_) => {
                offset += BLOCK_BYTES;
                continue;
            }
        };
        for (block, bytes) in window.get(..read)?.chunks(BLOCK_BYTES as usize).enumerate() {
            let at = offset + block as u64 * BLOCK_BYTES;
            if decode(bytes, (segment.bytes, segment.key), at).is_some_and(|header| header.segment == number)
            {
                return Some(at);
            }
        }
        offset += WINDOW_BYTES;
    }
    None
}
