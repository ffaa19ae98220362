//! `/api/definitions`: what was made in one broker is made in another, and what comes from RabbitMQ is taken.

use crate::asking::{GUEST, get, get_as, json_of, post, put, send_as};
use base64::{Engine, engine::general_purpose::STANDARD};
use leveret_testkit::{Broker, EVENT_WAIT_MAX};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_leveret");

fn basic(pair: &str) -> String {
    format!("Basic {}", STANDARD.encode(pair))
}

fn import(broker: &Broker, path: &str, file: &Value) -> (u16, String) {
    let answer = post(broker, path, "application/json", file.to_string().as_bytes());
    (answer.status().as_u16(), String::from_utf8(answer.body().clone()).unwrap())
}

fn made(broker: &Broker, path: &str, body: &Value) {
    let answer = put(broker, path, body);
    assert!(answer.status().is_success(), "{path}: {}", String::from_utf8_lossy(answer.body()));
}

/// Something of each kind.
fn furnish(broker: &Broker) {
    made(broker, "vhosts/shop", &json!({ "description": "Sells", "tags": "a,b" }));
    made(broker, "vhost-limits/shop/max-queues", &json!({ "value": 9 }));
    made(broker, "users/alice", &json!({ "password": "of alice", "tags": "monitoring" }));
    made(broker, "user-limits/alice/max-connections", &json!({ "value": 3 }));
    made(broker, "permissions/shop/alice", &json!({ "configure": "", "write": "^o", "read": ".*" }));
    let topics = json!({ "exchange": "orders", "write": "^eu", "read": "" });
    made(broker, "exchanges/shop/orders", &json!({ "type": "topic", "durable": true }));
    made(broker, "topic-permissions/shop/alice", &topics);
    let policy =
        json!({ "pattern": "^o", "definition": { "max-length": 5 }, "priority": 2, "apply-to": "queues" });
    made(broker, "policies/shop/short", &policy);
    made(
        broker,
        "operator-policies/shop/young",
        &json!({ "pattern": "", "definition": { "expires": 9_000_000 } }),
    );
    made(broker, "queues/shop/o.eu", &json!({ "durable": true, "arguments": { "x-max-priority": 3 } }));
    made(broker, "exchanges/shop/inner", &json!({ "type": "fanout", "durable": true, "internal": true }));
    for path in ["bindings/shop/e/orders/q/o.eu", "bindings/shop/e/orders/e/inner"] {
        let body = json!({ "routing_key": "eu.#", "arguments": { "of": "test" } });
        assert_eq!(post(broker, path, "application/json", body.to_string().as_bytes()).status(), 201);
    }
}

/// A file without what says who wrote it.
fn sections(file: &Value) -> Vec<(&String, &Value)> {
    file.as_object().unwrap().iter().filter(|(_, section)| section.is_array()).collect()
}

#[test]
fn what_one_broker_tells_another_one_makes() {
    let (from, to) = (Broker::start(BINARY), Broker::start(BINARY));
    furnish(&from);
    let file = get(&from, "definitions");
    for section in ["users", "topic_permissions", "parameters", "policies", "queues", "exchanges", "bindings"]
    {
        assert!(!file[section].as_array().unwrap().is_empty(), "{section}");
    }
    // The same file once more changes nothing.
    for _ in 0..2 {
        assert_eq!(import(&to, "definitions", &file), (204, String::new()));
        assert_eq!(sections(&get(&to, "definitions")), sections(&file));
    }
    let queue = get(&to, "queues/shop/o.eu");
    assert_eq!((&queue["policy"], &queue["operator_policy"]), (&json!("short"), &json!("young")));
    let whoami = get_as(&to, Some(&basic("alice:of alice")), "whoami");
    assert_eq!(json_of(&whoami)["name"], "alice", "her password came with its hash");
    assert_eq!(get(&to, "parameters"), file["parameters"]);
    assert_eq!(get(&to, "parameters/operator_policy")[0]["name"], "young");
    assert_eq!(get(&to, "parameters/shovel"), json!([]));
}

/// The shape that RabbitMQ 4.3.6 gives out; the hash is of the password `test12` in RabbitMQ's documentation.
fn rabbitmq_file() -> Value {
    json!({
        "rabbit_version": "4.3.6", "rabbitmq_version": "4.3.6", "product_name": "RabbitMQ", "product_version": "4.3.6",
        "rabbitmq_definition_format": "cluster", "original_cluster_name": "rabbit@host",
        "explanation": "Definitions of cluster 'rabbit@host'",
        "users": [{ "hashing_algorithm": "rabbit_password_hashing_sha256", "limits": {}, "name": "bob",
            "password_hash": "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR", "tags": ["management"] }],
        "vhosts": [{ "limits": { "max-queues": 7 }, "name": "defs",
            "metadata": { "description": "", "tags": [], "default_queue_type": "classic" } }],
        "permissions": [{ "configure": ".*", "read": ".*", "user": "bob", "vhost": "defs", "write": ".*" }],
        "topic_permissions": [],
        "parameters": [
            { "component": "vhost-limits", "name": "limits", "value": { "max-queues": 7 }, "vhost": "defs" },
            { "component": "operator_policy", "name": "op", "vhost": "defs", "value": { "apply-to": "all",
                "definition": { "max-length": 5 }, "pattern": "^a", "priority": 0 } },
        ],
        "global_parameters": [{ "name": "cluster_tags", "value": [] }],
        "policies": [{ "apply-to": "all", "definition": { "max-length": 5 }, "name": "p", "pattern": "^a",
            "priority": 0, "vhost": "defs" }],
        "queues": [{ "arguments": { "x-queue-type": "classic" }, "auto_delete": false, "durable": true,
            "name": "q", "type": "classic", "vhost": "defs" }],
        "exchanges": [{ "arguments": {}, "auto_delete": false, "durable": true, "internal": false, "name": "x",
            "type": "topic", "vhost": "defs" }],
        "bindings": [{ "arguments": {}, "destination": "q", "destination_type": "queue", "routing_key": "k",
            "source": "x", "vhost": "defs" }],
    })
}

#[test]
fn a_file_of_rabbitmq_is_taken() {
    let broker = Broker::start(BINARY);
    made(&broker, "vhosts/defs", &json!({}));
    made(&broker, "queues/defs/q", &json!({ "durable": true, "arguments": { "x-max-length": 3 } }));
    let file = rabbitmq_file();
    assert_eq!(import(&broker, "definitions", &file), (204, String::new()));
    assert_eq!(json_of(&get_as(&broker, Some(&basic("bob:test12")), "whoami"))["name"], "bob");
    let queue = get(&broker, "queues/defs/q");
    assert_eq!(queue["arguments"], json!({ "x-max-length": 3 }), "a queue that is there stays");
    let told = get(&broker, "definitions");
    for section in ["parameters", "policies", "bindings", "exchanges"] {
        assert_eq!(told[section], file[section], "{section}");
    }
    assert_eq!(get(&broker, "vhost-limits/defs")[0]["value"], json!({ "max-queues": 7 }));
}

/// RabbitMQ publishes its log there, and tells of the exchange in its own definitions.
#[test]
fn what_rabbitmq_made_for_itself_is_passed_over() {
    let broker = Broker::start(BINARY);
    let mut file = rabbitmq_file();
    let exchange = |name: &str, kind: &str| json!({ "arguments": {}, "auto_delete": false, "durable": true, "name": name, "type": kind, "vhost": "defs" });
    for (name, kind) in [
        ("amq.rabbitmq.log", "topic"),
        ("amq.rabbitmq.event", "topic"),
        ("amq.rabbitmq.trace", "topic"),
        ("amq.direct", "direct"),
        ("amq.match", "headers"),
    ] {
        file["exchanges"].as_array_mut().unwrap().insert(0, exchange(name, kind));
    }
    let queue = json!({ "arguments": {}, "auto_delete": false, "durable": true, "name": "amq.gen-of-another",
        "type": "classic", "vhost": "defs" });
    file["queues"].as_array_mut().unwrap().insert(0, queue);
    let binding = |source: &str, destination: &str| {
        json!({ "arguments": {}, "destination": destination, "destination_type": "queue", "routing_key": "k",
            "source": source, "vhost": "defs" })
    };
    for ends in [("amq.rabbitmq.log", "q"), ("amq.direct", "amq.gen-of-another"), ("amq.direct", "q")] {
        file["bindings"].as_array_mut().unwrap().insert(0, binding(ends.0, ends.1));
    }
    assert_eq!(import(&broker, "definitions", &file), (204, String::new()));
    assert_eq!(get(&broker, "definitions")["exchanges"], rabbitmq_file()["exchanges"]);
    let bound = get(&broker, "queues/defs/q/bindings");
    let mut sources: Vec<&str> =
        bound.as_array().unwrap().iter().map(|one| one["source"].as_str().unwrap()).collect();
    sources.sort_unstable();
    assert_eq!(sources, ["", "amq.direct", "x"], "what stands behind it is taken");
    for passed in [
        "exchange 'amq.rabbitmq.log' in vhost 'defs' is passed over",
        "exchange 'amq.rabbitmq.event' in vhost 'defs' is passed over",
        "queue 'amq.gen-of-another' in vhost 'defs' is passed over",
        "the binding of 'q' to 'amq.rabbitmq.log' in vhost 'defs' is passed over",
        "the binding of 'amq.gen-of-another' to 'amq.direct' in vhost 'defs' is passed over",
    ] {
        broker.wait_for_log(passed, EVENT_WAIT_MAX);
    }
    assert_eq!(broker.log().matches("is passed over").count(), 5, "{}", broker.log());
    for path in ["exchanges/defs/amq.rabbitmq.log", "exchanges/defs/amq.mine"] {
        let body = json!({ "type": "topic", "durable": true });
        assert!(put(&broker, path, &body).status().is_client_error(), "clients still may not: {path}");
    }
}

#[test]
fn what_is_cut_short_says_how_far_it_came() {
    let broker = Broker::start(BINARY);
    let mut file = rabbitmq_file();
    let bad = json!({ "vhost": "defs", "name": "bad", "pattern": "", "definition": { "nonsense": 1 } });
    file["policies"].as_array_mut().unwrap().push(bad);
    let (code, why) = import(&broker, "definitions", &file);
    let far = "(taken before it: global_parameters, users, vhosts, permissions, parameters, 1 of 2 policies; \
               not taken: queues, exchanges, bindings)";
    assert!(
        code == 400 && why.contains("policies \\\"bad\\\": Validation failed") && why.contains(far),
        "{why}"
    );
    assert_eq!(get(&broker, "policies/defs")[0]["name"], "p");
    let (_, why) = import(&broker, "definitions/defs", &json!({ "bindings": [{ "source": "a" }] }));
    assert!(why.contains("(taken before it: nothing; not taken: nothing)"), "{why}");
    // A list that is none is seen before anything is made.
    let file = json!({ "users": [{ "name": "eve", "tags": "" }], "bindings": 1 });
    assert_eq!(import(&broker, "definitions", &file).0, 400);
    assert_eq!(get_as(&broker, Some(GUEST), "users/eve").status(), 404);
}

#[test]
fn one_virtual_host_goes_into_another() {
    let broker = Broker::start(BINARY);
    furnish(&broker);
    let file = get(&broker, "definitions/shop");
    assert!(file.get("users").is_none() && file["queues"][0].get("vhost").is_none(), "{file}");
    assert_eq!(import(&broker, "definitions/branch", &file).0, 404, "it is not made for that");
    made(&broker, "vhosts/branch", &json!({}));
    assert_eq!(import(&broker, "definitions/branch", &file), (204, String::new()));
    assert_eq!(sections(&get(&broker, "definitions/branch")), sections(&file));
}

#[test]
fn what_makes_no_sense_is_refused_with_its_name() {
    let broker = Broker::start(BINARY);
    let user = json!({ "name": "eve", "tags": "" });
    let shovel = json!({ "component": "shovel", "name": "s", "vhost": "/", "value": {} });
    let (code, why) = import(&broker, "definitions", &json!({ "users": [user], "parameters": [shovel] }));
    assert!(code == 400 && why.contains("component shovel not found"), "{code} {why}");
    assert_eq!(get_as(&broker, Some(GUEST), "users/eve").status(), 404, "nothing was done before");
    let queue = json!({ "name": "lost", "vhost": "nowhere", "durable": true });
    let wrong_type = json!({ "name": "odd", "vhost": "/", "type": "x-none" });
    for (file, part) in [
        (json!({ "queues": {} }), "queues must be a list"),
        (json!({ "queues": [1] }), "queues must be a list"),
        (json!({ "queues": [queue] }), "queues \\\"lost\\\""),
        (json!({ "exchanges": [wrong_type] }), "x-none"),
        (json!({ "bindings": [{ "vhost": "/" }] }), "key_missing,source"),
    ] {
        let (code, why) = import(&broker, "definitions", &file);
        assert!(code == 400 && why.contains(part), "{part}: {code} {why}");
    }
}

#[test]
fn definitions_are_for_administrators() {
    let broker = Broker::start(BINARY);
    furnish(&broker);
    for tag in ["management", "policymaker", "monitoring"] {
        made(&broker, "users/carol", &json!({ "password": "of carol", "tags": tag }));
        made(&broker, "permissions/shop/carol", &json!({ "configure": ".*", "write": ".*", "read": ".*" }));
        for path in ["definitions", "definitions/shop"] {
            assert_eq!(get_as(&broker, Some(&basic("carol:of carol")), path).status(), 401, "{tag} {path}");
        }
        let file = json!({ "queues": [{ "name": "of carol", "vhost": "shop" }] });
        for path in ["definitions", "definitions/shop"] {
            let answer = send_as(&broker, &basic("carol:of carol"), "POST", path, Some(&file));
            assert_eq!(answer.status(), 401, "{tag} {path}");
        }
    }
    assert_eq!(get_as(&broker, Some(GUEST), "queues/shop/of%20carol").status(), 404);
}
