//! `x-message-deduplication`: what counts as seen and what does not, for how long, and in front of which types.

use crate::{BINARY, Fields, Peer, Sent, has_passed, integer, session::on_broker, text};
use futures_util::future::join;
use lapin::{
    BasicProperties, Confirmation,
    options::BasicPublishOptions,
    types::{AMQPValue, ShortString},
};
use leveret_testkit::{Broker, ScratchDirectory, guests};
use std::{collections::BTreeSet, time::Instant};

const TYPE: &str = "x-message-deduplication";
const YES: AMQPValue = AMQPValue::Boolean(true);

fn id(value: &str) -> [(&'static str, AMQPValue); 1] {
    [("x-deduplication-header", text(value))]
}

/// Sends a message that nobody is to send back or refuse.
async fn sent(peer: &Peer, exchange: &ShortString, headers: Fields<'_>, body: &str) {
    assert_eq!(peer.send(exchange, "k", headers, body).await, Sent::Accepted, "{body}");
}

/// Publishes all before the first is confirmed, a body for each id.
async fn publish_at_once(peer: &Peer, exchange: &ShortString, ids: impl IntoIterator<Item = String>) {
    let mut confirms = Vec::new();
    for body in ids {
        let properties = BasicProperties::default().with_headers(crate::table(&id(&body)));
        let options = BasicPublishOptions::default();
        let published =
            peer.channel.basic_publish(exchange.clone(), "k".into(), options, body.as_bytes(), properties);
        confirms.push(published.await.unwrap());
    }
    for confirm in confirms {
        assert_eq!(confirm.await.unwrap(), Confirmation::Ack(None));
    }
}

#[test]
fn as_a_type_it_is_a_fanout_without_duplicates() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let exchange = peer.exchange(TYPE, &[("x-cache-size", text("100"))]).await;
        let queues = [peer.bound(&exchange, "").await, peer.bound(&exchange, "else").await];
        for headers in [&id("a")[..], &id("a"), &[("x-deduplication-header", integer(1))], &[], &[]] {
            sent(&peer, &exchange, headers, "body").await;
        }
        for queue in &queues {
            assert_eq!(peer.drain(queue).await.len(), 4, "one of five is a duplicate");
        }
        let arguments = [("x-cache-size", integer(9)), ("x-inner-type", text("topic"))];
        let exchange = peer.exchange(TYPE, &arguments).await;
        let queue = peer.bound(&exchange, "k.#").await;
        assert_eq!(peer.send(&exchange, "other", &id("a"), "unroutable").await, Sent::Returned);
        sent(&peer, &exchange, &id("a"), "routed").await;
        sent(&peer, &exchange, &id("a"), "duplicate").await;
        assert_eq!(peer.drain(&queue).await, ["routed"]);
    });
}

#[test]
fn what_was_not_accepted_was_not_seen() {
    let broker = Broker::builder(BINARY).plugin(guests::component("traps_in_route")).start();
    on_broker(&broker, async |broker| {
        let peer = Peer::connect(broker).await;
        // Unroutable, then returned to its publisher.
        let exchange = peer.exchange("topic", &[("x-message-deduplication", YES)]).await;
        assert_eq!(peer.send(&exchange, "k", &id("a"), "returned").await, Sent::Returned);
        let queue = peer.bound(&exchange, "k").await;
        sent(&peer, &exchange, &id("a"), "again").await;
        sent(&peer, &exchange, &id("a"), "duplicate").await;
        assert_eq!(peer.drain(&queue).await, ["again"]);
        // Refused by the type behind.
        let exchange = peer.exchange("x-traps-in-route", &[("x-message-deduplication", YES)]).await;
        let queue = peer.bound(&exchange, "k").await;
        assert_eq!(peer.send(&exchange, "trap", &id("a"), "refused").await, Sent::Refused);
        sent(&peer, &exchange, &id("a"), "again").await;
        sent(&peer, &exchange, &id("a"), "duplicate").await;
        assert_eq!(peer.drain(&queue).await, ["again"]);
        // Refused by an exchange further on.
        let (exchange, further) = (peer.exchange(TYPE, &[("x-cache-size", integer(9))]).await, exchange);
        let (arguments, options) = (crate::table(&[]), Default::default());
        let bound =
            peer.channel.exchange_bind(further.clone(), exchange.clone(), "".into(), options, arguments);
        bound.await.unwrap();
        assert_eq!(peer.send(&exchange, "trap", &id("b"), "refused").await, Sent::Refused);
        sent(&peer, &exchange, &id("b"), "again").await;
        assert_eq!(peer.drain(&queue).await, ["again"]);
    });
}

/// What a transaction publishes is seen when it is committed: not while it is open, not when it is rolled back, and
/// of a commit that is refused only what was accepted.
#[test]
fn what_is_rolled_back_was_not_seen_and_what_is_committed_was() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let exchange = peer.exchange("direct", &[("x-message-deduplication", YES)]).await;
        let queue = peer.bound(&exchange, "k").await;
        let full = [("x-max-length", integer(0)), ("x-overflow", text("reject-publish"))];
        let (options, name) = (Default::default(), leveret_testkit::unique_name("full"));
        let declared = peer.channel.queue_declare(name.as_str().into(), options, crate::table(&full));
        let full = declared.await.unwrap().name().clone();
        peer.bind(&full, &exchange, "full").await;
        let in_transaction = async |keys: [&str; 2], ids: [&str; 2]| {
            let channel = peer.connection.create_channel().await.unwrap();
            channel.tx_select().await.unwrap();
            for (key, value) in keys.into_iter().zip(ids) {
                let properties = BasicProperties::default().with_headers(crate::table(&id(value)));
                let (options, body) = (BasicPublishOptions::default(), value.as_bytes());
                let sent = channel.basic_publish(exchange.clone(), key.into(), options, body, properties);
                sent.await.unwrap();
            }
            channel
        };
        let channel = in_transaction(["k", "k"], ["a", "b"]).await;
        channel.tx_rollback().await.unwrap();
        assert!(peer.drain(&queue).await.is_empty());
        sent(&peer, &exchange, &id("a"), "after a roll-back").await;
        let channel = in_transaction(["k", "k"], ["b", "b"]).await;
        channel.tx_commit().await.unwrap();
        sent(&peer, &exchange, &id("b"), "after a commit").await;
        assert_eq!(peer.drain(&queue).await, ["after a roll-back", "b"]);
        // Of two the second is not accepted.
        let channel = in_transaction(["k", "full"], ["c", "d"]).await;
        let (code, text) = crate::session::refusal(&channel.tx_commit().await.unwrap_err());
        assert_eq!(code, 406, "{text}");
        for value in ["c", "d"] {
            sent(&peer, &exchange, &id(value), "after a commit that was refused").await;
        }
        assert_eq!(peer.drain(&queue).await, ["c", "after a commit that was refused"]);
    });
}

#[test]
fn a_value_is_forgotten_after_its_time_and_not_before() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let of_exchange = [("x-cache-size", integer(100)), ("x-cache-ttl", integer(60))];
        let without = [("x-cache-size", integer(100))];
        let of_message = [id("a")[0].clone(), ("x-cache-ttl", integer(60))];
        for (arguments, headers) in [(&of_exchange[..], &id("a")[..]), (&without, &of_message)] {
            let exchange = peer.exchange(TYPE, arguments).await;
            let queue = peer.bound(&exchange, "").await;
            let begin = Instant::now();
            sent(&peer, &exchange, headers, "first").await;
            let mut came = peer.drain(&queue).await;
            while came.len() < 2 {
                sent(&peer, &exchange, headers, "again").await;
                came.extend(peer.drain(&queue).await);
            }
            assert!(has_passed(begin, 60), "seen again before its time");
            assert_eq!(came, ["first", "again"]);
        }
    });
}

#[test]
fn the_oldest_values_make_room() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let exchange = peer.exchange(TYPE, &[("x-cache-size", integer(3))]).await;
        let queue = peer.bound(&exchange, "").await;
        for value in ["a", "b", "c", "d", "d", "c", "b", "a", "d", "a"] {
            sent(&peer, &exchange, &id(value), value).await;
        }
        // The fourth value took the place of `a`, and `a` that of `b`; duplicates take none.
        assert_eq!(peer.drain(&queue).await, ["a", "b", "c", "d", "a"]);
    });
}

#[test]
fn of_a_batch_each_value_passes_once() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let exchange = peer.exchange("direct", &[("x-message-deduplication", YES)]).await;
        let queue = peer.bound(&exchange, "k").await;
        publish_at_once(&peer, &exchange, (0..1_000).map(|number| (number % 10).to_string())).await;
        let expected: Vec<String> = (0..10).map(|number: i32| number.to_string()).collect();
        assert_eq!(peer.drain(&queue).await, expected);
    });
}

#[test]
fn of_two_connections_at_once_each_value_passes_once() {
    let broker = Broker::builder(BINARY).argument("--workers").argument("2").start();
    on_broker(&broker, async |broker| {
        let (one, other) = (Peer::connect(broker).await, Peer::connect(broker).await);
        let exchange = one.exchange("direct", &[("x-message-deduplication", YES)]).await;
        let queue = one.bound(&exchange, "k").await;
        let ids = || (0..500).map(|number: i32| number.to_string());
        join(publish_at_once(&one, &exchange, ids()), publish_at_once(&other, &exchange, ids())).await;
        let came = one.drain(&queue).await;
        assert_eq!(came.len(), 500);
        assert_eq!(BTreeSet::from_iter(came), ids().collect());
    });
}

#[test]
fn deduplication_delay_and_topic_are_a_matter_of_arguments() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let by_type = [
            ("x-delayed-type", text("topic")),
            ("x-message-deduplication", YES),
            ("x-cache-ttl", integer(60_000)),
        ];
        let by_arguments = [("x-delayed-exchange", YES), ("x-message-deduplication", YES)];
        for (kind, arguments) in [("x-delayed-message", &by_type[..]), ("topic", &by_arguments)] {
            let exchange = peer.exchange(kind, arguments).await;
            let queue = peer.bound(&exchange, "order.#").await;
            let other = peer.bound(&exchange, "invoice.#").await;
            let headers = |value: &str, delay_ms| [id(value)[0].clone(), ("x-delay", integer(delay_ms))];
            let mut bodies = peer.consume(&queue).await;
            let send = async |value: &str, delay_ms, body: &str| {
                let sent = peer.send(&exchange, "order.eu", &headers(value, delay_ms), body).await;
                assert_eq!(sent, Sent::Accepted);
            };
            // Until a round is so quick that it is certain which of the two is due first.
            let mut rounds = 0..100;
            let (late, early) = loop {
                let round = rounds.next().expect("some round takes less than 40 ms");
                let (late, early) = (format!("late {round}"), format!("early {round}"));
                let begin = Instant::now();
                send(&late, 60, &late).await;
                send(&early, 20, &early).await;
                let is_certain = !has_passed(begin, 40);
                send(&late, 0, "no").await;
                send(&early, 20, "no").await;
                let mut came = bodies.take(2).await;
                assert!(has_passed(begin, 60));
                if is_certain {
                    assert_eq!(came, [&*early, &*late], "{kind}");
                    break (late, early);
                }
                came.sort();
                assert_eq!(came, [&*early, &*late], "{kind}");
            };
            // The delay over, both are seen still.
            for (value, body) in [(&*late, "no"), (&early, "no"), ("c", "c")] {
                send(value, 0, body).await;
            }
            assert_eq!(bodies.next().await, "c", "{kind}");
            assert!(peer.drain(&other).await.is_empty());
            // Held, and then neither: nobody is bound.
            assert_eq!(peer.send(&exchange, "x", &headers("d", 20), "x").await, Sent::Returned);
            assert_eq!(peer.send(&exchange, "order", &headers("d", 20), "d").await, Sent::Accepted);
            assert_eq!(bodies.next().await, "d", "{kind}");
        }
    });
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let size = ("x-cache-size", integer(1));
        for (arguments, named) in [
            (&[][..], "x-cache-size"),
            (&[("x-cache-size", integer(0))], "x-cache-size"),
            (&[("x-cache-size", integer(1_048_576))], "quota"),
            (&[size.clone(), ("x-cache-ttl", text("soon"))], "x-cache-ttl"),
            (&[size.clone(), ("x-cache-persistence", text("tape"))], "x-cache-persistence"),
            (&[size, ("x-inner-type", text("x-none"))], "x-none"),
        ] {
            let (code, why) = peer.refused(TYPE, arguments).await;
            assert!(code == 406 && why.contains(named), "{code} {why}");
        }
        // In front of another type they are switched on or off, and nothing else.
        for stage in ["x-message-deduplication", "x-delayed-exchange"] {
            for neither in [text("yes"), integer(0)] {
                let (code, why) = peer.refused("topic", &[(stage, neither)]).await;
                assert!(code == 406 && why.contains(stage), "{code} {why}");
            }
            peer.exchange("topic", &[(stage, AMQPValue::Boolean(false))]).await;
        }
    });
}

/// Whoever wants to look at duplicates has them go to an exchange for what has no destination.
#[test]
fn duplicates_may_go_to_the_alternate_exchange() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let others = peer.exchange("fanout", &[]).await;
        let seen_before = peer.bound(&others, "").await;
        let alternate = [("alternate-exchange", text(others.as_str())), ("x-duplicates", text("unroutable"))];
        let as_type =
            [&alternate[..], &[("x-cache-size", text("100")), ("x-inner-type", text("direct"))]].concat();
        let as_stage = [&alternate[..], &[("x-message-deduplication", YES)]].concat();
        for (kind, arguments) in [(TYPE, &as_type), ("direct", &as_stage)] {
            let exchange = peer.exchange(kind, arguments).await;
            let queue = peer.bound(&exchange, "k").await;
            for body in ["first", "second"] {
                sent(&peer, &exchange, &id("a"), body).await;
            }
            assert_eq!(peer.drain(&queue).await, ["first"], "{kind}");
            assert_eq!(peer.drain(&seen_before).await, ["second"], "{kind}");
        }
    });
}

/// Where the plugin's state is full the longest cache gives room: a new exchange is as good as the old ones.
#[test]
fn a_long_cache_does_not_keep_others_out() {
    let configuration = ScratchDirectory::new("deduplication");
    let file = configuration.path().join("leveret.toml");
    std::fs::write(&file, "[plugins.x-message-deduplication]\nstate-entries = 100\n").unwrap();
    let broker = Broker::builder(BINARY).argument("--config").argument(file).start();
    on_broker(&broker, async |broker| {
        let peer = Peer::connect(broker).await;
        let long = peer.exchange(TYPE, &[("x-cache-size", integer(100))]).await;
        let _all = peer.bound(&long, "").await;
        publish_at_once(&peer, &long, (0..100).map(|number| number.to_string())).await;
        let short = peer.exchange(TYPE, &[("x-cache-size", integer(10))]).await;
        let queue = peer.bound(&short, "").await;
        for round in ["new", "duplicate"] {
            for number in 0..10 {
                sent(&peer, &short, &id(&number.to_string()), round).await;
            }
        }
        assert_eq!(peer.drain(&queue).await, ["new"; 10]);
        let (code, why) = peer.refused(TYPE, &[("x-cache-size", integer(101))]).await;
        assert!(code == 406 && why.contains("at most 100"), "{code} {why}");
    });
}
