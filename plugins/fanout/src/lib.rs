//! The fanout exchange type: to every binding.
//!
//! *Not here:* anything but that rule; that a queue bound twice gets one copy is the broker's rule.
//!
//! *In and out:* reads nothing, so the broker asks once and remembers; names all bindings.
//!
//! *Invariants:* pure, and each binding decides for itself.

use leveret_sdk::{
    Binding, BindingId, BindingIndex, Decision, Declaration, Description, ExchangeType, Message, Reads,
    Refusal, Targets,
};

/// A fanout exchange.
#[derive(Debug, Default)]
pub struct Fanout {
    bindings: BindingIndex<()>,
}

impl ExchangeType for Fanout {
    fn describe() -> Description {
        Description::new("fanout", "To every binding").pure().independent_bindings()
    }

    fn open(_: &Declaration) -> Result<Self, Refusal> {
        Ok(Self::default())
    }

    fn reads(&self) -> Reads {
        Reads::nothing()
    }

    fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
        self.bindings.insert((), binding.id);
        Ok(())
    }

    fn unbind(&mut self, id: BindingId) {
        self.bindings.remove(id);
    }

    fn route(&mut self, _: &Message<'_>, to: &mut Targets<'_>) -> Decision {
        to.extend_from_slice(self.bindings.get(&()));
        Decision::Deliver
    }
}

leveret_sdk::export!(Fanout);

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_sdk::{
        Arguments,
        testkit::{Exchange, Routed},
    };

    #[test]
    fn a_message_goes_to_every_binding() {
        let mut exchange = Exchange::<Fanout>::open(Arguments::new()).unwrap();
        assert_eq!(exchange.route("a"), Routed::Deliver(vec![]));
        let a = exchange.bind("a", Arguments::new()).unwrap();
        let b = exchange.bind("b", Arguments::new().with("foo", "bar")).unwrap();
        assert_eq!(exchange.route("c"), Routed::Deliver(vec![a, b]));
        exchange.unbind(a);
        assert_eq!(exchange.route("a"), Routed::Deliver(vec![b]));
    }

    #[test]
    fn nothing_of_a_message_is_read() {
        let exchange = Exchange::<Fanout>::open(Arguments::new()).unwrap();
        assert_eq!(*exchange.reads(), Reads::nothing());
    }
}
