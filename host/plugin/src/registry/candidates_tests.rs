//! Two versions at once: a candidate in shadow, as a canary, promoted and withdrawn; exchanges that stay on
//! a version.

use super::*;
use crate::{
    candidate::{CANARY_FAILURES_MAX, CandidateState, Share},
    host::HostConfig,
    policy::Switch,
    testing::{Guest, Scratch, World},
};
use leveret_broker::{explain::Standing, port::Router as _};
use proptest::prelude::*;

const FILE: &str = "guest.wasm";
const PLUGIN: &str = "guest";

/// Version 1 matches keys and takes any message, version 2 gives everybody everything and traps on `!t`.
fn version(number: u8) -> Vec<u8> {
    let guest = Guest { version: number, fanout: number == 2, ..Guest::default() };
    let order = "(if (i32.eq (local.get $order) (i32.const 0x74)) (then unreachable))";
    guest.component_of(&|wit| wit, &|wat| {
        assert!(wat.contains(order));
        if number == 1 { wat.replace(order, "") } else { wat }
    })
}

/// Version 1 serves an exchange `x` with the keys `a` and `b` to queues of these names.
fn world_of(config: HostConfig) -> World {
    let mut world = World::of(config);
    world.offer(FILE, &version(1)).unwrap();
    world.declare(0, "x").unwrap();
    for key in ["a", "b"] {
        world.bind(0, "x", key).unwrap();
    }
    world
}

fn world() -> World {
    world_of(HostConfig { workers: 2, ..HostConfig::default() })
}

impl World {
    fn offer_candidate(&self, bytes: &[u8]) -> Result<(), LoadError> {
        self.host.registry().offer_candidate(&Scope::Global, Path::new(FILE), bytes)
    }

    fn canary(&self, percent: f64) -> Result<(), LoadError> {
        let share = Share::of_percent(percent).unwrap();
        self.host.registry().canary(&Scope::Global, PLUGIN, share, None)
    }

    fn candidate(&self) -> CandidateState {
        self.host.wait_for_shadow();
        self.host.registry().candidates().remove(0).state.unwrap()
    }

    fn pin(&self, exchange: &str, digits: &str) -> Result<PinInfo, LoadError> {
        let to = match digits {
            "current" => PinTo::Current,
            digits => PinTo::Named(String::from(digits)),
        };
        self.host.registry().pin(&self.exchange(exchange), &to)
    }

    /// Has every worker make its instance, which it waits for.
    fn make_instances(&mut self) {
        for worker in 0..self.workers.len() {
            self.route(worker, "x", &[]);
        }
    }

    /// Who is asked about a key, and whether the answer is remembered.
    fn asked(&mut self, worker: usize, exchange: &str, key: &str) -> Vec<(String, Standing, bool)> {
        let (exchange, waker) =
            (self.exchange(exchange), self.woken.clone() as Arc<dyn leveret_broker::port::Wake>);
        let message = crate::testing::message(key.as_bytes());
        let explained =
            self.workers[worker].explain(&exchange, leveret_broker::port::Layer::FRONT, &message, &waker);
        let asked = explained.asked.into_iter();
        asked
            .map(|asked| {
                let plugin = asked.plugin.unwrap();
                (plugin.version, plugin.standing, asked.remembered)
            })
            .collect()
    }
}

/// A key that the share has, and one that it does not have.
fn keys(percent: f64) -> (String, String) {
    let share = Share::of_percent(percent).unwrap();
    let find = |there: bool| (0..).map(|n| format!("k{n}")).find(|k| share.has(k.as_bytes()) == there);
    (find(true).unwrap(), find(false).unwrap())
}

#[test]
fn a_shadow_is_asked_and_compared_and_nothing_of_it_is_used() {
    let mut world = world();
    world.make_instances();
    let together = |world: &World| world.host.together(world.vhost.name()).memory_bytes;
    let before = together(&world);
    world.offer_candidate(&version(2)).unwrap();
    for worker in 0..2 {
        // Found by the first batch, asked from the second on.
        for _ in 0..2 {
            assert_eq!(world.route(worker, "x", &["a", "none", "a"]), ["a", "", "a"]);
        }
    }
    let state = world.candidate();
    assert_eq!((state.version.as_str(), state.canary, state.withdrawn), ("2", None, None));
    assert_eq!((state.different, state.equal, state.shadow_failed), (6, 0, 0));
    assert_eq!(state.not_asked, 6, "each worker's first batch");
    // Its instance counts for what the virtual host may have, though its accounts are its own.
    let seen = world.host.registry().type_in(world.vhost.name(), b"x-test").unwrap().used;
    assert!(
        together(&world) > before && together(&world) > seen.memory_bytes,
        "{before} {}",
        seen.memory_bytes
    );
    let words: Vec<_> = state
        .examples
        .iter()
        .map(|d| (d.routing_key.to_text(), d.serving.as_str(), d.candidate.as_str()))
        .collect();
    let all = "to queue a, queue b";
    assert_eq!(words, [("none".into(), "to no queue", all), ("a".into(), "to queue a", all)]);
    // Where it fails, too, and where both say the same.
    assert_eq!(world.route(0, "x", &["!t", "!d"]), ["", "drop"]);
    let state = world.candidate();
    assert_eq!((state.different, state.equal, state.shadow_failed), (6, 1, 1));
    assert!(state.last_error.unwrap().contains("unreachable"));
    assert_eq!(state.not_asked, 6);
    // Its failures are not the plugin's, and its calls are not counted as the plugin's.
    let seen = world.host.registry().type_in(world.vhost.name(), b"x-test").unwrap().used;
    assert_eq!((seen.failures.traps, seen.calls.asked + seen.calls.remembered), (0, 14));
    assert_eq!(world.asked(0, "x", "a"), [("1".into(), Standing::Serving, true)]);
}

#[test]
fn a_shadow_is_asked_with_the_bindings_that_the_answer_followed_from() {
    let mut world = world();
    world.offer_candidate(&Guest { version: 3, ..Guest::default() }.component()).unwrap();
    world.route(0, "x", &["a"]);
    for round in 0..50 {
        let key = format!("k{round}");
        world.bind(round % 2, "x", &key).unwrap();
        assert_eq!(world.route(0, "x", &[&key, "a"]), [&key, "a"]);
    }
    let state = world.candidate();
    assert_eq!((state.different, state.shadow_failed), (0, 0), "{:?}", state.examples);
    assert_eq!(state.equal + state.not_asked, 1 + 100);
}

#[test]
fn a_canary_answers_for_its_keys_on_every_worker_and_the_others_go_as_before() {
    let mut world = world();
    world.make_instances();
    world.offer_candidate(&version(2)).unwrap();
    world.canary(30.0).unwrap();
    let (canarys, others) = keys(30.0);
    for round in 0..3 {
        for worker in 0..2 {
            let routed = world.route(worker, "x", &[&canarys, &others, "!d", &canarys, &others]);
            match round {
                // The first batch finds the candidate.
                0 => assert_eq!(routed, ["", "", "drop", "", ""]),
                _ => assert_eq!(routed, ["a,b", "", "drop", "a,b", ""]),
            }
        }
    }
    let state = world.candidate();
    assert_eq!(state.canary.unwrap().percent(), 30.0);
    let orders = u64::from(Share::of_percent(30.0).unwrap().has(b"!d"));
    assert_eq!((state.canary_asked, state.canary_failed), (8 + 4 * orders, 0));
    assert!(state.canary_remembered > 0, "the second time it is remembered");
    assert_eq!(world.asked(0, "x", &canarys), [("2".into(), Standing::Canary, true)]);
    assert_eq!(world.asked(0, "x", &others), [("1".into(), Standing::Serving, true)]);
    // Back in shadow, and withdrawn.
    world.host.registry().shadow(&Scope::Global, PLUGIN).unwrap();
    assert_eq!(world.route(0, "x", &[&canarys]), [""]);
    assert_eq!(world.asked(0, "x", &canarys), [("1".into(), Standing::Serving, true)]);
    assert!(world.host.registry().withdraw_candidate(&Scope::Global, PLUGIN));
    assert!(!world.host.registry().withdraw_candidate(&Scope::Global, PLUGIN));
    assert_eq!(world.route(1, "x", &[&canarys, "a"]), ["", "a"]);
    assert_eq!(world.canary(1.0).unwrap_err().stage, Stage::Read);
}

#[test]
fn what_a_canary_fails_on_the_serving_version_answers_until_it_is_withdrawn() {
    let mut world = world();
    world.offer_candidate(&version(2)).unwrap();
    world.canary(100.0).unwrap();
    world.route(0, "x", &["a"]);
    for _ in 1..CANARY_FAILURES_MAX {
        assert_eq!(world.route(0, "x", &["a", "!t", "none"]), ["a,b", "", "a,b"]);
        assert_eq!(world.candidate().withdrawn, None);
    }
    let told: Vec<_> = world.asked(0, "x", "!t").into_iter().map(|(version, by, _)| (version, by)).collect();
    assert_eq!(told, [("2".into(), Standing::Canary), ("1".into(), Standing::Serving)]);
    assert_eq!(world.route(0, "x", &["!t", "a"])[0], "");
    let state = world.candidate();
    assert!(state.withdrawn.unwrap().contains("failed on 5 messages"), "{:?}", state.last_error);
    assert_eq!((state.canary, state.canary_failed), (None, 5));
    for worker in 0..2 {
        assert_eq!(world.route(worker, "x", &["a", "!t"]), ["a", ""]);
    }
    let seen = world.host.registry().type_in(world.vhost.name(), b"x-test").unwrap().used;
    assert_eq!(seen.failures.traps, 0, "they were the canary's");
    // It may be tried again.
    world.canary(100.0).unwrap();
    assert_eq!(world.route(0, "x", &["a"]), ["a,b"]);
}

/// Whoever has a virtual host decides by what they send or bind whether a canary goes on there, and nowhere else.
#[test]
fn a_canary_is_withdrawn_where_it_fails_and_goes_on_in_the_others() {
    for refuses in ["nobody", "second"] {
        let mut world = world();
        for vhost in ["traps", "unused"] {
            world.enter(vhost);
            world.declare(0, "x").unwrap();
            world.bind(0, "x", "a").unwrap();
        }
        let guest = Guest { version: 2, fanout: true, refuses, ..Guest::default() };
        world.offer_candidate(&guest.component()).unwrap();
        world.canary(100.0).unwrap();
        for vhost in ["traps", "/"] {
            world.enter(vhost);
            world.route(0, "x", &["none"]);
        }
        assert_eq!(world.route(0, "x", &["none"]), ["a,b"]);
        world.enter("traps");
        if refuses == "second" {
            world.bind(0, "x", refuses).unwrap();
        }
        for _ in 0..CANARY_FAILURES_MAX {
            assert_eq!(world.route(0, "x", &["!t"]).len(), 1);
        }
        assert_eq!(world.route(0, "x", &["none", "a"]), ["", "a"], "it is withdrawn there");
        let standing = |world: &mut World| world.asked(0, "x", "none")[0].1;
        assert_eq!(standing(&mut world), Standing::Serving);
        world.enter("/");
        assert_eq!(world.route(0, "x", &["none"]), ["a,b"], "it answers here");
        assert_eq!(standing(&mut world), Standing::Canary);
        let state = world.candidate();
        let [(vhost, _)] = &state.withdrawn_in[..] else { panic!("{state:?}") };
        assert_eq!((vhost.as_bytes(), state.withdrawn, state.canary.is_some()), (&b"traps"[..], None, true));
        // Where it was withdrawn it may be tried again.
        world.canary(100.0).unwrap();
        world.enter("traps");
        world.route(0, "x", &["none"]);
        assert_eq!(world.candidate().withdrawn_in.len(), usize::from(refuses == "second"));
    }
}

#[test]
fn a_canary_that_refuses_a_binding_is_withdrawn_at_once() {
    let mut world = world();
    world.offer_candidate(&Guest { version: 2, refuses: "second", ..Guest::default() }.component()).unwrap();
    world.canary(100.0).unwrap();
    assert_eq!(world.route(0, "x", &["a"]), ["a"]);
    world.bind(0, "x", "second").unwrap();
    assert_eq!(world.route(0, "x", &["second", "a"]), ["second", "a"]);
    let why = world.candidate().withdrawn.unwrap();
    assert!(why.contains("does not take what is there") && why.contains("not taken"), "{why}");
}

#[test]
fn a_canary_of_one_virtual_host_is_a_shadow_in_the_others() {
    let mut world = world();
    world.offer_candidate(&version(2)).unwrap();
    let vhost = world.vhost.name().clone();
    let share = Share::of_percent(100.0).unwrap();
    world.host.registry().canary(&Scope::Global, PLUGIN, share, Some(&vhost)).unwrap();
    world.enter("other");
    world.declare(0, "x").unwrap();
    world.bind(0, "x", "a").unwrap();
    for _ in 0..2 {
        assert_eq!(world.route(0, "x", &["none"]), [""]);
    }
    world.enter("/");
    world.route(0, "x", &["none"]);
    assert_eq!(world.route(0, "x", &["none"]), ["a,b"]);
    let state = world.candidate();
    assert!(state.canary_vhost == Some(vhost) && state.different > 0 && state.canary_asked == 1, "{state:?}");
}

#[test]
fn a_candidate_of_a_virtual_hosts_own_plugin_is_nobody_elses() {
    let mut world = world();
    let (registry, path) = (world.host.registry().clone(), Path::new("own/guest.wasm"));
    let own = Scope::Vhost(Name::from_static("tenant"));
    world.offer_own("tenant", "own/guest.wasm", &version(1)).unwrap();
    world.enter("tenant");
    world.declare(0, "x").unwrap();
    world.bind(0, "x", "a").unwrap();
    registry.offer_candidate(&own, path, &version(2)).unwrap();
    registry.canary(&own, PLUGIN, Share::of_percent(100.0).unwrap(), None).unwrap();
    for vhost in ["tenant", "/"] {
        world.enter(vhost);
        world.route(0, "x", &["none"]);
        let expected = if vhost == "/" { "" } else { "a" };
        assert_eq!(world.route(0, "x", &["none"]), [expected], "{vhost}");
    }
    let told = registry.candidates();
    assert_eq!((told.len(), &told[0].scope), (1, &own));
    assert_eq!(world.canary(1.0).unwrap_err().stage, Stage::Read, "the global one has none");
    registry.promote(&own, PLUGIN, &version(2)).unwrap();
    world.enter("tenant");
    assert_eq!(world.route(1, "x", &["none"]), ["a"]);
    world.enter("/");
    assert_eq!(world.route(1, "x", &["none"]), [""]);
}

#[test]
fn a_promoted_candidate_serves_and_is_no_candidate_any_more() {
    let scratch = Scratch::new();
    let kept_dir = Some(scratch.path().join("kept"));
    let mut world = world_of(HostConfig { workers: 2, kept_dir, ..HostConfig::default() });
    let registry = world.host.registry().clone();
    world.offer_candidate(&version(2)).unwrap();
    world.canary(50.0).unwrap();
    let (canarys, others) = keys(50.0);
    for _ in 0..2 {
        world.route(0, "x", &[&canarys, &others]);
    }
    let other = registry.promote(&Scope::Global, PLUGIN, &version(3)).unwrap_err();
    assert_eq!(other.stage, Stage::Read, "the file is another one by now");
    let report = registry.promote(&Scope::Global, PLUGIN, &version(2)).unwrap();
    assert_eq!((report.version.as_str(), report.exchanges, report.bindings), ("2", 1, 2));
    for worker in 0..2 {
        assert_eq!(world.route(worker, "x", &[&canarys, &others]), ["a,b", "a,b"]);
    }
    assert!(registry.candidates().is_empty());
    assert_eq!(world.asked(0, "x", &canarys), [("2".into(), Standing::Serving, true)]);
    // The file that lies there then is the same; and the way back is open.
    assert_eq!(world.offer(FILE, &version(2)).unwrap().change, LoadChange::Unchanged);
    assert_eq!(registry.rollback(&Scope::Global, PLUGIN).unwrap().version, "1");
    assert_eq!(world.route(0, "x", &[&canarys, "a"]), ["", "a"]);
}

#[test]
fn each_stage_that_refuses_a_candidate_has_its_error_and_leaves_all_as_it_was() {
    let mut world = world();
    world.offer_candidate(&version(2)).unwrap();
    world.canary(100.0).unwrap();
    world.route(0, "x", &["none"]);
    let wrong_world = version(3).iter().map(|b| if *b == b'@' { b'#' } else { *b }).collect::<Vec<_>>();
    let cases: [(Stage, Vec<u8>); 6] = [
        (Stage::Read, b"no component".to_vec()),
        (Stage::Compile, wrong_world),
        (Stage::Contract, wat::parse_str("(component)").unwrap()),
        (Stage::Trial, Guest { type_name: "direct", ..Guest::default() }.component()),
        (Stage::Swap, Guest { type_name: "x-other", ..Guest::default() }.component()),
        (Stage::Swap, version(1)),
    ];
    let refuses_a_binding = Guest { refuses: "aaaaaa", ..Guest::default() }.component();
    world.bind(0, "x", "aaaaaa").unwrap();
    for (stage, bytes) in cases.into_iter().chain([(Stage::Replay, refuses_a_binding)]) {
        let error = world.offer_candidate(&bytes).unwrap_err();
        assert_eq!(error.stage, stage, "{error}");
        let told = world.host.registry().candidates().remove(0);
        assert_eq!(told.refused, Some(error));
        assert_eq!(told.state.unwrap().version, "2", "the older candidate stays");
        assert_eq!(world.route(0, "x", &["none"]), ["a,aaaaaa,b"]);
    }
    // Nor is one taken of a plugin that is not there.
    let nothing = Path::new("nothing.wasm");
    let error = world.host.registry().offer_candidate(&Scope::Global, nothing, &version(2)).unwrap_err();
    assert!(error.stage == Stage::Swap && error.reason.contains("no plugin nothing"), "{error}");
}

#[test]
fn a_candidate_stays_over_a_swap_and_ends_where_it_was_copied_over() {
    let mut world = world();
    world.offer_candidate(&version(2)).unwrap();
    for _ in 0..2 {
        world.route(0, "x", &["a"]);
    }
    assert_eq!(world.candidate().different, 1);
    world.offer(FILE, &Guest { version: 3, fanout: true, ..Guest::default() }.component()).unwrap();
    assert_eq!(world.candidate().different, 0, "it is compared with another version now");
    for _ in 0..2 {
        world.route(0, "x", &["a"]);
    }
    let state = world.candidate();
    assert!(state.equal > 0 && state.different == 0, "{state:?}");
    world.offer(FILE, &version(2)).unwrap();
    assert!(world.host.registry().candidates().is_empty());
    // The kill switch is the plugin's, whichever version.
    world.offer_candidate(&version(1)).unwrap();
    world.canary(100.0).unwrap();
    world.route(0, "x", &["a"]);
    assert_eq!(world.route(0, "x", &["a"]), ["a"]);
    world.host.registry().disable(&Switch::Plugin(PLUGIN.into()));
    assert!(world.route(0, "x", &["a"])[0].contains("switched off"));
    assert_eq!(world.candidate().canary_failed, 0, "that is no failure of the canary");
    world.host.registry().enable(&Switch::Plugin(PLUGIN.into()));
    world.route(0, "x", &["a"]);
    assert_eq!(world.route(0, "x", &["a"]), ["a"]);
}

#[test]
fn a_pinned_exchange_stays_on_its_version_while_others_move_on() {
    let scratch = Scratch::new();
    let kept_dir = Some(scratch.path().join("kept"));
    let mut world = world_of(HostConfig { workers: 2, kept_dir, ..HostConfig::default() });
    world.declare(0, "y").unwrap();
    world.bind(0, "y", "a").unwrap();
    let registry = world.host.registry().clone();
    let pin = world.pin("x", "current").unwrap();
    assert_eq!((pin.version.as_str(), pin.serving), ("1", true));
    world.offer(FILE, &version(2)).unwrap();
    for worker in 0..2 {
        assert_eq!(world.route(worker, "x", &["a", "none"]), ["a", ""]);
        assert_eq!(world.route(worker, "y", &["none"]), ["a"]);
    }
    // Bindings come and go on the version that it is on.
    world.bind(1, "x", "c").unwrap();
    assert_eq!(world.route(0, "x", &["c"]), ["c"]);
    world.unbind(0, "x", "c");
    assert_eq!(world.route(1, "x", &["c"]), [""]);
    assert_eq!(world.asked(1, "x", "a"), [("1".into(), Standing::Pinned, true)]);
    assert!(!registry.pins()[0].serving);
    // Another version that would not take it is no hindrance, until it is to be unpinned.
    world.bind(0, "x", "third3").unwrap();
    world.offer(FILE, &Guest { version: 3, refuses: "third3", ..Guest::default() }.component()).unwrap();
    assert_eq!(world.route(0, "x", &["third3"]), ["third3"]);
    assert_eq!(registry.unpin(&world.exchange("x")).unwrap_err().stage, Stage::Replay);
    assert_eq!(registry.pins().len(), 1);
    world.unbind(0, "x", "third3");
    assert!(registry.unpin(&world.exchange("x")).unwrap());
    assert!(!registry.unpin(&world.exchange("x")).unwrap());
    assert_eq!(world.asked(0, "x", "a")[0].0, "3");
    // To a kept one, by the first digits of its digest; others are where they were.
    let second = Digest::of(&version(2)).to_hex();
    let pin = world.pin("y", &second[..10]).unwrap();
    assert_eq!((pin.version.as_str(), pin.serving), ("2", false));
    for worker in 0..2 {
        assert_eq!(world.route(worker, "y", &["none"]), ["a"]);
        assert_eq!(world.route(worker, "x", &["none", "b"]), ["", "b"]);
    }
    // A pin ends with its exchange; gone is gone.
    world.delete(0, "y");
    assert!(registry.pins().is_empty());
    world.declare(0, "y").unwrap();
    world.bind(0, "y", "a").unwrap();
    assert_eq!(world.route(0, "y", &["none", "a"]), ["", "a"]);
}

#[test]
fn a_version_that_cannot_be_pinned_is_refused_and_nothing_changes() {
    let scratch = Scratch::new();
    let kept_dir = Some(scratch.path().join("kept"));
    let mut world = world_of(HostConfig { workers: 1, kept_dir, ..HostConfig::default() });
    let unwilling = Guest { version: 2, refuses: "aaaaaa", ..Guest::default() }.component();
    world.offer(FILE, &unwilling).unwrap();
    world.offer(FILE, &version(3)).unwrap();
    world.bind(0, "x", "aaaaaa").unwrap();
    let before = world.exchange("x").generation();
    let refused = |digits: &str| world.pin("x", digits).unwrap_err();
    assert_eq!(refused(&Digest::of(&unwilling).to_hex()).stage, Stage::Replay);
    for wrong in ["ffffffffffff", "", "nonsense"] {
        let error = refused(wrong);
        assert!(error.stage == Stage::Read && error.reason.contains("no kept version"), "{error}");
        assert!(error.reason.contains(&Digest::of(&version(1)).to_string()), "it names those there are");
    }
    let first = Digest::of(&version(1));
    let file = scratch.path().join("kept/global").join(PLUGIN).join(format!("{}.wasm", first.to_hex()));
    std::fs::write(file, b"no").unwrap();
    let error = refused(&first.to_hex());
    assert!(error.stage == Stage::Read && error.reason.contains("damaged"), "{error}");
    world.declare_with(0, "t", "topic", leveret_model::Table::new()).unwrap();
    assert!(world.pin("t", "current").unwrap_err().reason.contains("came with the broker"));
    assert!(world.host.registry().pins().is_empty());
    assert_eq!(world.exchange("x").generation(), before);
    assert_eq!(world.route(0, "x", &["a"]), ["a"]);
}

#[test]
fn an_exchange_that_is_pinned_has_no_canary_and_goes_with_its_plugin() {
    let mut world = world();
    world.pin("x", "current").unwrap();
    world.offer_candidate(&version(2)).unwrap();
    world.canary(100.0).unwrap();
    for _ in 0..2 {
        assert_eq!(world.route(0, "x", &["none"]), [""]);
    }
    assert_eq!(world.candidate().canary_asked, 0);
    world.host.registry().remove(Path::new(FILE)).unwrap();
    assert!(world.route(0, "x", &["a"])[0].contains("was removed"));
    // Back again, it is where it was.
    world.offer(FILE, &version(3)).unwrap();
    assert_eq!(world.route(0, "x", &["a"]), ["a"]);
    assert_eq!(world.asked(0, "x", "a")[0].1, Standing::Pinned);
}

/// What is done between messages.
#[derive(Clone, Copy, Debug)]
enum Act {
    Bind(u8),
    Unbind(u8),
    Canary(u8),
    Shadow,
    Withdraw,
    Promote,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0..6_u8).prop_map(Act::Bind),
        (0..6_u8).prop_map(Act::Unbind),
        (1..=100_u8).prop_map(Act::Canary),
        Just(Act::Shadow),
        Just(Act::Withdraw),
        Just(Act::Promote),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is done, each message has the answer of the version that its key belongs to, with the
    /// bindings of now: no answer of one version is ever the other's, and none is stale.
    #[test]
    fn each_message_is_answered_by_the_version_of_its_key(acts in prop::collection::vec(act(), 1..40)) {
        let (matching, all) = (Guest { version: 1, ..Guest::default() }, Guest { version: 2, fanout: true, ..Guest::default() });
        let components = [matching.component(), all.component()];
        let mut world = World::empty(2);
        world.offer(FILE, &components[0]).unwrap();
        world.declare(0, "x").unwrap();
        let registry = world.host.registry().clone();
        let (mut serving, mut share) = (0, None);
        let mut bound = std::collections::BTreeSet::new();
        registry.offer_candidate(&Scope::Global, Path::new(FILE), &components[1]).unwrap();
        for (step, act) in acts.into_iter().enumerate() {
            match act {
                Act::Bind(n) if bound.insert(n) => world.bind(step % 2, "x", &n.to_string()).unwrap(),
                Act::Unbind(n) if bound.remove(&n) => world.unbind(step % 2, "x", &n.to_string()),
                Act::Bind(_) | Act::Unbind(_) => {}
                Act::Canary(percent) => {
                    world.canary(f64::from(percent)).unwrap();
                    share = Share::of_percent(f64::from(percent));
                }
                Act::Shadow => {
                    registry.shadow(&Scope::Global, PLUGIN).unwrap();
                    share = None;
                }
                Act::Withdraw => {
                    registry.withdraw_candidate(&Scope::Global, PLUGIN);
                    world.offer_candidate(&components[1 - serving]).unwrap();
                    share = None;
                }
                Act::Promote => {
                    registry.promote(&Scope::Global, PLUGIN, &components[1 - serving]).unwrap();
                    serving = 1 - serving;
                    world.offer_candidate(&components[1 - serving]).unwrap();
                    share = None;
                }
            }
            let keys: Vec<String> = (0..9).map(|n| n.to_string()).collect();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let everybody = bound.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
            for worker in 0..2 {
                // The first batch finds out who is asked.
                world.route(worker, "x", &["?"]);
                let routed = world.route(worker, "x", &keys);
                for (key, routed) in keys.iter().zip(routed) {
                    let canarys = share.is_some_and(|share: Share| share.has(key.as_bytes()));
                    let by = if canarys { 1 - serving } else { serving };
                    let matches = bound.contains(&key.parse::<u8>().unwrap());
                    let expected = match by {
                        0 if matches => (*key).to_owned(),
                        0 => String::new(),
                        _ => everybody.clone(),
                    };
                    prop_assert_eq!(routed, expected, "{} by {}", key, by);
                }
            }
        }
    }
}
