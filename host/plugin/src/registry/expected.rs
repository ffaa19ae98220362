//! Plugins that exchanges from before the broker's start wait for: which plugin provided their type is known from what is
//! kept of its versions, so that what the operator says of it holds before it is there, and also if it does not come.
//!
//! A file that is there and was not looked at yet is coming: messages to its exchanges wait for it, for
//! [`COMING_MAX`] at most, unless another type stands in for it.

use super::{LoadError, Registry, kept::KeptVersions, slots::Parked};
use crate::{
    policy::{FailurePolicy, PluginPolicy},
    scope::Scope,
};
use hashbrown::HashMap;
use leveret_broker::port::Wake;
use leveret_model::Name;
use parking_lot::Mutex;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// How long messages wait for a plugin that is being compiled or asked about its exchanges.
pub const COMING_MAX: Duration = Duration::from_secs(60);

/// The plugins that provided types before the start, by their scope.
#[derive(Default)]
pub(super) struct Expected {
    scopes: Mutex<HashMap<Scope, Vec<Plugin>>>,
    /// How many are coming.
    coming: AtomicUsize,
    /// Who waits for one of them.
    waiting: Mutex<Vec<Arc<dyn Wake>>>,
}

struct Plugin {
    name: String,
    types: Vec<Name>,
    seen: Seen,
}

/// What is known of the file of a plugin.
#[derive(Clone)]
pub(super) enum Seen {
    /// It was not there.
    NotThere,
    /// It is there since then, and was not looked at yet.
    Coming(Instant),
    /// It is not taken.
    Refused(LoadError),
    /// It serves.
    Serves,
}

/// The plugin that a type waits for in a virtual host.
pub(super) struct Missing {
    pub(super) plugin: String,
    pub(super) policy: Arc<PluginPolicy>,
    pub(super) seen: Seen,
}

impl Missing {
    /// Why it does not serve, for people to read.
    pub(super) fn why(&self) -> String {
        let plugin = &self.plugin;
        match &self.seen {
            _ if !self.policy.enabled => format!("its plugin {plugin} is switched off"),
            Seen::NotThere => format!("its plugin {plugin} is not there"),
            Seen::Coming(_) => format!("its plugin {plugin} is still being put into service"),
            Seen::Refused(error) => format!("its plugin {plugin} was {error}"),
            Seen::Serves => format!("its plugin {plugin} does not provide it any more"),
        }
    }

    /// Whether messages wait for it.
    fn is_waited_for(&self) -> bool {
        matches!(self.seen, Seen::Coming(since) if since.elapsed() < COMING_MAX)
            && self.policy.enabled
            && !matches!(self.policy.on_failure, FailurePolicy::Fallback(_))
    }
}

impl Expected {
    /// Reads what is kept of a scope, once.
    fn load(&self, kept: Option<&KeptVersions>, scope: &Scope) {
        self.scopes.lock().entry(scope.clone()).or_insert_with(|| {
            let provided = kept.map(|kept| kept.provided(scope)).unwrap_or_default();
            let plugin = |(name, types)| Plugin { name, types, seen: Seen::NotThere };
            provided.into_iter().map(plugin).collect()
        });
    }

    /// The plugins of a scope that provided a type.
    fn providers(&self, scope: &Scope, type_name: &[u8]) -> Vec<(String, Seen)> {
        let scopes = self.scopes.lock();
        let plugins = scopes.get(scope).into_iter().flatten();
        let provides = |plugin: &&Plugin| plugin.types.iter().any(|name| name.as_bytes() == type_name);
        plugins.filter(provides).map(|plugin| (plugin.name.clone(), plugin.seen.clone())).collect()
    }

    /// From now on that is known of a plugin's file. Whoever waits looks again.
    pub(super) fn note(&self, scope: &Scope, plugin: &str, seen: Seen) {
        let mut scopes = self.scopes.lock();
        let Some(known) = scopes.get_mut(scope).and_then(|all| all.iter_mut().find(|it| it.name == plugin))
        else {
            return;
        };
        // It serves until it is gone, whatever else comes.
        if matches!((&known.seen, &seen), (Seen::Serves, Seen::Coming(_) | Seen::Refused(_))) {
            return;
        }
        known.seen = seen;
        let all = scopes.values().flatten();
        let coming = all.filter(|plugin| matches!(plugin.seen, Seen::Coming(_))).count();
        self.coming.store(coming, Ordering::SeqCst);
        drop(scopes);
        self.wake();
    }

    /// Whoever waits looks again.
    pub(super) fn wake(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        waiting.iter().for_each(|waker| waker.wake());
    }
}

impl Registry {
    /// Learns what provided types of a virtual host's exchanges before the start.
    pub(super) fn expect(&self, vhost: &Name) {
        for scope in [Scope::Vhost(vhost.clone()), Scope::Global] {
            self.expected.load(self.kept.as_ref(), &scope);
        }
    }

    /// The file of a plugin is there, or is another one, and will be looked at.
    pub fn is_coming(&self, scope: &Scope, path: &Path) {
        self.expected.note(scope, &super::plugin_of(path), Seen::Coming(Instant::now()));
    }

    /// What provided a type of a virtual host before the start.
    pub(super) fn missing(&self, vhost: &Name, type_name: &[u8]) -> Option<Missing> {
        [Scope::Vhost(vhost.clone()), Scope::Global].iter().find_map(|scope| {
            let providers = self.expected.providers(scope, type_name).into_iter();
            let mut missing = providers.map(|(plugin, seen)| {
                let policy = self.policies.of(scope, Some(vhost), &plugin);
                Missing { plugin, policy, seen }
            });
            missing.find(|it| it.policy.allowed)
        })
    }

    /// Why exchanges of a type are parked.
    pub(super) fn why_parked(&self, vhost: &Name, type_name: &[u8], parked: &Parked) -> Arc<str> {
        let missing = parked.from_before.then(|| self.missing(vhost, type_name)).flatten();
        missing.map_or_else(|| parked.why.clone(), |missing| missing.why().into())
    }

    /// What becomes of their messages meanwhile.
    pub(super) fn policy_while_parked(
        &self,
        vhost: &Name,
        type_name: &[u8],
        parked: &Parked,
    ) -> FailurePolicy {
        let missing = parked.from_before.then(|| self.missing(vhost, type_name)).flatten();
        missing.map_or_else(|| parked.on_failure.clone(), |missing| missing.policy.on_failure.clone())
    }

    /// Whether messages wait for the plugin of a type; then the waker is called when it is time to look again.
    pub(crate) fn waits_for_plugin(&self, vhost: &Name, type_name: &[u8], waker: &Arc<dyn Wake>) -> bool {
        let waits = || {
            self.expected.coming.load(Ordering::SeqCst) > 0
                && self.slots.read().parked(vhost, type_name).is_some_and(|parked| parked.from_before)
                && self.missing(vhost, type_name).is_some_and(|missing| missing.is_waited_for())
        };
        if !waits() {
            return false;
        }
        self.expected.waiting.lock().push(waker.clone());
        if !waits() {
            // It came just now.
            self.expected.wake();
        }
        true
    }
}
