//! A disk that is full, and ten thousand clients that go on publishing: they are told why, what is held of them is
//! bounded, consumers go on, and it ends by itself once there is room.

use crate::{BINARY, slow::peak_bytes};
use leveret_testkit::{
    Broker, WatchedDisk,
    process::raise_file_limit,
    wire::{Arguments, METHOD, RawConnection, Reader, id, publish_persistent_bytes},
};

const CONNECTIONS: usize = 10_000;
const MIB: u64 = 1 << 20;
const BODY_BYTES: usize = 16 * 1024;
/// How many each has held back: more than may be held of each.
const HELD: u64 = 4;
/// As the README has it: what is read of each, and what all of them share.
const EACH_MAX: u64 = 48 * 1024;
const SHARED_MAX: u64 = 64 * MIB / 8;

/// A persistent message.
fn message() -> Vec<u8> {
    publish_persistent_bytes(1, "q", &[b'x'; BODY_BYTES])
}

/// What a publisher is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// So many more publishes are accepted.
    Acked(u64),
    Refused(u64),
    Blocked,
    Unblocked,
}

/// A publisher with confirms.
struct Publisher {
    connection: RawConnection,
    settled: u64,
}

impl Publisher {
    fn open(broker: &Broker) -> Self {
        let mut connection = RawConnection::open_to_be_blocked(broker.address());
        connection.open_channel(1);
        connection.send_method(1, id::CONFIRM_SELECT, Arguments::new().bits(&[false]));
        connection.expect_method(1, id::CONFIRM_SELECT_OK);
        Self { connection, settled: 0 }
    }

    fn next(&mut self) -> Told {
        let frame = self.connection.expect_frame();
        assert_eq!(frame.kind, METHOD, "{frame:?}");
        let mut reader = Reader::new(&frame.payload);
        let method = (reader.short(), reader.short());
        match method {
            id::BASIC_ACK | id::BASIC_NACK => {
                let tag = reader.long_long();
                let more = tag.saturating_sub(self.settled);
                self.settled = self.settled.max(tag);
                if method == id::BASIC_ACK { Told::Acked(more) } else { Told::Refused(more) }
            }
            id::CONNECTION_BLOCKED => {
                assert_eq!(reader.short_string(), "low on disk");
                Told::Blocked
            }
            id::CONNECTION_UNBLOCKED => Told::Unblocked,
            other => panic!("{other:?}"),
        }
    }
}

/// How many messages are ready.
fn ready(connection: &mut RawConnection) -> u64 {
    let declare = Arguments::new().short(0).short_string("q").bits(&[true]).empty_table();
    connection.send_method(1, id::QUEUE_DECLARE, declare);
    let mut answer = connection.expect_method(1, id::QUEUE_DECLARE_OK);
    answer.short_string();
    answer.long().into()
}

/// Takes so many messages.
fn take(connection: &mut RawConnection, count: usize) {
    for _ in 0..count {
        let get = Arguments::new().short(0).short_string("q").bits(&[true]);
        connection.send_method(1, id::BASIC_GET, get);
        connection.expect_method(1, id::BASIC_GET_OK);
        connection.expect_frame();
        connection.expect_frame();
    }
}

#[test]
fn ten_thousand_publishers_at_a_full_disk_are_told_and_get_on_when_there_is_room() {
    raise_file_limit(CONNECTIONS as u64 + 200);
    let disk = WatchedDisk::new();
    let broker = disk.watch(Broker::builder(BINARY).argument("--memory-mib=64").http_listen("none")).start();
    let mut other = RawConnection::open_with_channel(broker.address());
    let declare = Arguments::new().short(0).short_string("q").bits(&[false, true]).empty_table();
    other.send_method(1, id::QUEUE_DECLARE, declare);
    other.expect_method(1, id::QUEUE_DECLARE_OK);
    let (mut first, message, mut accepted) = (Publisher::open(&broker), message(), 0);
    while accepted < 20 {
        first.connection.send(&message);
        assert_eq!(first.next(), Told::Acked(1));
        accepted += 1;
    }
    disk.fill(true);
    // One finds out.
    let is_refused = loop {
        first.connection.send(&message);
        match first.next() {
            Told::Acked(more) => accepted += more,
            Told::Refused(_) => break true,
            Told::Blocked => break false,
            Told::Unblocked => panic!("it was not blocked"),
        }
    };
    if is_refused {
        assert_eq!(first.next(), Told::Blocked);
    }
    // What is held back of it is taken in the end.
    let held_of_first = u64::from(!is_refused);
    let before = peak_bytes(&broker);
    let mut publishers: Vec<_> = (0..CONNECTIONS).map(|_| Publisher::open(&broker)).collect();
    let opened = peak_bytes(&broker);
    // The first of each is refused, and shows that it publishes what is to be written; others are held back.
    for publisher in &mut publishers {
        publisher.connection.send(&message);
        assert_eq!(publisher.next(), Told::Refused(1));
        assert_eq!(publisher.next(), Told::Blocked);
        (0..HELD).for_each(|_| publisher.connection.send(&message));
    }
    // What it sent last and was told nothing of may wait for the disk in the queue or outside.
    let there = ready(&mut other);
    let is_right = there == accepted || there == accepted + held_of_first;
    assert!(is_right, "{there} are there, {accepted} were taken: nothing is taken that was refused");
    take(&mut other, 10);
    let peak = peak_bytes(&broker);
    println!("{} MiB before, {} with all, {} with all blocked", before / MIB, opened / MIB, peak / MIB);
    let bound = CONNECTIONS as u64 * EACH_MAX + SHARED_MAX;
    assert!(peak < opened + bound, "{} MiB more, and {} may be", (peak - opened) / MIB, bound / MIB);
    disk.fill(false);
    for publisher in &mut publishers {
        let (mut acked, mut is_unblocked) = (0, false);
        while acked < HELD || !is_unblocked {
            match publisher.next() {
                Told::Acked(more) => acked += more,
                Told::Unblocked => is_unblocked = true,
                other => panic!("{other:?}"),
            }
        }
    }
    for _ in 0..=held_of_first {
        assert!(matches!(first.next(), Told::Acked(1) | Told::Unblocked));
    }
    assert_eq!(ready(&mut other), accepted + held_of_first - 10 + CONNECTIONS as u64 * HELD);
}
