//! A store that is open.

use crate::{
    Config, Done, Failed, Group, Health, Item, QueueId, Reader, Refused, Report, Scrub, Sequence, Space,
    Sync, aside,
    body::Bodies,
    disk::Disk,
    error::OpenError,
    journal::{
        Core, Counts, Pass, Writer,
        flight::Flight,
        manifest::Manifest,
        room::{Room, Trouble},
        segments::FileName,
    },
    keeper::Keeper,
    record::BLOCK_BYTES,
    recovery::{self, RUNNING, Recovered},
    threads::Threads,
    watch::Watching,
};
use parking_lot::{Condvar, Mutex};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// What a store has and did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Messages; one that several queues have counts once.
    pub messages: u64,
    /// The bytes of their payloads.
    pub live_bytes: u64,
    /// The bytes of their bodies that are files of their own.
    pub extent_bytes: u64,
    /// The bytes of all segments, free ones too.
    pub segment_bytes: u64,
    /// Syncs of the journal.
    pub syncs: u64,
    /// Batches written.
    pub batches: u64,
    /// Groups written.
    pub groups: u64,
    /// Bytes written to the journal.
    pub journal_bytes: u64,
    /// Of those, bytes copied from mostly dead segments.
    pub moved_bytes: u64,
    /// Bytes of checkpoints.
    pub checkpoint_bytes: u64,
    /// How often what was in flight was written again because the disk failed.
    pub rescues: u64,
    /// How often all that is live was read to find what is damaged.
    pub scrub_passes: u64,
    /// Messages that were read for that, of all passes.
    pub scrubbed_messages: u64,
    /// Messages that were found to be damaged and are still there; see [`Store::scrub`].
    pub damaged_messages: u64,
}

/// A store that is open, with its threads. Dropped without [`Self::close`] it is as after a crash of the
/// process.
pub struct Store {
    pub(crate) core: Arc<Core>,
    since: Instant,
    threads: Mutex<Option<Threads>>,
}

impl Store {
    /// One that can only be read: nothing can be submitted, and it need not be closed.
    pub(crate) fn of(core: Core) -> Self {
        core.inbox.lock().closed = true;
        Self { core: Arc::new(core), since: Instant::now(), threads: Mutex::new(None) }
    }

    /// Opens the store in a directory that nobody else uses, and starts its threads.
    ///
    /// # Errors
    /// If the directory cannot be used, was written by a later version, or the [`crate::Verdict`] is that it does not
    /// serve. All else is in the report.
    pub fn open(disk: Arc<dyn Disk>, config: Config) -> Result<(Self, Report), OpenError> {
        Self::start(open(disk, config)?)
    }

    /// The same, also where a start does not serve: goes on with what is left. What cannot be read, and bodies of which
    /// nothing says any more whose they are, are set aside. For an operator who has decided so.
    ///
    /// # Errors
    /// If the directory cannot be used, or was written by a later version.
    pub fn salvage(disk: Arc<dyn Disk>, config: Config) -> Result<(Self, Report), OpenError> {
        Self::start(open_with(disk, config, true)?)
    }

    fn start((core, keeper, report): (Arc<Core>, Keeper, Report)) -> Result<(Self, Report), OpenError> {
        let since = Instant::now();
        let threads = Threads::start(&core, keeper, since)
            .map_err(|error| OpenError::Disk(crate::DiskError::new("start a thread", "", error)))?;
        Ok((Self { core, since, threads: Mutex::new(Some(threads)) }, report))
    }

    /// Takes a group; it is left to be cleared. `waiter` is told under its token when the group is as safe
    /// as `sync` says. Groups are written in the order in which they are taken, but that one with a body
    /// apart comes after its body is written: what must keep its order has none.
    ///
    /// # Errors
    /// If it is not taken; then nothing of it happens, and nobody is told.
    pub fn submit(
        &self,
        group: &mut Group,
        sync: Sync,
        waiter: Option<(&Arc<dyn Done>, u64)>,
    ) -> Result<(), Refused> {
        self.core.submit(group, sync, waiter, now_ms(self.since))
    }

    /// [`Self::submit`] for a group that [`Self::admits`] let in, or that only takes away: neither a full disk nor
    /// one that is behind refuses it. Of an empty one the waiter is told once all is safe that this thread had
    /// taken before.
    ///
    /// # Errors
    /// It has more bytes than a group may have, there is no room for a segment of its own, or the store is closed.
    pub fn submit_admitted(
        &self,
        group: &mut Group,
        sync: Sync,
        waiter: Option<(&Arc<dyn Done>, u64)>,
    ) -> Result<(), Refused> {
        self.core.take(group, (sync, waiter), now_ms(self.since), Pass::Admitted)
    }

    /// Whether a group that grows may still be handed over. Where only large bodies lack room it may, while [`Self::submit`]
    /// refuses and [`Self::health`] is [`Health::Full`]: what waits for room is kept in memory, so whoever publishes is to
    /// be held back.
    ///
    /// # Errors
    /// Why not.
    pub fn admits(&self) -> Result<(), Refused> {
        self.core.admits()
    }

    /// Whether less than a quarter of [`Config::pending_bytes_max`] waits to be written: what nobody waits for may be handed
    /// over without others having to wait.
    #[must_use]
    pub fn has_little_to_write(&self) -> bool {
        let most = self.core.config.pending_bytes_max / 4;
        let waiting_bytes = self.core.inbox.lock().waiting_bytes();
        let large_bytes = self.core.large.lock().bytes();
        waiting_bytes < most && large_bytes < most as u64
    }

    /// A number for a body that is to be a file of its own.
    #[must_use]
    pub fn next_extent(&self) -> u64 {
        self.core.next_extent.fetch_add(1, Ordering::Relaxed)
    }

    /// All queues: the id, how many messages, and the sequence after the last that was ever named.
    #[must_use]
    pub fn queues(&self) -> Vec<(QueueId, u64, Sequence)> {
        let index = self.core.index.lock();
        index.queues.iter().map(|(id, queue)| (*id, queue.live, queue.next)).collect()
    }

    /// Hands messages of a queue to `each`, from a sequence on, in order, until they have about so many
    /// bytes; at least one, if there is one. Gives the sequence from which to go on; `None` if that was all.
    pub fn read(
        &self,
        reader: &mut Reader,
        from: (QueueId, Sequence),
        bytes_max: usize,
        each: &mut dyn FnMut(Item<'_>),
    ) -> Option<Sequence> {
        reader.read(&self.core, from, bytes_max, each)
    }

    /// Hands those of the named messages of a queue that are there to `each`, in the order in which they are named,
    /// until they have about so many bytes; at least one, if there is one. Gives how many of those that were
    /// named are done with, from the front. Where they are named in ascending order, what lies together is read
    /// at once.
    pub fn read_at(
        &self,
        reader: &mut Reader,
        named: (QueueId, &[Sequence]),
        bytes_max: usize,
        each: &mut dyn FnMut(Item<'_>),
    ) -> usize {
        reader.read_at(&self.core, named, bytes_max, each)
    }

    /// Hands the values of a space to `each`: key, value, and when it ends in milliseconds since 1970, or 0.
    pub fn values(&self, space: Space, mut each: impl FnMut(&[u8], &[u8], u64)) {
        let index = self.core.index.lock();
        index.values.of(space).for_each(|(key, value)| each(key, &value.bytes, value.expires_ms));
    }

    /// How it is.
    #[must_use]
    pub fn health(&self) -> Health {
        self.core.health()
    }

    /// How far the background check of what is live came, and what it found damaged.
    #[must_use]
    pub fn scrub(&self) -> Scrub {
        self.core.scrubbed.lock().report()
    }

    /// Files that were set aside because something in them is damaged, at this start, before, or since.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn set_aside(&self) -> Result<Vec<String>, crate::DiskError> {
        let mut names = self.core.disk.list()?;
        names.retain(|name| aside::is_aside(name));
        names.sort_unstable();
        Ok(names)
    }

    /// How many bytes may still be written to its disk; `None` where nobody can tell.
    #[must_use]
    pub fn disk_free_bytes(&self) -> Option<u64> {
        self.core.disk.free_bytes()
    }

    /// What it has and did.
    #[must_use]
    pub fn stat(&self) -> Stat {
        stat(&self.core)
    }

    /// Writes and syncs all that was taken, and a checkpoint, so that the next start has nothing to read
    /// again. Who waits is told. What cannot be made safe within about five seconds is not.
    /// From then on nothing is taken.
    pub fn close(&self) {
        let threads = self.threads.lock().take();
        if let Some(threads) = threads {
            let keeper = threads.stop(&self.core);
            close(&self.core, keeper);
            self.core.tell_relief();
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.get_mut().take() {
            threads.stop(&self.core);
        }
    }
}

/// The time of a store's own clock.
pub(crate) fn now_ms(since: Instant) -> u64 {
    since.elapsed().as_millis() as u64
}

/// Opens without threads.
pub(crate) fn open(disk: Arc<dyn Disk>, config: Config) -> Result<(Arc<Core>, Keeper, Report), OpenError> {
    open_with(disk, config, false)
}

/// The same; where a start does not serve only if it is to go on `with_loss`.
fn open_with(
    disk: Arc<dyn Disk>,
    config: Config,
    with_loss: bool,
) -> Result<(Arc<Core>, Keeper, Report), OpenError> {
    check(&config)?;
    let mut report = Report::default();
    let mut recovered = recovery::read(&*disk, &mut report)?;
    if let Some(refusal) = report.verdict.refusal.as_ref().filter(|_| !with_loss) {
        return Err(OpenError::Refused(refusal.clone()));
    }
    recovery::settle(&*disk, config.segment_bytes, &mut recovered, &mut report)?;
    let (core, keeper) = build(disk, config, recovered);
    core.fill_reserve();
    let (position, has_room) = (core.index.lock().position, !core.room.is_pressed());
    core.manifest.all_is_saved(&*core.disk, position, has_room);
    Ok((Arc::new(core), keeper, report))
}

/// What all share, of what was found.
pub(crate) fn build(disk: Arc<dyn Disk>, config: Config, recovered: Recovered) -> (Core, Keeper) {
    let Recovered { mut index, mut segments, checkpoints, has_twin, checkpoint_bytes, .. } = recovered;
    let Recovered { next_batch, next_extent, manifest, .. } = recovered;
    for (number, segment) in &segments.files {
        index.held.was_filled(*number as u32, segment.bytes);
    }
    let synced = index.position;
    let manifest = Arc::new(Manifest::after(manifest.as_ref(), synced));
    segments.manifest = manifest.clone();
    let key = segments.key;
    let keeper = Keeper::new(checkpoints, has_twin, checkpoint_bytes);
    let core = Core {
        disk,
        config,
        writer: Mutex::new(Writer::new(next_batch)),
        flight: Mutex::new(Flight { synced, wanted: synced, ..Flight::default() }),
        written: Condvar::new(),
        segments: Mutex::new(segments),
        manifest,
        key,
        index: Mutex::new(index),
        inbox: Mutex::default(),
        arrived: Condvar::new(),
        large: Mutex::default(),
        large_arrived: Condvar::new(),
        large_count: AtomicU64::new(0),
        untidy: Mutex::new(true),
        untidy_now: Condvar::new(),
        room: Room::default(),
        counts: Counts::default(),
        scrubbed: Mutex::default(),
        next_extent: AtomicU64::new(next_extent),
        bodies: Bodies::default(),
        watching: Watching::default(),
    };
    (core, keeper)
}

impl Core {
    /// Before anything is taken the reserve is there, or the disk is known to be full: each start would take as
    /// much as may be taken before that is known.
    fn fill_reserve(&self) {
        self.room.measure(&self.index.lock(), &self.config);
        let mut segments = self.segments.lock();
        while segments.free() < self.at_first(&segments) {
            if let Err(error) = segments.make_spare(&*self.disk, self.config.segment_bytes) {
                if !error.is_full() {
                    self.room.trouble(Trouble::Segments, error);
                }
                self.room.press();
                if segments.free() <= self.reserve(&segments) {
                    self.room.set_full();
                }
                return;
            }
        }
    }
}

fn check(config: &Config) -> Result<(), OpenError> {
    let needed = config.own_segment_bytes.max(config.batch_bytes) as u64 + 3 * BLOCK_BYTES;
    if config.segment_bytes < needed {
        return Err(OpenError::Config(
            "a segment must have room for the largest group and batch that it shares",
        ));
    }
    if config.group_bytes_max as u64 + 3 * BLOCK_BYTES > u64::from(u32::MAX) {
        return Err(OpenError::Config("a group has less than 4 GiB"));
    }
    if config.own_segment_bytes < config.batch_bytes {
        return Err(OpenError::Config("a group with a segment of its own is longer than a batch"));
    }
    if config.reserve_segments == 0 {
        return Err(OpenError::Config("acks need a segment in reserve"));
    }
    if config.segment_bytes > u64::from(u32::MAX) || !config.segment_bytes.is_multiple_of(BLOCK_BYTES) {
        return Err(OpenError::Config("the length of a segment is a multiple of 4,096 below 4 GiB"));
    }
    Ok(())
}

/// Ends a run, with nobody else at it. Whoever waits still is told that it is too late.
pub(crate) fn close(core: &Core, mut keeper: Keeper) {
    core.inbox.lock().closed = true;
    let begun = Instant::now();
    let mut told = Vec::new();
    let in_time = || begun.elapsed().as_secs() < 5;
    // Later than anything that is to be tried again.
    let (mut now, mut idle) = (1 << 48, 0);
    while !drained(core) && in_time() {
        now += 10_000;
        while core.large_step(now) {}
        core.inbox.lock().flush();
        core.flight.lock().want_all();
        let wrote = core.write_step(now);
        let job = core.sync_begin(now);
        if let Some(job) = &job {
            let outcome = job.file.sync();
            core.sync_end(job, outcome, &mut told);
        }
        let did = wrote || job.is_some() || core.keep_in_order(&mut keeper, now);
        idle = if did { 0 } else { idle + 1 };
        if !did && core.flight.lock().failed {
            // It is only to be tried again and again.
            std::thread::sleep(std::time::Duration::from_millis(20));
        } else if idle > 1 {
            // Nothing can be done any more that would make room for them.
            give_up_large(core);
        }
    }
    if drained(core) {
        let position = core.index.lock().position;
        let kept = keeper.checkpoints.last() == Some(&position);
        let saved = kept || core.save_at_end();
        if saved {
            core.manifest.all_is_saved(&*core.disk, position, !core.room.is_pressed());
        }
        // The next start reads the journal if that failed, and takes all for delivered.
        if saved && core.disk.remove(RUNNING).is_ok() {
            let _ = core.disk.sync_names();
        }
    }
    let mut flight = core.flight.lock();
    let late: Vec<_> = flight.batches.iter_mut().flat_map(|batch| batch.chunk.waiters.drain(..)).collect();
    drop(flight);
    let mut inbox = core.inbox.lock();
    inbox.flush();
    let unwritten: Vec<_> =
        core::iter::from_fn(|| inbox.take(u64::MAX)).flat_map(|chunk| chunk.waiters).collect();
    drop(inbox);
    let large: Vec<_> = core.large.lock().give_up().collect();
    late.iter()
        .chain(&unwritten)
        .chain(&large)
        .for_each(|waiter| waiter.done.done(waiter.token, Err(Failed::Closed)));
}

/// What has large bodies and cannot be written is not there, so that the rest of the store can be closed.
fn give_up_large(core: &Core) {
    let failed = if core.room.large_waits() || core.room.is_full() { Failed::Full } else { Failed::Disk };
    let waiters: Vec<_> = core.large.lock().give_up().collect();
    core.large_count.store(0, Ordering::Release);
    waiters.iter().for_each(|waiter| waiter.done.done(waiter.token, Err(failed)));
}

impl Core {
    /// Writes a checkpoint, on a full disk in the room of free segments.
    fn save_at_end(&self) -> bool {
        let index = self.index.lock();
        loop {
            let name = FileName::Checkpoint(index.position);
            match crate::keeper::write_now(&*self.disk, &index, name) {
                Ok(_) => return true,
                Err(error) if error.is_full() => {
                    // Nobody else has a lock any more.
                    if !self.segments.lock().give_up(&*self.disk) {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
    }
}

fn drained(core: &Core) -> bool {
    let written = core.inbox.lock().is_empty() && !core.writer.lock().is_stuck();
    written && core.large.lock().is_empty() && core.flight.lock().batches.is_empty()
}

pub(crate) fn stat(core: &Core) -> Stat {
    let segment_bytes = core.segments.lock().bytes(core.config.segment_bytes);
    let (live, extent_bytes) = {
        let index = core.index.lock();
        (index.held.live, index.held.extent_bytes)
    };
    let (scrub_passes, scrubbed_messages, damaged_messages) = core.scrubbed.lock().counts();
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counts = &core.counts;
    Stat {
        messages: live.messages,
        live_bytes: live.bytes,
        extent_bytes,
        segment_bytes,
        syncs: load(&counts.syncs),
        batches: load(&counts.batches),
        groups: load(&counts.groups),
        journal_bytes: load(&counts.journal_bytes),
        moved_bytes: load(&counts.moved_bytes),
        checkpoint_bytes: load(&counts.checkpoint_bytes),
        rescues: load(&counts.rescues),
        scrub_passes,
        scrubbed_messages,
        damaged_messages,
    }
}
