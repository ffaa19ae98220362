//! Limits of plugins from the configuration, each reached on purpose, each seen from outside.

use super::session::{confirming, connect, on_broker, own_queue, publish};
use lapin::{
    Channel, ExchangeKind,
    options::ExchangeDeclareOptions,
    types::{FieldTable, ShortString},
};
use leveret_testkit::{Broker, EVENT_WAIT_MAX, ScratchDirectory, guests, process};
use serde_json::Value;
use std::process::Command;

const BINARY: &str = env!("CARGO_BIN_EXE_leveret");
const GUEST: &str = "every_capability";
const TYPE: &str = "x-every-capability";
const GRANTS: &str = "[\"clock\", \"random\", \"log\", \"metric\", \"key-value\", \"message-store\", \"hold\", \"timer\", \
                      \"enqueue\", \"emit\", \"queue-info\", \"publisher\"]";

/// A broker with the guest that can everything, under these limits; the configuration goes with the
/// directory.
fn limited(limits: &str) -> (Broker, ScratchDirectory) {
    let configuration = ScratchDirectory::new("limits");
    let file = configuration.path().join("leveret.toml");
    let second = format!("[vhost.second.plugins.\"{GUEST}\"]\ngrants = {GRANTS}");
    let text = format!(
        "vhosts = [\"/\", \"second\"]\n[plugins.\"{GUEST}\"]\ngrants = {GRANTS}\n{limits}\n[vhost.second]\n{second}\n"
    );
    std::fs::write(&file, text).unwrap();
    let broker =
        Broker::builder(BINARY).argument("--config").argument(file).argument("--workers").argument("2");
    (broker.plugin(guests::component(GUEST)).start(), configuration)
}

async fn declare(channel: &Channel, name: &str) -> ShortString {
    let (kind, options) = (ExchangeKind::Custom(TYPE.into()), ExchangeDeclareOptions::default());
    channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await.unwrap();
    name.into()
}

/// Whether a message with that key is accepted.
async fn accepted(channel: &Channel, exchange: &ShortString, key: &str, body: &[u8]) -> bool {
    publish(channel, exchange, key, body, false).await.unwrap().is_ack()
}

/// What the virtual host `/` sees of the plugin.
fn seen(broker: &Broker) -> Value {
    seen_of(broker, TYPE)
}

/// What the virtual host `/` sees of a type.
fn seen_of(broker: &Broker, type_name: &str) -> Value {
    let mut command = Command::new(BINARY);
    command.env_remove("LEVERET_CONFIG").args(["plugin", "info", type_name, "--json", "--data-dir"]);
    let finished = process::run(command.arg(broker.data_directory()), EVENT_WAIT_MAX).unwrap();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.report());
    let told: Value = serde_json::from_str(&finished.stdout).unwrap();
    let there = told["vhosts"].as_array().unwrap().iter().find(|there| there["vhost"] == "/");
    there.expect("the virtual host").clone()
}

#[test]
fn so_many_messages_and_no_more_are_held_for_a_plugin_over_its_exchanges() {
    let (broker, _configuration) = limited("held-messages = 3");
    on_broker(&broker, async |broker| {
        let (one, two) = (connect(broker).await, connect(broker).await);
        let (one, two) = (confirming(&one).await, confirming(&two).await);
        let (first, second) = (declare(&one, "first").await, declare(&one, "second").await);
        let hold = "hold 3600000";
        assert!(accepted(&one, &first, hold, b"x").await && accepted(&two, &second, hold, b"x").await);
        assert!(accepted(&one, &second, hold, b"x").await);
        assert!(!accepted(&two, &first, hold, b"x").await && !accepted(&one, &second, hold, b"x").await);
        let there = seen(broker);
        assert_eq!((&there["held"], &there["limits_hit"]["held"]), (&3.into(), &2.into()), "{there}");
        // What is released makes room again.
        let queue = own_queue(&one).await;
        super::session::bind(&one, &queue, &first, "release", FieldTable::default()).await;
        assert!(accepted(&one, &first, "release", b"x").await);
        assert!(accepted(&two, &first, hold, b"x").await);
    });
}

#[test]
fn so_many_bytes_and_no_more_are_held_for_a_plugin() {
    let (broker, _configuration) = limited("held-mib = 1");
    on_broker(&broker, async |broker| {
        let channel = confirming(&connect(broker).await).await;
        let (exchange, body) = (declare(&channel, "x").await, vec![b'x'; 400_000]);
        let hold = "hold 3600000";
        assert!(
            accepted(&channel, &exchange, hold, &body).await
                && accepted(&channel, &exchange, hold, &body).await
        );
        assert!(!accepted(&channel, &exchange, hold, &body).await);
        assert!(accepted(&channel, &exchange, hold, b"small").await, "there is room for this");
        let there = seen(broker);
        assert_eq!((&there["held"], &there["limits_hit"]["held"]), (&3.into(), &1.into()), "{there}");
        assert!(there["held_bytes"].as_u64() > Some(800_000), "{there}");
    });
}

#[test]
fn so_many_entries_and_bytes_and_no_more_are_kept_for_a_plugin() {
    for (limit, body_bytes, fit) in [("state-entries = 3", 1, 3), ("state-mib = 1", 400_000, 2)] {
        let (broker, _configuration) = limited(limit);
        on_broker(&broker, async |broker| {
            let channel = confirming(&connect(broker).await).await;
            let (exchange, body) = (declare(&channel, "x").await, vec![b'x'; body_bytes]);
            // Messages kept by key; what is not kept is confirmed all the same, for this guest does not mind.
            for key in 0..fit + 2 {
                assert!(accepted(&channel, &exchange, &format!("keep {key}"), &body).await);
            }
            let there = seen(broker);
            assert_eq!(
                (&there["state_entries"], &there["limits_hit"]["state"]),
                (&fit.into(), &2.into()),
                "{there}"
            );
            // A value has no room either where the entries are used up, and that guest rejects then.
            assert_eq!(accepted(&channel, &exchange, "once ID", b"x").await, limit.starts_with("state-mib"));
        });
    }
}

#[test]
fn lines_beyond_the_rate_are_counted_and_left_out_of_the_log() {
    const TIMERS: usize = 12;
    let (broker, _configuration) = limited("log-lines-per-second = 1");
    on_broker(&broker, async |broker| {
        let channel = confirming(&connect(broker).await).await;
        let exchange = declare(&channel, "x").await;
        let queue = own_queue(&channel).await;
        for timer in 0..TIMERS {
            let key = format!("timer {timer}");
            super::session::bind(&channel, &queue, &exchange, &key, FieldTable::default()).await;
            assert!(accepted(&channel, &exchange, &key, b"x").await);
        }
        let there = loop {
            let there = seen(broker);
            if there["metrics"]["timers"] == TIMERS as f64 {
                break there;
            }
        };
        let written =
            broker.log().lines().filter(|line| line.contains("timer ") && line.contains(" at ")).count();
        let left_out = there["limits_hit"]["log_lines"].as_u64().unwrap() as usize;
        assert!(left_out > 0 && written + left_out == TIMERS, "{written} written, {left_out} left out");
    });
}

#[test]
fn all_instances_of_a_virtual_host_have_so_much_memory_together_and_no_more() {
    let (broker, _configuration) = limited("\n[vhost.\"/\".totals]\nmemory-mib = 1");
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = connection.create_channel().await.unwrap();
        let (kind, options) = (ExchangeKind::Custom(TYPE.into()), ExchangeDeclareOptions::default());
        let declared = channel.exchange_declare("x".into(), kind, options, FieldTable::default()).await;
        let refused = declared.unwrap_err().to_string();
        for said in ["1 MiB that all instances in vhost '/' may have together", "totals: memory-mib"] {
            assert!(refused.contains(said), "{said} is not in: {refused}");
        }
        // The core types are not counted.
        let channel = confirming(&connection).await;
        let options = ExchangeDeclareOptions::default();
        let declared =
            channel.exchange_declare("t".into(), ExchangeKind::Topic, options, FieldTable::default());
        declared.await.unwrap();
        assert!(accepted(&channel, &"t".into(), "k", b"x").await);
        let total = &seen_of(broker, "topic")["vhost_total"];
        let (bytes, bytes_max) = (&total["memory_bytes"], &total["memory_bytes_max"]);
        assert!(bytes.as_u64() <= bytes_max.as_u64() && *bytes_max == 1 << 20, "{total}");
    });
}

#[test]
fn what_is_remembered_is_seen_and_within_the_virtual_hosts_total() {
    let (broker, _configuration) = limited("\n[vhost.\"/\".totals]\nremembered-mib = 1");
    on_broker(&broker, async |broker| {
        let channel = confirming(&connect(broker).await).await;
        let options = ExchangeDeclareOptions::default();
        let declared =
            channel.exchange_declare("t".into(), ExchangeKind::Topic, options, FieldTable::default());
        declared.await.unwrap();
        let exchange = ShortString::from("t");
        for key in 0..100 {
            assert!(accepted(&channel, &exchange, &format!("key.{key}"), b"x").await);
        }
        let there = seen_of(broker, "topic");
        let remembered = there["remembered_bytes"].as_u64().unwrap();
        assert!((100 * 32..1 << 20).contains(&remembered), "{there}");
        assert_eq!(there["vhost_total"]["remembered_bytes_max"], 1 << 20);
        assert!(there["vhost_total"]["remembered_bytes"].as_u64() >= Some(remembered), "{there}");
        // What an exchange remembered goes with it.
        channel.exchange_delete(exchange, Default::default()).await.unwrap();
        assert_eq!(seen_of(broker, "topic")["remembered_bytes"], 0);
    });
}
