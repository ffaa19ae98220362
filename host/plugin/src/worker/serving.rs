//! Which version serves an exchange, and that this worker's instance of it knows what the exchange is now.

use super::{
    REFUSED_FOR,
    asking::{Again, Batch, Guest},
    homes::NotServed,
    unavailable,
};
use crate::{
    registry::{Lookup, Registry},
    version::Version,
};
use leveret_broker::exchange::Exchange;
use leveret_model::{Name, Refusal};
use std::{rc::Rc, sync::Arc, time::Instant};

/// The version that serves a type of an exchange.
pub(super) fn version_of(
    registry: &Registry,
    exchange: &Exchange,
    type_name: &Name,
) -> Result<Arc<Version>, Refusal> {
    let lookup = registry.lookup_for(exchange, type_name);
    serving(lookup, &exchange.vhost, type_name, &exchange.spec.name)
}

/// The version that was found to serve a type in a virtual host; `exchange` is for the refusal.
pub(super) fn serving(
    lookup: Lookup,
    vhost: &Name,
    type_name: &Name,
    exchange: &Name,
) -> Result<Arc<Version>, Refusal> {
    let (vhost, type_name) = (vhost.clone(), type_name.clone());
    match lookup {
        Lookup::Serving(version) => Ok(version),
        Lookup::Parked(why) => {
            let (exchange, why) = (exchange.clone(), String::from(&*why));
            Err(Refusal::Parked { exchange, vhost, type_name, why })
        }
        Lookup::NotAllowed(plugin) => Err(Refusal::ExchangeTypeNotAllowed { type_name, vhost, plugin }),
        Lookup::Unknown => Err(Refusal::UnknownExchangeType { type_name }),
    }
}

impl Batch<'_> {
    /// Brings this worker's instance, and what is kept of the exchange, to its current generation.
    pub(super) fn stand_ready(&mut self) -> Result<Guest, Again> {
        // The generation is read before the version: a swap publishes in the other order.
        let generation = self.exchange.generation();
        self.seen_ready = false;
        if let Some(version) = &self.entry.version
            && self.entry.generation == generation
        {
            if self.is_handed_over(version) {
                return Ok(Guest::Ready(version.clone()));
            }
            if self.homes.know(version, self.exchange, self.layer, generation) {
                self.seen_ready = true;
                return Ok(Guest::Ready(version.clone()));
            }
        }
        if self.entry.version.is_none()
            && self.registry.waits_for_plugin(&self.exchange.vhost, &self.entry.type_name, self.waker)
        {
            return Err(Again);
        }
        let version = match self.version() {
            Ok(version) => version,
            Err(refusal) => {
                self.leave();
                return Ok(Guest::Failed(Box::new(refusal)));
            }
        };
        self.count_for(&version);
        let entry = &mut *self.entry;
        // Nothing stands in for a version on trial: the one that serves is asked.
        entry.policy = entry.on_trial.is_none().then(|| version.policy(&self.exchange.vhost));
        entry.falls_back(self.layer);
        self.leave_other_than(&version);
        self.look_beside(&version);
        let entry = &mut *self.entry;
        if let Some((text, until)) = &entry.refused {
            if Instant::now() < *until {
                let refused = NotServed::Refused(text.clone());
                return Ok(Guest::Failed(Box::new(unavailable(self.exchange, refused))));
            }
            entry.refused = None;
        }
        if self.is_slow(&version) {
            // It has no instance here: the lane's is brought to the exchange's state.
            self.entry.assume(&version, self.exchange, generation);
            return Ok(Guest::Ready(Rc::new(version)));
        }
        let entry = &mut *self.entry;
        let kept_up = match self.homes.served(&version, self.exchange, self.layer, Some(self.waker)) {
            Ok(replica) => entry.keep_up(&version, self.exchange, replica),
            Err(NotServed::Pending) => return Err(Again),
            Err(not_served) => {
                if let NotServed::Refused(text) = &not_served {
                    entry.tell_refused(&version, self.exchange, text);
                    entry.refused = Some((text.clone(), Instant::now() + REFUSED_FOR));
                }
                return Ok(Guest::Failed(Box::new(unavailable(self.exchange, not_served))));
            }
        };
        self.counters.asked_again += self.entry.memo.take_asked_again();
        if let Err(failure) = kept_up {
            self.homes.failed(&version, self.exchange, &failure);
        }
        if self.entry.generation != generation && !self.still_serves(&version) {
            // The later generation may be that of a swap: another version's. So what was noted of it holds for
            // no version, and is not found when it is looked for again.
            self.entry.is_of_no_version(generation);
            return self.stand_ready();
        }
        Ok(Guest::Ready(Rc::new(version)))
    }

    /// No version serves it. What does not serve keeps no memory.
    fn leave(&mut self) {
        (self.entry.policy, self.entry.beside) = (None, None);
        let (vhost, type_name) = (&self.exchange.vhost, &self.entry.type_name);
        self.entry.falls_back_to(&self.registry.on_failure(vhost, type_name), self.layer);
        if let Some(old) = self.entry.version.take() {
            self.homes.leave(&old, self.exchange, false);
        }
    }

    /// Another version may have served it until now. Other exchanges may still be that one's.
    fn leave_other_than(&mut self, version: &Version) {
        let Some(old) = self.entry.version.take_if(|old| old.id != version.id) else { return };
        let (vhost, type_name) = (&self.exchange.vhost, &self.entry.type_name);
        if self.registry.serves(old.id) {
            let others = self.registry.still_serves(old.id, vhost, type_name);
            self.homes.leave(&old, self.exchange, others);
        } else {
            self.homes.discard(old.id);
        }
        self.entry.refused = None;
    }

    /// From now on the exchange's messages are counted for that plugin.
    fn count_for(&mut self, version: &Version) {
        if version.on_trial && self.entry.version.is_none() {
            self.entry.memo.charge_to(self.accounts.of_instance(version, &self.exchange.vhost).remembered());
        }
        if self.entry.version.as_ref().is_some_and(|known| known.id == version.id) || version.on_trial {
            return;
        }
        let vhost = &self.exchange.vhost;
        let tally = self.tallies.entry((version.id, vhost.clone()));
        let account = self.accounts.of(&version.scope, vhost, &version.code.plugin);
        self.entry.tally = Some(tally.or_insert_with(|| account.tally()).clone());
        self.entry.pace = Some(account.pace().clone());
        self.entry.memo.charge_to(account.remembered());
        self.entry.account = Some(account);
    }

    fn still_serves(&self, version: &Version) -> bool {
        self.version().is_ok_and(|serving| serving.id == version.id && self.beside_is_current(&serving))
    }

    /// The version that answers.
    fn version(&self) -> Result<Arc<Version>, Refusal> {
        let serving = version_of(self.registry, self.exchange, &self.entry.type_name)?;
        Ok(match &self.entry.on_trial {
            Some(candidate) => candidate.version.clone(),
            None => serving,
        })
    }
}
