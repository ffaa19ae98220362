//! Who is told of what happens in a store though nobody asked for it at that moment.

use crate::{Damaged, Health, Refused, Store, journal::Core};
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering, fence},
};

/// Is told. Called on the store's threads, under no lock of it: it must not wait, nor drop the store.
pub trait Watch: Send + Sync {
    /// What grows is taken again and all is well, or the store is closed: once for each [`Store::await_relief`]
    /// that gave true, or for several together.
    fn relieved(&self);

    /// Writing or syncing began to fail, for this reason; it may have been made up for by now. [`Self::relieved`] says when
    /// all is well.
    fn failing(&self, why: &str);

    /// A message was found to be damaged that was not known to be; of more than a thousand at a time only those.
    fn damaged(&self, damaged: &Damaged);

    /// A file with something that is damaged is needed no more: it has this name now, and is left to the operator.
    fn set_aside(&self, file: &str);
}

/// What a store keeps for that.
#[derive(Default)]
pub(crate) struct Watching {
    watch: OnceLock<Arc<dyn Watch>>,
    /// Somebody waits for relief.
    awaited: AtomicBool,
}

impl Store {
    /// Has somebody told from now on, and of damaged messages that were found before; only the first who asks.
    pub fn watch(&self, watch: Arc<dyn Watch>) {
        let found = self.core.scrubbed.lock();
        if self.core.watching.watch.set(watch.clone()).is_ok() {
            let known = found.report().damaged;
            drop(found);
            known.iter().for_each(|damaged| watch.damaged(damaged));
        }
    }

    /// Has whoever watches told when all is well. False if it is by now: then nobody need be told.
    #[must_use]
    pub fn await_relief(&self) -> bool {
        self.core.watching.awaited.store(true, Ordering::Relaxed);
        // Either this sees what a thread of the store did, or that thread sees that somebody waits.
        fence(Ordering::SeqCst);
        !(self.core.is_relieved() && self.core.watching.awaited.swap(false, Ordering::Relaxed))
    }
}

impl Core {
    fn is_relieved(&self) -> bool {
        match self.admits() {
            Err(Refused::Closed) => true,
            Err(_) => false,
            Ok(()) => self.health() == Health::Well,
        }
    }

    /// Tells of what began to fail, and who waits for relief, if it came.
    pub(crate) fn tell_relief(&self) {
        fence(Ordering::SeqCst);
        let Watching { watch, awaited } = &self.watching;
        if let Some(why) = self.room.take_news()
            && let Some(watch) = watch.get()
        {
            watch.failing(&why);
            awaited.store(true, Ordering::Relaxed);
        }
        if awaited.load(Ordering::Relaxed)
            && self.is_relieved()
            && awaited.swap(false, Ordering::Relaxed)
            && let Some(watch) = watch.get()
        {
            watch.relieved();
        }
    }

    /// Whether somebody is told.
    pub(crate) fn is_watched(&self) -> bool {
        self.watching.watch.get().is_some()
    }

    /// Tells of a message that is damaged.
    pub(crate) fn tell_damaged(&self, damaged: &Damaged) {
        if let Some(watch) = self.watching.watch.get() {
            watch.damaged(damaged);
        }
    }

    /// Tells of a file that was set aside.
    pub(crate) fn tell_set_aside(&self, file: &str) {
        if let Some(watch) = self.watching.watch.get() {
            watch.set_aside(file);
        }
    }
}
