//! Held messages, timers and emitted messages, with time that the test makes pass.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Bell, Connection, Gate, delayed, exchange, message, text, with_alternate};
use leveret_broker::{
    BindTo, ExchangeSpec, Published,
    later::{EXCHANGE_TIMERS_MAX, HOPS_MAX, HoldLimits, KEPT_OVERHEAD_BYTES, RETRY_AFTER_MS_MAX, TIMERS_MAX},
    port::HoldId,
};
use leveret_model::MessageView;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

const Q: BindTo<'static> = BindTo::Queue(b"q");

/// An exchange `x` that holds, bound to the queue `q` by `k`.
fn holding() -> Connection {
    let mut c = Connection::first();
    c.queue("q");
    c.exchange(exchange("x", "hold+direct"));
    c.bind("x", Q, "k");
    c
}

fn mandatory(c: &mut Connection, message: MessageView<'_>) -> Published {
    c.publish_batch(&[message], true).pop().unwrap()
}

fn nothing_is_kept(c: &Connection) {
    assert_eq!((c.vhost.held(), c.vhost.memory().bytes()), ((0, 0), 0));
}

#[test]
fn held_messages_go_on_in_the_order_of_their_times_and_then_as_they_came() {
    let mut c = holding();
    let delays = [("30", "a"), ("10", "b"), ("30", "c"), ("20", "d"), ("10", "e"), ("0", "f")];
    let messages = delays.map(|(delay, body)| delayed("x", "k", delay, body));
    assert!(c.publish_all(&messages).iter().all(|outcome| *outcome == Published::Routed));
    assert_eq!((c.ready("q"), c.vhost.hold_count(b"x"), c.vhost.next_due_ms()), (0, 6, Some(0)));
    c.pass(9);
    assert_eq!(c.drain_bodies("q"), ["f"]);
    c.pass(1);
    assert_eq!(c.drain_bodies("q"), ["b", "e"]);
    c.pass(100);
    assert_eq!(c.drain_bodies("q"), ["d", "a", "c"]);
    assert_eq!((c.vhost.next_due_ms(), c.vhost.later_counters().released), (None, 6));
    nothing_is_kept(&c);
}

#[test]
fn what_is_held_keeps_its_exchange_key_properties_and_body() {
    let mut c = holding();
    c.bind("amq.fanout", BindTo::Exchange(b"x"), "");
    let body = "b".repeat(100_000);
    assert_eq!(c.publish_one(delayed("amq.fanout", "k", "5", &body)), Published::Routed);
    c.pass(5);
    let mut seen = false;
    c.client
        .get(1, b"q", true, &mut c.router, &mut |got| {
            assert_eq!((got.message.exchange, got.message.routing_key), (&b"amq.fanout"[..], &b"k"[..]));
            assert_eq!((got.message.properties, got.message.body), (&b"5"[..], body.as_bytes()));
            seen = true;
        })
        .unwrap();
    assert!(seen);
    nothing_is_kept(&c);
}

#[test]
fn mandatory_is_asked_of_the_types_behind_at_publish_and_not_again() {
    let mut c = holding();
    assert_eq!(mandatory(&mut c, delayed("x", "nowhere", "10", "1")), Published::Unroutable);
    assert_eq!(c.vhost.held(), (0, 0));
    assert_eq!(c.publish_one(delayed("x", "nowhere", "10", "2")), Published::Routed, "nobody asked");
    assert_eq!(mandatory(&mut c, delayed("x", "k", "10", "3")), Published::Routed);
    c.unbind("x", Q, "k");
    c.pass(10);
    assert_eq!(c.ready("q"), 0);
    assert_eq!(c.vhost.later_counters().released_unroutable, 2);
    nothing_is_kept(&c);
}

#[test]
fn the_question_behind_a_hold_goes_on_through_exchanges_and_has_no_effects() {
    let mut c = holding();
    c.exchange(with_alternate("front", "hold+dedup+direct", "second"));
    c.exchange(exchange("second", "hold+direct"));
    // Unroutable behind both, then by the alternate's binding to a third that holds too.
    assert_eq!(mandatory(&mut c, delayed("front", "k", "10", "1")), Published::Unroutable);
    c.bind("second", BindTo::Exchange(b"x"), "k");
    assert_eq!(mandatory(&mut c, delayed("front", "k", "10", "1")), Published::Routed);
    assert_eq!(c.vhost.hold_count(b"front"), 1);
    for (gate, expected) in [(Gate::Reject, 1), (Gate::Park, 1), (Gate::Pending, 0)] {
        c.router.gate("second", Some(gate));
        let outcomes = c.publish_batch(&[delayed("front", "k", "10", "2")], true);
        assert_eq!(outcomes.len(), expected, "{gate:?}");
        assert!(!outcomes.contains(&Published::Routed));
        c.router.gate("second", None);
    }
    assert_eq!(c.vhost.hold_count(b"front"), 1, "what was not accepted is not held");
    {
        let memory = c.router.memory.lock().unwrap();
        assert!(memory.committed.is_empty() && memory.in_doubt.is_empty());
    }
    for _ in 0..3 {
        assert_eq!(c.ready("q"), 0);
        c.pass(10);
    }
    assert_eq!(c.drain_bodies("q"), ["1"]);
}

#[test]
fn a_hold_without_destination_beside_a_queue_is_just_not_held() {
    let mut c = holding();
    c.queue("r");
    c.bind("amq.fanout", BindTo::Exchange(b"x"), "");
    c.bind("amq.fanout", BindTo::Queue(b"r"), "");
    assert_eq!(mandatory(&mut c, delayed("amq.fanout", "nowhere", "10", "1")), Published::Routed);
    assert_eq!((c.vhost.hold_count(b"x"), c.ready("r")), (0, 1));
}

#[test]
fn holds_are_listed_counted_and_cancelled() {
    let mut c = holding();
    for (delay, key) in [("20", "k"), ("10", "k"), ("30", "other")] {
        c.publish_one(delayed("x", key, delay, "body"));
    }
    let holds = c.vhost.holds(b"x", 0, 10);
    let listed: Vec<_> =
        holds.iter().map(|hold| (hold.due_ms, hold.routing_key.to_text(), hold.length_bytes)).collect();
    let length = |key: &str| 1 + 2 + key.len() as u64 + 4;
    assert_eq!(
        listed,
        [(10, "k", length("k")), (20, "k", length("k")), (30, "other", length("other"))]
            .map(|(due_ms, key, length)| (due_ms, String::from(key), length))
    );
    assert_eq!(c.vhost.holds(b"x", 1, 1), holds[1..2]);
    let bytes: u64 = holds.iter().map(|hold| hold.length_bytes + KEPT_OVERHEAD_BYTES).sum();
    assert_eq!((c.vhost.held(), c.vhost.memory().bytes()), ((3, bytes), bytes));
    assert!(c.vhost.cancel_hold(holds[0].id) && !c.vhost.cancel_hold(holds[0].id));
    assert!(!c.vhost.cancel_hold(HoldId(999)));
    assert_eq!(c.vhost.next_due_ms(), Some(20));
    c.pass(20);
    assert!(!c.vhost.cancel_hold(holds[1].id), "it is gone");
    assert_eq!((c.ready("q"), c.vhost.cancel_holds(b"x"), c.vhost.cancel_holds(b"absent")), (1, 1, 0));
    assert_eq!(c.vhost.later_counters().holds_cancelled, 2);
    assert_eq!(c.drain_bodies("q").len(), 1);
    nothing_is_kept(&c);
}

#[test]
fn beyond_the_limits_a_publish_is_rejected_and_leaves_nothing() {
    let mut c = holding();
    c.exchange(exchange("d", "dedup+hold+direct"));
    c.queue("r");
    c.bind("amq.fanout", BindTo::Exchange(b"d"), "");
    c.bind("amq.fanout", BindTo::Queue(b"r"), "");
    c.vhost.set_hold_limits(HoldLimits { messages_max: 2, ..HoldLimits::default() });
    for (body, expected) in [("1", true), ("2", true), ("3", false)] {
        let outcome = c.publish_one(delayed("amq.fanout", "k", "10", body));
        assert_eq!(outcome == Published::Routed, expected, "{outcome:?}");
    }
    assert_eq!(c.ready("r"), 2, "what cannot be held goes nowhere");
    assert_eq!(c.router.memory.lock().unwrap().undone, ["3"]);
    assert_eq!(
        c.publish_one(delayed("x", "k", "10", "4")),
        Published::Rejected(Arc::from("no more messages can be held: there are 2"))
    );
    assert_eq!(c.publish("x", "k", "not held"), Published::Routed);
    c.pass(10);
    assert_eq!(c.publish_one(delayed("x", "k", "10", "5")), Published::Routed);
    c.vhost.set_hold_limits(HoldLimits { bytes_max: 1000, ..HoldLimits::default() });
    let outcome = c.publish_one(delayed("x", "k", "10", &"6".repeat(600)));
    assert_eq!(outcome, Published::Rejected(Arc::from("no more can be held: the most is 1000 bytes")));
    c.pass(10);
    assert_eq!(c.drain_bodies("q"), ["not held", "5"]);
    c.drain("r");
    nothing_is_kept(&c);
}

#[test]
fn deleting_the_exchange_drops_what_it_holds_and_says_so() {
    let mut c = holding();
    c.exchange(exchange("y", "hold+direct"));
    c.bind("y", Q, "k");
    for (x, body) in [("x", "1"), ("x", "2"), ("y", "3")] {
        c.publish_one(delayed(x, "k", "10", body));
    }
    c.vhost.delete_exchange(&mut c.router, b"x", false).unwrap();
    assert_eq!(c.vhost.held().0, 1);
    // Another exchange of that name is another exchange.
    c.exchange(exchange("x", "hold+direct"));
    c.bind("x", Q, "k");
    assert_eq!(c.vhost.hold_count(b"x"), 0);
    let losses = c.run().losses;
    assert_eq!(losses[0].to_string(), "dropped 2 held messages: exchange 'x' was deleted");
    c.pass(10);
    assert_eq!(c.drain_bodies("q"), ["3"]);
    assert_eq!(c.vhost.later_counters().holds_lost, 2);
    nothing_is_kept(&c);
}

#[test]
fn an_exchange_deleted_while_it_answers_holds_nothing() {
    let mut c = holding();
    let mut other = c.sibling();
    c.router.after_route = Some(Box::new(move || {
        other.vhost.delete_exchange(&mut other.router, b"x", false).unwrap();
    }));
    assert_eq!(c.publish_one(delayed("x", "k", "10", "1")), Published::Routed);
    assert_eq!(c.vhost.later_counters().holds_lost, 1);
    nothing_is_kept(&c);
    c.exchange(exchange("t", "timer+direct"));
    let mut other = c.sibling();
    c.router.after_route = Some(Box::new(move || {
        other.vhost.delete_exchange(&mut other.router, b"t", false).unwrap();
    }));
    c.publish_one(delayed("t", "timer", "10", ""));
    assert_eq!(c.vhost.next_due_ms(), None, "nor has it timers");
}

#[test]
fn timers_are_limited_for_each_exchange_and_for_all() {
    let mut c = Connection::first();
    let mut refused = 0;
    for number in 0..=TIMERS_MAX / EXCHANGE_TIMERS_MAX + 1 {
        let name: &'static str = Box::leak(format!("t{number}").into_boxed_str());
        c.exchange(exchange(name, "timer+direct"));
        let before = c.vhost.later_counters().timers_refused;
        // One of a name that is set already is set anew.
        for timer in (0..=EXCHANGE_TIMERS_MAX).chain(0..5) {
            c.publish_one(delayed(name, Box::leak(timer.to_string().into_boxed_str()), "1000000", ""));
        }
        refused = c.vhost.later_counters().timers_refused;
        if number < TIMERS_MAX / EXCHANGE_TIMERS_MAX {
            assert_eq!(refused, before + 1, "each exchange has its own");
        }
    }
    let wanted = (TIMERS_MAX / EXCHANGE_TIMERS_MAX + 2) * (EXCHANGE_TIMERS_MAX + 1);
    assert!(refused as usize >= wanted - TIMERS_MAX, "{refused} of {wanted}");
}

#[test]
fn what_its_type_does_not_take_when_it_is_due_stays_and_keeps_nothing_else() {
    for gate in [Gate::Park, Gate::Pending, Gate::Trap, Gate::Reject] {
        let mut c = holding();
        c.exchange(exchange("y", "hold+direct"));
        c.bind("y", Q, "k");
        for (x, body) in [("x", "1"), ("y", "2"), ("x", "3")] {
            c.publish_one(delayed(x, "k", "10", body));
        }
        c.router.gate("x", Some(gate));
        c.pass(10);
        assert_eq!(c.drain_bodies("q"), ["2"], "{gate:?}");
        assert_eq!(c.vhost.hold_count(b"x"), 2);
        // An hour later still.
        for _ in 0..120 {
            c.pass(RETRY_AFTER_MS_MAX);
        }
        assert_eq!(c.vhost.hold_count(b"x"), 2);
        let calls = c.router.route_calls;
        c.pass(0);
        assert_eq!(c.router.route_calls, calls, "nothing is asked before its time");
        c.router.gate("x", None);
        // What was refused too often waits for a change.
        c.router.plugins_generation += 1;
        c.pass(RETRY_AFTER_MS_MAX);
        assert_eq!(c.drain_bodies("q"), ["1", "3"], "{gate:?}");
        nothing_is_kept(&c);
    }
}

#[test]
fn a_wake_lets_what_was_pending_go_on_at_once() {
    let mut c = holding();
    c.vhost.set_housekeeper(c.bell.clone());
    c.publish_one(delayed("x", "k", "10", "1"));
    assert_eq!(c.bell.rings.swap(0, Ordering::SeqCst), 1, "the first due");
    c.publish_one(delayed("x", "k", "20", "2"));
    assert_eq!(c.bell.rings.load(Ordering::SeqCst), 0, "later than what is known");
    c.router.gate("x", Some(Gate::Pending));
    c.pass(30);
    assert!(c.vhost.next_due_ms() > Some(30));
    c.router.gate("x", None);
    c.router.memory.lock().unwrap().wake();
    assert_eq!((c.bell.rings.load(Ordering::SeqCst), c.vhost.next_due_ms()), (1, Some(0)));
    c.pass(0);
    assert_eq!(c.drain_bodies("q"), ["1", "2"]);
}

#[test]
fn a_message_that_is_held_again_goes_on_later() {
    let mut c = Connection::first();
    c.queue("q");
    c.exchange(exchange("x", "hold+hold+direct"));
    c.bind("x", Q, "k");
    c.publish_one(delayed("x", "k", "10", "1"));
    c.pass(10);
    assert_eq!((c.ready("q"), c.vhost.hold_count(b"x"), c.vhost.next_due_ms()), (0, 1, Some(20)));
    c.pass(10);
    assert_eq!(c.drain_bodies("q"), ["1"]);
    nothing_is_kept(&c);
}

#[test]
fn emitted_messages_are_published_in_order_by_the_housekeeper() {
    let mut c = Connection::first();
    c.vhost.set_housekeeper(c.bell.clone());
    for q in ["q", "copies"] {
        c.queue(q);
    }
    c.exchange(ExchangeSpec { arguments: text("emit-to", "y"), ..exchange("x", "emit+direct") });
    c.exchange(ExchangeSpec { internal: true, ..exchange("y", "fanout") });
    c.bind("x", Q, "k");
    c.bind("y", BindTo::Queue(b"copies"), "");
    let bodies: Vec<String> = (0..600).map(|i| i.to_string()).collect();
    let messages: Vec<_> = bodies.iter().map(|body| message("x", "k", body.as_bytes())).collect();
    c.publish_all(&messages);
    assert_eq!((c.bell.rings.load(Ordering::SeqCst), c.vhost.next_due_ms()), (1, Some(0)));
    assert!(c.run().more, "a run is bounded");
    c.pass(0);
    assert_eq!((c.drain_bodies("copies"), c.vhost.later_counters().emitted), (bodies, 600));
    c.drain("q");
    nothing_is_kept(&c);
}

#[test]
fn emissions_that_lead_to_one_another_end() {
    let mut c = Connection::first();
    c.queue("q");
    c.exchange(ExchangeSpec { arguments: text("emit-to", "x"), ..exchange("x", "emit+hold+direct") });
    c.bind("x", Q, "k");
    // Also across holds: the published one is held once, as each of its copies.
    c.publish_one(delayed("x", "k", "10", "1"));
    for _ in 0..20 {
        c.pass(10);
    }
    assert_eq!(c.drain_bodies("q").len(), 1 + usize::from(HOPS_MAX));
    assert_eq!(c.vhost.later_counters().emissions_lost, 1);
    nothing_is_kept(&c);
}

#[test]
fn emissions_that_are_not_accepted_are_tried_so_often_and_no_more() {
    for gate in [Gate::Park, Gate::Pending, Gate::Reject] {
        let mut c = Connection::first();
        c.queue("q");
        c.exchange(ExchangeSpec { arguments: text("emit-to", "y"), ..exchange("x", "emit+direct") });
        c.exchange(ExchangeSpec { arguments: text("emit-to", ""), ..exchange("z", "emit+direct") });
        c.exchange(exchange("y", "fanout"));
        c.bind("y", Q, "");
        c.router.gate("y", Some(gate));
        c.publish("x", "k", "1");
        c.publish("x", "k", "2");
        c.pass(50);
        // What goes elsewhere is not kept by it.
        c.publish("z", "q", "other");
        c.pass(50);
        assert_eq!(c.drain_bodies("q"), ["other"]);
        c.router.gate("y", None);
        c.pass(60_000);
        assert_eq!(c.drain_bodies("q"), ["1", "2"], "{gate:?}");
        c.router.gate("y", Some(gate));
        c.publish("x", "k", "3");
        let mut losses = Vec::new();
        for _ in 0..600 {
            c.router.memory.lock().unwrap().now_ms += 1000;
            losses.extend(c.run().losses);
        }
        assert_eq!((losses.len(), c.vhost.later_counters().emissions_lost), (1, 1), "{gate:?}");
        assert!(losses[0].to_string().starts_with("dropped 1 message emitted to 'y' and never"));
        nothing_is_kept(&c);
    }
}

#[test]
fn emissions_to_nowhere_are_counted() {
    let mut c = Connection::first();
    c.exchange(ExchangeSpec { arguments: text("emit-to", "absent"), ..exchange("x", "emit+direct") });
    c.exchange(ExchangeSpec { arguments: text("emit-to", "amq.direct"), ..exchange("y", "emit+direct") });
    assert_eq!(c.publish("x", "k", "1"), Published::Unroutable);
    assert_eq!(c.publish("y", "k", "1"), Published::Unroutable);
    let mut losses = c.run().losses;
    losses.extend(c.run().losses);
    assert_eq!(
        losses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["dropped 1 message emitted to exchange 'absent': it is not there"]
    );
    let counters = c.vhost.later_counters();
    assert_eq!((counters.emissions_lost, counters.emitted_unroutable), (1, 1));
    nothing_is_kept(&c);
}

#[test]
fn timers_fire_once_by_name_and_go_with_their_exchange() {
    let mut c = Connection::first();
    c.exchange(exchange("x", "timer+direct"));
    for (key, due) in [("a", "30"), ("b", "20"), ("a", "10"), ("c", "40"), ("b", "stop"), ("tick", "5")] {
        c.publish_one(delayed("x", key, due, ""));
    }
    for _ in 0..4 {
        c.pass(5);
    }
    assert_eq!(c.router.memory.lock().unwrap().fired, ["tick@5", "a@10", "tick@15"]);
    c.router.gate("x", Some(Gate::Pending));
    c.pass(5);
    // Set anew while it waits: once, at the new time.
    c.router.gate("x", None);
    c.publish_one(delayed("x", "tick", "41", ""));
    c.pass(200);
    c.vhost.delete_exchange(&mut c.router, b"x", false).unwrap();
    c.pass(1000);
    let fired = c.router.memory.lock().unwrap().fired.split_off(3);
    assert_eq!(fired, ["c@225", "tick@225"]);
    assert_eq!((c.vhost.next_due_ms(), c.vhost.later_counters().timers_fired), (None, 5));
}

#[test]
fn publishers_cancels_and_the_housekeeper_at_once_lose_nothing() {
    const PUBLISHERS: usize = 3;
    const EACH: usize = 400;
    let mut c = holding();
    let (vhost, memory) = (c.vhost.clone(), c.router.memory.clone());
    let over = AtomicBool::new(false);
    let cancelled: usize = std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|publisher| {
                let (vhost, memory) = (vhost.clone(), memory.clone());
                scope.spawn(move || {
                    let mut c = Connection::to(&vhost);
                    c.router.memory = memory;
                    for i in 0..EACH {
                        let (delay, body) = ((i % 7).to_string(), format!("{publisher} {} {i}", i % 7));
                        assert_eq!(c.publish_one(delayed("x", "k", &delay, &body)), Published::Routed);
                    }
                })
            })
            .collect();
        let done = || publishers.iter().all(std::thread::ScopedJoinHandle::is_finished);
        let canceller = scope.spawn(|| {
            let mut cancelled = 0;
            while !over.load(Ordering::SeqCst) {
                for hold in vhost.holds(b"x", 0, 3).into_iter().skip(2) {
                    cancelled += usize::from(vhost.cancel_hold(hold.id));
                }
                std::thread::yield_now();
            }
            cancelled
        });
        while !done() || vhost.held().0 > 0 {
            c.pass(1);
        }
        over.store(true, Ordering::SeqCst);
        canceller.join().unwrap()
    });
    let bodies = c.drain_bodies("q");
    assert_eq!(bodies.len() + cancelled, PUBLISHERS * EACH);
    let mut last: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for body in bodies {
        let numbers: Vec<usize> = body.split(' ').map(|number| number.parse().unwrap()).collect();
        let before = last.insert((numbers[0], numbers[1]), numbers[2]);
        assert!(before < Some(numbers[2]), "{body} after {before:?}");
    }
    nothing_is_kept(&c);
}

#[test]
fn the_bell_rings_for_losses_too() {
    let mut c = Connection::first();
    let bell = Arc::new(Bell::default());
    c.vhost.set_housekeeper(bell.clone());
    c.exchange(ExchangeSpec { arguments: text("divert-to", "absent"), ..exchange("x", "divert+direct") });
    c.publish("x", "k", "1");
    c.publish("x", "k", "2");
    assert_eq!(bell.rings.load(Ordering::SeqCst), 1);
    assert_eq!(c.run().losses[0].count, 2);
}
