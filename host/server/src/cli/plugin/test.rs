//! `leveret plugin test FILE CASES.toml`: messages to a real exchange, against what is expected.

use super::{
    cases::{Cases, Fate, MessageCase},
    printable,
    trial::Trial,
};
use crate::http::{arguments, explain::message, json::explain::ExplainRequest};
use anyhow::{anyhow, bail};
use clap::Args;
use leveret_broker::{NoRoom, Published, explain::Said, port::Router as _};
use leveret_model::{Name, Refusal, Table};
use leveret_plugin::{LoadReport, MEMO_BYTES_MAX};
use serde_json::{Map, Value};
use std::{io::Write, path::PathBuf};

#[derive(Args, Debug)]
pub(super) struct TestArguments {
    /// The component
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The cases
    #[arg(value_name = "CASES.toml")]
    cases: PathBuf,
}

/// A case that came out another way.
struct Failed {
    what: String,
    expected: String,
    got: String,
}

/// The outcomes of a run.
#[derive(Default)]
struct Run {
    cases: usize,
    failed: Vec<Failed>,
}

impl TestArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let cases = Cases::read(&self.cases)?;
        if cases.is_empty() {
            bail!("{} has no case: give it a [[message]], or something to refuse", self.cases.display());
        }
        let (mut trial, report) = Trial::with(&self.file, MEMO_BYTES_MAX)?;
        check_type(&mut trial, &report, &cases.type_name)?;
        let mut run = Run::default();
        run.all(&mut trial, &cases)?;
        let mut out = std::io::stdout().lock();
        for Failed { what, expected, got } in &run.failed {
            writeln!(out, "{}", printable(what))?;
            writeln!(out, "  expected  {}", printable(expected))?;
            writeln!(out, "  got       {}", printable(got))?;
        }
        writeln!(out, "{} cases, {} failed", run.cases, run.failed.len())?;
        if run.failed.is_empty() {
            Ok(())
        } else {
            bail!("{} of {} cases failed", run.failed.len(), run.cases)
        }
    }
}

/// Whether there is the type that the cases are of: one of the file's, or one that comes with the broker and
/// that a type of the file is put in front of.
fn check_type(trial: &mut Trial, report: &LoadReport, type_name: &str) -> anyhow::Result<()> {
    let types: Vec<String> = report.exchange_types.iter().map(Name::to_text).collect();
    if types.is_empty() {
        bail!("the file has interceptors and no exchange type; `plugin test` is for exchange types");
    }
    let vhost = trial.vhost.name().clone();
    match trial.router.check_type(&vhost, &name(type_name)?, &exchange_name()) {
        Ok(()) => Ok(()),
        Err(_) => bail!("there is no exchange type '{type_name}'; the file has {}", types.join(", ")),
    }
}

/// The name of the exchange of all cases.
pub(super) fn exchange_name() -> Name {
    Name::from_static("exchange")
}

/// Declares the exchange of the cases, and binds.
pub(super) fn set_up(trial: &mut Trial, cases: &Cases) -> anyhow::Result<()> {
    let type_name = name(&cases.type_name)?;
    trial
        .declare(&exchange_name(), &type_name, table(&cases.arguments)?)
        .map_err(|refusal| anyhow!("the exchange is not declared: {refusal}"))?;
    for binding in &cases.bindings {
        trial
            .bind(&exchange_name(), &name(&binding.queue)?, &binding.key, table(&binding.arguments)?)
            .map_err(|refusal| anyhow!("the queue {} is not bound: {refusal}", binding.queue))?;
    }
    Ok(())
}

/// A message of the cases.
pub(super) fn message_of(case: &MessageCase) -> anyhow::Result<leveret_model::OwnedMessage> {
    let request = ExplainRequest {
        exchange: exchange_name().to_text(),
        routing_key: case.key.clone(),
        headers: case.headers.clone(),
        properties: case.properties.clone(),
        body: case.body.clone(),
        ..ExplainRequest::default()
    };
    message(&request).map_err(|error| anyhow!("the message with the key {:?}: {error}", case.key))
}

impl Run {
    fn all(&mut self, trial: &mut Trial, cases: &Cases) -> anyhow::Result<()> {
        set_up(trial, cases)?;
        for (number, case) in (1..).zip(&cases.messages) {
            let (expected, got) = (case.expected()?, fate(trial, case)?);
            let what = || format!("message {number}, with the key {:?}", case.key);
            self.compare(what, expected == got, expected.to_string(), got.to_string());
        }
        let type_name = name(&cases.type_name)?;
        for (number, case) in (1..).zip(&cases.refused_declarations) {
            let exchange = name(&format!("refused-{number}"))?;
            let got = trial.declare(&exchange, &type_name, table(&case.arguments)?).map(drop);
            let what =
                format!("refused declaration {number}, with {}", Value::Object(case.arguments.clone()));
            self.refused(what, &case.reason, got);
        }
        for (number, case) in (1..).zip(&cases.refused_bindings) {
            let queue = name(&format!("refused-{number}"))?;
            let got = trial.bind(&exchange_name(), &queue, &case.key, table(&case.arguments)?);
            let what = format!("refused binding {number}, with the key {:?}", case.key);
            self.refused(what, &case.reason, got);
        }
        Ok(())
    }

    fn compare(&mut self, what: impl FnOnce() -> String, same: bool, expected: String, got: String) {
        self.cases += 1;
        if !same {
            self.failed.push(Failed { what: what(), expected, got });
        }
    }

    fn refused(&mut self, what: String, reason: &str, got: Result<(), Refusal>) {
        let (same, got) = match got {
            Ok(()) => (false, "it is taken".to_owned()),
            Err(refusal) => (refusal.to_string().contains(reason), format!("refused: {refusal}")),
        };
        let expected = match reason {
            "" => "refused".to_owned(),
            reason => format!("refused: … {reason} …"),
        };
        self.compare(|| what, same, expected, got);
    }
}

/// Publishes a message and finds out what became of it. Why it was dropped and for how long it is held
/// only the type can tell, which is asked just before.
fn fate(trial: &mut Trial, case: &MessageCase) -> anyhow::Result<Fate> {
    let message = message_of(case)?;
    let told = trial.vhost.explain(&mut trial.router, &message.view(), false);
    let held_before = trial.vhost.hold_count(&exchange_name());
    let outcome = trial.publish(&message)?;
    let queues = trial.take_queued()?;
    Ok(match outcome {
        Published::Routed if trial.vhost.hold_count(&exchange_name()) > held_before => {
            Fate::Hold(told.holds.first().map_or(0, |(_, delay_ms)| *delay_ms))
        }
        Published::Routed | Published::Unroutable => Fate::Deliver(queues),
        Published::Dropped => {
            let reasons =
                told.steps.iter().flat_map(|step| &step.asked).filter_map(|asked| match &asked.said {
                    Said::Drop(reason) => reason.as_deref(),
                    _ => None,
                });
            Fate::Drop(reasons.last().unwrap_or_default().to_owned())
        }
        Published::Rejected(reason)
        | Published::Unavailable(reason)
        | Published::Full(NoRoom { why: reason, .. }) => Fate::Reject(reason.to_string()),
        Published::Refused(refusal) => Fate::Reject(refusal.to_string()),
    })
}

fn name(text: &str) -> anyhow::Result<Name> {
    Name::new(text.as_bytes()).map_err(|error| anyhow!("the name {text:?}: {error}"))
}

fn table(fields: &Map<String, Value>) -> anyhow::Result<Table> {
    arguments::from_json(fields).map_err(|error| anyhow!(error))
}
