//! Compiled code on disk, so that a restart need not compile again.
//!
//! One file for each component, compiler and configuration. Layout: [`MAGIC`] (8 bytes), a MAC
//! (32 bytes), the serialized code. The MAC is HMAC-SHA256 over what the code was compiled from and
//! for ([`CodeKey`], 32 bytes) and the code, by a random key of 32 bytes in the file `key` beside
//! (mode 0600). So a file that somebody else wrote, changed or renamed is not taken: whoever could
//! make one that is taken is this user already.

use crate::{artifact::Digest, engine::CodeStrategy, private_dir::PrivateDir};
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    hash::{Hash as _, Hasher},
    io::{self, Read as _},
    path::Path,
    time::SystemTime,
};
use wasmtime::Engine;

/// How much code is kept if nobody says otherwise, in bytes.
pub const CACHE_BYTES_MAX: u64 = 1 << 30;

const MAGIC: &[u8; 8] = b"lvrcode1";
const MAC_BYTES: usize = 32;
const HEADER_BYTES: usize = MAGIC.len() + MAC_BYTES;
/// The file with the key of the MACs.
const KEY_FILE: &str = "key";
/// How the names of the files with code end.
const SUFFIX: &str = ".code";

type HmacSha256 = Hmac<Sha256>;

/// What code was compiled from and for: SHA-256 over the component's digest, the compiler, and all
/// that wasmtime says decides whether an engine can take the code (its version, the target, the CPU
/// features, the settings).
pub(super) struct CodeKey([u8; 32]);

impl CodeKey {
    pub(super) fn new(engine: &Engine, strategy: CodeStrategy, digest: Digest) -> Self {
        let mut hash = Hashing(Sha256::new());
        hash.write(&digest.0);
        hash.write(strategy.as_str().as_bytes());
        engine.precompile_compatibility_hash().hash(&mut hash);
        Self(hash.0.finalize().into())
    }

    fn file_name(&self) -> String {
        let mut name: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        name.push_str(SUFFIX);
        name
    }
}

/// SHA-256 of what is hashed. Not the same on other kinds of machines, which nobody asks for.
struct Hashing(Sha256);

impl Hasher for Hashing {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Not used: all of the hash is taken.
    fn finish(&self) -> u64 {
        0
    }
}

/// Code that was found, with its header in front.
pub(super) struct CachedCode(Vec<u8>);

impl CachedCode {
    pub(super) fn code(&self) -> &[u8] {
        self.0.get(HEADER_BYTES..).unwrap_or_default()
    }
}

/// A directory with compiled code.
pub(super) struct CodeCache {
    dir: PrivateDir,
    key: [u8; 32],
    bytes_max: u64,
}

impl CodeCache {
    /// The cache in this directory, made if it is not there, of at most so many bytes.
    ///
    /// # Errors
    /// If the directory cannot be made or others can reach it, or there is no key.
    pub(super) fn open(path: &Path, bytes_max: u64) -> io::Result<Self> {
        let dir = PrivateDir::open(path)?;
        let key = match dir.read(KEY_FILE, 33)?.map(<[u8; 32]>::try_from) {
            Some(Ok(key)) => key,
            // Whatever else is there, nothing was made with it.
            Some(Err(_)) | None => {
                let mut key = [0; 32];
                fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
                dir.write(KEY_FILE, &[&key])?;
                key
            }
        };
        Ok(Self { dir, key, bytes_max })
    }

    /// Whether something is there for this key, whoever wrote it.
    pub(super) fn has(&self, key: &CodeKey) -> bool {
        self.dir.path().join(key.file_name()).is_file()
    }

    /// What is there for this key. A file that is not ours is logged, and nothing.
    pub(super) fn read(&self, key: &CodeKey) -> Option<CachedCode> {
        let name = key.file_name();
        let ignored = |why: &str| {
            tracing::warn!(
                target: "leveret::plugin",
                "a file in the cache of compiled code is ignored: {}: {why}",
                self.dir.path().join(&name).display()
            );
        };
        let file = match self.dir.read(&name, self.bytes_max) {
            Ok(file) => file?,
            Err(error) => {
                ignored(&error.to_string());
                return None;
            }
        };
        if !self.verifies(key, &file) {
            ignored("this broker did not write it");
            return None;
        }
        // It is among the newest now. If not, it goes earlier than it should.
        if let Ok(open) = fs::File::options().write(true).open(self.dir.path().join(&name)) {
            let _ = open.set_modified(SystemTime::now());
        }
        Some(CachedCode(file))
    }

    /// Keeps this code, and removes the oldest if there is too much. What fails is logged.
    pub(super) fn write(&self, key: &CodeKey, code: &[u8]) {
        if (HEADER_BYTES + code.len()) as u64 > self.bytes_max {
            return;
        }
        let written = self.mac(key, code).and_then(|mac| {
            self.dir.write(&key.file_name(), &[MAGIC, &mac.finalize().into_bytes(), code])?;
            self.prune()
        });
        if let Err(error) = written {
            tracing::warn!(
                target: "leveret::plugin",
                "compiled code is not kept in {}: {error}", self.dir.path().display()
            );
        }
    }

    fn mac(&self, key: &CodeKey, code: &[u8]) -> io::Result<HmacSha256> {
        let mut mac = HmacSha256::new_from_slice(&self.key).map_err(io::Error::other)?;
        mac.update(&key.0);
        mac.update(code);
        Ok(mac)
    }

    fn verifies(&self, key: &CodeKey, file: &[u8]) -> bool {
        let Some((magic, rest)) = file.split_first_chunk::<8>() else { return false };
        let Some((mac, code)) = rest.split_first_chunk::<MAC_BYTES>() else { return false };
        // Compared in constant time.
        magic == MAGIC && self.mac(key, code).is_ok_and(|made| made.verify_slice(mac).is_ok())
    }

    fn prune(&self) -> io::Result<()> {
        let mut files = self.dir.files()?;
        files.retain(|(name, _)| name.ends_with(SUFFIX));
        files.sort_by_key(|(_, metadata)| metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH));
        let mut bytes: u64 = files.iter().map(|(_, metadata)| metadata.len()).sum();
        for (name, metadata) in files {
            if bytes <= self.bytes_max {
                break;
            }
            self.dir.remove(&name);
            bytes = bytes.saturating_sub(metadata.len());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::Engines, testing::Scratch};

    fn key(text: &str) -> CodeKey {
        let engines = Engines::new().unwrap();
        let strategy = CodeStrategy::Cranelift;
        CodeKey::new(engines.engine(strategy).unwrap(), strategy, Digest::of(text.as_bytes()))
    }

    #[test]
    fn a_key_follows_from_the_component_the_compiler_and_the_engine() {
        let engines = Engines::new().unwrap();
        let [cranelift, winch] = [CodeStrategy::Cranelift, CodeStrategy::Winch];
        let (engine, digest) = (engines.engine(cranelift).unwrap(), Digest::of(b"a"));
        let alone = crate::engine::compiling_engine(cranelift).unwrap();
        let made = |engine, strategy, digest| CodeKey::new(engine, strategy, digest).0;
        let first = made(engine, cranelift, digest);
        assert_eq!(first, made(&alone, cranelift, digest));
        assert_ne!(first, made(engine, cranelift, Digest::of(b"b")));
        assert_ne!(first, made(engine, winch, digest));
        assert_ne!(first, made(engines.engine(winch).unwrap(), cranelift, digest));
    }

    #[test]
    fn what_was_written_is_there_after_a_restart() {
        let scratch = Scratch::new();
        let path = scratch.path().join("cache");
        CodeCache::open(&path, 1000).unwrap().write(&key("a"), b"code");
        let cache = CodeCache::open(&path, 1000).unwrap();
        assert_eq!(cache.read(&key("a")).unwrap().code(), b"code");
        assert!(cache.read(&key("b")).is_none());
    }

    #[test]
    fn every_changed_bit_every_cut_and_every_other_name_is_noticed() {
        let scratch = Scratch::new();
        let path = scratch.path().join("cache");
        let cache = CodeCache::open(&path, 1000).unwrap();
        let (a, b) = (key("a"), key("b"));
        cache.write(&a, b"code");
        let good = fs::read(path.join(a.file_name())).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!cache.verifies(&a, &bad), "bit {bit}");
        }
        for length in 0..good.len() {
            assert!(!cache.verifies(&a, &good[..length]), "{length} bytes");
        }
        fs::rename(path.join(a.file_name()), path.join(b.file_name())).unwrap();
        assert!(cache.read(&b).is_none(), "it is another component's");
        cache.write(&b, b"other");
        assert_eq!(cache.read(&b).unwrap().code(), b"other", "it is replaced");
    }

    #[test]
    fn another_key_makes_nothing_of_what_is_there() {
        let scratch = Scratch::new();
        let path = scratch.path().join("cache");
        CodeCache::open(&path, 1000).unwrap().write(&key("a"), b"code");
        fs::remove_file(path.join(KEY_FILE)).unwrap();
        assert!(CodeCache::open(&path, 1000).unwrap().read(&key("a")).is_none());
    }

    #[test]
    fn the_oldest_goes_when_there_is_too_much() {
        let scratch = Scratch::new();
        let path = scratch.path().join("cache");
        let cache = CodeCache::open(&path, 300).unwrap();
        let age = |name: &str, seconds: u64| {
            let file = fs::File::options().write(true).open(path.join(key(name).file_name())).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).unwrap();
        };
        cache.write(&key("a"), &[0; 100]);
        cache.write(&key("b"), &[0; 100]);
        age("a", 1);
        age("b", 2);
        // Used, and so younger than b.
        assert!(cache.read(&key("a")).is_some());
        cache.write(&key("c"), &[0; 100]);
        assert!(cache.read(&key("b")).is_none());
        assert!(cache.read(&key("a")).is_some() && cache.read(&key("c")).is_some());
        cache.write(&key("d"), &[0; 301]);
        assert!(cache.read(&key("d")).is_none(), "it would take all there is");
    }
}
