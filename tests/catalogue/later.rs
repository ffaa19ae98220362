//! What is to happen later outlives the process where its exchange is durable: messages that are held count against their
//! plugin's limit, and timers fire.

use crate::{
    disk::Disk,
    life::{HELD_MAX, Life},
};
use leveret_broker::Published;
use leveret_model::Value;
use std::time::{Duration, Instant};

/// Holds a message for an hour.
const HOLD: &str = "hold 3600000";
/// Nothing here takes so long.
const WAIT_MAX: Duration = Duration::from_secs(60);

fn is_held(life: &mut Life) -> bool {
    match life.publish(HOLD, "m") {
        Published::Routed => true,
        Published::Rejected(why) => {
            assert!(why.contains("held"), "{why}");
            false
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn messages_held_from_before_a_start_count_for_the_plugin_that_comes_later() {
    let disk = Disk::new();
    let mut life = Life::begin(&disk);
    life.deploy_obeys();
    life.declare("x-obeys", true, &[]).unwrap();
    assert!((0..HELD_MAX).all(|_| is_held(&mut life)) && !is_held(&mut life));
    drop(life);

    // Its file is there a moment later than the exchanges, and is another's meanwhile.
    let mut life = Life::begin(&disk);
    assert_eq!(life.vhost.held().0, HELD_MAX);
    life.deploy_obeys();
    assert!(!is_held(&mut life), "all that may be held is");
    let held = life.vhost.holds(b"x", 0, 1);
    assert!(life.vhost.cancel_hold(held[0].id));
    assert!(is_held(&mut life) && !is_held(&mut life), "one went, and one has its place");
    life.vhost.cancel_holds(b"x");
    assert!((0..HELD_MAX).all(|_| is_held(&mut life)) && !is_held(&mut life), "and once only");
}

#[test]
fn messages_held_from_before_a_start_count_for_a_plugin_that_came_with_the_broker() {
    let disk = Disk::new();
    let arguments = [("x-delayed-type", Value::Text("direct".into()))];
    let mut life = Life::with(&disk, "x-delayed-message", &arguments);
    let held = |life: &mut Life| life.publish_delayed("k", 3_600_000);
    for _ in 0..HELD_MAX {
        assert_eq!(held(&mut life), Published::Routed);
    }
    drop(life);
    let mut life = Life::begin(&disk);
    assert_eq!(life.vhost.held().0, HELD_MAX);
    let refused = held(&mut life);
    assert!(matches!(&refused, Published::Rejected(why) if why.contains("held")), "{refused:?}");
}

/// Fires what is due until a queue has so many messages.
fn fire_until(life: &mut Life, queue: &str, count: u64) {
    let began = Instant::now();
    while life.count(queue) < count {
        assert!(began.elapsed() < WAIT_MAX, "{} of {count}", life.count(queue));
        life.vhost.run_errands(&mut life.worker);
        std::thread::yield_now();
    }
}

#[test]
fn a_timer_fires_after_a_start_and_once_only() {
    let disk = Disk::new();
    let mut life = Life::begin(&disk);
    life.deploy_obeys();
    life.declare("x-obeys", true, &[]).unwrap();
    life.bind("fired", "");
    life.bind("again", "");
    // Nothing fires without somebody who has it done.
    assert_eq!(life.publish("timer fired 1", "m"), Published::Routed);
    assert_eq!(life.publish("timer never 1;timer later 3600000;timer again 3600000", "m"), Published::Routed);
    assert_eq!(life.publish("untimer never;timer again 2", "m"), Published::Routed);
    assert_eq!(life.publish("timer unwritten 1;reject no", "m"), Published::Rejected("no".into()));
    assert_eq!(life.vhost.restored().timers, 0);
    drop(life);

    let mut life = Life::begin(&disk);
    assert_eq!(life.vhost.restored().timers, 3, "fired, later, again");
    life.queue("fired");
    life.queue("again");
    life.vhost.run_errands(&mut life.worker);
    assert_eq!(life.count("fired"), 0, "its plugin is not there");
    life.deploy_obeys();
    fire_until(&mut life, "fired", 1);
    fire_until(&mut life, "again", 1);
    drop(life);

    let mut life = Life::begin(&disk);
    assert_eq!(life.vhost.restored().timers, 1, "what fired is over");
    life.vhost.delete_exchange(&mut life.worker, b"x", false).unwrap();
    drop(life);
    assert_eq!(Life::begin(&disk).vhost.restored().timers, 0);
}

#[test]
fn a_timer_of_an_exchange_that_ends_with_the_process_does_too() {
    let disk = Disk::new();
    let mut life = Life::begin(&disk);
    life.deploy_obeys();
    life.declare("x-obeys", false, &[]).unwrap();
    assert_eq!(life.publish("anyway;timer fired 1", "m"), Published::Unroutable);
    assert_eq!(disk.len(), 0);
}
