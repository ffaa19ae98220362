//! The numbers of conditions, by the bytes that those are kept under.
//!
//! Most are short: their bytes are three numbers, which are hashed and compared at once. (In a component slices are
//! compared byte by byte.)

use leveret_sdk::{ExtendibleMap, binding_index::ShortKey};
use std::rc::Rc;

/// The numbers of conditions.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    short: ExtendibleMap<ShortKey, u32>,
    long: ExtendibleMap<Rc<[u8]>, u32>,
}

impl Numbers {
    /// The number for a key.
    #[inline(always)]
    pub(crate) fn get(&self, key: &[u8]) -> Option<u32> {
        match ShortKey::of(key) {
            Some(short) => self.short.get(&short).copied(),
            None => self.long.get(key).copied(),
        }
    }

    /// The number for a short key, if it has one; the outer `None` is for a long one.
    #[inline(always)]
    pub(crate) fn get_at_once(&self, key: &[u8]) -> Option<Option<u32>> {
        ShortKey::of(key).map(|short| self.short.get(&short).copied())
    }

    /// Gives a key a number.
    pub(crate) fn insert(&mut self, key: &Rc<[u8]>, number: u32) {
        match ShortKey::of(key) {
            Some(short) => self.short.insert(short, number),
            None => self.long.insert(key.clone(), number),
        };
    }

    /// Takes a key's number away.
    pub(crate) fn remove(&mut self, key: &[u8]) {
        match ShortKey::of(key) {
            Some(short) => self.short.remove(&short),
            None => self.long.remove(key),
        };
    }

    /// How many keys there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.short.len() + self.long.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_any_length_are_told_apart() {
        let mut numbers = Numbers::default();
        let keys: Vec<Rc<[u8]>> =
            (0..40).flat_map(|length| [0, 1].map(|byte| vec![byte; length].into())).collect();
        for (number, key) in keys.iter().enumerate().skip(1) {
            numbers.insert(key, number as u32);
        }
        assert_eq!(numbers.len(), keys.len() - 1);
        for (number, key) in keys.iter().enumerate().skip(1) {
            assert_eq!(numbers.get(key), Some(number as u32));
            assert_eq!(numbers.get(&[key, &b"x"[..]].concat()), None);
            numbers.remove(key);
            assert_eq!(numbers.get(key), None);
        }
        assert_eq!(numbers.len(), 0);
    }
}
