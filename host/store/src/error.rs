//! What can go wrong, as values.

use crate::Refusal;
use core::fmt;
use std::io;

/// An operation on the disk failed.
#[derive(Debug)]
pub struct DiskError {
    /// What was tried: `write`, `sync`.
    pub operation: &'static str,
    /// The name of the file, within the store's directory.
    pub file: String,
    /// What the system said.
    pub error: io::Error,
}

impl DiskError {
    pub(crate) fn new(operation: &'static str, file: &str, error: io::Error) -> Self {
        Self { operation, file: file.to_owned(), error }
    }

    /// Whether there is no space: deleting something may help.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// What to do about it.
    pub(crate) fn help(&self) -> &'static str {
        use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        match self.error.kind() {
            StorageFull => "make room on its file system",
            QuotaExceeded => "make room, or raise the quota of who runs the broker",
            ReadOnlyFilesystem => {
                "its file system was made read-only, as after an error: see the kernel's log, and mount it writable"
            }
            PermissionDenied => "let who runs the broker write to the directory",
            _ => {
                "see the kernel's log for the device; if it does not recover, stop the broker, move the directory to another one and start again"
            }
        }
    }

    /// Whether a resource of the process or the system is short for now: files that may be open, memory. What is on
    /// the disk may be sound.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        use rustix::io::Errno;
        let short = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN];
        self.error.raw_os_error().is_some_and(|error| short.iter().any(|short| short.raw_os_error() == error))
    }

    /// Whether the file is not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.error.kind() == io::ErrorKind::NotFound
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}: {}", self.operation, self.file, self.error)
    }
}

impl std::error::Error for DiskError {}

/// Why a group was not taken. Nothing of it was written, nor will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The disk is full, or no file can be made. Groups that only take away (acks, deletions) are still taken;
    /// the rest again once there is space.
    Full,
    /// More is waiting to be written than may; try again after a completion.
    Behind,
    /// The group has more bytes than a group may have.
    TooLarge,
    /// The store is closed, or cannot go on; [`crate::Health`] says why.
    Closed,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the disk is full",
            Self::Behind => "the disk is behind",
            Self::TooLarge => "more at once than the store takes",
            Self::Closed => "the store is closed",
        })
    }
}

impl std::error::Error for Refused {}

/// Why a store is not opened. Whatever else is wrong with the files is reported, and the rest
/// serves.
#[derive(Debug)]
pub enum OpenError {
    /// The directory cannot be used at all.
    Disk(DiskError),
    /// A file was written by a newer version of the format. Nothing was changed.
    Newer {
        /// Its name.
        file: String,
        /// The version that it says.
        version: u32,
    },
    /// What is there cannot be read now, or what a checkpoint had is nowhere. Nothing was changed: going on would use
    /// again what may only be out of reach. [`crate::Store::salvage`] goes on all the same.
    Refused(Refusal),
    /// The disk is full: so many bytes more are needed, to write again what may not be on disk, for a checkpoint
    /// or for a name.
    /// Nothing was written over.
    Full {
        /// How many.
        bytes: u64,
    },
    /// Sizes that do not go together.
    Config(&'static str),
}

impl From<DiskError> for OpenError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => error.fmt(f),
            Self::Newer { file, version } => {
                write!(f, "{file} is of format {version}, which a newer version of the broker wrote")
            }
            Self::Refused(refusal) => write!(f, "{refusal}; nothing was changed"),
            Self::Full { bytes } => write!(
                f,
                "the disk is full: {} MiB more are needed to start, for what may not be on disk yet and is written again, and for \
                 a checkpoint",
                bytes.div_ceil(1 << 20)
            ),
            Self::Config(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for OpenError {}
