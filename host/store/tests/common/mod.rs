//! What several tests want of a store.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test uses a part")]

use leveret_store::{Config, Done, Failed, Group, QueueId, Reader, Refused, Sequence, Store, Sync};
use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

/// Whatever waits longer waits for ever.
const A_MINUTE: Duration = Duration::from_secs(60);

/// The queue of these tests.
pub(crate) const QUEUE: QueueId = QueueId(1);

/// Small enough to meet every end of a file.
pub(crate) fn small() -> Config {
    Config {
        segment_bytes: 64 * 1024,
        group_bytes_max: 1 << 20,
        own_segment_bytes: 16 * 1024,
        batch_bytes: 8 * 1024,
        pending_bytes_max: 64 * 1024,
        reserve_segments: 1,
        checkpoint_bytes: 256 * 1024,
        scrub_bytes_per_s: 1 << 20,
        scrub_pause_ms: 50,
        ride_ms: 1,
    }
}

/// Waits for what was submitted.
#[derive(Default)]
pub(crate) struct Told {
    outcomes: Mutex<BTreeMap<u64, Result<(), Failed>>>,
    changed: Condvar,
}

impl Done for Told {
    fn done(&self, token: u64, outcome: Result<(), Failed>) {
        self.outcomes.lock().unwrap().insert(token, outcome);
        self.changed.notify_all();
    }
}

impl Told {
    pub(crate) fn wait(&self, token: u64) -> Result<(), Failed> {
        let outcomes = self.outcomes.lock().unwrap();
        let is_out = |told: &mut BTreeMap<_, _>| !told.contains_key(&token);
        let (mut outcomes, _) = self.changed.wait_timeout_while(outcomes, A_MINUTE, is_out).unwrap();
        outcomes.remove(&token).expect("it is told within a minute")
    }

    pub(crate) fn is_told(&self, token: u64) -> bool {
        self.outcomes.lock().unwrap().contains_key(&token)
    }
}

/// Waits until something is so; not for ever.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < A_MINUTE, "not in a minute: {what}");
        std::thread::yield_now();
    }
}

/// Submits, and waits until it is safe.
pub(crate) fn commit(store: &Store, group: &mut Group, sync: Sync) -> Result<(), Refused> {
    let told = Arc::new(Told::default());
    let done: Arc<dyn Done> = told.clone();
    let outcome = store.submit(group, sync, Some((&done, 0)));
    group.clear();
    outcome?;
    assert_eq!(told.wait(0), Ok(()));
    Ok(())
}

/// What message has that number.
pub(crate) fn content(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(100 + (number * 37 % 900) as usize, number as u8);
    bytes
}

/// Publishes messages, each confirmed before the next.
pub(crate) fn publish(store: &Store, numbers: core::ops::Range<u64>) -> Result<(), Refused> {
    let mut group = Group::default();
    for number in numbers {
        group.enqueue(&[&content(number)], false, &[(QUEUE, number)]);
        commit(store, &mut group, Sync::Always)?;
    }
    Ok(())
}

/// A message that was read: whether it can be, and counts as delivered before.
pub(crate) type Found = BTreeMap<Sequence, (Option<Vec<u8>>, bool)>;

/// All messages of a queue.
pub(crate) fn read_all(store: &Store, queue: QueueId) -> Found {
    let (mut reader, mut from, mut found) = (Reader::default(), Some(0), Found::new());
    while let Some(next) = from {
        from = store.read(&mut reader, (queue, next), 4096, &mut |item| {
            found.insert(item.sequence, (item.payload.map(<[u8]>::to_vec), item.redelivered));
        });
    }
    found
}

/// Which of these messages are there; what is there must be what was published.
pub(crate) fn numbers(found: &Found) -> Vec<u64> {
    let readable = found.iter().filter_map(|(number, (payload, _))| Some((*number, payload.as_ref()?)));
    readable
        .inspect(|(number, payload)| assert_eq!(**payload, content(*number)))
        .map(|(number, _)| number)
        .collect()
}
