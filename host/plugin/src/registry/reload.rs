//! A file on its way into service, stage by stage. Whatever stage refuses it, what served before
//! serves on.

use super::{
    LoadChange, LoadError, LoadReport, Registry, Stage, StateChange,
    checks::{check_claims, check_count, check_interceptor_names, type_names},
    migrate::{Handover, Way},
    slots::Group,
};
use crate::{
    artifact::{self, Digest},
    attachment,
    builder::Place,
    compile::CompileError,
    engine::CodeStrategy,
    guest::{Description, GuestFailure, Instance, Refused},
    policy::Attachment,
    replica::Replica,
    scope::Scope,
    version::{Code, Origin, Version},
};
use hashbrown::{HashMap, HashSet};
use leveret_broker::{
    exchange::{Exchange, ExchangeId},
    port::Layer,
};
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

/// Replicas of a new version, by worker, and what was replayed into each of them.
pub(super) struct Replayed {
    pub(super) replicas: Vec<Vec<(Place, Replica)>>,
    took: HashSet<ExchangeId>,
    /// The types of exchanges that were replayed.
    pub(super) places: Vec<(Arc<Exchange>, Layer)>,
    exchanges: usize,
    bindings: usize,
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
        let offered = self.offer_unlogged(scope, path, bytes);
        match &offered {
            Ok(report) if report.change == LoadChange::Unchanged => {}
            Ok(report) => tracing::info!(
                target: "leveret::plugin",
                path = %path.display(), %scope, digest = %report.digest, version = report.version,
                types = ?report.exchange_types, interceptors = ?report.interceptors, exchanges = report.exchanges, bindings = report.bindings,
                states_migrated = report.state.migrated,
                compile_ms = report.compile_time.as_millis(), replay_ms = report.replay_time.as_millis(),
                "the plugin serves"
            ),
            Err(error) => tracing::warn!(
                target: "leveret::plugin",
                path = %path.display(), %scope, stage = %error.stage,
                "the plugin was not taken: {}", error.reason
            ),
        }
        if offered.is_err() {
            self.fall_back(scope, path);
        }
        offered
    }

    fn offer_unlogged(
        self: &Arc<Self>,
        scope: &Scope,
        path: &Path,
        bytes: &[u8],
    ) -> Result<LoadReport, LoadError> {
        artifact::check(bytes).map_err(|error| LoadError::at(Stage::Read)(error.to_string()))?;
        let digest = Digest::of(bytes);
        let turn = self.turns.begin(path);
        let unchanged = |files: &Files| {
            let version = files.get(path).filter(|version| version.code.digest == digest)?;
            turn.settle();
            let loaded = report(path, version, LoadChange::Unchanged, Duration::ZERO, &Replayed::nothing());
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
        let mut files = self.files.lock();
        // Much may have happened meanwhile.
        if !turn.is_in_time() {
            return Err(LoadError::at(Stage::Swap)(String::from("a later file took its place")));
        }
        if let Some(loaded) = unchanged(&files) {
            return Ok(loaded);
        }
        self.check_rolled_back(scope, path, digest).map_err(LoadError::at(Stage::Swap))?;
        let file = File { scope, path, digest };
        let loaded = self.put_into_service(&mut files, &file, strategy, &component, compile_time)?;
        turn.settle();
        self.keep(&loaded, bytes);
        drop(files);
        if strategy == CodeStrategy::Winch {
            self.upgrade_later(path, digest, bytes);
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
        files: &mut Files,
        file: &File<'_>,
        strategy: CodeStrategy,
        component: &Component,
        compile_time: Duration,
    ) -> Result<LoadReport, LoadError> {
        self.put(files, file, (strategy, component, compile_time), Way::Forward)
    }

    /// The same, on the way forward or back to a version that served before.
    pub(super) fn put(
        &self,
        files: &mut Files,
        file: &File<'_>,
        (strategy, component, compile_time): (CodeStrategy, &Component, Duration),
        way: Way,
    ) -> Result<LoadReport, LoadError> {
        let path = file.path;
        let Examined { version, names } = self.examine(files, file, strategy, component)?;
        let version = Arc::new(version);
        let old = files.get(path).cloned();
        if let Some(old) = &old {
            version.inherit(old);
        }
        let began = Instant::now();
        let workers = self.mailboxes.len().max(1);
        let mut replayed = self.rehearse(&version, &names, workers)?;
        let replay_time = began.elapsed();
        let handover = self.prepare_state(&version, old.as_deref(), &mut replayed, way)?;
        let change =
            old.as_ref().map_or(LoadChange::Added, |old| LoadChange::Replaced { digest: old.code.digest });
        let mut loaded = report(path, &version, change, compile_time, &replayed);
        loaded.replay_time = replay_time;
        loaded.state = handover.change;
        self.swap(old.as_deref(), &version, &names, replayed, handover);
        files.insert(path.to_path_buf(), version);
        Ok(loaded)
    }

    /// The stages between compiling and replay, for a file that would take the place of `file`.
    pub(super) fn examine(
        &self,
        files: &Files,
        file: &File<'_>,
        strategy: CodeStrategy,
        component: &Component,
    ) -> Result<Examined, LoadError> {
        let File { scope, path, .. } = *file;
        check_count(files, scope, path).map_err(LoadError::at(Stage::Policy))?;
        let Examined { version, names } = self.introduce(file, strategy, component)?;
        let (old, description) = (files.get(path).map(|old| &**old), &version.description);
        check_claims(files, file, &names, description).map_err(LoadError::at(Stage::Trial))?;
        self.check_dropped(old, &names).map_err(LoadError::at(Stage::Swap))?;
        self.check_dropped_interceptors(old, description).map_err(LoadError::at(Stage::Swap))?;
        Ok(Examined { version, names })
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
        Ok(Examined { version, names })
    }

    /// Replays all that a version would serve into fresh instances, a set for each worker.
    pub(super) fn rehearse(
        &self,
        version: &Arc<Version>,
        names: &[Name],
        workers: usize,
    ) -> Result<Replayed, LoadError> {
        let places = self.to_replay(version, names);
        let attachments = self.attachments_for(version);
        self.replay(version, &places, &attachments, workers).map_err(LoadError::at(Stage::Replay))
    }

    /// Whether what is said of the plugin fits it.
    fn check_policy(&self, scope: &Scope, code: &Code, component: &Component) -> Result<(), String> {
        // Of a component that imports a module it is not known; none that keeps the contract does.
        let pages = component.resources_required().and_then(|resources| resources.max_initial_memory_size);
        let memory_bytes = pages.unwrap_or_default().saturating_mul(WASM_PAGE_BYTES);
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
        let what = format!("it imports '{capability}', and is not granted that");
        if vhost.is_some() {
            return Err(what);
        }
        tracing::warn!(
            target: "leveret::plugin", plugin = code.plugin,
            "{what} everywhere; it serves only the virtual hosts that grant it"
        );
        Ok(())
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

    /// A new version keeps the types that exchanges have.
    fn check_dropped(&self, old: Option<&Version>, names: &[Name]) -> Result<(), String> {
        let Some(old) = old else {
            return Ok(());
        };
        let groups = self.slots.read().groups_of(&self.policies, old);
        match groups.iter().find(|group| !names.contains(&group.type_name)) {
            Some(Group { vhost, type_name, exchanges, .. }) => {
                let exchange = exchanges.first().map(|e| e.spec.name.clone()).unwrap_or_default();
                Err(format!(
                    "the new version drops the exchange type '{type_name}', which exchange '{exchange}' in vhost \
                     '{vhost}' has"
                ))
            }
            None => Ok(()),
        }
    }

    /// The exchanges that a new version must take. One virtual host's trouble is not another's: those
    /// that are parked for a reason of their virtual host alone stay parked if a global plugin does not
    /// take them. Those for which it is switched off are asked about when it is switched on.
    fn to_replay(&self, version: &Arc<Version>, names: &[Name]) -> Vec<(Arc<Exchange>, Layer)> {
        let mut places = Vec::new();
        for name in names {
            let groups = self.slots.read().groups_for(version, name);
            for group in groups.into_iter().filter(|group| version.policy(&group.vhost).enabled) {
                let alone = version.scope == Scope::Global
                    && group.parked.as_ref().is_some_and(|parked| parked.alone);
                if !alone || self.replay(version, &group.places(), &[], 1).is_ok() {
                    places.extend(group.places());
                }
            }
        }
        places
    }

    /// Replays these types of exchanges, but for those that stay on a version of their own, and these
    /// attachments into fresh instances, a set for each worker.
    pub(super) fn replay(
        &self,
        version: &Arc<Version>,
        places: &[(Arc<Exchange>, Layer)],
        attachments: &[Arc<attachment::Attachment>],
        workers: usize,
    ) -> Result<Replayed, String> {
        let stays = |(exchange, layer): &&(Arc<Exchange>, Layer)| {
            let spec = exchange.types().get(usize::from(layer.0));
            spec.is_some_and(|spec| self.pins.keep_from(exchange, &spec.type_name, version))
        };
        let (staying, moving): (Vec<_>, Vec<_>) = places.iter().partition(stays);
        let moving: Vec<_> = moving.into_iter().cloned().collect();
        let mut replayed = self.replay_all(version, &moving, attachments, workers)?;
        replayed.took.extend(staying.iter().map(|(exchange, _)| exchange.id));
        Ok(replayed)
    }

    /// [`Self::replay`], also of those that stay.
    pub(super) fn replay_all(
        &self,
        version: &Arc<Version>,
        places: &[(Arc<Exchange>, Layer)],
        attachments: &[Arc<attachment::Attachment>],
        workers: usize,
    ) -> Result<Replayed, String> {
        let mut replayed = Replayed { places: places.to_vec(), ..Replayed::nothing() };
        for (exchange, _) in places {
            if replayed.took.insert(exchange.id) {
                replayed.exchanges += 1;
                replayed.bindings += exchange.binding_count();
            }
        }
        for _ in 0..workers {
            let mut replicas: HashMap<Place, Replica> = HashMap::new();
            for (exchange, layer) in places {
                let replica = self.replica_in(&mut replicas, version, &exchange.vhost)?;
                replica.serve(exchange, *layer).map_err(|refused| not_replayed(exchange, &refused))?;
            }
            for attachment in attachments {
                let replica = self.replica_in(&mut replicas, version, &attachment.vhost)?;
                replica.attach(attachment).map_err(|refused| not_attached(attachment, &refused))?;
            }
            replayed.replicas.push(replicas.into_iter().collect());
        }
        Ok(replayed)
    }

    /// The replica for a virtual host among these, started if there is none.
    fn replica_in<'a>(
        &self,
        replicas: &'a mut HashMap<Place, Replica>,
        version: &Arc<Version>,
        vhost: &Name,
    ) -> Result<&'a mut Replica, String> {
        Ok(match replicas.entry(Place::of(version, vhost)) {
            hashbrown::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            hashbrown::hash_map::Entry::Vacant(entry) => {
                let slot = self.engines.ticker().slot();
                let started = Replica::start(version, vhost, &self.services, slot);
                entry.insert(started.map_err(|failure| not_started(vhost, &failure))?)
            }
        })
    }

    /// Puts the version into its slots, then tells the exchanges.
    fn swap(
        &self,
        old: Option<&Version>,
        version: &Arc<Version>,
        names: &[Name],
        replayed: Replayed,
        handover: Handover,
    ) {
        self.hand_over_state(&handover, old, version, &replayed.places);
        if let Some(old) = old {
            self.mailboxes.iter().for_each(|mailbox| mailbox.discard(old.id));
        }
        let took = self.hand_to_workers(replayed, |_| true);
        let mut changed = Vec::new();
        let mut slots = self.slots.write();
        if let Some(old) = old {
            // Types that the new version does not have, and no exchange either.
            slots.withdraw(old, names);
        }
        for name in names {
            slots.serve(name.clone(), version.clone());
            for group in slots.groups_for(version, name) {
                if group.exchanges.iter().any(|exchange| took.contains(&exchange.id)) {
                    slots.park(&group.vhost, name, None);
                }
                changed.extend(group.exchanges);
            }
        }
        drop(slots);
        self.pins.move_to(version);
        self.serving_changed(version);
        self.serve_interceptors(old, version);
        changed.iter().for_each(|exchange| exchange.type_changed());
        handover.finish();
    }

    /// Hands replicas over, a set to each worker. Gives which exchanges they know.
    pub(super) fn hand_to_workers(
        &self,
        replayed: Replayed,
        wanted: impl Fn(&Place) -> bool,
    ) -> HashSet<ExchangeId> {
        for (mailbox, replicas) in self.mailboxes.iter().zip(replayed.replicas) {
            let wanted = replicas.into_iter().filter(|(place, _)| wanted(place));
            wanted.for_each(|(place, replica)| mailbox.put(place, replica));
        }
        replayed.took
    }

    /// Compiles a file with Cranelift beside, and swaps the code if the file is still the same.
    pub(super) fn upgrade_later(self: &Arc<Self>, path: &Path, digest: Digest, bytes: &[u8]) {
        let (registry, path, bytes) = (self.clone(), path.to_path_buf(), bytes.to_vec());
        *self.upgrades.lock() += 1;
        let upgrade = move || {
            if let Err(error) = registry.upgrade(&path, digest, &bytes) {
                tracing::warn!(
                    target: "leveret::plugin", path = %path.display(),
                    "the plugin goes on with Winch's code: {error}"
                );
            }
            registry.upgrade_done();
        };
        if std::thread::Builder::new().name("leveret-compile".into()).spawn(upgrade).is_err() {
            self.upgrade_done();
        }
    }

    fn upgrade(&self, path: &Path, digest: Digest, bytes: &[u8]) -> Result<(), LoadError> {
        let current = |files: &Files| {
            let version = files.get(path)?;
            let waits = version.code.digest == digest && version.code.strategy == CodeStrategy::Winch;
            waits.then(|| version.scope.clone())
        };
        if current(&self.files.lock()).is_none() {
            return Ok(());
        }
        let began = Instant::now();
        let component = self
            .compiler
            .compile(CodeStrategy::Cranelift, digest, bytes)
            .map_err(|error| LoadError::at(Stage::Compile)(error.to_string()))?;
        let compile_time = began.elapsed();
        let mut files = self.files.lock();
        if let Some(scope) = current(&files) {
            let (file, strategy) = (File { scope: &scope, path, digest }, CodeStrategy::Cranelift);
            self.put_into_service(&mut files, &file, strategy, &component, compile_time)?;
            tracing::info!(
                target: "leveret::plugin",
                path = %path.display(), compile_ms = compile_time.as_millis(),
                "the plugin's optimised code serves"
            );
        }
        Ok(())
    }

    fn upgrade_done(&self) {
        *self.upgrades.lock() -= 1;
        self.upgraded.notify_all();
    }

    /// Waits until no file waits for its Cranelift code.
    pub fn wait_for_upgrades(&self) {
        let mut upgrades = self.upgrades.lock();
        self.upgraded.wait_while(&mut upgrades, |upgrades| *upgrades > 0);
    }
}

impl Replayed {
    fn nothing() -> Self {
        Self { replicas: Vec::new(), took: HashSet::new(), places: Vec::new(), exchanges: 0, bindings: 0 }
    }
}

fn not_started(vhost: &Name, failure: &GuestFailure) -> String {
    format!("for vhost '{vhost}' it does not start: it {failure}")
}

fn not_attached(attachment: &attachment::Attachment, refused: &Refused) -> String {
    let (rule, vhost) = (&attachment.rule, &attachment.vhost);
    match refused {
        Refused::ByPlugin(text) => format!("the interceptor {rule} was refused: {text}"),
        Refused::Failed(failure) => {
            format!("the interceptor {rule} could not be attached in vhost '{vhost}': the plugin {failure}")
        }
    }
}

fn not_replayed(exchange: &Exchange, refused: &Refused) -> String {
    let what = match refused {
        Refused::ByPlugin(text) => format!("was refused: {text}"),
        Refused::Failed(failure) => format!("could not be replayed: the plugin {failure}"),
    };
    format!("exchange '{}' in vhost '{}' {what}", exchange.spec.name, exchange.vhost)
}

fn report(
    path: &Path,
    version: &Version,
    change: LoadChange,
    compile_time: Duration,
    replayed: &Replayed,
) -> LoadReport {
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
        exchanges: replayed.exchanges,
        bindings: replayed.bindings,
        state: StateChange::default(),
        compile_time,
        replay_time: Duration::ZERO,
    }
}
