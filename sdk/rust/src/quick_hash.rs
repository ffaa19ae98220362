//! The hash function of the SDK's maps: quick on short keys, in a component as well as natively.
//!
//! Most quick hash functions multiply two numbers of 64 bits to one of 128. A component has no such instruction, and
//! four multiplications take its place. Here a number is folded on itself and multiplied once, modulo 2^64. Each of
//! these steps can be undone, so two numbers never have the same hash; and bits that differ reach the lower half of
//! it as well as the upper one.

use std::hash::{BuildHasherDefault, Hasher};

/// Makes a [`QuickHasher`] for each key. It has no seed: a component has no chance unless it is granted.
pub type QuickState = BuildHasherDefault<QuickHasher>;

/// An odd number whose bits have no pattern: 2^64 divided by the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
/// What a hash begins with, so that zeros are not without effect: the first digits of π behind the point.
const START: u64 = 0x243f_6a88_85a3_08d3;

/// Hashes numbers of up to eight bytes at once, and bytes by eights.
///
/// ```
/// # use leveret_sdk::quick_hash::QuickState;
/// # use std::hash::BuildHasher;
/// let hash = QuickState::default().hash_one("orders");
/// assert_eq!(hash, QuickState::default().hash_one("orders"));
/// assert_ne!(hash, QuickState::default().hash_one("order"));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct QuickHasher(u64);

impl Default for QuickHasher {
    #[inline]
    fn default() -> Self {
        Self(START)
    }
}

/// Brings the upper half into the lower one.
#[inline(always)]
fn folded(hash: u64) -> u64 {
    hash ^ hash >> 32
}

impl Hasher for QuickHasher {
    #[inline(always)]
    fn write_u64(&mut self, number: u64) {
        self.0 = folded(self.0 ^ number).wrapping_mul(FACTOR);
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (eights, rest) = bytes.as_chunks();
        eights.iter().for_each(|eight| self.write_u64(u64::from_le_bytes(*eight)));
        // How many there are counts, or zeros at the end would not.
        self.write_u64(crate::binding_index::first_eight(rest) | (rest.len() as u64) << 56);
    }

    #[inline(always)]
    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    #[inline(always)]
    fn write_u16(&mut self, number: u16) {
        self.write_u64(number.into());
    }

    #[inline(always)]
    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    #[inline(always)]
    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    #[inline(always)]
    fn finish(&self) -> u64 {
        folded(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::HashSet, hash::BuildHasher};

    fn hash(bytes: &[u8]) -> u64 {
        let mut hasher = QuickHasher::default();
        hasher.write(bytes);
        hasher.finish()
    }

    /// How many of 4,096 places the fullest one has, by these bits of the hash.
    fn fullest(hashes: impl Iterator<Item = u64>, shift: u32) -> usize {
        let mut places = vec![0; 4_096];
        hashes.for_each(|hash| places[(hash >> shift) as usize % 4_096] += 1);
        places.into_iter().max().unwrap_or_default()
    }

    #[test]
    fn keys_that_differ_in_one_bit_anywhere_have_other_hashes() {
        for length in 1..=40 {
            let plain = vec![0x55; length];
            let flipped = (0..8 * length).map(|bit| {
                let mut other = plain.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                hash(&other)
            });
            let hashes: HashSet<u64> = flipped.chain([hash(&plain)]).collect();
            assert_eq!(hashes.len(), 8 * length + 1, "{length} bytes");
        }
    }

    #[test]
    fn zeros_at_the_end_count() {
        let hashes: HashSet<u64> = (0..=40).map(|length| hash(&vec![0; length])).collect();
        assert_eq!(hashes.len(), 41);
    }

    /// Four in a place on average: by chance the fullest of 4,096 has some fifteen.
    #[test]
    fn keys_as_people_make_them_are_spread_over_all_places() {
        let count = 4 * 4_096_u64;
        let state = QuickState::default();
        type Keys = fn(u64) -> Vec<u8>;
        let kinds: [(&str, Keys); 6] = [
            ("numbers behind a word", |number| format!("orders.{number}").into_bytes()),
            ("numbers in front", |number| format!("{number}.orders.created").into_bytes()),
            ("zeros in front", |number| format!("{number:016}").into_bytes()),
            ("the last of eight bytes", |number| {
                let mut key = [0; 16];
                (key[7], key[15]) = ((number >> 8) as u8, number as u8);
                key.to_vec()
            }),
            ("upper bits", |number| (number << 48).to_le_bytes().to_vec()),
            ("multiples of 4,096", |number| (number * 4_096).to_le_bytes().to_vec()),
        ];
        for (kind, key) in kinds {
            // Where the tables look, where the directory looks, and what tells keys at one place apart.
            for shift in [0, 32, 48] {
                let most = fullest((0..count).map(|number| hash(&key(number))), shift);
                assert!(most <= 24, "{kind}, from bit {shift} on: {most} at one place");
            }
        }
        for shift in [0, 32, 48] {
            let most = fullest((0..count).map(|number| state.hash_one((7_u32, number << 8))), shift);
            assert!(most <= 24, "pairs, from bit {shift} on: {most} at one place");
        }
    }
}
