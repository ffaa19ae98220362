//! Which version serves which exchange type for whom, and which exchanges have it.
//!
//! A type of a virtual host is served by the first of these that there is: the virtual host's own
//! file, a global one that it may use, what came with the broker. Where a plugin went away and
//! nothing takes its exchanges, they are parked: that is remembered with them, so it ends with the
//! last of them.

use crate::{
    policy::{FailurePolicy, Policies},
    scope::Scope,
    version::{Version, VersionId},
};
use hashbrown::HashMap;
use leveret_broker::{exchange::Exchange, port::Layer};
use leveret_model::Name;
use std::sync::{Arc, Weak};

/// The first length at which [`Users`] looks for exchanges that are gone.
const PRUNE_AT_MIN: usize = 16;

/// What serves, and whom.
#[derive(Default)]
pub(super) struct Slots {
    serving: HashMap<Scope, HashMap<Name, Arc<Version>>>,
    /// By virtual host, by type.
    users: HashMap<Name, HashMap<Name, Users>>,
}

/// The exchanges of one type in one virtual host.
#[derive(Default)]
struct Users {
    exchanges: Vec<Weak<Exchange>>,
    /// `exchanges` is looked through for dead ones when it has so many.
    prune_at: usize,
    parked: Option<Parked>,
}

/// Why exchanges are parked.
#[derive(Clone)]
pub(super) struct Parked {
    pub(super) why: Arc<str>,
    /// For a reason of this virtual host alone: a global plugin changes as if they were not there.
    pub(super) alone: bool,
    /// What becomes of their messages meanwhile.
    pub(super) on_failure: FailurePolicy,
}

/// The live exchanges of one type in one virtual host.
pub(super) struct Group {
    pub(super) vhost: Name,
    pub(super) type_name: Name,
    pub(super) exchanges: Vec<Arc<Exchange>>,
    pub(super) parked: Option<Parked>,
}

/// Who provides a type for a virtual host.
pub(super) enum Provider {
    /// This version.
    Version(Arc<Version>),
    /// Only plugins that it may not use; the name of the first.
    NotAllowed(Arc<Version>),
    /// Nobody.
    Nobody,
}

impl Slots {
    /// Who provides a type for a virtual host, `except` that version.
    pub(super) fn provider(
        &self,
        policies: &Policies,
        vhost: &Name,
        type_name: &[u8],
        except: Option<VersionId>,
    ) -> Provider {
        let mut denied = None;
        for scope in [Scope::Vhost(vhost.clone()), Scope::Global, Scope::Shipped] {
            let version = self.serving.get(&scope).and_then(|types| types.get(type_name));
            let Some(version) = version.filter(|version| Some(version.id) != except) else {
                continue;
            };
            if policies.of(&scope, Some(vhost), &version.code.plugin).allowed {
                return Provider::Version(version.clone());
            }
            denied.get_or_insert(version);
        }
        denied.map_or(Provider::Nobody, |version| Provider::NotAllowed(version.clone()))
    }

    /// The types that a virtual host has, each with the version that provides it.
    pub(super) fn types_for<'a>(
        &'a self,
        policies: &'a Policies,
        vhost: &'a Name,
    ) -> impl Iterator<Item = (&'a Name, Arc<Version>)> {
        self.serving.iter().flat_map(|(_, types)| types.keys()).filter_map(move |name| {
            match self.provider(policies, vhost, name, None) {
                Provider::Version(version) => Some((name, version)),
                Provider::NotAllowed(_) | Provider::Nobody => None,
            }
        })
    }

    /// Whether that version provides a type for a virtual host.
    fn provides(&self, policies: &Policies, vhost: &Name, type_name: &[u8], id: VersionId) -> bool {
        matches!(self.provider(policies, vhost, type_name, None), Provider::Version(v) if v.id == id)
    }

    /// Why exchanges of that type are parked in that virtual host, if they are.
    pub(super) fn parked(&self, vhost: &Name, type_name: &[u8]) -> Option<&Parked> {
        self.users.get(vhost)?.get(type_name)?.parked.as_ref()
    }

    /// What serves, by scope and type.
    pub(super) fn serving(&self) -> impl Iterator<Item = (&Scope, &Name, &Arc<Version>)> {
        self.serving.iter().flat_map(|(scope, types)| types.iter().map(move |(name, v)| (scope, name, v)))
    }

    /// Whether a version serves any type.
    pub(super) fn serves(&self, id: VersionId) -> bool {
        self.serving().any(|(_, _, version)| version.id == id)
    }

    /// All groups that have live exchanges.
    pub(super) fn groups(&self) -> impl Iterator<Item = Group> {
        self.users.iter().flat_map(|(vhost, types)| {
            types.iter().filter_map(|(type_name, users)| users.group(vhost, type_name))
        })
    }

    /// The groups that a version is for, if it provides that type in that scope: those of the virtual
    /// host, or those of all virtual hosts that may use it and have no plugin of their own.
    pub(super) fn groups_for(&self, version: &Version, type_name: &Name) -> Vec<Group> {
        let group = |vhost: &Name| self.users.get(vhost)?.get(type_name.as_bytes())?.group(vhost, type_name);
        if let Scope::Vhost(vhost) = &version.scope {
            return group(vhost).into_iter().collect();
        }
        let has_its_own = |vhost: &Name| {
            let own = self.serving.get(&Scope::Vhost(vhost.clone()));
            own.is_some_and(|types| types.contains_key(type_name.as_bytes()))
        };
        let may_use = |vhost: &Name| version.policy(vhost).allowed;
        self.users.keys().filter(|vhost| !has_its_own(vhost) && may_use(vhost)).filter_map(group).collect()
    }

    /// The groups that a version serves.
    pub(super) fn groups_of(&self, policies: &Policies, version: &Version) -> Vec<Group> {
        let mut groups = Vec::new();
        for described in &version.description.types {
            for (vhost, types) in &self.users {
                let found = types.get_key_value(described.name.as_bytes());
                let Some((type_name, users)) = found.filter(|(_, users)| users.parked.is_none()) else {
                    continue;
                };
                if self.provides(policies, vhost, type_name, version.id) {
                    groups.extend(users.group(vhost, type_name));
                }
            }
        }
        groups
    }

    /// From now on the version serves that type, in its scope.
    pub(super) fn serve(&mut self, type_name: Name, version: Arc<Version>) {
        self.serving.entry(version.scope.clone()).or_default().insert(type_name, version);
    }

    /// A version serves no more, but for the types that are kept.
    pub(super) fn withdraw(&mut self, version: &Version, keep: &[Name]) {
        if let Some(types) = self.serving.get_mut(&version.scope) {
            types.retain(|name, v| v.id != version.id || keep.contains(name));
            if types.is_empty() {
                self.serving.remove(&version.scope);
            }
        }
    }

    /// Parks the exchanges of a type in a virtual host, or takes that back.
    pub(super) fn park(&mut self, vhost: &Name, type_name: &[u8], parked: Option<Parked>) {
        if let Some(users) = self.users.get_mut(vhost).and_then(|types| types.get_mut(type_name)) {
            users.parked = parked;
        }
    }

    /// Takes an exchange into account at the next change.
    pub(super) fn register(&mut self, exchange: &Arc<Exchange>, type_name: &Name) {
        let types = self.users.entry(exchange.vhost.clone()).or_default();
        types.entry(type_name.clone()).or_default().push(exchange);
    }

    /// Takes an exchange out again, and forgets why its like are parked if it was the last.
    pub(super) fn unregister(&mut self, exchange: &Exchange) {
        let Some(types) = self.users.get_mut(&exchange.vhost) else {
            return;
        };
        // Of one that was not opened to the end it is not known which types it has.
        let known: Vec<&Name> = exchange.types().iter().map(|spec| &spec.type_name).collect();
        types.retain(|type_name, users| {
            if !known.is_empty() && !known.contains(&type_name) {
                return true;
            }
            let place = users.exchanges.iter().position(|e| std::ptr::eq(e.as_ptr(), exchange));
            if let Some(place) = place {
                users.exchanges.swap_remove(place);
            }
            place.is_none() || users.live().next().is_some()
        });
        if types.is_empty() {
            self.users.remove(&exchange.vhost);
        }
    }
}

impl Group {
    /// Where the type is among the types of each of its exchanges.
    pub(super) fn places(&self) -> Vec<(Arc<Exchange>, Layer)> {
        let of = |exchange: &Arc<Exchange>| {
            let layers = (0..).map(Layer).zip(exchange.types());
            let here = layers.filter(|(_, spec)| spec.type_name == self.type_name);
            here.map(|(layer, _)| (exchange.clone(), layer)).collect::<Vec<_>>()
        };
        self.exchanges.iter().flat_map(of).collect()
    }
}

impl Users {
    fn push(&mut self, exchange: &Arc<Exchange>) {
        self.exchanges.push(Arc::downgrade(exchange));
        if self.exchanges.len() >= self.prune_at.max(PRUNE_AT_MIN) {
            self.exchanges.retain(|e| e.upgrade().is_some_and(|e| !e.is_deleted()));
            self.prune_at = self.exchanges.len() * 2;
        }
    }

    /// The exchanges that are still there.
    fn live(&self) -> impl Iterator<Item = Arc<Exchange>> {
        self.exchanges.iter().filter_map(Weak::upgrade).filter(|exchange| !exchange.is_deleted())
    }

    fn group(&self, vhost: &Name, type_name: &Name) -> Option<Group> {
        let exchanges: Vec<_> = self.live().collect();
        let (vhost, type_name) = (vhost.clone(), type_name.clone());
        (!exchanges.is_empty()).then(|| Group { vhost, type_name, exchanges, parked: self.parked.clone() })
    }
}
