//! Hot deploy: what happens to exchanges, bindings and messages while plugins come, change and go.
//!
//! `works` puts whole components into the plugins directory, `refuses` everything else; `compile`
//! is about files that are made to cost while they are compiled, `kept` about versions and code that
//! outlive the broker's process, `rollback` about the operator's way back, `migrate` about state that goes from
//! version to version, `thousand` about many reloads under load. A stage of a reload is awaited by its line in
//! the broker's log, and judged by where messages go.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod compile;
mod deploy;
mod kept;
mod migrate;
mod refuses;
mod rollback;
#[allow(dead_code, reason = "shared with the interop suite; a part is used here")]
#[path = "../interop/rust/session.rs"]
mod session;
mod thousand;
mod works;
