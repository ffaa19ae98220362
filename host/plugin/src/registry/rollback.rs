//! Versions that served before: kept when a file goes into service, and put back into service when
//! somebody goes back to one, or when the file in the folder cannot serve after a start.
//!
//! A kept version passes the same stages as a file: nothing serves because it served once.

use super::{
    LoadChange, LoadError, LoadReport, Registry, Stage, VersionInfo,
    kept::{History, Kept, KeptVersions},
};
use crate::{artifact::Digest, engine::CodeStrategy, version::Version};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

impl Registry {
    /// The kept versions of a plugin, by the name of its file, the newest first. Empty where
    /// nothing is kept.
    #[must_use]
    pub fn versions(&self, plugin: &str) -> Vec<VersionInfo> {
        let serving = self.serving(plugin).map(|(_, version)| version.code.digest);
        let history = self.history(OsStr::new(plugin));
        let info = |kept: Kept| VersionInfo {
            digest: kept.digest,
            serving: serving == Some(kept.digest),
            version: kept.version,
            since: kept.since,
        };
        history.versions.into_iter().rev().map(info).collect()
    }

    /// Puts the version before the one that serves into service, through all stages, whatever
    /// file lies in the folder. That file is not taken any more, also after a restart, until it
    /// is another one or was removed. Each call goes one version further back.
    ///
    /// # Errors
    /// The stage that refused it and why; [`Stage::Read`] if there is nothing to go back to.
    /// Nothing has changed then.
    pub fn rollback(self: &Arc<Self>, plugin: &str) -> Result<LoadReport, LoadError> {
        let went_back = self.roll_back(plugin);
        match &went_back {
            Ok(report) => tracing::warn!(
                target: "leveret::plugin",
                path = %report.path.display(), digest = %report.digest, version = report.version,
                exchanges = report.exchanges, bindings = report.bindings,
                "the plugin went back to an older version"
            ),
            Err(error) => tracing::warn!(
                target: "leveret::plugin", plugin, stage = %error.stage,
                "the plugin did not go back: {}", error.reason
            ),
        }
        went_back
    }

    fn roll_back(self: &Arc<Self>, plugin: &str) -> Result<LoadReport, LoadError> {
        let nothing = |why: &str| LoadError::at(Stage::Read)(why.to_owned());
        let (path, serving) = self.serving(plugin).ok_or_else(|| nothing("no such plugin serves"))?;
        let kept = self.kept.as_ref().ok_or_else(|| nothing("no versions are kept"))?;
        let name = file_name(&path);
        let from = serving.code.digest;
        let history = kept.history(name);
        let to = history.before(from).ok_or_else(|| nothing("no version from before it is kept"))?.digest;
        let component = kept.read(name, to).map_err(LoadError::at(Stage::Read))?;
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
        let report = self.put_into_service(&mut files, &path, to, strategy, &code, compile_time)?;
        kept.went_back(name, from, to);
        drop(files);
        if strategy == CodeStrategy::Winch {
            self.upgrade_later(&path, to, &component);
        }
        Ok(report)
    }

    /// Puts the version that served last into service if nothing of this file serves: the file
    /// itself cannot. Not if the plugin was removed since. `None` if nothing is put into service;
    /// what becomes of it is logged.
    pub fn fall_back(self: &Arc<Self>, path: &Path) -> Option<LoadReport> {
        let kept = self.kept.as_ref()?;
        let name = file_name(path);
        if self.files.lock().contains_key(path) {
            return None;
        }
        let refused = kept.rolled_back(name);
        let History { removed: false, mut versions } = kept.history(name) else { return None };
        versions.retain(|version| Some(version.digest) != refused);
        versions.sort_by_key(|version| std::cmp::Reverse(version.since));
        for version in versions {
            match self.serve_kept(kept, path, &version) {
                Ok(report) => return report,
                Err(error) => tracing::warn!(
                    target: "leveret::plugin",
                    path = %path.display(), digest = %version.digest, stage = %error.stage,
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
        path: &Path,
        version: &Kept,
    ) -> Result<Option<LoadReport>, LoadError> {
        let turn = self.turns.begin(path);
        let component = kept.read(file_name(path), version.digest).map_err(LoadError::at(Stage::Read))?;
        let began = Instant::now();
        let (strategy, code) = self.compile(version.digest, &component)?;
        let compile_time = began.elapsed();
        let mut files = self.files.lock();
        if !turn.is_in_time() || files.contains_key(path) {
            return Ok(None);
        }
        let report =
            self.put_into_service(&mut files, path, version.digest, strategy, &code, compile_time)?;
        turn.settle();
        drop(files);
        tracing::warn!(
            target: "leveret::plugin",
            path = %path.display(), digest = %report.digest, version = report.version,
            "the last version that served is in service instead of the file"
        );
        if strategy == CodeStrategy::Winch {
            self.upgrade_later(path, version.digest, &component);
        }
        Ok(Some(report))
    }

    /// That this is not the file that somebody went back from.
    pub(super) fn check_rolled_back(&self, path: &Path, digest: Digest) -> Result<(), String> {
        let refused = self.kept.as_ref().and_then(|kept| kept.rolled_back(file_name(path)));
        if refused == Some(digest) {
            return Err(String::from(
                "somebody went back from this version; change the file or remove it, and it is looked at again",
            ));
        }
        Ok(())
    }

    /// Keeps what serves now by an offered file.
    pub(super) fn keep(&self, report: &LoadReport, component: &[u8]) {
        if let Some(kept) = &self.kept
            && (report.change != LoadChange::Unchanged || kept.rolled_back(file_name(&report.path)).is_some())
        {
            kept.offered(file_name(&report.path), report.digest, &report.version, component);
        }
    }

    /// The file was removed: nothing serves until there is one again.
    pub(super) fn forget(&self, path: &Path) {
        if let Some(kept) = &self.kept {
            kept.removed(file_name(path));
        }
    }

    fn history(&self, plugin: &OsStr) -> History {
        self.kept.as_ref().map(|kept| kept.history(plugin)).unwrap_or_default()
    }

    /// The file of a plugin that serves.
    fn serving(&self, plugin: &str) -> Option<(PathBuf, Arc<Version>)> {
        let files = self.files.lock();
        let found = files.iter().find(|(path, _)| file_name(path) == plugin);
        found.map(|(path, version)| (path.clone(), version.clone()))
    }
}

/// What a plugin is called among the kept versions.
fn file_name(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}
