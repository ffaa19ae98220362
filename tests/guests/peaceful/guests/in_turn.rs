//! `x-in-turn`: each message to the next one of all bindings. It wants one instance for all threads, so that
//! the turns are exact. Slow as `x-takes-its-time` is.

use leveret_guests_peaceful::busy::{be_busy, rounds};
use leveret_sdk::*;

struct InTurn {
    bindings: Vec<BindingId>,
    turn: usize,
    rounds: u64,
}

impl ExchangeType for InTurn {
    fn describe() -> Description {
        Description::new("x-in-turn", "To all bindings in turn").single_writer()
    }

    fn open(declaration: &Declaration) -> Result<Self, Refusal> {
        Ok(Self { bindings: Vec::new(), turn: 0, rounds: rounds(declaration)? })
    }

    fn reads(&self) -> Reads {
        Reads::nothing().routing_key()
    }

    fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
        self.bindings.push(binding.id);
        Ok(())
    }

    fn unbind(&mut self, id: BindingId) {
        self.bindings.retain(|bound| *bound != id);
    }

    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) -> Decision {
        if message.routing_key().starts_with(b"slow") {
            be_busy(self.rounds);
        }
        self.turn = self.turn.wrapping_add(1);
        let next = self.turn.checked_rem(self.bindings.len()).and_then(|turn| self.bindings.get(turn));
        to.extend(next.copied());
        Decision::Deliver
    }
}

export!(InTurn);
