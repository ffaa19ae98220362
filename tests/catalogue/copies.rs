//! Messages with further routing keys (the headers `CC` and `BCC`) at the types that come with the broker.

use crate::{BINARY, Fields, Peer, Sent, integer, session::on_broker, text};
use lapin::types::{AMQPValue, FieldArray, ShortString};
use leveret_testkit::Broker;

fn keys(keys: &[&str]) -> AMQPValue {
    AMQPValue::FieldArray(FieldArray::from(keys.iter().map(|key| text(key)).collect::<Vec<_>>()))
}

async fn with_queues(peer: &Peer, kind: &str, arguments: Fields<'_>) -> (ShortString, [ShortString; 3]) {
    let exchange = peer.exchange(kind, arguments).await;
    let queues = [
        peer.bound(&exchange, "a").await,
        peer.bound(&exchange, "b").await,
        peer.bound(&exchange, "c").await,
    ];
    (exchange, queues)
}

/// A type in front that does not look at keys says once for all of them that a message is new.
#[test]
fn a_message_with_further_keys_is_no_duplicate_of_itself() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let arguments = [("x-cache-size", integer(9)), ("x-inner-type", text("direct"))];
        let (exchange, queues) = with_queues(&peer, "x-message-deduplication", &arguments).await;
        let headers =
            [("x-deduplication-header", text("1")), ("CC", keys(&["b"])), ("BCC", keys(&["c", "d"]))];
        for _ in 0..2 {
            assert_eq!(peer.send(&exchange, "a", &headers, "once").await, Sent::Accepted);
        }
        for queue in &queues {
            assert_eq!(peer.drain(queue).await, ["once"]);
        }
    });
}

#[test]
fn a_delayed_message_goes_by_all_its_keys_when_its_time_comes() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let arguments = [("x-delayed-type", text("direct"))];
        let (exchange, queues) = with_queues(&peer, "x-delayed-message", &arguments).await;
        let headers = [("x-delay", integer(50)), ("CC", keys(&["b"])), ("BCC", keys(&["c"]))];
        assert_eq!(peer.send(&exchange, "a", &headers, "late").await, Sent::Accepted);
        for queue in &queues {
            assert_eq!(peer.consume(queue).await.next().await, "late");
        }
    });
}

/// The type reads keys, so it remembers the message under each.
#[test]
fn a_message_is_the_last_of_each_of_its_keys() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let exchange = peer.exchange("x-lvc", &[]).await;
        let headers = [("CC", keys(&["b"]))];
        assert_eq!(peer.send(&exchange, "a", &headers, "last").await, Sent::Returned, "nobody is bound");
        for key in ["a", "b"] {
            let late = peer.bound(&exchange, key).await;
            assert_eq!(peer.consume(&late).await.next().await, "last", "{key}");
        }
    });
}

/// The type reads no keys: it is asked once, and what it remembers is one message.
#[test]
fn a_message_is_in_the_history_once() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let exchange = peer.exchange("x-recent-history", &[]).await;
        let headers = [("CC", keys(&["b", "c"]))];
        for body in ["1", "2"] {
            assert_eq!(peer.send(&exchange, "a", &headers, body).await, Sent::Returned);
        }
        let late = peer.bound(&exchange, "").await;
        assert_eq!(peer.consume(&late).await.take(2).await, ["1", "2"]);
        assert!(peer.drain(&late).await.is_empty());
    });
}
