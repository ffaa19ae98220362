//! Part 2, section 2.5: sessions.

use super::peer::{Peer, begin, open, put, receiver, sender};
use crate::{
    Condition, Performative,
    connection::{NotSent, Outgoing, PENDING_BYTES_MAX},
    performatives::{Attach, Begin, DeliveryTag, End, Flow, Open, Transfer},
};
use alloc::{borrow::ToOwned, format, string::String, vec, vec::Vec};

fn flow(next_incoming_id: u32, incoming_window: u32) -> Flow<'static> {
    Flow { next_incoming_id: Some(next_incoming_id), incoming_window, ..Flow::default() }
}

fn transfer(handle: u32, delivery_id: u32) -> Transfer<'static> {
    let tag = DeliveryTag::new(b"tag");
    Transfer {
        handle,
        delivery_id: Some(delivery_id),
        delivery_tag: tag,
        settled: Some(true),
        ..Transfer::default()
    }
}

fn outgoing<'a>(message: &'a [&'a [u8]]) -> Outgoing<'a> {
    Outgoing { tag: DeliveryTag::new(b"tag").unwrap(), message_format: 0, settled: true, message }
}

// 2.5.1 Establishing a session

#[test]
fn a_session_is_answered_on_its_channel() {
    let mut peer = Peer::opened();
    peer.say(3, &begin()).say(0, &Begin { next_outgoing_id: u32::MAX, ..begin() });
    assert_eq!(peer.events(), ["began 3", "began 0"]);
    let mut answers = Vec::new();
    peer.frames(|channel, performative, _| {
        let Performative::Begin(begin) = performative else { panic!("{performative:?}") };
        answers.push((channel, begin.remote_channel, begin.next_outgoing_id, begin.handle_max));
    });
    assert_eq!(answers, [(3, Some(3), 0, 7), (0, Some(0), 0, 7)]);
    peer.say(3, &begin());
    assert_eq!(peer.said(), ["close amqp:not-allowed"], "the channel is in use");
}

#[test]
fn a_channel_that_the_client_does_not_take_itself_is_refused() {
    let mut peer = Peer::new(super::peer::config());
    peer.give(&[super::peer::login(), put(0, &Open { channel_max: 1, ..open() }), put(2, &begin())].concat());
    assert_eq!(peer.said(), ["open", "close amqp:not-allowed"]);
}

// 2.5.2 Ending a session, 2.5.3 Simultaneous end, 2.5.4 Session errors, 2.5.5 Session states

#[test]
fn an_end_is_answered_and_its_channel_is_free() {
    let mut peer = Peer::with_link(&sender(0, "out"));
    peer.say(1, &End::default()).say(1, &begin());
    assert_eq!(peer.events(), ["ended 1", "began 1"]);
    assert_eq!(peer.said(), ["end 1", "begin 1 window 10"]);
}

#[test]
fn after_an_end_of_ours_everything_but_theirs_is_dropped() {
    let mut peer = Peer::with_link(&sender(0, "out"));
    peer.connection.end_session(1, Condition::ResourceLimitExceeded, "too much");
    peer.connection.end_session(1, Condition::ResourceLimitExceeded, "twice");
    peer.connection.grant(1, 0, 10);
    peer.say(1, &transfer(0, 0)).say(1, &sender(9, "beyond")).say(1, &flow(77, 1));
    assert_eq!(peer.events(), ["ended 1"]);
    assert_eq!(peer.said(), ["end 1 amqp:resource-limit-exceeded"]);
    peer.say(1, &End::default()).say(1, &begin());
    assert_eq!(peer.events(), ["began 1"]);
    assert_eq!(peer.said(), ["begin 1 window 10"]);
}

#[test]
fn an_error_of_a_session_is_no_trouble_of_another() {
    let mut peer = Peer::with_link(&sender(0, "out"));
    peer.say(2, &begin()).say(2, &flow(5, 1)).say(1, &flow(0, 1));
    assert_eq!(peer.events(), ["began 2", "ended 2"]);
    assert_eq!(peer.said(), ["begin 2 window 10", "end 2 amqp:session:window-violation"]);
}

// 2.5.6 Session flow control: what comes

#[test]
fn the_window_is_renewed_at_the_half_and_counted_until_then() {
    let mut peer = Peer::with_link(&sender(0, "out"));
    peer.connection.grant(1, 0, 100);
    assert_eq!(peer.said(), ["flow 1/0 count 0 credit 100 window 10 next 0, 0"]);
    for id in 0..4 {
        peer.say(1, &transfer(0, id));
    }
    assert_eq!(peer.said().len(), 0);
    peer.say(1, &transfer(0, 4));
    assert_eq!(peer.said(), ["flow 1 window 10 next 5, 0"]);
    peer.say(1, &Flow { echo: true, next_outgoing_id: 5, ..flow(0, 100) });
    assert_eq!(peer.said(), ["flow 1 window 10 next 5, 0"], "what was asked for");
}

#[test]
fn transfer_ids_wrap() {
    let mut peer = Peer::opened();
    peer.say(1, &Begin { next_outgoing_id: u32::MAX - 1, ..begin() }).say(1, &sender(0, "out"));
    peer.connection.grant(1, 0, 100);
    peer.said();
    for id in 0..5 {
        peer.say(1, &transfer(0, id));
    }
    assert_eq!(peer.said(), ["flow 1 window 10 next 3, 0"]);
    assert_eq!(peer.events().len(), 7);
}

#[test]
fn delivery_ids_go_up() {
    for (first, second, is_taken) in
        [(0, 1, true), (7, 9, true), (u32::MAX, 0, true), (5, 5, false), (5, 4, false), (0, u32::MAX, false)]
    {
        let mut peer = Peer::with_link(&sender(0, "out"));
        peer.connection.grant(1, 0, 100);
        peer.said();
        peer.say(1, &transfer(0, first)).say(1, &transfer(0, second));
        let expected: &[&str] = if is_taken { &[] } else { &["end 1 amqp:invalid-field"] };
        assert_eq!(peer.said(), expected, "{first} {second}");
    }
}

// 2.5.6: what goes out

/// A client that receives on link 0 with much credit and a window of its own.
fn receiving(incoming_window: u32) -> Peer {
    let mut peer = Peer::opened();
    peer.say(1, &Begin { incoming_window, ..begin() }).say(1, &receiver(0, "in"));
    peer.say(1, &Flow { handle: Some(0), link_credit: Some(100), ..flow(0, incoming_window) });
    peer.events();
    peer.said();
    peer
}

#[test]
fn nothing_is_sent_beyond_the_clients_window() {
    let mut peer = receiving(2);
    for id in 0..2 {
        assert_eq!(peer.connection.deliver(1, 0, &outgoing(&[b"x"])), Ok(id));
    }
    assert_eq!(peer.connection.deliver(1, 0, &outgoing(&[b"x"])), Err(NotSent::NoWindow));
    assert_eq!(peer.said(), ["transfer 1/0 0 of 1", "transfer 1/0 1 of 1"]);
    // One of the two has come: there is room for one more.
    peer.say(1, &flow(1, 2));
    assert_eq!(peer.events(), ["window 1"]);
    assert_eq!(peer.connection.deliver(1, 0, &outgoing(&[b"x"])), Ok(2));
    assert_eq!(peer.connection.deliver(1, 0, &outgoing(&[b"x"])), Err(NotSent::NoWindow));
    // Without a next-incoming-id none has come.
    peer.say(1, &Flow { next_incoming_id: None, ..flow(0, 3) });
    assert_eq!(peer.connection.deliver(1, 0, &outgoing(&[b"x"])), Err(NotSent::NoWindow));
    assert_eq!(peer.events().len(), 0);
    peer.say(1, &flow(3, 50));
    assert_eq!(peer.events(), ["window 1"]);
}

#[test]
fn what_is_larger_than_the_window_goes_out_as_it_opens() {
    let mut peer = receiving(2);
    let message: Vec<u8> = (0..3500).map(|number| (number % 251) as u8).collect();
    assert_eq!(peer.connection.deliver(1, 0, &outgoing(&[&message])), Ok(0));
    let mut joined = Vec::new();
    let mut flags = Vec::new();
    let mut collect = |peer: &mut Peer| {
        peer.frames(|_, performative, payload| {
            let Performative::Transfer(transfer) = performative else { panic!("{performative:?}") };
            joined.extend_from_slice(payload);
            flags.push(transfer.more);
        });
    };
    collect(&mut peer);
    assert_eq!(peer.connection.deliver(1, 0, &outgoing(&[b"x"])), Err(NotSent::NoWindow));
    peer.say(1, &flow(2, 1));
    collect(&mut peer);
    assert_eq!(peer.events().len(), 0, "there is no room yet");
    peer.say(1, &flow(3, 5));
    collect(&mut peer);
    assert_eq!(peer.events(), ["window 1"]);
    assert_eq!((joined, flags), (message, [true, true, true, false].to_vec()));
    assert_eq!(peer.connection.deliver(1, 0, &outgoing(&[b"x"])), Ok(1));
}

#[test]
fn what_waits_for_windows_is_counted_and_bounded_for_all_sessions() {
    let mut peer = receiving(0);
    peer.say(2, &begin()).say(2, &receiver(0, "of another"));
    peer.events();
    peer.said();
    assert_eq!(peer.connection.deliver(1, 0, &outgoing(&[b"x"])), Err(NotSent::NoWindow));
    peer.say(1, &Flow { handle: Some(0), link_credit: Some(100), ..flow(0, 1) });
    peer.events();
    let message = vec![0; PENDING_BYTES_MAX];
    assert_eq!(peer.connection.deliver(1, 0, &outgoing(&[&message])), Ok(0));
    assert!(peer.connection.kept_bytes() > PENDING_BYTES_MAX, "with what each frame takes");
    assert!(!peer.connection.has_window(1) && !peer.connection.has_window(2));
    peer.said();
    // It goes out in part, and then others may begin.
    peer.say(1, &flow(1, 1000));
    assert_eq!(peer.events(), ["window 1"]);
    assert!(!peer.connection.has_window(1) && peer.connection.has_window(2));
    peer.said();
    peer.say(1, &flow(1001, u32::MAX));
    assert_eq!((peer.events(), peer.connection.kept_bytes()), (vec!["window 1".to_owned()], 0));
}

#[test]
fn a_client_cannot_have_got_what_was_not_sent() {
    let mut peer = receiving(10);
    assert_eq!(peer.connection.deliver(1, 0, &outgoing(&[b"x"])), Ok(0));
    peer.said();
    peer.say(1, &flow(2, 10));
    assert_eq!(peer.events(), ["ended 1"]);
    assert_eq!(peer.said(), ["end 1 amqp:session:window-violation"]);
}

// 2.8.17 Session errors

#[test]
fn handles_are_attached_once_and_before_they_are_used() {
    let said = |words: &[u8]| {
        let mut peer = Peer::with_link(&sender(0, "out"));
        peer.give(words);
        (peer.events(), peer.said())
    };
    let ended = |condition: &str| -> (Vec<String>, Vec<String>) {
        (["ended 1".into()].to_vec(), [format!("end 1 {condition}")].to_vec())
    };
    assert_eq!(said(&put(1, &sender(0, "other"))), ended("amqp:session:handle-in-use"));
    for words in [
        put(1, &transfer(5, 0)),
        put(1, &Flow { handle: Some(5), ..flow(0, 1) }),
        put(1, &crate::performatives::Detach { handle: 5, ..Default::default() }),
    ] {
        assert_eq!(said(&words), ended("amqp:session:unattached-handle"));
    }
    // 2.7.2: a handle beyond the highest is an error of the connection.
    let (events, words) = said(&put(1, &Attach { handle: 8, ..sender(0, "out2") }));
    assert_eq!(
        (events, words),
        (["closed".into()].to_vec(), ["close amqp:connection:framing-error".into()].to_vec())
    );
}

#[test]
fn more_transfers_than_the_window_has_room_for_end_the_session() {
    // What the window has is renewed as it is used, so a client has to be told of a smaller one to overrun it.
    let config = crate::connection::ConnectionConfig { incoming_window: 0, ..super::peer::config() };
    let mut peer = Peer::new(config);
    peer.give(&[super::peer::login(), put(0, &open()), put(1, &begin()), put(1, &sender(0, "out"))].concat());
    peer.connection.grant(1, 0, 10);
    peer.events();
    peer.said();
    peer.say(1, &transfer(0, 0));
    assert_eq!(peer.events(), ["ended 1"]);
    assert_eq!(peer.said(), ["end 1 amqp:session:window-violation"]);
}
