//! A disk that gets full and is emptied again, with the steps of the threads in any order.

use super::{Told, world};
use crate::{
    Config, Done, Group, Health, QueueId, Range, Refused, Sync,
    disk::sim::{Dice, Faults, SimDisk},
    journal::{Core, sync::SyncJob},
    keeper::Keeper,
    record::BLOCK_BYTES,
    store,
};
use std::sync::Arc;

const QUEUE: QueueId = QueueId(1);

/// A store on a disk of a few segments.
struct Full {
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
}

impl Full {
    fn new(seed: u64, bytes_max: u64) -> Self {
        let config = Config {
            own_segment_bytes: 16 * 1024,
            batch_bytes: 8 * 1024,
            pending_bytes_max: 64 * 1024,
            reserve_segments: 1,
            checkpoint_bytes: 256 * 1024,
            ..world::config()
        };
        let disk = SimDisk::new(seed);
        disk.set_faults(Faults { bytes_max, ..Faults::default() });
        let (core, keeper, _) = store::open(Arc::new(disk), config).unwrap();
        let mut full = Self {
            core,
            keeper,
            dice: Dice::new(seed),
            told: Arc::default(),
            turn: 0,
            turns: 3 + seed % 16,
            burst: 1,
            now_ms: 0,
            syncing: None,
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
            0 => _ = self.core.write_step(self.now_ms),
            1 => self.sync(),
            2 => _ = self.core.keep_in_order(&mut self.keeper, self.now_ms),
            turn if turn % 2 == 0 => _ = self.core.write_step(self.now_ms),
            _ => self.sync(),
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

    /// Hands over, and has steps taken until it is on disk.
    fn commit(&mut self, group: &mut Group) -> Result<(), Refused> {
        let done: Arc<dyn Done> = self.told.clone();
        self.core.submit(group, Sync::Always, Some((&done, 0)), self.now_ms)?;
        group.clear();
        let mut left = 10_000;
        while self.told.0.lock().pop().is_none() {
            self.step();
            left -= 1;
            assert!(left > 0, "it waits for ever: {:?}", store::stat(&self.core));
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
}

/// Acks are taken one by one, however few segments there are and whatever is copied forward meanwhile.
#[test]
fn a_full_disk_takes_each_ack_in_whatever_order_threads_run() {
    for seed in 0..400 {
        let quarters = 21 + seed % 35;
        let mut full = Full::new(seed, quarters * world::config().segment_bytes / 4);
        let mut next = 0;
        while full.publish(next) == Ok(()) {
            next += 1;
            assert!(next < 10_000, "seed {seed}: it is never full");
        }
        assert_eq!(full.core.health(), Health::Full, "seed {seed}");
        let mut group = Group::default();
        for first in 0..next {
            group.ack(QUEUE, &[Range { first, count: 1 }]);
            assert_eq!(full.commit(&mut group), Ok(()), "seed {seed}");
        }
        let mut left = 10_000;
        while full.core.health() != Health::Well {
            full.step();
            left -= 1;
            assert!(left > 0, "seed {seed}: it does not serve again");
        }
        // An eighth of a segment, as it has nothing, where each takes a block.
        let more = world::config().segment_bytes / 8 / BLOCK_BYTES;
        for number in next..next + more {
            assert_eq!(full.publish(number), Ok(()), "seed {seed}: {} of {more}", number - next);
        }
    }
}
