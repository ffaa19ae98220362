//! Digests that stand for keys: SipHash-2-4 of 128 bits under a secret.
//!
//! Whoever publishes chooses keys, so two keys of one digest must not be made on purpose: without the
//! secret that takes as many tries as by chance, which for 128 bits is more than anybody can publish. A
//! hash that is only quick, such as the table's, would not do.

use rand::RngExt as _;

/// How long a digest is, in bytes.
pub(super) const DIGEST_BYTES: usize = 16;

/// What stands for a key.
pub(super) type Digest = [u8; DIGEST_BYTES];

/// The secret of one memo.
pub(super) struct Secret(u64, u64);

impl Secret {
    /// One that nobody knows.
    pub(super) fn new() -> Self {
        let mut random: rand::rngs::StdRng = rand::make_rng();
        Self(random.random(), random.random())
    }

    /// The digest of a key.
    pub(super) fn digest(&self, key: &[u8]) -> Digest {
        let mut state = State([
            self.0 ^ 0x736f_6d65_7073_6575,
            self.1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            self.0 ^ 0x6c79_6765_6e65_7261,
            self.1 ^ 0x7465_6462_7974_6573,
        ]);
        let (words, rest) = key.as_chunks::<8>();
        words.iter().for_each(|word| state.take(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        state.take(u64::from_le_bytes(last) | (key.len() as u64) << 56);
        let [low, high] = [state.give(2, 0xee), state.give(1, 0xdd)];
        (u128::from(low) | u128::from(high) << 64).to_le_bytes()
    }
}

/// Where an entry is in the table whose key is a digest.
#[inline]
pub(super) fn hash_of(digest: &[u8]) -> u64 {
    digest.first_chunk().map_or(0, |low| u64::from_le_bytes(*low))
}

struct State([u64; 4]);

impl State {
    #[inline]
    fn take(&mut self, word: u64) {
        self.0[3] ^= word;
        (0..2).for_each(|_| self.round());
        self.0[0] ^= word;
    }

    /// Half of the digest.
    #[inline]
    fn give(&mut self, place: usize, mark: u64) -> u64 {
        if let Some(word) = self.0.get_mut(place) {
            *word ^= mark;
        }
        (0..4).for_each(|_| self.round());
        self.0.iter().fold(0, |all, word| all ^ word)
    }

    #[inline]
    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.0;
        a = a.wrapping_add(b);
        c = c.wrapping_add(d);
        b = b.rotate_left(13) ^ a;
        d = d.rotate_left(16) ^ c;
        a = a.rotate_left(32);
        c = c.wrapping_add(b);
        a = a.wrapping_add(d);
        b = b.rotate_left(17) ^ c;
        d = d.rotate_left(21) ^ a;
        c = c.rotate_left(32);
        self.0 = [a, b, c, d];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of its authors' reference.
    #[test]
    fn digests_are_those_of_the_reference() {
        let secret = Secret(u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7]), 0x0f0e_0d0c_0b0a_0908);
        let key: Vec<u8> = (0..64).collect();
        for (length, expected) in [
            (0, 0x9302_55c7_1472_f66d_e6a8_25ba_047f_81a3),
            (1, 0x45fc_229b_1159_7634_44af_996b_d8c1_87da_u128),
            (2, 0xe4ff_0af6_de8b_a3fc_c75d_a4a4_8d22_7781),
            (3, 0x51ed_8529_b0b6_335f_4ea9_6752_0cb6_709c),
        ] {
            assert_eq!(u128::from_le_bytes(secret.digest(&key[..length])), expected, "{length} bytes");
        }
        let all: std::collections::HashSet<_> = (0..64).map(|length| secret.digest(&key[..length])).collect();
        assert_eq!(all.len(), 64);
        assert_ne!(Secret::new().digest(b"k"), Secret::new().digest(b"k"), "each has its own secret");
    }
}
