//! What users may look at by their tags, as RabbitMQ 4.3.6 answers.

use crate::{
    asking::{GUEST, U, ask, get, put},
    broker_with,
};
use serde_json::{Value, json};

const TAGS: [&str; 5] = ["", "management", "policymaker", "monitoring", "administrator"];

/// The answers to users of these tags, in a virtual host that they may enter (`/`) and in one that they may not (`other`).
const ANSWERS: [(&str, [u16; 5]); 41] = [
    ("whoami", [401, 200, 200, 200, 200]),
    ("overview", [401, 200, 200, 200, 200]),
    ("version", [200, 200, 200, 200, 200]),
    ("extensions", [401, 200, 200, 200, 200]),
    ("cluster-name", [401, 200, 200, 200, 200]),
    ("feature-flags", [401, 200, 200, 200, 200]),
    ("deprecated-features", [401, 200, 200, 200, 200]),
    ("deprecated-features/used", [401, 200, 200, 200, 200]),
    ("nodes", [401, 401, 401, 200, 200]),
    ("nodes/none", [401, 401, 401, 404, 404]),
    ("nodes/none/memory", [401, 401, 401, 404, 404]),
    ("health/checks/alarms", [401, 200, 200, 200, 200]),
    ("health/checks/is-in-service", [200, 200, 200, 200, 200]),
    ("health/checks/quorum-queues-without-elected-leaders/vhost/other", [401, 404, 404, 200, 200]),
    ("vhosts", [401, 200, 200, 200, 200]),
    ("vhosts/%2F", [401, 401, 401, 401, 200]),
    ("vhosts/%2F/permissions", [401, 401, 401, 401, 200]),
    ("vhosts/%2F/connections", [401, 200, 200, 200, 200]),
    ("vhosts/%2F/channels", [401, 200, 200, 200, 200]),
    ("vhosts/other/connections", [401, 404, 404, 404, 200]),
    ("vhost-limits/%2F", [401, 200, 200, 200, 200]),
    ("vhost-limits/other", [401, 404, 404, 200, 200]),
    ("consumers/other", [401, 404, 404, 200, 200]),
    ("queues/%2F", [401, 200, 200, 200, 200]),
    ("queues/other", [401, 404, 404, 404, 200]),
    ("auth/hash_password/x", [401, 401, 401, 401, 200]),
    ("user-limits", [401, 401, 401, 401, 200]),
    ("user-limits/u", [401, 200, 200, 200, 200]),
    ("user-limits/guest", [401, 401, 401, 200, 200]),
    ("connections/username/u", [401, 200, 200, 200, 200]),
    ("connections/username/guest", [401, 401, 401, 200, 200]),
    ("policies/%2F/none", [401, 401, 404, 401, 404]),
    ("operator-policies/%2F/none", [401, 401, 401, 401, 404]),
    ("global-parameters", [401, 401, 200, 401, 200]),
    ("parameters", [401, 401, 200, 401, 200]),
    ("parameters/operator_policy", [401, 401, 200, 401, 200]),
    ("parameters/vhost-limits/%2F", [401, 401, 200, 401, 200]),
    ("parameters/vhost-limits/%2F/limits", [401, 401, 200, 401, 200]),
    ("parameters/vhost-limits/other", [401, 401, 404, 401, 200]),
    ("definitions", [401, 401, 401, 401, 200]),
    ("users", [401, 401, 401, 401, 200]),
];

#[test]
fn each_tag_looks_at_what_it_may_look_at_in_rabbitmq() {
    let (broker, _configuration) = broker_with("vhosts = [\"/\", \"other\"]");
    for vhost in ["%2F", "other"] {
        put(&broker, &format!("vhost-limits/{vhost}/max-queues"), &json!({ "value": 9 }));
    }
    for (at, tag) in TAGS.iter().enumerate() {
        put(&broker, "users/u", &json!({ "password": "p", "tags": tag }));
        put(&broker, "permissions/%2F/u", &json!({ "configure": "", "write": "", "read": "" }));
        for (path, statuses) in ANSWERS {
            assert_eq!(ask(&broker, U, "GET", path, None).0, statuses[at], "{tag:?} {path}");
        }
        let glance = ask(&broker, U, "HEAD", "overview", None).0;
        assert_eq!(glance, if tag.is_empty() { 401 } else { 200 }, "{tag:?}");
        let names = |path: &str, field: &str| -> Vec<Value> {
            let listed = ask(&broker, U, "GET", path, None).1;
            listed.as_array().into_iter().flatten().map(|one| one[field].clone()).collect()
        };
        // Those who monitor know of all virtual hosts, and see into those that they may enter.
        let known: &[&str] = match *tag {
            "" => &[],
            "monitoring" | "administrator" => &["/", "other"],
            _ => &["/"],
        };
        assert_eq!(names("vhosts", "name"), known, "{tag:?}");
        assert_eq!(names("vhost-limits", "vhost"), known, "{tag:?}");
        let mut limited = names("parameters", "vhost");
        limited.dedup();
        let known: &[&str] = match *tag {
            "policymaker" => &["/"],
            "administrator" => &["/", "other"],
            _ => &[],
        };
        assert_eq!(limited, known, "{tag:?}");
    }
}

#[test]
fn looking_at_parameters_is_not_changing_them() {
    let (broker, _configuration) = broker_with("");
    for tag in TAGS.iter().filter(|tag| **tag != "administrator") {
        put(&broker, "users/u", &json!({ "password": "p", "tags": tag }));
        put(&broker, "permissions/%2F/u", &json!({ "configure": ".*", "write": ".*", "read": ".*" }));
        let policy = json!({ "value": { "pattern": "", "definition": { "max-length": 1 }, "priority": 0 } });
        for (method, path) in [
            ("PUT", "parameters/operator_policy/%2F/mine"),
            ("DELETE", "parameters/operator_policy/%2F/mine"),
            ("PUT", "user-limits/u/max-channels"),
            ("DELETE", "connections/username/guest"),
            ("PUT", "feature-flags/stream_queue/enable"),
        ] {
            assert_eq!(ask(&broker, U, method, path, Some(&policy)).0, 401, "{tag:?} {method} {path}");
        }
    }
    assert_eq!(get(&broker, "operator-policies"), (200, json!([])));
}

#[test]
fn balancers_of_load_need_no_password() {
    let (broker, _configuration) = broker_with("");
    let nobody = "Basic bm9ib2R5Og==";
    for path in ["version", "health/checks/is-in-service", "health/checks/ready-to-serve-clients"] {
        assert_eq!(ask(&broker, nobody, "GET", path, None), get(&broker, path), "{path}");
        assert_eq!(ask(&broker, nobody, "HEAD", path, None).0, 200, "{path}");
    }
    for (method, path) in [
        ("GET", "health/checks/alarms"),
        ("GET", "health/checks/virtual-hosts"),
        ("GET", "whoami"),
        ("PUT", "version"),
        ("GET", "versions"),
    ] {
        assert_eq!(ask(&broker, nobody, method, path, None).0, 401, "{method} {path}");
    }
    assert_eq!(ask(&broker, GUEST, "PUT", "version", None).0, 405);
}
