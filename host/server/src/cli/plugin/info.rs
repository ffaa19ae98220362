//! `leveret plugin info NAME`: all about one exchange type, interceptor, plugin or refused file, a line each.

use super::{
    BrokerArguments, ClientError, interceptors,
    list::{kib, purity, state, tried, yes_or_no},
    printable, refused,
};
use crate::{
    cli::client::Client,
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
    /// The exchange type, as in exchange.declare, the interceptor, or the plugin: its file's name without .wasm
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
        let name = self.name.strip_suffix(".wasm").unwrap_or(&self.name);
        let found = match client.get(&["plugins", name]) {
            Err(ClientError::NotFound) => None,
            found => Some(found?),
        };
        let interceptors = match client.get(&["plugins-interceptors", name]) {
            Err(ClientError::NotFound) => None,
            found => Some(found?),
        };
        let is_type = found.is_some();
        let told: Vec<serde_json::Value> = match found {
            Some(told) => vec![told],
            None => of_plugin(&client, name)?,
        };
        if told.is_empty() && interceptors.is_none() {
            return Err(not_there(name));
        }
        if self.json {
            let mut all = told;
            all.extend(interceptors.filter(|_| !is_type));
            match &*all {
                [alone] => writeln!(out, "{alone:#}")?,
                _ => writeln!(out, "{:#}", serde_json::Value::Array(all))?,
            }
            return Ok(());
        }
        let mut is_refused = false;
        for (at, told) in told.iter().enumerate() {
            let plugin = serde_json::from_value::<PluginJson>(told.clone()).context("the broker's answer")?;
            if at > 0 {
                writeln!(out)?;
            }
            show(&mut out, &plugin)?;
            is_refused |= plugin.state == PluginState::Refused;
        }
        // Of a refused file: virtual hosts that took it, or an older version, may be asking its interceptors.
        if let Some(it) = interceptors.filter(|_| !is_type || is_refused) {
            let it = serde_json::from_value::<InterceptorsJson>(it).context("the broker's answer")?;
            let before = if told.is_empty() { "" } else { "\n" };
            write!(out, "{before}{}", interceptors::details(&it))?;
        }
        Ok(())
    }
}

/// What there is of each exchange type of a plugin.
fn of_plugin(client: &Client, plugin: &str) -> anyhow::Result<Vec<serde_json::Value>> {
    let all: Vec<PluginJson> = client.get(&["plugins"])?;
    let is_its = |it: &&PluginJson| {
        let serving = it.serving.as_ref().map(|serving| serving.plugin.as_str());
        serving.or(it.parked_plugin.as_deref()) == Some(plugin)
    };
    let mut names: Vec<&str> = all.iter().filter(is_its).map(|it| it.type_name.as_str()).collect();
    names.dedup();
    names.into_iter().map(|name| Ok(client.get(&["plugins", name])?)).collect()
}

fn show(out: &mut impl Write, plugin: &PluginJson) -> anyhow::Result<()> {
    for (name, value) in lines(plugin) {
        writeln!(out, "{name:10} {}", printable(&value))?;
    }
    for there in &plugin.vhosts {
        writeln!(out, "\nin virtual host {}", printable(&there.vhost))?;
        for (name, value) in lines_in_vhost(there) {
            writeln!(out, "  {name:12} {}", printable(&value))?;
        }
    }
    Ok(())
}

fn not_there(name: &str) -> anyhow::Error {
    anyhow!(
        "the broker has no exchange type {0}, no interceptor {0} and no plugin {0} (leveret plugin list shows what it \
         has)",
        printable(name)
    )
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
        lines.extend(plugin.parked_plugin.clone().map(|plugin| ("plugin", plugin)));
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
        ("no room", there.limits_hit.outgoing),
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
