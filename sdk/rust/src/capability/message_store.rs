//! Messages kept by key, for destinations that are bound later. Grant: `message-store`. They belong to the
//! exchange and go with it; their bodies never enter the plugin.
//! [`Events::bound`](crate::Events::bound) gives them to a new binding.

use super::imports::message_store as host;
use crate::StoredId;

#[doc(inline)]
pub use crate::generated::leveret::routing::message_store::Error;

/// Effect. Keeps the message that is being decided, and of this key no more than the newest `newest` ones.
/// Where the quota is used up, the oldest of this key go, as many as it takes.
///
/// # Errors
/// There is no message, there are no effects here, or the quota is used up and those of this key do not make
/// enough room.
pub fn keep(key: impl AsRef<[u8]>, newest: u32) -> Result<(), Error> {
    host::keep(key.as_ref(), newest)
}

/// Effect. Forgets what is kept under a key, and says how many messages those were.
///
/// # Errors
/// There are no effects here.
pub fn forget(key: impl AsRef<[u8]>) -> Result<u32, Error> {
    host::forget(key.as_ref())
}

/// What is kept under a key, the oldest first, at most the newest `limit`.
pub fn of_key(key: impl AsRef<[u8]>, limit: u32) -> Vec<StoredId> {
    host::of_key(key.as_ref(), limit).into_iter().map(StoredId).collect()
}

/// What is kept under all keys that this topic pattern matches (`*` one word, `#` any number of words),
/// the oldest first, at most the newest `limit`.
pub fn matching(pattern: impl AsRef<[u8]>, limit: u32) -> Vec<StoredId> {
    host::matching(pattern.as_ref(), limit).into_iter().map(StoredId).collect()
}

/// How many messages all exchanges of the plugin may keep here together, were they empty: what its memory here
/// has room for. The same all the time, also in [`open`](crate::ExchangeType::open).
#[must_use]
pub fn quota() -> u64 {
    host::quota()
}

/// How many messages are kept.
#[must_use]
pub fn count() -> u64 {
    host::len()
}
