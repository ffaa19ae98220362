//! What is kept of channels, by their numbers.
//!
//! Clients count from 1, and for those a look is an index. A client may use any number up to 65,535 all the same, with
//! as few channels as it agreed to; what is kept then is as much as there are channels.

use alloc::{collections::BTreeMap, vec::Vec};

/// The first number that is no index. No less than what clients get by counting.
const LOW_END: u16 = 2048;

/// Something of each channel.
#[derive(Debug)]
pub struct ByChannel<T> {
    low: Vec<Option<T>>,
    high: BTreeMap<u16, T>,
}

impl<T> Default for ByChannel<T> {
    fn default() -> Self {
        Self { low: Vec::new(), high: BTreeMap::new() }
    }
}

impl<T> ByChannel<T> {
    /// What is kept of a channel.
    #[must_use]
    #[inline]
    pub fn get(&self, number: u16) -> Option<&T> {
        if number < LOW_END { self.low.get(usize::from(number))?.as_ref() } else { self.high.get(&number) }
    }

    /// The same, to be changed.
    #[must_use]
    #[inline]
    pub fn get_mut(&mut self, number: u16) -> Option<&mut T> {
        if number < LOW_END {
            self.low.get_mut(usize::from(number))?.as_mut()
        } else {
            self.high.get_mut(&number)
        }
    }

    /// Keeps something of a channel, in the place of what is kept of it.
    pub fn insert(&mut self, number: u16, value: T) {
        if number >= LOW_END {
            self.high.insert(number, value);
            return;
        }
        let index = usize::from(number);
        if self.low.len() <= index {
            self.low.resize_with(index + 1, || None);
        }
        if let Some(place) = self.low.get_mut(index) {
            *place = Some(value);
        }
    }

    /// Takes out what is kept of a channel.
    pub fn remove(&mut self, number: u16) -> Option<T> {
        if number < LOW_END {
            self.low.get_mut(usize::from(number))?.take()
        } else {
            self.high.remove(&number)
        }
    }

    /// What is kept of all channels, by their numbers.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.low.iter().flatten().chain(self.high.values())
    }

    /// Forgets what is kept of those channels beyond the first 2,047 for which that does not hold.
    pub(crate) fn retain_high(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.high.retain(|_, value| keep(value));
    }

    /// Of how many channels beyond the first 2,047 something is kept.
    pub(crate) fn high_count(&self) -> usize {
        self.high.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_its_place() {
        let mut channels = ByChannel::default();
        let numbers = [0, 1, 7, LOW_END - 1, LOW_END, 40_000, u16::MAX];
        for number in numbers {
            assert_eq!(channels.get(number), None);
            channels.insert(number, u32::from(number));
            channels.insert(number, u32::from(number) + 1);
        }
        assert!(channels.values().eq(numbers.map(|number| u32::from(number) + 1).iter()));
        for number in numbers {
            *channels.get_mut(number).unwrap() += 1;
            assert_eq!(channels.get(number), Some(&(u32::from(number) + 2)));
            assert_eq!(channels.remove(number), Some(u32::from(number) + 2));
            assert_eq!(channels.get(number), None);
            assert_eq!(channels.remove(number), None);
        }
        assert_eq!(channels.values().count(), 0);
    }
}
