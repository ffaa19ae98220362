//! Files that do not become candidates: each stage says why, and what serves and what is tried stay.

use super::bench::*;
use super::session::*;
use lapin::types::FieldTable;
use leveret_testkit::log_lines;
use serde_json::json;

#[test]
fn each_stage_has_its_error_and_leaves_all_as_it_was() {
    let broker = started();
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let (exchange, first, second) = exchange_of(&channel, &["k"]).await;
        bind(&channel, &first, &exchange, "unwanted.v1", FieldTable::default()).await;
        try_out(broker, "versioned_v2");
        plugin(broker, &["canary", "versioned", "--percent", "100"], 0);
        publish_routed(&channel, &exchange, "k", b"x").await;
        assert_eq!(ready(&channel, &first).await, 1, "the first batch finds the candidate");

        let parses_not = b"\0asm\x0d\0\x01\0\x07\x03\xff\xff\xff".to_vec();
        let cases = [
            ("read", b"this is no component".to_vec(), "not WebAssembly"),
            ("compile", parses_not, "failed to parse"),
            ("contract", guest_bytes("other_world"), "leveret:routing"),
            ("trial", guest_bytes("traps_in_describe"), "describe"),
            ("swap", guest_bytes("example_02_exchange_type"), "drops the exchange type 'x-versioned'"),
            ("replay", guest_bytes("versioned_with_traps"), "could not be replayed"),
            ("swap", guest_bytes("versioned_v1"), "serves already"),
        ];
        for (count, (stage, bytes, reason)) in (1..).zip(cases) {
            let line = try_bytes(broker, &bytes, log_lines::CANDIDATE_REFUSED);
            assert!(line.contains(&format!("stage={stage}")) && line.contains(reason), "{line}");
            let told = candidate(broker);
            assert_eq!(told["refused"]["stage"], json!(stage), "{told}");
            assert_eq!((&told["state"], &told["version"]), (&json!("canary"), &json!("2.0.0")));
            publish_routed(&channel, &exchange, "k", b"x").await;
            assert_eq!((ready(&channel, &first).await, ready(&channel, &second).await), (1, count));
        }
        // The file that lies there is another one than the candidate: it is not what was tried.
        let said = plugin(broker, &["promote", "versioned"], 1);
        assert!(said.contains("another one by now"), "{said}");
        publish_routed(&channel, &exchange, "k", b"x").await;
        assert_eq!(ready(&channel, &first).await, 1);
    });
}

#[test]
fn a_candidate_needs_a_plugin_that_serves_and_is_taken_once_it_does() {
    let broker = leveret_testkit::Broker::start(super::asking::BINARY);
    let line = try_bytes(&broker, &guest_bytes("versioned_v2"), log_lines::CANDIDATE_REFUSED);
    assert!(line.contains("stage=swap") && line.contains("no plugin versioned in service"), "{line}");
    assert_eq!(candidate(&broker)["state"], json!("refused"));
    let shown = plugin(&broker, &["candidate", "versioned"], 0);
    assert!(shown.contains("candidate refused") && shown.contains("at stage swap"), "{shown}");
    super::deploy::deploy(&broker, super::deploy::Way::Renamed, "versioned_v1", FILE);
    broker.wait_for_log(log_lines::CANDIDATE_TAKEN, leveret_testkit::EVENT_WAIT_MAX);
    assert!(candidate(&broker).get("refused").is_none());
}
