//! What a plugin may reach beyond its calls: one module for each import of
//! `wit/0.2.0/capabilities.wit`.
//!
//! A component imports what its code calls, and no more; the operator grants each import by its name.
//! An import that is not granted keeps the plugin out of the virtual host.
//!
//! Effects (all that writes) belong to the message that is being decided: they take place when the
//! broker accepts it, together with its enqueueing, or not at all. In the calls of
//! [`Events`](crate::Events) and [`Timers`](crate::Timers) there is no message, and they take place when
//! the call returns. In `describe`, `open`, `bind`, `unbind` and `info` there are none: what can say so
//! answers `NotHere`, the rest does nothing.
//!
//! On other targets than WebAssembly the host is the one of the test kit, `testkit::Host`.

pub mod clock;
pub mod effects;
pub mod emit;
pub mod enqueue;
pub mod holds;
pub mod key_value;
pub mod log;
pub mod message_store;
pub mod metric;
mod outgoing;
pub mod queue_info;
pub mod random;
pub mod timers;

pub use outgoing::OutgoingMessage;

#[cfg(target_family = "wasm")]
use crate::generated::leveret::routing as imports;
#[cfg(not(target_family = "wasm"))]
use crate::testkit::imports;

/// Whole milliseconds, fractions cut.
fn ms(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
