//! How long a confirm takes, beside how long the disk takes to write and sync as many bytes while the processor has
//! as much to do: both in turn, in one run, on one file system.
//!
//! *Half load:* messages come at half of the rate that was reached before (or at `--rate`), a burst each millisecond,
//! whether those before are confirmed or not; each is timed from when it was to be sent. *10,000 in flight:* the next
//! is sent when one is confirmed.
//!
//! *Raw:* a block of as many bytes as the store's batches had on average is written to a file that was filled
//! before, and synced (`fdatasync`); at half load as often as the store synced. Beside it a second store whose files
//! are in memory (`/dev/shm`) does the same work. A sync that takes longer than it is until the next counts for those
//! that would have come meanwhile too, as a late confirm does for each message that waits for it.

use crate::engines::Outcome;
use hdrhistogram::Histogram;
use leveret_store::{
    Config, Done, Failed, Group, QueueId, Range, Refused, Store, Sync,
    disk::{Disk, real::RealDisk},
};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How long one measurement takes.
const SECONDS: u64 = 3;
const QUEUE: QueueId = QueueId(1);
const RAW_FILE_BYTES: u64 = 32 << 20;
/// Where files are in memory.
const MEMORY: &str = "/dev/shm";
/// Unconfirmed messages where the most is sent.
const WINDOW: u64 = 10_000;

/// When each message was to be sent, and how long it took, in nanoseconds.
struct Clock {
    begun: Instant,
    sent: Vec<AtomicU64>,
    took: Vec<AtomicU64>,
    confirmed: AtomicU64,
}

impl Clock {
    fn new(messages: u64) -> Arc<Self> {
        let zeros = || (0..messages).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { begun: Instant::now(), sent: zeros(), took: zeros(), confirmed: AtomicU64::new(0) })
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_nanos() as u64
    }

    fn wait(&self, confirmed: u64) {
        while self.confirmed.load(Ordering::Acquire) < confirmed {
            thread::sleep(Duration::from_micros(50));
        }
    }

    fn histogram(&self, messages: u64) -> Outcome<Histogram<u64>> {
        let mut histogram = Histogram::new(3)?;
        for took in self.took.iter().take(messages as usize) {
            histogram.record(took.load(Ordering::Relaxed))?;
        }
        Ok(histogram)
    }
}

impl Done for Clock {
    fn done(&self, token: u64, outcome: Result<(), Failed>) {
        assert_eq!(outcome, Ok(()), "the disk must not fail");
        let took = self.now() - self.sent[token as usize].load(Ordering::Relaxed);
        self.took[token as usize].store(took, Ordering::Relaxed);
        self.confirmed.fetch_add(1, Ordering::AcqRel);
    }
}

/// The store with a queue of which all is acked once it is confirmed.
struct Load {
    store: Store,
    group: Group,
    body: Vec<u8>,
    next: u64,
    acked: u64,
}

/// What a measurement of the store gave.
struct Seen {
    took: Histogram<u64>,
    per_second: f64,
    syncs: u64,
    messages: u64,
    batch_bytes: u64,
}

impl Load {
    fn open(path: &Path, body_bytes: usize) -> Outcome<Self> {
        let (store, _) = Store::open(Arc::new(RealDisk::open(path)?), Config::default())?;
        let mut group = Group::default();
        group.create(QUEUE);
        let mut load = Self { store, group, body: vec![7; body_bytes], next: 0, acked: 0 };
        load.submit(Sync::Always, None)?;
        Ok(load)
    }

    fn submit(&mut self, sync: Sync, waiter: Option<(&Arc<dyn Done>, u64)>) -> Outcome<()> {
        while let Err(refused) = self.store.submit(&mut self.group, sync, waiter) {
            if refused != Refused::Behind {
                return Err(refused.into());
            }
            thread::yield_now();
        }
        self.group.clear();
        Ok(())
    }

    /// Acks those of this measurement that are confirmed.
    fn ack(&mut self, first: u64, confirmed: u64) -> Outcome<()> {
        let count = first + confirmed - self.acked;
        if count > 0 {
            self.group.ack(QUEUE, &[Range { first: self.acked, count: count as u32 }]);
            self.acked += count;
            self.submit(Sync::Ride, None)?;
        }
        Ok(())
    }

    /// Sends up to so many messages: at that rate, or as fast as a window allows.
    fn run(&mut self, messages: u64, per_second: Option<f64>) -> Outcome<Seen> {
        let clock = Clock::new(messages);
        let done: Arc<dyn Done> = clock.clone();
        let (before, first) = (self.store.stat(), self.next);
        let mut sent = 0;
        while sent < messages && clock.begun.elapsed() < Duration::from_secs(SECONDS) {
            let due = match per_second {
                Some(rate) => (clock.begun.elapsed().as_millis() as f64 / 1000.0 * rate) as u64,
                None => clock.confirmed.load(Ordering::Acquire) + WINDOW,
            };
            while sent < due.min(messages) {
                let at = match per_second {
                    Some(rate) => ((sent + 1) as f64 / rate * 1e3).ceil() as u64 * 1_000_000,
                    None => clock.now(),
                };
                clock.sent[sent as usize].store(at.min(clock.now()), Ordering::Relaxed);
                self.group.enqueue(&[&self.body], false, &[(QUEUE, self.next)]);
                self.submit(Sync::Always, Some((&done, sent)))?;
                (sent, self.next) = (sent + 1, self.next + 1);
            }
            self.ack(first, clock.confirmed.load(Ordering::Acquire))?;
            thread::sleep(Duration::from_micros(if per_second.is_some() { 500 } else { 50 }));
        }
        clock.wait(sent);
        self.ack(first, sent)?;
        let (seconds, after) = (clock.begun.elapsed().as_secs_f64(), self.store.stat());
        let batches = (after.batches - before.batches).max(1);
        Ok(Seen {
            took: clock.histogram(sent)?,
            per_second: sent as f64 / seconds,
            syncs: after.syncs - before.syncs,
            messages: sent,
            batch_bytes: (after.journal_bytes - before.journal_bytes) / batches,
        })
    }
}

/// Writes and syncs blocks of that length, each so long after the one before, or at once.
fn raw(disk: &RealDisk, bytes: u64, every: Duration) -> Outcome<Histogram<u64>> {
    let file = disk.open("raw")?;
    let block = vec![7; bytes.min(RAW_FILE_BYTES) as usize];
    let (mut histogram, mut at) = (Histogram::new(3)?, 0);
    let begun = Instant::now();
    let mut due = begun;
    while begun.elapsed() < Duration::from_secs(SECONDS) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        due += every;
        let start = Instant::now();
        file.write_at(&block, at)?;
        file.sync()?;
        histogram.record_correct(start.elapsed().as_nanos() as u64, every.as_nanos() as u64)?;
        at = (at + bytes).next_multiple_of(4096);
        if at + bytes > RAW_FILE_BYTES {
            at = 0;
        }
    }
    Ok(histogram)
}

/// The same beside as much work for the processor.
fn raw_beside(
    busy: &mut Load,
    (messages, per_second): (u64, Option<f64>),
    disk: &RealDisk,
    (bytes, every): (u64, Duration),
) -> Outcome<Histogram<u64>> {
    thread::scope(|scope| {
        let raw = scope.spawn(|| raw(disk, bytes, every).map_err(|error| error.to_string()));
        busy.run(messages, per_second)?;
        Ok(raw.join().map_err(|_| "the raw writer panicked")??)
    })
}

/// Measures and prints. Messages come at that rate, or at half of the highest.
pub fn measure(body_bytes: usize, rounds: u64, per_second: Option<u64>) -> Outcome<()> {
    let name = format!("leveret-bench-latency-{}", std::process::id());
    let (root, memory) = (std::env::temp_dir().join(&name), Path::new(MEMORY).join(&name));
    let disk = RealDisk::open(&root.join("raw"))?;
    disk.create("raw", RAW_FILE_BYTES)?;
    let mut load = Load::open(&root.join("store"), body_bytes)?;
    let mut busy = Load::open(&memory, body_bytes)?;
    let most = SECONDS * 600_000;
    // The first fills new files.
    load.run(most, None)?;
    let rate = load.run(most, None)?.per_second;
    println!("{rate:.0} messages of {body_bytes} bytes a second with {WINDOW} in flight; milliseconds:");
    println!("{:<28} {:>8} {:>8} {:>8} {:>8} {:>14}", "", "p50", "p99", "p99.9", "max", "syncs/1000");
    for round in 1..=rounds {
        let (name, paced) = match per_second {
            Some(per_second) => (format!("{per_second} a second"), per_second as f64),
            None => ("half load".to_owned(), rate / 2.0),
        };
        for (name, per_second) in [(&*name, Some(paced)), ("10,000 in flight", None)] {
            let seen = load.run(most, per_second)?;
            let every = Duration::from_secs(SECONDS) / seen.syncs.max(1) as u32;
            let every = if per_second.is_some() { every } else { Duration::ZERO };
            let alone = raw_beside(&mut busy, (most, per_second), &disk, (seen.batch_bytes, every))?;
            let syncs = seen.syncs as f64 * 1000.0 / seen.messages as f64;
            print(&format!("{round} {name}"), &seen.took, Some(syncs));
            print(&format!("{round} raw, {} KiB", seen.batch_bytes / 1024), &alone, None);
            let bound = 3.0 * ms(&alone, 0.99) + 0.3;
            let is = if ms(&seen.took, 0.99) <= bound { "within" } else { "beyond" };
            println!("  p99 is {is} three times raw and 0.3 ms: {bound:.2}");
        }
    }
    drop((load, busy));
    std::fs::remove_dir_all(&root)?;
    std::fs::remove_dir_all(&memory)?;
    Ok(())
}

fn ms(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1e6
}

fn print(name: &str, histogram: &Histogram<u64>, syncs: Option<f64>) {
    let of = |quantile| ms(histogram, quantile);
    let syncs = syncs.map_or(String::new(), |syncs| format!("{syncs:.2}"));
    println!("{name:<28} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {syncs:>14}", of(0.5), of(0.99), of(0.999), of(1.0));
}
