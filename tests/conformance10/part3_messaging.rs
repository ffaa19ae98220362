//! Part 3: messages, delivery states, sources and targets.

mod lifetimes;
mod offered;
mod outcomes;

use super::{
    Other, Peer,
    part2_transport::{message, transfer},
    peer::{awaited, credit, receiver, sender, source, target},
    queue_address, with_bystander,
};
use leveret_amqp10::{
    Performative, Value,
    composite::{Composite, Fields, Symbols},
    message::Message,
    messaging::{
        Accepted, COPY, DeliveryState, Header, MOVE, Modified, Properties, Rejected, Released, Source,
        Target, TerminusDurability, TerminusExpiryPolicy,
    },
    performatives::{
        Attach, Detach, Disposition, End, Flow, ReceiverSettleMode, Role, SenderSettleMode, Transfer,
    },
    transactions::AnyTarget,
    types::{MapBuilder, Symbol},
};
use leveret_testkit::Broker;

/// A client with a link to a queue (handle 0) and one from it (handle 1).
struct Both {
    peer: Peer,
    other: Other,
    queue: String,
    sent: u32,
    received: u32,
}

impl Both {
    fn new(broker: &Broker, arguments: &[(&str, &str)]) -> Self {
        let mut other = Other::new(broker);
        let queue = other.queue(arguments);
        let address = queue_address(&queue);
        let mut peer = Peer::begun(broker);
        peer.attach(0, &sender(0, "s", target(&address)));
        peer.attach(0, &receiver(1, "r", source(&address)));
        Self { peer, other, queue, sent: 0, received: 0 }
    }

    /// Sends a message; what became of it.
    fn send<R>(&mut self, message: &[u8], outcome: impl FnOnce(DeliveryState<'_>) -> R) -> R {
        let id = self.sent;
        self.sent += 1;
        self.peer.transfer(0, &transfer(0, id, &id.to_be_bytes()), message);
        awaited!(self.peer, Disposition, it => {
            assert_eq!((it.role, it.first, it.settled), (Role::Receiver, id, true));
            outcome(it.state.expect("a state"))
        })
    }

    fn accepted(&mut self, message: &[u8]) {
        self.send(message, |state| assert!(matches!(state, DeliveryState::Accepted(_)), "{state:?}"));
    }

    /// The next message: its number, and its bytes.
    fn receive(&mut self) -> (u32, Vec<u8>) {
        self.peer.say(0, &credit(1, self.received, 1));
        self.received += 1;
        loop {
            let came = self.peer.frame();
            match came.read() {
                (Performative::Transfer(it), payload) => {
                    return (it.delivery_id.unwrap(), payload.to_vec());
                }
                // Whether the link is active.
                (Performative::Flow(_), _) => {}
                (other, _) => panic!("{other:?}"),
            }
        }
    }

    fn settle<'a>(&mut self, id: u32, state: impl Into<DeliveryState<'a>>) {
        let disposition = Disposition {
            role: Role::Receiver,
            first: id,
            settled: true,
            state: Some(state.into()),
            ..Disposition::default()
        };
        self.peer.say(0, &disposition);
    }
}

fn encoded<'a>(composite: &impl Composite<'a>) -> Vec<u8> {
    let mut out = Vec::new();
    composite.encode(&mut out);
    out
}

fn header_of(message: &[u8]) -> Header {
    Message::new(message).unwrap().header()
}

const QUORUM: &[(&str, &str)] = &[("x-queue-type", "quorum")];

/// 3.2: the bare message is the same byte for byte, in encodings that nothing here would write, and so is the footer.
#[test]
fn the_bare_message_is_left_alone() {
    with_bystander(|broker| {
        let mut both = Both::new(broker, &[]);
        // An empty properties section whose descriptor and list take all the bytes that they may.
        let bare = [&b"\x00\x80\0\0\0\0\0\0\0\x73\xd0\0\0\0\x04\0\0\0\0"[..], &message(b"body")].concat();
        let footer = b"\x00\x53\x78\xd1\0\0\0\x10\0\0\0\x02\xb3\0\0\0\x03sig\xa0\x02\x01\x02";
        let delivery_annotations = b"\x00\x53\x71\xc1\x01\0";
        both.accepted(&[&delivery_annotations[..], &bare, footer].concat());
        let (_, came) = both.receive();
        let read = Message::new(&came).unwrap();
        assert_eq!(read.bare(), bare);
        assert!(came.ends_with(footer) && read.layout().delivery_annotations.is_none());
        let annotations = read.message_annotations();
        assert_eq!(annotations.get("x-exchange"), Some(Value::String("")));
        assert_eq!(annotations.get("x-routing-key"), Some(Value::String(&both.queue)));
    });
}

/// 3.2.1: what the header says of a message is kept; how often it was delivered is told anew.
#[test]
fn the_header_is_kept_and_counts() {
    with_bystander(|broker| {
        for arguments in [&[][..], QUORUM] {
            let mut both = Both::new(broker, arguments);
            let header =
                Header { durable: Some(true), priority: Some(2), ttl: Some(60_000), ..Header::default() };
            both.accepted(&[encoded(&header), message(b"m")].concat());
            let (id, came) = both.receive();
            let told = Header { first_acquirer: Some(true), delivery_count: Some(0), ..header };
            assert_eq!(header_of(&came), told);
            let failed = Modified { delivery_failed: Some(true), ..Modified::default() };
            both.settle(id, failed);
            let (id, came) = both.receive();
            let told = Header { first_acquirer: Some(false), delivery_count: Some(1), ..header };
            assert_eq!(header_of(&came), told, "{arguments:?}");
            both.settle(id, Released {});
            let (id, came) = both.receive();
            assert_eq!(header_of(&came).delivery_count, Some(1), "released is no failure");
            both.settle(id, failed);
            let (id, came) = both.receive();
            assert_eq!(header_of(&came).delivery_count, Some(2), "{arguments:?}");
            both.settle(id, Accepted {});
            both.peer.expect_alive();
            assert_eq!(both.other.ready(&both.queue), 0);
        }
    });
}

/// 3.4: the outcomes of a receiver.
#[test]
fn outcomes_settle_return_or_reject() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let letters = other.queue(&[]);
        for kind in ["classic", "quorum"] {
            let arguments = [
                ("x-queue-type", kind),
                ("x-dead-letter-exchange", ""),
                ("x-dead-letter-routing-key", letters.as_str()),
            ];
            let mut both = Both::new(broker, &arguments);
            both.accepted(&message(b"first"));
            both.accepted(&message(b"second"));
            let (first, _) = both.receive();
            both.settle(first, Released {});
            let (first, came) = both.receive();
            assert!(came.ends_with(b"first"), "what is released comes first again");
            both.settle(first, Rejected { error: None });
            let (second, came) = both.receive();
            assert!(came.ends_with(b"second"));
            let elsewhere = Modified { undeliverable_here: Some(true), ..Modified::default() };
            both.settle(second, elsewhere);
            both.peer.expect_alive();
            assert_eq!((other.ready(&both.queue), other.ready(&letters)), (0, 2), "{kind}");
            let address = queue_address(&letters);
            let mut reader = Peer::begun(broker);
            reader.attach(0, &receiver(0, "letters", source(&address)));
            reader.say(0, &credit(0, 0, 2));
            for _ in 0..2 {
                let came = reader.frame();
                let (_, payload) = came.read();
                let read = Message::new(payload).unwrap();
                let annotations = read.message_annotations();
                assert_eq!(annotations.get("x-first-death-reason"), Some(Value::String("rejected")));
                let Some(Value::Array(deaths)) = annotations.get("x-opt-deaths") else { panic!("no deaths") };
                let Some(Value::Map(death)) = deaths.iter().next() else { panic!("no death") };
                assert_eq!(death.symbol("queue"), Some(Value::String(&both.queue)));
                assert_eq!(death.symbol("count"), Some(Value::Ulong(1)));
            }
            let all = Disposition {
                role: Role::Receiver,
                first: 0,
                last: Some(1),
                settled: true,
                state: Some(Accepted {}.into()),
                ..Disposition::default()
            };
            reader.say(0, &all);
            reader.expect_alive();
            assert_eq!(other.ready(&letters), 0);
        }
    });
}

/// 3.4.5: what modified says of a message is in it from then on: for who gets it next, and as a dead letter.
#[test]
fn modified_puts_annotations_into_the_message() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let letters = other.queue(&[]);
        for kind in ["classic", "quorum"] {
            let arguments = [
                ("x-queue-type", kind),
                ("x-dead-letter-exchange", ""),
                ("x-dead-letter-routing-key", letters.as_str()),
            ];
            let mut both = Both::new(broker, &arguments);
            both.accepted(&message(b"m"));
            let modify = |both: &mut Both, id: u32, here: bool, named: &[(&'static str, &str)]| {
                let mut map = MapBuilder::new();
                for (name, value) in named {
                    map.push(Symbol::from_static(name), *value);
                }
                let message_annotations = Fields::new(map.view());
                let undeliverable_here = Some(here);
                both.settle(id, Modified { undeliverable_here, message_annotations, ..Modified::default() });
            };
            let seen = |payload: &[u8], name: &str| {
                let read = Message::new(payload).unwrap();
                read.message_annotations().get(name).map(|value| value.as_str().unwrap().to_owned())
            };
            let (id, came) = both.receive();
            assert_eq!(seen(&came, "x-opt-by"), None);
            modify(&mut both, id, false, &[("x-opt-by", "first"), ("x-opt-why", "busy"), ("own", "no")]);
            let (id, came) = both.receive();
            assert_eq!(seen(&came, "x-opt-by").as_deref(), Some("first"), "{kind}");
            assert_eq!(seen(&came, "x-opt-why").as_deref(), Some("busy"), "{kind}");
            assert_eq!(seen(&came, "own"), None, "{kind}");
            assert_eq!(seen(&came, "x-routing-key").as_deref(), Some(both.queue.as_str()));
            assert!(Message::new(&came).unwrap().bare() == message(b"m"));
            modify(&mut both, id, true, &[("x-opt-by", "second")]);
            let address = queue_address(&letters);
            let mut reader = Peer::begun(broker);
            reader.attach(0, &receiver(0, "letters", source(&address)));
            reader.say(0, &credit(0, 0, 1));
            let came = reader.frame();
            let (_, letter) = came.read();
            assert_eq!(seen(letter, "x-opt-by").as_deref(), Some("second"), "{kind}");
            assert_eq!(seen(letter, "x-opt-why").as_deref(), Some("busy"), "{kind}");
            let accepted = Disposition {
                role: Role::Receiver,
                first: 0,
                settled: true,
                state: Some(Accepted {}.into()),
                ..Disposition::default()
            };
            reader.say(0, &accepted);
            reader.expect_alive();
        }
    });
}

/// 3.4: what becomes of what is sent.
#[test]
fn a_sender_is_told_the_outcome() {
    with_bystander(|broker| {
        let mut peer = Peer::begun(broker);
        peer.attach(0, &sender(0, "fanout", target("/exchanges/amq.fanout")));
        peer.transfer(0, &transfer(0, 0, b"a"), &message(b"nobody"));
        awaited!(peer, Disposition, it => {
            assert!(matches!(it.state, Some(DeliveryState::Released(_))), "unroutable: {it:?}");
        });
        // No message: the link goes on.
        peer.transfer(0, &transfer(0, 1, b"b"), b"\x00\x53\x75\xa0\x09short");
        let why = awaited!(peer, Disposition, it => rejection(it.state));
        assert_eq!(why, "amqp:decode-error");
        peer.transfer(0, &Transfer { message_format: Some(1), ..transfer(0, 2, b"c") }, &message(b"m"));
        let why = awaited!(peer, Disposition, it => rejection(it.state));
        assert_eq!(why, "amqp:not-implemented");
        // Of one that is settled already, the link is detached.
        peer.transfer(
            0,
            &Transfer { settled: Some(true), ..transfer(0, 3, b"d") },
            b"\x00\x53\x75\xa0\x09short",
        );
        let why = awaited!(peer, Detach, it => it.error.unwrap().condition.to_string());
        assert_eq!(why, "amqp:decode-error");
    });
}

fn rejection(state: Option<DeliveryState<'_>>) -> String {
    match state {
        Some(DeliveryState::Rejected(Rejected { error: Some(error) })) => error.condition.to_string(),
        other => panic!("no rejection: {other:?}"),
    }
}

/// 3.5.4: a target without an address; each message says where it goes (RabbitMQ's anonymous terminus).
#[test]
fn the_anonymous_terminus_sends_each_message_where_it_says() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let queue = other.queue(&[]);
        let mut peer = Peer::begun(broker);
        peer.attach(0, &sender(0, "anywhere", Target::default()));
        let mut send = |id: u32, to: Option<&str>| {
            let bytes = [encoded(&Properties { to, ..Properties::default() }), message(b"m")].concat();
            peer.transfer(0, &transfer(0, id, &[id as u8]), &bytes);
            awaited!(peer, Disposition, it => {
                assert_eq!(it.first, id);
                match it.state {
                    Some(DeliveryState::Rejected(_)) => rejection(it.state),
                    Some(DeliveryState::Accepted(_)) => "accepted".to_owned(),
                    Some(DeliveryState::Released(_)) => "released".to_owned(),
                    other => panic!("{other:?}"),
                }
            })
        };
        assert_eq!(send(0, Some(&queue_address(&queue))), "accepted");
        assert_eq!(send(1, None), "amqp:precondition-failed");
        assert_eq!(send(2, Some("nonsense")), "amqp:precondition-failed");
        assert_eq!(send(3, Some("/exchanges/nowhere/k")), "amqp:not-found");
        assert_eq!(send(4, Some("/queues/nowhere")), "released");
        assert_eq!(send(5, Some("/exchanges/amq.topic/k")), "released");
        assert_eq!(send(6, Some(&queue_address(&queue))), "accepted");
        assert_eq!(other.ready(&queue), 2);
    });
}

/// 2.6.12, receiver settle mode second (which RabbitMQ refuses): each side hears of the outcome before it is settled.
#[test]
fn both_sides_settle_in_mode_second() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let queue = other.queue(&[]);
        let address = queue_address(&queue);
        let mut peer = Peer::begun(broker);
        let second = ReceiverSettleMode::Second;
        peer.say(0, &Attach { rcv_settle_mode: second, ..sender(0, "s", target(&address)) });
        awaited!(peer, Attach, it => assert_eq!(it.rcv_settle_mode, second));
        awaited!(peer, Flow);
        peer.transfer(0, &transfer(0, 0, b"t"), &message(b"m"));
        awaited!(peer, Disposition, it => {
            assert!(!it.settled && matches!(it.state, Some(DeliveryState::Accepted(_))), "{it:?}");
        });
        let settled = Disposition { role: Role::Sender, first: 0, settled: true, ..Disposition::default() };
        peer.say(0, &settled);
        peer.say(0, &Attach { rcv_settle_mode: second, ..receiver(1, "r", source(&address)) });
        awaited!(peer, Attach, it => assert_eq!(it.rcv_settle_mode, second));
        peer.say(0, &credit(1, 0, 1));
        awaited!(peer, Transfer);
        let told = Disposition {
            role: Role::Receiver,
            first: 0,
            state: Some(Accepted {}.into()),
            ..Disposition::default()
        };
        peer.say(0, &told);
        awaited!(peer, Disposition, it => {
            assert_eq!((it.role, it.first, it.settled), (Role::Sender, 0, true));
        });
        assert_eq!(other.ready(&queue), 0);
    });
}

/// 2.8.2: what is settled when it is sent needs no outcome, in either direction.
#[test]
fn settled_transfers_have_no_outcome() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let queue = other.queue(&[]);
        let address = queue_address(&queue);
        let mut peer = Peer::begun(broker);
        let settled = SenderSettleMode::Settled;
        peer.attach(0, &Attach { snd_settle_mode: settled, ..sender(0, "s", target(&address)) });
        for id in 0..3 {
            peer.transfer(
                0,
                &Transfer { settled: Some(true), ..transfer(0, id, &[id as u8]) },
                &message(b"m"),
            );
        }
        peer.attach(0, &Attach { snd_settle_mode: settled, ..receiver(1, "r", source(&address)) });
        peer.say(0, &credit(1, 0, 3));
        for _ in 0..3 {
            awaited!(peer, Transfer, it => assert_eq!(it.settled, Some(true)));
        }
        peer.expect_alive();
        assert_eq!(other.ready(&queue), 0);
    });
}

/// 3.5.3: outcomes that nobody knows.
#[test]
fn unknown_outcomes_are_not_implemented() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let address = queue_address(&other.queue(&[]));
        let outcomes = [Symbol::from_static("amqp:accepted:list"), Symbol::from_static("own:outcome:list")];
        let mut wanted = source(&address);
        wanted.outcomes = leveret_amqp10::composite::Symbols::Slice(&outcomes);
        let mut peer = Peer::begun(broker);
        assert_eq!(peer.refused(0, &receiver(0, "r", wanted)), "amqp:not-implemented");
        let to = Attach { source: Some(wanted), ..sender(0, "s", target(&address)) };
        assert_eq!(peer.refused(0, &to), "amqp:not-implemented");
    });
}

/// 3.5.7: who wants to look at messages without taking them is given copies, whatever it says of them, and is told so.
/// (RabbitMQ gives them, and they are gone.)
#[test]
fn messages_are_copied_for_who_wants_to_look() {
    with_bystander(|broker| {
        for (arguments, settled) in [(&[][..], false), (QUORUM, false), (&[], true)] {
            let mut both = Both::new(broker, arguments);
            for body in [b"1", b"2"] {
                both.accepted(&message(body));
            }
            let address = queue_address(&both.queue);
            let mut peer = Peer::begun(broker);
            let browsing = Source { distribution_mode: Some(COPY), ..source(&address) };
            let mode = if settled { SenderSettleMode::Settled } else { SenderSettleMode::Unsettled };
            peer.say(0, &Attach { snd_settle_mode: mode, ..receiver(0, "browser", browsing) });
            awaited!(peer, Attach, it => assert_eq!(it.source.unwrap().distribution_mode, Some(COPY)));
            let draining = Flow { drain: true, ..credit(0, 0, 10) };
            peer.say(0, &draining);
            let mut seen = Vec::new();
            loop {
                match peer.frame().read() {
                    (Performative::Transfer(it), payload) => {
                        assert_eq!(it.settled, Some(settled));
                        seen.push(payload.last().copied());
                    }
                    // Whether the link is active.
                    (Performative::Flow(it), _) if it.properties.is_some() => {}
                    (Performative::Flow(it), _) => {
                        assert_eq!(it.link_credit, Some(0), "{it:?}");
                        break;
                    }
                    (other, _) => panic!("{other:?}"),
                }
            }
            assert_eq!(seen, [Some(b'1'), Some(b'2')], "{arguments:?}");
            if !settled {
                // It is answered, and means nothing.
                let accepted = Disposition { role: Role::Receiver, last: Some(1), ..Disposition::default() };
                peer.say(0, &Disposition { state: Some(Accepted {}.into()), ..accepted });
                awaited!(peer, Disposition, it => assert_eq!((it.first, it.last, it.settled), (0, Some(1), true)));
            }
            assert_eq!(both.other.ready(&both.queue), 2);
            let (id, came) = both.receive();
            assert_eq!(header_of(&came).first_acquirer, Some(true));
            both.settle(id, Accepted {});
            let moving = Source { distribution_mode: Some(MOVE), ..source(&address) };
            peer.attach(0, &receiver(1, "r", moving));
        }
    });
}

/// 3.5.3, 3.5.10: a queue that is made on demand, and goes with its link; its address is told.
#[test]
fn a_dynamic_source_is_a_queue_of_its_link() {
    with_bystander(|broker| {
        let mut peer = Peer::begun(broker);
        // What cannot be granted is not.
        let durable = TerminusDurability::UnsettledState;
        let wanted = Source { dynamic: true, durable, timeout: 60, ..Source::default() };
        peer.say(0, &receiver(0, "r", wanted));
        let address = awaited!(peer, Attach, it => {
            let source = it.source.unwrap();
            assert!(source.dynamic && source.dynamic_node_properties.is_some(), "{source:?}");
            let granted = (source.expiry_policy, source.timeout, source.durable);
            assert_eq!(granted, (TerminusExpiryPolicy::LinkDetach, 0, TerminusDurability::None));
            let modes = source.dynamic_node_properties.unwrap().get("supported-dist-modes");
            assert_eq!(modes, Some(Value::Symbol(Symbol::from_static("move"))));
            source.address.unwrap().to_owned()
        });
        peer.say(0, &credit(0, 0, 10));
        let mut other = Peer::begun(broker);
        other.attach(0, &sender(0, "s", target(&address)));
        other.transfer(0, &transfer(0, 0, b"t"), &message(b"reply"));
        awaited!(other, Disposition, it => assert!(matches!(it.state, Some(DeliveryState::Accepted(_)))));
        let came = peer.frame();
        assert!(came.read().1.ends_with(b"reply"));
        assert_eq!(other.refused(0, &receiver(1, "thief", source(&address))), "amqp:resource-locked");
        peer.say(0, &Detach { handle: 0, closed: true, error: None });
        awaited!(peer, Detach);
        assert_eq!(other.refused(0, &sender(2, "late", target(&address))), "amqp:not-found");
        // With the session too.
        peer.say(0, &receiver(0, "r", wanted));
        let address = awaited!(peer, Attach, it => it.source.unwrap().address.unwrap().to_owned());
        peer.say(0, &End::default());
        awaited!(peer, End);
        assert_eq!(other.refused(0, &sender(3, "late", target(&address))), "amqp:not-found");
    });
}

/// 3.5.4: the same for a target.
#[test]
fn a_dynamic_target_is_a_queue_of_its_link() {
    with_bystander(|broker| {
        let mut peer = Peer::begun(broker);
        let wanted = Target { dynamic: true, ..Target::default() };
        peer.say(0, &sender(0, "s", wanted));
        let address = awaited!(peer, Attach, it => match it.target {
            Some(AnyTarget::Node(target)) => target.address.unwrap().to_owned(),
            other => panic!("{other:?}"),
        });
        awaited!(peer, Flow);
        peer.transfer(0, &transfer(0, 0, b"t"), &message(b"m"));
        awaited!(peer, Disposition, it => assert!(matches!(it.state, Some(DeliveryState::Accepted(_)))));
        peer.attach(0, &receiver(1, "r", source(&address)));
    });
}

/// 3.5.3, 3.5.4: what is made on demand has no address before.
#[test]
fn a_dynamic_node_with_an_address_is_refused() {
    with_bystander(|broker| {
        let mut peer = Peer::begun(broker);
        let address = Some("/queues/q");
        let from = Source { dynamic: true, address, ..Source::default() };
        assert_eq!(peer.refused(0, &receiver(0, "r", from)), "amqp:not-implemented");
        let to = Target { dynamic: true, address, ..Target::default() };
        assert_eq!(peer.refused(0, &sender(1, "s", to)), "amqp:not-implemented");
    });
}

/// 3.5.3: a link that is refused leaves no queue behind.
#[test]
fn a_link_that_is_refused_makes_no_queue() {
    with_bystander(|broker| {
        let mut peer = Peer::begun(broker);
        for (handle, property) in ["rabbitmq:priority", "rabbitmq:consumer-timeout"].into_iter().enumerate() {
            let mut properties = MapBuilder::new();
            properties.push(Symbol::from_static(property), "soon");
            let properties = Fields::new(properties.view());
            let wanted = Source { dynamic: true, ..Source::default() };
            let attach = Attach { properties, ..receiver(handle as u32, property, wanted) };
            assert_eq!(peer.refused(0, &attach), "amqp:invalid-field");
        }
        let url = format!("http://{}/api/queues", broker.http_address());
        let told = ureq::get(url).header("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=").call().unwrap();
        assert_eq!(told.into_body().read_to_vec().unwrap(), b"[]");
    });
}

/// RabbitMQ's direct reply-to: a source that keeps nothing.
#[test]
fn replies_come_to_a_volatile_source() {
    with_bystander(|broker| {
        let mut peer = Peer::begun(broker);
        let capabilities = [Symbol::from_static("rabbitmq:volatile-queue")];
        let wanted = Source {
            dynamic: true,
            expiry_policy: TerminusExpiryPolicy::LinkDetach,
            capabilities: Symbols::Slice(&capabilities),
            ..Source::default()
        };
        let settled = SenderSettleMode::Settled;
        peer.say(0, &Attach { snd_settle_mode: settled, ..receiver(0, "replies", wanted) });
        let address = awaited!(peer, Attach, it => it.source.unwrap().address.unwrap().to_owned());
        assert!(address.starts_with("/queues/amq.rabbitmq.reply-to."), "{address}");
        peer.say(0, &credit(0, 0, 10));
        let mut other = Peer::begun(broker);
        other.attach(0, &sender(0, "s", Target::default()));
        let to = encoded(&Properties { to: Some(&address), ..Properties::default() });
        other.transfer(0, &transfer(0, 0, b"t"), &[to, message(b"reply")].concat());
        let came = peer.frame();
        assert!(came.read().1.ends_with(b"reply"));
    });
}
