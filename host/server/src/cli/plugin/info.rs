//! `leveret plugin info TYPE`: all about one exchange type, a line each.

use super::{
    BrokerArguments, ClientError,
    list::{state, yes_or_no},
    printable,
};
use crate::{config::Settings, http::json::PluginJson};
use anyhow::{Context, anyhow};
use clap::Args;
use std::io::Write;

#[derive(Args, Debug)]
pub(super) struct InfoArguments {
    /// The exchange type, as in exchange.declare
    #[arg(value_name = "TYPE")]
    type_name: String,
    #[command(flatten)]
    broker: BrokerArguments,
    /// As the broker tells it
    #[arg(long)]
    json: bool,
}

impl InfoArguments {
    pub(super) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let client = self.broker.client(settings)?;
        let told: serde_json::Value =
            client.get(&["plugins", &self.type_name]).map_err(|error| match error {
                ClientError::NotFound => anyhow!(
                    "the broker has no exchange type {} (leveret plugin list shows what it has)",
                    self.type_name
                ),
                other => other.into(),
            })?;
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{told:#}")?;
            return Ok(());
        }
        let plugin = serde_json::from_value::<PluginJson>(told).context("the broker's answer")?;
        for (name, value) in lines(&plugin) {
            writeln!(out, "{name:10} {}", printable(&value))?;
        }
        Ok(())
    }
}

fn lines(plugin: &PluginJson) -> Vec<(&'static str, String)> {
    let mut lines = vec![("type", plugin.type_name.clone()), ("state", state(plugin.state).to_owned())];
    lines.extend(plugin.reason.clone().map(|reason| ("reason", reason)));
    lines.push(("exchanges", plugin.exchanges.to_string()));
    if let Some(serving) = &plugin.serving {
        lines.extend([
            ("summary", serving.summary.clone()),
            ("plugin", serving.plugin.clone()),
            ("version", serving.version.clone()),
            ("digest", serving.digest.clone()),
            ("built in", yes_or_no(serving.builtin).to_owned()),
            ("pure", yes_or_no(serving.pure).to_owned()),
            ("compiler", serving.compiler.clone()),
        ]);
    }
    lines
}
