//! What is told of small messages once it is on disk.

use super::{
    Other, Peer,
    large::{durable, outcome, receive, receiver_from, send, sender_to, settle},
    part2_transport::transfer,
    peer::{awaited, credit, receiver, source},
    queue_address,
};
use leveret_amqp10::{
    Value,
    composite::Fields,
    message::Message,
    messaging::{Accepted, DeliveryState, Modified, Rejected, Released},
    performatives::{Attach, Detach, Disposition, End, Flow, ReceiverSettleMode, Role},
    types::{MapBuilder, Symbol},
};
use leveret_testkit::{Broker, WatchedDisk, wire::Arguments};

const BINARY: &str = env!("CARGO_BIN_EXE_leveret");

/// A receiver in mode second that was given so many messages, durable ones or not, and has told nothing of them yet.
fn having(broker: &Broker, queue: &str, are_durable: &[bool]) -> Peer {
    let address = queue_address(queue);
    let mut sender = sender_to(broker, &address);
    for (id, is_durable) in (0_u32..).zip(are_durable) {
        sender.transfer(0, &transfer(0, id, &id.to_be_bytes()), &durable(*is_durable, b"m"));
        outcome(&mut sender, |_, state| assert!(matches!(state, DeliveryState::Accepted(_)), "{state:?}"));
    }
    let mut peer = Peer::begun(broker);
    let attach = receiver(0, "r", source(&address));
    peer.say(0, &Attach { rcv_settle_mode: ReceiverSettleMode::Second, ..attach });
    awaited!(peer, Attach);
    peer.say(0, &credit(0, 0, are_durable.len() as u32));
    are_durable.iter().for_each(|_| awaited!(peer, Transfer));
    peer
}

/// 2.6.12: with receiver settle mode `second` the end of a delivery says that what the receiver told is on disk.
#[test]
fn in_mode_second_the_end_of_a_delivery_is_told_once_its_outcome_is_on_disk() {
    let disk = WatchedDisk::new();
    let broker = disk.watch(Broker::builder(BINARY)).start();
    let mut other = Other::new(&broker);
    let queue = other.queue(&[]);
    let mut peer = having(&broker, &queue, &[true, true, false, true]);
    let tell = |peer: &mut Peer, first: u32, last: u32, state: DeliveryState<'static>| {
        let told = Disposition { role: Role::Receiver, first, last: Some(last), ..Disposition::default() };
        peer.say(0, &Disposition { state: Some(state), ..told });
    };
    // Longer than any test.
    disk.delay_syncs(3_600_000);
    tell(&mut peer, 0, 1, Accepted {}.into());
    let echo = Flow { echo: true, ..credit(0, 4, 0) };
    peer.say(0, &echo);
    awaited!(peer, Flow);
    assert_eq!(other.ready(&queue), 0, "they are not given to anybody else");
    // What never was on disk, and what goes back, has nothing to wait for but those before it.
    tell(&mut peer, 2, 2, Accepted {}.into());
    tell(&mut peer, 3, 3, Released {}.into());
    peer.say(0, &echo);
    awaited!(peer, Flow);
    disk.delay_syncs(0);
    drop(broker.kill_for_a_while());
}

/// The same, and the disk does what it should: it is told, once for those that follow each other, and is so after a kill.
#[test]
fn what_was_settled_in_mode_second_does_not_come_again_after_a_kill() {
    let broker = Broker::start(BINARY);
    let mut other = Other::new(&broker);
    let queue = other.queue(&[]);
    let mut peer = having(&broker, &queue, &[true; 3]);
    let told = Disposition { role: Role::Receiver, first: 0, last: Some(1), ..Disposition::default() };
    peer.say(0, &Disposition { state: Some(Accepted {}.into()), ..told });
    awaited!(peer, Disposition, it => {
        assert_eq!((it.role, it.first, it.last, it.settled), (Role::Sender, 0, Some(1), true));
        assert!(matches!(it.state, Some(DeliveryState::Accepted(_))), "{it:?}");
    });
    let broker = broker.kill_for_a_while().start();
    assert_eq!(Other::new(&broker).ready(&queue), 1);
}

/// 3.4.5: what modified puts into a message that is on disk is in it after a kill, in its own type, and as a dead letter.
#[test]
fn annotations_of_modified_outlive_a_kill() {
    let mut broker = Broker::start(BINARY);
    let letters = Other::new(&broker).queue(&[]);
    let to_letters = [("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", letters.as_str())];
    let quorum = [&[("x-queue-type", "quorum")], &to_letters[..]].concat();
    for arguments in [&to_letters[..], &quorum] {
        let queue = Other::new(&broker).queue(arguments);
        let mut sender = sender_to(&broker, &queue_address(&queue));
        send(&mut sender, 0, 0, &durable(true, b"m"));
        let mut peer = receiver_from(&broker, &queue);
        for count in 1..3_u8 {
            let (id, _) = receive(&mut peer, 0);
            let mut map = MapBuilder::new();
            map.push(Symbol::from_static("x-opt-count"), Value::Ubyte(count));
            settle(
                &mut peer,
                id,
                Modified { message_annotations: Fields::new(map.view()), ..Modified::default() },
            );
        }
        receive(&mut peer, 0);
        // What is handed over to the store is written in its order.
        send(&mut sender, 0, 1, &durable(true, b"other"));
        broker = broker.kill_for_a_while().start();
        let count_of = |came: &[u8]| {
            Message::new(came)
                .unwrap()
                .message_annotations()
                .get("x-opt-count")
                .map(|value| format!("{value:?}"))
        };
        let mut peer = receiver_from(&broker, &queue);
        let (id, came) = receive(&mut peer, 0);
        assert_eq!(count_of(&came).as_deref(), Some("Ubyte(2)"), "{arguments:?}");
        let (_, other) = receive(&mut peer, 0);
        assert_eq!(count_of(&other), None);
        settle(&mut peer, id, Rejected::default());
        let mut reader = receiver_from(&broker, &letters);
        let (id, letter) = receive(&mut reader, 0);
        assert_eq!(count_of(&letter).as_deref(), Some("Ubyte(2)"), "{arguments:?}");
        settle(&mut reader, id, Accepted {});
    }
}

/// A receiver that was given the first message of a queue: its number, and how often it failed.
fn first_of(broker: &Broker, queue: &str) -> (Peer, u32, u32) {
    let mut peer = Peer::begun(broker);
    peer.attach(0, &receiver(0, "r", source(&queue_address(queue))));
    peer.say(0, &credit(0, 0, 1));
    let (id, came) = receive(&mut peer, 0);
    (peer, id, Message::new(&came).unwrap().header().delivery_count.unwrap())
}

/// The receiver's link ends, which is no failure.
fn detach(mut peer: Peer) {
    peer.say(0, &Detach { handle: 0, closed: true, error: None });
    awaited!(peer, Detach);
}

/// 3.2.1, delivery-count: how often consumers failed on a message that is on disk is told after the process too, from classic
/// queues (of which RabbitMQ's forget it), with priorities and without.
#[test]
fn delivery_counts_outlive_the_process() {
    let mut broker = Broker::start(BINARY);
    let failed = || Modified { delivery_failed: Some(true), ..Modified::default() };
    let priorities = Arguments::new().short_string("x-max-priority").octet(b'l').long_long(9);
    for arguments in [Arguments::new(), priorities] {
        let arguments = arguments.into_bytes();
        let queue = Other::new(&broker).declare(|declare| declare.long_string(arguments.clone()));
        let mut sender = sender_to(&broker, &queue_address(&queue));
        send(&mut sender, 0, 0, &durable(true, b"m"));
        let (mut peer, id, count) = first_of(&broker, &queue);
        assert_eq!(count, 0);
        settle(&mut peer, id, failed());
        detach(peer);
        let (mut peer, _, count) = first_of(&broker, &queue);
        assert_eq!(count, 1);
        // With the session of its receiver it failed once more.
        peer.say(0, &End::default());
        awaited!(peer, End);
        // What is handed over to the store is written in its order.
        send(&mut sender, 0, 1, &durable(true, b"other"));
        broker = broker.kill_for_a_while().start();
        let (mut peer, id, count) = first_of(&broker, &queue);
        assert_eq!(count, 2, "after a kill: {arguments:?}");
        settle(&mut peer, id, failed());
        detach(peer);
        broker = broker.stop_for_a_while().start();
        let (mut peer, id, count) = first_of(&broker, &queue);
        assert_eq!(count, 3, "after a stop: {arguments:?}");
        settle(&mut peer, id, Accepted {});
        detach(peer);
        let (mut peer, id, count) = first_of(&broker, &queue);
        assert_eq!(count, 0, "another message: {arguments:?}");
        settle(&mut peer, id, Accepted {});
        peer.expect_alive();
    }
}
