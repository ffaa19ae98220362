//! What the user of a connection may do, asked before the broker does it (RabbitMQ's access control; the table of
//! operations is in the README).

use super::Open;
use leveret_access::Operation;
use leveret_amqp091::{
    Publish,
    properties::Properties,
    wire::{Elements, Field},
};
use leveret_broker::{BindTo, REPLY_TO, port::Router};
use leveret_model::{Name, Property, Refusal, Table, refusal::Resource};

/// Headers with further routing keys.
const MORE_KEYS: [&[u8]; 2] = [b"CC", b"BCC"];
/// What the default exchange is called in refusals.
const DEFAULT_EXCHANGE: &str = "amq.default";
/// The type whose routing keys have permissions of their own.
const TOPIC: &[u8] = b"topic";

impl Open {
    fn denied(&self, operation: Operation, resource: Resource, name: &[u8]) -> Refusal {
        let name = if name.is_empty() { Name::from_static(DEFAULT_EXCHANGE) } else { Name::cut(name) };
        let (vhost, user) = (self.rights.vhost().clone(), self.rights.user_name().clone());
        Refusal::Denied { operation, resource, name, vhost, user }
    }

    /// Whether the user may do that.
    ///
    /// # Errors
    /// [`Refusal::Denied`].
    pub(super) fn demand(
        &mut self,
        operation: Operation,
        resource: Resource,
        name: &[u8],
    ) -> Result<(), Refusal> {
        if self.rights.may(operation, name) { Ok(()) } else { Err(self.denied(operation, resource, name)) }
    }

    /// Reading from a queue: consume, get, purge. Replies to the channel need no permission.
    pub(super) fn demand_read(&mut self, queue: &[u8]) -> Result<(), Refusal> {
        if queue == REPLY_TO { Ok(()) } else { self.demand(Operation::Read, Resource::Queue, queue) }
    }

    /// A passive declare: whoever may do anything with it may know of it.
    pub(super) fn demand_any(&mut self, resource: Resource, name: &[u8]) -> Result<(), Refusal> {
        let any = [Operation::Configure, Operation::Write, Operation::Read];
        if any.into_iter().any(|operation| self.rights.may(operation, name)) {
            return Ok(());
        }
        Err(self.denied(Operation::Configure, resource, name))
    }

    /// Declaring a queue. What is dead-lettered is read from it and written to the exchange, by the broker in the
    /// user's name, so a queue that is not there yet asks for that too.
    pub(super) fn demand_queue_declare(&mut self, queue: &Name, arguments: &Table) -> Result<(), Refusal> {
        self.demand(Operation::Configure, Resource::Queue, queue)?;
        if self.vhost.queue(queue).is_some() {
            return Ok(());
        }
        self.demand_forwarding(Resource::Queue, queue, arguments, b"x-dead-letter-exchange")
    }

    /// Declaring an exchange; an alternate exchange likewise. What no permission makes right is told first, as in
    /// RabbitMQ.
    pub(super) fn demand_exchange_declare(
        &mut self,
        exchange: &Name,
        type_name: &Name,
        arguments: &Table,
        router: &mut dyn Router,
    ) -> Result<(), Refusal> {
        if exchange.is_empty() {
            return Ok(());
        }
        let is_there = self.vhost.exchange(exchange).is_some();
        if let Err(denied) = self.demand(Operation::Configure, Resource::Exchange, exchange) {
            if !is_there {
                router.check_type(self.vhost.name(), type_name, exchange)?;
            }
            return Err(denied);
        }
        if is_there {
            return Ok(());
        }
        self.demand_forwarding(Resource::Exchange, exchange, arguments, b"alternate-exchange")
    }

    fn demand_forwarding(
        &mut self,
        resource: Resource,
        name: &Name,
        arguments: &Table,
        argument: &[u8],
    ) -> Result<(), Refusal> {
        let Some(to) = arguments.get(argument).and_then(|value| value.as_text()) else { return Ok(()) };
        self.demand(Operation::Read, resource, name)?;
        self.demand(Operation::Write, Resource::Exchange, to.as_bytes())
    }

    /// Deleting an exchange. One that nobody may delete is refused by the broker.
    pub(super) fn demand_exchange_delete(&mut self, exchange: &[u8]) -> Result<(), Refusal> {
        if exchange.is_empty() || exchange.starts_with(b"amq.") {
            return Ok(());
        }
        self.demand(Operation::Configure, Resource::Exchange, exchange)
    }

    /// Binding and unbinding.
    pub(super) fn demand_bind(
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
        if self.rights.has_topics() && self.is_topic(source) {
            return self.demand_topic(Operation::Read, source, routing_key);
        }
        Ok(())
    }

    fn is_topic(&self, exchange: &[u8]) -> bool {
        self.vhost.exchange(exchange).is_some_and(|exchange| exchange.spec.type_name.as_bytes() == TOPIC)
    }

    fn demand_topic(
        &mut self,
        operation: Operation,
        exchange: &[u8],
        routing_key: &[u8],
    ) -> Result<(), Refusal> {
        if self.rights.may_use_topic(operation, exchange, routing_key) {
            return Ok(());
        }
        let (routing_key, exchange) = (Name::cut(routing_key), Name::cut(exchange));
        let (vhost, user) = (self.rights.vhost().clone(), self.rights.user_name().clone());
        Err(Refusal::TopicDenied { operation, routing_key, exchange, vhost, user })
    }

    /// The first of publishes that the user may not make, and why.
    pub(super) fn first_denied(&mut self, batch: &[Publish<'_>]) -> Option<(usize, Refusal)> {
        let has_topics = self.rights.has_topics();
        // Asked once for those that follow each other to one exchange.
        let mut allowed: Option<&[u8]> = None;
        batch.iter().enumerate().find_map(|(at, publish)| {
            let exchange: &[u8] = &publish.exchange;
            let is_asked = allowed.is_some_and(|allowed| is_same(allowed, exchange));
            let denied = if !is_asked && !self.rights.may_publish(exchange) {
                Some(self.denied(Operation::Write, Resource::Exchange, exchange))
            } else if has_topics || has_user_id(publish) {
                self.demand_publish(publish).err()
            } else {
                None
            };
            allowed = Some(exchange);
            denied.map(|denied| (at, denied))
        })
    }

    /// What is asked of few publishes: whose they say they are, and their routing keys at topic exchanges. What the
    /// broker refuses anyway is left to it.
    fn demand_publish(&mut self, publish: &Publish<'_>) -> Result<(), Refusal> {
        let Some(exchange) = self.vhost.exchange(&publish.exchange) else { return Ok(()) };
        if exchange.spec.internal {
            return Ok(());
        }
        let properties = Properties::new(&publish.properties);
        if let Some(claimed) = properties.string(Property::UserId)
            && !self.rights.may_publish_as(claimed)
        {
            let (claimed, user) = (Name::cut(claimed), self.rights.user_name().clone());
            return Err(Refusal::ForeignUserId { claimed, user });
        }
        if exchange.spec.type_name.as_bytes() != TOPIC {
            return Ok(());
        }
        self.demand_topic(Operation::Write, &publish.exchange, &publish.routing_key)?;
        for (_, field) in properties.headers().filter(|(name, _)| MORE_KEYS.contains(name)) {
            let Field::Array(keys) = field else { continue };
            for key in Elements::new(keys) {
                if let Field::LongStr(key) = key {
                    self.demand_topic(Operation::Write, &publish.exchange, key)?;
                }
            }
        }
        Ok(())
    }
}

/// Whether a message has the property `user-id`: bit 4 of the flags.
#[inline]
fn has_user_id(publish: &Publish<'_>) -> bool {
    publish.properties.get(1).is_some_and(|flags| flags & 0x10 != 0)
}

/// Whether two names are the same. Most are empty, and comparing no bytes at all can be slow.
#[inline]
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && (a.is_empty() || a == b)
}
