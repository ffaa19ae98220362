//! Writes again what was read and never known to be synced.
//!
//! If the process ended after a sync had failed, the system still shows what it did not write, and a
//! sync now would succeed without writing it. So it is written to new segments, and where there is no room for these the
//! store does not start: what may be on disk is not written to.

use super::{Recovered, scan::Found, settle::Settling};
use crate::{
    disk::Disk,
    error::DiskError,
    index::{Coming, save},
    journal::{
        own,
        segments::{FIRST_BATCH_AT, Segment},
        write::mix_groups,
    },
    record::{
        BLOCK_BYTES,
        frame::{BATCH_HEADER_BYTES, BatchHeader},
        group::GroupView,
    },
};

/// The length of a batch in a file.
fn length_of(found: &Found) -> usize {
    BATCH_HEADER_BYTES + found.bytes as usize
}

/// Whether a batch is longer than a segment that batches share.
fn is_long(found: &Found, segment_bytes: u64) -> bool {
    FIRST_BATCH_AT + length_of(found) as u64 > segment_bytes
}

impl Settling<'_> {
    /// Makes the segments for it, and if it can for a checkpoint besides, which may have the room of other things too. Gives
    /// how many bytes of segments there is no room for.
    pub(super) fn provide(&mut self, batches: &[(u64, Found)]) -> Result<u64, DiskError> {
        let Settling { disk, segment_bytes, ref mut recovered } = *self;
        if batches.is_empty() {
            return Ok(0);
        }
        let (mut needed, mut offset) = (0, segment_bytes);
        for (_, found) in batches.iter().filter(|(_, found)| !is_long(found, segment_bytes)) {
            let bytes = length_of(found) as u64;
            if offset + bytes > segment_bytes {
                (needed, offset) = (needed + 1, FIRST_BATCH_AT);
            }
            offset = (offset + bytes).next_multiple_of(BLOCK_BYTES);
        }
        let of_long = batches.iter().filter(|(_, found)| is_long(found, segment_bytes));
        let of_long: Vec<u64> =
            of_long.map(|(_, found)| own::segment_bytes(length_of(found), segment_bytes)).collect();
        let Recovered { segments, own, index, .. } = &mut **recovered;
        let besides = save::estimate(index).div_ceil(segment_bytes);
        loop {
            let long = of_long.get(own.len()).copied();
            let made = match long {
                Some(bytes) => segments.make_apart(disk, bytes).map(|number| own.push(number)),
                None if (segments.free() as u64) < needed + besides => {
                    segments.make_spare(disk, segment_bytes)
                }
                None => return Ok(0),
            };
            match made {
                Ok(()) => {}
                Err(error) if error.is_full() => {
                    let lacking = needed.saturating_sub(segments.free() as u64) * segment_bytes;
                    return Ok(lacking + of_long.iter().skip(own.len()).sum::<u64>());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Does so, and tells the index where it is now. What is written is synced.
    pub(super) fn rewrite(&mut self, batches: &[(u64, Found)]) -> Result<(), DiskError> {
        let Settling { disk, segment_bytes, ref mut recovered } = *self;
        let mut bytes = Vec::new();
        let mut to: Option<(u64, Segment, u64)> = None;
        for (number, found) in batches {
            let length = length_of(found);
            bytes.clear();
            bytes.resize(length, 0);
            let Some(from) = recovered.segments.files.get(&found.segment) else { continue };
            let (old_key, key) = (from.key, recovered.segments.key);
            from.file.read_at(&mut bytes, found.offset)?;
            let Ok(old) = BatchHeader::decode(&bytes, found.segment, old_key) else { continue };
            let full = |(_, segment, offset): &(u64, Segment, u64)| offset + length as u64 > segment.bytes;
            if to.as_ref().is_none_or(full) {
                finish(recovered, to.take())?;
                if is_long(found, segment_bytes) && !recovered.own.is_empty() {
                    // It comes next.
                    let own = recovered.own.remove(0);
                    recovered.segments.spares.push(own);
                }
                to = Some(begin(disk, own::segment_bytes(length, segment_bytes), recovered)?);
            }
            let Some((segment, target, offset)) = &mut to else { continue };
            let header = BatchHeader { segment: *segment, ..old };
            if let Some(place) = bytes.first_chunk_mut::<BATCH_HEADER_BYTES>() {
                *place = header.encode(key);
            }
            mix_groups(&mut bytes, old_key.of_groups(*number) ^ key.of_groups(*number));
            target.file.write_at(&bytes, *offset)?;
            let mut at = BATCH_HEADER_BYTES;
            while let Some(Ok(group)) = bytes.get(at..).map(|rest| GroupView::decode(rest, *number, key)) {
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
}

fn begin(disk: &dyn Disk, bytes: u64, recovered: &mut Recovered) -> Result<(u64, Segment, u64), DiskError> {
    let segments = &mut recovered.segments;
    let key = segments.key;
    if segments.spares.is_empty() {
        segments.make_spare(disk, bytes)?;
    }
    segments.make_ready(disk, bytes)?;
    let Some((number, file)) = segments.ready.take() else {
        return Err(DiskError::new("create", "segment", std::io::ErrorKind::Other.into()));
    };
    let bytes = file.len_bytes()?.max(bytes);
    Ok((number, Segment::new(file, bytes, (0, key)), FIRST_BATCH_AT))
}

fn finish(recovered: &mut Recovered, to: Option<(u64, Segment, u64)>) -> Result<(), DiskError> {
    let Some((number, mut segment, _)) = to else { return Ok(()) };
    segment.file.sync()?;
    segment.last = Some(recovered.index.position);
    recovered.segments.files.insert(number, segment);
    Ok(())
}
