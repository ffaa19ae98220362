//! `x-last-value`: direct, and a new binding gets the last message of its key. It keeps messages, hears of
//! bindings, and shows operators how many messages are kept.

use leveret_sdk::*;

struct LastValue(BindingIndex);

impl ExchangeType for LastValue {
    fn describe() -> Description {
        Description::new("x-last-value", "Direct, with the last message for new bindings")
    }

    fn open(_: &Declaration) -> Result<Self, Refusal> {
        Ok(Self(BindingIndex::new()))
    }

    fn reads(&self) -> Reads {
        Reads::nothing().routing_key()
    }

    fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
        self.0.insert(binding.routing_key, binding.id);
        Ok(())
    }

    fn unbind(&mut self, id: BindingId) {
        self.0.remove(id);
    }

    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) -> Decision {
        if message_store::keep(message.routing_key(), 1).is_err() {
            return Decision::Reject("no room for the last value".into());
        }
        to.extend_from_slice(self.0.get(message.routing_key()));
        Decision::Deliver
    }
}

impl Events for LastValue {
    fn bound(&mut self, binding: &Binding) -> Vec<StoredId> {
        message_store::of_key(&binding.routing_key, 1)
    }
}

impl Info for LastValue {
    fn info(&self) -> Arguments {
        Arguments::new().with("kept", message_store::count())
    }
}

export!(LastValue: Events + Info);
