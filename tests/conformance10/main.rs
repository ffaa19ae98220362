//! The rules of AMQP 1.0 as the broker keeps them, laid out by the specification's book: a module is a part, a test is a
//! rule, and its doc names the section.
//!
//! These tests send frames by hand, right and wrong ones. What the book leaves open is as in RabbitMQ 4.3, but where
//! the doc of a test says otherwise. Rules that concern a connection alone are tested in `host/amqp10/src/tests`.
//!
//! Each test ends by looking after a bystander: another connection, which must not have noticed anything.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod large;
mod large_disk;
mod large_plugins;
mod management;
mod on_disk;
mod part2_resuming;
mod part2_settle_modes;
mod part2_transport;
mod part3_filters;
mod part3_messaging;
mod part4_coordinator;
mod part4_large;
mod part4_transactions;
mod part5_scram;
mod part5_security;
mod peer;
mod plugins;
mod waiting;

use leveret_testkit::wire::{Arguments, RawConnection, id};
use leveret_testkit::{Broker, unique_name};
use peer::Peer;

/// Runs a test against a broker; a second connection must survive it.
fn with_bystander(test: impl FnOnce(&Broker)) {
    let broker = Broker::under_test(env!("CARGO_BIN_EXE_leveret"));
    let mut bystander = Peer::opened(&broker);
    test(&broker);
    bystander.expect_alive();
}

/// A connection of the other protocol, by which queues are made.
struct Other(RawConnection);

impl Other {
    fn new(broker: &Broker) -> Self {
        Self(RawConnection::open_with_channel(broker.address()))
    }

    /// Declares a durable queue with these arguments.
    fn queue(&mut self, arguments: &[(&str, &str)]) -> String {
        self.declare(|declare| declare.table(arguments))
    }

    /// Declares a quorum queue with a single active consumer.
    fn single_active_queue(&mut self) -> String {
        let arguments = Arguments::new().short_string("x-queue-type").octet(b'S').long_string("quorum");
        let arguments = arguments.short_string("x-single-active-consumer").octet(b't').octet(1);
        self.declare(|declare| declare.long_string(arguments.into_bytes()))
    }

    fn declare(&mut self, with: impl FnOnce(Arguments) -> Arguments) -> String {
        let name = unique_name("queue");
        let durable = [false, true, false, false, false];
        let declare = with(Arguments::new().short(0).short_string(&name).bits(&durable));
        self.0.send_method(1, id::QUEUE_DECLARE, declare);
        self.0.expect_method(1, id::QUEUE_DECLARE_OK);
        name
    }

    /// Declares an exchange of a type with the argument `x-rounds`, and binds a queue to it with a key.
    fn slow_exchange(&mut self, kind: &str, rounds: i64, queue: &str, key: &str) -> String {
        let name = unique_name("exchange");
        let argument = Arguments::new().short_string("x-rounds").octet(b'l').long_long(rounds as u64);
        let declare = Arguments::new().short(0).short_string(&name).short_string(kind).bits(&[false; 5]);
        let declare = declare.long_string(argument.into_bytes());
        self.0.send_method(1, id::EXCHANGE_DECLARE, declare);
        self.0.expect_method(1, id::EXCHANGE_DECLARE_OK);
        let bind = Arguments::new().short(0).short_string(queue).short_string(&name).short_string(key);
        self.0.send_method(1, id::QUEUE_BIND, bind.bits(&[false]).empty_table());
        self.0.expect_method(1, id::QUEUE_BIND_OK);
        name
    }

    fn delete(&mut self, queue: &str) {
        let delete = Arguments::new().short(0).short_string(queue).bits(&[false, false, false]);
        self.0.send_method(1, id::QUEUE_DELETE, delete);
        self.0.expect_method(1, id::QUEUE_DELETE_OK);
    }

    /// How many messages are ready.
    fn ready(&mut self, queue: &str) -> u32 {
        let passive = [true, false, false, false, false];
        let declare = Arguments::new().short(0).short_string(queue).bits(&passive).empty_table();
        self.0.send_method(1, id::QUEUE_DECLARE, declare);
        let mut declared = self.0.expect_method(1, id::QUEUE_DECLARE_OK);
        declared.short_string();
        declared.long()
    }
}

fn queue_address(queue: &str) -> String {
    format!("/queues/{queue}")
}
