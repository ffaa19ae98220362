//! A file on its way into service, stage by stage. Whatever stage refuses it, what served before
//! serves on.

use super::{CORE_TYPES, LoadChange, LoadError, LoadReport, RESERVED_PREFIX, Registry, Slot, Stage, State};
use crate::{
    artifact::{self, Digest},
    builder::Place,
    compile::CompileError,
    engine::CodeStrategy,
    guest::{Description, Instance, Refused},
    replica::Replica,
    version::{Code, Version},
};
use hashbrown::HashMap;
use leveret_broker::exchange::Exchange;
use leveret_model::Name;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use wasmtime::component::Component;

/// Larger files serve from Winch's code until Cranelift's is ready, in bytes.
pub const WINCH_FIRST_ABOVE_BYTES: usize = 512 * 1024;
/// The longest name of an exchange type, in bytes.
const TYPE_NAME_BYTES_MAX: usize = 127;

/// Replicas of a new version, by worker, and what was replayed into each of them.
struct Replayed {
    replicas: Vec<Vec<(Place, Replica)>>,
    exchanges: usize,
    bindings: usize,
}

pub(super) type Files = HashMap<PathBuf, Arc<Version>>;

impl Registry {
    /// Offers a file: if it passes every stage it serves when this returns, in place of an older
    /// version of the same file. Takes as long as compiling and replaying take; meanwhile what
    /// serves now serves on.
    ///
    /// # Errors
    /// The stage that refused it and why. What served serves on; if nothing did, the version that
    /// served last does now ([`Registry::fall_back`]).
    pub fn offer(self: &Arc<Self>, path: &Path, bytes: &[u8]) -> Result<LoadReport, LoadError> {
        let offered = self.offer_unlogged(path, bytes);
        match &offered {
            Ok(report) if report.change == LoadChange::Unchanged => {}
            Ok(report) => tracing::info!(
                target: "leveret::plugin",
                path = %path.display(), digest = %report.digest, version = report.version,
                types = ?report.exchange_types, exchanges = report.exchanges, bindings = report.bindings,
                compile_ms = report.compile_time.as_millis(), replay_ms = report.replay_time.as_millis(),
                "the plugin serves"
            ),
            Err(error) => tracing::warn!(
                target: "leveret::plugin",
                path = %path.display(), stage = %error.stage,
                "the plugin was not taken: {}", error.reason
            ),
        }
        if offered.is_err() {
            self.fall_back(path);
        }
        offered
    }

    fn offer_unlogged(self: &Arc<Self>, path: &Path, bytes: &[u8]) -> Result<LoadReport, LoadError> {
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
        if let Some(loaded) = unchanged(&self.files.lock()) {
            return Ok(loaded);
        }
        self.check_rolled_back(path, digest).map_err(LoadError::at(Stage::Swap))?;
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
        self.check_rolled_back(path, digest).map_err(LoadError::at(Stage::Swap))?;
        let loaded = self.put_into_service(&mut files, path, digest, strategy, &component, compile_time)?;
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
        path: &Path,
        digest: Digest,
        strategy: CodeStrategy,
        component: &Component,
        compile_time: Duration,
    ) -> Result<LoadReport, LoadError> {
        let plugin = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let code = Code::link(plugin, digest, strategy, false, component)
            .map_err(|error| LoadError::at(Stage::Contract)(error.to_string()))?;
        let description = self.try_out(&code).map_err(LoadError::at(Stage::Trial))?;
        let names = type_names(&description).map_err(LoadError::at(Stage::Trial))?;
        let old = files.get(path).cloned();
        self.check_claims(files, path, &names).map_err(LoadError::at(Stage::Trial))?;
        self.check_dropped(old.as_deref(), &names).map_err(LoadError::at(Stage::Swap))?;
        let version = Arc::new(Version::new(code, description));
        let began = Instant::now();
        let replayed = self.replay(&version, &names).map_err(LoadError::at(Stage::Replay))?;
        let replay_time = began.elapsed();
        let change =
            old.as_ref().map_or(LoadChange::Added, |old| LoadChange::Replaced { digest: old.code.digest });
        let mut loaded = report(path, &version, change, compile_time, &replayed);
        loaded.replay_time = replay_time;
        self.swap(old.as_deref(), &version, &names, replayed);
        files.insert(path.to_path_buf(), version);
        Ok(loaded)
    }

    /// Starts an instance and asks it what it is.
    fn try_out(&self, code: &Code) -> Result<Description, String> {
        let slot = self.engines.ticker().slot();
        let mut instance =
            Instance::start(code, slot).map_err(|failure| format!("it does not start: {failure}"))?;
        instance.describe().map_err(|failure| format!("describe {failure}"))
    }

    /// No name may be another plugin's.
    fn check_claims(&self, files: &Files, path: &Path, names: &[Name]) -> Result<(), String> {
        for (other, version) in files.iter().filter(|(other, _)| *other != path) {
            if let Some(name) = names.iter().find(|name| version.describes(name).is_some()) {
                return Err(format!("the exchange type '{name}' is provided by {} already", other.display()));
            }
        }
        let slots = self.slots.read();
        for name in names {
            if let Some(State::Serving(version)) = slots.get(name.as_bytes()).map(|slot| &slot.state)
                && version.code.builtin
            {
                return Err(format!("the exchange type '{name}' comes with the broker"));
            }
        }
        Ok(())
    }

    /// A new version keeps the types that exchanges have.
    fn check_dropped(&self, old: Option<&Version>, names: &[Name]) -> Result<(), String> {
        let slots = self.slots.read();
        for dropped in old.iter().flat_map(|old| &old.description.types) {
            let kept = names.iter().any(|name| name.as_bytes() == dropped.name.as_bytes());
            let slot = slots.get(dropped.name.as_bytes()).filter(|_| !kept);
            if let Some(exchange) = slot.and_then(|slot| slot.live().next()) {
                return Err(format!(
                    "the new version drops the exchange type '{}', which exchange '{}' in vhost '{}' has",
                    dropped.name, exchange.spec.name, exchange.vhost
                ));
            }
        }
        Ok(())
    }

    /// Replays every live exchange of these types into fresh instances, a set for each worker.
    fn replay(&self, version: &Arc<Version>, names: &[Name]) -> Result<Replayed, String> {
        let exchanges: Vec<Arc<Exchange>> = {
            let slots = self.slots.read();
            names.iter().filter_map(|name| slots.get(name.as_bytes())).flat_map(Slot::live).collect()
        };
        let mut replayed = Replayed { exchanges: exchanges.len(), ..Replayed::nothing() };
        replayed.bindings = exchanges.iter().map(|exchange| exchange.binding_count()).sum();
        for _ in 0..self.mailboxes.len().max(1) {
            let mut replicas: HashMap<Place, Replica> = HashMap::new();
            for exchange in &exchanges {
                let place = Place::of(version, &exchange.vhost);
                let replica = match replicas.entry(place) {
                    hashbrown::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                    hashbrown::hash_map::Entry::Vacant(entry) => {
                        let slot = self.engines.ticker().slot();
                        entry.insert(Replica::start(version, slot).map_err(|failure| failure.to_string())?)
                    }
                };
                replica.serve(exchange).map_err(|refused| not_replayed(exchange, &refused))?;
            }
            replayed.replicas.push(replicas.into_iter().collect());
        }
        Ok(replayed)
    }

    /// Puts the version into its slots, then tells the exchanges.
    fn swap(&self, old: Option<&Version>, version: &Arc<Version>, names: &[Name], replayed: Replayed) {
        for (mailbox, replicas) in self.mailboxes.iter().zip(replayed.replicas) {
            if let Some(old) = old {
                mailbox.discard(old.id);
            }
            replicas.into_iter().for_each(|(place, replica)| mailbox.put(place, replica));
        }
        let mut slots = self.slots.write();
        if let Some(old) = old {
            // Types that the new version does not have, and no exchange either.
            slots.retain(|name, slot| {
                !matches!(&slot.state, State::Serving(v) if v.id == old.id) || names.contains(name)
            });
        }
        let mut exchanges = Vec::new();
        for name in names {
            let state = State::Serving(version.clone());
            match slots.get_mut(name.as_bytes()) {
                Some(slot) => {
                    slot.state = state;
                    exchanges.extend(slot.live());
                }
                None => {
                    slots.insert(name.clone(), Slot::new(state));
                }
            }
        }
        drop(slots);
        exchanges.iter().for_each(|exchange| exchange.type_changed());
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
        let is_current = |files: &Files| {
            let serving = files.get(path).map(|version| &version.code);
            serving.is_some_and(|code| code.digest == digest && code.strategy == CodeStrategy::Winch)
        };
        if !is_current(&self.files.lock()) {
            return Ok(());
        }
        let began = Instant::now();
        let component = self
            .compiler
            .compile(CodeStrategy::Cranelift, digest, bytes)
            .map_err(|error| LoadError::at(Stage::Compile)(error.to_string()))?;
        let compile_time = began.elapsed();
        let mut files = self.files.lock();
        if is_current(&files) {
            let strategy = CodeStrategy::Cranelift;
            self.put_into_service(&mut files, path, digest, strategy, &component, compile_time)?;
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
        Self { replicas: Vec::new(), exchanges: 0, bindings: 0 }
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
        digest: version.code.digest,
        version: version.description.version.clone(),
        exchange_types: types.iter().filter_map(|t| Name::new(t.name.as_bytes()).ok()).collect(),
        change,
        strategy: version.code.strategy,
        exchanges: replayed.exchanges,
        bindings: replayed.bindings,
        compile_time,
        replay_time: Duration::ZERO,
    }
}

/// The names that a plugin claims, if it may.
fn type_names(description: &Description) -> Result<Vec<Name>, String> {
    let mut names: Vec<Name> = Vec::new();
    for described in &description.types {
        let name = described.name.as_str();
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
        if name.is_empty() || name.len() > TYPE_NAME_BYTES_MAX || !name.bytes().all(plain) {
            return Err(format!(
                "'{}' is no name for an exchange type: 1 to {TYPE_NAME_BYTES_MAX} bytes of lower-case letters, \
                 digits, '-', '_' and '.'",
                name.escape_debug()
            ));
        }
        if CORE_TYPES.contains(&name) || name.starts_with(RESERVED_PREFIX) {
            return Err(format!("the exchange type '{name}' is reserved for the broker"));
        }
        if names.iter().any(|known| known.as_bytes() == name.as_bytes()) {
            return Err(format!("the exchange type '{name}' is described twice"));
        }
        names.push(Name::new(name.as_bytes()).map_err(|error| error.to_string())?);
    }
    if names.is_empty() {
        return Err(String::from("the plugin describes no exchange type"));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::TypeDescription;

    fn names(names: &[&str]) -> Result<Vec<Name>, String> {
        let described =
            |name: &&str| TypeDescription { name: String::from(*name), summary: String::new(), pure: true };
        let types = names.iter().map(described).collect();
        type_names(&Description { version: String::from("1"), types })
    }

    #[test]
    fn names_are_checked() {
        assert_eq!(names(&["x-a.b_c-1", "y"]).unwrap().len(), 2);
        for bad in ["", "X-a", "a b", "ä", &"x".repeat(128)] {
            assert!(names(&[bad]).unwrap_err().contains("is no name"), "{bad}");
        }
        for reserved in ["direct", "headers", "x-leveret-anything"] {
            assert!(names(&[reserved]).unwrap_err().contains("reserved"), "{reserved}");
        }
        assert!(names(&["x-a", "x-a"]).unwrap_err().contains("twice"));
        assert!(names(&[]).unwrap_err().contains("describes no"));
    }
}
