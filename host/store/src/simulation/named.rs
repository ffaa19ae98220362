//! What the manifest says is not taken for more than it is.

use super::{sync_once, work, world};
use crate::{
    Group, QueueId, Range, Sync,
    disk::{
        Disk as _,
        sim::{Faults, SimDisk},
    },
    journal::manifest::MANIFEST,
    record::manifest::{PLACE_BYTES, Read, Record},
    store,
};
use std::sync::Arc;

const QUEUE: QueueId = QueueId(1);

#[test]
fn power_that_is_lost_before_the_first_batch_is_no_damage() {
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let (core, mut keeper, _) = store::open(Arc::new(disk.clone()), world::config()).unwrap();
        (0..20).for_each(|now_ms| _ = core.keep_step(&mut keeper, now_ms));
        if seed % 2 == 1 {
            // Written, and never synced.
            let mut group = Group::default();
            group.create(QUEUE);
            core.submit(&mut group, Sync::Always, None, 0).unwrap();
            core.write_step(0);
        }
        disk.crash();
        let (.., report) = store::open(Arc::new(disk.clone()), world::config()).unwrap();
        assert!(report.is_sound(), "seed {seed}: {report:?}");
    }
}

/// The places of the manifest, the latest first, and where they are.
fn places(disk: &SimDisk) -> Vec<(Record, usize)> {
    let mut bytes = vec![0; 2 * PLACE_BYTES];
    disk.open(MANIFEST).unwrap().read_at(&mut bytes, 0).unwrap();
    let read = |place: &[u8]| match Record::decode(place) {
        Read::Record(record) => record,
        other => panic!("{other:?}"),
    };
    let mut places: Vec<_> =
        bytes.chunks(PLACE_BYTES).enumerate().map(|(at, place)| (read(place), at * PLACE_BYTES)).collect();
    places.sort_by_key(|(record, _)| core::cmp::Reverse(record.number));
    places
}

#[test]
fn neither_place_of_the_manifest_names_a_segment_whose_file_is_gone() {
    let disk = SimDisk::new(1);
    let (core, mut keeper, _) = store::open(Arc::new(disk.clone()), world::config()).unwrap();
    let mut group = Group::default();
    group.create(QUEUE);
    let mut gone = 0;
    for sequence in 0..60_u64 {
        group.enqueue(&[&[7; 9000]], false, &[(QUEUE, sequence)]);
        group.ack(QUEUE, &[Range { first: sequence, count: 1 }]);
        core.submit(&mut group, Sync::Always, None, sequence).unwrap();
        group.clear();
        while !core.write_step(sequence) {
            core.keep_step(&mut keeper, sequence);
        }
        // A sync that fails is written again elsewhere, and what it was to cover goes at once.
        if sequence % 5 == 4 {
            disk.set_faults(Faults { sync: 1024, ..Faults::default() });
            sync_once(&core, sequence);
            disk.set_faults(Faults::default());
            core.write_step(sequence + 10_000);
        }
        sync_once(&core, sequence);
        keeper.save_now = true;
        for now_ms in 0..30 {
            core.keep_step(&mut keeper, sequence * 10 + now_ms);
            let names = disk.list().unwrap();
            let is_there = |segment: &u64| names.contains(&format!("segment-{segment:016x}"));
            for (record, _) in places(&disk) {
                gone += record.segments.iter().filter(|segment| !is_there(segment)).count();
            }
        }
    }
    assert_eq!(gone, 0);
    work(&core, &mut keeper, 100_000);
    // The latest place is damaged: the other one serves, and says nothing that is not so.
    let at = places(&disk)[0].1;
    disk.damage(MANIFEST, at + 20, 1).unwrap();
    disk.kill();
    let (.., report) = store::open(Arc::new(disk.clone()), world::config()).unwrap();
    assert!(report.is_sound(), "{report:?}");
}
