//! `x-recent-history`: order, how many, for whom, and which routing.

use crate::{BINARY, Fields, Peer, Sent, integer, session::on_broker, text};
use lapin::types::{AMQPValue, ShortString};
use leveret_testkit::{Broker, ScratchDirectory};

const TYPE: &str = "x-recent-history";

/// Publishes bodies, whether anybody is bound or not.
async fn publish(peer: &Peer, exchange: &ShortString, key: &str, bodies: impl IntoIterator<Item = String>) {
    for body in bodies {
        let sent = peer.publish(exchange, key, &[], &body, Default::default()).await;
        assert_eq!(sent, Sent::Accepted);
    }
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[test]
fn a_queue_gets_the_latest_in_order_and_then_what_comes() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        for (arguments, kept) in [(&[][..], 20), (&[("x-recent-history-length", integer(7))], 7)] {
            let exchange = peer.exchange(TYPE, arguments).await;
            // Nobody is there yet, and it is told so; kept it is all the same.
            assert_eq!(peer.send(&exchange, "", &[], "0").await, Sent::Returned);
            publish(&peer, &exchange, "any", numbers(1..5)).await;
            let first = peer.bound(&exchange, "").await;
            assert_eq!(peer.drain(&first).await, numbers(0..5));
            publish(&peer, &exchange, "any", numbers(5..40)).await;
            let second = peer.bound(&exchange, "").await;
            publish(&peer, &exchange, "any", numbers(40..42)).await;
            assert_eq!(peer.drain(&first).await, numbers(5..42));
            assert_eq!(peer.drain(&second).await, numbers(40 - kept..42), "more than it was, or in disorder");
            // Bound once more, it gets them once more, and those that come only once.
            peer.bind(&first, &exchange, "other").await;
            publish(&peer, &exchange, "any", numbers(42..43)).await;
            let expected = [numbers(42 - kept..42), numbers(42..43)].concat();
            assert_eq!(peer.drain(&first).await, expected);
        }
    });
}

#[test]
fn what_says_so_is_delivered_and_not_kept() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let exchange = peer.exchange(TYPE, &[]).await;
        let queue = peer.bound(&exchange, "").await;
        let rows: [(Fields<'_>, &str); 4] = [
            (&[("x-recent-history-no-store", AMQPValue::Boolean(true))], "not kept"),
            (&[("x-recent-history-no-store", AMQPValue::Boolean(false))], "false"),
            (&[("x-recent-history-no-store", text("true"))], "text"),
            (&[], "without"),
        ];
        for (headers, body) in rows {
            assert_eq!(peer.send(&exchange, "", headers, body).await, Sent::Accepted);
        }
        assert_eq!(peer.drain(&queue).await, ["not kept", "false", "text", "without"]);
        let later = peer.bound(&exchange, "").await;
        assert_eq!(peer.drain(&later).await, ["false", "text", "without"]);
    });
}

#[test]
fn with_a_topic_a_queue_gets_the_latest_that_its_pattern_matches() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let arguments = [("x-recent-history-length", integer(2)), ("x-inner-type", text("topic"))];
        let exchange = peer.exchange(TYPE, &arguments).await;
        for (number, key) in ["a.x", "a.y", "b.x", "a.x", "b.y", "a.x"].into_iter().enumerate() {
            publish(&peer, &exchange, key, [format!("{key} {number}")]).await;
        }
        let (a, b) = (peer.bound(&exchange, "a.*").await, peer.bound(&exchange, "b.#").await);
        assert_eq!(peer.drain(&a).await, ["a.x 3", "a.x 5"]);
        assert_eq!(peer.drain(&b).await, ["b.x 2", "b.y 4"]);
        publish(&peer, &exchange, "a.z", ["new".to_owned()]).await;
        assert_eq!(peer.drain(&a).await, ["new"]);
        assert!(peer.drain(&b).await.is_empty());
    });
}

#[test]
fn an_exchange_that_is_bound_passes_the_history_on() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let (exchange, further) = (peer.exchange(TYPE, &[]).await, peer.exchange("direct", &[]).await);
        let queue = peer.bound(&further, "k").await;
        publish(&peer, &exchange, "k", numbers(0..3)).await;
        publish(&peer, &exchange, "other", numbers(3..4)).await;
        let (arguments, options) = (crate::table(&[]), Default::default());
        let bound = peer.channel.exchange_bind(further, exchange, "".into(), options, arguments);
        bound.await.unwrap();
        assert_eq!(peer.drain(&queue).await, numbers(0..3));
    });
}

/// Of a long history each message costs what the first did.
#[test]
fn a_history_of_many_thousands_comes_whole() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let exchange = peer.exchange(TYPE, &[("x-recent-history-length", integer(20_000))]).await;
        let mut confirms = Vec::new();
        for body in numbers(0..25_000) {
            let published = peer.channel.basic_publish(
                exchange.clone(),
                "".into(),
                Default::default(),
                body.as_bytes(),
                Default::default(),
            );
            confirms.push(published.await.unwrap());
        }
        for confirm in confirms {
            assert!(confirm.await.unwrap().is_ack());
        }
        let queue = peer.bound(&exchange, "").await;
        assert_eq!(peer.consume(&queue).await.take(20_000).await, numbers(5_000..25_000));
    });
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        for (name, value) in [
            ("x-recent-history-length", integer(0)),
            ("x-recent-history-length", text("7")),
            ("x-inner-type", text("headers")),
        ] {
            let (code, why) = peer.refused(TYPE, &[(name, value)]).await;
            assert!(code == 406 && why.contains(name), "{code} {why}");
        }
    });
}

/// The memory of the plugin is used up before the length is reached: the oldest go, and no more.
#[test]
fn above_the_quota_the_oldest_go_and_no_more() {
    let configuration = ScratchDirectory::new("history");
    let file = configuration.path().join("leveret.toml");
    std::fs::write(&file, "[plugins.x-recent-history]\nstate-entries = 7\n").unwrap();
    let broker = Broker::builder(BINARY).argument("--config").argument(file).start();
    on_broker(&broker, async |broker| {
        let peer = Peer::connect(broker).await;
        let (code, why) = peer.refused(TYPE, &[("x-recent-history-length", integer(9))]).await;
        assert!(code == 406 && why.contains("at most 7") && why.contains("state-entries"), "{code} {why}");
        let exchange = peer.exchange(TYPE, &[("x-recent-history-length", integer(7))]).await;
        let second = peer.exchange(TYPE, &[("x-recent-history-length", integer(2))]).await;
        publish(&peer, &second, "any", numbers(0..2)).await;
        let mut published = 0;
        for (count, kept) in [(3, 0..3), (1, 0..4), (3, 2..7), (13, 15..20)] {
            publish(&peer, &exchange, "any", numbers(published..published + count)).await;
            published += count;
            let queue = peer.bound(&exchange, "").await;
            assert_eq!(peer.drain(&queue).await, numbers(kept));
            peer.unbind(&queue, &exchange, "").await;
        }
    });
}
