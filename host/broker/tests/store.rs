//! What is to outlive the process is admitted by the store before its message is anywhere, or did not happen.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{At, Attached, Connection, Disk, delayed, exchange, message, text};
use leveret_broker::{BindTo, ExchangeSpec, Published, port::Intercepted};
use leveret_model::MessageView;
use std::sync::Arc;

const Q: BindTo<'static> = BindTo::Queue(b"q");

fn full() -> Published {
    Published::Unavailable(Arc::from("the store: no space left on the disk"))
}

/// An exchange `x` of this type, bound to the queue `q` by `k`.
fn with_type(type_name: &str, attached: Vec<Attached>) -> (Connection, Arc<Disk>) {
    let disk = Disk::new();
    let mut c = Connection::kept_in(disk.clone(), attached);
    c.queue("q");
    c.exchange(exchange("x", type_name));
    c.bind("x", Q, "k");
    disk.watch(&c.vhost, "q");
    (c, disk)
}

fn committed(c: &Connection) -> usize {
    c.router.memory.lock().unwrap().committed.len()
}

fn passes(_: &MessageView<'_>) -> Intercepted {
    Intercepted::Continue
}

fn drops(_: &MessageView<'_>) -> Intercepted {
    Intercepted::Drop
}

#[test]
fn a_batch_is_one_group() {
    let (mut c, disk) = with_type("dedup+direct", vec![]);
    let batch = ["1", "2", "3"].map(|body| message("x", "k", body.as_bytes()));
    assert_eq!(c.publish_all(&batch), vec![Published::Routed; 3]);
    assert_eq!((disk.groups(), disk.seen()), (vec![vec!["1".into(), "2".into(), "3".into()]], vec![3]));
    assert_eq!(c.drain_bodies("q"), ["1", "2", "3"]);
    // A duplicate changes nothing, and an exchange without state writes nothing.
    assert_eq!(c.publish("x", "k", "1"), Published::Dropped);
    assert_eq!(c.publish("amq.direct", "k", "1"), Published::Unroutable);
    assert!(disk.groups().is_empty());
}

#[test]
fn deduplication_loses_nothing_while_the_disk_fails() {
    let (mut c, disk) = with_type("dedup+direct", vec![]);
    assert_eq!(c.publish("x", "k", "0"), Published::Routed);
    disk.is_full(true);
    for _ in 0..2 {
        assert_eq!(c.publish("x", "k", "1"), full(), "not accepted, and no duplicate of itself");
    }
    assert_eq!(c.publish("x", "k", "0"), Published::Dropped, "what was seen stays seen");
    assert_eq!((c.ready("q"), committed(&c)), (1, 1));
    disk.is_full(false);
    assert_eq!(c.publish("x", "k", "1"), Published::Routed);
    assert_eq!(c.publish("x", "k", "1"), Published::Dropped);
    assert_eq!(c.drain_bodies("q"), ["0", "1"]);
}

#[test]
fn only_what_would_have_changed_state_is_not_accepted() {
    let (mut c, disk) = with_type("dedup+direct", vec![]);
    c.bind("amq.direct", Q, "k");
    disk.is_full(true);
    let batch = [("x", "1"), ("amq.direct", "2"), ("x", "3"), ("amq.direct", "4")];
    let outcomes = c.publish_all(&batch.map(|(exchange, body)| message(exchange, "k", body.as_bytes())));
    assert_eq!(outcomes, [full(), Published::Routed, full(), Published::Routed]);
    assert_eq!(c.drain_bodies("q"), ["2", "4"]);
}

#[test]
fn what_is_not_held_after_all_takes_no_room() {
    let (mut c, disk) = with_type("dedup+hold+direct", vec![]);
    disk.is_full(true);
    assert_eq!(c.publish_one(delayed("x", "k", "10", "1")), full());
    assert_eq!(c.vhost.held(), (0, 0));
    disk.is_full(false);
    assert_eq!(c.publish_one(delayed("x", "k", "10", "1")), Published::Routed);
    assert_eq!(c.vhost.held().0, 1);
    c.pass(10);
    assert_eq!((c.drain_bodies("q"), c.vhost.held()), (vec![String::from("1")], (0, 0)));
}

#[test]
fn what_was_emitted_is_tried_again_until_it_can_be_written() {
    let (mut c, disk) = with_type("dedup+direct", vec![]);
    c.exchange(ExchangeSpec { arguments: text("emit-to", "x"), ..exchange("e", "emit+direct") });
    assert_eq!(c.publish("e", "k", "1"), Published::Unroutable);
    disk.is_full(true);
    c.pass(1);
    assert_eq!(c.ready("q"), 0);
    disk.is_full(false);
    c.pass(60_000);
    assert_eq!(c.drain_bodies("q"), ["1"]);
}

#[test]
fn what_interceptors_did_is_in_the_group_of_their_message() {
    let (mut c, disk) = with_type("dedup+direct", vec![Attached::new(At::Publish("x"), passes)]);
    let fates = c.router.attached[0].fates.clone();
    assert_eq!(c.publish("x", "k", "1"), Published::Routed);
    let groups = disk.groups();
    assert_eq!(groups.len(), 1);
    assert!(["1", "noted 1"].iter().all(|key| groups[0].iter().any(|other| other == key)), "{groups:?}");
    disk.is_full(true);
    assert_eq!(c.publish("x", "k", "2"), full());
    assert_eq!((c.ready("q"), committed(&c), fates.lock().unwrap().len()), (1, 1, 1));
    disk.is_full(false);
    assert_eq!(c.publish("x", "k", "2"), Published::Routed);
    assert_eq!(c.drain_bodies("q"), ["1", "2"]);
}

#[test]
fn a_message_that_an_interceptor_drops_is_refused_where_that_cannot_be_written() {
    let (mut c, disk) = with_type("direct", vec![Attached::new(At::Publish("x"), drops)]);
    disk.is_full(true);
    assert_eq!(c.publish("x", "k", "1"), full());
    assert!(c.router.attached[0].fates.lock().unwrap().is_empty());
    disk.is_full(false);
    assert_eq!(c.publish("x", "k", "1"), Published::Dropped);
    assert_eq!(disk.groups(), [["noted 1"]]);
}

#[test]
fn what_an_interceptor_did_on_deliver_is_undone_visibly_where_it_cannot_be_written() {
    let (mut c, disk) = with_type("direct", vec![Attached::new(At::Deliver("q"), passes)]);
    c.publish("x", "k", "1");
    disk.is_full(true);
    assert_eq!(c.drain_bodies("q"), ["1"]);
    assert!(c.router.attached[0].fates.lock().unwrap().is_empty());
    assert_eq!(c.vhost.later_counters().effects_lost, 1);
    let told = "undid what interceptors did for 1 message of queue 'q': no space left on the disk";
    assert_eq!(c.run().losses[0].to_string(), told);
    disk.is_full(false);
    c.publish("x", "k", "2");
    assert_eq!(c.drain_bodies("q"), ["2"]);
    assert_eq!(disk.groups(), [["noted 2"]]);
}
