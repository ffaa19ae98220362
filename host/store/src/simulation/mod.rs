//! Publishers, consumers, crashes and a failing disk, by a seed; and somebody who knows every confirm.
//!
//! `LEVERET_STORE_SEED=7` runs one seed, `LEVERET_STORE_SEEDS=10000` that many, `LEVERET_STORE_FROM=5000` those from
//! there on.

mod full;
mod locks;
mod long;
mod model;
mod moving;
mod named;
mod world;

use crate::{
    Done, Failed, Group, Health, QueueId, Reader, Refused, Space, Sync,
    disk::sim::{Faults, SimDisk},
    journal::Core,
    keeper::Keeper,
    store,
};
use std::sync::Arc;
use world::{Seen, World};

/// Seeds that once found something.
const FOUND: [u64; 15] =
    [105, 122, 178, 183, 224, 607, 881, 1062, 1578, 2281, 4632, 4690, 11359, 11462, 20007];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// So many seeds, or those that are asked for.
fn seeds(count: u64) -> core::ops::Range<u64> {
    if let Some(seed) = number("LEVERET_STORE_SEED") {
        return seed..seed + 1;
    }
    let from = number("LEVERET_STORE_FROM").unwrap_or_default();
    from..from + number("LEVERET_STORE_SEEDS").unwrap_or(count)
}

fn run_all(run: fn(World) -> Seen, count: u64) -> Seen {
    let mut total = Seen::default();
    let found = if number("LEVERET_STORE_SEED").is_none() { &FOUND[..] } else { &[] };
    for seed in found.iter().copied().chain(seeds(count)) {
        // Told by the test's output if it fails.
        eprintln!("LEVERET_STORE_SEED={seed}");
        total.add(run(World::new(seed)));
    }
    eprintln!("{total:?}");
    total
}

#[test]
fn a_full_disk_takes_acks_and_serves_again_and_loses_nothing() {
    let total = run_all(World::run_full, 400);
    let of_all = [total.confirmed, total.crashes, total.refused_full, total.filled, total.extents];
    let is_one = number("LEVERET_STORE_SEED").is_some();
    // What failed had room elsewhere, nearly always.
    assert!(is_one || total.waited * 10 < total.rescues, "{total:?}");
    assert!(
        is_one || of_all.into_iter().chain([total.closes, total.rescues]).all(|count| count > 0),
        "{total:?}"
    );
}

#[test]
fn what_was_confirmed_survives_whatever_the_disk_does() {
    let total = run_all(World::run, 2500);
    if number("LEVERET_STORE_SEED").is_some() {
        return;
    }
    // All that it is about did happen.
    let of_all = [total.confirmed, total.crashes, total.closes, total.rescues, total.moved];
    let of_space =
        [total.refused_full, total.early, total.extents, total.recycled, total.scrubbed, total.damaged];
    let of_damage = [total.refused, total.told, total.made_up, total.ends];
    assert!(total.bodies > 1000 && total.referring > total.bodies, "{total:?}");
    let of_long = [total.long, total.long_there, total.long_gone];
    assert!(total.unseen * 10 < total.ends, "{total:?}");
    assert!(
        of_all.into_iter().chain(of_space).chain(of_damage).chain(of_long).all(|count| count > 0),
        "{total:?}"
    );
}

/// Where syncs do nothing what was confirmed is lost with the power: whoever judges the others has to find that.
#[test]
fn a_disk_that_lies_is_found_out() {
    let found = (0..100).filter(|seed| {
        let world = World::new(*seed);
        world.disk.lies();
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run())).is_err()
    });
    assert!(found.count() > 90, "what was confirmed and lost was not missed");
}

/// A store with 25 large messages in flight, in several segments, of which none was synced.
fn in_flight(disk: &SimDisk) -> (Arc<Core>, Keeper) {
    let (core, mut keeper, _) = store::open(Arc::new(disk.clone()), world::config()).unwrap();
    let mut group = Group::default();
    group.create(QueueId(1));
    for sequence in 0..25 {
        group.enqueue(&[&[7; 9000]], false, &[(QueueId(1), sequence)]);
        core.submit(&mut group, Sync::Always, None, 0).unwrap();
        group.clear();
        while !core.write_step(0) {
            core.keep_step(&mut keeper, 0);
        }
    }
    (core, keeper)
}

fn sync_once(core: &Core, now_ms: u64) -> bool {
    let Some(job) = core.sync_begin(now_ms) else { return false };
    let outcome = job.file.sync();
    core.sync_end(&job, outcome, &mut Vec::new());
    true
}

/// How many of the 25 are there after a loss of power.
fn survivors(disk: &SimDisk) -> usize {
    disk.set_faults(Faults::default());
    disk.crash();
    let (core, ..) = store::open(Arc::new(disk.clone()), world::config()).unwrap();
    let (mut found, mut from) = (0, Some(0));
    while let Some(next) = from {
        from = Reader::default().read(&core, (QueueId(1), next), 1, &mut |item| {
            found += usize::from(item.payload == Some(&[7; 9000]));
        });
    }
    found
}

#[test]
fn without_room_what_failed_waits_for_it_and_no_file_is_written_again() {
    let disk = SimDisk::new(1);
    let (core, mut keeper) = in_flight(&disk);
    while core.segments.lock().free() > 2 {
        assert!(core.segments.lock().give_up(&disk));
    }
    disk.set_faults(Faults { sync: 1024, bytes_max: disk.used_bytes(), ..Faults::default() });
    assert!(sync_once(&core, 0));
    core.room.set_full();
    disk.set_faults(Faults { bytes_max: disk.used_bytes(), ..Faults::default() });
    for now_ms in (100..20_000).step_by(100) {
        assert!(!core.write_step(now_ms) && !sync_once(&core, now_ms), "it needs more than two");
        core.keep_step(&mut keeper, now_ms);
    }
    let Health::Failing(reason) = core.health() else { panic!("{:?}", core.health()) };
    assert!(reason.contains("nothing is confirmed"), "{reason}");
    assert_eq!(survivors(&disk.copy()), 25, "it was written, and the process alone ended");
    // Room comes.
    disk.set_faults(Faults::default());
    work(&core, &mut keeper, 20_000);
    assert!(core.health() == Health::Well && store::stat(&core).rescues == 1);
    assert_eq!(survivors(&disk), 25);
}

#[test]
fn a_file_whose_sync_failed_is_never_synced_again() {
    let disk = SimDisk::new(1);
    let (core, mut keeper) = in_flight(&disk);
    disk.set_faults(Faults { sync: 1024, ..Faults::default() });
    let mut failed = std::collections::BTreeSet::new();
    for now_ms in (0..90_000).step_by(100) {
        if now_ms == 80_000 {
            assert!(failed.len() > 10 && store::stat(&core).rescues > 10, "{failed:?}");
            disk.set_faults(Faults::default());
        }
        if let Some(job) = core.sync_begin(now_ms) {
            assert!(!failed.contains(&job.segment), "{} failed before", job.segment);
            let outcome = job.file.sync();
            failed.extend(outcome.is_err().then_some(job.segment));
            core.sync_end(&job, outcome, &mut Vec::new());
        }
        core.write_step(now_ms);
        core.keep_step(&mut keeper, now_ms);
    }
    assert!(core.health() == Health::Well && core.flight.lock().batches.is_empty());
    assert_eq!(survivors(&disk), 25);
}

#[test]
fn a_disk_that_never_syncs_is_tried_less_and_less_and_takes_no_more_room() {
    let disk = SimDisk::new(1);
    let (core, mut keeper) = in_flight(&disk);
    disk.set_faults(Faults { sync: 1024, ..Faults::default() });
    // A minute.
    let (mut tries, mut most, mut now) = (Vec::new(), 0, 0);
    while now < 60_000 {
        now += 1;
        if sync_once(&core, now) {
            tries.push(now);
        }
        core.write_step(now);
        core.keep_step(&mut keeper, now);
        most = most.max(disk.used_bytes());
    }
    assert!((10..30).contains(&tries.len()), "{tries:?}");
    let waits: Vec<u64> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.is_sorted() && waits.last() == Some(&5000), "{waits:?}");
    let segments = most / world::config().segment_bytes;
    assert!(segments < 24, "{segments} segments were there at once");
    let Health::Failing(reason) = core.health() else { panic!("{:?}", core.health()) };
    assert!(reason.contains("segment-") && reason.contains("move the directory"), "{reason}");
    assert_eq!(core.index.lock().held.live.messages, 25, "what was written can be read all the while");
    // What comes meanwhile waits, up to a bound.
    let (mut group, mut taken) = (Group::default(), 0);
    let refused = loop {
        group.unset(Space(1), &[1; 1000]);
        match core.submit(&mut group, Sync::Ride, None, now) {
            Ok(()) => taken += group.len_bytes(),
            Err(refused) => break refused,
        }
        core.write_step(now);
        group.clear();
    };
    assert_eq!(refused, Refused::Behind);
    assert!(taken <= 2 * world::config().pending_bytes_max, "{taken}");
    disk.set_faults(Faults::default());
    for _ in 0..200 {
        now += 100;
        core.write_step(now);
        sync_once(&core, now);
        core.keep_step(&mut keeper, now);
    }
    assert_eq!(core.health(), Health::Well);
    core.submit(&mut group, Sync::Ride, None, now).unwrap();
    assert_eq!(survivors(&disk), 25);
}

#[derive(Default)]
struct Told(parking_lot::Mutex<Vec<(u64, Result<(), Failed>)>>);

impl Done for Told {
    fn done(&self, token: u64, outcome: Result<(), Failed>) {
        self.0.lock().push((token, outcome));
    }
}

#[test]
fn whoever_waits_is_told_when_it_is_closed_with_and_without_room() {
    for full in [false, true] {
        let disk = SimDisk::new(1);
        let (core, mut keeper, _) = store::open(Arc::new(disk.clone()), world::config()).unwrap();
        let (told, mut group) = (Arc::new(Told::default()), Group::default());
        let done: Arc<dyn Done> = told.clone();
        group.create(QueueId(1));
        core.submit(&mut group, Sync::Always, Some((&done, 0)), 0).unwrap();
        group.clear();
        while !core.write_step(0) {
            core.keep_step(&mut keeper, 0);
        }
        while core.segments.lock().give_up(&disk) {}
        let bytes_max = if full { disk.used_bytes() } else { 0 };
        disk.set_faults(Faults { bytes_max, ..Faults::default() });
        let body = (
            core.next_extent.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
            Arc::new(vec![1_u8; 5000]) as _,
        );
        group.enqueue_apart(&[b"head"], false, body, &[(QueueId(1), 0)]);
        core.submit(&mut group, Sync::Always, Some((&done, 1)), 0).unwrap();
        assert!(!core.large_step(0), "it waits for the reserve");
        store::close(&core, keeper);
        let outcome = if full { Err(Failed::Full) } else { Ok(()) };
        assert_eq!(*told.0.lock(), [(0, Ok(())), (1, outcome)], "{full}");
    }
}

/// A store on a disk that is full but for the free segments that it needs, and a group with a small message and a large
/// body that was handed over there under token 1.
fn without_room_for_large(disk: &SimDisk, told: &Arc<Told>) -> (Arc<Core>, Keeper) {
    let (core, mut keeper, _) = store::open(Arc::new(disk.clone()), world::config()).unwrap();
    let (done, mut group): (Arc<dyn Done>, _) = (told.clone(), Group::default());
    group.create(QueueId(1));
    // It is not young any more.
    group.enqueue(&[&[7; 9000]], false, &[(QueueId(1), 0)]);
    core.submit(&mut group, Sync::Always, Some((&done, 0)), 0).unwrap();
    group.clear();
    work(&core, &mut keeper, 0);
    let mut segments = core.segments.lock();
    while segments.free() > core.reserve(&segments) + 1 {
        assert!(segments.give_up(disk));
    }
    drop(segments);
    disk.set_faults(Faults { bytes_max: disk.used_bytes(), ..Faults::default() });
    let number = core.next_extent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    group.enqueue(&[&[8; 100]], false, &[(QueueId(1), 1)]);
    group.enqueue_apart(&[b"head"], false, (number, Arc::new(vec![1_u8; 5000])), &[(QueueId(1), 2)]);
    group.ack(QueueId(1), &[crate::Range { first: 0, count: 1 }]);
    core.submit(&mut group, Sync::Always, Some((&done, 1)), 0).unwrap();
    (core, keeper)
}

/// Does what there is to do for a second from that time on.
fn work(core: &Core, keeper: &mut Keeper, from_ms: u64) {
    for now_ms in (from_ms..from_ms + 1000).step_by(20) {
        core.large_step(now_ms);
        core.write_step(now_ms);
        sync_once(core, now_ms);
        core.keep_step(keeper, now_ms);
    }
}

#[test]
fn what_comes_with_a_large_body_for_which_there_is_no_room_waits_for_it_and_growth_is_refused_before() {
    let (disk, told) = (SimDisk::new(1), Arc::new(Told::default()));
    let (core, mut keeper) = without_room_for_large(&disk, &told);
    // Its free segments are needed.
    work(&core, &mut keeper, 1000);
    assert_eq!(
        *told.0.lock(),
        [(0, Ok(()))],
        "nothing was given up, and nothing confirmed that is not there"
    );
    let done: Arc<dyn Done> = told.clone();
    let mut group = Group::default();
    group.enqueue(&[&[9; 100]], false, &[(QueueId(1), 3)]);
    let refused = core.submit(&mut group, Sync::Always, Some((&done, 3)), 2000);
    assert_eq!((core.health(), refused), (Health::Full, Err(Refused::Full)));
    group.clear();
    group.unset(Space(1), b"key");
    core.submit(&mut group, Sync::Always, Some((&done, 2)), 2000).unwrap();
    work(&core, &mut keeper, 2000);
    assert_eq!(told.0.lock().last(), Some(&(2, Ok(()))), "what takes away goes on");
    let bytes_max = disk.used_bytes() + 9 * world::config().segment_bytes;
    disk.set_faults(Faults { bytes_max, ..Faults::default() });
    work(&core, &mut keeper, 3000);
    assert_eq!(told.0.lock().last(), Some(&(1, Ok(()))));
    assert_eq!((core.health(), core.admits()), (Health::Well, Ok(())));
    let held = core.index.lock().held.live;
    assert_eq!(held.messages, 2, "all of the group happened, its ack too");
}

#[test]
fn large_bodies_have_the_room_of_free_segments_that_are_not_needed() {
    let (disk, told) = (SimDisk::new(1), Arc::new(Told::default()));
    let (core, mut keeper) = without_room_for_large(&disk, &told);
    let bytes_max = disk.used_bytes() + world::config().segment_bytes;
    disk.set_faults(Faults { bytes_max, ..Faults::default() });
    let mut segments = core.segments.lock();
    segments.make_spare(&disk, world::config().segment_bytes).unwrap();
    drop(segments);
    work(&core, &mut keeper, 1000);
    assert_eq!(told.0.lock().last(), Some(&(1, Ok(()))));
    // There is no room for another one.
    assert_eq!(core.health(), Health::Full);
}

#[test]
fn a_large_body_that_cannot_be_written_is_written_again_and_meanwhile_it_is_told_why() {
    let (disk, told) = (SimDisk::new(1), Arc::new(Told::default()));
    let (core, mut keeper) = without_room_for_large(&disk, &told);
    disk.set_faults(Faults { names: 1024, ..Faults::default() });
    assert!(!core.large_step(1000));
    let Health::Failing(reason) = core.health() else { panic!("{:?}", core.health()) };
    assert!(reason.contains("extent-") && reason.contains("large bodies"), "{reason}");
    disk.set_faults(Faults::default());
    work(&core, &mut keeper, 2000);
    assert_eq!(*told.0.lock(), [(0, Ok(())), (1, Ok(()))]);
    assert_eq!(core.health(), Health::Well);
}

#[test]
fn a_large_body_for_which_there_can_be_no_room_is_given_up() {
    let (disk, told) = (SimDisk::new(1), Arc::new(Told::default()));
    let (core, mut keeper) = without_room_for_large(&disk, &told);
    work(&core, &mut keeper, 1000);
    work(&core, &mut keeper, 2000);
    assert_eq!(told.0.lock().len(), 1, "a message is there that may end");
    let mut group = Group::default();
    group.ack(QueueId(1), &[crate::Range { first: 0, count: 1 }]);
    core.submit(&mut group, Sync::Ride, None, 3000).unwrap();
    work(&core, &mut keeper, 3010);
    work(&core, &mut keeper, 4010);
    assert_eq!(told.0.lock().last(), Some(&(1, Err(Failed::Full))));
    assert_eq!(core.index.lock().held.live.messages, 0);
}

#[test]
fn short_runs_do_not_make_a_store_grow() {
    for closes in [true, false] {
        let disk = SimDisk::new(1);
        let mut most = Vec::new();
        for run in 0..20 {
            let (core, mut keeper, _) = store::open(Arc::new(disk.clone()), world::config()).unwrap();
            let mut group = Group::default();
            group.create(QueueId(1));
            group.enqueue(&[&[7; 1000]], false, &[(QueueId(1), run)]);
            group.ack(QueueId(1), &[crate::Range { first: run.saturating_sub(1), count: 1 }]);
            core.submit(&mut group, Sync::Always, None, 0).unwrap();
            work(&core, &mut keeper, 0);
            if closes {
                store::close(&core, keeper);
            }
            most.push(store::stat(&core).segment_bytes / world::config().segment_bytes);
        }
        let (early, late) = (most[..5].iter().max(), most[5..].iter().max());
        assert!(late <= early, "{closes}: {most:?}");
    }
}

#[test]
fn acks_go_on_in_the_room_of_a_segment_that_was_given_up_for_a_checkpoint() {
    let (disk, told) = (SimDisk::new(1), Arc::new(Told::default()));
    let (core, mut keeper, _) = store::open(Arc::new(disk.clone()), world::config()).unwrap();
    let (done, mut group): (Arc<dyn Done>, _) = (told.clone(), Group::default());
    group.create(QueueId(1));
    let bytes_max = disk.used_bytes() + 12 * world::config().segment_bytes;
    disk.set_faults(Faults { bytes_max, ..Faults::default() });
    let (mut next, mut now) = (0, 0);
    while core.health() == Health::Well {
        group.enqueue(&[&[7; 3000]], false, &[(QueueId(1), next)]);
        let taken = core.submit(&mut group, Sync::Always, None, now);
        (next, now) = (next + u64::from(taken.is_ok()), now + 1000);
        group.clear();
        work(&core, &mut keeper, now);
    }
    assert!(next > 60, "{next}");
    // Somebody else takes what is left.
    let mut segments = core.segments.lock();
    while segments.free() > 3 {
        assert!(segments.give_up(&disk));
    }
    drop(segments);
    disk.set_faults(Faults { bytes_max: disk.used_bytes(), ..Faults::default() });
    // Every other one, so that no segment of messages is free.
    for first in (0..next).step_by(2) {
        group.ack(QueueId(1), &[crate::Range { first, count: 1 }]);
        core.submit(&mut group, Sync::Always, Some((&done, first)), now).unwrap();
        group.clear();
        for _ in 0..5 {
            now += 1000;
            work(&core, &mut keeper, now);
        }
        assert_eq!(told.0.lock().last(), Some(&(first, Ok(()))), "of {next}");
    }
}

#[test]
fn a_store_that_has_next_to_nothing_keeps_few_free_segments() {
    let disk = Arc::new(SimDisk::new(1));
    let free = |run: u64, bytes: usize| {
        let (core, mut keeper, _) = store::open(disk.clone(), world::config()).unwrap();
        let mut group = Group::default();
        group.create(QueueId(1));
        group.enqueue(&[&vec![7; bytes]], false, &[(QueueId(1), run)]);
        core.submit(&mut group, Sync::Always, None, 0).unwrap();
        work(&core, &mut keeper, 0);
        let segments = core.segments.lock();
        let counts = (segments.free(), core.reserve(&segments));
        drop(segments);
        store::close(&core, keeper);
        counts
    };
    assert_eq!(free(1, 10), (4, 2));
    assert_eq!(free(2, 10), (4, 2), "after a start too");
    let (free, reserve) = free(3, 9000);
    assert!(reserve >= 5 && free > reserve, "{free} {reserve}");
}

#[test]
fn the_next_segment_is_named_while_a_checkpoint_is_written() {
    let disk = SimDisk::new(1);
    let (core, mut keeper, _) = store::open(Arc::new(disk.clone()), world::config()).unwrap();
    let mut group = Group::default();
    group.create(QueueId(1));
    core.submit(&mut group, Sync::Always, None, 0).unwrap();
    work(&core, &mut keeper, 0);
    group.clear();
    group.unset(Space(1), b"key");
    core.submit(&mut group, Sync::Always, None, 1000).unwrap();
    core.write_step(1000);
    keeper.save_now = true;
    core.keep_step(&mut keeper, 1000);
    // As when the writer takes it.
    assert!(core.segments.lock().ready.take().is_some());
    core.keep_step(&mut keeper, 1000);
    assert!(core.segments.lock().ready.is_some());
}
