//! Another type in the place of one that fails, is set aside or is parked: it routes by the same bindings.

use super::*;
use crate::{
    policy::{PluginRules, PolicyRules, Switch},
    testing::{self, Guest, World},
};
use leveret_broker::{Published, explain::Said};
use leveret_model::Table;
use std::path::Path;

/// A world with the guest behind the exchange `x`, with bindings `a` and `b`, and this type to stand in.
fn world(core_type: &'static str, workers: usize) -> World {
    let on_failure = Some(FailurePolicy::Fallback(Name::from_static(core_type)));
    let mut rules = PolicyRules::default();
    rules.plugins.insert("guest".into(), PluginRules { on_failure, ..PluginRules::default() });
    let mut world = World::ruled_by(rules, workers);
    serve(&world);
    world.declare(0, "x").unwrap();
    world.bind(0, "x", "a").unwrap();
    world.bind(0, "x", "b").unwrap();
    world
}

fn serve(world: &World) {
    world.offer("guest.wasm", &Guest::default().component()).unwrap();
}

fn remove(world: &World) {
    world.host.registry().remove(Path::new("guest.wasm")).unwrap();
}

fn explain(world: &mut World, key: &str) -> leveret_broker::Explanation {
    let message = MessageView { exchange: b"x", ..testing::message(key.as_bytes()) };
    world.vhost.clone().explain(&mut world.workers[0], &message, false)
}

#[test]
fn only_the_message_that_traps_is_routed_by_it() {
    let mut world = world("fanout", 1);
    for _ in 0..3 {
        assert_eq!(world.route(0, "x", &["a", "!t", "b", "!d"]), ["a", "a,b", "b", "drop"]);
    }
    let seen = world.host.registry().type_in(world.vhost.name(), b"x-test").unwrap();
    assert_eq!((seen.used.calls.failed, seen.used.calls.stood_in), (3, 3));
}

#[test]
fn while_the_plugin_is_set_aside_it_routes_everything() {
    testing::undisturbed(
        || world("direct", 1),
        |world| {
            for _ in 0..FAILURES_IN_A_ROW_MAX {
                assert_eq!(world.route(0, "x", &["!t"]), [""]);
            }
            world.workers[0].homes.stay_aside();
            let calls = world.workers[0].counters().calls;
            assert_eq!(world.route(0, "x", &["a", "b", "!d", "c"]), ["a", "b", "", ""]);
            let asked = world.workers[0].counters().calls - calls;
            assert_eq!(asked, 1, "the plugin that is set aside is not asked, and direct is once");
            assert_eq!(world.route(0, "x", &["a", "b", "!d", "c"]), ["a", "b", "", ""]);
            assert_eq!(world.workers[0].counters().calls - calls, 1, "and that is remembered");
        },
    );
}

#[test]
fn while_the_plugin_is_parked_it_routes_by_the_bindings_that_there_are() {
    let mut world = world("direct", 2);
    assert_eq!(world.route(0, "x", &["a", "!d"]), ["a", "drop"]);
    remove(&world);
    for worker in 0..2 {
        assert_eq!(world.route(worker, "x", &["a", "b", "!d"]), ["a", "b", ""]);
    }
    assert!(matches!(world.bind(0, "x", "c"), Err(Refusal::Parked { .. })), "nobody checks bindings");
    world.unbind(0, "x", "b");
    for worker in 0..2 {
        assert_eq!(world.route(worker, "x", &["a", "b"]), ["a", ""]);
    }
    serve(&world);
    for worker in 0..2 {
        assert_eq!(world.route(worker, "x", &["a", "!d"]), ["a", "drop"]);
    }
    world.bind(1, "x", "c").unwrap();
    let switch = Switch::Plugin("guest".into());
    world.host.registry().disable(&switch);
    for worker in 0..2 {
        assert_eq!(world.route(worker, "x", &["a", "c", "!d"]), ["a", "c", ""]);
    }
    world.host.registry().enable(&switch);
    assert_eq!(world.route(0, "x", &["a", "!d"]), ["a", "drop"]);
    world.delete(0, "x");
    assert_eq!(world.workers[0].entries.by_place.len(), 0, "what stood in is forgotten too");
}

#[test]
fn one_that_has_to_be_built_first_is_waited_for_and_the_plugin_asked_no_more_than_twice() {
    let mut world = world("fanout", 1);
    let all = INLINE_REPLAY_BINDINGS_MAX + 1;
    for number in 0..all {
        world.bind_to(0, "x", &format!("k{number}"), "q").unwrap();
    }
    let before = world.workers[0].counters().failed;
    assert_eq!(world.route(0, "x", &["!t"]), ["a,b,q"]);
    assert!(world.workers[0].counters().failed - before <= 2);
    assert_eq!(world.route(0, "x", &["k7", "!t", "a"]), ["q", "a,b,q", "a"]);
}

#[test]
fn what_it_refuses_meets_the_first_refusal() {
    let mut world = world("headers", 1);
    let (queue, mut arguments) = (BindToQueue("b"), Table::new());
    arguments.push(Name::from_static("x-match"), leveret_model::Value::Text("nonsense".into()));
    queue.bind(&mut world, arguments);
    let answers = world.route(0, "x", &["a", "!t"]);
    assert_eq!(answers[0], "a");
    assert!(answers[1].contains("trapped"), "{}", answers[1]);
}

/// A binding with arguments.
struct BindToQueue(&'static str);

impl BindToQueue {
    fn bind(&self, world: &mut World, arguments: Table) {
        let to = leveret_broker::BindTo::Queue(self.0.as_bytes());
        let by = leveret_broker::ConnectionId(1);
        world.vhost.clone().bind(&mut world.workers[0], b"x", to, b"h", arguments, by).unwrap();
    }
}

#[test]
fn that_it_stands_in_is_told() {
    let mut world = world("fanout", 1);
    for parked in [false, true] {
        if parked {
            remove(&world);
        }
        let told = explain(&mut world, "!t");
        let [step] = told.steps.as_slice() else { panic!("{told:?}") };
        let [first, second] = step.asked.as_slice() else { panic!("{told:?}") };
        assert!(matches!(first.said, Said::Failed(_)) && !first.stands_in, "{told:?}");
        assert_eq!(first.plugin.is_some(), !parked);
        assert!(second.stands_in && second.layer == first.layer, "{told:?}");
        assert_eq!(second.type_name, Name::from_static("fanout"));
        assert!(matches!(&second.said, Said::Deliver { bindings, .. } if bindings.len() == 2), "{told:?}");
        assert_eq!((told.queues.len(), told.outcome), (2, Some(Published::Routed)));
        let seen = world.host.registry().type_in(world.vhost.name(), b"x-test").unwrap();
        assert_eq!(seen.on_failure, FailurePolicy::Fallback(Name::from_static("fanout")));
    }
}
