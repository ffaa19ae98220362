//! Queues, consumers and acknowledgements, by the rules of AMQP 0-9-1 as RabbitMQ keeps them.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Ageing as _, Connection, name, queue, text};
use leveret_broker::{BindTo, ConsumeSpec, ExchangeSpec, Published, QueueSpec, Settle};
use leveret_model::{Refusal, Table, Value, refusal::Resource};

fn with(published: &[&str]) -> Connection {
    let mut c = Connection::first();
    c.queue("q");
    for body in published {
        assert_eq!(c.publish("", "q", body), Published::Routed);
    }
    c
}

fn consume(queue: &str, tag: &str) -> ConsumeSpec {
    ConsumeSpec { queue: name(queue), tag: name(tag), ..ConsumeSpec::default() }
}

#[test]
fn redeclaring_a_queue_says_what_differs() {
    let c = Connection::first();
    let spec = QueueSpec {
        durable: true,
        arguments: [(name("x-max-length"), Value::Integer(5)), (name("foo"), Value::Integer(1))]
            .into_iter()
            .collect(),
        ..queue("q")
    };
    c.vhost.declare_queue(spec.clone(), c.id).unwrap();
    let declare = |arguments: Table| {
        c.vhost.declare_queue(QueueSpec { arguments, ..spec.clone() }, c.id).unwrap_err().to_string()
    };
    let base = "for queue 'q' in vhost '/'";
    assert_eq!(
        declare([(name("x-max-length"), Value::Integer(6))].into_iter().collect()),
        format!("inequivalent arg 'x-max-length' {base}: received '6' but current is '5'")
    );
    assert_eq!(
        declare(text("x-max-length", "5")),
        format!("inequivalent arg 'x-max-length' {base}: received '5' but current is '5'")
    );
    assert_eq!(
        declare(Table::new()),
        format!(
            "inequivalent arg 'x-max-length' {base}: received none but current is the value '5' of type 'signedint'"
        )
    );
    let mut arguments = spec.arguments.clone();
    arguments.push(name("x-queue-type"), Value::Text(String::from("classic")));
    let same = QueueSpec { arguments: arguments.clone(), ..spec.clone() };
    assert!(c.vhost.declare_queue(same, c.id).is_ok(), "the type of a queue that names none");
    arguments.push(name("x-overflow"), Value::Text(String::from("drop-head")));
    assert_eq!(
        declare(arguments),
        format!(
            "inequivalent arg 'x-overflow' {base}: received the value 'drop-head' of type 'longstr' but current is \
             none"
        )
    );
}

#[test]
fn redeclaring_a_queue_compares_its_flags() {
    let c = Connection::first();
    let base = "for queue 'q' in vhost '/'";
    let spec = QueueSpec { durable: true, ..queue("q") };
    c.vhost.declare_queue(spec.clone(), c.id).unwrap();
    let other = QueueSpec { durable: false, ..spec.clone() };
    assert_eq!(
        c.vhost.declare_queue(other, c.id).unwrap_err().to_string(),
        format!("inequivalent arg 'durable' {base}: received 'false' but current is 'true'")
    );
    let exclusive = QueueSpec { exclusive: true, ..spec };
    assert!(matches!(c.vhost.declare_queue(exclusive, c.id), Err(Refusal::Locked { .. })));
}

#[test]
fn names_are_made_reserved_and_looked_up() {
    let c = Connection::first();
    let made = c.vhost.declare_queue(QueueSpec::default(), c.id).unwrap().name;
    assert!(made.starts_with(b"amq.gen-"));
    let again = QueueSpec { name: made.clone(), ..QueueSpec::default() };
    let reserved = Refusal::ReservedName { resource: Resource::Queue, name: made.clone() };
    assert_eq!(c.vhost.declare_queue(again, c.id), Err(reserved), "it is used by its name, not declared");
    assert_eq!(c.vhost.check_queue(&made, c.id).unwrap().name, made);
    let reserved = Refusal::ReservedName { resource: Resource::Queue, name: name("amq.mine") };
    assert_eq!(c.vhost.declare_queue(queue("amq.mine"), c.id), Err(reserved));
    let missing = c.vhost.check_queue(b"nobody", c.id).unwrap_err();
    assert_eq!(missing.to_string(), "no queue 'nobody' in vhost '/'");
}

#[test]
fn counts_are_of_ready_messages_only() {
    let mut c = with(&["1", "2", "3"]);
    assert!(c.get("q").is_some());
    assert_eq!(c.vhost.check_queue(b"q", c.id).unwrap().messages, 2);
    assert_eq!(c.vhost.purge_queue(b"q", c.id), Ok(2));
    assert!(c.get("q").is_none());
    c.client.settle(1, 1, false, Settle::Requeue { failed: false }).unwrap();
    let not_empty = c.vhost.delete_queue(&mut c.router, b"q", false, true, c.id).unwrap_err();
    assert_eq!(not_empty.to_string(), "queue 'q' in vhost '/' not empty");
    assert_eq!(c.vhost.delete_queue(&mut c.router, b"q", false, false, c.id), Ok(1));
    assert_eq!(c.vhost.memory().bytes(), 0);
}

#[test]
fn the_middle_one_of_three_goes_back_to_its_place() {
    let mut c = with(&["1", "2", "3", "4"]);
    for tag in 1..=3 {
        assert_eq!(c.get("q"), Some((tag, false, tag.to_string())));
    }
    c.client.settle(1, 2, false, Settle::Requeue { failed: false }).unwrap();
    assert_eq!(c.get("q"), Some((4, true, String::from("2"))));
    assert_eq!(c.get("q"), Some((5, false, String::from("4"))));
    c.client.settle(1, 1, false, Settle::Requeue { failed: false }).unwrap();
    c.client.settle(1, 3, false, Settle::Requeue { failed: false }).unwrap();
    c.client.settle(1, 4, false, Settle::Requeue { failed: false }).unwrap();
    let bodies: Vec<_> = (0..3).map(|_| c.get("q").unwrap().2).collect();
    assert_eq!(bodies, ["1", "2", "3"]);
}

#[test]
fn closing_a_channel_requeues_in_order_as_redelivered() {
    let mut c = with(&["1", "2", "3"]);
    c.consume("q", "t", false);
    assert_eq!(c.bodies(), ["1", "2", "3"]);
    c.client.settle(1, 2, false, Settle::Accepted).unwrap();
    c.publish("", "q", "4");
    c.client.close_channel(1, &mut c.router);
    assert_eq!(c.vhost.check_queue(b"q", c.id).unwrap().consumers, 0);
    c.client.open_channel(1);
    assert_eq!(c.get("q"), Some((1, true, String::from("1"))));
    assert_eq!(c.get("q"), Some((2, true, String::from("3"))));
    assert_eq!(c.get("q"), Some((3, false, String::from("4"))));
}

#[test]
fn a_dropped_connection_loses_nothing_but_its_exclusive_queues() {
    let mut c = with(&["1", "2"]);
    let mut other = Connection::to(&c.vhost);
    other
        .vhost
        .declare_queue(QueueSpec { exclusive: true, durable: true, ..queue("own") }, other.id)
        .unwrap();
    other.exchange(ExchangeSpec { auto_delete: true, ..kit::exchange("x", "fanout") });
    other.bind("x", BindTo::Queue(b"own"), "");
    other.consume("q", "t", false);
    assert_eq!(other.bodies(), ["1", "2"]);
    drop(other);
    assert!(c.vhost.queue(b"own").is_none() && c.vhost.exchange(b"x").is_none());
    assert_eq!(c.get("q"), Some((1, true, String::from("1"))));
    assert!(c.router.closed.is_empty());
    c.exchange(kit::exchange("y", "fanout"));
    assert_eq!(c.router.closed, [name("x")], "told with the next change");
}

#[test]
fn unknown_tags_are_refused_and_zero_means_all() {
    let mut c = with(&["1", "2", "3"]);
    let unknown = |tag| Err(Refusal::UnknownDelivery { tag });
    assert_eq!(c.client.settle(1, 0, true, Settle::Accepted), Ok(()), "none at all");
    assert_eq!(c.client.settle(1, 1, false, Settle::Accepted), unknown(1));
    assert_eq!(c.client.settle(1, 0, false, Settle::Accepted), unknown(0));
    for _ in 0..3 {
        c.get("q").unwrap();
    }
    c.client.settle(1, 2, false, Settle::Accepted).unwrap();
    assert_eq!(c.client.settle(1, 2, false, Settle::Accepted), unknown(2));
    assert_eq!(c.client.settle(1, 2, true, Settle::Accepted), unknown(2));
    assert_eq!(c.client.settle(1, 4, true, Settle::Accepted), unknown(4));
    assert_eq!(c.client.unacknowledged(1), 2, "a refusal settles nothing");
    assert_eq!(c.client.settle(2, 1, false, Settle::Accepted), unknown(1), "tags are of a channel");
    c.client.settle(1, 0, true, Settle::Accepted).unwrap();
    assert_eq!((c.client.unacknowledged(1), c.vhost.memory().bytes()), (0, 0));
}

#[test]
fn recover_brings_all_back() {
    let mut c = with(&["1", "2"]);
    c.consume("q", "t", false);
    assert_eq!(c.bodies(), ["1", "2"]);
    c.client.recover(1);
    let again: Vec<_> = c.deliveries().into_iter().map(|d| (d.tag, d.redelivered, d.body)).collect();
    assert_eq!(again, [(3, true, b"1".to_vec()), (4, true, b"2".to_vec())]);
}

#[test]
fn an_exclusive_queue_is_of_one_connection() {
    let mut c = Connection::first();
    let mut other = Connection::to(&c.vhost);
    let spec = QueueSpec { exclusive: true, durable: true, ..queue("q") };
    c.vhost.declare_queue(spec.clone(), c.id).unwrap();
    assert!(c.vhost.queue(b"q").unwrap().spec().durable, "it is told as it was declared");
    assert!(c.vhost.declare_queue(spec.clone(), c.id).is_ok());
    let id = other.id;
    assert!(matches!(c.vhost.declare_queue(queue("q"), c.id), Err(Refusal::Locked { .. })));
    assert!(matches!(c.vhost.declare_queue(spec, id), Err(Refusal::Locked { .. })));
    assert!(matches!(c.vhost.check_queue(b"q", id), Err(Refusal::Locked { .. })));
    assert!(matches!(c.vhost.purge_queue(b"q", id), Err(Refusal::Locked { .. })));
    let deleted = other.vhost.delete_queue(&mut other.router, b"q", false, false, id);
    assert!(matches!(deleted, Err(Refusal::Locked { .. })));
    assert!(matches!(other.client.consume(1, consume("q", "")), Err(Refusal::Locked { .. })));
    assert!(matches!(
        other.client.get(1, b"q", true, &mut other.router, &mut |_| ()),
        Err(Refusal::Locked { .. })
    ));
    c.client.close(&mut c.router);
    assert!(matches!(c.vhost.check_queue(b"q", id), Err(Refusal::NotFound { .. })));
    assert!(c.vhost.declare_queue(queue("q"), id).is_ok());
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer() {
    let mut c = Connection::first();
    let spec = QueueSpec { auto_delete: true, ..queue("q") };
    let declare = |c: &mut Connection| {
        c.vhost.declare_queue(spec.clone(), c.id).unwrap();
        c.bind("amq.fanout", BindTo::Queue(b"q"), "");
    };
    declare(&mut c);
    assert!(c.get("q").is_none());
    assert!(c.vhost.queue(b"q").is_some(), "never consumed");
    for tag in ["a", "b"] {
        c.consume("q", tag, false);
    }
    c.publish("", "q", "1");
    assert_eq!(c.bodies(), ["1"]);
    c.client.cancel(1, b"a", &mut c.router);
    assert!(c.vhost.queue(b"q").is_some());
    c.client.cancel(1, b"b", &mut c.router);
    assert!(c.vhost.queue(b"q").is_none());
    assert_eq!(c.vhost.exchange(b"amq.fanout").unwrap().binding_count(), 0);
    assert_eq!(
        c.client.settle(1, 1, false, Settle::Requeue { failed: false }),
        Ok(()),
        "what it delivered can still be settled"
    );
    assert!(c.client.take_cancelled().is_empty());

    declare(&mut c);
    c.consume("q", "a", false);
    c.client.close_channel(1, &mut c.router);
    assert!(c.vhost.queue(b"q").is_none());
    assert_eq!(c.vhost.memory().bytes(), 0);
}

#[test]
fn the_account_follows_what_is_queued() {
    let mut c = with(&[]);
    let body = "x".repeat(1000);
    for _ in 0..1000 {
        c.publish("", "q", &body);
    }
    let full = c.vhost.memory().bytes();
    assert!((1_000_000..1_100_000).contains(&full), "{full}");
    c.consume("q", "t", false);
    assert_eq!(c.deliveries().len(), 1000);
    assert_eq!(c.vhost.memory().bytes(), full, "unacknowledged ones are still held");
    for tag in 1..=1000 {
        c.client.settle(1, tag, false, Settle::Accepted).unwrap();
        c.client.tell_store();
        let held = (1000 - tag) * full / 1000;
        let charged = c.vhost.memory().bytes();
        let lag = held.min(leveret_broker::queue::RELEASE_BYTES_MAX as u64);
        assert!(charged >= held && charged <= held + lag + 1100, "{tag}: {charged} for {held}");
    }
    assert_eq!(c.vhost.memory().bytes(), 0);
}

#[test]
fn bodies_around_the_limit_for_slabs_arrive_whole() {
    use leveret_broker::queue::LARGE_BODY_BYTES;
    let mut c = with(&[]);
    for length in [0, LARGE_BODY_BYTES - 1, LARGE_BODY_BYTES, LARGE_BODY_BYTES + 1, 3 << 20] {
        let body = "b".repeat(length);
        c.publish("", "q", &body);
        assert!(c.get("q").unwrap().2 == body);
        c.client.recover(1);
        let (tag, redelivered, again) = c.get("q").unwrap();
        assert!(redelivered && again == body);
        c.client.settle(1, tag, false, Settle::Accepted).unwrap();
    }
    c.client.tell_store();
    assert_eq!(c.vhost.memory().bytes(), 0);
}

#[test]
fn publishers_learn_when_the_account_falls_below_its_watermark() {
    let memory = std::sync::Arc::new(leveret_broker::MemoryAccount::new(1000));
    let vhost = leveret_broker::Vhost::new(name("/"), memory.clone(), &mut kit::Native::default()).unwrap();
    let mut c = Connection::to(&vhost);
    c.queue("q");
    c.publish("", "q", &"x".repeat(2000));
    assert!(memory.over_watermark());
    let waker: std::sync::Arc<dyn leveret_broker::port::Wake> = c.bell.clone();
    assert!(memory.wake_when_below(&waker));
    c.vhost.purge_queue(b"q", c.id).unwrap();
    c.bell.wait();
    assert!(!memory.over_watermark());
}

/// Publishers are asked to go slower only where there are consumers and they are behind.
#[test]
fn publishers_hear_of_consumers_that_are_behind() {
    let body = "x".repeat(16 * 1024);
    let enough = leveret_broker::queue::BEHIND_BYTES / body.len() + 1;
    let mut c = with(&[]);
    for _ in 0..enough {
        assert_eq!(c.publish("", "q", &body), Published::Routed);
        assert!(!c.publisher.is_behind(), "nobody consumes");
    }
    c.consume("q", "tag", true);
    c.publish("", "q", &body);
    assert!(c.publisher.is_behind());
    while !c.deliveries().is_empty() {}
    c.publish("", "q", &body);
    assert!(!c.publisher.is_behind(), "the consumer has caught up");
}

/// As RabbitMQ, which looks at what comes next before it answers.
#[test]
fn what_is_expired_behind_the_message_that_is_got_is_not_left() {
    let mut c = Connection::first();
    c.queue("q");
    for (body, expiration) in
        [("1", None), ("2", Some("50")), ("3", Some("50")), ("4", None), ("5", Some("50"))]
    {
        c.put("q", body, None, expiration);
    }
    c.pass(100);
    let mut left = Vec::new();
    for _ in 0..2 {
        c.client.get(1, b"q", true, &mut c.router, &mut |got| left.push(got.messages_left)).unwrap();
    }
    assert_eq!(left, [2, 0], "the one behind the next is not looked at yet");
    assert_eq!(c.vhost.memory().bytes(), 0);
}
