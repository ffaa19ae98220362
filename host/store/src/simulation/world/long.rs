//! Groups that are longer than what segments are shared by.

use super::{QUEUES, World};
use crate::{
    Group, QueueId, Sequence, Sync,
    simulation::model::{End, Message, Safe, Seen},
};
use std::collections::BTreeMap;

impl World {
    /// A transaction that is longer than what segments are shared by, with acks.
    pub(super) fn publish_long(&mut self) {
        let (number, mut group) = (self.group(), Group::default());
        for _ in 0..8 + self.of_long.below(12) {
            let queue = QueueId(self.of_long.below(QUEUES));
            let next = self.model.next.entry(queue).or_default();
            let place = (queue, *next);
            *next += 1;
            self.model.next_id += 1;
            let bytes = 5000 + self.of_long.below(5000) as usize;
            let message = Message::new(self.model.next_id, (bytes, self.of_long.chance(20)), number);
            self.put_message(&mut group, message, &[place]);
        }
        if self.of_long.chance(512) {
            self.ack_some(&mut group, number);
        }
        let before = self.seen.refused_full;
        self.send(number, group, Sync::Always);
        if !self.model.sent[&number].failed {
            self.seen.long += 1;
            self.long.push(number);
        } else {
            self.seen.refused_full = before;
        }
    }

    /// What became of those that nobody was told of.
    pub(super) fn count_long(&mut self, found: &BTreeMap<(QueueId, Sequence), Seen>, end: End) {
        for number in core::mem::take(&mut self.long) {
            let sent = &self.model.sent[&number];
            if sent.safe == Safe::Unknown && end != End::Closed {
                let is_there = sent.messages.iter().any(|place| found.contains_key(place));
                self.seen.long_there += u64::from(is_there);
                self.seen.long_gone += u64::from(!is_there);
            }
        }
    }
}
