//! Which routing keys messages carry and queues are bound with, and in which order keys come.

use anyhow::{Context, bail};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Zipf};
use std::{
    fmt::{self, Write},
    num::NonZeroU64,
    str::FromStr,
};

/// A text with a number in it: `{}` stands for the number, `{M}` for the number modulo M.
///
/// With `a.{10}.{}` number 123 gives `a.3.123`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Number,
    Modulo(NonZeroU64),
}

impl FromStr for Pattern {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (number, after) = after.split_once('}').context("a { without its }")?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(match number {
                "" => Part::Number,
                modulus => match modulus.parse() {
                    Ok(modulus) => Part::Modulo(modulus),
                    Err(_) => bail!("between {{ and }} stands nothing or a number above 0, not {modulus:?}"),
                },
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }
}

impl Pattern {
    /// The text for that number.
    #[must_use]
    pub fn text(&self, number: u64) -> String {
        let mut text = String::new();
        self.put(number, &mut text);
        text
    }

    /// How long the longest text for a number up to that one is, in bytes.
    #[must_use]
    pub fn bytes_max(&self, last: u64) -> usize {
        let digits = |number: u64| number.checked_ilog10().unwrap_or(0) as usize + 1;
        let bytes = |part: &Part| match part {
            Part::Text(text) => text.len(),
            Part::Number => digits(last),
            Part::Modulo(modulus) => digits(last.min(modulus.get() - 1)),
        };
        self.0.iter().map(bytes).sum()
    }

    /// Appends the text for that number.
    pub fn put(&self, number: u64, text: &mut String) {
        for part in &self.0 {
            match part {
                Part::Text(part) => text.push_str(part),
                // A String takes whatever is written.
                Part::Number => drop(write!(text, "{number}")),
                Part::Modulo(modulus) => drop(write!(text, "{}", number % *modulus)),
            }
        }
    }
}

/// In which order the keys of messages come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KeyOrder {
    /// One after the other, and from the start again.
    Turn,
    /// Each as likely as any other.
    Random,
    /// Few come often: key number k with a weight of 1 / (k + 1)^exponent.
    Zipf(f64),
    /// None comes twice: the number goes on above the number of keys.
    New,
}

impl fmt::Display for KeyOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Turn => f.write_str("turn"),
            Self::Random => f.write_str("random"),
            Self::Zipf(exponent) => write!(f, "zipf:{exponent}"),
            Self::New => f.write_str("new"),
        }
    }
}

impl FromStr for KeyOrder {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let zipf = text.strip_prefix("zipf");
        match text {
            "turn" => return Ok(Self::Turn),
            "random" => return Ok(Self::Random),
            "new" => return Ok(Self::New),
            "zipf" => return Ok(Self::Zipf(1.0)),
            _ => {}
        }
        match zipf.and_then(|rest| rest.strip_prefix(':')).and_then(|exponent| exponent.parse().ok()) {
            Some(exponent) if f64::is_finite(exponent) && exponent > 0.0 => Ok(Self::Zipf(exponent)),
            _ => bail!("an order is turn, random, new, zipf or zipf:EXPONENT, not {text:?}"),
        }
    }
}

/// Numbers of keys, without end. Drawing costs more than publishing, so those that are drawn at random are drawn
/// before, and come again when all have been.
pub(super) enum Numbers {
    Turn { next: u64, keys: u64 },
    Drawn { numbers: Vec<u32>, next: usize },
    New { next: u64, step: u64 },
}

impl Numbers {
    /// For publisher `index` of `publishers`; the same each time.
    pub(super) fn new(order: KeyOrder, keys: usize, index: usize, publishers: usize) -> anyhow::Result<Self> {
        let (index, publishers) = (index as u64, publishers as u64);
        let keys = u32::try_from(keys).context("too many keys")?;
        let mut random = StdRng::seed_from_u64(index);
        let zipf = |exponent| Zipf::new(f64::from(keys), exponent).context("this exponent cannot be had");
        Ok(match order {
            KeyOrder::Turn => Self::Turn { next: index % u64::from(keys), keys: u64::from(keys) },
            KeyOrder::New => Self::New { next: index, step: publishers },
            KeyOrder::Random => Self::drawn(keys, || random.random_range(0..keys)),
            KeyOrder::Zipf(exponent) => {
                let zipf = zipf(exponent)?;
                // Ranks begin with 1.
                Self::drawn(keys, || (zipf.sample(&mut random) as u32).clamp(1, keys) - 1)
            }
        })
    }

    fn drawn(keys: u32, mut draw: impl FnMut() -> u32) -> Self {
        /// So many a key, and so many at least.
        const DRAWS: (usize, usize) = (4, 1 << 16);
        let count = (keys as usize * DRAWS.0).max(DRAWS.1);
        Self::Drawn { numbers: (0..count).map(|_| draw()).collect(), next: 0 }
    }

    /// After how many they come again in the same order; `None` if they never do.
    pub(super) fn period(&self) -> Option<u64> {
        match self {
            Self::Turn { keys, .. } => Some(*keys),
            Self::Drawn { numbers, .. } => Some(numbers.len() as u64),
            Self::New { .. } => None,
        }
    }

    /// The next one.
    #[inline]
    pub(super) fn next(&mut self) -> u64 {
        match self {
            Self::Turn { next, keys } => {
                let number = *next;
                *next = if number + 1 == *keys { 0 } else { number + 1 };
                number
            }
            Self::Drawn { numbers, next } => {
                let number = numbers[*next];
                *next = if *next + 1 == numbers.len() { 0 } else { *next + 1 };
                u64::from(number)
            }
            Self::New { next, step } => {
                let number = *next;
                *next += *step;
                number
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(order: KeyOrder, keys: usize, count: usize) -> Vec<u64> {
        let mut numbers = Numbers::new(order, keys, 1, 3).unwrap();
        (0..count).map(|_| numbers.next()).collect()
    }

    #[test]
    fn numbers_stand_in_patterns() {
        let text = |pattern: &str, number| pattern.parse::<Pattern>().unwrap().text(number);
        assert_eq!(text("plain", 7), "plain");
        assert_eq!(text("", 7), "");
        assert_eq!(text("a.{10}.{}", 123), "a.3.123");
        assert_eq!(text("{}{}", 12), "1212");
        for bad in ["{", "a{b}", "{0}", "{-1}", "x{1"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_longest_text_is_known() {
        for pattern in ["", "plain", "a.{}", "{7}.{}", "{1}{10}{11}"] {
            let pattern: Pattern = pattern.parse().unwrap();
            for last in [0, 1, 9, 10, 11, 99, 100, 1234] {
                let longest = (0..=last).map(|number| pattern.text(number).len()).max().unwrap();
                assert_eq!(pattern.bytes_max(last), longest, "{pattern:?} {last}");
            }
        }
    }

    #[test]
    fn orders_are_named() {
        assert_eq!("zipf".parse::<KeyOrder>().unwrap(), KeyOrder::Zipf(1.0));
        assert_eq!("zipf:0.8".parse::<KeyOrder>().unwrap(), KeyOrder::Zipf(0.8));
        for bad in ["", "zip", "zipf:", "zipf:0", "zipf:-1", "zipf:inf", "zipf:nan"] {
            assert!(bad.parse::<KeyOrder>().is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_come_in_their_order() {
        assert_eq!(first(KeyOrder::Turn, 4, 6), [1, 2, 3, 0, 1, 2]);
        assert_eq!(first(KeyOrder::Turn, 1, 2), [0, 0]);
        assert_eq!(first(KeyOrder::New, 4, 4), [1, 4, 7, 10]);
    }

    #[test]
    fn drawn_keys_have_their_weights() {
        let counts = |order| {
            let mut counts = [0_u32; 10];
            for number in first(order, 10, 65_536) {
                counts[number as usize] += 1;
            }
            counts
        };
        assert!(counts(KeyOrder::Random).iter().all(|count| (6_000..7_200).contains(count)));
        // The harmonic number of 10 is 2.929: the first has 34 of 100, the tenth 3.4.
        let zipf = counts(KeyOrder::Zipf(1.0));
        assert!((21_700..23_100).contains(&zipf[0]) && (2_000..2_500).contains(&zipf[9]), "{zipf:?}");
    }
}
