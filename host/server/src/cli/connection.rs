//! `leveret connection`: who is connected to a running broker.

use super::{
    client::{BrokerArguments, ClientError, ListArguments},
    printable, say,
};
use crate::config::Settings;
use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde_json::Value;

#[derive(Args, Debug)]
pub(crate) struct ConnectionArguments {
    #[command(subcommand)]
    command: ConnectionCommand,
}

#[derive(Subcommand, Debug)]
enum ConnectionCommand {
    /// All connections: name, user, virtual host, channels, what the client says it is
    List(ListArguments),
    /// Close one, as the broker would that stops (320)
    Close(CloseArguments),
    /// Close all, or all of a user
    CloseAll(CloseAllArguments),
}

#[derive(Args, Debug)]
struct CloseArguments {
    /// The connection, as list names it
    #[arg(value_name = "NAME")]
    name: String,
    /// What the client is told
    #[arg(long, value_name = "TEXT", default_value = "closed by an operator")]
    reason: String,
    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Args, Debug)]
struct CloseAllArguments {
    /// Only those of this user
    #[arg(long, value_name = "USER")]
    of: Option<String>,
    /// What the clients are told
    #[arg(long, value_name = "TEXT", default_value = "closed by an operator")]
    reason: String,
    #[command(flatten)]
    broker: BrokerArguments,
}

impl ConnectionArguments {
    /// Does what was asked; `settings` say where the broker's data is, if the command does not.
    pub(crate) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        match self.command {
            ConnectionCommand::List(ListArguments { json, broker }) => {
                let told: Value = broker.client(settings)?.get(&["connections"])?;
                if json {
                    return Ok(say(&format!("{told:#}"))?);
                }
                for connection in told.as_array().into_iter().flatten() {
                    let text = |key: &str| connection[key].as_str().unwrap_or_default();
                    let (name, user, vhost) = (text("name"), text("user"), text("vhost"));
                    let product = connection["client_properties"]["product"].as_str().unwrap_or_default();
                    let channels = connection["channels"].as_u64().unwrap_or_default();
                    let line = format!("{name}  {user}  {vhost}  {channels} channels  {product}");
                    say(printable(&line).trim_end())?;
                }
                Ok(())
            }
            ConnectionCommand::Close(CloseArguments { name, reason, broker }) => {
                let closed = broker.client(settings)?.delete_because(&["connections", &name], &reason);
                closed.map_err(|error| match error {
                    ClientError::NotFound => {
                        anyhow!("there is no connection {}; 'connection list' has them all", printable(&name))
                    }
                    other => other.into(),
                })?;
                Ok(say(&format!("connection {} is closed", printable(&name)))?)
            }
            ConnectionCommand::CloseAll(CloseAllArguments { of, reason, broker }) => {
                let client = broker.client(settings)?;
                let told: Value = client.get(&["connections"])?;
                let mut closed = 0;
                for connection in told.as_array().into_iter().flatten() {
                    let is_its = of.as_deref().is_none_or(|user| connection["user"] == user);
                    if let Some(name) = connection["name"].as_str().filter(|_| is_its) {
                        // One that is gone meanwhile is closed.
                        match client.delete_because(&["connections", name], &reason) {
                            Ok(()) => closed += 1,
                            Err(ClientError::NotFound) => {}
                            Err(other) => return Err(other.into()),
                        }
                    }
                }
                Ok(say(&format!("{closed} connections are closed"))?)
            }
        }
    }
}
