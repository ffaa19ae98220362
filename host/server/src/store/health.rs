//! Whether publishers are to be held back because of the store.

use super::{DiskStore, Shared};
use leveret_broker::port::Wake;
use leveret_store::{Health, Refused};
use parking_lot::Mutex;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// How often it is looked whether the store is well again, while somebody waits for that.
const LOOK_EVERY: Duration = Duration::from_millis(20);

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
pub(super) struct Relief(Mutex<Waiting>, AtomicBool);

#[derive(Default)]
struct Waiting {
    wakers: Vec<Arc<dyn Wake>>,
    /// Somebody looks.
    watched: bool,
}

impl DiskStore {
    /// What is wrong with it now. A store that is closed is under no pressure: it takes nothing any more.
    #[must_use]
    pub fn pressure(&self) -> Option<Pressure> {
        self.shared.pressure()
    }

    /// Wakes `waker` once there is no [`Self::pressure`] any more. False if there is none now: then nobody is woken.
    /// Call it once for each time of waiting.
    pub fn wake_when_relieved(&self, waker: &Arc<dyn Wake>) -> bool {
        if self.pressure().is_none() {
            return false;
        }
        let mut waiting = self.shared.relief.0.lock();
        waiting.wakers.push(waker.clone());
        if !waiting.watched {
            let shared = Arc::downgrade(&self.shared);
            let watch = move || {
                while shared.upgrade().is_some_and(|shared| !shared.look()) {
                    thread::sleep(LOOK_EVERY);
                }
            };
            waiting.watched = thread::Builder::new().name("store-relief".into()).spawn(watch).is_ok();
        }
        if !waiting.watched {
            // Without a thread they look for themselves.
            let wakers = std::mem::take(&mut waiting.wakers);
            drop(waiting);
            wakers.iter().for_each(|waker| waker.wake());
        }
        true
    }
}

impl Shared {
    /// What is wrong; into the log when it begins and when it is over.
    fn pressure(&self) -> Option<Pressure> {
        let pressure = self.look_for_pressure();
        let is_bad = matches!(pressure, Some(Pressure::Full | Pressure::Failing(_)));
        if self.relief.1.load(Ordering::Relaxed) != is_bad
            && self.relief.1.swap(is_bad, Ordering::Relaxed) != is_bad
        {
            match &pressure {
                Some(pressure) if is_bad => tracing::warn!(
                    "the store: {pressure}; who publishes what is to be written is held back until that is over"
                ),
                _ => tracing::info!("the store takes everything again"),
            }
        }
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

    /// Wakes who waits if all is well again. Whether it was.
    fn look(&self) -> bool {
        if self.pressure().is_some() {
            return false;
        }
        let wakers = {
            let mut waiting = self.relief.0.lock();
            waiting.watched = false;
            std::mem::take(&mut waiting.wakers)
        };
        wakers.iter().for_each(|waker| waker.wake());
        true
    }
}
