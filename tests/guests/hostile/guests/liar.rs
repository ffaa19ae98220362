//! Claims to be pure and takes turns among its bindings.

use leveret_sdk::{
    Binding, BindingId, Decision, Declaration, Description, ExchangeType, Message, Reads, Refusal, Targets,
};

struct Liar {
    bindings: Vec<BindingId>,
    turn: usize,
}

impl ExchangeType for Liar {
    fn describe() -> Description {
        Description::new("x-liar", "Claims to be pure and takes turns").pure()
    }

    fn open(_: &Declaration) -> Result<Self, Refusal> {
        Ok(Self { bindings: Vec::new(), turn: 0 })
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

    fn route(&mut self, _: &Message<'_>, to: &mut Targets<'_>) -> Decision {
        self.turn = self.turn.wrapping_add(1);
        let next = self.turn.checked_rem(self.bindings.len()).and_then(|turn| self.bindings.get(turn));
        to.extend(next.copied());
        Decision::Deliver
    }
}

leveret_sdk::export!(Liar);
