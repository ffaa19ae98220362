//! What a caller does in a virtual host, as if it were connected there: with the permissions of its user, as RabbitMQ
//! has it. Who shows the token may do everything.

use super::{Api, error::ApiError, login::Caller};
use leveret_access::{Operation, Rights};
use leveret_amqp091::{
    close::{ReplyCode, reply_code},
    properties::Properties,
};
use leveret_broker::{ConnectionId, Now, Receipt, Vhost};
use leveret_model::{MessageView, MoreKeys, Name, Property, Refusal};
use leveret_plugin::Worker as PluginWorker;
use std::sync::Arc;

/// Nobody's connection: what is exclusive to one is not for callers.
pub(super) const NOBODY: ConnectionId = ConnectionId(0);

/// A caller in a virtual host.
pub(super) struct Acting {
    pub(super) vhost: Arc<Vhost>,
    /// `None` for whoever may do everything.
    rights: Option<Rights>,
}

impl Api {
    /// # Errors
    /// [`ApiError::NotFound`]: there is no such virtual host.
    pub(super) fn acting(&self, caller: &Caller, vhost: &str) -> Result<Acting, ApiError> {
        let vhost = self.vhost(vhost)?;
        let rights = match caller {
            Caller::Token => None,
            Caller::User(user) => {
                Some(Rights::new(self.shared.access.clone(), user.name.clone(), vhost.name().clone()))
            }
        };
        Ok(Acting { vhost, rights })
    }
}

impl Acting {
    /// # Errors
    /// [`ApiError::Denied`].
    pub(super) fn demand(&mut self, operation: Operation, name: &[u8]) -> Result<(), ApiError> {
        let may = self.rights.as_mut().is_none_or(|rights| rights.may(operation, name));
        if may { Ok(()) } else { Err(ApiError::Denied) }
    }

    /// A routing key of a topic exchange; of others any will do.
    ///
    /// # Errors
    /// [`ApiError::Denied`].
    pub(super) fn demand_topic(
        &mut self,
        operation: Operation,
        exchange: &[u8],
        key: &[u8],
    ) -> Result<(), ApiError> {
        let Some(rights) = &mut self.rights else { return Ok(()) };
        let is_topic = |exchange: &[u8]| {
            let exchange = self.vhost.exchange(exchange);
            exchange.is_some_and(|exchange| exchange.spec.type_name.as_bytes() == b"topic")
        };
        let may =
            !rights.has_topics() || !is_topic(exchange) || rights.may_use_topic(operation, exchange, key);
        if may { Ok(()) } else { Err(ApiError::Denied) }
    }

    /// What a message says of who published it, and the keys that it goes by at a topic exchange.
    ///
    /// # Errors
    /// [`ApiError::Denied`]; it says that somebody else published it.
    pub(super) fn demand_publish(
        &mut self,
        message: &MessageView<'_>,
        more: Option<&MoreKeys>,
    ) -> Result<(), ApiError> {
        let Some(rights) = &mut self.rights else { return Ok(()) };
        if let Some(claimed) = Properties::new(message.properties).string(Property::UserId)
            && !rights.may_publish_as(claimed)
        {
            let (claimed, user) = (Name::cut(claimed), rights.user_name().clone());
            return Err(refused(&Refusal::ForeignUserId { claimed, user }));
        }
        self.demand_topic(Operation::Write, message.exchange, message.routing_key)?;
        let mut keys = more.into_iter().flat_map(|more| &more.keys);
        keys.try_for_each(|key| self.demand_topic(Operation::Write, message.exchange, key))
    }

    /// What is forwarded from something to an exchange that an argument names.
    ///
    /// # Errors
    /// [`ApiError::Denied`].
    pub(super) fn demand_forwarding(&mut self, from: &[u8], to: Option<&str>) -> Result<(), ApiError> {
        let Some(to) = to else { return Ok(()) };
        self.demand(Operation::Read, from)?;
        self.demand(Operation::Write, to.as_bytes())
    }
}

/// A refusal of the broker as this API says it: not found, not allowed, or a request that makes no sense.
pub(super) fn refused(refusal: &Refusal) -> ApiError {
    match reply_code(refusal) {
        ReplyCode::NotFound => ApiError::NothingThere(refusal.to_string()),
        ReplyCode::AccessRefused => ApiError::Denied,
        _ => ApiError::BadRequest(refusal.to_string()),
    }
}

/// Ends a change in the lane: types that may take long are told, or asked by `ask`. Gives the receipt.
pub(super) fn end<T>(
    vhost: &Vhost,
    worker: &mut PluginWorker,
    now: Now<T>,
    ask: impl FnOnce(&mut PluginWorker) -> Result<Receipt, Refusal>,
) -> Result<Receipt, Refusal> {
    match now {
        Now::Ask => ask(worker),
        Now::Done(_, receipt) => Ok(receipt),
        Now::Tell(_, receipt) => {
            vhost.tell_types(worker);
            Ok(receipt)
        }
    }
}

/// A name in a path.
///
/// # Errors
/// It is too long.
pub(super) fn name(text: &str) -> Result<Name, ApiError> {
    Name::new(text.as_bytes()).map_err(|error| ApiError::BadRequest(format!("{text:?}: {error}")))
}
