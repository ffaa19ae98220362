//! Files on their way into service: what each stage refuses, and that the old version serves on.

use super::*;
use crate::{
    builder::{Place, PlaceRef},
    testing::{Guest, World},
};
use leveret_broker::port::Layer;
use leveret_model::Table;
use std::path::Path;

fn world() -> World {
    let mut world = World::with(Guest::default(), 2);
    world.declare(0, "x").unwrap();
    world.bind(0, "x", "a").unwrap();
    world.bind(1, "x", "refus2").unwrap();
    world
}

/// Offers a file that must be refused at that stage, and checks that nothing changed.
fn refused(world: &mut World, path: &str, bytes: &[u8], stage: Stage) -> String {
    let error = world.offer(path, bytes).unwrap_err();
    assert_eq!(error.stage, stage, "{error}");
    for worker in 0..2 {
        assert_eq!(world.route(worker, "x", &["a", "b"]), ["a", ""]);
    }
    error.reason
}

#[test]
fn a_new_version_replaces_the_old_and_has_its_bindings() {
    let mut world = world();
    assert_eq!(world.route(0, "x", &["a", "b"]), ["a", ""]);
    let v2 = Guest { version: 2, fanout: true, ..Guest::default() }.component();
    let report = world.offer("guest.wasm", &v2).unwrap();
    assert!(matches!(report.change, LoadChange::Replaced { .. }));
    assert_eq!((report.version.as_str(), report.exchanges, report.bindings), ("2", 1, 2));
    assert_eq!(report.strategy, CodeStrategy::Cranelift);
    for worker in 0..2 {
        assert_eq!(world.route(worker, "x", &["b"]), ["a,refus2"]);
    }
    assert_eq!(world.offer("guest.wasm", &v2).unwrap().change, LoadChange::Unchanged);
}

#[test]
fn instances_of_a_new_version_are_ready_when_it_is_swapped_in() {
    let mut world = world();
    let v2 = Guest { version: 2, fanout: true, ..Guest::default() }.component();
    world.offer("guest.wasm", &v2).unwrap();
    let Lookup::Serving(version) = world.host.registry().lookup(world.vhost.name(), b"x-test") else {
        panic!("it serves")
    };
    let place = PlaceRef::of(&version, world.vhost.name());
    let exchange = world.exchange("x");
    for mailbox in &world.host.registry().mailboxes {
        let replica = mailbox.take(&place).unwrap();
        let (generation, _) = replica.knows(exchange.id, Layer::FRONT).unwrap();
        assert_eq!(generation.0 + 1, exchange.generation().0, "all but the swap itself");
        mailbox.put(Place::from(&place), replica);
    }
    assert_eq!(world.route(0, "x", &["b"]), ["a,refus2"]);
}

#[test]
fn each_stage_refuses_and_the_old_version_serves_on() {
    let mut world = world();
    let good = Guest::default().component();
    let reason = refused(&mut world, "guest.wasm", &good[..good.len() - 1], Stage::Read);
    assert!(reason.contains("ends after"), "{reason}");
    let reason = refused(&mut world, "guest.wasm", b"no component", Stage::Read);
    assert!(reason.contains("not WebAssembly"), "{reason}");
    // A type section that makes no sense, of the right length.
    refused(&mut world, "guest.wasm", b"\0asm\x0d\0\x01\0\x07\x03\xff\xff\xff", Stage::Compile);
    let empty = wat::parse_str("(component)").unwrap();
    let reason = refused(&mut world, "guest.wasm", &empty, Stage::Contract);
    assert!(reason.contains("exports neither"), "{reason}");
    let reserved = Guest { type_name: "x-leveret-a", ..Guest::default() }.component();
    let reason = refused(&mut world, "other.wasm", &reserved, Stage::Trial);
    assert!(reason.contains("reserved"), "{reason}");
    let unwilling = Guest { version: 2, refuses: "refus2", ..Guest::default() }.component();
    let reason = refused(&mut world, "guest.wasm", &unwilling, Stage::Replay);
    assert_eq!(reason, "exchange 'x' in vhost '/' was refused: not taken");
    let renamed = Guest { type_name: "x-else", ..Guest::default() }.component();
    let reason = refused(&mut world, "guest.wasm", &renamed, Stage::Swap);
    assert!(reason.contains("drops the exchange type 'x-test'"), "{reason}");
}

#[test]
fn a_function_of_another_type_and_another_version_are_named() {
    let mut world = world();
    let wrong = Guest::default().component_of(
        &|wit| wit.replace("close: func(exchange: exchange-id)", "close: func(exchange: u64)"),
        &|wat| wat.replace("#close\") (param $exchange i32)", "#close\") (param i64) (local $exchange i32)"),
    );
    let reason = refused(&mut world, "guest.wasm", &wrong, Stage::Contract);
    assert!(reason.contains("'close'") && reason.contains("expected `u32` found `u64`"), "{reason}");
    let other = Guest::default().component_of(&|wit| wit.replace("routing@0.1.0", "routing@0.9.0"), &|wat| {
        wat.replace("@0.1.0#", "@0.9.0#")
    });
    let reason = refused(&mut world, "guest.wasm", &other, Stage::Contract);
    assert!(reason.contains("@0.9.0; this broker serves the versions 0.2.0 and 0.1.0"), "{reason}");
}

#[test]
fn one_name_is_one_files() {
    let mut world = world();
    let second = Guest { version: 2, fanout: true, ..Guest::default() }.component();
    let reason = refused(&mut world, "second.wasm", &second, Stage::Trial);
    assert!(reason.contains("guest.wasm already"), "{reason}");
}

#[test]
fn a_removed_plugin_parks_its_exchanges_until_it_is_back() {
    let mut world = world();
    let report = world.host.registry().remove(Path::new("guest.wasm")).unwrap();
    assert_eq!((report.exchanges, report.exchange_types.len()), (1, 1));
    assert!(world.host.registry().remove(Path::new("guest.wasm")).is_none());
    for worker in 0..2 {
        let answers = world.route(worker, "x", &["a", "b"]);
        assert!(answers.iter().all(|a| a.contains("parked") && a.contains("plugin guest was removed")));
    }
    assert!(world.declare(0, "y").is_err());
    assert!(world.bind(0, "x", "b").is_err());
    assert_eq!(world.exchange("x").binding_count(), 2);
    // Under another name too, and with what was unbound meanwhile gone.
    world.unbind(0, "x", "refus2");
    world.offer("back.wasm", &Guest::default().component()).unwrap();
    for worker in 0..2 {
        assert_eq!(world.route(worker, "x", &["a", "refus2"]), ["a", ""]);
    }
    world.delete(0, "x");
    world.host.registry().remove(Path::new("back.wasm")).unwrap();
    assert!(
        matches!(world.host.registry().lookup(world.vhost.name(), b"x-test"), Lookup::Unknown),
        "nobody misses it"
    );
}

#[test]
fn a_parked_type_is_forgotten_with_its_last_exchange() {
    let mut world = world();
    world.host.registry().remove(Path::new("guest.wasm")).unwrap();
    assert!(matches!(world.host.registry().lookup(world.vhost.name(), b"x-test"), Lookup::Parked(_)));
    world.delete(1, "x");
    assert!(matches!(world.host.registry().lookup(world.vhost.name(), b"x-test"), Lookup::Unknown));
}

#[test]
fn a_large_file_serves_from_winch_first() {
    let mut world = World::empty(2);
    let large = Guest { padding_bytes: WINCH_FIRST_ABOVE_BYTES, ..Guest::default() }.component();
    let report = world.offer("guest.wasm", &large).unwrap();
    assert_eq!(report.strategy, CodeStrategy::Winch);
    world.declare(0, "x").unwrap();
    world.bind(0, "x", "a").unwrap();
    world.host.registry().wait_for_upgrades();
    let info = world.host.registry().types().into_iter().find(|t| t.name.as_bytes() == b"x-test").unwrap();
    assert_eq!(info.exchanges, 1);
    let TypeState::Serving { strategy, digest, pure, .. } = info.state else { panic!("it serves") };
    assert_eq!((strategy, digest, pure), (CodeStrategy::Cranelift, report.digest, true));
    for worker in 0..2 {
        assert_eq!(world.route(worker, "x", &["a", "b"]), ["a", ""]);
    }
}

#[test]
fn a_version_that_is_replaced_while_it_is_compiled_anew_stays_replaced() {
    let world = World::empty(1);
    let large = |version| Guest { version, padding_bytes: WINCH_FIRST_ABOVE_BYTES, ..Guest::default() };
    world.offer("guest.wasm", &large(1).component()).unwrap();
    let report = world.offer("guest.wasm", &large(2).component()).unwrap();
    world.host.registry().wait_for_upgrades();
    let Lookup::Serving(version) = world.host.registry().lookup(world.vhost.name(), b"x-test") else {
        panic!("it serves")
    };
    assert_eq!(version.code.digest, report.digest);
    assert_eq!(version.code.strategy, CodeStrategy::Cranelift);
}

#[test]
fn a_type_that_nobody_has_may_be_dropped() {
    let mut world = World::with(Guest::default(), 1);
    world.offer("guest.wasm", &Guest { type_name: "x-else", ..Guest::default() }.component()).unwrap();
    assert!(world.declare(0, "x").is_err());
    world.declare_with(0, "x", "x-else", Table::new()).unwrap();
}
