//! The rules of AMQP 0-9-1, laid out by its book: a module is a chapter or a class, a test is a rule,
//! and its doc names the section.
//!
//! These tests send frames by hand, right and wrong ones. Where the book leaves the answer open, what
//! RabbitMQ 4.3 answers is the expectation; `LEVERET_TEST_ADDRESS=host:port` asks a broker that runs
//! there.
//!
//! Each test that provokes an error ends by looking after a bystander: another connection, which
//! must not have noticed anything.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod basic;
mod channel;
mod confirm;
mod connection;
mod content;
mod dead_letter;
mod exchange;
mod framing;
mod heartbeat;
mod protocol_header;
mod queue;

use leveret_testkit::Broker;
use leveret_testkit::wire::RawConnection;

/// Runs a test against the broker under test; a second connection must survive it.
fn with_bystander(test: impl FnOnce(&Broker)) {
    let broker = Broker::under_test(env!("CARGO_BIN_EXE_leveret"));
    let mut bystander = RawConnection::open_with_channel(broker.address());
    test(&broker);
    bystander.expect_alive();
}
