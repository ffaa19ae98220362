//! A virtual host: its exchanges and queues by name, and how they come and go.
//!
//! Look-ups take a read lock on one of two maps. Changes take the lock for changes as well, for
//! moments: no type is called under it, and publishing goes on meanwhile.
//!
//! *Types that may take long* ([`Router::is_quick`]) are asked and told in order, one thing after the
//! other, under a lock of their own that is held for as long as that takes. Whoever must not wait calls
//! the functions whose names end in `_now`: they never take that lock, and say what is left to be done
//! by somebody who may wait ([`Now`]).

use crate::{
    ConnectionId,
    dead_letter::Deaths,
    equivalence,
    exchange::{Binding, Destination, Exchange, ExchangeId, ExchangeSpec},
    keep::is_kept,
    later::Later,
    memory::MemoryAccount,
    names,
    policy::{self, Rule},
    port::{Points, Router, Wake},
    queue::{self, Queue, QueueId, QueueSpec, QueueStatus},
    reasons::Reasons,
    receipt::Receipt,
    restore::Restored,
    store::{Store, Volatile},
    telling::Now,
    topology::{self, Topology},
    traffic::VhostTraffic,
};
use alloc::{sync::Arc, vec::Vec};
use core::fmt;
use hashbrown::HashMap;
use leveret_model::{Name, Refusal, Table, refusal::Resource};
use parking_lot::{Mutex, RwLock};

type ByName<T> = RwLock<HashMap<Name, Arc<T>, foldhash::fast::RandomState>>;

/// The exchanges every vhost begins with: name, type, whether internal.
const PREDECLARED: [(&str, &str, bool); 6] = [
    ("amq.direct", "direct", false),
    ("amq.fanout", "fanout", false),
    ("amq.topic", "topic", false),
    ("amq.headers", "headers", false),
    ("amq.match", "headers", false),
    ("amq.rabbitmq.trace", "topic", true),
];

/// What came of looking at a declaration.
enum Declared {
    /// The exchange is there.
    Before(Receipt),
    /// It is to be made.
    New(ExchangeSpec),
}

/// A virtual host.
pub struct Vhost {
    name: Name,
    memory: Arc<MemoryAccount>,
    /// Taken before `changes`, by whoever may wait.
    pub(crate) order: Mutex<()>,
    pub(crate) changes: Mutex<Topology>,
    pub(crate) later: Arc<Later>,
    /// Of messages that die at nobody's hand.
    pub(crate) deaths: Arc<Deaths>,
    pub(crate) drops: Reasons,
    pub(crate) rejections: Reasons,
    /// Where what its exchange types keep is written.
    pub(crate) store: Arc<dyn Store>,
    /// Where interceptors are attached.
    pub(crate) intercepts: Points,
    pub(crate) rule: Rule,
    exchanges: ByName<Exchange>,
    queues: ByName<Queue>,
    /// Those for replies, which are in no list.
    pub(crate) replies: ByName<Queue>,
    pub(crate) restored: Restored,
    pub(crate) traffic: VhostTraffic,
}

impl Vhost {
    /// A vhost with the predeclared exchanges and no queues. The default exchange (`""`) is there
    /// by name; its messages go to the queue that the routing key names, and no type is asked.
    ///
    /// # Errors
    /// The refusal of a predeclared exchange's type.
    pub fn new(
        name: Name,
        memory: Arc<MemoryAccount>,
        router: &mut dyn Router,
    ) -> Result<Arc<Self>, Refusal> {
        Self::kept_in(Arc::new(Volatile), name, memory, router)
    }

    /// The same with a store for what is to outlive the process: the one in which the router keeps what its
    /// types do when they are called about no message. What it has of the virtual host is there again.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn kept_in(
        store: Arc<dyn Store>,
        name: Name,
        memory: Arc<MemoryAccount>,
        router: &mut dyn Router,
    ) -> Result<Arc<Self>, Refusal> {
        let later = Arc::new(Later::new(&memory, store.clone()));
        let reliever: Arc<dyn Wake> = later.clone();
        memory.relieved_by(Arc::downgrade(&reliever));
        let mut vhost = Self {
            intercepts: router.intercepts(&name),
            name,
            deaths: Arc::new(Deaths::new(later.clone())),
            later,
            store,
            drops: Reasons::default(),
            rejections: Reasons::default(),
            memory,
            order: Mutex::default(),
            changes: Mutex::default(),
            rule: Rule::default(),
            exchanges: RwLock::default(),
            queues: RwLock::default(),
            replies: RwLock::default(),
            restored: Restored::default(),
            traffic: VhostTraffic::default(),
        };
        let spec = |name, type_name, internal| ExchangeSpec {
            name: Name::from_static(name),
            type_name: Name::from_static(type_name),
            durable: true,
            auto_delete: false,
            internal,
            arguments: Table::new(),
        };
        let default = vhost.new_exchange(spec("", "direct", false));
        vhost.exchanges.write().insert(Name::EMPTY, Arc::new(default));
        for (name, type_name, internal) in PREDECLARED {
            vhost.open_exchange(router, spec(name, type_name, internal))?;
        }
        vhost.restored = vhost.restore(router);
        Ok(Arc::new(vhost))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The account that its queues charge.
    #[must_use]
    pub fn memory(&self) -> &Arc<MemoryAccount> {
        &self.memory
    }

    /// The exchange of a name.
    #[must_use]
    pub fn exchange(&self, name: &[u8]) -> Option<Arc<Exchange>> {
        self.exchanges.read().get(name).cloned()
    }

    /// The queue of a name, also one for replies.
    #[must_use]
    pub fn queue(&self, name: &[u8]) -> Option<Arc<Queue>> {
        let declared = self.queues.read().get(name).filter(|queue| !queue.is_deleted()).cloned();
        declared.or_else(|| self.replies(name))
    }

    /// All exchanges, the default one included, in no order.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Arc<Exchange>> {
        self.exchanges.read().values().cloned().collect()
    }

    /// All queues, in no order.
    #[must_use]
    pub fn queues(&self) -> Vec<Arc<Queue>> {
        self.queues.read().values().filter(|queue| !queue.is_deleted()).cloned().collect()
    }

    /// How many queues there are, about: one that goes at this moment may count.
    #[must_use]
    pub fn queue_count(&self) -> usize {
        self.queues.read().len()
    }

    /// All bindings that lead to a queue or an exchange, with their sources, in no order. That every
    /// queue gets what the default exchange has for its name is no binding.
    ///
    /// Takes the lock for changes: not for a message's path.
    #[must_use]
    pub fn bindings_to(&self, destination: &Destination) -> Vec<(Arc<Exchange>, Arc<Binding>)> {
        self.changes.lock().incoming(destination)
    }

    /// Declares an exchange (`exchange.declare`); one that is there must be equivalent.
    ///
    /// # Errors
    /// The default exchange, a reserved name, an unknown type, a difference to the exchange that
    /// is there, the type's refusal; a durable one that the store does not take.
    pub fn declare_exchange(&self, router: &mut dyn Router, spec: ExchangeSpec) -> Result<Receipt, Refusal> {
        let _order = (!router.declares_quickly(&self.name, &spec)).then(|| self.order.lock());
        let spec = match self.redeclare(router, spec)? {
            Declared::New(spec) => spec,
            Declared::Before(receipt) => return Ok(receipt),
        };
        let receipt = self.open_exchange(router, spec)?;
        self.tell_all(router);
        Ok(receipt)
    }

    /// [`Self::declare_exchange`], for whoever must not wait.
    ///
    /// # Errors
    /// The same.
    pub fn declare_exchange_now(
        &self,
        router: &mut dyn Router,
        spec: ExchangeSpec,
    ) -> Result<Now<()>, Refusal> {
        let spec = match self.redeclare(router, spec)? {
            Declared::New(spec) => spec,
            Declared::Before(receipt) => return Ok(Now::Done((), receipt)),
        };
        if !router.declares_quickly(&self.name, &spec) {
            return Ok(Now::Ask);
        }
        let receipt = self.open_exchange(router, spec)?;
        self.tell_quick(router);
        Ok(Now::Done((), receipt))
    }

    /// Checks a declaration that asks no type: one of an exchange that is there. Else gives it, checked
    /// as far as that goes without its type.
    fn redeclare(&self, router: &mut dyn Router, mut spec: ExchangeSpec) -> Result<Declared, Refusal> {
        spec.name = names::declared(&spec.name);
        if spec.name.is_empty() {
            return Err(self.protected(Name::EMPTY));
        }
        self.check_alternate(&spec.name, &spec.arguments)?;
        if let Some(current) = self.exchange(&spec.name) {
            if current.spec.type_name != spec.type_name {
                // An unknown type is told before the difference; a known one that is parked now
                // can still be redeclared.
                router.check_type(&self.name, &spec.type_name, &spec.name)?;
            }
            self.check_redeclared(&spec, &current)?;
            let receipt = self.written_before(&self.changes.lock(), is_kept(&current));
            return Ok(Declared::Before(receipt));
        }
        router.check_type(&self.name, &spec.type_name, &spec.name)?;
        names::check_new(Resource::Exchange, &spec.name)?;
        Ok(Declared::New(spec))
    }

    /// Whether an exchange is there (`exchange.declare` with `passive`).
    ///
    /// # Errors
    /// It is not, or it is the default exchange.
    pub fn check_exchange(&self, name: &[u8]) -> Result<(), Refusal> {
        if name.is_empty() {
            return Err(self.protected(Name::EMPTY));
        }
        if self.exchange(name).is_some() { Ok(()) } else { Err(self.no_exchange(name)) }
    }

    /// Deletes an exchange with its bindings both ways (`exchange.delete`). One that is not there
    /// counts as deleted.
    ///
    /// # Errors
    /// A predeclared exchange or any name beginning with `amq.`; in use, with `if_unused`.
    pub fn delete_exchange(
        &self,
        router: &mut dyn Router,
        name: &[u8],
        if_unused: bool,
    ) -> Result<(), Refusal> {
        self.delete_exchange_now(router, name, if_unused)?;
        self.tell_types(router);
        Ok(())
    }

    /// [`Self::delete_exchange`], for whoever must not wait.
    ///
    /// # Errors
    /// The same.
    pub fn delete_exchange_now(
        &self,
        router: &mut dyn Router,
        name: &[u8],
        if_unused: bool,
    ) -> Result<Now<()>, Refusal> {
        if name.is_empty() || names::is_reserved(name) {
            return Err(self.protected(Name::new(name).unwrap_or_default()));
        }
        let mut changes = self.changes.lock();
        let Some(exchange) = self.exchange(name) else {
            return Ok(Now::Done((), self.written_before(&changes, true)));
        };
        if if_unused && exchange.binding_count() > 0 {
            let (name, vhost) = (exchange.spec.name.clone(), self.name.clone());
            return Err(Refusal::InUse { resource: Resource::Exchange, name, vhost });
        }
        let gone = changes.remove_exchange(exchange);
        self.forget_exchanges(&gone);
        let receipt = self.write(&mut changes, |writing| writing.exchanges_gone(&gone));
        Ok(self.made(changes, Some(router), ((), receipt)))
    }

    /// Declares a queue (`queue.declare`); one that is there must be equivalent. An empty name has
    /// one made.
    ///
    /// # Errors
    /// A reserved name, an exclusive queue of another connection, a difference to the queue that
    /// is there, an argument that makes no sense; a durable one that the store does not take.
    pub fn declare_queue(&self, spec: QueueSpec, by: ConnectionId) -> Result<QueueStatus, Refusal> {
        self.declare_queue_kept(spec, by).map(|(status, _)| status)
    }

    /// The same, with the receipt.
    ///
    /// # Errors
    /// The same.
    pub fn declare_queue_kept(
        &self,
        mut spec: QueueSpec,
        by: ConnectionId,
    ) -> Result<(QueueStatus, Receipt), Refusal> {
        spec.name = names::declared(&spec.name);
        self.traffic.queues_declared.add_shared(1);
        let made = spec.name.is_empty();
        if !made {
            // Not even its owner declares a server-named queue by its name, as in RabbitMQ.
            names::check_new(Resource::Queue, &spec.name)?;
        }
        let mut changes = self.changes.lock();
        if made {
            spec.name = names::made_queue();
        } else if let Some(current) = self.queue(&spec.name) {
            if current.owner() != spec.exclusive.then_some(by) {
                return Err(current.locked());
            }
            equivalence::check_queue(&spec, current.spec(), &self.name)?;
            current.touch();
            let receipt = self.written_before(&changes, current.kept_id().is_some());
            return Ok((current.status(), receipt));
        }
        queue::check_arguments(&spec, made, &self.name)?;
        let owner = spec.exclusive.then_some(by);
        let id = QueueId(topology::next_id());
        let name = spec.name.clone();
        self.admit(spec.durable && !spec.exclusive, format_args!("queue '{name}'"))?;
        let keeping = self.keeping(&spec);
        let queue = self.new_queue(id, (spec, owner), keeping);
        queue.touch();
        if let Some(owner) = owner {
            changes.own(owner, &queue);
        }
        // One of that name may be there whose last consumer went just now.
        let replaced = self.queues.read().get(&name).cloned();
        let gone = replaced.as_ref().map(|replaced| changes.remove_queue(replaced)).unwrap_or_default();
        self.forget_exchanges(&gone);
        let receipt = self.write(&mut changes, |writing| {
            if let Some(replaced) = &replaced {
                writing.queue_gone(replaced);
            }
            writing.exchanges_gone(&gone);
            writing.queue(&queue);
        });
        // The store has it before anybody finds it: a message to a queue that it does not know it does not keep.
        self.put_queue(queue);
        if replaced.is_some() {
            self.made(changes, None, ((), Receipt::default()));
        }
        Ok((QueueStatus { name, messages: 0, consumers: 0 }, receipt))
    }

    /// The state of a queue (`queue.declare` with `passive`).
    ///
    /// # Errors
    /// No such queue, or exclusive to another connection.
    pub fn check_queue(&self, name: &[u8], by: ConnectionId) -> Result<QueueStatus, Refusal> {
        let queue = self.usable_queue(name, by)?;
        queue.touch();
        Ok(queue.status())
    }

    /// Deletes a queue with its bindings (`queue.delete`); returns how many messages were ready.
    /// One that is not there counts as deleted. A publish that begins after this has returned
    /// finds no such queue.
    ///
    /// # Errors
    /// Exclusive to another connection; in use or not empty, where that was asked.
    pub fn delete_queue(
        &self,
        router: &mut dyn Router,
        name: &[u8],
        if_unused: bool,
        if_empty: bool,
        by: ConnectionId,
    ) -> Result<u64, Refusal> {
        let deleted = self.delete_queue_now(router, name, if_unused, if_empty, by)?;
        self.tell_types(router);
        Ok(deleted.value().copied().unwrap_or(0))
    }

    /// [`Self::delete_queue`], for whoever must not wait.
    ///
    /// # Errors
    /// The same.
    pub fn delete_queue_now(
        &self,
        router: &mut dyn Router,
        name: &[u8],
        if_unused: bool,
        if_empty: bool,
        by: ConnectionId,
    ) -> Result<Now<u64>, Refusal> {
        let Some(queue) = self.queue(name) else {
            return Ok(Now::Done(0, self.written_before(&self.changes.lock(), true)));
        };
        if queue.is_for_replies() {
            return Ok(Now::Done(0, Receipt::default()));
        }
        queue.check_access(by)?;
        // Whoever else deletes it may not have come to the rest yet.
        let ready = queue.delete(if_unused, if_empty)?.unwrap_or(0);
        let mut changes = self.changes.lock();
        let receipt = self.queue_gone_locked(&mut changes, &queue);
        Ok(self.made(changes, Some(router), (ready, receipt)))
    }

    /// Drops a queue's ready messages (`queue.purge`); returns how many.
    ///
    /// # Errors
    /// No such queue, or exclusive to another connection.
    pub fn purge_queue(&self, name: &[u8], by: ConnectionId) -> Result<u64, Refusal> {
        self.purge_queue_kept(name, by).map(|(messages, _)| messages)
    }

    /// The same, with the receipt.
    ///
    /// # Errors
    /// The same.
    pub fn purge_queue_kept(&self, name: &[u8], by: ConnectionId) -> Result<(u64, Receipt), Refusal> {
        let queue = self.usable_queue(name, by)?;
        // Of those for replies nothing is taken away, as in RabbitMQ.
        Ok(if queue.is_for_replies() { (0, Receipt::default()) } else { queue.purge() })
    }

    pub(crate) fn usable_queue(&self, name: &[u8], by: ConnectionId) -> Result<Arc<Queue>, Refusal> {
        let queue = self.queue(name).ok_or_else(|| self.no_queue(name))?;
        queue.check_access(by)?;
        Ok(queue)
    }

    /// Removes what leads to a queue that was marked as deleted. Types that may take long are told later.
    pub(crate) fn queue_gone(&self, queue: &Arc<Queue>, router: Option<&mut (dyn Router + '_)>) {
        if queue.is_for_replies() {
            return self.replies_gone(queue);
        }
        let mut changes = self.changes.lock();
        let receipt = self.queue_gone_locked(&mut changes, queue);
        self.made(changes, router, ((), receipt));
    }

    fn queue_gone_locked(&self, changes: &mut Topology, queue: &Arc<Queue>) -> Receipt {
        let gone = changes.remove_queue(queue);
        self.forget_exchanges(&gone);
        // Another of that name may have been declared meanwhile: then it was told that this one is gone.
        let is_there = {
            let mut queues = self.queues.write();
            let found = queues.get(queue.name().as_bytes()).is_some_and(|found| Arc::ptr_eq(found, queue));
            found.then(|| queues.remove(queue.name().as_bytes())).is_some()
        };
        self.traffic.queues_deleted.add_shared(is_there.into());
        let receipt = self.write(changes, |writing| {
            if is_there {
                writing.queue_gone(queue);
            }
            writing.exchanges_gone(&gone);
        });
        if is_there { receipt } else { self.written_before(changes, queue.kept_id().is_some()) }
    }

    /// Deletes the exclusive queues of a connection that is gone. Types that may take long are told later.
    pub(crate) fn connection_gone(&self, id: ConnectionId, router: Option<&mut (dyn Router + '_)>) {
        let mut changes = self.changes.lock();
        for queue in changes.owned(id) {
            // Without conditions there is nothing to refuse.
            let _ = queue.delete(false, false);
            self.queue_gone_locked(&mut changes, &queue);
        }
        self.made(changes, router, ((), Receipt::default()));
    }

    pub(crate) fn forget_exchanges(&self, gone: &[Arc<Exchange>]) {
        if gone.is_empty() {
            return;
        }
        let mut exchanges = self.exchanges.write();
        for exchange in gone {
            exchanges.remove(exchange.spec.name.as_bytes());
        }
        drop(exchanges);
        for exchange in gone {
            self.later.exchange_gone(exchange);
            self.drops.forget(exchange);
            self.rejections.forget(exchange);
        }
    }

    /// Who is charged for what a queue has, and who comes for what dies in it.
    pub(crate) fn charged(&self) -> (Arc<MemoryAccount>, Arc<Deaths>) {
        (self.memory.clone(), self.deaths.clone())
    }

    fn new_exchange(&self, spec: ExchangeSpec) -> Exchange {
        let exchange = Exchange::new(ExchangeId(topology::next_id()), self.name.clone(), spec);
        let exchange = exchange.holding_in(&self.later);
        let is_kept = self.store.keeps() && is_kept(&exchange);
        if is_kept { exchange.kept_as(self.store.next_id()) } else { exchange }
    }

    /// Asks a new exchange's type and makes it visible. One that came meanwhile must be equivalent.
    fn open_exchange(&self, router: &mut dyn Router, spec: ExchangeSpec) -> Result<Receipt, Refusal> {
        let exchange = Arc::new(self.new_exchange(spec));
        router.open(&exchange)?;
        let mut changes = self.changes.lock();
        let name = &exchange.spec.name;
        let made = match self.exchange(name) {
            None => self.admit(is_kept(&exchange), format_args!("exchange '{name}'")).map(|()| {
                policy::govern(&self.policies(), &exchange);
                self.put_exchange(exchange.clone());
                self.write(&mut changes, |writing| writing.exchange(&exchange))
            }),
            Some(current) => {
                let receipt = self.written_before(&changes, is_kept(&current));
                let same = self.check_redeclared(&exchange.spec, &current);
                drop(changes);
                exchange.mark_deleted();
                router.closed(&exchange);
                return same.map(|()| receipt);
            }
        };
        drop(changes);
        if made.is_err() {
            exchange.mark_deleted();
            router.closed(&exchange);
        }
        made
    }

    pub(crate) fn put_exchange(&self, exchange: Arc<Exchange>) {
        self.exchanges.write().insert(exchange.spec.name.clone(), exchange);
    }

    /// Gives the one of that name that was there.
    pub(crate) fn put_queue(&self, queue: Arc<Queue>) -> Option<Arc<Queue>> {
        self.queues.write().insert(queue.name().clone(), queue)
    }

    pub(crate) fn no_exchange(&self, name: &[u8]) -> Refusal {
        self.not_found(Resource::Exchange, name)
    }

    pub(crate) fn no_queue(&self, name: &[u8]) -> Refusal {
        self.not_found(Resource::Queue, name)
    }

    fn not_found(&self, resource: Resource, name: &[u8]) -> Refusal {
        let shown = name.get(..Name::BYTES_MAX).unwrap_or(name);
        Refusal::NotFound { resource, name: Name::new(shown).unwrap_or_default(), vhost: self.name.clone() }
    }

    pub(crate) fn protected(&self, exchange: Name) -> Refusal {
        Refusal::Protected { exchange, vhost: self.name.clone() }
    }
}

/// Bindings between exchanges may go in circles; they are taken apart so that all is freed.
impl Drop for Vhost {
    fn drop(&mut self) {
        self.deaths.clear();
        let changes = self.changes.get_mut();
        for (_, exchange) in self.exchanges.get_mut().drain() {
            changes.remove_exchange(exchange);
        }
    }
}

impl fmt::Debug for Vhost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vhost").field("name", &self.name).finish_non_exhaustive()
    }
}
