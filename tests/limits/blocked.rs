//! A connection whose publishes are held back for want of memory: everything else that it sends is served.

use super::BINARY;
use leveret_testkit::{
    Broker,
    wire::{
        Arguments, BODY, HEADER, METHOD, RawConnection, Reader, body_bytes, header_bytes, id, method_bytes,
    },
};

/// The body of a message: its number, and something that takes memory.
const BODY_BYTES: usize = 64 * 1024;
const QUEUE: &str = "q";
/// On this channel the client publishes, with confirms.
const PUBLISHING: u16 = 1;
/// On this one it consumes, one message at a time.
const CONSUMING: u16 = 2;
/// On this one there is nothing else.
const OTHER: u16 = 3;

/// What comes from the broker.
#[derive(Debug, PartialEq)]
enum Came {
    /// A message of that number, and its delivery tag.
    Message(u32, u64),
    /// All publishes up to that are confirmed.
    Confirm(u64),
    Method(u16, id::MethodId),
}

fn next(connection: &mut RawConnection) -> Came {
    let frame = connection.expect_frame();
    assert_eq!(frame.kind, METHOD, "{frame:?}");
    let mut reader = Reader::new(&frame.payload);
    match (reader.short(), reader.short()) {
        id::BASIC_DELIVER => {
            reader.short_string();
            let tag = reader.long_long();
            assert_eq!(connection.expect_frame().kind, HEADER);
            let body = connection.expect_frame();
            assert_eq!((body.kind, body.payload.len()), (BODY, BODY_BYTES));
            Came::Message(Reader::new(&body.payload).long(), tag)
        }
        id::BASIC_ACK => Came::Confirm(reader.long_long()),
        method => Came::Method(frame.channel, method),
    }
}

fn begin_publish(channel: u16) -> Vec<u8> {
    let method = method_bytes(channel, id::BASIC_PUBLISH, Arguments::publish("", QUEUE));
    [method, header_bytes(channel, 60, BODY_BYTES as u64)].concat()
}

fn body_of(number: u32) -> Vec<u8> {
    let mut body = vec![b'x'; BODY_BYTES];
    body[..4].copy_from_slice(&number.to_be_bytes());
    body
}

fn publish(channel: u16, number: u32) -> Vec<u8> {
    [begin_publish(channel), body_bytes(channel, &body_of(number))].concat()
}

fn ack(connection: &mut RawConnection, tag: u64) {
    connection.send_method(CONSUMING, id::BASIC_ACK, Arguments::new().long_long(tag).bits(&[false]));
}

/// Asks how many messages of the queue nobody has.
fn ask(connection: &mut RawConnection, channel: u16) {
    let declare = Arguments::new().short(0).short_string(QUEUE).bits(&[true]).empty_table();
    connection.send_method(channel, id::QUEUE_DECLARE, declare);
}

fn ready(address: std::net::SocketAddr) -> u32 {
    let mut connection = RawConnection::open_with_channel(address);
    ask(&mut connection, 1);
    let mut answer = connection.expect_method(1, id::QUEUE_DECLARE_OK);
    answer.short_string();
    answer.long()
}

fn consume(connection: &mut RawConnection, channel: u16) {
    connection.send_method(channel, id::BASIC_QOS, Arguments::new().long(0).short(1).bits(&[false]));
    connection.expect_method(channel, id::BASIC_QOS_OK);
    let consume =
        Arguments::new().short(0).short_string(QUEUE).short_string("c").bits(&[false]).empty_table();
    connection.send_method(channel, id::BASIC_CONSUME, consume);
    connection.expect_method(channel, id::BASIC_CONSUME_OK);
}

/// A client that published until it was told to wait: how many messages, all of them confirmed, of which it was
/// given the first and no other. On `begun`, if that is a channel, a message is half sent.
fn blocked(broker: &Broker, begun: Option<u16>) -> (RawConnection, u32) {
    let mut connection = RawConnection::open_to_be_blocked(broker.address());
    [PUBLISHING, CONSUMING, OTHER]
        .into_iter()
        .chain(begun.filter(|channel| *channel != CONSUMING))
        .for_each(|channel| connection.open_channel(channel));
    let declare = Arguments::new().short(0).short_string(QUEUE).bits(&[false]).empty_table();
    connection.send_method(PUBLISHING, id::QUEUE_DECLARE, declare);
    connection.expect_method(PUBLISHING, id::QUEUE_DECLARE_OK);
    connection.send_method(PUBLISHING, id::CONFIRM_SELECT, Arguments::new().bits(&[false]));
    connection.expect_method(PUBLISHING, id::CONFIRM_SELECT_OK);
    consume(&mut connection, CONSUMING);
    if let Some(channel) = begun {
        connection.send(&begin_publish(channel));
    }
    let (mut count, mut confirmed, mut is_blocked) = (0, 0, false);
    while !is_blocked {
        connection.send(&publish(PUBLISHING, count));
        count += 1;
        assert!(count < 400, "it is never told to wait");
        // It is told before it is read again, so no later than before the second answer.
        for channel in [OTHER, OTHER] {
            ask(&mut connection, channel);
            loop {
                match next(&mut connection) {
                    Came::Message(0, 1) => {}
                    Came::Confirm(up_to) => confirmed = up_to,
                    Came::Method(0, id::CONNECTION_BLOCKED) => is_blocked = true,
                    Came::Method(OTHER, id::QUEUE_DECLARE_OK) => break,
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    assert_eq!(confirmed, u64::from(count));
    (connection, count)
}

fn small_broker() -> Broker {
    // What nobody has taken stays in memory.
    let builder = Broker::builder(BINARY).argument("--memory-mib=16").argument("--memory-paging-percent=100");
    builder.http_listen("none").start()
}

/// Its acks count, so that it relieves itself; what it published meanwhile comes then, in order, and is confirmed.
#[test]
fn a_blocked_connection_relieves_itself() {
    const TRANSACTIONS: u16 = 4;
    const HELD_BACK: u32 = 3;
    let broker = small_broker();
    let (mut connection, count) = blocked(&broker, None);
    connection.open_channel(TRANSACTIONS);
    connection.send_method(TRANSACTIONS, id::TX_SELECT, Arguments::new());
    connection.expect_method(TRANSACTIONS, id::TX_SELECT_OK);
    connection.send_method(TRANSACTIONS, id::TX_COMMIT, Arguments::new());
    for number in count..count + HELD_BACK {
        connection.send(&publish(PUBLISHING, number));
    }
    // What comes behind them on their channel waits, and nothing else does.
    ask(&mut connection, PUBLISHING);
    ask(&mut connection, OTHER);
    connection.expect_method(OTHER, id::QUEUE_DECLARE_OK);
    ack(&mut connection, 1);
    let (mut numbers, mut confirmed, mut order) = (vec![0], 0, Vec::new());
    while numbers.len() < (count + HELD_BACK) as usize
        || confirmed < u64::from(count + HELD_BACK)
        || order.len() < 3
    {
        match next(&mut connection) {
            Came::Message(number, tag) => {
                numbers.push(number);
                ack(&mut connection, tag);
            }
            Came::Confirm(up_to) => {
                assert!(order.contains(&(0, id::CONNECTION_UNBLOCKED)), "it was still held back");
                confirmed = up_to;
            }
            Came::Method(0, id::CONNECTION_BLOCKED) => {}
            Came::Method(0, id::CONNECTION_UNBLOCKED) if !order.is_empty() => {}
            Came::Method(channel, method) => order.push((channel, method)),
        }
    }
    assert!(numbers.iter().copied().eq(0..count + HELD_BACK), "{numbers:?}");
    assert_eq!(order[0], (0, id::CONNECTION_UNBLOCKED));
    order.sort_unstable();
    let answers = [(PUBLISHING, id::QUEUE_DECLARE_OK), (TRANSACTIONS, id::TX_COMMIT_OK)];
    assert_eq!(order[1..], answers);
}

/// On a channel that publishes and consumes the same holds: what it settles goes past what is held back of it, also of
/// a message of which a part came before.
#[test]
fn a_blocked_channel_that_consumes_relieves_itself() {
    const HELD_BACK: u32 = 3;
    for begun in [None, Some(CONSUMING)] {
        let broker = small_broker();
        let (mut connection, count) = blocked(&broker, begun);
        let end = count + HELD_BACK + u32::from(begun.is_some());
        if begun.is_some() {
            connection.send(&body_bytes(CONSUMING, &body_of(count)));
        }
        for number in end - HELD_BACK..end {
            connection.send(&publish(CONSUMING, number));
        }
        // In pieces: of an ack whose name is not there yet nobody can tell that it is one.
        let whole = method_bytes(CONSUMING, id::BASIC_ACK, Arguments::new().long_long(1).bits(&[false]));
        let (piece, rest) = whole.split_at(9);
        connection.send(piece);
        ready(broker.address());
        connection.send(rest);
        let mut numbers = vec![0];
        while numbers.len() < end as usize {
            if let Came::Message(number, tag) = next(&mut connection) {
                numbers.push(number);
                ack(&mut connection, tag);
            }
        }
        assert!(numbers.iter().copied().eq(0..end), "{numbers:?}");
    }
}

/// What a transaction settles behind a commit that is held back belongs to the next one, and is not kept.
#[test]
fn what_a_transaction_settles_stays_in_its_place() {
    const TRANSACTIONS: u16 = 4;
    let broker = small_broker();
    let (mut connection, count) = blocked(&broker, None);
    connection.open_channel(TRANSACTIONS);
    connection.send_method(TRANSACTIONS, id::TX_SELECT, Arguments::new());
    connection.expect_method(TRANSACTIONS, id::TX_SELECT_OK);
    consume(&mut connection, TRANSACTIONS);
    assert_eq!(next(&mut connection), Came::Message(1, 1));
    connection.send(&publish(TRANSACTIONS, count));
    connection.send_method(TRANSACTIONS, id::TX_COMMIT, Arguments::new());
    connection.send_method(TRANSACTIONS, id::BASIC_ACK, Arguments::new().long_long(1).bits(&[false]));
    ack(&mut connection, 1);
    let (mut numbers, mut is_committed) = (vec![0], false);
    while numbers.len() < count as usize || !is_committed {
        match next(&mut connection) {
            Came::Message(number, tag) => {
                numbers.push(number);
                ack(&mut connection, tag);
            }
            Came::Method(TRANSACTIONS, id::TX_COMMIT_OK) => is_committed = true,
            Came::Method(0, id::CONNECTION_BLOCKED | id::CONNECTION_UNBLOCKED) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(numbers.into_iter().eq((0..=count).filter(|number| *number != 1)));
    let close = Arguments::new().short(200).short_string("bye").short(0).short(0);
    connection.send_method(0, id::CONNECTION_CLOSE, close);
    connection.expect_method(0, id::CONNECTION_CLOSE_OK);
    let mut other = RawConnection::open_with_channel(broker.address());
    other.open_channel(CONSUMING);
    consume(&mut other, CONSUMING);
    assert_eq!(next(&mut other), Came::Message(1, 1));
}

/// A close is answered at once, of a channel and of the connection; what was held back is dropped, and nothing else.
#[test]
fn a_blocked_connection_can_be_closed() {
    const BEGUN: u16 = 5;
    let close = || Arguments::new().short(200).short_string("bye").short(0).short(0);
    let broker = small_broker();
    let (mut connection, count) = blocked(&broker, Some(BEGUN));
    connection.send(&publish(PUBLISHING, count));
    ask(&mut connection, PUBLISHING);
    connection.send_method(PUBLISHING, id::CHANNEL_CLOSE, close());
    connection.expect_method(PUBLISHING, id::CHANNEL_CLOSE_OK);
    connection.send(&body_bytes(BEGUN, &[b'x'; BODY_BYTES]));
    connection.send_method(BEGUN, id::CHANNEL_CLOSE, close());
    connection.expect_method(BEGUN, id::CHANNEL_CLOSE_OK);
    for channel in [PUBLISHING, BEGUN] {
        connection.open_channel(channel);
        connection.send(&publish(channel, count));
        ask(&mut connection, channel);
    }
    connection.send_method(0, id::CONNECTION_CLOSE, close());
    connection.expect_method(0, id::CONNECTION_CLOSE_OK);
    connection.expect_end();
    assert_eq!(ready(broker.address()), count);
}

/// The beginning of a message waits with its channel as well, and is whole in the end.
#[test]
fn a_message_that_was_begun_waits_and_is_taken() {
    const BEGUN: u16 = 5;
    let broker = small_broker();
    let (mut connection, count) = blocked(&broker, Some(BEGUN));
    connection.send(&body_bytes(BEGUN, &body_of(count)));
    ask(&mut connection, OTHER);
    connection.expect_method(OTHER, id::QUEUE_DECLARE_OK);
    ack(&mut connection, 1);
    let mut expected = 1;
    while expected <= count {
        if let Came::Message(number, tag) = next(&mut connection) {
            assert_eq!(number, expected);
            expected += 1;
            ack(&mut connection, tag);
        }
    }
}

/// A client that is gone while its publishes are held back: they arrive, behind what it had and gave back.
#[test]
fn what_is_held_back_arrives_though_its_client_is_gone() {
    const HELD_BACK: u32 = 3;
    let broker = small_broker();
    let (mut connection, count) = blocked(&broker, None);
    for number in count..count + HELD_BACK {
        connection.send(&publish(PUBLISHING, number));
    }
    ask(&mut connection, OTHER);
    connection.expect_method(OTHER, id::QUEUE_DECLARE_OK);
    drop(connection);
    let mut other = RawConnection::open(broker.address());
    other.open_channel(CONSUMING);
    consume(&mut other, CONSUMING);
    let mut numbers = Vec::new();
    while numbers.len() < (count + HELD_BACK) as usize {
        let Came::Message(number, tag) = next(&mut other) else { panic!("something else than a message") };
        numbers.push(number);
        ack(&mut other, tag);
    }
    let held_back: Vec<u32> = numbers.iter().copied().filter(|number| *number >= count).collect();
    assert!(held_back.into_iter().eq(count..count + HELD_BACK), "{numbers:?}");
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..count + HELD_BACK));
}

/// A client that does not heed what it was told, and sends more than is kept of it: it is read no further, it gets on
/// once others made room, and nothing of it is lost.
#[test]
fn a_client_that_does_not_wait_is_read_so_far_and_gets_on() {
    const MORE: u32 = 400;
    let broker = small_broker();
    let (mut connection, count) = blocked(&broker, None);
    let mut listening = connection.other_half();
    // It ends with the broker at the latest.
    let sending = std::thread::spawn(move || {
        (count..count + MORE).for_each(|number| connection.send(&publish(PUBLISHING, number)));
    });
    let mut other = RawConnection::open(broker.address());
    other.open_channel(CONSUMING);
    consume(&mut other, CONSUMING);
    // The first is the blocked client's own, who does not ack it.
    for expected in 1..count + MORE {
        let Came::Message(number, tag) = next(&mut other) else { panic!("something else than a message") };
        assert_eq!(number, expected);
        ack(&mut other, tag);
    }
    let mut confirmed = u64::from(count);
    while confirmed < u64::from(count + MORE) {
        match next(&mut listening) {
            Came::Confirm(up_to) => confirmed = up_to,
            Came::Method(0, id::CONNECTION_BLOCKED | id::CONNECTION_UNBLOCKED) => {}
            other => panic!("{other:?}"),
        }
    }
    sending.join().unwrap();
}
