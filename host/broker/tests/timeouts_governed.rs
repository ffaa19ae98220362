//! How long deliveries may take changes while they are out: a policy says so, or a transaction is rolled back.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, Every, name, table};
use leveret_broker::{
    ConsumeSpec, QueueSpec, Settle,
    policy::{ApplyTo, Policies, Policy, PolicyKind},
};
use leveret_model::Value;
use std::sync::{Arc, atomic::Ordering};

/// Has a policy for all queues, which says how long deliveries may take; or none.
fn say(c: &Connection, timeout_ms: Option<i64>) {
    let mut policies = Policies::default();
    if let Some(timeout_ms) = timeout_ms {
        let definition = table(&[("consumer-timeout", Value::Integer(timeout_ms))]);
        let (kind, pattern) = (PolicyKind::User, Box::new(Every));
        let policy = Policy::new(kind, name("p"), pattern, (ApplyTo::All, 0.0), definition).unwrap();
        policies.put(kind, Arc::new(policy));
    }
    c.vhost.set_policies(policies, c.router.memory.lock().unwrap().now_ms);
}

/// A connection that says itself that deliveries may take for ever, and a queue `q`.
fn with_queue(kind: &str) -> Connection {
    let mut c = Connection::first();
    let arguments = table(&[("x-queue-type", Value::Text(kind.into()))]);
    c.vhost.declare_queue(QueueSpec { durable: true, arguments, ..kit::queue("q") }, c.id).unwrap();
    c.client.set_consumer_timeout_ms(None);
    c
}

fn consume(c: &mut Connection, tag: &str, own_ms: Option<i64>) {
    let own = own_ms.map(|ms| ("x-consumer-timeout", Value::Integer(ms)));
    let (queue, tag, arguments) = (name("q"), name(tag), table(own.as_slice()));
    c.client.consume(1, ConsumeSpec { queue, tag, arguments, ..ConsumeSpec::default() }).unwrap();
}

/// Lets time pass for the connection. Tags of the deliveries that timed out.
fn pass(c: &mut Connection, milliseconds: u64) -> Vec<u64> {
    let now_ms = {
        let mut memory = c.router.memory.lock().unwrap();
        memory.now_ms += milliseconds;
        memory.now_ms
    };
    c.client.requeue_overdue(now_ms).into_iter().map(|told| told.delivery_tag).collect()
}

fn rings(c: &Connection) -> usize {
    c.bell.rings.load(Ordering::SeqCst)
}

/// What a delivery may have more that came before anybody said how long it may take.
const MINUTE_MS: u64 = 60_000;

#[test]
fn a_policy_counts_for_what_was_delivered_before_it_and_for_what_its_consumers_get() {
    let mut c = with_queue("quorum");
    consume(&mut c, "a", None);
    c.publish("", "q", "1");
    assert_eq!((c.bodies().len(), c.client.overdue_ms()), (1, None));
    assert_eq!(pass(&mut c, 10 * MINUTE_MS), []);
    let before = rings(&c);
    say(&c, Some(12 * MINUTE_MS as i64));
    assert_eq!(rings(&c), before + 1, "nothing else would have it look");
    assert_eq!(c.client.overdue_ms(), Some(0));
    assert_eq!(pass(&mut c, 0), []);
    // It counts from when it was delivered.
    assert_eq!(c.client.overdue_ms(), Some(13 * MINUTE_MS));
    assert_eq!(pass(&mut c, 2 * MINUTE_MS), []);
    say(&c, Some(1600));
    assert_eq!(pass(&mut c, 0), [1], "shorter again");
    c.client.settle(1, 1, false, Settle::Accepted).unwrap();
    assert_eq!(c.bodies(), ["1"]);
    assert_eq!(pass(&mut c, 1600), []);
    assert_eq!(pass(&mut c, 100), [2], "to a consumer that was there before");
    c.client.settle(1, 2, false, Settle::Accepted).unwrap();
    assert_eq!(c.bodies(), ["1"]);
    say(&c, None);
    assert_eq!(pass(&mut c, 100 * MINUTE_MS), [], "nobody says so any more");
    assert_eq!(c.client.overdue_ms(), None);
}

#[test]
fn what_was_got_and_what_a_consumer_left_is_looked_at_too() {
    let mut c = with_queue("quorum");
    consume(&mut c, "gone", None);
    c.publish("", "q", "1");
    assert_eq!(c.bodies(), ["1"]);
    assert!(c.client.cancel(1, b"gone", &mut c.router));
    c.publish("", "q", "2");
    assert!(c.get("q").is_some());
    assert_eq!(pass(&mut c, 5 * MINUTE_MS), []);
    say(&c, Some(4 * MINUTE_MS as i64));
    assert_eq!(pass(&mut c, 0), [1, 2]);
    assert!(c.get("q").is_some());
    assert_eq!(pass(&mut c, 4 * MINUTE_MS), []);
    assert_eq!(pass(&mut c, MINUTE_MS), [3]);
}

#[test]
fn who_says_so_itself_and_who_asks_a_classic_queue_is_not_concerned() {
    for (kind, own_ms, over_ms) in
        [("quorum", Some(0), None), ("classic", None, None), ("quorum", Some(160), Some(170))]
    {
        let mut c = with_queue(kind);
        consume(&mut c, "a", own_ms);
        c.publish("", "q", "1");
        assert_eq!(c.bodies().len(), 1);
        say(&c, Some(32));
        assert_eq!(pass(&mut c, 0), []);
        assert_eq!(c.client.overdue_ms(), over_ms);
        assert_eq!(pass(&mut c, 169), []);
        assert_eq!(pass(&mut c, 1).len(), over_ms.iter().len());
    }
}

#[test]
fn what_a_policy_says_of_other_things_has_nobody_look() {
    let mut c = with_queue("quorum");
    let mut gone = c.sibling();
    let before = (rings(&c), rings(&gone));
    gone.client.close(&mut gone.router);
    say(&c, None);
    assert_eq!((rings(&c), c.client.overdue_ms()), (before.0, None));
    say(&c, Some(1000));
    assert_eq!((rings(&c), rings(&gone)), (before.0 + 1, before.1), "nor has it those who are gone");
    assert_eq!(pass(&mut c, 0), []);
    say(&c, Some(1000));
    assert_eq!((rings(&c), c.client.overdue_ms()), (before.0 + 1, None), "it is as it was");
}

#[test]
fn what_was_acknowledged_in_a_transaction_that_is_rolled_back_times_out() {
    for also_other in [false, true] {
        let mut c = with_queue("quorum");
        c.client.set_consumer_timeout_ms(Some(1600));
        consume(&mut c, "a", None);
        c.publish("", "q", "1");
        assert_eq!(c.bodies(), ["1"]);
        assert_eq!(pass(&mut c, 1000), []);
        c.client.select_transactions(1);
        c.client.settle(1, 1, false, Settle::Accepted).unwrap();
        if also_other {
            c.publish("", "q", "2");
            assert_eq!(c.bodies(), ["2"]);
        }
        assert_eq!(pass(&mut c, 1000), [], "what waits for the commit is not overdue");
        c.client.roll_back(1);
        assert_eq!(pass(&mut c, 0), [1], "it came long ago");
        assert_eq!(pass(&mut c, 700).len(), usize::from(also_other));
        let counts = c.vhost.queue(b"q").unwrap().counts();
        assert_eq!(counts.ready, 1 + u64::from(also_other));
    }
}
