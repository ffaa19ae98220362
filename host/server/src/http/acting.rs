//! What a caller does in a virtual host, as if it were connected there: with the permissions of its user, as RabbitMQ
//! has it. Who shows the token may do everything.

use super::{Api, error::ApiError, login::Caller};
use crate::acting::Acting;
use leveret_access::Rights;
use leveret_amqp091::close::{ReplyCode, reply_code};
use leveret_broker::{ConnectionId, Now, Receipt, Vhost};
use leveret_model::{Name, Refusal};
use leveret_plugin::Worker as PluginWorker;
use std::sync::Arc;

/// Nobody's connection: what is exclusive to one is not for callers.
pub(super) const NOBODY: ConnectionId = ConnectionId(0);

/// A caller in a virtual host.
pub(super) struct Entered {
    pub(super) vhost: Arc<Vhost>,
    /// `None` for whoever may do everything.
    rights: Option<Rights>,
}

impl Api {
    /// # Errors
    /// [`ApiError::NotFound`]: there is no such virtual host.
    pub(super) fn enter(&self, caller: &Caller, vhost: &str) -> Result<Entered, ApiError> {
        let vhost = self.vhost(vhost)?;
        let rights = match caller {
            Caller::Token => None,
            Caller::User(user) => {
                Some(Rights::new(self.shared.access.clone(), user.name.clone(), vhost.name().clone()))
            }
        };
        Ok(Entered { vhost, rights })
    }
}

impl Entered {
    /// What it does there.
    pub(super) fn acting(&mut self) -> Acting<'_> {
        Acting { vhost: &self.vhost, rights: self.rights.as_mut() }
    }
}

/// A refusal of the broker as this API says it: not found, not allowed, or a request that makes no sense.
impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match reply_code(&refusal) {
            ReplyCode::NotFound => Self::NothingThere(refusal.to_string()),
            ReplyCode::AccessRefused => Self::Denied,
            _ => Self::BadRequest(refusal.to_string()),
        }
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
