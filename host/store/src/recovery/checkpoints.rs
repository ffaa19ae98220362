//! Which checkpoint a start begins with, and whether the others can be read.

use super::{Names, Problem, Report};
use crate::{
    disk::{Disk, File},
    error::{DiskError, OpenError},
    index::{Index, save},
    journal::segments::FileName,
    record::{Take, check, frame::Opening},
};

/// What was found of them.
#[derive(Default)]
pub(super) struct Checkpoints {
    /// What the latest that can be read has.
    pub(super) index: Index,
    /// Its file.
    pub(super) used: Option<FileName>,
    /// Its length.
    pub(super) bytes: u64,
    /// Others that can be read, the latest first.
    pub(super) others: Vec<FileName>,
    /// Those that cannot.
    pub(super) unreadable: Vec<FileName>,
}

/// Loads the latest that can be read, and reads the others, of which one is to stand in for it the next time.
pub(super) fn load(disk: &dyn Disk, names: &Names, report: &mut Report) -> Result<Checkpoints, OpenError> {
    let checkpoints = names.checkpoints.iter().map(|number| FileName::Checkpoint(*number));
    let mut all: Vec<_> =
        checkpoints.chain(names.twins.iter().map(|number| FileName::Twin(*number))).collect();
    all.sort_by_key(|file| core::cmp::Reverse(file.position()));
    let mut found = Checkpoints::default();
    for file in all {
        let name = file.to_string();
        let was_needed = found.used.is_none();
        let mut index = Index::default();
        match read(disk, &name, was_needed.then_some(&mut index)) {
            Ok(Ok((position, bytes))) if Some(position) == file.position() => {
                if was_needed {
                    (found.index, found.used, found.bytes) = (index, Some(file), bytes);
                } else {
                    found.others.push(file);
                }
                continue;
            }
            Ok(Err(Opening::Newer(version))) => return Err(OpenError::Newer { file: name, version }),
            Ok(_) => report.tell(Problem::CheckpointDamaged { file: name.clone(), error: None, was_needed }),
            Err(error) if was_needed => report.tell(Problem::Unreadable(error)),
            Err(error) => {
                let error = Some(error);
                report.tell(Problem::CheckpointDamaged { file: name.clone(), error, was_needed });
            }
        }
        if let Some(position) = file.position().filter(|_| was_needed) {
            report.verdict.pass_over(position, &name);
        }
        found.unreadable.push(file);
    }
    Ok(found)
}

/// Up to which batch a checkpoint has all, and its length; or what it is instead.
type Read = Result<(u64, u64), Opening>;

/// Reads all of a checkpoint, into an index if there is one.
fn read(disk: &dyn Disk, name: &str, mut index: Option<&mut Index>) -> Result<Read, DiskError> {
    let file = disk.open(name)?;
    let mut header = [0; save::HEADER_BYTES];
    file.read_at(&mut header, 0)?;
    let position = match save::read_header(&header) {
        Ok(position) => position,
        Err(opening) => return Ok(Err(opening)),
    };
    let (mut offset, mut blocks) = (header.len() as u64, 0);
    let mut block = Vec::new();
    loop {
        if !read_block(&*file, offset, &mut block)? {
            return Ok(Err(Opening::Unreadable));
        }
        offset += (save::BLOCK_HEADER_BYTES + block.len()) as u64;
        let loaded = match &mut index {
            Some(index) => save::load(index, &block, blocks),
            None => save::look(&block, blocks),
        };
        match loaded {
            Ok(save::Loaded::More) => blocks += 1,
            Ok(save::Loaded::End) => return Ok(Ok((position, offset))),
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
