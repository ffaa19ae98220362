//! `enqueue`: messages straight into queues.

use super::{Context, draft::Op, outgoing};
use crate::bindings::v0_2::leveret::routing::enqueue::{Host, OutgoingMessage};
use leveret_model::Name;

fn name(bytes: &[u8]) -> wasmtime::Result<Name> {
    Name::new(bytes).map_err(|error| wasmtime::Error::msg(format!("a queue's name: {error}")))
}

impl Host for Context {
    fn enqueue(&mut self, queue: Vec<u8>, message: OutgoingMessage) -> wasmtime::Result<()> {
        let queue = name(&queue)?;
        let message = outgoing::message(self.form, Name::EMPTY, queue.clone(), message)?;
        self.draft_or_trap()?.push_outgoing(Op::Enqueue { queue, message })?;
        Ok(())
    }

    fn enqueue_copy(&mut self, queue: Vec<u8>) -> wasmtime::Result<()> {
        let queue = name(&queue)?;
        let message = outgoing::copy(self.on_hand())?;
        self.draft_or_trap()?.push_outgoing(Op::Enqueue { queue, message })?;
        Ok(())
    }
}
