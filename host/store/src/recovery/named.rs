//! What the manifest says must be there, and is not.

use super::{Problem, Report, scan::Tail};
use crate::{
    disk::Disk,
    error::OpenError,
    journal::{
        manifest::{self, Found, MANIFEST},
        segments::{FileName, Segment, read_header},
    },
    record::{frame::Opening, manifest::Record},
};
use std::collections::BTreeMap;

/// Reads it. What does not check is set aside; then nothing is known of the end of the journal.
pub(super) fn read(
    disk: &dyn Disk,
    aside: &mut Vec<String>,
    report: &mut Report,
) -> Result<Option<Record>, OpenError> {
    match manifest::read(disk)? {
        Ok(Found::Record(record)) => return Ok(Some(record)),
        Ok(Found::Nothing) => {}
        Ok(Found::Damaged) => {
            report.tell(Problem::ManifestDamaged { file: MANIFEST.to_owned() });
            aside.push(MANIFEST.to_owned());
        }
        Err(error) => report.tell(Problem::Unreadable(error)),
    }
    Ok(None)
}

/// Segments that are to be there and are not, or have nothing of what they had. A checkpoint has all up to `position`.
pub(super) fn gone(
    record: &Record,
    position: u64,
    files: &BTreeMap<u64, Segment>,
    tail: &Tail,
) -> Vec<Problem> {
    let is_blank = |number: u64, segment: &Segment| {
        let has_header = !matches!(read_header(&*segment.file), Ok(Opening::Unreadable));
        !has_header && tail.last_of.get(&number).is_none_or(|last| *last == 0)
    };
    // Segment 0 is named too where nothing was synced in any since all was saved.
    let is_written = record.synced > position || (record.segment > 0 && record.synced > 0);
    let of = |number: &u64| match files.get(number) {
        None => Some(Problem::SegmentGone { file: FileName::Segment(*number).to_string() }),
        // Others may never have been written to.
        Some(segment) if is_written && *number <= record.segment && is_blank(*number, segment) => {
            Some(Problem::SegmentBlank { file: segment.name(*number).to_string(), segment: *number })
        }
        Some(_) => None,
    };
    record.segments.iter().filter_map(of).collect()
}
