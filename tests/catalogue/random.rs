//! `x-random` and `x-local-random`: one queue a message, by chance.

use crate::{BINARY, Peer, Sent, session, session::on_broker};
use lapin::types::FieldTable;
use leveret_testkit::Broker;

const MESSAGES: usize = 200;

/// With each of two queues as likely as the other, fewer than this come to one of them once in 10^11 runs.
const FEWEST: usize = 50;

#[test]
fn each_message_comes_to_one_of_the_queues_and_each_gets_its_share() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        for (kind, key) in [("x-random", "any"), ("x-local-random", "")] {
            let exchange = peer.exchange(kind, &[]).await;
            assert_eq!(peer.send(&exchange, "key", &[], "nobody is bound").await, Sent::Returned);
            let queues = [peer.bound(&exchange, key).await, peer.bound(&exchange, key).await];
            for number in 0..MESSAGES {
                assert_eq!(peer.send(&exchange, "key", &[], &number.to_string()).await, Sent::Accepted);
            }
            let taken = [peer.drain(&queues[0]).await, peer.drain(&queues[1]).await];
            assert!(taken.iter().all(|taken| taken.len() > FEWEST), "{kind}: {taken:?}");
            assert_eq!(taken[0].len() + taken[1].len(), MESSAGES);
            let [first, second] = &queues;
            peer.unbind(first, &exchange, key).await;
            for _ in 0..20 {
                assert_eq!(peer.send(&exchange, "key", &[], "").await, Sent::Accepted);
            }
            assert_eq!(peer.drain(second).await.len(), 20, "{kind}");
        }
    });
}

/// The text is that of RabbitMQ 4.3.6.
#[test]
fn the_local_one_takes_no_binding_key() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let peer = Peer::connect(broker).await;
        let exchange = peer.exchange("x-local-random", &[]).await;
        let queue = session::own_queue(&peer.channel).await;
        let channel = session::confirming(&peer.connection).await;
        let bound = channel
            .queue_bind(queue, exchange, "any".into(), Default::default(), FieldTable::default())
            .await;
        let (code, refusal) = session::refusal(&bound.unwrap_err());
        assert_eq!(code, 406);
        assert!(refusal.ends_with(": Non empty binding 'any' key not permitted"), "{refusal}");
    });
}
