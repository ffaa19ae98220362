//! One channel of a connection: its consumers, its limits, its ledger.

use super::{
    ready_list::Handle,
    timeouts::{self, Marks},
    unacked::{Entry, Unacked},
};
use crate::{
    credit::ChannelCredit,
    dead_letter::DeadLetters,
    queue::{ConsumerKey, MessageRef, Progress, Queue, Settle},
    traffic::{By, ChannelTraffic, count_handed_out},
};
use alloc::{sync::Arc, vec::Vec};
use hashbrown::HashMap;
use leveret_model::{Name, Refusal};

/// Whoever delivered messages of this channel came from: a consumer, or all `basic.get` of one
/// queue. It outlives its consumer until all its messages are settled.
pub(super) struct Holder {
    pub(super) queue: Arc<Queue>,
    /// None for `basic.get`.
    pub(super) consumer: Option<Consuming>,
    pub(super) outstanding: u32,
    /// How long a delivery may take, as was known when the channel last looked ([`timeouts::time_of`]).
    pub(super) timeout_ms: Option<u64>,
}

/// The consumer of a holder.
pub(super) struct Consuming {
    pub(super) tag: Name,
    pub(super) key: ConsumerKey,
    pub(super) handle: Arc<Handle>,
    pub(super) no_ack: bool,
    /// Neither cancelled nor gone with its queue.
    pub(super) active: bool,
    /// How long a delivery may take, if it said so, in milliseconds; 0 is for ever.
    pub(super) timeout_ms: Option<u64>,
}

/// What a settled message belonged to.
type Settled = (MessageRef, Option<ConsumerKey>);

#[derive(Default)]
pub(super) struct Channel {
    pub(super) last_tag: u64,
    pub(super) unacked: Unacked,
    pub(super) marks: Marks,
    pub(super) traffic: Arc<ChannelTraffic>,
    pub(super) holders: Vec<Option<Holder>>,
    free: Vec<u32>,
    /// Where the active consumers are, by their tags.
    by_tag: HashMap<Name, u32>,
    /// For new consumers, in messages; 0 is no limit.
    pub(super) prefetch: u16,
    pub(super) credit: Arc<ChannelCredit>,
    taken: Vec<Entry>,
    run: Vec<Settled>,
    /// Accepted one after another, all of this queue, and not told to it yet.
    accepted: Vec<Settled>,
    accepted_of: Option<Arc<Queue>>,
    /// In a transaction: what was settled since the last commit, and how.
    pub(super) settlements: Option<Vec<(Entry, Settle)>>,
}

impl Channel {
    pub(super) fn holder_mut(&mut self, at: u32) -> Option<&mut Holder> {
        self.holders.get_mut(at as usize)?.as_mut()
    }

    /// The place the next holder gets.
    pub(super) fn next_place(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.holders.len() as u32)
    }

    pub(super) fn add_holder(&mut self, holder: Holder) -> u32 {
        if let Some(consumer) = &holder.consumer {
            self.by_tag.insert(consumer.tag.clone(), self.next_place());
        }
        if let Some(at) = self.free.pop() {
            if let Some(place) = self.holders.get_mut(at as usize) {
                *place = Some(holder);
            }
            return at;
        }
        self.holders.push(Some(holder));
        (self.holders.len() - 1) as u32
    }

    /// The consumer of a tag.
    pub(super) fn consumer_at(&self, tag: &[u8]) -> Option<u32> {
        self.by_tag.get(tag).copied()
    }

    /// A consumer is not active any more. Its tag, which is free again; `None` if it was not.
    pub(super) fn deactivate(&mut self, at: u32) -> Option<Name> {
        let consumer = self.holder_mut(at)?.consumer.as_mut().filter(|consumer| consumer.active)?;
        consumer.active = false;
        let tag = consumer.tag.clone();
        self.by_tag.remove(&tag);
        Some(tag)
    }

    /// The queue for the replies to it, while somebody consumes them.
    pub(super) fn reply_queue(&self) -> Option<&Arc<Queue>> {
        self.holders.iter().flatten().find_map(|holder| {
            let is_active = holder.consumer.as_ref().is_some_and(|consumer| consumer.active);
            (is_active && holder.queue.is_for_replies()).then_some(&holder.queue)
        })
    }

    /// The holder of what was got from a queue.
    pub(super) fn getter(&mut self, queue: &Arc<Queue>, usual_ms: Option<u64>) -> u32 {
        let place = self.holders.iter().position(|holder| {
            holder
                .as_ref()
                .is_some_and(|holder| holder.consumer.is_none() && Arc::ptr_eq(&holder.queue, queue))
        });
        match place {
            Some(place) => place as u32,
            None => {
                let timeout_ms = timeouts::time_of((queue, None), usual_ms);
                self.add_holder(Holder { queue: queue.clone(), consumer: None, outstanding: 0, timeout_ms })
            }
        }
    }

    /// A holder was given so many messages, the last of the channel's. Gives when they may be overdue.
    #[inline]
    pub(super) fn note_delivered(&mut self, at: u32, count: u32, now_ms: u64) -> Option<u64> {
        let holder = self.holders.get_mut(at as usize)?.as_mut()?;
        holder.outstanding += count;
        let timeout_ms = holder.timeout_ms.filter(|_| count > 0)?;
        let first = self.last_tag + 1 - u64::from(count);
        Some(self.marks.note(first, now_ms, timeout_ms))
    }

    /// Counts that one was got.
    pub(super) fn count_got(&self, queue: &Queue, no_ack: bool, again: bool) {
        let of_channel = self.traffic.handed_out(queue.kind());
        count_handed_out(of_channel, &queue.traffic().handed_out, By::Get { no_ack }, (1, again.into()));
    }

    /// Counts that so many were acknowledged.
    fn count_acked(&self, queue: &Queue, count: usize) {
        self.traffic.handed_out(queue.kind()).ack.add(count as u64);
        queue.traffic().handed_out.ack.add_shared(count as u64);
    }

    /// Frees the place of a holder that nothing refers to.
    pub(super) fn release_holder(&mut self, at: u32) {
        if let Some(place) = self.holders.get_mut(at as usize)
            && place.as_ref().is_some_and(|holder| {
                holder.outstanding == 0 && holder.consumer.as_ref().is_none_or(|consumer| !consumer.active)
            })
        {
            *place = None;
            self.free.push(at);
        }
    }

    /// Settles one delivery, or all up to one, or all for tag 0 with `multiple`. What is rejected
    /// and has somewhere to go is added to `dead`, and what dies because something came back.
    pub(super) fn settle(
        &mut self,
        tag: u64,
        multiple: bool,
        outcome: Settle,
        (dead, progress): (&mut DeadLetters, &mut Progress),
    ) -> Result<(), Refusal> {
        if self.settlements.is_some() {
            return self.settle_later(tag, multiple, outcome);
        }
        if !multiple {
            let Some(entry) = self.unacked.take(tag) else {
                return Err(Refusal::UnknownDelivery { tag });
            };
            if entry.is_late() {
                self.settle_late(entry);
                return Ok(());
            }
            if outcome == Settle::Accepted {
                self.accept(entry, progress);
                return Ok(());
            }
            self.tell_accepted(progress);
            self.settle_one(entry, outcome, (dead, progress));
            return Ok(());
        }
        self.tell_accepted(progress);
        let up_to = if tag == 0 { None } else { Some(tag) };
        // Both are kept for their space alone.
        let mut taken = core::mem::take(&mut self.taken);
        let mut run = core::mem::take(&mut self.run);
        taken.extend(self.unacked.take_up_to(up_to).into_iter().flatten());
        if taken.is_empty() && tag != 0 {
            return Err(Refusal::UnknownDelivery { tag });
        }
        self.settle_runs(&taken, &mut run, outcome, (dead, progress));
        taken.clear();
        (self.taken, self.run) = (taken, run);
        Ok(())
    }

    /// Notes that one is accepted. Its queue learns of it with the others that follow: most clients acknowledge one
    /// by one, and several such come in one read.
    fn accept(&mut self, entry: Entry, progress: &mut Progress) {
        let Some(holder) = self.holders.get_mut(entry.holder as usize).and_then(Option::as_mut) else {
            return;
        };
        let key = holder.consumer.as_ref().map(|consumer| consumer.key);
        if !self.accepted_of.as_ref().is_some_and(|queue| Arc::ptr_eq(queue, &holder.queue)) {
            let queue = holder.queue.clone();
            self.tell_accepted(progress);
            self.accepted_of = Some(queue);
        }
        self.accepted.push((entry.message, key));
        self.let_go(entry.holder);
    }

    /// Tells the queue what was accepted.
    pub(super) fn tell_accepted(&mut self, progress: &mut Progress) {
        let Some(queue) = self.accepted_of.take() else { return };
        let counted = self.accepted.iter().filter(|(_, key)| key.is_some()).count();
        self.credit.release(counted as u32);
        self.count_acked(&queue, self.accepted.len());
        queue.settle(&self.accepted, Settle::Accepted, progress);
        self.accepted.clear();
    }

    /// Notes what is to be settled with the transaction.
    fn settle_later(&mut self, tag: u64, multiple: bool, outcome: Settle) -> Result<(), Refusal> {
        let Self { unacked, settlements, .. } = self;
        let noted = settlements.get_or_insert_default();
        let before = noted.len();
        if multiple {
            let up_to = if tag == 0 { None } else { Some(tag) };
            noted.extend(unacked.take_up_to(up_to).into_iter().flatten().map(|entry| (entry, outcome)));
        } else {
            noted.extend(unacked.take(tag).map(|entry| (entry, outcome)));
        }
        if noted.len() == before && !(multiple && tag == 0) {
            return Err(Refusal::UnknownDelivery { tag });
        }
        Ok(())
    }

    /// Settles what was noted.
    pub(super) fn commit(&mut self, (dead, progress): (&mut DeadLetters, &mut Progress)) {
        let Some(noted) = self.settlements.as_mut().map(core::mem::take) else { return };
        let (mut taken, mut run) = (core::mem::take(&mut self.taken), core::mem::take(&mut self.run));
        for alike in noted.chunk_by(|a, b| a.1 == b.1) {
            let Some((_, outcome)) = alike.first() else { continue };
            taken.extend(alike.iter().map(|(entry, _)| *entry));
            self.settle_runs(&taken, &mut run, *outcome, (&mut *dead, &mut *progress));
            taken.clear();
        }
        (self.taken, self.run) = (taken, run);
    }

    /// Forgets what was noted.
    pub(super) fn roll_back(&mut self) {
        if let Some(noted) = self.settlements.as_mut().map(core::mem::take) {
            self.unacked.put_back(noted.into_iter().map(|(entry, _)| entry));
        }
    }

    /// Settles entries, those of one queue that follow each other under one lock.
    fn settle_runs(
        &mut self,
        mut entries: &[Entry],
        run: &mut Vec<Settled>,
        outcome: Settle,
        (dead, progress): (&mut DeadLetters, &mut Progress),
    ) {
        while let Some((first, rest)) = entries.split_first() {
            if first.is_late() {
                self.settle_late(*first);
                entries = rest;
                continue;
            }
            let Some(queue) = self.holder_mut(first.holder).map(|holder| holder.queue.clone()) else {
                return;
            };
            let mut counted = 0;
            while let Some((entry, rest)) = entries.split_first() {
                let holder = self.holders.get(entry.holder as usize).and_then(Option::as_ref);
                // The place of one that is late is nobody's.
                if !holder.is_some_and(|holder| Arc::ptr_eq(&holder.queue, &queue)) {
                    break;
                }
                let key = self.let_go(entry.holder);
                counted += u32::from(key.is_some());
                run.push((entry.message, key));
                entries = rest;
            }
            self.credit.release(counted);
            match outcome {
                Settle::Accepted => self.count_acked(&queue, run.len()),
                _ => self.traffic.given_back.add(run.len() as u64),
            }
            settle_in(&queue, run, outcome, (&mut *dead, &mut *progress));
            run.clear();
        }
    }

    fn settle_one(&mut self, entry: Entry, outcome: Settle, ends: (&mut DeadLetters, &mut Progress)) {
        let Some(holder) = self.holders.get(entry.holder as usize).and_then(Option::as_ref) else {
            return;
        };
        let key = holder.consumer.as_ref().map(|consumer| consumer.key);
        if key.is_some() {
            self.credit.release(1);
        }
        settle_in(&holder.queue, &[(entry.message, key)], outcome, ends);
        self.traffic.given_back.add(1);
        self.let_go(entry.holder);
    }

    /// One message less for a holder; returns its consumer.
    pub(super) fn let_go(&mut self, at: u32) -> Option<ConsumerKey> {
        let holder = self.holder_mut(at)?;
        holder.outstanding -= 1;
        let key = holder.consumer.as_ref().map(|consumer| consumer.key);
        if holder.outstanding == 0 && holder.consumer.as_ref().is_none_or(|consumer| !consumer.active) {
            self.release_holder(at);
        }
        key
    }

    /// Gives consumers a chance that had to wait for credit of the channel.
    pub(super) fn nudge_if_unblocked(&self) {
        if self.credit.take_unblocked() {
            self.nudge();
        }
    }

    pub(super) fn nudge(&self) {
        for holder in self.holders.iter().flatten() {
            if let Some(consumer) = &holder.consumer
                && consumer.active
            {
                holder.queue.nudge(consumer.key);
            }
        }
    }
}

/// Settles messages of one queue, or has them die.
pub(super) fn settle_in(
    queue: &Arc<Queue>,
    run: &[Settled],
    outcome: Settle,
    (dead, progress): (&mut DeadLetters, &mut Progress),
) {
    match outcome {
        Settle::Requeue { failed } => {
            let dying = queue.requeue(run, failed, progress);
            dying.into_iter().for_each(|(message, reason)| dead.push(queue, message, reason));
            return;
        }
        Settle::Rejected | Settle::Discarded if queue.dead_lettering().is_some() => {}
        _ => {
            queue.settle(run, outcome, progress);
            return;
        }
    }
    let failed = outcome == Settle::Rejected;
    queue.condemn(run, failed);
    for (message, _) in run {
        dead.push_settled(queue, *message, failed);
    }
}
