//! What queues do as their arguments say: time to live, length, priorities, a single active consumer, delivery limits.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Ageing as _, Connection, Disk, Random, letters, name, number, quorum, string, table};

use leveret_broker::{ConsumeSpec, Published, Settle, port::Router as _};
use leveret_model::{Refusal, Value};
use std::collections::VecDeque;

#[test]
fn what_is_too_old_goes_when_it_comes_to_the_head() {
    let mut c = Connection::first();
    c.declare("q", &[("x-message-ttl", number(1000))]);
    c.put("q", "long", None, None);
    c.put("q", "short", None, Some("10"));
    c.pass(500);
    assert_eq!(c.ready("q"), 2, "the short one is behind the long one");
    c.put("q", "later", None, None);
    c.pass(500);
    assert_eq!(c.ready("q"), 1, "both at once");
    c.pass(499);
    assert_eq!(c.ready("q"), 1);
    c.pass(1);
    assert_eq!((c.ready("q"), c.vhost.next_due_ms()), (0, None), "and nothing is left to be done");
}

#[test]
fn the_smaller_time_counts_and_none_is_delivered_too_late() {
    let mut c = Connection::first();
    c.declare("q", &[("x-message-ttl", number(100))]);
    c.put("q", "own", None, Some("50"));
    c.put("q", "long", None, Some("100000"));
    // Nobody did the house: whoever gets is told the truth still.
    c.router.memory.lock().unwrap().now_ms += 60;
    assert_eq!(c.get("q").map(|(.., body)| body).as_deref(), Some("long"));
    c.requeue(1, false);
    c.pass(40);
    assert_eq!(c.ready("q"), 0, "what comes back may expire");
    assert!(matches!(
        c.put("q", "x", None, Some("soon")),
        Published::Refused(Refusal::InvalidArgument { .. })
    ));
}

#[test]
fn without_any_time_to_live_a_message_is_for_who_waits() {
    let mut c = Connection::first();
    c.declare("q", &[("x-message-ttl", number(0))]);
    c.put("q", "nobody", None, None);
    c.pass(0);
    assert_eq!(c.ready("q"), 0);
    c.consume("q", "c", true);
    c.put("q", "somebody", None, None);
    c.pass(5);
    assert_eq!(c.bodies(), ["somebody"]);
}

#[test]
fn what_had_no_time_to_live_dies_when_it_comes_back() {
    for (of_queue, own) in [(0, None), (1000, Some("0"))] {
        let mut c = Connection::first();
        c.declare("dead", &[]);
        let [exchange, key] = letters();
        c.declare("q", &[exchange, key, ("x-message-ttl", number(of_queue))]);
        c.consume("q", "c", false);
        c.put("q", "once", None, own);
        let tag = c.deliveries()[0].tag;
        c.requeue(tag, true);
        assert!(c.bodies().is_empty(), "{of_queue} {own:?}");
        c.pass(0);
        assert_eq!(c.drain_bodies("dead"), ["once"], "{of_queue} {own:?}");
    }
}

#[test]
fn what_dies_of_age_or_length_is_a_dead_letter_once_and_in_order() {
    let mut c = Connection::first();
    c.declare("dead", &[]);
    let [exchange, key] = letters();
    c.declare("q", &[exchange, key, ("x-message-ttl", number(100)), ("x-max-length", number(3))]);
    for body in ["1", "2", "3", "4", "5"] {
        assert_eq!(c.put("q", body, None, None), Published::Routed);
    }
    assert_eq!(c.ready("q"), 3);
    c.pass(0);
    assert_eq!(c.ready("dead"), 2);
    c.pass(100);
    assert_eq!(c.drain_bodies("dead"), ["1", "2", "3", "4", "5"]);
    assert_eq!(c.vhost.queue(b"q").unwrap().unsettled(), 0);
    assert_eq!(c.vhost.queue(b"q").unwrap().dead_lettering().unwrap().counts().routed, 5);
}

#[test]
fn a_full_queue_that_rejects_says_so_and_takes_again_when_there_is_room() {
    let mut c = Connection::first();
    c.declare("dead", &[]);
    let [exchange, key] = letters();
    let limit = ("x-max-length", number(1));
    c.declare("q", &[limit.clone(), ("x-overflow", string("reject-publish"))]);
    c.declare("r", &[limit, ("x-overflow", string("reject-publish-dlx")), exchange, key]);
    for queue in ["q", "r"] {
        let outcomes = ["1", "2", "3"].map(|body| c.put(queue, body, None, None));
        assert_eq!(outcomes[0], Published::Routed);
        assert!(outcomes[1..].iter().all(|outcome| matches!(outcome, Published::Full(_))), "{outcomes:?}");
        let (tag, ..) = c.get(queue).unwrap();
        assert_eq!(
            c.put(queue, "4", None, None),
            Published::Routed,
            "what is with a consumer does not count"
        );
        c.requeue(tag, false);
        assert_eq!(c.drain_bodies(queue), ["1", "4"], "what comes back may go beyond the limit");
    }
    c.pass(0);
    assert_eq!(c.drain_bodies("dead"), ["2", "3"], "of the one whose arguments say so");
}

#[test]
fn of_bodies_the_bytes_count() {
    let mut c = Connection::first();
    c.declare("q", &[("x-max-length-bytes", number(160))]);
    let body = |letter: &str| letter.repeat(80);
    ["a", "b", "c"].iter().for_each(|letter| drop(c.put("q", &body(letter), None, None)));
    assert_eq!(c.drain_bodies("q"), [body("b"), body("c")]);
    c.put("q", &"d".repeat(161), None, None);
    assert_eq!(c.ready("q"), 0, "one that is longer than all may be goes too");
    c.declare("r", &[("x-max-length-bytes", number(100)), ("x-overflow", string("reject-publish"))]);
    let outcomes = ["a", "b"].map(|letter| c.put("r", &body(letter), None, None));
    assert!(matches!(outcomes, [Published::Routed, Published::Full(_)]), "{outcomes:?}");
}

#[test]
fn the_head_that_comes_back_to_a_full_queue_goes() {
    let mut c = Connection::first();
    c.declare("q", &[("x-max-length", number(1))]);
    c.put("q", "1", None, None);
    let (tag, ..) = c.get("q").unwrap();
    c.put("q", "2", None, None);
    c.requeue(tag, false);
    assert_eq!(c.drain_bodies("q"), ["2"]);
}

#[test]
fn what_a_consumer_is_about_to_take_does_not_make_a_queue_too_long() {
    let mut c = Connection::first();
    c.declare("q", &[("x-max-length", number(1))]);
    c.consume("q", "c", true);
    let bodies: Vec<String> = (0..100).map(|body| body.to_string()).collect();
    bodies.iter().for_each(|body| drop(c.put("q", body, None, None)));
    assert_eq!(c.bodies(), bodies);
}

#[test]
fn higher_priorities_come_first_and_each_in_order() {
    let mut c = Connection::first();
    c.declare("q", &[("x-max-priority", number(3))]);
    for round in ["a", "b"] {
        for priority in [None, Some(1), Some(9), Some(3), Some(0)] {
            let body = format!("{}{round}", priority.map_or("-".into(), |priority| priority.to_string()));
            c.put("q", &body, priority, None);
        }
    }
    assert_eq!(c.ready("q"), 10);
    let expected = ["9a", "3a", "9b", "3b", "1a", "1b", "-a", "0a", "-b", "0b"];
    let tags: Vec<u64> = expected
        .map(|body| {
            let (tag, _, got) = c.get("q").unwrap();
            assert_eq!(got, body);
            tag
        })
        .into();
    c.client.settle(1, *tags.last().unwrap(), true, Settle::Requeue { failed: false }).unwrap();
    assert_eq!(c.drain_bodies("q"), expected, "to where they were");
    c.put("q", "x", Some(2), None);
    assert_eq!(c.vhost.purge_queue(b"q", c.id), Ok(1));
}

#[test]
fn every_priority_is_one_of_its_own() {
    let mut c = Connection::first();
    c.declare("q", &[("x-max-priority", number(255))]);
    (0..=255).for_each(|priority| drop(c.put("q", &priority.to_string(), Some(priority), None)));
    let expected: Vec<String> = (0..=255).rev().map(|priority| priority.to_string()).collect();
    assert_eq!(c.drain_bodies("q"), expected);
}

#[test]
fn in_quorum_queues_what_came_back_is_first() {
    let mut c = Connection::first();
    c.declare("q", &[quorum()]);
    for (body, priority) in [("none", None), ("1", Some(1)), ("9", Some(9)), ("200", Some(200))] {
        c.put("q", body, priority, None);
    }
    let tags = [(); 4].map(|()| c.get("q").unwrap().0);
    for tag in [tags[3], tags[1], tags[2], tags[0]] {
        c.requeue(tag, false);
    }
    c.put("q", "new", Some(31), None);
    assert_eq!(c.drain_bodies("q"), ["1", "9", "none", "200", "new"]);
}

/// The counts that a consumer is told with a message.
fn told(c: &mut Connection, queue: &str) -> Option<(u64, Option<i64>, Option<i64>)> {
    let mut told = None;
    c.client
        .get(1, queue.as_bytes(), false, &mut c.router, &mut |got| {
            let count = |header| got.message.header(&name(header)).and_then(|value| value.as_integer());
            told = Some((got.delivery_tag, count("x-acquired-count"), count("x-delivery-count")));
        })
        .unwrap();
    told
}

#[test]
fn quorum_queues_count_deliveries_and_end_them_at_the_limit() {
    let mut c = Connection::first();
    c.declare("dead", &[]);
    let [exchange, key] = letters();
    c.declare("q", &[quorum(), ("x-delivery-limit", number(1)), exchange, key]);
    c.put("q", "poison", None, None);
    let (tag, acquired, failed) = told(&mut c, "q").unwrap();
    assert_eq!((acquired, failed), (None, None));
    c.requeue(tag, false);
    let (tag, acquired, failed) = told(&mut c, "q").unwrap();
    assert_eq!((acquired, failed), (Some(1), None), "given back is no failure");
    c.requeue(tag, true);
    let (_, acquired, failed) = told(&mut c, "q").unwrap();
    assert_eq!((acquired, failed), (Some(2), Some(1)));
    // Its channel goes: that is one too many.
    c.client.close_channel(1, &mut c.router);
    c.client.open_channel(1);
    c.pass(0);
    assert_eq!((c.ready("q"), c.drain_bodies("dead").as_slice()), (0, &["poison".to_owned()][..]));
    c.put("q", "other", None, None);
    assert_eq!(told(&mut c, "q").map(|(_, acquired, _)| acquired), Some(None));
}

#[test]
fn without_a_limit_of_its_own_a_message_is_not_lost_for_want_of_a_dead_letter_exchange() {
    let mut c = Connection::first();
    c.declare("q", &[quorum()]);
    c.declare("strict", &[quorum(), ("x-delivery-limit", number(2))]);
    for (queue, deliveries) in [("q", 50), ("strict", 3)] {
        c.put(queue, "poison", None, None);
        for _ in 0..deliveries {
            let (tag, ..) = c.get(queue).unwrap();
            c.requeue(tag, true);
        }
    }
    assert_eq!((c.ready("q"), c.ready("strict")), (1, 0));
}

fn consumer(queue: &str, tag: &str, priority: i64) -> ConsumeSpec {
    let arguments = table(&[("x-priority", number(priority))]);
    ConsumeSpec { queue: name(queue), tag: name(tag), arguments, ..ConsumeSpec::default() }
}

#[test]
fn one_consumer_is_active_and_the_next_takes_over() {
    let mut c = Connection::first();
    c.declare("q", &[("x-single-active-consumer", Value::Boolean(true))]);
    for tag in ["a", "b", "c"] {
        c.client.consume(1, consumer("q", tag, 0)).unwrap();
    }
    let consumer_of = |c: &mut Connection| {
        c.put("q", "m", None, None);
        c.deliveries().into_iter().map(|delivery| delivery.consumer).collect::<Vec<_>>()
    };
    assert_eq!((consumer_of(&mut c), consumer_of(&mut c)), (vec!["a".to_owned()], vec!["a".to_owned()]));
    c.client.cancel(1, b"a", &mut c.router);
    assert_eq!(consumer_of(&mut c), ["b"]);
    c.client.cancel(1, b"c", &mut c.router);
    assert_eq!(consumer_of(&mut c), ["b"]);
    c.client.consume(1, consumer("q", "d", 0)).unwrap();
    c.client.cancel(1, b"b", &mut c.router);
    assert_eq!(consumer_of(&mut c), ["d"]);
    let exclusive = ConsumeSpec { exclusive: true, ..consumer("q", "e", 0) };
    assert!(matches!(c.client.consume(1, exclusive), Err(Refusal::ExclusiveUse { .. })));
    // One of a higher priority does not take over, and is the next.
    for (tag, priority) in [("f", 0), ("high", 5)] {
        c.client.consume(1, consumer("q", tag, priority)).unwrap();
    }
    assert_eq!(consumer_of(&mut c), ["d"]);
    c.client.cancel(1, b"d", &mut c.router);
    assert_eq!(consumer_of(&mut c), ["high"]);
}

#[test]
fn in_quorum_queues_a_higher_one_takes_over_once_all_is_settled() {
    let mut c = Connection::first();
    c.declare("q", &[quorum(), ("x-single-active-consumer", Value::Boolean(true))]);
    c.client.consume(1, consumer("q", "low", 0)).unwrap();
    c.put("q", "1", None, None);
    assert_eq!(c.deliveries().len(), 1);
    c.client.consume(1, consumer("q", "high", 5)).unwrap();
    c.put("q", "2", None, None);
    assert!(c.deliveries().is_empty(), "the order is kept");
    c.client.settle(1, 1, false, Settle::Accepted).unwrap();
    let delivered: Vec<_> = c.deliveries().into_iter().map(|delivery| delivery.consumer).collect();
    assert_eq!(delivered, ["high"]);
    let got = c.client.get(1, b"q", true, &mut c.router, &mut |_| ());
    assert!(matches!(got, Err(Refusal::SingleActiveConsumer { .. })));
}

#[test]
fn the_next_active_consumer_gets_what_the_last_had_first() {
    for kind in ["classic", "quorum"] {
        let mut c = Connection::first();
        let arguments = [("x-queue-type", string(kind)), ("x-single-active-consumer", Value::Boolean(true))];
        c.declare("q", &arguments);
        let mut next = c.sibling();
        c.client.qos(1, 2, false);
        c.client.consume(1, consumer("q", "a", 0)).unwrap();
        next.client.consume(1, consumer("q", "b", 0)).unwrap();
        (0..6).for_each(|body| drop(c.put("q", &body.to_string(), None, None)));
        assert_eq!(c.bodies(), ["0", "1"]);
        c.client.close_channel(1, &mut c.router);
        assert_eq!(next.bodies(), ["0", "1", "2", "3", "4", "5"], "{kind}");
    }
}

#[test]
fn a_letter_that_only_a_full_queue_would_take_is_gone_unless_it_is_to_be_kept() {
    let mut c = Connection::first();
    c.declare("dead", &[("x-max-length", number(1)), ("x-overflow", string("reject-publish"))]);
    let [exchange, key] = letters();
    c.declare("q", &[exchange.clone(), key.clone()]);
    c.declare("kept", &[quorum(), ("x-dead-letter-strategy", string("at-least-once")), exchange, key]);
    for queue in ["q", "kept"] {
        for body in ["1", "2"] {
            c.put(queue, body, None, None);
            c.reject(queue);
        }
        let waiting = if queue == "kept" { 2 } else { 0 };
        assert_eq!((c.ready("dead"), c.client.dead_letters_waiting()), (1, waiting), "{queue}");
    }
    assert_eq!(c.drain_bodies("dead"), ["1"]);
    c.router.memory.lock().unwrap().now_ms += 1000;
    c.client.dead_letter(&mut c.router);
    assert_eq!((c.drain_bodies("dead"), c.client.dead_letters_waiting()), (vec!["1".to_owned()], 1));
}

#[test]
fn a_queue_that_is_too_long_after_a_restart_becomes_as_long_as_it_may_be() {
    let disk = Disk::new();
    let mut c = Connection::kept_in(disk.clone(), vec![]);
    let [exchange, key] = letters();
    let strategy = ("x-dead-letter-strategy", string("at-least-once"));
    c.declare("q", &[quorum(), ("x-max-length", number(5)), strategy, exchange, key]);
    (0..10).for_each(|body| drop(c.put("q", &body.to_string(), None, None)));
    assert_eq!((c.ready("q"), c.client.dead_letters_waiting()), (5, 5), "nobody takes the letters");
    std::mem::forget(c);
    let mut c = Connection::kept_in(disk, vec![]);
    assert_eq!(c.vhost.restored().messages, 10);
    c.pass(0);
    assert_eq!(c.ready("q"), 5);
    c.declare("dead", &[]);
    c.pass(1000);
    assert_eq!(c.drain_bodies("dead"), ["0", "1", "2", "3", "4"]);
}

#[test]
fn a_queue_that_nobody_uses_goes() {
    let mut c = Connection::first();
    c.declare("q", &[("x-expires", number(100))]);
    let is_there = |c: &Connection| c.vhost.queue(b"q").is_some();
    c.pass(99);
    c.get("q");
    c.pass(99);
    c.declare("q", &[("x-expires", number(100))]);
    c.pass(99);
    assert!(is_there(&c));
    c.consume("q", "c", true);
    c.pass(1000);
    assert!(is_there(&c));
    c.client.cancel(1, b"c", &mut c.router);
    c.pass(0);
    c.pass(99);
    assert!(is_there(&c));
    c.pass(1);
    assert!(!is_there(&c));
}

/// A message fails twice in one quorum queue, and is in the other then.
fn fail_twice(c: &mut Connection, from: &str, to: &str) {
    let letters = [("x-dead-letter-exchange", string("")), ("x-dead-letter-routing-key", string(to))];
    c.declare(from, &[&[quorum()][..], &letters].concat());
    c.declare(to, &[quorum()]);
    c.put(from, "letter", None, None);
    let (tag, ..) = told(c, from).unwrap();
    c.requeue(tag, true);
    let (tag, ..) = told(c, from).unwrap();
    c.client.settle(1, tag, false, Settle::Rejected).unwrap();
    c.client.dead_letter(&mut c.router);
}

#[test]
fn priorities_times_and_counts_outlive_the_process() {
    let disk = Disk::new();
    let mut c = Connection::kept_in(disk.clone(), vec![]);
    c.pass(1_700_000_000_000);
    c.declare("dead", &[]);
    let [exchange, key] = letters();
    c.declare("p", &[("x-max-priority", number(9))]);
    c.declare("t", &[("x-message-ttl", number(1000)), exchange.clone(), key.clone()]);
    c.declare("q", &[quorum(), ("x-delivery-limit", number(1)), exchange.clone(), key.clone()]);
    c.declare("strict", &[quorum(), ("x-delivery-limit", number(0)), exchange, key]);
    c.put("strict", "deadly", None, None);
    assert!(c.get("strict").is_some());
    for (body, priority) in [("low", None), ("high", Some(9)), ("middle", Some(5)), ("high too", Some(9))] {
        c.put("p", body, priority, None);
    }
    c.put("t", "old", None, None);
    c.pass(600);
    c.put("t", "young", None, None);
    c.put("q", "poison", Some(0), None);
    c.put("q", "fine", None, None);
    assert_eq!([c.get("q"), c.get("q")].map(|got| got.unwrap().2), ["fine", "poison"]);
    c.client.settle(1, 2, false, Settle::Accepted).unwrap();
    c.client.tell_store();
    fail_twice(&mut c, "from", "on");
    let now_ms = c.router.now_ms();
    // The process ends here: nobody gives anything back.
    std::mem::forget(c);
    let mut c = Connection::kept_in(disk.clone(), vec![]);
    c.router.memory.lock().unwrap().now_ms = now_ms;
    assert_eq!(c.vhost.restored().messages, 9);
    assert_eq!(told(&mut c, "on").map(|told| (told.1, told.2)), Some((None, None)), "it was not tried there");
    c.client.settle(1, 1, false, Settle::Accepted).unwrap();
    c.pass(400);
    assert_eq!(c.drain_bodies("dead"), ["old"]);
    c.pass(600);
    assert_eq!(c.drain_bodies("dead"), ["young"]);
    assert_eq!(c.drain_bodies("p"), ["high", "high too", "middle", "low"]);
    let (tag, acquired, failed) = told(&mut c, "q").unwrap();
    assert_eq!((acquired, failed), (Some(1), Some(1)), "it may have been what ended the process");
    c.requeue(tag, true);
    c.pass(0);
    assert_eq!(c.drain_bodies("dead"), ["poison"]);
    assert_eq!(c.get("strict"), None, "it was delivered as often as it may be");
    c.pass(0);
    assert_eq!(c.drain_bodies("dead"), ["deadly"]);
    c.vhost.delete_queue(&mut c.router, b"p", false, false, c.id).unwrap();
    c.client.tell_store();
    assert_eq!(disk.bodies().len(), 0, "nothing of any lane is left");
}

/// A message of the model.
#[derive(Clone, Debug, PartialEq)]
struct Modelled {
    body: String,
    priority: u8,
    due_ms: u64,
    number: u64,
}

/// Seeded: publishes, gets, acks, requeues and time, against a model of a queue with all of it.
#[test]
fn whatever_happens_it_is_as_in_the_model() {
    for seed in 1..=60 {
        let mut random = Random(seed * 0x9e37_79b9);
        let (ttl_ms, most) = (20 + random.below(200), 1 + random.below(12));
        let mut c = Connection::first();
        c.declare(
            "q",
            &[
                ("x-max-priority", number(2)),
                ("x-message-ttl", number(ttl_ms as i64)),
                ("x-max-length", number(most as i64)),
            ],
        );
        let mut now_ms = c.router.now_ms();
        let mut ready: [VecDeque<Modelled>; 3] = Default::default();
        let mut held: Vec<(u64, Modelled)> = Vec::new();
        for step in 0..400 {
            match random.below(6) {
                0..=2 => {
                    let (priority, own_ms) = (random.below(4) as u8, random.below(3) * 50 + 5);
                    let body = format!("{seed}-{step}");
                    c.put("q", &body, Some(priority), Some(&own_ms.to_string()));
                    let priority = priority.min(2);
                    let due_ms = now_ms + own_ms.min(ttl_ms);
                    ready[usize::from(priority)].push_back(Modelled { body, priority, due_ms, number: step });
                }
                3 => {
                    now_ms += random.below(40);
                    let passed = now_ms - c.router.now_ms();
                    c.pass(passed);
                }
                4 => {
                    let expected = loop {
                        let lane = ready.iter_mut().rev().find(|lane| !lane.is_empty());
                        match lane.and_then(VecDeque::pop_front) {
                            Some(message) if message.due_ms <= now_ms => {}
                            message => break message,
                        }
                    };
                    let got = c.get("q");
                    assert_eq!(
                        got.as_ref().map(|got| &got.2),
                        expected.as_ref().map(|m| &m.body),
                        "{seed} {step}"
                    );
                    held.extend(got.map(|got| got.0).zip(expected));
                }
                _ if !held.is_empty() => {
                    let (tag, message) = held.swap_remove(random.below(held.len() as u64) as usize);
                    if random.below(2) == 0 {
                        c.client.settle(1, tag, false, Settle::Accepted).unwrap();
                    } else {
                        c.requeue(tag, false);
                        let lane = &mut ready[usize::from(message.priority)];
                        let place = lane.partition_point(|other| other.number < message.number);
                        lane.insert(place, message);
                    }
                }
                _ => {}
            }
            // Of the longest head the first goes; what is expired at a head, when the house is done.
            while ready.iter().map(VecDeque::len).sum::<usize>() as u64 > most {
                ready.iter_mut().rev().find(|lane| !lane.is_empty()).unwrap().pop_front();
            }
            c.pass(0);
            for lane in &mut ready {
                while lane.front().is_some_and(|message| message.due_ms <= now_ms) {
                    lane.pop_front();
                }
            }
            let expected: usize = ready.iter().map(VecDeque::len).sum();
            assert_eq!(c.ready("q"), expected as u64, "seed {seed}, step {step}");
        }
    }
}
