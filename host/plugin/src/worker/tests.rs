//! Routing through real components: answers, limits, and that what is remembered is never stale.

use super::*;
use crate::guest::{GuestFailure, thread_cpu_time};
use crate::registry::Lookup;
use crate::replica::About;
use crate::testing::{self, Guest, World};
use leveret_broker::exchange::BindingId;
use leveret_model::{Table, Value};
use proptest::prelude::*;
use std::collections::BTreeSet;

const BOTH_FORMS: [bool; 2] = [true, false];

fn world(batch: bool) -> World {
    let mut world = World::with(Guest { batch, ..Guest::default() }, 2);
    world.declare(0, "x").unwrap();
    world.bind(0, "x", "a").unwrap();
    world.bind(0, "x", "b").unwrap();
    world
}

#[test]
fn answers_are_the_guests_and_are_remembered() {
    for batch in BOTH_FORMS {
        testing::undisturbed(
            || world(batch),
            |world| {
                world.bind_to(0, "x", "a", "other").unwrap();
                for _ in 0..3 {
                    let answers = world.route(0, "x", &["a", "b", "c", "a"]);
                    assert_eq!(answers, ["a,other", "b", "", "a,other"]);
                }
                let counters = world.workers[0].counters();
                assert_eq!((counters.asked, counters.remembered), (4, 8));
                assert_eq!(counters.calls, if batch { 1 } else { 4 });
            },
        );
    }
}

#[test]
fn one_question_serves_equal_messages_in_a_row() {
    let mut world = world(true);
    assert_eq!(world.route(0, "x", &["a"; 100]), ["a"; 100]);
    assert_eq!(world.route(0, "x", &["!n", "!n"]), world.route(0, "x", &["!n", "!n"]));
}

#[test]
fn the_built_in_types_route_and_are_remembered() {
    testing::undisturbed(
        || World::empty(2),
        |world| {
            world.bind(0, "amq.direct", "a.b").unwrap();
            world.bind_to(0, "amq.topic", "a.*", "one").unwrap();
            world.bind_to(0, "amq.topic", "#.b", "two").unwrap();
            world.bind_to(0, "amq.fanout", "ignored", "all").unwrap();
            for worker in [0, 1, 0, 1] {
                assert_eq!(world.route(worker, "amq.direct", &["a.b", "a.c"]), ["a.b", ""]);
                assert_eq!(world.route(worker, "amq.topic", &["a.b", "a.c", "x"]), ["one,two", "one", ""]);
                assert_eq!(world.route(worker, "amq.fanout", &["any", "thing"]), ["all", "all"]);
            }
            for worker in &world.workers {
                // A fanout reads nothing, so all its messages are one question.
                let counters = worker.counters();
                assert_eq!((counters.calls, counters.remembered, counters.failed), (3, 7, 0));
            }
        },
    );
}

#[test]
fn an_impure_type_is_asked_every_time() {
    let mut world = World::with(Guest { pure: false, ..Guest::default() }, 1);
    world.declare(0, "x").unwrap();
    let first = world.route(0, "x", &["!n", "!n"]);
    assert_ne!(first[0], first[1]);
    assert_ne!(world.route(0, "x", &["!n"])[0], first[1]);
    assert_eq!(world.workers[0].counters().remembered, 0);
}

#[test]
fn what_one_worker_binds_all_workers_route_by() {
    let mut world = world(true);
    for round in 0..50 {
        let (here, there) = (round % 2, (round + 1) % 2);
        assert_eq!(world.route(there, "x", &["k"]), [""]);
        world.bind(here, "x", "k").unwrap();
        assert_eq!(world.route(there, "x", &["k", "a"]), ["k", "a"]);
        assert_eq!(world.route(here, "x", &["k", "a"]), ["k", "a"]);
        world.unbind(there, "x", "k");
        assert_eq!(world.route(here, "x", &["k"]), [""]);
    }
}

#[test]
fn drop_reject_and_forged_ids() {
    for batch in BOTH_FORMS {
        let mut world = world(batch);
        assert_eq!(world.route(0, "x", &["!d", "!r", "!f", "a"]), ["drop", "reject no", "", "a"]);
        assert_eq!(world.workers[0].counters().dead_ids, 1);
    }
}

#[test]
fn only_the_message_that_traps_is_refused() {
    for batch in BOTH_FORMS {
        let mut world = world(batch);
        let answers = world.route(0, "x", &["a", "!t", "b", "!d"]);
        assert_eq!((answers[0].as_str(), answers[2].as_str(), answers[3].as_str()), ("a", "b", "drop"));
        assert!(answers[1].contains("trapped") && answers[1].contains("unreachable"), "{}", answers[1]);
        assert_eq!(world.route(0, "x", &["a", "b"]), ["a", "b"]);
    }
}

#[test]
fn each_limit_is_named_in_the_refusal() {
    for batch in BOTH_FORMS {
        for (key, said) in [
            ("!l", "the limit is 10.1 ms"),
            ("!m", "more than 64 MiB of memory"),
            ("!b", "65537 ids; the most is 65536"),
        ] {
            let mut world = world(batch);
            let answers = world.route(0, "x", &[key, "a"]);
            assert!(answers[0].contains(said), "{}", answers[0]);
            assert_eq!(answers[1], "a");
        }
    }
    let answers = world(true).route(0, "x", &["!w"]);
    assert!(answers[0].contains("there is no word"), "{}", answers[0]);
}

#[test]
fn a_plugin_that_always_fails_is_set_aside_and_no_other() {
    let mut world = World::with(Guest::default(), 1);
    let other = Guest { type_name: "x-other", ..Guest::default() };
    world.offer("other.wasm", &other.component()).unwrap();
    world.declare(0, "x").unwrap();
    world.declare_with(0, "y", "x-other", Table::new()).unwrap();
    world.bind(0, "y", "a").unwrap();
    for _ in 0..FAILURES_IN_A_ROW_MAX {
        world.route(0, "x", &["!t"]);
    }
    world.workers[0].homes.stay_aside();
    let calls = world.workers[0].counters().calls;
    let answers = world.route(0, "x", &["!t"; 1000]);
    assert!(answers.iter().all(|answer| answer.contains("quarantined")), "{}", answers[0]);
    assert_eq!(world.workers[0].counters().calls, calls, "it is not asked");
    assert_eq!(world.route(0, "y", &["a"]), ["a"]);
}

#[test]
fn what_the_plugin_refuses_is_not_declared_and_not_bound() {
    let mut world = world(true);
    match world.bind(0, "x", "refuse") {
        Err(Refusal::PluginRefused { text, .. }) => assert_eq!(text, "not taken"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(world.bind(0, "x", "!t"), Err(Refusal::PluginFailed { .. })));
    assert_eq!(world.route(0, "x", &["a", "refuse"]), ["a", ""]);
    assert_eq!(world.exchange("x").binding_count(), 2);
    let arguments: Table = [(Name::from_static("depth"), Value::Integer(1))].into_iter().collect();
    assert!(matches!(world.declare_with(0, "z", "x-test", arguments), Err(Refusal::PluginRefused { .. })));
    let alternate: Table =
        [(Name::from_static("alternate-exchange"), Value::Text("x".into()))].into_iter().collect();
    world.declare_with(0, "z", "x-test", alternate).unwrap();
    assert!(matches!(
        world.declare_with(0, "u", "x-unknown", Table::new()),
        Err(Refusal::UnknownExchangeType { .. })
    ));
}

#[test]
fn a_candidate_that_was_never_committed_leaves_no_trace() {
    let mut world = world(true);
    let exchange = world.exchange("x");
    let (_, bindings) = exchange.all_bindings();
    let candidate = |id, key| Binding {
        id: BindingId(id),
        destination: bindings[0].destination.clone(),
        routing_key: Name::from_static(key),
        arguments: Table::new(),
    };
    // The id that the next binding will have.
    world.workers[0].bind(&exchange, &candidate(2, "never")).unwrap();
    world.workers[1].bind(&exchange, &candidate(2, "nor-that")).unwrap();
    world.bind(1, "x", "c").unwrap();
    assert_eq!(bindings.iter().map(|binding| binding.id.0).max(), Some(1));
    for worker in 0..2 {
        assert_eq!(world.route(worker, "x", &["never", "nor-that", "c"]), ["", "", "c"]);
        assert_eq!(world.workers[worker].counters().dead_ids, 0);
    }
}

#[test]
fn a_large_exchange_is_replayed_elsewhere_while_the_channel_waits() {
    let mut world = world(true);
    let keys: Vec<String> = (0..=INLINE_REPLAY_BINDINGS_MAX).map(|n| format!("k{n}")).collect();
    for key in &keys {
        world.bind_to(0, "x", key, "q").unwrap();
    }
    assert_eq!(world.route(0, "x", &["k7"]), ["q"], "this worker knows them");
    assert_eq!(world.woken.0.load(Ordering::SeqCst), 0);
    assert_eq!(world.route(1, "x", &["k7", "no", "a"]), ["q", "", "a"]);
    assert!(world.woken.0.load(Ordering::SeqCst) > 0, "the other had to wait");
    // So does this one after a trap, and a change that came meanwhile counts.
    world.route(0, "x", &["!t"]);
    world.unbind(1, "x", "a");
    assert_eq!(world.route(0, "x", &["k1999", "a"]), ["q", ""]);
}

#[test]
fn what_is_kept_of_exchanges_goes_when_they_go() {
    let mut world = world(true);
    for round in 0..200 {
        let name = format!("short-lived-{round}");
        world.declare(0, &name).unwrap();
        world.bind(0, &name, "a").unwrap();
        for worker in 0..2 {
            assert_eq!(world.route(worker, &name, &["a"]), ["a"]);
        }
        world.delete(0, &name);
    }
    world.route(1, "x", &["a"]);
    assert!(world.workers[0].entries.by_place.len() <= 2);
    assert!(world.workers[1].entries.by_place.len() <= 40, "{}", world.workers[1].entries.by_place.len());
}

#[derive(Clone, Debug)]
enum Step {
    Bind(usize, u8),
    Unbind(usize, u8),
    Trap(usize),
    Reload,
    Route(usize, Vec<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let worker = 0_usize..2;
    let key = 0_u8..12;
    let step = prop_oneof![
        4 => (worker.clone(), key.clone()).prop_map(|(w, k)| Step::Bind(w, k)),
        3 => (worker.clone(), key.clone()).prop_map(|(w, k)| Step::Unbind(w, k)),
        1 => worker.clone().prop_map(Step::Trap),
        1 => Just(Step::Reload),
        6 => (worker, proptest::collection::vec(key, 1..20)).prop_map(|(w, k)| Step::Route(w, k)),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn after_anything_routing_equals_a_model(steps in steps(), pure: bool, batch: bool) {
        let guests = [1, 2].map(|version| Guest { version, pure, batch, ..Guest::default() }.component());
        let mut world = World::empty(2);
        world.offer("guest.wasm", &guests[0]).unwrap();
        world.declare(0, "x").unwrap();
        let mut model = BTreeSet::new();
        let mut serving = 0;
        for step in steps {
            match step {
                Step::Bind(worker, key) => {
                    world.bind(worker, "x", &format!("k{key}")).unwrap();
                    model.insert(key);
                }
                Step::Unbind(worker, key) => {
                    if model.remove(&key) {
                        world.unbind(worker, "x", &format!("k{key}"));
                    }
                }
                Step::Trap(worker) => {
                    world.route(worker, "x", &["!t"]);
                    // A success keeps it from being set aside.
                    world.route(worker, "x", &["!d"]);
                    prop_assert!(world.route(worker, "x", &["k-none"])[0].is_empty());
                }
                Step::Reload => {
                    serving = 1 - serving;
                    world.offer("guest.wasm", &guests[serving]).unwrap();
                }
                Step::Route(worker, keys) => {
                    let names: Vec<String> = keys.iter().map(|key| format!("k{key}")).collect();
                    let asked: Vec<&str> = names.iter().map(String::as_str).collect();
                    let answers = world.route(worker, "x", &asked);
                    for ((answer, name), key) in answers.iter().zip(&names).zip(&keys) {
                        prop_assert_eq!(answer, if model.contains(key) { name } else { "" });
                    }
                }
            }
        }
    }
}

#[test]
fn workers_on_threads_of_their_own_never_give_a_stale_answer() {
    let mut world = world(true);
    let exchange = world.exchange("x");
    let host = world.host.clone();
    let (to_other, requests) = std::sync::mpsc::channel::<bool>();
    let (to_us, done) = std::sync::mpsc::channel::<()>();
    let (woken, theirs) = (world.woken.clone(), exchange.clone());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut other = host.worker(1);
            for bound in requests {
                let answers = testing::route(&mut other, &theirs, &["k", "a", "k"], &woken);
                let expected = if bound { "k" } else { "" };
                assert_eq!(answers, [expected, "a", expected]);
                to_us.send(()).unwrap();
            }
        });
        for round in 0..200 {
            let bound = round % 2 == 0;
            if bound {
                world.bind(0, "x", "k").unwrap();
            } else {
                world.unbind(0, "x", "k");
            }
            to_other.send(bound).unwrap();
            done.recv().unwrap();
        }
        drop(to_other);
    });
}

/// Without anybody waiting, as in the slow lane: the call ends by its limit alone.
#[test]
fn a_guest_that_loops_is_cut_off_within_twice_its_deadline() {
    for batch in BOTH_FORMS {
        let mut world = world(batch);
        let exchange = world.exchange("x");
        let Lookup::Serving(version) = world.host.registry().lookup(&exchange.vhost, b"x-test") else {
            panic!("it serves");
        };
        let limits = version.policy(&exchange.vhost).limits.clone();
        let allowed = limits.cpu_per_call + limits.cpu_per_item;
        let homes = &mut world.workers[0].homes;
        for _ in 0..3 {
            homes.served(&version, &exchange, Layer::FRONT, None).unwrap();
            let home = homes.at(&version, &exchange, Layer::FRONT, exchange.generation()).unwrap();
            let about = About { exchange: &exchange, layer: Layer::FRONT, on_hand: None };
            // The length of the projection, that of the key, the key.
            let question = [4, 0, 0, 0, 2, 0, b'!', b'l'];
            let before = thread_cpu_time();
            let failure = home.route(&version, about, &question, 1, None).map(drop);
            let used = thread_cpu_time() - before;
            assert!(matches!(failure, Err(GuestFailure::Cpu(_))), "{failure:?}");
            assert!(allowed <= used && used <= 2 * allowed, "{used:?} of {allowed:?}");
        }
    }
}

/// On a worker it is cut off long before, and asked beside: it fails there, once, and its neighbours in the
/// batch are answered.
#[test]
fn a_guest_that_loops_on_a_worker_goes_to_the_slow_lane() {
    for batch in BOTH_FORMS {
        let mut world = world(batch);
        let answers = world.route(0, "x", &["a", "!l", "b"]);
        assert_eq!((answers[0].as_str(), answers[2].as_str()), ("a", "b"));
        assert!(answers[1].contains("the limit is 10.1 ms"), "{}", answers[1]);
        let vhost = world.vhost.name().clone();
        let used = world.host.registry().type_in(&vhost, b"x-test").unwrap().used;
        assert!(used.slow);
        assert_eq!((used.failures.cpu, used.failures.traps), (1, 0), "it was asked once to the end");
    }
}
