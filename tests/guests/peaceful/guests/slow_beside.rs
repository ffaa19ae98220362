//! `x-slow-beside`: direct, and slow in what is about no message. To bind with a key that begins with `slow` it
//! goes round as often as the argument `x-rounds` says. A message with the key `timers` sets some timers, each of
//! which goes round as often when it is due, counts itself in the metric `fired`, and sets itself anew.

use leveret_guests_peaceful::busy::{be_busy, rounds};
use leveret_sdk::*;
use std::time::Duration;

/// How many timers there are.
const TIMERS: u8 = 16;
/// Sooner than one of them takes.
const DUE_AFTER: Duration = Duration::from_millis(1);

struct SlowBeside {
    bindings: BindingIndex,
    rounds: u64,
}

impl ExchangeType for SlowBeside {
    fn describe() -> Description {
        Description::new("x-slow-beside", "Direct, and slow to bind and in timers")
    }

    fn open(declaration: &Declaration) -> Result<Self, Refusal> {
        Ok(Self { bindings: BindingIndex::new(), rounds: rounds(declaration)? })
    }

    fn reads(&self) -> Reads {
        Reads::nothing().routing_key()
    }

    fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
        if binding.routing_key.starts_with(b"slow") {
            be_busy(self.rounds);
        }
        self.bindings.insert(binding.routing_key, binding.id);
        Ok(())
    }

    fn unbind(&mut self, id: BindingId) {
        self.bindings.remove(id);
    }

    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) -> Decision {
        if message.routing_key() == b"timers" {
            // Nothing is bound with that key.
            effects::keep_if_unroutable();
            (0..TIMERS).for_each(|timer| timers::set([timer], DUE_AFTER));
        }
        to.extend_from_slice(self.bindings.get(message.routing_key()));
        Decision::Deliver
    }
}

impl Timers for SlowBeside {
    fn timer(&mut self, name: &[u8]) {
        be_busy(self.rounds);
        metric::count("fired", 1);
        timers::set(name, DUE_AFTER);
    }
}

export!(SlowBeside: Timers);
