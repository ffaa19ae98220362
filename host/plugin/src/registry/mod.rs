//! Which plugin serves which exchange type, for all workers: the one place that swaps.
//!
//! A swap publishes the new version in its slot and then raises the generation of each exchange
//! of the type ([`Exchange::type_changed`]). A worker reads an exchange's generation first and
//! the slot after, so an answer that it notes under the new generation is the new version's. What
//! a worker has begun on the old version it finishes on the old version.
//!
//! The same name may be another plugin's in another virtual host (`slots.rs`). Whatever changes who
//! serves a type for whom is such a swap: a new file, one that is gone, a kill switch, the way back to
//! a version that served before (`rollback.rs`). Files are looked at by virtual host, side by side
//! (`deploys.rs`); what takes long is done under no lock that another virtual host needs (`swap.rs`), and a
//! global file moves those virtual hosts that take it (`holds.rs`).

mod answering;
mod candidates;
#[cfg(test)]
mod candidates_tests;
mod changing;
mod checks;
mod decisions;
#[cfg(test)]
mod decisions_tests;
mod deploys;
#[cfg(test)]
mod deploys_tests;
mod expected;
mod forms;
mod holds;
#[cfg(test)]
mod holds_tests;
mod interceptors;
mod kept;
mod migrate;
mod pins;
mod refusals;
mod reload;
mod replay;
mod report;
mod resolve;
mod restored;
#[cfg(test)]
mod restored_tests;
mod rollback;
#[cfg(test)]
mod rollback_tests;
mod slots;
mod swap;
#[cfg(test)]
mod tenants_tests;
#[cfg(test)]
mod tests;
mod turns;
mod warnings;

pub use candidates::CANDIDATES;
pub use checks::VHOST_PLUGINS_MAX;
pub use decisions::{Decisions, KeepDecisions, PinDecision};
pub use deploys::{FileKind, JOBS_MAX};
pub use expected::COMING_MAX;
pub use holds::RetryReport;
pub use interceptors::{AttachedInfo, AttachedTo, InterceptorInfo};
pub use migrate::MIGRATION_MAX;
pub use pins::{PinInfo, PinTo};
pub use refusals::RefusedInfo;
pub use reload::WINCH_FIRST_ABOVE_BYTES;
pub use report::{
    LoadChange, LoadError, LoadReport, RemoveReport, Stage, StateChange, TypeInVhost, TypeInfo, TypeState,
    VersionInfo,
};
pub use rollback::GoTo;
pub use warnings::{Warning, WarningAbout};

use crate::{
    account::PluginUse,
    artifact::Digest,
    attachment::Attachments,
    builder::Mailbox,
    builtin::Builtin,
    compile::Compiler,
    engine::{CodeStrategy, Engines},
    guest::{Instance, Stage as TypeStage},
    policy::{Capability, FailurePolicy, Policies},
    scope::Scope,
    services::Services,
    shares::Shares,
    version::{Code, Origin, Version, VersionId},
};
use hashbrown::HashMap;
use kept::KeptVersions;
use leveret_broker::exchange::Exchange;
use leveret_model::{Name, Table, Value};
use parking_lot::{Condvar, Mutex, RwLock};
use slots::{Provider, Slots};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use turns::Turns;
use wasmtime::component::Component;

/// Which plugin serves which exchange type.
pub struct Registry {
    engines: Arc<Engines>,
    policies: Arc<Policies>,
    services: Arc<Services>,
    compiler: Compiler,
    /// Versions that served before; none where they are not kept.
    kept: Option<KeptVersions>,
    turns: Turns,
    /// Of the workers, by index.
    mailboxes: Vec<Arc<Mailbox>>,
    slots: RwLock<Slots>,
    /// The files that serve. Held for each swap, and never over a call of a guest.
    files: Mutex<HashMap<PathBuf, Arc<Version>>>,
    /// Which plugins are being changed.
    changing: changing::Changing,
    /// Held while a switch is turned on.
    switching: Mutex<()>,
    /// Files that changed and were not looked at yet.
    deploys: deploys::Deploys,
    /// Who replays next.
    shares: Arc<Shares>,
    /// Plugins that exchanges from before the start wait for.
    expected: expected::Expected,
    /// Versions that are tried beside those that serve.
    candidates: candidates::Candidates,
    /// Exchanges that stay on a version.
    pins: pins::Pins,
    /// Pins that wait for their exchange, and where decisions are kept.
    decided: decisions::Decided,
    /// Files that were not taken.
    refusals: refusals::Refusals,
    /// What is attached where.
    attachments: Arc<Attachments>,
    /// Who provides which interceptor, and who waits for it.
    providers: interceptors::Providers,
    /// Who answers in which virtual host, as far as anybody asked.
    answering: answering::Answering,
    /// What the operator was warned of last; `None` before the first time.
    warned: Mutex<Option<Vec<Warning>>>,
    reviewed: Condvar,
}

/// What a worker finds.
pub(crate) enum Lookup {
    /// This version serves the type.
    Serving(Arc<Version>),
    /// Nothing does for now, and why.
    Parked(Arc<str>),
    /// The virtual host may not use the plugin of that name.
    NotAllowed(String),
    /// There is no such type.
    Unknown,
}

impl Registry {
    pub(crate) fn new(
        engines: Arc<Engines>,
        policies: Arc<Policies>,
        mailboxes: Vec<Arc<Mailbox>>,
        services: Arc<Services>,
        compiler: Compiler,
        kept_dir: Option<&Path>,
        attachments: Arc<Attachments>,
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
            attachments,
            providers: interceptors::Providers::default(),
            answering: answering::Answering::default(),
            engines,
            policies,
            services,
            compiler,
            kept,
            turns: Turns::default(),
            mailboxes,
            slots: RwLock::default(),
            files: Mutex::default(),
            candidates: candidates::Candidates::default(),
            pins: pins::Pins::default(),
            decided: decisions::Decided::default(),
            refusals: refusals::Refusals::default(),
            changing: changing::Changing::default(),
            switching: Mutex::default(),
            deploys: deploys::Deploys::default(),
            shares: Shares::of_machine(),
            expected: expected::Expected::default(),
            warned: Mutex::default(),
            reviewed: Condvar::new(),
        }
    }

    /// What serves a type for a virtual host.
    pub(crate) fn lookup(&self, vhost: &Name, type_name: &[u8]) -> Lookup {
        let slots = self.slots.read();
        if let Some(parked) = slots.parked(vhost, type_name) {
            return Lookup::Parked(self.why_parked(vhost, type_name, parked));
        }
        match slots.provider(&self.policies, vhost, type_name, None) {
            Provider::Version(version) => Self::judge(version, vhost),
            Provider::NotAllowed(version) => Lookup::NotAllowed(version.code.plugin.clone()),
            Provider::Nobody => Lookup::Unknown,
        }
    }

    /// Whether a version may serve a virtual host.
    fn judge(version: Arc<Version>, vhost: &Name) -> Lookup {
        if !version.policy(vhost).enabled {
            return Lookup::Parked(disabled(&version).into());
        }
        match version.not_granted(vhost) {
            None => Lookup::Serving(version),
            Some(capability) => Lookup::Parked(not_granted(&version, capability).into()),
        }
    }

    /// Whether there is a virtual host that may use a version and grants it what it imports.
    fn serves_somebody(&self, version: &Version) -> bool {
        self.vhosts_of(version).iter().any(|vhost| version.not_granted(vhost).is_none())
    }

    /// Why a version serves no virtual host that may use it, if that is so.
    fn serves_nobody(&self, version: &Version) -> Option<String> {
        let vhosts = self.vhosts_of(version);
        let why = vhosts.iter().map(|vhost| Some((vhost, version.not_granted(vhost)?)));
        // Without a virtual host there is nobody whom it should serve.
        let (vhost, capability) = why.collect::<Option<Vec<_>>>()?.into_iter().next()?;
        Some(format!("{}: set {}", not_granted(version, capability), self.grants_to_set(version, vhost)))
    }

    /// What becomes of messages of that virtual host when the plugin behind a type fails or is parked.
    pub(crate) fn on_failure(&self, vhost: &Name, type_name: &[u8]) -> FailurePolicy {
        let slots = self.slots.read();
        if let Some(parked) = slots.parked(vhost, type_name) {
            return self.policy_while_parked(vhost, type_name, parked);
        }
        match slots.provider(&self.policies, vhost, type_name, None) {
            Provider::Version(version) => version.policy(vhost).on_failure.clone(),
            Provider::NotAllowed(_) | Provider::Nobody => FailurePolicy::default(),
        }
    }

    /// Whether a version serves any type or interceptor, or is tried beside one that does.
    pub(crate) fn serves(&self, id: VersionId) -> bool {
        // One lock after the other.
        let serving = self.slots.read().serves(id);
        serving
            || self.providers.serves(id)
            || self.pins.hold(id)
            || self.is_awaited(id)
            || self.candidates.has(id)
    }

    /// Whether a version still serves exchanges of a type in a virtual host.
    pub(crate) fn still_serves(&self, id: VersionId, vhost: &Name, type_name: &[u8]) -> bool {
        let provider = self.slots.read().provider(&self.policies, vhost, type_name, None);
        matches!(provider, Provider::Version(version) if version.id == id)
            || self.pins.exchanges_on(id).iter().any(|exchange| exchange.vhost == *vhost)
    }

    /// The live exchanges of the types that a plugin provides for them.
    fn exchanges_of_plugin(&self, scope: &Scope, plugin: &str) -> Vec<Arc<Exchange>> {
        let slots = self.slots.read();
        let of_plugin =
            |group: &slots::Group| match slots.provider(&self.policies, &group.vhost, &group.type_name, None)
            {
                Provider::Version(version) => version.scope == *scope && version.code.plugin == plugin,
                Provider::NotAllowed(_) | Provider::Nobody => false,
            };
        slots.groups().filter(of_plugin).flat_map(|group| group.exchanges).collect()
    }

    /// The types that the arguments of an exchange put in front of its own, in their order.
    pub(crate) fn stages_of(&self, exchange: &Exchange) -> Vec<Name> {
        self.stages_for(&exchange.vhost, &exchange.spec.arguments)
    }

    /// The types that arguments put in front of that of an exchange in a virtual host, in their order.
    pub(crate) fn stages_for(&self, vhost: &Name, arguments: &Table) -> Vec<Name> {
        if arguments.is_empty() {
            return Vec::new();
        }
        let slots = self.slots.read();
        let asked_for = |argument: &str| match arguments.get(argument.as_bytes()) {
            None | Some(Value::Void | Value::Boolean(false)) => false,
            Some(_) => true,
        };
        let mut stages: Vec<(TypeStage, Scope, Name)> = slots
            .types_for(&self.policies, vhost)
            .filter_map(|(name, version)| {
                Some((version.describes(&name)?.stage.clone()?, version.scope.clone(), name))
            })
            .filter(|(stage, ..)| asked_for(&stage.argument))
            .collect();
        // An argument means what it does to whoever is nearest: as with the name of a type, the virtual host's own, then
        // one for all, then what came with the broker.
        stages.sort_by(|(a, scope_of_a, _), (b, scope_of_b, _)| {
            a.argument.cmp(&b.argument).then(scope_of_b.cmp(scope_of_a))
        });
        stages.dedup_by(|later, earlier| later.0.argument == earlier.0.argument);
        stages.sort();
        stages.into_iter().map(|(.., name)| name).collect()
    }

    /// Takes an exchange into account at the next change of who serves one of its types; once for
    /// each.
    pub(crate) fn register(&self, exchange: &Arc<Exchange>, type_name: &Name) {
        self.slots.write().register(exchange, type_name);
    }

    /// Takes an exchange out again. That a type is parked is forgotten with the last exchange that
    /// has it.
    pub(crate) fn unregister(self: &Arc<Self>, exchange: &Exchange) {
        self.slots.write().unregister(exchange);
        match self.pins.forget(exchange.id) {
            // It was not opened to the end.
            Some(pin) if exchange.types().is_empty() => self.await_again(&pin, exchange),
            Some(_) => self.decide_aside(),
            None => {}
        }
    }

    /// A type was found not to be pure, though it claims to be: from now on nothing of it is
    /// remembered, by any worker. False if that was known.
    pub(crate) fn withdraw_purity(&self, version: &Version, type_name: &[u8]) -> bool {
        if !version.withdraw(type_name) {
            return false;
        }
        // The next generation, so that all that is remembered is looked at again.
        let mut exchanges = self.exchanges_of_plugin(&version.scope, &version.code.plugin);
        exchanges.extend(self.pins.exchanges_on(version.id));
        let of_type =
            |exchange: &&Arc<Exchange>| exchange.types().iter().any(|t| t.type_name.as_bytes() == type_name);
        exchanges.iter().filter(of_type).for_each(|exchange| exchange.type_changed());
        true
    }

    /// What holds for each plugin in each virtual host.
    #[must_use]
    pub fn policies(&self) -> &Arc<Policies> {
        &self.policies
    }

    /// What is attached where.
    pub(crate) fn attachments(&self) -> &Arc<Attachments> {
        &self.attachments
    }

    /// All exchange types, by name: each that a plugin provides, once for each scope, and each of a
    /// virtual host whose exchanges are parked there.
    #[must_use]
    pub fn types(&self) -> Vec<TypeInfo> {
        let nobody: HashMap<VersionId, Option<String>> =
            self.providing().iter().map(|version| (version.id, self.serves_nobody(version))).collect();
        let slots = self.slots.read();
        let mut types: Vec<TypeInfo> = slots
            .serving()
            .map(|(scope, name, version)| {
                let vhost = if let Scope::Vhost(vhost) = scope { Some(vhost) } else { None };
                let policy = self.policies.of(scope, vhost, &version.code.plugin);
                let state = match nobody.get(&version.id) {
                    _ if !policy.enabled => TypeState::Parked { why: disabled(version) },
                    Some(Some(why)) => TypeState::Parked { why: why.clone() },
                    _ => TypeState::serving(version, name),
                };
                let plugin = Some(version.code.plugin.clone());
                TypeInfo { name: name.clone(), scope: scope.clone(), plugin, exchanges: 0, state }
            })
            .collect();
        for group in slots.groups() {
            let (vhost, name, exchanges) = (group.vhost, group.type_name, group.exchanges.len());
            let parked = |plugin, why| TypeInfo {
                name: name.clone(),
                scope: Scope::Vhost(vhost.clone()),
                plugin,
                exchanges,
                state: TypeState::Parked { why },
            };
            if let Some(now) = group.parked {
                let provider = slots.provider(&self.policies, &vhost, &name, None);
                let plugin = match &provider {
                    Provider::Version(version) => Some(version.code.plugin.clone()),
                    _ => self.missing(&vhost, &name).map(|missing| missing.plugin),
                };
                types.push(parked(plugin, String::from(&*self.why_parked(&vhost, &name, &now))));
            } else if let Provider::Version(version) = slots.provider(&self.policies, &vhost, &name, None) {
                let info = types.iter_mut().find(|t| t.scope == version.scope && t.name == name);
                match info {
                    Some(info) if matches!(info.state, TypeState::Parked { .. }) => {
                        info.exchanges += exchanges
                    }
                    Some(info) if version.policy(&vhost).enabled => info.exchanges += exchanges,
                    _ => types.push(parked(Some(version.code.plugin.clone()), disabled(&version))),
                }
            }
        }
        types.sort_by(|a, b| (&a.name, &a.scope).cmp(&(&b.name, &b.scope)));
        types
    }

    /// A type as a virtual host has it; `None` if it has neither a plugin nor an exchange for it there.
    #[must_use]
    pub fn type_in(&self, vhost: &Name, type_name: &[u8]) -> Option<TypeInVhost> {
        let name = Name::new(type_name).ok()?;
        let lookup = self.lookup(vhost, type_name);
        let slots = self.slots.read();
        let provider = slots.provider(&self.policies, vhost, type_name, None);
        let group = slots.groups().find(|group| group.vhost == *vhost && group.type_name == name);
        drop(slots);
        let (scope, used) = match &provider {
            Provider::Version(version) => (Some(version.scope.clone()), self.used(version, vhost)),
            Provider::NotAllowed(_) | Provider::Nobody => (None, PluginUse::default()),
        };
        let state = match lookup {
            Lookup::Serving(version) => TypeState::serving(&version, &name),
            Lookup::Parked(why) => {
                let set = match &provider {
                    Provider::Version(version) if version.not_granted(vhost).is_some() => {
                        format!(": set {}", self.grants_to_set(version, vhost))
                    }
                    _ => String::new(),
                };
                TypeState::Parked { why: format!("{why}{set}") }
            }
            Lookup::NotAllowed(plugin) => {
                TypeState::Parked { why: format!("this virtual host may not use the plugin {plugin}") }
            }
            Lookup::Unknown => return None,
        };
        let exchanges = group.map(|group| group.exchanges).unwrap_or_default();
        let on_failure = self.on_failure(vhost, type_name);
        Some(TypeInVhost { name, vhost: vhost.clone(), state, scope, on_failure, exchanges, used })
    }

    /// What a plugin used and did in a virtual host.
    fn used(&self, version: &Version, vhost: &Name) -> PluginUse {
        self.services.accounts.of_instance(version, vhost).read()
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
        let account = self.services.accounts.of(&Scope::Shipped, &Name::EMPTY, &code.plugin);
        let description = Instance::start(&code, &account, slot)
            .and_then(|mut instance| instance.describe(true, code.exported.interceptor))
            .map_err(|failure| failure.to_string())?;
        let version = Arc::new(Version::new(Scope::Shipped, code, description, self.policies.clone()));
        let mut slots = self.slots.write();
        for described in &version.description.types {
            let name = Name::new(described.name.as_bytes()).map_err(|error| error.to_string())?;
            slots.serve(name, version.clone());
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

/// The plugin that lies in this file: its name without `.wasm`.
fn plugin_of(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Why a type is parked whose plugin imports what it is not granted.
fn not_granted(version: &Version, capability: Capability) -> String {
    format!("its plugin {} needs the grant '{capability}', which it does not have here", version.code.plugin)
}

/// Why a type is parked whose plugin is switched off.
fn disabled(version: &Version) -> String {
    format!("its plugin {} is switched off", version.code.plugin)
}
