//! Machine code of a stranger's file: compiled in a child process with limits, or taken from a
//! cache of what was compiled before.
//!
//! A compiler is a large program that reads what anybody wrote, and takes as long and as much
//! memory as the file makes it take. So it runs in a process of its own, which is this very
//! program again (`child`), with limits on memory, on CPU time and on time (`parent`), at the
//! lowest priority, one at a time: a file that is made to cost costs one core that nobody else
//! wanted, for a bounded time. Whatever ends the child is a typed error, and changes nothing here.
//!
//! *Not here:* which compiler is asked first, and what is done with the code: that is
//! `registry::reload`'s.
//!
//! *In and out:* a component's bytes go in; a loaded [`Component`] or a [`CompileError`] comes out.
//!
//! *Invariant:* bytes become code only if this program's child sent them through a pipe that
//! nobody else holds, or if the cache's key, which only this user can read, authenticates them.

mod cache;
mod child;
mod error;
mod parent;
#[cfg(test)]
mod tests;

pub use cache::CACHE_BYTES_MAX;
pub use child::{SUBCOMMAND, run_child};
pub use error::CompileError;

use crate::{
    artifact::Digest,
    engine::{CodeStrategy, Engines},
};
use cache::{CodeCache, CodeKey};
use parent::Stop;
use parking_lot::Mutex;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use wasmtime::component::Component;

/// What one compilation may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Address space of the child, in bytes: its own program, what it reads and what it makes.
    pub memory_bytes_max: u64,
    /// CPU time, in seconds.
    pub cpu_seconds_max: u64,
    /// Time from the start of the child to its end. A busy machine gives the child little, so this
    /// is for a child that hangs.
    pub wall_time_max: Duration,
    /// Of the code, in bytes.
    pub code_bytes_max: u64,
}

/// Enough for the interpreter of a whole language (18 MB of component), several times over.
impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            memory_bytes_max: 2 << 30,
            cpu_seconds_max: 60,
            wall_time_max: Duration::from_secs(600),
            code_bytes_max: 512 << 20,
        }
    }
}

/// Where compilations happen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CompileIn {
    /// In this process and without limits: for files that are trusted, as in tests and benchmarks.
    #[default]
    ThisProcess,
    /// In a child process.
    Child {
        /// The running program; started with [`SUBCOMMAND`] it must call [`run_child`]. It must be
        /// the very program that runs, since its code is taken as this program's own.
        executable: PathBuf,
        /// What each compilation may take.
        limits: CompileLimits,
    },
}

/// Compiles components, one at a time.
pub(crate) struct Compiler {
    engines: Arc<Engines>,
    compile_in: CompileIn,
    /// Held while a child runs.
    turn: Mutex<()>,
    stop: Stop,
    cache: Option<CodeCache>,
}

impl Compiler {
    /// A compiler; one with a cache if there is a directory for it, and it can be used.
    pub(crate) fn new(engines: Arc<Engines>, compile_in: CompileIn, cache: Option<(&Path, u64)>) -> Self {
        let cache = cache.and_then(|(path, bytes_max)| {
            CodeCache::open(path, bytes_max)
                .inspect_err(|error| {
                    tracing::warn!(
                        target: "leveret::plugin",
                        "compiled code is not kept in {}: {error}", path.display()
                    );
                })
                .ok()
        });
        Self { engines, compile_in, turn: Mutex::default(), stop: Stop::default(), cache }
    }

    /// The code of a component: from the cache, or compiled, however long that takes.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn compile(
        &self,
        strategy: CodeStrategy,
        digest: Digest,
        component: &[u8],
    ) -> Result<Component, CompileError> {
        if let Some(cached) = self.cached(strategy, digest) {
            return Ok(cached);
        }
        let code = match &self.compile_in {
            CompileIn::ThisProcess => self.compile_here(strategy, component)?,
            CompileIn::Child { executable, limits } => {
                let turn = self.turn.lock();
                let code = parent::compile(executable, limits, &self.stop, strategy, component);
                // To who waits longest. Nobody waits with more than one file: so it goes round.
                parking_lot::MutexGuard::unlock_fair(turn);
                code?
            }
        };
        let engine = self.engines.engine(strategy).map_err(|error| CompileError::refused(&error))?;
        // SAFETY: `Engine::precompile_component` made these bytes, with the configuration of this
        // engine and the wasmtime of this program: either just now in this process, or in a child
        // that is this very program (`CompileIn::Child` demands it), which sent them through a
        // pipe that only the two of us hold, with their length, and then said that all went well.
        // A component that could make the compiler write wrong code could do so in this process
        // as well.
        let loaded = unsafe { Component::deserialize(engine, &code) };
        let loaded = loaded.map_err(|error| CompileError::NoCode { why: format!("{error:#}") })?;
        if let Some(cache) = &self.cache {
            cache.write(&CodeKey::new(engine, strategy, digest), &code);
        }
        Ok(loaded)
    }

    /// Whether a component need not be compiled, as far as can be told without looking at the code.
    pub(crate) fn has_code(&self, digest: Digest) -> bool {
        let Some(cache) = &self.cache else { return false };
        [CodeStrategy::Cranelift, CodeStrategy::Winch].into_iter().any(|strategy| {
            let engine = self.engines.engine(strategy);
            engine.is_ok_and(|engine| cache.has(&CodeKey::new(engine, strategy, digest)))
        })
    }

    /// The code of a component if it was compiled before.
    pub(crate) fn cached(&self, strategy: CodeStrategy, digest: Digest) -> Option<Component> {
        let cache = self.cache.as_ref()?;
        let engine = self.engines.engine(strategy).ok()?;
        let key = CodeKey::new(engine, strategy, digest);
        let cached = cache.read(&key)?;
        // SAFETY: `read` gives only bytes that carry a MAC by a key that this user alone can read,
        // made over the code and what it was compiled from and for. So `compile` above wrote them
        // in this or an earlier process, after an engine of this configuration had taken them.
        let loaded = unsafe { Component::deserialize(engine, cached.code()) };
        loaded
            .inspect_err(|error| {
                tracing::warn!(
                    target: "leveret::plugin",
                    "code from the cache does not fit here and is compiled anew: {error:#}"
                );
            })
            .ok()
    }

    /// Ends the compilation that is going on and refuses all others.
    pub(crate) fn stop(&self) {
        self.stop.stop();
    }

    fn compile_here(&self, strategy: CodeStrategy, component: &[u8]) -> Result<Vec<u8>, CompileError> {
        self.engines
            .engine(strategy)
            .and_then(|engine| engine.precompile_component(component))
            .map_err(|error| CompileError::refused(&error))
    }
}
