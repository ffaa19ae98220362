//! Answers, written as the words of `wit/CONTRACT.md`, "Batches".
//!
//! ```text
//! 0 << 56 | n    deliver: n words follow, a binding id each
//! 1 << 56 | n    drop: n bytes of UTF-8 follow in ⌈n / 8⌉ words, little-endian, zero-filled
//! 2 << 56 | n    reject: the same
//! 3 << 56        delegate
//! 4 << 56 | n    hold for n milliseconds
//! ```

use crate::{BindingId, Decision};
use std::mem::MaybeUninit;

const DROP: u64 = 1 << 56;
const REJECT: u64 = 2 << 56;
const DELEGATE: u64 = 3 << 56;
const HOLD: u64 = 4 << 56;
/// The most that fits beside the kind.
const COUNT_MAX: u64 = DROP - 1;

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
            other => {
                self.words.truncate(self.first);
                put_other(self.words, &other)
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
        // Most messages go to one.
        match ids {
            [id] => self.push(*id),
            _ => self.words.extend(ids.iter().map(|id| id.0)),
        }
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

/// The bindings one message goes to, if they are few ([`ExchangeType::route_at_once`](crate::ExchangeType::route_at_once)).
#[derive(Debug)]
pub struct Few<'a> {
    room: &'a mut [MaybeUninit<u64>],
    count: usize,
}

impl<'a> Few<'a> {
    /// Begins the answer for a message, in the room that there is.
    #[inline(always)]
    pub(crate) fn begin(room: &'a mut [MaybeUninit<u64>]) -> Self {
        // The first word says how many follow.
        Self { room, count: 0 }
    }

    /// Adds a binding, if there is room for it.
    #[inline(always)]
    #[must_use]
    pub fn push(&mut self, id: BindingId) -> bool {
        let Some(place) = self.room.get_mut(self.count + 1) else {
            return false;
        };
        place.write(id.0);
        self.count += 1;
        true
    }

    /// Adds bindings, if they are one or none.
    #[inline(always)]
    #[must_use]
    pub fn push_one_of(&mut self, ids: &[BindingId]) -> bool {
        match ids {
            [id] => self.push(*id),
            ids => ids.is_empty(),
        }
    }

    /// Ends the answer: how many words it has, all of which are written, from the first on; none if there was no room.
    #[inline(always)]
    pub(crate) fn end(self) -> Option<usize> {
        self.room.first_mut()?.write(self.count as u64);
        Some(self.count + 1)
    }
}

impl Extend<BindingId> for Targets<'_> {
    fn extend<I: IntoIterator<Item = BindingId>>(&mut self, ids: I) {
        self.words.extend(ids.into_iter().map(|id| id.0));
    }
}

/// The first word of what is not delivered; appends the words that follow it.
fn put_other(words: &mut Vec<u64>, decision: &Decision) -> u64 {
    match decision {
        Decision::Deliver => 0,
        Decision::Drop(reason) => {
            put_text(words, reason);
            DROP | reason.len() as u64
        }
        Decision::Reject(reason) => {
            put_text(words, reason);
            REJECT | reason.len() as u64
        }
        Decision::Delegate => DELEGATE,
        Decision::Hold(time) => HOLD | u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(COUNT_MAX),
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
    Drop(String),
    Reject(String),
    Delegate,
    HoldMs(u64),
}

impl Answer {
    /// Reads the answer for one message and says what is left; none where the words make no sense.
    pub(crate) fn read(words: &[u64]) -> Option<(Self, &[u64])> {
        let (head, rest) = words.split_first()?;
        let count = head & COUNT_MAX;
        // Of what follows; a time need not fit.
        let length = || usize::try_from(count).ok();
        match head & !COUNT_MAX {
            0 => {
                let (ids, rest) = rest.split_at_checked(length()?)?;
                Some((Self::Deliver(ids.to_vec()), rest))
            }
            DROP => text(rest, length()?).map(|(reason, rest)| (Self::Drop(reason), rest)),
            REJECT => text(rest, length()?).map(|(reason, rest)| (Self::Reject(reason), rest)),
            DELEGATE if count == 0 => Some((Self::Delegate, rest)),
            HOLD => Some((Self::HoldMs(count), rest)),
            _ => None,
        }
    }
}

/// So many bytes of text, and the words after them.
fn text(words: &[u64], length: usize) -> Option<(String, &[u64])> {
    let (text, rest) = words.split_at_checked(length.div_ceil(8))?;
    let bytes = text.iter().flat_map(|word| word.to_le_bytes()).take(length).collect();
    Some((String::from_utf8(bytes).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
        targets.end(Decision::Drop("".into()));
        Targets::begin(&mut words).end(Decision::Reject("nine byte".into()));
        Targets::begin(&mut words).end(Decision::Deliver);
        Targets::begin(&mut words).end(Decision::Drop("seen".into()));
        Targets::begin(&mut words).end(Decision::Delegate);
        Targets::begin(&mut words).end(Decision::Hold(Duration::from_micros(1999)));
        Targets::begin(&mut words).end(Decision::Hold(Duration::MAX));
        let text = u64::from_le_bytes(*b"nine byt");
        let seen = u64::from(u32::from_le_bytes(*b"seen"));
        #[rustfmt::skip]
        let expected = [
            3, 7, 8, 9, 1 << 56, 2 << 56 | 9, text, u64::from(b'e'), 0,
            1 << 56 | 4, seen, 3 << 56, 4 << 56 | 1, 5 * (1 << 56) - 1,
        ];
        assert_eq!(words, expected);

        let mut left = words.as_slice();
        let mut answers = Vec::new();
        while let Some((answer, rest)) = Answer::read(left) {
            answers.push(answer);
            left = rest;
        }
        let expected = [
            Answer::Deliver(vec![7, 8, 9]),
            Answer::Drop(String::new()),
            Answer::Reject("nine byte".into()),
            Answer::Deliver(vec![]),
            Answer::Drop("seen".into()),
            Answer::Delegate,
            Answer::HoldMs(1),
            Answer::HoldMs((1 << 56) - 1),
        ];
        assert_eq!((answers.as_slice(), left), (&expected[..], &[][..]));
    }

    #[test]
    fn words_that_make_no_sense_are_none() {
        for words in [&[][..], &[1], &[5 << 56], &[3 << 56 | 1], &[1 << 56 | 1], &[2 << 56 | 9, 0]] {
            assert_eq!(Answer::read(words), None);
        }
    }
}
