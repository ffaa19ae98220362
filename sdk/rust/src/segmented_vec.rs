//! A list that never takes long to grow: in segments of one size.
//!
//! A list in one piece is copied when it is full, which for a million entries is a call of milliseconds
//! (`wit/CONTRACT.md`, "Limits"). Here a new segment comes, and the others stay where they are.

/// How many entries a segment has. A power of two, so that a place is found without a division.
const SEGMENT: usize = 1_024;

/// A list for many entries.
///
/// ```
/// # use leveret_sdk::SegmentedVec;
/// let mut list = SegmentedVec::default();
/// assert_eq!(list.push('a'), 0);
/// assert_eq!(list.push('b'), 1);
/// assert_eq!(list.get(1), Some(&'b'));
/// assert_eq!(list.pop(), Some('b'));
/// assert_eq!(list.len(), 1);
/// ```
#[derive(Clone, Debug)]
pub struct SegmentedVec<T> {
    /// All but the last are full; none is empty.
    segments: Vec<Vec<T>>,
}

impl<T> SegmentedVec<T> {
    /// The entry at a place.
    #[inline]
    #[must_use]
    pub fn get(&self, place: usize) -> Option<&T> {
        self.segments.get(place / SEGMENT)?.get(place % SEGMENT)
    }

    /// The entry at a place, to change.
    #[inline]
    pub fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.segments.get_mut(place / SEGMENT)?.get_mut(place % SEGMENT)
    }

    /// Adds an entry at the end; its place.
    pub fn push(&mut self, entry: T) -> usize {
        let place = self.len();
        match self.segments.last_mut() {
            Some(last) if last.len() < SEGMENT => last.push(entry),
            // The first one grows as it must: most lists are short.
            None => self.segments.push(vec![entry]),
            Some(_) => {
                let mut segment = Vec::with_capacity(SEGMENT);
                segment.push(entry);
                self.segments.push(segment);
            }
        }
        place
    }

    /// Takes the last entry away.
    pub fn pop(&mut self) -> Option<T> {
        let last = self.segments.last_mut()?;
        let entry = last.pop();
        if last.is_empty() {
            self.segments.pop();
        }
        entry
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.segments.last().map_or(0, |last| (self.segments.len() - 1) * SEGMENT + last.len())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// All entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.segments.iter().flatten()
    }
}

impl<T> Default for SegmentedVec<T> {
    fn default() -> Self {
        Self { segments: Vec::new() }
    }
}

impl<T> FromIterator<T> for SegmentedVec<T> {
    fn from_iter<I: IntoIterator<Item = T>>(entries: I) -> Self {
        let mut list = Self::default();
        for entry in entries {
            list.push(entry);
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_a_list_in_one_piece_around_the_ends_of_segments() {
        let mut list = SegmentedVec::default();
        let mut plain = Vec::new();
        for entry in 0..3 * SEGMENT + 1 {
            assert_eq!(list.push(entry), plain.len());
            plain.push(entry);
            assert_eq!((list.len(), list.is_empty()), (plain.len(), false));
        }
        for place in [0, SEGMENT - 1, SEGMENT, 2 * SEGMENT, 3 * SEGMENT, 3 * SEGMENT + 1, usize::MAX] {
            assert_eq!(list.get(place), plain.get(place), "{place}");
            assert_eq!(list.get_mut(place), plain.get_mut(place), "{place}");
        }
        assert!(list.iter().eq(plain.iter()));
        assert!(list.segments.iter().all(|segment| segment.capacity() <= SEGMENT));
        while let Some(entry) = plain.pop() {
            assert_eq!(list.pop(), Some(entry));
            assert_eq!(list.len(), plain.len());
        }
        assert_eq!((list.pop(), list.is_empty()), (None, true));
    }
}
