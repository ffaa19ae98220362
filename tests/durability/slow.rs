//! A disk that is slower than whoever publishes: they are held back, and what waits is bounded.

use crate::BINARY;
use leveret_testkit::{
    Broker, WatchedDisk,
    wire::{Arguments, RawConnection, Reader, id, publish_persistent_bytes},
};

const MIB: u64 = 1 << 20;
const BODY_BYTES: usize = 64 * 1024;
/// Three times what may be in flight.
const MESSAGES: u64 = 6000;
const SYNC_MS: u64 = 1000;

/// The most memory that the broker had, in bytes.
pub(crate) fn peak_bytes(broker: &Broker) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap() * 1024
}

/// A persistent message.
fn message() -> Vec<u8> {
    publish_persistent_bytes(1, "q", &[b'x'; BODY_BYTES])
}

#[test]
fn a_publisher_that_is_faster_than_the_disk_waits_for_it_and_memory_is_bounded() {
    let disk = WatchedDisk::new();
    let builder = Broker::builder(BINARY).argument("--memory-mib=16").http_listen("none");
    let broker = disk.watch(builder).start();
    let before = peak_bytes(&broker);
    let mut publisher = RawConnection::open_with_channel(broker.address());
    let declare = Arguments::new().short(0).short_string("q").bits(&[false, true]).empty_table();
    publisher.send_method(1, id::QUEUE_DECLARE, declare);
    publisher.expect_method(1, id::QUEUE_DECLARE_OK);
    publisher.send_method(1, id::CONFIRM_SELECT, Arguments::new().bits(&[false]));
    publisher.expect_method(1, id::CONFIRM_SELECT_OK);
    disk.delay_syncs(SYNC_MS);
    let (mut listening, message) = (publisher.other_half(), message());
    std::thread::scope(|scope| {
        scope.spawn(|| (0..MESSAGES).for_each(|_| publisher.send(&message)));
        let mut confirmed = 0;
        while confirmed < MESSAGES {
            let frame = listening.expect_frame();
            let mut reader = Reader::new(&frame.payload);
            assert_eq!((reader.short(), reader.short()), id::BASIC_ACK, "nothing is refused: {frame:?}");
            let tag = reader.long_long();
            assert!(tag > confirmed && tag <= MESSAGES, "{tag} after {confirmed}");
            confirmed = tag;
            // Nobody waits for the rest.
            if confirmed > MESSAGES / 2 {
                disk.delay_syncs(0);
            }
        }
    });
    // What is queued, what waits to be written and what is in flight have bounds of their own.
    let (peak, sent) = (peak_bytes(&broker) - before, MESSAGES * BODY_BYTES as u64);
    assert!(peak < 256 * MIB && sent > peak + 64 * MIB, "{} of {} MiB", peak / MIB, sent / MIB);
}
