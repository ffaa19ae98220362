//! A body that comes.

use super::Body;
use crate::{
    DiskError, Refused,
    disk::File,
    journal::{Core, segments::FileName},
    record::{check, op::ExtentRef},
};
use parking_lot::Mutex;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Of a body that is to be on disk so much is synced at once, so that there is little left at the end.
const SYNC_BYTES: u64 = 16 << 20;

/// Is told of a body that comes: called on the store's threads, under no lock of it, and must not wait.
pub trait BodyWatch: Send + core::marker::Sync {
    /// Something was written, or failed, or it is whole.
    fn moved(&self);
}

/// Why a body is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyFailed {
    /// There is no room for it.
    Full,
    /// The disk failed: with what.
    Disk(String),
}

impl From<DiskError> for BodyFailed {
    fn from(error: DiskError) -> Self {
        if error.is_full() { Self::Full } else { Self::Disk(error.to_string()) }
    }
}

impl core::fmt::Display for BodyFailed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Full => f.write_str("the disk is full"),
            Self::Disk(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for BodyFailed {}

/// Takes the pieces of a body. Dropped before [`Self::end`], or before that came to something, it leaves nothing.
pub struct BodyWriter {
    core: Arc<Core>,
    coming: Arc<Coming>,
}

/// What the thread that writes has of it.
pub(super) struct Coming {
    number: u64,
    watch: Arc<dyn BodyWatch>,
    /// When it is whole it is on disk.
    syncs: bool,
    /// How many bytes are not written yet: changed under the lock of `state`, read without.
    unwritten_bytes: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    file: Option<Arc<dyn File>>,
    bytes: u64,
    /// How many of those are synced.
    synced_bytes: u64,
    check: u32,
    /// The thread has it on its list, or at hand.
    is_queued: bool,
    /// All pieces came.
    ended: bool,
    is_given_up: bool,
    outcome: Option<Result<Arc<Body>, BodyFailed>>,
}

impl BodyWriter {
    pub(crate) fn begin(core: &Arc<Core>, syncs: bool, watch: Arc<dyn BodyWatch>) -> Result<Self, Refused> {
        if core.inbox.lock().closed {
            return Err(Refused::Closed);
        }
        if core.room.refuses() {
            return Err(Refused::Full);
        }
        let number = core.next_extent.fetch_add(1, Ordering::Relaxed);
        let (unwritten_bytes, state) = (AtomicUsize::new(0), Mutex::default());
        let coming = Arc::new(Coming { number, watch, syncs, unwritten_bytes, state });
        Ok(Self { core: core.clone(), coming })
    }

    /// Takes the next piece.
    pub fn put(&self, bytes: &[u8]) {
        let mut state = self.coming.state.lock();
        if state.outcome.is_none() {
            state.waiting.extend_from_slice(bytes);
            self.coming.unwritten_bytes.fetch_add(bytes.len(), Ordering::Relaxed);
            self.queue(&mut state);
        }
    }

    /// How many bytes are not written yet. Takes no lock.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.coming.unwritten_bytes.load(Ordering::Relaxed)
    }

    /// No more pieces come.
    pub fn end(&self) {
        let mut state = self.coming.state.lock();
        state.ended = true;
        if state.outcome.is_none() {
            self.queue(&mut state);
        }
    }

    /// What came of it, once: the body when it is whole, or why there will be none.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<Arc<Body>, BodyFailed>> {
        let mut state = self.coming.state.lock();
        match &mut state.outcome {
            Some(Err(why)) => Some(Err(why.clone())),
            outcome => outcome.take(),
        }
    }

    fn queue(&self, state: &mut State) {
        if !state.is_queued {
            state.is_queued = true;
            self.core.bodies.work.lock().push_back(self.coming.clone());
            self.core.bodies.arrived.notify_one();
        }
    }
}

impl core::fmt::Debug for BodyWriter {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("BodyWriter").field("number", &self.coming.number).finish_non_exhaustive()
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        let mut state = self.coming.state.lock();
        state.is_given_up = true;
        // What is whole goes with its owner.
        let outcome = state.outcome.take();
        if outcome.is_none() && state.file.is_some() {
            self.queue(&mut state);
        }
        drop(state);
        drop(outcome);
    }
}

impl Coming {
    /// Writes what waits, and ends it if nothing comes any more.
    pub(super) fn step(self: &Arc<Self>, core: &Arc<Core>) {
        let mut state = self.state.lock();
        if state.is_given_up {
            let file = state.file.take();
            drop(state);
            if file.is_some() {
                self.remove(core);
            }
            return;
        }
        let piece = core::mem::take(&mut state.waiting);
        let (file, at, ended, synced) = (state.file.clone(), state.bytes, state.ended, state.synced_bytes);
        drop(state);
        let end = at + piece.len() as u64;
        let is_to_be_synced = self.syncs && end >= synced + SYNC_BYTES;
        let written = self.write(core, file, (&piece, at), is_to_be_synced);
        let mut state = self.state.lock();
        self.unwritten_bytes.fetch_sub(piece.len(), Ordering::Relaxed);
        let written = written.map(|file| {
            state.file = Some(file);
            state.bytes = end;
            state.synced_bytes = if is_to_be_synced { end } else { synced };
            state.check = check::append(state.check, &piece);
        });
        if let Err(error) = written {
            return self.fail(core, state, error);
        }
        if state.is_given_up || !state.waiting.is_empty() || state.ended != ended {
            core.bodies.work.lock().push_back(self.clone());
        } else if let (true, Some(file)) = (ended, state.file.clone()) {
            drop(state);
            return self.finish(core, &file);
        } else {
            state.is_queued = false;
        }
        drop(state);
        self.watch.moved();
    }

    fn write(
        &self,
        core: &Core,
        file: Option<Arc<dyn File>>,
        (piece, at): (&[u8], u64),
        syncs: bool,
    ) -> Result<Arc<dyn File>, DiskError> {
        let file = match file {
            Some(file) => file,
            None => core.disk.create(&self.name(), 0)?,
        };
        // A file that was made is one that is to be removed.
        self.state.lock().file.get_or_insert_with(|| file.clone());
        file.write_at(piece, at)?;
        if syncs {
            file.sync()?;
        }
        Ok(file)
    }

    /// All of it is written.
    fn finish(self: &Arc<Self>, core: &Arc<Core>, file: &Arc<dyn File>) {
        let synced = if self.syncs { file.sync().and_then(|()| core.disk.sync_names()) } else { Ok(()) };
        let mut state = self.state.lock();
        if let Err(error) = synced {
            return self.fail(core, state, error);
        }
        state.is_queued = false;
        state.file = None;
        let extent = ExtentRef { number: self.number, bytes: state.bytes, check: state.check };
        let body = core.body(extent, false);
        if state.is_given_up {
            drop(state);
            return drop(body);
        }
        state.outcome = Some(Ok(body));
        drop(state);
        self.watch.moved();
    }

    /// There will be no body. What failed to sync is not written to again.
    fn fail(&self, core: &Core, mut state: parking_lot::MutexGuard<'_, State>, error: DiskError) {
        let file = state.file.take();
        state.is_queued = false;
        state.waiting = Vec::new();
        self.unwritten_bytes.store(0, Ordering::Relaxed);
        let is_full = error.is_full();
        state.outcome = Some(Err(error.into()));
        drop(state);
        if file.is_some() {
            self.remove(core);
        }
        if is_full {
            core.room.lack_for_body();
            core.tidy();
        }
        self.watch.moved();
    }

    fn remove(&self, core: &Core) {
        // A file that cannot be removed is found again at the next start.
        let _ = core.disk.remove(&self.name());
    }

    fn name(&self) -> String {
        FileName::Extent(self.number).to_string()
    }
}
