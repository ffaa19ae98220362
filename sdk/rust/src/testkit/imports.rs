//! The imports of `wit/0.2.0/capabilities.wit` with the names and types that the generated code gives
//! them, served by the test kit's host.

use super::{Host, TestMessage, state::Effect};
use crate::{contract, generated::leveret::routing::types as wit};

pub(crate) mod clock {
    use super::Host;

    pub(crate) fn now() -> u64 {
        Host::with_current(|state| state.now_ms)
    }
}

pub(crate) mod random {
    use super::Host;

    /// SplitMix64: well known, short, and good enough for tests.
    pub(crate) fn next() -> u64 {
        Host::with_current(|state| {
            state.random = state.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state.random ^ (state.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        })
    }

    pub(crate) fn bytes(count: u32) -> Vec<u8> {
        let words = std::iter::repeat_with(next).flat_map(u64::to_le_bytes);
        words.take(count as usize).collect()
    }
}

pub(crate) mod log {
    use super::Host;
    use crate::log::Level;

    const LINE_BYTES_MAX: usize = 1024;

    pub(crate) fn write(level: Level, text: &str) {
        let (line, _) = text.split_at(text.floor_char_boundary(LINE_BYTES_MAX));
        Host::with_current(|state| state.lines.push((level, line.to_owned())));
    }
}

pub(crate) mod metric {
    use super::Host;

    pub(crate) fn count(name: &str, more: u64) {
        Host::with_current(|state| *state.counters.entry(name.to_owned()).or_default() += more);
    }

    pub(crate) fn gauge(name: &str, value: f64) {
        Host::with_current(|state| {
            state.gauges.insert(name.to_owned(), value);
        });
    }
}

pub(crate) mod effects {
    use super::Host;

    pub(crate) fn keep_if_unroutable() {
        Host::with_current(|state| state.keep_if_unroutable());
    }
}

pub(crate) mod key_value {
    use super::Host;
    use crate::key_value::{Error, Pair, Space};

    const SCAN_MAX: u32 = 1000;

    pub(crate) fn get(space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Host::with_current(|state| state.get(&(space, key.to_vec())))
    }

    pub(crate) fn put(space: Space, key: &[u8], value: &[u8], ttl_ms: Option<u64>) -> Result<(), Error> {
        Host::with_current(|state| state.write((space, key.to_vec()), Some(value.to_vec()), ttl_ms))
    }

    pub(crate) fn delete(space: Space, key: &[u8]) -> Result<bool, Error> {
        let key = (space, key.to_vec());
        Host::with_current(|state| {
            let was_there = state.get(&key)?.is_some();
            state.write(key, None, None)?;
            Ok(was_there)
        })
    }

    pub(crate) fn compare_and_swap(
        space: Space,
        key: &[u8],
        expected: Option<&[u8]>,
        value: Option<&[u8]>,
        ttl_ms: Option<u64>,
    ) -> Result<bool, Error> {
        let key = (space, key.to_vec());
        Host::with_current(|state| {
            let is_as_expected = state.get(&key)?.as_deref() == expected;
            if is_as_expected {
                state.write(key, value.map(<[u8]>::to_vec), ttl_ms)?;
            }
            Ok(is_as_expected)
        })
    }

    pub(crate) fn add(space: Space, key: &[u8], more: i64, ttl_ms: Option<u64>) -> Result<i64, Error> {
        Host::with_current(|state| state.add((space, key.to_vec()), more, ttl_ms))
    }

    pub(crate) fn scan(
        space: Space,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: u32,
    ) -> Result<Vec<Pair>, Error> {
        Host::with_current(|state| {
            let values = state.view().values(space, state.now_ms);
            let wanted = values
                .filter(|(key, _)| key.starts_with(prefix) && after.is_none_or(|after| *key > after))
                .take(limit.min(SCAN_MAX) as usize);
            Ok(wanted.map(|(key, value)| (key.to_vec(), value.to_vec())).collect())
        })
    }

    pub(crate) fn set_capacity(space: Space, entries: u64) {
        Host::with_current(|state| state.set_capacity(space, entries));
    }

    pub(crate) fn len(space: Space) -> u64 {
        Host::with_current(|state| state.view().values(space, state.now_ms).count() as u64)
    }

    /// What a broker has by default.
    pub(crate) fn quota(key_bytes: u32, value_bytes: u32) -> u64 {
        (16 << 20) / (u64::from(key_bytes) + u64::from(value_bytes) + 160)
    }
}

pub(crate) mod message_store {
    use super::{super::topic, Host};
    use crate::message_store::Error;

    pub(crate) fn keep(key: &[u8], newest: u32) -> Result<(), Error> {
        Host::with_current(|state| state.keep(key, newest))
    }

    pub(crate) fn forget(key: &[u8]) -> Result<u32, Error> {
        Host::with_current(|state| state.forget(key))
    }

    pub(crate) fn of_key(key: &[u8], limit: u32) -> Vec<u64> {
        newest(limit, |there| there == key)
    }

    pub(crate) fn matching(pattern: &[u8], limit: u32) -> Vec<u64> {
        newest(limit, |there| topic::matches(pattern, there))
    }

    pub(crate) fn len() -> u64 {
        Host::with_current(|state| state.view().stored.len() as u64)
    }

    /// What a broker has by default.
    pub(crate) fn quota() -> u64 {
        83_886
    }

    fn newest(limit: u32, is_wanted: impl Fn(&[u8]) -> bool) -> Vec<u64> {
        Host::with_current(|state| {
            let stored = state.view().stored.iter();
            let ids: Vec<u64> =
                stored.filter(|stored| is_wanted(&stored.key)).map(|stored| stored.id).collect();
            let first = ids.len().saturating_sub(limit as usize);
            ids.into_iter().skip(first).collect()
        })
    }
}

pub(crate) mod holds {
    use super::{Effect, Host};
    use crate::generated::leveret::routing::holds::Held;

    const FIRST_MAX: u32 = 1000;

    pub(crate) fn count() -> u64 {
        Host::with_current(|state| state.view().held.len() as u64)
    }

    pub(crate) fn first(limit: u32) -> Vec<Held> {
        Host::with_current(|state| {
            let held = state.view().held.iter().take(limit.min(FIRST_MAX) as usize);
            let shown = held.map(|held| Held {
                id: held.id,
                due: held.due_ms,
                routing_key: held.message.routing_key.clone(),
            });
            shown.collect()
        })
    }

    pub(crate) fn cancel(id: u64) {
        Host::with_current(|state| state.effect(Effect::CancelHold(id)));
    }
}

pub(crate) mod timers {
    use super::{Effect, Host};
    use crate::generated::leveret::routing::timers::Timer;

    const FIRST_MAX: u32 = 1000;

    pub(crate) fn count() -> u64 {
        Host::with_current(|state| state.view().timers.len() as u64)
    }

    pub(crate) fn first(limit: u32) -> Vec<Timer> {
        Host::with_current(|state| {
            let timers = state.view().timers.iter();
            let mut timers: Vec<_> =
                timers.map(|(name, due)| Timer { name: name.clone(), due: *due }).collect();
            timers.sort_by_key(|timer| timer.due);
            timers.truncate(limit.min(FIRST_MAX) as usize);
            timers
        })
    }

    pub(crate) fn set(name: &[u8], after_ms: u64) {
        Host::with_current(|state| {
            let due_ms = state.now_ms.saturating_add(after_ms);
            state.effect(Effect::SetTimer { name: name.to_vec(), due_ms })
        });
    }

    pub(crate) fn cancel(name: &[u8]) {
        Host::with_current(|state| state.effect(Effect::CancelTimer { name: name.to_vec() }));
    }
}

pub(crate) mod enqueue {
    use super::{Effect, Host, outgoing, wit};

    pub(crate) fn enqueue(queue: &[u8], message: &wit::OutgoingMessage) {
        let message = outgoing(queue, message);
        Host::with_current(|state| state.effect(Effect::Enqueue { queue: queue.to_vec(), message }));
    }

    pub(crate) fn enqueue_copy(queue: &[u8]) {
        Host::with_current(|state| {
            if let Some(message) = state.message() {
                state.effect(Effect::Enqueue { queue: queue.to_vec(), message });
            }
        });
    }
}

pub(crate) mod emit {
    use super::{Effect, Host, outgoing, wit};

    pub(crate) fn publish(exchange: &[u8], routing_key: &[u8], message: &wit::OutgoingMessage) {
        let message = outgoing(routing_key, message);
        Host::with_current(|state| state.effect(Effect::Publish { exchange: exchange.to_vec(), message }));
    }

    pub(crate) fn publish_copy(exchange: &[u8], routing_key: &[u8]) {
        Host::with_current(|state| {
            if let Some(message) = state.message() {
                let message = message.routing_key(routing_key);
                state.effect(Effect::Publish { exchange: exchange.to_vec(), message });
            }
        });
    }
}

pub(crate) mod queue_info {
    use super::Host;
    use crate::{BindingId, generated::leveret::routing::queue_info::QueueStatus};

    pub(crate) fn of_binding(id: u64) -> Option<QueueStatus> {
        Host::with_current(|state| {
            let status = state.queues.get(&BindingId(id))?;
            Some(QueueStatus { ready: status.ready, consumers: status.consumers })
        })
    }
}

fn outgoing(routing_key: &[u8], message: &wit::OutgoingMessage) -> TestMessage {
    let mut made = TestMessage::new(routing_key).body(message.body.clone());
    made.headers = contract::arguments_from_wit(&message.headers);
    for (property, value) in &message.properties {
        let mut flat = Vec::new();
        contract::put_value(&mut flat, value);
        made.set_property(contract::property_from_wit(*property), flat);
    }
    made
}
