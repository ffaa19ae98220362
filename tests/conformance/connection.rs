//! Class connection (10): start, tune, open, close.

use super::with_bystander;
use leveret_testkit::wire::{
    Arguments, FRAME_END, HEARTBEAT, PROTOCOL_HEADER, RawConnection, Tune, frame_bytes, id,
};
use leveret_testkit::{Broker, unique_name};
use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::Shutdown,
};

fn at_tune(broker: &Broker) -> (RawConnection, Tune) {
    let mut connection = RawConnection::connect(broker.address());
    connection.log_in("guest", "guest");
    let tune = connection.expect_tune();
    (connection, tune)
}

/// A login with client properties that announce the capability to be told why it failed.
fn start_ok_with_failure_close(response: &[u8]) -> Arguments {
    let capability =
        Arguments::new().short_string("authentication_failure_close").octet(b't').octet(1).into_bytes();
    let capabilities =
        Arguments::new().short_string("capabilities").octet(b'F').long_string(capability).into_bytes();
    let properties = Arguments::new().long_string(capabilities).into_bytes();
    Arguments::new().raw(&properties).short_string("PLAIN").long_string(response).short_string("en_US")
}

/// connection.start-ok: AMQPLAIN carries a field table's content, without its length.
#[test]
fn start_ok_amqplain() {
    with_bystander(|broker| {
        let mut connection = RawConnection::connect(broker.address());
        connection.send(&PROTOCOL_HEADER);
        connection.expect_method(0, id::CONNECTION_START);
        let table = Arguments::new().table(&[("LOGIN", "guest"), ("PASSWORD", "guest")]).into_bytes();
        let without_length = table.get(4..).unwrap();
        connection.send_method(0, id::CONNECTION_START_OK, Arguments::start_ok("AMQPLAIN", without_length));
        connection.expect_tune();
    });
}

/// connection.start-ok: a refused login is told to a client that can take it.
#[test]
fn start_ok_wrong_password_is_told() {
    with_bystander(|broker| {
        let mut connection = RawConnection::connect(broker.address());
        connection.send(&PROTOCOL_HEADER);
        connection.expect_method(0, id::CONNECTION_START);
        connection.send_method(0, id::CONNECTION_START_OK, start_ok_with_failure_close(b"\0guest\0wrong"));
        let closed = connection.expect_connection_close(403);
        assert_eq!(
            closed.text,
            "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker \
             logfile."
        );
    });
}

/// connection.start-ok: a client that cannot take it gets the end of the connection only.
#[test]
fn start_ok_wrong_password_ends() {
    with_bystander(|broker| {
        let mut connection = RawConnection::connect(broker.address());
        connection.log_in("guest", "wrong");
        assert_eq!(connection.read_frame(), None);
    });
}

/// connection.start-ok: a mechanism that was not offered.
#[test]
fn start_ok_unknown_mechanism() {
    with_bystander(|broker| {
        let mut connection = RawConnection::connect(broker.address());
        connection.send(&PROTOCOL_HEADER);
        connection.expect_method(0, id::CONNECTION_START);
        connection.send_method(0, id::CONNECTION_START_OK, Arguments::start_ok("NO-SUCH-MECHANISM", b""));
        connection.expect_end();
    });
}

/// connection.tune: "The client MUST NOT" ask for more than was proposed; frame-max is at least 8192
/// where there is a limit.
#[test]
fn tune_proposes_limits() {
    with_bystander(|broker| {
        let (_, tune) = at_tune(broker);
        assert_eq!(tune, Tune { channel_max: 2047, frame_max_bytes: 131_072, heartbeat_seconds: 60 });
    });
}

/// connection.tune-ok: a channel-max above the proposed one is refused.
#[test]
fn tune_ok_with_too_many_channels() {
    with_bystander(|broker| {
        let (mut connection, tune) = at_tune(broker);
        let channel_max = tune.channel_max + 1;
        connection.send_method(0, id::CONNECTION_TUNE_OK, Arguments::tune_ok(Tune { channel_max, ..tune }));
        connection.expect_connection_close_or_end(530);
    });
}

/// connection.tune-ok: a frame-max above the proposed one is refused.
#[test]
fn tune_ok_with_too_large_frames() {
    with_bystander(|broker| {
        let (mut connection, tune) = at_tune(broker);
        let frame_max_bytes = tune.frame_max_bytes + 1;
        connection.send_method(
            0,
            id::CONNECTION_TUNE_OK,
            Arguments::tune_ok(Tune { frame_max_bytes, ..tune }),
        );
        connection.expect_connection_close_or_end(530);
    });
}

/// connection.tune-ok: a frame-max below the minimum is refused.
#[test]
fn tune_ok_with_too_small_frames() {
    with_bystander(|broker| {
        let (mut connection, tune) = at_tune(broker);
        let tune = Tune { frame_max_bytes: 4095, ..tune };
        connection.send_method(0, id::CONNECTION_TUNE_OK, Arguments::tune_ok(tune));
        connection.expect_connection_close_or_end(530);
    });
}

/// connection.open: an absent virtual host.
#[test]
fn open_absent_virtual_host() {
    with_bystander(|broker| {
        let (mut connection, tune) = at_tune(broker);
        connection.send_method(0, id::CONNECTION_TUNE_OK, Arguments::tune_ok(tune));
        connection.send_method(0, id::CONNECTION_OPEN, Arguments::open("nowhere"));
        let closed = connection.expect_connection_close(530);
        assert_eq!(
            (closed.text.as_str(), closed.method),
            ("NOT_ALLOWED - vhost nowhere not found", id::CONNECTION_OPEN)
        );
    });
}

/// "The client MUST" open the connection before it does anything else: a channel before tune-ok.
#[test]
fn channel_before_open() {
    with_bystander(|broker| {
        let (mut connection, _) = at_tune(broker);
        connection.send_method(1, id::CHANNEL_OPEN, Arguments::new().short_string(""));
        connection.expect_end();
    });
}

/// connection.open sent twice.
#[test]
fn open_twice() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open(broker.address());
        connection.send_method(0, id::CONNECTION_OPEN, Arguments::open("/"));
        let closed = connection.expect_connection_close(504);
        assert_eq!(closed.text, "CHANNEL_ERROR - unexpected method in connection state running");
    });
}

fn close(connection: &mut RawConnection) {
    let arguments = Arguments::new().short(200).short_string("done").short(0).short(0);
    connection.send_method(0, id::CONNECTION_CLOSE, arguments);
    connection.expect_method(0, id::CONNECTION_CLOSE_OK);
}

/// connection.close is answered with close-ok, and then the broker closes after the client.
#[test]
fn close_is_answered() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        close(&mut connection);
        connection.finish_sending();
        connection.expect_end();
    });
}

/// A client that goes on sending after close-ok is not reset, and what it had is given back at once. amqplib sends
/// close before what it had published.
#[test]
fn what_comes_after_close_is_read_and_dropped() {
    with_bystander(|broker| {
        let queue = unique_name("of-one");
        let declare = |connection: &mut RawConnection| {
            let arguments = Arguments::new().short(0).short_string(&queue).bits(&[false, false, true]);
            connection.send_method(1, id::QUEUE_DECLARE, arguments.empty_table());
            connection.expect_method(1, id::QUEUE_DECLARE_OK);
        };
        let mut connection = RawConnection::open_with_channel(broker.address());
        declare(&mut connection);
        close(&mut connection);
        let mut other = RawConnection::open_with_channel(broker.address());
        declare(&mut other);
        // More than a socket's buffer holds.
        let mut stream = connection.into_stream();
        let heartbeats = frame_bytes(HEARTBEAT, 0, &[], FRAME_END).repeat(1024 * 1024);
        stream.write_all(&heartbeats).expect("all of it is taken");
        stream.shutdown(Shutdown::Write).unwrap();
        let said = stream.read(&mut [0]);
        assert!(
            said.as_ref().map_or_else(|why| why.kind() == ErrorKind::ConnectionReset, |bytes| *bytes == 0),
            "{said:?}"
        );
    });
}

/// "Any received methods except close and close-ok MUST be discarded" after close was sent.
#[test]
fn methods_after_the_brokers_close_are_discarded() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.send_method(0, id::CONNECTION_OPEN, Arguments::open("/"));
        connection.send_method(1, id::BASIC_QOS, Arguments::new().long(0).short(1).octet(0));
        connection.send_method(2, id::CHANNEL_OPEN, Arguments::new().short_string(""));
        connection.expect_connection_close(504);
    });
}

/// A class that does not exist.
#[test]
fn unknown_class() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.send_method(1, (4000, 10), Arguments::new());
        connection.expect_connection_close_or_end(540);
    });
}

/// A method that does not exist in its class.
#[test]
fn unknown_method() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.send_method(1, (60, 99), Arguments::new());
        connection.expect_connection_close_or_end(540);
    });
}

/// A method of the broker's, sent by the client.
#[test]
fn a_method_of_the_server() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.send_method(1, id::BASIC_GET_EMPTY, Arguments::new().short_string(""));
        connection.expect_connection_close(503);
    });
}

/// Arguments that end too early.
#[test]
fn arguments_cut_short() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.send_method(1, id::QUEUE_DECLARE, Arguments::new().short(0).octet(200).raw(b"short"));
        connection.expect_connection_close(501);
    });
}

/// A field table whose length says more than there is.
#[test]
fn a_field_table_that_lies() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        let arguments = Arguments::new().short(0).short_string("").octet(0).long(1_000_000).raw(b"\x01aI");
        connection.send_method(1, id::QUEUE_DECLARE, arguments);
        connection.expect_connection_close(501);
    });
}
