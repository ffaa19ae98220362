//! Named limits, reached on purpose, and the clean stop. `plugins` has those of plugins, `paged` what goes to disk for want
//! of memory.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod blocked;
mod paged;
mod plugins;
#[allow(dead_code, reason = "shared with the interop suite; a part is used here")]
#[path = "../interop/rust/session.rs"]
mod session;

use futures_util::StreamExt;
use lapin::{
    BasicProperties,
    options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions},
    types::FieldTable,
};
use leveret_testkit::{
    Broker,
    wire::{
        Arguments, FRAME_END, HEARTBEAT, RawConnection, Tune, body_bytes, frame_bytes, header_bytes, id,
        method_bytes,
    },
};
use session::{connect, on_broker};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_leveret");
/// basic.reject.
const BASIC_REJECT: (u16, u16) = (60, 90);
/// The memory of queued messages in these tests.
const MEMORY_MIB: &str = "16";

/// The resident memory of a process, in KiB.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("its peak memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

/// Many publishers at the limit of memory and one consumer: each is held back, each gets on again,
/// and nothing is lost. Half a gigabyte goes through sixteen megabytes.
#[test]
fn publishers_wait_for_memory_and_get_on_again() {
    const PUBLISHERS: usize = 8;
    const MESSAGES: usize = 256;
    const BODY_BYTES: usize = 256 * 1024;
    let builder = Broker::builder(BINARY).argument("--memory-mib").argument(MEMORY_MIB);
    let broker = builder.argument("--memory-paging-percent=100").start();
    on_broker(&broker, async |broker| {
        let consuming = connect(broker).await;
        let channel = consuming.create_channel().await.unwrap();
        channel
            .queue_declare("q".into(), QueueDeclareOptions::default(), FieldTable::default())
            .await
            .unwrap();
        let publishers = (0..PUBLISHERS).map(async |_| {
            let connection = connect(broker).await;
            let channel = session::confirming(&connection).await;
            let body = vec![b'x'; BODY_BYTES];
            let mut confirms = Vec::new();
            for _ in 0..MESSAGES {
                let options = BasicPublishOptions::default();
                let published =
                    channel.basic_publish("".into(), "q".into(), options, &body, BasicProperties::default());
                confirms.push(published.await.unwrap());
            }
            for confirm in confirms {
                assert!(confirm.await.unwrap().is_ack());
            }
        });
        let consume = async {
            let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
            let mut messages =
                channel.basic_consume("q".into(), "".into(), options, FieldTable::default()).await.unwrap();
            for _ in 0..PUBLISHERS * MESSAGES {
                assert_eq!(messages.next().await.unwrap().unwrap().data.len(), BODY_BYTES);
            }
        };
        tokio::join!(futures_util::future::join_all(publishers), consume);
        // Sixteen megabytes of messages, what is on its way through sockets, code and the heap's slack.
        let resident = resident_kib(broker.pid());
        assert!(resident < 200 * 1024, "{resident} KiB were used");
    });
}

/// A publisher that is slowed because consumers are behind, and closes its socket without a word: what
/// it sent before arrives, all of it.
#[test]
fn what_was_sent_before_the_socket_closed_arrives() {
    const BODY_BYTES: usize = 16 * 1024;
    const MESSAGES: usize = 2000;
    let broker = Broker::start(BINARY);
    let mut reader = RawConnection::open_with_channel(broker.address());
    let declare = Arguments::new().short(0).short_string("behind").octet(0).empty_table();
    reader.send_method(1, id::QUEUE_DECLARE, declare);
    reader.expect_method(1, id::QUEUE_DECLARE_OK);
    let consume =
        Arguments::new().short(0).short_string("behind").short_string("tag").octet(0b10).empty_table();
    reader.send_method(1, id::BASIC_CONSUME, consume);
    reader.expect_method(1, id::BASIC_CONSUME_OK);
    let mut publisher = RawConnection::open_with_channel(broker.address());
    for _ in 0..MESSAGES {
        publish(&mut publisher, "behind", BODY_BYTES);
    }
    publisher.finish_sending();
    for _ in 0..MESSAGES {
        reader.expect_method(1, id::BASIC_DELIVER);
        read_content(&mut reader, BODY_BYTES);
    }
}

/// Messages in front of a frame that ends the connection, in the same write, are taken.
#[test]
fn what_was_sent_before_an_error_arrives() {
    let broker = Broker::start(BINARY);
    let mut other = RawConnection::open_with_channel(broker.address());
    let declare = || Arguments::new().short(0).short_string("before").octet(0).empty_table();
    other.send_method(1, id::QUEUE_DECLARE, declare());
    other.expect_method(1, id::QUEUE_DECLARE_OK);
    let mut bytes = Vec::new();
    for _ in 0..3 {
        bytes.extend(method_bytes(1, id::BASIC_PUBLISH, Arguments::publish("", "before")));
        bytes.extend(header_bytes(1, 60, 1));
        bytes.extend(body_bytes(1, b"x"));
    }
    bytes.extend(method_bytes(1, id::BASIC_PUBLISH, Arguments::publish("", "before")));
    bytes.extend(frame_bytes(2, 1, b"no content header", 0));
    let mut publisher = RawConnection::open_with_channel(broker.address());
    publisher.send(&bytes);
    publisher.expect_connection_close(501);
    other.send_method(1, id::QUEUE_DECLARE, declare());
    let mut status = other.expect_method(1, id::QUEUE_DECLARE_OK);
    assert_eq!((status.short_string().as_str(), status.long()), ("before", 3));
}

/// Pipelined requests whose answers nobody reads wait in the socket, not in memory.
#[test]
fn answers_that_nobody_reads_are_not_piled_up() {
    const BODY_BYTES: usize = 4 * 1024 * 1024;
    let broker = Broker::start(BINARY);
    let mut connection = RawConnection::open_with_channel(broker.address());
    let queue = connection.declare_queue(1);
    publish(&mut connection, &queue, BODY_BYTES);
    for tag in 1..=100 {
        let get = Arguments::new().short(0).short_string(&queue).octet(0);
        connection.send_method(1, id::BASIC_GET, get);
        connection.send_method(1, BASIC_REJECT, Arguments::new().long_long(tag).octet(1));
    }
    // Another connection's request is answered, so the broker had its turn with the ones above.
    let mut bystander = RawConnection::open_with_channel(broker.address());
    bystander.expect_alive();
    let resident = resident_kib(broker.pid());
    assert!(resident < 200 * 1024, "{resident} KiB were used");
    for _ in 0..100 {
        connection.expect_method(1, id::BASIC_GET_OK);
        read_content(&mut connection, BODY_BYTES);
    }
}

/// A client that reads slowly but sends heartbeats is alive: it is not dropped, and gets everything.
#[test]
fn a_slow_reader_that_sends_heartbeats_is_kept() {
    const BODY_BYTES: usize = 12 * 1024 * 1024;
    const MESSAGES: usize = 3;
    /// Well beyond the two intervals after which a silent client is dropped.
    const SLOW_FOR: Duration = Duration::from_secs(5);
    const HEARTBEAT_EVERY: Duration = Duration::from_millis(500);
    let broker = Broker::start(BINARY);
    let mut other = RawConnection::open_with_channel(broker.address());
    other.send_method(
        1,
        id::QUEUE_DECLARE,
        Arguments::new().short(0).short_string("slow").octet(0).empty_table(),
    );
    other.expect_method(1, id::QUEUE_DECLARE_OK);
    for _ in 0..MESSAGES {
        publish(&mut other, "slow", BODY_BYTES);
    }
    let mut reader = RawConnection::connect(broker.address());
    reader.log_in("guest", "guest");
    let tune = Tune { heartbeat_seconds: 1, ..reader.expect_tune() };
    reader.send_method(0, id::CONNECTION_TUNE_OK, Arguments::tune_ok(tune));
    reader.send_method(0, id::CONNECTION_OPEN, Arguments::open("/"));
    reader.expect_method(0, id::CONNECTION_OPEN_OK);
    reader.open_channel(1);
    let consume =
        Arguments::new().short(0).short_string("slow").short_string("tag").octet(0b10).empty_table();
    reader.send_method(1, id::BASIC_CONSUME, consume);
    let begin = Instant::now();
    let mut heartbeats = 0;
    while begin.elapsed() < SLOW_FOR {
        if begin.elapsed() >= HEARTBEAT_EVERY * heartbeats {
            reader.send(&frame_bytes(HEARTBEAT, 0, b"", FRAME_END));
            heartbeats += 1;
        }
        // The other's answer is the clock: each takes its time, and none is waited for in vain.
        other.send_method(1, id::BASIC_QOS, Arguments::new().long(0).short(1).octet(0));
        other.expect_method(1, id::BASIC_QOS_OK);
    }
    reader.expect_method(1, id::BASIC_CONSUME_OK);
    for _ in 0..MESSAGES {
        reader.expect_method(1, id::BASIC_DELIVER);
        read_content(&mut reader, BODY_BYTES);
    }
}

/// On SIGTERM each client is told with 320, and the broker ends with success.
#[test]
fn a_stop_tells_the_clients() {
    let broker = Broker::start(BINARY);
    let mut connections: Vec<RawConnection> =
        (0..5).map(|_| RawConnection::open_with_channel(broker.address())).collect();
    std::thread::scope(|scope| {
        let stopped = scope.spawn(|| broker.stop());
        for connection in &mut connections {
            let closed = connection.expect_connection_close(320);
            assert!(closed.text.starts_with("CONNECTION_FORCED - "), "{}", closed.text);
        }
        assert!(stopped.join().expect("the broker was waited for").success());
    });
}

fn publish(connection: &mut RawConnection, queue: &str, length: usize) {
    connection.send_method(1, id::BASIC_PUBLISH, Arguments::publish("", queue));
    connection.send(&header_bytes(1, 60, length as u64));
    let body = vec![b'x'; length];
    for piece in body.chunks(100_000) {
        connection.send(&body_bytes(1, piece));
    }
}

fn read_content(connection: &mut RawConnection, length: usize) {
    const HEADER: u8 = 2;
    const BODY: u8 = 3;
    let mut read = 0;
    while read < length {
        let frame = connection.expect_frame();
        match frame.kind {
            HEADER | HEARTBEAT => {}
            BODY => read += frame.payload.len(),
            kind => panic!("a frame of type {kind} in a content"),
        }
    }
    assert_eq!(read, length);
}
