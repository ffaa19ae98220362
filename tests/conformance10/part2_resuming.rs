//! Part 2, 2.6.3 to 2.6.6 and 2.6.13: links that are attached again with what was not settled of them; part 3, 3.5.5 and
//! 3.5.6: how long that is kept. RabbitMQ has none of it.

mod counts;
mod limits;

use super::{
    Other, Peer,
    part2_transport::{message, transfer},
    peer::{awaited, begin, credit, open, receiver, sender, source, target},
    queue_address, with_bystander,
};
use leveret_amqp10::{
    Performative,
    messaging::{
        Accepted, DeliveryState, Modified, Received, Source, Target, TerminusDurability, TerminusExpiryPolicy,
    },
    performatives::{
        Attach, Close, Detach, Disposition, End, Flow, Open, ReceiverSettleMode, Role, Transfer, Unsettled,
    },
    types::{MapBuilder, Reader},
};
use leveret_testkit::{Broker, guests};

/// Deliveries and their states.
struct Map(MapBuilder);

impl Map {
    fn of(deliveries: &[(&[u8], Option<DeliveryState<'_>>)]) -> Self {
        let mut map = MapBuilder::new();
        for (tag, state) in deliveries {
            let mut encoded = Vec::new();
            match state {
                Some(state) => state.encode(&mut encoded),
                None => encoded.push(0x40),
            }
            map.push(*tag, Reader::new(&encoded).value().unwrap());
        }
        Self(map)
    }

    fn unsettled(&self) -> Option<Unsettled<'_>> {
        Some(Unsettled::new(self.0.view()).unwrap())
    }
}

const ACCEPTED: Option<DeliveryState<'static>> = Some(DeliveryState::Accepted(Accepted {}));

/// A source that is kept as long as that.
fn kept(address: &str, expiry_policy: TerminusExpiryPolicy, timeout: u32) -> Source<'_> {
    Source { expiry_policy, timeout, ..source(address) }
}

fn never(address: &str) -> Source<'_> {
    kept(address, TerminusExpiryPolicy::Never, 0)
}

/// Of a client that sends, and settles second.
fn second<'a>(name: &'a str, address: &'a str, unsettled: Option<Unsettled<'a>>) -> Attach<'a> {
    let target = Target { expiry_policy: TerminusExpiryPolicy::Never, ..target(address) };
    Attach { rcv_settle_mode: ReceiverSettleMode::Second, unsettled, ..sender(0, name, target) }
}

/// Puts messages into a queue.
fn fill(broker: &Broker, queue: &str, bodies: &[&str]) {
    let mut peer = Peer::begun(broker);
    peer.attach(0, &sender(0, "filling", target(&queue_address(queue))));
    for (id, body) in bodies.iter().enumerate() {
        peer.transfer(0, &transfer(0, id as u32, body.as_bytes()), &message(body.as_bytes()));
    }
    let mut accepted = 0;
    while accepted < bodies.len() as u32 {
        accepted += awaited!(peer, Disposition, it => it.last.unwrap_or(it.first) - it.first + 1);
    }
}

/// A delivery that came.
#[derive(Debug, PartialEq)]
struct Delivery {
    id: u32,
    tag: Vec<u8>,
    body: String,
    resumed: bool,
    settled: bool,
    state: Option<String>,
}

impl Delivery {
    /// Its body, and whether it goes on from an earlier attachment.
    fn short(&self) -> (&str, bool) {
        (&self.body, self.resumed)
    }
}

/// The next ones.
fn deliveries(peer: &mut Peer, count: usize) -> Vec<Delivery> {
    let one = |_| {
        let came = peer.frame();
        let (Performative::Transfer(it), payload) = came.read() else { panic!("{:?}", came.read().0) };
        let body = payload.iter().rev().take_while(|byte| byte.is_ascii_alphanumeric());
        let body: Vec<u8> = body.copied().collect::<Vec<_>>().into_iter().rev().collect();
        Delivery {
            id: it.delivery_id.unwrap(),
            tag: it.delivery_tag.unwrap().bytes().to_vec(),
            body: String::from_utf8(body).unwrap(),
            resumed: it.resume,
            settled: it.settled == Some(true),
            state: it.state.map(|state| format!("{state:?}")),
        }
    };
    (0..count).map(one).collect()
}

/// Attaches a link; what the answer says is unsettled, and whether that is all.
fn attach(peer: &mut Peer, attach: &Attach<'_>) -> (Option<Vec<Vec<u8>>>, bool) {
    peer.say(0, attach);
    answer(peer)
}

fn answer(peer: &mut Peer) -> (Option<Vec<Vec<u8>>>, bool) {
    awaited!(peer, Attach, it => {
        let tags = |map: Unsettled<'_>| map.iter().map(|(tag, _)| tag.bytes().to_vec()).collect();
        (it.unsettled.map(tags), it.incomplete_unsettled)
    })
}

fn settle(peer: &mut Peer, first: u32, last: u32) {
    let all = Disposition {
        role: Role::Receiver,
        first,
        last: Some(last),
        settled: true,
        state: ACCEPTED,
        ..Disposition::default()
    };
    peer.say(0, &all);
}

fn detach(peer: &mut Peer, handle: u32, closed: bool) {
    peer.say(0, &Detach { handle, closed, error: None });
    awaited!(peer, Detach, it => assert_eq!((it.handle, it.closed), (handle, closed)));
}

/// Until so many messages are ready.
fn wait_for(other: &mut Other, queue: &str, ready: u32) {
    while other.ready(queue) != ready {
        std::thread::yield_now();
    }
}

/// 2.6.13, of a receiver that lost its connection: an outcome that it had said counts, what it had is sent again as a delivery
/// that goes on, and what it did not have comes as a new one.
#[test]
fn a_receiver_goes_on_with_what_it_has_not_settled() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let queue = other.queue(&[]);
        let address = queue_address(&queue);
        fill(broker, &queue, &["1", "2", "3", "4", "5"]);
        let mut peer = Peer::begun(broker);
        assert_eq!(attach(&mut peer, &receiver(0, "r", never(&address))), (None, false));
        peer.say(0, &credit(0, 0, 5));
        let first = deliveries(&mut peer, 5);
        let tags: Vec<_> = first.iter().map(|delivery| delivery.tag.clone()).collect();
        drop(peer);
        let mut peer = Peer::begun(broker);
        let partial = Received { section_number: 0, section_offset: 3 };
        let rejected = Modified { undeliverable_here: Some(true), ..Modified::default() };
        let map = Map::of(&[
            (&tags[0], ACCEPTED),
            (&tags[1], None),
            (&tags[2], Some(partial.into())),
            (&tags[3], Some(rejected.into())),
            (b"unknown", None),
        ]);
        let again = Attach { unsettled: map.unsettled(), ..receiver(0, "r", never(&address)) };
        assert_eq!(attach(&mut peer, &again), (Some(tags[..4].to_vec()), false));
        assert_eq!(other.ready(&queue), 1, "what it did not have is back");
        peer.say(0, &credit(0, 0, 5));
        let came = deliveries(&mut peer, 5);
        let short: Vec<_> = came.iter().map(Delivery::short).collect();
        assert_eq!(short, [("", true), ("2", true), ("3", true), ("", true), ("5", false)]);
        assert!(came.iter().zip(&tags).take(4).all(|(delivery, tag)| delivery.tag == *tag));
        assert!(!tags.contains(&came[4].tag), "a tag is not used twice");
        let settled: Vec<_> = came.iter().map(|delivery| delivery.settled).collect();
        assert_eq!(settled, [true, false, false, true, false]);
        assert!(came[0].state.as_ref().unwrap().contains("Accepted"), "{came:?}");
        assert!(came[1].state.as_ref().unwrap().contains("section_offset: 0"), "{came:?}");
        assert!(came[3].state.as_ref().unwrap().contains("Modified"), "{came:?}");
        settle(&mut peer, came[1].id, came[4].id);
        detach(&mut peer, 0, true);
        assert_eq!(other.ready(&queue), 0);
    });
}

/// 2.6.3: who comes again without a map knows of nothing, and gets all as new deliveries.
#[test]
fn a_receiver_that_knows_nothing_begins_anew() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let queue = other.queue(&[]);
        let address = queue_address(&queue);
        fill(broker, &queue, &["1", "2"]);
        let mut peer = Peer::begun(broker);
        for resumes in [true, false] {
            assert_eq!(attach(&mut peer, &receiver(0, "r", never(&address))), (None, false));
            peer.say(0, &credit(0, 0, 5));
            let came = deliveries(&mut peer, 2);
            assert_eq!(came.iter().map(Delivery::short).collect::<Vec<_>>(), [("1", false), ("2", false)]);
            detach(&mut peer, 0, false);
            assert_eq!(other.ready(&queue), 0, "it may come again");
            if !resumes {
                // Not even one that wants nothing kept.
                peer.attach(0, &receiver(0, "r", source(&address)));
                assert_eq!(other.ready(&queue), 2);
            }
        }
    });
}

/// 2.6.4 and 2.6.6, 3.5.6: when the time of what is kept begins, and that it is over.
#[test]
fn what_is_kept_is_kept_as_long_as_was_granted() {
    use TerminusExpiryPolicy::{ConnectionClose, LinkDetach, Never, SessionEnd};
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let empty = Map::of(&[]);
        // When it goes back: after the detach, the end of the session, the close of the connection, or not at all.
        for (policy, timeout, back_after) in [
            (LinkDetach, 0, 0),
            (SessionEnd, 0, 1),
            (ConnectionClose, 0, 2),
            (Never, 0, 3),
            (LinkDetach, 3600, 3),
            (SessionEnd, 3600, 3),
            (ConnectionClose, 3600, 3),
        ] {
            let queue = other.queue(&[]);
            let address = queue_address(&queue);
            fill(broker, &queue, &["m"]);
            let mut peer = Peer::begun(broker);
            let asked = kept(&address, policy, timeout);
            peer.say(0, &Attach { unsettled: empty.unsettled(), ..receiver(0, "r", asked) });
            awaited!(peer, Attach, it => {
                let source = it.source.unwrap();
                assert_eq!((source.expiry_policy, source.timeout), (policy, timeout));
            });
            peer.say(0, &credit(0, 0, 5));
            deliveries(&mut peer, 1);
            let back = |other: &mut Other, step| {
                let ready = u32::from(back_after <= step);
                assert_eq!(other.ready(&queue), ready, "{policy:?} {timeout} after {step}");
            };
            detach(&mut peer, 0, false);
            back(&mut other, 0);
            peer.say(0, &End::default());
            awaited!(peer, End);
            back(&mut other, 1);
            peer.say(0, &Close::default());
            awaited!(peer, Close);
            back(&mut other, 2);
        }
        // And that a time passes.
        let queue = other.queue(&[]);
        let address = queue_address(&queue);
        fill(broker, &queue, &["m"]);
        let mut peer = Peer::begun(broker);
        peer.attach(0, &receiver(0, "r", kept(&address, LinkDetach, 1)));
        peer.say(0, &credit(0, 0, 5));
        deliveries(&mut peer, 1);
        detach(&mut peer, 0, false);
        wait_for(&mut other, &queue, 1);
    });
}

/// 3.5.5: a terminus that is to outlive the broker is granted as what does; one that asks for nothing is told that nothing
/// is kept.
#[test]
fn what_is_granted_is_told() {
    with_bystander(|broker| {
        let queue = Other::new(broker).queue(&[]);
        let address = queue_address(&queue);
        let mut peer = Peer::begun(broker);
        let durable = TerminusDurability::UnsettledState;
        for (handle, asked, granted) in [
            (
                0,
                Source { durable, ..never(&address) },
                (TerminusDurability::Configuration, TerminusExpiryPolicy::Never),
            ),
            (1, source(&address), (TerminusDurability::None, TerminusExpiryPolicy::LinkDetach)),
        ] {
            peer.say(0, &receiver(handle, &format!("r{handle}"), asked));
            awaited!(peer, Attach, it => {
                let source = it.source.unwrap();
                assert_eq!((source.durable, source.expiry_policy), granted);
            });
        }
        let asked = Target { durable, timeout: 5, ..target(&address) };
        peer.say(0, &sender(2, "s", asked));
        awaited!(peer, Attach, it => {
            let Some(leveret_amqp10::transactions::AnyTarget::Node(target)) = it.target else { panic!("{it:?}") };
            assert_eq!((target.durable, target.timeout), (TerminusDurability::Configuration, 5));
        });
    });
}

/// 2.6.6: a link that is closed has nothing left.
#[test]
fn what_is_closed_is_not_kept() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let queue = other.queue(&[]);
        let address = queue_address(&queue);
        fill(broker, &queue, &["m"]);
        let mut peer = Peer::begun(broker);
        peer.attach(0, &receiver(0, "r", never(&address)));
        peer.say(0, &credit(0, 0, 5));
        let came = deliveries(&mut peer, 1);
        detach(&mut peer, 0, true);
        assert_eq!(other.ready(&queue), 1);
        let map = Map::of(&[(&came[0].tag, None)]);
        let again = Attach { unsettled: map.unsettled(), ..receiver(0, "r", never(&address)) };
        assert_eq!(attach(&mut peer, &again), (None, false));
        peer.say(0, &credit(0, 0, 5));
        assert_eq!(deliveries(&mut peer, 1)[0].short(), ("m", false));
    });
}

/// 2.6.1: a link that is attached on another connection is stolen, with what is not settled of it.
#[test]
fn a_link_that_is_attached_elsewhere_is_stolen() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let queue = other.queue(&[]);
        let address = queue_address(&queue);
        fill(broker, &queue, &["1", "2"]);
        let mut peer = Peer::begun(broker);
        peer.attach(0, &receiver(0, "r", never(&address)));
        peer.say(0, &credit(0, 0, 5));
        let tags: Vec<_> = deliveries(&mut peer, 2).into_iter().map(|delivery| delivery.tag).collect();
        let mut thief = Peer::begun(broker);
        let map = Map::of(&[(&tags[0], None), (&tags[1], None)]);
        let again = Attach { unsettled: map.unsettled(), ..receiver(5, "r", never(&address)) };
        assert_eq!(attach(&mut thief, &again), (Some(tags.clone()), false));
        awaited!(peer, Detach, it => {
            assert_eq!((it.handle, it.closed), (0, true));
            assert_eq!(it.error.unwrap().condition.to_string(), "amqp:link:stolen");
        });
        thief.say(0, &credit(5, 0, 5));
        let came = deliveries(&mut thief, 2);
        assert!(came.iter().all(|delivery| delivery.resumed), "{came:?}");
        // Another container has another link, and so has who wants nothing kept.
        let mut third = Peer::logged_in(broker);
        third.say(0, &Open { container_id: "third", ..open() });
        awaited!(third, Open);
        third.begin();
        third.attach(0, &receiver(0, "r", never(&address)));
        peer.attach(0, &receiver(1, "r", source(&address)));
        settle(&mut thief, came[0].id, came[1].id);
        detach(&mut thief, 5, true);
        assert_eq!(other.ready(&queue), 0);
    });
}

/// 2.6.13, of a sender that lost its connection: what was accepted is told again, and is in the queue once.
#[test]
fn a_sender_that_resumes_a_delivery_sends_it_once() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let queue = other.queue(&[]);
        let address = queue_address(&queue);
        let mut peer = Peer::begun(broker);
        peer.attach(0, &second("s", &address, None));
        for (id, tag) in [b"a", b"b"].into_iter().enumerate() {
            peer.transfer(0, &transfer(0, id as u32, tag), &message(tag));
            awaited!(peer, Disposition, it => assert_eq!((it.first, it.settled, it.state), (id as u32, false, ACCEPTED)));
        }
        // This one is over.
        let settled = Disposition { role: Role::Sender, first: 1, settled: true, ..Disposition::default() };
        peer.say(0, &settled);
        peer.say(1, &begin());
        awaited!(peer, Begin);
        drop(peer);
        let mut peer = Peer::begun(broker);
        let map = Map::of(&[(b"a", None), (b"c", None)]);
        peer.say(0, &second("s", &address, map.unsettled()));
        awaited!(peer, Attach, it => {
            let theirs: Vec<_> = it.unsettled.unwrap().iter().map(|(tag, state)| (tag.bytes().to_vec(), state)).collect();
            assert_eq!(theirs, [(b"a".to_vec(), ACCEPTED)]);
        });
        awaited!(peer, Flow);
        // One that is not known is not looked at.
        peer.transfer(0, &Transfer { resume: true, ..transfer(0, 0, b"c") }, &message(b"c"));
        peer.transfer(0, &Transfer { resume: true, more: true, ..transfer(0, 1, b"a") }, &message(b"a"));
        peer.transfer(0, &Transfer { handle: 0, ..Transfer::default() }, &message(b"a"));
        awaited!(peer, Disposition, it => assert_eq!((it.first, it.settled, it.state), (1, false, ACCEPTED)));
        peer.say(0, &settled);
        peer.transfer(0, &transfer(0, 2, b"c"), &message(b"c"));
        awaited!(peer, Disposition, it => assert_eq!((it.first, it.state), (2, ACCEPTED)));
        assert_eq!(other.ready(&queue), 3);
        // It has settled the one, and says that it knows nothing of the other.
        detach(&mut peer, 0, false);
        peer.say(0, &second("s", &address, Map::of(&[]).unsettled()));
        assert_eq!(answer(&mut peer), (Some(Vec::new()), false));
    });
}

/// 2.6.13: what became of a message whose connection was lost before that was known.
#[test]
fn an_outcome_that_comes_late_is_told_to_who_resumes() {
    let broker =
        Broker::builder(env!("CARGO_BIN_EXE_leveret")).plugin(guests::component("takes_its_time")).start();
    let mut other = Other::new(&broker);
    let queue = other.queue(&[]);
    let exchange = other.slow_exchange("x-takes-its-time", 20_000_000, &queue, "slow");
    let address = format!("/exchanges/{exchange}/slow");
    let mut peer = Peer::begun(&broker);
    peer.attach(0, &second("s", &address, None));
    for id in 0..5 {
        peer.transfer(0, &transfer(0, id, &[id as u8]), &message(b"m"));
    }
    // When the broker has all of it, and has not answered for all.
    peer.say(1, &begin());
    drop(peer);
    let mut accepted = 0;
    let mut peer = Peer::begun(&broker);
    let tags: Vec<[u8; 1]> = (0..5).map(|id| [id]).collect();
    let map: Vec<(&[u8], Option<DeliveryState<'_>>)> = tags.iter().map(|tag| (&tag[..], None)).collect();
    peer.say(0, &second("s", &address, Map::of(&map).unsettled()));
    let (known, _) = answer(&mut peer);
    let known = known.unwrap_or_default();
    awaited!(peer, Flow);
    for (id, tag) in tags.iter().enumerate() {
        let resume = known.contains(&tag.to_vec());
        peer.transfer(0, &Transfer { resume, ..transfer(0, id as u32, tag) }, &message(b"m"));
    }
    while accepted < 5 {
        awaited!(peer, Disposition, it => {
            assert_eq!(it.state, ACCEPTED);
            accepted += it.last.unwrap_or(it.first) - it.first + 1;
        });
    }
    assert_eq!(other.ready(&queue), 5, "each once");
}

/// 2.7.3: with a map that is not complete nothing is sent but what goes on, and what is not in it stays.
#[test]
fn an_incomplete_map_says_nothing_of_what_is_not_in_it() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let queue = other.queue(&[]);
        let address = queue_address(&queue);
        fill(broker, &queue, &["1", "2"]);
        let mut peer = Peer::begun(broker);
        peer.attach(0, &receiver(0, "r", never(&address)));
        peer.say(0, &credit(0, 0, 2));
        let tags: Vec<_> = deliveries(&mut peer, 2).into_iter().map(|delivery| delivery.tag).collect();
        detach(&mut peer, 0, false);
        fill(broker, &queue, &["3"]);
        let map = Map::of(&[(&tags[1], ACCEPTED)]);
        let again = receiver(0, "r", never(&address));
        let again = Attach { unsettled: map.unsettled(), incomplete_unsettled: true, ..again };
        assert_eq!(attach(&mut peer, &again), (Some(tags.clone()), false));
        peer.say(0, &Flow { drain: true, ..credit(0, 0, 5) });
        assert_eq!(deliveries(&mut peer, 1)[0].short(), ("", true));
        awaited!(peer, Flow, it => assert_eq!((it.link_credit, it.drain), (Some(0), true)));
        detach(&mut peer, 0, false);
        assert_eq!(other.ready(&queue), 1);
        let map = Map::of(&[(&tags[0], None)]);
        let again = Attach { unsettled: map.unsettled(), ..receiver(0, "r", never(&address)) };
        assert_eq!(attach(&mut peer, &again), (Some(vec![tags[0].clone()]), false));
        peer.say(0, &credit(0, 0, 5));
        let came = deliveries(&mut peer, 2);
        assert_eq!(came.iter().map(Delivery::short).collect::<Vec<_>>(), [("1", true), ("3", false)]);
    });
}

/// 2.7.3: a map that does not fit the client's frames is not complete; a sender must not send what is new then.
#[test]
fn a_map_that_does_not_fit_is_not_complete() {
    with_bystander(|broker| {
        let queue = Other::new(broker).queue(&[]);
        let address = queue_address(&queue);
        let small = || {
            let mut peer = Peer::logged_in(broker);
            peer.say(0, &Open { max_frame_size: 512, ..open() });
            awaited!(peer, Open);
            peer.begin();
            peer
        };
        let mut peer = small();
        peer.attach(0, &second("s", &address, None));
        let mut tags = Vec::new();
        for id in 0..60_u32 {
            tags.push(id.to_be_bytes());
            peer.transfer(0, &transfer(0, id, &id.to_be_bytes()), &message(b"m"));
        }
        let mut accepted = 0;
        while accepted < 60 {
            accepted += awaited!(peer, Disposition, it => it.last.unwrap_or(it.first) - it.first + 1);
        }
        drop(peer);
        let mut peer = small();
        let map: Vec<(&[u8], Option<DeliveryState<'_>>)> = tags.iter().map(|tag| (&tag[..], None)).collect();
        peer.say(0, &second("s", &address, Map::of(&map).unsettled()));
        let (theirs, is_incomplete) = answer(&mut peer);
        assert!(is_incomplete && (1..60).contains(&theirs.unwrap().len()));
        awaited!(peer, Flow);
        peer.transfer(0, &Transfer { resume: true, ..transfer(0, 0, &tags[59]) }, &[]);
        awaited!(peer, Disposition, it => assert_eq!((it.first, it.state), (0, ACCEPTED)));
        peer.transfer(0, &transfer(0, 1, b"new"), &message(b"m"));
        awaited!(peer, Detach, it => {
            assert_eq!(it.error.unwrap().condition.to_string(), "amqp:illegal-state");
        });
    });
}

/// 2.7.5: a delivery that goes on and that nobody knows is ignored, on any link.
#[test]
fn who_resumes_what_was_never_sent_is_ignored() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let queue = other.queue(&[]);
        let mut peer = Peer::begun(broker);
        peer.attach(0, &sender(0, "s", target(&queue_address(&queue))));
        peer.transfer(0, &Transfer { resume: true, ..transfer(0, 0, b"a") }, &message(b"a"));
        peer.transfer(0, &transfer(0, 1, b"a"), &message(b"a"));
        awaited!(peer, Disposition, it => assert_eq!((it.first, it.last), (1, None)));
        assert_eq!(other.ready(&queue), 1);
    });
}

/// 2.6.13, 2.6.14: a large message goes on from its beginning.
#[test]
fn a_large_message_is_sent_again() {
    with_bystander(|broker| {
        let queue = Other::new(broker).queue(&[]);
        let address = queue_address(&queue);
        let mut peer = Peer::begun(broker);
        peer.attach(0, &sender(0, "s", target(&address)));
        let whole = message(&vec![b'x'; 3 << 20]);
        let pieces = whole.chunks(100_000);
        let last = pieces.len() - 1;
        for (place, piece) in pieces.enumerate() {
            let head = if place == 0 { transfer(0, 0, b"t") } else { Transfer::default() };
            peer.transfer(0, &Transfer { handle: 0, more: place < last, ..head }, piece);
        }
        while !matches!(peer.frame().read().0, Performative::Disposition(_)) {}
        peer.attach(0, &receiver(1, "r", never(&address)));
        peer.say(0, &credit(1, 0, 1));
        let receive = |peer: &mut Peer| {
            let (mut bytes, mut first) = (0, None);
            loop {
                let came = peer.frame();
                let (Performative::Transfer(it), payload) = came.read() else {
                    panic!("{:?}", came.read().0)
                };
                first = first.or_else(|| Some((it.delivery_tag.unwrap().bytes().to_vec(), it.resume)));
                bytes += payload.len();
                if !it.more {
                    return (first.unwrap(), bytes);
                }
            }
        };
        let ((tag, resumed), bytes) = receive(&mut peer);
        assert!(!resumed && bytes > 3 << 20);
        detach(&mut peer, 1, false);
        let map = Map::of(&[(&tag, None)]);
        let again = Attach { unsettled: map.unsettled(), ..receiver(1, "r", never(&address)) };
        peer.say(0, &again);
        assert_eq!(answer(&mut peer), (Some(vec![tag.clone()]), false));
        peer.say(0, &Flow { next_incoming_id: None, ..credit(1, 0, 1) });
        assert_eq!(receive(&mut peer), ((tag, true), bytes));
    });
}
