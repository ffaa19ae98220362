//! `leveret plugin`: what an author or operator wants of exchange types, of a running broker's or of a
//! file.
//!
//! One file a subcommand; how the broker is found and asked is in [`super::client`]. `check`, `test` and
//! `bench` ask no broker: they put the file into a plugin host of their own ([`trial`]). A command that
//! comes is a file beside and a line in `PluginCommand`.

mod bench;
mod candidate;
mod cases;
mod check;
mod explain;
mod info;
mod interceptors;
mod list;
mod pin;
mod refused;
mod rollback;
mod switch;
mod test;
mod trial;

use super::{
    client::{BrokerArguments, ClientError},
    printable, say,
};
use crate::{config::Settings, http::json::candidates::OrderJson};
use clap::{Args, Subcommand};
use tracing_subscriber::EnvFilter;

/// Exit codes: 0 done, 1 refused or failed, 2 wrong command line, 3 no broker answers.
#[derive(Args, Debug)]
#[command(after_help = "Exit codes: 0 done, 1 refused or failed, 2 wrong command line, 3 no broker answers.")]
pub(crate) struct PluginArguments {
    #[command(subcommand)]
    command: PluginCommand,
}

#[derive(Subcommand, Debug)]
enum PluginCommand {
    /// Every exchange type and what serves it, every interceptor, and every file that was refused
    List(list::ListArguments),
    /// Every interceptor, where it is attached and what came of it
    Interceptors(interceptors::InterceptorsArguments),
    /// All about one exchange type, interceptor, plugin or refused file
    Info(info::InfoArguments),
    /// Where a message would go, and why
    Explain(Box<explain::ExplainArguments>),
    /// Switch a plugin off: its exchanges and bindings stay, and are not served
    Disable(switch::SwitchArguments),
    /// Switch a plugin on again
    Enable(switch::SwitchArguments),
    /// The version that is tried beside the one that serves, and how its answers differ
    Candidate(candidate::CandidateArguments),
    /// Let the candidate of a plugin answer for a share of routing keys
    Canary(candidate::CanaryArguments),
    /// Put the candidate of a plugin back into shadow: its answers are compared and not used
    Shadow(candidate::OrderArguments),
    /// Put the candidate of a plugin into service
    Promote(candidate::OrderArguments),
    /// Take the candidate of a plugin away
    Withdraw(candidate::OrderArguments),
    /// Keep an exchange on a version of its plugin
    Pin(pin::PinArguments),
    /// Let an exchange be served as others of its type again
    Unpin(pin::UnpinArguments),
    /// The exchanges that are kept on a version
    Pins(pin::PinsArguments),
    /// Go back to the version of a plugin that served before, or to any that is kept
    Rollback(rollback::RollbackArguments),
    /// Go forward to the newest version of a plugin again, after a rollback
    #[command(visible_alias = "roll-forward")]
    Forward(rollback::ForwardArguments),
    /// Try once more what was refused of a plugin: its file, or by virtual hosts that have an older version
    Retry(refused::RetryArguments),
    /// The versions of a plugin that can be gone to
    Versions(rollback::VersionsArguments),
    /// Check a file as a broker would, without one
    Check(check::CheckArguments),
    /// Run a file of cases against a plugin, without a broker
    Test(test::TestArguments),
    /// Measure what a plugin costs a message, without a broker
    Bench(bench::BenchArguments),
}

impl PluginArguments {
    /// Does what was asked; `settings` say where the broker's data is, if the command does not.
    pub(crate) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        match self.command {
            PluginCommand::List(list) => list.run(settings),
            PluginCommand::Info(info) => info.run(settings),
            PluginCommand::Interceptors(interceptors) => interceptors.run(settings),
            PluginCommand::Explain(explain) => explain.run(settings),
            PluginCommand::Disable(switch) => switch.run(settings, false),
            PluginCommand::Enable(switch) => switch.run(settings, true),
            PluginCommand::Candidate(candidate) => candidate.run(settings),
            PluginCommand::Canary(canary) => canary.run(settings),
            PluginCommand::Shadow(order) => order.run(settings, OrderJson::Shadow),
            PluginCommand::Promote(order) => order.run(settings, OrderJson::Promote),
            PluginCommand::Withdraw(order) => order.run(settings, OrderJson::Withdraw),
            PluginCommand::Pin(pin) => pin.run(settings),
            PluginCommand::Unpin(unpin) => unpin.run(settings),
            PluginCommand::Pins(pins) => pins.run(settings),
            PluginCommand::Rollback(rollback) => rollback.run(settings),
            PluginCommand::Forward(forward) => forward.run(settings),
            PluginCommand::Retry(retry) => retry.run(settings),
            PluginCommand::Versions(versions) => versions.run(settings),
            PluginCommand::Check(check) => {
                show_output();
                check.run()
            }
            PluginCommand::Test(test) => {
                show_output();
                test.run()
            }
            PluginCommand::Bench(bench) => bench.run(),
        }
    }
}

/// Says that what was done will not hold after a restart.
fn warn_not_kept(why: Option<&str>) {
    if let Some(why) = why {
        eprintln!("warning: this holds until the broker ends, and is not kept: {}", printable(why));
    }
}

/// From now on what a plugin writes goes to this program's standard error: where it panicked, mostly.
fn show_output() {
    let filter = EnvFilter::new("off,leveret::plugin::output=info,leveret::plugin::log=debug");
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second time changes nothing.
    let _ = lines.with_ansi(false).with_target(false).without_time().try_init();
}
