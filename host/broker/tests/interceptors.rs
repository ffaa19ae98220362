//! Messages past native interceptors: what is routed, delivered and settled, and what is undone.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::*;
use leveret_broker::{
    BindTo, ExchangeSpec, Publish, Published, Settle,
    port::{Fate, Intercepted, Wake},
};
use leveret_model::{Change, MessageView, Name};
use std::{
    cell::RefCell,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

fn patch(change: Change) -> Intercepted {
    Intercepted::Patch([change].into_iter().collect())
}

/// Does what the body says; `to NAME` changes the key.
fn obey(message: &MessageView<'_>) -> Intercepted {
    match message.body {
        b"drop" => Intercepted::Drop,
        b"reject" => Intercepted::Reject(Arc::from("asked to")),
        b"to b" => patch(Change::SetRoutingKey(Name::from_static("b"))),
        _ => Intercepted::Continue,
    }
}

/// Puts its letter behind the key.
fn letter<const LETTER: char>(message: &MessageView<'_>) -> Intercepted {
    let key = format!("{}{LETTER}", String::from_utf8_lossy(message.routing_key));
    patch(Change::SetRoutingKey(name(&key)))
}

fn over(attached: Vec<Attached>) -> Connection {
    let mut c = Connection::past(attached);
    for queue in ["a", "b"] {
        c.vhost.declare_queue(kit::queue(queue), c.id).unwrap();
        c.bind("amq.direct", BindTo::Queue(queue.as_bytes()), queue);
    }
    c
}

fn direct(body: &str) -> MessageView<'_> {
    message("amq.direct", "a", body.as_bytes())
}

fn rejected(reason: &str) -> Published {
    Published::Rejected(Arc::from(reason))
}

#[test]
fn each_message_of_a_batch_meets_its_fate_and_effects_follow() {
    let attached = Attached::new(At::Publish("amq.direct"), obey);
    let fates = attached.fates.clone();
    let mut c = over(vec![attached]);
    let batch = ["1", "drop", "to b", "reject", "2"].map(direct);
    let outcomes = c.publish_all(&batch);
    let expected =
        [Published::Routed, Published::Dropped, Published::Routed, rejected("asked to"), Published::Routed];
    assert_eq!(outcomes, expected);
    assert_eq!(c.publish_one(message("amq.direct", "nowhere", b"3")), Published::Unroutable);
    // What is rejected leaves nothing; what is dropped comes after what goes on.
    let noted = |body: &str, fate| (String::from(body), fate);
    assert_eq!(
        *fates.lock().unwrap(),
        [
            noted("1", Fate::Routed),
            noted("to b", Fate::Routed),
            noted("2", Fate::Routed),
            noted("drop", Fate::Dropped),
            noted("3", Fate::Unroutable),
        ]
    );
    assert_eq!(c.drain_bodies("a"), ["1", "2"]);
    assert_eq!(c.drain("b"), [("amq.direct".into(), "b".into(), "to b".into())]);
    // Other exchanges are not concerned.
    assert_eq!(c.publish_one(message("", "a", b"drop")), Published::Routed);
}

#[test]
fn the_next_one_sees_what_the_one_before_made_of_it() {
    let on = At::Publish("");
    let attached = vec![Attached::new(on, letter::<'x'>), Attached::new(on, letter::<'y'>)];
    let mut c = over(attached);
    c.vhost.declare_queue(kit::queue("axy"), c.id).unwrap();
    assert_eq!(c.publish_one(message("", "a", b"m")), Published::Routed);
    assert_eq!(c.drain("axy"), [("".into(), "axy".into(), "m".into())]);
}

#[test]
fn what_cannot_be_asked_can_go_to_the_alternate_exchange() {
    let broken = Attached { broken: true, ..Attached::new(At::Publish("x"), obey) };
    let mut c = over(vec![broken]);
    c.vhost.declare_exchange(&mut c.router, with_alternate("x", "fanout", "amq.direct")).unwrap();
    c.bind("x", BindTo::Queue(b"b"), "");
    assert_eq!(c.publish_one(message("x", "a", b"m")), Published::Routed);
    assert_eq!((c.drain_bodies("a"), c.drain_bodies("b").len()), (vec![String::from("m")], 0));
}

#[test]
fn a_refusal_is_one_whatever_interceptors_say() {
    let mut c = over(vec![Attached::new(At::Publish("gone"), obey)]);
    let outcomes = c.publish_all(&[message("gone", "a", b"drop"), message("", "a", b"m")]);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Published::Refused(_))), "{outcomes:?}");
    assert!(c.drain_bodies("a").is_empty());
}

#[test]
fn a_cut_batch_goes_on_and_a_pending_one_waits() {
    let attached = Attached { cut_after: Some(1), ..Attached::new(At::Publish("amq.direct"), obey) };
    let fates = attached.fates.clone();
    let mut c = over(vec![attached, Attached::new(At::Publish("amq.direct"), obey)]);
    let batch: Vec<_> = ["1", "drop", "2", "reject"].map(direct).into();
    assert_eq!(c.publish_all(&batch).len(), 4);
    assert_eq!(c.drain_bodies("a"), ["1", "2"]);
    assert_eq!(fates.lock().unwrap().len(), 3, "each was committed once");

    c.router.attached[1].pending = true;
    let publishes: Vec<Publish<'_>> = batch
        .iter()
        .map(|message| Publish { channel: 1, message: *message, mandatory: false, more_keys: None })
        .collect();
    let (mut outcomes, waker) = (Vec::new(), c.bell.clone() as Arc<dyn Wake>);
    let done = c.publisher.publish(&c.vhost, &mut c.router, &publishes, &mut outcomes, &waker);
    assert_eq!((done, outcomes.len()), (0, 0));
    assert_eq!(fates.lock().unwrap().len(), 3, "nothing of what waits took place");
}

#[test]
fn consumers_see_what_passes_and_the_rest_is_settled() {
    for no_ack in [false, true] {
        let attached = Attached::new(At::Deliver("a"), obey);
        let fates = attached.fates.clone();
        let mut c = over(vec![attached, Attached::new(At::Deliver("a"), letter::<'!'>)]);
        c.publish_all(&["1", "drop", "reject", "to b", "2"].map(direct));
        c.consume("a", "t", no_ack);
        let seen: Vec<_> = c.deliveries().into_iter().map(|d| (d.tag, d.key, d.body)).collect();
        let delivered = |tag, key: &str, body: &str| (tag, String::from(key), body.as_bytes().to_vec());
        assert_eq!(seen, [delivered(1, "a!", "1"), delivered(2, "b!", "to b"), delivered(3, "a!", "2")]);
        assert_eq!(fates.lock().unwrap().len(), 4);
        let unsettled = if no_ack { 0 } else { 3 };
        assert_eq!(c.vhost.queue(b"a").unwrap().counts().unsettled, unsettled);
        if !no_ack {
            c.client.settle(1, 3, true, Settle::Accepted).unwrap();
        }
        assert_eq!(c.vhost.queue(b"a").unwrap().counts().unsettled, 0);
        assert_eq!(c.vhost.memory().bytes(), 0, "nothing is left behind");
    }
}

#[test]
fn what_is_dropped_counts_for_no_prefetch() {
    let mut c = over(vec![Attached::new(At::Deliver("a"), obey)]);
    c.client.qos(1, 2, false);
    c.publish_all(&["drop", "reject", "drop", "1", "drop", "2", "3"].map(direct));
    c.consume("a", "t", false);
    assert_eq!(c.bodies(), ["1", "2"]);
    c.client.settle(1, 1, false, Settle::Accepted).unwrap();
    assert_eq!(c.bodies(), ["3"]);
}

#[test]
fn a_pending_interceptor_keeps_messages_in_their_place() {
    let mut c = over(vec![Attached::new(At::Deliver("a"), obey)]);
    c.router.attached[0].pending = true;
    c.publish_all(&["1", "2", "3"].map(direct));
    c.consume("a", "t", false);
    let rings = c.bell.rings.load(Ordering::SeqCst);
    assert!(c.bodies().is_empty() && c.get("a").is_none());
    assert_eq!(c.vhost.queue(b"a").unwrap().counts().ready, 3);
    assert_eq!(c.bell.rings.load(Ordering::SeqCst), rings, "it does not wake itself");
    c.router.attached[0].pending = false;
    c.router.attached[0].cut_after = Some(1);
    // Asked again after a wake, whoever's it is; not marked as redelivered.
    let deliveries = c.deliveries();
    assert!(deliveries.iter().all(|delivery| !delivery.redelivered));
    let bodies: Vec<_> = deliveries.into_iter().map(|delivery| delivery.body).collect();
    assert_eq!(bodies, [b"1", b"2", b"3"]);
}

#[test]
fn without_room_the_rest_of_a_burst_goes_back() {
    let mut c = over(vec![Attached::new(At::Deliver("a"), obey)]);
    let bodies: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    c.publish_all(&bodies.iter().map(|body| direct(body)).collect::<Vec<_>>());
    c.consume("a", "t", true);
    let mut got = Vec::new();
    for room in [3, 0, 7, 100] {
        let mut taken = Taken { room, ..Taken::default() };
        c.client.deliver(&mut c.router, &mut taken);
        got.extend(taken.deliveries);
    }
    assert!(got.iter().all(|delivery| !delivery.redelivered));
    let got: Vec<String> = got.into_iter().map(|d| String::from_utf8(d.body).unwrap()).collect();
    assert_eq!(got, bodies);
}

#[test]
fn several_consumers_share_what_passes() {
    let mut c = over(vec![Attached::new(At::Deliver("a"), obey)]);
    c.consume("a", "t", false);
    c.consume("a", "u", false);
    let bodies: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let batch: Vec<_> = bodies.iter().flat_map(|body| [direct(body), direct("drop")]).collect();
    c.publish_all(&batch);
    let mut got: Vec<u32> = c.bodies().iter().map(|body| body.parse().unwrap()).collect();
    got.sort_unstable();
    assert_eq!(got, (0..20).collect::<Vec<u32>>());
    assert_eq!(c.vhost.queue(b"a").unwrap().counts().ready, 0);
}

#[test]
fn get_skips_what_does_not_pass() {
    let mut c = over(vec![Attached::new(At::Deliver("a"), obey)]);
    c.publish_all(&["drop", "reject", "1", "drop"].map(direct));
    assert_eq!(c.get("a"), Some((1, false, String::from("1"))));
    assert_eq!(c.get("a"), None);
    c.client.settle(1, 1, false, Settle::Requeue { failed: false }).unwrap();
    assert_eq!(c.get("a"), Some((2, true, String::from("1"))));
}

/// What somebody gets and cannot have yet is nobody's meanwhile: a consumer that may have it then is told.
#[test]
fn what_was_got_and_goes_back_is_told_to_a_consumer_that_has_credit_by_then() {
    for consumers in 1..=2_u64 {
        let mut c = over(vec![Attached::new(At::Deliver("a"), obey)]);
        let mut consumer = c.sibling();
        consumer.router.attached = c.router.attached.clone();
        consumer.client.qos(1, 1, false);
        (0..consumers).for_each(|n| consumer.consume("a", &format!("t{n}"), false));
        for body in 0..=consumers {
            c.publish("amq.direct", "a", &body.to_string());
        }
        assert_eq!(consumer.bodies().len() as u64, consumers, "each has all that it may");
        let consumer = Rc::new(RefCell::new(consumer));
        let settling = consumer.clone();
        c.router.before_intercept = Some(Box::new(move || {
            let client = &mut settling.borrow_mut().client;
            client.settle(1, 1, false, Settle::Accepted).unwrap();
            client.tell_store();
        }));
        c.router.attached[0].pending = true;
        let rings = consumer.borrow().bell.rings.load(Ordering::SeqCst);
        assert_eq!(c.get("a"), None);
        assert_eq!(consumer.borrow().bell.rings.load(Ordering::SeqCst), rings + 1);
        assert_eq!(consumer.borrow_mut().bodies(), [consumers.to_string()]);
        // Nobody is told again and again of what nobody can have yet.
        let mut consumer = consumer.borrow_mut();
        c.publish("amq.direct", "a", "more");
        let rings = consumer.bell.rings.load(Ordering::SeqCst);
        assert!(c.get("a").is_none() && c.get("a").is_none());
        assert_eq!((consumer.bodies().len(), consumer.bell.rings.load(Ordering::SeqCst)), (0, rings));
    }
}

#[test]
fn emitted_messages_pass_and_released_ones_do_not_again() {
    let attached = |name| Attached::new(At::Publish(name), letter::<'!'>);
    let mut c = over(vec![attached("x"), attached("y")]);
    c.exchange(ExchangeSpec { arguments: text("emit-to", "y"), ..exchange("x", "emit+fanout") });
    c.exchange(exchange("y", "hold+fanout"));
    c.bind("x", BindTo::Queue(b"a"), "");
    c.bind("y", BindTo::Queue(b"b"), "");
    assert_eq!(c.publish_one(delayed("x", "k", "5", "m")), Published::Routed);
    // Once by its own exchange; the copy by that one and by the other, before it was held.
    c.pass(0);
    c.pass(5);
    assert_eq!(c.drain("a"), [("x".into(), "k!".into(), "m".into())]);
    let copies: Vec<_> = c.drain("b").into_iter().map(|(_, key, body)| (key, body)).collect();
    assert_eq!(copies, [(String::from("k!!"), String::from("m"))]);
}
