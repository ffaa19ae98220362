//! Class basic (AMQP 0-9-1 section 1.8) but for publishing, which has a file of its own, and the
//! dispatch of all methods.

use super::{
    Connection, Open,
    beside::{Answer, Asked},
    exchange::{self, Bind},
    leaving::{self, Head},
    queue::{self, count_of},
};
use crate::conversion;
use leveret_amqp091::{Method, form::FORM};
use leveret_broker::{BindTo, ConsumeSpec, Settle, port::Router};
use leveret_model::{MessageView, Refusal};
use std::sync::atomic::Ordering;

/// The library of kombu and Celery. They send `basic.qos` without `global`, to brokers that are not RabbitMQ and to
/// RabbitMQ from 4.0 on, to change the limit of consumers that run: that is what it means in the specification
/// (section 1.8.3.1), and in RabbitMQ it is for new ones alone.
const PY_AMQP: &str = "py-amqp";

impl Connection {
    /// The open part of the connection; requests come only once it is there.
    pub(super) fn open(&mut self) -> Result<&mut Open, Refusal> {
        self.open.as_mut().ok_or(Refusal::NotImplemented { what: "a request before connection.open".into() })
    }

    /// Sorts a request to its handler, and sends the answer or the refusal.
    pub(super) fn on_request(&mut self, channel: u16, request: Method<'_>, router: &mut dyn Router) {
        let ids = request.ids();
        match self.answer_request(channel, request, router) {
            Ok(Some(reply)) => self.session.reply(channel, reply),
            Ok(None) => {}
            Err(refusal) => self.session.refuse(channel, &refusal, ids),
        }
    }

    fn answer_request(&mut self, channel: u16, request: Method<'_>, router: &mut dyn Router) -> Answer {
        let ids = request.ids();
        let asked = |nowait| Asked { channel, ids, nowait };
        match request {
            Method::ExchangeDeclare {
                exchange,
                type_name,
                passive,
                durable,
                auto_delete,
                internal,
                nowait,
                arguments,
            } => {
                let declare = exchange::Declare {
                    exchange,
                    type_name,
                    passive,
                    durable,
                    auto_delete,
                    internal,
                    arguments,
                };
                self.on_exchange_declare(asked(nowait), declare, router)
            }
            Method::ExchangeDelete { exchange, if_unused, nowait } => {
                self.on_exchange_delete(asked(nowait), exchange, if_unused, router)
            }
            Method::ExchangeBind { destination, source, routing_key, nowait, arguments } => {
                let bind = Bind { to: BindTo::Exchange(destination), source, routing_key, arguments };
                self.on_bind(asked(nowait), bind, Method::ExchangeBindOk {}, router)
            }
            Method::ExchangeUnbind { destination, source, routing_key, nowait, arguments } => {
                let bind = Bind { to: BindTo::Exchange(destination), source, routing_key, arguments };
                self.on_unbind(asked(nowait), bind, Method::ExchangeUnbindOk {}, router)
            }
            Method::QueueDeclare { queue, passive, durable, exclusive, auto_delete, nowait, arguments } => {
                let declare = queue::Declare { queue, passive, durable, exclusive, auto_delete, arguments };
                self.on_queue_declare(asked(nowait), declare)
            }
            Method::QueueBind { queue, exchange, routing_key, nowait, arguments } => {
                let bind = Bind { to: BindTo::Queue(queue), source: exchange, routing_key, arguments };
                self.bind_queue(asked(nowait), bind, router)
            }
            Method::QueueUnbind { queue, exchange, routing_key, arguments } => {
                let queue = self.queue_named(channel, queue)?;
                let bind = Bind { to: BindTo::Queue(&queue), source: exchange, routing_key, arguments };
                self.on_unbind(asked(false), bind, Method::QueueUnbindOk {}, router)
            }
            Method::QueuePurge { queue, nowait } => self.on_queue_purge(asked(nowait), queue),
            Method::QueueDelete { queue, if_unused, if_empty, nowait } => {
                self.on_queue_delete(asked(nowait), queue, if_unused, if_empty, router)
            }
            Method::ConfirmSelect { nowait } => unless(nowait, self.on_confirm_select(channel)),
            other => self.answer_basic(channel, other, router),
        }
    }

    /// queue.bind (section 1.7.2.3): with queue and key both empty, the key is the queue's name.
    fn bind_queue(&mut self, asked: Asked, bind: Bind<'_>, router: &mut dyn Router) -> Answer {
        let BindTo::Queue(queue) = bind.to else { return Ok(None) };
        let name = self.queue_named(asked.channel, queue)?;
        let is_short = queue.is_empty() && bind.routing_key.is_empty();
        let routing_key = if is_short { name.as_bytes() } else { bind.routing_key };
        let bind = Bind { to: BindTo::Queue(&name), routing_key, ..bind };
        self.on_bind(asked, bind, Method::QueueBindOk {}, router)
    }

    fn answer_basic(&mut self, channel: u16, request: Method<'_>, router: &mut dyn Router) -> Answer {
        match request {
            Method::BasicQos { prefetch_size, prefetch_count, global } => {
                self.on_qos(channel, prefetch_size, prefetch_count, global).map(Some)
            }
            Method::BasicConsume {
                queue,
                consumer_tag,
                no_local: _,
                no_ack,
                exclusive,
                nowait,
                arguments,
            } => {
                let queue = self.queue_named(channel, queue)?;
                let tag = exchange::name_of(consumer_tag);
                let spec = ConsumeSpec { queue, tag, no_ack, exclusive, arguments, ..ConsumeSpec::default() };
                self.on_consume(channel, spec, nowait)
            }
            Method::BasicCancel { consumer_tag, nowait } => {
                self.open()?.client.cancel(channel, consumer_tag, router);
                if !nowait {
                    self.session.reply(channel, Method::BasicCancelOk { consumer_tag });
                }
                Ok(None)
            }
            // The client's answer to a cancel of ours; nothing waits for it.
            Method::BasicCancelOk { .. } => Ok(None),
            Method::BasicGet { queue, no_ack } => self.on_get(channel, queue, no_ack, router),
            Method::BasicAck { delivery_tag, multiple } => {
                self.on_settle(channel, delivery_tag, multiple, Settle::Accepted)
            }
            Method::BasicReject { delivery_tag, requeue } => {
                self.on_settle(channel, delivery_tag, false, settle_refused(requeue, true))
            }
            Method::BasicNack { delivery_tag, multiple, requeue } => {
                self.on_settle(channel, delivery_tag, multiple, settle_refused(requeue, false))
            }
            Method::BasicRecover { requeue } => {
                self.on_recover(channel, requeue).map(|()| Some(Method::BasicRecoverOk {}))
            }
            Method::BasicRecoverAsync { requeue } => self.on_recover(channel, requeue).map(|()| None),
            Method::TxSelect {} => self.on_tx_select(channel).map(Some),
            Method::TxCommit {} => self.on_tx_commit(channel, router),
            Method::TxRollback {} => self.on_tx_rollback(channel).map(Some),
            other => {
                tracing::debug!("no handler for {}", other.info().name);
                Err(Refusal::NotImplemented { what: "method is not there yet".into() })
            }
        }
    }

    /// basic.qos (section 1.8.3.1). 540 for a limit in bytes, as in RabbitMQ.
    fn on_qos(
        &mut self,
        channel: u16,
        size: u32,
        count: u16,
        global: bool,
    ) -> Result<Method<'static>, Refusal> {
        if size != 0 {
            return Err(Refusal::NotImplemented { what: format!("prefetch_size!=0 ({size})").into() });
        }
        let of_each = !global && self.session.client().product == PY_AMQP;
        let client = &mut self.open()?.client;
        if of_each {
            client.qos_of_each(channel, count);
        } else {
            client.qos(channel, count, global);
        }
        Ok(Method::BasicQosOk {})
    }

    /// basic.consume (section 1.8.3.3).
    ///
    /// 404 not there; 403 in exclusive use; 405 exclusive to another connection; 530 the tag is in
    /// use on the channel.
    fn on_consume(&mut self, channel: u16, spec: ConsumeSpec, nowait: bool) -> Answer {
        let open = self.open()?;
        open.acting().demand_read(&spec.queue)?;
        let tag = open.client.consume(channel, spec)?;
        if !nowait {
            self.session.reply(channel, Method::BasicConsumeOk { consumer_tag: &tag });
        }
        // Messages that are there already are delivered behind the answer.
        self.deliveries_wait = true;
        Ok(None)
    }

    /// basic.get (section 1.8.3.10). 404 not there; 405 exclusive to another connection.
    fn on_get(&mut self, channel: u16, queue: &[u8], no_ack: bool, router: &mut dyn Router) -> Answer {
        let queue = self.queue_named(channel, queue)?;
        let (session, leaving, store) = (&mut self.session, &mut self.leaving, &self.shared.store);
        let open = self
            .open
            .as_mut()
            .ok_or(Refusal::NotImplemented { what: "a request before connection.open".into() })?;
        open.acting().demand_read(&queue)?;
        let found = open.client.get(channel, &queue, no_ack, router, &mut |got| {
            if let Some(stub) = got.message.far() {
                let head = Head::GetOk(got.delivery_tag, got.redelivered, count_of(got.messages_left));
                *leaving = leaving::begin(session, store, channel, &head, (&got.message, &stub));
                return;
            }
            if !conversion::is_of(got.message.form, FORM) {
                let (properties, body) = conversion::to_amqp091(&got.message);
                let message = MessageView { form: FORM, properties: &properties, body: &body, ..got.message };
                let left = count_of(got.messages_left);
                return session.get_ok(channel, got.delivery_tag, got.redelivered, left, &message);
            }
            session.get_ok(
                channel,
                got.delivery_tag,
                got.redelivered,
                count_of(got.messages_left),
                &got.message,
            );
        })?;
        self.deliveries_wait |= self.leaving.is_some();
        Ok((!found).then_some(Method::BasicGetEmpty {}))
    }

    /// basic.ack, basic.reject, basic.nack (section 1.8.3.13). 406 a tag that is not outstanding.
    fn on_settle(&mut self, channel: u16, delivery_tag: u64, multiple: bool, settle: Settle) -> Answer {
        self.open()?.client.settle(channel, delivery_tag, multiple, settle)?;
        // A consumer at its limit may have room again.
        self.deliveries_wait = true;
        Ok(None)
    }

    /// basic.recover (section 1.8.3.16). 540 without requeue, as in RabbitMQ.
    fn on_recover(&mut self, channel: u16, requeue: bool) -> Result<(), Refusal> {
        if !requeue {
            return Err(Refusal::NotImplemented { what: "requeue=false".into() });
        }
        self.open()?.client.recover(channel);
        self.deliveries_wait = true;
        Ok(())
    }

    /// confirm.select (RabbitMQ's extension). Again, it changes nothing.
    fn on_confirm_select(&mut self, channel: u16) -> Result<Method<'static>, Refusal> {
        if let Some(channel) = self.open()?.channel(channel) {
            if channel.transaction.is_some() {
                let text = "cannot switch from tx to confirm mode".into();
                return Err(Refusal::InvalidArgument { text });
            }
            channel.confirm_next.get_or_insert(1);
            channel.traffic.mode.confirms.store(true, Ordering::Relaxed);
        }
        Ok(Method::ConfirmSelectOk {})
    }
}

/// As in RabbitMQ a reject counts as a failure where deliveries are limited, a nack does not.
fn settle_refused(requeue: bool, failed: bool) -> Settle {
    match (requeue, failed) {
        (true, failed) => Settle::Requeue { failed },
        (false, true) => Settle::Rejected,
        (false, false) => Settle::Discarded,
    }
}

/// With `nowait` only a refusal is told.
fn unless(nowait: bool, answer: Result<Method<'static>, Refusal>) -> Answer {
    answer.map(|reply| (!nowait).then_some(reply))
}
