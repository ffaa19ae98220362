//! The background check finds what is damaged, tells it, and forgets it when it is gone; and nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::{QUEUE, commit, content, numbers, publish, read_all, small};
use leveret_store::{Config, Damaged, Group, Range, Scrub, Store, Sync, disk::sim::SimDisk};
use std::sync::Arc;

fn open(disk: &SimDisk, scrub_bytes_per_s: u64) -> Store {
    let config = Config { scrub_bytes_per_s, scrub_pause_ms: 1, ..small() };
    Store::open(Arc::new(disk.clone()), config).unwrap().0
}

/// The report when so many more passes are through.
fn after(store: &Store, passes: u64) -> Scrub {
    let until = store.scrub().passes + passes;
    loop {
        let scrub = store.scrub();
        if scrub.passes >= until {
            return scrub;
        }
        std::thread::yield_now();
    }
}

#[test]
fn what_is_damaged_is_told_with_its_place_until_it_is_acked() {
    let disk = SimDisk::new(1);
    let store = open(&disk, 1 << 30);
    let mut group = Group::default();
    group.create(QUEUE);
    commit(&store, &mut group, Sync::Always).unwrap();
    publish(&store, 0..10).unwrap();
    let extent = store.next_extent();
    let body = vec![7; 3000];
    group.enqueue_apart(&[b"head"], false, (extent, Arc::new(body)), &[(QUEUE, 10)]);
    commit(&store, &mut group, Sync::Always).unwrap();
    // The first of them may have begun before the last message came.
    let scrub = after(&store, 3);
    assert_eq!((scrub.damaged_count, &scrub.damaged[..]), (0, &[][..]));
    assert!(scrub.messages_total >= 22, "{scrub:?}");
    // The payload of the fourth message, whose block is the fifth, and the body of the last.
    let name = "segment-0000000000000000";
    disk.damage(name, 4096 * 5 + 150, 1).unwrap();
    disk.damage(&format!("extent-{extent:016x}"), 2999, 0x80).unwrap();
    let scrub = after(&store, 2);
    let [payload, apart] = &scrub.damaged[..] else { panic!("{scrub:?}") };
    let Damaged { queue, sequence, file, offset, bytes } = payload;
    assert_eq!((*queue, *sequence, &file[..]), (QUEUE, 3, "damaged-0000000000000000"));
    assert!((offset..&(offset + bytes)).contains(&&(4096 * 5 + 150)), "{payload:?}");
    assert_eq!(*bytes, content(3).len() as u64 + 4);
    let file = format!("extent-{extent:016x}");
    assert_eq!(*apart, Damaged { queue: QUEUE, sequence: 10, file, offset: 0, bytes: 3000 });
    assert_eq!((scrub.damaged_count, store.stat().damaged_messages), (2, 2));
    // Who reads them is told the same, and the rest serves.
    assert_eq!(numbers(&read_all(&store, QUEUE)), [0, 1, 2, 4, 5, 6, 7, 8, 9]);
    group.ack(QUEUE, &[Range { first: 3, count: 1 }, Range { first: 10, count: 1 }]);
    commit(&store, &mut group, Sync::Always).unwrap();
    assert_eq!(after(&store, 2).damaged, []);
}

#[test]
fn what_is_moved_and_acked_while_it_is_read_is_not_taken_for_damaged() {
    let disk = SimDisk::new(1);
    let store = open(&disk, 1 << 30);
    let mut group = Group::default();
    group.create(QUEUE);
    commit(&store, &mut group, Sync::Always).unwrap();
    for first in (0..1500).step_by(100) {
        publish(&store, first..first + 100).unwrap();
        // Nine of ten, so that what stays is moved.
        let ranges: Vec<_> =
            (first..first + 100).step_by(10).map(|first| Range { first, count: 9 }).collect();
        group.ack(QUEUE, &ranges);
        commit(&store, &mut group, Sync::Always).unwrap();
    }
    let scrub = after(&store, 2);
    assert_eq!(scrub.damaged, []);
    let stat = store.stat();
    assert!(scrub.messages_total > 150 && stat.moved_bytes > 0, "{scrub:?} {stat:?}");
}

#[test]
fn with_no_rate_nothing_is_read() {
    let disk = SimDisk::new(1);
    let store = open(&disk, 0);
    let mut group = Group::default();
    group.create(QUEUE);
    commit(&store, &mut group, Sync::Always).unwrap();
    publish(&store, 0..50).unwrap();
    assert_eq!(store.scrub(), Scrub::default());
}
