//! The exchange types as one worker thread sees them: its instances, its remembered answers.
//!
//! `asking.rs` has the path of a message, `homes.rs` the instances, `sets.rs` shares destinations.

mod asking;
mod failures;
mod homes;
mod sets;
#[cfg(test)]
mod tests;

pub use failures::{
    FAILED_TIME_MAX, FAILED_TIME_WITHIN, FAILURES_IN_A_ROW_MAX, SET_ASIDE_MAX, SET_ASIDE_MIN,
};
pub use homes::INLINE_REPLAY_BINDINGS_MAX;

use crate::{
    builder::{Builder, Mailbox},
    engine::CallSlot,
    memo::Memo,
    policy::{FailurePolicy, PluginPolicy},
    registry::{Lookup, Registry},
    version::Version,
};
use asking::{Again, Batch, Scratch};
use hashbrown::HashMap;
use homes::{Homes, NotServed};
use leveret_broker::{
    exchange::{Binding, Exchange, ExchangeId, Generation, RouteSet},
    port::{Answer, Routed, Router, Wake},
};
use leveret_model::{MessageView, Name, Reads, Refusal};
use sets::RouteSets;
use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How long an exchange that the plugin refused on a replay is not tried again.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// What a worker counted since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages answered from memory.
    pub remembered: u64,
    /// Messages that a guest was asked about.
    pub asked: u64,
    /// Calls of guests for them.
    pub calls: u64,
    /// Messages that got no answer because the plugin failed or is not there.
    pub failed: u64,
    /// Ids in decisions that were not live bindings.
    pub dead_ids: u64,
}

/// One worker's view of the exchange types. Belongs to one thread.
pub struct Worker {
    registry: Arc<Registry>,
    homes: Homes,
    entries: HashMap<ExchangeId, Entry, foldhash::fast::RandomState>,
    scratch: Scratch,
    memo_bytes_max: usize,
    counters: Counters,
    /// How many exchanges were closed when this worker last let go of those that are gone.
    swept_at: u64,
    closed: Arc<AtomicU64>,
}

/// What a worker keeps of an exchange.
struct Entry {
    exchange: Weak<Exchange>,
    /// The version that serves it, once one did.
    version: Option<Arc<Version>>,
    /// What holds for that plugin here; `None` where none is to serve.
    policy: Option<Arc<PluginPolicy>>,
    pure: bool,
    /// `reads`, the memo and the sets are those of this generation.
    generation: Generation,
    reads: Arc<Reads>,
    /// `reads` is the routing key and nothing else.
    key_only: bool,
    memo: Memo,
    sets: RouteSets,
    /// The plugin refused it on a replay: why, and until when that holds.
    refused: Option<(String, Instant)>,
}

impl Entry {
    fn new(exchange: &Arc<Exchange>, memo_bytes_max: usize) -> Self {
        Self {
            exchange: Arc::downgrade(exchange),
            version: None,
            policy: None,
            pure: false,
            generation: Generation::default(),
            reads: Arc::default(),
            key_only: false,
            memo: Memo::new(memo_bytes_max),
            sets: RouteSets::default(),
            refused: None,
        }
    }

    /// The answer to a message when the plugin cannot give one. A fallback type counts as a refusal
    /// as long as no exchange type can be asked in another's place.
    fn failed(&self, refusal: &Refusal) -> Answer {
        match self.policy.as_ref().map(|policy| &policy.on_failure) {
            Some(FailurePolicy::Unroutable) => Answer::Deliver(RouteSet::default()),
            _ => Answer::Failed(Box::new(refusal.clone())),
        }
    }

    /// Takes over what a replica knows.
    fn follow(&mut self, generation: Generation, reads: &Arc<Reads>) {
        if !Arc::ptr_eq(&self.reads, reads) {
            self.reads = reads.clone();
        }
        self.key_only = reads.only_routing_key();
        self.generation = generation;
        self.memo.at_generation(generation);
        self.sets.at_generation(generation);
    }
}

impl Worker {
    pub(crate) fn new(
        registry: Arc<Registry>,
        mailbox: Arc<Mailbox>,
        builder: Arc<Builder>,
        slot: CallSlot,
        closed: Arc<AtomicU64>,
        memo_bytes_max: usize,
    ) -> Self {
        Self {
            registry,
            homes: Homes::new(mailbox, builder, slot),
            entries: HashMap::default(),
            scratch: Scratch::default(),
            memo_bytes_max,
            counters: Counters::default(),
            swept_at: closed.load(Ordering::Relaxed),
            closed,
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Now and then, when enough exchanges are gone, lets go of what is kept for them.
    fn sweep_if_worth_it(&mut self) {
        let closed = self.closed.load(Ordering::Relaxed);
        if closed.wrapping_sub(self.swept_at) < 16.max(self.entries.len() as u64 / 4) {
            return;
        }
        self.swept_at = closed;
        self.entries.retain(|_, entry| entry.exchange.upgrade().is_some_and(|e| !e.is_deleted()));
        let registry = &self.registry;
        self.homes.sweep(|version| registry.serves(version));
    }
}

/// The version that serves an exchange's type.
fn version_of(registry: &Registry, exchange: &Exchange) -> Result<Arc<Version>, Refusal> {
    version_for(registry, &exchange.vhost, &exchange.spec.type_name, &exchange.spec.name)
}

/// The version that serves a type in a virtual host; `exchange` is for the refusal.
fn version_for(
    registry: &Registry,
    vhost: &Name,
    type_name: &Name,
    exchange: &Name,
) -> Result<Arc<Version>, Refusal> {
    let (vhost, type_name) = (vhost.clone(), type_name.clone());
    match registry.lookup(&vhost, &type_name) {
        Lookup::Serving(version) => Ok(version),
        Lookup::Parked(why) => {
            let (exchange, why) = (exchange.clone(), String::from(&*why));
            Err(Refusal::Parked { exchange, vhost, type_name, why })
        }
        Lookup::NotAllowed(plugin) => Err(Refusal::ExchangeTypeNotAllowed { type_name, vhost, plugin }),
        Lookup::Unknown => Err(Refusal::UnknownExchangeType { type_name }),
    }
}

/// The refusal for someone who asked about an exchange.
fn refusal(exchange: &Exchange, not_served: NotServed) -> Refusal {
    let (name, vhost) = (exchange.spec.name.clone(), exchange.vhost.clone());
    match not_served {
        NotServed::Refused(text) => Refusal::PluginRefused { exchange: name, vhost, text },
        NotServed::Failed(what) => Refusal::PluginFailed { exchange: name, vhost, what },
        NotServed::Pending => {
            Refusal::PluginFailed { exchange: name, vhost, what: String::from("it is not ready yet") }
        }
    }
}

impl Router for Worker {
    fn check_type(&mut self, vhost: &Name, type_name: &Name) -> Result<(), Refusal> {
        version_for(&self.registry, vhost, type_name, &Name::EMPTY).map(drop)
    }

    fn open(&mut self, exchange: &Arc<Exchange>) -> Result<(), Refusal> {
        // Known to the registry first, so that a version swapped in meanwhile is asked too.
        self.registry.register(exchange);
        let opened = version_of(&self.registry, exchange).and_then(|version| {
            self.homes.served(&version, exchange, None).map_err(|not| refusal(exchange, not))?;
            self.homes.succeeded(&version, exchange);
            Ok(())
        });
        if opened.is_err() {
            self.registry.unregister(exchange);
        }
        opened
    }

    fn bind(&mut self, exchange: &Arc<Exchange>, candidate: &Binding) -> Result<(), Refusal> {
        let version = version_of(&self.registry, exchange)?;
        self.homes.bind(&version, exchange, candidate).map_err(|not| refusal(exchange, not))
    }

    fn route(
        &mut self,
        exchange: &Arc<Exchange>,
        messages: &mut dyn Iterator<Item = &MessageView<'_>>,
        answers: &mut Vec<Answer>,
        waker: &Arc<dyn Wake>,
    ) -> Routed {
        self.sweep_if_worth_it();
        let before = answers.len();
        let entry =
            self.entries.entry(exchange.id).or_insert_with(|| Entry::new(exchange, self.memo_bytes_max));
        let mut batch = Batch {
            registry: &self.registry,
            homes: &mut self.homes,
            entry,
            scratch: &mut self.scratch,
            counters: &mut self.counters,
            exchange,
            waker,
        };
        match batch.answer(messages, answers) {
            Ok(()) => Routed::Ready,
            Err(Again) => {
                answers.truncate(before);
                Routed::Pending
            }
        }
    }

    fn closed(&mut self, exchange: &Exchange) {
        self.closed.fetch_add(1, Ordering::Relaxed);
        self.entries.remove(&exchange.id);
        self.homes.close(exchange.id);
        self.registry.unregister(exchange);
    }
}
