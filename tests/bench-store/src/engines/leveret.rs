//! The broker's own: a group for each message, as if each came from another publisher.

use super::{Engine, Outcome, Work};
use leveret_store::{
    Config, Done, Failed, Group, QueueId, Range, Reader, Refused, Store, Sync, disk::real::RealDisk,
};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, Thread},
};

struct Leveret {
    store: Store,
    reader: Reader,
}

struct Confirmed {
    count: AtomicU64,
    /// Wake at so many.
    wake_at: AtomicU64,
    publisher: Thread,
}

impl Done for Confirmed {
    fn done(&self, _: u64, outcome: Result<(), Failed>) {
        assert_eq!(outcome, Ok(()), "the disk must not fail");
        if self.count.fetch_add(1, Ordering::AcqRel) + 1 == self.wake_at.load(Ordering::Acquire) {
            self.publisher.unpark();
        }
    }
}

impl Confirmed {
    fn wait(&self, count: u64) {
        self.wake_at.store(count, Ordering::Release);
        while self.count.load(Ordering::Acquire) < count {
            thread::park_timeout(std::time::Duration::from_millis(1));
        }
    }
}

pub fn open(path: &Path, queues: u32) -> Outcome<Box<dyn Engine>> {
    let (store, report) = Store::open(Arc::new(RealDisk::open(path)?), Config::default())?;
    assert!(report.is_sound(), "{report:?}");
    let mut group = Group::default();
    (0..queues).for_each(|queue| group.create(QueueId(queue.into())));
    store.submit(&mut group, Sync::Always, None)?;
    Ok(Box::new(Leveret { store, reader: Reader::default() }))
}

impl Leveret {
    fn submit(&self, group: &mut Group, sync: Sync, waiter: Option<(&Arc<dyn Done>, u64)>) -> Outcome<()> {
        loop {
            match self.store.submit(group, sync, waiter) {
                Ok(()) => break,
                Err(Refused::Behind) => thread::yield_now(),
                Err(refused) => return Err(refused.into()),
            }
        }
        group.clear();
        Ok(())
    }
}

impl Engine for Leveret {
    fn run(&mut self, work: &Work<'_>) -> Outcome<Option<u64>> {
        let before = self.store.stat().syncs;
        let confirmed = Arc::new(Confirmed {
            count: AtomicU64::new(0),
            wake_at: AtomicU64::new(u64::MAX),
            publisher: thread::current(),
        });
        let done: Arc<dyn Done> = confirmed.clone();
        let mut group = Group::default();
        let mut sent = 0;
        for (batch, acks) in work.publishes.chunks(work.window).zip(work.acks) {
            for (queue, sequence) in batch {
                if sent as usize >= work.window {
                    // Half the window at once: a wake costs.
                    let oldest = sent - work.window as u64 + 1;
                    if confirmed.count.load(Ordering::Acquire) < oldest {
                        confirmed.wait(oldest + work.window as u64 / 4);
                    }
                }
                group.enqueue(&[work.body], false, &[(QueueId((*queue).into()), *sequence)]);
                self.submit(&mut group, Sync::Always, Some((&done, sent)))?;
                sent += 1;
            }
            for acked in acks.chunk_by(|a, b| a.0 == b.0) {
                let ranges: Vec<_> =
                    acked.iter().map(|(_, first)| Range { first: *first, count: 1 }).collect();
                group.ack(QueueId(acked[0].0.into()), &ranges);
            }
            if !group.is_empty() {
                self.submit(&mut group, Sync::Ride, None)?;
            }
        }
        confirmed.wait(sent);
        Ok(Some(self.store.stat().syncs - before))
    }

    fn read(&mut self, queue: u32) -> Outcome<u64> {
        let (mut from, mut count) = (Some(0), 0);
        while let Some(next) = from {
            let place = (QueueId(queue.into()), next);
            from = self.store.read(&mut self.reader, place, 1 << 20, &mut |item| {
                count += u64::from(item.payload.is_some());
            });
        }
        Ok(count)
    }
}
