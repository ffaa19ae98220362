//! The versions of a plugin over HTTP, and what is answered where there is no way back. The way back
//! itself is in the reload suite.

use super::{
    asking::{BINARY, get, get_as, json_of, post},
    command_line::leveret,
};
use leveret_testkit::{Broker, guests};
use serde_json::json;

const PREFIX: &str = "example_02_exchange_type";

#[test]
fn without_a_version_from_before_there_is_no_way_back_and_the_reason_is_told() {
    let component = guests::component(PREFIX);
    let digest = leveret_plugin::Digest::of(&std::fs::read(&component).unwrap());
    let digest: String = digest.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let broker = Broker::builder(BINARY).plugin(component).start();

    let told = get(&broker, &format!("plugins-versions/{PREFIX}"));
    assert_eq!((&told["plugin"], &told["scope"]), (&json!(PREFIX), &json!("global")));
    let [version] = &told["versions"].as_array().unwrap()[..] else { panic!("{told}") };
    assert_eq!((&version["digest"], &version["serving"]), (&json!(digest), &json!(true)));
    assert!(version["since_ms"].as_u64() > Some(1_500_000_000_000), "{told}");

    let go_back = |body: serde_json::Value| {
        post(&broker, "plugins-rollback", "application/json", body.to_string().as_bytes())
    };
    let refused = go_back(json!({"plugin": PREFIX}));
    assert_eq!(refused.status(), 409);
    assert!(json_of(&refused)["reason"].as_str().unwrap().contains("no version from before"));
    assert_eq!(go_back(json!({"plugin": "none"})).status(), 404);
    assert_eq!(go_back(json!({"plugin": PREFIX, "vhost": "/"})).status(), 404, "it is not its own");
    assert_eq!(go_back(json!({"plugin": PREFIX, "vhost": "none"})).status(), 404);
    assert_eq!(go_back(json!({"plugin": PREFIX, "to": 1})).status(), 400);
    assert_eq!(get_as(&broker, None, &format!("plugins-versions/{PREFIX}")).status(), 401);

    let data = broker.data_directory();
    let shown = leveret(&["plugin", "versions", PREFIX, "--data-dir"], &data);
    assert!(shown.stdout.contains(&digest[..12]) && shown.stdout.contains("yes"), "{}", shown.report());
    let none = leveret(&["plugin", "rollback", "none", "--data-dir"], &data);
    assert_eq!(none.status.code(), Some(1), "{}", none.report());
    assert!(none.stderr.contains("keeps no version of a plugin none"), "{}", none.report());
    let not_its_own = leveret(&["plugin", "rollback", PREFIX, "--vhost", "/", "--data-dir"], &data);
    assert!(not_its_own.stderr.contains("of its own"), "{}", not_its_own.report());
}
