//! What came of offering or removing a file.

use crate::{
    account::PluginUse,
    artifact::Digest,
    engine::CodeStrategy,
    guest::{ArgumentDescription, TypeDescription, shown},
    policy::{FailurePolicy, Grants},
    scope::Scope,
    version::Version,
};
use leveret_broker::exchange::Exchange;
use leveret_model::Name;
use std::{
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// The stages that a file passes, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The file is whole and a component.
    Read,
    /// It compiles.
    Compile,
    /// Its exports and imports are those of the contract.
    Contract,
    /// What the operator says of it fits it.
    Policy,
    /// An instance starts and describes itself, with names that are free.
    Trial,
    /// A fresh instance takes every live exchange and binding, and every attachment.
    Replay,
    /// It takes over the state that the version before it left.
    Migrate,
    /// It may take the place of what serves.
    Swap,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Compile => "compile",
            Self::Contract => "contract",
            Self::Policy => "policy",
            Self::Trial => "trial",
            Self::Replay => "replay",
            Self::Migrate => "migrate",
            Self::Swap => "swap",
        })
    }
}

/// Why a file was not put into service. What served before serves on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// The stage it did not pass.
    pub stage: Stage,
    /// Why, for people to read.
    pub reason: String,
}

impl LoadError {
    pub(super) fn at(stage: Stage) -> impl Fn(String) -> Self {
        // Parts of it are a stranger's words: the file's, the plugin's, a client's.
        move |reason| Self { stage, reason: shown(&reason) }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused at stage {}: {}", self.stage, self.reason)
    }
}

impl std::error::Error for LoadError {}

/// What an accepted file changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadChange {
    /// The file was not known before.
    Added,
    /// It took the place of an older version of the file.
    Replaced {
        /// The older one's.
        digest: Digest,
    },
    /// The very same bytes serve already.
    Unchanged,
}

/// What became of the state that the version before left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateChange {
    /// Of how many exchanges' types the state was migrated.
    pub migrated: usize,
    /// Of how many it is again what it was before it was migrated.
    pub restored: usize,
    /// Of how many it is nothing again: they began with a version after the one that serves now.
    pub emptied: usize,
    /// How many values and messages are discarded for both.
    pub discarded_entries: u64,
    /// What these took, in bytes.
    pub discarded_bytes: u64,
}

/// A file that serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadReport {
    /// The file.
    pub path: PathBuf,
    /// For whom.
    pub scope: Scope,
    /// Of its bytes.
    pub digest: Digest,
    /// The plugin's version as it describes itself.
    pub version: String,
    /// The version of the contract that it was made for.
    pub contract: &'static str,
    /// The interfaces of the contract that it exports.
    pub exports: Vec<&'static str>,
    /// The capabilities that it imports, so that it must be granted them to serve.
    pub imports: Grants,
    /// The exchange types it provides.
    pub exchange_types: Vec<Name>,
    /// The interceptors it provides.
    pub interceptors: Vec<String>,
    /// What changed.
    pub change: LoadChange,
    /// Which compiler made the code that serves now. For a large file Winch, until Cranelift's
    /// code takes over by itself.
    pub strategy: CodeStrategy,
    /// How many live exchanges were replayed.
    pub exchanges: usize,
    /// How many bindings they have.
    pub bindings: usize,
    /// The virtual hosts that stay on what they had of a global plugin, and why.
    pub held_back: Vec<(Name, LoadError)>,
    /// What became of the state that the version before left.
    pub state: StateChange,
    /// How long compiling took.
    pub compile_time: Duration,
    /// How long replaying took.
    pub replay_time: Duration,
}

/// A file that serves no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoveReport {
    /// The file.
    pub path: PathBuf,
    /// The exchange types it provided.
    pub exchange_types: Vec<Name>,
    /// How many exchanges are parked for it.
    pub exchanges: usize,
    /// How many exchanges are served by the plugin that it had taken them from.
    pub handed_back: usize,
}

/// A version of a plugin that serves or served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionInfo {
    /// Of its bytes.
    pub digest: Digest,
    /// The plugin's version as it described itself.
    pub version: String,
    /// When it began to serve last.
    pub since: SystemTime,
    /// It serves now.
    pub serving: bool,
}

/// An exchange type, for people to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeInfo {
    /// Its name.
    pub name: Name,
    /// For whom its plugin is there; of exchanges that are parked in one virtual host, that one.
    pub scope: Scope,
    /// The plugin that provides it, or did, if that is known.
    pub plugin: Option<String>,
    /// How many live exchanges have it.
    pub exchanges: usize,
    /// What serves it, or why nothing does.
    pub state: TypeState,
}

/// An exchange type as one virtual host has it.
#[derive(Clone, Debug)]
pub struct TypeInVhost {
    /// Its name.
    pub name: Name,
    /// The virtual host.
    pub vhost: Name,
    /// What serves it there, or why nothing does.
    pub state: TypeState,
    /// For whom the plugin is there that serves it.
    pub scope: Option<Scope>,
    /// What becomes of messages when the plugin fails.
    pub on_failure: FailurePolicy,
    /// The live exchanges that have it.
    pub exchanges: Vec<Arc<Exchange>>,
    /// What the plugin used and did there. Of one that provides several types, for all of them.
    pub used: PluginUse,
}

/// What serves an exchange type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeState {
    /// A plugin.
    Serving {
        /// Its name: its file's without `.wasm`, or the type's for one that came with the broker.
        plugin: String,
        /// Its version as it describes itself.
        version: String,
        /// Of its bytes.
        digest: Digest,
        /// Which compiler made its code.
        strategy: CodeStrategy,
        /// It came with the broker.
        builtin: bool,
        /// One line of help, by the plugin.
        summary: String,
        /// Its decisions are remembered.
        pure: bool,
        /// It claims to be pure and was found not to be: its decisions are not remembered.
        purity_withdrawn: bool,
        /// What exchanges and bindings of it may say, a line each.
        arguments: Vec<String>,
        /// The argument by which it is put in front of other types, if it can be.
        stage: Option<String>,
    },
    /// Nothing.
    Parked {
        /// Why.
        why: String,
    },
}

/// `x-rate, integer, required: messages in a second`.
pub(super) fn argument_line(of: &str, it: &ArgumentDescription) -> String {
    let required = if it.required { ", required" } else { "" };
    format!("{}, {}{of}{required}: {}", it.name, it.kind, it.summary)
}

fn argument_lines(described: &TypeDescription) -> Vec<String> {
    let exchange = described.arguments.iter().map(|it| argument_line("", it));
    exchange.chain(described.binding_arguments.iter().map(|it| argument_line(", of a binding", it))).collect()
}

impl TypeState {
    /// That this version serves a type.
    pub(super) fn serving(version: &Version, type_name: &Name) -> Self {
        let described = version.describes(type_name);
        Self::Serving {
            plugin: version.code.plugin.clone(),
            version: version.description.version.clone(),
            digest: version.code.digest,
            strategy: version.code.strategy,
            builtin: version.code.builtin,
            summary: described.map(|t| t.summary.clone()).unwrap_or_default(),
            pure: version.claims(type_name).pure,
            purity_withdrawn: version.is_withdrawn(type_name),
            arguments: described.map(argument_lines).unwrap_or_default(),
            stage: described.and_then(|t| t.stage.as_ref()).map(|stage| stage.argument.clone()),
        }
    }
}
