//! Time. Grant: `clock`.

use super::imports::clock as host;

/// Milliseconds since 1970-01-01T00:00:00Z. Two calls while one message is being decided give the same.
#[must_use]
pub fn now() -> u64 {
    host::now()
}
