//! What the plugins of a virtual host have together, against its totals, and those of all virtual hosts.

use crate::{
    memo::{BrokerRoom, VhostRoom},
    policy::Policies,
};
use hashbrown::HashMap;
use leveret_model::Name;
use parking_lot::Mutex;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// What plugins of a virtual host have together.
#[derive(Debug)]
pub(crate) struct Together {
    /// The memory of instances.
    pub(crate) memory: Arc<InstancesRoom>,
    /// Remembered answers.
    pub(crate) remembered: Arc<VhostRoom>,
}

/// What plugins of a virtual host have together at a time, and the most, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TogetherUse {
    /// Linear memories and tables of instances, but for those of the core types.
    pub memory_bytes: u64,
    /// The most of that.
    pub memory_bytes_max: u64,
    /// Remembered answers and verdicts.
    pub remembered_bytes: u64,
    /// The most of that.
    pub remembered_bytes_max: u64,
}

impl Together {
    /// What they have now.
    pub(crate) fn read(&self) -> TogetherUse {
        let (memory_bytes, memory_bytes_max) = self.memory.taken();
        TogetherUse {
            memory_bytes: memory_bytes as u64,
            memory_bytes_max: memory_bytes_max as u64,
            remembered_bytes: self.remembered.taken() as u64,
            remembered_bytes_max: self.remembered.bytes_max() as u64,
        }
    }
}

/// The memory of all instances of plugins in a virtual host.
#[derive(Debug)]
pub(crate) struct InstancesRoom {
    vhost: Name,
    bytes: AtomicUsize,
    bytes_max: usize,
}

impl InstancesRoom {
    /// Nothing yet, of so many bytes.
    pub(crate) fn new(vhost: Name, bytes_max: usize) -> Self {
        Self { vhost, bytes: AtomicUsize::new(0), bytes_max }
    }

    /// Takes bytes; false if there are not so many left.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let fits = self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= self.bytes_max;
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    /// Gives bytes back.
    pub(crate) fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// What is taken, and the most, in bytes.
    pub(crate) fn taken(&self) -> (usize, usize) {
        (self.bytes.load(Ordering::Relaxed), self.bytes_max)
    }

    /// The limit, and what to set, for people to read.
    pub(crate) fn limit(&self) -> String {
        format!(
            "is left of the {} MiB that all instances in vhost '{}' may have together (totals: memory-mib)",
            self.bytes_max >> 20,
            self.vhost
        )
    }
}

/// What plugins have together, by virtual host.
#[derive(Debug)]
pub(crate) struct AllTogether {
    policies: Arc<Policies>,
    remembered: Arc<BrokerRoom>,
    by_vhost: Mutex<HashMap<Name, Arc<Together>, foldhash::fast::RandomState>>,
}

impl AllTogether {
    pub(crate) fn new(policies: Arc<Policies>) -> Self {
        let remembered = Arc::new(BrokerRoom::new(policies.remembered_bytes_max()));
        Self { policies, remembered, by_vhost: Mutex::default() }
    }

    /// Remembered answers of all virtual hosts.
    pub(crate) fn remembered(&self) -> &Arc<BrokerRoom> {
        &self.remembered
    }

    /// What plugins of a virtual host have together; with an empty name, of none.
    pub(crate) fn of(&self, vhost: &Name) -> Arc<Together> {
        let make = || {
            let totals = self.policies.totals(vhost);
            let remembered = VhostRoom::new(&self.remembered, totals.remembered_bytes_max);
            let memory = InstancesRoom::new(vhost.clone(), totals.memory_bytes_max);
            Arc::new(Together { memory: Arc::new(memory), remembered: Arc::new(remembered) })
        };
        self.by_vhost.lock().entry(vhost.clone()).or_insert_with(make).clone()
    }
}

impl Default for AllTogether {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}
