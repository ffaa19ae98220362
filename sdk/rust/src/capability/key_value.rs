//! Values by key. Grant: `key-value`. They belong to the exchange (or attachment) that is being asked
//! about, and go with it; all instances see the same.
//!
//! ```
//! # use leveret_sdk::{Decision, key_value::{Error, Space}};
//! # use std::time::Duration;
//! /// Drops what came before within the last minute.
//! fn decide(id: &[u8]) -> Result<Decision, Error> {
//!     let is_new = Space::Memory.put_if_absent(id, "", Some(Duration::from_secs(60)))?;
//!     Ok(if is_new { Decision::Delegate } else { Decision::Drop("duplicate".into()) })
//! }
//! let decision = decide(b"17").unwrap_or_else(Decision::from);
//! assert_eq!(decision, Decision::Delegate);
//! ```

use super::{imports::key_value as host, ms};
use crate::Decision;
use std::time::Duration;

/// Where values are kept: `Memory` goes with the broker's process, `Durable` is as safe as the exchange
/// itself. Keys have at most 1,024 bytes, values 65,536.
#[doc(inline)]
pub use crate::generated::leveret::routing::key_value::Space;

/// Why a value cannot be read or written.
///
/// `InDoubt`: a message that was decided before wrote this key, and whether that message is accepted is
/// open. Return from the call with any decision: the broker throws it away, and asks about this message
/// again as soon as the other's fate is known.
#[doc(inline)]
pub use crate::generated::leveret::routing::key_value::Error;

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

impl Space {
    /// The value of a key.
    ///
    /// # Errors
    /// The key is in doubt or too large.
    pub fn get(self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
        host::get(self, key.as_ref())
    }

    /// Effect. Writes a value, which stays until it is deleted.
    ///
    /// # Errors
    /// The key is in doubt, something is too large, the quota is used up, or there are no effects here.
    pub fn put(self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), Error> {
        host::put(self, key.as_ref(), value.as_ref(), None)
    }

    /// Effect. Writes a value that is gone after this time.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_for(
        self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        time_to_live: Duration,
    ) -> Result<(), Error> {
        host::put(self, key.as_ref(), value.as_ref(), Some(ms(time_to_live)))
    }

    /// Effect. Writes a value if there is none, and says whether there was none.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_if_absent(
        self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        time_to_live: Option<Duration>,
    ) -> Result<bool, Error> {
        host::compare_and_swap(self, key.as_ref(), None, Some(value.as_ref()), time_to_live.map(ms))
    }

    /// Effect. Writes a value (or with none deletes it) only if it is as expected, none meaning that there
    /// is none. Says whether it was.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn compare_and_swap(
        self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        value: Option<&[u8]>,
        time_to_live: Option<Duration>,
    ) -> Result<bool, Error> {
        host::compare_and_swap(self, key.as_ref(), expected, value, time_to_live.map(ms))
    }

    /// Effect. Deletes a value, and says whether it was there.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn delete(self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        host::delete(self, key.as_ref())
    }

    /// Effect. Adds to a counter, which begins at 0, and gives the sum; the time to live counts from its
    /// begin. Never in doubt: sums include messages whose fate is open. Counters are apart from values;
    /// read one with [`sum`](Self::sum).
    ///
    /// # Errors
    /// The key is too large, the quota is used up, or there are no effects here.
    pub fn add(self, key: impl AsRef<[u8]>, more: i64, time_to_live: Option<Duration>) -> Result<i64, Error> {
        host::add(self, key.as_ref(), more, time_to_live.map(ms))
    }

    /// The sum of a counter: [`add`](Self::add) of 0, so it is refused where effects are.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn sum(self, key: impl AsRef<[u8]>) -> Result<i64, Error> {
        host::add(self, key.as_ref(), 0, None)
    }

    /// Keys that begin with `prefix` and come after `after`, in order, with their values; at most `limit`,
    /// and at most 1,000. Without counters, and without what other messages wrote whose fate is open.
    ///
    /// # Errors
    /// A key is too large.
    pub fn scan(
        self,
        prefix: impl AsRef<[u8]>,
        after: Option<&[u8]>,
        limit: u32,
    ) -> Result<Vec<Pair>, Error> {
        host::scan(self, prefix.as_ref(), after, limit)
    }

    /// How many values there may be: above it, those written first go first. Takes effect at once, also
    /// in `open`. The values are a cache then: where the plugin's memory in the virtual host is used up, a new
    /// value takes the place of the oldest of the cache that has the most, whichever exchange's that is.
    pub fn set_capacity(self, entries: u64) {
        host::set_capacity(self, entries);
    }

    /// How many values there are.
    #[must_use]
    pub fn count(self) -> u64 {
        host::len(self)
    }
}

/// How many values all exchanges of the plugin may keep together in a virtual host, were they empty, with keys and
/// values so long, in bytes. The same all the time, also in `open`.
#[must_use]
pub fn quota(key_bytes: u32, value_bytes: u32) -> u64 {
    host::quota(key_bytes, value_bytes)
}

/// What to answer for a message that an error keeps from being decided: a rejection that says why. Where
/// the key was in doubt, the broker throws it away and asks again.
impl From<Error> for Decision {
    fn from(error: Error) -> Self {
        let reason = match error {
            Error::InDoubt => "a value is in doubt",
            Error::Quota => "the plugin's values take too much memory",
            Error::TooLarge => "a key or a value is too large",
            Error::NotHere => "values cannot be written here",
        };
        Self::Reject(reason.into())
    }
}
