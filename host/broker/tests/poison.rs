//! What is refused each time that it is tried is not tried for ever: it stays, is seen, can be dropped,
//! and is tried again when what answers has changed.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, Gate, Native, delayed, exchange, message, with_dead_letters};
use leveret_broker::{
    BindTo, DeadLetterCounts, REFUSALS_MAX, Settle,
    later::{RELEASE_TRIES_MAX, TIMER_TRIES_MAX, Why},
};

/// Longer than anything waits for.
const LONG_MS: u64 = 1_000_000;

/// Lets much time pass in small steps; gives what was told.
fn live(c: &mut Connection, run: impl Fn(&mut Connection)) -> Vec<Why> {
    let mut told = Vec::new();
    for _ in 0..LONG_MS / 20_000 {
        c.router.memory.lock().unwrap().now_ms += 20_000;
        run(c);
        loop {
            let ran = c.run();
            told.extend(ran.losses.into_iter().map(|loss| loss.why));
            if !ran.more {
                break;
            }
        }
    }
    told
}

/// An exchange `x` that holds, with the queue `q`, and a message that it refuses when its time comes.
fn held() -> Connection {
    let mut c = Connection::first();
    c.exchange(exchange("x", "hold+direct"));
    c.queue("q");
    c.bind("x", BindTo::Queue(b"q"), "k");
    c.publish_one(delayed("x", "k", "10", "poison"));
    c.router.gate("x", Some(Gate::Trap));
    c
}

#[test]
fn a_held_message_is_set_aside_after_so_many_refusals() {
    let mut c = held();
    let calls = c.router.route_calls;
    let told = live(&mut c, |_| {});
    assert!(matches!(told.as_slice(), [Why::HoldStuck(why)] if why.contains("trap")), "{told:?}");
    assert_eq!(c.router.route_calls - calls, RELEASE_TRIES_MAX as usize);
    let [hold] = &c.vhost.holds(b"x", 0, 10)[..] else { panic!("it is listed") };
    assert!(hold.stuck.as_ref().is_some_and(|why| why.contains("trap")));
    assert_eq!((hold.tries, c.vhost.hold_count(b"x"), c.vhost.stuck_count(b"x")), (RELEASE_TRIES_MAX, 1, 1));
    assert_eq!(c.vhost.later_counters().holds_stuck, 1);
    // Others of the exchange go on.
    c.router.gate("x", None);
    c.publish_one(delayed("x", "k", "10", "good"));
    c.pass(10);
    assert_eq!(c.drain_bodies("q"), ["good"]);
    assert!(live(&mut c, |_| {}).is_empty(), "nothing has changed that concerns it");
    assert_eq!(c.vhost.stuck_count(b"x"), 1);
    assert!(c.vhost.cancel_hold(c.vhost.holds(b"x", 0, 1)[0].id));
    assert_eq!((c.vhost.held(), c.vhost.hold_count(b"x")), ((0, 0), 0));
}

#[test]
fn it_is_tried_again_when_bindings_or_plugins_change() {
    let changes: [fn(&mut Connection); 2] =
        [|c| c.bind("x", BindTo::Queue(b"q"), "other"), |c| c.router.plugins_generation += 1];
    for change in changes {
        let mut c = held();
        live(&mut c, |_| {});
        c.router.gate("x", None);
        change(&mut c);
        live(&mut c, |_| {});
        assert_eq!((c.drain_bodies("q"), c.vhost.hold_count(b"x")), (vec!["poison".into()], 0));
        assert_eq!(c.vhost.held(), (0, 0));
    }
}

/// The type is served anew, by the very same code: that would refuse it as before.
#[test]
fn the_same_code_once_more_is_no_reason_to_try_again() {
    let mut c = held();
    live(&mut c, |_| {});
    c.router.gate("x", None);
    c.vhost.exchange(b"x").unwrap().type_changed();
    assert!(live(&mut c, |_| {}).is_empty());
    assert_eq!((c.vhost.stuck_count(b"x"), c.ready("q")), (1, 0));
}

/// Other code is a reason once: as often as at first, and it is told.
#[test]
fn other_code_is_a_reason_to_try_as_often_as_at_first() {
    let mut c = held();
    live(&mut c, |_| {});
    let calls = c.router.route_calls;
    c.vhost.exchange(b"x").unwrap().type_changed();
    c.router.plugins_generation += 1;
    let told = live(&mut c, |_| {});
    assert!(matches!(told.as_slice(), [Why::HoldAgain, Why::HoldStuck(_)]), "{told:?}");
    assert_eq!(c.router.route_calls - calls, RELEASE_TRIES_MAX as usize);
    assert_eq!((c.vhost.stuck_count(b"x"), c.vhost.later_counters().tried_again), (1, 1));
}

#[test]
fn what_is_set_aside_goes_with_its_exchange() {
    for cancel in [true, false] {
        let mut c = held();
        live(&mut c, |_| {});
        match cancel {
            true => assert_eq!(c.vhost.cancel_holds(b"x"), 1),
            false => c.vhost.delete_exchange(&mut c.router, b"x", false).map(drop).unwrap(),
        }
        assert_eq!((c.vhost.held(), c.vhost.memory().bytes()), ((0, 0), 0));
        c.run();
        assert_eq!(c.vhost.next_due_ms(), None);
    }
}

#[test]
fn while_nobody_can_be_asked_no_try_counts() {
    for gate in [Gate::SetAside, Gate::Park] {
        let mut c = held();
        c.router.gate("x", Some(gate));
        assert!(live(&mut c, |_| {}).is_empty(), "{gate:?}");
        assert_eq!((c.vhost.hold_count(b"x"), c.vhost.stuck_count(b"x")), (1, 0));
        c.router.gate("x", None);
        live(&mut c, |_| {});
        assert_eq!(c.drain_bodies("q"), ["poison"]);
    }
}

#[test]
fn a_timer_whose_call_fails_again_and_again_is_given_up() {
    let mut c = Connection::first();
    c.exchange(exchange("x", "timer+direct"));
    // The stage sets a timer of the key's name to the time that the message says.
    c.publish_one(delayed("x", "bad", "1", ""));
    c.router.gate("x", Some(Gate::SetAside));
    assert!(live(&mut c, |_| {}).is_empty(), "set aside, it waits");
    c.router.gate("x", Some(Gate::Trap));
    let told = live(&mut c, |_| {});
    assert!(matches!(told.as_slice(), [Why::TimerFailed(why)] if &**why == "trap"), "{told:?}");
    assert_eq!(c.router.memory.lock().unwrap().failed_timers, TIMER_TRIES_MAX);
    let counters = c.vhost.later_counters();
    assert_eq!((counters.timers_failed, counters.timers_fired), (1, 0));
    assert_eq!(c.vhost.next_due_ms(), None);
    c.router.gate("x", None);
    c.publish_one(delayed("x", "good", "1", ""));
    c.pass(10);
    assert_eq!(c.router.memory.lock().unwrap().fired.len(), 1);
}

/// A queue `work` whose dead letters go through `dlx` to `dead`, one of them refused each time.
fn dying() -> Connection {
    let mut c = Connection::first();
    c.exchange(exchange("dlx", "fanout"));
    c.queue("dead");
    c.bind("dlx", BindTo::Queue(b"dead"), "");
    c.vhost.declare_queue(with_dead_letters("work", "dlx", None), c.id).unwrap();
    c.router.gate("dlx", Some(Gate::Trap));
    die(&mut c, "poison");
    c
}

fn die(c: &mut Connection, body: &str) {
    c.publish_one(message("", "work", body.as_bytes()));
    let (tag, ..) = c.get("work").unwrap();
    c.client.settle(1, tag, false, Settle::Rejected).unwrap();
    send(c);
}

fn send(c: &mut Connection) {
    c.client.dead_letter(&mut c.router);
}

fn counts(c: &Connection) -> DeadLetterCounts {
    c.vhost.queue(b"work").unwrap().dead_lettering().unwrap().counts()
}

#[test]
fn a_dead_letter_is_set_aside_and_comes_again_when_something_changes() {
    let mut c = dying();
    let told = live(&mut c, send);
    assert!(matches!(told.as_slice(), [Why::LetterStuck(why)] if why.contains("trap")), "{told:?}");
    let refused = u64::from(REFUSALS_MAX);
    assert_eq!(counts(&c), DeadLetterCounts { refused, stuck: 1, ..Default::default() });
    c.router.gate("dlx", None);
    die(&mut c, "good");
    assert!(live(&mut c, send).is_empty());
    assert_eq!(c.drain_bodies("dead"), ["good"]);
    c.vhost.exchange(b"dlx").unwrap().type_changed();
    assert!(live(&mut c, send).is_empty(), "the same code once more");
    assert_eq!(c.ready("dead"), 0);
    c.router.plugins_generation += 1;
    assert_eq!(live(&mut c, send), [Why::LetterAgain]);
    assert_eq!(c.drain_bodies("dead"), ["poison"]);
    assert_eq!((counts(&c).stuck, c.client.dead_letters_waiting()), (0, 0));
    assert_eq!(c.vhost.memory().bytes(), 0);
}

#[test]
fn one_that_is_set_aside_goes_back_to_its_queue_with_its_connection() {
    let mut c = dying();
    live(&mut c, send);
    c.client.close(&mut Native::default());
    assert_eq!((c.ready("work"), counts(&c).stuck), (1, 0));
}

#[test]
fn no_refusal_counts_of_a_letter_that_nobody_was_asked_about() {
    let mut c = dying();
    for gate in [Gate::SetAside, Gate::Park] {
        c.router.gate("dlx", Some(gate));
        assert!(live(&mut c, send).is_empty(), "{gate:?}");
    }
    assert_eq!(counts(&c).stuck, 0);
    c.router.gate("dlx", None);
    live(&mut c, send);
    assert_eq!(c.drain_bodies("dead"), ["poison"]);
}
