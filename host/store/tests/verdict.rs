//! Whether a start serves where something is damaged: what is certain, what is lost, and what nobody can tell.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::{QUEUE, commit, content, numbers, publish, read_all, small, until};
use leveret_store::{
    Group, OpenError, Problem, Range, Refusal, Report, Store, Sync,
    disk::{Disk as _, sim::SimDisk},
    inspect::Look,
    record::frame::{BATCH_HEADER_BYTES, BatchHeader, Opening, SEGMENT_HEADER_BYTES, SegmentHeader},
};
use std::sync::Arc;

fn open(disk: &SimDisk) -> Result<(Store, Report), OpenError> {
    Store::open(Arc::new(disk.clone()), small())
}

fn salvage(disk: &SimDisk) -> (Store, Report) {
    Store::salvage(Arc::new(disk.clone()), small()).unwrap()
}

fn named(disk: &SimDisk, prefix: &str) -> Vec<String> {
    let mut names = disk.list().unwrap();
    names.retain(|name| name.starts_with(prefix));
    names.sort();
    names
}

/// The batches of checkpoints, the older first.
fn positions(disk: &SimDisk) -> Vec<u64> {
    let of = |name: &String| u64::from_str_radix(name.strip_prefix("checkpoint-")?, 16).ok();
    named(disk, "checkpoint-").iter().filter_map(of).collect()
}

/// A batch: its number, its file, where in it, and its groups.
struct Batch {
    number: u64,
    file: String,
    offset: usize,
    groups: Vec<u8>,
}

/// All batches of the journal, by number.
fn batches(disk: &SimDisk) -> Vec<Batch> {
    let mut batches = Vec::new();
    for name in named(disk, "segment-") {
        let file = disk.open(&name).unwrap();
        let mut header = [0; SEGMENT_HEADER_BYTES];
        file.read_at(&mut header, 0).unwrap();
        let Opening::Segment(SegmentHeader { key, .. }) = SegmentHeader::decode(&header) else { continue };
        let mut header = [0; BATCH_HEADER_BYTES];
        for offset in (0..file.len_bytes().unwrap()).step_by(4096) {
            file.read_at(&mut header, offset).unwrap();
            let Ok(header) = BatchHeader::decode(&header, number_of(&name), key) else { continue };
            let mut groups = vec![0; header.bytes as usize];
            file.read_at(&mut groups, offset + BATCH_HEADER_BYTES as u64).unwrap();
            batches.push(Batch {
                number: header.number,
                file: name.clone(),
                offset: offset as usize,
                groups,
            });
        }
    }
    batches.sort_by_key(|batch| batch.number);
    batches
}

/// The first batch after another that begins with an ack.
fn ack_after(disk: &SimDisk, batch: u64) -> u64 {
    // Behind the header of its first group.
    let is_ack = |found: &&Batch| found.number > batch && found.groups[16] == 3;
    batches(disk).iter().find(is_ack).unwrap().number
}

/// The batch that has a message.
fn batch_of(disk: &SimDisk, message: u64) -> u64 {
    let content = content(message);
    let has = |batch: &&Batch| batch.groups.windows(content.len()).any(|window| window == content);
    batches(disk).iter().find(has).unwrap().number
}

fn number_of(name: &str) -> u64 {
    u64::from_str_radix(name.split_once('-').unwrap().1, 16).unwrap()
}

/// A bit of the first group of a batch turns over.
fn damage_batch(disk: &SimDisk, number: u64) {
    let batches = batches(disk);
    let batch = batches.iter().find(|batch| batch.number == number).unwrap();
    disk.damage(&batch.file, batch.offset + BATCH_HEADER_BYTES + 20, 1).unwrap();
}

/// A process that was killed after so many messages, with two checkpoints that it wrote meanwhile. It acked every
/// message before `acked`, and their segments are gone.
fn killed(count: u64, acked: u64) -> SimDisk {
    let disk = SimDisk::new(1);
    let (store, _) = open(&disk).unwrap();
    let mut group = Group::default();
    group.create(QUEUE);
    commit(&store, &mut group, Sync::Always).unwrap();
    publish(&store, 0..count).unwrap();
    if acked > 0 {
        group.ack(QUEUE, &[Range { first: 0, count: acked as u32 }]);
        commit(&store, &mut group, Sync::Always).unwrap();
    }
    let mut next = count;
    let is_settled = || match positions(&disk)[..] {
        [older, _] => older > count && find_oldest(&disk) > 0,
        _ => false,
    };
    while !is_settled() {
        publish(&store, next..next + 1).unwrap();
        group.ack(QUEUE, &[Range { first: next, count: 1 }]);
        commit(&store, &mut group, Sync::Always).unwrap();
        next += 1;
        assert!(next < 100_000, "no checkpoint is written");
    }
    drop(store);
    disk
}

/// The same after so few messages that nothing is moved, with one checkpoint of the beginning.
fn young(count: u64) -> SimDisk {
    let disk = SimDisk::new(1);
    let (store, _) = open(&disk).unwrap();
    let mut group = Group::default();
    group.create(QUEUE);
    commit(&store, &mut group, Sync::Always).unwrap();
    publish(&store, 0..count).unwrap();
    disk
}

/// The number of the oldest segment that is there.
fn find_oldest(disk: &SimDisk) -> u64 {
    named(disk, "segment-").first().map_or(0, |name| number_of(name))
}

fn there(store: &Store) -> Vec<u64> {
    numbers(&read_all(store, QUEUE))
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

/// Opens, which is to be refused without a change; says why.
fn refused(disk: &SimDisk) -> Refusal {
    let before = snapshot(disk);
    let refusal = match open(disk) {
        Err(OpenError::Refused(refusal)) => refusal,
        Err(other) => panic!("{other}"),
        Ok((_, report)) => panic!("it serves: {report:?}"),
    };
    assert!(snapshot(disk) == before, "nothing is changed");
    let look = Look::open(Arc::new(disk.clone())).unwrap();
    assert_eq!(look.report().verdict.refusal.as_ref(), Some(&refusal), "an offline look says the same");
    refusal
}

#[test]
fn a_damaged_checkpoint_and_a_damaged_batch_that_it_has_are_not_served_unless_somebody_says_so() {
    let disk = killed(100, 20);
    let [older, newest] = positions(&disk)[..] else { panic!("{:?}", disk.list()) };
    let name = named(&disk, "checkpoint-").pop().unwrap();
    disk.damage(&name, 50, 4).unwrap();
    let lost = ack_after(&disk, older + 2);
    assert!(lost < newest);
    damage_batch(&disk, lost);
    let refusal = refused(&disk);
    assert_eq!(refusal, Refusal::CheckpointDamaged { file: name.clone(), first: lost, last: lost });
    // Whoever says so goes on with what is left.
    let (store, report) = salvage(&disk);
    assert_eq!(report.verdict.refusal, Some(refusal));
    assert_eq!((report.verdict.lost.batches, report.verdict.lost.groups), (0, 1));
    assert_eq!((report.verdict.certain_to, &report.verdict.gaps[..]), (lost - 1, &[(lost, lost)][..]));
    let left = there(&store);
    assert!((20..100).all(|number| left.contains(&number)), "{left:?}");
    drop(store);
    let (store, report) = open(&disk).unwrap();
    assert!(report.is_sound(), "it is told once: {report:?}");
    assert_eq!(there(&store), left);
    let aside = format!("set-aside.{name}");
    assert!(report.set_aside.contains(&aside) && named(&disk, "set-aside.").contains(&aside), "{report:?}");
}

#[test]
fn with_the_checkpoint_brought_back_a_damaged_batch_that_it_has_costs_nothing() {
    let disk = killed(100, 20);
    let name = named(&disk, "checkpoint-").pop().unwrap();
    disk.damage(&name, 50, 4).unwrap();
    damage_batch(&disk, ack_after(&disk, positions(&disk)[0] + 2));
    refused(&disk);
    disk.damage(&name, 50, 4).unwrap();
    let (store, report) = open(&disk).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert!((20..100).all(|number| there(&store).contains(&number)));
}

#[test]
fn a_damaged_batch_that_no_checkpoint_has_is_told_and_the_rest_serves() {
    for damages_checkpoint in [false, true] {
        let disk = young(20);
        let (store, _) = open(&disk).unwrap();
        publish(&store, 20..24).unwrap();
        drop(store);
        let at = batch_of(&disk, 21);
        assert!(at > *positions(&disk).last().unwrap());
        damage_batch(&disk, at);
        if damages_checkpoint {
            disk.damage(named(&disk, "checkpoint-").last().unwrap(), 50, 4).unwrap();
        }
        let (store, report) = open(&disk).unwrap();
        let lost = report.verdict.lost;
        assert_eq!((lost.batches, lost.groups, &report.verdict.gaps[..]), (0, 1, &[(at, at)][..]));
        assert_eq!(there(&store), (0..24).filter(|number| *number != 21).collect::<Vec<_>>());
    }
}

#[test]
fn the_last_batch_of_a_closed_store_is_not_cut_off_where_its_checkpoint_is_damaged() {
    let disk = young(20);
    let (store, _) = open(&disk).unwrap();
    publish(&store, 20..21).unwrap();
    store.close();
    let name = named(&disk, "checkpoint-").pop().unwrap();
    let last = number_of(&name);
    disk.damage(&name, 50, 4).unwrap();
    // No later batch says that this one was synced; that there is a checkpoint of it says so.
    damage_batch(&disk, last);
    assert_eq!(refused(&disk), Refusal::CheckpointDamaged { file: name, first: last, last });
}

#[test]
fn without_checkpoints_a_journal_that_does_not_begin_at_the_beginning_is_not_served() {
    let disk = killed(200, 150);
    for name in named(&disk, "checkpoint-") {
        disk.remove(&name).unwrap();
    }
    let refusal = refused(&disk);
    let Refusal::NoCheckpoint { first: 1, last } = refusal else { panic!("{refusal:?}") };
    assert!(last > 1);
    let (store, report) = salvage(&disk);
    let of_gaps = report.verdict.gaps.iter().map(|(first, last)| last - first + 1);
    assert_eq!((report.verdict.lost.batches, report.verdict.certain_to), (of_gaps.sum(), 0), "{report:?}");
    drop(store);
    assert!(open(&disk).unwrap().1.is_sound());
}

#[test]
fn without_checkpoints_a_journal_that_is_whole_serves() {
    let disk = young(20);
    for name in named(&disk, "checkpoint-") {
        disk.remove(&name).unwrap();
    }
    let (store, report) = open(&disk).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(there(&store), (0..20).collect::<Vec<_>>());
}

#[test]
fn bodies_of_which_nothing_says_whose_they_are_are_not_removed() {
    let disk = SimDisk::new(1);
    disk.create("extent-0000000000000007", 5000).unwrap();
    assert_eq!(refused(&disk), Refusal::OnlyBodies { bodies: 1 });
    drop(salvage(&disk));
    assert_eq!(named(&disk, "set-aside."), ["set-aside.extent-0000000000000007"]);
}

#[test]
fn damage_of_the_older_checkpoint_is_told_and_another_takes_its_place() {
    for closed in [false, true] {
        let disk = young(20);
        let (store, _) = open(&disk).unwrap();
        if closed {
            store.close();
        } else {
            drop(store);
        }
        let [older, newest] = &named(&disk, "checkpoint-")[..] else { panic!("{:?}", disk.list()) };
        disk.damage(older, 50, 4).unwrap();
        let look = Look::open(Arc::new(disk.clone())).unwrap();
        let seen = look.inspect().unwrap();
        let readable: Vec<_> = seen.checkpoints.iter().map(|seen| (seen.is_readable, seen.is_used)).collect();
        assert_eq!(readable, [(false, false), (true, true)], "{seen:?}");
        assert!(!look.report().is_sound());
        let (store, report) = open(&disk).unwrap();
        let is_told =
            |problem: &Problem| matches!(problem, Problem::CheckpointDamaged { was_needed: false, .. });
        assert!(matches!(&report.problems[..], [problem] if is_told(problem)), "{report:?}");
        assert_eq!((report.verdict.refusal.as_ref(), report.clean), (None, closed));
        let left: Vec<u64> = (0..20).collect();
        assert_eq!(there(&store), left);
        drop(store);
        // From now on each of two serves again.
        disk.damage(newest, 50, 4).unwrap();
        let (store, _) = open(&disk).unwrap();
        assert_eq!(there(&store), left, "{closed}");
    }
}

#[test]
fn the_whole_of_a_batch_that_is_left_out_is_counted() {
    let disk = SimDisk::new(1);
    let (store, _) = open(&disk).unwrap();
    let mut group = Group::default();
    group.create(QUEUE);
    commit(&store, &mut group, Sync::Always).unwrap();
    for number in 0..5 {
        group.enqueue(&[&content(number)], false, &[(QUEUE, number)]);
    }
    commit(&store, &mut group, Sync::Always).unwrap();
    publish(&store, 5..7).unwrap();
    drop(store);
    damage_batch(&disk, 2);
    let (store, report) = open(&disk).unwrap();
    assert_eq!((report.verdict.lost.groups, there(&store)), (1, vec![5, 6]));
}

#[test]
fn a_damaged_payload_costs_its_message_alone_whatever_else_is_damaged() {
    for damages_checkpoint in [false, true] {
        let disk = SimDisk::new(1);
        let (store, _) = open(&disk).unwrap();
        let mut group = Group::default();
        group.create(QUEUE);
        commit(&store, &mut group, Sync::Always).unwrap();
        for number in 0..9 {
            group.enqueue(&[&content(number)], false, &[(QUEUE, number)]);
        }
        commit(&store, &mut group, Sync::Always).unwrap();
        publish(&store, 9..12).unwrap();
        if damages_checkpoint {
            store.close();
            disk.damage(named(&disk, "checkpoint-").last().unwrap(), 50, 4).unwrap();
        } else {
            drop(store);
        }
        let (all, content) = (batches(&disk), content(4));
        let batch = all.iter().find(|batch| batch.number == 2).unwrap();
        let at = batch.groups.windows(content.len()).position(|window| window == content).unwrap();
        disk.damage(&batch.file, batch.offset + BATCH_HEADER_BYTES + at + 50, 1).unwrap();
        let (store, report) = open(&disk).unwrap();
        let lost = report.verdict.lost;
        assert_eq!((lost.batches, lost.groups, lost.messages, report.messages), (0, 0, 1, 12), "{report:?}");
        let is_told =
            |problem: &Problem| matches!(problem, Problem::PayloadDamaged { batch: 2, payloads: 1, .. });
        assert!(report.problems.iter().any(is_told), "{report:?}");
        let left: Vec<u64> = (0..12).filter(|number| *number != 4).collect();
        assert_eq!(there(&store), left);
        until("it is found", || store.scrub().damaged_count > 0);
        assert_eq!(store.scrub().damaged[0].sequence, 4, "the scrub names it");
    }
}
