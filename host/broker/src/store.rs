//! The store's port: where what is to outlive the process is written.
//!
//! What a batch changes is handed over as one group, before any of it is seen: a group is taken whole or
//! not at all. What the store does not take did not happen: its message is not accepted, and the state is
//! as it was before.
//!
//! *Not here:* how it is written. What exchange types keep is what goes through here so far; queues, held
//! messages and the topology are in memory.

use crate::port::{Deed, Effects, Fate, Layer};
use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::fmt;
use leveret_model::{MessageView, Name, OwnedMessage};

/// Whose state it is: what is known of it after a restart too.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StateHolder {
    /// The virtual host.
    pub vhost: Name,
    /// The exchange.
    pub exchange: Name,
    /// Which of its types.
    pub layer: Layer,
}

/// How the state of a holder changes. Changes of one holder count in the order in which they are handed over.
#[derive(Clone, Debug)]
pub enum StateChange {
    /// A key has a value.
    Set {
        /// The key.
        key: Arc<[u8]>,
        /// The value.
        value: Arc<[u8]>,
        /// When it ends, in milliseconds since 1970; `None` for never.
        end_ms: Option<u64>,
    },
    /// A key has no value.
    Delete {
        /// The key.
        key: Arc<[u8]>,
    },
    /// A counter, apart from the values, grows. One that is not there begins at 0.
    Add {
        /// The counter's key.
        key: Arc<[u8]>,
        /// By how much; may be negative.
        more: i64,
        /// When one that begins now ends, in milliseconds since 1970.
        end_ms: Option<u64>,
    },
    /// A message is kept.
    Keep {
        /// Its number among the holder's.
        id: u64,
        /// Under this key.
        key: Arc<[u8]>,
        /// Of the key's messages only so many stay, the latest.
        newest: usize,
        /// The message.
        message: Arc<OwnedMessage>,
    },
    /// A message that was kept is gone.
    Forget {
        /// Its number.
        id: u64,
    },
    /// Which version of a plugin writes what follows.
    By {
        /// The plugin's name.
        plugin: Arc<str>,
        /// SHA-256 of the version's bytes.
        digest: [u8; 32],
        /// As it describes itself.
        version: Arc<str>,
    },
    /// Nothing that was written before counts.
    Clear,
}

/// A change of somebody's state.
#[derive(Clone, Debug)]
pub struct Change {
    /// Whose.
    pub holder: Arc<StateHolder>,
    /// Which.
    pub change: StateChange,
}

/// Why the store took nothing, for people to read: what is wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreFailure(pub Arc<str>);

impl fmt::Display for StoreFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store: {}", self.0)
    }
}

impl core::error::Error for StoreFailure {}

/// What is written to. Called by many threads, under no lock of a queue.
pub trait Store: Send + Sync {
    /// Whether it keeps anything at all. Where it does not, nothing is handed over.
    fn keeps(&self) -> bool;

    /// Takes a group of changes: all of them or none.
    ///
    /// # Errors
    /// None was taken.
    fn append(&self, group: &[Change]) -> Result<(), StoreFailure>;

    /// What was handed over for a holder and still counts, in order.
    ///
    /// # Errors
    /// It cannot be read now.
    fn load(&self, holder: &StateHolder) -> Result<Vec<StateChange>, StoreFailure>;
}

/// A store that keeps nothing: state ends with the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Volatile;

impl Store for Volatile {
    fn keeps(&self) -> bool {
        false
    }

    fn append(&self, _group: &[Change]) -> Result<(), StoreFailure> {
        Ok(())
    }

    fn load(&self, _holder: &StateHolder) -> Result<Vec<StateChange>, StoreFailure> {
        Ok(Vec::new())
    }
}

/// Writes the effects that belong to one message, then makes them last. Where the store takes nothing they
/// are undone.
///
/// # Errors
/// Nothing was taken.
pub(crate) fn keep(
    store: &dyn Store,
    effects: Vec<Box<dyn Effects>>,
    (fate, message): (Fate, &MessageView<'_>),
    deeds: &mut Vec<Deed>,
) -> Result<(), StoreFailure> {
    if store.keeps() {
        let mut group = Vec::new();
        effects.iter().for_each(|effects| effects.record(fate, &mut group));
        if !group.is_empty() {
            store.append(&group)?;
        }
    }
    effects.into_iter().for_each(|effects| effects.commit(fate, message, deeds));
    Ok(())
}
