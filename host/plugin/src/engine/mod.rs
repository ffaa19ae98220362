//! The engines: one for each compiler, and the clock that cuts off guests.

mod config;
mod ticker;

pub use config::CodeStrategy;
pub(crate) use ticker::{CallSlot, Ticker};

use std::{str::FromStr, sync::OnceLock};
use wasmtime::Engine;

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

/// An engine for a process that compiles and runs nothing: what it makes, the engine of
/// [`Engines`] takes. It uses one thread.
pub(crate) fn compiling_engine(strategy: CodeStrategy) -> wasmtime::Result<Engine> {
    let mut config = config::config(strategy, TARGET)?;
    config.parallel_compilation(false);
    Engine::new(&config)
}

impl CodeStrategy {
    /// Its name, as [`FromStr`] reads it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cranelift => "cranelift",
            Self::Winch => "winch",
        }
    }
}

impl FromStr for CodeStrategy {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = [Self::Cranelift, Self::Winch].into_iter().find(|strategy| strategy.as_str() == name);
        known.ok_or_else(|| format!("there is no compiler '{name}'"))
    }
}

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

    /// Compiles a component here and now: for files of our own.
    #[cfg(test)]
    pub(crate) fn compile(
        &self,
        strategy: CodeStrategy,
        bytes: &[u8],
    ) -> wasmtime::Result<wasmtime::component::Component> {
        wasmtime::component::Component::from_binary(self.engine(strategy)?, bytes)
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
