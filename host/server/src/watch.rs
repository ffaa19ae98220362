//! The plugins folders, the broker's and each virtual host's: finds out when a file is whole, or gone, and
//! notes it with the plugin host, which looks at the files of each scope on a thread of their own.
//!
//! The folder itself is the truth; the system's notifications only say when to look. So a missed
//! or merged notification costs at most `RESCAN_AFTER`, and file systems without notifications
//! work too. A file counts as whole when whoever wrote it closed it or renamed it into place, or
//! when it did not change for `SETTLED_AFTER`. A folder in which others than the broker's user may
//! write is not looked into: what serves from there serves on, and the log says why once.
//!
//! When all files that are there were offered, the registry logs what the configuration says and nobody can do
//! ([`Registry::review`](leveret_plugin::Registry::review)), which from then on is done after each change.
//!
//! In each of them is a folder [`CANDIDATES`]: a file there is not put into service, it is the candidate
//! of the plugin of its name.

use leveret_plugin::{
    Host, Scope, folder,
    registry::{CANDIDATES, FileKind},
};
use notify::{
    EventKind, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};
use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

/// How long a file must stay unchanged to count as whole, if its writer did not close it.
const SETTLED_AFTER: Duration = Duration::from_millis(300);
/// How often the folder is looked at without a notification.
const RESCAN_AFTER: Duration = Duration::from_secs(1);
/// Files up to this size are loaded before the broker accepts connections; larger ones beside, unless exchanges wait
/// for them and their code is there.
const LOAD_FIRST_BYTES_MAX: u64 = 512 * 1024;
/// For so long at most: whoever has files that take longer keeps nobody else from being served.
const LOAD_FIRST_MAX: Duration = Duration::from_secs(30);
/// How long what is under way may take to end when the broker stops.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Watches until it is dropped.
pub struct PluginWatcher {
    _notifier: Option<notify::RecommendedWatcher>,
    stop: Sender<Notice>,
    host: Arc<Host>,
    thread: Option<JoinHandle<()>>,
}

/// Adds folders to those that are watched, and takes them away, from anywhere.
pub struct Folders(Sender<Notice>);

impl Folders {
    /// From now on plugins are taken from a folder, which is there. It is looked at every second.
    pub fn add(&self, scope: &Scope, folder: &Path) {
        // The watcher is gone only while the broker stops.
        let _ = self.0.send(Notice::Add(scope.clone(), folder.to_path_buf()));
    }

    /// What was taken from the folders of a scope serves no more.
    pub fn remove(&self, scope: &Scope) {
        let _ = self.0.send(Notice::Remove(scope.clone()));
    }
}

enum Notice {
    /// This folder is watched too.
    Add(Scope, PathBuf),
    /// Those of this scope are no more.
    Remove(Scope),
    /// Something may have changed.
    Look,
    /// This file was closed or renamed by its writer.
    Whole(PathBuf),
    Stop,
}

impl PluginWatcher {
    /// Loads the small plugins that are there, then watches all folders on one thread.
    ///
    /// # Errors
    /// If a folder is not there or there is no thread.
    pub fn start(folders: &[(Scope, PathBuf)], host: &Arc<Host>) -> io::Result<Self> {
        let (stop, notices) = channel();
        let mut watched = Vec::new();
        for (scope, given) in folders {
            watched.push(Folder::new(scope, given, FileKind::Serving, host)?);
        }
        // Candidates come after what serves, for they are candidates of that.
        watched.extend(folders.iter().filter_map(|(scope, given)| Folder::of_candidates(scope, given, host)));
        let notifier = notifier(&watched, stop.clone());
        for folder in &mut watched {
            folder.look(&HashSet::new());
            folder.begin();
        }
        if !host.registry().wait_until_deployed(Instant::now() + LOAD_FIRST_MAX) {
            tracing::warn!(
                "plugins are still being put into service after {} s; the broker serves without them meanwhile",
                LOAD_FIRST_MAX.as_secs()
            );
        }
        let mut folders = Watched(watched, host.clone());
        folders.review();
        let thread =
            std::thread::Builder::new().name("plugins".to_owned()).spawn(move || folders.watch(&notices))?;
        Ok(Self { _notifier: notifier, stop, host: host.clone(), thread: Some(thread) })
    }

    /// For whoever has more folders watched.
    #[must_use]
    pub fn folders(&self) -> Folders {
        Folders(self.stop.clone())
    }
}

impl Drop for PluginWatcher {
    fn drop(&mut self) {
        // If the thread is gone already there is nobody to tell.
        let _ = self.stop.send(Notice::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.host.registry().stop_deploying(Instant::now() + STOP_MAX);
    }
}

fn notifier(folders: &[Folder], notices: Sender<Notice>) -> Option<notify::RecommendedWatcher> {
    let handler = move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return };
        let whole = matches!(
            event.kind,
            EventKind::Access(AccessKind::Close(AccessMode::Write))
                | EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both))
        );
        // The receiver is gone only while the broker stops.
        if whole {
            for path in event.paths {
                let _ = notices.send(Notice::Whole(path));
            }
        } else if !matches!(event.kind, EventKind::Access(_)) {
            let _ = notices.send(Notice::Look);
        }
    };
    let silent = |folder: &str, error: &notify::Error| {
        tracing::warn!(
            %error,
            "no notifications for {folder}; it is looked at every {} ms instead",
            RESCAN_AFTER.as_millis()
        );
    };
    let mut watcher =
        notify::recommended_watcher(handler).inspect_err(|error| silent("plugins folders", error)).ok()?;
    for Folder { folder, .. } in folders {
        if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
            silent(&folder.display().to_string(), &error);
        }
    }
    Some(watcher)
}

/// What tells one content of a file from the next without reading it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
    inode: u64,
    /// When the content or its attributes changed, in seconds and nanoseconds: no copy sets it back.
    changed: (i64, i64),
}

struct Seen {
    stamp: Stamp,
    since: Instant,
    /// Its writer closed it or moved it here.
    whole: bool,
    /// It was noted with the host with this stamp.
    noted: bool,
}

struct Folder {
    /// What becomes of its files.
    kind: FileKind,
    /// For whom its plugins are.
    scope: Scope,
    /// As it was configured.
    given: PathBuf,
    /// As notifications name it.
    folder: PathBuf,
    host: Arc<Host>,
    files: BTreeMap<PathBuf, Seen>,
    /// Files that were refused for what they are, so that the log says it once.
    complained: HashSet<PathBuf>,
    /// Why the folder was not looked into the last time.
    complaint: Option<String>,
    /// The host takes no more notes of this scope for now.
    full: bool,
}

/// Watched by one thread.
struct Watched(Vec<Folder>, Arc<Host>);

impl Watched {
    fn watch(&mut self, notices: &Receiver<Notice>) {
        loop {
            let mut whole = HashSet::new();
            let mut notice = match notices.recv_timeout(self.wait()) {
                Ok(notice) => Some(notice),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            while let Some(next) = notice {
                match next {
                    Notice::Look => {}
                    Notice::Whole(path) => {
                        whole.insert(path);
                    }
                    Notice::Add(scope, folder) => self.add(&scope, &folder),
                    Notice::Remove(scope) => self.remove(&scope),
                    Notice::Stop => return,
                }
                notice = notices.try_recv().ok();
            }
            for folder in &mut self.0 {
                folder.full = false;
                folder.look(&whole);
                folder.note_settled();
            }
            self.1.registry().note_retries();
            self.review();
        }
    }

    fn add(&mut self, scope: &Scope, folder: &Path) {
        match Folder::new(scope, folder, FileKind::Serving, &self.1) {
            Ok(added) => self.0.push(added),
            Err(error) => tracing::warn!(%scope, "no plugins are taken: {}: {error}", folder.display()),
        }
        self.0.extend(Folder::of_candidates(scope, folder, &self.1));
    }

    /// As if all files of the scope were gone. Where too much waits already some serve until the broker ends.
    fn remove(&mut self, scope: &Scope) {
        for folder in self.0.iter_mut().filter(|folder| folder.scope == *scope) {
            let files: Vec<PathBuf> = folder.files.keys().cloned().collect();
            files.iter().for_each(|file| {
                folder.note(file, false);
            });
        }
        self.0.retain(|folder| folder.scope != *scope);
    }

    /// Has the registry say what is amiss, unless files that are there are still to be put into service.
    fn review(&self) {
        let mut files = self.0.iter().flat_map(|folder| folder.files.values());
        let registry = self.1.registry();
        if files.all(|seen| seen.noted) && registry.wait_until_deployed(Instant::now()) {
            registry.review();
        }
    }

    /// How long nothing needs to be done if no notice comes.
    fn wait(&self) -> Duration {
        let folders = self.0.iter().filter(|folder| !folder.full);
        let unsettled = folders.flat_map(|folder| folder.files.values()).filter(|seen| !seen.noted);
        unsettled.map(|seen| SETTLED_AFTER.saturating_sub(seen.since.elapsed())).min().unwrap_or(RESCAN_AFTER)
    }
}

impl Folder {
    fn new(scope: &Scope, given: &Path, kind: FileKind, host: &Arc<Host>) -> io::Result<Self> {
        Ok(Self {
            kind,
            scope: scope.clone(),
            given: given.to_path_buf(),
            folder: given.canonicalize()?,
            host: host.clone(),
            files: BTreeMap::new(),
            complained: HashSet::new(),
            complaint: None,
            full: false,
        })
    }

    /// The folder of candidates in another, which is made if it is not there.
    fn of_candidates(scope: &Scope, given: &Path, host: &Arc<Host>) -> Option<Self> {
        let given = given.join(CANDIDATES);
        let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&given);
        let folder = made.and_then(|()| Self::new(scope, &given, FileKind::Candidate, host));
        folder
            .inspect_err(
                |error| tracing::warn!(%scope, "no candidates are taken: {}: {error}", given.display()),
            )
            .ok()
    }

    /// Compares the folder with what is known of it.
    fn look(&mut self, whole: &HashSet<PathBuf>) {
        let found = match self.trusted_scan() {
            Ok(found) => found,
            Err(complaint) => {
                if self.complaint.as_ref() != Some(&complaint) {
                    self.host.registry().note_refused(&self.scope, &self.folder, &complaint);
                    tracing::warn!(scope = %self.scope, "no plugins are taken: {complaint}. What serves serves on");
                    self.complaint = Some(complaint);
                }
                return;
            }
        };
        if self.complaint.take().is_some() {
            self.host.registry().forget_refused(&self.folder);
            tracing::info!(scope = %self.scope, "plugins are taken from {} again", self.given.display());
        }
        let gone: Vec<PathBuf> =
            self.files.keys().filter(|path| !found.contains_key(*path)).cloned().collect();
        for path in gone {
            // Also if it was not noted as it was last: what it was before may serve.
            if self.note(&path, false) {
                self.files.remove(&path);
            }
        }
        for (path, stamp) in found {
            let closed = whole.contains(&path);
            match self.files.get_mut(&path) {
                Some(seen) if seen.stamp == stamp => seen.whole |= closed,
                _ => {
                    if self.kind == FileKind::Serving {
                        self.host.registry().is_coming(&self.scope, &path);
                    }
                    self.files.insert(path, Seen::new(stamp, closed));
                }
            }
        }
    }

    /// What is in the folder, if it is safe to take it.
    fn trusted_scan(&mut self) -> Result<BTreeMap<PathBuf, Stamp>, String> {
        folder::check(&self.given).map_err(|error| error.to_string())?;
        self.scan().map_err(|error| format!("cannot read {}: {error}", self.given.display()))
    }

    fn scan(&mut self) -> io::Result<BTreeMap<PathBuf, Stamp>> {
        let mut found = BTreeMap::new();
        let mut gone = std::mem::take(&mut self.complained);
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if gone.remove(&path) {
                self.complained.insert(path.clone());
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with('.') || path.extension().is_none_or(|extension| extension != "wasm") {
                continue;
            }
            if name.chars().any(char::is_control) {
                if self.complained.insert(path.clone()) {
                    let why = format!("{} is no name for a plugin's file", name.escape_debug());
                    self.host.registry().note_refused(&self.scope, &path, &why);
                    tracing::warn!("{why}");
                }
                continue;
            }
            // It may be gone again by now.
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                continue;
            };
            if !metadata.is_file() {
                if self.complained.insert(path.clone()) {
                    let why = "is not a regular file; links are not followed";
                    self.host.registry().note_refused(&self.scope, &path, why);
                    tracing::warn!("{} {why}", path.display());
                }
                continue;
            }
            self.complained.remove(&path);
            let (inode, changed) = (metadata.ino(), (metadata.ctime(), metadata.ctime_nsec()));
            found.insert(
                path,
                Stamp { bytes: metadata.len(), modified: metadata.modified().ok(), inode, changed },
            );
        }
        gone.iter().for_each(|path| self.host.registry().forget_refused(path));
        Ok(found)
    }

    /// What lies there at the start is whole: nobody is writing it for this broker. Small files serve before
    /// the broker does, and those that exchanges may wait for and that need not be compiled.
    fn begin(&mut self) {
        self.files.values_mut().for_each(|seen| seen.whole = true);
        if self.kind == FileKind::Serving {
            let host = self.host.clone();
            self.note_those(|path, seen| {
                seen.stamp.bytes <= LOAD_FIRST_BYTES_MAX || host.registry().is_wanted_first(path)
            });
        }
    }

    /// Notes what is whole by now.
    fn note_settled(&mut self) {
        self.note_those(|_, seen| seen.whole || seen.since.elapsed() >= SETTLED_AFTER);
    }

    fn note_those(&mut self, which: impl Fn(&Path, &Seen) -> bool) {
        let those = self.files.iter().filter(|(path, seen)| !seen.noted && which(path, seen));
        let those: Vec<PathBuf> = those.map(|(path, _)| path.clone()).collect();
        for path in those {
            let noted = self.note(&path, true);
            if let Some(seen) = self.files.get_mut(&path) {
                seen.noted = noted;
            }
        }
    }

    /// False if too much waits already.
    fn note(&mut self, path: &Path, there: bool) -> bool {
        let noted = self.host.registry().note(&self.scope, self.kind, path, there);
        self.full |= !noted;
        noted
    }
}

impl Seen {
    fn new(stamp: Stamp, whole: bool) -> Self {
        Self { stamp, since: Instant::now(), whole, noted: false }
    }
}
