//! Which messages a binding can concern, as bytes.

use crate::message::Field;

/// Bytes that occur in every message that a binding concerns, as the broker lays messages out
/// (`wit/CONTRACT.md`, "Batches"): what [`Marks`](crate::Marks) answers. The longer, the fewer messages
/// have them by chance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark(Vec<u8>);

impl Mark {
    /// It may concern any message.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// It concerns messages with this routing key alone.
    #[must_use]
    pub fn routing_key(key: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(key.len() + 2);
        crate::projection::put_routing_key(&mut bytes, key);
        Self(bytes)
    }

    /// It concerns messages in whose routing key these bytes occur in a row.
    #[must_use]
    pub fn in_routing_key(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// It concerns messages that have this header, with that value, class included.
    #[must_use]
    pub fn header(header: &Field<'_>) -> Self {
        Self(header.flat().to_vec())
    }

    /// It concerns messages of which a header has this string as its value, be it text or binary.
    #[must_use]
    pub fn header_string(string: &[u8]) -> Self {
        let length = u32::try_from(string.len()).unwrap_or(u32::MAX);
        Self([&length.to_le_bytes(), string].concat())
    }

    /// It concerns messages that have a header of this name.
    #[must_use]
    pub fn header_name(name: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(name.len() + 1);
        crate::projection::put_field(&mut bytes, name, |_| {});
        Self(bytes)
    }

    /// Whether a message that is laid out like this has it.
    #[must_use]
    pub fn is_in(&self, projection: &[u8]) -> bool {
        self.0.is_empty() || projection.windows(self.0.len()).any(|bytes| bytes == self.0)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Mark> for Vec<u8> {
    fn from(mark: Mark) -> Self {
        mark.0
    }
}
