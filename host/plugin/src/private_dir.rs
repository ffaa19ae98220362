//! Directories that only the user of this process can look into, and files in them that are whole
//! or not there.

use std::{
    fs, io,
    io::{Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// How the name of a file ends that is being written.
const UNFINISHED: &str = ".unfinished";

/// A directory of mode 0700 that belongs to the user of this process.
pub(crate) struct PrivateDir(PathBuf);

impl PrivateDir {
    /// The directory of that path, made if it is not there. What was not written to the end there is
    /// removed, so nobody else may write in it meanwhile.
    ///
    /// # Errors
    /// If it cannot be made, is no directory (a link to one is none), belongs to somebody else,
    /// or others may look into it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let dir = Self::existing(path)?;
        for (name, _) in dir.files()? {
            if name.ends_with(UNFINISHED) {
                dir.remove(&name);
            }
        }
        Ok(dir)
    }

    /// The directory of that path, to read from while somebody else may write.
    ///
    /// # Errors
    /// If it is not there, and as for [`Self::open`].
    pub(crate) fn existing(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        if !metadata.is_dir() {
            return Err(denied("it is not a directory; links are not followed"));
        }
        own(&metadata)?;
        Ok(Self(path.to_path_buf()))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The content of a file; `None` if it is not there.
    ///
    /// # Errors
    /// If it cannot be read, is no file or not our own, or has more bytes.
    pub(crate) fn read(&self, name: &str, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        let path = self.0.join(name);
        let metadata = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => metadata?,
        };
        if !metadata.is_file() {
            return Err(denied("it is not a file; links are not followed"));
        }
        own(&metadata)?;
        if metadata.len() > bytes_max {
            return Err(denied("it is too large"));
        }
        let mut content = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
        fs::File::open(&path)?.take(bytes_max).read_to_end(&mut content)?;
        Ok(Some(content))
    }

    /// Writes a file of these parts one after the other, in place of one of that name. Whoever
    /// reads it, also after a crash, finds the old content or the new one.
    pub(crate) fn write(&self, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let aside = self.0.join(format!("{name}.{}-{number}{UNFINISHED}", std::process::id()));
        let written = (|| {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
            parts.iter().try_for_each(|part| file.write_all(part))?;
            file.sync_all()?;
            fs::rename(&aside, self.0.join(name))?;
            fs::File::open(&self.0)?.sync_all()
        })();
        if written.is_err() {
            // Best effort: the next start looks for it again.
            let _ = fs::remove_file(&aside);
        }
        written
    }

    /// Removes a file, if it is there.
    pub(crate) fn remove(&self, name: &str) {
        let path = self.0.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(target: "leveret::plugin", "cannot remove {}: {error}", path.display());
            }
            _ => {}
        }
    }

    /// The regular files in it.
    pub(crate) fn files(&self) -> io::Result<Vec<(String, fs::Metadata)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            // It may be gone by now; names that are not ours are left alone.
            if let (Ok(metadata), Ok(name)) = (entry.metadata(), entry.file_name().into_string())
                && metadata.is_file()
            {
                files.push((name, metadata));
            }
        }
        Ok(files)
    }
}

/// That it is ours and nobody else may look at it.
fn own(metadata: &fs::Metadata) -> io::Result<()> {
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(denied("it belongs to another user"));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(denied("other users may look at it; take that right away (chmod go=)"));
    }
    Ok(())
}

fn denied(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn files_are_written_whole_and_read_with_a_limit() {
        let scratch = Scratch::new();
        let dir = PrivateDir::open(&scratch.path().join("a/b")).unwrap();
        assert_eq!(dir.read("file", 9).unwrap(), None);
        dir.write("file", &[b"one ", b"two"]).unwrap();
        assert_eq!(dir.read("file", 7).unwrap().unwrap(), b"one two");
        assert!(dir.read("file", 6).is_err());
        dir.write("file", &[b"three"]).unwrap();
        assert_eq!(dir.read("file", 9).unwrap().unwrap(), b"three");
        assert_eq!(dir.files().unwrap().len(), 1, "nothing unfinished is left");
    }

    #[test]
    fn what_others_can_reach_is_not_used() {
        let scratch = Scratch::new();
        let path = scratch.path().join("dir");
        let dir = PrivateDir::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        dir.write("file", &[b"x"]).unwrap();
        fs::set_permissions(path.join("file"), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(dir.read("file", 9).is_err());
        std::os::unix::fs::symlink("file", path.join("link")).unwrap();
        assert!(dir.read("link", 9).is_err());
        std::os::unix::fs::symlink(&path, scratch.path().join("linked")).unwrap();
        assert!(PrivateDir::open(&scratch.path().join("linked")).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(PrivateDir::open(&path).is_err());
    }

    #[test]
    fn what_a_crash_left_unfinished_is_removed() {
        let scratch = Scratch::new();
        fs::write(scratch.path().join(format!("file.1-2{UNFINISHED}")), b"x").unwrap();
        let dir = PrivateDir::open(scratch.path()).unwrap();
        assert!(dir.files().unwrap().is_empty());
    }
}
