//! An instance with the exchanges that were replayed into it: what a plugin's guest knows, next
//! to how far the host has told it.
//!
//! The broker's [`Exchange`] is the truth. A replica notes for each exchange the generation up to
//! which the guest was told of it, and [`Replica::serve`] tells it the rest. A replica can be
//! built on one thread and used on another.

use crate::{
    engine::CallSlot,
    guest::{Decisions, GuestFailure, Instance, Refused},
    version::Version,
};
use hashbrown::HashMap;
use leveret_broker::exchange::{Binding, BindingId, Changes, Exchange, ExchangeId, Generation};
use leveret_model::{Name, Reads, Table};
use std::{
    borrow::Borrow,
    sync::{Arc, Weak},
};

/// How many bindings are told in one call on a replay.
const REPLAY_BINDINGS_PER_CALL: usize = 256;

/// An instance and what it was told.
pub(crate) struct Replica {
    version: Arc<Version>,
    instance: Instance,
    seats: HashMap<ExchangeId, Seat, foldhash::fast::RandomState>,
    free_ids: Vec<u32>,
    next_id: u32,
}

/// An exchange in an instance.
struct Seat {
    guest_id: u32,
    exchange: Weak<Exchange>,
    generation: Generation,
    reads: Arc<Reads>,
    /// Bindings that the guest took before they were committed; the next [`Replica::serve`] finds
    /// out whether they were.
    candidates: Vec<Candidate>,
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
    pub(crate) fn start(version: &Arc<Version>, vhost: &Name, slot: CallSlot) -> Result<Self, GuestFailure> {
        let mut instance = version.start(vhost, slot)?;
        if instance.describe()? != version.description {
            return Err(GuestFailure::Answer(String::from("it describes itself in another way than before")));
        }
        Ok(Self {
            version: version.clone(),
            instance,
            seats: HashMap::default(),
            free_ids: Vec::new(),
            next_id: 0,
        })
    }

    /// From now on, calls are made through that slot.
    pub(crate) fn move_to(&mut self, slot: CallSlot) {
        self.instance.move_to(slot);
    }

    /// The version it is an instance of.
    pub(crate) fn version(&self) -> &Arc<Version> {
        &self.version
    }

    /// Up to which generation it knows an exchange, and what the exchange then reads.
    pub(crate) fn knows(&self, id: ExchangeId) -> Option<(Generation, &Arc<Reads>)> {
        let seat = self.seats.get(&id)?;
        Some((seat.generation, &seat.reads))
    }

    /// How many bindings [`Self::serve`] would have to tell.
    pub(crate) fn backlog(&self, exchange: &Exchange) -> usize {
        let all = exchange.binding_count();
        match self.seats.get(&exchange.id) {
            None => all,
            Some(seat) => {
                let changes = exchange.generation().0.saturating_sub(seat.generation.0);
                usize::try_from(changes).unwrap_or(usize::MAX).min(all)
            }
        }
    }

    /// The exchanges that it knows and that are still there.
    pub(crate) fn exchanges(&self) -> impl Iterator<Item = Arc<Exchange>> {
        self.seats.values().filter_map(|seat| seat.exchange.upgrade()).filter(|e| !e.is_deleted())
    }

    /// Brings the instance to the exchange's current generation, opening the exchange first if it
    /// does not know it.
    ///
    /// After a refusal by the plugin it does not know the exchange.
    pub(crate) fn serve(&mut self, exchange: &Arc<Exchange>) -> Result<(), Refused> {
        let Some(seat) = self.seats.get_mut(&exchange.id) else {
            return self.open_and_replay(exchange);
        };
        if seat.candidates.is_empty() && seat.generation == exchange.generation() {
            return Ok(());
        }
        match exchange.changes_since(seat.generation) {
            Ok(changes) => {
                let told = apply(&mut self.instance, seat, changes);
                if matches!(told, Err(Refused::ByPlugin(_))) {
                    self.close(exchange.id)?;
                }
                told
            }
            Err(_lagging) => {
                self.close(exchange.id)?;
                self.open_and_replay(exchange)
            }
        }
    }

    /// Asks whether it takes a binding that is not committed yet. [`Self::serve`] went before.
    pub(crate) fn bind_candidate(&mut self, exchange: &Exchange, candidate: &Binding) -> Result<(), Refused> {
        let Some(seat) = self.seats.get_mut(&exchange.id) else {
            return Ok(());
        };
        let reads = self.instance.bind(seat.guest_id, &[candidate])?;
        seat.set_reads(reads);
        seat.candidates.push(Candidate {
            id: candidate.id,
            routing_key: candidate.routing_key.clone(),
            arguments: candidate.arguments.clone(),
        });
        Ok(())
    }

    /// Tells it that an exchange is gone, if it knows it.
    pub(crate) fn close(&mut self, id: ExchangeId) -> Result<(), GuestFailure> {
        let Some(seat) = self.seats.remove(&id) else {
            return Ok(());
        };
        self.free_ids.push(seat.guest_id);
        self.instance.close(seat.guest_id)
    }

    /// Closes the exchanges that are there no more.
    pub(crate) fn sweep(&mut self) -> Result<(), GuestFailure> {
        let gone: Vec<ExchangeId> = self
            .seats
            .iter()
            .filter(|(_, seat)| seat.exchange.upgrade().is_none_or(|exchange| exchange.is_deleted()))
            .map(|(id, _)| *id)
            .collect();
        gone.into_iter().try_for_each(|id| self.close(id))
    }

    /// Asks where messages go: `projections` back to back, each after its length (4 bytes).
    pub(crate) fn route(
        &mut self,
        id: ExchangeId,
        projections: &[u8],
        count: usize,
    ) -> Result<Decisions, GuestFailure> {
        let Some(seat) = self.seats.get(&id) else {
            return Err(GuestFailure::Answer(String::from("the exchange is not open")));
        };
        if self.instance.has_batch() {
            return self.instance.route_batch(seat.guest_id, projections, count);
        }
        let projection = projections.get(4..).unwrap_or_default();
        self.instance.route(seat.guest_id, projection, &seat.reads)
    }

    /// How many messages [`Self::route`] takes at most.
    pub(crate) fn messages_per_call_max(&self) -> usize {
        if self.instance.has_batch() { 256 } else { 1 }
    }

    fn open_and_replay(&mut self, exchange: &Arc<Exchange>) -> Result<(), Refused> {
        let (generation, bindings) = exchange.all_bindings();
        let guest_id = self.free_ids.pop().unwrap_or_else(|| {
            let id = self.next_id;
            self.next_id += 1;
            id
        });
        let reads = match self.instance.open(guest_id, &exchange.spec) {
            Ok(reads) => reads,
            Err(refused) => {
                self.free_ids.push(guest_id);
                return Err(refused);
            }
        };
        let mut seat = Seat {
            guest_id,
            exchange: Arc::downgrade(exchange),
            generation,
            reads: Arc::new(reads),
            candidates: Vec::new(),
        };
        let told = tell_bindings(&mut self.instance, &mut seat, &bindings);
        self.seats.insert(exchange.id, seat);
        if matches!(told, Err(Refused::ByPlugin(_))) {
            self.close(exchange.id)?;
        }
        told
    }
}

impl Seat {
    fn set_reads(&mut self, reads: Reads) {
        if *self.reads != reads {
            self.reads = Arc::new(reads);
        }
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
    for ids in unbound.chunks(REPLAY_BINDINGS_PER_CALL) {
        let reads = instance.unbind(seat.guest_id, ids)?;
        seat.set_reads(reads);
    }
    tell_bindings(instance, seat, &bound)?;
    seat.generation = changes.generation;
    Ok(())
}

fn tell_bindings(
    instance: &mut Instance,
    seat: &mut Seat,
    bindings: &[impl Borrow<Binding>],
) -> Result<(), Refused> {
    for some in bindings.chunks(REPLAY_BINDINGS_PER_CALL) {
        let reads = instance.bind(seat.guest_id, some)?;
        seat.set_reads(reads);
    }
    Ok(())
}
