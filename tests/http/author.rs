//! What an author does without a broker: `leveret plugin check`, `test`, `bench`.

use super::command_line::leveret;
use leveret_testkit::{ScratchDirectory, guests, workspace};
use std::path::Path;

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn every_stage_of_a_sound_file_is_told_with_what_it_needs() {
    let sound = leveret(&["plugin", "check"], guests::component("example_02_exchange_type"));
    assert_eq!(sound.status.code(), Some(0), "{}", sound.report());
    let stages: Vec<&str> = sound.stdout.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(stages, ["read", "compile", "contract", "policy", "trial", "type"]);
    for word in ["exports exchange-type", "imports nothing that needs a grant", "x-longest-prefix", "pure"] {
        assert!(sound.stdout.contains(word), "{word}: {}", sound.report());
    }
    let able = leveret(&["plugin", "check"], guests::component("every_capability"));
    assert!(able.stdout.contains("key-value, message-store"), "{}", able.report());
    let to_set = "\"key-value\", \"message-store\", ";
    assert!(able.stdout.contains(to_set) && able.stdout.contains("in [plugins.\"every_capability\"]"));
    let both = leveret(&["plugin", "check"], guests::component("interceptors_v1"));
    for line in [
        "interceptor append: Appends a text to a header (pure: verdicts are remembered)\n",
        "          can be attached at publish, deliver, dead-letter\n",
        "          argument header, a string, required: the header\n",
    ] {
        assert!(both.stdout.contains(line), "{line}: {}", both.report());
    }
    // No import tells of these.
    for told in [&sound, &able] {
        assert!(told.stdout.contains("needs 'hold' to answer hold"), "{}", told.report());
    }
}

/// A compiler takes a second for each two megabytes: whoever waits is told for what.
#[test]
fn that_a_large_file_is_compiled_is_said() {
    let scratch = ScratchDirectory::new("large");
    let large = scratch.path().join("large.wasm");
    let mut bytes = std::fs::read(guests::component("example_02_exchange_type")).unwrap();
    // A section of a mebibyte that nobody reads: its kind, its length, the length of its name.
    bytes.extend([0, 0x81, 0x80, 0x40, 0]);
    bytes.resize(bytes.len() + (1 << 20), 0);
    std::fs::write(&large, bytes).unwrap();
    let checked = leveret(&["plugin", "check"], &large);
    assert_eq!(checked.status.code(), Some(0), "{}", checked.report());
    assert!(checked.stderr.contains("large.wasm: 2 MiB are compiled"), "{}", checked.report());
    let small = leveret(&["plugin", "check"], guests::component("example_02_exchange_type"));
    assert!(!small.stderr.contains("compiled"), "{}", small.report());
}

#[test]
fn what_a_plugin_writes_is_shown_and_what_a_file_or_its_cases_lack_is_named() {
    let scratch = ScratchDirectory::new("output");
    let cases = scratch.path().join("cases.toml");
    let test = |guest: &str, text: &str| {
        std::fs::write(&cases, text).unwrap();
        leveret(&["plugin", "test", path(&guests::component(guest))], &cases)
    };
    let message = "[[message]]\nkey = \"a\"\ndeliver = []\n";
    let shown = test("hash_map_and_eprintln", &format!("type = \"x-hash-map\"\n{message}"));
    assert_eq!(shown.status.code(), Some(0), "{}", shown.report());
    for line in ["described", "opened exchange", "routed a"] {
        assert!(shown.stderr.contains(line), "{line}: {}", shown.report());
    }
    let panics = leveret(&["plugin", "check"], guests::component("traps_in_describe"));
    assert!(panics.stderr.contains("panicked at"), "{}", panics.report());

    let refusals = [
        ("x-hash-map", "", "has no case"),
        ("x-hashmap", message, "there is no exchange type 'x-hashmap'; the file has x-hash-map"),
    ];
    for (type_name, case, why) in refusals {
        let refused = test("hash_map_and_eprintln", &format!("type = \"{type_name}\"\n{case}"));
        assert_eq!(refused.status.code(), Some(1), "{}", refused.report());
        assert!(refused.stderr.contains(why), "{}", refused.report());
    }
}

#[test]
fn a_file_that_a_broker_would_refuse_is_refused_at_the_same_stage() {
    let scratch = ScratchDirectory::new("check");
    let nonsense = scratch.path().join("nonsense.wasm");
    std::fs::write(&nonsense, "hello").unwrap();
    let cases = [
        (nonsense, "read"),
        (guests::component("wrong_version"), "contract"),
        (guests::component("traps_in_describe"), "trial"),
        (guests::component("shadows_a_built_in"), "trial"),
    ];
    for (file, stage) in cases {
        let refused = leveret(&["plugin", "check"], &file);
        assert_eq!(refused.status.code(), Some(1), "{}", refused.report());
        let last = refused.stdout.lines().last().expect("a line");
        assert!(last.starts_with(stage) && last.contains("FAILED"), "{stage}: {}", refused.report());
    }
}

#[test]
fn the_cases_of_the_example_hold_and_what_differs_is_shown() {
    let file = guests::component("example_02_exchange_type");
    let cases = workspace().join("examples/02-exchange-type/cases.toml");
    let passed = leveret(&["plugin", "test", path(&file)], &cases);
    assert_eq!(passed.status.code(), Some(0), "{}", passed.report());
    assert_eq!(passed.stdout, "3 cases, 0 failed\n");

    let scratch = ScratchDirectory::new("cases");
    let wrong = scratch.path().join("cases.toml");
    let text = std::fs::read_to_string(&cases).unwrap();
    let text = text.replace("deliver = [\"orders\"]", "deliver = [\"europe\"]");
    std::fs::write(&wrong, text + "[[refused-binding]]\nkey = \"x\"\n").unwrap();
    let failed = leveret(&["plugin", "test", path(&file)], &wrong);
    assert_eq!(failed.status.code(), Some(1), "{}", failed.report());
    let expected = "message 2, with the key \"order.us.4\"\n  expected  deliver to europe\n  \
                    got       deliver to orders\nrefused binding 1, with the key \"x\"\n  \
                    expected  refused\n  got       it is taken\n4 cases, 2 failed\n";
    assert_eq!(failed.stdout, expected);
    std::fs::write(&wrong, "type = \"x-longest-prefix\"\n[[message]]\nkey = \"a\"\n").unwrap();
    let unclear = leveret(&["plugin", "test", path(&file)], &wrong);
    assert_eq!(unclear.status.code(), Some(1), "{}", unclear.report());
    assert!(
        unclear.stderr.contains("message 1") && unclear.stderr.contains("say one of"),
        "{}",
        unclear.report()
    );
}

#[test]
fn every_kind_of_decision_can_be_expected_and_effects_last_from_message_to_message() {
    let scratch = ScratchDirectory::new("decisions");
    let cases = scratch.path().join("cases.toml");
    let text = r#"
        type = "x-every-capability"
        [[binding]]
        queue = "q"
        key = "once 1"
        [[binding]]
        queue = "q"
        key = "enqueue q"
        [[message]]
        key = "once 1"
        deliver = ["q"]
        [[message]]
        key = "once 1"
        drop = "duplicate"
        [[message]]
        key = "hold 5000"
        hold-ms = 5000
        [[message]]
        key = "queue"
        reject = "0 ready"
        [[message]]
        key = "enqueue q"
        deliver = ["q", "q", "q"]
    "#;
    std::fs::write(&cases, text).unwrap();
    let tested = leveret(&["plugin", "test", path(&guests::component("every_capability"))], &cases);
    assert_eq!(tested.status.code(), Some(0), "{}", tested.report());
}

#[test]
fn what_a_plugin_costs_is_measured() {
    let measured = leveret(&["plugin", "bench"], guests::component("example_02_exchange_type"));
    assert_eq!(measured.status.code(), Some(0), "{}", measured.report());
    for row in ["remembered", "asked, 64 at a time", "asked, one by one"] {
        let line = measured.stdout.lines().find(|line| line.starts_with(row)).expect(row);
        let ns: f64 = line.split_whitespace().rev().nth(3).and_then(|ns| ns.parse().ok()).expect("a number");
        assert!(ns > 0.0, "{line}");
    }
    let cases = workspace().join("examples/02-exchange-type/cases.toml");
    let file = guests::component("example_02_exchange_type");
    let with_cases = leveret(&["plugin", "bench", path(&file), "--cases"], &cases);
    assert!(with_cases.stdout.contains("with 4 bindings, 3 different messages"), "{}", with_cases.report());
}

#[test]
fn what_gives_no_answer_is_not_measured() {
    let scratch = ScratchDirectory::new("bench");
    let cases = scratch.path().join("cases.toml");
    for (guest, type_name, key, why) in
        [("traps_in_route", "x-traps-in-route", "trap", "asked to trap"), ("loops", "x-loops", "loop", "CPU")]
    {
        let text = format!("type = \"{type_name}\"\n[[message]]\nkey = \"{key}\"\ndeliver = []\n");
        std::fs::write(&cases, text).unwrap();
        let measured = leveret(&["plugin", "bench", path(&guests::component(guest)), "--cases"], &cases);
        assert_eq!(measured.status.code(), Some(1), "{}", measured.report());
        assert!(measured.stderr.contains("a message gets no answer"), "{}", measured.report());
        // The guest's own words among the reasons.
        assert!(measured.stderr.contains(why), "{}", measured.report());
        assert!(!measured.stdout.contains("ns a message"), "{}", measured.report());
    }
}
