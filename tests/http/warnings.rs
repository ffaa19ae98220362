//! What an operator is told before messages fail: names that nobody has, grants that are missing, a plugin that
//! is set aside.

use super::{
    asking::{BINARY, get},
    command_line::leveret,
    session::{confirming, connect, on_broker, publish},
};
use lapin::{ExchangeKind, options::ExchangeDeclareOptions, types::FieldTable};
use leveret_testkit::{Broker, EVENT_WAIT_MAX, ScratchDirectory, guests, log_lines};
use serde_json::{Value, json};
use std::time::Instant;

const CONFIGURATION: &str = r#"
vhosts = ["/", "b"]
[plugins.every_capabilty]
grants = ["clock"]
[vhost.b]
allow = ["every_capability", "interceptors_v9"]
[vhost.b.plugins.every_capability]
grants = ["clock"]
[[intercept]]
interceptor = "appendd"
point = "publish"
order = 1
arguments = { header = "x-seen", value = "v" }
on-failure = "bypass"
"#;

fn broker_with(configuration: &str, plugins: &[&str]) -> (Broker, ScratchDirectory) {
    let scratch = ScratchDirectory::new("warnings");
    let file = scratch.path().join("leveret.toml");
    std::fs::write(&file, configuration).unwrap();
    let broker = Broker::builder(BINARY).argument("--config").argument(file);
    let with = plugins.iter().fold(broker, |broker, guest| broker.plugin(guests::component(guest)));
    (with.start(), scratch)
}

/// Each warning with words that it must have: what is wrong, what there is instead, what to set.
const EXPECTED: [(&str, &[&str]); 5] = [
    ("no-interceptor", &["'appendd' on publish", "there are 'append', 'by-key'"]),
    ("no-plugin", &["[plugins.\"every_capabilty\"]", "there are 'every_capability', "]),
    ("no-plugin", &["allow in [vhost.\"b\"]", "'interceptors_v9'", "there are 'interceptors_v1', "]),
    ("not-granted", &["'every_capability'", "random, ", "vhost '/'", "in [plugins.\"every_capability\"]"]),
    ("not-granted", &["'every_capability'", "vhost 'b'", "in [vhost.\"b\".plugins.\"every_capability\"]"]),
];

#[test]
fn what_will_not_work_is_said_at_the_start_and_shown() {
    let (broker, _kept) = broker_with(CONFIGURATION, &["every_capability", "interceptors_v1"]);
    let told = get(&broker, "plugins-warnings");
    let told = told.as_array().unwrap();
    assert_eq!(told.len(), EXPECTED.len(), "{told:?}");
    for (about, words) in EXPECTED {
        let whole =
            |it: &Value| format!("{}: {}", it["text"].as_str().unwrap(), it["hint"].as_str().unwrap());
        let says = |it: &Value| words.iter().all(|word| whole(it).contains(word));
        let found = told.iter().find(|it| it["about"] == about && says(it));
        let found = found.unwrap_or_else(|| panic!("{words:?} is not in {told:?}"));
        let line = broker.wait_for_log(&whole(found), EVENT_WAIT_MAX);
        assert!(line.contains("WARN"), "{line}");
    }
    let listed = leveret(&["plugin", "list", "--data-dir"], broker.data_directory());
    assert_eq!(listed.stdout.matches("\nwarning: ").count(), EXPECTED.len(), "{}", listed.report());
    let row = listed.stdout.lines().find(|line| line.starts_with("x-every-capability")).unwrap();
    assert!(row.contains(" parked ") && row.contains("needs the grant"), "{row}");
    let seen = get(&broker, "plugins/x-every-capability/vhosts/%2F");
    let set = "set grants = [\"clock\", \"emit\", ";
    assert!(seen["state"] == "parked" && seen["reason"].as_str().unwrap().contains(set), "{seen}");
    let attached = get(&broker, "plugins-interceptors");
    let there = &attached["attachments"][0];
    assert!(there["reason"].as_str().unwrap().ends_with("there are 'append', 'by-key'"), "{attached}");
    let line = broker.wait_for_log("the plugin serves nobody: it is not granted", EVENT_WAIT_MAX);
    assert!(line.contains("every_capability.wasm"), "{line}");
    let off = leveret(&["plugin", "disable", "every_capability", "--data-dir"], broker.data_directory());
    assert_eq!(off.status.code(), Some(0), "what is parked is there: {}", off.report());
}

const NO_ROOM: &str = r#"
vhosts = ["/", "tb"]
workers = 3
[vhost.tb]
totals = { memory-mib = 2 }
[[intercept]]
interceptor = "append"
point = "publish"
order = 1
arguments = { header = "x-seen", value = "v" }
"#;

#[test]
fn a_plugin_that_one_vhost_cannot_take_is_told_as_that() {
    let (broker, _kept) = broker_with(NO_ROOM, &["interceptors_v1"]);
    let told = get(&broker, "plugins-warnings");
    let [warning] = &told.as_array().unwrap()[..] else { panic!("{told}") };
    let (text, hint) = (warning["text"].as_str().unwrap(), warning["hint"].as_str().unwrap());
    assert!(text.ends_with("no plugin provides the interceptor 'append' in vhost 'tb'"), "{text}");
    let why = "what there is of its plugin 'interceptors_v1' was refused at stage ";
    assert!(hint.starts_with(why) && !hint.contains("allow"), "{hint}");
    let line = broker.wait_for_log("the virtual host does not have the plugin: ", EVENT_WAIT_MAX);
    assert!(line.contains("vhost=tb"), "{line}");
    assert!(!broker.log().contains("serves nobody"), "the first virtual host has it");
    let shown = leveret(&["plugin", "info", "interceptors_v1", "--data-dir"], broker.data_directory());
    for said in
        ["refused in some virtual hosts", "nothing of it serves there", "publish of all in virtual host /"]
    {
        assert!(shown.stdout.contains(said), "{said}: {}", shown.report());
    }
}

#[test]
fn what_comes_later_ends_a_warning_and_what_goes_makes_one() {
    let configuration =
        CONFIGURATION.replace("appendd", "append").replace("interceptors_v9", "interceptors_v1");
    let (broker, _kept) = broker_with(&configuration, &[]);
    let missing = "'append' on publish, every exchange in every vhost: no plugin provides";
    let count = |broker: &Broker| broker.log().matches(missing).count();
    broker.wait_for_log(missing, EVENT_WAIT_MAX);
    let file = broker.plugins_directory().join("interceptors_v1.wasm");
    std::fs::copy(guests::component("interceptors_v1"), &file).unwrap();
    broker.wait_for_log(log_lines::PLUGIN_SERVES, EVENT_WAIT_MAX);
    let about_append = |broker: &Broker| {
        let told = get(broker, "plugins-warnings");
        told.as_array().unwrap().iter().filter(|it| it["about"] == "no-interceptor").count()
    };
    assert_eq!((about_append(&broker), count(&broker)), (0, 1), "said once, and over");
    let before = broker.log_length();
    std::fs::remove_file(&file).unwrap();
    broker.wait_for_log_after(before, missing, EVENT_WAIT_MAX);
    assert_eq!(about_append(&broker), 1);
}

#[test]
fn a_plugin_that_is_set_aside_is_not_listed_as_serving() {
    let (broker, _kept) = broker_with("", &["traps_in_route"]);
    on_broker(&broker, async |broker| {
        let channel = confirming(&connect(broker).await).await;
        let types = get(broker, "plugins");
        let of_it = |it: &&Value| it["plugin"] == json!("traps_in_route");
        let listed = types.as_array().unwrap().iter().find(of_it).unwrap();
        assert_eq!(listed["state"], "serving", "{listed}");
        let kind = listed["type"].as_str().unwrap();
        let options = ExchangeDeclareOptions::default();
        let declared = ExchangeKind::Custom(kind.into());
        channel.exchange_declare("e".into(), declared, options, FieldTable::default()).await.unwrap();
        let began = Instant::now();
        // It is set aside for longer each time.
        let reason = loop {
            let confirm = publish(&channel, &"e".into(), "trap", b"x", false).await.unwrap();
            assert!(!confirm.is_ack(), "{confirm:?}");
            let now = get(broker, &format!("plugins/{kind}"));
            if now["state"] == "quarantined" {
                break now["reason"].as_str().unwrap().to_owned();
            }
            assert!(began.elapsed() < EVENT_WAIT_MAX, "it is never shown as set aside: {now}");
        };
        assert!(reason.starts_with("in virtual host /: it failed too often"), "{reason}");
    });
}
