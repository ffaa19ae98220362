//! What tools make and end over HTTP: queues, exchanges, bindings, messages, connections; pages of lists; and whether
//! the node is well.

use super::{
    asking::{BINARY, delete, get, get_as, json_of, post, put},
    session::{confirming, connect, on_broker, own_queue, publish},
};
use lapin::{Connection, ConnectionProperties};
use leveret_testkit::Broker;
use serde_json::{Value, json};

/// `user:secret`, as Basic has it.
const USER: &str = "Basic dXNlcjpzZWNyZXQ=";

fn status(answer: &super::asking::Answer) -> (u16, String) {
    let body = if answer.body().is_empty() { Value::Null } else { json_of(answer) };
    (answer.status().as_u16(), body["reason"].as_str().unwrap_or_default().to_owned())
}

fn posted(broker: &Broker, path: &str, body: &Value) -> super::asking::Answer {
    post(broker, path, "application/json", body.to_string().as_bytes())
}

#[test]
fn queues_and_exchanges_are_made_and_deleted() {
    let broker = Broker::start(BINARY);
    let (queue, exchange) = ("queues/%2F/q%2F1", "exchanges/%2F/x");
    assert_eq!(status(&put(&broker, queue, &json!({"durable": true}))).0, 201);
    assert_eq!(status(&put(&broker, queue, &json!({"durable": true}))).0, 204);
    let (code, why) = status(&put(&broker, queue, &json!({"durable": true, "auto_delete": true})));
    assert_eq!(
        (code, why.starts_with("inequivalent arg 'auto_delete' for queue 'q/1'")),
        (400, true),
        "{why}"
    );
    assert_eq!(get(&broker, queue)["durable"], true);
    assert_eq!(status(&put(&broker, exchange, &json!({"type": "topic", "durable": "true"}))).0, 201);
    assert_eq!(get(&broker, exchange)["type"], "topic");
    let (code, why) = status(&put(&broker, "exchanges/%2F/y", &json!({"type": "nope"})));
    assert_eq!((code, why.as_str()), (400, "unknown exchange type 'nope'"));
    let refused = status(&put(&broker, "exchanges/%2F/amq.own", &json!({})));
    assert_eq!(refused, (401, "Access refused.".to_owned()));
    for path in [exchange, queue] {
        assert_eq!(delete(&broker, path).status(), 204, "{path}");
        assert_eq!(delete(&broker, path).status(), 404, "{path}");
    }
    assert_eq!(put(&broker, "queues/none/q", &json!({})).status(), 404);
}

#[test]
fn bindings_are_made_found_by_their_keys_and_taken_away() {
    let broker = Broker::start(BINARY);
    put(&broker, "queues/%2F/q", &json!({}));
    put(&broker, "exchanges/%2F/x", &json!({"type": "headers"}));
    put(&broker, "exchanges/%2F/y", &json!({"type": "fanout"}));
    let between = "bindings/%2F/e/x/q/q";
    let mut keys = Vec::new();
    for said in [json!({}), json!({"routing_key": "a b"}), json!({"arguments": {"n": 1}})] {
        let made = posted(&broker, between, &said);
        assert_eq!(made.status(), 201, "{said}");
        let location = made.headers()["location"].to_str().unwrap();
        let key = get(&broker, &format!("bindings/%2F/e/x/q/{location}"))["properties_key"].clone();
        keys.push((location.strip_prefix("q/").unwrap().to_owned(), key.as_str().unwrap().to_owned()));
    }
    let pair = |quoted: &str, key: &str| (quoted.to_owned(), key.to_owned());
    assert_eq!(keys[..2], [pair("~", "~"), pair("a%2Bb", "a+b")]);
    let keys: Vec<String> = keys.into_iter().map(|(_, key)| key).collect();
    assert_eq!(get(&broker, between).as_array().unwrap().len(), 3);
    for key in &keys {
        let path = format!("{between}/{key}");
        assert_eq!(&get(&broker, &path)["properties_key"], key);
        assert_eq!(delete(&broker, &path).status(), 204, "{key}");
        assert_eq!(delete(&broker, &path).status(), 404, "{key}");
    }
    // Each is found by its own key, also where another's is what that one's means unquoted.
    for key in ["a b", "a+b"] {
        assert_eq!(posted(&broker, between, &json!({"routing_key": key})).status(), 201);
    }
    assert_eq!(delete(&broker, &format!("{between}/a%2Bb")).status(), 204);
    assert_eq!(get(&broker, between)[0]["routing_key"], "a b");
    assert_eq!(posted(&broker, "bindings/%2F/e/y/e/x", &json!({})).status(), 201);
    assert_eq!(get(&broker, "bindings/%2F/e/y/e/x")[0]["destination_type"], "exchange");
    let nowhere = status(&posted(&broker, "bindings/%2F/e/x/q/none", &json!({})));
    assert_eq!(nowhere, (404, "no queue 'none' in vhost '/'".to_owned()));
}

#[test]
fn messages_are_published_got_and_purged() {
    let broker = Broker::start(BINARY);
    put(&broker, "queues/%2F/q", &json!({"durable": true}));
    let publish = |key: &str, payload: &str, encoding: &str| {
        let properties = json!({"delivery_mode": 2, "headers": {"n": 1}, "timestamp": 7, "type": "t"});
        let said = json!({
            "properties": properties, "routing_key": key, "payload": payload, "payload_encoding": encoding
        });
        json_of(&posted(&broker, "exchanges/%2F/amq.default/publish", &said))
    };
    assert_eq!(publish("q", "hi", "string")["routed"], true);
    assert_eq!(publish("q", "/w==", "base64")["routed"], true);
    assert_eq!(publish("none", "hi", "string")["routed"], false);
    assert!(publish("q", "!", "base64")["reason"].is_string());
    let got = |ackmode: &str| {
        let said = json!({"count": 9, "ackmode": ackmode, "encoding": "auto"});
        json_of(&posted(&broker, "queues/%2F/q/get", &said))
    };
    let first = got("ack_requeue_true");
    assert_eq!(
        first[0],
        json!({
            "payload_bytes": 2, "redelivered": false, "exchange": "", "routing_key": "q", "message_count": 1,
            "properties": {"delivery_mode": 2, "headers": {"n": 1}, "timestamp": 7, "type": "t"},
            "payload": "hi", "payload_encoding": "string"
        })
    );
    assert_eq!((&first[1]["payload"], &first[1]["payload_encoding"]), (&json!("/w=="), &json!("base64")));
    assert_eq!(got("ack_requeue_false")[0]["redelivered"], true, "the first look put them back");
    assert_eq!(got("ack_requeue_false"), json!([]));
    publish("q", "hi", "string");
    assert_eq!(status(&delete(&broker, "queues/%2F/q?if-empty=true")).0, 400);
    assert_eq!(delete(&broker, "queues/%2F/q/contents").status(), 204);
    assert_eq!(delete(&broker, "queues/%2F/q?if-empty=true").status(), 204);
    let missing = status(&posted(&broker, "queues/%2F/none/get", &json!({})));
    assert_eq!(
        missing,
        (400, "[{key_missing,ackmode},{key_missing,count},{key_missing,encoding}]".to_owned())
    );
}

#[test]
fn a_user_does_over_http_what_its_permissions_say() {
    let broker = Broker::start(BINARY);
    put(&broker, "users/user", &json!({"password": "secret", "tags": "management"}));
    put(&broker, "permissions/%2F/user", &json!({"configure": "^mine", "write": "^mine", "read": ".*"}));
    let as_user = |method: &str, path: &str| {
        super::asking::send_as(&broker, USER, method, path, Some(&json!({}))).status().as_u16()
    };
    assert_eq!(as_user("PUT", "queues/%2F/mine"), 201);
    assert_eq!(as_user("PUT", "queues/%2F/other"), 401);
    assert_eq!(as_user("POST", "bindings/%2F/e/amq.fanout/q/mine"), 201);
    assert_eq!(as_user("PUT", "exchanges/%2F/other"), 401);
    assert_eq!(as_user("DELETE", "queues/%2F/mine"), 204);
    assert_eq!(as_user("PUT", "users/another"), 401, "that is for administrators");
    assert_eq!(get_as(&broker, Some(USER), "queues/%2F").status(), 200);
}

#[test]
fn what_a_message_says_of_its_publisher_and_its_further_keys_is_judged_too() {
    let broker = Broker::start(BINARY);
    put(&broker, "users/user", &json!({"password": "secret", "tags": "management"}));
    put(&broker, "permissions/%2F/user", &json!({"configure": "", "write": ".*", "read": ""}));
    let topics = json!({"exchange": "amq.topic", "write": "^mine", "read": ""});
    put(&broker, "topic-permissions/%2F/user", &topics);
    let publish = |properties: &Value| {
        let said = json!({
            "properties": properties, "routing_key": "mine", "payload": "x", "payload_encoding": "string"
        });
        let path = "exchanges/%2F/amq.topic/publish";
        status(&super::asking::send_as(&broker, USER, "POST", path, Some(&said)))
    };
    assert_eq!(publish(&json!({"user_id": "user", "headers": {"CC": ["mine.too"]}})).0, 200);
    let strange = json!({"bogus": 1, "cluster_id": "c", "priority": 2});
    assert_eq!(publish(&strange).0, 200, "what is no property means nothing");
    assert_eq!(publish(&json!({"priority": "x"})).0, 400);
    for header in ["CC", "BCC"] {
        assert_eq!(publish(&json!({"headers": {header: ["mine.too", "other"]}})).0, 401, "{header}");
    }
    let (code, why) = publish(&json!({"user_id": "guest"}));
    assert_eq!((code, why.contains("user_id property set to 'guest'")), (400, true), "{why}");
}

#[test]
fn quorum_queues_are_refused_over_http_too() {
    let broker = Broker::builder(BINARY).argument("--quorum=refuse").start();
    let quorum = json!({"durable": true, "arguments": {"x-queue-type": "quorum"}});
    let (code, why) = status(&put(&broker, "queues/%2F/q", &quorum));
    assert_eq!((code, why.contains("the configuration refuses quorum queues")), (400, true), "{why}");
    assert_eq!(put(&broker, "queues/%2F/q", &json!({"durable": true})).status(), 201);
}

#[test]
fn a_name_is_judged_as_it_is_declared() {
    let broker = Broker::start(BINARY);
    put(&broker, "users/user", &json!({"password": "secret", "tags": "management"}));
    let all_but = json!({"configure": "^(?!secret)", "write": "", "read": ""});
    put(&broker, "permissions/%2F/user", &all_but);
    for kind in ["queues", "exchanges"] {
        let made = |name: &str| {
            let path = format!("{kind}/%2F/{name}");
            super::asking::send_as(&broker, USER, "PUT", &path, Some(&json!({}))).status().as_u16()
        };
        assert_eq!((made("sec%0Aret"), made("o%0Ak"), made("ok")), (401, 201, 204), "{kind}");
    }
}

#[test]
fn connections_and_channels_are_listed_and_ended() {
    on_broker(&Broker::start(BINARY), async |broker| {
        let connection = connect(broker).await;
        put(broker, "users/user", &json!({"password": "secret", "tags": "monitoring"}));
        let channel = confirming(&connection).await;
        own_queue(&channel).await;
        let listed = get(broker, "connections");
        let [told] = listed.as_array().unwrap().as_slice() else { panic!("{listed}") };
        assert_eq!(
            (&told["user"], &told["vhost"], &told["state"]),
            (&json!("guest"), &json!("/"), &json!("running"))
        );
        assert_eq!((&told["channels"], &told["client_properties"]["product"]), (&json!(1), &json!("lapin")));
        assert_eq!(told.get("user_provided_name"), None);
        let properties = ConnectionProperties::default().with_connection_name("mine".into());
        let named = Connection::connect(&broker.amqp_url(), properties).await.unwrap();
        let all = get(broker, "connections/");
        let names: Vec<&Value> =
            all.as_array().unwrap().iter().filter_map(|told| told.get("user_provided_name")).collect();
        assert_eq!(names, ["mine"]);
        named.close(200, "bye".into()).await.unwrap();
        let name = told["name"].as_str().unwrap();
        assert!(name.contains(" -> 127.0.0.1:"), "{name}");
        let path = format!("connections/{}", name.replace(' ', "%20").replace('>', "%3E"));
        assert_eq!(get(broker, &path)["name"], name);
        let channels = get(broker, "channels");
        assert_eq!(channels[0]["name"], format!("{name} ({})", channel.id()));
        assert_eq!(get(broker, &format!("{path}/channels")), channels);
        let ended = |path: &str| super::asking::send_as(broker, USER, "DELETE", path, None).status();
        assert_eq!(get_as(broker, Some(USER), &path).status(), 200, "who monitors may see it");
        assert_eq!((ended(&path).as_u16(), ended("connections/username/guest").as_u16()), (401, 401));
        assert_eq!(delete(broker, &path).status(), 204);
        let gone = publish(&channel, &"".into(), "q", b"x", false).await;
        let why = format!("{:?}", gone.unwrap_err());
        assert!(why.contains("CONNECTION_FORCED - Closed via management plugin"), "{why}");
        assert_eq!(delete(broker, "connections/none").status(), 404);
    });
}

#[test]
fn lists_have_pages_columns_and_an_order() {
    let broker = Broker::start(BINARY);
    for name in ["b", "a", "ab"] {
        put(&broker, &format!("queues/%2F/{name}"), &json!({}));
    }
    let told = get(&broker, "queues/%2F?page=1&page_size=2&columns=name&sort=name&sort_reverse=true");
    let expected = json!({
        "filtered_count": 3, "item_count": 2, "items": [{"name": "b"}, {"name": "ab"}],
        "page": 1, "page_count": 2, "page_size": 2, "total_count": 3
    });
    assert_eq!(told, expected);
    assert_eq!(get(&broker, "queues?columns=name&sort=name")[0], json!({"name": "a"}));
    let (code, why) = status(&get_as(&broker, Some(super::asking::GUEST), "queues?page=0"));
    assert_eq!(code, 400, "{why}");
}

#[test]
fn the_node_says_how_it_is() {
    let broker = Broker::start(BINARY);
    let node = &get(&broker, "nodes")[0];
    assert_eq!((&node["running"], &node["mem_alarm"]), (&json!(true), &json!(false)));
    assert!(node["mem_used"].as_u64() > Some(1_000_000), "{node}");
    assert_eq!(get(&broker, &format!("nodes/{}", node["name"].as_str().unwrap()))["name"], node["name"]);
    assert_eq!(get(&broker, "overview")["node"], node["name"]);
    for check in ["alarms", "virtual-hosts", "node-is-quorum-critical", "protocol-listener/amqp091"] {
        assert_eq!(get(&broker, &format!("health/checks/{check}"))["status"], "ok", "{check}");
    }
    let port = broker.address().port();
    assert_eq!(get(&broker, &format!("health/checks/port-listener/{port}"))["port"], port);
    assert_eq!(get_as(&broker, Some(super::asking::GUEST), "health/checks/port-listener/1").status(), 503);
    assert_eq!(get(&broker, "aliveness-test/%2F"), json!({"status": "ok"}));
}

#[test]
fn who_monitors_sees_plugins_and_held_messages_and_changes_none() {
    let broker = Broker::start(BINARY);
    for (tag, status) in [("monitoring", 200), ("management", 401)] {
        put(&broker, "users/user", &json!({"password": "secret", "tags": tag}));
        for path in
            ["plugins", "plugins/topic", "plugins-warnings", "plugins-interceptors", "holds/%2F/amq.topic"]
        {
            assert_eq!(get_as(&broker, Some(USER), path).status(), status, "{tag}: {path}");
        }
    }
    put(&broker, "users/user", &json!({"password": "secret", "tags": "monitoring"}));
    let order = json!({"plugin": "none", "enabled": false});
    let as_user = |method: &str, path: &str| {
        super::asking::send_as(&broker, USER, method, path, Some(&order)).status().as_u16()
    };
    assert_eq!((as_user("PUT", "plugins-switches"), as_user("DELETE", "holds/%2F/amq.topic")), (401, 401));
}
