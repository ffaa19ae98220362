//! Section 4.2.6, content framing: a method with content, one header, as many body frames as it takes.

use super::with_bystander;
use leveret_testkit::{
    Broker,
    broker::Builder,
    wire::{Arguments, RawConnection, body_bytes, header_bytes, id},
};

fn publishing(broker: &Broker) -> RawConnection {
    let mut connection = RawConnection::open_with_channel(broker.address());
    connection.send_method(1, id::BASIC_PUBLISH, Arguments::publish("", "nobody"));
    connection
}

/// A header of another class than the method's: 505.
#[test]
fn header_of_another_class() {
    with_bystander(|broker| {
        let mut connection = publishing(broker);
        connection.send(&header_bytes(1, 50, 0));
        let closed = connection.expect_connection_close(505);
        assert_eq!(
            closed.text,
            "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead"
        );
    });
}

/// A method where the header should be: 505.
#[test]
fn method_in_place_of_the_header() {
    with_bystander(|broker| {
        let mut connection = publishing(broker);
        connection.send_method(1, id::BASIC_QOS, Arguments::new().long(0).short(1).octet(0));
        let closed = connection.expect_connection_close(505);
        assert_eq!(
            closed.text,
            "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead"
        );
    });
}

/// A method where a body frame should be: 505.
#[test]
fn method_in_place_of_the_body() {
    with_bystander(|broker| {
        let mut connection = publishing(broker);
        connection.send(&header_bytes(1, 60, 10));
        connection.send_method(1, id::BASIC_QOS, Arguments::new().long(0).short(1).octet(0));
        let closed = connection.expect_connection_close(505);
        assert_eq!(
            closed.text,
            "UNEXPECTED_FRAME - expected content body, got non content body frame instead"
        );
    });
}

/// A header without a method: 505.
#[test]
fn header_without_a_method() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.send(&header_bytes(1, 60, 0));
        connection.expect_connection_close(505);
    });
}

/// A body without a header: 505.
#[test]
fn body_without_a_header() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.send(&body_bytes(1, b"body"));
        connection.expect_connection_close(505);
    });
}

/// More body than the header announced: 501 or 505, an error of the connection in any case.
#[test]
fn more_body_than_announced() {
    with_bystander(|broker| {
        let mut connection = publishing(broker);
        connection.send(&header_bytes(1, 60, 3));
        connection.send(&body_bytes(1, b"more than three"));
        connection.expect_connection_close(501);
    });
}

/// Content on another channel comes in between: channels do not mix.
#[test]
fn two_channels_interleave() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.open_channel(2);
        let queue = connection.declare_queue(1);
        for channel in [1, 2] {
            connection.send_method(channel, id::CONFIRM_SELECT, Arguments::new().octet(0));
            connection.expect_method(channel, id::CONFIRM_SELECT_OK);
        }
        connection.send_method(1, id::BASIC_PUBLISH, Arguments::publish("", &queue));
        connection.send_method(2, id::BASIC_PUBLISH, Arguments::publish("", &queue));
        connection.send(&header_bytes(1, 60, 6));
        connection.send(&header_bytes(2, 60, 6));
        connection.send(&body_bytes(1, b"one"));
        connection.send(&body_bytes(2, b"two"));
        connection.send(&body_bytes(2, b"two"));
        connection.expect_method(2, id::BASIC_ACK);
        connection.send(&body_bytes(1, b"one"));
        connection.expect_method(1, id::BASIC_ACK);
        for body in [b"twotwo", b"oneone"] {
            connection.send_method(1, id::BASIC_GET, Arguments::new().short(0).short_string(&queue).octet(1));
            connection.expect_method(1, id::BASIC_GET_OK);
            connection.expect_frame();
            assert_eq!(connection.expect_frame().payload, body);
        }
    });
}

/// A body that is longer than is configured (`message-mib`): 406 on its channel, before any of it comes; RabbitMQ's text.
#[test]
fn more_body_than_is_taken() {
    for (mib, bytes_max) in [(None, 16 << 20), (Some("--message-mib=1"), 1 << 20)] {
        let builder = Broker::builder(env!("CARGO_BIN_EXE_leveret"));
        let broker = mib.into_iter().fold(builder, Builder::argument).start();
        let mut connection = publishing(&broker);
        connection.send(&header_bytes(1, 60, bytes_max + 1));
        let closed = connection.expect_channel_close(1, 406);
        let (bytes, what) = (bytes_max + 1, "is larger than configured max size");
        assert_eq!(closed.text, format!("PRECONDITION_FAILED - message size {bytes} {what} {bytes_max}"));
        assert_eq!(closed.method, id::BASIC_PUBLISH);
        connection.open_channel(2);
        come_and_go(&mut connection, 2, bytes_max as usize);
    }
}

/// Above 16 MiB too, where that is configured.
#[test]
fn as_much_body_as_is_taken() {
    let broker = Broker::builder(env!("CARGO_BIN_EXE_leveret")).argument("--message-mib=40").start();
    come_and_go(&mut RawConnection::open_with_channel(broker.address()), 1, 40 << 20);
}

/// Publishes a message of so many bytes, has it confirmed, and gets it.
fn come_and_go(connection: &mut RawConnection, channel: u16, bytes: usize) {
    let queue = connection.declare_queue(channel);
    connection.send_method(channel, id::CONFIRM_SELECT, Arguments::new().octet(0));
    connection.expect_method(channel, id::CONFIRM_SELECT_OK);
    let body: Vec<u8> = (0..bytes).map(|place| (place / 7) as u8).collect();
    connection.send_method(channel, id::BASIC_PUBLISH, Arguments::publish("", &queue));
    connection.send(&header_bytes(channel, 60, bytes as u64));
    for piece in body.chunks(131_064) {
        connection.send(&body_bytes(channel, piece));
    }
    connection.expect_method(channel, id::BASIC_ACK);
    connection.send_method(channel, id::BASIC_GET, Arguments::new().short(0).short_string(&queue).octet(1));
    connection.expect_method(channel, id::BASIC_GET_OK);
    connection.expect_frame();
    let mut got = Vec::with_capacity(bytes);
    while got.len() < bytes {
        got.extend(connection.expect_frame().payload);
    }
    assert!(got == body, "another body of {} bytes came back", got.len());
}
