//! Values by key, and counters, of one space.

use super::{DraftId, usage::Usage};
use leveret_broker::store::StateChange;
use std::{collections::BTreeMap, ops::Bound, sync::Arc};

/// The longest key, in bytes.
pub(crate) const KEY_BYTES_MAX: usize = 1_024;
/// The longest value, in bytes.
pub(crate) const VALUE_BYTES_MAX: usize = 65_536;
/// What an entry takes beside its key and its value, in bytes.
pub(crate) const ENTRY_BYTES: u64 = 160;
/// How many entries are let go of at a time: what ended or is too many at once goes piece by piece.
const PIECE_ENTRIES: usize = 500;
/// How many entries a scan looks at in one piece, and how many bytes it takes.
const SCAN_PIECE_ENTRIES: usize = 500;
const SCAN_PIECE_BYTES: usize = 256 * 1024;

type Bytes = Arc<[u8]>;

/// Values by key.
#[derive(Default)]
pub(crate) struct Values {
    entries: BTreeMap<Bytes, Entry>,
    counters: BTreeMap<Bytes, Counter>,
    /// Keys in the order in which their values were written.
    order: BTreeMap<u64, Bytes>,
    /// When values and counters end, which are told apart by their numbers.
    ends: BTreeMap<(u64, u64), Bytes>,
    live: usize,
    doubts: usize,
    capacity: Option<u64>,
    next_sequence: u64,
    /// What went because there were too many, where somebody is to be told.
    evicted: Option<Vec<Bytes>>,
}

#[derive(Default)]
struct Entry {
    value: Option<Value>,
    /// The draft that wrote the key, and what.
    draft: Option<(DraftId, Option<Written>)>,
}

/// What was written under a key, committed or not.
#[derive(Clone)]
struct Written {
    bytes: Bytes,
    end_ms: Option<u64>,
    usage: Arc<Usage>,
}

/// What is committed.
#[derive(Clone)]
struct Value {
    written: Written,
    /// Tells the value from others that its key has had.
    sequence: u64,
}

#[derive(Clone)]
struct Counter {
    sum: i64,
    /// How many messages added to it and were not undone.
    adds: u64,
    end_ms: Option<u64>,
    sequence: u64,
    usage: Arc<Usage>,
}

/// What a counter came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) sum: i64,
    /// Which counter it is, among all that this key has ever had.
    pub(crate) counter: u64,
}

/// Another draft wrote the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InDoubt;

/// Why something is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueError {
    /// Another draft wrote the key.
    InDoubt,
    /// The limit of the plugin's state is reached.
    Quota,
    /// A key or a value is too long.
    TooLarge,
}

impl From<InDoubt> for ValueError {
    fn from(_: InDoubt) -> Self {
        Self::InDoubt
    }
}

fn cost(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64 + ENTRY_BYTES
}

impl Written {
    /// The bytes, where they have not ended.
    fn at(&self, now_ms: u64) -> Option<&Bytes> {
        self.end_ms.is_none_or(|end| end > now_ms).then_some(&self.bytes)
    }

    fn cost(&self, key: &[u8]) -> u64 {
        cost(key, &self.bytes)
    }

    /// That it is what a key has, for the store.
    fn change(&self, key: &Bytes) -> StateChange {
        StateChange::Set { key: key.clone(), value: self.bytes.clone(), end_ms: self.end_ms }
    }

    /// It is no more.
    fn give_back(&self, key: &[u8]) {
        self.usage.give_back(self.cost(key));
    }
}

impl Values {
    /// How many values there are, those of open drafts not counted. `None` where some have ended that are
    /// still to be let go of: the next call goes on.
    pub(crate) fn len(&mut self, now_ms: u64) -> Option<usize> {
        self.purge(now_ms).then_some(self.live)
    }

    /// Whether there is nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.counters.is_empty()
    }

    /// Whether any draft is open.
    pub(crate) fn has_doubts(&self) -> bool {
        self.doubts > 0
    }

    /// How many values there may be; those written first go first. False where there are still too many: the
    /// next call goes on.
    pub(crate) fn set_capacity(&mut self, entries: u64) -> bool {
        self.capacity = Some(entries);
        self.evict()
    }

    /// From now on it is noted what goes because there are too many.
    pub(super) fn note_evicted(&mut self) {
        self.evicted.get_or_insert_default();
    }

    /// Takes the keys of what went because there were too many. One that was written anew since is not among them.
    pub(super) fn take_evicted(&mut self) -> Vec<Bytes> {
        self.evicted.as_mut().map(core::mem::take).unwrap_or_default()
    }

    /// The value of a key as that draft sees it.
    pub(crate) fn get(
        &self,
        draft: Option<DraftId>,
        key: &[u8],
        now_ms: u64,
    ) -> Result<Option<Bytes>, InDoubt> {
        let Some(entry) = self.entries.get(key) else {
            return Ok(None);
        };
        match &entry.draft {
            Some((owner, written)) if Some(*owner) == draft => {
                Ok(written.as_ref().and_then(|written| written.at(now_ms)).cloned())
            }
            Some(_) => Err(InDoubt),
            None => Ok(entry.value.as_ref().and_then(|value| value.written.at(now_ms)).cloned()),
        }
    }

    /// Writes a value, or with `None` deletes, as a draft. With the time at which it ends, and what time it is.
    pub(crate) fn write(
        &mut self,
        draft: DraftId,
        key: &[u8],
        value: Option<&[u8]>,
        (end_ms, now_ms): (Option<u64>, u64),
        usage: &Arc<Usage>,
    ) -> Result<(), ValueError> {
        if key.len() > KEY_BYTES_MAX || value.is_some_and(|value| value.len() > VALUE_BYTES_MAX) {
            return Err(ValueError::TooLarge);
        }
        let known = self.entries.get(key).and_then(|entry| entry.draft.as_ref());
        if known.is_some_and(|(owner, _)| *owner != draft) {
            return Err(ValueError::InDoubt);
        }
        let written = match value {
            None => None,
            Some(value) => {
                if !usage.has_room_without(self.replaced(key, usage), cost(key, value)) {
                    self.purge(now_ms);
                }
                let replaced = self.replaced(key, usage);
                usage.take_instead(replaced, cost(key, value)).map_err(|_| ValueError::Quota)?;
                Some(Written { bytes: value.into(), end_ms, usage: usage.clone() })
            }
        };
        let entry = self.entries.entry(key.into()).or_default();
        match entry.draft.replace((draft, written)) {
            None => self.doubts += 1,
            Some((_, before)) => before.iter().for_each(|before| before.give_back(key)),
        }
        Ok(())
    }

    /// Bytes and entries that go where the only draft of a key writes another value and is committed.
    fn replaced(&self, key: &[u8], usage: &Arc<Usage>) -> (u64, u64) {
        let Some(Entry { value, draft }) = self.entries.get(key) else { return (0, 0) };
        let drafted = draft.iter().filter_map(|(_, written)| written.as_ref());
        let all = value.iter().map(|value| &value.written).chain(drafted);
        let all = all.filter(|written| Arc::ptr_eq(&written.usage, usage));
        all.fold((0, 0), |(bytes, entries), written| (bytes + written.cost(key), entries + 1))
    }

    /// Adds to a counter, and gives the sum.
    pub(crate) fn add(
        &mut self,
        key: &[u8],
        more: i64,
        end_ms: Option<u64>,
        now_ms: u64,
        usage: &Arc<Usage>,
    ) -> Result<Sum, ValueError> {
        if key.len() > KEY_BYTES_MAX {
            return Err(ValueError::TooLarge);
        }
        self.purge(now_ms);
        if self.counters.get(key).is_some_and(|counter| counter.end_ms.is_some_and(|end| end <= now_ms)) {
            self.remove_counter(key);
        }
        if let Some(counter) = self.counters.get_mut(key) {
            counter.sum = counter.sum.saturating_add(more);
            counter.adds += u64::from(more != 0);
            return Ok(Sum { sum: counter.sum, counter: counter.sequence });
        }
        if more == 0 {
            return Ok(Sum::default());
        }
        usage.take(cost(key, &[])).map_err(|_| ValueError::Quota)?;
        let sequence = self.next();
        let key: Bytes = key.into();
        if let Some(end) = end_ms {
            self.ends.insert((end, sequence), key.clone());
        }
        self.counters.insert(key, Counter { sum: more, adds: 1, end_ms, sequence, usage: usage.clone() });
        Ok(Sum { sum: more, counter: sequence })
    }

    /// Takes an [`Self::add`] back, if that very counter is still there. One to which nothing was added
    /// then goes.
    pub(crate) fn subtract(&mut self, key: &[u8], more: i64, of: u64) {
        let Some(counter) = self.counters.get_mut(key).filter(|counter| counter.sequence == of) else {
            return;
        };
        counter.sum = counter.sum.saturating_sub(more);
        counter.adds = counter.adds.saturating_sub(1);
        if counter.adds == 0 {
            self.remove_counter(key);
        }
    }

    fn remove_counter(&mut self, key: &[u8]) {
        if let Some(counter) = self.counters.remove(key) {
            counter.usage.give_back(cost(key, &[]));
            if let Some(end) = counter.end_ms {
                self.ends.remove(&(end, counter.sequence));
            }
        }
    }

    /// What a draft wrote under a key: a value, with its end, or that there is none. Nothing where the draft
    /// wrote nothing.
    pub(crate) fn written(&self, draft: DraftId, key: &[u8]) -> Option<StateChange> {
        let (key, entry) = self.entries.get_key_value(key)?;
        let (_, written) = entry.draft.as_ref().filter(|(owner, _)| *owner == draft)?;
        Some(match written {
            Some(written) => written.change(key),
            None => StateChange::Delete { key: key.clone() },
        })
    }

    /// Appends changes that lead to what is committed.
    pub(super) fn append_changes(&self, changes: &mut Vec<StateChange>) {
        let mut values: Vec<_> =
            self.entries.iter().filter_map(|(key, entry)| Some((key, entry.value.as_ref()?))).collect();
        values.sort_unstable_by_key(|(_, value)| value.sequence);
        changes.extend(values.into_iter().map(|(key, value)| value.written.change(key)));
        changes.extend(self.counters.iter().map(|(key, counter)| StateChange::Add {
            key: key.clone(),
            more: counter.sum,
            end_ms: counter.end_ms,
        }));
    }

    /// Makes what a draft wrote under a key last.
    pub(crate) fn commit(&mut self, draft: DraftId, key: &[u8], now_ms: u64) {
        let Some((key, entry)) = self.entries.get_key_value(key) else {
            return;
        };
        if entry.draft.as_ref().is_none_or(|(owner, _)| *owner != draft) {
            return;
        }
        let key = key.clone();
        self.remove(&key, None);
        let sequence = self.next();
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        self.doubts -= 1;
        let written = entry.draft.take().and_then(|(_, written)| written);
        match written {
            None => {
                self.entries.remove(&key);
            }
            Some(written) => {
                self.live += 1;
                self.order.insert(sequence, key.clone());
                if let Some(end) = written.end_ms {
                    self.ends.insert((end, sequence), key);
                }
                entry.value = Some(Value { written, sequence });
            }
        }
        // Of what has ended there may be more than goes at once; nothing else goes for that.
        if self.purge(now_ms) {
            self.evict();
        }
    }

    /// Forgets what a draft wrote under a key.
    pub(crate) fn forget(&mut self, draft: DraftId, key: &[u8]) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if entry.draft.as_ref().is_none_or(|(owner, _)| *owner != draft) {
            return;
        }
        self.doubts -= 1;
        let written = entry.draft.take().and_then(|(_, written)| written);
        written.iter().for_each(|written| written.give_back(key));
        if entry.value.is_none() {
            self.entries.remove(key);
        }
    }

    /// Adds committed values of keys that begin with `prefix` and come after `after`, in order, up to
    /// `count_max`. Gives the key to go on after, if there may be more.
    pub(crate) fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        count_max: usize,
        now_ms: u64,
        found: &mut Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Option<Bytes> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut bytes = 0;
        let entries = self.entries.range::<[u8], _>((from, Bound::Unbounded));
        for (nth, (key, entry)) in entries.take_while(|(key, _)| key.starts_with(prefix)).enumerate() {
            if found.len() >= count_max {
                return None;
            }
            if let Some(value) = entry.value.as_ref().and_then(|value| value.written.at(now_ms)) {
                bytes += key.len() + value.len();
                found.push((key.to_vec(), value.to_vec()));
            }
            if nth + 1 >= SCAN_PIECE_ENTRIES || bytes >= SCAN_PIECE_BYTES {
                return Some(key.clone());
            }
        }
        None
    }

    /// A copy of what is committed.
    pub(super) fn fork(&self, usage: &Arc<Usage>) -> Self {
        let committed = self.entries.iter().filter_map(|(key, entry)| {
            let mut value = entry.value.clone()?;
            value.written.usage = usage.clone();
            usage.take_over(value.written.cost(key));
            Some((key.clone(), Entry { value: Some(value), draft: None }))
        });
        let counters = self.counters.iter().map(|(key, counter)| {
            usage.take_over(cost(key, &[]));
            (key.clone(), Counter { usage: usage.clone(), ..counter.clone() })
        });
        Self {
            entries: committed.collect(),
            counters: counters.collect(),
            order: self.order.clone(),
            ends: self.ends.clone(),
            live: self.live,
            doubts: 0,
            capacity: self.capacity,
            next_sequence: self.next_sequence,
            evicted: None,
        }
    }

    /// How many values and counters are committed, and their bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        let values =
            self.entries.iter().filter_map(|(key, entry)| Some((key, &*entry.value.as_ref()?.written.bytes)));
        let counters = self.counters.keys().map(|key| (key, [].as_slice()));
        let costs = values.chain(counters).map(|(key, value)| cost(key, value));
        costs.fold((0, 0), |(entries, bytes), cost| (entries + 1, bytes + cost))
    }

    /// Charges what is committed there instead.
    pub(super) fn charge_to(&mut self, usage: &Arc<Usage>) {
        let charge = |key: &[u8], bytes: &[u8], to: &mut Arc<Usage>| {
            usage.take_over(cost(key, bytes));
            std::mem::replace(to, usage.clone()).give_back(cost(key, bytes));
        };
        for (key, entry) in &mut self.entries {
            if let Some(value) = &mut entry.value {
                charge(key, &value.written.bytes, &mut value.written.usage);
            }
        }
        for (key, counter) in &mut self.counters {
            charge(key, &[], &mut counter.usage);
        }
    }

    fn next(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence
    }

    /// Lets go of what has ended, so much at a time. Whether that was all.
    fn purge(&mut self, now_ms: u64) -> bool {
        for _ in 0..PIECE_ENTRIES {
            let Some((&(end, sequence), _)) =
                self.ends.first_key_value().filter(|((end, _), _)| *end <= now_ms)
            else {
                return true;
            };
            let Some(key) = self.ends.remove(&(end, sequence)) else {
                return true;
            };
            self.remove(&key, Some(sequence));
            if self.counters.get(&key).is_some_and(|counter| counter.sequence == sequence) {
                self.remove_counter(&key);
            }
        }
        false
    }

    /// Lets go of those that are too many, so much at a time. Whether that was all.
    fn evict(&mut self) -> bool {
        let capacity = self.capacity.map_or(usize::MAX, |c| usize::try_from(c).unwrap_or(usize::MAX));
        self.shrink(self.live.saturating_sub(capacity));
        self.live <= capacity
    }

    /// How many values are a cache: none where any number may be there.
    pub(super) fn cached(&self) -> usize {
        if self.capacity.is_some() { self.live } else { 0 }
    }

    /// Lets go of so many of those written first, or of some of them where they are many. Whether any went.
    pub(super) fn shrink(&mut self, count: usize) -> bool {
        let mut any = false;
        for _ in 0..count.min(PIECE_ENTRIES) {
            let Some((sequence, key)) = self.order.pop_first() else { break };
            self.remove(&key, Some(sequence));
            any = true;
            // One with a draft has a change of its own, which counts after this one.
            if let Some(evicted) = &mut self.evicted
                && !self.entries.contains_key(&key)
            {
                evicted.push(key);
            }
        }
        any
    }

    /// Removes a committed value; with a number, if the key still has that one.
    fn remove(&mut self, key: &Bytes, sequence: Option<u64>) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        let Some(value) =
            entry.value.take_if(|value| sequence.is_none_or(|sequence| value.sequence == sequence))
        else {
            return;
        };
        value.written.give_back(key);
        self.live -= 1;
        self.order.remove(&value.sequence);
        if let Some(end) = value.written.end_ms {
            self.ends.remove(&(end, value.sequence));
        }
        if entry.draft.is_none() {
            self.entries.remove(key);
        }
    }
}

impl Drop for Values {
    fn drop(&mut self) {
        for (key, entry) in &self.entries {
            if let Some(value) = &entry.value {
                value.written.give_back(key);
            }
            if let Some((_, Some(written))) = &entry.draft {
                written.give_back(key);
            }
        }
        for (key, counter) in &self.counters {
            counter.usage.give_back(cost(key, &[]));
        }
    }
}

#[cfg(test)]
mod tests;
