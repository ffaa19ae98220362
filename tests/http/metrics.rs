//! `/metrics`, as Prometheus asks for it: beside the API with credentials, at an address of its own without.

use super::{
    asking::{BINARY, GUEST, delete, get, put, raw, until_closed},
    session::{confirming, connect, on_broker, own_queue, publish},
};
use leveret_testkit::{Broker, EVENT_WAIT_MAX};
use serde_json::json;
use std::{collections::BTreeMap, net::SocketAddr};

/// An answer as text, head and all.
fn ask(address: SocketAddr, path: &str, head: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nconnection: close\r\n{head}\r\n");
    until_closed(raw(address), request.as_bytes())
}

fn metrics(broker: &Broker, path: &str) -> String {
    ask(broker.http_address(), path, &format!("host: localhost\r\nauthorization: {GUEST}\r\n"))
}

/// The values by name and labels.
fn values(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|line| line.starts_with("rabbitmq_") || line.starts_with("leveret_"));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name, value.parse().unwrap()))
        .collect()
}

#[test]
fn sums_have_rabbitmqs_names_and_go_up_when_channels_are_gone() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let queue = own_queue(&channel).await;
        put(
            broker,
            "queues/%2F/quorum",
            &json!({ "durable": true, "arguments": { "x-queue-type": "quorum" } }),
        );
        assert!(publish(&channel, &"".into(), queue.as_str(), &[b'm'; 200], true).await.unwrap().is_ack());
        assert!(publish(&channel, &"".into(), "nowhere", b"m", false).await.unwrap().is_ack());
        for is_gone in [false, true] {
            if is_gone {
                channel.close(200, "done".into()).await.unwrap();
            }
            let text = metrics(broker, "/metrics");
            assert!(text.starts_with("HTTP/1.1 200"), "{text}");
            assert!(text.contains("content-type: text/plain; version=0.0.4"), "{text}");
            let values = values(&text);
            for (name, expected) in [
                ("rabbitmq_queue_messages_ready", 1.0),
                ("rabbitmq_connections", 1.0),
                ("rabbitmq_channels", if is_gone { 0.0 } else { 1.0 }),
                ("rabbitmq_channels_opened_total", 1.0),
                ("rabbitmq_channels_closed_total", if is_gone { 1.0 } else { 0.0 }),
                ("rabbitmq_queues_created_total", 2.0),
                ("leveret_quorum_queues_with_one_replica", 1.0),
                ("rabbitmq_global_publishers{protocol=\"amqp091\"}", if is_gone { 0.0 } else { 1.0 }),
                ("rabbitmq_global_messages_received_total{protocol=\"amqp091\"}", 2.0),
                ("rabbitmq_global_messages_confirmed_total{protocol=\"amqp091\"}", 2.0),
                ("rabbitmq_global_messages_routed_total{protocol=\"amqp091\"}", 1.0),
                ("rabbitmq_global_messages_unroutable_dropped_total{protocol=\"amqp091\"}", 1.0),
                (
                    "rabbitmq_global_messages_delivered_total{protocol=\"amqp091\",queue_type=\"rabbit_classic_queue\"}",
                    0.0,
                ),
                ("rabbitmq_message_size_bytes_bucket{protocol=\"amqp091\",le=\"100\"}", 1.0),
                ("rabbitmq_message_size_bytes_bucket{protocol=\"amqp091\",le=\"1e+06\"}", 2.0),
                ("rabbitmq_message_size_bytes_bucket{protocol=\"amqp091\",le=\"+Inf\"}", 2.0),
                ("rabbitmq_message_size_bytes_sum{protocol=\"amqp091\"}", 201.0),
                ("rabbitmq_auth_attempts_succeeded_total", 1.0),
            ] {
                assert_eq!(values.get(name), Some(&expected), "{name} in {text}");
            }
            assert!(values["rabbitmq_process_resident_memory_bytes"] > 1e6);
            assert!(values["rabbitmq_process_open_fds"] < values["rabbitmq_process_max_fds"]);
            assert!(!text.contains(queue.as_str()), "sums alone");
        }
    });
}

#[test]
fn queues_are_told_of_one_by_one_at_a_path_of_their_own() {
    let broker = Broker::start(BINARY);
    put(&broker, "queues/%2F/q%22uoted", &json!({}));
    let text = metrics(&broker, "/metrics/per-object");
    let values = values(&text);
    assert_eq!(values["rabbitmq_queue_messages_ready{vhost=\"/\",queue=\"q\\\"uoted\"}"], 0.0, "{text}");
    assert_eq!(values["leveret_metrics_queues_left_out"], 0.0);
    let head =
        format!("host: localhost\r\nauthorization: {GUEST}\r\naccept: application/openmetrics-text\r\n");
    let text = ask(broker.http_address(), "/metrics", &head);
    assert!(text.contains("content-type: application/openmetrics-text"), "{text}");
    assert!(text.trim_end().ends_with("# EOF"), "{text}");
}

#[test]
fn beside_the_api_metrics_are_for_who_monitors() {
    let broker = Broker::start(BINARY);
    let with = |head: &str| ask(broker.http_address(), "/metrics", head);
    assert!(with("host: localhost\r\n").starts_with("HTTP/1.1 401"));
    assert!(with(&format!("host: evil.example\r\nauthorization: {GUEST}\r\n")).starts_with("HTTP/1.1 4"));
    for (tag, status) in [("management", "401"), ("monitoring", "200")] {
        put(&broker, "users/m", &json!({ "password": "m", "tags": tag }));
        let answer = with("host: localhost\r\nauthorization: Basic bTpt\r\n");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{tag}: {answer}");
    }
}

#[test]
fn at_their_own_address_metrics_need_no_credentials_and_are_all_there_is() {
    let broker = Broker::builder(BINARY).argument("--metrics-listen=127.0.0.1:0").start();
    let line = broker.wait_for_log("metrics on http://", EVENT_WAIT_MAX);
    let address = line.split("metrics on http://").nth(1).and_then(|rest| rest.split('/').next()).unwrap();
    let address: SocketAddr = address.parse().unwrap();
    assert!(ask(address, "/metrics", "host: localhost\r\n").starts_with("HTTP/1.1 200"));
    assert!(ask(address, "/metrics/per-object", "host: localhost\r\n").starts_with("HTTP/1.1 200"));
    assert!(ask(address, "/api/overview", "host: localhost\r\n").starts_with("HTTP/1.1 404"));
    // A page of a browser on this machine that had its name turned here.
    assert!(ask(address, "/metrics", "host: evil.example\r\n").starts_with("HTTP/1.1 4"));
    assert_eq!(get(&broker, "whoami")["name"], "guest");
}

#[test]
fn metrics_need_no_http_api() {
    let broker = Broker::builder(BINARY).http_listen("none").argument("--metrics-listen=127.0.0.1:0").start();
    let line = broker.wait_for_log("metrics on http://", EVENT_WAIT_MAX);
    let address = line.split("metrics on http://").nth(1).and_then(|rest| rest.split('/').next()).unwrap();
    let text = ask(address.parse().unwrap(), "/metrics", "host: localhost\r\n");
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("rabbitmq_queues 0"), "{text}");
}

#[test]
fn what_was_counted_of_queues_stays_when_their_virtual_host_goes() {
    let broker = Broker::start(BINARY);
    put(&broker, "vhosts/v", &json!({}));
    for queue in ["a", "b", "c"] {
        assert_eq!(put(&broker, &format!("queues/v/{queue}"), &json!({})).status(), 201);
    }
    assert_eq!(delete(&broker, "queues/v/a").status(), 204);
    let counted = || {
        let text = metrics(&broker, "/metrics");
        let values = values(&text);
        ["declared", "created", "deleted"].map(|what| values[&*format!("rabbitmq_queues_{what}_total")])
    };
    assert_eq!(counted(), [3.0, 3.0, 1.0]);
    assert_eq!(delete(&broker, "vhosts/v").status(), 204);
    assert_eq!(counted(), [3.0, 3.0, 3.0]);
    put(&broker, "vhosts/v", &json!({}));
    put(&broker, "queues/v/a", &json!({}));
    assert_eq!(counted(), [4.0, 4.0, 3.0]);
}
