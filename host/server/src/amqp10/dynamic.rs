//! Nodes that are made on demand (section 3.5.3): a queue that is exclusive to its connection and goes with its link; one for
//! all, with another lifetime policy, which goes when that says (`nodes.rs`); and, where the source has the capability
//! `rabbitmq:volatile-queue`, the queue of replies to a session, which keeps nothing.

use super::{Connection, links::Refused, nodes::Use, terms::granted_source};
use crate::acting::Acting;
use leveret_amqp10::{
    Condition,
    composite::{Field as _, Fields, Symbols},
    form::address,
    messaging::{LifetimePolicy, MOVE, Source},
    types::{MapBuilder, Reader, Symbol, Value},
};
use leveret_broker::{QueueSpec, REPLY_TO, port::Router};
use leveret_model::Name;
use std::collections::BTreeMap;

/// The capability of a source that is to be the queue of replies (RabbitMQ's direct reply-to).
const VOLATILE: &str = "rabbitmq:volatile-queue";
/// When a node that was made on demand goes.
const LIFETIME_POLICY: Symbol<'static> = Symbol::from_static("lifetime-policy");
/// How messages may come from it.
const DIST_MODES: Symbol<'static> = Symbol::from_static("supported-dist-modes");

/// A node that was made on demand.
pub(super) struct Made {
    pub(super) queue: Name,
    /// As it is told.
    address: String,
    properties: MapBuilder,
}

impl Made {
    fn new(queue: Name, lifetime: LifetimePolicy) -> Self {
        let mut policy = Vec::new();
        lifetime.put(&mut policy);
        let mut properties = MapBuilder::new();
        properties.push(LIFETIME_POLICY, Reader::new(&policy).value().unwrap_or(Value::Null));
        properties.push(DIST_MODES, MOVE);
        Self { address: address::of_queue(&queue), queue, properties }
    }

    /// The address, and what is told of the node.
    pub(super) fn told(&self) -> (&str, Option<Fields<'_>>) {
        (&self.address, Fields::new(self.properties.view()))
    }

    /// The source as it is told.
    pub(super) fn source<'a>(&'a self, asked: Source<'a>) -> Source<'a> {
        let (address, dynamic_node_properties) = self.told();
        Source { address: Some(address), dynamic_node_properties, ..granted_source(asked, None, false) }
    }
}

/// Whether a source is to be the queue of replies.
pub(super) fn is_for_replies(capabilities: Symbols<'_>) -> bool {
    capabilities.contains(VOLATILE)
}

/// When a node is to go; with its link if nothing is said.
fn lifetime(properties: Option<Fields<'_>>) -> Result<LifetimePolicy, Refused> {
    match properties.and_then(|properties| properties.get(LIFETIME_POLICY.as_str())) {
        None => Ok(LifetimePolicy::DeleteOnClose),
        Some(policy) => LifetimePolicy::from_value(policy)
            .map_err(|_| Refused::new(Condition::InvalidField, "the lifetime policy is none that there is")),
    }
}

impl Connection {
    /// Makes the node of a link.
    pub(super) fn make_node(
        &mut self,
        (channel, handle): (u16, u32),
        properties: Option<Fields<'_>>,
    ) -> Result<Made, Refused> {
        let lifetime = lifetime(properties)?;
        let (shared, by) = (self.shared.clone(), self.id);
        let gone = || Refused::new(Condition::IllegalState, "the session is over");
        let open = self.open.as_mut().ok_or_else(gone)?;
        let goes_with_link = lifetime == LifetimePolicy::DeleteOnClose;
        let spec = QueueSpec { exclusive: goes_with_link, ..QueueSpec::default() };
        let mut acting = Acting { vhost: &open.vhost, rights: Some(&mut open.rights) };
        // What is not durable is there at once.
        let (status, _) = acting.declare_queue(&shared, spec, by)?;
        let session = open.sessions.get_mut(&channel).ok_or_else(gone)?;
        if goes_with_link {
            session.made.insert(handle, status.name.clone());
        } else if let Some(queue) = open.vhost.queue(&status.name) {
            session.uses.insert(handle, shared.nodes.made(open.vhost.name(), &queue, lifetime));
        }
        Ok(Made::new(status.name, lifetime))
    }

    /// The queue of replies to a session, which consumes them already.
    pub(super) fn replies_to(&self, channel: u16) -> Option<Made> {
        self.open
            .as_ref()?
            .client
            .reply_queue(channel)
            .map(|queue| Made::new(queue, LifetimePolicy::DeleteOnClose))
    }

    /// The name by which replies are consumed.
    pub(super) fn replies() -> Name {
        Name::cut(REPLY_TO)
    }

    /// A link leads to a queue or from it, which may be a node whose life that is.
    pub(super) fn use_node(&mut self, (channel, handle): (u16, u32), queue: &Name) {
        let Some(open) = &mut self.open else { return };
        let Some(session) =
            open.sessions.get_mut(&channel).filter(|session| !session.uses.contains_key(&handle))
        else {
            return;
        };
        if let Some(used) = self.shared.nodes.attach(open.vhost.name(), queue) {
            session.uses.insert(handle, used);
        }
    }

    /// All links of a session are gone, as far as nodes are concerned that do not go with one.
    pub(super) fn leave_nodes(&mut self, channel: u16, router: &mut dyn Router) {
        let uses = self.session(channel).map(|session| std::mem::take(&mut session.uses));
        uses.into_iter().flat_map(BTreeMap::into_values).for_each(|used| self.leave_node(&used, router));
    }

    fn leave_node(&mut self, used: &Use, router: &mut dyn Router) {
        let Some(open) = &self.open else { return };
        if self.shared.nodes.detach(open.vhost.name(), used) {
            self.delete_node(&used.queue, router);
        }
    }

    /// Deletes the node of a link, if it was made for that, or goes with the last link.
    pub(super) fn unmake_node(&mut self, channel: u16, handle: u32, router: &mut dyn Router) {
        if let Some(used) = self.session(channel).and_then(|session| session.uses.remove(&handle)) {
            self.leave_node(&used, router);
        }
        let Some(made) = self.session(channel).and_then(|session| session.made.remove(&handle)) else {
            return;
        };
        self.delete_node(&made, router);
    }

    pub(super) fn delete_node(&mut self, queue: &Name, router: &mut dyn Router) {
        let by = self.id;
        if let Some(open) = &self.open {
            // Gone already where somebody deleted it; the housekeeper tells types of it.
            let _ = open.vhost.delete_queue_now(router, queue, false, false, by);
        }
    }
}
