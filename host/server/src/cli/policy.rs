//! `leveret policy` and `leveret operator-policy`: what holds for queues and exchanges of a running broker by their names.

use super::{
    client::{BrokerArguments, ClientError},
    printable, say,
};
use crate::{config::Settings, http::json::policies::PolicyJson};
use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

#[derive(Args, Debug)]
pub(crate) struct PolicyArguments {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Subcommand, Debug)]
enum PolicyCommand {
    /// Set a policy, or change one
    Set(SetArguments),
    /// Take a policy away
    Clear(ClearArguments),
    /// The policies, the one that counts least first
    List(ListArguments),
}

#[derive(Args, Debug)]
struct SetArguments {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    /// A regular expression that is looked for anywhere in the names of queues and exchanges
    #[arg(value_name = "PATTERN")]
    pattern: String,
    /// What it says, as JSON: {"max-length": 1000}
    #[arg(value_name = "DEFINITION")]
    definition: String,
    /// Of several that would apply the one with the greatest does
    #[arg(long, value_name = "NUMBER", default_value = "0", allow_negative_numbers = true)]
    priority: f64,
    /// What it is for: all, queues, classic_queues, quorum_queues, streams or exchanges
    #[arg(long, value_name = "WHAT", default_value = "all")]
    apply_to: String,
    /// The virtual host
    #[arg(long, value_name = "NAME", default_value = "/")]
    vhost: String,
    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Args, Debug)]
struct ClearArguments {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    /// The virtual host
    #[arg(long, value_name = "NAME", default_value = "/")]
    vhost: String,
    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Args, Debug)]
struct ListArguments {
    /// Of this virtual host alone
    #[arg(long, value_name = "NAME")]
    vhost: Option<String>,
    /// As the broker tells it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArguments,
}

/// Users' policies.
pub(super) const POLICIES: &str = "policies";
/// Operators' policies.
pub(super) const OPERATOR_POLICIES: &str = "operator-policies";

impl PolicyArguments {
    /// Does what was asked with [`POLICIES`] or [`OPERATOR_POLICIES`]; `settings` say where the broker's data is, if the
    /// command does not.
    pub(crate) fn run(self, resource: &str, settings: &Settings) -> anyhow::Result<()> {
        match self.command {
            PolicyCommand::Set(set) => set.run(resource, settings),
            PolicyCommand::Clear(ClearArguments { name, vhost, broker }) => {
                let cleared = broker.client(settings)?.delete_done(&[resource, &vhost, &name]);
                cleared.map_err(|error| match error {
                    ClientError::NotFound => {
                        anyhow!("there is no policy {} in {}", printable(&name), printable(&vhost))
                    }
                    other => other.into(),
                })?;
                Ok(say(&format!("policy {} is gone", printable(&name)))?)
            }
            PolicyCommand::List(list) => list.run(resource, settings),
        }
    }
}

impl SetArguments {
    fn run(self, resource: &str, settings: &Settings) -> anyhow::Result<()> {
        let Self { name, pattern, definition, priority, apply_to, vhost, broker } = self;
        let definition: Map<String, Value> =
            serde_json::from_str(&definition).context("the definition must be a JSON object")?;
        let body = json!({
            "pattern": pattern, "definition": definition, "priority": priority, "apply-to": apply_to
        });
        broker.client(settings)?.put_done(&[resource, &vhost, &name], &body)?;
        Ok(say(&format!("policy {} holds in {}", printable(&name), printable(&vhost)))?)
    }
}

impl ListArguments {
    fn run(self, resource: &str, settings: &Settings) -> anyhow::Result<()> {
        let path: Vec<&str> = [resource].into_iter().chain(self.vhost.as_deref()).collect();
        let all: Vec<PolicyJson> = self.broker.client(settings)?.get(&path)?;
        if self.json {
            return Ok(say(&format!("{:#}", json!(all)))?);
        }
        for policy in all {
            let PolicyJson { vhost, name, pattern, apply_to, definition, priority, declared } = policy;
            let (definition, whence) = (json!(definition), if declared { "  (configuration)" } else { "" });
            let line =
                format!("{name} in {vhost}, {pattern:?} of {apply_to}, priority {priority}: {definition}");
            say(&format!("{}{whence}", printable(&line)))?;
        }
        Ok(())
    }
}
