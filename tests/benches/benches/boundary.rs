//! What it costs a message to be routed by a component: remembered, missed one by one, missed in a
//! batch, and the same type as native code: CPU time a message.
//!
//! ```text
//! cargo bench -p leveret-benches --bench boundary
//! ```
//!
//! Everything goes through a real exchange with bindings to real queues. What is missed is missed
//! because the host has no memory for answers, or because the type is impure; the messages are the
//! same in all rows of a type. Native is the plugin's own crate: the same bytes are laid out and it
//! is called with them; the queues are not looked up.

#![allow(clippy::expect_used, reason = "a set-up that fails ends the benchmark")]

use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use leveret_amqp091::properties::MessageProperties;
use leveret_benches::{Numbers, Publisher, World, cpu_time, messages};
use leveret_exchange_direct::Direct;
use leveret_exchange_fanout::Fanout;
use leveret_exchange_headers::Headers;
use leveret_exchange_topic::Topic;
use leveret_guests_peaceful::{Fixed, Turns};
use leveret_model::{HeaderSelection, MessageView, Name, Reads, Table, Value};
use leveret_plugin::HostConfig;
use leveret_sdk::{Arguments, ExchangeType, testkit};
use std::time::Duration;

/// How many messages a reader's chunk brings.
const CHUNK: usize = 64;
/// How many messages are routed before they come again.
const SEQUENCE: usize = 1 << 17;
/// How often they are before the measurement.
const WARM_UP: usize = 5;
const FEW_KEYS: usize = 1_000;
const MANY_KEYS: usize = 100_000;

/// An exchange type with bindings and messages.
struct Subject {
    type_name: &'static str,
    pure: bool,
    reads: Reads,
    /// How many bindings, for so many keys.
    bindings: fn(usize) -> usize,
    binding: fn(usize) -> (String, Table),
    message: fn(usize) -> (String, Vec<u8>),
}

fn routing_key() -> Reads {
    Reads { routing_key: true, ..Reads::default() }
}

fn text(number: usize) -> Value {
    Value::Text(format!("r{number}"))
}

fn table(name: &'static str, value: Value) -> Table {
    [(Name::from_static(name), value)].into_iter().collect()
}

/// A key of three words, for a number of a thousand and another.
fn key(number: usize) -> String {
    format!("orders.{}.{}", number % FEW_KEYS, number / FEW_KEYS)
}

fn plain(number: usize) -> (String, Vec<u8>) {
    (key(number), leveret_amqp091::properties::NONE.to_vec())
}

fn with_headers(number: usize) -> (String, Vec<u8>) {
    let headers = [
        (Name::from_static("region"), text(number % FEW_KEYS)),
        (Name::from_static("kind"), text(number / FEW_KEYS)),
        (Name::from_static("unread"), text(number)),
    ];
    let properties = MessageProperties { headers: Some(headers.into_iter().collect()), ..Default::default() };
    (String::from("orders"), properties.encode())
}

const DIRECT: Subject = Subject {
    type_name: "direct",
    pure: true,
    reads: Reads {
        routing_key: true,
        headers: HeaderSelection::None,
        properties: Vec::new(),
        body: None,
        publisher: false,
        exchange: false,
        queue: false,
        reason: false,
    },
    bindings: |keys| keys,
    binding: |number| (key(number), Table::new()),
    message: plain,
};

fn subjects() -> [Subject; 6] {
    let direct = DIRECT;
    let headers = ["kind", "region"].map(Name::from_static).to_vec();
    [
        Subject {
            type_name: "fanout",
            reads: Reads::default(),
            bindings: |_| 10,
            binding: |_| (String::new(), Table::new()),
            ..DIRECT
        },
        Subject {
            type_name: "topic",
            bindings: |_| FEW_KEYS,
            binding: |number| (format!("orders.{number}.*"), Table::new()),
            ..DIRECT
        },
        Subject {
            type_name: "headers",
            reads: Reads { headers: HeaderSelection::Named(headers), ..Reads::default() },
            bindings: |_| FEW_KEYS,
            binding: |number| match number {
                0..900 => (String::new(), table("region", text(number))),
                _ => (String::new(), table("kind", text(number - 900))),
            },
            message: with_headers,
            ..DIRECT
        },
        Subject { type_name: "x-fixed", bindings: |_| 1, ..DIRECT },
        Subject { type_name: "x-turns", pure: false, bindings: |_| 1, reads: routing_key(), ..DIRECT },
        direct,
    ]
}

impl Subject {
    /// Messages with so many keys, in an order that looks random.
    fn messages(&self, keys: usize) -> Vec<MessageView<'static>> {
        let mut numbers = Numbers::new();
        messages((0..SEQUENCE).map(|_| (self.message)(numbers.below(keys))))
    }

    fn publisher(&self, keys: usize, memo_bytes_max: usize) -> Publisher {
        let world = World::new(1, memo_bytes_max);
        if self.type_name.starts_with("x-") {
            world.load("without_logic");
        }
        let mut worker = world.host.worker(0);
        let exchange = world.declare(&mut worker, "x", self.type_name);
        for number in 0..(self.bindings)(keys) {
            let (key, arguments) = (self.binding)(number);
            world.bind(&mut worker, "x", number, &key, arguments).expect("the binding is taken");
        }
        Publisher::new(&world, worker, exchange)
    }

    fn native<T: ExchangeType>(&self, keys: usize) -> testkit::Exchange<T> {
        let mut exchange = testkit::Exchange::open(Arguments::new()).expect("it opens");
        let bindings = (0..(self.bindings)(keys)).map(|number| {
            let (key, arguments) = (self.binding)(number);
            let arguments = arguments.iter().fold(Arguments::new(), |all, (name, value)| {
                all.with(name.as_bytes(), value.as_text().expect("a text"))
            });
            (key, arguments)
        });
        exchange.bind_all(bindings).expect("the bindings are taken");
        exchange
    }
}

/// Runs batches, by their number, and counts messages.
fn per_message(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    batch: usize,
    mut run: impl FnMut(usize),
) {
    let mut next = 0;
    group.bench_function(id, |bencher| {
        bencher.iter_custom(|messages| {
            // Sets up, the first time.
            run(0);
            let rounds = messages.div_ceil(batch as u64);
            let began = cpu_time();
            for _ in 0..rounds {
                run(next);
                next = (next + 1) % (SEQUENCE / batch);
            }
            (cpu_time() - began).mul_f64(messages as f64 / (rounds * batch as u64) as f64)
        });
    });
}

fn through_the_host(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    subject: &Subject,
    (keys, batch, memo_bytes_max): (usize, usize, usize),
) {
    let mut publisher = None;
    let mut messages = Vec::new();
    per_message(group, id, batch, |at| {
        let publisher = publisher.get_or_insert_with(|| {
            messages = subject.messages(keys);
            let mut publisher = subject.publisher(keys, memo_bytes_max);
            // Often enough that what can be remembered is.
            for _ in 0..WARM_UP {
                messages.chunks(batch).for_each(|batch| assert!(publisher.route(batch) > 0));
            }
            publisher
        });
        let batch = messages.chunks_exact(batch).nth(at).unwrap_or_default();
        std::hint::black_box(publisher.route(batch));
    });
    if let Some(publisher) = publisher.filter(|_| memo_bytes_max > 0) {
        let counters = publisher.worker().counters();
        let share = counters.remembered as f64 / (counters.remembered + counters.asked) as f64;
        println!("{:>24}{:.2} % remembered", "", 100.0 * share);
    }
}

fn natively<T: ExchangeType>(group: &mut BenchmarkGroup<'_, WallTime>, subject: &Subject, keys: usize) {
    let mut exchange = None;
    let (mut messages, mut flat) = (Vec::new(), Vec::new());
    per_message(group, BenchmarkId::new("native", keys), CHUNK, |at| {
        let exchange = exchange.get_or_insert_with(|| {
            messages = subject.messages(keys);
            subject.native::<T>(keys)
        });
        lay_out(messages.chunks_exact(CHUNK).nth(at).unwrap_or_default(), &subject.reads, &mut flat);
        std::hint::black_box(exchange.route_flat(&flat));
    });
}

/// A batch as the component gets it.
fn lay_out(messages: &[MessageView<'_>], reads: &Reads, flat: &mut Vec<u8>) {
    flat.clear();
    for message in messages {
        let start = flat.len();
        flat.extend_from_slice(&[0; 4]);
        message.project(reads, flat);
        let length = u32::try_from(flat.len() - start - 4).expect("short").to_le_bytes();
        flat[start..start + 4].copy_from_slice(&length);
    }
}

fn boundary(criterion: &mut Criterion) {
    for subject in subjects() {
        let mut group = criterion.benchmark_group(subject.type_name);
        group
            .sample_size(20)
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_millis(800));
        for keys in [FEW_KEYS, MANY_KEYS] {
            match subject.type_name {
                "direct" => natively::<Direct>(&mut group, &subject, keys),
                "fanout" => natively::<Fanout>(&mut group, &subject, keys),
                "topic" => natively::<Topic>(&mut group, &subject, keys),
                "headers" => natively::<Headers>(&mut group, &subject, keys),
                "x-fixed" => natively::<Fixed>(&mut group, &subject, keys),
                _ => natively::<Turns>(&mut group, &subject, keys),
            }
            if subject.pure {
                let id = BenchmarkId::new("remembered", keys);
                let memo_bytes_max = HostConfig::default().memo_bytes_max;
                through_the_host(&mut group, id, &subject, (keys, CHUNK, memo_bytes_max));
            }
        }
        for batch in [1, 64, 256] {
            let id = BenchmarkId::new("missed", batch);
            through_the_host(&mut group, id, &subject, (FEW_KEYS, batch, 0));
        }
        group.finish();
    }
}

criterion_group!(benches, boundary);
criterion_main!(benches);
