//! `leveret hold`: messages that a running broker's exchanges hold back until a time.

use super::{
    client::{BrokerArguments, ClientError},
    printable,
};
use crate::{
    config::Settings,
    http::json::seen::{CancelledJson, HoldsJson},
};
use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use std::io::Write;

#[derive(Args, Debug)]
pub(crate) struct HoldArguments {
    #[command(subcommand)]
    command: HoldCommand,
}

#[derive(Subcommand, Debug)]
enum HoldCommand {
    /// What an exchange holds, by its time
    List(ListArguments),
    /// Drop one held message, or all of an exchange
    Cancel(CancelArguments),
}

#[derive(Args, Debug)]
struct Where {
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
struct ListArguments {
    #[command(flatten)]
    there: Where,
    /// How many messages to leave out at the front
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    skip: usize,
    /// As the broker tells it
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct CancelArguments {
    #[command(flatten)]
    there: Where,
    /// The number of the message, as the list shows it
    #[arg(value_name = "ID", required_unless_present = "all")]
    id: Option<u64>,
    /// All messages that the exchange holds
    #[arg(long, conflicts_with = "id")]
    all: bool,
}

impl HoldArguments {
    /// Does what was asked; `settings` say where the broker's data is, if the command does not.
    pub(crate) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        match self.command {
            HoldCommand::List(ListArguments { there, skip, json }) => list(there, (skip, json), settings),
            HoldCommand::Cancel(CancelArguments { there, id, .. }) => cancel(there, id, settings),
        }
    }
}

fn list(there: Where, (skip, json): (usize, bool), settings: &Settings) -> anyhow::Result<()> {
    let Where { exchange, vhost, broker } = there;
    let told: serde_json::Value = broker
        .client(settings)?
        .get_with(&["holds", &vhost, &exchange], &format!("skip={skip}"))
        .map_err(|error| not_there(error, &exchange, &vhost))?;
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{told:#}")?;
        return Ok(());
    }
    let HoldsJson { count, holds } = serde_json::from_value(told).context("the broker's answer")?;
    writeln!(out, "{count} messages are held")?;
    if !holds.is_empty() {
        writeln!(out, "{:>12}  {:>16}  {:>10}  {:>5}  KEY", "ID", "DUE (MS)", "BYTES", "TRIES")?;
    }
    for hold in &holds {
        let key = printable(&hold.routing_key);
        writeln!(
            out,
            "{:>12}  {:>16}  {:>10}  {:>5}  {key}",
            hold.id, hold.due_ms, hold.length_bytes, hold.tries
        )?;
        if let Some(why) = &hold.stuck {
            writeln!(out, "{:>12}  set aside: {}", "", printable(why))?;
        }
    }
    let shown = skip.saturating_add(holds.len());
    if let more @ 1.. = count.saturating_sub(shown) {
        writeln!(out, "and {more} more: --skip {shown} shows the next")?;
    }
    Ok(())
}

fn cancel(there: Where, id: Option<u64>, settings: &Settings) -> anyhow::Result<()> {
    let Where { exchange, vhost, broker } = there;
    let client = broker.client(settings)?;
    let CancelledJson { cancelled } = match id {
        Some(id) => {
            client.delete(&["holds", &vhost, &exchange, &id.to_string()]).map_err(|error| match error {
                ClientError::NotFound => {
                    anyhow!("exchange {exchange} in virtual host {vhost} holds no message {id}")
                }
                other => other.into(),
            })?
        }
        None => client
            .delete(&["holds", &vhost, &exchange])
            .map_err(|error| not_there(error, &exchange, &vhost))?,
    };
    Ok(super::say(&format!("{cancelled} messages are dropped"))?)
}

fn not_there(error: ClientError, exchange: &str, vhost: &str) -> anyhow::Error {
    match error {
        ClientError::NotFound => anyhow!("there is no exchange {exchange} in virtual host {vhost}"),
        other => other.into(),
    }
}
