//! Exchanges that are there again after a restart.
//!
//! They are taken into account as if they had been declared, and nobody is asked: at a start most plugins are not
//! loaded yet. Those whose type nobody provides are parked like those whose plugin was removed. So the first file that
//! provides it is asked about all of them and their bindings before it serves, and is not taken if it refuses one: the
//! version that served last does then, where it is kept.

use super::{
    LoadError, Registry, Stage,
    expected::Seen,
    kept::PluginKey,
    not_granted,
    reload::{Examined, File},
    slots::{Group, Parked, Provider},
    warnings::{Warning, WarningAbout},
};
use crate::{
    artifact::{self, Digest},
    engine::CodeStrategy,
    policy::FailurePolicy,
    scope::Scope,
};
use leveret_broker::exchange::Exchange;
use std::{path::Path, sync::Arc};
use wasmtime::component::Component;

/// Why an exchange is parked whose plugin did not come since the broker started.
const MISSING: &str = "its plugin is not there";

impl Registry {
    /// Takes an exchange into account that was declared before the broker's start.
    pub(crate) fn restored(&self, exchange: &Arc<Exchange>) {
        let (vhost, types) = (&exchange.vhost, exchange.types());
        self.expect(vhost);
        let mut slots = self.slots.write();
        for (at, spec) in types.iter().enumerate() {
            let type_name = &spec.type_name;
            if types.iter().take(at).any(|earlier| earlier.type_name == *type_name) {
                continue;
            }
            slots.register(exchange, type_name);
            let is_missing = slots.parked(vhost, type_name).is_none()
                && matches!(slots.provider(&self.policies, vhost, type_name, None), Provider::Nobody);
            if is_missing {
                let on_failure = FailurePolicy::default();
                let parked = Parked { why: Arc::from(MISSING), alone: false, from_before: true, on_failure };
                slots.park(vhost, type_name, Some(parked));
            }
        }
    }

    /// Whether a file is worth loading before anything is served though it is large: there are exchanges from before
    /// the start whose type nobody provides, and it was compiled before.
    #[must_use]
    pub fn is_wanted_first(&self, path: &Path) -> bool {
        let misses = |group: Group| group.parked.is_some_and(|parked| parked.from_before);
        self.slots.read().groups().any(misses)
            && artifact::read(path).is_ok_and(|bytes| self.compiler.has_code(Digest::of(&bytes)))
    }

    /// That a file does not do less than the version of its plugin that served last, before the start, for exchanges from
    /// then: where something serves, what drops it is refused too.
    pub(super) fn check_kept(
        &self,
        file: &File<'_>,
        strategy: CodeStrategy,
        component: &Component,
    ) -> Result<(), LoadError> {
        let waiting = |group: &Group| {
            let is_in_scope = match file.scope {
                Scope::Vhost(vhost) => *vhost == group.vhost,
                Scope::Global | Scope::Shipped => true,
            };
            is_in_scope && group.parked.as_ref().is_some_and(|parked| parked.from_before)
        };
        let mut waiting: Vec<Group> = self.slots.read().groups().filter(waiting).collect();
        let key = PluginKey::of_file(file.scope, file.path);
        let Some(kept) = self.kept.as_ref().filter(|_| !waiting.is_empty()) else { return Ok(()) };
        let history = kept.history(key);
        let last = history.last().map(|last| last.digest).filter(|_| !history.removed);
        let Some(last) = last else { return Ok(()) };
        if last == file.digest || self.files.lock().contains_key(file.path) {
            return Ok(());
        }
        let new = self.introduce(file, strategy, component)?;
        let serves = |it: &Examined, group: &Group| {
            let version = &it.version;
            it.names.contains(&group.type_name)
                && version.policy(&group.vhost).enabled
                && version.not_granted(&group.vhost).is_none()
        };
        waiting.retain(|group| !serves(&new, group));
        if waiting.is_empty() {
            return Ok(());
        }
        let File { scope, path, .. } = *file;
        let before = kept.read(key, last).ok().and_then(|bytes| {
            let (strategy, component) = self.compile(last, &bytes).ok()?;
            self.introduce(&File { scope, path, digest: last }, strategy, &component).ok()
        });
        let Some(group) = before.and_then(|before| waiting.into_iter().find(|group| serves(&before, group)))
        else {
            return Ok(());
        };
        let ungranted =
            new.version.not_granted(&group.vhost).filter(|_| new.names.contains(&group.type_name));
        Err(LoadError::at(Stage::Swap)(match ungranted {
            Some(capability) => not_granted(&new.version, capability),
            None => group.dropped(),
        }))
    }

    /// Says of each type of such exchanges that nobody provides it.
    pub(super) fn without_type(&self, warnings: &mut Vec<Warning>) {
        let groups: Vec<_> = self.slots.read().groups().collect();
        for group in groups.iter().filter(|it| it.parked.as_ref().is_some_and(|it| it.from_before)) {
            let (vhost, type_name, count) = (&group.vhost, &group.type_name, group.exchanges.len());
            let (plural, example) = match group.exchanges.first() {
                Some(exchange) if count == 1 => ("", format!(": '{}'", exchange.spec.name)),
                Some(exchange) => ("s", format!(", '{}' among them", exchange.spec.name)),
                None => continue,
            };
            let missing = self.missing(vhost, type_name);
            let why = match &missing {
                Some(missing) if !missing.policy.enabled || matches!(missing.seen, Seen::Coming(_)) => {
                    continue;
                }
                Some(missing) => format!("; {}", missing.why()),
                None => String::new(),
            };
            let until = match missing.as_ref().map(|missing| &missing.seen) {
                Some(Seen::Refused(_)) => "its file is taken",
                Some(Seen::Serves) => "its file provides the type again",
                Some(Seen::NotThere | Seen::Coming(_)) | None => "its file is in the plugins folder",
            };
            let meanwhile = match missing.as_ref().map(|missing| &missing.policy.on_failure) {
                Some(FailurePolicy::Fallback(core)) => format!("are served by '{core}'"),
                Some(_) | None => String::from("take no messages"),
            };
            warnings.push(Warning {
                about: WarningAbout::NoPlugin,
                text: format!(
                    "no plugin provides the exchange type '{type_name}', which {count} exchange{plural} in vhost \
                     '{vhost}' {} from before the broker's start{example}{why}",
                    if count == 1 { "has" } else { "have" }
                ),
                hint: format!("they and their bindings stay, and {meanwhile} until {until}"),
            });
        }
    }
}
