//! The timers of exchanges: values of a space of their own, for they stay whichever version of a plugin has the rest.
//!
//! Which there are is known in memory too: a timer that fired is taken away only if it was not set anew meanwhile.
//! Changes of one holder are made and handed over one after the other, under its lock.

use super::places::{holder_key, take_holder_key};
use crate::store::{
    codec::{Malformed, Take, TakeMore, put_name},
    parts::Parts,
    spaces::TIMERS,
    topology,
};
use leveret_broker::store::{Change, KeptId, StateChange, StateHolder};
use leveret_model::Name;
use leveret_store::{Group, Store, Sync};
use parking_lot::Mutex;
use std::{collections::BTreeMap, ops::Bound};

/// When each is due, in milliseconds since 1970, by its key.
#[derive(Default)]
pub(in crate::store) struct Timers(Mutex<BTreeMap<Vec<u8>, u64>>);

impl Timers {
    /// Reads which there are, and clears those of exchanges that are gone.
    pub(in crate::store) fn open(store: &Store) -> Self {
        let numbers = topology::exchange_numbers(store);
        let (mut timers, mut group) = (BTreeMap::new(), Group::default());
        store.values_with(TIMERS, b"", |key, value, _| {
            let read = || Ok::<_, Malformed>((take_timer_key(key)?.0, Take(value).u64()?));
            match read() {
                Ok((holder, due_ms)) if super::is_there(&numbers, &holder) => {
                    timers.insert(key.to_vec(), due_ms);
                }
                _ => group.unset(TIMERS, key),
            }
        });
        if !group.is_empty() {
            let _ = store.submit_admitted(&mut group, Sync::Ride, None);
        }
        Self(Mutex::new(timers))
    }

    /// Makes the changes of timers among these.
    pub(super) fn change(&self, changes: &[Change], parts: &mut Parts) {
        for Change { holder, change } in changes {
            match change {
                StateChange::SetTimer { name, due_ms } => {
                    let key = timer_key(holder, name);
                    parts.set(TIMERS, &key, &due_ms.to_le_bytes(), 0);
                    self.0.lock().insert(key, *due_ms);
                }
                StateChange::EndTimer { name, due_ms } => {
                    let (key, mut timers) = (timer_key(holder, name), self.0.lock());
                    if timers.get(&key).is_some_and(|known| due_ms.is_none_or(|due_ms| due_ms == *known)) {
                        parts.unset(TIMERS, &key);
                        timers.remove(&key);
                    }
                }
                StateChange::Clear => {
                    let (prefix, mut timers) = (key_of_all(holder), self.0.lock());
                    let from = (Bound::Included(&prefix[..]), Bound::Unbounded);
                    let its = timers.range::<[u8], _>(from).map(|(key, _)| key);
                    let gone: Vec<_> = its.take_while(|key| key.starts_with(&prefix)).cloned().collect();
                    for key in gone {
                        parts.unset(TIMERS, &key);
                        timers.remove(&key);
                    }
                }
                _ => {}
            }
        }
    }

    /// Hands over those of a virtual host: whose, the name, when it is due.
    pub(in crate::store) fn of_vhost(&self, vhost: &Name, each: &mut dyn FnMut(StateHolder, Name, u64)) {
        let mut prefix = Vec::new();
        put_name(&mut prefix, vhost);
        let timers = self.0.lock();
        let from = (Bound::Included(&prefix[..]), Bound::Unbounded);
        let its = timers.range::<[u8], _>(from).take_while(|(key, _)| key.starts_with(&prefix));
        let its: Vec<_> = its.map(|(key, due_ms)| (key.clone(), *due_ms)).collect();
        // Whoever gets them may ask for changes.
        drop(timers);
        for (key, due_ms) in its {
            if let Ok((holder, name)) = take_timer_key(&key) {
                each(holder, name, due_ms);
            }
        }
    }
}

/// Begins the keys of all of a holder.
fn key_of_all(holder: &StateHolder) -> Vec<u8> {
    let mut key = holder_key(holder);
    if holder.number.0 == 0 {
        key.extend_from_slice(&[0; 8]);
    }
    key
}

fn timer_key(holder: &StateHolder, name: &Name) -> Vec<u8> {
    let mut key = key_of_all(holder);
    put_name(&mut key, name);
    key
}

fn take_timer_key(key: &[u8]) -> Result<(StateHolder, Name), Malformed> {
    let mut take = Take(key);
    let mut holder = take_holder_key(&mut take)?;
    holder.number = KeptId(take.u64_sorted()?);
    Ok((holder, take.name()?))
}
