//! What is damaged is set aside: it is told, it is not used again, and nobody removes it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::{QUEUE, commit, numbers, publish, read_all, small, until};
use leveret_store::{
    Config, Damaged, Group, Range, Report, Store, Sync, Watch,
    disk::{Disk as _, sim::SimDisk},
};
use std::sync::{Arc, Mutex};

const FIRST: &str = "segment-0000000000000000";
const DAMAGED: &str = "damaged-0000000000000000";
const ASIDE: &str = "set-aside.damaged-0000000000000000";

/// What a store tells of files.
#[derive(Default)]
struct Watching(Mutex<Vec<String>>);

impl Watch for Watching {
    fn relieved(&self) {}

    fn failing(&self, _: &str) {}

    fn damaged(&self, damaged: &Damaged) {
        self.0.lock().unwrap().push(format!("message {}", damaged.sequence));
    }

    fn set_aside(&self, file: &str) {
        self.0.lock().unwrap().push(file.to_owned());
    }
}

fn open(disk: &SimDisk) -> (Store, Report) {
    let config = Config { scrub_bytes_per_s: 1 << 30, scrub_pause_ms: 1, ..small() };
    Store::open(Arc::new(disk.clone()), config).unwrap()
}

/// A disk with a queue of thirty messages, in three segments, of a store that was closed or not.
fn filled(closed: bool) -> SimDisk {
    let disk = SimDisk::new(1);
    let (store, _) = open(&disk);
    let mut group = Group::default();
    group.create(QUEUE);
    commit(&store, &mut group, Sync::Always).unwrap();
    publish(&store, 0..30).unwrap();
    if closed {
        store.close();
    }
    disk
}

fn bytes(disk: &SimDisk, name: &str) -> Vec<u8> {
    let file = disk.open(name).unwrap();
    let mut bytes = vec![0; file.len_bytes().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

fn has(disk: &SimDisk, name: &str) -> bool {
    disk.list().unwrap().iter().any(|file| file == name)
}

/// Acks all there is, and goes on until the first segment is not needed any more.
fn use_up(store: &Store, disk: &SimDisk, first: u64) {
    let mut group = Group::default();
    group.ack(QUEUE, &[Range { first: 0, count: first as u32 }]);
    commit(store, &mut group, Sync::Always).unwrap();
    let mut next = first;
    while has(disk, FIRST) || has(disk, DAMAGED) {
        publish(store, next..next + 1).unwrap();
        group.ack(QUEUE, &[Range { first: next, count: 1 }]);
        commit(store, &mut group, Sync::Always).unwrap();
        next += 1;
        assert!(next < 100_000, "it stays for ever");
    }
}

#[test]
fn a_segment_with_damage_that_a_start_finds_serves_and_is_set_aside_when_it_is_empty() {
    // A group of a batch, the header of one, and a payload.
    for at in [4096 * 4 + 60, 4096 * 4 + 10, 4096 * 4 + 150] {
        let disk = filled(false);
        disk.damage(FIRST, at, 1).unwrap();
        let before = bytes(&disk, FIRST);
        let (store, report) = open(&disk);
        assert_eq!((report.problem_count, has(&disk, FIRST), has(&disk, DAMAGED)), (1, false, true));
        assert_eq!(numbers(&read_all(&store, QUEUE)).len(), 29, "the rest of it serves");
        drop(store);
        // That it is damaged is known after the next start too, though that one does not read it.
        let (store, report) = open(&disk);
        assert!(report.is_sound() && report.foreign.is_empty(), "{report:?}");
        assert_eq!(numbers(&read_all(&store, QUEUE)).len(), 29);
        let watching = Arc::new(Watching::default());
        store.watch(watching.clone());
        use_up(&store, &disk, 30);
        assert!(bytes(&disk, ASIDE) == before, "it is as it was found");
        // The scrub may have come to the message before that.
        let told = || watching.0.lock().unwrap().iter().filter(|told| **told == ASIDE).count();
        until("it is told", || told() > 0);
        assert_eq!(told(), 1);
        assert_eq!(store.set_aside().unwrap(), [ASIDE]);
        drop(store);
        let (_, report) = open(&disk);
        assert_eq!((report.is_sound(), &report.set_aside[..]), (true, &[ASIDE.to_owned()][..]));
    }
}

/// The threads of a store run before anybody can watch it.
#[test]
fn who_comes_to_watch_is_told_of_damage_that_was_found_before_and_once() {
    let disk = filled(true);
    // A payload, which a start does not read where a checkpoint has the message.
    disk.damage(FIRST, 4096 * 4 + 150, 1).unwrap();
    let (store, _) = open(&disk);
    until("the scrub went through all", || store.stat().damaged_messages == 1);
    let (watching, other) = (Arc::new(Watching::default()), Arc::new(Watching::default()));
    store.watch(watching.clone());
    store.watch(other.clone());
    let passes = store.stat().scrub_passes;
    until("it was read again", || store.stat().scrub_passes > passes + 2);
    assert_eq!(watching.0.lock().unwrap().len(), 1);
    assert_eq!(other.0.lock().unwrap().len(), 0, "only the first who asks is told");
}

#[test]
fn a_segment_and_a_body_with_damage_that_the_scrub_finds_are_set_aside_when_they_are_empty() {
    let disk = filled(true);
    // A payload, which a start does not read where a checkpoint has the message.
    disk.damage(FIRST, 4096 * 4 + 150, 1).unwrap();
    let (store, report) = open(&disk);
    assert!(report.is_sound(), "{report:?}");
    let (mut group, extent) = (Group::default(), store.next_extent());
    group.enqueue_apart(&[b"head"], false, (extent, Arc::new(vec![7; 3000])), &[(QUEUE, 30)]);
    commit(&store, &mut group, Sync::Always).unwrap();
    disk.damage(&format!("extent-{extent:016x}"), 100, 1).unwrap();
    until("both are found", || store.scrub().damaged_count == 2);
    let (segment, body) = (bytes(&disk, DAMAGED), bytes(&disk, &format!("extent-{extent:016x}")));
    assert_eq!(store.scrub().damaged[0].file, DAMAGED);
    assert_eq!(store.set_aside().unwrap(), [""; 0]);
    use_up(&store, &disk, 31);
    let aside = format!("set-aside.extent-{extent:016x}");
    until("it is set aside", || has(&disk, &aside));
    assert!(bytes(&disk, ASIDE) == segment && bytes(&disk, &aside) == body);
}
