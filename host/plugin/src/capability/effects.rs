//! `effects`: what becomes of effects where the message is unroutable.

use super::Context;
use crate::bindings::v0_2::leveret::routing::effects::Host;

impl Host for Context {
    fn keep_if_unroutable(&mut self) -> wasmtime::Result<()> {
        if let Some(draft) = self.draft() {
            draft.keep_if_unroutable();
        }
        Ok(())
    }
}
