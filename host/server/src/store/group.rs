//! A group of the broker's, as groups of the store.
//!
//! *Order in it:* what the topology changes and messages as they came, then what is added to messages, what queues no longer
//! have, and what exchange types keep. Where it is longer than a group of the store may be, a gibibyte, it becomes several, in that order,
//! and after a crash the first of them may be there without the others. So a message may be there again that was
//! dead-lettered or released, and be published again; no type knows of a message that is not there, and none is gone that
//! was not put elsewhere. Whoever waits is told once all are safe.
//!
//! *Large bodies* are files of their own, written before the group, so that such a group comes after later ones. What
//! must keep its order, the topology and what types keep, has no such body in its group: there they are among the rest.

use super::{
    Shared, added, message,
    parts::{Apart, Parts},
    state,
    told::{Told, refused},
};
use leveret_broker::{
    AddedHeader,
    store::{
        Change, Durability, Group, HeldAs, KeptId, LargeBody, Noted, Ranges, StoreFailure, Target,
        TopologyChange, Written,
    },
};
use leveret_model::{MessageView, Name};
use leveret_store::{
    ExtentBody, Payload, QueueId, Range, Refused, Sequence, Sync, record::EXTENT_BODY_BYTES,
};
use std::sync::Arc;

/// A group that is being made.
pub(super) struct DiskGroup {
    shared: Arc<Shared>,
    parts: Parts,
    large: Vec<Large>,
    /// What is added to messages, as values.
    added: Vec<((QueueId, Sequence), Vec<u8>)>,
    settles: Vec<(QueueId, Range)>,
    changes: Vec<Change>,
    /// It has to keep its order.
    ordered: bool,
    failed: Option<StoreFailure>,
    /// Room for what is converted.
    targets: Vec<(QueueId, Sequence)>,
    ranges: Vec<Range>,
    note: Vec<u8>,
}

/// A message with a large body.
struct Large {
    form: u8,
    flags: u8,
    at_ms: u64,
    note: Box<[u8]>,
    exchange: Box<[u8]>,
    routing_key: Box<[u8]>,
    properties: Box<[u8]>,
    body: ExtentBody,
    targets: Vec<(QueueId, Sequence)>,
}

/// When a group counts as safe, for the store.
pub(super) fn sync_of(durability: Durability) -> Sync {
    match durability {
        Durability::Never => Sync::Never,
        Durability::Interval(within) => Sync::Interval(within.0),
        Durability::Always => Sync::Always,
    }
}

pub(super) fn range_of(ranges: &Ranges) -> Range {
    Range { first: ranges.first, count: ranges.count }
}

impl DiskGroup {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let parts = Parts::new(shared.group_bytes_max);
        Self {
            shared,
            parts,
            large: Vec::new(),
            added: Vec::new(),
            settles: Vec::new(),
            changes: Vec::new(),
            ordered: false,
            failed: None,
            targets: Vec::new(),
            ranges: Vec::new(),
            note: Vec::new(),
        }
    }

    fn clear(&mut self) {
        self.parts.clear();
        self.large.clear();
        self.added.clear();
        self.settles.clear();
        self.changes.clear();
        (self.ordered, self.failed) = (false, None);
    }

    /// Puts a message; `self.targets` and `self.note` are its.
    fn put(&mut self, message: &MessageView<'_>, large: Option<&Arc<LargeBody>>, flags: u8, at_ms: u64) {
        let Some(form) = message::number_of(message.near_form()) else {
            let what = format!("messages of {} cannot be kept", message.form.protocol());
            self.failed = Some(StoreFailure(what.into()));
            return;
        };
        let flags = if message.far().is_some() { flags | message::FAR } else { flags };
        let payload = Payload { flags, at_ms, note: &self.note, ..Payload::of(message, form) };
        if let Some(stub) = message.far() {
            let body = self.shared.body(&stub);
            if !self.parts.enqueue((&payload, false), Some(Apart::Written(&body)), &self.targets) {
                self.failed = Some(refused(Refused::TooLarge));
            }
            return;
        }
        if message.body.len() >= EXTENT_BODY_BYTES {
            let body: ExtentBody = match large {
                Some(large) => large.clone(),
                None => Arc::new(message.body.to_vec()),
            };
            self.large.push(Large {
                form,
                flags,
                at_ms,
                note: payload.note.into(),
                exchange: payload.exchange.into(),
                routing_key: payload.routing_key.into(),
                properties: payload.properties.into(),
                body,
                targets: self.targets.clone(),
            });
        } else if !self.parts.enqueue((&payload, false), None, &self.targets) {
            self.failed = Some(refused(Refused::TooLarge));
        }
    }

    /// Puts those that wait because their bodies are large.
    fn put_large(&mut self) {
        let ordered = self.ordered || !self.changes.is_empty();
        for large in self.large.drain(..) {
            let Large { form, flags, at_ms, note, exchange, routing_key, properties, body, targets } = &large;
            let bytes: &[u8] = if ordered { (**body).as_ref() } else { &[] };
            let (form, flags, at_ms, body_here) = (*form, *flags, *at_ms, bytes);
            let payload =
                Payload { form, flags, at_ms, note, exchange, routing_key, properties, body: body_here };
            let apart = (!ordered).then_some(Apart::ToWrite(&self.shared.store, body));
            if !self.parts.enqueue((&payload, false), apart, targets) {
                self.failed = Some(refused(Refused::TooLarge));
            }
        }
    }

    fn put_settles(&mut self) {
        for of_queue in self.settles.chunk_by(|a, b| a.0 == b.0) {
            let Some((queue, _)) = of_queue.first() else { continue };
            self.ranges.clear();
            self.ranges.extend(of_queue.iter().map(|(_, range)| *range));
            self.shared.ack(*queue, &self.ranges, &mut self.parts);
        }
    }
}

impl Group for DiskGroup {
    fn is_empty(&self) -> bool {
        self.parts.is_empty()
            && self.large.is_empty()
            && self.added.is_empty()
            && self.settles.is_empty()
            && self.changes.is_empty()
            && self.failed.is_none()
    }

    fn enqueue(
        &mut self,
        message: &MessageView<'_>,
        large: Option<&Arc<LargeBody>>,
        noted: Noted,
        targets: &[Target],
    ) {
        self.targets.clear();
        self.targets.extend(targets.iter().map(|target| (QueueId(target.queue.0), target.sequence)));
        self.note.clear();
        self.put(message, large, if noted.dead_lettered { message::DEAD_LETTERED } else { 0 }, noted.came_ms);
    }

    fn hold(&mut self, message: &MessageView<'_>, dead_lettered: bool, held: HeldAs<'_>, target: Target) {
        self.targets.clear();
        self.targets.push((QueueId(target.queue.0), target.sequence));
        self.note.clear();
        message::put_held(&mut self.note, &held);
        self.put(message, None, if dead_lettered { message::DEAD_LETTERED } else { 0 }, held.due_ms);
    }

    fn settle(&mut self, queue: KeptId, ranges: &[Ranges]) {
        self.settles.extend(ranges.iter().map(|ranges| (QueueId(queue.0), range_of(ranges))));
    }

    fn added(&mut self, queue: KeptId, sequence: u64, headers: &[AddedHeader], failed: u32) {
        // What nobody waits for is not put on a disk that is full.
        if self.shared.store.admits().is_ok() {
            let message = (QueueId(queue.0), sequence);
            self.shared.added.note(message.0, message.1);
            self.added.push((message, added::value(headers, failed)));
        }
    }

    fn change(&mut self, changes: &[Change]) {
        self.changes.extend_from_slice(changes);
    }

    fn topology(&mut self, vhost: &Name, change: TopologyChange<'_>) {
        self.ordered = true;
        self.shared.bindings.change(vhost, change, &mut self.parts);
        if let TopologyChange::QueueGone(queue, _) | TopologyChange::LaneGone(queue) = change {
            self.shared.added.forget_all(QueueId(queue.0), &mut self.parts);
        }
    }

    fn submit(&mut self, durability: Durability, waiter: Option<(&Arc<dyn Written>, u64)>) {
        if self.is_empty() && waiter.is_none() {
            return;
        }
        self.put_large();
        for (message, value) in self.added.drain(..) {
            self.shared.added.put(message, &value, &mut self.parts);
        }
        self.put_settles();
        if let Some(failure) = self.failed.take() {
            tracing::error!("{failure}");
            self.clear();
            if let Some((to, token)) = waiter {
                Told::new(1, to, token).tell(Err(failure));
            }
            return;
        }
        let sync = sync_of(durability);
        let outcome = if self.changes.is_empty() {
            self.parts.submit(&self.shared.store, sync, waiter)
        } else {
            state::write(&self.shared, &self.changes, &mut self.parts, (sync, waiter))
        };
        if let (Err(failure), None) = (outcome, waiter) {
            tracing::warn!("{failure}");
        }
        self.clear();
    }
}
