//! A version on its way into the place of another, virtual host by virtual host.
//!
//! All that a version would serve in a virtual host is replayed into fresh instances first, its state is
//! migrated, and then, under the lock of the slots and for as long as that takes alone, it is looked whether
//! anything came that was not replayed: if so it is done once more, for that alone. The first virtual host
//! that is ready publishes the version; those of a global file that are not ready yet, or do not take it, stay
//! on what they had ([`super::holds`]). Those with fewest bindings go first, so nobody waits for a large one.

use super::{
    LoadError, Registry, Stage, StateChange,
    checks::{check_claims, check_count},
    holds::{HeldBack, Hold},
    migrate::{Handover, Way},
    reload::Files,
    replay::Replayed,
    slots::{Group, Parked, Provider, Slots},
};
use crate::{attachment::Attachment, scope::Scope, version::Version};
use hashbrown::HashSet;
use leveret_broker::{
    exchange::{Exchange, ExchangeId},
    port::Layer,
};
use leveret_model::Name;
use std::{path::Path, sync::Arc, time::Instant};

/// How often what came meanwhile is replayed before a version gives up.
const ROUNDS_MAX: usize = 8;

/// A version that takes the place of another.
pub(super) struct Moving<'a> {
    registry: &'a Registry,
    path: &'a Path,
    version: Arc<Version>,
    names: Vec<Name>,
    /// What served of the file, where nothing else is held.
    old: Option<Arc<Version>>,
    way: Way,
    published: bool,
    /// Virtual hosts that have been tried.
    tried: HashSet<Name>,
    /// Virtual hosts that are to be tried.
    waiting: Vec<Name>,
    refused: Vec<(Name, LoadError)>,
}

/// What has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) exchanges: usize,
    pub(super) bindings: usize,
    pub(super) state: StateChange,
}

/// What came of it: what has moved, and who stayed behind.
pub(super) struct Outcome {
    pub(super) moved: Moved,
    pub(super) held_back: Vec<(Name, LoadError)>,
}

/// What a version has to take in a virtual host.
#[derive(Default)]
struct Due {
    places: Vec<Place>,
    /// By type: exchanges that are parked for a reason of their virtual host alone. Those that a global
    /// version does not take stay parked.
    parked: Vec<(Name, Vec<Place>)>,
    attachments: Vec<Arc<Attachment>>,
}

type Place = (Arc<Exchange>, Layer);

/// What was replayed for a virtual host.
struct Part {
    vhost: Name,
    replayed: Replayed,
    known: HashSet<(ExchangeId, Layer)>,
    attached: HashSet<u64>,
    /// Types whose parked exchanges stay parked.
    left: HashSet<Name>,
}

impl Due {
    fn is_empty(&self) -> bool {
        self.places.is_empty() && self.parked.is_empty() && self.attachments.is_empty()
    }

    fn bindings(&self) -> usize {
        let parked = self.parked.iter().flat_map(|(_, places)| places);
        self.places.iter().chain(parked).map(|(exchange, _)| exchange.binding_count()).sum()
    }
}

impl Part {
    fn covers(&self, due: &Due) -> bool {
        let knows = |(exchange, layer): &Place| self.known.contains(&(exchange.id, *layer));
        due.places.iter().all(knows)
            && due.parked.iter().all(|(name, places)| self.left.contains(name) || places.iter().all(knows))
            && due.attachments.iter().all(|attachment| self.attached.contains(&attachment.id))
    }
}

impl<'a> Moving<'a> {
    /// A version in the place of what serves of a file.
    pub(super) fn new(
        registry: &'a Registry,
        path: &'a Path,
        version: Arc<Version>,
        names: Vec<Name>,
        old: Option<Arc<Version>>,
        way: Way,
    ) -> Self {
        Self {
            registry,
            path,
            version,
            names,
            old,
            way,
            published: false,
            tried: HashSet::new(),
            waiting: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// A version that serves, for virtual hosts that stayed behind.
    pub(super) fn again(registry: &'a Registry, path: &'a Path, version: Arc<Version>) -> Self {
        let names = version.type_names().collect();
        let published = true;
        Self { published, ..Self::new(registry, path, version, names, None, Way::Forward) }
    }

    /// Moves every virtual host that goes.
    ///
    /// # Errors
    /// Why none does that has anything to move; nothing has changed then.
    pub(super) fn run(mut self) -> Result<Outcome, LoadError> {
        let mut sum = Moved::default();
        self.waiting = self.vhosts_due();
        loop {
            while let Some(vhost) = self.waiting.pop() {
                match self.try_in(&vhost) {
                    Ok(moved) => sum.add(moved),
                    Err(error) if self.version.scope != Scope::Global => return Err(error),
                    Err(error) => self.refused.push((vhost, error)),
                }
            }
            if self.published {
                break;
            }
            // Better code of the version that serves is no reason to go back to the older.
            let same = self.old.as_ref().is_some_and(|old| old.code.digest == self.version.code.digest);
            if let Some((_, error)) = self.refused.first().filter(|_| !same) {
                return Err(error.clone());
            }
            self.publish_for_nobody()?;
        }
        self.registry.discard_unused(self.old.as_deref());
        Ok(Outcome { moved: sum, held_back: self.refused })
    }

    /// Moves a virtual host that stayed behind.
    ///
    /// # Errors
    /// Why it does not go; it stays where it is.
    pub(super) fn retry(mut self, vhost: &Name) -> Result<Moved, LoadError> {
        let from =
            self.registry.slots.read().hold_of(vhost, self.plugin()).and_then(|hold| hold.instead.clone());
        let moved = self.try_in(vhost);
        self.registry.discard_unused(from.as_deref());
        moved
    }

    fn plugin(&self) -> &str {
        &self.version.code.plugin
    }

    /// The virtual hosts that have anything to take, those with fewest bindings last.
    fn vhosts_due(&self) -> Vec<Name> {
        let slots = self.registry.slots.read();
        let mut due: Vec<(usize, Name)> = self
            .vhosts(&slots)
            .into_iter()
            .filter_map(|vhost| match self.due_in(&slots, &vhost) {
                Ok(due) if due.is_empty() => None,
                Ok(due) => Some((due.bindings(), vhost)),
                Err(_) => Some((0, vhost)),
            })
            .collect();
        due.sort_by(|a, b| b.cmp(a));
        due.into_iter().map(|(_, vhost)| vhost).collect()
    }

    /// The virtual hosts that it may have to do with.
    fn vhosts(&self, slots: &Slots) -> HashSet<Name> {
        match &self.version.scope {
            Scope::Vhost(own) => [own.clone()].into(),
            Scope::Global | Scope::Shipped => {
                slots.vhosts().cloned().chain(self.registry.attached_vhosts()).collect()
            }
        }
    }

    /// What it has to take in a virtual host. One virtual host's trouble is not another's: exchanges that are
    /// parked for a reason of their virtual host alone hold nothing up, and those for which it is switched off
    /// are asked about when it is switched on.
    fn due_in(&self, slots: &Slots, vhost: &Name) -> Result<Due, LoadError> {
        let (registry, version) = (self.registry, &self.version);
        let served = slots.groups_of_in(&registry.policies, version, vhost);
        if let Some(group) = served.iter().find(|group| !self.names.contains(&group.type_name)) {
            return Err(LoadError::at(Stage::Swap)(group.dropped()));
        }
        if let Some(what) = registry.attachment_dropped(slots, version, vhost) {
            return Err(LoadError::at(Stage::Swap)(what));
        }
        let mut due = Due::default();
        if !version.policy(vhost).enabled {
            return Ok(due);
        }
        for group in self.names.iter().filter_map(|name| slots.group_for(version, vhost, name)) {
            if self.is_denied(slots, &group) {
                continue;
            }
            let alone =
                version.scope == Scope::Global && group.parked.as_ref().is_some_and(|parked| parked.alone);
            match alone {
                true => due.parked.push((group.type_name.clone(), group.places())),
                false => due.places.extend(group.places()),
            }
        }
        due.attachments = registry.attachments_for(slots, version, |there| there == vhost);
        Ok(due)
    }

    /// Whether a version is not granted what it needs for exchanges that nobody serves: it is not asked about them then.
    fn is_denied(&self, slots: &Slots, group: &Group) -> bool {
        let Group { vhost, type_name, parked, .. } = group;
        let is_served = || match slots.provider(&self.registry.policies, vhost, type_name, None) {
            Provider::Version(now) => now.not_granted(vhost).is_none(),
            Provider::NotAllowed(_) | Provider::Nobody => false,
        };
        let from_before = parked.as_ref().is_some_and(|parked| parked.from_before);
        self.version.not_granted(vhost).is_some() && (from_before || (parked.is_none() && !is_served()))
    }

    /// What a virtual host has of the plugin now.
    fn from(&self, slots: &Slots, vhost: &Name) -> Option<Arc<Version>> {
        match slots.hold_of(vhost, self.plugin()) {
            Some(hold) if self.version.scope == Scope::Global => hold.instead.clone(),
            _ => self.old.clone(),
        }
    }

    /// Moves a virtual host. Where it does not go it is noted why, if the version is published.
    fn try_in(&mut self, vhost: &Name) -> Result<Moved, LoadError> {
        self.tried.insert(vhost.clone());
        let (began, seen) = (Instant::now(), self.registry.slots.read().state_of(vhost));
        let moved = self.move_in(vhost);
        if let Err(error) = &moved
            && self.version.scope == Scope::Global
            && self.published
        {
            self.hold_back(&mut self.registry.slots.write(), vhost, error, seen, began);
        }
        moved
    }

    fn move_in(&mut self, vhost: &Name) -> Result<Moved, LoadError> {
        let mut part = Part {
            vhost: vhost.clone(),
            replayed: Replayed::nothing(),
            known: HashSet::new(),
            attached: HashSet::new(),
            left: HashSet::new(),
        };
        for _ in 0..ROUNDS_MAX {
            let (due, from) = {
                let slots = self.registry.slots.read();
                (self.due_in(&slots, vhost)?, self.from(&slots, vhost))
            };
            self.rehearse(&mut part, &due).map_err(LoadError::at(Stage::Replay))?;
            let handover =
                self.registry.prepare_state(&self.version, from.as_deref(), &mut part.replayed, self.way)?;
            if let Some(moved) = self.commit(&mut part, from.as_deref(), handover)? {
                return Ok(moved);
            }
        }
        Err(LoadError::at(Stage::Swap)(format!(
            "in vhost '{vhost}' exchanges are declared faster than they are replayed; it was tried {ROUNDS_MAX} times"
        )))
    }

    /// Replays what is due and not known yet, and tells the rest of what changed.
    fn rehearse(&self, part: &mut Part, due: &Due) -> Result<(), String> {
        let (registry, version) = (self.registry, &self.version);
        let mut places = due.places.clone();
        for (name, parked) in &due.parked {
            let known = parked.iter().all(|(exchange, layer)| part.known.contains(&(exchange.id, *layer)));
            if known || (!part.left.contains(name) && registry.replay(version, parked, &[], 1).is_ok()) {
                places.extend(parked.iter().cloned());
            } else {
                part.left.insert(name.clone());
            }
        }
        let new = |attachment: &&Arc<Attachment>| !part.attached.contains(&attachment.id);
        let attachments: Vec<_> = due.attachments.iter().filter(new).cloned().collect();
        let workers = registry.mailboxes.len().max(1);
        registry.replay_more(&mut part.replayed, version, &places, &attachments, workers)?;
        part.known.extend(places.iter().map(|(exchange, layer)| (exchange.id, *layer)));
        part.attached.extend(attachments.iter().map(|attachment| attachment.id));
        Ok(())
    }

    /// Puts the version into the virtual host's slots if nothing has come that was not replayed, and tells its
    /// exchanges.
    fn commit(
        &mut self,
        part: &mut Part,
        from: Option<&Version>,
        handover: Handover,
    ) -> Result<Option<Moved>, LoadError> {
        let registry = self.registry;
        let mut files = registry.files.lock();
        if !self.published {
            self.check(&files)?;
        }
        let mut slots = registry.slots.write();
        if !part.covers(&self.due_in(&slots, &part.vhost)?) {
            return Ok(None);
        }
        registry.hand_over_state(&handover, from, &self.version, &part.replayed.places)?;
        let replayed = std::mem::replace(&mut part.replayed, Replayed::nothing());
        let moved =
            Moved { exchanges: replayed.exchanges, bindings: replayed.bindings, state: handover.told };
        let took = registry.hand_to_workers(replayed, |_| true);
        let mut changed = Vec::new();
        if !self.published {
            changed = self.publish(&mut files, &mut slots, Some(&part.vhost));
        }
        slots.release(&part.vhost, self.plugin());
        for name in &self.names {
            let Some(group) = slots.group_for(&self.version, &part.vhost, name) else { continue };
            if group.exchanges.iter().any(|exchange| took.contains(&exchange.id)) {
                slots.park(&part.vhost, name, None);
            }
            changed.extend(group.exchanges);
        }
        drop(slots);
        self.provide();
        drop(files);
        changed.iter().for_each(|exchange| exchange.type_changed());
        handover.finish();
        Ok(Some(moved))
    }

    /// The same where no virtual host has anything to take.
    fn publish_for_nobody(&mut self) -> Result<(), LoadError> {
        let mut files = self.registry.files.lock();
        self.check(&files)?;
        let changed = self.publish(&mut files, &mut self.registry.slots.write(), None);
        self.provide();
        drop(files);
        changed.iter().for_each(|exchange| exchange.type_changed());
        Ok(())
    }

    /// What other files serve may have changed since the file was looked at.
    fn check(&self, files: &Files) -> Result<(), LoadError> {
        let (scope, description) = (&self.version.scope, &self.version.description);
        check_count(files, scope, self.path).map_err(LoadError::at(Stage::Policy))?;
        check_claims(files, scope, self.path, &self.names, description).map_err(LoadError::at(Stage::Trial))
    }

    /// From now on the version serves, but for the virtual hosts that have anything to take and are not the one
    /// that moves. Gives the exchanges for which it is there now, and may not serve.
    fn publish(&mut self, files: &mut Files, slots: &mut Slots, moves: Option<&Name>) -> Vec<Arc<Exchange>> {
        if self.version.scope == Scope::Global {
            for vhost in self.vhosts(slots).into_iter().filter(|vhost| Some(vhost) != moves) {
                if self.due_in(slots, &vhost).is_ok_and(|due| due.is_empty()) {
                    slots.release(&vhost, self.plugin());
                    continue;
                }
                let instead = self.from(slots, &vhost);
                slots.hold(&vhost, self.plugin(), Hold { instead, refused: None });
                if !self.tried.contains(&vhost) && !self.waiting.contains(&vhost) {
                    self.waiting.push(vhost);
                }
            }
            for (vhost, error) in &self.refused {
                let seen = slots.state_of(vhost);
                self.hold_back(slots, vhost, error, seen, Instant::now());
            }
        }
        if let Some(old) = &self.old {
            // Types that the new version does not have, and no exchange that has moved either.
            slots.withdraw(old, &self.names);
        }
        self.names.iter().for_each(|name| slots.serve(name.clone(), self.version.clone()));
        files.insert(self.path.to_path_buf(), self.version.clone());
        self.published = true;
        self.registry.pins.move_to(&self.version);
        self.registry.serving_changed(&self.version);
        self.no_longer_missing(slots)
    }

    /// Those that waited for it where it is switched off or not granted what it needs: that is why they are parked
    /// from now on.
    fn no_longer_missing(&self, slots: &mut Slots) -> Vec<Arc<Exchange>> {
        let may_not =
            |vhost: &Name| !self.version.policy(vhost).enabled || self.version.not_granted(vhost).is_some();
        let mut told = Vec::new();
        for vhost in self.vhosts(slots).into_iter().filter(may_not) {
            for name in &self.names {
                let Some(group) = slots.group_for(&self.version, &vhost, name) else { continue };
                if group.parked.is_some_and(|parked| parked.from_before) {
                    slots.park(&vhost, name, None);
                    told.extend(group.exchanges);
                }
            }
        }
        told
    }

    /// The version provides its interceptors, where it is not held back.
    fn provide(&self) {
        self.registry.serve_interceptors(self.old.as_deref(), &self.version);
    }

    /// Notes why a virtual host stays on what it has.
    fn hold_back(&self, slots: &mut Slots, vhost: &Name, error: &LoadError, seen: u64, began: Instant) {
        let (hold, plugin) = (slots.hold_of(vhost, self.plugin()).cloned(), self.plugin());
        let known = hold.as_ref().and_then(|hold| hold.refused.as_ref());
        let refused = Some(HeldBack::new(error.clone(), seen, began, known));
        let instead = match &hold {
            Some(hold) => hold.instead.clone(),
            None => self.old.clone(),
        };
        slots.hold(vhost, plugin, Hold { instead, refused });
        for name in &self.names {
            let group = slots.group_for(&self.version, vhost, name);
            if let Some(parked) = group.and_then(|group| group.parked) {
                let why = error.reason.as_str().into();
                slots.park(vhost, name, Some(Parked { why, alone: true, from_before: false, ..parked }));
            }
        }
    }
}

impl Moved {
    fn add(&mut self, other: Self) {
        self.exchanges += other.exchanges;
        self.bindings += other.bindings;
        self.state.migrated += other.state.migrated;
        self.state.restored += other.state.restored;
        self.state.emptied += other.state.emptied;
        self.state.discarded_entries += other.state.discarded_entries;
        self.state.discarded_bytes += other.state.discarded_bytes;
    }
}

impl Registry {
    /// Drops what workers did not take of a version that serves nobody any more.
    fn discard_unused(&self, version: Option<&Version>) {
        if let Some(version) = version.filter(|version| !self.serves(version.id)) {
            self.mailboxes.iter().for_each(|mailbox| mailbox.discard(version.id));
        }
    }
}
