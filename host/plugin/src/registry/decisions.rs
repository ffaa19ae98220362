//! What people decided about plugins while the broker ran, and that holds after a restart: what they switched
//! off and on, and which exchanges they keep on a version. Going back to a version is kept with the versions
//! themselves (`kept.rs`).
//!
//! Exchanges come after the broker's start: a pin of one that is not there yet waits for it, with its version
//! loaded as soon as a file of the plugin serves. Until that version is there such an exchange is parked, for
//! it is not to be served by another.

use super::{
    LoadError, Lookup, PinInfo, Registry, Stage,
    kept::PluginKey,
    pins::Pin,
    reload::{Examined, File},
};
use crate::{artifact::Digest, policy::Switch, scope::Scope, version::Version};
use leveret_broker::exchange::Exchange;
use leveret_model::Name;
use parking_lot::Mutex;
use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

/// What holds against the configuration, or beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    /// Switched off, though the configuration does not say so.
    pub off: Vec<Switch>,
    /// Switched on, though the configuration says otherwise.
    pub on: Vec<Switch>,
    /// Exchanges that stay on a version.
    pub pins: Vec<PinDecision>,
}

/// That an exchange stays on a version of its plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinDecision {
    /// The virtual host.
    pub vhost: Name,
    /// The exchange.
    pub exchange: Name,
    /// Its type.
    pub exchange_type: Name,
    /// For whom the plugin is there.
    pub scope: Scope,
    /// The plugin.
    pub plugin: String,
    /// Of the version's bytes.
    pub digest: Digest,
    /// The version as it described itself, for people.
    pub version: String,
}

/// Keeps decisions over a restart.
pub trait KeepDecisions: Send + Sync {
    /// Keeps these in place of those before, whole or not at all.
    ///
    /// # Errors
    /// Why they are not kept and what to do, for people to read.
    fn keep(&self, decisions: &Decisions) -> Result<(), String>;

    /// The file that they are kept in.
    fn place(&self) -> &Path;
}

/// Where decisions are kept.
#[derive(Default)]
pub(super) struct Decided {
    kept_by: OnceLock<Arc<dyn KeepDecisions>>,
    /// Held while they are written, so that the latest is what is there.
    writing: Mutex<Option<String>>,
    waiting: Mutex<Vec<Waiting>>,
}

/// A pin whose exchange is not there.
struct Waiting {
    pin: PinDecision,
    /// The version, or why it cannot be had; `None` until it was looked for.
    version: Option<Result<Arc<Version>, String>>,
}

impl Waiting {
    fn is_for(&self, vhost: &Name, exchange: &Name) -> bool {
        self.pin.vhost == *vhost && self.pin.exchange == *exchange
    }

    fn is_of(&self, exchange: &Exchange, type_name: &[u8]) -> bool {
        self.is_for(&exchange.vhost, &exchange.spec.name)
            && self.pin.exchange_type.as_bytes() == type_name
            && exchange.spec.type_name.as_bytes() == type_name
    }
}

impl Registry {
    /// Takes up what was decided before the broker's start, and keeps from now on what is decided there.
    pub(crate) fn take_up(&self, decisions: &Decisions, kept_by: Arc<dyn KeepDecisions>) {
        for switch in &decisions.off {
            self.policies.disable(switch);
        }
        for switch in &decisions.on {
            self.policies.enable(switch);
        }
        let waits = |pin: &PinDecision| Waiting { pin: pin.clone(), version: None };
        *self.decided.waiting.lock() = decisions.pins.iter().map(waits).collect();
        // It is taken up once.
        let _ = self.decided.kept_by.set(kept_by);
    }

    /// What is decided now.
    #[must_use]
    pub fn decisions(&self) -> Decisions {
        let (off, on) = self.policies.switched();
        let mut pins: Vec<PinDecision> =
            self.decided.waiting.lock().iter().map(|it| it.pin.clone()).collect();
        pins.extend(self.pins.decisions());
        pins.sort_by(|a, b| (&a.vhost, &a.exchange).cmp(&(&b.vhost, &b.exchange)));
        Decisions { off, on, pins }
    }

    /// Why what was decided last will not hold after a restart, if so.
    #[must_use]
    pub fn decisions_not_kept(&self) -> Option<String> {
        self.decided.writing.lock().clone()
    }

    /// Something was decided: it is kept when this returns, or the log says why not.
    pub(super) fn decide(&self) {
        let Some(kept_by) = self.decided.kept_by.get() else { return };
        let mut not_kept = self.decided.writing.lock();
        *not_kept = kept_by.keep(&self.decisions()).err();
        match &*not_kept {
            Some(why) => tracing::error!(
                target: "leveret::plugin",
                "switches and pins hold until the broker ends, and are not kept for later: {why}"
            ),
            // It could not be read at the start, and was taken away since.
            None => {
                self.refusals.forget(kept_by.place());
            }
        }
    }

    /// The same for a worker, which does not wait for a disk.
    pub(super) fn decide_aside(self: &Arc<Self>) {
        let registry = self.clone();
        let decide = move || registry.decide();
        if self.decided.kept_by.get().is_some()
            && std::thread::Builder::new().name("leveret-keep".into()).spawn(decide).is_err()
        {
            self.decide();
        }
    }

    /// Loads the versions of a plugin that waiting pins are for, now that a file of it serves.
    pub(super) fn load_awaited(&self, scope: &Scope, plugin: &str) {
        let is_wanted = |it: &Waiting| {
            it.pin.scope == *scope && it.pin.plugin == plugin && !matches!(it.version, Some(Ok(_)))
        };
        let wanted: Vec<Digest> = {
            let waiting = self.decided.waiting.lock();
            waiting.iter().filter(|it| is_wanted(it)).map(|it| it.pin.digest).collect()
        };
        for digest in wanted {
            let loaded = self.load_version(scope, plugin, digest).map_err(|error| error.to_string());
            if let Err(why) = &loaded {
                tracing::warn!(
                    target: "leveret::plugin", plugin, %scope, %digest,
                    "exchanges that are to stay on this version are parked until they are unpinned: {why}"
                );
            }
            let mut told = Vec::new();
            for it in
                self.decided.waiting.lock().iter_mut().filter(|it| is_wanted(it) && it.pin.digest == digest)
            {
                it.version = Some(loaded.clone());
                told.push((it.pin.vhost.clone(), it.pin.exchange.clone()));
            }
            self.tell(&told);
        }
    }

    /// Exchanges that are there already look up again what serves them.
    fn tell(&self, exchanges: &[(Name, Name)]) {
        let slots = self.slots.read();
        let groups = slots.groups().flat_map(|group| group.exchanges);
        let named: Vec<_> = groups
            .filter(|it| exchanges.iter().any(|(vhost, name)| it.vhost == *vhost && it.spec.name == *name))
            .collect();
        drop(slots);
        for exchange in &named {
            // A pin that waited for it is one of an exchange that is there.
            let _ = self.awaited(exchange, &exchange.spec.type_name);
            exchange.type_changed();
        }
    }

    /// A version of a plugin through the stages that look at it alone; the one that serves if it is that.
    fn load_version(&self, scope: &Scope, plugin: &str, digest: Digest) -> Result<Arc<Version>, LoadError> {
        let read = |why: String| LoadError::at(Stage::Read)(why);
        let (path, serving) = self
            .serving(scope, plugin)
            .ok_or_else(|| read(format!("the plugin {plugin} does not serve any more")))?;
        if serving.code.digest == digest {
            return Ok(serving);
        }
        let kept = self.kept.as_ref().ok_or_else(|| read(String::from("no versions are kept")))?;
        let component = kept.read(PluginKey::of_file(scope, &path), digest).map_err(read)?;
        let (strategy, code) = self.compile_best(digest, &component)?;
        let Examined { version, .. } =
            self.introduce(&File { scope, path: &path, digest }, strategy, &code)?;
        Ok(Arc::new(version))
    }

    /// What a pin that waited says of a type of an exchange that has come.
    pub(super) fn awaited(&self, exchange: &Exchange, type_name: &[u8]) -> Option<Lookup> {
        let version = {
            let waiting = self.decided.waiting.lock();
            let it = waiting.iter().find(|it| it.is_of(exchange, type_name))?;
            let parked = |why: &str| {
                let PinDecision { version, digest, plugin, .. } = &it.pin;
                let why =
                    format!("it is to stay on version {version} ({digest}) of the plugin {plugin}, {why}");
                Some(Lookup::Parked(why.into()))
            };
            match &it.version {
                None => return parked("which is not loaded yet"),
                Some(Err(why)) => {
                    return parked(&format!("which cannot serve: {why}; unpin it to have another"));
                }
                Some(Ok(version)) => version.clone(),
            }
        };
        // Not under the lock of those that wait.
        let exchange = self.slots.read().registered(exchange)?;
        self.pins.put(&exchange, version.clone());
        self.forget_awaited(&exchange.vhost, &exchange.spec.name);
        Some(Self::judge(version, &exchange.vhost))
    }

    /// Whether a pin that waits keeps a type of an exchange from that version.
    pub(super) fn awaits_other(&self, exchange: &Exchange, type_name: &[u8], version: &Version) -> bool {
        let is_other = |pin: &PinDecision| {
            let same = pin.scope == version.scope && pin.plugin == version.code.plugin;
            !same || pin.digest != version.code.digest
        };
        let waiting = self.decided.waiting.lock();
        waiting.iter().any(|it| it.is_of(exchange, type_name) && is_other(&it.pin))
    }

    /// The pin of an exchange that did not come to be waits for the next.
    pub(super) fn await_again(&self, pin: &Pin, exchange: &Exchange) {
        let pin = pin.decision(exchange);
        let version = Some(Ok(pin.1));
        self.decided.waiting.lock().push(Waiting { pin: pin.0, version });
    }

    /// A pin of an exchange takes the place of one that waited for it.
    pub(super) fn forget_awaited(&self, vhost: &Name, exchange: &Name) -> bool {
        let mut waiting = self.decided.waiting.lock();
        let before = waiting.len();
        waiting.retain(|it| !it.is_for(vhost, exchange));
        waiting.len() != before
    }

    /// Takes the pin of an exchange back that is not there. False if there is none.
    pub fn unpin_awaited(&self, vhost: &Name, exchange: &Name) -> bool {
        let unpinned = self.forget_awaited(vhost, exchange);
        if unpinned {
            self.decide();
            self.tell(&[(vhost.clone(), exchange.clone())]);
        }
        unpinned
    }

    /// The pins that wait for their exchange.
    pub(super) fn pins_awaited(&self) -> Vec<PinInfo> {
        let groups = self.slots.read().groups().flat_map(|group| group.exchanges).collect::<Vec<_>>();
        let waiting = self.decided.waiting.lock();
        let is_there = |it: &Waiting| groups.iter().any(|exchange| it.is_of(exchange, &it.pin.exchange_type));
        let problem = |it: &Waiting| match &it.version {
            Some(version) => version.as_ref().err().cloned(),
            None => is_there(it).then(|| String::from("that version is not loaded yet")),
        };
        let infos = waiting.iter().map(|it| PinInfo {
            vhost: it.pin.vhost.clone(),
            exchange: it.pin.exchange.clone(),
            exchange_type: it.pin.exchange_type.clone(),
            scope: it.pin.scope.clone(),
            plugin: it.pin.plugin.clone(),
            version: it.pin.version.clone(),
            digest: it.pin.digest,
            serving: false,
            waiting: !is_there(it),
            problem: problem(it),
        });
        infos.collect()
    }

    /// What was decided for a virtual host ends with it: another one of its name begins anew.
    pub fn forget_vhost(&self, vhost: &Name) {
        self.policies.forget_vhost(vhost);
        self.decided.waiting.lock().retain(|it| it.pin.vhost != *vhost);
        self.candidates.forget_vhost(vhost);
        self.providers.changed();
        self.decide();
    }

    /// Whether a pin that waits is for that version.
    pub(super) fn is_awaited(&self, version: crate::version::VersionId) -> bool {
        let waiting = self.decided.waiting.lock();
        waiting.iter().any(|it| matches!(&it.version, Some(Ok(loaded)) if loaded.id == version))
    }
}
