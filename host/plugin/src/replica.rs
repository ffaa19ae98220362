//! An instance with the exchanges that were replayed into it: what a plugin's guest knows, next
//! to how far the host has told it.
//!
//! The broker's [`Exchange`] is the truth. A replica notes for each exchange the generation up to
//! which the guest was told of it, and [`Replica::serve`] tells it the rest. A replica can be
//! built on one thread and used on another.
//!
//! An exchange has a seat for each of its types (layers) that the plugin provides, and each attachment
//! of an interceptor has one too (`replica/attached.rs`). Some bindings can be asked about alone (`replica/apart.rs`).

mod apart;
mod attached;
mod events;
mod migrating;
mod reconfigure;

use crate::{
    capability::{Call, Outcome, Purpose},
    engine::CallSlot,
    guest::{Decisions, GuestFailure, InnerType, Instance, Opened, Opening, Refused},
    policy::{Capability, Grants},
    recent::Recent,
    services::Services,
    shares,
    standby::spec_with,
    state::{Cell, Inside},
    version::Version,
};
use hashbrown::HashMap;
use leveret_broker::{
    exchange::{Binding, BindingId, Changes, Exchange, ExchangeId, Generation, Settings, Snapshot, TypeSpec},
    port::Layer,
};
use leveret_model::{Name, OwnedMessage, Reads, Table};
use reconfigure::{Took, same_inner};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};

/// How many bindings are told in one call on a replay.
const REPLAY_BINDINGS_PER_CALL: usize = 256;

/// An instance and what it was told.
pub(crate) struct Replica {
    version: Arc<Version>,
    services: Arc<Services>,
    instance: Instance,
    seats: Recent<SeatKey, Seat>,
    /// By the attachments' numbers.
    attached: HashMap<u64, attached::Attached, foldhash::fast::RandomState>,
    free_ids: Vec<u32>,
    next_id: u32,
    /// It only tries something out: it works on a copy of the state.
    tries: bool,
}

/// A type of an exchange.
type SeatKey = (ExchangeId, Layer);

/// A type of an exchange in an instance.
struct Seat {
    guest_id: u32,
    exchange: Weak<Exchange>,
    generation: Generation,
    /// The arguments that it was opened with, or told of since.
    settings: Arc<Settings>,
    reads: Arc<Reads>,
    grants: Grants,
    /// It wants to be told of bindings.
    bindings: bool,
    /// The state, where the plugin imports anything.
    cell: Option<Arc<Cell>>,
    /// Bindings that the guest took before they were committed; the next [`Replica::serve`] finds
    /// out whether they were.
    candidates: Vec<Candidate>,
}

/// What a call about messages is told.
#[derive(Clone, Copy)]
pub(crate) struct About<'a> {
    /// The exchange.
    pub(crate) exchange: &'a Arc<Exchange>,
    /// Which of its types.
    pub(crate) layer: Layer,
    /// The message, if there is one and the plugin may take it.
    pub(crate) on_hand: Option<&'a Arc<OwnedMessage>>,
}

struct Candidate {
    id: BindingId,
    routing_key: Name,
    arguments: Table,
}

impl Candidate {
    fn is(&self, binding: &Binding) -> bool {
        self.id == binding.id
            && self.routing_key == binding.routing_key
            && self.arguments == binding.arguments
    }
}

impl Replica {
    /// A fresh instance that knows of no exchange, for those of a virtual host.
    pub(crate) fn start(
        version: &Arc<Version>,
        vhost: &Name,
        services: &Arc<Services>,
        slot: CallSlot,
    ) -> Result<Self, GuestFailure> {
        if let Some(capability) = version.not_granted(vhost).filter(|_| !version.code.builtin) {
            return Err(GuestFailure::NotGranted(capability));
        }
        let code = &version.code;
        let account = services.accounts.of_instance(version, vhost);
        let mut instance = Instance::start(code, &account, slot)?;
        let described = instance.describe(code.exported.exchange_type, code.exported.interceptor)?;
        if described != version.description {
            return Err(GuestFailure::Answer(String::from("it describes itself in another way than before")));
        }
        Ok(Self {
            version: version.clone(),
            services: services.clone(),
            instance,
            seats: Recent::default(),
            attached: HashMap::default(),
            free_ids: Vec::new(),
            next_id: 0,
            tries: false,
        })
    }

    /// From now on, calls are made through that slot.
    pub(crate) fn move_to(&mut self, slot: CallSlot) {
        self.instance.move_to(slot);
    }

    /// Whether calls that are not about messages are cut off for others; see [`Instance::hurry`].
    pub(crate) fn hurry(&mut self, within: Option<Duration>) {
        self.instance.hurry(within);
    }

    /// The version it is an instance of.
    pub(crate) fn version(&self) -> &Arc<Version> {
        &self.version
    }

    /// Up to which generation it knows a type of an exchange, and what that then reads.
    pub(crate) fn knows(&self, id: ExchangeId, layer: Layer) -> Option<(Generation, &Arc<Reads>)> {
        let seat = self.seats.get(&(id, layer))?;
        Some((seat.generation, &seat.reads))
    }

    /// Whether decisions of a type of an exchange may hold messages.
    pub(crate) fn may_hold(&self, id: ExchangeId, layer: Layer) -> bool {
        self.seats.get(&(id, layer)).is_some_and(|seat| seat.grants.contains(Capability::Hold))
    }

    /// Whether it knows a type of an exchange at that generation, and no binding beyond it.
    #[inline]
    pub(crate) fn is_at(&self, id: ExchangeId, layer: Layer, generation: Generation) -> bool {
        let seat = self.seats.get(&(id, layer));
        seat.is_some_and(|seat| seat.generation == generation && seat.candidates.is_empty())
    }

    /// How many bindings [`Self::serve`] would have to tell.
    pub(crate) fn backlog(&self, exchange: &Exchange, layer: Layer) -> usize {
        let all = exchange.binding_count();
        match self.seats.get(&(exchange.id, layer)) {
            None => all,
            Some(seat) if self.opens_anew(seat, exchange, layer) => all,
            Some(seat) => {
                let changes = exchange.generation().0.saturating_sub(seat.generation.0);
                usize::try_from(changes).unwrap_or(usize::MAX).min(all)
            }
        }
    }

    /// The exchanges that it knows and that are still there.
    pub(crate) fn exchanges(&self) -> impl Iterator<Item = (Arc<Exchange>, Layer)> {
        let live = |(key, seat): (&SeatKey, &Seat)| {
            let exchange = seat.exchange.upgrade().filter(|exchange| !exchange.is_deleted())?;
            Some((exchange, key.1))
        };
        self.seats.iter().filter_map(live)
    }

    /// Brings the instance to the exchange's current generation, opening the exchange first if it
    /// does not know it.
    ///
    /// After a refusal by the plugin it does not know the exchange.
    pub(crate) fn serve(&mut self, exchange: &Arc<Exchange>, layer: Layer) -> Result<(), Refused> {
        let Some(seat) = self.seats.get_mut(&(exchange.id, layer)) else {
            return self.open_and_replay(exchange, layer, None);
        };
        let generation = exchange.generation();
        if seat.candidates.is_empty() && seat.generation == generation {
            return Ok(());
        }
        if !seat.bindings && seat.settings.number == exchange.settings().number {
            seat.generation = generation;
            return Ok(());
        }
        match exchange.changes_since(seat.generation) {
            Ok(changes) => match self.take_settings(exchange, layer, &changes.settings)? {
                Took::Them => self.tell_changes(exchange, layer, changes),
                Took::Anew => Ok(()),
            },
            Err(_lagging) => {
                self.close_seat((exchange.id, layer))?;
                self.open_and_replay(exchange, layer, None)
            }
        }
    }

    /// Tells an open exchange's changes of bindings.
    fn tell_changes(&mut self, exchange: &Exchange, layer: Layer, changes: Changes) -> Result<(), Refused> {
        let Some(seat) = self.seats.get_mut(&(exchange.id, layer)) else { return Ok(()) };
        if !seat.bindings {
            seat.generation = changes.generation;
            return Ok(());
        }
        let told = apply(&mut self.instance, seat, changes);
        if matches!(told, Err(Refused::ByPlugin(_))) {
            self.close_seat((exchange.id, layer))?;
        }
        told
    }

    /// Opens an exchange that has no bindings yet with one of its types, which is not noted in the
    /// exchange yet. Gives what the type behind it is.
    pub(crate) fn open(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        spec: &TypeSpec,
    ) -> Result<Option<(Name, Table)>, Refused> {
        self.close_seat((exchange.id, layer))?;
        let (generation, settings) = (exchange.generation(), exchange.settings());
        let opened = self.open_seat(exchange, layer, spec, (generation, &settings))?;
        Ok(opened.map(|inner| (inner.type_name, inner.arguments)))
    }

    /// Asks whether it takes a binding that is not committed yet. [`Self::serve`] went before.
    pub(crate) fn bind_candidate(
        &mut self,
        exchange: &Exchange,
        layer: Layer,
        candidate: &Binding,
    ) -> Result<(), Refused> {
        let Some(seat) = self.seats.get_mut(&(exchange.id, layer)).filter(|seat| seat.bindings) else {
            return Ok(());
        };
        begin_setup(&mut self.instance, seat, layer);
        let reads = self.instance.bind(seat.guest_id, &[candidate])?;
        seat.set_reads(reads)?;
        seat.candidates.push(Candidate {
            id: candidate.id,
            routing_key: candidate.routing_key.clone(),
            arguments: candidate.arguments.clone(),
        });
        Ok(())
    }

    /// Tells it that an exchange is gone, if it knows it.
    pub(crate) fn close(&mut self, id: ExchangeId) -> Result<(), GuestFailure> {
        let keys: Vec<SeatKey> = self.seats.iter().map(|(key, _)| *key).filter(|key| key.0 == id).collect();
        keys.into_iter().try_for_each(|key| self.close_seat(key))
    }

    /// Closes the exchanges that are there no more.
    pub(crate) fn sweep(&mut self) -> Result<(), GuestFailure> {
        let gone: Vec<SeatKey> = self
            .seats
            .iter()
            .filter(|(_, seat)| seat.exchange.upgrade().is_none_or(|exchange| exchange.is_deleted()))
            .map(|(key, _)| *key)
            .collect();
        gone.into_iter().try_for_each(|key| self.close_seat(key))
    }

    /// Asks where messages go: `projections` back to back, each after its length (4 bytes). The call is cut
    /// off where it does not end `within` a time.
    pub(crate) fn route(
        &mut self,
        about: About<'_>,
        projections: &[u8],
        count: usize,
        within: Option<Duration>,
    ) -> Result<(Decisions, Outcome), GuestFailure> {
        let key = (about.exchange.id, about.layer);
        let Some(seat) = self.seats.get_mut(&key) else {
            return Err(GuestFailure::Answer(String::from("the exchange is not open")));
        };
        let entered = match seat.enter(key, self.version.id, &self.services) {
            Ok(entered) => entered,
            Err(shut) => return Ok((Decisions::default(), Outcome::waits_for(shut))),
        };
        if let Some((cell, inside)) = entered {
            self.instance.begin_call(Some(about.call(&cell, Purpose::Decide, Some(inside))));
        }
        let decisions = if self.instance.has_batch() {
            self.instance.route_batch(seat.guest_id, projections, count, within)
        } else {
            let projection = projections.get(4..).unwrap_or_default();
            self.instance.route(seat.guest_id, projection, &seat.reads, within)
        };
        let outcome = if seat.cell.is_some() { self.instance.end_call() } else { Outcome::default() };
        Ok((decisions?, outcome))
    }

    fn take_id(&mut self) -> u32 {
        self.free_ids.pop().unwrap_or_else(|| {
            let id = self.next_id;
            self.next_id += 1;
            id
        })
    }

    /// How much CPU time the last call used, to the millisecond.
    pub(crate) fn cpu_used(&self) -> Duration {
        self.instance.cpu_used()
    }

    /// How many messages [`Self::route`] takes at most.
    pub(crate) fn messages_per_call_max(&self) -> usize {
        match self.instance.has_batch() && !self.version.code.exported.has_effects {
            // A call that takes too long costs the only instance.
            true if self.version.single_writer => 16,
            true => 256,
            false => 1,
        }
    }

    fn close_seat(&mut self, key: SeatKey) -> Result<(), GuestFailure> {
        let Some(seat) = self.seats.remove(&key) else {
            return Ok(());
        };
        self.free_ids.push(seat.guest_id);
        self.instance.begin_call(None);
        self.instance.close(seat.guest_id)
    }

    /// Opens an exchange with these arguments, or its own, and tells all bindings.
    fn open_and_replay(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        settings: Option<&Arc<Settings>>,
    ) -> Result<(), Refused> {
        let Snapshot { bindings, settings: current, generation } = exchange.snapshot();
        let settings = settings.unwrap_or(&current);
        let Some(spec) = spec_with(settings, exchange, layer) else {
            return Err(Refused::ByPlugin(format!("the exchange has no type number {}", layer.0)));
        };
        let inner = self.open_seat(exchange, layer, &spec, (generation, settings))?;
        let told = match same_inner(exchange, layer, inner.as_ref()) {
            Ok(()) => match self.seats.get_mut(&(exchange.id, layer)).filter(|seat| seat.bindings) {
                Some(seat) => tell_bindings(&mut self.instance, seat, layer, &bindings),
                None => Ok(()),
            },
            Err(refused) => Err(refused),
        };
        if matches!(told, Err(Refused::ByPlugin(_))) {
            self.close_seat((exchange.id, layer))?;
        }
        told
    }

    /// Opens an exchange without its bindings. Gives the inner type that it wants.
    fn open_seat(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        spec: &TypeSpec,
        (generation, settings): (Generation, &Arc<Settings>),
    ) -> Result<Option<InnerType>, Refused> {
        let cell = self.cell_of(exchange, layer).map_err(|failure| Refused::ByPlugin(failure.to_string()))?;
        let guest_id = self.take_id();
        let about = About { exchange, layer, on_hand: None };
        self.instance.begin_call(cell.as_ref().map(|cell| about.call(cell, Purpose::Setup, None)));
        let opened = match self.instance.open(guest_id, opening(exchange, spec)) {
            Ok(opened) => opened,
            Err(refused) => {
                self.free_ids.push(guest_id);
                return Err(refused);
            }
        };
        let Opened { reads, inner, bindings } = opened;
        let grants = self.version.policy(&exchange.vhost).grants;
        check_reads(&reads, grants)?;
        let seat = Seat {
            guest_id,
            exchange: Arc::downgrade(exchange),
            generation,
            settings: settings.clone(),
            grants,
            reads: Arc::new(reads),
            bindings,
            cell,
            candidates: Vec::new(),
        };
        self.seats.insert((exchange.id, layer), seat);
        if inner.is_some() && spec.in_front_of.is_some() {
            self.close_seat((exchange.id, layer))?;
            let what = String::from("it wants an inner type where it is put in front of one");
            return Err(Refused::Failed(GuestFailure::Answer(what)));
        }
        Ok(inner)
    }
}

impl About<'_> {
    fn call(&self, cell: &Arc<Cell>, purpose: Purpose, inside: Option<Inside>) -> Call {
        Call {
            exchange: Some(self.exchange.clone()),
            layer: self.layer,
            cell: cell.clone(),
            purpose,
            on_hand: self.on_hand.cloned(),
            inside,
        }
    }
}

impl Seat {
    fn set_reads(&mut self, reads: Reads) -> Result<(), GuestFailure> {
        if *self.reads != reads {
            check_reads(&reads, self.grants)?;
            self.reads = Arc::new(reads);
        }
        Ok(())
    }
}

/// Whether what is read is granted.
fn check_reads(reads: &Reads, grants: Grants) -> Result<(), GuestFailure> {
    if reads.publisher && !grants.contains(Capability::Publisher) {
        return Err(GuestFailure::NotGranted(Capability::Publisher));
    }
    Ok(())
}

fn opening<'a>(exchange: &'a Exchange, spec: &'a TypeSpec) -> Opening<'a> {
    Opening {
        name: &exchange.spec.name,
        vhost: &exchange.vhost,
        type_name: &spec.type_name,
        arguments: &spec.arguments,
        in_front_of: spec.in_front_of.as_ref(),
    }
}

/// The next call only tells the guest something.
fn begin_setup(instance: &mut Instance, seat: &Seat, layer: Layer) {
    if let Some(cell) = &seat.cell {
        let (exchange, cell) = (seat.exchange.upgrade(), cell.clone());
        instance.begin_call(Some(Call {
            exchange,
            layer,
            cell,
            purpose: Purpose::Setup,
            on_hand: None,
            inside: None,
        }));
    }
}

/// Tells an instance of changes. Candidates that were committed are among the new bindings and
/// known already; those that were not, or are gone again, are taken back.
fn apply(instance: &mut Instance, seat: &mut Seat, changes: Changes) -> Result<(), Refused> {
    let mut candidates = std::mem::take(&mut seat.candidates);
    let mut bound = changes.bound;
    bound.retain(|binding| match candidates.iter().position(|candidate| candidate.is(binding)) {
        Some(position) => {
            candidates.swap_remove(position);
            false
        }
        None => true,
    });
    let mut unbound = changes.unbound;
    unbound.extend(candidates.iter().map(|candidate| candidate.id));
    begin_setup(instance, seat, Layer::FRONT);
    for ids in unbound.chunks(REPLAY_BINDINGS_PER_CALL) {
        let reads = instance.unbind(seat.guest_id, ids)?;
        seat.set_reads(reads)?;
    }
    tell_bindings(instance, seat, Layer::FRONT, &bound)?;
    seat.generation = changes.generation;
    Ok(())
}

fn tell_bindings(
    instance: &mut Instance,
    seat: &mut Seat,
    layer: Layer,
    bindings: &[Arc<Binding>],
) -> Result<(), Refused> {
    begin_setup(instance, seat, layer);
    for some in bindings.chunks(REPLAY_BINDINGS_PER_CALL) {
        shares::between_calls();
        let some: Vec<&Binding> = some.iter().map(|binding| &**binding).collect();
        let reads = instance.bind(seat.guest_id, &some)?;
        seat.set_reads(reads)?;
    }
    Ok(())
}
