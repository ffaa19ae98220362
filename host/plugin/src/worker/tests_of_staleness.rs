//! That no answer is stale: publishers, binds, unbinds and reloads on workers of their own, in an order
//! that a seed decides as far as threads leave it to one.
//!
//! Each change is noted before it begins and after it was said to be done, in one number. A publisher
//! reads all numbers before and after it asks: what did not change meanwhile must show in the answer.
//! A failure prints the seed; the variable `LEVERET_TEST_SEED` runs that one alone, again and again.

use super::{tests_of_keeping::BY, *};
use crate::{
    host::Host,
    testing::{self, Guest, Woken, World},
};
use leveret_broker::{BindTo, QueueSpec, Vhost};
use leveret_model::Table;
use rand::{Rng as _, RngExt as _, SeedableRng, rngs::StdRng};
use std::{path::Path, sync::atomic::AtomicBool, thread};

/// How many keys there are, each with a queue of its own.
const KEYS: usize = 8;
const PUBLISHERS: usize = 3;
const BINDERS: usize = 2;
/// How many changes each binder makes in a run.
const CHANGES: usize = 250;
const RELOADS: usize = 25;
const RUNS: u64 = 6;

const NAMES: [&str; KEYS] = ["k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7"];

/// What is certain of something that changes between two states. Even numbers are certain.
#[derive(Default)]
struct Ledger(AtomicU64);

impl Ledger {
    /// A change begins, or is done.
    fn step(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// What did not change between two readings: `Some(true)` after an odd number of changes.
fn certain(before: u64, after: u64) -> Option<bool> {
    (before == after && before.is_multiple_of(2)).then_some(before / 2 % 2 == 1)
}

/// What is bound, and whether the second version serves.
#[derive(Default)]
struct Truth {
    bound: [Ledger; KEYS],
    second: Ledger,
    done: AtomicBool,
}

impl Truth {
    fn read(&self) -> ([u64; KEYS], u64) {
        (std::array::from_fn(|key| self.bound[key].read()), self.second.read())
    }
}

/// What one run is made of.
#[derive(Clone, Copy, Debug)]
struct Run {
    seed: u64,
    pure: bool,
    independent: bool,
    batch: bool,
}

impl Run {
    fn of(seed: u64) -> Self {
        let mut chance = StdRng::seed_from_u64(seed);
        Self { seed, pure: chance.random_ratio(3, 4), independent: chance.random(), batch: chance.random() }
    }

    /// The first version goes by the key, the second to every binding.
    fn guests(self) -> [Vec<u8>; 2] {
        let Self { pure, independent, batch, .. } = self;
        [(1, false), (2, true)].map(|(version, fanout)| {
            Guest { version, fanout, pure, independent, batch, ..Guest::default() }.component()
        })
    }

    fn chance(self, thread: usize) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ (thread as u64 + 1) << 32)
    }
}

/// The seed that a failure is repeated with.
struct TellSeed(Run);

impl Drop for TellSeed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("to run it again: LEVERET_TEST_SEED={} ({:?})", self.0.seed, self.0);
        }
    }
}

fn bind_some(run: Run, number: usize, host: &Host, vhost: &Arc<Vhost>, truth: &Truth) {
    let (mut worker, mut chance) = (host.worker(PUBLISHERS + number), run.chance(number));
    for _ in 0..CHANGES {
        // Each binder has keys of its own, so it knows what is bound.
        let key = chance.random_range(0..KEYS / BINDERS) * BINDERS + number;
        let (name, ledger) = (NAMES[key].as_bytes(), &truth.bound[key]);
        let is_bound = ledger.read() / 2 % 2 == 1;
        ledger.step();
        let to = BindTo::Queue(name);
        match is_bound {
            true => vhost.unbind(&mut worker, b"x", to, name, Table::new(), BY).unwrap(),
            false => vhost.bind(&mut worker, b"x", to, name, Table::new(), BY).unwrap(),
        }
        ledger.step();
        if chance.random_ratio(1, 8) {
            thread::yield_now();
        }
    }
}

fn reload_some(run: Run, host: &Host, truth: &Truth) {
    let guests = run.guests();
    for reload in 0..RELOADS {
        truth.second.step();
        host.registry().offer(Path::new("guest.wasm"), &guests[(reload + 1) % 2]).unwrap();
        truth.second.step();
    }
}

fn publish_some(run: Run, number: usize, host: &Host, exchange: &Arc<Exchange>, truth: &Truth) {
    let (mut worker, mut chance) = (host.worker(number), run.chance(BINDERS + number));
    let woken = Arc::new(Woken::default());
    while !truth.done.load(Ordering::SeqCst) {
        let asked: Vec<usize> =
            (0..chance.random_range(1..6)).map(|_| chance.random_range(0..KEYS)).collect();
        let keys: Vec<&str> = asked.iter().map(|key| NAMES[*key]).collect();
        let (bound_before, second_before) = truth.read();
        let answers = testing::route(&mut worker, exchange, &keys, &woken);
        let (bound, second) = truth.read();
        let by_second = certain(second_before, second);
        for (key, answer) in asked.into_iter().zip(&answers) {
            let reached: Vec<&str> = answer.split(',').collect();
            for other in 0..KEYS {
                let expected = match (certain(bound_before[other], bound[other]), by_second) {
                    (Some(false), _) => Some(false),
                    (Some(true), _) if other == key => Some(true),
                    (Some(true), Some(second)) => Some(second),
                    // What is bound or not, the first version sends it nowhere else.
                    (None, Some(false)) if other != key => Some(false),
                    (Some(true) | None, _) => None,
                };
                let is_there = reached.contains(&NAMES[other]);
                assert!(
                    expected.is_none_or(|expected| expected == is_there),
                    "a message with the key {} went to '{answer}'; {} is {}bound, by version {by_second:?}",
                    NAMES[key],
                    NAMES[other],
                    if is_there { "not " } else { "" },
                );
            }
        }
    }
    assert_eq!(worker.counters().failed, 0);
}

fn run(run: Run) {
    let _tell = TellSeed(run);
    let mut world = World::empty(1 + PUBLISHERS + BINDERS);
    world.offer("guest.wasm", &run.guests()[0]).unwrap();
    world.declare(0, "x").unwrap();
    for name in NAMES {
        let spec = QueueSpec {
            name: Name::from_static(name),
            durable: false,
            exclusive: false,
            auto_delete: false,
            arguments: Table::new(),
        };
        world.vhost.declare_queue(spec, BY).unwrap();
    }
    let (host, vhost, exchange, truth) = (&world.host, &world.vhost, &world.exchange("x"), &Truth::default());
    thread::scope(|scope| {
        let publishers =
            (0..PUBLISHERS).map(|number| move || publish_some(run, number, host, exchange, truth));
        publishers.for_each(|publisher| drop(scope.spawn(publisher)));
        let binders: Vec<_> = (0..BINDERS)
            .map(|number| scope.spawn(move || bind_some(run, number, host, vhost, truth)))
            .collect();
        let reloader = scope.spawn(|| reload_some(run, host, truth));
        let ended: Vec<_> =
            binders.into_iter().chain([reloader]).map(thread::ScopedJoinHandle::join).collect();
        truth.done.store(true, Ordering::SeqCst);
        assert!(ended.iter().all(Result::is_ok), "a change was refused");
    });
    assert_eq!(world.purity("x-test"), (run.pure, false), "nothing stale was remembered");
}

#[test]
fn no_publish_after_a_change_is_routed_as_before_it() {
    if let Ok(seed) = std::env::var("LEVERET_TEST_SEED") {
        return run(Run::of(seed.parse().expect("a number")));
    }
    let first = rand::make_rng::<StdRng>().next_u64();
    (0..RUNS).for_each(|number| run(Run::of(u64::wrapping_add(first, number))));
}
