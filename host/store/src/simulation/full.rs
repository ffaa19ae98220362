//! A disk that gets full and is emptied again, with the steps of the threads in any order.

use super::{Told, seeds, world};
use crate::{
    Config, Done, Group, Health, QueueId, Range, Reader, Refused, Sequence, Sync,
    disk::{
        Disk,
        sim::{Dice, Faults, SimDisk},
    },
    journal::{Core, sync::SyncJob},
    keeper::Keeper,
    record::BLOCK_BYTES,
    store,
};
use std::{collections::BTreeSet, sync::Arc};

const QUEUE: QueueId = QueueId(1);

/// Seeds that once found something.
const FOUND: [u64; 4] = [283, 317, 1316, 3859];

fn config() -> Config {
    Config {
        own_segment_bytes: 16 * 1024,
        batch_bytes: 8 * 1024,
        pending_bytes_max: 64 * 1024,
        reserve_segments: 1,
        checkpoint_bytes: 256 * 1024,
        ..world::config()
    }
}

/// A store on a disk of a few segments.
struct Full {
    seed: u64,
    disk: SimDisk,
    core: Arc<Core>,
    keeper: Keeper,
    dice: Dice,
    told: Arc<Told>,
    /// Whose turn it is, and for how many steps about.
    turn: u64,
    turns: u64,
    burst: u64,
    now_ms: u64,
    syncing: Option<SyncJob>,
    /// In how many of 1,024 steps it is looked what would be if power were lost now.
    probes: u32,
    probe_dice: Dice,
}

impl Full {
    fn new(seed: u64) -> Self {
        let bytes_max = (21 + seed % 35) * config().segment_bytes / 4;
        let disk = SimDisk::new(seed);
        disk.set_faults(Faults { bytes_max, torn: 200, ..Faults::default() });
        let (core, keeper, _) = store::open(Arc::new(disk.clone()), config()).unwrap();
        let mut full = Self {
            seed,
            disk,
            core,
            keeper,
            dice: Dice::new(seed),
            told: Arc::default(),
            turn: 0,
            turns: 3 + seed % 16,
            burst: 1,
            now_ms: 0,
            syncing: None,
            probes: 0,
            probe_dice: Dice::new(seed),
        };
        let mut group = Group::default();
        group.create(QUEUE);
        assert_eq!(full.commit(&mut group), Ok(()));
        full
    }

    /// One step of a thread, which mostly is the one that had the last.
    fn step(&mut self) {
        self.now_ms += 1;
        if self.dice.below(self.burst) == 0 {
            (self.turn, self.burst) = (self.dice.below(self.turns), 1 << self.dice.below(6));
        }
        match self.turn {
            2 => _ = self.core.keep_in_order(&mut self.keeper, self.now_ms),
            turn if turn % 2 == 0 => _ = self.core.write_step(self.now_ms),
            _ => self.sync(),
        }
        if self.probe_dice.chance(self.probes) {
            self.probe();
        }
    }

    /// A start if power were lost now.
    fn probe(&mut self) {
        let disk = self.disk.fork(self.probe_dice.next_u64());
        let ends = ["power", "the process"][self.probe_dice.below(2) as usize];
        if ends == "power" {
            disk.crash();
        }
        let before = Disk::list(&disk);
        match store::open(Arc::new(disk), config()) {
            Ok((.., report)) => assert!(report.is_sound(), "seed {}: {report:?}", self.seed),
            Err(error) => panic!("after {ends} ends: {error}: {before:?} {}", self.state()),
        }
    }

    /// The other threads go on while a sync is under way.
    fn sync(&mut self) {
        let Some(job) = self.syncing.take() else {
            self.syncing = self.core.sync_begin(self.now_ms);
            return;
        };
        let outcome = job.file.sync();
        self.core.sync_end(&job, outcome, &mut Vec::new());
    }

    fn submit(&mut self, group: &mut Group) -> Result<(), Refused> {
        let done: Arc<dyn Done> = self.told.clone();
        self.core.submit(group, Sync::Always, Some((&done, 0)), self.now_ms)?;
        group.clear();
        Ok(())
    }

    /// Hands over, and has steps taken until it is on disk.
    fn commit(&mut self, group: &mut Group) -> Result<(), Refused> {
        self.submit(group)?;
        let mut left = 10_000;
        while self.told.0.lock().pop().is_none() {
            self.step();
            left -= 1;
            assert!(left > 0, "it waits for ever: {}", self.state());
        }
        let meanwhile = 1 << self.dice.below(6);
        (0..self.dice.below(meanwhile)).for_each(|_| self.step());
        Ok(())
    }

    fn publish(&mut self, number: u64) -> Result<(), Refused> {
        let mut group = Group::default();
        let body = vec![7; 100 + (number * 37 % 900) as usize];
        loop {
            group.enqueue(&[&body], false, &[(QUEUE, number)]);
            match self.commit(&mut group) {
                Err(Refused::Behind) => {
                    self.step();
                    group.clear();
                }
                outcome => return outcome,
            }
        }
    }

    /// Publishes until it is full; gives how many are there.
    fn fill(&mut self) -> u64 {
        let mut next = 0;
        while self.publish(next) == Ok(()) {
            next += 1;
            assert!(next < 10_000, "seed {}: it is never full", self.seed);
        }
        assert_eq!(self.core.health(), Health::Full, "seed {}", self.seed);
        next
    }

    /// An eighth of a segment, as it has nothing, where each takes a block.
    fn serve(&mut self, next: u64) -> u64 {
        let mut left = 10_000;
        while self.core.health() != Health::Well {
            self.step();
            left -= 1;
            assert!(left > 0, "it does not serve again: {}", self.state());
        }
        let more = config().segment_bytes / 8 / BLOCK_BYTES;
        for number in next..next + more {
            assert_eq!(self.publish(number), Ok(()), "seed {}: {} of {more}", self.seed, number - next);
        }
        next + more
    }

    /// Ends a run, with or without a close, and begins another.
    fn end(&mut self) {
        let (closes, loses_power) = (self.dice.chance(512), self.dice.chance(768));
        if closes {
            if self.syncing.is_some() {
                self.sync();
            }
            store::close(&self.core, core::mem::take(&mut self.keeper));
        }
        self.syncing = None;
        if loses_power {
            self.disk.crash();
        }
        let before = Disk::list(&self.disk);
        let opened = store::open(Arc::new(self.disk.clone()), config());
        let (core, keeper, report) = opened.unwrap_or_else(|error| {
            panic!("seed {}: closes {closes}, loses power {loses_power}: {error}; {before:?}", self.seed)
        });
        assert!(report.is_sound(), "seed {}: {report:?}", self.seed);
        assert_eq!(report.clean, closes, "seed {}: {report:?}", self.seed);
        (self.core, self.keeper) = (core, keeper);
        self.told.0.lock().clear();
    }

    /// For whoever has to find out.
    fn state(&self) -> String {
        let (stat, segments) = (store::stat(&self.core), self.core.segments.lock());
        let (free, reserve) = (segments.free(), self.core.reserve(&segments));
        let left = self.core.room.left_to_checkpoints();
        let files = Disk::list(&self.disk);
        format!("seed {}: free {free} reserve {reserve} left {left} {stat:?} {files:?}", self.seed)
    }

    /// What is there.
    fn numbers(&self) -> BTreeSet<Sequence> {
        let (mut reader, mut from, mut found) = (Reader::default(), Some(0), BTreeSet::new());
        while let Some(next) = from {
            from = reader.read(&self.core, (QUEUE, next), 5000, &mut |item| {
                assert!(item.payload.is_some(), "seed {}", self.seed);
                found.insert(item.sequence);
            });
        }
        found
    }
}

fn ack(first: Sequence) -> Group {
    let mut group = Group::default();
    group.ack(QUEUE, &[Range { first, count: 1 }]);
    group
}

/// Acks are taken one by one, however few segments there are and whatever is copied forward meanwhile.
#[test]
fn a_full_disk_takes_each_ack_in_whatever_order_threads_run() {
    for seed in seeds(400) {
        let mut full = Full::new(seed);
        let next = full.fill();
        for first in 0..next {
            assert_eq!(full.commit(&mut ack(first)), Ok(()), "seed {seed}");
        }
        full.serve(next);
    }
}

/// A run may end at any time.
#[test]
fn a_full_disk_can_be_started_from_at_any_time() {
    for seed in FOUND.into_iter().chain(seeds(100)) {
        let mut full = Full::new(seed);
        let next = full.fill();
        let mut there: BTreeSet<Sequence> = (0..next).collect();
        let often = [8, 64, 256][seed as usize % 3];
        while let Some(first) = there.pop_first() {
            let ends = full.dice.chance(often);
            let steps = full.dice.below(30);
            if !ends {
                assert_eq!(full.commit(&mut ack(first)), Ok(()), "seed {seed}");
                continue;
            }
            assert_eq!(full.submit(&mut ack(first)), Ok(()), "seed {seed}");
            (0..steps).for_each(|_| full.step());
            full.end();
            let found = full.numbers();
            if found.contains(&first) {
                // Nobody was told.
                there.insert(first);
            }
            assert_eq!(found, there, "seed {seed}");
        }
        full.end();
        assert_eq!(full.numbers(), BTreeSet::new(), "seed {seed}");
        let end = full.serve(next);
        full.end();
        assert_eq!(full.numbers(), (next..end).collect(), "seed {seed}");
    }
}

/// Whatever is under way.
#[test]
fn a_full_disk_can_be_started_from_after_any_step() {
    for seed in seeds(40) {
        let mut full = Full::new(seed);
        let next = full.fill();
        full.probes = 8;
        for first in 0..next {
            assert_eq!(full.commit(&mut ack(first)), Ok(()), "seed {seed}");
        }
        // There is least that holds it up.
        full.probes = 1024;
        full.serve(next);
    }
}

/// A store of one message that nobody knows to be on disk, and whose only free segment is the one that comes next; its
/// disk has room for so many bytes more.
fn with_one_free(bytes: u64) -> SimDisk {
    let disk = SimDisk::new(1);
    let (core, mut keeper, _) = store::open(Arc::new(disk.clone()), config()).unwrap();
    let mut group = Group::default();
    group.create(QUEUE);
    group.enqueue(&[b"body"], false, &[(QUEUE, 0)]);
    core.submit(&mut group, Sync::Never, None, 0).unwrap();
    while store::stat(&core).messages == 0 || core.segments.lock().ready.is_none() {
        core.write_step(0);
        core.keep_in_order(&mut keeper, 0);
    }
    let mut segments = core.segments.lock();
    while segments.free() > 1 {
        assert!(segments.give_up(&disk));
    }
    drop(segments);
    disk.set_faults(Faults { bytes_max: disk.used_bytes() + bytes, ..Faults::default() });
    disk
}

fn messages_of(disk: &SimDisk) -> u64 {
    let (.., report) = store::open(Arc::new(disk.clone()), config()).unwrap();
    assert!(report.is_sound(), "{report:?}");
    report.messages
}

#[test]
fn the_segment_that_comes_next_is_free_for_a_start_too() {
    let disk = with_one_free(8192);
    assert_eq!(messages_of(&disk), 1);
}

#[test]
fn a_start_has_the_room_of_a_checkpoint_that_was_not_finished() {
    let disk = with_one_free(8192);
    // It had that of the last free segment.
    let names = Disk::list(&disk).unwrap();
    let ready = names.iter().rfind(|name| name.starts_with("segment-")).unwrap();
    disk.remove(ready).unwrap();
    disk.remove("manifest").unwrap();
    disk.create(crate::keeper::UNFINISHED, config().segment_bytes).unwrap();
    assert_eq!(messages_of(&disk), 1);
}
