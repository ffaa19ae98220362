//! The replicas of one worker: found, built, caught up, lost.

use super::failures::Failures;
use crate::{
    builder::{Builder, Construction, Mailbox, Place, PlaceRef},
    engine::CallSlot,
    guest::{GuestFailure, Refused},
    replica::Replica,
    version::{Version, VersionId},
};
use hashbrown::HashMap;
use leveret_broker::{
    exchange::{Binding, Exchange, ExchangeId, Generation},
    port::Wake,
};
use leveret_model::Name;
use std::{sync::Arc, time::Duration};

/// A replica that has more bindings than this to be told is built by a thread of its own where
/// the asker can wait.
pub const INLINE_REPLAY_BINDINGS_MAX: usize = 2_000;

/// Why an exchange cannot be served now.
#[derive(Debug)]
pub(crate) enum NotServed {
    /// Its replica is under construction.
    Pending,
    /// The plugin refused the exchange or one of its bindings, with this text.
    Refused(String),
    /// The plugin failed, or is set aside because it did.
    Failed(String),
}

/// The replicas of one worker.
pub(crate) struct Homes {
    homes: HashMap<Place, Home, foldhash::fast::RandomState>,
    mailbox: Arc<Mailbox>,
    builder: Arc<Builder>,
    slot: CallSlot,
}

#[derive(Default)]
struct Home {
    /// Whose exchanges it serves; of a built-in type all of them.
    vhost: Option<Name>,
    replica: Option<Replica>,
    construction: Option<Arc<Construction>>,
    failures: Failures,
}

impl Homes {
    pub(crate) fn new(mailbox: Arc<Mailbox>, builder: Arc<Builder>, slot: CallSlot) -> Self {
        Self { homes: HashMap::default(), mailbox, builder, slot }
    }

    /// The replica that knows this exchange's current generation. With a waker, a replica that
    /// takes long to build is built elsewhere, and the waker is called; without one the caller
    /// waits.
    pub(crate) fn served(
        &mut self,
        version: &Arc<Version>,
        exchange: &Arc<Exchange>,
        waker: Option<&Arc<dyn Wake>>,
    ) -> Result<&mut Replica, NotServed> {
        let place = PlaceRef::of(version, &exchange.vhost);
        if !self.homes.contains_key(&place) {
            let place = Place::from(&place);
            let vhost = place.vhost.clone();
            self.homes.insert(place, Home { vhost, ..Home::default() });
        }
        let Some(home) = self.homes.get_mut(&place) else {
            return Err(NotServed::Pending);
        };
        if let Some(why) = home.failures.set_aside() {
            return Err(NotServed::Failed(why));
        }
        if let Some(finished) = home.construction.as_ref().and_then(|construction| construction.take()) {
            home.adopt(finished, version, &self.slot);
        }
        if home.replica.is_none()
            && let Some(mut replica) = self.mailbox.take(&place)
        {
            replica.move_to(self.slot.clone());
            home.replica = Some(replica);
        }
        if let Some(waker) = waker
            && home.must_wait(version, exchange, waker, &self.builder, &self.slot)
        {
            return Err(NotServed::Pending);
        }
        home.serve(version, exchange, &self.slot)
    }

    /// The replica that knows this exchange at that generation; where there is none, one that knows
    /// the current generation.
    pub(crate) fn at(
        &mut self,
        version: &Arc<Version>,
        exchange: &Arc<Exchange>,
        generation: Generation,
    ) -> Result<&mut Replica, NotServed> {
        let place = PlaceRef::of(version, &exchange.vhost);
        let knows = |replica: &Replica| replica.knows(exchange.id).is_some_and(|(g, _)| g == generation);
        let known = self.homes.get(&place).and_then(|home| home.replica.as_ref()).is_some_and(knows);
        if !known {
            return self.served(version, exchange, None);
        }
        self.homes.get_mut(&place).and_then(|home| home.replica.as_mut()).ok_or(NotServed::Pending)
    }

    /// Asks whether the plugin takes a binding.
    pub(crate) fn bind(
        &mut self,
        version: &Arc<Version>,
        exchange: &Arc<Exchange>,
        candidate: &Binding,
    ) -> Result<(), NotServed> {
        let replica = self.served(version, exchange, None)?;
        let answer = replica.bind_candidate(exchange, candidate);
        let Some(home) = self.homes.get_mut(&PlaceRef::of(version, &exchange.vhost)) else {
            return Ok(());
        };
        match answer {
            Ok(()) => {
                home.failures.succeeded();
                Ok(())
            }
            Err(refused) => Err(home.refused(version, refused)),
        }
    }

    /// A call of the replica of that exchange succeeded.
    pub(crate) fn succeeded(&mut self, version: &Version, exchange: &Exchange) {
        if let Some(home) = self.homes.get_mut(&PlaceRef::of(version, &exchange.vhost)) {
            home.failures.succeeded();
        }
    }

    /// A call of the replica of that exchange failed: the replica is lost.
    pub(crate) fn failed(
        &mut self,
        version: &Version,
        exchange: &Exchange,
        failure: &GuestFailure,
        took: Duration,
    ) {
        if let Some(home) = self.homes.get_mut(&PlaceRef::of(version, &exchange.vhost)) {
            home.failed(version, failure.to_string(), took);
        }
    }

    /// The exchange is gone.
    pub(crate) fn close(&mut self, id: ExchangeId) {
        for home in self.homes.values_mut() {
            home.tidy(|replica| replica.close(id));
        }
    }

    /// Lets go of exchanges that are gone, and of versions that serve no more.
    pub(crate) fn sweep(&mut self, serves: impl Fn(VersionId) -> bool) {
        self.homes.retain(|place, _| serves(place.version));
        for home in self.homes.values_mut() {
            home.tidy(Replica::sweep);
        }
    }

    /// The version serves this exchange no more, though perhaps others: it lets go of the exchange if it
    /// serves all virtual hosts with one instance, else of all that it has for this virtual host.
    pub(crate) fn leave(&mut self, version: &Version, exchange: &Exchange) {
        let place = PlaceRef::of(version, &exchange.vhost);
        if !version.code.builtin {
            self.homes.remove(&place);
        } else if let Some(home) = self.homes.get_mut(&place) {
            home.tidy(|replica| replica.close(exchange.id));
        }
    }

    /// Drops everything of a version that was replaced.
    pub(crate) fn discard(&mut self, version: VersionId) {
        self.homes.retain(|place, _| place.version != version);
    }
}

impl Home {
    /// Takes the replica of a construction that is finished.
    fn adopt(&mut self, finished: Result<Replica, String>, version: &Version, slot: &CallSlot) {
        self.construction = None;
        match finished {
            Ok(mut replica) => {
                replica.move_to(slot.clone());
                self.replica = Some(replica);
            }
            Err(what) => self.failed(version, what, Duration::ZERO),
        }
    }

    /// Whether serving the exchange takes a construction, which is begun if there is none yet.
    fn must_wait(
        &mut self,
        version: &Arc<Version>,
        exchange: &Arc<Exchange>,
        waker: &Arc<dyn Wake>,
        builder: &Builder,
        slot: &CallSlot,
    ) -> bool {
        let backlog = self.replica.as_ref().map_or_else(|| exchange.binding_count(), |r| r.backlog(exchange));
        if backlog <= INLINE_REPLAY_BINDINGS_MAX || self.failures.set_aside().is_some() {
            return false;
        }
        if self.construction.is_none() {
            let known = self.replica.iter().flat_map(Replica::exchanges).filter(|e| e.id != exchange.id);
            let exchanges = known.chain([exchange.clone()]).collect();
            let construction = builder.begin(version.clone(), exchange.vhost.clone(), exchanges);
            self.construction = Some(construction);
        }
        if let Some(finished) = self.construction.as_ref().and_then(|construction| construction.poll(waker)) {
            self.adopt(finished, version, slot);
            waker.wake();
        }
        true
    }

    fn serve(
        &mut self,
        version: &Arc<Version>,
        exchange: &Arc<Exchange>,
        slot: &CallSlot,
    ) -> Result<&mut Replica, NotServed> {
        if let Some(why) = self.failures.set_aside() {
            return Err(NotServed::Failed(why));
        }
        if self.replica.is_none() {
            match Replica::start(version, &exchange.vhost, slot.clone()) {
                Ok(replica) => self.replica = Some(replica),
                Err(failure) => return Err(self.refused(version, Refused::Failed(failure))),
            }
        }
        let served = self.replica.as_mut().map_or(Ok(()), |replica| replica.serve(exchange));
        if let Err(refused) = served {
            return Err(self.refused(version, refused));
        }
        self.replica.as_mut().ok_or(NotServed::Pending)
    }

    fn refused(&mut self, version: &Version, refused: Refused) -> NotServed {
        match refused {
            Refused::ByPlugin(text) => NotServed::Refused(text),
            Refused::Failed(failure) => {
                let what = failure.to_string();
                self.failed(version, what.clone(), Duration::ZERO);
                NotServed::Failed(what)
            }
        }
    }

    fn failed(&mut self, version: &Version, what: String, took: Duration) {
        self.replica = None;
        if let Some(count) = self.failures.failed(what.clone(), took) {
            let vhost = self.vhost.as_ref().map(tracing::field::display);
            tracing::warn!(
                target: "leveret::plugin",
                plugin = version.code.plugin, vhost, digest = %version.code.digest, failures = count,
                "the plugin failed: {what}"
            );
        }
    }

    /// Calls that nobody waits for the answer of: a replica that fails at them is dropped.
    fn tidy(&mut self, call: impl FnOnce(&mut Replica) -> Result<(), GuestFailure>) {
        if let Some(replica) = &mut self.replica
            && let Err(failure) = call(replica)
        {
            let version = replica.version().clone();
            self.failed(&version, failure.to_string(), Duration::ZERO);
        }
    }
}
