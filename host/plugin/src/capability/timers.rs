//! `timers`: calls at a time.

use super::{Context, draft::Op};
use crate::bindings::v0_2::leveret::routing::timers::{Host, Timer};
use leveret_model::Name;

/// The most timers in one answer.
const TIMERS_MAX: u32 = 1_000;

fn name(bytes: &[u8]) -> wasmtime::Result<Name> {
    Name::new(bytes).map_err(|error| wasmtime::Error::msg(format!("a timer's name: {error}")))
}

impl Host for Context {
    fn set(&mut self, timer: Vec<u8>, after_ms: u64) -> wasmtime::Result<()> {
        let name = name(&timer)?;
        let due_ms = self.now_ms().saturating_add(after_ms);
        self.draft_or_trap()?.push(Op::SetTimer { name, due_ms });
        Ok(())
    }

    fn cancel(&mut self, timer: Vec<u8>) -> wasmtime::Result<()> {
        let name = name(&timer)?;
        self.draft_or_trap()?.push(Op::CancelTimer { name });
        Ok(())
    }

    fn count(&mut self) -> wasmtime::Result<u64> {
        let call = self.call.as_ref().and_then(|call| Some((call.exchange.as_ref()?, call.layer)));
        Ok(call.map_or(0, |(exchange, layer)| exchange.timer_count(layer) as u64))
    }

    fn first(&mut self, limit: u32) -> wasmtime::Result<Vec<Timer>> {
        let call = self.call.as_ref().and_then(|call| Some((call.exchange.as_ref()?, call.layer)));
        let timers = call.map(|(exchange, layer)| exchange.timers(layer, limit.min(TIMERS_MAX) as usize));
        let timers = timers.unwrap_or_default().into_iter();
        Ok(timers.map(|timer| Timer { name: timer.name.to_vec(), due: timer.due_ms }).collect())
    }
}
