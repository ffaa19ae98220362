//! Part 2: connections, sessions, links.

use super::{Other, Peer, peer, queue_address, with_bystander};
use leveret_amqp10::{
    Performative, Value,
    composite::Composite as _,
    frame::{self, ProtocolId},
    performatives::{Attach, Begin, Detach, End, Flow, Open, Transfer},
    security::Init,
    transactions::{AnyTarget, Coordinator},
    types::Symbol,
};
use leveret_testkit::wire::RawConnection;
use peer::{awaited, begin, credit, open, receiver, sender, source, target};

fn condition(error: Option<leveret_amqp10::performatives::Error<'_>>) -> String {
    error.expect("an error").condition.to_string()
}

/// A message whose body is one data section.
pub(crate) fn message(body: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0x53, 0x75, 0xb0];
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(body);
    out
}

pub(crate) fn transfer(handle: u32, id: u32, tag: &[u8]) -> Transfer<'_> {
    Transfer {
        handle,
        delivery_id: Some(id),
        delivery_tag: leveret_amqp10::performatives::DeliveryTag::new(tag),
        ..Transfer::default()
    }
}

/// What a client says of its session that has sent so many transfers and got none; its window is shut.
fn begun_flow(next_outgoing_id: u32) -> Flow<'static> {
    Flow { next_incoming_id: Some(0), incoming_window: 1, next_outgoing_id, ..Flow::default() }
}

/// 2.2: without SASL the header of SASL is the answer, and the end. The other protocol is spoken on the same port.
#[test]
fn protocols_are_told_apart_by_their_headers() {
    with_bystander(|broker| {
        for id in [0, 2] {
            let mut peer = Peer::connect(broker.address());
            peer.send(&[b'A', b'M', b'Q', b'P', id, 1, 0, 0]);
            assert_eq!(peer.take(8), ProtocolId::Sasl.header());
            peer.expect_end();
        }
        RawConnection::open_with_channel(broker.address()).expect_alive();
        // Byte by byte.
        let mut peer = Peer::connect(broker.address());
        for byte in ProtocolId::Sasl.header() {
            peer.send(&[byte]);
        }
        assert_eq!(peer.take(8), ProtocolId::Sasl.header());
    });
}

/// 2.7.1: what clients look for in open.
#[test]
fn open_says_who_the_broker_is_and_what_it_can_do() {
    with_bystander(|broker| {
        let mut peer = Peer::logged_in(broker);
        peer.say(0, &Open { hostname: Some("vhost:/"), ..open() });
        awaited!(peer, Open, it => {
            assert!(it.offered_capabilities.contains("ANONYMOUS-RELAY"));
            let properties = it.properties.unwrap();
            for name in ["product", "version", "node", "platform", "cluster_name"] {
                assert!(matches!(properties.get(name), Some(Value::String(_))), "{name}");
            }
            assert_eq!((it.max_frame_size, it.channel_max, it.idle_time_out), (131_072, 63, Some(30_000)));
        });
    });
}

/// 2.7.1: a frame that is as large as the broker says it takes; and one larger by a byte.
#[test]
fn frames_as_large_as_max_frame_size_are_taken() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let queue = other.queue(&[]);
        let mut peer = Peer::begun(broker);
        peer.attach(0, &sender(0, "s", target(&queue_address(&queue))));
        let frame_of = |bytes: usize, id: u32| {
            let transfer = transfer(0, id, b"t");
            let put = |payload: &[u8]| {
                let mut out = Vec::new();
                frame::put_frame(&mut out, frame::AMQP, 0, |out| {
                    transfer.encode(out);
                    out.extend_from_slice(payload);
                });
                out
            };
            let frame = put(&message(&vec![b'm'; bytes - put(&message(b"")).len()]));
            assert_eq!(frame.len(), bytes);
            frame
        };
        for id in 0..3 {
            peer.send(&frame_of(131_072, id));
            awaited!(peer, Disposition);
        }
        assert_eq!(other.ready(&queue), 3);
        peer.send(&frame_of(131_073, 3));
        awaited!(peer, Close, it => assert_eq!(condition(it.error), "amqp:connection:framing-error"));
    });
}

/// 2.7.1: a virtual host that is not there; an idle-time-out that cannot be kept.
#[test]
fn open_is_refused_with_open_and_close() {
    with_bystander(|broker| {
        let mut peer = Peer::logged_in(broker);
        peer.say(0, &Open { hostname: Some("vhost:nowhere"), ..open() });
        awaited!(peer, Open);
        let why = awaited!(peer, Close, it => condition(it.error));
        assert_eq!(why, "amqp:not-found");
        let mut peer = Peer::logged_in(broker);
        peer.say(0, &Open { idle_time_out: Some(10), ..open() });
        awaited!(peer, Open);
        let why = awaited!(peer, Close, it => condition(it.error));
        assert_eq!(why, "amqp:not-allowed");
    });
}

/// 2.4.5: a client that gives up after a second of silence hears something, again and again.
#[test]
fn signs_of_life_are_sent_to_whom_wants_them() {
    with_bystander(|broker| {
        let mut peer = Peer::logged_in(broker);
        peer.say(0, &Open { idle_time_out: Some(1000), ..open() });
        awaited!(peer, Open);
        for _ in 0..3 {
            peer.expect_sign_of_life();
        }
        peer.expect_alive();
    });
}

/// 2.4.1: everything may come at once.
#[test]
fn a_client_need_not_wait_for_any_answer() {
    with_bystander(|broker| {
        let queue = Other::new(broker).queue(&[]);
        let address = queue_address(&queue);
        let mut all = ProtocolId::Sasl.header().to_vec();
        let plain = Symbol::from_static("PLAIN");
        let init = Init { mechanism: plain, initial_response: Some(b"\0guest\0guest"), ..Init::default() };
        frame::put_sasl(&mut all, &init);
        all.extend(ProtocolId::Amqp.header());
        frame::put_performative(&mut all, 0, &open());
        frame::put_performative(&mut all, 0, &begin());
        frame::put_performative(&mut all, 0, &receiver(0, "r", source(&address)));
        frame::put_performative(&mut all, 0, &credit(0, 0, 10));
        let mut peer = Peer::connect(broker.address());
        peer.send(&all);
        peer.take(8);
        peer.sasl(|_| ());
        peer.sasl(|_| ());
        peer.take(8);
        awaited!(peer, Open);
        awaited!(peer, Begin);
        awaited!(peer, Attach);
        let mut other = Peer::begun(broker);
        other.attach(0, &sender(0, "s", target(&address)));
        other.transfer(0, &transfer(0, 0, b"t"), &message(b"hi"));
        awaited!(peer, Transfer, it => assert_eq!(it.delivery_id, Some(0)));
    });
}

/// 2.6.3: where a link cannot lead, the attach that answers leads nowhere, and a detach says why.
#[test]
fn links_lead_to_what_there_is() {
    with_bystander(|broker| {
        let mut peer = Peer::begun(broker);
        let mut handle = 0;
        let mut refused = |address: &str, sends: bool| {
            handle += 1;
            let name = format!("link {handle}");
            let attach = match sends {
                true => sender(handle, &name, target(address)),
                false => receiver(handle, &name, source(address)),
            };
            peer.refused(0, &attach)
        };
        for address in ["/queues/nowhere", "/exchanges/nowhere", "/exchanges/nowhere/key"] {
            assert_eq!(refused(address, true), "amqp:not-found", "{address}");
        }
        assert_eq!(refused("/queues/nowhere", false), "amqp:not-found");
        for address in ["nowhere", "/queue/q", "/exchanges//k", "/exchanges/amq.default/k", "/queues/%zz", ""]
        {
            assert_eq!(refused(address, true), "amqp:invalid-field", "{address}");
        }
        assert_eq!(refused("/exchanges/amq.fanout", false), "amqp:invalid-field");
        assert_eq!(refused("/exchanges/amq.rabbitmq.trace", true), "amqp:unauthorized-access");
        peer.expect_alive();
    });
}

/// 2.6.7: no more is sent than there is credit for, and what is left of it is given up when the client wants that.
/// It is told how many messages wait.
#[test]
fn credit_is_kept_and_drained() {
    with_bystander(|broker| {
        let queue = Other::new(broker).queue(&[]);
        let address = queue_address(&queue);
        let mut peer = Peer::begun(broker);
        peer.attach(0, &sender(0, "s", target(&address)));
        for id in 0..5 {
            peer.transfer(
                0,
                &Transfer { settled: Some(true), ..transfer(0, id, &[id as u8]) },
                &message(b"m"),
            );
        }
        peer.attach(0, &receiver(1, "r", source(&address)));
        peer.say(0, &credit(1, 0, 2));
        for id in 0..2 {
            awaited!(peer, Transfer, it => assert_eq!(it.delivery_id, Some(id)));
        }
        // Nothing more comes, whatever is said meanwhile.
        peer.say(0, &Flow { echo: true, ..credit(1, 2, 0) });
        awaited!(peer, Flow, it => {
            assert_eq!((it.delivery_count, it.link_credit, it.available), (Some(2), Some(0), Some(3)));
        });
        peer.say(0, &Flow { drain: true, ..credit(1, 2, 10) });
        for id in 2..5 {
            awaited!(peer, Transfer, it => assert_eq!(it.delivery_id, Some(id)));
        }
        awaited!(peer, Flow, it => {
            assert_eq!((it.delivery_count, it.link_credit, it.drain), (Some(12), Some(0), true));
            assert_eq!(it.available, Some(0));
        });
    });
}

/// RabbitMQ's `rabbitmq:active`: of the links from a quorum queue that has a single active consumer, which one it is; after
/// the first credit, and whenever it changes.
#[test]
fn links_are_told_whether_they_are_active() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let quorum = ("x-queue-type", "quorum");
        let told = |peer: &mut Peer| {
            awaited!(peer, Flow, it => (it.handle, it.properties.unwrap().get("rabbitmq:active")
                == Some(Value::Boolean(true))))
        };
        let address = queue_address(&other.queue(&[quorum]));
        let mut peer = Peer::begun(broker);
        for handle in 0..2 {
            peer.attach(0, &receiver(handle, &format!("link {handle}"), source(&address)));
            peer.say(0, &credit(handle, 0, 1));
            assert_eq!(told(&mut peer), (Some(handle), true), "all are");
        }
        let address = queue_address(&other.single_active_queue());
        for handle in 2..4 {
            peer.attach(0, &receiver(handle, &format!("link {handle}"), source(&address)));
            peer.say(0, &credit(handle, 0, 1));
            assert_eq!(told(&mut peer), (Some(handle), handle == 2));
        }
        // No more than once.
        peer.say(0, &credit(2, 0, 2));
        peer.say(0, &Detach { handle: 2, closed: true, error: None });
        awaited!(peer, Detach);
        assert_eq!(told(&mut peer), (Some(3), true));
        let address = queue_address(&other.queue(&[]));
        peer.attach(0, &receiver(4, "classic", source(&address)));
        peer.say(0, &credit(4, 0, 1));
        peer.expect_alive();
    });
}

/// 2.6.7: credit that is taken back is for others.
#[test]
fn credit_may_be_less_than_before() {
    with_bystander(|broker| {
        let queue = Other::new(broker).queue(&[]);
        let address = queue_address(&queue);
        let mut peer = Peer::begun(broker);
        peer.attach(0, &receiver(1, "r", source(&address)));
        peer.attach(0, &receiver(2, "other", source(&address)));
        peer.say(0, &credit(1, 0, 100));
        peer.say(0, &credit(1, 0, 0));
        peer.say(0, &credit(2, 0, 10));
        peer.attach(0, &sender(0, "s", target(&address)));
        for id in 0..3 {
            peer.transfer(
                0,
                &Transfer { settled: Some(true), ..transfer(0, id, &[id as u8]) },
                &message(b"m"),
            );
        }
        for _ in 0..3 {
            awaited!(peer, Transfer, it => assert_eq!(it.handle, 2));
        }
    });
}

/// 2.5.6: of a session whose window is shut nothing is sent, and the other sessions go on.
#[test]
fn a_window_that_is_shut_holds_up_its_session_alone() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let (address, another) = (queue_address(&other.queue(&[])), queue_address(&other.queue(&[])));
        let mut peer = Peer::opened(broker);
        peer.say(0, &Begin { incoming_window: 2, ..begin() });
        awaited!(peer, Begin);
        peer.say(1, &begin());
        awaited!(peer, Begin);
        peer.attach(1, &sender(0, "s", target(&address)));
        for id in 0..4 {
            peer.transfer(
                1,
                &Transfer { settled: Some(true), ..transfer(0, id, &[id as u8]) },
                &message(b"m"),
            );
        }
        peer.attach(0, &receiver(0, "r", source(&address)));
        peer.say(0, &Flow { incoming_window: 2, ..credit(0, 0, 10) });
        for _ in 0..2 {
            let came = peer.frame();
            assert_eq!(came.channel, 0);
        }
        peer.attach(1, &receiver(1, "other", source(&another)));
        peer.say(1, &credit(1, 0, 1));
        peer.attach(1, &sender(2, "another", target(&another)));
        peer.transfer(1, &Transfer { settled: Some(true), ..transfer(2, 4, b"t") }, &message(b"m"));
        let came = peer.frame();
        assert_eq!(came.channel, 1, "the other session goes on");
        let more = Flow { next_incoming_id: Some(2), incoming_window: 2, ..credit(0, 2, 8) };
        peer.say(0, &more);
        let came = peer.frame();
        assert_eq!(came.channel, 0);
    });
}

/// 2.6.5: a link whose queue is deleted is detached though nothing can be sent on it.
#[test]
fn a_link_ends_with_its_queue_though_the_window_is_shut() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let queue = other.queue(&[]);
        let address = queue_address(&queue);
        let mut sending = Peer::begun(broker);
        sending.attach(0, &sender(0, "s", target(&address)));
        let mut peer = Peer::opened(broker);
        peer.say(0, &Begin { incoming_window: 1, ..begin() });
        awaited!(peer, Begin);
        peer.attach(0, &receiver(0, "r", source(&address)));
        peer.say(0, &Flow { incoming_window: 1, ..credit(0, 0, 10) });
        for id in 0..2 {
            sending.transfer(0, &transfer(0, id, b"t"), &message(b"m"));
            awaited!(sending, Disposition);
        }
        awaited!(peer, Transfer);
        // By now it was seen that there is no room for the second.
        peer.say(0, &Flow { echo: true, ..begun_flow(0) });
        awaited!(peer, Flow);
        other.delete(&queue);
        awaited!(peer, Detach, it => assert_eq!(condition(it.error), "amqp:resource-deleted"));
    });
}

/// 2.6.4, 2.6.5: a link that is detached ends, and what its client has not settled is somebody else's.
#[test]
fn what_was_not_settled_goes_back_when_a_link_or_a_session_ends() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let queue = other.queue(&[]);
        let address = queue_address(&queue);
        let mut peer = Peer::begun(broker);
        peer.attach(0, &sender(0, "s", target(&address)));
        for id in 0..2 {
            peer.transfer(0, &transfer(0, id, &[id as u8]), &message(b"m"));
        }
        let mut accepted = 0;
        while accepted < 2 {
            accepted += awaited!(peer, Disposition, it => it.last.unwrap_or(it.first) - it.first + 1);
        }
        for round in 0..2 {
            peer.attach(0, &receiver(1, "r", source(&address)));
            peer.say(0, &credit(1, 0, 10));
            for place in 0..2 {
                awaited!(peer, Transfer, it => assert_eq!(it.delivery_id, Some(2 * round + place)));
            }
            peer.say(0, &Detach { handle: 1, closed: true, error: None });
            awaited!(peer, Detach);
            assert_eq!(other.ready(&queue), 2);
        }
        peer.attach(0, &receiver(1, "r", source(&address)));
        peer.say(0, &credit(1, 0, 10));
        awaited!(peer, Transfer);
        awaited!(peer, Transfer);
        peer.say(0, &End::default());
        awaited!(peer, End);
        assert_eq!(other.ready(&queue), 2);
    });
}

/// 2.6.12: an aborted delivery never was; one in several transfers is one.
#[test]
fn deliveries_in_several_transfers() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let queue = other.queue(&[]);
        let address = queue_address(&queue);
        let mut peer = Peer::begun(broker);
        peer.attach(0, &sender(0, "s", target(&address)));
        let whole = message(&[7; 1000]);
        let (front, rest) = whole.split_at(300);
        peer.transfer(0, &Transfer { more: true, ..transfer(0, 0, b"a") }, front);
        peer.transfer(0, &Transfer { handle: 0, aborted: true, ..Transfer::default() }, &[]);
        peer.transfer(0, &Transfer { more: true, ..transfer(0, 1, b"b") }, front);
        peer.transfer(0, &Transfer { handle: 0, ..Transfer::default() }, rest);
        awaited!(peer, Disposition, it => assert_eq!((it.first, it.settled), (1, true)));
        assert_eq!(other.ready(&queue), 1);
        peer.attach(0, &receiver(1, "r", source(&address)));
        peer.say(0, &credit(1, 0, 1));
        let came = peer.frame();
        assert!(came.read().1.ends_with(&[7; 1000]));
    });
}

/// 2.6.7, 2.6.14: a delivery that is aborted takes credit, which is renewed as that of others.
#[test]
fn the_credit_of_aborted_deliveries_is_renewed() {
    with_bystander(|broker| {
        let mut peer = Peer::begun(broker);
        let coordinator = AnyTarget::Coordinator(Coordinator::default());
        let queue = Other::new(broker).queue(&[]);
        let address = queue_address(&queue);
        let to_queue = sender(0, "s", target(&address));
        let to_coordinator = Attach { target: Some(coordinator), ..sender(1, "c", target("")) };
        let mut id = 0;
        for attach in [to_queue, to_coordinator] {
            peer.say(0, &attach);
            awaited!(peer, Attach);
            let credit = awaited!(peer, Flow, it => it.link_credit.unwrap());
            for _ in 0..credit {
                peer.transfer(0, &Transfer { aborted: true, ..transfer(attach.handle, id, b"t") }, &[]);
                id += 1;
            }
            peer.say(0, &Flow { handle: Some(attach.handle), echo: true, ..begun_flow(id) });
            peer.say(1 + attach.handle as u16, &begin());
            let mut left = None;
            loop {
                let came = peer.frame();
                match came.read().0 {
                    Performative::Flow(it) => left = it.link_credit.or(left),
                    Performative::Begin(_) => break,
                    other => panic!("{other:?}"),
                }
            }
            assert!(left >= Some(credit / 2), "{left:?} of {credit}");
        }
    });
}

/// 2.7.5, 2.8.17: what the client does against the protocol is told with its condition.
#[test]
fn wrong_transfers_end_their_link_or_session() {
    with_bystander(|broker| {
        let queue = Other::new(broker).queue(&[]);
        let address = queue_address(&queue);
        let mut peer = Peer::begun(broker);
        peer.transfer(0, &transfer(9, 0, b"t"), &message(b"m"));
        assert_eq!(awaited!(peer, End, it => condition(it.error)), "amqp:session:unattached-handle");
        let mut peer = Peer::begun(broker);
        peer.attach(0, &sender(0, "s", target(&address)));
        peer.say(0, &sender(0, "another", target(&address)));
        assert_eq!(awaited!(peer, End, it => condition(it.error)), "amqp:session:handle-in-use");
    });
}

/// 2.6.5: a link whose queue is deleted is detached.
#[test]
fn a_link_ends_with_its_queue() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let queue = other.queue(&[]);
        let address = queue_address(&queue);
        let mut peer = Peer::begun(broker);
        peer.attach(0, &sender(0, "s", target(&address)));
        peer.attach(0, &receiver(1, "r", source(&address)));
        peer.attach(0, &receiver(2, "another", source(&address)));
        other.delete(&queue);
        let mut ended = Vec::new();
        for _ in 0..2 {
            awaited!(peer, Detach, it => {
                assert_eq!(condition(it.error), "amqp:resource-deleted");
                ended.push(it.handle);
            });
        }
        ended.sort_unstable();
        assert_eq!(ended, [1, 2]);
        peer.transfer(0, &transfer(0, 0, b"t"), &message(b"m"));
        awaited!(peer, Disposition, it => {
            assert!(matches!(it.state, Some(leveret_amqp10::messaging::DeliveryState::Released(_))), "{it:?}");
        });
        peer.expect_alive();
    });
}
