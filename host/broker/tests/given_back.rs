//! Letters of what was given back, and letters that stay until a queue takes them.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Ageing as _, Connection, kept_letters, letters, number, quorum, string};
use leveret_broker::{Published, Settle};

/// As what dies because of a publish: whoever gave back finds the letters where they belong.
#[test]
fn what_dies_because_something_came_back_is_sent_on_by_who_gave_it_back() {
    let mut c = Connection::first();
    c.declare("dead", &[]);
    let [exchange, key] = letters();
    c.declare("full", &[exchange.clone(), key.clone(), ("x-max-length", number(1))]);
    c.declare("tried", &[exchange, key, quorum(), ("x-delivery-limit", number(0))]);
    for queue in ["full", "tried"] {
        c.put(queue, "1", None, None);
        let (tag, ..) = c.get(queue).unwrap();
        c.put(queue, "2", None, None);
        c.requeue(tag, true);
        assert_eq!(c.drain_bodies("dead"), ["1"], "{queue}");
        // Its channel goes: that the housekeeper does.
        c.get(queue).unwrap();
        c.put(queue, "3", None, None);
        c.client.close_channel(1, &mut c.router);
        c.client.open_channel(1);
        assert_eq!(c.client.dead_letters_waiting(), 0);
        c.pass(0);
        assert_eq!(c.drain_bodies("dead"), ["2"], "{queue}");
    }
}

/// What could not be sent on when its connection ended is not counted once more, and does not come to life again.
#[test]
fn what_died_stays_dead_when_the_connection_ends() {
    let mut c = Connection::first();
    c.declare("q", &[&kept_letters()[..], &[("x-delivery-limit", number(0))]].concat());
    c.put("q", "poison", None, None);
    let (tag, ..) = c.get("q").unwrap();
    c.requeue(tag, true);
    assert_eq!((c.client.dead_letters_waiting(), c.ready("q")), (1, 0), "it has nowhere to go");
    let mut other = c.sibling();
    c.client.close(&mut c.router);
    assert_eq!(other.ready("q"), 0);
    other.declare("dead", &[quorum()]);
    other.pass(0);
    let mut failed = None;
    let mut got = |got: leveret_broker::Got<'_>| failed = got.message.header(&kit::name("x-delivery-count"));
    other.client.get(1, b"dead", true, &mut other.router, &mut got).unwrap();
    assert_eq!(failed, Some(number(1)));
}

/// Or there would be any number of letters in a queue whose length is limited.
#[test]
fn letters_that_are_to_be_kept_count_where_publishes_are_refused() {
    let mut c = Connection::first();
    c.declare("q", &[&kept_letters()[..], &[("x-max-length", number(2))]].concat());
    for body in ["1", "2"] {
        assert_eq!(c.put("q", body, None, None), Published::Routed);
        c.reject("q");
    }
    assert!(matches!(c.put("q", "3", None, None), Published::Full(_)), "nobody takes the letters");
    // They go back to the housekeeper or their queue with their connection, and are as many.
    c.client.close(&mut c.router);
    let mut c = c.sibling();
    assert!(matches!(c.put("q", "3", None, None), Published::Full(_)));
    c.declare("dead", &[]);
    for _ in 0..2 {
        c.reject("q");
    }
    assert_eq!(c.drain_bodies("dead"), ["1", "2"]);
    let outcomes = ["3", "4", "5"].map(|body| c.put("q", body, None, None));
    assert!(matches!(outcomes, [Published::Routed, Published::Routed, Published::Full(_)]), "{outcomes:?}");
}

/// As in RabbitMQ, where a quorum queue takes one more than it may have. Nothing else would ever get in or out.
#[test]
fn letters_of_two_full_queues_for_each_other_arrive() {
    let [kind, strategy, overflow, exchange, _] = kept_letters();
    for most in [1, 3] {
        let mut c = Connection::first();
        for (queue, other) in [("a", "b"), ("b", "a")] {
            let letters = [exchange.clone(), ("x-dead-letter-routing-key", string(other))];
            let limits = [kind.clone(), strategy.clone(), overflow.clone(), ("x-max-length", number(most))];
            c.declare(queue, &[&letters[..], &limits].concat());
            for body in 0..most {
                assert_eq!(c.put(queue, &format!("{queue}{body}"), None, None), Published::Routed);
            }
            assert!(matches!(c.put(queue, "more", None, None), Published::Full(_)));
        }
        for queue in ["a", "b"] {
            while c.get(queue).is_some() {}
        }
        c.client.settle(1, 0, true, Settle::Rejected).unwrap();
        for _ in 0..10 {
            c.client.dead_letter(&mut c.router);
            c.router.memory.lock().unwrap().now_ms += 30_000;
        }
        assert_eq!(c.client.dead_letters_waiting(), 0);
        for (queue, from) in [("a", "b"), ("b", "a")] {
            let mut bodies = c.drain_bodies(queue);
            bodies.sort();
            assert_eq!(bodies, (0..most).map(|body| format!("{from}{body}")).collect::<Vec<_>>());
        }
    }
}

/// What somebody held was no letter, and takes the place of none when it comes back.
#[test]
fn what_was_held_and_comes_back_leaves_letters_counted() {
    let mut c = Connection::first();
    c.declare("q", &[&kept_letters()[..], &[("x-max-length", number(2))]].concat());
    assert_eq!(c.put("q", "1", None, None), Published::Routed);
    c.reject("q");
    assert_eq!(c.put("q", "2", None, None), Published::Routed);
    let (tag, ..) = c.get("q").unwrap();
    let held = c.client.hold(1, &[(1, tag)], None, &mut c.router).unwrap();
    assert_eq!((held.len(), c.ready("q")), (1, 0));
    drop(held);
    assert_eq!(c.ready("q"), 1);
    assert!(matches!(c.put("q", "3", None, None), Published::Full(_)), "one is there, and a letter");
}
