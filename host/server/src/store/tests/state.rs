//! What exchange types keep, against a model of what it means.

use super::*;
use leveret_broker::port::Layer;
use leveret_model::OwnedMessage;
use proptest::prelude::*;
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering},
};

pub(super) fn holder(exchange: &str, layer: u8) -> Arc<StateHolder> {
    numbered(exchange, 0, layer)
}

fn numbered(exchange: &str, number: u64, layer: u8) -> Arc<StateHolder> {
    let (number, layer) = (KeptId(number), Layer(layer));
    Arc::new(StateHolder { vhost: name("/"), exchange: name(exchange), number, layer })
}

fn changed(holder: &Arc<StateHolder>, change: StateChange) -> Change {
    Change { holder: holder.clone(), change }
}

fn bytes(text: &str) -> Arc<[u8]> {
    Arc::from(text.as_bytes())
}

fn set(key: &str, value: &str, end_ms: Option<u64>) -> StateChange {
    StateChange::Set { key: bytes(key), value: bytes(value), end_ms }
}

fn keep(id: u64, key: &str, newest: usize, body: &[u8]) -> StateChange {
    let message = Arc::new(OwnedMessage::from_view(&message(body)));
    // Some of them expire.
    let end_ms = id.is_multiple_of(3).then_some(1_000_000 + id);
    StateChange::Keep { id, key: bytes(key), newest, message, end_ms }
}

fn add(key: &str, more: i64, end_ms: Option<u64>) -> StateChange {
    StateChange::Add { key: bytes(key), more, end_ms }
}

fn ends(end_ms: Option<u64>) -> String {
    end_ms.map_or_else(String::new, |end_ms| format!(" until {end_ms}"))
}

/// Changes, in words; counters in the order of their keys.
fn in_words(changes: &[StateChange]) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut words = Vec::new();
    let mut counters = BTreeSet::new();
    for change in changes {
        match change {
            StateChange::Set { key, value, end_ms } => {
                words.push(format!("set {} {} {end_ms:?}", text(key), text(value)));
            }
            StateChange::Add { key, more, end_ms } => {
                counters.insert(format!("add {} {more} {end_ms:?}", text(key)));
            }
            StateChange::Keep { id, key, newest, message, end_ms } => {
                assert_eq!((*newest, message.form.protocol()), (usize::MAX, "amqp-0-9-1"));
                words.push(format!("keep {id} {} {}{}", text(key), text(&message.body), ends(*end_ms)));
            }
            StateChange::By { plugin, digest, version } => {
                words.push(format!("by {plugin} {} {version}", digest[0]));
            }
            other => panic!("{other:?} leads nowhere"),
        }
    }
    words.extend(counters);
    words
}

/// What changes mean.
#[derive(Clone, Debug, Default)]
struct Model {
    by: Option<String>,
    /// In the order in which they were written.
    values: Vec<(String, String, Option<u64>)>,
    counters: BTreeMap<String, (i64, Option<u64>)>,
    kept: BTreeMap<u64, (String, String)>,
    /// What versions left.
    aside: Vec<([u8; 32], Model)>,
    /// Nothing of all that is put aside.
    timers: BTreeMap<String, u64>,
}

impl Model {
    fn apply(&mut self, change: &StateChange, now_ms: u64) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match change {
            StateChange::Set { key, value, end_ms } => {
                self.values.retain(|(other, ..)| *other != text(key));
                self.values.push((text(key), text(value), *end_ms));
            }
            StateChange::Delete { key } => self.values.retain(|(other, ..)| *other != text(key)),
            StateChange::Add { key, more, end_ms } => {
                self.counters.retain(|_, (_, end)| end.is_none_or(|end| end > now_ms));
                match self.counters.get_mut(&text(key)) {
                    Some((sum, _)) => *sum = sum.saturating_add(*more),
                    None if *more == 0 => {}
                    None => drop(self.counters.insert(text(key), (*more, *end_ms))),
                }
            }
            StateChange::Keep { id, key, newest, message, end_ms } => {
                self.kept.insert(*id, (text(key), text(&message.body) + &ends(*end_ms)));
                let of_key = self.kept.iter().filter(|(_, (other, _))| *other == text(key));
                let ids: Vec<u64> = of_key.map(|(id, _)| *id).collect();
                let surplus = ids.len().saturating_sub(*newest);
                ids[..surplus].iter().for_each(|id| drop(self.kept.remove(id)));
            }
            StateChange::Forget { id } => drop(self.kept.remove(id)),
            StateChange::By { plugin, digest, version } => {
                self.by = Some(format!("by {plugin} {} {version}", digest[0]));
            }
            StateChange::Clear => *self = Self::default(),
            StateChange::SetTimer { name, due_ms } => drop(self.timers.insert(name.to_text(), *due_ms)),
            StateChange::EndTimer { name, due_ms } => {
                self.timers
                    .retain(|other, due| *other != name.to_text() || due_ms.is_some_and(|it| it != *due));
            }
            StateChange::PutAside { digest, newest } => {
                let timers = std::mem::take(&mut self.timers);
                let mut aside = std::mem::take(&mut self.aside);
                aside.retain(|(other, _)| other != digest);
                aside.push((*digest, std::mem::take(self)));
                let surplus = aside.len().saturating_sub(*newest);
                aside.drain(..surplus);
                (self.aside, self.timers) = (aside, timers);
            }
            StateChange::TakeBack { digest } => {
                let timers = std::mem::take(&mut self.timers);
                let mut aside = std::mem::take(&mut self.aside);
                let at = aside.iter().position(|(other, _)| other == digest);
                let mut later = aside.split_off(at.unwrap_or(0)).into_iter();
                *self = at.and_then(|_| later.next()).map(|(_, left)| left).unwrap_or_default();
                (self.aside, self.timers) = (aside, timers);
            }
            StateChange::DropAside { digest } => self.aside.retain(|(other, _)| other != digest),
        }
    }

    fn in_words(&self, now_ms: u64) -> Vec<String> {
        let live = |end: &Option<u64>| end.is_none_or(|end| end > now_ms);
        let mut words: Vec<String> = self.by.iter().cloned().collect();
        let values = self.values.iter().filter(|(.., end)| live(end));
        words.extend(values.map(|(key, value, end)| format!("set {key} {value} {end:?}")));
        words.extend(self.kept.iter().map(|(id, (key, body))| format!("keep {id} {key} {body}")));
        let counters = self.counters.iter().filter(|(_, (_, end))| live(end));
        words.extend(counters.map(|(key, (sum, end))| format!("add {key} {sum} {end:?}")));
        words
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// In one group, each for one of the holders.
    Change(Vec<(usize, StateChange)>, bool),
    Later(u64),
    Load(usize),
    Restart,
    Crash,
}

fn change() -> impl Strategy<Value = StateChange> {
    let key = || proptest::sample::select(vec!["", "a", "b", "c"]);
    let end = || proptest::option::weighted(0.4, 1..60_u64);
    // Some of them so long that few fit in a group.
    let long = || prop_oneof![3 => 1..20_usize, 1 => 2000..4000_usize];
    prop_oneof![
        4 => (key(), long(), 0..10_u8, end())
            .prop_map(|(key, length, digit, end)| set(key, &digit.to_string().repeat(length), end)),
        2 => key().prop_map(|key| StateChange::Delete { key: bytes(key) }),
        3 => (key(), -3..4_i64, end()).prop_map(|(key, more, end)| add(key, more, end)),
        1 => key().prop_map(|key| add(key, i64::MAX, None)),
        4 => (1..12_u64, key(), 0..4_usize, long(), 0..10_u8).prop_map(|(id, key, newest, length, digit)| {
            keep(id, key, newest, digit.to_string().repeat(length).as_bytes())
        }),
        2 => (1..12_u64).prop_map(|id| StateChange::Forget { id }),
        1 => (0..9_u8).prop_map(|n| StateChange::By {
            plugin: "plugin".into(),
            digest: [n; 32],
            version: format!("1.{n}").into(),
        }),
        1 => Just(StateChange::Clear),
        1 => (0..4_u8).prop_map(|n| StateChange::DropAside { digest: [n; 32] }),
        2 => (key(), 0..3_u64).prop_map(|(key, due_ms)| StateChange::SetTimer { name: name(key), due_ms }),
        2 => (key(), proptest::option::of(0..3_u64))
            .prop_map(|(key, due_ms)| StateChange::EndTimer { name: name(key), due_ms }),
    ]
}

/// A version, then that what it wrote is put aside, then what another one makes of it; or that it is taken back.
fn migration() -> impl Strategy<Value = Vec<StateChange>> {
    let by = |n: u8| StateChange::By { plugin: "plugin".into(), digest: [n; 32], version: "1".into() };
    let to = proptest::collection::vec(change(), 0..4);
    prop_oneof![
        2 => (0..4_u8, 1..3_usize, to).prop_map(move |(n, newest, to)| {
            [vec![by(n), StateChange::PutAside { digest: [n; 32], newest }], to].concat()
        }),
        1 => (0..4_u8).prop_map(|n| vec![StateChange::TakeBack { digest: [n; 32] }]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let changes = proptest::collection::vec((0..2_usize, change()), 1..8);
    prop_oneof![
        10 => (changes, any::<bool>()).prop_map(|(changes, appended)| Step::Change(changes, appended)),
        3 => (0..2_usize, migration()).prop_map(|(at, changes)| {
            Step::Change(changes.into_iter().map(|change| (at, change)).collect(), true)
        }),
        2 => (1..20_u64).prop_map(Step::Later),
        2 => (0..2_usize).prop_map(Step::Load),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
    ]
}

static CLOCK: AtomicU64 = AtomicU64::new(1);

fn clock() -> u64 {
    CLOCK.load(Ordering::SeqCst)
}

fn tiny() -> Config {
    Config {
        segment_bytes: 64 * 1024,
        group_bytes_max: 10 * 1024,
        own_segment_bytes: 10 * 1024,
        batch_bytes: 8 * 1024,
        reserve_segments: 1,
        checkpoint_bytes: 64 * 1024,
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_is_loaded_is_what_the_changes_mean(steps in proptest::collection::vec(step(), 1..60)) {
        CLOCK.store(1, Ordering::SeqCst);
        let mut life = Life::begin_with(tiny());
        life.store = None;
        life.open(clock);
        let holders = [holder("x", 0), holder("x", 1)];
        let mut models = [Model::default(), Model::default()];
        let check = |life: &Life, models: &[Model; 2], at: usize| {
            let loaded = life.store().load(&holders[at]).unwrap();
            assert_eq!(in_words(&loaded), models[at].in_words(clock()), "holder {at}");
            let aside = life.store().load_aside(&holders[at]).unwrap().into_iter();
            let aside: Vec<_> = aside.map(|it| (it.digest, in_words(&it.changes))).collect();
            let expected = models[at].aside.iter().map(|(digest, left)| (*digest, left.in_words(clock())));
            assert_eq!(aside, expected.collect::<Vec<_>>(), "what was put aside for holder {at}");
            let mut timers = BTreeMap::new();
            life.store().timers(&name("/"), &mut |holder, name, due_ms| {
                assert!(holder != *holders[at] || timers.insert(name.to_text(), due_ms).is_none());
            });
            assert_eq!(timers, models[at].timers, "timers of holder {at}");
        };
        for step in steps {
            match step {
                Step::Change(changes, appended) => {
                    changes.iter().for_each(|(at, change)| models[*at].apply(change, clock()));
                    let changes: Vec<_> =
                        changes.into_iter().map(|(at, change)| changed(&holders[at], change)).collect();
                    if appended {
                        life.store().append(&changes).unwrap();
                    } else {
                        let mut group = life.store().group();
                        group.change(&changes);
                        group.submit(Durability::Never, None);
                    }
                }
                Step::Later(by) => drop(CLOCK.fetch_add(by, Ordering::SeqCst)),
                Step::Load(at) => check(&life, &models, at),
                Step::Restart => life.restart_at(clock),
                Step::Crash => life.crash_at(clock),
            }
        }
        (0..2).for_each(|at| check(&life, &models, at));
        life.restart_at(clock);
        (0..2).for_each(|at| check(&life, &models, at));
    }
}

/// The spaces of holders, and the queues of the store.
fn sizes(life: &Life) -> (usize, usize) {
    let store = &life.store().shared.store;
    (store.spaces().iter().filter(|space| space.0 >= 64).count(), store.queues().len())
}

#[test]
fn what_was_cleared_leaves_nothing_behind() {
    let mut life = Life::begin_with(tiny());
    for round in 0..5_u64 {
        for exchange in ["x", "y"] {
            let of = |change| changed(&holder(exchange, 0), change);
            let long = "v".repeat(8000);
            // Longer than a group.
            let group =
                [of(set("a", &long, None)), of(keep(1, "k", 9, long.as_bytes())), of(set("b", &long, None))];
            life.store().append(&group).unwrap();
            let again = [of(StateChange::Clear), of(set("c", &long, None)), of(set("d", &long, None))];
            life.store().append(&again).unwrap();
            let found = life.store().load(&holder(exchange, 0)).unwrap();
            assert_eq!(in_words(&found), [format!("set c {long} None"), format!("set d {long} None")]);
        }
        safe(life.store());
        assert_eq!(sizes(&life), (2, 0), "one space each, and no messages");
        // What versions left goes too.
        for exchange in ["x", "y"] {
            let of = |change| changed(&holder(exchange, 0), change);
            let put_aside = StateChange::PutAside { digest: [1; 32], newest: 2 };
            life.store()
                .append(&[of(keep(1, "k", 9, b"m")), of(put_aside), of(set("e", "f", None))])
                .unwrap();
        }
        safe(life.store());
        assert_eq!(sizes(&life), (4, 2));
        life.store()
            .append(&["x", "y"].map(|exchange| changed(&holder(exchange, 0), StateChange::Clear)))
            .unwrap();
        safe(life.store());
        assert_eq!(sizes(&life), (0, 0));
        assert!(life.store().shared.states.is_empty());
        let mut others = 0;
        life.store().shared.store.values_with(spaces::OTHERS, &[spaces::PENDING], |_, _, _| others += 1);
        life.store().shared.store.values_with(spaces::HOLDERS, b"", |_, _, _| others += 1);
        assert_eq!(others, 0, "round {round}");
        if round % 2 == 0 { life.restart() } else { life.crash() }
    }
}

#[test]
fn a_state_that_a_crash_left_half_written_is_as_if_it_had_not_begun() {
    let mut life = Life::begin_with(tiny());
    let of = |change| changed(&holder("x", 0), change);
    life.store().append(&[of(set("old", "1", None)), of(keep(1, "k", 9, b"m"))]).unwrap();
    let before = in_words(&life.store().load(&holder("x", 0)).unwrap());
    assert_eq!(before, ["set old 1 None", "keep 1 k m"]);
    // The groups of a change but the last.
    let long = "v".repeat(6000);
    let changes = [of(StateChange::Clear), of(set("a", &long, None)), of(keep(2, "k", 9, long.as_bytes()))];
    let mut parts = Parts::new(tiny().group_bytes_max);
    parts.crashes = true;
    crate::store::state::write(&life.store().shared, &changes, &mut parts, (Sync::Never, None)).unwrap();
    safe(life.store());
    assert_eq!(sizes(&life), (2, 2), "the old, and what is half filled");
    life.crash();
    assert_eq!(in_words(&life.store().load(&holder("x", 0)).unwrap()), before);
    safe(life.store());
    assert_eq!(sizes(&life), (1, 1));
}

#[test]
fn state_is_of_one_exchange_and_not_of_the_next_of_its_name() {
    let mut life = Life::begin();
    let declare = |life: &Life, number: u64| {
        let spec = exchange_spec("x");
        let kept = KeptExchange { id: KeptId(number), ..as_declared(&spec) };
        let mut group = life.store().group();
        group.topology(&name("/"), TopologyChange::Declared(Topology::Exchange(kept)));
        commit(&mut *group, Durability::Never).unwrap();
    };
    let (one, other) = (numbered("x", 70, 0), numbered("x", 71, 0));
    declare(&life, 70);
    life.store().append(&[changed(&one, set("a", "1", None)), changed(&one, keep(1, "k", 9, b"m"))]).unwrap();
    let mut group = life.store().group();
    group.topology(&name("/"), TopologyChange::ExchangeGone(&name("x")));
    commit(&mut *group, Durability::Never).unwrap();
    drop(group);
    declare(&life, 71);
    assert_eq!(in_words(&life.store().load(&other).unwrap()), [""; 0]);
    life.store().append(&[changed(&other, set("b", "2", None))]).unwrap();
    // What is written of the first one late, and that it is gone, concern the second one nothing.
    life.store().append(&[changed(&one, StateChange::Clear)]).unwrap();
    life.store().append(&[changed(&one, set("late", "3", None))]).unwrap();
    safe(life.store());
    assert_eq!(sizes(&life).0, 2);
    life.crash();
    assert_eq!(in_words(&life.store().load(&other).unwrap()), ["set b 2 None"]);
    assert_eq!(in_words(&life.store().load(&one).unwrap()), [""; 0]);
    safe(life.store());
    assert_eq!(sizes(&life), (1, 0), "nobody's state is taken away at a start");
}

#[test]
fn values_that_ended_are_taken_away_while_others_come() {
    let life = Life::begin();
    let of = |change| changed(&holder("x", 0), change);
    for number in 0..2000 {
        let end = now_ms().saturating_sub(1);
        life.store()
            .append(&[of(set(&number.to_string(), "v", Some(end))), of(add("c", 1, Some(end)))])
            .unwrap();
    }
    safe(life.store());
    let mut left = 0;
    life.store().shared.store.spaces().into_iter().filter(|space| space.0 >= 64).for_each(|space| {
        life.store().shared.store.values_with(space, b"", |_, _, _| left += 1);
    });
    assert!(left <= 4, "{left} are left");
}

#[test]
fn many_threads_that_count_lose_nothing() {
    let mut life = Life::begin();
    let holders = [holder("x", 0), holder("y", 0)];
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let (store, holders) = (life.store(), &holders);
            scope.spawn(move || {
                for _ in 0..200 {
                    // In either order: nobody waits in a circle.
                    let mut changes =
                        [changed(&holders[0], add("c", 1, None)), changed(&holders[1], add("c", 2, None))];
                    if thread % 2 == 0 {
                        changes.reverse();
                    }
                    store.append(&changes).unwrap();
                }
            });
        }
    });
    life.crash();
    let counted = holders.map(|holder| in_words(&life.store().load(&holder).unwrap()));
    assert_eq!(counted, [vec!["add c 800 None".to_owned()], vec!["add c 1600 None".to_owned()]]);
}
