//! Plugins that misbehave while they serve: the publisher gets a clear refusal, the broker goes on,
//! and other exchanges do not notice.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with the interop suite; a part is used here")]
#[path = "../interop/rust/session.rs"]
mod session;

#[allow(dead_code, reason = "shared with the suite of the HTTP API; a part is used here")]
#[path = "../http/asking.rs"]
mod asking;
mod beside;
mod effects;
mod everywhere;
mod fallback;
mod interceptors;
mod lying;
mod marks;
mod odd;
mod operators;
mod tables;

use lapin::Channel;
use lapin::options::QueueBindOptions;
use lapin::types::{FieldTable, ShortString};
use leveret_testkit::{Broker, EVENT_WAIT_MAX, guests, unique_name};
use session::*;

/// A broker with this guest from the start.
fn with_guest(guest: &str) -> Broker {
    Broker::builder(env!("CARGO_BIN_EXE_leveret")).plugin(guests::component(guest)).start()
}

/// That the exchange still routes `good`, and that the broker's own types do.
async fn still_routes(channel: &Channel, exchange: &ShortString, queue: &ShortString) {
    let topic = ShortString::from("amq.topic");
    for (exchange, key) in [(exchange, "good"), (&topic, "good.morning")] {
        let confirmation = publish(channel, exchange, key, b"good", true).await.unwrap();
        assert!(confirmation.is_ack(), "{exchange} answers {confirmation:?}");
        assert!(confirmation.take_message().is_none(), "{exchange} routes nowhere");
        assert_eq!(drain(channel, queue).await, [b"good"]);
    }
}

/// Publishes with each of these keys and expects a negative confirm; before, between and after
/// them, good messages must be routed.
fn keys_are_refused(guest: &str, keys: &[&str]) {
    let broker = with_guest(guest);
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let exchange = own_exchange(&channel, &format!("x-{}", guest.replace('_', "-"))).await;
        let queue = own_queue(&channel).await;
        for key in keys.iter().chain(&["good"]) {
            bind(&channel, &queue, &exchange, key, FieldTable::default()).await;
        }
        bind(&channel, &queue, &"amq.topic".into(), "good.*", FieldTable::default()).await;
        still_routes(&channel, &exchange, &queue).await;
        for key in keys {
            let confirmation = publish(&channel, &exchange, key, b"bad", true).await.unwrap();
            assert!(confirmation.is_nack(), "the key {key} is answered with {confirmation:?}");
            assert!(drain(&channel, &queue).await.is_empty(), "a refused message was routed");
            still_routes(&channel, &exchange, &queue).await;
        }
    });
}

#[test]
fn an_endless_loop() {
    keys_are_refused("loops", &["loop"]);
}

#[test]
fn a_trap() {
    keys_are_refused("traps_in_route", &["trap"]);
}

#[test]
fn a_memory_bomb() {
    keys_are_refused("bomb", &["bomb"]);
}

#[test]
fn an_answer_that_is_too_large() {
    keys_are_refused("floods", &["flood"]);
}

#[test]
fn an_endless_recursion() {
    keys_are_refused("recurses", &["recurse"]);
}

/// Ids that were never given are ignored; the guest's own binding is served.
#[test]
fn forged_binding_ids() {
    let broker = with_guest("forges");
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let exchange = own_exchange(&channel, "x-forges").await;
        let (own, other) = (own_queue(&channel).await, own_queue(&channel).await);
        bind(&channel, &own, &exchange, "forge", FieldTable::default()).await;
        bind(&channel, &other, &"amq.fanout".into(), "", FieldTable::default()).await;
        assert!(publish(&channel, &exchange, "forge", b"x", true).await.unwrap().is_ack());
        assert_eq!((drain(&channel, &own).await.len(), drain(&channel, &other).await.len()), (1, 0));
    });
}

/// Files, sockets and a moving clock are not there: the guest delivers only if it got none of them.
#[test]
fn reaching_outside() {
    let broker = with_guest("reaches_outside");
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let exchange = own_exchange(&channel, "x-reaches-outside").await;
        let queue = own_queue(&channel).await;
        for key in ["file", "clock"] {
            bind(&channel, &queue, &exchange, key, FieldTable::default()).await;
            assert!(publish(&channel, &exchange, key, b"x", true).await.unwrap().is_ack(), "{key}");
            assert_eq!(drain(&channel, &queue).await.len(), 1, "{key}");
        }
    });
}

/// A trap in `open` refuses the declaration, and the next one is not affected.
#[test]
fn a_trap_while_declaring() {
    let broker = with_guest("traps_in_open");
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let kind = lapin::ExchangeKind::Custom("x-traps-in-open".into());
        let name = ShortString::from(unique_name("exchange"));
        let arguments = texts(&[("x-trap", "now")]);
        let error = channel.exchange_declare(name, kind, Default::default(), arguments).await.unwrap_err();
        assert_eq!(refusal(&error).0, 406);
        own_exchange(&confirming(&connection).await, "x-traps-in-open").await;
    });
}

/// A trap in `bind` refuses that binding; those there before still route.
#[test]
fn a_trap_while_binding() {
    let broker = with_guest("traps_in_bind");
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let exchange = own_exchange(&channel, "x-traps-in-bind").await;
        let queue = own_queue(&channel).await;
        bind(&channel, &queue, &exchange, "good", FieldTable::default()).await;
        bind(&channel, &queue, &"amq.topic".into(), "good.*", FieldTable::default()).await;
        let refused = confirming(&connection).await;
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        let error = refused
            .queue_bind(queue.clone(), exchange.clone(), "trap".into(), options, arguments)
            .await
            .unwrap_err();
        let (code, text) = refusal(&error);
        assert_eq!(code, 406, "{text}");
        assert!(text.contains(exchange.as_str()), "{text}");
        still_routes(&channel, &exchange, &queue).await;
    });
}

/// Many bad messages among many good ones: each good one arrives, each bad one is refused.
#[test]
fn bad_messages_in_a_batch_of_good_ones() {
    let broker = with_guest("traps_in_route");
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let exchange = own_exchange(&channel, "x-traps-in-route").await;
        let queue = own_queue(&channel).await;
        bind(&channel, &queue, &exchange, "good", FieldTable::default()).await;
        let mut confirms = Vec::new();
        for number in 0..200_u32 {
            let key = if number == 90 { "trap" } else { "good" };
            let (options, properties) = Default::default();
            let body = number.to_be_bytes();
            let published = channel.basic_publish(exchange.clone(), key.into(), options, &body, properties);
            confirms.push(published.await.unwrap());
        }
        for (number, confirm) in confirms.into_iter().enumerate() {
            assert_eq!(confirm.await.unwrap().is_ack(), number != 90, "message {number}");
        }
        let wanted: Vec<Vec<u8>> =
            (0..200_u32).filter(|number| *number != 90).map(|number| number.to_be_bytes().to_vec()).collect();
        assert_eq!(drain(&channel, &queue).await, wanted);
    });
}
