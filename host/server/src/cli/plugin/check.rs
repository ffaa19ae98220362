//! `leveret plugin check FILE`: the stages that a broker lets a file pass, each with its result.

use super::{printable, trial::Trial};
use anyhow::anyhow;
use clap::Args;
use leveret_plugin::{
    CodeStrategy, LoadReport, MEMO_BYTES_MAX, Stage,
    policy::Capability,
    registry::{InterceptorInfo, TypeInfo, TypeState},
};
use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// The stages that there are without a running broker.
const STAGES: [Stage; 5] = [Stage::Read, Stage::Compile, Stage::Contract, Stage::Policy, Stage::Trial];

/// What no import tells of.
const IN_USE: &str = "; beside imports a plugin needs 'hold' to answer hold, 'publisher' to read who published, 'modify-body' to set \
                      bodies: that shows in use alone";

#[derive(Args, Debug)]
pub(super) struct CheckArguments {
    /// The component
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl CheckArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let bytes = super::trial::read(&self.file)?;
        let (trial, loaded) = Trial::new(&self.file, &bytes, MEMO_BYTES_MAX)?;
        let mut out = std::io::stdout().lock();
        match loaded {
            Ok(report) => {
                for stage in STAGES {
                    let found = printable(&found(stage, &report, bytes.len()));
                    writeln!(out, "{:9} ok      {found}", stage.to_string())?;
                }
                for info in trial.types() {
                    writeln!(out, "{}", printable(&describe(&info)))?;
                    for line in details(&info) {
                        writeln!(out, "          {}", printable(&line))?;
                    }
                }
                for info in trial.interceptors() {
                    for line in describe_interceptor(&info) {
                        writeln!(out, "{}", printable(&line))?;
                    }
                }
                Ok(())
            }
            Err(error) => {
                for stage in STAGES.into_iter().filter(|stage| *stage < error.stage) {
                    writeln!(out, "{:9} ok", stage.to_string())?;
                }
                writeln!(out, "{:9} FAILED  {}", error.stage.to_string(), printable(&error.reason))?;
                Err(refused(&self.file, error.stage))
            }
        }
    }
}

fn refused(file: &Path, stage: Stage) -> anyhow::Error {
    anyhow!("a broker would not take {}: stage {stage} failed", file.display())
}

/// What a stage found out.
fn found(stage: Stage, report: &LoadReport, length_bytes: usize) -> String {
    match stage {
        Stage::Read => {
            format!("a component of {} KiB, digest {}", length_bytes.div_ceil(1024), report.digest)
        }
        Stage::Compile => {
            let compiler = match report.strategy {
                CodeStrategy::Cranelift => "Cranelift",
                CodeStrategy::Winch => "Winch, for it is large; then Cranelift",
            };
            format!("in {} ms, by {compiler}", report.compile_time.as_millis())
        }
        Stage::Contract => format!("version {}; exports {}", report.contract, report.exports.join(", ")),
        Stage::Policy if report.imports.is_empty() => {
            format!("imports nothing that needs a grant{IN_USE}")
        }
        Stage::Policy => {
            let plugin = report.path.file_stem().unwrap_or_default().to_string_lossy();
            let names: Vec<&str> = report.imports.iter().map(Capability::name).collect();
            format!(
                "serves where it is granted: {} (grants = {names:?} in [plugins.{plugin:?}]){IN_USE}",
                report.imports
            )
        }
        Stage::Trial | Stage::Replay | Stage::Migrate | Stage::Swap => {
            format!("starts and describes itself, as version {}", report.version)
        }
    }
}

/// What exchanges of a type may say, and how it is put in front of other types.
fn details(info: &TypeInfo) -> Vec<String> {
    let TypeState::Serving { arguments, stage, .. } = &info.state else { return Vec::new() };
    let arguments = arguments.iter().map(|line| format!("argument {line}"));
    let stage = stage.iter().map(|argument| format!("in front of other types by their argument {argument}"));
    arguments.chain(stage).collect()
}

fn describe(info: &TypeInfo) -> String {
    match &info.state {
        TypeState::Serving { summary, pure, .. } => {
            let pure = if *pure { "pure: decisions are remembered" } else { "asked about every message" };
            format!("type      {}: {summary} ({pure})", info.name)
        }
        TypeState::Parked { why } => format!("type      {}: {why}", info.name),
    }
}

fn describe_interceptor(info: &InterceptorInfo) -> Vec<String> {
    let points: Vec<String> = info.points.iter().map(ToString::to_string).collect();
    let pure = if info.pure { "pure: verdicts are remembered" } else { "asked about every message" };
    let first = format!("interceptor {}: {} ({pure})", info.name, info.summary);
    let arguments = info.arguments.iter().map(|line| format!("          argument {line}"));
    let points = format!("          can be attached at {}", points.join(", "));
    [first, points].into_iter().chain(arguments).collect()
}
