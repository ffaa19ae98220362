//! `x-takes-its-time`: direct, impure, and slow for routing keys that begin with `slow`: it goes round as
//! often as the argument `x-rounds` says before it answers.

use leveret_guests_peaceful::busy::{be_busy, rounds};
use leveret_sdk::*;

struct TakesItsTime {
    bindings: BindingIndex,
    rounds: u64,
}

impl ExchangeType for TakesItsTime {
    fn describe() -> Description {
        Description::new("x-takes-its-time", "Direct, and slow")
    }

    fn open(declaration: &Declaration) -> Result<Self, Refusal> {
        Ok(Self { bindings: BindingIndex::new(), rounds: rounds(declaration)? })
    }

    fn reads(&self) -> Reads {
        Reads::nothing().routing_key()
    }

    fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
        self.bindings.insert(binding.routing_key, binding.id);
        Ok(())
    }

    fn unbind(&mut self, id: BindingId) {
        self.bindings.remove(id);
    }

    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) -> Decision {
        if message.routing_key().starts_with(b"slow") {
            be_busy(self.rounds);
        }
        to.extend_from_slice(self.bindings.get(message.routing_key()));
        Decision::Deliver
    }
}

export!(TakesItsTime);
