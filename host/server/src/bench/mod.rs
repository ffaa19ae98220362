//! The load generator: puts load on any AMQP 0-9-1 broker and measures what goes through.
//!
//! One thread and one connection for each publisher and consumer. A publisher writes messages from
//! ready-made templates, many a write; a consumer counts deliveries in what it reads without
//! decoding them whole. So the generator stays cheap beside the broker it drives.
//!
//! Latency is from the moment a publisher fills its write to the moment a consumer has read the
//! delivery, both on this machine's monotonic clock. It is recorded for bodies of 8 bytes and more.

mod consumer;
mod link;
mod publisher;
mod topology;

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::{
    net::SocketAddr,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// When a consumer acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckMode {
    /// Never: the broker forgets a message when it is sent.
    Auto,
    /// After so many messages, all of them at once.
    Every(u64),
}

/// The load to put on.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The broker.
    pub address: SocketAddr,
    /// Who logs in.
    pub user: String,
    /// With which password.
    pub password: String,
    /// Where.
    pub vhost: String,
    /// Connections that publish.
    pub publishers: usize,
    /// Connections that consume.
    pub consumers: usize,
    /// Queues; routing key number i leads to queue i modulo their number.
    pub queues: usize,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Messages a second of each publisher.
    pub rate_per_second: Option<u64>,
    /// Persistent messages, durable queues.
    pub persistent: bool,
    /// What queues are declared as (`x-queue-type`); `None` leaves that to the broker.
    pub queue_type: Option<String>,
    /// Confirms that may be outstanding.
    pub confirm_window: Option<u64>,
    /// The exchange type; none is the default exchange.
    pub exchange_type: Option<String>,
    /// Different routing keys.
    pub keys: usize,
    /// Bindings beside, which match nothing.
    pub idle_bindings: usize,
    /// Bind every key to every queue.
    pub fan_out: bool,
    /// Prefetch of each consumer that acknowledges.
    pub prefetch: u16,
    /// When consumers acknowledge.
    pub ack: AckMode,
    /// How long to measure.
    pub measure: Duration,
    /// How long to run before that.
    pub warm_up: Duration,
}

/// What came out.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Messages published a second.
    pub published_per_second: u64,
    /// Messages confirmed a second, where confirms are on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirmed_per_second: Option<u64>,
    /// Messages delivered a second.
    pub consumed_per_second: u64,
    /// Publish to delivery, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<Latency>,
    /// Publish to confirm, in microseconds, where confirms are on. With a rate from when a message was due, whether it
    /// could be sent then or not; else from when it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm_latency_us: Option<Latency>,
    /// Messages the broker refused.
    pub refused: u64,
    /// Seconds measured.
    pub seconds: f64,
    /// CPU seconds of the generator itself a million messages consumed (or published).
    pub generator_cpu_seconds_per_million: f64,
    /// Publishers, consumers, queues.
    pub connections: [usize; 3],
    /// Bytes of a body.
    pub body_bytes: usize,
    /// `default` for the default exchange.
    pub exchange_type: String,
    /// Different routing keys.
    pub keys: usize,
}

/// Percentiles in microseconds.
#[derive(Debug, Serialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 99 of 100 are faster.
    pub p99: f64,
    /// 999 of 1,000 are faster.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

impl Latency {
    /// Of nanoseconds; `None` if there are none.
    fn of(latencies: &Histogram<u64>) -> Option<Self> {
        let microseconds = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1000.0;
        (!latencies.is_empty()).then(|| Self {
            p50: microseconds(0.5),
            p99: microseconds(0.99),
            p999: microseconds(0.999),
            max: latencies.max() as f64 / 1000.0,
        })
    }
}

/// What the threads count, each its own.
#[derive(Default)]
struct Counters {
    published: AtomicU64,
    confirmed: AtomicU64,
    refused: AtomicU64,
    consumed: AtomicU64,
    /// Consumers record latencies only while this is set.
    measuring: AtomicBool,
    stop: AtomicBool,
}

/// One reading of the counters.
struct Reading {
    at: Instant,
    published: u64,
    confirmed: u64,
    consumed: u64,
    cpu_seconds: f64,
}

impl Counters {
    fn read(&self) -> Reading {
        Reading {
            at: Instant::now(),
            published: self.published.load(Ordering::Relaxed),
            confirmed: self.confirmed.load(Ordering::Relaxed),
            consumed: self.consumed.load(Ordering::Relaxed),
            cpu_seconds: cpu_seconds_of_process(),
        }
    }
}

/// The CPU time of this process so far, from the kernel's accounting; 0 where that is not to be had.
fn cpu_seconds_of_process() -> f64 {
    /// Linux counts these in hundredths of a second for every program.
    const TICKS_PER_SECOND: f64 = 100.0;
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else {
        return 0.0;
    };
    // The second field is the name in parentheses and may contain spaces.
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks as f64 / TICKS_PER_SECOND
}

/// Declares what the plan needs, runs it, and removes it again.
///
/// # Errors
/// If the broker cannot be reached, refuses something, or closes a connection in between.
pub fn run(plan: &Plan) -> anyhow::Result<Report> {
    let names = topology::Names::new(plan);
    topology::declare(plan, &names).context("preparing exchange, queues and bindings")?;
    let result = load(plan, &names);
    let removed = topology::remove(plan, &names).context("removing exchange and queues");
    let report = result?;
    removed?;
    Ok(report)
}

fn load(plan: &Plan, names: &topology::Names) -> anyhow::Result<Report> {
    let counters = Arc::new(Counters::default());
    let epoch = Instant::now();
    let ready = Arc::new(Barrier::new(plan.publishers + plan.consumers + 1));
    std::thread::scope(|scope| {
        let consumers: Vec<_> = (0..plan.consumers)
            .map(|index| {
                let (counters, ready) = (counters.clone(), ready.clone());
                scope.spawn(move || consumer::run(plan, names, index, &counters, &ready, epoch))
            })
            .collect();
        let publishers: Vec<_> = (0..plan.publishers)
            .map(|index| {
                let (counters, ready) = (counters.clone(), ready.clone());
                scope.spawn(move || publisher::run(plan, names, index, &counters, &ready, epoch))
            })
            .collect();
        ready.wait();
        std::thread::sleep(plan.warm_up);
        counters.measuring.store(true, Ordering::Relaxed);
        let from = counters.read();
        std::thread::sleep(plan.measure);
        let to = counters.read();
        counters.measuring.store(false, Ordering::Relaxed);
        counters.stop.store(true, Ordering::Relaxed);

        let (mut latencies, mut confirms) = (latency_histogram()?, latency_histogram()?);
        for thread in consumers {
            let histogram = thread.join().map_err(|_| anyhow::anyhow!("a consumer panicked"))??;
            latencies.add(&histogram).context("adding up latencies")?;
        }
        for thread in publishers {
            let histogram = thread.join().map_err(|_| anyhow::anyhow!("a publisher panicked"))??;
            confirms.add(&histogram).context("adding up latencies")?;
        }
        Ok(report(plan, (&from, &to), (&latencies, &confirms), counters.refused.load(Ordering::Relaxed)))
    })
}

/// For latencies in nanoseconds up to a minute, with three significant digits.
fn latency_histogram() -> anyhow::Result<Histogram<u64>> {
    const LATENCY_NANOSECONDS_MAX: u64 = 60_000_000_000;
    Histogram::new_with_bounds(1, LATENCY_NANOSECONDS_MAX, 3).context("a histogram")
}

fn report(
    plan: &Plan,
    (from, to): (&Reading, &Reading),
    (latencies, confirms): (&Histogram<u64>, &Histogram<u64>),
    refused: u64,
) -> Report {
    let seconds = (to.at - from.at).as_secs_f64();
    let rate = |from: u64, to: u64| ((to - from) as f64 / seconds).round() as u64;
    let moved = (to.consumed - from.consumed).max(to.published - from.published).max(1);
    Report {
        published_per_second: rate(from.published, to.published),
        confirmed_per_second: plan.confirm_window.map(|_| rate(from.confirmed, to.confirmed)),
        consumed_per_second: rate(from.consumed, to.consumed),
        latency_us: Latency::of(latencies),
        confirm_latency_us: Latency::of(confirms),
        refused,
        seconds,
        generator_cpu_seconds_per_million: (to.cpu_seconds - from.cpu_seconds) / moved as f64 * 1e6,
        connections: [plan.publishers, plan.consumers, plan.queues],
        body_bytes: plan.body_bytes,
        exchange_type: plan.exchange_type.clone().unwrap_or_else(|| "default".to_owned()),
        keys: plan.keys,
    }
}
