//! `/api/plugins`, and `leveret plugin` that shows it.

use super::{
    asking::{BINARY, get},
    command_line::leveret,
    session::{confirming, connect, on_broker},
};
use lapin::{
    ExchangeKind,
    options::ExchangeDeclareOptions,
    types::{FieldTable, ShortString},
};
use leveret_testkit::{Broker, EVENT_WAIT_MAX, guests, log_lines};
use serde_json::json;

const TYPE: &str = "x-longest-prefix";
const GUEST_FILE: &str = "example_02_exchange_type";

/// A type of the list.
fn listed(broker: &Broker, name: &str) -> serde_json::Value {
    let all = get(broker, "plugins");
    let found = all.as_array().unwrap().iter().find(|plugin| plugin["type"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {all}")).clone()
}

#[test]
fn a_plugin_is_shown_while_it_serves_and_when_it_is_gone() {
    let component = guests::component(GUEST_FILE);
    let digest = leveret_plugin::Digest::of(&std::fs::read(&component).unwrap());
    let digest: String = digest.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let broker = Broker::builder(BINARY).plugin(component).start();
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let kind = ExchangeKind::Custom(TYPE.into());
        let (name, options) = (ShortString::from("orders"), ExchangeDeclareOptions::default());
        channel.exchange_declare(name, kind, options, FieldTable::default()).await.unwrap();

        let mut served = listed(broker, TYPE);
        let mut alone = get(broker, "plugins/x-longest-prefix");
        let vhosts = alone.as_object_mut().unwrap().remove("vhosts").expect("what virtual hosts see");
        assert_eq!((vhosts[0]["vhost"].as_str(), vhosts[0]["exchanges"].as_u64()), (Some("/"), Some(1)));
        // Instances may come meanwhile.
        for told in [&mut served, &mut alone] {
            let memory = told.as_object_mut().unwrap().remove("memory_bytes").expect("what instances have");
            assert!(memory.as_u64() > Some(65_536), "{memory}");
        }
        assert_eq!(served, alone);
        let summary = served["summary"].as_str().expect("a line of help").to_owned();
        let expected = json!({
            "type": TYPE, "state": "serving", "exchanges": 1, "plugin": GUEST_FILE,
            "version": "0.1.0", "digest": digest, "compiler": served["compiler"], "builtin": false,
            "summary": summary, "pure": true, "purity_withdrawn": false, "scope": "global",
            "remembered_bytes": 0,
            "calls": {"remembered": 0, "asked": 0, "calls": 0, "failed": 0, "dead_ids": 0, "stood_in": 0},
        });
        assert_eq!(served, expected);
        assert_eq!(listed(broker, "topic")["builtin"], true);

        let shown = leveret(&["plugin", "info", TYPE, "--data-dir"], broker.data_directory());
        assert_eq!(shown.status.code(), Some(0), "{}", shown.report());
        for word in [digest.as_str(), summary.as_str(), "serving", GUEST_FILE] {
            assert!(shown.stdout.contains(word), "{word}: {}", shown.report());
        }

        std::fs::remove_file(broker.plugins_directory().join(GUEST_FILE).with_extension("wasm")).unwrap();
        broker.wait_for_log(log_lines::PLUGIN_REMOVED, EVENT_WAIT_MAX);
        let parked = listed(broker, TYPE);
        let reason = parked["reason"].as_str().expect("a reason").to_owned();
        assert_eq!((&parked["state"], &parked["exchanges"]), (&json!("parked"), &json!(1)));
        assert_eq!(parked["scope"], "vhost '/'");
        let shown = leveret(&["plugin", "list", "--data-dir"], broker.data_directory());
        let line = shown.stdout.lines().find(|line| line.starts_with(TYPE)).expect("a line of the table");
        assert!(line.contains("parked") && line.contains(&reason), "{line}");
        let overview = get(broker, "overview");
        let types = overview["exchange_types"].as_array().unwrap();
        let of_overview = types.iter().find(|t| t["name"] == TYPE).expect("in the overview too");
        assert_eq!(*of_overview, json!({"name": TYPE, "description": reason, "enabled": false}));
    });
}
