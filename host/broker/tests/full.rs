//! What the broker itself puts into a queue that is full: it is not as if there were no queue.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, delayed, exchange, name, queue, text};
use leveret_broker::{BindTo, ExchangeSpec, NoRoom, Published, QueueSpec, later::RELEASE_TRIES_MAX};
use leveret_model::{Table, Value};

/// A queue `full` with room for one message, which has one.
fn full(c: &mut Connection) {
    let arguments: Table = [
        (name("x-max-length"), Value::Integer(1)),
        (name("x-overflow"), Value::Text(String::from("reject-publish"))),
    ]
    .into_iter()
    .collect();
    c.vhost.declare_queue(QueueSpec { arguments, ..queue("full") }, c.id).unwrap();
    assert_eq!(c.publish("", "full", "first"), Published::Routed);
    let why = "queue 'full' exceeded maximum length".into();
    let told = Published::Full(NoRoom { why, queue: Some(name("full")) });
    assert_eq!(c.publish("", "full", "too many"), told);
}

#[test]
fn a_held_message_waits_for_room_as_long_as_it_takes() {
    let mut c = Connection::first();
    full(&mut c);
    c.exchange(exchange("x", "hold+direct"));
    c.bind("x", BindTo::Queue(b"full"), "k");
    assert_eq!(c.publish_one(delayed("x", "k", "10", "late")), Published::Routed);
    for _ in 0..60 {
        c.pass(60_000);
    }
    let held = c.vhost.holds(b"x", 0, 10);
    assert_eq!((held.len(), held[0].stuck.is_none()), (1, true), "it is listed and not set aside");
    assert!(held[0].tries > RELEASE_TRIES_MAX, "it was tried {} times", held[0].tries);
    assert_eq!(c.drain_bodies("full"), ["first"]);
    c.pass(60_000);
    assert_eq!((c.drain_bodies("full"), c.vhost.held()), (vec![String::from("late")], (0, 0)));
}

#[test]
fn what_one_of_two_queues_took_does_not_come_again() {
    let mut c = Connection::first();
    full(&mut c);
    c.queue("q");
    c.exchange(exchange("x", "hold+fanout"));
    c.bind("x", BindTo::Queue(b"full"), "");
    c.bind("x", BindTo::Queue(b"q"), "");
    c.publish_one(delayed("x", "k", "10", "late"));
    c.router.memory.lock().unwrap().now_ms += 60_000;
    let losses = c.run().losses;
    assert_eq!(losses.len(), 1, "{losses:?}");
    assert_eq!(
        losses[0].to_string(),
        "dropped 1 message for 'x' on the way to a queue that is full",
        "what is not there is told"
    );
    assert_eq!(c.drain_bodies("full"), ["first"]);
    for _ in 0..10 {
        c.pass(60_000);
    }
    assert_eq!((c.drain_bodies("q"), c.ready("full")), (vec![String::from("late")], 0));
    assert_eq!((c.vhost.held(), c.vhost.later_counters().queues_full), ((0, 0), 1));
}

#[test]
fn what_a_full_queue_sends_on_goes_on_once() {
    let mut c = Connection::first();
    c.queue("dead");
    let arguments: Table = [
        (name("x-max-length"), Value::Integer(1)),
        (name("x-overflow"), Value::Text(String::from("reject-publish-dlx"))),
        (name("x-dead-letter-exchange"), Value::Text(String::new())),
        (name("x-dead-letter-routing-key"), Value::Text(String::from("dead"))),
    ]
    .into_iter()
    .collect();
    c.vhost.declare_queue(QueueSpec { arguments, ..queue("full") }, c.id).unwrap();
    c.publish("", "full", "first");
    c.exchange(exchange("x", "hold+direct"));
    c.bind("x", BindTo::Queue(b"full"), "k");
    c.publish_one(delayed("x", "k", "10", "late"));
    for _ in 0..10 {
        c.pass(60_000);
    }
    assert_eq!((c.drain_bodies("dead"), c.vhost.held()), (vec![String::from("late")], (0, 0)));
    assert_eq!(c.drain_bodies("full"), ["first"]);
}

#[test]
fn what_is_held_as_well_is_held_once_however_often_a_full_queue_refuses() {
    let mut c = Connection::first();
    full(&mut c);
    c.queue("q");
    c.exchange(exchange("x", "hold+fanout"));
    c.bind("x", BindTo::Queue(b"full"), "");
    // It holds what comes from the other once more, for as long.
    c.exchange(exchange("h", "hold+fanout"));
    c.bind("x", BindTo::Exchange(b"h"), "");
    c.bind("h", BindTo::Queue(b"q"), "");
    c.publish_one(delayed("x", "k", "3600000", "late"));
    c.pass(3_600_000);
    for _ in 0..20 {
        c.pass(60_000);
    }
    assert_eq!((c.vhost.holds(b"x", 0, 10).len(), c.vhost.holds(b"h", 0, 10).len()), (0, 1));
    assert_eq!(c.vhost.later_counters().queues_full, 1, "that one did not get it is told");
    c.pass(3_600_000);
    assert_eq!((c.drain_bodies("q"), c.vhost.held()), (vec![String::from("late")], (0, 0)));
    assert_eq!(c.drain_bodies("full"), ["first"]);
}

#[test]
fn an_emitted_message_is_tried_again() {
    let mut c = Connection::first();
    full(&mut c);
    c.queue("q");
    c.exchange(ExchangeSpec { arguments: text("emit-to", "y"), ..exchange("x", "emit+direct") });
    c.bind("x", BindTo::Queue(b"q"), "k");
    c.exchange(exchange("y", "fanout"));
    c.bind("y", BindTo::Queue(b"full"), "");
    c.publish("x", "k", "1");
    c.pass(50);
    assert_eq!(c.drain_bodies("full"), ["first"]);
    c.pass(60_000);
    assert_eq!(c.drain_bodies("full"), ["1"]);
    assert_eq!(c.vhost.later_counters().emissions_lost, 0);
}
