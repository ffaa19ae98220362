//! The journal's last files go, or lose all that they have: what was confirmed in them is not missed in silence.

use super::World;
use crate::{
    Lost, QueueId, Sequence,
    disk::{
        Disk as _,
        sim::{Dice, SimDisk},
    },
    inspect::Look,
    journal::{manifest::MANIFEST, segments::FileName},
    simulation::model::Safe,
};
use std::{collections::BTreeSet, sync::Arc};

fn there(look: &Look) -> BTreeSet<(QueueId, Sequence)> {
    let index = look.store().core.index.lock();
    let mut messages = BTreeSet::new();
    for (id, queue) in &index.queues {
        queue.each(|sequence, _| {
            messages.insert((*id, sequence));
        });
    }
    messages
}

fn look(disk: &SimDisk) -> Look {
    Look::open(Arc::new(disk.clone())).unwrap()
}

impl World {
    /// Now and then each of the last segments is removed, and is zeros, on a copy of the disk.
    pub(super) fn look_without_ends(&mut self) {
        // Dice of its own: what else happens is as without it.
        let mut dice = Dice::new(self.seed.rotate_left(48) ^ self.now_ms);
        if !dice.chance(60) {
            return;
        }
        let whole = there(&look(&self.disk));
        let mut segments: Vec<_> = self.disk.list().unwrap();
        segments.retain(|name| matches!(FileName::parse(name), Some(FileName::Segment(_))));
        segments.sort();
        for name in segments.iter().rev().take(3) {
            for zeros in [false, true] {
                let disk = self.disk.copy();
                if zeros {
                    let file = disk.open(name).unwrap();
                    file.write_at(&vec![0; file.len_bytes().unwrap() as usize], 0).unwrap();
                } else {
                    disk.remove(name).unwrap();
                }
                // Zeros where nobody had written down yet that there was something; a manifest that could not be written.
                let may_miss = zeros || disk.open(MANIFEST).is_err();
                self.look_at_end(&whole, &look(&disk), (name, may_miss));
            }
        }
    }

    fn look_at_end(&mut self, whole: &BTreeSet<(QueueId, Sequence)>, looked: &Look, what: (&str, bool)) {
        let verdict = &looked.report().verdict;
        let left = there(looked);
        let is_safe = |group| self.model.sent.get(&group).is_some_and(|sent| sent.safe == Safe::Synced);
        let is_lost = |place: &&(QueueId, Sequence)| {
            let message = self.model.messages.get(place);
            message.is_some_and(|message| message.acked_by.is_none() && is_safe(message.group))
        };
        let is_back = |place: &&(QueueId, Sequence)| {
            let acked_by = self.model.messages.get(place).and_then(|message| message.acked_by);
            acked_by.is_some_and(is_safe)
        };
        let misses = whole.difference(&left).find(is_lost).or_else(|| left.difference(whole).find(is_back));
        let is_told = verdict.refusal.is_some() || verdict.lost != Lost::default();
        self.seen.unseen += u64::from(what.1 && misses.is_some() && !is_told);
        assert!(
            is_told || what.1 || misses.is_none(),
            "seed {}: {what:?} is not told, and {misses:?} was confirmed: {:?}",
            self.seed,
            looked.report()
        );
        self.seen.ends += u64::from(is_told && misses.is_some());
    }
}
