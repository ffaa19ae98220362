//! The hash that keys and destinations are told by: 64 bits, the same for ever.
//!
//! Blocks of eight bytes are mixed in one after the other, as MurmurHash3 does at its end. Changing it would send the messages of most keys to other queues, so the tests hold values of it. It is no secret and
//! has no seed: who wants to may find keys that go to one queue.

/// Multipliers of MurmurHash3's last step, which were searched for so that each bit of the input changes half of the output.
const FIRST: u64 = 0xff51_afd7_ed55_8ccd;
const SECOND: u64 = 0xc4ce_b9fe_1a85_ec53;

/// What is hashed: the same bytes are another thing in another role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What of a message decides.
    Key = 0,
    /// The name of a queue.
    Queue = 1,
    /// The name of an exchange.
    Exchange = 2,
}

/// The hash of some bytes.
#[must_use]
pub fn of_bytes(role: Role, bytes: &[u8]) -> u64 {
    let mut blocks = bytes.chunks_exact(8);
    let mut state = mixed(((bytes.len() as u64) << 2) | role as u64);
    for block in &mut blocks {
        state = mixed(state ^ word(block));
    }
    mixed(state ^ word(blocks.remainder()))
}

/// All bits of it depend on all bits of `state`.
fn mixed(state: u64) -> u64 {
    let state = (state ^ state >> 33).wrapping_mul(FIRST);
    let state = (state ^ state >> 33).wrapping_mul(SECOND);
    state ^ state >> 33
}

/// At most eight bytes as a number, little end first; what is missing is 0.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// How far a key is from a destination, both told by their hashes: each pair of them another number.
///
/// This is what is worked out for each destination of each message, so it is no more than the high bits need: the
/// low ones are not as good.
#[inline]
#[must_use]
pub fn distance(key: u64, destination: u64) -> u64 {
    let state = (key ^ destination).wrapping_mul(FIRST);
    (state ^ state >> 32).wrapping_mul(SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_stays_what_it_was() {
        for (role, bytes, expected) in [
            (Role::Key, &b""[..], 0),
            (Role::Key, b"a", 0x1d1b_98ec_b7c1_9649),
            (Role::Queue, b"a", 0x5256_282d_598b_9ea8),
            (Role::Exchange, b"abcdefgh", 0x9208_ca2c_13f0_02a4),
            (Role::Key, b"order.eu.17.and.more", 0xb870_8714_e4e7_bb09),
            (Role::Key, &[0xff, 0x00], 0x47f0_a8fc_a1b3_ee93),
        ] {
            let hash = of_bytes(role, bytes);
            assert_eq!(hash, expected, "{role:?} {bytes:?}: {hash:#x}");
        }
        assert_eq!(distance(1, 2), 0x5140_16b6_f8a0_93a0);
    }

    #[test]
    fn zeros_at_the_end_count() {
        let mut hashes: Vec<_> = (0..40).map(|length| of_bytes(Role::Key, &vec![0; length])).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 40);
    }
}
