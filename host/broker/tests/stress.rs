//! Many threads at once: every message arrives exactly once, and no wake-up is lost. A lost one
//! would leave a thread waiting for its bell for ever.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Bell, Connection, Random, Taken, message};
use leveret_broker::{BindTo, Published, Settle, Vhost, port::Wake};
use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

const PUBLISHERS: u64 = 2;
const MESSAGES: u64 = 30_000;
const QUEUES: [&str; 2] = ["q", "r"];

/// What the threads know of each other.
struct Shared {
    vhost: Arc<Vhost>,
    /// Settled messages, by queue.
    settled: [Mutex<HashSet<u64>>; 2],
    left: AtomicUsize,
    bells: Mutex<Vec<Arc<Bell>>>,
    published: AtomicBool,
}

fn publish(shared: &Shared, publisher: u64) {
    let mut c = Connection::to(&shared.vhost);
    let mut random = Random(publisher + 1);
    let mut next = 0;
    while next < MESSAGES {
        let count = (random.below(40) + 1).min(MESSAGES - next);
        let bodies: Vec<_> = (next..next + count).map(|i| (publisher * MESSAGES + i).to_le_bytes()).collect();
        let messages: Vec<_> = bodies.iter().map(|body| message("amq.fanout", "k", body)).collect();
        let outcomes = c.publish_all(&messages);
        assert!(outcomes.iter().all(|outcome| *outcome == Published::Routed));
        next += count;
    }
}

/// Consumes both queues until all messages are settled, now and then requeueing, cancelling and
/// closing its channel.
fn consume(shared: &Shared, seed: u64) {
    let mut c = Connection::to(&shared.vhost);
    shared.bells.lock().unwrap().push(c.bell.clone());
    let mut random = Random(seed);
    let start = |c: &mut Connection, random: &mut Random| {
        c.client.qos(1, [0, 1, 7, 300][random.below(4) as usize], false);
        c.client.qos(1, [0, 0, 50][random.below(3) as usize], true);
        QUEUES.iter().for_each(|queue| c.consume(queue, queue, false));
    };
    start(&mut c, &mut random);
    loop {
        let mut taken = Taken { room: 1 + random.below(200) as usize, ..Taken::default() };
        let more = c.client.deliver(&mut c.router, &mut taken);
        let any = !taken.deliveries.is_empty();
        for delivery in taken.deliveries {
            let number = u64::from_le_bytes(delivery.body.as_slice().try_into().unwrap());
            let queue = usize::from(delivery.consumer == "r");
            if random.below(50) == 0 {
                c.client.settle(1, delivery.tag, false, Settle::Requeue { failed: false }).unwrap();
            } else {
                c.client.settle(1, delivery.tag, false, Settle::Accepted).unwrap();
                assert!(shared.settled[queue].lock().unwrap().insert(number), "twice");
                if shared.left.fetch_sub(1, Ordering::SeqCst) == 1 {
                    shared.bells.lock().unwrap().iter().for_each(|bell| bell.wake());
                }
            }
        }
        if random.below(200) == 0 {
            c.client.close_channel(1, &mut c.router);
            c.client.open_channel(1);
            start(&mut c, &mut random);
        }
        if shared.left.load(Ordering::SeqCst) == 0 {
            return;
        }
        if !more && !any {
            c.bell.wait();
        }
    }
}

/// Declares, binds, consumes and deletes another queue of the same exchange all the while.
fn churn(shared: &Shared, n: u64) {
    let mut c = Connection::to(&shared.vhost);
    let queue = format!("churn-{n}");
    let mut random = Random(n + 100);
    let mut cancelled = 0;
    while !shared.published.load(Ordering::SeqCst) || cancelled == 0 {
        c.queue(&queue);
        c.bind("amq.fanout", BindTo::Queue(queue.as_bytes()), "");
        c.consume(&queue, "t", random.below(2) == 0);
        c.client.deliver(&mut c.router, &mut Taken { room: 100, ..Taken::default() });
        if random.below(2) == 0 {
            c.unbind("amq.fanout", BindTo::Queue(queue.as_bytes()), "");
        }
        c.vhost.delete_queue(&mut c.router, queue.as_bytes(), false, false, c.id).unwrap();
        assert_eq!(c.publish("", &queue, "late"), Published::Unroutable);
        c.deliveries();
        assert_eq!(c.client.take_cancelled().len(), 1);
        cancelled += 1;
    }
}

#[test]
fn every_message_once_whatever_else_happens() {
    let mut c = Connection::first();
    for queue in QUEUES {
        c.queue(queue);
        c.bind("amq.fanout", BindTo::Queue(queue.as_bytes()), "");
    }
    let total = PUBLISHERS * MESSAGES;
    let shared = Shared {
        vhost: c.vhost.clone(),
        settled: Default::default(),
        left: AtomicUsize::new(total as usize * QUEUES.len()),
        bells: Mutex::default(),
        published: AtomicBool::new(false),
    };
    thread::scope(|scope| {
        let shared = &shared;
        let publishers: Vec<_> = (0..PUBLISHERS).map(|n| scope.spawn(move || publish(shared, n))).collect();
        for n in 0..3 {
            scope.spawn(move || consume(shared, n + 10));
        }
        for n in 0..2 {
            scope.spawn(move || churn(shared, n));
        }
        for publisher in publishers {
            publisher.join().unwrap();
        }
        shared.published.store(true, Ordering::SeqCst);
    });
    for settled in &shared.settled {
        assert_eq!(settled.lock().unwrap().len() as u64, total);
    }
    assert_eq!(c.vhost.exchange(b"amq.fanout").unwrap().binding_count(), QUEUES.len());
    assert_eq!(c.vhost.memory().bytes(), 0);
}

/// One consumer, as fast as it can, while several connections publish: each one's messages in order.
#[test]
fn one_consumer_gets_every_publishers_messages_in_order() {
    let mut c = Connection::first();
    c.queue("q");
    c.bind("amq.fanout", BindTo::Queue(b"q"), "");
    let shared = Shared {
        vhost: c.vhost.clone(),
        settled: Default::default(),
        left: AtomicUsize::new(0),
        bells: Mutex::default(),
        published: AtomicBool::new(false),
    };
    thread::scope(|scope| {
        let shared = &shared;
        for n in 0..PUBLISHERS {
            scope.spawn(move || publish(shared, n));
        }
        c.client.qos(1, 100, false);
        c.consume("q", "t", false);
        let mut next = [0; PUBLISHERS as usize];
        while next != [MESSAGES; PUBLISHERS as usize] {
            let deliveries = c.deliveries();
            let Some(tag) = deliveries.last().map(|delivery| delivery.tag) else {
                c.bell.wait();
                continue;
            };
            for delivery in deliveries {
                let number = u64::from_le_bytes(delivery.body.as_slice().try_into().unwrap());
                let next = &mut next[(number / MESSAGES) as usize];
                assert_eq!(number % MESSAGES, *next);
                *next += 1;
            }
            c.client.settle(1, tag, true, Settle::Accepted).unwrap();
        }
    });
    assert_eq!(c.vhost.memory().bytes(), 0);
}

/// A single consumer that always waits to be woken: each message is published only after the one
/// before was received, so one lost wake-up ends it all.
#[test]
fn ping_pong_never_misses_a_wake() {
    const ROUNDS: u64 = 20_000;
    let mut c = Connection::first();
    c.queue("ping");
    c.queue("pong");
    let vhost = c.vhost.clone();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut other = Connection::to(&vhost);
            other.consume("ping", "t", true);
            for _ in 0..ROUNDS {
                receive_one(&mut other);
                assert_eq!(other.publish("", "pong", "pong"), Published::Routed);
            }
        });
        c.consume("pong", "t", true);
        for _ in 0..ROUNDS {
            assert_eq!(c.publish("", "ping", "ping"), Published::Routed);
            receive_one(&mut c);
        }
    });
}

fn receive_one(c: &mut Connection) {
    loop {
        match c.deliveries().len() {
            0 => c.bell.wait(),
            received => {
                assert_eq!(received, 1);
                return;
            }
        }
    }
}
