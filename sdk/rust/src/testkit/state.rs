//! What the test kit's host holds for one exchange or attachment: what took place, what the call on hand
//! would do, and what messages whose fate is open would do.

use super::TestMessage;
use crate::{
    BindingId,
    capability::queue_info::QueueStatus,
    generated::leveret::routing::{
        key_value::{Error, Space},
        log::Level,
        message_store,
    },
};
use std::collections::BTreeMap;

const KEY_BYTES_MAX: usize = 1024;
const VALUE_BYTES_MAX: usize = 65_536;

type Key = (Space, Vec<u8>);

/// What took place.
#[derive(Clone, Default)]
pub(super) struct World {
    values: BTreeMap<Key, Entry>,
    sums: BTreeMap<Key, Sum>,
    capacities: BTreeMap<Space, u64>,
    writes: u64,
    pub(super) stored: Vec<Stored>,
    stored_ever: u64,
    pub(super) held: Vec<Held>,
    held_ever: u64,
    /// When each is due.
    pub(super) timers: BTreeMap<Vec<u8>, u64>,
    pub(super) enqueued: Vec<(Vec<u8>, TestMessage)>,
    pub(super) published: Vec<(Vec<u8>, TestMessage)>,
}

#[derive(Clone)]
struct Entry {
    value: Vec<u8>,
    expires_ms: Option<u64>,
    /// Which write it was.
    written: u64,
}

#[derive(Clone)]
struct Sum {
    sum: i64,
    expires_ms: Option<u64>,
}

/// A message that is kept.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) id: u64,
    pub(super) key: Vec<u8>,
    pub(super) message: TestMessage,
}

/// A message that waits.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) id: u64,
    pub(super) due_ms: u64,
    pub(super) message: TestMessage,
}

/// Something that takes place, or does not.
#[derive(Clone)]
pub(super) enum Effect {
    Write { key: Key, value: Option<Vec<u8>>, expires_ms: Option<u64> },
    Add { key: Key, more: i64, expires_ms: Option<u64> },
    Keep { key: Vec<u8>, newest: u32, message: TestMessage },
    Forget { key: Vec<u8> },
    Hold { due_ms: u64, message: TestMessage },
    CancelHold(u64),
    SetTimer { name: Vec<u8>, due_ms: u64 },
    CancelTimer { name: Vec<u8> },
    Enqueue { queue: Vec<u8>, message: TestMessage },
    Publish { exchange: Vec<u8>, message: TestMessage },
}

/// What kind of call is on hand, which says what effects there can be.
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
pub(super) enum CallKind {
    /// A message is decided.
    Message(TestMessage),
    /// Several are, in one call.
    Messages,
    /// There is no message, and there are effects.
    WithoutMessage,
    /// There are no effects.
    WithoutEffects,
}

/// The call on hand.
pub(super) struct Call {
    kind: CallKind,
    /// The world as the call sees it.
    view: World,
    effects: Vec<Effect>,
    keep_if_unroutable: bool,
    in_doubt: bool,
}

/// What became of a message, for its effects.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Accepted,
    Unroutable,
    Rejected,
}

/// All that the host holds.
pub(super) struct State {
    pub(super) now_ms: u64,
    pub(super) random: u64,
    pub(super) world: World,
    call: Option<Call>,
    /// The effects of messages whose fate is open, by a number.
    open: BTreeMap<u64, Vec<Effect>>,
    opened_ever: u64,
    pub(super) is_full: bool,
    pub(super) queues: BTreeMap<BindingId, QueueStatus>,
    pub(super) lines: Vec<(Level, String)>,
    pub(super) counters: BTreeMap<String, u64>,
    pub(super) gauges: BTreeMap<String, f64>,
}

impl State {
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            now_ms,
            random: 0,
            world: World::default(),
            call: None,
            open: BTreeMap::new(),
            opened_ever: 0,
            is_full: false,
            queues: BTreeMap::new(),
            lines: Vec::new(),
            counters: BTreeMap::new(),
            gauges: BTreeMap::new(),
        }
    }

    /// A call begins.
    pub(super) fn begin(&mut self, kind: CallKind) {
        self.world.expire(self.now_ms);
        let mut view = self.world.clone();
        // Sums include what is open; nothing else does.
        for effect in self.open.values().flatten() {
            if let Effect::Add { .. } = effect {
                view.apply(effect, self.now_ms);
            }
        }
        self.call =
            Some(Call { kind, view, effects: Vec::new(), keep_if_unroutable: false, in_doubt: false });
    }

    /// The call ends. Gives its effects as far as they can still take place, and whether it looked at a
    /// key in doubt, which means that it never was.
    pub(super) fn end(&mut self, outcome: Outcome) -> (Vec<Effect>, bool) {
        let Some(call) = self.call.take() else {
            return (Vec::new(), false);
        };
        let mut effects = call.effects;
        if call.in_doubt || outcome == Outcome::Rejected {
            effects.clear();
        } else if outcome == Outcome::Unroutable && !call.keep_if_unroutable {
            effects.retain(|effect| matches!(effect, Effect::Keep { .. }));
        }
        (effects, call.in_doubt)
    }

    /// These effects take place.
    pub(super) fn commit(&mut self, effects: &[Effect]) {
        for effect in effects {
            self.world.apply(effect, self.now_ms);
        }
    }

    /// Whether these take place is open.
    pub(super) fn leave_open(&mut self, effects: Vec<Effect>) -> u64 {
        self.opened_ever += 1;
        self.open.insert(self.opened_ever, effects);
        self.opened_ever
    }

    /// What was open is so no more.
    pub(super) fn settle(&mut self, open: u64, accepted: bool) {
        let effects = self.open.remove(&open).unwrap_or_default();
        if accepted {
            self.commit(&effects);
        }
    }

    /// The world as the call on hand sees it, or as it is.
    pub(super) fn view(&self) -> &World {
        self.call.as_ref().map_or(&self.world, |call| &call.view)
    }

    pub(super) fn set_capacity(&mut self, space: Space, entries: u64) {
        for world in self.call.as_mut().map(|call| &mut call.view).into_iter().chain([&mut self.world]) {
            world.capacities.insert(space, entries);
            world.evict(space);
        }
    }

    pub(super) fn keep_if_unroutable(&mut self) {
        if let Some(call) = &mut self.call {
            call.keep_if_unroutable = true;
        }
    }

    /// The message that is being decided.
    pub(super) fn message(&self) -> Option<TestMessage> {
        match self.call.as_ref().map(|call| &call.kind) {
            Some(CallKind::Message(message)) => Some(message.clone()),
            _ => None,
        }
    }

    /// An effect of the call on hand. Says whether there are effects here.
    pub(super) fn effect(&mut self, effect: Effect) -> bool {
        let now_ms = self.now_ms;
        let Some(call) = &mut self.call else {
            self.world.apply(&effect, now_ms);
            return true;
        };
        match call.kind {
            CallKind::WithoutEffects => return false,
            CallKind::Messages => {
                panic!("a plugin with effects is given one message a call: route them one by one in the test")
            }
            CallKind::Message(_) | CallKind::WithoutMessage => {}
        }
        call.view.apply(&effect, now_ms);
        call.effects.push(effect);
        true
    }

    /// The value of a key, as far as that is certain.
    pub(super) fn get(&mut self, key: &Key) -> Result<Option<Vec<u8>>, Error> {
        check_size(&key.1, &[])?;
        let is_open =
            |effect: &Effect| matches!(effect, Effect::Write { key: written, .. } if written == key);
        if self.open.values().flatten().any(is_open) {
            if let Some(call) = &mut self.call {
                call.in_doubt = true;
            }
            return Err(Error::InDoubt);
        }
        Ok(self.view().value(key, self.now_ms).map(<[u8]>::to_vec))
    }

    pub(super) fn write(
        &mut self,
        key: Key,
        value: Option<Vec<u8>>,
        time_to_live_ms: Option<u64>,
    ) -> Result<(), Error> {
        self.get(&key)?;
        check_size(&key.1, value.as_deref().unwrap_or_default())?;
        if self.is_full && value.is_some() {
            return Err(Error::Quota);
        }
        let expires_ms = time_to_live_ms.map(|time| self.now_ms.saturating_add(time));
        self.effect(Effect::Write { key, value, expires_ms }).then_some(()).ok_or(Error::NotHere)
    }

    pub(super) fn add(&mut self, key: Key, more: i64, time_to_live_ms: Option<u64>) -> Result<i64, Error> {
        check_size(&key.1, &[])?;
        if self.is_full {
            return Err(Error::Quota);
        }
        let expires_ms = time_to_live_ms.map(|time| self.now_ms.saturating_add(time));
        if !self.effect(Effect::Add { key: key.clone(), more, expires_ms }) {
            return Err(Error::NotHere);
        }
        Ok(self.view().sum(&key))
    }

    pub(super) fn keep(&mut self, key: &[u8], newest: u32) -> Result<(), message_store::Error> {
        let message = self.message().ok_or(message_store::Error::NotHere)?;
        let there = self.view().stored.iter().filter(|stored| stored.key == key).count();
        if self.is_full && there == 0 {
            return Err(message_store::Error::Quota);
        }
        // Without room, an older one of the key makes it.
        let newest = if self.is_full { newest.min(u32::try_from(there).unwrap_or(u32::MAX)) } else { newest };
        self.effect(Effect::Keep { key: key.to_vec(), newest, message });
        Ok(())
    }

    pub(super) fn forget(&mut self, key: &[u8]) -> Result<u32, message_store::Error> {
        let count = self.view().stored.iter().filter(|stored| stored.key == key).count();
        if !self.effect(Effect::Forget { key: key.to_vec() }) {
            return Err(message_store::Error::NotHere);
        }
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }
}

fn check_size(key: &[u8], value: &[u8]) -> Result<(), Error> {
    if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX { Err(Error::TooLarge) } else { Ok(()) }
}

impl World {
    /// The value of a key.
    pub(super) fn value(&self, key: &Key, now_ms: u64) -> Option<&[u8]> {
        let entry = self.values.get(key).filter(|entry| entry.expires_ms.is_none_or(|at| at > now_ms));
        entry.map(|entry| entry.value.as_slice())
    }

    pub(super) fn sum(&self, key: &Key) -> i64 {
        self.sums.get(key).map_or(0, |sum| sum.sum)
    }

    /// All values of a space, in the order of their keys.
    pub(super) fn values(&self, space: Space, now_ms: u64) -> impl Iterator<Item = (&[u8], &[u8])> {
        let there = move |entry: &Entry| entry.expires_ms.is_none_or(|at| at > now_ms);
        self.values
            .iter()
            .filter(move |((of, _), entry)| *of == space && there(entry))
            .map(|((_, key), entry)| (key.as_slice(), entry.value.as_slice()))
    }

    fn expire(&mut self, now_ms: u64) {
        self.values.retain(|_, entry| entry.expires_ms.is_none_or(|at| at > now_ms));
        self.sums.retain(|_, sum| sum.expires_ms.is_none_or(|at| at > now_ms));
    }

    /// Those written first go where there are too many.
    fn evict(&mut self, space: Space) {
        let Some(entries_max) = self.capacities.get(&space) else {
            return;
        };
        let mut written: Vec<u64> =
            self.values.iter().filter(|((of, _), _)| *of == space).map(|(_, entry)| entry.written).collect();
        written.sort_unstable();
        let excess = written.len().saturating_sub(usize::try_from(*entries_max).unwrap_or(usize::MAX));
        if let Some(last) = excess.checked_sub(1).and_then(|at| written.get(at)) {
            self.values.retain(|(of, _), entry| *of != space || entry.written > *last);
        }
    }

    fn apply(&mut self, effect: &Effect, now_ms: u64) {
        match effect {
            Effect::Write { key, value: Some(value), expires_ms } => {
                self.writes += 1;
                let entry = Entry { value: value.clone(), expires_ms: *expires_ms, written: self.writes };
                self.values.insert(key.clone(), entry);
                self.evict(key.0);
            }
            Effect::Write { key, value: None, .. } => {
                self.values.remove(key);
            }
            Effect::Add { key, more, expires_ms } => {
                if self.sums.get(key).is_some_and(|sum| sum.expires_ms.is_some_and(|at| at <= now_ms)) {
                    self.sums.remove(key);
                }
                let sum = self.sums.entry(key.clone()).or_insert(Sum { sum: 0, expires_ms: *expires_ms });
                sum.sum = sum.sum.wrapping_add(*more);
            }
            Effect::Keep { key, newest, message } => self.keep(key, *newest, message),
            Effect::Forget { key } => self.stored.retain(|stored| stored.key != *key),
            Effect::Hold { due_ms, message } => {
                self.held_ever += 1;
                self.held.push(Held { id: self.held_ever, due_ms: *due_ms, message: message.clone() });
                self.held.sort_by_key(|held| held.due_ms);
            }
            Effect::CancelHold(id) => self.held.retain(|held| held.id != *id),
            Effect::SetTimer { name, due_ms } => {
                self.timers.insert(name.clone(), *due_ms);
            }
            Effect::CancelTimer { name } => {
                self.timers.remove(name);
            }
            Effect::Enqueue { queue, message } => self.enqueued.push((queue.clone(), message.clone())),
            Effect::Publish { exchange, message } => self.published.push((exchange.clone(), message.clone())),
        }
    }

    fn keep(&mut self, key: &[u8], newest: u32, message: &TestMessage) {
        self.stored_ever += 1;
        self.stored.push(Stored { id: self.stored_ever, key: key.to_vec(), message: message.clone() });
        let there = self.stored.iter().filter(|stored| stored.key == key).count();
        let mut excess = there.saturating_sub(newest as usize);
        self.stored.retain(|stored| {
            let goes = excess > 0 && stored.key == key;
            excess -= usize::from(goes);
            !goes
        });
    }
}
