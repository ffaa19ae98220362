//! A group that is longer than what segments are shared by is there as a whole, or not at all.

use super::{Told, sync_once, work, world};
use crate::{
    Done, Group, Health, QueueId, Range, Reader, Refused, Sync,
    disk::{
        Disk as _,
        sim::{Faults, SimDisk},
    },
    journal::{Core, Counts, Pass},
    keeper::Keeper,
    store,
};
use std::sync::Arc;

const QUEUE: QueueId = QueueId(1);
/// Together more than a segment has.
const MESSAGES: u64 = 20;
const BYTES: usize = 9000;

/// A store with a queue of one message, which is safe.
fn begun(disk: &SimDisk) -> (Arc<Core>, Keeper) {
    let (core, mut keeper, _) = store::open(Arc::new(disk.clone()), world::config()).unwrap();
    let mut group = Group::default();
    group.create(QUEUE);
    group.enqueue(&[&[7; BYTES]], false, &[(QUEUE, 0)]);
    core.submit(&mut group, Sync::Always, None, 0).unwrap();
    work(&core, &mut keeper, 0);
    (core, keeper)
}

/// A transaction: messages, and the end of the one before.
fn transaction() -> Group {
    let mut group = Group::default();
    (1..=MESSAGES).for_each(|sequence| group.enqueue(&[&[8; BYTES]], false, &[(QUEUE, sequence)]));
    group.ack(QUEUE, &[Range { first: 0, count: 1 }]);
    group
}

/// The numbers of the messages that can be read.
fn there(core: &Core) -> Vec<u64> {
    let (mut found, mut from) = (Vec::new(), Some(0));
    while let Some(next) = from {
        from = Reader::default().read(core, (QUEUE, next), 1, &mut |item| {
            assert_eq!(item.payload.map(<[u8]>::len), Some(BYTES));
            found.push(item.sequence);
        });
    }
    found
}

fn segments(disk: &SimDisk) -> Vec<u64> {
    let names = disk.list().unwrap();
    let lengths = names.iter().filter(|name| name.starts_with("segment"));
    lengths.map(|name| disk.open(name).unwrap().len_bytes().unwrap()).collect()
}

#[test]
fn a_long_group_is_whole_or_not_there_when_power_is_lost() {
    let all: Vec<u64> = (1..=MESSAGES).collect();
    let mut seen = [0, 0];
    for seed in 0..60 {
        let disk = SimDisk::new(seed);
        let (core, _) = begun(&disk);
        core.submit(&mut transaction(), Sync::Always, None, 2000).unwrap();
        assert!(core.write_step(2000));
        disk.set_faults(Faults { torn: 5, ..Faults::default() });
        if seed % 3 == 0 {
            // What can be read was all in the cache, or is on disk already.
            disk.kill();
        } else {
            disk.crash();
        }
        disk.set_faults(Faults::default());
        let (core, mut keeper, report) = store::open(Arc::new(disk.clone()), world::config()).unwrap();
        assert!(report.is_sound(), "seed {seed}: {report:?}");
        let found = there(&core);
        assert!(found == all || found == [0], "seed {seed}: {found:?}");
        assert!(seed % 3 > 0 || found == all, "seed {seed}: it was written");
        seen[usize::from(found == all)] += 1;
        // It is as any other from then on.
        disk.crash();
        drop(core);
        let (core, ..) = store::open(Arc::new(disk.clone()), world::config()).unwrap();
        assert_eq!(there(&core), found, "seed {seed}: what a start found is on disk");
        keeper.save_now = true;
    }
    assert!(seen.iter().all(|count| *count > 3), "{seen:?}");
}

#[test]
fn a_long_group_that_is_confirmed_survives_and_its_segment_goes_with_it() {
    let disk = SimDisk::new(1);
    let (core, mut keeper) = begun(&disk);
    let told = Arc::new(Told::default());
    let done: Arc<dyn Done> = told.clone();
    core.submit(&mut transaction(), Sync::Always, Some((&done, 1)), 2000).unwrap();
    let mut group = Group::default();
    group.enqueue(&[&[9; BYTES]], false, &[(QUEUE, MESSAGES + 1)]);
    // More waits than may, and it was admitted before.
    core.take(&mut group, (Sync::Always, Some((&done, 2))), 2000, Pass::Admitted).unwrap();
    work(&core, &mut keeper, 2000);
    assert_eq!(*told.0.lock(), [(1, Ok(())), (2, Ok(()))]);
    let usual = world::config().segment_bytes;
    assert_eq!(segments(&disk).iter().filter(|bytes| **bytes > usual).count(), 1);
    disk.crash();
    let (core, mut keeper, report) = store::open(Arc::new(disk.clone()), world::config()).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert!(there(&core).into_iter().eq(1..=MESSAGES + 1));
    group.clear();
    group.ack(QUEUE, &[Range { first: 1, count: MESSAGES as u32 + 1 }]);
    core.submit(&mut group, Sync::Always, None, 0).unwrap();
    work(&core, &mut keeper, 0);
    for now_ms in [2000, 4000] {
        group.clear();
        group.unset(crate::Space(1), b"nothing");
        core.submit(&mut group, Sync::Always, None, now_ms).unwrap();
        keeper.save_now = true;
        work(&core, &mut keeper, now_ms);
    }
    assert!(segments(&disk).iter().all(|bytes| *bytes == usual), "{:?}", segments(&disk));
    let spares = disk.list().unwrap().into_iter().filter(|name| name.starts_with("spare"));
    assert!(spares.map(|name| disk.open(&name).unwrap().len_bytes().unwrap()).all(|bytes| bytes == usual));
}

#[test]
fn a_long_group_whose_sync_fails_is_written_to_another_segment_of_its_own() {
    let disk = SimDisk::new(1);
    let (core, mut keeper) = begun(&disk);
    let told = Arc::new(Told::default());
    let done: Arc<dyn Done> = told.clone();
    core.submit(&mut transaction(), Sync::Always, Some((&done, 1)), 2000).unwrap();
    assert!(core.write_step(2000));
    disk.set_faults(Faults { sync: 1024, ..Faults::default() });
    assert!(sync_once(&core, 2000));
    disk.set_faults(Faults::default());
    work(&core, &mut keeper, 3000);
    assert_eq!((told.0.lock().clone(), store::stat(&core).rescues), (vec![(1, Ok(()))], 1));
    disk.crash();
    let (core, ..) = store::open(Arc::new(disk.clone()), world::config()).unwrap();
    assert!(there(&core).into_iter().eq(1..=MESSAGES));
}

#[test]
fn a_long_group_for_which_there_is_no_room_is_refused_and_acks_go_on() {
    let disk = SimDisk::new(1);
    let (core, mut keeper) = begun(&disk);
    disk.set_faults(Faults { bytes_max: disk.used_bytes() + 2 * 64 * 1024, ..Faults::default() });
    let (told, names) = (Arc::new(Told::default()), disk.list().unwrap());
    let done: Arc<dyn Done> = told.clone();
    let refused = core.take(&mut transaction(), (Sync::Always, Some((&done, 1))), 2000, Pass::Admitted);
    assert_eq!((refused, disk.list().unwrap()), (Err(Refused::Full), names), "nothing is left behind");
    let mut group = Group::default();
    group.ack(QUEUE, &[Range { first: 0, count: 1 }]);
    core.submit(&mut group, Sync::Always, Some((&done, 2)), 2000).unwrap();
    work(&core, &mut keeper, 2000);
    assert_eq!(*told.0.lock(), [(2, Ok(()))]);
    disk.set_faults(Faults::default());
    work(&core, &mut keeper, 4000);
    core.submit(&mut transaction(), Sync::Always, Some((&done, 3)), 6000).unwrap();
    work(&core, &mut keeper, 6000);
    assert_eq!((told.0.lock().last(), core.health()), (Some(&(3, Ok(()))), Health::Well));
}

#[test]
fn a_long_group_is_taken_where_there_is_room_though_the_reserve_is_not_made_yet() {
    let disk = SimDisk::new(1);
    let (core, mut keeper, _) = store::open(Arc::new(disk.clone()), world::config()).unwrap();
    let mut group = Group::default();
    group.create(QUEUE);
    core.submit(&mut group, Sync::Always, None, 0).unwrap();
    work(&core, &mut keeper, 0);
    // It is not young any more, and the keeper did nothing yet.
    Counts::add(&core.counts.journal_bytes, world::config().segment_bytes);
    let mut segments = core.segments.lock();
    while segments.free() >= core.reserve(&segments) {
        assert!(segments.give_up(&disk));
    }
    drop(segments);
    core.submit(&mut transaction(), Sync::Always, None, 1000).unwrap();
    work(&core, &mut keeper, 1000);
    assert!(there(&core).into_iter().eq(1..=MESSAGES));
}
