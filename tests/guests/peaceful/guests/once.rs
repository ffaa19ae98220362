//! `x-once`: every binding gets the first message of each routing key; the others are dropped. It keeps the
//! keys that it has seen outside its instances.

use leveret_sdk::{key_value::Space, *};

struct Once {
    bindings: Vec<BindingId>,
}

impl ExchangeType for Once {
    fn describe() -> Description {
        Description::new("x-once", "The first message of each routing key")
    }

    fn open(_: &Declaration) -> Result<Self, Refusal> {
        Ok(Self { bindings: Vec::new() })
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
        match Space::Memory.put_if_absent(message.routing_key(), "", None) {
            Ok(true) => {
                to.extend_from_slice(&self.bindings);
                Decision::Deliver
            }
            Ok(false) => Decision::Drop("seen before".into()),
            Err(error) => error.into(),
        }
    }
}

export!(Once);
