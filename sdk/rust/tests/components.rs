//! What a built component imports and exports: what its code uses, and nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use leveret_testkit::guests::component;
use std::{collections::BTreeSet, fs};

/// The interfaces of the contract that a component names, as imports or exports. Each that it has is spelled
/// out in its bytes, and no other.
fn interfaces(guest: &str) -> BTreeSet<String> {
    const PACKAGE: &[u8] = b"leveret:routing/";
    let bytes = fs::read(component(guest)).unwrap();
    let starts = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(PACKAGE));
    let name = |at: usize| {
        let rest = String::from_utf8_lossy(&bytes[at + PACKAGE.len()..at + PACKAGE.len() + 64]).into_owned();
        let (name, version) = rest.split_once('@').unwrap();
        // The linker's own names go on behind the version.
        let version: String =
            version.chars().take_while(|letter| letter.is_ascii_digit() || *letter == '.').collect();
        format!("{name}@{version}")
    };
    starts.map(name).collect()
}

/// These of the current version, and the types, which everything imports.
fn current(names: &[&str]) -> BTreeSet<String> {
    names.iter().chain(&["types"]).map(|name| format!("{name}@0.2.0")).collect()
}

const CAPABILITIES: [&str; 12] = [
    "clock",
    "random",
    "log",
    "metric",
    "effects",
    "key-value",
    "message-store",
    "holds",
    "timers",
    "enqueue",
    "emit",
    "queue-info",
];

#[test]
fn a_plugin_that_uses_no_capability_imports_none() {
    for guest in ["two_types", "example_02_exchange_type"] {
        assert_eq!(interfaces(guest), current(&["exchange-type", "exchange-type-batch"]), "{guest}");
    }
    assert_eq!(interfaces("plain_form_only"), current(&["exchange-type"]));
}

#[test]
fn a_component_has_the_interfaces_that_were_named_and_the_imports_that_are_called() {
    let kept = ["exchange-type", "exchange-type-batch", "exchange-type-events", "exchange-type-info"];
    assert_eq!(interfaces("last_value"), current(&[&kept[..], &["message-store"]].concat()));
    let kinds = ["exchange-type", "exchange-type-batch", "interceptor", "interceptor-batch", "clock"];
    assert_eq!(interfaces("both_kinds"), current(&kinds));
    let optional =
        ["exchange-type-marks", "exchange-type-timers", "exchange-type-reconfigure", "exchange-type-migrate"];
    let every = [&kept[..], &optional[..], &CAPABILITIES[..]].concat();
    assert_eq!(interfaces("every_capability"), current(&every));
}

/// One guest stays as components were before 0.2.0.
#[test]
fn a_component_of_an_older_version_names_that_one() {
    let names = interfaces("contract_0_1_0");
    assert!(names.contains("exchange-type@0.1.0"), "{names:?}");
    assert!(names.iter().all(|name| name.ends_with("@0.1.0")), "{names:?}");
}
