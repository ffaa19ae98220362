//! The instances of plugins that want one for all threads: lent to one thread at a time.
//!
//! It is borrowed for one call of a router, or one question, and back before that returns. Where another has
//! it, whoever has a waker is woken when it is back; whoever has none stands and waits, in the slow lane, where
//! the calls before it end by their deadlines.

use super::home::Home;
use crate::{
    builder::{Place, PlaceRef},
    version::VersionId,
};
use hashbrown::HashMap;
use leveret_broker::port::Wake;
use parking_lot::{Condvar, Mutex};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a thread stands and waits for an instance. More than this no calls before it take, so it is stuck
/// then.
pub const BORROW_WAIT_MAX: Duration = Duration::from_secs(30);

/// All that are lent.
#[derive(Default)]
pub(crate) struct Berths {
    berths: Mutex<HashMap<Place, Berth, foldhash::fast::RandomState>>,
    back: Condvar,
}

#[derive(Default)]
struct Berth {
    /// Away while somebody has it.
    home: Option<Home>,
    is_out: bool,
    waiting: Vec<Arc<dyn Wake>>,
    /// How many threads stand and wait.
    standing: usize,
}

impl Berths {
    /// Borrows the home of a place, if nobody has it; else `waker` is called when it is back. The first
    /// one gets `None`: it makes the home.
    pub(super) fn borrow(
        &self,
        place: &PlaceRef<'_>,
        waker: Option<&Arc<dyn Wake>>,
    ) -> Result<Option<Home>, Away> {
        let until = Instant::now() + BORROW_WAIT_MAX;
        let mut berths = self.berths.lock();
        let mut stands = false;
        loop {
            if !berths.contains_key(place) {
                berths.insert(Place::from(place), Berth::default());
            }
            let Some(berth) = berths.get_mut(place) else { return Err(Away) };
            // Nobody overtakes those who stand.
            if !berth.is_out && (stands || berth.standing == 0) {
                berth.standing -= usize::from(stands);
                berth.is_out = true;
                return Ok(berth.home.take());
            }
            if let Some(waker) = waker {
                berth.waiting.push(waker.clone());
                return Err(Away);
            }
            if !stands {
                stands = true;
                berth.standing += 1;
            }
            if self.back.wait_until(&mut berths, until).timed_out() {
                let Some(berth) = berths.get_mut(place) else { return Err(Away) };
                berth.standing -= 1;
                let waiting = match berth.is_out {
                    true => Vec::new(),
                    false => std::mem::take(&mut berth.waiting),
                };
                drop(berths);
                waiting.iter().for_each(|waker| waker.wake());
                return Err(Away);
            }
        }
    }

    /// Borrows the home of a place, if there is one and nobody has or wants it.
    pub(super) fn borrow_now(&self, place: &Place) -> Option<Home> {
        let mut berths = self.berths.lock();
        let berth = berths.get_mut(place).filter(|berth| !berth.is_out && berth.standing == 0)?;
        let home = berth.home.take()?;
        berth.is_out = true;
        Some(home)
    }

    /// Brings a home back, and wakes whoever waits for it.
    pub(super) fn bring_back(&self, place: &Place, home: Home) {
        let mut berths = self.berths.lock();
        let Some(berth) = berths.get_mut(place) else { return };
        berth.home = Some(home);
        berth.is_out = false;
        let waiting = std::mem::take(&mut berth.waiting);
        let stands = berth.standing > 0;
        drop(berths);
        if stands {
            self.back.notify_all();
        }
        waiting.iter().for_each(|waker| waker.wake());
    }

    /// The places whose homes nobody has now.
    pub(super) fn free(&self) -> Vec<Place> {
        let berths = self.berths.lock();
        berths.iter().filter(|(_, berth)| !berth.is_out).map(|(place, _)| place.clone()).collect()
    }

    /// Lets go of those of versions that serve no more, unless somebody has them now.
    pub(super) fn sweep(&self, serves: impl Fn(VersionId) -> bool) {
        let mut berths = self.berths.lock();
        let gone: Vec<Berth> = berths
            .extract_if(|place, berth| !berth.is_out && !serves(place.version))
            .map(|(_, berth)| berth)
            .collect();
        drop(berths);
        // Their instances go under no lock.
        drop(gone);
    }
}

/// Another thread has it.
pub(super) struct Away;
