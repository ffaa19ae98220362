//! What a store that is open tells of what it has, and of what was admitted.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::{QUEUE, Told, commit, small};
use leveret_store::{
    Config, Done, Group, QueueId, QueueStat, Range, Refused, Space, Store, Sync, disk::sim::SimDisk,
};
use std::sync::Arc;

fn open() -> Store {
    Store::open(Arc::new(SimDisk::new(1)), small()).unwrap().0
}

#[test]
fn messages_are_counted_within_any_sequences() {
    let store = open();
    let mut group = Group::default();
    group.create(QUEUE);
    // Across three chunks of 4,096, with gaps.
    let all: Vec<u64> = (4000..4200).chain(8190..8195).chain([12_000, 12_345]).collect();
    all.iter().for_each(|at| group.enqueue(&[b"m"], false, &[(QUEUE, *at)]));
    commit(&store, &mut group, Sync::Never).unwrap();
    group.ack(QUEUE, &[Range { first: 4000, count: 3 }, Range { first: 8192, count: 1 }]);
    commit(&store, &mut group, Sync::Never).unwrap();
    let live: Vec<u64> = all.into_iter().filter(|at| !(4000..4003).contains(at) && *at != 8192).collect();
    let stat = QueueStat { messages: live.len() as u64, first: 4003, next: 12_346 };
    assert_eq!(store.queue(QUEUE), Some(stat));
    let edges =
        [0, 1, 4002, 4003, 4004, 4095, 4096, 4097, 8191, 8192, 8193, 12_000, 12_001, 12_346, u64::MAX];
    for from in edges {
        for to in edges {
            let expected = live.iter().filter(|at| (from..to).contains(at)).count() as u64;
            assert_eq!(store.count(QUEUE, from..to), expected, "{from}..{to}");
        }
    }
    group.ack(QUEUE, &[Range { first: 0, count: 20_000 }]);
    commit(&store, &mut group, Sync::Never).unwrap();
    assert_eq!(store.queue(QUEUE).map(|queue| (queue.messages, queue.first == queue.next)), Some((0, true)));
    assert_eq!((store.queue(QueueId(99)), store.count(QueueId(99), 0..9)), (None, 0));
}

#[test]
fn values_are_found_by_how_their_keys_begin() {
    let store = open();
    let mut group = Group::default();
    for (space, key) in [(1, "a"), (1, "ab"), (1, "ac"), (1, "b"), (3, "ab"), (u64::MAX, "")] {
        group.set(Space(space), key.as_bytes(), key.as_bytes(), 7);
    }
    commit(&store, &mut group, Sync::Never).unwrap();
    let found = |space, prefix: &str| {
        let mut found = Vec::new();
        store.values_with(Space(space), prefix.as_bytes(), |key, value, end| {
            assert_eq!((key, end), (value, 7));
            found.push(String::from_utf8(key.to_vec()).unwrap());
        });
        found
    };
    assert_eq!(found(1, "a"), ["a", "ab", "ac"]);
    assert_eq!(found(1, "ab"), ["ab"]);
    assert_eq!(found(1, ""), ["a", "ab", "ac", "b"]);
    assert_eq!((found(2, ""), found(3, "b")), (vec![], vec![]));
    assert_eq!(store.spaces(), [Space(1), Space(3), Space(u64::MAX)]);
}

#[test]
fn an_empty_group_is_safe_once_what_came_before_is() {
    let store = open();
    let told = Arc::new(Told::default());
    let done: Arc<dyn Done> = told.clone();
    let mut group = Group::default();
    group.create(QUEUE);
    store.submit_admitted(&mut group, Sync::Ride, None).unwrap();
    for round in 0..50 {
        group.clear();
        let body = Arc::new(vec![round as u8; 5000]);
        group.enqueue_apart(&[b"m"], false, (store.next_extent(), body), &[(QUEUE, round)]);
        store.submit_admitted(&mut group, Sync::Ride, None).unwrap();
        group.clear();
        store.submit_admitted(&mut group, Sync::Always, Some((&done, round))).unwrap();
        assert_eq!(told.wait(round), Ok(()));
        assert_eq!(store.count(QUEUE, round..round + 1), 1, "the one before was written");
    }
}

#[test]
fn what_was_admitted_is_taken_however_much_waits_and_nothing_is_once_it_is_closed() {
    let config = Config { pending_bytes_max: 20 * 1024, ..small() };
    let store = Store::open(Arc::new(SimDisk::new(1)), config).unwrap().0;
    let told = Arc::new(Told::default());
    let done: Arc<dyn Done> = told.clone();
    let mut group = Group::default();
    group.create(QUEUE);
    for round in 0..200_u64 {
        group.enqueue(&[&[1; 4000]], false, &[(QUEUE, round)]);
        store.submit_admitted(&mut group, Sync::Always, Some((&done, round))).unwrap();
        group.clear();
    }
    (0..200).for_each(|round| assert_eq!(told.wait(round), Ok(())));
    assert_eq!(store.queue(QUEUE).unwrap().messages, 200);
    assert_eq!(store.admits(), Ok(()));
    store.close();
    assert_eq!(store.admits(), Err(Refused::Closed));
    group.ack(QUEUE, &[Range { first: 0, count: 1 }]);
    assert_eq!(store.submit_admitted(&mut group, Sync::Ride, None), Err(Refused::Closed));
}
