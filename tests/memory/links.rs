//! What a connection of AMQP 1.0 costs that has a session, a link to a queue and one from it.

use super::{
    BINARY, RawConnection, assert_within, await_answer, declare,
    peer::{Peer, awaited, credit, receiver, sender, source, target},
    resident_bytes,
};
use leveret_amqp10::performatives::{DeliveryTag, Transfer};
use leveret_testkit::{Broker, process::raise_file_limit, wire::id};

/// The goal for each, in bytes.
const EACH: u64 = 25_000;

#[test]
fn two_thousand_connections_with_links_at_25_kb_each() {
    const COUNT: u64 = 2000;
    const ADDRESS: &str = "/queues/q";
    raise_file_limit(COUNT + 200);
    let broker = Broker::builder(BINARY).http_listen("none").start();
    let mut other = RawConnection::open_with_channel(broker.address());
    other.send_method(1, id::QUEUE_DECLARE, declare("q", true));
    await_answer(&mut other);
    let before = resident_bytes(&broker);
    let mut connections: Vec<_> = (0..COUNT)
        .map(|_| {
            let mut peer = Peer::begun(&broker);
            peer.attach(0, &sender(0, "a link to a queue", target(ADDRESS)));
            peer.attach(0, &receiver(1, "a link from a queue", source(ADDRESS)));
            // A message has come, and been told of.
            let delivery_tag = DeliveryTag::new(b"tag");
            let transfer = Transfer { handle: 0, delivery_id: Some(0), delivery_tag, ..Transfer::default() };
            peer.transfer(0, &transfer, &[0x00, 0x53, 0x75, 0xa0, 1, b'm']);
            awaited!(peer, Disposition);
            peer
        })
        .collect();
    for peer in &mut connections {
        // And one has gone.
        peer.say(0, &credit(1, 0, 1));
        awaited!(peer, Transfer);
    }
    assert_within("connections with links", &broker, before, COUNT, before + COUNT * EACH);
    drop(connections);
}
