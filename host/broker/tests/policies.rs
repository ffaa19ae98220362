//! Policies: what they say holds for queues and exchanges that are there, for those that come, and no longer than they are.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, Disk, PERSISTENT, message, name};
use leveret_broker::{
    BindTo, Published, QueueSpec, Settle,
    policy::{ApplyTo, NamePattern, Policy, PolicyKind},
    port::Router as _,
    queue::{DeliveryLimit, Overflow},
};
use leveret_model::{MessageView, Table, Value};
use std::sync::Arc;

/// Found where a name begins with it.
#[derive(Debug)]
struct Begins(String);

impl NamePattern for Begins {
    fn text(&self) -> &str {
        &self.0
    }

    fn is_in(&self, name: &[u8]) -> bool {
        name.starts_with(self.0.as_bytes())
    }
}

fn table(fields: &[(&str, Value)]) -> Table {
    fields.iter().map(|(field, value)| (name(field), value.clone())).collect()
}

fn number(number: i64) -> Value {
    Value::Integer(number)
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

/// What the tests here do with a connection.
trait Governing {
    fn set(&mut self, kind: PolicyKind, definition: &[(&str, Value)]);
    fn clear(&mut self, kind: PolicyKind);
    fn declare(&mut self, name: &str, arguments: &[(&str, Value)]);
    fn put(&mut self, queue: &str, bodies: &[&str]) -> Vec<Published>;
}

impl Governing for Connection {
    /// For queues and exchanges that begin with `q`.
    fn set(&mut self, kind: PolicyKind, definition: &[(&str, Value)]) {
        let pattern = Box::new(Begins("q".into()));
        let policy = Policy::new(kind, name("p"), pattern, (ApplyTo::All, 0.0), table(definition)).unwrap();
        let mut all = (*self.vhost.policies()).clone();
        all.put(kind, Arc::new(policy));
        self.vhost.set_policies(all, self.router.now_ms());
    }

    fn clear(&mut self, kind: PolicyKind) {
        let mut all = (*self.vhost.policies()).clone();
        all.remove(kind, b"p").unwrap();
        self.vhost.set_policies(all, self.router.now_ms());
    }

    fn declare(&mut self, name: &str, arguments: &[(&str, Value)]) {
        let spec = QueueSpec { durable: true, arguments: table(arguments), ..kit::queue(name) };
        self.vhost.declare_queue(spec, self.id).unwrap();
    }

    fn put(&mut self, queue: &str, bodies: &[&str]) -> Vec<Published> {
        let messages: Vec<_> = bodies
            .iter()
            .map(|body| MessageView { properties: PERSISTENT, ..message("", queue, body.as_bytes()) })
            .collect();
        self.publish_all(&messages)
    }
}

const QUORUM: (&str, &str) = ("x-queue-type", "quorum");

#[test]
fn a_length_holds_at_once_for_what_is_there_and_for_what_is_declared_later() {
    for arguments in [&[][..], &[(QUORUM.0, text(QUORUM.1))]] {
        let mut c = Connection::first();
        c.declare("q1", arguments);
        c.put("q1", &["1", "2", "3", "4", "5"]);
        c.set(PolicyKind::User, &[("max-length", number(3))]);
        assert_eq!(c.ready("q1"), 3);
        c.set(PolicyKind::Operator, &[("max-length", number(2))]);
        assert_eq!(c.ready("q1"), 2, "the smaller one");
        c.declare("q2", arguments);
        c.declare("other", arguments);
        for queue in ["q2", "other"] {
            c.put(queue, &["1", "2", "3", "4"]);
        }
        assert_eq!((c.ready("q2"), c.ready("other")), (2, 4));
        c.clear(PolicyKind::Operator);
        c.put("q1", &["6", "7"]);
        assert_eq!(c.drain_bodies("q1"), ["5", "6", "7"]);
        c.clear(PolicyKind::User);
        c.put("q1", &["1", "2", "3", "4"]);
        assert_eq!(c.ready("q1"), 4);
        c.declare("q1", arguments);
    }
}

#[test]
fn an_argument_wins_but_for_limits() {
    let mut c = Connection::first();
    let definition = [("max-length", number(2)), ("overflow", text("reject-publish"))];
    c.set(PolicyKind::User, &definition);
    c.declare("q1", &[("x-max-length", number(5)), ("x-overflow", text("drop-head"))]);
    c.put("q1", &["1", "2", "3"]);
    assert_eq!(c.drain_bodies("q1"), ["2", "3"]);
    c.declare("q2", &[("x-max-length", number(1))]);
    assert!(matches!(c.put("q2", &["1", "2"])[..], [Published::Routed, Published::Unavailable(_)]));
    let quorum = [(QUORUM.0, text(QUORUM.1)), ("x-overflow", text("drop-head"))];
    c.declare("q3", &quorum);
    assert_eq!(c.vhost.queue(b"q3").unwrap().settings().overflow, Overflow::RejectPublish);
    c.set(PolicyKind::User, &[("delivery-limit", number(-1))]);
    let limit = |c: &Connection, queue: &[u8]| c.vhost.queue(queue).unwrap().settings().delivery_limit;
    assert_eq!(limit(&c, b"q3"), DeliveryLimit::None);
    c.set(PolicyKind::Operator, &[("delivery-limit", number(4))]);
    assert_eq!(limit(&c, b"q3"), DeliveryLimit::Times(4));
    let applied = c.vhost.queue(b"q1").unwrap().applied();
    assert!(applied.policy.is_none() && applied.operator.is_none(), "no classic queue has such a limit");
    assert_eq!(c.vhost.queue(b"q3").unwrap().applied().definition(), table(&[("delivery-limit", number(4))]));
}

#[test]
fn a_length_in_bytes_counts_what_is_there() {
    let mut c = Connection::first();
    c.declare("q", &[]);
    c.put("q", &["12345", "12345", "123", "12"]);
    let (first, ..) = c.get("q").unwrap();
    c.set(PolicyKind::User, &[("max-length-bytes", number(6))]);
    assert_eq!(c.ready("q"), 2, "three and two bytes");
    c.client.settle(1, first, false, Settle::Requeue { failed: false }).unwrap();
    assert_eq!(c.drain_bodies("q"), ["123", "12"], "what comes back does not fit");
    c.clear(PolicyKind::User);
    c.put("q", &["1234567"]);
    assert_eq!(c.ready("q"), 1);
    c.set(PolicyKind::User, &[("max-length-bytes", number(6))]);
    assert_eq!(c.ready("q"), 0);
}

#[test]
fn bytes_that_are_on_disk_alone_count_too_and_other_lanes() {
    let disk = Disk::new();
    let mut c = Connection::kept_in(disk.clone(), Vec::new());
    c.declare("q", &[("x-max-priority", number(3))]);
    c.put("q", &["12345", "1234", "123"]);
    let high = [0x18, 0, 2, 3];
    c.publish_one(MessageView { properties: &high, ..message("", "q", b"1234567") });
    drop(c);
    let mut c = Connection::kept_in(disk, Vec::new());
    assert_eq!(c.ready("q"), 4);
    c.set(PolicyKind::User, &[("max-length-bytes", number(100))]);
    assert_eq!(c.ready("q"), 4);
    // Nineteen bytes are there.
    assert_eq!(c.put("q", &[&"x".repeat(81)]), [Published::Routed]);
    assert_eq!(c.ready("q"), 5);
    c.put("q", &["y"]);
    assert_eq!(c.ready("q"), 5, "the first had to go");
    assert!(!c.drain_bodies("q").contains(&"1234567".to_owned()));
}

#[test]
fn a_time_to_live_counts_from_when_a_message_came_or_from_the_change() {
    let mut c = Connection::first();
    c.declare("q", &[]);
    c.put("q", &["old"]);
    c.pass(500);
    c.set(PolicyKind::User, &[("message-ttl", number(100))]);
    c.pass(50);
    c.put("q", &["new"]);
    assert_eq!(c.ready("q"), 2);
    c.pass(50);
    assert_eq!(c.ready("q"), 1, "the old one");
    c.pass(50);
    assert_eq!((c.ready("q"), c.vhost.next_due_ms()), (0, None));
    c.put("q", &["long"]);
    c.set(PolicyKind::User, &[("message-ttl", number(1000))]);
    c.pass(500);
    assert_eq!(c.ready("q"), 1, "it is given more time");
    c.set(PolicyKind::User, &[("message-ttl", number(600))]);
    c.pass(100);
    assert_eq!(c.ready("q"), 0, "and less");
    c.put("q", &["stays"]);
    c.clear(PolicyKind::User);
    c.pass(100_000);
    assert_eq!(c.drain_bodies("q"), ["stays"]);
}

#[test]
fn a_queue_that_is_unused_goes_when_a_policy_says_so() {
    let mut c = Connection::first();
    c.declare("q", &[]);
    c.consume("q", "c", true);
    c.declare("q2", &[]);
    c.pass(1000);
    c.set(PolicyKind::User, &[("expires", number(100))]);
    c.pass(0);
    c.pass(99);
    assert!(c.vhost.queue(b"q2").is_some());
    c.pass(1);
    assert!(c.vhost.queue(b"q2").is_none());
    assert!(c.vhost.queue(b"q").is_some(), "it has a consumer");
    c.declare("q3", &[]);
    c.clear(PolicyKind::User);
    c.pass(1000);
    assert!(c.vhost.queue(b"q3").is_some());
    c.set(PolicyKind::User, &[("expires", number(1000))]);
    c.pass(0);
    c.set(PolicyKind::User, &[("expires", number(100))]);
    c.pass(100);
    assert!(c.vhost.queue(b"q3").is_none());
}

#[test]
fn dead_letters_go_where_the_policy_says_as_long_as_it_does() {
    let mut c = Connection::first();
    c.declare("dead", &[]);
    c.declare("q", &[]);
    c.put("q", &["1", "2", "3", "4"]);
    let reject = |c: &mut Connection| {
        let (tag, ..) = c.get("q").unwrap();
        c.client.settle(1, tag, false, Settle::Rejected).unwrap();
        c.client.dead_letter(&mut c.router);
    };
    reject(&mut c);
    assert_eq!(c.ready("dead"), 0);
    let to_dead = [("dead-letter-exchange", text("")), ("dead-letter-routing-key", text("dead"))];
    c.set(PolicyKind::User, &to_dead);
    reject(&mut c);
    c.set(PolicyKind::Operator, &[("max-length", number(1))]);
    c.pass(0);
    assert_eq!(c.drain_bodies("dead"), ["2", "3"]);
    assert_eq!(c.vhost.queue(b"q").unwrap().dead_lettering().unwrap().counts().routed, 2);
    c.clear(PolicyKind::User);
    assert!(c.vhost.queue(b"q").unwrap().dead_lettering().is_none());
    reject(&mut c);
    assert_eq!((c.ready("q"), c.ready("dead"), c.vhost.queue(b"q").unwrap().unsettled()), (0, 0, 0));
    c.set(PolicyKind::User, &to_dead);
    assert_eq!(c.vhost.queue(b"q").unwrap().dead_lettering().unwrap().counts().routed, 2, "counts go on");
}

/// What died while it had somewhere to go, and has not any more, is done with: it is not in the queue for ever.
#[test]
fn letters_on_their_way_are_dropped_with_the_policy_that_sent_them() {
    let mut c = Connection::first();
    c.declare("q", &[(QUORUM.0, text(QUORUM.1))]);
    let letters = [
        ("dead-letter-exchange", text("nowhere")),
        ("dead-letter-strategy", text("at-least-once")),
        ("overflow", text("reject-publish")),
        ("message-ttl", number(10)),
    ];
    c.set(PolicyKind::User, &letters);
    c.put("q", &["1", "2"]);
    c.pass(10);
    assert_eq!((c.ready("q"), c.vhost.queue(b"q").unwrap().unsettled()), (0, 2), "they are tried again");
    c.clear(PolicyKind::User);
    c.pass(100_000);
    assert_eq!((c.ready("q"), c.vhost.queue(b"q").unwrap().unsettled()), (0, 0));
    assert_eq!(c.vhost.next_due_ms(), None);
}

#[test]
fn an_exchange_has_the_alternate_of_its_policy_unless_it_has_its_own() {
    let mut c = Connection::first();
    c.declare("lost", &[]);
    c.declare("own", &[]);
    for (exchange, alternate) in [("q1", None), ("q2", Some("to-own"))] {
        let spec = match alternate {
            Some(alternate) => kit::with_alternate(exchange, "direct", alternate),
            None => kit::exchange(exchange, "direct"),
        };
        c.exchange(spec);
    }
    for exchange in ["to-lost", "to-own"] {
        c.exchange(kit::exchange(exchange, "fanout"));
        let queue = exchange.trim_start_matches("to-").to_owned();
        c.bind(exchange, BindTo::Queue(queue.as_bytes()), "");
    }
    assert_eq!(c.publish("q1", "k", "before"), Published::Unroutable);
    c.set(PolicyKind::User, &[("alternate-exchange", text("to-lost"))]);
    c.exchange(kit::exchange("q3", "direct"));
    for exchange in ["q1", "q2", "q3"] {
        assert_eq!(c.publish(exchange, "k", exchange), Published::Routed);
    }
    assert_eq!(c.drain_bodies("lost"), ["q1", "q3"]);
    assert_eq!(c.drain_bodies("own"), ["q2"]);
    assert_eq!(c.vhost.exchange(b"q1").unwrap().policy().unwrap().name().as_bytes(), b"p");
    c.clear(PolicyKind::User);
    assert_eq!(c.publish("q1", "k", "after"), Published::Unroutable);
    assert!(c.vhost.exchange(b"q1").unwrap().policy().is_none());
}

#[test]
fn a_lower_delivery_limit_holds_for_messages_that_failed_before() {
    let mut c = Connection::first();
    c.declare("dead", &[]);
    let letters = [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("dead"))];
    let [exchange, key] = letters;
    c.declare("q", &[(QUORUM.0, text(QUORUM.1)), exchange, key]);
    c.put("q", &["m"]);
    for _ in 0..3 {
        let (tag, ..) = c.get("q").unwrap();
        c.client.settle(1, tag, false, Settle::Requeue { failed: true }).unwrap();
    }
    c.set(PolicyKind::User, &[("delivery-limit", number(2))]);
    assert_eq!(c.get("q"), None);
    c.pass(0);
    assert_eq!((c.ready("dead"), c.ready("q")), (1, 0));
}

#[test]
fn what_policies_let_go_is_gone_after_a_restart() {
    let disk = Disk::new();
    let mut c = Connection::kept_in(disk.clone(), Vec::new());
    c.declare("q", &[]);
    c.put("q", &["1", "2", "3"]);
    c.set(PolicyKind::User, &[("max-length", number(1))]);
    drop(c);
    let mut c = Connection::kept_in(disk, Vec::new());
    assert_eq!(c.drain_bodies("q"), ["3"]);
}
