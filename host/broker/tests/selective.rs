//! Consumers that want some messages of a queue and not others.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, Delivered, Disk, PERSISTENT, Taken, Wants, message, name, table};
use leveret_broker::{ConsumeSpec, MemoryAccount, QueueSpec, Settle, Vhost};
use leveret_model::{MessageView, Value};
use std::sync::Arc;

fn link(tag: &str, wants: &Arc<Wants>) -> ConsumeSpec {
    ConsumeSpec { queue: name("q"), tag: name(tag), selector: Some(wants.clone()), ..ConsumeSpec::default() }
}

fn with(spec: QueueSpec, bodies: &[&str]) -> Connection {
    let mut c = Connection::first();
    c.vhost.declare_queue(spec, c.id).unwrap();
    publish(&mut c, bodies);
    c
}

fn publish(c: &mut Connection, bodies: &[&str]) {
    let messages: Vec<_> = bodies.iter().map(|body| message("", "q", body.as_bytes())).collect();
    c.publish_all(&messages);
}

/// What is delivered until nobody wakes the connection any more.
fn all(c: &mut Connection) -> Vec<Delivered> {
    let rings = || c.bell.rings.load(std::sync::atomic::Ordering::SeqCst);
    let (mut came, mut before) = (Vec::new(), None);
    while before != Some(rings()) {
        before = Some(rings());
        let mut taken = Taken::default();
        assert!(!c.client.deliver(&mut c.router, &mut taken));
        came.extend(taken.deliveries);
    }
    came
}

fn bodies(c: &mut Connection) -> Vec<String> {
    all(c).into_iter().map(|delivery| String::from_utf8(delivery.body).unwrap()).collect()
}

fn every_kind() -> [QueueSpec; 4] {
    let with = |arguments| QueueSpec { durable: true, arguments, ..kit::queue("q") };
    let text = |text: &str| Value::Text(text.into());
    [
        kit::queue("q"),
        with(table(&[("x-queue-type", text("quorum"))])),
        with(table(&[("x-max-priority", Value::Integer(5))])),
        with(table(&[("x-single-active-consumer", Value::Boolean(true))])),
    ]
}

#[test]
fn a_consumer_gets_what_it_wants_in_order_and_the_rest_stays_for_others() {
    for spec in every_kind() {
        let mut c = with(spec, &["a1", "b1", "a2", "b2"]);
        let a = Wants::beginning("a");
        c.client.consume(1, link("a", &a)).unwrap();
        assert_eq!(bodies(&mut c), ["a1", "a2"]);
        publish(&mut c, &["b3", "a3"]);
        assert_eq!(bodies(&mut c), ["a3"]);
        assert_eq!((c.ready("q"), a.asked()), (3, 6), "each message is judged once");
        c.client.settle(1, 0, true, Settle::Accepted).unwrap();
        assert!(c.client.cancel(1, b"a", &mut c.router));
        c.consume("q", "all", true);
        assert_eq!(bodies(&mut c), ["b1", "b2", "b3"]);
    }
}

#[test]
fn two_share_a_queue_and_one_that_comes_later_gets_what_was_left() {
    let mut c = with(kit::queue("q"), &[]);
    let (a, b) = (Wants::beginning("a"), Wants::beginning("b"));
    c.client.consume(1, link("a", &a)).unwrap();
    c.client.consume(1, link("b", &b)).unwrap();
    publish(&mut c, &["a1", "c1", "b1", "a2", "c2", "b2"]);
    let came = all(&mut c);
    let of = |tag: &str| -> Vec<_> {
        let of = came.iter().filter(|delivery| delivery.consumer == tag);
        of.map(|delivery| String::from_utf8(delivery.body.clone()).unwrap()).collect()
    };
    assert_eq!((of("a"), of("b")), (vec!["a1".into(), "a2".into()], vec!["b1".into(), "b2".into()]));
    assert!(a.asked() <= 6 && b.asked() <= 6);
    c.client.consume(1, link("c", &Wants::beginning("c"))).unwrap();
    assert_eq!(bodies(&mut c), ["c1", "c2"]);
    assert_eq!(c.ready("q"), 0);
}

#[test]
fn what_comes_back_is_at_its_place_again_for_whoever_wants_it() {
    for (spec, first) in [(kit::queue("q"), "a1"), (every_kind()[1].clone(), "a2")] {
        let mut c = with(spec, &["a1", "b1", "a2", "b2"]);
        let a = Wants::beginning("a");
        c.client.consume(1, link("a", &a)).unwrap();
        let tags: Vec<_> = all(&mut c).iter().map(|delivery| delivery.tag).collect();
        a.asked();
        let mut other = c.sibling();
        assert_eq!(other.get("q").unwrap().2, "b1");
        // The later one first.
        for tag in tags.iter().rev() {
            c.client.settle(1, *tag, false, Settle::Requeue { failed: false }).unwrap();
        }
        let again = all(&mut c);
        assert!(again.iter().all(|delivery| delivery.redelivered));
        assert_eq!((again.len(), a.asked()), (2, 2), "only what came back is judged again");
        c.client.cancel(1, b"a", &mut c.router);
        for delivery in &again {
            c.client.settle(1, delivery.tag, false, Settle::Requeue { failed: false }).unwrap();
        }
        assert_eq!(other.get("q").unwrap().2, first);
    }
}

#[test]
fn others_take_from_the_head_whatever_was_taken_behind_it() {
    let mut c = with(kit::queue("q"), &["1", "x2", "3", "x4", "5"]);
    c.client.consume(1, link("x", &Wants::beginning("x"))).unwrap();
    let came = all(&mut c);
    assert_eq!(came.len(), 2);
    let mut other = c.sibling();
    assert_eq!(other.get("q").unwrap().2, "1");
    c.client.cancel(1, b"x", &mut c.router);
    c.client.settle(1, came[1].tag, false, Settle::Requeue { failed: false }).unwrap();
    c.client.settle(1, came[0].tag, false, Settle::Accepted).unwrap();
    let rest: Vec<_> = std::iter::from_fn(|| other.get("q")).map(|(_, _, body)| body).collect();
    assert_eq!(rest, ["3", "x4", "5"]);
}

#[test]
fn credit_and_the_end_of_it_are_those_of_what_is_wanted() {
    let mut c = with(kit::queue("q"), &["b", "a1", "b", "a2", "b", "a3"]);
    let a = Wants::beginning("a");
    c.client.consume(1, ConsumeSpec { credit: Some(0), ..link("a", &a) }).unwrap();
    assert_eq!(bodies(&mut c), [""; 0]);
    c.client.grant(1, b"a", 2);
    assert_eq!(bodies(&mut c), ["a1", "a2"]);
    c.client.grant(1, b"a", 5);
    assert_eq!(bodies(&mut c), ["a3"]);
    // It is told when there is nothing more, which is what a link that drains waits for.
    assert!(!c.client.is_waiting(1, b"a"));
    assert_eq!(a.asked(), 6);
}

#[test]
fn a_consumer_of_a_higher_priority_is_served_first_where_it_wants_a_message() {
    let mut c = with(kit::queue("q"), &[]);
    let arguments = table(&[("x-priority", Value::Integer(5))]);
    c.consume("q", "all", true);
    c.client.consume(1, ConsumeSpec { arguments, ..link("a", &Wants::beginning("a")) }).unwrap();
    publish(&mut c, &["a1", "b1", "a2", "b2"]);
    let mut came: Vec<_> = all(&mut c);
    came.sort_by_key(|delivery| delivery.body.clone());
    let by: Vec<_> = came.iter().map(|delivery| delivery.consumer.as_str()).collect();
    assert_eq!(by, ["a", "a", "all", "all"]);
}

#[test]
fn of_one_active_consumer_what_it_does_not_want_waits_for_the_next() {
    let mut c = with(every_kind()[3].clone(), &["a1", "b1"]);
    c.client.consume(1, link("a", &Wants::beginning("a"))).unwrap();
    c.client.consume(1, link("b", &Wants::beginning("b"))).unwrap();
    publish(&mut c, &["a2", "b2"]);
    assert_eq!(bodies(&mut c), ["a1", "a2"]);
    c.client.settle(1, 0, true, Settle::Accepted).unwrap();
    c.client.cancel(1, b"a", &mut c.router);
    assert_eq!(bodies(&mut c), ["b1", "b2"]);
}

#[test]
fn much_is_judged_in_turns_and_each_message_once() {
    let mut c = with(kit::queue("q"), &[]);
    let bulk = vec!["no"; 5000];
    publish(&mut c, &bulk);
    publish(&mut c, &["yes"]);
    let yes = Wants::beginning("yes");
    c.client.consume(1, link("y", &yes)).unwrap();
    let mut taken = Taken::default();
    c.client.deliver(&mut c.router, &mut taken);
    assert!(yes.asked() < 1000 && c.client.is_waiting(1, b"y"), "others have their turn");
    assert_eq!(bodies(&mut c), ["yes"]);
    publish(&mut c, &bulk);
    assert_eq!(bodies(&mut c), [""; 0]);
    assert!(yes.asked() <= 10_001);
    // Where it has nothing to judge it costs nothing.
    let mut other = c.sibling();
    for _ in 0..100 {
        assert_eq!(other.get("q").unwrap().2, "no");
    }
    assert_eq!((bodies(&mut c).len(), yes.asked()), (0, 0));
}

#[test]
fn what_is_taken_out_of_turn_leaves_no_memory_behind() {
    let account = Arc::new(MemoryAccount::new(1 << 30));
    let mut router = kit::Native::default();
    let vhost = Vhost::new(name("/"), account.clone(), &mut router).unwrap();
    let mut c = Connection { router, ..Connection::to(&vhost) };
    c.vhost.declare_queue(kit::queue("q"), c.id).unwrap();
    c.client.consume(1, link("y", &Wants::beginning("y"))).unwrap();
    let yes = format!("y{}", ".".repeat(1000));
    let mut left = 0;
    for round in 0..200 {
        let mut batch = vec![yes.as_str(); 200];
        batch[round % 200] = "no";
        left += 1;
        publish(&mut c, &batch);
        assert_eq!(all(&mut c).len(), 199, "round {round}");
        c.client.settle(1, 0, true, Settle::Accepted).unwrap();
        c.client.tell_store();
    }
    assert_eq!(c.ready("q"), left);
    c.client.cancel(1, b"y", &mut c.router);
    let drained = c.drain_bodies("q");
    assert_eq!((drained.len() as u64, drained.iter().all(|body| body == "no")), (left, true));
    assert_eq!(account.bytes(), 0);
}

#[test]
fn what_expires_is_not_given_to_whoever_wants_it() {
    let arguments = table(&[("x-message-ttl", Value::Integer(1000))]);
    let mut c = with(QueueSpec { arguments, ..kit::queue("q") }, &["b1", "a1"]);
    let a = Wants::beginning("a");
    c.client.consume(1, ConsumeSpec { credit: Some(0), ..link("a", &a) }).unwrap();
    c.router.memory.lock().unwrap().now_ms += 2000;
    c.client.grant(1, b"a", 10);
    assert_eq!(bodies(&mut c), [""; 0]);
    publish(&mut c, &["b2", "a2"]);
    assert_eq!(bodies(&mut c), ["a2"]);
    c.pass(2000);
    assert_eq!(c.ready("q"), 0);
}

#[test]
fn purge_and_delete_take_what_was_passed_over() {
    let mut c = with(kit::queue("q"), &["b1", "a1", "b2"]);
    c.client.consume(1, link("a", &Wants::beginning("a"))).unwrap();
    assert_eq!(bodies(&mut c), ["a1"]);
    assert_eq!(c.vhost.purge_queue(b"q", c.id).unwrap(), 2);
    publish(&mut c, &["b3", "a2"]);
    assert_eq!(bodies(&mut c), ["a2"]);
    c.client.settle(1, 0, true, Settle::Requeue { failed: false }).unwrap();
    assert_eq!(bodies(&mut c), ["a1", "a2"]);
    c.client.cancel(1, b"a", &mut c.router);
    c.vhost.delete_queue(&mut c.router, b"q", false, false, c.id).unwrap();
    c.client.close_channel(1, &mut c.router);
    assert_eq!(c.vhost.memory().bytes(), 0);
}

/// A body of about a kilobyte.
fn long(number: usize) -> String {
    let wanted = if number % 10 == 3 { "y" } else { "n" };
    format!("{wanted}{number:05}{}", ".".repeat(1000))
}

fn publish_long(c: &mut Connection, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let body = long(number);
        c.publish_one(MessageView { properties: PERSISTENT, ..message("", "q", body.as_bytes()) });
    }
}

fn number_of(body: &str) -> usize {
    body[1..6].parse().unwrap()
}

#[test]
fn a_backlog_on_disk_is_judged_piece_by_piece() {
    const COUNT: usize = 5000;
    for restarts in [false, true] {
        let (disk, account) = (Disk::new(), Arc::new(MemoryAccount::new(1)));
        let start = || {
            let mut router = kit::Native::default();
            let vhost = Vhost::kept_in(disk.clone(), name("/"), account.clone(), &mut router).unwrap();
            Connection { router, ..Connection::to(&vhost) }
        };
        let mut c = start();
        c.vhost.declare_queue(QueueSpec { durable: true, ..kit::queue("q") }, c.id).unwrap();
        publish_long(&mut c, 0..COUNT);
        if restarts {
            drop(c);
            c = start();
        }
        let (yes, reads) = (Wants::beginning("y"), disk.reads());
        c.client.consume(1, link("y", &yes)).unwrap();
        let mut came = Vec::new();
        while came.len() < COUNT / 10 {
            let mut taken = Taken::default();
            c.client.deliver(&mut c.router, &mut taken);
            assert!(account.bytes() < 5 << 20, "{} bytes in memory", account.bytes());
            came.extend(taken.deliveries.into_iter().map(|d| String::from_utf8(d.body).unwrap()));
            // So that it can be let go of again.
            c.client.settle(1, 0, true, Settle::Accepted).unwrap();
            c.client.tell_store();
        }
        let numbers: Vec<_> = came.iter().map(|body| number_of(body)).collect();
        assert_eq!(numbers, (0..COUNT).filter(|number| number % 10 == 3).collect::<Vec<_>>());
        publish_long(&mut c, COUNT..COUNT + 10);
        assert_eq!(bodies(&mut c).len(), 1);
        assert_eq!(yes.asked(), COUNT + 10, "each message is judged once");
        assert!(disk.reads() - reads <= 60, "{} reads", disk.reads() - reads);
        c.client.settle(1, 0, true, Settle::Accepted).unwrap();
        c.client.tell_store();
        c.client.cancel(1, b"y", &mut c.router);
        let rest: Vec<_> = c.drain_bodies("q").iter().map(|body| number_of(body)).collect();
        assert_eq!(rest, (0..COUNT + 10).filter(|number| number % 10 != 3).collect::<Vec<_>>());
        assert_eq!(account.bytes(), 0);
    }
}

/// After an unclean start all of them count as delivered before, though none came back.
#[test]
fn what_was_assigned_is_at_its_place_again_when_a_consumer_goes() {
    const ALL: [&str; 6] = ["a1", "b2", "a3", "b4", "a5", "b6"];
    let (disk, spec) = (Disk::new(), every_kind()[1].clone());
    let mut c = Connection::kept_in(disk.clone(), vec![]);
    c.vhost.declare_queue(spec, c.id).unwrap();
    publish(&mut c, &ALL);
    drop(c);
    let mut c = Connection::kept_in(disk, vec![]);
    let goes = |c: &mut Connection| {
        c.client.consume(1, link("a", &Wants::beginning("a"))).unwrap();
        assert_eq!((c.ready("q"), c.vhost.queue(b"q").unwrap().unsettled()), (3, 3));
        c.client.cancel(1, b"a", &mut c.router);
        assert_eq!(c.ready("q"), 6);
    };
    goes(&mut c);
    let order = |c: &mut Connection| {
        let got: Vec<_> = ALL.iter().map(|_| c.get("q").unwrap()).collect();
        let bodies: Vec<_> = got.iter().map(|(_, _, body)| body.clone()).collect();
        assert_eq!(bodies, ALL);
        got.into_iter().map(|(tag, ..)| tag).collect::<Vec<_>>()
    };
    let tags = order(&mut c);
    // What comes back comes before all others, in the order in which it came back.
    for tag in tags {
        c.client.settle(1, tag, false, Settle::Requeue { failed: false }).unwrap();
    }
    goes(&mut c);
    order(&mut c);
}

#[test]
fn what_cannot_be_read_now_is_judged_later_and_not_with_each_publish() {
    let disk = Disk::new();
    let mut c = Connection::kept_in(disk.clone(), vec![]);
    c.vhost.declare_queue(QueueSpec { durable: true, ..kit::queue("q") }, c.id).unwrap();
    publish_long(&mut c, 0..10);
    drop(c);
    disk.is_short_from(Some(2));
    let mut c = Connection::kept_in(disk.clone(), vec![]);
    c.client.consume(1, link("y", &Wants::beginning("y"))).unwrap();
    assert_eq!(bodies(&mut c), [""; 0]);
    assert!(c.client.is_waiting(1, b"y") && c.client.deliver_due_ms().is_some());
    let reads = disk.reads();
    (0..20).for_each(|_| publish_long(&mut c, 10..11));
    assert_eq!(disk.reads(), reads);
    disk.is_short_from(None);
    let due_ms = c.client.deliver_due_ms().unwrap();
    c.pass(due_ms);
    assert_eq!(bodies(&mut c).iter().map(|body| number_of(body)).collect::<Vec<_>>(), [3]);
    assert!(!c.client.is_waiting(1, b"y"));
}
