//! What more workers bring: messages a second through one exchange, by one worker and by several at once,
//! for a type whose answers are remembered and for one that is asked about every message.
//!
//! ```text
//! cargo bench -p leveret-benches --bench workers
//! ```
//!
//! Each worker has its own thread, instance and memory, so nothing is waited for. Two numbers tell: a
//! worker's CPU time a message, which would rise if they shared what they write, and messages a second on
//! the wall, which would stay behind if they waited for each other. The latter is only as good as the
//! machine is idle, so it is printed next to how much CPU time the workers got.

#![allow(clippy::expect_used, reason = "a set-up that fails ends the benchmark")]

use leveret_benches::{Numbers, Publisher, World, cpu_time, messages};
use leveret_model::{MessageView, Table};
use leveret_plugin::HostConfig;
use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

const KEYS: usize = 1_000;
const CHUNK: usize = 64;
const SEQUENCE: usize = 1 << 16;
/// How long is measured, on the wall.
const MEASURED: Duration = Duration::from_secs(1);
/// Each number is the median of so many.
const ROUNDS: usize = 5;

/// What is published to.
struct Subject {
    type_name: &'static str,
    /// The guest of `tests/guests` that has the type, if it is none of the broker's.
    guest: Option<&'static str>,
    /// The key of a binding.
    binding: fn(usize) -> String,
}

const SUBJECTS: [Subject; 3] = [
    Subject { type_name: "topic", guest: None, binding: |number| format!("orders.{number}.*") },
    Subject { type_name: "direct", guest: None, binding: |number| format!("orders.{number}.paid") },
    Subject { type_name: "x-turns", guest: Some("without_logic"), binding: |_| String::from("orders") },
];

/// What one round gave.
#[derive(Clone, Copy)]
struct Round {
    /// By all workers together.
    messages_per_second: f64,
    /// CPU time of a worker.
    ns_per_message: f64,
    /// How many processors' worth of time the workers got.
    processors: f64,
}

/// Routes chunks until the time is over; gives how many messages, and the CPU time.
fn publish(publisher: &mut Publisher, messages: &[MessageView<'_>]) -> (usize, Duration) {
    let (start, began, mut count) = (Instant::now(), cpu_time(), 0);
    for chunk in messages.chunks_exact(CHUNK).cycle() {
        std::hint::black_box(publisher.route(chunk));
        count += chunk.len();
        if count.is_multiple_of(CHUNK * 64) && start.elapsed() >= MEASURED {
            break;
        }
    }
    (count, cpu_time() - began)
}

fn round(world: &World, type_name: &str, workers: usize, messages: &[MessageView<'_>]) -> Round {
    let exchange = world.exchange(type_name);
    let ready = Barrier::new(workers);
    let done: Vec<(usize, Duration, Duration)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|worker| {
                let (ready, exchange) = (&ready, exchange.clone());
                scope.spawn(move || {
                    let mut publisher = Publisher::new(world, world.host.worker(worker), exchange);
                    messages.chunks_exact(CHUNK).for_each(|chunk| assert!(publisher.route(chunk) > 0));
                    ready.wait();
                    let start = Instant::now();
                    let (count, cpu) = publish(&mut publisher, messages);
                    (count, cpu, start.elapsed())
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a worker's thread")).collect()
    });
    let messages: usize = done.iter().map(|(count, ..)| count).sum();
    let cpu: Duration = done.iter().map(|(_, cpu, _)| *cpu).sum();
    let wall = done.iter().map(|(.., wall)| *wall).max().unwrap_or_default();
    Round {
        messages_per_second: messages as f64 / wall.as_secs_f64(),
        ns_per_message: cpu.as_secs_f64() * 1e9 / messages as f64,
        processors: cpu.as_secs_f64() / wall.as_secs_f64(),
    }
}

/// The round in the middle, by CPU time a message.
fn median(mut rounds: Vec<Round>) -> Option<Round> {
    rounds.sort_by(|a, b| a.ns_per_message.total_cmp(&b.ns_per_message));
    rounds.get(rounds.len() / 2).copied()
}

fn main() {
    let most = thread::available_parallelism().map_or(1, usize::from).max(2);
    let mut numbers = Numbers::new();
    let properties = leveret_amqp091::properties::NONE.to_vec();
    let key = |number: usize| format!("orders.{number}.paid");
    let messages = messages((0..SEQUENCE).map(|_| (key(numbers.below(KEYS)), properties.clone())));
    println!("{:<8} {:>7}  {:>9}  {:>12}  {:>10}", "type", "workers", "M/s", "ns a message", "processors");
    for Subject { type_name, guest, binding } in SUBJECTS {
        let world = World::new(most, HostConfig::default().memo_bytes_max);
        if let Some(guest) = guest {
            world.load(guest);
        }
        let mut worker = world.host.worker(0);
        world.declare(&mut worker, type_name, type_name);
        for number in 0..KEYS {
            let bound = world.bind(&mut worker, type_name, number, &binding(number), Table::new());
            bound.expect("the binding is taken");
        }
        for workers in [1, most] {
            let rounds = (0..ROUNDS).map(|_| round(&world, type_name, workers, &messages)).collect();
            if let Some(Round { messages_per_second, ns_per_message, processors }) = median(rounds) {
                let millions = messages_per_second / 1e6;
                println!(
                    "{type_name:<8} {workers:>7}  {millions:>9.2}  {ns_per_message:>12.1}  {processors:>10.2}"
                );
            }
        }
    }
}
