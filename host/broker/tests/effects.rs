//! Effects of exchange types: made last with the message, or as if they had never been.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, Gate, Random, delayed, exchange, message, text};
use leveret_broker::{
    BindTo, ExchangeSpec, Publish, Published,
    later::HoldLimits,
    port::{Fate, Layer, Wake},
};
use leveret_model::Table;
use std::sync::Arc;

const Q: BindTo<'static> = BindTo::Queue(b"q");

/// An exchange `x` of this type, bound to the queue `q` by `k`.
fn with_type(type_name: &str) -> Connection {
    let mut c = Connection::first();
    c.queue("q");
    c.exchange(exchange("x", type_name));
    c.bind("x", Q, "k");
    c.router.memory.lock().unwrap().watched = Some((c.vhost.clone(), "q"));
    c
}

fn committed(c: &Connection) -> Vec<(String, Fate, u64)> {
    c.router.memory.lock().unwrap().committed.clone()
}

fn undone(c: &Connection) -> Vec<String> {
    c.router.memory.lock().unwrap().undone.clone()
}

#[test]
fn effects_are_committed_once_the_queue_has_the_message() {
    let mut c = with_type("store+direct");
    assert_eq!(c.publish("x", "k", "1"), Published::Routed);
    assert_eq!(c.publish("x", "nowhere", "2"), Published::Unroutable);
    assert_eq!(
        committed(&c),
        [(String::from("1"), Fate::Routed, 1), (String::from("2"), Fate::Unroutable, 1)]
    );
    assert!(undone(&c).is_empty());
}

#[test]
fn a_drop_further_on_is_told_to_the_effects_before() {
    let mut c = with_type("store+direct");
    c.exchange(exchange("drop", "drop"));
    c.bind("x", BindTo::Exchange(b"drop"), "dropped");
    assert_eq!(c.publish("x", "dropped", "1"), Published::Dropped);
    assert_eq!(committed(&c), [(String::from("1"), Fate::Dropped, 0)]);
}

#[test]
fn effects_of_a_message_that_another_exchange_does_not_take_are_undone() {
    let mut c = with_type("dedup+direct");
    c.exchange(exchange("y", "fanout"));
    c.bind("x", BindTo::Exchange(b"y"), "k");
    for (gate, dealt) in [(Gate::Reject, 1), (Gate::Trap, 1), (Gate::Park, 1), (Gate::Pending, 0)] {
        c.router.gate("y", Some(gate));
        let outcomes = c.publish_all(&[message("x", "k", b"1")]);
        assert_eq!(outcomes.len(), dealt, "{gate:?}");
        assert!(!outcomes.contains(&Published::Routed));
        assert_eq!(std::mem::take(&mut c.router.memory.lock().unwrap().undone), ["1"], "{gate:?}");
        assert!(c.router.memory.lock().unwrap().in_doubt.is_empty());
    }
    assert_eq!((committed(&c).len(), c.ready("q")), (0, 0));
    c.router.gate("y", None);
    assert_eq!(c.publish("x", "k", "1"), Published::Routed, "no duplicate of what was never accepted");
    assert_eq!(c.publish("x", "k", "1"), Published::Dropped);
    assert_eq!(c.drain_bodies("q"), ["1"]);
}

#[test]
fn effects_after_a_refusal_on_the_same_channel_are_undone() {
    let mut c = with_type("store+direct");
    let publish = |channel, exchange: &'static str, body: &'static str| Publish {
        channel,
        message: message(exchange, "k", body.as_bytes()),
        mandatory: false,
        more_keys: None,
    };
    let batch = [publish(1, "absent", "0"), publish(1, "x", "1"), publish(2, "x", "2")];
    let mut outcomes = Vec::new();
    let waker: Arc<dyn Wake> = c.bell.clone();
    assert_eq!(c.publisher.publish(&c.vhost, &mut c.router, &batch, &mut outcomes, &waker), 3);
    assert!(matches!(outcomes[..], [Published::Refused(_), Published::Refused(_), Published::Routed]));
    assert_eq!((committed(&c).len(), undone(&c)), (1, vec![String::from("1")]));
}

#[test]
fn effects_of_what_only_a_deleted_queue_would_have_taken_know_it() {
    let mut c = with_type("store+direct");
    let mut other = c.sibling();
    c.router.after_route = Some(Box::new(move || {
        other.vhost.delete_queue(&mut other.router, b"q", false, false, other.id).unwrap();
    }));
    assert_eq!(c.publish("x", "k", "1"), Published::Unroutable);
    assert_eq!(committed(&c), [(String::from("1"), Fate::Unroutable, 0)]);
}

#[test]
fn what_there_is_no_room_to_hold_was_not_seen() {
    let mut c = with_type("dedup+hold+direct");
    c.vhost.set_hold_limits(HoldLimits { messages_max: 0, ..HoldLimits::default() });
    for _ in 0..2 {
        let outcome = c.publish_one(delayed("x", "k", "10", "1"));
        assert!(matches!(outcome, Published::Rejected(_)), "{outcome:?}");
    }
    assert_eq!((committed(&c), undone(&c)), (vec![], vec!["1".into(), "1".into()]));
    c.vhost.set_hold_limits(HoldLimits::default());
    assert_eq!(c.publish_one(delayed("x", "k", "10", "1")), Published::Routed);
    assert_eq!(c.publish_one(delayed("x", "k", "10", "1")), Published::Dropped, "now it was");
    c.pass(10);
    assert_eq!(c.drain_bodies("q"), ["1"]);
}

#[test]
fn of_two_publishers_with_the_same_key_one_gets_through_and_the_other_if_the_first_does_not() {
    for gate in [None, Some(Gate::Reject), Some(Gate::Trap), Some(Gate::Park)] {
        let mut c = with_type("dedup+direct");
        c.exchange(exchange("y", "fanout"));
        c.bind("x", BindTo::Exchange(b"y"), "k");
        let mut other = c.sibling();
        // The first is on its way, and waits for an exchange further on.
        c.router.gate("y", Some(Gate::Pending));
        assert!(c.publish_all(&[message("x", "k", b"1")]).is_empty());
        c.router.gate("y", gate);
        let first = c.publish("x", "k", "1");
        let second = other.publish("x", "k", "1");
        match gate {
            None => assert_eq!((first, second), (Published::Routed, Published::Dropped)),
            Some(gate) => {
                assert!(
                    matches!(first, Published::Rejected(_) | Published::Refused(_)),
                    "{gate:?}: {first:?}"
                );
                assert_eq!(second, Published::Routed, "{gate:?}");
            }
        }
        assert_eq!(c.drain_bodies("q"), ["1"]);
    }
}

#[test]
fn what_is_in_doubt_cuts_the_batch_and_is_asked_again_at_once() {
    let mut c = with_type("dedup+direct");
    let bodies = ["a", "b", "a", "a", "c", "b"];
    let messages = bodies.map(|body| message("x", "k", body.as_bytes()));
    use Published::{Dropped, Routed};
    assert_eq!(c.publish_all(&messages), [Routed, Routed, Dropped, Dropped, Routed, Dropped]);
    assert_eq!(c.drain_bodies("q"), ["a", "b", "c"]);
    assert_eq!(c.router.route_calls, 2, "cut once");
    assert_eq!(c.vhost.drops(b"x", Layer::FRONT), [(Arc::from("duplicate"), 3)]);
    assert_eq!(c.vhost.drops(b"absent", Layer::FRONT), []);
    assert!(undone(&c).is_empty());
}

#[test]
fn what_is_in_doubt_in_a_walk_waits_for_the_batch_itself_and_not_for_a_wake() {
    let mut c = with_type("dedup+direct");
    c.bind("amq.fanout", BindTo::Exchange(b"x"), "");
    let messages = ["1", "1", "2"].map(|body| message("amq.fanout", "k", body.as_bytes()));
    use Published::{Dropped, Routed};
    assert_eq!(c.publish_all(&messages), [Routed, Dropped, Routed]);
    // Mixed: the first leaves it in doubt by one exchange, the second meets it by another.
    let mixed = [message("x", "k", b"3"), message("amq.fanout", "k", b"3"), message("x", "k", b"3")];
    assert_eq!(c.publish_all(&mixed), [Routed, Dropped, Dropped]);
    assert_eq!(c.drain_bodies("q"), ["1", "2", "3"]);
}

#[test]
fn a_copy_may_go_into_a_queue_past_all_exchanges() {
    let mut c = with_type("direct");
    c.queue("copies");
    c.exchange(ExchangeSpec { arguments: text("divert-to", "copies"), ..exchange("d", "divert+direct") });
    c.bind("d", Q, "k");
    let large = "x".repeat(40_000);
    for body in ["1", &large, "3"] {
        assert_eq!(c.publish("d", "k", body), Published::Routed);
    }
    assert_eq!(c.drain_bodies("copies"), c.drain_bodies("q"));
    c.vhost.delete_queue(&mut c.router, b"copies", false, false, c.id).unwrap();
    assert_eq!(c.publish("d", "k", "4"), Published::Routed);
    assert_eq!(c.vhost.later_counters().enqueues_lost, 1);
    assert_eq!(c.run().losses[0].to_string(), "dropped 1 message for queue 'copies': it is not there");
}

#[test]
fn a_new_binding_gets_what_was_stored_before_anything_newer() {
    let mut c = with_type("store+direct");
    for body in ["1", "2"] {
        c.publish("x", "k", body);
    }
    c.queue("new");
    c.bind("x", BindTo::Queue(b"new"), "k");
    c.bind("x", BindTo::Queue(b"new"), "k");
    c.publish("x", "k", "3");
    assert_eq!(c.drain_bodies("new"), ["1", "2", "3"], "bound twice is one binding");
    assert_eq!(c.drain_bodies("q"), ["1", "2", "3"]);
}

#[test]
fn stored_messages_are_published_to_an_exchange_and_again_if_it_cannot_take_them() {
    let mut c = with_type("store+direct");
    c.exchange(exchange("y", "fanout"));
    c.queue("behind");
    c.bind("y", BindTo::Queue(b"behind"), "");
    for body in ["1", "2"] {
        c.publish("x", "k", body);
    }
    c.bind("x", BindTo::Exchange(b"y"), "k");
    assert_eq!(c.drain("behind")[0], (String::from("x"), String::from("k"), String::from("1")));
    for gate in [Gate::Park, Gate::Pending, Gate::Reject] {
        c.unbind("x", BindTo::Exchange(b"y"), "k");
        c.router.gate("y", Some(gate));
        c.bind("x", BindTo::Exchange(b"y"), "k");
        assert_eq!(c.ready("behind"), 0);
        c.pass(10);
        c.router.gate("y", None);
        c.pass(60_000);
        assert_eq!(c.drain_bodies("behind"), ["1", "2"], "{gate:?}");
    }
}

#[test]
fn types_hear_of_bindings_in_order_however_they_end() {
    let mut c = Connection::first();
    c.exchange(exchange("x", "direct"));
    c.exchange(exchange("y", "fanout"));
    // Goes with its only queue, and so is told as closed.
    c.exchange(ExchangeSpec { auto_delete: true, ..exchange("z", "fanout") });
    c.queue("only");
    c.bind("z", BindTo::Queue(b"only"), "");
    c.vhost.delete_queue(&mut c.router, b"only", false, false, c.id).unwrap();
    assert_eq!(std::mem::take(&mut c.router.memory.lock().unwrap().changes), ["+only"]);
    for q in ["a", "b", "c"] {
        c.queue(q);
        c.bind("x", BindTo::Queue(q.as_bytes()), "k");
    }
    c.bind("x", BindTo::Exchange(b"y"), "k");
    c.unbind("x", BindTo::Queue(b"a"), "k");
    c.bind("x", BindTo::Queue(b"a"), "k");
    c.vhost.delete_queue(&mut c.router, b"b", false, false, c.id).unwrap();
    c.vhost.delete_exchange(&mut c.router, b"y", false).unwrap();
    // Gone without a router at hand: told before the next change.
    let other = c.sibling();
    c.vhost
        .declare_queue(leveret_broker::QueueSpec { exclusive: true, ..kit::queue("own") }, other.id)
        .unwrap();
    c.vhost.bind(&mut c.router, b"x", BindTo::Queue(b"own"), b"k", Table::new(), other.id).unwrap();
    drop(other);
    c.bind("x", BindTo::Queue(b"c"), "other");
    c.vhost.delete_exchange(&mut c.router, b"x", false).unwrap();
    let changes = c.router.memory.lock().unwrap().changes.join(" ");
    assert_eq!(changes, "+a +b +c +y -a +a -b -y +own -own +c", "a deleted exchange is told as closed");
    assert_eq!(c.router.closed.len(), 3);
}

/// Publishers of random batches through exchanges that deduplicate and now and then do not answer:
/// what was accepted is there once, what was not has left nothing.
#[test]
fn nothing_is_lost_and_nothing_doubled_whatever_exchanges_do() {
    for seed in 1..=200 {
        let mut random = Random(seed);
        let mut c = with_type("dedup+direct");
        c.exchange(exchange("y", "fanout"));
        c.bind("x", BindTo::Exchange(b"y"), "k");
        c.bind("amq.fanout", BindTo::Exchange(b"x"), "");
        let mut accepted = Vec::new();
        for _ in 0..40 {
            let gate = [None, None, Some(Gate::Reject), Some(Gate::Pending), Some(Gate::Trap)];
            c.router.gate("y", gate[random.below(5) as usize]);
            let bodies: Vec<String> =
                (0..1 + random.below(6)).map(|_| random.below(60).to_string()).collect();
            let messages: Vec<_> = bodies
                .iter()
                .map(|body| {
                    let to = if random.below(3) == 0 { "amq.fanout" } else { "x" };
                    message(to, "k", body.as_bytes())
                })
                .collect();
            for (body, outcome) in bodies.iter().zip(c.publish_all(&messages)) {
                match outcome {
                    Published::Routed => accepted.push(body.clone()),
                    Published::Dropped => assert!(accepted.contains(body), "dropped as a duplicate"),
                    Published::Rejected(_) => assert!(!accepted.contains(body)),
                    outcome => panic!("{outcome:?}"),
                }
            }
        }
        assert_eq!(c.drain_bodies("q"), accepted, "seed {seed}");
        let memory = c.router.memory.lock().unwrap();
        assert!(memory.in_doubt.is_empty());
        assert_eq!(memory.seen.len(), accepted.len());
    }
}

#[test]
fn a_message_that_is_held_in_one_branch_and_delivered_in_another_is_both() {
    let mut c = with_type("dedup+hold+direct");
    c.queue("at-once");
    c.bind("amq.fanout", BindTo::Exchange(b"x"), "");
    c.bind("amq.fanout", BindTo::Queue(b"at-once"), "");
    assert_eq!(c.publish_one(delayed("amq.fanout", "k", "50", "1")), Published::Routed);
    assert_eq!((c.ready("q"), c.ready("at-once")), (0, 1));
    c.pass(50);
    assert_eq!(c.drain("q"), [(String::from("amq.fanout"), String::from("k"), String::from("1"))]);
    assert_eq!(committed(&c), [(String::from("1"), Fate::Routed, 0)], "once, when it was accepted");
    // Also if by then there is no queue: it is held, and so not unroutable.
    c.drain("at-once");
    let mut other = c.sibling();
    c.router.after_route = Some(Box::new(move || {
        other.vhost.delete_queue(&mut other.router, b"at-once", false, false, other.id).unwrap();
    }));
    assert_eq!(c.publish_one(delayed("amq.fanout", "k", "50", "2")), Published::Routed);
    assert_eq!(committed(&c)[1].1, Fate::Routed);
}
