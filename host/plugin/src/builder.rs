//! Replicas that are built away from the worker that will use them: large ones by a thread of
//! their own while the channels that need them wait, and those of a new version before the swap.

use crate::{
    engine::{CallSlot, Engines},
    replica::Replica,
    services::Services,
    version::{Version, VersionId},
};
use hashbrown::Equivalent as _;
use leveret_broker::{
    exchange::Exchange,
    port::{Layer, Wake},
};
use leveret_model::Name;
use parking_lot::Mutex;
use std::{
    io,
    sync::{Arc, mpsc},
    thread,
};

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
        self.version == place.version && *self.vhost == place.vhost
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

/// The thread that builds large replicas.
pub(crate) struct Builder(mpsc::Sender<Job>);

struct Job {
    version: Arc<Version>,
    vhost: Name,
    exchanges: Vec<(Arc<Exchange>, Layer)>,
    construction: Arc<Construction>,
}

impl Builder {
    /// Starts the thread; it ends when the builder is dropped.
    pub(crate) fn start(engines: &Engines, services: &Arc<Services>) -> io::Result<Self> {
        let (sender, jobs) = mpsc::channel::<Job>();
        let (slot, services) = (engines.ticker().slot(), services.clone());
        thread::Builder::new().name("leveret-builder".into()).spawn(move || {
            for job in jobs {
                job.construction.finish(build(&job, &services, &slot));
            }
        })?;
        Ok(Self(sender))
    }

    /// Begins to build a replica that serves these exchanges, of one virtual host unless it is of a
    /// built-in type.
    pub(crate) fn begin(
        &self,
        version: Arc<Version>,
        vhost: Name,
        exchanges: Vec<(Arc<Exchange>, Layer)>,
    ) -> Arc<Construction> {
        let construction = Arc::new(Construction::default());
        let job = Job { version, vhost, exchanges, construction: construction.clone() };
        if self.0.send(job).is_err() {
            construction.finish(Err(String::from("the thread that builds instances is gone")));
        }
        construction
    }
}

fn build(job: &Job, services: &Arc<Services>, slot: &CallSlot) -> Result<Replica, String> {
    let mut replica = Replica::start(&job.version, &job.vhost, services, slot.clone())
        .map_err(|failure| failure.to_string())?;
    for (exchange, layer) in &job.exchanges {
        match replica.serve(exchange, *layer) {
            // Whoever asks about that exchange is told why.
            Ok(()) | Err(crate::guest::Refused::ByPlugin(_)) => {}
            Err(crate::guest::Refused::Failed(failure)) => return Err(failure.to_string()),
        }
    }
    Ok(replica)
}
