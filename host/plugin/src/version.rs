//! A loaded version of a plugin: compiled, checked against the contract, and described by itself.

use crate::{
    artifact::Digest,
    bindings::{
        batch::{BatchOnly, BatchOnlyIndices},
        plain::{ExchangeTypePlugin, ExchangeTypePluginIndices},
    },
    contract::{self, ContractError},
    engine::{CallSlot, CodeStrategy},
    guest::{Description, GuestFailure, GuestState, Instance, TypeDescription},
    policy::{PluginPolicy, Policies},
    scope::Scope,
    wasi,
};
use leveret_model::Name;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use wasmtime::{
    Engine, Store,
    component::{Component, InstancePre, Linker},
};

/// Machine code that keeps the contract, ready to be instantiated.
pub(crate) struct Code {
    /// The plugin's name: its file's without `.wasm`, or the type's for a built-in one.
    pub(crate) plugin: String,
    /// Of the component's bytes.
    pub(crate) digest: Digest,
    /// Which compiler made the code.
    pub(crate) strategy: CodeStrategy,
    /// It came with the broker.
    pub(crate) builtin: bool,
    pre: InstancePre<GuestState>,
    plain: ExchangeTypePluginIndices,
    batch: Option<BatchOnlyIndices>,
}

impl Code {
    /// Checks a compiled component and links it.
    pub(crate) fn link(
        plugin: String,
        digest: Digest,
        strategy: CodeStrategy,
        builtin: bool,
        component: &Component,
    ) -> Result<Self, ContractError> {
        let engine = component.engine();
        let exports = contract::check(engine, component)?;
        let unlinkable = |error: wasmtime::Error| ContractError::Unlinkable { why: format!("{error:#}") };
        let mut linker = Linker::new(engine);
        wasi::link::<GuestState>(&mut linker, component).map_err(unlinkable)?;
        let pre = linker.instantiate_pre(component).map_err(unlinkable)?;
        contract::check_functions(&pre, exports)?;
        let plain = ExchangeTypePluginIndices::new(&pre).map_err(unlinkable)?;
        let batch = match exports.batch {
            true => Some(BatchOnlyIndices::new(&pre).map_err(unlinkable)?),
            false => None,
        };
        Ok(Self { plugin, digest, strategy, builtin, pre, plain, batch })
    }

    /// The engine it was compiled for.
    pub(crate) fn engine(&self) -> &Engine {
        self.pre.engine()
    }

    /// The host's side of a fresh instance.
    pub(crate) fn guest_state(&self, policy: &PluginPolicy) -> GuestState {
        GuestState::new(policy, self.digest, self.builtin)
    }

    /// Makes an instance in that store.
    pub(crate) fn instantiate(
        &self,
        store: &mut Store<GuestState>,
    ) -> wasmtime::Result<(ExchangeTypePlugin, Option<BatchOnly>)> {
        let instance = self.pre.instantiate(&mut *store)?;
        let plain = self.plain.load(&mut *store, &instance)?;
        let batch = match &self.batch {
            Some(indices) => Some(indices.load(&mut *store, &instance)?),
            None => None,
        };
        Ok((plain, batch))
    }
}

/// Tells loaded versions apart, also those of one digest; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct VersionId(u64);

/// Code and what it says of itself.
pub(crate) struct Version {
    pub(crate) id: VersionId,
    /// For whom it is there.
    pub(crate) scope: Scope,
    pub(crate) code: Code,
    pub(crate) description: Description,
    /// How many ids its decisions named that were not live bindings.
    pub(crate) dead_ids: AtomicU64,
    policies: Arc<Policies>,
}

impl Version {
    /// The version that this code is.
    pub(crate) fn new(scope: Scope, code: Code, description: Description, policies: Arc<Policies>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = VersionId(NEXT.fetch_add(1, Ordering::Relaxed));
        Self { id, scope, code, description, dead_ids: AtomicU64::new(0), policies }
    }

    /// What holds for it in a virtual host.
    pub(crate) fn policy(&self, vhost: &Name) -> Arc<PluginPolicy> {
        self.policies.of(&self.scope, Some(vhost), &self.code.plugin)
    }

    /// What holds for an instance that serves a virtual host. A built-in's serves all of them, so
    /// nothing of it is one virtual host's.
    fn policy_of_instance(&self, vhost: &Name) -> Arc<PluginPolicy> {
        let vhost = (!self.code.builtin).then_some(vhost);
        self.policies.of(&self.scope, vhost, &self.code.plugin)
    }

    /// A fresh instance for a virtual host.
    pub(crate) fn start(&self, vhost: &Name, slot: CallSlot) -> Result<Instance, GuestFailure> {
        Instance::start(&self.code, self.policy_of_instance(vhost), slot)
    }

    /// What it says of one of its types.
    pub(crate) fn describes(&self, type_name: &[u8]) -> Option<&TypeDescription> {
        self.description.types.iter().find(|t| t.name.as_bytes() == type_name)
    }
}
