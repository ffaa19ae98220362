//! `DATA_DIR/http-token`: how the command line finds the running broker and shows that it may ask.
//!
//! TOML, made anew at each start, readable by the broker's user alone:
//!
//! ```toml
//! address = "127.0.0.1:15672"
//! token = "64 hexadecimal digits"
//! ```

use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};
use std::{
    fmt, fs,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};
use subtle::ConstantTimeEq;

/// The file's name in the data folder.
pub const FILE_NAME: &str = "http-token";
/// The length of a token before it is written out.
const TOKEN_BYTES: usize = 32;
/// Readable and writable by its owner alone.
const MODE: u32 = 0o600;

/// A secret that a caller shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// One that nobody can guess.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub fn random() -> anyhow::Result<Self> {
        let mut bytes = [0; TOKEN_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| anyhow!("no random bytes: {error}"))?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// The token as it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether what a caller shows is this token; takes equally long wherever they differ.
    #[must_use]
    pub fn is(&self, shown: &str) -> bool {
        self.0.as_bytes().ct_eq(shown.as_bytes()).into()
    }
}

/// Without the secret, so that it does not get into a log.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// What the file tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenFile {
    /// Where to connect.
    pub address: SocketAddr,
    /// What to show.
    pub token: Token,
}

impl TokenFile {
    /// What to write for a broker that listens at `listening`: where that is every address of the
    /// machine, loopback is the way.
    #[must_use]
    pub fn new(listening: SocketAddr, token: Token) -> Self {
        let ip = match listening.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        Self { address: SocketAddr::new(ip, listening.port()), token }
    }

    /// Where the file is.
    #[must_use]
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join(FILE_NAME)
    }

    /// Writes the file. What was there stays whole until the new one takes its place.
    ///
    /// # Errors
    /// If the folder cannot be written to.
    pub fn write(&self, data_dir: &Path) -> anyhow::Result<()> {
        let path = Self::path(data_dir);
        let text = toml::to_string(self).context("the token file")?;
        let beside = data_dir.join(format!(".{FILE_NAME}.{}", std::process::id()));
        write_beside(&beside, &text)
            .and_then(|()| fs::rename(&beside, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads the file.
    ///
    /// # Errors
    /// If it is not there, belongs to somebody else, or is not such a file.
    pub fn read(data_dir: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(Self::path(data_dir))?;
        toml::from_str(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Removes the file, unless another broker has written its own meanwhile.
    pub fn remove(&self, data_dir: &Path) {
        if Self::read(data_dir).is_ok_and(|there| there == *self) {
            // A file that stays is no harm: its token is good for nothing without the broker.
            let _ = fs::remove_file(Self::path(data_dir));
        }
    }
}

fn write_beside(path: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // `create_new` follows no link and takes no file that somebody else has made.
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        // On a full disk it would stay as an empty file.
        let _ = fs::remove_file(path);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_testkit::ScratchDirectory;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn is_read_as_it_was_written_and_is_its_owners_alone() {
        let scratch = ScratchDirectory::new("token");
        let path = TokenFile::path(scratch.path());
        // What lies there may be a link to somewhere else, or readable by all.
        let elsewhere = scratch.path().join("elsewhere");
        fs::write(&elsewhere, "untouched").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        let file = TokenFile::new("0.0.0.0:80".parse().unwrap(), Token::random().unwrap());
        file.write(scratch.path()).unwrap();
        assert_eq!(TokenFile::read(scratch.path()).unwrap(), file);
        assert_eq!(file.address, "127.0.0.1:80".parse().unwrap());
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert!(metadata.is_file());
        assert_eq!(metadata.permissions().mode() & 0o777, MODE);
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "untouched");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn removing_leaves_the_file_of_another_broker() {
        let scratch = ScratchDirectory::new("token");
        let address = "[::1]:1".parse().unwrap();
        let first = TokenFile::new(address, Token::random().unwrap());
        let second = TokenFile::new(address, Token::random().unwrap());
        first.write(scratch.path()).unwrap();
        second.write(scratch.path()).unwrap();
        first.remove(scratch.path());
        assert_eq!(TokenFile::read(scratch.path()).unwrap(), second);
        second.remove(scratch.path());
        assert!(!TokenFile::path(scratch.path()).exists());
    }

    #[test]
    fn tokens_differ_and_are_long() {
        let (a, b) = (Token::random().unwrap(), Token::random().unwrap());
        assert_eq!(a.as_str().len(), 2 * TOKEN_BYTES);
        assert!(a.is(a.as_str()) && !a.is(b.as_str()) && !a.is("") && !a.is(&a.as_str()[1..]));
        assert!(!format!("{a:?}").contains(a.as_str()));
    }
}
