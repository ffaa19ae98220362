//! What of a state outlives the process: told to the store as changes, and made again from them.
//!
//! A holder is written for where its exchange is durable: values and counters of the durable space, and the
//! messages. How many values there may be is none of it: a type says that when it is opened.

use super::{Cell, Cells, DraftId, Messages, OLDER_MAX, Older, Owner, Usage, Values, Writer};
use crate::{account::Account, artifact::Digest};
use leveret_broker::{
    exchange::Exchange,
    port::Layer,
    store::{Aside, Change, StateChange, StateHolder, StoreFailure},
};
use leveret_model::Name;
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};

/// For whom a state is written.
#[derive(Default)]
pub(super) struct Durable {
    holder: OnceLock<Arc<StateHolder>>,
    /// The version that the store knows to have written it last.
    writer: Mutex<Option<Digest>>,
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
            self.messages.lock().note_ended();
            *self.durable_for.writer.lock() = Some(written_by);
        }
    }

    /// Appends a change of what is written for it; before the first ones of a version, which one that is.
    pub(crate) fn record(&self, change: StateChange, group: &mut Vec<Change>) {
        let Some(holder) = self.holder() else { return };
        let known = *self.durable_for.writer.lock();
        let writer = self.writer().filter(|writer| known != Some(writer.digest));
        group.extend(writer.map(|writer| Change { holder: holder.clone(), change: by(&writer) }));
        let evicted = self.durable.lock().take_evicted().into_iter();
        let deleted = evicted.map(|key| StateChange::Delete { key: Arc::from(&*key) });
        let ended = self.messages.lock().take_ended().into_iter().map(|id| StateChange::Forget { id });
        group.extend(deleted.chain(ended).map(|change| Change { holder: holder.clone(), change }));
        group.push(Change { holder: holder.clone(), change });
    }

    /// Appends a change of the exchange's timers: they are no version's.
    pub(crate) fn record_timer(&self, change: StateChange, group: &mut Vec<Change>) {
        group.extend(self.holder().map(|holder| Change { holder: holder.clone(), change }));
    }

    /// What was recorded of it is written.
    pub(crate) fn is_written(&self) {
        if self.holder().is_some() {
            *self.durable_for.writer.lock() = self.writer().map(|writer| writer.digest);
        }
    }

    /// Everything that is committed, as changes that come beside what a version before left.
    pub(crate) fn snapshot_beside(
        &self,
        holder: &Arc<StateHolder>,
        writer: &Writer,
        before: &Writer,
    ) -> Vec<Change> {
        let put_aside = StateChange::PutAside { digest: before.digest.0, newest: OLDER_MAX };
        let mut changes = vec![by(before), put_aside];
        changes.push(by(writer));
        self.durable.lock().append_changes(&mut changes);
        self.messages.lock().append_changes(&mut changes);
        changes_of(holder, changes)
    }

    /// Makes the state that these changes lead to.
    fn restored(changes: Vec<StateChange>, now_ms: u64, usage: &Arc<Usage>) -> Self {
        let cell = Self::default();
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
            StateChange::Keep { id, key, newest, message, end_ms } => {
                self.messages.lock().restore((id, &key), (message, end_ms), newest, usage);
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
            // How a state came to be what it is, and none of what there is; timers are the virtual host's.
            StateChange::PutAside { .. }
            | StateChange::TakeBack { .. }
            | StateChange::DropAside { .. }
            | StateChange::SetTimer { .. }
            | StateChange::EndTimer { .. } => {}
        }
    }
}

/// What an older version left in the place of what was written since: nothing, if it left nothing. From now on it is
/// that of `to`.
pub(crate) fn going_back(holder: &Arc<StateHolder>, left_by: Digest, to: &Writer) -> Vec<Change> {
    changes_of(holder, vec![StateChange::TakeBack { digest: left_by.0 }, by(to)])
}

fn changes_of(holder: &Arc<StateHolder>, changes: Vec<StateChange>) -> Vec<Change> {
    changes.into_iter().map(|change| Change { holder: holder.clone(), change }).collect()
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
    /// If the store cannot be read.
    pub(crate) fn of_exchange(
        &self,
        exchange: &Exchange,
        layer: Layer,
        (now_ms, account): (u64, &Account),
    ) -> Result<Arc<Cell>, StoreFailure> {
        let owner = Owner::Exchange(exchange.id, layer);
        if let Some(cell) = self.find(owner) {
            return Ok(cell);
        }
        let Some(holder) = exchange.state_holder(layer) else { return Ok(self.of(owner)) };
        let (changes, aside) = (self.store.load(&holder)?, self.store.load_aside(&holder)?);
        // Two threads may come here at once: one of them gets the other's.
        let mut now = self.now.lock();
        let cell = now.entry(owner).or_insert_with(|| {
            for Aside { changes, .. } in aside {
                let cell = Cell::restored(changes, now_ms, account.state_kept());
                if let Some(writer) = cell.writer() {
                    self.keep_older(
                        owner,
                        Older { writer, vhost: exchange.vhost.clone(), cell: Arc::new(cell) },
                    );
                }
            }
            let cell = Cell::restored(changes, now_ms, account.state());
            let _ = cell.durable_for.holder.set(holder);
            cell.durable.lock().note_evicted();
            cell.messages.lock().note_ended();
            Arc::new(cell)
        });
        Ok(cell.clone())
    }

    /// Versions of a plugin are forgotten: what they left is, too. `is_known` tells for a virtual host which are not.
    pub(crate) fn forget_older_of(&self, plugin: &str, mut is_known: impl FnMut(&Name, Digest) -> bool) {
        let mut is_forgotten =
            |older: &mut Older| older.writer.plugin == plugin && !is_known(&older.vhost, older.writer.digest);
        let mut gone = Vec::new();
        for (owner, all) in self.older.lock().iter_mut() {
            let digests = all.extract_if(.., &mut is_forgotten).map(|older| older.writer.digest);
            gone.extend(digests.map(|digest| (*owner, digest)));
        }
        let holder = |owner| self.find(owner)?.holder().cloned();
        let drop_aside = |(owner, digest): (Owner, Digest)| {
            let change = StateChange::DropAside { digest: digest.0 };
            Some(Change { holder: holder(owner)?, change })
        };
        let changes: Vec<Change> = gone.into_iter().filter_map(drop_aside).collect();
        if !changes.is_empty()
            && let Err(failure) = self.store.append(&changes)
        {
            tracing::warn!(
                target: "leveret::plugin", plugin, "what forgotten versions left stays in the store: {failure}"
            );
        }
    }

    /// Tells the store that nothing of these counts any more: they may have written after it was told that their
    /// exchanges went. What it does not take now is not found again at the next start.
    pub(super) fn clear_in_store(&self, gone: &[Arc<Cell>]) {
        for holder in gone.iter().filter_map(|cell| cell.holder()) {
            let _ = self.store.append(&[Change { holder: holder.clone(), change: StateChange::Clear }]);
        }
    }
}
