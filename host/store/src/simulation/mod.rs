//! Publishers, consumers, crashes and a failing disk, by a seed; and somebody who knows every confirm.
//!
//! `LEVERET_STORE_SEED=7` runs one seed, `LEVERET_STORE_SEEDS=10000` that many, `LEVERET_STORE_FROM=5000` those from
//! there on.

mod model;
mod world;

use crate::{
    Group, QueueId, Sync,
    disk::sim::{Faults, SimDisk},
    store,
};
use std::sync::Arc;
use world::World;

/// Seeds that once found something.
const FOUND: [u64; 5] = [122, 183, 224, 881, 4632];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn what_was_confirmed_survives_whatever_the_disk_does() {
    if let Some(seed) = number("LEVERET_STORE_SEED") {
        let seen = World::new(seed).run();
        eprintln!("seed {seed}: {seen:?}");
        return;
    }
    let mut total = world::Seen::default();
    let from = number("LEVERET_STORE_FROM").unwrap_or_default();
    let seeds = from..from + number("LEVERET_STORE_SEEDS").unwrap_or(1000);
    for seed in FOUND.into_iter().chain(seeds) {
        // Told by the test's output if it fails.
        eprintln!("LEVERET_STORE_SEED={seed}");
        total.add(World::new(seed).run());
    }
    eprintln!("{total:?}");
    // All that it is about did happen.
    let of_all = [total.confirmed, total.crashes, total.closes, total.rescues, total.moved];
    let of_space = [total.refused_full, total.early, total.extents, total.recycled];
    assert!(of_all.into_iter().chain(of_space).all(|count| count > 0), "{total:?}");
}

/// What failed needs more segments than there are, and they come one at a time.
#[test]
fn what_is_written_again_goes_on_where_there_was_no_more_room() {
    let disk = SimDisk::new(1);
    let (core, mut keeper, _) = store::open(Arc::new(disk.clone()), world::config()).unwrap();
    let mut group = Group::default();
    group.create(QueueId(1));
    for sequence in 0..25 {
        group.enqueue(&[&[7; 9000]], false, &[(QueueId(1), sequence)]);
        core.submit(&mut group, Sync::Always, None, 0).unwrap();
        group.clear();
        while !core.write_step(0) {}
        core.keep_step(&mut keeper, 0);
    }
    disk.set_faults(Faults { sync: 1024, ..Faults::default() });
    let job = core.sync_begin(0).unwrap();
    let outcome = job.file.sync();
    core.sync_end(&job, outcome, &mut Vec::new());
    let room_for = |segments: u64| {
        let bytes_max = disk.used_bytes() + segments * world::config().segment_bytes;
        disk.set_faults(Faults { bytes_max, ..Faults::default() });
    };
    room_for(0);
    core.write_step(0);
    assert!(core.flight.lock().failed, "it needs more than is free");
    for _ in 0..8 {
        room_for(1);
        core.keep_step(&mut keeper, 0);
        core.write_step(0);
    }
    assert!(!core.flight.lock().failed, "{:?}", store::stat(&core));
    assert_eq!(store::stat(&core).rescues, 1);
}
