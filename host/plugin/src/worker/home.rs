//! The replica of a plugin for a virtual host: started, caught up, lost, made elsewhere.

use super::{failures::Failures, homes::NotServed};
use crate::{
    account::Account,
    builder::{Builder, Construction, Place},
    engine::CallSlot,
    guest::{GuestFailure, Refused, thread_cpu_time},
    replica::Replica,
    services::Services,
    version::Version,
};
use leveret_broker::{
    exchange::{Exchange, ExchangeId, Generation},
    port::{Layer, Wake},
};
use leveret_model::Name;
use std::{sync::Arc, time::Duration};

/// A replica that has more bindings than this to be told is built by a thread of its own where
/// the asker can wait.
pub const INLINE_REPLAY_BINDINGS_MAX: usize = 2_000;
/// The same for a replica of a plugin that did not come with the broker, where others wait for the thread.
const HURRIED_REPLAY_BINDINGS_MAX: usize = 256;

/// The replica of one plugin for one vhost, or what became of it.
#[derive(Default)]
pub(crate) struct Home {
    /// Whose exchanges it serves; of a built-in type all of them.
    vhost: Name,
    pub(super) replica: Option<Replica>,
    pub(super) construction: Option<Arc<Construction>>,
    pub(super) failures: Failures,
    pub(super) account: Option<Arc<Account>>,
    /// A replica was lost: the next one is made away from the worker, where the asker can wait.
    pub(super) lost: bool,
    pub(super) calls: u64,
    /// It is only asked to be told what it says: how that ends is noted nowhere.
    pub(super) only_told: bool,
}

impl Home {
    pub(super) fn of(place: Place, account: Arc<Account>) -> Self {
        Self { vhost: place.vhost, account: Some(account), ..Self::default() }
    }

    /// Whether the replica knows a type of an exchange at that very generation.
    #[inline]
    pub(crate) fn knows(&self, exchange: ExchangeId, layer: Layer, generation: Generation) -> bool {
        self.replica.as_ref().is_some_and(|replica| replica.is_at(exchange, layer, generation))
    }

    /// How many messages [`Self::route`] takes at most.
    pub(crate) fn messages_per_call_max(&self) -> usize {
        self.replica.as_ref().map_or(1, Replica::messages_per_call_max)
    }

    /// For how long it is set aside, and why.
    pub(crate) fn set_aside(&self) -> Option<(Duration, String)> {
        Some((self.failures.left()?, self.failures.set_aside()?))
    }

    /// The replica, if there is one.
    pub(crate) fn replica_there(&self) -> Option<&Replica> {
        self.replica.as_ref()
    }

    /// Takes the replica of a construction that is finished.
    pub(super) fn adopt(&mut self, finished: Result<Replica, String>, version: &Version, slot: &CallSlot) {
        self.construction = None;
        match finished {
            Ok(mut replica) => {
                replica.move_to(slot.clone());
                self.replica = Some(replica);
            }
            Err(what) => self.failed(version, None, what, Duration::ZERO),
        }
    }

    /// Whether serving the exchange takes a construction, which is begun if there is none yet.
    pub(super) fn must_wait(
        &mut self,
        version: &Arc<Version>,
        (exchange, layer, hurried): (&Arc<Exchange>, Layer, bool),
        waker: &Arc<dyn Wake>,
        builder: &Builder,
        slot: &CallSlot,
    ) -> bool {
        let backlog =
            self.replica.as_ref().map_or_else(|| exchange.binding_count(), |r| r.backlog(exchange, layer));
        let lost = (self.lost || hurried) && self.replica.is_none();
        let inline_max = if hurried { HURRIED_REPLAY_BINDINGS_MAX } else { INLINE_REPLAY_BINDINGS_MAX };
        if (backlog <= inline_max && !lost) || self.failures.set_aside().is_some() {
            return false;
        }
        let known = self.replica.iter().flat_map(Replica::exchanges);
        let others = known.filter(|(e, l)| e.id != exchange.id || *l != layer);
        let exchanges = others.chain([(exchange.clone(), layer)]).collect();
        self.construct(version, &exchange.vhost, exchanges, waker, builder, slot);
        true
    }

    /// Has a replica made elsewhere that serves these exchanges, if none is being made; the waker is called
    /// when it is there.
    pub(super) fn construct(
        &mut self,
        version: &Arc<Version>,
        vhost: &Name,
        exchanges: Vec<(Arc<Exchange>, Layer)>,
        waker: &Arc<dyn Wake>,
        builder: &Builder,
        slot: &CallSlot,
    ) {
        let begin = || builder.begin(version.clone(), vhost.clone(), exchanges);
        let construction = self.construction.get_or_insert_with(begin).clone();
        if let Some(finished) = construction.poll(waker) {
            self.adopt(finished, version, slot);
            waker.wake();
        }
    }

    /// Brings the replica to the exchange's current generation. Where others wait, more than a turn of it counts
    /// for the plugin's pace, and it is cut off when it takes long.
    pub(super) fn serve(
        &mut self,
        version: &Arc<Version>,
        (exchange, layer, hurried): (&Arc<Exchange>, Layer, bool),
        services: &Arc<Services>,
        slot: &CallSlot,
    ) -> Result<&mut Replica, NotServed> {
        if let Some(why) = self.failures.set_aside() {
            return Err(NotServed::Failed(why));
        }
        let was_there = self.replica.is_some();
        let replica = self.replica(version, &exchange.vhost, services, slot)?;
        let is_behind = hurried && !replica.is_at(exchange.id, layer, exchange.generation());
        let began = is_behind.then(|| (replica.backlog(exchange, layer).max(1), thread_cpu_time()));
        replica.hurry(hurried.then(|| services.accounts.inline_times().call_max));
        let served = replica.serve(exchange, layer);
        if let (Some((told, began)), Some(account)) = (began, &self.account) {
            let took = thread_cpu_time().saturating_sub(began);
            if took > account.pace().times().turn {
                account.pace().took(told, took);
            }
        }
        if let Err(refused) = served {
            let failed = matches!(refused, Refused::Failed(_));
            let refused = self.refused(version, refused);
            // A fresh instance never hears of what this one failed at: a binding that is gone, a close.
            let is_cut_off = matches!(refused, NotServed::Pending);
            if !failed || !was_there || is_cut_off || self.failures.set_aside().is_some() {
                return Err(refused);
            }
            let served = self.replica(version, &exchange.vhost, services, slot)?.serve(exchange, layer);
            served.map_err(|refused| self.refused(version, refused))?;
        }
        self.replica.as_mut().ok_or(NotServed::Pending)
    }

    /// The replica, started if there is none.
    pub(super) fn replica(
        &mut self,
        version: &Arc<Version>,
        vhost: &Name,
        services: &Arc<Services>,
        slot: &CallSlot,
    ) -> Result<&mut Replica, NotServed> {
        if self.replica.is_none() {
            let began = thread_cpu_time();
            match Replica::start(version, vhost, services, slot.clone()) {
                Ok(replica) => self.replica = Some(replica),
                Err(failure) => {
                    let (what, took) = (failure.to_string(), thread_cpu_time().saturating_sub(began));
                    self.failed(version, Some(&failure), what.clone(), took);
                    return Err(NotServed::Failed(what));
                }
            }
        }
        let replica = self.replica.as_mut().ok_or(NotServed::Pending)?;
        replica.hurry(None);
        Ok(replica)
    }

    /// Notes how a call ended.
    pub(super) fn answered<R>(
        &mut self,
        version: &Version,
        answer: Result<R, Refused>,
    ) -> Result<R, NotServed> {
        match answer {
            Ok(answer) => {
                self.succeeded();
                Ok(answer)
            }
            Err(refused) => Err(self.refused(version, refused)),
        }
    }

    pub(super) fn succeeded(&mut self) {
        if !self.only_told {
            self.failures.succeeded();
        }
    }

    pub(super) fn refused(&mut self, version: &Version, refused: Refused) -> NotServed {
        match refused {
            Refused::ByPlugin(text) => NotServed::Refused(text),
            Refused::Failed(failure @ GuestFailure::CutOff(_)) => {
                self.failed(version, Some(&failure), failure.to_string(), Duration::ZERO);
                NotServed::Pending
            }
            Refused::Failed(failure) => {
                let what = failure.to_string();
                self.failed(version, Some(&failure), what.clone(), Duration::ZERO);
                NotServed::Failed(what)
            }
        }
    }

    pub(super) fn failed(
        &mut self,
        version: &Version,
        failure: Option<&GuestFailure>,
        what: String,
        took: Duration,
    ) {
        if let (Some(GuestFailure::CutOff(_)), Some(account)) = (failure, &self.account) {
            // It may take longer elsewhere, and did nothing wrong.
            account.pace().was_cut_off();
            (self.replica, self.lost) = (None, true);
            return;
        }
        // The instance saw by itself what its last call took.
        let took = self.replica.take().map_or(took, |replica| took.max(replica.cpu_used()));
        self.lost = true;
        if self.only_told {
            return;
        }
        let logged = self.failures.failed(what.clone(), took);
        // How a version fails that is tried beside another is told with that trial.
        if let Some(account) = self.account.as_ref().filter(|_| !version.on_trial) {
            account.count_failure(failure, &what, self.failures.left());
        }
        if let Some(count) = logged {
            let vhost = tracing::field::display(&self.vhost);
            tracing::warn!(
                target: "leveret::plugin",
                plugin = version.code.plugin, vhost, digest = %version.code.digest, failures = count,
                "the plugin failed: {what}"
            );
        }
    }

    /// Calls that nobody waits for the answer of: a replica that fails at them is dropped, and so is one that
    /// takes longer than it may where others wait.
    pub(super) fn tidy(
        &mut self,
        within: Option<Duration>,
        call: impl FnOnce(&mut Replica) -> Result<(), GuestFailure>,
    ) {
        let Some(replica) = &mut self.replica else { return };
        replica.hurry(within.filter(|_| !replica.version().code.builtin));
        if let Err(failure) = call(replica) {
            let version = replica.version().clone();
            self.failed(&version, Some(&failure), failure.to_string(), Duration::ZERO);
        }
    }
}
