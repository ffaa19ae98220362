//! The files of the journal: those that have something, the one that comes next, those for later.

use crate::{
    aside,
    disk::{Disk, File},
    error::DiskError,
    journal::manifest::Manifest,
    record::{
        BLOCK_BYTES,
        frame::{Opening, SEGMENT_HEADER_AGAIN_AT, SEGMENT_HEADER_BYTES, SegmentHeader},
        key::Key,
    },
};
use std::{collections::BTreeMap, sync::Arc};

/// What a file of the store is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileName {
    Segment(u64),
    /// A segment in which something is damaged: it is not used again.
    Damaged(u64),
    Spare(u64),
    Checkpoint(u64),
    /// The same checkpoint once more, where an older one cannot stand in for it.
    Twin(u64),
    Extent(u64),
}

impl FileName {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (kind, number) = name.split_once('-').filter(|(_, number)| number.len() == 16)?;
        let number = u64::from_str_radix(number, 16).ok()?;
        Some(match kind {
            "segment" => Self::Segment(number),
            "damaged" => Self::Damaged(number),
            "spare" => Self::Spare(number),
            "checkpoint" => Self::Checkpoint(number),
            "twin" => Self::Twin(number),
            "extent" => Self::Extent(number),
            _ => return None,
        })
    }

    /// The batch to which a checkpoint goes.
    pub(crate) fn position(self) -> Option<u64> {
        match self {
            Self::Checkpoint(number) | Self::Twin(number) => Some(number),
            Self::Segment(_) | Self::Damaged(_) | Self::Spare(_) | Self::Extent(_) => None,
        }
    }
}

impl core::fmt::Display for FileName {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Segment(number) => write!(f, "segment-{number:016x}"),
            Self::Damaged(number) => write!(f, "damaged-{number:016x}"),
            Self::Spare(number) => write!(f, "spare-{number:016x}"),
            Self::Checkpoint(number) => write!(f, "checkpoint-{number:016x}"),
            Self::Twin(number) => write!(f, "twin-{number:016x}"),
            Self::Extent(number) => write!(f, "extent-{number:016x}"),
        }
    }
}

/// A segment that has batches.
#[derive(Clone)]
pub(crate) struct Segment {
    pub(crate) file: Arc<dyn File>,
    /// How long the file is.
    pub(crate) bytes: u64,
    /// The first batch that was written to it since the start.
    pub(crate) first: u64,
    /// The key of its batches.
    pub(crate) key: Key,
    /// The last batch in it; `None` while it is written.
    pub(crate) last: Option<u64>,
    /// A write or a sync failed: it is removed once it is empty. What failed is elsewhere, so nothing can be learnt from
    /// it.
    pub(crate) suspicious: bool,
    /// Something in it is damaged: it is set aside once it is empty.
    pub(crate) damaged: bool,
    /// All of it was written again elsewhere, before anything of it was known to be synced.
    pub(crate) superseded: bool,
    /// It has live messages that cannot be moved.
    pub(crate) stuck: bool,
    /// The batch since which nothing in it is live.
    pub(crate) dead_since: Option<u64>,
}

impl Segment {
    /// One that nothing is known of yet.
    pub(crate) fn new(file: Arc<dyn File>, bytes: u64, (first, key): (u64, Key)) -> Self {
        Self {
            file,
            bytes,
            first,
            key,
            last: None,
            suspicious: false,
            damaged: false,
            superseded: false,
            stuck: false,
            dead_since: None,
        }
    }

    /// The name of its file.
    pub(crate) fn name(&self, number: u64) -> FileName {
        if self.damaged { FileName::Damaged(number) } else { FileName::Segment(number) }
    }
}

/// All files but extents and checkpoints.
#[derive(Default)]
pub(crate) struct Segments {
    pub(crate) files: BTreeMap<u64, Segment>,
    /// Named and headed, ready to be written.
    pub(crate) ready: Option<(u64, Arc<dyn File>)>,
    /// Names of files that are free.
    pub(crate) spares: Vec<u64>,
    pub(crate) next_segment: u64,
    pub(crate) next_spare: u64,
    /// The key of the folder, which new ones get.
    pub(crate) key: Key,
    /// Says which of them must be there.
    pub(crate) manifest: Arc<Manifest>,
    /// The next segment is being named: nobody else may name one, so that they are used in their order.
    pub(crate) is_naming: bool,
}

/// A spare file that becomes a segment.
pub(crate) struct Naming {
    spare: u64,
    number: u64,
    key: Key,
}

/// What came of it.
pub(crate) enum Named {
    Done(Arc<dyn File>),
    /// Whether the file still is a spare one, and whether the number was used.
    Failed {
        error: DiskError,
        is_spare: bool,
        was_named: bool,
    },
}

impl Naming {
    /// The number that the segment gets.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Heads and names the file. It takes as long as a sync, so nobody is to wait for it under a lock.
    pub(crate) fn run(&self, disk: &dyn Disk, bytes: u64) -> Named {
        let (number, key) = (self.number, self.key);
        let (from, to) = (FileName::Spare(self.spare).to_string(), FileName::Segment(number).to_string());
        let renamed = disk.open(&from).and_then(|file| {
            let header = SegmentHeader { number, bytes, key }.encode();
            file.write_at(&header, 0)?;
            file.write_at(&header, SEGMENT_HEADER_AGAIN_AT)?;
            disk.rename(&from, &to)?;
            Ok(file)
        });
        let file = match renamed {
            Ok(file) => file,
            Err(error) => return Named::Failed { error, is_spare: true, was_named: false },
        };
        if let Err(error) = disk.sync_names() {
            // Which name it has on disk is not known; the next attempt changes names again.
            let is_spare = disk.rename(&to, &from).is_ok();
            return Named::Failed { error, is_spare, was_named: true };
        }
        // Errors are to name it as it is called now.
        Named::Done(disk.open(&to).unwrap_or(file))
    }
}

impl Segments {
    /// How many segments can be written before a file has to be made.
    pub(crate) fn free(&self) -> usize {
        self.spares.len() + usize::from(self.ready.is_some() || self.is_naming)
    }

    /// The bytes of all files.
    pub(crate) fn bytes(&self, segment_bytes: u64) -> u64 {
        self.files.values().map(|segment| segment.bytes).sum::<u64>() + self.free() as u64 * segment_bytes
    }

    /// Makes a file for later.
    pub(crate) fn make_spare(&mut self, disk: &dyn Disk, bytes: u64) -> Result<(), DiskError> {
        let number = self.make_apart(disk, bytes)?;
        self.spares.push(number);
        Ok(())
    }

    /// Makes a file that is not among those for later.
    pub(crate) fn make_apart(&mut self, disk: &dyn Disk, bytes: u64) -> Result<u64, DiskError> {
        let number = self.next_spare;
        self.next_spare += 1;
        disk.create(&FileName::Spare(number).to_string(), bytes)?;
        Ok(number)
    }

    /// Makes a spare file the next segment, with nobody else at it.
    pub(crate) fn make_ready(&mut self, disk: &dyn Disk, bytes: u64) -> Result<(), DiskError> {
        let Some(naming) = self.begin_naming() else { return Ok(()) };
        let outcome = naming.run(disk, bytes);
        self.end_naming(&naming, outcome)
    }

    /// Takes a spare file to be named as the next segment; none if there is one already, or no spare file.
    pub(crate) fn begin_naming(&mut self) -> Option<Naming> {
        if self.ready.is_some() || self.is_naming {
            return None;
        }
        let spare = self.spares.pop()?;
        self.is_naming = true;
        Some(Naming { spare, number: self.next_segment, key: self.key })
    }

    /// What came of it.
    pub(crate) fn end_naming(&mut self, naming: &Naming, outcome: Named) -> Result<(), DiskError> {
        self.is_naming = false;
        match outcome {
            Named::Done(file) => {
                self.next_segment += 1;
                self.ready = Some((naming.number, file));
                Ok(())
            }
            Named::Failed { error, is_spare, was_named } => {
                self.next_segment += u64::from(was_named);
                self.spares.extend(is_spare.then_some(naming.spare));
                Err(error)
            }
        }
    }

    /// Takes a file that is not among the spare ones to be named as the next segment, with none named for that.
    pub(crate) fn begin_naming_of(&mut self, spare: u64) -> Naming {
        self.is_naming = true;
        Naming { spare, number: self.next_segment, key: self.key }
    }

    /// What came of it: the file.
    pub(crate) fn end_naming_of(
        &mut self,
        naming: &Naming,
        outcome: Named,
    ) -> Result<Arc<dyn File>, DiskError> {
        self.is_naming = false;
        match outcome {
            Named::Done(file) => {
                self.next_segment = naming.number + 1;
                Ok(file)
            }
            Named::Failed { error, was_named, .. } => {
                self.next_segment += u64::from(was_named);
                Err(error)
            }
        }
    }

    /// The segment that was to come next is a spare file again, and its number is not used.
    pub(crate) fn free_ready(&mut self, disk: &dyn Disk) -> Result<(), DiskError> {
        let Some((number, _)) = &self.ready else { return Ok(()) };
        let number = *number;
        self.manifest.forget(disk, &[number])?;
        let spare = self.next_spare;
        self.next_spare += 1;
        let (from, to) = (FileName::Segment(number).to_string(), FileName::Spare(spare).to_string());
        if let Err(error) = disk.rename(&from, &to) {
            // It comes next after all.
            self.manifest.name(disk, number, false);
            return Err(error);
        }
        self.ready = None;
        self.spares.push(spare);
        Ok(())
    }

    /// Gives up a free segment, for the room that it takes. False if there is none.
    pub(crate) fn give_up(&mut self, disk: &dyn Disk) -> bool {
        let name = match (self.spares.pop(), self.ready.is_some()) {
            (Some(spare), _) => FileName::Spare(spare),
            (None, true) => {
                match self.ready.take_if(|(number, _)| self.manifest.forget(disk, &[*number]).is_ok()) {
                    Some((number, _)) => FileName::Segment(number),
                    None => return false,
                }
            }
            (None, false) => return false,
        };
        // A file that cannot be removed is found again at the next start.
        let _ = disk.remove(&name.to_string());
        true
    }

    /// Something in a segment is damaged: from now on its name says so, and it is not used again. False if that was
    /// known.
    pub(crate) fn mark_damaged(&mut self, number: u64, disk: &dyn Disk) -> Result<bool, DiskError> {
        let Some(segment) = self.files.get_mut(&number).filter(|segment| !segment.damaged) else {
            return Ok(false);
        };
        let (from, to) = (segment.name(number).to_string(), FileName::Damaged(number).to_string());
        disk.rename(&from, &to)?;
        segment.damaged = true;
        if let Ok(file) = disk.open(&to) {
            // Errors are to name it as it is called now.
            segment.file = file;
        }
        Ok(true)
    }

    /// Takes a segment out; its file is kept for later, or goes, or is set aside: then its name is given. If that fails
    /// it stays, to be tried again.
    pub(crate) fn retire(
        &mut self,
        number: u64,
        disk: &dyn Disk,
        (spares_max, usual_bytes): (usize, u64),
    ) -> Result<Option<String>, DiskError> {
        let Some(segment) = self.files.get(&number) else { return Ok(None) };
        let name = segment.name(number).to_string();
        let mut set_aside = None;
        if segment.damaged {
            set_aside = Some(aside::set_aside(disk, &name)?);
        } else if segment.suspicious || segment.bytes != usual_bytes || self.spares.len() >= spares_max {
            disk.remove(&name)?;
        } else {
            let spare = self.next_spare;
            self.next_spare += 1;
            disk.rename(&name, &FileName::Spare(spare).to_string())?;
            self.spares.push(spare);
        }
        self.files.remove(&number);
        Ok(set_aside)
    }
}

/// Reads the header of a file, or what it says once more.
pub(crate) fn read_header(file: &dyn File) -> Result<Opening, DiskError> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    let first = file.read_at(&mut bytes, 0).map(|_| SegmentHeader::decode(&bytes));
    if matches!(first, Ok(Opening::Unreadable) | Err(_)) {
        bytes.fill(0);
        let again = file.read_at(&mut bytes, SEGMENT_HEADER_AGAIN_AT).map(|_| SegmentHeader::decode(&bytes));
        if let Ok(again @ Opening::Segment(_)) = again {
            return Ok(again);
        }
    }
    first
}

/// Where the first batch of a segment is.
pub(crate) const FIRST_BATCH_AT: u64 = BLOCK_BYTES;
