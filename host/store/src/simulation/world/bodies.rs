//! Bodies that come in pieces, and messages that refer to them, several to one.

use super::{Message, Model, QUEUES, World};
use crate::{
    Body, BodyWatch, BodyWriter, Group, QueueId, Sync, body::BodyReader, disk::sim::Dice,
    record::op::ExtentRef,
};
use std::sync::Arc;

/// What is known of bodies.
#[derive(Default)]
pub(super) struct Bodies {
    /// Dice of their own: what else happens is as without them.
    dice: Option<Dice>,
    coming: Vec<(BodyWriter, Vec<u8>, bool)>,
    whole: Vec<(Arc<Body>, Arc<Vec<u8>>)>,
}

struct Nobody;

impl BodyWatch for Nobody {
    fn moved(&self) {}
}

impl World {
    /// Something happens to bodies, or nothing.
    pub(super) fn act_with_bodies(&mut self) {
        let seed = self.seed;
        let mut dice = self.bodies.dice.take().unwrap_or_else(|| Dice::new(seed.rotate_left(16) ^ 0xb0d1));
        match dice.below(60) {
            0..2 => self.begin_body(),
            2..8 => self.put_piece(&mut dice),
            8..14 => drop(self.core.body_step()),
            14..18 => self.publish_body(&mut dice),
            18 if !self.bodies.whole.is_empty() => {
                let at = dice.below(self.bodies.whole.len() as u64) as usize;
                self.bodies.whole.swap_remove(at);
            }
            19 if dice.chance(200) => drop(self.bodies.coming.pop()),
            _ => {}
        }
        self.bodies.dice = Some(dice);
        self.take_bodies();
    }

    fn begin_body(&mut self) {
        if self.bodies.coming.len() < 3
            && let Ok(writer) = BodyWriter::begin(&self.core, true, Arc::new(Nobody))
        {
            self.bodies.coming.push((writer, Vec::new(), false));
        }
    }

    fn put_piece(&mut self, dice: &mut Dice) {
        let at = dice.below(self.bodies.coming.len() as u64) as usize;
        let Some((writer, bytes, ended)) = self.bodies.coming.get_mut(at).filter(|(.., ended)| !ended) else {
            return;
        };
        if dice.chance(300) {
            *ended = true;
            return writer.end();
        }
        let piece = vec![dice.below(256) as u8; dice.below(4000) as usize];
        bytes.extend_from_slice(&piece);
        writer.put(&piece);
    }

    fn take_bodies(&mut self) {
        let Self { bodies, seen, .. } = self;
        bodies.coming.retain(|(writer, bytes, _)| match writer.outcome() {
            None => true,
            Some(outcome) => {
                if let Ok(body) = outcome {
                    assert_eq!(body.extent().bytes, bytes.len() as u64);
                    seen.bodies += 1;
                    bodies.whole.push((body, Arc::new(bytes.clone())));
                }
                false
            }
        });
    }

    /// A message that has a body which others may have too.
    fn publish_body(&mut self, dice: &mut Dice) {
        let at = dice.below(self.bodies.whole.len() as u64) as usize;
        let Some((body, content)) = self.bodies.whole.get(at).cloned() else { return };
        let (number, mut group) = (self.group(), Group::default());
        let mut targets = Vec::new();
        for queue in 0..QUEUES {
            if dice.chance(400) {
                let next = self.model.next.entry(QueueId(queue)).or_default();
                targets.push((QueueId(queue), *next));
                *next += 1;
            }
        }
        self.model.next_id += 1;
        let message = Message { body: Some(content), ..Message::new(self.model.next_id, (8, false), number) };
        group.enqueue_body(&[&Model::content(&message)], false, &body, &targets);
        for target in &targets {
            self.model.messages.insert(*target, message.clone());
        }
        self.model.sent.get_mut(&number).unwrap().messages.extend(targets);
        self.send(number, group, Sync::Always);
        self.seen.referring += 1;
    }

    /// What came is there, and reads as it came.
    pub(super) fn look_at_bodies(&self) {
        for (body, content) in &self.bodies.whole {
            let mut read = Vec::new();
            let mut reader = body.open().unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
            while reader.left_bytes() > 0 {
                reader.read(1000, &mut read).unwrap();
            }
            assert_eq!(&read, &**content);
        }
    }

    /// The process ends.
    pub(super) fn forget_bodies(&mut self) {
        (self.bodies.coming, self.bodies.whole) = Default::default();
    }
}

#[test]
fn a_body_that_is_not_what_was_written_is_told_with_its_last_bytes() {
    use crate::{Unreadable, disk::Disk as _, disk::sim::SimDisk};
    let disk = SimDisk::new(1);
    let file = disk.create("extent", 0).unwrap();
    file.write_at(&[7; 3000], 0).unwrap();
    let check = crate::record::check::check(&[7; 3000]);
    let extent = ExtentRef { number: 0, bytes: 3000, check };
    let mut out = Vec::new();
    let mut reader = BodyReader::new(file.clone(), extent);
    reader.skip_to(1500).unwrap();
    reader.read(9000, &mut out).unwrap();
    assert_eq!((out.len(), reader.left_bytes()), (1500, 0));
    disk.damage("extent", 100, 1).unwrap();
    let mut reader = BodyReader::new(file, extent);
    out.clear();
    reader.read(2999, &mut out).unwrap();
    assert!(matches!(reader.read(1, &mut out), Err(Unreadable::Damaged)));
    assert_eq!(out.len(), 2999, "the last bytes are not given");
}

/// What is written of such a body is gone; but whoever publishes is held back, as on any full disk, until there is room.
#[test]
fn without_room_for_a_body_what_grows_is_refused_until_there_is_some() {
    use crate::{
        BodyFailed, Health, Refused,
        disk::sim::{Faults, SimDisk},
        simulation::sync_once,
        store,
    };
    let disk = SimDisk::new(1);
    let (core, mut keeper, _) = store::open(Arc::new(disk.clone()), super::config()).unwrap();
    let come = |bytes: usize| {
        let writer = BodyWriter::begin(&core, true, Arc::new(Nobody)).unwrap();
        writer.put(&vec![7; bytes]);
        writer.end();
        while core.body_step() {}
        writer.outcome().unwrap()
    };
    let mut now_ms = 0;
    let mut work = || {
        for _ in 0..400 {
            now_ms += 20;
            core.write_step(now_ms);
            sync_once(&core, now_ms);
            core.keep_step(&mut keeper, now_ms);
        }
    };
    let body = come(5000).unwrap();
    let mut group = Group::default();
    group.create(QueueId(1));
    group.enqueue_body(&[b"head"], false, &body, &[(QueueId(1), 0)]);
    core.submit(&mut group, Sync::Always, None, 0).unwrap();
    work();
    disk.set_faults(Faults { bytes_max: disk.used_bytes() + 2000, ..Faults::default() });
    assert_eq!(come(5000).err(), Some(BodyFailed::Full));
    work();
    assert_eq!(core.health(), Health::Full);
    assert!(matches!(BodyWriter::begin(&core, true, Arc::new(Nobody)), Err(Refused::Full)));
    group.clear();
    group.enqueue(&[b"more"], false, &[(QueueId(1), 1)]);
    assert_eq!(core.submit(&mut group, Sync::Always, None, 10_000), Err(Refused::Full));
    disk.set_faults(Faults::default());
    work();
    assert_eq!(core.health(), Health::Well);
    come(5000).unwrap();
}

#[test]
fn the_file_of_a_body_that_was_acked_goes_though_nothing_else_is_synced() {
    use crate::{
        Range,
        disk::{Disk as _, sim::SimDisk},
        simulation::sync_once,
        store,
    };
    let disk = SimDisk::new(1);
    let (core, mut keeper, _) = store::open(Arc::new(disk.clone()), super::config()).unwrap();
    let writer = BodyWriter::begin(&core, true, Arc::new(Nobody)).unwrap();
    writer.put(&[7; 5000]);
    writer.end();
    while core.body_step() {}
    let body = writer.outcome().unwrap().unwrap();
    let mut group = Group::default();
    group.create(QueueId(1));
    group.enqueue_body(&[b"head"], false, &body, &[(QueueId(1), 0)]);
    core.submit(&mut group, Sync::Always, None, 0).unwrap();
    drop(body);
    group.clear();
    group.ack(QueueId(1), &[Range { first: 0, count: 1 }]);
    let extents = || disk.list().unwrap().iter().filter(|name| name.starts_with("extent")).count();
    for now_ms in (0..4000).step_by(20) {
        if now_ms == 1000 {
            assert_eq!(extents(), 1, "the record has it");
            core.submit(&mut group, Sync::Ride, None, now_ms).unwrap();
        }
        core.write_step(now_ms);
        sync_once(&core, now_ms);
        core.keep_step(&mut keeper, now_ms);
    }
    assert_eq!(extents(), 0);
}
