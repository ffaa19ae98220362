//! The exchange type `x-consistent-hash`: each message to one destination, by a hash of what is chosen of it.
//!
//! It shares out messages so that those of one key stay together and in order, and goes on so while queues come and go:
//! one that comes takes its share from the others, one that goes leaves it to them, and all other keys stay where they are.
//! The binding key is the weight, a number: a queue with 2 gets twice what one with 1 does. What is hashed is the
//! routing key, or the header that `hash-header` names, or the property of `hash-property`; what a message does not have is a
//! key as any.
//!
//! *Not here:* the hash; that is [`hash`]. Who is chosen; that is [`shares`].
//!
//! *In and out:* reads what is hashed and nothing else; names one binding, or none where there is none.
//!
//! *Invariants:* pure. Who is chosen depends on the destinations and their weights alone: not on when they were bound, so it
//! is the same after a restart, on each worker and on another broker. Several bindings of one destination add up, and one of
//! them that goes takes no more than its own weight.
//!
//! Arguments, and what is refused, are RabbitMQ's; the hash is not, so keys go to other queues than there. A message with
//! the headers CC and BCC goes by each of its keys where the routing key is hashed, and each queue gets it once; RabbitMQ
//! hashes the list of them.
//!
//! Read [`shares`] first.

pub mod hash;
mod settings;
pub mod shares;

use hash::Role;
use leveret_sdk::{
    Binding, BindingId, Decision, Declaration, Description, Destination, ExchangeType, Kind, Message, Reads,
    Refusal, Targets,
};
use settings::Hashed;
use shares::Shares;
use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

/// An exchange that shares out its messages.
#[derive(Debug)]
pub struct ConsistentHash {
    hashed: Hashed,
    shares: Shares,
    /// The weights that the bindings of each destination give it.
    weights: HashMap<Rc<Destination>, BTreeMap<BindingId, u32>>,
    by_id: HashMap<BindingId, Rc<Destination>>,
    /// A value in bytes, kept so that none is allocated for each message.
    value: Vec<u8>,
}

impl ConsistentHash {
    /// Lets `change` make other weights of those of a destination, and gives it the share that follows.
    fn reweigh(&mut self, destination: &Rc<Destination>, change: impl FnOnce(&mut BTreeMap<BindingId, u32>)) {
        let weights = self.weights.entry(destination.clone()).or_default();
        if !weights.is_empty() {
            self.shares.remove(destination, sum(weights));
        }
        change(weights);
        match weights.keys().next() {
            Some(id) => self.shares.insert(destination.clone(), sum(weights), *id),
            None => {
                self.weights.remove(destination);
            }
        }
    }
}

/// Of at most 2^32 bindings it fits.
fn sum(weights: &BTreeMap<BindingId, u32>) -> u64 {
    weights.values().map(|weight| u64::from(*weight)).sum()
}

impl ExchangeType for ConsistentHash {
    fn describe() -> Description {
        Description::new("x-consistent-hash", "To one destination, by a hash; weights are the binding keys")
            .pure()
            .argument(settings::HEADER, Kind::Text, "the header to hash instead of the routing key")
            .argument(
                settings::PROPERTY,
                Kind::Text,
                "the property to hash: message_id, correlation_id or timestamp",
            )
    }

    fn open(declaration: &Declaration) -> Result<Self, Refusal> {
        Ok(Self {
            hashed: Hashed::read(&declaration.arguments)?,
            shares: Shares::default(),
            weights: HashMap::new(),
            by_id: HashMap::new(),
            value: Vec::new(),
        })
    }

    fn reads(&self) -> Reads {
        self.hashed.reads()
    }

    fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
        let weight = settings::weight(&binding.routing_key)?;
        self.unbind(binding.id);
        let known = self.weights.get_key_value(&binding.destination).map(|(known, _)| known.clone());
        let destination = known.unwrap_or_else(|| Rc::new(binding.destination));
        self.reweigh(&destination, |weights| {
            weights.insert(binding.id, weight);
        });
        self.by_id.insert(binding.id, destination);
        Ok(())
    }

    fn unbind(&mut self, id: BindingId) {
        if let Some(destination) = self.by_id.remove(&id) {
            self.reweigh(&destination, |weights| {
                weights.remove(&id);
            });
        }
    }

    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) -> Decision {
        let key = hash::of_bytes(Role::Key, self.hashed.of(message, &mut self.value));
        to.extend(self.shares.of(key));
        Decision::Deliver
    }
}

leveret_sdk::export!(ConsistentHash);

#[cfg(test)]
mod tests;
