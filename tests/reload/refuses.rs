//! Files that are not taken: the version that served before serves on, and the log says why.

use super::deploy::{Way, deploy, put};
use super::session::*;
use lapin::types::FieldTable;
use leveret_testkit::{Broker, guests, log_lines};

/// Each of these files in place of version 1, which must still route afterwards.
fn old_serves_on(way: Way, bytes: &[u8], reason: &str) {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    deploy(&broker, Way::Renamed, "versioned_v1", "versioned.wasm");
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let exchange = own_exchange(&channel, "x-versioned").await;
        let queue = own_queue(&channel).await;
        bind(&channel, &queue, &exchange, "k.v1", FieldTable::default()).await;

        let line = put(broker, way, bytes, "versioned.wasm", log_lines::PLUGIN_REFUSED);
        assert!(line.contains(reason), "the reason is not there: {line}");

        assert!(publish(&channel, &exchange, "k", b"x", true).await.unwrap().take_message().is_none());
        assert_eq!(drain(&channel, &queue).await, [b"x"]);
        // A new exchange of that type is the old version's as well.
        own_exchange(&channel, "x-versioned").await;
    });
}

fn guest_bytes(name: &str) -> Vec<u8> {
    std::fs::read(guests::component(name)).unwrap()
}

#[test]
fn no_component_at_all() {
    for way in [Way::InPlace, Way::Renamed] {
        old_serves_on(way, b"this is no component", "not WebAssembly");
    }
}

#[test]
fn a_component_cut_in_half() {
    let whole = guest_bytes("versioned_v2");
    old_serves_on(Way::Renamed, whole.get(..whole.len() / 2).unwrap(), "");
}

#[test]
fn a_core_module() {
    old_serves_on(Way::Renamed, b"\0asm\x01\0\0\0", "component");
}

#[test]
fn a_component_of_another_world() {
    old_serves_on(Way::Renamed, &guest_bytes("other_world"), "leveret:routing");
}

#[test]
fn a_version_of_the_contract_that_does_not_exist() {
    old_serves_on(Way::Renamed, &guest_bytes("wrong_version"), "9.9.9");
}

#[test]
fn an_import_that_nobody_provides() {
    old_serves_on(Way::Renamed, &guest_bytes("imports_a_stranger"), "import");
}

#[test]
fn a_trap_in_describe() {
    old_serves_on(Way::Renamed, &guest_bytes("traps_in_describe"), "describe");
}

#[test]
fn a_name_that_belongs_to_the_broker() {
    old_serves_on(Way::Renamed, &guest_bytes("shadows_a_built_in"), "topic");
}
