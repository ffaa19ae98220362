//! Queues whose bytes are limited, and whose messages are in the store alone.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, Disk, Every, PERSISTENT, Random, message, name, string, table};
use leveret_broker::{
    MemoryAccount, Published, QueueSpec, Settle, Vhost,
    policy::{ApplyTo, Policies, Policy, PolicyKind},
    port::Router as _,
};
use leveret_model::{MessageView, Value};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

/// More than a third of what is read in one piece.
const LARGE_BYTES: usize = 90_000;

fn bytes(bytes: usize) -> Value {
    Value::Integer(bytes as i64)
}

/// Has a policy for all queues.
fn say(c: &Connection, definition: &[(&str, Value)]) {
    let (kind, pattern, mut policies) = (PolicyKind::User, Box::new(Every), Policies::default());
    let policy = Policy::new(kind, name("p"), pattern, (ApplyTo::All, 0.0), table(definition)).unwrap();
    policies.put(kind, Arc::new(policy));
    c.vhost.set_policies(policies, c.router.now_ms());
}

fn declare(c: &Connection, arguments: &[(&str, Value)]) {
    let spec = QueueSpec { durable: true, arguments: table(arguments), ..kit::queue("q") };
    c.vhost.declare_queue(spec, c.id).unwrap();
}

/// A body of so many bytes that begins with its number.
fn body(number: usize, length: usize) -> Vec<u8> {
    let mut body = format!("{number:04}").into_bytes();
    body.resize(length.max(4), b'.');
    body
}

fn put(c: &mut Connection, body: &[u8]) -> Published {
    c.publish_one(MessageView { properties: PERSISTENT, ..message("", "q", body) })
}

/// Number and length of all that is in the queue.
fn drain(c: &mut Connection) -> Vec<(usize, usize)> {
    let all = c.drain_bodies("q").into_iter();
    all.map(|body| (number_of(&body), body.len())).collect()
}

/// A queue of that many large messages in the next life of its virtual host, before the housekeeper came.
fn restarted(messages: usize, arguments: &[(&str, Value)]) -> (Connection, Arc<Disk>) {
    let disk = Disk::new();
    let mut c = Connection::kept_in(disk.clone(), Vec::new());
    declare(&c, arguments);
    for number in 0..messages {
        assert_eq!(put(&mut c, &body(number, LARGE_BYTES)), Published::Routed);
    }
    drop(c);
    let before = disk.reads();
    let c = Connection::kept_in(disk.clone(), Vec::new());
    assert_eq!(disk.reads(), before, "a start reads no messages");
    (c, disk)
}

/// In a virtual host that lets go of what it can read again at two megabytes.
fn short_of_memory(disk: &Arc<Disk>) -> Connection {
    let mut router = kit::Native::default();
    let account = Arc::new(MemoryAccount::new(1));
    let vhost = Vhost::kept_in(disk.clone(), name("/"), account, &mut router).unwrap();
    Connection { router, ..Connection::to(&vhost) }
}

#[test]
fn a_start_reads_nothing_of_a_queue_whose_bytes_are_limited_and_the_limit_holds_to_the_byte() {
    let (messages, room) = (20, 10);
    let most = messages * LARGE_BYTES + room;
    let arguments = [("x-max-length-bytes", bytes(most)), ("x-overflow", string("reject-publish"))];
    let (mut c, _disk) = restarted(messages, &arguments);
    c.pass(0);
    assert!(matches!(put(&mut c, &body(20, room + 1)), Published::Full(_)));
    assert_eq!(put(&mut c, &body(20, room)), Published::Routed);
    assert!(matches!(put(&mut c, b"."), Published::Full(_)));
    assert_eq!(drain(&mut c).len(), messages + 1);
}

#[test]
fn a_policy_on_a_backlog_that_nobody_counted_reads_nothing_and_holds_in_a_while() {
    let (mut c, disk) = restarted(20, &[]);
    let before = disk.reads();
    say(&c, &[("max-length-bytes", bytes(7 * LARGE_BYTES + 1))]);
    assert_eq!((disk.reads(), c.ready("q")), (before, 20));
    // Piece by piece: what is known to be too much goes.
    let mut ready = c.ready("q");
    while c.run().more {
        assert!(ready - c.ready("q") <= 6, "from {ready} to {}", c.ready("q"));
        ready = c.ready("q");
    }
    let left: Vec<usize> = drain(&mut c).into_iter().map(|(number, _)| number).collect();
    assert_eq!(left, (13..20).collect::<Vec<_>>());
}

#[test]
fn what_a_queue_let_go_of_itself_needs_no_counting() {
    let disk = Disk::new();
    let mut c = short_of_memory(&disk);
    declare(&c, &[]);
    let length = 10_000;
    for number in 0..1000 {
        put(&mut c, &body(number, length));
    }
    let held = c.vhost.memory().bytes();
    assert!(held < 5 << 20, "{held} bytes of 10 million");
    let before = disk.reads();
    say(&c, &[("max-length-bytes", bytes(1000 * length)), ("overflow", string("reject-publish"))]);
    assert!(matches!(put(&mut c, b"0001"), Published::Full(_)));
    assert_eq!(disk.reads(), before);
    say(&c, &[("max-length-bytes", bytes(995 * length))]);
    assert_eq!(c.ready("q"), 995);
    c.pass(0);
    assert_eq!(drain(&mut c).len(), 995);
}

#[test]
fn others_use_the_queue_while_it_is_counted() {
    let (mut c, disk) = restarted(20, &[]);
    say(&c, &[("max-length-bytes", bytes(1)), ("overflow", string("reject-publish"))]);
    let answered = Arc::new(Mutex::new(Vec::new()));
    let (queue, all) = (c.vhost.queue(b"q").unwrap(), answered.clone());
    disk.on_read(move |from| {
        // The head alone is read under the lock.
        if from > 0 {
            let (queue, (answer, answers)) = (queue.clone(), mpsc::channel());
            thread::spawn(move || answer.send(queue.status().messages));
            all.lock().unwrap().push(answers.recv_timeout(Duration::from_secs(5)));
        }
    });
    c.pass(0);
    let answered = answered.lock().unwrap();
    assert!(answered.len() >= 5 && answered.iter().all(|ready| *ready == Ok(20)), "{answered:?}");
    assert!(matches!(put(&mut c, b"0001"), Published::Full(_)));
}

#[test]
fn a_piece_that_was_read_by_somebody_else_meanwhile_does_not_count_twice() {
    let (mut c, disk) = restarted(20, &[]);
    say(&c, &[("max-length-bytes", bytes(10 * LARGE_BYTES + 5)), ("overflow", string("reject-publish"))]);
    let (vhost, (got, gets)) = (c.vhost.clone(), mpsc::channel());
    let once = AtomicBool::new(true);
    disk.on_read(move |from| {
        // While the first piece is counted, messages are taken of that and of the next.
        if from > 0 && once.swap(false, Ordering::Relaxed) {
            let (vhost, got, (done, is_done)) = (vhost.clone(), got.clone(), mpsc::channel());
            thread::spawn(move || {
                let mut other = Connection::to(&vhost);
                let bodies = (0..10).map(|_| other.get("q").unwrap().2.len());
                got.send(bodies.collect::<Vec<_>>()).unwrap();
                other.client.settle(1, 0, true, Settle::Accepted).unwrap();
                other.client.tell_store();
                done.send(())
            });
            is_done.recv_timeout(Duration::from_secs(20)).unwrap();
        }
    });
    c.pass(0);
    assert_eq!(gets.try_recv(), Ok(vec![LARGE_BYTES; 10]));
    assert!(matches!(put(&mut c, &body(20, 6)), Published::Full(_)));
    assert_eq!(put(&mut c, &body(20, 5)), Published::Routed);
    assert_eq!(drain(&mut c).len(), 11);
}

#[test]
fn counting_goes_on_when_the_store_can_be_read_again() {
    let (mut c, disk) = restarted(20, &[]);
    disk.is_short_from(Some(12));
    say(&c, &[("max-length-bytes", bytes(20 * LARGE_BYTES)), ("overflow", string("reject-publish"))]);
    c.pass(0);
    assert_eq!(put(&mut c, b"0020"), Published::Routed, "it is not known yet that it is full");
    c.pass(10_000);
    disk.is_short_from(None);
    c.pass(10_000);
    assert!(matches!(put(&mut c, b"0021"), Published::Full(_)));
    assert_eq!(drain(&mut c).len(), 21);
}

/// Whoever takes, gives back, publishes and changes limits meanwhile: in the end the count is right to the byte, and only
/// the oldest of what was too much is gone.
#[test]
fn what_happens_while_it_is_counted_is_counted_once() {
    for seed in 1..=40 {
        let (mut random, disk) = (Random(seed), Disk::new());
        let has_priorities = seed % 3 == 0;
        let mut c = Connection::kept_in(disk.clone(), Vec::new());
        declare(&c, if has_priorities { &[("x-max-priority", Value::Integer(3))] } else { &[] });
        let mut next = 0;
        for _ in 0..4 {
            more(&mut c, &mut random, &mut next);
        }
        drop(c);
        let mut c = if seed % 2 == 0 {
            short_of_memory(&disk)
        } else {
            Connection::kept_in(disk.clone(), Vec::new())
        };
        let most = random.below(6_000_000) as usize;
        say(&c, &[("max-length-bytes", bytes(most))]);
        let (mut got, mut came_back, mut is_limited) = (Vec::new(), Vec::new(), true);
        for _ in 0..60 {
            match random.below(8) {
                0 => more(&mut c, &mut random, &mut next),
                1..4 => drop(c.run()),
                4 | 5 => got.extend(c.get("q").map(|(tag, _, body)| (tag, number_of(&body)))),
                6 => {
                    if let Some((tag, number)) = got.pop() {
                        came_back.push(number);
                        c.client.settle(1, tag, false, Settle::Requeue { failed: false }).unwrap();
                    }
                }
                _ => {
                    is_limited = !is_limited;
                    let other = ("max-length", bytes(1_000_000));
                    say(&c, &[if is_limited { ("max-length-bytes", bytes(most)) } else { other }]);
                }
            }
        }
        say(&c, &[("max-length-bytes", bytes(most))]);
        c.pass(0);
        c.client.tell_store();
        let is_ready = |number: &usize| got.iter().all(|(_, taken)| taken != number);
        let kept = disk.bodies().into_iter().map(|(.., body)| (number_of(&body), body.len()));
        let ready: Vec<(usize, usize)> = kept.filter(|(number, _)| is_ready(number)).collect();
        let total: usize = ready.iter().map(|(_, length)| length).sum();
        assert_eq!((c.ready("q"), total <= most), (ready.len() as u64, true), "seed {seed}");
        say(&c, &[("max-length-bytes", bytes(total + 10)), ("overflow", string("reject-publish"))]);
        assert!(matches!(put(&mut c, &body(next, 11)), Published::Full(_)), "seed {seed}: {total}");
        assert_eq!(put(&mut c, &body(next, 10)), Published::Routed, "seed {seed}: {total}");
        // What came back may have found room that others had to make.
        let stayed = |number: &usize| is_ready(number) && !came_back.contains(number);
        let left: Vec<usize> = drain(&mut c).into_iter().map(|(number, _)| number).filter(stayed).collect();
        if !has_priorities {
            let first = left.first().copied().unwrap_or(next);
            assert_eq!(left, (first..=next).filter(stayed).collect::<Vec<_>>(), "seed {seed}");
        }
    }
}

/// Publishes the next messages, of any length and priority.
fn more(c: &mut Connection, random: &mut Random, next: &mut usize) {
    let longest = [80_000, 30_000][random.below(2) as usize];
    for _ in 0..=random.below(40) {
        let body = body(*next, random.below(longest) as usize);
        let properties = &[0x18, 0, 2, random.below(3) as u8];
        c.publish_one(MessageView { properties, ..message("", "q", &body) });
        *next += 1;
    }
}

fn number_of(body: &str) -> usize {
    body.get(..4).unwrap().parse().unwrap()
}
