//! What it costs a message to be routed by a component: remembered, missed one by one, missed in a
//! batch, and the same type as native code: CPU time a message.
//!
//! ```text
//! cargo bench -p leveret-benches --bench boundary
//! ```
//!
//! A table at the end has all of it together. Everything goes through a real exchange with bindings to real queues. What is missed is missed
//! because the host has no memory for answers, or because the type is impure; the messages are the
//! same in all rows of a type. Native is the plugin's own crate: the same bytes are laid out and it
//! is called with them; the queues are not looked up.

#![allow(clippy::expect_used, reason = "a set-up that fails ends the benchmark")]

use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use leveret_benches::{
    Numbers, Publisher, World, cpu_time, header_binding, header_properties, key, lay_out, messages,
};
use leveret_exchange_direct::Direct;
use leveret_exchange_fanout::Fanout;
use leveret_exchange_headers::Headers;
use leveret_exchange_topic::Topic;
use leveret_guests_peaceful::{Fixed, Turns};
use leveret_model::{HeaderSelection, MessageView, Name, Reads, Table};
use leveret_plugin::HostConfig;
use leveret_sdk::{Arguments, ExchangeType, testkit};
use std::{collections::HashMap, time::Duration};

/// How many messages a reader's chunk brings.
const CHUNK: usize = 64;
/// How many messages are routed before they come again.
const SEQUENCE: usize = 1 << 17;
/// How often they are before the measurement.
const WARM_UP: usize = 5;
/// How many times each benchmark is measured.
const SAMPLES: usize = 20;
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

fn plain(number: usize) -> (String, Vec<u8>) {
    (key(number), leveret_amqp091::properties::NONE.to_vec())
}

fn with_headers(number: usize) -> (String, Vec<u8>) {
    (String::from("orders"), header_properties(number))
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
            binding: |number| (String::new(), header_binding(number)),
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

/// Benchmarks of one type, and what they gave.
struct Group<'a> {
    group: BenchmarkGroup<'a, WallTime>,
    row: Row,
}

/// The table's line of a type: nanoseconds a message, by the benchmark's name and number.
struct Row {
    type_name: &'static str,
    ns: HashMap<(&'static str, usize), f64>,
    /// How many of the lookups hit, by the number of keys.
    remembered: HashMap<usize, f64>,
}

/// Runs batches, by their number, and counts messages.
fn per_message(group: &mut Group<'_>, id: (&'static str, usize), batch: usize, mut run: impl FnMut(usize)) {
    let mut next = 0;
    let mut samples = Vec::new();
    group.group.bench_function(BenchmarkId::new(id.0, id.1), |bencher| {
        // Sets up, the first time: outside, for criterion takes the time inside for that of an iteration.
        run(0);
        bencher.iter_custom(|messages| {
            let rounds = messages.div_ceil(batch as u64);
            let began = cpu_time();
            for _ in 0..rounds {
                run(next);
                next = (next + 1) % (SEQUENCE / batch);
            }
            let took = cpu_time() - began;
            let routed = (rounds * batch as u64) as f64;
            samples.push(took.as_secs_f64() * 1e9 / routed);
            took.mul_f64(messages as f64 / routed)
        });
    });
    // Those before are criterion's warm-up.
    let mut samples = samples.split_off(samples.len().saturating_sub(SAMPLES));
    samples.sort_by(f64::total_cmp);
    group.row.ns.extend(samples.get(samples.len() / 2).map(|median| (id, *median)));
}

fn through_the_host(
    group: &mut Group<'_>,
    id: (&'static str, usize),
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
        group.row.remembered.insert(keys, share);
    }
}

fn natively<T: ExchangeType>(group: &mut Group<'_>, subject: &Subject, keys: usize) {
    native::<T>(group, ("native", keys), subject, (keys, CHUNK));
    if keys == FEW_KEYS {
        native::<T>(group, ("native", 1), subject, (keys, 1));
    }
}

fn native<T: ExchangeType>(
    group: &mut Group<'_>,
    id: (&'static str, usize),
    subject: &Subject,
    (keys, batch): (usize, usize),
) {
    let mut exchange = None;
    let (mut messages, mut flat) = (Vec::new(), Vec::new());
    per_message(group, id, batch, |at| {
        let exchange = exchange.get_or_insert_with(|| {
            messages = subject.messages(keys);
            subject.native::<T>(keys)
        });
        let chunk = messages.chunks_exact(batch).nth(at).unwrap_or_default();
        lay_out(chunk, &subject.reads, &mut flat);
        std::hint::black_box(exchange.route_flat(&flat));
    });
}

/// What a message costs more than natively, and how many of the lookups hit where not all did.
fn more(row: &Row, keys: usize) -> String {
    let (Some(remembered), Some(native)) = (row.ns.get(&("remembered", keys)), row.ns.get(&("native", keys)))
    else {
        return String::from("-");
    };
    let hits = row.remembered.get(&keys).filter(|share| **share < 0.99);
    let hits = hits.map_or_else(String::new, |share| format!(" ({:.0} %)", share * 100.0));
    format!("{remembered:.0}{hits} {:+.0}", remembered - native)
}

fn print_table(rows: &[Row]) {
    println!("CPU time a message in ns; remembered: and how much more than native");
    println!(
        "{:<9}|{:>7}{:>12} |{:>8}{:>20} |{:>7}{:>7}{:>7}{:>7}",
        "", "1,000", "keys", "100,000", "keys", "1 by 1", "", "in a", "batch"
    );
    println!(
        "{:<9}|{:>7}{:>12} |{:>8}{:>20} |{:>7}{:>7}{:>7}{:>7}",
        "type", "native", "remembered", "native", "remembered", "native", "missed", "of 64", "of 256"
    );
    for row in rows {
        let ns = |name, number| row.ns.get(&(name, number)).map_or("-".into(), |ns| format!("{ns:.0}"));
        println!(
            "{:<9}|{:>7}{:>12} |{:>8}{:>20} |{:>7}{:>7}{:>7}{:>7}",
            row.type_name,
            ns("native", FEW_KEYS),
            more(row, FEW_KEYS),
            ns("native", MANY_KEYS),
            more(row, MANY_KEYS),
            ns("native", 1),
            ns("missed", 1),
            ns("missed", 64),
            ns("missed", 256),
        );
    }
}

fn boundary(criterion: &mut Criterion) {
    let mut rows = Vec::new();
    for subject in subjects() {
        let group = criterion.benchmark_group(subject.type_name);
        let row = Row { type_name: subject.type_name, ns: HashMap::new(), remembered: HashMap::new() };
        let mut group = Group { group, row };
        group
            .group
            .sample_size(SAMPLES)
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
                let id = ("remembered", keys);
                let memo_bytes_max = HostConfig::default().memo_bytes_max;
                through_the_host(&mut group, id, &subject, (keys, CHUNK, memo_bytes_max));
            }
        }
        for batch in [1, 64, 256] {
            let id = ("missed", batch);
            through_the_host(&mut group, id, &subject, (FEW_KEYS, batch, 0));
        }
        group.group.finish();
        rows.push(group.row);
    }
    print_table(&rows);
}

criterion_group!(benches, boundary);
criterion_main!(benches);
