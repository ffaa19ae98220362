//! Virtual hosts of a running broker: made, limited, deleted with what is in them.

use crate::{
    BINARY,
    asking::{GUEST, ask, delete, does, get, put, refuses},
    broker_with,
    client::{Call, Client, declare_queue, log_in, open, plain},
};
use leveret_testkit::{
    Broker,
    wire::{Arguments, RawConnection, id},
};
use serde_json::{Value, json};
use std::{path::Path, process::Command};

/// A connection of guest to a virtual host, with channel 1 open.
fn enter(broker: &Broker, vhost: &str) -> Client {
    let mut connection = log_in(broker.address(), "PLAIN", &plain("guest", "guest"));
    open(&mut connection, vhost);
    connection.expect_method(0, id::CONNECTION_OPEN_OK);
    connection.open_channel(1);
    Client { connection }
}

/// The text with which guest is kept out.
fn kept_out(broker: &Broker, vhost: &str) -> String {
    let mut connection: RawConnection = log_in(broker.address(), "PLAIN", &plain("guest", "guest"));
    open(&mut connection, vhost);
    connection.expect_connection_close(530).text
}

fn durable_queue(name: &str) -> Call {
    let words = Arguments::new().short(0).short_string(name).bits(&[false, true, false, false, false]);
    Call(id::QUEUE_DECLARE, words.empty_table(), id::QUEUE_DECLARE_OK)
}

fn durable_exchange(name: &str) -> Call {
    let words = Arguments::new().short(0).short_string(name).short_string("direct");
    Call(
        id::EXCHANGE_DECLARE,
        words.bits(&[false, true, false, false, false]).empty_table(),
        id::EXCHANGE_DECLARE_OK,
    )
}

fn bind_exchange(to: &str, from: &str) -> Call {
    let words = Arguments::new().short(0).short_string(to).short_string(from).short_string("k");
    Call((40, 30), words.bits(&[false]).empty_table(), (40, 31))
}

#[test]
fn a_virtual_host_that_is_made_outlives_a_crash_and_one_that_is_deleted_does_not() {
    let (broker, _configuration) = broker_with("");
    assert_eq!(put(&broker, "vhosts/made", &json!({ "description": "d", "tags": "a,b" })).0, 201);
    assert_eq!(put(&broker, "vhosts/made", &json!({ "description": "d", "tags": "a" })).0, 204);
    assert_eq!(ask(&broker, GUEST, "PUT", "vhosts/second", None).0, 201);
    let mut client = enter(&broker, "made");
    client.does(durable_queue("q"));
    client.does(durable_exchange("x"));
    client.does(bind_exchange("amq.fanout", "amq.topic"));
    let broker = broker.kill_for_a_while().start();
    let (_, made) = get(&broker, "vhosts/made");
    assert_eq!((&made["description"], &made["tags"]), (&json!("d"), &json!(["a"])));
    // Whoever makes one may do everything there.
    let mut client = enter(&broker, "made");
    client.does(declare_queue("q", true, &[]));
    assert_eq!(delete(&broker, "vhosts/made"), 204);
    let closed = client.connection.expect_connection_close(320);
    assert_eq!(closed.text, "CONNECTION_FORCED - vhost 'made' is down");
    assert_eq!(kept_out(&broker, "made"), "NOT_ALLOWED - vhost made not found");
    assert_eq!((get(&broker, "vhosts/made").0, delete(&broker, "vhosts/made")), (404, 404));
    assert_eq!(get(&broker, "permissions/made/guest").0, 404);
    let broker = broker.kill_for_a_while().start();
    assert_eq!((get(&broker, "vhosts/made").0, get(&broker, "vhosts/second").0), (404, 200));
    assert!(!broker.log().contains("the store has something of virtual host"), "{}", broker.log());
    // One of that name that comes later has nothing of it.
    put(&broker, "vhosts/made", &json!({}));
    let names = |path: &str| -> Vec<Value> { get(&broker, path).1.as_array().unwrap().clone() };
    assert_eq!(names("queues/made"), Vec::<Value>::new());
    assert!(names("exchanges/made").iter().all(|exchange| exchange["name"] != "x"));
    assert_eq!(names("bindings/made"), Vec::<Value>::new());
}

/// In this order, as by RabbitMQ; who cannot be told of a cancellation is not.
#[test]
fn who_consumes_in_a_virtual_host_that_is_deleted_is_cancelled_and_then_closed() {
    let (broker, _configuration) = broker_with("");
    put(&broker, "vhosts/made", &json!({}));
    let mut clients = ["consumer_cancel_notify", "other"].map(|capability| {
        let mut client = RawConnection::open_with_capability(broker.address(), "made", capability);
        client.open_channel(1);
        let queue = client.declare_queue(1);
        for tag in ["one", "two"] {
            let consume =
                Arguments::new().short(0).short_string(&queue).short_string(tag).octet(0).empty_table();
            client.send_method(1, id::BASIC_CONSUME, consume);
            client.expect_method(1, id::BASIC_CONSUME_OK);
        }
        client
    });
    assert_eq!(delete(&broker, "vhosts/made"), 204);
    for tag in ["one", "two"] {
        assert_eq!(clients[0].expect_method(1, id::BASIC_CANCEL).short_string(), tag);
    }
    for mut client in clients {
        assert_eq!(client.expect_connection_close(320).text, "CONNECTION_FORCED - vhost 'made' is down");
    }
}

#[test]
fn a_virtual_host_of_the_configuration_is_deleted_there() {
    let (broker, _configuration) = broker_with("vhosts = [\"/\", \"a\"]");
    let (status, reason) = {
        let (status, body) = ask(&broker, GUEST, "DELETE", "vhosts/a", None);
        (status, body["reason"].as_str().unwrap().to_owned())
    };
    assert_eq!(status, 409);
    assert!(reason.contains("the configuration names this virtual host"), "{reason}");
    enter(&broker, "a").connection.expect_alive();
}

#[test]
fn virtual_hosts_have_limits() {
    let (broker, _configuration) = broker_with("");
    assert_eq!(put(&broker, "vhost-limits/%2F/max-connections", &json!({ "value": 1 })).0, 204);
    assert_eq!(put(&broker, "vhost-limits/%2F/max-queues", &json!({ "value": 1 })).0, 204);
    let limits = json!([{ "vhost": "/", "value": { "max-connections": 1, "max-queues": 1 } }]);
    assert_eq!(
        (get(&broker, "vhost-limits"), get(&broker, "vhost-limits/%2F")),
        ((200, limits.clone()), (200, limits))
    );
    let mut client = enter(&broker, "/");
    let text = "NOT_ALLOWED - access to vhost '/' refused for user 'guest': connection limit (1) is reached";
    assert_eq!(kept_out(&broker, "/"), text);
    client.does(durable_queue("one"));
    client.does(durable_queue("one"));
    let text = "PRECONDITION_FAILED - cannot declare queue 'two': queue limit in vhost '/' (1) is reached";
    client.is_refused(durable_queue("two"), 406, text);
    drop(client);
    let broker = broker.kill_for_a_while().start();
    let mut client = enter(&broker, "/");
    client.is_refused(durable_queue("two"), 406, text);
    for limit in ["max-connections", "max-queues"] {
        assert_eq!(delete(&broker, &format!("vhost-limits/%2F/{limit}")), 204);
    }
    client.does(durable_queue("two"));
    enter(&broker, "/").connection.expect_alive();
    assert_eq!(get(&broker, "vhost-limits"), (200, json!([])));
    let nowhere = (404, "vhost_not_found".to_owned());
    assert_eq!(put(&broker, "vhost-limits/nowhere/max-queues", &json!({ "value": 1 })), nowhere);
    for (limit, value, why) in [
        ("foo", json!("x"), "Unrecognised terms [{<<\"foo\">>,<<\"x\">>}] in limits"),
        ("max-queues", json!("x"), "max-queues should be a number, actually was <<\"x\">>"),
        ("max-queues", json!(1.5), "max-queues should be a number, actually was 1.5"),
    ] {
        let refused = put(&broker, &format!("vhost-limits/%2F/{limit}"), &json!({ "value": value }));
        assert_eq!(refused, (400, format!("Validation failed\n\n{why}\n")));
    }
    assert_eq!(get(&broker, "vhosts/nowhere").0, 404);
}

#[test]
fn the_command_line_manages_virtual_hosts() {
    let broker = Broker::start(BINARY);
    does(&broker, &["vhost", "add", "a", "--description", "for a"]);
    assert_eq!(does(&broker, &["vhost", "list"]), "/\na  for a\n");
    let text = "NOT_ALLOWED - access to vhost 'a' refused for user 'guest'";
    assert_eq!(kept_out(&broker, "a"), text);
    does(&broker, &["permission", "set", "guest", ".*", ".*", ".*", "--vhost", "a"]);
    enter(&broker, "a").connection.expect_alive();
    let limits = does(&broker, &["vhost", "limits", "a", "--max-connections", "3", "--max-queues", "none"]);
    assert_eq!(limits, "max-connections 3, max-queues none\n");
    does(&broker, &["vhost", "delete", "a"]);
    assert!(refuses(&broker, &["vhost", "delete", "a"]).contains("there is no virtual host a"));
    assert!(
        refuses(&broker, &["vhost", "limits", "a", "--max-queues", "1"])
            .contains("there is no virtual host a")
    );
}

/// queue.declare with durable, exclusive and auto-delete, and with a type where it has one.
fn typed(name: &str, [durable, exclusive, auto_delete]: [bool; 3], kind: Option<&str>) -> Call {
    let words = Arguments::new().short(0).short_string(name);
    let words = words.bits(&[false, durable, exclusive, auto_delete, false]);
    let kind = kind.map(|kind| ("x-queue-type", kind));
    Call(id::QUEUE_DECLARE, words.table(kind.as_slice()), id::QUEUE_DECLARE_OK)
}

const DURABLE: [bool; 3] = [true, false, false];

fn other_type(queue: &str, received: &str, current: &str) -> String {
    format!(
        "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue '{queue}' in vhost 'v': received '{received}' \
         but current is '{current}'"
    )
}

/// Asked of RabbitMQ 4.3.
#[test]
fn a_virtual_host_says_of_which_type_queues_are_that_name_none() {
    let (broker, _configuration) = broker_with("");
    assert_eq!(put(&broker, "vhosts/v", &json!({ "default_queue_type": "quorum" })).0, 201);
    let kind = |broker: &Broker, path: &str, field: &str| get(broker, path).1[field].clone();
    assert_eq!(kind(&broker, "vhosts/v", "default_queue_type"), "quorum");
    let mut client = enter(&broker, "v");
    client.does(typed("a", DURABLE, None));
    for kind in [None, Some("quorum")] {
        client.does(typed("a", DURABLE, kind));
    }
    client.is_refused(typed("a", DURABLE, Some("classic")), 406, &other_type("a", "classic", "quorum"));
    client.does(typed("f", DURABLE, Some("classic")));
    client.is_refused(typed("f", DURABLE, None), 406, &other_type("f", "quorum", "classic"));
    client.does(typed("empty", DURABLE, Some("")));
    let text = "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_quorum_queue";
    client.is_refused(typed("", DURABLE, None), 406, text);
    // Those cannot be quorum queues.
    for (name, bits) in [("b", [false; 3]), ("c", [true, true, false]), ("d", [true, false, true])] {
        client.does(typed(name, bits, None));
        client.does(typed(name, bits, Some("classic")));
        assert_eq!(kind(&broker, &format!("queues/v/{name}"), "type"), "classic", "{name}");
        client.is_refused(typed(name, bits, Some("quorum")), 406, &other_type(name, "quorum", "classic"));
    }
    assert_eq!(put(&broker, "queues/v/http", &json!({ "durable": true })).0, 201);
    let broker = broker.kill_for_a_while().start();
    for name in ["a", "empty", "http"] {
        assert_eq!(kind(&broker, &format!("queues/v/{name}"), "type"), "quorum", "{name}");
    }
    assert_eq!(kind(&broker, "vhosts/v", "default_queue_type"), "quorum");
    let told = get(&broker, "definitions").1;
    let its = told["vhosts"].as_array().unwrap().iter().find(|vhost| vhost["name"] == "v").unwrap();
    assert_eq!(its["metadata"]["default_queue_type"], "quorum");
    for (wrong, why) in [
        (json!("foo"), "foo is not a valid queue type"),
        (json!(""), "default_queue_type must not be an empty string"),
        (json!(5), "5 is not a valid default_queue_type value"),
    ] {
        let refused = put(&broker, "vhosts/v", &json!({ "default_queue_type": wrong }));
        assert_eq!(refused, (400, why.to_owned()));
    }
    assert_eq!(kind(&broker, "vhosts/v", "default_queue_type"), "quorum");
    // What a change does not say is not said any more.
    assert_eq!(put(&broker, "vhosts/v", &json!({ "description": "d" })).0, 204);
    assert_eq!(kind(&broker, "vhosts/v", "default_queue_type"), "classic");
    let mut client = enter(&broker, "v");
    client.does(typed("f", DURABLE, None));
    client.is_refused(typed("a", DURABLE, None), 406, &other_type("a", "classic", "quorum"));
}

#[test]
fn the_configuration_says_it_too() {
    let (broker, _configuration) =
        broker_with("vhosts = [\"/\", \"v\"]\n[vhost.v]\ndefault-queue-type = \"quorum\"");
    enter(&broker, "v").does(typed("q", DURABLE, None));
    enter(&broker, "/").does(typed("q", DURABLE, None));
    let of = |path: &str, field: &str| get(&broker, path).1[field].clone();
    assert_eq!([of("queues/v/q", "type"), of("queues/%2F/q", "type")], ["quorum", "classic"]);
    assert_eq!(of("vhosts/v", "default_queue_type"), "quorum");
    // What is said while it runs counts.
    assert_eq!(put(&broker, "vhosts/v", &json!({ "default_queue_type": "classic" })).0, 204);
    let mut client = enter(&broker, "v");
    client.does(typed("p", DURABLE, None));
    assert_eq!(of("queues/v/p", "type"), "classic");
}

#[test]
fn limits_that_the_configuration_sets_are_changed_there() {
    let limited = "vhosts = [\"/\", \"ten\"]\n[vhost.\"ten\"]\nmax-connections = 1\nmax-queues = 1";
    let (broker, _configuration) = broker_with(limited);
    let limits = json!([{ "vhost": "ten", "value": { "max-connections": 1, "max-queues": 1 } }]);
    assert_eq!(get(&broker, "vhost-limits"), (200, limits.clone()));
    let mut client = enter(&broker, "ten");
    let text =
        "NOT_ALLOWED - access to vhost 'ten' refused for user 'guest': connection limit (1) is reached";
    assert_eq!(kept_out(&broker, "ten"), text);
    client.does(durable_queue("one"));
    let text = "PRECONDITION_FAILED - cannot declare queue 'two': queue limit in vhost 'ten' (1) is reached";
    client.is_refused(durable_queue("two"), 406, text);
    let why = "the configuration sets max-queues of vhost 'ten' to 1, so it is changed there";
    assert_eq!(put(&broker, "vhost-limits/ten/max-queues", &json!({ "value": 2 })), (409, why.to_owned()));
    assert_eq!(delete(&broker, "vhost-limits/ten/max-connections"), 409);
    let refused = refuses(&broker, &["vhost", "limits", "ten", "--max-queues", "none"]);
    assert!(refused.contains(why), "{refused}");
    // What says the same again is no change: a file of definitions that was given out here.
    assert_eq!(put(&broker, "vhost-limits/ten/max-queues", &json!({ "value": 1 })).0, 204);
    assert_eq!(get(&broker, "vhost-limits"), (200, limits));
    assert_eq!(put(&broker, "vhost-limits/%2F/max-queues", &json!({ "value": 2 })).0, 204);
}

/// What `leveret store stat` says of the store of a broker that is down.
fn stat(data: &Path) -> Value {
    let mut stat = Command::new(BINARY);
    let said = stat.args(["store", "stat", "--json", "--data-dir"]).arg(data).output();
    let said = said.unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    serde_json::from_slice(&said.stdout).unwrap()
}

#[test]
fn the_lanes_of_a_queue_with_priorities_go_with_its_virtual_host() {
    let (broker, _configuration) = broker_with("");
    put(&broker, "vhosts/made", &json!({}));
    let mut client = enter(&broker, "made");
    let words = Arguments::new().short(0).short_string("q").bits(&[false, true, false, false, false]);
    let most = Arguments::new().short_string("x-max-priority").octet(b'l').long_long(9);
    client.does(Call(id::QUEUE_DECLARE, words.long_string(most.into_bytes()), id::QUEUE_DECLARE_OK));
    for priority in 0..10 {
        // Delivery mode 2, and a priority.
        client.publishes("", "q", &[0x18, 0, 2, priority]);
    }
    let stopped = broker.stop_for_a_while();
    assert_eq!(stat(&stopped.data_directory())["messages"], 10);
    let broker = stopped.start();
    assert_eq!(delete(&broker, "vhosts/made"), 204);
    let mut stopped = broker.stop_for_a_while();
    for _ in 0..2 {
        let stat = stat(&stopped.data_directory());
        assert_eq!((&stat["messages"], &stat["unnamed"]), (&json!(0), &json!([])), "{stat}");
        stopped = stopped.start().kill_for_a_while();
    }
}
