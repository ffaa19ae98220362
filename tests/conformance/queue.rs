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
