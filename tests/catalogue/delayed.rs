//! `x-delayed-message`: drift and order, mandatory, any inner type, and what becomes of held messages.

use crate::{BINARY, Peer, Sent, has_passed, integer, session::on_broker, text};
use lapin::{options::BasicPublishOptions, types::AMQPValue};
use leveret_testkit::{Broker, EVENT_WAIT_MAX, guests};
use std::time::Instant;

fn delay(delay_ms: i32) -> [(&'static str, AMQPValue); 1] {
    [("x-delay", integer(delay_ms))]
}

/// Waits until a message has come whose time is after that of all messages published before it.
async fn pass(peer: &Peer, longest_ms: i32) {
    let exchange = peer.exchange("x-delayed-message", &[("x-delayed-type", text("fanout"))]).await;
    let queue = peer.bound(&exchange, "").await;
    assert_eq!(peer.send(&exchange, "", &delay(longest_ms + 1), "passed").await, Sent::Accepted);
    assert_eq!(peer.consume(&queue).await.next().await, "passed");
}

#[test]
fn messages_come_by_their_times_and_those_of_one_time_as_they_were_sent() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let exchange = peer.exchange("x-delayed-message", &[("x-delayed-type", text("direct"))]).await;
        let queue = peer.bound(&exchange, "k").await;
        let mut bodies = peer.consume(&queue).await;
        let begin = Instant::now();
        assert_eq!(peer.send(&exchange, "k", &delay(400), "long").await, Sent::Accepted);
        // Sent within a moment and of one delay: their times do not go down.
        for number in 0..50 {
            let body = format!("short {number}");
            assert_eq!(peer.send(&exchange, "k", &delay(30), &body).await, Sent::Accepted);
        }
        for (headers, body) in [(&[][..], "without"), (&delay(0), "zero"), (&delay(-5), "negative")] {
            assert_eq!(peer.send(&exchange, "k", headers, body).await, Sent::Accepted);
        }
        let came = bodies.take(53).await;
        let (held, at_once): (Vec<&String>, Vec<&String>) =
            came.iter().partition(|body| body.starts_with("short"));
        let sent: Vec<String> = (0..50).map(|number| format!("short {number}")).collect();
        assert_eq!(held, sent.iter().collect::<Vec<_>>());
        assert_eq!(at_once, ["without", "zero", "negative"]);
        assert_eq!(bodies.next().await, "long");
        assert!(has_passed(begin, 400), "it came before its time");
    });
}

#[test]
fn a_mandatory_message_is_returned_when_it_is_published_and_never_later() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let exchange = peer.exchange("x-delayed-message", &[("x-delayed-type", text("topic"))]).await;
        assert_eq!(peer.send(&exchange, "a.b", &delay(10), "nowhere").await, Sent::Returned);
        let queue = peer.bound(&exchange, "a.*").await;
        assert_eq!(peer.send(&exchange, "b.b", &delay(10), "nowhere").await, Sent::Returned);
        assert_eq!(peer.send(&exchange, "a.b", &delay(10), "taken").await, Sent::Accepted);
        peer.unbind(&queue, &exchange, "a.*").await;
        pass(&peer, 10).await;
        assert!(peer.channel.wait_for_confirms().await.unwrap().is_empty(), "a message came back late");
        // On a busy machine its time may have come before the binding went.
        assert!(peer.drain(&queue).await.len() <= 1);
        // Not mandatory, it goes where the bindings lead when its time has come.
        let options = BasicPublishOptions::default();
        assert_eq!(peer.publish(&exchange, "a.c", &delay(60), "later", options).await, Sent::Accepted);
        peer.bind(&queue, &exchange, "a.#").await;
        assert_eq!(peer.consume(&queue).await.next().await, "later");
    });
}

#[test]
fn any_type_decides_where_a_message_goes() {
    let broker = Broker::builder(BINARY).plugin(guests::component("example_02_exchange_type")).start();
    on_broker(&broker, async |broker| {
        let peer = Peer::connect(broker).await;
        // The inner type, the key of a binding that gets the message `a.b`, and of one that does not.
        for (inner, gets, other) in [
            ("direct", "a.b", Some("a.*")),
            ("topic", "a.*", Some("a")),
            ("fanout", "any", None),
            ("headers", "any", None),
            ("x-longest-prefix", "a.", Some("a")),
        ] {
            for delayed_by in ["type", "argument"] {
                let exchange = match delayed_by {
                    "type" => peer.exchange("x-delayed-message", &[("x-delayed-type", text(inner))]).await,
                    _ => peer.exchange(inner, &[("x-delayed-exchange", AMQPValue::Boolean(true))]).await,
                };
                let queue = peer.bound(&exchange, gets).await;
                let empty = match other {
                    Some(key) => Some(peer.bound(&exchange, key).await),
                    None => None,
                };
                let body = format!("by {inner}");
                let begin = Instant::now();
                assert_eq!(peer.send(&exchange, "a.b", &delay(15), &body).await, Sent::Accepted);
                assert_eq!(peer.consume(&queue).await.next().await, body, "{delayed_by}");
                assert!(has_passed(begin, 15), "{inner}: not delayed");
                if let Some(empty) = empty {
                    assert!(peer.drain(&empty).await.is_empty(), "{inner} is not asked");
                }
            }
        }
    });
}

#[test]
fn a_declaration_must_name_a_type_that_there_is() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let (code, why) = peer.refused("x-delayed-message", &[]).await;
        assert!(code == 406 && why.contains("x-delayed-type"), "{code} {why}");
        let (code, why) = peer.refused("x-delayed-message", &[("x-delayed-type", text("x-none"))]).await;
        assert!(code == 406 && why.contains("x-none"), "{code} {why}");
        let (code, why) = peer.refused("x-delayed-message", &[("x-delayed-type", integer(1))]).await;
        assert!(code == 406 && why.contains("x-delayed-type"), "{code} {why}");
    });
}

#[test]
fn held_messages_go_with_their_exchange_and_the_log_says_so() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let arguments = [("x-delayed-type", text("fanout"))];
        let exchange = peer.exchange("x-delayed-message", &arguments).await;
        let queue = peer.bound(&exchange, "").await;
        for _ in 0..3 {
            assert_eq!(peer.send(&exchange, "", &delay(40), "gone").await, Sent::Accepted);
        }
        let before = broker.log_length();
        peer.channel.exchange_delete(exchange.clone(), Default::default()).await.unwrap();
        let line = broker.wait_for_log_after(before, exchange.as_str(), EVENT_WAIT_MAX);
        assert!(line.contains('3'), "{line}");
        // One of the same name is another exchange.
        peer.declare(&exchange, "x-delayed-message", &arguments).await.unwrap();
        peer.bind(&queue, &exchange, "").await;
        pass(&peer, 40).await;
        assert!(peer.drain(&queue).await.is_empty());
    });
}
