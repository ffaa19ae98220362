//! A queue whose policies change while it is in use: it gets other settings, and what they say of messages that are in it
//! holds for these too.
//!
//! Messages beyond a length that is shorter now go at once, the first 4096 of them, and the rest when the housekeeper
//! comes; bytes that nobody knows are counted before (`counting.rs`). A time to live counts from when a message came;
//! where that was not noted, because nothing said that it might expire, it counts from the change. What was found dead
//! stays so.

use super::{
    Queue,
    dead_letter::{Counters, DeadLettering},
    keeping::Progress,
    settings::{QueueKind, QueueSettings},
    state::State,
};
use crate::policy::{self, Applied, Policies};
use alloc::sync::Arc;
use leveret_model::Table;

/// What policies and arguments make of a queue, as far as others read it than who holds its lock.
#[derive(Debug, Default)]
pub(super) struct Governed {
    applied: Applied,
    /// Where its dead letters go.
    to: Option<Arc<DeadLettering>>,
    /// What is counted of them, also while they go nowhere.
    counters: Option<Arc<Counters>>,
}

impl Governed {
    /// By arguments and these policies; counts go on.
    fn by(&self, arguments: &Table, applied: Applied) -> Self {
        let counters = || self.counters.clone().unwrap_or_default();
        let to = DeadLettering::of(arguments, counters).map(Arc::new);
        let counters = to.as_ref().map(|to| to.counters.clone()).or_else(|| self.counters.clone());
        Self { applied, to, counters }
    }

    /// By arguments alone.
    pub(super) fn by_arguments(arguments: &Table) -> Self {
        Self::default().by(arguments, Applied::default())
    }

    pub(super) fn has_letters(&self) -> bool {
        self.to.is_some()
    }
}

impl Queue {
    /// The same under these policies, before anybody has it.
    pub(crate) fn governed(mut self, policies: &Policies) -> Self {
        let applied = policies.for_queue(&self.spec.name, self.kind);
        if !applied.is(&Applied::default()) {
            let arguments = policy::arguments(&self.spec.arguments, self.kind, &applied);
            let governed = self.governed.get_mut().by(&arguments, applied);
            self.state.get_mut().change(QueueSettings::of(&arguments), governed.has_letters(), 0);
            *self.governed.get_mut() = governed;
        }
        self
    }

    /// Other policies apply to it from the time `now_ms` on. What the store is to be told goes into `progress`. Whether
    /// deliveries may take another time than before.
    pub(crate) fn govern(self: &Arc<Self>, applied: Applied, now_ms: u64, progress: &mut Progress) -> bool {
        if self.governed.read().applied.is(&applied) {
            return false;
        }
        let arguments = policy::arguments(&self.spec.arguments, self.kind, &applied);
        let mut state = self.state.lock();
        if state.is_deleted() {
            return false;
        }
        let governed = self.governed.read().by(&arguments, applied);
        let timeout_ms = state.settings.consumer_timeout_ms;
        state.change(QueueSettings::of(&arguments), governed.has_letters(), now_ms);
        *self.governed.write() = governed;
        let is_retimed = state.settings.consumer_timeout_ms != timeout_ms;
        state.shorten();
        state.pass_on(progress);
        self.part(state);
        // For whatever is to happen earlier now than it was.
        self.deaths.visit(self, 0);
        is_retimed
    }

    /// The policies that apply to it.
    #[must_use]
    pub fn applied(&self) -> Applied {
        self.governed.read().applied.clone()
    }

    /// Its type.
    #[must_use]
    pub fn kind(&self) -> QueueKind {
        self.kind
    }

    /// What its arguments and policies come to now.
    #[must_use]
    pub fn settings(&self) -> QueueSettings {
        self.state.lock().settings.clone()
    }

    /// How long a delivery may take if its consumer does not say, in milliseconds, where 0 is for ever; `None` if neither
    /// its arguments nor policies say.
    pub(crate) fn consumer_timeout_ms(&self) -> Option<u64> {
        self.state.lock().settings.consumer_timeout_ms
    }

    /// Where its dead letters go now; `None` if they are dropped.
    #[must_use]
    pub fn dead_lettering(&self) -> Option<Arc<DeadLettering>> {
        self.governed.read().to.clone()
    }

    /// What is counted of its dead letters, if there ever was an exchange for them.
    pub(crate) fn dead_letter_counters(&self) -> Option<Arc<Counters>> {
        self.governed.read().counters.clone()
    }
}

impl State {
    /// Has other settings from the time `now_ms` on. Its type and its priorities are the same.
    fn change(&mut self, settings: QueueSettings, has_letters: bool, now_ms: u64) {
        let before = core::mem::replace(&mut self.settings, settings);
        self.has_letters = has_letters;
        self.tries.set_limit(self.settings.delivery_limit);
        if self.settings.max_length_bytes.is_some() && before.max_length_bytes.is_none() {
            self.ready_bytes = self.lanes.ready_bytes();
        }
        self.ageing.changed((&before, &self.settings), self.lanes.live().0 > 0, now_ms);
    }
}
