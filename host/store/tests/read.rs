//! Messages that are named, in any order.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::{QUEUE, commit, content, publish, small};
use leveret_store::{
    Group, QueueId, Range, Reader, Sequence, Store, Sync,
    disk::sim::{Dice, SimDisk},
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
