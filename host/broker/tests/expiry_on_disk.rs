//! Messages expire that a queue found at a start, and that are on disk alone.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, Disk, message, name};
use leveret_amqp091::properties::MessageProperties;
use leveret_broker::{QueueSpec, port::Router as _};
use leveret_model::{MessageView, Value};

/// What the tests here do with a connection.
trait Ageing {
    fn declare(&mut self, name: &str, arguments: &[(&str, Value)]);
    fn put(&mut self, queue: &str, body: &str, priority: Option<u8>, expiration: Option<&str>);
}

impl Ageing for Connection {
    fn declare(&mut self, queue: &str, arguments: &[(&str, Value)]) {
        let arguments = arguments.iter().map(|(argument, value)| (name(argument), value.clone())).collect();
        let spec = QueueSpec { durable: true, arguments, ..kit::queue(queue) };
        self.vhost.declare_queue(spec, self.id).unwrap();
    }

    fn put(&mut self, queue: &str, body: &str, priority: Option<u8>, expiration: Option<&str>) {
        let expiration = expiration.map(str::as_bytes);
        let properties = MessageProperties {
            delivery_mode: Some(2),
            priority,
            expiration,
            ..MessageProperties::default()
        };
        let properties = properties.encode();
        self.publish_one(MessageView { properties: &properties, ..message("", queue, body.as_bytes()) });
    }
}

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
    (0..100).for_each(|_| c.put("never", "long", None, None));
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
