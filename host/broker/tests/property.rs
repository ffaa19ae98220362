//! Queues against naive models, with seeded random histories.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, Random, Taken, message, name};
use leveret_broker::{ConsumeSpec, Published, Settle};
use std::collections::{BTreeMap, BTreeSet};

const SEEDS: u64 = 60;
const STEPS: usize = 600;

/// Number and padding; some are large enough for an allocation of their own.
fn body(number: u64, random: &mut Random) -> Vec<u8> {
    let padding = match random.below(100) {
        0 => 40_000,
        1..=10 => 3_000,
        _ => random.below(60) as usize,
    };
    let mut body = number.to_le_bytes().to_vec();
    body.resize(8 + padding, number as u8);
    body
}

fn number(body: &[u8]) -> u64 {
    assert!(body[8..].iter().all(|byte| *byte == body[0]), "the padding is whole");
    u64::from_le_bytes(body[..8].try_into().unwrap())
}

/// A queue with one consumer and `basic.get` beside it, in the plainest form.
#[derive(Default)]
struct Model {
    next: u64,
    ready: BTreeSet<u64>,
    redelivered: BTreeSet<u64>,
    /// Delivery tag to message and whether the consumer got it.
    unacked: BTreeMap<u64, (u64, bool)>,
    tag: u64,
    consuming: Option<(bool, u64)>,
}

impl Model {
    fn hand_out(&mut self, no_ack: bool, consumer: bool) -> Option<(u64, u64, bool)> {
        let number = self.ready.pop_first()?;
        self.tag += 1;
        let redelivered = self.redelivered.contains(&number);
        if !no_ack {
            self.unacked.insert(self.tag, (number, consumer));
        }
        Some((self.tag, number, redelivered))
    }

    fn deliver(&mut self, room: usize) -> Vec<(u64, u64, bool)> {
        let mut delivered = Vec::new();
        let Some((no_ack, prefetch)) = self.consuming else {
            return delivered;
        };
        while delivered.len() < room {
            let held = self.unacked.values().filter(|(_, consumer)| *consumer).count() as u64;
            if !no_ack && prefetch > 0 && held >= prefetch {
                break;
            }
            let Some(message) = self.hand_out(no_ack, true) else {
                break;
            };
            delivered.push(message);
        }
        delivered
    }

    /// What the consumer has credit for is not for others.
    fn get(&mut self, no_ack: bool) -> Option<(u64, u64, bool)> {
        let held = self.unacked.values().filter(|(_, consumer)| *consumer).count() as u64;
        let awaited = match self.consuming {
            None => 0,
            Some((true, _) | (_, 0)) => u64::MAX,
            Some((false, prefetch)) => prefetch.saturating_sub(held),
        };
        if self.ready.len() as u64 <= awaited { None } else { self.hand_out(no_ack, false) }
    }

    fn settle(&mut self, tag: u64, multiple: bool, requeue: bool) -> bool {
        if !self.unacked.contains_key(&tag) {
            return false;
        }
        let tags: Vec<u64> =
            if multiple { self.unacked.range(..=tag).map(|(tag, _)| *tag).collect() } else { vec![tag] };
        for tag in tags {
            let (number, _) = self.unacked.remove(&tag).unwrap();
            if requeue {
                self.ready.insert(number);
                self.redelivered.insert(number);
            }
        }
        true
    }

    fn requeue_all(&mut self) {
        for (number, _) in std::mem::take(&mut self.unacked).into_values() {
            self.ready.insert(number);
            self.redelivered.insert(number);
        }
    }
}

#[test]
fn one_consumer_and_gets_are_as_the_model() {
    for seed in 1..=SEEDS {
        one_history(seed);
    }
}

fn one_history(seed: u64) {
    let mut random = Random(seed);
    let mut c = Connection::first();
    c.queue("q");
    let mut model = Model::default();
    for step in 0..STEPS {
        let context = format!("seed {seed}, step {step}");
        match random.below(14) {
            0..=3 => publish(&mut c, &mut model, &mut random),
            4 | 5 => {
                let room = random.below(20) as usize;
                let mut taken = Taken { room, ..Taken::default() };
                c.client.deliver(&mut c.router, &mut taken);
                let got: Vec<_> =
                    taken.deliveries.iter().map(|d| (d.tag, number(&d.body), d.redelivered)).collect();
                assert_eq!(got, model.deliver(room), "{context}");
            }
            6 => {
                let no_ack = random.below(2) == 0;
                let mut got = None;
                let get = &mut |m: leveret_broker::Got<'_>| {
                    got = Some((m.delivery_tag, number(m.message.body), m.redelivered));
                };
                c.client.get(1, b"q", no_ack, &mut c.router, get).unwrap();
                assert_eq!(got, model.get(no_ack), "{context}");
            }
            7..=10 => {
                let tag = (model.tag + 2).saturating_sub(random.below(30)).max(1);
                let (multiple, requeue) = (random.below(3) == 0, random.below(3) == 0);
                let outcome = if requeue { Settle::Requeue { failed: false } } else { Settle::Accepted };
                let settled = c.client.settle(1, tag, multiple, outcome).is_ok();
                c.client.tell_store();
                assert_eq!(settled, model.settle(tag, multiple, requeue), "{context}");
            }
            11 => consume_or_cancel(&mut c, &mut model, &mut random),
            12 => bring_back(&mut c, &mut model, &mut random, &context),
            _ => {
                assert_eq!(c.ready("q"), model.ready.len() as u64, "{context}");
                let unsettled = c.vhost.queue(b"q").unwrap().unsettled();
                assert_eq!(unsettled, model.unacked.len() as u64, "{context}");
            }
        }
    }
    c.client.close(&mut c.router);
    c.vhost.purge_queue(b"q", c.id).unwrap();
    assert_eq!(c.vhost.memory().bytes(), 0, "seed {seed}");
}

fn publish(c: &mut Connection, model: &mut Model, random: &mut Random) {
    let bodies: Vec<_> = (0..random.below(12)).map(|i| body(model.next + i, random)).collect();
    let messages: Vec<_> = bodies.iter().map(|body| message("", "q", body)).collect();
    assert!(c.publish_all(&messages).iter().all(|outcome| *outcome == Published::Routed));
    model.ready.extend(model.next..model.next + bodies.len() as u64);
    model.next += bodies.len() as u64;
}

fn bring_back(c: &mut Connection, model: &mut Model, random: &mut Random, context: &str) {
    match random.below(3) {
        0 => {
            c.client.recover(1);
            model.requeue_all();
        }
        1 => {
            c.client.close_channel(1, &mut c.router);
            c.client.open_channel(1);
            model.requeue_all();
            (model.tag, model.consuming) = (0, None);
        }
        _ => {
            let purged = c.vhost.purge_queue(b"q", c.id).unwrap();
            assert_eq!(purged, model.ready.len() as u64, "{context}");
            model.ready.clear();
        }
    }
}

fn consume_or_cancel(c: &mut Connection, model: &mut Model, random: &mut Random) {
    if model.consuming.take().is_some() {
        assert!(c.client.cancel(1, b"t", &mut c.router));
        // What the cancelled one holds does not count for the next.
        model.unacked.values_mut().for_each(|(_, consumer)| *consumer = false);
        return;
    }
    let (no_ack, prefetch) = (random.below(4) == 0, random.below(6));
    c.client.qos(1, prefetch as u16, false);
    c.consume("q", "t", no_ack);
    model.consuming = Some((no_ack, prefetch));
}

/// Several connections at once: who gets what is theirs to decide, but nothing is lost, doubled
/// or beyond a prefetch.
#[test]
fn several_consumers_lose_nothing_and_keep_to_their_limits() {
    for seed in 1..=SEEDS {
        several(seed);
    }
}

struct Peer {
    connection: Connection,
    prefetch: u64,
    /// Delivery tag to message.
    held: BTreeMap<u64, u64>,
    consuming: bool,
}

fn several(seed: u64) {
    let mut random = Random(seed);
    let mut publisher = Connection::first();
    publisher.queue("q");
    let mut peers: Vec<Peer> = (0..3)
        .map(|_| {
            let connection = Connection::to(&publisher.vhost);
            Peer { connection, prefetch: 0, held: BTreeMap::new(), consuming: false }
        })
        .collect();
    let mut model = Model { next: 1, ..Model::default() };
    let mut done = BTreeSet::new();
    for _ in 0..STEPS {
        let index = random.below(3) as usize;
        let peer = &mut peers[index];
        match random.below(12) {
            0..=2 => publish(&mut publisher, &mut model, &mut random),
            3..=6 => peer.deliver(random.below(8) as usize),
            7 | 8 => {
                let Some((tag, number)) = peer.held.pop_first() else {
                    continue;
                };
                let outcome =
                    if random.below(4) == 0 { Settle::Requeue { failed: false } } else { Settle::Accepted };
                peer.connection.client.settle(1, tag, false, outcome).unwrap();
                assert!(matches!(outcome, Settle::Requeue { .. }) || done.insert(number), "settled twice");
            }
            9 if peer.consuming => {
                assert!(peer.connection.client.cancel(1, b"t", &mut peer.connection.router));
                peer.consuming = false;
            }
            10 => {
                peer.connection.client.close_channel(1, &mut peer.connection.router);
                peer.connection.client.open_channel(1);
                peer.held.clear();
                peer.consuming = false;
            }
            _ if !peer.consuming && peer.held.is_empty() => peer.consume(&mut random),
            _ => {}
        }
    }
    for peer in &mut peers {
        peer.connection.client.close(&mut peer.connection.router);
    }
    check_conserved(&mut publisher, &done, model.next);
}

/// What is left and what is settled is all there was, each once.
fn check_conserved(publisher: &mut Connection, done: &BTreeSet<u64>, next: u64) {
    let mut left = BTreeSet::new();
    while publisher
        .client
        .get(1, b"q", true, &mut publisher.router, &mut |got| assert!(left.insert(number(got.message.body))))
        .unwrap()
    {}
    assert!(left.is_disjoint(done));
    let all: BTreeSet<u64> = left.union(done).copied().collect();
    assert_eq!(all, (1..next).collect());
    assert_eq!(publisher.vhost.memory().bytes(), 0);
}

impl Peer {
    fn consume(&mut self, random: &mut Random) {
        self.prefetch = random.below(5);
        self.connection.client.qos(1, self.prefetch as u16, false);
        let spec = ConsumeSpec { queue: name("q"), tag: name("t"), ..ConsumeSpec::default() };
        self.connection.client.consume(1, spec).unwrap();
        self.consuming = true;
    }

    fn deliver(&mut self, room: usize) {
        let mut taken = Taken { room, ..Taken::default() };
        self.connection.client.deliver(&mut self.connection.router, &mut taken);
        for delivery in taken.deliveries {
            let number = number(&delivery.body);
            assert!(self.held.insert(delivery.tag, number).is_none());
        }
        assert!(self.prefetch == 0 || self.held.len() as u64 <= self.prefetch);
    }
}
