//! Files that are not taken: the version that served before serves on, and the log says why.

use super::deploy::{Way, deploy, put};
use super::session::*;
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection};
use leveret_plugin::artifact::FILE_BYTES_MAX;
use leveret_testkit::{Broker, EVENT_WAIT_MAX, guests, log_lines};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;

/// A file in place of version 1, which must still route afterwards. The line of the log names the stage
/// and the reason.
fn old_serves_on(way: Way, bytes: &[u8], stage: &str, reason: &str) {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    deploy(&broker, Way::Renamed, "versioned_v1", "versioned.wasm");
    on_broker(&broker, async |broker| {
        let versioned = Versioned::declare(broker).await;
        let line = put(broker, way, bytes, "versioned.wasm", log_lines::PLUGIN_REFUSED);
        assert!(line.contains(&format!("stage={stage}")), "another stage than {stage}: {line}");
        assert!(line.contains(reason), "the reason is not there: {line}");
        versioned.version_1_routes().await;
        // A new exchange of that type is the old version's as well.
        own_exchange(&versioned.channel, "x-versioned").await;
    });
}

/// An exchange of the type `x-versioned` with a binding for version 1.
struct Versioned {
    _connection: Connection,
    channel: Channel,
    exchange: ShortString,
    queue: ShortString,
}

impl Versioned {
    async fn declare(broker: &Broker) -> Self {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let exchange = own_exchange(&channel, "x-versioned").await;
        let queue = own_queue(&channel).await;
        bind(&channel, &queue, &exchange, "k.v1", FieldTable::default()).await;
        Self { _connection: connection, channel, exchange, queue }
    }

    async fn version_1_routes(&self) {
        let confirm = publish(&self.channel, &self.exchange, "k", b"x", true).await.unwrap();
        assert!(confirm.is_ack() && confirm.take_message().is_none());
        assert_eq!(drain(&self.channel, &self.queue).await, [b"x"]);
    }
}

fn guest_bytes(name: &str) -> Vec<u8> {
    std::fs::read(guests::component(name)).unwrap()
}

#[test]
fn no_component_at_all() {
    for way in [Way::InPlace, Way::Renamed] {
        old_serves_on(way, b"this is no component", "read", "not WebAssembly");
    }
    old_serves_on(Way::Renamed, b"(component)", "read", "WebAssembly text");
}

#[test]
fn a_component_cut_in_half() {
    let whole = guest_bytes("versioned_v2");
    old_serves_on(Way::Renamed, whole.get(..whole.len() / 2).unwrap(), "read", "ends after");
}

#[test]
fn a_core_module() {
    old_serves_on(Way::Renamed, b"\0asm\x01\0\0\0", "read", "not a component");
}

#[test]
fn a_file_that_is_too_large() {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    deploy(&broker, Way::Renamed, "versioned_v1", "versioned.wasm");
    on_broker(&broker, async |broker| {
        let versioned = Versioned::declare(broker).await;
        let (aside, before) = (broker.aside().join("written-aside"), broker.log_length());
        // Without content: it takes no room on the disk.
        let file = File::create(&aside).unwrap();
        file.set_len(FILE_BYTES_MAX + 1).unwrap();
        fs::rename(aside, broker.plugins_directory().join("versioned.wasm")).unwrap();
        let line = broker.wait_for_log_after(before, log_lines::PLUGIN_REFUSED, EVENT_WAIT_MAX);
        assert!(line.contains("stage=read") && line.contains("the most is 67108864"), "{line}");
        versioned.version_1_routes().await;
    });
}

/// Its writer takes a pause in the middle. What is there of it may be refused meanwhile; when it is whole, it
/// serves.
#[test]
fn a_file_that_is_written_slowly() {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    deploy(&broker, Way::Renamed, "versioned_v1", "versioned.wasm");
    on_broker(&broker, async |broker| {
        let versioned = Versioned::declare(broker).await;
        let (whole, before) = (guest_bytes("versioned_v2"), broker.log_length());
        let (first, rest) = whole.split_at(whole.len() / 2);
        let mut file = File::create(broker.plugins_directory().join("versioned.wasm")).unwrap();
        file.write_all(first).unwrap();
        let line = broker.wait_for_log_after(before, log_lines::PLUGIN_REFUSED, EVENT_WAIT_MAX);
        assert!(line.contains("stage=read") && line.contains("ends after"), "{line}");
        versioned.version_1_routes().await;
        file.write_all(rest).unwrap();
        drop(file);
        broker.wait_for_log_after(before, log_lines::PLUGIN_SERVES, EVENT_WAIT_MAX);
        let confirm = publish(&versioned.channel, &versioned.exchange, "k", b"x", true).await.unwrap();
        assert!(confirm.take_message().is_some(), "by version 2 it goes nowhere");
    });
}

/// Links, folders and names that are made to look like lines of the log are left alone.
#[test]
fn what_is_no_file_of_its_own() {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    let plugins = broker.plugins_directory();
    let before = broker.log_length();
    symlink(guests::component("versioned_v2"), plugins.join("link.wasm")).unwrap();
    let line = broker.wait_for_log_after(before, "links are not followed", EVENT_WAIT_MAX);
    assert!(line.contains("link.wasm"), "{line}");
    let before = broker.log_length();
    fs::create_dir(plugins.join("folder.wasm")).unwrap();
    broker.wait_for_log_after(before, "folder.wasm is not a regular file", EVENT_WAIT_MAX);
    let before = broker.log_length();
    fs::copy(guests::component("versioned_v2"), plugins.join("a\n2026-01-01 INFO forged.wasm")).unwrap();
    let line = broker.wait_for_log_after(before, "is no name for a plugin's file", EVENT_WAIT_MAX);
    assert!(line.contains("a\\n2026"), "{line}");
    // Another one is taken, so all of these were seen.
    deploy(&broker, Way::Renamed, "loops", "loops.wasm");
    assert!(!broker.log().contains("x-versioned"), "{}", broker.log());
    assert!(!broker.log().lines().any(|line| line.starts_with("2026-01-01")));
}

#[test]
fn sections_that_do_not_compile() {
    let nonsense = b"\0asm\x0d\0\x01\0\x07\x03\xff\xff\xff";
    old_serves_on(Way::Renamed, nonsense, "compile", "failed to parse");
}

#[test]
fn a_component_of_another_world() {
    old_serves_on(Way::Renamed, &guest_bytes("other_world"), "contract", "leveret:routing");
}

#[test]
fn a_version_of_the_contract_that_does_not_exist() {
    old_serves_on(Way::Renamed, &guest_bytes("wrong_version"), "contract", "9.9.9");
}

#[test]
fn an_import_that_nobody_provides() {
    old_serves_on(Way::Renamed, &guest_bytes("imports_a_stranger"), "contract", "acme:secrets/vault");
}

#[test]
fn more_memory_from_the_start_than_it_may_have() {
    old_serves_on(Way::Renamed, &guest_bytes("large_from_the_start"), "policy", "memory");
}

#[test]
fn a_trap_in_describe() {
    old_serves_on(Way::Renamed, &guest_bytes("traps_in_describe"), "trial", "describe trapped");
}

#[test]
fn a_description_that_does_not_end() {
    old_serves_on(Way::Renamed, &guest_bytes("loops_in_describe"), "trial", "the limit is 50.0 ms");
}

#[test]
fn a_name_that_belongs_to_the_broker() {
    old_serves_on(Way::Renamed, &guest_bytes("shadows_a_built_in"), "trial", "topic");
}

#[test]
fn a_version_that_does_not_take_the_bindings_there_are() {
    let bytes = guest_bytes("refuses_bindings");
    old_serves_on(Way::Renamed, &bytes, "replay", "was refused: the key k.v1 is none");
}

#[test]
fn a_version_without_the_type_that_an_exchange_has() {
    let bytes = guest_bytes("loops");
    old_serves_on(Way::Renamed, &bytes, "swap", "drops the exchange type 'x-versioned'");
}
