//! Publishing: a batch of messages from one connection, end to end.
//!
//! Publishes to one exchange that follow each other are routed in one call. Then the batch is
//! sorted by queue, and each queue takes its messages under one lock. Nothing is enqueued before
//! all that could be routed is routed, so one channel's messages keep their order in each queue.

use crate::{
    exchange::Exchange,
    memory::LargeBody,
    port::{Answer, Layer, Routed, Router, Wake},
    queue::{LARGE_BODY_BYTES, Queue},
    recent::Recent,
    stage::Stage,
    vhost::Vhost,
    walk::{Walk, Walked},
};
use alloc::{format, string::ToString, sync::Arc, vec::Vec};
use leveret_model::{MessageView, Name, Refusal};

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
}

/// What became of a published message.
#[derive(Clone, Debug, PartialEq)]
pub enum Published {
    /// At least one queue took it.
    Routed,
    /// The exchange's type dropped it on purpose: to be confirmed, not returned.
    Dropped,
    /// There is no queue for it: to be returned if it is mandatory, then confirmed.
    Unroutable,
    /// The type did not accept it, or failed on it: a negative confirm where confirms are on.
    Rejected(Arc<str>),
    /// The publish is an error of its channel. Whatever else the batch has from that channel
    /// after it went nowhere, and has the same outcome.
    Refused(Refusal),
}

/// One connection's way to publish: scratch, and what it looked up before.
#[derive(Default)]
pub struct Publisher {
    vhost: Option<Arc<Vhost>>,
    exchanges: Recent<Exchange>,
    queues: Recent<Queue>,
    scratch: Scratch,
}

#[derive(Default)]
struct Scratch {
    answers: Vec<Answer>,
    stage: Stage,
    walk: Walk,
    /// Large bodies of the batch, by their place in it.
    large: Vec<(u32, Arc<LargeBody>)>,
    /// Channels whose publish was refused in this batch, and why.
    refused: Vec<(u16, Refusal)>,
    /// A queue of the last batch has consumers that are behind.
    behind: bool,
}

/// What one call works on.
struct Batch<'a, 'b> {
    vhost: &'a Arc<Vhost>,
    router: &'a mut dyn Router,
    messages: &'a [Publish<'b>],
    outcomes: &'a mut Vec<Published>,
    waker: &'a Arc<dyn Wake>,
}

impl Publisher {
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
        if !self.vhost.as_ref().is_some_and(|known| Arc::ptr_eq(known, vhost)) {
            self.exchanges.clear();
            self.queues.clear();
            self.vhost = Some(vhost.clone());
        }
        let before = outcomes.len();
        let mut batch = Batch { vhost, router, messages: batch, outcomes, waker };
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
        self.scratch.enqueue(&mut batch, before);
        done
    }

    /// The default exchange: the routing key is the queue's name.
    fn publish_to_default(&mut self, batch: &mut Batch<'_, '_>, start: usize, run: usize) -> usize {
        let Self { queues, scratch, .. } = self;
        for (index, publish) in batch.messages.iter().enumerate().skip(start).take(run) {
            if let Some(refusal) = scratch.refusal(publish) {
                scratch.refuse(batch.outcomes, publish.channel, refusal);
                continue;
            }
            let name = publish.message.routing_key;
            let queue = queues.get(name, |queue| !queue.is_deleted(), || batch.vhost.queue(name));
            batch.outcomes.push(match queue {
                Some(queue) => {
                    scratch.keep_large(batch.vhost, index, &publish.message);
                    scratch.stage.add(queue, index as u32);
                    Published::Routed
                }
                None => Published::Unroutable,
            });
        }
        run
    }

    /// Publishes to one exchange that follow each other. Returns how many were dealt with.
    fn publish_to(&mut self, batch: &mut Batch<'_, '_>, name: &[u8], start: usize, run: usize) -> usize {
        let Self { exchanges, scratch, .. } = self;
        let exchange = exchanges.get(name, |exchange| !exchange.is_deleted(), || batch.vhost.exchange(name));
        let refusal = match exchange {
            None => Some(batch.vhost.no_exchange(name)),
            Some(exchange) if exchange.spec.internal => Some(Refusal::Internal {
                exchange: exchange.spec.name.clone(),
                vhost: batch.vhost.name().clone(),
            }),
            Some(_) => None,
        };
        let (None, Some(exchange)) = (&refusal, exchange) else {
            for publish in batch.messages.iter().skip(start).take(run) {
                let refusal = scratch.refusal(publish).or_else(|| refusal.clone());
                scratch.refuse(batch.outcomes, publish.channel, refusal.unwrap_or(Refusal::NoLastQueue));
            }
            return run;
        };
        let mut answers = core::mem::take(&mut scratch.answers);
        let messages = &mut batch.messages.iter().skip(start).take(run).map(|publish| &publish.message);
        let routed = batch.router.route(exchange, Layer::FRONT, messages, &mut answers, batch.waker);
        let dealt = if routed == Routed::Ready {
            scratch.answered(batch, exchange, start, run, &mut answers)
        } else {
            0
        };
        scratch.stage.forget_set();
        answers.clear();
        scratch.answers = answers;
        dealt
    }
}

impl Scratch {
    /// Deals with the answers for a run; stops where a walk has to wait.
    fn answered(
        &mut self,
        batch: &mut Batch<'_, '_>,
        exchange: &Arc<Exchange>,
        start: usize,
        run: usize,
        answers: &mut [Answer],
    ) -> usize {
        debug_assert_eq!(answers.len(), run, "the router answers for each message");
        let mut answers = answers.iter_mut();
        for (place, publish) in batch.messages.iter().skip(start).take(run).enumerate() {
            let index = start + place;
            let Some(answer) = answers.next() else {
                batch.outcomes.push(Published::Rejected(Arc::from("the exchange's type gave no answer")));
                continue;
            };
            if let Some(refusal) = self.refusal(publish) {
                self.refuse(batch.outcomes, publish.channel, refusal);
                continue;
            }
            if let Answer::Deliver(set) = answer
                && set.targets().exchanges.is_empty()
                && !set.is_empty()
            {
                self.keep_large(batch.vhost, index, &publish.message);
                self.stage.add_set(set.targets(), index as u32);
                batch.outcomes.push(Published::Routed);
                continue;
            }
            let answer = core::mem::replace(answer, Answer::Drop(None));
            self.stage.forget_set();
            let first = (exchange, answer);
            let walked = self.walk.run(batch.vhost, batch.router, first, &publish.message, batch.waker);
            let outcome = match walked {
                Walked::Pending => return place,
                Walked::Queues => {
                    self.keep_large(batch.vhost, index, &publish.message);
                    for queue in self.walk.queues() {
                        self.stage.add(queue, index as u32);
                    }
                    Published::Routed
                }
                Walked::Unroutable => Published::Unroutable,
                Walked::Dropped => Published::Dropped,
                Walked::Rejected(reason) => Published::Rejected(reason),
                Walked::Failed(refusal) => failed(*refusal),
            };
            self.walk.clear();
            match outcome {
                Published::Refused(refusal) => self.refuse(batch.outcomes, publish.channel, refusal),
                outcome => batch.outcomes.push(outcome),
            }
        }
        run
    }

    /// Why a publish is refused whatever its exchange says.
    fn refusal(&self, publish: &Publish<'_>) -> Option<Refusal> {
        if !self.refused.is_empty() {
            let earlier = self.refused.iter().find(|(channel, _)| *channel == publish.channel);
            if let Some((_, refusal)) = earlier {
                return Some(refusal.clone());
            }
        }
        let message = &publish.message;
        let head_bytes = message.exchange.len() + message.routing_key.len() + message.properties.len();
        let too_long = message.routing_key.len() > Name::BYTES_MAX
            || head_bytes > MESSAGE_HEAD_BYTES_MAX
            || u32::try_from(message.body.len()).is_err();
        too_long.then(|| Refusal::InvalidArgument {
            text: format!(
                "message too large: routing key of {} bytes, properties of {} bytes, body of {} bytes",
                message.routing_key.len(),
                message.properties.len(),
                message.body.len()
            ),
        })
    }

    fn refuse(&mut self, outcomes: &mut Vec<Published>, channel: u16, refusal: Refusal) {
        outcomes.push(Published::Refused(refusal.clone()));
        if !self.refused.iter().any(|(refused, _)| *refused == channel) {
            self.refused.push((channel, refusal));
        }
    }

    /// Copies a large body once, for all queues of its message.
    fn keep_large(&mut self, vhost: &Vhost, index: usize, message: &MessageView<'_>) {
        if message.body.len() >= LARGE_BODY_BYTES {
            self.large.push((index as u32, LargeBody::new(message.body, vhost.memory())));
        }
    }

    /// Gives each queue its messages. What only deleted queues would have taken is unroutable.
    fn enqueue(&mut self, batch: &mut Batch<'_, '_>, before: usize) {
        self.behind = false;
        let Self { stage, large, behind, .. } = self;
        let (messages, outcomes) = (batch.messages, &mut *batch.outcomes);
        let mut taken = hashbrown::HashSet::<u32>::new();
        let mut lost = Vec::new();
        stage.give(
            |queue, members| {
                let took = queue.enqueue(messages, members, large);
                *behind |= queue.is_behind();
                took
            },
            |members, took| {
                if took { taken.extend(members) } else { lost.extend_from_slice(members) }
            },
        );
        for message in lost {
            if !taken.contains(&message)
                && let Some(outcome) = outcomes.get_mut(before + message as usize)
            {
                *outcome = Published::Unroutable;
            }
        }
        large.clear();
        self.refused.clear();
    }
}

/// Whether two names are the same. Comparing no bytes at all can cost a hundred nanoseconds: masked
/// loads from where an empty slice points are slow.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && (a.is_empty() || a == b)
}

/// An exchange that is parked is an error of the channel; one whose plugin failed on a message is
/// no fault of the channel, and the message is not accepted.
fn failed(refusal: Refusal) -> Published {
    match refusal {
        Refusal::PluginFailed { .. } | Refusal::PluginRefused { .. } => {
            Published::Rejected(Arc::from(refusal.to_string()))
        }
        refusal => Published::Refused(refusal),
    }
}
