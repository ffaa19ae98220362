//! The load generator: puts load on a broker of AMQP 0-9-1 or AMQP 1.0 and measures what goes through.
//!
//! One thread and one connection for each publisher and consumer. A publisher writes messages from
//! ready-made parts, many a write; a consumer counts deliveries in what it reads without
//! decoding them whole. So the generator stays cheap beside the broker it drives. Both are the same for both protocols
//! (`publisher.rs`, `consumer.rs`); what their bytes are is in `amqp091` and `amqp10`. What the load runs through is
//! declared by AMQP 0-9-1 for either.
//!
//! Latency is from the moment a message is sent, or with a rate from when it was due, to the moment a consumer has
//! read the delivery, both on this machine's monotonic clock: what a broker makes wait counts as waiting, and so does
//! what has not come when the measuring ends (`outstanding.rs`), as far as it is to come (`copies.rs`). It is recorded for bodies of 8 bytes and more that go in one frame.

mod amqp091;
mod amqp10;
pub mod churn;
mod consumer;
mod copies;
mod counting;
pub mod idle;
mod interrupt;
mod keys;
mod latency;
mod outstanding;
mod pace;
mod publisher;
mod report;
mod topology;
mod usage;
mod wire;

pub use amqp091::Product;
use anyhow::{Context, anyhow};
use clap::ValueEnum;
use copies::Copies;
use counting::{Counters, Reading};
pub use interrupt::{EXIT_INTERRUPTED, Interrupt, Interrupted};
pub use keys::{KeyOrder, Pattern};
use latency::Latencies;
pub use latency::Latency;
use outstanding::Stamps;
pub use report::Report;
use std::{
    fmt,
    fs::File,
    io::{BufWriter, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Barrier, atomic::Ordering},
    time::{Duration, Instant},
};
use usage::Usage;
use wire::Patience;

/// When a consumer acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckMode {
    /// Never: the broker forgets a message when it is sent.
    Auto,
    /// After so many messages, all of them at once.
    Every(u64),
}

impl fmt::Display for AckMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Every(count) => write!(f, "{count}"),
        }
    }
}

/// What is spoken with a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// AMQP 0-9-1
    #[value(name = "0-9-1")]
    Amqp091,
    /// AMQP 1.0
    #[value(name = "1.0")]
    Amqp10,
}

/// Where a broker is, and who logs in.
#[derive(Clone, Debug)]
pub struct Target {
    /// The broker: the first of these addresses that answers.
    pub addresses: Vec<SocketAddr>,
    /// By which protocol messages go.
    pub protocol: Protocol,
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
    /// Confirms, or outcomes, that may be outstanding; `None` is not to be told of any, of AMQP 1.0 to send settled.
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
    /// How many deliveries a consumer may hold that acknowledges; 0 is any number. Of AMQP 1.0 it is its credit, whether
    /// it does or not, and 0 is 1000.
    pub prefetch: u16,
    /// When consumers acknowledge.
    pub ack: AckMode,
    /// How long to measure.
    pub measure: Duration,
    /// How long to run before that.
    pub warm_up: Duration,
    /// Where all latencies of deliveries are written; those of confirms go into a file beside it
    /// (`FILE.confirms`).
    pub latency_file: Option<PathBuf>,
}

impl Plan {
    /// The credit of a consumer of AMQP 1.0.
    fn credit(&self) -> u16 {
        if self.prefetch == 0 { amqp10::CREDIT } else { self.prefetch }
    }

    /// How many deliveries that are not acknowledged a consumer may hold; `None` is any number.
    #[must_use]
    pub fn unacknowledged_max(&self) -> Option<u16> {
        match self.target.protocol {
            Protocol::Amqp091 => Some(self.prefetch).filter(|prefetch| *prefetch > 0),
            Protocol::Amqp10 => Some(self.credit()),
        }
    }
}

/// What gets the report of a load, when there is one.
pub type Say<'a, R> = dyn FnMut(&R) -> anyhow::Result<()> + 'a;

/// Declares what the plan needs, runs it, and removes it again, whether it went well or not. Once a second `live` gets a
/// line of what went through, and `say` the report, before anything is removed. When it is interrupted, the report is of
/// what was measured until then.
///
/// # Errors
/// If the broker cannot be reached, refuses something, or closes a connection in between; if it is interrupted before
/// something was measured; if what was made cannot be removed.
pub fn run(
    plan: &Plan,
    interrupt: &Interrupt,
    live: &mut dyn FnMut(&str),
    say: &mut Say<'_, Report>,
) -> anyhow::Result<()> {
    let names = topology::Names::new(plan)?;
    // That they cannot be written is told before something is measured.
    let files = LatencyFiles::create(plan)?;
    if let Some(process) = plan.broker_process {
        Usage::of(process).with_context(|| format!("no process {process} here"))?;
    }
    let link = amqp091::Link::open(&plan.target, &Patience::until(interrupt))
        .context("preparing exchange, queues and bindings")?;
    let broker = link.broker.clone();
    let declared = topology::declare(link, plan, &names).context("preparing exchange, queues and bindings");
    let result = declared.and_then(|()| load(plan, &names, (interrupt, broker), live));
    let said = result.and_then(|(report, deliveries, confirms)| {
        say(&report)?;
        files.write(&deliveries.latencies, &confirms.latencies)
    });
    with_removed(said, topology::remove(plan, &names, &Patience::in_spite_of(interrupt)), interrupt)
}

/// Where latencies of confirms are written, where those of deliveries go into that file.
fn confirms_file(deliveries: &Path) -> PathBuf {
    let mut name = deliveries.as_os_str().to_owned();
    name.push(".confirms");
    name.into()
}

/// The files for all latencies, with their names.
struct LatencyFiles {
    deliveries: Option<(PathBuf, File)>,
    confirms: Option<(PathBuf, File)>,
}

impl LatencyFiles {
    fn create(plan: &Plan) -> anyhow::Result<Self> {
        let create = |path: PathBuf| {
            let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
            anyhow::Ok((path, file))
        };
        let deliveries = plan.latency_file.clone();
        let confirms = deliveries.as_deref().filter(|_| plan.confirm_window.is_some()).map(confirms_file);
        Ok(Self {
            deliveries: deliveries.map(create).transpose()?,
            confirms: confirms.map(create).transpose()?,
        })
    }

    fn write(self, deliveries: &Latencies, confirms: &Latencies) -> anyhow::Result<()> {
        for (file, latencies) in [(self.deliveries, deliveries), (self.confirms, confirms)] {
            let Some((path, file)) = file else { continue };
            let mut out = BufWriter::new(file);
            let written = latencies.write_distribution(&mut out).and_then(|()| out.flush());
            written.with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }
}

/// How it went, after what was made is removed, or not.
fn with_removed(
    result: anyhow::Result<()>,
    removed: anyhow::Result<()>,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let Err(left) = removed else { return result };
    // That it was interrupted is told by the exit code too, however far it came.
    let result = result.and_then(|()| Ok(interrupt.check()?));
    let told = format!("what was made as {}.* may still be there ({left:#})", topology::run_name()?);
    match result {
        Ok(()) => Err(left.context("removing what was made")),
        Err(error) if error.is::<Interrupted>() => Err(error.context(told)),
        Err(error) => Err(anyhow!("{error:#}; {told}")),
    }
}

/// What a thread has measured.
struct Measured {
    latencies: Latencies,
    /// When the messages were sent, or due, that a publisher sent or should have; or those that came to a consumer.
    stamps: Stamps,
    /// How many of the latencies are of what was outstanding at the end.
    outstanding: u64,
    /// Whether the messages of a publisher had room for a time.
    is_stamped: bool,
}

impl Measured {
    fn new() -> anyhow::Result<Self> {
        let (latencies, stamps) = (Latencies::new()?, Stamps::default());
        Ok(Self { latencies, stamps, outstanding: 0, is_stamped: false })
    }

    fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.latencies.add(&other.latencies)?;
        self.stamps.add_all(&other.stamps);
        self.outstanding += other.outstanding;
        self.is_stamped |= other.is_stamped;
        Ok(())
    }
}

/// Runs it; gives the report, and what was measured of deliveries and of confirms.
fn load(
    plan: &Plan,
    names: &topology::Names,
    (interrupt, broker): (&Interrupt, Product),
    live: &mut dyn FnMut(&str),
) -> anyhow::Result<(Report, Measured, Measured)> {
    let counters = Counters::new(interrupt.clone());
    let ready = Barrier::new(plan.publishers + plan.consumers + 1);
    std::thread::scope(|scope| {
        let (counters, ready) = (&counters, &ready);
        let consumers: Vec<_> = (0..plan.consumers)
            .map(|index| scope.spawn(move || consumer::run(plan, names, index, counters, ready)))
            .collect();
        let publishers: Vec<_> = (0..plan.publishers)
            .map(|index| scope.spawn(move || publisher::run(plan, names, index, counters, ready)))
            .collect();
        // While the others connect.
        let copies = Copies::new(plan, names);
        ready.wait();
        watch(plan, counters, (plan.warm_up, interrupt), live);
        let is_warm = if plan.warm_up.is_zero() { Ok(()) } else { interrupt.check() };
        counters.begin();
        let from = counters.read_with_usage(plan.broker_process);
        watch(plan, counters, (plan.measure, interrupt), live);
        let to = counters.read_with_usage(plan.broker_process);
        // Where one has failed, the others stop by themselves, and it is heard what the broker says of it.
        if !counters.stop.load(Ordering::Acquire) {
            counters.end();
        }

        let (mut deliveries, mut confirms) = (Measured::new()?, Measured::new()?);
        for thread in consumers {
            deliveries.add(&thread.join().map_err(|_| anyhow!("a consumer panicked"))??)?;
        }
        let mut sent = Vec::new();
        for thread in publishers {
            let mut measured = thread.join().map_err(|_| anyhow!("a publisher panicked"))??;
            sent.push(std::mem::take(&mut measured.stamps));
            confirms.add(&measured)?;
        }
        is_warm?;
        if let (Ok(copies), Some(end)) = (&copies, counters.ended()) {
            let to_come = outstanding::to_come(plan, &mut sent, copies, &mut deliveries.stamps)?;
            deliveries.outstanding =
                to_come.record_outstanding(&deliveries.stamps, end, &mut deliveries.latencies);
        }
        let measured = (&deliveries, &confirms);
        let report = Report::of((plan, names.bindings.len(), broker), &copies, (&from, &to), measured);
        Ok((report, deliveries, confirms))
    })
}

/// Waits for so long, with a live line each second; less long where a thread fails or it is interrupted.
fn watch(
    plan: &Plan,
    counters: &Counters,
    (wait, interrupt): (Duration, &Interrupt),
    live: &mut dyn FnMut(&str),
) {
    const EACH: Duration = Duration::from_secs(1);
    let end = Instant::now() + wait;
    let mut before: Option<Reading> = None;
    loop {
        let now = counters.read();
        if let Some(before) = &before {
            live(&report::live(before, &now, plan));
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        before = Some(now);
        if interrupt.sleep_unless(left.min(EACH), || counters.stop.load(Ordering::Acquire)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_removed_is_told_after_why_it_failed() {
        let lost = || Err(anyhow!("no broker"));
        let why = |result: anyhow::Result<()>, interrupt: &Interrupt| {
            with_removed(result, lost(), interrupt).unwrap_err()
        };
        let (nobody, somebody) = (Interrupt::default(), Interrupt::default());
        somebody.set();
        let said = format!("{:#}", why(Err(anyhow!("no exchange")), &nobody));
        assert!(
            said.starts_with("no exchange; ") && said.ends_with("may still be there (no broker)"),
            "{said}"
        );
        // It may have been interrupted while all went well, or when it was over.
        for result in [Err(Interrupted.into()), Ok(())] {
            let interrupted = why(result, &somebody);
            assert!(
                interrupted.is::<Interrupted>() && format!("{interrupted:#}").contains("may still be there")
            );
        }
        assert!(why(Ok(()), &nobody).to_string().contains("removing"));
        assert!(with_removed(Ok(()), Ok(()), &somebody).is_ok());
    }
}
