//! `holds`: messages that wait.

use super::{Context, draft::Op};
use crate::bindings::v0_2::leveret::routing::holds::{Held, Host};
use leveret_broker::port::HoldId;

/// The most messages in one answer.
const HELD_MAX: u32 = 1_000;

impl Host for Context {
    fn count(&mut self) -> wasmtime::Result<u64> {
        let exchange = self.call.as_ref().and_then(|call| call.exchange.as_ref());
        Ok(exchange.map_or(0, |exchange| exchange.hold_count() as u64))
    }

    fn first(&mut self, limit: u32) -> wasmtime::Result<Vec<Held>> {
        let exchange = self.call.as_ref().and_then(|call| call.exchange.as_ref());
        let held =
            exchange.map(|exchange| exchange.holds(0, limit.min(HELD_MAX) as usize)).unwrap_or_default();
        let held = held.into_iter().map(|held| Held {
            id: held.id.0,
            due: held.due_ms,
            routing_key: held.routing_key.to_vec(),
        });
        Ok(held.collect())
    }

    fn cancel(&mut self, id: u64) -> wasmtime::Result<()> {
        self.draft_or_trap()?.push(Op::CancelHold { id: HoldId(id) });
        Ok(())
    }
}
