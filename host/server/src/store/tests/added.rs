//! What consumers added to messages.

use super::*;
use crate::store::spaces::ADDED;
use leveret_model::Value;

fn header(value: i64) -> AddedHeader {
    AddedHeader { name: name("x-a"), value: Value::Integer(value), exact: None }
}

/// A message in a queue, to which something is added.
fn add(store: &DiskStore, queue: KeptId, number: u64) {
    let mut group = store.group();
    group.enqueue(&message(b"m"), None, Noted::default(), &[target(queue, number)]);
    commit(&mut *group, Durability::Always).unwrap();
    for value in [0, number as i64] {
        group.added(queue, number, &[header(value)], 0);
        assert!(!group.is_empty());
        commit(&mut *group, Durability::Never).unwrap();
    }
}

fn added(store: &DiskStore, queue: KeptId) -> Vec<(u64, Vec<AddedHeader>)> {
    let mut found = Vec::new();
    store.each_added(queue, &mut |number, headers, _| found.push((number, headers)));
    found
}

/// How many values there are.
fn values(store: &DiskStore) -> usize {
    let mut values = 0;
    store.shared.store.values_with(ADDED, b"", |_, _, _| values += 1);
    values
}

#[test]
fn it_is_there_until_its_message_is_settled_however_that_is() {
    let mut life = Life::begin();
    let [a, b, c] = ["a", "b", "c"].map(|queue| declare(life.store(), queue));
    let lane = a.lane(7);
    let mut group = life.store().group();
    group.topology(&Name::EMPTY, TopologyChange::Declared(Topology::Lane(lane)));
    commit(&mut *group, Durability::Always).unwrap();
    drop(group);
    for (queue, number) in [(a, 3), (a, 4), (a, 9), (lane, 3), (b, 5), (c, 1)] {
        add(life.store(), queue, number);
    }
    let headers = |numbers: &[i64]| {
        numbers.iter().map(|number| (*number as u64, vec![header(*number)])).collect::<Vec<_>>()
    };
    for crashes in [false, true] {
        if crashes {
            life.crash()
        } else {
            life.restart()
        }
        assert_eq!(added(life.store(), a), headers(&[3, 4, 9]));
        assert_eq!(
            [lane, b, c].map(|queue| added(life.store(), queue)),
            [headers(&[3]), headers(&[5]), headers(&[1])]
        );
    }
    let store = life.store();
    store.settled(a, &[Ranges { first: 0, count: 4 }]);
    store.progressed(&[(a, Ranges { first: 9, count: 1 })], &[(a, Ranges { first: 4, count: 1 })], true);
    safe(store);
    assert_eq!(added(store, a), headers(&[4]));
    let mut group = store.group();
    group.settle(b, &[Ranges { first: 5, count: 1 }]);
    group.topology(&name("/"), TopologyChange::LaneGone(lane));
    group.topology(&name("/"), TopologyChange::QueueGone(c, &name("c")));
    commit(&mut *group, Durability::Always).unwrap();
    assert_eq!((added(store, a), values(store)), (headers(&[4]), 1));
}

#[test]
fn failures_are_kept_beside_it_and_whoever_settles_when_all_are_gone_pays_nothing() {
    let mut life = Life::begin();
    let queue = declare(life.store(), "q");
    add(life.store(), queue, 1);
    let mut group = life.store().group();
    group.added(queue, 1, &[], 7);
    commit(&mut *group, Durability::Always).unwrap();
    drop(group);
    life.crash();
    let store = life.store();
    let mut found = Vec::new();
    store.each_added(queue, &mut |number, headers, failed| found.push((number, headers, failed)));
    assert_eq!(found, [(1, Vec::new(), 7)]);
    assert!(store.shared.added.has_any());
    store.settled(queue, &[Ranges { first: 1, count: 1 }]);
    safe(store);
    assert_eq!((values(store), store.shared.added.has_any()), (0, false));
}

#[test]
fn what_is_added_to_a_message_that_is_settled_by_then_is_not_written() {
    let life = Life::begin();
    let queue = declare(life.store(), "q");
    add(life.store(), queue, 1);
    let mut group = life.store().group();
    group.added(queue, 1, &[header(7)], 0);
    // Whoever got it meanwhile.
    life.store().settled(queue, &[Ranges { first: 1, count: 1 }]);
    commit(&mut *group, Durability::Always).unwrap();
    assert_eq!(values(life.store()), 0);
}

#[test]
fn what_is_added_to_a_message_that_is_not_there_goes_at_the_next_start() {
    let mut life = Life::begin();
    let queue = declare(life.store(), "q");
    add(life.store(), queue, 1);
    let mut group = life.store().group();
    group.added(queue, 2, &[header(7)], 0);
    commit(&mut *group, Durability::Always).unwrap();
    assert_eq!(values(life.store()), 2);
    drop(group);
    life.restart();
    safe(life.store());
    assert_eq!((added(life.store(), queue), values(life.store())), (vec![(1, vec![header(1)])], 1));
}
