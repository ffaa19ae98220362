//! What plugins keep outside their instances: values by key, counters, messages by key.
//!
//! *Not here:* how a guest asks for it (`capability/`), where it lies when the broker does not run: behind the
//! store's port ([`leveret_broker::store`]), to which `durable.rs` tells it.
//!
//! *In and out:* a [`Cell`] belongs to one type of one exchange, or to one attachment of an
//! interceptor, and is shared by all instances. A message that is being decided collects its writes
//! in a [`Draft`](crate::capability::Draft), whose number owns what it wrote until its fate is known.
//!
//! *Invariants:*
//! - What a draft wrote is seen by that draft alone, until it is committed. Whoever else touches such
//!   a key is told that it is in doubt.
//! - A draft that is dropped leaves nothing behind.
//! - While it is handed from one version to the next nobody works on it (`gate.rs`).
//! - Bytes and entries are charged when they are written, given back when they go.

mod durable;
mod gate;
mod messages;
mod usage;
mod values;

pub(crate) use durable::going_back;
pub(crate) use gate::{Inside, Shut};
pub(crate) use messages::{MESSAGE_BYTES, Messages, Search, StoredId};
pub(crate) use usage::Usage;
pub(crate) use values::{ENTRY_BYTES, Sum, ValueError, Values};

use crate::{artifact::Digest, version::Version};
use hashbrown::HashMap;
use leveret_broker::{
    exchange::ExchangeId,
    port::{Layer, Wake},
    store::{Store, Volatile},
};
use leveret_model::Name;
use parking_lot::Mutex;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Numbers the writes of one call on behalf of one message; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DraftId(u64);

impl DraftId {
    /// The next one.
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Whose state it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// A type of an exchange.
    Exchange(ExchangeId, Layer),
    /// An attachment of an interceptor.
    Attachment(u64),
}

/// Where values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    /// Gone with the process.
    Memory,
    /// As safe as the exchange.
    Durable,
}

/// The state of one owner.
#[derive(Default)]
pub(crate) struct Cell {
    memory: Mutex<Values>,
    durable: Mutex<Values>,
    messages: Mutex<Messages>,
    /// Who waits for a key that is in doubt, or for the gate.
    waiters: Mutex<Vec<Arc<dyn Wake>>>,
    gate: gate::Gate,
    writer: Mutex<Option<Writer>>,
    durable_for: durable::Durable,
}

/// The version of a plugin that works on a state, or did last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Writer {
    /// The plugin's name.
    pub(crate) plugin: String,
    /// Of the version's bytes.
    pub(crate) digest: Digest,
    /// As the version describes itself.
    pub(crate) version: String,
}

impl Writer {
    /// This version.
    pub(crate) fn of(version: &Version) -> Self {
        let plugin = version.code.plugin.clone();
        Self { plugin, digest: version.code.digest, version: version.description.version.clone() }
    }
}

/// The state that an older version left, as it was before a newer one migrated it.
pub(crate) struct Older {
    pub(crate) writer: Writer,
    /// The exchange's virtual host.
    pub(crate) vhost: Name,
    pub(crate) cell: Arc<Cell>,
}

/// Of how many older versions the state is kept: as many as can be gone back to.
const OLDER_MAX: usize = 2;

impl Cell {
    /// The values of a space.
    pub(crate) fn values(&self, space: Space) -> &Mutex<Values> {
        match space {
            Space::Memory => &self.memory,
            Space::Durable => &self.durable,
        }
    }

    /// The messages.
    pub(crate) fn messages(&self) -> &Mutex<Messages> {
        &self.messages
    }

    /// Wakes `waker` when a key that is in doubt now may be so no longer, and the gate is not closed. If
    /// that is so now, at once.
    pub(crate) fn wake_when_settled(&self, waker: &Arc<dyn Wake>) {
        self.waiters.lock().push(waker.clone());
        if !self.memory.lock().has_doubts() && !self.durable.lock().has_doubts() && !self.is_closed() {
            self.settled();
        }
    }

    /// Who works on it, or did last.
    pub(crate) fn writer(&self) -> Option<Writer> {
        self.writer.lock().clone()
    }

    /// From now on that version works on it.
    pub(crate) fn set_writer(&self, version: &Version) {
        *self.writer.lock() = Some(Writer::of(version));
    }

    /// That version works on it, unless another one did before.
    pub(crate) fn begin_writing(&self, version: &Version) {
        self.writer.lock().get_or_insert_with(|| Writer::of(version));
    }

    /// How many values, counters and messages are committed, and their bytes.
    pub(crate) fn size(&self) -> (u64, u64) {
        let sizes = [self.memory.lock().size(), self.durable.lock().size(), self.messages.lock().size()];
        sizes.into_iter().fold((0, 0), |(entries, bytes), (more, longer)| (entries + more, bytes + longer))
    }

    /// A draft is committed or gone: whoever waits looks again.
    pub(crate) fn settled(&self) {
        let waiters = std::mem::take(&mut *self.waiters.lock());
        waiters.iter().for_each(|waker| waker.wake());
    }

    /// A copy with everything that is committed, charged there.
    pub(crate) fn fork(&self, usage: &Arc<Usage>) -> Self {
        Self {
            memory: Mutex::new(self.memory.lock().fork(usage)),
            durable: Mutex::new(self.durable.lock().fork(usage)),
            messages: Mutex::new(self.messages.lock().fork(usage)),
            ..Self::default()
        }
    }

    /// Charges everything that is committed there instead.
    pub(crate) fn charge_to(&self, usage: &Arc<Usage>) {
        self.memory.lock().charge_to(usage);
        self.durable.lock().charge_to(usage);
        self.messages.lock().charge_to(usage);
    }

    /// Forgets everything, and gives back what it took: instances that know it may be there for a while.
    fn clear(&self) {
        *self.memory.lock() = Values::default();
        *self.durable.lock() = Values::default();
        *self.messages.lock() = Messages::default();
        self.settled();
    }

    /// Whether nothing is kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.memory.lock().is_empty() && self.durable.lock().is_empty() && self.messages.lock().is_empty()
    }
}

/// The state of all owners.
pub(crate) struct Cells {
    /// Where what is to outlive the process is written.
    store: Arc<dyn Store>,
    now: Mutex<ByOwner<Arc<Cell>>>,
    /// What versions before left, the latest last.
    older: Mutex<ByOwner<Vec<Older>>>,
}

type ByOwner<T> = HashMap<Owner, T, foldhash::fast::RandomState>;

impl Default for Cells {
    fn default() -> Self {
        Self::kept_in(Arc::new(Volatile))
    }
}

impl Cells {
    /// No cells yet; what outlives the process is in that store.
    pub(crate) fn kept_in(store: Arc<dyn Store>) -> Self {
        Self { store, now: Mutex::default(), older: Mutex::default() }
    }

    /// Where what is to outlive the process is written.
    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// The cell of an owner, made if there is none; for a new exchange's see [`Self::of_exchange`].
    pub(crate) fn of(&self, owner: Owner) -> Arc<Cell> {
        self.now.lock().entry(owner).or_default().clone()
    }

    /// The cell of an owner that has one.
    pub(crate) fn find(&self, owner: Owner) -> Option<Arc<Cell>> {
        self.now.lock().get(&owner).cloned()
    }

    /// Puts another cell in the place of an owner's; gives the one before.
    pub(crate) fn replace(&self, owner: Owner, cell: Arc<Cell>) -> Option<Arc<Cell>> {
        self.now.lock().insert(owner, cell)
    }

    /// Keeps what a version left, to go back to.
    pub(crate) fn keep_older(&self, owner: Owner, left: Older) {
        let mut all = self.older.lock();
        let older = all.entry(owner).or_default();
        older.retain(|kept| kept.writer.digest != left.writer.digest);
        older.push(left);
        let surplus = older.len().saturating_sub(OLDER_MAX);
        older.drain(..surplus);
    }

    /// What the latest of these versions left that left any, as it was before a newer one migrated it; and which.
    pub(crate) fn older(&self, owner: Owner, is_one: impl Fn(Digest) -> bool) -> Option<(Digest, Arc<Cell>)> {
        let all = self.older.lock();
        let kept = all.get(&owner)?.iter().rev().find(|kept| is_one(kept.writer.digest))?;
        Some((kept.writer.digest, kept.cell.clone()))
    }

    /// The version furthest back of which is known what it left.
    pub(crate) fn oldest(&self, owner: Owner) -> Option<Digest> {
        self.older.lock().get(&owner)?.first().map(|kept| kept.writer.digest)
    }

    /// What that version left is in use again, and what later ones left is gone; all of it if it left nothing.
    pub(crate) fn forget_older_from(&self, owner: Owner, digest: Digest) {
        let mut all = self.older.lock();
        if let Some(older) = all.get_mut(&owner) {
            let at = older.iter().position(|kept| kept.writer.digest == digest);
            older.truncate(at.unwrap_or_default());
        }
    }

    /// An exchange is gone, with the state of all its types.
    pub(crate) fn close(&self, exchange: ExchangeId) {
        let is_its = |owner: &Owner| matches!(owner, Owner::Exchange(id, _) if *id == exchange);
        let mut gone = Vec::new();
        self.now.lock().retain(|owner, cell| {
            gone.extend(is_its(owner).then(|| cell.clone()));
            !is_its(owner)
        });
        gone.iter().for_each(|cell| cell.clear());
        self.clear_in_store(&gone);
        self.older.lock().retain(|owner, _| !is_its(owner));
    }
}
