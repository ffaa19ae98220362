//! Which of the remembered keys new bindings can concern, found by the marks of these.
//!
//! All questions of a segment are searched as one run of bytes, four bytes of the mark first: those four
//! that are the rarest in a sample of the newest, since keys often begin or end alike. Sixteen places are compared at a
//! time, so that a segment of 1 MiB takes about as long as it takes to read it.

use super::keys::{Place, Segments};

/// More new bindings at a time are not looked for by their marks: each mark is a walk over all keys.
pub(crate) const MARKS_MAX: usize = 8;
/// How many bytes of questions are looked at to choose a part of a mark.
const SAMPLE_BYTES: usize = 1_024;
/// How many parts of a mark are tried.
const PARTS_MAX: usize = 64;
/// How many places are compared at a time.
const BLOCK: usize = 64;

/// What the questions have that new bindings can concern: any one of these.
pub(crate) struct Marks<'a>(Vec<Mark<'a>>);

/// The mark of a binding.
pub(super) struct Mark<'a>(&'a [u8]);

/// Up to four bytes in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Part {
    /// Where in the mark.
    at: usize,
    bytes: u32,
    /// Which of the four count.
    mask: u32,
}

impl<'a> Marks<'a> {
    /// Of these marks. `None` where they say nothing: a binding may concern any question.
    pub(crate) fn new(marks: &'a [Vec<u8>]) -> Option<Self> {
        if marks.is_empty() || marks.len() > MARKS_MAX || marks.iter().any(Vec::is_empty) {
            return None;
        }
        Some(Self(marks.iter().map(|mark| Mark(mark)).collect()))
    }
}

impl Segments {
    /// Where the keys are whose questions have one of the marks, those of a segment in a row. (Their
    /// lengths are searched too; what is found there by chance is asked about for nothing.)
    pub(super) fn marked(&self, marks: &Marks<'_>) -> Vec<Place> {
        let mut places = Vec::new();
        let sample = self.numbered().last().map_or(&[][..], |(_, newest)| newest.sample(SAMPLE_BYTES));
        let parts: Vec<_> = marks.0.iter().map(|mark| (mark, mark.rarest_part(sample))).collect();
        for (number, segment) in self.numbered() {
            let first = places.len();
            for (mark, part) in &parts {
                segment.marked(number, self.form.head_bytes(), (mark, *part), &mut places);
            }
            if let (2.., Some(found)) = (marks.0.len(), places.get_mut(first..)) {
                found.sort_unstable_by_key(|place| place.at);
            }
        }
        places.dedup();
        places
    }
}

impl Mark<'_> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Calls back with each place where the mark is, from the first on; the answer is from where to go on.
    /// `part` is one of its own.
    pub(super) fn find_in(&self, part: Part, bytes: &[u8], mut found: impl FnMut(usize) -> usize) {
        let mut from = 0;
        while let Some(at) = part.find(bytes, from + part.at) {
            let start = at - part.at;
            let is_there = bytes.get(start..).is_some_and(|bytes| bytes.starts_with(self.0));
            from = if is_there { found(start).max(start + 1) } else { start + 1 };
        }
    }

    /// The part that is the rarest in the sample.
    fn rarest_part(&self, sample: &[u8]) -> Part {
        let parts = (0..self.0.len().saturating_sub(3).clamp(1, PARTS_MAX)).map(|at| Part::of(self.0, at));
        parts.min_by_key(|part| part.count(sample)).unwrap_or_default()
    }
}

impl Part {
    fn of(mark: &[u8], at: usize) -> Self {
        let mut part = Self { at, ..Self::default() };
        for (place, byte) in mark.iter().skip(at).take(4).enumerate() {
            part.bytes |= u32::from(*byte) << (8 * place);
            part.mask |= 0xff << (8 * place);
        }
        part
    }

    #[inline]
    fn is(self, bytes: [u8; 4]) -> bool {
        u32::from_le_bytes(bytes) & self.mask == self.bytes
    }

    fn count(self, bytes: &[u8]) -> usize {
        bytes.windows(4).filter(|four| four.first_chunk().is_some_and(|four| self.is(*four))).count()
    }

    /// Where it is, from a place on.
    fn find(self, bytes: &[u8], mut from: usize) -> Option<usize> {
        while let Some(block) = bytes.get(from..).and_then(|rest| rest.first_chunk::<{ BLOCK + 3 }>()) {
            if self.is_in(block) {
                break;
            }
            from += BLOCK;
        }
        let rest = bytes.get(from..)?;
        let whole = rest.windows(4).position(|four| four.first_chunk().is_some_and(|four| self.is(*four)));
        let found = whole.or_else(|| {
            // A short mark may be among the last bytes.
            let last = rest.len().saturating_sub(3);
            (last..rest.len()).find(|at| {
                let mut four = [0; 4];
                four.iter_mut().zip(rest.iter().skip(*at)).for_each(|(to, from)| *to = *from);
                let there = self.mask.count_ones() as usize / 8;
                rest.len() - at >= there && self.is(four)
            })
        });
        found.map(|found| from + found)
    }

    /// Whether it begins in the first [`BLOCK`] bytes.
    #[inline]
    fn is_in(self, block: &[u8; BLOCK + 3]) -> bool {
        (0..4).any(|shift| {
            let fours = block.get(shift..shift + BLOCK).unwrap_or_default().as_chunks::<4>().0;
            // All of them, so that they are compared side by side.
            fours.iter().fold(false, |any, four| any | self.is(*four))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(mark: &[u8], bytes: &[u8]) -> Vec<usize> {
        let mut places = Vec::new();
        let mark = Mark(mark);
        mark.find_in(mark.rarest_part(bytes), bytes, |at| {
            places.push(at);
            at + 1
        });
        places
    }

    proptest::proptest! {
        #[test]
        fn a_mark_is_found_wherever_it_is(
            bytes in proptest::collection::vec(0_u8..3, 0..400),
            mark in proptest::collection::vec(0_u8..3, 1..9),
        ) {
            let all = bytes.windows(mark.len()).enumerate().filter(|(_, bytes)| *bytes == mark);
            let all: Vec<usize> = all.map(|(at, _)| at).collect();
            proptest::prop_assert_eq!(places(&mark, &bytes), all);
        }
    }
}
