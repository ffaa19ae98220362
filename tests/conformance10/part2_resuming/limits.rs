//! Many deliveries that are not settled, messages that do not go any more, and attaches that nobody waits for any more.

use super::*;
use leveret_amqp10::{
    composite::Composite as _,
    frame::{self, AMQP},
    messaging::Header,
};
use std::ops::Range;

/// A client that sends on a link, and what it was told.
struct Sends {
    peer: Peer,
    /// How many deliveries it has heard of.
    told: u32,
    /// How many it may have sent.
    most: u32,
}

impl Sends {
    fn attach(broker: &Broker, attach: &Attach<'_>) -> Self {
        let mut peer = Peer::begun(broker);
        peer.say(0, attach);
        awaited!(peer, Attach);
        Self { peer, told: 0, most: 0 }
    }

    /// Sends persistent messages in one write, whose tags are their numbers.
    fn send(&mut self, numbers: Range<u32>, resume: bool) {
        let mut out = Vec::new();
        for number in numbers {
            frame::put_frame(&mut out, AMQP, 0, |out| {
                Transfer { resume, ..transfer(0, number, &number.to_be_bytes()) }.encode(out);
                Header { durable: Some(true), ..Header::default() }.encode(out);
                out.extend(message(b"m"));
            });
        }
        self.peer.send(&out);
    }

    /// Reads until it was told of so many, and may send so many.
    fn wait(&mut self, told: u32, most: u32) {
        while self.told < told || self.most < most {
            match self.peer.frame().read().0 {
                Performative::Disposition(it) => {
                    assert_eq!(it.state, ACCEPTED);
                    self.told += it.last.unwrap_or(it.first) - it.first + 1;
                }
                Performative::Flow(it) if it.handle == Some(0) => {
                    self.most = it.delivery_count.unwrap() + it.link_credit.unwrap();
                }
                Performative::Flow(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

/// 2.6.7: a sender of which much was not told when it had used its credit is given more once it is.
#[test]
fn a_sender_that_has_sent_all_it_may_is_given_credit_again() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let queue = other.queue(&[]);
        let address = queue_address(&queue);
        let target = Target { expiry_policy: TerminusExpiryPolicy::Never, ..target(&address) };
        let mut sends = Sends::attach(broker, &sender(0, "s", target));
        sends.wait(0, 1);
        let most = sends.most;
        sends.send(0..most, false);
        sends.wait(most, most + 1);
        let more = sends.most;
        sends.send(most..more, false);
        sends.wait(more, more + 1);
        assert_eq!(other.ready(&queue), more);
    });
}

/// 2.6.13: a sender goes on with more deliveries than it may have on one attachment.
#[test]
fn a_sender_with_much_that_is_not_settled_goes_on() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let queue = other.queue(&[]);
        let address = queue_address(&queue);
        let mut sends = Sends::attach(broker, &second("s", &address, None));
        for numbers in [0..600, 600..1200] {
            sends.wait(numbers.start, numbers.end);
            sends.send(numbers, false);
        }
        sends.wait(1200, 0);
        drop(sends);
        let tags: Vec<_> = (0..1200_u32).map(u32::to_be_bytes).collect();
        let map: Vec<(&[u8], Option<DeliveryState<'_>>)> = tags.iter().map(|tag| (&tag[..], None)).collect();
        let mut sends = Sends::attach(broker, &second("s", &address, Map::of(&map).unsettled()));
        for numbers in [0..600, 600..1200] {
            sends.wait(numbers.start, numbers.end);
            sends.send(numbers, true);
        }
        sends.wait(1200, 0);
        assert_eq!(other.ready(&queue), 1200, "each once");
    });
}

/// 2.6.1, 2.5.6: an attach that waits until a link is given up elsewhere ends with its session, and does not come in a
/// later one of the same number.
#[test]
fn an_attach_that_waits_ends_with_its_session() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let (old, new) = (other.queue(&[]), other.queue(&[]));
        let (old_address, new_address) = (queue_address(&old), queue_address(&new));
        let stolen = second("stolen", &old_address, None);
        let mut owner = Peer::begun(broker);
        owner.attach(0, &stolen);
        let mut thief = Peer::begun(broker);
        let mut out = Vec::new();
        frame::put_performative(&mut out, 0, &stolen);
        frame::put_performative(&mut out, 0, &End::default());
        frame::put_performative(&mut out, 0, &begin());
        frame::put_performative(&mut out, 0, &sender(0, "another", target(&new_address)));
        thief.send(&out);
        awaited!(thief, End);
        awaited!(thief, Begin);
        awaited!(thief, Attach, it => assert_eq!(it.name, "another"));
        awaited!(thief, Flow);
        awaited!(owner, Detach, it => assert_eq!(it.error.unwrap().condition.to_string(), "amqp:link:stolen"));
        // The thief is woken meanwhile.
        for id in 0..20 {
            thief.transfer(0, &transfer(0, id, &[id as u8]), &message(b"m"));
            awaited!(thief, Disposition, it => assert_eq!(it.state, ACCEPTED));
        }
        assert_eq!((other.ready(&old), other.ready(&new)), (0, 20));
    });
}

/// 2.7.3: a link that goes on with messages that are too large for it now is detached, as one is that gets a new one.
#[test]
fn a_link_whose_messages_have_become_too_large_is_detached() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let queue = other.queue(&[]);
        let address = queue_address(&queue);
        fill(broker, &queue, &["1"]);
        let mut peer = Peer::begun(broker);
        peer.attach(0, &sender(1, "s", target(&address)));
        peer.transfer(0, &transfer(1, 0, b"2"), &message(&[b'x'; 500]));
        awaited!(peer, Disposition, it => assert_eq!(it.state, ACCEPTED));
        fill(broker, &queue, &["3"]);
        peer.attach(0, &receiver(0, "r", never(&address)));
        peer.say(0, &credit(0, 0, 5));
        let tags: Vec<_> = deliveries(&mut peer, 3).into_iter().map(|delivery| delivery.tag).collect();
        detach(&mut peer, 0, false);
        let map = Map::of(&[(&tags[0], None), (&tags[1], None), (&tags[2], None)]);
        let again = receiver(0, "r", never(&address));
        let again = Attach { unsettled: map.unsettled(), max_message_size: Some(400), ..again };
        assert_eq!(attach(&mut peer, &again), (Some(tags), false));
        peer.say(0, &Flow { next_incoming_id: Some(3), ..credit(0, 0, 5) });
        assert_eq!(deliveries(&mut peer, 1)[0].short(), ("1", true));
        awaited!(peer, Detach, it => {
            assert!(it.closed);
            assert_eq!(it.error.unwrap().condition.to_string(), "amqp:link:message-size-exceeded");
        });
        peer.say(0, &Detach { handle: 0, closed: true, error: None });
        // What is too large for this client is for others, as the rest is.
        wait_for(&mut other, &queue, 3);
    });
}

/// The next that is said of the credit of a link.
fn credit_of(peer: &mut Peer, handle: u32) -> u32 {
    loop {
        match peer.frame().read().0 {
            Performative::Flow(it) if it.handle == Some(handle) => return it.link_credit.unwrap(),
            Performative::Attach(_) | Performative::Flow(_) | Performative::Disposition(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// What is known of deliveries that their sender does not settle is charged to memory: with much of it there is no more
/// credit, until they are settled.
#[test]
fn deliveries_that_are_not_settled_hold_up_who_sends() {
    const LINKS: u32 = 150;
    const EACH: u32 = 1000;
    let builder = Broker::builder(env!("CARGO_BIN_EXE_leveret")).argument("--memory-mib=16");
    let broker = builder.argument("--memory-paging-percent=100").start();
    let mut peer = Peer::begun(&broker);
    let mut sent = 0;
    for handle in 0..LINKS {
        let name = format!("s{handle}");
        // Nothing is bound there.
        peer.say(0, &Attach { handle, name: &name, ..second("", "/exchanges/amq.fanout", None) });
        let asked = Flow { delivery_count: None, link_credit: None, echo: true, ..credit(handle, 0, 0) };
        peer.say(0, &Flow { next_outgoing_id: sent, ..asked });
        if credit_of(&mut peer, handle) == 0 {
            let (role, last) = (Role::Sender, Some(sent - 1));
            peer.say(0, &Disposition { role, last, settled: true, ..Disposition::default() });
            assert!(credit_of(&mut peer, handle) > 0);
            return;
        }
        let mut out = Vec::new();
        for id in sent..sent + EACH {
            frame::put_frame(&mut out, AMQP, 0, |out| {
                transfer(handle, id, &id.to_be_bytes()).encode(out);
                out.extend(message(b"m"));
            });
        }
        peer.send(&out);
        sent += EACH;
        let mut told = 0;
        while told < EACH {
            if let Performative::Disposition(it) = peer.frame().read().0 {
                told += it.last.unwrap_or(it.first) - it.first + 1;
            }
        }
    }
    panic!("{sent} deliveries are kept");
}

/// 2.6.13 and 2.7.5: a sender that aborts a delivery that goes on has settled it: nothing of it is kept any more.
#[test]
fn a_delivery_that_goes_on_and_is_aborted_is_settled() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let queue = other.queue(&[]);
        let address = queue_address(&queue);
        let mut peer = Peer::begun(broker);
        peer.attach(0, &second("s", &address, None));
        let tags = [b"0", b"1"];
        for (id, tag) in (0..).zip(tags) {
            peer.transfer(0, &transfer(0, id, tag), &message(b"m"));
            awaited!(peer, Disposition, it => assert!(!it.settled));
        }
        drop(peer);
        let map = Map::of(&[(tags[0], None), (tags[1], None)]);
        let mut peer = Peer::begun(broker);
        let known = attach(&mut peer, &second("s", &address, map.unsettled())).0;
        assert_eq!(known.unwrap_or_default(), [b"0", b"1"]);
        awaited!(peer, Flow);
        let aborted = Transfer { handle: 0, aborted: true, ..Transfer::default() };
        let of = |id, tag| Transfer { resume: true, ..transfer(0, id, tag) };
        peer.transfer(0, &Transfer { aborted: true, ..of(0, tags[0]) }, b"");
        peer.transfer(0, &Transfer { more: true, ..of(1, tags[1]) }, b"");
        peer.transfer(0, &aborted, b"");
        detach(&mut peer, 0, false);
        let known = attach(&mut peer, &second("s", &address, map.unsettled())).0;
        assert_eq!(known.unwrap_or_default(), Vec::<Vec<u8>>::new());
        assert_eq!(other.ready(&queue), 2, "what was taken stays");
    });
}
