//! Virtual hosts that stay on the older version of a global plugin, because their exchanges or attachments do
//! not go to the newer one, or not yet.
//!
//! One virtual host is no other's trouble: a global file goes into service for those that take it. Where it is
//! not taken, what served there serves on, whatever else serves elsewhere. It is tried again when the exchanges
//! there have changed, when somebody wants it, and with the next version.

use super::{LoadError, LoadReport, Registry, Stage, refusals::RefusedInfo, slots::Slots, swap::Moving};
use crate::{scope::Scope, version::Version};
use hashbrown::HashMap;
use leveret_model::Name;
use std::{
    hash::BuildHasher as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// The shortest time between two tries for one virtual host that nobody asked for.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Those take at most that part of the time.
const RETRY_SHARE: u32 = 10;

/// By virtual host, by plugin.
pub(super) type Holds = HashMap<Name, HashMap<String, Hold>>;

/// Why a virtual host has another version of a global plugin, and which.
#[derive(Clone)]
pub(super) struct Hold {
    /// What serves there instead; nothing of that plugin if nothing did.
    pub(super) instead: Option<Arc<Version>>,
    /// Why the newer one was not taken; `None` until it was tried.
    pub(super) refused: Option<HeldBack>,
}

/// A newer version of a global plugin that a virtual host did not take.
#[derive(Clone, Debug)]
pub(super) struct HeldBack {
    pub(super) error: LoadError,
    pub(super) since: SystemTime,
    /// How the exchanges were that did not take it.
    seen: u64,
    /// It is not tried again before, unless somebody wants it.
    not_before: Instant,
}

impl HeldBack {
    /// Just refused, after a try that began at a time, for exchanges as they were `seen`.
    pub(super) fn new(error: LoadError, seen: u64, began: Instant, before: Option<&Self>) -> Self {
        let known = before.filter(|before| before.error == error);
        let pause = RETRY_AFTER.max(began.elapsed() * RETRY_SHARE);
        Self {
            error,
            since: known.map_or_else(SystemTime::now, |known| known.since),
            seen,
            not_before: Instant::now() + pause,
        }
    }
}

/// What came of trying again what was refused of a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryReport {
    /// The file serves now, which was refused before.
    pub loaded: Option<LoadReport>,
    /// The virtual hosts that have the newer version now.
    pub moved: Vec<Name>,
    /// Those that still have the older one, and why.
    pub held_back: Vec<(Name, LoadError)>,
}

impl Slots {
    /// How the exchanges of a virtual host are that a version may be asked about: another number after each
    /// change.
    pub(super) fn state_of(&self, vhost: &Name) -> u64 {
        let mut all: Vec<(u64, u64)> = self
            .groups_in(vhost)
            .flat_map(|group| group.exchanges)
            .map(|exchange| (exchange.id.0, exchange.generation().0))
            .collect();
        all.sort_unstable();
        foldhash::fast::FixedState::default().hash_one(&all)
    }
}

impl Registry {
    /// The virtual hosts that have an older version of a global plugin for their exchanges' sake, with the file
    /// that they did not take.
    pub(super) fn held_back(&self) -> Vec<RefusedInfo> {
        let files: HashMap<String, PathBuf> = {
            let files = self.files.lock();
            let global = files.iter().filter(|(_, version)| version.scope == Scope::Global);
            global.map(|(path, version)| (version.code.plugin.clone(), path.clone())).collect()
        };
        let slots = self.slots.read();
        let mut infos = Vec::new();
        for (vhost, plugins) in slots.holds() {
            for (plugin, hold) in plugins {
                let (Some(refused), Some(path)) = (&hold.refused, files.get(plugin)) else { continue };
                let instead = hold.instead.as_ref();
                infos.push(RefusedInfo {
                    path: path.clone(),
                    scope: Scope::Global,
                    vhost: Some(vhost.clone()),
                    error: refused.error.clone(),
                    since: refused.since,
                    serving: instead.map(|v| (v.description.version.clone(), v.code.digest)),
                });
            }
        }
        infos
    }

    /// The virtual hosts whose exchanges have changed since they did not take a newer version of a global
    /// plugin, and the plugin: it is time to try again.
    #[must_use]
    pub fn to_retry(&self) -> Vec<(Name, String)> {
        let slots = self.slots.read();
        let now = Instant::now();
        let mut due = Vec::new();
        for (vhost, plugins) in slots.holds() {
            let waits = |hold: &Hold| hold.refused.as_ref().is_some_and(|refused| refused.not_before <= now);
            if !plugins.values().any(waits) {
                continue;
            }
            let state = slots.state_of(vhost);
            let changed = |hold: &&Hold| {
                waits(hold) && hold.refused.as_ref().is_some_and(|refused| refused.seen != state)
            };
            due.extend(
                plugins
                    .iter()
                    .filter(|(_, hold)| changed(hold))
                    .map(|(plugin, _)| (vhost.clone(), plugin.clone())),
            );
        }
        due
    }

    /// Tries once more to move a virtual host that stayed behind to the version of a global plugin that
    /// serves. `None` if it did not stay behind.
    pub fn retry_in(&self, vhost: &Name, plugin: &str) -> Option<Result<(), LoadError>> {
        let _change = self.changing.begin(&Scope::Global, plugin);
        self.slots.read().hold_of(vhost, plugin)?;
        let (path, version) = self.serving(&Scope::Global, plugin)?;
        let moved = Moving::again(self, &path, version).retry(vhost);
        match &moved {
            Ok(moved) => tracing::info!(
                target: "leveret::plugin",
                path = %path.display(), %vhost, exchanges = moved.exchanges, bindings = moved.bindings,
                "the virtual host has the plugin's newer version now"
            ),
            Err(error) => tracing::warn!(
                target: "leveret::plugin",
                path = %path.display(), %vhost, stage = %error.stage,
                "{}: {}", self.without_newer(vhost, plugin), error.reason
            ),
        }
        Some(moved.map(|_| ()))
    }

    /// What a virtual host has that did not take a version of a global plugin, for people to read.
    pub(super) fn without_newer(&self, vhost: &Name, plugin: &str) -> &'static str {
        let slots = self.slots.read();
        match slots.hold_of(vhost, plugin) {
            Some(Hold { instead: None, .. }) => "the virtual host does not have the plugin",
            Some(_) | None => "the virtual host stays on the plugin's older version",
        }
    }

    /// Tries everything once more that was refused of a plugin of that scope: its file, read anew, and of a
    /// global one every virtual host that stayed on an older version, or that one.
    ///
    /// # Errors
    /// Why the file is refused again. [`Stage::Read`] if nothing of the plugin was refused.
    pub fn retry(
        self: &Arc<Self>,
        scope: &Scope,
        plugin: &str,
        vhost: Option<&Name>,
    ) -> Result<RetryReport, LoadError> {
        let mut report = RetryReport::default();
        let file = self.refused_file(scope, plugin).filter(|_| vhost.is_none());
        if let Some(path) = &file {
            report.loaded = Some(self.offer_file(scope, path)?);
        }
        let held: Vec<Name> = {
            let slots = self.slots.read();
            let of_plugin = slots.holds().filter(|(_, plugins)| plugins.contains_key(plugin));
            of_plugin
                .map(|(vhost, _)| vhost.clone())
                .filter(|it| vhost.is_none_or(|only| only == it))
                .collect()
        };
        if file.is_none() && (held.is_empty() || *scope != Scope::Global) {
            return Err(LoadError::at(Stage::Read)(format!("nothing of the plugin {plugin} was refused")));
        }
        for vhost in held.into_iter().filter(|_| *scope == Scope::Global) {
            match self.retry_in(&vhost, plugin) {
                Some(Ok(())) => report.moved.push(vhost),
                Some(Err(error)) => report.held_back.push((vhost, error)),
                None => {}
            }
        }
        Ok(report)
    }
}
