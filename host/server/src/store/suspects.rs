//! Messages that may be what ends the broker: which were in hand when it ended, over starts.
//!
//! *In a row.* An unclean end counts if the process had lived for less than [`CALM_AFTER`]. From [`TELLS_FROM`] of them in a
//! row on, the process notes what it hands out of what was there before, for as long.
//!
//! *In hand* is what a thread works on: from before a message is put into anybody's output, until before that is sent. So a
//! process that is killed from outside has had nothing in hand but by rare chance, whatever its clients had. The file `in-hand`
//! is a ring of [`RING_RECORDS`] records of five u64 LE, which is written before the message goes on, and not synced, for it is
//! to outlive the process alone:
//!
//! ```text
//! the number of the record, counted up; the thread; the queue; the message; the check: not(xor of the four)
//! ```
//!
//! A record with [`GONE`] for queue and message says that the thread has nothing in hand any more.
//!
//! *Suspects.* What the next start finds there, and what is still in its queue, has been in hand at one more unclean end.
//! From [`ALONE_FROM`] of them on it is handed out alone, from [`ASIDE_FROM`] on to nobody
//! ([`leveret_broker::store::Suspicion`]). `suspects.toml` has that, and is written before anything serves. Another version of
//! the broker may do better: it begins to count anew.

use super::{DiskStore, topology};
use crate::replace::replace;
use leveret_broker::store::{KeptId, Suspicion, Topology};
use leveret_store::{QueueId, Store};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

/// The folder's name in the data folder.
pub(super) const FOLDER: &str = "suspects";
/// A process that has lived for so long has not ended because of what it found at its start.
pub const CALM_AFTER: Duration = Duration::from_secs(300);
/// After so many unclean ends in a row what is handed out is noted.
const TELLS_FROM: u32 = 2;
/// A message that was in hand at so many ends is handed out alone.
const ALONE_FROM: u32 = 1;
/// A message that was in hand at so many ends is handed out to nobody.
const ASIDE_FROM: u32 = 3;

/// So many of those that are set aside are told one by one.
const TOLD_MAX: usize = 20;

const LIST: &str = "suspects.toml";
const RING: &str = "in-hand";
const RING_RECORDS: u64 = 4096;
const RECORD_BYTES: usize = 40;
/// The number of no queue and no message.
const GONE: u64 = u64::MAX;
/// The format of the list that this program writes, and the newest that it reads.
const FORMAT: u32 = 1;
const HEADING: &str = "# Which messages were in hand when the broker ended uncleanly, several times in a row. Without this file nothing\n\
                       # is suspected; take it away only while the broker is down.\n";

/// A message that was in hand when the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suspect {
    /// The number of its queue, or of a lane of it, in the store.
    pub queue: u64,
    /// Its own number there.
    pub message: u64,
    /// At how many ends it was.
    pub crashes: u32,
}

impl Suspect {
    /// It is given to nobody.
    #[must_use]
    pub fn is_set_aside(&self) -> bool {
        self.crashes >= ASIDE_FROM
    }
}

/// What is kept over starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    format: u32,
    version: String,
    unclean_ends: u32,
    #[serde(default, rename = "message", skip_serializing_if = "Vec::is_empty")]
    messages: Vec<Suspect>,
}

impl Known {
    /// What a start makes of it: `in_hand` when the process before ended, unless that was clean.
    fn at_start(self, is_clean: bool, in_hand: &BTreeSet<(u64, u64)>, version: &str) -> Self {
        let mut messages = if self.version == version { self.messages } else { Vec::new() };
        if is_clean {
            messages.retain(Suspect::is_set_aside);
        } else {
            for (queue, message) in in_hand.iter().copied() {
                match messages.iter_mut().find(|known| (known.queue, known.message) == (queue, message)) {
                    Some(known) => known.crashes = known.crashes.saturating_add(1),
                    None => messages.push(Suspect { queue, message, crashes: 1 }),
                }
            }
        }
        let unclean_ends = if is_clean { 0 } else { self.unclean_ends.saturating_add(1) };
        Self { format: FORMAT, version: version.to_owned(), unclean_ends, messages }
    }

    fn says_nothing(&self) -> bool {
        self.unclean_ends == 0 && self.messages.is_empty()
    }
}

/// What is suspected since a start.
pub(super) struct Suspects {
    folder: PathBuf,
    known: Mutex<Known>,
    ring: Option<Ring>,
    tells: AtomicBool,
}

impl Suspects {
    /// Begins after a start. `is_there` says whether a message is still in its queue. What cannot be read or written is told in
    /// the log, and nothing is suspected for want of it.
    pub(super) fn open(folder: &Path, is_clean: bool, is_there: impl Fn(u64, u64) -> bool) -> Self {
        let path = folder.join(LIST);
        let before = read_list(&path).unwrap_or_else(|why| {
            tracing::error!("{} {why}; it is written anew, and nothing is suspected", path.display());
            Known::default()
        });
        let was_nothing = before.says_nothing();
        let in_hand = read_ring(&folder.join(RING)).unwrap_or_default();
        let mut known = before.at_start(is_clean, &in_hand, env!("CARGO_PKG_VERSION"));
        known.messages.retain(|known| is_there(known.queue, known.message));
        let notes = known.unclean_ends >= TELLS_FROM;
        if notes {
            let (times, seconds) = (known.unclean_ends, CALM_AFTER.as_secs());
            tracing::warn!(
                "the broker ended uncleanly {times} times in a row, each time within {seconds} s or about that: for as long \
                 it notes what it hands out, to find out whether a message ends it"
            );
        }
        let mut suspects = Self {
            folder: folder.to_owned(),
            tells: AtomicBool::new(false),
            known: Mutex::new(known),
            ring: None,
        };
        if !(was_nothing && suspects.known.lock().says_nothing()) {
            suspects.write();
        }
        // Now that it is in the list: what is in the ring counts once.
        let ring = if notes { Ring::open(folder).map(Some) } else { forget_ring(folder) };
        suspects.ring = ring.unwrap_or_else(|error| {
            tracing::error!("what is handed out cannot be noted in {}: {error}", folder.display());
            None
        });
        suspects.tells = AtomicBool::new(suspects.ring.is_some());
        suspects
    }

    fn write(&self) {
        let known = self.known.lock();
        let path = self.folder.join(LIST);
        let written = if known.says_nothing() {
            fs::remove_file(&path)
        } else {
            let text = toml::to_string(&*known).map_err(io::Error::other);
            text.and_then(|text| replace(&path, &format!("{HEADING}{text}")))
        };
        match written {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::error!("cannot write {}: {error}", path.display());
            }
            _ => {}
        }
    }

    /// What is suspected of the messages of a queue.
    pub(super) fn of(&self, queue: KeptId) -> Option<Suspicion> {
        let known = self.known.lock();
        let mut suspicion = Suspicion { tells: self.tells.load(Ordering::Relaxed), ..Suspicion::default() };
        for suspect in known.messages.iter().filter(|known| known.queue == queue.0) {
            if suspect.is_set_aside() {
                suspicion.aside.push(suspect.message);
            } else if suspicion.tells && suspect.crashes >= ALONE_FROM {
                suspicion.alone.push(suspect.message);
            }
        }
        (suspicion != Suspicion::default()).then_some(suspicion)
    }

    /// All suspects.
    pub(super) fn list(&self) -> Vec<Suspect> {
        self.known.lock().messages.clone()
    }

    /// This thread is about to hand out a message.
    pub(super) fn handing_out(&self, queue: KeptId, message: u64) {
        self.note(queue.0, message);
        THREAD.with(|thread| thread.has_any.set(true));
    }

    /// What this thread has handed out until now has gone.
    #[inline]
    pub(super) fn handed_out(&self) {
        if self.tells.load(Ordering::Relaxed) && THREAD.with(|thread| thread.has_any.take()) {
            self.note(GONE, GONE);
        }
    }

    #[cold]
    fn note(&self, queue: u64, message: u64) {
        let Some(ring) = self.ring.as_ref().filter(|_| self.tells.load(Ordering::Relaxed)) else { return };
        if let Err(error) = ring.add(THREAD.with(|thread| thread.number), queue, message)
            && self.tells.swap(false, Ordering::Relaxed)
        {
            let folder = self.folder.display();
            tracing::error!("what is handed out is not noted in {folder} any more: {error}");
        }
    }

    /// The process has lived for [`CALM_AFTER`].
    pub(super) fn calm(&self) {
        self.tells.store(false, Ordering::Relaxed);
        {
            let mut known = self.known.lock();
            if known.unclean_ends == 0 {
                return;
            }
            known.unclean_ends = 0;
            known.messages.retain(Suspect::is_set_aside);
        }
        self.write();
    }
}

fn read_list(path: &Path) -> Result<Known, String> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Known::default()),
        text => text.map_err(|error| format!("cannot be read: {error}"))?,
    };
    let known: Known = toml::from_str(&text)
        .map_err(|error| format!("cannot be understood: {}", error.to_string().trim_end()))?;
    if known.format != FORMAT {
        let format = known.format;
        return Err(format!("has format {format}, and this broker knows format {FORMAT}"));
    }
    Ok(known)
}

/// What was in hand, by records that are whole: queues and messages.
fn read_ring(path: &Path) -> io::Result<BTreeSet<(u64, u64)>> {
    let bytes = fs::read(path)?;
    let (records, _) = bytes.as_chunks::<RECORD_BYTES>();
    let whole = records.iter().filter_map(|record| {
        let (numbers, _) = record.as_chunks::<8>();
        let [number, thread, queue, message, check] =
            <[[u8; 8]; 5]>::try_from(numbers).ok()?.map(u64::from_le_bytes);
        let is_whole = check == check_of([number, thread, queue, message]);
        is_whole.then_some((number, (thread, queue, message)))
    });
    let in_order: BTreeMap<_, _> = whole.collect();
    let mut by_thread: BTreeMap<u64, BTreeSet<_>> = BTreeMap::new();
    for (thread, queue, message) in in_order.into_values() {
        let in_hand = by_thread.entry(thread).or_default();
        if (queue, message) == (GONE, GONE) {
            in_hand.clear();
        } else {
            in_hand.insert((queue, message));
        }
    }
    Ok(by_thread.into_values().flatten().collect())
}

fn check_of([number, thread, queue, message]: [u64; 4]) -> u64 {
    !(number ^ thread ^ queue ^ message)
}

/// A thread that hands out.
struct Thread {
    /// Its number; no other has it.
    number: u64,
    /// It was said that it has something in hand.
    has_any: Cell<bool>,
}

thread_local! {
    static THREAD: Thread = {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Thread { number: LAST.fetch_add(1, Ordering::Relaxed), has_any: Cell::new(false) }
    };
}

/// There is nothing in hand that was not looked at.
fn forget_ring(folder: &Path) -> io::Result<Option<Ring>> {
    match fs::remove_file(folder.join(RING)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(None),
    }
}

/// Where what is handed out is noted.
struct Ring {
    file: File,
    next: AtomicU64,
}

impl Ring {
    /// An empty one.
    fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(folder.join(RING))?;
        // Its room is there before it is needed: a full disk keeps nothing from being noted.
        file.write_all_at(&[0; RECORD_BYTES * RING_RECORDS as usize], 0)?;
        Ok(Self { file, next: AtomicU64::new(0) })
    }

    fn add(&self, thread: u64, queue: u64, message: u64) -> io::Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let said = [number, thread, queue, message];
        let mut record = [0; RECORD_BYTES];
        let numbers = said.into_iter().chain([check_of(said)]);
        for (field, number) in record.as_chunks_mut::<8>().0.iter_mut().zip(numbers) {
            *field = number.to_le_bytes();
        }
        self.file.write_all_at(&record, number % RING_RECORDS * RECORD_BYTES as u64)
    }
}

/// What is suspected in the data folder around a store's folder that was opened.
pub(super) fn open(folder: &Path, store: &Store, is_clean: bool) -> Suspects {
    let is_there = |queue, message: u64| store.count(QueueId(queue), message..message.saturating_add(1)) > 0;
    let suspects = Suspects::open(&folder.with_file_name(FOLDER), is_clean, is_there);
    let set_aside: Vec<_> = suspects.list().into_iter().filter(Suspect::is_set_aside).collect();
    if !set_aside.is_empty() {
        tell(&set_aside, store, &suspects.folder.join(LIST));
    }
    suspects
}

/// Logs what is set aside, by the names of its queues.
fn tell(set_aside: &[Suspect], store: &Store, list: &Path) {
    let mut names = BTreeMap::new();
    for vhost in topology::vhosts(store) {
        let mut each = |kept: Topology<'_>| {
            if let Topology::Queue(id, spec) = kept {
                names.insert(id, format!("of queue '{}' in virtual host '{vhost}'", spec.name));
            }
        };
        topology::read(store, &vhost, &mut each, &mut |_| {});
    }
    for Suspect { queue, message, crashes } in set_aside.iter().take(TOLD_MAX) {
        let id = KeptId(*queue);
        let unnamed = || format!("of queue number {}", id.0);
        let queue = names.get(&id.queue()).cloned().unwrap_or_else(unnamed);
        tracing::error!(
            "message {message} {queue} was in hand when the broker ended uncleanly, {crashes} times: it is given \
             to nobody any more. It goes to the dead-letter exchange of its queue, or without one stays there until the \
             queue is purged or deleted, or another version of the broker is started; to have it tried again, remove {} \
             while the broker is down",
            list.display()
        );
    }
    if set_aside.len() > TOLD_MAX {
        tracing::error!("and {} more such messages; /api/store lists them", set_aside.len() - TOLD_MAX);
    }
}

impl DiskStore {
    /// What this thread has handed out until now is about to be sent.
    #[inline]
    pub fn sending(&self) {
        self.shared.suspects.handed_out();
    }

    /// The process has lived for [`CALM_AFTER`]: what is handed out is noted no more, and unclean ends are counted anew.
    pub fn calm(&self) {
        self.shared.suspects.calm();
    }

    /// Messages in queues that were in hand when the broker ended uncleanly.
    #[must_use]
    pub fn suspects(&self) -> Vec<Suspect> {
        let mut suspects = self.shared.suspects.list();
        suspects.retain(|suspect| {
            let numbers = suspect.message..suspect.message.saturating_add(1);
            self.shared.store.count(QueueId(suspect.queue), numbers) > 0
        });
        suspects
    }
}
