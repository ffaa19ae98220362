//! Deliveries that are not settled in time.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, Random, name, with_dead_letters};
use leveret_broker::{CONSUMER_TIMEOUT_MS, ConsumeSpec, QueueSpec, Settle, TimedOut};
use leveret_model::{Refusal, Table, Value};
use std::collections::{BTreeMap, BTreeSet};

fn quorum(queue: &str, more: &[(&str, Value)]) -> QueueSpec {
    let kind = ("x-queue-type", Value::Text("quorum".into()));
    let arguments: Table =
        [kind].iter().chain(more).map(|(argument, value)| (name(argument), value.clone())).collect();
    QueueSpec { name: name(queue), durable: true, arguments, ..QueueSpec::default() }
}

fn with_queue(more: &[(&str, Value)]) -> Connection {
    let c = Connection::first();
    c.vhost.declare_queue(quorum("q", more), c.id).unwrap();
    c
}

fn consume(c: &mut Connection, tag: &str, timeout_ms: Option<i64>) {
    let timeout = timeout_ms.map(|ms| (name("x-consumer-timeout"), Value::Integer(ms)));
    let arguments = timeout.into_iter().collect();
    let spec = ConsumeSpec { queue: name("q"), tag: name(tag), arguments, ..ConsumeSpec::default() };
    assert_eq!(c.client.consume(1, spec), Ok(name(tag)));
}

/// Lets time pass for the connection. Tags of the deliveries that timed out.
fn pass(c: &mut Connection, milliseconds: u64) -> Vec<u64> {
    c.router.memory.lock().unwrap().now_ms += milliseconds;
    let now_ms = c.router.memory.lock().unwrap().now_ms;
    let told = c.client.requeue_overdue(now_ms);
    told.into_iter().map(|told| told.delivery_tag).collect()
}

/// Tag and body of what is delivered.
fn delivered(c: &mut Connection) -> Vec<(u64, String)> {
    let deliveries = c.deliveries().into_iter();
    deliveries.map(|delivery| (delivery.tag, String::from_utf8(delivery.body).unwrap())).collect()
}

fn ready(c: &Connection) -> u64 {
    c.vhost.queue(b"q").unwrap().status().messages
}

#[test]
fn what_is_not_settled_in_time_is_for_others_and_the_rest_stays() {
    let mut c = with_queue(&[("x-consumer-timeout", Value::Integer(1600))]);
    let mut other = c.sibling();
    consume(&mut c, "slow", None);
    for body in ["1", "2", "3"] {
        c.publish("", "q", body);
    }
    assert_eq!(delivered(&mut c).len(), 3);
    assert_eq!(pass(&mut c, 1000), []);
    c.publish("", "q", "4");
    assert_eq!(delivered(&mut c), [(4, "4".into())]);
    c.client.settle(1, 2, false, Settle::Accepted).unwrap();
    assert_eq!(pass(&mut c, 600), [], "up to a sixteenth more");
    assert_eq!(pass(&mut c, 100), [1, 3]);
    assert_eq!(ready(&c), 2);
    // It has nothing more until it settles those.
    assert_eq!(delivered(&mut c), []);
    consume(&mut other, "quick", None);
    assert_eq!(delivered(&mut other), [(1, "1".into()), (2, "3".into())]);
    other.client.settle(1, 0, true, Settle::Accepted).unwrap();
    c.publish("", "q", "5");
    assert_eq!(delivered(&mut c), []);
    assert_eq!(delivered(&mut other), [(3, "5".into())]);
    // What timed out can be settled, once; that says nothing of the message.
    assert_eq!(c.client.settle(1, 1, false, Settle::Rejected), Ok(()));
    assert_eq!(c.client.settle(1, 1, false, Settle::Accepted), Err(Refusal::UnknownDelivery { tag: 1 }));
    assert_eq!(delivered(&mut c), []);
    assert_eq!(c.client.settle(1, 4, true, Settle::Accepted), Ok(()));
    assert_eq!((ready(&c), c.client.unacknowledged(1)), (0, 0));
    other.client.close_channel(1, &mut other.router);
    assert_eq!(delivered(&mut c), [(5, "5".into())]);
}

#[test]
fn a_single_consumer_goes_on_once_it_has_settled() {
    let mut c = with_queue(&[]);
    consume(&mut c, "a", Some(160));
    c.client.qos(1, 5, true);
    for body in ["1", "2"] {
        c.publish("", "q", body);
    }
    assert_eq!(delivered(&mut c).len(), 2);
    assert_eq!(pass(&mut c, 200), [1, 2]);
    assert_eq!(delivered(&mut c), []);
    c.client.settle(1, 2, true, Settle::Accepted).unwrap();
    // They are delivered again, as any that came back; credit of the channel is as before.
    assert_eq!(delivered(&mut c), [(3, "1".into()), (4, "2".into())]);
    c.client.settle(1, 4, true, Settle::Accepted).unwrap();
    for body in 0..7 {
        c.publish("", "q", &body.to_string());
    }
    assert_eq!(delivered(&mut c).len(), 5);
    c.client.close_channel(1, &mut c.router);
    assert_eq!(ready(&c), 7);
}

#[test]
fn the_consumer_says_how_long_else_the_queue_else_the_broker() {
    let half_hour = CONSUMER_TIMEOUT_MS;
    let over = |timeout_ms: u64| timeout_ms + (timeout_ms / 16).min(60_000);
    for (of_queue, of_consumer, timeout_ms) in [
        (None, None, half_hour),
        (Some(3200), None, 3200),
        (Some(3200), Some(1600), 1600),
        (Some(1600), Some(3200), 3200),
        (None, Some(1600), 1600),
    ] {
        let argument = of_queue.map(|ms| ("x-consumer-timeout", Value::Integer(ms)));
        let mut c = with_queue(argument.as_slice());
        consume(&mut c, "a", of_consumer);
        c.publish("", "q", "1");
        assert_eq!(c.client.overdue_ms(), None);
        assert_eq!(delivered(&mut c).len(), 1);
        assert_eq!(c.client.overdue_ms(), Some(over(timeout_ms)));
        assert_eq!(pass(&mut c, over(timeout_ms) - 1), []);
        assert_eq!(pass(&mut c, 1), [1]);
        assert_eq!(c.client.overdue_ms(), None);
    }
    for (of_queue, of_consumer, of_broker) in
        [(Some(0), None, Some(9)), (None, Some(0), Some(9)), (None, None, None)]
    {
        let argument = of_queue.map(|ms| ("x-consumer-timeout", Value::Integer(ms)));
        let mut c = with_queue(argument.as_slice());
        c.client.set_consumer_timeout_ms(of_broker);
        consume(&mut c, "a", of_consumer);
        c.publish("", "q", "1");
        assert_eq!(delivered(&mut c).len(), 1);
        assert_eq!(c.client.overdue_ms(), None);
    }
    let mut c = with_queue(&[]);
    for (value, why) in [
        (Value::Integer(-1), "{value_negative,-1}"),
        (Value::Text("a".into()), "\"expected integer, got longstr\""),
    ] {
        let arguments = [(name("x-consumer-timeout"), value)].into_iter().collect();
        let spec = ConsumeSpec { queue: name("q"), arguments, ..ConsumeSpec::default() };
        let said = c.client.consume(1, spec).unwrap_err().to_string();
        assert_eq!(said, format!("invalid arg 'x-consumer-timeout' for queue 'q' in vhost '/': {why}"));
    }
}

#[test]
fn classic_queues_have_no_timeout_unless_their_consumer_says_so() {
    let mut c = Connection::first();
    c.queue("q");
    consume(&mut c, "a", None);
    c.publish("", "q", "1");
    assert_eq!(delivered(&mut c).len(), 1);
    assert_eq!(c.client.overdue_ms(), None);
    c.client.cancel(1, b"a", &mut c.router);
    consume(&mut c, "b", Some(1600));
    c.publish("", "q", "2");
    assert_eq!(delivered(&mut c).len(), 1);
    assert_eq!(pass(&mut c, 1700), [2]);
    assert_eq!((ready(&c), c.client.unacknowledged(1)), (1, 2));
}

#[test]
fn of_several_on_a_channel_each_has_its_own_time() {
    let mut c = with_queue(&[]);
    c.vhost.declare_queue(quorum("p", &[]), c.id).unwrap();
    consume(&mut c, "long", Some(160_000));
    let short = [(name("x-consumer-timeout"), Value::Integer(160))].into_iter().collect();
    let spec =
        ConsumeSpec { queue: name("p"), tag: name("short"), arguments: short, ..ConsumeSpec::default() };
    c.client.consume(1, spec).unwrap();
    c.publish("", "q", "long");
    assert_eq!(delivered(&mut c).len(), 1);
    // The times of so many deliveries are not all remembered.
    let rounds = 3_000;
    for round in 0..rounds {
        c.publish("", "p", "short");
        assert_eq!(delivered(&mut c), [(round + 2, "short".into())]);
        c.client.settle(1, round + 2, false, Settle::Accepted).unwrap();
        assert_eq!(pass(&mut c, 11), []);
    }
    c.publish("", "p", "short");
    assert_eq!(delivered(&mut c).len(), 1);
    assert_eq!(pass(&mut c, 160), []);
    assert_eq!(pass(&mut c, 11), [rounds + 2]);
    let passed = rounds * 11 + 171;
    assert_eq!(pass(&mut c, 160_000 - passed - 1), []);
    assert_eq!(pass(&mut c, 10_001), [1]);
}

#[test]
fn the_next_single_active_consumer_takes_over_from_one_that_is_late() {
    for kind in ["classic", "quorum"] {
        let mut c = Connection::first();
        let arguments = [
            (name("x-queue-type"), Value::Text(kind.into())),
            (name("x-single-active-consumer"), Value::Boolean(true)),
        ];
        let arguments = arguments.into_iter().collect();
        c.vhost.declare_queue(QueueSpec { durable: true, arguments, ..kit::queue("q") }, c.id).unwrap();
        let mut other = c.sibling();
        consume(&mut c, "first", Some(160));
        consume(&mut other, "second", Some(160));
        c.client.qos(1, 1, true);
        c.publish("", "q", "1");
        c.publish("", "q", "2");
        assert_eq!(delivered(&mut c), [(1, "1".into())]);
        assert_eq!(delivered(&mut other), []);
        assert_eq!(pass(&mut c, 171), [1]);
        assert_eq!(delivered(&mut c), []);
        assert_eq!(delivered(&mut other), [(1, "1".into()), (2, "2".into())], "{kind}");
        c.client.settle(1, 1, false, Settle::Accepted).unwrap();
        // The first came before it and is late no more, but it is active now.
        c.publish("", "q", "3");
        assert_eq!(delivered(&mut other), [(3, "3".into())], "{kind}");
        other.client.close_channel(1, &mut other.router);
        assert_eq!(delivered(&mut c), [(2, "1".into())], "{kind}");
    }
}

#[test]
fn what_times_out_is_given_back_and_has_not_failed() {
    let mut c = Connection::first();
    c.queue("dead");
    let mut spec = with_dead_letters("q", "", Some("dead"));
    spec.durable = true;
    for (argument, value) in quorum("q", &[("x-delivery-limit", Value::Integer(1))]).arguments.iter() {
        spec.arguments.push(argument.clone(), value.clone());
    }
    c.vhost.declare_queue(spec, c.id).unwrap();
    consume(&mut c, "a", Some(160));
    c.publish("", "q", "slow");
    for tag in 1..=5 {
        assert_eq!(delivered(&mut c), [(tag, "slow".into())]);
        assert_eq!(pass(&mut c, 171), [tag]);
        c.client.settle(1, tag, false, Settle::Accepted).unwrap();
    }
    // Of failures it may have one.
    for tag in 6..=7 {
        assert_eq!(delivered(&mut c), [(tag, "slow".into())]);
        c.client.settle(1, tag, false, Settle::Requeue { failed: true }).unwrap();
    }
    c.pass(0);
    assert_eq!((delivered(&mut c), c.drain_bodies("dead")), (vec![], vec![String::from("slow")]));
}

#[test]
fn what_times_out_waits_as_what_is_given_back() {
    for (retry, ready_at_once) in [("failed", 1), ("returned", 0), ("all", 0)] {
        let more = [
            ("x-delayed-retry-type", Value::Text(retry.into())),
            ("x-delayed-retry-min", Value::Integer(400)),
        ];
        let mut c = with_queue(&more);
        consume(&mut c, "a", Some(160));
        c.publish("", "q", "1");
        assert_eq!(delivered(&mut c).len(), 1);
        assert_eq!(pass(&mut c, 171), [1]);
        assert_eq!(ready(&c), ready_at_once, "{retry}");
        c.pass(0);
        c.pass(400);
        assert_eq!(ready(&c), 1, "{retry}");
    }
}

#[test]
fn what_was_got_and_what_waits_for_a_commit() {
    let mut c = with_queue(&[("x-consumer-timeout", Value::Integer(160))]);
    c.publish("", "q", "1");
    assert_eq!(c.get("q"), Some((1, false, "1".into())));
    c.router.memory.lock().unwrap().now_ms += 171;
    let told = c.client.requeue_overdue(171);
    let (consumer_tag, queue) = (name(""), name("q"));
    assert_eq!(told, [TimedOut { channel: 1, delivery_tag: 1, consumer_tag, queue, timeout_ms: 160 }]);
    assert_eq!(c.get("q"), Some((2, true, "1".into())));
    c.client.select_transactions(1);
    c.client.settle(1, 1, false, Settle::Accepted).unwrap();
    c.client.settle(1, 2, false, Settle::Accepted).unwrap();
    assert_eq!(pass(&mut c, 1000), []);
    c.client.roll_back(1);
    assert_eq!(c.client.unacknowledged(1), 2);
    c.client.settle(1, 2, true, Settle::Accepted).unwrap();
    c.client.commit(1);
    c.client.tell_store();
    assert_eq!((c.client.unacknowledged(1), ready(&c), c.vhost.queue(b"q").unwrap().unsettled()), (0, 0, 0));
}

/// A client of the random test: what it has, and what of that timed out.
struct Worker {
    c: Connection,
    has: BTreeMap<u64, String>,
    late: BTreeSet<u64>,
    prefetch: u16,
}

impl Worker {
    fn start(&mut self, random: &mut Random) {
        self.prefetch = [0, 1, 5][random.below(3) as usize];
        self.c.client.open_channel(1);
        self.c.client.qos(1, self.prefetch, false);
        self.c.client.qos(1, [0, 3][random.below(2) as usize], true);
        consume(&mut self.c, "w", Some([160, 1600][random.below(2) as usize]));
    }

    fn take(&mut self) {
        let had = !self.late.is_empty();
        let new = delivered(&mut self.c);
        assert!(!had || new.is_empty(), "one that is late was given more");
        self.has.extend(new);
        assert!(self.prefetch == 0 || self.has.len() <= usize::from(self.prefetch));
    }

    /// Settles one that it has, or all up to it. Gives the bodies of those that were in time.
    fn settle(&mut self, random: &mut Random, outcome: Settle) -> Vec<String> {
        let Some(tag) = self.has.keys().nth(random.below(self.has.len().max(1) as u64) as usize) else {
            return Vec::new();
        };
        let (tag, multiple) = (*tag, random.below(4) == 0);
        assert_eq!(self.c.client.settle(1, tag, multiple, outcome), Ok(()));
        let first = if multiple { 0 } else { tag };
        let settled: Vec<u64> = self.has.range(first..=tag).map(|(tag, _)| *tag).collect();
        let mut in_time = Vec::new();
        for tag in settled {
            let body = self.has.remove(&tag).unwrap();
            if !self.late.remove(&tag) {
                in_time.push(body);
            }
        }
        in_time
    }

    fn pass(&mut self, now_ms: u64) {
        self.late.extend(self.c.client.requeue_overdue(now_ms).into_iter().map(|told| told.delivery_tag));
    }
}

#[test]
fn whatever_times_out_no_message_is_lost_or_done_twice() {
    for seed in 0..60 {
        let mut random = Random(seed + 1);
        let mut first = Connection::first();
        let kind = if seed % 2 == 0 { "quorum" } else { "classic" };
        let arguments = [
            (name("x-queue-type"), Value::Text(kind.into())),
            (name("x-single-active-consumer"), Value::Boolean(seed % 3 == 0)),
        ];
        let arguments = arguments.into_iter().collect();
        first
            .vhost
            .declare_queue(QueueSpec { durable: true, arguments, ..kit::queue("q") }, first.id)
            .unwrap();
        let mut workers: Vec<Worker> = (0..3)
            .map(|_| Worker { c: first.sibling(), has: BTreeMap::new(), late: BTreeSet::new(), prefetch: 0 })
            .collect();
        workers.iter_mut().for_each(|worker| worker.start(&mut random));
        let (mut done, mut published, mut now_ms) = (BTreeSet::new(), 0, 0);
        for _ in 0..400 {
            let at = random.below(3) as usize;
            match random.below(10) {
                0..3 => {
                    first.publish("", "q", &published.to_string());
                    published += 1;
                }
                3..5 => workers[at].take(),
                5..7 => {
                    for body in workers[at].settle(&mut random, Settle::Accepted) {
                        assert!(done.insert(body), "done twice");
                    }
                }
                7 => drop(workers[at].settle(&mut random, Settle::Requeue { failed: false })),
                8 => {
                    now_ms += [1, 100, 800][random.below(3) as usize];
                    first.router.memory.lock().unwrap().now_ms = now_ms;
                    workers.iter_mut().for_each(|worker| worker.pass(now_ms));
                }
                _ if random.below(4) == 0 => {
                    let worker = &mut workers[at];
                    worker.c.client.close_channel(1, &mut worker.c.router);
                    worker.has.clear();
                    worker.late.clear();
                    worker.start(&mut random);
                }
                _ => {}
            }
        }
        // Whoever is there in the end gets all that is left, once.
        for worker in workers.iter_mut().skip(1) {
            worker.c.client.close_channel(1, &mut worker.c.router);
        }
        let last = &mut workers[0];
        loop {
            last.take();
            if last.has.is_empty() {
                break;
            }
            let all: Vec<u64> = last.has.keys().copied().collect();
            for tag in all {
                last.c.client.settle(1, tag, false, Settle::Accepted).unwrap();
                let body = last.has.remove(&tag).unwrap();
                assert!(last.late.remove(&tag) || done.insert(body), "done twice");
            }
        }
        assert_eq!(done.len(), published, "seed {seed}");
        let counts = first.vhost.queue(b"q").unwrap().counts();
        assert_eq!((counts.ready, counts.unsettled), (0, 0), "seed {seed}");
    }
}
