//! `queue-info`: the queues that the exchange's bindings lead to.

use super::Context;
use crate::bindings::v0_2::leveret::routing::queue_info::{Host, QueueStatus};
use leveret_broker::exchange::{BindingId, Destination};

impl Host for Context {
    fn of_binding(&mut self, id: u64) -> wasmtime::Result<Option<QueueStatus>> {
        let exchange = self.call.as_ref().and_then(|call| call.exchange.as_ref());
        let destination = exchange.and_then(|exchange| exchange.destination(BindingId(id)));
        Ok(match destination {
            Some(Destination::Queue(queue)) => {
                let status = queue.status();
                Some(QueueStatus { ready: status.messages, consumers: status.consumers })
            }
            Some(Destination::Exchange(_)) | None => None,
        })
    }
}
