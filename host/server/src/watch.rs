//! The plugins folder: finds out when a file is whole, and offers it to the plugin host.
//!
//! The folder itself is the truth; the system's notifications only say when to look. So a missed
//! or merged notification costs at most `RESCAN_AFTER`, and file systems without notifications
//! work too. A file counts as whole when whoever wrote it closed it or renamed it into place, or
//! when it did not change for `SETTLED_AFTER`.

use leveret_plugin::{Host, artifact};
use notify::{
    EventKind, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};
use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    os::unix::fs::MetadataExt,
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
    /// Loads the small plugins that are there, then watches `folder` on a thread of its own.
    ///
    /// # Errors
    /// If the folder cannot be read or there is no thread.
    pub fn start(folder: &Path, host: Arc<Host>) -> io::Result<Self> {
        let folder = folder.canonicalize()?;
        let (stop, notices) = channel();
        let notifier = notifier(&folder, stop.clone());
        let mut state =
            Folder { folder, host: host.clone(), files: BTreeMap::new(), complained: HashSet::new() };
        state.look(&HashSet::new());
        state.load_before_serving();
        let thread =
            std::thread::Builder::new().name("plugins".to_owned()).spawn(move || state.watch(&notices))?;
        Ok(Self { _notifier: notifier, stop, host, thread: Some(thread) })
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

fn notifier(folder: &Path, notices: Sender<Notice>) -> Option<notify::RecommendedWatcher> {
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
    let watching = notify::recommended_watcher(handler).and_then(|mut watcher| {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watching
        .inspect_err(|error| {
            tracing::warn!(
                %error,
                "no notifications for {}; it is looked at every {} ms instead",
                folder.display(),
                RESCAN_AFTER.as_millis()
            );
        })
        .ok()
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
    refused: bool,
}

struct Folder {
    folder: PathBuf,
    host: Arc<Host>,
    files: BTreeMap<PathBuf, Seen>,
    /// Files that were refused for what they are, so that the log says it once.
    complained: HashSet<PathBuf>,
}

impl Folder {
    fn watch(mut self, notices: &Receiver<Notice>) {
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
            self.look(&whole);
            self.offer_settled();
        }
    }

    /// How long nothing needs to be done if no notice comes.
    fn wait(&self) -> Duration {
        let unsettled = self.files.values().filter(|seen| !seen.offered);
        unsettled.map(|seen| SETTLED_AFTER.saturating_sub(seen.since.elapsed())).min().unwrap_or(RESCAN_AFTER)
    }

    /// Compares the folder with what is known of it.
    fn look(&mut self, whole: &HashSet<PathBuf>) {
        let found = match self.scan() {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "cannot read {}; plugins stay as they are", self.folder.display());
                return;
            }
        };
        let gone: Vec<PathBuf> =
            self.files.keys().filter(|path| !found.contains_key(*path)).cloned().collect();
        let any_gone = !gone.is_empty();
        for path in gone {
            let seen = self.files.remove(&path);
            self.complained.remove(&path);
            if seen.is_some_and(|seen| seen.offered) {
                // The registry logs what became of its exchanges.
                self.host.registry().remove(&path);
            }
        }
        if any_gone {
            for seen in self.files.values_mut().filter(|seen| seen.refused) {
                (seen.offered, seen.refused) = (false, false);
            }
        }
        for (path, stamp) in found {
            let closed = whole.contains(&path);
            match self.files.get_mut(&path) {
                Some(seen) if seen.stamp == stamp => seen.whole |= closed,
                Some(seen) => {
                    *seen =
                        Seen { stamp, since: Instant::now(), whole: closed, offered: false, refused: false }
                }
                None => {
                    self.files.insert(
                        path,
                        Seen { stamp, since: Instant::now(), whole: closed, offered: false, refused: false },
                    );
                }
            }
        }
    }

    fn scan(&mut self) -> io::Result<BTreeMap<PathBuf, Stamp>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with('.') || path.extension().is_none_or(|extension| extension != "wasm") {
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

    /// What lies there at the start is whole: nobody is writing it for this broker.
    fn load_before_serving(&mut self) {
        let small = self.files.iter().filter(|(_, seen)| seen.stamp.bytes <= LOAD_FIRST_BYTES_MAX);
        for path in small.map(|(path, _)| path.clone()).collect::<Vec<_>>() {
            self.offer(&path);
        }
        self.files.values_mut().for_each(|seen| seen.whole = true);
    }

    fn offer_settled(&mut self) {
        let settled = self
            .files
            .iter()
            .filter(|(_, seen)| !seen.offered && (seen.whole || seen.since.elapsed() >= SETTLED_AFTER))
            .map(|(path, _)| path.clone());
        for path in settled.collect::<Vec<_>>() {
            self.offer(&path);
        }
    }

    fn offer(&mut self, path: &Path) {
        let Some(seen) = self.files.get_mut(path) else {
            return;
        };
        seen.offered = true;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = match artifact::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!("the plugin was not taken: {name}: {error}. What served before still serves");
                self.host.registry().fall_back(path);
                return;
            }
        };
        // The registry logs what became of it.
        let refused = self.host.registry().offer(path, &bytes).is_err();
        if let Some(seen) = self.files.get_mut(path) {
            seen.refused = refused;
        }
    }
}
