//! The exchange types `x-random` and `x-local-random`: each message to one of the bindings, by chance.
//!
//! Each binding is as likely as any other, so a queue that is bound twice gets twice as many. `x-random` takes whatever
//! is bound. `x-local-random`, which is for requests that whoever is nearest may answer, takes queues alone and no binding key,
//! as RabbitMQ's does; of several nodes it would choose among the queues of the publisher's, and here is one node. RabbitMQ
//! takes classic queues alone there; here any will do.
//!
//! *Not here:* where chance comes from; that is [`chance`].
//!
//! *In and out:* reads nothing; names one binding, or none where there is none.
//!
//! *Invariants:* not pure, so nothing is remembered. It needs the grant `random`.
//!
//! A message with the headers CC and BCC goes by each of its keys, each time to another binding; RabbitMQ chooses once.

pub mod chance;

use chance::Chance;
use leveret_sdk::{
    Binding, BindingId, Decision, Declaration, Description, Destination, ExchangeType, Message, Reads,
    Refusal, Targets,
};
use std::collections::HashMap;

/// The bindings, in any order.
#[derive(Debug, Default)]
struct Bindings {
    ids: Vec<BindingId>,
    places: HashMap<BindingId, usize>,
    chance: Chance,
}

impl Bindings {
    fn insert(&mut self, id: BindingId) {
        if self.places.insert(id, self.ids.len()).is_none() {
            self.ids.push(id);
        }
    }

    /// The last takes its place.
    fn remove(&mut self, id: BindingId) {
        let Some(place) = self.places.remove(&id) else {
            return;
        };
        self.ids.swap_remove(place);
        if let Some(moved) = self.ids.get(place) {
            self.places.insert(*moved, place);
        }
    }

    fn any(&mut self) -> Option<BindingId> {
        match self.ids.as_slice() {
            [] => None,
            [only] => Some(*only),
            several => several.get(self.chance.below(several.len())).copied(),
        }
    }
}

/// An exchange of the type `x-random`.
#[derive(Debug, Default)]
pub struct Random(Bindings);

impl ExchangeType for Random {
    fn describe() -> Description {
        Description::new("x-random", "To one binding, by chance")
    }

    fn open(_: &Declaration) -> Result<Self, Refusal> {
        Ok(Self::default())
    }

    fn reads(&self) -> Reads {
        Reads::nothing()
    }

    fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
        self.0.insert(binding.id);
        Ok(())
    }

    fn unbind(&mut self, id: BindingId) {
        self.0.remove(id);
    }

    fn route(&mut self, _: &Message<'_>, to: &mut Targets<'_>) -> Decision {
        to.extend(self.0.any());
        Decision::Deliver
    }
}

/// An exchange of the type `x-local-random`.
#[derive(Debug, Default)]
pub struct LocalRandom(Bindings);

impl ExchangeType for LocalRandom {
    fn describe() -> Description {
        Description::new("x-local-random", "To one queue of this node, by chance; bindings have no key")
    }

    fn open(_: &Declaration) -> Result<Self, Refusal> {
        Ok(Self::default())
    }

    fn reads(&self) -> Reads {
        Reads::nothing()
    }

    /// Refuses in RabbitMQ's words, but where an exchange is the destination, which it says is not found.
    fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
        if !binding.routing_key.is_empty() {
            let key = String::from_utf8_lossy(&binding.routing_key);
            return Err(format!("Non empty binding '{key}' key not permitted").into());
        }
        if let Destination::Exchange(_) = binding.destination {
            return Err("only queues can be bound".into());
        }
        self.0.insert(binding.id);
        Ok(())
    }

    fn unbind(&mut self, id: BindingId) {
        self.0.remove(id);
    }

    fn route(&mut self, _: &Message<'_>, to: &mut Targets<'_>) -> Decision {
        to.extend(self.0.any());
        Decision::Deliver
    }
}

leveret_sdk::export!(Random, LocalRandom);

#[cfg(test)]
mod tests;
