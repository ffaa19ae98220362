//! What a virtual host consists of, told to the store.
//!
//! *What is kept:* durable exchanges but for the predeclared ones, durable queues, and bindings whose both ends are
//! durable. What changes together is one group.
//!
//! *Order.* A group is handed over while the lock for changes is held, so the store has changes in the order in which
//! they became visible. Before something comes to be the store is asked whether it takes it; what goes is always
//! taken.

use crate::{
    exchange::{Binding, Destination, Exchange},
    names,
    port::Layer,
    queue::{Keeping, Queue, QueueSpec},
    receipt::{Receipt, Slip},
    store::{
        BindingSpec, Change, Group, KeptExchange, KeptId, StateChange, StateHolder, Store, Topology as Kept,
        TopologyChange, Written,
    },
    topology::Topology,
    vhost::Vhost,
};
use alloc::{boxed::Box, string::ToString, sync::Arc};
use core::fmt;
use leveret_model::{Name, Refusal};

/// A group of changes of a virtual host.
pub(crate) struct Writing<'a> {
    vhost: &'a Name,
    store: &'a dyn Store,
    group: Option<Box<dyn Group>>,
}

impl Writing<'_> {
    fn change(&mut self, change: TopologyChange<'_>) {
        self.group.get_or_insert_with(|| self.store.group()).topology(self.vhost, change);
    }

    /// There is an exchange, or it has other arguments.
    pub(crate) fn exchange(&mut self, exchange: &Exchange) {
        if let Some(id) = exchange.kept_id() {
            let settings = exchange.settings();
            let (spec, arguments, types) = (&exchange.spec, &settings.arguments, exchange.types());
            let kept = KeptExchange { id, spec, arguments, types };
            self.change(TopologyChange::Declared(Kept::Exchange(kept)));
        }
    }

    /// There is a queue.
    pub(crate) fn queue(&mut self, queue: &Queue) {
        if let Some(id) = queue.kept_id() {
            self.change(TopologyChange::Declared(Kept::Queue(id, queue.spec())));
        }
    }

    /// There is a binding.
    pub(crate) fn bound(&mut self, source: &Exchange, binding: &Binding) {
        if is_kept_binding(source, &binding.destination) {
            self.change(TopologyChange::Declared(Kept::Binding(spec_of(source, binding))));
        }
    }

    /// A binding is gone.
    pub(crate) fn unbound(&mut self, source: &Exchange, binding: &Binding) {
        if is_kept_binding(source, &binding.destination) {
            self.change(TopologyChange::Unbound(spec_of(source, binding)));
        }
    }

    /// A queue is gone.
    pub(crate) fn queue_gone(&mut self, queue: &Queue) {
        if let Some(id) = queue.kept_id() {
            for lane in queue.kept_lanes() {
                self.change(TopologyChange::LaneGone(lane));
            }
            self.change(TopologyChange::QueueGone(id, queue.name()));
        }
    }

    /// Exchanges are gone, and what their types keep.
    pub(crate) fn exchanges_gone(&mut self, gone: &[Arc<Exchange>]) {
        for exchange in gone.iter().filter(|exchange| exchange.kept_id().is_some()) {
            self.change(TopologyChange::ExchangeGone(&exchange.spec.name));
            let layers = (0..exchange.types().len()).map(|layer| Layer(layer as u8));
            for holder in layers.filter_map(|layer| exchange.state_holder(layer)) {
                let clear = Change { holder, change: StateChange::Clear };
                self.group.get_or_insert_with(|| self.store.group()).change(&[clear]);
            }
        }
    }
}

impl Exchange {
    /// The same, with that number in the store.
    pub(crate) fn kept_as(mut self, id: KeptId) -> Self {
        self.kept_id = Some(id);
        self
    }

    /// Its number in the store; `None` where it ends with the process.
    #[must_use]
    pub fn kept_id(&self) -> Option<KeptId> {
        self.kept_id
    }

    /// Whose is in the store what one of its types keeps; nobody's where it ends with the process.
    #[must_use]
    pub fn state_holder(&self, layer: Layer) -> Option<Arc<StateHolder>> {
        let (vhost, exchange) = (self.vhost.clone(), self.spec.name.clone());
        self.kept_id.map(|number| Arc::new(StateHolder { vhost, exchange, number, layer }))
    }
}

/// Whether an exchange is there again after a restart because somebody declared it.
pub(crate) fn is_kept(exchange: &Exchange) -> bool {
    let name = &exchange.spec.name;
    exchange.spec.durable && !name.is_empty() && !names::is_reserved(name)
}

/// Whether a binding is there again after a restart.
pub(crate) fn is_kept_binding(source: &Exchange, destination: &Destination) -> bool {
    let to_durable = match destination {
        Destination::Queue(queue) => queue.kept_id().is_some(),
        Destination::Exchange(exchange) => exchange.spec.durable,
    };
    source.spec.durable && to_durable
}

fn spec_of<'a>(source: &'a Exchange, binding: &'a Binding) -> BindingSpec<'a> {
    BindingSpec {
        source: &source.spec.name,
        to_queue: matches!(binding.destination, Destination::Queue(_)),
        destination: binding.destination.name(),
        routing_key: &binding.routing_key,
        arguments: &binding.arguments,
    }
}

impl Vhost {
    /// Asks the store whether it takes something that is to outlive the process. `what` names it.
    ///
    /// # Errors
    /// [`Refusal::NotKept`].
    pub(crate) fn admit(&self, is_durable: bool, what: impl fmt::Display) -> Result<(), Refusal> {
        if !is_durable || !self.store.keeps() {
            return Ok(());
        }
        self.store.admit().map_err(|failure| {
            let (what, vhost) = (what.to_string(), self.name().clone());
            Refusal::NotKept { what, vhost, why: failure.to_string() }
        })
    }

    /// Where its queues write what memory has no room for, if they do.
    pub(crate) fn pager(&self) -> Option<Arc<dyn Store>> {
        (self.store.keeps() && self.memory().may_page()).then(|| self.store.clone())
    }

    /// Where a queue's messages are kept, if it is one that outlives the process.
    pub(crate) fn keeping(&self, spec: &QueueSpec) -> Option<Keeping> {
        let is_kept = spec.durable && !spec.exclusive && self.store.keeps();
        is_kept.then(|| Keeping {
            id: self.store.next_id(),
            store: self.store.clone(),
            durability: self.store.durability_of(&spec.name),
            keeps_all: spec.keeps_all(),
        })
    }

    /// Hands a group over, if there is anything to write.
    pub(crate) fn write(&self, changes: &mut Topology, add: impl FnOnce(&mut Writing<'_>)) -> Receipt {
        if !self.store.keeps() {
            return Receipt::default();
        }
        let mut writing = Writing { vhost: self.name(), store: &*self.store, group: None };
        add(&mut writing);
        let Some(mut group) = writing.group else { return Receipt::default() };
        let slip = Arc::new(Slip::default());
        let waiter: Arc<dyn Written> = slip.clone();
        group.submit(self.store.durability(), Some((&waiter, 0)));
        changes.written = Receipt::of(&slip);
        changes.written.clone()
    }

    /// For something durable that was there already, or was gone: another may have made it or taken it away just now, and
    /// then it counts as done with that.
    pub(crate) fn written_before(&self, changes: &Topology, is_durable: bool) -> Receipt {
        if is_durable && changes.written.is_pending() { changes.written.clone() } else { Receipt::default() }
    }

    /// For what was changed before.
    #[must_use]
    pub fn written(&self) -> Receipt {
        self.written_before(&self.changes.lock(), true)
    }
}
