//! Users of a running broker over HTTP, as RabbitMQ's tools do it, and by the command line.

use crate::{
    asking::{GUEST, U, ask, delete, does, get, put, refuses},
    broker_with,
    client::{Client, declare_queue, log_in, open, plain},
};
use leveret_testkit::wire::{Arguments, id};
use serde_json::{Value, json};

/// Made by RabbitMQ 4.3.6 of the password `p`.
const HASH: &str = "wuB4hQeerJGkG3bNwV+1ZpH/94+MHmTBrR3ebOd0IBAYB5T9";

fn all() -> Value {
    json!({ "configure": ".*", "write": ".*", "read": ".*" })
}

#[test]
fn users_are_made_changed_and_deleted() {
    let (broker, _configuration) = broker_with("");
    let done = String::new();
    let tagged = json!({ "password_hash": HASH, "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": "a,b , c" });
    assert_eq!(put(&broker, "users/u", &tagged), (201, done.clone()));
    let shown = json!({
        "name": "u", "password_hash": HASH, "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": ["a", "b", "c"], "limits": {}
    });
    assert_eq!(get(&broker, "users/u"), (200, shown));
    assert_eq!(get(&broker, "users/without-permissions").1[0]["name"], "u");
    assert_eq!(put(&broker, "users/u", &json!({ "password": "p", "tags": ["k"] })), (204, done.clone()));
    assert_eq!(get(&broker, "users/u").1["hashing_algorithm"], "argon2id");
    for (wrong, why) in [
        (json!({ "password": "p" }), "tags_not_present"),
        (
            json!({ "password": "p", "password_hash": HASH, "tags": "" }),
            "both_password_and_password_hash_are_provided",
        ),
    ] {
        assert_eq!(put(&broker, "users/u", &wrong), (400, why.to_owned()));
    }
    assert_eq!(put(&broker, "users/u", &json!({ "password_hash": "!!", "tags": "" })).0, 400);
    for (path, status) in
        [("users/nobody", 404), ("users/nobody/permissions", 404), ("user-limits/nobody", 404)]
    {
        assert_eq!(get(&broker, path).0, status, "{path}");
    }
    assert_eq!(put(&broker, "users/v", &json!({ "tags": "" })), (201, done));
    let bulk = json!({ "users": ["v", "nobody"] });
    assert_eq!(ask(&broker, GUEST, "POST", "users/bulk-delete", Some(&bulk)).0, 204);
    assert_eq!((get(&broker, "users/v").0, delete(&broker, "users/v")), (404, 404));
    let hash = get(&broker, "auth/hash_password/p").1["ok"].as_str().unwrap().to_owned();
    assert_eq!(put(&broker, "users/w", &json!({ "password_hash": hash, "tags": "management" })).0, 201);
    let w = "Basic dzpw";
    assert_eq!(ask(&broker, w, "GET", "whoami", None).1["tags"], json!(["management"]));
}

#[test]
fn permissions_are_given_and_taken() {
    let (broker, _configuration) = broker_with("");
    put(&broker, "users/u", &json!({ "password": "p", "tags": "" }));
    assert_eq!(put(&broker, "permissions/%2F/u", &all()).0, 201);
    assert_eq!(put(&broker, "permissions/%2F/u", &all()).0, 204);
    let shown = json!({ "user": "u", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*" });
    assert_eq!(get(&broker, "permissions/%2F/u"), (200, shown.clone()));
    assert_eq!(get(&broker, "users/u/permissions"), (200, json!([shown.clone()])));
    for path in ["permissions", "vhosts/%2F/permissions"] {
        assert_eq!(get(&broker, path).1[1], shown, "{path}");
    }
    let topic = json!({ "exchange": "t", "write": "^a", "read": "^b" });
    let why = "no_such_exchange: t".to_owned();
    assert_eq!(put(&broker, "topic-permissions/%2F/u", &topic), (400, why));
    put(&broker, "exchanges/%2F/t", &json!({ "type": "topic" }));
    assert_eq!(put(&broker, "topic-permissions/%2F/u", &topic).0, 201);
    let shown = json!([{ "user": "u", "vhost": "/", "exchange": "t", "write": "^a", "read": "^b" }]);
    for path in [
        "topic-permissions",
        "topic-permissions/%2F/u",
        "vhosts/%2F/topic-permissions",
        "users/u/topic-permissions",
    ] {
        assert_eq!(get(&broker, path), (200, shown.clone()), "{path}");
    }
    assert_eq!(
        put(&broker, "permissions/%2F/u", &json!({ "configure": "x" })),
        (400, "[{key_missing,write},{key_missing,read}]".to_owned())
    );
    assert_eq!(
        put(&broker, "permissions/%2F/u", &json!({ "configure": "(", "write": "", "read": "" })).0,
        400
    );
    for path in ["permissions/%2F/nobody", "permissions/nowhere/u"] {
        assert_eq!(put(&broker, path, &all()), (400, "vhost_or_user_not_found".to_owned()));
    }
    let topics = "topic-permissions/%2F/u";
    assert_eq!((delete(&broker, topics), delete(&broker, topics), get(&broker, topics).0), (204, 404, 404));
    let permissions = "permissions/%2F/u";
    assert_eq!((delete(&broker, permissions), delete(&broker, permissions)), (204, 404));
}

#[test]
fn live_connections_see_what_changes_and_end_with_their_user() {
    let (broker, _configuration) = broker_with("");
    put(&broker, "users/u", &json!({ "password": "p", "tags": "" }));
    put(&broker, "permissions/%2F/u", &all());
    let mut u = Client::open(broker.address(), "u", "p");
    u.does(declare_queue("x", false, &[]));
    assert_eq!(put(&broker, "users/u", &json!({ "password": "other", "tags": "" })).0, 204);
    u.does(declare_queue("x", true, &[]));
    put(&broker, "permissions/%2F/u", &json!({ "configure": "^y", "write": "", "read": "" }));
    u.is_denied(declare_queue("x", true, &[]), "configure access to queue 'x'");
    u.does(declare_queue("y", false, &[]));
    delete(&broker, "permissions/%2F/u");
    u.is_denied(declare_queue("y", true, &[]), "configure access to queue 'y'");
    delete(&broker, "users/u");
    let closed = u.connection.expect_connection_close(320);
    assert_eq!(closed.text, "CONNECTION_FORCED - user 'u' is deleted");
}

#[test]
fn users_have_limits() {
    let (broker, _configuration) = broker_with("");
    put(&broker, "users/u", &json!({ "password": "p", "tags": "" }));
    put(&broker, "permissions/%2F/u", &all());
    assert_eq!(put(&broker, "user-limits/u/max-connections", &json!({ "value": 1 })).0, 204);
    assert_eq!(put(&broker, "user-limits/u/max-channels", &json!({ "value": 2 })).0, 204);
    let limits = json!([{ "user": "u", "value": { "max-channels": 2, "max-connections": 1 } }]);
    assert_eq!(
        (get(&broker, "user-limits"), get(&broker, "user-limits/u")),
        ((200, limits.clone()), (200, limits))
    );
    let mut u = Client::open(broker.address(), "u", "p");
    let mut second = log_in(broker.address(), "PLAIN", &plain("u", "p"));
    open(&mut second, "/");
    assert_eq!(
        second.expect_connection_close(530).text,
        "NOT_ALLOWED - connection refused for user 'u': user connection limit (1) is reached"
    );
    // A channel that is closed counts no more.
    u.connection.open_channel(2);
    u.connection.send_method(
        2,
        id::CHANNEL_CLOSE,
        Arguments::new().short(200).short_string("").short(0).short(0),
    );
    u.connection.expect_method(2, id::CHANNEL_CLOSE_OK);
    u.connection.open_channel(3);
    u.connection.send_method(4, id::CHANNEL_OPEN, Arguments::new().short_string(""));
    // Instead of open-ok.
    let closed = u.connection.expect_connection_close(530);
    assert_eq!(
        (closed.text.as_str(), closed.method),
        (
            "NOT_ALLOWED - number of channels opened for user 'u' has reached the maximum allowed user limit of 2",
            (0, 0)
        )
    );
    for limit in ["max-connections", "max-channels"] {
        assert_eq!(delete(&broker, &format!("user-limits/u/{limit}")), 204);
    }
    assert_eq!(get(&broker, "user-limits"), (200, json!([])));
    let mut many: Vec<_> = (0..3).map(|_| Client::open(broker.address(), "u", "p")).collect();
    many.iter_mut().for_each(|u| u.connection.expect_alive());
    for (path, why) in [
        ("user-limits/u/foo", "Unrecognised terms [{<<\"foo\">>,1}] in user-limits"),
        ("user-limits/nobody/max-channels", "no_such_user: nobody"),
    ] {
        assert_eq!(put(&broker, path, &json!({ "value": 1 })), (400, why.to_owned()));
    }
}

#[test]
fn tags_say_what_a_user_may_ask() {
    let (broker, _configuration) = broker_with("vhosts = [\"/\", \"other\"]");
    let tags = |tags: &str| put(&broker, "users/u", &json!({ "password": "p", "tags": tags }));
    let asks = |method: &str, path: &str| {
        let (status, body) = ask(&broker, U, method, path, None);
        (status, body["reason"].as_str().unwrap_or_default().to_owned())
    };
    tags("");
    put(&broker, "permissions/%2F/u", &all());
    assert_eq!(asks("GET", "whoami"), (401, "Not management user".to_owned()));
    for tag in ["management", "policymaker", "monitoring"] {
        tags(tag);
        for path in ["whoami", "overview", "vhosts", "queues", "exchanges/%2F", "bindings/%2F"] {
            assert_eq!(asks("GET", path).0, 200, "{tag} {path}");
        }
        for path in ["queues/other", "exchanges/other", "bindings/other", "queues/nowhere"] {
            assert_eq!(asks("GET", path).0, 404, "{tag} {path}");
        }
        let mut paths = vec!["users", "users/u", "permissions", "vhosts/%2F", "user-limits", "store"];
        let of_plugins = ["plugins", "plugins-warnings"];
        if tag == "monitoring" {
            of_plugins.iter().for_each(|path| assert_eq!(asks("GET", path).0, 200, "{path}"));
        } else {
            paths.extend(of_plugins);
        }
        for path in paths {
            assert_eq!(asks("GET", path), (401, "Not administrator user".to_owned()), "{tag} {path}");
        }
        for path in ["users/u", "plugins/nothing"] {
            assert_eq!(asks("DELETE", path).0, 401, "{tag} {path}");
        }
        let vhosts = ask(&broker, U, "GET", "vhosts", None).1;
        let known = if tag == "monitoring" { 2 } else { 1 };
        assert_eq!((vhosts.as_array().unwrap().len(), &vhosts[0]["name"]), (known, &json!("/")));
    }
    tags("administrator");
    assert_eq!((asks("GET", "users").0, asks("GET", "queues/other").0), (200, 200));
}

#[test]
fn users_outlive_a_crash_and_declared_ones_are_changed_in_the_file() {
    let (broker, _configuration) = broker_with("[users.d]\npassword = \"d\"\ntags = [\"administrator\"]");
    // Guest is not made; the command line is always let in.
    does(&broker, &["user", "add", "u", "p", "--tags", "administrator"]);
    does(&broker, &["permission", "set", "u", "^a", ".*", ""]);
    does(&broker, &["topic-permission", "set", "u", "amq.topic", "^a", "^b"]);
    does(&broker, &["user", "limits", "u", "--max-channels", "7"]);
    let declared = refuses(&broker, &["user", "set-password", "d", "other"]);
    assert!(declared.contains("the configuration declares user 'd'"), "{declared}");
    let broker = broker.kill_for_a_while().start();
    let (_, user) = ask(&broker, U, "GET", "users/u", None);
    assert_eq!((&user["tags"], &user["limits"]), (&json!(["administrator"]), &json!({ "max-channels": 7 })));
    let (_, permissions) = ask(&broker, U, "GET", "permissions", None);
    assert_eq!(
        permissions,
        json!([{ "user": "u", "vhost": "/", "configure": "^a", "write": ".*", "read": "" }])
    );
    assert_eq!(ask(&broker, U, "GET", "topic-permissions", None).1[0]["write"], "^a");
    does(&broker, &["user", "delete", "u"]);
    let broker = broker.kill_for_a_while().start();
    assert_eq!(ask(&broker, U, "GET", "users/u", None).0, 401);
}

#[test]
fn the_command_line_manages_users() {
    let (broker, _configuration) = broker_with("");
    does(&broker, &["user", "add", "u", "--password-hash", HASH, "--tags", "management,x"]);
    assert!(refuses(&broker, &["user", "add", "u", "p"]).contains("there is a user u already"));
    does(&broker, &["user", "authenticate", "u", "p"]);
    assert!(refuses(&broker, &["user", "authenticate", "u", "q"]).contains("is refused"));
    does(&broker, &["user", "set-password", "u", "q"]);
    does(&broker, &["user", "authenticate", "u", "q"]);
    does(&broker, &["user", "set-tags", "u", "monitoring"]);
    does(&broker, &["user", "authenticate", "u", "q"]);
    let list = does(&broker, &["user", "list"]);
    assert_eq!(list, "guest  [administrator]\nu  [monitoring]\n");
    does(&broker, &["permission", "set", "u", "^a", "", ".*"]);
    let list = does(&broker, &["permission", "list", "--of", "u"]);
    assert_eq!(list, "u in /: configure \"^a\", write \"\", read \".*\"\n");
    assert!(refuses(&broker, &["permission", "set", "u", "(", "", ""]).contains("invalid_regexp"));
    does(&broker, &["permission", "clear", "u"]);
    assert!(refuses(&broker, &["permission", "clear", "u"]).contains("has nothing of that"));
    put(&broker, "exchanges/%2F/t", &json!({ "type": "topic" }));
    does(&broker, &["topic-permission", "set", "u", "t", "^a", "^b"]);
    let list = does(&broker, &["topic-permission", "list"]);
    assert_eq!(list, "u in /, exchange t: write \"^a\", read \"^b\"\n");
    does(&broker, &["topic-permission", "clear", "u"]);
    let limits = does(&broker, &["user", "limits", "u", "--max-connections", "3", "--max-channels", "none"]);
    assert_eq!(limits, "max-connections 3, max-channels none\n");
    does(&broker, &["user", "delete", "u"]);
    assert!(refuses(&broker, &["user", "delete", "u"]).contains("there is no user u"));
    // Where no password is given, a line of standard input is one; here there is none.
    assert!(refuses(&broker, &["user", "add", "v"]).contains("standard input"));
}
