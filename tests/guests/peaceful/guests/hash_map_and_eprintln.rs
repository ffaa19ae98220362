//! `x-hash-map`: like direct, with the standard `HashMap`, which wants a random seed of WASI, and with
//! lines on standard output and standard error, which an ordinary author's first plugin has too.

use leveret_sdk::{
    Binding, BindingId, Decision, Declaration, Description, ExchangeType, Message, Reads, Refusal, Targets,
};
use std::collections::HashMap;

#[derive(Default)]
struct HashMapExchange {
    bindings: HashMap<Vec<u8>, Vec<BindingId>>,
}

impl ExchangeType for HashMapExchange {
    fn describe() -> Description {
        println!("described");
        Description::new("x-hash-map", "Direct, with std's HashMap and eprintln!")
            .pure()
            .independent_bindings()
    }

    fn open(declaration: &Declaration) -> Result<Self, Refusal> {
        eprintln!("opened {}", String::from_utf8_lossy(&declaration.name));
        Ok(Self::default())
    }

    fn reads(&self) -> Reads {
        Reads::nothing().routing_key()
    }

    fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
        eprintln!("bound {}", String::from_utf8_lossy(&binding.routing_key));
        self.bindings.entry(binding.routing_key).or_default().push(binding.id);
        Ok(())
    }

    fn unbind(&mut self, id: BindingId) {
        self.bindings.values_mut().for_each(|ids| ids.retain(|bound| *bound != id));
    }

    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) -> Decision {
        eprintln!("routed {}", String::from_utf8_lossy(message.routing_key()));
        to.extend_from_slice(self.bindings.get(message.routing_key()).map_or(&[], Vec::as_slice));
        Decision::Deliver
    }
}

leveret_sdk::export!(HashMapExchange);
