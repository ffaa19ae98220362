//! The exchange type `x-recent-history`: a queue that is bound gets the latest messages first.
//!
//! Arguments and header are those of RabbitMQ's plugin of this name: `x-recent-history-length` says how many
//! messages are kept, [`LENGTH_DEFAULT`] unless given; a message whose header `x-recent-history-no-store` is
//! true is delivered and not kept. It routes like `fanout`, unless `x-inner-type` says `direct` or `topic`:
//! then a binding gets the latest messages that it would have got.
//!
//! *Not here:* the messages, which the broker keeps, with the exchange and as durable as it; routing.
//!
//! *In and out:* reads the header and, where keys matter, the routing key; delegates each message. A new
//! binding is answered with the messages for it.
//!
//! *Invariants:* a binding gets at most so many messages, the latest ones, in their order. A message is kept if
//! it is accepted, whether anything was bound or not. Where there is no room the oldest of its key go, so that a
//! history may be short; a length that can never fit is refused. A message for which there is none even then is delivered all the same, and what was
//! kept under its key is forgotten: no history has a gap.

use leveret_sdk::{
    Arguments, Binding, Decision, Declaration, Description, Events, ExchangeType, Info, InnerType, Kind,
    Message, Reads, Refusal, StoredId, Targets, Value, message_store, metric,
};

/// How many messages are kept where nobody says.
pub const LENGTH_DEFAULT: u32 = 20;

const LENGTH: &str = "x-recent-history-length";
const NO_STORE: &str = "x-recent-history-no-store";
const INNER_TYPE: &str = "x-inner-type";
/// Counts messages for which there was no room.
const NOT_KEPT: &str = "not-kept";

/// Which of the messages that are kept are for a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// All: they are kept under one key.
    All,
    /// Those of the binding's key.
    SameKey,
    /// Those whose keys the binding's pattern matches.
    Pattern,
}

/// An exchange with a history.
#[derive(Debug)]
pub struct RecentHistory {
    length: u32,
    choice: Choice,
    inner: InnerType,
}

impl ExchangeType for RecentHistory {
    fn describe() -> Description {
        Description::new("x-recent-history", "Gives new bindings the latest messages")
            .argument(LENGTH, Kind::Integer, "how many messages are kept: 20 unless given")
            .argument(INNER_TYPE, Kind::Text, "what routes: fanout (unless given), direct or topic")
    }

    fn open(declaration: &Declaration) -> Result<Self, Refusal> {
        let arguments = &declaration.arguments;
        let length = match arguments.optional::<i64>(LENGTH)?.map(u32::try_from) {
            None => LENGTH_DEFAULT,
            Some(Ok(length @ 1..)) => match message_store::quota() {
                quota if u64::from(length) > quota => {
                    let what = format!(
                        "must be at most {quota}: more messages do not fit into the plugin's quota here (state-entries, \
                         state-mib)"
                    );
                    return Err(Refusal::invalid_argument(LENGTH, what));
                }
                _ => length,
            },
            Some(_) => {
                return Err(Refusal::invalid_argument(LENGTH, "must be a positive integer of 32 bits"));
            }
        };
        let name = arguments.optional(INNER_TYPE)?.unwrap_or("fanout");
        let choice = match name {
            "fanout" => Choice::All,
            "direct" => Choice::SameKey,
            "topic" => Choice::Pattern,
            // What other types would have sent to a binding is not known here.
            _ => return Err(Refusal::invalid_argument(INNER_TYPE, "must be fanout, direct or topic")),
        };
        let own = [LENGTH.as_bytes(), INNER_TYPE.as_bytes()];
        let others = arguments.iter().filter(|argument| !own.contains(&argument.name()));
        let others = others.fold(Arguments::new(), |others, argument| {
            others.with(argument.name(), argument.value().unwrap_or(Value::Void))
        });
        Ok(Self { length, choice, inner: InnerType::new(name).with_arguments(others) })
    }

    fn reads(&self) -> Reads {
        let reads = Reads::nothing().header(NO_STORE);
        if self.choice == Choice::All { reads } else { reads.routing_key() }
    }

    fn inner(&self) -> Option<InnerType> {
        Some(self.inner.clone())
    }

    fn wants_bindings(&self) -> bool {
        false
    }

    fn route(&mut self, message: &Message<'_>, _: &mut Targets<'_>) -> Decision {
        let key = if self.choice == Choice::All { &[] } else { message.routing_key() };
        if message.header(NO_STORE) != Some(Value::Boolean(true))
            && let Err(message_store::Error::Quota) = message_store::keep(key, self.length)
        {
            metric::count(NOT_KEPT, 1);
            // What else it may answer is that there is nothing to forget.
            let _ = message_store::forget(key);
        }
        Decision::Delegate
    }
}

impl Events for RecentHistory {
    fn bound(&mut self, binding: &Binding) -> Vec<StoredId> {
        match self.choice {
            Choice::All => message_store::of_key([], self.length),
            Choice::SameKey => message_store::of_key(&binding.routing_key, self.length),
            Choice::Pattern => message_store::matching(&binding.routing_key, self.length),
        }
    }
}

impl Info for RecentHistory {
    fn info(&self) -> Arguments {
        Arguments::new().with("kept", message_store::count()).with("length", self.length)
    }
}

leveret_sdk::export!(RecentHistory: Events + Info);

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_sdk::testkit::{Exchange, Routed, TestMessage};

    fn open(arguments: Arguments) -> Exchange<RecentHistory> {
        Exchange::open(arguments).unwrap()
    }

    fn of_length(length: i64) -> Arguments {
        Arguments::new().with(LENGTH, length)
    }

    fn publish(exchange: &mut Exchange<RecentHistory>, key: &str, body: &str) {
        assert_eq!(exchange.route_message(&message(key, body)), Routed::Delegate);
    }

    fn message(key: &str, body: &str) -> TestMessage {
        TestMessage::new(key).body(body)
    }

    fn history(exchange: &mut Exchange<RecentHistory>, key: &str) -> Vec<TestMessage> {
        exchange.bind_and_tell(key, Arguments::new()).unwrap().1
    }

    #[test]
    fn a_binding_gets_the_latest_in_order_whatever_its_key() {
        let mut exchange = open(of_length(2));
        for (key, body) in [("a", "1"), ("b", "2"), ("c", "3")] {
            publish(&mut exchange, key, body);
        }
        let latest = [message("b", "2"), message("c", "3")];
        assert_eq!(history(&mut exchange, "z"), latest);
        exchange.restart().unwrap();
        assert_eq!(history(&mut exchange, ""), latest);
        assert_eq!(exchange.info(), Arguments::new().with("kept", 2).with("length", 2));
        assert_eq!(exchange.inner(), Some(InnerType::new("fanout")));
    }

    #[test]
    fn twenty_unless_told_otherwise() {
        let mut exchange = open(Arguments::new());
        (0..30).for_each(|_| publish(&mut exchange, "k", "body"));
        assert_eq!(history(&mut exchange, "k").len(), 20);
    }

    #[test]
    fn what_says_so_is_not_kept() {
        let mut exchange = open(of_length(9));
        for value in [Value::Boolean(true), Value::Boolean(false), Value::Text("true"), Value::Void] {
            let message = TestMessage::new("k").header(NO_STORE, value).body("body");
            assert_eq!(exchange.route_message(&message), Routed::Delegate);
        }
        assert_eq!(history(&mut exchange, "k").len(), 3);
    }

    #[test]
    fn where_keys_matter_a_binding_gets_the_latest_that_it_would_have_got() {
        let published = [("a.x", "1"), ("b.x", "2"), ("a.x", "3"), ("a.x", "4"), ("a.y", "5")];
        for (inner, binding, expected) in [
            ("direct", "a.x", &published[2..4]),
            ("topic", "a.*", &published[3..]),
            ("topic", "b.#", &published[1..2]),
            ("topic", "c", &[]),
        ] {
            let mut exchange = open(of_length(2).with(INNER_TYPE, inner).with("x-more", 1));
            published.iter().for_each(|(key, body)| publish(&mut exchange, key, body));
            let expected: Vec<_> = expected.iter().map(|(key, body)| message(key, body)).collect();
            assert_eq!(history(&mut exchange, binding), expected, "{inner} {binding}");
            let inner = InnerType::new(inner).with_arguments(Arguments::new().with("x-more", 1));
            assert_eq!(exchange.inner(), Some(inner));
        }
    }

    #[test]
    fn without_room_the_oldest_go_and_what_cannot_be_kept_goes_on() {
        let mut exchange = open(of_length(9).with(INNER_TYPE, "direct"));
        ["1", "2"].iter().for_each(|body| publish(&mut exchange, "k", body));
        exchange.host().set_full(true);
        publish(&mut exchange, "k", "3");
        publish(&mut exchange, "other", "4");
        assert_eq!(exchange.host().counter(NOT_KEPT), 1);
        assert_eq!(history(&mut exchange, "k"), [message("k", "2"), message("k", "3")]);
        exchange.host().set_full(false);
        publish(&mut exchange, "k", "5");
        assert_eq!(history(&mut exchange, "k").len(), 3);
        assert_eq!(history(&mut exchange, "other"), []);
    }

    #[test]
    fn arguments_that_make_no_sense_are_refused() {
        let refused = |arguments| Exchange::<RecentHistory>::open(arguments).err().unwrap().to_string();
        for length in [0, -1, 1 << 32] {
            assert!(refused(of_length(length)).contains(LENGTH));
        }
        let too_long = refused(of_length(1_000_000));
        assert!(too_long.contains(LENGTH) && too_long.contains("quota"), "{too_long}");
        assert!(refused(Arguments::new().with(LENGTH, "9")).contains(LENGTH));
        assert!(refused(Arguments::new().with(INNER_TYPE, "headers")).contains(INNER_TYPE));
    }
}
