//! What of a state outlives the process: told to the store as changes, and made again from them.
//!
//! A holder is written for where its exchange is durable: values and counters of the durable space, and the
//! messages. How many values there may be is none of it: a type says that when it is opened.

use super::{Cell, Cells, DraftId, Messages, Owner, Usage, Values, Writer};
use crate::artifact::Digest;
use leveret_broker::{
    exchange::Exchange,
    port::Layer,
    store::{Change, StateChange, StateHolder, StoreFailure},
};
use parking_lot::Mutex;
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

/// For whom a state is written.
#[derive(Default)]
pub(super) struct Durable {
    holder: OnceLock<Arc<StateHolder>>,
    /// The version that the store knows to have written it last.
    writer: Mutex<Option<Digest>>,
    /// It was made of what the store had.
    from_before: AtomicBool,
}

impl Cell {
    /// For whom it is written to the store; nobody where it ends with the process.
    pub(crate) fn holder(&self) -> Option<&Arc<StateHolder>> {
        self.durable_for.holder.get()
    }

    /// Takes the place of another in the store too, where it was written as that version's ([`Self::snapshot`]).
    pub(crate) fn takes_place_of(&self, other: &Self, written_by: Digest) {
        if let Some(holder) = other.holder() {
            let _ = self.durable_for.holder.set(holder.clone());
            self.durable.lock().note_evicted();
            *self.durable_for.writer.lock() = Some(written_by);
        }
    }

    /// Whether it is from before this process: then nobody knows what versions before its writer left.
    pub(crate) fn is_from_before(&self) -> bool {
        self.durable_for.from_before.load(Ordering::Relaxed)
    }

    /// Appends a change of what is written for it; before the first ones of a version, which one that is.
    pub(crate) fn record(&self, change: StateChange, group: &mut Vec<Change>) {
        let Some(holder) = self.holder() else { return };
        let known = *self.durable_for.writer.lock();
        let writer = self.writer().filter(|writer| known != Some(writer.digest));
        group.extend(writer.map(|writer| Change { holder: holder.clone(), change: by(&writer) }));
        let evicted = self.durable.lock().take_evicted().into_iter();
        let deleted = evicted.map(|key| StateChange::Delete { key: Arc::from(&*key) });
        group.extend(deleted.map(|change| Change { holder: holder.clone(), change }));
        group.push(Change { holder: holder.clone(), change });
    }

    /// What was recorded of it is written.
    pub(crate) fn is_written(&self) {
        if self.holder().is_some() {
            *self.durable_for.writer.lock() = self.writer().map(|writer| writer.digest);
        }
    }

    /// Everything that is committed, as changes in the place of all that `holder` had before.
    pub(crate) fn snapshot(&self, holder: &Arc<StateHolder>, writer: &Writer) -> Vec<Change> {
        let mut changes = vec![StateChange::Clear, by(writer)];
        self.durable.lock().append_changes(&mut changes);
        self.messages.lock().append_changes(&mut changes);
        changes.into_iter().map(|change| Change { holder: holder.clone(), change }).collect()
    }

    /// Makes the state that these changes lead to.
    fn restored(changes: Vec<StateChange>, now_ms: u64, usage: &Arc<Usage>) -> Self {
        let cell = Self::default();
        cell.durable_for.from_before.store(!changes.is_empty(), Ordering::Relaxed);
        // Whatever the limits are now: it was taken when they allowed it.
        let unlimited = Arc::new(Usage::unlimited());
        for change in changes {
            cell.make(change, now_ms, &unlimited);
        }
        cell.charge_to(usage);
        cell
    }

    fn make(&self, change: StateChange, now_ms: u64, usage: &Arc<Usage>) {
        let write = |key: &[u8], value: Option<&[u8]>, end_ms| {
            let (draft, mut values) = (DraftId::next(), self.durable.lock());
            // What is too large for today's limits of a value is left out.
            if values.write(draft, key, value, (end_ms, now_ms), usage).is_ok() {
                values.commit(draft, key, now_ms);
            }
        };
        match change {
            StateChange::Set { key, value, end_ms } => write(&key, Some(&value), end_ms),
            StateChange::Delete { key } => write(&key, None, None),
            StateChange::Add { key, more, end_ms } => {
                let _ = self.durable.lock().add(&key, more, end_ms, now_ms, usage);
            }
            StateChange::Keep { id, key, newest, message } => {
                self.messages.lock().restore((id, &key), message, newest, usage);
            }
            StateChange::Forget { id } => self.messages.lock().remove(id),
            StateChange::Clear => {
                *self.durable.lock() = Values::default();
                *self.messages.lock() = Messages::default();
            }
            StateChange::By { plugin, digest, version } => {
                let digest = Digest(digest);
                *self.writer.lock() =
                    Some(Writer { plugin: plugin.to_string(), digest, version: version.to_string() });
                *self.durable_for.writer.lock() = Some(digest);
            }
        }
    }
}

fn by(writer: &Writer) -> StateChange {
    StateChange::By {
        plugin: Arc::from(writer.plugin.as_str()),
        digest: writer.digest.0,
        version: Arc::from(writer.version.as_str()),
    }
}

impl Cells {
    /// The cell of a type of an exchange: made if there is none, of what the store has for it.
    ///
    /// # Errors
    /// If the store cannot be read, or still has what an exchange that is gone left.
    pub(crate) fn of_exchange(
        &self,
        exchange: &Exchange,
        layer: Layer,
        (now_ms, usage): (u64, &Arc<Usage>),
    ) -> Result<Arc<Cell>, StoreFailure> {
        let owner = Owner::Exchange(exchange.id, layer);
        if let Some(cell) = self.find(owner) {
            return Ok(cell);
        }
        if !self.store.keeps() || !exchange.spec.durable {
            return Ok(self.of(owner));
        }
        let (vhost, name) = (exchange.vhost.clone(), exchange.spec.name.clone());
        let holder = Arc::new(StateHolder { vhost, exchange: name, layer });
        self.clear_left(&holder)?;
        let changes = self.store.load(&holder)?;
        // Two threads may come here at once: one of them gets the other's.
        let mut now = self.now.lock();
        let cell = now.entry(owner).or_insert_with(|| {
            let cell = Cell::restored(changes, now_ms, usage);
            let _ = cell.durable_for.holder.set(holder);
            cell.durable.lock().note_evicted();
            Arc::new(cell)
        });
        Ok(cell.clone())
    }

    /// Tells the store that nothing of these counts any more. What it does not take now it is told before
    /// the next exchange of that name begins.
    pub(super) fn clear_in_store(&self, gone: &[Arc<Cell>]) {
        for holder in gone.iter().filter_map(|cell| cell.holder()) {
            let clear = Change { holder: holder.clone(), change: StateChange::Clear };
            if self.store.append(&[clear]).is_err() {
                self.left.lock().push(holder.clone());
            }
        }
    }

    fn clear_left(&self, holder: &Arc<StateHolder>) -> Result<(), StoreFailure> {
        let mut left = self.left.lock();
        if let Some(at) = left.iter().position(|other| other == holder) {
            self.store.append(&[Change { holder: holder.clone(), change: StateChange::Clear }])?;
            left.swap_remove(at);
        }
        Ok(())
    }
}
