//! What consumers added to headers of messages in queues, as values: all that a message has of them, under the numbers of
//! its queue (or lane) and its own; and how often they failed on it, in a queue that does not count deliveries.
//!
//! ```text
//! key    u64 BE the queue's number, u64 BE the message's
//! value  u8 version, in version 2 u32 failures, u32 headers, for each: its name, a flat value, u8 0 or the number of a form (message.rs) and the
//!        value as that encodes it: u32 length, bytes
//! ```
//! A value goes in the group in which its message is settled, or its queue goes; one of a message that is not there goes
//! at the next start. Which messages have one is known in memory, by queues, so that whoever settles where none has pays
//! a load.

use super::{
    codec::{Malformed, Take, TakeMore, VERSION, VERSION_2, put_name},
    message::{number_of_protocol, protocol_of},
    parts::Parts,
    spaces::ADDED,
};
use leveret_broker::AddedHeader;
use leveret_model::{Exact, flat};
use leveret_store::{Group, QueueId, Range, Sequence, Store, Sync};
use parking_lot::RwLock;
use std::{
    collections::{BTreeSet, HashMap},
    sync::atomic::{AtomicBool, Ordering},
};

/// Which messages have something added.
pub(super) struct Added {
    /// There is one; changed under the lock of `noted`. Whoever settles a message sees what was noted of it, for it got the
    /// message after that, by the lock of the queue.
    any: AtomicBool,
    noted: RwLock<HashMap<QueueId, BTreeSet<Sequence>>>,
}

impl Added {
    /// Reads which there are. Those of messages that are gone are taken away.
    pub(super) fn open(store: &Store) -> Self {
        let (mut noted, mut gone) = (HashMap::<_, BTreeSet<_>>::new(), Vec::new());
        let mut keys = Vec::new();
        store.values_with(ADDED, b"", |key, _, _| keys.push(Box::<[u8]>::from(key)));
        for key in keys {
            match take_key(&key) {
                Ok((queue, at)) if store.count(queue, at..at.saturating_add(1)) > 0 => {
                    noted.entry(queue).or_default().insert(at);
                }
                _ => gone.push(key),
            }
        }
        if !gone.is_empty() {
            let mut group = Group::default();
            gone.iter().for_each(|key| group.unset(ADDED, key));
            // The next start tries again.
            let _ = store.submit_admitted(&mut group, Sync::Ride, None);
        }
        Self { any: AtomicBool::new(!noted.is_empty()), noted: RwLock::new(noted) }
    }

    /// A message has something added from now on.
    pub(super) fn note(&self, queue: QueueId, at: Sequence) {
        let mut all = self.noted.write();
        all.entry(queue).or_default().insert(at);
        self.any.store(true, Ordering::Relaxed);
    }

    /// Whether it still has.
    fn has(&self, queue: QueueId, at: Sequence) -> bool {
        self.noted.read().get(&queue).is_some_and(|noted| noted.contains(&at))
    }

    /// Whether any message has.
    #[cfg(test)]
    pub(super) fn has_any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Puts what was added to a message, unless that was settled meanwhile.
    pub(super) fn put(&self, (queue, at): (QueueId, Sequence), value: &[u8], parts: &mut Parts) {
        if self.has(queue, at) {
            parts.set(ADDED, &key(queue, at), value, 0);
        }
    }

    /// Messages of a queue are settled: puts that nothing is added to them.
    #[inline]
    pub(super) fn forget(&self, queue: QueueId, ranges: &[Range], parts: &mut Parts) {
        if self.any.load(Ordering::Relaxed) {
            self.forget_noted(queue, |noted| noted_in(noted, ranges), parts);
        }
    }

    /// The same of all messages of a queue.
    pub(super) fn forget_all(&self, queue: QueueId, parts: &mut Parts) {
        if self.any.load(Ordering::Relaxed) {
            self.forget_noted(queue, |noted| noted.iter().copied().collect(), parts);
        }
    }

    #[cold]
    fn forget_noted(
        &self,
        queue: QueueId,
        which: impl FnOnce(&BTreeSet<Sequence>) -> Vec<Sequence>,
        parts: &mut Parts,
    ) {
        let gone = self.noted.read().get(&queue).map(which).unwrap_or_default();
        if gone.is_empty() {
            return;
        }
        let mut all = self.noted.write();
        let Some(noted) = all.get_mut(&queue) else { return };
        for at in gone {
            if noted.remove(&at) {
                parts.unset(ADDED, &key(queue, at));
            }
        }
        if noted.is_empty() {
            all.remove(&queue);
            self.any.store(!all.is_empty(), Ordering::Relaxed);
        }
    }
}

fn noted_in(noted: &BTreeSet<Sequence>, ranges: &[Range]) -> Vec<Sequence> {
    let of_range = |range: &Range| noted.range(range.first..range.first.saturating_add(range.count.into()));
    ranges.iter().flat_map(of_range).copied().collect()
}

/// Hands over what was added to messages of a queue. What cannot be read is told, and left out.
pub(super) fn each(store: &Store, queue: QueueId, each: &mut dyn FnMut(Sequence, Vec<AddedHeader>, u32)) {
    let mut found = Vec::new();
    store.values_with(ADDED, &queue.0.to_be_bytes(), |key, value, _| {
        found.push((take_key(key), Box::<[u8]>::from(value)));
    });
    for (key, value) in found {
        match key.and_then(|(_, at)| Ok((at, take(&value)?))) {
            Ok((at, (headers, failed))) => each(at, headers, failed),
            Err(Malformed) => {
                tracing::error!(
                    "the store: what was added to a message of queue number {} cannot be read and is left out",
                    queue.0
                );
            }
        }
    }
}

fn key(queue: QueueId, at: Sequence) -> [u8; 16] {
    let mut key = [0; 16];
    let (of_queue, of_message) = key.split_at_mut(8);
    of_queue.copy_from_slice(&queue.0.to_be_bytes());
    of_message.copy_from_slice(&at.to_be_bytes());
    key
}

fn take_key(key: &[u8]) -> Result<(QueueId, Sequence), Malformed> {
    let mut take = Take(key);
    let read = (QueueId(take.u64_sorted()?), take.u64_sorted()?);
    take.end()?;
    Ok(read)
}

/// What a value is.
pub(super) fn value(headers: &[AddedHeader], failed: u32) -> Vec<u8> {
    let mut out = vec![if failed == 0 { VERSION } else { VERSION_2 }];
    if failed > 0 {
        out.extend_from_slice(&failed.to_le_bytes());
    }
    out.extend_from_slice(&(headers.len() as u32).to_le_bytes());
    for AddedHeader { name, value, exact } in headers {
        put_name(&mut out, name);
        flat::put_value(&mut out, value);
        let exact =
            exact.as_ref().and_then(|exact| Some((number_of_protocol(exact.protocol)?, &exact.bytes)));
        match exact {
            None => out.push(0),
            Some((form, bytes)) => {
                out.push(form);
                out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
                out.extend_from_slice(bytes);
            }
        }
    }
    out
}

/// Reads a value.
fn take(value: &[u8]) -> Result<(Vec<AddedHeader>, u32), Malformed> {
    let mut take = Take(value);
    let failed = if take.is_version_2()? { take.u32()? } else { 0 };
    let mut headers = Vec::new();
    for _ in 0..take.u32()? {
        let (name, value) = (take.name()?, flat::take_value(&mut take.0).ok_or(Malformed)?);
        let exact = match take.u8()? {
            0 => None,
            form => {
                let length = take.u32()? as usize;
                let bytes = take.bytes(length)?.to_vec().into();
                Some(Exact { protocol: protocol_of(form).ok_or(Malformed)?, bytes })
            }
        };
        headers.push(AddedHeader { name, value, exact });
    }
    take.end()?;
    Ok((headers, failed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_model::{Name, Value};

    #[test]
    fn headers_are_read_as_they_were_written() {
        let exact =
            Some(Exact { protocol: leveret_amqp10::form::FORM.protocol(), bytes: vec![0x54, 5].into() });
        let name = Name::from_static;
        let headers = [
            AddedHeader { name: name("x-a"), value: Value::Integer(5), exact },
            AddedHeader { name: name("x-b"), value: Value::Text("text".into()), exact: None },
        ];
        for failed in [0, 7] {
            let written = value(&headers, failed);
            assert_eq!(take(&written), Ok((headers.to_vec(), failed)));
            assert_eq!(take(&value(&[], failed)), Ok((Vec::new(), failed)));
            for end in 0..written.len() {
                assert_eq!(take(&written[..end]), Err(Malformed), "{end}");
            }
        }
    }

    /// It must be read for ever.
    #[test]
    fn version_1_is_read_as_it_lies_in_stores() {
        let value = b"\x01\x01\0\0\0\x03x-a\x02\x05\0\0\0\0\0\0\0\x02\x02\0\0\0\x54\x05";
        let (headers, failed) = take(value).unwrap();
        let [AddedHeader { name, value, exact: Some(exact) }] = &headers[..] else { panic!("{headers:?}") };
        assert_eq!((name.as_bytes(), value), (&b"x-a"[..], &Value::Integer(5)));
        assert_eq!((exact.protocol, &exact.bytes[..], failed), ("amqp-1-0", &[0x54, 5][..], 0));
    }

    #[test]
    fn version_2_is_read_as_it_lies_in_stores() {
        let (headers, failed) = take(b"\x02\x03\0\0\0\x01\0\0\0\x03x-a\x02\x05\0\0\0\0\0\0\0\0").unwrap();
        let [AddedHeader { name, value, exact: None }] = &headers[..] else { panic!("{headers:?}") };
        assert_eq!((name.as_bytes(), value, failed), (&b"x-a"[..], &Value::Integer(5), 3));
    }
}
