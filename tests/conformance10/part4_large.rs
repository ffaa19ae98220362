//! Part 4, of messages that go out in parts.

use super::{
    Other,
    large::{body, durable, files, receive, receiver_from, send, sender_to, settle},
    part4_transactions::Transacting,
    peer::{awaited, begin, credit, receiver, source},
    queue_address,
};
use leveret_amqp10::{
    Performative,
    composite::Fields,
    messaging::{Accepted, DeliveryState},
    performatives::{Begin, Detach, Flow, Transfer},
    types::{MapBuilder, Symbol},
};
use leveret_testkit::Broker;

/// How many transfers the session takes that a message goes out on.
const WINDOW: u32 = 2;

/// A client that acquires a large message of a queue in a transaction, of which it has so much as the window of its session
/// allows.
fn having_a_part(broker: &Broker, queue: &str) -> (Transacting, Vec<u8>) {
    let mut transacting = Transacting::new(broker, &[]);
    let txn_id = transacting.declare();
    let peer = &mut transacting.peer;
    peer.say(1, &Begin { incoming_window: WINDOW, ..begin() });
    awaited!(peer, Begin);
    peer.attach(1, &receiver(0, "large", source(&queue_address(queue))));
    let mut properties = MapBuilder::new();
    properties.push(Symbol::from_static("txn-id"), txn_id.as_slice());
    let properties = Fields::new(properties.view());
    peer.say(1, &Flow { incoming_window: WINDOW, properties, ..credit(0, 0, 1) });
    for at in 0..WINDOW {
        awaited!(peer, Transfer, it => {
            assert!(it.more);
            let Some(DeliveryState::Transactional(state)) = it.state else {
                assert!(at > 0, "the first one says its transaction");
                continue;
            };
            assert_eq!(state.txn_id, txn_id);
        });
    }
    (transacting, txn_id)
}

/// 4.4.3: what is acquired in a transaction that is rolled back is released, which of a message that has not come whole is
/// said by aborting it (2.7.5). It is for others at once, and for the same link once its window lets that be said.
#[test]
fn a_message_that_is_on_its_way_when_its_transaction_is_rolled_back_is_aborted() {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    let mut other = Other::new(&broker);
    let queue = other.queue(&[]);
    let message = durable(true, &body(5, 3_000_000));
    send(&mut sender_to(&broker, &queue_address(&queue)), 0, 0, &message);
    for by_discharge in [true, false] {
        let (mut transacting, txn_id) = having_a_part(&broker, &queue);
        assert_eq!(other.ready(&queue), 0);
        if by_discharge {
            assert_eq!(transacting.discharge(&txn_id, true), None);
        } else {
            // With the link to the coordinator (section 4.2).
            transacting.peer.say(0, &Detach { handle: 0, closed: true, error: None });
            awaited!(transacting.peer, Detach);
        }
        assert_eq!((other.ready(&queue), files(&broker)), (1, 1));
        let peer = &mut transacting.peer;
        let open = Flow { next_incoming_id: Some(WINDOW), ..credit(0, 1, 1) };
        peer.say(1, &open);
        awaited!(peer, Transfer, it => assert_eq!(it, Transfer { handle: 0, aborted: true, ..Transfer::default() }));
        // It comes anew, as any.
        let mut came = Vec::new();
        loop {
            let frame = peer.frame();
            let (Performative::Transfer(it), payload) = frame.read() else { continue };
            assert_eq!((it.aborted, it.state), (false, None));
            came.extend_from_slice(payload);
            if !it.more {
                break;
            }
        }
        assert!(came.ends_with(&message[message.len() - 3_000_000..]));
        peer.say(1, &Detach { handle: 0, closed: true, error: None });
        awaited!(peer, Detach);
    }
    let mut reader = receiver_from(&broker, &queue);
    let (id, _) = receive(&mut reader, 0);
    settle(&mut reader, id, Accepted {});
    reader.expect_alive();
    assert_eq!(other.ready(&queue), 0);
}
