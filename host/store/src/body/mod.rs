//! Bodies that are longer than what anybody wants to hold in memory: written while they come, read in windows.
//!
//! *In:* a [`BodyWriter`] takes pieces, and a thread of the store appends them to a file of their own
//! ([`crate::record::op::ExtentRef`]), which is synced at the end if that is asked for. Who puts is told whenever something was
//! written ([`BodyWatch`]), and bounds what waits by looking at [`BodyWriter::waiting_bytes`]. A writer that is dropped before its
//! end takes its file with it.
//!
//! *Out:* what is whole is a [`Body`], which records refer to ([`crate::Group::enqueue_body`]), as many as like. It is read
//! through a [`BodyReader`], which tells at the end whether what was read is what was written.
//!
//! *How long it is there:* as long as a record that is live refers to it, or somebody has the [`Body`]. What no record ever
//! referred to goes with its last owner, and at a start. A file that is removed can be read by who has it open.

mod reading;
mod writing;

pub use reading::{BodyReader, Unreadable};
pub use writing::{BodyFailed, BodyWatch, BodyWriter};

use crate::{
    Done, Failed, Refused, Store,
    error::DiskError,
    index::Index,
    journal::{Core, inbox::Waiter, segments::FileName},
    record::op::ExtentRef,
};
use hashbrown::HashMap;
use parking_lot::{Condvar, Mutex};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};
use writing::Coming;

/// What a store keeps of such bodies.
#[derive(Default)]
pub(crate) struct Bodies {
    /// Those for which there is something to do.
    work: Mutex<VecDeque<Arc<Coming>>>,
    /// There may be.
    pub(crate) arrived: Condvar,
    /// Those that somebody has.
    held: Mutex<HashMap<u64, Weak<Body>, foldhash::fast::RandomState>>,
    /// Those that nobody has any more, and whether a record may refer to them.
    dropped: Mutex<Vec<(u64, bool)>>,
}

/// A body that is whole, in a file of its own.
pub struct Body {
    core: Arc<Core>,
    extent: ExtentRef,
    /// A record refers to it, or did.
    is_recorded: AtomicBool,
}

impl Body {
    /// Which one it is.
    #[must_use]
    pub fn extent(&self) -> ExtentRef {
        self.extent
    }

    /// Begins to read it.
    ///
    /// # Errors
    /// It is not there, or cannot be opened now.
    pub fn open(&self) -> Result<BodyReader, DiskError> {
        let file = self.core.disk.open(&FileName::Extent(self.extent.number).to_string())?;
        Ok(BodyReader::new(file, self.extent))
    }

    pub(crate) fn note_recorded(&self) {
        self.is_recorded.store(true, Ordering::Relaxed);
    }
}

impl core::fmt::Debug for Body {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Body").field("extent", &self.extent).finish_non_exhaustive()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let number = self.extent.number;
        let mut held = self.core.bodies.held.lock();
        match held.get(&number) {
            Some(other) if other.strong_count() > 0 => return,
            _ => drop(held.remove(&number)),
        }
        drop(held);
        self.core.bodies.dropped.lock().push((number, *self.is_recorded.get_mut()));
        self.core.tidy();
    }
}

impl Store {
    /// Begins a body that comes in pieces. Where it `syncs` it is on disk when it is whole.
    ///
    /// # Errors
    /// What grows is refused.
    pub fn begin_body(&self, syncs: bool, watch: Arc<dyn BodyWatch>) -> Result<BodyWriter, Refused> {
        BodyWriter::begin(&self.core, syncs, watch)
    }

    /// The body that a message which was read refers to.
    #[must_use]
    pub fn body(&self, extent: ExtentRef) -> Arc<Body> {
        self.core.body(extent, true)
    }
}

impl Core {
    /// The one owner of a body, made if there is none.
    fn body(self: &Arc<Self>, extent: ExtentRef, is_recorded: bool) -> Arc<Body> {
        let mut held = self.bodies.held.lock();
        if let Some(body) = held.get(&extent.number).and_then(Weak::upgrade) {
            return body;
        }
        let is_recorded = AtomicBool::new(is_recorded);
        let body = Arc::new(Body { core: self.clone(), extent, is_recorded });
        held.insert(extent.number, Arc::downgrade(&body));
        body
    }

    /// Whether somebody has a body.
    pub(crate) fn is_held(&self, extent: u64) -> bool {
        self.bodies.held.lock().get(&extent).is_some_and(|body| body.strong_count() > 0)
    }

    /// Bodies that nobody has any more and no record refers to are dead: of what a record referred to as of now, for a
    /// start might find it again until what took it away is synced.
    pub(crate) fn bury_bodies(&self, index: &mut Index) {
        let mut dropped = self.bodies.dropped.lock();
        for (number, is_recorded) in dropped.drain(..) {
            if !index.held.refers_to(number) {
                let since = if is_recorded { index.position } else { 0 };
                index.held.dead_extents.push((since, number));
            }
        }
    }

    /// Does something for a body that comes. False if there is nothing to do.
    pub(crate) fn body_step(self: &Arc<Self>) -> bool {
        let Some(coming) = self.bodies.work.lock().pop_front() else { return false };
        coming.step(self);
        true
    }

    /// Waits until there may be something to do, or whoever stops the store says so.
    pub(crate) fn await_bodies(&self, stopping: &AtomicBool) {
        let mut work = self.bodies.work.lock();
        if work.is_empty() && !stopping.load(Ordering::Acquire) {
            self.bodies.arrived.wait(&mut work);
        }
    }

    /// Under the lock, so that nobody is between looking and waiting.
    pub(crate) fn wake_bodies(&self) {
        drop(self.bodies.work.lock());
        self.bodies.arrived.notify_all();
    }
}

/// Holds on to the bodies of a group until the index has it.
struct Keep {
    bodies: Mutex<Vec<Arc<Body>>>,
    waiter: Option<(Arc<dyn Done>, u64)>,
}

impl Done for Keep {
    fn done(&self, _token: u64, outcome: Result<(), Failed>) {
        self.bodies.lock().clear();
        if let Some((done, token)) = &self.waiter {
            done.done(*token, outcome);
        }
    }
}

/// The waiter of a group that refers to bodies.
pub(crate) fn keeping(
    bodies: &[Arc<Body>],
    waiter: Option<(&Arc<dyn Done>, u64)>,
    sync: crate::Sync,
) -> Waiter {
    bodies.iter().for_each(|body| body.note_recorded());
    let waiter = waiter.map(|(done, token)| (done.clone(), token));
    Waiter { done: Arc::new(Keep { bodies: Mutex::new(bodies.to_vec()), waiter }), token: 0, sync }
}
