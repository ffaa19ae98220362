//! A store whose disk can fail.

use leveret_broker::{
    Vhost,
    store::{Change, StateChange, StateHolder, Store, StoreFailure},
};
use std::sync::{Arc, Mutex};

/// What was handed over, and how it answers next.
#[derive(Default)]
pub struct Disk(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    groups: Vec<Vec<String>>,
    full: bool,
    /// A queue, and how many messages it had when each group came.
    watched: Option<(Arc<Vhost>, &'static str)>,
    seen: Vec<u64>,
}

impl Disk {
    /// From now on nothing is taken, or everything again.
    pub fn is_full(&self, full: bool) {
        self.0.lock().unwrap().full = full;
    }

    /// Notes how many messages that queue has when a group comes.
    pub fn watch(&self, vhost: &Arc<Vhost>, queue: &'static str) {
        self.0.lock().unwrap().watched = Some((vhost.clone(), queue));
    }

    /// The groups that were taken since the last time: the keys of each.
    pub fn groups(&self) -> Vec<Vec<String>> {
        std::mem::take(&mut self.0.lock().unwrap().groups)
    }

    /// What the watched queue had.
    pub fn seen(&self) -> Vec<u64> {
        self.0.lock().unwrap().seen.clone()
    }
}

impl Store for Disk {
    fn keeps(&self) -> bool {
        true
    }

    fn append(&self, group: &[Change]) -> Result<(), StoreFailure> {
        let mut inner = self.0.lock().unwrap();
        if inner.full {
            return Err(StoreFailure(Arc::from("no space left on the disk")));
        }
        let seen = inner.watched.as_ref().and_then(|(vhost, queue)| vhost.queue(queue.as_bytes()));
        inner.seen.extend(seen.map(|queue| queue.status().messages));
        let keys = group.iter().map(|change| match &change.change {
            StateChange::Set { key, .. } => String::from_utf8(key.to_vec()).unwrap(),
            other => format!("{other:?}"),
        });
        inner.groups.push(keys.collect());
        Ok(())
    }

    fn load(&self, _: &StateHolder) -> Result<Vec<StateChange>, StoreFailure> {
        Ok(Vec::new())
    }
}

/// That a key has a value now.
pub fn set(key: String) -> Change {
    let holder =
        StateHolder { vhost: super::name("/"), exchange: super::name("x"), layer: Default::default() };
    let change = StateChange::Set { key: key.into_bytes().into(), value: Arc::from(&b""[..]), end_ms: None };
    Change { holder: Arc::new(holder), change }
}
