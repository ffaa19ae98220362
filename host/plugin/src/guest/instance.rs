//! An instance and its calls. After a failure of any call it is never called again: its owner
//! drops it.

use super::{
    answer::{self, Decisions},
    deadline::CpuExceeded,
    lower::{self, PlainMessage, declared_arguments},
    state::GuestState,
    told::Told,
};
use crate::{
    bindings::{
        batch::BatchOnly,
        plain::{
            ExchangeTypePlugin, exports::leveret::routing::exchange_type as wit, leveret::routing::types,
        },
    },
    engine::CallSlot,
    policy::PluginPolicy,
    version::Code,
};
use leveret_broker::exchange::{Binding, BindingId, ExchangeSpec};
use leveret_model::Reads;
use std::{borrow::Borrow, fmt, sync::Arc, time::Duration};
use wasmtime::{Store, UpdateDeadline};

/// The most bytes of a text that a guest gives: a refusal, a trap, its own description.
const TEXT_BYTES_MAX: usize = 1_024;

/// The most that the host copies out of a guest in one call, in bytes: an answer with the most ids
/// has half a mebibyte, and a call for which many such answers are too much is made again singly.
const LIFTED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most handles of resources that a guest holds.
const HANDLES_MAX: usize = 1_000;

/// A running instance of a plugin.
pub(crate) struct Instance {
    store: Store<GuestState>,
    plain: ExchangeTypePlugin,
    batch: Option<BatchOnly>,
    slot: CallSlot,
    policy: Arc<PluginPolicy>,
}

/// What a plugin says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Description {
    /// Its own version.
    pub(crate) version: String,
    /// The types it provides.
    pub(crate) types: Vec<TypeDescription>,
}

/// What a plugin says of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TypeDescription {
    /// The name that clients use.
    pub(crate) name: String,
    /// One line of help.
    pub(crate) summary: String,
    /// Decisions depend on the bindings and on what is read alone.
    pub(crate) pure: bool,
}

/// Why a call of a guest gave no answer. The instance is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestFailure {
    /// It trapped.
    Trap(String),
    /// It used more CPU time than it may.
    Cpu(String),
    /// It was refused more memory, and trapped.
    Memory {
        /// The most memory it may have, in bytes.
        bytes_max: usize,
        /// The trap.
        trap: String,
    },
    /// Its answer breaks the contract.
    Answer(String),
}

impl fmt::Display for GuestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trap(trap) => write!(f, "trapped: {trap}"),
            Self::Cpu(text) => f.write_str(text),
            Self::Memory { bytes_max, trap } => {
                write!(f, "wanted more than {} MiB of memory and trapped: {trap}", bytes_max >> 20)
            }
            Self::Answer(text) => write!(f, "answered nonsense: {text}"),
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

impl Instance {
    /// Makes an instance, with the limits of that policy. The contract wants it to be asked for its
    /// description next.
    pub(crate) fn start(
        code: &Code,
        policy: Arc<PluginPolicy>,
        slot: CallSlot,
    ) -> Result<Self, GuestFailure> {
        let mut store = Store::new(code.engine(), code.guest_state(&policy));
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(LIFTED_BYTES_MAX);
        store.set_max_component_handles(HANDLES_MAX);
        store.epoch_deadline_callback(|mut context| {
            context.data_mut().deadline.tick()?;
            Ok(UpdateDeadline::Continue(1))
        });
        begin(&mut store, policy.limits.cpu_start, Duration::ZERO, 0);
        slot.enter();
        let started = code.instantiate(&mut store);
        slot.leave();
        let (plain, batch) = started.map_err(|error| failure(&store, &error))?;
        Ok(Self { store, plain, batch, slot, policy })
    }

    /// From now on, calls are made through that slot.
    pub(crate) fn move_to(&mut self, slot: CallSlot) {
        self.slot = slot;
    }

    /// Whether it takes many messages in one call.
    pub(crate) fn has_batch(&self) -> bool {
        self.batch.is_some()
    }

    /// Asks it what it is.
    pub(crate) fn describe(&mut self) -> Result<Description, GuestFailure> {
        let start = self.policy.limits.cpu_start;
        let description =
            self.call(start, 0, |guest, store| guest.leveret_routing_exchange_type().call_describe(store))?;
        let types = description
            .exchange_types
            .into_iter()
            .map(|t| TypeDescription { name: t.name, summary: cut(t.summary), pure: t.pure })
            .collect();
        Ok(Description { version: cut(description.version), types })
    }

    /// Tells it of an exchange.
    pub(crate) fn open(&mut self, id: u32, spec: &ExchangeSpec) -> Result<Reads, Refused> {
        let type_name = spec.type_name.to_text();
        let encoded = lower::encoded(declared_arguments(&spec.arguments));
        let arguments = lower::fields(declared_arguments(&spec.arguments), &mut encoded.iter());
        let declaration =
            wit::Declaration { name: spec.name.as_bytes(), exchange_type: &type_name, arguments: &arguments };
        let answer = self.call(self.cpu_per_call(), spec.arguments.len(), |guest, store| {
            guest.leveret_routing_exchange_type().call_open(store, id, declaration)
        })?;
        checked_reads(answer)
    }

    /// Tells it that an exchange is gone.
    pub(crate) fn close(&mut self, id: u32) -> Result<(), GuestFailure> {
        self.call(self.cpu_per_call(), 0, |guest, store| {
            guest.leveret_routing_exchange_type().call_close(store, id)
        })?;
        self.store.data_mut().tell(|tellings| tellings.close(id));
        Ok(())
    }

    /// Tells it of bindings.
    pub(crate) fn bind(&mut self, id: u32, bindings: &[impl Borrow<Binding>]) -> Result<Reads, Refused> {
        let encoded = lower::encoded_in_bindings(bindings);
        let mut next = encoded.iter();
        let arguments: Vec<_> =
            bindings.iter().map(|b| lower::fields(b.borrow().arguments.iter(), &mut next)).collect();
        let lowered = lower::bindings(bindings, &arguments);
        let told = Told { bindings: lowered.len(), bytes: lower::bytes(&lowered) };
        self.store.data_mut().tell(|tellings| tellings.bind(id, told));
        let answer = self.call(self.cpu_per_call(), lowered.len(), |guest, store| {
            guest.leveret_routing_exchange_type().call_bind(store, id, &lowered)
        })?;
        checked_reads(answer)
    }

    /// Tells it of bindings that are gone.
    pub(crate) fn unbind(&mut self, id: u32, ids: &[BindingId]) -> Result<Reads, GuestFailure> {
        let ids: Vec<u64> = ids.iter().map(|id| id.0).collect();
        let reads = self.call(self.cpu_per_call(), ids.len(), |guest, store| {
            guest.leveret_routing_exchange_type().call_unbind(store, id, &ids)
        })?;
        self.store.data_mut().tell(|tellings| tellings.unbind(id, ids.len()));
        answer::reads(reads).map_err(GuestFailure::Answer)
    }

    /// Asks where one message goes, in the plain form.
    pub(crate) fn route(
        &mut self,
        id: u32,
        projection: &[u8],
        reads: &Reads,
    ) -> Result<Decisions, GuestFailure> {
        let Some(message) = PlainMessage::from_projection(projection, reads) else {
            return Err(GuestFailure::Answer(String::from("the projection is not of what it reads")));
        };
        let message = types::Message {
            routing_key: message.routing_key,
            headers: &message.headers,
            properties: &message.properties,
            body: message.body,
        };
        let decision = self.call(self.cpu_per_call(), 1, |guest, store| {
            guest.leveret_routing_exchange_type().call_route(store, id, message)
        })?;
        Decisions::from_plain(decision, self.policy.limits.answer_ids_max).map_err(GuestFailure::Answer)
    }

    /// Asks where many messages go: `projections` back to back, each after its length. Only if
    /// [`Self::has_batch`].
    pub(crate) fn route_batch(
        &mut self,
        id: u32,
        projections: &[u8],
        count: usize,
    ) -> Result<Decisions, GuestFailure> {
        let Some(batch) = &self.batch else {
            return Err(GuestFailure::Answer(String::from("the plugin has no batch form")));
        };
        let limits = &self.policy.limits;
        begin(&mut self.store, limits.cpu_per_call, limits.cpu_per_item, count);
        self.slot.enter();
        let words =
            batch.leveret_routing_exchange_type_batch().call_route_batch(&mut self.store, id, projections);
        self.slot.leave();
        let words = words.map_err(|error| failure(&self.store, &error))?;
        Decisions::from_words(words, count, limits.answer_ids_max).map_err(GuestFailure::Answer)
    }

    fn cpu_per_call(&self) -> Duration {
        self.policy.limits.cpu_per_call
    }

    fn call<R>(
        &mut self,
        base: Duration,
        items: usize,
        call: impl FnOnce(&ExchangeTypePlugin, &mut Store<GuestState>) -> wasmtime::Result<R>,
    ) -> Result<R, GuestFailure> {
        begin(&mut self.store, base, self.policy.limits.cpu_per_item, items);
        self.slot.enter();
        let answer = call(&self.plain, &mut self.store);
        self.slot.leave();
        answer.map_err(|error| failure(&self.store, &error))
    }
}

/// Sets the deadline of the call that begins: the next tick looks at it.
fn begin(store: &mut Store<GuestState>, base: Duration, per_item: Duration, items: usize) {
    store.data_mut().deadline.begin(base, per_item, items);
    store.set_epoch_deadline(1);
}

fn failure(store: &Store<GuestState>, error: &wasmtime::Error) -> GuestFailure {
    if let Some(exceeded) = error.downcast_ref::<CpuExceeded>() {
        return GuestFailure::Cpu(exceeded.to_string());
    }
    let trap = cut(format!("{error:#}"));
    let memory = &store.data().memory;
    if memory.was_refused() {
        GuestFailure::Memory { bytes_max: memory.bytes_max(), trap }
    } else {
        GuestFailure::Trap(trap)
    }
}

fn checked_reads(answer: Result<types::Reads, String>) -> Result<Reads, Refused> {
    match answer {
        Ok(reads) => answer::reads(reads).map_err(|text| Refused::Failed(GuestFailure::Answer(text))),
        Err(text) => Err(Refused::ByPlugin(cut(text))),
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}
