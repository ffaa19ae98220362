//! Which version serves which exchange type for whom, and which exchanges have it.
//!
//! A type of a virtual host is served by the first of these that there is: the virtual host's own
//! file, a global one that it may use, what came with the broker. Of a global one it may have an older
//! version than others (`holds.rs`). Where a plugin went away and
//! nothing takes its exchanges, they are parked: that is remembered with them, so it ends with the
//! last of them.

use super::holds::{Hold, Holds};
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
    /// Who has an older version of a global plugin.
    holds: Holds,
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
    /// Their plugin did not come since the broker started; what is known of it may say more (`expected.rs`).
    pub(super) from_before: bool,
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
    /// Who provides a type for a virtual host, if the plugin of that version (`except`) does not.
    pub(super) fn provider(
        &self,
        policies: &Policies,
        vhost: &Name,
        type_name: &[u8],
        except: Option<&Version>,
    ) -> Provider {
        let mut denied = None;
        for scope in [Scope::Vhost(vhost.clone()), Scope::Global, Scope::Shipped] {
            let version = self.in_scope(&scope, vhost, type_name);
            let Some(version) = version.filter(|it| except.is_none_or(|except| !except.is_plugin_of(it)))
            else {
                continue;
            };
            if policies.of(&scope, Some(vhost), &version.code.plugin).allowed {
                return Provider::Version(version.clone());
            }
            denied.get_or_insert(version);
        }
        denied.map_or(Provider::Nobody, |version| Provider::NotAllowed(version.clone()))
    }

    /// Who provides a type for a virtual host in that scope.
    fn in_scope(&self, scope: &Scope, vhost: &Name, type_name: &[u8]) -> Option<&Arc<Version>> {
        let holds = self.holds.get(vhost).filter(|_| *scope == Scope::Global);
        if let Some(holds) = holds {
            let instead = holds.values().filter_map(|hold| hold.instead.as_ref());
            if let Some(version) = instead.into_iter().find(|version| version.describes(type_name).is_some())
            {
                return Some(version);
            }
        }
        let version = self.serving.get(scope)?.get(type_name)?;
        let held = holds.is_some_and(|holds| holds.contains_key(&version.code.plugin));
        (!held).then_some(version)
    }

    /// The global version that provides an interceptor for a virtual host, where `version` does for others.
    pub(super) fn older_interceptor(
        &self,
        vhost: &Name,
        name: &str,
        version: Option<&Arc<Version>>,
    ) -> Option<Arc<Version>> {
        let Some(holds) = self.holds.get(vhost) else { return version.cloned() };
        let mut instead = holds.values().filter_map(|hold| hold.instead.as_ref());
        let older = instead.find(|version| version.describes_interceptor(name).is_some());
        older.or_else(|| version.filter(|it| !holds.contains_key(&it.code.plugin))).cloned()
    }

    /// Those that have an older version of a global plugin, or none of it.
    pub(super) fn holds(&self) -> impl Iterator<Item = (&Name, &hashbrown::HashMap<String, Hold>)> {
        self.holds.iter()
    }

    /// Why a virtual host does not have a global plugin's version, if so.
    pub(super) fn hold_of(&self, vhost: &Name, plugin: &str) -> Option<&Hold> {
        self.holds.get(vhost)?.get(plugin)
    }

    /// From now on a virtual host has another version of a global plugin than is served elsewhere.
    pub(super) fn hold(&mut self, vhost: &Name, plugin: &str, hold: Hold) {
        self.holds.entry(vhost.clone()).or_default().insert(String::from(plugin), hold);
    }

    /// A virtual host has what others have. False if it had before.
    pub(super) fn release(&mut self, vhost: &Name, plugin: &str) -> bool {
        let Some(holds) = self.holds.get_mut(vhost) else { return false };
        let released = holds.remove(plugin).is_some();
        if holds.is_empty() {
            self.holds.remove(vhost);
        }
        released
    }

    /// A global plugin is gone, with all versions of it. Gives those that served on.
    pub(super) fn release_all(&mut self, plugin: &str) -> Vec<Arc<Version>> {
        let holds = self.holds.values_mut().filter_map(|holds| holds.remove(plugin));
        let instead = holds.filter_map(|hold| hold.instead).collect();
        self.holds.retain(|_, holds| !holds.is_empty());
        instead
    }

    /// The types that a virtual host has, each with the version that provides it.
    pub(super) fn types_for<'a>(
        &'a self,
        policies: &'a Policies,
        vhost: &'a Name,
    ) -> impl Iterator<Item = (Name, Arc<Version>)> + 'a {
        let holds = self.holds.get(vhost).into_iter().flat_map(|holds| holds.values());
        let older = holds.filter_map(|hold| hold.instead.as_ref()).flat_map(|version| version.type_names());
        let names = self.serving.iter().flat_map(|(_, types)| types.keys().cloned()).chain(older);
        names.filter_map(move |name| match self.provider(policies, vhost, &name, None) {
            Provider::Version(version) => Some((name, version)),
            Provider::NotAllowed(_) | Provider::Nobody => None,
        })
    }

    /// Why exchanges of that type are parked in that virtual host, if they are.
    pub(super) fn parked(&self, vhost: &Name, type_name: &[u8]) -> Option<&Parked> {
        self.users.get(vhost)?.get(type_name)?.parked.as_ref()
    }

    /// What serves, by scope and type.
    pub(super) fn serving(&self) -> impl Iterator<Item = (&Scope, &Name, &Arc<Version>)> {
        self.serving.iter().flat_map(|(scope, types)| types.iter().map(move |(name, v)| (scope, name, v)))
    }

    /// Whether a version serves any type anywhere.
    pub(super) fn serves(&self, id: VersionId) -> bool {
        let held = |hold: &Hold| hold.instead.as_ref().is_some_and(|version| version.id == id);
        self.serving().any(|(_, _, version)| version.id == id)
            || self.holds.values().flat_map(|holds| holds.values()).any(held)
    }

    /// The groups that a version is for, of all its types.
    pub(super) fn groups_for_types(&self, version: &Version) -> Vec<Group> {
        let names = version.description.types.iter().filter_map(|t| Name::new(t.name.as_bytes()).ok());
        names.flat_map(|name| self.groups_for(version, &name)).collect()
    }

    /// All groups that have live exchanges.
    pub(super) fn groups(&self) -> impl Iterator<Item = Group> {
        self.users.iter().flat_map(|(vhost, types)| {
            types.iter().filter_map(|(type_name, users)| users.group(vhost, type_name))
        })
    }

    /// Those of one virtual host.
    pub(super) fn groups_in(&self, vhost: &Name) -> impl Iterator<Item = Group> {
        let types = self.users.get_key_value(vhost).into_iter();
        types.flat_map(|(vhost, types)| types.iter().filter_map(|(name, users)| users.group(vhost, name)))
    }

    /// Whether a virtual host has exchanges of a type.
    pub(super) fn is_used(&self, vhost: &Name, type_name: &[u8]) -> bool {
        self.users.get(vhost).is_some_and(|types| types.contains_key(type_name))
    }

    /// The virtual hosts that have exchanges.
    pub(super) fn vhosts(&self) -> impl Iterator<Item = &Name> {
        self.users.keys()
    }

    /// The group of a virtual host that a version is for, if it provides that type in its scope: in its own
    /// virtual host, or in one that may use it and has no plugin of its own. Whatever else serves there now.
    pub(super) fn group_for(&self, version: &Version, vhost: &Name, type_name: &Name) -> Option<Group> {
        let is_for = match &version.scope {
            Scope::Vhost(own) => own == vhost,
            Scope::Global | Scope::Shipped => {
                let own = self.serving.get(&Scope::Vhost(vhost.clone()));
                own.is_none_or(|types| !types.contains_key(type_name.as_bytes()))
                    && version.policy(vhost).allowed
            }
        };
        self.users.get(vhost).filter(|_| is_for)?.get(type_name.as_bytes())?.group(vhost, type_name)
    }

    /// [`Self::group_for`] in all virtual hosts.
    pub(super) fn groups_for(&self, version: &Version, type_name: &Name) -> Vec<Group> {
        self.users.keys().filter_map(|vhost| self.group_for(version, vhost, type_name)).collect()
    }

    /// The groups of a virtual host that the plugin of a version serves, by whichever version.
    pub(super) fn groups_of_in(&self, policies: &Policies, version: &Version, vhost: &Name) -> Vec<Group> {
        let served = |group: &Group| {
            group.parked.is_none()
                && matches!(
                    self.provider(policies, vhost, &group.type_name, None),
                    Provider::Version(now) if now.is_plugin_of(version)
                )
        };
        self.groups_in(vhost).filter(served).collect()
    }

    /// [`Self::groups_of_in`] in all virtual hosts.
    pub(super) fn groups_of(&self, policies: &Policies, version: &Version) -> Vec<Group> {
        self.users.keys().flat_map(|vhost| self.groups_of_in(policies, version, vhost)).collect()
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

    /// An exchange that is taken into account, by what is lent of it.
    pub(super) fn registered(&self, exchange: &Exchange) -> Option<Arc<Exchange>> {
        let users = self.users.get(&exchange.vhost)?.get(exchange.spec.type_name.as_bytes())?;
        users.exchanges.iter().find(|it| std::ptr::eq(it.as_ptr(), exchange)).and_then(Weak::upgrade)
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
    /// That a new version does not have its type.
    pub(super) fn dropped(&self) -> String {
        let exchange = self.exchanges.first().map(|exchange| exchange.spec.name.clone()).unwrap_or_default();
        format!(
            "the new version drops the exchange type '{}', which exchange '{exchange}' in vhost '{}' has",
            self.type_name, self.vhost
        )
    }

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
