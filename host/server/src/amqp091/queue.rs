//! Class queue (AMQP 0-9-1 section 1.7); its bindings are with those of class exchange.

use super::{
    Connection,
    beside::{Answer, Asked},
    exchange::name_of,
};
use leveret_access::Operation;
use leveret_amqp091::Method;
use leveret_broker::{QueueSpec, Receipt, declared_name, port::Router, unbroken_name};
use leveret_model::{Name, Refusal, Table, refusal::Resource};

/// The words of a queue.declare.
pub(super) struct Declare<'a> {
    pub(super) queue: &'a [u8],
    pub(super) passive: bool,
    pub(super) durable: bool,
    pub(super) exclusive: bool,
    pub(super) auto_delete: bool,
    pub(super) arguments: Table,
}

impl Connection {
    /// queue.declare (section 1.7.2.1). An empty name makes one up.
    ///
    /// 404 passive and not there; 403 a reserved name; 405 exclusive to another connection; 406
    /// redeclared with something that differs.
    pub(super) fn on_queue_declare(&mut self, asked: Asked, declare: Declare<'_>) -> Answer {
        let by = self.id;
        let shared = self.shared.clone();
        let open = self.open()?;
        let (status, receipt) = if let Some(status) = open.vhost.check_replies(declare.queue)? {
            (status, Receipt::default())
        } else if declare.passive {
            let queue = unbroken_name(declare.queue);
            open.acting().demand_any(Resource::Queue, &queue)?;
            (open.vhost.check_queue(&queue, by)?, Receipt::default())
        } else {
            let spec = QueueSpec {
                name: name_of(declare.queue),
                // As in RabbitMQ, which of this protocol alone takes it for transient.
                durable: declare.durable && !declare.exclusive,
                exclusive: declare.exclusive,
                auto_delete: declare.auto_delete,
                arguments: declare.arguments,
            };
            open.acting().declare_queue(&shared, spec, by)?
        };
        if let Some(channel) = open.channel(asked.channel) {
            channel.last_queue = Some(status.name.clone());
        }
        self.answer_declared(asked, &receipt, status)
    }

    /// queue.purge (section 1.7.2.7). 404 not there; 405 exclusive to another connection.
    pub(super) fn on_queue_purge(&mut self, asked: Asked, queue: &[u8]) -> Answer {
        let by = self.id;
        let queue = self.queue_named(asked.channel, queue)?;
        self.open()?.acting().demand_read(&queue)?;
        let (messages, receipt) = self.open()?.vhost.purge_queue_kept(&queue, by)?;
        self.answer_when_safe(asked, &receipt, Method::QueuePurgeOk { message_count: count_of(messages) })
    }

    /// queue.delete (section 1.7.2.9). Deleting what is not there succeeds. 405 exclusive to
    /// another connection; 406 in use or not empty, if that was a condition.
    pub(super) fn on_queue_delete(
        &mut self,
        asked: Asked,
        queue: &[u8],
        if_unused: bool,
        if_empty: bool,
        router: &mut dyn Router,
    ) -> Answer {
        let by = self.id;
        let queue = declared_name(&self.queue_named(asked.channel, queue)?);
        self.open()?.acting().demand(Operation::Configure, Resource::Queue, &queue)?;
        let now = self.open()?.vhost.delete_queue_now(router, &queue, if_unused, if_empty, by)?;
        let messages = now.value().copied().unwrap_or(0);
        self.finish(asked, now, Method::QueueDeleteOk { message_count: count_of(messages) })
    }

    /// The queue that a name means on a channel: an empty one is the last declared there.
    pub(super) fn queue_named(&mut self, channel: u16, queue: &[u8]) -> Result<Name, Refusal> {
        let last = self.open()?.channel(channel).and_then(|channel| channel.last_queue.clone());
        last_queue_or(last, queue)
    }
}

fn last_queue_or(last: Option<Name>, queue: &[u8]) -> Result<Name, Refusal> {
    if queue.is_empty() { last.ok_or(Refusal::NoLastQueue) } else { Ok(name_of(queue)) }
}

/// A count as the protocol has it: 32 bits, the most if there are more.
pub(super) fn count_of(messages: u64) -> u32 {
    u32::try_from(messages).unwrap_or(u32::MAX)
}
