//! Plugins that take long, seen over the wire: what they answer, in which order, and that nobody else waits.
//!
//! Nothing here asserts how long anything takes: that is measured by the benchmark in
//! `tests/benches/neighbour`.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with the interop suite; a part is used here")]
#[path = "../interop/rust/session.rs"]
mod session;

mod changes;
mod interceptors;
mod waiting;

use lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind, PublisherConfirm,
    options::{BasicPublishOptions, ExchangeDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use leveret_testkit::{Broker, EVENT_WAIT_MAX, ScratchDirectory, guests, unique_name};
use serde_json::Value;
use session::*;
use std::{fs, time::Instant};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_leveret");
/// So often goes a guest round for a message that takes some hundred microseconds: too long for a
/// worker, and not long enough to be cut off there.
const ROUNDS: i64 = 2_000_000;

/// A broker with two workers and these guests from the start.
pub(crate) fn broker_with(guests: &[&str]) -> Broker {
    let builder = Broker::builder(BINARY).argument("--workers").argument("2");
    guests.iter().fold(builder, |builder, guest| builder.plugin(guests::component(guest))).start()
}

/// An exchange whose guest goes round so often.
pub(crate) async fn slow_exchange(channel: &Channel, kind: &str, rounds: i64) -> ShortString {
    let name = ShortString::from(unique_name(kind));
    let options = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-rounds".into(), AMQPValue::LongLongInt(rounds));
    let kind = ExchangeKind::Custom(kind.into());
    channel.exchange_declare(name.clone(), kind, options, arguments).await.unwrap();
    name
}

/// A connection, its channel in confirm mode, a slow exchange of a type, and a queue bound to it with a key.
pub(crate) async fn publishing(
    broker: &Broker,
    kind: &str,
    key: &str,
) -> (Connection, Channel, ShortString, ShortString) {
    let connection = connect(broker).await;
    let channel = confirming(&connection).await;
    let exchange = slow_exchange(&channel, kind, ROUNDS).await;
    let queue = own_queue(&channel).await;
    bind(&channel, &queue, &exchange, key, FieldTable::default()).await;
    (connection, channel, exchange, queue)
}

/// Publishes without waiting for the confirm.
pub(crate) async fn send(
    channel: &Channel,
    exchange: &ShortString,
    key: &str,
    body: &[u8],
) -> PublisherConfirm {
    let (options, properties) = (BasicPublishOptions::default(), Default::default());
    channel.basic_publish(exchange.clone(), key.into(), options, body, properties).await.unwrap()
}

/// What the HTTP API tells of a type in the virtual host `/`.
pub(crate) fn told_of(broker: &Broker, kind: &str) -> Value {
    let url = format!("http://{}/api/plugins/{kind}/vhosts/%2F", broker.http_address());
    let request = ureq::get(url).header("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=");
    let body = request.call().unwrap().into_body().read_to_vec().unwrap();
    serde_json::from_slice(&body).unwrap()
}

/// A type that always loops ends where it disturbs nobody, each of its messages is refused, and all that a
/// neighbour publishes meanwhile is confirmed and arrives.
#[test]
fn a_type_that_always_loops_does_not_take_the_neighbours_with_it() {
    const NEIGHBOURS: u32 = 2_000;
    const ATTACKS: u32 = 300;
    let configuration = ScratchDirectory::new("neighbours");
    let file = configuration.path().join("leveret.toml");
    fs::write(&file, "vhosts = [\"/\", \"neighbour\"]\n").unwrap();
    let broker = Broker::builder(BINARY)
        .argument("--workers")
        .argument("2")
        .argument("--config")
        .argument(&file)
        .plugin(guests::component("loops"))
        .start();
    on_broker(&broker, async |broker| {
        let attacker = connect(broker).await;
        let attacks = confirming(&attacker).await;
        let exchange = own_exchange(&attacks, "x-loops").await;
        let queue = own_queue(&attacks).await;
        bind(&attacks, &queue, &exchange, "loop", FieldTable::default()).await;
        let url = format!("amqp://guest:guest@{}/neighbour", broker.address());
        let neighbour = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
        let channel = confirming(&neighbour).await;
        let own = own_queue(&channel).await;
        bind(&channel, &own, &"amq.topic".into(), "fine.#", FieldTable::default()).await;
        let (mut refused, mut confirmed) = (Vec::new(), Vec::new());
        for number in 0..NEIGHBOURS {
            if number < ATTACKS {
                refused.push(send(&attacks, &exchange, "loop", b"x").await);
            }
            confirmed.push(send(&channel, &"amq.topic".into(), "fine.day", &number.to_be_bytes()).await);
        }
        for confirm in confirmed {
            assert!(confirm.await.unwrap().is_ack());
        }
        for confirm in refused {
            assert!(confirm.await.unwrap().is_nack());
        }
        let arrived = drain(&channel, &own).await;
        assert!(arrived.into_iter().eq((0..NEIGHBOURS).map(|number| number.to_be_bytes().to_vec())));
        let told = told_of(broker, "x-loops");
        assert!(["slow", "quarantined"].contains(&told["state"].as_str().unwrap()), "{told}");
        assert!(told["failures"]["cpu_limit"].as_u64().unwrap() > 0, "{told}");
    });
}

/// A slow plugin is asked in the slow lane, and one channel's messages stay in order, those that are fast to
/// answer among those that are not.
#[test]
fn what_a_slow_plugin_answers_comes_in_order() {
    on_broker(&broker_with(&["takes_its_time"]), async |broker| {
        let (_connection, channel, exchange, queue) = publishing(broker, "x-takes-its-time", "slow").await;
        bind(&channel, &queue, &exchange, "fast", FieldTable::default()).await;
        let mut confirms = Vec::new();
        for number in 0..300_u32 {
            let key = if number % 2 == 0 { "slow" } else { "fast" };
            confirms.push(send(&channel, &exchange, key, &number.to_be_bytes()).await);
        }
        for confirm in confirms {
            assert!(confirm.await.unwrap().is_ack());
        }
        let arrived = drain(&channel, &queue).await;
        assert!(arrived.into_iter().eq((0..300_u32).map(|number| number.to_be_bytes().to_vec())));
        let confirm = send(&channel, &exchange, "slow", b"").await;
        assert!(confirm.await.unwrap().is_ack());
        let told = told_of(broker, "x-takes-its-time");
        assert_eq!(told["state"], "slow", "{told}");
        assert_eq!(told["failures"]["cpu_limit"], 0, "{told}");
        assert!(told["cpu_per_message_ns"].as_u64().unwrap() > 0, "{told}");
    });
}

/// A plugin that is fast again is asked where its messages are.
#[test]
fn a_plugin_that_is_fast_again_leaves_the_slow_lane() {
    on_broker(&broker_with(&["takes_its_time"]), async |broker| {
        let (_connection, channel, exchange, queue) = publishing(broker, "x-takes-its-time", "slow").await;
        bind(&channel, &queue, &exchange, "fast", FieldTable::default()).await;
        for _ in 0..20 {
            assert!(send(&channel, &exchange, "slow", b"").await.await.unwrap().is_ack());
        }
        assert_eq!(told_of(broker, "x-takes-its-time")["state"], "slow");
        let begin = Instant::now();
        while told_of(broker, "x-takes-its-time")["state"] == "slow" {
            assert!(send(&channel, &exchange, "fast", b"").await.await.unwrap().is_ack());
            assert!(begin.elapsed() < EVENT_WAIT_MAX, "it stays in the slow lane");
        }
    });
}

/// Publishers on several workers to a type that takes turns and wants one instance for all: each queue gets
/// exactly as many messages as any other, whether the plugin is fast or slow.
#[test]
fn turns_are_exact_over_all_workers() {
    const QUEUES: usize = 4;
    const PUBLISHERS: usize = 6;
    const MESSAGES: usize = 100;
    let broker = broker_with(&["in_turn"]);
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        for key in ["fast", "slow"] {
            let exchange = slow_exchange(&channel, "x-in-turn", ROUNDS / 2).await;
            let mut queues = Vec::new();
            for _ in 0..QUEUES {
                let queue = own_queue(&channel).await;
                bind(&channel, &queue, &exchange, "", FieldTable::default()).await;
                queues.push(queue);
            }
            // Connections go to the workers in turn.
            let publishers = (0..PUBLISHERS).map(async |_| {
                let connection = connect(broker).await;
                let channel = confirming(&connection).await;
                let mut confirms = Vec::new();
                for _ in 0..MESSAGES {
                    confirms.push(send(&channel, &exchange, key, b"").await);
                }
                for confirm in confirms {
                    assert!(confirm.await.unwrap().is_ack());
                }
            });
            futures_util::future::join_all(publishers).await;
            for queue in &queues {
                assert_eq!(drain(&channel, queue).await.len(), PUBLISHERS * MESSAGES / QUEUES, "{key}");
            }
        }
    });
}
