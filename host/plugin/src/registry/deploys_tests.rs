//! Files of several virtual hosts that change at once: whose is looked at when, and that what is under way for
//! one keeps no other waiting.

use super::*;
use crate::testing::{Guest, Scratch, World};
use std::{fs, time::Duration};

/// Long enough for any machine; only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(120);

fn own(vhost: &'static str) -> Scope {
    Scope::Vhost(Name::from_static(vhost))
}

fn guest(type_name: &'static str) -> Vec<u8> {
    Guest { type_name, ..Guest::default() }.component()
}

fn done(world: &World) {
    assert!(world.host.registry().wait_until_deployed(std::time::Instant::now() + PATIENCE));
}

/// The number of the version that serves a type: versions are numbered as they are examined.
fn version(world: &World, vhost: &'static str, type_name: &str) -> Option<u64> {
    match world.host.registry().lookup(&Name::from_static(vhost), type_name.as_bytes()) {
        Lookup::Serving(version) => Some(version.id.number()),
        _ => None,
    }
}

#[test]
fn one_file_of_a_tenant_is_not_behind_the_many_of_another() {
    let (world, scratch) = (World::empty(1), Scratch::new());
    let registry = world.host.registry();
    let types: Vec<&'static str> = (0..60).map(|number| &*format!("x-{number:03}").leak()).collect();
    let put = |name: &str, type_name: &'static str| {
        let path = scratch.path().join(name).with_extension("wasm");
        fs::write(&path, guest(type_name)).unwrap();
        path
    };
    let many: Vec<_> = types.iter().map(|type_name| put(type_name, type_name)).collect();
    let one = put("b", "x-test");
    for path in many {
        assert!(registry.note(&own("a"), FileKind::Serving, &path, true));
    }
    assert!(registry.note(&own("b"), FileKind::Serving, &one, true));
    done(&world);
    let later = |type_name: &&&str| version(&world, "a", type_name) > version(&world, "b", "x-test");
    assert!(version(&world, "b", "x-test").is_some());
    assert!(types.iter().filter(later).count() > 30, "it was served before the other's 30th");
    assert!(types.iter().all(|type_name| version(&world, "a", type_name).is_some()));
}

#[test]
fn what_lies_there_when_its_turn_comes_is_what_is_looked_at() {
    let (world, scratch) = (World::empty(1), Scratch::new());
    let registry = world.host.registry().clone();
    let path = scratch.path().join("guest.wasm");
    let put = |version: u8| fs::write(&path, Guest { version, ..Guest::default() }.component()).unwrap();
    // The lane is busy with a change that lasts until the file has changed.
    let change = registry.changing.begin_file(&own("a"), &path);
    for version in 1..=3 {
        put(version);
        assert!(registry.note(&own("a"), FileKind::Serving, &path, true));
    }
    assert!(registry.files_waiting(&own("a")) <= 1, "it waits once");
    drop(change);
    done(&world);
    let Lookup::Serving(version) = registry.lookup(&Name::from_static("a"), b"x-test") else { panic!() };
    assert_eq!(version.description.version, "3");
    assert_eq!(registry.refused(), [], "what was overtaken was not refused");
    // Gone and back: what somebody went back from is wanted again, and served.
    fs::remove_file(&path).unwrap();
    registry.note(&own("a"), FileKind::Serving, &path, false);
    done(&world);
    assert!(version_gone(&world));
}

fn version_gone(world: &World) -> bool {
    version(world, "a", "x-test").is_none()
}

#[test]
fn a_replay_under_way_keeps_no_other_plugin_waiting() {
    let mut world = World::empty(2);
    world.offer_own("a", "a/guest.wasm", &guest("x-test")).unwrap();
    world.enter("a");
    world.declare(0, "x").unwrap();
    let registry = world.host.registry().clone();
    // As while the plugin of a is replayed: everything of b goes on, and so do looks at what there is.
    let _change = registry.changing.begin_file(&own("a"), Path::new("a/guest.wasm"));
    world.offer_own("b", "b/guest.wasm", &guest("x-test")).unwrap();
    assert!(version(&world, "b", "x-test").is_some());
    assert!(registry.versions(&own("a"), "guest").is_empty());
    world.remove_own("b", "b/guest.wasm").unwrap();
    let switch =
        crate::policy::Switch::PluginInVhost { plugin: "guest".into(), vhost: Name::from_static("b") };
    assert!(registry.disable(&switch) && registry.enable(&switch));
}

#[test]
fn what_was_declared_while_a_version_was_replayed_is_replayed_before_it_serves() {
    // Declares and binds go on while versions come; each exchange is the newest version's, with its bindings.
    let mut world = World::empty(1);
    world.offer("guest.wasm", &guest("x-test")).unwrap();
    world.enter("a");
    let registry = world.host.registry().clone();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let swapping = std::thread::spawn(move || {
        let mut version = 1_u8;
        while stopped.try_recv().is_err() {
            version = version % 200 + 1;
            let bytes = Guest { version, ..Guest::default() }.component();
            registry.offer(Path::new("guest.wasm"), &bytes).unwrap();
        }
    });
    for number in 0..100 {
        let name = format!("x{number}");
        world.declare(0, &name).unwrap();
        world.bind_to(0, &name, "k", "q").unwrap();
        assert_eq!(world.route(0, &name, &["k", "n"]), ["q", ""], "{name}");
    }
    stop.send(()).unwrap();
    swapping.join().unwrap();
    for number in 0..100 {
        assert_eq!(world.route(0, &format!("x{number}"), &["k"]), ["q"]);
    }
}
