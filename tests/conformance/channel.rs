//! Class channel (20).

use super::with_bystander;
use leveret_testkit::wire::{Arguments, RawConnection, Tune, id};

/// "The client MUST NOT use this method on an already-opened channel": 504.
#[test]
fn open_twice() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.send_method(1, id::CHANNEL_OPEN, Arguments::new().short_string(""));
        let closed = connection.expect_connection_close(504);
        assert_eq!(closed.text, "CHANNEL_ERROR - second 'channel.open' seen");
    });
}

/// "The client MUST" open a channel before it uses it: 504.
#[test]
fn method_before_open() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open(broker.address());
        connection.send_method(5, id::BASIC_QOS, Arguments::new().long(0).short(1).octet(0));
        let closed = connection.expect_connection_close(504);
        assert_eq!(closed.text, "CHANNEL_ERROR - expected 'channel.open'");
    });
}

/// One channel more than was agreed: 530.
#[test]
fn more_than_channel_max() {
    with_bystander(|broker| {
        let mut connection = RawConnection::connect(broker.address());
        connection.log_in("guest", "guest");
        let tune = connection.expect_tune();
        connection.send_method(
            0,
            id::CONNECTION_TUNE_OK,
            Arguments::tune_ok(Tune { channel_max: 5, ..tune }),
        );
        connection.send_method(0, id::CONNECTION_OPEN, Arguments::open("/"));
        connection.expect_method(0, id::CONNECTION_OPEN_OK);
        // They are counted: which numbers they have does not matter.
        for channel in [1, 65_535, 6, 2048, 3] {
            connection.open_channel(channel);
        }
        connection.send_method(4, id::CHANNEL_OPEN, Arguments::new().short_string(""));
        let closed = connection.expect_connection_close(530);
        let text = "NOT_ALLOWED - number of channels opened (5) has reached the negotiated channel_max (5)";
        assert_eq!((closed.text.as_str(), closed.method), (text, (0, 0)));
    });
}

/// The highest numbers are no error.
#[test]
fn as_high_as_can_be() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open(broker.address());
        for channel in [2047, 2048, 65_535] {
            connection.open_channel(channel);
            connection.declare_queue(channel);
        }
    });
}

/// channel.close is answered, and the number may be opened again.
#[test]
fn close_and_open_again() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        for _ in 0..10 {
            let arguments = Arguments::new().short(200).short_string("done").short(0).short(0);
            connection.send_method(1, id::CHANNEL_CLOSE, arguments);
            connection.expect_method(1, id::CHANNEL_CLOSE_OK);
            connection.open_channel(1);
        }
    });
}

/// What comes on a channel after the broker closed it is discarded until close-ok.
#[test]
fn methods_after_the_brokers_close_are_discarded() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.send_method(1, id::BASIC_ACK, Arguments::new().long_long(7).octet(0));
        connection.send_method(1, id::BASIC_ACK, Arguments::new().long_long(8).octet(0));
        connection.send_method(1, id::BASIC_QOS, Arguments::new().long(0).short(1).octet(0));
        let closed = connection.expect_channel_close(1, 406);
        assert_eq!(
            (closed.text.as_str(), closed.method),
            ("PRECONDITION_FAILED - unknown delivery tag 7", id::BASIC_ACK)
        );
        connection.open_channel(1);
    });
}

/// One channel's close is no other's business.
#[test]
fn other_channels_go_on() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.open_channel(2);
        connection.send_method(1, id::BASIC_ACK, Arguments::new().long_long(7).octet(0));
        connection.expect_channel_close(1, 406);
        connection.declare_queue(2);
    });
}

/// channel.flow: stopping the broker's deliveries is not supported, 540; starting them is no change.
#[test]
fn flow() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.send_method(1, id::CHANNEL_FLOW, Arguments::new().octet(1));
        assert_eq!(connection.expect_method(1, id::CHANNEL_FLOW_OK).octet(), 1);
        connection.send_method(1, id::CHANNEL_FLOW, Arguments::new().octet(0));
        let closed = connection.expect_connection_close(540);
        assert_eq!(closed.text, "NOT_IMPLEMENTED - active=false");
    });
}

/// Class access (30) is of earlier versions: always granted.
#[test]
fn access_request_is_granted() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.send_method(1, id::ACCESS_REQUEST, Arguments::new().short_string("/data").octet(0));
        assert_eq!(connection.expect_method(1, id::ACCESS_REQUEST_OK).short(), 1);
    });
}
