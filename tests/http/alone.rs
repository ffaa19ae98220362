//! What tools ask of a cluster and of features that are not here, and parameters by their own path.

use super::asking::{BINARY, GUEST, delete, get, get_as, json_of, post, put, send_as};
use leveret_testkit::Broker;
use serde_json::json;

/// `user:secret`, as Basic has it.
const USER: &str = "Basic dXNlcjpzZWNyZXQ=";

#[test]
fn a_node_that_is_alone_has_nothing_of_a_cluster() {
    let broker = Broker::start(BINARY);
    for path in [
        "extensions",
        "feature-flags",
        "deprecated-features",
        "deprecated-features/used",
        "federation-links",
        "federation-links/%2F",
        "shovels",
        "shovels/%2F",
        "global-parameters",
    ] {
        assert_eq!(get(&broker, path), json!([]), "{path}");
    }
    assert_eq!(get_as(&broker, Some(GUEST), "shovels/none").status(), 404);
    for check in [
        "metadata-store/initialized",
        "metadata-store/initialized/with-data",
        "reached-target-cluster-size",
        "below-node-connection-limit",
        "quorum-queues-without-elected-leaders/all-vhosts/",
        "quorum-queues-without-elected-leaders/vhost/%2F/pattern/a.*",
    ] {
        assert_eq!(get(&broker, &format!("health/checks/{check}")), json!({ "status": "ok" }), "{check}");
    }
    assert_eq!(get(&broker, "auth"), json!({ "oauth_enabled": false }));
    let node = get(&broker, "overview")["node"].as_str().unwrap().to_owned();
    assert_eq!(get(&broker, "overview")["listeners"][0]["node"], node);
    assert_eq!(get(&broker, &format!("nodes/{node}/memory")), json!({ "memory": "not_available" }));
    assert_eq!(get_as(&broker, Some(GUEST), "nodes/other/memory").status(), 404);
    assert_eq!(post(&broker, "rebalance/queues", "application/json", b"{}").status(), 204);
    put(&broker, "queues/%2F/q", &json!({}));
    assert_eq!(get(&broker, "queues/detailed"), get(&broker, "queues"));
    let act = post(&broker, "queues/%2F/q/actions", "application/json", br#"{"action": "sync"}"#);
    assert_eq!((act.status().as_u16(), &json_of(&act)["reason"]), (400, &json!("{unknown,<<\"sync\">>}")));
    put(&broker, "users/user", &json!({"password": "secret", "tags": "management"}));
    assert_eq!(get_as(&broker, Some(USER), "extensions").status(), 200);
    assert_eq!(get_as(&broker, Some(USER), "feature-flags").status(), 200);
    assert_eq!(get_as(&broker, Some(USER), "queues/detailed").status(), 200, "it is no virtual host");
}

/// It looks at each of these, and does not start where one is missing or another.
#[test]
fn nservicebus_finds_what_it_asks_for_before_it_starts() {
    let broker = Broker::builder(BINARY)
        .argument("--announced-product=RabbitMQ")
        .argument("--announced-version=4.3.0")
        .start();
    let overview = get(&broker, "overview");
    assert_eq!((&overview["rabbitmq_version"], &overview["disable_stats"]), (&json!("4.3.0"), &json!(false)));
    let features = get(&broker, "feature-flags");
    assert_eq!((&features[0]["name"], &features[0]["state"]), (&json!("stream_queue"), &json!("enabled")));
    let quorum = json!({ "durable": true, "arguments": { "x-queue-type": "quorum" } });
    put(&broker, "queues/%2F/endpoint", &quorum);
    let queue = get(&broker, "queues/%2F/endpoint");
    assert_eq!((&queue["delivery_limit"], &queue["effective_policy_definition"]), (&json!(20), &json!({})));
    assert!(!queue["policy"].is_string(), "{queue}");
}

#[test]
fn a_slash_at_the_end_of_a_path_means_nothing() {
    let broker = Broker::start(BINARY);
    for path in ["users", "permissions", "bindings", "cluster-name", "healthchecks/node", "queues/%2F"] {
        assert_eq!(get(&broker, &format!("{path}/")), get(&broker, path), "{path}");
    }
}

#[test]
fn a_protected_virtual_host_is_not_deleted() {
    let broker = Broker::start(BINARY);
    put(&broker, "vhosts/kept", &json!({}));
    assert_eq!(get(&broker, "vhosts/kept")["protected_from_deletion"], false);
    let protection = "vhosts/kept/deletion/protection";
    assert_eq!(post(&broker, protection, "application/json", b"").status(), 204);
    // What is said of it besides changes nothing of that.
    put(&broker, "vhosts/kept", &json!({"description": "d"}));
    let file = get(&broker, "definitions");
    let told = file["vhosts"].as_array().unwrap().iter().find(|vhost| vhost["name"] == "kept").unwrap();
    assert_eq!(told["metadata"]["protected_from_deletion"], true);
    let refused = delete(&broker, "vhosts/kept");
    let why = "Refusing to delete virtual host 'kept' because it is protected from deletion";
    assert_eq!((refused.status().as_u16(), &json_of(&refused)["reason"]), (412, &json!(why)));
    assert_eq!(delete(&broker, protection).status(), 204);
    assert_eq!(delete(&broker, "vhosts/kept").status(), 204);
    assert_eq!(post(&broker, protection, "application/json", b"").status(), 404);
    // One that is made again from the file is protected again.
    let import = post(&broker, "definitions", "application/json", file.to_string().as_bytes());
    assert_eq!(import.status(), 204);
    assert_eq!(delete(&broker, "vhosts/kept").status(), 412);
}

#[test]
fn parameters_are_set_and_taken_away_by_their_own_path() {
    let broker = Broker::start(BINARY);
    let (policy, limits) = ("parameters/operator_policy/%2F/young", "parameters/vhost-limits/%2F/limits");
    let said =
        json!({ "pattern": "^q", "definition": { "expires": 90_000 }, "priority": 3, "apply-to": "queues" });
    for (path, value) in [(policy, &said), (limits, &json!({ "max-queues": 7 }))] {
        let body = json!({ "value": value });
        assert_eq!(put(&broker, path, &body).status(), 201, "{path}");
        assert_eq!(put(&broker, path, &body).status(), 204, "{path}");
        let told = get(&broker, path);
        assert_eq!((&told["value"], &told["vhost"]), (value, &json!("/")), "{told}");
        let list = path.rsplit_once('/').unwrap().0;
        assert_eq!(get(&broker, list), json!([told]), "{list}");
    }
    assert_eq!(get(&broker, "operator-policies/%2F/young")["definition"], json!({ "expires": 90_000 }));
    assert_eq!(get(&broker, "vhost-limits/%2F")[0]["value"], json!({ "max-queues": 7 }));
    for path in [policy, limits] {
        assert_eq!(delete(&broker, path).status(), 204, "{path}");
        assert_eq!(delete(&broker, path).status(), 404, "{path}");
    }
    assert_eq!(get(&broker, "parameters"), json!([]));
    assert_eq!(get(&broker, "vhost-limits"), json!([]));
    for (value, why) in [
        (
            json!({ "pattern": "^q", "definition": { "expires": 90_000 } }),
            "Key \"priority\" not found in young\n",
        ),
        (
            json!({ "priority": 1, "bogus": "x" }),
            "Unrecognised terms [{<<\"bogus\">>,<<\"x\">>}] in young\nKey \"definition\" not found in young\n\
             Key \"pattern\" not found in young\n",
        ),
    ] {
        let refused = put(&broker, policy, &json!({ "value": value }));
        assert_eq!(refused.status(), 400, "{value}");
        assert_eq!(json_of(&refused)["reason"], format!("Validation failed\n\n{why}"), "{value}");
    }
    // A value that is no object.
    for (path, name) in [(policy, "young"), (limits, "limits")] {
        for (value, shown) in [(json!(5), "5"), (json!("x"), "<<\"x\">>"), (json!(null), "null")] {
            let refused = put(&broker, path, &json!({ "value": value }));
            assert_eq!(refused.status(), 400, "{path}: {value}");
            let why = format!("Validation failed\n\n{name} not a list {shown}\n");
            assert_eq!(json_of(&refused)["reason"], why, "{path}: {value}");
            let parameter = path.split('/').nth(1).unwrap();
            let file =
                json!({"parameters": [{"component": parameter, "vhost": "/", "name": name, "value": value}]});
            let refused = post(&broker, "definitions", "application/json", file.to_string().as_bytes());
            assert_eq!(refused.status(), 400, "{path}: {value}");
        }
    }
    assert_eq!(put(&broker, limits, &json!({ "value": [1] })).status(), 400);
    assert_eq!(get(&broker, "parameters"), json!([]));
    let value = json!({ "value": {} });
    let refused = put(&broker, "parameters/shovel/%2F/s", &value);
    assert_eq!(refused.status(), 400);
    assert!(String::from_utf8_lossy(refused.body()).contains("component shovel not found"));
    assert_eq!(put(&broker, policy, &json!({})).status(), 400);
    assert_eq!(put(&broker, "parameters/operator_policy/none/p", &value).status(), 404);
    put(&broker, "users/user", &json!({"password": "secret", "tags": "policymaker"}));
    assert_eq!(
        send_as(&broker, USER, "PUT", policy, Some(&value)).status(),
        401,
        "operators are administrators"
    );
}
