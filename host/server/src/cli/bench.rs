//! `leveret bench`: flags of the load generator.

use crate::bench::{self, AckMode, Plan};
use anyhow::bail;
use clap::Args;
use std::{net::SocketAddr, time::Duration};

/// The load to put on a broker.
#[derive(Args, Debug)]
pub(crate) struct BenchArguments {
    /// The broker
    #[arg(
        long,
        env = "LEVERET_BENCH_ADDRESS",
        default_value = "127.0.0.1:5672",
        value_name = "ADDRESS:PORT"
    )]
    address: SocketAddr,
    /// User name
    #[arg(long, default_value = "guest")]
    user: String,
    /// Password
    #[arg(long, default_value = "guest")]
    password: String,
    /// Virtual host
    #[arg(long, default_value = "/")]
    vhost: String,
    /// Connections that publish
    #[arg(long, short = 'p', default_value_t = 1)]
    publishers: usize,
    /// Connections that consume, spread over the queues
    #[arg(long, short = 'c', default_value_t = 1)]
    consumers: usize,
    /// Queues
    #[arg(long, short = 'q', default_value_t = 1)]
    queues: usize,
    /// Bytes of a body
    #[arg(long, short = 's', default_value_t = 16)]
    size: usize,
    /// Messages a second for each publisher; without it, as fast as it goes
    #[arg(long, short = 'r')]
    rate: Option<u64>,
    /// Persistent messages in durable queues
    #[arg(long)]
    persistent: bool,
    /// Type of the queues (x-queue-type), as quorum; without it, as the broker has it
    #[arg(long, value_name = "TYPE")]
    queue_type: Option<String>,
    /// Wait for confirms, with at most this many outstanding
    #[arg(long, value_name = "WINDOW")]
    confirm: Option<u64>,
    /// Exchange type to publish through; without it, the default exchange
    #[arg(long, short = 'e', value_name = "TYPE")]
    exchange_type: Option<String>,
    /// Different routing keys, used in turn
    #[arg(long, short = 'k', default_value_t = 1)]
    keys: usize,
    /// Bindings that match nothing, beside those that do
    #[arg(long, default_value_t = 0)]
    idle_bindings: usize,
    /// Every message goes to every queue
    #[arg(long)]
    fan_out: bool,
    /// Unacknowledged messages that a consumer may hold
    #[arg(long, default_value_t = 1000)]
    prefetch: u16,
    /// auto, each, or a number: acknowledge that many at once
    #[arg(long, default_value = "auto")]
    ack: String,
    /// Seconds to measure
    #[arg(long, short = 't', default_value_t = 5.0)]
    seconds: f64,
    /// Seconds before that
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
}

impl BenchArguments {
    /// Runs the load and prints one line of JSON.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let plan = self.plan()?;
        let report = bench::run(&plan)?;
        Ok(super::say(&serde_json::to_string(&report)?)?)
    }

    fn plan(self) -> anyhow::Result<Plan> {
        if self.queues == 0 || self.keys == 0 {
            bail!("there must be at least one queue and one routing key");
        }
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
        if let AckMode::Every(count) = ack
            && self.prefetch > 0
            && count > u64::from(self.prefetch)
        {
            bail!("--ack {count} waits for more messages than --prefetch {} allows", self.prefetch);
        }
        Ok(Plan {
            address: self.address,
            user: self.user,
            password: self.password,
            vhost: self.vhost,
            publishers: self.publishers,
            consumers: self.consumers,
            queues: self.queues,
            body_bytes: self.size,
            rate_per_second: self.rate,
            persistent: self.persistent,
            queue_type: self.queue_type,
            confirm_window: self.confirm,
            exchange_type: self.exchange_type,
            keys: self.keys,
            idle_bindings: self.idle_bindings,
            fan_out: self.fan_out,
            prefetch: self.prefetch,
            ack,
            measure: Duration::from_secs_f64(self.seconds),
            warm_up: Duration::from_secs_f64(self.warm_up),
        })
    }
}
