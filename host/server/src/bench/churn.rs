//! Load of another kind: what comes and goes. Each worker makes a thing and takes it away again, on and on.

use super::{
    Interrupt, Interrupted, Latencies, Latency, Say, Target, amqp091::Link, topology::run_name,
    wire::Patience,
};
use clap::ValueEnum;
use leveret_amqp091::Method;
use leveret_model::Table;
use serde::Serialize;
use std::{
    fmt,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// What comes and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Connections, each with a channel
    Connections,
    /// Channels of one connection
    Channels,
    /// Exclusive queues with a name
    Queues,
    /// Bindings of one queue to a topic exchange
    Bindings,
    /// Consumers of one queue
    Consumers,
}

/// How much of it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The broker.
    pub target: Target,
    /// What comes and goes.
    pub what: What,
    /// How many do that at once, each with a connection.
    pub workers: usize,
    /// How long.
    pub measure: Duration,
}

/// What came out.
#[derive(Debug, Serialize)]
pub struct Report {
    /// How many came and went a second.
    pub per_second: u64,
    /// How long one took to come and go, in microseconds.
    pub latency_us: Option<Latency>,
    /// How many did it at once.
    pub workers: usize,
    /// Seconds measured.
    pub seconds: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<22} {:>12} /s", "came and went", self.per_second)?;
        if let Some(Latency { p50, p99, p999, max, .. }) = &self.latency_us {
            write!(
                f,
                "\n{:<22} p50 {p50:>9.1}  p99 {p99:>9.1}  p99.9 {p999:>9.1}  max {max:>9.1} µs",
                "to come and go"
            )?;
        }
        Ok(())
    }
}

/// Runs it, until it is interrupted at most. Once a second `live` gets a line, and `say` what came out.
///
/// # Errors
/// If the broker cannot be reached, refuses something, or closes a connection in between.
pub fn run(
    plan: &Plan,
    interrupt: &Interrupt,
    live: &mut dyn FnMut(&str),
    say: &mut Say<'_, Report>,
) -> anyhow::Result<()> {
    const EACH: Duration = Duration::from_secs(1);
    let (stop, done, ready) = (AtomicBool::new(false), AtomicU64::new(0), Barrier::new(plan.workers + 1));
    let (any_ended, patience) = (AtomicBool::new(false), Patience::until(interrupt));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..plan.workers)
            .map(|index| {
                let (stop, done, ready, patience) = (&stop, &done, &ready, &patience);
                let ends = Ends(&any_ended, interrupt);
                scope.spawn(move || {
                    let _ends = ends;
                    work((plan, patience), index, (stop, done, ready))
                })
            })
            .collect();
        ready.wait();
        let (from, mut before) = (Instant::now(), 0);
        let mut is_over = false;
        while !is_over && from.elapsed() < plan.measure {
            let wait = plan.measure.saturating_sub(from.elapsed()).min(EACH);
            is_over = interrupt.sleep_unless(wait, || any_ended.load(Ordering::Relaxed));
            let now = done.load(Ordering::Relaxed);
            live(&format!("came and went {:>9}", now - before));
            before = now;
        }
        let (seconds, count) = (from.elapsed().as_secs_f64(), done.load(Ordering::Relaxed));
        stop.store(true, Ordering::Relaxed);
        let mut latencies = Latencies::new()?;
        for worker in workers {
            let worked = worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??;
            latencies.add(&worked)?;
        }
        say(&Report {
            per_second: (count as f64 / seconds).round() as u64,
            latency_us: latencies.percentiles(),
            workers: plan.workers,
            seconds,
        })
    })
}

/// Says that a worker ended, when it goes with that.
struct Ends<'a>(&'a AtomicBool, &'a Interrupt);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.look_again();
    }
}

fn work(
    (plan, patience): (&Plan, &Patience),
    index: usize,
    (stop, done, ready): (&AtomicBool, &AtomicU64, &Barrier),
) -> anyhow::Result<Latencies> {
    let prepared = Worker::new(plan, index, patience);
    ready.wait();
    let mut worker = prepared?;
    let mut latencies = Latencies::new()?;
    let ended = worker.work(plan, (stop, done), &mut latencies).and_then(|()| worker.link.close());
    match ended {
        // What was measured until then is told. What there is goes with the connection.
        Err(error) if error.is::<Interrupted>() => Ok(latencies),
        ended => ended.map(|()| latencies),
    }
}

struct Worker {
    link: Link,
    /// Of things of this worker.
    name: String,
    patience: Patience,
}

impl Worker {
    fn new(plan: &Plan, index: usize, patience: &Patience) -> anyhow::Result<Self> {
        let name = format!("{}.{index}", run_name()?);
        let link = Link::open(&plan.target, patience)?;
        let mut worker = Self { link, name, patience: patience.clone() };
        if matches!(plan.what, What::Bindings | What::Consumers) {
            let name = worker.name.clone();
            worker.declare(&name)?;
        }
        Ok(worker)
    }

    fn work(
        &mut self,
        plan: &Plan,
        (stop, done): (&AtomicBool, &AtomicU64),
        latencies: &mut Latencies,
    ) -> anyhow::Result<()> {
        let mut round = 0;
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            self.come_and_go(plan, round)?;
            latencies.record(began.elapsed().as_nanos() as u64, 1);
            done.fetch_add(1, Ordering::Relaxed);
            round += 1;
        }
        Ok(())
    }

    fn declare(&mut self, queue: &str) -> anyhow::Result<()> {
        self.link.call(Method::QueueDeclare {
            queue: queue.as_bytes(),
            passive: false,
            durable: false,
            exclusive: true,
            auto_delete: false,
            nowait: false,
            arguments: Table::new(),
        })
    }

    fn delete(&mut self, queue: &str) -> anyhow::Result<()> {
        let queue = queue.as_bytes();
        self.link.call(Method::QueueDelete { queue, if_unused: false, if_empty: false, nowait: false })
    }

    fn come_and_go(&mut self, plan: &Plan, round: u64) -> anyhow::Result<()> {
        match plan.what {
            What::Connections => Link::open(&plan.target, &self.patience)?.close(),
            What::Channels => self.link.channel_again(),
            What::Queues => {
                let queue = format!("{}.{round}", self.name);
                self.declare(&queue)?;
                self.delete(&queue)
            }
            What::Bindings => {
                let (queue, key) = (self.name.clone(), format!("{}.{round}.*", self.name));
                let (queue, exchange, routing_key) = (queue.as_bytes(), b"amq.topic", key.as_bytes());
                let arguments = Table::new();
                self.link.call(Method::QueueBind {
                    queue,
                    exchange,
                    routing_key,
                    nowait: false,
                    arguments,
                })?;
                let arguments = Table::new();
                self.link.call(Method::QueueUnbind { queue, exchange, routing_key, arguments })
            }
            What::Consumers => {
                let queue = self.name.clone();
                self.link.consume(&queue, true)?;
                self.link.cancel()
            }
        }
    }
}
