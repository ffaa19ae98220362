//! The load generator: puts load on any AMQP 0-9-1 broker and measures what goes through.
//!
//! One thread and one connection for each publisher and consumer. A publisher writes messages from
//! ready-made parts, many a write; a consumer counts deliveries in what it reads without
//! decoding them whole. So the generator stays cheap beside the broker it drives.
//!
//! Latency is from the moment a message is sent, or with a rate from when it was due, to the moment a consumer has
//! read the delivery, both on this machine's monotonic clock: what a broker makes wait counts as waiting. It is recorded
//! for bodies of 8 bytes and more.

pub mod churn;
mod consumer;
mod counting;
pub mod idle;
mod keys;
mod link;
mod publisher;
mod report;
mod topology;

use anyhow::Context;
use counting::{Counters, Reading};
use hdrhistogram::Histogram;
pub use keys::{KeyOrder, Pattern};
pub use report::{Latency, Report};
use std::{
    net::SocketAddr,
    sync::{Arc, Barrier, atomic::Ordering},
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

/// Where a broker is, and who logs in.
#[derive(Clone, Debug)]
pub struct Target {
    /// The broker.
    pub address: SocketAddr,
    /// Who logs in.
    pub user: String,
    /// With which password.
    pub password: String,
    /// Where.
    pub vhost: String,
}

/// The load to put on.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The broker.
    pub target: Target,
    /// Its process, to say what it used; one on this machine.
    pub broker_process: Option<u32>,
    /// Connections that publish.
    pub publishers: usize,
    /// Connections that consume.
    pub consumers: usize,
    /// Queues; binding number i leads to queue i modulo their number.
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
    /// The routing keys; where the exchange type is `headers`, also the value of the header `key`.
    pub key: Pattern,
    /// In which order they come.
    pub key_order: KeyOrder,
    /// Bindings that match; `None` is one for each key.
    pub bindings: Option<usize>,
    /// The binding keys; `None` is those of the messages. Where the exchange type is `headers`, what the header `key`
    /// must be.
    pub binding: Option<Pattern>,
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

/// Declares what the plan needs, runs it, and removes it again. Once a second `live` gets a line of what went through.
///
/// # Errors
/// If the broker cannot be reached, refuses something, or closes a connection in between.
pub fn run(plan: &Plan, live: &mut dyn FnMut(&str)) -> anyhow::Result<Report> {
    let names = topology::Names::new(plan)?;
    topology::declare(plan, &names).context("preparing exchange, queues and bindings")?;
    let result = load(plan, &names, live);
    let removed = topology::remove(plan, &names).context("removing exchange and queues");
    let report = result?;
    removed?;
    Ok(report)
}

fn load(plan: &Plan, names: &topology::Names, live: &mut dyn FnMut(&str)) -> anyhow::Result<Report> {
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
        watch(plan, &counters, plan.warm_up, live);
        counters.measuring.store(true, Ordering::Relaxed);
        let from = counters.read(plan.broker_process);
        watch(plan, &counters, plan.measure, live);
        let to = counters.read(plan.broker_process);
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
        Ok(Report::of(plan, names.bindings.len(), (&from, &to), (&latencies, &confirms)))
    })
}

/// Waits for so long, with a live line each second.
fn watch(plan: &Plan, counters: &Counters, wait: Duration, live: &mut dyn FnMut(&str)) {
    const EACH: Duration = Duration::from_secs(1);
    let end = Instant::now() + wait;
    let mut before: Option<Reading> = None;
    loop {
        let now = counters.read(None);
        if let Some(before) = &before {
            live(&report::live(before, &now, plan));
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        before = Some(now);
        std::thread::sleep(left.min(EACH));
    }
}

/// For latencies in nanoseconds up to a minute, with three significant digits.
fn latency_histogram() -> anyhow::Result<Histogram<u64>> {
    const LATENCY_NANOSECONDS_MAX: u64 = 60_000_000_000;
    Histogram::new_with_bounds(1, LATENCY_NANOSECONDS_MAX, 3).context("a histogram")
}
