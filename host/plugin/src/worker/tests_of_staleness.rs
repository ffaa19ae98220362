//! That no answer is stale: publishers, binds, unbinds and changes of the version on workers of their own, in
//! an order that a seed decides as far as threads leave it to one. The plugin is reloaded, or has a canary, or
//! its exchange is pinned now and then; it is asked on the workers, or from some point on in the slow lane.
//!
//! A seed is what there is instead of a model of all interleavings (loom): what is shared here goes through the
//! locks of `parking_lot` and through wasmtime, of which loom knows nothing.
//!
//! Each change is noted before it begins and after it was said to be done, in one number. A publisher
//! reads all numbers before and after it asks: what did not change meanwhile must show in the answer.
//! A failure prints the seed; the variable `LEVERET_TEST_SEED` runs that one alone, again and again.

use super::{tests_of_keeping::BY, *};
use crate::{
    candidate::Share,
    host::Host,
    registry::{Lookup, PinTo},
    scope::Scope,
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
/// Consecutive seeds, so that each mode has its turn on the workers and in the slow lane.
const RUNS: u64 = 6;
/// The share of keys that the canary has, in percent.
const CANARY_PERCENT: f64 = 50.0;
const FILE: &str = "guest.wasm";

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

/// What is bound, and whether the second version answers.
#[derive(Default)]
struct Truth {
    bound: [Ledger; KEYS],
    second: Ledger,
    done: AtomicBool,
}

/// What changes about the version that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// One version takes the place of the other.
    Reloads,
    /// The second answers for a share of the keys, now and then.
    Canary,
    /// As with reloads, and now and then the exchange stays where it is.
    Pinned,
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
    mode: Mode,
    /// From some point on it is asked in the slow lane.
    slow: bool,
    pure: bool,
    independent: bool,
    batch: bool,
}

impl Run {
    fn of(seed: u64) -> Self {
        let mut chance = StdRng::seed_from_u64(seed);
        let mode = [Mode::Reloads, Mode::Canary, Mode::Pinned][(seed % 3) as usize];
        let (pure, independent, batch) = (chance.random_ratio(3, 4), chance.random(), chance.random());
        Self { seed, mode, slow: seed / 3 % 2 == 1, pure, independent, batch }
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
            false => vhost.bind(&mut worker, b"x", to, name, Table::new(), BY).map(drop).unwrap(),
        }
        ledger.step();
        if chance.random_ratio(1, 8) {
            thread::yield_now();
        }
    }
}

/// Changes the version that answers, and at some point says that the plugin is slow.
fn operate(run: Run, host: &Host, exchange: &Arc<Exchange>, truth: &Truth) {
    let (guests, mut chance) = (run.guests(), run.chance(usize::MAX / 2));
    let slow_from = chance.random_range(0..RELOADS / 2);
    let registry = host.registry();
    let (mut serving, mut answering) = (0, 0);
    for change in 0..RELOADS {
        if run.slow && change >= slow_from {
            slow_down(host, &exchange.vhost);
        }
        match run.mode {
            Mode::Reloads => {
                serving = 1 - serving;
                truth.second.step();
                registry.offer(Path::new(FILE), &guests[serving]).unwrap();
                truth.second.step();
            }
            Mode::Canary => {
                registry.offer_candidate(&Scope::Global, Path::new(FILE), &guests[1]).unwrap();
                truth.second.step();
                let share = Share::of_percent(CANARY_PERCENT).unwrap();
                registry.canary(&Scope::Global, "guest", share, None).unwrap();
                truth.second.step();
                // It answers for a while.
                (0..chance.random_range(1..200)).for_each(|_| thread::yield_now());
                truth.second.step();
                assert!(registry.withdraw_candidate(&Scope::Global, "guest"));
                truth.second.step();
            }
            Mode::Pinned => {
                // Nothing of this changes who answers, until it is let go.
                registry.pin(exchange, &PinTo::Current).unwrap();
                serving = chance.random_range(0..2);
                registry.offer(Path::new(FILE), &guests[serving]).unwrap();
                let changes = serving != answering;
                (0..u8::from(changes)).for_each(|_| truth.second.step());
                assert!(registry.unpin(exchange).unwrap());
                (0..u8::from(changes)).for_each(|_| truth.second.step());
                answering = serving;
            }
        }
    }
}

/// As if a call on a worker had been cut off.
fn slow_down(host: &Host, vhost: &Name) {
    let Lookup::Serving(version) = host.registry().lookup(vhost, b"x-test") else { panic!("nothing serves") };
    host.registry().account_of(&version, vhost).pace().was_cut_off();
}

fn publish_some(run: Run, number: usize, host: &Host, exchange: &Arc<Exchange>, truth: &Truth) {
    let (mut worker, mut chance) = (host.worker(number), run.chance(BINDERS + number));
    let woken = Arc::new(Woken::default());
    let share = Share::of_percent(CANARY_PERCENT).unwrap();
    let mut last = None;
    while !truth.done.load(Ordering::SeqCst) {
        let asked: Vec<usize> =
            (0..chance.random_range(1..6)).map(|_| chance.random_range(0..KEYS)).collect();
        let keys: Vec<&str> = asked.iter().map(|key| NAMES[*key]).collect();
        let (bound_before, second_before) = truth.read();
        let answers = testing::route(&mut worker, exchange, &keys, &woken);
        let (bound, second) = truth.read();
        let by_second = certain(second_before, second);
        // A canary is found by the first batch of a worker, and asked from the next one on.
        let is_new = last != Some(second_before);
        last = certain(second_before, second).map(|_| second);
        for (key, answer) in asked.into_iter().zip(&answers) {
            let by_second = match (run.mode, by_second) {
                (Mode::Canary, _) if !share.has(NAMES[key].as_bytes()) => Some(false),
                (Mode::Canary, Some(true)) if is_new => None,
                (_, by_second) => by_second,
            };
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
    world.offer(FILE, &run.guests()[0]).unwrap();
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
        let reloader = scope.spawn(|| operate(run, host, exchange, truth));
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
