//! `leveret plugin interceptors`: every interceptor, where it is attached and what came of the messages that
//! met it, as a table.

use super::{
    BrokerArguments,
    list::{aligned, state, yes_or_no},
    printable,
};
use crate::{
    config::Settings,
    http::json::interceptors::{AttachmentJson, InterceptorJson, InterceptorsJson},
};
use anyhow::Context;
use clap::Args;
use std::io::Write;

/// The headings of the table.
const HEADINGS: [&str; COLUMNS] =
    ["INTERCEPTOR", "STATE", "PLUGIN", "VERSION", "POINT", "WHERE", "ORDER", "MESSAGES", "FAILED", "SUMMARY"];
const COLUMNS: usize = 10;

#[derive(Args, Debug)]
pub(super) struct InterceptorsArguments {
    #[command(flatten)]
    broker: BrokerArguments,
    /// As the broker tells it
    #[arg(long)]
    json: bool,
}

impl InterceptorsArguments {
    pub(super) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let told: serde_json::Value = self.broker.client(settings)?.get(&["plugins-interceptors"])?;
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{told:#}")?;
            return Ok(());
        }
        let told = serde_json::from_value::<InterceptorsJson>(told).context("the broker's answer")?;
        match table(&told).trim_start() {
            "" => writeln!(out, "no interceptors")?,
            table => out.write_all(table.as_bytes())?,
        }
        Ok(())
    }
}

/// A row for each attachment, and for each interceptor that is not attached; nothing if there is none.
pub(super) fn table(told: &InterceptorsJson) -> String {
    let attached = |it: &&InterceptorJson| {
        told.attachments.iter().any(|there| {
            there.interceptor == it.interceptor
                && there.plugin.as_ref().is_none_or(|plugin| *plugin == it.plugin)
        })
    };
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(told.attachments.iter().map(|attachment| row(told, attachment)));
    rows.extend(told.interceptors.iter().filter(|it| !attached(it)).map(not_attached));
    if rows.len() == 1 { String::new() } else { format!("\n{}", aligned(&rows)) }
}

/// All about these interceptors, a line each.
pub(super) fn details(told: &InterceptorsJson) -> String {
    let mut lines: Vec<(&str, String)> = Vec::new();
    for it in &told.interceptors {
        lines.extend([
            ("interceptor", it.interceptor.clone()),
            ("summary", it.summary.clone()),
            ("plugin", it.plugin.clone()),
            ("scope", it.scope.clone()),
            ("version", it.version.clone()),
            ("digest", it.digest.clone()),
            ("points", it.points.join(", ")),
            ("pure", yes_or_no(it.pure).to_owned()),
        ]);
    }
    for there in &told.attachments {
        let place = format!("{} of {}", there.point, there.names.as_deref().unwrap_or("all"));
        lines.extend([
            ("", String::new()),
            ("attached", format!("{} to {place} in virtual host {}", there.interceptor, there.vhost)),
            ("state", state(there.state).to_owned()),
        ]);
        lines.extend(there.reason.clone().map(|reason| ("reason", reason)));
        lines.extend([
            ("order", there.order.to_string()),
            ("on failure", there.on_failure.clone()),
            ("remembered", format!("{} messages", there.remembered)),
            ("asked", format!("{} messages in {} calls", there.asked, there.calls)),
        ]);
        let counts = [
            ("no answer", there.failed),
            ("changed", there.changed),
            ("dropped", there.dropped),
            ("rejected", there.rejected),
        ];
        lines.extend(counts.into_iter().filter(|(_, n)| *n > 0).map(|(name, n)| (name, n.to_string())));
        lines.extend(there.failures.last_error.clone().map(|error| ("last error", error)));
    }
    if told.attachments.is_empty() {
        lines.push(("attached", "nowhere".to_owned()));
    }
    let line =
        |(name, value): &(&str, String)| format!("{name:11} {}", printable(value)).trim_end().to_owned();
    lines.iter().map(|it| line(it) + "\n").collect()
}

fn row(told: &InterceptorsJson, there: &AttachmentJson) -> [String; COLUMNS] {
    let provides = |it: &&InterceptorJson| {
        it.interceptor == there.interceptor && Some(&it.plugin) == there.plugin.as_ref()
    };
    let summary = told.interceptors.iter().find(provides).map(|it| it.summary.as_str());
    let place = format!("{} in {}", there.names.as_deref().unwrap_or("all"), there.vhost);
    let [order, messages, failed] =
        [there.order.to_string(), (there.remembered + there.asked).to_string(), there.failed.to_string()];
    [
        &there.interceptor,
        state(there.state),
        there.plugin.as_deref().unwrap_or("-"),
        there.version.as_deref().unwrap_or("-"),
        &there.point,
        &place,
        &order,
        &messages,
        &failed,
        there.reason.as_deref().or(summary).unwrap_or_default(),
    ]
    .map(printable)
}

fn not_attached(it: &InterceptorJson) -> [String; COLUMNS] {
    let points = it.points.join(", ");
    [&it.interceptor, "not attached", &it.plugin, &it.version, &points, "-", "-", "-", "-", &it.summary]
        .map(printable)
}
