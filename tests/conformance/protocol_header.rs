//! Section 4.2.2, protocol header: the first eight octets decide what is spoken.

use super::with_bystander;
use leveret_testkit::wire::{Arguments, PROTOCOL_HEADER, RawConnection, id};

/// What a broker that also speaks AMQP 1.0 offers to whom it cannot understand.
const AMQP_1_0_WITH_SASL: [u8; 8] = *b"AMQP\x03\x01\x00\x00";

/// These octets must be answered with that header (or with that of AMQP 1.0, where the broker speaks
/// it), and then the connection must end.
fn answered_with(sent: &[u8], answer: &[u8; 8]) {
    with_bystander(|broker| {
        let mut connection = RawConnection::connect(broker.address());
        connection.send(sent);
        let answered = connection.read_bytes(8);
        assert!(answered == answer || answered == AMQP_1_0_WITH_SASL, "{answered:?}");
        connection.expect_end();
    });
}

/// "The server MUST accept" its own version: connection.start follows, with what a client chooses
/// from.
#[test]
fn the_version_spoken_here_is_started() {
    with_bystander(|broker| {
        let mut connection = RawConnection::connect(broker.address());
        connection.send(&PROTOCOL_HEADER);
        let mut start = connection.expect_method(0, id::CONNECTION_START);
        assert_eq!((start.octet(), start.octet()), (0, 9));
        let properties = start.long_string();
        for capability in
            ["publisher_confirms", "basic.nack", "consumer_cancel_notify", "exchange_exchange_bindings"]
        {
            let found = properties.windows(capability.len()).any(|part| part == capability.as_bytes());
            assert!(found, "the capability {capability} is not announced");
        }
        let mechanisms = String::from_utf8(start.long_string()).unwrap();
        for mechanism in ["PLAIN", "AMQPLAIN"] {
            assert!(mechanisms.split(' ').any(|offered| offered == mechanism), "{mechanisms}");
        }
        assert_eq!(start.long_string(), b"en_US");
        assert!(start.is_at_end());
    });
}

/// The header of 0-9, which differs from 0-9-1 in its header only, is served as 0-9-1.
#[test]
fn the_version_before_is_started_too() {
    with_bystander(|broker| {
        let mut connection = RawConnection::connect(broker.address());
        connection.send(b"AMQP\x01\x01\x00\x09");
        connection.expect_method(0, id::CONNECTION_START);
    });
}

/// "If the server does not support the version it MUST write a valid protocol header and close."
#[test]
fn a_later_version_is_answered_with_ours() {
    answered_with(b"AMQP\x00\x00\x0a\x00", &PROTOCOL_HEADER);
}

/// What is no AMQP at all is answered with a header too.
#[test]
fn http_is_answered_with_a_header() {
    answered_with(b"GET / HTTP/1.1\r\n\r\n", &PROTOCOL_HEADER);
}

/// Whoever looks into the log for why nothing works finds a hint.
#[test]
fn a_well_known_protocol_is_named_in_the_log() {
    with_bystander(|broker| {
        for (sent, protocol) in [(&b"GET / HTTP/1.1\r\n\r\n"[..], "HTTP"), (b"\x16\x03\x01\x02\0", "TLS")] {
            let mut connection = RawConnection::connect(broker.address());
            connection.send(sent);
            if !broker.is_external() {
                broker.wait_for_log(&format!("speaks {protocol};"), leveret_testkit::EVENT_WAIT_MAX);
            }
            connection.finish_sending();
        }
    });
}

/// A client that expects TLS.
#[test]
fn a_client_hello_is_answered_with_a_header() {
    answered_with(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &PROTOCOL_HEADER);
}

/// Random octets, the same ones on each run.
#[test]
fn random_bytes_are_answered_with_a_header() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..8 {
        let bytes: Vec<u8> = (0..64)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect();
        answered_with(&bytes, &PROTOCOL_HEADER);
    }
}

/// A connection on which nothing is ever said is ended by the broker.
#[test]
fn a_silent_connection_is_ended() {
    with_bystander(|broker| {
        let mut connection = RawConnection::connect(broker.address());
        connection.expect_end();
    });
}

/// A connection that stops in the middle of the header is ended by the broker.
#[test]
fn half_a_header_is_ended() {
    with_bystander(|broker| {
        let mut connection = RawConnection::connect(broker.address());
        connection.send(b"AMQP");
        connection.expect_end();
    });
}

/// A client that has gone after half a header disturbs nobody.
#[test]
fn gone_after_half_a_header() {
    with_bystander(|broker| {
        let mut connection = RawConnection::connect(broker.address());
        connection.send(b"AM");
        connection.finish_sending();
        connection.expect_end();
    });
}

/// The header octet by octet is as good as in one piece.
#[test]
fn octet_by_octet() {
    with_bystander(|broker| {
        let mut connection = RawConnection::connect(broker.address());
        for octet in PROTOCOL_HEADER {
            connection.send(&[octet]);
        }
        connection.expect_method(0, id::CONNECTION_START);
        connection.send_method(0, id::CONNECTION_START_OK, Arguments::start_ok("PLAIN", b"\0guest\0guest"));
        connection.expect_tune();
    });
}
