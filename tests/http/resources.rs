//! RabbitMQ's resources, as RabbitMQ 4.3 answered for the same exchanges, queues and bindings.

use super::{
    asking::{BINARY, GUEST, TYPES, get, get_as, json_of},
    session::{confirming, connect, on_broker, publish},
};
use lapin::{
    Channel, Connection, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicGetOptions, ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable, LongString},
};
use leveret_testkit::{Broker, workspace};
use serde_json::{Value, json};

/// What RabbitMQ answered, less the fields that are not served here.
fn rabbitmq(name: &str) -> Value {
    let path = workspace().join("tests/http/rabbitmq").join(name).with_extension("json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    // The node is this broker's.
    serde_json::from_str(&text.replace("bench@localhost", "leveret@127.0.0.1")).unwrap()
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}

fn table(fields: Vec<(&str, AMQPValue)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in fields {
        table.insert(name.into(), value);
    }
    table
}

/// The exchanges, the queue, the bindings and the one message that the files show.
async fn declare(channel: &Channel) {
    let topic = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let alternate = table(vec![("alternate-exchange", text("fx.rest"))]);
    channel.exchange_declare("fx.orders".into(), ExchangeKind::Topic, topic, alternate).await.unwrap();
    let inner = ExchangeDeclareOptions { auto_delete: true, internal: true, ..Default::default() };
    channel
        .exchange_declare("fx.rest".into(), ExchangeKind::Fanout, inner, FieldTable::default())
        .await
        .unwrap();
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    let arguments = table(vec![("x-max-length", AMQPValue::LongInt(10)), ("x-queue-type", text("classic"))]);
    channel.queue_declare("fx.work".into(), durable, arguments).await.unwrap();
    let with_arguments = table(vec![
        ("a", AMQPValue::LongInt(1)),
        ("b", text("x")),
        ("c", AMQPValue::Boolean(true)),
        ("d", AMQPValue::Double(1.5)),
    ]);
    let bindings =
        [("order.*", with_arguments), ("plain.#", FieldTable::default()), ("", FieldTable::default())];
    for (key, arguments) in bindings {
        let options = QueueBindOptions::default();
        channel
            .queue_bind("fx.work".into(), "fx.orders".into(), key.into(), options, arguments)
            .await
            .unwrap();
    }
    let (options, key) = (ExchangeBindOptions::default(), "x y/z~é".into());
    let nothing = FieldTable::default();
    channel.exchange_bind("fx.rest".into(), "fx.orders".into(), key, options, nothing).await.unwrap();
    assert!(publish(channel, &"".into(), "fx.work", b"hi", true).await.unwrap().is_ack());
}

/// The connection keeps what was declared alive.
async fn declared(broker: &Broker) -> Connection {
    let connection = connect(broker).await;
    declare(&confirming(&connection).await).await;
    connection
}

/// What was counted is looked at elsewhere.
fn without_numbers(mut answer: Value) -> Value {
    match &mut answer {
        Value::Object(fields) => {
            let is_number =
                |name: &str| name.ends_with("_details") || ["message_stats", "churn_rates"].contains(&name);
            fields.retain(|name, _| !is_number(name));
            fields.values_mut().for_each(|value| *value = without_numbers(value.take()));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| *value = without_numbers(value.take())),
        _ => {}
    }
    answer
}

/// A binding's key is the broker's own business where there are arguments; it must be there.
fn without_digests(mut bindings: Value) -> Value {
    for binding in bindings.as_array_mut().expect("a list") {
        if binding["arguments"].as_object().is_some_and(|arguments| !arguments.is_empty()) {
            let key = binding["properties_key"].as_str().expect("a key");
            let (routing_key, digest) = key.rsplit_once('~').expect("a key with a digest");
            assert!(!digest.is_empty(), "{binding}");
            binding["properties_key"] = json!(format!("{routing_key}~"));
        }
    }
    bindings
}

#[test]
fn exchanges_and_queues_have_rabbitmqs_json() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let _connection = declared(broker).await;
        let cases = [
            ("whoami", "whoami"),
            ("vhosts", "vhosts"),
            ("vhosts/%2F", "vhost"),
            ("exchanges", "exchanges"),
            ("exchanges/%2F", "exchanges"),
            ("exchanges/%2f/fx.orders", "exchange"),
            ("exchanges/%2F/amq.default", "default-exchange"),
        ];
        for (path, file) in cases {
            assert_eq!(without_numbers(get(broker, path)), rabbitmq(file), "{path}");
        }
        let mut queue = rabbitmq("queue");
        // What is of this run.
        queue["node"] = json!("leveret@127.0.0.1");
        assert_eq!(without_numbers(get(broker, "queues/%2F/fx.work")), queue);
        // Lists of RabbitMQ's are shorter.
        for field in ["exclusive_consumer_tag", "single_active_consumer_tag"] {
            queue.as_object_mut().unwrap().remove(field);
        }
        assert_eq!(without_numbers(get(broker, "queues")), json!([queue]));
        assert_eq!(without_numbers(get(broker, "queues/%2F")), json!([queue]));
    });
}

#[test]
fn bindings_have_rabbitmqs_json_and_order() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let _connection = declared(broker).await;
        let cases = [
            ("bindings", "bindings"),
            ("bindings/%2F", "bindings"),
            ("exchanges/%2F/fx.orders/bindings/source", "bindings-from-exchange"),
            ("exchanges/%2F/fx.rest/bindings/destination", "bindings-to-exchange"),
            ("exchanges/%2F/amq.default/bindings/source", "bindings-from-default-exchange"),
            ("queues/%2F/fx.work/bindings", "bindings-to-queue"),
        ];
        for (path, file) in cases {
            assert_eq!(without_digests(get(broker, path)), rabbitmq(file), "{path}");
        }
        assert_eq!(get(broker, "exchanges/%2F/fx.orders/bindings/destination"), json!([]));
    });
}

#[test]
fn the_overview_counts_and_says_where_to_connect() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let _connection = declared(broker).await;
        let mut overview = without_numbers(get(broker, "overview"));
        let types = overview["exchange_types"].take();
        let names: Vec<&str> = types.as_array().unwrap().iter().filter_map(|t| t["name"].as_str()).collect();
        assert_eq!(names, TYPES);
        for exchange_type in types.as_array().unwrap() {
            assert_eq!(exchange_type["enabled"], true);
            assert!(!exchange_type["description"].as_str().unwrap().is_empty(), "{exchange_type}");
        }
        let mut expected = rabbitmq("overview");
        // What is this broker's own, and of this run.
        expected["product_name"] = json!("Leveret");
        expected["product_version"] = json!(env!("CARGO_PKG_VERSION"));
        expected["cluster_name"] = json!("leveret@127.0.0.1");
        expected["node"] = json!("leveret@127.0.0.1");
        for version in ["management_version", "rabbitmq_version"] {
            expected[version] = json!(env!("CARGO_PKG_VERSION"));
        }
        expected["contexts"] = json!([{
            "description": "management", "node": "leveret@127.0.0.1", "ip": "127.0.0.1",
            "port": broker.http_address().port().to_string(), "path": "/"
        }]);
        expected["exchange_types"] = Value::Null;
        for (at, port) in
            [broker.address(), broker.http_address()].map(|address| address.port()).into_iter().enumerate()
        {
            expected["listeners"][at]["port"] = json!(port);
        }
        assert_eq!(overview, expected);
    });
}

#[test]
fn counts_follow_what_consumers_do() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let connection = declared(broker).await;
        let channel = connection.create_channel().await.unwrap();
        let counts = || {
            let queue = get(broker, "queues/%2F/fx.work");
            ["messages", "messages_ready", "messages_unacknowledged", "consumers"]
                .map(|field| queue[field].as_u64().expect("a number"))
        };
        assert_eq!(counts(), [1, 1, 0, 0]);
        let got = channel.basic_get("fx.work".into(), BasicGetOptions::default()).await.unwrap().unwrap();
        assert_eq!(counts(), [1, 0, 1, 0]);
        let options = BasicConsumeOptions::default();
        let nothing = FieldTable::default();
        let _consumer = channel.basic_consume("fx.work".into(), "c".into(), options, nothing).await.unwrap();
        assert_eq!(counts(), [1, 0, 1, 1]);
        assert_eq!(get(broker, "overview")["object_totals"]["consumers"], 1);
        got.delivery.acker.ack(Default::default()).await.unwrap();
        // Answered after the acknowledgement was handled.
        channel.basic_qos(1, Default::default()).await.unwrap();
        assert_eq!(counts(), [0, 0, 0, 1]);
        assert_eq!(get(broker, "vhosts/%2F")["messages"], 0);
    });
}

#[test]
fn what_is_not_there_is_404_and_other_methods_are_405() {
    on_broker(&Broker::builder(BINARY).argument("--vhosts").argument("/,a/b").start(), async |broker| {
        let missing = [
            "no-such-thing",
            "vhosts/none",
            "exchanges/none",
            "exchanges/%2F/none",
            "exchanges/%2F/none/bindings/source",
            "exchanges/%2F/none/bindings/destination",
            "exchanges/%2F/amq.direct/bindings",
            "exchanges/%2F/%FF",
            "queues/none",
            "queues/%2F/none",
            "queues/%2F/none/bindings",
            "bindings/none",
            "plugins/none",
        ];
        for path in missing {
            let answer = get_as(broker, Some(GUEST), path);
            assert_eq!(answer.status(), 404, "{path}");
            assert_eq!(
                json_of(&answer),
                json!({"error": "Object Not Found", "reason": "Not Found"}),
                "{path}"
            );
        }
        let message =
            br#"{"properties": {}, "routing_key": "", "payload": "", "payload_encoding": "string"}"#;
        let wanted = br#"{"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}"#;
        for (path, body, why) in [
            ("exchanges/%2F/none/publish", &message[..], "exchange_not_found"),
            ("exchanges/none/none/publish", message, "vhost_not_found"),
            ("queues/%2F/none/get", wanted, "queue_not_found"),
            ("queues/none/none/get", wanted, "vhost_not_found"),
            ("bindings/none/e/amq.direct/q/none", b"{}", "vhost_not_found"),
        ] {
            let answer = super::asking::post(broker, path, "application/json", body);
            assert_eq!(answer.status(), 404, "{path}");
            assert_eq!(json_of(&answer), json!({ "error": "not_found", "reason": why }), "{path}");
        }
        for path in ["queues/none/q", "exchanges/none/x"] {
            let answer = super::asking::put(broker, path, &json!({}));
            assert_eq!(json_of(&answer)["reason"], "vhost_not_found", "{path}");
        }
        let answer = super::asking::post(broker, "exchanges", "application/json", b"{}");
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["allow"]),
            (405, &"GET,HEAD".parse().unwrap())
        );
        let vhosts = get(broker, "vhosts");
        let names: Vec<&str> = vhosts.as_array().unwrap().iter().filter_map(|v| v["name"].as_str()).collect();
        assert_eq!(names, ["/", "a/b"]);
        assert_eq!(get(broker, "exchanges/a%2Fb/amq.topic")["vhost"], "a/b");
        assert_eq!(get(broker, "exchanges").as_array().unwrap().len(), 14);
    });
}

#[test]
fn a_quorum_queue_shows_its_one_replica_and_the_log_says_so_once() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        for name in ["first", "second"] {
            let arguments = table(vec![("x-queue-type", text("quorum"))]);
            channel.queue_declare(name.into(), durable, arguments).await.unwrap();
        }
        let queue = get(broker, "queues/%2F/first");
        assert_eq!((&queue["type"], &queue["leader"]), (&json!("quorum"), &queue["members"][0]));
        for replicas in ["members", "online"] {
            assert_eq!(queue[replicas].as_array().map(Vec::len), Some(1), "{queue}");
        }
        assert_eq!(get(broker, "overview")["quorum_queues_with_one_replica"], json!(2));
        assert_eq!(broker.log().matches("there is no replication yet").count(), 1);
    });
}

#[test]
fn quorum_queues_are_refused_and_another_product_is_announced_where_that_is_configured() {
    let broker = Broker::builder(BINARY)
        .argument("--quorum=refuse")
        .argument("--announced-product=RabbitMQ")
        .argument("--announced-version=4.3.0")
        .start();
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        let arguments = table(vec![("x-queue-type", text("quorum"))]);
        let refused = channel.queue_declare("q".into(), durable, arguments).await.unwrap_err();
        assert!(refused.to_string().contains("refuses quorum queues"), "{refused}");
        let channel = confirming(&connection).await;
        let arguments = table(vec![("x-queue-type", text("classic"))]);
        channel.queue_declare("q".into(), durable, arguments).await.unwrap();
        let overview = get(broker, "overview");
        assert_eq!(
            (&overview["product_name"], &overview["product_version"]),
            (&json!("RabbitMQ"), &json!("4.3.0"))
        );
    });
}
