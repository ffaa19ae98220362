//! `leveret plugin disable NAME` and `enable NAME`: the kill switches of a running broker.

use super::{BrokerArguments, ClientError, printable, say};
use crate::{
    config::Settings,
    http::json::seen::{SwitchJson, SwitchedJson},
};
use anyhow::anyhow;
use clap::Args;

#[derive(Args, Debug)]
pub(super) struct SwitchArguments {
    /// The plugin: its file's name without .wasm
    #[arg(value_name = "NAME", required_unless_present = "all")]
    plugin: Option<String>,
    /// All plugins but direct, fanout, topic and headers
    #[arg(long, conflicts_with_all = ["plugin", "vhost"])]
    all: bool,
    /// In this virtual host alone
    #[arg(long, value_name = "NAME")]
    vhost: Option<String>,
    #[command(flatten)]
    broker: BrokerArguments,
}

impl SwitchArguments {
    pub(super) fn run(self, settings: &Settings, enabled: bool) -> anyhow::Result<()> {
        let plugin = self.plugin.as_deref().map(|name| name.strip_suffix(".wasm").unwrap_or(name).to_owned());
        let switch = SwitchJson { plugin, vhost: self.vhost, enabled };
        let client = self.broker.client(settings)?;
        let switched: SwitchedJson =
            client.put(&["plugins-switches"], &switch).map_err(|error| match error {
                ClientError::NotFound => anyhow!("the broker has no {}", describe(&switch)),
                other => other.into(),
            })?;
        super::warn_not_kept(switched.not_kept.as_deref());
        let (what, word) = (describe(&switch), if enabled { "on" } else { "off" });
        Ok(match switched.changed {
            true => say(&format!("{what} switched {word}")),
            false => say(&format!("{what} was switched {word} already")),
        }?)
    }
}

fn describe(switch: &SwitchJson) -> String {
    let what = match (&switch.plugin, &switch.vhost) {
        (None, _) => "all plugins".to_owned(),
        (Some(plugin), None) => format!("plugin {plugin}"),
        (Some(plugin), Some(vhost)) => format!("plugin {plugin} in virtual host {vhost}"),
    };
    printable(&what)
}
