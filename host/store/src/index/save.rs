//! The index as a file: a checkpoint. Format 1.
//!
//! ```text
//! header   0 "LEVERETK"   8 u32 format   12 u32 checksum of bytes 0 to 12 and 16 to 32
//!         16 u64 batch: up to there all is in the checkpoint  24 u64 zero
//! block    u32 length, u32 checksum, then as many bytes: u8 kind, and
//!   1 queue    u64 queue, u64 the chunk before which this block ends, u64 batch, u64 next sequence,
//!              u64 doubtful below, u32 chunks: u64 number, u32 messages, u32 early acks,
//!              for each message u16 low bits and flags, u16 deliveries, u32 segment, u32 offset, u32 bytes,
//!              for each early ack u16 first, u16 last;
//!              u32 extents: u32 segment, u32 offset, u64 number, u64 bytes, u32 checksum
//!   2 values   u64 batch, u8 1 if these are the last, u64 space and u32 length and bytes of the key up to
//!              which this block goes, u32 values: u64 space, u64 end of life, u32 bytes of the key,
//!              u32 bytes of the value, key, value
//!   3 end      u64 number of blocks before
//! ```
//!
//! It is written while the journal goes on. Each block is of one moment and says of which: the batch
//! that was applied last. Whoever reads it begins with the batch after the header's, and leaves to each
//! part what it already has.

use super::{
    Index,
    chunk::{Chunk, Entry, Location},
    queue::Queue,
    values::Key,
};
use crate::record::{
    FORMAT, KEY_BYTES_MAX, Malformed, Take, check,
    frame::Opening,
    op::{ExtentRef, QueueId, Space},
};
use std::ops::Bound;

/// The bytes before the first block.
pub(crate) const HEADER_BYTES: usize = 32;
/// The bytes before what a block has.
pub(crate) const BLOCK_HEADER_BYTES: usize = 8;
/// No block has more.
pub(crate) const BLOCK_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A block ends when it has so many.
const BLOCK_BYTES: usize = 512 * 1024;

const MAGIC: &[u8; 8] = b"LEVERETK";
const QUEUE: u8 = 1;
const VALUES: u8 = 2;
const END: u8 = 3;

/// The header, for the batch up to which all is there.
pub(crate) fn header(position: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    bytes[16..24].copy_from_slice(&position.to_le_bytes());
    let check = check::append(check::check(&bytes[..12]), &bytes[16..]);
    bytes[12..16].copy_from_slice(&check.to_le_bytes());
    bytes
}

/// Reads a header: the batch.
///
/// # Errors
/// What the bytes are instead.
pub(crate) fn read_header(bytes: &[u8]) -> Result<u64, Opening> {
    let read = || {
        let mut take = Take(bytes);
        let (magic, format, check) = (take.bytes(8)?, take.u32()?, take.u32()?);
        let rest = bytes.get(16..HEADER_BYTES).ok_or(Malformed)?;
        let found = check::append(check::check(bytes.get(..12).ok_or(Malformed)?), rest);
        if magic != MAGIC || found != check {
            return Err(Malformed);
        }
        Ok((format, take.u64()?))
    };
    match read() {
        Ok((FORMAT, position)) => Ok(position),
        Ok((format, _)) => Err(Opening::Newer(format)),
        Err(Malformed) => Err(Opening::Unreadable),
    }
}

/// How many bytes a checkpoint may have, at most but for acks that came before their messages.
pub(crate) fn estimate(index: &Index) -> u64 {
    let of_queue = |queue: &Queue| 64 + 16 * (queue.chunks.len() as u64 + queue.live);
    let queues: u64 = index.queues.values().map(of_queue).sum();
    let values = index.values.bytes + 24 * index.values.by_key.len() as u64;
    // Queues and values that are in two blocks have what blocks begin with twice.
    let blocks = 1 + (queues + values) / BLOCK_BYTES as u64;
    let extents = 28 * index.held.extents.len() as u64;
    queues + values + extents + blocks * (128 + KEY_BYTES_MAX as u64 / 64)
}

/// Where a checkpoint that is being written stands.
pub(crate) struct Save {
    stage: Stage,
    blocks: u64,
    /// The latest batch that any block has.
    pub(crate) position: u64,
}

enum Stage {
    /// From this queue and chunk on.
    Queues(QueueId, u64),
    /// After this key.
    Values(Option<Key>),
    End,
    Done,
}

impl Save {
    pub(crate) fn new() -> Self {
        Self { stage: Stage::Queues(QueueId(0), 0), blocks: 0, position: 0 }
    }

    /// Appends a block, as the index is now; false at the end.
    pub(crate) fn next(&mut self, index: &Index, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        out.extend_from_slice(&[0; BLOCK_HEADER_BYTES]);
        self.position = self.position.max(index.position);
        self.stage = match &self.stage {
            Stage::Queues(id, chunk) => match save_queue(index, *id, *chunk, out) {
                Some((id, chunk)) => Stage::Queues(id, chunk),
                None => {
                    out.truncate(start);
                    self.stage = Stage::Values(None);
                    return self.next(index, out);
                }
            },
            Stage::Values(after) => match save_values(index, after.as_ref(), out) {
                Some(last) => Stage::Values(Some(last)),
                None => Stage::End,
            },
            Stage::End => {
                out.push(END);
                out.extend_from_slice(&self.blocks.to_le_bytes());
                Stage::Done
            }
            Stage::Done => {
                out.truncate(start);
                return false;
            }
        };
        self.blocks += 1;
        let (length, check) = match out.get(start + BLOCK_HEADER_BYTES..) {
            Some(block) => (block.len() as u32, check::check(block)),
            None => (0, 0),
        };
        if let Some(place) = out.get_mut(start..start + BLOCK_HEADER_BYTES) {
            place[..4].copy_from_slice(&length.to_le_bytes());
            place[4..].copy_from_slice(&check.to_le_bytes());
        }
        true
    }
}

/// Appends a part of the first queue from there on; tells from where on to continue.
fn save_queue(index: &Index, id: QueueId, chunk: u64, out: &mut Vec<u8>) -> Option<(QueueId, u64)> {
    let (found, queue) = index.queues.range(id..).next()?;
    let start = if *found == id { chunk } else { 0 };
    let from = out.len();
    out.push(QUEUE);
    let end_at = from + 9;
    for number in [found.0, u64::MAX, index.position, queue.next, queue.doubtful_below] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let count_at = out.len();
    out.extend_from_slice(&[0; 4]);
    let (mut count, mut end, mut extents) = (0_u32, u64::MAX, Vec::new());
    for (number, chunk) in queue.chunks.range(start..) {
        if out.len() - from > BLOCK_BYTES {
            end = *number;
            break;
        }
        count += 1;
        save_chunk(*number, chunk, out);
        let apart = chunk.live_from(0).filter(|entry| entry.has(super::chunk::EXTENT));
        extents.extend(
            apart.filter_map(|entry| Some((entry.location, *index.held.extents.get(&entry.location)?))),
        );
    }
    out.extend_from_slice(&(extents.len() as u32).to_le_bytes());
    for (location, extent) in extents {
        out.extend_from_slice(&location.segment.to_le_bytes());
        out.extend_from_slice(&location.offset.to_le_bytes());
        out.extend_from_slice(&extent.number.to_le_bytes());
        out.extend_from_slice(&extent.bytes.to_le_bytes());
        out.extend_from_slice(&extent.check.to_le_bytes());
    }
    put(out, end_at, &end.to_le_bytes());
    put(out, count_at, &count.to_le_bytes());
    if end == u64::MAX { Some((QueueId(found.0.checked_add(1)?), 0)) } else { Some((*found, end)) }
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = out.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn save_chunk(number: u64, chunk: &Chunk, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&(chunk.live() as u32).to_le_bytes());
    out.extend_from_slice(&(chunk.early().len() as u32).to_le_bytes());
    for entry in chunk.live_from(0) {
        out.extend_from_slice(&(entry.low() | entry.flags()).to_le_bytes());
        out.extend_from_slice(&entry.deliveries.to_le_bytes());
        out.extend_from_slice(&entry.location.segment.to_le_bytes());
        out.extend_from_slice(&entry.location.offset.to_le_bytes());
        out.extend_from_slice(&entry.bytes.to_le_bytes());
    }
    for (from, to) in chunk.early() {
        out.extend_from_slice(&from.to_le_bytes());
        out.extend_from_slice(&to.to_le_bytes());
    }
}

/// Appends the values after a key; gives the last one's key, `None` if that was the last of all.
fn save_values(index: &Index, after: Option<&Key>, out: &mut Vec<u8>) -> Option<Key> {
    let from = out.len();
    out.push(VALUES);
    out.extend_from_slice(&index.position.to_le_bytes());
    let last_at = out.len();
    out.push(1);
    let start = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut found = Vec::new();
    let (mut bytes, mut last) = (0, None);
    for (key, value) in index.values.by_key.range((start, Bound::Unbounded)) {
        if bytes > BLOCK_BYTES {
            last = found.last().map(|(key, _): &(&Key, _)| *key);
            break;
        }
        bytes += 24 + key.1.len() + value.bytes.len();
        found.push((key, value));
    }
    put(out, last_at, &[last.is_none().into()]);
    let (space, key): (u64, &[u8]) = last.map_or((0, &[]), |(space, key)| (space.0, key));
    out.extend_from_slice(&space.to_le_bytes());
    out.extend_from_slice(&(key.len() as u32).to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(&(found.len() as u32).to_le_bytes());
    out.reserve(bytes + from);
    for ((space, key), value) in &found {
        out.extend_from_slice(&space.0.to_le_bytes());
        out.extend_from_slice(&value.expires_ms.to_le_bytes());
        out.extend_from_slice(&(key.len() as u32).to_le_bytes());
        out.extend_from_slice(&(value.bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(&value.bytes);
    }
    last.cloned()
}

/// Whether a block was the last.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Loaded {
    More,
    End,
}

/// What a block is, by its first bytes; `blocks` is how many came before.
///
/// # Errors
/// If it is none.
pub(crate) fn look(block: &[u8], blocks: u64) -> Result<Loaded, Malformed> {
    let mut take = Take(block);
    match take.u8()? {
        QUEUE | VALUES => Ok(Loaded::More),
        END if take.u64()? == blocks => Ok(Loaded::End),
        _ => Err(Malformed),
    }
}

/// Takes what a block has into an index that is being loaded; `blocks` is how many came before.
///
/// # Errors
/// If it is none.
pub(crate) fn load(index: &mut Index, block: &[u8], blocks: u64) -> Result<Loaded, Malformed> {
    let mut take = Take(block);
    match take.u8()? {
        QUEUE => load_queue(index, &mut take)?,
        VALUES => load_values(index, &mut take)?,
        END if take.u64()? == blocks => return Ok(Loaded::End),
        _ => return Err(Malformed),
    }
    if take.0.is_empty() { Ok(Loaded::More) } else { Err(Malformed) }
}

fn load_queue(index: &mut Index, take: &mut Take<'_>) -> Result<(), Malformed> {
    let (id, end, position) = (QueueId(take.u64()?), take.u64()?, take.u64()?);
    let (next, doubtful_below) = (take.u64()?, take.u64()?);
    let queue: &mut Queue = index.queues.entry(id).or_default();
    queue.next = queue.next.max(next);
    queue.doubtful_below = doubtful_below;
    queue.spans.push((end, position));
    for _ in 0..take.u32()? {
        let (number, entries, early) = (take.u64()?, take.u32()? as usize, take.u32()? as usize);
        let mut entries_take = Take(take.bytes(entries.checked_mul(16).ok_or(Malformed)?)?);
        let mut early_take = Take(take.bytes(early.checked_mul(4).ok_or(Malformed)?)?);
        let mut restored = Vec::with_capacity(entries);
        for _ in 0..entries {
            let (low_and_flags, deliveries) = (entries_take.u16()?, entries_take.u16()?);
            let location = Location { segment: entries_take.u32()?, offset: entries_take.u32()? };
            let bytes = entries_take.u32()?;
            let mut entry = Entry::new(low_and_flags.into(), low_and_flags, location, bytes);
            entry.deliveries = deliveries;
            index.held.restore(&entry);
            restored.push(entry);
        }
        if !restored.is_sorted_by_key(Entry::low) {
            return Err(Malformed);
        }
        let mut early = Vec::new();
        while !early_take.0.is_empty() {
            early.push((early_take.u16()?, early_take.u16()?));
        }
        queue.live += entries as u64;
        queue.chunks.insert(number, Chunk::restore(restored, early));
    }
    for _ in 0..take.u32()? {
        let location = Location { segment: take.u32()?, offset: take.u32()? };
        let extent = ExtentRef { number: take.u64()?, bytes: take.u64()?, check: take.u32()? };
        index.held.put_apart(location, extent);
    }
    Ok(())
}

fn load_values(index: &mut Index, take: &mut Take<'_>) -> Result<(), Malformed> {
    let (position, is_last) = (take.u64()?, take.u8()? == 1);
    let end = take_key(take)?;
    let count = take.u32()?;
    for _ in 0..count {
        let (space, expires_ms) = (Space(take.u64()?), take.u64()?);
        let (key, value) = (take.u32()? as usize, take.u32()? as usize);
        if key > KEY_BYTES_MAX {
            return Err(Malformed);
        }
        let (key, value) = (take.bytes(key)?, take.bytes(value)?);
        index.values.set(space, key, value, expires_ms, u64::MAX);
    }
    index.values.spans.push((if is_last { None } else { Some(end) }, position));
    Ok(())
}

fn take_key(take: &mut Take<'_>) -> Result<Key, Malformed> {
    let (space, length) = (Space(take.u64()?), take.u32()? as usize);
    Ok((space, Box::from(take.bytes(length)?)))
}
