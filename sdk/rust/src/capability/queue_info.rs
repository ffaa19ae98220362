//! The queues that the exchange's bindings lead to. Grant: `queue-info`.

use super::imports::queue_info as host;
use crate::BindingId;

/// How a queue stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStatus {
    /// Messages that wait for a consumer.
    pub ready: u64,
    /// Its consumers.
    pub consumers: u64,
}

/// The queue that a binding leads to; none where the binding is gone or leads to an exchange.
#[must_use]
pub fn of_binding(id: BindingId) -> Option<QueueStatus> {
    let status = host::of_binding(id.0)?;
    Some(QueueStatus { ready: status.ready, consumers: status.consumers })
}
