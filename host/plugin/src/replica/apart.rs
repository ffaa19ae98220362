//! Bindings that are asked about alone, to bring up to date what is remembered.

use super::{Replica, opening};
use crate::{
    guest::{Decisions, GuestFailure, Refused, narrow},
    standby::spec_with,
};
use leveret_broker::{
    exchange::{Binding, Exchange},
    port::Layer,
};
use leveret_model::Reads;
use std::sync::Arc;

/// Some bindings of an exchange, in an instance as an exchange of their own.
pub(crate) struct Apart {
    guest_id: u32,
    reads: Reads,
    /// Used again for each call.
    projections: Vec<u8>,
}

impl Replica {
    /// Whether bindings can be asked about alone: many messages in one call, and their decisions follow
    /// from bindings and nothing else.
    pub(crate) fn decides_apart(&self, exchange: &Exchange, layer: Layer) -> bool {
        self.instance.has_batch()
            && !self.version.code.has_capabilities()
            && self.seats.get(&(exchange.id, layer)).is_some_and(|seat| seat.bindings)
    }

    /// What the projections of messages have that these bindings concern, which it knows: one mark for
    /// each, an empty one where it may be any message. `None` where it does not say.
    pub(crate) fn marks(
        &mut self,
        exchange: &Exchange,
        layer: Layer,
        bindings: &[Arc<Binding>],
    ) -> Result<Option<Vec<Vec<u8>>>, GuestFailure> {
        let Some(seat) = self.seats.get(&(exchange.id, layer)).filter(|_| self.instance.has_marks()) else {
            return Ok(None);
        };
        let bindings: Vec<&Binding> = bindings.iter().map(|binding| &**binding).collect();
        self.instance.marks(seat.guest_id, &bindings).map(Some)
    }

    /// Opens an exchange of the same kind that has these bindings alone, which it knows already. Only if
    /// [`Self::decides_apart`].
    pub(crate) fn open_apart(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        bindings: &[Arc<Binding>],
    ) -> Result<Apart, Refused> {
        let Some(spec) = spec_with(&exchange.settings(), exchange, layer) else {
            return Err(Refused::ByPlugin(String::from("the exchange has no such type")));
        };
        let guest_id = self.take_id();
        let bindings: Vec<&Binding> = bindings.iter().map(|binding| &**binding).collect();
        let reads = match self.instance.open(guest_id, opening(exchange, &spec)) {
            Ok(_) => self.instance.bind(guest_id, &bindings),
            Err(refused) => Err(refused),
        };
        match reads {
            Ok(reads) => Ok(Apart { guest_id, reads, projections: Vec::new() }),
            Err(refused) => {
                // A failure ends the instance; a refusal to bind leaves the exchange open.
                if matches!(refused, Refused::ByPlugin(_)) {
                    self.instance.close(guest_id)?;
                    self.free_ids.push(guest_id);
                }
                Err(refused)
            }
        }
    }

    /// Asks where messages go by these bindings alone: `projections` of what the whole exchange
    /// reads, back to back, each after its length (4 bytes).
    pub(crate) fn route_apart(
        &mut self,
        apart: &mut Apart,
        reads: &Reads,
        projections: &[u8],
        count: usize,
    ) -> Result<Decisions, Refused> {
        if apart.reads == *reads {
            return Ok(self.instance.route_batch(apart.guest_id, projections, count, None)?);
        }
        apart.projections.clear();
        if narrow(projections, reads, &apart.reads, &mut apart.projections).is_none() {
            return Err(Refused::ByPlugin(String::from("it reads something else for these bindings")));
        }
        Ok(self.instance.route_batch(apart.guest_id, &apart.projections, count, None)?)
    }

    /// Closes what [`Self::open_apart`] opened.
    pub(crate) fn close_apart(&mut self, apart: Apart) -> Result<(), GuestFailure> {
        self.free_ids.push(apart.guest_id);
        self.instance.close(apart.guest_id)
    }
}
