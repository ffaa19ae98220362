//! `leveret plugin list`: every exchange type and what serves it, as a table; then every interceptor, every file
//! that was refused, and what an operator should know.

use super::{BrokerArguments, interceptors, printable, refused};
use crate::{
    config::Settings,
    http::json::{
        BesideJson, PluginJson, PluginState, ServingJson, candidates::CandidateStateJson,
        interceptors::InterceptorsJson, warnings::WarningJson,
    },
};
use anyhow::Context;
use clap::Args;
use std::io::Write;

/// The headings of the table.
const HEADINGS: [&str; COLUMNS] =
    ["TYPE", "SCOPE", "STATE", "PLUGIN", "VERSION", "PURE", "EXCHANGES", "MEMORY", "SUMMARY"];
const COLUMNS: usize = 9;

#[derive(Args, Debug)]
pub(super) struct ListArguments {
    #[command(flatten)]
    broker: BrokerArguments,
    /// As the broker tells it
    #[arg(long)]
    json: bool,
}

impl ListArguments {
    pub(super) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let client = self.broker.client(settings)?;
        let told: serde_json::Value = client.get(&["plugins"])?;
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{told:#}")?;
        } else {
            let plugins = serde_json::from_value::<Vec<PluginJson>>(told).context("the broker's answer")?;
            out.write_all(table(&plugins).as_bytes())?;
            // One that knows no interceptors is older than this program.
            let interceptors: InterceptorsJson = client.get(&["plugins-interceptors"]).unwrap_or_default();
            out.write_all(interceptors::table(&interceptors).as_bytes())?;
            out.write_all(refused::table(&plugins).as_bytes())?;
            let warnings: Vec<WarningJson> = client.get(&["plugins-warnings"]).unwrap_or_default();
            for (at, warning) in warnings.iter().enumerate() {
                let before = if at == 0 { "\n" } else { "" };
                let text = printable(&format!("{}: {}", warning.text, warning.hint));
                writeln!(out, "{before}warning: {text}")?;
            }
        }
        Ok(())
    }
}

fn table(plugins: &[PluginJson]) -> String {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    // Refused files have a table of their own.
    rows.extend(plugins.iter().filter(|plugin| plugin.state != PluginState::Refused).map(row));
    aligned(&rows)
}

/// Rows with their columns under each other.
pub(super) fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    });
    let mut text = String::new();
    for row in rows {
        let padded = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn row(plugin: &PluginJson) -> [String; COLUMNS] {
    let stands_in = plugin.fallback.as_ref().map(|fallback| format!("; {fallback} stands in"));
    let reason = format!("{}{}", plugin.reason.as_deref().unwrap_or_default(), stands_in.unwrap_or_default());
    let (of, version, pure, summary) = match &plugin.serving {
        Some(serving) => {
            let of = if serving.builtin { "(built in)" } else { &serving.plugin };
            // What is amiss is worth more than the help.
            let summary = plugin.reason.as_ref().map_or(&serving.summary, |_| &reason);
            (of, serving.version.as_str(), purity(serving), summary.as_str())
        }
        None => ("-", "-", "-", reason.as_str()),
    };
    let exchanges = plugin.exchanges.to_string();
    let memory = kib(plugin.memory_bytes + plugin.remembered_bytes);
    let mut standing = state(plugin.state).to_owned();
    standing.extend(plugin.candidate.as_ref().map(|beside| format!(", {}", tried(beside))));
    [&plugin.type_name, &plugin.scope, &standing, of, version, pure, &exchanges, &memory, summary]
        .map(printable)
}

/// How a candidate stands, in words.
pub(super) fn tried(beside: &BesideJson) -> String {
    let mut told = candidate_state(beside.state).to_owned();
    told.extend(beside.percent.map(|percent| format!(" {percent} %")));
    match &*beside.withdrawn_in {
        // Everywhere, if the state says so.
        _ if beside.state == CandidateStateJson::Withdrawn => {}
        [] => {}
        [vhost] => told.push_str(&format!(" (withdrawn in {vhost})")),
        vhosts => told.push_str(&format!(" (withdrawn in {} virtual hosts)", vhosts.len())),
    }
    told
}

/// How a candidate stands, in a word.
pub(super) fn candidate_state(state: CandidateStateJson) -> &'static str {
    match state {
        CandidateStateJson::Shadow => "shadow",
        CandidateStateJson::Canary => "canary",
        CandidateStateJson::Withdrawn => "canary withdrawn",
        CandidateStateJson::Refused => "candidate refused",
        CandidateStateJson::Unknown => "?",
    }
}

/// The state in a word.
pub(super) fn state(state: PluginState) -> &'static str {
    match state {
        PluginState::Serving => "serving",
        PluginState::Parked => "parked",
        PluginState::Slow => "slow",
        PluginState::Quarantined => "quarantined",
        PluginState::Refused => "refused",
        PluginState::Unknown => "?",
    }
}

/// Memory in whole KiB.
pub(super) fn kib(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}

/// Whether decisions are remembered, in a word: `withdrawn` where they are not though the plugin says so.
pub(super) fn purity(serving: &ServingJson) -> &'static str {
    if serving.purity_withdrawn { "withdrawn" } else { yes_or_no(serving.pure) }
}

/// A truth value in a word.
pub(super) fn yes_or_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::json::seen::CallsJson;

    #[test]
    fn columns_line_up_and_control_characters_are_taken_out() {
        let serving = ServingJson {
            plugin: "prefix.wasm".to_owned(),
            version: "1.0".to_owned(),
            digest: String::new(),
            compiler: "cranelift".to_owned(),
            builtin: false,
            summary: "red \u{1b}[31m".to_owned(),
            pure: true,
            purity_withdrawn: false,
        };
        let served = PluginJson {
            scope: "global".into(),
            type_name: "x-longest-prefix".to_owned(),
            state: PluginState::Serving,
            parked_plugin: None,
            exchanges: 12,
            serving: Some(serving),
            reason: None,
            fallback: None,
            calls: CallsJson::default(),
            memory_bytes: 2000,
            remembered_bytes: 49,
            vhosts: Vec::new(),
            candidate: Some(BesideJson {
                state: CandidateStateJson::Canary,
                version: "1.1".to_owned(),
                percent: Some(2.5),
                withdrawn_in: vec!["a".to_owned()],
            }),
            pinned: Vec::new(),
            refused: Vec::new(),
        };
        let parked = PluginJson {
            scope: "vhost 'a'".into(),
            type_name: "x".to_owned(),
            state: PluginState::Parked,
            parked_plugin: None,
            exchanges: 1,
            serving: None,
            reason: Some("its plugin was removed".to_owned()),
            fallback: Some("direct".to_owned()),
            calls: CallsJson::default(),
            memory_bytes: 0,
            remembered_bytes: 0,
            vhosts: Vec::new(),
            candidate: None,
            pinned: Vec::new(),
            refused: Vec::new(),
        };
        let expected = "\
            TYPE              SCOPE      STATE                                   PLUGIN       VERSION  PURE  EXCHANGES  MEMORY  SUMMARY\n\
            x-longest-prefix  global     serving, canary 2.5 % (withdrawn in a)  prefix.wasm  1.0      yes   12         3 KiB   red \u{fffd}[31m\n\
            x                 vhost 'a'  parked                                  -            -        -     1          0 KiB   its plugin was removed; direct stands in\n";
        assert_eq!(table(&[served, parked]), expected);
    }
}
