//! Large messages on a disk that is full, slow or has damaged what was written.

use super::{
    Other, Peer,
    large::{
        BODY_BYTES, FRAME_BYTES, body, durable, files, outcome, receive, receiver_from, send, send_but,
        sender_to, settle, until_files,
    },
    part2_transport::{message, transfer},
    peer::awaited,
    queue_address,
};
use leveret_amqp10::{
    Performative,
    messaging::{Accepted, DeliveryState, Rejected, Released},
    performatives::{End, Transfer},
};
use leveret_testkit::{
    Broker, EVENT_WAIT_MAX, WatchedDisk,
    disk::Call,
    wire::{Arguments, BODY, HEADER, RawConnection, id, publish_persistent_bytes},
};
use std::{os::unix::fs::FileExt as _, time::Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_leveret");

/// Sends the last frames of a message.
fn send_last(peer: &mut Peer, handle: u32, message: &[u8], count: usize) {
    let frames = message.chunks(FRAME_BYTES).count();
    for (at, bytes) in message.chunks(FRAME_BYTES).enumerate().skip(frames - count) {
        peer.transfer(0, &Transfer { handle, more: at + 1 < frames, ..Transfer::default() }, bytes);
    }
}

fn rejected(peer: &mut Peer) -> String {
    outcome(peer, |_, state| match state {
        DeliveryState::Rejected(Rejected { error }) => error.expect("an error").condition.to_string(),
        other => panic!("{other:?}"),
    })
}

/// 3.4.3: a message for which there is no room is rejected, whenever that is known, and nothing else is hurt.
#[test]
fn a_large_message_for_which_the_disk_has_no_room_is_rejected() {
    let disk = WatchedDisk::new();
    let broker = disk.watch(Broker::builder(BINARY)).start();
    let mut other = Other::new(&broker);
    let queue = other.queue(&[]);
    let sent = durable(true, &body(3, BODY_BYTES));
    let mut peer = sender_to(&broker, &queue_address(&queue));
    send_but(&mut peer, 0, 0, &sent, 3);
    until_files(&broker, 1);
    disk.fill(true);
    send_last(&mut peer, 0, &sent, 3);
    assert_eq!(rejected(&mut peer), "amqp:resource-limit-exceeded");
    until_files(&broker, 0);
    // Whoever publishes what is to be on disk is told to wait, as on any full disk.
    let mut waits = RawConnection::open_to_be_blocked(broker.address());
    waits.open_channel(1);
    waits.send(&publish_persistent_bytes(1, &queue, b"x"));
    waits.expect_method(0, id::CONNECTION_BLOCKED);
    // A message that is not to be on disk is none of its business.
    let mut small = sender_to(&broker, &queue_address(&queue));
    small.transfer(0, &transfer(0, 0, b"t"), &message(b"small"));
    outcome(&mut small, |_, state| assert!(matches!(state, DeliveryState::Accepted(_)), "{state:?}"));
    send_but(&mut peer, 0, 1, &durable(false, &body(5, BODY_BYTES)), 0);
    assert_eq!(rejected(&mut peer), "amqp:resource-limit-exceeded");
    assert_eq!((files(&broker), other.ready(&queue)), (0, 2));
    disk.fill(false);
    waits.expect_method(0, id::CONNECTION_UNBLOCKED);
    send(&mut peer, 0, 2, &sent);
    assert_eq!((files(&broker), other.ready(&queue)), (1, 3));
}

/// What waits for the disk holds up the connection that sends it, and no other.
#[test]
fn a_disk_that_does_not_sync_holds_up_nobody_else() {
    let disk = WatchedDisk::new();
    let broker = disk.watch(Broker::builder(BINARY)).start();
    let mut other = Other::new(&broker);
    let queue = other.queue(&[]);
    let mut large = sender_to(&broker, &queue_address(&queue));
    let mut small = sender_to(&broker, &queue_address(&queue));
    // Longer than any test.
    disk.delay_syncs(3_600_000);
    send_but(&mut large, 0, 0, &durable(true, &body(3, BODY_BYTES)), 0);
    until_files(&broker, 1);
    for id in 0..3_u32 {
        small.transfer(0, &transfer(0, id, &id.to_be_bytes()), &message(b"small"));
        outcome(&mut small, |_, state| assert!(matches!(state, DeliveryState::Accepted(_)), "{state:?}"));
    }
    assert_eq!(other.ready(&queue), 3);
    disk.delay_syncs(0);
    drop(broker.kill_for_a_while());
}

/// Turns over a bit of the one large body.
fn damage(broker: &Broker) {
    let names = std::fs::read_dir(broker.data_directory().join("store")).unwrap();
    let mut names = names.map(|name| name.unwrap().path());
    let is_body =
        |path: &std::path::PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("extent");
    let path = names.find(is_body).expect("a body");
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 1000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 1000).unwrap();
}

/// 2.6.14, aborted: a message whose body is not what was sent is not delivered whole, and counts as rejected.
#[test]
fn a_large_message_that_is_damaged_is_not_delivered() {
    let broker = Broker::start(BINARY);
    let mut other = Other::new(&broker);
    let queue = other.queue(&[]);
    let mut to = sender_to(&broker, &queue_address(&queue));
    send(&mut to, 0, 0, &durable(true, &body(3, BODY_BYTES)));
    damage(&broker);
    let mut peer = receiver_from(&broker, &queue);
    loop {
        let came = peer.frame();
        let Performative::Transfer(it) = came.read().0 else { continue };
        if it.aborted {
            break;
        }
        assert!(it.more, "all of it came");
    }
    until_files(&broker, 0);
    assert_eq!(other.ready(&queue), 0);
    // The link goes on.
    to.transfer(0, &transfer(0, 1, b"t"), &message(b"small"));
    outcome(&mut to, |_, state| assert!(matches!(state, DeliveryState::Accepted(_)), "{state:?}"));
    let (came, _) = receive(&mut peer, 0);
    settle(&mut peer, came, Accepted {});
    peer.say(0, &End::default());
    awaited!(peer, End);
    // To the other protocol that cannot be said.
    send(&mut to, 0, 2, &durable(true, &body(3, BODY_BYTES)));
    damage(&broker);
    other.0.send_method(1, id::BASIC_GET, Arguments::new().short(0).short_string(&queue).bits(&[false]));
    other.0.expect_method(1, id::BASIC_GET_OK);
    loop {
        let frame = other.0.expect_frame();
        if frame.channel == 0 {
            assert_eq!(frame.payload.get(..6), Some(&[0, 10, 0, 50, 2, 29][..]), "close with 541");
            break;
        }
    }
    until_files(&broker, 0);
}

/// Waits until a large body could not be read so often since the beginning; gives how often that was.
fn until_unread(disk: &WatchedDisk, times: usize) -> usize {
    let unread = || disk.calls().iter().filter(|call| matches!(call, Call::Unread { .. })).count();
    let begun = Instant::now();
    while unread() < times {
        assert!(begun.elapsed() < EVENT_WAIT_MAX, "it is not read");
        std::thread::yield_now();
    }
    unread()
}

/// The error of a device that fails.
const EIO: u32 = 5;

/// A device that fails for a moment has lost nothing.
#[test]
fn a_large_message_that_cannot_be_read_at_once_is_delivered_all_the_same() {
    let disk = WatchedDisk::new();
    let broker = disk.watch(Broker::builder(BINARY)).start();
    let mut other = Other::new(&broker);
    let queue = other.queue(&[]);
    let sent = durable(true, &body(3, BODY_BYTES));
    send(&mut sender_to(&broker, &queue_address(&queue)), 0, 0, &sent);
    disk.fail_reads(EIO);
    let mut peer = receiver_from(&broker, &queue);
    let unread = until_unread(&disk, 1);
    disk.fail_reads(0);
    let (came, received) = receive(&mut peer, 0);
    assert!(received.ends_with(&sent[sent.len() - BODY_BYTES..]));
    settle(&mut peer, came, Released {});
    drop(peer);
    while other.ready(&queue) == 0 {}
    disk.fail_reads(EIO);
    other.0.send_method(1, id::BASIC_GET, Arguments::new().short(0).short_string(&queue).bits(&[true]));
    other.0.expect_method(1, id::BASIC_GET_OK);
    let unread = until_unread(&disk, unread + 1);
    disk.fail_reads(0);
    let mut left = BODY_BYTES;
    while left > 0 {
        let frame = other.0.expect_frame();
        assert!(matches!(frame.kind, HEADER | BODY), "{frame:?}");
        left -= if frame.kind == BODY { frame.payload.len() } else { 0 };
    }
    until_files(&broker, 0);
    // One that goes on failing is given up.
    send(&mut sender_to(&broker, &queue_address(&queue)), 0, 0, &sent);
    disk.fail_reads(EIO);
    let mut peer = receiver_from(&broker, &queue);
    loop {
        let came = peer.frame();
        let Performative::Transfer(it) = came.read().0 else { continue };
        if it.aborted {
            break;
        }
    }
    assert!(until_unread(&disk, 0) > unread + 3, "it is tried several times");
    until_files(&broker, 0);
}

/// 3.4: what is released comes again, and what is purged is gone with its file.
#[test]
fn a_large_message_comes_again_and_is_purged() {
    let broker = Broker::start(BINARY);
    let mut other = Other::new(&broker);
    let queue = other.queue(&[]);
    let sent = durable(true, &body(3, BODY_BYTES));
    send(&mut sender_to(&broker, &queue_address(&queue)), 0, 0, &sent);
    let mut peer = receiver_from(&broker, &queue);
    for _ in 0..2 {
        let (came, received) = receive(&mut peer, 0);
        assert!(received.ends_with(&sent[sent.len() - 1000..]) && received.len() >= sent.len());
        settle(&mut peer, came, Released {});
    }
    drop(peer);
    while other.ready(&queue) == 0 {}
    other.0.send_method(1, id::QUEUE_PURGE, Arguments::new().short(0).short_string(&queue).bits(&[false]));
    assert_eq!(other.0.expect_method(1, id::QUEUE_PURGE_OK).long(), 1);
    until_files(&broker, 0);
}
