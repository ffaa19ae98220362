//! Policies: what they say holds for queues and exchanges that are there, for those that come, and no longer than they are.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, Disk, PERSISTENT, Random, letters, message, name, number, quorum, string, table};
use leveret_broker::{
    BindTo, Published, QueueSpec, Settle,
    policy::{ApplyTo, NamePattern, Policy, PolicyKind},
    port::Router as _,
    queue::{DeliveryLimit, Overflow},
};
use leveret_model::{MessageView, Value};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

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

#[test]
fn a_length_holds_at_once_for_what_is_there_and_for_what_is_declared_later() {
    for arguments in [&[][..], &[quorum()]] {
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
    let definition = [("max-length", number(2)), ("overflow", string("reject-publish"))];
    c.set(PolicyKind::User, &definition);
    c.declare("q1", &[("x-max-length", number(5)), ("x-overflow", string("drop-head"))]);
    c.put("q1", &["1", "2", "3"]);
    assert_eq!(c.drain_bodies("q1"), ["2", "3"]);
    c.declare("q2", &[("x-max-length", number(1))]);
    assert!(matches!(c.put("q2", &["1", "2"])[..], [Published::Routed, Published::Full(_)]));
    c.declare("q3", &[quorum(), ("x-overflow", string("drop-head"))]);
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
    // The housekeeper counts them.
    c.pass(0);
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
    let to_dead = [("dead-letter-exchange", string("")), ("dead-letter-routing-key", string("dead"))];
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
    c.declare("q", &[quorum()]);
    let letters = [
        ("dead-letter-exchange", string("nowhere")),
        ("dead-letter-strategy", string("at-least-once")),
        ("overflow", string("reject-publish")),
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
    c.set(PolicyKind::User, &[("alternate-exchange", string("to-lost"))]);
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
    let [exchange, key] = letters();
    c.declare("q", &[quorum(), exchange, key]);
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
fn what_comes_back_waits_if_a_policy_says_so() {
    let mut c = Connection::first();
    c.declare("q", &[quorum(), ("x-delayed-retry-type", string("disabled"))]);
    c.put("q", &["m"]);
    let fail = |c: &mut Connection| {
        let (tag, ..) = c.get("q").unwrap();
        c.client.settle(1, tag, false, Settle::Requeue { failed: true }).unwrap();
        c.pass(0);
    };
    fail(&mut c);
    let retry = [("delayed-retry-type", string("all")), ("delayed-retry-min", number(100))];
    c.set(PolicyKind::User, &retry);
    fail(&mut c);
    c.pass(99);
    assert_eq!(c.ready("q"), 0);
    c.pass(1);
    assert_eq!(c.ready("q"), 1);
    c.clear(PolicyKind::User);
    fail(&mut c);
    assert_eq!(c.ready("q"), 1);
    c.set(PolicyKind::User, &[("consumer-timeout", number(5000))]);
    assert_eq!(c.vhost.queue(b"q").unwrap().settings().consumer_timeout_ms, Some(5000));
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

#[test]
fn after_a_restart_a_time_to_live_counts_from_when_a_message_came() {
    let disk = Disk::new();
    let mut c = Connection::kept_in(disk.clone(), Vec::new());
    c.pass(1000);
    c.declare("q", &[]);
    c.put("q", &["1"]);
    c.pass(500);
    c.put("q", &["2"]);
    let now_ms = c.router.now_ms();
    drop(c);
    let mut c = Connection::kept_in(disk, Vec::new());
    c.router.memory.lock().unwrap().now_ms = now_ms;
    c.set(PolicyKind::User, &[("message-ttl", number(600))]);
    c.pass(99);
    assert_eq!(c.ready("q"), 2);
    c.pass(1);
    assert_eq!(c.ready("q"), 1, "it came 600 ms ago");
    c.pass(500);
    assert_eq!((c.ready("q"), c.vhost.next_due_ms()), (0, None));
}

/// Of many policies one that changes concerns its own queues, and those that had it before.
#[test]
fn a_policy_that_changes_its_pattern_leaves_some_and_finds_others() {
    let mut c = Connection::first();
    for queue in ["qa", "qb", "other"] {
        c.declare(queue, &[]);
    }
    let length = |c: &Connection, queue: &[u8]| c.vhost.queue(queue).unwrap().settings().max_length;
    let set = |c: &mut Connection, policy: &str, pattern: &str, priority: f64, most: i64| {
        let pattern = Box::new(Begins(pattern.into()));
        let definition = table(&[("max-length", number(most))]);
        let (kind, apply_to) = (PolicyKind::User, (ApplyTo::Queues, priority));
        let mut all = (*c.vhost.policies()).clone();
        all.put(kind, Arc::new(Policy::new(kind, name(policy), pattern, apply_to, definition).unwrap()));
        c.vhost.set_policies(all, c.router.now_ms());
    };
    set(&mut c, "wide", "q", 0.0, 1);
    set(&mut c, "narrow", "qa", 1.0, 2);
    assert_eq!([b"qa".as_slice(), b"qb", b"other"].map(|queue| length(&c, queue)), [Some(2), Some(1), None]);
    set(&mut c, "narrow", "qb", 1.0, 3);
    assert_eq!([b"qa".as_slice(), b"qb", b"other"].map(|queue| length(&c, queue)), [Some(1), Some(3), None]);
    set(&mut c, "wide", "o", 0.0, 4);
    assert_eq!([b"qa".as_slice(), b"qb", b"other"].map(|queue| length(&c, queue)), [None, Some(3), Some(4)]);
    set(&mut c, "narrow", "nothing", 1.0, 3);
    assert_eq!([b"qa".as_slice(), b"qb", b"other"].map(|queue| length(&c, queue)), [None, None, Some(4)]);
}

/// A queue as it should be: what is ready by number, and what the policy allows.
#[derive(Default)]
struct Model {
    ready: BTreeMap<u64, String>,
    length_max: Option<usize>,
    bytes_max: Option<usize>,
}

impl Model {
    fn shorten(&mut self) {
        let is_long = |model: &Self| {
            let bytes: usize = model.ready.values().map(String::len).sum();
            model.length_max.is_some_and(|most| model.ready.len() > most)
                || model.bytes_max.is_some_and(|most| bytes > most)
        };
        while is_long(self) && self.ready.pop_first().is_some() {}
    }
}

#[test]
fn limits_that_come_and_go_count_what_is_there() {
    for seed in 1..=40 {
        let (disk, mut random) = (Disk::new(), Random(seed));
        let mut c = Connection::kept_in(disk.clone(), Vec::new());
        c.declare("q", &[]);
        let (mut model, mut taken, mut next) = (Model::default(), BTreeMap::new(), 0);
        for _ in 0..300 {
            match random.below(10) {
                0..=4 => {
                    let body = format!("{next:03}{}", "x".repeat(random.below(20) as usize));
                    c.put("q", &[&body]);
                    model.ready.insert(next, body);
                    next += 1;
                }
                5 | 6 => {
                    let got = c.get("q").map(|(tag, _, body)| (tag, body));
                    let first = model.ready.pop_first();
                    assert_eq!(got.as_ref().map(|(_, body)| body), first.as_ref().map(|(_, body)| body));
                    taken.extend(got.zip(first).map(|((tag, _), (number, body))| (tag, (number, body))));
                }
                7 => {
                    if let Some((tag, (number, body))) = taken.pop_first() {
                        c.client.settle(1, tag, false, Settle::Requeue { failed: false }).unwrap();
                        model.ready.insert(number, body);
                    }
                }
                8 if model.length_max.is_some() || model.bytes_max.is_some() => {
                    c.clear(PolicyKind::User);
                    (model.length_max, model.bytes_max) = (None, None);
                }
                _ => {
                    let (kind, most) = (random.below(2), random.below(200));
                    let (key, most) =
                        if kind == 0 { ("max-length", most / 10) } else { ("max-length-bytes", most) };
                    c.set(PolicyKind::User, &[(key, number(most as i64))]);
                    (model.length_max, model.bytes_max) = match kind {
                        0 => (Some(most as usize), None),
                        _ => (None, Some(most as usize)),
                    };
                }
            }
            model.shorten();
            assert_eq!(c.ready("q"), model.ready.len() as u64, "seed {seed}");
        }
        if seed % 2 == 0 {
            drop(c);
            taken.values().for_each(|(number, body)| _ = model.ready.insert(*number, body.clone()));
            // They came back when their connection went, and the policy still held.
            model.shorten();
            c = Connection::kept_in(disk, Vec::new());
        }
        let left: Vec<String> = model.ready.into_values().collect();
        assert_eq!(c.drain_bodies("q"), left, "seed {seed}");
    }
}

#[test]
fn policies_change_under_those_who_publish_and_consume() {
    let c = Connection::first();
    let stop = AtomicBool::new(false);
    c.vhost.declare_queue(kit::queue("dead"), c.id).unwrap();
    c.vhost.declare_queue(kit::queue("q"), c.id).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut c = Connection::to(&c.vhost);
                while !stop.load(Ordering::Relaxed) {
                    c.put("q", &["1", "22", "333"]);
                    if let Some((tag, ..)) = c.get("q") {
                        c.client.settle(1, tag, false, Settle::Rejected).unwrap();
                        c.client.dead_letter(&mut c.router);
                    }
                }
            });
        }
        let mut c = Connection::to(&c.vhost);
        let letters = [("dead-letter-exchange", string("")), ("dead-letter-routing-key", string("dead"))];
        let all: [&[(&str, Value)]; 5] = [
            &[("max-length", number(5))],
            &[("max-length-bytes", number(50)), letters[0].clone(), letters[1].clone()],
            &[("message-ttl", number(0)), letters[0].clone(), letters[1].clone()],
            &[("max-length", number(3)), ("overflow", string("reject-publish"))],
            &[("expires", number(1_000_000))],
        ];
        for round in 0..500 {
            c.set(PolicyKind::User, all[round % all.len()]);
            c.set(PolicyKind::Operator, &[("max-length", number((round % 7) as i64))]);
            // Others go on meanwhile: there may be more to do for ever.
            c.run();
            c.clear(PolicyKind::User);
            c.clear(PolicyKind::Operator);
        }
        stop.store(true, Ordering::Relaxed);
    });
    let mut c = Connection::to(&c.vhost);
    c.pass(0);
    for queue in ["q", "dead"] {
        c.drain_bodies(queue);
        let queue = c.vhost.queue(queue.as_bytes()).unwrap();
        assert_eq!((queue.counts().ready, queue.unsettled()), (0, 0), "{queue:?}");
    }
    assert_eq!(c.vhost.memory().bytes(), 0);
}
