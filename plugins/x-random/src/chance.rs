//! Random numbers of an exchange's own, begun by one of the broker's: so a message costs no call of the host.

use leveret_sdk::random;

/// The golden ratio's fraction, which SplitMix64 goes on by.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A series of numbers; the broker is asked for its beginning when the first is needed.
///
/// SplitMix64 (Steele, Lea and Flood, 2014). Good enough to share out work, and no secret.
#[derive(Debug, Default)]
pub struct Chance(Option<u64>);

impl Chance {
    fn next(&mut self) -> u64 {
        let state = self.0.unwrap_or_else(random::next).wrapping_add(STEP);
        self.0 = Some(state);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `end`, each as likely as any other; 0 where `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        // The high half of the product; it is below `end`.
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }
}
