//! A broker that ends in the middle of everything (SIGKILL) and is started again: what clients declared is there.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with the interop suite; a part is used here")]
#[path = "../interop/rust/session.rs"]
mod session;

mod killed;
mod letters;
mod waiting;

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{FieldTable, ShortString},
};
use leveret_testkit::{Broker, EVENT_WAIT_MAX, guests, log_lines};
use serde_json::{Value, json};
use session::*;
use std::fs;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_leveret");
/// A type that a file in the plugins folder provides.
const TYPE: &str = "x-takes-its-time";
const GUEST: &str = "takes_its_time";

async fn exchange(channel: &Channel, name: &str, kind: &str, options: ExchangeDeclareOptions) {
    let kind = ExchangeKind::Custom(kind.into());
    channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await.unwrap();
}

async fn queue(channel: &Channel, name: &str, options: QueueDeclareOptions) {
    channel.queue_declare(name.into(), options, FieldTable::default()).await.unwrap();
}

/// The code with which it is not there; `None` if it is.
async fn missing_queue(broker: &Broker, name: &str) -> Option<u16> {
    let connection = connect(broker).await;
    let channel = confirming(&connection).await;
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    let declared = channel.queue_declare(name.into(), options, FieldTable::default()).await;
    declared.err().map(|error| refusal(&error).0)
}

async fn missing_exchange(broker: &Broker, name: &str) -> Option<u16> {
    let connection = connect(broker).await;
    let channel = confirming(&connection).await;
    let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
    let kind = ExchangeKind::Direct;
    let declared = channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await;
    declared.err().map(|error| refusal(&error).0)
}

/// What the HTTP API has at a path.
pub(crate) fn read(broker: &Broker, path: &str) -> Value {
    let url = format!("http://{}/api/{path}", broker.http_address());
    let request = ureq::get(url).header("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=");
    let body = request.call().unwrap().into_body().read_to_vec().unwrap();
    serde_json::from_slice(&body).unwrap()
}

/// Changes arguments of an exchange as an operator does.
fn configure(broker: &Broker, exchange: &str, set: &Value) {
    let url = format!("http://{}/api/exchanges-arguments/%2F/{exchange}", broker.http_address());
    let request = ureq::put(url)
        .header("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=")
        .header("content-type", "application/json");
    let body = serde_json::to_vec(&json!({ "set": set, "unset": [] })).unwrap();
    assert_eq!(request.send(&body[..]).unwrap().status(), 200);
}

fn durable_exchange() -> ExchangeDeclareOptions {
    ExchangeDeclareOptions { durable: true, ..Default::default() }
}

fn durable_queue() -> QueueDeclareOptions {
    QueueDeclareOptions { durable: true, ..Default::default() }
}

/// Declares some of everything, and takes some of it away again.
async fn furnish(broker: &Broker) {
    let connection = connect(broker).await;
    let channel = confirming(&connection).await;
    let options = ExchangeDeclareOptions { durable: true, internal: true, ..Default::default() };
    exchange(&channel, "inner", "topic", options).await;
    exchange(&channel, "typed", TYPE, durable_exchange()).await;
    exchange(&channel, "fleeting", "direct", ExchangeDeclareOptions::default()).await;
    for name in ["kept", "gone"] {
        queue(&channel, name, durable_queue()).await;
    }
    queue(&channel, "transient", QueueDeclareOptions::default()).await;
    queue(&channel, "own", QueueDeclareOptions { exclusive: true, ..durable_queue() }).await;
    let kept = ShortString::from("kept");
    for (source, queue, key) in [
        ("typed", "kept", "k"),
        ("typed", "gone", "k"),
        ("inner", "kept", "#"),
        ("amq.topic", "kept", "a.*"),
        ("amq.topic", "kept", "b.*"),
        ("amq.topic", "transient", "a.*"),
        ("fleeting", "kept", "k"),
    ] {
        bind(&channel, &queue.into(), &source.into(), key, texts(&[("note", key)])).await;
    }
    channel.queue_unbind(kept, "amq.topic".into(), "b.*".into(), texts(&[("note", "b.*")])).await.unwrap();
    let deleted = channel.queue_delete("gone".into(), QueueDeleteOptions::default()).await.unwrap();
    assert_eq!(deleted, 0);
    configure(broker, "inner", &json!({ "alternate-exchange": "amq.fanout" }));
}

/// The bindings of the virtual host that are not those of the default exchange.
pub(crate) fn bindings(broker: &Broker) -> Vec<String> {
    let all = read(broker, "bindings/%2F");
    let named = all.as_array().unwrap().iter().filter(|it| it["source"] != "");
    let line = |it: &Value| {
        let part = |name: &str| it[name].as_str().unwrap().to_owned();
        format!("{} {} {} {}", part("source"), part("destination"), part("routing_key"), it["arguments"])
    };
    let mut lines: Vec<String> = named.map(line).collect();
    lines.sort();
    lines
}

#[test]
fn what_was_declared_is_there_and_what_was_not_durable_or_deleted_is_not() {
    let mut broker = Broker::builder(BINARY).plugin(guests::component(GUEST)).start();
    on_broker(&broker, async |broker| furnish(broker).await);
    for _ in 0..2 {
        broker = broker.kill_for_a_while().start();
        assert_eq!(
            bindings(&broker),
            [
                "amq.topic kept a.* {\"note\":\"a.*\"}",
                "inner kept # {\"note\":\"#\"}",
                "typed kept k {\"note\":\"k\"}"
            ]
        );
        let inner = read(&broker, "exchanges/%2F/inner");
        assert_eq!(
            (&inner["type"], &inner["internal"], &inner["durable"]),
            (&json!("topic"), &json!(true), &json!(true))
        );
        assert_eq!(inner["arguments"], json!({ "alternate-exchange": "amq.fanout" }));
        on_broker(&broker, async |broker| {
            for name in ["gone", "transient", "own"] {
                assert_eq!(missing_queue(broker, name).await, Some(404), "{name}");
            }
            assert_eq!(missing_queue(broker, "kept").await, None);
            assert_eq!(missing_exchange(broker, "fleeting").await, Some(404));
            let connection = connect(broker).await;
            let channel = confirming(&connection).await;
            // Declared as ever, and as it is now.
            queue(&channel, "kept", durable_queue()).await;
            let options = ExchangeDeclareOptions { durable: true, internal: true, ..Default::default() };
            exchange(&channel, "inner", "topic", options).await;
            exchange(&channel, "typed", TYPE, durable_exchange()).await;
            // A type that is a plugin's serves as soon as clients can come.
            let kept = ShortString::from("kept");
            for exchange in ["typed", "amq.topic"] {
                let key = if exchange == "typed" { "k" } else { "a.b" };
                assert!(
                    publish(&channel, &exchange.into(), key, exchange.as_bytes(), true)
                        .await
                        .unwrap()
                        .is_ack()
                );
            }
            assert_eq!(drain(&channel, &kept).await, [b"typed".to_vec(), b"amq.topic".to_vec()]);
        });
    }
}

#[test]
fn an_exchange_whose_plugin_is_missing_waits_for_it() {
    let broker = Broker::builder(BINARY).plugin(guests::component(GUEST)).start();
    on_broker(&broker, async |broker| furnish(broker).await);
    let before = bindings(&broker);
    let stopped = broker.kill_for_a_while();
    let file = stopped.plugins_directory().join(format!("{GUEST}.wasm"));
    let component = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let broker = stopped.start();
    broker.wait_for_log("no plugin provides the exchange type 'x-takes-its-time'", EVENT_WAIT_MAX);
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let refused = confirming(&connection).await;
        let (code, text) = refusal(&publish(&refused, &"typed".into(), "k", b"1", false).await.unwrap_err());
        assert!(code == 406 && text.contains("its plugin takes_its_time is not there"), "{code} {text}");
        assert!(publish(&channel, &"amq.topic".into(), "a.b", b"2", false).await.unwrap().is_ack());
        assert!(bindings(broker).contains(&String::from("typed kept k {\"note\":\"k\"}")));
        let aside = broker.aside().join("guest.wasm");
        fs::write(&aside, component).unwrap();
        fs::rename(aside, broker.plugins_directory().join(format!("{GUEST}.wasm"))).unwrap();
        broker.wait_for_log(log_lines::PLUGIN_SERVES, EVENT_WAIT_MAX);
        assert!(publish(&channel, &"typed".into(), "k", b"3", true).await.unwrap().is_ack());
        assert_eq!(drain(&channel, &"kept".into()).await, [b"2".to_vec(), b"3".to_vec()]);
    });
    // What is not durable at both ends went with the first life.
    let lost = |line: &&String| line.contains("fleeting") || line.contains("transient");
    assert_eq!(before.len(), bindings(&broker).len() + before.iter().filter(lost).count());
}
