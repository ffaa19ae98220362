//! Dead letters: messages that their queue does not want any more go to its dead-letter exchange.
//!
//! A message that dies stays in its queue, handed out to nobody, until it is where it should go.
//! The connection at whose hand it died keeps it on a list ([`DeadLetters`]) and sends it on when no
//! lock is held: it copies a run of one queue's, writes their history ([`history`]), has them
//! intercepted, routes them as a publish is routed, and only then settles them in their queue. So
//! a failure on the way loses nothing.
//!
//! *Refused:* if a type or an interceptor refuses one, or cannot be asked, it stays in its queue and
//! is tried again after a while, longer each time; others are not held up. If the answer is pending,
//! it and those behind it wait for the waker. When the connection ends, what is on its list goes
//! back to the front of its queue, marked as redelivered.
//!
//! *Gone for good:* what no queue takes, what is dropped on purpose, and what would go round in a
//! circle in which no client rejects it. The queue counts each
//! ([`DeadLettering::counts`](crate::queue::DeadLettering::counts)).

mod history;
mod letters;

use crate::{
    exchange::Exchange,
    port::{Answer, Routed, Router, Wake},
    queue::{DeadLettering, MessageRef, Queue, Settle},
    stage::Stage,
    vhost::Vhost,
    walk::{Walk, Walked},
};
use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    vec::Vec,
};
use core::sync::atomic::{AtomicU64, Ordering};
use letters::Fate;
use leveret_model::MessageView;

pub use history::DEATHS_MAX;
pub(crate) use letters::Letters;

/// How many dead letters are routed in one go.
const RUN_MESSAGES_MAX: usize = 256;
/// After so many bytes a run is not made longer.
const RUN_BYTES_MAX: usize = 1024 * 1024;
/// How long a dead letter waits that was refused once, in milliseconds; twice as long each time.
pub const BACK_OFF_MS_FIRST: u64 = 100;
/// How long one waits at most, in milliseconds.
pub const BACK_OFF_MS_MAX: u64 = 30_000;

/// Why a message is dead-lettered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeathReason {
    /// A client rejected it, not to be requeued.
    Rejected,
    /// Its time to live is over.
    Expired,
    /// The queue is full.
    MaxLength,
    /// It was delivered in vain too often.
    DeliveryLimit,
}

impl DeathReason {
    /// The reason as the headers name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLength => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

/// A message that died and is in its queue still.
struct Dying {
    queue: Arc<Queue>,
    message: MessageRef,
    reason: DeathReason,
    /// How often it was refused.
    refusals: u32,
}

/// The dead letters that one connection is to send on.
#[derive(Default)]
pub(crate) struct DeadLetters {
    /// To be routed now, in the order in which they died.
    fresh: VecDeque<Dying>,
    /// Refused ones by the time of their next try, in milliseconds since 1970, and a number.
    refused: BTreeMap<(u64, u64), Dying>,
    /// The first of `fresh` waits for a type's answer, and all behind it with it.
    pending: bool,
    last_number: u64,
    last_now_ms: u64,
    routing: Option<Box<Routing>>,
}

/// Scratch, made with the first dead letter.
#[derive(Default)]
struct Routing {
    letters: Letters,
    answers: Vec<Answer>,
    stage: Stage,
    walk: Walk,
}

/// What routing needs from outside.
struct Post<'a> {
    vhost: &'a Vhost,
    router: &'a mut dyn Router,
    waker: &'a Arc<dyn Wake>,
}

impl DeadLetters {
    /// Adds a message. Its queue was told that it is dying ([`Queue::condemn`]).
    pub(crate) fn push(&mut self, queue: &Arc<Queue>, message: MessageRef, reason: DeathReason) {
        self.fresh.push_back(Dying { queue: queue.clone(), message, reason, refusals: 0 });
    }

    /// Whether some are to be routed, and none waits for an answer.
    pub(crate) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty() && !self.pending
    }

    /// How many are on the list.
    pub(crate) fn len(&self) -> usize {
        self.fresh.len() + self.refused.len()
    }

    /// When the next of those that were refused is to be tried again.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        self.refused.first_key_value().map(|((due_ms, _), _)| *due_ms)
    }

    /// Sends on what can be sent on; asks again where an answer was pending.
    pub(crate) fn send(
        &mut self,
        vhost: &Vhost,
        router: &mut dyn Router,
        now_ms: u64,
        waker: &Arc<dyn Wake>,
    ) {
        // A clock that was set back must not keep them waiting.
        let set_back = now_ms < self.last_now_ms;
        self.last_now_ms = now_ms;
        while let Some(next) = self.refused.first_entry() {
            if next.key().0 > now_ms && !set_back {
                break;
            }
            self.fresh.push_back(next.remove());
        }
        self.pending = false;
        let mut routing = self.routing.take().unwrap_or_default();
        let mut post = Post { vhost, router, waker };
        while let Some(first) = self.fresh.front() {
            let queue = first.queue.clone();
            let Some(to) = queue.dead_lettering() else {
                self.fresh.pop_front();
                continue;
            };
            let run = self.fresh.iter().take_while(|dying| Arc::ptr_eq(&dying.queue, &queue));
            let messages = run.take(RUN_MESSAGES_MAX).map(|dying| dying.message);
            routing.letters.clear();
            queue.copy(messages, RUN_BYTES_MAX, &mut routing.letters);
            let count = routing.letters.len();
            for (index, dying) in self.fresh.iter().take(count).enumerate() {
                routing.letters.prepare(index, (&queue, to), dying.reason, now_ms, post.router);
            }
            let dealt = routing.deliver(&mut post, &queue, to);
            self.settle(dealt, &queue, to, &routing.letters);
            self.pending = dealt < count;
            if self.pending {
                break;
            }
        }
        routing.letters.clear();
        self.routing = Some(routing);
    }

    /// Takes the first `dealt` off the list, and out of their queue unless they were refused.
    fn settle(&mut self, dealt: usize, queue: &Queue, to: &DeadLettering, letters: &Letters) {
        let mut buried = Vec::with_capacity(dealt);
        let counters = &to.counters;
        let count = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        for (index, mut dying) in self.fresh.drain(..dealt).enumerate() {
            match letters.fate(index) {
                Fate::Gone | Fate::ToRoute => continue,
                Fate::Routed => count(&counters.routed),
                Fate::Unroutable => count(&counters.unroutable),
                Fate::Cycle => count(&counters.cycles),
                Fate::Dropped => count(&counters.dropped),
                Fate::Refused => {
                    count(&counters.refused);
                    let wait_ms = BACK_OFF_MS_FIRST.saturating_mul(1 << dying.refusals.min(16));
                    dying.refusals = dying.refusals.saturating_add(1);
                    self.last_number += 1;
                    let due_ms = self.last_now_ms.saturating_add(wait_ms.min(BACK_OFF_MS_MAX));
                    self.refused.insert((due_ms, self.last_number), dying);
                    continue;
                }
            }
            buried.push((dying.message, None));
        }
        if !buried.is_empty() {
            queue.settle(&buried, Settle::Accepted);
        }
    }

    /// Puts everything back to the front of where it was.
    pub(crate) fn give_back(&mut self) {
        let refused = core::mem::take(&mut self.refused);
        for dying in self.fresh.drain(..).chain(refused.into_values()) {
            dying.queue.settle(&[(dying.message, None)], Settle::Requeue);
        }
    }
}

impl Routing {
    /// Routes the letters and hands them to the queues that were found. Returns how many were dealt
    /// with; the next one's answer is pending.
    fn deliver(&mut self, post: &mut Post<'_>, from: &Queue, to: &DeadLettering) -> usize {
        let exchange = if to.exchange.is_empty() { None } else { post.vhost.exchange(&to.exchange) };
        let Self { letters, answers, stage, walk } = self;
        let (places, views) = letters.to_route(to);
        // Noted apart, since the views borrow the letters.
        let mut fates: Vec<(usize, Fate)> = Vec::with_capacity(places.len());
        let mut router = Asking { post, answers, walk };
        let mut pending = None;
        match &exchange {
            Some(exchange) if !router.ask(exchange, &views) => pending = places.first().copied(),
            _ => {
                for (at, (place, view)) in places.iter().zip(&views).enumerate() {
                    let fate = router.fate(exchange.as_ref(), at, view, |queue| {
                        let cycle = letters.closes_cycle(*place, queue);
                        if !cycle {
                            stage.add(queue, *place as u32);
                        }
                        !cycle
                    });
                    let Some(fate) = fate else {
                        pending = Some(*place);
                        break;
                    };
                    fates.push((*place, fate));
                }
            }
        }
        answers.clear();
        walk.clear();
        for (place, fate) in fates {
            letters.set_fate(place, fate);
        }
        let arriving = letters.arriving(from, to);
        stage.give(|queue, members| queue.enqueue_dead(&arriving, members), |_, _| {});
        pending.unwrap_or(letters.len())
    }
}

/// Asks where dead letters go.
struct Asking<'a, 'b> {
    post: &'a mut Post<'b>,
    answers: &'a mut Vec<Answer>,
    walk: &'a mut Walk,
}

impl Asking<'_, '_> {
    /// Asks about all of them; false if the answer is pending.
    fn ask(&mut self, exchange: &Arc<Exchange>, views: &[MessageView<'_>]) -> bool {
        self.answers.clear();
        let Post { router, waker, .. } = &mut *self.post;
        views.is_empty() || router.route(exchange, &mut views.iter(), self.answers, waker) == Routed::Ready
    }

    /// Where the walk of one ends, with each queue that is found given to `take`, which says whether
    /// it may go there. `None` if an answer is pending.
    fn fate(
        &mut self,
        exchange: Option<&Arc<Exchange>>,
        at: usize,
        view: &MessageView<'_>,
        mut take: impl FnMut(&Arc<Queue>) -> bool,
    ) -> Option<Fate> {
        let routed = |taken: bool| if taken { Fate::Routed } else { Fate::Cycle };
        let Some(exchange) = exchange else {
            // The default exchange, or one that is not there.
            let queue = if view.exchange.is_empty() { self.post.vhost.queue(view.routing_key) } else { None };
            return Some(queue.map_or(Fate::Unroutable, |queue| routed(take(&queue))));
        };
        let Some(answer) = self.answers.get_mut(at) else {
            return Some(Fate::Refused);
        };
        let answer = core::mem::replace(answer, Answer::Drop);
        let Post { vhost, router, waker } = &mut *self.post;
        Some(match self.walk.run(vhost, *router, (exchange, answer), view, waker) {
            Walked::Queues => {
                let taken = self.walk.queues().iter().filter(|queue| take(queue)).count();
                routed(taken > 0)
            }
            Walked::Unroutable => Fate::Unroutable,
            Walked::Dropped => Fate::Dropped,
            Walked::Rejected(_) | Walked::Failed(_) => Fate::Refused,
            Walked::Pending => return None,
        })
    }
}

#[cfg(test)]
mod tests;
