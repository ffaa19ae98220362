//! Names: exchanges, queues, routing keys, consumer tags. Bytes, at most 255 of them.

use alloc::string::String;
use bytes::Bytes;
use core::{borrow::Borrow, fmt, ops::Deref};

/// A short string of AMQP: at most 255 bytes, usually but not always UTF-8. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Name(Bytes);

/// A name had more than 255 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameTooLong {
    /// How many bytes it had.
    pub bytes: usize,
}

impl Name {
    /// The longest name, in bytes (AMQP 0-9-1 section 4.2.5.3, short strings).
    pub const BYTES_MAX: usize = 255;
    /// The name of the default exchange, and of nothing else.
    pub const EMPTY: Self = Self(Bytes::new());

    /// A name of these bytes, copied.
    ///
    /// # Errors
    /// If there are more than [`Self::BYTES_MAX`].
    pub fn new(bytes: &[u8]) -> Result<Self, NameTooLong> {
        if bytes.len() > Self::BYTES_MAX {
            return Err(NameTooLong { bytes: bytes.len() });
        }
        Ok(Self(Bytes::copy_from_slice(bytes)))
    }

    /// A name of these bytes, copied; of more than [`Self::BYTES_MAX`] the rest is left out.
    #[must_use]
    pub fn cut(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes.get(..Self::BYTES_MAX).unwrap_or(bytes)))
    }

    /// A name known when the program was written; longer than 255 bytes it is cut.
    #[must_use]
    pub fn from_static(name: &'static str) -> Self {
        let bytes = name.as_bytes();
        Self(Bytes::from_static(bytes.get(..Self::BYTES_MAX).unwrap_or(bytes)))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name for people to read; what is not UTF-8 is replaced.
    #[must_use]
    pub fn to_text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl TryFrom<&[u8]> for Name {
    type Error = NameTooLong;
    fn try_from(bytes: &[u8]) -> Result<Self, NameTooLong> {
        Self::new(bytes)
    }
}

impl Deref for Name {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Name {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Display for NameTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a name of {} bytes; the most is {}", self.bytes, Name::BYTES_MAX)
    }
}

impl core::error::Error for NameTooLong {}
