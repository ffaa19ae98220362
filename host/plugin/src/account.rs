//! What the host knows of a plugin in a virtual host, over all its versions and workers: what its
//! state takes, its metrics, what was counted.

use crate::{capability::Metrics, policy, state::Usage};
use hashbrown::HashMap;
use leveret_model::Name;
use parking_lot::{Mutex, RwLock};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// How many different reasons of drops are told apart.
const DROP_REASONS_MAX: usize = 64;
/// What further ones are counted under.
const OTHER_REASONS: &str = "(other reasons)";

/// A plugin in a virtual host.
#[derive(Debug)]
pub(crate) struct Account {
    plugin: String,
    vhost: Name,
    state: Arc<Usage>,
    metrics: Metrics,
    random_seed: Option<u64>,
    log_lines_per_second_max: u32,
    emitted: AtomicU64,
    drops: Mutex<HashMap<Arc<str>, u64, foldhash::fast::RandomState>>,
}

/// The accounts of all plugins.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    by_place: RwLock<HashMap<(Name, String), Arc<Account>, foldhash::fast::RandomState>>,
}

impl Account {
    pub(crate) fn plugin(&self) -> &str {
        &self.plugin
    }

    pub(crate) fn vhost(&self) -> &Name {
        &self.vhost
    }

    /// What its key-value and message stores take.
    pub(crate) fn state(&self) -> &Arc<Usage> {
        &self.state
    }

    /// Its own metrics.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Makes its random numbers a fixed series.
    pub(crate) fn random_seed(&self) -> Option<u64> {
        self.random_seed
    }

    /// How many lines it may log in a second.
    pub(crate) fn log_lines_per_second_max(&self) -> u32 {
        self.log_lines_per_second_max
    }

    /// It emitted a message.
    pub(crate) fn count_emitted(&self) {
        self.emitted.fetch_add(1, Ordering::Relaxed);
    }

    /// It dropped messages for that reason.
    pub(crate) fn count_drops(&self, reason: Option<&Arc<str>>, count: u64) {
        let mut drops = self.drops.lock();
        let reason = reason.cloned().unwrap_or_else(|| Arc::from(""));
        let full = drops.len() >= DROP_REASONS_MAX && !drops.contains_key(&reason);
        let reason = if full { Arc::from(OTHER_REASONS) } else { reason };
        *drops.entry(reason).or_default() += count;
    }

    /// How many messages it dropped, by reason.
    pub(crate) fn drops(&self) -> Vec<(String, u64)> {
        let mut drops: Vec<_> =
            self.drops.lock().iter().map(|(reason, count)| (String::from(&**reason), *count)).collect();
        drops.sort();
        drops
    }
}

impl Accounts {
    /// The account of a plugin in a virtual host.
    pub(crate) fn of(&self, vhost: &Name, plugin: &str) -> Arc<Account> {
        let key = (vhost.clone(), String::from(plugin));
        if let Some(account) = self.by_place.read().get(&key) {
            return account.clone();
        }
        let make = || {
            Arc::new(Account {
                plugin: String::from(plugin),
                vhost: vhost.clone(),
                state: Arc::new(Usage::new(policy::STATE_BYTES_MAX, policy::STATE_ENTRIES_MAX)),
                metrics: Metrics::new(policy::METRICS_MAX),
                random_seed: None,
                log_lines_per_second_max: policy::LOG_LINES_MAX,
                emitted: AtomicU64::new(0),
                drops: Mutex::default(),
            })
        };
        self.by_place.write().entry(key).or_insert_with(make).clone()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Account>> {
        self.by_place.read().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_beyond_the_limit_are_counted_together() {
        let account = Accounts::default().of(&Name::from_static("/"), "p");
        for n in 0..DROP_REASONS_MAX + 3 {
            account.count_drops(Some(&Arc::from(format!("{n:03}"))), 1);
        }
        account.count_drops(Some(&Arc::from("000")), 1);
        account.count_drops(None, 1);
        let drops = account.drops();
        assert_eq!(drops.len(), DROP_REASONS_MAX + 1);
        assert!(drops.contains(&(String::from(OTHER_REASONS), 4)));
        assert!(drops.contains(&(String::from("000"), 2)));
    }
}
