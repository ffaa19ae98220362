//! A disk that fills up: acks are taken all the while, and it serves again.

use super::{QUEUES, Seen, World};
use crate::{Group, Health, QueueId, Range, Refused, Sync, disk::sim::Faults, journal::own::own_bytes};

/// So many rounds of work are enough for anything that can happen at all.
const ENOUGH: usize = 4000;

impl World {
    pub(in super::super) fn run_full(mut self) -> Seen {
        for _ in 0..1 + self.dice.below(3) {
            // There is room for the reserve; a young store has not taken it yet.
            self.settle();
            // Half a segment is for checkpoints, which are not all of the same length.
            let half = self.config_bytes() / 2;
            let least = self.disk.used_bytes().max(16 * half);
            let room = least + half + 2 * half * self.dice.below(12);
            self.fill(room);
            if self.dice.chance(300) {
                self.end(room);
                self.fill(room);
            }
            self.ack_on_full_disk(room);
            if self.dice.chance(300) {
                self.end(room);
            }
            self.recover(room);
            self.serve();
            if self.dice.chance(500) {
                self.end(room.max(self.disk.used_bytes()));
            }
            self.seen.filled += 1;
        }
        self.end(0);
        self.drain();
        self.seen
    }

    fn config_bytes(&self) -> u64 {
        super::config().segment_bytes
    }

    /// Publishes until there is no more room, with or without other faults.
    fn fill(&mut self, bytes_max: u64) {
        let mut faults = Faults { bytes_max, torn: 200, ..Faults::default() };
        if self.dice.chance(200) {
            faults.sync = self.dice.below(100) as u32;
        }
        if self.dice.chance(200) {
            faults.names = self.dice.below(100) as u32;
        }
        if self.dice.chance(200) {
            faults.write = self.dice.below(40) as u32;
        }
        self.disk.set_faults(faults);
        for step in 0..20_000 {
            if step == 15_000 && self.core.flight.lock().failed {
                self.make_room_for_failed();
            }
            if self.of_long.chance(6) {
                self.publish_long();
            }
            match self.dice.below(100) {
                0..40 => self.publish(),
                40..42 => self.ack(),
                42..44 => self.deliver(),
                44..48 => self.set_value(),
                48..52 => self.release(),
                _ => self.work_once(),
            }
            self.hear();
            if self.core.room.is_full() {
                break;
            }
        }
        // While a large body waits for room the rest may have some.
        assert!(self.core.room.refuses(), "seed {}: it is never full", self.seed);
        self.set_end_faults(bytes_max);
    }

    /// A step of some thread.
    fn work_once(&mut self) {
        self.now_ms += self.dice.below(20);
        match self.dice.below(4) {
            0 => drop(self.core.write_step(self.now_ms)),
            1 => self.sync(),
            2 => drop(self.core.keep_step(&mut self.keeper, self.now_ms)),
            _ => drop(self.core.large_step(self.now_ms)),
        }
    }

    /// Works until something is so. Half way what fails stops to fail; there is no more room for that. But where what
    /// failed waits for room, to be written to another file, somebody makes some.
    fn work_until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        for step in 0..ENOUGH {
            if is_so(self) {
                return;
            }
            if step == ENOUGH / 2 {
                self.set_end_faults(self.disk.faults().bytes_max);
            }
            if step == ENOUGH / 4 * 3 && self.core.flight.lock().failed {
                self.make_room_for_failed();
            }
            self.work_once();
            self.hear();
        }
        let (stat, flight) = (crate::store::stat(&self.core), self.core.flight.lock());
        let segments = self.core.segments.lock();
        panic!(
            "seed {}: not in the end: {what}; {:?} {stat:?} free {} of {} reserve {} room {} flight {} files {:?} {:?}",
            self.seed,
            self.core.health(),
            segments.free(),
            self.core.enough(&segments),
            self.core.reserve(&segments),
            self.core.room.of_checkpoints(),
            flight.batches.len(),
            self.disk.used_bytes(),
            crate::disk::Disk::list(&self.disk),
        );
    }

    /// Somebody makes room for what failed and waits for it.
    fn make_room_for_failed(&mut self) {
        let flight = self.core.flight.lock();
        let needed = self.core.needed(&flight, None) + self.core.room.of_checkpoints();
        let more = needed as u64 * self.config_bytes() + own_bytes(&flight);
        drop(flight);
        self.set_end_faults(self.disk.faults().bytes_max + more);
        self.seen.waited += 1;
    }

    /// Acks one by one, each written alone; what grows is tried all the while.
    fn ack_on_full_disk(&mut self, bytes_max: u64) {
        if self.dice.chance(300) {
            // Whoever else uses the disk takes what is left.
            self.set_end_faults(self.disk.used_bytes());
        } else if self.dice.chance(200) {
            let (sync, write) = (self.dice.below(300) as u32, self.dice.below(100) as u32);
            self.disk.set_faults(Faults { sync, write, bytes_max, ..Faults::default() });
        }
        for _ in 0..20 + self.dice.below(200) {
            let (number, mut group) = (self.group(), Group::default());
            self.ack_some(&mut group, number);
            if self.dice.chance(100) {
                group.unset(super::SPACE, b"nothing");
            }
            self.must_take(number, group);
            if self.dice.chance(100) {
                self.publish();
            }
            if self.dice.chance(900) {
                self.work_until("an ack is synced", |world| {
                    world.model.sent[&number].safe > super::Safe::Unknown
                });
            }
        }
    }

    /// What takes away is never refused for good.
    fn must_take(&mut self, number: u64, mut group: Group) {
        assert!(!group.grows());
        let told: std::sync::Arc<dyn crate::Done> = self.told.clone();
        self.syncs.insert(number, Sync::Always);
        self.work_until("an ack is taken", |world| {
            match world.core.submit(&mut group, Sync::Always, Some((&told, number)), world.now_ms) {
                Ok(()) => true,
                Err(refused) => {
                    assert_eq!(refused, Refused::Behind, "seed {}", world.seed);
                    false
                }
            }
        });
    }

    /// Room comes, by acks or otherwise; then it serves.
    fn recover(&mut self, bytes_max: u64) {
        if self.dice.chance(512) {
            self.set_end_faults(bytes_max);
            self.ack_all();
        } else {
            self.set_end_faults(self.disk.used_bytes() + 10 * self.config_bytes());
        }
        // After a start it has to find out first.
        self.settle();
        self.work_until("it is well", |world| world.core.health() == Health::Well);
    }

    fn ack_all(&mut self) {
        while !self.held.is_empty() {
            self.release();
        }
        for queue in 0..QUEUES {
            let (number, mut group) = (self.group(), Group::default());
            let of_queue = self.model.messages.range_mut((QueueId(queue), 0)..=(QueueId(queue), u64::MAX));
            let mut ranges = Vec::new();
            for (place, message) in of_queue {
                if message.acked_by.is_none() {
                    message.acked_by = Some(number);
                    self.model.sent.get_mut(&number).unwrap().acks.push(*place);
                    ranges.push(Range { first: place.1, count: 1 });
                }
            }
            group.ack(QueueId(queue), &ranges);
            self.must_take(number, group);
        }
    }

    /// What grows is taken again: as much as a segment has; where the store has next to nothing, an eighth of that.
    fn serve(&mut self) {
        let most = self.config_bytes() / if self.core.is_young() { 16 } else { 2 };
        let mut bytes = 0;
        while bytes < most {
            let (number, mut group) = (self.group(), Group::default());
            let queue = QueueId(self.dice.below(QUEUES));
            let next = self.model.next.entry(queue).or_default();
            let place = (queue, *next);
            *next += 1;
            self.put(&mut group, number, &[place]);
            bytes += group.len_bytes() as u64 + 4096;
            let told: std::sync::Arc<dyn crate::Done> = self.told.clone();
            self.syncs.insert(number, Sync::Always);
            self.work_until("what grows is taken", |world| {
                match world.core.submit(&mut group, Sync::Always, Some((&told, number)), world.now_ms) {
                    Ok(()) => true,
                    Err(refused) => {
                        assert_eq!(refused, Refused::Behind, "seed {}", world.seed);
                        false
                    }
                }
            });
            self.work_until("what grows is safe", |world| {
                let sent = &world.model.sent[&number];
                assert!(!sent.failed, "seed {}", world.seed);
                sent.safe > super::Safe::Unknown
            });
        }
    }
}
