//! Class queue (50).

use super::with_bystander;
use leveret_testkit::unique_name;
use leveret_testkit::wire::{Arguments, RawConnection, id};

/// An exclusive queue of this name.
fn declare(name: &str, no_wait: bool) -> Arguments {
    Arguments::new().short(0).short_string(name).bits(&[false, false, true, false, no_wait]).empty_table()
}

/// queue.declare: line breaks are taken out of the name.
#[test]
fn line_breaks_are_taken_out() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        let name = unique_name("breaks");
        connection.send_method(1, id::QUEUE_DECLARE, declare(&format!("\r\n{name}\n"), false));
        assert_eq!(connection.expect_method(1, id::QUEUE_DECLARE_OK).short_string(), name);
    });
}

/// no-wait: no answer, and the queue is there for what follows.
#[test]
fn declare_bind_and_purge_without_waiting() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        let name = unique_name("queue");
        connection.send_method(1, id::QUEUE_DECLARE, declare(&name, true));
        let bind =
            Arguments::new().short(0).short_string(&name).short_string("amq.direct").short_string(&name);
        connection.send_method(1, id::QUEUE_BIND, bind.octet(1).empty_table());
        connection.send_method(1, id::QUEUE_PURGE, Arguments::new().short(0).short_string(&name).octet(1));
        connection.send_method(1, id::QUEUE_PURGE, Arguments::new().short(0).short_string(&name).octet(0));
        assert_eq!(connection.expect_method(1, id::QUEUE_PURGE_OK).long(), 0);
    });
}

/// A refusal closes the channel even where no answer was wanted.
#[test]
fn refused_without_waiting() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.send_method(1, id::QUEUE_PURGE, Arguments::new().short(0).short_string("absent").octet(1));
        let closed = connection.expect_channel_close(1, 404);
        assert_eq!(
            (closed.text.as_str(), closed.method),
            ("NOT_FOUND - no queue 'absent' in vhost '/'", id::QUEUE_PURGE)
        );
    });
}

/// A name need not be text.
#[test]
fn a_name_of_any_octets() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        let mut name = unique_name("octets").into_bytes();
        name.extend_from_slice("ä→\u{0}".as_bytes());
        let arguments =
            Arguments::new().short(0).short_string(&name).bits(&[false, false, true]).empty_table();
        connection.send_method(1, id::QUEUE_DECLARE, arguments);
        assert_eq!(connection.expect_method(1, id::QUEUE_DECLARE_OK).short_string().as_bytes(), name);
    });
}

/// `bind`, `unbind`, a passive declare and `delete` take line breaks out of names as `declare` does; `get` does not.
#[test]
fn line_breaks_are_taken_out_wherever_a_name_is_declared_bound_or_deleted() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        let (queue, exchange) = (unique_name("breaks"), unique_name("breaks"));
        let (broken, broken_exchange) = (format!("{queue}\n"), format!("\r{exchange}\n"));
        connection.send_method(1, id::QUEUE_DECLARE, declare(&queue, false));
        connection.expect_method(1, id::QUEUE_DECLARE_OK);
        let words = || Arguments::new().short(0).short_string(&broken_exchange);
        for passive in [false, true] {
            let bits = [passive, false, false, false, false];
            let declare = words().short_string("fanout").bits(&bits).empty_table();
            connection.send_method(1, id::EXCHANGE_DECLARE, declare);
            connection.expect_method(1, id::EXCHANGE_DECLARE_OK);
        }
        let bind = |queue: &str| Arguments::new().short(0).short_string(queue).short_string(&broken_exchange);
        connection.send_method(1, id::QUEUE_BIND, bind(&broken).short_string("a\nb").octet(0).empty_table());
        connection.expect_method(1, id::QUEUE_BIND_OK);
        let passive = Arguments::new().short(0).short_string(&broken).bits(&[true]).empty_table();
        connection.send_method(1, id::QUEUE_DECLARE, passive);
        assert_eq!(connection.expect_method(1, id::QUEUE_DECLARE_OK).short_string(), queue);
        // It is bound, so the exchange is in use; unbound, it is not. Its key keeps the line break.
        for (key, is_bound) in [("ab", true), ("a\nb", false)] {
            connection.send_method(1, id::QUEUE_UNBIND, bind(&broken).short_string(key).empty_table());
            connection.expect_method(1, id::QUEUE_UNBIND_OK);
            connection.open_channel(2);
            connection.send_method(2, id::EXCHANGE_DELETE, words().bits(&[true, false]));
            if is_bound {
                connection.expect_channel_close(2, 406);
            } else {
                connection.expect_method(2, id::EXCHANGE_DELETE_OK);
            }
        }
        connection.open_channel(3);
        connection.send_method(3, id::BASIC_GET, Arguments::new().short(0).short_string(&broken).octet(0));
        connection.expect_channel_close(3, 404);
        connection.send_method(1, (50, 40), Arguments::new().short(0).short_string(&broken).octet(0));
        connection.expect_method(1, (50, 41));
        connection.send_method(1, id::QUEUE_PURGE, Arguments::new().short(0).short_string(&queue).octet(0));
        connection.expect_channel_close(1, 404);
    });
}

/// queue.unbind of an exclusive queue: what is not bound is unbound, what is bound is its owner's.
#[test]
fn unbinding_a_queue_of_another_connection() {
    with_bystander(|broker| {
        let mut owner = RawConnection::open_with_channel(broker.address());
        let name = unique_name("own");
        owner.send_method(1, id::QUEUE_DECLARE, declare(&name, false));
        owner.expect_method(1, id::QUEUE_DECLARE_OK);
        let words =
            || Arguments::new().short(0).short_string(&name).short_string("amq.direct").short_string("k");
        let mut other = RawConnection::open_with_channel(broker.address());
        other.send_method(1, id::QUEUE_UNBIND, words().empty_table());
        other.expect_method(1, id::QUEUE_UNBIND_OK);
        owner.send_method(1, id::QUEUE_BIND, words().octet(0).empty_table());
        owner.expect_method(1, id::QUEUE_BIND_OK);
        other.send_method(1, id::QUEUE_UNBIND, words().empty_table());
        other.expect_channel_close(1, 405);
    });
}

/// A short string that is not UTF-8 ends the connection, but for those of a publish.
#[test]
fn names_are_utf8_and_routing_keys_of_publishes_are_not() {
    with_bystander(|broker| {
        let words = || Arguments::new().short(0).short_string(b"\xff");
        let bind = || Arguments::new().short(0).short_string("q").short_string("amq.direct");
        let consume =
            Arguments::new().short(0).short_string("q").short_string(b"\xff").octet(0).empty_table();
        for (method, arguments) in [
            (id::QUEUE_DECLARE, words().octet(0).empty_table()),
            (id::EXCHANGE_DECLARE, words().short_string("direct").octet(0).empty_table()),
            (id::QUEUE_BIND, bind().short_string(b"\xff").octet(0).empty_table()),
            (id::BASIC_CONSUME, consume),
            (id::BASIC_GET, words().octet(0)),
        ] {
            let mut connection = RawConnection::open_with_channel(broker.address());
            connection.send_method(1, method, arguments);
            let closed = connection.expect_connection_close(501);
            let said = (closed.text.as_str(), closed.method);
            assert_eq!(said, ("FRAME_ERROR - Malformed UTF-8 in shortstr", (0, 0)), "{method:?}");
        }
        let mut connection = RawConnection::open_with_channel(broker.address());
        let publish = Arguments::new().short(0).short_string("amq.direct").short_string(b"\xff").octet(0);
        connection.send_method(1, id::BASIC_PUBLISH, publish);
        connection.send_frame(2, 1, b"\0\x3c\0\0\0\0\0\0\0\0\0\0\0\0");
        connection.expect_alive();
    });
}

/// Tables in arguments nest as deep as anybody wants.
#[test]
fn arguments_that_nest_deep() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        let name = unique_name("deep");
        let long = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
        let nested = (0..120).fold(b"V".to_vec(), |value, _| [b"A".to_vec(), long(&value)].concat());
        let table = long(&[b"\x01a".to_vec(), nested].concat());
        let words = Arguments::new().short(0).short_string(&name).bits(&[false, false, true]);
        connection.send_method(1, id::QUEUE_DECLARE, words.raw(&table));
        connection.expect_method(1, id::QUEUE_DECLARE_OK);
    });
}
