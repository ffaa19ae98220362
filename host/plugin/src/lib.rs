//! The only room with wasmtime: load, check, instantiate, call, limit, remember answers, swap.
//!
//! *Not here:* where files come from (the server watches a directory and offers them), what
//! bindings there are (the broker holds that truth), sockets, an async runtime.
//!
//! *In and out:* a [`Host`] is made once. Files go in through its [`Registry`]; each worker thread
//! has a [`Worker`], through which the broker asks exchange types ([`leveret_broker::port::Router`]).
//!
//! *Invariants:*
//! - An instance holds only what follows from what it was told, so it can be dropped and made
//!   again at any time. After any failure it is never called again.
//! - A remembered answer belongs to a generation of its exchange and is compared on use.
//! - That a plugin is pure is its claim: some answers are checked by another instance, and where
//!   they differ the claim is withdrawn.
//! - One place swaps versions ([`registry`]); a version that fails any stage changes nothing.
//! - Virtual hosts share no instance, no remembered answer and no count of failures but of what came
//!   with the broker; a plugin has in each of them what its policy there grants and allows ([`policy`]).
//! - A stranger's file is compiled in a child process with limits ([`compile`]).
//! - Every call of a guest has a deadline in CPU time, every instance a limit of memory, and every
//!   answer is checked.
//!
//! What may take long is done beside the workers ([`lane`]); a plugin that always fails is quarantined for up
//! to ten seconds at a time.
//!
//! Read [`worker`] first (the path of a message), then [`registry`] (the path of a file).

mod account;
pub mod artifact;
pub mod attachment;
mod audit;
mod bindings;
mod builder;
mod builtin;
mod candidate;
mod capability;
pub mod compile;
pub mod contract;
mod engine;
pub mod folder;
mod guest;
mod host;
pub mod lane;
mod memo;
pub mod pace;
pub mod policy;
mod private_dir;
mod recent;
pub mod registry;
mod replica;
mod scope;
mod services;
mod shares;
mod standby;
mod state;
mod tally;
#[cfg(test)]
mod testing;
mod together;
mod version;
mod wasi;
pub mod worker;

pub use account::{Failures, PluginUse};
pub use artifact::Digest;
pub use attachment::{AttachmentError, AttachmentRule, AttachmentUse, Attachments};
pub use candidate::{
    CANARY_FAILURES_MAX, CANARY_FAILURES_WITHIN, CandidateInfo, CandidateState, DIFFERENCES_SHOWN_MAX,
    Difference, Share,
};
pub use capability::MetricValue;
pub use compile::{CompileError, CompileIn, CompileLimits};
pub use engine::CodeStrategy;
pub use guest::{AttachmentPoint, GuestFailure, REJECT_REASON_BYTES_MAX};
pub use host::{Host, HostConfig, HostError};
pub use memo::MEMO_BYTES_MAX;
pub use policy::Policies;
pub use registry::{LoadChange, LoadError, LoadReport, Registry, RemoveReport, Stage, VersionInfo};
pub use scope::{CORE_TYPES, Scope};
pub use tally::{CallTime, Calls};
pub use together::TogetherUse;
pub use worker::{LayerInfo, Worker};
