//! Messages by key.
//!
//! A message that a call wants to keep is tentative until its fate is known. Tentative ones are
//! found like the others by whoever looks for messages for a new binding: the message was decided
//! before that binding was there, so it does not come to it by itself.
//!
//! *Room.* Where the plugin's memory is used up, a message may still be kept under a key whose older ones will
//! make room for it: the oldest of them go, as many as it takes, when it is accepted. Until then more is taken
//! than may be, at most as much as those older ones have.
//!
//! *Pieces.* No call does more than some hundred microseconds of work at a time: what is forgotten at once in
//! great number is out of sight at once, and let go of piece by piece.

use super::{
    DraftId,
    usage::{Full, Usage},
};
use hashbrown::HashMap;
use leveret_broker::store::StateChange;
use leveret_model::OwnedMessage;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

/// Numbers a stored message within its cell.
pub(crate) type StoredId = u64;

/// What a message takes beside its bytes.
pub(crate) const MESSAGE_BYTES: u64 = 200;
/// How many messages are let go of in one piece.
const PIECE_MESSAGES: usize = 500;
/// How many of those that are out of sight are let go of with each that is kept.
const BURIED_PER_KEPT: usize = 8;

/// Messages by key.
#[derive(Default)]
pub(crate) struct Messages {
    by_key: HashMap<Arc<[u8]>, OfKey, foldhash::fast::RandomState>,
    by_id: BTreeMap<StoredId, Stored>,
    next_id: StoredId,
    /// How many are accepted.
    settled: usize,
    /// Those that are out of sight and still to be let go of.
    buried: VecDeque<VecDeque<StoredId>>,
    /// When messages expire.
    ends: BTreeSet<(u64, StoredId)>,
    /// What went because it expired, where somebody is to be told.
    ended: Option<Vec<StoredId>>,
}

/// The messages of a key.
#[derive(Default)]
struct OfKey {
    /// Those that are accepted, the oldest first, so in ascending order.
    settled: VecDeque<StoredId>,
    /// What they take, and those before that are still to be let go of, in bytes.
    settled_bytes: u64,
    /// The first that counts for that.
    since: StoredId,
    /// The others.
    open: Vec<StoredId>,
}

#[derive(Clone)]
struct Stored {
    key: Arc<[u8]>,
    message: Arc<OwnedMessage>,
    /// Whose it is while its fate is open.
    draft: Option<DraftId>,
    /// Older ones of its key make room for it when it is accepted.
    is_beyond: bool,
    /// When it expires, in milliseconds since 1970.
    end_ms: Option<u64>,
    usage: Arc<Usage>,
}

impl Stored {
    fn is_over(&self, now_ms: u64) -> bool {
        self.end_ms.is_some_and(|end_ms| end_ms <= now_ms)
    }

    fn bytes(&self) -> u64 {
        bytes(&self.key, &self.message)
    }
}

fn bytes(key: &[u8], message: &OwnedMessage) -> u64 {
    (key.len() + message.len_bytes()) as u64 + MESSAGE_BYTES
}

/// A search for the messages that a pattern matches, done in pieces.
pub(crate) struct Search {
    pattern: Box<[u8]>,
    count_max: usize,
    now_ms: u64,
    /// Those before it are still to be looked at, the newest first.
    before: StoredId,
    /// Which message was left off, and where.
    left_off: Option<(StoredId, Matching)>,
    found: Vec<StoredId>,
}

impl Search {
    /// For the newest messages that a topic pattern matches and that are not expired at that time.
    pub(crate) fn new(pattern: &[u8], count_max: usize, now_ms: u64) -> Self {
        let (before, left_off, found) = (StoredId::MAX, None, Vec::new());
        Self { pattern: pattern.into(), count_max, now_ms, before, left_off, found }
    }
}

impl Messages {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.settled
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// From now on it is noted what goes because it expired.
    pub(super) fn note_ended(&mut self) {
        self.ended.get_or_insert_default();
    }

    /// Takes the numbers of what went because it expired.
    pub(super) fn take_ended(&mut self) -> Vec<StoredId> {
        self.ended.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Lets go of accepted messages that are expired, at most so many.
    fn expire(&mut self, count: usize, now_ms: u64) {
        for _ in 0..count {
            let Some((end_ms, id)) = self.ends.first().copied().filter(|(end_ms, _)| *end_ms <= now_ms)
            else {
                return;
            };
            self.ends.remove(&(end_ms, id));
            // One whose fate is open is let go of by whoever opened it, or with its key.
            if self.by_id.get(&id).is_some_and(|stored| stored.draft.is_none()) {
                self.remove(id);
                if let Some(ended) = &mut self.ended {
                    ended.push(id);
                }
            }
        }
    }

    /// Keeps a message until its fate is known. It expires at `end_ms`; `now_ms` is the time.
    pub(crate) fn keep(
        &mut self,
        draft: DraftId,
        key: &[u8],
        message: Arc<OwnedMessage>,
        (end_ms, now_ms): (Option<u64>, u64),
        usage: &Arc<Usage>,
    ) -> Result<StoredId, Full> {
        let bytes = bytes(key, &message);
        let at_once = if usage.has_room(bytes) { BURIED_PER_KEPT } else { PIECE_MESSAGES };
        self.expire(at_once, now_ms);
        self.let_go(at_once);
        let older = self.by_key.get(key).map(|of_key| (of_key.settled_bytes, of_key.settled.len() as u64));
        let is_beyond = !usage.has_room(bytes)
            && older.is_some_and(|older| older.1 > 0 && usage.has_room_without(older, bytes));
        if is_beyond {
            usage.take_over(bytes);
        } else {
            usage.take(bytes)?;
        }
        self.next_id += 1;
        let id = self.next_id;
        let key: Arc<[u8]> = key.into();
        let of_key =
            self.by_key.entry(key.clone()).or_insert_with(|| OfKey { since: id, ..OfKey::default() });
        of_key.open.push(id);
        self.ends.extend(end_ms.map(|end_ms| (end_ms, id)));
        let stored = Stored { key, message, draft: Some(draft), is_beyond, end_ms, usage: usage.clone() };
        self.by_id.insert(id, stored);
        Ok(id)
    }

    /// A message that was kept and accepted once is there again, under its number.
    pub(super) fn restore(
        &mut self,
        (id, key): (StoredId, &[u8]),
        (message, end_ms): (Arc<OwnedMessage>, Option<u64>),
        newest: usize,
        usage: &Arc<Usage>,
    ) {
        usage.take_over(bytes(key, &message));
        self.next_id = self.next_id.max(id);
        let key: Arc<[u8]> = key.into();
        let of_key =
            self.by_key.entry(key.clone()).or_insert_with(|| OfKey { since: id, ..OfKey::default() });
        of_key.open.push(id);
        of_key.since = of_key.since.min(id);
        // Older ones made room for it where it was accepted first, and do so again.
        let draft = Some(DraftId::next());
        let stored = Stored { key, message, draft, is_beyond: true, end_ms, usage: usage.clone() };
        self.ends.extend(end_ms.map(|end_ms| (end_ms, id)));
        self.by_id.insert(id, stored);
        self.commit(id, newest);
    }

    /// The change that a message is kept.
    pub(crate) fn kept(&self, id: StoredId, newest: usize) -> Option<StateChange> {
        let Stored { key, message, end_ms, .. } = self.by_id.get(&id)?;
        let (key, message, end_ms) = (key.clone(), message.clone(), *end_ms);
        Some(StateChange::Keep { id, key, newest, message, end_ms })
    }

    /// The messages of a key up to one, open ones too: those that [`Self::forget`] forgets once these are
    /// accepted.
    pub(crate) fn ids_up_to(&self, key: &[u8], up_to: StoredId) -> Vec<StoredId> {
        let of_key = self.by_key.get(key).into_iter();
        let ids = of_key.flat_map(|of_key| of_key.settled.iter().chain(&of_key.open).copied());
        ids.filter(|id| *id <= up_to).collect()
    }

    /// Appends changes that lead to what is accepted.
    pub(super) fn append_changes(&self, changes: &mut Vec<StateChange>) {
        // Which of them stay is decided already.
        changes.extend(self.accepted().filter_map(|(id, _)| self.kept(id, usize::MAX)));
    }

    /// A kept message is accepted: of its key the newest ones stay, as many as were said and fit.
    pub(crate) fn commit(&mut self, id: StoredId, newest: usize) {
        let Some(stored) = self.by_id.get_mut(&id).filter(|stored| stored.draft.is_some()) else {
            return;
        };
        stored.draft = None;
        let (key, bytes, usage) = (stored.key.clone(), stored.bytes(), stored.usage.clone());
        let is_beyond = stored.is_beyond;
        let Some(of_key) = self.by_key.get_mut(&key) else {
            return;
        };
        of_key.open.retain(|open| *open != id);
        let place = of_key.settled.partition_point(|settled| *settled < id);
        of_key.settled.insert(place, id);
        of_key.settled_bytes += bytes;
        self.settled += 1;
        let surplus = of_key.settled.len().saturating_sub(newest);
        self.forget_oldest(&key, surplus);
        self.let_go(if is_beyond { PIECE_MESSAGES } else { BURIED_PER_KEPT });
        while is_beyond && usage.is_over() && self.forget_older(&key, id) {}
    }

    /// Lets go of the oldest accepted message of a key, if it is older than that one.
    fn forget_older(&mut self, key: &[u8], than: StoredId) -> bool {
        let oldest = self.by_key.get(key).and_then(|of_key| of_key.settled.front().copied());
        let is_older = oldest.is_some_and(|oldest| oldest < than);
        if let Some(oldest) = oldest.filter(|_| is_older) {
            self.remove(oldest);
        }
        is_older
    }

    /// Forgets the accepted messages of a key up to one.
    pub(crate) fn forget(&mut self, key: &[u8], up_to: StoredId) {
        let of_key = self.by_key.get(key);
        let count = of_key.map_or(0, |of_key| of_key.settled.partition_point(|settled| *settled <= up_to));
        self.forget_oldest(key, count);
    }

    /// How many messages of a key are accepted; and the latest of all messages that there are.
    pub(crate) fn settled_of(&self, key: &[u8]) -> (usize, StoredId) {
        (self.by_key.get(key).map_or(0, |of_key| of_key.settled.len()), self.next_id)
    }

    /// Puts the oldest accepted messages of a key out of sight; few are let go of at once, many piece by piece.
    fn forget_oldest(&mut self, key: &[u8], count: usize) {
        let Some(of_key) = self.by_key.get_mut(key).filter(|_| count > 0) else {
            return;
        };
        let stay = of_key.settled.split_off(count.min(of_key.settled.len()));
        let gone = std::mem::replace(&mut of_key.settled, stay);
        self.settled -= gone.len();
        if of_key.settled.is_empty() {
            (of_key.settled_bytes, of_key.since) = (0, self.next_id + 1);
            of_key.since = of_key.open.first().copied().unwrap_or(of_key.since);
            if of_key.open.is_empty() {
                self.by_key.remove(key);
            }
        }
        self.buried.push_back(gone);
        self.let_go(PIECE_MESSAGES);
    }

    /// Lets go of so many messages that are out of sight. Whether that was all.
    pub(crate) fn let_go(&mut self, count: usize) -> bool {
        for _ in 0..count {
            let Some(gone) = self.buried.front_mut() else {
                return true;
            };
            let Some(id) = gone.pop_front() else {
                self.buried.pop_front();
                continue;
            };
            let Some(stored) = self.take_out(id) else {
                continue;
            };
            stored.usage.give_back(stored.bytes());
            if let Some(of_key) = self.by_key.get_mut(&stored.key).filter(|of_key| of_key.since <= id) {
                of_key.settled_bytes = of_key.settled_bytes.saturating_sub(stored.bytes());
            }
        }
        self.buried.is_empty()
    }

    fn take_out(&mut self, id: StoredId) -> Option<Stored> {
        let stored = self.by_id.remove(&id)?;
        if let Some(end_ms) = stored.end_ms {
            self.ends.remove(&(end_ms, id));
        }
        Some(stored)
    }

    /// A message is gone.
    pub(crate) fn remove(&mut self, id: StoredId) {
        let Some(stored) = self.take_out(id) else {
            return;
        };
        let bytes = stored.bytes();
        stored.usage.give_back(bytes);
        let Some(of_key) = self.by_key.get_mut(&stored.key) else {
            return;
        };
        if let Ok(place) = of_key.settled.binary_search(&id) {
            of_key.settled.remove(place);
            of_key.settled_bytes = of_key.settled_bytes.saturating_sub(bytes);
            self.settled -= 1;
        }
        of_key.open.retain(|open| *open != id);
        if of_key.settled.is_empty() && of_key.open.is_empty() {
            self.by_key.remove(&stored.key);
        }
    }

    /// The newest messages of a key that are not expired, the oldest first.
    pub(crate) fn of_key(&self, key: &[u8], count_max: usize, now_ms: u64) -> Vec<StoredId> {
        let Some(OfKey { settled, open, .. }) = self.by_key.get(key) else {
            return Vec::new();
        };
        let is_there = |id: &&StoredId| {
            self.ends.is_empty() || self.by_id.get(*id).is_some_and(|stored| !stored.is_over(now_ms))
        };
        let mut ids: Vec<_> = settled.iter().rev().filter(is_there).take(count_max).copied().collect();
        ids.reverse();
        ids.extend(open.iter().filter(is_there));
        // Two runs in order, all but.
        ids.sort();
        ids.drain(..ids.len().saturating_sub(count_max));
        ids
    }

    /// Goes on with a search, so many steps: words of keys that are looked at. Once it is done, the messages
    /// that it found, the oldest first.
    pub(crate) fn matching(&mut self, search: &mut Search, mut steps: usize) -> Option<Vec<StoredId>> {
        if !self.let_go(PIECE_MESSAGES) {
            return None;
        }
        let pattern: Vec<&[u8]> = words(&search.pattern);
        for (id, stored) in self.by_id.range(..search.before).rev() {
            if search.found.len() >= search.count_max {
                break;
            }
            let left_off = search.left_off.take().filter(|(left_off, _)| left_off == id);
            let mut matching = left_off.map_or_else(|| Matching::of(&stored.key), |(_, matching)| matching);
            let Some(matches) = matching.run(&pattern, &stored.key, &mut steps) else {
                (search.before, search.left_off) = (*id + 1, Some((*id, matching)));
                return None;
            };
            search.before = *id;
            search.found.extend((matches && !stored.is_over(search.now_ms)).then_some(*id));
        }
        search.found.reverse();
        Some(std::mem::take(&mut search.found))
    }

    /// A message.
    pub(crate) fn get(&self, id: StoredId) -> Option<Arc<OwnedMessage>> {
        self.by_id.get(&id).filter(|stored| self.is_in_sight(id, stored)).map(|stored| stored.message.clone())
    }

    fn is_in_sight(&self, id: StoredId, stored: &Stored) -> bool {
        stored.draft.is_some()
            || self.by_key.get(&stored.key).is_some_and(|of_key| of_key.settled.binary_search(&id).is_ok())
    }

    /// A copy of what is accepted.
    pub(super) fn fork(&self, usage: &Arc<Usage>) -> Self {
        let mut fork = Self::default();
        (fork.next_id, fork.settled) = (self.next_id, self.settled);
        for (id, stored) in self.accepted() {
            usage.take_over(stored.bytes());
            let of_key = fork
                .by_key
                .entry(stored.key.clone())
                .or_insert_with(|| OfKey { since: id, ..OfKey::default() });
            of_key.settled.push_back(id);
            of_key.settled_bytes += stored.bytes();
            fork.ends.extend(stored.end_ms.map(|end_ms| (end_ms, id)));
            fork.by_id.insert(id, Stored { usage: usage.clone(), ..stored.clone() });
        }
        fork
    }

    /// How many messages are accepted, and their bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        self.accepted().fold((0, 0), |(entries, bytes), (_, stored)| (entries + 1, bytes + stored.bytes()))
    }

    /// The accepted messages that are in sight, in order.
    fn accepted(&self) -> impl Iterator<Item = (StoredId, &Stored)> {
        let all = self.by_id.iter().map(|(id, stored)| (*id, stored));
        all.filter(|(id, stored)| stored.draft.is_none() && self.is_in_sight(*id, stored))
    }

    /// Charges what is accepted there instead.
    pub(super) fn charge_to(&mut self, usage: &Arc<Usage>) {
        for stored in self.by_id.values_mut().filter(|stored| stored.draft.is_none()) {
            let bytes = stored.bytes();
            usage.take_over(bytes);
            std::mem::replace(&mut stored.usage, usage.clone()).give_back(bytes);
        }
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.by_id.values().for_each(|stored| stored.usage.give_back(stored.bytes()));
    }
}

/// The words of a pattern; the empty one has none.
fn words(pattern: &[u8]) -> Vec<&[u8]> {
    if pattern.is_empty() { Vec::new() } else { pattern.split(|byte| *byte == b'.').collect() }
}

/// The word of a key that begins there, and where the next one does.
fn word_at(key: &[u8], at: usize) -> (&[u8], Option<usize>) {
    let rest = key.get(at..).unwrap_or_default();
    match rest.iter().position(|byte| *byte == b'.') {
        Some(length) => (rest.get(..length).unwrap_or_default(), Some(at + length + 1)),
        None => (rest, None),
    }
}

/// How far a topic pattern was compared with a key.
struct Matching {
    /// The next word of the pattern, and where that of the key begins.
    word: usize,
    at: Option<usize>,
    /// Where to go on if what follows the last `#` does not fit: it then takes one word more.
    retry: Option<(usize, Option<usize>)>,
}

impl Matching {
    fn of(key: &[u8]) -> Self {
        Self { word: 0, at: (!key.is_empty()).then_some(0), retry: None }
    }

    /// Whether the pattern matches, in time proportional to both lengths multiplied; `None` if that takes
    /// more steps than are left.
    fn run(&mut self, pattern: &[&[u8]], key: &[u8], steps: &mut usize) -> Option<bool> {
        loop {
            *steps = steps.checked_sub(1)?;
            let next = self.at.map(|at| word_at(key, at));
            match (pattern.get(self.word), next) {
                (Some(&b"#"), _) => {
                    self.retry = Some((self.word, self.at));
                    self.word += 1;
                }
                (Some(word), Some((other, after))) if *word == b"*" || *word == other => {
                    self.word += 1;
                    self.at = after;
                }
                (None, None) => return Some(true),
                _ => match self.retry {
                    Some((hash, Some(start))) => {
                        let (_, after) = word_at(key, start);
                        self.retry = Some((hash, after));
                        (self.word, self.at) = (hash + 1, after);
                    }
                    _ => return Some(false),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests;
