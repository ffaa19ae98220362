//! Consumers that are given copies.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, Disk, PERSISTENT, Taken, Wants, message, name, number, quorum, table};
use leveret_broker::{ConsumeSpec, MemoryAccount, QueueSpec, Settle, Vhost};
use leveret_model::MessageView;
use std::sync::Arc;

fn browser(tag: &str) -> ConsumeSpec {
    ConsumeSpec {
        queue: name("q"),
        tag: name(tag),
        copies: true,
        credit: Some(100_000),
        ..ConsumeSpec::default()
    }
}

fn every_kind() -> [QueueSpec; 3] {
    let with = |arguments| QueueSpec { durable: true, arguments, ..kit::queue("q") };
    [kit::queue("q"), with(table(&[quorum()])), with(table(&[("x-max-priority", number(5))]))]
}

fn with(spec: QueueSpec, bodies: &[&str]) -> Connection {
    let mut c = Connection::first();
    c.vhost.declare_queue(spec, c.id).unwrap();
    publish(&mut c, bodies);
    c
}

fn publish(c: &mut Connection, bodies: &[&str]) {
    let messages: Vec<_> = bodies.iter().map(|body| message("", "q", body.as_bytes())).collect();
    c.publish_all(&messages);
}

#[test]
fn a_browser_sees_each_message_once_and_leaves_it() {
    for spec in every_kind() {
        let mut c = with(spec, &["1", "2", "3"]);
        let mut other = c.sibling();
        c.client.consume(1, browser("b")).unwrap();
        assert_eq!(c.bodies(), ["1", "2", "3"]);
        assert!(c.bodies().is_empty());
        assert_eq!((c.ready("q"), c.client.unacknowledged(1)), (3, 0));
        publish(&mut other, &["4"]);
        assert_eq!(c.bodies(), ["4"], "it is told of what comes later");
        // What somebody has is not seen until it comes back.
        let taken = other.get("q").unwrap();
        assert_eq!((taken.1, &*taken.2), (false, "1"));
        c.client.consume(1, browser("late")).unwrap();
        assert_eq!(c.bodies(), ["2", "3", "4"]);
        other.client.settle(1, taken.0, false, Settle::Requeue { failed: false }).unwrap();
        let came = c.deliveries();
        assert!(came.iter().all(|delivery| delivery.redelivered && delivery.body == b"1"));
        assert!(came.iter().any(|delivery| delivery.consumer == "late"));
        // Others get all of it, in its order.
        assert!(c.client.cancel(1, b"b", &mut c.router));
        let mut all = other.drain_bodies("q");
        all.sort_unstable();
        assert_eq!(all, ["1", "2", "3", "4"]);
    }
}

#[test]
fn a_browser_has_a_credit_and_a_filter() {
    let mut c = with(kit::queue("q"), &["a1", "b1", "a2", "a3"]);
    let selector = Wants::beginning("a");
    let spec = ConsumeSpec { credit: Some(0), selector: Some(selector.clone()), ..browser("b") };
    c.client.consume(1, spec).unwrap();
    assert!(c.bodies().is_empty());
    c.client.grant(1, b"b", 2);
    assert_eq!(c.bodies(), ["a1", "a2"]);
    c.client.grant(1, b"b", 5);
    assert_eq!(c.bodies(), ["a3"]);
    assert!(!c.client.is_waiting(1, b"b"));
    assert_eq!((c.ready("q"), selector.asked()), (4, 4));
}

#[test]
fn a_browser_takes_nothing_from_a_consumer_and_keeps_no_queue() {
    let mut c = Connection::first();
    c.vhost.declare_queue(QueueSpec { auto_delete: true, ..kit::queue("q") }, c.id).unwrap();
    c.client.consume(1, browser("b")).unwrap();
    let mut other = c.sibling();
    other.consume("q", "all", true);
    publish(&mut other, &["1", "2"]);
    assert_eq!(other.bodies(), ["1", "2"]);
    assert_eq!((c.bodies().len(), c.ready("q")), (0, 0));
    // One that goes is no last consumer.
    assert!(c.client.cancel(1, b"b", &mut c.router));
    assert!(c.vhost.queue(b"q").is_some());
    c.client.consume(1, browser("b")).unwrap();
    assert!(other.client.cancel(1, b"all", &mut other.router));
    assert!(c.vhost.queue(b"q").is_none());
    c.bodies();
    assert_eq!(c.client.take_cancelled(), [(1, name("b"))]);
}

#[test]
fn what_is_expired_is_not_seen() {
    use leveret_amqp091::properties::MessageProperties;
    let mut c = with(kit::queue("q"), &["1"]);
    let expiration = Some(&b"10"[..]);
    let properties = MessageProperties { expiration, ..MessageProperties::default() }.encode();
    c.publish_one(MessageView { properties: &properties, ..message("", "q", b"2") });
    publish(&mut c, &["3"]);
    c.router.memory.lock().unwrap().now_ms += 20;
    c.client.consume(1, browser("b")).unwrap();
    assert_eq!(c.bodies(), ["1", "3"]);
}

#[test]
fn a_backlog_on_disk_is_seen_piece_by_piece() {
    const COUNT: usize = 3000;
    let (disk, account) = (Disk::new(), Arc::new(MemoryAccount::new(1)));
    let start = || {
        let mut router = kit::Native::default();
        let vhost = Vhost::kept_in(disk.clone(), name("/"), account.clone(), &mut router).unwrap();
        Connection { router, ..Connection::to(&vhost) }
    };
    let mut c = start();
    c.vhost.declare_queue(QueueSpec { durable: true, ..kit::queue("q") }, c.id).unwrap();
    let bodies: Vec<_> = (0..COUNT).map(|number| format!("{number:05}{}", "x".repeat(5000))).collect();
    for body in &bodies {
        c.publish_one(MessageView { properties: PERSISTENT, ..message("", "q", body.as_bytes()) });
    }
    drop(c);
    let mut c = start();
    c.client.consume(1, browser("b")).unwrap();
    let mut seen = Vec::new();
    while seen.len() < COUNT {
        let mut taken = Taken::default();
        c.client.deliver(&mut c.router, &mut taken);
        assert!(account.bytes() < 5 << 20, "{} bytes in memory", account.bytes());
        seen.extend(taken.deliveries.into_iter().map(|delivery| String::from_utf8(delivery.body).unwrap()));
    }
    assert!(seen == bodies, "they come in order, each once");
    assert_eq!(c.ready("q"), COUNT as u64);
    assert!(c.drain_bodies("q") == bodies);
}
