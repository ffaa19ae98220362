//! Switches and pins over a restart.

use super::*;
use crate::{
    host::HostConfig,
    policy::{PluginRules, Policies, PolicyRules, Switch},
    testing::{Guest, Scratch, World},
};

const FILE: &str = "guest.wasm";

/// Keeps decisions as long as the test lasts.
#[derive(Default)]
struct Memory {
    kept: Mutex<Decisions>,
    broken: Mutex<bool>,
}

impl KeepDecisions for Memory {
    fn keep(&self, decisions: &Decisions) -> Result<(), String> {
        if *self.broken.lock() {
            return Err(String::from("the disk is full"));
        }
        *self.kept.lock() = decisions.clone();
        Ok(())
    }

    fn place(&self) -> &Path {
        Path::new("decisions")
    }
}

/// A broker's start with what the one before kept.
fn start(scratch: &Scratch, memory: &Arc<Memory>, rules: PolicyRules) -> World {
    let kept = memory.kept.lock().clone();
    World::of(HostConfig {
        workers: 2,
        kept_dir: Some(scratch.path().join("kept")),
        policies: Arc::new(Policies::new(rules).unwrap()),
        decisions: Some((kept, memory.clone())),
        ..HostConfig::default()
    })
}

/// Version 1 matches keys, version 2 gives everybody everything.
fn version(number: u8) -> Vec<u8> {
    Guest { version: number, fanout: number == 2, independent: number != 2, ..Guest::default() }.component()
}

fn declare(world: &mut World, exchange: &str) {
    world.declare(0, exchange).unwrap();
    world.bind(0, exchange, "k").unwrap();
}

/// What a message gets with a key that no binding has: nothing by version 1, all by version 2.
fn routes(world: &mut World, exchange: &str) -> String {
    world.route(1, exchange, &["n"]).remove(0)
}

#[test]
fn an_exchange_that_is_declared_again_is_on_the_version_that_it_was_pinned_to() {
    let (scratch, memory) = (Scratch::new(), Arc::default());
    let mut world = start(&scratch, &memory, PolicyRules::default());
    world.offer(FILE, &version(1)).unwrap();
    declare(&mut world, "x");
    world.host.registry().pin(&world.exchange("x"), &PinTo::Current).unwrap();
    world.offer(FILE, &version(2)).unwrap();
    assert_eq!(memory.kept.lock().pins.len(), 1);
    drop(world);

    let mut world = start(&scratch, &memory, PolicyRules::default());
    let [pin] = &world.host.registry().pins()[..] else { panic!("one pin") };
    assert!(pin.waiting && pin.problem.is_none() && pin.version == "1", "{pin:?}");
    world.offer(FILE, &version(2)).unwrap();
    for exchange in ["x", "y"] {
        declare(&mut world, exchange);
    }
    assert_eq!((routes(&mut world, "x"), routes(&mut world, "y")), (String::new(), "k".into()));
    let [pin] = &world.host.registry().pins()[..] else { panic!("one pin") };
    assert!(!pin.waiting && !pin.serving, "{pin:?}");
    assert_eq!(memory.kept.lock().pins.len(), 1);
    // It ends with the exchange.
    world.delete(0, "x");
    while !memory.kept.lock().pins.is_empty() {
        std::thread::yield_now();
    }
    declare(&mut world, "x");
    assert_eq!(routes(&mut world, "x"), "k");
}

#[test]
fn an_exchange_whose_version_is_gone_is_parked_and_not_served_by_another() {
    let (scratch, memory) = (Scratch::new(), Arc::default());
    let mut world = start(&scratch, &memory, PolicyRules::default());
    world.offer(FILE, &version(1)).unwrap();
    declare(&mut world, "x");
    world.host.registry().pin(&world.exchange("x"), &PinTo::Current).unwrap();
    drop(world);
    std::fs::remove_dir_all(scratch.path().join("kept")).unwrap();

    let mut world = start(&scratch, &memory, PolicyRules::default());
    world.offer(FILE, &version(2)).unwrap();
    let error = world.declare(0, "x").unwrap_err().to_string();
    assert!(error.contains("to stay on version 1") && error.contains("not kept any more"), "{error}");
    assert!(world.host.registry().pins()[0].problem.as_ref().unwrap().contains("not kept any more"));
    declare(&mut world, "y");
    // The file of that version comes, and it is served.
    world.offer(FILE, &version(1)).unwrap();
    declare(&mut world, "x");
    world.offer(FILE, &version(2)).unwrap();
    assert_eq!((routes(&mut world, "x"), routes(&mut world, "y")), (String::new(), "k".into()));
}

#[test]
fn a_declare_that_is_refused_leaves_the_pin() {
    let (scratch, memory) = (Scratch::new(), Arc::default());
    let mut world = start(&scratch, &memory, PolicyRules::default());
    world.offer(FILE, &version(1)).unwrap();
    declare(&mut world, "x");
    world.host.registry().pin(&world.exchange("x"), &PinTo::Current).unwrap();
    drop(world);
    let mut world = start(&scratch, &memory, PolicyRules::default());
    world.offer(FILE, &version(1)).unwrap();
    world.host.registry().disable(&Switch::All);
    world.declare(0, "x").unwrap_err();
    assert!(world.host.registry().pins()[0].waiting);
    // It is taken back like any, without its exchange too.
    assert!(world.host.registry().unpin_awaited(world.vhost.name(), &Name::from_static("x")));
    assert_eq!((world.host.registry().pins(), memory.kept.lock().pins.len()), (vec![], 0));
}

#[test]
fn switches_hold_against_the_configuration_and_end_with_what_they_were_for() {
    let (scratch, memory) = (Scratch::new(), Arc::<Memory>::default());
    let off_by_rule = || {
        let mut rules = PolicyRules::default();
        rules.plugins.insert("off".into(), PluginRules { enabled: Some(false), ..PluginRules::default() });
        rules
    };
    let [off, guest] = ["off", "guest"].map(|plugin| Switch::Plugin(plugin.into()));
    let world = start(&scratch, &memory, off_by_rule());
    assert_eq!(world.host.registry().decisions(), Decisions::default(), "what is configured is not decided");
    world.host.registry().disable(&guest);
    world.host.registry().enable(&off);
    let kept = memory.kept.lock().clone();
    assert_eq!((&kept.off[..], &kept.on[..]), (&[guest.clone()][..], &[off.clone()][..]));
    drop(world);

    let mut world = start(&scratch, &memory, off_by_rule());
    assert_eq!(world.host.registry().policies().disabled(), std::slice::from_ref(&guest));
    world.offer(FILE, &version(1)).unwrap();
    assert!(world.declare(0, "x").unwrap_err().to_string().contains("switched off"));
    world.host.registry().enable(&guest);
    world.host.registry().disable(&off);
    assert_eq!(*memory.kept.lock(), Decisions::default());
    world.declare(0, "x").unwrap();
}

#[test]
fn what_cannot_be_kept_holds_all_the_same_and_is_told() {
    let (scratch, memory) = (Scratch::new(), Arc::<Memory>::default());
    let mut world = start(&scratch, &memory, PolicyRules::default());
    world.offer(FILE, &version(1)).unwrap();
    *memory.broken.lock() = true;
    let guest = Switch::Plugin("guest".into());
    world.host.registry().disable(&guest);
    assert!(world.declare(0, "x").is_err());
    assert_eq!(world.host.registry().decisions_not_kept().unwrap(), "the disk is full");
    *memory.broken.lock() = false;
    world.host.registry().enable(&guest);
    assert_eq!(world.host.registry().decisions_not_kept(), None);
}

#[test]
fn what_was_decided_for_a_virtual_host_ends_with_it() {
    let (scratch, memory) = (Scratch::new(), Arc::default());
    let name = Name::from_static("gone");
    let mut rules = PolicyRules::default();
    let off = PluginRules { enabled: Some(false), ..PluginRules::default() };
    rules.vhosts.entry(name.clone()).or_default().plugins.insert("other".into(), off);
    let mut world = start(&scratch, &memory, rules);
    world.offer(FILE, &version(1)).unwrap();
    let in_vhost =
        |plugin: &str, vhost: &Name| Switch::PluginInVhost { plugin: plugin.into(), vhost: vhost.clone() };
    let registry = world.host.registry().clone();
    registry.disable(&in_vhost("guest", &name));
    registry.enable(&in_vhost("other", &name));
    registry.disable(&in_vhost("guest", &Name::from_static("stays")));
    world.enter("gone");
    assert!(world.declare(0, "x").unwrap_err().to_string().contains("switched off"));
    registry.forget_vhost(&name);
    let kept = memory.kept.lock().clone();
    assert_eq!((kept.off, kept.on), (vec![in_vhost("guest", &Name::from_static("stays"))], Vec::new()));
    declare(&mut world, "x");
    assert_eq!(registry.policies().disabled().len(), 2, "what the configuration says holds");
}
