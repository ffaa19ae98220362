//! The virtual hosts of a broker: those that the configuration names, and those that were made while it ran, which its
//! store knows.

use crate::{
    config::{VhostConfig, VhostLimits},
    live::Live,
    store::{DiskStore, VhostRecord},
    watch::Folders,
    worker::Order,
};
use leveret_access::Done;
use leveret_broker::{ConnectionId, MemoryAccount, Vhost, port::Router, queue::QueueKind, store::Store};
use leveret_model::{Name, Refusal};
use leveret_plugin::Scope;
use parking_lot::{Mutex, RwLock};
use std::{
    collections::{HashMap, HashSet},
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::sync::mpsc::UnboundedSender;

/// How long a virtual host that is deleted waits for its connections to end.
const END_MAX: Duration = Duration::from_secs(30);
/// As whom a virtual host's queues are deleted with it: no connection's number.
const NOBODY: ConnectionId = ConnectionId(0);

/// A virtual host with what was said of it.
#[derive(Clone)]
pub struct Place {
    /// The virtual host.
    pub vhost: Arc<Vhost>,
    /// What was said of it while the broker ran.
    pub record: VhostRecord,
    /// What the configuration says of it.
    queue_type: QueueKind,
    /// The limits that the configuration sets: they are changed there alone.
    declared: VhostLimits,
}

impl Place {
    /// Of which type queues are that name none.
    #[must_use]
    pub fn queue_type(&self) -> QueueKind {
        self.record.queue_type.unwrap_or(self.queue_type)
    }

    /// How much there may be in it: what the configuration says holds against what was said while the broker ran.
    #[must_use]
    pub fn limits(&self) -> VhostLimits {
        VhostLimits {
            connections_max: self.declared.connections_max.or(self.record.connections_max),
            queues_max: self.declared.queues_max.or(self.record.queues_max),
        }
    }

    /// The limits that are changed in the configuration alone.
    #[must_use]
    pub fn declared_limits(&self) -> VhostLimits {
        self.declared
    }
}

/// All virtual hosts.
pub struct Vhosts {
    all: RwLock<HashMap<Name, Place>>,
    /// Those that are being deleted. Held while one is made.
    changing: Mutex<HashSet<Name>>,
    store: DiskStore,
    memory: Arc<MemoryAccount>,
    retry_ms_max: u64,
    /// How those are that are made.
    usual: Usual,
    /// Who is told of what comes and goes; set once they are there.
    keepers: Mutex<Option<Keepers>>,
    gone: Mutex<Gone>,
}

/// How often queues were declared, made and deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueChurn {
    /// Declarations, of queues that were there too.
    pub declared: u64,
    /// Those that made one.
    pub created: u64,
    /// Deletions.
    pub deleted: u64,
}

/// What is counted of virtual hosts that are deleted, so that sums go up alone.
#[derive(Default)]
struct Gone {
    churn: QueueChurn,
    /// Those whose queues are being deleted.
    leaving: Vec<Arc<Vhost>>,
}

impl QueueChurn {
    fn add(&mut self, vhost: &Vhost) {
        let traffic = vhost.traffic();
        self.declared += traffic.queues_declared.get();
        self.created += traffic.queues_created.get();
        self.deleted += traffic.queues_deleted.get();
    }
}

/// What a virtual host has that the configuration says nothing of.
#[derive(Clone, Debug)]
pub struct Usual {
    /// Within this folder it has one for its plugins.
    pub data_dir: PathBuf,
    /// When its messages count as safe.
    pub durability: crate::store::VhostDurability,
}

/// Who is told of virtual hosts that come and go.
pub struct Keepers {
    /// The workers, whose housekeepers look after them.
    pub workers: Vec<UnboundedSender<Order>>,
    /// Who watches the folders of their plugins.
    pub folders: Folders,
}

/// Why a virtual host is not made or deleted.
#[derive(Debug)]
pub enum VhostRefused {
    /// There is none.
    NotThere,
    /// The configuration names it.
    Configured,
    /// For this reason.
    Failed(String),
}

impl Usual {
    /// How a virtual host of that name is.
    #[must_use]
    pub fn of(&self, name: &Name) -> VhostConfig {
        let folder = leveret_plugin::folder::name_of(name);
        let plugins_dir = self.data_dir.join("vhosts").join(folder).join("plugins");
        VhostConfig {
            name: name.clone(),
            plugins_dir,
            durability: self.durability.clone(),
            queue_type: QueueKind::default(),
            limits: VhostLimits::default(),
        }
    }
}

impl Vhosts {
    /// None yet.
    #[must_use]
    pub fn new(store: DiskStore, memory: Arc<MemoryAccount>, retry_ms_max: u64, usual: Usual) -> Self {
        let (all, changing, keepers) = (RwLock::default(), Mutex::default(), Mutex::default());
        Self { all, changing, store, memory, retry_ms_max, usual, keepers, gone: Mutex::default() }
    }

    /// From now on they are told of what comes and goes.
    pub fn tell(&self, keepers: Keepers) {
        *self.keepers.lock() = Some(keepers);
    }

    /// The virtual host of a name.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<Place> {
        self.all.read().get(name).cloned()
    }

    /// How queues came and went in all virtual hosts, those that are deleted too.
    #[must_use]
    pub fn queue_churn(&self) -> QueueChurn {
        // Nobody sees a virtual host in both places, or in none.
        let gone = self.gone.lock();
        let mut churn = gone.churn;
        let all = self.all.read();
        let vhosts = all.values().map(|place| &place.vhost).chain(&gone.leaving);
        vhosts.for_each(|vhost| churn.add(vhost));
        churn
    }

    /// All, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Place> {
        let mut all: Vec<Place> = self.all.read().values().cloned().collect();
        all.sort_unstable_by(|a, b| a.vhost.name().cmp(b.vhost.name()));
        all
    }

    /// Whether there may be one more queue in a virtual host.
    ///
    /// # Errors
    /// [`Refusal::QueueLimit`].
    pub fn check_queues(&self, name: &Name, queue: &Name) -> Result<(), Refusal> {
        let all = self.all.read();
        let Some(place) = all.get(name) else { return Ok(()) };
        match place.limits().queues_max {
            Some(limit) if place.vhost.queue_count() as u64 >= limit => {
                Err(Refusal::QueueLimit { queue: queue.clone(), vhost: name.clone(), limit })
            }
            _ => Ok(()),
        }
    }

    /// Of which type queues of a virtual host are that name none.
    #[must_use]
    pub fn queue_type(&self, name: &Name) -> QueueKind {
        self.all.read().get(name).map(Place::queue_type).unwrap_or_default()
    }

    /// Makes one again that there was, or that is configured; what the store has of it is there again.
    ///
    /// # Errors
    /// The refusal of an exchange type.
    pub fn open(
        &self,
        config: &VhostConfig,
        record: VhostRecord,
        router: &mut dyn Router,
    ) -> Result<Arc<Vhost>, Refusal> {
        let its: Arc<dyn Store> = Arc::new(self.store.of_vhost(config.durability.clone()));
        let vhost = Vhost::kept_in(its, config.name.clone(), self.memory.clone(), router)?;
        vhost.set_retry_ms_max(self.retry_ms_max);
        let place =
            Place { vhost: vhost.clone(), record, queue_type: config.queue_type, declared: config.limits };
        self.all.write().insert(config.name.clone(), place);
        Ok(vhost)
    }

    /// Puts one that was made elsewhere.
    #[cfg(test)]
    pub(crate) fn put(&self, vhost: Arc<Vhost>) {
        let (record, queue_type, declared) = Default::default();
        let place = Place { vhost: vhost.clone(), record, queue_type, declared };
        self.all.write().insert(vhost.name().clone(), place);
    }

    /// Changes what is said of a virtual host; makes one that is not there, if `may_make`. True if it is new. `done` is told when that
    /// is kept.
    ///
    /// # Errors
    /// It is not there, cannot be made, or is not kept. Then `done` is not called.
    pub fn put_record(
        &self,
        (name, may_make): (&Name, bool),
        router: &mut dyn Router,
        change: impl FnOnce(&mut VhostRecord),
        done: Done,
    ) -> Result<bool, VhostRefused> {
        let changing = self.changing.lock();
        let failed = |why: String| VhostRefused::Failed(why);
        let before = self.get(name);
        if before.is_none() && !may_make {
            return Err(VhostRefused::NotThere);
        }
        if changing.contains(name) {
            return Err(failed(format!("virtual host '{name}' is being deleted; try again")));
        }
        let mut record = before.as_ref().map(|place| place.record.clone()).unwrap_or_default();
        change(&mut record);
        leveret_access::Keeper::admit(&self.store).map_err(failed)?;
        if before.is_none() {
            record.made = true;
            let config = self.usual.of(name);
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&config.plugins_dir);
            made.map_err(|error| failed(format!("{}: {error}", config.plugins_dir.display())))?;
            let vhost =
                self.open(&config, record.clone(), router).map_err(|error| failed(error.to_string()))?;
            if let Some(keepers) = &*self.keepers.lock() {
                keepers.folders.add(&Scope::Vhost(name.clone()), &config.plugins_dir);
                let count = keepers.workers.len().max(1);
                if let Some(worker) = keepers.workers.get(self.all.read().len() % count) {
                    // A worker that is gone has nothing to keep.
                    let _ = worker.send(Order::Keep(vhost));
                }
            }
        } else if let Some(place) = self.all.write().get_mut(name) {
            place.record = record.clone();
        }
        self.store.know_vhost(name, &record, done);
        Ok(before.is_none())
    }

    /// Begins to delete a virtual host: nobody enters it any more, and its connections end, which is waited for.
    ///
    /// # Errors
    /// It is not there, or the configuration names it, so that it would be there again after a restart.
    pub fn close(&self, name: &Name, live: &Live) -> Result<Arc<Vhost>, VhostRefused> {
        {
            let mut changing = self.changing.lock();
            let Place { record, .. } = self.get(name).ok_or(VhostRefused::NotThere)?;
            if !record.made {
                return Err(VhostRefused::Configured);
            }
            changing.insert(name.clone());
        }
        let place = {
            let mut gone = self.gone.lock();
            let place = self.all.write().remove(name);
            gone.leaving.extend(place.iter().map(|place| place.vhost.clone()));
            place
        };
        live.close_vhost(name);
        if !live.wait_until_left(name, END_MAX) {
            tracing::warn!("virtual host '{name}' is deleted, and connections to it do not end");
        }
        live.forget_vhost(name);
        place.map(|place| place.vhost).ok_or(VhostRefused::NotThere)
    }

    /// Deletes what is in a virtual host that was closed. `done` is told when it is gone from the store.
    pub fn delete(&self, vhost: &Vhost, router: &mut dyn Router, done: Done) {
        let name = vhost.name();
        if let Some(keepers) = &*self.keepers.lock() {
            keepers.folders.remove(&Scope::Vhost(name.clone()));
            for worker in &keepers.workers {
                let _ = worker.send(Order::Leave(name.clone()));
            }
        }
        for queue in vhost.queues() {
            // What goes is always taken; a queue of a connection that did not end goes with that.
            let _ = vhost.delete_queue(router, queue.name(), false, false, NOBODY);
        }
        for exchange in vhost.exchanges() {
            // The predeclared ones are refused, and go with the virtual host.
            let _ = vhost.delete_exchange(router, &exchange.spec.name, false);
        }
        {
            let mut gone = self.gone.lock();
            gone.churn.add(vhost);
            gone.leaving.retain(|leaving| !std::ptr::eq(&**leaving, vhost));
        }
        router.vhost_gone(name);
        self.store.forget_vhost(name, done);
        self.changing.lock().remove(name);
        tracing::info!("virtual host '{name}' is deleted");
    }
}
