//! A new version of a global plugin that one virtual host does not take: the others have it, that one goes on
//! with what it had, and comes after when it can.

use super::*;
use crate::{
    host::HostConfig,
    policy::Switch,
    testing::{Guest, Scratch, World},
};

const FILE: &str = "guest.wasm";
const PLUGIN: &str = "guest";

/// By exact key.
fn v1() -> Vec<u8> {
    Guest::default().component()
}

/// To all bindings; does not take the key `refus2`.
fn v2() -> Vec<u8> {
    Guest { version: 2, fanout: true, independent: false, refuses: "refus2", ..Guest::default() }.component()
}

/// Virtual hosts `a` and `b` with an exchange `x` and a binding `k`; in `b` another one, which version 2 does
/// not take.
fn world_of(config: HostConfig) -> World {
    let mut world = World::of(config);
    world.offer(FILE, &v1()).unwrap();
    for vhost in ["a", "b"] {
        world.enter(vhost);
        world.declare(0, "x").unwrap();
        world.bind(0, "x", "k").unwrap();
    }
    world.bind(0, "x", "refus2").unwrap();
    world
}

fn world() -> World {
    world_of(HostConfig { workers: 2, ..HostConfig::default() })
}

/// What a message with the key `n` gets in a virtual host, by either worker: nothing by version 1, all by
/// version 2.
fn routes(world: &mut World, vhost: &str) -> String {
    world.enter(vhost);
    let answers = [0, 1].map(|worker| world.route(worker, "x", &["n"]).remove(0));
    assert_eq!(answers[0], answers[1], "the workers differ");
    answers[0].clone()
}

fn held(world: &World) -> Vec<(Option<String>, Stage, Option<String>)> {
    let refused = world.host.registry().refused().into_iter();
    refused
        .map(|info| {
            (info.vhost.map(|vhost| vhost.to_text()), info.error.stage, info.serving.map(|serving| serving.0))
        })
        .collect()
}

#[test]
fn one_vhosts_exchange_holds_up_no_other() {
    let mut world = world();
    assert_eq!((routes(&mut world, "a"), routes(&mut world, "b")), (String::new(), String::new()));
    let report = world.offer(FILE, &v2()).unwrap();
    assert_eq!((report.exchanges, report.bindings), (1, 1), "those of a");
    let [(vhost, error)] = &report.held_back[..] else { panic!("{report:?}") };
    assert_eq!((vhost.as_bytes(), error.stage), (&b"b"[..], Stage::Replay));
    assert_eq!(error.reason, "exchange 'x' in vhost 'b' was refused: not taken");
    for _ in 0..2 {
        assert_eq!((routes(&mut world, "a"), routes(&mut world, "b")), ("k".into(), String::new()));
    }
    assert_eq!(held(&world), [(Some("b".into()), Stage::Replay, Some("1".into()))]);
    // What is declared and bound in b meanwhile is the older version's business, also what it alone takes.
    world.enter("b");
    world.declare(1, "y").unwrap();
    world.bind(1, "y", "refus2").unwrap();
    assert_eq!(world.route(0, "y", &["refus2"]), ["refus2"]);
    world.enter("a");
    assert!(world.bind(0, "x", "refus2").is_err(), "a has the newer one");
    assert!(world.host.registry().serves(version_in(&world, "b").id));
}

fn version_in(world: &World, vhost: &str) -> Arc<Version> {
    match world.host.registry().lookup(&Name::new(vhost.as_bytes()).unwrap(), b"x-test") {
        Lookup::Serving(version) => version,
        _ => panic!("nothing serves vhost {vhost}"),
    }
}

#[test]
fn what_every_vhost_refuses_is_refused() {
    let mut world = world();
    world.enter("a");
    world.bind(0, "x", "refus2").unwrap();
    assert_eq!(world.offer(FILE, &v2()).unwrap_err().stage, Stage::Replay);
    assert_eq!((routes(&mut world, "a"), routes(&mut world, "b")), (String::new(), String::new()));
    assert_eq!(held(&world), [(None, Stage::Replay, Some("1".into()))]);
    assert_eq!(version_in(&world, "a").id, version_in(&world, "b").id);
}

#[test]
fn a_vhost_comes_after_when_its_exchanges_have_changed() {
    let mut world = world();
    world.offer(FILE, &v2()).unwrap();
    let registry = world.host.registry().clone();
    let (b, before) = (Name::from_static("b"), version_in(&world, "b").id);
    assert!(registry.retry_in(&b, PLUGIN).unwrap().is_err(), "nothing has changed");
    assert_eq!(registry.to_retry(), []);
    world.enter("b");
    world.unbind(0, "x", "refus2");
    // Not before a while has passed since the last try; here nobody waits for that.
    let due = || registry.slots.read().state_of(&b);
    assert_ne!(due(), 0);
    assert_eq!(registry.retry_in(&b, PLUGIN), Some(Ok(())));
    assert_eq!((routes(&mut world, "b"), held(&world)), ("k".into(), vec![]));
    assert!(!registry.serves(before), "nobody has the older one any more");
    assert_eq!(registry.retry_in(&b, PLUGIN), None);
}

#[test]
fn what_has_changed_is_noticed_and_retried_by_itself() {
    let mut world = world();
    world.offer(FILE, &v2()).unwrap();
    let registry = world.host.registry().clone();
    registry.note_retries();
    registry.wait_for_upgrades();
    assert_eq!(held(&world).len(), 1);
    world.enter("b");
    world.unbind(0, "x", "refus2");
    while !held(&world).is_empty() {
        registry.note_retries();
        std::thread::yield_now();
    }
    assert_eq!(routes(&mut world, "b"), "k");
}

#[test]
fn the_next_version_is_for_all_and_going_back_finds_who_stayed() {
    let scratch = Scratch::new();
    let kept_dir = Some(scratch.path().join("kept"));
    let mut world = world_of(HostConfig { workers: 2, kept_dir, ..HostConfig::default() });
    world.offer(FILE, &v2()).unwrap();
    let registry = world.host.registry().clone();
    let report = registry.rollback(&Scope::Global, PLUGIN).unwrap();
    assert_eq!((report.exchanges, report.held_back.len()), (2, 0));
    assert_eq!((routes(&mut world, "a"), routes(&mut world, "b")), (String::new(), String::new()));
    assert_eq!(held(&world), [(None, Stage::Swap, Some("1".into()))], "the file that was gone back from");
    let forward = registry.go_to(&Scope::Global, PLUGIN, &GoTo::Newest).unwrap();
    assert_eq!(forward.held_back.len(), 1);
    let v3 = Guest { version: 3, fanout: true, independent: false, ..Guest::default() }.component();
    assert_eq!(world.offer(FILE, &v3).unwrap().held_back, []);
    assert_eq!((routes(&mut world, "a"), routes(&mut world, "b")), ("k".into(), "k,refus2".into()));
    assert_eq!(held(&world), []);
}

#[test]
fn with_the_file_both_versions_go() {
    let mut world = world();
    world.offer(FILE, &v2()).unwrap();
    let report = world.host.registry().remove(Path::new(FILE)).unwrap();
    assert_eq!(report.exchanges, 2);
    for vhost in ["a", "b"] {
        assert!(routes(&mut world, vhost).contains("guest was removed"), "{vhost}");
    }
    assert_eq!(held(&world), []);
    // One that comes has those back that it takes; the others stay parked, and say why.
    let report = world.offer(FILE, &v2()).unwrap();
    assert_eq!((report.exchanges, report.held_back.len()), (1, 1));
    assert_eq!(routes(&mut world, "a"), "k");
    assert!(routes(&mut world, "b").contains("not taken"));
}

#[test]
fn a_type_that_is_dropped_stays_where_an_exchange_has_it() {
    let mut world = World::empty(2);
    let both =
        |type_name: &'static str, version| Guest { version, type_name, ..Guest::default() }.component();
    world.offer(FILE, &both("x-test", 1)).unwrap();
    world.enter("a");
    world.declare(0, "x").unwrap();
    let other = both("x-othe", 2);
    assert_eq!(world.offer(FILE, &other).unwrap_err().stage, Stage::Swap);
    world.delete(0, "x");
    world.offer(FILE, &other).unwrap();
    world.declare_with(0, "x", "x-othe", Default::default()).unwrap();
    world.enter("b");
    assert!(world.declare(0, "y").is_err(), "it has that type no more");
}

#[test]
fn what_is_switched_off_in_the_vhost_that_stayed_is_the_version_that_it_stayed_on() {
    let mut world = world();
    world.offer(FILE, &v2()).unwrap();
    let registry = world.host.registry().clone();
    let switch = Switch::PluginInVhost { plugin: PLUGIN.into(), vhost: Name::from_static("b") };
    registry.disable(&switch);
    assert!(routes(&mut world, "b").contains("switched off"));
    registry.enable(&switch);
    assert_eq!((routes(&mut world, "a"), routes(&mut world, "b")), ("k".into(), String::new()));
}

#[test]
fn a_candidate_is_asked_where_it_is_taken() {
    let mut world = world();
    let registry = world.host.registry().clone();
    registry.offer_candidate(&Scope::Global, Path::new(FILE), &v2()).unwrap();
    let share = crate::Share::of_percent(100.0).unwrap();
    registry.canary(&Scope::Global, PLUGIN, share, None).unwrap();
    // Each worker finds it by its first batches.
    for worker in 0..2 {
        world.enter("a");
        while world.route(worker, "x", &["n"]) != ["k"] {}
        world.enter("b");
        for _ in 0..2 {
            assert_eq!(world.route(worker, "x", &["n"]), [""]);
        }
    }
    assert_eq!((routes(&mut world, "a"), routes(&mut world, "b")), ("k".into(), String::new()));
    let state = registry.candidates().remove(0).state.unwrap();
    let [(vhost, why)] = &state.left_out[..] else { panic!("{state:?}") };
    assert!(vhost.as_bytes() == b"b" && why.contains("not taken"), "{why}");
    assert_eq!((state.canary_failed, state.withdrawn), (0, None));
    let only_b = registry.canary(&Scope::Global, PLUGIN, share, Some(&Name::from_static("b")));
    assert_eq!(only_b.unwrap_err().stage, Stage::Replay);
    // Promoted, it is taken where it was tried.
    let report = registry.promote(&Scope::Global, PLUGIN, &v2()).unwrap();
    assert_eq!((report.exchanges, report.held_back.len()), (1, 1));
}

#[test]
fn a_candidate_that_is_taken_nowhere_is_refused() {
    let mut world = world();
    world.enter("a");
    world.bind(0, "x", "refus2").unwrap();
    let error = world.host.registry().offer_candidate(&Scope::Global, Path::new(FILE), &v2()).unwrap_err();
    assert_eq!(error.stage, Stage::Replay);
    let refused = world.host.registry().refused();
    assert_eq!((refused[0].path.as_path(), &refused[0].error), (Path::new("candidates/guest.wasm"), &error));
    assert_eq!(refused[0].serving.clone().unwrap().0, "1");
}
