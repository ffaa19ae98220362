//! A message as the payload of an operation.
//!
//! ```text
//!  0  u8      form: the caller's number of the protocol the properties are encoded in
//!  1  u8      flags, the caller's
//!  2  u8      length of the exchange's name     3  u8   length of the routing key
//!  4  u32 LE  length of the properties          8  u64 LE  a time, the caller's: when it is due
//! 16  u16 LE  length of the note               18  note, exchange, routing key, properties, body
//! ```
//!
//! The note is the caller's: the key of a message that a plugin keeps, where a held one goes on.

use super::{Malformed, Take};
use leveret_model::MessageView;

/// The bytes before the note.
pub const HEAD_BYTES: usize = 18;

/// A message in the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Payload<'a> {
    /// The number of the protocol that `properties` are encoded in.
    pub form: u8,
    /// What the caller wants to know of it.
    pub flags: u8,
    /// When it is due or ends, in milliseconds since 1970; what it means is the caller's.
    pub at_ms: u64,
    /// More of the caller's.
    pub note: &'a [u8],
    /// See [`MessageView`].
    pub exchange: &'a [u8],
    /// See [`MessageView`].
    pub routing_key: &'a [u8],
    /// See [`MessageView`].
    pub properties: &'a [u8],
    /// The body; empty where it is an extent.
    pub body: &'a [u8],
}

impl<'a> Payload<'a> {
    /// What is kept of a message.
    #[must_use]
    pub fn of(message: &MessageView<'a>, form: u8) -> Self {
        let MessageView { exchange, routing_key, properties, body, .. } = *message;
        Self { form, exchange, routing_key, properties, body, ..Self::default() }
    }

    /// Its head, and then its parts in order: what [`super::group::Group::enqueue`] takes. `None` if a
    /// length does not fit.
    #[must_use]
    pub fn head(&self) -> Option<[u8; HEAD_BYTES]> {
        let mut head = [0; HEAD_BYTES];
        head[0] = self.form;
        head[1] = self.flags;
        head[2] = u8::try_from(self.exchange.len()).ok()?;
        head[3] = u8::try_from(self.routing_key.len()).ok()?;
        head[4..8].copy_from_slice(&u32::try_from(self.properties.len()).ok()?.to_le_bytes());
        head[8..16].copy_from_slice(&self.at_ms.to_le_bytes());
        head[16..].copy_from_slice(&u16::try_from(self.note.len()).ok()?.to_le_bytes());
        Some(head)
    }

    /// All parts behind a head.
    #[must_use]
    pub fn parts<'b>(&self, head: &'b [u8]) -> [&'b [u8]; 6]
    where
        'a: 'b,
    {
        [head, self.note, self.exchange, self.routing_key, self.properties, self.body]
    }

    /// Reads what was written.
    ///
    /// # Errors
    /// If it is no message.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut take = Take(bytes);
        let (form, flags) = (take.u8()?, take.u8()?);
        let (exchange, routing_key) = (take.u8()?.into(), take.u8()?.into());
        let (properties, at_ms, note) = (take.u32()? as usize, take.u64()?, take.u16()?.into());
        let note = take.bytes(note)?;
        let (exchange, routing_key) = (take.bytes(exchange)?, take.bytes(routing_key)?);
        let properties = take.bytes(properties)?;
        Ok(Self { form, flags, at_ms, note, exchange, routing_key, properties, body: take.0 })
    }
}
