//! Part 2, section 2.6: links.

use super::peer::{Peer, begin, config, login, open, put, receiver, sender};
use crate::{
    Condition, Performative,
    connection::{Attached, ConnectionConfig, LINK_NAME_BYTES_MAX, NotSent, Outgoing},
    messaging::{Accepted, DeliveryState, Source, Target},
    performatives::{
        Attach, DeliveryTag, Detach, Disposition, End, Error, Flow, ReceiverSettleMode, Role,
        SenderSettleMode, Transfer,
    },
};
use alloc::{borrow::ToOwned as _, format, vec, vec::Vec};

fn first(delivery_id: u32) -> Transfer<'static> {
    let tag = DeliveryTag::new(b"tag");
    Transfer { handle: 0, delivery_id: Some(delivery_id), delivery_tag: tag, ..Transfer::default() }
}

fn next() -> Transfer<'static> {
    Transfer { handle: 0, ..Transfer::default() }
}

/// A client that sends on link 0, with some credit.
fn sending(credit: u32) -> Peer {
    let mut peer = Peer::with_link(&sender(0, "out"));
    peer.connection.grant(1, 0, credit);
    peer.said();
    peer
}

/// A client that receives on link 0, without credit.
fn receiving() -> Peer {
    Peer::with_link(&receiver(0, "in"))
}

fn credit(delivery_count: u32, link_credit: u32) -> Flow<'static> {
    Flow {
        next_incoming_id: Some(0),
        incoming_window: 100,
        handle: Some(0),
        delivery_count: Some(delivery_count),
        link_credit: Some(link_credit),
        ..Flow::default()
    }
}

fn outgoing<'a>(message: &'a [&'a [u8]]) -> Outgoing<'a> {
    Outgoing { tag: DeliveryTag::new(b"tag").unwrap(), message_format: 0, settled: false, message }
}

// 2.6.4 Detaching a link

#[test]
fn what_waits_for_the_window_goes_with_its_link() {
    for by_client in [true, false] {
        let mut peer = receiving();
        peer.say(1, &receiver(1, "other"));
        peer.say(1, &Flow { incoming_window: 2, ..credit(0, 5) });
        let message = vec![b'x'; 5000];
        assert_eq!(peer.connection.deliver(1, 0, &outgoing(&[&message])), Ok(0));
        peer.events();
        peer.said();
        if by_client {
            peer.say(1, &Detach { handle: 0, closed: true, error: None });
        } else {
            peer.connection.detach(1, 0, true, None);
        }
        peer.say(1, &Flow { incoming_window: 100, next_incoming_id: Some(2), ..Flow::default() });
        assert_eq!(peer.said(), ["detach 1/0 closed"], "and nothing behind it");
        assert!(peer.events().contains(&"window 1".into()), "others may go on");
        assert_eq!(peer.connection.kept_bytes(), 0);
        peer.say(1, &Flow { next_incoming_id: Some(2), handle: Some(1), ..credit(0, 1) });
        assert_eq!(peer.connection.deliver(1, 1, &outgoing(&[b"x"])), Ok(1));
    }
}

// 2.6.1 Naming a link

#[test]
fn a_link_that_is_attached_again_is_stolen() {
    let mut peer = Peer::with_link(&sender(0, "name"));
    peer.say(2, &begin()).say(2, &sender(5, "name"));
    assert_eq!(peer.events(), ["began 2", "detached 1/0", "attach 2/5 name"]);
    assert_eq!(peer.said(), ["begin 2 window 10", "detach 1/0 amqp:link:stolen", "attach 2/5 name nowhere"]);
    // The other direction is another link.
    peer.say(2, &receiver(6, "name"));
    assert_eq!(peer.events(), ["attach 2/6 name"]);
    peer.say(1, &Detach { handle: 0, ..Detach::default() });
    assert_eq!(peer.events().len(), 0);
    assert_eq!(peer.said(), ["attach 2/6 name nowhere"]);
}

#[test]
fn names_of_links_have_a_longest() {
    let config = crate::connection::ConnectionConfig { frame_bytes_max: 4096, ..super::peer::config() };
    for (bytes, expected) in
        [(LINK_NAME_BYTES_MAX, "attach"), (LINK_NAME_BYTES_MAX + 1, "end 1 amqp:invalid-field")]
    {
        let mut peer = Peer::new(config.clone());
        let words = [super::peer::login(), super::peer::put(0, &super::peer::open())].concat();
        peer.give(&words).say(1, &begin()).say(1, &receiver(0, &"n".repeat(bytes)));
        assert!(peer.said()[2].starts_with(expected), "{bytes}");
    }
}

// 2.6.3 Establishing or resuming a link

#[test]
fn an_attach_is_answered_with_the_other_role() {
    let mut peer = Peer::begun();
    let source = Source { address: Some("/queues/q"), ..Source::default() };
    let target = Target { address: Some("/queues/t"), ..Target::default() };
    let asked = Attach {
        snd_settle_mode: SenderSettleMode::Settled,
        rcv_settle_mode: ReceiverSettleMode::Second,
        source: Some(source),
        target: Some(target.into()),
        ..receiver(7, "in")
    };
    peer.say(1, &asked)
        .say(1, &Attach { source: Some(source), target: Some(target.into()), ..sender(0, "out") });
    let mut answers = Vec::new();
    peer.frames(|channel, performative, _| {
        let Performative::Attach(attach) = performative else { panic!("{performative:?}") };
        assert_eq!((channel, attach.source, attach.target), (1, Some(source), Some(target.into())));
        answers.push((attach.handle, attach.role, attach.initial_delivery_count, attach.max_message_size));
        if attach.handle == 7 {
            assert_eq!(attach.snd_settle_mode, SenderSettleMode::Settled);
            assert_eq!(attach.rcv_settle_mode, ReceiverSettleMode::Second);
        }
    });
    assert_eq!(answers, [(7, Role::Sender, Some(0), None), (0, Role::Receiver, None, Some(3000))]);
}

#[test]
fn an_attach_that_is_refused_is_answered_and_detached() {
    let mut peer = Peer::begun();
    peer.say(1, &receiver(0, "nothing")).say(1, &sender(1, "nothing"));
    let expected = [
        "attach 1/0 nothing nowhere",
        "detach 1/0 closed amqp:not-found",
        "attach 1/1 nothing nowhere",
        "detach 1/1 closed amqp:not-found",
    ];
    assert_eq!(peer.said(), expected);
    assert_eq!(peer.events(), ["attach 1/0 nothing", "attach 1/1 nothing"]);
    // What it sent before it knew is dropped; its detach is awaited, and then the handle is free.
    peer.say(1, &credit(0, 10)).say(1, &Transfer { handle: 1, ..first(0) });
    peer.say(1, &Detach { handle: 0, closed: true, error: None }).say(1, &receiver(0, "in"));
    assert_eq!(peer.events(), ["attach 1/0 in"]);
    assert_eq!(peer.said(), ["attach 1/0 in nowhere"]);
}

#[test]
fn what_comes_before_an_attach_is_answered_counts() {
    let mut peer = Peer::begun();
    peer.say(1, &receiver(0, "later")).say(1, &Flow { echo: true, ..credit(0, 10) });
    assert_eq!(peer.events(), ["attach 1/0 later"]);
    assert_eq!(peer.said().len(), 0);
    let asked = receiver(0, "later");
    peer.connection.attached(1, 0, &Attached::as_asked(&asked));
    peer.connection.attached(1, 0, &Attached::as_asked(&asked));
    peer.give(&[]);
    assert_eq!(peer.events(), ["credit 1/0 10"]);
    let flow = "flow 1/0 count 0 credit 10 available 3 window 10 next 0, 0";
    assert_eq!(peer.said(), ["attach 1/0 later nowhere", flow]);
}

#[test]
fn a_client_may_detach_before_it_is_answered() {
    let detach = Detach { handle: 0, closed: true, error: None };
    let mut peer = Peer::begun();
    peer.say(1, &sender(0, "later")).say(1, &detach);
    assert_eq!((peer.events().len(), peer.said().len()), (1, 0));
    peer.connection.attached(1, 0, &Attached::as_asked(&sender(0, "later")));
    peer.give(&[]);
    assert_eq!(peer.events(), ["detached 1/0 closed"]);
    assert_eq!(peer.said(), ["attach 1/0 later nowhere", "detach 1/0 closed"]);
    peer.say(1, &sender(0, "later")).say(1, &detach);
    peer.connection.attach_refused(1, 0, &Error::new(Condition::NotFound, "no"));
    peer.say(1, &sender(0, "out"));
    let expected = ["attach 1/0 later nowhere", "detach 1/0 closed amqp:not-found", "attach 1/0 out nowhere"];
    assert_eq!(peer.said(), expected);
    assert_eq!(peer.events(), ["attach 1/0 later", "attach 1/0 out"]);
}

#[test]
fn a_sender_says_where_it_begins_to_count() {
    let mut peer = Peer::begun();
    peer.say(1, &Attach { initial_delivery_count: None, ..sender(0, "out") });
    assert_eq!(peer.events().len(), 0, "nobody is asked");
    assert_eq!(peer.said(), ["attach 1/0 out nowhere", "detach 1/0 closed amqp:invalid-field"]);
    peer.say(1, &Detach { handle: 0, closed: true, error: None });
    peer.say(1, &Attach { initial_delivery_count: Some(u32::MAX), ..sender(0, "out") });
    peer.connection.grant(1, 0, 2);
    peer.say(1, &first(0));
    peer.connection.grant(1, 0, 2);
    let said = peer.said();
    assert_eq!(said[1], "flow 1/0 count 4294967295 credit 2 window 10 next 0, 0");
    assert_eq!(said[2], "flow 1/0 count 0 credit 2 window 9 next 1, 0");
}

// 2.6.4 Detaching and reattaching, 2.6.5 Link errors, 2.6.6 Closing a link

#[test]
fn a_detach_is_answered_and_its_handle_is_free() {
    for closed in [false, true] {
        let mut peer = receiving();
        let error = Some(Error::new(Condition::InternalError, "why"));
        peer.say(1, &Detach { handle: 0, closed, error }).say(1, &receiver(0, "in"));
        let (is_closed, suffix) = if closed { (" closed", " closed") } else { ("", "") };
        let detached = alloc::format!("detached 1/0{is_closed} amqp:internal-error");
        assert_eq!(peer.events(), [&detached, "attach 1/0 in"]);
        assert_eq!(peer.said(), [&alloc::format!("detach 1/0{suffix}"), "attach 1/0 in nowhere"]);
    }
}

#[test]
fn after_a_detach_of_ours_everything_but_theirs_is_dropped() {
    let mut peer = sending(10);
    let gone = Error::new(Condition::ResourceDeleted, "the queue is gone");
    peer.connection.detach(1, 0, true, Some(&gone));
    peer.connection.detach(1, 0, true, Some(&gone));
    peer.connection.grant(1, 0, 5);
    assert_eq!(peer.connection.deliver(1, 0, &outgoing(&[])), Err(NotSent::NoLink));
    peer.transfer(1, &first(0), b"late").say(1, &credit(0, 1));
    assert_eq!(peer.events().len(), 0);
    assert_eq!(peer.said(), ["detach 1/0 closed amqp:resource-deleted"]);
    peer.say(1, &Detach { handle: 0, closed: true, error: None }).say(1, &sender(0, "out"));
    assert_eq!(peer.events(), ["attach 1/0 out"]);
}

// 2.8.15: frame-size-too-small

#[test]
fn what_is_said_fits_the_clients_frames() {
    let name = "n".repeat(470);
    let open = |attach: &Attach<'_>| {
        let mut peer = Peer::new(super::peer::config());
        let open = crate::performatives::Open { max_frame_size: 512, ..super::peer::open() };
        peer.give(&[super::peer::login(), super::peer::put(0, &open)].concat());
        peer.say(1, &begin()).say(1, attach);
        peer.events();
        peer
    };
    // The name fits with what the client says of the link, and not with what is answered.
    let target = Target { address: Some("t"), ..Target::default() };
    let long = Attach { target: Some(target.into()), ..sender(0, &name) };
    let mut peer = open(&long);
    assert_eq!(peer.said()[2..], ["end 1 amqp:frame-size-too-small"]);
    let mut peer = open(&Attach { initial_delivery_count: None, ..sender(0, &"x".repeat(490)) });
    assert_eq!(peer.said()[2..], ["end 1 amqp:frame-size-too-small"], "a refusal too");
    // Of errors what is for people goes first.
    let why = "w".repeat(600);
    let mut peer = open(&receiver(0, "in"));
    peer.said();
    let error = Error::new(Condition::ResourceDeleted, &why);
    let rejected = Disposition {
        role: Role::Receiver,
        state: Some(crate::messaging::Rejected { error: Some(error) }.into()),
        ..Disposition::default()
    };
    peer.connection.dispose(1, &rejected);
    peer.connection.detach(1, 0, true, Some(&error));
    peer.connection.end_session(1, Condition::InternalError, &why);
    peer.connection.close(Condition::ConnectionForced, &why);
    let expected = [
        "disposition 1 0",
        "detach 1/0 closed amqp:resource-deleted",
        "end 1 amqp:internal-error",
        "close amqp:connection:forced",
    ];
    assert_eq!(peer.said(), expected);
}

// 2.6.7 Flow control: credit

#[test]
fn a_client_sends_no_more_than_its_credit() {
    let mut peer = sending(2);
    assert_eq!(peer.connection.credit(1, 0), 2);
    for id in 0..3 {
        peer.transfer(1, &first(id), b"message");
    }
    assert_eq!(peer.events(), ["delivery 1/0 0 of 7", "delivery 1/0 1 of 7", "detached 1/0 closed"]);
    assert_eq!(peer.said(), ["detach 1/0 closed amqp:link:transfer-limit-exceeded"]);
    assert_eq!(peer.connection.credit(1, 0), 0);
    let mut peer = sending(5);
    peer.connection.grant(1, 0, 2);
    assert_eq!(peer.said(), ["flow 1/0 count 0 credit 5 window 10 next 0, 0"], "it is never made less");
}

#[test]
fn a_client_may_give_credit_back() {
    let mut peer = sending(10);
    peer.transfer(1, &first(0), b"");
    peer.say(1, &Flow { next_outgoing_id: 1, echo: true, ..credit(10, 0) });
    assert_eq!(peer.said(), ["flow 1/0 count 10 credit 0 window 9 next 1, 0"]);
    assert_eq!(peer.connection.credit(1, 0), 0);
    // More than it had cannot be.
    peer.say(1, &Flow { next_outgoing_id: 1, echo: true, ..credit(99, 0) });
    assert_eq!(peer.said(), ["flow 1/0 count 10 credit 0 window 9 next 1, 0"]);
}

#[test]
fn no_more_is_sent_than_a_client_takes() {
    let mut peer = receiving();
    assert_eq!(peer.connection.deliver(1, 0, &outgoing(&[b"x"])), Err(NotSent::NoCredit));
    peer.say(1, &credit(0, 2));
    assert_eq!(peer.events(), ["credit 1/0 2"]);
    assert_eq!(peer.connection.deliver(1, 0, &outgoing(&[b"x"])), Ok(0));
    // The client wrote this before it had the first: of two, one is left.
    peer.say(1, &credit(0, 2));
    assert_eq!(peer.events(), ["credit 1/0 1"]);
    assert_eq!(peer.connection.deliver(1, 0, &outgoing(&[b"x"])), Ok(1));
    assert_eq!(peer.connection.deliver(1, 0, &outgoing(&[b"x"])), Err(NotSent::NoCredit));
    peer.say(1, &credit(2, 1)).say(1, &Flow { delivery_count: None, ..credit(0, 5) });
    assert_eq!(peer.events(), ["credit 1/0 1", "credit 1/0 3"]);
    // Less than what is under way is nothing.
    peer.say(1, &credit(0, 1));
    assert_eq!(peer.events(), ["credit 1/0 0"]);
}

#[test]
fn a_client_that_counts_ahead_has_credit_all_the_same() {
    let mut peer = receiving();
    peer.say(1, &credit(3, 1)).say(1, &credit(u32::MAX, 3)).say(1, &credit(1, u32::MAX));
    assert_eq!(peer.events(), ["credit 1/0 4", "credit 1/0 2", "credit 1/0 4294967295"]);
}

#[test]
fn credit_is_drained_when_there_is_nothing_to_send() {
    let mut peer = receiving();
    peer.say(1, &Flow { drain: true, ..credit(0, 10) });
    assert_eq!(peer.events(), ["credit 1/0 10 drain"]);
    assert_eq!(peer.connection.deliver(1, 0, &outgoing(&[b"x"])), Ok(0));
    peer.said();
    peer.connection.drained(1, 0, Some(0));
    assert_eq!(peer.said(), ["flow 1/0 count 10 credit 0 available 0 drain window 10 next 0, 1"]);
    peer.say(1, &Flow { next_incoming_id: Some(1), ..credit(10, 5) });
    peer.connection.drained(1, 0, Some(0));
    assert_eq!(peer.said().len(), 0, "nobody wants that any more");
    assert_eq!(peer.connection.credit(1, 0), 5);
}

// 2.6.12 Transferring a message: settlement as it was agreed

#[test]
fn a_sender_settles_as_it_said() {
    let cases = [
        (SenderSettleMode::Settled, Some(true), true),
        (SenderSettleMode::Settled, Some(false), false),
        (SenderSettleMode::Settled, None, false),
        (SenderSettleMode::Unsettled, Some(true), false),
        (SenderSettleMode::Unsettled, None, true),
        (SenderSettleMode::Mixed, Some(true), true),
        (SenderSettleMode::Mixed, None, true),
    ];
    for (mode, settled, is_taken) in cases {
        let mut peer = Peer::with_link(&Attach { snd_settle_mode: mode, ..sender(0, "out") });
        peer.connection.grant(1, 0, 10);
        peer.said();
        peer.transfer(1, &Transfer { settled, ..first(0) }, b"m");
        let expected: &[&str] = if is_taken { &[] } else { &["detach 1/0 closed amqp:invalid-field"] };
        assert_eq!(peer.said(), expected, "{mode:?} {settled:?}");
        assert_eq!(peer.messages.len(), usize::from(is_taken));
    }
}

// 2.6.14 Transferring a message: in several transfers, and aborted

#[test]
fn a_message_in_several_transfers_is_one_delivery() {
    let mut peer = sending(10);
    let more = Transfer { more: true, ..next() };
    peer.transfer(1, &Transfer { more: true, ..first(4) }, b"one ").transfer(1, &more, b"two ");
    assert_eq!(peer.events().len(), 0);
    // The fields of the first may come again, and what is settled once is settled.
    peer.transfer(1, &Transfer { more: true, settled: Some(true), ..first(4) }, b"three ");
    peer.transfer(1, &next(), b"four").transfer(1, &first(5), b"five");
    assert_eq!(peer.events(), ["delivery 1/0 4 of 18 settled", "delivery 1/0 5 of 4"]);
    assert_eq!(peer.messages, [b"one two three four".to_vec(), b"five".to_vec()]);
    assert_eq!(peer.connection.credit(1, 0), 8);
}

#[test]
fn deliveries_of_several_links_come_between_each_other() {
    let mut peer = sending(10);
    peer.say(1, &sender(1, "other"));
    peer.connection.grant(1, 1, 10);
    peer.transfer(1, &Transfer { more: true, ..first(0) }, b"a");
    peer.transfer(1, &Transfer { handle: 1, more: true, ..first(1) }, b"b");
    peer.transfer(1, &next(), b"a").transfer(1, &Transfer { handle: 1, ..next() }, b"b");
    assert_eq!(peer.messages, [b"aa", b"bb"]);
}

#[test]
fn what_is_aborted_is_forgotten() {
    let mut peer = sending(10);
    peer.transfer(1, &Transfer { more: true, ..first(0) }, b"half");
    peer.transfer(1, &Transfer { aborted: true, ..next() }, b"ignored");
    peer.transfer(1, &Transfer { aborted: true, ..first(1) }, b"at once");
    peer.transfer(1, &first(2), b"whole");
    assert_eq!(peer.events(), ["aborted 1/0", "aborted 1/0", "delivery 1/0 2 of 5"]);
    assert_eq!(peer.messages, [b"whole"]);
    assert_eq!(peer.connection.credit(1, 0), 7, "it had begun");
}

#[test]
fn parts_of_messages_are_counted_and_are_no_more_than_agreed() {
    let mut peer = Peer::new(ConnectionConfig { parts_bytes_max: 100, ..config() });
    peer.give(&[login(), put(0, &open()), put(1, &begin())].concat());
    for handle in 0..3 {
        peer.say(1, &sender(handle, &format!("link {handle}")));
        peer.connection.grant(1, handle, 10);
    }
    peer.events();
    peer.said();
    assert_eq!(peer.connection.kept_bytes(), 0);
    peer.transfer(1, &Transfer { more: true, ..first(0) }, &[0; 60]);
    peer.transfer(1, &Transfer { handle: 1, more: true, ..first(1) }, &[0; 40]);
    assert_eq!(peer.connection.kept_bytes(), 100);
    peer.transfer(1, &Transfer { handle: 2, more: true, ..first(2) }, &[0; 1]);
    assert_eq!(peer.events(), ["detached 1/2 closed"]);
    assert_eq!(peer.said(), ["detach 1/2 closed amqp:resource-limit-exceeded"]);
    assert_eq!(peer.connection.kept_bytes(), 100);
    // The last part is not kept.
    peer.transfer(1, &next(), &[0; 900]).transfer(1, &Transfer { handle: 1, aborted: true, ..next() }, &[]);
    assert_eq!(peer.events(), ["delivery 1/0 0 of 960", "aborted 1/1"]);
    assert_eq!(peer.connection.kept_bytes(), 0);
}

#[test]
fn a_delivery_says_the_same_in_all_its_transfers() {
    let other_tag = DeliveryTag::new(b"other");
    let changed = [
        Transfer { delivery_id: Some(1), ..next() },
        Transfer { delivery_tag: other_tag, ..next() },
        Transfer { message_format: Some(1), ..next() },
    ];
    for transfer in changed {
        let mut peer = sending(10);
        peer.transfer(1, &Transfer { more: true, ..first(0) }, b"half").transfer(1, &transfer, b"half");
        assert_eq!(peer.said(), ["detach 1/0 closed amqp:invalid-field"], "{transfer:?}");
        assert!(peer.messages.is_empty());
    }
    for transfer in
        [next(), Transfer { delivery_tag: None, ..first(0) }, Transfer { delivery_id: None, ..first(0) }]
    {
        let mut peer = sending(10);
        peer.transfer(1, &transfer, b"");
        assert_eq!(peer.said(), ["detach 1/0 closed amqp:invalid-field"], "{transfer:?}");
    }
}

// 2.6.13 Resuming deliveries

#[test]
fn of_a_delivery_that_is_resumed_nothing_is_kept() {
    let mut peer = sending(10);
    let resumed = |id| Transfer { resume: true, ..first(id) };
    peer.transfer(1, &resumed(0), b"whole");
    peer.transfer(1, &Transfer { more: true, ..resumed(1) }, b"half").transfer(1, &next(), b"half");
    peer.transfer(1, &Transfer { aborted: true, ..resumed(2) }, b"");
    let settled = "delivery 1/0 2 of 0 settled resumed";
    assert_eq!(peer.events(), ["delivery 1/0 0 of 0 resumed", "delivery 1/0 1 of 0 resumed", settled]);
    assert_eq!((peer.connection.credit(1, 0), peer.connection.kept_bytes()), (7, 0));
}

#[test]
fn a_link_with_an_incomplete_map_takes_what_is_resumed_alone() {
    let mut peer = Peer::begun();
    let attach = sender(0, "later");
    peer.say(1, &attach);
    let answer = Attached { incomplete_unsettled: true, ..Attached::as_asked(&attach) };
    peer.connection.attached(1, 0, &answer);
    peer.connection.grant(1, 0, 10);
    peer.events();
    peer.said();
    peer.transfer(1, &Transfer { resume: true, ..first(0) }, b"");
    assert_eq!(peer.events(), ["delivery 1/0 0 of 0 resumed"]);
    peer.transfer(1, &first(1), b"new");
    assert_eq!(peer.said(), ["detach 1/0 closed amqp:illegal-state"]);
}

#[test]
fn a_delivery_is_resumed_from_its_beginning_or_told_to_be_settled() {
    let mut peer = receiving();
    peer.say(1, &credit(0, 2));
    let settled = Outgoing { settled: true, ..outgoing(&[]) };
    assert_eq!(peer.connection.resume(1, 0, &outgoing(&[b"again"]), None), Ok(0));
    assert_eq!(peer.connection.resume(1, 0, &settled, Some(Accepted {}.into())), Ok(1));
    assert_eq!(peer.connection.resume(1, 0, &settled, None), Err(NotSent::NoCredit));
    let mut all = Vec::new();
    peer.frames(|_, performative, payload| {
        let Performative::Transfer(it) = performative else { panic!("{performative:?}") };
        let state = match it.state {
            Some(DeliveryState::Received(it)) => format!("from {}/{}", it.section_number, it.section_offset),
            Some(DeliveryState::Accepted(_)) => "accepted".to_owned(),
            other => panic!("{other:?}"),
        };
        all.push((it.resume, it.settled, state, payload.to_vec()));
    });
    let again = (true, Some(false), "from 0/0".to_owned(), b"again".to_vec());
    assert_eq!(all, [again, (true, Some(true), "accepted".to_owned(), Vec::new())]);
}

#[test]
fn a_message_is_no_larger_than_was_agreed() {
    for (parts, is_taken) in [(vec![900; 3], true), (vec![1000; 3], true), (vec![900; 4], false)] {
        let mut peer = sending(10);
        let last = parts.len() - 1;
        for (number, bytes) in parts.iter().enumerate() {
            let transfer = if number == 0 { first(0) } else { next() };
            peer.transfer(1, &Transfer { more: number < last, ..transfer }, &vec![b'x'; *bytes]);
        }
        let expected: &[&str] =
            if is_taken { &[] } else { &["detach 1/0 closed amqp:link:message-size-exceeded"] };
        assert_eq!(peer.said(), expected);
        assert_eq!(peer.messages.len(), usize::from(is_taken));
    }
}

#[test]
fn a_client_is_sent_no_larger_message_than_it_takes() {
    let mut peer = Peer::with_link(&Attach { max_message_size: Some(4), ..receiver(0, "in") });
    peer.say(1, &credit(0, 10));
    assert_eq!(peer.connection.message_bytes_max(1, 0), 4);
    let too_large = NotSent::TooLarge { bytes: 5, bytes_max: 4 };
    assert_eq!(peer.connection.deliver(1, 0, &outgoing(&[b"abc", b"de"])), Err(too_large));
    assert_eq!(peer.connection.deliver(1, 0, &outgoing(&[b"abc", b"d"])), Ok(0));
    assert_eq!(peer.said(), ["transfer 1/0 0 of 4"]);
    assert_eq!(peer.connection.credit(1, 0), 9);
}

#[test]
fn the_side_that_sends_takes_nothing() {
    let mut peer = receiving();
    peer.transfer(1, &first(0), b"");
    assert_eq!(peer.said(), ["detach 1/0 closed amqp:not-allowed"]);
    let mut peer = sending(10);
    assert_eq!(peer.connection.deliver(1, 0, &outgoing(&[])), Err(NotSent::NoLink));
    assert_eq!(peer.connection.deliver(1, 5, &outgoing(&[])), Err(NotSent::NoLink));
    assert_eq!(peer.connection.deliver(2, 0, &outgoing(&[])), Err(NotSent::NoLink));
}

// 2.6.13 Settling, 2.7.6 Disposition

#[test]
fn states_go_both_ways() {
    let mut peer = sending(10);
    let accepted = Some(Accepted {}.into());
    let theirs =
        Disposition { role: Role::Sender, first: 3, last: Some(9), settled: true, ..Disposition::default() };
    peer.say(1, &theirs);
    assert_eq!(peer.events(), ["disposition 1 3-Some(9)"]);
    let ours = Disposition {
        role: Role::Receiver,
        first: 0,
        settled: true,
        state: accepted,
        ..Disposition::default()
    };
    peer.connection.dispose(1, &ours);
    peer.frames(|channel, performative, _| assert_eq!((channel, *performative), (1, ours.into())));
    peer.say(1, &End::default());
    peer.said();
    peer.connection.dispose(1, &ours);
    assert_eq!(peer.said().len(), 0);
}
