//! What others may wait for is not held while the store waits itself, or calls somebody.

use super::world;
use crate::{
    Done, Failed, Group, QueueId, Sync,
    disk::{Disk, File, sim::SimDisk},
    error::DiskError,
    journal::Core,
    store,
};
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock, Weak};

/// Whether locks were free when they were looked at.
#[derive(Default)]
struct Watch {
    core: OnceLock<Weak<Core>>,
    seen: Mutex<Vec<bool>>,
}

impl Watch {
    fn look(&self, is_free: impl FnOnce(&Core) -> bool) {
        let core = self.core.get().and_then(Weak::upgrade);
        self.seen.lock().extend(core.map(|core| is_free(&core)));
    }
}

impl Done for Watch {
    fn done(&self, _: u64, outcome: Result<(), Failed>) {
        assert_eq!(outcome, Ok(()));
        self.look(|core| core.writer.try_lock().is_some() && core.flight.try_lock().is_some());
    }
}

/// A disk that looks when names are synced.
struct Watched(SimDisk, Arc<Watch>);

impl Disk for Watched {
    fn list(&self) -> Result<Vec<String>, DiskError> {
        self.0.list()
    }

    fn create(&self, name: &str, bytes: u64) -> Result<Arc<dyn File>, DiskError> {
        self.0.create(name, bytes)
    }

    fn open(&self, name: &str) -> Result<Arc<dyn File>, DiskError> {
        self.0.open(name)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.0.remove(name)
    }

    fn sync_names(&self) -> Result<(), DiskError> {
        self.1.look(|core| core.segments.try_lock().is_some() && core.index.try_lock().is_some());
        self.0.sync_names()
    }
}

#[test]
fn nobody_is_told_under_a_lock() {
    for sync in [Sync::Always, Sync::Never] {
        let (core, mut keeper, _) = store::open(Arc::new(SimDisk::new(1)), world::config()).unwrap();
        let watch = Arc::new(Watch::default());
        watch.core.set(Arc::downgrade(&core)).unwrap();
        let done: Arc<dyn Done> = watch.clone();
        let mut group = Group::default();
        group.create(QueueId(1));
        core.submit(&mut group, sync, Some((&done, 1)), 0).unwrap();
        while !core.write_step(0) {
            core.keep_step(&mut keeper, 0);
        }
        super::sync_once(&core, 0);
        assert_eq!(*watch.seen.lock(), [true], "{sync:?}");
    }
}

#[test]
fn nobody_waits_for_names_to_be_synced() {
    let watch = Arc::new(Watch::default());
    let disk = Arc::new(Watched(SimDisk::new(1), watch.clone()));
    let (core, mut keeper, _) = store::open(disk, world::config()).unwrap();
    watch.core.set(Arc::downgrade(&core)).unwrap();
    let mut group = Group::default();
    group.create(QueueId(1));
    for sequence in 0..40 {
        group.enqueue(&[&[7; 9000]], false, &[(QueueId(1), sequence)]);
        core.submit(&mut group, Sync::Always, None, 0).unwrap();
        group.clear();
        while !core.write_step(0) {
            core.keep_step(&mut keeper, 0);
        }
        super::sync_once(&core, 0);
    }
    let seen = watch.seen.lock();
    assert!(seen.len() > 5 && seen.iter().all(|free| *free), "{seen:?}");
}
