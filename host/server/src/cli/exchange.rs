//! `leveret exchange`: the exchanges of a running broker, as their types see them.

use super::{
    client::{BrokerArguments, ClientError},
    printable,
};
use crate::{
    cli,
    config::Settings,
    http::json::exchange_info::{ConfigureJson, ConfiguredJson, ExchangeInfoJson},
};
use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use serde_json::{Map, Value};
use std::io::Write;

#[derive(Args, Debug)]
pub(crate) struct ExchangeArguments {
    #[command(subcommand)]
    command: ExchangeCommand,
}

#[derive(Subcommand, Debug)]
enum ExchangeCommand {
    /// What an exchange is, and what its types show of it
    Info(InfoArguments),
    /// Change arguments of an exchange while it is in use
    Set(SetArguments),
}

#[derive(Args, Debug)]
struct Which {
    /// The exchange
    #[arg(value_name = "EXCHANGE")]
    exchange: String,
    /// The virtual host
    #[arg(long, value_name = "NAME", default_value = "/")]
    vhost: String,
    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Args, Debug)]
struct InfoArguments {
    #[command(flatten)]
    which: Which,
    /// As the broker tells it
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct SetArguments {
    #[command(flatten)]
    which: Which,
    /// An argument; a value that is a number, true, false or JSON is that, any other is text
    #[arg(value_name = "NAME=VALUE", required_unless_present = "unset")]
    set: Vec<String>,
    /// An argument that goes
    #[arg(long, value_name = "NAME")]
    unset: Vec<String>,
}

impl ExchangeArguments {
    /// Does what was asked; `settings` say where the broker's data is, if the command does not.
    pub(crate) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        match self.command {
            ExchangeCommand::Info(info) => info.run(settings),
            ExchangeCommand::Set(set) => set.run(settings),
        }
    }
}

impl InfoArguments {
    fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let Which { exchange, vhost, broker } = self.which;
        let told: Value = broker
            .client(settings)?
            .get(&["exchanges-info", &vhost, &exchange])
            .map_err(|error| not_there(error, &exchange, &vhost))?;
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{told:#}")?;
            return Ok(());
        }
        let told = serde_json::from_value(told).context("the broker's answer")?;
        out.write_all(text(&told).as_bytes())?;
        Ok(())
    }
}

impl SetArguments {
    fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let Which { exchange, vhost, broker } = self.which;
        let change = ConfigureJson { set: cli::fields(&self.set)?, unset: self.unset };
        let configured: ConfiguredJson = broker
            .client(settings)?
            .put(&["exchanges-arguments", &vhost, &exchange], &change)
            .map_err(|error| not_there(error, &exchange, &vhost))?;
        cli::say(&format!("exchange {} has the arguments", printable(&exchange)))?;
        if configured.arguments.is_empty() {
            cli::say("  none")?;
        }
        for (name, value) in &configured.arguments {
            cli::say(&format!("  {}", printable(&field(name, value))))?;
        }
        Ok(())
    }
}

fn text(told: &ExchangeInfoJson) -> String {
    let mut lines = vec![
        format!("{:10} {}", "exchange", printable(&told.name)),
        format!("{:10} {}", "type", printable(&told.type_name)),
    ];
    lines.extend(fields("arguments", &told.arguments));
    lines.extend([format!("{:10} {}", "bindings", told.bindings), format!("{:10} {}", "held", told.held)]);
    if told.rejected > 0 {
        lines.push(format!("{:10} {}", "refused", told.rejected));
    }
    for layer in &told.types {
        let by = match (&layer.plugin, &layer.version) {
            (Some(plugin), Some(version)) => format!(", by the plugin {plugin} {version}"),
            _ => String::new(),
        };
        lines.push(printable(&format!("type {}{by}", layer.type_name)));
        match &layer.error {
            Some(why) => lines.push(printable(&format!("  shows nothing: {why}"))),
            None if layer.info.is_empty() => lines.push("  shows nothing".to_owned()),
            None => {
                let shown = layer.info.iter();
                lines.extend(shown.map(|(name, value)| format!("  {}", printable(&field(name, value)))));
            }
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

fn fields(heading: &'static str, fields: &Map<String, Value>) -> impl Iterator<Item = String> {
    fields.iter().map(move |(name, value)| format!("{heading:10} {}", printable(&field(name, value))))
}

fn field(name: &str, value: &Value) -> String {
    match value {
        Value::String(text) => format!("{name} = {text}"),
        other => format!("{name} = {other}"),
    }
}

fn not_there(error: ClientError, exchange: &str, vhost: &str) -> anyhow::Error {
    match error {
        ClientError::NotFound => anyhow!("there is no exchange {exchange} in virtual host {vhost}"),
        other => other.into(),
    }
}
