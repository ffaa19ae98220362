//! Dead letters at exchanges whose types hold, have effects, or cut a batch.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, Gate, Random, exchange, message, name, text, with_dead_letters};
use leveret_amqp091::properties::MessageProperties;
use leveret_broker::{
    BACK_OFF_MS_FIRST, BACK_OFF_MS_MAX, BindTo, DeadLetterCounts, ExchangeSpec, Published, Settle,
    later::HoldLimits,
    port::{Fate, Layer},
};
use leveret_model::{MessageView, Table, Value};
use std::{collections::HashSet, sync::Arc};

/// A queue `work` whose dead letters go to an exchange `dlx` of this type, and from there to `dead`.
fn with_type(type_name: &str) -> Connection {
    let mut c = Connection::first();
    c.queue("dead");
    c.exchange(exchange("dlx", type_name));
    c.bind("dlx", BindTo::Queue(b"dead"), "work");
    c.vhost.declare_queue(with_dead_letters("work", "dlx", None), c.id).unwrap();
    c.router.memory.lock().unwrap().watched = Some((c.vhost.clone(), "dead"));
    c
}

/// Publishes to `work`, with a header `delay` if there is one.
fn publish(c: &mut Connection, body: &str, delay_ms: Option<i64>) {
    let headers = delay_ms.map(|delay_ms| Table::from_iter([(name("delay"), Value::Integer(delay_ms))]));
    let properties = MessageProperties { headers, ..MessageProperties::default() }.encode();
    let message = MessageView { properties: &properties, ..message("", "work", body.as_bytes()) };
    assert_eq!(c.publish_one(message), Published::Routed);
}

/// Rejects all that is in `work`.
fn reject(c: &mut Connection) {
    while c.get("work").is_some() {}
    c.client.settle(1, 0, true, Settle::Rejected).unwrap();
}

/// Sends what is dead or was refused and is due after a time.
fn send_after(c: &mut Connection, milliseconds: u64) {
    c.router.memory.lock().unwrap().now_ms += milliseconds;
    c.client.dead_letter(&mut c.router);
}

fn counts(c: &Connection) -> DeadLetterCounts {
    c.vhost.queue(b"work").unwrap().dead_lettering().unwrap().counts()
}

fn committed(c: &Connection) -> Vec<(String, Fate, u64)> {
    c.router.memory.lock().unwrap().committed.clone()
}

/// How many letters are not where they should go, and how many messages lie in `work`.
fn left(c: &Connection) -> (usize, u64) {
    (c.client.dead_letters_waiting(), c.vhost.queue(b"work").unwrap().unsettled())
}

#[test]
fn a_letter_that_is_held_goes_on_when_it_is_due() {
    let mut c = with_type("hold+direct");
    let large = "x".repeat(40_000);
    publish(&mut c, "1", Some(50));
    publish(&mut c, "2", None);
    publish(&mut c, &large, Some(50));
    reject(&mut c);
    send_after(&mut c, 0);
    assert_eq!((left(&c), c.vhost.hold_count(b"dlx")), ((0, 0), 2));
    assert_eq!(counts(&c), DeadLetterCounts { routed: 3, ..Default::default() });
    assert_eq!(c.drain_bodies("dead"), ["2"]);
    c.pass(49);
    assert_eq!(c.ready("dead"), 0);
    c.pass(1);
    let dlx = |body: &str| (String::from("dlx"), String::from("work"), String::from(body));
    assert_eq!(c.drain("dead"), [dlx("1"), dlx(&large)]);
    assert_eq!((c.vhost.held(), c.vhost.memory().bytes()), ((0, 0), 0));
}

#[test]
fn a_letter_that_was_held_keeps_its_history() {
    let mut c = with_type("hold+direct");
    c.unbind("dlx", BindTo::Queue(b"dead"), "work");
    c.bind("dlx", BindTo::Queue(b"work"), "work");
    publish(&mut c, "1", Some(50));
    for _ in 0..3 {
        reject(&mut c);
        send_after(&mut c, 0);
        c.pass(50);
    }
    let mut deaths = None;
    c.client
        .get(1, b"work", true, &mut c.router, &mut |got| deaths = got.message.header(&name("x-death")))
        .unwrap();
    let Some(Value::List(deaths)) = deaths else { panic!("{deaths:?}") };
    let [Value::Map(death)] = &deaths[..] else { panic!("{deaths:?}") };
    let count = death.iter().find(|(key, _)| key.as_text() == Some("count"));
    assert_eq!(count.unwrap().1, Value::Integer(3));
}

#[test]
fn a_letter_for_which_there_is_no_room_stays_in_its_queue() {
    let mut c = with_type("hold+direct");
    c.vhost.set_hold_limits(HoldLimits { messages_max: 1, ..HoldLimits::default() });
    publish(&mut c, "1", Some(50));
    publish(&mut c, "2", Some(50));
    reject(&mut c);
    send_after(&mut c, 0);
    assert_eq!((left(&c), c.vhost.hold_count(b"dlx")), ((1, 1), 1));
    assert_eq!(counts(&c), DeadLetterCounts { routed: 1, refused: 1, ..Default::default() });
    c.pass(50);
    send_after(&mut c, BACK_OFF_MS_FIRST);
    assert_eq!((left(&c), c.vhost.hold_count(b"dlx")), ((0, 0), 1));
    c.pass(50);
    assert_eq!(c.drain_bodies("dead"), ["1", "2"]);
    assert_eq!(c.vhost.memory().bytes(), 0);
}

#[test]
fn effects_are_committed_once_the_letter_is_in_its_queues_and_out_of_its_own() {
    let mut c = with_type("store+direct");
    c.router.memory.lock().unwrap().settled = Some((c.vhost.clone(), "work"));
    c.exchange(exchange("drop", "drop"));
    publish(&mut c, "1", None);
    publish(&mut c, "2", None);
    reject(&mut c);
    send_after(&mut c, 0);
    c.unbind("dlx", BindTo::Queue(b"dead"), "work");
    publish(&mut c, "3", None);
    reject(&mut c);
    send_after(&mut c, 0);
    c.bind("dlx", BindTo::Exchange(b"drop"), "work");
    publish(&mut c, "4", None);
    reject(&mut c);
    send_after(&mut c, 0);
    let of = |body: &str, fate| (String::from(body), fate, 2);
    let (routed, unroutable, dropped) = (Fate::Routed, Fate::Unroutable, Fate::Dropped);
    assert_eq!(committed(&c), [of("1", routed), of("2", routed), of("3", unroutable), of("4", dropped)]);
    assert!(c.router.memory.lock().unwrap().undone.is_empty());
    assert_eq!(left(&c), (0, 0));
}

#[test]
fn a_letter_that_is_refused_or_waits_has_no_effects() {
    let mut c = with_type("dedup+direct");
    c.exchange(exchange("y", "fanout"));
    c.bind("dlx", BindTo::Exchange(b"y"), "work");
    publish(&mut c, "1", None);
    reject(&mut c);
    for gate in [Gate::Reject, Gate::Trap, Gate::Park, Gate::Pending] {
        c.router.gate("y", Some(gate));
        send_after(&mut c, BACK_OFF_MS_MAX);
        assert_eq!((left(&c), c.ready("dead")), ((1, 1), 0), "{gate:?}");
        assert_eq!(std::mem::take(&mut c.router.memory.lock().unwrap().undone), ["1"], "{gate:?}");
        assert!(c.router.memory.lock().unwrap().in_doubt.is_empty());
    }
    assert_eq!((committed(&c), counts(&c).refused), (vec![], 3));
    c.router.gate("y", None);
    send_after(&mut c, 0);
    assert_eq!((left(&c), c.drain_bodies("dead")), ((0, 0), vec![String::from("1")]));
    assert_eq!(committed(&c), [(String::from("1"), Fate::Routed, 1)], "once");
}

#[test]
fn what_a_type_wants_for_a_letter_is_done_once_and_not_for_one_that_is_refused() {
    let mut c = with_type("direct");
    c.queue("copies");
    c.queue("emitted");
    c.bind("amq.fanout", BindTo::Queue(b"emitted"), "");
    let mut arguments = text("divert-to", "copies");
    arguments.push(name("emit-to"), Value::Text("amq.fanout".into()));
    c.exchange(ExchangeSpec { arguments, ..exchange("acting", "divert+emit+direct") });
    c.exchange(exchange("y", "fanout"));
    c.bind("dlx", BindTo::Exchange(b"acting"), "work");
    c.bind("acting", BindTo::Exchange(b"y"), "work");
    c.router.gate("y", Some(Gate::Reject));
    publish(&mut c, "1", None);
    reject(&mut c);
    send_after(&mut c, 0);
    c.run();
    assert_eq!((c.ready("copies"), c.ready("emitted"), c.ready("dead")), (0, 0, 0));
    c.router.gate("y", None);
    send_after(&mut c, BACK_OFF_MS_FIRST);
    c.run();
    assert_eq!((c.ready("copies"), c.ready("emitted"), c.ready("dead")), (1, 1, 1));
}

#[test]
fn a_cut_batch_loses_and_doubles_nothing() {
    let mut c = with_type("dedup+direct");
    for body in ["a", "b", "a", "a", "c", "b"] {
        publish(&mut c, body, None);
    }
    reject(&mut c);
    c.router.route_calls = 0;
    send_after(&mut c, 0);
    assert_eq!(c.router.route_calls, 2, "cut once, and the rest asked at once");
    assert_eq!((left(&c), c.drain_bodies("dead")), ((0, 0), ["a", "b", "c"].map(String::from).to_vec()));
    assert_eq!(counts(&c), DeadLetterCounts { routed: 3, dropped: 3, ..Default::default() });
    assert_eq!(c.vhost.drops(b"dlx", Layer::FRONT), [(Arc::from("duplicate"), 3)]);
    assert_eq!((committed(&c).len(), c.vhost.memory().bytes()), (3, 0));
}

#[test]
fn what_only_a_deleted_queue_would_have_taken_is_unroutable() {
    let mut c = with_type("store+direct");
    publish(&mut c, "1", None);
    reject(&mut c);
    let mut other = c.sibling();
    c.router.after_route = Some(Box::new(move || {
        other.vhost.delete_queue(&mut other.router, b"dead", false, false, other.id).unwrap();
    }));
    send_after(&mut c, 0);
    assert_eq!(counts(&c), DeadLetterCounts { unroutable: 1, ..Default::default() });
    assert_eq!(committed(&c), [(String::from("1"), Fate::Unroutable, 0)]);
}

/// Rejections in random batches through an exchange that deduplicates, to one that now and then does
/// not answer: what is new is there once in the end, what is not was dropped.
#[test]
fn nothing_is_lost_and_nothing_doubled_whatever_exchanges_do() {
    for seed in 1..=100 {
        let mut random = Random(seed);
        let mut c = with_type("dedup+direct");
        c.exchange(exchange("y", "fanout"));
        c.bind("dlx", BindTo::Exchange(b"y"), "work");
        let (mut rejected, mut bodies) = (0, HashSet::new());
        for _ in 0..40 {
            let gate = [None, None, Some(Gate::Reject), Some(Gate::Pending), Some(Gate::Trap)];
            c.router.gate("y", gate[random.below(5) as usize]);
            for _ in 0..random.below(6) {
                let body = random.below(60).to_string();
                publish(&mut c, &body, None);
                bodies.insert(body);
                rejected += 1;
            }
            reject(&mut c);
            send_after(&mut c, random.below(200));
            assert!(c.router.memory.lock().unwrap().in_doubt.is_empty());
            assert_eq!(counts(&c).routed, c.ready("dead"));
        }
        c.router.gate("y", None);
        send_after(&mut c, BACK_OFF_MS_MAX);
        assert_eq!(left(&c), (0, 0));
        let arrived = c.drain_bodies("dead");
        assert_eq!(arrived.iter().cloned().collect::<HashSet<_>>(), bodies, "seed {seed}");
        assert_eq!(arrived.len(), bodies.len(), "seed {seed}");
        let (routed, dropped) = (counts(&c).routed, counts(&c).dropped);
        assert_eq!((routed, routed + dropped), (bodies.len() as u64, rejected));
        assert_eq!(c.router.memory.lock().unwrap().committed.len(), bodies.len());
        assert_eq!(c.vhost.memory().bytes(), 0);
    }
}
