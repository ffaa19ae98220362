//! Calls at a time. Grant: `timer`. [`Timers::timer`](crate::Timers::timer) is what is called.

use super::{imports::timers as host, ms};
use std::time::Duration;

/// Effect. Has the exchange called with this name after this time, in whole milliseconds; a timer of this
/// name that is set already is replaced. At most 1,000 an exchange; more are ignored and counted.
pub fn set(name: impl AsRef<[u8]>, after: Duration) {
    host::set(name.as_ref(), ms(after));
}

/// Effect. The call is not made.
pub fn cancel(name: impl AsRef<[u8]>) {
    host::cancel(name.as_ref());
}

/// A timer that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// Its name.
    pub name: Vec<u8>,
    /// When it is due, in milliseconds since 1970.
    pub due_ms: u64,
}

/// How many are set for this exchange by this type of it.
#[must_use]
pub fn count() -> u64 {
    host::count()
}

/// Those that are due first; at most `limit`, and at most 1,000.
#[must_use]
pub fn first(limit: u32) -> Vec<Timer> {
    host::first(limit).into_iter().map(|timer| Timer { name: timer.name, due_ms: timer.due }).collect()
}
