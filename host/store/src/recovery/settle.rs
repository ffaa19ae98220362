//! Makes what a start found the beginning of a new run.

use super::{RUNNING, Recovered, Report, rewrite};
use crate::{
    aside,
    disk::Disk,
    error::{DiskError, OpenError},
    index::Index,
    journal::{manifest, segments::FileName},
    keeper::{self, UNFINISHED},
};
use hashbrown::HashSet;

/// What is not known to be synced is written again, a
/// checkpoint too, and what nothing refers to is removed.
pub(crate) fn settle(
    disk: &dyn Disk,
    segment_bytes: u64,
    recovered: &mut Recovered,
    report: &mut Report,
) -> Result<(), OpenError> {
    drop_unfinished(disk, segment_bytes, recovered)?;
    mark_running(disk, segment_bytes, recovered)?;
    set_aside(disk, recovered, report)?;
    let unsynced = core::mem::take(&mut recovered.unsynced);
    loop {
        let bytes = rewrite::provide(disk, segment_bytes, recovered, &unsynced)?;
        if bytes == 0 {
            break;
        }
        if !give_up(disk, segment_bytes, recovered)? {
            return Err(OpenError::Full { bytes });
        }
    }
    rewrite::rewrite(disk, segment_bytes, recovered, &unsynced)?;
    keep_two(disk, segment_bytes, recovered, report)?;
    remove_unused(disk, recovered)?;
    recovered.index.held.dead_extents.clear();
    report.given_up = core::mem::take(&mut recovered.given_up);
    report.set_aside.retain(|name| !report.given_up.contains(name));
    disk.sync_names()?;
    Ok(())
}

/// Removes what was begun when the process ended, for the room that it takes, and free segments that were not made to
/// their end, or that are of another length.
fn drop_unfinished(disk: &dyn Disk, bytes: u64, recovered: &mut Recovered) -> Result<(), DiskError> {
    for begun in [UNFINISHED, manifest::UNFINISHED] {
        match disk.remove(begun) {
            Err(error) if !error.is_missing() => return Err(error),
            _ => {}
        }
    }
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

/// What cannot be read, and bodies of which it is not known that nobody has them, are kept under other names.
fn set_aside(disk: &dyn Disk, recovered: &mut Recovered, report: &mut Report) -> Result<(), DiskError> {
    let mut aside = core::mem::take(&mut recovered.aside);
    if report.verdict.lost.lacks_journal() || report.verdict.refusal.is_some() {
        aside.extend(
            unused(disk, recovered)?
                .into_iter()
                .filter(|name| matches!(FileName::parse(name), Some(FileName::Extent(_)))),
        );
    }
    for number in &report.damaged {
        recovered.segments.mark_damaged(*number, disk)?;
    }
    for name in aside {
        match aside::set_aside(disk, &name) {
            Ok(name) => report.set_aside.push(name),
            // Its room was needed.
            Err(error) if error.is_missing() => recovered.given_up.push(name),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Says that a store is open; on a full disk even a name may need the room of something else.
fn mark_running(disk: &dyn Disk, segment_bytes: u64, recovered: &mut Recovered) -> Result<(), DiskError> {
    loop {
        match disk.create(RUNNING, 0) {
            Ok(_) => return disk.sync_names(),
            Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
            Err(error) if error.is_full() => {
                if !make_room(disk, segment_bytes, recovered)? {
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
fn keep_two(
    disk: &dyn Disk,
    segment_bytes: u64,
    recovered: &mut Recovered,
    report: &Report,
) -> Result<(), DiskError> {
    let read = recovered.checkpoints.last().copied();
    let now = recovered.index.position;
    let is_whole = report.verdict.is_whole();
    if report.clean && report.batches == 0 && is_whole && read.is_some() {
        return Ok(());
    }
    let needs_twin = !is_whole;
    let twin = needs_twin || (recovered.has_twin && read == Some(now));
    let has_twin = twin && write_twin(disk, &recovered.index)?;
    recovered.checkpoint_bytes = save(disk, segment_bytes, recovered)?;
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
fn save(disk: &dyn Disk, segment_bytes: u64, recovered: &mut Recovered) -> Result<u64, DiskError> {
    let file = FileName::Checkpoint(recovered.index.position);
    loop {
        match keeper::write_now(disk, &recovered.index, file) {
            Err(error) if error.is_full() => {
                if !make_room(disk, segment_bytes, recovered)? {
                    return Err(error);
                }
            }
            saved => return saved,
        }
    }
}

/// Gives up what is needed least. False if nothing is left.
fn make_room(disk: &dyn Disk, segment_bytes: u64, recovered: &mut Recovered) -> Result<bool, DiskError> {
    Ok(give_up(disk, segment_bytes, recovered)? || recovered.segments.give_up(disk))
}

/// The same, but for free segments.
fn give_up(disk: &dyn Disk, segment_bytes: u64, recovered: &mut Recovered) -> Result<bool, DiskError> {
    if remove_unused(disk, recovered)? || give_up_aside(disk, recovered)? {
        return Ok(true);
    }
    if recovered.checkpoints.len() > 1 {
        recovered.checkpoints.remove(0);
        if remove_unused(disk, recovered)? {
            return Ok(true);
        }
    }
    free_spent(disk, segment_bytes, recovered)
}

/// Segments that have nothing any more are free. False if there are none.
fn free_spent(disk: &dyn Disk, bytes: u64, recovered: &mut Recovered) -> Result<bool, DiskError> {
    let spent = core::mem::take(&mut recovered.spent);
    if let Some(found) = recovered.manifest.as_mut().filter(|_| !spent.is_empty()) {
        manifest::forget_found(disk, found, &spent)?;
    }
    for number in &spent {
        recovered.segments.retire(*number, disk, (usize::MAX, bytes))?;
    }
    Ok(!spent.is_empty())
}

/// Removes a file that was set aside: to serve is worth more, and it is told. False if there is none.
fn give_up_aside(disk: &dyn Disk, recovered: &mut Recovered) -> Result<bool, DiskError> {
    let Some(name) = disk.list()?.into_iter().find(|name| aside::is_aside(name)) else { return Ok(false) };
    disk.remove(&name)?;
    recovered.given_up.push(name);
    Ok(true)
}

/// Removes checkpoints that were not used, and bodies that nothing refers to. Whether there were any.
fn remove_unused(disk: &dyn Disk, recovered: &Recovered) -> Result<bool, DiskError> {
    let mut did = false;
    for name in unused(disk, recovered)? {
        disk.remove(&name)?;
        // What was begun comes again with each attempt.
        did |= name != UNFINISHED && name != manifest::UNFINISHED;
    }
    Ok(did)
}

/// Files that nothing needs.
fn unused(disk: &dyn Disk, recovered: &Recovered) -> Result<Vec<String>, DiskError> {
    let extents: HashSet<u64, foldhash::fast::RandomState> =
        recovered.index.held.extents.values().map(|extent| extent.number).collect();
    let keeps = |name: &String| match FileName::parse(name) {
        Some(FileName::Checkpoint(number)) => recovered.checkpoints.contains(&number),
        Some(FileName::Twin(number)) => recovered.has_twin && recovered.checkpoints.last() == Some(&number),
        Some(FileName::Extent(number)) => extents.contains(&number),
        Some(FileName::Segment(_) | FileName::Damaged(_) | FileName::Spare(_)) => true,
        None => *name != UNFINISHED && *name != manifest::UNFINISHED,
    };
    let mut names = disk.list()?;
    names.retain(|name| !keeps(name));
    Ok(names)
}
