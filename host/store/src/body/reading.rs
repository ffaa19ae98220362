//! A body that is read in windows.

use crate::{
    DiskError,
    disk::{Advice, File},
    record::{check, op::ExtentRef},
};
use std::sync::Arc;

/// So much after what was read is fetched from the disk meanwhile.
const AHEAD_BYTES: u64 = 2 << 20;
/// How much is read at once of what nobody wants to see.
const SKIM_BYTES: u64 = 64 * 1024;

/// Why a body cannot be read.
#[derive(Debug)]
pub enum Unreadable {
    /// The disk says so.
    Disk(DiskError),
    /// It is not what was written.
    Damaged,
}

impl core::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Disk(error) => error.fmt(f),
            Self::Damaged => f.write_str("it is not what was written"),
        }
    }
}

impl std::error::Error for Unreadable {}

/// Reads a body from its front to its end.
pub struct BodyReader {
    file: Arc<dyn File>,
    extent: ExtentRef,
    at: u64,
    check: u32,
    fetched: u64,
}

impl BodyReader {
    pub(crate) fn new(file: Arc<dyn File>, extent: ExtentRef) -> Self {
        Self { file, extent, at: 0, check: 0, fetched: 0 }
    }

    /// Where it is.
    #[must_use]
    pub fn at_bytes(&self) -> u64 {
        self.at
    }

    /// How many bytes come.
    #[must_use]
    pub fn left_bytes(&self) -> u64 {
        self.extent.bytes - self.at
    }

    /// Appends the next bytes to `out`, as many as are wanted and there. With the last ones it is looked at whether all is
    /// as it was written.
    ///
    /// # Errors
    /// It cannot be read, or is damaged; then `out` is as before.
    pub fn read(&mut self, bytes: usize, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        let bytes = self.left_bytes().min(bytes as u64);
        if self.at + bytes > self.fetched {
            self.fetched = self.at + bytes + AHEAD_BYTES;
            self.file.advise(Advice::WillRead, self.at + bytes, AHEAD_BYTES);
        }
        let start = out.len();
        out.resize(start + bytes as usize, 0);
        let room = out.get_mut(start..).unwrap_or_default();
        let came = self.file.read_at(room, self.at).map_err(Unreadable::Disk);
        let is_sound = came.map(|came| {
            self.at += bytes;
            self.check = check::append(self.check, room);
            came as u64 == bytes && (self.left_bytes() > 0 || self.check == self.extent.check)
        });
        if !matches!(is_sound, Ok(true)) {
            out.truncate(start);
        }
        if is_sound? { Ok(()) } else { Err(Unreadable::Damaged) }
    }

    /// Reads on to that place, from the front, and drops what is there.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn skip_to(&mut self, at: u64) -> Result<(), Unreadable> {
        let mut skimmed = Vec::new();
        while self.at < at.min(self.extent.bytes) {
            skimmed.clear();
            self.read((at - self.at).min(SKIM_BYTES) as usize, &mut skimmed)?;
        }
        Ok(())
    }

    /// Reads the rest and drops it.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn check_rest(&mut self) -> Result<(), Unreadable> {
        self.skip_to(self.extent.bytes)
    }
}
