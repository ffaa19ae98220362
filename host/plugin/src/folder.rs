//! May plugins be taken from a folder? Who can write there runs code in the broker, so only its own
//! user and root may. And how a virtual host's folder is called, whatever the virtual host is called.

use crate::artifact::Digest;
use leveret_model::Name;
use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The mode bits by which others than the owner may write.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// The longest name of a folder that is made of a virtual host's, in bytes; what is longer is cut and
/// told apart by its digest.
const FOLDER_NAME_BYTES_MAX: usize = 200;

/// Why no plugins are taken from a folder.
#[derive(Debug)]
pub enum FolderError {
    /// It cannot be looked at.
    Unreadable(PathBuf, io::Error),
    /// It is a link, or no folder.
    NotAFolder(PathBuf),
    /// It belongs to somebody else.
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// The user that owns it.
        owner: u32,
        /// The user that the broker runs as.
        user: u32,
    },
    /// Others than the owner may write there.
    Writable {
        /// The folder.
        folder: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

impl fmt::Display for FolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(folder, error) => write!(f, "cannot read {}: {error}", folder.display()),
            Self::NotAFolder(folder) => {
                write!(f, "{} is not a folder itself; links are not followed", folder.display())
            }
            Self::Foreign { folder, owner, user } => write!(
                f,
                "{} belongs to user {owner}, and the broker runs as user {user}: whoever writes there runs \
                 code in the broker",
                folder.display()
            ),
            Self::Writable { folder, mode } => write!(
                f,
                "{} may be written by others than its owner (mode {mode:03o}), who would run code in the \
                 broker; chmod go-w makes it safe",
                folder.display()
            ),
        }
    }
}

impl std::error::Error for FolderError {}

/// Checks that a folder is one itself, that it belongs to the user of this process or to root, and
/// that nobody else may write there.
///
/// # Errors
/// What is wrong with it.
pub fn check(folder: &Path) -> Result<(), FolderError> {
    let metadata =
        fs::symlink_metadata(folder).map_err(|error| FolderError::Unreadable(folder.into(), error))?;
    if !metadata.is_dir() {
        return Err(FolderError::NotAFolder(folder.into()));
    }
    judge(folder, metadata.uid(), metadata.mode(), rustix::process::geteuid().as_raw())
}

fn judge(folder: &Path, owner: u32, mode: u32, user: u32) -> Result<(), FolderError> {
    if owner != user && owner != 0 {
        return Err(FolderError::Foreign { folder: folder.into(), owner, user });
    }
    if mode & WRITABLE_BY_OTHERS != 0 {
        return Err(FolderError::Writable { folder: folder.into(), mode: mode & 0o777 });
    }
    Ok(())
}

/// A virtual host's name as that of a folder: `%2F` for `/`. No two names give the same.
#[must_use]
pub fn name_of(vhost: &Name) -> String {
    let mut name = String::new();
    for (at, byte) in vhost.as_bytes().iter().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || b"-_".contains(byte) || (*byte == b'.' && at > 0);
        if plain {
            name.push(char::from(*byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    if name.len() > FOLDER_NAME_BYTES_MAX {
        name.truncate(FOLDER_NAME_BYTES_MAX);
        // `%` and a lower-case letter is no escape, so this is no other name's folder.
        name.push_str(&format!("%x{}", Digest::of(vhost.as_bytes())));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_brokers_user_and_root_may_write() {
        let folder = Path::new("plugins");
        for (owner, mode) in [(1_000, 0o700), (1_000, 0o755), (0, 0o755)] {
            judge(folder, owner, mode, 1_000).unwrap();
        }
        let refused = |owner, mode| judge(folder, owner, mode, 1_000).unwrap_err().to_string();
        assert!(refused(1_001, 0o755).contains("belongs to user 1001"));
        assert!(refused(1_000, 0o40_775).contains("(mode 775)"));
        assert!(refused(0, 0o757).contains("(mode 757)"));
        assert!(judge(folder, 1_000, 0o755, 0).is_err(), "root trusts root alone");
    }

    #[test]
    fn a_folder_is_one_itself() {
        let own = std::env::current_exe().unwrap();
        assert!(matches!(check(&own), Err(FolderError::NotAFolder(_))));
        assert!(matches!(check(&own.join("no-such")), Err(FolderError::Unreadable(..))));
    }

    #[test]
    fn names_of_folders_are_plain_and_all_different() {
        let of = |name: &[u8]| name_of(&Name::new(name).unwrap());
        for (name, folder) in [
            ("/", "%2F"),
            ("tenant-a", "tenant-a"),
            ("..", "%2E."),
            (".hidden", "%2Ehidden"),
            ("a/../b", "a%2F..%2Fb"),
            ("%2F", "%252F"),
            ("ü", "%C3%BC"),
        ] {
            assert_eq!(of(name.as_bytes()), folder);
        }
        let (one, other) = (of(&[b'/'; 255]), of(&[b'/'; 254]));
        assert!(one != other && one.len() < 255 && one.starts_with("%2F%2F"), "{one}");
    }
}
