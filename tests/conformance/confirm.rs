//! Class confirm (85), RabbitMQ's publisher confirms.

use super::with_bystander;
use leveret_testkit::wire::{Arguments, RawConnection, header_bytes, id};

/// confirm.select twice is answered twice, and the count goes on.
#[test]
fn select_twice() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        for tag in 1..=3 {
            connection.send_method(1, id::CONFIRM_SELECT, Arguments::new().octet(0));
            connection.expect_method(1, id::CONFIRM_SELECT_OK);
            connection.send_method(1, id::BASIC_PUBLISH, Arguments::publish("amq.fanout", ""));
            connection.send(&header_bytes(1, 60, 0));
            assert_eq!(connection.expect_method(1, id::BASIC_ACK).long_long(), tag);
        }
    });
}

/// Every publish of a burst is confirmed exactly once, one by one or many together.
#[test]
fn each_publish_is_confirmed_once() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        let queue = connection.declare_queue(1);
        connection.send_method(1, id::CONFIRM_SELECT, Arguments::new().octet(1));
        let count = 5000_u64;
        for _ in 0..count {
            connection.send_method(1, id::BASIC_PUBLISH, Arguments::publish("", &queue));
            connection.send(&header_bytes(1, 60, 0));
        }
        let mut open: std::collections::BTreeSet<u64> = (1..=count).collect();
        while !open.is_empty() {
            let mut ack = connection.expect_method(1, id::BASIC_ACK);
            let (tag, multiple) = (ack.long_long(), ack.octet() == 1);
            assert!(open.contains(&tag), "{tag} was confirmed before, or never published");
            if multiple {
                open = open.split_off(&(tag + 1));
            } else {
                open.remove(&tag);
            }
        }
    });
}
