//! The real store, with a disk that can be full.

use leveret_broker::store::{
    Aside, Change, Durability, Group, HeldAs, Kept, KeptId, LargeBody, Noted, Ranges, StateChange,
    StateHolder, Store, StoreFailure, Stored, Target, Topology, TopologyChange, Written,
};
use leveret_model::{MessageView, Name};
use leveret_server::store::DiskStore;
use leveret_testkit::scratch::ScratchDirectory;
use std::{
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// The real store, which can be told to be full, and counts what types have kept.
pub(crate) struct Disk {
    pub(crate) folder: ScratchDirectory,
    store: Mutex<Option<DiskStore>>,
    full: AtomicBool,
    changes: Arc<AtomicUsize>,
}

/// A group of it.
struct Counting {
    group: Box<dyn Group>,
    changes: Arc<AtomicUsize>,
}

impl Disk {
    pub(crate) fn new() -> Arc<Self> {
        let folder = ScratchDirectory::new("catalogue");
        Arc::new(Self {
            folder,
            store: Mutex::default(),
            full: AtomicBool::default(),
            changes: Arc::default(),
        })
    }

    /// Stops what has the store open, and opens it again.
    pub(crate) fn open_again(&self) {
        let mut store = self.store.lock().unwrap();
        store.take().inspect(DiskStore::close);
        let config = leveret_store::Config {
            segment_bytes: 1 << 20,
            own_segment_bytes: 512 * 1024,
            batch_bytes: 256 * 1024,
            ..leveret_store::Config::default()
        };
        *store = Some(DiskStore::open_with(self.folder.path(), config).unwrap());
    }

    pub(crate) fn store(&self) -> DiskStore {
        self.store.lock().unwrap().clone().unwrap()
    }

    pub(crate) fn is_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    pub(crate) fn len(&self) -> usize {
        self.changes.load(Ordering::SeqCst)
    }
}

impl Store for Disk {
    fn keeps(&self) -> bool {
        true
    }

    fn admit(&self) -> Result<(), StoreFailure> {
        if self.full.load(Ordering::SeqCst) {
            return Err(StoreFailure(Arc::from("no space left on the disk")));
        }
        self.store().admit()
    }

    fn append(&self, group: &[Change]) -> Result<(), StoreFailure> {
        self.admit()?;
        self.changes.fetch_add(group.len(), Ordering::SeqCst);
        self.store().append(group)
    }

    fn load(&self, holder: &StateHolder) -> Result<Vec<StateChange>, StoreFailure> {
        self.store().load(holder)
    }

    fn timers(&self, vhost: &Name, each: &mut dyn FnMut(StateHolder, Name, u64)) {
        self.store().timers(vhost, each);
    }

    fn load_aside(&self, holder: &StateHolder) -> Result<Vec<Aside>, StoreFailure> {
        self.store().load_aside(holder)
    }

    fn group(&self) -> Box<dyn Group> {
        Box::new(Counting { group: self.store().group(), changes: self.changes.clone() })
    }

    fn settled(&self, queue: KeptId, ranges: &[Ranges]) {
        self.store().settled(queue, ranges);
    }

    fn progressed(&self, settled: &[(KeptId, Ranges)], delivered: &[(KeptId, Ranges)], counts: bool) {
        self.store().progressed(settled, delivered, counts);
    }

    fn when_safe(&self, waiter: &Arc<dyn Written>, token: u64) {
        self.store().when_safe(waiter, token);
    }

    fn next_id(&self) -> KeptId {
        self.store().next_id()
    }

    fn kept(&self, queue: KeptId) -> Kept {
        self.store().kept(queue)
    }

    fn count(&self, queue: KeptId, numbers: Range<u64>) -> u64 {
        self.store().count(queue, numbers)
    }

    fn read(
        &self,
        queue: KeptId,
        from: u64,
        bytes_max: usize,
        each: &mut dyn FnMut(Stored<'_>),
    ) -> Option<u64> {
        self.store().read(queue, from, bytes_max, each)
    }

    fn topology(&self, vhost: &Name, each: &mut dyn FnMut(Topology<'_>)) {
        self.store().topology(vhost, each);
    }
}

impl Group for Counting {
    fn is_empty(&self) -> bool {
        self.group.is_empty()
    }

    fn enqueue(
        &mut self,
        message: &MessageView<'_>,
        large: Option<&Arc<LargeBody>>,
        noted: Noted,
        targets: &[Target],
    ) {
        self.group.enqueue(message, large, noted, targets);
    }

    fn hold(&mut self, message: &MessageView<'_>, dead_lettered: bool, held: HeldAs<'_>, target: Target) {
        self.group.hold(message, dead_lettered, held, target);
    }

    fn settle(&mut self, queue: KeptId, ranges: &[Ranges]) {
        self.group.settle(queue, ranges);
    }

    fn change(&mut self, changes: &[Change]) {
        self.changes.fetch_add(changes.len(), Ordering::SeqCst);
        self.group.change(changes);
    }

    fn topology(&mut self, vhost: &Name, change: TopologyChange<'_>) {
        self.group.topology(vhost, change);
    }

    fn submit(&mut self, durability: Durability, waiter: Option<(&Arc<dyn Written>, u64)>) {
        self.group.submit(durability, waiter);
    }
}
