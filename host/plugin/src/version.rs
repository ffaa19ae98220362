//! A loaded version of a plugin: compiled, checked against the contract, and described by itself.

use crate::{
    account::Account,
    artifact::Digest,
    capability,
    contract::{self, ContractError, Exported},
    engine::CodeStrategy,
    guest::{Description, Exports, GuestState, Indices, InterceptorDescription, TypeDescription},
    policy::{Capability, PluginPolicy, Policies},
    scope::Scope,
    wasi,
};
use leveret_model::{Form, Name};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use wasmtime::{
    Engine, Store,
    component::{Component, InstancePre, Linker},
};

/// Where code comes from.
#[derive(Clone)]
pub(crate) struct Origin {
    /// The plugin's name: its file's without `.wasm`, or the type's for a built-in one.
    pub(crate) plugin: String,
    /// Of the component's bytes.
    pub(crate) digest: Digest,
    /// Which compiler made the code.
    pub(crate) strategy: CodeStrategy,
    /// It came with the broker.
    pub(crate) builtin: bool,
    /// How messages that it makes are encoded.
    pub(crate) form: Option<&'static dyn Form>,
}

/// Machine code that keeps the contract, ready to be instantiated.
pub(crate) struct Code {
    pub(crate) plugin: String,
    pub(crate) digest: Digest,
    pub(crate) strategy: CodeStrategy,
    pub(crate) builtin: bool,
    /// What it exports and imports.
    pub(crate) exported: Exported,
    form: Option<&'static dyn Form>,
    pre: InstancePre<GuestState>,
    indices: Indices,
}

impl Code {
    /// Checks a compiled component and links it.
    pub(crate) fn link(origin: Origin, component: &Component) -> Result<Self, ContractError> {
        let engine = component.engine();
        let exported = contract::check(engine, component)?;
        let unlinkable = |error: wasmtime::Error| ContractError::Unlinkable { why: format!("{error:#}") };
        let mut linker = Linker::new(engine);
        wasi::link::<GuestState>(&mut linker, component).map_err(unlinkable)?;
        capability::link(&mut linker).map_err(unlinkable)?;
        let pre = linker.instantiate_pre(component).map_err(unlinkable)?;
        contract::check_functions(&pre, &exported)?;
        let indices = Indices::new(&pre, &exported).map_err(unlinkable)?;
        let Origin { plugin, digest, strategy, builtin, form } = origin;
        Ok(Self { plugin, digest, strategy, builtin, exported, form, pre, indices })
    }

    /// The engine it was compiled for.
    pub(crate) fn engine(&self) -> &Engine {
        self.pre.engine()
    }

    /// The host's side of a fresh instance.
    pub(crate) fn guest_state(&self, account: &Arc<Account>) -> GuestState {
        GuestState::new(account, self.form, self.digest, self.builtin)
    }

    /// Makes an instance in that store.
    pub(crate) fn instantiate(&self, store: &mut Store<GuestState>) -> wasmtime::Result<Exports> {
        let instance = self.pre.instantiate(&mut *store)?;
        self.indices.load(store, &instance)
    }

    /// Whether it imports something that takes the message on hand.
    pub(crate) fn takes_messages(&self) -> bool {
        let imports = self.exported.imports;
        [Capability::MessageStore, Capability::Enqueue, Capability::Emit].iter().any(|c| imports.contains(*c))
    }

    /// Whether it imports anything, so that calls have to be told what they are about.
    pub(crate) fn has_capabilities(&self) -> bool {
        !self.exported.imports.is_empty() || self.exported.has_effects
    }
}

/// Tells loaded versions apart, also those of one digest; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct VersionId(u64);

#[cfg(test)]
impl VersionId {
    /// Of a version that is not there.
    pub(crate) fn of_number(number: u64) -> Self {
        Self(number)
    }

    /// Greater for one that was loaded later.
    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

/// Code and what it says of itself.
pub(crate) struct Version {
    pub(crate) id: VersionId,
    /// For whom it is there.
    pub(crate) scope: Scope,
    pub(crate) code: Code,
    pub(crate) description: Description,
    /// One instance serves all threads.
    pub(crate) single_writer: bool,
    /// How many ids its decisions named that were not live bindings.
    pub(crate) dead_ids: AtomicU64,
    /// It is tried beside the version that serves: its failures are not the plugin's.
    pub(crate) on_trial: bool,
    policies: Arc<Policies>,
    /// Of each of its types, whether the claim to be pure was found wrong.
    withdrawn: Box<[AtomicBool]>,
}

/// What a type claims that was not found wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claims {
    /// Decisions depend on the bindings and on what is read alone.
    pub(crate) pure: bool,
    /// And are the union of what each binding would decide.
    pub(crate) independent: bool,
}

impl Version {
    /// The version that this code is.
    pub(crate) fn new(scope: Scope, code: Code, description: Description, policies: Arc<Policies>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = VersionId(NEXT.fetch_add(1, Ordering::Relaxed));
        let withdrawn = description.types.iter().map(|_| AtomicBool::new(false)).collect();
        let single_writer = description.types.iter().any(|described| described.single_writer);
        let dead_ids = AtomicU64::new(0);
        Self { id, scope, code, description, single_writer, dead_ids, on_trial: false, policies, withdrawn }
    }

    /// What holds for it in a virtual host.
    pub(crate) fn policy(&self, vhost: &Name) -> Arc<PluginPolicy> {
        self.policies.of(&self.scope, Some(vhost), &self.code.plugin)
    }

    /// A capability that it imports and is not granted in a virtual host.
    pub(crate) fn not_granted(&self, vhost: &Name) -> Option<Capability> {
        if self.code.exported.imports.is_empty() {
            return None;
        }
        let grants = self.policy(vhost).grants;
        self.code.exported.imports.iter().find(|capability| !grants.contains(*capability))
    }

    /// What one of its types claims, as far as that holds.
    pub(crate) fn claims(&self, type_name: &[u8]) -> Claims {
        match self.describes(type_name) {
            Some(described) if described.pure && !self.is_withdrawn(type_name) => {
                Claims { pure: true, independent: described.independent_bindings }
            }
            _ => Claims::default(),
        }
    }

    /// Whether the claim of one of its types to be pure was found wrong.
    pub(crate) fn is_withdrawn(&self, type_name: &[u8]) -> bool {
        self.withdrawn_flag(type_name).is_some_and(|flag| flag.load(Ordering::Acquire))
    }

    /// From now on one of its types counts as impure. False if it did before.
    pub(crate) fn withdraw(&self, type_name: &[u8]) -> bool {
        self.withdrawn_flag(type_name).is_some_and(|flag| !flag.swap(true, Ordering::AcqRel))
    }

    /// What was found wrong with the same code before is wrong with this too.
    pub(crate) fn inherit(&self, before: &Self) {
        if self.code.digest == before.code.digest {
            for described in &self.description.types {
                if before.is_withdrawn(described.name.as_bytes()) {
                    self.withdraw(described.name.as_bytes());
                }
            }
        }
    }

    fn withdrawn_flag(&self, type_name: &[u8]) -> Option<&AtomicBool> {
        let place = self.description.types.iter().position(|t| t.name.as_bytes() == type_name)?;
        self.withdrawn.get(place)
    }

    /// What it says of one of its interceptors.
    pub(crate) fn describes_interceptor(&self, name: &str) -> Option<&InterceptorDescription> {
        self.description.interceptors.iter().find(|described| described.name == name)
    }

    /// Whether both are versions of the same plugin.
    pub(crate) fn is_plugin_of(&self, other: &Self) -> bool {
        self.scope == other.scope && self.code.plugin == other.code.plugin
    }

    /// The names of its types.
    pub(crate) fn type_names(&self) -> impl Iterator<Item = Name> {
        self.description.types.iter().filter_map(|described| Name::new(described.name.as_bytes()).ok())
    }

    /// What it says of one of its types.
    pub(crate) fn describes(&self, type_name: &[u8]) -> Option<&TypeDescription> {
        self.description.types.iter().find(|t| t.name.as_bytes() == type_name)
    }
}
