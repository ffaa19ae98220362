//! What tells the batches of a data folder from bytes that only look like some.
//!
//! Who publishes chooses what the bytes of a body are, and segments are used again without being cleared: without a secret
//! a body could be made that a start takes for batches of the journal, and whatever they say would happen. So the
//! checksums of batches and groups are mixed with a key that only the files have, and that no client is ever told.

use super::{Malformed, Take, check};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// How long it is in the header of a segment, with its checksum.
pub(crate) const KEY_BYTES: usize = 20;

/// The key of a data folder. None, which is the default, is that of format 1.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Key {
    headers: u64,
    groups: u64,
}

impl Key {
    /// One that nobody can guess.
    #[must_use]
    pub fn random() -> Self {
        // Each state has keys from the system's source of random numbers.
        let number = || RandomState::new().build_hasher().finish() | 1;
        Self { headers: number(), groups: number() }
    }

    /// Whether it is that of format 1.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// What is mixed into the checksum of the header of a batch.
    pub(crate) fn of_header(&self, batch: u64) -> u32 {
        mixed(self.headers, batch)
    }

    /// What is mixed into the checksums of the groups of a batch.
    pub(crate) fn of_groups(&self, batch: u64) -> u32 {
        // Consecutive numbers differ in many bits.
        let of_number = (batch.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
        of_number ^ mixed(self.groups, batch)
    }

    /// Its bytes.
    pub(crate) fn encode(&self) -> [u8; KEY_BYTES] {
        let mut bytes = [0; KEY_BYTES];
        bytes[..8].copy_from_slice(&self.headers.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.groups.to_le_bytes());
        let check = check::check(&bytes[..16]);
        bytes[16..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Reads it.
    pub(crate) fn take(take: &mut Take<'_>) -> Result<Self, Malformed> {
        let bytes: [u8; KEY_BYTES] = take.array()?;
        let mut take = Take(&bytes);
        let key = Self { headers: take.u64()?, groups: take.u64()? };
        if take.u32()? == check::check(&bytes[..16]) && !key.is_none() { Ok(key) } else { Err(Malformed) }
    }
}

/// Not what it is: it goes into no log.
impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(if self.is_none() { "Key(none)" } else { "Key(..)" })
    }
}

/// Half of a key and a number, so that neither can be told from what comes out; 0 without a key.
fn mixed(half: u64, batch: u64) -> u32 {
    if half == 0 {
        return 0;
    }
    let mut mixed = half ^ batch.wrapping_mul(0xd6e8_feb8_6659_fd93);
    for _ in 0..2 {
        mixed = (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed = (mixed ^ mixed >> 29).wrapping_mul(half | 1);
    }
    (mixed ^ mixed >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written_and_another_each_time() {
        let key = Key::random();
        assert_ne!(key, Key::random());
        assert_eq!(Key::take(&mut Take(&key.encode())), Ok(key));
        for bit in 0..KEY_BYTES * 8 {
            let mut bytes = key.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Key::take(&mut Take(&bytes)), Err(Malformed), "bit {bit}");
        }
        assert_eq!(
            Key::take(&mut Take(&Key::default().encode())),
            Err(Malformed),
            "none is written as format 1"
        );
        assert_eq!(format!("{key:?}"), "Key(..)");
    }

    #[test]
    fn each_batch_has_another_one_and_none_is_nothing() {
        let (key, none) = (Key::random(), Key::default());
        let all =
            |of: &dyn Fn(u64) -> u32| (0..10_000).map(of).collect::<std::collections::HashSet<_>>().len();
        assert!(all(&|batch| key.of_header(batch)) > 9_990);
        assert!(all(&|batch| key.of_groups(batch)) > 9_990);
        assert_eq!(all(&|batch| none.of_header(batch)), 1);
        assert_eq!(none.of_header(7), 0);
    }
}
