//! Section 4.2.7, heartbeats.

use super::with_bystander;
use leveret_testkit::Broker;
use leveret_testkit::wire::{Arguments, FRAME_END, HEARTBEAT, RawConnection, Tune, frame_bytes, id};
use std::time::Instant;

fn open_with_heartbeat(broker: &Broker, heartbeat_seconds: u16) -> RawConnection {
    let mut connection = RawConnection::connect(broker.address());
    connection.log_in("guest", "guest");
    let tune = connection.expect_tune();
    connection.send_method(0, id::CONNECTION_TUNE_OK, Arguments::tune_ok(Tune { heartbeat_seconds, ..tune }));
    connection.send_method(0, id::CONNECTION_OPEN, Arguments::open("/"));
    connection.expect_method(0, id::CONNECTION_OPEN_OK);
    connection
}

/// "If a peer detects no incoming traffic for two heartbeat intervals or longer, it should close the
/// connection."
#[test]
fn a_silent_client_is_dropped() {
    with_bystander(|broker| {
        let mut connection = open_with_heartbeat(broker, 1);
        let begin = Instant::now();
        connection.expect_end();
        assert!(
            begin.elapsed().as_millis() >= 1000,
            "dropped after {:?}, within one interval",
            begin.elapsed()
        );
    });
}

/// The broker sends heartbeats when it has nothing else to say, and those of the client keep the
/// connection open.
#[test]
fn heartbeats_keep_it_open() {
    with_bystander(|broker| {
        let mut connection = open_with_heartbeat(broker, 1);
        for _ in 0..5 {
            let frame = connection.read_frame().expect("the connection was dropped");
            assert_eq!((frame.kind, frame.channel, frame.payload.len()), (HEARTBEAT, 0, 0));
            connection.send(&frame_bytes(HEARTBEAT, 0, b"", FRAME_END));
        }
        connection.expect_alive();
    });
}

/// "Any sent octet is a valid substitute for a heartbeat": methods alone keep it open too.
#[test]
fn methods_keep_it_open() {
    with_bystander(|broker| {
        let mut connection = open_with_heartbeat(broker, 1);
        connection.open_channel(1);
        let begin = Instant::now();
        while begin.elapsed().as_millis() < 4000 {
            connection.send_method(1, id::BASIC_QOS, Arguments::new().long(0).short(1).octet(0));
            connection.expect_method(1, id::BASIC_QOS_OK);
        }
    });
}
