//! What leads where, read backwards: needed when something is deleted.
//!
//! Guarded by the vhost's lock for changes; publishing never looks here. What types are to be told of
//! changes waits here too, until somebody has the time (`telling.rs`).

use crate::{
    ConnectionId,
    exchange::{Binding, BindingId, Destination, Exchange, ExchangeId},
    port::{Deed, Router},
    queue::{Queue, QueueId},
    receipt::Receipt,
};
use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicU64, Ordering};
use hashbrown::HashMap;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum To {
    Queue(QueueId),
    Exchange(ExchangeId),
}

impl To {
    fn of(destination: &Destination) -> Self {
        match destination {
            Destination::Queue(queue) => Self::Queue(queue.id()),
            Destination::Exchange(exchange) => Self::Exchange(exchange.id),
        }
    }
}

#[derive(Default)]
pub(crate) struct Topology {
    incoming: Map<To, Map<(ExchangeId, BindingId), Arc<Exchange>>>,
    exclusive: Map<ConnectionId, Map<QueueId, Arc<Queue>>>,
    untold: Untold,
    /// What was handed to the store last.
    pub(crate) written: Receipt,
}

/// What no router was told yet.
#[derive(Default)]
pub(crate) struct Untold {
    /// Deleted exchanges.
    closed: Vec<Arc<Exchange>>,
    /// Bindings that are gone.
    unbound: Vec<(Arc<Exchange>, Arc<Binding>)>,
}

/// The number of the next exchange or queue of the whole broker.
pub(crate) fn next_id() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

impl Topology {
    /// Makes a prepared binding visible.
    pub(crate) fn bind(&mut self, source: &Arc<Exchange>, binding: Binding) -> Arc<Binding> {
        let incoming = self.incoming.entry(To::of(&binding.destination)).or_default();
        incoming.insert((source.id, binding.id), source.clone());
        source.commit(binding)
    }

    /// Removes a binding. Whether its source goes with it is the caller's question.
    pub(crate) fn unbind(&mut self, source: &Arc<Exchange>, binding: &Binding) {
        let removed = source.remove(binding.id);
        if !source.is_deleted() {
            self.untold.unbound.extend(removed.map(|binding| (source.clone(), binding)));
        }
        let to = To::of(&binding.destination);
        if let Some(incoming) = self.incoming.get_mut(&to) {
            incoming.remove(&(source.id, binding.id));
            if incoming.is_empty() {
                self.incoming.remove(&to);
            }
        }
    }

    /// All bindings that lead to something, with their sources, in no order.
    pub(crate) fn incoming(&self, destination: &Destination) -> Vec<(Arc<Exchange>, Arc<Binding>)> {
        let Some(incoming) = self.incoming.get(&To::of(destination)) else {
            return Vec::new();
        };
        let found =
            incoming.iter().filter_map(|((_, id), source)| Some((source.clone(), source.binding(*id)?)));
        found.collect()
    }

    /// Removes all bindings that lead to something; returns their sources, each once.
    fn unbind_incoming(&mut self, to: To) -> Vec<Arc<Exchange>> {
        let Some(incoming) = self.incoming.remove(&to) else {
            return Vec::new();
        };
        let mut sources: Map<ExchangeId, Arc<Exchange>> = Map::default();
        for ((_, binding), source) in incoming {
            let removed = source.remove(binding);
            self.untold.unbound.extend(removed.map(|binding| (source.clone(), binding)));
            sources.entry(source.id).or_insert(source);
        }
        sources.into_values().collect()
    }

    /// Removes a deleted queue's bindings; returns the exchanges that go with them.
    pub(crate) fn remove_queue(&mut self, queue: &Queue) -> Vec<Arc<Exchange>> {
        if let Some(owner) = queue.owner()
            && let Some(queues) = self.exclusive.get_mut(&owner)
        {
            queues.remove(&queue.id());
            if queues.is_empty() {
                self.exclusive.remove(&owner);
            }
        }
        let sources = self.unbind_incoming(To::Queue(queue.id()));
        self.delete_unbound(sources)
    }

    /// Removes an exchange with its bindings both ways; returns it and all that go with it.
    pub(crate) fn remove_exchange(&mut self, exchange: Arc<Exchange>) -> Vec<Arc<Exchange>> {
        let mut deleted = Vec::new();
        let mut pending = Vec::from([exchange]);
        while let Some(exchange) = pending.pop() {
            if exchange.is_deleted() {
                continue;
            }
            exchange.mark_deleted();
            for binding in exchange.all_bindings().1 {
                self.unbind(&exchange, &binding);
            }
            let sources = self.unbind_incoming(To::Exchange(exchange.id));
            pending.extend(sources.into_iter().filter(|source| goes_without_bindings(source)));
            self.untold.closed.push(exchange.clone());
            deleted.push(exchange);
        }
        deleted
    }

    /// Of these exchanges, deletes those that go without bindings.
    pub(crate) fn delete_unbound(&mut self, exchanges: Vec<Arc<Exchange>>) -> Vec<Arc<Exchange>> {
        let unbound = exchanges.into_iter().filter(|exchange| goes_without_bindings(exchange));
        unbound.flat_map(|exchange| self.remove_exchange(exchange)).collect()
    }

    pub(crate) fn own(&mut self, owner: ConnectionId, queue: &Arc<Queue>) {
        self.exclusive.entry(owner).or_default().insert(queue.id(), queue.clone());
    }

    /// The exclusive queues of a connection.
    pub(crate) fn owned(&self, owner: ConnectionId) -> Vec<Arc<Queue>> {
        self.exclusive.get(&owner).map(|queues| queues.values().cloned().collect()).unwrap_or_default()
    }

    /// Whether a router is to be told of something.
    pub(crate) fn has_untold(&self) -> bool {
        !self.untold.is_empty()
    }

    /// Takes what a router is to be told of those exchanges.
    pub(crate) fn take_untold(&mut self, is_to_be_told: impl Fn(&Exchange) -> bool) -> Untold {
        let Untold { closed, unbound } = &mut self.untold;
        Untold {
            closed: closed.extract_if(.., |exchange| is_to_be_told(exchange)).collect(),
            unbound: unbound.extract_if(.., |(source, _)| is_to_be_told(source)).collect(),
        }
    }
}

impl Untold {
    pub(crate) fn is_empty(&self) -> bool {
        self.closed.is_empty() && self.unbound.is_empty()
    }

    /// Tells a router.
    pub(crate) fn tell(self, router: &mut dyn Router, deeds: &mut Vec<Deed>) {
        for (source, binding) in self.unbound {
            // All bindings of a deleted exchange go with it.
            if !source.is_deleted() {
                router.unbound(&source, &binding, deeds);
            }
        }
        for exchange in self.closed {
            router.closed(&exchange);
        }
    }
}

fn goes_without_bindings(exchange: &Exchange) -> bool {
    exchange.spec.auto_delete && exchange.binding_count() == 0 && !exchange.is_deleted()
}
