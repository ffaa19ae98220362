//! A file on its way into service, stage by stage. Whatever stage refuses it, what served before
//! serves on.

use super::{
    LoadChange, LoadError, LoadReport, Registry, Stage, StateChange,
    changing::Change,
    checks::{check_claims, check_count, check_interceptor_names, type_names},
    expected::Seen,
    migrate::Way,
    swap::{Moving, Outcome},
    turns::Turn,
    warnings,
};
use crate::{
    artifact::{self, Digest},
    compile::CompileError,
    engine::CodeStrategy,
    guest::{Description, Instance},
    policy::Attachment,
    scope::Scope,
    version::{Code, Origin, Version},
};
use hashbrown::HashMap;
use leveret_model::Name;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use wasmtime::component::Component;

/// Larger files serve from Winch's code until Cranelift's is ready, in bytes.
pub const WINCH_FIRST_ABOVE_BYTES: usize = 512 * 1024;
/// A page of linear memory, in bytes.
const WASM_PAGE_BYTES: u64 = 64 * 1024;

/// A file that was offered, or one that served before in its place.
pub(super) struct File<'a> {
    pub(super) scope: &'a Scope,
    pub(super) path: &'a Path,
    pub(super) digest: Digest,
}

/// A version that passed the stages before replay, and the types that it provides.
pub(super) struct Examined {
    pub(super) version: Version,
    pub(super) names: Vec<Name>,
}

pub(super) type Files = HashMap<PathBuf, Arc<Version>>;

impl Registry {
    /// Offers a file for all virtual hosts: [`Self::offer_in`] with [`Scope::Global`].
    ///
    /// # Errors
    /// As for [`Self::offer_in`].
    pub fn offer(self: &Arc<Self>, path: &Path, bytes: &[u8]) -> Result<LoadReport, LoadError> {
        self.offer_in(&Scope::Global, path, bytes)
    }

    /// Offers a file for those of that scope: if it passes every stage it serves when this returns, in
    /// place of an older version of the same file, and for a virtual host in place of a global plugin
    /// with the same types. Takes as long as compiling and replaying take; meanwhile what serves now
    /// serves on, and other files can be offered and removed. A path belongs to one scope.
    ///
    /// # Errors
    /// The stage that refused it and why. What served serves on; if nothing of this file did, the
    /// version that served last does now ([`Registry::fall_back`]).
    pub fn offer_in(
        self: &Arc<Self>,
        scope: &Scope,
        path: &Path,
        bytes: &[u8],
    ) -> Result<LoadReport, LoadError> {
        let turn = self.turns.begin(path);
        let offered = self.offer_unlogged(scope, path, bytes, &turn);
        match &offered {
            Ok(report) if report.change == LoadChange::Unchanged => {
                self.refusals.forget(path);
            }
            Ok(report) => {
                self.refusals.forget(path);
                let version = self.files.lock().get(path).cloned();
                let nobody = match version.is_some_and(|version| self.serves_somebody(&version)) {
                    true => "",
                    false => " nobody: it is not granted what it imports, not allowed, or switched off",
                };
                tracing::info!(
                    target: "leveret::plugin",
                    path = %path.display(), %scope, digest = %report.digest, version = report.version,
                    types = ?report.exchange_types, interceptors = ?report.interceptors,
                    exchanges = report.exchanges, bindings = report.bindings,
                    held_back = report.held_back.len(), states_migrated = report.state.migrated,
                    compile_ms = report.compile_time.as_millis(), replay_ms = report.replay_time.as_millis(),
                    "the plugin serves{nobody}"
                );
            }
            // It is nobody's concern any more: what came later is looked at.
            Err(error) if !turn.is_in_time() => tracing::info!(
                target: "leveret::plugin",
                path = %path.display(), %scope, stage = %error.stage, "left out: {}", error.reason
            ),
            Err(error) => {
                // Whoever reads the log finds it.
                self.refusals.note(scope, path, error);
                tracing::warn!(
                    target: "leveret::plugin",
                    path = %path.display(), %scope, stage = %error.stage,
                    "the plugin was not taken: {}", error.reason
                );
                self.fall_back(scope, path);
            }
        }
        match &offered {
            Err(_) if !turn.is_in_time() => self.load_awaited(scope, &super::plugin_of(path)),
            _ => self.was_looked_at(scope, path, offered.as_ref().err()),
        }
        offered
    }

    /// Notes that a file could not be read, so that it cannot be offered: [`Self::offer_in`] with that error.
    pub(super) fn refuse(self: &Arc<Self>, scope: &Scope, path: &Path, reason: String) -> LoadError {
        let error = LoadError::at(Stage::Read)(reason);
        self.refusals.note(scope, path, &error);
        tracing::warn!(
            target: "leveret::plugin",
            path = %path.display(), %scope, stage = %error.stage,
            "the plugin was not taken: {}. What served before still serves", error.reason
        );
        self.fall_back(scope, path);
        self.was_looked_at(scope, path, Some(&error));
        error
    }

    /// A file serves, or a version that was kept in its place, or it was refused.
    fn was_looked_at(&self, scope: &Scope, path: &Path, refused: Option<&LoadError>) {
        let plugin = super::plugin_of(path);
        self.load_awaited(scope, &plugin);
        let serves = self.files.lock().contains_key(path);
        let seen = match refused {
            Some(error) if !serves => Seen::Refused(error.clone()),
            Some(_) | None => Seen::Serves,
        };
        self.expected.note(scope, &plugin, seen);
    }

    fn offer_unlogged(
        self: &Arc<Self>,
        scope: &Scope,
        path: &Path,
        bytes: &[u8],
        turn: &Turn<'_>,
    ) -> Result<LoadReport, LoadError> {
        artifact::check(bytes).map_err(|error| LoadError::at(Stage::Read)(error.to_string()))?;
        let digest = Digest::of(bytes);
        let unchanged = |files: &Files| {
            let version = files.get(path).filter(|version| version.code.digest == digest)?;
            turn.settle();
            let loaded = report(path, version, LoadChange::Unchanged, Duration::ZERO);
            self.keep(&loaded, bytes);
            Some(loaded)
        };
        {
            let files = self.files.lock();
            if let Some(loaded) = unchanged(&files) {
                return Ok(loaded);
            }
            // Before it costs anything to compile it.
            check_count(&files, scope, path).map_err(LoadError::at(Stage::Policy))?;
        }
        self.check_rolled_back(scope, path, digest).map_err(LoadError::at(Stage::Swap))?;
        let began = Instant::now();
        let (strategy, component) = self.compile(digest, bytes)?;
        let compile_time = began.elapsed();
        self.check_kept(&File { scope, path, digest }, strategy, &component)?;
        let change = self.changing.begin_file(scope, path);
        // Much may have happened meanwhile.
        if !turn.is_in_time() {
            return Err(LoadError::at(Stage::Swap)(String::from("a later file took its place")));
        }
        if let Some(loaded) = unchanged(&self.files.lock()) {
            return Ok(loaded);
        }
        self.check_rolled_back(scope, path, digest).map_err(LoadError::at(Stage::Swap))?;
        let file = File { scope, path, digest };
        let loaded = self.put_into_service(&change, &file, strategy, &component, compile_time)?;
        turn.settle();
        self.keep(&loaded, bytes);
        drop(change);
        if strategy == CodeStrategy::Winch {
            self.upgrade_later(scope, path, digest, bytes);
        }
        Ok(loaded)
    }

    /// Code of the best compiler that has some soon.
    pub(super) fn compile(
        &self,
        digest: Digest,
        bytes: &[u8],
    ) -> Result<(CodeStrategy, Component), LoadError> {
        let at = |error: CompileError| LoadError::at(Stage::Compile)(error.to_string());
        if bytes.len() > WINCH_FIRST_ABOVE_BYTES {
            if let Some(component) = self.compiler.cached(CodeStrategy::Cranelift, digest) {
                return Ok((CodeStrategy::Cranelift, component));
            }
            match self.compiler.compile(CodeStrategy::Winch, digest, bytes) {
                Ok(component) => return Ok((CodeStrategy::Winch, component)),
                // It knows fewer instructions, and fewer machines.
                Err(CompileError::Refused { why }) => tracing::debug!(
                    target: "leveret::plugin", "Winch does not compile this plugin: {why}"
                ),
                // What is too much for the quick compiler is too much for the other one.
                Err(error) => return Err(at(error)),
            }
        }
        match self.compiler.compile(CodeStrategy::Cranelift, digest, bytes) {
            Ok(component) => Ok((CodeStrategy::Cranelift, component)),
            Err(error) => Err(at(error)),
        }
    }

    /// The stages after compiling.
    pub(super) fn put_into_service(
        &self,
        change: &Change<'_>,
        file: &File<'_>,
        strategy: CodeStrategy,
        component: &Component,
        compile_time: Duration,
    ) -> Result<LoadReport, LoadError> {
        self.put(change, file, (strategy, component, compile_time), Way::Forward)
    }

    /// The same, on the way forward or back to a version that served before. Nobody else changes the plugin
    /// meanwhile: the caller has its change.
    pub(super) fn put(
        &self,
        _change: &Change<'_>,
        file: &File<'_>,
        (strategy, component, compile_time): (CodeStrategy, &Component, Duration),
        way: Way,
    ) -> Result<LoadReport, LoadError> {
        let path = file.path;
        check_count(&self.files.lock(), file.scope, path).map_err(LoadError::at(Stage::Policy))?;
        let Examined { version, names } = self.introduce(file, strategy, component)?;
        let version = Arc::new(version);
        let old = {
            let files = self.files.lock();
            // Before it costs anything to replay; and once more at the swap.
            check_claims(&files, file.scope, path, &names, &version.description)
                .map_err(LoadError::at(Stage::Trial))?;
            files.get(path).cloned()
        };
        if let Some(old) = &old {
            version.inherit(old);
        }
        let began = Instant::now();
        let change =
            old.as_ref().map_or(LoadChange::Added, |old| LoadChange::Replaced { digest: old.code.digest });
        let outcome = Moving::new(self, path, version.clone(), names, old, way).run()?;
        let mut loaded = report(path, &version, change, compile_time);
        loaded.replay_time = began.elapsed();
        let Outcome { moved, held_back } = outcome;
        (loaded.exchanges, loaded.bindings, loaded.state) = (moved.exchanges, moved.bindings, moved.state);
        for (vhost, error) in &held_back {
            tracing::warn!(
                target: "leveret::plugin",
                path = %path.display(), %vhost, stage = %error.stage,
                "{}: {}", self.without_newer(vhost, &version.code.plugin), error.reason
            );
        }
        loaded.held_back = held_back;
        Ok(loaded)
    }

    /// The stages between compiling and replay, for a file that would take the place of `file` everywhere.
    pub(super) fn examine(
        &self,
        file: &File<'_>,
        strategy: CodeStrategy,
        component: &Component,
    ) -> Result<Examined, LoadError> {
        let File { scope, path, .. } = *file;
        let examined = self.introduce(file, strategy, component)?;
        let Examined { version, names } = &examined;
        let old = {
            let files = self.files.lock();
            check_count(&files, scope, path).map_err(LoadError::at(Stage::Policy))?;
            check_claims(&files, scope, path, names, &version.description)
                .map_err(LoadError::at(Stage::Trial))?;
            files.get(path).cloned()
        };
        if let Some(old) = old {
            let slots = self.slots.read();
            let groups = slots.groups_of(&self.policies, &old).into_iter();
            let moving = groups.filter(|group| slots.hold_of(&group.vhost, &old.code.plugin).is_none());
            let (has, dropped): (Vec<_>, Vec<_>) = moving.partition(|group| names.contains(&group.type_name));
            if let Some(group) = dropped.first().filter(|_| has.is_empty()) {
                return Err(LoadError::at(Stage::Swap)(group.dropped()));
            }
            let dropped =
                self.attached_vhosts().find_map(|vhost| self.attachment_dropped(&slots, version, &vhost));
            if let Some(what) = dropped {
                return Err(LoadError::at(Stage::Swap)(what));
            }
        }
        Ok(examined)
    }

    /// The stages after compiling that look at a file alone, whatever else serves.
    pub(super) fn introduce(
        &self,
        file: &File<'_>,
        strategy: CodeStrategy,
        component: &Component,
    ) -> Result<Examined, LoadError> {
        let File { scope, path, digest } = *file;
        let plugin = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let origin = Origin { plugin, digest, strategy, builtin: false, form: self.services.form };
        let code = Code::link(origin, component)
            .map_err(|error| LoadError::at(Stage::Contract)(error.to_string()))?;
        self.check_policy(scope, &code, component).map_err(LoadError::at(Stage::Policy))?;
        let description = self.try_out(scope, &code).map_err(LoadError::at(Stage::Trial))?;
        let names = type_names(&description).map_err(LoadError::at(Stage::Trial))?;
        check_interceptor_names(&description).map_err(LoadError::at(Stage::Trial))?;
        let version = Version::new(scope.clone(), code, description, self.policies.clone());
        let instances = if version.single_writer { 1 } else { self.mailboxes.len() };
        self.policies
            .check_together(scope, &version.code.plugin, memory_at_start(component), instances)
            .map_err(|error| LoadError::at(Stage::Policy)(error.to_string()))?;
        Ok(Examined { version, names })
    }

    /// Whether what is said of the plugin fits it.
    fn check_policy(&self, scope: &Scope, code: &Code, component: &Component) -> Result<(), String> {
        let memory_bytes = memory_at_start(component);
        // What becomes of messages that an interceptor fails on is said where it is attached.
        let attachment =
            if code.exported.exchange_type { Attachment::ExchangeType } else { Attachment::OnPublish };
        self.policies
            .check_load(scope, &code.plugin, attachment, memory_bytes)
            .map_err(|error| error.to_string())?;
        let vhost = if let Scope::Vhost(vhost) = scope { Some(vhost) } else { None };
        let grants = self.policies.of(scope, vhost, &code.plugin).grants;
        let Some(capability) = code.exported.imports.iter().find(|c| !grants.contains(*c)) else {
            return Ok(());
        };
        // A global one serves the virtual hosts that grant it; where it does not, there is a warning.
        let Some(vhost) = vhost else { return Ok(()) };
        Err(format!(
            "it imports '{capability}', and is not granted that: grants in {}",
            warnings::table(Some(vhost), &code.plugin)
        ))
    }

    /// Starts an instance and asks it what it is.
    fn try_out(&self, scope: &Scope, code: &Code) -> Result<Description, String> {
        let slot = self.engines.ticker().slot();
        let vhost = if let Scope::Vhost(vhost) = scope { vhost } else { &Name::EMPTY };
        let account = self.services.accounts.of(scope, vhost, &code.plugin);
        let mut instance = Instance::start(code, &account, slot)
            .map_err(|failure| format!("it does not start: {failure}"))?;
        let exported = &code.exported;
        instance
            .describe(exported.exchange_type, exported.interceptor)
            .map_err(|failure| format!("describe {failure}"))
    }

    /// Compiles a file with Cranelift, and swaps the code if the file is still the same.
    pub(super) fn upgrade(&self, path: &Path, digest: Digest, bytes: &[u8]) -> Result<(), LoadError> {
        let current = || {
            let files = self.files.lock();
            let version = files.get(path)?;
            let waits = version.code.digest == digest && version.code.strategy == CodeStrategy::Winch;
            waits.then(|| version.scope.clone())
        };
        if current().is_none() {
            return Ok(());
        }
        let began = Instant::now();
        let component = self
            .compiler
            .compile(CodeStrategy::Cranelift, digest, bytes)
            .map_err(|error| LoadError::at(Stage::Compile)(error.to_string()))?;
        let compile_time = began.elapsed();
        let Some(scope) = current() else { return Ok(()) };
        let change = self.changing.begin_file(&scope, path);
        if current().is_some() {
            let (file, strategy) = (File { scope: &scope, path, digest }, CodeStrategy::Cranelift);
            self.put_into_service(&change, &file, strategy, &component, compile_time)?;
            tracing::info!(
                target: "leveret::plugin",
                path = %path.display(), compile_ms = compile_time.as_millis(),
                "the plugin's optimised code serves"
            );
        }
        Ok(())
    }
}

fn report(path: &Path, version: &Version, change: LoadChange, compile_time: Duration) -> LoadReport {
    let types = &version.description.types;
    LoadReport {
        path: path.to_path_buf(),
        scope: version.scope.clone(),
        digest: version.code.digest,
        version: version.description.version.clone(),
        contract: version.code.exported.version.number(),
        exports: version.code.exported.interfaces(),
        imports: version.code.exported.imports,
        exchange_types: types.iter().filter_map(|t| Name::new(t.name.as_bytes()).ok()).collect(),
        interceptors: version.description.interceptors.iter().map(|i| i.name.clone()).collect(),
        change,
        strategy: version.code.strategy,
        exchanges: 0,
        bindings: 0,
        held_back: Vec::new(),
        state: StateChange::default(),
        compile_time,
        replay_time: Duration::ZERO,
    }
}

/// The memory of an instance from the start, in bytes.
fn memory_at_start(component: &Component) -> u64 {
    // Of a component that imports a module it is not known; none that keeps the contract does.
    let pages = component.resources_required().and_then(|resources| resources.max_initial_memory_size);
    pages.unwrap_or_default().saturating_mul(WASM_PAGE_BYTES)
}
