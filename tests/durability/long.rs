//! A transaction that is longer than what segments of the journal are shared by: after a crash all of it is there, or
//! nothing.

use crate::BINARY;
use leveret_store::disk::sim::Dice;
use leveret_testkit::{
    Broker,
    wire::{Arguments, RawConnection, id, publish_persistent_bytes},
};

const BODY_BYTES: usize = 64 * 1024;
/// Together more than 20 MiB.
const MESSAGES: u32 = 400;
const ROUNDS: u32 = 8;
/// On this channel the transactions are, on this one all else.
const TRANSACTIONS: u16 = 1;
const OTHER: u16 = 2;

/// A persistent message.
fn message(channel: u16, body: &[u8]) -> Vec<u8> {
    publish_persistent_bytes(channel, "q", body)
}

/// A client with both channels; the queue is there. Gives how many messages it has.
fn connect(broker: &Broker) -> (RawConnection, u32) {
    let mut connection = RawConnection::open(broker.address());
    connection.open_channel(TRANSACTIONS);
    connection.open_channel(OTHER);
    let declare = Arguments::new().short(0).short_string("q").bits(&[false, true]).empty_table();
    connection.send_method(OTHER, id::QUEUE_DECLARE, declare);
    let mut answer = connection.expect_method(OTHER, id::QUEUE_DECLARE_OK);
    answer.short_string();
    (connection, answer.long())
}

/// Takes a message in a transaction, publishes many more, and commits.
fn commit(connection: &mut RawConnection) {
    connection.send_method(
        OTHER,
        id::QUEUE_PURGE,
        Arguments::new().short(0).short_string("q").bits(&[false]),
    );
    connection.expect_method(OTHER, id::QUEUE_PURGE_OK);
    connection.send_method(OTHER, id::CONFIRM_SELECT, Arguments::new().bits(&[false]));
    connection.expect_method(OTHER, id::CONFIRM_SELECT_OK);
    connection.send(&message(OTHER, b"the one before"));
    connection.expect_method(OTHER, id::BASIC_ACK);
    connection.send_method(TRANSACTIONS, id::TX_SELECT, Arguments::new());
    connection.expect_method(TRANSACTIONS, id::TX_SELECT_OK);
    let get = Arguments::new().short(0).short_string("q").bits(&[false]);
    connection.send_method(TRANSACTIONS, id::BASIC_GET, get);
    let tag = connection.expect_method(TRANSACTIONS, id::BASIC_GET_OK).long_long();
    connection.expect_frame();
    connection.expect_frame();
    connection.send_method(TRANSACTIONS, id::BASIC_ACK, Arguments::new().long_long(tag).bits(&[false]));
    let message = message(TRANSACTIONS, &[b'x'; BODY_BYTES]);
    (0..MESSAGES).for_each(|_| connection.send(&message));
    connection.send_method(TRANSACTIONS, id::TX_COMMIT, Arguments::new());
}

#[test]
fn a_long_transaction_is_there_as_a_whole_or_not_at_all_whenever_the_broker_is_killed() {
    let mut dice = Dice::new(7);
    let mut broker = Broker::builder(BINARY).http_listen("none").start();
    let mut seen = [0, 0];
    for round in 0..ROUNDS {
        let (mut connection, _) = connect(&broker);
        commit(&mut connection);
        let is_confirmed = round % 2 == 0;
        if is_confirmed {
            connection.expect_method(TRANSACTIONS, id::TX_COMMIT_OK);
        } else {
            // Some moment while it is read, published, or written.
            (0..dice.below(200_000)).for_each(|_| std::thread::yield_now());
        }
        broker = broker.kill_for_a_while().start();
        let (_, ready) = connect(&broker);
        assert!([1, MESSAGES].contains(&ready), "round {round}: {ready} of {MESSAGES} are there");
        assert!(!is_confirmed || ready == MESSAGES, "round {round}: it was confirmed");
        seen[usize::from(ready == MESSAGES)] += 1;
    }
    println!("{} were there as a whole, {} not at all", seen[1], seen[0]);
    assert!(broker.stop().success());
}
