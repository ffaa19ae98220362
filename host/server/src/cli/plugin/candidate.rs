//! `leveret plugin candidate NAME`, `canary`, `shadow`, `promote` and `withdraw`: the version of a plugin
//! that is tried beside the one that serves.

use super::{BrokerArguments, ClientError, list::candidate_state, printable};
use crate::{
    cli::{client::Client, time},
    config::Settings,
    http::json::candidates::{CandidateJson, CandidateOrderJson, CandidateOrderedJson, OrderJson},
};
use anyhow::{Context, anyhow};
use clap::Args;
use std::io::Write;

/// How much of a digest is shown, in hexadecimal digits.
const DIGEST_DIGITS: usize = 12;

#[derive(Args, Debug)]
pub(super) struct CandidateArguments {
    /// The plugin: its file's name without .wasm
    #[arg(value_name = "NAME")]
    plugin: String,
    #[command(flatten)]
    broker: BrokerArguments,
    /// As the broker tells it
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(super) struct OrderArguments {
    /// The plugin: its file's name without .wasm
    #[arg(value_name = "NAME")]
    plugin: String,
    /// The one of this virtual host's own folder
    #[arg(long, value_name = "NAME")]
    vhost: Option<String>,
    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Args, Debug)]
pub(super) struct CanaryArguments {
    /// The share of routing keys, from 0.01 to 100
    #[arg(long, value_name = "P")]
    percent: f64,
    /// The plugin: its file's name without .wasm
    #[arg(value_name = "NAME")]
    plugin: String,
    /// In this virtual host alone
    #[arg(long, value_name = "NAME")]
    vhost: Option<String>,
    #[command(flatten)]
    broker: BrokerArguments,
}

impl CandidateArguments {
    pub(super) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let name = name(&self.plugin);
        let told: Vec<serde_json::Value> = self.broker.client(settings)?.get(&["plugins-candidates"])?;
        let mine: Vec<serde_json::Value> =
            told.into_iter().filter(|candidate| candidate.get("plugin").is_some_and(|n| n == name)).collect();
        if mine.is_empty() {
            return Err(no_candidate(name));
        }
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{:#}", serde_json::Value::Array(mine))?;
            return Ok(());
        }
        for candidate in mine {
            let candidate = serde_json::from_value(candidate).context("the broker's answer")?;
            for (name, value) in lines(&candidate) {
                writeln!(out, "{name:10} {}", printable(&value))?;
            }
        }
        Ok(())
    }
}

impl OrderArguments {
    pub(super) fn run(self, settings: &Settings, order: OrderJson) -> anyhow::Result<()> {
        give(self.plugin, self.vhost, order, None, self.broker, settings)
    }
}

impl CanaryArguments {
    pub(super) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        give(self.plugin, self.vhost, OrderJson::Canary, Some(self.percent), self.broker, settings)
    }
}

fn give(
    plugin: String,
    vhost: Option<String>,
    order: OrderJson,
    percent: Option<f64>,
    broker: BrokerArguments,
    settings: &Settings,
) -> anyhow::Result<()> {
    let plugin = name(&plugin).to_owned();
    let request = CandidateOrderJson { plugin, vhost, order, percent };
    let client = broker.client(settings)?;
    let done: CandidateOrderedJson =
        client.put_slow(&["plugins-candidates"], &request).map_err(|error| match error {
            ClientError::NotFound => not_found(&client, &request),
            other => other.into(),
        })?;
    let what = match order {
        OrderJson::Shadow => "is in shadow".to_owned(),
        OrderJson::Canary => format!("answers for {} % of routing keys", percent.unwrap_or_default()),
        OrderJson::Promote => "serves".to_owned(),
        OrderJson::Withdraw => "is withdrawn".to_owned(),
    };
    let version = done.version.as_deref().unwrap_or("(never taken)");
    let line = format!("version {version} of plugin {} ({}) {what}", request.plugin, done.scope);
    super::say(&printable(&line))?;
    if let Some(file) = &done.file {
        super::say(&format!("its file is {} now", printable(file)))?;
    }
    Ok(())
}

fn name(plugin: &str) -> &str {
    plugin.strip_suffix(".wasm").unwrap_or(plugin)
}

/// What of an order is not there.
fn not_found(client: &Client, request: &CandidateOrderJson) -> anyhow::Error {
    let there = |vhost: &String| client.get::<serde_json::Value>(&["vhosts", vhost]);
    match request.vhost.as_ref().map(|vhost| (vhost, there(vhost))) {
        Some((vhost, Err(ClientError::NotFound))) => anyhow!("there is no virtual host {}", printable(vhost)),
        _ => no_candidate(&request.plugin),
    }
}

fn no_candidate(plugin: &str) -> anyhow::Error {
    anyhow!(
        "the plugin {0} has no candidate (a file {0}.wasm in the folder `candidates` of its plugins folder is one)",
        printable(plugin)
    )
}

fn lines(candidate: &CandidateJson) -> Vec<(&'static str, String)> {
    let mut lines = vec![("plugin", format!("{} ({})", candidate.plugin, candidate.scope))];
    if let (Some(version), Some(digest)) = (&candidate.version, &candidate.digest) {
        let digest = digest.get(..DIGEST_DIGITS).unwrap_or(digest);
        let since = candidate.since_ms.map(time::utc).unwrap_or_default();
        lines.push(("candidate", format!("{version}, digest {digest}, since {since}")));
    }
    let mut state = candidate_state(candidate.state).to_owned();
    state.extend(candidate.percent.map(|percent| format!(", {percent} % of routing keys")));
    state.extend(candidate.vhost.as_ref().map(|vhost| format!(", in virtual host {vhost} alone")));
    state.extend(candidate.reason.as_ref().map(|reason| format!(": {reason}")));
    lines.push(("state", state));
    let left_out = candidate.left_out.iter();
    lines.extend(left_out.map(|it| ("left out", format!("virtual host {}: {}", it.vhost, it.reason))));
    let withdrawn = candidate.withdrawn_in.iter();
    lines.extend(withdrawn.map(|it| ("withdrawn", format!("in virtual host {}: {}", it.vhost, it.reason))));
    if candidate.version.is_some() {
        let shadow = &candidate.shadow;
        lines.push((
            "shadow",
            format!(
                "{} messages compared: {} equal, {} different; {} failed, {} not asked",
                shadow.compared, shadow.equal, shadow.different, shadow.failed, shadow.not_asked
            ),
        ));
        let canary = &candidate.canary;
        let (answered, remembered, failed) = (canary.answered, canary.remembered, canary.failed);
        lines.push((
            "canary",
            format!("{answered} messages, {remembered} of them remembered; {failed} failed"),
        ));
    }
    lines.extend(candidate.last_error.clone().map(|error| ("last error", error)));
    let refused = candidate.refused.as_ref();
    lines.extend(refused.map(|r| ("refused", format!("the last file, at stage {}: {}", r.stage, r.reason))));
    lines.extend(candidate.differences.iter().map(|d| {
        let place = format!("exchange {} in virtual host {}, key {:?}", d.exchange, d.vhost, d.routing_key);
        ("differs", format!("{place}: serving {}; candidate {}", d.serving, d.candidate))
    }));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_readable() {
        let told = serde_json::json!({
            "plugin": "prefix", "scope": "global", "state": "canary", "version": "2.0",
            "digest": "0123456789abcdef", "since_ms": 0, "percent": 5.0, "vhost": "/",
            "withdrawn_in": [{"vhost": "a", "reason": "it failed"}],
            "shadow": {"compared": 3, "equal": 2, "different": 1, "failed": 4, "not_asked": 5},
            "canary": {"answered": 7, "remembered": 6, "failed": 1},
            "refused": {"stage": "trial", "reason": "it does not start"},
            "differences": [{"vhost": "/", "exchange": "x", "type": "t", "routing_key": "k",
                             "serving": "drop", "candidate": "to queue a"}],
        });
        let shown: Vec<String> = lines(&serde_json::from_value(told).unwrap())
            .into_iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        let expected = [
            "plugin: prefix (global)",
            "candidate: 2.0, digest 0123456789ab, since 1970-01-01 00:00:00 UTC",
            "state: canary, 5 % of routing keys, in virtual host / alone",
            "withdrawn: in virtual host a: it failed",
            "shadow: 3 messages compared: 2 equal, 1 different; 4 failed, 5 not asked",
            "canary: 7 messages, 6 of them remembered; 1 failed",
            "refused: the last file, at stage trial: it does not start",
            "differs: exchange x in virtual host /, key \"k\": serving drop; candidate to queue a",
        ];
        assert_eq!(shown, expected);
    }
}
