//! Answers, written as the words of `wit/CONTRACT.md`, "Batches".
//!
//! ```text
//! 0 << 56 | n    deliver: n words follow, a binding id each
//! 1 << 56        drop
//! 2 << 56 | n    reject: n bytes of UTF-8 follow in ⌈n / 8⌉ words, little-endian, zero-filled
//! ```

use crate::{BindingId, Decision};

const DROP: u64 = 1 << 56;
const REJECT: u64 = 2 << 56;

/// The bindings one message goes to. Naming one twice is harmless and costs time.
#[derive(Debug)]
pub struct Targets<'a> {
    /// All answers of the batch so far; those of this message begin at `first`.
    words: &'a mut Vec<u64>,
    first: usize,
}

impl<'a> Targets<'a> {
    /// Begins the answer for a message: leaves a place for its first word.
    #[inline]
    pub(crate) fn begin(words: &'a mut Vec<u64>) -> Self {
        words.push(0);
        let first = words.len();
        Self { words, first }
    }

    /// Ends the answer: puts the first word in its place.
    #[inline]
    pub(crate) fn end(self, decision: Decision) {
        let head = match decision {
            Decision::Deliver => self.len() as u64,
            Decision::Drop => {
                self.words.truncate(self.first);
                DROP
            }
            Decision::Reject(reason) => {
                self.words.truncate(self.first);
                put_text(self.words, &reason);
                REJECT | reason.len() as u64
            }
        };
        if let Some(place) = self.first.checked_sub(1).and_then(|at| self.words.get_mut(at)) {
            *place = head;
        }
    }

    /// Adds a binding.
    #[inline]
    pub fn push(&mut self, id: BindingId) {
        self.words.push(id.0);
    }

    /// Adds bindings.
    #[inline]
    pub fn extend_from_slice(&mut self, ids: &[BindingId]) {
        self.words.extend(ids.iter().map(|id| id.0));
    }

    /// How many were added.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.words.len() - self.first
    }

    /// Whether none was added.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Extend<BindingId> for Targets<'_> {
    fn extend<I: IntoIterator<Item = BindingId>>(&mut self, ids: I) {
        self.words.extend(ids.into_iter().map(|id| id.0));
    }
}

fn put_text(words: &mut Vec<u64>, text: &str) {
    words.extend(text.as_bytes().chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        u64::from_le_bytes(word)
    }));
}

/// An answer read back from its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Deliver(Vec<u64>),
    Drop,
    Reject(String),
}

impl Answer {
    /// Reads the answer for one message and says what is left; none where the words make no sense.
    pub(crate) fn read(words: &[u64]) -> Option<(Self, &[u64])> {
        let (head, rest) = words.split_first()?;
        let count = usize::try_from(head & (DROP - 1)).ok()?;
        match head & !(DROP - 1) {
            0 => {
                let (ids, rest) = rest.split_at_checked(count)?;
                Some((Self::Deliver(ids.to_vec()), rest))
            }
            DROP if count == 0 => Some((Self::Drop, rest)),
            REJECT => {
                let (text, rest) = rest.split_at_checked(count.div_ceil(8))?;
                let bytes = text.iter().flat_map(|word| word.to_le_bytes()).take(count).collect();
                Some((Self::Reject(String::from_utf8(bytes).ok()?), rest))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_documented_ones() {
        let mut words = Vec::new();
        let mut targets = Targets::begin(&mut words);
        targets.push(BindingId(7));
        targets.extend_from_slice(&[BindingId(8), BindingId(9)]);
        assert_eq!(targets.len(), 3);
        targets.end(Decision::Deliver);
        let mut targets = Targets::begin(&mut words);
        targets.push(BindingId(1));
        targets.end(Decision::Drop);
        Targets::begin(&mut words).end(Decision::Reject("nine byte".into()));
        Targets::begin(&mut words).end(Decision::Deliver);
        let text = u64::from_le_bytes(*b"nine byt");
        assert_eq!(words, [3, 7, 8, 9, 1 << 56, 2 << 56 | 9, text, u64::from(b'e'), 0]);

        let (answer, rest) = Answer::read(&words).unwrap();
        assert_eq!(answer, Answer::Deliver(vec![7, 8, 9]));
        let (answer, rest) = Answer::read(rest).unwrap();
        assert_eq!(answer, Answer::Drop);
        let (answer, rest) = Answer::read(rest).unwrap();
        assert_eq!(answer, Answer::Reject("nine byte".into()));
        assert_eq!(Answer::read(rest), Some((Answer::Deliver(vec![]), &[][..])));
    }

    #[test]
    fn words_that_make_no_sense_are_none() {
        for words in [&[][..], &[1], &[3 << 56], &[1 << 56 | 1, 0], &[2 << 56 | 9, 0]] {
            assert_eq!(Answer::read(words), None);
        }
    }
}
