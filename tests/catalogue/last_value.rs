//! `x-lvc`: the last value of a key, also by wildcard.

use crate::{
    BINARY, Peer, Sent,
    session::{self, on_broker},
    text,
};
use lapin::{
    BasicProperties, Confirmation,
    options::{BasicPublishOptions, QueueDeclareOptions},
    types::ShortString,
};
use leveret_testkit::{Broker, ScratchDirectory};

const TYPE: &str = "x-lvc";

/// Publishes for each key and body, whether anybody is bound or not.
async fn publish(peer: &Peer, exchange: &ShortString, messages: &[(&str, &str)]) {
    for (key, body) in messages {
        let sent = peer.publish(exchange, key, &[], body, Default::default()).await;
        assert_eq!(sent, Sent::Accepted);
    }
}

#[test]
fn a_queue_gets_the_last_value_of_its_key_and_then_what_comes() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let exchange = peer.exchange(TYPE, &[]).await;
        // Nobody is there yet, and it is told so; kept it is all the same.
        assert_eq!(peer.send(&exchange, "alone", &[], "kept").await, Sent::Returned);
        publish(&peer, &exchange, &[("a.x", "old"), ("a.y", "y"), ("a.x", "x")]).await;
        let (x, y) = (peer.bound(&exchange, "a.x").await, peer.bound(&exchange, "a.y").await);
        let (alone, pattern) = (peer.bound(&exchange, "alone").await, peer.bound(&exchange, "a.*").await);
        publish(&peer, &exchange, &[("a.x", "newer")]).await;
        assert_eq!(peer.drain(&x).await, ["x", "newer"]);
        assert_eq!(peer.drain(&y).await, ["y"]);
        assert_eq!(peer.drain(&alone).await, ["kept"]);
        assert!(peer.drain(&pattern).await.is_empty(), "there are no patterns here");
        // Another queue gets the newer one; so does the first, bound once more.
        let other = peer.bound(&exchange, "a.x").await;
        assert_eq!(peer.drain(&other).await, ["newer"]);
        peer.unbind(&x, &exchange, "a.x").await;
        publish(&peer, &exchange, &[("a.x", "newest")]).await;
        peer.bind(&x, &exchange, "a.x").await;
        assert_eq!(peer.drain(&x).await, ["newest"]);
    });
}

#[test]
fn a_pattern_gets_the_last_value_of_each_key_that_it_matches() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let exchange = peer.exchange(TYPE, &[("x-inner-type", text("topic"))]).await;
        let published = [("a.x", "old"), ("a.y", "a.y"), ("b.x", "b.x"), ("a.x", "a.x"), ("a.b.c", "a.b.c")];
        publish(&peer, &exchange, &published).await;
        for (pattern, expected) in [
            ("a.*", &["a.y", "a.x"][..]),
            ("*.x", &["b.x", "a.x"]),
            ("#", &["a.y", "b.x", "a.x", "a.b.c"]),
            ("a.#", &["a.y", "a.x", "a.b.c"]),
            ("b.x", &["b.x"]),
            ("c.#", &[]),
        ] {
            let queue = peer.bound(&exchange, pattern).await;
            assert_eq!(peer.drain(&queue).await, expected, "{pattern}");
        }
        let queue = peer.bound(&exchange, "d.*").await;
        publish(&peer, &exchange, &[("d.1", "live"), ("e", "not for it")]).await;
        assert_eq!(peer.drain(&queue).await, ["live"]);
    });
}

#[test]
fn behind_a_stage_only_what_passes_is_the_last_value() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let yes = lapin::types::AMQPValue::Boolean(true);
        let exchange = peer.exchange(TYPE, &[("x-message-deduplication", yes)]).await;
        let queue = peer.bound(&exchange, "k").await;
        for (id, body) in [("1", "one"), ("2", "two"), ("1", "duplicate")] {
            let headers = [("x-deduplication-header", text(id))];
            assert_eq!(peer.send(&exchange, "k", &headers, body).await, Sent::Accepted);
        }
        assert_eq!(peer.drain(&queue).await, ["one", "two"]);
        let later = peer.bound(&exchange, "k").await;
        assert_eq!(peer.drain(&later).await, ["two"]);
    });
}

#[test]
fn other_types_cannot_be_behind_it() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let (code, why) = peer.refused(TYPE, &[("x-inner-type", text("headers"))]).await;
        assert!(code == 406 && why.contains("x-inner-type"), "{code} {why}");
    });
}

/// A value takes the place of the one before, also where there is no room for one more.
#[test]
fn above_the_quota_values_are_replaced_and_new_keys_are_not_kept() {
    let configuration = ScratchDirectory::new("last-value");
    let file = configuration.path().join("leveret.toml");
    std::fs::write(&file, "[plugins.x-lvc]\nstate-entries = 2\n").unwrap();
    let broker = Broker::builder(BINARY).argument("--config").argument(file).start();
    on_broker(&broker, async |broker| {
        let peer = Peer::connect(broker).await;
        let exchange = peer.exchange(TYPE, &[]).await;
        publish(&peer, &exchange, &[("a", "1"), ("b", "2"), ("a", "3"), ("b", "4"), ("c", "5"), ("a", "6")])
            .await;
        for (key, expected) in [("a", &["6"][..]), ("b", &["4"]), ("c", &[])] {
            let queue = peer.bound(&exchange, key).await;
            assert_eq!(peer.drain(&queue).await, expected, "{key}");
        }
    });
}

/// The last value of a key is none any more when its time to live is over.
#[test]
fn what_is_expired_is_no_last_value() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let exchange = peer.exchange(TYPE, &[]).await;
        let dead = peer.bound(&"amq.fanout".into(), "").await;
        let mut expired = peer.consume(&dead).await;
        let letters = crate::table(&[("x-dead-letter-exchange", text("amq.fanout"))]);
        let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
        let queue = peer.channel.queue_declare("".into(), options, letters).await.unwrap();
        peer.bind(queue.name(), &exchange, "k").await;
        for (key, expiration) in [("k", "50"), ("l", "3600000")] {
            let properties = BasicProperties::default().with_expiration(expiration.into());
            let options = BasicPublishOptions::default();
            let sent =
                session::publish_with(&peer.channel, &exchange, key, key.as_bytes(), options, properties);
            assert_eq!(sent.await.unwrap(), Confirmation::Ack(None));
        }
        // It was kept before it came into the queue where it expired.
        assert_eq!(expired.next().await, "k");
        for (key, kept) in [("k", &[][..]), ("l", &["l"])] {
            let queue = peer.bound(&exchange, key).await;
            assert_eq!(peer.drain(&queue).await, kept, "{key}");
        }
    });
}
