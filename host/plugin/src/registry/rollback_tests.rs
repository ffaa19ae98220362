//! Going back to versions that served before, also over a restart and beside other changes.

use super::*;
use crate::{
    host::HostConfig,
    policy::{Limit, PolicyRules, Switch},
    testing::{Guest, Scratch, World},
};

const FILE: &str = "guest.wasm";
const PLUGIN: &str = "guest";

/// A broker's start with what the one before kept.
fn start(scratch: &Scratch) -> World {
    let kept_dir = Some(scratch.path().join("kept"));
    World::of(HostConfig { workers: 2, kept_dir, ..HostConfig::default() })
}

/// Version 1 matches keys, version 2 gives everybody everything.
fn version(number: u8) -> Vec<u8> {
    Guest { version: number, fanout: number == 2, ..Guest::default() }.component()
}

fn large(number: u8) -> Vec<u8> {
    Guest { version: number, padding_bytes: WINCH_FIRST_ABOVE_BYTES, ..Guest::default() }.component()
}

/// All that is kept, the newest first; the one that serves with a star.
fn versions(world: &World) -> Vec<String> {
    let versions = world.host.registry().versions(&Scope::Global, PLUGIN).into_iter();
    versions.map(|v| v.version + if v.serving { "*" } else { "" }).collect()
}

fn serving(world: &World) -> Option<String> {
    match world.host.registry().lookup(world.vhost.name(), b"x-test") {
        Lookup::Serving(version) => Some(version.description.version.clone()),
        Lookup::Parked(_) | Lookup::NotAllowed(_) | Lookup::Unknown => None,
    }
}

#[test]
fn the_version_before_serves_again_with_all_bindings() {
    let scratch = Scratch::new();
    let mut world = start(&scratch);
    world.offer(FILE, &version(1)).unwrap();
    world.declare(0, "x").unwrap();
    world.bind(0, "x", "a").unwrap();
    world.offer(FILE, &version(2)).unwrap();
    world.bind(0, "x", "b").unwrap();
    assert_eq!(world.route(1, "x", &["a"]), ["a,b"]);
    let report = world.host.registry().rollback(&Scope::Global, PLUGIN).unwrap();
    assert_eq!((report.version.as_str(), report.exchanges, report.bindings), ("1", 1, 2));
    assert_eq!(report.change, LoadChange::Replaced { digest: Digest::of(&version(2)) });
    for worker in 0..2 {
        assert_eq!(world.route(worker, "x", &["a", "b", "c"]), ["a", "b", ""]);
    }
    assert_eq!(versions(&world), ["2", "1*"]);
    // The file in the folder is seen again, and left alone; another one is taken.
    let error = world.offer(FILE, &version(2)).unwrap_err();
    assert!(error.stage == Stage::Swap && error.reason.contains("went back"), "{error}");
    assert_eq!(serving(&world).unwrap(), "1");
    world.offer(FILE, &version(3)).unwrap();
    assert_eq!(versions(&world), ["3*", "1", "2"]);
    world.offer(FILE, &version(2)).unwrap();
    assert_eq!(versions(&world), ["2*", "3", "1"]);
}

#[test]
fn any_kept_version_can_be_gone_to_and_forward_again() {
    let scratch = Scratch::new();
    let mut world = start(&scratch);
    for number in 1..=3 {
        world.offer(FILE, &version(number)).unwrap();
    }
    world.declare(0, "x").unwrap();
    world.bind(0, "x", "a").unwrap();
    let registry = world.host.registry().clone();
    let go = |to: &GoTo| registry.go_to(&Scope::Global, PLUGIN, to);
    let named = |name: &str| GoTo::Named(String::from(name));
    assert_eq!(go(&named("1")).unwrap().bindings, 1, "two versions back at once, by its own words");
    assert_eq!(
        (versions(&world), registry.left_out(&Scope::Global, PLUGIN)),
        (vec!["3".into(), "2".into(), "1*".into()], true)
    );
    let digits = Digest::of(&version(2)).to_hex();
    assert_eq!(go(&named(&digits[..12])).unwrap().version, "2");
    assert_eq!(world.route(1, "x", &["n"]), ["a"]);
    assert!(world.offer(FILE, &version(3)).is_err(), "the file stays left out");
    assert_eq!(go(&GoTo::Newest).unwrap().version, "3");
    assert_eq!(world.route(1, "x", &["n"]), [""]);
    // What was gone back from is wanted again, also after a restart.
    assert!(!registry.left_out(&Scope::Global, PLUGIN));
    assert_eq!(world.offer(FILE, &version(3)).unwrap().change, LoadChange::Unchanged);
    let refused = |to: &GoTo| go(to).unwrap_err().to_string();
    assert!(refused(&GoTo::Newest).contains("serves already"), "{}", refused(&GoTo::Newest));
    assert!(refused(&named("no")).contains("no kept version"), "{}", refused(&named("no")));
    for candidate in ["(1)", "(2)", "(3)"] {
        assert!(refused(&named("")).contains(candidate), "{}", refused(&named("")));
    }
    drop((world, registry));
    let world = start(&scratch);
    world.offer(FILE, &version(3)).unwrap();
    assert_eq!(serving(&world).unwrap(), "3");
}

#[test]
fn two_versions_that_call_themselves_the_same_are_told_apart_by_their_digests() {
    let scratch = Scratch::new();
    let world = start(&scratch);
    let same = Guest { version: 1, pure: false, ..Guest::default() }.component();
    for bytes in [version(1), same.clone(), version(2)] {
        world.offer(FILE, &bytes).unwrap();
    }
    let registry = world.host.registry();
    let go = |name: &str| registry.go_to(&Scope::Global, PLUGIN, &GoTo::Named(String::from(name)));
    let error = go("1").unwrap_err();
    assert!(error.stage == Stage::Read && error.reason.contains("more than one"), "{error}");
    let digests = [version(1), same].map(|bytes| Digest::of(&bytes).to_string());
    assert!(digests.iter().all(|digest| error.reason.contains(digest.as_str())), "{error}");
    assert!(!error.reason.contains("(2)"), "only those that were meant: {error}");
    go(&digests[0]).unwrap();
    assert_eq!(registry.versions(&Scope::Global, PLUGIN).iter().filter(|v| v.serving).count(), 1);
}

#[test]
fn there_must_be_something_to_go_back_to() {
    let scratch = Scratch::new();
    let world = start(&scratch);
    let refused = |world: &World| world.host.registry().rollback(&Scope::Global, PLUGIN).unwrap_err();
    assert_eq!(refused(&world).stage, Stage::Read);
    world.offer(FILE, &version(1)).unwrap();
    assert!(refused(&world).reason.contains("no version from before"));
    assert_eq!(serving(&world).unwrap(), "1");
    let without = World::with(Guest::default(), 1);
    assert!(refused(&without).reason.contains("no versions are kept"));
    assert!(without.host.registry().versions(&Scope::Global, PLUGIN).is_empty());
}

#[test]
fn an_older_version_passes_the_same_stages() {
    let scratch = Scratch::new();
    let mut world = start(&scratch);
    let unwilling = Guest { refuses: "refus2", ..Guest::default() }.component();
    world.offer(FILE, &unwilling).unwrap();
    world.offer(FILE, &version(2)).unwrap();
    world.declare(0, "x").unwrap();
    world.bind(0, "x", "refus2").unwrap();
    assert_eq!(world.host.registry().rollback(&Scope::Global, PLUGIN).unwrap_err().stage, Stage::Replay);
    assert_eq!(versions(&world), ["2*", "1"]);
    assert_eq!(world.route(0, "x", &["a"]), ["refus2"]);
    // And what is on disk is looked at.
    let name = format!("{}.wasm", Digest::of(&unwilling).0.map(|byte| format!("{byte:02x}")).concat());
    std::fs::write(scratch.path().join("kept/global").join(PLUGIN).join(name), b"no").unwrap();
    let error = world.host.registry().rollback(&Scope::Global, PLUGIN).unwrap_err();
    assert!(error.stage == Stage::Read && error.reason.contains("damaged"), "{error}");
    assert_eq!(serving(&world).unwrap(), "2");
}

#[test]
fn the_choice_holds_after_a_restart() {
    let scratch = Scratch::new();
    let world = start(&scratch);
    for number in 1..=3 {
        world.offer(FILE, &version(number)).unwrap();
    }
    world.host.registry().rollback(&Scope::Global, PLUGIN).unwrap();
    let since =
        |world: &World| world.host.registry().versions(&Scope::Global, PLUGIN).iter().map(|v| v.since).max();
    let began = since(&world);
    drop(world);
    let world = start(&scratch);
    assert_eq!(world.offer(FILE, &version(3)).unwrap_err().stage, Stage::Swap);
    assert_eq!((versions(&world), since(&world)), (vec!["3".into(), "2*".into(), "1".into()], began));
    world.host.registry().rollback(&Scope::Global, PLUGIN).unwrap();
    drop(world);
    let world = start(&scratch);
    world.offer(FILE, &version(3)).unwrap_err();
    assert_eq!(versions(&world), ["3", "2", "1*"]);
    // Taken away and put back: somebody wants it.
    world.host.registry().remove(Path::new(FILE)).unwrap();
    world.offer(FILE, &version(3)).unwrap();
    assert_eq!(serving(&world).unwrap(), "3");
}

#[test]
fn a_file_that_cannot_serve_after_a_start_leaves_the_last_good_version() {
    let scratch = Scratch::new();
    let world = start(&scratch);
    assert!(world.offer(FILE, b"nonsense").is_err());
    assert_eq!(serving(&world), None, "nothing served before");
    world.offer(FILE, &version(1)).unwrap();
    world.offer(FILE, &version(2)).unwrap();
    drop(world);
    let good = version(2);
    for broken in [b"nonsense".as_slice(), &good[..good.len() - 1]] {
        let world = start(&scratch);
        assert_eq!(world.offer(FILE, broken).unwrap_err().stage, Stage::Read);
        assert_eq!(versions(&world), ["2*", "1"]);
    }
    let world = start(&scratch);
    assert!(world.host.registry().fall_back(&Scope::Global, Path::new(FILE)).is_some());
    // It can be replaced and removed like any other.
    world.offer(FILE, &version(3)).unwrap();
    assert_eq!(versions(&world), ["3*", "2", "1"]);
    world.host.registry().remove(Path::new(FILE)).unwrap();
    drop(world);
    let world = start(&scratch);
    world.offer(FILE, b"nonsense").unwrap_err();
    assert_eq!(serving(&world), None, "it was removed on purpose");
    assert_eq!(versions(&world), ["3", "2", "1"]);
}

#[test]
fn going_back_while_the_newer_version_is_compiled_anew() {
    let scratch = Scratch::new();
    let mut world = start(&scratch);
    world.offer(FILE, &large(1)).unwrap();
    world.host.registry().wait_for_upgrades();
    world.declare(0, "x").unwrap();
    world.bind(0, "x", "a").unwrap();
    world.offer(FILE, &large(3)).unwrap();
    let report = world.host.registry().rollback(&Scope::Global, PLUGIN).unwrap();
    assert_eq!(report.digest, Digest::of(&large(1)));
    world.host.registry().wait_for_upgrades();
    let Lookup::Serving(version) = world.host.registry().lookup(world.vhost.name(), b"x-test") else {
        panic!("it serves")
    };
    assert_eq!(version.code.digest, Digest::of(&large(1)));
    assert_eq!(version.code.strategy, CodeStrategy::Cranelift, "and is compiled anew itself");
    assert_eq!(world.route(1, "x", &["a", "b"]), ["a", ""]);
}

/// Whoever comes last: what serves, what is said to serve and what is kept are one version.
#[test]
fn offers_and_going_back_beside_each_other_leave_one_version() {
    let scratch = Scratch::new();
    let mut world = start(&scratch);
    world.offer(FILE, &version(1)).unwrap();
    world.declare(0, "x").unwrap();
    world.bind(0, "x", "a").unwrap();
    let registry = world.host.registry().clone();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let registry = &registry;
            scope.spawn(move || {
                for number in 0..6 {
                    // Each is refused if another one was faster.
                    let _ = registry.offer(Path::new(FILE), &version(3 + thread * 6 + number));
                    if number % 3 == 2 {
                        let _ = registry.rollback(&Scope::Global, PLUGIN);
                    }
                }
            });
        }
    });
    let served = serving(&world).unwrap();
    let kept = registry.versions(&Scope::Global, PLUGIN);
    let last = kept.iter().max_by_key(|version| version.since).unwrap();
    assert!(last.serving && last.version == served, "{kept:?}");
    assert_eq!(kept.iter().filter(|version| version.serving).count(), 1);
    for worker in 0..2 {
        assert_eq!(world.route(worker, "x", &["a", "b"]), ["a", ""]);
    }
}

#[test]
fn a_removed_file_does_not_come_back_by_an_offer_that_was_slow() {
    let scratch = Scratch::new();
    let world = start(&scratch);
    let registry = world.host.registry();
    let path = Path::new(FILE);
    let turn = registry.turns.begin(path);
    registry.remove(path);
    assert!(!turn.is_in_time());
    assert!(registry.fall_back(&Scope::Global, path).is_none());
}

/// A virtual host that has a plugin of its own under the name of a global one.
fn world_of_two(config: HostConfig) -> World {
    let mut world = World::of(config);
    for number in 1..=2 {
        world.offer(FILE, &version(number)).unwrap();
        world.offer_own("a", "a/guest.wasm", &version(number)).unwrap();
    }
    for vhost in ["a", "b"] {
        world.enter(vhost);
        world.declare(0, "x").unwrap();
        world.bind(0, "x", "k").unwrap();
    }
    world
}

/// What the key `n`, which nothing is bound by, leads to there: something by version 2 alone.
fn unbound(world: &mut World, vhost: &str) -> String {
    world.enter(vhost);
    let answers = world.route(0, "x", &["n"]);
    assert_eq!(world.route(1, "x", &["n"]), answers, "the workers differ");
    answers.concat()
}

#[test]
fn going_back_is_one_scopes_own_also_after_a_restart() {
    let scratch = Scratch::new();
    let config =
        || HostConfig { workers: 2, kept_dir: Some(scratch.path().join("kept")), ..HostConfig::default() };
    let own = Scope::Vhost(Name::from_static("a"));
    let mut world = world_of_two(config());
    assert_eq!([unbound(&mut world, "a"), unbound(&mut world, "b")], ["k", "k"]);
    let report = world.host.registry().rollback(&own, PLUGIN).unwrap();
    assert_eq!((&report.scope, report.version.as_str(), report.exchanges), (&own, "1", 1));
    assert_eq!([unbound(&mut world, "a"), unbound(&mut world, "b")], ["", "k"]);
    assert_eq!(versions(&world), ["2*", "1"]);
    let stranger = Scope::Vhost(Name::from_static("b"));
    assert_eq!(world.host.registry().rollback(&stranger, PLUGIN).unwrap_err().stage, Stage::Read);
    assert!(world.host.registry().versions(&stranger, PLUGIN).is_empty());
    drop(world);

    let world = World::of(config());
    let error = world.offer_own("a", "a/guest.wasm", &version(2)).unwrap_err();
    assert_eq!(error.stage, Stage::Swap, "{error}");
    world.offer(FILE, &version(2)).unwrap();
    let kept = world.host.registry().versions(&own, PLUGIN);
    let serving: Vec<_> = kept.iter().filter(|v| v.serving).map(|v| v.version.as_str()).collect();
    assert_eq!((serving, versions(&world)), (vec!["1"], vec!["2*".into(), "1".into()]));
    // The global file goes: nothing of the virtual host's own is forgotten.
    world.host.registry().remove(Path::new(FILE)).unwrap();
    assert_eq!(world.offer_own("a", "a/guest.wasm", &version(2)).unwrap_err().stage, Stage::Swap);
    // And a file that is not of that scope is not there to remove.
    assert!(world.host.registry().remove(Path::new("a/guest.wasm")).is_none());
    world.remove_own("a", "a/guest.wasm").unwrap();
    world.offer_own("a", "a/guest.wasm", &version(2)).unwrap();
}

#[test]
fn a_vhosts_broken_file_falls_back_to_its_own_last_version() {
    let scratch = Scratch::new();
    let kept_dir = Some(scratch.path().join("kept"));
    drop(world_of_two(HostConfig { workers: 2, kept_dir: kept_dir.clone(), ..HostConfig::default() }));
    let mut world = World::of(HostConfig { workers: 2, kept_dir, ..HostConfig::default() });
    world.offer_own("a", "a/guest.wasm", b"nonsense").unwrap_err();
    assert_eq!(serving(&world), None, "it is another's");
    world.enter("a");
    assert_eq!(serving(&world).unwrap(), "2");
    world.offer(FILE, &version(1)).unwrap();
    assert_eq!(serving(&world).unwrap(), "2", "its own serves");
    world.remove_own("a", "a/guest.wasm").unwrap();
    assert_eq!(serving(&world).unwrap(), "1");
    world.offer_own("a", "a/guest.wasm", b"nonsense").unwrap_err();
    assert_eq!(serving(&world).unwrap(), "1", "its own was removed on purpose");
}

#[test]
fn policies_hold_for_an_older_version() {
    let scratch = Scratch::new();
    let kept_dir = Some(scratch.path().join("kept"));
    let mut world = world_of_two(HostConfig { workers: 2, kept_dir, ..HostConfig::default() });
    let own = Scope::Vhost(Name::from_static("a"));
    let registry = world.host.registry().clone();
    let switch = Switch::PluginInVhost { plugin: PLUGIN.into(), vhost: Name::from_static("a") };
    registry.disable(&switch);
    registry.rollback(&own, PLUGIN).unwrap();
    assert!(unbound(&mut world, "a").contains("switched off"));
    registry.enable(&switch);
    assert_eq!(unbound(&mut world, "a"), "");
    drop((world, registry));

    // Less memory than either version has from the start: the file is refused, and so is what is kept.
    let mut rules = PolicyRules::default();
    rules.vhosts.entry(Name::from_static("a")).or_default().ceilings = [(Limit::Memory, 4)].into();
    let policies = Arc::new(Policies::new(rules).unwrap());
    let kept_dir = Some(scratch.path().join("kept"));
    let world = World::of(HostConfig { workers: 2, policies, kept_dir, ..HostConfig::default() });
    let error = world.offer_own("a", "a/guest.wasm", &version(3)).unwrap_err();
    assert_eq!(error.stage, Stage::Policy, "{error}");
    assert!(world.host.registry().versions(&own, PLUGIN).iter().all(|v| !v.serving));
    // Of the same bytes, those for all serve.
    world.offer(FILE, &version(2)).unwrap();
    assert_eq!(serving(&world).unwrap(), "2");
}
