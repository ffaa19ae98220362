//! One channel waits for a slow plugin: what else its connection sent.

use crate::*;
use lapin::options::QueueDeclareOptions;
use leveret_testkit::wire::{
    Arguments, METHOD, RawConnection, Reader, body_bytes, header_bytes, id, method_bytes,
};

/// What one channel publishes to a slow exchange.
const MESSAGES: u64 = 20;

/// A queue that stays, bound to a slow exchange that stays, by a connection that does not.
async fn set_up(broker: &Broker) -> (String, String) {
    let connection = connect(broker).await;
    let channel = confirming(&connection).await;
    let (exchange, queue) = (unique_name("exchange"), unique_name("queue"));
    let mut arguments = FieldTable::default();
    arguments.insert("x-rounds".into(), AMQPValue::LongLongInt(ROUNDS));
    let kind = ExchangeKind::Custom("x-takes-its-time".into());
    let name = ShortString::from(exchange.as_str());
    channel.exchange_declare(name.clone(), kind, Default::default(), arguments).await.unwrap();
    let (options, arguments) = (QueueDeclareOptions::default(), FieldTable::default());
    channel.queue_declare(queue.as_str().into(), options, arguments).await.unwrap();
    bind(&channel, &queue.as_str().into(), &name, "slow", FieldTable::default()).await;
    // From here on the plugin is known to be slow.
    while told_of(broker, "x-takes-its-time")["state"] != "slow" {
        assert!(send(&channel, &name, "slow", b"first").await.await.unwrap().is_ack());
    }
    drain(&channel, &queue.as_str().into()).await;
    (exchange, queue)
}

/// Runs a test against a broker with a slow exchange and a queue that is bound to it.
fn where_channels_wait(test: impl AsyncFnOnce(&Broker, String, String)) {
    on_broker(&broker_with(&["takes_its_time"]), async |broker| {
        let (exchange, queue) = set_up(broker).await;
        test(broker, exchange, queue).await;
    });
}

/// The frames of a publish.
fn publish(channel: u16, exchange: &str, key: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = method_bytes(channel, id::BASIC_PUBLISH, Arguments::publish(exchange, key));
    bytes.extend(header_bytes(channel, 60, body.len() as u64));
    if !body.is_empty() {
        bytes.extend(body_bytes(channel, body));
    }
    bytes
}

/// The channel and the number of each method that comes until one says so; content is left out.
fn methods_until(
    connection: &mut RawConnection,
    mut is_last: impl FnMut(u16, id::MethodId, Reader) -> bool,
) -> Vec<(u16, id::MethodId)> {
    let mut methods = Vec::new();
    loop {
        let frame = connection.expect_frame();
        if frame.kind == METHOD {
            let mut arguments = Reader::new(&frame.payload);
            let method = (arguments.short(), arguments.short());
            methods.push((frame.channel, method));
            if is_last(frame.channel, method, arguments) {
                return methods;
            }
        }
    }
}

/// The connection's other channels go on while one waits.
#[test]
fn another_channel_goes_on_while_one_waits() {
    where_channels_wait(async |broker, exchange, queue| {
        let mut connection = RawConnection::open(broker.address());
        for channel in [1, 2] {
            connection.open_channel(channel);
            connection.send_method(channel, id::CONFIRM_SELECT, Arguments::new().octet(0));
            connection.expect_method(channel, id::CONFIRM_SELECT_OK);
        }
        // In one write: what waits on channel 1 comes first, and between what channel 2 sends.
        let mut bytes = Vec::new();
        for number in 0..MESSAGES {
            bytes.extend(publish(1, &exchange, "slow", &number.to_be_bytes()));
        }
        bytes.extend(publish(2, "", &queue, b"other"));
        connection.send(&bytes);
        let (mut confirmed, mut overtaken) = (0, None);
        methods_until(&mut connection, |channel, method, mut arguments| {
            assert_eq!(method, id::BASIC_ACK);
            let tag = arguments.long_long();
            match channel {
                1 => confirmed = tag,
                _ => overtaken = Some(confirmed),
            }
            confirmed == MESSAGES
        });
        assert!(overtaken.is_some_and(|confirmed| confirmed < MESSAGES), "channel 2 waited: {overtaken:?}");
    });
}

/// What a channel sends while it waits is done after what it published before: each get finds one message
/// less behind it, and the close comes last.
#[test]
fn methods_of_a_waiting_channel_keep_their_order() {
    where_channels_wait(async |broker, exchange, queue| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        let mut bytes = Vec::new();
        for number in 1..=MESSAGES {
            bytes.extend(publish(1, &exchange, "slow", &number.to_be_bytes()));
            if number % 5 == 0 {
                let get = Arguments::new().short(0).short_string(&queue).octet(1);
                bytes.extend(method_bytes(1, id::BASIC_GET, get));
            }
        }
        bytes.extend(method_bytes(1, id::CONFIRM_SELECT, Arguments::new().octet(0)));
        bytes.extend(publish(1, &exchange, "slow", b"confirmed"));
        bytes.extend(publish(1, &exchange, "nowhere", b""));
        let close = Arguments::new().short(200).short_string("").short(0).short(0);
        bytes.extend(method_bytes(1, id::CHANNEL_CLOSE, close));
        // The number of the channel is used again at once.
        bytes.extend(method_bytes(1, id::CHANNEL_OPEN, Arguments::new().short_string("")));
        bytes.extend(publish(1, "", &queue, b"last"));
        let get = Arguments::new().short(0).short_string(&queue).octet(1);
        bytes.extend(method_bytes(1, id::BASIC_GET, get));
        connection.send(&bytes);
        let mut left = Vec::new();
        let methods = methods_until(&mut connection, |_, method, mut arguments| {
            if method == id::BASIC_GET_OK {
                arguments.long_long();
                arguments.octet();
                arguments.short_string();
                arguments.short_string();
                left.push(arguments.long());
            }
            left.len() == 5
        });
        // Five published and one got, four times; then two more published, and one got.
        assert_eq!(left, [4, 8, 12, 16, 17]);
        let methods: Vec<_> = methods.into_iter().map(|(_, method)| method).collect();
        let tail = methods.get(4..).unwrap();
        assert_eq!(tail.first(), Some(&id::CONFIRM_SELECT_OK));
        let acks = tail.iter().filter(|method| **method == id::BASIC_ACK).count();
        assert!((1..=2).contains(&acks), "{methods:?}");
        assert_eq!(
            tail.get(1 + acks..),
            Some(&[id::CHANNEL_CLOSE_OK, id::CHANNEL_OPEN_OK, id::BASIC_GET_OK][..])
        );
    });
}

/// A connection that closes is answered when all that it published is dealt with, on every channel.
#[test]
fn a_connection_that_closes_loses_nothing() {
    where_channels_wait(async |broker, exchange, queue| {
        let mut connection = RawConnection::open(broker.address());
        let mut bytes = Vec::new();
        for channel in [1, 2, 3] {
            connection.open_channel(channel);
            for number in 0..MESSAGES {
                bytes.extend(publish(channel, &exchange, "slow", &number.to_be_bytes()));
            }
        }
        let close = Arguments::new().short(200).short_string("").short(0).short(0);
        bytes.extend(method_bytes(0, id::CONNECTION_CLOSE, close));
        connection.send(&bytes);
        connection.expect_method(0, id::CONNECTION_CLOSE_OK);
        let connection = connect(broker).await;
        let channel = connection.create_channel().await.unwrap();
        let arrived = drain(&channel, &queue.as_str().into()).await;
        assert_eq!(arrived.len() as u64, 3 * MESSAGES);
    });
}

/// More than a connection may have waiting: it is not handled for a while, and goes on; a channel of another
/// connection does not notice.
#[test]
fn more_than_may_wait_waits_in_the_socket() {
    const BODY_BYTES: usize = 64 * 1024;
    const MANY: usize = 100;
    where_channels_wait(async |broker, exchange, queue| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let mut confirms = Vec::new();
        for number in 0..MANY {
            let body = vec![number as u8; BODY_BYTES];
            confirms.push(send(&channel, &exchange.as_str().into(), "slow", &body).await);
        }
        let other = connect(broker).await;
        let bystander = confirming(&other).await;
        assert!(send(&bystander, &"".into(), "nobody", b"").await.await.unwrap().is_ack());
        for confirm in confirms {
            assert!(confirm.await.unwrap().is_ack());
        }
        let arrived = drain(&channel, &queue.as_str().into()).await;
        assert_eq!(arrived.len(), MANY);
        assert!(arrived.iter().enumerate().all(|(number, body)| body.first() == Some(&(number as u8))));
    });
}

/// An unbind behind publishes that wait is not for them, and is for what comes after.
#[test]
fn an_unbind_of_a_waiting_channel_comes_in_its_place() {
    where_channels_wait(async |broker, exchange, queue| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let (exchange, queue) = (ShortString::from(exchange.as_str()), ShortString::from(queue.as_str()));
        let mut confirms = Vec::new();
        for _ in 0..MESSAGES {
            confirms.push(send(&channel, &exchange, "slow", b"before").await);
        }
        channel
            .queue_unbind(queue.clone(), exchange.clone(), "slow".into(), FieldTable::default())
            .await
            .unwrap();
        confirms.push(send(&channel, &exchange, "slow", b"after").await);
        for confirm in confirms {
            assert!(confirm.await.unwrap().is_ack());
        }
        let arrived = drain(&channel, &queue).await;
        assert_eq!(arrived.len() as u64, MESSAGES);
        assert!(arrived.iter().all(|body| body == b"before"));
    });
}

/// A socket that is gone takes nothing with it: what it had brought whole is routed, on every channel and in
/// order, also what waited behind an unbind; a frame that is not whole is not.
#[test]
fn a_socket_that_closes_loses_nothing() {
    where_channels_wait(async |broker, exchange, queue| {
        let mut connection = RawConnection::open(broker.address());
        let mut bytes = Vec::new();
        for channel in [1, 2, 3] {
            connection.open_channel(channel);
            for number in 0..MESSAGES {
                bytes.extend(publish(channel, &exchange, "slow", &number.to_be_bytes()));
            }
            // Behind what waits, by the default exchange.
            bytes.extend(publish(channel, "", &queue, b"last"));
        }
        let half = publish(1, "", &queue, b"not whole");
        bytes.extend(half.get(..half.len() - 4).unwrap());
        connection.send(&bytes);
        drop(connection);
        let connection = connect(broker).await;
        let channel = connection.create_channel().await.unwrap();
        let (mut arrived, begin) = (Vec::new(), Instant::now());
        while arrived.iter().filter(|body| *body == b"last").count() < 3 {
            assert!(begin.elapsed() < EVENT_WAIT_MAX, "{} arrived", arrived.len());
            arrived.extend(drain(&channel, &queue.as_str().into()).await);
        }
        assert_eq!(arrived.len() as u64, 3 * (MESSAGES + 1));
        let numbers = |number: u64| arrived.iter().filter(|body| **body == number.to_be_bytes()).count();
        assert!((0..MESSAGES).all(|number| numbers(number) == 3));
    });
}
