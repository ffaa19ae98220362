//! What a user may do in a virtual host, asked before the broker does it, whichever protocol it came by (RabbitMQ's access
//! control; the table of operations is in the README).
//!
//! *In:* the virtual host and the user's rights in it ([`Acting`]). *Out:* [`Refusal::Denied`] and its like, of which
//! each protocol makes its own. What is refused whoever asks is left to the broker.

use crate::wiring::Shared;
use leveret_access::{Operation, Rights};
use leveret_amqp091::{
    properties::Properties,
    wire::{Elements, Field},
};
use leveret_broker::{
    BindTo, ConnectionId, ExchangeSpec, QueueSpec, QueueStatus, REPLY_TO, Receipt, Vhost, check_queue_name,
    declared_name, exchange::Exchange, made_queue_name, port::Router, queue::QueueKind,
};
use leveret_model::{MessageView, MoreKeys, Name, Property, Refusal, Table, Value, refusal::Resource};

/// Headers with further routing keys.
const MORE_KEYS: [&[u8]; 2] = [b"CC", b"BCC"];
/// What the default exchange is called in refusals.
const DEFAULT_EXCHANGE: &str = "amq.default";
/// The type whose routing keys have permissions of their own.
const TOPIC: &[u8] = b"topic";

/// A user in a virtual host.
pub(crate) struct Acting<'a> {
    pub(crate) vhost: &'a Vhost,
    /// `None` for whoever may do everything.
    pub(crate) rights: Option<&'a mut Rights>,
}

impl Acting<'_> {
    fn denied(&self, operation: Operation, resource: Resource, name: &[u8]) -> Refusal {
        let name = if name.is_empty() { Name::from_static(DEFAULT_EXCHANGE) } else { Name::cut(name) };
        let (vhost, user) = (self.vhost.name().clone(), self.user());
        Refusal::Denied { operation, resource, name, vhost, user }
    }

    fn user(&self) -> Name {
        self.rights.as_ref().map(|rights| rights.user_name().clone()).unwrap_or_default()
    }

    fn may(&mut self, operation: Operation, name: &[u8]) -> bool {
        self.rights.as_mut().is_none_or(|rights| rights.may(operation, name))
    }

    /// Whether the user may do that.
    ///
    /// # Errors
    /// [`Refusal::Denied`].
    pub(crate) fn demand(
        &mut self,
        operation: Operation,
        resource: Resource,
        name: &[u8],
    ) -> Result<(), Refusal> {
        if self.may(operation, name) { Ok(()) } else { Err(self.denied(operation, resource, name)) }
    }

    /// Reading from a queue: consume, get, purge. Replies to the channel need no permission.
    ///
    /// # Errors
    /// [`Refusal::Denied`].
    pub(crate) fn demand_read(&mut self, queue: &[u8]) -> Result<(), Refusal> {
        if queue == REPLY_TO { Ok(()) } else { self.demand(Operation::Read, Resource::Queue, queue) }
    }

    /// A passive declare: whoever may do anything with it may know of it.
    ///
    /// # Errors
    /// [`Refusal::Denied`].
    pub(crate) fn demand_any(&mut self, resource: Resource, name: &[u8]) -> Result<(), Refusal> {
        let any = [Operation::Configure, Operation::Write, Operation::Read];
        if any.into_iter().any(|operation| self.may(operation, name)) {
            return Ok(());
        }
        Err(self.denied(Operation::Configure, resource, name))
    }

    /// Declares a queue. What is dead-lettered is read from it and written to the exchange, by the broker in the
    /// user's name, so a queue that is not there yet asks for that too; and it has to be one that the broker has
    /// quorum queues for, and the virtual host room.
    ///
    /// # Errors
    /// [`Refusal::Denied`]; what [`Vhost::declare_queue_kept`] refuses.
    pub(crate) fn declare_queue(
        &mut self,
        shared: &Shared,
        mut spec: QueueSpec,
        by: ConnectionId,
    ) -> Result<(QueueStatus, Receipt), Refusal> {
        name_type(&mut spec, shared.vhosts.queue_type(self.vhost.name()));
        let named = declared_name(&spec.name);
        // What nobody may declare is told first, as in RabbitMQ.
        check_queue_name(&named)?;
        // A name that is made is judged by another of its kind.
        let judged = if named.is_empty() { made_queue_name() } else { named };
        self.demand(Operation::Configure, Resource::Queue, &judged)?;
        if self.vhost.queue(&judged).is_none() {
            self.demand_forwarding(Resource::Queue, &judged, &spec.arguments, b"x-dead-letter-exchange")?;
            shared.quorum.check(&judged, self.vhost.name(), &spec.arguments)?;
            shared.vhosts.check_queues(self.vhost.name(), &judged)?;
        }
        self.vhost.declare_queue_kept(spec, by)
    }

    /// Declaring an exchange; an alternate exchange is written to as dead letters are. What no permission makes right is
    /// told first, as in RabbitMQ.
    ///
    /// # Errors
    /// [`Refusal::Denied`]; there is no such type.
    pub(crate) fn demand_exchange_declare(
        &mut self,
        spec: &ExchangeSpec,
        router: &mut dyn Router,
    ) -> Result<(), Refusal> {
        let exchange = declared_name(&spec.name);
        if exchange.is_empty() {
            return Ok(());
        }
        let is_there = self.vhost.exchange(&exchange).is_some();
        if let Err(denied) = self.demand(Operation::Configure, Resource::Exchange, &exchange) {
            if !is_there {
                router.check_type(self.vhost.name(), &spec.type_name, &exchange)?;
            }
            return Err(denied);
        }
        if is_there {
            return Ok(());
        }
        self.demand_forwarding(Resource::Exchange, &exchange, &spec.arguments, b"alternate-exchange")
    }

    fn demand_forwarding(
        &mut self,
        resource: Resource,
        name: &Name,
        arguments: &Table,
        argument: &[u8],
    ) -> Result<(), Refusal> {
        let Some(to) = arguments.get(argument).and_then(|value| value.as_string()) else { return Ok(()) };
        self.demand(Operation::Read, resource, name)?;
        self.demand(Operation::Write, Resource::Exchange, to)
    }

    /// Deleting an exchange. One that nobody may delete is refused by the broker.
    ///
    /// # Errors
    /// [`Refusal::Denied`].
    pub(crate) fn demand_exchange_delete(&mut self, exchange: &[u8]) -> Result<(), Refusal> {
        if exchange.is_empty() || exchange.starts_with(b"amq.") {
            return Ok(());
        }
        self.demand(Operation::Configure, Resource::Exchange, exchange)
    }

    /// Binding and unbinding.
    ///
    /// # Errors
    /// [`Refusal::Denied`], [`Refusal::TopicDenied`].
    pub(crate) fn demand_bind(
        &mut self,
        to: BindTo<'_>,
        source: &[u8],
        routing_key: &[u8],
    ) -> Result<(), Refusal> {
        match to {
            BindTo::Queue(queue) => self.demand(Operation::Write, Resource::Queue, queue)?,
            BindTo::Exchange(exchange) => self.demand(Operation::Write, Resource::Exchange, exchange)?,
        }
        self.demand(Operation::Read, Resource::Exchange, source)?;
        let has_topics = self.rights.as_mut().is_some_and(|rights| rights.has_topics());
        let exchange = if has_topics { self.vhost.exchange(source) } else { None };
        match exchange.is_some_and(|exchange| is_topic(&exchange)) {
            true => self.demand_topic(Operation::Read, source, routing_key),
            false => Ok(()),
        }
    }

    fn demand_topic(
        &mut self,
        operation: Operation,
        exchange: &[u8],
        routing_key: &[u8],
    ) -> Result<(), Refusal> {
        let Some(rights) = &mut self.rights else { return Ok(()) };
        if rights.may_use_topic(operation, exchange, routing_key) {
            return Ok(());
        }
        let (routing_key, exchange) = (Name::cut(routing_key), Name::cut(exchange));
        let (vhost, user) = (self.vhost.name().clone(), self.user());
        Err(Refusal::TopicDenied { operation, routing_key, exchange, vhost, user })
    }

    /// Publishing to an exchange, whatever the message.
    ///
    /// # Errors
    /// [`Refusal::Denied`].
    pub(crate) fn demand_write(&mut self, exchange: &[u8]) -> Result<(), Refusal> {
        let may = self.rights.as_mut().is_none_or(|rights| rights.may_publish(exchange));
        if may { Ok(()) } else { Err(self.denied(Operation::Write, Resource::Exchange, exchange)) }
    }

    /// The same of a message in any form, whose further keys were read.
    ///
    /// # Errors
    /// [`Refusal::ForeignUserId`], [`Refusal::TopicDenied`].
    pub(crate) fn demand_message(
        &mut self,
        message: &MessageView<'_>,
        more_keys: Option<&MoreKeys>,
    ) -> Result<(), Refusal> {
        let Some(rights) = &mut self.rights else { return Ok(()) };
        if let Some(Value::Text(claimed)) = message.property(Property::UserId)
            && !rights.may_publish_as(claimed.as_bytes())
        {
            let (claimed, user) = (Name::cut(claimed.as_bytes()), self.user());
            return Err(Refusal::ForeignUserId { claimed, user });
        }
        if !rights.has_topics()
            || !self.vhost.exchange(message.exchange).is_some_and(|known| is_topic(&known))
        {
            return Ok(());
        }
        self.demand_topic(Operation::Write, message.exchange, message.routing_key)?;
        let more_keys = more_keys.map_or(&[][..], |more| &more.keys);
        more_keys.iter().try_for_each(|key| self.demand_topic(Operation::Write, message.exchange, key))
    }

    /// What is asked of few publishes: whose they say they are, and their routing keys at topic exchanges. What the
    /// broker refuses anyway is left to it. `properties` are those of 0-9-1.
    ///
    /// # Errors
    /// [`Refusal::ForeignUserId`], [`Refusal::TopicDenied`].
    pub(crate) fn demand_publish(
        &mut self,
        (exchange, routing_key): (&[u8], &[u8]),
        properties: &[u8],
    ) -> Result<(), Refusal> {
        let Some(known) = self.vhost.exchange(exchange) else { return Ok(()) };
        if known.spec.internal {
            return Ok(());
        }
        let properties = Properties::new(properties);
        if let (Some(claimed), Some(rights)) = (properties.string(Property::UserId), &mut self.rights)
            && !rights.may_publish_as(claimed)
        {
            let (claimed, user) = (Name::cut(claimed), self.user());
            return Err(Refusal::ForeignUserId { claimed, user });
        }
        if !is_topic(&known) {
            return Ok(());
        }
        self.demand_topic(Operation::Write, exchange, routing_key)?;
        for (_, field) in properties.headers().filter(|(name, _)| MORE_KEYS.contains(name)) {
            let Field::Array(keys) = field else { continue };
            for key in Elements::new(keys) {
                if let Field::LongStr(key) = key {
                    self.demand_topic(Operation::Write, exchange, key)?;
                }
            }
        }
        Ok(())
    }
}

fn is_topic(exchange: &Exchange) -> bool {
    exchange.spec.type_name.as_bytes() == TOPIC
}

/// Names the type of a queue to be declared that names none, where that is not the usual one. Only classic queues may be
/// exclusive, go with their consumers, or be gone after a restart.
fn name_type(spec: &mut QueueSpec, kind: QueueKind) {
    const TYPE: &[u8] = b"x-queue-type";
    let is_named = spec.arguments.get(TYPE).is_some_and(|value| value.as_text() != Some(""));
    if kind == QueueKind::default() || is_named || !spec.durable || spec.exclusive || spec.auto_delete {
        return;
    }
    let others = spec.arguments.iter().filter(|(name, _)| name.as_bytes() != TYPE);
    let others = others.map(|(name, value)| (name.clone(), value.clone()));
    let named = (Name::from_static("x-queue-type"), Value::Text(kind.as_str().to_owned()));
    spec.arguments = others.chain([named]).collect();
}
