//! The engines: one for each compiler, and the clock that cuts off guests.

mod config;
mod ticker;

pub use config::CodeStrategy;
pub(crate) use ticker::{CallSlot, Ticker};

use std::sync::OnceLock;
use wasmtime::{Engine, component::Component};

/// The triple this broker was built for, if it is one whose name is certain.
///
/// The build script knows it and says so; without one it follows from how this file was compiled,
/// and where it does not, wasmtime looks at the machine itself (code compiled ahead is then
/// refused and compiled anew).
const TARGET: Option<&str> = match option_env!("LEVERET_TARGET") {
    Some(target) => Some(target),
    None if cfg!(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu")) => {
        Some("x86_64-unknown-linux-gnu")
    }
    None if cfg!(all(target_arch = "aarch64", target_os = "linux", target_env = "gnu")) => {
        Some("aarch64-unknown-linux-gnu")
    }
    None => None,
};

/// The engines. Made once for a host; components and instances belong to one of them.
pub(crate) struct Engines {
    cranelift: Engine,
    /// Made when first needed: few plugins are large enough.
    winch: OnceLock<Engine>,
    ticker: Ticker,
}

impl Engines {
    /// The engines and their running ticker.
    pub(crate) fn new() -> wasmtime::Result<Self> {
        let cranelift = Engine::new(&config::config(CodeStrategy::Cranelift, TARGET)?)?;
        let ticker = Ticker::start()?;
        ticker.drive(&cranelift);
        Ok(Self { cranelift, winch: OnceLock::new(), ticker })
    }

    /// The engine of a strategy.
    pub(crate) fn engine(&self, strategy: CodeStrategy) -> wasmtime::Result<&Engine> {
        match strategy {
            CodeStrategy::Cranelift => Ok(&self.cranelift),
            CodeStrategy::Winch => {
                if let Some(engine) = self.winch.get() {
                    return Ok(engine);
                }
                let engine = Engine::new(&config::config(CodeStrategy::Winch, TARGET)?)?;
                Ok(self.winch.get_or_init(|| {
                    self.ticker.drive(&engine);
                    engine
                }))
            }
        }
    }

    /// Compiles a component.
    pub(crate) fn compile(&self, strategy: CodeStrategy, bytes: &[u8]) -> wasmtime::Result<Component> {
        Component::from_binary(self.engine(strategy)?, bytes)
    }

    /// The ticker, for those who call guests.
    pub(crate) fn ticker(&self) -> &Ticker {
        &self.ticker
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_strategies_compile_the_smallest_component() {
        let engines = Engines::new().unwrap();
        let component = wat::parse_str("(component)").unwrap();
        for strategy in [CodeStrategy::Cranelift, CodeStrategy::Winch] {
            engines.compile(strategy, &component).unwrap();
        }
    }

    #[test]
    fn code_with_vectors_compiles_for_the_baseline() {
        let engines = Engines::new().unwrap();
        let component = wat::parse_str(
            "(component (core module $m (func (export \"f\") (param v128 v128) (result v128) \
             (i8x16.swizzle (local.get 0) (local.get 1)))))",
        )
        .unwrap();
        engines.compile(CodeStrategy::Cranelift, &component).unwrap();
    }
}
