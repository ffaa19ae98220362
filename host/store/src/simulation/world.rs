//! The broker, its store and its disk.

mod bodies;
mod damage;
mod ends;
mod full;
mod long;

use super::model::{End, Message, Model, Safe, Seen as SeenMessage, Sent};
use crate::{
    Config, Done, Failed, Group, Problem, QueueId, Range, Reader, Refused, Sequence, Space, Sync,
    disk::{
        Disk as _,
        sim::{Dice, Faults, SimDisk},
    },
    error::{DiskError, OpenError},
    journal::{Core, segments::FileName},
    keeper::Keeper,
    store,
};
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};

const QUEUES: u64 = 4;
const KEYS: u64 = 6;
const SPACE: Space = Space(1);

/// What a run met.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) confirmed: u64,
    pub(super) crashes: u64,
    pub(super) closes: u64,
    pub(super) rescues: u64,
    pub(super) moved: u64,
    pub(super) refused_full: u64,
    pub(super) early: u64,
    pub(super) extents: u64,
    /// Bodies that came in pieces, and messages that referred to them.
    pub(super) bodies: u64,
    pub(super) referring: u64,
    pub(super) recycled: u64,
    pub(super) filled: u64,
    pub(super) scrubbed: u64,
    pub(super) damaged: u64,
    /// Where a checkpoint and the journal were damaged: a start refused, told what is lost, lost nothing.
    pub(super) refused: u64,
    pub(super) told: u64,
    pub(super) made_up: u64,
    /// Where the last files were lost: it was told, it was not.
    pub(super) ends: u64,
    pub(super) unseen: u64,
    /// What failed on a full disk waited for room that somebody made.
    pub(super) waited: u64,
    /// Groups with a segment of their own that were taken, and of those that nobody was told of before a crash: there, not
    /// there.
    pub(super) long: u64,
    pub(super) long_there: u64,
    pub(super) long_gone: u64,
    /// Starts that had no room to write again what may not have been on disk.
    pub(super) short: u64,
}

impl Seen {
    pub(super) fn add(&mut self, other: Self) {
        self.confirmed += other.confirmed;
        self.crashes += other.crashes;
        self.closes += other.closes;
        self.rescues += other.rescues;
        self.moved += other.moved;
        self.refused_full += other.refused_full;
        self.early += other.early;
        self.extents += other.extents;
        self.bodies += other.bodies;
        self.referring += other.referring;
        self.recycled += other.recycled;
        self.filled += other.filled;
        self.scrubbed += other.scrubbed;
        self.damaged += other.damaged;
        self.refused += other.refused;
        self.told += other.told;
        self.made_up += other.made_up;
        self.ends += other.ends;
        self.unseen += other.unseen;
        self.waited += other.waited;
        self.long += other.long;
        self.long_there += other.long_there;
        self.long_gone += other.long_gone;
        self.short += other.short;
    }
}

#[derive(Default)]
struct Told(Mutex<Vec<(u64, Result<(), Failed>)>>);

impl Done for Told {
    fn done(&self, token: u64, outcome: Result<(), Failed>) {
        self.0.lock().push((token, outcome));
    }
}

/// A group that waits at some worker.
struct Held {
    number: u64,
    group: Group,
    sync: Sync,
}

pub(super) struct World {
    seed: u64,
    dice: Dice,
    /// When there is a long group: what else happens is as without it.
    of_long: Dice,
    /// Long groups of this run.
    long: Vec<u64>,
    pub(super) disk: SimDisk,
    core: Arc<Core>,
    keeper: Keeper,
    told: Arc<Told>,
    /// How each group asked to be kept.
    syncs: BTreeMap<u64, Sync>,
    held: Vec<Held>,
    bodies: bodies::Bodies,
    model: Model,
    now_ms: u64,
    seen: Seen,
}

/// Small enough to meet every end of a file.
pub(super) fn config() -> Config {
    Config {
        segment_bytes: 64 * 1024,
        group_bytes_max: 1 << 20,
        own_segment_bytes: 32 * 1024,
        batch_bytes: 16 * 1024,
        pending_bytes_max: 48 * 1024,
        reserve_segments: 2,
        checkpoint_bytes: 96 * 1024,
        scrub_bytes_per_s: 1 << 20,
        scrub_pause_ms: 500,
        ride_ms: 5,
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed ^ 0x5eed);
        let (core, keeper, _) = store::open(Arc::new(disk.clone()), config()).unwrap();
        let mut world = Self {
            seed,
            dice: Dice::new(seed),
            of_long: Dice::new(seed.rotate_left(24) ^ 0x10_a6),
            long: Vec::new(),
            disk,
            core,
            keeper,
            told: Arc::default(),
            syncs: BTreeMap::new(),
            held: Vec::new(),
            bodies: bodies::Bodies::default(),
            model: Model { next_group: 1, ..Model::default() },
            now_ms: 0,
            seen: Seen::default(),
        };
        let mut group = Group::default();
        (0..QUEUES).for_each(|queue| group.create(QueueId(queue)));
        world.core.submit(&mut group, Sync::Always, None, 0).unwrap();
        world.settle();
        world
    }

    pub(super) fn run(mut self) -> Seen {
        for _ in 0..3 + self.dice.below(4) {
            self.set_faults();
            for _ in 0..50 + self.dice.below(300) {
                self.act();
            }
            self.end(0);
        }
        self.drain();
        self.seen
    }

    fn set_faults(&mut self) {
        let dice = &mut self.dice;
        let mut faults = Faults { torn: 200, ..Faults::default() };
        if dice.chance(300) {
            faults.sync = dice.below(200) as u32;
        }
        if dice.chance(200) {
            faults.write = dice.below(60) as u32;
        }
        if dice.chance(200) {
            faults.names = dice.below(100) as u32;
        }
        if dice.chance(300) {
            faults.bytes_max = self.disk.used_bytes() + 64 * 1024 * (1 + dice.below(6));
        }
        self.disk.set_faults(faults);
    }

    fn act(&mut self) {
        self.now_ms += self.dice.below(3);
        if self.of_long.chance(6) {
            self.publish_long();
        }
        match self.dice.below(100) {
            0..30 => self.publish(),
            30..45 => self.ack(),
            45..50 => self.deliver(),
            50..55 => self.set_value(),
            55..60 => self.release(),
            60..75 => drop(self.core.write_step(self.now_ms)),
            75..85 => self.sync(),
            85..97 => drop(self.core.keep_step(&mut self.keeper, self.now_ms)),
            _ => drop(self.core.large_step(self.now_ms)),
        }
        self.act_with_bodies();
        self.hear();
    }

    fn group(&mut self) -> u64 {
        self.model.next_group += 1;
        let number = self.model.next_group;
        self.model.sent.insert(number, Sent::new(Safe::Unknown));
        number
    }

    fn any_sync(&mut self) -> Sync {
        match self.dice.below(10) {
            0 => Sync::Never,
            1 => Sync::Interval(10),
            _ => Sync::Always,
        }
    }

    /// A few messages to a few queues, perhaps with an ack: a transaction, a dead letter.
    fn publish(&mut self) {
        let (number, mut group) = (self.group(), Group::default());
        for _ in 0..1 + self.dice.below(3) {
            let mut targets = Vec::new();
            for queue in 0..QUEUES {
                if self.dice.chance(400) {
                    let next = self.model.next.entry(QueueId(queue)).or_default();
                    targets.push((QueueId(queue), *next));
                    *next += 1 + u64::from(self.dice.chance(50)) * self.dice.below(5000);
                }
            }
            self.put(&mut group, number, &targets);
        }
        if self.dice.chance(200) {
            self.ack_some(&mut group, number);
        }
        let sync = self.any_sync();
        if self.dice.chance(250) {
            self.held.push(Held { number, group, sync });
        } else {
            self.send(number, group, sync);
        }
    }

    fn put(&mut self, group: &mut Group, number: u64, targets: &[(QueueId, Sequence)]) {
        self.model.next_id += 1;
        let large = self.dice.chance(20);
        let bytes_max = if self.dice.chance(100) { 9000 } else { 1200 };
        let bytes = self.dice.below(bytes_max) as usize;
        let message = Message::new(self.model.next_id, (bytes, large), number);
        self.put_message(group, message, targets);
    }

    fn put_message(&mut self, group: &mut Group, message: Message, targets: &[(QueueId, Sequence)]) {
        let content = Model::content(&message);
        let number = message.group;
        if message.large {
            let extent = self.core.next_extent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            group.enqueue_apart(&[&content[..4]], false, (extent, Arc::new(content.clone())), targets);
            self.seen.extents += 1;
        } else {
            group.enqueue(&[&content[..4], &content[4..]], false, targets);
        }
        for target in targets {
            self.model.messages.insert(*target, message.clone());
        }
        self.model.sent.get_mut(&number).unwrap().messages.extend(targets);
    }

    fn send(&mut self, number: u64, mut group: Group, sync: Sync) {
        let told: Arc<dyn Done> = self.told.clone();
        self.syncs.insert(number, sync);
        if let Err(refused) = self.core.submit(&mut group, sync, Some((&told, number)), self.now_ms) {
            self.seen.refused_full += u64::from(refused == Refused::Full);
            self.forget(number);
        }
    }

    /// What the disk does from now on, beside having an end.
    fn set_end_faults(&self, bytes_max: u64) {
        self.disk.set_faults(Faults { bytes_max, ..Faults::default() });
    }

    /// A group is not to be.
    fn forget(&mut self, number: u64) {
        let sent = self.model.sent.get_mut(&number).unwrap();
        sent.failed = true;
        for place in &sent.acks {
            if let Some(message) = self.model.messages.get_mut(place) {
                message.acked_by = None;
            }
        }
        let messages = core::mem::take(&mut sent.messages);
        // Those that somebody acked early stay known: the ack is under way.
        self.model.messages.retain(|place, message| !messages.contains(place) || message.acked_by.is_some());
    }

    fn ack(&mut self) {
        let (number, mut group) = (self.group(), Group::default());
        self.ack_some(&mut group, number);
        let sync = if self.dice.chance(200) { Sync::Always } else { Sync::Ride };
        self.send(number, group, sync);
    }

    fn ack_some(&mut self, group: &mut Group, number: u64) {
        let queue = QueueId(self.dice.below(QUEUES));
        let unacked = self.model.messages.range((queue, 0)..=(queue, u64::MAX));
        let unacked = unacked.filter(|(_, message)| message.acked_by.is_none() && message.group != number);
        let places: Vec<_> = unacked.map(|(place, _)| *place).collect();
        let from = if self.dice.chance(700) { 0 } else { self.dice.below(places.len() as u64) as usize };
        let count = 1 + self.dice.below(12) as usize;
        let mut ranges: Vec<Range> = Vec::new();
        for place in places.iter().skip(from).take(count) {
            let message = self.model.messages.get_mut(place).unwrap();
            message.acked_by = Some(number);
            self.seen.early += u64::from(self.held.iter().any(|held| held.number == message.group));
            self.model.sent.get_mut(&number).unwrap().acks.push(*place);
            match ranges.last_mut() {
                Some(last) if last.first + u64::from(last.count) == place.1 => last.count += 1,
                _ => ranges.push(Range { first: place.1, count: 1 }),
            }
        }
        group.ack(queue, &ranges);
    }

    fn deliver(&mut self) {
        let (number, mut group) = (self.group(), Group::default());
        let queue = QueueId(self.dice.below(QUEUES));
        let held: Vec<u64> = self.held.iter().map(|held| held.number).collect();
        let messages = self.model.messages.range_mut((queue, 0)..=(queue, u64::MAX));
        let there =
            messages.filter(|(_, message)| message.acked_by.is_none() && !held.contains(&message.group));
        let mut ranges = Vec::new();
        for ((_, first), message) in there.take(5) {
            // A large body may still be on its way.
            if !message.large && self.model.sent[&message.group].safe > Safe::Unknown {
                message.delivered += 1;
                ranges.push(Range { first: *first, count: 1 });
            }
        }
        group.delivered(queue, &ranges);
        let (told, places) =
            (self.told.clone() as Arc<dyn Done>, ranges.iter().map(|range| (queue, range.first)));
        self.model.sent.get_mut(&number).unwrap().deliveries = places.collect();
        if self.core.submit(&mut group, Sync::Ride, Some((&told, number)), self.now_ms).is_err() {
            for range in ranges {
                self.model.messages.get_mut(&(queue, range.first)).unwrap().delivered -= 1;
            }
            self.model.sent.remove(&number);
        }
    }

    fn set_value(&mut self) {
        let (number, mut group) = (self.group(), Group::default());
        let key = self.dice.below(KEYS).to_le_bytes();
        let value = if self.dice.chance(700) { Some(number) } else { None };
        match value {
            Some(value) => group.set(SPACE, &key, &value.to_le_bytes(), 0),
            None => group.unset(SPACE, &key),
        }
        let sync = self.any_sync();
        let history = self.model.values.entry(key.to_vec()).or_insert_with(|| vec![(0, None)]);
        history.push((number, value));
        self.send(number, group, sync);
        if self.model.sent[&number].failed {
            self.model.values.get_mut(key.as_slice()).unwrap().pop();
        }
    }

    fn release(&mut self) {
        if !self.held.is_empty() {
            let at = self.dice.below(self.held.len() as u64) as usize;
            let Held { number, group, sync } = self.held.swap_remove(at);
            self.send(number, group, sync);
        }
    }

    /// A sync, with writes while it runs.
    fn sync(&mut self) {
        let Some(job) = self.core.sync_begin(self.now_ms) else { return };
        if self.dice.chance(300) {
            self.core.write_step(self.now_ms);
        }
        let outcome: Result<(), DiskError> = job.file.sync();
        if self.dice.chance(300) {
            self.core.write_step(self.now_ms);
        }
        self.core.sync_end(&job, outcome, &mut Vec::new());
    }

    fn hear(&mut self) {
        let told = core::mem::take(&mut *self.told.0.lock());
        for (number, outcome) in told {
            match outcome {
                Ok(()) => {
                    let always = self.syncs.get(&number) == Some(&Sync::Always);
                    let safe = if always { Safe::Synced } else { Safe::Written };
                    let sent = self.model.sent.get_mut(&number).unwrap();
                    assert_eq!(sent.safe, Safe::Unknown, "group {number} was told twice");
                    sent.safe = safe;
                    for place in &sent.deliveries {
                        if let Some(message) = self.model.messages.get_mut(place) {
                            message.counted += 1;
                        }
                    }
                    self.seen.confirmed += 1;
                }
                Err(Failed::Closed) => {}
                Err(Failed::Full | Failed::Disk) => self.forget(number),
            }
        }
    }

    /// Ends a run and begins another, on a disk that has room for so many bytes, or no end.
    fn end(&mut self, bytes_max: u64) {
        let end = match self.dice.below(10) {
            0..2 => End::Closed,
            2..5 => End::Killed,
            _ => End::PowerLost,
        };
        if end == End::Closed {
            self.set_end_faults(bytes_max);
            while let Some(Held { number, group, sync }) = self.held.pop() {
                self.send(number, group, sync);
            }
            store::close(&self.core, core::mem::take(&mut self.keeper));
            self.seen.closes += 1;
        } else {
            self.seen.crashes += 1;
        }
        self.hear();
        self.look_at_bodies();
        self.forget_bodies();
        self.look_back();
        self.held.clear();
        if end == End::PowerLost {
            self.disk.crash();
        }
        self.set_end_faults(bytes_max);
        self.look_at_damage();
        self.look_without_ends();
        let damaged = self.damage_checkpoint();
        self.open(end, damaged);
    }

    /// Now and then a bit of the last checkpoint turns over, if there are two.
    fn damage_checkpoint(&mut self) -> bool {
        // Dice of its own: what else happens is as without it.
        let mut dice = Dice::new(self.seed.rotate_left(32) ^ self.now_ms);
        let names = self.disk.list().unwrap();
        let files = names.into_iter().filter_map(|name| FileName::parse(&name));
        let mut files: Vec<_> = files.filter(|file| file.position().is_some()).collect();
        files.sort_by_key(|file| (file.position(), matches!(file, FileName::Checkpoint(_))));
        let damages = files.len() > 1 && dice.chance(200);
        if let Some(last) = files.last().filter(|_| damages) {
            let name = last.to_string();
            let bytes = self.disk.open(&name).unwrap().len_bytes().unwrap();
            self.disk.damage(&name, dice.below(bytes) as usize, 1 << dice.below(8)).unwrap();
            self.seen.damaged += 1;
        }
        damages
    }

    fn look_back(&mut self) {
        let stat = store::stat(&self.core);
        assert_eq!(self.core.scrubbed.lock().report().damaged, [], "seed {}: nothing is damaged", self.seed);
        self.seen.scrubbed += stat.scrubbed_messages;
        self.seen.rescues += stat.rescues;
        self.seen.moved += stat.moved_bytes / 1024;
        self.seen.recycled += self.core.segments.lock().next_spare.saturating_sub(3);
    }

    fn open(&mut self, end: End, damaged: bool) {
        let mut opened = store::open(Arc::new(self.disk.clone()), config());
        let mut damaged_now = damaged;
        if let Err(OpenError::Full { bytes }) = opened {
            // Somebody makes room. What was found to be damaged is aside by then.
            let faults = self.disk.faults();
            self.set_end_faults(self.disk.used_bytes() + bytes + 2 * config().segment_bytes);
            opened = store::open(Arc::new(self.disk.clone()), config());
            self.disk.set_faults(faults);
            self.seen.short += 1;
            damaged_now = false;
        }
        let (core, keeper, report) = opened.unwrap();
        let is_damage = |problem: &Problem| matches!(problem, Problem::CheckpointDamaged { .. });
        let is_known =
            report.problem_count == u64::from(damaged_now) && report.problems.iter().all(is_damage);
        assert!(is_known, "seed {}: {report:?}", self.seed);
        assert_eq!(report.clean, end == End::Closed, "{report:?}");
        (self.core, self.keeper) = (core, keeper);
        self.syncs.clear();
        let mut found = BTreeMap::new();
        for queue in 0..QUEUES {
            self.read(QueueId(queue), &mut found);
        }
        let mut values = BTreeMap::new();
        for (key, value) in self.core.index.lock().values.of(SPACE) {
            values.insert(key.to_vec(), u64::from_le_bytes((*value.bytes).try_into().unwrap()));
        }
        // What the older one has counts as delivered before, as after a crash.
        let end = if damaged && end == End::Closed { End::Killed } else { end };
        self.count_long(&found, end);
        self.model.check(&found, &values, end);
    }

    fn read(&mut self, queue: QueueId, found: &mut BTreeMap<(QueueId, Sequence), SeenMessage>) {
        let (mut reader, mut from, mut last) = (Reader::default(), Some(0), None);
        while let Some(next) = from {
            from = reader.read(&self.core, (queue, next), 5000, &mut |item| {
                assert!(last < Some(item.sequence), "messages come in order");
                last = Some(item.sequence);
                let place = (queue, item.sequence);
                let message = self.model.messages.get(&place);
                let message = message.unwrap_or_else(|| panic!("{place:?} was never published"));
                let content = Model::content(message);
                let payload = item.payload.unwrap_or_else(|| {
                    let index = self.core.index.lock();
                    let entry = index.queues.get(&queue).and_then(|queue| queue.get(item.sequence));
                    panic!("{place:?} cannot be read: {entry:?} {message:?} {:?}", index.held.extents)
                });
                if let Some(body) = &message.body {
                    assert_eq!((payload, item.body), (&content[..], Some(&body[..])), "{place:?}");
                } else if message.large {
                    assert_eq!((payload, item.body), (&content[..4], Some(&content[..])), "{place:?}");
                } else {
                    assert_eq!((payload, item.body), (&content[..], None), "{place:?}");
                }
                let seen = SeenMessage { redelivered: item.redelivered, deliveries: item.deliveries };
                found.insert(place, seen);
            });
        }
    }

    /// Does all there is to do.
    fn settle(&mut self) {
        for _ in 0..200 {
            self.now_ms += 10;
            let mut did = self.core.large_step(self.now_ms) | self.core.body_step();
            did |= self.core.write_step(self.now_ms);
            self.core.flight.lock().due_ms = Some(0);
            if let Some(job) = self.core.sync_begin(self.now_ms) {
                let outcome = job.file.sync();
                self.core.sync_end(&job, outcome, &mut Vec::new());
                did = true;
            }
            did |= self.core.keep_step(&mut self.keeper, self.now_ms);
            if !did {
                break;
            }
        }
        self.hear();
    }

    /// Once everything is acked, nothing of it takes space any more.
    fn drain(&mut self) {
        self.disk.set_faults(Faults::default());
        self.forget_bodies();
        for queue in 0..QUEUES {
            let places = self.model.messages.range((QueueId(queue), 0)..=(QueueId(queue), u64::MAX));
            let ranges: Vec<_> = places.map(|((_, first), _)| Range { first: *first, count: 1 }).collect();
            let mut group = Group::default();
            group.ack(QueueId(queue), &ranges);
            self.core.submit(&mut group, Sync::Always, None, self.now_ms).unwrap();
            self.settle();
        }
        for _ in 0..2 {
            let mut group = Group::default();
            group.unset(SPACE, b"nothing");
            self.core.submit(&mut group, Sync::Always, None, self.now_ms).unwrap();
            self.keeper.save_now = true;
            self.settle();
        }
        let stat = store::stat(&self.core);
        assert_eq!((stat.messages, stat.live_bytes), (0, 0));
        let files = self.disk.list().unwrap();
        let kept =
            files.iter().filter(|name| name.starts_with("segment") || name.starts_with("extent")).count();
        assert!(kept <= 5, "seed {}: {files:?}", self.seed);
        let extents = files.iter().filter(|name| name.starts_with("extent")).count();
        assert_eq!(extents, 0, "seed {}: {files:?}", self.seed);
    }
}
