//! What the broker knows: every message, what was confirmed, what was acked, every value.

use crate::{QueueId, Sequence};
use std::{collections::BTreeMap, sync::Arc};

/// How far a group is known to be safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Safe {
    /// Nobody was told.
    Unknown,
    /// Told that it is written: survives the process.
    Written,
    /// Told that it is synced.
    Synced,
}

/// A message in one queue.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// What it says.
    pub(super) id: u64,
    pub(super) bytes: usize,
    pub(super) large: bool,
    /// A body that others may have too.
    pub(super) body: Option<Arc<Vec<u8>>>,
    /// The group that enqueues it.
    pub(super) group: u64,
    /// The group that acks it.
    pub(super) acked_by: Option<u64>,
    /// How often a delivery was submitted, before the last start and since.
    pub(super) delivered: u16,
    /// How often that is known to be written.
    pub(super) counted: u16,
    /// How often it had been when the run began.
    pub(super) kept: u16,
    /// It counts as delivered since an unclean start.
    pub(super) doubtful: bool,
}

impl Message {
    /// One that was not delivered yet, of that id, so long and perhaps with a large body, in that group.
    pub(super) fn new(id: u64, (bytes, large): (usize, bool), group: u64) -> Self {
        let (acked_by, delivered, counted, kept, doubtful) = (None, 0, 0, 0, false);
        Self { id, bytes, large, body: None, group, acked_by, delivered, counted, kept, doubtful }
    }
}

/// A group that was submitted, or is to be.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) safe: Safe,
    /// It was refused, or failed: nothing of it may be there.
    pub(super) failed: bool,
    pub(super) messages: Vec<(QueueId, Sequence)>,
    pub(super) acks: Vec<(QueueId, Sequence)>,
    pub(super) deliveries: Vec<(QueueId, Sequence)>,
}

impl Sent {
    /// One of which nothing is known yet, or which is all that is known.
    pub(super) fn new(safe: Safe) -> Self {
        Self { safe, failed: false, messages: Vec::new(), acks: Vec::new(), deliveries: Vec::new() }
    }
}

/// What was written to a key, one after the other: which group, and the value.
pub(super) type History = Vec<(u64, Option<u64>)>;

/// All that is known.
#[derive(Default)]
pub(super) struct Model {
    pub(super) messages: BTreeMap<(QueueId, Sequence), Message>,
    pub(super) sent: BTreeMap<u64, Sent>,
    pub(super) values: BTreeMap<Vec<u8>, History>,
    pub(super) next_group: u64,
    pub(super) next_id: u64,
    pub(super) next: BTreeMap<QueueId, Sequence>,
}

/// What is found of a message.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seen {
    pub(super) redelivered: bool,
    pub(super) deliveries: u16,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    Killed,
    PowerLost,
}

impl Model {
    pub(super) fn content(message: &Message) -> Vec<u8> {
        let mut bytes = message.id.to_le_bytes().to_vec();
        bytes.resize(message.bytes.max(8), message.id as u8);
        bytes
    }

    fn survives(&self, group: u64, end: End) -> bool {
        let needed = match end {
            End::PowerLost => Safe::Synced,
            End::Killed | End::Closed => Safe::Written,
        };
        self.sent.get(&group).is_some_and(|sent| sent.safe >= needed)
    }

    /// Holds what is found after a start against what is known, and takes it for the truth.
    pub(super) fn check(
        &mut self,
        found: &BTreeMap<(QueueId, Sequence), Seen>,
        values: &BTreeMap<Vec<u8>, u64>,
        end: End,
    ) {
        for (place, seen) in found {
            let message = self.messages.get(place).unwrap_or_else(|| panic!("{place:?} was never published"));
            let failed = self.sent.get(&message.group).is_some_and(|sent| sent.failed);
            assert!(!failed, "{place:?} was refused, and is there");
            self.check_flags(place, message, seen, end);
        }
        for (place, message) in &self.messages {
            let is_there = found.contains_key(place);
            match message.acked_by {
                None => assert!(
                    is_there || !self.survives(message.group, end),
                    "{place:?} was confirmed and is lost"
                ),
                Some(ack) => {
                    assert!(!is_there || !self.survives(ack, end), "{place:?} is acked for good and is there")
                }
            }
        }
        self.check_groups(found);
        self.check_values(values, end);
        self.adopt(found, values, end);
    }

    fn check_flags(&self, place: &(QueueId, Sequence), message: &Message, seen: &Seen, end: End) {
        let Seen { redelivered, deliveries } = *seen;
        if end == End::Closed {
            let delivered = message.delivered > 0 || message.doubtful;
            assert_eq!(redelivered, delivered, "{place:?} was delivered {}", message.delivered);
            assert_eq!(deliveries, message.delivered, "{place:?}");
        } else {
            assert!(redelivered, "{place:?} may have been delivered");
            assert!(deliveries <= message.delivered, "{place:?} was not delivered {deliveries} times");
            let counted = if end == End::Killed { message.counted } else { message.kept };
            assert!(
                deliveries >= counted,
                "{place:?} was delivered {counted} times at least, not {deliveries}"
            );
        }
    }

    /// Each group is there or is not.
    fn check_groups(&self, found: &BTreeMap<(QueueId, Sequence), Seen>) {
        for (number, sent) in &self.sent {
            let of_others = |place: &&(QueueId, Sequence)| {
                self.messages.get(place).is_some_and(|message| message.acked_by.is_none())
            };
            let mut there = sent.messages.iter().filter(of_others).map(|place| found.contains_key(place));
            let first = there.next();
            assert!(there.all(|next| Some(next) == first), "group {number} is there in part: {sent:?}");
            let acked_there = sent.acks.iter().any(|place| found.contains_key(place));
            assert!(
                !(first == Some(true) && acked_there),
                "group {number} is there, and what it acks too: {sent:?}"
            );
        }
    }

    fn check_values(&self, values: &BTreeMap<Vec<u8>, u64>, end: End) {
        for (key, history) in &self.values {
            let value = values.get(key).copied();
            let safe = history.iter().rposition(|(group, _)| self.survives(*group, end)).unwrap_or_default();
            let rest = history.get(safe..).unwrap_or_default();
            let mut possible = rest.iter().map(|(_, value)| *value);
            assert!(possible.any(|possible| possible == value), "{key:?} is {value:?} of {history:?}");
        }
        for key in values.keys() {
            assert!(self.values.contains_key(key), "{key:?} was never set");
        }
    }

    fn adopt(
        &mut self,
        found: &BTreeMap<(QueueId, Sequence), Seen>,
        values: &BTreeMap<Vec<u8>, u64>,
        end: End,
    ) {
        self.messages.retain(|place, _| found.contains_key(place));
        for (place, seen) in found {
            if let Some(message) = self.messages.get_mut(place) {
                message.acked_by = None;
                message.delivered = seen.deliveries;
                (message.counted, message.kept) = (seen.deliveries, seen.deliveries);
                message.doubtful |= end != End::Closed;
                message.group = 0;
            }
        }
        self.values = values.iter().map(|(key, value)| (key.clone(), vec![(0, Some(*value))])).collect();
        self.sent = BTreeMap::from([(0, Sent::new(Safe::Synced))]);
    }
}
