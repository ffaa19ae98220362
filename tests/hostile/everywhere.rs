//! Each function of an exchange type misbehaves, in each way: what the publisher is told, what the
//! operator sees, and that the neighbours notice nothing.

use super::asking::{get, json_of, put};
use super::session::*;
use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, ExchangeKind};
use leveret_testkit::{Broker, EVENT_WAIT_MAX, ScratchDirectory, guests, unique_name};
use serde_json::{Value, json};
use std::cell::Cell;
use std::fs;

/// What a guest may do everywhere, the counter of the operator that shows it, and a word of its text.
const WAYS: [(&str, &str, &str); 4] = [
    ("trap", "traps", "unreachable"),
    ("loop", "cpu_limit", "ms of CPU"),
    ("memory", "memory_limit", "MiB of memory"),
    ("recurse", "traps", "trapped"),
];

/// A broker with `evil`, which may do everything, within these limits.
pub(crate) struct Evil {
    pub(crate) broker: Broker,
    _configuration: ScratchDirectory,
}

impl Evil {
    pub(crate) fn with(limits: &str, tables: &str) -> Self {
        Self::with_arguments(limits, tables, &[])
    }

    /// With these arguments of the program.
    pub(crate) fn with_arguments(limits: &str, tables: &str, arguments: &[&str]) -> Self {
        let configuration = ScratchDirectory::new("evil");
        let file = configuration.path().join("leveret.toml");
        let grants = "\"log\", \"metric\", \"key-value\", \"message-store\", \"hold\", \"timer\", \"enqueue\", \"emit\"";
        let table = format!("[plugins.evil]\ngrants = [{grants}, \"random\"]\nmemory-mib = 32\n{limits}\n");
        fs::write(&file, format!("{table}\n[plugins.describes_at_random]\ngrants = [\"random\"]\n{tables}"))
            .unwrap();
        let builder = Broker::builder(env!("CARGO_BIN_EXE_leveret")).argument("--config").argument(file);
        let builder = arguments.iter().fold(builder, |builder, argument| builder.argument(argument));
        let broker = builder
            .plugin(guests::component("evil"))
            .plugin(guests::component("evil_interceptor"))
            .plugin(guests::component("describes_at_random"))
            .start();
        Self { broker, _configuration: configuration }
    }

    /// What an operator is told of it.
    pub(crate) fn seen(&self) -> Value {
        get(&self.broker, "plugins/x-evil/vhosts/%2F")
    }

    /// One of the counters of failures.
    fn failures(&self, counter: &str) -> u64 {
        self.seen()["failures"][counter].as_u64().unwrap()
    }

    /// Runs a test beside a neighbour, who publishes to an exchange of the broker's own all the time:
    /// every message must be confirmed, and arrive in order.
    pub(crate) fn beside_a_neighbour(&self, test: impl AsyncFnOnce(&Connection)) {
        on_broker(&self.broker, async |broker| {
            let connection = connect(broker).await;
            let done = Cell::new(false);
            let neighbour = async {
                let channel = confirming(&connect(broker).await).await;
                let queue = own_queue(&channel).await;
                let topic = ShortString::from("amq.topic");
                bind(&channel, &queue, &topic, "neighbour.*", FieldTable::default()).await;
                let mut published = 0_u32;
                while !done.get() {
                    let body = published.to_be_bytes();
                    let confirm = publish(&channel, &topic, "neighbour.1", &body, true).await.unwrap();
                    assert!(confirm.is_ack() && confirm.take_message().is_none());
                    published += 1;
                }
                let arrived = drain(&channel, &queue).await;
                let wanted: Vec<_> = (0..published).map(|number| number.to_be_bytes().to_vec()).collect();
                assert_eq!(arrived, wanted);
            };
            let attacker = async {
                test(&connection).await;
                done.set(true);
            };
            futures_util::future::join(attacker, neighbour).await;
        });
    }
}

/// Declares an exchange that is told to do that.
pub(crate) async fn declare(channel: &Channel, told: &str) -> lapin::Result<ShortString> {
    let name = ShortString::from(unique_name("evil"));
    let kind = ExchangeKind::Custom("x-evil".into());
    let arguments = texts(&[("x-evil", told)]);
    channel.exchange_declare(name.clone(), kind, ExchangeDeclareOptions::default(), arguments).await?;
    Ok(name)
}

/// An exchange that is told to do that, with a queue bound by `good`.
pub(crate) async fn exchange(channel: &Channel, told: &str) -> (ShortString, ShortString) {
    let exchange = declare(channel, told).await.unwrap();
    let queue = own_queue(channel).await;
    bind(channel, &queue, &exchange, "good", FieldTable::default()).await;
    (exchange, queue)
}

/// Publishes until it is taken: a plugin that failed too often is set aside for a moment.
pub(crate) async fn routes_again(channel: &Channel, exchange: &ShortString, queue: &ShortString) {
    while !publish(channel, exchange, "good", b"good", true).await.unwrap().is_ack() {}
    assert_eq!(drain(channel, queue).await, [b"good"]);
}

async fn bind_evil(channel: &Channel, exchange: &ShortString, queue: &ShortString) -> lapin::Result<()> {
    let (options, arguments) = Default::default();
    channel.queue_bind(queue.clone(), exchange.clone(), "evil".into(), options, arguments).await
}

/// Does what leads to a call of that function of an exchange that misbehaves in it. Gives the refusal,
/// where somebody is to be told.
async fn provoke(connection: &Connection, function: &str, way: &str) -> Option<String> {
    let refused = confirming(connection).await;
    let channel = confirming(connection).await;
    let told = format!("{function} {way}{}", if function == "timer" { "; route timer" } else { "" });
    if function == "open" {
        let (code, text) = refusal(&declare(&refused, &told).await.unwrap_err());
        assert_eq!(code, 406, "{text}");
        return Some(text);
    }
    let (exchange, queue) = exchange(&channel, &told).await;
    routes_again(&channel, &exchange, &queue).await;
    let text = match function {
        "bind" => {
            let (code, text) = refusal(&bind_evil(&refused, &exchange, &queue).await.unwrap_err());
            assert_eq!(code, 406, "{text}");
            Some(text)
        }
        "route" => {
            let confirm = publish(&channel, &exchange, "evil", b"evil", true).await.unwrap();
            assert!(confirm.is_nack() && confirm.take_message().is_none(), "{way}");
            None
        }
        "close" => {
            channel.exchange_delete(exchange, ExchangeDeleteOptions::default()).await.unwrap();
            return None;
        }
        "unbind" | "unbound" => {
            bind_evil(&channel, &exchange, &queue).await.unwrap();
            routes_again(&channel, &exchange, &queue).await;
            let arguments = FieldTable::default();
            channel.queue_unbind(queue.clone(), exchange.clone(), "evil".into(), arguments).await.unwrap();
            // Nobody is refused for it: the next message is routed by a fresh instance.
            routes_again(&channel, &exchange, &queue).await;
            None
        }
        "bound" => {
            bind_evil(&channel, &exchange, &queue).await.unwrap();
            routes_again(&channel, &exchange, &queue).await;
            let confirm = publish(&channel, &exchange, "evil", b"x", true).await.unwrap();
            assert!(confirm.is_ack() && confirm.take_message().is_none(), "the binding stays");
            assert_eq!(drain(&channel, &queue).await, [b"x"]);
            None
        }
        "timer" => {
            // What has no destination leaves no effects.
            bind_evil(&channel, &exchange, &queue).await.unwrap();
            routes_again(&channel, &exchange, &queue).await;
            let confirm = publish(&channel, &exchange, "evil", b"x", false).await.unwrap();
            assert!(confirm.is_ack());
            assert_eq!(drain(&channel, &queue).await, [b"x"]);
            None
        }
        other => panic!("there is no function {other}"),
    };
    routes_again(&channel, &exchange, &queue).await;
    if function != "timer" {
        channel.exchange_delete(exchange, ExchangeDeleteOptions::default()).await.unwrap();
    }
    text
}

#[test]
fn each_function_misbehaves_in_each_way() {
    let evil = Evil::with("", "");
    evil.beside_a_neighbour(async |connection| {
        // The timer last: it is tried again for a while, and fails again between other calls.
        for function in ["open", "bind", "unbind", "route", "bound", "unbound", "close", "timer"] {
            for (way, counter, word) in WAYS {
                let before = evil.failures(counter);
                let text = provoke(connection, function, way).await;
                assert!(
                    text.as_ref().is_none_or(|text| text.contains("406") || text.contains("exchange")),
                    "{text:?}"
                );
                // A timer comes when it comes, and what is closed is told to the other workers later.
                while evil.failures(counter) == before {
                    tokio::task::yield_now().await;
                }
                let seen = evil.seen();
                let last = seen["failures"]["last_error"].as_str().unwrap();
                // Instances that are told of a close later fail later, after that of the next way.
                let in_order = !["timer", "close"].contains(&function);
                assert!(last.contains(word) || !in_order, "{function} {way}: {last}");
                assert!(!last.contains('\n'), "{last:?}");
            }
        }
    });
    let line = evil.broker.wait_for_log("the plugin failed: ", EVENT_WAIT_MAX);
    assert!(line.contains("plugin=\"evil\"") && line.contains("vhost=/"), "{line}");
}

/// A plugin that says something else of itself in each instance never comes to serve an exchange.
#[test]
fn a_description_that_changes() {
    let evil = Evil::with("", "");
    evil.beside_a_neighbour(async |connection| {
        let channel = confirming(connection).await;
        let error = declare_exchange(&channel, &"x".into(), "x-describes-at-random").await.unwrap_err();
        let (code, text) = refusal(&error);
        assert!(code == 406 && text.contains("in another way than before"), "{code} {text}");
    });
    let seen = get(&evil.broker, "plugins/x-describes-at-random/vhosts/%2F");
    assert_eq!(seen["failures"]["bad_answers"], 1, "{seen}");
}

/// Refusals of a mebibyte with lines that look like the broker's: the client gets a text that fits, the log
/// one line.
#[test]
fn a_refusal_that_would_be_many_lines_of_the_log() {
    // What it answers is judged here, not how long a debug build takes to read it.
    let evil = Evil::with("cpu-per-call-ms = 500", "");
    evil.beside_a_neighbour(async |connection| {
        let channel = confirming(connection).await;
        let (code, text) = refusal(&declare(&channel, "open refuse").await.unwrap_err());
        assert!(
            code == 406 && text.contains("invalid arg 'x-evil': no 2026") && !text.contains('\n'),
            "{text}"
        );
        let channel = confirming(connection).await;
        for (told, said) in [
            ("open reads", "2000 headers are read by name"),
            ("open inner-many", "2000 arguments"),
            ("open inner", "more than 8 types one behind the other"),
        ] {
            let channel = confirming(connection).await;
            let (code, text) = refusal(&declare(&channel, told).await.unwrap_err());
            assert!(code == 406 && text.contains(said), "{told}: {text}");
        }
        let (exchange, queue) = exchange(&channel, "route reject").await;
        assert!(publish(&channel, &exchange, "evil", b"x", true).await.unwrap().is_nack());
        routes_again(&channel, &exchange, &queue).await;
    });
    assert!(
        !evil.broker.log().lines().any(|line| line.starts_with("2026-01-01T00:00:00Z")),
        "a line was forged"
    );
}

/// Unbinding is told to every instance; what one of them makes of it is nobody's trouble.
#[test]
fn unbinding_is_never_refused() {
    let evil = Evil::with("", "");
    evil.beside_a_neighbour(async |connection| {
        let channel = confirming(connection).await;
        let (exchange, queue) = exchange(&channel, "unbind trap").await;
        for round in 0..10 {
            bind_evil(&channel, &exchange, &queue).await.unwrap();
            routes_again(&channel, &exchange, &queue).await;
            let (name, arguments) = ("evil".into(), FieldTable::default());
            let unbound = channel.queue_unbind(queue.clone(), exchange.clone(), name, arguments);
            unbound.await.unwrap_or_else(|error| panic!("round {round}: {error}"));
            routes_again(&channel, &exchange, &queue).await;
        }
    });
}

/// An operator looks into exchanges, and changes their arguments, whatever their type does then.
#[test]
fn looking_into_an_exchange_and_changing_its_arguments() {
    let evil = Evil::with("", "");
    let inside = |exchange: &ShortString| get(&evil.broker, &format!("exchanges-info/%2F/{exchange}"));
    evil.beside_a_neighbour(async |connection| {
        let channel = confirming(connection).await;
        let (well, _) = exchange(&channel, "nothing at-all").await;
        for (way, _, word) in WAYS {
            let (exchange, queue) = exchange(&channel, &format!("info {way}; reconfigure {way}")).await;
            routes_again(&channel, &exchange, &queue).await;
            let told = inside(&exchange);
            let error = told["types"][0]["error"].as_str().unwrap_or_else(|| panic!("{way}: {told}"));
            assert!(error.contains(word), "{way}: {error}");
            let change = json!({"set": {"x-new": 1}});
            let answer = put(&evil.broker, &format!("exchanges-arguments/%2F/{exchange}"), &change);
            let refused = json_of(&answer);
            assert_eq!(answer.status(), 409, "{way}: {refused}");
            assert!(refused["reason"].as_str().unwrap().contains(word), "{way}: {refused}");
            let told = inside(&exchange);
            assert!(told["arguments"].get("x-new").is_none(), "{way}: {told}");
            routes_again(&channel, &exchange, &queue).await;
            // One that answers, so that the plugin is not set aside. It shows something that is no number.
            let told = inside(&well);
            assert!(told["types"][0].get("error").is_none_or(Value::is_null), "{told}");
        }
        for (way, said) in [("list", "more than 65536 values"), ("refuse", "")] {
            let (exchange, _) = exchange(&channel, &format!("info {way}")).await;
            let told = inside(&exchange);
            let error = told["types"][0]["error"].as_str().unwrap_or_default();
            assert!(error.contains(said), "{told}");
        }
    });
}
