//! The routing walk of one message: on through bindings between exchanges and alternate exchanges.
//!
//! Each exchange is asked once and each queue found once, so circles end. The alternate exchange
//! is asked where the answer is an empty set, never where the type dropped or rejected. If one
//! branch rejects or cannot be asked the message goes nowhere.

use crate::{
    exchange::{Exchange, ExchangeId, Targets},
    port::{Answer, Layer, Routed, Router, Wake},
    queue::Queue,
    vhost::Vhost,
};
use alloc::{boxed::Box, sync::Arc, vec::Vec};
use hashbrown::HashSet;
use leveret_model::{MessageView, Refusal};

/// Where a walk ended.
pub(crate) enum Walked {
    /// At the queues in [`Walk::queues`].
    Queues,
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

/// Scratch for walks.
#[derive(Default)]
pub(crate) struct Walk {
    queues: Vec<Arc<Queue>>,
    seen_queues: HashSet<*const Queue, foldhash::fast::RandomState>,
    seen: Vec<ExchangeId>,
    to_ask: Vec<Arc<Exchange>>,
    answers: Vec<Answer>,
}

impl Walk {
    /// The queues that the last walk found.
    pub(crate) fn queues(&self) -> &[Arc<Queue>] {
        &self.queues
    }

    /// Lets go of what the last walk found.
    pub(crate) fn clear(&mut self) {
        self.queues.clear();
        self.seen_queues.clear();
        self.seen.clear();
        self.to_ask.clear();
        self.answers.clear();
    }

    /// Walks on from the first exchange's answer.
    pub(crate) fn run(
        &mut self,
        vhost: &Vhost,
        router: &mut dyn Router,
        first: (&Arc<Exchange>, Answer),
        message: &MessageView<'_>,
        waker: &Arc<dyn Wake>,
    ) -> Walked {
        self.clear();
        let (exchange, answer) = first;
        self.seen.push(exchange.id);
        let mut dropped = false;
        let mut answered = (exchange.clone(), answer);
        loop {
            match answered.1 {
                Answer::Deliver(set) if set.is_empty() => self.alternate(vhost, &answered.0, message),
                Answer::Deliver(set) => self.follow(set.targets()),
                Answer::Drop(_) => dropped = true,
                Answer::Reject(reason) => return Walked::Rejected(reason),
                // Nobody answers so yet.
                Answer::Hold(_) | Answer::Effective(_) => dropped = true,
                Answer::Failed(refusal) => return Walked::Failed(refusal),
            }
            let Some(exchange) = self.to_ask.pop() else { break };
            self.answers.clear();
            if router.route(&exchange, Layer::FRONT, &mut core::iter::once(message), &mut self.answers, waker)
                == Routed::Pending
            {
                return Walked::Pending;
            }
            let answer = self.answers.pop().unwrap_or(Answer::Drop(None));
            answered = (exchange, answer);
        }
        match (self.queues.is_empty(), dropped) {
            (false, _) => Walked::Queues,
            (true, true) => Walked::Dropped,
            (true, false) => Walked::Unroutable,
        }
    }

    fn alternate(&mut self, vhost: &Vhost, exchange: &Exchange, message: &MessageView<'_>) {
        let Some(name) = exchange.alternate() else { return };
        if name.is_empty() {
            if let Some(queue) = vhost.queue(message.routing_key) {
                self.found(&queue);
            }
        } else if let Some(alternate) = vhost.exchange(&name) {
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

    fn found(&mut self, queue: &Arc<Queue>) {
        if self.seen_queues.insert(Arc::as_ptr(queue)) {
            self.queues.push(queue.clone());
        }
    }

    fn ask(&mut self, exchange: &Arc<Exchange>) {
        if !self.seen.contains(&exchange.id) {
            self.seen.push(exchange.id);
            self.to_ask.push(exchange.clone());
        }
    }
}
