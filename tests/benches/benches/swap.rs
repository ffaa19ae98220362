//! What a swap costs the worker whose exchange it is: the longest time that one batch of messages took while
//! new versions of the plugin of an exchange with 100,000 bindings came, next to the time that telling them
//! of those bindings took beside.
//!
//! ```text
//! cargo bench -p leveret-benches --bench swap
//! ```
//!
//! One worker publishes as fast as it can, in batches of 64; another thread offers version after version of
//! the plugin. A batch is timed from its question to its answer, so the pause has in it whatever the swap
//! makes the worker do: letting go of the old instance and of what was remembered, taking the new instance
//! over, finding out what it reads. It is told in wall time, which has in it what else the machine does, and
//! in CPU time of the worker. Next to it stands the longest batch of a time without swaps, and of a worker
//! that has nothing to remember yet.

#![allow(clippy::expect_used, reason = "a set-up that fails ends the benchmark")]

use leveret_benches::{Numbers, Publisher, World, cpu_time, messages};
use leveret_model::{MessageView, Table};
use leveret_plugin::HostConfig;
use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

const BINDINGS: usize = 100_000;
const KEYS: usize = 10_000;
const CHUNK: usize = 64;
const SEQUENCE: usize = 1 << 16;
const SWAPS: usize = 10;
/// What a swap may take of a worker.
const GOAL: Duration = Duration::from_millis(5);
/// How many batches follow each swap.
const BATCHES_AFTER: usize = 2_000;

/// The longest batches of a time, the longest first.
#[derive(Default)]
struct Longest {
    wall: Duration,
    cpu: Duration,
    batches: u64,
}

impl Longest {
    fn batch(&mut self, publisher: &mut Publisher, chunk: &[MessageView<'_>]) {
        let (began, cpu_began) = (Instant::now(), cpu_time());
        std::hint::black_box(publisher.route(chunk));
        let (wall, cpu) = (began.elapsed(), cpu_time() - cpu_began);
        self.wall = self.wall.max(wall);
        self.cpu = self.cpu.max(cpu);
        self.batches += 1;
    }
}

fn main() {
    let world = World::new(1, HostConfig::default().memo_bytes_max);
    let versions = ["versioned_v1", "versioned_v2"]
        .map(|guest| std::fs::read(leveret_testkit::guests::component(guest)).expect("the guest's file"));
    let offer = |number: usize| {
        let bytes = versions.get(number % versions.len()).expect("a version");
        world.host.registry().offer(Path::new("versioned.wasm"), bytes).expect("it is put into service")
    };
    offer(0);
    let mut worker = world.host.worker(0);
    let exchange = world.declare(&mut worker, "x", "x-versioned");
    for number in 0..BINDINGS {
        // Every other one is of the other version.
        let key = format!("orders.{}.v{}", number / 2, 1 + number % 2);
        world.bind(&mut worker, "x", number, &key, Table::new()).expect("the binding is taken");
    }
    let mut numbers = Numbers::new();
    let properties = leveret_amqp091::properties::NONE.to_vec();
    let keys = (0..SEQUENCE).map(|_| (format!("orders.{}", numbers.below(KEYS)), properties.clone()));
    let messages = messages(keys);
    let mut chunks = messages.chunks_exact(CHUNK).cycle();
    let mut publisher = Publisher::new(&world, worker, exchange);

    let mut cold = Longest::default();
    chunks.by_ref().take(BATCHES_AFTER).for_each(|chunk| cold.batch(&mut publisher, chunk));
    let mut quiet = Longest::default();
    chunks.by_ref().take(20 * BATCHES_AFTER).for_each(|chunk| quiet.batch(&mut publisher, chunk));
    print("quiet", &quiet);
    print("quiet, first batches", &cold);

    let mut worst = Longest::default();
    for swap in 1..=SWAPS {
        let (done, mut during) = (AtomicBool::new(false), Longest::default());
        let report = std::thread::scope(|scope| {
            let swapping = scope.spawn(|| {
                let report = offer(swap);
                done.store(true, Ordering::Release);
                report
            });
            while !done.load(Ordering::Acquire) {
                chunks.by_ref().take(16).for_each(|chunk| during.batch(&mut publisher, chunk));
            }
            chunks.by_ref().take(BATCHES_AFTER).for_each(|chunk| during.batch(&mut publisher, chunk));
            swapping.join().expect("the offer")
        });
        print(&format!("swap {swap:2}, replay beside {:>4} ms", report.replay_time.as_millis()), &during);
        worst.wall = worst.wall.max(during.wall);
        worst.cpu = worst.cpu.max(during.cpu);
        worst.batches += during.batches;
    }
    print("all swaps", &worst);
    let verdict = if worst.cpu <= GOAL { "within" } else { "beyond" };
    println!("the longest of the worker's own time is {verdict} {} ms", GOAL.as_millis());
}

fn print(name: &str, longest: &Longest) {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{name:<34} longest of {:>7} batches of {CHUNK}: {:>8.3} ms, {:>8.3} ms of CPU time",
        longest.batches,
        ms(longest.wall),
        ms(longest.cpu),
    );
}
