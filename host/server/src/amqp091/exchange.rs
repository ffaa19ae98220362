//! Class exchange (AMQP 0-9-1 section 1.6), with RabbitMQ's bindings between exchanges.

use super::{
    Connection,
    beside::{Answer, Asked, Work},
};
use leveret_amqp091::Method;
use leveret_broker::{BindTo, Now, exchange::ExchangeSpec, port::Router, unbroken_name};
use leveret_model::{Name, Table, refusal::Resource};
use std::borrow::Cow;

/// The words of an exchange.declare.
pub(super) struct Declare<'a> {
    pub(super) exchange: &'a [u8],
    pub(super) type_name: &'a [u8],
    pub(super) passive: bool,
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    pub(super) internal: bool,
    pub(super) arguments: Table,
}

/// The words that bind and unbind share, for queues and exchanges.
pub(super) struct Bind<'a> {
    pub(super) to: BindTo<'a>,
    pub(super) source: &'a [u8],
    pub(super) routing_key: &'a [u8],
    pub(super) arguments: Table,
}

/// What a binding leads to, its name without line breaks.
struct Unbroken<'a> {
    is_queue: bool,
    name: Cow<'a, [u8]>,
}

impl<'a> Unbroken<'a> {
    fn of(to: BindTo<'a>) -> Self {
        match to {
            BindTo::Queue(name) => Self { is_queue: true, name: unbroken_name(name) },
            BindTo::Exchange(name) => Self { is_queue: false, name: unbroken_name(name) },
        }
    }

    fn to(&self) -> BindTo<'_> {
        if self.is_queue { BindTo::Queue(&self.name) } else { BindTo::Exchange(&self.name) }
    }
}

impl Connection {
    /// exchange.declare (section 1.6.2.1).
    ///
    /// 404 passive and not there; 403 a reserved name or the default exchange; 406 redeclared with
    /// something that differs, an unknown type, or what the type's plugin refuses.
    pub(super) fn on_exchange_declare(
        &mut self,
        asked: Asked,
        declare: Declare<'_>,
        router: &mut dyn Router,
    ) -> Answer {
        const OK: Method<'static> = Method::ExchangeDeclareOk {};
        let open = self.open()?;
        let vhost = open.vhost.clone();
        if declare.passive {
            let exchange = unbroken_name(declare.exchange);
            if !exchange.is_empty() {
                open.acting().demand_any(Resource::Exchange, &exchange)?;
            }
            vhost.check_exchange(&exchange)?;
            return Ok(asked.reply(OK));
        }
        let spec = ExchangeSpec {
            name: name_of(declare.exchange),
            type_name: name_of(declare.type_name),
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            arguments: declare.arguments,
        };
        open.acting().demand_exchange_declare(&spec, router)?;
        match vhost.declare_exchange_now(router, spec.clone())? {
            Now::Ask => {
                let work: Work = Box::new(move |worker| vhost.declare_exchange(worker, spec));
                self.do_beside(asked, OK, work)
            }
            now => self.finish(asked, now, OK),
        }
    }

    /// exchange.delete (section 1.6.2.3). 403 a predeclared exchange; 406 in use.
    pub(super) fn on_exchange_delete(
        &mut self,
        asked: Asked,
        exchange: &[u8],
        if_unused: bool,
        router: &mut dyn Router,
    ) -> Answer {
        let exchange = unbroken_name(exchange);
        let open = self.open()?;
        open.acting().demand_exchange_delete(&exchange)?;
        let now = open.vhost.delete_exchange_now(router, &exchange, if_unused)?;
        self.finish(asked, now, Method::ExchangeDeleteOk {})
    }

    /// exchange.bind and queue.bind (section 1.7.2.3).
    ///
    /// 404 an exchange or queue that is not there; 403 the default exchange; 405 a queue that is
    /// exclusive to another connection; 406 what the type's plugin refuses.
    pub(super) fn on_bind(
        &mut self,
        asked: Asked,
        bind: Bind<'_>,
        ok: Method<'static>,
        router: &mut dyn Router,
    ) -> Answer {
        let by = self.id;
        let open = self.open()?;
        let vhost = open.vhost.clone();
        let Bind { to, source, routing_key, arguments } = bind;
        let (to, source) = (Unbroken::of(to), unbroken_name(source));
        open.acting().demand_bind(to.to(), &source, routing_key)?;
        match vhost.bind_now(router, &source, to.to(), routing_key, arguments.clone(), by)? {
            Now::Ask => {
                let (source, routing_key) = (name_of(&source), name_of(routing_key));
                let to = Unbroken { is_queue: to.is_queue, name: Cow::Owned(to.name.into_owned()) };
                let work: Work =
                    Box::new(move |worker| vhost.bind(worker, &source, to.to(), &routing_key, arguments, by));
                self.do_beside(asked, ok, work)
            }
            now => self.finish(asked, now, ok),
        }
    }

    /// exchange.unbind and queue.unbind (section 1.7.2.5). Unbinding what is not bound succeeds.
    pub(super) fn on_unbind(
        &mut self,
        asked: Asked,
        bind: Bind<'_>,
        ok: Method<'static>,
        router: &mut dyn Router,
    ) -> Answer {
        let by = self.id;
        let Bind { to, source, routing_key, arguments } = bind;
        let (to, source) = (Unbroken::of(to), unbroken_name(source));
        let open = self.open()?;
        open.acting().demand_bind(to.to(), &source, routing_key)?;
        let now = open.vhost.unbind_now(router, &source, to.to(), routing_key, arguments, by)?;
        self.finish(asked, now, ok)
    }

    /// Answers for a change that is made: at once, or when types were told that may take long and it is safe.
    pub(super) fn finish<T>(&mut self, asked: Asked, now: Now<T>, ok: Method<'static>) -> Answer {
        match now {
            Now::Ask => Ok(asked.reply(ok)),
            Now::Done(_, receipt) => self.answer_when_safe(asked, &receipt, ok),
            Now::Tell(_, receipt) => {
                let vhost = self.open()?.vhost.clone();
                let work: Work = Box::new(move |worker| {
                    vhost.tell_types(worker);
                    Ok(receipt)
                });
                self.do_beside(asked, ok, work)
            }
        }
    }
}

/// A name that came as a short string, which cannot be too long.
pub(super) fn name_of(bytes: &[u8]) -> Name {
    Name::new(bytes).unwrap_or_default()
}
