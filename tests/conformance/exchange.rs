//! Class exchange (40).

use super::with_bystander;
use leveret_testkit::unique_name;
use leveret_testkit::wire::{Arguments, RawConnection, id};

/// passive, durable, auto-delete, internal, no-wait
type Bits = [bool; 5];

fn declare(name: &str, kind: &str, bits: Bits) -> Arguments {
    Arguments::new().short(0).short_string(name).short_string(kind).bits(&bits).empty_table()
}

fn delete(name: &str) -> Arguments {
    Arguments::new().short(0).short_string(name).octet(0)
}

/// no-wait: no answer, and the exchange is there for what follows.
#[test]
fn declare_without_waiting() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        let name = unique_name("exchange");
        connection.send_method(
            1,
            id::EXCHANGE_DECLARE,
            declare(&name, "direct", [false, false, false, false, true]),
        );
        connection.send_method(
            1,
            id::EXCHANGE_DECLARE,
            declare(&name, "", [true, false, false, false, false]),
        );
        connection.expect_method(1, id::EXCHANGE_DECLARE_OK);
        connection.send_method(1, id::EXCHANGE_DELETE, delete(&name));
        connection.expect_method(1, id::EXCHANGE_DELETE_OK);
    });
}

/// "The client MAY declare an exchange with the passive bit": 404 where it is not there.
#[test]
fn passive_of_an_absent_one() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.send_method(
            1,
            id::EXCHANGE_DECLARE,
            declare("absent", "direct", [true, false, false, false, false]),
        );
        let closed = connection.expect_channel_close(1, 404);
        assert_eq!(
            (closed.text.as_str(), closed.method),
            ("NOT_FOUND - no exchange 'absent' in vhost '/'", id::EXCHANGE_DECLARE)
        );
    });
}

/// Names longer than 127 octets are taken; the longest short string has 255.
#[test]
fn the_longest_name() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        let name = format!("{:x<255}", unique_name("exchange"));
        connection.send_method(1, id::EXCHANGE_DECLARE, declare(&name, "fanout", [false; 5]));
        connection.expect_method(1, id::EXCHANGE_DECLARE_OK);
        connection.send_method(1, id::EXCHANGE_DELETE, delete(&name));
        connection.expect_method(1, id::EXCHANGE_DELETE_OK);
    });
}

/// exchange.delete of what is not there is answered with delete-ok.
#[test]
fn delete_of_an_absent_one() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.send_method(1, id::EXCHANGE_DELETE, delete("absent"));
        connection.expect_method(1, id::EXCHANGE_DELETE_OK);
    });
}

/// What the types that are everywhere do not take is told in their words.
#[test]
fn bindings_that_are_refused() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        let queue = connection.declare_queue(1);
        for (exchange, key, arguments, why) in [
            (
                "amq.topic",
                "#.#.#.z",
                None,
                "Topic binding key '#.#.#.z' uses 3 '#' wildcards, at most 2 are allowed",
            ),
            (
                "amq.headers",
                "",
                Some(("x-match", "none")),
                "Invalid x-match field value <<\"none\">>; expected all, any, all-with-x, or any-with-x",
            ),
        ] {
            connection.open_channel(2);
            let words = Arguments::new().short(0).short_string(&queue).short_string(exchange);
            let words = words.short_string(key).octet(0).table(arguments.as_slice());
            connection.send_method(2, id::QUEUE_BIND, words);
            let closed = connection.expect_channel_close(2, 406);
            let said = (closed.text, closed.method);
            assert_eq!(said, (format!("PRECONDITION_FAILED - {why}"), id::QUEUE_BIND));
        }
    });
}

/// An alternate exchange without a name is none, and not the default exchange.
#[test]
fn an_alternate_exchange_without_a_name() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        let (queue, exchange) = (connection.declare_queue(1), unique_name("alternate"));
        let words = Arguments::new().short(0).short_string(&exchange).short_string("direct");
        let words = words.bits(&[false, false, true]).table(&[("alternate-exchange", "")]);
        connection.send_method(1, id::EXCHANGE_DECLARE, words);
        connection.expect_method(1, id::EXCHANGE_DECLARE_OK);
        let publish = Arguments::new().short(0).short_string(&exchange).short_string(&queue).bits(&[true]);
        connection.send_method(1, id::BASIC_PUBLISH, publish);
        connection.send_frame(2, 1, b"\0\x3c\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(connection.expect_method(1, id::BASIC_RETURN).short(), 312);
    });
}

/// A type without a name is none.
#[test]
fn a_type_without_a_name() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.send_method(1, id::EXCHANGE_DECLARE, declare(&unique_name("exchange"), "", [false; 5]));
        let closed = connection.expect_channel_close(1, 406);
        assert_eq!(closed.text, "PRECONDITION_FAILED - invalid exchange type ''");
    });
}
