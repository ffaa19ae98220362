//! What holds for each plugin in each virtual host, made from the rules and the switches.

use super::{
    capability::{Capability, Grants},
    failure::{Attachment, FailurePolicy},
    limits::Limits,
    rules::{PolicyError, PolicyRules},
    totals::{self, REMEMBERED_BYTES_MAX, Totals},
};
use crate::scope::{CORE_TYPES, Scope};
use hashbrown::{HashMap, HashSet};
use leveret_model::Name;
use parking_lot::RwLock;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// What holds for a plugin in a virtual host. Never changes: after a switch there is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginPolicy {
    /// The plugin's name: its file's without `.wasm`, a shipped one's type's.
    pub plugin: String,
    /// The virtual host; `None` where the policy is of no particular one.
    pub vhost: Option<Name>,
    /// The virtual host may use it at all.
    pub allowed: bool,
    /// It is not switched off.
    pub enabled: bool,
    /// What it may use.
    pub grants: Grants,
    /// How much it may use.
    pub limits: Limits,
    /// What becomes of messages when it fails.
    pub on_failure: FailurePolicy,
    /// Makes its random numbers repeatable.
    pub random_seed: Option<u64>,
}

/// What a kill switch switches off.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Switch {
    /// All plugins, but for the core exchange types.
    All,
    /// Every plugin of that name, in all virtual hosts.
    Plugin(String),
    /// A plugin in one virtual host.
    PluginInVhost {
        /// The plugin's name.
        plugin: String,
        /// The virtual host.
        vhost: Name,
    },
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all plugins"),
            Self::Plugin(plugin) => write!(f, "plugin '{plugin}'"),
            Self::PluginInVhost { plugin, vhost } => write!(f, "plugin '{plugin}' in vhost '{vhost}'"),
        }
    }
}

/// What holds for each plugin in each virtual host.
///
/// A look-up takes a lock, so nobody looks up for each message: who keeps a policy notes the
/// [`Self::generation`] before, and looks up again when it has changed.
#[derive(Debug, Default)]
pub struct Policies {
    rules: PolicyRules,
    /// What the rules switch off.
    configured: HashSet<Switch>,
    state: RwLock<State>,
    generation: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    off: HashSet<Switch>,
    /// Made when first asked for; empty after each switch.
    made: HashMap<Key, Arc<PluginPolicy>>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    scope: Scope,
    vhost: Option<Name>,
    plugin: String,
}

/// Finds a [`Key`] without making one.
#[derive(Hash)]
struct KeyRef<'a> {
    scope: &'a Scope,
    vhost: Option<&'a Name>,
    plugin: &'a str,
}

impl hashbrown::Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self.scope == key.scope && self.vhost == key.vhost.as_ref() && self.plugin == key.plugin
    }
}

impl Policies {
    /// The policies of these rules.
    ///
    /// # Errors
    /// [`PolicyRules::check`].
    pub fn new(rules: PolicyRules) -> Result<Self, PolicyError> {
        rules.check()?;
        let mut off = HashSet::new();
        for (plugin, said) in &rules.plugins {
            if said.enabled == Some(false) {
                off.insert(Switch::Plugin(plugin.clone()));
            }
        }
        for (vhost, there) in &rules.vhosts {
            for (plugin, _) in there.plugins.iter().filter(|(_, said)| said.enabled == Some(false)) {
                off.insert(Switch::PluginInVhost { plugin: plugin.clone(), vhost: vhost.clone() });
            }
        }
        let (configured, state) = (off.clone(), RwLock::new(State { off, made: HashMap::new() }));
        Ok(Self { rules, configured, state, generation: AtomicU64::new(0) })
    }

    /// What holds for the plugin of that scope and name in a virtual host; with `None`, wherever
    /// nothing else is said.
    #[must_use]
    pub fn of(&self, scope: &Scope, vhost: Option<&Name>, plugin: &str) -> Arc<PluginPolicy> {
        let key = KeyRef { scope, vhost, plugin };
        if let Some(made) = self.state.read().made.get(&key) {
            return made.clone();
        }
        let mut state = self.state.write();
        let policy = Arc::new(self.make(&state.off, scope, vhost, plugin));
        let key = Key { scope: scope.clone(), vhost: vhost.cloned(), plugin: String::from(plugin) };
        state.made.insert(key, policy.clone());
        policy
    }

    /// What all plugins of a virtual host may have together.
    #[must_use]
    pub fn totals(&self, vhost: &Name) -> Totals {
        self.rules.vhosts.get(vhost).map(|there| there.totals.totals()).unwrap_or_default()
    }

    /// The remembered answers of all virtual hosts together, in bytes.
    #[must_use]
    pub fn remembered_bytes_max(&self) -> usize {
        self.rules.remembered_mib.map_or(REMEMBERED_BYTES_MAX, totals::bytes)
    }

    /// What the operator said.
    pub(crate) fn rules(&self) -> &PolicyRules {
        &self.rules
    }

    /// Raised after each change that can be read.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// What is switched off now, in no order.
    #[must_use]
    pub fn disabled(&self) -> Vec<Switch> {
        self.state.read().off.iter().cloned().collect()
    }

    /// What is switched off though the rules do not say so, and what is on though they do; each in an order
    /// that stays.
    pub(crate) fn switched(&self) -> (Vec<Switch>, Vec<Switch>) {
        let state = self.state.read();
        let mut off: Vec<Switch> = state.off.difference(&self.configured).cloned().collect();
        let mut on: Vec<Switch> = self.configured.difference(&state.off).cloned().collect();
        off.sort();
        on.sort();
        (off, on)
    }

    /// Switches off. Who serves exchanges is told by the registry
    /// ([`Registry::disable`](crate::Registry::disable)), which calls this. Gives whether it was on.
    pub(crate) fn disable(&self, switch: &Switch) -> bool {
        let mut state = self.state.write();
        let changed = state.off.insert(switch.clone());
        self.changed(state, changed)
    }

    /// Takes a [`Self::disable`] back; other switches that are off stay off. Gives whether it was off.
    pub(crate) fn enable(&self, switch: &Switch) -> bool {
        let mut state = self.state.write();
        let changed = state.off.remove(switch);
        self.changed(state, changed)
    }

    /// Forgets what was switched for a virtual host alone: from now on the rules hold there.
    pub(crate) fn forget_vhost(&self, vhost: &Name) {
        let is_its =
            |switch: &Switch| matches!(switch, Switch::PluginInVhost { vhost: of, .. } if of == vhost);
        let mut state = self.state.write();
        let before = state.off.clone();
        state.off.retain(|switch| !is_its(switch));
        state.off.extend(self.configured.iter().filter(|switch| is_its(switch)).cloned());
        let changed = state.off != before;
        self.changed(state, changed);
    }

    fn changed(&self, mut state: parking_lot::RwLockWriteGuard<'_, State>, changed: bool) -> bool {
        if changed {
            state.made.clear();
            self.generation.fetch_add(1, Ordering::Release);
        }
        changed
    }

    /// Whether a plugin that is being loaded fits what is said of it: what becomes of messages when it
    /// fails must make sense for what it is, and its memory at the start be within its limit.
    ///
    /// # Errors
    /// What does not fit, and where. A virtual host where a global plugin does not fit is no error.
    pub(crate) fn check_load(
        &self,
        scope: &Scope,
        plugin: &str,
        attachment: Attachment,
        memory_bytes: u64,
    ) -> Result<(), PolicyError> {
        let vhost = match scope {
            Scope::Vhost(vhost) => Some(vhost),
            Scope::Shipped | Scope::Global => None,
        };
        self.check_fit(scope, vhost, plugin, attachment, memory_bytes)?;
        if vhost.is_none() {
            for vhost in self.rules.vhosts.keys() {
                if let Err(error) = self.check_fit(scope, Some(vhost), plugin, attachment, memory_bytes) {
                    tracing::warn!(target: "leveret::plugin", plugin, "{error}; it will not serve there");
                }
            }
        }
        Ok(())
    }

    /// Whether so many instances of a plugin, with the memory that they have from the start, fit into what all
    /// of a virtual host may have together.
    ///
    /// # Errors
    /// If they do not. A virtual host where those of a global plugin do not fit is no error.
    pub(crate) fn check_together(
        &self,
        scope: &Scope,
        plugin: &str,
        bytes: u64,
        instances: usize,
    ) -> Result<(), PolicyError> {
        let check = |vhost: Option<&Name>| {
            let bytes_max =
                vhost.map_or_else(Totals::default, |vhost| self.totals(vhost)).memory_bytes_max as u64;
            if bytes.saturating_mul(instances as u64) <= bytes_max || !self.of(scope, vhost, plugin).allowed {
                return Ok(());
            }
            let (plugin, vhost) = (String::from(plugin), vhost.cloned());
            Err(PolicyError::MemoryTogether { plugin, vhost, bytes, instances, bytes_max })
        };
        if let Scope::Vhost(vhost) = scope {
            return check(Some(vhost));
        }
        check(None)?;
        for error in self.rules.vhosts.keys().filter_map(|vhost| check(Some(vhost)).err()) {
            tracing::warn!(target: "leveret::plugin", plugin, "{error}; it will fail there");
        }
        Ok(())
    }

    fn check_fit(
        &self,
        scope: &Scope,
        vhost: Option<&Name>,
        plugin: &str,
        attachment: Attachment,
        memory_bytes: u64,
    ) -> Result<(), PolicyError> {
        let policy = self.of(scope, vhost, plugin);
        let bytes_max = policy.limits.memory_bytes_max as u64;
        if !policy.allowed {
            return Ok(());
        }
        if memory_bytes > bytes_max {
            let (plugin, vhost) = (String::from(plugin), vhost.cloned());
            return Err(PolicyError::MemoryAtStart { plugin, vhost, bytes: memory_bytes, bytes_max });
        }
        if !policy.on_failure.suits(attachment) {
            let (plugin, vhost) = (String::from(plugin), vhost.cloned());
            let on_failure = policy.on_failure.clone();
            return Err(PolicyError::Unsuitable { plugin, vhost, attachment, on_failure });
        }
        Ok(())
    }

    fn make(&self, off: &HashSet<Switch>, scope: &Scope, vhost: Option<&Name>, plugin: &str) -> PluginPolicy {
        let core = *scope == Scope::Shipped && CORE_TYPES.contains(&plugin);
        let global = !matches!(scope, Scope::Vhost(_));
        let allow =
            vhost.and_then(|vhost| self.rules.vhosts.get(vhost)).and_then(|there| there.allow.as_ref());
        let mut policy = PluginPolicy {
            plugin: String::from(plugin),
            vhost: vhost.cloned(),
            allowed: core || !global || allow.is_none_or(|allow| allow.contains(plugin)),
            enabled: core || !is_off(off, vhost, plugin),
            // What comes with the broker may do what it was made for, unless somebody says otherwise.
            grants: if *scope == Scope::Shipped {
                Capability::ALL.into_iter().collect()
            } else {
                Grants::NONE
            },
            // Ceilings are for what can be chosen; a virtual host cannot do without the core types.
            limits: self.rules.limits(global, vhost.filter(|_| !core), plugin),
            on_failure: FailurePolicy::default(),
            random_seed: None,
        };
        for said in self.rules.of(global, vhost, plugin) {
            policy.grants = said.grants.unwrap_or(policy.grants);
            policy.random_seed = said.random_seed.or(policy.random_seed);
            if let Some(on_failure) = &said.on_failure {
                policy.on_failure = on_failure.clone();
            }
        }
        policy
    }
}

fn is_off(off: &HashSet<Switch>, vhost: Option<&Name>, plugin: &str) -> bool {
    off.iter().any(|switch| match switch {
        Switch::All => true,
        Switch::Plugin(name) => name == plugin,
        Switch::PluginInVhost { plugin: name, vhost: there } => name == plugin && vhost == Some(there),
    })
}
