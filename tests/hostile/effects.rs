//! Plugins that were granted much and take more: each quota holds, and what it is not granted belongs to
//! others stays theirs.

use super::asking::get;
use super::everywhere::{Evil, declare, exchange, routes_again};
use super::session::*;
use lapin::Channel;
use lapin::options::QueueDeclareOptions;
use lapin::types::{FieldTable, ShortString};
use leveret_testkit::{EVENT_WAIT_MAX, process};
use serde_json::Value;
use std::process::Command;

/// Enough time to come to the other limits.
const SLOW: &str = "cpu-per-call-ms = 1000";

async fn victim(channel: &Channel) -> ShortString {
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    channel.queue_declare("victim".into(), options, FieldTable::default()).await.unwrap().name().clone()
}

#[test]
fn more_effects_than_a_call_may_have() {
    let evil = Evil::with(SLOW, "");
    evil.beside_a_neighbour(async |connection| {
        let channel = confirming(connection).await;
        let victim = victim(&channel).await;
        bind(&channel, &victim, &"amq.fanout".into(), "", FieldTable::default()).await;
        for way in ["emit", "enqueue", "set"] {
            let (exchange, queue) = exchange(&channel, &format!("route {way}")).await;
            let confirm = publish(&channel, &exchange, "evil", b"evil", false).await.unwrap();
            assert!(confirm.is_nack(), "{way}: {confirm:?}");
            let seen = evil.seen();
            let last = seen["failures"]["last_error"].as_str().unwrap();
            assert!(
                last.contains("more than 10000 effects, or 32 MiB of messages, in one call"),
                "{way}: {last}"
            );
            routes_again(&channel, &exchange, &queue).await;
        }
        // Not one of them took place.
        assert!(drain(&channel, &victim).await.is_empty());
        for (way, kept) in [("put", 10_000), ("keep", 20_000)] {
            let (exchange, queue) = exchange(&channel, &format!("route {way}")).await;
            bind(&channel, &victim, &exchange, "evil", FieldTable::default()).await;
            let confirm = publish(&channel, &exchange, "evil", b"evil", false).await.unwrap();
            assert!(confirm.is_ack(), "it is told that there is no room, and goes on: {confirm:?}");
            routes_again(&channel, &exchange, &queue).await;
            assert_eq!(evil.seen()["state_entries"], kept, "{way}");
        }
    });
}

#[test]
fn a_copy_of_a_large_message_many_times() {
    let evil = Evil::with(SLOW, "");
    evil.beside_a_neighbour(async |connection| {
        let channel = confirming(connection).await;
        let victim = victim(&channel).await;
        let (exchange, queue) = exchange(&channel, "route enqueue").await;
        let confirm = publish(&channel, &exchange, "evil", &vec![b'x'; 1 << 20], false).await.unwrap();
        assert!(confirm.is_nack(), "{confirm:?}");
        assert!(drain(&channel, &victim).await.is_empty());
        routes_again(&channel, &exchange, &queue).await;
    });
}

/// A message that is kept once comes once, however often it is named; what was never given, not at all.
#[test]
fn stored_messages_that_are_named_again_and_again_or_were_never_given() {
    let evil = Evil::with(SLOW, "");
    evil.beside_a_neighbour(async |connection| {
        let channel = confirming(connection).await;
        for (told, arrive) in [("route keep; bound ids", 1), ("bound forge", 0)] {
            let (exchange, _) = exchange(&channel, told).await;
            publish(&channel, &exchange, "evil", b"kept", false).await.unwrap();
            let queue = own_queue(&channel).await;
            bind(&channel, &queue, &exchange, "evil", FieldTable::default()).await;
            assert_eq!(drain(&channel, &queue).await.len(), arrive, "{told}");
        }
    });
}

fn held(evil: &Evil, exchange: &ShortString) -> u64 {
    get(&evil.broker, &format!("holds/%2F/{exchange}"))["count"].as_u64().unwrap()
}

#[test]
fn messages_that_others_hold() {
    let evil = Evil::with("", "");
    evil.beside_a_neighbour(async |connection| {
        let channel = confirming(connection).await;
        let holding = declare(&channel, "route hold").await.unwrap();
        for _ in 0..3 {
            assert!(publish(&channel, &holding, "evil", b"x", false).await.unwrap().is_ack());
        }
        assert_eq!(held(&evil, &holding), 3);
        let (exchange, queue) = exchange(&channel, "route cancel").await;
        bind(&channel, &queue, &exchange, "evil", FieldTable::default()).await;
        assert!(publish(&channel, &exchange, "evil", b"x", false).await.unwrap().is_ack());
        assert_eq!(drain(&channel, &queue).await.len(), 1);
        assert_eq!(held(&evil, &holding), 3, "numbers of another exchange's are no use");
    });
}

#[test]
fn lines_metrics_and_reasons_without_end() {
    let evil = Evil::with(SLOW, "");
    evil.beside_a_neighbour(async |connection| {
        let channel = confirming(connection).await;
        let (spamming, queue) = exchange(&channel, "route spam").await;
        let confirm = publish(&channel, &spamming, "evil", b"x", false).await.unwrap();
        assert!(confirm.is_ack(), "{confirm:?}");
        routes_again(&channel, &spamming, &queue).await;
        let (dropping, _) = exchange(&channel, "route reasons").await;
        for _ in 0..100 {
            assert!(publish(&channel, &dropping, "evil", b"x", true).await.unwrap().is_ack());
        }
    });
    let seen = evil.seen();
    assert_eq!(seen["metrics"].as_object().unwrap().len(), 64);
    let ignored = seen["metrics_ignored"].as_u64().unwrap();
    // Those without a place, and the gauge that is no number; and once more as many of them as there were
    // when the call was cut off on a worker and made again in the slow lane.
    let once = 20_000 - 64 + 20_000;
    assert!((once..2 * once).contains(&ignored), "{ignored}");
    let drops = seen["drops"].as_array().unwrap();
    let dropped = |drop: &Value| drop["messages"].as_u64().unwrap();
    assert_eq!(drops.iter().map(dropped).sum::<u64>(), 100);
    assert!(drops.len() <= 65, "{} reasons are told apart", drops.len());
    let lines = evil.broker.log().lines().filter(|line| line.contains("leveret::plugin::log")).count();
    assert!(lines <= 3 * 21, "{lines} lines of 20,000 came to the log");
    // And the operator's command can show all of it.
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.args(["plugin", "info", "x-evil", "--data-dir"]).arg(evil.broker.data_directory());
    let shown = process::run(&mut command, EVENT_WAIT_MAX).unwrap();
    assert!(shown.status.success() && shown.stdout.contains("metric"), "{}", shown.report());
}
