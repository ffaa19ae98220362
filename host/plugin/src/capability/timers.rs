//! `timers`: calls at a time.

use super::{Context, draft::Op};
use crate::bindings::v0_2::leveret::routing::timers::Host;
use leveret_model::Name;

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
}
