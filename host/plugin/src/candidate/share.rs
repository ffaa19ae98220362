//! A share of routing keys: which keys a canary gets.
//!
//! A key is in the share or not for as long as the share is the same, on every worker and after a restart;
//! and what is in a share is in every larger one. So the messages of one key all go the same way, and only
//! keys that come or go change it when the share does.

use std::fmt;

/// How many parts all keys are divided into.
const PARTS: u16 = 10_000;

/// A share of routing keys, to the hundredth of a percent; more than none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u16);

impl Share {
    /// So many percent of all keys, to the nearest hundredth. `None` for less than 0.01 and more than 100.
    #[must_use]
    pub fn of_percent(percent: f64) -> Option<Self> {
        let parts = (percent * f64::from(PARTS) / 100.0).round();
        (1.0..=f64::from(PARTS)).contains(&parts).then_some(Self(parts as u16))
    }

    /// In percent.
    #[must_use]
    pub fn percent(self) -> f64 {
        f64::from(self.0) * 100.0 / f64::from(PARTS)
    }

    /// Whether a routing key belongs to it.
    #[must_use]
    pub fn has(self, routing_key: &[u8]) -> bool {
        part_of(routing_key) < self.0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.percent())
    }
}

/// The part that a key belongs to, below [`PARTS`]: FNV-1a, whose upper bits are then mixed, for those
/// decide.
fn part_of(routing_key: &[u8]) -> u16 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in routing_key {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^= hash >> 33;
    // The upper half of a product with PARTS: below PARTS.
    ((u128::from(hash) * u128::from(PARTS)) >> 64) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(percent: f64) -> Share {
        Share::of_percent(percent).unwrap()
    }

    #[test]
    fn a_share_is_more_than_none_and_at_most_all() {
        for wrong in [0.0, 0.004, -1.0, 100.01, f64::NAN, f64::INFINITY] {
            assert_eq!(Share::of_percent(wrong), None, "{wrong}");
        }
        assert_eq!(share(0.01).percent(), 0.01);
        assert_eq!(share(33.333).to_string(), "33.33 %");
        assert_eq!(share(100.0).to_string(), "100 %");
    }

    #[test]
    fn the_parts_of_keys_stay_what_they_are() {
        // Another hash would send keys another way after an upgrade of the broker.
        let parts = [b"".as_slice(), b"a", b"order.eu.17", &[0xff; 255]].map(part_of);
        assert_eq!(parts, [9367, 5102, 9357, 1115]);
    }

    #[test]
    fn a_larger_share_has_all_that_a_smaller_one_has() {
        let keys: Vec<String> = (0..2_000).map(|n| format!("key.{n}")).collect();
        let mut before = vec![false; keys.len()];
        for percent in [0.01, 1.0, 5.0, 25.0, 50.0, 99.0, 100.0] {
            let now: Vec<bool> = keys.iter().map(|key| share(percent).has(key.as_bytes())).collect();
            assert!(before.iter().zip(&now).all(|(before, now)| now >= before), "{percent} %");
            before = now;
        }
        assert!(before.iter().all(|there| *there), "100 % is all");
    }

    #[test]
    fn a_share_of_many_keys_is_about_its_part_of_them_whatever_they_look_like() {
        let forms: [&dyn Fn(u32) -> String; 4] =
            [&|n| n.to_string(), &|n| format!("order.eu.{n:08}"), &|n| format!("{n}.price.usd"), &|n| {
                "x".repeat(n as usize % 200) + &n.to_string()
            }];
        for form in forms {
            for percent in [1.0, 10.0, 50.0, 90.0] {
                let many = 50_000;
                let there = (0..many).filter(|n| share(percent).has(form(*n).as_bytes())).count() as f64;
                let (part, wanted) = (there / f64::from(many), percent / 100.0);
                // Six standard deviations of as many throws of a coin.
                let most = 6.0 * (wanted * (1.0 - wanted) / f64::from(many)).sqrt();
                assert!((part - wanted).abs() < most, "{part} instead of {wanted}, like {}", form(7));
            }
        }
    }
}
