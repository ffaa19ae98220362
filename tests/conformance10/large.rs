//! Messages that are not held whole (`large-message-mib`): they come in parts, lie in a file, and go out in parts.

use super::{
    Other, Peer,
    part2_transport::{message, transfer},
    peer::{awaited, begin, credit, receiver, sender, source, target},
    queue_address,
};
use leveret_amqp10::{
    Performative,
    composite::Composite,
    form::Kept,
    messaging::{Accepted, DeliveryState, Header, Properties, Rejected},
    performatives::{Attach, Begin, Detach, Disposition, Role, Transfer},
    transactions::{AnyTarget, Coordinator, Declare, Discharge, TransactionalState},
};
use leveret_testkit::wire::{Arguments, RawConnection, id};
use leveret_testkit::{Broker, EVENT_WAIT_MAX};
use std::time::Instant;

/// How large most of the messages are: three parts in memory would be seen.
pub(crate) const BODY_BYTES: usize = 5 * 1024 * 1024;
pub(crate) const FRAME_BYTES: usize = 120 * 1024;
/// What stands in front of a value that is a body.
const AMQP_VALUE: [u8; 3] = [0x00, 0x53, 0x77];

/// Runs a test against a broker whose files are seen; a second connection must survive it.
fn on_a_broker(test: impl FnOnce(&Broker)) {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    let mut bystander = Peer::opened(&broker);
    test(&broker);
    bystander.expect_alive();
}

pub(crate) fn body(seed: u8, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at / 251) as u8 ^ (at as u8).wrapping_mul(seed | 1)).collect()
}

/// A message with a header, properties and a body of one data section.
pub(crate) fn durable(is_durable: bool, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Header { durable: Some(is_durable), ..Header::default() }.encode(&mut out);
    Properties { subject: Some("large"), ..Properties::default() }.encode(&mut out);
    out.extend_from_slice(&message(body));
    out
}

/// Sends a message in frames, but for the last ones.
pub(crate) fn send_but(peer: &mut Peer, handle: u32, id: u32, message: &[u8], left_out: usize) {
    let frames = message.chunks(FRAME_BYTES).count();
    for (at, bytes) in message.chunks(FRAME_BYTES).take(frames - left_out).enumerate() {
        let more = at + 1 < frames;
        let tag = id.to_be_bytes();
        let of =
            if at == 0 { transfer(handle, id, &tag) } else { Transfer { handle, ..Transfer::default() } };
        peer.transfer(0, &Transfer { more, ..of }, bytes);
    }
}

/// The next disposition; flows may come before it.
pub(crate) fn outcome<R>(peer: &mut Peer, read: impl FnOnce(u32, DeliveryState<'_>) -> R) -> R {
    loop {
        let came = peer.frame();
        match came.read().0 {
            Performative::Flow(_) => {}
            Performative::Disposition(it) => return read(it.first, it.state.expect("a state")),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn send(peer: &mut Peer, handle: u32, id: u32, message: &[u8]) {
    send_but(peer, handle, id, message, 0);
    outcome(peer, |first, state| {
        assert_eq!(first, id);
        assert!(matches!(state, DeliveryState::Accepted(_)), "{state:?}");
    });
}

/// A message that comes on a link, with its number; other frames than its transfers are handed to `between`.
fn receive_with(peer: &mut Peer, handle: u32, mut between: impl FnMut(&Performative<'_>)) -> (u32, Vec<u8>) {
    let (mut number, mut message) = (None, Vec::new());
    loop {
        let came = peer.frame();
        match came.read() {
            (Performative::Transfer(it), payload) if it.handle == handle => {
                assert!(!it.aborted);
                number = number.or(it.delivery_id);
                message.extend_from_slice(payload);
                if !it.more {
                    return (number.expect("a number"), message);
                }
            }
            (other, _) => between(&other),
        }
    }
}

pub(crate) fn receive(peer: &mut Peer, handle: u32) -> (u32, Vec<u8>) {
    receive_with(peer, handle, |_| {})
}

pub(crate) fn settle<'a>(peer: &mut Peer, id: u32, state: impl Into<DeliveryState<'a>>) {
    let state = Some(state.into());
    peer.say(
        0,
        &Disposition { role: Role::Receiver, first: id, settled: true, state, ..Disposition::default() },
    );
}

/// What is the same in what was sent and what came: the bare message.
fn bare(message: &[u8]) -> &[u8] {
    leveret_amqp10::message::Message::new(message).expect("a message").bare()
}

fn body_of(message: &[u8]) -> Vec<u8> {
    Kept::of(message).expect("a message").body(message).to_vec()
}

/// The files of large bodies.
pub(crate) fn files(broker: &Broker) -> usize {
    let names = std::fs::read_dir(broker.data_directory().join("store")).expect("the store");
    names
        .filter(|name| {
            name.as_ref().is_ok_and(|name| name.file_name().to_string_lossy().starts_with("extent"))
        })
        .count()
}

pub(crate) fn until_files(broker: &Broker, count: usize) {
    let begun = Instant::now();
    while files(broker) != count {
        assert!(begun.elapsed() < EVENT_WAIT_MAX, "{} files, not {count}", files(broker));
        std::thread::yield_now();
    }
}

pub(crate) fn sender_to(broker: &Broker, address: &str) -> Peer {
    let mut peer = Peer::begun(broker);
    peer.attach(0, &sender(0, "s", target(address)));
    peer
}

pub(crate) fn receiver_from(broker: &Broker, queue: &str) -> Peer {
    let mut peer = Peer::begun(broker);
    peer.attach(0, &receiver(0, "r", source(&queue_address(queue))));
    peer.say(0, &credit(0, 0, 100));
    peer
}

/// 2.7.3 max-message-size: 256 MiB; and the bare message is the same byte for byte (3.2), however many sections it has.
#[test]
fn a_large_message_comes_as_it_was_sent_and_leaves_nothing() {
    on_a_broker(|broker| {
        let queue = Other::new(broker).queue(&[]);
        let mut peer = Peer::begun(broker);
        let address = queue_address(&queue);
        peer.say(0, &sender(0, "s", target(&address)));
        awaited!(peer, Attach, it => assert_eq!(it.max_message_size, Some(256 << 20)));
        awaited!(peer, Flow);
        peer.attach(0, &receiver(1, "r", source(&address)));
        peer.say(0, &credit(1, 0, 100));
        let one = durable(true, &body(3, BODY_BYTES));
        let several =
            [durable(false, &body(5, 3000)), message(&body(7, BODY_BYTES)), message(b"end")].concat();
        for (number, sent) in [one, several].iter().enumerate() {
            let id = number as u32;
            send_but(&mut peer, 0, id, sent, 0);
            let mut states = 0;
            let (came, received) = receive_with(&mut peer, 1, |frame| {
                states += u32::from(matches!(frame, Performative::Disposition(_)));
            });
            assert!(bare(&received) == bare(sent), "it is another");
            if states == 0 {
                outcome(&mut peer, |_, state| assert!(matches!(state, DeliveryState::Accepted(_))));
            }
            assert!(files(broker) >= 1);
            settle(&mut peer, came, Accepted {});
            until_files(broker, 0);
        }
    });
}

/// 2.6.14: what is given up, by an abort, a detach or the end of the connection, leaves nothing and arrives nowhere.
#[test]
fn a_large_message_that_is_given_up_leaves_nothing() {
    on_a_broker(|broker| {
        let mut other = Other::new(broker);
        let queue = other.queue(&[]);
        let address = queue_address(&queue);
        let sent = durable(true, &body(3, BODY_BYTES));
        let mut peer = sender_to(broker, &address);
        for (id, abort) in [(0, true), (1, false)] {
            send_but(&mut peer, 0, id, &sent, 3);
            until_files(broker, 1);
            if abort {
                peer.transfer(0, &Transfer { handle: 0, aborted: true, ..Transfer::default() }, b"");
            } else {
                peer.say(0, &Detach { handle: 0, closed: true, error: None });
            }
            until_files(broker, 0);
        }
        let mut lost = sender_to(broker, &address);
        send_but(&mut lost, 0, 0, &sent, 3);
        until_files(broker, 1);
        drop(lost);
        until_files(broker, 0);
        assert_eq!(other.ready(&queue), 0);
    });
}

/// A message with a subject of so many bytes, and that body.
fn with_subject(bytes: usize, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Properties { subject: Some(&"s".repeat(bytes)), ..Properties::default() }.encode(&mut out);
    out.extend_from_slice(body);
    out
}

/// 3.2: a message whose body does not begin with its first MiB, or that has none, is held whole and taken as any other.
#[test]
fn a_message_that_is_long_in_front_of_its_body_is_held_whole() {
    on_a_broker(|broker| {
        let queue = Other::new(broker).queue(&[]);
        let address = queue_address(&queue);
        let mut peer = sender_to(broker, &address);
        let all = [with_subject(3 << 20, &message(b"body")), with_subject(2 << 20, b"")];
        for (id, sent) in all.iter().enumerate() {
            send(&mut peer, 0, id as u32, sent);
        }
        peer.attach(0, &receiver(1, "r", source(&address)));
        peer.say(0, &credit(1, 0, 2));
        for sent in &all {
            let (_, came) = receive(&mut peer, 1);
            assert!(bare(&came) == bare(sent));
        }
        until_files(broker, 0);
    });
}

/// 2.6.14: what is no message is refused; what is not large may be only so long in front of its body.
#[test]
fn a_large_message_that_makes_no_sense_is_rejected() {
    on_a_broker(|broker| {
        let mut other = Other::new(broker);
        let queue = other.queue(&[]);
        let mut peer = sender_to(broker, &queue_address(&queue));
        let mut cut = durable(false, &body(3, BODY_BYTES));
        cut.truncate(BODY_BYTES);
        let long = with_subject(17 << 20, &message(b"body"));
        let wrong = [
            (cut, "amqp:decode-error"),
            (vec![7; BODY_BYTES], "amqp:decode-error"),
            (long, "amqp:resource-limit-exceeded"),
        ];
        for (id, (wrong, condition)) in wrong.iter().enumerate() {
            send_but(&mut peer, 0, id as u32, wrong, 0);
            outcome(&mut peer, |_, state| match state {
                DeliveryState::Rejected(Rejected { error }) => {
                    assert_eq!(error.expect("an error").condition.as_str(), *condition);
                }
                other => panic!("{other:?}"),
            });
        }
        send(&mut peer, 0, 3, &durable(false, &body(9, BODY_BYTES)));
        assert_eq!(other.ready(&queue), 1);
        other.delete(&queue);
        until_files(broker, 0);
    });
}

/// A file is shared by ten queues, and is there until the last has settled it.
#[test]
fn ten_queues_have_one_file() {
    on_a_broker(|broker| {
        let mut other = Other::new(broker);
        let queues: Vec<String> = (0..10).map(|_| other.queue(&[])).collect();
        for queue in &queues {
            let bind =
                Arguments::new().short(0).short_string(queue).short_string("amq.fanout").short_string("");
            other.0.send_method(1, id::QUEUE_BIND, bind.bits(&[false]).empty_table());
            other.0.expect_method(1, id::QUEUE_BIND_OK);
        }
        for is_durable in [true, false] {
            let sent = durable(is_durable, &body(3, BODY_BYTES));
            let mut peer = sender_to(broker, "/exchanges/amq.fanout");
            send(&mut peer, 0, 0, &sent);
            for queue in &queues {
                assert_eq!(files(broker), 1);
                let mut peer = receiver_from(broker, queue);
                let (came, received) = receive(&mut peer, 0);
                assert!(bare(&received) == bare(&sent), "it is another");
                settle(&mut peer, came, Accepted {});
                peer.say(0, &leveret_amqp10::performatives::End::default());
                awaited!(peer, End);
            }
            until_files(broker, 0);
        }
    });
}

/// 2.6.14: frames of other links and sessions come between the transfers of a large message.
#[test]
fn another_link_goes_on_while_a_large_message_waits_for_the_window() {
    on_a_broker(|broker| {
        let mut other = Other::new(broker);
        let (large, small) = (other.queue(&[]), other.queue(&[]));
        let sent = durable(true, &body(3, BODY_BYTES));
        send(&mut sender_to(broker, &queue_address(&large)), 0, 0, &sent);
        let mut peer = Peer::opened(broker);
        peer.say(0, &Begin { incoming_window: 5, outgoing_window: 5, ..begin() });
        awaited!(peer, Begin);
        peer.attach(0, &receiver(0, "large", source(&queue_address(&large))));
        peer.say(0, &leveret_amqp10::performatives::Flow { incoming_window: 5, ..credit(0, 0, 1) });
        let mut begun = Vec::new();
        for at in 0..5 {
            let came = peer.frame();
            let (Performative::Transfer(it), payload) = came.read() else { panic!("no transfer") };
            assert_eq!((it.more, it.delivery_id.is_some()), (true, at == 0));
            begun.extend_from_slice(payload);
        }
        // The window of that session is used up; another session is as free as ever.
        peer.say(1, &begin());
        awaited!(peer, Begin);
        let address = queue_address(&small);
        peer.attach(1, &sender(0, "s", target(&address)));
        peer.attach(1, &receiver(1, "r", source(&address)));
        peer.say(1, &credit(1, 0, 10));
        peer.transfer(1, &transfer(0, 0, b"t"), &message(b"small"));
        let mut seen = (false, false);
        while seen != (true, true) {
            let came = peer.frame();
            assert_eq!(came.channel, 1);
            match came.read().0 {
                Performative::Transfer(_) => seen.0 = true,
                Performative::Disposition(_) => seen.1 = true,
                other => panic!("{other:?}"),
            }
        }
        let wide = leveret_amqp10::performatives::Flow {
            next_incoming_id: Some(5),
            incoming_window: 10_000,
            ..leveret_amqp10::performatives::Flow::default()
        };
        peer.say(0, &wide);
        let rest = loop {
            let came = peer.frame();
            let (Performative::Transfer(it), payload) = came.read() else { continue };
            begun.extend_from_slice(payload);
            if !it.more {
                break &begun;
            }
        };
        assert!(bare(rest) == bare(&sent), "it is another");
    });
}

/// Clients of the other protocol get it in body frames, as delivery and by get.
#[test]
fn clients_of_the_other_protocol_get_large_messages() {
    on_a_broker(|broker| {
        let mut other = Other::new(broker);
        let queue = other.queue(&[]);
        let content = body(3, BODY_BYTES);
        let mut peer = sender_to(broker, &queue_address(&queue));
        (0..3).for_each(|id| send(&mut peer, 0, id, &durable(true, &content)));
        let connection = &mut other.0;
        for _ in 0..2 {
            let get = Arguments::new().short(0).short_string(&queue).bits(&[true]);
            connection.send_method(1, id::BASIC_GET, get);
        }
        for _ in 0..2 {
            connection.expect_method(1, id::BASIC_GET_OK);
            assert!(content_of(connection) == content, "it is another");
        }
        let consume = Arguments::new().short(0).short_string(&queue).short_string("c");
        connection.send_method(
            1,
            id::BASIC_CONSUME,
            consume.bits(&[false, false, false, false]).empty_table(),
        );
        connection.expect_method(1, id::BASIC_CONSUME_OK);
        connection.expect_method(1, id::BASIC_DELIVER);
        // What is asked meanwhile is answered behind it.
        connection.send_method(1, id::BASIC_QOS, Arguments::new().long(0).short(1).bits(&[false]));
        assert!(content_of(connection) == content, "it is another");
        connection.expect_method(1, id::BASIC_QOS_OK);
        connection.send_method(1, id::BASIC_ACK, Arguments::new().long_long(3).bits(&[false]));
        until_files(broker, 0);
    });
}

/// The body that follows a method.
fn content_of(connection: &mut RawConnection) -> Vec<u8> {
    let header = connection.expect_frame();
    let bytes = header.payload.get(4..12).and_then(|bytes| bytes.first_chunk()).expect("a header");
    let bytes = u64::from_be_bytes(*bytes) as usize;
    let mut content = Vec::new();
    while content.len() < bytes {
        let frame = connection.expect_frame();
        assert_eq!(frame.kind, leveret_testkit::wire::BODY);
        content.extend_from_slice(&frame.payload);
    }
    content
}

/// What is durable is there after a kill, with its file; what is not is gone with its own.
#[test]
fn a_durable_large_message_outlives_a_kill_and_the_file_of_another_does_not() {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    let letters = Other::new(&broker).queue(&[]);
    let arguments = [("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", &letters)];
    let queue = Other::new(&broker).queue(&arguments);
    let address = queue_address(&queue);
    let (kept, lost) = (durable(true, &body(3, BODY_BYTES)), durable(false, &body(5, BODY_BYTES)));
    let mut peer = sender_to(&broker, &address);
    send(&mut peer, 0, 0, &kept);
    send(&mut peer, 0, 1, &lost);
    send_but(&mut peer, 0, 2, &kept, 2);
    until_files(&broker, 3);
    let broker = broker.kill_for_a_while().start();
    until_files(&broker, 1);
    // Rejected, it is a dead letter with the same file.
    let mut peer = receiver_from(&broker, &queue);
    let (came, received) = receive(&mut peer, 0);
    assert!(bare(&received) == bare(&kept), "it is another");
    settle(&mut peer, came, Rejected::default());
    let mut peer = receiver_from(&broker, &letters);
    let (_, received) = receive(&mut peer, 0);
    assert!(body_of(&received) == body_of(&kept), "it is another");
    // Nobody settles it: it goes back, and is there after another start.
    drop(peer);
    let broker = broker.stop_for_a_while().start();
    let mut peer = receiver_from(&broker, &letters);
    let (came, received) = receive(&mut peer, 0);
    assert!(body_of(&received) == body_of(&kept), "it is another");
    settle(&mut peer, came, Accepted {});
    until_files(&broker, 0);
}

/// 4.4: a large message in a transaction is there when that is committed; one that is rolled back leaves nothing.
#[test]
fn large_messages_are_part_of_transactions() {
    on_a_broker(|broker| {
        let mut other = Other::new(broker);
        let queue = other.queue(&[]);
        for fail in [true, false] {
            let mut peer = sender_to(broker, &queue_address(&queue));
            peer.attach(0, &coordinator());
            let mut declare = AMQP_VALUE.to_vec();
            Declare::default().encode(&mut declare);
            peer.transfer(0, &transfer(1, 0, b"d"), &declare);
            let txn_id = outcome(&mut peer, |_, state| match state {
                DeliveryState::Declared(declared) => declared.txn_id.to_vec(),
                other => panic!("{other:?}"),
            });
            let state = || Some(DeliveryState::from(TransactionalState { txn_id: &txn_id, outcome: None }));
            let sent = durable(true, &body(3, BODY_BYTES));
            let frames = sent.chunks(FRAME_BYTES).count();
            for (at, bytes) in sent.chunks(FRAME_BYTES).enumerate() {
                let of = if at == 0 {
                    transfer(0, 1, b"m")
                } else {
                    Transfer { handle: 0, ..Transfer::default() }
                };
                peer.transfer(0, &Transfer { more: at + 1 < frames, state: state(), ..of }, bytes);
            }
            outcome(&mut peer, |_, state| {
                assert!(matches!(state, DeliveryState::Transactional(_)), "{state:?}")
            });
            assert_eq!((other.ready(&queue), files(broker)), (0, 1));
            let mut discharge = AMQP_VALUE.to_vec();
            Discharge { txn_id: &txn_id, fail: Some(fail) }.encode(&mut discharge);
            peer.transfer(0, &transfer(1, 2, b"e"), &discharge);
            outcome(&mut peer, |_, state| assert!(matches!(state, DeliveryState::Accepted(_)), "{state:?}"));
            if fail {
                until_files(broker, 0);
            } else {
                assert_eq!((other.ready(&queue), files(broker)), (1, 1));
            }
        }
    });
}

fn coordinator() -> Attach<'static> {
    let coordinator = AnyTarget::Coordinator(Coordinator::default());
    Attach { target: Some(coordinator), ..sender(1, "coordinator", target("")) }
}
