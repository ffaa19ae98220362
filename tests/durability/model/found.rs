//! What is there after a start, against what must be there, may be, and must not be.

use super::{Answer, Copy, DEAD, End, Got, Model, Order, QUEUES, UNIQUE, WORK};
use std::collections::{BTreeMap, BTreeSet};

impl Model {
    /// The broker was started again.
    pub(crate) fn begin(&mut self) {
        self.life += 1;
        self.events = 0;
        self.stopping = false;
        for copy in self.copies.values_mut() {
            copy.out = false;
        }
    }

    /// Judges all that is in the queues after a start, before anybody does anything: for each queue, in order.
    pub(crate) fn found(&mut self, end: End, queues: &[Vec<Got>]) {
        let mut places = BTreeSet::new();
        for (queue, messages) in queues.iter().enumerate() {
            let mut order = Order::default();
            for got in messages {
                self.tally.found += 1;
                if !places.insert((queue, got.id)) {
                    self.violate(format!("message {} is twice in {}: {got:?}", got.id, QUEUES[queue]));
                }
                self.found_one(end, &mut order, queue, got);
            }
        }
        self.backlog = places.len() as i64;
        self.settle_dead_letters(&places);
        self.settle_uniques(&places);
        let open = self.copies.iter().filter(|(_, copy)| !copy.gone);
        let open: BTreeSet<u64> = open.map(|((_, id), _)| *id).collect();
        for id in open {
            self.settle_message(id, &places);
        }
    }

    fn found_one(&mut self, end: End, order: &mut Order, queue: usize, got: &Got) {
        let Some(copy) = self.known(queue, got) else { return };
        let known = &self.messages[&got.id];
        let mut wrong = Vec::new();
        if copy.gone {
            wrong.push("is back, though its ack was safe or it was not there before");
        }
        if !known.message.persistent {
            wrong.push("is there, though it is transient");
        }
        if end == End::Killed && !got.redelivered && !known.may_be_held(&copy) {
            wrong.push("is not marked as redelivered");
        }
        if known.message.due_ms.is_some_and(|due_ms| got.at_ms + 1 < due_ms) {
            wrong.push("came before its time");
        }
        let is_in_order = known.message.due_ms.is_none() && queue != DEAD;
        let publisher = known.message.publisher;
        if is_in_order && order.insert(publisher, got.id).is_some_and(|last| last > got.id) {
            wrong.push("came after a later one of its channel");
        }
        for wrong in wrong {
            let place = format!("message {} in {}", got.id, QUEUES[queue]);
            self.violate(format!("{place} {wrong}: {got:?} {copy:?} {:?}", self.messages[&got.id]));
        }
        let life = self.life;
        let copy = self.copies.get_mut(&(queue, got.id)).unwrap();
        if copy.acked {
            self.tally.acks_lost += 1;
        }
        copy.deliveries += 1;
        copy.seen = life;
        copy.kept |= end == End::Killed && got.redelivered;
        (copy.acked, copy.maybe) = (false, false);
        // Whether a dead letter is where it went is asked below.
    }

    /// Each message that was rejected is where it was or where it goes.
    fn settle_dead_letters(&mut self, places: &BTreeSet<(usize, u64)>) {
        let rejected: BTreeMap<u64, Copy> = self
            .copies
            .iter()
            .filter(|((queue, _), copy)| *queue == WORK && copy.rejected && !copy.gone)
            .map(|((_, id), copy)| (*id, copy.clone()))
            .collect();
        for id in rejected.into_keys() {
            let (in_work, in_dead) = (places.contains(&(WORK, id)), places.contains(&(DEAD, id)));
            let dead = self.copies[&(DEAD, id)].clone();
            let is_kept = self.messages[&id].message.persistent;
            let is_confirmed = self.messages[&id].answer == Answer::Accepted;
            let work = self.copies.get_mut(&(WORK, id)).unwrap();
            match (in_work, in_dead) {
                (true, true) => self.violate(format!("message {id} is in work and in dead")),
                (true, false) => {
                    work.rejected = false;
                    self.copies.remove(&(DEAD, id));
                }
                (false, true) => work.gone = true,
                (false, false) => {
                    work.gone = true;
                    self.copies.get_mut(&(DEAD, id)).unwrap().gone = true;
                    if is_kept && is_confirmed && !dead.acked {
                        self.violate(format!("message {id} was rejected and is in no queue: {dead:?}"));
                    }
                }
            }
        }
    }

    /// Of messages that share a value one came, if one was confirmed.
    fn settle_uniques(&mut self, places: &BTreeSet<(usize, u64)>) {
        for (unique, which) in &mut self.uniques {
            if let (false, Some(id)) = *which {
                which.0 = places.contains(&(UNIQUE, id));
                if !which.0 {
                    self.undecided.insert(*unique);
                }
            }
        }
        let decided = self.uniques.iter().filter(|(unique, _)| !self.undecided.contains(unique));
        let lost: Vec<_> = decided.filter(|(_, which)| matches!(which, (true, None))).collect();
        let lost = format!("{lost:?}");
        if lost != "[]" {
            self.violate(format!("of these no message is there, though one was confirmed: {lost}"));
        }
        let losers: Vec<(usize, u64)> = self
            .copies
            .iter()
            .filter(|((queue, _), copy)| *queue == UNIQUE && copy.deliveries == 0 && copy.made < self.life)
            .map(|(place, _)| *place)
            .filter(|place| !places.contains(place))
            .collect();
        for place in losers {
            self.copies.remove(&place);
        }
    }

    /// A message is in all its queues but those where it was settled, or was never confirmed and is in none.
    fn settle_message(&mut self, id: u64, places: &BTreeSet<(usize, u64)>) {
        let life = self.life;
        let known = &self.messages[&id];
        let (is_kept, answer) = (known.message.persistent, known.answer);
        let mine: Vec<usize> =
            (0..QUEUES.len()).filter(|queue| self.copies.contains_key(&(*queue, id))).collect();
        let (mut missing, mut there) = (Vec::new(), false);
        for queue in mine {
            let copy = self.copies.get_mut(&(queue, id)).unwrap();
            let may_be_held = self.messages[&id].may_be_held(copy);
            if copy.gone || copy.made == life {
                continue;
            }
            if places.contains(&(queue, id)) {
                there = true;
            } else if may_be_held {
                copy.maybe |= copy.acked;
                (copy.acked, copy.deliveries) = (false, 0);
            } else if !is_kept || copy.acked {
                copy.gone = true;
            } else {
                missing.push(queue);
            }
        }
        if there && answer == Answer::None {
            self.tally.unanswered_found += 1;
            self.messages.get_mut(&id).unwrap().answer = Answer::Accepted;
        }
        if missing.is_empty() {
            return;
        }
        let from: Vec<_> =
            missing.iter().map(|queue| (QUEUES[*queue], &self.copies[&(*queue, id)])).collect();
        match (answer, there) {
            (Answer::Accepted, _) => {
                self.violate(format!(
                    "message {id} was confirmed and is lost: {from:?} {:?}",
                    self.messages[&id]
                ));
            }
            (Answer::None, true) => {
                self.violate(format!("message {id} is in some of its queues: not in {from:?}"));
            }
            (Answer::None, false) => self.tally.unanswered_lost += 1,
        }
        for queue in missing {
            self.copies.get_mut(&(queue, id)).unwrap().gone = true;
        }
    }
}
