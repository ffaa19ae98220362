//! The command line: without a subcommand, the broker runs.

mod bench;
mod client;
mod connection;
mod exchange;
mod hold;
mod plugin;
mod policy;
mod store;
mod time;
mod users;
mod vhost;

use crate::bench::{EXIT_INTERRUPTED, Interrupted};
use crate::{
    config::{Config, Settings},
    wiring,
};
use anyhow::{Context, anyhow};
use clap::{Parser, Subcommand};
use client::ClientError;
use leveret_plugin::{CodeStrategy, compile};
use serde_json::{Map, Value};
use std::{
    io::{self, IsTerminal, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Instant,
};

/// A message broker whose exchange types are WebAssembly components.
///
/// Without a command it runs the broker: AMQP 0-9-1 on 127.0.0.1:5672, user guest, password guest.
/// Put a component that is an exchange type into the plugins folder while it runs, and exchanges of
/// that type can be declared a moment later.
#[derive(Parser, Debug)]
#[command(name = "leveret", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// Settings from a TOML file; flags and environment variables win over it
    #[arg(long, env = "LEVERET_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    settings: Settings,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Put load on any AMQP 0-9-1 broker and measure it
    Bench(Box<bench::BenchArguments>),
    /// Look at an exchange of a running broker, and change its arguments
    Exchange(exchange::ExchangeArguments),
    /// Look at messages that are held back, and drop them
    Hold(hold::HoldArguments),
    /// Look at a running broker's exchange types, switch them, and try out your own
    Plugin(plugin::PluginArguments),
    /// Look at what is on disk, and check it, while no broker uses it
    Store(store::StoreArguments),
    /// Users of a running broker: make them, take them away, their passwords, tags and limits
    User(users::UserArguments),
    /// What users of a running broker may do in its virtual hosts
    Permission(users::PermissionArguments),
    /// Which routing keys users of a running broker may use at topic exchanges
    TopicPermission(users::TopicPermissionArguments),
    /// Virtual hosts of a running broker: make them, delete them, their limits
    Vhost(vhost::VhostArguments),
    /// Who is connected to a running broker, and how to end that
    Connection(connection::ConnectionArguments),
    /// What holds for queues and exchanges of a running broker by their names: limits, time to live, dead letters
    Policy(policy::PolicyArguments),
    /// The same by operators, of which the smaller limit counts
    OperatorPolicy(policy::PolicyArguments),
    /// Compile one component from standard input: the broker starts itself with this
    #[command(name = compile::SUBCOMMAND, hide = true)]
    CompilePlugin(CompilePluginArguments),
}

#[derive(clap::Args, Debug)]
struct CompilePluginArguments {
    /// The compiler: winch or cranelift
    #[arg(long)]
    strategy: CodeStrategy,

    /// The most address space
    #[arg(long)]
    memory_bytes: u64,

    /// The most CPU time
    #[arg(long)]
    cpu_seconds: u64,
}

/// The exit code where no broker answers, so that scripts can tell it from a refusal (1) and from a
/// wrong command line (2).
const EXIT_NO_BROKER: u8 = 3;

/// Runs the program.
#[must_use]
pub fn run() -> ExitCode {
    let began = Instant::now();
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Some(Command::CompilePlugin(limits)) => {
            return compile::run_child(limits.strategy, limits.memory_bytes, limits.cpu_seconds);
        }
        Some(Command::Bench(bench)) => bench.run(),
        Some(Command::Plugin(plugin)) => {
            settings(arguments.config, arguments.settings).and_then(|settings| plugin.run(&settings))
        }
        Some(Command::Exchange(exchange)) => {
            settings(arguments.config, arguments.settings).and_then(|settings| exchange.run(&settings))
        }
        Some(Command::Hold(hold)) => {
            settings(arguments.config, arguments.settings).and_then(|settings| hold.run(&settings))
        }
        Some(Command::User(user)) => {
            settings(arguments.config, arguments.settings).and_then(|settings| user.run(&settings))
        }
        Some(Command::Permission(permission)) => {
            settings(arguments.config, arguments.settings).and_then(|settings| permission.run(&settings))
        }
        Some(Command::TopicPermission(permission)) => {
            settings(arguments.config, arguments.settings).and_then(|settings| permission.run(&settings))
        }
        Some(Command::Vhost(vhost)) => {
            settings(arguments.config, arguments.settings).and_then(|settings| vhost.run(&settings))
        }
        Some(Command::Connection(connection)) => {
            settings(arguments.config, arguments.settings).and_then(|settings| connection.run(&settings))
        }
        Some(Command::Policy(policy)) => settings(arguments.config, arguments.settings)
            .and_then(|settings| policy.run(policy::POLICIES, &settings)),
        Some(Command::OperatorPolicy(policy)) => settings(arguments.config, arguments.settings)
            .and_then(|settings| policy.run(policy::OPERATOR_POLICIES, &settings)),
        Some(Command::Store(store)) => {
            settings(arguments.config, arguments.settings).and_then(|settings| store.run(&settings))
        }
        None => {
            settings(arguments.config, arguments.settings).and_then(|settings| run_broker(settings, began))
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("leveret: {error:#}");
            exit_code(&error)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The exit code for an error of any command.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<Interrupted>() {
        return ExitCode::from(EXIT_INTERRUPTED);
    }
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

/// A line on standard output. That nobody reads it any more ends the command, quietly: what was asked for is done.
fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// `name=value` pairs: a value that is a number, true, false or JSON is that, any other is text.
fn fields(pairs: &[String]) -> anyhow::Result<Map<String, Value>> {
    let field = |pair: &String| {
        let (name, text) = pair.split_once('=').ok_or_else(|| anyhow!("{pair} is not NAME=VALUE"))?;
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
        Ok((name.to_owned(), value))
    };
    pairs.iter().map(field).collect()
}

fn settings(file: Option<PathBuf>, flags: Settings) -> anyhow::Result<Settings> {
    Ok(match file {
        Some(path) => flags.or(Settings::read(&path)?),
        None => flags,
    })
}

fn run_broker(settings: Settings, began: Instant) -> anyhow::Result<()> {
    let config = Config::try_from(settings)?;
    start_logging(&config.log)?;
    wiring::start(&config, began)?.serve()
}

fn start_logging(filter: &str) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .with_context(|| format!("log = {filter:?} is not a log filter; try info, or leveret=debug"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
