//! What clients that bind and unbind all day cost those who publish: throughput and hit rate of an
//! exchange with 10,000 bindings, quiet, and while 1,000 bindings a second come and as many go.
//!
//! ```text
//! cargo bench -p leveret-benches --bench churn
//! ```
//!
//! One worker publishes as fast as it can. Another binds and unbinds, each change on its own and
//! evenly spread: the worst there is, since changes that come together are taken together. Each new
//! binding has a key that never was there before. Both are on one thread and take turns, by the CPU
//! time that the one which publishes has used; only that is measured. Quiet and busy times take turns
//! too, and the medians are printed, since what else the machine does slows both.

#![allow(clippy::expect_used, reason = "a set-up that fails ends the benchmark")]

use leveret_benches::{Numbers, Publisher, World, cpu_time, messages};
use leveret_model::{MessageView, Table};
use leveret_plugin::{HostConfig, Worker};
use std::time::Duration;

const BINDINGS: usize = 10_000;
const CHUNK: usize = 64;
const SEQUENCE: usize = 1 << 17;
/// Between a binding that comes and the next, or one that goes and the next.
const EVERY: Duration = Duration::from_millis(1);
/// How many of the coming and going are there at a time.
const THERE: usize = 200;
/// How long is measured at a time, in CPU time of the worker that publishes.
const MEASURED: Duration = Duration::from_millis(400);
/// How often quiet and busy times take turns.
const ROUNDS: usize = 7;

struct Exchange {
    type_name: &'static str,
    /// The key of a binding.
    binding: fn(usize) -> String,
    /// The key of a message to it.
    message: fn(usize) -> String,
}

const EXCHANGES: [Exchange; 2] = [
    Exchange {
        type_name: "direct",
        binding: |number| format!("orders.{number}.paid"),
        message: |number| format!("orders.{number}.paid"),
    },
    Exchange {
        type_name: "topic",
        binding: |number| format!("orders.{number}.*"),
        message: |number| format!("orders.{number}.paid"),
    },
];

/// Which keys messages have.
#[derive(Clone, Copy)]
enum Hot {
    /// So many, each as often as any other.
    Evenly(usize),
    /// All that are bound: the nth as often as 1 / n.
    Zipf,
}

fn sequence(exchange: &Exchange, hot: Hot) -> Vec<MessageView<'static>> {
    let mut numbers = Numbers::new();
    let weights: Vec<usize> = (1..=BINDINGS)
        .scan(0, |sum, rank| {
            *sum += 1_000_000 / rank;
            Some(*sum)
        })
        .collect();
    let total = weights.last().copied().unwrap_or(1);
    let mut next = || match hot {
        Hot::Evenly(keys) => numbers.below(keys),
        Hot::Zipf => {
            let point = numbers.below(total);
            weights.partition_point(|sum| *sum <= point)
        }
    };
    let properties = leveret_amqp091::properties::NONE.to_vec();
    messages((0..SEQUENCE).map(|_| ((exchange.message)(next()), properties.clone())))
}

/// What was measured.
struct Measured {
    /// Messages a second of the publishing thread's CPU time.
    throughput: f64,
    /// Shares of all messages.
    remembered: f64,
}

impl Measured {
    /// The one in the middle, by throughput.
    fn median_of(mut all: Vec<Self>) -> Self {
        all.sort_by(|a, b| a.throughput.total_cmp(&b.throughput));
        all.swap_remove(all.len() / 2)
    }
}

/// Publishes for a while; `changes` is called every half of [`EVERY`].
fn publish(publisher: &mut Publisher, messages: &[MessageView<'_>], mut change: impl FnMut()) -> Measured {
    let mut chunks = messages.chunks_exact(CHUNK).cycle();
    let before = publisher.worker().counters();
    let (mut took, mut due, mut count) = (Duration::ZERO, Duration::ZERO, 0_usize);
    while took < MEASURED {
        due += EVERY / 2;
        let (start, began) = (took, cpu_time());
        while took < due {
            for chunk in chunks.by_ref().take(8) {
                count += chunk.len();
                std::hint::black_box(publisher.route(chunk));
            }
            took = start + (cpu_time() - began);
        }
        change();
    }
    let remembered = publisher.worker().counters().remembered - before.remembered;
    Measured { throughput: count as f64 / took.as_secs_f64(), remembered: remembered as f64 / count as f64 }
}

/// Binds, and the next time unbinds what was bound a while ago.
struct Clients<'a> {
    world: &'a World,
    worker: Worker,
    exchange: &'a Exchange,
    changes: usize,
}

impl Clients<'_> {
    fn change(&mut self) {
        let number = self.changes / 2;
        let key = |number: usize| (self.exchange.binding)(BINDINGS + number);
        if self.changes.is_multiple_of(2) {
            let bound = self.world.bind(&mut self.worker, "x", number, &key(number), Table::new());
            bound.expect("the binding is taken");
        } else if let Some(gone) = number.checked_sub(THERE) {
            self.world.unbind(&mut self.worker, "x", gone, &key(gone)).expect("the binding goes");
        }
        self.changes += 1;
    }
}

fn measure(exchange: &Exchange, hot: Hot, name: &str) {
    let world = World::new(2, HostConfig::default().memo_bytes_max);
    let mut worker = world.host.worker(0);
    let declared = world.declare(&mut worker, "x", exchange.type_name);
    for number in 0..BINDINGS {
        let key = (exchange.binding)(number);
        world.bind(&mut worker, "x", number, &key, Table::new()).expect("the binding is taken");
    }
    let messages = sequence(exchange, hot);
    let mut publisher = Publisher::new(&world, worker, declared);
    publish(&mut publisher, &messages, || ());
    let mut clients = Clients { world: &world, worker: world.host.worker(1), exchange, changes: 0 };
    (0..2 * THERE).for_each(|_| clients.change());
    publish(&mut publisher, &messages, || clients.change());
    let changes = clients.changes;
    let (mut quiet, mut busy) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        quiet.push(publish(&mut publisher, &messages, || ()));
        busy.push(publish(&mut publisher, &messages, || clients.change()));
    }
    let (quiet, busy) = (Measured::median_of(quiet), Measured::median_of(busy));
    let rate = (clients.changes - changes) as f64 / 2.0 / (ROUNDS as f64 * MEASURED.as_secs_f64());
    println!(
        "{:<7} {name:<20} quiet {:>6.2} M/s, {:>5.1} % remembered; {rate:>4.0} a second come and go: \
         {:>6.2} M/s ({:>3.0} %), {:>5.1} % remembered",
        exchange.type_name,
        quiet.throughput / 1e6,
        quiet.remembered * 100.0,
        busy.throughput / 1e6,
        100.0 * busy.throughput / quiet.throughput,
        busy.remembered * 100.0,
    );
}

fn main() {
    for exchange in &EXCHANGES {
        measure(exchange, Hot::Evenly(1_000), "1,000 keys");
        measure(exchange, Hot::Evenly(10_000), "10,000 keys");
        measure(exchange, Hot::Zipf, "10,000 keys, Zipf");
    }
}
