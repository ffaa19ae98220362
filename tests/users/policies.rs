//! Policies of a running broker over HTTP, as RabbitMQ's tools set them, and by the command line. The texts are those of
//! RabbitMQ 4.3.6.

use crate::{
    BINARY,
    asking::{U, ask, delete, does, get, put, refuses},
    broker_with,
    client::{Call, Client, bind, declare_exchange, declare_queue},
};
use leveret_testkit::{
    Broker,
    wire::{Arguments, id},
};
use serde_json::{Value, json};

/// Delivery mode 2.
const PERSISTENT: &[u8] = &[0x10, 0, 2];

fn guest(broker: &Broker) -> Client {
    Client::open(broker.address(), "guest", "guest")
}

fn durable_queue(name: &str, arguments: &[(&str, &str)]) -> Call {
    let words = Arguments::new().short(0).short_string(name).bits(&[false, true, false, false, false]);
    Call(id::QUEUE_DECLARE, words.table(arguments), id::QUEUE_DECLARE_OK)
}

fn ready(broker: &Broker, queue: &str) -> Value {
    get(broker, &format!("queues/%2F/{queue}")).1["messages_ready"].clone()
}

/// What is said of a queue's policies.
fn applied(broker: &Broker, queue: &str) -> [Value; 3] {
    let (_, queue) = get(broker, &format!("queues/%2F/{queue}"));
    ["policy", "operator_policy", "effective_policy_definition"].map(|field| queue[field].clone())
}

/// As NServiceBus sets it, and looks whether it holds.
#[test]
fn a_policy_takes_the_delivery_limit_away() {
    let (broker, _configuration) = broker_with("");
    guest(&broker).does(durable_queue("work", &[("x-queue-type", "quorum")]));
    let unlimited = json!({
        "pattern": "^(?!amq\\.)work$", "definition": { "delivery-limit": -1 }, "apply-to": "quorum_queues",
        "priority": 100
    });
    assert_eq!(put(&broker, "policies/%2F/nsb.work.delivery-limit", &unlimited).0, 201);
    let tenants = json!({ "pattern": "^tenant\\.(?!system\\.)", "definition": { "max-length": 5 } });
    assert_eq!(put(&broker, "policies/%2F/tenants", &tenants).0, 201);
    assert_eq!(get(&broker, "queues/%2F/work").1["delivery_limit"], -1);
    assert_eq!(applied(&broker, "work")[2], json!({ "delivery-limit": -1 }));
}

fn length(most: u64) -> Value {
    json!({ "pattern": "^q", "definition": { "max-length": most } })
}

#[test]
fn a_policy_is_set_changed_and_cleared() {
    let (broker, _configuration) = broker_with("");
    for kind in ["policies", "operator-policies"] {
        let path = format!("{kind}/%2F/p");
        let shown = |most: u64| {
            json!({
                "vhost": "/", "name": "p", "pattern": "^q", "apply-to": "all", "definition": { "max-length": most },
                "priority": 0
            })
        };
        assert_eq!(put(&broker, &path, &length(3)), (201, String::new()));
        assert_eq!(put(&broker, &path, &length(4)), (204, String::new()));
        assert_eq!(get(&broker, &path), (200, shown(4)));
        for list in [kind.to_owned(), format!("{kind}/%2F")] {
            assert_eq!(get(&broker, &list), (200, json!([shown(4)])), "{list}");
        }
        assert_eq!((delete(&broker, &path), delete(&broker, &path), get(&broker, &path).0), (204, 404, 404));
        assert_eq!(get(&broker, kind), (200, json!([])));
        for path in [format!("{kind}/nowhere"), format!("{kind}/nowhere/p")] {
            assert_eq!(get(&broker, &path).0, 404, "{path}");
        }
        let nowhere = put(&broker, &format!("{kind}/nowhere/p"), &length(1));
        assert_eq!(nowhere, (404, "vhost_not_found".to_owned()));
    }
    for (name, priority) in [("b", 1.0), ("a", 1.0), ("c", 9.0), ("d", 0.5)] {
        let body = json!({ "pattern": "", "definition": { "expires": 5 }, "priority": priority });
        assert_eq!(put(&broker, &format!("policies/%2F/{name}"), &body).0, 201);
    }
    let listed = get(&broker, "policies").1;
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|policy| &policy["name"]).collect();
    assert_eq!(names, ["d", "a", "b", "c"]);
    assert_eq!((&listed[0]["priority"], &listed[3]["priority"]), (&json!(0.5), &json!(9)));
}

#[test]
fn what_makes_no_sense_is_refused_in_rabbitmqs_words() {
    let (broker, _configuration) = broker_with("");
    let invalid = |why: &str| format!("Validation failed\n\n{why}\n");
    let refused = |body: &Value| put(&broker, "policies/%2F/p", body);
    assert_eq!(refused(&json!({})), (400, "[{key_missing,pattern},{key_missing,definition}]".to_owned()));
    assert_eq!(refused(&json!({ "pattern": "" })), (400, "[{key_missing,definition}]".to_owned()));
    for (body, why) in [
        (json!({ "pattern": "x", "definition": {} }), "no policy provided"),
        (json!({ "pattern": 5, "definition": { "expires": 1 } }), "pattern should be a binary but was 5"),
        (
            json!({ "pattern": "x", "definition": { "expires": 1 }, "priority": "a" }),
            "priority should be a number, actually was <<\"a\">>",
        ),
        (
            json!({ "pattern": "x", "definition": { "expires": 1 }, "apply-to": "foo" }),
            "apply-to 'foo' unrecognised; should be one of: 'queues', 'classic_queues',  'quorum_queues', 'streams', \
             'exchanges', or 'all'",
        ),
        (json!({ "pattern": "x", "definition": { "message-ttl": -1 } }), "-1 is not a valid message TTL"),
        (
            json!({ "pattern": "x", "definition": { "ha-mode": "all" } }),
            "[{<<\"ha-mode\">>,<<\"all\">>}] are not recognised policy settings",
        ),
    ] {
        assert_eq!(refused(&body), (400, invalid(why)), "{body}");
    }
    let (status, why) = refused(&json!({ "pattern": "(", "definition": { "expires": 1 } }));
    assert!(status == 400 && why.contains("pattern should be regular expression but is invalid: "), "{why}");
    let operators = json!({ "pattern": "x", "definition": { "dead-letter-exchange": "x" } });
    let why = "[{<<\"dead-letter-exchange\">>,<<\"x\">>}] are not recognised policy settings";
    assert_eq!(put(&broker, "operator-policies/%2F/p", &operators), (400, invalid(why)));
    assert_eq!(get(&broker, "policies").1, json!([]));
}

#[test]
fn policies_hold_at_once_and_after_a_crash() {
    let (broker, _configuration) = broker_with("");
    let mut client = guest(&broker);
    client.does(durable_queue("q", &[]));
    client.does(durable_queue("other", &[]));
    client.does(durable_queue("q-quorum", &[("x-queue-type", "quorum")]));
    client.does(declare_exchange("x", "direct", false, &[]));
    client.does(bind("other", "amq.fanout", ""));
    for _ in 0..5 {
        client.publishes("", "q", PERSISTENT);
    }
    assert_eq!(applied(&broker, "q"), [Value::Null, Value::Null, json!({})]);
    assert_eq!(put(&broker, "policies/%2F/p", &length(3)).0, 201);
    assert_eq!(ready(&broker, "q"), 3);
    let mut tighter = length(2);
    tighter["definition"]["message-ttl"] = json!(3_600_000);
    assert_eq!(put(&broker, "operator-policies/%2F/o", &tighter).0, 201);
    assert_eq!(ready(&broker, "q"), 2);
    let alternate = json!({
        "pattern": "^(amq.direct|x)$", "definition": { "alternate-exchange": "amq.fanout" }, "apply-to": "exchanges"
    });
    assert_eq!(put(&broker, "policies/%2F/alternate", &alternate).0, 201);
    client.publishes("amq.direct", "nowhere", PERSISTENT);
    assert_eq!(ready(&broker, "other"), 1);
    assert_eq!(get(&broker, "exchanges/%2F/x").1["policy"], "alternate");
    assert_eq!(get(&broker, "exchanges/%2F/amq.topic").1.get("policy"), None);
    let broker = broker.kill_for_a_while().start();
    let both = json!({ "max-length": 2, "message-ttl": 3_600_000 });
    for queue in ["q", "q-quorum"] {
        assert_eq!(applied(&broker, queue), [json!("p"), json!("o"), both.clone()], "{queue}");
    }
    assert_eq!(applied(&broker, "other"), [Value::Null, Value::Null, json!({})]);
    let (_, quorum) = get(&broker, "queues/%2F/q-quorum");
    assert_eq!((&quorum["type"], &quorum["delivery_limit"]), (&json!("quorum"), &json!(20)));
    assert_eq!(get(&broker, "queues/%2F/q").1.get("delivery_limit"), None);
    let mut client = guest(&broker);
    client.publishes("", "q", PERSISTENT);
    client.publishes("amq.direct", "nowhere", PERSISTENT);
    assert_eq!((ready(&broker, "q"), ready(&broker, "other")), (json!(2), json!(2)));
    assert_eq!(delete(&broker, "operator-policies/%2F/o"), 204);
    assert_eq!(applied(&broker, "q"), [json!("p"), Value::Null, json!({ "max-length": 3 })]);
    let broker = broker.kill_for_a_while().start();
    let mut client = guest(&broker);
    for _ in 0..2 {
        client.publishes("", "q", PERSISTENT);
    }
    assert_eq!((get(&broker, "operator-policies").1, ready(&broker, "q")), (json!([]), json!(3)));
}

#[test]
fn who_may_set_policies() {
    let (broker, _configuration) = broker_with("vhosts = [\"/\", \"closed\"]");
    let enter = json!({ "configure": "", "write": "", "read": "" });
    put(&broker, "policies/%2F/there", &length(9));
    put(&broker, "policies/closed/there", &length(9));
    let not_maker = (401, json!("User not authorised to access object"));
    let not_administrator = (401, json!("Not administrator user"));
    for (tags, one, operators) in [
        ("management", &not_maker, &not_administrator),
        ("monitoring", &not_maker, &not_administrator),
        ("policymaker", &(201, Value::Null), &not_administrator),
        ("administrator", &(201, Value::Null), &(201, Value::Null)),
    ] {
        put(&broker, "users/u", &json!({ "password": "p", "tags": tags }));
        put(&broker, "permissions/%2F/u", &enter);
        for (kind, expected) in [("policies", one), ("operator-policies", operators)] {
            let path = format!("{kind}/%2F/mine");
            let (status, body) = ask(&broker, U, "PUT", &path, Some(&length(1)));
            assert_eq!(&(status, body["reason"].clone()), expected, "{tags} {path}");
            let may = status == 201;
            let (status, body) = ask(&broker, U, "GET", &path, None);
            assert_eq!(may, status == 200, "{tags} {path}");
            assert!(may || body["reason"] == expected.1, "{tags} {path} {body}");
            let status = ask(&broker, U, "DELETE", &path, None).0;
            assert_eq!(status, if may { 204 } else { 401 }, "{tags} {path}");
            let (status, listed) = ask(&broker, U, "GET", kind, None);
            let all = tags == "administrator" && kind == "policies";
            let count = if kind == "policies" { 1 + usize::from(all) } else { 0 };
            assert_eq!((status, listed.as_array().map(Vec::len)), (200, Some(count)), "{tags} {kind}");
            assert_eq!(ask(&broker, U, "GET", &format!("{kind}/%2F"), None).0, 200, "{tags} {kind}");
        }
        let closed = ask(&broker, U, "PUT", "policies/closed/mine", Some(&length(1))).0;
        let expected = match tags {
            "administrator" => 201,
            "policymaker" => 404,
            _ => 401,
        };
        assert_eq!(closed, expected, "{tags}");
    }
}

#[test]
fn policies_go_with_their_virtual_host() {
    let (broker, _configuration) = broker_with("");
    put(&broker, "vhosts/made", &json!({}));
    put(&broker, "policies/made/p", &length(1));
    put(&broker, "policies/%2F/p", &length(1));
    let broker = broker.kill_for_a_while().start();
    assert_eq!(get(&broker, "policies/made/p").0, 200);
    assert_eq!(delete(&broker, "vhosts/made"), 204);
    assert_eq!(put(&broker, "vhosts/made", &json!({})).0, 201);
    assert_eq!(get(&broker, "policies/made").1, json!([]));
    let broker = broker.kill_for_a_while().start();
    assert_eq!(get(&broker, "policies/made").1, json!([]));
    assert_eq!(get(&broker, "policies/%2F/p").0, 200);
}

#[test]
fn declared_policies_are_changed_in_the_file() {
    let file = "[[policy]]\nname = \"p\"\npattern = \"^q\"\ndefinition = { max-length = 2 }\n\
                [[operator-policy]]\nname = \"o\"\npattern = \"^q\"\npriority = 3\napply-to = \"queues\"\n\
                [operator-policy.definition]\noverflow = \"reject-publish\"\n";
    let (broker, _configuration) = broker_with(file);
    let (_, shown) = get(&broker, "policies/%2F/p");
    assert_eq!((&shown["declared"], &shown["definition"]), (&json!(true), &json!({ "max-length": 2 })));
    let (status, why) = put(&broker, "policies/%2F/p", &length(5));
    assert!(status == 409 && why.contains("the configuration declares policy 'p'"), "{why}");
    assert_eq!(delete(&broker, "operator-policies/%2F/o"), 409);
    // The same name of the other kind is another policy.
    assert_eq!(put(&broker, "policies/%2F/o", &length(5)).0, 201);
    let mut client = guest(&broker);
    client.does(declare_queue("q", false, &[]));
    let effective = json!({ "max-length": 5, "overflow": "reject-publish" });
    assert_eq!(applied(&broker, "q"), [json!("o"), json!("o"), effective], "o comes before p");
}

#[test]
fn the_command_line_sets_policies() {
    let broker = Broker::start(BINARY);
    let definition = "{\"max-length\":3,\"overflow\":\"reject-publish\"}";
    let set =
        does(&broker, &["policy", "set", "p", "^q", definition, "--priority", "-1", "--apply-to", "queues"]);
    assert_eq!(set, "policy p holds in /\n");
    does(&broker, &["operator-policy", "set", "o", "", "{\"message-ttl\":1000}", "--priority", "1.5"]);
    let listed = does(&broker, &["policy", "list"]);
    assert_eq!(listed, format!("p in /, \"^q\" of queues, priority -1: {definition}\n"));
    let listed = does(&broker, &["operator-policy", "list", "--vhost", "/"]);
    assert_eq!(listed, "o in /, \"\" of all, priority 1.5: {\"message-ttl\":1000}\n");
    let told: Value = serde_json::from_str(&does(&broker, &["policy", "list", "--json"])).unwrap();
    assert_eq!(told[0]["apply-to"], "queues");
    let why = refuses(&broker, &["policy", "set", "p", "^q", "{\"max-length\":-3}"]);
    assert!(why.contains("refuses: Validation failed; -3 is not a valid maximum length (400)"), "{why}");
    let why = refuses(&broker, &["policy", "set", "p", "^q", "max-length"]);
    assert!(why.contains("the definition must be a JSON object"), "{why}");
    assert_eq!(does(&broker, &["policy", "clear", "p"]), "policy p is gone\n");
    let why = refuses(&broker, &["policy", "clear", "p"]);
    assert!(why.contains("there is no policy p in /"), "{why}");
    assert_eq!(does(&broker, &["policy", "list"]), "");
    let mut client = guest(&broker);
    client.does(declare_queue("anything", false, &[]));
    assert_eq!(applied(&broker, "anything"), [Value::Null, json!("o"), json!({ "message-ttl": 1000 })]);
}
