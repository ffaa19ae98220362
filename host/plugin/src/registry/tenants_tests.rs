//! Plugins of several virtual hosts: whose serves whom, what is shadowed and given back, what is not
//! allowed and switched off.

use super::*;
use crate::{
    builder::PlaceRef,
    policy::{FailurePolicy, Limit, PluginRules, PolicyRules, Switch, VhostRules},
    testing::{Guest, World},
};
use leveret_model::Refusal;
use proptest::prelude::*;
use std::path::Path;

const FANOUT: Guest = Guest {
    independent: false,
    newest_only: false,
    type_name: "x-test",
    version: 2,
    pure: true,
    batch: true,
    fanout: true,
    refuses: "refuse",
    padding_bytes: 0,
};

/// Two vhosts, `a` and `b`, each with an exchange `x` that has the bindings `k` and `refus2`, of a
/// global plugin by exact key.
fn world() -> World {
    let mut world = World::with(Guest::default(), 2);
    for vhost in ["a", "b"] {
        world.enter(vhost);
        populate(&mut world);
    }
    world
}

fn populate(world: &mut World) {
    world.declare(0, "x").unwrap();
    world.bind(0, "x", "k").unwrap();
    world.bind(1, "x", "refus2").unwrap();
}

/// What each worker answers to the keys `k` and `n` in that vhost.
fn routes(world: &mut World, vhost: &str) -> Vec<String> {
    world.enter(vhost);
    let answers = world.route(0, "x", &["k", "n"]);
    assert_eq!(world.route(1, "x", &["k", "n"]), answers, "the workers differ");
    answers
}

const BY_KEY: [&str; 2] = ["k", ""];
const TO_ALL: [&str; 2] = ["k,refus2", "k,refus2"];

#[test]
fn one_type_name_is_another_plugin_in_another_vhost() {
    let mut world = World::empty(2);
    world.offer_own("a", "a/one.wasm", &Guest::default().component()).unwrap();
    world.offer_own("b", "b/one.wasm", &FANOUT.component()).unwrap();
    for vhost in ["a", "b"] {
        world.enter(vhost);
        populate(&mut world);
    }
    for _ in 0..2 {
        assert_eq!(routes(&mut world, "a"), BY_KEY);
        assert_eq!(routes(&mut world, "b"), TO_ALL);
    }
    world.enter("c");
    assert!(matches!(world.declare(0, "x"), Err(Refusal::UnknownExchangeType { .. })), "a stranger's");
}

#[test]
fn a_vhosts_file_takes_a_global_type_over_and_gives_it_back() {
    let mut world = world();
    for vhost in ["a", "b"] {
        assert_eq!(routes(&mut world, vhost), BY_KEY);
    }
    let report = world.offer_own("a", "a/guest.wasm", &FANOUT.component()).unwrap();
    assert_eq!((report.exchanges, report.bindings), (1, 2), "those of b are none of its business");
    assert_eq!(report.scope, Scope::Vhost(Name::from_static("a")));
    assert_eq!(routes(&mut world, "a"), TO_ALL);
    assert_eq!(routes(&mut world, "b"), BY_KEY);

    // The global plugin changes: only those it serves are asked about.
    let unwilling_to_a = Guest { version: 3, ..Guest::default() }.component();
    assert_eq!(world.offer("guest.wasm", &unwilling_to_a).unwrap().exchanges, 1);
    assert_eq!(routes(&mut world, "a"), TO_ALL);

    let report = world.remove_own("a", "a/guest.wasm").unwrap();
    assert_eq!((report.exchanges, report.handed_back), (0, 1));
    for vhost in ["a", "b"] {
        assert_eq!(routes(&mut world, vhost), BY_KEY);
        world.bind(0, "x", "late").unwrap();
    }
}

#[test]
fn a_file_that_does_not_take_the_bindings_shadows_nothing() {
    let mut world = world();
    let unwilling = Guest { refuses: "refus2", ..FANOUT }.component();
    let error = world.offer_own("a", "a/guest.wasm", &unwilling).unwrap_err();
    assert_eq!(error.stage, Stage::Replay);
    assert_eq!(error.reason, "exchange 'x' in vhost 'a' was refused: not taken");
    for vhost in ["a", "b"] {
        assert_eq!(routes(&mut world, vhost), BY_KEY);
    }
}

#[test]
fn what_the_shadowed_plugin_does_not_take_is_parked_and_holds_nobody_up() {
    let mut world = World::empty(2);
    world.offer("guest.wasm", &Guest { refuses: "refus2", ..Guest::default() }.component()).unwrap();
    world.offer_own("a", "a/own.wasm", &FANOUT.component()).unwrap();
    world.enter("a");
    populate(&mut world);
    world.declare(0, "y").unwrap();
    let report = world.remove_own("a", "a/own.wasm").unwrap();
    assert_eq!((report.exchanges, report.handed_back), (2, 0), "all of the type or none");
    for exchange in ["x", "y"] {
        let answer = &world.route(0, exchange, &["k"])[0];
        assert!(answer.contains("own was removed") && answer.contains("global plugin guest"), "{answer}");
        assert!(answer.contains("'x' in vhost 'a' was refused: not taken"), "{answer}");
    }
    // A global version that does not take them either is taken, for the others.
    let v2 = Guest { refuses: "refus2", version: 2, ..Guest::default() }.component();
    assert_eq!(world.offer("guest.wasm", &v2).unwrap().exchanges, 0);
    assert!(world.route(0, "x", &["k"])[0].contains("parked"));
    // One that does has them back.
    let v3 = Guest { version: 3, ..Guest::default() }.component();
    assert_eq!(world.offer("guest.wasm", &v3).unwrap().exchanges, 2);
    assert_eq!(routes(&mut world, "a"), BY_KEY);
}

#[test]
fn a_removed_global_plugin_leaves_vhosts_alone_that_have_their_own() {
    let mut world = world();
    world.offer_own("a", "a/guest.wasm", &FANOUT.component()).unwrap();
    let report = world.host.registry().remove(Path::new("guest.wasm")).unwrap();
    assert_eq!((report.exchanges, report.handed_back), (1, 0));
    assert_eq!(routes(&mut world, "a"), TO_ALL);
    assert!(routes(&mut world, "b").iter().all(|answer| answer.contains("guest was removed")));
    let types = world.host.registry().types();
    let of = |scope: Scope| types.iter().find(|t| t.name.as_bytes() == b"x-test" && t.scope == scope);
    let (own, parked) = (Scope::Vhost(Name::from_static("a")), Scope::Vhost(Name::from_static("b")));
    assert!(matches!(of(own).unwrap().state, TypeState::Serving { .. }));
    assert!(matches!(of(parked).unwrap().state, TypeState::Parked { .. }));
    assert!(of(Scope::Global).is_none());
}

fn allowing(plugin: &str) -> VhostRules {
    VhostRules { allow: Some([plugin.to_owned()].into()), ..VhostRules::default() }
}

#[test]
fn a_vhost_has_the_global_types_that_it_is_allowed_and_its_own() {
    let mut rules = PolicyRules::default();
    rules.vhosts.insert(Name::from_static("a"), allowing("other"));
    rules.vhosts.insert(Name::from_static("b"), allowing("guest"));
    let mut world = World::ruled_by(rules, 2);
    world.offer("guest.wasm", &Guest::default().component()).unwrap();
    world.enter("a");
    let error = world.declare(0, "x").unwrap_err();
    assert!(matches!(error, Refusal::ExchangeTypeNotAllowed { .. }), "{error}");
    let said = "unknown exchange type 'x-test' in vhost 'a': plugin 'guest' is not allowed there";
    assert_eq!(error.to_string(), said);
    world.enter("b");
    populate(&mut world);
    assert_eq!(routes(&mut world, "b"), BY_KEY);
    world.offer_own("a", "a/guest.wasm", &FANOUT.component()).unwrap();
    world.enter("a");
    populate(&mut world);
    assert_eq!(routes(&mut world, "a"), TO_ALL);
    // It goes, and what is left is not allowed.
    world.remove_own("a", "a/guest.wasm").unwrap();
    assert!(routes(&mut world, "a").iter().all(|answer| answer.contains("parked")));
}

#[test]
fn kill_switches_park_and_give_back() {
    let mut world = world();
    let registry = world.host.registry().clone();
    let in_a = Switch::PluginInVhost { plugin: "guest".into(), vhost: Name::from_static("a") };
    let parked = |world: &mut World, vhost| {
        routes(world, vhost).iter().all(|answer| answer.contains("plugin guest is switched off"))
    };
    assert_eq!(routes(&mut world, "a"), BY_KEY);
    for switch in [in_a, Switch::Plugin("guest".into()), Switch::All] {
        let only_a = matches!(switch, Switch::PluginInVhost { .. });
        assert!(registry.disable(&switch));
        assert!(parked(&mut world, "a") && parked(&mut world, "b") != only_a, "{switch}");
        let types = registry.types();
        let listed: Vec<_> = types.iter().filter(|t| t.name.as_bytes() == b"x-test").collect();
        let seen: Vec<_> = listed
            .iter()
            .map(|t| (t.scope.to_string(), t.exchanges, matches!(t.state, TypeState::Serving { .. })))
            .collect();
        let expected = match only_a {
            true => vec![("global".to_owned(), 1, true), ("vhost 'a'".to_owned(), 1, false)],
            false => vec![("global".to_owned(), 2, false)],
        };
        assert_eq!(seen, expected, "{switch}");
        let bound = world.bind(0, "x", &switch.to_string());
        assert!(matches!(bound, Err(Refusal::Parked { .. })) != only_a, "{switch}: {bound:?}");
        world.enter("a");
        assert!(matches!(world.declare(0, "y"), Err(Refusal::Parked { .. })), "{switch}");
        world.bind_to(0, "amq.topic", "#", "k").unwrap();
        assert_eq!(world.route(0, "amq.topic", &["any"]), ["k"], "a core type is on");
        assert!(registry.enable(&switch) && !registry.enable(&switch));
        for vhost in ["a", "b"] {
            assert_eq!(routes(&mut world, vhost), BY_KEY);
        }
    }
}

#[test]
fn a_version_that_came_while_it_was_switched_off_is_asked_when_it_is_on_again() {
    let mut world = world();
    let registry = world.host.registry().clone();
    let switch = Switch::PluginInVhost { plugin: "guest".into(), vhost: Name::from_static("a") };
    registry.disable(&switch);
    world.enter("b");
    world.unbind(0, "x", "refus2");
    let v2 = Guest { version: 2, refuses: "refus2", ..Guest::default() }.component();
    assert_eq!(world.offer("guest.wasm", &v2).unwrap().exchanges, 1, "b's alone");
    registry.enable(&switch);
    assert!(routes(&mut world, "a").iter().all(|answer| answer.contains("not taken")));
    let v3 = Guest { version: 3, ..Guest::default() }.component();
    world.offer("guest.wasm", &v3).unwrap();
    assert_eq!(routes(&mut world, "a"), BY_KEY);
}

#[test]
fn a_plugin_that_is_off_from_the_start_is_loaded_and_not_asked() {
    let mut rules = PolicyRules::default();
    rules.plugins.insert("guest".into(), PluginRules { enabled: Some(false), ..PluginRules::default() });
    let mut world = World::ruled_by(rules, 1);
    world.offer("guest.wasm", &Guest::default().component()).unwrap();
    let error = world.declare(0, "x").unwrap_err().to_string();
    assert!(error.contains("switched off"), "{error}");
    world.host.registry().enable(&Switch::Plugin("guest".into()));
    world.declare(0, "x").unwrap();
}

#[test]
fn a_failing_plugin_meets_the_policy_of_its_place() {
    let mut rules = PolicyRules::default();
    let lenient = PluginRules { on_failure: Some(FailurePolicy::Unroutable), ..PluginRules::default() };
    let here = rules.vhosts.entry(Name::from_static("a")).or_default();
    here.plugins.insert("guest".into(), lenient);
    let mut world = World::ruled_by(rules, 1);
    world.offer("guest.wasm", &Guest::default().component()).unwrap();
    for (vhost, failed) in
        [("a", ""), ("b", "failed: exchange 'x' in vhost 'b': the plugin of its type failed")]
    {
        world.enter(vhost);
        populate_one(&mut world);
        // Until it is set aside and then: what it does not decide meets the policy.
        for _ in 0..8 {
            let answers = world.route(0, "x", &["!t", "!t"]);
            assert!(answers.iter().all(|answer| answer.starts_with(failed)), "{answers:?}");
            assert_eq!(answers.iter().all(String::is_empty), failed.is_empty());
        }
    }
    // Not what it is not there for.
    world.host.registry().remove(Path::new("guest.wasm")).unwrap();
    world.enter("a");
    assert!(world.route(0, "x", &["k"])[0].contains("parked"));
}

fn populate_one(world: &mut World) {
    world.declare(0, "x").unwrap();
    world.bind(0, "x", "k").unwrap();
}

#[test]
fn core_names_are_reserved_for_ever_in_every_scope() {
    let world = World::empty(1);
    for type_name in ["topic", "x-leveret-any"] {
        let bytes = Guest { type_name, ..Guest::default() }.component();
        for offered in [world.offer("g.wasm", &bytes), world.offer_own("a", "a/g.wasm", &bytes)] {
            let error = offered.unwrap_err();
            assert!(error.stage == Stage::Trial && error.reason.contains("reserved"), "{error}");
        }
    }
}

#[test]
fn two_files_of_one_vhost_may_not_claim_one_type() {
    let world = World::empty(1);
    world.offer_own("a", "a/one.wasm", &Guest::default().component()).unwrap();
    let error = world.offer_own("a", "a/two.wasm", &FANOUT.component()).unwrap_err();
    assert!(error.reason.contains("a/one.wasm already"), "{error}");
    world.offer_own("b", "b/two.wasm", &FANOUT.component()).unwrap();
}

#[test]
fn a_vhost_has_only_so_many_plugins_of_its_own() {
    let world = World::empty(1);
    let offer = |vhost, number: usize| {
        let type_name = format!("x-{number}").leak();
        let bytes = Guest { type_name, ..Guest::default() }.component();
        world.offer_own(vhost, &format!("{vhost}/{number}.wasm"), &bytes)
    };
    for number in 0..VHOST_PLUGINS_MAX {
        offer("a", number).unwrap();
    }
    let error = offer("a", VHOST_PLUGINS_MAX).unwrap_err();
    assert_eq!((error.stage, error.reason.contains("the most is 100")), (Stage::Policy, true), "{error}");
    assert_eq!(offer("a", 7).unwrap().change, LoadChange::Unchanged, "one that is there may change");
    offer("b", 0).unwrap();
}

#[test]
fn no_instance_is_shared_between_vhosts() {
    let mut world = world();
    for vhost in ["a", "b"] {
        assert_eq!(routes(&mut world, vhost), BY_KEY);
    }
    let version = |type_name: &[u8]| {
        let a = Name::from_static("a");
        let Lookup::Serving(version) = world.host.registry().lookup(&a, type_name) else { panic!("served") };
        version
    };
    let place = |version: &Version, vhost| {
        crate::builder::Place::from(&PlaceRef::of(version, &Name::from_static(vhost)))
    };
    let (global, shipped) = (version(b"x-test"), version(b"topic"));
    assert_ne!(place(&global, "a"), place(&global, "b"));
    assert_ne!(place(&shipped, "a"), place(&shipped, "b"));
    // A trap in one vhost costs the other nothing: its instance is another one.
    world.enter("a");
    let bad = ["!t"; 4];
    assert!(world.route(0, "x", &bad).iter().all(|answer| answer.contains("trapped")));
    let calls = world.workers[0].counters().calls;
    assert_eq!(routes(&mut world, "b"), BY_KEY);
    assert_eq!(world.workers[0].counters().calls, calls, "what b knows is remembered");
}

#[test]
fn a_plugin_with_more_memory_than_its_vhosts_ceiling_is_refused_there() {
    let mut rules = PolicyRules::default();
    rules.vhosts.entry(Name::from_static("a")).or_default().ceilings = [(Limit::Memory, 4)].into();
    let mut world = World::ruled_by(rules, 1);
    let error = world.offer_own("a", "a/guest.wasm", &Guest::default().component()).unwrap_err();
    assert_eq!(error.stage, Stage::Policy);
    let said =
        "plugin 'guest' in vhost 'a': it has 8 MiB of memory from the start; its limit is memory-mib = 4";
    assert_eq!(error.reason, said);
    // A global one serves the others.
    world.offer("guest.wasm", &Guest::default().component()).unwrap();
    world.declare(0, "x").unwrap();
    world.enter("a");
    assert!(matches!(world.declare(0, "x"), Err(Refusal::PluginFailed { .. })));
}

/// The guest counts its calls for the key `!n`: an instance that is made again counts from the start.
#[test]
fn one_vhosts_plugins_come_and_go_and_anothers_instances_stay() {
    let counts = |disturb: &mut dyn FnMut(&mut World, usize)| {
        let mut world = World::with(Guest { pure: false, ..Guest::default() }, 1);
        for vhost in ["a", "b"] {
            world.enter(vhost);
            world.declare(0, "x").unwrap();
            for key in ["k", "l", "m"] {
                world.bind(0, "x", key).unwrap();
            }
        }
        (0..6)
            .map(|turn| {
                disturb(&mut world, turn);
                world.enter("b");
                world.route(0, "x", &["!n"])
            })
            .collect::<Vec<_>>()
    };
    let quiet = counts(&mut |_, _| {});
    assert!(quiet.windows(2).any(|two| two[0] != two[1]), "it counts: {quiet:?}");
    let disturbed = counts(&mut |world, turn| {
        world.enter("a");
        world.route(0, "x", &["k"]);
        if turn % 2 == 0 {
            world.offer_own("a", "a/guest.wasm", &FANOUT.component()).unwrap();
        } else {
            world.remove_own("a", "a/guest.wasm").unwrap();
        }
        world.route(0, "x", &["k"]);
    });
    assert_eq!(disturbed, quiet);
}

#[test]
fn the_limits_of_the_policy_hold_where_they_are_said() {
    let mut rules = PolicyRules::default();
    let a = rules.vhosts.entry(Name::from_static("a")).or_default();
    a.ceilings = [(Limit::Memory, 16), (Limit::CpuPerCall, 3), (Limit::AnswerIds, 100)].into();
    for (vhost, said) in [
        ("a", ["more than 16 MiB", "the limit is 3.1 ms", "65537 ids; the most is 100"]),
        ("b", ["more than 64 MiB", "the limit is 10.1 ms", "65537 ids; the most is 65536"]),
    ] {
        for (key, said) in ["!m", "!l", "!b"].iter().zip(said) {
            // A world for each: on a busy machine a plugin that took long is set aside.
            let mut world = World::ruled_by(rules.clone(), 1);
            world.offer("guest.wasm", &Guest::default().component()).unwrap();
            world.enter(vhost);
            world.declare(0, "x").unwrap();
            let answers = world.route(0, "x", &[key]);
            assert!(answers[0].contains(said), "{said} is not in: {}", answers[0]);
        }
    }
}

/// A change that an operator or a client makes.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// Puts a file there (of `a`, of `b`, for all), by key or to all.
    Offer(usize, bool),
    Remove(usize),
    /// Switches it off in a vhost, or on again.
    Switch(usize, bool),
    /// Binds or unbinds the key `n` there.
    Bind(usize, bool),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0_usize..3, any::<bool>()).prop_map(|(place, fanout)| Change::Offer(place, fanout)),
        (0_usize..3).prop_map(Change::Remove),
        (0_usize..2, any::<bool>()).prop_map(|(vhost, on)| Change::Switch(vhost, on)),
        (0_usize..2, any::<bool>()).prop_map(|(vhost, bound)| Change::Bind(vhost, bound)),
    ]
}

const FILES: [&str; 3] = ["a/guest.wasm", "b/guest.wasm", "guest.wasm"];
const VHOSTS: [&str; 2] = ["a", "b"];

/// What there should be.
#[derive(Default)]
struct Model {
    /// Whether the plugin of each file sends to all, where there is one.
    files: [Option<bool>; 3],
    off: [bool; 2],
    bound: [bool; 2],
}

impl Model {
    /// What `k` and `n` are answered in a vhost, `None` if it is parked.
    fn routes(&self, vhost: usize) -> Option<[&str; 2]> {
        let fanout = self.files[vhost].or(self.files[2]).filter(|_| !self.off[vhost])?;
        Some(match (fanout, self.bound[vhost]) {
            (false, false) => ["k", ""],
            (false, true) => ["k", "n"],
            (true, false) => ["k", "k"],
            (true, true) => ["k,n", "k,n"],
        })
    }
}

fn apply(world: &mut World, model: &mut Model, change: Change) {
    let registry = world.host.registry().clone();
    match change {
        Change::Offer(place, fanout) => {
            let bytes = Guest { fanout, ..Guest::default() }.component();
            match VHOSTS.get(place) {
                Some(vhost) => world.offer_own(vhost, FILES[place], &bytes).unwrap(),
                None => world.offer(FILES[place], &bytes).unwrap(),
            };
            model.files[place] = Some(fanout);
        }
        Change::Remove(place) => {
            let removed = match VHOSTS.get(place) {
                Some(vhost) => world.remove_own(vhost, FILES[place]),
                None => registry.remove(Path::new(FILES[place])),
            };
            assert_eq!(removed.is_some(), model.files[place].take().is_some());
        }
        Change::Switch(vhost, on) => {
            let name = Name::from_static(VHOSTS[vhost]);
            let switch = Switch::PluginInVhost { plugin: "guest".into(), vhost: name };
            let changed = if on { registry.enable(&switch) } else { registry.disable(&switch) };
            assert_eq!(changed, model.off[vhost] == on);
            model.off[vhost] = !on;
        }
        Change::Bind(vhost, bind) => {
            world.enter(VHOSTS[vhost]);
            if !bind {
                world.unbind(0, "x", "n");
            } else if let Err(refused) = world.bind(0, "x", "n") {
                let parked = model.routes(vhost).is_none() && !model.bound[vhost];
                assert!(parked && matches!(refused, Refusal::Parked { .. }), "{refused}");
                return;
            }
            model.bound[vhost] = bind;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// After any changes each worker answers as whoever should serve each vhost would.
    #[test]
    fn whoever_should_serve_a_vhost_does(changes in proptest::collection::vec(change(), 1..25)) {
        let mut world = World::with(Guest::default(), 2);
        let mut model = Model { files: [None, None, Some(false)], ..Model::default() };
        for vhost in VHOSTS {
            world.enter(vhost);
            populate_one(&mut world);
        }
        for change in changes {
            apply(&mut world, &mut model, change);
            for (vhost, name) in VHOSTS.iter().enumerate() {
                world.enter(name);
                for worker in 0..2 {
                    let answers = world.route(worker, "x", &["k", "n"]);
                    match model.routes(vhost) {
                        Some(expected) => prop_assert_eq!(&answers, &expected, "{} after {:?}", name, change),
                        None => prop_assert!(answers.iter().all(|a| a.contains("parked")), "{:?}", answers),
                    }
                }
            }
        }
    }
}

#[test]
fn what_answers_in_a_vhost_is_numbered_by_what_changes_there() {
    let mut world = world();
    let registry = world.host.registry().clone();
    let [a, b] = [Name::from_static("a"), Name::from_static("b")];
    let in_a = Switch::PluginInVhost { plugin: "guest".into(), vhost: a.clone() };
    let mut before = [registry.answering_generation(&a), registry.answering_generation(&b)];
    // Which of the two have another number now.
    let mut raised = || {
        let now = [registry.answering_generation(&a), registry.answering_generation(&b)];
        let raised = [now[0] > before[0], now[1] > before[1]];
        before = now;
        raised
    };
    let other = Guest { type_name: "x-other", ..Guest::default() };
    world.offer("other.wasm", &other.component()).unwrap();
    assert_eq!(raised(), [false, false], "nothing there has that type");
    world.offer("other.wasm", &Guest { version: 2, ..other }.component()).unwrap();
    assert_eq!(raised(), [false, false]);
    world.offer_own("b", "b/guest.wasm", &FANOUT.component()).unwrap();
    assert_eq!(raised(), [false, true], "another tenant's deploy");
    world.offer("guest.wasm", &Guest { version: 3, ..Guest::default() }.component()).unwrap();
    assert_eq!(raised(), [true, false], "that of b is its own");
    world.host.registry().disable(&in_a);
    assert_eq!(raised(), [false, false], "nobody takes what was refused");
    world.host.registry().enable(&in_a);
    assert_eq!(raised(), [false, false], "the same would refuse it again");
    world.remove_own("b", "b/guest.wasm").unwrap();
    assert_eq!(raised(), [false, true], "the global one takes over");
    world.host.registry().remove(Path::new("guest.wasm")).unwrap();
    assert_eq!(raised(), [false, false]);
    world.offer("guest.wasm", &Guest { version: 3, ..Guest::default() }.component()).unwrap();
    assert_eq!(raised(), [false, false], "the very same file");
    world.offer("guest.wasm", &Guest { version: 4, ..Guest::default() }.component()).unwrap();
    assert_eq!(raised(), [true, true]);
    // Exchanges on a version of their own, and a version that is tried.
    world.enter("a");
    let x = world.exchange("x");
    registry.pin(&x, &PinTo::Current).unwrap();
    assert_eq!(raised(), [false, false]);
    world.offer("guest.wasm", &Guest { version: 5, ..Guest::default() }.component()).unwrap();
    assert_eq!(raised(), [true, true]);
    registry.unpin(&x).unwrap();
    assert_eq!(raised(), [true, false]);
    let tried = Guest { version: 6, ..Guest::default() }.component();
    registry.offer_candidate(&Scope::Global, Path::new("guest.wasm"), &tried).unwrap();
    assert_eq!(raised(), [false, false], "nothing of a shadow is used");
    let share = crate::Share::of_percent(50.0).unwrap();
    registry.canary(&Scope::Global, "guest", share, Some(&b)).unwrap();
    assert_eq!(raised(), [false, true]);
    assert!(registry.withdraw_candidate(&Scope::Global, "guest"));
    assert_eq!(raised(), [false, false]);
}
