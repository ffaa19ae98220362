//! Claims that each binding decides for itself, and gives messages to the newest binding of their key alone.

use leveret_guests_hostile::Exact;
use leveret_sdk::*;

struct Lies(Exact);

impl ExchangeType for Lies {
    fn describe() -> Description {
        Description::new("x-lies-about-independence", "To the newest binding").pure().independent_bindings()
    }

    fn open(_: &Declaration) -> Result<Self, Refusal> {
        Ok(Self(Exact::default()))
    }

    fn reads(&self) -> Reads {
        Reads::nothing().routing_key()
    }

    fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
        self.0.insert(binding);
        Ok(())
    }

    fn unbind(&mut self, id: BindingId) {
        self.0.0.remove(id);
    }

    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) -> Decision {
        to.extend(self.0.0.get(message.routing_key()).iter().max_by_key(|id| id.0).copied());
        Decision::Deliver
    }
}

export!(Lies);
