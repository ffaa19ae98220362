//! `x-consistent-hash`: one queue a message, in shares, with little moved when queues come and go.

use crate::{BINARY, Peer, Sent, session, session::on_broker, text};
use lapin::{
    BasicProperties, Confirmation, ExchangeKind,
    options::{BasicPublishOptions, ExchangeDeclareOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};
use leveret_testkit::Broker;
use std::collections::BTreeMap;

const TYPE: &str = "x-consistent-hash";
const KEYS: usize = 200;

/// Publishes with so many keys, and says which queue each went to.
async fn owners(peer: &Peer, exchange: &ShortString, queues: &[&str]) -> BTreeMap<String, String> {
    for number in 0..KEYS {
        let key = format!("k{number}");
        assert_eq!(peer.send(exchange, &key, &[], &key).await, Sent::Accepted);
    }
    let mut owners = BTreeMap::new();
    for queue in queues {
        for key in peer.drain(&(*queue).into()).await {
            assert_eq!(owners.insert(key, (*queue).to_owned()), None, "no message twice");
        }
    }
    assert_eq!(owners.len(), KEYS);
    owners
}

async fn declare_durable(peer: &Peer, exchange: &ShortString, queues: &[&str]) {
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let kind = ExchangeKind::Custom(TYPE.into());
    peer.channel.exchange_declare(exchange.clone(), kind, options, FieldTable::default()).await.unwrap();
    for queue in queues {
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        peer.channel.queue_declare((*queue).into(), options, FieldTable::default()).await.unwrap();
    }
}

/// Users of RabbitMQ's plugin lost this after a restart, and by a second binding of a queue.
#[test]
fn a_key_keeps_its_queue_over_a_restart_and_over_bindings_that_come_and_go() {
    let exchange = ShortString::from("ring");
    let queues = ["a", "b", "c", "d"];
    let broker = Broker::start(BINARY);
    let mut before = BTreeMap::new();
    on_broker(&broker, async |broker| {
        let peer = Peer::connect(broker).await;
        declare_durable(&peer, &exchange, &queues).await;
        assert_eq!(peer.send(&exchange, "k0", &[], "nobody is bound").await, Sent::Returned);
        for queue in &queues[..3] {
            peer.bind(&(*queue).into(), &exchange, "1").await;
        }
        before = owners(&peer, &exchange, &queues).await;
        // A second binding of a queue, and without it.
        peer.bind(&"a".into(), &exchange, "5").await;
        let heavier = owners(&peer, &exchange, &queues).await;
        assert!(heavier.iter().all(|(key, queue)| queue == "a" || *queue == before[key]));
        assert!(heavier.values().filter(|queue| *queue == "a").count() > KEYS / 2);
        peer.unbind(&"a".into(), &exchange, "5").await;
        assert_eq!(owners(&peer, &exchange, &queues).await, before);
    });
    on_broker(&broker.stop_for_a_while().start(), async |broker| {
        let peer = Peer::connect(broker).await;
        assert_eq!(owners(&peer, &exchange, &queues).await, before);
        peer.bind(&"d".into(), &exchange, "1").await;
        let of_four = owners(&peer, &exchange, &queues).await;
        assert!(of_four.iter().all(|(key, queue)| queue == "d" || *queue == before[key]));
        assert!(of_four.values().any(|queue| queue == "d"));
        // A queue that is deleted leaves its keys to the others.
        peer.channel.queue_delete("b".into(), Default::default()).await.unwrap();
        let of_three = owners(&peer, &exchange, &["a", "c", "d"]).await;
        assert!(of_three.iter().all(|(key, queue)| of_four[key] == "b" || *queue == of_four[key]));
    });
}

#[test]
fn headers_and_properties_are_hashed_in_place_of_the_key() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let by_header = peer.exchange(TYPE, &[("hash-header", text("user"))]).await;
        let queues = [peer.bound(&by_header, "1").await, peer.bound(&by_header, "1").await];
        for number in 0..60 {
            let user = [("user", text(&format!("u{}", number / 2)))];
            assert_eq!(
                peer.send(&by_header, &number.to_string(), &user, &number.to_string()).await,
                Sent::Accepted
            );
        }
        let [first, second] = &queues;
        let (mut first, mut second) = (peer.drain(first).await, peer.drain(second).await);
        assert!(!first.is_empty() && !second.is_empty());
        for taken in [&mut first, &mut second] {
            // Both messages of a user, one after the other.
            assert!(
                taken
                    .chunks(2)
                    .all(|pair| pair[0].parse::<u32>().unwrap() + 1 == pair[1].parse::<u32>().unwrap())
            );
        }
        let by_id = peer.exchange(TYPE, &[("hash-property", text("message_id"))]).await;
        let queues = [peer.bound(&by_id, "1").await, peer.bound(&by_id, "1").await];
        for number in 0..60 {
            let properties = BasicProperties::default().with_message_id(format!("m{number}").into());
            let options = BasicPublishOptions { mandatory: true, ..Default::default() };
            let sent = session::publish_with(&peer.channel, &by_id, "same", b"", options, properties).await;
            assert!(matches!(sent.unwrap(), Confirmation::Ack(None)));
        }
        for queue in &queues {
            assert!(!peer.drain(queue).await.is_empty());
        }
    });
}

/// The texts are those of RabbitMQ 4.3.6.
#[test]
fn what_makes_no_sense_is_refused_with_rabbitmqs_words() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let both = [("hash-header", text("h")), ("hash-property", text("message_id"))];
        let (code, words) = peer.refused(TYPE, &both).await;
        assert_eq!(code, 406);
        assert!(words.ends_with(": hash-header and hash-property are mutually exclusive"), "{words}");
        let (code, words) = peer.refused(TYPE, &[("hash-property", text("app_id"))]).await;
        assert_eq!(code, 406);
        assert!(words.ends_with(": Unsupported property: app_id"), "{words}");
        let exchange = peer.exchange(TYPE, &[]).await;
        for (key, words) in [
            ("abc", ": The binding key must be an integer: <<\"abc\">>"),
            ("0", ": The binding key must be greater than 0"),
        ] {
            let queue = session::own_queue(&peer.channel).await;
            let channel = session::confirming(&peer.connection).await;
            let arguments = FieldTable::default();
            let bound =
                channel.queue_bind(queue, exchange.clone(), key.into(), Default::default(), arguments).await;
            let (code, refusal) = session::refusal(&bound.unwrap_err());
            assert_eq!(code, 406);
            assert!(refusal.ends_with(words), "{refusal}");
        }
    });
}
