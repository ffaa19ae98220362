//! Changes of who serves a type that no new file brings: a file is gone, a switch is turned. What is
//! left to serve takes all exchanges of a type in a virtual host, or none: then they are parked.

use super::{
    Registry, RemoveReport,
    expected::Seen,
    reload::Files,
    slots::{Group, Parked, Provider},
};
use crate::{policy::Switch, scope::Scope, version::Version};
use leveret_broker::exchange::Exchange;
use leveret_model::Name;
use std::{path::Path, sync::Arc};

/// How often a plugin that is switched on is asked about exchanges if it changes meanwhile.
const GIVE_BACK_TRIES: usize = 3;

impl Registry {
    /// Takes a file of all virtual hosts out of service: [`Self::remove_in`] with [`Scope::Global`].
    pub fn remove(&self, path: &Path) -> Option<RemoveReport> {
        self.remove_in(&Scope::Global, path)
    }

    /// Takes a file of that scope out of service. Its exchanges go to the plugin that it had taken the type from, if
    /// there is one and it takes them all; else they are parked, they and their bindings stay. Nothing
    /// of it serves until a file is offered again, also after a restart; that somebody went back from a
    /// file is forgotten. `None` if it does not serve.
    pub fn remove_in(&self, scope: &Scope, path: &Path) -> Option<RemoveReport> {
        let serves = |files: &Files| files.get(path).filter(|version| version.scope == *scope).cloned();
        if self.files.lock().get(path).is_some_and(|version| version.scope != *scope) {
            return None;
        }
        self.turns.overtake(path);
        let change = self.changing.begin_file(scope, path);
        self.refusals.forget(path);
        self.forget(scope, path);
        self.expected.note(scope, &super::plugin_of(path), Seen::NotThere);
        let version = serves(&self.files.lock())?;
        let groups = self.slots.read().groups_of(&self.policies, &version);
        let refused: Vec<(Group, Arc<str>)> = groups
            .into_iter()
            .filter_map(|group| {
                let why = self.hand_over(&version, &group).err()?;
                Some((group, why.into()))
            })
            .collect();
        let mut files = self.files.lock();
        files.remove(path);
        let alone = matches!(version.scope, Scope::Vhost(_));
        let mut report = RemoveReport {
            path: path.to_path_buf(),
            exchange_types: described(&version),
            exchanges: 0,
            handed_back: 0,
        };
        let mut slots = self.slots.write();
        // Once more: an exchange may have been declared since.
        let groups = slots.groups_of(&self.policies, &version);
        slots.withdraw(&version, &[]);
        let older = match version.scope {
            Scope::Global => slots.release_all(&version.code.plugin),
            Scope::Vhost(_) | Scope::Shipped => Vec::new(),
        };
        for group in &groups {
            let why = refused.iter().find(|(g, _)| g.vhost == group.vhost && g.type_name == group.type_name);
            let provider = slots.provider(&self.policies, &group.vhost, &group.type_name, None);
            let why = match (why, provider) {
                (Some((_, why)), _) => why.clone(),
                (None, Provider::Version(_)) => {
                    report.handed_back += group.exchanges.len();
                    continue;
                }
                (None, Provider::NotAllowed(_) | Provider::Nobody) => removed(&version).into(),
            };
            report.exchanges += group.exchanges.len();
            let on_failure = version.policy(&group.vhost).on_failure.clone();
            let parked = Parked { why, alone, from_before: false, on_failure };
            slots.park(&group.vhost, &group.type_name, Some(parked));
        }
        drop(slots);
        self.withdraw_interceptors(&version);
        drop((files, change));
        tell(&groups);
        for gone in older.iter().chain([&version]) {
            self.mailboxes.iter().for_each(|mailbox| mailbox.discard(gone.id));
        }
        tracing::info!(
            target: "leveret::plugin",
            path = %path.display(), scope = %version.scope,
            exchanges = report.exchanges, handed_back = report.handed_back,
            "the plugin was removed"
        );
        Some(report)
    }

    /// Switches plugins off, at once, even while a file is being loaded: their exchanges are parked,
    /// they and their bindings stay. Whatever a worker has begun it finishes. Gives whether it was on.
    pub fn disable(&self, switch: &Switch) -> bool {
        // A swap that comes between looks the policy up after this, or raises the generation itself.
        let before = self.served();
        let changed = self.policies.disable(switch);
        let still_served = self.served();
        let parked: Vec<&Group> =
            before.iter().filter(|group| !still_served.iter().any(|served| served.is(group))).collect();
        tell(parked.iter().copied());
        self.providers.changed();
        self.decide();
        let exchanges: usize = parked.iter().map(|group| group.exchanges.len()).sum();
        tracing::warn!(target: "leveret::plugin", exchanges, "{switch} switched off");
        changed
    }

    /// Takes a [`Self::disable`] back; what another switch has switched off stays off. Exchanges that the
    /// plugin, which may have changed meanwhile, does not take stay parked. Gives whether it was off.
    pub fn enable(&self, switch: &Switch) -> bool {
        let _switching = self.switching.lock();
        let before = self.served();
        let changed = self.policies.enable(switch);
        let back: Vec<Group> =
            self.served().into_iter().filter(|group| !before.iter().any(|served| served.is(group))).collect();
        for group in &back {
            if let Some(why) = self.give_back(group) {
                tracing::warn!(target: "leveret::plugin", "{switch} is on again, but {why}");
            }
        }
        tell(&back);
        self.providers.changed();
        self.decide();
        tracing::info!(target: "leveret::plugin", groups = back.len(), "{switch} switched on");
        changed
    }

    /// Whether the plugin that was switched on takes a group of exchanges; parks them if not. Gives why.
    fn give_back(&self, group: &Group) -> Option<String> {
        // Another version may come while this one is asked; then that is asked.
        for _ in 0..GIVE_BACK_TRIES {
            let Provider::Version(version) = self.provider(group, None) else { return None };
            let why = self.replay(&version, &group.places(), &[], 1).err();
            let on_failure = version.policy(&group.vhost).on_failure.clone();
            let parked = why.clone().map(|why| Parked {
                why: why.into(),
                alone: true,
                from_before: false,
                on_failure,
            });
            let mut slots = self.slots.write();
            let now = slots.provider(&self.policies, &group.vhost, &group.type_name, None);
            if matches!(now, Provider::Version(now) if now.id == version.id) {
                slots.park(&group.vhost, &group.type_name, parked);
                return why;
            }
        }
        None
    }

    /// Whether what is left without a version takes a group of exchanges.
    fn hand_over(&self, version: &Version, group: &Group) -> Result<(), String> {
        let removed = removed(version);
        match self.provider(group, Some(version)) {
            Provider::Version(next) => match self.replay(&next, &group.places(), &[], 1) {
                Ok(_) => Ok(()),
                Err(why) => {
                    Err(format!("{removed}, and the {} plugin {}: {why}", next.scope, next.code.plugin))
                }
            },
            Provider::NotAllowed(_) | Provider::Nobody => Err(removed),
        }
    }

    fn provider(&self, group: &Group, except: Option<&Version>) -> Provider {
        self.slots.read().provider(&self.policies, &group.vhost, &group.type_name, except)
    }

    /// Every group that has a provider which is not switched off, parked for another reason or not.
    fn served(&self) -> Vec<Group> {
        let slots = self.slots.read();
        let provided =
            |group: &Group| match slots.provider(&self.policies, &group.vhost, &group.type_name, None) {
                Provider::Version(version) => version.policy(&group.vhost).enabled,
                Provider::NotAllowed(_) | Provider::Nobody => false,
            };
        slots.groups().filter(provided).collect()
    }
}

impl Group {
    fn is(&self, other: &Self) -> bool {
        self.vhost == other.vhost && self.type_name == other.type_name
    }
}

fn tell<'a>(groups: impl IntoIterator<Item = &'a Group>) {
    let exchanges = groups.into_iter().flat_map(|group| &group.exchanges);
    exchanges.for_each(|exchange: &Arc<Exchange>| exchange.type_changed());
}

fn described(version: &Version) -> Vec<Name> {
    version.description.types.iter().filter_map(|t| Name::new(t.name.as_bytes()).ok()).collect()
}

/// Why a type is parked whose plugin is gone.
fn removed(version: &Version) -> String {
    format!("its plugin {} was removed", version.code.plugin)
}
