//! Consumers: whose turn it is, limits, wakes, ends; by the rules of AMQP 0-9-1 as RabbitMQ keeps them.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, Taken, message, name, text};
use leveret_broker::{
    ConsumeSpec, DELIVER_BURST_MESSAGES_MAX, Published, Settle, queue::ASSIGNED_MESSAGES_MAX,
};
use leveret_model::{Refusal, Value};
use std::{collections::HashSet, sync::atomic::Ordering};

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
fn no_ack_messages_are_gone_when_handed_over() {
    let mut c = with(&["1", "2"]);
    c.consume("q", "t", true);
    let tags: Vec<_> = c.deliveries().into_iter().map(|d| d.tag).collect();
    assert_eq!(tags, [1, 2]);
    assert_eq!((c.client.unacknowledged(1), c.vhost.memory().bytes()), (0, 0));
    assert_eq!(c.client.settle(1, 1, false, Settle::Accepted), Err(Refusal::UnknownDelivery { tag: 1 }));
}

#[test]
fn prefetch_is_of_each_new_consumer_or_of_the_channel() {
    let mut c = with(&["1", "2", "3", "4", "5"]);
    c.client.qos(1, 2, false);
    c.consume("q", "t", false);
    assert_eq!(c.bodies(), ["1", "2"]);
    assert!(c.bodies().is_empty());
    c.client.settle(1, 1, false, Settle::Accepted).unwrap();
    assert_eq!(c.bodies(), ["3"]);
    c.client.settle(1, 3, true, Settle::Rejected).unwrap();
    assert_eq!(c.bodies(), ["4", "5"]);

    let mut c = with(&["1", "2", "3"]);
    c.queue("r");
    for body in ["4", "5", "6"] {
        c.publish("", "r", body);
    }
    c.client.qos(1, 2, true);
    c.consume("q", "t", false);
    c.consume("r", "u", false);
    assert_eq!(c.bodies(), ["1", "2"], "both consumers together");
    c.client.settle(1, 2, true, Settle::Accepted).unwrap();
    assert_eq!(c.bodies().len(), 2);
    c.client.qos(1, 3, true);
    assert_eq!(c.bodies().len(), 1);
    c.client.qos(1, 0, true);
    assert_eq!(c.bodies().len(), 1);
    assert_eq!(c.client.unacknowledged(1), 4);
}

#[test]
fn consumers_take_turns_within_their_prefetch() {
    let mut c = with(&[]);
    c.client.qos(1, 2, false);
    c.consume("q", "small", false);
    c.client.qos(1, 0, false);
    c.consume("q", "large", false);
    for i in 0..8 {
        c.publish("", "q", &i.to_string());
    }
    let by = |c: &mut Connection| {
        let mut taken = [Vec::new(), Vec::new()];
        for delivery in c.deliveries() {
            let body = String::from_utf8(delivery.body).unwrap();
            taken[usize::from(delivery.consumer == "large")].push(body);
        }
        taken
    };
    assert_eq!(by(&mut c), [vec!["0", "2"], vec!["1", "3", "4", "5", "6", "7"]]);
    c.client.settle(1, 0, true, Settle::Accepted).unwrap();
    for i in 8..12 {
        c.publish("", "q", &i.to_string());
    }
    let [small, large] = by(&mut c);
    assert_eq!((small.len(), large.len()), (2, 2));
}

#[test]
fn the_higher_priority_goes_first_while_it_has_credit() {
    let mut c = with(&[]);
    c.client.qos(1, 3, false);
    let spec = |tag, priority| ConsumeSpec {
        arguments: [(name("x-priority"), Value::Integer(priority))].into_iter().collect(),
        ..consume("q", tag)
    };
    c.client.consume(1, spec("low", 0)).unwrap();
    c.client.consume(1, spec("high", 10)).unwrap();
    c.client.consume(1, spec("high too", 10)).unwrap();
    for i in 0..8 {
        c.publish("", "q", &i.to_string());
    }
    let deliveries = c.deliveries();
    let of = |tag: &str| -> Vec<String> {
        let own = deliveries.iter().filter(|d| d.consumer == tag);
        own.map(|d| String::from_utf8(d.body.clone()).unwrap()).collect()
    };
    assert_eq!(
        (of("high"), of("high too")),
        (vec!["0".into(), "2".into(), "4".into()], vec!["1".into(), "3".into(), "5".into()])
    );
    assert_eq!(of("low"), ["6", "7"]);
    let text = ConsumeSpec { arguments: text("x-priority", "1"), ..consume("q", "text") };
    assert_eq!(
        c.client.consume(1, text).unwrap_err().to_string(),
        "invalid arg 'x-priority' for queue 'q' in vhost '/': \"expected integer, got longstr\""
    );
}

#[test]
fn prefetch_may_change_for_consumers_that_run() {
    let mut c = with(&["1", "2", "3", "4", "5", "6", "7"]);
    c.client.qos(1, 1, false);
    c.consume("q", "t", false);
    assert_eq!(c.bodies(), ["1"]);
    c.client.qos(1, 2, false);
    assert!(c.bodies().is_empty(), "that is for new ones");
    c.client.qos_of_each(1, 3);
    assert_eq!(c.bodies(), ["2", "3"]);
    let told = |c: &Connection| {
        c.vhost.queue(b"q").unwrap().consumers().iter().map(|(info, _)| info.prefetch).collect::<Vec<_>>()
    };
    assert_eq!(told(&c), [3]);
    // Another one that takes turns with it, and a limit that both are above.
    c.consume("q", "u", false);
    assert_eq!(c.bodies(), ["4", "5", "6"]);
    c.client.qos_of_each(1, 1);
    c.client.settle(1, 2, true, Settle::Accepted).unwrap();
    assert!(c.bodies().is_empty());
    c.client.settle(1, 3, false, Settle::Accepted).unwrap();
    assert_eq!(c.bodies(), ["7"]);
    assert_eq!(told(&c), [1, 1]);
}

#[test]
fn a_consumer_that_leaves_gives_back_what_it_was_assigned() {
    let mut c = with(&[]);
    let mut other = Connection::to(&c.vhost);
    c.consume("q", "a", false);
    other.consume("q", "b", true);
    for i in 0..6 {
        c.publish("", "q", &i.to_string());
    }
    assert_eq!(c.ready("q"), 0, "all assigned");
    assert!(other.client.cancel(1, b"b", &mut other.router));
    assert!(!other.client.cancel(1, b"b", &mut other.router));
    let deliveries: Vec<_> = c.deliveries().into_iter().map(|d| (d.redelivered, d.body)).collect();
    let expected: Vec<_> = (0..6).map(|i| (false, i.to_string().into_bytes())).collect();
    assert_eq!(deliveries, expected, "in order, and not as redelivered");
    assert!(other.bodies().is_empty());
}

#[test]
fn a_full_sink_stops_and_goes_on_where_it_was() {
    let mut c = Connection::first();
    for q in ["q", "r"] {
        c.queue(q);
        c.consume(q, q, false);
    }
    for i in 0..10 {
        c.publish("", "q", &i.to_string());
        c.publish("", "r", &i.to_string());
    }
    let mut seen = HashSet::new();
    let mut last = [0; 2];
    for _ in 0..4 {
        let mut taken = Taken { room: 5, ..Taken::default() };
        let more = c.client.deliver(&mut c.router, &mut taken);
        assert_eq!(taken.deliveries.len(), 5);
        for delivery in taken.deliveries {
            let body: i32 = String::from_utf8(delivery.body).unwrap().parse().unwrap();
            let which = usize::from(delivery.consumer == "r");
            assert!(body == 0 || body == last[which] + 1);
            last[which] = body;
            assert!(seen.insert((delivery.consumer, body)));
        }
        assert!(more || seen.len() == 20);
    }
    assert_eq!(seen.len(), 20);
    assert!(c.bodies().is_empty());
    let mut full = Taken { room: 0, ..Taken::default() };
    assert!(!c.client.deliver(&mut c.router, &mut full), "nothing to deliver");
    c.publish("", "q", "x");
    assert!(c.client.deliver(&mut c.router, &mut full));
    assert!(c.client.deliver(&mut c.router, &mut full));
    assert_eq!(c.bodies(), ["x"]);
}

#[test]
fn many_messages_wake_once() {
    let mut c = with(&[]);
    let mut other = Connection::to(&c.vhost);
    for tag in ["a", "b"] {
        other.consume("q", tag, false);
    }
    for i in 0..100 {
        c.publish("", "q", &i.to_string());
    }
    assert_eq!(other.bell.rings.load(Ordering::SeqCst), 1);
    assert_eq!(other.deliveries().len(), 100);
    c.publish("", "q", "more");
    assert_eq!(other.bell.rings.load(Ordering::SeqCst), 2);
}

#[test]
fn exclusive_consumers_admit_no_other() {
    let mut c = with(&["1"]);
    c.client.consume(1, ConsumeSpec { exclusive: true, ..consume("q", "t") }).unwrap();
    let refused = c.client.consume(2, consume("q", "u")).unwrap_err();
    assert_eq!(refused.to_string(), "queue 'q' in vhost '/' in exclusive use");
    c.publish("", "q", "2");
    assert_eq!(c.get("q"), None, "basic.get is allowed beside it, but what the consumer can take is its");
    c.client.cancel(1, b"t", &mut c.router);
    c.client.consume(2, consume("q", "u")).unwrap();
    let exclusive = ConsumeSpec { exclusive: true, ..consume("q", "t") };
    assert!(matches!(c.client.consume(1, exclusive), Err(Refusal::ExclusiveUse { .. })));
}

#[test]
fn consumer_tags_are_of_a_channel_and_used_once() {
    let mut c = with(&[]);
    c.consume("q", "t", false);
    let refused = c.client.consume(1, consume("q", "t")).unwrap_err();
    assert_eq!(refused.to_string(), "attempt to reuse consumer tag 't'");
    assert!(c.client.consume(2, consume("q", "t")).is_ok());
    let made = c.client.consume(1, consume("q", "")).unwrap();
    assert!(made.starts_with(b"amq.ctag-"));
    assert!(matches!(c.client.consume(1, consume("nobody", "")), Err(Refusal::NotFound { .. })));
    let in_use = c.vhost.delete_queue(&mut c.router, b"q", true, false, c.id).unwrap_err();
    assert_eq!(in_use.to_string(), "queue 'q' in vhost '/' in use");
}

#[test]
fn consumers_of_a_deleted_queue_are_cancelled() {
    let mut c = with(&["1"]);
    let mut other = Connection::to(&c.vhost);
    other.consume("q", "t", false);
    other.client.consume(2, consume("q", "u")).unwrap();
    let before = other.deliveries();
    assert_eq!(before.len(), 1);
    c.vhost.delete_queue(&mut c.router, b"q", false, false, c.id).unwrap();
    assert_eq!(other.bell.rings.load(Ordering::SeqCst), 2);
    assert!(other.bodies().is_empty());
    let mut cancelled = other.client.take_cancelled();
    cancelled.sort();
    assert_eq!(cancelled, [(1, name("t")), (2, name("u"))]);
    assert!(other.client.take_cancelled().is_empty());
    assert!(!other.client.cancel(1, b"t", &mut other.router));
    assert_eq!(other.client.settle(before[0].channel, 1, false, Settle::Accepted), Ok(()));
    c.queue("q");
    other.consume("q", "t", false);
    c.publish("", "q", "2");
    assert_eq!(other.bodies(), ["2"]);
}

#[test]
fn a_connection_that_does_not_read_keeps_few_messages_from_the_others() {
    let mut c = with(&[]);
    let mut idle = Connection::to(&c.vhost);
    idle.consume("q", "idle", true);
    c.consume("q", "busy", true);
    let bodies: Vec<_> = (0..5000_u32).map(u32::to_le_bytes).collect();
    let messages: Vec<_> = bodies.iter().map(|body| message("", "q", body)).collect();
    c.publish_all(&messages);
    assert_eq!(c.deliveries().len(), 5000 - ASSIGNED_MESSAGES_MAX);
    assert_eq!(idle.deliveries().len(), ASSIGNED_MESSAGES_MAX);
}

#[test]
fn consumers_of_a_connection_take_turns_in_bursts() {
    let mut c = with(&[]);
    c.queue("r");
    for queue in ["q", "r"] {
        c.consume(queue, queue, false);
        let messages = vec![message("", queue, b"1"); 300];
        c.publish_all(&messages);
    }
    let deliveries = c.deliveries();
    let burst = DELIVER_BURST_MESSAGES_MAX as usize;
    let change = |from: usize| (from..600).find(|i| deliveries[*i].consumer != deliveries[from].consumer);
    assert_eq!(change(0), Some(burst));
    assert_eq!(change(burst), Some(2 * burst));
    assert_eq!(deliveries.len(), 600);
}
