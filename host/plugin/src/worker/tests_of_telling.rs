//! What is told of a plugin: how it would answer a message, and what it did until now.

use crate::{
    registry::TypeInVhost,
    testing::{self, Guest, World},
};
use leveret_broker::{
    Explanation, Published,
    explain::{Asked, Said},
};
use leveret_model::{MessageView, Name};

fn world() -> World {
    let mut world = World::with(Guest::default(), 2);
    world.declare(0, "x").unwrap();
    world.bind_to(0, "x", "a", "one").unwrap();
    world.bind_to(0, "x", "a", "two").unwrap();
    world
}

fn explain(world: &mut World, key: &str) -> Explanation {
    let message = MessageView { exchange: b"x", ..testing::message(key.as_bytes()) };
    world.vhost.clone().explain(&mut world.workers[0], &message, false)
}

fn only(told: &Explanation) -> &Asked {
    let [step] = told.steps.as_slice() else { panic!("{told:?}") };
    let [asked] = step.asked.as_slice() else { panic!("{told:?}") };
    asked
}

fn seen(world: &World) -> TypeInVhost {
    world.host.registry().type_in(&Name::from_static("/"), b"x-test").unwrap()
}

#[test]
fn the_plugin_its_answer_and_the_bindings_are_told_and_nothing_is_remembered_for_it() {
    let mut world = world();
    for _ in 0..2 {
        let told = explain(&mut world, "a");
        let asked = only(&told);
        let plugin = asked.plugin.as_ref().unwrap();
        assert_eq!((plugin.name.as_str(), plugin.version.as_str(), plugin.pure), ("guest", "1", true));
        assert!(!asked.remembered);
        let Said::Deliver { bindings, dead_ids: 0 } = &asked.said else { panic!("{asked:?}") };
        let to: Vec<String> = bindings.iter().map(|b| b.destination.name().to_text()).collect();
        assert_eq!(to, ["one", "two"]);
        assert_eq!(told.queues, [Name::from_static("one"), Name::from_static("two")]);
        assert_eq!(told.outcome, Some(Published::Routed));
    }
    assert_eq!(world.workers[0].counters(), super::Counters::default());
    assert_eq!(seen(&world).used.calls, crate::Calls::default());
    world.route(0, "x", &["a", "!d", "!r"]);
    for (key, said) in [("a", "Deliver"), ("!d", "Drop"), ("!r", "Reject")] {
        let told = explain(&mut world, key);
        assert!(only(&told).remembered, "{key}");
        assert!(format!("{:?}", only(&told).said).starts_with(said), "{told:?}");
    }
    world.bind_to(0, "x", "a", "three").unwrap();
    let told = explain(&mut world, "a");
    assert_eq!((only(&told).remembered, told.queues.len()), (false, 3), "nothing stale is told");
}

#[test]
fn a_failure_and_a_missing_plugin_are_told() {
    let mut world = world();
    let told = explain(&mut world, "!t");
    assert!(matches!(only(&told).said, Said::Failed(_)), "{told:?}");
    assert!(matches!(told.outcome, Some(Published::Rejected(_))), "{told:?}");
    world.host.registry().remove(std::path::Path::new("guest.wasm")).unwrap();
    let told = explain(&mut world, "a");
    assert!(only(&told).plugin.is_none());
    assert!(matches!(told.outcome, Some(Published::Refused(_))), "{told:?}");
}

#[test]
fn a_failure_that_is_only_told_is_none_of_the_plugins() {
    let mut world = world();
    for _ in 0..=super::FAILURES_IN_A_ROW_MAX {
        for key in ["!t", "!l", "!w"] {
            let told = explain(&mut world, key);
            let Said::Failed(refusal) = &only(&told).said else { panic!("{told:?}") };
            assert!(!refusal.to_string().contains("quarantined"), "{refusal}");
        }
    }
    assert_eq!(seen(&world).used.failures, crate::Failures::default());
    assert_eq!(world.route(0, "x", &["a"]), ["one,two"]);
    // Nor is what goes well: it ends no row of failures.
    for _ in 1..super::FAILURES_IN_A_ROW_MAX {
        world.route(0, "x", &["!t"]);
    }
    explain(&mut world, "b");
    assert_eq!(seen(&world).used.failures.set_aside_until_ms, None);
    world.route(0, "x", &["!t"]);
    assert!(seen(&world).used.failures.set_aside_until_ms.is_some());
}

#[test]
fn what_all_workers_counted_is_seen_by_plugin_and_vhost() {
    let mut world = world();
    for worker in 0..2 {
        for _ in 0..3 {
            world.route(worker, "x", &["a", "b", "a"]);
        }
    }
    world.route(0, "x", &["!f"]);
    let calls = seen(&world).used.calls;
    assert_eq!((calls.asked, calls.remembered), (2 * 3 + 1, 2 * 6));
    assert_eq!((calls.calls, calls.dead_ids, calls.failed), (3, 1, 0));
    assert_eq!(calls.call_time.ranges().map(|(_, count)| count).sum::<u64>(), 3, "the first are timed");

    world.enter("other");
    world.declare(0, "x").unwrap();
    world.bind(0, "x", "a").unwrap();
    world.route(0, "x", &["a"]);
    let there = world.host.registry().type_in(&Name::from_static("other"), b"x-test").unwrap();
    assert_eq!((there.used.calls.asked, there.exchanges.len()), (1, 1));
    assert_eq!(seen(&world).used.calls, calls, "another virtual host's are its own");
}

#[test]
fn failures_are_seen_by_their_kind_with_the_last_and_that_it_is_set_aside() {
    let mut world = world();
    world.route(0, "x", &["!t"]);
    world.route(0, "x", &["!w"]);
    world.route(0, "x", &["!l"]);
    let failures = seen(&world).used.failures;
    assert_eq!((failures.traps, failures.answers, failures.cpu), (1, 1, 1));
    let (last, _) = failures.last.unwrap();
    assert!(last.contains("CPU"), "{last}");
    assert_eq!(seen(&world).used.calls.failed, 3);
    for _ in 0..super::FAILURES_IN_A_ROW_MAX {
        world.route(0, "x", &["!t"]);
    }
    assert!(seen(&world).used.failures.set_aside_until_ms.is_some());
}
