//! Versions that served before: kept when a file goes into service, and put back into service when
//! somebody goes back to one, or when the file in the folder cannot serve after a start.
//!
//! A kept version passes the same stages as a file: nothing serves because it served once.

use super::{
    LoadChange, LoadError, LoadReport, Registry, Stage, VersionInfo,
    forms::Forms,
    kept::{History, Kept, KeptVersions, PluginKey},
    migrate::Way,
    reload::File,
};
use crate::{artifact::Digest, engine::CodeStrategy, scope::Scope, version::Version};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

/// The kept version that a plugin is to go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GoTo {
    /// The one before the one that serves: each time one further back.
    Before,
    /// The newest: what the ways back were taken from.
    Newest,
    /// The one that is called so, or whose digest begins with these hexadecimal digits.
    Named(String),
}

impl Registry {
    /// The kept versions of a plugin of that scope, by its name (its file's without `.wasm`), the
    /// newest first. Empty where nothing is kept.
    #[must_use]
    pub fn versions(&self, scope: &Scope, plugin: &str) -> Vec<VersionInfo> {
        let serving = self.serving(scope, plugin).map(|(_, version)| version.code.digest);
        let history = self.history(PluginKey { scope, name: OsStr::new(plugin) });
        let info = |kept: Kept| VersionInfo {
            digest: kept.digest,
            serving: serving == Some(kept.digest),
            version: kept.version,
            since: kept.since,
        };
        history.versions.into_iter().rev().map(info).collect()
    }

    /// Puts the version before the one that serves into service: [`Self::go_to`] with [`GoTo::Before`].
    ///
    /// # Errors
    /// As for [`Self::go_to`].
    pub fn rollback(self: &Arc<Self>, scope: &Scope, plugin: &str) -> Result<LoadReport, LoadError> {
        self.go_to(scope, plugin, &GoTo::Before)
    }

    /// Puts a kept version of a plugin of that scope into service, through all stages and under the policies
    /// of now, whatever file lies in the folder. That file is not taken any more, also after a restart, until
    /// it is another one, was removed, or somebody goes to it. State that a newer version migrated is again what
    /// was left in the form of the older one ([`LoadReport::state`]).
    ///
    /// # Errors
    /// The stage that refused it and why; [`Stage::Read`] if there is no such version to go to.
    /// Nothing has changed then.
    pub fn go_to(self: &Arc<Self>, scope: &Scope, plugin: &str, to: &GoTo) -> Result<LoadReport, LoadError> {
        let went = self.go(scope, plugin, to);
        match &went {
            Ok((report, way)) => tracing::warn!(
                target: "leveret::plugin",
                path = %report.path.display(), %scope, digest = %report.digest, version = report.version,
                exchanges = report.exchanges, bindings = report.bindings,
                states_migrated = report.state.migrated, states_restored = report.state.restored,
                states_emptied = report.state.emptied,
                entries_discarded = report.state.discarded_entries,
                "the plugin went {} version", if *way == Way::Back { "back to an older" } else { "forward to a newer" }
            ),
            Err(error) => tracing::warn!(
                target: "leveret::plugin", plugin, %scope, stage = %error.stage,
                "the plugin stays on its version: {}", error.reason
            ),
        }
        went.map(|(report, _)| report)
    }

    fn go(self: &Arc<Self>, scope: &Scope, plugin: &str, to: &GoTo) -> Result<(LoadReport, Way), LoadError> {
        let nothing = |why: &str| LoadError::at(Stage::Read)(why.to_owned());
        // A version that just came into service is known once its change is over.
        drop(self.changing.begin(scope, plugin));
        let (path, serving) = self.serving(scope, plugin).ok_or_else(|| {
            nothing(
                "nothing of the plugin serves that could be gone from: first put a file of it into the plugins folder",
            )
        })?;
        let kept = self.kept.as_ref().ok_or_else(|| nothing("no versions are kept by this broker"))?;
        let key = PluginKey::of_file(scope, &path);
        let from = serving.code.digest;
        let history = kept.history(key);
        let to = match to {
            GoTo::Before => history.before(from).map(|kept| kept.digest).ok_or_else(|| {
                nothing("no version from before the one that serves is kept: it is the first, or the oldest")
            })?,
            GoTo::Newest => {
                let newest = history.versions.last().ok_or_else(|| nothing("no version of it is kept"))?;
                newest.digest
            }
            GoTo::Named(name) => self.find_version(&serving, name).map_err(LoadError::at(Stage::Read))?,
        };
        if to == from {
            return Err(nothing("that version serves already"));
        }
        let way = if history.is_newer(to, from) { Way::Forward } else { Way::Back };
        let component = kept.read(key, to).map_err(LoadError::at(Stage::Read))?;
        let began = Instant::now();
        let (strategy, code) = self.compile(to, &component)?;
        let compile_time = began.elapsed();
        let change = self.changing.begin_file(scope, &path);
        // Its code may have been replaced by Cranelift's meanwhile: that is the same version.
        if self.files.lock().get(&path).is_none_or(|now| now.code.digest != from) {
            return Err(LoadError::at(Stage::Swap)(String::from(
                "another version went into service meanwhile",
            )));
        }
        let file = File { scope, path: &path, digest: to };
        let report = self.put(&change, &file, (strategy, &code, compile_time), way)?;
        kept.went(key, from, to);
        // Seen like any file that does not serve as it is.
        match kept.rolled_back(key) {
            Some(_) => self.refusals.note(scope, &path, &LoadError::at(Stage::Swap)(left_out())),
            None => {
                self.refusals.forget(&path);
            }
        }
        drop(change);
        if strategy == CodeStrategy::Winch {
            self.upgrade_later(scope, &path, to, &component);
        }
        Ok((report, way))
    }

    /// The digest of the version, kept or serving, that is called so or whose digest begins so.
    pub(super) fn find_version(&self, serving: &Version, name: &str) -> Result<Digest, String> {
        let mut known: Vec<(Digest, String)> = self
            .versions(&serving.scope, &serving.code.plugin)
            .into_iter()
            .map(|kept| (kept.digest, kept.version))
            .collect();
        if !known.iter().any(|(digest, _)| *digest == serving.code.digest) {
            known.push((serving.code.digest, serving.description.version.clone()));
        }
        let digits = name.to_ascii_lowercase();
        let mut meant: Vec<&(Digest, String)> = known.iter().filter(|(_, version)| version == name).collect();
        if meant.is_empty() && !digits.is_empty() {
            meant = known.iter().filter(|(digest, _)| digest.to_hex().starts_with(&digits)).collect();
        }
        if let [(digest, _)] = meant.as_slice() {
            return Ok(*digest);
        }
        let (plugin, name) = (&serving.code.plugin, name.escape_debug());
        let (what, which) = match meant.is_empty() {
            true => ("no kept version", known.iter().collect()),
            false => ("more than one kept version", meant),
        };
        let which: Vec<String> =
            which.iter().map(|(digest, version)| format!("{digest} ({version})")).collect();
        Err(format!(
            "{what} of the plugin {plugin} is called '{name}' or has a digest that begins so; there are {}",
            which.join(", ")
        ))
    }

    /// Puts the version that served last into service if nothing of this file of that scope serves: the
    /// file itself cannot. Not if the plugin was removed since. `None` if nothing is put into service;
    /// what becomes of it is logged.
    pub fn fall_back(self: &Arc<Self>, scope: &Scope, path: &Path) -> Option<LoadReport> {
        let kept = self.kept.as_ref()?;
        let key = PluginKey::of_file(scope, path);
        if self.files.lock().contains_key(path) {
            return None;
        }
        let refused = kept.rolled_back(key);
        let History { removed: false, mut versions } = kept.history(key) else { return None };
        versions.retain(|version| Some(version.digest) != refused);
        versions.sort_by_key(|version| std::cmp::Reverse(version.since));
        for version in versions {
            match self.serve_kept(kept, &File { scope, path, digest: version.digest }) {
                Ok(report) => return report,
                Err(error) => tracing::warn!(
                    target: "leveret::plugin",
                    path = %path.display(), %scope, digest = %version.digest, stage = %error.stage,
                    "a version that served before does not serve any more: {}", error.reason
                ),
            }
        }
        None
    }

    /// `Ok(None)` if something else serves meanwhile, or the file was removed.
    fn serve_kept(
        self: &Arc<Self>,
        kept: &KeptVersions,
        file: &File<'_>,
    ) -> Result<Option<LoadReport>, LoadError> {
        let File { scope, path, digest } = *file;
        let turn = self.turns.begin(path);
        let key = PluginKey::of_file(scope, path);
        let component = kept.read(key, digest).map_err(LoadError::at(Stage::Read))?;
        let began = Instant::now();
        let (strategy, code) = self.compile(digest, &component)?;
        let compile_time = began.elapsed();
        let change = self.changing.begin_file(scope, path);
        if !turn.is_in_time() || self.files.lock().contains_key(path) {
            return Ok(None);
        }
        let report = self.put_into_service(&change, file, strategy, &code, compile_time)?;
        turn.settle();
        drop(change);
        tracing::warn!(
            target: "leveret::plugin",
            path = %path.display(), %scope, digest = %report.digest, version = report.version,
            "the last version that served is in service instead of the file"
        );
        if strategy == CodeStrategy::Winch {
            self.upgrade_later(scope, path, digest, &component);
        }
        Ok(Some(report))
    }

    /// Whether a file of a plugin of that scope is not taken because somebody went back from it.
    #[must_use]
    pub fn left_out(&self, scope: &Scope, plugin: &str) -> bool {
        let key = PluginKey { scope, name: OsStr::new(plugin) };
        self.kept.as_ref().is_some_and(|kept| kept.rolled_back(key).is_some())
    }

    /// That this is not the file that somebody went back from.
    pub(super) fn check_rolled_back(&self, scope: &Scope, path: &Path, digest: Digest) -> Result<(), String> {
        let key = PluginKey::of_file(scope, path);
        let refused = self.kept.as_ref().and_then(|kept| kept.rolled_back(key));
        if refused == Some(digest) {
            return Err(left_out());
        }
        Ok(())
    }

    /// Keeps what serves now by an offered file.
    pub(super) fn keep(&self, report: &LoadReport, component: &[u8]) {
        let key = PluginKey::of_file(&report.scope, &report.path);
        if let Some(kept) = &self.kept
            && (report.change != LoadChange::Unchanged || kept.rolled_back(key).is_some())
        {
            let migrates = report.exports.contains(&"exchange-type-migrate");
            kept.offered(key, (report.digest, &report.version, migrates), component);
            kept.provides(key, &report.exchange_types);
            self.forget_left_by_forgotten(&report.path.file_stem().unwrap_or_default().to_string_lossy());
        }
    }

    /// The file was removed: nothing serves until there is one again.
    pub(super) fn forget(&self, scope: &Scope, path: &Path) {
        if let Some(kept) = &self.kept {
            kept.removed(PluginKey::of_file(scope, path));
        }
    }

    /// Which versions of a plugin share their state, with one that may not have served yet.
    pub(super) fn forms_with(&self, version: &Version) -> Forms {
        let key = PluginKey { scope: &version.scope, name: OsStr::new(&version.code.plugin) };
        let Some(kept) = &self.kept else { return Forms::default() };
        let mut forms = kept.forms(key);
        let last = kept.history(key).last().map(|last| last.digest);
        forms.learn(version.code.digest, version.code.exported.migrate, last);
        forms
    }

    fn history(&self, plugin: PluginKey<'_>) -> History {
        self.kept.as_ref().map(|kept| kept.history(plugin)).unwrap_or_default()
    }

    /// The file of a plugin of that scope that serves.
    pub(super) fn serving(&self, scope: &Scope, plugin: &str) -> Option<(PathBuf, Arc<Version>)> {
        let files = self.files.lock();
        let found =
            files.iter().find(|(_, version)| version.scope == *scope && version.code.plugin == plugin);
        found.map(|(path, version)| (path.clone(), version.clone()))
    }
}

/// Why a file is not taken that somebody went back from.
fn left_out() -> String {
    String::from(
        "somebody went back from this version; go forward to it, change the file or remove it, and it is looked at \
         again",
    )
}
