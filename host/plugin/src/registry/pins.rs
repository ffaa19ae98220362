//! Exchanges that stay on a version of their plugin while others move on.
//!
//! A pin is of an exchange and its declared type. It holds over swaps and restarts (`decisions.rs`), and ends
//! with the exchange. What parks all exchanges of the type (its plugin is gone, switched off) parks
//! pinned ones too.

use super::{
    LoadError, Lookup, PinDecision, Registry, Stage,
    kept::PluginKey,
    reload::{Examined, File},
    replay::Replayed,
};
use crate::{
    artifact::Digest,
    scope::Scope,
    version::{Version, VersionId},
};
use hashbrown::HashMap;
use leveret_broker::{
    exchange::{Exchange, ExchangeId},
    port::Layer,
};
use leveret_model::Name;
use parking_lot::RwLock;
use std::sync::{Arc, Weak};

/// The pins of all exchanges.
#[derive(Default)]
pub(super) struct Pins(RwLock<HashMap<ExchangeId, Pin>>);

/// That an exchange stays on a version.
pub(super) struct Pin {
    exchange: Weak<Exchange>,
    version: Arc<Version>,
}

impl Pin {
    /// What is kept of it, and the version.
    pub(super) fn decision(&self, exchange: &Exchange) -> (PinDecision, Arc<Version>) {
        let version = &self.version;
        let decision = PinDecision {
            vhost: exchange.vhost.clone(),
            exchange: exchange.spec.name.clone(),
            exchange_type: exchange.spec.type_name.clone(),
            scope: version.scope.clone(),
            plugin: version.code.plugin.clone(),
            digest: version.code.digest,
            version: version.description.version.clone(),
        };
        (decision, version.clone())
    }
}

/// The version that an exchange is to stay on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinTo {
    /// The one that serves its type now.
    Current,
    /// The kept one that is called so, or whose digest begins with these hexadecimal digits.
    Named(String),
}

/// An exchange that stays on a version, for people to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinInfo {
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
    /// The version as it describes itself.
    pub version: String,
    /// Of its bytes.
    pub digest: Digest,
    /// It is the version that serves the others too.
    pub serving: bool,
    /// The exchange is not there, and will stay on that version when it is declared.
    pub waiting: bool,
    /// Why that version cannot serve, if so: the exchange would be parked.
    pub problem: Option<String>,
}

impl Pins {
    /// The version that an exchange is pinned to, if that type of it is.
    pub(super) fn of(&self, id: ExchangeId, type_name: &[u8]) -> Option<Arc<Version>> {
        let pins = self.0.read();
        let pin = pins.get(&id)?;
        let exchange = pin.exchange.upgrade()?;
        (exchange.spec.type_name.as_bytes() == type_name).then(|| pin.version.clone())
    }

    /// Whether that type of an exchange is pinned.
    pub(super) fn has(&self, id: ExchangeId, type_name: &[u8]) -> bool {
        self.of(id, type_name).is_some()
    }

    /// Whether any exchange is pinned to that version.
    pub(super) fn hold(&self, id: VersionId) -> bool {
        self.0.read().values().any(|pin| pin.version.id == id)
    }

    /// The exchanges that are pinned to that version.
    pub(super) fn exchanges_on(&self, id: VersionId) -> Vec<Arc<Exchange>> {
        let pins = self.0.read();
        let on = pins.values().filter(|pin| pin.version.id == id);
        on.filter_map(|pin| pin.exchange.upgrade()).filter(|exchange| !exchange.is_deleted()).collect()
    }

    /// Whether an exchange does not change to that version with the others.
    pub(super) fn keep_from(&self, exchange: &Exchange, type_name: &[u8], version: &Version) -> bool {
        self.of(exchange.id, type_name).is_some_and(|pinned| !is_same(&pinned, version))
    }

    /// Code of another compiler takes the place of a version's.
    pub(super) fn move_to(&self, version: &Arc<Version>) {
        let mut pins = self.0.write();
        for pin in pins.values_mut().filter(|pin| is_same(&pin.version, version)) {
            pin.version = version.clone();
        }
    }

    /// The exchange is gone.
    pub(super) fn forget(&self, id: ExchangeId) -> Option<Pin> {
        if self.0.read().is_empty() {
            return None;
        }
        self.0.write().remove(&id)
    }

    /// From now on the exchange stays on that version.
    pub(super) fn put(&self, exchange: &Arc<Exchange>, version: Arc<Version>) {
        self.0.write().insert(exchange.id, Pin { exchange: Arc::downgrade(exchange), version });
    }

    /// What is kept of those that hold.
    pub(super) fn decisions(&self) -> Vec<PinDecision> {
        let pins = self.0.read();
        let live = |pin: &Pin| Some(pin.decision(&*pin.exchange.upgrade().filter(|it| !it.is_deleted())?).0);
        pins.values().filter_map(live).collect()
    }

    /// A version of these bytes that an exchange is pinned to.
    fn loaded(&self, scope: &Scope, plugin: &str, digest: Digest) -> Option<Arc<Version>> {
        let pins = self.0.read();
        let found = pins.values().map(|pin| &pin.version).find(|version| {
            version.scope == *scope && version.code.plugin == plugin && version.code.digest == digest
        });
        found.cloned()
    }
}

/// Whether both are the same version of a plugin, whichever compiler made their code.
fn is_same(a: &Version, b: &Version) -> bool {
    a.scope == b.scope && a.code.plugin == b.code.plugin && a.code.digest == b.code.digest
}

impl Registry {
    /// Keeps an exchange on a version of its plugin, whatever goes into service later. A kept version passes
    /// all stages first, and takes the exchange with its bindings.
    ///
    /// # Errors
    /// The stage that refused it and why; nothing has changed then.
    pub fn pin(&self, exchange: &Arc<Exchange>, to: &PinTo) -> Result<PinInfo, LoadError> {
        let type_name = &exchange.spec.type_name;
        let serving = self.serving_of(exchange)?;
        let to = match to {
            PinTo::Current => serving.code.digest,
            PinTo::Named(name) => self.find_version(&serving, name).map_err(LoadError::at(Stage::Read))?,
        };
        if self.is_of_other_form(exchange, &serving, to) {
            return Err(LoadError::at(Stage::Migrate)(String::from(
                "its state was migrated between that version and the one that serves, so that version would not read \
                 it; going to it with the whole plugin sees to that",
            )));
        }
        let (scope, plugin) = (&serving.scope, &serving.code.plugin);
        let loaded = self.pins.loaded(scope, plugin, to);
        let (version, replayed) = match loaded {
            _ if to == serving.code.digest => (serving.clone(), None),
            Some(version) => {
                // The workers that have it take the exchange when they need it.
                self.rehearse_one(&version, exchange, 1)?;
                (version, None)
            }
            None => {
                let (version, replayed) = self.load_kept(&serving, exchange, to)?;
                (version, Some(replayed))
            }
        };
        let _change = self.changing.begin(scope, plugin);
        if exchange.is_deleted() {
            return Err(LoadError::at(Stage::Swap)(String::from("the exchange was deleted meanwhile")));
        }
        // It may have been replaced meanwhile.
        let current = self.serving_of(exchange)?;
        let version = if is_same(&current, &version) { current } else { version };
        if let Some(replayed) = replayed {
            self.hand_to_workers(replayed, |_| true);
        }
        self.pins.put(exchange, version.clone());
        self.forget_awaited(&exchange.vhost, &exchange.spec.name);
        exchange.type_changed();
        self.providers.changed();
        self.decide();
        tracing::info!(
            target: "leveret::plugin",
            vhost = %exchange.vhost, exchange = %exchange.spec.name, exchange_type = %type_name,
            plugin = version.code.plugin, version = version.description.version,
            digest = %version.code.digest, "the exchange stays on this version"
        );
        Ok(self.info(exchange, &version))
    }

    /// Takes a [`Self::pin`] back: the exchange is served as others of its type. False if it is not pinned.
    ///
    /// # Errors
    /// [`Stage::Replay`] if the version that serves does not take it; it stays pinned then.
    pub fn unpin(&self, exchange: &Arc<Exchange>) -> Result<bool, LoadError> {
        let type_name = &exchange.spec.type_name;
        let Some(pinned) = self.pins.of(exchange.id, type_name) else {
            return Ok(self.unpin_awaited(&exchange.vhost, &exchange.spec.name));
        };
        let _change = self.changing.begin(&pinned.scope, &pinned.code.plugin);
        let Some(pinned) = self.pins.of(exchange.id, type_name) else {
            return Ok(false);
        };
        if let Lookup::Serving(serving) = self.lookup(&exchange.vhost, type_name)
            && serving.id != pinned.id
        {
            let mut replayed = self.rehearse_one(&serving, exchange, 1)?;
            self.take_over(&serving, &pinned, &mut replayed, || {
                self.pins.forget(exchange.id);
                exchange.type_changed();
            })?;
        } else {
            self.pins.forget(exchange.id);
            exchange.type_changed();
        }
        self.providers.changed();
        self.decide();
        tracing::info!(
            target: "leveret::plugin",
            vhost = %exchange.vhost, exchange = %exchange.spec.name, exchange_type = %type_name,
            "the exchange is not pinned any more"
        );
        Ok(true)
    }

    /// The exchanges that are pinned, by virtual host and name; also those that are not there yet.
    #[must_use]
    pub fn pins(&self) -> Vec<PinInfo> {
        let pins: Vec<(Arc<Exchange>, Arc<Version>)> = {
            let pins = self.pins.0.read();
            let live = |pin: &Pin| Some((pin.exchange.upgrade()?, pin.version.clone()));
            pins.values().filter_map(live).filter(|(exchange, _)| !exchange.is_deleted()).collect()
        };
        let mut pins: Vec<PinInfo> = pins.iter().map(|(exchange, on)| self.info(exchange, on)).collect();
        pins.extend(self.pins_awaited());
        pins.sort_by(|a, b| (&a.vhost, &a.exchange).cmp(&(&b.vhost, &b.exchange)));
        pins
    }

    /// What serves a type of an exchange: for one that is pinned, its version.
    pub(crate) fn lookup_for(&self, exchange: &Exchange, type_name: &[u8]) -> Lookup {
        let vhost = &exchange.vhost;
        // The pin is read last: of what took a version's place since the exchange was pinned to it, nothing is
        // found without the pin.
        let found = self.awaited(exchange, type_name).unwrap_or_else(|| self.lookup(vhost, type_name));
        let Some(version) = self.pins.of(exchange.id, type_name) else { return found };
        if let Some(parked) = self.slots.read().parked(vhost, type_name) {
            return Lookup::Parked(self.why_parked(vhost, type_name, parked));
        }
        Self::judge(version, vhost)
    }

    /// Whether an exchange stays on a version of its own.
    pub(crate) fn is_pinned(&self, exchange: &Exchange, type_name: &[u8]) -> bool {
        self.pins.has(exchange.id, type_name)
    }

    fn info(&self, exchange: &Exchange, version: &Version) -> PinInfo {
        let type_name = &exchange.spec.type_name;
        let serving = match self.lookup(&exchange.vhost, type_name) {
            Lookup::Serving(serving) => is_same(&serving, version),
            Lookup::Parked(_) | Lookup::NotAllowed(_) | Lookup::Unknown => false,
        };
        PinInfo {
            vhost: exchange.vhost.clone(),
            exchange: exchange.spec.name.clone(),
            exchange_type: type_name.clone(),
            scope: version.scope.clone(),
            plugin: version.code.plugin.clone(),
            version: version.description.version.clone(),
            digest: version.code.digest,
            serving,
            waiting: false,
            problem: None,
        }
    }

    fn serving_of(&self, exchange: &Exchange) -> Result<Arc<Version>, LoadError> {
        let type_name = &exchange.spec.type_name;
        let refuse = |why: String| Err(LoadError::at(Stage::Read)(why));
        match self.lookup(&exchange.vhost, type_name) {
            Lookup::Serving(version) if version.code.builtin => {
                refuse(format!("the type '{type_name}' came with the broker and has one version"))
            }
            Lookup::Serving(version) => Ok(version),
            Lookup::Parked(why) => refuse(format!("the type '{type_name}' is parked: {why}")),
            Lookup::NotAllowed(_) | Lookup::Unknown => {
                refuse(format!("no plugin serves the type '{type_name}'"))
            }
        }
    }

    /// A kept version through all stages, with fresh instances that know the exchange.
    fn load_kept(
        &self,
        serving: &Version,
        exchange: &Arc<Exchange>,
        digest: Digest,
    ) -> Result<(Arc<Version>, Replayed), LoadError> {
        let (scope, plugin) = (&serving.scope, &serving.code.plugin);
        let read = |why: String| LoadError::at(Stage::Read)(why);
        let path = self.serving(scope, plugin).map(|(path, _)| path);
        let path = path.ok_or_else(|| read(format!("the plugin {plugin} does not serve any more")))?;
        let kept = self.kept.as_ref().ok_or_else(|| read(String::from("no versions are kept")))?;
        let component = kept.read(PluginKey::of_file(scope, &path), digest).map_err(read)?;
        let (strategy, code) = self.compile_best(digest, &component)?;
        let Examined { version, names } =
            self.introduce(&File { scope, path: &path, digest }, strategy, &code)?;
        let type_name = &exchange.spec.type_name;
        if !names.contains(type_name) {
            return Err(LoadError::at(Stage::Swap)(format!(
                "that version of the plugin {plugin} does not have the exchange type '{type_name}'"
            )));
        }
        let version = Arc::new(version);
        let replayed = self.rehearse_one(&version, exchange, self.mailboxes.len().max(1))?;
        Ok((version, replayed))
    }

    /// Replays one exchange into fresh instances.
    fn rehearse_one(
        &self,
        version: &Arc<Version>,
        exchange: &Arc<Exchange>,
        workers: usize,
    ) -> Result<Replayed, LoadError> {
        let layers = (0..).map(Layer).zip(exchange.types());
        let here = layers.filter(|(_, spec)| spec.type_name == exchange.spec.type_name);
        let places: Vec<(Arc<Exchange>, Layer)> = here.map(|(layer, _)| (exchange.clone(), layer)).collect();
        self.replay_all(version, &places, &[], workers).map_err(LoadError::at(Stage::Replay))
    }
}
