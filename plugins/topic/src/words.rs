//! Words as numbers: each that a pattern holds has one, for as long as one holds it.

use leveret_sdk::KeyMap;
use std::rc::Rc;

/// So many words are looked through.
const FEW: usize = 3;

/// Numbers a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WordId(pub(crate) u32);

#[derive(Debug, Default)]
pub(crate) struct Words {
    numbers: KeyMap<Rc<[u8]>, WordId>,
    entries: Vec<Entry>,
    free: Vec<WordId>,
}

#[derive(Debug)]
struct Entry {
    word: Rc<[u8]>,
    holders: u32,
}

impl Words {
    /// The number of a word, if a pattern holds it.
    #[inline]
    pub(crate) fn get(&self, word: &[u8]) -> Option<WordId> {
        if self.entries.len() <= FEW {
            // To look at a few words takes less than to hash one.
            let held = |entry: &Entry| entry.holders > 0 && *entry.word == *word;
            return self.entries.iter().position(held).map(|place| WordId(place as u32));
        }
        self.numbers.get(word).copied()
    }

    /// The number of a word, for one more holder.
    pub(crate) fn hold(&mut self, word: &[u8]) -> WordId {
        if let Some(id) = self.get(word) {
            if let Some(entry) = self.entries.get_mut(id.0 as usize) {
                entry.holders += 1;
            }
            return id;
        }
        let entry = Entry { word: word.into(), holders: 1 };
        let word = entry.word.clone();
        let id = match self.free.pop() {
            Some(id) => {
                if let Some(place) = self.entries.get_mut(id.0 as usize) {
                    *place = entry;
                }
                id
            }
            None => {
                self.entries.push(entry);
                WordId((self.entries.len() - 1) as u32)
            }
        };
        self.numbers.insert(word, id);
        id
    }

    /// One holder less; without any the number may go to another word.
    pub(crate) fn release(&mut self, id: WordId) {
        let Some(entry) = self.entries.get_mut(id.0 as usize) else {
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
