//! The direct exchange type: to the bindings whose key is the routing key.
//!
//! *Not here:* anything but that rule; the bindings' destinations are the broker's.
//!
//! *In and out:* reads the routing key; names the bindings with that very key, arguments ignored.
//!
//! *Invariants:* pure, and each binding decides for itself. Keys are bytes.

use leveret_sdk::{
    Binding, BindingId, BindingIndex, Decision, Declaration, Description, ExchangeType, Few, Mark, Marks,
    Message, Reads, Refusal, Targets, binding_index::ShortKey,
};

/// A direct exchange.
#[derive(Debug, Default)]
pub struct Direct {
    /// By keys that are short, as most are: those are found quickest.
    short: BindingIndex<ShortKey>,
    long: BindingIndex,
}

impl ExchangeType for Direct {
    fn describe() -> Description {
        Description::new("direct", "To the bindings whose key is the routing key")
            .pure()
            .independent_bindings()
    }

    fn open(_: &Declaration) -> Result<Self, Refusal> {
        Ok(Self::default())
    }

    fn reads(&self) -> Reads {
        Reads::nothing().routing_key()
    }

    fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
        match ShortKey::of(&binding.routing_key) {
            Some(key) => self.short.insert(key, binding.id),
            None => self.long.insert(binding.routing_key, binding.id),
        }
        Ok(())
    }

    fn unbind(&mut self, id: BindingId) {
        if self.short.remove(id).is_none() {
            self.long.remove(id);
        }
    }

    #[inline(always)]
    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) -> Decision {
        let key = message.routing_key();
        to.extend_from_slice(match ShortKey::of(key) {
            Some(key) => self.short.get(&key),
            None => self.long.get(key),
        });
        Decision::Deliver
    }

    const ROUTES_AT_ONCE: bool = true;

    /// Short keys, with one binding or none.
    #[inline(always)]
    fn route_at_once(&mut self, message: &Message<'_>, to: &mut Few<'_>) -> bool {
        let key = ShortKey::of(message.routing_key());
        key.is_some_and(|key| to.push_one_of(self.short.get_at_once(&key)))
    }
}

impl Marks for Direct {
    fn mark(&self, binding: &Binding) -> Mark {
        Mark::routing_key(&binding.routing_key)
    }
}

leveret_sdk::export!(Direct: Marks);

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_sdk::{
        Arguments,
        testkit::{Exchange, Routed, TestMessage},
    };

    #[test]
    fn a_message_goes_to_the_bindings_of_its_key() {
        let mut exchange = Exchange::<Direct>::open(Arguments::new()).unwrap();
        let a = exchange.bind("a", Arguments::new()).unwrap();
        let also_a = exchange.bind("a", Arguments::new().with("foo", "bar")).unwrap();
        let empty = exchange.bind("", Arguments::new()).unwrap();
        let bytes = exchange.bind([0xff, 0x00], Arguments::new()).unwrap();
        let longest_short = exchange.bind([b'k'; ShortKey::BYTES_MAX], Arguments::new()).unwrap();
        let shortest_long = exchange.bind([b'k'; ShortKey::BYTES_MAX + 1], Arguments::new()).unwrap();
        assert_eq!(exchange.route("a"), Routed::Deliver(vec![a, also_a]));
        assert_eq!(exchange.route(""), Routed::Deliver(vec![empty]));
        assert_eq!(exchange.route([0xff, 0x00]), Routed::Deliver(vec![bytes]));
        assert_eq!(exchange.route("A"), Routed::Deliver(vec![]));
        assert_eq!(exchange.route([b'k'; ShortKey::BYTES_MAX]), Routed::Deliver(vec![longest_short]));
        assert_eq!(exchange.route([b'k'; ShortKey::BYTES_MAX + 1]), Routed::Deliver(vec![shortest_long]));
        exchange.unbind(shortest_long);
        assert_eq!(exchange.route([b'k'; ShortKey::BYTES_MAX + 1]), Routed::Deliver(vec![]));
        assert!(["a", ""].iter().all(|key| exchange.marks_hold(&TestMessage::new(key))));
        exchange.unbind(a);
        assert_eq!(exchange.route("a"), Routed::Deliver(vec![also_a]));
        exchange.unbind(also_a);
        assert_eq!(exchange.route("a"), Routed::Deliver(vec![]));
    }

    #[test]
    fn wildcards_mean_nothing_here() {
        let mut exchange = Exchange::<Direct>::open(Arguments::new()).unwrap();
        let hash = exchange.bind("#", Arguments::new()).unwrap();
        assert_eq!(exchange.route("a"), Routed::Deliver(vec![]));
        assert_eq!(exchange.route("#"), Routed::Deliver(vec![hash]));
    }
}
