//! A plugin's file: is it whole, is it a component at all, and which one is it.

use sha2::{Digest as _, Sha256};
use std::{fmt, io::Read as _, path::Path};

/// The largest file taken, in bytes: a Python component has about 20 MB.
pub const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The SHA-256 of a plugin's file: tells versions apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// All of its 64 hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The digest that has these 64 hexadecimal digits.
    #[must_use]
    pub fn of_hex(text: &str) -> Option<Self> {
        let mut digest = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (at, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(Self(digest))
    }
}

/// Twelve hexadecimal digits, as people tell files apart.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(6).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Why a file is no plugin.
#[derive(Debug)]
pub enum ArtifactError {
    /// It cannot be read.
    Unreadable(std::io::Error),
    /// It has no bytes.
    Empty,
    /// It has more than [`FILE_BYTES_MAX`] bytes.
    TooLarge {
        /// How many it has.
        bytes: u64,
    },
    /// It ends before it should: perhaps it is still being written.
    Truncated {
        /// How many bytes it has.
        bytes: u64,
        /// The fewest it must have, from what can be read.
        bytes_min: u64,
    },
    /// A component in the text format.
    Text,
    /// A WebAssembly module that no component was made of.
    CoreModule,
    /// WebAssembly of a version that this broker does not know.
    UnknownVersion([u8; 4]),
    /// No WebAssembly at all.
    NotWebAssembly,
}

impl fmt::Display for ArtifactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "the file cannot be read: {error}"),
            Self::Empty => f.write_str("the file is empty"),
            Self::TooLarge { bytes } => {
                write!(f, "the file has {bytes} bytes; the most is {FILE_BYTES_MAX}")
            }
            Self::Truncated { bytes, bytes_min } => {
                write!(f, "the file ends after {bytes} bytes and should have at least {bytes_min}")
            }
            Self::Text => f.write_str("the file is WebAssembly text; convert it to a binary component"),
            Self::CoreModule => f.write_str(
                "the file is a core WebAssembly module, not a component; build it for wasm32-wasip2 or make a \
                 component of it",
            ),
            Self::UnknownVersion(version) => {
                write!(f, "the file is WebAssembly of the unknown version {version:02x?}")
            }
            Self::NotWebAssembly => f.write_str("the file is not WebAssembly"),
        }
    }
}

impl std::error::Error for ArtifactError {}

/// Reads a file that may be a plugin.
///
/// # Errors
/// If it cannot be read or is larger than [`FILE_BYTES_MAX`]; what it contains is not looked at.
pub fn read(path: &Path) -> Result<Vec<u8>, ArtifactError> {
    let file = std::fs::File::open(path).map_err(ArtifactError::Unreadable)?;
    let bytes = file.metadata().map_err(ArtifactError::Unreadable)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(ArtifactError::TooLarge { bytes });
    }
    let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
    // It may grow while it is read.
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content).map_err(ArtifactError::Unreadable)?;
    Ok(content)
}

const MAGIC: &[u8] = b"\0asm";
const COMPONENT: [u8; 4] = [0x0d, 0, 1, 0];
const CORE_MODULE: [u8; 4] = [1, 0, 0, 0];

/// Whether these bytes look like a whole component. What is inside its sections is the
/// compiler's to judge.
///
/// # Errors
/// What they are instead.
pub fn check(bytes: &[u8]) -> Result<(), ArtifactError> {
    let length = bytes.len() as u64;
    if bytes.is_empty() {
        return Err(ArtifactError::Empty);
    }
    if length > FILE_BYTES_MAX {
        return Err(ArtifactError::TooLarge { bytes: length });
    }
    if bytes.trim_ascii_start().starts_with(b"(") {
        return Err(ArtifactError::Text);
    }
    let Some((magic, rest)) = bytes.split_at_checked(4) else {
        return Err(if MAGIC.starts_with(bytes) {
            ArtifactError::Truncated { bytes: length, bytes_min: 8 }
        } else {
            ArtifactError::NotWebAssembly
        });
    };
    if magic != MAGIC {
        return Err(ArtifactError::NotWebAssembly);
    }
    match rest.first_chunk::<4>() {
        None => Err(ArtifactError::Truncated { bytes: length, bytes_min: 8 }),
        Some(&COMPONENT) => whole_sections(bytes),
        Some(&CORE_MODULE) => whole_sections(bytes).and(Err(ArtifactError::CoreModule)),
        Some(version) => Err(ArtifactError::UnknownVersion(*version)),
    }
}

/// Walks the sections: an identifier, a length as LEB128, that many bytes.
fn whole_sections(bytes: &[u8]) -> Result<(), ArtifactError> {
    let length = bytes.len() as u64;
    let mut at = 8_u64;
    while at < length {
        let after_id = usize::try_from(at + 1).unwrap_or(usize::MAX);
        let header = bytes.get(after_id..).unwrap_or_default();
        let Some((size, size_bytes)) = leb128_u32(header) else {
            return Err(ArtifactError::Truncated { bytes: length, bytes_min: length + 1 });
        };
        at += 1 + size_bytes + u64::from(size);
    }
    if at > length {
        return Err(ArtifactError::Truncated { bytes: length, bytes_min: at });
    }
    Ok(())
}

/// The number at the front and how many bytes it takes; `None` if it does not end in five.
fn leb128_u32(bytes: &[u8]) -> Option<(u32, u64)> {
    let mut number = 0_u32;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        number |= u32::from(byte & 0x7f).checked_shl(7 * index as u32)?;
        if byte & 0x80 == 0 {
            return Some((number, index as u64 + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component() -> Vec<u8> {
        wat::parse_str("(component (core module) (core module))").unwrap()
    }

    #[test]
    fn a_whole_component_is_taken() {
        check(&component()).unwrap();
    }

    #[test]
    fn every_shorter_piece_of_a_component_is_truncated_or_ends_between_sections() {
        let whole = component();
        let mut truncated = 0;
        for end in 1..whole.len() {
            match check(&whole[..end]) {
                Err(ArtifactError::Truncated { bytes, bytes_min }) => {
                    assert!(bytes == end as u64 && bytes_min > bytes);
                    truncated += 1;
                }
                Ok(()) => assert!(end >= 8),
                Err(other) => panic!("{other}"),
            }
        }
        assert!(truncated > whole.len() / 2);
    }

    #[test]
    fn what_is_no_component_is_told_apart() {
        let module = wat::parse_str("(module (func))").unwrap();
        assert!(matches!(check(&module), Err(ArtifactError::CoreModule)));
        assert!(matches!(check(b""), Err(ArtifactError::Empty)));
        assert!(matches!(check(b"hello there"), Err(ArtifactError::NotWebAssembly)));
        assert!(matches!(check(b" (component)"), Err(ArtifactError::Text)));
        assert!(matches!(check(b"\0asm\x07\0\0\0"), Err(ArtifactError::UnknownVersion(_))));
    }

    #[test]
    fn a_file_above_the_limit_is_refused() {
        let bytes = vec![0; usize::try_from(FILE_BYTES_MAX).unwrap() + 1];
        assert!(matches!(check(&bytes), Err(ArtifactError::TooLarge { .. })));
    }
}
