//! The routing walk of one message: on through bindings between exchanges and alternate exchanges.
//!
//! Each exchange is asked once and each queue found once, so circles end. The alternate exchange
//! is asked where the answer is an empty set, never where the type dropped, rejected or held. If
//! one branch rejects or cannot be asked the message goes nowhere.
//!
//! *Further routing keys.* An exchange that would deliver a message is asked about it with each of its further
//! keys too, all in one question, from the first type on that reads keys: so a type in front that looks at
//! anything else decides once for the message. Of these answers only destinations count, and that a type does not
//! accept the message. The alternate exchange is asked if there is no destination for any of the keys.
//!
//! Where a type holds a message whose publisher wants it back if there is no queue for it, the
//! types behind are asked too, as if the time had come, and what they say has no effects: without
//! a destination now the message is not held there.

use crate::{
    exchange::{Exchange, ExchangeId, Targets},
    explain::Step,
    later::Holding,
    port::{Answer, Effects, Hold, Layer, Routed, Router, Wake},
    queue::Queue,
    vhost::Vhost,
};
use alloc::{boxed::Box, sync::Arc, vec::Vec};
use hashbrown::HashSet;
use leveret_model::{MessageView, MoreKeys, Refusal};

/// The reason for a message that its exchange's type was asked about in vain.
pub(crate) const NO_ANSWER: &str = "the exchange's type gave no answer";

/// A type of an exchange, which decided.
pub(crate) type Decider = (Arc<Exchange>, Layer);

/// Where a walk ended.
pub(crate) enum Walked {
    /// At the queues in [`Walk::queues`], the holds in [`Walk::holds`], or both.
    Routed,
    /// At no queue.
    Unroutable,
    /// At no queue, and a type dropped the message on purpose.
    Dropped,
    /// A type did not accept it.
    Rejected(Arc<str>),
    /// An exchange cannot be asked.
    Failed(Box<Refusal>),
    /// A type answers later; nothing is to be done before.
    Pending,
}

/// Whom a walk asks, and about what.
pub(crate) struct Asking<'a, 'b> {
    pub(crate) vhost: &'a Vhost,
    pub(crate) router: &'a mut dyn Router,
    pub(crate) message: &'a MessageView<'b>,
    /// It goes where it would go with each of these keys too.
    pub(crate) more_keys: Option<&'a MoreKeys>,
    /// The publisher wants it back if there is no queue for it.
    pub(crate) mandatory: bool,
    pub(crate) waker: &'a Arc<dyn Wake>,
    /// The walk is only to be told: every question is noted here.
    pub(crate) notes: Option<&'a mut Vec<Step>>,
}

impl Asking<'_, '_> {
    /// Asks an exchange about a message, and notes what it says; `None` if it answers later.
    fn put_question(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        message: &MessageView<'_>,
        probing: bool,
    ) -> Option<Answer> {
        let explained = self.router.explain(exchange, layer, message, self.waker);
        if let Some(notes) = &mut self.notes {
            notes.push(Step::of(exchange.spec.name.clone(), layer, probing, explained.asked));
        }
        explained.answer
    }
}

/// Scratch for walks.
#[derive(Default)]
pub(crate) struct Walk {
    queues: Vec<Arc<Queue>>,
    seen_queues: HashSet<*const Queue, foldhash::fast::RandomState>,
    seen: Vec<ExchangeId>,
    to_ask: Vec<(Arc<Exchange>, Layer)>,
    answers: Vec<Answer>,
    effects: Vec<Box<dyn Effects>>,
    holds: Vec<Holding>,
    drops: Vec<(Decider, Arc<str>)>,
    rejected_by: Option<Decider>,
    /// Where what is held would go if its time were now, where that was asked.
    due_queues: Vec<Arc<Queue>>,
    /// Walks on behind a hold, to see whether there is a destination.
    probe: Option<Box<Walk>>,
    /// This is such a walk.
    probing: bool,
}

impl Walk {
    /// The queues that the last walk found.
    pub(crate) fn queues(&self) -> &[Arc<Queue>] {
        &self.queues
    }

    /// The queues that what is held would go to if its time were now; of a walk that is told, or of a mandatory message.
    pub(crate) fn due_queues(&self) -> &[Arc<Queue>] {
        &self.due_queues
    }

    /// The exchanges that hold the message, for how long, and where it goes on.
    pub(crate) fn holds(&mut self) -> &mut Vec<Holding> {
        &mut self.holds
    }

    /// What the types that were asked want to do, in the order in which they were asked.
    pub(crate) fn effects(&mut self) -> &mut Vec<Box<dyn Effects>> {
        &mut self.effects
    }

    /// The types that dropped the message with a reason.
    pub(crate) fn drops(&mut self) -> &mut Vec<(Decider, Arc<str>)> {
        &mut self.drops
    }

    /// The type that did not accept the message.
    pub(crate) fn rejected_by(&self) -> Option<&Decider> {
        self.rejected_by.as_ref()
    }

    /// Lets go of what the last walk found; effects that are still here are undone.
    pub(crate) fn clear(&mut self) {
        self.queues.clear();
        self.seen_queues.clear();
        self.seen.clear();
        self.to_ask.clear();
        self.answers.clear();
        self.effects.clear();
        self.holds.clear();
        self.due_queues.clear();
        self.drops.clear();
        self.rejected_by = None;
    }

    /// Walks on from an exchange's answer, which was asked for from a layer on, and its effects.
    pub(crate) fn run(
        &mut self,
        asking: &mut Asking<'_, '_>,
        first: (&Arc<Exchange>, Layer),
        answer: Answer,
        effects: Option<Box<dyn Effects>>,
    ) -> Walked {
        self.clear();
        self.effects.extend(effects);
        let (exchange, mut layer) = first;
        let (mut exchange, mut answer) = (exchange.clone(), answer);
        self.seen.push(exchange.id);
        let mut dropped = false;
        loop {
            match self.keep_effects(answer) {
                Answer::Deliver(set) => {
                    self.follow(set.targets());
                    let more = match asking.more_keys {
                        Some(keys) => self.follow_more(asking, &exchange, layer, keys),
                        None => Ok(false),
                    };
                    match more {
                        Err(ended) => return ended,
                        Ok(false) if set.is_empty() => self.alternate(asking, &exchange),
                        Ok(_) => {}
                    }
                }
                Answer::Hold(hold) => {
                    if let Err(ended) = self.hold(asking, &exchange, layer, hold) {
                        return ended;
                    }
                }
                Answer::Drop(reason, by) => {
                    dropped = true;
                    self.drops.extend(reason.map(|reason| ((exchange.clone(), by), reason)));
                }
                Answer::Reject(reason, by) => {
                    self.rejected_by = Some((exchange, by));
                    return Walked::Rejected(reason);
                }
                Answer::Failed(refusal) => return Walked::Failed(refusal),
                Answer::Effective(_) => return Walked::Rejected(Arc::from(NO_ANSWER)),
            }
            let Some(next) = self.to_ask.pop() else { break };
            (exchange, layer) = next;
            let Some(next) = self.put_question(asking, &exchange, layer) else {
                return Walked::Pending;
            };
            answer = next;
        }
        match (self.queues.is_empty() && self.holds.is_empty(), dropped) {
            (false, _) => Walked::Routed,
            (true, true) => Walked::Dropped,
            (true, false) => Walked::Unroutable,
        }
    }

    /// Asks an exchange; `None` if it answers later.
    pub(crate) fn put_question(
        &mut self,
        asking: &mut Asking<'_, '_>,
        exchange: &Arc<Exchange>,
        layer: Layer,
    ) -> Option<Answer> {
        if asking.notes.is_some() {
            return asking.put_question(exchange, layer, asking.message, self.probing);
        }
        self.answers.clear();
        let message = &mut core::iter::once(asking.message);
        match asking.router.route(exchange, layer, message, &mut self.answers, asking.waker) {
            Routed::Pending => None,
            Routed::Ready | Routed::Cut => {
                Some(self.answers.pop().unwrap_or_else(|| Answer::Reject(Arc::from(NO_ANSWER), layer)))
            }
        }
    }

    /// Follows where a message goes with its further keys from an exchange; says whether there is any destination.
    /// An error ends the walk.
    fn follow_more(
        &mut self,
        asking: &mut Asking<'_, '_>,
        exchange: &Arc<Exchange>,
        layer: Layer,
        more: &MoreKeys,
    ) -> Result<bool, Walked> {
        let Some(layer) = asking.router.reads_key_from(exchange, layer) else { return Ok(false) };
        let with_key = |key| MessageView { routing_key: key, ..*asking.message };
        let mut left: Vec<MessageView<'_>> = more.keys.iter().map(|key| with_key(key)).collect();
        let mut found = false;
        while !left.is_empty() {
            let mut answers = Vec::with_capacity(left.len());
            if asking.notes.is_some() {
                for message in &left {
                    let explained = asking.put_question(exchange, layer, message, self.probing);
                    answers.push(explained.ok_or(Walked::Pending)?);
                }
            } else {
                let messages = &mut left.iter();
                let routed = asking.router.route(exchange, layer, messages, &mut answers, asking.waker);
                if routed == Routed::Pending || answers.is_empty() {
                    return Err(Walked::Pending);
                }
            }
            let answered = answers.len().min(left.len());
            left.drain(..answered);
            for answer in answers {
                match self.keep_effects(answer) {
                    Answer::Deliver(set) => {
                        found |= !set.is_empty();
                        self.follow(set.targets());
                    }
                    Answer::Hold(_) | Answer::Drop(..) | Answer::Effective(_) => {}
                    Answer::Reject(reason, by) => {
                        self.rejected_by = Some((exchange.clone(), by));
                        return Err(Walked::Rejected(reason));
                    }
                    Answer::Failed(refusal) => return Err(Walked::Failed(refusal)),
                }
            }
        }
        Ok(found)
    }

    fn keep_effects(&mut self, mut answer: Answer) -> Answer {
        while let Answer::Effective(effective) = answer {
            self.effects.push(effective.effects);
            answer = effective.answer;
        }
        answer
    }

    /// Notes a hold, unless it is certain that there is no destination. An error ends the walk.
    fn hold(
        &mut self,
        asking: &mut Asking<'_, '_>,
        exchange: &Arc<Exchange>,
        layer: Layer,
        hold: Hold,
    ) -> Result<(), Walked> {
        if self.probing && hold.resume > layer {
            self.to_ask.push((exchange.clone(), hold.resume));
            return Ok(());
        }
        if (asking.mandatory || asking.notes.is_some()) && !self.probing {
            let mut probe =
                self.probe.take().unwrap_or_else(|| Box::new(Self { probing: true, ..Self::default() }));
            let ended = match probe.put_question(asking, exchange, hold.resume) {
                Some(answer) => probe.run(asking, (exchange, hold.resume), answer, None),
                None => Walked::Pending,
            };
            self.due_queues.append(&mut probe.queues);
            if asking.mandatory {
                self.rejected_by = probe.rejected_by.take();
            }
            probe.clear();
            self.probe = Some(probe);
            match ended {
                _ if !asking.mandatory => {}
                Walked::Routed | Walked::Dropped => {}
                Walked::Unroutable => return Ok(()),
                ended => return Err(ended),
            }
        }
        let quota = asking.router.hold_quota(exchange, hold.resume);
        self.holds.push(Holding { exchange: exchange.clone(), hold, quota });
        Ok(())
    }

    fn alternate(&mut self, asking: &mut Asking<'_, '_>, exchange: &Exchange) {
        // An empty name is that of no exchange here, and keeps a policy from giving one.
        let Some(name) = exchange.alternate().filter(|name| !name.is_empty()) else { return };
        if let Some(step) = asking.notes.as_mut().and_then(|notes| notes.last_mut()) {
            step.alternate = Some(name.clone());
        }
        if let Some(alternate) = asking.vhost.exchange(&name) {
            self.ask(&alternate);
        }
    }

    fn follow(&mut self, targets: &Targets) {
        for queue in &targets.queues {
            self.found(queue);
        }
        for exchange in &targets.exchanges {
            self.ask(exchange);
        }
    }

    /// The default exchange: each key is the name of a queue.
    pub(crate) fn found_by_name(&mut self, vhost: &Vhost, key: &[u8], more: Option<&MoreKeys>) {
        let more = more.into_iter().flat_map(|more| more.keys.iter().map(|key| &**key));
        for name in core::iter::once(key).chain(more) {
            if let Some(queue) = vhost.queue(name) {
                self.found(&queue);
            }
        }
    }

    fn found(&mut self, queue: &Arc<Queue>) {
        if self.seen_queues.insert(Arc::as_ptr(queue)) {
            self.queues.push(queue.clone());
        }
    }

    fn ask(&mut self, exchange: &Arc<Exchange>) {
        if !self.seen.contains(&exchange.id) {
            self.seen.push(exchange.id);
            self.to_ask.push((exchange.clone(), Layer::FRONT));
        }
    }
}
