//! The exchange type `x-lvc`: a queue that is bound gets the last message of its key first.
//!
//! As RabbitMQ's last value cache it routes like `direct`. With `x-inner-type` it routes like `topic` or
//! `fanout`, and a binding gets the last message of each key that it would have got.
//!
//! *Not here:* the messages, which the broker keeps, with the exchange and as durable as it; routing.
//!
//! *In and out:* reads the routing key; delegates each message. A new binding is answered with the messages for
//! it, in the order in which they were published.
//!
//! *Invariants:* of each key one message is kept, the last that was accepted, whether anything was bound or
//! not; it takes the place of the one before. One for which there is no room even so is delivered all the same,
//! and what was kept of its key is forgotten: no binding gets a value that is not the last.

use leveret_sdk::{
    Arguments, Binding, Decision, Declaration, Description, Events, ExchangeType, Info, InnerType, Kind,
    Message, Reads, Refusal, StoredId, Targets, Value, message_store, metric,
};

const INNER_TYPE: &str = "x-inner-type";
/// Counts messages for which there was no room.
const NOT_KEPT: &str = "not-kept";

/// Which of the messages that are kept are for a binding.
#[derive(Clone, Copy, Debug)]
enum Choice {
    All,
    /// That of the binding's key.
    SameKey,
    /// Those whose keys the binding's pattern matches.
    Pattern,
}

/// An exchange that keeps last values.
#[derive(Debug)]
pub struct LastValueCache {
    choice: Choice,
    inner: InnerType,
}

impl ExchangeType for LastValueCache {
    fn describe() -> Description {
        Description::new("x-lvc", "Gives new bindings the last message of their key").argument(
            INNER_TYPE,
            Kind::Text,
            "what routes: direct (unless given), topic or fanout",
        )
    }

    fn open(declaration: &Declaration) -> Result<Self, Refusal> {
        let arguments = &declaration.arguments;
        let name = arguments.optional(INNER_TYPE)?.unwrap_or("direct");
        let choice = match name {
            "direct" => Choice::SameKey,
            "topic" => Choice::Pattern,
            "fanout" => Choice::All,
            // What other types would have sent to a binding is not known here.
            _ => return Err(Refusal::invalid_argument(INNER_TYPE, "must be direct, topic or fanout")),
        };
        let others = arguments.iter().filter(|argument| argument.name() != INNER_TYPE.as_bytes());
        let others = others.fold(Arguments::new(), |others, argument| {
            others.with(argument.name(), argument.value().unwrap_or(Value::Void))
        });
        Ok(Self { choice, inner: InnerType::new(name).with_arguments(others) })
    }

    fn reads(&self) -> Reads {
        Reads::nothing().routing_key()
    }

    fn inner(&self) -> Option<InnerType> {
        Some(self.inner.clone())
    }

    fn wants_bindings(&self) -> bool {
        false
    }

    fn route(&mut self, message: &Message<'_>, _: &mut Targets<'_>) -> Decision {
        let key = message.routing_key();
        if let Err(message_store::Error::Quota) = message_store::keep(key, 1) {
            metric::count(NOT_KEPT, 1);
            // What else it may answer is that there is nothing to forget.
            let _ = message_store::forget(key);
        }
        Decision::Delegate
    }
}

impl Events for LastValueCache {
    fn bound(&mut self, binding: &Binding) -> Vec<StoredId> {
        match self.choice {
            Choice::All => message_store::matching("#", u32::MAX),
            Choice::SameKey => message_store::of_key(&binding.routing_key, 1),
            Choice::Pattern => message_store::matching(&binding.routing_key, u32::MAX),
        }
    }
}

impl Info for LastValueCache {
    fn info(&self) -> Arguments {
        Arguments::new().with("kept", message_store::count())
    }
}

leveret_sdk::export!(LastValueCache: Events + Info);

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_sdk::testkit::{Exchange, Routed, TestMessage};

    fn open(inner: Option<&str>) -> Exchange<LastValueCache> {
        let arguments = inner.map_or_else(Arguments::new, |inner| Arguments::new().with(INNER_TYPE, inner));
        let mut exchange = Exchange::open(arguments).unwrap();
        for (key, body) in [("a.x", "old"), ("a.y", "y"), ("b.x", "b"), ("a.x", "x")] {
            publish(&mut exchange, key, body);
        }
        exchange
    }

    fn publish(exchange: &mut Exchange<LastValueCache>, key: &str, body: &str) {
        assert_eq!(exchange.route_message(&TestMessage::new(key).body(body)), Routed::Delegate);
    }

    fn last(exchange: &mut Exchange<LastValueCache>, key: &str) -> Vec<TestMessage> {
        exchange.bind_and_tell(key, Arguments::new()).unwrap().1
    }

    fn message(key: &str, body: &str) -> TestMessage {
        TestMessage::new(key).body(body)
    }

    #[test]
    fn a_binding_gets_the_last_message_of_its_key_and_no_other() {
        let mut exchange = open(None);
        assert_eq!(last(&mut exchange, "a.x"), [message("a.x", "x")]);
        assert_eq!(last(&mut exchange, "a.*"), []);
        exchange.restart().unwrap();
        assert_eq!(last(&mut exchange, "a.y"), [message("a.y", "y")]);
        assert_eq!(exchange.info(), Arguments::new().with("kept", 3));
        assert_eq!(exchange.inner(), Some(InnerType::new("direct")));
    }

    #[test]
    fn a_pattern_gets_the_last_message_of_each_key_in_their_order() {
        let mut exchange = open(Some("topic"));
        assert_eq!(last(&mut exchange, "a.*"), [message("a.y", "y"), message("a.x", "x")]);
        assert_eq!(last(&mut exchange, "#").len(), 3);
        assert_eq!(last(&mut exchange, "b.x"), [message("b.x", "b")]);
        assert_eq!(last(&mut exchange, "c.#"), []);
    }

    #[test]
    fn a_fanout_gets_all() {
        let mut exchange = open(Some("fanout"));
        assert_eq!(last(&mut exchange, "whatever").len(), 3);
    }

    #[test]
    fn without_room_a_value_takes_the_place_of_the_one_before_and_a_new_key_goes_on() {
        let mut exchange = open(None);
        exchange.host().set_full(true);
        publish(&mut exchange, "a.x", "newer");
        publish(&mut exchange, "new", "value");
        assert_eq!(exchange.host().counter(NOT_KEPT), 1);
        assert_eq!(last(&mut exchange, "a.x"), [message("a.x", "newer")]);
        assert_eq!(last(&mut exchange, "new"), []);
        assert_eq!(last(&mut exchange, "a.y"), [message("a.y", "y")]);
    }

    #[test]
    fn arguments_are_passed_on_and_other_types_refused() {
        let arguments = Arguments::new().with(INNER_TYPE, "topic").with("x-more", 1);
        let exchange = Exchange::<LastValueCache>::open(arguments).unwrap();
        let inner = InnerType::new("topic").with_arguments(Arguments::new().with("x-more", 1));
        assert_eq!(exchange.inner(), Some(inner));
        let refused = Exchange::<LastValueCache>::open(Arguments::new().with(INNER_TYPE, "headers"));
        assert!(refused.err().is_some_and(|refusal| refusal.to_string().contains(INNER_TYPE)));
    }
}
