//! Which names of exchanges or queues an attachment is for.

use std::fmt;

/// A pattern for names: `*` stands for any bytes, also none, also dots; everything else for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// The pattern of a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether it stands for that name.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        let pattern = self.0.as_bytes();
        let (mut at, mut read) = (0, 0);
        // After the last star, and how much of the name it stands for as far as was tried.
        let mut star: Option<(usize, usize)> = None;
        while let Some(byte) = name.get(read) {
            match pattern.get(at) {
                Some(b'*') => {
                    at += 1;
                    star = Some((at, read));
                }
                Some(expected) if expected == byte => {
                    at += 1;
                    read += 1;
                }
                _ => {
                    let Some((after, from)) = star else { return false };
                    star = Some((after, from + 1));
                    (at, read) = (after, from + 1);
                }
            }
        }
        pattern.iter().skip(at).all(|byte| *byte == b'*')
    }

    /// Whether there is a name that both stand for.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let (one, another) = (self.0.as_bytes(), other.0.as_bytes());
        // For each end of `another` whether it can meet the end of `one` that is looked at.
        let mut row: Vec<bool> = vec![false; another.len() + 1];
        for end in (0..=another.len()).rev() {
            let last = end == another.len();
            let rest = row.get(end + 1).copied().unwrap_or_default();
            if let Some(place) = row.get_mut(end) {
                *place = last || (another.get(end) == Some(&b'*') && rest);
            }
        }
        for byte in one.iter().rev() {
            let before = row.clone();
            for end in (0..=another.len()).rev() {
                let below = before.get(end).copied().unwrap_or_default();
                let aside = row.get(end + 1).copied().unwrap_or_default();
                let across = before.get(end + 1).copied().unwrap_or_default();
                let meets = match (byte, another.get(end)) {
                    (b'*', Some(b'*')) => below || aside,
                    // The star takes nothing, or one byte more.
                    (b'*', Some(_)) => below || aside,
                    (b'*', None) => below,
                    (_, Some(b'*')) => aside || below,
                    (byte, Some(other)) => byte == other && across,
                    (_, None) => false,
                };
                if let Some(place) = row.get_mut(end) {
                    *place = meets;
                }
            }
        }
        row.first().copied().unwrap_or_default()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_bytes() {
        for (pattern, name, matches) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "a.b", true),
            ("orders.*", "orders.", true),
            ("orders.*", "orders.eu.1", true),
            ("orders.*", "orders", false),
            ("*.dead", "a.dead.dead", true),
            ("*.dead", "a.dead.", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a**", "a", true),
        ] {
            assert_eq!(Pattern::new(pattern).matches(name.as_bytes()), matches, "{pattern} {name}");
        }
    }

    /// Against all short names of three letters.
    #[test]
    fn two_patterns_meet_where_a_name_fits_both() {
        let letters = [b'a', b'b', b'*'];
        let words = |letters: &[u8], length: usize| -> Vec<Vec<u8>> {
            (0..length).fold(vec![Vec::new()], |words: Vec<Vec<u8>>, _| {
                let longer = words.iter().flat_map(|word| {
                    letters.iter().map(move |letter| [word.as_slice(), &[*letter]].concat())
                });
                let longer: Vec<_> = longer.collect();
                words.into_iter().chain(longer).collect()
            })
        };
        let names = words(b"ab", 5);
        let patterns: Vec<Pattern> = words(&letters, 3)
            .into_iter()
            .map(|pattern| Pattern::new(String::from_utf8(pattern).unwrap()))
            .collect();
        for one in &patterns {
            for other in patterns.iter().step_by(3) {
                let meet = names.iter().any(|name| one.matches(name) && other.matches(name));
                assert_eq!(one.meets(other), meet, "{one} and {other}");
            }
        }
    }
}
