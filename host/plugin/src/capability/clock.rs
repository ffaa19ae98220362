//! `clock`: the time.

use super::Context;
use crate::bindings::v0_2::leveret::routing::clock::Host;

impl Host for Context {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.now_ms())
    }
}
