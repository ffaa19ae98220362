//! An instance and its calls. After a failure of any call it is never called again: its owner
//! drops it.

use super::{
    answer::{self, Decisions},
    deadline::{CpuExceeded, thread_cpu_time},
    description::{Description, Opened},
    exports::{Attaching, Called, Exports, Opening},
    lower::{self, PlainMessage},
    state::GuestState,
    told::Told,
    verdict::{self, Verdicts},
};
use crate::{
    account::Account,
    capability::{Call, Outcome},
    engine::CallSlot,
    policy::Capability,
    policy::Limits,
    version::Code,
};
use leveret_broker::exchange::{Binding, BindingId};
use leveret_model::{Name, Reads, Table, Value};
use std::{fmt, sync::Arc, time::Duration};
use wasmtime::{Store, UpdateDeadline};

/// The most that the host copies out of a guest in one call, in bytes: an answer with the most ids
/// has half a mebibyte, and a call for which many such answers are too much is made again singly.
const LIFTED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most handles of resources that a guest holds.
const HANDLES_MAX: usize = 1_000;

/// A running instance of a plugin.
pub(crate) struct Instance {
    store: Store<GuestState>,
    exports: Exports,
    slot: CallSlot,
    limits: Limits,
    /// Others wait: at that CPU time of the thread a call is cut off.
    hurried_until: Option<Duration>,
}

/// Why a call of a guest gave no answer. The instance is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestFailure {
    /// It trapped.
    Trap(String),
    /// It used more CPU time than it may.
    Cpu(String),
    /// It was cut off for others who wait, though it may take longer.
    CutOff(String),
    /// It was refused more memory, or larger tables, and trapped.
    Memory {
        /// What it may have at most, for people to read.
        limit: String,
        /// The trap.
        trap: String,
    },
    /// Its answer breaks the contract.
    Answer(String),
    /// It uses something that it is not granted where it was to serve.
    NotGranted(Capability),
}

impl fmt::Display for GuestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trap(trap) => write!(f, "trapped: {trap}"),
            Self::Cpu(text) | Self::CutOff(text) => f.write_str(text),
            Self::Memory { limit, trap } => write!(f, "wanted more than {limit} and trapped: {trap}"),
            Self::Answer(text) => write!(f, "answered nonsense: {text}"),
            Self::NotGranted(capability) => write!(f, "needs the grant '{capability}'"),
        }
    }
}

impl std::error::Error for GuestFailure {}

/// Why an exchange or a binding was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The plugin refused, with this text. The instance is well.
    ByPlugin(String),
    /// The plugin failed. The instance is lost.
    Failed(GuestFailure),
}

impl From<GuestFailure> for Refused {
    fn from(failure: GuestFailure) -> Self {
        Self::Failed(failure)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByPlugin(text) => f.write_str(text),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

impl Refused {
    /// An answer that breaks the contract.
    pub(super) fn nonsense(text: String) -> Self {
        Self::Failed(GuestFailure::Answer(text))
    }
}

impl Instance {
    /// Makes an instance, with the limits of that account. The contract wants it to be asked for its
    /// description next.
    pub(crate) fn start(code: &Code, account: &Arc<Account>, slot: CallSlot) -> Result<Self, GuestFailure> {
        let limits = account.policy().limits.clone();
        let mut store = Store::new(code.engine(), code.guest_state(account));
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(LIFTED_BYTES_MAX);
        store.set_max_component_handles(HANDLES_MAX);
        store.epoch_deadline_callback(|mut context| {
            context.data_mut().context.deadline.tick()?;
            Ok(UpdateDeadline::Continue(1))
        });
        begin(&mut store, limits.cpu_start, Duration::ZERO, 0, None);
        slot.enter();
        let started = code.instantiate(&mut store);
        slot.leave();
        let exports = started.map_err(|error| failure(&store, &error))?;
        Ok(Self { store, exports, slot, limits, hurried_until: None })
    }

    /// From now on, calls are made through that slot.
    pub(crate) fn move_to(&mut self, slot: CallSlot) {
        self.slot = slot;
    }

    /// From now on calls that are not about messages are cut off when they took so much CPU time together, if
    /// others wait; without, they take as long as the limits say.
    pub(crate) fn hurry(&mut self, within: Option<Duration>) {
        self.hurried_until = within.map(|within| thread_cpu_time().saturating_add(within));
    }

    /// How much CPU time the last call used, to the millisecond.
    pub(crate) fn cpu_used(&self) -> Duration {
        self.store.data().context.deadline.used()
    }

    /// Whether it takes many messages in one call.
    pub(crate) fn has_batch(&self) -> bool {
        self.exports.has_batch()
    }

    /// What the next call is about; for a plugin that imports nothing, nothing needs to be said.
    pub(crate) fn begin_call(&mut self, call: Option<Call>) {
        self.store.data_mut().context.begin(call);
    }

    /// What the call left.
    pub(crate) fn end_call(&mut self) -> Outcome {
        self.store.data_mut().context.end()
    }

    /// Asks it what it is. `exchange_types` and `interceptors` say what it exports.
    pub(crate) fn describe(
        &mut self,
        exchange_types: bool,
        interceptors: bool,
    ) -> Result<Description, GuestFailure> {
        let mut description = Description::default();
        if exchange_types {
            description = self.checked(self.limits.cpu_start, 0, Exports::describe)?;
        }
        if interceptors
            && let Some((version, described)) =
                self.checked(self.limits.cpu_start, 0, Exports::describe_interceptors)?
        {
            description.version = version;
            description.interceptors = described;
        }
        Ok(description)
    }

    /// Tells it of an exchange.
    pub(crate) fn open(&mut self, id: u32, opening: Opening<'_>) -> Result<Opened, Refused> {
        let items = opening.arguments.len();
        self.call(self.limits.cpu_per_call, items, |exports, store| exports.open(store, id, opening))?
    }

    /// Tells it that an exchange is gone.
    pub(crate) fn close(&mut self, id: u32) -> Result<(), GuestFailure> {
        self.call(self.limits.cpu_per_call, 0, |exports, store| exports.close(store, id))?;
        self.store.data_mut().tell(|tellings| tellings.close(id));
        Ok(())
    }

    /// Tells it of bindings.
    pub(crate) fn bind(&mut self, id: u32, bindings: &[&Binding]) -> Result<Reads, Refused> {
        self.store.data_mut().tell(|tellings| {
            tellings.bind(id, Told { bindings: bindings.len(), bytes: lower::bytes(bindings) });
        });
        self.call(self.limits.cpu_per_call, bindings.len(), |exports, store| {
            exports.bind(store, id, bindings)
        })?
    }

    /// Tells it of bindings that are gone.
    pub(crate) fn unbind(&mut self, id: u32, ids: &[BindingId]) -> Result<Reads, GuestFailure> {
        let reads = self
            .checked(self.limits.cpu_per_call, ids.len(), |exports, store| exports.unbind(store, id, ids))?;
        self.store.data_mut().tell(|tellings| tellings.unbind(id, ids.len()));
        Ok(reads)
    }

    /// Asks where one message goes, in the plain form. It is cut off earlier than its limits say where it
    /// should end `within` a time.
    pub(crate) fn route(
        &mut self,
        id: u32,
        projection: &[u8],
        reads: &Reads,
        within: Option<Duration>,
    ) -> Result<Decisions, GuestFailure> {
        let ids_max = self.limits.answer_ids_max;
        let message = plain_message(projection, reads)?;
        let decision = self.call_within(within, self.limits.cpu_per_call, 1, |exports, store| {
            exports.route(store, id, &message)
        })?;
        Decisions::one(decision, ids_max).map_err(GuestFailure::Answer)
    }

    /// Asks where many messages go: `projections` back to back, each after its length. Only if
    /// [`Self::has_batch`]. `within` as for [`Self::route`].
    pub(crate) fn route_batch(
        &mut self,
        id: u32,
        projections: &[u8],
        count: usize,
        within: Option<Duration>,
    ) -> Result<Decisions, GuestFailure> {
        let words = self.call_within(within, self.limits.cpu_per_call, count, |exports, store| {
            exports.route_batch(store, id, projections)
        })?;
        Decisions::from_words(words, count, self.limits.answer_ids_max).map_err(GuestFailure::Answer)
    }

    /// Whether it says which messages bindings can concern.
    pub(crate) fn has_marks(&self) -> bool {
        self.exports.has_marks()
    }

    /// Asks what the projections of messages have that these bindings concern: one mark for each, an
    /// empty one where it may be any message. Only if [`Self::has_marks`].
    pub(crate) fn marks(&mut self, id: u32, bindings: &[&Binding]) -> Result<Vec<Vec<u8>>, GuestFailure> {
        let marks = self.call(self.limits.cpu_per_call, bindings.len(), |exports, store| {
            exports.marks(store, id, bindings)
        })?;
        if marks.len() != bindings.len() {
            let text = format!("{} marks for {} bindings", marks.len(), bindings.len());
            return Err(GuestFailure::Answer(text));
        }
        Ok(marks)
    }

    /// Tells it of a new binding that took effect; gives the numbers of stored messages for it.
    pub(crate) fn bound(&mut self, id: u32, binding: &Binding) -> Result<Vec<u64>, GuestFailure> {
        self.call(self.limits.cpu_per_call, 1, |exports, store| exports.bound(store, id, binding))
    }

    /// Tells it of a binding that was removed.
    pub(crate) fn unbound(&mut self, id: u32, binding: &Binding) -> Result<(), GuestFailure> {
        self.call(self.limits.cpu_per_call, 1, |exports, store| exports.unbound(store, id, binding))
    }

    /// Tells it that a timer is due.
    pub(crate) fn timer(&mut self, id: u32, name: &Name) -> Result<(), GuestFailure> {
        self.call(self.limits.cpu_per_call, 1, |exports, store| exports.timer(store, id, name))
    }

    /// What it shows operators of an exchange.
    pub(crate) fn info(&mut self, id: u32) -> Result<Vec<(Name, Value)>, GuestFailure> {
        self.checked(self.limits.cpu_per_call, 0, |exports, store| exports.info(store, id))
    }

    /// Gives an exchange other arguments. `None` where it wants to be opened anew instead.
    pub(crate) fn reconfigure(&mut self, id: u32, arguments: &Table) -> Result<Option<Opened>, Refused> {
        self.call(self.limits.cpu_per_call, arguments.len(), |exports, store| {
            exports.reconfigure(store, id, arguments)
        })?
    }

    /// Has it take over the state that an older version left for an exchange.
    pub(crate) fn migrate(&mut self, id: u32, from: &str) -> Result<Option<()>, Refused> {
        let migrated =
            self.call(self.limits.cpu_start, 0, |exports, store| exports.migrate(store, id, from))?;
        migrated.map_err(Refused::ByPlugin)
    }

    /// Attaches an interceptor.
    pub(crate) fn attach(&mut self, id: u32, attaching: Attaching<'_>) -> Result<Reads, Refused> {
        let items = attaching.arguments.len();
        self.call(self.limits.cpu_per_call, items, |exports, store| exports.attach(store, id, attaching))?
    }

    /// Asks for verdicts: `projections` back to back, each after its length. Where it does not take many
    /// in one call, of the first only. `within` as for [`Self::route`].
    pub(crate) fn intercept(
        &mut self,
        id: u32,
        projections: &[u8],
        count: usize,
        reads: &Reads,
        within: Option<Duration>,
    ) -> Result<Verdicts, GuestFailure> {
        if self.exports.has_intercept_batch() {
            let bytes = self.call_within(within, self.limits.cpu_per_call, count, |exports, store| {
                exports.intercept_batch(store, id, projections)
            })?;
            return verdict::from_bytes(&bytes, count).map_err(GuestFailure::Answer);
        }
        let message = plain_message(projections.get(4..).unwrap_or_default(), reads)?;
        let call = |exports: &Exports, store: &mut Store<GuestState>| exports.intercept(store, id, &message);
        self.call_within(within, self.limits.cpu_per_call, 1, call)?.map_err(GuestFailure::Answer)
    }

    /// Whether it takes many messages to intercept in one call.
    pub(crate) fn has_intercept_batch(&self) -> bool {
        self.exports.has_intercept_batch()
    }

    fn call<R>(
        &mut self,
        base: Duration,
        items: usize,
        call: impl FnOnce(&Exports, &mut Store<GuestState>) -> wasmtime::Result<R>,
    ) -> Result<R, GuestFailure> {
        let within = self.hurried_until.map(|until| until.saturating_sub(thread_cpu_time()));
        self.call_within(within, base, items, call)
    }

    fn call_within<R>(
        &mut self,
        within: Option<Duration>,
        base: Duration,
        items: usize,
        call: impl FnOnce(&Exports, &mut Store<GuestState>) -> wasmtime::Result<R>,
    ) -> Result<R, GuestFailure> {
        begin(&mut self.store, base, self.limits.cpu_per_item, items, within);
        self.slot.enter();
        let answer = call(&self.exports, &mut self.store);
        self.slot.leave();
        answer.map_err(|error| failure(&self.store, &error))
    }

    /// A call whose answer has to be checked.
    fn checked<R>(
        &mut self,
        base: Duration,
        items: usize,
        call: impl FnOnce(&Exports, &mut Store<GuestState>) -> Called<R, String>,
    ) -> Result<R, GuestFailure> {
        self.call(base, items, call)?.map_err(GuestFailure::Answer)
    }
}

fn plain_message<'a>(projection: &'a [u8], reads: &Reads) -> Result<PlainMessage<'a>, GuestFailure> {
    PlainMessage::from_projection(projection, reads)
        .ok_or_else(|| GuestFailure::Answer(String::from("the projection is not of what it reads")))
}

/// Sets the deadline of the call that begins: the next tick looks at it.
fn begin(
    store: &mut Store<GuestState>,
    base: Duration,
    per_item: Duration,
    items: usize,
    within: Option<Duration>,
) {
    store.data_mut().begin_call();
    store.data_mut().context.deadline.begin(base, per_item, items, within);
    store.set_epoch_deadline(1);
}

fn failure(store: &Store<GuestState>, error: &wasmtime::Error) -> GuestFailure {
    if let Some(exceeded) = error.downcast_ref::<CpuExceeded>() {
        let text = exceeded.to_string();
        return if exceeded.within { GuestFailure::CutOff(text) } else { GuestFailure::Cpu(text) };
    }
    // A guest that ends itself says why before.
    let trap = match store.data().said() {
        Some(said) => answer::shown(&format!("{said} ({error:#})")),
        None => answer::shown(&format!("{error:#}")),
    };
    match store.data().memory.refused() {
        Some(limit) => GuestFailure::Memory { limit, trap },
        None => GuestFailure::Trap(trap),
    }
}
