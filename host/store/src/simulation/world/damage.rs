//! Damage of more than a checkpoint: a start refuses or says that something is lost, or nothing is.

use super::World;
use crate::{
    Lost, QueueId, Sequence,
    disk::{
        Disk as _,
        sim::{Dice, SimDisk},
    },
    inspect::Look,
    journal::segments::FileName,
};
use std::{collections::BTreeSet, sync::Arc};

/// What a start would find: the messages, how many values, the last batch.
type Found = (BTreeSet<(QueueId, Sequence)>, u64, u64);

fn found(look: &Look) -> Found {
    let index = look.store().core.index.lock();
    let mut messages = BTreeSet::new();
    for (id, queue) in &index.queues {
        queue.each(|sequence, _| {
            messages.insert((*id, sequence));
        });
    }
    (messages, look.report().values, look.report().verdict.last)
}

fn look(disk: &SimDisk) -> Look {
    Look::open(Arc::new(disk.clone())).unwrap()
}

impl World {
    /// Now and then a bit of the latest checkpoint and one of a segment turn over, and back again.
    pub(super) fn look_at_damage(&mut self) {
        // Dice of its own: what else happens is as without it.
        let mut dice = Dice::new(self.seed.rotate_left(16) ^ self.now_ms);
        if !dice.chance(200) {
            return;
        }
        let (whole, names) = (found(&look(&self.disk)), self.disk.list().unwrap());
        let files: Vec<_> = names.iter().filter_map(|name| FileName::parse(name)).collect();
        let checkpoints = files.iter().filter(|file| file.position().is_some());
        let latest =
            checkpoints.max_by_key(|file| (file.position(), matches!(file, FileName::Checkpoint(_))));
        let segments: Vec<_> = files.iter().filter(|file| matches!(file, FileName::Segment(_))).collect();
        let segment = segments.get(dice.below(segments.len() as u64) as usize);
        let (Some(latest), Some(segment)) = (latest, segment) else { return };
        let mut damages = Vec::new();
        for file in [latest, *segment] {
            let name = file.to_string();
            let bytes = self.disk.open(&name).unwrap().len_bytes().unwrap();
            damages.push((name, dice.below(bytes) as usize, 1 << dice.below(8)));
        }
        let turn_over = || {
            damages.iter().for_each(|(name, at, mask)| self.disk.damage(name, *at, *mask).unwrap());
        };
        turn_over();
        let looked = look(&self.disk);
        let (report, verdict) = (looked.report(), &looked.report().verdict);
        let is_told = verdict.refusal.is_some() || verdict.lost != Lost::default();
        // What was never known to be synced cannot be told from the end of the journal.
        let ends = report.cut.is_some() || report.cut_batches > 0 || verdict.last < whole.2;
        let is_same = found(&looked) == whole;
        assert!(is_told || ends || is_same, "seed {}: {damages:?} is not told: {report:?}", self.seed);
        turn_over();
        self.seen.refused += u64::from(verdict.refusal.is_some());
        self.seen.told += u64::from(is_told && verdict.refusal.is_none());
        self.seen.made_up += u64::from(!is_told && is_same);
    }
}
