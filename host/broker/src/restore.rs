//! A virtual host that is there again after a restart.
//!
//! Everything is made as it was, without asking or telling a type of it, and nothing of it is written again. A plugin
//! that is missing keeps nothing from coming back: whoever asks types answers for its exchanges as for any whose
//! plugin was taken away, until it comes.

use crate::{
    exchange::{Destination, Exchange, ExchangeId, ExchangeSpec, TypeSpec},
    port::Router,
    queue::{Keeping, Queue, QueueId, QueueSpec},
    store::{BindingSpec, KeptExchange, KeptId, Topology as Kept},
    topology,
    vhost::Vhost,
};
use alloc::{sync::Arc, vec::Vec};
use leveret_model::{Name, Table};

/// What was made again at a start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Exchanges.
    pub exchanges: usize,
    /// Queues.
    pub queues: usize,
    /// The messages in them.
    pub messages: u64,
    /// Bindings.
    pub bindings: usize,
    /// Messages that are held.
    pub held: u64,
    /// Messages that were held by an exchange that is not there any more, and are dropped.
    pub held_lost: u64,
    /// Timers that exchanges' types set.
    pub timers: u64,
    /// Bindings that lead from or to something that is not there, and were left out.
    pub dangling: usize,
}

/// What the store has of a virtual host.
#[derive(Default)]
struct Everything {
    exchanges: Vec<(KeptId, ExchangeSpec, Table, Vec<TypeSpec>)>,
    queues: Vec<(KeptId, QueueSpec)>,
    bindings: Vec<Line>,
    holds: Option<KeptId>,
}

/// A binding.
struct Line {
    source: Name,
    to_queue: bool,
    destination: Name,
    routing_key: Name,
    arguments: Table,
}

impl Everything {
    fn add(&mut self, kept: Kept<'_>) {
        match kept {
            Kept::Exchange(KeptExchange { id, spec, arguments, types }) => {
                self.exchanges.push((id, spec.clone(), arguments.clone(), types.to_vec()));
            }
            Kept::Queue(id, spec) => self.queues.push((id, spec.clone())),
            Kept::Binding(BindingSpec { source, to_queue, destination, routing_key, arguments }) => {
                self.bindings.push(Line {
                    source: source.clone(),
                    to_queue,
                    destination: destination.clone(),
                    routing_key: routing_key.clone(),
                    arguments: arguments.clone(),
                });
            }
            Kept::Holds(id) => self.holds = Some(id),
            // They are made when their queue is.
            Kept::Lane(_) => {}
        }
    }
}

impl Vhost {
    /// What was there again when it was made.
    #[must_use]
    pub fn restored(&self) -> Restored {
        self.restored
    }

    /// Makes again what the store has. Nobody else has the virtual host yet.
    pub(crate) fn restore(&mut self, router: &mut dyn Router) -> Restored {
        if !self.store.keeps() {
            return Restored::default();
        }
        let mut everything = Everything::default();
        // Not under the store's locks: it is asked more on the way.
        self.store.topology(self.name(), &mut |kept| everything.add(kept));
        let Everything { exchanges, queues, bindings, holds } = everything;
        let mut restored = Restored::default();
        for (kept, spec, arguments, types) in exchanges {
            let (id, vhost) = (ExchangeId(topology::next_id()), self.name().clone());
            let exchange = Exchange::new(id, vhost, spec).with_arguments(arguments);
            let exchange = exchange.holding_in(&self.later).kept_as(kept);
            exchange.set_types(types);
            let exchange = Arc::new(exchange);
            router.restored(&exchange);
            self.put_exchange(exchange);
            restored.exchanges += 1;
        }
        for (id, spec) in queues {
            let kept = self.store.kept(id);
            let (store, durability) = (self.store.clone(), self.store.durability_of(&spec.name));
            let keeping = Some(Keeping { id, store, durability, keeps_all: spec.keeps_all() });
            let (id, vhost) = (QueueId(topology::next_id()), self.name().clone());
            let outside = (keeping, self.pager());
            let queue = Arc::new(Queue::new(id, vhost, spec, None, self.charged(), outside));
            restored.messages += queue.recover(kept);
            self.put_queue(queue);
            restored.queues += 1;
        }
        for line in bindings {
            match self.bind_again(line) {
                Some(()) => restored.bindings += 1,
                None => restored.dangling += 1,
            }
        }
        if let Some(id) = holds {
            (restored.held, restored.held_lost) = self.hold_again(id, router);
        }
        restored.timers = self.set_timers_again();
        restored
    }

    fn bind_again(&self, line: Line) -> Option<()> {
        let Line { source, to_queue, destination, routing_key, arguments } = line;
        let source = self.exchange(&source)?;
        let destination = match to_queue {
            true => Destination::Queue(self.queue(&destination)?),
            false => Destination::Exchange(self.exchange(&destination)?),
        };
        if source.find(&destination, &routing_key, &arguments).is_none() {
            let binding = source.prepare(destination, routing_key, arguments);
            self.changes.lock().bind(&source, binding);
        }
        Some(())
    }
}
