//! What an offline tool sees of directories, whole and damaged; and that it changes nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::{QUEUE, commit, content, publish, small};
use leveret_store::{
    Group, OpenError, Problem, QueueId, Range, Space, Store, Sync,
    disk::{Disk as _, sim::SimDisk},
    inspect::{Checked, Inspection, Look},
};
use std::sync::Arc;

const OTHER: QueueId = QueueId(9);
const BODY: &[u8] = &[5; 4000];

/// Messages 0 to 29 in one queue, of which 5 to 9 are gone; one of them with a body apart in another queue too.
fn filled(closed: bool) -> SimDisk {
    let disk = SimDisk::new(1);
    let (store, _) = Store::open(Arc::new(disk.clone()), small()).unwrap();
    let mut group = Group::default();
    group.create(QUEUE);
    group.create(OTHER);
    group.set(Space(3), b"key", b"value", 0);
    group.set(Space(3), b"more", b"x", 0);
    group.set(Space(4), b"k", b"", 0);
    commit(&store, &mut group, Sync::Always).unwrap();
    publish(&store, 0..29).unwrap();
    let body = (store.next_extent(), Arc::new(BODY.to_vec()) as _);
    group.enqueue_apart(&[b"head"], false, body, &[(QUEUE, 29), (OTHER, 70)]);
    group.ack(QUEUE, &[Range { first: 5, count: 5 }]);
    group.delivered(QUEUE, &[Range { first: 28, count: 1 }]);
    commit(&store, &mut group, Sync::Always).unwrap();
    if closed {
        store.close()
    } else {
        drop(store)
    }
    disk
}

fn look(disk: &SimDisk) -> Result<(Look, Inspection), OpenError> {
    let before = snapshot(disk);
    let look = Look::open(Arc::new(disk.clone()))?;
    let seen = look.inspect()?;
    assert_eq!(snapshot(disk), before, "to look changes nothing");
    Ok((look, seen))
}

fn check(disk: &SimDisk) -> Checked {
    let before = snapshot(disk);
    let look = Look::open(Arc::new(disk.clone())).unwrap();
    let mut seen = 0;
    let checked = look.check(|_, _| seen += 1);
    assert_eq!(snapshot(disk), before, "to check changes nothing");
    assert_eq!(seen, checked.messages);
    checked
}

fn snapshot(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let read = |name: String| {
        let file = disk.open(&name).unwrap();
        let mut bytes = vec![0; file.len_bytes().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        (name, bytes)
    };
    disk.list().unwrap().into_iter().map(read).collect()
}

#[test]
fn everything_is_counted() {
    let (look, seen) = look(&filled(true)).unwrap();
    assert_eq!((seen.format, seen.was_open, look.report().is_sound()), (2, false, true));
    let bytes: usize = (0..5).chain(10..29).map(|number| content(number).len() + 4).sum();
    let apart = 4 + b"head".len() as u64 + BODY.len() as u64;
    let [queue, other] = &seen.queues[..] else { panic!("{seen:?}") };
    assert_eq!((queue.id, queue.messages, queue.places, queue.next), (QUEUE, 25, Some((0, 29)), 30));
    assert_eq!((queue.bytes, queue.redelivered), (bytes as u64 + apart, 1));
    assert_eq!((other.messages, other.bytes, other.places, other.next), (1, apart, Some((70, 70)), 71));
    let spaces: Vec<_> = seen.spaces.iter().map(|space| (space.id, space.values, space.bytes)).collect();
    assert_eq!(spaces, [(Space(3), 2, 13), (Space(4), 1, 1)]);
    assert_eq!(seen.messages, 25, "the one that two queues have counts once");
    let of_segments: u64 = seen.segments.iter().map(|segment| segment.live_messages).sum();
    assert_eq!((of_segments, seen.segments[0].bytes), (25, small().segment_bytes));
    assert_eq!(seen.live_bytes, seen.segments.iter().map(|segment| segment.live_bytes).sum::<u64>());
    assert!(seen.live_share() > 0.01 && seen.live_share() < 0.5, "{}", seen.live_share());
    assert_eq!(seen.free_bytes, seen.free_segments * small().segment_bytes);
    assert!(seen.free_segments > 0);
    let [older, checkpoint] = &seen.checkpoints[..] else { panic!("{seen:?}") };
    assert!(!older.is_used && older.batch < checkpoint.batch, "{seen:?}");
    assert!(checkpoint.is_used && checkpoint.batch == seen.last_batch && checkpoint.bytes > 0, "{seen:?}");
    let [extent] = &seen.extents[..] else { panic!("{seen:?}") };
    assert_eq!((extent.bytes, extent.expected_bytes), (Some(4000), Some(4000)));
    let checked = check(&filled(true));
    assert_eq!((checked.messages, checked.damaged_count), (26, 0), "{checked:?}");
}

#[test]
fn what_was_not_closed_is_told_and_counts_as_delivered() {
    let (look, seen) = look(&filled(false)).unwrap();
    assert!(seen.was_open && !look.report().clean);
    assert_eq!(seen.queues[0].redelivered, 25);
}

#[test]
fn what_is_damaged_is_found_by_the_check_alone() {
    let disk = filled(true);
    disk.damage("segment-0000000000000000", 4096 * 4 + 90, 2).unwrap();
    disk.damage("extent-0000000000000000", 17, 2).unwrap();
    assert!(
        look(&disk).unwrap().0.report().is_sound(),
        "a start does not read payloads that a checkpoint knows"
    );
    let checked = check(&disk);
    let found: Vec<_> =
        checked.damaged.iter().map(|damaged| (damaged.queue, damaged.sequence, &damaged.file[..])).collect();
    let extent = "extent-0000000000000000";
    let expected = [(QUEUE, 2, "segment-0000000000000000"), (QUEUE, 29, extent), (OTHER, 70, extent)];
    assert_eq!((found, checked.damaged_count), (expected.to_vec(), 3));
}

#[test]
fn files_that_are_gone_or_useless_are_told() {
    let disk = filled(true);
    disk.remove("extent-0000000000000000").unwrap();
    let (found, seen) = look(&disk).unwrap();
    assert_eq!((seen.extents[0].bytes, seen.extents[0].expected_bytes), (None, Some(4000)));
    assert!(matches!(found.report().problems[..], [Problem::BodyLost { extent: 0 }]), "{:?}", found.report());
    assert_eq!((check(&disk).damaged_count, found.report().verdict.lost.bodies), (2, 1));
    let checkpoint = seen.checkpoints[1].file.clone();
    disk.damage(&checkpoint, 40, 1).unwrap();
    let (found, seen) = look(&disk).unwrap();
    let of: Vec<_> = seen.checkpoints.iter().map(|seen| (seen.is_used, seen.is_readable)).collect();
    assert_eq!(of, [(true, true), (false, false)]);
    let is_told =
        |problem: &Problem| matches!(problem, Problem::CheckpointDamaged { file, .. } if *file == checkpoint);
    assert!(is_told(&found.report().problems[0]), "{:?}", found.report());
    assert_eq!(seen.queues[0].messages, 25, "the older one and the journal have it too");
}

#[test]
fn an_empty_directory_has_nothing() {
    let (_, seen) = look(&SimDisk::new(1)).unwrap();
    assert!(
        seen.queues.is_empty() && seen.segments.is_empty() && seen.checkpoints.is_empty() && !seen.was_open
    );
    assert_eq!(check(&SimDisk::new(1)).messages, 0);
}
