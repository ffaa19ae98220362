//! `leveret bench`: flags of the load generator.

mod values;

use crate::bench::{self, AckMode, Interrupt, KeyOrder, Pattern, Plan, Protocol, Say, Target, churn, idle};
use anyhow::bail;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    path::PathBuf,
    time::Duration,
};
use values::{
    Addresses, BODY_BYTES_MAX, CONNECTIONS_MAX, RATE_MAX, SHORT_STRING_BYTES_MAX, THINGS_MAX, count, seconds,
    short_string, some_seconds,
};

/// Which broker, and how much to say.
#[derive(Args, Debug)]
struct TargetArguments {
    /// The broker
    #[arg(long, env = "LEVERET_BENCH_ADDRESS", default_value = "127.0.0.1:5672", value_name = "HOST:PORT")]
    address: Addresses,
    /// What is spoken. Exchanges, queues and bindings are made by 0-9-1 for either, so that has to be there at the same
    /// address
    #[arg(long, default_value = "0-9-1")]
    protocol: Protocol,
    /// User name
    #[arg(long, default_value = "guest")]
    user: String,
    /// Password
    #[arg(long, default_value = "guest")]
    password: String,
    /// Virtual host
    #[arg(long, default_value = "/", value_parser = short_string)]
    vhost: String,
    /// The line of JSON alone: no table, no live line
    #[arg(long)]
    quiet: bool,
}

/// What comes and goes instead of messages.
#[derive(Subcommand, Debug)]
enum Other {
    /// Make things and take them away again, on and on
    Churn(ChurnArguments),
    /// Make many things and say what each costs the broker in memory, then take them away
    Idle(IdleArguments),
}

#[derive(Args, Debug)]
struct IdleArguments {
    #[command(flatten)]
    target: TargetArguments,
    /// Process of the broker, which runs here
    #[arg(long, value_name = "PROCESS")]
    broker_pid: u32,
    /// What is there
    what: idle::What,
    /// How many
    #[arg(long, short = 'n', default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=THINGS_MAX as u64))]
    count: u64,
    /// Bytes of a message's body
    #[arg(long, short = 's', default_value_t = 16, value_parser = count::<0, BODY_BYTES_MAX>)]
    size: usize,
    /// Seconds for the broker to come to rest, before and after
    #[arg(long, default_value = "2", value_parser = seconds)]
    settle: Duration,
}

#[derive(Args, Debug)]
struct ChurnArguments {
    #[command(flatten)]
    target: TargetArguments,
    /// What comes and goes
    what: churn::What,
    /// How many do that at once, each with a connection
    #[arg(long, short = 'w', default_value_t = 1, value_parser = count::<1, CONNECTIONS_MAX>)]
    workers: usize,
    /// Seconds to measure
    #[arg(long, short = 't', default_value = "5", value_parser = some_seconds)]
    seconds: Duration,
}

/// The routing keys where nothing else is said.
const DEFAULT_KEY: &str = "bench.key{}.end";

/// The load to put on a broker.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BenchArguments {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    target: TargetArguments,
    /// Process of the broker, if it runs here: what it used is said too. CPU time is that of its threads (schedstat, in
    /// nanoseconds), or where threads ended meanwhile, or the kernel has not that, of the process (stat, in hundredths of a
    /// second)
    #[arg(long, value_name = "PROCESS")]
    broker_pid: Option<u32>,
    /// Connections that publish
    #[arg(long, short = 'p', default_value_t = 1, value_parser = count::<0, CONNECTIONS_MAX>)]
    publishers: usize,
    /// Connections that consume, spread over the queues
    #[arg(long, short = 'c', default_value_t = 1, value_parser = count::<0, CONNECTIONS_MAX>)]
    consumers: usize,
    /// Queues
    #[arg(long, short = 'q', default_value_t = 1, value_parser = count::<1, THINGS_MAX>)]
    queues: usize,
    /// Bytes of a body; from 8 on, and as long as it goes in one frame, it carries the time, for the latency
    #[arg(long, short = 's', default_value_t = 16, value_parser = count::<0, BODY_BYTES_MAX>)]
    size: usize,
    /// Messages a second for each publisher, sent as a burst each millisecond; without it, as fast as it goes
    #[arg(long, short = 'r', value_parser = clap::value_parser!(u64).range(1..=RATE_MAX))]
    rate: Option<u64>,
    /// Persistent messages in durable queues
    #[arg(long)]
    persistent: bool,
    /// Type of the queues (x-queue-type), as quorum; without it, as the broker has it
    #[arg(long, value_name = "TYPE")]
    queue_type: Option<String>,
    /// Wait for confirms, of AMQP 1.0 outcomes, with at most this many outstanding; without it, it sends settled
    #[arg(long, value_name = "WINDOW")]
    confirm: Option<u64>,
    /// Exchange type to publish through; without it, the default exchange
    #[arg(long, short = 'e', value_name = "TYPE")]
    exchange_type: Option<String>,
    /// Different routing keys; without it, one for each queue, with --fan-out one
    #[arg(long, short = 'k', value_parser = count::<1, THINGS_MAX>)]
    keys: Option<usize>,
    /// The routing keys: {} is the number of the key, {M} that number modulo M; for a headers exchange the header `key`
    /// [default: bench.key{}.end]
    #[arg(long, value_name = "PATTERN")]
    key: Option<Pattern>,
    /// In which order keys come: turn, random, zipf:EXPONENT, or new if none is to come twice
    #[arg(long, value_name = "ORDER", default_value = "turn")]
    key_order: KeyOrder,
    /// Bindings that match, spread over the queues; without it, one for each key
    #[arg(long, value_name = "NUMBER", value_parser = count::<0, THINGS_MAX>)]
    bindings: Option<usize>,
    /// The binding keys, as --key; without it, the routing keys. For a consistent hash: --binding 1 --bindings QUEUES
    #[arg(long, value_name = "PATTERN")]
    binding: Option<Pattern>,
    /// Bindings that match nothing, beside those that do
    #[arg(long, default_value_t = 0, value_parser = count::<0, THINGS_MAX>)]
    idle_bindings: usize,
    /// Every message goes to every queue
    #[arg(long)]
    fan_out: bool,
    /// Unacknowledged messages that a consumer may hold, 0 is any number; of AMQP 1.0 its credit, 0 is 1000
    #[arg(long, default_value_t = 1000)]
    prefetch: u16,
    /// auto, each, or a number: acknowledge that many at once; auto is of AMQP 1.0 to receive settled
    #[arg(long, default_value = "auto")]
    ack: String,
    /// Seconds to measure
    #[arg(long, short = 't', default_value = "5", value_parser = some_seconds)]
    seconds: Duration,
    /// Seconds before that
    #[arg(long, default_value = "1", value_parser = seconds)]
    warm_up: Duration,
    /// Write all latencies of deliveries there, in µs, as HdrHistogram's plotters read them; of confirms to FILE.confirms
    #[arg(long, value_name = "FILE")]
    latency_file: Option<PathBuf>,
}

impl BenchArguments {
    /// Runs the load; the table goes to standard error, one line of JSON to standard output.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.other {
            Some(Other::Churn(churn)) => return churn.run(),
            Some(Other::Idle(idle)) => return idle.run(),
            None => {}
        }
        let quiet = self.target.quiet;
        let plan = self.plan()?;
        show(quiet, |interrupt, live, say| bench::run(&plan, interrupt, live, say))
    }

    /// How many routing keys there are.
    ///
    /// # Errors
    /// If what is said of keys, queues and bindings would do nothing, or leave queues without messages.
    fn keys_to_take(&self) -> anyhow::Result<usize> {
        let queues = self.queues;
        let keys = self.keys.unwrap_or(if self.fan_out { 1 } else { queues });
        if self.exchange_type.is_none() {
            let of_exchanges = [
                ("--fan-out", self.fan_out),
                ("--key", self.key.is_some()),
                ("--binding", self.binding.is_some()),
                ("--bindings", self.bindings.is_some()),
                ("--idle-bindings", self.idle_bindings > 0),
            ];
            if let Some((flag, _)) = of_exchanges.iter().find(|(_, is_given)| *is_given) {
                bail!("{flag} is for an exchange: say of which type with --exchange-type");
            }
            if keys != queues {
                bail!(
                    "without --exchange-type the routing keys are the queues' names, here {queues}: leave out --keys"
                );
            }
            return Ok(keys);
        }
        let bindings = self.bindings.unwrap_or(keys);
        if !self.fan_out && bindings < queues && self.bindings != Some(0) {
            bail!(
                "{bindings} bindings reach {bindings} of {queues} queues: say more --keys or --bindings, or --fan-out"
            );
        }
        if bindings.saturating_mul(if self.fan_out { queues } else { 1 }) > THINGS_MAX {
            bail!("more than {THINGS_MAX} bindings");
        }
        Ok(keys)
    }

    fn plan(self) -> anyhow::Result<Plan> {
        let keys = self.keys_to_take()?;
        if self.confirm == Some(0) {
            bail!("a confirm window of 0 lets nothing through");
        }
        let ack = match self.ack.as_str() {
            "auto" => AckMode::Auto,
            "each" => AckMode::Every(1),
            number => match number.parse() {
                Ok(count) if count > 0 => AckMode::Every(count),
                _ => bail!("--ack is auto, each or a positive number, not {number:?}"),
            },
        };
        let plan = Plan {
            target: self.target.into(),
            broker_process: self.broker_pid,
            publishers: self.publishers,
            consumers: self.consumers,
            queues: self.queues,
            body_bytes: self.size,
            rate_per_second: self.rate,
            persistent: self.persistent,
            queue_type: self.queue_type,
            confirm_window: self.confirm,
            exchange_type: self.exchange_type,
            keys,
            key: self.key.map_or_else(|| DEFAULT_KEY.parse(), Ok)?,
            key_order: self.key_order,
            bindings: self.bindings,
            binding: self.binding,
            idle_bindings: self.idle_bindings,
            fan_out: self.fan_out,
            prefetch: self.prefetch,
            ack,
            measure: self.seconds,
            warm_up: self.warm_up,
            latency_file: self.latency_file,
        };
        check(&plan)?;
        Ok(plan)
    }
}

/// # Errors
/// If such a load would wait for ever, or cannot be said in the protocol.
fn check(plan: &Plan) -> anyhow::Result<()> {
    if let (AckMode::Every(count), Some(prefetch)) = (plan.ack, plan.unacknowledged_max())
        && count > u64::from(prefetch)
    {
        bail!("--ack {count} waits for more messages than --prefetch {prefetch} allows");
    }
    let last = |count: usize| count.saturating_sub(1) as u64;
    let last_key = if plan.key_order == KeyOrder::New { u64::MAX } else { last(plan.keys) };
    let last_binding = last(plan.bindings.unwrap_or(plan.keys));
    for (flag, bytes) in [
        ("--key", plan.key.bytes_max(last_key)),
        ("--binding", plan.binding.as_ref().map_or(0, |binding| binding.bytes_max(last_binding))),
        ("--exchange-type", plan.exchange_type.as_ref().map_or(0, String::len)),
    ] {
        if bytes > SHORT_STRING_BYTES_MAX {
            bail!("{flag} makes {bytes} bytes, and AMQP takes {SHORT_STRING_BYTES_MAX}");
        }
    }
    Ok(())
}

impl ChurnArguments {
    fn run(self) -> anyhow::Result<()> {
        if self.target.protocol == Protocol::Amqp10 {
            bail!("what comes and goes is of AMQP 0-9-1");
        }
        let quiet = self.target.quiet;
        let plan = churn::Plan {
            target: self.target.into(),
            what: self.what,
            workers: self.workers,
            measure: self.seconds,
        };
        show(quiet, |interrupt, live, say| churn::run(&plan, interrupt, live, say))
    }
}

impl IdleArguments {
    fn run(self) -> anyhow::Result<()> {
        if self.target.protocol == Protocol::Amqp10 && self.what != idle::What::Connections {
            bail!("of AMQP 1.0 there are connections alone");
        }
        let quiet = self.target.quiet;
        let plan = idle::Plan {
            target: self.target.into(),
            broker_process: self.broker_pid,
            what: self.what,
            count: self.count,
            body_bytes: self.size,
            settle: self.settle,
        };
        show(quiet, |interrupt, live, say| idle::run(&plan, interrupt, live, say))
    }
}

impl From<TargetArguments> for Target {
    fn from(arguments: TargetArguments) -> Self {
        let TargetArguments { address, protocol, user, password, vhost, quiet: _ } = arguments;
        Self { addresses: address.0, protocol, user, password, vhost }
    }
}

/// Runs a load that gives a report: a live line if somebody looks, the table, and the JSON.
fn show<R: Display + Serialize>(
    quiet: bool,
    load: impl FnOnce(&Interrupt, &mut dyn FnMut(&str), &mut Say<'_, R>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let is_seen = !quiet && io::stderr().is_terminal();
    let put_line = |line: &str| {
        if is_seen {
            // Over the line before. Nobody may be there to read it any more; the load goes on.
            let _ = write!(io::stderr(), "\r\x1b[K{line}");
        }
    };
    let interrupt = Interrupt::listen()?;
    let mut say = |report: &R| {
        put_line("");
        if !quiet {
            writeln!(io::stderr(), "{report}")?;
        }
        Ok(super::say(&serde_json::to_string(report)?)?)
    };
    let ended = load(&interrupt, &mut |line| put_line(line), &mut say);
    put_line("");
    ended?;
    // What was measured until then is said; that it is not all, too.
    Ok(interrupt.check()?)
}
