//! `emit`: messages to exchanges.

use super::{Context, draft::Op, outgoing};
use crate::bindings::v0_2::leveret::routing::emit::{Host, OutgoingMessage};
use leveret_model::Name;

fn name(what: &str, bytes: &[u8]) -> wasmtime::Result<Name> {
    Name::new(bytes).map_err(|error| wasmtime::Error::msg(format!("{what}: {error}")))
}

impl Host for Context {
    fn publish(
        &mut self,
        exchange: Vec<u8>,
        routing_key: Vec<u8>,
        message: OutgoingMessage,
    ) -> wasmtime::Result<()> {
        let exchange = name("an exchange's name", &exchange)?;
        let routing_key = name("a routing key", &routing_key)?;
        let message = outgoing::message(self.form, exchange.clone(), routing_key, message)?;
        self.draft_or_trap()?.push_outgoing(Op::Emit { exchange, message })?;
        Ok(())
    }

    fn publish_copy(&mut self, exchange: Vec<u8>, routing_key: Vec<u8>) -> wasmtime::Result<()> {
        let exchange = name("an exchange's name", &exchange)?;
        let mut message = outgoing::copy(self.on_hand())?;
        message.exchange = exchange.clone();
        message.routing_key = name("a routing key", &routing_key)?;
        self.draft_or_trap()?.push_outgoing(Op::Emit { exchange, message })?;
        Ok(())
    }
}
