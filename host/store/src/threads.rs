//! The threads of a store: each repeats its step, and waits while there is nothing to do.

use crate::{journal::Core, keeper::Keeper, store::now_ms};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};

/// After what could not be done, it is tried again after so long.
const AGAIN: Duration = Duration::from_millis(20);
/// Things are looked at once in so long, whoever forgot to tell.
const LOOK: Duration = Duration::from_millis(200);

/// The threads.
pub(crate) struct Threads {
    stopping: Arc<AtomicBool>,
    writer: JoinHandle<()>,
    syncer: JoinHandle<()>,
    large: JoinHandle<()>,
    bodies: JoinHandle<()>,
    keeper: JoinHandle<Keeper>,
}

impl Threads {
    /// Starts them.
    pub(crate) fn start(core: &Arc<Core>, keeper: Keeper, since: Instant) -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let with = || (core.clone(), stopping.clone());
        let (of_writer, of_syncer, of_large, of_keeper) = (with(), with(), with(), with());
        let of_bodies = with();
        Ok(Self {
            writer: spawn("store-write", move || write(&of_writer.0, &of_writer.1, since))?,
            syncer: spawn("store-sync", move || sync(&of_syncer.0, &of_syncer.1, since))?,
            large: spawn("store-large", move || large(&of_large.0, &of_large.1, since))?,
            bodies: spawn("store-body", move || bodies(&of_bodies.0, &of_bodies.1))?,
            keeper: spawn("store-keep", move || keep(&of_keeper.0, &of_keeper.1, keeper, since))?,
            stopping,
        })
    }

    /// Ends them, each after its step.
    pub(crate) fn stop(self, core: &Core) -> Keeper {
        core.inbox.lock().closed = true;
        self.stopping.store(true, Ordering::Release);
        core.kick();
        // Under their locks, so that nobody is between looking and waiting.
        drop(core.flight.lock());
        core.written.notify_all();
        drop(core.large.lock());
        core.large_arrived.notify_all();
        core.wake_bodies();
        core.tidy();
        let _ = self.writer.join();
        let _ = self.syncer.join();
        let _ = self.large.join();
        let _ = self.bodies.join();
        self.keeper.join().unwrap_or_default()
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    thread::Builder::new().name(name.to_owned()).spawn(body)
}

/// Has this thread run as soon as there is something for it to do, where the system lets us: who waits for a confirm
/// waits for it, and it works for a moment only. In the real-time class it comes before all threads of the usual one,
/// which otherwise finish their turn of some milliseconds first; without the right to that it is nice -10, or as it was.
fn hurry() {
    let lowest = ThreadPriority::Min;
    let realtime = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    if set_thread_priority_and_policy(thread_native_id(), lowest, realtime).is_err() {
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), -10);
    }
}

fn write(core: &Core, stopping: &AtomicBool, since: Instant) {
    hurry();
    while !stopping.load(Ordering::Acquire) {
        if core.write_step(now_ms(since)) {
            core.tell_relief();
            continue;
        }
        // Something waits for a segment or for a sync.
        let blocked = core.writer.lock().is_stuck() || {
            let flight = core.flight.lock();
            flight.failed || flight.is_too_much()
        };
        let mut inbox = core.inbox.lock();
        if core::mem::take(&mut inbox.kicked) || stopping.load(Ordering::Acquire) {
            continue;
        }
        let wait = if blocked {
            AGAIN
        } else {
            match inbox.write_at_ms() {
                Some(at) => {
                    let wait = at.saturating_sub(now_ms(since));
                    if wait == 0 {
                        continue;
                    }
                    Duration::from_millis(wait)
                }
                None => LOOK,
            }
        };
        inbox.idle = true;
        core.arrived.wait_for(&mut inbox, wait);
        inbox.idle = false;
    }
}

fn sync(core: &Core, stopping: &AtomicBool, since: Instant) {
    hurry();
    let mut told = Vec::new();
    while !stopping.load(Ordering::Acquire) {
        if let Some(job) = core.sync_begin(now_ms(since)) {
            let outcome = job.file.sync();
            core.sync_end(&job, outcome, &mut told);
            core.tell_relief();
            continue;
        }
        let mut flight = core.flight.lock();
        if flight.is_due(now_ms(since)) || stopping.load(Ordering::Acquire) {
            continue;
        }
        let wait = flight.due_ms.filter(|_| !flight.failed).map(|due| due.saturating_sub(now_ms(since)));
        let wait = wait.map_or(LOOK, |wait| Duration::from_millis(wait.max(1)));
        core.written.wait_for(&mut flight, wait);
    }
}

fn large(core: &Core, stopping: &AtomicBool, since: Instant) {
    while !stopping.load(Ordering::Acquire) {
        if core.large_step(now_ms(since)) {
            core.tell_relief();
            continue;
        }
        let mut large = core.large.lock();
        if stopping.load(Ordering::Acquire) {
            continue;
        }
        if large.is_empty() {
            core.large_arrived.wait(&mut large);
        } else {
            // For room.
            core.large_arrived.wait_for(&mut large, AGAIN);
        }
    }
}

fn bodies(core: &Arc<Core>, stopping: &AtomicBool) {
    while !stopping.load(Ordering::Acquire) {
        if !core.body_step() {
            core.await_bodies(stopping);
        }
    }
}

fn keep(core: &Core, stopping: &AtomicBool, mut keeper: Keeper, since: Instant) -> Keeper {
    while !stopping.load(Ordering::Acquire) {
        let did = core.keep_step(&mut keeper, now_ms(since));
        core.tell_relief();
        if did {
            continue;
        }
        let mut untidy = core.untidy.lock();
        if !core::mem::take(&mut *untidy) && !stopping.load(Ordering::Acquire) {
            core.untidy_now.wait_for(&mut untidy, LOOK);
        }
    }
    keeper
}
