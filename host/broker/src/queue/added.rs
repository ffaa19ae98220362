//! What consumers add to the headers of a message that they give back: whoever gets it next sees that, and so does its
//! dead-letter exchange (AMQP 1.0, 3.4.5: the message annotations of `modified`). Of a message that the store has it is kept
//! there too, until the message is settled: written with the next batch, as deliveries are that count, and waited for by
//! nobody. So is how often consumers failed on it, where the queue does not count deliveries.

use super::{Keeping, Queue, slab::MessageRef, state::State, tries::DELIVERY_COUNT};
use crate::{
    client::Remark,
    store::{Durability, Group},
};
use alloc::vec::Vec;
use leveret_model::{Change, Exact, Name, Value};

/// How many bytes may be added to a message. More is not taken.
const ADDED_BYTES_MAX: usize = 64 * 1024;
/// What a header takes beside its name and what its value points to, about.
const HEADER_BYTES: usize = 64;
/// So many failures are written as one group.
pub(crate) const FAILED_AT_ONCE: usize = 1024;

/// A header that is added to a message.
#[derive(Clone, Debug, PartialEq)]
pub struct AddedHeader {
    /// Its name.
    pub name: Name,
    /// Its value.
    pub value: Value,
    /// The same as a form encodes it, for messages of that form.
    pub exact: Option<Exact>,
}

/// Headers that were added to a message.
#[derive(Default)]
pub(super) struct Added {
    headers: Vec<AddedHeader>,
    bytes: usize,
}

impl Added {
    /// How many bytes it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All of it.
    pub(super) fn headers(&self) -> &[AddedHeader] {
        &self.headers
    }

    pub(super) fn changes(&self) -> impl Iterator<Item = Change> {
        self.headers.iter().cloned().map(|AddedHeader { name, value, exact }| match exact {
            Some(exact) => Change::SetHeaderExactly { name, value, exact },
            None => Change::SetHeader { name, value },
        })
    }

    /// As the store has it.
    pub(super) fn of(headers: Vec<AddedHeader>) -> Self {
        Self { bytes: header_bytes(&headers), headers }
    }

    /// Adds headers; of those that are there already the later value counts. False if they are too many.
    fn add(&mut self, more: &[AddedHeader]) -> bool {
        let stays = |header: &&AddedHeader| more.iter().all(|other| other.name != header.name);
        let headers: Vec<_> = self.headers.iter().filter(stays).chain(more).cloned().collect();
        let bytes = header_bytes(&headers);
        let fits = bytes <= ADDED_BYTES_MAX;
        if fits {
            (self.headers, self.bytes) = (headers, bytes);
        }
        fits
    }
}

/// What headers take in memory, in bytes, about.
#[must_use]
pub fn header_bytes(headers: &[AddedHeader]) -> usize {
    let bytes = |AddedHeader { name, value, exact }: &AddedHeader| {
        HEADER_BYTES + name.len() + value_bytes(value) + exact.as_ref().map_or(0, |exact| exact.bytes.len())
    };
    headers.iter().map(bytes).sum()
}

/// What a value points to, in bytes.
fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Binary(bytes) => bytes.len(),
        Value::List(values) => values.iter().map(|value| HEADER_BYTES + value_bytes(value)).sum(),
        Value::Map(pairs) => {
            let pair = |(key, value): &(Value, Value)| HEADER_BYTES + value_bytes(key) + value_bytes(value);
            pairs.iter().map(pair).sum()
        }
        Value::Void
        | Value::Boolean(_)
        | Value::Integer(_)
        | Value::Unsigned(_)
        | Value::Real(_)
        | Value::Decimal { .. }
        | Value::Timestamp(_) => 0,
    }
}

impl Queue {
    /// Notes something of a message that is handed out. What is added to one that the store has is written with `group`,
    /// or by itself.
    pub(crate) fn annotate(&self, message: MessageRef, remark: Remark<'_>, group: Option<&mut dyn Group>) {
        let Some((keeping, headers, failed)) = self.note(message, remark) else { return };
        match group {
            Some(group) => group.added(keeping.id, message.sequence, &headers, failed),
            None => {
                let mut group = keeping.store.group();
                group.added(keeping.id, message.sequence, &headers, failed);
                group.submit(Durability::Never, None);
            }
        }
    }

    /// Somebody failed on messages that are handed out. What is kept of it is written many at once, and nobody waits for it.
    pub(crate) fn fail(&self, messages: impl Iterator<Item = MessageRef>) {
        let remark = Remark { failed: true, ..Remark::default() };
        let mut group = None;
        let noted = messages.filter_map(|message| Some((message, self.note(message, remark)?)));
        for (count, (message, (keeping, headers, failed))) in (1..).zip(noted) {
            let group = group.get_or_insert_with(|| keeping.store.group());
            group.added(keeping.id, message.sequence, &headers, failed);
            if count % FAILED_AT_ONCE == 0 {
                group.submit(Durability::Never, None);
            }
        }
        if let Some(mut group) = group {
            group.submit(Durability::Never, None);
        }
    }

    /// What [`Self::annotate`] does in memory. Gives what is to be written, and where.
    fn note(
        &self,
        message: MessageRef,
        Remark { headers, failed, due_ms }: Remark<'_>,
    ) -> Option<(Keeping, Vec<AddedHeader>, u32)> {
        let mut state = self.state.lock();
        if state.is_deleted() {
            return None;
        }
        let before = if failed { state.failures_in(message) } else { 0 };
        let mut is_new = failed && state.tries.fail(message, before);
        if let Some(due_ms) = due_ms {
            state.tries.wait_until(message, due_ms);
        }
        if !headers.is_empty() {
            let (before, after, is_added) = state.tries.add(message, |added| {
                let before = added.bytes();
                let is_added = added.add(headers);
                (before, added.bytes(), is_added)
            });
            self.account.charge(after.saturating_sub(before));
            self.account.release(before.saturating_sub(after));
            is_new |= is_added;
        }
        state.stored(message).filter(|stored| is_new && stored.kept)?;
        let keeping = state.lanes.lane(message.lane).keeping.clone()?;
        let (headers, failed) = state.tries.to_be_kept(message);
        Some((keeping, headers, failed))
    }
}

impl State {
    /// How often a dead letter says in itself that it failed.
    fn failures_in(&self, message: MessageRef) -> u32 {
        let view =
            self.stored(message).map(|stored| stored.message).filter(|view| view.form.tells_failures());
        match view.and_then(|view| view.header(&Name::from_static(DELIVERY_COUNT))) {
            Some(Value::Integer(count)) => u32::try_from(count).unwrap_or(0),
            _ => 0,
        }
    }

    /// Notes what the store has of headers that consumers added.
    pub(super) fn recover_added(&mut self) {
        let Self { lanes, tries, account, .. } = self;
        for lane in lanes.places() {
            let Some(keeping) = &lanes.lane(lane).keeping else { continue };
            keeping.store.each_added(keeping.id, &mut |sequence, headers, failed| {
                let bytes = tries.recover_added(lane, sequence, headers, failed);
                account.iter().for_each(|account| account.charge(bytes));
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &'static str, value: &str) -> AddedHeader {
        AddedHeader { name: Name::from_static(name), value: Value::Text(value.into()), exact: None }
    }

    #[test]
    fn later_values_count_and_there_are_only_so_many() {
        let mut added = Added::default();
        assert!(added.add(&[header("x-a", "1"), header("x-b", "2")]));
        let before = added.bytes();
        assert!(added.add(&[header("x-a", "3")]));
        assert_eq!(added.headers, [header("x-b", "2"), header("x-a", "3")]);
        assert_eq!(added.bytes(), before);
        assert!(!added.add(&[header("x-c", &"c".repeat(ADDED_BYTES_MAX))]));
        assert_eq!((added.headers.len(), added.bytes()), (2, before));
        let value = Value::List([Value::Text("123".into())].into());
        let exact = Some(Exact { protocol: "p", bytes: alloc::vec![0; 9].into() });
        assert!(added.add(&[AddedHeader { name: Name::from_static("x-d"), value, exact }]));
        assert_eq!(added.bytes(), before + 2 * HEADER_BYTES + 6 + 9);
    }
}
