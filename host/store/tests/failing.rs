//! Whoever watches a store hears of writes and syncs that fail, whether anybody asks or not.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::{QUEUE, Told, commit, content, small, until};
use leveret_store::{
    Damaged, Done, Group, Health, Store, Sync, Watch,
    disk::sim::{Faults, SimDisk},
};
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct Watching(Mutex<Vec<String>>);

impl Watching {
    fn heard(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Watch for Watching {
    fn relieved(&self) {
        self.0.lock().unwrap().push("well".into());
    }

    fn failing(&self, why: &str) {
        self.0.lock().unwrap().push(why.into());
    }

    fn damaged(&self, _: &Damaged) {}

    fn set_aside(&self, _: &str) {}
}

#[test]
fn a_sync_that_fails_is_told_and_so_is_that_all_is_well_again() {
    let disk = SimDisk::new(1);
    let (store, _) = Store::open(Arc::new(disk.clone()), small()).unwrap();
    let watching = Arc::new(Watching::default());
    store.watch(watching.clone());
    let mut group = Group::default();
    group.create(QUEUE);
    commit(&store, &mut group, Sync::Always).unwrap();
    assert_eq!(watching.heard(), [""; 0]);
    disk.set_faults(Faults { sync: 1024, ..Faults::default() });
    let told = Arc::new(Told::default());
    let done: Arc<dyn Done> = told.clone();
    group.enqueue(&[&content(1)], false, &[(QUEUE, 1)]);
    store.submit(&mut group, Sync::Always, Some((&done, 0))).unwrap();
    until("it is told", || !watching.heard().is_empty());
    let heard = watching.heard();
    assert!(heard.len() == 1 && heard[0].contains("sync of segment-"), "{heard:?}");
    assert!(!told.is_told(0), "nothing is confirmed meanwhile");
    disk.set_faults(Faults::default());
    assert_eq!(told.wait(0), Ok(()));
    until("that it is well is told", || watching.heard().last().is_some_and(|last| last == "well"));
    assert_eq!(store.health(), Health::Well);
}
