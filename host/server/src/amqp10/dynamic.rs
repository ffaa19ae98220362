//! Nodes that are made on demand (section 3.5.3): a queue that is exclusive to its connection and goes with its link; and,
//! where the source has the capability `rabbitmq:volatile-queue`, the queue of replies to a session, which keeps nothing.

use super::{Connection, links::Refused, terms::granted_source};
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
    fn new(queue: Name) -> Self {
        let mut policy = Vec::new();
        LifetimePolicy::DeleteOnClose.put(&mut policy);
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

/// A node goes with its link, and with nothing else.
fn check_lifetime(properties: Option<Fields<'_>>) -> Result<(), Refused> {
    match properties.and_then(|properties| properties.get(LIFETIME_POLICY.as_str())) {
        None => Ok(()),
        Some(policy) if LifetimePolicy::from_value(policy) == Ok(LifetimePolicy::DeleteOnClose) => Ok(()),
        Some(_) => {
            Err(Refused::new(Condition::NotImplemented, "a node that is made on demand goes with its link"))
        }
    }
}

impl Connection {
    /// Makes the node of a link.
    pub(super) fn make_node(
        &mut self,
        (channel, handle): (u16, u32),
        properties: Option<Fields<'_>>,
    ) -> Result<Made, Refused> {
        check_lifetime(properties)?;
        let (shared, by) = (self.shared.clone(), self.id);
        let gone = || Refused::new(Condition::IllegalState, "the session is over");
        let open = self.open.as_mut().ok_or_else(gone)?;
        let spec = QueueSpec { exclusive: true, ..QueueSpec::default() };
        let mut acting = Acting { vhost: &open.vhost, rights: Some(&mut open.rights) };
        // What is not durable is there at once.
        let (status, _) = acting.declare_queue(&shared, spec, by)?;
        if let Some(session) = open.sessions.get_mut(&channel) {
            session.made.insert(handle, status.name.clone());
        }
        Ok(Made::new(status.name))
    }

    /// The queue of replies to a session, which consumes them already.
    pub(super) fn replies_to(&self, channel: u16) -> Option<Made> {
        self.open.as_ref()?.client.reply_queue(channel).map(Made::new)
    }

    /// The name by which replies are consumed.
    pub(super) fn replies() -> Name {
        Name::cut(REPLY_TO)
    }

    /// Deletes the node of a link, if it was made for that.
    pub(super) fn unmake_node(&mut self, channel: u16, handle: u32, router: &mut dyn Router) {
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
