//! Section 4.2.3, general frame format.

use super::with_bystander;
use leveret_testkit::wire::{
    Arguments, BODY, FRAME_END, HEADER, METHOD, RawConnection, Tune, frame_bytes, header_bytes, id,
    method_bytes,
};

/// The payload of a header frame without a body that has so many octets: one long header makes up the rest.
fn header_payload(length: usize) -> Vec<u8> {
    let value = vec![b'a'; length - 25];
    let table = Arguments::new().short_string("k").octet(b'S').long_string(value).into_bytes();
    let header = Arguments::new().short(60).short(0).long_long(0).short(0x2000).long_string(table);
    let payload = header.into_bytes();
    assert_eq!(payload.len(), length);
    payload
}

/// The payload of a queue.declare that has so many octets, likewise.
fn declare_payload(length: usize) -> Vec<u8> {
    let value = vec![b'a'; length - 23];
    let table = Arguments::new().short_string("x-why").octet(b'S').long_string(value).into_bytes();
    let declare = Arguments::new().short(50).short(10).short(0).short_string("");
    let payload = declare.bits(&[false, false, true]).long_string(table).into_bytes();
    assert_eq!(payload.len(), length);
    payload
}

/// "If a peer receives a frame with a size larger than the negotiated one": 501. (RabbitMQ lets
/// eight octets more pass, for clients that leave out the frame's own head and end.)
#[test]
fn larger_than_frame_max() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.send_method(1, id::BASIC_PUBLISH, Arguments::publish("", "nobody"));
        connection.send(&header_bytes(1, 60, 200_000));
        connection.send_frame(BODY, 1, &vec![0; 131_073]);
        connection.expect_connection_close(501);
    });
}

/// The largest frame that was agreed is no error.
#[test]
fn as_large_as_frame_max() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        let body = vec![7; 131_072 - 8];
        let queue = connection.declare_queue(1);
        connection.send_method(1, id::BASIC_PUBLISH, Arguments::publish("", &queue));
        connection.send(&header_bytes(1, 60, body.len() as u64));
        connection.send_frame(BODY, 1, &body);
        connection.expect_alive();
    });
}

/// The eight octets that RabbitMQ lets pass may come in every kind of frame: of those that are handled only when they are
/// whole, all of it has to fit what the broker reads into.
#[test]
fn frames_whose_payload_is_as_large_as_frame_max_are_answered() {
    with_bystander(|broker| {
        for payload in [131_064, 131_065, 131_071, 131_072] {
            let mut connection = RawConnection::open_with_channel(broker.address());
            let mandatory = Arguments::new().short(0).short_string("").short_string("nobody").octet(1);
            connection.send_method(1, id::BASIC_PUBLISH, mandatory);
            connection.send_frame(HEADER, 1, &header_payload(payload));
            connection.expect_method(1, id::BASIC_RETURN);
            assert_eq!(connection.expect_frame().payload.len(), payload);
            connection.expect_alive();
            connection.send_frame(METHOD, 1, &declare_payload(payload));
            connection.expect_method(1, id::QUEUE_DECLARE_OK);
        }
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.send_frame(METHOD, 1, &vec![0; 131_073]);
        connection.expect_connection_close(501);
    });
}

/// A smaller frame-max holds for what the broker sends as well.
#[test]
fn a_small_frame_max_is_kept_by_the_broker() {
    with_bystander(|broker| {
        let mut connection = RawConnection::connect(broker.address());
        connection.log_in("guest", "guest");
        let tune = connection.expect_tune();
        connection.send_method(
            0,
            id::CONNECTION_TUNE_OK,
            Arguments::tune_ok(Tune { frame_max_bytes: 8192, ..tune }),
        );
        connection.send_method(0, id::CONNECTION_OPEN, Arguments::open("/"));
        connection.expect_method(0, id::CONNECTION_OPEN_OK);
        connection.open_channel(1);
        let queue = connection.declare_queue(1);
        connection.send_method(1, id::CONFIRM_SELECT, Arguments::new().octet(0));
        connection.expect_method(1, id::CONFIRM_SELECT_OK);
        connection.send_method(1, id::BASIC_PUBLISH, Arguments::publish("", &queue));
        connection.send(&header_bytes(1, 60, 20_000));
        for part in [8184, 8184, 3632] {
            connection.send_frame(BODY, 1, &vec![1; part]);
        }
        connection.expect_method(1, id::BASIC_ACK);
        connection.send_method(1, id::BASIC_GET, Arguments::new().short(0).short_string(&queue).octet(1));
        connection.expect_method(1, id::BASIC_GET_OK);
        connection.expect_frame();
        let mut size = 0;
        while size < 20_000 {
            let frame = connection.expect_frame();
            assert_eq!(frame.kind, BODY);
            assert!(frame.payload.len() <= 8184, "a frame of {} octets", frame.payload.len() + 8);
            size += frame.payload.len();
        }
        assert_eq!(size, 20_000);
    });
}

/// "The frame-end octet MUST always be the hexadecimal value %xCE": 501.
#[test]
fn wrong_frame_end() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open(broker.address());
        let mut bytes = method_bytes(1, id::CHANNEL_OPEN, Arguments::new().short_string(""));
        *bytes.last_mut().unwrap() = 0xcd;
        connection.send(&bytes);
        connection.expect_connection_close(501);
    });
}

/// A frame type that does not exist: 501.
#[test]
fn unknown_frame_type() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.send_frame(5, 1, b"");
        connection.expect_connection_close(501);
    });
}

/// A method frame too short for its class and method.
#[test]
fn method_frame_without_ids() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.send_frame(METHOD, 1, b"\0");
        connection.expect_end();
    });
}

/// Frames come in any pieces: here octet by octet, and then many in one piece.
#[test]
fn any_pieces() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open(broker.address());
        for octet in method_bytes(1, id::CHANNEL_OPEN, Arguments::new().short_string("")) {
            connection.send(&[octet]);
        }
        connection.expect_method(1, id::CHANNEL_OPEN_OK);
        let qos = method_bytes(1, id::BASIC_QOS, Arguments::new().long(0).short(1).octet(0));
        connection.send(&qos.repeat(100));
        for _ in 0..100 {
            connection.expect_method(1, id::BASIC_QOS_OK);
        }
    });
}

/// A client that has gone in the middle of a frame disturbs nobody.
#[test]
fn gone_in_the_middle_of_a_frame() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.declare_queue(1);
        let bytes = frame_bytes(METHOD, 1, &[0; 100], FRAME_END);
        connection.send(bytes.get(..50).unwrap());
        connection.finish_sending();
        connection.expect_end();
    });
}

/// Random frames after a good beginning: whatever the answer is, the broker goes on.
#[test]
fn random_frames() {
    with_bystander(|broker| {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        // RabbitMQ takes seconds to end a connection after an error.
        for round in 0..if broker.is_external() { 5 } else { 50 } {
            let mut connection = RawConnection::open_with_channel(broker.address());
            let payload: Vec<u8> = (0..round * 3).map(|_| next()).collect();
            connection.send_frame(1 + round % 3, 1, &payload);
            connection.send(&payload);
            connection.finish_sending();
            connection.expect_end();
        }
    });
}
