//! A directory of the system.

use super::{Advice, Disk, File};
use crate::error::DiskError;
use rustix::fs::{Mode, OFlags};
use std::{
    fs, io,
    num::NonZeroU64,
    os::unix::fs::{DirBuilderExt as _, FileExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

/// How many zeros are written at once.
const ZEROS: &[u8] = &[0; 256 * 1024];

/// A directory of mode 0700.
pub struct RealDisk {
    path: PathBuf,
}

struct RealFile {
    name: String,
    file: fs::File,
}

impl RealDisk {
    /// The directory of that path, made if it is not there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let failed = |error| DiskError::new("open", &path.to_string_lossy(), error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        Ok(Self { path: path.to_path_buf() })
    }

    fn open_with(&self, name: &str, flags: OFlags) -> Result<RealFile, DiskError> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let open = |flags| rustix::fs::open(self.path.join(name), flags, Mode::RUSR | Mode::WUSR);
        let opened = match open(flags | OFlags::RDWR) {
            // To be looked at only; writing to it will fail.
            Err(rustix::io::Errno::ROFS) if !flags.contains(OFlags::CREATE) => open(flags | OFlags::RDONLY),
            opened => opened,
        };
        match opened {
            Ok(file) => Ok(RealFile { name: name.to_owned(), file: file.into() }),
            Err(error) => Err(DiskError::new("open", name, error.into())),
        }
    }
}

impl RealDisk {
    fn create_with(
        &self,
        name: &str,
        fill: impl FnOnce(&fs::File) -> io::Result<()>,
    ) -> Result<Arc<dyn File>, DiskError> {
        let file = self.open_with(name, OFlags::CREATE | OFlags::EXCL)?;
        let filled = fill(&file.file).map_err(|error| DiskError::new("fill", name, error));
        if let Err(error) = filled {
            drop(file);
            // What stays if this fails too is recognised at the next start.
            let _ = fs::remove_file(self.path.join(name));
            return Err(error);
        }
        Ok(Arc::new(file))
    }
}

impl Disk for RealDisk {
    fn free_bytes(&self) -> Option<u64> {
        let system = rustix::fs::statvfs(&self.path).ok()?;
        Some(system.f_bavail.saturating_mul(system.f_frsize))
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        let failed = |error| DiskError::new("list", ".", error);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_type().map_err(failed)?.is_file() {
                names.extend(entry.file_name().into_string().ok());
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str, bytes: u64) -> Result<Arc<dyn File>, DiskError> {
        self.create_with(name, |file| fill(file, bytes, false))
    }

    fn create_quickly(&self, name: &str, bytes: u64) -> Result<Arc<dyn File>, DiskError> {
        self.create_with(name, |file| fill(file, bytes, true))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn File>, DiskError> {
        Ok(Arc::new(self.open_with(name, OFlags::empty())?))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        fs::rename(self.path.join(from), self.path.join(to))
            .map_err(|error| DiskError::new("rename", from, error))
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        fs::remove_file(self.path.join(name)).map_err(|error| DiskError::new("remove", name, error))
    }

    fn sync_names(&self) -> Result<(), DiskError> {
        fs::File::open(&self.path)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| DiskError::new("sync", ".", error))
    }
}

/// Writes zeros. Allocating alone would leave extents that each first write has to convert, which a
/// sync would then have to write too: that is for who cannot wait.
fn fill(file: &fs::File, bytes: u64, quickly: bool) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    // Fails at once where there is no space; a file system that cannot do it is filled all the same.
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        Ok(()) if quickly => return file.sync_all(),
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
        Err(error) => return Err(error.into()),
    }
    let mut done = 0;
    while done < bytes {
        let length = (bytes - done).min(ZEROS.len() as u64);
        file.write_all_at(ZEROS.get(..length as usize).unwrap_or(ZEROS), done)?;
        done += length;
    }
    file.sync_all()
}

impl RealFile {
    fn failed(&self, operation: &'static str) -> impl FnOnce(io::Error) -> DiskError {
        move |error| DiskError::new(operation, &self.name, error)
    }
}

impl File for RealFile {
    fn len_bytes(&self) -> Result<u64, DiskError> {
        Ok(self.file.metadata().map_err(self.failed("look"))?.len())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        self.file.write_all_at(bytes, offset).map_err(self.failed("write"))
    }

    fn read_at(&self, room: &mut [u8], offset: u64) -> Result<usize, DiskError> {
        let mut done = 0;
        while let Some(rest) = room.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(DiskError::new("read", &self.name, error)),
            }
        }
        Ok(done)
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.file.sync_data().map_err(self.failed("sync"))
    }

    fn advise(&self, advice: Advice, offset: u64, bytes: u64) {
        let advice = match advice {
            Advice::WillRead => rustix::fs::Advice::WillNeed,
            Advice::Done => rustix::fs::Advice::DontNeed,
        };
        // A hint: whether it was taken does not matter.
        let _ = rustix::fs::fadvise(&self.file, offset, NonZeroU64::new(bytes), advice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_has_its_length_and_zeros_however_it_was_made() {
        let path = std::env::temp_dir().join(format!("leveret-real-disk-{}", std::process::id()));
        let disk = RealDisk::open(&path).unwrap();
        let bytes = 3 * ZEROS.len() as u64 + 4096;
        disk.create("filled", bytes).unwrap();
        disk.create_quickly("quick", bytes).unwrap();
        for name in ["filled", "quick"] {
            let file = disk.open(name).unwrap();
            assert_eq!(file.len_bytes().unwrap(), bytes);
            let mut read = vec![1; bytes as usize + 1];
            assert_eq!(file.read_at(&mut read, 0).unwrap() as u64, bytes);
            assert!(read.iter().take(bytes as usize).all(|byte| *byte == 0));
            assert!(disk.create_quickly(name, bytes).is_err(), "its name is taken");
        }
        fs::remove_dir_all(path).unwrap();
    }
}
