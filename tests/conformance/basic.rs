//! Class basic (60): what is refused, and what is not implemented by design.

use super::with_bystander;
use leveret_testkit::wire::{Arguments, RawConnection, body_bytes, header_bytes, id};

/// basic.publish with immediate: 540.
#[test]
fn publish_immediate() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        let arguments = Arguments::new().short(0).short_string("").short_string("key").bits(&[false, true]);
        connection.send_method(1, id::BASIC_PUBLISH, arguments);
        connection.send(&header_bytes(1, 60, 0));
        let closed = connection.expect_connection_close(540);
        assert_eq!(closed.text, "NOT_IMPLEMENTED - immediate=true");
    });
}

/// basic.qos with a prefetch-size: 540.
#[test]
fn qos_prefetch_size() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.send_method(1, id::BASIC_QOS, Arguments::new().long(1000).short(1).octet(0));
        let closed = connection.expect_connection_close(540);
        assert_eq!(closed.text, "NOT_IMPLEMENTED - prefetch_size!=0 (1000)");
    });
}

/// basic.recover without requeue: 540.
#[test]
fn recover_without_requeue() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.send_method(1, id::BASIC_RECOVER, Arguments::new().octet(1));
        connection.expect_method(1, id::BASIC_RECOVER_OK);
        connection.send_method(1, id::BASIC_RECOVER, Arguments::new().octet(0));
        let closed = connection.expect_connection_close(540);
        assert_eq!(closed.text, "NOT_IMPLEMENTED - requeue=false");
    });
}

/// basic.return comes before the confirm of the same message.
#[test]
fn return_before_ack() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.send_method(1, id::CONFIRM_SELECT, Arguments::new().octet(0));
        connection.expect_method(1, id::CONFIRM_SELECT_OK);
        let arguments = Arguments::new().short(0).short_string("amq.direct").short_string("nobody").octet(1);
        connection.send_method(1, id::BASIC_PUBLISH, arguments);
        connection.send(&header_bytes(1, 60, 4));
        connection.send(&body_bytes(1, b"body"));
        let mut returned = connection.expect_method(1, id::BASIC_RETURN);
        assert_eq!((returned.short(), returned.short_string()), (312, "NO_ROUTE".to_owned()));
        assert_eq!(
            (returned.short_string(), returned.short_string()),
            ("amq.direct".to_owned(), "nobody".to_owned())
        );
        connection.expect_frame();
        assert_eq!(connection.expect_frame().payload, b"body");
        let mut ack = connection.expect_method(1, id::BASIC_ACK);
        assert_eq!((ack.long_long(), ack.octet()), (1, 0));
    });
}

/// basic.publish to an absent exchange: 404 on the channel, and no confirm.
#[test]
fn publish_to_an_absent_exchange() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.send_method(1, id::CONFIRM_SELECT, Arguments::new().octet(0));
        connection.expect_method(1, id::CONFIRM_SELECT_OK);
        connection.send_method(1, id::BASIC_PUBLISH, Arguments::publish("absent", "key"));
        connection.send(&header_bytes(1, 60, 4));
        connection.send(&body_bytes(1, b"body"));
        let closed = connection.expect_channel_close(1, 404);
        assert_eq!(closed.text, "NOT_FOUND - no exchange 'absent' in vhost '/'");
        assert_eq!(closed.method, id::BASIC_PUBLISH);
        connection.open_channel(1);
    });
}

/// basic.consume with a tag that the channel has already: 530.
#[test]
fn consumer_tag_twice() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        let queue = connection.declare_queue(1);
        let consume =
            Arguments::new().short(0).short_string(&queue).short_string("twice").octet(0).empty_table();
        connection.send_method(1, id::BASIC_CONSUME, consume.clone());
        assert_eq!(connection.expect_method(1, id::BASIC_CONSUME_OK).short_string(), "twice");
        connection.send_method(1, id::BASIC_CONSUME, consume);
        let closed = connection.expect_connection_close(530);
        assert_eq!(closed.text, "NOT_ALLOWED - attempt to reuse consumer tag 'twice'");
    });
}

/// The same tag on another channel is another consumer.
#[test]
fn consumer_tags_are_of_a_channel() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.open_channel(2);
        let queue = connection.declare_queue(1);
        for channel in [1, 2] {
            let consume =
                Arguments::new().short(0).short_string(&queue).short_string("tag").octet(0).empty_table();
            connection.send_method(channel, id::BASIC_CONSUME, consume);
            connection.expect_method(channel, id::BASIC_CONSUME_OK);
        }
    });
}

/// basic.get on an empty queue.
#[test]
fn get_empty() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        let queue = connection.declare_queue(1);
        connection.send_method(1, id::BASIC_GET, Arguments::new().short(0).short_string(&queue).octet(0));
        connection.expect_method(1, id::BASIC_GET_EMPTY);
    });
}
