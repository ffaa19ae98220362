//! What a load came to: as JSON, as a table, and as a line while it runs.

use super::{Latency, Measured, Plan, Product, Protocol, copies::Copies, counting::Reading};
use serde::Serialize;
use std::fmt;

/// Why there are no latencies of deliveries.
const UNMEASURED: &str = "a body of less than 8 bytes, or of more than one frame, carries no time";

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
    /// Publish to delivery, in microseconds. With a rate from when a message was due, whether it could be sent then or
    /// not; else from when it was sent. What has not come at the end counts with the time that it waited till then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<Latency>,
    /// Why that is not known, where messages had no room for a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_unmeasured: Option<&'static str>,
    /// Publish to confirm, in microseconds, where confirms are on; from when, as above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm_latency_us: Option<Latency>,
    /// Messages that were sent, or due, and to be delivered, and not when the measuring ended; they are in the
    /// percentiles. `None` where it is not known which messages are to come, or when they were sent.
    pub undelivered: Option<u64>,
    /// Why it is not known which messages are to come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undelivered_unknown: Option<&'static str>,
    /// The same of confirms.
    pub unconfirmed: u64,
    /// Messages the broker refused.
    pub refused: u64,
    /// Seconds measured.
    pub seconds: f64,
    /// CPU seconds of the generator itself a million messages consumed (or published).
    pub generator_cpu_seconds_per_million: f64,
    /// The same of the broker, where its process was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_cpu_seconds_per_million: Option<f64>,
    /// The generator's CPU time in the broker's: well below 1 where the broker is what is measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generator_cpu_to_broker: Option<f64>,
    /// Memory of the broker's process at the end, in bytes, where it was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_memory_bytes: Option<u64>,
    /// What was spoken: `0-9-1` or `1.0`.
    pub protocol: &'static str,
    /// What the broker says that it is.
    pub broker: Product,
    /// Messages a second that each publisher was to send; `None` is as fast as it goes.
    pub rate_per_second: Option<u64>,
    /// Confirms that could be outstanding of each publisher; `None` is without confirms.
    pub confirm_window: Option<u64>,
    /// `auto`, or how many a consumer acknowledged at once.
    pub ack: String,
    /// How many deliveries a consumer could hold.
    pub prefetch: u16,
    /// Whether messages were persistent and queues durable.
    pub persistent: bool,
    /// What the queues were declared as; `None` is what the broker makes by itself.
    pub queue_type: Option<String>,
    /// In which order keys came, as `--key-order` has it.
    pub key_order: String,
    /// Whether every message went to every queue.
    pub fan_out: bool,
    /// Publishers, consumers, queues.
    pub connections: [usize; 3],
    /// Bytes of a body.
    pub body_bytes: usize,
    /// `default` for the default exchange.
    pub exchange_type: String,
    /// Different routing keys; `None` where none comes twice.
    pub keys: Option<usize>,
    /// So many of them no binding takes; `None` where that is not known.
    pub keys_unbound: Option<usize>,
    /// Bindings, those that match nothing too.
    pub bindings: usize,
}

impl Report {
    /// Of what was counted between two readings.
    pub(super) fn of(
        (plan, bindings, broker): (&Plan, usize, Product),
        copies: &Result<Copies<'_>, &'static str>,
        (from, to): (&Reading, &Reading),
        (deliveries, confirms): (&Measured, &Measured),
    ) -> Self {
        let seconds = (to.at - from.at).as_secs_f64().max(f64::EPSILON);
        let rate = |from: u64, to: u64| ((to - from) as f64 / seconds).round() as u64;
        let moved = (to.consumed - from.consumed).max(to.published - from.published).max(1);
        let a_million = |seconds: f64| seconds / moved as f64 * 1e6;
        let are_untimed = plan.publishers > 0 && plan.consumers > 0 && !confirms.is_stamped;
        let used = |place: usize| {
            let [from, to] = [from, to].map(|reading| reading.usages[place].as_ref());
            from.zip(to).map(|(from, to)| to.cpu_seconds_since(from))
        };
        let (generator, of_broker) = (used(0).unwrap_or(0.0), used(1));
        Self {
            published_per_second: rate(from.published, to.published),
            confirmed_per_second: plan.confirm_window.map(|_| rate(from.confirmed, to.confirmed)),
            consumed_per_second: rate(from.consumed, to.consumed),
            latency_us: deliveries.latencies.percentiles(),
            latency_unmeasured: are_untimed.then_some(UNMEASURED),
            confirm_latency_us: confirms.latencies.percentiles(),
            undelivered: (copies.is_ok() && !are_untimed).then_some(deliveries.outstanding),
            undelivered_unknown: copies.as_ref().err().copied(),
            unconfirmed: confirms.outstanding,
            refused: to.refused - from.refused,
            seconds,
            generator_cpu_seconds_per_million: a_million(generator),
            broker_cpu_seconds_per_million: of_broker.map(a_million),
            generator_cpu_to_broker: of_broker
                .filter(|broker| *broker > 0.0)
                .map(|broker| generator / broker),
            broker_memory_bytes: to.usages[1].as_ref().map(|broker| broker.memory_bytes),
            protocol: match plan.target.protocol {
                Protocol::Amqp091 => "0-9-1",
                Protocol::Amqp10 => "1.0",
            },
            broker,
            rate_per_second: plan.rate_per_second,
            confirm_window: plan.confirm_window,
            ack: plan.ack.to_string(),
            prefetch: plan.prefetch,
            persistent: plan.persistent,
            queue_type: plan.queue_type.clone(),
            key_order: plan.key_order.to_string(),
            fan_out: plan.fan_out,
            connections: [plan.publishers, plan.consumers, plan.queues],
            body_bytes: plan.body_bytes,
            exchange_type: plan.exchange_type.clone().unwrap_or_else(|| "default".to_owned()),
            keys: (plan.key_order != super::KeyOrder::New).then_some(plan.keys),
            keys_unbound: copies.as_ref().ok().and_then(|copies| copies.keys_unbound),
            bindings,
        }
    }
}

/// The table: a line for each figure.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let latency = |f: &mut fmt::Formatter<'_>, name: &str, latency: &Option<Latency>| match latency {
            None => Ok(()),
            Some(Latency { p50, p99, p999, max, .. }) => {
                writeln!(f, "{name:<22} p50 {p50:>9.1}  p99 {p99:>9.1}  p99.9 {p999:>9.1}  max {max:>9.1} µs")
            }
        };
        writeln!(f, "{:<22} {:>12} /s", "published", self.published_per_second)?;
        if let Some(confirmed) = self.confirmed_per_second {
            writeln!(f, "{:<22} {confirmed:>12} /s", "confirmed")?;
        }
        writeln!(f, "{:<22} {:>12} /s", "consumed", self.consumed_per_second)?;
        latency(f, "publish to delivery", &self.latency_us)?;
        if let Some(why) = self.latency_unmeasured {
            writeln!(f, "{:<22} not measured: {why}", "publish to delivery")?;
        }
        latency(f, "publish to confirm", &self.confirm_latency_us)?;
        let undelivered = self.undelivered.unwrap_or(0);
        for (name, count) in [("undelivered at the end", undelivered), ("unconfirmed", self.unconfirmed)] {
            if count > 0 {
                writeln!(f, "{name:<22} {count:>12}")?;
            }
        }
        if let Some(why) = self.undelivered_unknown {
            writeln!(f, "{:<22} not known, and in no percentile: {why}", "undelivered at the end")?;
        }
        if let (Some(unbound @ 1..), Some(keys)) = (self.keys_unbound, self.keys) {
            writeln!(f, "{:<22} {unbound:>12} of {keys}", "keys without a binding")?;
        }
        if self.refused > 0 {
            writeln!(f, "{:<22} {:>12}", "refused", self.refused)?;
        }
        let generator = self.generator_cpu_seconds_per_million;
        write!(f, "{:<22} generator {generator:.2} s", "CPU a million messages")?;
        if let Some(broker) = self.broker_cpu_seconds_per_million {
            write!(f, ", broker {broker:.2} s")?;
        }
        if let Some(share) = self.generator_cpu_to_broker {
            write!(f, ", generator to broker {share:.2}")?;
        }
        if let Some(memory) = self.broker_memory_bytes {
            write!(f, "\n{:<22} {:>12.1} MiB", "memory of the broker", memory as f64 / f64::from(1 << 20))?;
        }
        Ok(())
    }
}

/// The line of what went through between two readings.
pub(super) fn live(from: &Reading, to: &Reading, plan: &Plan) -> String {
    let seconds = (to.at - from.at).as_secs_f64().max(f64::EPSILON);
    let rate = |from: u64, to: u64| (to - from) as f64 / seconds;
    let mut line = format!(
        "published {:>9.0}/s  consumed {:>9.0}/s",
        rate(from.published, to.published),
        rate(from.consumed, to.consumed)
    );
    if plan.confirm_window.is_some() {
        line += &format!("  confirmed {:>9.0}/s", rate(from.confirmed, to.confirmed));
    }
    let waiting = to.published.saturating_sub(to.consumed);
    if plan.consumers > 0 && !plan.fan_out {
        line += &format!("  on their way {waiting:>9}");
    }
    if to.refused > 0 {
        line += &format!("  refused {}", to.refused);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{
        topology::{Names, tests::plan},
        usage::Usage,
    };
    use std::time::{Duration, Instant};

    fn reading(at: Instant, consumed: u64, cpu_seconds: f64, broker: f64) -> Reading {
        let usages = [cpu_seconds, broker].map(|seconds| Some(Usage::of_one_thread(seconds, 1 << 20)));
        Reading { at, published: consumed, confirmed: 0, refused: 0, consumed, usages }
    }

    #[test]
    fn the_generators_share_and_what_was_run_are_said() {
        let began = Instant::now();
        let (from, to) =
            (reading(began, 0, 1.0, 5.0), reading(began + Duration::from_secs(2), 4_000_000, 2.0, 9.0));
        let (deliveries, confirms) = (Measured::new().unwrap(), Measured::new().unwrap());
        let product = Product { product: "Broker".to_owned(), version: "1.2".to_owned() };
        let plan = plan(None, 2, 2);
        let names = Names::new(&plan).unwrap();
        let copies = Copies::new(&plan, &names);
        let report = Report::of((&plan, 0, product), &copies, (&from, &to), (&deliveries, &confirms));
        let table = report.to_string();
        assert!(table.contains("generator 0.25 s, broker 1.00 s, generator to broker 0.25"), "{table}");
        assert!(table.contains("not measured: a body of less than 8 bytes"), "{table}");
        let json = serde_json::to_value(&report).unwrap();
        for (name, value) in [
            ("generator_cpu_to_broker", serde_json::json!(0.25)),
            ("broker", serde_json::json!({"product": "Broker", "version": "1.2"})),
            ("rate_per_second", serde_json::Value::Null),
            ("confirm_window", serde_json::Value::Null),
            ("ack", "auto".into()),
            ("prefetch", 10.into()),
            ("persistent", false.into()),
            ("queue_type", serde_json::Value::Null),
            ("key_order", "turn".into()),
            ("fan_out", false.into()),
        ] {
            assert_eq!(json[name], value, "{name}");
        }
    }
}
