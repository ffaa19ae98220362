//! Writes again what was read and never known to be synced.
//!
//! If the process ended after a sync had failed, the system still shows what it did not write, and a
//! sync now would succeed without writing it. So it is written to a new segment, or without room for one to
//! where it is.

use super::{Recovered, scan::Found};
use crate::{
    disk::Disk,
    error::DiskError,
    index::{Coming, save},
    journal::segments::{FIRST_BATCH_AT, Segment},
    record::{
        BLOCK_BYTES,
        frame::{BATCH_HEADER_BYTES, BatchHeader},
        group::GroupView,
    },
};
use std::collections::BTreeSet;

/// Whether there are segments for it, and room for a checkpoint besides. Makes them if it can.
pub(super) fn has_room(
    disk: &dyn Disk,
    segment_bytes: u64,
    recovered: &mut Recovered,
    batches: &[(u64, Found)],
) -> bool {
    if batches.is_empty() {
        return true;
    }
    let (mut needed, mut offset) = (save::estimate(&recovered.index).div_ceil(segment_bytes), segment_bytes);
    for (_, found) in batches {
        let bytes = BATCH_HEADER_BYTES as u64 + u64::from(found.bytes);
        if offset + bytes > segment_bytes {
            (needed, offset) = (needed + 1, FIRST_BATCH_AT);
        }
        offset = (offset + bytes).next_multiple_of(BLOCK_BYTES);
    }
    let segments = &mut recovered.segments;
    while (segments.free() as u64) < needed && segments.make_spare(disk, segment_bytes).is_ok() {}
    segments.free() as u64 >= needed
}

/// Writes each where it is, and syncs it: by itself a sync would not write what one that failed left.
pub(super) fn rewrite_in_place(recovered: &Recovered, batches: &[(u64, Found)]) -> Result<(), DiskError> {
    let mut bytes = Vec::new();
    let mut written = BTreeSet::new();
    for (_, found) in batches {
        let Some(segment) = recovered.segments.files.get(&found.segment) else { continue };
        bytes.clear();
        bytes.resize(BATCH_HEADER_BYTES + found.bytes as usize, 0);
        segment.file.read_at(&mut bytes, found.offset)?;
        segment.file.write_at(&bytes, found.offset)?;
        written.insert(found.segment);
    }
    written
        .iter()
        .filter_map(|number| recovered.segments.files.get(number))
        .try_for_each(|segment| segment.file.sync())
}

/// Does so, and tells the index where it is now. What is written is synced.
pub(super) fn rewrite(
    disk: &dyn Disk,
    segment_bytes: u64,
    recovered: &mut Recovered,
    batches: &[(u64, Found)],
) -> Result<(), DiskError> {
    let mut bytes = Vec::new();
    let mut to: Option<(u64, Segment, u64)> = None;
    for (number, found) in batches {
        let length = BATCH_HEADER_BYTES + found.bytes as usize;
        bytes.clear();
        bytes.resize(length, 0);
        let Some(from) = recovered.segments.files.get(&found.segment) else { continue };
        from.file.read_at(&mut bytes, found.offset)?;
        let Ok(old) = BatchHeader::decode(&bytes, found.segment) else { continue };
        let full = |(_, segment, offset): &(u64, Segment, u64)| offset + length as u64 > segment.bytes;
        if to.as_ref().is_none_or(full) {
            finish(recovered, to.take())?;
            to = Some(begin(disk, segment_bytes.max(FIRST_BATCH_AT + length as u64), recovered)?);
        }
        let Some((segment, target, offset)) = &mut to else { continue };
        let header = BatchHeader { segment: *segment, ..old };
        if let Some(place) = bytes.first_chunk_mut::<BATCH_HEADER_BYTES>() {
            *place = header.encode();
        }
        target.file.write_at(&bytes, *offset)?;
        let mut at = BATCH_HEADER_BYTES;
        while let Some(Ok(group)) = bytes.get(at..).map(|rest| GroupView::decode(rest, *number)) {
            if group.check().is_err() {
                break;
            }
            recovered.index.apply(&group, (*number, *segment as u32, *offset + at as u64), Coming::Again);
            at += group.len_bytes;
        }
        *offset = header.end(*offset);
    }
    finish(recovered, to)
}

fn begin(disk: &dyn Disk, bytes: u64, recovered: &mut Recovered) -> Result<(u64, Segment, u64), DiskError> {
    let segments = &mut recovered.segments;
    if segments.spares.is_empty() {
        segments.make_spare(disk, bytes)?;
    }
    segments.make_ready(disk, bytes)?;
    let Some((number, file)) = segments.ready.take() else {
        return Err(DiskError::new("create", "segment", std::io::ErrorKind::Other.into()));
    };
    let bytes = file.len_bytes()?.max(bytes);
    Ok((number, Segment::new(file, bytes, 0), FIRST_BATCH_AT))
}

fn finish(recovered: &mut Recovered, to: Option<(u64, Segment, u64)>) -> Result<(), DiskError> {
    let Some((number, mut segment, _)) = to else { return Ok(()) };
    segment.file.sync()?;
    segment.last = Some(recovered.index.position);
    recovered.segments.files.insert(number, segment);
    Ok(())
}
