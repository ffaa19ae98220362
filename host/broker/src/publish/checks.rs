//! What can be said against a message before any exchange is asked about it, and what is made of what an exchange
//! cannot be asked.

use super::{MESSAGE_HEAD_BYTES_MAX, Published};
use crate::{exchange::Exchange, vhost::Vhost};
use alloc::{format, string::ToString, sync::Arc};
use leveret_model::{MessageView, Name, Refusal};

impl Vhost {
    /// Whether a message can be published, as far as can be told before any exchange is asked about it.
    ///
    /// # Errors
    /// Its exchange is not there, or internal; it is too large, or its time to live or its further keys make no
    /// sense.
    pub fn check_publish(&self, message: &MessageView<'_>) -> Result<(), Refusal> {
        check(message)?;
        if let Some(refusal) = no_keys(message) {
            return Err(refusal);
        }
        let exchange = self.exchange(message.exchange);
        not_for_clients(self, exchange.as_deref(), message.exchange).map_or(Ok(()), Err)
    }
}

/// Why a message cannot be published whatever its exchange is.
///
/// Otherwise whether it says how long it may wait.
#[inline]
pub(super) fn check(message: &MessageView<'_>) -> Result<bool, Refusal> {
    if is_too_large(message) {
        return Err(too_large(message));
    }
    match message.ttl_ms() {
        Ok(ttl_ms) => Ok(ttl_ms.is_some()),
        Err(text) => Err(Refusal::InvalidArgument { text }),
    }
}

/// Why a message's further keys are none.
fn no_keys(message: &MessageView<'_>) -> Option<Refusal> {
    message.more_keys().err().map(|text| Refusal::InvalidArgument { text })
}

/// Why clients cannot publish to an exchange: it is not there, or internal.
pub(super) fn not_for_clients(vhost: &Vhost, exchange: Option<&Exchange>, name: &[u8]) -> Option<Refusal> {
    match exchange {
        None => Some(vhost.no_exchange(name)),
        Some(exchange) if exchange.spec.internal => {
            Some(Refusal::Internal { exchange: exchange.spec.name.clone(), vhost: vhost.name().clone() })
        }
        Some(_) => None,
    }
}

#[inline]
fn is_too_large(message: &MessageView<'_>) -> bool {
    message.routing_key.len() > Name::BYTES_MAX
        || head_bytes(message) > MESSAGE_HEAD_BYTES_MAX
        || u32::try_from(message.body.len()).is_err()
}

#[inline]
fn head_bytes(message: &MessageView<'_>) -> usize {
    message.exchange.len() + message.routing_key.len() + message.properties.len()
}

#[cold]
fn too_large(message: &MessageView<'_>) -> Refusal {
    Refusal::InvalidArgument {
        text: format!(
            "message too large: routing key of {} bytes, properties of {} bytes, body of {} bytes",
            message.routing_key.len(),
            message.properties.len(),
            message.body.len()
        ),
    }
}

/// An exchange that is parked is an error of the channel; one whose plugin failed on a message is
/// no fault of the channel, and the message is not accepted.
pub(super) fn failed(refusal: Refusal) -> Published {
    match refusal {
        Refusal::PluginFailed { .. } => Published::Rejected(Arc::from(refusal.to_string())),
        Refusal::PluginRefused { .. } | Refusal::PluginUnavailable { .. } => {
            Published::Unavailable(Arc::from(refusal.to_string()))
        }
        refusal => Published::Refused(refusal),
    }
}
