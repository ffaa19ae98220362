//! The four types by their tables, and hundreds of bindings.

use super::session::*;
use lapin::options::{BasicPublishOptions, ExchangeBindOptions, ExchangeDeleteOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel};
use leveret_testkit::workspace;
use serde_json::Value;
use std::collections::BTreeMap;

fn table(name: &str) -> Value {
    let path = workspace().join("tests/interop/cases").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn fields(json: &Value) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in json.as_object().into_iter().flatten() {
        let value = match value {
            Value::Null => AMQPValue::Void,
            Value::Bool(value) => AMQPValue::Boolean(*value),
            Value::Number(value) => AMQPValue::LongLongInt(value.as_i64().unwrap()),
            Value::String(value) => AMQPValue::LongString(value.as_str().into()),
            other => panic!("no field value: {other}"),
        };
        table.insert(name.as_str().into(), value);
    }
    table
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

async fn check_routes(
    channel: &Channel,
    exchange: &ShortString,
    queues: &BTreeMap<&str, ShortString>,
    routes: &Value,
) {
    for route in routes.as_array().unwrap() {
        let key = text(&route["key"]);
        assert!(publish(channel, exchange, key, b"x", false).await.unwrap().is_ack());
        let wanted: Vec<&str> = route["queues"].as_array().unwrap().iter().map(text).collect();
        for (name, queue) in queues {
            let copies = usize::from(wanted.contains(name));
            assert_eq!(drain(channel, queue).await.len(), copies, "copies for the key {key:?} in {name}");
        }
    }
}

#[test]
fn topic_by_its_table() {
    on_broker_under_test(async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let table = table("topic.json");
        let bindings = table["bindings"].as_array().unwrap();
        assert_eq!(bindings.len(), 27);
        let exchange = own_exchange(&channel, "topic").await;
        let mut queues = BTreeMap::new();
        for binding in bindings {
            let name = text(&binding["queue"]);
            if !queues.contains_key(name) {
                queues.insert(name, own_queue(&channel).await);
            }
            let arguments = fields(&binding["arguments"]);
            bind(&channel, &queues[name], &exchange, text(&binding["pattern"]), arguments).await;
        }
        check_routes(&channel, &exchange, &queues, &table["routes"]).await;
        for index in table["unbind"].as_array().unwrap() {
            let binding = &bindings[usize::try_from(index.as_u64().unwrap()).unwrap()];
            let (queue, pattern) = (queues[text(&binding["queue"])].clone(), text(&binding["pattern"]));
            let arguments = fields(&binding["arguments"]);
            channel.queue_unbind(queue, exchange.clone(), pattern.into(), arguments).await.unwrap();
        }
        check_routes(&channel, &exchange, &queues, &table["routes_after"]).await;
    });
}

#[test]
fn headers_by_its_table() {
    on_broker_under_test(async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let table = table("headers.json");
        let cases = table["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 27);
        for case in cases {
            let exchange = own_exchange(&channel, "headers").await;
            let queue = own_queue(&channel).await;
            bind(&channel, &queue, &exchange, "ignored", fields(&case["arguments"])).await;
            let properties = match &case["headers"] {
                Value::Null => BasicProperties::default(),
                headers => BasicProperties::default().with_headers(fields(headers)),
            };
            let options = BasicPublishOptions::default();
            assert!(
                publish_with(&channel, &exchange, "another", b"x", options, properties)
                    .await
                    .unwrap()
                    .is_ack()
            );
            let routed = drain(&channel, &queue).await.len() == 1;
            assert_eq!(routed, case["routed"].as_bool().unwrap(), "{}", case["name"]);
        }
    });
}

#[test]
fn direct_with_a_thousand_bindings() {
    on_broker_under_test(async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let exchange = own_exchange(&channel, "direct").await;
        let (even, odd) = (own_queue(&channel).await, own_queue(&channel).await);
        for number in 0..1000 {
            let queue = if number % 2 == 0 { &even } else { &odd };
            bind(&channel, queue, &exchange, &number.to_string(), FieldTable::default()).await;
        }
        for number in (0..1000).step_by(7) {
            publish(&channel, &exchange, &number.to_string(), b"x", true).await.unwrap();
            let (wanted, other) = if number % 2 == 0 { (&even, &odd) } else { (&odd, &even) };
            assert_eq!((drain(&channel, wanted).await.len(), drain(&channel, other).await.len()), (1, 0));
        }
        let returned = publish(&channel, &exchange, "1000", b"x", true).await.unwrap().take_message();
        assert!(returned.is_some(), "a key that is not bound routes nowhere");
    });
}

#[test]
fn fanout_to_a_hundred_queues() {
    on_broker_under_test(async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let exchange = own_exchange(&channel, "fanout").await;
        let mut queues = Vec::new();
        for _ in 0..100 {
            let queue = own_queue(&channel).await;
            bind(&channel, &queue, &exchange, "", FieldTable::default()).await;
            queues.push(queue);
        }
        assert!(publish(&channel, &exchange, "any", b"x", true).await.unwrap().is_ack());
        for queue in &queues {
            assert_eq!(drain(&channel, queue).await, [b"x"]);
        }
    });
}

#[test]
fn exchanges_in_a_row() {
    on_broker_under_test(async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let mut row = Vec::new();
        for kind in ["fanout", "topic", "headers", "direct"] {
            row.push(own_exchange(&channel, kind).await);
        }
        for pair in row.windows(2) {
            let (source, destination) = (pair[0].clone(), pair[1].clone());
            let (options, arguments) = (ExchangeBindOptions::default(), FieldTable::default());
            channel.exchange_bind(destination, source, "a.b".into(), options, arguments).await.unwrap();
        }
        let queue = own_queue(&channel).await;
        bind(&channel, &queue, &row[3], "a.b", FieldTable::default()).await;
        publish(&channel, &row[0], "a.b", b"routed", false).await.unwrap();
        publish(&channel, &row[0], "a.c", b"stopped by the topic", false).await.unwrap();
        assert_eq!(drain(&channel, &queue).await, [b"routed"]);
        channel.exchange_delete(row[1].clone(), ExchangeDeleteOptions::default()).await.unwrap();
        publish(&channel, &row[2], "a.b", b"from the middle", false).await.unwrap();
        assert_eq!(drain(&channel, &queue).await, [b"from the middle".as_slice()]);
    });
}
