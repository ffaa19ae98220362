//! What a plugin is told once for the whole broker, and what it shows.

use super::{About, Replica, begin_setup};
use crate::{
    capability::{MESSAGES_MAX, Outcome, Purpose},
    guest::{GuestFailure, Instance},
};
use hashbrown::HashSet;
use leveret_broker::exchange::Binding;
use leveret_model::{Name, OwnedMessage, Value};
use std::sync::Arc;

impl Replica {
    /// Tells it of a binding that took effect; gives the stored messages for its destination.
    pub(crate) fn bound(
        &mut self,
        about: About<'_>,
        binding: &Binding,
    ) -> Result<(Vec<Arc<OwnedMessage>>, Outcome), GuestFailure> {
        let (ids, outcome) = self.event(about, |instance, id| instance.bound(id, binding))?;
        let seat = self.seats.get(&(about.exchange.id, about.layer));
        let messages = match seat.and_then(|seat| seat.cell.as_ref()) {
            Some(cell) => {
                let messages = cell.messages().lock();
                let mut given = HashSet::new();
                let each_once = ids.into_iter().filter(|id| given.insert(*id));
                each_once.take(MESSAGES_MAX as usize).filter_map(|id| messages.get(id)).collect()
            }
            None => Vec::new(),
        };
        Ok((messages, outcome))
    }

    /// Tells it of a binding that was removed.
    pub(crate) fn unbound(&mut self, about: About<'_>, binding: &Binding) -> Result<Outcome, GuestFailure> {
        Ok(self.event(about, |instance, id| instance.unbound(id, binding))?.1)
    }

    /// Tells it that a timer is due.
    pub(crate) fn timer(&mut self, about: About<'_>, name: &Name) -> Result<Outcome, GuestFailure> {
        Ok(self.event(about, |instance, id| instance.timer(id, name))?.1)
    }

    /// What it shows operators of an exchange.
    pub(crate) fn info(&mut self, about: About<'_>) -> Result<Vec<(Name, Value)>, GuestFailure> {
        // Another cell may have taken the place of the one that it knows.
        let _entered = self.enter((about.exchange.id, about.layer));
        let Some(seat) = self.seats.get(&(about.exchange.id, about.layer)) else {
            return Ok(Vec::new());
        };
        begin_setup(&mut self.instance, seat, about.layer);
        self.instance.info(seat.guest_id)
    }

    fn event<R: Default>(
        &mut self,
        about: About<'_>,
        call: impl FnOnce(&mut Instance, u32) -> Result<R, GuestFailure>,
    ) -> Result<(R, Outcome), GuestFailure> {
        let entered = match self.enter((about.exchange.id, about.layer)) {
            Ok(entered) => entered,
            Err(shut) => return Ok((R::default(), Outcome::waits_for(shut))),
        };
        let Some(seat) = self.seats.get(&(about.exchange.id, about.layer)) else {
            return Ok((R::default(), Outcome::default()));
        };
        if let Some((cell, inside)) = entered {
            self.instance.begin_call(Some(about.call(&cell, Purpose::Event, Some(inside))));
        }
        let answer = call(&mut self.instance, seat.guest_id);
        let outcome = if seat.cell.is_some() { self.instance.end_call() } else { Outcome::default() };
        Ok((answer?, outcome))
    }
}
