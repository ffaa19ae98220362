//! Exchanges that stay on a version while others move on.

use super::asking::{get, json_of, put};
use super::bench::*;
use super::deploy::{Way, deploy};
use super::session::*;
use lapin::options::QueueBindOptions;
use lapin::types::FieldTable;
use leveret_plugin::Digest;
use serde_json::json;

#[test]
fn a_pin_holds_over_a_swap_and_over_bindings_that_come_and_go() {
    let broker = started();
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let (stays, first, second) = exchange_of(&channel, &["k"]).await;
        let (moves, others_first, others_second) = exchange_of(&channel, &["k"]).await;
        let said = plugin(broker, &["pin", stays.as_str(), "current"], 0);
        assert!(said.contains("stays on version 1.0.0") && said.contains("as the others do"), "{said}");
        deploy(broker, Way::Renamed, "versioned_v2", FILE);
        for exchange in [&stays, &moves] {
            publish_routed(&channel, exchange, "k", b"x").await;
        }
        assert_eq!((ready(&channel, &first).await, ready(&channel, &second).await), (1, 0));
        assert_eq!((ready(&channel, &others_first).await, ready(&channel, &others_second).await), (0, 1));

        // Bindings come and go on the version that it stays on.
        bind(&channel, &second, &stays, "late.v1", FieldTable::default()).await;
        publish_routed(&channel, &stays, "late", b"x").await;
        assert_eq!(ready(&channel, &second).await, 1);
        let (queue, key) = (second.clone(), "late.v1".into());
        channel.queue_unbind(queue, stays.clone(), key, FieldTable::default()).await.unwrap();
        let confirmation = publish(&channel, &stays, "late", b"x", true).await.unwrap();
        assert!(confirmation.take_message().is_some(), "it is bound no more");

        let pins = get(broker, "plugins-pins");
        assert_eq!((&pins[0]["exchange"], &pins[0]["version"]), (&json!(stays.as_str()), &json!("1.0.0")));
        assert_eq!(pins[0]["serving"], json!(false));
        assert_eq!(get(broker, "plugins/x-versioned")["pinned"], pins);
        assert!(plugin(broker, &["pins"], 0).contains("the others are on another version"));
        let shown = plugin(broker, &["info", "x-versioned"], 0);
        assert!(shown.contains(&format!("pinned     {stays} in virtual host / on version 1.0.0")), "{shown}");
        let explained = plugin(broker, &["explain", "--exchange", stays.as_str(), "--key", "k"], 0);
        assert!(explained.contains("plugin versioned 1.0.0, pinned"), "{explained}");

        assert!(plugin(broker, &["unpin", stays.as_str()], 0).contains("not pinned any more"));
        assert!(plugin(broker, &["unpin", stays.as_str()], 0).contains("was not pinned"));
        publish_routed(&channel, &stays, "k", b"x").await;
        assert_eq!((ready(&channel, &first).await, ready(&channel, &second).await), (1, 2));
        assert_eq!(get(broker, "plugins-pins"), json!([]));
    });
}

#[test]
fn an_exchange_goes_to_a_kept_version_and_what_cannot_be_loaded_is_refused() {
    let broker = started();
    deploy(&broker, Way::Renamed, "versioned_with_traps", FILE);
    deploy(&broker, Way::Renamed, "versioned_v2", FILE);
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let (exchange, first, second) = exchange_of(&channel, &["k"]).await;
        let options = QueueBindOptions::default();
        let (queue, key) = (first.clone(), "unwanted.v1".into());
        channel.queue_bind(queue, exchange.clone(), key, options, FieldTable::default()).await.unwrap();
        let digits = |guest: &str| Digest::of(&guest_bytes(guest)).to_string();

        // That one does not take a binding, and this one is not kept; nothing changes.
        let said = plugin(broker, &["pin", exchange.as_str(), &digits("versioned_with_traps")], 1);
        assert!(said.contains("at stage replay"), "{said}");
        let said = plugin(broker, &["pin", exchange.as_str(), "abcdef"], 1);
        assert!(said.contains("no kept version") && said.contains(&digits("versioned_v1")), "{said}");
        assert!(plugin(broker, &["pin", "no-exchange", "current"], 1).contains("no exchange no-exchange"));
        assert!(plugin(broker, &["pin", "amq.topic", "current"], 1).contains("came with the broker"));
        assert_eq!(get(broker, "plugins-pins"), json!([]));
        publish_routed(&channel, &exchange, "k", b"x").await;
        assert_eq!((ready(&channel, &first).await, ready(&channel, &second).await), (0, 1));

        plugin(broker, &["pin", exchange.as_str(), &digits("versioned_v1")], 0);
        publish_routed(&channel, &exchange, "k", b"x").await;
        assert_eq!((ready(&channel, &first).await, ready(&channel, &second).await), (1, 1));
        // From one version to another, without unpinning it between.
        let path = format!("plugins-pins/%2F/{exchange}");
        let answer = put(broker, &path, &json!({"version": "current"}));
        assert_eq!(json_of(&answer)["version"], json!("2.0.0"));
        publish_routed(&channel, &exchange, "k", b"x").await;
        assert_eq!((ready(&channel, &first).await, ready(&channel, &second).await), (1, 2));
    });
}
