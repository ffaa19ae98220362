//! `leveret user`, `leveret permission` and `leveret topic-permission`: who may do what, at a running broker.

use super::{
    client::{BrokerArguments, Client, ClientError, ListArguments},
    printable, say,
};
use crate::{
    config::Settings,
    http::json::users::{AttemptJson, AttemptedJson, PermissionsJson, TopicPermissionsJson, UserJson},
};
use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use std::io::BufRead as _;

#[derive(Args, Debug)]
pub(crate) struct UserArguments {
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Subcommand, Debug)]
enum UserCommand {
    /// Make a user
    Add(AddArguments),
    /// Take a user away, and end its connections
    Delete(NameArguments),
    /// All users
    List(ListArguments),
    /// Give a user another password
    SetPassword(PasswordArguments),
    /// Give a user other tags: none, or management, policymaker, monitoring, administrator, impersonator
    SetTags(TagsArguments),
    /// Check a password
    Authenticate(PasswordArguments),
    /// Say how many connections and channels a user may have
    Limits(LimitsArguments),
}

#[derive(Args, Debug)]
struct NameArguments {
    /// The user
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Args, Debug)]
struct PasswordArguments {
    #[command(flatten)]
    user: NameArguments,
    /// The password; without it a line is read from standard input, where nobody else sees it
    #[arg(value_name = "PASSWORD")]
    new_password: Option<String>,
}

#[derive(Args, Debug)]
struct AddArguments {
    #[command(flatten)]
    user: PasswordArguments,
    /// Its tags, separated by commas
    #[arg(long, value_name = "TAGS", value_delimiter = ',')]
    tags: Vec<String>,
    /// The hash of its password instead, as RabbitMQ exports it
    #[arg(long, value_name = "HASH", conflicts_with = "new_password")]
    password_hash: Option<String>,
    /// How that is hashed [default: sha256]
    #[arg(long, value_name = "NAME", requires = "password_hash")]
    hashing_algorithm: Option<String>,
}

#[derive(Args, Debug)]
struct TagsArguments {
    #[command(flatten)]
    user: NameArguments,
    /// All its tags from now on
    #[arg(value_name = "TAG")]
    tags: Vec<String>,
}

#[derive(Args, Debug)]
struct LimitsArguments {
    #[command(flatten)]
    user: NameArguments,
    /// The most connections, or none
    #[arg(long, value_name = "NUMBER", value_parser = limit)]
    max_connections: Option<i64>,
    /// The most channels of all its connections, or none
    #[arg(long, value_name = "NUMBER", value_parser = limit)]
    max_channels: Option<i64>,
}

/// A number, or the word `none`, which is -1.
pub(super) fn limit(text: &str) -> Result<i64, String> {
    match text {
        "none" => Ok(-1),
        _ => text.parse::<u32>().map(i64::from).map_err(|_| format!("{text:?} is neither a number nor none")),
    }
}

impl UserArguments {
    /// Does what was asked; `settings` say where the broker's data is, if the command does not.
    pub(crate) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        match self.command {
            UserCommand::Add(add) => add.run(settings),
            UserCommand::Delete(NameArguments { name, broker }) => {
                broker
                    .client(settings)?
                    .delete_done(&["users", &name])
                    .map_err(|error| no_user(error, &name))?;
                Ok(say(&format!("user {} is gone", printable(&name)))?)
            }
            UserCommand::List(arguments) => list(arguments, settings),
            UserCommand::SetPassword(PasswordArguments {
                user: NameArguments { name, broker },
                new_password,
            }) => {
                let client = broker.client(settings)?;
                let user = user(&client, &name)?;
                let body = json!({ "password": password(new_password)?, "tags": user.tags });
                client.put_done(&["users", &name], &body)?;
                Ok(say(&format!("user {} has another password", printable(&name)))?)
            }
            UserCommand::SetTags(TagsArguments { user: NameArguments { name, broker }, tags }) => {
                let client = broker.client(settings)?;
                client.put_done(&["users-tags", &name], &tags).map_err(|error| no_user(error, &name))?;
                Ok(say(&format!("user {} has the tags [{}]", printable(&name), printable(&tags.join(", "))))?)
            }
            UserCommand::Authenticate(PasswordArguments {
                user: NameArguments { name, broker },
                new_password,
            }) => {
                let client = broker.client(settings)?;
                let attempt = AttemptJson { name: name.clone(), password: password(new_password)? };
                let AttemptedJson { authenticated } = client.post(&["users-authenticate"], &attempt)?;
                if !authenticated {
                    bail!("user {} is refused with that password", printable(&name));
                }
                Ok(say(&format!("that is the password of user {}", printable(&name)))?)
            }
            UserCommand::Limits(limits) => limits.run(settings),
        }
    }
}

impl AddArguments {
    fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let PasswordArguments { user: NameArguments { name, broker }, new_password } = self.user;
        let client = broker.client(settings)?;
        if client.get::<UserJson>(&["users", &name]).is_ok() {
            bail!("there is a user {} already", printable(&name));
        }
        let body = match self.password_hash {
            Some(hash) => {
                let algorithm = self.hashing_algorithm.unwrap_or_else(|| "sha256".to_owned());
                json!({ "password_hash": hash, "hashing_algorithm": algorithm, "tags": self.tags })
            }
            None => json!({ "password": password(new_password)?, "tags": self.tags }),
        };
        client.put_done(&["users", &name], &body)?;
        Ok(say(&format!("user {} is there; permission set says what it may do", printable(&name)))?)
    }
}

fn list(ListArguments { json, broker }: ListArguments, settings: &Settings) -> anyhow::Result<()> {
    let told: serde_json::Value = broker.client(settings)?.get(&["users"])?;
    if json {
        return Ok(say(&format!("{told:#}"))?);
    }
    let users: Vec<UserJson> = serde_json::from_value(told).context("the broker's answer")?;
    for user in users {
        let whence = if user.declared { "  (configuration)" } else { "" };
        say(&format!("{}  [{}]{whence}", printable(&user.name), printable(&user.tags.join(", "))))?;
    }
    Ok(())
}

impl LimitsArguments {
    fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let NameArguments { name, broker } = self.user;
        let client = broker.client(settings)?;
        for (limit, value) in [("max-connections", self.max_connections), ("max-channels", self.max_channels)]
        {
            if let Some(value) = value {
                client.put_done(&["user-limits", &name, limit], &json!({ "value": value }))?;
            }
        }
        let UserJson { limits, .. } = user(&client, &name)?;
        let shown = |limit: Option<u64>| limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string());
        let (connections, channels) = (shown(limits.max_connections), shown(limits.max_channels));
        Ok(say(&format!("max-connections {connections}, max-channels {channels}"))?)
    }
}

fn user(client: &Client, name: &str) -> anyhow::Result<UserJson> {
    client.get(&["users", name]).map_err(|error| no_user(error, name))
}

fn no_user(error: ClientError, name: &str) -> anyhow::Error {
    match error {
        ClientError::NotFound => anyhow!("there is no user {}", printable(name)),
        other => other.into(),
    }
}

/// As it was given, or a line of standard input.
fn password(given: Option<String>) -> anyhow::Result<String> {
    if let Some(password) = given {
        return Ok(password);
    }
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("the password on standard input")?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        bail!("a password is needed, as an argument or as a line on standard input");
    }
    Ok(password.to_owned())
}

#[derive(Args, Debug)]
pub(crate) struct PermissionArguments {
    #[command(subcommand)]
    command: PermissionCommand,
}

#[derive(Subcommand, Debug)]
enum PermissionCommand {
    /// Say what a user may do in a virtual host
    Set(SetArguments),
    /// Keep a user out of a virtual host
    Clear(Whose),
    /// What users may do
    List(ListPermissionsArguments),
}

#[derive(Args, Debug)]
struct Whose {
    /// The user
    #[arg(value_name = "USER")]
    name: String,
    /// The virtual host
    #[arg(long, value_name = "NAME", default_value = "/")]
    vhost: String,
    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Args, Debug)]
struct SetArguments {
    /// The user
    #[arg(value_name = "USER")]
    name: String,
    /// A pattern of what it may declare and delete
    #[arg(value_name = "CONFIGURE")]
    configure: String,
    /// A pattern of what it may write to
    #[arg(value_name = "WRITE")]
    write: String,
    /// A pattern of what it may read from
    #[arg(value_name = "READ")]
    read: String,
    /// The virtual host
    #[arg(long, value_name = "NAME", default_value = "/")]
    vhost: String,
    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Args, Debug)]
struct ListPermissionsArguments {
    /// Of this user alone
    #[arg(long, value_name = "NAME")]
    of: Option<String>,
    /// In this virtual host alone
    #[arg(long, value_name = "NAME")]
    vhost: Option<String>,
    /// As the broker tells it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArguments,
}

impl PermissionArguments {
    /// Does what was asked; `settings` say where the broker's data is, if the command does not.
    pub(crate) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        match self.command {
            PermissionCommand::Set(SetArguments { name, configure, write, read, vhost, broker }) => {
                let body = json!({ "configure": configure, "write": write, "read": read });
                broker.client(settings)?.put_done(&["permissions", &vhost, &name], &body)?;
                Ok(say(&format!("user {} may do that in {}", printable(&name), printable(&vhost)))?)
            }
            PermissionCommand::Clear(Whose { name, vhost, broker }) => {
                let cleared = broker.client(settings)?.delete_done(&["permissions", &vhost, &name]);
                cleared.map_err(|error| nothing_there(error, &name, &vhost))?;
                Ok(say(&format!("user {} may do nothing in {}", printable(&name), printable(&vhost)))?)
            }
            PermissionCommand::List(list) => list.run(settings),
        }
    }
}

fn nothing_there(error: ClientError, name: &str, vhost: &str) -> anyhow::Error {
    match error {
        ClientError::NotFound => {
            anyhow!("user {} has nothing of that in {}", printable(name), printable(vhost))
        }
        other => other.into(),
    }
}

impl ListPermissionsArguments {
    fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let mut its: Vec<PermissionsJson> = self.broker.client(settings)?.get(&["permissions"])?;
        its.retain(|its| self.of.as_ref().is_none_or(|of| its.user == *of));
        its.retain(|its| self.vhost.as_ref().is_none_or(|vhost| its.vhost == *vhost));
        if self.json {
            return Ok(say(&format!("{:#}", json!(its)))?);
        }
        for PermissionsJson { user, vhost, configure, write, read } in &its {
            let line = format!("{user} in {vhost}: configure {configure:?}, write {write:?}, read {read:?}");
            say(&printable(&line))?;
        }
        Ok(())
    }
}

#[derive(Args, Debug)]
pub(crate) struct TopicPermissionArguments {
    #[command(subcommand)]
    command: TopicPermissionCommand,
}

#[derive(Subcommand, Debug)]
enum TopicPermissionCommand {
    /// Say which routing keys a user may use at a topic exchange
    Set(SetTopicArguments),
    /// Let a user use all routing keys again
    Clear(ClearTopicArguments),
    /// Which routing keys users may use
    List(ListPermissionsArguments),
}

#[derive(Args, Debug)]
struct SetTopicArguments {
    /// The user
    #[arg(value_name = "USER")]
    name: String,
    /// The exchange
    #[arg(value_name = "EXCHANGE")]
    exchange: String,
    /// A pattern of the keys that it may publish with
    #[arg(value_name = "WRITE")]
    write: String,
    /// A pattern of the keys that it may bind with
    #[arg(value_name = "READ")]
    read: String,
    /// The virtual host
    #[arg(long, value_name = "NAME", default_value = "/")]
    vhost: String,
    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Args, Debug)]
struct ClearTopicArguments {
    #[command(flatten)]
    whose: Whose,
    /// Of this exchange alone
    #[arg(long, value_name = "NAME")]
    exchange: Option<String>,
}

impl TopicPermissionArguments {
    /// Does what was asked; `settings` say where the broker's data is, if the command does not.
    pub(crate) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        match self.command {
            TopicPermissionCommand::Set(SetTopicArguments { name, exchange, write, read, vhost, broker }) => {
                let body = json!({ "exchange": exchange, "write": write, "read": read });
                broker.client(settings)?.put_done(&["topic-permissions", &vhost, &name], &body)?;
                Ok(say(&format!("user {} may use these at {}", printable(&name), printable(&exchange)))?)
            }
            TopicPermissionCommand::Clear(ClearTopicArguments { whose, exchange }) => {
                let Whose { name, vhost, broker } = whose;
                let mut path = vec!["topic-permissions", &vhost, &name];
                path.extend(exchange.as_deref());
                let cleared = broker.client(settings)?.delete_done(&path);
                cleared.map_err(|error| nothing_there(error, &name, &vhost))?;
                Ok(say(&format!("user {} may use all routing keys there", printable(&name)))?)
            }
            TopicPermissionCommand::List(list) => list_topics(list, settings),
        }
    }
}

fn list_topics(list: ListPermissionsArguments, settings: &Settings) -> anyhow::Result<()> {
    let mut its: Vec<TopicPermissionsJson> = list.broker.client(settings)?.get(&["topic-permissions"])?;
    its.retain(|its| list.of.as_ref().is_none_or(|of| its.user == *of));
    its.retain(|its| list.vhost.as_ref().is_none_or(|vhost| its.vhost == *vhost));
    if list.json {
        return Ok(say(&format!("{:#}", json!(its)))?);
    }
    for TopicPermissionsJson { user, vhost, exchange, write, read } in &its {
        let line = format!("{user} in {vhost}, exchange {exchange}: write {write:?}, read {read:?}");
        say(&printable(&line))?;
    }
    Ok(())
}
