//! `leveret plugin rollback NAME`, `forward NAME` and `versions NAME`: the way to a version that served
//! before, and forward again.

use super::{BrokerArguments, ClientError, printable, say};
use crate::{
    cli::time,
    config::Settings,
    http::json::versions::{RollbackJson, VersionsJson, WentBackJson},
};
use anyhow::{Context, anyhow};
use clap::Args;
use std::io::Write;

/// How much of a digest is shown, in hexadecimal digits.
const DIGEST_DIGITS: usize = 12;

#[derive(Args, Debug)]
struct Which {
    /// The plugin: its file's name without .wasm
    #[arg(value_name = "NAME")]
    plugin: String,
    /// The one of this virtual host's own folder
    #[arg(long, value_name = "NAME")]
    vhost: Option<String>,
    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Args, Debug)]
pub(super) struct RollbackArguments {
    #[command(flatten)]
    which: Which,
    /// To this kept version: as `versions` shows it, or the first digits of its digest
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct ForwardArguments {
    #[command(flatten)]
    which: Which,
}

#[derive(Args, Debug)]
pub(super) struct VersionsArguments {
    #[command(flatten)]
    which: Which,
    /// As the broker tells it
    #[arg(long)]
    json: bool,
}

impl Which {
    fn name(&self) -> &str {
        self.plugin.strip_suffix(".wasm").unwrap_or(&self.plugin)
    }

    fn not_there(&self) -> anyhow::Error {
        let name = printable(self.name());
        match &self.vhost {
            None => anyhow!(
                "the broker keeps no version of a plugin {name} for all virtual hosts (--vhost names one that has \
                 its own; leveret plugin list shows what serves)"
            ),
            Some(vhost) => anyhow!(
                "virtual host {} has no plugin {name} of its own, or is not there (one for all virtual hosts is \
                 meant without --vhost)",
                printable(vhost)
            ),
        }
    }
}

impl RollbackArguments {
    pub(super) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        self.which.go(settings, self.to, false)
    }
}

impl ForwardArguments {
    pub(super) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        self.which.go(settings, None, true)
    }
}

impl Which {
    fn go(self, settings: &Settings, to: Option<String>, newest: bool) -> anyhow::Result<()> {
        let request = RollbackJson { plugin: self.name().to_owned(), vhost: self.vhost.clone(), to, newest };
        let not_there = self.not_there();
        let client = self.broker.client(settings)?;
        // That version may have to be compiled again.
        let went: WentBackJson =
            client.post_slow(&["plugins-rollback"], &request).map_err(|error| match error {
                ClientError::NotFound => not_there,
                other => other.into(),
            })?;
        for line in lines(&went) {
            say(&printable(&line))?;
        }
        Ok(())
    }
}

fn lines(went_back: &WentBackJson) -> Vec<String> {
    let named = |version: &str, digest: &str| format!("{version} ({})", short(digest));
    let from = match (&went_back.from_version, &went_back.from_digest) {
        (Some(version), Some(digest)) => format!(" from {}", named(version, digest)),
        (None, Some(digest)) => format!(" from {}", short(digest)),
        (_, None) => String::new(),
    };
    let now = named(&went_back.version, &went_back.digest);
    let way = if went_back.forward { "forward" } else { "back" };
    let mut lines = vec![
        format!("plugin {} went {way}{from} to {now}", went_back.plugin),
        format!("it took {} exchanges with {} bindings", went_back.exchanges, went_back.bindings),
    ];
    let WentBackJson { states_restored, states_emptied, discarded_entries, discarded_bytes, version, .. } =
        went_back;
    if *states_restored > 0 {
        lines.push(format!(
            "{states_restored} states are again what was left in the form of version {version}"
        ));
    }
    if *states_emptied > 0 {
        lines.push(format!("{states_emptied} states are empty again: they began after version {version}"));
    }
    if states_restored + states_emptied > 0 {
        lines.push(format!(
            "discarded is what was kept since: {discarded_entries} entries of {discarded_bytes} bytes"
        ));
    }
    if went_back.states_migrated > 0 {
        lines.push(format!("{} states were migrated", went_back.states_migrated));
    }
    lines.extend(went_back.file_left_out.then(|| {
        format!(
            "{} stays where it is and is not taken, also after a restart, until it is another file, was removed, \
             or leveret plugin forward goes to it",
            went_back.file
        )
    }));
    lines
}

impl VersionsArguments {
    pub(super) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let not_there = self.which.not_there();
        let name = self.which.name().to_owned();
        let path = match &self.which.vhost {
            None => vec!["plugins-versions", &name],
            Some(vhost) => vec!["plugins-versions", &name, "vhosts", vhost],
        };
        let client = self.which.broker.client(settings)?;
        let told: serde_json::Value = client.get(&path).map_err(|error| match error {
            ClientError::NotFound => not_there,
            other => other.into(),
        })?;
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{told:#}")?;
            return Ok(());
        }
        let told = serde_json::from_value::<VersionsJson>(told).context("the broker's answer")?;
        out.write_all(table(&told).as_bytes())?;
        if told.versions.iter().all(|version| !version.serving) {
            let plugin = printable(&told.plugin);
            writeln!(
                out,
                "none of them serves, so none can be gone to: first put a file {plugin}.wasm into the plugins folder"
            )?;
        }
        Ok(())
    }
}

fn table(told: &VersionsJson) -> String {
    let width = told.versions.iter().map(|version| printable(&version.version).chars().count()).max();
    let width = width.unwrap_or_default().max("VERSION".len());
    let mut text = format!("{:12}  {:width$}  {:7}  SINCE\n", "DIGEST", "VERSION", "SERVES");
    for version in &told.versions {
        let serves = if version.serving { "yes" } else { "-" };
        let (digest, since) = (short(&version.digest), time::utc(version.since_ms));
        text.push_str(&format!("{digest:12}  {:width$}  {serves:7}  {since}\n", printable(&version.version)));
    }
    text
}

fn short(digest: &str) -> &str {
    digest.get(..DIGEST_DIGITS).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::json::versions::VersionJson;

    #[test]
    fn versions_are_shown_the_newest_first_with_the_one_that_serves() {
        let version = |digest: &str, version: &str, serving, since_ms| VersionJson {
            digest: digest.repeat(32),
            version: version.to_owned(),
            serving,
            since_ms,
        };
        let told = VersionsJson {
            plugin: "p".to_owned(),
            scope: "global".to_owned(),
            versions: vec![
                version("ab", "2.0.0-beta", false, 1_700_000_000_123),
                version("cd", "1\u{7}", true, 1_700_000_060_000),
            ],
        };
        let expected = "\
            DIGEST        VERSION     SERVES   SINCE\n\
            abababababab  2.0.0-beta  -        2023-11-14 22:13:20 UTC\n\
            cdcdcdcdcdcd  1\u{fffd}          yes      2023-11-14 22:14:20 UTC\n";
        assert_eq!(table(&told), expected);
    }
}
