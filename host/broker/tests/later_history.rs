//! Held messages against the plainest model, a list sorted by time, with seeded random histories.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, Gate, Random, delayed, exchange};
use leveret_broker::{BindTo, Published, later::RETRY_AFTER_MS_MAX};
use std::collections::BTreeMap;

const SEEDS: u64 = 150;
const STEPS: usize = 80;
/// Exchanges that hold, each with a queue of its name.
const EXCHANGES: [&str; 3] = ["x", "y", "z"];

struct History {
    c: Connection,
    random: Random,
    /// By due time and number: who holds it.
    held: BTreeMap<(u64, u64), &'static str>,
    /// What each queue has, in order.
    released: BTreeMap<&'static str, Vec<String>>,
    last_number: u64,
    now_ms: u64,
    /// The exchange that does not answer now.
    gated: Option<&'static str>,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut c = Connection::first();
        for x in EXCHANGES {
            c.queue(x);
            c.exchange(exchange(x, "hold+direct"));
            c.bind(x, BindTo::Queue(x.as_bytes()), "k");
        }
        let (held, released) = (BTreeMap::new(), BTreeMap::new());
        Self { c, random: Random(seed), held, released, last_number: 0, now_ms: 0, gated: None }
    }

    fn any(&mut self) -> &'static str {
        EXCHANGES[self.random.below(3) as usize]
    }

    fn publish(&mut self) {
        let mut holds = Vec::new();
        for _ in 0..1 + self.random.below(5) {
            self.last_number += 1;
            let (x, delay_ms) = (self.any(), self.random.below(50));
            if self.gated != Some(x) {
                self.held.insert((self.now_ms + delay_ms, self.last_number), x);
                holds.push((x, delay_ms.to_string(), self.last_number.to_string()));
            }
        }
        let messages: Vec<_> = holds.iter().map(|(x, delay, body)| delayed(x, "k", delay, body)).collect();
        let outcomes = self.c.publish_all(&messages);
        assert!(outcomes.iter().all(|outcome| *outcome == Published::Routed));
    }

    /// The list is the model's; one of it is cancelled.
    fn cancel(&mut self) {
        let x = self.any();
        let holds = self.c.vhost.holds(x.as_bytes(), 0, usize::MAX);
        let model: Vec<_> = self.held.iter().filter(|(_, to)| **to == x).map(|(at, _)| *at).collect();
        let due = |(due_ms, _): &(u64, u64)| *due_ms;
        assert!(holds.iter().map(|hold| hold.due_ms).eq(model.iter().map(due)));
        if !holds.is_empty() {
            let place = self.random.below(holds.len() as u64) as usize;
            assert!(self.c.vhost.cancel_hold(holds[place].id));
            self.held.remove(&model[place]);
        }
    }

    fn gate(&mut self) {
        if let Some(x) = self.gated.take() {
            self.c.router.gate(x, None);
            self.c.router.memory.lock().unwrap().wake();
        } else {
            let x = self.any();
            let gate = [Gate::Park, Gate::Pending][self.random.below(2) as usize];
            self.c.router.gate(x, Some(gate));
            self.gated = Some(x);
        }
    }

    fn pass(&mut self, milliseconds: u64) {
        self.now_ms += milliseconds;
        self.c.pass(milliseconds);
        for x in EXCHANGES {
            let due = self.held.iter().filter(|((due_ms, _), to)| **to == x && *due_ms <= self.now_ms);
            let due: Vec<_> = due.map(|(at, _)| *at).collect();
            let of_model = self.held.values().filter(|to| **to == x).count();
            let left = self.c.vhost.hold_count(x.as_bytes());
            if self.gated == Some(x) || left == of_model {
                // What was blocked may be tried a little later than its exchange is well again.
                assert_eq!(left, of_model);
                continue;
            }
            for at in due {
                self.held.remove(&at);
                self.released.entry(x).or_default().push(at.1.to_string());
            }
            assert_eq!(left, self.held.values().filter(|to| **to == x).count(), "all that is due or nothing");
        }
    }

    /// All exchanges answer, and all that is held goes on.
    fn finish(&mut self) {
        if self.gated.is_some() {
            self.gate();
        }
        for _ in 0..2 {
            self.pass(2 * RETRY_AFTER_MS_MAX);
        }
        assert!(self.held.is_empty());
        for x in EXCHANGES {
            assert_eq!(self.c.drain_bodies(x), self.released.remove(x).unwrap_or_default(), "{x}");
        }
        assert_eq!((self.c.vhost.held(), self.c.vhost.memory().bytes()), ((0, 0), 0));
    }
}

#[test]
fn nothing_is_lost_and_the_order_is_kept() {
    for seed in 1..=SEEDS {
        let mut history = History::new(seed);
        for _ in 0..STEPS {
            match history.random.below(6) {
                0..=2 => history.publish(),
                3 => history.cancel(),
                4 => history.gate(),
                _ => {
                    let milliseconds = history.random.below(40_000);
                    history.pass(milliseconds);
                }
            }
        }
        history.finish();
    }
}
