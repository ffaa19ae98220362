//! `DATA_DIR/lock`: a data folder is one broker's at a time.
//!
//! The file holds the process id of the broker, in decimal, and a newline. It is locked for as long as
//! that broker runs, however it ends, and stays behind; what counts is the lock.

use anyhow::{Context, bail};
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// The file's name in the data folder.
const FILE_NAME: &str = "lock";
/// Readable by everybody, writable by its owner alone.
const MODE: u32 = 0o644;
/// The most bytes that a process id takes.
const PID_BYTES_MAX: u64 = 20;

/// The right to use a data folder, until it is dropped.
#[derive(Debug)]
pub struct DataFolder {
    _lock: Option<File>,
}

impl DataFolder {
    /// Takes a folder that is there.
    ///
    /// # Errors
    /// If another broker has it, or the file cannot be written.
    pub fn take(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE_NAME);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(MODE);
        let mut file = options.open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        lock(&mut file, folder)?;
        // Written in place and cut then: what takes the room of the one before has it on a full disk too.
        let id = format!("{}\n", std::process::id());
        let write = file.write_all(id.as_bytes()).and_then(|()| file.set_len(id.len() as u64));
        match write {
            // What counts is the lock.
            Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                tracing::warn!("cannot write {}: {error}", path.display());
            }
            write => write.with_context(|| format!("cannot write {}", path.display()))?,
        }
        Ok(Self { _lock: Some(file) })
    }

    /// Takes a folder to look into it alone: it may be one that nobody can write to.
    ///
    /// # Errors
    /// If a broker has it.
    pub fn look(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE_NAME);
        let opened = match File::open(&path) {
            // No broker has ever had it, or it is a copy without that.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(MODE).open(&path)
            }
            opened => opened,
        };
        match opened {
            Ok(mut file) => {
                lock(&mut file, folder)?;
                Ok(Self { _lock: Some(file) })
            }
            // Then no broker can have it either.
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => Ok(Self { _lock: None }),
            Err(error) => Err(error).with_context(|| format!("cannot open {}", path.display())),
        }
    }
}

fn lock(file: &mut File, folder: &Path) -> anyhow::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => bail!(
            "another broker{} uses the data folder {}; --data-dir chooses another",
            process(file),
            folder.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", folder.join(FILE_NAME).display()))
        }
    }
}

/// Who holds the lock, for people to read; nothing if the file does not say.
fn process(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(PID_BYTES_MAX).read_to_string(&mut text) {
        Ok(_) if text.trim_end().parse::<u32>().is_ok() => format!(" (process {})", text.trim_end()),
        Ok(_) | Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_brokers_at_a_time() {
        let folder = std::env::temp_dir().join(format!("leveret-data-folder-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let first = DataFolder::take(&folder).unwrap();
        let refused = DataFolder::take(&folder).unwrap_err().to_string();
        assert!(refused.contains(&format!("(process {})", std::process::id())), "{refused}");
        assert!(refused.contains(&folder.display().to_string()), "{refused}");
        assert_eq!(DataFolder::look(&folder).unwrap_err().to_string(), refused, "not to look into either");
        drop(first);
        DataFolder::take(&folder).unwrap();
        // Whoever looks holds off brokers too, whether there was one before or not.
        for was_used in [true, false] {
            if !was_used {
                std::fs::remove_file(folder.join(FILE_NAME)).unwrap();
            }
            let looks = DataFolder::look(&folder).unwrap();
            assert!(DataFolder::take(&folder).is_err(), "{was_used}");
            drop(looks);
            drop(DataFolder::take(&folder).unwrap());
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
