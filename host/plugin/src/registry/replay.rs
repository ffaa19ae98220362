//! What is there, told to fresh instances of a version before it serves: so that it is known to take it, and
//! has it when it does.

use super::{LoadError, Registry, Stage};
use crate::{
    attachment,
    builder::Place,
    guest::{GuestFailure, Refused},
    replica::Replica,
    scope::Scope,
    version::Version,
};
use hashbrown::{HashMap, HashSet};
use leveret_broker::{
    exchange::{Exchange, ExchangeId},
    port::Layer,
};
use leveret_model::Name;
use std::sync::Arc;

/// Replicas of a version, by worker.
pub(super) type Replicas = Vec<Vec<(Place, Replica)>>;

/// Replicas of a new version, by worker, and what was replayed into each of them.
pub(super) struct Replayed {
    pub(super) replicas: Replicas,
    pub(super) took: HashSet<ExchangeId>,
    /// The types of exchanges that were replayed.
    pub(super) places: Vec<(Arc<Exchange>, Layer)>,
    pub(super) exchanges: usize,
    pub(super) bindings: usize,
}

/// Virtual hosts that do not take a candidate, and why.
pub(super) type LeftOut = Vec<(Name, String)>;

impl Registry {
    /// Replays all that a candidate would be asked about into fresh instances, a set for each worker: by virtual
    /// host, and those that do not take it are left out.
    ///
    /// # Errors
    /// Why none takes it that has anything to take.
    pub(super) fn rehearse(
        &self,
        version: &Arc<Version>,
        names: &[Name],
        workers: usize,
    ) -> Result<(Vec<Replayed>, LeftOut), LoadError> {
        let mut places: HashMap<Name, Vec<(Arc<Exchange>, Layer)>> = HashMap::new();
        for (exchange, layer) in self.to_replay(version, names) {
            places.entry(exchange.vhost.clone()).or_default().push((exchange, layer));
        }
        let attachments = {
            let slots = self.slots.read();
            let goes = |vhost: &Name| slots.hold_of(vhost, &version.code.plugin).is_none();
            self.attachments_for(&slots, version, goes)
        };
        for attachment in &attachments {
            places.entry(attachment.vhost.clone()).or_default();
        }
        let (mut replayed, mut left_out) = (Vec::new(), Vec::new());
        for (vhost, places) in places {
            let there: Vec<_> = attachments.iter().filter(|it| it.vhost == vhost).cloned().collect();
            match self.replay(version, &places, &there, workers) {
                Ok(done) => replayed.push(done),
                Err(why) => left_out.push((vhost, why)),
            }
        }
        left_out.sort();
        match left_out.first() {
            Some((_, why)) if replayed.is_empty() => Err(LoadError::at(Stage::Replay)(why.clone())),
            _ => Ok((replayed, left_out)),
        }
    }

    /// The exchanges that a candidate is to take. One virtual host's trouble is not another's: those of one
    /// that stayed on an older version are left out, and those that are parked for a reason of their virtual
    /// host alone if it does not take them. Those for which it is switched off are asked about when it is
    /// switched on.
    fn to_replay(&self, version: &Arc<Version>, names: &[Name]) -> Vec<(Arc<Exchange>, Layer)> {
        let mut places = Vec::new();
        for name in names {
            let groups: Vec<_> = {
                let slots = self.slots.read();
                let goes = |vhost: &Name| slots.hold_of(vhost, &version.code.plugin).is_none();
                slots.groups_for(version, name).into_iter().filter(|group| goes(&group.vhost)).collect()
            };
            for group in groups.into_iter().filter(|group| version.policy(&group.vhost).enabled) {
                let alone = version.scope == Scope::Global
                    && group.parked.as_ref().is_some_and(|parked| parked.alone);
                if !alone || self.replay(version, &group.places(), &[], 1).is_ok() {
                    places.extend(group.places());
                }
            }
        }
        places
    }

    /// Replays these types of exchanges, but for those that stay on a version of their own, and these
    /// attachments into fresh instances, a set for each worker.
    pub(super) fn replay(
        &self,
        version: &Arc<Version>,
        places: &[(Arc<Exchange>, Layer)],
        attachments: &[Arc<attachment::Attachment>],
        workers: usize,
    ) -> Result<Replayed, String> {
        let mut replayed = Replayed::nothing();
        self.replay_more(&mut replayed, version, places, attachments, workers)?;
        Ok(replayed)
    }

    /// Replays these too into what was replayed already, and tells it what changed since.
    pub(super) fn replay_more(
        &self,
        replayed: &mut Replayed,
        version: &Arc<Version>,
        places: &[(Arc<Exchange>, Layer)],
        attachments: &[Arc<attachment::Attachment>],
        workers: usize,
    ) -> Result<(), String> {
        let stays = |(exchange, layer): &&(Arc<Exchange>, Layer)| {
            let spec = exchange.types().get(usize::from(layer.0));
            spec.is_some_and(|spec| {
                self.pins.keep_from(exchange, &spec.type_name, version)
                    || self.awaits_other(exchange, &spec.type_name, version)
            })
        };
        let (staying, moving): (Vec<_>, Vec<_>) = places.iter().partition(stays);
        let moving: Vec<_> = moving.into_iter().cloned().collect();
        self.replay_into(replayed, version, &moving, attachments, workers)?;
        replayed.took.extend(staying.iter().map(|(exchange, _)| exchange.id));
        Ok(())
    }

    /// [`Self::replay`], also of those that stay.
    pub(super) fn replay_all(
        &self,
        version: &Arc<Version>,
        places: &[(Arc<Exchange>, Layer)],
        attachments: &[Arc<attachment::Attachment>],
        workers: usize,
    ) -> Result<Replayed, String> {
        let mut replayed = Replayed::nothing();
        self.replay_into(&mut replayed, version, places, attachments, workers)?;
        Ok(replayed)
    }

    fn replay_into(
        &self,
        replayed: &mut Replayed,
        version: &Arc<Version>,
        places: &[(Arc<Exchange>, Layer)],
        attachments: &[Arc<attachment::Attachment>],
        workers: usize,
    ) -> Result<(), String> {
        replayed.replicas.resize_with(workers, Vec::new);
        for replicas in &mut replayed.replicas {
            for (exchange, layer) in places {
                let _building = self.shares.build(&exchange.vhost);
                let replica = self.replica_in(replicas, version, &exchange.vhost)?;
                replica.serve(exchange, *layer).map_err(|refused| not_replayed(exchange, &refused))?;
            }
            for attachment in attachments {
                let _building = self.shares.build(&attachment.vhost);
                let replica = self.replica_in(replicas, version, &attachment.vhost)?;
                replica.attach(attachment).map_err(|refused| not_attached(attachment, &refused))?;
            }
        }
        let mut known: HashSet<(ExchangeId, Layer)> =
            replayed.places.iter().map(|(exchange, layer)| (exchange.id, *layer)).collect();
        for (exchange, layer) in places {
            if known.insert((exchange.id, *layer)) {
                replayed.places.push((exchange.clone(), *layer));
            }
            if replayed.took.insert(exchange.id) {
                replayed.exchanges += 1;
                replayed.bindings += exchange.binding_count();
            }
        }
        Ok(())
    }

    /// The replica for a virtual host among these, started if there is none.
    fn replica_in<'a>(
        &self,
        replicas: &'a mut Vec<(Place, Replica)>,
        version: &Arc<Version>,
        vhost: &Name,
    ) -> Result<&'a mut Replica, String> {
        let place = Place::of(version, vhost);
        let at = match replicas.iter().position(|(at, _)| *at == place) {
            Some(at) => at,
            None => {
                let slot = self.engines.ticker().slot();
                let started = Replica::start(version, vhost, &self.services, slot);
                replicas.push((place, started.map_err(|failure| not_started(vhost, &failure))?));
                replicas.len() - 1
            }
        };
        // It is there: it was found or put there.
        replicas.get_mut(at).map(|(_, replica)| replica).ok_or_else(|| String::from("it is gone"))
    }

    /// Hands replicas over, a set to each worker. Gives which exchanges they know.
    pub(super) fn hand_to_workers(
        &self,
        replayed: Replayed,
        wanted: impl Fn(&Place) -> bool,
    ) -> HashSet<ExchangeId> {
        for (mailbox, replicas) in self.mailboxes.iter().zip(replayed.replicas) {
            let wanted = replicas.into_iter().filter(|(place, _)| wanted(place));
            wanted.for_each(|(place, replica)| mailbox.put(place, replica));
        }
        replayed.took
    }
}

impl Replayed {
    pub(super) fn nothing() -> Self {
        Self { replicas: Vec::new(), took: HashSet::new(), places: Vec::new(), exchanges: 0, bindings: 0 }
    }
}

fn not_started(vhost: &Name, failure: &GuestFailure) -> String {
    format!("for vhost '{vhost}' it does not start: it {failure}")
}

fn not_attached(attachment: &attachment::Attachment, refused: &Refused) -> String {
    let (rule, vhost) = (&attachment.rule, &attachment.vhost);
    match refused {
        Refused::ByPlugin(text) => format!("the interceptor {rule} was refused: {text}"),
        Refused::Failed(failure) => {
            format!("the interceptor {rule} could not be attached in vhost '{vhost}': the plugin {failure}")
        }
    }
}

fn not_replayed(exchange: &Exchange, refused: &Refused) -> String {
    let what = match refused {
        Refused::ByPlugin(text) => format!("was refused: {text}"),
        Refused::Failed(failure) => format!("could not be replayed: the plugin {failure}"),
    };
    format!("exchange '{}' in vhost '{}' {what}", exchange.spec.name, exchange.vhost)
}
