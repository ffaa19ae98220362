//! Exchanges that are there again after a restart, before their plugins are.

use super::*;
use crate::{
    host::HostConfig,
    policy::{PluginRules, PolicyRules, Switch},
    testing::{Guest, Scratch, World, message, text},
};
use leveret_broker::{
    ExchangeSpec, QueueSpec,
    exchange::TypeSpec,
    port::{Layer, Routed, Router, Wake},
    store::{
        BindingSpec, Change, Group, Kept, KeptExchange, KeptId, Ranges, StateHolder, Store, StoreFailure,
        Stored, Topology, Volatile, Written,
    },
};
use std::{ops::Range, sync::atomic::Ordering};

const FILE: &str = "guest.wasm";

/// Has what a virtual host had when the broker ended, and forgets what comes.
struct Before {
    exchanges: Vec<(&'static str, &'static [&'static str])>,
    bindings: Vec<(&'static str, &'static str)>,
}

impl Store for Before {
    fn keeps(&self) -> bool {
        true
    }

    fn admit(&self) -> Result<(), StoreFailure> {
        Volatile.admit()
    }

    fn append(&self, group: &[Change]) -> Result<(), StoreFailure> {
        Volatile.append(group)
    }

    fn load(&self, holder: &StateHolder) -> Result<Vec<leveret_broker::store::StateChange>, StoreFailure> {
        Volatile.load(holder)
    }

    fn load_aside(&self, holder: &StateHolder) -> Result<Vec<leveret_broker::store::Aside>, StoreFailure> {
        Volatile.load_aside(holder)
    }

    fn timers(&self, _: &Name, _: &mut dyn FnMut(StateHolder, Name, u64)) {}

    fn group(&self) -> Box<dyn Group> {
        Volatile.group()
    }

    fn settled(&self, _: KeptId, _: &[Ranges]) {}

    fn progressed(&self, _: &[(KeptId, Ranges)], _: &[(KeptId, Ranges)], _: bool) {}

    fn when_safe(&self, waiter: &Arc<dyn Written>, token: u64) {
        Volatile.when_safe(waiter, token);
    }

    fn next_id(&self) -> KeptId {
        KeptId(7)
    }

    fn kept(&self, _: KeptId) -> Kept {
        Kept::default()
    }

    fn count(&self, _: KeptId, _: Range<u64>) -> u64 {
        0
    }

    fn read(&self, _: KeptId, _: u64, _: usize, _: &mut dyn FnMut(Stored<'_>)) -> Option<u64> {
        None
    }

    fn topology(&self, _: &Name, each: &mut dyn FnMut(Topology<'_>)) {
        let arguments = Table::new();
        for (name, types) in &self.exchanges {
            let type_name = Name::from_static(types.last().unwrap());
            let (name, arguments) = (Name::from_static(name), arguments.clone());
            let (durable, auto_delete, internal) = (true, false, false);
            let spec = ExchangeSpec { name, type_name, durable, auto_delete, internal, arguments };
            let of = |name: &&'static str| Name::from_static(name);
            let behind = types.iter().skip(1).map(of).map(Some).chain([None]);
            let types = types.iter().zip(behind).map(|(name, in_front_of)| {
                let (type_name, arguments) = (of(name), Table::new());
                TypeSpec { type_name, arguments, in_front_of }
            });
            let types: Vec<TypeSpec> = types.collect();
            let (id, spec, types) = (KeptId(1), &spec, &types);
            each(Topology::Exchange(KeptExchange { id, spec, arguments: &spec.arguments, types }));
        }
        for (number, (_, key)) in self.bindings.iter().enumerate() {
            let spec = QueueSpec { name: Name::from_static(key), durable: true, ..QueueSpec::default() };
            each(Topology::Queue(KeptId(number as u64), &spec));
        }
        for (exchange, key) in &self.bindings {
            let (source, key) = (&Name::from_static(exchange), &Name::from_static(key));
            let binding = BindingSpec {
                source,
                to_queue: true,
                destination: key,
                routing_key: key,
                arguments: &arguments,
            };
            each(Topology::Binding(binding));
        }
    }
}

fn config(before: Before) -> HostConfig {
    HostConfig { workers: 2, store: Arc::new(before), ..HostConfig::default() }
}

/// An exchange `x` of the guest's type, bound by `a` and `b`, and one of a core type.
fn usual() -> Before {
    Before {
        exchanges: vec![("x", &["x-test"]), ("d", &["direct"])],
        bindings: vec![("x", "a"), ("x", "b"), ("d", "c")],
    }
}

const PARKED: &str = "failed: exchange 'x' in vhost '/' is parked: type 'x-test': its plugin is not there";

#[test]
fn an_exchange_waits_for_its_plugin_and_serves_when_that_comes() {
    let mut world = World::of(config(usual()));
    assert_eq!(world.vhost.restored().bindings, 3);
    for worker in [0, 1] {
        assert_eq!(world.route(worker, "d", &["c"]), ["c"]);
        assert_eq!(world.route(worker, "x", &["a"]), [PARKED]);
    }
    // It can be declared again and be unbound, and nothing that its plugin would have to be asked about.
    world.declare(0, "x").unwrap_err();
    assert!(world.bind(0, "x", "new").unwrap_err().to_string().contains("its plugin is not there"));
    assert!(world.declare(0, "y").unwrap_err().to_string().contains("its plugin is not there"));
    world.unbind(0, "x", "b");
    let report = world.offer(FILE, &Guest::default().component()).unwrap();
    assert_eq!((report.exchanges, report.bindings), (1, 1));
    for worker in [0, 1] {
        assert_eq!(world.route(worker, "x", &["a", "b", "n"]), ["a", "", ""]);
    }
    world.bind(0, "x", "new").unwrap();
    assert_eq!(world.route(1, "x", &["new"]), ["new"]);
    world.delete(0, "x");
    assert!(world.host.registry().warnings().is_empty());
}

#[test]
fn an_operator_is_told_which_types_are_missing() {
    let mut world = World::of(config(usual()));
    let [warning] = &world.host.registry().warnings()[..] else { panic!("one warning") };
    assert_eq!(warning.about, WarningAbout::NoPlugin);
    assert_eq!(
        warning.text,
        "no plugin provides the exchange type 'x-test', which 1 exchange in vhost '/' has from before the \
         broker's start: 'x'"
    );
    let types = world.host.registry().types();
    let state = &types.iter().find(|it| it.name.as_bytes() == b"x-test").unwrap().state;
    assert_eq!(*state, TypeState::Parked { why: String::from("its plugin is not there") });
    world.delete(0, "x");
    assert!(world.host.registry().warnings().is_empty());
}

#[test]
fn an_exchange_keeps_all_its_types_whatever_is_there() {
    // The type in front is not there: those behind it do not answer in its place.
    let before = Before { exchanges: vec![("x", &["x-test", "direct"])], bindings: vec![("x", "a")] };
    let mut world = World::of(config(before));
    assert_eq!(world.route(0, "x", &["a"]), [PARKED]);
    let names: Vec<String> = world.exchange("x").types().iter().map(|it| it.type_name.to_text()).collect();
    assert_eq!(names, ["x-test", "direct"]);
}

#[test]
fn a_plugin_that_does_not_take_what_was_bound_is_not_taken_and_the_one_before_serves() {
    let scratch = Scratch::new();
    let kept_dir = Some(scratch.path().join("kept"));
    let first = HostConfig { kept_dir: kept_dir.clone(), workers: 1, ..HostConfig::default() };
    World::of(first).offer(FILE, &Guest::default().component()).unwrap();

    let before = Before { exchanges: vec![("x", &["x-test"])], bindings: vec![("x", "banana"), ("x", "a")] };
    let mut world = World::of(HostConfig { kept_dir, ..config(before) });
    let newer = Guest { version: 2, refuses: "banana", ..Guest::default() }.component();
    let error = world.offer(FILE, &newer).unwrap_err();
    assert_eq!(error.stage, Stage::Replay);
    assert!(error.reason.contains("exchange 'x' in vhost '/' was refused"), "{error:?}");
    assert_eq!(world.route(0, "x", &["banana", "a"]), ["banana", "a"]);
    // Without one before it stays parked, with its bindings.
    let before = Before { exchanges: vec![("x", &["x-test"])], bindings: vec![("x", "banana"), ("x", "a")] };
    let mut world = World::of(config(before));
    world.offer(FILE, &newer).unwrap_err();
    assert_eq!(world.route(0, "x", &["a"]), [PARKED]);
    world.unbind(0, "x", "banana");
    world.offer(FILE, &newer).unwrap();
    assert_eq!(world.route(0, "x", &["a"]), ["a"]);
}

struct Nowhere;

impl KeepDecisions for Nowhere {
    fn keep(&self, _: &Decisions) -> Result<(), String> {
        Ok(())
    }

    fn place(&self) -> &Path {
        Path::new("decisions")
    }
}

#[test]
fn an_exchange_that_is_pinned_is_not_asked_about_by_the_version_that_serves_others() {
    let scratch = Scratch::new();
    let kept_dir = Some(scratch.path().join("kept"));
    let older = Guest::default().component();
    let newer = Guest { version: 2, refuses: "banana", ..Guest::default() }.component();
    let first = World::of(HostConfig { kept_dir: kept_dir.clone(), workers: 1, ..HostConfig::default() });
    let digest = first.offer(FILE, &older).unwrap().digest;
    first.offer(FILE, &newer).unwrap();
    drop(first);

    let pin = PinDecision {
        vhost: Name::from_static("/"),
        exchange: Name::from_static("x"),
        exchange_type: Name::from_static("x-test"),
        scope: Scope::Global,
        plugin: String::from("guest"),
        digest,
        version: String::from("1"),
    };
    let decided = Decisions { pins: vec![pin], ..Decisions::default() };
    let exchanges: Vec<(&str, &[&str])> = vec![("x", &["x-test"]), ("y", &["x-test"])];
    let before = Before { exchanges, bindings: vec![("x", "banana"), ("y", "a")] };
    let decisions = Some((decided, Arc::new(Nowhere) as Arc<dyn KeepDecisions>));
    let mut world = World::of(HostConfig { kept_dir, decisions, ..config(before) });
    let [pin] = &world.host.registry().pins()[..] else { panic!("one pin") };
    assert!(!pin.waiting && pin.problem.as_ref().unwrap().contains("not loaded yet"), "{pin:?}");
    world.offer(FILE, &newer).unwrap();
    // Before anybody asks it anything.
    let [pin] = &world.host.registry().pins()[..] else { panic!("one pin") };
    assert!(!pin.waiting && !pin.serving && pin.problem.is_none(), "{pin:?}");
    assert_eq!(world.route(0, "x", &["banana"]), ["banana"]);
    assert_eq!(world.route(1, "y", &["a"]), ["a"]);
    let [pin] = &world.host.registry().pins()[..] else { panic!("one pin") };
    assert!(!pin.waiting && !pin.serving && pin.digest == digest, "{pin:?}");
}

/// What was kept of the guest in a life before, and the operator's rule that a fanout stands in for it.
fn after_a_life(scratch: &Scratch, before: Before, rules: &str) -> World {
    let kept_dir = Some(scratch.path().join("kept"));
    let first = HostConfig { kept_dir: kept_dir.clone(), workers: 1, ..HostConfig::default() };
    World::of(first).offer(FILE, &Guest::default().component()).unwrap();
    let on_failure = match rules {
        "" => None,
        core => Some(FailurePolicy::Fallback(Name::new(core.as_bytes()).unwrap())),
    };
    let mut all = PolicyRules::default();
    all.plugins.insert("guest".into(), PluginRules { on_failure, ..PluginRules::default() });
    let policies = Arc::new(Policies::new(all).unwrap());
    World::of(HostConfig { kept_dir, policies, ..config(before) })
}

/// The rows of the guest's type: for whom, and why it does not serve.
fn rows(world: &World) -> Vec<(String, Option<String>)> {
    let types = world.host.registry().types().into_iter().filter(|it| it.name.as_bytes() == b"x-test");
    types
        .map(|it| match it.state {
            TypeState::Parked { why } => (it.scope.to_string(), Some(why)),
            TypeState::Serving { .. } => (it.scope.to_string(), None),
        })
        .collect()
}

#[test]
fn what_the_operator_says_of_a_plugin_holds_before_it_is_there() {
    let scratch = Scratch::new();
    let mut world = after_a_life(&scratch, usual(), "fanout");
    assert_eq!(world.route(0, "x", &["n"]), ["a,b"], "a fanout stands in");
    let info = world.host.registry().type_in(world.vhost.name(), b"x-test").unwrap();
    let why = String::from("its plugin guest is not there");
    assert_eq!(info.state, TypeState::Parked { why });
    let registry = world.host.registry().clone();
    registry.is_coming(&Scope::Global, Path::new(FILE));
    assert_eq!(world.route(1, "x", &["n"]), ["a,b"], "nobody waits");
    assert!(rows(&world)[0].1.as_ref().unwrap().contains("guest is still being put into service"));
    assert!(registry.warnings().iter().all(|warning| !warning.text.contains("x-test")));
    // Neither the file nor what is kept of it can serve.
    let digest = Digest::of(&Guest::default().component()).to_hex();
    std::fs::remove_file(scratch.path().join(format!("kept/global/guest/{digest}.wasm"))).unwrap();
    world.offer(FILE, b"nonsense").unwrap_err();
    assert_eq!(world.route(0, "x", &["n"]), ["a,b"]);
    assert!(rows(&world)[0].1.as_ref().unwrap().contains("its plugin guest was refused at stage read"));
    let warnings = registry.warnings();
    let warning = warnings.iter().find(|warning| warning.text.contains("x-test")).unwrap();
    assert!(warning.text.contains("refused at stage read"), "{warning}");
    assert!(warning.hint.contains("are served by 'fanout' until its file is taken"), "{warning}");
    world.offer(FILE, &Guest::default().component()).unwrap();
    assert_eq!(world.route(0, "x", &["n", "a"]), ["", "a"]);
}

#[test]
fn a_plugin_that_is_there_and_switched_off_is_not_missing() {
    let scratch = Scratch::new();
    let mut world = after_a_life(&scratch, usual(), "fanout");
    let registry = world.host.registry().clone();
    let switch = Switch::Plugin("guest".into());
    registry.disable(&switch);
    let off = Some(String::from("its plugin guest is switched off"));
    assert_eq!(rows(&world), [(String::from("vhost '/'"), off.clone())]);
    world.offer(FILE, &Guest::default().component()).unwrap();
    assert_eq!(rows(&world), [(String::from("global"), off)], "one row");
    assert!(registry.warnings().is_empty(), "{:?}", registry.warnings());
    for worker in 0..2 {
        assert_eq!(world.route(worker, "x", &["n"]), ["a,b"]);
    }
    registry.enable(&switch);
    assert_eq!(rows(&world), [(String::from("global"), None)]);
    for worker in 0..2 {
        assert_eq!(world.route(worker, "x", &["a", "n"]), ["a", ""]);
    }
}

#[test]
fn messages_wait_for_a_plugin_whose_file_is_there() {
    let scratch = Scratch::new();
    let mut world = after_a_life(&scratch, usual(), "");
    let registry = world.host.registry().clone();
    let publish = |world: &mut World| {
        let (exchange, waker): (_, Arc<dyn Wake>) = (world.exchange("x"), world.woken.clone());
        let (message, mut answers) = (message(b"a"), Vec::new());
        let worker = &mut world.workers[0];
        let routed = worker.route(&exchange, Layer::FRONT, &mut [message].iter(), &mut answers, &waker);
        (routed, answers.iter().map(text).collect::<Vec<_>>())
    };
    let parked = |why: &str| format!("failed: exchange 'x' in vhost '/' is parked: type 'x-test': {why}");
    assert_eq!(publish(&mut world), (Routed::Ready, vec![parked("its plugin guest is not there")]));
    registry.is_coming(&Scope::Global, Path::new(FILE));
    assert_eq!(publish(&mut world), (Routed::Pending, Vec::new()));
    let why = world.declare(0, "y").unwrap_err().to_string();
    assert!(why.contains("its plugin guest is still being put into service"), "{why}");
    registry.remove(Path::new(FILE));
    assert_eq!(world.woken.0.load(Ordering::SeqCst), 1, "it went again");
    assert_eq!(publish(&mut world), (Routed::Ready, vec![parked("its plugin guest is not there")]));
    registry.is_coming(&Scope::Global, Path::new(FILE));
    assert_eq!(publish(&mut world), (Routed::Pending, Vec::new()));
    world.offer(FILE, &Guest::default().component()).unwrap();
    assert_eq!(world.woken.0.load(Ordering::SeqCst), 2);
    assert_eq!(world.route(0, "x", &["a"]), ["a"]);
}
