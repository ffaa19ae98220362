//! That what is remembered is kept when bindings come and go, never is wrong, and is withdrawn where
//! a type lies.

use super::*;
use crate::{
    memo::HITS_PER_AUDIT,
    testing::{self, Guest, World},
};
use leveret_broker::{BindTo, ConnectionId, ExchangeSpec, QueueSpec};
use leveret_model::{Table, Value};
use proptest::prelude::*;
use std::{collections::BTreeSet, sync::atomic::AtomicBool};

fn counted(world: &World, worker: usize) -> (u64, u64) {
    let counters = world.workers[worker].counters();
    (counters.remembered, counters.asked)
}

#[test]
fn an_unbind_forgets_nothing() {
    let make = || World::with(Guest::default(), 1);
    testing::undisturbed(make, |world| {
        world.declare(0, "x").unwrap();
        world.bind(0, "x", "a").unwrap();
        world.bind_to(0, "x", "b", "a").unwrap();
        world.bind(0, "x", "b").unwrap();
        assert_eq!(world.route(0, "x", &["a", "b", "c"]), ["a", "a,b", ""]);
        world.unbind(0, "x", "b");
        assert_eq!(world.route(0, "x", &["c", "b", "a"]), ["", "a", "a"]);
        assert_eq!(counted(world, 0), (3, 3));
    });
}

#[test]
fn a_bind_asks_about_the_new_binding_alone() {
    for workers in [1, 2] {
        let make = || World::with(Guest::default(), workers);
        testing::undisturbed(make, |world| {
            world.declare(0, "x").unwrap();
            world.bind(0, "x", "a").unwrap();
            assert_eq!(world.route(0, "x", &["a", "b", "!r"]), ["a", "", "reject no"]);
            world.bind_to(workers - 1, "x", "a", "more").unwrap();
            world.bind(0, "x", "b").unwrap();
            // A rejection is no union: it is all asked anew.
            assert_eq!(world.route(0, "x", &["a", "b"]), ["a,more", "b"]);
            assert_eq!(counted(world, 0), (0, 5));
            world.bind_to(workers - 1, "x", "b", "more").unwrap();
            assert_eq!(world.route(0, "x", &["b", "a", "b"]), ["b,more", "a,more", "b,more"]);
            assert_eq!(counted(world, 0), (3, 5));
            assert_eq!(world.purity("x-test"), (true, false));
        });
    }
}

#[test]
fn about_messages_that_a_new_binding_cannot_concern_nothing_is_asked() {
    for core in [Core::Direct, Core::Topic, Core::Headers] {
        testing::undisturbed(|| World::empty(2), |world| asked_about_new_bindings(world, core));
    }
}

/// Binds when messages are remembered, and looks at what was asked.
fn asked_about_new_bindings(world: &mut World, core: Core) {
    declare(world, core);
    let exchange = world.exchange("x");
    let bind = |world: &mut World, worker: usize, number: usize| {
        let ((key, arguments), queue) = (core.binding(number), number.to_string());
        let (router, to) = (&mut world.workers[worker], BindTo::Queue(queue.as_bytes()));
        world.vhost.bind(router, b"x", to, key.as_bytes(), arguments, BY).unwrap();
    };
    // All headers are named from now on.
    [0, 2, 5].into_iter().for_each(|number| bind(world, 0, number));
    let messages: Vec<_> = (0..8).map(|number| core.message(number)).collect();
    let route = |world: &mut World| {
        testing::route_messages(&mut world.workers[0], &exchange, &messages, &world.woken)
    };
    route(world);
    let concerned = |binding| (0..8).filter(|message| core.matches(binding, *message)).count() as u64;
    let asked = world.workers[0].counters().asked;
    let mut again = 0;
    for (worker, binding) in [(0, 3), (1, 6), (1, 7)] {
        bind(world, worker, binding);
        route(world);
        let counters = world.workers[0].counters();
        let (new, is_marked) = (counters.asked_again - again, concerned(binding));
        assert!(is_marked <= new && new < 8, "{core:?} {binding}: {new} of 8, {is_marked} concerned");
        again = counters.asked_again;
    }
    assert_eq!(world.workers[0].counters().asked, asked, "{core:?}: all was remembered");
}

#[test]
fn a_type_without_the_claim_is_asked_anew_after_each_change() {
    let make = || World::with(Guest { independent: false, ..Guest::default() }, 1);
    testing::undisturbed(make, |world| {
        world.declare(0, "x").unwrap();
        world.bind(0, "x", "a").unwrap();
        world.route(0, "x", &["a", "b"]);
        world.bind(0, "x", "b").unwrap();
        assert_eq!(world.route(0, "x", &["a", "b"]), ["a", "b"]);
        world.unbind(0, "x", "b");
        assert_eq!(world.route(0, "x", &["a", "b"]), ["a", ""]);
        assert_eq!(counted(world, 0), (0, 6));
    });
}

#[test]
fn another_version_is_asked_anew() {
    let make = || World::with(Guest::default(), 1);
    testing::undisturbed(make, |world| {
        world.declare(0, "x").unwrap();
        world.bind(0, "x", "a").unwrap();
        world.route(0, "x", &["a", "b"]);
        world.offer("guest.wasm", &Guest { fanout: true, ..Guest::default() }.component()).unwrap();
        assert_eq!(world.route(0, "x", &["a", "b"]), ["a", "a"]);
        assert_eq!(counted(world, 0), (0, 4));
    });
}

#[test]
fn a_plugin_that_fails_when_asked_about_new_bindings_is_made_anew() {
    let traps_apart = |text: String| {
        let decided = "(global.set $decided (i32.add";
        assert!(text.contains(decided));
        text.replace(decided, &format!("(if (local.get $exchange) (then unreachable)) {decided}"))
    };
    let mut world = World::empty(1);
    let component = Guest::default().component_of(&|wit| wit, &traps_apart);
    world.offer("guest.wasm", &component).unwrap();
    world.declare(0, "x").unwrap();
    world.bind(0, "x", "a").unwrap();
    world.route(0, "x", &["a", "b"]);
    world.bind(0, "x", "b").unwrap();
    assert_eq!(world.route(0, "x", &["a", "b"]), ["a", "b"]);
    assert_eq!(counted(&world, 0), (0, 4));
}

#[test]
fn a_type_that_lies_about_purity_is_found_out_and_nothing_of_it_is_remembered_any_more() {
    let mut world = World::with(Guest::default(), 2);
    world.declare(0, "x").unwrap();
    world.bind(0, "x", "a").unwrap();
    for worker in 0..2 {
        assert_eq!(world.route(worker, "x", &["a"]), ["a"]);
    }
    assert_eq!(world.purity("x-test"), (true, false));
    // Decisions are counted, and the count is the answer.
    let first = world.route(0, "x", &["!n"]);
    assert_eq!(world.route(0, "x", &["!n"]), first, "it is remembered, and checked");
    assert_eq!(world.purity("x-test"), (false, true));
    let before = [0, 1].map(|worker| counted(&world, worker).0);
    let again = world.route(0, "x", &["!n", "!n", "a"]);
    assert!(again[0] != first[0] && again[1] != again[0] && again[2] == "a");
    assert_eq!(world.route(1, "x", &["a", "a"]), ["a", "a"]);
    assert_eq!([0, 1].map(|worker| counted(&world, worker).0), before, "on no worker");
    // The same bytes again are no second chance, another version is.
    world.offer("guest.wasm", &Guest { version: 2, ..Guest::default() }.component()).unwrap();
    assert_eq!(world.purity("x-test"), (true, false));
}

#[test]
fn a_type_that_lies_about_its_bindings_is_found_out() {
    let mut world = World::with(Guest { newest_only: true, ..Guest::default() }, 1);
    world.declare(0, "x").unwrap();
    world.bind(0, "x", "a").unwrap();
    assert_eq!(world.route(0, "x", &["a", "b"]), ["a", ""]);
    world.bind_to(0, "x", "a", "newest").unwrap();
    assert_eq!(world.route(0, "x", &["a"]), ["a,newest"], "as it claims");
    assert_eq!(world.purity("x-test"), (false, true));
    assert_eq!(world.route(0, "x", &["a"]), ["newest"], "as it does");
}

#[test]
fn a_lie_that_begins_late_is_found_out_too() {
    let mut world = World::with(Guest::default(), 1);
    world.declare(0, "x").unwrap();
    world.bind(0, "x", "a").unwrap();
    let keys = ["a"; 64];
    for _ in 0..2 * HITS_PER_AUDIT / 64 {
        assert_eq!(world.route(0, "x", &keys), keys);
    }
    assert_eq!(world.purity("x-test"), (true, false));
    world.route(0, "x", &["!n"]);
    for _ in 0..2 * HITS_PER_AUDIT {
        world.route(0, "x", &["!n"]);
    }
    assert_eq!(world.purity("x-test"), (false, true));
}

#[test]
fn changes_while_answers_are_kept_up_are_neither_missed_nor_left_over() {
    let mut world = World::empty(1);
    declare(&mut world, Core::Direct);
    let (exchange, vhost, woken) = (world.exchange("x"), world.vhost.clone(), world.woken.clone());
    let host = world.host.clone();
    for round in 0..100 {
        let done = AtomicBool::new(false);
        let bound = std::thread::scope(|scope| {
            let changing = scope.spawn(|| {
                let (mut other, mut bound) = (host.worker(1), BTreeSet::new());
                for step in 0_usize..40 {
                    // Many come and go at once, some stay.
                    let number = (step * 5 + round) % 8;
                    let (queue, key) = (number.to_string(), KEYS[number].as_bytes());
                    let to = BindTo::Queue(queue.as_bytes());
                    vhost.bind(&mut other, b"x", to, key, Table::new(), BY).unwrap();
                    bound.insert(number);
                    if (step + round) % 3 > 0 {
                        vhost.unbind(&mut other, b"x", to, key, Table::new(), BY).unwrap();
                        bound.remove(&number);
                    }
                }
                done.store(true, Ordering::Release);
                bound
            });
            while !done.load(Ordering::Acquire) {
                testing::route(&mut world.workers[0], &exchange, &KEYS, &woken);
            }
            changing.join().unwrap()
        });
        let answers = testing::route(&mut world.workers[0], &exchange, &KEYS, &woken);
        for (number, answer) in answers.iter().enumerate() {
            let expected = if bound.contains(&number) { number.to_string() } else { String::new() };
            assert_eq!(*answer, expected, "round {round}");
        }
        // As each round begins.
        for number in bound {
            let (queue, key) = (number.to_string(), KEYS[number].as_bytes());
            let to = BindTo::Queue(queue.as_bytes());
            vhost.unbind(&mut world.workers[0], b"x", to, key, Table::new(), BY).unwrap();
        }
    }
    assert_eq!(world.purity("direct"), (true, false));
}

/// A built-in type next to how it is known to decide.
#[derive(Clone, Copy, Debug)]
pub(super) enum Core {
    Direct,
    Fanout,
    Topic,
    Headers,
}

pub(super) const TOPIC_PATTERNS: [&str; 8] = ["a.*", "#", "a.b", "*.b", "a.#", "#.b", "b.a", "a.*.b"];
const KEYS: [&str; 8] = ["a.b", "a", "b", "b.a", "a.b.b", "a.a.b", "c", "b.b"];
const CONDITIONS: [&str; 8] =
    ["h=1", "h=2", "g=1", "h=1;g=1", "x-match=any;h=1;g=2", "k=1", "g=2", "h=2;g=2"];
const HEADERS: [&str; 8] = ["h=1", "g=2;h=1", "h=2;g=1", "g=1", "", "h=2;g=2;k=1", "z=1", "h=1;g=1"];

fn topic_matches(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern, key) {
        ([], []) => true,
        (["#", rest @ ..], _) => {
            topic_matches(rest, key) || !key.is_empty() && topic_matches(pattern, &key[1..])
        }
        (["*", rest @ ..], [_, key @ ..]) => topic_matches(rest, key),
        ([word, rest @ ..], [first, key @ ..]) => word == first && topic_matches(rest, key),
        _ => false,
    }
}

fn words(key: &str) -> Vec<&str> {
    key.split('.').collect()
}

impl Core {
    pub(super) fn type_name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
        }
    }

    /// Key and arguments of a binding.
    pub(super) fn binding(self, number: usize) -> (&'static str, Table) {
        match self {
            Self::Direct | Self::Fanout => (KEYS[number], Table::new()),
            Self::Topic => (TOPIC_PATTERNS[number], Table::new()),
            Self::Headers => {
                let fields = CONDITIONS[number].split(';').filter_map(|field| field.split_once('='));
                let field = |(name, text): (&str, &str)| {
                    (Name::new(name.as_bytes()).unwrap(), Value::Text(text.into()))
                };
                ("", fields.map(field).collect())
            }
        }
    }

    pub(super) fn message(self, number: usize) -> MessageView<'static> {
        match self {
            Self::Headers => MessageView { properties: HEADERS[number].as_bytes(), ..testing::message(b"") },
            _ => testing::message(KEYS[number].as_bytes()),
        }
    }

    pub(super) fn matches(self, binding: usize, message: usize) -> bool {
        match self {
            Self::Direct => binding == message,
            Self::Fanout => true,
            Self::Topic => topic_matches(&words(TOPIC_PATTERNS[binding]), &words(KEYS[message])),
            Self::Headers => {
                let there: BTreeSet<&str> = HEADERS[message].split(';').collect();
                match CONDITIONS[binding].strip_prefix("x-match=any;") {
                    Some(any) => any.split(';').any(|field| there.contains(field)),
                    None => CONDITIONS[binding].split(';').all(|field| there.contains(field)),
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Bind(usize, usize),
    Unbind(usize, usize),
    Route(usize, Vec<usize>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (worker, number) = (0_usize..2, 0_usize..8);
    let step = prop_oneof![
        3 => (worker.clone(), number.clone()).prop_map(|(w, n)| Step::Bind(w, n)),
        2 => (worker.clone(), number.clone()).prop_map(|(w, n)| Step::Unbind(w, n)),
        6 => (worker, proptest::collection::vec(number, 1..12)).prop_map(|(w, n)| Step::Route(w, n)),
    ];
    proptest::collection::vec(step, 1..120)
}

pub(super) const BY: ConnectionId = ConnectionId(1);

fn declare(world: &mut World, core: Core) {
    let spec = ExchangeSpec {
        name: Name::from_static("x"),
        type_name: Name::from_static(core.type_name()),
        durable: false,
        auto_delete: false,
        internal: false,
        arguments: Table::new(),
    };
    world.vhost.declare_exchange(&mut world.workers[0], spec).unwrap();
    for number in 0..8 {
        let spec = QueueSpec {
            name: Name::new(number.to_string().as_bytes()).unwrap(),
            durable: false,
            exclusive: false,
            auto_delete: false,
            arguments: Table::new(),
        };
        world.vhost.declare_queue(spec, BY).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_comes_and_goes_the_built_in_types_decide_as_they_are_known_to(
        core in prop_oneof![Just(Core::Direct), Just(Core::Fanout), Just(Core::Topic), Just(Core::Headers)],
        steps in steps(),
    ) {
        let mut world = World::empty(2);
        declare(&mut world, core);
        let exchange = world.exchange("x");
        let mut bound = BTreeSet::new();
        for step in steps {
            match step {
                Step::Bind(worker, number) => {
                    let (key, arguments) = core.binding(number);
                    let queue = number.to_string();
                    let (router, to) = (&mut world.workers[worker], BindTo::Queue(queue.as_bytes()));
                    world.vhost.bind(router, b"x", to, key.as_bytes(), arguments, BY).unwrap();
                    bound.insert(number);
                }
                Step::Unbind(worker, number) => {
                    let (key, arguments) = core.binding(number);
                    let queue = number.to_string();
                    let (router, to) = (&mut world.workers[worker], BindTo::Queue(queue.as_bytes()));
                    world.vhost.unbind(router, b"x", to, key.as_bytes(), arguments, BY).unwrap();
                    bound.remove(&number);
                }
                Step::Route(worker, numbers) => {
                    let messages: Vec<_> = numbers.iter().map(|number| core.message(*number)).collect();
                    let router = &mut world.workers[worker];
                    let answers = testing::route_messages(router, &exchange, &messages, &world.woken);
                    for (answer, message) in answers.iter().zip(&numbers) {
                        let expected: Vec<String> = bound
                            .iter()
                            .filter(|binding| core.matches(**binding, *message))
                            .map(usize::to_string)
                            .collect();
                        prop_assert_eq!(answer, &expected.join(","), "{:?} {}", core, message);
                    }
                }
            }
        }
        prop_assert_eq!(world.purity(core.type_name()), (true, false));
        prop_assert_eq!(world.workers.iter().map(|worker| worker.counters().dead_ids).sum::<u64>(), 0);
    }
}
