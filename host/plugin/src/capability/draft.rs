//! The effects of one call on behalf of one message, until its fate is known.

use super::{Call, unix_ms};
use crate::{
    account::Account,
    state::{Cell, DraftId, Inside, Space, StoredId},
};
use leveret_broker::{
    exchange::Exchange,
    explain::Wanted,
    port::{Deed, Effects, Fate, HoldId, Layer, Want},
    store::{Change, StateChange},
};
use leveret_model::{MessageView, Name, OwnedMessage};
use std::{fmt, sync::Arc};

/// The most effects of one call.
pub(super) const EFFECTS_MAX: usize = 10_000;
/// The most bytes of the messages that one call makes or copies, [`OUTGOING_BYTES`] each included.
const OUTGOING_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What a message that is made takes beside its own bytes.
const OUTGOING_BYTES: usize = 256;

/// A call has more effects than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMuch;

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "more than {EFFECTS_MAX} effects, or {} MiB of messages, in one call",
            OUTGOING_BYTES_MAX >> 20
        )
    }
}

impl std::error::Error for TooMuch {}

/// What a call did.
#[derive(Debug)]
pub(super) enum Op {
    /// Wrote or deleted a value.
    Value {
        space: Space,
        key: Box<[u8]>,
    },
    /// Added to a counter.
    Added {
        space: Space,
        key: Box<[u8]>,
        more: i64,
        /// Which counter.
        counter: u64,
        /// When it ends if it begins with this.
        end_ms: Option<u64>,
    },
    /// Kept the message.
    Kept {
        id: StoredId,
        newest: usize,
    },
    /// Forgot messages.
    Forget {
        key: Box<[u8]>,
        /// Later ones stay.
        up_to: StoredId,
    },
    SetTimer {
        name: Name,
        due_ms: u64,
    },
    CancelTimer {
        name: Name,
    },
    CancelHold {
        id: HoldId,
    },
    Enqueue {
        queue: Name,
        message: OwnedMessage,
    },
    Emit {
        exchange: Name,
        message: OwnedMessage,
    },
}

/// The effects of one call. Dropped without commit, they are undone.
pub(crate) struct Draft {
    id: DraftId,
    cell: Arc<Cell>,
    exchange: Option<Arc<Exchange>>,
    layer: Layer,
    account: Arc<Account>,
    ops: Vec<Op>,
    outgoing_bytes: usize,
    keep_if_unroutable: bool,
    /// Until it is committed or gone.
    _inside: Option<Inside>,
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft").field("id", &self.id).field("ops", &self.ops).finish_non_exhaustive()
    }
}

impl Draft {
    pub(super) fn new(call: &Call, account: &Arc<Account>) -> Self {
        Self {
            id: DraftId::next(),
            cell: call.cell.clone(),
            exchange: call.exchange.clone(),
            layer: call.layer,
            account: account.clone(),
            ops: Vec::new(),
            outgoing_bytes: 0,
            keep_if_unroutable: false,
            _inside: call.inside.clone(),
        }
    }

    pub(super) fn id(&self) -> DraftId {
        self.id
    }

    /// Whether there is room for one more.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn make_room(&self) -> Result<(), TooMuch> {
        if self.ops.len() < EFFECTS_MAX { Ok(()) } else { Err(TooMuch) }
    }

    /// Adds one for which room was made.
    pub(super) fn push(&mut self, op: Op) {
        self.ops.push(op);
    }

    /// Adds a message that the broker is to enqueue or to publish.
    ///
    /// # Errors
    /// If it is too much.
    pub(super) fn push_outgoing(&mut self, op: Op) -> Result<(), TooMuch> {
        self.make_room()?;
        if let Op::Enqueue { message, .. } | Op::Emit { message, .. } = &op {
            self.outgoing_bytes =
                self.outgoing_bytes.saturating_add(message.len_bytes()).saturating_add(OUTGOING_BYTES);
        }
        if self.outgoing_bytes > OUTGOING_BYTES_MAX {
            return Err(TooMuch);
        }
        self.push(op);
        Ok(())
    }

    pub(super) fn keep_if_unroutable(&mut self) {
        self.keep_if_unroutable = true;
    }

    /// Whether a message is kept: it must then have been decided with the newest bindings.
    pub(crate) fn keeps_message(&self) -> bool {
        self.ops.iter().any(|op| matches!(op, Op::Kept { .. }))
    }

    /// What it wants of the broker, for people to read; values are counted.
    pub(crate) fn wanted(&self) -> Vec<Wanted> {
        let is_value = |op: &&Op| matches!(op, Op::Value { .. } | Op::Added { .. });
        let values = Some(self.ops.iter().filter(is_value).count()).filter(|count| *count > 0);
        let others = self.ops.iter().filter_map(|op| match op {
            Op::Enqueue { queue, .. } => Some(Wanted::Enqueue(queue.clone())),
            Op::Emit { exchange, message } => {
                Some(Wanted::Publish(exchange.clone(), message.routing_key.clone()))
            }
            Op::Kept { .. } => Some(Wanted::Keep),
            Op::SetTimer { name, .. } => Some(Wanted::SetTimer(name.clone())),
            _ => None,
        });
        others.chain(values.map(Wanted::Write)).collect()
    }

    /// Whether something that it did takes place, should the message have that fate.
    fn takes_place(&self, op: &Op, fate: Fate) -> bool {
        fate != Fate::Unroutable || self.keep_if_unroutable || matches!(op, Op::Kept { .. })
    }

    /// Appends what of it is to outlive the process.
    pub(crate) fn changes(&self, fate: Fate, group: &mut Vec<Change>) {
        if self.cell.holder().is_none() {
            return;
        }
        for op in self.ops.iter().filter(|op| self.takes_place(op, fate)) {
            let change = match op {
                Op::Value { space: Space::Durable, key } => {
                    self.cell.values(Space::Durable).lock().written(self.id, key)
                }
                Op::Added { space: Space::Durable, key, more, end_ms, .. } => {
                    Some(StateChange::Add { key: key[..].into(), more: *more, end_ms: *end_ms })
                }
                Op::Kept { id, newest } => self.cell.messages().lock().kept(*id, *newest),
                Op::Forget { key, up_to } => {
                    let ids = self.cell.messages().lock().ids_up_to(key, *up_to);
                    for id in ids {
                        self.cell.record(StateChange::Forget { id }, group);
                    }
                    None
                }
                Op::SetTimer { name, due_ms } => {
                    self.cell
                        .record_timer(StateChange::SetTimer { name: name.clone(), due_ms: *due_ms }, group);
                    None
                }
                Op::CancelTimer { name } => {
                    self.cell.record_timer(StateChange::EndTimer { name: name.clone(), due_ms: None }, group);
                    None
                }
                _ => None,
            };
            if let Some(change) = change {
                self.cell.record(change, group);
            }
        }
    }

    /// Makes the effects last.
    pub(crate) fn settle(mut self, fate: Fate, deeds: &mut Vec<Deed>) {
        let now_ms = unix_ms();
        self.cell.is_written();
        for op in std::mem::take(&mut self.ops) {
            if self.takes_place(&op, fate) {
                self.perform(op, now_ms, deeds);
            } else {
                self.undo(op);
            }
        }
        self.cell.settled();
    }

    fn perform(&self, op: Op, now_ms: u64, deeds: &mut Vec<Deed>) {
        match op {
            Op::Value { space, key } => self.cell.values(space).lock().commit(self.id, &key, now_ms),
            Op::Added { .. } => {}
            Op::Kept { id, newest } => self.cell.messages().lock().commit(id, newest),
            Op::Forget { key, up_to } => self.cell.messages().lock().forget(&key, up_to),
            Op::SetTimer { name, due_ms } => {
                if let Some(exchange) = &self.exchange {
                    deeds.push(Deed::SetTimer {
                        exchange: exchange.clone(),
                        layer: self.layer,
                        name,
                        due_ms,
                    });
                }
            }
            Op::CancelTimer { name } => {
                if let Some(exchange) = &self.exchange {
                    deeds.push(Deed::CancelTimer { exchange: exchange.id, layer: self.layer, name });
                }
            }
            Op::CancelHold { id } => {
                if let Some(exchange) = &self.exchange {
                    deeds.push(Deed::CancelHold { exchange: exchange.id, id });
                }
            }
            Op::Enqueue { queue, message } => deeds.push(Deed::Enqueue { queue, message }),
            Op::Emit { exchange, message } => {
                self.account.count_emitted();
                let plugin = self.account.name().clone();
                deeds.push(Deed::Emit { exchange, message, plugin });
            }
        }
    }

    fn undo(&self, op: Op) {
        match op {
            Op::Value { space, key } => self.cell.values(space).lock().forget(self.id, &key),
            Op::Added { space, key, more, counter, .. } => {
                self.cell.values(space).lock().subtract(&key, more, counter);
            }
            Op::Kept { id, .. } => self.cell.messages().lock().remove(id),
            Op::Forget { .. }
            | Op::SetTimer { .. }
            | Op::CancelTimer { .. }
            | Op::CancelHold { .. }
            | Op::Enqueue { .. }
            | Op::Emit { .. } => {}
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.ops.is_empty() {
            return;
        }
        for op in std::mem::take(&mut self.ops) {
            self.undo(op);
        }
        self.cell.settled();
    }
}

impl Effects for Draft {
    fn wants(&self, fate: Fate, each: &mut dyn FnMut(Want<'_>)) {
        let plugin = self.account.name();
        for op in self.ops.iter().filter(|op| self.takes_place(op, fate)) {
            match op {
                Op::Emit { message, .. } => each(Want::Emit { plugin, message_bytes: message.len_bytes() }),
                Op::Enqueue { queue, message } => {
                    each(Want::Enqueue { plugin, queue, body_bytes: message.body.len() });
                }
                _ => {}
            }
        }
    }

    fn no_room(&self, plugin: &str, why: &str) {
        if **self.account.name() == *plugin {
            self.account.no_room(why);
        }
    }

    fn record(&self, fate: Fate, group: &mut Vec<Change>) {
        self.changes(fate, group);
    }

    fn commit(self: Box<Self>, fate: Fate, _message: &MessageView<'_>, deeds: &mut Vec<Deed>) {
        self.settle(fate, deeds);
    }
}
