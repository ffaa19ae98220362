//! Which plugin serves which exchange type, for all workers: the one place that swaps.
//!
//! A swap publishes the new version in its slot and then raises the generation of each exchange
//! of the type ([`Exchange::type_changed`]). A worker reads an exchange's generation first and
//! the slot after, so an answer that it notes under the new generation is the new version's. What
//! a worker has begun on the old version it finishes on the old version.

mod kept;
mod reload;
mod report;
mod rollback;
#[cfg(test)]
mod rollback_tests;
#[cfg(test)]
mod tests;
mod turns;

pub use reload::WINCH_FIRST_ABOVE_BYTES;
pub use report::{LoadChange, LoadError, LoadReport, RemoveReport, Stage, TypeInfo, TypeState, VersionInfo};

use crate::{
    artifact::Digest,
    builder::Mailbox,
    builtin::Builtin,
    compile::Compiler,
    engine::{CodeStrategy, Engines},
    guest::Instance,
    version::{Code, Version, VersionId},
};
use hashbrown::HashMap;
use kept::KeptVersions;
use leveret_broker::exchange::Exchange;
use leveret_model::Name;
use parking_lot::{Condvar, Mutex, RwLock};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};
use turns::Turns;
use wasmtime::component::Component;

/// The core exchange types: no file may claim them.
const CORE_TYPES: [&str; 4] = ["direct", "fanout", "topic", "headers"];
/// Names that belong to the broker for ever.
const RESERVED_PREFIX: &str = "x-leveret-";

/// Which plugin serves which exchange type.
pub struct Registry {
    engines: Arc<Engines>,
    compiler: Compiler,
    /// Versions that served before; none where they are not kept.
    kept: Option<KeptVersions>,
    turns: Turns,
    /// Of the workers, by index.
    mailboxes: Vec<Arc<Mailbox>>,
    slots: RwLock<HashMap<Name, Slot>>,
    /// The files that serve. Held while what serves is changed: one file at a time.
    files: Mutex<HashMap<PathBuf, Arc<Version>>>,
    /// How many files wait for their Cranelift code.
    upgrades: Mutex<usize>,
    upgraded: Condvar,
}

/// An exchange type.
struct Slot {
    state: State,
    exchanges: Vec<Weak<Exchange>>,
    /// `exchanges` is looked through for dead ones when it has so many.
    prune_at: usize,
}

#[derive(Clone)]
enum State {
    Serving(Arc<Version>),
    Parked(Arc<str>),
}

/// What a worker finds.
pub(crate) enum Lookup {
    Serving(Arc<Version>),
    Parked(Arc<str>),
    Unknown,
}

impl Slot {
    fn new(state: State) -> Self {
        Self { state, exchanges: Vec::new(), prune_at: 16 }
    }

    /// The exchanges that are still there.
    fn live(&self) -> impl Iterator<Item = Arc<Exchange>> {
        self.exchanges.iter().filter_map(Weak::upgrade).filter(|exchange| !exchange.is_deleted())
    }
}

impl Registry {
    pub(crate) fn new(
        engines: Arc<Engines>,
        mailboxes: Vec<Arc<Mailbox>>,
        compiler: Compiler,
        kept_dir: Option<&Path>,
    ) -> Self {
        let kept = kept_dir.and_then(|dir| {
            KeptVersions::open(dir)
                .inspect_err(|error| {
                    tracing::warn!(
                        target: "leveret::plugin",
                        "versions that served are not kept in {}: {error}", dir.display()
                    );
                })
                .ok()
        });
        Self {
            engines,
            compiler,
            kept,
            turns: Turns::default(),
            mailboxes,
            slots: RwLock::default(),
            files: Mutex::default(),
            upgrades: Mutex::default(),
            upgraded: Condvar::new(),
        }
    }

    /// What serves a type.
    pub(crate) fn lookup(&self, type_name: &[u8]) -> Lookup {
        match self.slots.read().get(type_name).map(|slot| &slot.state) {
            Some(State::Serving(version)) => Lookup::Serving(version.clone()),
            Some(State::Parked(why)) => Lookup::Parked(why.clone()),
            None => Lookup::Unknown,
        }
    }

    /// Whether a version serves any type.
    pub(crate) fn serves(&self, id: VersionId) -> bool {
        let slots = self.slots.read();
        slots.values().any(|slot| matches!(&slot.state, State::Serving(version) if version.id == id))
    }

    /// Takes an exchange into account at the next swap. Of an unknown type, nothing.
    pub(crate) fn register(&self, exchange: &Arc<Exchange>) {
        if let Some(slot) = self.slots.write().get_mut(exchange.spec.type_name.as_bytes()) {
            slot.exchanges.push(Arc::downgrade(exchange));
            if slot.exchanges.len() >= slot.prune_at {
                slot.exchanges.retain(|e| e.upgrade().is_some_and(|e| !e.is_deleted()));
                slot.prune_at = 16.max(slot.exchanges.len() * 2);
            }
        }
    }

    /// Takes an exchange out again. A parked type that no exchange has any more is forgotten.
    pub(crate) fn unregister(&self, exchange: &Exchange) {
        let mut slots = self.slots.write();
        let Some(slot) = slots.get_mut(exchange.spec.type_name.as_bytes()) else {
            return;
        };
        let place = slot.exchanges.iter().position(|e| std::ptr::eq(e.as_ptr(), exchange));
        if let Some(place) = place {
            slot.exchanges.swap_remove(place);
        }
        if matches!(slot.state, State::Parked(_)) && slot.live().next().is_none() {
            slots.remove(exchange.spec.type_name.as_bytes());
        }
    }

    /// All exchange types, by name.
    #[must_use]
    pub fn types(&self) -> Vec<TypeInfo> {
        let slots = self.slots.read();
        let mut types: Vec<TypeInfo> = slots
            .iter()
            .map(|(name, slot)| TypeInfo {
                name: name.clone(),
                exchanges: slot.live().count(),
                state: slot.state.describe(name),
            })
            .collect();
        types.sort_by(|a, b| a.name.cmp(&b.name));
        types
    }

    /// Takes a file out of service: the exchanges of its types are parked, they and their
    /// bindings stay. `None` if it does not serve.
    pub fn remove(&self, path: &Path) -> Option<RemoveReport> {
        let mut files = self.files.lock();
        self.turns.overtake(path);
        self.forget(path);
        let version = files.remove(path)?;
        let why: Arc<str> = format!("its plugin {} was removed", version.code.plugin).into();
        let (mut exchange_types, mut parked) = (Vec::new(), Vec::new());
        let mut slots = self.slots.write();
        slots.retain(|name, slot| {
            if !matches!(&slot.state, State::Serving(v) if v.id == version.id) {
                return true;
            }
            exchange_types.push(name.clone());
            let before = parked.len();
            parked.extend(slot.live());
            slot.state = State::Parked(why.clone());
            parked.len() > before
        });
        drop(slots);
        parked.iter().for_each(|exchange| exchange.type_changed());
        self.mailboxes.iter().for_each(|mailbox| mailbox.discard(version.id));
        tracing::info!(
            target: "leveret::plugin",
            path = %path.display(), exchanges = parked.len(),
            "the plugin was removed"
        );
        Some(RemoveReport { path: path.to_path_buf(), exchange_types, exchanges: parked.len() })
    }

    /// Ends the compilation that is going on and refuses later ones: the broker stops.
    pub fn stop_compiling(&self) {
        self.compiler.stop();
    }

    /// Puts a type that came with the broker into service.
    pub(crate) fn add_builtin(&self, builtin: &Builtin) -> Result<(), String> {
        let component = self.builtin_component(builtin).map_err(|error| format!("{error:#}"))?;
        let digest = Digest::of(builtin.component);
        let name = String::from(builtin.name);
        let code = Code::link(name, digest, CodeStrategy::Cranelift, true, &component)
            .map_err(|error| error.to_string())?;
        let slot = self.engines.ticker().slot();
        let description = Instance::start(&code, slot)
            .and_then(|mut instance| instance.describe())
            .map_err(|failure| failure.to_string())?;
        let version = Arc::new(Version::new(code, description));
        let mut slots = self.slots.write();
        for described in &version.description.types {
            let name = Name::new(described.name.as_bytes()).map_err(|error| error.to_string())?;
            slots.insert(name, Slot::new(State::Serving(version.clone())));
        }
        Ok(())
    }

    fn builtin_component(&self, builtin: &Builtin) -> wasmtime::Result<Component> {
        let engine = self.engines.engine(CodeStrategy::Cranelift)?;
        // SAFETY: these bytes are part of this program: its own build made them, by
        // `Component::serialize` of an engine with the configuration of `engine::config`, and
        // wasmtime refuses them if its version or settings differ. Nobody who could not change
        // the program itself can change them.
        let loaded = unsafe { Component::deserialize(engine, builtin.precompiled) };
        loaded.or_else(|error| {
            tracing::info!(
                target: "leveret::plugin", plugin = builtin.name,
                "code compiled ahead does not fit here and is compiled anew: {error:#}"
            );
            Component::from_binary(engine, builtin.component)
        })
    }
}

impl State {
    fn describe(&self, type_name: &Name) -> TypeState {
        match self {
            Self::Parked(why) => TypeState::Parked { why: String::from(&**why) },
            Self::Serving(version) => {
                let described = version.describes(type_name);
                TypeState::Serving {
                    plugin: version.code.plugin.clone(),
                    version: version.description.version.clone(),
                    digest: version.code.digest,
                    strategy: version.code.strategy,
                    builtin: version.code.builtin,
                    summary: described.map(|t| t.summary.clone()).unwrap_or_default(),
                    pure: described.is_some_and(|t| t.pure),
                }
            }
        }
    }
}
