//! Whether publishers are to be held back because of the store.

use super::{DiskStore, Shared};
use leveret_broker::port::Wake;
use leveret_store::{Damaged, Health, Refused, Watch};
use parking_lot::Mutex;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// What is wrong with the store: nothing that grows is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// The disk is full.
    Full,
    /// The disk fails, for this reason.
    Failing(Arc<str>),
    /// More waits to be written than may.
    Behind,
}

impl fmt::Display for Pressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the disk is full"),
            Self::Failing(why) => write!(f, "the disk fails: {why}"),
            Self::Behind => f.write_str("the disk does not keep up"),
        }
    }
}

/// Who waits for better times, and whether it was told that times are bad.
#[derive(Default)]
pub(super) struct Relief {
    wakers: Mutex<Vec<Arc<dyn Wake>>>,
    is_bad: AtomicBool,
}

/// What the store tells of itself goes into the log, and wakes who waits.
impl Watch for Relief {
    fn relieved(&self) {
        self.note(None);
        self.wake();
    }

    fn failing(&self, why: &str) {
        self.note(Some(&Pressure::Failing(why.into())));
    }

    fn damaged(&self, damaged: &Damaged) {
        let Damaged { queue, sequence, file, offset, bytes } = damaged;
        tracing::error!(
            "the store: message {sequence} of queue number {} is damaged, the {bytes} bytes at {offset} of {file}: check \
             the disk, and publish it again; it is left out when its turn comes",
            queue.0
        );
    }

    fn set_aside(&self, file: &str) {
        tracing::warn!(
            "the store: {file} was set aside, something in it is damaged and nothing else in it is needed; remove it once \
             nobody wants to look into what happened"
        );
    }
}

impl Relief {
    /// Into the log when it begins and when it is over.
    fn note(&self, pressure: Option<&Pressure>) {
        let is_bad = matches!(pressure, Some(Pressure::Full | Pressure::Failing(_)));
        if self.is_bad.load(Ordering::Relaxed) != is_bad
            && self.is_bad.swap(is_bad, Ordering::Relaxed) != is_bad
        {
            match pressure {
                Some(pressure) if is_bad => tracing::warn!(
                    "the store: {pressure}; who publishes what is to be written is held back until that is over"
                ),
                _ => tracing::info!("the store takes everything again"),
            }
        }
    }

    fn wake(&self) {
        let wakers = std::mem::take(&mut *self.wakers.lock());
        wakers.iter().for_each(|waker| waker.wake());
    }
}

impl DiskStore {
    /// What is wrong with it now. A store that is closed is under no pressure: it takes nothing any more.
    #[must_use]
    pub fn pressure(&self) -> Option<Pressure> {
        self.shared.pressure()
    }

    /// How many bytes may still be written to its disk; `None` where nobody can tell.
    #[must_use]
    pub fn disk_free_bytes(&self) -> Option<u64> {
        self.shared.store.disk_free_bytes()
    }

    /// Wakes `waker` once there is no [`Self::pressure`] any more. False if there is none now: then nobody is woken.
    /// Call it once for each time of waiting.
    pub fn wake_when_relieved(&self, waker: &Arc<dyn Wake>) -> bool {
        if self.pressure().is_none() {
            return false;
        }
        let relief = &self.shared.relief;
        relief.wakers.lock().push(waker.clone());
        if !self.shared.store.await_relief() {
            relief.wake();
        }
        true
    }
}

impl Shared {
    /// What is wrong.
    fn pressure(&self) -> Option<Pressure> {
        let pressure = self.look_for_pressure();
        self.relief.note(pressure.as_ref());
        pressure
    }

    fn look_for_pressure(&self) -> Option<Pressure> {
        match self.store.admits() {
            Err(Refused::Full) => return Some(Pressure::Full),
            Err(Refused::Closed) => return None,
            Err(Refused::Behind | Refused::TooLarge) => return Some(Pressure::Behind),
            Ok(()) => {}
        }
        match self.store.health() {
            Health::Well => None,
            Health::Full => Some(Pressure::Full),
            Health::Failing(why) => Some(Pressure::Failing(why.into())),
        }
    }
}
