//! An exchange type of one's own: `x-longest-prefix`.
//!
//! A message goes to the bindings whose key is the longest prefix of its routing key. So a general
//! handler and exceptions from it need no list of what the general one leaves out:
//!
//! ```text
//! binding key        routing key            goes to
//! ""                 order.eu.17            "order.eu."
//! "order."           order.us.4             "order."
//! "order.eu."        refund.9               ""
//! ```
//! A topic exchange would send the first message to all three. Build it, and put it where a running
//! broker looks for plugins; the type is there at once, with no restart:
//!
//! ```text
//! cargo build --release --target wasm32-wasip2 -p example-02-exchange-type
//! cp target/wasm32-wasip2/release/example_02_exchange_type.wasm <plugins directory>/
//! ```
use leveret_sdk::*;

/// Which bindings have which key.
struct LongestPrefix(BindingIndex);

impl ExchangeType for LongestPrefix {
    fn describe() -> Description {
        // Pure: the broker may remember decisions. Not `independent_bindings`, because a new binding
        // with a longer prefix takes messages away from others.
        Description::new("x-longest-prefix", "To the longest prefix of the routing key").pure()
    }
    fn open(_exchange: &Declaration) -> Result<Self, Refusal> {
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
        let key = message.routing_key();
        let mut longest_first = (0..=key.len()).rev().map(|length| self.0.get(&key[..length]));
        to.extend_from_slice(longest_first.find(|ids| !ids.is_empty()).unwrap_or_default());
        Decision::Deliver
    }
}

leveret_sdk::export!(LongestPrefix);

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_sdk::testkit::{Exchange, Routed};

    #[test]
    fn the_longest_prefix_wins() -> Result<(), Refusal> {
        let mut exchange = Exchange::<LongestPrefix>::open(Arguments::new())?;
        let all = exchange.bind("", Arguments::new())?;
        let orders = exchange.bind("order.", Arguments::new())?;
        let europe = exchange.bind("order.eu.", Arguments::new())?;
        assert_eq!(exchange.route("order.eu.17"), Routed::Deliver(vec![europe]));
        assert_eq!(exchange.route("order.us.4"), Routed::Deliver(vec![orders]));
        assert_eq!(exchange.route("refund.9"), Routed::Deliver(vec![all]));

        exchange.unbind(europe);
        assert_eq!(exchange.route("order.eu.17"), Routed::Deliver(vec![orders]));
        exchange.unbind(all);
        assert_eq!(exchange.route("refund.9"), Routed::Deliver(vec![]));
        Ok(())
    }
}
