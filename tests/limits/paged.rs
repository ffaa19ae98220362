//! Transient messages beyond what memory is for: they go to disk, and whoever publishes goes on.

use super::{BINARY, resident_kib};
use leveret_server::store::look::StoreLook;
use leveret_testkit::{
    Broker, WatchedDisk,
    broker::Stopped,
    wire::{Arguments, BODY, HEADER, METHOD, RawConnection, Reader, id, publish_bytes},
};

const MEMORY_MIB: u64 = 16;
const BODY_BYTES: usize = 16 * 1024;
/// Twenty times the memory.
const MESSAGES: u32 = 20 * (MEMORY_MIB as u32) * 64;
/// What waits to be written and to be synced has bounds of its own, as for persistent messages.
const BESIDE_MIB: u64 = 160;

fn broker(disk: &WatchedDisk) -> Broker {
    let builder = Broker::builder(BINARY).argument(format!("--memory-mib={MEMORY_MIB}")).http_listen("none");
    disk.watch(builder).start()
}

fn message(number: u32) -> Vec<u8> {
    let mut body = vec![b'x'; BODY_BYTES];
    body[..4].copy_from_slice(&number.to_be_bytes());
    publish_bytes(1, "q", &body)
}

/// A client that is told when it is to wait, with confirms and the queue, which does not outlive the broker.
fn publisher(broker: &Broker) -> RawConnection {
    let mut connection = RawConnection::open_to_be_blocked(broker.address());
    connection.open_channel(1);
    let declare = Arguments::new().short(0).short_string("q").bits(&[false]).empty_table();
    connection.send_method(1, id::QUEUE_DECLARE, declare);
    connection.expect_method(1, id::QUEUE_DECLARE_OK);
    connection.send_method(1, id::CONFIRM_SELECT, Arguments::new().bits(&[false]));
    connection.expect_method(1, id::CONFIRM_SELECT_OK);
    connection
}

/// Publishes all and waits for the confirms; whether it is told to wait meanwhile does not matter.
fn publish_all(broker: &Broker) {
    let mut connection = publisher(broker);
    let mut listening = connection.other_half();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..MESSAGES).for_each(|number| connection.send(&message(number))));
        let mut confirmed = 0;
        while confirmed < u64::from(MESSAGES) {
            let frame = listening.expect_frame();
            assert_eq!(frame.kind, METHOD, "{frame:?}");
            let mut reader = Reader::new(&frame.payload);
            match (reader.short(), reader.short()) {
                id::BASIC_ACK => confirmed = reader.long_long(),
                id::CONNECTION_BLOCKED | id::CONNECTION_UNBLOCKED => {}
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn a_transient_backlog_goes_to_disk_and_publishers_go_on() {
    let disk = WatchedDisk::new();
    let broker = broker(&disk);
    let before = resident_kib(broker.pid());
    publish_all(&broker);
    let mut consumer = RawConnection::open_with_channel(broker.address());
    let consume =
        Arguments::new().short(0).short_string("q").short_string("c").bits(&[false, true]).empty_table();
    consumer.send_method(1, id::BASIC_CONSUME, consume);
    consumer.expect_method(1, id::BASIC_CONSUME_OK);
    for number in 0..MESSAGES {
        consumer.expect_method(1, id::BASIC_DELIVER);
        assert_eq!(consumer.expect_frame().kind, HEADER);
        let body = consumer.expect_frame();
        assert_eq!((body.kind, body.payload.len()), (BODY, BODY_BYTES));
        assert_eq!(Reader::new(&body.payload).long(), number);
    }
    let grown_mib = (resident_kib(broker.pid()) - before) / 1024;
    println!("{grown_mib} MiB more for {} MiB of messages", (u64::from(MESSAGES) * BODY_BYTES as u64) >> 20);
    assert!(grown_mib < MEMORY_MIB + BESIDE_MIB, "{grown_mib} MiB");
}

#[test]
fn nothing_that_was_paged_is_there_after_a_restart() {
    let disk = WatchedDisk::new();
    let broker = broker(&disk);
    publish_all(&broker);
    let stopped = broker.kill_for_a_while();
    let messages =
        |stopped: &Stopped| StoreLook::open(&stopped.data_directory()).unwrap().stat().unwrap().messages;
    assert!(messages(&stopped) > 1000, "most of them were paged");
    let stopped = stopped.start().stop_for_a_while();
    assert_eq!(messages(&stopped), 0);
}
