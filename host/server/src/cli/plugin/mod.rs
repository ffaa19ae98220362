//! `leveret plugin`: what an author or operator asks of a running broker's exchange types.
//!
//! One file a subcommand; how the broker is found and asked is in [`client`].

mod client;
mod info;
mod list;

use crate::config::Settings;
use clap::{Args, Subcommand};
use client::{BrokerArguments, ClientError};
use std::process::ExitCode;

/// The exit code where no broker answers, so that scripts can tell it from a refusal (1) and from a
/// wrong command line (2).
const EXIT_NO_BROKER: u8 = 3;

/// Exit codes: 0 done, 1 refused or failed, 2 wrong command line, 3 no broker answers.
#[derive(Args, Debug)]
#[command(after_help = "Exit codes: 0 done, 1 refused or failed, 2 wrong command line, 3 no broker answers.")]
pub(crate) struct PluginArguments {
    #[command(subcommand)]
    command: PluginCommand,
}

#[derive(Subcommand, Debug)]
enum PluginCommand {
    /// Every exchange type and what serves it
    List(list::ListArguments),
    /// All about one exchange type
    Info(info::InfoArguments),
}

impl PluginArguments {
    /// Does what was asked; `settings` say where the broker's data is, if the command does not.
    pub(crate) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        match self.command {
            PluginCommand::List(list) => list.run(settings),
            PluginCommand::Info(info) => info.run(settings),
        }
    }
}

/// The exit code for an error of any command.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<ClientError>() {
        Some(error) if error.means_no_broker() => ExitCode::from(EXIT_NO_BROKER),
        _ => ExitCode::FAILURE,
    }
}

/// Text from a plugin or a client, fit for a terminal: control characters, which could move the
/// cursor or colour what follows, are replaced.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
