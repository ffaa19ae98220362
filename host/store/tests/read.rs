//! Messages that are named, in any order.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::{QUEUE, commit, content, publish, small, until};
use leveret_store::{
    Config, Group, QueueId, Range, Reader, Sequence, Store, Sync,
    disk::sim::{Dice, Faults, SimDisk},
};
use std::sync::Arc;

fn with_messages(count: u64) -> Store {
    let (store, _) = Store::open(Arc::new(SimDisk::new(1)), small()).unwrap();
    let mut group = Group::default();
    group.create(QUEUE);
    commit(&store, &mut group, Sync::Always).unwrap();
    publish(&store, 0..count).unwrap();
    store
}

/// Reads what is named, part by part.
fn read(store: &Store, named: &[Sequence], bytes_max: usize) -> (Vec<Sequence>, usize) {
    let (mut reader, mut found, mut rest, mut parts) = (Reader::default(), Vec::new(), named, 0);
    while !rest.is_empty() {
        let done = store.read_at(&mut reader, (QUEUE, rest), bytes_max, &mut |item| {
            assert_eq!(item.payload, Some(&*content(item.sequence)));
            found.push(item.sequence);
        });
        assert!(done > 0, "it goes on");
        rest = &rest[done..];
        parts += 1;
    }
    (found, parts)
}

#[test]
fn what_is_named_comes_in_that_order_and_what_is_not_there_does_not() {
    let store = with_messages(60);
    let mut group = Group::default();
    group.ack(QUEUE, &[Range { first: 10, count: 5 }]);
    commit(&store, &mut group, Sync::Always).unwrap();
    let mut named: Vec<Sequence> = (0..70).collect();
    let mut dice = Dice::new(7);
    for at in (1..named.len()).rev() {
        named.swap(at, dice.below(at as u64 + 1) as usize);
    }
    let there: Vec<_> = named.iter().copied().filter(|at| *at < 60 && !(10..15).contains(at)).collect();
    for bytes_max in [0, 1, 1500, usize::MAX] {
        let (found, parts) = read(&store, &named, bytes_max);
        assert_eq!(found, there, "{bytes_max}");
        assert_eq!(parts == 1, bytes_max == usize::MAX, "{parts} of {bytes_max}");
    }
    assert_eq!(read(&store, &[], 1), (vec![], 0));
    assert_eq!(read(&store, &[5, 5], usize::MAX).0, [5, 5], "who names twice gets twice");
}

#[test]
fn a_queue_that_is_not_there_has_none() {
    let store = with_messages(1);
    let done =
        store.read_at(&mut Reader::default(), (QueueId(9), &[0, 1]), 1, &mut |item| panic!("{item:?}"));
    assert_eq!(done, 2);
}

#[test]
fn a_body_for_which_no_file_can_be_opened_now_is_told_apart_from_damage() {
    let disk = SimDisk::new(1);
    let config = Config { scrub_bytes_per_s: 1 << 30, scrub_pause_ms: 1, ..small() };
    let (store, _) = Store::open(Arc::new(disk.clone()), config).unwrap();
    let (mut group, body) = (Group::default(), vec![3; 5000]);
    group.create(QUEUE);
    for number in 0..4 {
        let extent = (store.next_extent(), Arc::new(body.clone()) as _);
        group.enqueue_apart(&[b"head"], false, extent, &[(QUEUE, number)]);
        commit(&store, &mut group, Sync::Always).unwrap();
    }
    let read = || {
        let mut seen = Vec::new();
        store.read(&mut Reader::default(), (QUEUE, 0), usize::MAX, &mut |item| {
            assert_eq!(item.payload.is_some(), item.body == Some(&body[..]));
            seen.push((item.payload.is_some(), item.is_later));
        });
        seen
    };
    assert_eq!(read(), [(true, false); 4]);
    disk.set_faults(Faults { open: 1024, ..Faults::default() });
    assert_eq!(read(), [(false, true); 4]);
    let passes = store.scrub().passes;
    until("the scrub is through", || store.scrub().passes > passes + 1);
    assert_eq!(store.scrub().damaged_count, 0, "nothing is known to be damaged");
    // Some times: each is there or is to be read later.
    disk.set_faults(Faults { open: 512, ..Faults::default() });
    let mut seen = std::collections::BTreeSet::new();
    until("some can be read and some cannot", || {
        seen.extend(read());
        seen.len() > 1
    });
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [(false, true), (true, false)]);
    disk.set_faults(Faults::default());
    assert_eq!(read(), [(true, false); 4]);
}
