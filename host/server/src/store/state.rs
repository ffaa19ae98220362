//! What exchange types keep: for each holder a space of values, and a queue of the messages that it keeps.
//!
//! ```text
//! "v", key   u64 when it was written, of the holder's writings; the value         ends when the value does
//! "c", key   i64 the counter's sum                                               ends when the counter does
//! "w"        the version that wrote it last: u16 length and name of the plugin, 32 bytes of SHA-256,
//!            u16 length and its version
//! messages   see `message.rs`
//! ```
//!
//! *Changes come as they are made, values as they are:* a counter is written as its sum, and what falls behind the
//! newest messages of a key is acked with the message that it falls behind. So what is needed for that is kept in memory
//! ([`holder::Holder`]), and a change is computed and handed over under the holder's lock.
//!
//! *All or nothing.* What follows a [`StateChange::Clear`] goes into a new space; which space a holder has is written
//! last, with the end of the old one, or with where it is put aside ([`StateChange::PutAside`]). So a holder's whole state is exchanged at once also where it is longer than one
//! group of the store, as it may be when a version migrates it. Spaces that a crash left half filled are known
//! (`spaces.rs`) and are cleared at the next start.

mod holder;
mod places;
mod timers;

pub(super) use places::{Place, Places};
pub(super) use timers::Timers;

use super::{
    Shared,
    codec::{Malformed, Take, TakeMore},
    parts::Parts,
    spaces::{HOLDERS, OTHERS, PENDING},
    told::{Waiter, refused},
    topology,
};
use holder::Holder;
use leveret_broker::store::{Aside, Change, KeptId, StateChange, StateHolder, StoreFailure, Written};
use leveret_store::{Group, QueueId, Refused, Space, Store, Sync};
use parking_lot::{Condvar, Mutex};
use places::{holder_key, holder_value, take_holder};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// How long whoever loads waits for what was handed over before to be written.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);

/// All holders that have something, or had until just now.
pub(super) struct States(Mutex<HashMap<StateHolder, Arc<Mutex<Holder>>>>);

/// What a change of many groups ends with, together.
#[derive(Default)]
pub(super) struct Ending {
    /// Which are no longer needed.
    old: Vec<Place>,
    /// Which are in use from then on, and were marked as being filled.
    filled: Vec<Vec<u8>>,
}

/// Where the changes of a call go.
pub(super) struct Out<'a> {
    shared: &'a Shared,
    parts: &'a mut Parts,
    ending: Ending,
    /// It will be more than one group.
    is_long: bool,
    now_ms: u64,
}

impl Out<'_> {
    /// A number for a space or a queue that is being filled.
    fn new_id(&mut self, kind: u8) -> u64 {
        let id = self.shared.ids.next(&self.shared.store);
        if self.is_long {
            let key = pending_key(id);
            self.parts.set(OTHERS, &key, &[kind], 0);
            self.ending.filled.push(key);
        }
        id
    }
}

const A_SPACE: u8 = b's';
const A_QUEUE: u8 = b'q';

/// Notes that a queue is not to be there after a start.
pub(super) fn mark_pending(parts: &mut Parts, queue: QueueId) {
    parts.set(OTHERS, &pending_key(queue.0), &[A_QUEUE], 0);
}

pub(super) fn pending_key(id: u64) -> Vec<u8> {
    let mut key = vec![PENDING];
    key.extend_from_slice(&id.to_be_bytes());
    key
}

impl States {
    /// Reads who has something, and clears what a crash left half filled.
    pub(super) fn open(store: &Store) -> Self {
        clear_pending(store);
        clear_orphans(store);
        let mut holders = HashMap::new();
        each_holder(store, &mut |holder, places| {
            holders.insert(holder, Arc::new(Mutex::new(Holder::at(places))));
        });
        Self(Mutex::new(holders))
    }

    fn of(&self, holder: &StateHolder) -> Arc<Mutex<Holder>> {
        let mut holders = self.0.lock();
        match holders.get(holder) {
            Some(found) => found.clone(),
            None => holders.entry(holder.clone()).or_default().clone(),
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Forgets those that have nothing. `states` are the caller's only references to them.
    fn forget_empty(&self, holders: &[&StateHolder], states: &[Arc<Mutex<Holder>>]) {
        let mut all = self.0.lock();
        for (holder, state) in holders.iter().zip(states) {
            // Nobody else has it, nor gets it while all are locked.
            if Arc::strong_count(state) == 2 && state.lock().is_nothing() {
                all.remove(*holder);
            }
        }
    }
}

/// Hands over who has something, and where.
pub(super) fn each_holder(store: &Store, each: &mut dyn FnMut(StateHolder, Places)) {
    let mut found = Vec::new();
    store.values_with(HOLDERS, b"", |key, value, _| match take_holder(key, value) {
        Ok(holder) => found.push(holder),
        Err(Malformed) => tracing::error!(
            "the store: what a type of an exchange keeps cannot be found, key {}; it begins anew",
            key.escape_ascii()
        ),
    });
    found.into_iter().for_each(|(holder, places)| each(holder, places));
}

/// Whether a holder's exchange is there, or may be: of one without a number, and of one that cannot be read, it is not
/// known.
fn is_there(numbers: &HashMap<Box<[u8]>, Option<KeptId>>, holder: &StateHolder) -> bool {
    let number = numbers.get(&*topology::exchange_key(&holder.vhost, &holder.exchange));
    holder.number.0 == 0 || number.is_some_and(|number| number.is_none_or(|it| it == holder.number))
}

/// Clears what is of exchanges that are not there: they went, and what was kept for them a moment later stayed.
fn clear_orphans(store: &Store) {
    let numbers = topology::exchange_numbers(store);
    let mut group = Group::default();
    each_holder(store, &mut |holder, places| {
        if !is_there(&numbers, &holder) {
            group.unset(HOLDERS, &holder_key(&holder));
            for Place { space, queue } in places.all() {
                group.clear_space(space);
                queue.iter().for_each(|queue| group.delete(*queue));
            }
        }
    });
    if !group.is_empty() {
        let _ = store.submit_admitted(&mut group, Sync::Ride, None);
    }
}

/// Hands over the queues that the next start deletes: those that were being filled, and pages.
pub(super) fn each_pending(store: &Store, mut each: impl FnMut(QueueId)) {
    store.values_with(OTHERS, &[PENDING], |key, value, _| {
        let id = key.get(1..).and_then(|id| Take(id).u64_sorted().ok());
        if let Some(id) = id.filter(|_| value == [A_QUEUE]) {
            each(QueueId(id));
        }
    });
}

fn clear_pending(store: &Store) {
    let mut group = Group::default();
    each_pending(store, |queue| group.delete(queue));
    store.values_with(OTHERS, &[PENDING], |key, value, _| {
        let id = key.get(1..).and_then(|id| Take(id).u64_sorted().ok());
        if let Some(id) = id.filter(|_| value == [A_SPACE]) {
            group.clear_space(Space(id));
        }
        group.unset(OTHERS, key);
    });
    if !group.is_empty() {
        // A store that was opened just now takes what only takes away; if not, the next start does it.
        let _ = store.submit_admitted(&mut group, Sync::Ride, None);
    }
}

/// Appends changes to what is to be a group, and hands it over.
///
/// # Errors
/// It was not taken.
pub(super) fn write(
    shared: &Shared,
    changes: &[Change],
    parts: &mut Parts,
    (sync, waiter): (Sync, Waiter<'_>),
) -> Result<(), StoreFailure> {
    let mut holders: Vec<&StateHolder> = changes.iter().map(|change| &*change.holder).collect();
    let order = |holder: &StateHolder| (holder.vhost.clone(), holder.exchange.clone(), holder.layer.0);
    // Always the same order, so that nobody waits in a circle.
    holders.sort_unstable_by_key(|holder| order(holder));
    holders.dedup();
    let states: Vec<_> = holders.iter().map(|holder| shared.states.of(holder)).collect();
    let mut guards: Vec<_> = states.iter().map(|state| state.lock()).collect();
    let bytes = changes.iter().map(|change| bytes_of(&change.change)).sum::<usize>();
    let is_long = parts.len_bytes() + bytes > parts.bytes_max();
    let ending = Ending::default();
    let mut out = Out { shared, parts, ending, is_long, now_ms: (shared.now_ms)() };
    let mut outcome = Ok(());
    for guard in &mut guards {
        outcome = outcome.and_then(|()| guard.read_once(shared));
    }
    let places: Vec<_> = guards.iter().map(|guard| guard.places().clone()).collect();
    for change in changes {
        let Some(at) = holders.iter().position(|holder| **holder == *change.holder) else { continue };
        let Some(guard) = guards.get_mut(at) else { continue };
        outcome = outcome.and_then(|()| guard.apply(&change.change, &mut out));
    }
    let ending = out.ending;
    if outcome.is_ok() {
        shared.timers.change(changes, parts);
    }
    let moved = guards.iter().zip(&holders).zip(&places);
    let moved = moved.filter(|((guard, _), before)| guard.places() != *before);
    let moved: Vec<_> = moved.map(|((guard, holder), _)| (*holder, guard.places())).collect();
    finish(&moved, &ending, parts);
    if let Err(failure) = outcome {
        parts.clear();
        // What was computed did not happen.
        guards.iter_mut().zip(places).for_each(|(guard, places)| **guard = Holder::at(places));
        if let Some((to, token)) = waiter {
            to.written(token, Err(failure.clone()));
        }
        return Err(failure);
    }
    let outcome = parts.submit(&shared.store, sync, waiter);
    let any_cleared = guards.iter().any(|guard| guard.is_nothing());
    drop(guards);
    if any_cleared {
        shared.states.forget_empty(&holders, &states);
    }
    outcome
}

/// Puts what has to be together at the end: where holders have their state now, and that of the old.
fn finish(moved: &[(&StateHolder, &Places)], ending: &Ending, parts: &mut Parts) {
    // About what an operation of these takes; keys of holders are the longest.
    const BYTES: usize = 640;
    let left = moved.iter().map(|(_, places)| places.left.len()).sum::<usize>();
    parts.keep_together(BYTES * (moved.len() + 2 * ending.old.len() + ending.filled.len()) + 48 * left);
    for (holder, places) in moved {
        if places.is_nothing() {
            parts.unset(HOLDERS, &holder_key(holder));
        } else {
            parts.set(HOLDERS, &holder_key(holder), &holder_value(places), 0);
        }
    }
    for old in &ending.old {
        parts.clear_space(old.space);
        if let Some(queue) = old.queue {
            parts.delete(queue);
        }
    }
    ending.filled.iter().for_each(|key| parts.unset(OTHERS, key));
}

/// About what a change takes in a group, in bytes.
fn bytes_of(change: &StateChange) -> usize {
    /// Beside what it has itself; for spaces and queues that it begins too.
    const BYTES: usize = 256;
    BYTES
        + match change {
            StateChange::Set { key, value, .. } => key.len() + value.len(),
            StateChange::Delete { key } | StateChange::Add { key, .. } => key.len(),
            StateChange::Keep { key, message, .. } => key.len() + message.len_bytes(),
            StateChange::Forget { .. }
            | StateChange::Clear
            | StateChange::PutAside { .. }
            | StateChange::TakeBack { .. }
            | StateChange::DropAside { .. }
            | StateChange::SetTimer { .. }
            | StateChange::EndTimer { .. } => 0,
            StateChange::By { plugin, version, .. } => plugin.len() + version.len(),
        }
}

/// What a holder has, as changes.
///
/// # Errors
/// What was handed over before is not written yet, and will not be soon.
pub(super) fn load(shared: &Shared, holder: &StateHolder) -> Result<Vec<StateChange>, StoreFailure> {
    let state = shared.states.of(holder);
    let mut guard = state.lock();
    guard.read_once(shared)?;
    guard.see_all(shared)?;
    let changes = guard.changes(shared);
    drop(guard);
    shared.states.forget_empty(&[holder], &[state]);
    Ok(changes)
}

/// What versions left for a holder.
///
/// # Errors
/// As for [`load`].
pub(super) fn load_aside(shared: &Shared, holder: &StateHolder) -> Result<Vec<Aside>, StoreFailure> {
    let state = shared.states.of(holder);
    let mut guard = state.lock();
    guard.see_all(shared)?;
    let aside = guard.aside(shared);
    drop(guard);
    shared.states.forget_empty(&[holder], &[state]);
    Ok(aside)
}

/// Waits until all is written that this thread handed over.
fn wait_until_written(store: &Store) -> Result<(), StoreFailure> {
    #[derive(Default)]
    struct Waiting(Mutex<Option<Result<(), StoreFailure>>>, Condvar);

    impl Written for Waiting {
        fn written(&self, _token: u64, outcome: Result<(), StoreFailure>) {
            *self.0.lock() = Some(outcome);
            self.1.notify_all();
        }
    }

    let waiting = Arc::new(Waiting::default());
    let to: Arc<dyn Written> = waiting.clone();
    Parts::new(usize::MAX).submit(store, Sync::Never, Some((&to, 0)))?;
    let mut outcome = waiting.0.lock();
    waiting.1.wait_while_for(&mut outcome, |outcome| outcome.is_none(), WRITTEN_WITHIN);
    outcome.take().unwrap_or_else(|| Err(refused(Refused::Behind)))
}
