//! What an operator sees of a file that was refused, of an interceptor by its name, and how a plugin that
//! only intercepts is switched; the way to any kept version and forward again.

use super::{
    asking::{BINARY, get, get_as, json_of, post},
    command_line::leveret,
};
use leveret_testkit::{Broker, EVENT_WAIT_MAX, ScratchDirectory, guests, log_lines};
use serde_json::{Value, json};

fn put(broker: &Broker, bytes: &[u8], file: &str, awaited: &str) {
    let (aside, before) = (broker.aside().join("written-aside"), broker.log_length());
    std::fs::write(&aside, bytes).unwrap();
    std::fs::rename(aside, broker.plugins_directory().join(file)).unwrap();
    broker.wait_for_log_after(before, awaited, EVENT_WAIT_MAX);
}

fn guest(name: &str) -> Vec<u8> {
    std::fs::read(guests::component(name)).unwrap()
}

/// Of the list, all that has a refused file.
fn refused(broker: &Broker) -> Vec<Value> {
    let all = get(broker, "plugins");
    all.as_array().unwrap().iter().filter(|plugin| plugin.get("refused").is_some()).cloned().collect()
}

fn plugin(broker: &Broker, arguments: &[&str], code: i32) -> String {
    let finished = leveret(&[&["plugin"][..], arguments, &["--data-dir"]].concat(), broker.data_directory());
    assert_eq!(finished.status.code(), Some(code), "{}", finished.report());
    finished.stdout + &finished.stderr
}

#[test]
fn a_refused_file_is_shown_until_it_is_replaced_or_removed() {
    let broker = Broker::start(BINARY);
    assert!(!plugin(&broker, &["list"], 0).contains("REFUSED FILE"));
    put(&broker, &guest("traps_in_describe"), "p.wasm", log_lines::PLUGIN_REFUSED);
    let [alone] = &refused(&broker)[..] else { panic!("{:?}", refused(&broker)) };
    let file = &alone["refused"][0];
    assert_eq!((&alone["type"], &alone["state"]), (&json!(""), &json!("refused")));
    assert_eq!(
        (&file["stage"], &file["scope"], &file["plugin"]),
        (&json!("trial"), &json!("global"), &json!("p"))
    );
    assert!(file["file"].as_str().unwrap().ends_with("/p.wasm") && file["since_ms"].as_u64() > Some(1));
    assert_eq!(file.get("serving_version"), None);
    let reason = file["reason"].as_str().unwrap();
    for shown in [plugin(&broker, &["list"], 0), plugin(&broker, &["info", "p"], 0)] {
        for said in ["/p.wasm", "trial", "global", reason] {
            assert!(shown.contains(said), "{said}: {shown}");
        }
    }

    put(&broker, &guest("versioned_v1"), "p.wasm", log_lines::PLUGIN_SERVES);
    assert_eq!(refused(&broker), Vec::<Value>::new());
    // Beside the type that the older version serves on.
    put(&broker, b"no component", "p.wasm", log_lines::PLUGIN_REFUSED);
    let [beside] = &refused(&broker)[..] else { panic!("{:?}", refused(&broker)) };
    assert_eq!((&beside["type"], &beside["state"]), (&json!("x-versioned"), &json!("serving")));
    assert_eq!(beside["refused"][0]["stage"], json!("read"));
    assert_eq!(beside["refused"][0]["serving_version"], json!("1.0.0"));
    assert_eq!(get(&broker, "plugins/x-versioned")["refused"], beside["refused"]);
    let shown = plugin(&broker, &["info", "x-versioned"], 0);
    assert!(
        shown.contains("at stage read since ") && shown.contains("version 1.0.0 serves instead"),
        "{shown}"
    );
    let shown = plugin(&broker, &["list"], 0);
    assert!(shown.contains("SERVES INSTEAD") && shown.contains("1.0.0"), "{shown}");

    let before = broker.log_length();
    std::fs::remove_file(broker.plugins_directory().join("p.wasm")).unwrap();
    broker.wait_for_log_after(before, log_lines::PLUGIN_REMOVED, EVENT_WAIT_MAX);
    assert_eq!(refused(&broker), Vec::<Value>::new());
}

#[test]
fn what_is_no_file_is_shown_too() {
    let broker = Broker::start(BINARY);
    let (folder, before) = (broker.plugins_directory(), broker.log_length());
    std::os::unix::fs::symlink(guests::component("versioned_v1"), folder.join("link.wasm")).unwrap();
    broker.wait_for_log_after(before, "links are not followed", EVENT_WAIT_MAX);
    let shown = plugin(&broker, &["info", "link"], 0);
    assert!(shown.contains("link.wasm") && shown.contains("not a regular file"), "{shown}");
    std::fs::remove_file(folder.join("link.wasm")).unwrap();
    // One that comes after it is gone is taken; by then it was looked for.
    put(&broker, &guest("versioned_v1"), "real.wasm", log_lines::PLUGIN_SERVES);
    assert_eq!(refused(&broker), Vec::<Value>::new());
}

#[test]
fn an_interceptor_is_asked_for_by_name_and_its_plugin_switched_off_and_on() {
    let configuration = ScratchDirectory::new("interceptor");
    let config = configuration.path().join("leveret.toml");
    let attached = "[[intercept]]\ninterceptor = \"append\"\npoint = \"publish\"\norder = 7\n\
                    arguments = { header = \"x-seen\", value = \"v\" }\non-failure = \"bypass\"\n";
    std::fs::write(&config, attached).unwrap();
    let broker = Broker::builder(BINARY).argument("--config").argument(config);
    let broker = broker.plugin(guests::component("interceptors_v1")).start();
    let told = get(&broker, "plugins-interceptors/append");
    assert_eq!(told["interceptors"].as_array().unwrap().len(), 1, "{told}");
    assert_eq!(told["attachments"][0]["state"], json!("serving"), "{told}");
    assert_eq!(get_as(&broker, Some(super::asking::GUEST), "plugins-interceptors/none").status(), 404);
    let shown = plugin(&broker, &["info", "append"], 0);
    for said in ["plugin      interceptors_v1", "publish of all in virtual host /", "order       7", "bypass"]
    {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    assert!(plugin(&broker, &["info", "by-key"], 0).contains("attached    nowhere"));
    // By the name of the file: all that it provides.
    let shown = plugin(&broker, &["info", "interceptors_v1"], 0);
    assert!(shown.contains("append") && shown.contains("by-key"), "{shown}");
    assert!(plugin(&broker, &["info", "none"], 1).contains("no exchange type none, no interceptor none"));

    assert!(plugin(&broker, &["disable", "interceptors_v1"], 0).contains("switched off"));
    let shown = plugin(&broker, &["info", "append"], 0);
    assert!(shown.contains("parked") && shown.contains("is switched off"), "{shown}");
    assert!(plugin(&broker, &["enable", "interceptors_v1"], 0).contains("switched on"));
    assert_eq!(get(&broker, "plugins-interceptors/append")["attachments"][0]["state"], json!("serving"));
    assert!(plugin(&broker, &["disable", "interceptors_v2"], 1).contains("has no plugin"));
}

#[test]
fn a_plugin_goes_to_any_kept_version_and_forward_again() {
    let broker = Broker::start(BINARY);
    for name in ["versioned_v1", "versioned_with_traps", "versioned_v2"] {
        put(&broker, &guest(name), "versioned.wasm", log_lines::PLUGIN_SERVES);
    }
    let serving = || get(&broker, "plugins/x-versioned")["version"].clone();
    let shown = plugin(&broker, &["rollback", "versioned", "--to", "1.0.0"], 0);
    assert!(shown.contains("went back from 2.0.0") && shown.contains("or leveret plugin forward"), "{shown}");
    assert_eq!(serving(), json!("1.0.0"));
    let shown = plugin(&broker, &["rollback", "versioned", "--to", "7.0"], 1);
    assert!(shown.contains("no kept version") && shown.contains("(2.0.0)"), "{shown}");
    assert!(plugin(&broker, &["list"], 0).contains("somebody went back from this version"));
    let shown = plugin(&broker, &["forward", "versioned"], 0);
    assert!(shown.contains("went forward") && !shown.contains("is not taken"), "{shown}");
    assert_eq!(serving(), json!("2.0.0"));
    assert!(plugin(&broker, &["forward", "versioned"], 1).contains("serves already"));
    assert!(!plugin(&broker, &["list"], 0).contains("REFUSED FILE"));

    let go = |body: Value| post(&broker, "plugins-rollback", "application/json", body.to_string().as_bytes());
    let digest = leveret_plugin::Digest::of(&guest("versioned_with_traps")).to_hex();
    let went = json_of(&go(json!({"plugin": "versioned", "to": digest[..16]})));
    assert_eq!((&went["digest"], &went["forward"]), (&json!(digest), &json!(false)), "{went}");
    assert_eq!(went["file_left_out"], json!(true));
    let went = json_of(&go(json!({"plugin": "versioned", "newest": true})));
    assert_eq!((&went["version"], &went["forward"]), (&json!("2.0.0"), &json!(true)), "{went}");
    assert_eq!(go(json!({"plugin": "versioned", "newest": true, "to": "1.0.0"})).status(), 400);
}
