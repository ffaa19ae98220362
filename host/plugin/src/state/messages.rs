//! Messages by key.
//!
//! A message that a call wants to keep is tentative until its fate is known. Tentative ones are
//! found like the others by whoever looks for messages for a new binding: the message was decided
//! before that binding was there, so it does not come to it by itself.

use super::{
    DraftId,
    usage::{Full, Usage},
};
use hashbrown::HashMap;
use leveret_broker::store::StateChange;
use leveret_model::OwnedMessage;
use std::{collections::VecDeque, sync::Arc};

/// Numbers a stored message within its cell.
pub(crate) type StoredId = u64;

/// What a message takes beside its bytes.
const MESSAGE_BYTES: u64 = 200;

/// Messages by key.
#[derive(Default)]
pub(crate) struct Messages {
    by_key: HashMap<Arc<[u8]>, OfKey, foldhash::fast::RandomState>,
    by_id: HashMap<StoredId, Stored, foldhash::fast::RandomState>,
    next_id: StoredId,
    /// How many are accepted.
    settled: usize,
}

/// The messages of a key.
#[derive(Default)]
struct OfKey {
    /// The oldest first, so in ascending order.
    ids: VecDeque<StoredId>,
    /// How many of them are accepted.
    settled: usize,
}

#[derive(Clone)]
struct Stored {
    key: Arc<[u8]>,
    message: Arc<OwnedMessage>,
    /// Whose it is while its fate is open.
    draft: Option<DraftId>,
    usage: Arc<Usage>,
}

impl Stored {
    fn bytes(&self) -> u64 {
        bytes(&self.key, &self.message)
    }
}

fn bytes(key: &[u8], message: &OwnedMessage) -> u64 {
    (key.len() + message.len_bytes()) as u64 + MESSAGE_BYTES
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

    /// Keeps a message until its fate is known.
    pub(crate) fn keep(
        &mut self,
        draft: DraftId,
        key: &[u8],
        message: Arc<OwnedMessage>,
        usage: &Arc<Usage>,
    ) -> Result<StoredId, Full> {
        usage.take(bytes(key, &message))?;
        self.next_id += 1;
        let id = self.next_id;
        let key: Arc<[u8]> = key.into();
        self.by_key.entry(key.clone()).or_default().ids.push_back(id);
        let stored = Stored { key, message, draft: Some(draft), usage: usage.clone() };
        self.by_id.insert(id, stored);
        Ok(id)
    }

    /// A message that was kept and accepted once is there again, under its number.
    pub(super) fn restore(
        &mut self,
        (id, key): (StoredId, &[u8]),
        message: Arc<OwnedMessage>,
        newest: usize,
        usage: &Arc<Usage>,
    ) {
        usage.take_over(bytes(key, &message));
        self.next_id = self.next_id.max(id);
        let key: Arc<[u8]> = key.into();
        let of_key = self.by_key.entry(key.clone()).or_default();
        // Accepted in another order than kept: the numbers stay in order.
        let place = of_key.ids.partition_point(|other| *other < id);
        of_key.ids.insert(place, id);
        of_key.settled += 1;
        self.settled += 1;
        self.by_id.insert(id, Stored { key, message, draft: None, usage: usage.clone() });
        self.commit(id, newest);
    }

    /// The change that a message is kept.
    pub(crate) fn kept(&self, id: StoredId, newest: usize) -> Option<StateChange> {
        let Stored { key, message, .. } = self.by_id.get(&id)?;
        Some(StateChange::Keep { id, key: key.clone(), newest, message: message.clone() })
    }

    /// Appends changes that lead to what is accepted.
    pub(super) fn append_changes(&self, changes: &mut Vec<StateChange>) {
        let accepted = self.by_id.iter().filter(|(_, stored)| stored.draft.is_none());
        let mut ids: Vec<StoredId> = accepted.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        // Which of them stay is decided already.
        changes.extend(ids.into_iter().filter_map(|id| self.kept(id, usize::MAX)));
    }

    /// A kept message is accepted: of its key the newest ones stay.
    pub(crate) fn commit(&mut self, id: StoredId, newest: usize) {
        let Some(stored) = self.by_id.get_mut(&id) else {
            return;
        };
        let was_open = stored.draft.take().is_some();
        let key = stored.key.clone();
        self.settled += usize::from(was_open);
        if let Some(of_key) = self.by_key.get_mut(&key) {
            of_key.settled += usize::from(was_open);
        }
        while let Some(oldest) = self.oldest_above(&key, newest) {
            self.remove(oldest);
        }
    }

    /// The oldest accepted message of a key that has more of them. Those that are open are few and
    /// young, so it is found at once however long the history is.
    fn oldest_above(&self, key: &[u8], newest: usize) -> Option<StoredId> {
        let of_key = self.by_key.get(key).filter(|of_key| of_key.settled > newest)?;
        of_key.ids.iter().copied().find(|id| self.by_id.get(id).is_some_and(|stored| stored.draft.is_none()))
    }

    /// A message is gone.
    pub(crate) fn remove(&mut self, id: StoredId) {
        let Some(stored) = self.by_id.remove(&id) else {
            return;
        };
        stored.usage.give_back(stored.bytes());
        if stored.draft.is_none() {
            self.settled -= 1;
        }
        if let Some(of_key) = self.by_key.get_mut(&stored.key) {
            of_key.settled -= usize::from(stored.draft.is_none());
            if let Ok(place) = of_key.ids.binary_search(&id) {
                of_key.ids.remove(place);
            }
            if of_key.ids.is_empty() {
                self.by_key.remove(&stored.key);
            }
        }
    }

    /// The accepted messages of a key.
    pub(crate) fn settled_of(&self, key: &[u8]) -> Vec<StoredId> {
        let ids = self.by_key.get(key).into_iter().flat_map(|of_key| of_key.ids.iter().copied());
        ids.filter(|id| self.by_id.get(id).is_some_and(|stored| stored.draft.is_none())).collect()
    }

    /// The newest messages of a key, the oldest first.
    pub(crate) fn of_key(&self, key: &[u8], count_max: usize) -> Vec<StoredId> {
        let Some(OfKey { ids, .. }) = self.by_key.get(key) else {
            return Vec::new();
        };
        ids.iter().skip(ids.len().saturating_sub(count_max)).copied().collect()
    }

    /// The newest messages of all keys that a topic pattern matches, the oldest first; `None` if that takes
    /// more steps.
    pub(crate) fn matching(
        &self,
        pattern: &[u8],
        count_max: usize,
        steps_max: usize,
    ) -> Option<Vec<StoredId>> {
        let mut steps = steps_max.checked_sub(pattern.len())?;
        let pattern: Vec<&[u8]> = words(pattern);
        let mut ids: Vec<StoredId> = Vec::new();
        for (key, of_key) in &self.by_key {
            if matches(&pattern, &words(key), &mut steps)? {
                ids.extend(of_key.ids.iter().copied());
            }
        }
        ids.sort_unstable();
        ids.drain(..ids.len().saturating_sub(count_max));
        Some(ids)
    }

    /// A message.
    pub(crate) fn get(&self, id: StoredId) -> Option<Arc<OwnedMessage>> {
        self.by_id.get(&id).map(|stored| stored.message.clone())
    }

    /// A copy of what is accepted.
    pub(super) fn fork(&self, usage: &Arc<Usage>) -> Self {
        let mut fork = Self::default();
        (fork.next_id, fork.settled) = (self.next_id, self.settled);
        let mut ids: Vec<_> = self.by_id.iter().filter(|(_, stored)| stored.draft.is_none()).collect();
        ids.sort_unstable_by_key(|(id, _)| **id);
        for (id, stored) in ids {
            usage.take_over(stored.bytes());
            let of_key = fork.by_key.entry(stored.key.clone()).or_default();
            of_key.ids.push_back(*id);
            of_key.settled += 1;
            fork.by_id.insert(*id, Stored { usage: usage.clone(), ..stored.clone() });
        }
        fork
    }

    /// How many messages are accepted, and their bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        let accepted = self.by_id.values().filter(|stored| stored.draft.is_none());
        accepted.fold((0, 0), |(entries, bytes), stored| (entries + 1, bytes + stored.bytes()))
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

/// The words of a key; the empty key has none.
fn words(key: &[u8]) -> Vec<&[u8]> {
    if key.is_empty() { Vec::new() } else { key.split(|byte| *byte == b'.').collect() }
}

/// Whether a topic pattern matches, in time proportional to both lengths multiplied; `None` if that takes
/// more steps than are left.
fn matches(pattern: &[&[u8]], key: &[&[u8]], steps: &mut usize) -> Option<bool> {
    *steps = steps.checked_sub(key.len())?;
    let (mut p, mut k) = (0, 0);
    // Where to go on if what follows the last `#` does not fit: it then takes one word more.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        *steps = steps.checked_sub(1)?;
        match (pattern.get(p), key.get(k)) {
            (Some(&b"#"), _) => {
                retry = Some((p, k));
                p += 1;
            }
            (Some(word), Some(other)) if *word == b"*" || word == other => {
                p += 1;
                k += 1;
            }
            (None, None) => return Some(true),
            _ => match retry {
                Some((hash, start)) if start < key.len() => {
                    retry = Some((hash, start + 1));
                    p = hash + 1;
                    k = start + 1;
                }
                _ => return Some(false),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_model::Name;

    fn message(body: &'static str) -> Arc<OwnedMessage> {
        Arc::new(OwnedMessage {
            exchange: Name::EMPTY,
            routing_key: Name::EMPTY,
            form: &crate::testing::PLAIN,
            properties: Default::default(),
            body: body.as_bytes().to_vec().into(),
        })
    }

    fn bodies(messages: &Messages, ids: Vec<StoredId>) -> Vec<String> {
        let body = |id| String::from_utf8(messages.get(id).unwrap().body.to_vec()).unwrap();
        ids.into_iter().map(body).collect()
    }

    #[test]
    fn the_newest_of_a_key_stay_and_open_ones_are_found_too() {
        let (mut messages, usage) = (Messages::default(), Arc::new(Usage::new(1 << 20, 100)));
        for body in ["1", "2", "3"] {
            let id = messages.keep(DraftId::next(), b"k", message(body), &usage).unwrap();
            messages.commit(id, 2);
        }
        assert_eq!(bodies(&messages, messages.of_key(b"k", 10)), ["2", "3"]);
        let open = messages.keep(DraftId::next(), b"k", message("4"), &usage).unwrap();
        assert_eq!(bodies(&messages, messages.of_key(b"k", 10)), ["2", "3", "4"]);
        assert_eq!((messages.len(), usage.used().1), (2, 3));
        messages.remove(open);
        assert_eq!(bodies(&messages, messages.of_key(b"k", 1)), ["3"]);
        assert_eq!(usage.used().1, 2);
        let fork = messages.fork(&usage);
        assert_eq!(usage.used().1, 4);
        let other = Arc::new(Usage::unlimited());
        messages.charge_to(&other);
        assert_eq!((usage.used().1, other.used().1), (2, 2));
        drop(messages);
        assert_eq!(other.used(), (0, 0));
        assert_eq!(bodies(&fork, fork.of_key(b"k", 10)), ["2", "3"]);
        drop(fork);
        assert_eq!(usage.used(), (0, 0));
    }

    #[test]
    fn open_ones_are_not_counted_and_may_be_accepted_in_any_order() {
        let (mut messages, usage) = (Messages::default(), Arc::new(Usage::new(1 << 20, 100)));
        let ids = ["1", "2", "3", "4"]
            .map(|body| messages.keep(DraftId::next(), b"k", message(body), &usage).unwrap());
        let [first, second, third, fourth] = ids;
        messages.commit(third, 1);
        assert_eq!(bodies(&messages, messages.of_key(b"k", 10)), ["1", "2", "3", "4"]);
        messages.commit(second, 1);
        assert_eq!(bodies(&messages, messages.of_key(b"k", 10)), ["1", "3", "4"], "the older one goes");
        messages.remove(first);
        messages.commit(fourth, 1);
        assert_eq!(bodies(&messages, messages.of_key(b"k", 10)), ["4"]);
        assert_eq!((messages.len(), usage.used().1), (1, 1));
    }

    #[test]
    fn patterns_match_as_topics_do() {
        let (mut messages, usage) = (Messages::default(), Arc::new(Usage::new(1 << 20, 100)));
        for key in ["a.b", "a.c", "b", "", "a.b.c"] {
            let id = messages.keep(DraftId::next(), key.as_bytes(), message(key), &usage).unwrap();
            messages.commit(id, 1);
        }
        let found =
            |pattern: &str| bodies(&messages, messages.matching(pattern.as_bytes(), 10, 1_000).unwrap());
        assert_eq!(found("a.*"), ["a.b", "a.c"]);
        assert_eq!(found("#"), ["a.b", "a.c", "b", "", "a.b.c"]);
        assert_eq!(found("*"), ["b"]);
        assert_eq!(found("#.b"), ["a.b", "b"]);
        assert_eq!(found("a.#.c"), ["a.c", "a.b.c"]);
        assert_eq!(found(""), [""]);
        assert_eq!(found("#.#"), found("#"));
        assert_eq!(found("*.#"), ["a.b", "a.c", "b", "a.b.c"]);
        assert_eq!(bodies(&messages, messages.matching(b"#", 2, 1_000).unwrap()), ["", "a.b.c"]);
    }
    #[test]
    fn a_search_ends_after_so_many_steps() {
        let (mut messages, usage) = (Messages::default(), Arc::new(Usage::new(1 << 20, 100)));
        let key = "a.".repeat(500);
        let id = messages.keep(DraftId::next(), key.as_bytes(), message("m"), &usage).unwrap();
        messages.commit(id, 1);
        let pattern = String::from("#.") + &"a.".repeat(200) + "b";
        assert_eq!(messages.matching(pattern.as_bytes(), 10, 10_000), None);
        assert_eq!(messages.matching(pattern.as_bytes(), 10, 1_000_000), Some(vec![]));
        assert_eq!(messages.matching(&[b'.'; 20_000], 10, 10_000), None, "reading it counts too");
    }
}
