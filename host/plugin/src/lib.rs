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
//! - One place swaps versions ([`registry`]); a version that fails any stage changes nothing.
//! - A stranger's file is compiled in a child process with limits ([`compile`]).
//! - Every call of a guest has a deadline in CPU time, every instance a limit of memory, and every
//!   answer is checked.
//!
//! The claim of a plugin to be pure is believed for now: an audit that asks a second instance now
//! and then, and withdraws the claim where the answers differ, is not there yet. Nor is a lane for
//! slow plugins: a plugin that always fails is set aside for up to ten seconds at a time instead.
//!
//! Read [`worker`] first (the path of a message), then [`registry`] (the path of a file).

pub mod artifact;
mod bindings;
mod builder;
mod builtin;
pub mod compile;
pub mod contract;
mod engine;
mod guest;
mod host;
mod memo;
mod private_dir;
pub mod registry;
mod replica;
#[cfg(test)]
mod testing;
mod version;
mod wasi;
pub mod worker;

pub use artifact::Digest;
pub use compile::{CompileError, CompileIn, CompileLimits};
pub use engine::CodeStrategy;
pub use guest::{CPU_BASE, CPU_PER_ITEM, GuestFailure, IDS_MAX, REJECT_REASON_BYTES_MAX};
pub use host::{Host, HostConfig, HostError};
pub use memo::MEMO_BYTES_MAX;
pub use registry::{LoadChange, LoadError, LoadReport, Registry, RemoveReport, Stage, VersionInfo};
pub use worker::Worker;
