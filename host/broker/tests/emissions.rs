//! What exchange types emit: how much of it has room, whose that is, and that it ends.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, delayed, exchange, message};
use leveret_broker::{
    BindTo, ExchangeSpec, NoRoom, Published,
    later::{EMISSIONS_MAX, OUTBOX_LIMITS, TIMER_PAUSE_MS_MIN},
};
use leveret_model::{Table, Value};

/// An exchange that emits so many copies of a message to another.
fn emitting(c: &mut Connection, name: &str, to: &str, copies: u64) {
    let text = |value: &str| Value::Text(String::from(value));
    let arguments: Table =
        [(kit::name("emit-to"), text(to)), (kit::name("copies"), text(&copies.to_string()))]
            .into_iter()
            .collect();
    c.exchange(ExchangeSpec { arguments, ..exchange(name, "emit+direct") });
}

fn with_queues() -> Connection {
    let mut c = Connection::first();
    for queue in ["q", "copies"] {
        c.queue(queue);
    }
    c.bind("amq.fanout", BindTo::Queue(b"copies"), "");
    c
}

fn nothing_is_kept(c: &Connection) {
    assert_eq!((c.vhost.held(), c.vhost.memory().bytes()), ((0, 0), 0));
}

#[test]
fn what_finds_no_room_for_what_it_emits_is_not_accepted_and_leaves_nothing() {
    let mut c = with_queues();
    emitting(&mut c, "x", "amq.fanout", 10_000);
    c.bind("x", BindTo::Queue(b"q"), "k");
    let half = OUTBOX_LIMITS.messages_max / 2;
    let accepted = (0..20).take_while(|_| c.publish("x", "k", "1") == Published::Routed).count() as u64;
    assert_eq!(accepted, half / 10_000, "half of the room for one that emits");
    let refused = c.publish("x", "k", "2");
    let Published::Full(NoRoom { why, queue: None }) = &refused else { panic!("{refused:?}") };
    assert!(why.contains("plugin 'x'") && why.contains("100000"), "{why}");
    assert_eq!(c.router.memory.lock().unwrap().no_room, [why.to_string(), why.to_string()]);
    assert_eq!(c.drain_bodies("q").len() as u64, accepted, "and what was refused is in no queue");
    c.pass(0);
    assert_eq!(c.drain_bodies("copies").len() as u64, accepted * 10_000, "nothing is lost");
    assert_eq!(c.vhost.later_counters().emissions_lost, 0);
    assert_eq!(c.publish("x", "k", "3"), Published::Routed, "there is room again");
    c.pass(0);
    c.drain("q");
    c.drain("copies");
    nothing_is_kept(&c);
}

#[test]
fn of_a_batch_those_are_accepted_that_find_room() {
    let mut c = with_queues();
    emitting(&mut c, "x", "amq.fanout", 10_000);
    c.bind("x", BindTo::Queue(b"q"), "k");
    let bodies: Vec<String> = (0..12).map(|i| i.to_string()).collect();
    let messages: Vec<_> = bodies.iter().map(|body| message("x", "k", body.as_bytes())).collect();
    let outcomes = c.publish_all(&messages);
    let routed = outcomes.iter().filter(|outcome| **outcome == Published::Routed).count();
    assert_eq!((routed, outcomes.len()), (10, 12), "{outcomes:?}");
    assert_eq!(c.drain_bodies("q"), bodies[..10]);
    c.pass(0);
    assert_eq!(c.drain_bodies("copies").len(), 100_000);
    nothing_is_kept(&c);
}

#[test]
fn a_storm_of_one_leaves_room_for_another() {
    let mut c = with_queues();
    emitting(&mut c, "storm", "amq.fanout", 10_000);
    emitting(&mut c, "other", "amq.fanout", 100);
    assert!((0..20).any(|_| matches!(c.publish("storm", "k", "1"), Published::Full(_))));
    for _ in 0..100 {
        assert_eq!(c.publish("other", "k", "2"), Published::Unroutable);
    }
    c.pass(0);
    let bodies = c.drain_bodies("copies");
    assert_eq!(bodies.iter().filter(|body| *body == "2").count(), 10_000);
    nothing_is_kept(&c);
}

#[test]
fn where_the_queue_that_is_to_have_a_copy_is_full_the_message_is_not_accepted() {
    let mut c = Connection::first();
    c.queue("q");
    let limited: Table = [
        (kit::name("x-max-length"), Value::Integer(2)),
        (kit::name("x-overflow"), Value::Text("reject-publish".into())),
    ]
    .into_iter()
    .collect();
    c.vhost
        .declare_queue(leveret_broker::QueueSpec { arguments: limited, ..kit::queue("copies") }, c.id)
        .unwrap();
    let arguments = kit::text("divert-to", "copies");
    c.exchange(ExchangeSpec { arguments, ..exchange("d", "divert+direct") });
    c.bind("d", BindTo::Queue(b"q"), "k");
    for body in ["1", "2"] {
        assert_eq!(c.publish("d", "k", body), Published::Routed);
    }
    assert!(matches!(c.publish("d", "k", "3"), Published::Full(_)));
    assert_eq!(
        (c.drain_bodies("q"), c.vhost.later_counters().queues_full),
        (vec!["1".into(), "2".into()], 0)
    );
    c.drain("copies");
    assert_eq!(c.publish("d", "k", "3"), Published::Routed);
}

#[test]
fn what_descends_from_one_message_by_emissions_ends_after_so_many() {
    let mut c = with_queues();
    emitting(&mut c, "x", "x", 50);
    c.bind("x", BindTo::Queue(b"q"), "k");
    assert_eq!(c.publish("x", "k", "1"), Published::Routed);
    let mut losses = Vec::new();
    while let ran = c.run()
        && (ran.more || !ran.losses.is_empty())
    {
        losses.extend(ran.losses);
    }
    let counters = c.vhost.later_counters();
    // 50, of 199 each; 2,500, of 2 each; 5,000 of theirs.
    assert_eq!(counters.emitted, 50 + 2_500 + 5_000);
    assert!(counters.emitted <= u64::from(EMISSIONS_MAX));
    assert_eq!(c.drain_bodies("q").len() as u64, 1 + counters.emitted);
    let told: Vec<_> = losses.iter().map(ToString::to_string).collect();
    assert!(told.iter().all(|loss| loss.contains("plugin 'x'") && loss.contains("to 'x'")), "{told:?}");
    assert_eq!(losses.iter().map(|loss| loss.count).sum::<u64>(), counters.emissions_lost);
    nothing_is_kept(&c);
}

#[test]
fn all_that_one_message_may_come_to_may_be_emitted_at_once() {
    let mut c = with_queues();
    emitting(&mut c, "x", "y", u64::from(EMISSIONS_MAX));
    emitting(&mut c, "y", "amq.fanout", 1);
    c.bind("y", BindTo::Queue(b"q"), "k");
    c.publish("x", "k", "1");
    c.pass(0);
    assert_eq!((c.drain_bodies("q").len(), c.drain_bodies("copies").len()), (EMISSIONS_MAX as usize, 0));
    assert_eq!(c.vhost.later_counters().emissions_lost, u64::from(EMISSIONS_MAX));
    nothing_is_kept(&c);
}

#[test]
fn a_piece_of_work_is_smaller_where_it_takes_long() {
    let mut c = with_queues();
    emitting(&mut c, "x", "amq.fanout", 2_000);
    c.publish("x", "k", "1");
    let (mut pieces, mut before) = (Vec::new(), 0);
    while c.vhost.next_due_ms().is_some() {
        // Each question takes so long that it shows.
        let memory = c.router.memory.clone();
        c.router.after_route = Some(Box::new(move || memory.lock().unwrap().now_ms += 10));
        c.run();
        let now = c.vhost.later_counters().emitted;
        pieces.push(now - before);
        before = now;
    }
    assert_eq!(pieces.iter().sum::<u64>(), 2_000);
    assert!(pieces[0] > 1 && pieces[pieces.len() - 2] == 1, "{pieces:?}");
}

#[test]
fn a_timer_is_called_at_most_so_often() {
    let mut c = Connection::first();
    c.exchange(exchange("x", "timer+direct"));
    c.publish_one(delayed("x", "again", "5", ""));
    c.publish_one(delayed("x", "other", "7", ""));
    for _ in 0..40 {
        c.pass(1);
    }
    let fired = c.router.memory.lock().unwrap().fired.clone();
    // The kit's sets itself anew for the moment at which it was called.
    let next = 5 + TIMER_PAUSE_MS_MIN;
    assert_eq!(fired[..3], ["again@5".to_owned(), "other@7".into(), format!("again@{next}")], "{fired:?}");
    assert_eq!(fired.len(), 5, "{fired:?}");
}
