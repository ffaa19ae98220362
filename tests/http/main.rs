//! The HTTP API of a running broker, and the command line that asks it.
//!
//! `managing` makes and ends what RabbitMQ's tools do; `numbers` counts messages and consumers, `metrics` is for Prometheus; `operator` looks at a running plugin and switches it, `versions` goes back, `exchange`
//! looks into exchanges and changes their arguments, `author` tries out a file without a broker;
//! `resources` holds answers against RabbitMQ's (the files in `rabbitmq`, less what this broker does
//! not have); `safety` sends what must be refused; `plugins` and `command_line` are our own part.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod alone;
mod asking;
mod author;
mod command_line;
mod decided;
mod definitions;
mod exchange;
mod globals;
mod interceptors;
mod managing;
mod metrics;
mod numbers;
mod operator;
mod plugins;
mod refusals;
mod refused;
mod resources;
mod safety;
#[allow(dead_code, reason = "shared with the interop suite; a part is used here")]
#[path = "../interop/rust/session.rs"]
mod session;
mod start;
mod store;
mod versions;
mod warnings;
