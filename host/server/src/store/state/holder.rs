//! What is known in memory of what a type of an exchange keeps.

use super::{
    A_QUEUE, A_SPACE, Out,
    places::{Left, Place, Places},
};
use crate::store::{Shared, codec::Take, message, told::refused};
use leveret_broker::store::{Aside, StateChange, StoreFailure};
use leveret_model::OwnedMessage;
use leveret_store::{Payload, QueueId, Range, Refused, Sequence, Space};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// How many values that have ended are taken away with each change.
const ENDED_PER_CHANGE: usize = 4;
/// How much is read at once of the messages.
const READ_BYTES: usize = 1 << 20;

const VALUE: u8 = b'v';
const COUNTER: u8 = b'c';
const WRITER: &[u8] = b"w";

type Key = Arc<[u8]>;

/// A holder.
#[derive(Default)]
pub(super) struct Holder {
    places: Places,
    /// The rest is as it is in the store.
    is_read: bool,
    /// Something was handed over since it was last known to be written.
    unwritten: bool,
    writings: u64,
    counters: HashMap<Key, Counter>,
    /// Values that end: when, and which writing.
    ending: HashMap<Key, (u64, u64)>,
    /// What ends when, which writing: a counter, else a value.
    ends: BTreeMap<(u64, u64), (bool, Key)>,
    messages: Messages,
}

#[derive(Clone, Copy)]
struct Counter {
    sum: i64,
    end_ms: Option<u64>,
    writing: u64,
}

/// Which messages there are. Their numbers may come again after a start, their places do not.
#[derive(Default)]
struct Messages {
    by_id: BTreeMap<u64, (Sequence, Key)>,
    by_key: HashMap<Key, BTreeSet<u64>>,
    next: Sequence,
}

impl Holder {
    /// One that has its state there, of which nothing is known.
    pub(super) fn at(places: Places) -> Self {
        // It may be that what was handed over before is not written.
        Self { places, unwritten: true, ..Self::default() }
    }

    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    /// Whether there is nothing of it in the store either.
    pub(super) fn is_nothing(&self) -> bool {
        self.places.is_nothing()
    }

    /// Waits until all is written that was handed over.
    ///
    /// # Errors
    /// It is not, and will not be soon.
    pub(super) fn see_all(&mut self, shared: &Shared) -> Result<(), StoreFailure> {
        if self.unwritten && !self.is_nothing() {
            super::wait_until_written(&shared.store)?;
        }
        self.unwritten = false;
        Ok(())
    }

    /// Reads what the store has, the first time.
    ///
    /// # Errors
    /// As for [`Self::see_all`].
    pub(super) fn read_once(&mut self, shared: &Shared) -> Result<(), StoreFailure> {
        if !self.is_read {
            self.see_all(shared)?;
            self.read(shared);
            self.is_read = true;
        }
        Ok(())
    }

    fn read(&mut self, shared: &Shared) {
        let Some(Place { space, queue }) = self.places.now else { return };
        let store = &shared.store;
        store.values_with(space, &[VALUE], |key, value, end_ms| {
            let (key, writing) =
                (Key::from(key.get(1..).unwrap_or_default()), Take(value).u64().unwrap_or(0));
            self.writings = self.writings.max(writing + 1);
            self.note_end(&key, Some(end_ms).filter(|end| *end > 0), writing);
        });
        let mut counters = Vec::new();
        store.values_with(space, &[COUNTER], |key, value, end_ms| {
            let key = Key::from(key.get(1..).unwrap_or_default());
            let sum = value.first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes));
            counters.push((key, sum, Some(end_ms).filter(|end| *end > 0)));
        });
        for (key, sum, end_ms) in counters {
            self.begin_counter(key, sum, end_ms);
        }
        let Some(queue) = queue else { return };
        self.messages.next = store.queue(queue).map_or(0, |queue| queue.next);
        self.each_message(shared, |messages, (at, id), (key, _), _| messages.insert(id, at, key.into()));
    }

    /// Makes a change, and says it to the store.
    ///
    /// # Errors
    /// It is longer than anything may be in the store.
    pub(super) fn apply(&mut self, change: &StateChange, out: &mut Out<'_>) -> Result<(), StoreFailure> {
        self.unwritten = true;
        match change {
            StateChange::Set { key, value, end_ms } => {
                let Place { space, .. } = self.place_for(out);
                let writing = self.next_writing();
                let bytes = [&writing.to_le_bytes(), &**value].concat();
                out.parts.set(space, &prefixed(VALUE, key), &bytes, end_ms.map_or(0, |end| end.max(1)));
                self.note_end(key, *end_ms, writing);
                self.drop_ended(out);
            }
            StateChange::Delete { key } => {
                self.note_end(key, None, 0);
                if let Some(place) = self.places.now {
                    out.parts.unset(place.space, &prefixed(VALUE, key));
                }
            }
            StateChange::Add { key, more, end_ms } => self.add(key, *more, *end_ms, out),
            StateChange::Keep { id, key, newest, message, end_ms } => {
                return self.keep(*id, key, *newest, (message, *end_ms), out);
            }
            StateChange::Forget { id } => self.forget(*id, out),
            StateChange::By { plugin, digest, version } => {
                let Place { space, .. } = self.place_for(out);
                let mut value = Vec::new();
                put_text(&mut value, plugin);
                value.extend_from_slice(digest);
                put_text(&mut value, version);
                out.parts.set(space, WRITER, &value, 0);
            }
            StateChange::Clear => {
                out.ending.old.extend(self.places.all());
                *self = Self::known(Places::default());
            }
            // Of a space of their own.
            StateChange::SetTimer { .. } | StateChange::EndTimer { .. } => {}
            StateChange::PutAside { digest, newest } => self.put_aside(*digest, *newest, out),
            StateChange::TakeBack { digest } => return self.take_back(digest, out),
            StateChange::DropAside { digest } => {
                let gone = self.places.left.extract_if(.., |left| left.digest == *digest);
                out.ending.old.extend(gone.map(|left| left.place));
            }
        }
        Ok(())
    }

    /// One that has nothing but what it put aside.
    fn known(places: Places) -> Self {
        Self { places, is_read: true, unwritten: true, ..Self::default() }
    }

    fn put_aside(&mut self, digest: [u8; 32], newest: usize, out: &mut Out<'_>) {
        let Places { now, mut left } = core::mem::take(&mut self.places);
        let again = left.extract_if(.., |left| left.digest == digest);
        out.ending.old.extend(again.map(|left| left.place));
        left.extend(now.map(|place| Left { digest, place }));
        let surplus = left.len().saturating_sub(newest);
        out.ending.old.extend(left.drain(..surplus).map(|left| left.place));
        *self = Self::known(Places { now: None, left });
    }

    fn take_back(&mut self, digest: &[u8; 32], out: &mut Out<'_>) -> Result<(), StoreFailure> {
        self.see_all(out.shared)?;
        let Places { now, mut left } = core::mem::take(&mut self.places);
        let at = left.iter().position(|left| left.digest == *digest);
        let mut later = left.split_off(at.unwrap_or(0)).into_iter().map(|left| left.place);
        out.ending.old.extend(now);
        let now = at.and_then(|_| later.next());
        out.ending.old.extend(later);
        *self = Self::known(Places { now, left });
        self.read(out.shared);
        Ok(())
    }

    /// What was put aside, as [`Self::changes`] gives what counts; the latest last.
    pub(super) fn aside(&self, shared: &Shared) -> Vec<Aside> {
        let changes = |left: &Left| {
            let mut holder = Self::known(Places { now: Some(left.place), left: Vec::new() });
            holder.read(shared);
            Aside { digest: left.digest, changes: holder.changes(shared) }
        };
        self.places.left.iter().map(changes).collect()
    }

    fn next_writing(&mut self) -> u64 {
        self.writings += 1;
        self.writings - 1
    }

    /// Where its values go.
    fn place_for(&mut self, out: &mut Out<'_>) -> Place {
        *self.places.now.get_or_insert_with(|| Place { space: Space(out.new_id(A_SPACE)), queue: None })
    }

    /// Where its messages go.
    fn queue_for(&mut self, out: &mut Out<'_>) -> QueueId {
        let place = self.place_for(out);
        if let Some(queue) = place.queue {
            return queue;
        }
        let queue = QueueId(out.new_id(A_QUEUE));
        out.parts.create(queue);
        self.places.now = Some(Place { queue: Some(queue), ..place });
        queue
    }

    /// A value ends then, or never.
    fn note_end(&mut self, key: &Key, end_ms: Option<u64>, writing: u64) {
        let before = match end_ms {
            Some(end) => {
                self.ends.insert((end, writing), (false, key.clone()));
                self.ending.insert(key.clone(), (end, writing))
            }
            None => self.ending.remove(key),
        };
        if let Some(before) = before {
            self.ends.remove(&before);
        }
    }

    fn begin_counter(&mut self, key: Key, sum: i64, end_ms: Option<u64>) {
        let writing = self.next_writing();
        if let Some(end) = end_ms {
            self.ends.insert((end, writing), (true, key.clone()));
        }
        self.counters.insert(key, Counter { sum, end_ms, writing });
    }

    fn remove_counter(&mut self, key: &[u8]) {
        if let Some(Counter { end_ms: Some(end), writing, .. }) = self.counters.remove(key) {
            self.ends.remove(&(end, writing));
        }
    }

    fn add(&mut self, key: &Key, more: i64, end_ms: Option<u64>, out: &mut Out<'_>) {
        let ended = |counter: &Counter| counter.end_ms.is_some_and(|end| end <= out.now_ms);
        if self.counters.get(key).is_some_and(ended) {
            self.remove_counter(key);
        }
        match self.counters.get_mut(key) {
            Some(counter) => counter.sum = counter.sum.saturating_add(more),
            // A counter begins with the first that is more than nothing.
            None if more == 0 => return,
            None => self.begin_counter(key.clone(), more, end_ms),
        }
        let Some(Counter { sum, end_ms, .. }) = self.counters.get(key).copied() else { return };
        let Place { space, .. } = self.place_for(out);
        let end_ms = end_ms.map_or(0, |end| end.max(1));
        out.parts.set(space, &prefixed(COUNTER, key), &sum.to_le_bytes(), end_ms);
        self.drop_ended(out);
    }

    /// Takes some of what has ended away.
    fn drop_ended(&mut self, out: &mut Out<'_>) {
        let Some(Place { space, .. }) = self.places.now else { return };
        for _ in 0..ENDED_PER_CHANGE {
            let Some(first) = self.ends.first_entry().filter(|first| first.key().0 <= out.now_ms) else {
                return;
            };
            let (is_counter, key) = first.remove();
            if is_counter {
                self.counters.remove(&key);
                out.parts.unset(space, &prefixed(COUNTER, &key));
            } else {
                self.ending.remove(&key);
                out.parts.unset(space, &prefixed(VALUE, &key));
            }
        }
    }

    fn keep(
        &mut self,
        id: u64,
        key: &Key,
        newest: usize,
        (message, end_ms): (&OwnedMessage, Option<u64>),
        out: &mut Out<'_>,
    ) -> Result<(), StoreFailure> {
        let Some(form) = message::number_of(message.form) else {
            let what = format!("messages of {} cannot be kept", message.form.protocol());
            return Err(StoreFailure(what.into()));
        };
        self.forget(id, out);
        let queue = self.queue_for(out);
        let at = self.messages.next;
        self.messages.next += 1;
        self.messages.insert(id, at, key.clone());
        while self.messages.by_key.get(key).is_some_and(|ids| ids.len() > newest) {
            let Some(oldest) = self.messages.by_key.get(key).and_then(|ids| ids.first().copied()) else {
                break;
            };
            // It may be this one, which then is not written at all.
            if oldest == id {
                self.messages.remove(id);
            } else {
                self.forget(oldest, out);
            }
        }
        if !self.messages.by_id.contains_key(&id) {
            return Ok(());
        }
        let (note, flags) = message::kept_note(key, end_ms);
        let payload = Payload { at_ms: id, note: &note, flags, ..Payload::of(&message.view(), form) };
        if out.parts.enqueue((&payload, false), None, &[(queue, at)]) {
            Ok(())
        } else {
            Err(refused(Refused::TooLarge))
        }
    }

    fn forget(&mut self, id: u64, out: &mut Out<'_>) {
        let queue = self.places.now.and_then(|place| place.queue);
        if let (Some(at), Some(queue)) = (self.messages.remove(id), queue) {
            out.parts.ack(queue, &[Range { first: at, count: 1 }]);
        }
    }

    /// All of it, as changes that lead to it.
    pub(super) fn changes(&self, shared: &Shared) -> Vec<StateChange> {
        let Some(Place { space, .. }) = self.places.now else { return Vec::new() };
        let now_ms = (shared.now_ms)();
        let mut changes = Vec::new();
        shared.store.values_with(space, WRITER, |_, value, _| changes.extend(writer(value)));
        let mut values = Vec::new();
        shared.store.values_with(space, &[VALUE], |key, value, end_ms| {
            let mut value = Take(value);
            let (key, writing) = (key.get(1..).unwrap_or_default(), value.u64().unwrap_or(0));
            let end_ms = Some(end_ms).filter(|end| *end > 0);
            if end_ms.is_none_or(|end| end > now_ms) {
                values.push((writing, StateChange::Set { key: key.into(), value: value.0.into(), end_ms }));
            }
        });
        // In the order in which they were written: of too many the first go first.
        values.sort_unstable_by_key(|(writing, _)| *writing);
        changes.extend(values.into_iter().map(|(_, change)| change));
        let live = |counter: &Counter| counter.end_ms.is_none_or(|end| end > now_ms);
        let counters = self.counters.iter().filter(|(_, counter)| live(counter));
        changes.extend(counters.map(|(key, counter)| StateChange::Add {
            key: key.clone(),
            more: counter.sum,
            end_ms: counter.end_ms,
        }));
        let mut kept = Vec::new();
        let mut copy = Self { places: self.places.clone(), ..Self::default() };
        copy.each_message(shared, |_, (at, id), (key, end_ms), message| {
            let known = self.messages.by_id.get(&id).is_some_and(|(sequence, _)| *sequence == at);
            if known {
                let (key, message) = (key.into(), Arc::new(message));
                // Which of them stay is decided.
                kept.push((id, StateChange::Keep { id, key, newest: usize::MAX, message, end_ms }));
            }
        });
        kept.sort_unstable_by_key(|(id, _)| *id);
        changes.extend(kept.into_iter().map(|(_, change)| change));
        changes
    }

    /// Reads the messages: place and number, key and when it expires, message.
    fn each_message(
        &mut self,
        shared: &Shared,
        mut each: impl FnMut(&mut Messages, (Sequence, u64), (&[u8], Option<u64>), OwnedMessage),
    ) {
        let Some(queue) = self.places.now.and_then(|place| place.queue) else { return };
        let mut next = Some(0);
        while let Some(from) = next {
            next = shared.read(queue, from, READ_BYTES, &mut |item| {
                let payload = item.payload.and_then(|payload| Payload::decode(payload).ok());
                let known = payload.and_then(|payload| Some((payload, message::form_of(payload.form)?)));
                let Some((payload, form)) = known else {
                    return tracing::error!("the store: a message that an exchange type kept cannot be read");
                };
                let message = OwnedMessage::from_view(&message::view(&payload, form, item.body));
                let kept = message::kept(&payload);
                each(&mut self.messages, (item.sequence, payload.at_ms), kept, message);
            });
        }
    }
}

impl Messages {
    fn insert(&mut self, id: u64, at: Sequence, key: Key) {
        self.by_key.entry(key.clone()).or_default().insert(id);
        self.by_id.insert(id, (at, key));
    }

    /// Its place, if there is one.
    fn remove(&mut self, id: u64) -> Option<Sequence> {
        let (at, key) = self.by_id.remove(&id)?;
        if let Some(ids) = self.by_key.get_mut(&key) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_key.remove(&key);
            }
        }
        Some(at)
    }
}

fn prefixed(kind: u8, key: &[u8]) -> Vec<u8> {
    [&[kind], key].concat()
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let text = text.as_bytes().get(..usize::from(u16::MAX)).unwrap_or(text.as_bytes());
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text);
}

fn writer(value: &[u8]) -> Option<StateChange> {
    let mut take = Take(value);
    let length = take.u16().ok()?.into();
    let plugin = String::from_utf8_lossy(take.bytes(length).ok()?);
    let digest = take.bytes(32).ok()?.try_into().ok()?;
    let length = take.u16().ok()?.into();
    let version = String::from_utf8_lossy(take.bytes(length).ok()?);
    Some(StateChange::By { plugin: Arc::from(&*plugin), digest, version: Arc::from(&*version) })
}
