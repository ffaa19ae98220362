//! Remembered answers of one exchange on one worker.
//!
//! The key is the projection that a guest would get (of an exchange that reads the routing key
//! alone: the key itself), the value its answer. All entries belong to one generation of the
//! exchange: [`Memo::at_generation`] is called before the memo is used, compares, and forgets
//! what belongs to another. Nothing relies on being told of a change.
//!
//! *Memory.* Keys lie back to back in segments; an entry of the table knows where. Entries, keys
//! and answers are charged to a budget. When it is used up, the oldest segment goes: entries hit
//! since they were written move to the newest one, the others are forgotten. From then on a key
//! is only taken when it is asked for a second time, so that keys which never come again do not
//! drive out those which do.
//!
//! *Worth.* Where fewer than one lookup in ten hits, remembering costs more than it saves: the
//! memo then forgets everything and stays away for a while before it tries again. One that still
//! fills, at a generation that lasts, is given the time to.

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use leveret_broker::{
    exchange::{Generation, RouteSet},
    port::Answer,
};
use std::{collections::VecDeque, hash::BuildHasher as _, rc::Rc, sync::Arc};

/// The memory of the remembered answers of one exchange on one worker, in bytes.
pub const MEMO_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longer keys are not remembered.
const KEY_BYTES_MAX: usize = 1024;
/// How many segments of keys a full memo has.
const SEGMENTS: usize = 8;
/// What an entry takes in the table, in bytes, with the table's spare room.
const ENTRY_BYTES: usize = 48;
/// After so many lookups the worth of the memo is judged.
const JUDGED_AFTER_LOOKUPS: u32 = 16_384;
/// Fewer hits than one in this many lookups are not worth it.
const LOOKUPS_PER_HIT_MAX: u32 = 10;
/// How many lookups are left out after that.
const AWAY_LOOKUPS: u32 = 16 * JUDGED_AFTER_LOOKUPS;
/// How many keys that came once are noted while the memo is full.
const DOOR_PLACES: usize = 8192;

/// Remembered answers.
pub(crate) struct Memo {
    generation: Generation,
    table: HashTable<Entry>,
    segments: VecDeque<Segment>,
    /// The number of the first of `segments`.
    first_segment: u16,
    bytes: usize,
    bytes_max: usize,
    hasher: RandomState,
    last: Option<Last>,
    /// Marks of keys that came once since the memo is full; empty before.
    door: Vec<u8>,
    lookups: u32,
    hits: u32,
    /// Another generation came since the worth was judged.
    restarted: bool,
    /// How many lookups are still left out.
    away: u32,
}

#[derive(Default)]
struct Segment {
    keys: Vec<u8>,
    /// Where each key ends, and what is charged for its entry, in bytes.
    ends: Vec<(u32, u32)>,
    bytes: usize,
}

struct Entry {
    answer: Remembered,
    at: u32,
    length: u16,
    segment: u16,
    touched: bool,
}

/// An answer in two words.
#[derive(Clone)]
enum Remembered {
    Deliver(RouteSet),
    Drop(Option<Rc<Arc<str>>>),
    Reject(Rc<Arc<str>>),
}

/// The entry that was hit last: messages in a row often have the same key.
struct Last {
    answer: Remembered,
    segment: u16,
    at: u32,
    length: u16,
}

impl Remembered {
    fn answer(&self) -> Answer {
        match self {
            Self::Deliver(routes) => Answer::Deliver(routes.clone()),
            Self::Drop(reason) => Answer::Drop(reason.as_deref().cloned()),
            Self::Reject(reason) => Answer::Reject(Arc::clone(reason)),
        }
    }
}

impl Memo {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            generation: Generation::default(),
            table: HashTable::new(),
            segments: VecDeque::new(),
            first_segment: 0,
            bytes: 0,
            bytes_max,
            hasher: RandomState::default(),
            last: None,
            door: Vec::new(),
            lookups: 0,
            hits: 0,
            restarted: false,
            away: 0,
        }
    }

    /// From now on the answers are those of this generation.
    pub(crate) fn at_generation(&mut self, generation: Generation) {
        if self.generation != generation {
            self.forget();
            self.generation = generation;
            self.restarted = true;
        }
    }

    /// Forgets everything.
    pub(crate) fn forget(&mut self) {
        self.last = None;
        if !self.segments.is_empty() {
            self.table.clear();
            self.segments.clear();
            self.door.clear();
            self.bytes = 0;
        }
    }

    /// Whether to look anything up now. Counts as a lookup where not.
    pub(crate) fn is_away(&mut self) -> bool {
        if self.away == 0 {
            return false;
        }
        self.away -= 1;
        true
    }

    /// The answer remembered for this key.
    pub(crate) fn get(&mut self, key: &[u8]) -> Option<Answer> {
        self.lookups += 1;
        if self.lookups == JUDGED_AFTER_LOOKUPS {
            self.judge();
        }
        if let Some(last) = &self.last
            && self.key(last.segment, last.at, last.length) == Some(key)
        {
            self.hits += 1;
            return Some(last.answer.answer());
        }
        let hash = self.hasher.hash_one(key);
        let (segments, first) = (&self.segments, self.first_segment);
        let entry = self.table.find_mut(hash, |entry| {
            key_in(segments, first, entry.segment, entry.at, entry.length) == Some(key)
        })?;
        entry.touched = true;
        self.hits += 1;
        let answer = entry.answer.answer();
        let last =
            Last { answer: entry.answer.clone(), segment: entry.segment, at: entry.at, length: entry.length };
        self.last = Some(last);
        Some(answer)
    }

    /// Remembers an answer of the memo's generation. `answer_bytes` is what the answer takes for
    /// itself, in bytes.
    pub(crate) fn insert(&mut self, key: &[u8], answer: &Answer, answer_bytes: usize) {
        let answer = match answer {
            Answer::Deliver(routes) => Remembered::Deliver(routes.clone()),
            Answer::Drop(reason) => Remembered::Drop(reason.clone().map(Rc::new)),
            Answer::Reject(reason) => Remembered::Reject(Rc::new(reason.clone())),
            Answer::Hold(_) | Answer::Effective(_) | Answer::Failed(_) => return,
        };
        if key.len() > KEY_BYTES_MAX || self.away > 0 {
            return;
        }
        let hash = self.hasher.hash_one(key);
        let (segments, first) = (&self.segments, self.first_segment);
        let same =
            |entry: &Entry| key_in(segments, first, entry.segment, entry.at, entry.length) == Some(key);
        if self.table.find(hash, same).is_some() {
            return;
        }
        let bytes = ENTRY_BYTES + key.len() + answer_bytes;
        if bytes > self.bytes_max / SEGMENTS || !self.let_in(hash) {
            return;
        }
        while self.bytes + bytes > self.bytes_max {
            self.drop_oldest_segment();
        }
        self.write(hash, key, answer, bytes);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// While there is room, every key; then those that come a second time.
    fn let_in(&mut self, hash: u64) -> bool {
        if self.door.is_empty() {
            return true;
        }
        let mark = (hash >> 56) as u8 | 1;
        match self.door.get_mut(hash as usize % DOOR_PLACES) {
            Some(place) if *place == mark => true,
            Some(place) => {
                *place = mark;
                false
            }
            None => true,
        }
    }

    fn write(&mut self, hash: u64, key: &[u8], answer: Remembered, bytes: usize) {
        let segment_bytes_max = self.bytes_max / SEGMENTS;
        let full = self.segments.back().is_none_or(|segment| segment.bytes + bytes > segment_bytes_max);
        if full {
            self.segments.push_back(Segment::default());
        }
        let newest = self.first_segment.wrapping_add(self.segments.len() as u16).wrapping_sub(1);
        let Some(segment) = self.segments.back_mut() else {
            return;
        };
        let at = segment.keys.len() as u32;
        segment.keys.extend_from_slice(key);
        segment.ends.push((segment.keys.len() as u32, bytes as u32));
        segment.bytes += bytes;
        self.bytes += bytes;
        let entry = Entry { answer, at, length: key.len() as u16, segment: newest, touched: false };
        let (segments, first, hasher) = (&self.segments, self.first_segment, &self.hasher);
        self.table.insert_unique(hash, entry, |entry| {
            hasher
                .hash_one(key_in(segments, first, entry.segment, entry.at, entry.length).unwrap_or_default())
        });
    }

    fn drop_oldest_segment(&mut self) {
        self.last = None;
        self.door.resize(DOOR_PLACES, 0);
        let number = self.first_segment;
        let Some(oldest) = self.segments.pop_front() else {
            return;
        };
        self.first_segment = number.wrapping_add(1);
        self.bytes -= oldest.bytes;
        let mut start = 0_u32;
        // What was hit moves on, at most half of it, so that there is always room afterwards. It is
        // written when the table knows nothing of the segment any more: to grow, the table reads
        // the keys of all its entries.
        let mut moved_bytes_left = oldest.bytes / 2;
        let mut moving = Vec::new();
        for (end, bytes) in oldest.ends {
            let at = std::mem::replace(&mut start, end);
            let key = oldest.keys.get(at as usize..end as usize).unwrap_or_default();
            let hash = self.hasher.hash_one(key);
            let found = self.table.find_entry(hash, |entry| entry.segment == number && entry.at == at);
            let Ok((entry, _)) = found.map(|found| found.remove()) else {
                continue;
            };
            let bytes = bytes as usize;
            if entry.touched && bytes <= moved_bytes_left {
                moved_bytes_left -= bytes;
                moving.push((hash, key, entry.answer, bytes));
            }
        }
        for (hash, key, answer, bytes) in moving {
            self.write(hash, key, answer, bytes);
        }
    }

    fn judge(&mut self) {
        let full = !self.door.is_empty();
        if self.hits < self.lookups / LOOKUPS_PER_HIT_MAX && (full || self.restarted) {
            self.forget();
            self.table = HashTable::new();
            self.away = AWAY_LOOKUPS;
        }
        self.restarted = false;
        self.lookups = 0;
        self.hits = 0;
    }

    fn key(&self, segment: u16, at: u32, length: u16) -> Option<&[u8]> {
        key_in(&self.segments, self.first_segment, segment, at, length)
    }
}

fn key_in(segments: &VecDeque<Segment>, first: u16, segment: u16, at: u32, length: u16) -> Option<&[u8]> {
    let segment = segments.get(usize::from(segment.wrapping_sub(first)))?;
    segment.keys.get(at as usize..at as usize + usize::from(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn reject(text: &str) -> Answer {
        Answer::Reject(text.into())
    }

    fn text(answer: Option<Answer>) -> Option<String> {
        answer.map(|answer| match answer {
            Answer::Reject(reason) => reason.to_string(),
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn an_answer_of_another_generation_is_not_given() {
        let mut memo = Memo::new(MEMO_BYTES_MAX);
        memo.at_generation(Generation(1));
        memo.insert(b"k", &Answer::Drop(None), 0);
        memo.insert(b"", &reject("empty"), 0);
        assert!(matches!(memo.get(b"k"), Some(Answer::Drop(None))));
        assert!(matches!(memo.get(b"k"), Some(Answer::Drop(None))), "by the shortcut too");
        assert_eq!(text(memo.get(b"")).as_deref(), Some("empty"));
        memo.at_generation(Generation(1));
        assert!(memo.get(b"k").is_some());
        memo.at_generation(Generation(2));
        assert!(memo.get(b"").is_none() && memo.get(b"k").is_none());
    }

    #[test]
    fn a_full_memo_stays_within_its_budget_and_keeps_what_is_hit() {
        let mut memo = Memo::new(64 * 1024);
        let hot: Vec<String> = (0..50).map(|n| format!("hot.{n}")).collect();
        for key in &hot {
            memo.insert(key.as_bytes(), &reject(key), 32);
        }
        for n in 0..20_000 {
            let key = format!("cold.{}", n % 5_000);
            if memo.get(key.as_bytes()).is_none() {
                memo.insert(key.as_bytes(), &reject(&key), 32);
            }
            assert!(memo.bytes <= memo.bytes_max);
            let key = &hot[n % hot.len()];
            match text(memo.get(key.as_bytes())) {
                Some(found) => assert_eq!(&found, key),
                None => memo.insert(key.as_bytes(), &reject(key), 32),
            }
        }
        assert!(memo.len() > 100);
        let kept = hot.iter().filter(|key| memo.get(key.as_bytes()).is_some()).count();
        assert!(kept > hot.len() / 2, "{kept} of the keys that are hit all the time");
    }

    #[test]
    fn a_memo_that_is_never_hit_stays_away_and_comes_back() {
        let mut memo = Memo::new(MEMO_BYTES_MAX);
        let mut keys = 0_u32..;
        while !memo.is_away() {
            let key = keys.next().unwrap().to_le_bytes();
            assert!(memo.get(&key).is_none());
            memo.insert(&key, &Answer::Drop(None), 0);
        }
        assert_eq!(memo.len(), 0);
        assert!(keys.start as usize > MEMO_BYTES_MAX / ENTRY_BYTES / 2, "it was full before");
        let away = AWAY_LOOKUPS - 1;
        for _ in 0..away {
            assert!(memo.is_away());
        }
        assert!(!memo.is_away());
        memo.insert(b"k", &Answer::Drop(None), 0);
        assert!(memo.get(b"k").is_some());
    }

    #[test]
    fn a_memo_that_always_starts_anew_stays_away() {
        let mut memo = Memo::new(MEMO_BYTES_MAX);
        let mut rounds = 0_u64;
        while !memo.is_away() {
            rounds += 1;
            memo.at_generation(Generation(rounds));
            assert!(memo.get(b"k").is_none());
            memo.insert(b"k", &Answer::Drop(None), 0);
        }
        assert_eq!(rounds, u64::from(JUDGED_AFTER_LOOKUPS));
    }

    #[test]
    fn long_keys_are_not_remembered() {
        let mut memo = Memo::new(MEMO_BYTES_MAX);
        memo.insert(&[0; KEY_BYTES_MAX + 1], &Answer::Drop(None), 0);
        memo.insert(&[0; KEY_BYTES_MAX], &Answer::Drop(None), 0);
        assert_eq!(memo.len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_remembered_is_what_was_answered(
            steps in proptest::collection::vec((0_u16..600, 0_u8..50), 1..3000),
        ) {
            let mut memo = Memo::new(16 * 1024);
            let mut generation = 0;
            let mut truth: HashMap<u16, String> = HashMap::new();
            for (key, action) in steps {
                if action == 0 {
                    generation += 1;
                    truth.clear();
                }
                memo.at_generation(Generation(generation));
                let bytes = key.to_le_bytes();
                match text(memo.get(&bytes)) {
                    Some(found) => proptest::prop_assert_eq!(Some(&found), truth.get(&key)),
                    None => {
                        let answer = format!("{key} at {generation}");
                        memo.insert(&bytes, &reject(&answer), 16);
                        truth.insert(key, answer);
                    }
                }
                proptest::prop_assert!(memo.bytes <= memo.bytes_max);
            }
        }
    }
}
