//! Random histories of rejections: nothing is lost, nothing is doubled, whatever the exchanges on
//! the way answer.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, Random, exchange, message, with_dead_letters};
use leveret_broker::{BACK_OFF_MS_MAX, BindTo, Settle};
use leveret_model::MessageView;
use std::collections::BTreeMap;

const SEEDS: u64 = 80;
const STEPS: usize = 400;
/// In a circle: the dead letters of each go to the next.
const QUEUES: [&str; 3] = ["a", "b", "c"];

struct World {
    connections: Vec<Connection>,
    /// For each connection the tags that are not settled.
    unsettled: Vec<Vec<u64>>,
    now_ms: u64,
    published: u64,
}

impl World {
    fn new() -> Self {
        let first = Connection::first();
        for (at, queue) in QUEUES.iter().enumerate() {
            first.vhost.declare_queue(with_dead_letters(queue, &format!("to-{at}"), None), first.id).unwrap();
        }
        let second = Connection::to(&first.vhost);
        let mut world = Self {
            connections: vec![first, second],
            unsettled: vec![vec![], vec![]],
            now_ms: 1,
            published: 0,
        };
        for at in 0..QUEUES.len() {
            world.exchange(at, "fanout");
        }
        world
    }

    /// Puts another type behind the dead-letter exchange of a queue.
    fn exchange(&mut self, at: usize, type_name: &str) {
        let name = format!("to-{at}");
        let connection = &mut self.connections[0];
        connection.vhost.delete_exchange(&mut connection.router, name.as_bytes(), false).unwrap();
        connection.exchange(exchange(&name, type_name));
        // A type that answers later matches the key, which stays the first queue's name.
        let next = BindTo::Queue(QUEUES[(at + 1) % QUEUES.len()].as_bytes());
        let keys: &[&str] = if type_name == "later" { &QUEUES } else { &[""] };
        for key in keys {
            connection.bind(&name, next, key);
        }
    }

    fn step(&mut self, random: &mut Random) {
        let at = random.below(self.connections.len() as u64) as usize;
        let queue = QUEUES[random.below(QUEUES.len() as u64) as usize];
        let (connection, unsettled) = (&mut self.connections[at], &mut self.unsettled[at]);
        match random.below(10) {
            0 | 1 => {
                let mut body = self.published.to_le_bytes().to_vec();
                body.resize(8 + if random.below(10) == 0 { 40_000 } else { 10 }, 0);
                connection.publish_all(&[message("", queue, &body)]);
                self.published += 1;
            }
            2..=4 => {
                connection
                    .client
                    .get(1, queue.as_bytes(), false, &mut connection.router, &mut |got| {
                        unsettled.push(got.delivery_tag);
                    })
                    .unwrap();
            }
            5 | 6 if !unsettled.is_empty() => {
                let tag = unsettled.swap_remove(random.below(unsettled.len() as u64) as usize);
                let outcome =
                    if random.below(4) == 0 { Settle::Requeue { failed: false } } else { Settle::Rejected };
                connection.client.settle(1, tag, false, outcome).unwrap();
            }
            7 => {
                unsettled.clear();
                connection.client.settle(1, 0, true, Settle::Rejected).unwrap();
            }
            8 => {
                self.now_ms += random.below(500);
                connection.router.answer_now = random.below(2) == 0;
                connection.router.memory.lock().unwrap().now_ms = self.now_ms;
                connection.client.dead_letter(&mut connection.router);
            }
            _ => match random.below(6) {
                0 => {
                    self.connections[1] = Connection::to(&self.connections[0].vhost);
                    self.unsettled[1].clear();
                }
                _ => {
                    let types = ["fanout", "reject", "trap", "later"];
                    let type_name = types[random.below(types.len() as u64) as usize];
                    self.exchange(random.below(QUEUES.len() as u64) as usize, type_name);
                }
            },
        }
    }

    /// Lets everything go where it wants to, and counts the messages by their number.
    fn end(mut self) -> BTreeMap<u64, usize> {
        for at in 0..QUEUES.len() {
            self.exchange(at, "fanout");
        }
        for connection in &mut self.connections {
            connection.router.answer_now = true;
            connection.client.recover(1);
            connection.router.memory.lock().unwrap().now_ms = self.now_ms + BACK_OFF_MS_MAX;
            connection.client.dead_letter(&mut connection.router);
            assert_eq!(connection.client.dead_letters_waiting(), 0);
        }
        let mut numbers = BTreeMap::new();
        let mut note = |message: MessageView<'_>| {
            *numbers.entry(u64::from_le_bytes(message.body[..8].try_into().unwrap())).or_default() += 1;
        };
        for queue in QUEUES {
            let Connection { client, router, .. } = &mut self.connections[0];
            while client.get(1, queue.as_bytes(), true, router, &mut |got| note(got.message)).unwrap() {}
            assert_eq!(self.connections[0].vhost.queue(queue.as_bytes()).unwrap().unsettled(), 0);
        }
        assert_eq!(self.connections[0].vhost.memory().bytes(), 0);
        numbers
    }
}

#[test]
fn every_message_is_somewhere_exactly_once() {
    for seed in 1..=SEEDS {
        let mut random = Random(seed);
        let mut world = World::new();
        for _ in 0..STEPS {
            world.step(&mut random);
        }
        let published = world.published;
        assert!(published > 20);
        let expected: BTreeMap<u64, usize> = (0..published).map(|number| (number, 1)).collect();
        assert_eq!(world.end(), expected, "seed {seed}");
    }
}
