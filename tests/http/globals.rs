//! Global parameters, the cluster's name among them, and what a node tells of its disk.

use super::asking::{BINARY, delete, get, get_as, json_of, post, put, send_as};
use leveret_testkit::{
    Broker,
    wire::{PROTOCOL_HEADER, RawConnection, id},
};
use serde_json::{Value, json};

/// `user:secret`, as Basic has it.
const USER: &str = "Basic dXNlcjpzZWNyZXQ=";

/// The codes that RabbitMQ 4.3.6 answers with.
#[test]
fn tools_keep_parameters_in_the_broker() {
    let mut broker = Broker::start(BINARY);
    let set = |broker: &Broker, name: &str, body: &Value| {
        put(broker, &format!("global-parameters/{name}"), body).status().as_u16()
    };
    assert_eq!(set(&broker, "a%2Fb", &json!({ "value": { "k": [1, "x", null] } })), 201);
    assert_eq!(set(&broker, "a%2Fb", &json!({ "name": "other", "value": 5 })), 204);
    assert_eq!(set(&broker, "null", &json!({ "value": null })), 201);
    let wrong = put(&broker, "global-parameters/a", &json!({}));
    assert_eq!((wrong.status().as_u16(), &json_of(&wrong)["reason"]), (400, &json!("[{key_missing,value}]")));
    let expected = json!([{ "name": "a/b", "value": 5 }, { "name": "null", "value": null }]);
    for _ in 0..2 {
        assert_eq!(get(&broker, "global-parameters"), expected);
        assert_eq!(get(&broker, "global-parameters/a%2Fb"), expected[0]);
        assert_eq!(get(&broker, "definitions")["global_parameters"], expected);
        broker = broker.kill_for_a_while().start();
    }
    assert_eq!(delete(&broker, "global-parameters/null").status(), 204);
    assert_eq!(delete(&broker, "global-parameters/null").status(), 404);
    let file = json!({ "global_parameters": [
        { "name": "null", "value": "of the file" }, { "name": "internal_cluster_id", "value": "of another" },
    ] });
    assert_eq!(post(&broker, "definitions", "application/json", file.to_string().as_bytes()).status(), 204);
    let broker = broker.kill_for_a_while().start();
    let expected = json!([{ "name": "a/b", "value": 5 }, { "name": "null", "value": "of the file" }]);
    assert_eq!(get(&broker, "global-parameters"), expected);
}

#[test]
fn they_are_for_policymakers_and_the_name_of_the_cluster_for_administrators() {
    let broker = Broker::start(BINARY);
    let body = json!({ "value": 1 });
    for (tags, expected) in [("policymaker", [201, 200, 204]), ("monitoring", [401; 3])] {
        put(&broker, "users/user", &json!({ "password": "secret", "tags": tags }));
        let ask = |method, body: Option<&Value>| {
            send_as(&broker, USER, method, "global-parameters/p", body).status().as_u16()
        };
        assert_eq!([ask("PUT", Some(&body)), ask("GET", None), ask("DELETE", None)], expected, "{tags}");
        assert_eq!(get_as(&broker, Some(USER), "cluster-name").status(), 200);
        let name = json!({ "name": "mine" });
        assert_eq!(send_as(&broker, USER, "PUT", "cluster-name", Some(&name)).status(), 401);
    }
}

/// The server properties of a connection that begins.
fn told(broker: &Broker) -> String {
    let mut connection = RawConnection::connect(broker.address());
    connection.send(&PROTOCOL_HEADER);
    let mut start = connection.expect_method(0, id::CONNECTION_START);
    start.short();
    String::from_utf8_lossy(&start.long_string()).into_owned()
}

#[test]
fn a_cluster_has_the_name_that_it_was_given() {
    let mut broker = Broker::start(BINARY);
    let node = get(&broker, "overview")["node"].clone();
    assert_eq!(get(&broker, "cluster-name"), json!({ "name": node }));
    assert_eq!(put(&broker, "cluster-name", &json!({ "name": "shop of the east" })).status(), 204);
    for wrong in [json!({}), json!({ "name": 5 }), json!({ "name": "x".repeat(256) })] {
        assert_eq!(put(&broker, "cluster-name", &wrong).status(), 400, "{wrong}");
    }
    for _ in 0..2 {
        assert_eq!(get(&broker, "cluster-name"), json!({ "name": "shop of the east" }));
        let named = json!([{ "name": "cluster_name", "value": "shop of the east" }]);
        assert_eq!(get(&broker, "global-parameters"), named);
        let overview = get(&broker, "overview");
        assert_eq!((&overview["cluster_name"], &overview["node"]), (&named[0]["value"], &node));
        assert_eq!(get(&broker, "nodes")[0]["name"], node, "a node keeps its own");
        assert!(told(&broker).contains("cluster_nameS\0\0\0\u{10}shop of the east"));
        broker = broker.kill_for_a_while().start();
    }
    assert_eq!(delete(&broker, "global-parameters/cluster_name").status(), 204);
    assert_eq!(get(&broker, "cluster-name")["name"], node);
    assert!(!told(&broker).contains("shop"));
}

#[test]
fn a_node_tells_how_much_room_its_disk_has() {
    let broker = Broker::start(BINARY);
    let node = &get(&broker, "nodes")[0];
    assert!(node["disk_free"].as_u64().unwrap() > 0, "{node}");
    assert_eq!((&node["disk_free_limit"], &node["disk_free_alarm"]), (&json!(0), &json!(false)));
}
