//! Files that changed, and who looks at them when.
//!
//! Whoever watches a folder only notes what changed ([`Registry::note`]) and goes on. The notes of each scope
//! (all virtual hosts, or one's own files) are a lane: a file is in it once, however often it changed, and
//! what is read is what lies there when its turn comes. A lane works on one file at a time, and lanes work
//! side by side, each on a thread of a lower priority while it has work. So a tenant waits for its own files
//! and never for another's, but for two things that are shared: the compiler, of which there is one, and which
//! goes to the lane that waits longest for it; and the CPU time of replays ([`crate::shares`]).
//!
//! Better code for what serves already, and virtual hosts that stayed on an older version, come after all
//! files of the lane.

use super::{LoadChange, LoadError, LoadReport, Registry, Stage, kept::PluginKey};
use crate::{
    artifact::{self, Digest},
    lane::lower_priority,
    scope::Scope,
};
use hashbrown::HashMap;
use parking_lot::{Condvar, Mutex};
use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

/// How many files of one scope wait at most; more are noted when these are done.
pub const JOBS_MAX: usize = 1_024;

/// What becomes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// It serves.
    Serving,
    /// It is the candidate of the file of its name in the folder around its own.
    Candidate,
}

/// What waits to be looked at.
#[derive(Default)]
pub(super) struct Deploys {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lanes: HashMap<Scope, Lane>,
    stopped: bool,
}

/// Of one scope.
#[derive(Default)]
struct Lane {
    /// Those that were noted first come first; a file is there once.
    files: VecDeque<Job>,
    upgrades: VecDeque<Upgrade>,
    /// Global plugins of which this virtual host has an older version.
    retries: VecDeque<String>,
    /// A thread works for it.
    running: bool,
    /// And looks at a file.
    at_file: bool,
    /// Files that were refused as they are: another one that goes or comes may have been the reason.
    refused: BTreeMap<PathBuf, (FileKind, Stage)>,
}

/// What is known of a file that changed.
#[derive(Clone, Debug)]
struct Job {
    kind: FileKind,
    path: PathBuf,
    /// It was away since it was looked at.
    gone: bool,
    /// It is there.
    there: bool,
}

/// A file that serves from the quick compiler's code.
struct Upgrade {
    path: PathBuf,
    digest: Digest,
    /// Where versions are not kept.
    bytes: Option<Arc<[u8]>>,
}

enum Work {
    File(Job),
    Retry(String),
    Upgrade(Upgrade),
}

impl Lane {
    /// What is next: files that serve, then candidates of these, then what can wait.
    fn take(&mut self) -> Option<Work> {
        let serving = self.files.iter().position(|job| job.kind == FileKind::Serving);
        if let Some(job) = self.files.remove(serving.unwrap_or(0)) {
            return Some(Work::File(job));
        }
        if let Some(plugin) = self.retries.pop_front() {
            return Some(Work::Retry(plugin));
        }
        self.upgrades.pop_front().map(Work::Upgrade)
    }

    fn is_idle(&self) -> bool {
        !self.running && self.files.is_empty() && self.retries.is_empty() && self.upgrades.is_empty()
    }

    /// False if there are too many.
    fn note(&mut self, kind: FileKind, path: &Path, there: bool) -> bool {
        if let Some(job) = self.files.iter_mut().find(|job| job.path == path) {
            (job.gone, job.there) = (job.gone || !there, there);
            return true;
        }
        if self.files.len() >= JOBS_MAX {
            return false;
        }
        self.files.push_back(Job { kind, path: path.to_path_buf(), gone: !there, there });
        true
    }

    /// What came of a file; others that were refused may be taken now.
    fn done(&mut self, job: &Job, served: bool, refused: Option<Stage>) {
        match refused {
            Some(stage) => {
                self.refused.insert(job.path.clone(), (job.kind, stage));
            }
            None => {
                self.refused.remove(&job.path);
            }
        }
        let may_go = |other: &PathBuf, (kind, stage): (FileKind, Stage)| {
            *other != job.path
                && match kind {
                    kind if job.gone && kind == job.kind => true,
                    // It is one of a plugin that serves.
                    FileKind::Candidate => served && stage == Stage::Swap,
                    FileKind::Serving => false,
                }
        };
        let again: Vec<(PathBuf, FileKind)> = self
            .refused
            .iter()
            .filter(|(path, refused)| may_go(path, **refused))
            .map(|(path, (kind, _))| (path.clone(), *kind))
            .collect();
        for (path, kind) in again {
            self.note(kind, &path, true);
        }
    }
}

impl Deploys {
    /// The end of the work of a lane's thread, or what is next for it.
    fn next(&self, scope: &Scope) -> Option<Work> {
        let mut state = self.state.lock();
        let stopped = state.stopped;
        let lane = state.lanes.get_mut(scope)?;
        let work = if stopped { None } else { lane.take() };
        lane.running = work.is_some();
        lane.at_file = matches!(work, Some(Work::File(_)));
        self.changed.notify_all();
        work
    }
}

impl Registry {
    /// Notes that a file of a scope was written, or is not there any more, and returns at once; a thread of
    /// that scope looks at it when those that were noted before are done. What is under way of an older
    /// content is not put into service any more. False if too many of that scope wait: it is to be noted again
    /// later.
    pub fn note(self: &Arc<Self>, scope: &Scope, kind: FileKind, path: &Path, there: bool) -> bool {
        if kind == FileKind::Serving {
            self.turns.overtake(path);
        }
        self.enqueue(scope, |lane| lane.note(kind, path, there))
    }

    /// Has virtual hosts tried again that stayed on an older version of a global plugin, if their exchanges
    /// have changed since.
    pub fn note_retries(self: &Arc<Self>) {
        // Some may have waited for long enough.
        self.expected.wake();
        for (vhost, plugin) in self.to_retry() {
            self.enqueue(&Scope::Vhost(vhost), |lane| {
                if !lane.retries.contains(&plugin) {
                    lane.retries.push_back(plugin);
                }
                true
            });
        }
    }

    /// Compiles what serves from Winch's code with Cranelift later, and swaps the code if the file is still the
    /// same.
    pub(super) fn upgrade_later(self: &Arc<Self>, scope: &Scope, path: &Path, digest: Digest, bytes: &[u8]) {
        let kept = self.kept.as_ref().is_some_and(|kept| kept.has(PluginKey::of_file(scope, path), digest));
        let bytes = (!kept).then(|| Arc::from(bytes));
        self.enqueue(scope, |lane| {
            lane.upgrades.retain(|upgrade| upgrade.path != path);
            lane.upgrades.push_back(Upgrade { path: path.to_path_buf(), digest, bytes });
            true
        });
    }

    fn enqueue(self: &Arc<Self>, scope: &Scope, change: impl FnOnce(&mut Lane) -> bool) -> bool {
        let mut state = self.deploys.state.lock();
        if state.stopped {
            return true;
        }
        let lane = state.lanes.entry(scope.clone()).or_default();
        if !change(lane) {
            return false;
        }
        if !lane.running {
            let (registry, of) = (self.clone(), scope.clone());
            let work = move || {
                lower_priority();
                registry.work(&of);
            };
            match std::thread::Builder::new().name("leveret-deploy".into()).spawn(work) {
                Ok(_) => lane.running = true,
                // What is noted stays, and the next note tries again.
                Err(error) => tracing::error!(
                    target: "leveret::plugin", %scope, "no thread looks at changed files: {error}"
                ),
            }
        }
        true
    }

    fn work(self: &Arc<Self>, scope: &Scope) {
        while let Some(work) = self.deploys.next(scope) {
            match work {
                Work::File(job) => {
                    let (served, refused) = self.look_at(scope, &job);
                    if let Some(lane) = self.deploys.state.lock().lanes.get_mut(scope) {
                        lane.done(&job, served, refused);
                    }
                    self.review_again();
                }
                Work::Retry(plugin) => {
                    if let Scope::Vhost(vhost) = scope {
                        self.retry_in(vhost, &plugin);
                    }
                }
                Work::Upgrade(upgrade) => self.upgrade_file(scope, &upgrade),
            }
        }
    }

    /// Gives whether something new serves, and the stage that refused the file. What became of it is logged.
    fn look_at(self: &Arc<Self>, scope: &Scope, job: &Job) -> (bool, Option<Stage>) {
        let path = &job.path;
        match job.kind {
            FileKind::Serving => {
                if job.gone {
                    self.remove_in(scope, path);
                }
                match job.there.then(|| self.offer_file(scope, path)) {
                    Some(Ok(report)) => (report.change != LoadChange::Unchanged, None),
                    Some(Err(error)) => (false, Some(error.stage)),
                    None => (false, None),
                }
            }
            FileKind::Candidate => {
                if job.gone {
                    self.withdraw_candidate(scope, &super::plugin_of(path));
                }
                let offered = job.there.then(|| self.offer_candidate_file(scope, path));
                (false, offered.and_then(Result::err).map(|error| error.stage))
            }
        }
    }

    /// Reads a file and offers it.
    pub(super) fn offer_file(self: &Arc<Self>, scope: &Scope, path: &Path) -> Result<LoadReport, LoadError> {
        match artifact::read(path) {
            Ok(bytes) => self.offer_in(scope, path, &bytes),
            Err(error) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                Err(self.refuse(scope, path, format!("{name}: {error}")))
            }
        }
    }

    fn offer_candidate_file(&self, scope: &Scope, path: &Path) -> Result<(), LoadError> {
        // The file whose candidate it is.
        let around = path.parent().and_then(Path::parent).unwrap_or(Path::new(""));
        let serving = around.join(path.file_name().unwrap_or_default());
        match artifact::read(path) {
            Ok(bytes) => self.offer_candidate(scope, &serving, &bytes),
            Err(error) => {
                let error = LoadError::at(Stage::Read)(error.to_string());
                self.refuse_candidate(scope, &serving, &error);
                Err(error)
            }
        }
    }

    fn upgrade_file(&self, scope: &Scope, upgrade: &Upgrade) {
        let Upgrade { path, digest, bytes } = upgrade;
        let kept = || {
            let kept = self.kept.as_ref().ok_or_else(|| String::from("no versions are kept"))?;
            kept.read(PluginKey::of_file(scope, path), *digest)
        };
        let bytes = bytes.clone().map_or_else(|| kept().map(Arc::from), Ok);
        let upgraded = match bytes {
            Ok(bytes) => self.upgrade(path, *digest, &bytes).map_err(|error| error.to_string()),
            Err(why) => Err(why),
        };
        if let Err(why) = upgraded {
            tracing::warn!(
                target: "leveret::plugin", path = %path.display(),
                "the plugin goes on with Winch's code: {why}"
            );
        }
    }

    /// Waits until nothing waits to be looked at, better code included.
    pub fn wait_for_upgrades(&self) {
        let mut state = self.deploys.state.lock();
        self.deploys.changed.wait_while(&mut state, |state| !state.lanes.values().all(Lane::is_idle));
    }

    /// Waits until every file that was noted has been looked at. False if that takes until then.
    pub fn wait_until_deployed(&self, until: Instant) -> bool {
        let mut state = self.deploys.state.lock();
        let busy =
            |state: &mut State| state.lanes.values().any(|lane| lane.at_file || !lane.files.is_empty());
        !self.deploys.changed.wait_while_until(&mut state, busy, until).timed_out()
    }

    /// Ends the compilation that is going on and looks at no file any more: the broker stops. What is being
    /// replayed is given that time to end.
    pub fn stop_deploying(&self, until: Instant) {
        let mut state = self.deploys.state.lock();
        state.stopped = true;
        self.compiler.stop();
        let busy = |state: &mut State| state.lanes.values().any(|lane| lane.running);
        if self.deploys.changed.wait_while_until(&mut state, busy, until).timed_out() {
            tracing::warn!(target: "leveret::plugin", "a plugin is still being put into service");
        }
    }

    /// How many files of a scope wait to be looked at.
    #[must_use]
    pub fn files_waiting(&self, scope: &Scope) -> usize {
        self.deploys.state.lock().lanes.get(scope).map_or(0, |lane| lane.files.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(lane: &mut Lane, path: &str, there: bool) -> bool {
        let kind = if path.starts_with("candidates/") { FileKind::Candidate } else { FileKind::Serving };
        lane.note(kind, Path::new(path), there)
    }

    fn all(lane: &mut Lane) -> Vec<(String, bool, bool)> {
        std::iter::from_fn(|| match lane.take()? {
            Work::File(job) => Some((job.path.display().to_string(), job.gone, job.there)),
            Work::Retry(plugin) => Some((plugin, false, false)),
            Work::Upgrade(upgrade) => Some((upgrade.path.display().to_string(), false, false)),
        })
        .collect()
    }

    #[test]
    fn a_file_waits_once_with_what_is_to_be_done_last() {
        let mut lane = Lane::default();
        lane.retries.push_back("older".into());
        for (path, there) in [
            ("candidates/a", true),
            ("a", true),
            ("b", true),
            ("a", false),
            ("a", true),
            ("b", false),
            ("c", true),
        ] {
            assert!(noted(&mut lane, path, there));
        }
        let expected = [
            ("a", true, true),
            ("b", true, false),
            ("c", false, true),
            ("candidates/a", false, true),
            ("older", false, false),
        ];
        assert_eq!(all(&mut lane), expected.map(|(path, gone, there)| (path.to_owned(), gone, there)));
        assert!(lane.is_idle());
    }

    #[test]
    fn only_so_many_wait_and_those_that_do_may_change() {
        let mut lane = Lane::default();
        assert!((0..JOBS_MAX).all(|number| noted(&mut lane, &number.to_string(), true)));
        assert!(!noted(&mut lane, "more", true) && noted(&mut lane, "7", false));
        assert!(lane.take().is_some() && noted(&mut lane, "more", true));
    }

    #[test]
    fn what_was_refused_is_looked_at_again_when_the_reason_may_be_gone() {
        let job = |path: &str, kind, gone| Job { kind, path: path.into(), gone, there: !gone };
        let refused = || {
            let mut lane = Lane::default();
            let stages =
                [("a", Stage::Trial), ("candidates/b", Stage::Swap), ("candidates/c", Stage::Replay)];
            for (path, stage) in stages {
                let kind = if path == "a" { FileKind::Serving } else { FileKind::Candidate };
                lane.done(&job(path, kind, false), false, Some(stage));
            }
            assert!(all(&mut lane).is_empty());
            lane
        };
        let again = |gone: Job, served| {
            let mut lane = refused();
            lane.done(&gone, served, None);
            all(&mut lane).into_iter().map(|(path, ..)| path).collect::<Vec<_>>()
        };
        assert_eq!(again(job("x", FileKind::Serving, true), false), ["a"]);
        assert_eq!(again(job("x", FileKind::Serving, false), true), ["candidates/b"]);
        assert_eq!(again(job("x", FileKind::Candidate, true), false), ["candidates/b", "candidates/c"]);
        assert!(again(job("a", FileKind::Serving, false), false).is_empty());
    }
}
