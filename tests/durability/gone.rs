//! Whoever deletes over HTTP what is gone already is told so once that is on disk.

use crate::{BINARY, syncs::is_synced};
use leveret_testkit::{Broker, WatchedDisk, disk::Call};

const GUEST: &str = "Basic Z3Vlc3Q6Z3Vlc3Q=";
const SYNC_MS: u64 = 1000;

/// The status of a request for a path below `/api`.
fn ask(broker: &Broker, method: &str, path: &str, body: Option<&str>) -> u16 {
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("http://{}/api/{path}", broker.http_address()))
        .header("authorization", GUEST)
        .header("content-type", "application/json");
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let answer = match body {
        Some(body) => agent.run(request.body(body.to_owned()).unwrap()),
        None => agent.run(request.body(()).unwrap()),
    };
    answer.unwrap().status().as_u16()
}

#[test]
fn a_second_delete_is_answered_when_the_first_is_on_disk() {
    let disk = WatchedDisk::new();
    let broker = disk.watch(Broker::builder(BINARY)).start();
    let policy = r#"{"pattern": "^gone-", "definition": {"max-length": 9}}"#;
    let permission = r#"{"configure": "", "write": "", "read": ""}"#;
    assert_eq!(ask(&broker, "PUT", "users/holder", Some(r#"{"password": "x", "tags": ""}"#)), 201);
    let things = [
        ("users/gone-user", r#"{"password": "x", "tags": ""}"#),
        ("permissions/%2F/holder", permission),
        ("policies/%2F/gone-policy", policy),
        ("queues/%2F/gone-queue", r#"{"durable": true}"#),
        ("exchanges/%2F/gone-exchange", r#"{"type": "fanout", "durable": true}"#),
    ];
    for (path, body) in things {
        assert!([201, 204].contains(&ask(&broker, "PUT", path, Some(body))), "{path}");
        let before = disk.calls().len();
        disk.delay_syncs(SYNC_MS);
        std::thread::scope(|scope| {
            let first = scope.spawn(|| ask(&broker, "DELETE", path, None));
            // It is gone at once.
            while ask(&broker, "GET", path, None) != 404 {}
            assert_eq!(ask(&broker, "DELETE", path, None), 404, "{path}");
            let calls = disk.calls().split_off(before);
            let is_written =
                |call: &Call| matches!(call, Call::Write { name, .. } if name.starts_with("segment-"));
            let write = calls.iter().position(is_written).unwrap();
            assert!(is_synced(&calls, write), "{path}: {calls:?}");
            assert_eq!(first.join().unwrap(), 204, "{path}");
        });
        disk.delay_syncs(0);
    }
}
