//! Files that are damaged, missing, unreadable, or of a later version; disks that are full or fail.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::{QUEUE, Told, commit, content, numbers, publish, read_all, small};
use leveret_store::{
    Done, Group, Health, OpenError, Problem, QueueId, Range, Refusal, Refused, Report, Store, Sync,
    disk::{
        Disk as _,
        real::RealDisk,
        sim::{Dice, Faults, SimDisk},
    },
    inspect::Look,
};
use std::sync::Arc;

fn open(disk: &SimDisk) -> (Store, Report) {
    Store::open(Arc::new(disk.clone()), small()).unwrap()
}

/// A disk with a queue of so many messages, as a crash of the process leaves it.
fn with_messages(seed: u64, count: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    let (store, _) = open(&disk);
    let mut group = Group::default();
    group.create(QUEUE);
    commit(&store, &mut group, Sync::Always).unwrap();
    publish(&store, 0..count).unwrap();
    drop(store);
    disk
}

fn named(disk: &SimDisk, prefix: &str) -> Vec<String> {
    disk.list().unwrap().into_iter().filter(|name| name.starts_with(prefix)).collect()
}

#[test]
fn a_bit_that_turned_over_costs_what_it_is_in_and_is_told() {
    let mut damaged = 0;
    for seed in 0..60 {
        let disk = with_messages(seed, 12);
        // Each batch has blocks of its own; what comes after the last is free.
        let offset = 4096 + Dice::new(seed).below(13 * 4096) as usize;
        disk.damage("segment-0000000000000000", offset, 1 << (seed % 8)).unwrap();
        let (store, report) = open(&disk);
        let there = numbers(&read_all(&store, QUEUE));
        let is_told = !report.is_sound() || report.cut.is_some() || report.cut_batches > 0;
        // The last batch is not known to be synced by any later one.
        let is_silent = there != (0..12).collect::<Vec<_>>() && !is_told && there.len() < 11;
        assert!(!is_silent, "seed {seed}: {there:?} {report:?}");
        assert!(there.len() >= 11 || offset < 8192, "seed {seed}: {there:?} {report:?}");
        damaged += u64::from(there.len() < 12);
    }
    assert!(damaged > 5, "{damaged}");
}

#[test]
fn a_segment_that_is_missing_is_told_and_the_rest_serves() {
    let disk = with_messages(1, 60);
    assert!(named(&disk, "segment-").len() > 3);
    disk.remove("segment-0000000000000001").unwrap();
    let before = disk.list().unwrap();
    let seen = Look::open(Arc::new(disk.clone())).unwrap();
    assert_eq!(disk.list().unwrap(), before);
    let (store, report) = open(&disk);
    assert_eq!(
        format!("{:?}", seen.report()),
        format!("{report:?}"),
        "to look is to read what a start reads"
    );
    assert!(
        report.problems.iter().any(|problem| matches!(problem, Problem::BatchesLost { .. })),
        "{report:?}"
    );
    let there = numbers(&read_all(&store, QUEUE));
    assert!(there.len() > 30 && there.first() == Some(&0) && there.last() == Some(&59), "{there:?}");
    // Nothing of it is told again, and what is new is kept.
    publish(&store, 60..70).unwrap();
    drop(store);
    let (store, report) = open(&disk);
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(numbers(&read_all(&store, QUEUE)).len(), there.len() + 10);
}

#[test]
fn a_segment_that_was_cut_is_told_and_serves_up_to_there() {
    let path =
        std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cut-{}", std::process::id()));
    let open = || Store::open(Arc::new(RealDisk::open(&path).unwrap()), small()).unwrap();
    let (store, _) = open();
    let mut group = Group::default();
    group.create(QUEUE);
    commit(&store, &mut group, Sync::Always).unwrap();
    publish(&store, 0..3).unwrap();
    drop(store);
    // Its header, then a batch for the queue and one for each message.
    let file = std::fs::File::options().write(true).open(path.join("segment-0000000000000000")).unwrap();
    let whole = file.metadata().unwrap().len();
    file.set_len(4096 * 4 + 10).unwrap();
    let (store, report) = open();
    let is_told = |problem: &Problem| {
        let (cut, length) = (4096 * 4 + 10, whole);
        matches!(problem, Problem::SegmentCut { bytes, whole, .. } if (*bytes, *whole) == (cut, length))
    };
    assert!(report.problems.iter().any(is_told), "{report:?}");
    assert_eq!(numbers(&read_all(&store, QUEUE)), [0, 1]);
    publish(&store, 3..4).unwrap();
    drop(store);
    let (store, _) = open();
    assert_eq!(numbers(&read_all(&store, QUEUE)), [0, 1, 3]);
    drop(store);
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn a_segment_that_has_not_even_its_header_is_told() {
    for bytes in [0, 20, 4000] {
        let name = format!("beheaded-{}-{bytes}", std::process::id());
        let path = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let open = || Store::open(Arc::new(RealDisk::open(&path).unwrap()), small()).unwrap();
        let (store, _) = open();
        let mut group = Group::default();
        group.create(QUEUE);
        commit(&store, &mut group, Sync::Always).unwrap();
        drop(store);
        let file = std::fs::File::options().write(true).open(path.join("segment-0000000000000000")).unwrap();
        file.set_len(bytes).unwrap();
        let (store, report) = open();
        let is_cut =
            |problem: &Problem| matches!(problem, Problem::SegmentCut { bytes: cut, .. } if *cut == bytes);
        assert!(report.problems.iter().any(is_cut) && !report.is_sound(), "{report:?}");
        drop(store);
        std::fs::remove_dir_all(path).unwrap();
    }
}

#[test]
fn messages_that_a_checkpoint_knows_and_no_segment_has_are_told_one_by_one() {
    let disk = with_messages(1, 40);
    let (store, _) = open(&disk);
    store.close();
    disk.remove("segment-0000000000000000").unwrap();
    let (store, report) = open(&disk);
    let lost = report
        .problems
        .iter()
        .filter(|problem| matches!(problem, Problem::MessageLost { queue, .. } if *queue == QUEUE));
    let there = numbers(&read_all(&store, QUEUE));
    assert_eq!(lost.count() + there.len(), 40);
    assert!(there.len() > 10, "{there:?}");
    let left = there.len() as u64;
    assert_eq!((report.messages, store.stat().messages, store.count(QUEUE, 0..40)), (left, left, left));
    assert_eq!(store.queue(QUEUE).unwrap().messages, left);
    assert_eq!(store.queues()[0].1, left);
    drop(store);
    let (store, report) = open(&disk);
    assert!(report.is_sound() && report.messages == left, "{report:?}");
    assert_eq!(numbers(&read_all(&store, QUEUE)), there);
}

#[test]
fn without_a_checkpoint_that_checks_the_journal_is_read() {
    let disk = with_messages(1, 20);
    let (store, _) = open(&disk);
    store.close();
    for name in named(&disk, "checkpoint-") {
        disk.damage(&name, 50, 4).unwrap();
    }
    let (store, report) = open(&disk);
    let is_told = |problem: &Problem| matches!(problem, Problem::CheckpointDamaged { .. });
    assert!(report.problems.iter().any(is_told), "{report:?}");
    assert_eq!(numbers(&read_all(&store, QUEUE)), (0..20).collect::<Vec<_>>());
}

#[test]
fn what_a_later_version_wrote_is_left_alone() {
    let disk = with_messages(1, 5);
    let file = disk.open("segment-0000000000000000").unwrap();
    let mut header = [0; 32];
    file.read_at(&mut header, 0).unwrap();
    header[8] = 3;
    let check = crc32fast::hash(&[&header[..12], &header[16..]].concat());
    header[12..16].copy_from_slice(&check.to_le_bytes());
    file.write_at(&header, 0).unwrap();
    let before = disk.list().unwrap();
    match Store::open(Arc::new(disk.clone()), small()) {
        Err(OpenError::Newer { file, version: 3 }) => assert_eq!(file, "segment-0000000000000000"),
        other => panic!("{:?}", other.map(|(_, report)| report)),
    }
    assert_eq!(disk.list().unwrap(), before);
}

#[test]
fn what_damages_the_header_of_a_segment_leaves_its_key() {
    // In the first sector, in the one that has it once more; in both, where another file has it.
    for places in [vec![0], vec![2048], vec![0, 2048]] {
        let disk = with_messages(1, 60);
        let segments = named(&disk, "segment-");
        let damaged = if places.len() == 2 { &segments[..1] } else { &segments[..] };
        for name in damaged {
            places.iter().for_each(|place| disk.damage(name, *place, 60).unwrap());
        }
        let (store, report) = open(&disk);
        assert!(report.is_sound(), "{places:?}: {report:?}");
        assert_eq!(numbers(&read_all(&store, QUEUE)), (0..60).collect::<Vec<_>>(), "{places:?}");
    }
}

#[test]
fn a_first_batch_that_is_damaged_is_told_though_there_was_no_checkpoint_yet() {
    let disk = with_messages(1, 20);
    let file = disk.open("segment-0000000000000000").unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, 4106).unwrap();
    file.write_at(&[byte[0] ^ 1], 4106).unwrap();
    let (_, report) = open(&disk);
    let is_told = |problem: &Problem| matches!(problem, Problem::BatchesLost { first: 1, .. });
    assert!(report.problems.iter().any(is_told), "{report:?}");
}

#[test]
fn a_start_that_cannot_read_something_changes_nothing() {
    let (mut opened, mut refused) = (0, 0);
    for seed in 0..100 {
        let disk = with_messages(seed, 20);
        disk.set_faults(Faults { read: 30, ..Faults::default() });
        let outcome = Store::open(Arc::new(disk.clone()), small());
        disk.set_faults(Faults::default());
        let store = match outcome {
            Ok((store, _)) => {
                opened += 1;
                store
            }
            Err(OpenError::Disk(_) | OpenError::Refused(Refusal::Unreadable(_))) => {
                refused += 1;
                open(&disk).0
            }
            Err(other) => panic!("{other}"),
        };
        assert_eq!(read_all(&store, QUEUE).len(), 20, "seed {seed}");
    }
    assert!(opened > 10 && refused > 10, "{opened} opened, {refused} did not");
}

#[test]
fn nothing_is_confirmed_while_syncs_fail_and_all_is_once_they_do_not() {
    let disk = with_messages(1, 5);
    let (store, _) = open(&disk);
    disk.set_faults(Faults { sync: 1024, ..Faults::default() });
    let told = Arc::new(Told::default());
    let done: Arc<dyn Done> = told.clone();
    let mut group = Group::default();
    group.enqueue(&[&content(5)], false, &[(QUEUE, 5)]);
    store.submit(&mut group, Sync::Always, Some((&done, 5))).unwrap();
    while store.stat().rescues < 3 {
        std::thread::yield_now();
    }
    assert!(!told.is_told(5));
    assert!(matches!(store.health(), Health::Failing(_)), "{:?}", store.health());
    disk.set_faults(Faults::default());
    assert_eq!(told.wait(5), Ok(()));
    while store.health() != Health::Well {
        std::thread::yield_now();
    }
    drop(store);
    disk.crash();
    let (store, report) = open(&disk);
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(numbers(&read_all(&store, QUEUE)), (0..6).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_refuses_what_grows_takes_acks_and_serves_again() {
    // Five files, and a checkpoint, is the least.
    for quarters in 21..56 {
        fill_and_empty(quarters * small().segment_bytes / 4);
    }
}

/// Of a disk of so many bytes.
fn fill_and_empty(bytes_max: u64) {
    let disk = SimDisk::new(1);
    disk.set_faults(Faults { bytes_max, ..Faults::default() });
    let (store, _) = open(&disk);
    let mut group = Group::default();
    group.create(QUEUE);
    commit(&store, &mut group, Sync::Always).unwrap();
    let mut next = 0;
    loop {
        match publish(&store, next..next + 1) {
            Ok(()) => next += 1,
            Err(Refused::Behind) => std::thread::yield_now(),
            Err(refused) => {
                assert_eq!(refused, Refused::Full);
                break;
            }
        }
        // No message has less than a hundred bytes.
        assert!(next < 10_000, "it is never full");
    }
    assert_eq!(store.health(), Health::Full);
    assert_eq!(numbers(&read_all(&store, QUEUE)).len() as u64, next, "all that was confirmed is there");
    // One by one: each takes a block of the reserve, and what it frees comes back meanwhile.
    let mut group = Group::default();
    for first in 0..next {
        group.ack(QUEUE, &[Range { first, count: 1 }]);
        commit(&store, &mut group, Sync::Always).unwrap();
    }
    common::until(&format!("with {bytes_max} bytes it serves again"), || store.health() == Health::Well);
    // An eighth of a segment, as it has nothing: each takes a block.
    let more = small().segment_bytes / 8 / 4096;
    for number in next..next + more {
        // What is copied forward may be in front of it.
        while let Err(refused) = publish(&store, number..number + 1) {
            assert_eq!(refused, Refused::Behind, "{bytes_max} bytes, {} of {more}", number - next);
            std::thread::yield_now();
        }
    }
    drop(store);
    disk.crash();
    let (store, report) = open(&disk);
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(numbers(&read_all(&store, QUEUE)), (next..next + more).collect::<Vec<_>>());
}

#[test]
fn with_an_interval_a_sync_comes_by_itself_and_what_was_before_it_survives_loss_of_power() {
    let disk = with_messages(1, 0);
    let (store, _) = open(&disk);
    let mut group = Group::default();
    group.enqueue(&[&content(0)], false, &[(QUEUE, 0)]);
    let before = store.stat().syncs;
    commit(&store, &mut group, Sync::Interval(20)).unwrap();
    common::until("nobody asks for a sync, and one comes", || store.stat().syncs > before);
    drop(store);
    disk.crash();
    let (store, report) = open(&disk);
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(numbers(&read_all(&store, QUEUE)), [0]);
}

#[test]
fn a_large_body_is_a_file_until_its_message_is_acked() {
    let disk = with_messages(1, 0);
    let (store, _) = open(&disk);
    let body: Vec<u8> = (0..300_000).map(|at| at as u8).collect();
    let mut group = Group::default();
    let both = [(QUEUE, 0), (QueueId(2), 0)];
    group.create(QueueId(2));
    group.enqueue_apart(&[b"head"], false, (store.next_extent(), Arc::new(body.clone())), &both);
    commit(&store, &mut group, Sync::Always).unwrap();
    let bytes = |store: &Store| (store.stat().live_bytes, store.stat().extent_bytes);
    assert_eq!(bytes(&store), (8, 300_000), "once, though two queues have it");
    drop(store);
    disk.crash();
    let (store, report) = open(&disk);
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(bytes(&store), (8, 300_000));
    store.close();
    let (store, _) = open(&disk);
    assert_eq!(bytes(&store), (8, 300_000), "and as a checkpoint has it");
    let mut reader = leveret_store::Reader::default();
    for (queue, _) in both {
        store.read(&mut reader, (queue, 0), 1, &mut |item| {
            assert_eq!((item.payload, item.body), (Some(&b"head"[..]), Some(&body[..])));
        });
        assert_eq!(named(&disk, "extent-").len(), 1);
        group.ack(queue, &[Range { first: 0, count: 1 }]);
        commit(&store, &mut group, Sync::Always).unwrap();
    }
    while !named(&disk, "extent-").is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(bytes(&store), (0, 0));
}

#[test]
fn a_damaged_checkpoint_costs_nothing_after_any_start() {
    // How it ended the last time, and then how often it was started again and ended the other way.
    for (closed, starts) in [(false, 0), (true, 0), (false, 1), (true, 1), (false, 3)] {
        let disk = with_messages(1, 40);
        let end = |store: Store| if closed { store.close() } else { drop(store) };
        end(open(&disk).0);
        for _ in 0..starts {
            end(open(&disk).0);
        }
        let mut files = named(&disk, "checkpoint-");
        files.sort();
        assert!(files.len() + named(&disk, "twin-").len() >= 2, "{closed} {starts}: {files:?}");
        disk.damage(files.last().unwrap(), 50, 4).unwrap();
        let (store, report) = open(&disk);
        assert!(matches!(report.problems[..], [Problem::CheckpointDamaged { .. }]), "{report:?}");
        assert_eq!(numbers(&read_all(&store, QUEUE)), (0..40).collect::<Vec<_>>());
    }
}

#[test]
fn with_a_gap_in_the_journal_each_of_two_checkpoints_serves() {
    for damaged in ["checkpoint-", "twin-"] {
        let disk = with_messages(1, 40);
        disk.remove("segment-0000000000000000").unwrap();
        let (store, report) = open(&disk);
        assert!(!report.is_sound());
        let there = numbers(&read_all(&store, QUEUE));
        drop(store);
        let files = named(&disk, damaged);
        disk.damage(files.last().unwrap(), 50, 4).unwrap();
        let (store, _) = open(&disk);
        assert_eq!(numbers(&read_all(&store, QUEUE)), there, "{damaged}");
    }
}

#[test]
fn a_free_segment_that_was_not_made_to_its_end_is_not_used() {
    let disk = with_messages(1, 1);
    // As a crash leaves them while files are made; the latest is taken first.
    for number in 0xf0..0xf8_u64 {
        disk.create(&format!("spare-{number:016x}"), 4096).unwrap();
    }
    let (store, _) = open(&disk);
    publish(&store, 1..60).unwrap();
    drop(store);
    let (store, report) = open(&disk);
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(numbers(&read_all(&store, QUEUE)), (0..60).collect::<Vec<_>>());
}

#[test]
fn messages_to_a_queue_whose_creation_is_lost_are_counted() {
    let disk = with_messages(1, 20);
    // The first batch creates the queue.
    disk.damage("segment-0000000000000000", 4096 + 60, 1).unwrap();
    let (store, report) = open(&disk);
    assert!(!report.is_sound());
    assert_eq!((&report.unknown[..], report.messages), (&[(QUEUE, 20)][..], 0));
    drop(store);
    let (_, report) = open(&disk);
    assert!(report.unknown.is_empty() && report.is_sound(), "it is told once: {report:?}");
}

#[test]
fn messages_to_a_queue_that_was_deleted_are_not_missed() {
    let disk = with_messages(1, 5);
    let (store, _) = open(&disk);
    let mut group = Group::default();
    group.delete(QUEUE);
    commit(&store, &mut group, Sync::Always).unwrap();
    publish(&store, 5..8).unwrap();
    drop(store);
    let (_, report) = open(&disk);
    assert!(report.unknown.is_empty() && report.is_sound(), "{report:?}");
}
