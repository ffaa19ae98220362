//! Plugins that are unusual but not hostile, and answers that make no sense.

use super::{keys_are_refused, session::*, with_guest};
use lapin::types::FieldTable;
use leveret_testkit::EVENT_WAIT_MAX;

/// Answers of the batch form that are cut short, too long, or of an unknown kind.
#[test]
fn words_that_make_no_sense() {
    keys_are_refused("malformed_words", &["none", "more", "count", "huge", "kind", "utf8"]);
}

/// A WASI function that is not there traps when it is called, and the log names it.
#[test]
fn a_socket_is_named_in_the_log() {
    let broker = with_guest("reaches_outside");
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let exchange = own_exchange(&channel, "x-reaches-outside").await;
        assert!(publish(&channel, &exchange, "socket", b"x", true).await.unwrap().is_nack());
        broker.wait_for_log("wasi:sockets", EVENT_WAIT_MAX);
    });
}

/// The standard library's HashMap wants random numbers and `eprintln!` a standard error: both are
/// there for a plugin, and what it prints is in the log under its name.
#[test]
fn the_standard_library_works_inside() {
    let broker = with_guest("hash_map_and_eprintln");
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let exchange = own_exchange(&channel, "x-hash-map").await;
        let queue = own_queue(&channel).await;
        bind(&channel, &queue, &exchange, "the key", FieldTable::default()).await;
        assert!(publish(&channel, &exchange, "the key", b"x", true).await.unwrap().is_ack());
        assert_eq!(drain(&channel, &queue).await, [b"x"]);
        for said in ["bound the key", "routed the key"] {
            let line = broker.wait_for_log(said, EVENT_WAIT_MAX);
            assert!(line.contains("hash_map_and_eprintln"), "the line names the plugin: {line}");
        }
    });
}

/// A plugin without the batch form is asked message by message.
#[test]
fn the_plain_form_is_enough() {
    routes_in_the_plain_form("plain_form_only");
}

/// A component that was made for the version before is served as it always was.
#[test]
fn the_version_before_is_served() {
    routes_in_the_plain_form("contract_0_1_0");
}

fn routes_in_the_plain_form(guest: &str) {
    let broker = with_guest(guest);
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let exchange = own_exchange(&channel, "x-versioned").await;
        let queue = own_queue(&channel).await;
        for number in 0..20 {
            bind(&channel, &queue, &exchange, &format!("k{number}.v1"), FieldTable::default()).await;
        }
        let mut wanted = Vec::new();
        for number in 0..20 {
            let body = format!("message {number}");
            let key = format!("k{number}");
            let confirm = publish(&channel, &exchange, &key, body.as_bytes(), true).await.unwrap();
            assert!(confirm.take_message().is_none(), "{key} is routed");
            wanted.push(body.into_bytes());
        }
        assert_eq!(drain(&channel, &queue).await, wanted);
    });
}
