//! What idle connections, idle queues and queued messages cost, read from the broker's process.
//!
//! The README has figures; these tests hold the bounds with any build.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod large;
mod links;
#[allow(dead_code, unused_macros, unused_imports, reason = "the tests of the protocol use the rest")]
#[path = "../conformance10/peer.rs"]
mod peer;
mod queued;

use leveret_testkit::Broker;
use leveret_testkit::process::raise_file_limit;
use leveret_testkit::wire::{Arguments, HEADER, RawConnection, id, method_bytes, publish_bytes};

const BINARY: &str = env!("CARGO_BIN_EXE_leveret");
const MIB: u64 = 1 << 20;

/// The resident memory of a process now, in bytes.
fn resident_bytes(broker: &Broker) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", broker.pid())).expect("the process is there");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}

/// What is there for each of `count`, since the broker had `before`; all of it must be at most `bound`.
fn assert_within(what: &str, broker: &Broker, before: u64, count: u64, bound: u64) {
    let now = resident_bytes(broker);
    let each = now.saturating_sub(before) / count;
    println!("{count} {what}: {} MiB in all, {each} bytes each", now / MIB);
    assert!(now <= bound, "{count} {what}: {now} bytes, more than {bound}; {each} bytes each");
}

/// The arguments of a queue.declare without an answer.
fn declare(name: &str, is_durable: bool) -> Arguments {
    Arguments::new().short(0).short_string(name).bits(&[false, is_durable, false, false, true]).empty_table()
}

/// Everything that was sent before it has been dealt with.
fn await_answer(connection: &mut RawConnection) {
    connection.send_method(1, id::BASIC_QOS, Arguments::new().long(0).short(1).bits(&[false]));
    connection.expect_method(1, id::BASIC_QOS_OK);
}

#[test]
fn ten_thousand_idle_connections_within_200_mib() {
    const COUNT: usize = 10_000;
    raise_file_limit(COUNT as u64 + 200);
    let broker = Broker::builder(BINARY).http_listen("none").start();
    let before = resident_bytes(&broker);
    // Each with a channel, as a client that waits has one.
    let connections: Vec<_> =
        (0..COUNT).map(|_| RawConnection::open_with_channel(broker.address())).collect();
    assert_within("idle connections", &broker, before, COUNT as u64, 200 * MIB);
    drop(connections);
}

#[test]
fn a_hundred_thousand_idle_queues_within_600_mib() {
    const COUNT: usize = 100_000;
    let broker = Broker::builder(BINARY).http_listen("none").start();
    let before = resident_bytes(&broker);
    let mut connection = RawConnection::open_with_channel(broker.address());
    // Every tenth is durable: they are more, and take longer.
    let names: Vec<String> = (0..COUNT).map(|number| format!("queue-{number:06}")).collect();
    for (chunk, names) in names.chunks(1000).enumerate() {
        let declared =
            names.iter().map(|name| method_bytes(1, id::QUEUE_DECLARE, declare(name, chunk % 10 == 0)));
        connection.send(&declared.flatten().collect::<Vec<u8>>());
    }
    await_answer(&mut connection);
    let passive = Arguments::new().short(0).short_string("queue-099999").bits(&[true]).empty_table();
    connection.send_method(1, id::QUEUE_DECLARE, passive);
    connection.expect_method(1, id::QUEUE_DECLARE_OK);
    assert_within("idle queues", &broker, before, COUNT as u64, 600 * MIB);
}

/// 256 MiB for a consumer that reads nothing until the publisher was told to wait: the broker never holds more
/// than what it was given for messages and what the sockets' buffers take.
#[test]
fn a_consumer_that_does_not_read_costs_no_memory() {
    const MESSAGES: usize = 4096;
    const BODY_BYTES: usize = 64 * 1024;
    let broker = Broker::builder(BINARY).argument("--memory-mib=16").argument("--memory-paging-percent=100");
    let broker = broker.http_listen("none").start();
    let before = resident_bytes(&broker);
    let mut consumer = RawConnection::open_with_channel(broker.address());
    let queue = consumer.declare_queue(1);
    let consume =
        Arguments::new().short(0).short_string(&queue).short_string("c").bits(&[false, true]).empty_table();
    consumer.send_method(1, id::BASIC_CONSUME, consume);
    consumer.expect_method(1, id::BASIC_CONSUME_OK);

    let mut publisher = RawConnection::open_to_be_blocked(broker.address());
    publisher.open_channel(1);
    let mut listening = publisher.other_half();
    let message = publish_bytes(1, &queue, &[b'x'; BODY_BYTES]);
    std::thread::scope(|scope| {
        scope.spawn(|| (0..MESSAGES).for_each(|_| publisher.send(&message)));
        let blocked = listening.expect_method(0, id::CONNECTION_BLOCKED).short_string();
        assert_eq!(blocked, "low on memory");
        assert_within("slow consumer", &broker, before, 1, before + 64 * MIB);
        for _ in 0..MESSAGES {
            consumer.expect_method(1, id::BASIC_DELIVER);
            let (header, mut body_bytes) = (consumer.expect_frame(), 0);
            assert_eq!(header.kind, HEADER);
            while body_bytes < BODY_BYTES {
                body_bytes += consumer.expect_frame().payload.len();
            }
        }
    });
    assert_within("slow consumer", &broker, before, 1, before + 64 * MIB);
}

/// Half a gigabyte of publishers that were told to wait and go on all the same: what is read of them is bounded for
/// all together, and all of it arrives once there is room.
#[test]
fn publishers_that_do_not_wait_cost_no_memory() {
    const PUBLISHERS: usize = 64;
    const MESSAGES: usize = 128;
    const BODY_BYTES: usize = 64 * 1024;
    let broker = Broker::builder(BINARY).argument("--memory-mib=16").argument("--memory-paging-percent=100");
    let broker = broker.http_listen("none").start();
    let before = resident_bytes(&broker);
    let mut consumer = RawConnection::open_with_channel(broker.address());
    let queue = consumer.declare_queue(1);
    let message = publish_bytes(1, &queue, &[b'x'; BODY_BYTES]);
    let message = std::sync::Arc::new(message);
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|_| {
            let mut publisher = RawConnection::open_to_be_blocked(broker.address());
            publisher.open_channel(1);
            let (listening, message) = (publisher.other_half(), message.clone());
            // It ends with the broker at the latest.
            let sending =
                std::thread::spawn(move || (0..MESSAGES).for_each(|_| publisher.send(message.as_slice())));
            (listening, sending)
        })
        .collect();
    let sending: Vec<_> = publishers
        .into_iter()
        .map(|(mut listening, sending)| {
            listening.expect_method(0, id::CONNECTION_BLOCKED);
            (listening, sending)
        })
        .collect();
    assert_within("publishers that are told to wait", &broker, before, 1, before + 64 * MIB);
    let consume = Arguments::new().short(0).short_string(&queue).short_string("c").bits(&[false, true]);
    consumer.send_method(1, id::BASIC_CONSUME, consume.empty_table());
    consumer.expect_method(1, id::BASIC_CONSUME_OK);
    for _ in 0..PUBLISHERS * MESSAGES {
        consumer.expect_method(1, id::BASIC_DELIVER);
        let (header, mut body_bytes) = (consumer.expect_frame(), 0);
        assert_eq!(header.kind, HEADER);
        while body_bytes < BODY_BYTES {
            body_bytes += consumer.expect_frame().payload.len();
        }
    }
    sending.into_iter().for_each(|(_, sending)| sending.join().expect("all was sent"));
    assert_within("publishers that did not wait", &broker, before, 1, before + 64 * MIB);
}
