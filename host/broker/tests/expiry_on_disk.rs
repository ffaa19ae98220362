//! Messages expire that a queue found at a start, and that are on disk alone.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Ageing as _, Connection, Disk};
use leveret_broker::port::Router as _;
use leveret_model::Value;

#[test]
fn after_a_restart_a_message_expires_by_its_own_time_though_nobody_asks_for_it() {
    let disk = Disk::new();
    let mut c = Connection::kept_in(disk.clone(), vec![]);
    c.pass(1_700_000_000_000);
    c.declare("first", &[]);
    c.declare("behind", &[]);
    c.declare("p", &[("x-max-priority", Value::Integer(9))]);
    c.declare("never", &[]);
    c.put("first", "short", None, Some("1000"));
    c.put("first", "long", None, None);
    c.put("behind", "long", None, None);
    c.put("behind", "short", None, Some("1000"));
    c.put("p", "low", None, None);
    c.put("p", "high", Some(9), Some("1000"));
    (0..100).for_each(|_| drop(c.put("never", "long", None, None)));
    let now_ms = c.router.now_ms();
    drop(c);
    let mut c = Connection::kept_in(disk.clone(), vec![]);
    c.router.memory.lock().unwrap().now_ms = now_ms;
    let before = disk.reads();
    c.pass(999);
    let ready = |c: &Connection| ["first", "behind", "p", "never"].map(|queue| c.ready(queue));
    assert_eq!(ready(&c), [2, 2, 2, 100]);
    c.pass(1);
    assert_eq!(ready(&c), [1, 2, 1, 100], "only the first of a queue is looked at");
    assert!(disk.reads() - before <= 8, "{} reads", disk.reads() - before);
    assert_eq!(c.get("behind").unwrap().2, "long");
    c.pass(0);
    assert_eq!(ready(&c), [1, 0, 1, 100]);
}

#[test]
fn what_cannot_be_read_after_a_restart_is_looked_at_later() {
    let disk = Disk::new();
    let mut c = Connection::kept_in(disk.clone(), vec![]);
    c.pass(1_700_000_000_000);
    c.declare("q", &[]);
    c.put("q", "short", None, Some("1000"));
    let now_ms = c.router.now_ms();
    drop(c);
    disk.is_short_from(Some(0));
    let mut c = Connection::kept_in(disk.clone(), vec![]);
    c.router.memory.lock().unwrap().now_ms = now_ms;
    let before = disk.reads();
    c.pass(500);
    assert_eq!((c.ready("q"), disk.reads() - before), (1, 1));
    disk.is_short_from(None);
    c.pass(1000);
    assert_eq!(c.ready("q"), 0);
}
