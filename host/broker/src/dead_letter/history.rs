//! What a message tells of its deaths: the headers `x-death`, `x-first-death-*`, `x-last-death-*`, as
//! RabbitMQ writes them.
//!
//! ```text
//! x-death  list of tables, the last death first, one for each pair of queue and reason:
//!   original-expiration  text, the property that the death took away; only if there was one
//!   count                integer, how often it died there of that
//!   reason, queue        text
//!   time                 of the first of these deaths
//!   exchange             text, what the message was published to before it
//!   routing-keys         list of text: the key, then the further ones by which it went to its queues
//! x-first-death-{exchange,queue,reason}, x-last-death-{exchange,queue,reason}  text
//! ```
//!
//! *Invariants:* history is what this broker wrote. Headers of these names that a publisher made up
//! are delivered as they are, and replaced by the first death.
//!
//! *What does not fit* a message's protocol beside its other headers is left out ([`Told`]): the oldest deaths first,
//! then all.

use super::DeathReason;
use crate::queue::DELIVERY_COUNT;
use alloc::{string::String, vec::Vec};
use leveret_model::{Change, MessageView, Name, Patch, Property, Value};

/// How many pairs of queue and reason are remembered; of more the oldest are forgotten.
pub const DEATHS_MAX: usize = 128;

/// The headers that tell of it.
const HEADERS: [&str; 7] = [
    "x-death",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-last-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
];

const COUNT: &str = "count";
const QUEUE: &str = "queue";
const REASON: &str = "reason";
const ROUTING_KEYS: &str = "routing-keys";

/// A death.
pub(super) struct Death<'a> {
    /// Where the message died.
    pub(super) queue: &'a Name,
    /// The key that it goes on by, if that queue has one for its letters.
    pub(super) own_key: Option<&'a Name>,
    pub(super) reason: DeathReason,
    /// Milliseconds since 1970.
    pub(super) now_ms: u64,
    /// It died before: the headers tell of it.
    pub(super) has_history: bool,
    /// How often consumers failed on it, as far as that was counted.
    pub(super) failures: u32,
}

/// How much of the history is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// So many pairs of queue and reason, the last ones, and which were the first and the last.
    Deaths(usize),
    /// Nothing.
    Nothing,
}

/// What a death does to a message.
pub(super) struct Recorded {
    pub(super) patch: Patch,
    /// How many pairs of queue and reason there are to tell of.
    pub(super) deaths: usize,
    /// Nothing was left out before of what tells whether it goes in a circle.
    pub(super) is_known: bool,
    /// The queues where the message died since it was last rejected, by their names: if it came to
    /// one of them again, that would be a cycle that no client has a part in.
    pub(super) since_rejected: Vec<Value>,
    /// It went by its further keys too: no queue where it died before gave it a key of its own instead.
    pub(super) goes_by_more_keys: bool,
}

type Entry = Vec<(Value, Value)>;

/// The changes that tell of a death. `message` is the one that died, as it lay in its queue.
pub(super) fn record(message: &MessageView<'_>, death: &Death<'_>, told: Told) -> Recorded {
    let queue = Value::string(death.queue);
    let reason = text(death.reason.as_str());
    let mut entries = if death.has_history { entries_of(message) } else { Vec::new() };
    let is_known = !death.has_history || has_first(message, &entries);
    let goes_by_more_keys = !death.has_history || went_by_all_keys(message, entries.first());
    let known = entries
        .iter()
        .position(|entry| get(entry, QUEUE) == Some(&queue) && get(entry, REASON) == Some(&reason));
    let mut entry = match known {
        Some(place) => counted(entries.remove(place), message, goes_by_more_keys),
        None => new_entry(message, death, (&queue, &reason), goes_by_more_keys),
    };
    if message.form.tells_failures() {
        entry.push((text("last-time"), time_of(death)));
    }
    entries.insert(0, entry);
    entries.truncate(DEATHS_MAX);

    let automatic = entries.iter().take_while(|entry| {
        get(entry, REASON).and_then(Value::as_text) != Some(DeathReason::Rejected.as_str())
    });
    let since_rejected = automatic.filter_map(|entry| get(entry, QUEUE).cloned()).collect();
    let deaths = entries.len();
    let mut changes = match told {
        Told::Deaths(most) => {
            entries.truncate(most);
            told_deaths(message, death, entries, (queue, reason))
        }
        Told::Nothing => HEADERS.map(|name| Change::RemoveHeader { name: Name::from_static(name) }).to_vec(),
    };
    // It must not expire where it goes now.
    changes.push(Change::RemoveProperty { property: Property::Expiration });
    if goes_by_more_keys && death.own_key.is_some_and(|key| key.as_bytes() == message.routing_key) {
        // The keys that are recorded would be its own again where it dies next, and it would go by them.
        changes.push(Change::RemoveHeader { name: Name::from_static("CC") });
    }
    if death.own_key.is_some() && message.more_keys().unwrap_or_default().is_some_and(|more| more.hides) {
        // Nobody saw them: nothing of them stays.
        changes.push(Change::RemoveHeader { name: Name::from_static("BCC") });
    }
    Recorded { patch: changes.into_iter().collect(), deaths, is_known, since_rejected, goes_by_more_keys }
}

/// The headers with that history.
fn told_deaths(
    message: &MessageView<'_>,
    death: &Death<'_>,
    entries: Vec<Entry>,
    (queue, reason): (Value, Value),
) -> Vec<Change> {
    let set = |name, value| Change::SetHeader { name: Name::from_static(name), value };
    let [x_death, first_exchange, first_queue, first_reason, last_exchange, last_queue, last_reason] =
        HEADERS;
    let exchange = Value::string(message.exchange);
    let mut changes = Vec::with_capacity(10);
    changes.push(match entries.is_empty() {
        true => Change::RemoveHeader { name: Name::from_static(x_death) },
        false => set(x_death, Value::List(entries.into_iter().map(Value::Map).collect())),
    });
    if !death.has_history {
        changes.push(set(first_exchange, exchange.clone()));
        changes.push(set(first_queue, queue.clone()));
        changes.push(set(first_reason, reason.clone()));
    }
    changes.push(set(last_exchange, exchange));
    changes.push(set(last_queue, queue));
    changes.push(set(last_reason, reason));
    if death.failures > 0 && message.form.tells_failures() {
        changes.push(set(DELIVERY_COUNT, Value::Integer(death.failures.into())));
    }
    changes
}

/// Whether the deaths of a message are all there, the first too, or all since it was last rejected.
fn has_first(message: &MessageView<'_>, entries: &[Entry]) -> bool {
    let [_, _, first_queue, first_reason, ..] = HEADERS;
    let header = |name| message.header(&Name::from_static(name));
    let first = (header(first_queue), header(first_reason));
    let rejected = Some(DeathReason::Rejected.as_str());
    entries.iter().any(|entry| {
        get(entry, REASON).and_then(Value::as_text) == rejected
            || (get(entry, QUEUE), get(entry, REASON)) == (first.0.as_ref(), first.1.as_ref())
    })
}

/// Whether a message goes by the keys still that it had when it died last.
fn went_by_all_keys(message: &MessageView<'_>, last: Option<&Entry>) -> bool {
    match last.and_then(|entry| get(entry, ROUTING_KEYS)) {
        Some(Value::List(keys)) => *keys == keys_of(message, true),
        _ => true,
    }
}

/// The routing key of a message, and its further ones if it went by those; but not those that are hidden from receivers.
fn keys_of(message: &MessageView<'_>, by_more_keys: bool) -> Vec<Value> {
    match message.more_keys().unwrap_or_default().filter(|_| by_more_keys) {
        Some(more) => more.told_after(message.routing_key).map(Value::string).collect(),
        None => alloc::vec![Value::string(message.routing_key)],
    }
}

fn entries_of(message: &MessageView<'_>) -> Vec<Entry> {
    let Some(Value::List(entries)) = message.header(&Name::from_static("x-death")) else {
        return Vec::new();
    };
    let tables = entries.into_iter();
    tables.filter_map(|entry| if let Value::Map(entry) = entry { Some(entry) } else { None }).collect()
}

fn new_entry(
    message: &MessageView<'_>,
    death: &Death<'_>,
    (queue, reason): (&Value, &Value),
    by_more_keys: bool,
) -> Entry {
    let mut entry = Vec::with_capacity(7);
    if let Some(expiration) = message.property(Property::Expiration) {
        entry.push((text("original-expiration"), expiration));
    }
    entry.push((text(COUNT), Value::Integer(1)));
    entry.push((text(REASON), reason.clone()));
    entry.push((text(QUEUE), queue.clone()));
    entry.push((text("time"), time_of(death)));
    entry.push((text("exchange"), Value::string(message.exchange)));
    entry.push((text(ROUTING_KEYS), Value::List(keys_of(message, by_more_keys))));
    entry
}

fn time_of(death: &Death<'_>) -> Value {
    Value::Timestamp(i64::try_from(death.now_ms).unwrap_or(i64::MAX))
}

/// One death more. Its keys are those of the first, but where they would say that it goes by its further keys still.
fn counted(mut entry: Entry, message: &MessageView<'_>, by_more_keys: bool) -> Entry {
    for (key, value) in &mut entry {
        match (key.as_text(), value) {
            (Some(COUNT), Value::Integer(count)) => *count = count.saturating_add(1),
            (Some(ROUTING_KEYS), Value::List(keys)) if !by_more_keys && *keys == keys_of(message, true) => {
                *keys = keys_of(message, false);
            }
            _ => {}
        }
    }
    entry
}

fn get<'a>(entry: &'a Entry, key: &str) -> Option<&'a Value> {
    entry.iter().find(|(name, _)| name.as_text() == Some(key)).map(|(_, value)| value)
}

fn text(text: &str) -> Value {
    Value::Text(String::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{format, vec};
    use leveret_amqp091::{FORM, properties::MessageProperties};

    fn die(properties: &[u8], queue: &str, reason: DeathReason, has_history: bool) -> (Vec<u8>, Vec<Value>) {
        let message = MessageView {
            exchange: b"from",
            routing_key: b"key",
            form: FORM,
            properties,
            body: b"",
            publisher: None,
        };
        let queue = Name::new(queue.as_bytes()).unwrap();
        let death = Death {
            queue: &queue,
            own_key: None,
            reason,
            now_ms: 1_700_000_000_123,
            has_history,
            failures: 0,
        };
        let recorded = record(&message, &death, Told::Deaths(DEATHS_MAX));
        let mut arena = Vec::new();
        let patched = message.patched(&recorded.patch, &mut arena).unwrap();
        (patched.properties.to_vec(), recorded.since_rejected)
    }

    fn header(properties: &[u8], name: &'static str) -> Option<Value> {
        MessageView { exchange: b"", routing_key: b"", form: FORM, properties, body: b"", publisher: None }
            .header(&Name::from_static(name))
    }

    fn queues_and_counts(properties: &[u8]) -> Vec<(String, i64)> {
        let Some(Value::List(entries)) = header(properties, "x-death") else { panic!("no x-death") };
        let of = |entry: &Value| {
            let Value::Map(entry) = entry else { panic!("no table") };
            let queue = String::from(get(entry, QUEUE).unwrap().as_text().unwrap());
            (queue, get(entry, COUNT).unwrap().as_integer().unwrap())
        };
        entries.iter().map(of).collect()
    }

    #[test]
    fn the_bytes_are_those_of_rabbitmq() {
        let sent = MessageProperties {
            expiration: Some(b"60000"),
            message_id: Some(b"m"),
            ..MessageProperties::default()
        };
        let (died, _) = die(&sent.encode(), "q", DeathReason::Rejected, false);
        let entry = b"\x13original-expirationS\0\0\0\x0560000\x05countl\0\0\0\0\0\0\0\x01\
            \x06reasonS\0\0\0\x08rejected\x05queueS\0\0\0\x01q\x04timeT\0\0\0\0\x65\x53\xf1\0\
            \x08exchangeS\0\0\0\x04from\x0crouting-keysA\0\0\0\x08S\0\0\0\x03key";
        let mut headers = b"\x07x-deathA\0\0\0".to_vec();
        headers.push((entry.len() + 5) as u8);
        headers.extend(b"F\0\0\0");
        headers.push(entry.len() as u8);
        headers.extend(entry);
        headers.extend(b"\x16x-first-death-exchangeS\0\0\0\x04from\x13x-first-death-queueS\0\0\0\x01q");
        headers.extend(b"\x14x-first-death-reasonS\0\0\0\x08rejected");
        headers.extend(b"\x15x-last-death-exchangeS\0\0\0\x04from\x12x-last-death-queueS\0\0\0\x01q");
        headers.extend(b"\x13x-last-death-reasonS\0\0\0\x08rejected");
        let mut expected = vec![0x20, 0x80];
        expected.extend((headers.len() as u32).to_be_bytes());
        expected.extend(headers);
        expected.extend(b"\x01m");
        assert_eq!(died, expected);
    }

    #[test]
    fn the_last_death_comes_first_and_equal_ones_are_counted() {
        let rejected = DeathReason::Rejected;
        let (first, _) = die(&[0, 0], "a", rejected, false);
        let (second, _) = die(&first, "b", rejected, true);
        assert_eq!(queues_and_counts(&second), [("b".into(), 1), ("a".into(), 1)]);
        let (third, _) = die(&second, "a", rejected, true);
        assert_eq!(queues_and_counts(&third), [("a".into(), 2), ("b".into(), 1)]);
        let (fourth, _) = die(&third, "a", DeathReason::Expired, true);
        assert_eq!(queues_and_counts(&fourth), [("a".into(), 1), ("a".into(), 2), ("b".into(), 1)]);
        assert_eq!(header(&fourth, "x-first-death-queue"), Some(text("a")));
        assert_eq!(header(&fourth, "x-first-death-reason"), Some(text("rejected")));
        assert_eq!(header(&fourth, "x-last-death-reason"), Some(text("expired")));
    }

    #[test]
    fn a_letter_that_lost_its_further_keys_does_not_find_them_where_it_died_before() {
        let headers =
            Change::SetHeader { name: Name::from_static("CC"), value: Value::List(vec![text("c")]) };
        let sent = MessageView {
            exchange: b"from",
            routing_key: b"key",
            form: FORM,
            properties: &[0, 0],
            body: b"",
            publisher: None,
        };
        let mut arena = Vec::new();
        let patch: Patch = [headers].into_iter().collect();
        let mut properties = sent.patched(&patch, &mut arena).unwrap().properties.to_vec();
        let mut went_by = Vec::new();
        for (place, (key, queue)) in
            [("key", "a"), ("other", "b"), ("key", "a"), ("key", "c")].iter().enumerate()
        {
            let queue = Name::from_static(queue);
            let (reason, has_history) = (DeathReason::Rejected, place > 0);
            let death = Death { queue: &queue, own_key: None, reason, now_ms: 7, has_history, failures: 0 };
            let message = MessageView { routing_key: key.as_bytes(), properties: &properties, ..sent };
            let recorded = record(&message, &death, Told::Deaths(DEATHS_MAX));
            let mut arena = Vec::new();
            let died = message.patched(&recorded.patch, &mut arena).unwrap().properties.to_vec();
            went_by.push(recorded.goes_by_more_keys);
            properties = died;
        }
        assert_eq!(went_by, [true, false, false, false]);
    }

    #[test]
    fn a_cycle_is_what_happened_since_the_last_rejection() {
        let (expired, automatic) = die(&[0, 0], "a", DeathReason::Expired, false);
        assert_eq!(automatic, [text("a")]);
        let (too_many, automatic) = die(&expired, "b", DeathReason::MaxLength, true);
        assert_eq!(automatic, [text("b"), text("a")]);
        let (rejected, automatic) = die(&too_many, "c", DeathReason::Rejected, true);
        assert_eq!(automatic, []);
        let (_, automatic) = die(&rejected, "d", DeathReason::Expired, true);
        assert_eq!(automatic, [text("d")]);
    }

    #[test]
    fn a_history_that_a_publisher_made_up_is_none() {
        let (forged, _) = die(&[0, 0], "a", DeathReason::Expired, false);
        let (died, automatic) = die(&forged, "b", DeathReason::Expired, false);
        assert_eq!(queues_and_counts(&died), [("b".into(), 1)]);
        assert_eq!(automatic, [text("b")]);
        assert_eq!(header(&died, "x-first-death-queue"), Some(text("b")));
    }

    #[test]
    fn the_oldest_deaths_are_forgotten() {
        let (mut properties, mut has_history) = (vec![0, 0], false);
        for i in 0..DEATHS_MAX + 2 {
            (properties, _) = die(&properties, &format!("q{i}"), DeathReason::Rejected, has_history);
            has_history = true;
        }
        let deaths = queues_and_counts(&properties);
        assert_eq!(deaths.len(), DEATHS_MAX);
        assert_eq!(deaths.last(), Some(&("q2".into(), 1)));
        assert_eq!(header(&properties, "x-first-death-queue"), Some(text("q0")));
    }
}
