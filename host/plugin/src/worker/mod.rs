//! The exchange types as one worker thread sees them: its instances, its remembered answers.
//!
//! `asking.rs` has the path of a message, `intercepting.rs` that past interceptors, `homes.rs` and `home.rs` the
//! instances (`berths.rs` those that there is one of), `handing_over.rs` the way to the slow lane, `keeping.rs` keeps what is
//! remembered up to date, `relief.rs` small, `sets.rs` shares destinations, `explain.rs` tells how an answer came about,
//! `inspecting.rs` what types show, `arms.rs` asks a version that is tried, `reconfiguring.rs` tries other arguments out.

mod alike;
mod arms;
mod asking;
mod berths;
mod calls;
mod chain;
mod explain;
mod failures;
mod handing_over;
mod home;
mod homes;
mod inspecting;
mod intercepting;
mod keeping;
mod questions;
mod reconfiguring;
mod relief;
mod remembered;
mod serving;
mod sets;
mod shelf;
mod standing_in;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_keeping;
#[cfg(test)]
mod tests_of_relief;
#[cfg(test)]
mod tests_of_replay;
#[cfg(test)]
mod tests_of_staleness;
#[cfg(test)]
mod tests_of_standing_in;
#[cfg(test)]
mod tests_of_telling;

pub(crate) use asking::{behind, too_long};
pub use berths::BORROW_WAIT_MAX;
pub use chain::TYPES_MAX;
pub(crate) use failures::Failures;
pub use failures::{
    FAILED_TIME_MAX, FAILED_TIME_WITHIN, FAILURES_IN_A_ROW_MAX, SET_ASIDE_MAX, SET_ASIDE_MIN,
};
pub use home::INLINE_REPLAY_BINDINGS_MAX;
pub use inspecting::LayerInfo;
pub(crate) use {
    berths::Berths,
    home::Home,
    homes::{Homes, NotServed},
};

use crate::{
    account::Accounts,
    audit::Auditor,
    builder::{Builder, Mailbox},
    candidate::Shadow,
    capability::unix_ms,
    engine::CallSlot,
    lane::Lane,
    policy::FailurePolicy,
    recent::Recent,
    registry::Registry,
    scope::CORE_TYPES,
    services::Services,
    standby::all_beside,
    tally::Tally,
    version::VersionId,
};
use asking::{Again, Asked, Batch};
use handing_over::HandedOver;
use hashbrown::HashMap;
use homes::{refusal, unavailable};
use intercepting::Interceptors;
use keeping::Entry;
use leveret_broker::{
    exchange::{Binding, Exchange, ExchangeId, ExchangeSpec, RouteSet, Settings},
    later::HoldQuota,
    port::{
        Answer, Deed, Doubt, Due, Explained, ExplainedInterceptor, Fired, Layer, Points, Routed, Router,
        Ruling, Site, Wake,
    },
};
use leveret_model::{MessageView, Name, OwnedMessage, Refusal};
use questions::Scratch;
use reconfiguring::Trial;
use relief::Relief;
use serving::{serving, version_of};
use standing_in::Unsure;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
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
    /// Times that a guest was asked about a remembered message once more, because of new bindings.
    pub asked_again: u64,
    /// Calls of guests for messages.
    pub calls: u64,
    /// Messages that got no answer because the plugin failed or is not there.
    pub failed: u64,
    /// Ids in decisions that were not live bindings.
    pub dead_ids: u64,
}

/// Where this worker counts, by plugin and virtual host. One tally for all exchanges of both.
type Tallies = HashMap<(VersionId, Name), Arc<Tally>, foldhash::fast::RandomState>;

/// What is kept of exchanges, by exchange and layer.
struct Entries {
    by_place: Recent<(ExchangeId, Layer), Entry>,
    memo_bytes_max: usize,
}

impl Entries {
    /// What is kept of a type of an exchange, made if nothing is yet.
    #[inline]
    fn of(&mut self, exchange: &Arc<Exchange>, layer: Layer) -> &mut Entry {
        let make = || Entry::new(exchange, layer, self.memo_bytes_max);
        self.by_place.get_or_insert_with((exchange.id, layer), make)
    }

    fn get(&self, exchange: &Exchange, layer: Layer) -> Option<&Entry> {
        self.by_place.get(&(exchange.id, layer))
    }

    fn get_mut(&mut self, exchange: &Exchange, layer: Layer) -> Option<&mut Entry> {
        self.by_place.get_mut(&(exchange.id, layer))
    }
}

/// What it takes to ask a version, without what is kept of its answers.
struct Asking<'a> {
    registry: &'a Registry,
    homes: &'a mut Homes,
    scratch: &'a mut Scratch,
    counters: &'a mut Counters,
    tallies: &'a mut Tallies,
    accounts: &'a Accounts,
    auditor: &'a Auditor,
    lane: Option<&'a Lane>,
    handed_over: &'a mut HandedOver,
    had_its_turn: &'a mut Option<usize>,
}

impl Asking<'_> {
    /// Appends an answer for each message.
    #[inline]
    fn ask<'m, 'b: 'm>(
        self,
        entry: &mut Entry,
        (exchange, layer): (&Arc<Exchange>, Layer),
        messages: &mut dyn Iterator<Item = &'m MessageView<'b>>,
        answers: &mut Vec<Answer>,
        (waker, unsure): (&Arc<dyn Wake>, &mut Unsure<'m, 'b>),
    ) -> Result<Asked, Again> {
        let Self {
            registry,
            homes,
            scratch,
            counters,
            tallies,
            accounts,
            auditor,
            lane,
            handed_over,
            had_its_turn,
        } = self;
        let mut batch = Batch {
            registry,
            homes,
            entry,
            scratch,
            counters,
            tallies,
            accounts,
            exchange,
            layer,
            waker,
            auditor,
            lane,
            handed_over,
            had_its_turn,
            first_answer: answers.len(),
            seen_ready: false,
        };
        let before = *batch.counters;
        let answered = batch.answer(messages, answers, unsure);
        if let Some(tally) = &batch.entry.tally {
            batch.counters.tell_since(&before, tally);
        }
        answered
    }
}

/// One worker's view of the exchange types. Belongs to one thread.
pub struct Worker {
    registry: Arc<Registry>,
    services: Arc<Services>,
    homes: Homes,
    entries: Entries,
    scratch: Scratch,
    interceptors: Interceptors,
    trial: Trial,
    relief: Relief,
    auditor: Arc<Auditor>,
    shadow: Arc<Shadow>,
    /// Where slow plugins are asked; `None` for a worker that may wait for them itself.
    lane: Option<Arc<Lane>>,
    handed_over: HandedOver,
    /// The asker that is to wait for its next turn, by its waker.
    had_its_turn: Option<usize>,
    counters: Counters,
    tallies: Tallies,
    /// How many exchanges were closed when this worker last let go of those that are gone.
    swept_at: u64,
    closed: Arc<AtomicU64>,
}

impl Counters {
    /// Adds to a tally what was counted since.
    fn tell_since(&self, before: &Self, tally: &Tally) {
        tally.remembered(self.remembered - before.remembered);
        if self.calls != before.calls || self.failed != before.failed {
            let (asked, calls) = (self.asked - before.asked, self.calls - before.calls);
            tally.asked(asked, calls, self.failed - before.failed, self.dead_ids - before.dead_ids);
        }
    }
}

impl Entry {
    /// The answer to a message when the plugin cannot give one. Where another type stands in, it is asked
    /// about what is a refusal so far.
    fn failed(&self, refusal: &Refusal) -> Answer {
        match self.policy.as_ref().map(|policy| &policy.on_failure) {
            Some(FailurePolicy::Unroutable) => Answer::Deliver(RouteSet::default()),
            _ => Answer::Failed(Box::new(refusal.clone())),
        }
    }
}

/// What a worker works with.
#[derive(Clone)]
pub(crate) struct WorkerParts {
    pub(crate) registry: Arc<Registry>,
    /// Where replicas of new versions are put for it.
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) builder: Arc<Builder>,
    pub(crate) auditor: Arc<Auditor>,
    pub(crate) shadow: Arc<Shadow>,
    pub(crate) services: Arc<Services>,
}

impl WorkerParts {
    /// Instances of its own for whoever works with this. `hurried` says that others wait for the thread.
    pub(crate) fn homes(&self, slot: CallSlot, hurried: bool) -> Homes {
        Homes::new(self.mailbox.clone(), self.builder.clone(), (slot, hurried), self.services.clone())
    }
}

impl Worker {
    /// A worker that has slow plugins asked in the lane, or asks them itself where there is none.
    pub(crate) fn new(
        parts: WorkerParts,
        (homes, lane): (Homes, Option<Arc<Lane>>),
        closed: Arc<AtomicU64>,
        memo_bytes_max: usize,
    ) -> Self {
        let WorkerParts { registry, auditor, shadow, services, .. } = parts;
        Self {
            interceptors: Interceptors::new(registry.attachments(), memo_bytes_max),
            registry,
            homes,
            entries: Entries { by_place: Recent::default(), memo_bytes_max },
            scratch: Scratch::default(),
            trial: Trial::default(),
            relief: Relief::new(services.accounts.together().remembered().clone()),
            auditor,
            shadow,
            lane,
            handed_over: HandedOver::default(),
            had_its_turn: None,
            counters: Counters::default(),
            tallies: Tallies::default(),
            swept_at: closed.load(Ordering::Relaxed),
            closed,
            services,
        }
    }

    /// Takes these instances and gives its own: until they are swapped back.
    pub(crate) fn lend(&mut self, homes: &mut Homes) {
        std::mem::swap(&mut self.homes, homes);
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Asks one type.
    fn ask_layer<'m, 'b: 'm>(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        messages: &mut dyn Iterator<Item = &'m MessageView<'b>>,
        answers: &mut Vec<Answer>,
        waker: &Arc<dyn Wake>,
    ) -> Result<Asked, Again> {
        let (entries, asking) = self.asking();
        let entry = entries.of(exchange, layer);
        if entry.beside.is_some() {
            return self.ask_beside(exchange, layer, messages, answers, waker);
        }
        let (first_answer, mut unsure) = (answers.len(), Unsure::default());
        if entry.awaits_standby {
            self.ready_standby(exchange, layer, waker)?;
            let asked = self.ask_serving((exchange, layer), messages, answers, waker)?;
            self.found_beside(exchange, layer, answers.len() - first_answer);
            return Ok(asked);
        }
        let mut asked = asking.ask(entry, (exchange, layer), messages, answers, (waker, &mut unsure))?;
        let found = entry.beside.is_some();
        if !unsure.is_empty() {
            asked = self.stand_in((exchange, layer), (asked, first_answer), unsure, answers, waker)?;
        }
        if found {
            self.found_beside(exchange, layer, answers.len() - first_answer);
        }
        Ok(asked)
    }

    /// What is kept, and what it takes to ask a version.
    fn asking(&mut self) -> (&mut Entries, Asking<'_>) {
        let asking = Asking {
            registry: &self.registry,
            homes: &mut self.homes,
            scratch: &mut self.scratch,
            counters: &mut self.counters,
            tallies: &mut self.tallies,
            accounts: &self.services.accounts,
            auditor: &self.auditor,
            lane: self.lane.as_deref(),
            handed_over: &mut self.handed_over,
            had_its_turn: &mut self.had_its_turn,
        };
        (&mut self.entries, asking)
    }

    /// Now and then, when enough exchanges are gone, lets go of what is kept for them; and makes it smaller
    /// where others want room.
    fn sweep_if_worth_it(&mut self) {
        self.relieve_if_wanted();
        let closed = self.closed.load(Ordering::Relaxed);
        if closed.wrapping_sub(self.swept_at) < 16.max(self.entries.by_place.len() as u64 / 4) {
            return;
        }
        self.swept_at = closed;
        self.entries.by_place.retain(|_, entry| entry.exchange.upgrade().is_some_and(|e| !e.is_deleted()));
        let registry = &self.registry;
        self.homes.sweep(|version| registry.serves(version));
        self.tallies.retain(|(version, _), _| registry.serves(*version));
    }
}

/// Whether a type is one of the four that no plugin can replace.
fn is_core(type_name: &Name) -> bool {
    CORE_TYPES.iter().any(|core| core.as_bytes() == type_name.as_bytes())
}

impl Router for Worker {
    fn check_type(&mut self, vhost: &Name, type_name: &Name, exchange: &Name) -> Result<(), Refusal> {
        serving(self.registry.lookup(vhost, type_name), vhost, type_name, exchange).map(drop)
    }

    fn is_quick(&self, exchange: &Exchange) -> bool {
        exchange.types().iter().all(|spec| is_core(&spec.type_name))
    }

    fn declares_quickly(&self, vhost: &Name, spec: &ExchangeSpec) -> bool {
        is_core(&spec.type_name) && self.registry.stages_for(vhost, &spec.arguments).is_empty()
    }

    fn open(&mut self, exchange: &Arc<Exchange>) -> Result<(), Refusal> {
        let opened = self.open_chain(exchange);
        if opened.is_err() {
            self.registry.unregister(exchange);
            self.homes.close(exchange.id);
        }
        self.homes.give_back();
        opened
    }

    fn restored(&mut self, exchange: &Arc<Exchange>) {
        self.registry.restored(exchange);
    }

    fn reconfigure(&mut self, exchange: &Arc<Exchange>, settings: &Arc<Settings>) -> Result<(), Refusal> {
        self.try_settings(exchange, settings)
    }

    fn bind(&mut self, exchange: &Arc<Exchange>, candidate: &Binding) -> Result<(), Refusal> {
        let taken = self.bind_chain(exchange, candidate);
        self.homes.give_back();
        taken
    }

    fn bound(
        &mut self,
        exchange: &Arc<Exchange>,
        binding: &Arc<Binding>,
        deeds: &mut Vec<Deed>,
    ) -> Vec<Arc<OwnedMessage>> {
        let stored = self.bound_chain(exchange, binding, deeds);
        self.homes.give_back();
        stored
    }

    fn unbound(&mut self, exchange: &Arc<Exchange>, binding: &Arc<Binding>, deeds: &mut Vec<Deed>) {
        self.unbound_chain(exchange, binding, deeds);
        self.homes.give_back();
    }

    fn route(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        messages: &mut dyn Iterator<Item = &MessageView<'_>>,
        answers: &mut Vec<Answer>,
        waker: &Arc<dyn Wake>,
    ) -> Routed {
        self.sweep_if_worth_it();
        let before = answers.len();
        let asked = if exchange.types().len() > usize::from(layer.0) + 1 {
            self.ask_chain(exchange, layer, messages, answers, waker)
        } else {
            self.ask_layer(exchange, layer, messages, answers, waker)
        };
        self.homes.give_back();
        match asked {
            Ok(Asked::All) => Routed::Ready,
            Ok(Asked::Some) => Routed::Cut,
            Err(Again) => {
                answers.truncate(before);
                Routed::Pending
            }
        }
    }

    fn reads_key_from(&mut self, exchange: &Exchange, from: Layer) -> Option<Layer> {
        let layers = (from.0..).take(exchange.types().len()).map(Layer);
        let mut layers = layers.take_while(|layer| usize::from(layer.0) < exchange.types().len());
        layers.find(|layer| {
            // One that was not asked yet may read anything.
            self.entries.get(exchange, *layer).is_none_or(|entry| entry.reads.routing_key)
        })
    }

    fn hold_quota(&mut self, exchange: &Exchange, resume: Layer) -> Option<Arc<HoldQuota>> {
        // Whoever leaves the decision to that type is the one in front of it.
        let layer = Layer(resume.0.checked_sub(1)?);
        if let Some(entry) = self.entries.get(exchange, layer) {
            return Some(entry.account.as_ref()?.held().clone());
        }
        let type_name = &exchange.types().get(usize::from(layer.0))?.type_name;
        let version = version_of(&self.registry, exchange, type_name).ok()?;
        Some(self.services.accounts.of_instance(&version, &exchange.vhost).held().clone())
    }

    fn explain(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        message: &MessageView<'_>,
        _waker: &Arc<dyn Wake>,
    ) -> Explained {
        // A version that was tried may be gone, and no exchange with it.
        let registry = &self.registry;
        self.homes.keep(|version| registry.serves(version));
        self.sweep_if_worth_it();
        self.homes.begin_apart();
        let explained = self.explain_chain(exchange, layer, message);
        self.homes.end_apart();
        explained
    }

    fn timer(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        due: Due<'_>,
        waker: &Arc<dyn Wake>,
        deeds: &mut Vec<Deed>,
    ) -> Fired {
        let fired = self.timer_due(exchange, layer, due, waker, deeds);
        self.homes.give_back();
        fired
    }

    fn intercepts(&self, vhost: &Name) -> Points {
        self.interceptors.points(vhost)
    }

    fn vhost_gone(&mut self, vhost: &Name) {
        self.interceptors.vhost_ends(vhost);
    }

    fn attachments(&mut self, site: Site<'_>) -> usize {
        self.interceptors.chain(site).len()
    }

    fn intercept(
        &mut self,
        site: Site<'_>,
        attachment: usize,
        messages: &mut dyn Iterator<Item = &MessageView<'_>>,
        rulings: &mut Vec<Ruling>,
        waker: &Arc<dyn Wake>,
    ) -> Routed {
        let ruled = self.intercept_at(site, attachment, messages, rulings, waker);
        self.homes.give_back();
        ruled
    }

    fn object(
        &mut self,
        at: (Site<'_>, usize),
        doubt: Doubt<'_>,
        counts: bool,
    ) -> Option<(Ruling, Arc<str>)> {
        self.object_at(at, doubt, counts)
    }

    fn explain_interceptor(
        &mut self,
        site: Site<'_>,
        attachment: usize,
        message: &MessageView<'_>,
        _waker: &Arc<dyn Wake>,
    ) -> ExplainedInterceptor {
        self.sweep_if_worth_it();
        self.homes.begin_apart();
        let explained = self.explain_attachment(site, attachment, message);
        self.homes.end_apart();
        explained
    }

    fn plugins_generation(&self, vhost: &Name) -> u64 {
        self.registry.answering_generation(vhost)
    }

    fn now_ms(&self) -> u64 {
        unix_ms()
    }

    fn forget(&mut self, waker: &Arc<dyn Wake>) {
        self.handed_over.forget(waker);
    }

    fn closed(&mut self, exchange: &Exchange) {
        self.closed.fetch_add(1, Ordering::Relaxed);
        for layer in (0..exchange.types().len()).map(|layer| Layer(layer as u8)) {
            for at in all_beside(layer).chain([layer]) {
                self.entries.by_place.remove(&(exchange.id, at));
            }
        }
        self.homes.close(exchange.id);
        self.services.cells.close(exchange.id);
        self.registry.unregister(exchange);
    }
}
