//! Watches the files of certificates and reads them anew when they change.
//!
//! As with plugins the files themselves are the truth: notifications only say when to look, and what is missed is found
//! a few seconds later. So links that are moved, as Kubernetes does it, are noticed too.

use super::{Tls, TlsSettings};
use notify::{RecursiveMode, Watcher as _};
use std::{
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

/// How often the files are looked at without a notification.
const RESCAN_AFTER: Duration = Duration::from_secs(5);

/// Watches until it is dropped.
pub struct Reload {
    _notifier: Option<notify::RecommendedWatcher>,
    stop: Sender<Notice>,
    thread: Option<JoinHandle<()>>,
}

enum Notice {
    Look,
    Stop,
}

/// What tells one content of a file from the next; none where it is not there.
type Stamp = Option<(u64, u64, i64, i64)>;

fn files(settings: &TlsSettings) -> impl Iterator<Item = &PathBuf> {
    let TlsSettings { certificate, key, authorities, revoked, .. } = settings;
    [Some(certificate), Some(key), authorities.as_ref(), revoked.as_ref()].into_iter().flatten()
}

fn stamps(tls: &Tls) -> Vec<Stamp> {
    let settings = tls.settings();
    let files = files(settings);
    let stamp = |file: &Path| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((metadata.len(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
    };
    files.map(|file| stamp(file)).collect()
}

impl Reload {
    /// Watches the files.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(tls: Arc<Tls>) -> io::Result<Self> {
        let (stop, notices) = channel();
        let told = stop.clone();
        let handler = move |_event: notify::Result<notify::Event>| {
            // The receiver is gone only while the broker stops.
            let _ = told.send(Notice::Look);
        };
        let mut notifier = notify::recommended_watcher(handler).ok();
        for file in files(tls.settings()) {
            // The folder: a file that is replaced is another file.
            let folder =
                file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if let Some(notifier) = &mut notifier {
                // Else it is looked at all the same.
                let _ = notifier.watch(folder, RecursiveMode::NonRecursive);
            }
        }
        // What was read last, and what it was last said of that it could not be.
        let (mut taken, mut refused) = (stamps(&tls), Vec::new());
        let thread = std::thread::Builder::new().name("certificates".to_owned()).spawn(move || {
            loop {
                match notices.recv_timeout(RESCAN_AFTER) {
                    Ok(Notice::Look) | Err(RecvTimeoutError::Timeout) => {}
                    Ok(Notice::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                }
                let found = stamps(&tls);
                if found == taken {
                    continue;
                }
                match tls.reload() {
                    Ok(()) => {
                        tracing::info!("TLS certificates are read anew; new connections get them");
                        taken = found;
                    }
                    // One of several files may be written later, and what could not be read may be read the next time.
                    Err(error) if refused != found => {
                        tracing::warn!("TLS certificates stay as they were: {error:#}");
                        refused = found;
                    }
                    Err(_) => {}
                }
            }
        })?;
        Ok(Self { _notifier: notifier, stop, thread: Some(thread) })
    }
}

impl Drop for Reload {
    fn drop(&mut self) {
        // If the thread is gone already there is nobody to tell.
        let _ = self.stop.send(Notice::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
