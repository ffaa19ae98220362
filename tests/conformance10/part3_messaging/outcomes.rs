//! What outcomes say besides, and what becomes of messages that get none.

use super::*;
use leveret_amqp10::{
    messaging::Outcome,
    performatives::Close,
    types::{ListBuilder, Timestamp, Uuid},
};
use leveret_testkit::wire::Arguments;

/// The next message on link 0, given credit for it.
fn next(peer: &mut Peer) -> Vec<u8> {
    peer.say(0, &credit(0, 0, 1));
    loop {
        let came = peer.frame();
        match came.read() {
            (Performative::Transfer(_), payload) => return payload.to_vec(),
            // Whether the link is active.
            (Performative::Flow(_), _) => {}
            (other, _) => panic!("{other:?}"),
        }
    }
}

/// 3.5.3, default-outcome: what is not settled when its link is detached is released, which counts as no failure.
/// With its session or its connection it counts as one, as in RabbitMQ's quorum queues.
#[test]
fn a_detach_is_no_failure_and_the_end_of_a_session_is_one() {
    with_bystander(|broker| {
        for arguments in [&[][..], QUORUM] {
            let mut both = Both::new(broker, arguments);
            both.accepted(&message(b"m"));
            let address = queue_address(&both.queue);
            let mut counts = Vec::new();
            for over in ["link", "link", "session", "connection", "link"] {
                let mut reader = Peer::begun(broker);
                reader.attach(0, &receiver(0, "r", source(&address)));
                counts.push(header_of(&next(&mut reader)).delivery_count.unwrap());
                match over {
                    "link" => {
                        reader.say(0, &Detach { handle: 0, closed: true, error: None });
                        awaited!(reader, Detach);
                    }
                    "session" => {
                        reader.say(0, &End::default());
                        awaited!(reader, End);
                    }
                    _ => {
                        reader.say(0, &Close::default());
                        awaited!(reader, Close);
                    }
                }
            }
            assert_eq!(counts, [0, 0, 0, 1, 2], "{arguments:?}");
        }
    });
}

/// 2.7.3, max-message-size: a message that is too large for one receiver is there for others, also where it would have been
/// settled when it was sent; what fits is not.
#[test]
fn a_message_that_is_too_large_for_one_is_for_others() {
    with_bystander(|broker| {
        let modes = [SenderSettleMode::Unsettled, SenderSettleMode::Settled];
        for (arguments, mode) in [&[][..], QUORUM].into_iter().flat_map(|it| modes.map(|mode| (it, mode))) {
            let mut both = Both::new(broker, arguments);
            both.accepted(&message(b"fits"));
            both.accepted(&message(&[b'x'; 500]));
            let address = queue_address(&both.queue);
            let mut small = Peer::begun(broker);
            let attach = receiver(0, "r", source(&address));
            small.attach(0, &Attach { max_message_size: Some(400), snd_settle_mode: mode, ..attach });
            small.say(0, &credit(0, 0, 2));
            let (mut came, condition) = (
                Vec::new(),
                loop {
                    match small.frame().read() {
                        (Performative::Detach(it), _) => break it.error.unwrap().condition.to_string(),
                        (Performative::Transfer(it), payload) => {
                            assert_eq!(it.settled, Some(mode == SenderSettleMode::Settled));
                            assert!(payload.ends_with(b"fits"));
                        }
                        // Whether the link is active.
                        (Performative::Flow(_), _) => {}
                        (other, _) => panic!("{other:?}"),
                    }
                },
            );
            assert_eq!(condition, "amqp:link:message-size-exceeded");
            let expected = if mode == SenderSettleMode::Settled { 1 } else { 2 };
            for _ in 0..expected {
                let (id, message) = both.receive();
                came.push(message.len() > 500);
                both.settle(id, Accepted {});
            }
            came.sort_unstable();
            assert_eq!(came, [false, true][2 - expected..], "{arguments:?} {mode:?}");
            both.peer.expect_alive();
            assert_eq!(both.other.ready(&both.queue), 0);
        }
    });
}

/// 3.5.3, default-outcome and outcomes: what a client says of its source counts for what it settles without an outcome, and
/// is told. What it has not settled goes back when its link ends.
#[test]
fn what_is_settled_without_an_outcome_has_that_of_its_source() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let letters = other.queue(&[]);
        let to_letters = [("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", letters.as_str())];
        let names = ["amqp:accepted:list", "amqp:rejected:list", "amqp:modified:list"];
        let outcomes = names.map(Symbol::from_static);
        let failed = Modified { delivery_failed: Some(true), ..Modified::default() };
        let cases: [(Outcome<'static>, [u32; 2]); 3] =
            [(Accepted {}.into(), [0, 0]), (Rejected::default().into(), [0, 1]), (failed.into(), [1, 0])];
        for (outcome, expected) in cases {
            let mut both = Both::new(broker, &to_letters);
            both.accepted(&message(b"m"));
            let address = queue_address(&both.queue);
            let wanted = Source {
                default_outcome: Some(outcome),
                outcomes: Symbols::Slice(&outcomes),
                ..source(&address)
            };
            for is_settled in [false, true] {
                let mut peer = Peer::begun(broker);
                peer.say(0, &receiver(0, "r", wanted));
                awaited!(peer, Attach, it => {
                    let source = it.source.unwrap();
                    assert_eq!(source.default_outcome, Some(outcome));
                    assert!(source.outcomes.iter().eq(outcomes), "{source:?}");
                });
                next(&mut peer);
                let settled =
                    Disposition { role: Role::Receiver, settled: is_settled, ..Disposition::default() };
                peer.say(0, &settled);
                peer.say(0, &Detach { handle: 0, closed: true, error: None });
                awaited!(peer, Detach);
            }
            let ready = [&both.queue, &letters].map(|queue| other.ready(queue));
            assert_eq!(ready, expected, "{outcome:?}");
            if ready[0] > 0 {
                let (id, came) = both.receive();
                assert_eq!(header_of(&came).delivery_count, Some(1));
                both.settle(id, Accepted {});
            }
            if ready[1] > 0 {
                let mut reader = Peer::begun(broker);
                reader.attach(0, &receiver(0, "r", source(&queue_address(&letters))));
                next(&mut reader);
                let accepted =
                    Disposition { state: Some(Accepted {}.into()), settled: true, ..Disposition::default() };
                reader.say(0, &Disposition { role: Role::Receiver, ..accepted });
                reader.expect_alive();
            }
        }
    });
}

/// 3.2.1, delivery-count: a dead letter that was rejected says so in any queue, as in RabbitMQ, and goes on from there.
#[test]
fn a_dead_letter_says_how_often_it_failed() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        for (kind, of_letters) in [&[][..], QUORUM].into_iter().flat_map(|it| [(it, &[][..]), (it, QUORUM)]) {
            let letters = other.queue(of_letters);
            let to_letters =
                [("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", letters.as_str())];
            let mut both = Both::new(broker, &[kind, &to_letters].concat());
            both.accepted(&message(b"m"));
            let (id, came) = both.receive();
            assert_eq!(header_of(&came).delivery_count, Some(0));
            both.settle(id, Rejected::default());
            let address = queue_address(&letters);
            let failed = Modified { delivery_failed: Some(true), ..Modified::default() };
            let outcomes: [(DeliveryState<'_>, u32); 3] =
                [(failed.into(), 1), (Released {}.into(), 2), (Accepted {}.into(), 2)];
            for (state, expected) in outcomes {
                let mut reader = Peer::begun(broker);
                reader.attach(0, &receiver(0, "r", source(&address)));
                let header = header_of(&next(&mut reader)).delivery_count;
                assert_eq!(header, Some(expected), "{kind:?} {of_letters:?}");
                let settled = Disposition { state: Some(state), settled: true, ..Disposition::default() };
                reader.say(0, &Disposition { role: Role::Receiver, ..settled });
                reader.expect_alive();
            }
        }
    });
}

/// 3.4.3: who is refused because of a queue that is full is told which one, in RabbitMQ's words.
#[test]
fn a_rejection_says_which_queue_is_full() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        for kind in ["classic", "quorum"] {
            let arguments = Arguments::new().short_string("x-queue-type").octet(b'S').long_string(kind);
            let arguments = arguments.short_string("x-overflow").octet(b'S').long_string("reject-publish");
            let arguments = arguments.short_string("x-max-length").octet(b'l').long_long(1).into_bytes();
            let queue = other.declare(|declare| declare.long_string(arguments));
            let mut peer = Peer::begun(broker);
            peer.attach(0, &sender(0, "s", target(&queue_address(&queue))));
            peer.transfer(0, &transfer(0, 0, b"0"), &message(b"m"));
            awaited!(peer, Disposition, it => assert!(matches!(it.state, Some(DeliveryState::Accepted(_)))));
            peer.transfer(0, &transfer(0, 1, b"1"), &message(b"m"));
            awaited!(peer, Disposition, it => {
                let Some(DeliveryState::Rejected(Rejected { error: Some(error) })) = it.state else {
                    panic!("{it:?}")
                };
                assert_eq!(error.condition.as_str(), "amqp:resource-limit-exceeded");
                let words = format!("queue '{queue}' exceeded maximum length");
                assert_eq!(error.description, Some(&words[..]));
                let info = error.info.unwrap();
                assert_eq!(info.get("queue"), Some(Value::String(&queue)));
                assert_eq!(info.get("reason"), Some(Value::Symbol(Symbol::from_static("maxlen"))));
            });
        }
    });
}

/// RabbitMQ's delayed retry: `modified` may say when a message is to be tried again.
#[test]
fn modified_may_say_when_a_message_is_tried_again() {
    const FAR: i64 = 40_000_000_000_000;
    with_bystander(|broker| {
        for time in [Value::Long(FAR), Value::Timestamp(Timestamp(FAR)), Value::Ulong(FAR as u64)] {
            let mut both = Both::new(broker, QUORUM);
            both.accepted(&message(b"m"));
            let modify = |both: &mut Both, id: u32, time: Value<'_>| {
                let mut map = MapBuilder::new();
                map.push(Symbol::from_static("x-opt-delivery-time"), time);
                let message_annotations = Fields::new(map.view());
                both.settle(id, Modified { message_annotations, ..Modified::default() });
            };
            let (id, _) = both.receive();
            modify(&mut both, id, Value::Long(1));
            let (id, came) = both.receive();
            assert_eq!(header_of(&came).first_acquirer, Some(false), "that time is over");
            modify(&mut both, id, time);
            both.peer.expect_alive();
            assert_eq!(both.other.ready(&both.queue), 0, "{time:?}");
            // Others do not wait for it.
            both.accepted(&message(b"other"));
            let (_, came) = both.receive();
            assert!(came.ends_with(b"other"));
        }
    });
}

/// 2.6.12: of a message that was settled when it was sent nobody hears but by the end of its link, which names it.
#[test]
fn a_link_that_ends_because_of_a_settled_message_names_it() {
    with_bystander(|broker| {
        let mut peer = Peer::begun(broker);
        peer.attach(0, &sender(0, "anywhere", Target::default()));
        let settled = Transfer { settled: Some(true), ..transfer(0, 0, b"its tag") };
        peer.transfer(0, &settled, &message(b"m"));
        awaited!(peer, Detach, it => {
            let error = it.error.unwrap();
            assert_eq!(error.condition.as_str(), "amqp:precondition-failed");
            assert_eq!(error.info.unwrap().get("delivery-tag"), Some(Value::Binary(b"its tag")));
        });
    });
}

/// 3.4.5: what is put into the message is of the type that it came in.
#[test]
fn annotations_of_modified_keep_their_types() {
    with_bystander(|broker| {
        let mut list = ListBuilder::new();
        list.push(7_i16).push("text");
        let values = [
            Value::Int(5),
            Value::Ubyte(6),
            Value::Ulong(7),
            Value::Float(0.5),
            Value::Char('c'),
            Value::Symbol(Symbol::from_static("symbol")),
            Value::Uuid(Uuid([9; 16])),
            Value::List(list.view()),
        ];
        let names = ["x-0", "x-1", "x-2", "x-3", "x-4", "x-5", "x-6", "x-7"].map(Symbol::from_static);
        for arguments in [&[][..], QUORUM] {
            let mut both = Both::new(broker, arguments);
            both.accepted(&message(b"m"));
            let (id, _) = both.receive();
            let mut map = MapBuilder::new();
            for (name, value) in names.iter().zip(values) {
                map.push(*name, value);
            }
            let message_annotations = Fields::new(map.view());
            both.settle(id, Modified { message_annotations, ..Modified::default() });
            let (_, came) = both.receive();
            let read = Message::new(&came).unwrap();
            for (name, value) in names.iter().zip(values) {
                assert_eq!(read.message_annotations().get(name.as_str()), Some(value), "{arguments:?}");
            }
        }
    });
}

/// 2.8.15, resource-deleted: a link to a queue that is gone ends, as in RabbitMQ, where it ends at once.
#[test]
fn a_link_to_a_queue_that_is_deleted_ends() {
    with_bystander(|broker| {
        for settled in [false, true] {
            let mut both = Both::new(broker, &[]);
            both.accepted(&message(b"m"));
            both.other.delete(&both.queue);
            awaited!(both.peer, Detach, it => assert_eq!(it.handle, 1));
            both.peer.say(0, &Detach { handle: 1, closed: true, error: None });
            let late = Transfer { settled: Some(settled), ..transfer(0, both.sent, b"late") };
            both.peer.transfer(0, &late, &message(b"m"));
            awaited!(both.peer, Detach, it => {
                assert_eq!((it.handle, it.closed), (0, true));
                assert_eq!(it.error.unwrap().condition.as_str(), "amqp:resource-deleted");
            });
        }
    });
}
