//! `leveret plugin explain`: where a running broker would send a message, and why.

use super::{BrokerArguments, ClientError, printable};
use crate::{
    cli::fields,
    config::Settings,
    http::json::{
        DestinationType,
        explain::{AskedInterceptorJson, AskedJson, ExplainRequest, ExplanationJson, StepJson},
    },
};
use anyhow::{Context, anyhow, bail};
use clap::Args;
use serde_json::Value;
use std::{fmt::Write as _, io::Write};

/// How many bindings of an answer are shown.
const BINDINGS_SHOWN_MAX: usize = 20;

#[derive(Args, Debug)]
pub(super) struct ExplainArguments {
    /// The exchange
    #[arg(long, value_name = "NAME", default_value = "")]
    exchange: String,
    /// The routing key
    #[arg(long, value_name = "KEY", default_value = "")]
    key: String,
    /// A header; a value that is a number, true, false or JSON is that, any other is text
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// A property by its name in AMQP, such as priority=5
    #[arg(long = "property", value_name = "NAME=VALUE")]
    properties: Vec<String>,
    /// The body
    #[arg(long, value_name = "TEXT", default_value = "")]
    body: String,
    /// As if its publisher wanted it back where there is no queue for it
    #[arg(long)]
    mandatory: bool,
    /// The virtual host
    #[arg(long, value_name = "NAME", default_value = "/")]
    vhost: String,
    #[command(flatten)]
    broker: BrokerArguments,
    /// As the broker tells it
    #[arg(long)]
    json: bool,
}

impl ExplainArguments {
    pub(super) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let properties = Value::Object(fields(&self.properties)?);
        let request = ExplainRequest {
            vhost: self.vhost.clone(),
            exchange: self.exchange,
            routing_key: self.key,
            headers: fields(&self.headers)?,
            properties: serde_json::from_value(properties).context("--property")?,
            body: self.body,
            mandatory: self.mandatory,
        };
        let told: Value = self.broker.client(settings)?.post(&["plugins", "explain"], &request).map_err(
            |error| match error {
                ClientError::NotFound => anyhow!("the broker has no virtual host {}", self.vhost),
                other => other.into(),
            },
        )?;
        let explained: ExplanationJson =
            serde_json::from_value(told.clone()).context("the broker's answer")?;
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{told:#}")?;
        } else {
            out.write_all(walk(&explained).as_bytes())?;
        }
        match is_publishable(&explained) {
            true => Ok(()),
            false => bail!("it cannot be published there"),
        }
    }
}

/// False where nobody can be asked about it: there is no such exchange, or none that clients may publish to.
fn is_publishable(told: &ExplanationJson) -> bool {
    told.outcome != "refused" || !told.steps.is_empty() || !told.intercepted.is_empty()
}

/// The walk as text.
pub(super) fn walk(told: &ExplanationJson) -> String {
    let mut text = String::new();
    for asked in &told.intercepted {
        put_interceptor(&mut text, asked);
    }
    for step in &told.steps {
        put_step(&mut text, step);
    }
    let outcome = match told.outcome.as_str() {
        "routed" => {
            let queues = told.queues.iter().map(|queue| format!("queue {}", printable(queue)));
            let holds = told
                .holds
                .iter()
                .map(|hold| format!("held by {} for {} ms", printable(&hold.exchange), hold.delay_ms));
            let due = match told.due_queues.as_slice() {
                [] if told.holds.is_empty() => String::new(),
                [] => "; if that were now, no queue".to_owned(),
                queues => format!(
                    "; if that were now, {}",
                    printable(&format!("queue {}", queues.join(", queue ")))
                ),
            };
            queues.chain(holds).collect::<Vec<_>>().join(", ") + &due
        }
        "unroutable" => "no queue; a mandatory message comes back".to_owned(),
        "dropped" => "dropped on purpose; confirmed, not returned".to_owned(),
        "rejected" => "not accepted; a negative confirm".to_owned(),
        "refused" => "an error of the channel".to_owned(),
        "later" => "it waits: a type answers later".to_owned(),
        other => printable(other),
    };
    // A string takes all that is written.
    let _ = write!(text, "=> {outcome}");
    if let Some(reason) = &told.reason {
        let _ = write!(text, ": {}", printable(reason));
    }
    text.push('\n');
    text
}

fn put_interceptor(text: &mut String, asked: &AskedInterceptorJson) {
    let by = match (&asked.whom.plugin, &asked.whom.version) {
        (Some(plugin), Some(version)) => format!("plugin {} {}", printable(plugin), printable(version)),
        _ => "no plugin".to_owned(),
    };
    let (name, verdict) = (printable(&asked.interceptor), printable(&asked.verdict));
    let _ = write!(text, "interceptor {name} ({by}): {verdict}");
    if let Some(why) = asked.failed.as_ref().or(asked.reason.as_ref()) {
        let _ = write!(text, ": {}", printable(why));
    }
    text.push('\n');
    for change in &asked.changes {
        let _ = writeln!(text, "    {}", printable(change));
    }
}

fn put_step(text: &mut String, step: &StepJson) {
    let name = if step.exchange.is_empty() { "(default)".to_owned() } else { printable(&step.exchange) };
    let due = if step.when_due { ", when it is due" } else { "" };
    let _ = writeln!(text, "exchange {name}{due}");
    for asked in &step.asked {
        put_asked(text, asked);
    }
    if let Some(alternate) = &step.alternate_exchange {
        let _ = writeln!(text, "  no destination, so on to its alternate exchange {}", printable(alternate));
    }
}

fn put_asked(text: &mut String, asked: &AskedJson) {
    let by = match (&asked.whom.plugin, &asked.whom.version) {
        (Some(plugin), Some(version)) => {
            let memory = match (asked.remembered_by, asked.whom.pure) {
                (0, true) => ", asked now; workers remember it once they have asked".to_owned(),
                (0, false) => ", asked now".to_owned(),
                (by, _) => format!(", remembered by {by} of {} workers", asked.workers),
            };
            let standing = match asked.standing.as_deref() {
                Some("canary") => " as the canary",
                Some("pinned") => ", pinned",
                _ => "",
            };
            format!("plugin {} {}{standing}{memory}", printable(plugin), printable(version))
        }
        _ => "no plugin".to_owned(),
    };
    let instead = if asked.stands_in { "stands in: " } else { "" };
    let _ = write!(text, "  {instead}type {} ({by}): ", printable(&asked.type_name));
    let answer = match asked.answer.as_str() {
        "deliver" if asked.bindings.is_empty() => "no binding".to_owned(),
        "deliver" => format!("{} bindings", asked.bindings.len()),
        "delegate" => "as the type behind it decides".to_owned(),
        "hold" => format!("hold for {} ms", asked.delay_ms.unwrap_or_default()),
        other => printable(other),
    };
    text.push_str(&answer);
    if let Some(reason) = &asked.reason {
        let _ = write!(text, ": {}", printable(reason));
    }
    if let Some(on_failure) = &asked.on_failure {
        let _ = write!(text, "; on failure: {}", printable(on_failure));
    }
    text.push('\n');
    for binding in asked.bindings.iter().take(BINDINGS_SHOWN_MAX) {
        let kind = match binding.destination_type {
            DestinationType::Exchange => "exchange",
            DestinationType::Queue => "queue",
        };
        let (key, to) = (printable(&binding.routing_key), printable(&binding.destination));
        let _ = write!(text, "    {key:?} -> {kind} {to}");
        if !binding.arguments.is_empty() {
            let _ = write!(text, " {}", printable(&Value::Object(binding.arguments.clone()).to_string()));
        }
        text.push('\n');
    }
    if asked.bindings.len() > BINDINGS_SHOWN_MAX {
        let _ = writeln!(text, "    and {} more", asked.bindings.len() - BINDINGS_SHOWN_MAX);
    }
    for effect in &asked.effects {
        let _ = writeln!(text, "    and {}", printable(effect));
    }
    if asked.dead_ids > 0 {
        let _ = writeln!(text, "    and {} ids that are no bindings", asked.dead_ids);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json_or_text() {
        let pairs = ["a=1", "b=true", "c=x=y", "d=\"1\"", "e=", "f=[1]"].map(str::to_owned);
        let expected = serde_json::json!({"a": 1, "b": true, "c": "x=y", "d": "1", "e": "", "f": [1]});
        assert_eq!(Value::Object(fields(&pairs).unwrap()), expected);
        assert!(fields(&["no".to_owned()]).is_err());
    }

    #[test]
    fn a_walk_is_readable() {
        let told = serde_json::json!({
            "intercepted": [
                {"interceptor": "stamp", "plugin": "stamps", "version": "2", "pure": true, "verdict": "patch",
                 "changes": ["header a = 1"]},
                {"interceptor": "limit", "pure": false, "verdict": "pass", "failed": "it is not there"},
            ],
            "steps": [
                {"exchange": "orders", "asked": [
                    {"type": "x-dedup", "layer": 0, "plugin": "dedup", "version": "1", "pure": false,
                     "remembered": false, "answer": "delegate"},
                    {"type": "topic", "layer": 1, "plugin": "topic", "version": "0.1.0", "pure": true,
                     "remembered": true, "remembered_by": 1, "workers": 2, "answer": "deliver"}],
                 "alternate_exchange": "spare"},
                {"exchange": "spare", "asked": [
                    {"type": "fanout", "layer": 0, "plugin": "fanout", "version": "0.1.0", "pure": true,
                     "remembered": false, "answer": "deliver",
                     "bindings": [{"id": 1, "destination": "q\u{1b}", "destination_type": "queue", "routing_key": ""}]}]},
            ],
            "queues": ["q\u{1b}"], "holds": [], "outcome": "routed",
        });
        let expected = "\
            interceptor stamp (plugin stamps 2): patch\n\
            \x20   header a = 1\n\
            interceptor limit (no plugin): pass: it is not there\n\
            exchange orders\n\
            \x20 type x-dedup (plugin dedup 1, asked now): as the type behind it decides\n\
            \x20 type topic (plugin topic 0.1.0, remembered by 1 of 2 workers): no binding\n\
            \x20 no destination, so on to its alternate exchange spare\n\
            exchange spare\n\
            \x20 type fanout (plugin fanout 0.1.0, asked now; workers remember it once they have asked): 1 bindings\n\
            \x20   \"\" -> queue q\u{fffd}\n\
            => queue q\u{fffd}\n";
        assert_eq!(walk(&serde_json::from_value(told).unwrap()), expected);
    }
}
