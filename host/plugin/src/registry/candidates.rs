//! Versions that are tried beside the one that serves: how they come, stand and go.
//!
//! A candidate passes all stages that a file passes, up to replay, and is not swapped in. Its plugin's
//! exchanges are told (a generation each), so that every worker finds it; how it stands from then on
//! workers read from it ([`crate::candidate`]). It becomes the serving version by the registry's one
//! swap, through all stages again.

use super::{
    LoadError, LoadReport, RefusedInfo, Registry, Stage, plugin_of,
    reload::{Examined, File, Files},
    replay::LeftOut,
};
use crate::{
    artifact::{self, Digest},
    builder::Place,
    candidate::{Arm, Candidate, CandidateInfo, Share},
    engine::CodeStrategy,
    scope::Scope,
    services::Services,
    version::{Version, VersionId},
};
use hashbrown::HashMap;
use leveret_broker::exchange::Exchange;
use leveret_model::Name;
use parking_lot::RwLock;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use wasmtime::component::Component;

/// The folder within a plugins folder for versions that are tried beside those that serve.
pub const CANDIDATES: &str = "candidates";

/// The candidates of all plugins, by scope and the plugin's name.
#[derive(Default)]
pub(super) struct Candidates(RwLock<HashMap<(Scope, String), Slot>>);

/// What is known of a plugin's candidate.
struct Slot {
    /// The file that serves.
    path: PathBuf,
    candidate: Option<Arc<Candidate>>,
    /// The last file, if it was not taken, and since when.
    refused: Option<(LoadError, SystemTime)>,
}

impl Candidates {
    fn of(&self, scope: &Scope, plugin: &str) -> Option<Arc<Candidate>> {
        self.0.read().get(&(scope.clone(), String::from(plugin)))?.candidate.clone()
    }

    /// Whether that version is a candidate.
    pub(super) fn has(&self, id: VersionId) -> bool {
        self.0.read().values().filter_map(|slot| slot.candidate.as_ref()).any(|c| c.version.id == id)
    }

    /// The versions that answer for a part of a virtual host's messages, by type.
    pub(super) fn canaries_in(&self, vhost: &Name) -> Vec<(Name, Arc<Version>)> {
        let slots = self.0.read();
        let candidates = slots.iter().filter(|((scope, _), _)| match scope {
            Scope::Vhost(own) => own == vhost,
            Scope::Global | Scope::Shipped => true,
        });
        let candidates = candidates.filter_map(|(_, slot)| slot.candidate.as_ref());
        let canaries =
            candidates.filter(|it| matches!(it.arm(vhost), Arm::Canary(_)) && !it.leaves_out(vhost));
        canaries.flat_map(|it| it.names.iter().map(|name| (name.clone(), it.version.clone()))).collect()
    }

    /// A virtual host is gone.
    pub(super) fn forget_vhost(&self, vhost: &Name) {
        let slots = self.0.read();
        slots.values().filter_map(|slot| slot.candidate.as_ref()).for_each(|it| it.forget_vhost(vhost));
    }

    fn change(&self, scope: &Scope, path: &Path, change: impl FnOnce(&mut Slot)) {
        let key = (scope.clone(), plugin_of(path));
        let mut slots = self.0.write();
        change(slots.entry(key).or_insert_with(|| Slot {
            path: path.to_path_buf(),
            candidate: None,
            refused: None,
        }));
    }

    fn take(&self, scope: &Scope, plugin: &str) -> Option<Slot> {
        self.0.write().remove(&(scope.clone(), String::from(plugin)))
    }
}

impl Registry {
    /// Offers a file as the candidate of the plugin whose file is `path`: if it passes every stage it is in
    /// shadow when this returns, in place of an older candidate. What serves is not touched. Takes as
    /// long as compiling and replaying take.
    ///
    /// # Errors
    /// The stage that refused it and why; [`Stage::Swap`] if no such plugin serves, or the same bytes do.
    /// An older candidate stays as it was.
    pub fn offer_candidate(&self, scope: &Scope, path: &Path, bytes: &[u8]) -> Result<(), LoadError> {
        match self.offer_candidate_unlogged(scope, path, bytes) {
            Ok(Some(candidate)) => {
                tracing::info!(
                    target: "leveret::plugin",
                    path = %path.display(), %scope, digest = %candidate.version.code.digest,
                    version = candidate.version.description.version, types = ?candidate.names,
                    "the candidate is in shadow"
                );
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => {
                self.refuse_candidate(scope, path, &error);
                Err(error)
            }
        }
    }

    /// Notes that the file of a candidate was refused, before it could be offered or after.
    pub fn refuse_candidate(&self, scope: &Scope, path: &Path, error: &LoadError) {
        self.candidates.change(scope, path, |slot| {
            let known = slot.refused.take().filter(|(known, _)| known == error);
            slot.refused = Some(known.unwrap_or_else(|| (error.clone(), SystemTime::now())));
        });
        tracing::warn!(
            target: "leveret::plugin",
            path = %path.display(), %scope, stage = %error.stage,
            "the candidate was not taken: {}", error.reason
        );
    }

    /// `None` if it is the candidate already.
    fn offer_candidate_unlogged(
        &self,
        scope: &Scope,
        path: &Path,
        bytes: &[u8],
    ) -> Result<Option<Arc<Candidate>>, LoadError> {
        artifact::check(bytes).map_err(|error| LoadError::at(Stage::Read)(error.to_string()))?;
        let digest = Digest::of(bytes);
        let known = self.candidates.of(scope, &plugin_of(path));
        if known.is_some_and(|known| known.version.code.digest == digest) {
            self.candidates.change(scope, path, |slot| slot.refused = None);
            return Ok(None);
        }
        check_base(&self.files.lock(), scope, path, digest).map_err(LoadError::at(Stage::Swap))?;
        let (strategy, component) = self.compile_best(digest, bytes)?;
        let _change = self.changing.begin_file(scope, path);
        check_base(&self.files.lock(), scope, path, digest).map_err(LoadError::at(Stage::Swap))?;
        let examined = self.examine(&File { scope, path, digest }, strategy, &component)?;
        let Examined { mut version, names } = examined;
        version.on_trial = true;
        let version = Arc::new(version);
        // Whether it takes what is there; the shadow makes its own instance.
        let (_, left_out) = self.rehearse(&version, &names, 1)?;
        let services = Arc::new(Services {
            accounts: self.services.accounts.beside(),
            form: self.services.form,
            ..Services::default()
        });
        let candidate = Arc::new(Candidate::new(version, names, (component, strategy), services));
        leave_out(&candidate, left_out);
        let mut before = None;
        self.candidates.change(scope, path, |slot| {
            (before, slot.refused) = (slot.candidate.replace(candidate.clone()), None);
        });
        self.end(before.as_ref());
        self.tell_exchanges_of(scope, &plugin_of(path));
        Ok(Some(candidate))
    }

    /// The candidate of a plugin is no candidate any more: its file is gone, or somebody wants it. What
    /// serves is not touched. False if there is none, and no file was refused either.
    pub fn withdraw_candidate(&self, scope: &Scope, plugin: &str) -> bool {
        let Some(slot) = self.candidates.take(scope, plugin) else {
            return false;
        };
        if let Some(candidate) = &slot.candidate {
            self.end(Some(candidate));
            tracing::info!(
                target: "leveret::plugin",
                plugin, %scope, digest = %candidate.version.code.digest,
                "the candidate is withdrawn"
            );
        }
        true
    }

    /// From now on the candidate of a plugin answers for a share of routing keys, in all virtual hosts or
    /// one; in the others it stays in shadow.
    ///
    /// # Errors
    /// [`Stage::Read`] if there is no candidate, [`Stage::Policy`] if it cannot be a canary,
    /// [`Stage::Replay`] if it does not take what is there by now. Nothing has changed then.
    pub fn canary(
        &self,
        scope: &Scope,
        plugin: &str,
        share: Share,
        vhost: Option<&Name>,
    ) -> Result<(), LoadError> {
        let candidate = self.candidate(scope, plugin)?;
        let cannot = |why: &str| Err(LoadError::at(Stage::Policy)(String::from(why)));
        if candidate.names.is_empty() {
            return cannot("it provides no exchange type; interceptors change when it is promoted");
        }
        if candidate.version.code.exported.migrate {
            return cannot(
                "it migrates the state of the version that serves, which goes on using it; a version that \
                 migrates can be watched in shadow, and promoted",
            );
        }
        let _change = self.changing.begin(scope, plugin);
        let (version, workers) = (&candidate.version, self.mailboxes.len().max(1));
        let (replayed, left_out) = self.rehearse(version, &candidate.names, workers)?;
        if let Some((_, why)) = left_out.iter().find(|(there, _)| Some(there) == vhost) {
            return Err(LoadError::at(Stage::Replay)(why.clone()));
        }
        // From an earlier call.
        self.mailboxes.iter().for_each(|mailbox| mailbox.discard(version.id));
        for replayed in replayed {
            self.hand_to_workers(replayed, |place: &Place| vhost.is_none_or(|vhost| place.vhost == *vhost));
        }
        leave_out(&candidate, left_out);
        // Those that were left out before are asked from now on, or the other way round.
        self.tell_exchanges_of(scope, plugin);
        candidate.to_canary(share, vhost.cloned());
        self.providers.changed();
        tracing::info!(
            target: "leveret::plugin",
            plugin, %scope, digest = %candidate.version.code.digest, %share,
            vhost = vhost.map(tracing::field::display), "the candidate is a canary"
        );
        Ok(())
    }

    /// The candidate of a plugin is in shadow again, also one that was withdrawn by itself.
    ///
    /// # Errors
    /// [`Stage::Read`] if there is no candidate.
    pub fn shadow(&self, scope: &Scope, plugin: &str) -> Result<(), LoadError> {
        let candidate = self.candidate(scope, plugin)?;
        candidate.to_shadow();
        tracing::info!(
            target: "leveret::plugin",
            plugin, %scope, digest = %candidate.version.code.digest, "the candidate is in shadow again"
        );
        Ok(())
    }

    /// Puts the candidate of a plugin into service, by all stages after compiling and the one swap; it is
    /// no candidate then. `bytes` are those of its file, which the caller moves to the place of the file
    /// that served.
    ///
    /// # Errors
    /// The stage that refused it and why. What served serves on, and the candidate stays as it was.
    pub fn promote(
        self: &Arc<Self>,
        scope: &Scope,
        plugin: &str,
        bytes: &[u8],
    ) -> Result<LoadReport, LoadError> {
        let candidate = self.candidate(scope, plugin)?;
        let digest = candidate.version.code.digest;
        if Digest::of(bytes) != digest {
            return Err(LoadError::at(Stage::Read)(String::from(
                "the file in the candidates folder is another one by now; wait until it was examined",
            )));
        }
        let path =
            self.candidates.0.read().get(&(scope.clone(), String::from(plugin))).map(|s| s.path.clone());
        let path = path.ok_or_else(|| no_candidate(plugin))?;
        let change = self.changing.begin_file(scope, &path);
        check_base(&self.files.lock(), scope, &path, digest).map_err(LoadError::at(Stage::Swap))?;
        let turn = self.turns.begin(&path);
        let file = File { scope, path: &path, digest };
        let (strategy, component) = (candidate.strategy, &candidate.component);
        let loaded = self.put_into_service(&change, &file, strategy, component, Duration::ZERO)?;
        turn.settle();
        self.keep(&loaded, bytes);
        drop((turn, change));
        tracing::info!(
            target: "leveret::plugin",
            path = %path.display(), %scope, %digest, version = loaded.version,
            exchanges = loaded.exchanges, bindings = loaded.bindings,
            replay_ms = loaded.replay_time.as_millis(), "the candidate serves"
        );
        if strategy == CodeStrategy::Winch {
            self.upgrade_later(scope, &path, digest, bytes);
        }
        Ok(loaded)
    }

    /// The candidates of all plugins, those whose file was refused too, by scope and name.
    #[must_use]
    pub fn candidates(&self) -> Vec<CandidateInfo> {
        let slots = self.candidates.0.read();
        let known = slots.iter().map(|((scope, plugin), slot)| {
            let info = CandidateInfo {
                scope: scope.clone(),
                plugin: plugin.clone(),
                path: slot.path.clone(),
                state: None,
                refused: slot.refused.as_ref().map(|(error, _)| error.clone()),
            };
            (info, slot.candidate.clone())
        });
        let known: Vec<_> = known.collect();
        drop(slots);
        let info = |(info, candidate): (CandidateInfo, Option<Arc<Candidate>>)| {
            let state = candidate.map(|candidate| {
                let exchanges = self.exchanges_of_plugin(&info.scope, &info.plugin);
                let mut vhosts: Vec<Name> = exchanges.iter().map(|exchange| exchange.vhost.clone()).collect();
                vhosts.dedup();
                candidate.state_among(&vhosts)
            });
            CandidateInfo { state, ..info }
        };
        let mut all: Vec<CandidateInfo> = known.into_iter().map(info).collect();
        all.sort_by(|a, b| (&a.scope, &a.plugin).cmp(&(&b.scope, &b.plugin)));
        all
    }

    /// Files that were to be candidates and were not taken.
    pub(super) fn candidates_refused(&self) -> Vec<RefusedInfo> {
        let slots = self.candidates.0.read();
        let info = |((scope, _), slot): (&(Scope, String), &Slot)| {
            let (error, since) = slot.refused.clone()?;
            let around = slot.path.parent().unwrap_or(Path::new(""));
            let file = slot.path.file_name().unwrap_or_default();
            // What serves beside it is found by the file that serves.
            let serving = None;
            let path = around.join(CANDIDATES).join(file);
            Some(RefusedInfo { path, scope: scope.clone(), vhost: None, error, since, serving })
        };
        slots.iter().filter_map(info).collect()
    }

    /// The candidate beside the version that serves a type of an exchange, if it can be asked about that.
    pub(crate) fn candidate_for(
        &self,
        exchange: &Exchange,
        type_name: &[u8],
        serving: &Version,
    ) -> Option<Arc<Candidate>> {
        if serving.code.builtin || self.pins.has(exchange.id, type_name) {
            return None;
        }
        let candidate = self.candidates.of(&serving.scope, &serving.code.plugin)?;
        let version = &candidate.version;
        let vhost = &exchange.vhost;
        let can = version.describes(type_name).is_some()
            && version.not_granted(vhost).is_none()
            && !candidate.leaves_out(vhost);
        can.then_some(candidate)
    }

    /// A version is about to take the place of another: its candidate is compared with it from now on, or
    /// is the same.
    pub(super) fn serving_changed(&self, version: &Version) {
        let (scope, plugin) = (&version.scope, &version.code.plugin);
        match self.candidates.of(scope, plugin) {
            Some(candidate) if candidate.version.code.digest == version.code.digest => {
                version.inherit(&candidate.version);
                self.candidates.take(scope, plugin);
                self.end(Some(&candidate));
            }
            Some(candidate) => candidate.start_anew(),
            None => {}
        }
    }

    /// The code of the better compiler if it has any, for versions that nobody waits for.
    pub(super) fn compile_best(
        &self,
        digest: Digest,
        bytes: &[u8],
    ) -> Result<(CodeStrategy, Component), LoadError> {
        let began = Instant::now();
        match self.compiler.compile(CodeStrategy::Cranelift, digest, bytes) {
            Ok(component) => Ok((CodeStrategy::Cranelift, component)),
            Err(error) => {
                tracing::debug!(
                    target: "leveret::plugin", ms = began.elapsed().as_millis(),
                    "Cranelift does not compile this version: {error}"
                );
                self.compile(digest, bytes)
            }
        }
    }

    fn candidate(&self, scope: &Scope, plugin: &str) -> Result<Arc<Candidate>, LoadError> {
        self.candidates.of(scope, plugin).ok_or_else(|| no_candidate(plugin))
    }

    fn end(&self, candidate: Option<&Arc<Candidate>>) {
        if let Some(candidate) = candidate {
            candidate.to_gone();
            self.mailboxes.iter().for_each(|mailbox| mailbox.discard(candidate.version.id));
        }
    }

    /// The next generation for all exchanges that a plugin serves, so that all that is known of who serves
    /// them is looked up again.
    fn tell_exchanges_of(&self, scope: &Scope, plugin: &str) {
        self.exchanges_of_plugin(scope, plugin).iter().for_each(|exchange| exchange.type_changed());
    }
}

/// The virtual hosts that do not take a candidate have none.
fn leave_out(candidate: &Candidate, left_out: LeftOut) {
    for (vhost, why) in &left_out {
        tracing::warn!(
            target: "leveret::plugin",
            plugin = candidate.version.code.plugin, %vhost, digest = %candidate.version.code.digest,
            "the virtual host does not take the candidate, which is not asked there: {why}"
        );
    }
    candidate.leave_out(left_out);
}

fn no_candidate(plugin: &str) -> LoadError {
    LoadError::at(Stage::Read)(format!("the plugin {plugin} has no candidate"))
}

/// A candidate is one of a plugin that serves, and another version than that.
fn check_base(files: &Files, scope: &Scope, path: &Path, digest: Digest) -> Result<(), String> {
    match files.get(path).filter(|serving| serving.scope == *scope) {
        None => Err(format!(
            "there is no plugin {} in service whose candidate it could be; put it into the plugins folder itself",
            plugin_of(path)
        )),
        Some(serving) if serving.code.digest == digest => {
            Err(String::from("this very version serves already"))
        }
        Some(_) => Ok(()),
    }
}
