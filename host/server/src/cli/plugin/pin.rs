//! `leveret plugin pin EXCHANGE VERSION`, `unpin` and `pins`: exchanges that stay on a version.

use super::{BrokerArguments, ClientError, printable};
use crate::{
    config::Settings,
    http::json::candidates::{PinJson, PinOrderJson, UnpinnedJson},
};
use anyhow::{Context, anyhow};
use clap::Args;
use std::io::Write;

/// How much of a digest is shown, in hexadecimal digits.
const DIGEST_DIGITS: usize = 12;

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
pub(super) struct PinArguments {
    #[command(flatten)]
    there: Where,
    /// `current`, a kept version as `versions` shows it, or the first digits of its digest
    #[arg(value_name = "VERSION")]
    version: String,
}

#[derive(Args, Debug)]
pub(super) struct UnpinArguments {
    #[command(flatten)]
    there: Where,
}

#[derive(Args, Debug)]
pub(super) struct PinsArguments {
    #[command(flatten)]
    broker: BrokerArguments,
    /// As the broker tells it
    #[arg(long)]
    json: bool,
}

impl PinArguments {
    pub(super) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let Where { exchange, vhost, broker } = self.there;
        let order = PinOrderJson { version: self.version };
        let pin: PinJson = broker
            .client(settings)?
            .put_slow(&["plugins-pins", &vhost, &exchange], &order)
            .map_err(|error| not_there(error, &exchange, &vhost))?;
        super::warn_not_kept(pin.not_kept.as_deref());
        Ok(super::say(&printable(&line(&pin)))?)
    }
}

impl UnpinArguments {
    pub(super) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let Where { exchange, vhost, broker } = self.there;
        let UnpinnedJson { unpinned, not_kept } = broker
            .client(settings)?
            .delete(&["plugins-pins", &vhost, &exchange])
            .map_err(|error| not_there(error, &exchange, &vhost))?;
        let word = if unpinned { "is not pinned any more" } else { "was not pinned" };
        super::warn_not_kept(not_kept.as_deref());
        let line = format!("exchange {exchange} in virtual host {vhost} {word}");
        Ok(super::say(&printable(&line))?)
    }
}

impl PinsArguments {
    pub(super) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let told: serde_json::Value = self.broker.client(settings)?.get(&["plugins-pins"])?;
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{told:#}")?;
            return Ok(());
        }
        let pins = serde_json::from_value::<Vec<PinJson>>(told).context("the broker's answer")?;
        if pins.is_empty() {
            writeln!(out, "no exchange is pinned")?;
        }
        for pin in &pins {
            writeln!(out, "{}", printable(&line(pin)))?;
        }
        Ok(())
    }
}

fn line(pin: &PinJson) -> String {
    let PinJson { vhost, exchange, type_name, plugin, version, digest, serving, waiting, problem, .. } = pin;
    let digest = digest.get(..DIGEST_DIGITS).unwrap_or(digest);
    let others = match (problem, waiting, serving) {
        (Some(problem), ..) => format!("it is not served: {problem}"),
        (None, true, _) => "it is not declared now".to_owned(),
        (None, false, true) => "as the others do now".to_owned(),
        (None, false, false) => "the others are on another version".to_owned(),
    };
    format!(
        "exchange {exchange} ({type_name}) in virtual host {vhost} stays on version {version} of plugin {plugin}, \
         digest {digest}; {others}"
    )
}

fn not_there(error: ClientError, exchange: &str, vhost: &str) -> anyhow::Error {
    match error {
        ClientError::NotFound => anyhow!("there is no exchange {exchange} in virtual host {vhost}"),
        other => other.into(),
    }
}
