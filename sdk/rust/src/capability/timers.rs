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
