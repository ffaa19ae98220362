//! Section 2.6.14, of messages that are not held whole.

use super::peer::{Peer, begin, config, login, open, put, receiver, sender};
use crate::{
    connection::{Attached, ConnectionConfig, Event, LARGE_MESSAGE_BYTES, NotSent, Outgoing, Sent, Then},
    frame::{AMQP, put_frame},
    performatives::{Attach, DeliveryTag, Flow, Transfer},
};
use alloc::{format, string::String, vec, vec::Vec};

const MIB: usize = 1024 * 1024;

/// A connection with two links on which the client sends, the first of which takes large messages.
fn taking() -> Peer {
    let config =
        ConnectionConfig { message_bytes_max: 4 << 20, whole_message_bytes_max: 2 << 20, ..config() };
    let config = ConnectionConfig { frame_bytes_max: 600 * 1024, ..config };
    let mut peer = Peer::new(config);
    peer.give(&[login(), put(0, &open()), put(1, &begin())].concat());
    for (handle, name, large) in [(0, "later large", true), (1, "later whole", false)] {
        let attach = sender(handle, name);
        peer.say(1, &attach);
        peer.connection.attached(1, handle, &Attached { large, ..Attached::as_asked(&attach) });
        peer.connection.grant(1, handle, 10);
    }
    peer.events();
    peer
}

/// What comes of a transfer, in short.
fn transfer(peer: &mut Peer, transfer: &Transfer<'_>, payload: &[u8]) -> Vec<String> {
    let mut out = Vec::new();
    put_frame(&mut out, AMQP, 1, |out| {
        crate::composite::Composite::encode(transfer, out);
        out.extend_from_slice(payload);
    });
    let mut all = Vec::new();
    let mut at = 0;
    while let (took, Some(event)) = peer.connection.next(&out[at..]) {
        at += took;
        all.push(match event {
            Event::Part(part) => {
                let then = match part.then {
                    Then::More => String::from("more"),
                    Then::End(delivery) => {
                        assert!(delivery.message.is_empty());
                        format!("end {} {}", delivery.delivery_id, delivery.settled)
                    }
                    Then::Aborted => String::from("aborted"),
                };
                format!("part {} of {}, {then}", part.handle, part.bytes.len())
            }
            Event::Delivery(delivery) => {
                format!("delivery {} of {}", delivery.handle, delivery.message.len())
            }
            other => format!("{other:?}"),
        });
    }
    all
}

fn first(handle: u32, id: u32) -> Transfer<'static> {
    let delivery_tag = DeliveryTag::new(b"tag");
    Transfer { handle, delivery_id: Some(id), delivery_tag, more: true, ..Transfer::default() }
}

fn next(handle: u32, more: bool) -> Transfer<'static> {
    Transfer { handle, more, ..Transfer::default() }
}

#[test]
fn a_large_message_comes_in_parts_and_others_come_in_between() {
    let half = vec![7; MIB / 2];
    let mut peer = taking();
    assert_eq!(transfer(&mut peer, &first(0, 0), &half).len(), 0);
    assert_eq!(
        transfer(&mut peer, &next(0, true), &half).len(),
        0,
        "it is held whole up to {LARGE_MESSAGE_BYTES}"
    );
    assert_eq!(transfer(&mut peer, &next(0, true), b"x"), [format!("part 0 of {}, more", MIB + 1)]);
    assert_eq!(transfer(&mut peer, &first(1, 1), &half).len(), 0);
    assert_eq!(transfer(&mut peer, &next(0, true), b"abc"), ["part 0 of 3, more"]);
    assert_eq!(transfer(&mut peer, &next(1, true), &half).len(), 0);
    let whole = format!("delivery 1 of {}", MIB + MIB / 2);
    assert_eq!(transfer(&mut peer, &next(1, false), &half), [whole]);
    let last = Transfer { settled: Some(true), ..next(0, false) };
    assert_eq!(transfer(&mut peer, &last, b"de"), ["part 0 of 2, end 0 true"]);
}

#[test]
fn what_is_not_larger_comes_whole() {
    let half = vec![7; MIB / 2];
    let mut peer = taking();
    for id in 0..2 {
        transfer(&mut peer, &first(0, id), &half);
        transfer(&mut peer, &next(0, true), &half);
        let whole = format!("delivery 0 of {}", MIB + 1);
        assert_eq!(
            transfer(&mut peer, &next(0, false), b"x"),
            [whole],
            "its end came with the byte that is too much"
        );
    }
}

#[test]
fn a_large_message_that_is_given_up_or_too_large_is_told() {
    let half = vec![7; MIB / 2];
    let mut peer = taking();
    transfer(&mut peer, &first(0, 0), &half);
    transfer(&mut peer, &next(0, true), &half);
    transfer(&mut peer, &next(0, true), b"x");
    let aborted = Transfer { aborted: true, ..next(0, false) };
    assert_eq!(transfer(&mut peer, &aborted, b""), ["part 0 of 0, aborted"]);
    transfer(&mut peer, &first(0, 1), &half);
    (0..7).for_each(|_| drop(transfer(&mut peer, &next(0, true), &half)));
    let over = transfer(&mut peer, &next(0, true), b"x");
    assert!(over.len() == 1 && over[0].starts_with("Detached"), "{over:?}");
    let said = peer.said();
    assert_eq!(said.last().map(String::as_str), Some("detach 1/0 closed amqp:link:message-size-exceeded"));
}

#[test]
fn a_link_says_how_large_its_messages_may_be() {
    let mut peer = taking();
    let mut said = Vec::new();
    peer.frames(|_, performative, _| {
        if let crate::Performative::Attach(attach) = performative {
            said.push(attach.max_message_size);
        }
    });
    assert_eq!(said, [Some(4 << 20), Some(2 << 20)]);
}

/// A connection with two links on which the client receives.
fn giving(window: u32) -> Peer {
    let mut peer = Peer::with_link(&Attach { max_message_size: Some(9000), ..receiver(0, "a") });
    peer.say(1, &receiver(1, "b"));
    for handle in [0, 1] {
        let flow = Flow {
            next_incoming_id: Some(0),
            incoming_window: window,
            handle: Some(handle),
            delivery_count: Some(0),
            link_credit: Some(5),
            ..Flow::default()
        };
        peer.say(1, &flow);
    }
    peer.said();
    peer.events();
    peer
}

fn outgoing<'a>(message: &'a [&'a [u8]]) -> Outgoing<'a> {
    Outgoing { tag: DeliveryTag::new(b"t").unwrap(), message_format: 0, settled: false, message }
}

#[test]
fn a_delivery_is_sent_in_parts_and_another_link_goes_on() {
    let mut peer = giving(100);
    let connection = &mut peer.connection;
    assert_eq!(connection.begin_delivery(1, 0, &outgoing(&[b"head"]), 2000), Ok(0));
    assert_eq!(connection.deliver(1, 0, &outgoing(&[b"x"])), Err(NotSent::NoLink), "not between its parts");
    let part = vec![7; connection.part_bytes_max()];
    assert_eq!(connection.deliver_part(1, 0, &part, true), Sent::Part);
    assert_eq!(connection.deliver(1, 1, &outgoing(&[b"other"])), Ok(1));
    assert_eq!(connection.deliver_part(1, 0, b"last", false), Sent::Part);
    assert_eq!(connection.deliver_part(1, 0, b"more", false), Sent::NoLink, "it is over");
    assert_eq!(connection.deliver(1, 0, &outgoing(&[b"x"])), Ok(2));
    let large = format!("transfer 1/0 of {} more", part.len());
    let said = peer.said();
    let expected: [&str; 5] = [
        "transfer 1/0 0 of 4 more",
        &large,
        "transfer 1/1 1 of 5",
        "transfer 1/0 of 4",
        "transfer 1/0 2 of 1",
    ];
    assert_eq!(said, expected);
}

#[test]
fn a_part_waits_for_the_window_and_can_be_given_up() {
    let mut peer = giving(2);
    let connection = &mut peer.connection;
    let too_large = NotSent::TooLarge { bytes: 9001, bytes_max: 9000 };
    assert_eq!(connection.begin_delivery(1, 0, &outgoing(&[b"head"]), 9001), Err(too_large));
    assert_eq!(connection.begin_delivery(1, 0, &outgoing(&[b"head"]), 9000), Ok(0));
    assert_eq!(connection.deliver_part(1, 0, b"a", true), Sent::Part);
    assert_eq!(connection.deliver_part(1, 0, b"b", true), Sent::NoWindow);
    let flow = Flow { next_incoming_id: Some(2), incoming_window: 1, ..Flow::default() };
    peer.say(1, &flow);
    assert_eq!(peer.events(), ["window 1"]);
    assert_eq!(peer.connection.abort_delivery(1, 0), Sent::Part);
    let mut aborted = Vec::new();
    peer.frames(|_, performative, _| {
        if let crate::Performative::Transfer(transfer) = performative {
            aborted.push((transfer.more, transfer.aborted));
        }
    });
    assert_eq!(aborted, [(true, false), (true, false), (false, true)]);
    assert_eq!(peer.connection.abort_delivery(1, 0), Sent::NoLink);
}
