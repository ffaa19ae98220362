//! `leveret plugin info NAME`: all about one exchange type, interceptor or refused file, a line each.

use super::{
    BrokerArguments, ClientError, interceptors,
    list::{kib, purity, state, tried, yes_or_no},
    printable, refused,
};
use crate::{
    config::Settings,
    http::json::{
        PluginJson, PluginState,
        candidates::PinJson,
        interceptors::InterceptorsJson,
        seen::{PluginInVhostJson, ReasonJson},
    },
};
use anyhow::{Context, anyhow};
use clap::Args;
use std::io::Write;

/// How many reasons for drops, and for refusals, are shown.
const REASONS_SHOWN_MAX: usize = 10;

#[derive(Args, Debug)]
pub(super) struct InfoArguments {
    /// The exchange type, as in exchange.declare, the interceptor, or the plugin whose file was refused
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    broker: BrokerArguments,
    /// As the broker tells it
    #[arg(long)]
    json: bool,
}

impl InfoArguments {
    pub(super) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let client = self.broker.client(settings)?;
        let mut out = std::io::stdout().lock();
        let told: serde_json::Value = match client.get(&["plugins", &self.name]) {
            Ok(told) => told,
            Err(ClientError::NotFound) => {
                let told: serde_json::Value = client
                    .get(&["plugins-interceptors", &self.name])
                    .map_err(|error| not_there(error, &self.name))?;
                if self.json {
                    writeln!(out, "{told:#}")?;
                    return Ok(());
                }
                let told = serde_json::from_value::<InterceptorsJson>(told).context("the broker's answer")?;
                out.write_all(interceptors::details(&told).as_bytes())?;
                return Ok(());
            }
            Err(other) => return Err(other.into()),
        };
        if self.json {
            writeln!(out, "{told:#}")?;
            return Ok(());
        }
        let plugin = serde_json::from_value::<PluginJson>(told).context("the broker's answer")?;
        for (name, value) in lines(&plugin) {
            writeln!(out, "{name:10} {}", printable(&value))?;
        }
        if plugin.state == PluginState::Refused {
            // Virtual hosts that took it, or an older version, may be asking its interceptors.
            match client.get::<InterceptorsJson>(&["plugins-interceptors", &self.name]) {
                Ok(told) => write!(out, "\n{}", interceptors::details(&told))?,
                Err(ClientError::NotFound) => {}
                Err(other) => return Err(other.into()),
            }
        }
        for there in &plugin.vhosts {
            writeln!(out, "\nin virtual host {}", printable(&there.vhost))?;
            for (name, value) in lines_in_vhost(there) {
                writeln!(out, "  {name:12} {}", printable(&value))?;
            }
        }
        Ok(())
    }
}

fn not_there(error: ClientError, name: &str) -> anyhow::Error {
    match error {
        ClientError::NotFound => anyhow!(
            "the broker has no exchange type {0}, no interceptor {0} and no refused file {0}.wasm (leveret plugin \
             list shows what it has)",
            printable(name)
        ),
        other => other.into(),
    }
}

fn lines(plugin: &PluginJson) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if plugin.state == PluginState::Refused {
        let everywhere = plugin.refused.iter().any(|file| file.vhost.is_none());
        let place = if everywhere { "" } else { " in some virtual hosts" };
        lines.push(("state", format!("{}{place}", state(plugin.state))));
    } else {
        lines.extend([("type", plugin.type_name.clone()), ("state", state(plugin.state).to_owned())]);
        lines.extend(plugin.reason.clone().map(|reason| ("reason", reason)));
        lines.push(("exchanges", plugin.exchanges.to_string()));
    }
    if let Some(serving) = &plugin.serving {
        lines.extend([
            ("summary", serving.summary.clone()),
            ("plugin", serving.plugin.clone()),
            ("version", serving.version.clone()),
            ("digest", serving.digest.clone()),
            ("built in", yes_or_no(serving.builtin).to_owned()),
            ("pure", purity(serving).to_owned()),
            ("compiler", serving.compiler.clone()),
        ]);
    }
    lines.extend(
        plugin
            .candidate
            .as_ref()
            .map(|beside| ("candidate", format!("{} in {}", beside.version, tried(beside)))),
    );
    lines.extend(plugin.pinned.iter().map(|pin| {
        let PinJson { exchange, vhost, version, .. } = pin;
        ("pinned", format!("{exchange} in virtual host {vhost} on version {version}"))
    }));
    lines.extend(plugin.refused.iter().map(|file| ("refused", refused::sentence(file))));
    lines
}

/// What a virtual host sees of it. What is not there, or never was, has no line.
fn lines_in_vhost(there: &PluginInVhostJson) -> Vec<(&'static str, String)> {
    let mut lines = vec![("state", state(there.state).to_owned())];
    lines.extend(there.reason.clone().map(|reason| ("reason", reason)));
    if let Some(serving) = &there.serving {
        lines.push(("plugin", format!("{} {}", serving.plugin, serving.version)));
    }
    let calls = &there.calls;
    // The default is not worth a line.
    lines.extend(there.on_failure.clone().filter(|said| said != "reject").map(|said| ("on failure", said)));
    lines.extend([
        ("exchanges", there.exchanges.to_string()),
        ("remembered", format!("{} messages", calls.remembered)),
        ("asked", format!("{} messages in {} calls", calls.asked, calls.calls)),
    ]);
    if let (Some(half), Some(most)) = (there.call_time.p50_ns, there.call_time.p99_ns) {
        lines.push(("call time", format!("half within {}, 99 % within {}", time(half), time(most))));
    }
    lines.extend(there.cpu_per_message_ns.map(|ns| ("a message", format!("{} of CPU", time(ns)))));
    let failures = &there.failures;
    let counts = [
        ("in the lane", there.waiting_in_lane),
        ("no answer", calls.failed),
        ("stood in for", calls.stood_in),
        ("refused", there.rejected),
        ("held", there.held),
        ("set aside", there.held_stuck),
        ("dead ids", calls.dead_ids),
        ("traps", failures.traps),
        ("CPU limit", failures.cpu_limit),
        ("memory limit", failures.memory_limit),
        ("bad answers", failures.bad_answers),
        ("not started", failures.others),
        ("emitted", there.emitted),
        ("state full", there.limits_hit.state),
        ("held full", there.limits_hit.held),
        ("log full", there.limits_hit.log_lines),
        ("metrics full", there.limits_hit.metrics),
    ];
    lines.extend(counts.into_iter().filter(|(_, n)| *n > 0).map(|(name, n)| (name, n.to_string())));
    if let (Some(error), Some(at)) = (&failures.last_error, failures.last_error_ms) {
        lines.push(("last error", format!("{error} ({at} ms since 1970)")));
    }
    let total = &there.vhost_total;
    let of_total = |bytes, most| format!("{} of {} in this virtual host", kib(bytes), kib(most));
    if there.instances > 0 {
        let (memory, of_total) =
            (kib(there.memory_bytes), of_total(total.memory_bytes, total.memory_bytes_max));
        lines.push(("memory", format!("{memory} in {} instances; {of_total}", there.instances)));
    }
    if there.remembered_bytes > 0 {
        let of_total = of_total(total.remembered_bytes, total.remembered_bytes_max);
        lines.push(("remembered", format!("{} of answers; {of_total}", kib(there.remembered_bytes))));
    }
    if there.held_bytes > 0 {
        lines.push(("held bytes", there.held_bytes.to_string()));
    }
    if there.state_entries > 0 {
        lines.push(("stores", format!("{} bytes in {} entries", there.state_bytes, there.state_entries)));
    }
    lines.extend(by_reason("dropped", &there.drops));
    lines.extend(by_reason("refused", &there.rejections));
    lines.extend(there.metrics.iter().map(|(name, value)| ("metric", format!("{name} {value}"))));
    lines
}

/// A line for each of the first reasons, and how many more there are.
fn by_reason<'a>(
    what: &'static str,
    reasons: &'a [ReasonJson],
) -> impl Iterator<Item = (&'static str, String)> + 'a {
    let shown = reasons.iter().take(REASONS_SHOWN_MAX);
    let shown = shown.map(move |it| {
        let exchange = it.exchange.as_deref().unwrap_or_default();
        (what, format!("{} by {exchange}: {}", it.messages, it.reason))
    });
    let more = reasons.len().checked_sub(REASONS_SHOWN_MAX).filter(|more| *more > 0);
    shown.chain(more.map(move |more| (what, format!("for {more} more reasons (--json shows them)"))))
}

fn time(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{ns} ns"),
        10_000..10_000_000 => format!("{} us", ns / 1_000),
        _ => format!("{} ms", ns / 1_000_000),
    }
}
