//! `x-modulus-hash`: one queue a message, the same for a key also after a restart.

use crate::{BINARY, Peer, Sent, session::on_broker};
use lapin::{
    ExchangeKind,
    options::{ExchangeDeclareOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};
use leveret_testkit::Broker;

const TYPE: &str = "x-modulus-hash";
const QUEUES: [&str; 4] = ["mq1", "mq2", "mq10", "Mq"];

/// Publishes with the keys `k0` to `k11`, and says which of [`QUEUES`] each got.
async fn taken(peer: &Peer, exchange: &ShortString) -> [Vec<String>; 4] {
    for number in 0..12 {
        let key = format!("k{number}");
        assert_eq!(peer.send(exchange, &key, &[], &key).await, Sent::Accepted);
    }
    let mut taken: [Vec<String>; 4] = Default::default();
    for (queue, taken) in QUEUES.iter().zip(&mut taken) {
        *taken = peer.drain(&(*queue).into()).await;
    }
    taken
}

/// What was expected was seen on RabbitMQ 4.3.6, with the same names and keys.
#[test]
fn each_key_has_one_queue_also_after_a_restart() {
    let exchange = ShortString::from("shared out");
    let expected = [&["k2", "k7", "k8"][..], &["k3", "k5", "k11"], &["k0", "k1", "k10"], &["k4", "k6", "k9"]];
    let broker = Broker::start(BINARY);
    on_broker(&broker, async |broker| {
        let peer = Peer::connect(broker).await;
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let kind = ExchangeKind::Custom(TYPE.into());
        peer.channel.exchange_declare(exchange.clone(), kind, options, FieldTable::default()).await.unwrap();
        assert_eq!(peer.send(&exchange, "k0", &[], "nobody is bound").await, Sent::Returned);
        for queue in QUEUES {
            let options = QueueDeclareOptions { durable: true, ..Default::default() };
            peer.channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap();
            peer.bind(&queue.into(), &exchange, "any").await;
        }
        assert_eq!(taken(&peer, &exchange).await, expected);
    });
    on_broker(&broker.stop_for_a_while().start(), async |broker| {
        let peer = Peer::connect(broker).await;
        assert_eq!(taken(&peer, &exchange).await, expected);
        // Of two, each key that the others had goes to one of them.
        for queue in &QUEUES[2..] {
            peer.unbind(&(*queue).into(), &exchange, "any").await;
        }
        let of_two =
            [&["k0", "k1", "k4", "k6", "k9", "k10"][..], &["k2", "k3", "k5", "k7", "k8", "k11"], &[], &[]];
        assert_eq!(taken(&peer, &exchange).await, of_two);
    });
}
