//! `leveret vhost`: the virtual hosts of a running broker.

use super::{
    client::{BrokerArguments, ClientError, ListArguments},
    printable, say,
    users::limit,
};
use crate::{config::Settings, http::json::users::VhostLimitsOfJson};
use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

#[derive(Args, Debug)]
pub(crate) struct VhostArguments {
    #[command(subcommand)]
    command: VhostCommand,
}

#[derive(Subcommand, Debug)]
enum VhostCommand {
    /// Make a virtual host, in which users may do nothing until permission set says so
    Add(AddArguments),
    /// Delete a virtual host with all that is in it, and end its connections
    Delete(NameArguments),
    /// All virtual hosts
    List(ListArguments),
    /// Say how many connections and queues there may be in a virtual host
    Limits(LimitsArguments),
}

#[derive(Args, Debug)]
struct NameArguments {
    /// The virtual host
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Args, Debug)]
struct AddArguments {
    #[command(flatten)]
    vhost: NameArguments,
    /// What it is for
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// Its tags, separated by commas
    #[arg(long, value_name = "TAGS", value_delimiter = ',')]
    tags: Vec<String>,
}

#[derive(Args, Debug)]
struct LimitsArguments {
    #[command(flatten)]
    vhost: NameArguments,
    /// The most connections, or none
    #[arg(long, value_name = "NUMBER", value_parser = limit)]
    max_connections: Option<i64>,
    /// The most queues, or none
    #[arg(long, value_name = "NUMBER", value_parser = limit)]
    max_queues: Option<i64>,
}

impl VhostArguments {
    /// Does what was asked; `settings` say where the broker's data is, if the command does not.
    pub(crate) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        match self.command {
            VhostCommand::Add(AddArguments { vhost: NameArguments { name, broker }, description, tags }) => {
                let body = json!({ "description": description, "tags": tags });
                broker.client(settings)?.put_done(&["vhosts", &name], &body)?;
                Ok(say(&format!("virtual host {} is there", printable(&name)))?)
            }
            VhostCommand::Delete(NameArguments { name, broker }) => {
                let deleted = broker.client(settings)?.delete_done(&["vhosts", &name]);
                deleted.map_err(|error| no_vhost(error, &name))?;
                Ok(say(&format!("virtual host {} is gone", printable(&name)))?)
            }
            VhostCommand::List(ListArguments { json, broker }) => {
                let told: Value = broker.client(settings)?.get(&["vhosts"])?;
                if json {
                    return Ok(say(&format!("{told:#}"))?);
                }
                for vhost in told.as_array().into_iter().flatten() {
                    let text = |key: &str| vhost[key].as_str().unwrap_or_default();
                    let line = format!("{}  {}", text("name"), text("description"));
                    say(printable(&line).trim_end())?;
                }
                Ok(())
            }
            VhostCommand::Limits(limits) => limits.run(settings),
        }
    }
}

impl LimitsArguments {
    fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let NameArguments { name, broker } = self.vhost;
        let client = broker.client(settings)?;
        for (limit, value) in [("max-connections", self.max_connections), ("max-queues", self.max_queues)] {
            if let Some(value) = value {
                let put = client.put_done(&["vhost-limits", &name, limit], &json!({ "value": value }));
                put.map_err(|error| no_vhost(error, &name))?;
            }
        }
        let limits: Vec<VhostLimitsOfJson> =
            client.get(&["vhost-limits", &name]).map_err(|error| no_vhost(error, &name))?;
        let value = limits.into_iter().next().map(|limits| limits.value).unwrap_or_default();
        let shown = |limit: Option<u64>| limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string());
        let (connections, queues) = (shown(value.max_connections), shown(value.max_queues));
        Ok(say(&format!("max-connections {connections}, max-queues {queues}"))?)
    }
}

fn no_vhost(error: ClientError, name: &str) -> anyhow::Error {
    match error {
        ClientError::NotFound => anyhow!("there is no virtual host {}", printable(name)),
        other => other.into(),
    }
}
