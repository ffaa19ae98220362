//! Class confirm (85), RabbitMQ's publisher confirms.

use super::with_bystander;
use leveret_testkit::unique_name;
use leveret_testkit::wire::{Arguments, RawConnection, Reader, header_bytes, id, method_bytes};

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

/// Declares an exclusive queue of that length, which refuses what is too much, and binds it to an exchange.
fn queue_of(connection: &mut RawConnection, most: u64, exchange: &str) -> String {
    let mut fields = b"\x0ax-overflowS\0\0\0\x0ereject-publish\x0cx-max-lengthl".to_vec();
    fields.extend(most.to_be_bytes());
    let declare = Arguments::new().short(0).short_string("").bits(&[false, false, true]).long_string(fields);
    connection.send_method(1, id::QUEUE_DECLARE, declare);
    let queue = connection.expect_method(1, id::QUEUE_DECLARE_OK).short_string();
    let bind = Arguments::new().short(0).short_string(&queue).short_string(exchange).short_string("");
    connection.send_method(1, id::QUEUE_BIND, bind.octet(0).empty_table());
    connection.expect_method(1, id::QUEUE_BIND_OK);
    queue
}

/// How many messages are ready.
fn ready(connection: &mut RawConnection, queue: &str) -> u32 {
    let declare = Arguments::new().short(0).short_string(queue).bits(&[true]).empty_table();
    connection.send_method(1, id::QUEUE_DECLARE, declare);
    let mut declared = connection.expect_method(1, id::QUEUE_DECLARE_OK);
    declared.short_string();
    declared.long()
}

/// One of two queues has room for 300 of 1,000: for the others it is full, so that they are refused, though the other
/// queue has them; they are not returned, and refused many together.
#[test]
fn what_one_of_several_queues_refuses_is_refused() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        let exchange = unique_name("confirm");
        let declare = Arguments::new().short(0).short_string(&exchange).short_string("fanout");
        let declare = declare.bits(&[false, false, true]).empty_table();
        connection.send_method(1, id::EXCHANGE_DECLARE, declare);
        connection.expect_method(1, id::EXCHANGE_DECLARE_OK);
        let [large, small] = [1_000_000, 300].map(|most| queue_of(&mut connection, most, &exchange));
        connection.send_method(1, id::CONFIRM_SELECT, Arguments::new().octet(0));
        connection.expect_method(1, id::CONFIRM_SELECT_OK);
        let mandatory = Arguments::new().short(0).short_string(&exchange).short_string("").bits(&[true]);
        let publish = [method_bytes(1, id::BASIC_PUBLISH, mandatory), header_bytes(1, 60, 0)].concat();
        connection.send(&publish.repeat(1000));
        let mut open: std::collections::BTreeSet<u64> = (1..=1000).collect();
        let (mut acked, mut refusals) = (0, 0);
        while !open.is_empty() {
            let frame = connection.expect_frame();
            let mut reader = Reader::new(&frame.payload);
            let method = (reader.short(), reader.short());
            assert!([id::BASIC_ACK, id::BASIC_NACK].contains(&method), "{method:?}");
            let (tag, multiple) = (reader.long_long(), reader.octet() & 1 == 1);
            assert!(open.contains(&tag), "{tag} was confirmed before, or never published");
            let before = open.len();
            if multiple {
                open = open.split_off(&(tag + 1));
            } else {
                open.remove(&tag);
            }
            match method == id::BASIC_ACK {
                true => acked += before - open.len(),
                false => refusals += 1,
            }
        }
        assert_eq!((acked, ready(&mut connection, &small), ready(&mut connection, &large)), (300, 300, 1000));
        assert!(refusals < 700, "each is refused by itself");
    });
}
