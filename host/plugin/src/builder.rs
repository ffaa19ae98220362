//! Replicas that are built away from the worker that will use them: large ones by a thread of
//! their virtual host while the channels that need them wait, and those of a new version before the swap.

use crate::{
    engine::{CallSlot, Engines},
    replica::Replica,
    services::Services,
    shares::{self, Shares},
    version::{Version, VersionId},
};
use hashbrown::{Equivalent as _, HashMap};
use leveret_broker::{
    exchange::Exchange,
    port::{Layer, Wake},
};
use leveret_model::Name;
use parking_lot::Mutex;
use std::{collections::VecDeque, sync::Arc, thread};

/// Which replica of a worker: of a version, for a vhost.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) version: VersionId,
    pub(crate) vhost: Name,
}

impl Place {
    /// The place of that version's replica for exchanges of that vhost.
    pub(crate) fn of(version: &Version, vhost: &Name) -> Self {
        Self { version: version.id, vhost: vhost.clone() }
    }
}

/// Finds a [`Place`] without making one.
#[derive(Hash)]
pub(crate) struct PlaceRef<'a> {
    version: VersionId,
    vhost: &'a Name,
}

impl<'a> PlaceRef<'a> {
    /// See [`Place::of`].
    pub(crate) fn of(version: &Version, vhost: &'a Name) -> Self {
        Self { version: version.id, vhost }
    }
}

impl hashbrown::Equivalent<Place> for PlaceRef<'_> {
    fn equivalent(&self, place: &Place) -> bool {
        let same_bytes = || std::ptr::eq(self.vhost.as_bytes(), place.vhost.as_bytes());
        self.version == place.version && (same_bytes() || *self.vhost == place.vhost)
    }
}

impl From<&PlaceRef<'_>> for Place {
    fn from(place: &PlaceRef<'_>) -> Self {
        Self { version: place.version, vhost: place.vhost.clone() }
    }
}

/// Replicas handed to one worker before it needs them.
#[derive(Default)]
pub(crate) struct Mailbox(Mutex<Vec<(Place, Replica)>>);

impl Mailbox {
    /// Hands over a replica.
    pub(crate) fn put(&self, place: Place, replica: Replica) {
        self.0.lock().push((place, replica));
    }

    /// Drops what was never taken of that version.
    pub(crate) fn discard(&self, version: VersionId) {
        let mut all = self.0.lock();
        let discarded = all.extract_if(.., |(place, _)| place.version == version).collect::<Vec<_>>();
        drop(all);
        drop(discarded);
    }

    /// Takes the replica for that place, if there is one.
    pub(crate) fn take(&self, place: &PlaceRef<'_>) -> Option<Replica> {
        let mut all = self.0.lock();
        let position = all.iter().position(|(p, _)| place.equivalent(p))?;
        Some(all.swap_remove(position).1)
    }
}

/// A replica under construction.
#[derive(Default)]
pub(crate) struct Construction(Mutex<Progress>);

#[derive(Default)]
struct Progress {
    /// The replica, or why there is none.
    finished: Option<Result<Replica, String>>,
    wakers: Vec<Arc<dyn Wake>>,
}

impl Construction {
    /// What came of it, if it is finished.
    pub(crate) fn take(&self) -> Option<Result<Replica, String>> {
        self.0.lock().finished.take()
    }

    /// What came of it. While it goes on, `None`, and the waker is called when it is finished.
    pub(crate) fn poll(&self, waker: &Arc<dyn Wake>) -> Option<Result<Replica, String>> {
        let mut progress = self.0.lock();
        let finished = progress.finished.take();
        if finished.is_none() {
            progress.wakers.push(waker.clone());
        }
        finished
    }

    fn finish(&self, result: Result<Replica, String>) {
        let mut progress = self.0.lock();
        progress.finished = Some(result);
        let wakers = std::mem::take(&mut progress.wakers);
        drop(progress);
        wakers.iter().for_each(|waker| waker.wake());
    }
}

/// Builds large replicas. A virtual host's are built one after the other, those of several beside each other,
/// in turns ([`crate::shares`]).
pub(crate) struct Builder {
    lanes: Arc<Mutex<Lanes>>,
    parts: Parts,
}

/// The replicas that wait, by virtual host; one that is there has a thread.
type Lanes = HashMap<Name, VecDeque<Job>>;

/// What building takes.
#[derive(Clone)]
struct Parts {
    engines: Arc<Engines>,
    services: Arc<Services>,
    shares: Arc<Shares>,
}

struct Job {
    version: Arc<Version>,
    vhost: Name,
    exchanges: Vec<(Arc<Exchange>, Layer)>,
    construction: Arc<Construction>,
}

impl Builder {
    /// A builder; threads are there while something is built.
    pub(crate) fn new(engines: &Arc<Engines>, services: &Arc<Services>) -> Self {
        let shares = Shares::of_machine();
        let parts = Parts { engines: engines.clone(), services: services.clone(), shares };
        Self { lanes: Arc::default(), parts }
    }

    /// Begins to build a replica that serves these exchanges, of one virtual host.
    pub(crate) fn begin(
        &self,
        version: Arc<Version>,
        vhost: Name,
        exchanges: Vec<(Arc<Exchange>, Layer)>,
    ) -> Arc<Construction> {
        let construction = Arc::new(Construction::default());
        let job = Job { version, vhost: vhost.clone(), exchanges, construction: construction.clone() };
        let mut lanes = self.lanes.lock();
        if let Some(lane) = lanes.get_mut(&vhost) {
            lane.push_back(job);
            return construction;
        }
        let (of, parts, vhost_of) = (self.lanes.clone(), self.parts.clone(), vhost.clone());
        let work = move || {
            let slot = parts.engines.ticker().slot();
            while let Some(job) = next(&of, &vhost_of) {
                job.construction.finish(build(&job, &parts, &slot));
            }
        };
        lanes.insert(vhost.clone(), [job].into());
        if let Err(error) = thread::Builder::new().name("leveret-builder".into()).spawn(work) {
            lanes.remove(&vhost);
            drop(lanes);
            construction.finish(Err(format!("there is no thread that builds instances: {error}")));
        }
        construction
    }
}

/// What is to be built next for a virtual host; its thread is gone if there is nothing.
fn next(lanes: &Mutex<Lanes>, vhost: &Name) -> Option<Job> {
    let mut lanes = lanes.lock();
    let job = lanes.get_mut(vhost)?.pop_front();
    if job.is_none() {
        lanes.remove(vhost);
    }
    job
}

fn build(job: &Job, parts: &Parts, slot: &CallSlot) -> Result<Replica, String> {
    let _building = parts.shares.build(&job.vhost);
    let mut replica = Replica::start(&job.version, &job.vhost, &parts.services, slot.clone())
        .map_err(|failure| failure.to_string())?;
    for (exchange, layer) in &job.exchanges {
        shares::between_calls();
        match replica.serve(exchange, *layer) {
            // Whoever asks about that exchange is told why.
            Ok(()) | Err(crate::guest::Refused::ByPlugin(_)) => {}
            Err(crate::guest::Refused::Failed(failure)) => return Err(failure.to_string()),
        }
    }
    Ok(replica)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        shares::SLICE,
        testing::{Guest, Woken, World},
    };

    #[test]
    fn a_build_of_one_vhost_does_not_wait_for_the_end_of_anothers() {
        let mut world = World::with(Guest::default(), 1);
        let mut begun = Vec::new();
        for vhost in ["a", "b"] {
            world.enter(vhost);
            world.declare(0, "x").unwrap();
            world.bind(0, "x", "k").unwrap();
            begun.push((world.vhost.name().clone(), world.exchange("x")));
        }
        let version = {
            let registry = world.host.registry();
            let crate::registry::Lookup::Serving(version) = registry.lookup(&begun[0].0, b"x-test") else {
                panic!("it serves")
            };
            version
        };
        let engines = Arc::new(Engines::new().unwrap());
        let shares = Shares::new(1);
        let parts = Parts { engines, services: Arc::default(), shares: shares.clone() };
        let builder = Builder { lanes: Arc::default(), parts };
        // A build of `a` is under way, and ends only when that of `b` has.
        let building = shares.build(&begun[0].0);
        let waker: Arc<dyn Wake> = Arc::<Woken>::default();
        let begin = |(vhost, exchange): &(Name, Arc<Exchange>)| {
            builder.begin(version.clone(), vhost.clone(), vec![(exchange.clone(), Layer::FRONT)])
        };
        let (more_of_a, of_b) = (begin(&begun[0]), begin(&begun[1]));
        let built = loop {
            let began = crate::guest::thread_cpu_time();
            while crate::guest::thread_cpu_time().saturating_sub(began) < SLICE {
                std::hint::black_box((0..1_000_u64).sum::<u64>());
            }
            shares::between_calls();
            if let Some(built) = of_b.poll(&waker) {
                break built;
            }
        };
        assert!(built.is_ok_and(|replica| replica.exchanges().count() == 1));
        drop(building);
        while more_of_a.take().is_none() {
            std::thread::yield_now();
        }
    }
}
