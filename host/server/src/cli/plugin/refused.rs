//! Files that were refused, as `list` and `info` show them; and `leveret plugin retry NAME`.

use super::{BrokerArguments, list::aligned, printable, say};
use crate::{
    cli::time,
    config::Settings,
    http::json::{
        PluginJson,
        refused::{RefusedJson, RetriedJson, RetryJson},
    },
};
use clap::Args;

#[derive(Args, Debug)]
pub(super) struct RetryArguments {
    /// The plugin: its file's name without .wasm
    #[arg(value_name = "NAME")]
    plugin: String,
    /// In this virtual host: its own plugin, or the one for all that it did not take
    #[arg(long, value_name = "NAME")]
    vhost: Option<String>,
    #[command(flatten)]
    broker: BrokerArguments,
}

impl RetryArguments {
    pub(super) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let plugin = self.plugin.strip_suffix(".wasm").unwrap_or(&self.plugin).to_owned();
        let request = RetryJson { plugin, vhost: self.vhost };
        // It may have to be compiled again.
        let retried: RetriedJson = self.broker.client(settings)?.post_slow(&["plugins-retry"], &request)?;
        for line in lines(&retried) {
            say(&printable(&line))?;
        }
        match retried.held_back.len() {
            0 => Ok(()),
            count => anyhow::bail!("{count} virtual hosts still do not take it"),
        }
    }
}

fn lines(retried: &RetriedJson) -> Vec<String> {
    let plugin = &retried.plugin;
    let loaded = retried.version.iter().map(|version| format!("plugin {plugin} serves, version {version}"));
    let moved = retried.moved.iter().map(|vhost| format!("virtual host {vhost} has the newer version now"));
    let held = retried.held_back.iter().map(|held| {
        format!(
            "virtual host {} does not take the newer one, at stage {}: {}",
            held.vhost, held.stage, held.reason
        )
    });
    loaded.chain(moved).chain(held).collect()
}

/// The headings of the table.
const HEADINGS: [&str; COLUMNS] = ["REFUSED FILE", "SCOPE", "STAGE", "SINCE", "SERVES INSTEAD", "REASON"];
const COLUMNS: usize = 6;

/// A row for each refused file; nothing if there is none.
pub(super) fn table(plugins: &[PluginJson]) -> String {
    let mut files: Vec<&RefusedJson> = plugins.iter().flat_map(|plugin| &plugin.refused).collect();
    // One of several types is told with each.
    files.sort_by_key(|file| (&file.file, &file.scope));
    files.dedup();
    if files.is_empty() {
        return String::new();
    }
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(files.into_iter().map(row));
    format!("\n{}", aligned(&rows))
}

fn row(file: &RefusedJson) -> [String; COLUMNS] {
    let instead = file.serving_version.as_deref().unwrap_or("-");
    let scope = scope(file);
    [&file.file, &scope, &file.stage, &time::utc(file.since_ms), instead, &file.reason].map(printable)
}

/// For whom it would serve.
fn scope(file: &RefusedJson) -> String {
    match &file.vhost {
        Some(vhost) => format!("{}, in vhost '{vhost}'", file.scope),
        None => file.scope.clone(),
    }
}

/// The same in a sentence.
pub(super) fn sentence(file: &RefusedJson) -> String {
    let instead = match &file.serving_version {
        Some(version) => format!("version {version} serves instead"),
        None if file.vhost.is_some() => "nothing of it serves there".to_owned(),
        None => "nothing of it serves".to_owned(),
    };
    let scope = scope(file);
    let RefusedJson { file, stage, reason, since_ms, .. } = file;
    format!("{file} ({scope}) at stage {stage} since {}: {reason}; {instead}", time::utc(*since_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_shown_once_with_what_serves_instead() {
        let file = RefusedJson {
            file: "/p/a.wasm".to_owned(),
            plugin: "a".to_owned(),
            scope: "global".to_owned(),
            vhost: None,
            stage: "replay".to_owned(),
            reason: "no\u{7}".to_owned(),
            since_ms: 1_700_000_000_123,
            serving_version: Some("1.0".to_owned()),
            serving_digest: None,
        };
        let of_type = |type_name: &str| {
            let json =
                serde_json::json!({"type": type_name, "state": "serving", "exchanges": 0, "refused": [file]});
            serde_json::from_value::<PluginJson>(json).unwrap()
        };
        let expected = "\n\
            REFUSED FILE  SCOPE   STAGE   SINCE                    SERVES INSTEAD  REASON\n\
            /p/a.wasm     global  replay  2023-11-14 22:13:20 UTC  1.0             no\u{fffd}\n";
        assert_eq!(table(&[of_type("x"), of_type("y")]), expected);
        let in_one = RefusedJson { vhost: Some("b".to_owned()), ..file.clone() };
        assert!(sentence(&in_one).starts_with("/p/a.wasm (global, in vhost 'b') at stage replay since 2023"));
        let not_there = sentence(&RefusedJson { serving_version: None, ..in_one });
        assert!(not_there.ends_with("nothing of it serves there"), "{not_there}");
        let nothing = RefusedJson { serving_version: None, ..file.clone() };
        assert!(sentence(&nothing).ends_with("nothing of it serves"), "{}", sentence(&nothing));
    }
}
