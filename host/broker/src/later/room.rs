//! How much may be kept outside queues, and how much is.

use crate::memory::MemoryAccount;
use alloc::sync::Arc;
use core::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};
use leveret_model::MessageView;

/// What is charged for a message that is kept besides its own bytes, in bytes.
pub const KEPT_OVERHEAD_BYTES: u64 = 256;

/// How much may be held in a vhost; bodies in files count as long as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldLimits {
    /// How many messages.
    pub messages_max: u64,
    /// How many bytes, [`KEPT_OVERHEAD_BYTES`] a message included.
    pub bytes_max: u64,
}

impl Default for HoldLimits {
    fn default() -> Self {
        Self { messages_max: 1_000_000, bytes_max: 256 * 1024 * 1024 }
    }
}

/// A message is not held because there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// As many messages are held as may be.
    Messages {
        /// How many that is.
        messages_max: u64,
    },
    /// With this message more bytes would be held than may be.
    Bytes {
        /// How many may be.
        bytes_max: u64,
    },
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Messages { messages_max } => {
                write!(f, "no more messages can be held: there are {messages_max}")
            }
            Self::Bytes { bytes_max } => write!(f, "no more can be held: the most is {bytes_max} bytes"),
        }
    }
}

impl core::error::Error for NoRoom {}

/// Counts what is kept, within limits.
#[derive(Debug)]
struct Count {
    messages: AtomicU64,
    bytes: AtomicU64,
    messages_max: AtomicU64,
    bytes_max: AtomicU64,
}

impl Count {
    fn new(limits: HoldLimits) -> Self {
        let [messages, bytes] = [0, 0].map(AtomicU64::new);
        let [messages_max, bytes_max] = [limits.messages_max, limits.bytes_max].map(AtomicU64::new);
        Self { messages, bytes, messages_max, bytes_max }
    }

    fn take(&self, messages: u64, bytes: u64) -> Result<(), NoRoom> {
        let (messages_max, bytes_max) =
            (self.messages_max.load(Ordering::Relaxed), self.bytes_max.load(Ordering::Relaxed));
        let messages_now = self.messages.fetch_add(messages, Ordering::Relaxed) + messages;
        let bytes_now = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let refused = if messages_now > messages_max {
            NoRoom::Messages { messages_max }
        } else if bytes_now > bytes_max {
            NoRoom::Bytes { bytes_max }
        } else {
            return Ok(());
        };
        self.give_back(messages, bytes);
        Err(refused)
    }

    fn take_anyway(&self, messages: u64, bytes: u64) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give_back(&self, messages: u64, bytes: u64) {
        self.messages.fetch_sub(messages, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn taken(&self) -> (u64, u64) {
        (self.messages.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

/// What one plugin may have held, beside what its vhost may: whoever decides that messages wait is charged
/// for them, however many exchanges they are of.
#[derive(Debug)]
pub struct HoldQuota {
    count: Count,
    refused: AtomicU64,
}

impl HoldQuota {
    /// Nothing held, of so much.
    #[must_use]
    pub fn new(limits: HoldLimits) -> Self {
        Self { count: Count::new(limits), refused: AtomicU64::new(0) }
    }

    /// How many messages and bytes are held, [`KEPT_OVERHEAD_BYTES`] a message included.
    #[must_use]
    pub fn taken(&self) -> (u64, u64) {
        self.count.taken()
    }

    /// How many messages were not held because of this quota.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self, message: &MessageView<'_>) -> Result<(), NoRoom> {
        let taken = self.count.take(1, Bytes::of(message).whole);
        self.refused.fetch_add(u64::from(taken.is_err()), Ordering::Relaxed);
        taken
    }

    /// Takes room for a message that was held before, even if there is none.
    pub(super) fn take_anyway(&self, message: &MessageView<'_>) {
        self.count.take_anyway(1, Bytes::of(message).whole);
    }

    pub(super) fn give_back(&self, message: &MessageView<'_>) {
        self.count.give_back(1, Bytes::of(message).whole);
    }
}

/// Counts what is kept, within limits, and charges what of it is in memory to the account.
pub(super) struct Room {
    account: Arc<MemoryAccount>,
    count: Count,
    charged: AtomicU64,
}

impl Room {
    pub(super) fn new(account: Arc<MemoryAccount>, limits: HoldLimits) -> Self {
        Self { account, count: Count::new(limits), charged: AtomicU64::new(0) }
    }

    pub(super) fn set_limits(&self, limits: HoldLimits) {
        self.count.messages_max.store(limits.messages_max, Ordering::Relaxed);
        self.count.bytes_max.store(limits.bytes_max, Ordering::Relaxed);
    }

    /// Takes room for as many copies of a message.
    pub(super) fn take(&self, message: &MessageView<'_>, copies: u64) -> Result<(), NoRoom> {
        let bytes = Bytes::of(message);
        self.count.take(copies, copies * bytes.whole)?;
        self.charge(copies * bytes.in_memory);
        Ok(())
    }

    /// Takes room for a message that was kept before, even if there is none.
    pub(super) fn take_anyway(&self, message: &MessageView<'_>) {
        let bytes = Bytes::of(message);
        self.count.take_anyway(1, bytes.whole);
        self.charge(bytes.in_memory);
    }

    fn charge(&self, bytes: u64) {
        self.charged.fetch_add(bytes, Ordering::Relaxed);
        self.account.charge(bytes as usize);
    }

    /// Gives back the room of a message that is kept no longer.
    pub(super) fn give_back(&self, message: &MessageView<'_>) {
        let bytes = Bytes::of(message);
        self.count.give_back(1, bytes.whole);
        self.charged.fetch_sub(bytes.in_memory, Ordering::Relaxed);
        self.account.release(bytes.in_memory as usize);
    }

    /// How many messages and bytes there are.
    pub(super) fn taken(&self) -> (u64, u64) {
        self.count.taken()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.account.release(*self.charged.get_mut() as usize);
    }
}

/// How much a message takes that is kept.
struct Bytes {
    /// With its body, wherever that is.
    whole: u64,
    in_memory: u64,
}

impl Bytes {
    fn of(message: &MessageView<'_>) -> Self {
        let [whole, in_memory] =
            [message.whole_bytes(), message.len_bytes() as u64].map(|bytes| bytes + KEPT_OVERHEAD_BYTES);
        Self { whole, in_memory }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_amqp091::FORM;
    use leveret_model::{Stub, far::Far};

    static FAR: Far = Far::new(FORM, "far");

    #[test]
    fn a_body_in_a_file_counts_for_limits_and_not_for_memory() {
        let stub = Stub { file_bytes: 1000, end: 1000, ..Stub::default() }.encode();
        let (exchange, routing_key, properties) = (b"x", b"k", &[0, 0]);
        let message =
            MessageView { exchange, routing_key, form: &FAR, properties, body: &stub, publisher: None };
        let bytes_max = 2 * (1004 + KEPT_OVERHEAD_BYTES);
        let limits = HoldLimits { messages_max: 10, bytes_max };
        let account = Arc::new(MemoryAccount::new(1 << 20));
        let (room, quota) = (Room::new(account.clone(), limits), HoldQuota::new(limits));
        room.take(&message, 1).unwrap();
        room.take_anyway(&message);
        assert_eq!((room.taken(), account.bytes()), ((2, bytes_max), 2 * (41 + KEPT_OVERHEAD_BYTES)));
        assert_eq!(room.take(&message, 1), Err(NoRoom::Bytes { bytes_max }));
        quota.take(&message).unwrap();
        quota.take_anyway(&message);
        assert_eq!((quota.take(&message), quota.refused()), (Err(NoRoom::Bytes { bytes_max }), 1));
        room.give_back(&message);
        quota.give_back(&message);
        assert_eq!((room.taken().0, quota.taken().0, account.bytes()), (1, 1, 41 + KEPT_OVERHEAD_BYTES));
        drop(room);
        assert_eq!(account.bytes(), 0);
    }
}
