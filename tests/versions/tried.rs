//! A candidate in shadow and as a canary.

use super::asking::{BINARY, get, put};
use super::bench::*;
use super::deploy::{Way, deploy};
use super::session::*;
use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use lapin::types::FieldTable;
use leveret_plugin::{CANARY_FAILURES_MAX, Share};
use leveret_testkit::{Broker, EVENT_WAIT_MAX, ScratchDirectory, log_lines};
use serde_json::json;
use std::fs;

#[test]
fn a_shadow_reports_the_difference_and_changes_nothing() {
    let broker = started();
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let (exchange, first, second) = exchange_of(&channel, &["k"]).await;
        try_out(broker, "versioned_v2");
        for _ in 0..50 {
            publish_routed(&channel, &exchange, "k", b"x").await;
        }
        // Nothing goes where version 1 sends it nowhere, whatever version 2 says.
        publish(&channel, &exchange, "nowhere", b"x", false).await.unwrap();
        assert_eq!((ready(&channel, &first).await, ready(&channel, &second).await), (50, 0));

        // One batch finds the candidate; the others are its.
        let told = await_candidate(broker, |told| told["shadow"]["equal"] == 1);
        assert_eq!((&told["state"], &told["version"]), (&json!("shadow"), &json!("2.0.0")));
        let different = told["shadow"]["different"].as_u64().unwrap();
        assert!((1..=50).contains(&different), "{told}");
        assert_eq!((&told["shadow"]["failed"], &told["canary"]["answered"]), (&json!(0), &json!(0)));
        let difference = &told["differences"][0];
        assert_eq!(
            (&difference["exchange"], &difference["routing_key"]),
            (&json!(exchange.as_str()), &json!("k"))
        );
        assert_eq!(difference["serving"], json!(format!("to queue {first}")));
        assert_eq!(difference["candidate"], json!(format!("to queue {second}")));

        let shown = plugin(broker, &["candidate", "versioned"], 0);
        assert!(shown.contains("state      shadow") && shown.contains("differs"), "{shown}");
        assert!(plugin(broker, &["list"], 0).contains("serving, shadow"));
        assert!(plugin(broker, &["info", "x-versioned"], 0).contains("2.0.0 in shadow"));
        assert!(plugin(broker, &["candidate", "none"], 1).contains("no candidate"));
    });
}

#[test]
fn a_canary_answers_for_its_keys_and_each_key_goes_one_way() {
    let broker = started();
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let keys: Vec<String> = (0..60).map(|n| format!("order.{n}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let (exchange, first, second) = exchange_of(&channel, &keys).await;
        try_out(broker, "versioned_v2");
        let said = plugin(broker, &["canary", "versioned", "--percent", "40"], 0);
        assert!(said.contains("answers for 40 % of routing keys"), "{said}");
        // The first batch finds the candidate.
        publish_routed(&channel, &exchange, keys[0], b"first").await;
        for round in 0..5_u8 {
            for key in &keys {
                publish_routed(&channel, &exchange, key, &[[round].as_slice(), key.as_bytes()].concat())
                    .await;
            }
        }
        let share = Share::of_percent(40.0).unwrap();
        let mut by_second = 0;
        for (queue, is_canarys) in [(&first, false), (&second, true)] {
            let bodies = drain(&channel, queue).await;
            for key in &keys {
                let rounds: Vec<u8> =
                    bodies.iter().filter(|b| b.get(1..) == Some(key.as_bytes())).map(|b| b[0]).collect();
                let expected: &[u8] =
                    if share.has(key.as_bytes()) == is_canarys { &[0, 1, 2, 3, 4] } else { &[] };
                assert_eq!(rounds, expected, "{key}: all one way, in order");
                by_second += rounds.len() * usize::from(is_canarys);
            }
        }
        let told = candidate(broker);
        assert_eq!((&told["state"], &told["percent"]), (&json!("canary"), &json!(40.0)));
        assert_eq!(told["canary"]["answered"], json!(by_second));
        assert!(told["canary"]["remembered"].as_u64() > Some(0), "{told}");
        assert!(plugin(broker, &["list"], 0).contains("serving, canary 40 %"));

        // Which version a message would be asked of is explained.
        let find = |there: bool| keys.iter().find(|key| share.has(key.as_bytes()) == there).unwrap();
        let explain =
            |key: &str| plugin(broker, &["explain", "--exchange", exchange.as_str(), "--key", key], 0);
        let (canarys, others) = (explain(find(true)), explain(find(false)));
        assert!(canarys.contains("plugin versioned 2.0.0 as the canary"), "{canarys}");
        assert!(others.contains("plugin versioned 1.0.0, "), "{others}");

        // Back in shadow its answers are used no more.
        plugin(broker, &["shadow", "versioned"], 0);
        for key in &keys {
            publish_routed(&channel, &exchange, key, b"x").await;
        }
        assert_eq!(ready(&channel, &second).await, 0);
    });
}

#[test]
fn a_canary_that_traps_withdraws_itself_and_no_message_is_lost() {
    let broker = started();
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let (exchange, first, _) = exchange_of(&channel, &["trap"]).await;
        try_out(broker, "versioned_with_traps");
        plugin(broker, &["canary", "versioned", "--percent", "100"], 0);
        let before = broker.log_length();
        let mut published = 0;
        while !broker.log().contains(log_lines::CANARY_WITHDRAWN) {
            publish_routed(&channel, &exchange, "trap", b"x").await;
            published += 1;
        }
        let line = broker.wait_for_log_after(before, log_lines::CANARY_WITHDRAWN, EVENT_WAIT_MAX);
        assert!(line.contains("WARN") && line.contains("version=\"2.1.0\""), "{line}");
        // One batch finds the candidate, then each message is one failure; the log may come later.
        assert!(published > CANARY_FAILURES_MAX as u32);
        assert_eq!(ready(&channel, &first).await, published, "the serving version answered for all");
        let told = candidate(broker);
        let failed = &told["canary"]["failed"];
        assert_eq!((&told["state"], failed), (&json!("withdrawn"), &json!(CANARY_FAILURES_MAX)));
        assert!(told["reason"].as_str().unwrap().contains("5 messages within 60 s"), "{told}");
        assert!(plugin(broker, &["candidate", "versioned"], 0).contains("canary withdrawn: it failed on 5"));
        // It failed, not the plugin.
        let seen = get(broker, "plugins/x-versioned/vhosts/%2F");
        assert_eq!((&seen["failures"]["traps"], &seen["state"]), (&json!(0), &json!("serving")));
        publish_routed(&channel, &exchange, "trap", b"x").await;
    });
}

#[test]
fn a_binding_that_a_canary_refuses_withdraws_it() {
    let broker = started();
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let (exchange, first, _) = exchange_of(&channel, &["k"]).await;
        try_out(broker, "versioned_with_traps");
        plugin(broker, &["canary", "versioned", "--percent", "100"], 0);
        publish_routed(&channel, &exchange, "k", b"x").await;
        // The serving version is asked whether the binding can be made, and takes it.
        bind(&channel, &first, &exchange, "unwanted.v1", FieldTable::default()).await;
        let mut published = 1;
        while !broker.log().contains(log_lines::CANARY_WITHDRAWN) {
            publish_routed(&channel, &exchange, "k", b"x").await;
            published += 1;
        }
        assert_eq!(ready(&channel, &first).await, published);
        assert_eq!(candidate(broker)["state"], json!("withdrawn"));
    });
}

/// The same plugin as another file: a section that nobody reads is appended.
fn once_more(component: &[u8]) -> Vec<u8> {
    [component, &[0, 3, 1, b'p', 0]].concat()
}

/// A broker in which `x-once` serves and may keep values.
fn keeping() -> (Broker, ScratchDirectory) {
    let configuration = ScratchDirectory::new("versions");
    let file = configuration.path().join("leveret.toml");
    fs::write(&file, "[plugins.\"versioned\"]\ngrants = [\"key-value\"]\n").unwrap();
    let broker = Broker::builder(BINARY).argument("--config").argument(file).start();
    deploy(&broker, Way::Renamed, "once", FILE);
    (broker, configuration)
}

#[test]
fn a_canary_shares_what_is_kept_and_a_shadow_keeps_its_own() {
    let (broker, _configuration) = keeping();
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let exchange = own_exchange(&channel, "x-once").await;
        let queue = own_queue(&channel).await;
        bind(&channel, &queue, &exchange, "", FieldTable::default()).await;
        publish_routed(&channel, &exchange, "the first batch makes the instance", b"x").await;
        let component = once_more(&guest_bytes("once"));
        try_bytes(broker, &component, log_lines::CANDIDATE_TAKEN);
        publish_routed(&channel, &exchange, "the first batch finds the candidate", b"x").await;

        // In shadow: what the one sees for the first time is new to the other, too.
        for key in ["a", "b"] {
            for _ in 0..2 {
                assert!(publish(&channel, &exchange, key, b"x", false).await.unwrap().is_ack());
            }
        }
        let told = await_candidate(broker, |told| told["shadow"]["compared"] == 4);
        assert_eq!(
            (&told["shadow"]["equal"], &told["shadow"]["not_asked"]),
            (&json!(4), &json!(1)),
            "{told}"
        );
        assert_eq!(drain(&channel, &queue).await.len(), 4);

        // As a canary: whichever version saw a key first, nobody lets a second message of it pass. Many are
        // published at once, so that they are decided in batches.
        let keys: Vec<String> = (0..40).map(|n| format!("key.{n}")).collect();
        for percent in ["50", "90", "10", "100"] {
            plugin(broker, &["canary", "versioned", "--percent", percent], 0);
            let mut confirms = Vec::new();
            for key in keys.iter().chain(&keys).chain(&keys) {
                let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
                let key = key.as_str().into();
                let published = channel.basic_publish(exchange.clone(), key, options, b"x", properties);
                confirms.push(published.await.unwrap());
            }
            for confirm in confirms {
                assert!(confirm.await.unwrap().is_ack());
            }
        }
        assert_eq!(drain(&channel, &queue).await.len(), keys.len());
        let told = candidate(broker);
        assert_eq!(told["canary"]["failed"], json!(0), "{told}");
        assert!(told["canary"]["answered"].as_u64().unwrap() > 120, "{told}");
        assert_eq!(told["canary"]["remembered"], json!(0), "it is not pure");
    });
}

#[test]
fn a_version_that_migrates_is_no_canary() {
    let configuration = ScratchDirectory::new("versions");
    let file = configuration.path().join("leveret.toml");
    let grants = r#"["clock", "random", "log", "metric", "key-value", "message-store", "hold", "timer", "enqueue",
                    "emit", "queue-info", "publisher"]"#;
    fs::write(&file, format!("[plugins.\"versioned\"]\ngrants = {grants}\n")).unwrap();
    let broker = Broker::builder(BINARY).argument("--config").argument(file).start();
    deploy(&broker, Way::Renamed, "every_capability", FILE);
    try_bytes(&broker, &once_more(&guest_bytes("every_capability")), log_lines::CANDIDATE_TAKEN);
    let said = plugin(&broker, &["canary", "versioned", "--percent", "1"], 1);
    assert!(said.contains("migrates the state"), "{said}");
    assert_eq!(candidate(&broker)["state"], json!("shadow"));
}

#[test]
fn a_candidate_is_one_after_a_restart_until_it_is_withdrawn() {
    let broker = started();
    try_out(&broker, "versioned_v2");
    let broker = broker.stop_for_a_while().start();
    broker.wait_for_log(log_lines::CANDIDATE_TAKEN, EVENT_WAIT_MAX);
    let said = plugin(&broker, &["withdraw", "versioned"], 0);
    assert!(said.contains("is withdrawn") && said.contains("versioned.wasm.withdrawn"), "{said}");
    assert_eq!(get(&broker, "plugins-candidates"), json!([]));
    assert!(!candidate_file(&broker).exists());
    plugin(&broker, &["withdraw", "versioned"], 1);
    // A file that is taken away is withdrawn, too.
    try_out(&broker, "versioned_v2");
    fs::remove_file(candidate_file(&broker)).unwrap();
    broker.wait_for_log("the candidate is withdrawn", EVENT_WAIT_MAX);
    let gone = std::time::Instant::now();
    while get(&broker, "plugins-candidates") != json!([]) {
        assert!(gone.elapsed() < EVENT_WAIT_MAX);
    }
}

#[test]
fn orders_that_make_no_sense_are_refused() {
    let broker = started();
    let order = |body: serde_json::Value| put(&broker, "plugins-candidates", &body).status().as_u16();
    assert_eq!(order(json!({"plugin": "versioned", "order": "shadow"})), 404, "there is no candidate");
    try_out(&broker, "versioned_v2");
    for (body, status) in [
        (json!({"plugin": "versioned", "order": "canary"}), 400),
        (json!({"plugin": "versioned", "order": "canary", "percent": 0}), 400),
        (json!({"plugin": "versioned", "order": "canary", "percent": 101}), 400),
        (json!({"plugin": "versioned", "order": "promote", "percent": 1}), 400),
        (json!({"plugin": "versioned", "order": "dance"}), 400),
        (json!({"plugin": "versioned", "order": "shadow", "vhost": "none"}), 404),
        (json!({"plugin": "versioned", "order": "shadow", "vhost": "/"}), 400),
        (json!({"plugin": "versioned", "order": "canary", "percent": 1, "vhost": "/"}), 200),
    ] {
        assert_eq!(order(body.clone()), status, "{body}");
    }
    assert_eq!(candidate(&broker)["vhost"], json!("/"));
}
