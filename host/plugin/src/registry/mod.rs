//! Which plugin serves which exchange type, for all workers: the one place that swaps.
//!
//! A swap publishes the new version in its slot and then raises the generation of each exchange
//! of the type ([`Exchange::type_changed`]). A worker reads an exchange's generation first and
//! the slot after, so an answer that it notes under the new generation is the new version's. What
//! a worker has begun on the old version it finishes on the old version.

mod reload;
mod report;
#[cfg(test)]
mod tests;

pub use reload::WINCH_FIRST_ABOVE_BYTES;
pub use report::{LoadChange, LoadError, LoadReport, RemoveReport, Stage, TypeInfo, TypeState};

use crate::{
    artifact::Digest,
    builder::Mailbox,
    builtin::Builtin,
    engine::{CodeStrategy, Engines},
    guest::{Instance, Stage as TypeStage},
    services::Services,
    version::{Code, Origin, Version, VersionId},
};
use hashbrown::HashMap;
use leveret_broker::exchange::Exchange;
use leveret_model::{Name, Value};
use parking_lot::{Condvar, Mutex, RwLock};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};
use wasmtime::component::Component;

/// The core exchange types: no file may claim them.
const CORE_TYPES: [&str; 4] = ["direct", "fanout", "topic", "headers"];
/// Names that belong to the broker for ever.
const RESERVED_PREFIX: &str = "x-leveret-";

/// Which plugin serves which exchange type.
pub struct Registry {
    engines: Arc<Engines>,
    services: Arc<Services>,
    /// Of the workers, by index.
    mailboxes: Vec<Arc<Mailbox>>,
    slots: RwLock<HashMap<Name, Slot>>,
    /// The files that serve. Held for as long as a file is offered or removed: one at a time.
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
    pub(crate) fn new(engines: Arc<Engines>, mailboxes: Vec<Arc<Mailbox>>, services: Arc<Services>) -> Self {
        Self {
            engines,
            services,
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

    /// The types that the arguments of an exchange put in front of its own, in their order.
    pub(crate) fn stages_of(&self, exchange: &Exchange) -> Vec<Name> {
        if exchange.spec.arguments.is_empty() {
            return Vec::new();
        }
        let slots = self.slots.read();
        let asked_for = |argument: &str| match exchange.spec.arguments.get(argument.as_bytes()) {
            None | Some(Value::Void | Value::Boolean(false)) => false,
            Some(_) => true,
        };
        let mut stages: Vec<(TypeStage, Name)> = slots
            .iter()
            .filter_map(|(name, slot)| match &slot.state {
                State::Serving(version) => Some((version.describes(name)?.stage.clone()?, name.clone())),
                State::Parked(_) => None,
            })
            .filter(|(stage, _)| asked_for(&stage.argument))
            .collect();
        stages.sort();
        stages.into_iter().map(|(_, name)| name).collect()
    }

    /// Takes an exchange into account at the next swap of one of its types; once for each. Of an
    /// unknown type, nothing.
    pub(crate) fn register(&self, exchange: &Arc<Exchange>, type_name: &Name) {
        if let Some(slot) = self.slots.write().get_mut(type_name.as_bytes()) {
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
        let own = std::iter::once(&exchange.spec.type_name);
        for name in own.chain(exchange.types().iter().map(|spec| &spec.type_name)) {
            let Some(slot) = slots.get_mut(name.as_bytes()) else {
                continue;
            };
            let place = slot.exchanges.iter().position(|e| std::ptr::eq(e.as_ptr(), exchange));
            if let Some(place) = place {
                slot.exchanges.swap_remove(place);
            }
            if matches!(slot.state, State::Parked(_)) && slot.live().next().is_none() {
                slots.remove(name.as_bytes());
            }
        }
    }

    /// A type was found not to be pure, though it claims to be: from now on nothing of it is
    /// remembered, by any worker. False if that was known.
    pub(crate) fn withdraw_purity(&self, version: &Version, type_name: &[u8]) -> bool {
        if !version.withdraw(type_name) {
            return false;
        }
        let exchanges: Vec<_> = match self.slots.read().get(type_name) {
            Some(slot) if matches!(&slot.state, State::Serving(serving) if serving.id == version.id) => {
                slot.live().collect()
            }
            _ => Vec::new(),
        };
        // The next generation, so that all that is remembered is looked at again.
        exchanges.iter().for_each(|exchange| exchange.type_changed());
        true
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

    /// Puts a type that came with the broker into service.
    pub(crate) fn add_builtin(&self, builtin: &Builtin) -> Result<(), String> {
        let component = self.builtin_component(builtin).map_err(|error| format!("{error:#}"))?;
        let digest = Digest::of(builtin.component);
        let name = String::from(builtin.name);
        let form = self.services.form;
        let origin = Origin { plugin: name, digest, strategy: CodeStrategy::Cranelift, builtin: true, form };
        let code = Code::link(origin, &component).map_err(|error| error.to_string())?;
        let slot = self.engines.ticker().slot();
        let account = self.services.accounts.of(&Name::EMPTY, &code.plugin);
        let description = Instance::start(&code, &account, slot)
            .and_then(|mut instance| instance.describe(true, code.exported.interceptor))
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
                    pure: version.claims(type_name).pure,
                    purity_withdrawn: version.is_withdrawn(type_name),
                }
            }
        }
    }
}
