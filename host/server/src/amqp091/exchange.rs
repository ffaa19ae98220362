//! Class exchange (AMQP 0-9-1 section 1.6), with RabbitMQ's bindings between exchanges.

use super::Connection;
use leveret_amqp091::Method;
use leveret_broker::{BindTo, exchange::ExchangeSpec, port::Router};
use leveret_model::{Name, Refusal, Table};

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

impl Connection {
    /// exchange.declare (section 1.6.2.1).
    ///
    /// 404 passive and not there; 403 a reserved name or the default exchange; 406 redeclared with
    /// something that differs, an unknown type, or what the type's plugin refuses.
    pub(super) fn on_exchange_declare(
        &mut self,
        declare: Declare<'_>,
        router: &mut dyn Router,
    ) -> Result<Method<'static>, Refusal> {
        let vhost = &self.open()?.vhost;
        if declare.passive {
            vhost.check_exchange(declare.exchange)?;
        } else {
            vhost.declare_exchange(
                router,
                ExchangeSpec {
                    name: name_of(declare.exchange),
                    type_name: name_of(declare.type_name),
                    durable: declare.durable,
                    auto_delete: declare.auto_delete,
                    internal: declare.internal,
                    arguments: declare.arguments,
                },
            )?;
        }
        Ok(Method::ExchangeDeclareOk {})
    }

    /// exchange.delete (section 1.6.2.3). 403 a predeclared exchange; 406 in use.
    pub(super) fn on_exchange_delete(
        &mut self,
        exchange: &[u8],
        if_unused: bool,
        router: &mut dyn Router,
    ) -> Result<Method<'static>, Refusal> {
        self.open()?.vhost.delete_exchange(router, exchange, if_unused)?;
        Ok(Method::ExchangeDeleteOk {})
    }

    /// exchange.bind and queue.bind (section 1.7.2.3).
    ///
    /// 404 an exchange or queue that is not there; 403 the default exchange; 405 a queue that is
    /// exclusive to another connection; 406 what the type's plugin refuses.
    pub(super) fn on_bind(
        &mut self,
        bind: Bind<'_>,
        ok: Method<'static>,
        router: &mut dyn Router,
    ) -> Result<Method<'static>, Refusal> {
        let by = self.id;
        self.open()?.vhost.bind(router, bind.source, bind.to, bind.routing_key, bind.arguments, by)?;
        Ok(ok)
    }

    /// exchange.unbind and queue.unbind (section 1.7.2.5). Unbinding what is not bound succeeds.
    pub(super) fn on_unbind(
        &mut self,
        bind: Bind<'_>,
        ok: Method<'static>,
        router: &mut dyn Router,
    ) -> Result<Method<'static>, Refusal> {
        let by = self.id;
        self.open()?.vhost.unbind(router, bind.source, bind.to, bind.routing_key, bind.arguments, by)?;
        Ok(ok)
    }
}

/// A name that came as a short string, which cannot be too long.
pub(super) fn name_of(bytes: &[u8]) -> Name {
    Name::new(bytes).unwrap_or_default()
}
