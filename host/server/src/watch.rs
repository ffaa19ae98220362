//! The plugins folders, the broker's and each virtual host's: finds out when a file is whole, and
//! offers it to the plugin host, for those whose folder it is in.
//!
//! The folder itself is the truth; the system's notifications only say when to look. So a missed
//! or merged notification costs at most `RESCAN_AFTER`, and file systems without notifications
//! work too. A file counts as whole when whoever wrote it closed it or renamed it into place, or
//! when it did not change for `SETTLED_AFTER`. A folder in which others than the broker's user may
//! write is not looked into: what serves from there serves on, and the log says why once.
//!
//! In each of them is a folder [`CANDIDATES`]: a file there is not put into service, it is the candidate
//! of the plugin of its name.

use leveret_plugin::{Host, LoadError, Scope, artifact, folder, registry::Stage};
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

/// The folder within a plugins folder for versions that are tried beside those that serve.
pub const CANDIDATES: &str = "candidates";
/// How long a file must stay unchanged to count as whole, if its writer did not close it.
const SETTLED_AFTER: Duration = Duration::from_millis(300);
/// How often the folder is looked at without a notification.
const RESCAN_AFTER: Duration = Duration::from_secs(1);
/// Files up to this size are loaded before the broker accepts connections; larger ones beside.
const LOAD_FIRST_BYTES_MAX: u64 = 512 * 1024;

/// Watches until it is dropped.
pub struct PluginWatcher {
    _notifier: Option<notify::RecommendedWatcher>,
    stop: Sender<Notice>,
    host: Arc<Host>,
    thread: Option<JoinHandle<()>>,
}

enum Notice {
    /// Something may have changed.
    Look,
    /// This file was closed or renamed by its writer.
    Whole(PathBuf),
    Stop,
}

impl PluginWatcher {
    /// Loads the small plugins that are there, folder by folder, then watches all of them on one thread.
    ///
    /// # Errors
    /// If a folder is not there or there is no thread.
    pub fn start(folders: &[(Scope, PathBuf)], host: &Arc<Host>) -> io::Result<Self> {
        let (stop, notices) = channel();
        let mut watched = Vec::new();
        for (scope, given) in folders {
            watched.push(Folder::new(scope, given, Kind::Serving, host)?);
        }
        for (scope, given) in folders {
            // Candidates come after what serves, for they are candidates of that.
            let given = given.join(CANDIDATES);
            let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&given);
            match made.and_then(|()| Folder::new(scope, &given, Kind::Candidates, host)) {
                Ok(folder) => watched.push(folder),
                Err(error) => {
                    tracing::warn!(%scope, "no candidates are taken: {}: {error}", given.display());
                }
            }
        }
        let notifier = notifier(&watched, stop.clone());
        for folder in &mut watched {
            folder.look(&HashSet::new());
            folder.begin();
        }
        let mut folders = Folders(watched);
        let thread =
            std::thread::Builder::new().name("plugins".to_owned()).spawn(move || folders.watch(&notices))?;
        Ok(Self { _notifier: notifier, stop, host: host.clone(), thread: Some(thread) })
    }
}

impl Drop for PluginWatcher {
    fn drop(&mut self) {
        // If the thread is gone already there is nobody to tell.
        let _ = self.stop.send(Notice::Stop);
        // It may be waiting for a file's code.
        self.host.registry().stop_compiling();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
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
    /// It was offered to the host with this stamp.
    offered: bool,
    /// The host refused it. It may take it once another file is gone, whose types it claims too.
    refused: Option<Stage>,
}

/// What becomes of the files of a folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// They serve.
    Serving,
    /// Each is the candidate of the file of its name in the folder around.
    Candidates,
}

struct Folder {
    kind: Kind,
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
}

/// Watched by one thread.
struct Folders(Vec<Folder>);

impl Folders {
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
                    Notice::Stop => return,
                }
                notice = notices.try_recv().ok();
            }
            let mut offered = false;
            for folder in &mut self.0 {
                folder.look(&whole);
                if folder.kind == Kind::Candidates && offered {
                    folder.look_again_at_refused(|stage| stage == Stage::Swap);
                }
                offered |= folder.offer_settled();
            }
        }
    }

    /// How long nothing needs to be done if no notice comes.
    fn wait(&self) -> Duration {
        let files = self.0.iter().flat_map(|folder| folder.files.values());
        let unsettled = files.filter(|seen| !seen.offered);
        unsettled.map(|seen| SETTLED_AFTER.saturating_sub(seen.since.elapsed())).min().unwrap_or(RESCAN_AFTER)
    }
}

impl Folder {
    fn new(scope: &Scope, given: &Path, kind: Kind, host: &Arc<Host>) -> io::Result<Self> {
        Ok(Self {
            kind,
            scope: scope.clone(),
            given: given.to_path_buf(),
            folder: given.canonicalize()?,
            host: host.clone(),
            files: BTreeMap::new(),
            complained: HashSet::new(),
            complaint: None,
        })
    }

    /// Compares the folder with what is known of it.
    fn look(&mut self, whole: &HashSet<PathBuf>) {
        let found = match self.trusted_scan() {
            Ok(found) => found,
            Err(complaint) => {
                if self.complaint.as_ref() != Some(&complaint) {
                    tracing::warn!(scope = %self.scope, "no plugins are taken: {complaint}. What serves serves on");
                    self.complaint = Some(complaint);
                }
                return;
            }
        };
        if self.complaint.take().is_some() {
            tracing::info!(scope = %self.scope, "plugins are taken from {} again", self.given.display());
        }
        let gone: Vec<PathBuf> =
            self.files.keys().filter(|path| !found.contains_key(*path)).cloned().collect();
        let any_gone = !gone.is_empty();
        for path in gone {
            self.files.remove(&path);
            self.complained.remove(&path);
            // Also if it was not offered as it was last: what it was before may serve. The registry logs
            // what became of its exchanges.
            match self.kind {
                Kind::Serving => {
                    self.host.registry().remove_in(&self.scope, &path);
                }
                Kind::Candidates => {
                    let plugin = path.file_stem().unwrap_or_default().to_string_lossy();
                    self.host.registry().withdraw_candidate(&self.scope, &plugin);
                }
            }
        }
        if any_gone {
            self.look_again_at_refused(|_| true);
        }
        for (path, stamp) in found {
            let closed = whole.contains(&path);
            match self.files.get_mut(&path) {
                Some(seen) if seen.stamp == stamp => seen.whole |= closed,
                Some(seen) => {
                    *seen =
                        Seen { stamp, since: Instant::now(), whole: closed, offered: false, refused: None }
                }
                None => {
                    self.files.insert(
                        path,
                        Seen { stamp, since: Instant::now(), whole: closed, offered: false, refused: None },
                    );
                }
            }
        }
    }

    /// Files that were refused at these stages are offered once more.
    fn look_again_at_refused(&mut self, at: impl Fn(Stage) -> bool) {
        for seen in self.files.values_mut().filter(|seen| seen.refused.is_some_and(&at)) {
            (seen.offered, seen.refused) = (false, None);
        }
    }

    /// What is in the folder, if it is safe to take it.
    fn trusted_scan(&mut self) -> Result<BTreeMap<PathBuf, Stamp>, String> {
        folder::check(&self.given).map_err(|error| error.to_string())?;
        self.scan().map_err(|error| format!("cannot read {}: {error}", self.given.display()))
    }

    fn scan(&mut self) -> io::Result<BTreeMap<PathBuf, Stamp>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with('.') || path.extension().is_none_or(|extension| extension != "wasm") {
                continue;
            }
            if name.chars().any(char::is_control) {
                if self.complained.insert(path.clone()) {
                    tracing::warn!("{} is no name for a plugin's file", name.escape_debug());
                }
                continue;
            }
            // It may be gone again by now.
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                continue;
            };
            if !metadata.is_file() {
                if self.complained.insert(path.clone()) {
                    tracing::warn!("{} is not a regular file; links are not followed", path.display());
                }
                continue;
            }
            let (inode, changed) = (metadata.ino(), (metadata.ctime(), metadata.ctime_nsec()));
            found.insert(
                path,
                Stamp { bytes: metadata.len(), modified: metadata.modified().ok(), inode, changed },
            );
        }
        Ok(found)
    }

    /// What lies there at the start is whole: nobody is writing it for this broker. Small files serve before
    /// the broker does.
    fn begin(&mut self) {
        let small = self.files.iter().filter(|(_, seen)| seen.stamp.bytes <= LOAD_FIRST_BYTES_MAX);
        for path in small.map(|(path, _)| path.clone()).collect::<Vec<_>>() {
            if self.kind == Kind::Serving {
                self.offer(&path);
            }
        }
        self.files.values_mut().for_each(|seen| seen.whole = true);
    }

    /// Offers what is whole by now. Gives whether there was anything.
    fn offer_settled(&mut self) -> bool {
        let settled = self
            .files
            .iter()
            .filter(|(_, seen)| !seen.offered && (seen.whole || seen.since.elapsed() >= SETTLED_AFTER))
            .map(|(path, _)| path.clone());
        let settled: Vec<PathBuf> = settled.collect();
        settled.iter().for_each(|path| self.offer(path));
        !settled.is_empty()
    }

    fn offer(&mut self, path: &Path) {
        let Some(seen) = self.files.get_mut(path) else {
            return;
        };
        seen.offered = true;
        let refused = match self.kind {
            Kind::Serving => self.offer_to_serve(path),
            Kind::Candidates => self.offer_candidate(path),
        };
        if let Some(seen) = self.files.get_mut(path) {
            seen.refused = refused;
        }
    }

    /// Gives the stage that refused it. The registry logs what became of it.
    fn offer_to_serve(&self, path: &Path) -> Option<Stage> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let bytes = match artifact::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let (scope, stage) = (&self.scope, Stage::Read);
                tracing::warn!(
                    path = %path.display(), %scope, %stage,
                    "the plugin was not taken: {name}: {error}. What served before still serves"
                );
                self.host.registry().fall_back(&self.scope, path);
                return None;
            }
        };
        self.host.registry().offer_in(&self.scope, path, &bytes).err().map(|error| error.stage)
    }

    fn offer_candidate(&self, path: &Path) -> Option<Stage> {
        let registry = self.host.registry();
        // The file whose candidate it is.
        let around = self.folder.parent().unwrap_or(&self.folder);
        let serving = around.join(path.file_name().unwrap_or_default());
        let offered = match artifact::read(path) {
            Ok(bytes) => registry.offer_candidate(&self.scope, &serving, &bytes),
            Err(error) => {
                let error = LoadError { stage: Stage::Read, reason: error.to_string() };
                registry.refuse_candidate(&self.scope, &serving, &error);
                Err(error)
            }
        };
        offered.err().map(|error| error.stage)
    }
}
