//! Publishing: a batch of messages from one connection, end to end.
//!
//! Publishes to one exchange that follow each other are routed in one call. Then the batch is
//! sorted by queue, and each queue takes its messages under one lock. Nothing is enqueued before
//! all that could be routed is routed, so one channel's messages keep their order in each queue.
//! (A router may cut the batch; then that holds for each part.) After the queues come holds, then
//! the effects of the types that were asked; those of what is not accepted are dropped. What of all that
//! is to outlive the process is one group, handed to the store once the queues have numbered the messages; whether
//! the store will take it is asked before the queues have anything.
//!
//! Where interceptors are attached, each run goes past them first (`publish/intercepted.rs`).

mod checks;
mod further;
mod intercepted;
mod outcome;
mod transaction;
mod writing;

pub use outcome::{NoRoom, Published};
pub use transaction::Transaction;

pub(crate) use outcome::published;

use crate::{
    after::After,
    dead_letter::DeathReason,
    exchange::Exchange,
    intercept::Interception,
    later::Why,
    memory::LargeBody,
    origin::{Origin, Sender},
    port::{Answer, Effects, Layer, Routed, Router, Wake},
    queue::{MessageRef, Notes, Queue, is_apart},
    recent::Recent,
    replies,
    stage::Stage,
    store::{Durability, Group, Written},
    traffic::ExchangeTraffic,
    vhost::Vhost,
    walk::{Asking, NO_ANSWER, Walk, Walked},
};
use alloc::{boxed::Box, collections::VecDeque, string::ToString, sync::Arc, vec::Vec};
use checks::not_for_clients;
use leveret_model::{MessageView, MoreKeys, Name, Refusal};

/// The most bytes a message's exchange, routing key and properties may have together.
pub const MESSAGE_HEAD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A message to publish.
#[derive(Clone, Copy, Debug)]
pub struct Publish<'a> {
    /// The channel it came on.
    pub channel: u16,
    /// The message.
    pub message: MessageView<'a>,
    /// Whether its publisher wants it back if there is no queue for it: then what is to be held is
    /// refused in time.
    pub mandatory: bool,
    /// The further routing keys that its headers name, where they name any: [`MessageView::more_keys`].
    pub more_keys: Option<&'a MoreKeys>,
}

impl<'a> Publish<'a> {
    /// The message as it is kept: what it hides receivers do not see.
    pub(crate) fn kept(&self) -> MessageView<'a> {
        if self.hides() { self.message.hidden() } else { self.message }
    }

    /// Some of its headers are hidden from receivers.
    fn hides(&self) -> bool {
        self.more_keys.is_some_and(|more| more.hides)
    }
}

/// One connection's way to publish: scratch, and what it looked up before.
#[derive(Default)]
pub struct Publisher {
    vhost: Option<Arc<Vhost>>,
    exchanges: Recent<Exchange>,
    queues: Recent<Queue>,
    scratch: Scratch,
    interception: Interception,
}

#[derive(Default)]
struct Scratch {
    answers: Vec<Answer>,
    stage: Stage,
    walk: Walk,
    /// Large bodies of the batch, by their place in it.
    large: Vec<(u32, Arc<LargeBody>)>,
    after: After,
    /// Channels whose publish was refused in this batch, and why.
    refused: Vec<(u16, Refusal)>,
    /// A queue of the last batch has consumers that are behind.
    behind: bool,
    notes: Notes,
    /// Made for the virtual host's store with the first batch that is to be written.
    group: Option<Box<dyn Group>>,
    /// Who is told when what is published is safe, and under what token.
    confirm: Option<(Arc<dyn Written>, u64)>,
    /// How many groups of the last call that is told of.
    groups: u32,
    /// Something was to be written, since it was asked.
    writes: bool,
    /// What is published is one group with all that is published until the transaction ends.
    transaction: Option<Durability>,
    /// Of something that is staged, receivers do not see everything.
    hides: bool,
    /// How many messages of clients went to queues, once for each, since somebody asked.
    routed: u64,
}

/// What one call works on.
pub(crate) struct Batch<'a, 'b> {
    pub(crate) vhost: &'a Vhost,
    pub(crate) router: &'a mut dyn Router,
    pub(crate) messages: &'a [Publish<'b>],
    /// Who publishes, where the broker itself does.
    pub(crate) sender: Option<&'a mut dyn Sender>,
    pub(crate) outcomes: &'a mut Vec<Published>,
    /// How many outcomes are of earlier calls.
    pub(crate) before: usize,
    /// What was done for messages before their exchange was asked, in their order.
    pub(crate) earlier: Option<&'a mut VecDeque<Earlier>>,
    pub(crate) waker: &'a Arc<dyn Wake>,
}

/// Effects for the message at that place of a batch.
pub(crate) type Earlier = (u32, Box<dyn Effects>);

impl Batch<'_, '_> {
    pub(crate) fn origin(&self, message: u32) -> Origin {
        self.sender.as_ref().map_or_else(Origin::default, |sender| sender.origin(message))
    }

    /// Whether a queue that was found for a message may have it.
    fn may_reach(&mut self, message: usize, queue: &Queue) -> bool {
        self.sender.as_mut().is_none_or(|sender| sender.may_reach(message as u32, queue))
    }
}

impl Publisher {
    /// Takes what died in queues since it was asked.
    pub(crate) fn dying(&mut self) -> impl Iterator<Item = (Arc<Queue>, MessageRef, DeathReason)> + '_ {
        self.scratch.notes.dying.drain(..)
    }

    /// Whether consumers of a queue that took messages of the last batch are behind by more than
    /// [`crate::queue::BEHIND_BYTES`]: then it is better to publish more slowly.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.scratch.behind
    }

    /// Publishes a batch in order, appending an outcome for each message dealt with, and returns
    /// how many that are. Fewer than all means that a type answers later: call again with the rest
    /// after `waker` was woken. (Exchanges that were asked about the first of the rest are then
    /// asked again.)
    pub fn publish(
        &mut self,
        vhost: &Arc<Vhost>,
        router: &mut dyn Router,
        batch: &[Publish<'_>],
        outcomes: &mut Vec<Published>,
        waker: &Arc<dyn Wake>,
    ) -> usize {
        self.begin(vhost);
        if vhost.intercepts.publish {
            let done = self.publish_intercepted(vhost, router, batch, outcomes, waker);
            self.scratch.confirm = None;
            return done;
        }
        let before = outcomes.len();
        let mut batch =
            Batch { vhost, router, messages: batch, sender: None, outcomes, before, earlier: None, waker };
        let mut done = 0;
        while let Some(first) = batch.messages.get(done) {
            let exchange = first.message.exchange;
            let rest = batch.messages.iter().skip(done);
            let run = rest.take_while(|publish| is_same(publish.message.exchange, exchange)).count();
            let dealt = if exchange.is_empty() {
                self.publish_to_default(&mut batch, done, run)
            } else {
                self.publish_to(&mut batch, exchange, done, run)
            };
            done += dealt;
            if dealt < run {
                break;
            }
        }
        self.scratch.end(&mut batch);
        done
    }

    /// Publishes messages of the broker itself to one exchange, from a layer on, as
    /// [`Self::publish`] does, but that a refusal of one says nothing of the next.
    pub(crate) fn publish_own(
        &mut self,
        vhost: &Arc<Vhost>,
        router: &mut dyn Router,
        (exchange, layer): (&Arc<Exchange>, Layer),
        (messages, sender): (&[Publish<'_>], &mut dyn Sender),
        outcomes: &mut Vec<Published>,
        waker: &Arc<dyn Wake>,
    ) -> usize {
        self.begin(vhost);
        let before = outcomes.len();
        let mut batch =
            Batch { vhost, router, messages, sender: Some(sender), outcomes, before, earlier: None, waker };
        let done = if exchange.spec.name.is_empty() {
            self.publish_to_default(&mut batch, 0, messages.len())
        } else {
            self.scratch.route(&mut batch, (exchange, layer), 0, messages.len())
        };
        self.scratch.end(&mut batch);
        done
    }

    /// How many messages went to queues since it was asked, once for each queue.
    pub fn take_routed(&mut self) -> u64 {
        core::mem::take(&mut self.scratch.routed)
    }

    fn begin(&mut self, vhost: &Arc<Vhost>) {
        self.scratch.behind = false;
        self.scratch.groups = 0;
        self.scratch.notes.is_timeless = true;
        if !self.vhost.as_ref().is_some_and(|known| Arc::ptr_eq(known, vhost)) {
            self.exchanges.clear();
            self.queues.clear();
            self.scratch.group = None;
            self.vhost = Some(vhost.clone());
        }
    }

    /// The default exchange: the routing key is the queue's name.
    fn publish_to_default(&mut self, batch: &mut Batch<'_, '_>, start: usize, run: usize) -> usize {
        let Self { queues, scratch, .. } = self;
        let added = scratch.stage.added();
        for (index, publish) in batch.messages.iter().enumerate().skip(start).take(run) {
            if let Some(refusal) = scratch.refusal(publish) {
                scratch.refuse(batch, publish.channel, refusal);
                continue;
            }
            if let Some(more) = publish.more_keys {
                let outcome = scratch.deliver_by_name(batch, index, more);
                batch.outcomes.push(outcome);
                continue;
            }
            let name = publish.message.routing_key;
            let queue = queues.get(name, |queue| !queue.is_deleted(), || batch.vhost.queue(name));
            let outcome = match queue {
                Some(queue) if batch.may_reach(index, queue) => {
                    scratch.keep_large(batch, index, &publish.message);
                    scratch.stage.add(queue, index as u32);
                    Published::Routed
                }
                Some(_) => Published::Unroutable,
                None => replies::to_no_queue(name),
            };
            batch.outcomes.push(outcome);
        }
        scratch.count(batch, &batch.vhost.traffic.default_exchange, run, added);
        run
    }

    /// Publishes to one exchange that follow each other. Returns how many were dealt with.
    fn publish_to(&mut self, batch: &mut Batch<'_, '_>, name: &[u8], start: usize, run: usize) -> usize {
        let Self { exchanges, scratch, .. } = self;
        let exchange = exchanges.get(name, |exchange| !exchange.is_deleted(), || batch.vhost.exchange(name));
        let refusal = not_for_clients(batch.vhost, exchange.map(|exchange| &**exchange), name);
        let (None, Some(exchange)) = (&refusal, exchange) else {
            for publish in batch.messages.iter().skip(start).take(run) {
                let refusal = scratch.refusal(publish).or_else(|| refusal.clone());
                scratch.refuse(batch, publish.channel, refusal.unwrap_or(Refusal::NoLastQueue));
            }
            return run;
        };
        scratch.route(batch, (exchange, Layer::FRONT), start, run)
    }
}

impl Scratch {
    /// Asks one exchange about a run of messages, as often as it cuts. Returns how many were dealt
    /// with; fewer than all means that the rest has to wait.
    fn route(
        &mut self,
        batch: &mut Batch<'_, '_>,
        (exchange, layer): (&Arc<Exchange>, Layer),
        start: usize,
        run: usize,
    ) -> usize {
        let added = self.stage.added();
        let mut answers = core::mem::take(&mut self.answers);
        let mut dealt = 0;
        while dealt < run {
            let (first, left) = (start + dealt, run - dealt);
            let messages = &mut batch.messages.iter().skip(first).take(left).map(|publish| &publish.message);
            let routed = batch.router.route(exchange, layer, messages, &mut answers, batch.waker);
            let answered = match routed {
                Routed::Ready => left,
                Routed::Cut => answers.len().clamp(1, left),
                Routed::Pending => 0,
            };
            debug_assert!(answers.len() >= answered, "the router answers for each message");
            let went = self.answered(batch, (exchange, layer), first..first + answered, &mut answers);
            self.stage.forget_set();
            // Answers nobody looked at, because a walk waits, are undone with this.
            answers.clear();
            dealt += went;
            let waits = went < answered || routed == Routed::Pending;
            if waits && self.after.is_empty() {
                break;
            }
            if waits || routed == Routed::Cut {
                // What waits may wait for the effects of those before it.
                self.enqueue(batch);
            }
        }
        self.answers = answers;
        self.count(batch, &exchange.traffic, dealt, added);
        dealt
    }

    /// Counts what clients published to an exchange, and what of that went to queues since so much was.
    fn count(&mut self, batch: &Batch<'_, '_>, traffic: &ExchangeTraffic, messages: usize, added: u64) {
        if batch.sender.is_some() {
            return;
        }
        let out = self.stage.added() - added;
        self.routed += out;
        traffic.publish_in.add_shared(messages as u64);
        traffic.publish_out.add_shared(out);
    }

    /// Deals with the answers for a run; stops where a walk has to wait. Returns how many were
    /// dealt with.
    fn answered(
        &mut self,
        batch: &mut Batch<'_, '_>,
        exchange: (&Arc<Exchange>, Layer),
        run: core::ops::Range<usize>,
        answers: &mut [Answer],
    ) -> usize {
        let length = run.len();
        let mut answers = answers.iter_mut();
        for (place, publish) in batch.messages.iter().skip(run.start).take(length).enumerate() {
            let index = run.start + place;
            let Some(answer) = answers.next() else {
                batch.outcomes.push(Published::Rejected(Arc::from(NO_ANSWER)));
                continue;
            };
            if let Some(refusal) = self.refusal(publish) {
                self.refuse(batch, publish.channel, refusal);
                continue;
            }
            if self.deliver(batch, answer, index, publish) {
                continue;
            }
            let mut effects = take_effects(answer);
            if effects.is_some() && self.deliver(batch, answer, index, publish) {
                self.after.keep(index as u32, effects.take());
                continue;
            }
            let answer = core::mem::replace(answer, Answer::OPEN);
            match self.walk(batch, exchange, (answer, effects), index) {
                None => return place,
                Some(Published::Refused(refusal)) => self.refuse(batch, publish.channel, refusal),
                Some(outcome) => batch.outcomes.push(outcome),
            }
        }
        length
    }

    /// Stages a message whose answer names queues and nothing else; false for any other.
    fn deliver(
        &mut self,
        batch: &mut Batch<'_, '_>,
        answer: &Answer,
        index: usize,
        publish: &Publish<'_>,
    ) -> bool {
        let Answer::Deliver(set) = answer else { return false };
        if publish.more_keys.is_some() || set.is_empty() || !set.targets().exchanges.is_empty() {
            return false;
        }
        if batch.sender.is_some() && !set.targets().queues.iter().all(|queue| batch.may_reach(index, queue)) {
            return false;
        }
        self.keep_large(batch, index, &publish.message);
        self.stage.add_set(set.targets(), index as u32);
        batch.outcomes.push(Published::Routed);
        true
    }

    /// Walks on from an answer and what it has effects; `None` if the walk has to wait.
    fn walk(
        &mut self,
        batch: &mut Batch<'_, '_>,
        exchange: (&Arc<Exchange>, Layer),
        (answer, effects): (Answer, Option<Box<dyn Effects>>),
        index: usize,
    ) -> Option<Published> {
        let publish = batch.messages.get(index)?;
        // The walk may free the set that was added last.
        self.stage.forget_set();
        let mut asking = Asking {
            vhost: batch.vhost,
            router: &mut *batch.router,
            message: &publish.message,
            more_keys: publish.more_keys,
            mandatory: publish.mandatory,
            waker: batch.waker,
            notes: None,
        };
        let walked = self.walk.run(&mut asking, exchange, answer, effects);
        if let (Walked::Rejected(reason), Some(by)) = (&walked, self.walk.rejected_by()) {
            self.after.rejected(by, reason);
        }
        let mut outcome = published(walked);
        if outcome == Some(Published::Routed) {
            outcome = match batch.vhost.later.make_room(&publish.message, self.walk.holds()) {
                Err(no_room) => Some(Published::Rejected(Arc::from(no_room.to_string()))),
                Ok(()) if self.stage_walked(batch, index, publish) => outcome,
                Ok(()) => Some(Published::Unroutable),
            };
        }
        if matches!(outcome, Some(Published::Routed | Published::Unroutable | Published::Dropped)) {
            self.after.keep_walked(index as u32, &mut self.walk);
        }
        self.walk.clear();
        outcome
    }

    /// Stages a message for the queues that its walk found; false if it may reach none, and is not
    /// held.
    fn stage_walked(&mut self, batch: &mut Batch<'_, '_>, index: usize, publish: &Publish<'_>) -> bool {
        let mut staged = false;
        for queue in self.walk.queues() {
            if batch.may_reach(index, queue) {
                self.stage.add(queue, index as u32);
                staged = true;
            }
        }
        if staged {
            self.keep_large(batch, index, &publish.message);
            self.hides |= publish.hides();
        }
        staged || !self.walk.holds().is_empty()
    }

    /// Why a publish is refused whatever its exchange says.
    #[inline]
    fn refusal(&mut self, publish: &Publish<'_>) -> Option<Refusal> {
        if !self.refused.is_empty() {
            let earlier = self.refused.iter().find(|(channel, _)| *channel == publish.channel);
            if let Some((_, refusal)) = earlier {
                return Some(refusal.clone());
            }
        }
        match checks::check(&publish.message) {
            Ok(is_timed) => {
                self.notes.is_timeless &= !is_timed;
                None
            }
            Err(refusal) => Some(refusal),
        }
    }

    fn refuse(&mut self, batch: &mut Batch<'_, '_>, channel: u16, refusal: Refusal) {
        batch.outcomes.push(Published::Refused(refusal.clone()));
        if batch.sender.is_none() && !self.refused.iter().any(|(refused, _)| *refused == channel) {
            self.refused.push((channel, refusal));
        }
    }

    /// Copies a large body once, for all queues of its message.
    #[inline]
    fn keep_large(&mut self, batch: &Batch<'_, '_>, index: usize, message: &MessageView<'_>) {
        if is_apart(message) {
            self.keep_apart(batch, index as u32, message);
        }
    }

    #[inline(never)]
    fn keep_apart(&mut self, batch: &Batch<'_, '_>, index: u32, message: &MessageView<'_>) {
        let kept = batch.sender.as_ref().and_then(|sender| sender.large(index));
        let of_message = || LargeBody::of(message, &*batch.vhost.store, batch.vhost.memory());
        self.large.push((index, kept.unwrap_or_else(of_message)));
    }

    /// The call is over: what is staged still goes to its queues.
    fn end(&mut self, batch: &mut Batch<'_, '_>) {
        self.enqueue(batch);
        self.wait_for_earlier(batch);
        self.refused.clear();
        self.confirm = None;
    }

    /// Gives each queue its messages; then come holds, what is to be written, and effects. What only deleted
    /// queues would have taken is unroutable.
    fn enqueue(&mut self, batch: &mut Batch<'_, '_>) {
        let Self { stage, large, behind, after, notes, .. } = self;
        if let Some(earlier) = &mut batch.earlier {
            after.keep_earlier(earlier, (batch.outcomes.len() - batch.before) as u32);
        }
        self.writes |= after.admit(batch, stage);
        let kept = core::mem::take(&mut self.hides).then(|| further::kept(batch.messages));
        let (messages, outcomes) = (kept.as_deref().unwrap_or(batch.messages), &mut *batch.outcomes);
        let sender = batch.sender.as_deref();
        let now_ms = batch.router.now_ms();
        let mut taken = hashbrown::HashSet::<u32>::new();
        let mut lost = Vec::new();
        stage.give(
            |queue, members| {
                let took = queue.enqueue((messages, now_ms), sender, members, large, notes);
                *behind |= queue.is_behind();
                took
            },
            |members, took| {
                if took { taken.extend(members) } else { lost.extend_from_slice(members) }
            },
        );
        for message in lost {
            if !taken.contains(&message)
                && !after.holds(message)
                && let Some(outcome) = outcomes.get_mut(batch.before + message as usize)
            {
                *outcome = Published::Unroutable;
            }
        }
        self.not_accepted(batch);
        self.after.hold(batch);
        self.stage.clear();
        self.write(batch, messages, now_ms);
        self.large.clear();
        if !self.after.is_empty() {
            self.after.settle(batch);
        }
    }
}

impl Scratch {
    /// Tells of messages that a queue did not take because it is full.
    fn not_accepted(&mut self, batch: &mut Batch<'_, '_>) {
        if !self.notes.refused.is_empty() {
            self.tell_refused(batch);
        }
    }

    #[cold]
    fn tell_refused(&mut self, batch: &mut Batch<'_, '_>) {
        let mut refused = core::mem::take(&mut self.notes.refused);
        // Of several queues the first one is told.
        refused.sort_by_key(|(message, _)| *message);
        let mut last: Option<NoRoom> = None;
        for times in refused.chunk_by(|(a, _), (b, _)| a == b) {
            let Some((message, queue)) = times.first() else { continue };
            let message = *message;
            // Nor may it be held again with each try.
            let is_elsewhere = self.stage.taken_by(message) > times.len() || self.after.holds(message);
            if batch.sender.is_some() && is_elsewhere {
                let exchange = batch.messages.get(message as usize).map(|publish| publish.message.exchange);
                let exchange = Name::cut(exchange.unwrap_or_default());
                batch.vhost.later.lost(Why::QueueFull, &exchange, times.len() as u64);
            } else if let Some(outcome) = batch.outcomes.get_mut(batch.before + message as usize) {
                let no_room = match last.take() {
                    Some(last) if last.queue.as_ref() == Some(queue) => last,
                    _ => NoRoom::in_queue(queue),
                };
                *outcome = Published::Full(last.insert(no_room).clone());
            }
        }
        refused.clear();
        self.notes.refused = refused;
    }
}

/// Leaves the answer alone in its place.
fn take_effects(answer: &mut Answer) -> Option<Box<dyn Effects>> {
    if !matches!(answer, Answer::Effective(_)) {
        return None;
    }
    let Answer::Effective(effective) = core::mem::replace(answer, Answer::OPEN) else {
        return None;
    };
    *answer = effective.answer;
    Some(effective.effects)
}

/// Whether two names are the same. Comparing no bytes at all can cost a hundred nanoseconds: masked
/// loads from where an empty slice points are slow.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && (a.is_empty() || a == b)
}
