//! Versions that served before: kept when a file goes into service, and put back into service when
//! somebody goes back to one, or when the file in the folder cannot serve after a start.
//!
//! A kept version passes the same stages as a file: nothing serves because it served once.

use super::{
    LoadChange, LoadError, LoadReport, Registry, Stage, VersionInfo,
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

    /// Puts the version before the one that serves of a plugin of that scope into service, through all
    /// stages and under the policies of now, whatever file lies in the folder. That file is not taken
    /// any more, also after a restart, until it is another one or was removed. Each call goes one
    /// version further back. State that the newer version migrated is what the older one left again
    /// ([`LoadReport::state`]).
    ///
    /// # Errors
    /// The stage that refused it and why; [`Stage::Read`] if there is nothing to go back to.
    /// Nothing has changed then.
    pub fn rollback(self: &Arc<Self>, scope: &Scope, plugin: &str) -> Result<LoadReport, LoadError> {
        let went_back = self.roll_back(scope, plugin);
        match &went_back {
            Ok(report) => tracing::warn!(
                target: "leveret::plugin",
                path = %report.path.display(), %scope, digest = %report.digest, version = report.version,
                exchanges = report.exchanges, bindings = report.bindings,
                states_restored = report.state.restored, entries_discarded = report.state.discarded_entries,
                "the plugin went back to an older version"
            ),
            Err(error) => tracing::warn!(
                target: "leveret::plugin", plugin, %scope, stage = %error.stage,
                "the plugin did not go back: {}", error.reason
            ),
        }
        went_back
    }

    fn roll_back(self: &Arc<Self>, scope: &Scope, plugin: &str) -> Result<LoadReport, LoadError> {
        let nothing = |why: &str| LoadError::at(Stage::Read)(why.to_owned());
        let (path, serving) = self.serving(scope, plugin).ok_or_else(|| {
            nothing("nothing serves that could be gone back from; offer a file of the plugin, and it is kept")
        })?;
        let kept = self.kept.as_ref().ok_or_else(|| nothing("no versions are kept by this broker"))?;
        let key = PluginKey::of_file(scope, &path);
        let from = serving.code.digest;
        let history = kept.history(key);
        let to = history
            .before(from)
            .ok_or_else(|| {
                nothing("no version from before the one that serves is kept: it is the first, or the oldest")
            })?
            .digest;
        let component = kept.read(key, to).map_err(LoadError::at(Stage::Read))?;
        let began = Instant::now();
        let (strategy, code) = self.compile(to, &component)?;
        let compile_time = began.elapsed();
        let mut files = self.files.lock();
        // Its code may have been replaced by Cranelift's meanwhile: that is the same version.
        if files.get(&path).is_none_or(|now| now.code.digest != from) {
            return Err(LoadError::at(Stage::Swap)(String::from(
                "another version went into service meanwhile",
            )));
        }
        let file = File { scope, path: &path, digest: to };
        let report = self.put(&mut files, &file, (strategy, &code, compile_time), Way::Back)?;
        kept.went_back(key, from, to);
        drop(files);
        if strategy == CodeStrategy::Winch {
            self.upgrade_later(&path, to, &component);
        }
        Ok(report)
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
        let mut files = self.files.lock();
        if !turn.is_in_time() || files.contains_key(path) {
            return Ok(None);
        }
        let report = self.put_into_service(&mut files, file, strategy, &code, compile_time)?;
        turn.settle();
        drop(files);
        tracing::warn!(
            target: "leveret::plugin",
            path = %path.display(), %scope, digest = %report.digest, version = report.version,
            "the last version that served is in service instead of the file"
        );
        if strategy == CodeStrategy::Winch {
            self.upgrade_later(path, digest, &component);
        }
        Ok(Some(report))
    }

    /// That this is not the file that somebody went back from.
    pub(super) fn check_rolled_back(&self, scope: &Scope, path: &Path, digest: Digest) -> Result<(), String> {
        let key = PluginKey::of_file(scope, path);
        let refused = self.kept.as_ref().and_then(|kept| kept.rolled_back(key));
        if refused == Some(digest) {
            return Err(String::from(
                "somebody went back from this version; change the file or remove it, and it is looked at again",
            ));
        }
        Ok(())
    }

    /// Keeps what serves now by an offered file.
    pub(super) fn keep(&self, report: &LoadReport, component: &[u8]) {
        let key = PluginKey::of_file(&report.scope, &report.path);
        if let Some(kept) = &self.kept
            && (report.change != LoadChange::Unchanged || kept.rolled_back(key).is_some())
        {
            kept.offered(key, report.digest, &report.version, component);
        }
    }

    /// The file was removed: nothing serves until there is one again.
    pub(super) fn forget(&self, scope: &Scope, path: &Path) {
        if let Some(kept) = &self.kept {
            kept.removed(PluginKey::of_file(scope, path));
        }
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
