//! Consumers, and what is counted of messages: `/api/consumers`, `message_stats` and rates, by RabbitMQ's names.

use super::{
    asking::{BINARY, delete, get, get_as, json_of, put, send_as},
    session::{confirming, connect, get as got, on_broker, own_queue, publish},
};
use lapin::{
    options::{BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use leveret_testkit::Broker;
use serde_json::{Value, json};
use std::time::Instant;

/// The numbers of these names in a `message_stats`.
fn numbers<const N: usize>(stats: &Value, names: [&str; N]) -> [u64; N] {
    names.map(|name| {
        assert!(stats[format!("{name}_details")]["rate"].is_number(), "{name}: {stats}");
        stats[name].as_u64().unwrap_or_else(|| panic!("no {name} in {stats}"))
    })
}

#[test]
fn what_is_published_and_handed_out_is_counted_everywhere() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let queue: ShortString = "counted".into();
        let options = QueueDeclareOptions::default();
        channel.queue_declare(queue.clone(), options, FieldTable::default()).await.unwrap();
        channel
            .queue_bind(
                queue.clone(),
                "amq.fanout".into(),
                "".into(),
                Default::default(),
                FieldTable::default(),
            )
            .await
            .unwrap();
        for body in [b"a", b"b", b"c"] {
            assert!(publish(&channel, &"amq.fanout".into(), "", body, true).await.unwrap().is_ack());
        }
        assert!(publish(&channel, &"".into(), "counted", b"d", true).await.unwrap().is_ack());
        for mandatory in [true, false] {
            assert!(publish(&channel, &"".into(), "nowhere", b"e", mandatory).await.unwrap().is_ack());
        }
        let first = got(&channel, &queue, false).await.unwrap();
        first.acker.nack(BasicNackOptions { requeue: true, ..Default::default() }).await.unwrap();
        let again = got(&channel, &queue, false).await.unwrap();
        assert!(again.redelivered);
        again.acker.ack(BasicAckOptions::default()).await.unwrap();
        for _ in 0..3 {
            assert!(got(&channel, &queue, true).await.is_some());
        }
        assert!(got(&channel, &queue, true).await.is_none());
        let handed_out = ["deliver_get", "get", "get_no_ack", "get_empty", "redeliver", "ack", "deliver"];
        let expected = [5, 2, 3, 1, 1, 1, 0];
        let of_queue = &get(broker, "queues/%2F/counted")["message_stats"];
        assert_eq!(numbers(of_queue, ["publish"]), [4]);
        assert_eq!(numbers(of_queue, handed_out), expected);
        let of_exchange = |name: &str| {
            let stats = &get(broker, &format!("exchanges/%2F/{name}"))["message_stats"];
            numbers(stats, ["publish_in", "publish_out"])
        };
        assert_eq!((of_exchange("amq.fanout"), of_exchange("amq.default")), ([3, 3], [3, 1]));
        assert!(
            get(broker, "exchanges/%2F/amq.topic").get("message_stats").is_none(),
            "nothing was published"
        );
        let published = ["publish", "confirm", "return_unroutable", "drop_unroutable"];
        let of_channels = |stats: &Value| (numbers(stats, published), numbers(stats, handed_out));
        let all = ([6, 6, 1, 1], expected);
        assert_eq!(of_channels(&get(broker, "channels")[0]["message_stats"]), all);
        assert_eq!(of_channels(&get(broker, "overview")["message_stats"]), all);
        let octets = &get(broker, "connections")[0];
        assert!(numbers(octets, ["recv_oct", "send_oct"]).iter().all(|bytes| *bytes > 100), "{octets}");
        // What a channel counted stays in the sums when it is gone.
        channel.close(200, "done".into()).await.unwrap();
        assert_eq!(get(broker, "channels"), json!([]));
        assert_eq!(of_channels(&get(broker, "overview")["message_stats"]), all);
        assert_eq!(of_channels(&get(broker, "vhosts/%2F")["message_stats"]), all);
        let churn = &get(broker, "overview")["churn_rates"];
        let names =
            ["connection_created", "channel_created", "channel_closed", "queue_declared", "queue_created"];
        assert_eq!(numbers(churn, names), [1, 1, 1, 1, 1]);
    });
}

#[test]
fn the_overview_has_what_its_reader_may_see() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let queue = own_queue(&channel).await;
        assert!(publish(&channel, &"".into(), queue.as_str(), b"m", true).await.unwrap().is_ack());
        put(broker, "vhosts/other", &json!({}));
        put(broker, "queues/other/theirs", &json!({}));
        put(broker, "users/m", &json!({ "password": "m", "tags": "management" }));
        let all = json!({ "configure": ".*", "write": ".*", "read": ".*" });
        let seen = || json_of(&get_as(broker, Some("Basic bTpt"), "overview"));
        let counted = |seen: &Value| {
            let totals = &seen["object_totals"];
            (
                ["connections", "channels", "queues"].map(|what| totals[what].as_u64().unwrap()),
                seen["queue_totals"]["messages"].as_u64().unwrap(),
                seen["message_stats"]["publish"].as_u64().unwrap_or(0),
            )
        };
        put(broker, "permissions/other/m", &all);
        assert_eq!(counted(&seen()), ([0, 0, 1], 0, 0));
        for hidden in ["node", "listeners", "contexts"] {
            assert!(seen().get(hidden).is_none(), "{hidden}");
        }
        assert!(seen()["object_totals"].get("consumers").is_none());
        // The connection is another's all the same.
        put(broker, "permissions/%2F/m", &all);
        assert_eq!(counted(&seen()), ([0, 0, 2], 1, 1));
        put(broker, "users/m", &json!({ "password": "m", "tags": "monitoring" }));
        delete(broker, "permissions/%2F/m");
        assert_eq!(counted(&seen()), ([1, 1, 2], 1, 1));
        assert!(seen()["node"].is_string() && seen()["object_totals"]["consumers"] == 0);
    });
}

#[test]
fn rates_are_those_of_the_last_seconds() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let queue = own_queue(&channel).await;
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let _consumer =
            channel.basic_consume(queue.clone(), "".into(), options, FieldTable::default()).await.unwrap();
        let rate = |path: &str, name: &str| {
            get(broker, path)["message_stats"][format!("{name}_details")]["rate"].as_f64().unwrap()
        };
        let path = format!("queues/%2F/{queue}");
        let begin = Instant::now();
        let mut published = 0.0;
        // Until it was looked at in between, which is every five seconds.
        loop {
            for _ in 0..50 {
                publish(&channel, &"".into(), queue.as_str(), b"m", true).await.unwrap();
                published += 1.0;
            }
            if rate(&path, "publish") > 0.0 {
                break;
            }
        }
        let rates = [rate(&path, "deliver_no_ack"), rate("overview", "publish"), rate(&path, "publish")];
        assert!(rates.iter().all(|rate| *rate > 0.0 && *rate <= published), "{rates:?} of {published}");
        assert_eq!(rate(&path, "ack"), 0.0);
        assert!(begin.elapsed().as_secs_f64() > 0.0);
    });
}

#[test]
fn consumers_are_listed_with_what_they_said() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let mut arguments = FieldTable::default();
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        let declare = QueueDeclareOptions::default();
        channel.queue_declare("one by one".into(), declare, arguments).await.unwrap();
        channel.basic_qos(7, BasicQosOptions::default()).await.unwrap();
        let mut arguments = FieldTable::default();
        arguments.insert("x-priority".into(), AMQPValue::LongInt(3));
        let options = BasicConsumeOptions::default();
        let queue: ShortString = "one by one".into();
        let _first = channel.basic_consume(queue.clone(), "first".into(), options, arguments).await.unwrap();
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let nothing = FieldTable::default();
        let _second = channel.basic_consume(queue, "second".into(), options, nothing).await.unwrap();
        let name = get(broker, "connections")[0]["name"].as_str().unwrap().to_owned();
        let mut consumers = get(broker, "consumers");
        assert!(consumers[0]["channel_details"]["peer_port"].take().is_number());
        assert_eq!(
            consumers[0],
            json!({
                "consumer_tag": "first",
                "queue": { "name": "one by one", "vhost": "/" },
                "channel_details": {
                    "name": format!("{name} (1)"), "number": 1, "user": "guest", "node": "leveret@127.0.0.1",
                    "connection_name": name, "peer_host": "127.0.0.1", "peer_port": null,
                },
                "ack_required": true, "exclusive": false, "active": true, "activity_status": "single_active",
                "prefetch_count": 7, "consumer_timeout": null, "arguments": { "x-priority": 3 },
            })
        );
        let second = &consumers[1];
        assert_eq!(
            [&second["consumer_tag"], &second["ack_required"], &second["active"], &second["activity_status"]],
            [&json!("second"), &json!(false), &json!(false), &json!("waiting")]
        );
        assert_eq!(get(broker, "consumers/%2F").as_array().unwrap().len(), 2);
        let queue = get(broker, "queues/%2F/one%20by%20one");
        assert_eq!(queue["consumer_details"].as_array().unwrap().len(), 2);
        assert_eq!(
            (&queue["single_active_consumer_tag"], queue.get("exclusive_consumer_tag")),
            (&json!("first"), Some(&Value::Null))
        );
        assert_eq!(get_as(broker, Some(super::asking::GUEST), "consumers/none").status(), 404);
        channel.basic_cancel("first".into(), Default::default()).await.unwrap();
        let left = get(broker, "consumers");
        assert_eq!(left.as_array().unwrap().len(), 1);
        assert_eq!((&left[0]["consumer_tag"], &left[0]["active"]), (&json!("second"), &json!(true)));
        assert_eq!(get(broker, "queues/%2F/one%20by%20one")["single_active_consumer_tag"], "second");
        let declare = QueueDeclareOptions::default();
        channel.queue_declare("mine".into(), declare, FieldTable::default()).await.unwrap();
        let options = BasicConsumeOptions { exclusive: true, ..Default::default() };
        let nothing = FieldTable::default();
        let _sole = channel.basic_consume("mine".into(), "sole".into(), options, nothing).await.unwrap();
        let queue = get(broker, "queues/%2F/mine");
        assert_eq!(
            (&queue["exclusive_consumer_tag"], queue.get("single_active_consumer_tag")),
            (&json!("sole"), Some(&Value::Null))
        );
        let listed = &get(broker, "queues/%2F")[0];
        let tags = [listed.get("exclusive_consumer_tag"), listed.get("single_active_consumer_tag")];
        assert_eq!(tags, [Some(&json!("sole")), None], "lists are shorter: {listed}");
        // Who may not look into the virtual host sees none of them, but for those who monitor.
        put(broker, "users/watcher", &json!({ "password": "w", "tags": "monitoring" }));
        let watcher = "Basic d2F0Y2hlcjp3";
        let seen = send_as(broker, watcher, "GET", "consumers/%2F", None);
        assert_eq!(super::asking::json_of(&seen).as_array().unwrap().len(), 2);
        put(broker, "users/watcher", &json!({ "password": "w", "tags": "management" }));
        let seen = send_as(broker, watcher, "GET", "consumers", None);
        assert_eq!((seen.status().as_u16(), super::asking::json_of(&seen)), (200, json!([])));
        assert_eq!(send_as(broker, watcher, "GET", "consumers/%2F", None).status(), 404);
    });
}

#[test]
fn a_channel_says_how_it_was_set_up_and_what_it_holds() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let queue = own_queue(&channel).await;
        for body in [b"a", b"b", b"c", b"d"] {
            assert!(publish(&channel, &"".into(), queue.as_str(), body, true).await.unwrap().is_ack());
        }
        channel.basic_qos(7, BasicQosOptions::default()).await.unwrap();
        channel.basic_qos(9, BasicQosOptions { global: true }).await.unwrap();
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(got(&channel, &queue, false).await.unwrap());
        }
        held[0].acker.ack(BasicAckOptions::default()).await.unwrap();
        held[1].acker.nack(BasicNackOptions::default()).await.unwrap();
        let (options, nothing) =
            (BasicConsumeOptions { no_ack: true, ..Default::default() }, FieldTable::default());
        let _consumer = channel.basic_consume(queue, "c".into(), options, nothing).await.unwrap();
        let told = get(broker, "channels");
        let fields = [
            "consumer_count",
            "confirm",
            "transactional",
            "prefetch_count",
            "global_prefetch_count",
            "messages_unacknowledged",
            "messages_unconfirmed",
        ];
        let of = |channel: &Value| json!(fields.map(|field| channel[field].clone()));
        assert_eq!(of(&told[0]), json!([1, true, false, 7, 9, 2, 0]), "{told}");
        assert_eq!(told[0]["node"], get(broker, "connections")[0]["node"]);
        let option = BasicNackOptions { multiple: true, ..Default::default() };
        held[3].acker.nack(option).await.unwrap();
        let other = connection.create_channel().await.unwrap();
        other.tx_select().await.unwrap();
        channel.basic_qos(0, BasicQosOptions::default()).await.unwrap();
        let told = get(broker, "vhosts/%2F/channels");
        assert_eq!(of(&told[0]), json!([1, true, false, 0, 9, 0, 0]), "{told}");
        assert_eq!(of(&told[1]), json!([0, false, true, 0, 0, 0, 0]), "{told}");
    });
}
