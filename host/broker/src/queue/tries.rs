//! What is noted of messages that came back: how often they were delivered in vain, and what consumers added to their
//! headers (`added.rs`).
//!
//! A quorum queue has two counts, told to consumers as headers from the second delivery on: `x-acquired-count`, how often
//! it was delivered before, and `x-delivery-count`, how often of these it failed: it was rejected to be requeued, or its
//! consumer went away. What is given back with a nack counts as no failure. A message beyond its limit dies. A dead letter
//! goes on from what it failed where it died.
//!
//! A classic queue counts failures in the same way, and tells nobody: a dead letter may come to a quorum queue by way of it.
//! So it counts where it has a dead-letter exchange alone, and of so many messages at most.
//!
//! After a restart each delivery that is on disk counts as failed: if it was the message that ended the process, it
//! must not do so for ever.

use super::{
    AddedHeader,
    added::Added,
    settings::{DELIVERY_LIMIT, DeliveryLimit},
    slab::MessageRef,
    suspects::Suspected,
};
use alloc::{boxed::Box, vec::Vec};
use hashbrown::HashMap;
use leveret_model::{Change, MessageView, Name, Patch, Value};

/// Of so many messages at most a queue notes what they failed elsewhere, or what nobody is told: that is in no account of
/// memory.
const UNTOLD_MAX: usize = 100_000;
/// The header that tells how often consumers failed on a message.
pub(crate) const DELIVERY_COUNT: &str = "x-delivery-count";

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    acquired: u32,
    failed: u32,
    /// In a queue that does not tell its counts: how many failures are told all the same.
    told: u32,
}

/// What is noted of a message.
#[derive(Default)]
struct Note {
    count: Count,
    added: Option<Box<Added>>,
    /// Its key among what came back, where that comes first ([`super::returned`]).
    key: Option<i64>,
    /// When it is to be tried again, if it comes back now, in milliseconds since 1970.
    due_ms: Option<u64>,
}

/// The notes of a queue's messages; of those alone that came back.
pub(super) struct Tries {
    limit: DeliveryLimit,
    /// It tells its counts, and has a limit.
    is_counting: bool,
    /// `None` in queues that do not tell counts, until there is something to note.
    notes: Option<HashMap<(u16, u64), Note, foldhash::fast::RandomState>>,
    /// Those that may have ended the process.
    pub(super) suspects: Suspected,
}

impl Tries {
    pub(super) fn of(limit: DeliveryLimit, is_counting: bool) -> Self {
        Self { limit, is_counting, notes: is_counting.then(HashMap::default), suspects: None }
    }

    /// Whether messages are to be looked at one by one: there is any note, or a suspect.
    #[inline]
    pub(super) fn has_any(&self) -> bool {
        self.notes.as_ref().is_some_and(|notes| !notes.is_empty())
            || self.suspects.as_ref().is_some_and(|suspects| suspects.looks())
    }

    /// Whether the store is told what is handed out.
    #[inline]
    pub(super) fn tells(&self) -> bool {
        self.suspects.as_ref().is_some_and(|suspects| suspects.tells())
    }

    /// Whether a message is handed out by itself: a burst that has others ends before it, and its own after it.
    #[inline]
    pub(super) fn is_alone(&self, message: MessageRef) -> bool {
        self.suspects.as_ref().is_some_and(|suspects| suspects.is_alone(message))
    }

    /// Notes of a message what a consumer added; `add` makes it.
    pub(super) fn add<R>(&mut self, message: MessageRef, add: impl FnOnce(&mut Added) -> R) -> R {
        let notes = self.notes.get_or_insert_default();
        let note = notes.entry((message.lane, message.sequence)).or_default();
        add(note.added.get_or_insert_default())
    }

    /// Has another limit. Those that had too many deliveries already die when they are next.
    pub(super) fn set_limit(&mut self, limit: DeliveryLimit) {
        self.limit = limit;
    }

    /// Notes what the store tells of messages of a lane.
    pub(super) fn recover(&mut self, lane: u16, deliveries: &[(u64, u16)]) {
        let Some(notes) = self.notes.as_mut().filter(|_| self.is_counting) else { return };
        for (sequence, times) in deliveries {
            let times = u32::from(*times);
            let count = &mut notes.entry((lane, *sequence)).or_default().count;
            if *count == Count::default() {
                *count = Count { acquired: times, failed: times, told: 0 };
            }
        }
    }

    /// The same of what consumers added to a message of a lane, and of how many failures are told of it where the queue does
    /// not tell its counts. Gives how many bytes were added.
    pub(super) fn recover_added(
        &mut self,
        lane: u16,
        sequence: u64,
        headers: Vec<AddedHeader>,
        failed: u32,
    ) -> usize {
        let note = self.notes.get_or_insert_default().entry((lane, sequence)).or_default();
        if !self.is_counting {
            (note.count.failed, note.count.told) = (failed, failed);
        }
        if headers.is_empty() {
            return 0;
        }
        let added = note.added.insert(Box::new(Added::of(headers)));
        added.bytes()
    }

    /// A consumer failed on a message, and wants that told where the queue does not tell its counts; whether it does not.
    /// The message itself tells that it failed so often `before`.
    pub(super) fn fail(&mut self, message: MessageRef, before: u32) -> bool {
        if !self.is_counting {
            let notes = self.notes.get_or_insert_default();
            let count = &mut notes.entry((message.lane, message.sequence)).or_default().count;
            count.told = count.told.max(before).saturating_add(1);
        }
        !self.is_counting
    }

    /// What the store is to have of a message: what was added to it, and how many failures are told of it where the queue
    /// does not tell its counts.
    pub(super) fn to_be_kept(&self, message: MessageRef) -> (Vec<AddedHeader>, u32) {
        let Some(note) = self.note(message) else { return (Vec::new(), 0) };
        let headers = note.added.as_ref().map_or(Vec::new(), |added| added.headers().to_vec());
        (headers, if self.is_counting { 0 } else { note.count.told })
    }

    /// A message of a queue that counts is not to be tried again before that, if it comes back.
    pub(super) fn wait_until(&mut self, message: MessageRef, due_ms: u64) {
        if let Some(notes) = self.notes.as_mut().filter(|_| self.is_counting) {
            notes.entry((message.lane, message.sequence)).or_default().due_ms = Some(due_ms);
        }
    }

    /// Before when a message that came back is not to be tried again, if anybody said so this time.
    pub(super) fn take_due_ms(&mut self, message: MessageRef) -> Option<u64> {
        let notes = self.notes.as_mut().filter(|_| self.is_counting)?;
        notes.get_mut(&(message.lane, message.sequence))?.due_ms.take()
    }

    /// Counts a delivery that came back; whether there were too many. Without a limit of its own a message stays
    /// that has nowhere to go.
    pub(super) fn is_over(&mut self, message: MessageRef, failed: bool, has_letters: bool) -> bool {
        if !self.is_counting {
            if failed && has_letters {
                self.fail_untold(message);
            }
            return false;
        }
        let notes = self.notes.get_or_insert_default();
        let count = &mut notes.entry((message.lane, message.sequence)).or_default().count;
        count.acquired = count.acquired.saturating_add(1);
        count.failed = count.failed.saturating_add(failed.into());
        self.limit.is_over(*count, has_letters)
    }

    #[cold]
    fn fail_untold(&mut self, message: MessageRef) {
        let notes = self.notes.get_or_insert_default();
        let (is_full, place) = (notes.len() >= UNTOLD_MAX, (message.lane, message.sequence));
        if is_full && !notes.contains_key(&place) {
            return;
        }
        let count = &mut notes.entry(place).or_default().count;
        count.failed = count.failed.saturating_add(1);
    }

    /// A message that was counted came back, under a key where that comes first.
    pub(super) fn came_back(&mut self, message: MessageRef, key: Option<i64>) {
        if key.is_some()
            && let Some(note) =
                self.notes.as_mut().and_then(|it| it.get_mut(&(message.lane, message.sequence)))
        {
            note.key = key;
        }
    }

    /// The key under which a message came back.
    pub(super) fn key(&self, message: MessageRef) -> Option<i64> {
        self.note(message)?.key
    }

    /// Whether a ready message was delivered too often: it was there before a restart, or before the limit changed.
    #[inline]
    pub(super) fn is_worn_out(&self, message: MessageRef, has_letters: bool) -> bool {
        // One that failed elsewhere is tried here first.
        let count = self.note(message).map(|note| note.count).filter(|count| count.acquired > 0);
        count.is_some_and(|count| self.limit.is_over(count, has_letters))
    }

    /// A message that comes failed so often before. Nothing is noted where that is not counted, or of very many already:
    /// such a message fails from the beginning.
    pub(super) fn begin_with(&mut self, (lane, sequence): (u16, u64), failed: u32, has_letters: bool) {
        if !self.is_counting && !has_letters {
            return;
        }
        let notes = self.notes.get_or_insert_default();
        if notes.len() < UNTOLD_MAX {
            let count = Count { failed, ..Count::default() };
            notes.insert((lane, sequence), Note { count, ..Note::default() });
        }
    }

    #[inline]
    fn note(&self, message: MessageRef) -> Option<&Note> {
        let notes = self.notes.as_ref().filter(|notes| !notes.is_empty())?;
        notes.get(&(message.lane, message.sequence))
    }

    /// How often a message failed.
    pub(super) fn failures(&self, message: MessageRef) -> u32 {
        self.note(message).map_or(0, |note| note.count.failed)
    }

    /// A message is done with. Gives how many bytes were added to it.
    pub(super) fn forget(&mut self, message: MessageRef) -> usize {
        let note = match &mut self.notes {
            Some(notes) if !notes.is_empty() => notes.remove(&(message.lane, message.sequence)),
            _ => None,
        };
        note.and_then(|note| note.added).map_or(0, |added| added.bytes())
    }

    /// All messages are gone. Gives how many bytes were added to them.
    pub(super) fn clear(&mut self) -> usize {
        let notes = self.notes.iter_mut().flat_map(|notes| notes.drain());
        notes.filter_map(|(_, note)| note.added).map(|added| added.bytes()).sum()
    }

    /// The message as it is told to a consumer; `patched` has what it needs.
    #[inline]
    pub(super) fn told<'a>(
        &self,
        message: MessageRef,
        view: MessageView<'a>,
        patched: &'a mut Vec<u8>,
    ) -> MessageView<'a> {
        match self.note(message) {
            Some(note) => note.told(view, note.count.shown(self.is_counting), patched),
            None => view,
        }
    }

    /// The message as a dead letter: without the counts.
    pub(super) fn buried<'a>(
        &self,
        message: MessageRef,
        view: MessageView<'a>,
        patched: &'a mut Vec<u8>,
    ) -> MessageView<'a> {
        match self.note(message) {
            Some(note) => note.told(view, Count::default(), patched),
            None => view,
        }
    }
}

impl DeliveryLimit {
    fn is_over(self, count: Count, has_letters: bool) -> bool {
        match self {
            Self::None => false,
            Self::Default => has_letters && count.failed > DELIVERY_LIMIT,
            Self::Times(most) => count.failed > most,
        }
    }
}

impl Count {
    /// As it is told.
    fn shown(self, is_counting: bool) -> Self {
        if !is_counting {
            return Self { failed: self.told, ..Self::default() };
        }
        // As RabbitMQ says it of one that failed elsewhere and was not given to anybody here.
        let acquired = if self.acquired == 0 { self.failed } else { self.acquired };
        Self { acquired, ..self }
    }
}

impl Note {
    fn told<'a>(&self, view: MessageView<'a>, count: Count, patched: &'a mut Vec<u8>) -> MessageView<'a> {
        let header = |name, count: u32| Change::SetHeader {
            name: Name::from_static(name),
            value: Value::Integer(count.into()),
        };
        let Count { acquired, failed, .. } = count;
        let acquired = (acquired > 0).then(|| header("x-acquired-count", acquired));
        let failed = (failed > 0).then(|| header(DELIVERY_COUNT, failed));
        let added = self.added.iter().flat_map(|added| added.changes());
        let patch: Patch = added.chain(acquired).chain(failed).collect();
        if patch.is_empty() {
            return view;
        }
        patched.clear();
        match view.form.patch(view.properties, &patch, patched) {
            Ok(()) => MessageView { properties: patched, ..view },
            // Its headers are as many as can be.
            Err(_) => view,
        }
    }
}
