//! Global parameters of a broker: values under names that tools keep there and read again, as RabbitMQ has them. Of one the
//! broker knows what it means: `cluster_name` is what the cluster is called, which clients and tools are told.

use crate::store::DiskStore;
use leveret_access::{Done, Keeper as _};
use leveret_amqp10::connection::ConnectionConfig;
use leveret_amqp091::SessionConfig;
use parking_lot::RwLock;
use serde_json::Value;
use std::{collections::BTreeMap, fmt, sync::Arc};

/// What the cluster is called.
pub const CLUSTER_NAME: &str = "cluster_name";
/// How many there may be.
pub const PARAMETERS_MAX: usize = 1000;
/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 1024;
/// The longest name of a cluster, in bytes: clients are told it before they have said how long a frame may be.
const CLUSTER_NAME_BYTES_MAX: usize = 255;

/// Why one is not changed. Everything is as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotSet {
    /// It makes no sense, for this reason.
    Senseless(String),
    /// There is none of that name.
    NotThere,
    /// Not taken by what keeps it, in words.
    NotKept(String),
}

impl fmt::Display for NotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotThere => f.write_str("there is no such parameter"),
            Self::Senseless(why) | Self::NotKept(why) => f.write_str(why),
        }
    }
}

/// All of them, and where they are kept.
pub struct GlobalParameters {
    store: DiskStore,
    /// Locked while one changes and is handed over, so that both happen in the same order.
    all: RwLock<BTreeMap<String, Value>>,
}

impl GlobalParameters {
    /// Those that a store has.
    #[must_use]
    pub fn open(store: &DiskStore) -> Self {
        Self { store: store.clone(), all: RwLock::new(store.global_parameters()) }
    }

    /// All, by name.
    #[must_use]
    pub fn list(&self) -> Vec<(String, Value)> {
        self.all.read().iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// The value of one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Value> {
        self.all.read().get(name).cloned()
    }

    /// What the cluster is called, if somebody said so.
    #[must_use]
    pub fn cluster_name(&self) -> Option<String> {
        self.all.read().get(CLUSTER_NAME).and_then(Value::as_str).map(str::to_owned)
    }

    /// What a client of AMQP 0-9-1 is told now that begins.
    pub(crate) fn session(&self, usual: &Arc<SessionConfig>) -> Arc<SessionConfig> {
        match self.cluster_name() {
            None => usual.clone(),
            Some(cluster_name) => Arc::new(SessionConfig { cluster_name, ..(**usual).clone() }),
        }
    }

    /// The same of AMQP 1.0.
    pub(crate) fn connection(&self, usual: &Arc<ConnectionConfig>) -> Arc<ConnectionConfig> {
        let Some(cluster_name) = self.cluster_name() else { return usual.clone() };
        let mut told = (**usual).clone();
        let named = told.properties.iter_mut().find(|(property, _)| property.as_str() == CLUSTER_NAME);
        named.into_iter().for_each(|(_, name)| name.clone_from(&cluster_name));
        Arc::new(told)
    }

    /// Sets one; true if it is new. `done` is told when it is kept.
    ///
    /// # Errors
    /// [`NotSet::Senseless`], [`NotSet::NotKept`]. Then `done` is not called.
    pub fn put(&self, name: &str, value: Value, done: Done) -> Result<bool, NotSet> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(NotSet::Senseless(format!("a name has 1 to {NAME_BYTES_MAX} bytes")));
        }
        let is_name = || value.as_str().is_some_and(|name| name.len() <= CLUSTER_NAME_BYTES_MAX);
        if name == CLUSTER_NAME && !is_name() {
            let why = format!("{CLUSTER_NAME} must be a text of at most {CLUSTER_NAME_BYTES_MAX} bytes");
            return Err(NotSet::Senseless(why));
        }
        let mut all = self.all.write();
        if all.len() >= PARAMETERS_MAX && !all.contains_key(name) {
            return Err(NotSet::Senseless(format!("there are {PARAMETERS_MAX} global parameters already")));
        }
        self.store.admit().map_err(NotSet::NotKept)?;
        self.store.keep_global_parameter(name, &value, done);
        tracing::info!("global parameter '{}' is set", name.escape_debug());
        Ok(all.insert(name.to_owned(), value).is_none())
    }

    /// Takes one away. `done` is told when that is kept.
    ///
    /// # Errors
    /// [`NotSet::NotThere`]. Then `done` is not called.
    pub fn delete(&self, name: &str, done: Done) -> Result<(), NotSet> {
        let mut all = self.all.write();
        all.remove(name).ok_or(NotSet::NotThere)?;
        self.store.forget_global_parameter(name, done);
        tracing::info!("global parameter '{}' is cleared", name.escape_debug());
        Ok(())
    }
}
