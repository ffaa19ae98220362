//! The broker's part: time, chance, state and effects, held in memory and open to the test.

use super::{
    TestMessage,
    state::{CallKind, Effect, Outcome, State},
};
use crate::{
    BindingId, StoredId,
    capability::{key_value::Space, log::Level, queue_info::QueueStatus},
};
use std::{cell::RefCell, rc::Rc, time::Duration};

/// Where the clock of a new host stands: 2026-01-01T00:00:00Z.
const BEGIN_MS: u64 = 1_767_225_600_000;

/// What a plugin's capabilities reach in a test. Each [`Exchange`](super::Exchange) and
/// [`Attached`](super::Attached) has one; this is a handle to it.
///
/// All is granted. Effects take place as the contract says. Time stands still until it is moved. What the
/// operator limits (lines a second, names of metrics, timers) is not limited here.
///
/// Code that calls a capability outside of an exchange, in a test of a function, meets the host of its
/// thread ([`Host::of_this_thread`]), where each effect takes place at once.
#[derive(Clone)]
pub struct Host(Rc<RefCell<State>>);

thread_local! {
    static OF_THIS_THREAD: Host = Host::new();
    /// Whose call is on hand.
    static CURRENT: RefCell<Option<Host>> = const { RefCell::new(None) };
}

/// Ends the time in which a host is the current one, also where a test panics.
struct Current;

impl Drop for Current {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

impl Host {
    pub(super) fn new() -> Self {
        Self(Rc::new(RefCell::new(State::new(BEGIN_MS))))
    }

    /// The one that code meets outside of any exchange.
    #[must_use]
    pub fn of_this_thread() -> Self {
        OF_THIS_THREAD.with(Self::clone)
    }

    /// Reads or changes the state of the host whose call is on hand.
    pub(super) fn with_current<R>(f: impl FnOnce(&mut State) -> R) -> R {
        let host = CURRENT.with_borrow(Option::clone).unwrap_or_else(Self::of_this_thread);
        host.with(f)
    }

    pub(super) fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.0.borrow_mut())
    }

    /// Makes a call of the plugin, which the answer says the outcome of. Gives the answer, the effects that
    /// can still take place, and whether the call met a key in doubt.
    pub(super) fn call<R>(
        &self,
        kind: CallKind,
        call: impl FnOnce() -> R,
        outcome: impl FnOnce(&R) -> Outcome,
    ) -> (R, Vec<Effect>, bool) {
        self.with(|state| state.begin(kind));
        CURRENT.set(Some(self.clone()));
        let current = Current;
        let answer = call();
        drop(current);
        let (effects, in_doubt) = self.with(|state| state.end(outcome(&answer)));
        (answer, effects, in_doubt)
    }

    /// A call without a message whose effects, if it can have any, take place when it returns.
    pub(super) fn call_and_commit<R>(&self, kind: CallKind, call: impl FnOnce() -> R) -> R {
        let (answer, effects, _) = self.call(kind, call, |_| Outcome::Accepted);
        self.with(|state| state.commit(&effects));
        answer
    }

    /// What the clock shows, in milliseconds since 1970.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.with(|state| state.now_ms)
    }

    /// Sets the clock, in milliseconds since 1970.
    pub fn set_clock(&self, now_ms: u64) {
        self.with(|state| state.now_ms = now_ms);
    }

    /// Moves the clock on. Timers that fall due are called by
    /// [`Exchange::fire_timers`](super::Exchange::fire_timers).
    pub fn advance(&self, time: Duration) {
        let more = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.with(|state| state.now_ms = state.now_ms.saturating_add(more));
    }

    /// Begins another series of random numbers; without it all hosts have the same.
    pub fn seed_random(&self, seed: u64) {
        self.with(|state| state.random = seed);
    }

    /// The lines of the log.
    #[must_use]
    pub fn log_lines(&self) -> Vec<(Level, String)> {
        self.with(|state| state.lines.clone())
    }

    /// A counter of the metrics; 0 where nothing was counted.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        self.with(|state| state.counters.get(name).copied().unwrap_or(0))
    }

    /// A gauge of the metrics.
    #[must_use]
    pub fn gauge(&self, name: &str) -> Option<f64> {
        self.with(|state| state.gauges.get(name).copied())
    }

    /// The value of a key, without what is open.
    pub fn value(&self, space: Space, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        let key = (space, key.as_ref().to_vec());
        self.with(|state| state.world.value(&key, state.now_ms).map(<[u8]>::to_vec))
    }

    /// Sets the value of a key, as if an earlier message had.
    pub fn set_value(&self, space: Space, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let key = (space, key.as_ref().to_vec());
        let value = Some(value.as_ref().to_vec());
        self.with(|state| state.commit(&[Effect::Write { key, value, expires_ms: None }]));
    }

    /// The sum of a counter, without what is open.
    pub fn sum(&self, space: Space, key: impl AsRef<[u8]>) -> i64 {
        let key = (space, key.as_ref().to_vec());
        self.with(|state| state.world.sum(&key))
    }

    /// From now on the plugin has used up its memory, or has memory again.
    pub fn set_full(&self, is_full: bool) {
        self.with(|state| state.is_full = is_full);
    }

    /// The messages that are kept under a key, the oldest first.
    pub fn kept(&self, key: impl AsRef<[u8]>) -> Vec<TestMessage> {
        self.with(|state| {
            let of_key = state.world.stored.iter().filter(|stored| stored.key == key.as_ref());
            of_key.map(|stored| stored.message.clone()).collect()
        })
    }

    /// A message that is kept.
    pub(super) fn stored(&self, id: StoredId) -> Option<TestMessage> {
        self.with(|state| {
            let stored = state.world.stored.iter().find(|stored| stored.id == id.0);
            stored.map(|stored| stored.message.clone())
        })
    }

    /// The messages that wait, with when they are due in milliseconds since 1970, the first first.
    #[must_use]
    pub fn held(&self) -> Vec<(u64, TestMessage)> {
        self.with(|state| state.world.held.iter().map(|held| (held.due_ms, held.message.clone())).collect())
    }

    /// Takes out the messages whose time has come: they go on as the inner type decides.
    pub fn release_held(&self) -> Vec<TestMessage> {
        self.with(|state| {
            let now_ms = state.now_ms;
            let due = state.world.held.extract_if(.., |held| held.due_ms <= now_ms);
            due.map(|held| held.message).collect()
        })
    }

    /// The timers that are set, with when they are due in milliseconds since 1970.
    #[must_use]
    pub fn timers(&self) -> Vec<(Vec<u8>, u64)> {
        self.with(|state| state.world.timers.iter().map(|(name, due_ms)| (name.clone(), *due_ms)).collect())
    }

    /// Takes out the name of the timer that fell due first.
    pub(super) fn take_due_timer(&self) -> Option<Vec<u8>> {
        self.with(|state| {
            let due = state.world.timers.iter().filter(|(_, due_ms)| **due_ms <= state.now_ms);
            let name = due.min_by_key(|(_, due_ms)| **due_ms).map(|(name, _)| name.clone())?;
            state.world.timers.remove(&name);
            Some(name)
        })
    }

    /// Takes out the messages put straight into queues, each with its queue.
    pub fn take_enqueued(&self) -> Vec<(Vec<u8>, TestMessage)> {
        self.with(|state| std::mem::take(&mut state.world.enqueued))
    }

    /// Takes out the messages published to exchanges, each with its exchange.
    pub fn take_published(&self) -> Vec<(Vec<u8>, TestMessage)> {
        self.with(|state| std::mem::take(&mut state.world.published))
    }

    /// How the queue that a binding leads to stands.
    pub fn set_queue(&self, binding: BindingId, status: QueueStatus) {
        self.with(|state| {
            state.queues.insert(binding, status);
        });
    }
}

/// A message that was decided, and whether it is accepted is open: what it wrote is in doubt. Dropped, it
/// stays open.
#[must_use = "the message stays undecided"]
pub struct Undecided {
    host: Host,
    open: u64,
}

impl Undecided {
    pub(super) fn new(host: &Host, effects: Vec<Effect>) -> Self {
        Self { host: host.clone(), open: host.with(|state| state.leave_open(effects)) }
    }

    /// The broker accepts the message: its effects take place.
    pub fn accept(self) {
        self.host.with(|state| state.settle(self.open, true));
    }

    /// The broker does not accept the message: there are no effects.
    pub fn reject(self) {
        self.host.with(|state| state.settle(self.open, false));
    }
}
