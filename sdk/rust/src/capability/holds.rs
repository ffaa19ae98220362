//! Messages that wait because of [`Decision::Hold`](crate::Decision::Hold). Grant: `hold`.

use super::imports::holds as host;

/// A message of this exchange that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// By what it is cancelled.
    pub id: HeldId,
    /// When it goes on, in milliseconds since 1970.
    pub due_ms: u64,
    /// Its routing key.
    pub routing_key: Vec<u8>,
}

/// Numbers a message that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct HeldId(pub u64);

/// How many of this exchange wait.
#[must_use]
pub fn count() -> u64 {
    host::count()
}

/// Those that are due first; at most `limit`, and at most 1,000.
#[must_use]
pub fn first(limit: u32) -> Vec<Held> {
    let held = host::first(limit).into_iter();
    held.map(|held| Held { id: HeldId(held.id), due_ms: held.due, routing_key: held.routing_key }).collect()
}

/// Effect. The message is gone.
pub fn cancel(id: HeldId) {
    host::cancel(id.0);
}
