//! Components that behave, for the tests of reload, of WASI and of the contract's forms.
//!
//! ```text
//! cargo build --release --target wasm32-wasip2 -p leveret-guests-peaceful --examples
//! ```
//! makes `<target>/wasm32-wasip2/release/examples/<name>.wasm` of each file in `guests/`; the file's
//! header says what it is for. Here is what they share.

pub mod busy;

use leveret_sdk::{
    Binding, BindingId, BindingIndex, Decision, Declaration, Description, ExchangeType, Message, Reads,
    Refusal, Targets,
};

/// To the bindings whose key is the routing key with `.v<VERSION>` behind it. Bind one queue with
/// `key.v1` and one with `key.v2`: each message published with `key` goes to exactly one of them, and
/// which one says which version routed it.
#[derive(Debug)]
pub struct Versioned<const VERSION: u8> {
    bindings: BindingIndex,
    /// The key looked for, kept to save its allocation.
    key: Vec<u8>,
}

impl<const VERSION: u8> ExchangeType for Versioned<VERSION> {
    fn describe() -> Description {
        Description::new("x-versioned", "Shows which version routed").pure().independent_bindings()
    }

    fn open(_: &Declaration) -> Result<Self, Refusal> {
        Ok(Self { bindings: BindingIndex::new(), key: Vec::new() })
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
        self.key.clear();
        self.key.extend_from_slice(message.routing_key());
        self.key.extend_from_slice(&[b'.', b'v', b'0' + VERSION]);
        to.extend_from_slice(self.bindings.get(self.key.as_slice()));
        Decision::Deliver
    }
}

/// To the binding that was made last, whatever the message: no work at all.
#[derive(Debug, Default)]
pub struct Fixed {
    bindings: Vec<BindingId>,
}

impl ExchangeType for Fixed {
    fn describe() -> Description {
        Description::new("x-fixed", "To the binding made last").pure()
    }

    fn open(_: &Declaration) -> Result<Self, Refusal> {
        Ok(Self::default())
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
        to.extend(self.bindings.last().copied());
        Decision::Deliver
    }
}

/// To its bindings in turn, and says so: nothing of it can be remembered.
#[derive(Debug, Default)]
pub struct Turns {
    bindings: Vec<BindingId>,
    turn: usize,
}

impl ExchangeType for Turns {
    fn describe() -> Description {
        Description::new("x-turns", "To its bindings in turn")
    }

    fn open(_: &Declaration) -> Result<Self, Refusal> {
        Ok(Self::default())
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

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_sdk::{
        Arguments,
        testkit::{Exchange, Routed},
    };

    #[test]
    fn each_version_has_its_own_binding() {
        let mut one = Exchange::<Versioned<1>>::open(Arguments::new()).unwrap();
        let mut two = Exchange::<Versioned<2>>::open(Arguments::new()).unwrap();
        let keys = || ["key.v1", "key.v2"].map(|key| (key, Arguments::new()));
        let ids = one.bind_all(keys()).unwrap();
        assert_eq!(two.bind_all(keys()), Ok(ids.clone()));
        assert_eq!(one.route("key"), Routed::Deliver(vec![ids[0]]));
        assert_eq!(two.route("key"), Routed::Deliver(vec![ids[1]]));
    }
}
