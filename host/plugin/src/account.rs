//! What the host knows of a plugin in a virtual host, over all its versions and workers: what its
//! state takes, its metrics, what was counted.

use crate::{
    capability::Metrics,
    policy::{PluginPolicy, Policies},
    scope::Scope,
    state::Usage,
    version::Version,
};
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
    /// What held when the account was made; whether it is switched off is asked elsewhere.
    policy: Arc<PluginPolicy>,
    vhost: Name,
    state: Arc<Usage>,
    metrics: Metrics,
    emitted: AtomicU64,
    drops: Mutex<HashMap<Arc<str>, u64, foldhash::fast::RandomState>>,
}

/// The accounts of all plugins.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    policies: Arc<Policies>,
    by_place: RwLock<HashMap<(Scope, Name, String), Arc<Account>, foldhash::fast::RandomState>>,
}

impl Account {
    pub(crate) fn plugin(&self) -> &str {
        &self.policy.plugin
    }

    /// What it may do, and how much of it.
    pub(crate) fn policy(&self) -> &PluginPolicy {
        &self.policy
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
        self.policy.random_seed
    }

    /// How many lines it may log in a second.
    pub(crate) fn log_lines_per_second_max(&self) -> u32 {
        self.policy.limits.log_lines_per_second_max
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
    /// Accounts with the limits of these policies.
    pub(crate) fn new(policies: Arc<Policies>) -> Self {
        Self { policies, by_place: RwLock::default() }
    }

    /// The account for an instance that serves a virtual host. A built-in's serves all of them, so
    /// nothing of it is one virtual host's.
    pub(crate) fn of_instance(&self, version: &Version, vhost: &Name) -> Arc<Account> {
        let vhost = if version.code.is_shared() { &Name::EMPTY } else { vhost };
        self.of(&version.scope, vhost, &version.code.plugin)
    }

    /// The account of a plugin in a virtual host; with an empty name, in none of them.
    pub(crate) fn of(&self, scope: &Scope, vhost: &Name, plugin: &str) -> Arc<Account> {
        let key = (scope.clone(), vhost.clone(), String::from(plugin));
        if let Some(account) = self.by_place.read().get(&key) {
            return account.clone();
        }
        let make = || {
            let policy = self.policies.of(scope, Some(vhost).filter(|vhost| !vhost.is_empty()), plugin);
            let limits = &policy.limits;
            Arc::new(Account {
                vhost: vhost.clone(),
                state: Arc::new(Usage::new(limits.state_bytes_max, limits.state_entries_max)),
                metrics: Metrics::new(limits.metrics_max),
                policy,
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
        let account = Accounts::default().of(&Scope::Global, &Name::from_static("/"), "p");
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
