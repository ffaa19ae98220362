//! Interceptors that misbehave: each message that they fail on meets the failure policy, the others pass.

use super::everywhere::Evil;
use super::session::*;
use lapin::Channel;
use lapin::types::{FieldTable, ShortString};
use leveret_testkit::EVENT_WAIT_MAX;

/// Attached to the exchange that is named like the way.
fn attached(way: &str, more: &str) -> String {
    format!(
        "[[intercept]]\ninterceptor = \"evil\"\npoint = \"publish\"\norder = 1\nexchange = \"{way}\"\n\
         arguments = {{ how = \"{way}\" }}\n{more}\n"
    )
}

/// A direct exchange of that name, with a queue bound by `good` and `evil`.
async fn exchange(channel: &Channel, name: &str) -> (ShortString, ShortString) {
    let exchange = ShortString::from(name);
    declare_exchange(channel, &exchange, "direct").await.unwrap();
    let queue = own_queue(channel).await;
    for key in ["good", "evil"] {
        bind(channel, &queue, &exchange, key, FieldTable::default()).await;
    }
    (exchange, queue)
}

/// What interceptors do with the key `evil`.
const WAYS: [&str; 8] = ["trap", "loop", "memory", "changes", "values", "bytes", "body", "class"];

#[test]
fn each_way_meets_the_failure_policy() {
    for (policy, passes) in [("reject", false), ("bypass", true)] {
        let tables: String =
            WAYS.iter().map(|way| attached(way, &format!("on-failure = \"{policy}\""))).collect();
        let evil = Evil::with("", &tables);
        evil.beside_a_neighbour(async |connection| {
            let channel = confirming(connection).await;
            for way in WAYS {
                let (exchange, queue) = exchange(&channel, way).await;
                assert!(publish(&channel, &exchange, "good", b"good", true).await.unwrap().is_ack(), "{way}");
                assert_eq!(drain(&channel, &queue).await, [b"good"]);
                let confirm = publish(&channel, &exchange, "evil", b"evil", true).await.unwrap();
                assert_eq!(confirm.is_ack(), passes, "{way}, {policy}: {confirm:?}");
                assert_eq!(drain(&channel, &queue).await.len(), usize::from(passes), "{way}, {policy}");
                // As soon as it is asked again, if it was set aside.
                while !publish(&channel, &exchange, "good", b"good", true).await.unwrap().is_ack() {}
                drain(&channel, &queue).await;
            }
        });
        // Of many failures in a second one is told.
        let line = evil.broker.wait_for_log("the plugin failed: ", EVENT_WAIT_MAX);
        assert!(line.contains("plugin=\"evil_interceptor\"") && line.contains("unreachable"), "{line}");
    }
}

#[test]
fn odd_but_allowed() {
    let evil = Evil::with("", &[attached("not-a-number", ""), attached("drop", "")].concat());
    evil.beside_a_neighbour(async |connection| {
        let channel = confirming(connection).await;
        let (numbers, queue) = exchange(&channel, "not-a-number").await;
        assert!(publish(&channel, &numbers, "evil", b"x", true).await.unwrap().is_ack());
        let delivery = get(&channel, &queue, true).await.unwrap();
        let headers = delivery.properties.headers().clone().unwrap();
        match headers.inner().get("not-a-number") {
            Some(lapin::types::AMQPValue::Double(number)) => assert!(number.is_nan()),
            other => panic!("{other:?}"),
        }
        let (dropping, queue) = exchange(&channel, "drop").await;
        let confirm = publish(&channel, &dropping, "evil", b"x", true).await.unwrap();
        assert!(confirm.is_ack() && confirm.take_message().is_none(), "confirmed, and not returned");
        assert!(drain(&channel, &queue).await.is_empty());
    });
    assert!(
        !evil.broker.log().lines().any(|line| line.starts_with("2026-01-01T00:00:00Z")),
        "a line was forged"
    );
}

/// What is printed without end is mostly left out, and slows nobody else.
#[test]
fn printing_without_end() {
    // Time enough to print: that it takes some is another limit.
    let slow = "[plugins.evil_interceptor]\ncpu-per-call-ms = 1000\n";
    let evil = Evil::with("", &[slow, &attached("spam", "")].concat());
    evil.beside_a_neighbour(async |connection| {
        let channel = confirming(connection).await;
        let (exchange, queue) = exchange(&channel, "spam").await;
        for _ in 0..5 {
            assert!(publish(&channel, &exchange, "good", b"x", true).await.unwrap().is_ack());
        }
        assert_eq!(drain(&channel, &queue).await.len(), 5);
    });
    let log = evil.broker.log();
    let lines = log.lines().filter(|line| line.contains("stream=\"stderr\"")).count();
    // Twenty in each second that passed.
    assert!(lines < 500, "{lines} lines of 5,000 came to the log");
}
