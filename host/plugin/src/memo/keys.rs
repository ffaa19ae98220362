//! The keys of a memo, back to back in segments: laid out as the questions that they are to the
//! guest, so that it can be asked about all of them without a copy for each.

use super::{
    CALL_BYTES_MAX, KEYS_PER_CALL_MAX,
    marks::{Mark, Part},
};
use std::collections::VecDeque;

/// For how many keys a segment notes where they end, at first.
const ENDS_MIN: usize = 16;

/// Where a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: u32,
    pub(super) segment: u16,
    /// In bytes.
    pub(super) length: u16,
}

/// What comes before a key to make it a question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum KeyForm {
    /// The key is a projection: its length (4 bytes).
    #[default]
    Projection,
    /// The key is a routing key, all that is read: the projection's length, and its own (2 bytes).
    RoutingKey,
    /// The key is a digest and cannot be asked about: nothing.
    Digest,
}

impl KeyForm {
    /// How many bytes come before the key.
    pub(crate) fn head_bytes(self) -> usize {
        match self {
            Self::Projection => 4,
            Self::RoutingKey => 6,
            Self::Digest => 0,
        }
    }

    /// Appends the question of a key.
    pub(crate) fn put_question(self, out: &mut Vec<u8>, key: &[u8]) {
        if self != Self::Digest {
            let bytes = key.len() + self.head_bytes() - 4;
            out.extend_from_slice(&u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes());
        }
        if self == Self::RoutingKey {
            out.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
        }
        out.extend_from_slice(key);
    }
}

/// All segments, the oldest first.
#[derive(Default)]
pub(super) struct Segments {
    all: VecDeque<Segment>,
    /// The number of the oldest.
    first: u16,
    pub(super) form: KeyForm,
    /// What all of them take, in bytes.
    bytes: usize,
}

/// Some keys. It has room for so many bytes of them from the start and never gets more, so that nothing is
/// copied, and nothing lies idle.
#[derive(Default)]
pub(super) struct Segment {
    questions: Vec<u8>,
    ends: Vec<End>,
    /// What the answers take for themselves, in bytes.
    answers_bytes: usize,
}

/// Where a question ends, and what its answer takes for itself, in bytes.
#[derive(Clone, Copy)]
struct End {
    at: u32,
    answer_bytes: u32,
}

/// Some questions in a row.
pub(super) struct Questions<'a> {
    /// Back to back, each after its length.
    pub(super) bytes: &'a [u8],
    segment: u16,
    ends: &'a [End],
    start: u32,
    head_bytes: usize,
}

impl Segments {
    /// None yet, for keys of that form.
    pub(super) fn of(form: KeyForm) -> Self {
        Self { form, ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
        self.bytes = 0;
    }

    /// What all of them take, in bytes: keys and answers, with the room that is left.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How long a question of the oldest segment is, in bytes.
    pub(super) fn oldest_question_bytes(&self) -> usize {
        self.all.front().map_or(0, |oldest| oldest.questions.len() / oldest.ends.len().max(1))
    }

    /// Becomes empty; gives what there was.
    pub(super) fn start_anew(&mut self) -> Self {
        std::mem::replace(self, Self::of(self.form))
    }

    #[inline]
    pub(super) fn key(&self, place: Place) -> Option<&[u8]> {
        let segment = self.all.get(usize::from(place.segment.wrapping_sub(self.first)))?;
        let at = place.at as usize;
        segment.questions.get(at..at + usize::from(place.length))
    }

    /// How many bytes more it takes to write a key, where a new segment would have `capacity_bytes`.
    pub(super) fn growth(&self, key_bytes: usize, capacity_bytes: usize) -> usize {
        let bytes = self.form.head_bytes() + key_bytes;
        match self.all.back().filter(|newest| newest.has_room(bytes)) {
            Some(newest) if newest.ends.len() < newest.ends.capacity() => 0,
            Some(newest) => size_of::<End>() * newest.ends.capacity().max(ENDS_MIN),
            None => size_of::<Segment>() + capacity_bytes.max(bytes) + size_of::<End>() * ENDS_MIN,
        }
    }

    /// Writes a key whose answer takes `answer_bytes` for itself, into a new segment where it does not fit
    /// into the newest.
    pub(super) fn push(&mut self, key: &[u8], answer_bytes: usize, capacity_bytes: usize) -> Option<Place> {
        let bytes = self.form.head_bytes() + key.len();
        if !self.all.back().is_some_and(|newest| newest.has_room(bytes)) {
            let questions = Vec::with_capacity(capacity_bytes.max(bytes));
            let segment = Segment { questions, ends: Vec::with_capacity(ENDS_MIN), answers_bytes: 0 };
            self.bytes += segment.bytes();
            self.all.push_back(segment);
        }
        let segment_number = self.first.wrapping_add(self.all.len() as u16).wrapping_sub(1);
        let segment = self.all.back_mut()?;
        let before = segment.bytes();
        let at = segment.questions.len() + self.form.head_bytes();
        self.form.put_question(&mut segment.questions, key);
        segment.ends.push(End { at: segment.questions.len() as u32, answer_bytes: answer_bytes as u32 });
        segment.answers_bytes += answer_bytes;
        self.bytes += segment.bytes() - before;
        Some(Place { at: at as u32, segment: segment_number, length: key.len() as u16 })
    }

    /// The answers of a segment take more, in bytes.
    pub(super) fn charge(&mut self, segment: u16, bytes: usize) {
        if let Some(segment) = self.all.get_mut(usize::from(segment.wrapping_sub(self.first))) {
            segment.answers_bytes += bytes;
            self.bytes += bytes;
        }
    }

    /// Takes the oldest segment out.
    pub(super) fn pop_oldest(&mut self) -> Option<Oldest> {
        let segment = self.all.pop_front()?;
        self.bytes -= segment.bytes();
        let number = self.first;
        self.first = number.wrapping_add(1);
        Some(Oldest { segment, number, head_bytes: self.form.head_bytes() })
    }

    /// Puts the questions of the first of these keys into a buffer, as many as make a call: gives how many,
    /// at least one.
    pub(super) fn put_questions(&self, places: &[Place], out: &mut Vec<u8>) -> usize {
        out.clear();
        let mut count = 0;
        for place in places.iter().take(KEYS_PER_CALL_MAX) {
            if count > 0 && out.len() + usize::from(place.length) > CALL_BYTES_MAX {
                break;
            }
            self.form.put_question(out, self.key(*place).unwrap_or_default());
            count += 1;
        }
        count
    }

    /// All segments with their numbers.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (u16, &Segment)> {
        self.all.iter().enumerate().map(|(index, segment)| (self.first.wrapping_add(index as u16), segment))
    }

    /// All keys as questions, so many at a time and so many bytes, unless a single one has more.
    pub(super) fn questions(
        &self,
        count_max: usize,
        bytes_max: usize,
    ) -> impl Iterator<Item = Questions<'_>> {
        let head_bytes = self.form.head_bytes();
        self.numbered().flat_map(move |(number, segment)| {
            let (mut ends, mut start) = (segment.ends.as_slice(), 0_u32);
            std::iter::from_fn(move || {
                let within = |end: &&End| (end.at - start) as usize <= bytes_max;
                let count = ends.iter().take(count_max).take_while(within).count().max(1);
                let (these, rest) = ends.split_at_checked(count)?;
                let end = these.last()?.at;
                let bytes = segment.questions.get(start as usize..end as usize)?;
                let questions = Questions { bytes, segment: number, ends: these, start, head_bytes };
                (ends, start) = (rest, end);
                Some(questions)
            })
        })
    }
}

impl Segment {
    /// What it takes, in bytes.
    fn bytes(&self) -> usize {
        let ends_bytes = size_of::<End>() * self.ends.capacity();
        size_of::<Self>() + self.questions.capacity() + ends_bytes + self.answers_bytes
    }

    /// The first bytes of its questions, at most so many.
    pub(super) fn sample(&self, bytes_max: usize) -> &[u8] {
        self.questions.get(..bytes_max).unwrap_or(&self.questions)
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.questions.capacity() - self.questions.len() >= bytes
    }

    /// Appends where the keys are whose questions have the mark, in order.
    pub(super) fn marked(
        &self,
        number: u16,
        head_bytes: usize,
        (mark, part): (&Mark<'_>, Part),
        places: &mut Vec<Place>,
    ) {
        mark.find_in(part, &self.questions, |at| {
            let index = self.ends.partition_point(|end| end.at as usize <= at);
            let Some(end) = self.ends.get(index).map(|end| end.at as usize) else {
                return self.questions.len();
            };
            if at + mark.len() > end {
                // Half of it belongs to the next question.
                return at + 1;
            }
            let before = index.checked_sub(1).and_then(|before| self.ends.get(before));
            let start = before.map_or(0, |end| end.at as usize) + head_bytes;
            let length = end.saturating_sub(start);
            places.push(Place { at: start as u32, segment: number, length: length as u16 });
            end
        });
    }
}

impl Questions<'_> {
    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    /// The place of the key of one of them.
    pub(super) fn place(&self, index: usize) -> Option<Place> {
        let before = index.checked_sub(1).and_then(|before| self.ends.get(before));
        let start = before.map_or(self.start, |end| end.at) + self.head_bytes as u32;
        let end = self.ends.get(index)?.at;
        Some(Place { at: start, segment: self.segment, length: (end - start) as u16 })
    }
}

/// A segment that was taken out.
pub(super) struct Oldest {
    segment: Segment,
    number: u16,
    head_bytes: usize,
}

impl Oldest {
    /// How many bytes of questions there are.
    pub(super) fn question_bytes(&self) -> usize {
        self.segment.questions.len()
    }

    /// How many bytes of questions and answers there are.
    pub(super) fn bytes(&self) -> usize {
        self.segment.questions.len() + self.segment.answers_bytes
    }

    /// The keys, where they were, and what their answers take for themselves, in bytes.
    pub(super) fn keys(&self) -> impl Iterator<Item = (Place, &[u8], usize)> {
        let mut start = 0_u32;
        self.segment.ends.iter().map(move |end| {
            let at = std::mem::replace(&mut start, end.at) + self.head_bytes as u32;
            let key = self.segment.questions.get(at as usize..end.at as usize).unwrap_or_default();
            let place = Place { at, segment: self.number, length: key.len() as u16 };
            (place, key, end.answer_bytes as usize)
        })
    }
}
