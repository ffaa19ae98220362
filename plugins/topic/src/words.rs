//! Words as numbers. A short one is its own number: its bytes, and how many. A long one has a number as long as a
//! pattern holds it.
//!
//! Eight bytes are looked at together: in a component each turn of a loop costs as much as several of them.

use leveret_sdk::{ExtendibleMap, SegmentedVec, binding_index::first_eight};
use std::rc::Rc;

/// The most bytes of a short word: the eighth byte of a number says how many there are.
const SHORT_MAX: usize = 7;
/// What the eighth byte of a long word's number is.
const LONG: u64 = 0xff << 56;

/// Numbers a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct WordId(u64);

/// A word of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Word<'a> {
    Short(WordId),
    Long(&'a [u8]),
}

impl<'a> Word<'a> {
    pub(crate) fn of(word: &'a [u8]) -> Self {
        if word.len() <= SHORT_MAX {
            Self::Short(short(first_eight(word), word.len()))
        } else {
            Self::Long(word)
        }
    }
}

/// The number of a word of so many bytes that some bytes begin with.
#[inline]
fn short(bytes: u64, length: usize) -> WordId {
    WordId(bytes & ((1 << (8 * length)) - 1) | (length as u64) << 56)
}

/// Where the first dot is.
#[inline]
fn first_dot(eight: u64) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let others = eight ^ (ONES * b'.' as u64);
    // The lowest bit of it is right: only above a zero byte there may be more.
    let zeros = others.wrapping_sub(ONES) & !others & (ONES << 7);
    (zeros != 0).then(|| zeros.trailing_zeros() as usize / 8)
}

/// The words of a key or pattern.
pub(crate) struct WordsOf<'a> {
    /// Nothing once the last word was given.
    rest: Option<&'a [u8]>,
}

impl<'a> WordsOf<'a> {
    pub(crate) fn new(key: &'a [u8]) -> Self {
        // The empty key is no words; splitting it gives one empty word.
        Self { rest: Some(key).filter(|key| !key.is_empty()) }
    }

    /// The next word, as it is.
    fn next_bytes(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        let mut at = 0;
        let end = loop {
            let ahead = rest.get(at..).unwrap_or_default();
            if let Some(dot) = first_dot(first_eight(ahead)) {
                break Some(at + dot);
            }
            if ahead.len() <= 8 {
                break None;
            }
            at += 8;
        };
        self.rest = end.and_then(|end| rest.get(end + 1..));
        rest.get(..end.unwrap_or(rest.len()))
    }
}

impl<'a> Iterator for WordsOf<'a> {
    type Item = Word<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Word<'a>> {
        let rest = self.rest?;
        let eight = first_eight(rest);
        if let Some(end) = first_dot(eight) {
            self.rest = rest.get(end + 1..);
            return Some(Word::Short(short(eight, end)));
        }
        if rest.len() <= SHORT_MAX {
            self.rest = None;
            return Some(Word::Short(short(eight, rest.len())));
        }
        self.next_bytes().map(Word::of)
    }
}

/// What comes next of a key.
pub(crate) enum NextWord {
    Short(WordId),
    /// One that is not short: it was not taken.
    Long,
    /// There are no more.
    End,
}

impl WordsOf<'_> {
    /// The next word, if it is short; without a call of a function.
    #[inline(always)]
    pub(crate) fn next_short(&mut self) -> NextWord {
        let Some(rest) = self.rest else {
            return NextWord::End;
        };
        let eight = first_eight(rest);
        if let Some(end) = first_dot(eight) {
            self.rest = rest.get(end + 1..);
            return NextWord::Short(short(eight, end));
        }
        if rest.len() > SHORT_MAX {
            return NextWord::Long;
        }
        self.rest = None;
        NextWord::Short(short(eight, rest.len()))
    }
}

/// The words of a key or pattern, as they are.
pub(crate) fn words_of(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut words = WordsOf::new(key);
    std::iter::from_fn(move || words.next_bytes())
}

/// The long words that patterns hold.
#[derive(Debug, Default)]
pub(crate) struct Words {
    numbers: ExtendibleMap<Rc<[u8]>, WordId>,
    entries: SegmentedVec<Entry>,
    free: SegmentedVec<WordId>,
}

#[derive(Debug)]
struct Entry {
    word: Rc<[u8]>,
    holders: u32,
}

impl WordId {
    /// The number of a long word at a place.
    fn of_long(place: usize) -> Self {
        Self(LONG | place as u64)
    }

    /// Where a long word is; for a short one, where none is.
    fn place(self) -> usize {
        if self.0 & LONG == LONG { (self.0 & !LONG) as usize } else { usize::MAX }
    }
}

impl Words {
    /// The number of a word; none of a long one that no pattern holds.
    #[inline]
    pub(crate) fn get(&self, word: Word<'_>) -> Option<WordId> {
        match word {
            Word::Short(id) => Some(id),
            Word::Long(word) => self.numbers.get(word).copied(),
        }
    }

    /// The number of a word, for one more holder.
    pub(crate) fn hold(&mut self, word: Word<'_>) -> WordId {
        let bytes = match word {
            Word::Short(id) => return id,
            Word::Long(bytes) => bytes,
        };
        if let Some(id) = self.get(word) {
            if let Some(entry) = self.entries.get_mut(id.place()) {
                entry.holders += 1;
            }
            return id;
        }
        let entry = Entry { word: bytes.into(), holders: 1 };
        let word = entry.word.clone();
        let id = match self.free.pop() {
            Some(id) => {
                if let Some(place) = self.entries.get_mut(id.place()) {
                    *place = entry;
                }
                id
            }
            None => WordId::of_long(self.entries.push(entry)),
        };
        self.numbers.insert(word, id);
        id
    }

    /// One holder less; without any the number of a long word may go to another.
    pub(crate) fn release(&mut self, id: WordId) {
        let Some(entry) = self.entries.get_mut(id.place()) else {
            return;
        };
        entry.holders = entry.holders.saturating_sub(1);
        if entry.holders == 0 && self.numbers.remove(&entry.word).is_some() {
            entry.word = [].into();
            self.free.push(id);
        }
    }

    /// How many words are held.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plainly(key: &[u8]) -> Vec<&[u8]> {
        key.split(|byte| *byte == b'.').skip(usize::from(key.is_empty())).collect()
    }

    #[test]
    fn short_words_are_their_own_numbers_and_no_two_are_the_same() {
        let words: Vec<Vec<u8>> = [
            &b""[..],
            b"\0",
            b"\0\0",
            b"a",
            b"a\0",
            b"\xff",
            b"abcd",
            b"abcde",
            b"bcdef",
            b"abcdefg",
            b"\0\0\0\0\0\0\0",
        ]
        .map(<[u8]>::to_vec)
        .into();
        let mut numbers = std::collections::HashSet::new();
        for word in &words {
            let Word::Short(id) = Word::of(word) else { panic!("{word:?} is long") };
            assert!(numbers.insert(id.0), "{word:?}");
            assert_eq!(id.place(), usize::MAX);
        }
        assert!(matches!(Word::of(b"abcdefgh"), Word::Long(b"abcdefgh")));
        assert_eq!(WordId::of_long(0).place(), 0);
    }

    proptest! {
        #[test]
        fn words_are_what_is_between_dots(
            key in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..40),
                proptest::collection::vec(prop_oneof![3 => Just(b'.'), 1 => Just(b'-'), 1 => Just(b'/'), 9 => any::<u8>()], 0..40),
            ],
        ) {
            prop_assert_eq!(words_of(&key).collect::<Vec<_>>(), plainly(&key));
            let numbered: Vec<_> = WordsOf::new(&key).collect();
            prop_assert_eq!(numbered.len(), plainly(&key).len());
            for (word, plain) in numbered.into_iter().zip(plainly(&key)) {
                match word {
                    Word::Long(long) => prop_assert!(long == plain && long.len() > SHORT_MAX),
                    Word::Short(WordId(id)) => {
                        prop_assert_eq!((id >> 56) as usize, plain.len());
                        prop_assert_eq!(&id.to_le_bytes()[..plain.len()], plain);
                    }
                }
            }
        }
    }
}
