//! The replicas of one worker: found, borrowed, let go.

use super::{berths::Away, home::Home};
use crate::{
    account::Account,
    attachment::Attachment,
    builder::{Builder, Mailbox, Place, PlaceRef},
    engine::CallSlot,
    guest::{GuestFailure, Refused},
    pace::Pace,
    recent::Recent,
    replica::{About, Replica},
    services::Services,
    version::{Version, VersionId},
};
use leveret_broker::{
    exchange::{Binding, Exchange, ExchangeId, Generation, TypeSpec},
    port::{Layer, Wake},
};
use leveret_model::{Name, Refusal, Table};
use std::{sync::Arc, time::Duration};

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

/// The refusal for someone who asked about an exchange.
pub(super) fn refusal(exchange: &Exchange, not_served: NotServed) -> Refusal {
    let (name, vhost) = (exchange.spec.name.clone(), exchange.vhost.clone());
    match not_served {
        NotServed::Refused(text) => Refusal::PluginRefused { exchange: name, vhost, text },
        NotServed::Failed(what) => Refusal::PluginFailed { exchange: name, vhost, what },
        NotServed::Pending => {
            Refusal::PluginFailed { exchange: name, vhost, what: String::from("it is not ready yet") }
        }
    }
}

/// The refusal of messages of an exchange that nobody was asked about.
pub(super) fn unavailable(exchange: &Exchange, not_served: NotServed) -> Refusal {
    match refusal(exchange, not_served) {
        Refusal::PluginFailed { exchange, vhost, what } => {
            Refusal::PluginUnavailable { exchange, vhost, why: what }
        }
        refusal => refusal,
    }
}

/// The replicas of one worker.
pub(crate) struct Homes {
    homes: Recent<Place, Home>,
    mailbox: Arc<Mailbox>,
    builder: Arc<Builder>,
    slot: CallSlot,
    services: Arc<Services>,
    /// Others wait for the thread: what takes long and can be waited for is made elsewhere.
    hurried: bool,
    /// Homes that are borrowed.
    borrowed: Vec<Place>,
    /// Homes made here though there is to be one for all threads, while what is asked disturbs nobody.
    apart: Option<Vec<Place>>,
}

impl Homes {
    pub(crate) fn new(
        mailbox: Arc<Mailbox>,
        builder: Arc<Builder>,
        (slot, hurried): (CallSlot, bool),
        services: Arc<Services>,
    ) -> Self {
        Self {
            homes: Recent::default(),
            mailbox,
            builder,
            slot,
            services,
            hurried,
            borrowed: Vec::new(),
            apart: None,
        }
    }

    /// The replica that knows this exchange's current generation. With a waker, a replica that
    /// takes long to build is built elsewhere, and the waker is called; without one the caller
    /// waits.
    pub(crate) fn served(
        &mut self,
        version: &Arc<Version>,
        exchange: &Arc<Exchange>,
        layer: Layer,
        waker: Option<&Arc<dyn Wake>>,
    ) -> Result<&mut Replica, NotServed> {
        let place = PlaceRef::of(version, &exchange.vhost);
        self.enter(version, &exchange.vhost, waker)?;
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
        let hurried = self.hurried && waker.is_some() && !version.code.builtin;
        if let Some(waker) = waker
            && home.must_wait(version, (exchange, layer, hurried), waker, &self.builder, &self.slot)
        {
            return Err(NotServed::Pending);
        }
        match home.serve(version, (exchange, layer, hurried), &self.services, &self.slot) {
            Err(NotServed::Pending) => {
                // It was cut off: from now on it is asked elsewhere.
                waker.into_iter().for_each(|waker| waker.wake());
                Err(NotServed::Pending)
            }
            served => served,
        }
    }

    /// Sees to it that there is a home for a version and a virtual host: made, or borrowed where there is
    /// one for all threads.
    fn enter(
        &mut self,
        version: &Version,
        vhost: &Name,
        waker: Option<&Arc<dyn Wake>>,
    ) -> Result<(), NotServed> {
        let place = PlaceRef::of(version, vhost);
        if self.homes.contains_key(&place) {
            return Ok(());
        }
        let mut home = None;
        if version.single_writer
            && let Some(apart) = &mut self.apart
        {
            apart.push(Place::from(&place));
        } else if version.single_writer {
            home = match self.services.berths.borrow(&place, waker) {
                Ok(home) => home,
                Err(Away) if waker.is_some() => return Err(NotServed::Pending),
                Err(Away) => {
                    let text = "its only instance was not given back in time";
                    return Err(NotServed::Failed(String::from(text)));
                }
            };
            self.borrowed.push(Place::from(&place));
            if let Some(replica) = home.as_mut().and_then(|home| home.replica.as_mut()) {
                replica.move_to(self.slot.clone());
            }
        }
        let place = Place::from(&place);
        let account = || self.services.accounts.of_instance(version, vhost);
        let home = home.filter(|home| home.account.is_some());
        let mut home = home.unwrap_or_else(|| Home::of(place.clone(), account()));
        home.only_told = self.apart.is_some();
        self.homes.insert(place, home);
        Ok(())
    }

    /// Brings back what is borrowed. To be called before a worker does anything else.
    #[inline]
    pub(crate) fn give_back(&mut self) {
        if !self.borrowed.is_empty() {
            self.bring_back();
        }
    }

    fn bring_back(&mut self) {
        for place in std::mem::take(&mut self.borrowed) {
            let home = self.homes.remove(&place).unwrap_or_default();
            self.services.berths.bring_back(&place, home);
        }
    }

    /// Does something that disturbs nobody: what there is one of for all threads is made once more for it, and
    /// whether calls fail is not noted.
    pub(crate) fn begin_apart(&mut self) {
        self.apart = Some(Vec::new());
        self.homes.values_mut().for_each(|home| home.only_told = true);
    }

    /// The end of that.
    pub(crate) fn end_apart(&mut self) {
        for place in self.apart.take().unwrap_or_default() {
            self.homes.remove(&place);
        }
        self.homes.values_mut().for_each(|home| home.only_told = false);
    }

    /// The account of a plugin in a virtual host.
    pub(crate) fn account_of(&self, version: &Version, vhost: &Name) -> Arc<Account> {
        self.services.accounts.of_instance(version, vhost)
    }

    /// The pace of a plugin in a virtual host.
    pub(crate) fn pace_of(&self, version: &Version, vhost: &Name) -> Arc<Pace> {
        self.account_of(version, vhost).pace().clone()
    }

    /// Whether a replica knows a type of this exchange at that generation.
    pub(crate) fn know(
        &self,
        version: &Version,
        exchange: &Exchange,
        layer: Layer,
        generation: Generation,
    ) -> bool {
        let home = self.homes.get(&PlaceRef::of(version, &exchange.vhost));
        home.is_some_and(|home| home.knows(exchange.id, layer, generation))
    }

    /// The home whose replica knows this exchange at that generation. Where there is none, one that
    /// knows the current generation is made, which the caller finds out by [`Home::knows`].
    pub(crate) fn at(
        &mut self,
        version: &Arc<Version>,
        exchange: &Arc<Exchange>,
        layer: Layer,
        generation: Generation,
    ) -> Result<&mut Home, NotServed> {
        if !self.know(version, exchange, layer, generation) {
            self.served(version, exchange, layer, None)?;
        }
        self.there(version, &exchange.vhost)
    }

    /// The home of a version in a virtual host, where there is one.
    #[inline]
    pub(crate) fn there(&mut self, version: &Version, vhost: &Name) -> Result<&mut Home, NotServed> {
        self.homes.get_mut(&PlaceRef::of(version, vhost)).ok_or(NotServed::Pending)
    }

    /// Asks whether the plugin takes a binding.
    pub(crate) fn bind(
        &mut self,
        version: &Arc<Version>,
        exchange: &Arc<Exchange>,
        layer: Layer,
        candidate: &Binding,
    ) -> Result<(), NotServed> {
        let replica = self.served(version, exchange, layer, None)?;
        let answer = replica.bind_candidate(exchange, layer, candidate);
        match self.homes.get_mut(&PlaceRef::of(version, &exchange.vhost)) {
            Some(home) => home.answered(version, answer),
            None => Ok(()),
        }
    }

    /// Opens a new exchange with one of its types. Gives the type that is to be opened behind it.
    pub(crate) fn open(
        &mut self,
        version: &Arc<Version>,
        exchange: &Arc<Exchange>,
        layer: Layer,
        spec: &TypeSpec,
    ) -> Result<Option<(Name, Table)>, NotServed> {
        let (services, slot) = (self.services.clone(), self.slot.clone());
        let home = self.home(version, &exchange.vhost, None)?;
        let replica = home.replica(version, &exchange.vhost, &services, &slot)?;
        let answer = replica.open(exchange, layer, spec);
        home.answered(version, answer)
    }

    /// Tells the replica that knows this exchange's current generation of something.
    pub(crate) fn event<R>(
        &mut self,
        version: &Arc<Version>,
        about: About<'_>,
        waker: Option<&Arc<dyn Wake>>,
        call: impl FnOnce(&mut Replica) -> Result<R, GuestFailure>,
    ) -> Result<R, NotServed> {
        let replica = self.served(version, about.exchange, about.layer, waker)?;
        let answer = call(replica);
        match self.homes.get_mut(&PlaceRef::of(version, &about.exchange.vhost)) {
            Some(home) => home.answered(version, answer.map_err(Refused::Failed)),
            None => Err(NotServed::Pending),
        }
    }

    /// Has the replica that knows this exchange's current generation show something. A failure costs
    /// the replica and is noted; the plugin is not set aside for it.
    pub(crate) fn inspect<R>(
        &mut self,
        version: &Arc<Version>,
        about: About<'_>,
        look: impl FnOnce(&mut Replica) -> Result<R, GuestFailure>,
    ) -> Result<R, NotServed> {
        let shown = look(self.served(version, about.exchange, about.layer, None)?);
        shown.map_err(|failure| {
            let what = failure.to_string();
            if let Some(home) = self.homes.get_mut(&PlaceRef::of(version, &about.exchange.vhost)) {
                home.replica = None;
                if let Some(account) = &home.account {
                    account.count_failure(Some(&failure), &what, None);
                }
            }
            NotServed::Failed(what)
        })
    }

    /// A fresh instance that only tries something out.
    pub(crate) fn to_try(&self, version: &Arc<Version>, vhost: &Name) -> Result<Replica, GuestFailure> {
        Replica::start(version, vhost, &self.services, self.slot.clone()).map(Replica::only_try)
    }

    /// The home whose replica has this attachment. With a waker a replica is made elsewhere, and the waker is
    /// called; without one the caller waits.
    pub(crate) fn attached(
        &mut self,
        version: &Arc<Version>,
        attachment: &Attachment,
        waker: Option<&Arc<dyn Wake>>,
    ) -> Result<&mut Home, NotServed> {
        let (services, slot) = (self.services.clone(), self.slot.clone());
        let vhost = &attachment.vhost;
        let waker = waker.filter(|_| self.hurried && !version.code.builtin);
        self.home(version, vhost, waker)?;
        let place = PlaceRef::of(version, vhost);
        let home = self.homes.get_mut(&place).ok_or(NotServed::Pending)?;
        if let Some(finished) = home.construction.as_ref().and_then(|construction| construction.take()) {
            home.adopt(finished, version, &slot);
        }
        if home.replica.is_none()
            && let Some(mut replica) = self.mailbox.take(&place)
        {
            replica.move_to(slot.clone());
            home.replica = Some(replica);
        }
        if let Some(waker) = waker
            && home.replica.is_none()
            && home.failures.set_aside().is_none()
        {
            home.construct(version, vhost, Vec::new(), waker, &self.builder, &slot);
            return Err(NotServed::Pending);
        }
        let replica = home.replica(version, vhost, &services, &slot)?;
        replica.hurry(waker.map(|_| services.accounts.inline_times().call_max));
        if let Err(refused) = replica.attach(attachment) {
            let refused = home.refused(version, refused);
            if let (NotServed::Pending, Some(waker)) = (&refused, waker) {
                waker.wake();
            }
            return Err(refused);
        }
        Ok(home)
    }

    /// The home of a version for a vhost, unless the plugin is set aside.
    fn home(
        &mut self,
        version: &Version,
        vhost: &Name,
        waker: Option<&Arc<dyn Wake>>,
    ) -> Result<&mut Home, NotServed> {
        let place = PlaceRef::of(version, vhost);
        self.enter(version, vhost, waker)?;
        let home = self.homes.get_mut(&place).ok_or(NotServed::Pending)?;
        match home.failures.set_aside() {
            Some(why) => Err(NotServed::Failed(why)),
            None => Ok(home),
        }
    }

    /// A call of the replica of that exchange failed: the replica is lost.
    pub(crate) fn failed(&mut self, version: &Version, exchange: &Exchange, failure: &GuestFailure) {
        if let Some(home) = self.homes.get_mut(&PlaceRef::of(version, &exchange.vhost)) {
            home.failed(version, Some(failure), failure.to_string(), Duration::ZERO);
        }
    }

    /// After how much CPU time a call is cut off, if others wait for the thread.
    fn call_max(&self) -> Option<Duration> {
        self.hurried.then(|| self.services.accounts.inline_times().call_max)
    }

    /// The exchange is gone.
    pub(crate) fn close(&mut self, id: ExchangeId) {
        let within = self.call_max();
        for home in self.homes.values_mut() {
            home.tidy(within, |replica| replica.close(id));
        }
        self.tidy_free(|replica| replica.close(id));
    }

    /// Has each instance that there is one of do something, unless it is busy. Where others wait for the thread
    /// that is left to those who have time.
    fn tidy_free(&mut self, call: impl Fn(&mut Replica) -> Result<(), GuestFailure>) {
        if self.hurried {
            return;
        }
        for place in self.services.berths.free() {
            if let Some(mut home) = self.services.berths.borrow_now(&place) {
                if let Some(replica) = &mut home.replica {
                    replica.move_to(self.slot.clone());
                }
                home.tidy(None, &call);
                self.services.berths.bring_back(&place, home);
            }
        }
    }

    /// Lets go of exchanges that are gone, and of versions that serve no more.
    pub(crate) fn sweep(&mut self, serves: impl Fn(VersionId) -> bool) {
        self.keep(&serves);
        let within = self.call_max();
        for home in self.homes.values_mut() {
            home.tidy(within, Replica::sweep);
        }
        self.services.berths.sweep(serves);
        self.tidy_free(Replica::sweep);
    }

    /// Lets go of versions that serve no more.
    pub(crate) fn keep(&mut self, serves: impl Fn(VersionId) -> bool) {
        self.homes.retain(|place, _| serves(place.version));
    }

    /// The version serves this exchange no more: it lets go of the exchange if it serves others of the
    /// virtual host, else of all that it has for this virtual host.
    pub(crate) fn leave(&mut self, version: &Version, exchange: &Exchange, serves_others: bool) {
        let (place, within) = (PlaceRef::of(version, &exchange.vhost), self.call_max());
        if !serves_others {
            self.homes.remove(&place);
        } else if let Some(home) = self.homes.get_mut(&place) {
            home.tidy(within, |replica| replica.close(exchange.id));
        }
    }

    /// What is set aside stays so while a test lasts.
    #[cfg(test)]
    pub(crate) fn stay_aside(&mut self) {
        self.homes.values_mut().for_each(|home| home.failures.stay_aside());
    }

    /// Drops what a virtual host has of a version.
    pub(crate) fn discard_in(&mut self, version: VersionId, vhost: &Name) {
        self.homes.retain(|place, _| place.version != version || place.vhost != *vhost);
    }

    /// Drops everything of a version that was replaced.
    pub(crate) fn discard(&mut self, version: VersionId) {
        self.homes.retain(|place, _| place.version != version);
    }
}
