//! The disk, as the store sees it: one directory of files.
//!
//! *Not here:* what is in the files. [`real`] is a directory; [`sim`] is memory that loses, tears and
//! refuses, by a seed.
//!
//! *What an implementation promises:* what was written before a [`File::sync`] that succeeded is there
//! after a crash, if the file's name is; a name is after [`Disk::sync_names`]. After a sync that
//! failed nothing is known of what was written since the last one that did not, however often it is
//! tried again.

pub mod real;
pub mod sim;

use crate::error::DiskError;
use std::sync::Arc;

/// A directory.
pub trait Disk: Send + Sync {
    /// How many bytes may still be written there by whom has no privileges; `None` where nobody can tell.
    fn free_bytes(&self) -> Option<u64> {
        None
    }

    /// The names of all files, in no order.
    ///
    /// # Errors
    /// If the directory cannot be read.
    fn list(&self) -> Result<Vec<String>, DiskError>;

    /// A new file of that many bytes, all zero, which are written and synced: writing them again needs
    /// no space and no change of the file's own data. The name is not synced.
    ///
    /// # Errors
    /// If there is no space, or a file of that name; then no file is left behind.
    fn create(&self, name: &str, bytes: u64) -> Result<Arc<dyn File>, DiskError>;

    /// The same in less time, where that is possible: the room is taken, but the zeros are not written, so that the
    /// first sync of what is written there takes longer.
    ///
    /// # Errors
    /// As for [`Self::create`].
    fn create_quickly(&self, name: &str, bytes: u64) -> Result<Arc<dyn File>, DiskError> {
        self.create(name, bytes)
    }

    /// A file that is there, to read and write.
    ///
    /// # Errors
    /// If it is not there or may not be opened.
    fn open(&self, name: &str) -> Result<Arc<dyn File>, DiskError>;

    /// Gives a file another name; a file that has it goes.
    ///
    /// # Errors
    /// If that is not possible; then the names are as before.
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Removes a file. Whoever has it open can still use it.
    ///
    /// # Errors
    /// If it is not there or may not be removed.
    fn remove(&self, name: &str) -> Result<(), DiskError>;

    /// Returns when creations, renames and removals are on disk.
    ///
    /// # Errors
    /// If that failed: then nothing is known of them.
    fn sync_names(&self) -> Result<(), DiskError>;
}

/// An open file.
pub trait File: Send + Sync {
    /// Its length in bytes.
    ///
    /// # Errors
    /// If it cannot be told.
    fn len_bytes(&self) -> Result<u64, DiskError>;

    /// Writes all bytes at an offset.
    ///
    /// # Errors
    /// If it failed; some bytes may be written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError>;

    /// Reads up to as many bytes as there is room for, fewer only at the end of the file. Returns how
    /// many.
    ///
    /// # Errors
    /// If it failed.
    fn read_at(&self, room: &mut [u8], offset: u64) -> Result<usize, DiskError>;

    /// Returns when what was written is on disk (`fdatasync`).
    ///
    /// # Errors
    /// If that failed: then nothing is known of what was written since the last time.
    fn sync(&self) -> Result<(), DiskError>;

    /// Says what comes next, as a hint.
    fn advise(&self, advice: Advice, offset: u64, bytes: u64);
}

/// What is to come of a part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// It is read soon.
    WillRead,
    /// It is not used for long.
    Done,
}
