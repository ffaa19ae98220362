//! The broker's store on disk: [`leveret_broker::store::Store`] on the journal of `leveret-store`.
//!
//! *In and out:* groups of the broker in, as groups of the journal (`group.rs`); what virtual hosts consist of
//! (`topology.rs`) and what exchange types keep (`state.rs`) are values there (`spaces.rs` says which).
//!
//! *Invariants:* what was admitted is taken, unless the store was closed meanwhile, or it is so long that it needs a file
//! of its own and there is no room for that: whoever waits is told. A number of a queue or of a space is
//! given out once. What the broker is told of a queue's messages is what was written: what was handed over and is not
//! written yet is not seen.
//!
//! Read `spaces.rs` first, then `group.rs`.

mod added;
mod bodies;
mod codec;
mod durability;
mod globals;
mod group;
mod health;
mod ids;
pub mod look;
mod message;
mod newer;
mod pages;
mod parts;
mod policies;
mod report;
mod spaces;
mod state;
mod suspects;
mod told;
mod topology;
mod users;
mod vhosts;

#[cfg(test)]
mod tests;

pub use bodies::{FarReader, Patience};
pub use durability::VhostDurability;
pub use health::Pressure;
pub use suspects::{CALM_AFTER, Suspect};
pub use vhosts::VhostRecord;

use anyhow::{Context, anyhow};
use group::DiskGroup;
use ids::Ids;
use leveret_broker::{
    AddedHeader,
    store::{
        Aside, Change, Durability, FarBody, Group, Kept, KeptId, Paged, Ranges, StateChange, StateHolder,
        Store, StoreFailure, Stored, Suspicion, Topology, Written,
    },
};
use leveret_model::{Name, Stub};
use leveret_store::{Config, QueueId, Range, Reader, Refused, Report, Sync, disk::real::RealDisk};
use parking_lot::Mutex;
use parts::Parts;
use state::{States, Timers};
use std::{
    cell::RefCell,
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// The store's folder within the data folder.
pub const FOLDER: &str = "store";
/// How many readers are kept for later, with their buffers.
const READERS_MAX: usize = 8;
/// That something cannot be read now is told once in so long.
const LATER_TOLD_MS: u64 = 60_000;
/// What is kept about no message is on disk after so long.
const APPENDED_WITHIN_MS: u32 = 10;

/// What groups and the store share.
struct Shared {
    store: leveret_store::Store,
    group_bytes_max: usize,
    ids: Ids,
    bindings: topology::Bindings,
    states: States,
    timers: Timers,
    added: added::Added,
    readers: Mutex<Vec<Reader>>,
    /// What the start found.
    report: Report,
    suspects: suspects::Suspects,
    relief: Arc<health::Relief>,
    /// When it was told last that something cannot be read now.
    told_later_ms: AtomicU64,
    /// What time it is, in milliseconds since 1970.
    now_ms: fn() -> u64,
}

/// The store on disk. Dropped without [`Self::close`] it is as after a crash of the process.
#[derive(Clone)]
pub struct DiskStore {
    shared: Arc<Shared>,
    durability: Arc<VhostDurability>,
}

/// What is reused by a thread.
struct Riding {
    parts: Parts,
    ranges: Vec<Range>,
}

/// How ranges of a queue are said.
type Put<'a> = &'a dyn Fn(&mut Parts, QueueId, &[Range]);

impl Riding {
    fn put<'a>(&mut self, put: Put<'_>, queue: KeptId, ranges: impl IntoIterator<Item = &'a Ranges>) {
        self.ranges.clear();
        self.ranges.extend(ranges.into_iter().map(group::range_of));
        put(&mut self.parts, QueueId(queue.0), &self.ranges);
    }

    fn put_all(&mut self, put: Put<'_>, all: &[(KeptId, Ranges)]) {
        for of_queue in all.chunk_by(|a, b| a.0 == b.0) {
            if let Some((queue, _)) = of_queue.first() {
                self.put(put, *queue, of_queue.iter().map(|(_, range)| range));
            }
        }
    }
}

thread_local! {
    static RIDING: RefCell<Riding> = RefCell::new(Riding { parts: Parts::new(0), ranges: Vec::new() });
}

impl DiskStore {
    /// Opens the store in a folder, which is made if it is not there. What was found goes into the log.
    ///
    /// # Errors
    /// If the folder cannot be used, a newer version wrote it, or what is there does not serve.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        Self::open_with(folder, Config::default())
    }

    /// The same with other sizes.
    ///
    /// # Errors
    /// The same, or sizes that do not go together.
    pub fn open_with(folder: &Path, config: Config) -> anyhow::Result<Self> {
        Self::open_at(folder, config, now_ms)
    }

    /// The same with another clock.
    fn open_at(folder: &Path, config: Config, now_ms: fn() -> u64) -> anyhow::Result<Self> {
        let whole = || format!("the store in {}", folder.display());
        let disk = RealDisk::open(folder).map_err(|error| anyhow!("{error}")).with_context(whole)?;
        let group_bytes_max = config.group_bytes_max;
        let opened = leveret_store::Store::open(Arc::new(disk), config);
        let (store, report) =
            opened.map_err(|error| anyhow!(report::cannot_open(&error))).with_context(whole)?;
        report::log(folder, &report);
        if let Err(newer) = newer::refuse(&store) {
            store.close();
            return Err(newer).with_context(whole);
        }
        let ids = Ids::open(&store);
        let bindings = topology::Bindings::open(&store);
        let states = States::open(&store);
        let timers = Timers::open(&store);
        let added = added::Added::open(&store);
        let readers = Mutex::default();
        let suspects = suspects::open(folder, &store, report.clean);
        let relief = Arc::new(health::Relief::default());
        store.watch(relief.clone());
        let shared = Shared {
            store,
            group_bytes_max,
            ids,
            bindings,
            states,
            timers,
            added,
            readers,
            report,
            suspects,
            relief,
            told_later_ms: AtomicU64::new(0),
            now_ms,
        };
        Ok(Self { shared: Arc::new(shared), durability: Arc::default() })
    }

    /// The same store for a virtual host, with what was chosen for that.
    #[must_use]
    pub fn of_vhost(&self, durability: VhostDurability) -> Self {
        Self { shared: self.shared.clone(), durability: Arc::new(durability) }
    }

    /// Writes and syncs all that was handed over. From then on nothing is taken.
    pub fn close(&self) {
        self.shared.store.close();
    }

    /// What it has, and did since it was opened.
    #[must_use]
    pub fn stat(&self) -> leveret_store::Stat {
        self.shared.store.stat()
    }

    /// What the start found, and what follows from it.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.shared.report
    }

    /// How far the check of what is live came, and what it found.
    #[must_use]
    pub fn scrub(&self) -> leveret_store::Scrub {
        self.shared.store.scrub()
    }

    /// Files that were set aside because something in them is damaged.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn set_aside(&self) -> anyhow::Result<Vec<String>> {
        self.shared.store.set_aside().map_err(|error| anyhow!("{error}"))
    }

    /// Has `done` told once everything is on disk that was handed over before.
    pub fn when_kept(&self, done: leveret_access::Done) {
        self.when_safe(&users::told(done), 0);
    }

    /// The virtual hosts that it has anything of.
    #[must_use]
    pub fn vhosts(&self) -> BTreeSet<Name> {
        topology::vhosts(&self.shared.store)
    }

    /// Hands over what waits for others to go with.
    fn ride(&self, sync: Sync, put: impl FnOnce(&mut Riding)) {
        let outcome = RIDING.with_borrow_mut(|riding| {
            riding.parts.set_bytes_max(self.shared.group_bytes_max);
            put(riding);
            let parts = &mut riding.parts;
            if parts.is_empty() { Ok(()) } else { parts.submit(&self.shared.store, sync, None) }
        });
        if let Err(failure) = outcome {
            // Messages come again that were settled after the store was closed.
            tracing::debug!("{failure}");
        }
    }

    /// Whether what grows would be taken.
    fn admits(&self) -> Result<(), StoreFailure> {
        // Where the disk is only behind, or only large bodies lack room, publishers are not read; what they sent until
        // then is taken.
        if let Err(why @ (Refused::Full | Refused::Closed)) = self.shared.store.admits() {
            return Err(told::refused(why));
        }
        match self.pressure() {
            Some(pressure @ Pressure::Failing(_)) => Err(StoreFailure(pressure.to_string().into())),
            Some(Pressure::Full | Pressure::Behind) | None => Ok(()),
        }
    }
}

impl Store for DiskStore {
    fn keeps(&self) -> bool {
        true
    }

    fn admit(&self) -> Result<(), StoreFailure> {
        self.admits()
    }

    fn append(&self, group: &[Change]) -> Result<(), StoreFailure> {
        let takes_away = |change: &Change| {
            matches!(
                change.change,
                StateChange::Clear
                    | StateChange::Delete { .. }
                    | StateChange::Forget { .. }
                    | StateChange::TakeBack { .. }
                    | StateChange::DropAside { .. }
                    | StateChange::EndTimer { .. }
            )
        };
        if !group.iter().all(takes_away) {
            self.admits()?;
        }
        let mut parts = Parts::new(self.shared.group_bytes_max);
        state::write(&self.shared, group, &mut parts, (Sync::Interval(APPENDED_WITHIN_MS), None))
    }

    fn load(&self, holder: &StateHolder) -> Result<Vec<StateChange>, StoreFailure> {
        state::load(&self.shared, holder)
    }

    fn load_aside(&self, holder: &StateHolder) -> Result<Vec<Aside>, StoreFailure> {
        state::load_aside(&self.shared, holder)
    }

    fn timers(&self, vhost: &Name, each: &mut dyn FnMut(StateHolder, Name, u64)) {
        self.shared.timers.of_vhost(vhost, each);
    }

    fn group(&self) -> Box<dyn Group> {
        Box::new(DiskGroup::new(self.shared.clone()))
    }

    fn settled(&self, queue: KeptId, ranges: &[Ranges]) {
        let ack = |parts: &mut Parts, queue, ranges: &[Range]| self.shared.ack(queue, ranges, parts);
        self.ride(Sync::Ride, |riding| riding.put(&ack, queue, ranges));
    }

    fn progressed(&self, settled: &[(KeptId, Ranges)], delivered: &[(KeptId, Ranges)], counts: bool) {
        let ack = |parts: &mut Parts, queue, ranges: &[Range]| self.shared.ack(queue, ranges, parts);
        self.ride(if counts { Sync::Never } else { Sync::Ride }, |riding| {
            riding.put_all(&Parts::delivered, delivered);
            riding.put_all(&ack, settled);
        });
    }

    fn when_safe(&self, waiter: &Arc<dyn Written>, token: u64) {
        // The waiter is told where it is not taken.
        let _ = Parts::new(self.shared.group_bytes_max).submit(
            &self.shared.store,
            Sync::Always,
            Some((waiter, token)),
        );
    }

    fn durability(&self) -> Durability {
        self.durability.usual
    }

    fn durability_of(&self, queue: &Name) -> Durability {
        self.durability.of(queue)
    }

    fn next_id(&self) -> KeptId {
        KeptId(self.shared.ids.next(&self.shared.store))
    }

    fn kept(&self, queue: KeptId) -> Kept {
        let stat = self.shared.store.queue(QueueId(queue.0)).unwrap_or_default();
        Kept { messages: stat.messages, first: stat.first, next: stat.next }
    }

    fn count(&self, queue: KeptId, numbers: core::ops::Range<u64>) -> u64 {
        self.shared.store.count(QueueId(queue.0), numbers)
    }

    fn read(
        &self,
        queue: KeptId,
        from: u64,
        bytes_max: usize,
        each: &mut dyn FnMut(Stored<'_>),
    ) -> Option<u64> {
        self.shared.read(QueueId(queue.0), from, bytes_max, &mut |item| {
            message::hand_over(&item, &mut |stored| {
                if stored.is_later {
                    self.shared.tell_later(stored.sequence, queue);
                } else if stored.message.is_none() {
                    let (queue, number) = (queue.0, stored.sequence);
                    tracing::error!(
                        "the store: message {number} of queue number {queue} cannot be read and is left out; \
                         `leveret store check` says more while the broker is down"
                    );
                }
                each(stored);
            });
        })
    }

    fn suspicion(&self, queue: KeptId) -> Option<Suspicion> {
        self.shared.suspects.of(queue)
    }

    fn handing_out(&self, queue: KeptId, sequence: u64) {
        self.shared.suspects.handing_out(queue, sequence);
    }

    fn handed_out(&self) {
        self.shared.suspects.handed_out();
    }

    fn each_added(&self, queue: KeptId, each: &mut dyn FnMut(u64, Vec<AddedHeader>, u32)) {
        added::each(&self.shared.store, QueueId(queue.0), each);
    }

    fn far(&self, stub: &Stub) -> Option<FarBody> {
        Some(self.shared.body(stub))
    }

    fn takes_pages(&self) -> bool {
        self.has_room_for_pages()
    }

    fn page(&self, messages: &mut dyn Iterator<Item = Paged<'_>>) -> Option<KeptId> {
        self.write_page(messages)
    }

    fn drop_pages(&self, pages: &[KeptId]) {
        self.delete_pages(pages);
    }

    fn topology(&self, vhost: &Name, each: &mut dyn FnMut(Topology<'_>)) {
        topology::read(&self.shared.store, vhost, each, &mut |what| {
            tracing::error!("the store: {what} cannot be read and is left out; declare it again");
        });
    }
}

impl Shared {
    /// Puts that messages of a queue are settled, with what else there is of them.
    fn ack(&self, queue: QueueId, ranges: &[Range], parts: &mut Parts) {
        self.added.forget(queue, ranges, parts);
        parts.ack(queue, ranges);
    }

    /// A message cannot be read now; told once in a while.
    fn tell_later(&self, number: u64, queue: KeptId) {
        let now = (self.now_ms)();
        let told = self.told_later_ms.load(Ordering::Relaxed);
        if now.saturating_sub(told) >= LATER_TOLD_MS
            && self.told_later_ms.swap(now, Ordering::Relaxed) == told
        {
            tracing::warn!(
                "the store: message {number} of queue number {} cannot be read now, for want of open files or memory; it \
                 is tried again. Raise the limit of open files (LimitNOFILE, ulimit -n)",
                queue.0
            );
        }
    }

    /// Reads messages with one of the readers.
    fn read(
        &self,
        queue: QueueId,
        from: u64,
        bytes_max: usize,
        each: &mut dyn FnMut(leveret_store::Item<'_>),
    ) -> Option<u64> {
        let mut reader = self.readers.lock().pop().unwrap_or_else(|| Reader::leaving(message::is_far));
        let next = self.store.read(&mut reader, (queue, from), bytes_max, each);
        let mut readers = self.readers.lock();
        if readers.len() < READERS_MAX {
            readers.push(reader);
        }
        next
    }
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl core::fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("DiskStore").field("stat", &self.shared.store.stat()).finish_non_exhaustive()
    }
}
