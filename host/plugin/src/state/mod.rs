//! What plugins keep outside their instances: values by key, counters, messages by key.
//!
//! *Not here:* how a guest asks for it (`capability/`), where it lies when the broker does not run
//! (nowhere yet: everything is in memory).
//!
//! *In and out:* a [`Cell`] belongs to one type of one exchange, or to one attachment of an
//! interceptor, and is shared by all instances. A message that is being decided collects its writes
//! in a [`Draft`](crate::capability::Draft), whose number owns what it wrote until its fate is known.
//!
//! *Invariants:*
//! - What a draft wrote is seen by that draft alone, until it is committed. Whoever else touches such
//!   a key is told that it is in doubt.
//! - A draft that is dropped leaves nothing behind.
//! - Bytes and entries are charged when they are written, given back when they go.

mod messages;
mod usage;
mod values;

pub(crate) use messages::{Messages, StoredId};
pub(crate) use usage::Usage;
pub(crate) use values::{ValueError, Values};

use hashbrown::HashMap;
use leveret_broker::{
    exchange::ExchangeId,
    port::{Layer, Wake},
};
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
    /// Who waits for a key that is in doubt.
    waiters: Mutex<Vec<Arc<dyn Wake>>>,
}

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

    /// Wakes `waker` when a key that is in doubt now may be so no longer. If nothing is, at once.
    pub(crate) fn wake_when_settled(&self, waker: &Arc<dyn Wake>) {
        self.waiters.lock().push(waker.clone());
        if !self.memory.lock().has_doubts() && !self.durable.lock().has_doubts() {
            self.settled();
        }
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
#[derive(Default)]
pub(crate) struct Cells(Mutex<HashMap<Owner, Arc<Cell>, foldhash::fast::RandomState>>);

impl Cells {
    /// The cell of an owner, made if there is none.
    pub(crate) fn of(&self, owner: Owner) -> Arc<Cell> {
        self.0.lock().entry(owner).or_default().clone()
    }

    /// The cell of an owner that has one.
    pub(crate) fn find(&self, owner: Owner) -> Option<Arc<Cell>> {
        self.0.lock().get(&owner).cloned()
    }

    /// Puts another cell in the place of an owner's; gives the one before.
    pub(crate) fn replace(&self, owner: Owner, cell: Arc<Cell>) -> Option<Arc<Cell>> {
        self.0.lock().insert(owner, cell)
    }

    /// An exchange is gone, with the state of all its types.
    pub(crate) fn close(&self, exchange: ExchangeId) {
        let mut gone = Vec::new();
        self.0.lock().retain(|owner, cell| {
            let goes = matches!(owner, Owner::Exchange(id, _) if *id == exchange);
            gone.extend(goes.then(|| cell.clone()));
            !goes
        });
        gone.iter().for_each(|cell| cell.clear());
    }

    /// An attachment is gone.
    pub(crate) fn detach(&self, attachment: u64) {
        self.0.lock().remove(&Owner::Attachment(attachment));
    }
}
