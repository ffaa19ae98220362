//! A command that names a tenant and a plugin that is another tenant's own does nothing, and says so.

use crate::*;
use serde_json::{Value, json};

/// Runs `leveret plugin` against the broker; what it said, and whether that was an error.
fn plugin(tenants: &Tenants, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    for variable in ["LEVERET_DATA_DIR", "LEVERET_CONFIG", "LEVERET_PASSWORD"] {
        command.env_remove(variable);
    }
    command.arg("plugin").args(arguments).arg("--data-dir").arg(tenants.broker.data_directory());
    let done = process::run(&mut command, EVENT_WAIT_MAX).unwrap();
    (done.status.success(), format!("{}{}", done.stdout, done.stderr))
}

/// Orders something over HTTP: the status and the answer.
fn put(tenants: &Tenants, path: &str, body: &Value) -> (u16, Value) {
    let url = format!("http://{}/api/{path}", tenants.broker.http_address());
    let request = ureq::put(url).header("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=");
    let request = request.header("content-type", "application/json");
    let sent = request.config().http_status_as_error(false).build().send(body.to_string().as_bytes());
    let answer = sent.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.into_body().read_to_vec().unwrap()).unwrap())
}

#[test]
fn a_plugin_that_is_anothers_own_is_not_meant() {
    const WRONG: &str =
        "the plugin versioned_v1 is there for vhost 'b' alone; vhost 'a' has none of that name";
    let tenants = Tenants::with("");
    tenants.serve("b", "versioned_v1");
    on(&tenants, async |tenants| {
        let b = Versioned::declare(tenants, "b").await;
        for command in ["disable", "enable"] {
            let (done, said) = plugin(tenants, &[command, "versioned_v1", "--vhost", "a"]);
            assert!(!done && said.contains(WRONG), "{command}: {said}");
        }
        for enabled in [false, true] {
            let order = json!({"plugin": "versioned_v1", "vhost": "a", "enabled": enabled});
            let (status, refused) = put(tenants, "plugins-switches", &order);
            assert_eq!((status, &refused["reason"]), (400, &json!(WRONG)));
        }
        for command in [&["rollback"][..], &["forward"], &["versions"]] {
            let (done, said) = plugin(tenants, &[command, &["versioned_v1", "--vhost", "a"][..]].concat());
            assert!(!done && said.contains("has no plugin versioned_v1 of its own"), "{command:?}: {said}");
        }
        let folder = tenants.folder("b").join("candidates");
        fs::create_dir_all(&folder).unwrap();
        let aside = tenants.broker.aside().join("candidate-aside");
        fs::copy(guests::component("versioned_v2"), &aside).unwrap();
        let before = tenants.broker.log_length();
        fs::rename(aside, folder.join("versioned_v1.wasm")).unwrap();
        tenants.broker.wait_for_log_after(before, "the candidate is in shadow", EVENT_WAIT_MAX);
        for command in [&["canary", "--percent", "100"][..], &["shadow"], &["promote"], &["withdraw"]] {
            let (done, said) = plugin(tenants, &[command, &["versioned_v1", "--vhost", "a"][..]].concat());
            assert!(!done && said.contains(WRONG), "{command:?}: {said}");
        }
        assert_eq!(b.version().await, 1, "nothing was done to whose it is");
        // Whoever may, and a switch that was turned before.
        let (done, said) = plugin(tenants, &["disable", "versioned_v1", "--vhost", "b"]);
        assert!(done && said.contains("switched off"), "{said}");
        assert!(b.refusal().await.1.contains("switched off"));
        let (done, said) = plugin(tenants, &["enable", "versioned_v1", "--vhost", "b"]);
        assert!(done && said.contains("switched on"), "{said}");
        assert_eq!(b.version().await, 1);
    });
}
