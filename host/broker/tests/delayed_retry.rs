//! Messages of quorum queues that wait before they are tried again.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, Disk, message, name};
use leveret_broker::{QueueSpec, Remark, Settle, port::Router as _};
use leveret_model::{Refusal, Table, Value};

const FAILED: Settle = Settle::Requeue { failed: true };
const RETURNED: Settle = Settle::Requeue { failed: false };

fn with_queue(kind: &str, more: &[(&str, Value)]) -> Connection {
    let c = Connection::first();
    declare(&c, kind, more);
    c
}

fn declare(c: &Connection, kind: &str, more: &[(&str, Value)]) {
    let text = |text: &str| Value::Text(text.into());
    let base = [
        ("x-queue-type", text("quorum")),
        ("x-delayed-retry-type", text(kind)),
        ("x-delayed-retry-min", Value::Integer(400)),
        ("x-delayed-retry-max", Value::Integer(1000)),
    ];
    let arguments: Table =
        base.iter().chain(more).map(|(argument, value)| (name(argument), value.clone())).collect();
    let spec = QueueSpec { name: name("q"), durable: true, arguments, ..QueueSpec::default() };
    c.vhost.declare_queue(spec, c.id).unwrap();
}

/// Gets the only message and gives it back so; gives how long it takes until it is ready again.
fn waits_ms(c: &mut Connection, outcome: Settle) -> u64 {
    let (tag, ..) = c.get("q").unwrap();
    c.client.settle(1, tag, false, outcome).unwrap();
    c.client.tell_store();
    for waited_ms in 0..2000 {
        if c.vhost.queue(b"q").unwrap().status().messages == 1 {
            return waited_ms;
        }
        assert_eq!(c.vhost.queue(b"q").unwrap().unsettled(), 1);
        c.pass(if waited_ms == 0 { 0 } else { 1 });
        if c.vhost.queue(b"q").unwrap().status().messages == 1 {
            return waited_ms;
        }
    }
    panic!("it does not come back");
}

#[test]
fn each_failure_makes_the_wait_longer_up_to_the_longest() {
    for (kind, outcome, expected) in [
        ("all", FAILED, [400, 800, 1000, 1000]),
        ("all", RETURNED, [400, 400, 400, 400]),
        ("failed", FAILED, [400, 800, 1000, 1000]),
        ("failed", RETURNED, [0; 4]),
        ("returned", FAILED, [0; 4]),
        ("returned", RETURNED, [400; 4]),
        ("disabled", FAILED, [0; 4]),
        ("what", FAILED, [0; 4]),
    ] {
        let mut c = with_queue(kind, &[]);
        c.publish("", "q", "1");
        let waited: Vec<u64> = expected.iter().map(|_| waits_ms(&mut c, outcome)).collect();
        assert_eq!(waited, expected, "{kind} {outcome:?}");
    }
}

#[test]
fn consumers_get_others_meanwhile_and_that_one_when_its_time_comes() {
    let mut c = with_queue("all", &[]);
    c.consume("q", "a", false);
    for body in ["1", "2"] {
        c.publish("", "q", body);
    }
    assert_eq!(c.bodies(), ["1", "2"]);
    c.client.settle(1, 1, false, FAILED).unwrap();
    c.publish("", "q", "3");
    assert_eq!(c.bodies(), ["3"]);
    c.pass(0);
    c.pass(399);
    assert!(c.bodies().is_empty());
    c.pass(1);
    let again = c.deliveries();
    assert_eq!(again.len(), 1);
    assert_eq!((again[0].body.as_slice(), again[0].redelivered), (&b"1"[..], true));
    // Of several that came back together, in that order.
    c.client.settle(1, 4, true, RETURNED).unwrap();
    c.pass(0);
    c.pass(800);
    assert_eq!(c.bodies(), ["2", "3", "1"]);
}

#[test]
fn a_message_waits_until_when_whoever_gave_it_back_has_said() {
    for kind in ["all", "failed", "returned", "disabled"] {
        let mut c = with_queue(kind, &[]);
        c.publish("", "q", "1");
        let give_back = |c: &mut Connection, wait_ms: i64| {
            let (tag, ..) = c.get("q").unwrap();
            let due_ms = Some(c.router.now_ms().saturating_add_signed(wait_ms));
            c.client.annotate(1, tag, Remark { due_ms, ..Remark::default() });
            c.client.settle(1, tag, false, RETURNED).unwrap();
            c.client.tell_store();
            c.pass(0);
        };
        let ready = |c: &Connection| c.vhost.queue(b"q").unwrap().status().messages;
        give_back(&mut c, 5000);
        c.pass(4999);
        assert_eq!(ready(&c), 0, "{kind}");
        c.pass(1);
        assert_eq!(ready(&c), 1, "{kind}");
        give_back(&mut c, -5000);
        assert_eq!(ready(&c), 1, "{kind}: that is over");
        // It was said for that time alone.
        let expected = if ["all", "returned"].contains(&kind) { 400 } else { 0 };
        assert_eq!(waits_ms(&mut c, RETURNED), expected, "{kind}");
    }
}

#[test]
fn what_failed_too_often_waits_no_more() {
    let mut c = with_queue("all", &[("x-delivery-limit", Value::Integer(1))]);
    c.publish("", "q", "1");
    assert_eq!(waits_ms(&mut c, FAILED), 400);
    let (tag, ..) = c.get("q").unwrap();
    c.client.settle(1, tag, false, FAILED).unwrap();
    c.pass(5000);
    let counts = c.vhost.queue(b"q").unwrap().counts();
    assert_eq!((counts.ready, counts.unsettled), (0, 0));
}

#[test]
fn a_queue_can_be_deleted_while_messages_wait() {
    let mut c = with_queue("all", &[]);
    c.publish("", "q", "1");
    let (tag, ..) = c.get("q").unwrap();
    c.client.settle(1, tag, false, FAILED).unwrap();
    c.pass(0);
    assert_eq!(c.vhost.delete_queue(&mut c.router, b"q", false, false, c.id), Ok(0));
    c.pass(5000);
    assert!(c.vhost.queue(b"q").is_none());
}

#[test]
fn a_purge_takes_what_waits_too_and_off_the_disk() {
    let disk = Disk::new();
    let mut c = Connection::kept_in(disk.clone(), vec![]);
    declare(&c, "all", &[]);
    c.publish_all(&["1", "2", "3"].map(|body| message("", "q", body.as_bytes())));
    for visited in [true, false] {
        // One that waits since a visit of the housekeeper, and one that does not.
        let (tag, ..) = c.get("q").unwrap();
        c.client.settle(1, tag, false, FAILED).unwrap();
        c.client.tell_store();
        if visited {
            c.pass(0);
        }
    }
    assert_eq!((c.ready("q"), disk.bodies().len()), (1, 3));
    assert_eq!(c.vhost.purge_queue(b"q", c.id), Ok(3));
    assert!(disk.bodies().is_empty());
    c.pass(0);
    c.pass(5000);
    assert_eq!((c.get("q"), c.vhost.queue(b"q").unwrap().unsettled()), (None, 0));
}

#[test]
fn a_queue_is_not_empty_while_messages_wait() {
    let mut c = with_queue("all", &[]);
    c.publish("", "q", "1");
    let (tag, ..) = c.get("q").unwrap();
    c.client.settle(1, tag, false, FAILED).unwrap();
    for _ in 0..2 {
        let deleted = c.vhost.delete_queue(&mut c.router, b"q", false, true, c.id);
        assert!(matches!(deleted, Err(Refusal::NotEmpty { .. })), "{deleted:?}");
        c.pass(0);
    }
    assert_eq!(c.vhost.purge_queue(b"q", c.id), Ok(1));
    assert_eq!(c.vhost.delete_queue(&mut c.router, b"q", false, true, c.id), Ok(0));
}
