//! Users and what they may do, on sockets: `login` says who they are, `permissions` tries each operation, `manage`
//! changes users, `vhosts` virtual hosts and `policies` policies while the broker runs, `tls` has certificates, and
//! `amqp10` is the same for that protocol. The texts are those of RabbitMQ 4.3.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with the conformance suite; a part is used here")]
#[path = "../conformance10/peer.rs"]
mod peer;

mod amqp10;
mod asking;
mod client;
mod login;
mod manage;
mod permissions;
mod policies;
mod tags;
mod tls;
mod vhosts;

use leveret_testkit::{Broker, ScratchDirectory};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_leveret");

/// A broker with a configuration file, which goes with the directory.
pub(crate) fn broker_with(configuration: &str) -> (Broker, ScratchDirectory) {
    let directory = ScratchDirectory::new("users");
    let file = directory.path().join("leveret.toml");
    std::fs::write(&file, configuration).unwrap();
    (Broker::builder(BINARY).argument("--config").argument(file).start(), directory)
}
