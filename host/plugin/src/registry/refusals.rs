//! Files that were not taken: what an operator sees of them until they are replaced or removed.

use super::{LoadError, Registry, Stage};
use crate::{artifact::Digest, guest::shown, scope::Scope};
use leveret_model::Name;
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// How many refused files of one scope are remembered; of more the log tells.
const REFUSALS_MAX: usize = 1_000;

/// What was refused, by file.
#[derive(Default)]
pub(super) struct Refusals(Mutex<BTreeMap<PathBuf, Refusal>>);

struct Refusal {
    scope: Scope,
    error: LoadError,
    since: SystemTime,
}

/// A file that does not serve as it is, for people to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedInfo {
    /// The file, or a folder none of whose files is taken.
    pub path: PathBuf,
    /// For whom it would serve.
    pub scope: Scope,
    /// The virtual host that did not take it, where others did: it has the older version.
    pub vhost: Option<Name>,
    /// The stage it did not pass, and why.
    pub error: LoadError,
    /// When it was refused for that reason first.
    pub since: SystemTime,
    /// The version that serves instead, if any of the file does: as it describes itself, and of its bytes.
    pub serving: Option<(String, Digest)>,
}

impl RefusedInfo {
    /// The plugin that the file would be: its name without `.wasm`.
    #[must_use]
    pub fn plugin(&self) -> String {
        shown(&self.path.file_stem().unwrap_or_default().to_string_lossy())
    }
}

impl Refusals {
    /// Notes why a file is not taken. Where that is known it is known since then.
    pub(super) fn note(&self, scope: &Scope, path: &Path, error: &LoadError) {
        let mut refusals = self.0.lock();
        match refusals.get(path) {
            Some(known) if known.error == *error && known.scope == *scope => return,
            Some(_) => {}
            None if refusals.values().filter(|refusal| refusal.scope == *scope).count() >= REFUSALS_MAX => {
                return;
            }
            None => {}
        }
        let refusal = Refusal { scope: scope.clone(), error: error.clone(), since: SystemTime::now() };
        refusals.insert(path.to_path_buf(), refusal);
    }

    /// The file was taken, replaced or removed. False if nothing was known of it.
    pub(super) fn forget(&self, path: &Path) -> bool {
        self.0.lock().remove(path).is_some()
    }

    /// The stage that refused a file.
    pub(super) fn stage(&self, path: &Path) -> Option<Stage> {
        self.0.lock().get(path).map(|refusal| refusal.error.stage)
    }
}

impl Registry {
    /// Notes that a file, or all of a folder, is not taken before it could be offered.
    pub fn note_refused(&self, scope: &Scope, path: &Path, reason: &str) {
        self.refusals.note(scope, path, &LoadError::at(Stage::Read)(String::from(reason)));
    }

    /// What was noted of a file or folder holds no more.
    pub fn forget_refused(&self, path: &Path) {
        self.refusals.forget(path);
    }

    /// The stage that refused a file as it is, if one did.
    #[must_use]
    pub fn refused_at(&self, path: &Path) -> Option<Stage> {
        self.refusals.stage(path)
    }

    /// The file of a plugin that was refused.
    pub(super) fn refused_file(&self, scope: &Scope, plugin: &str) -> Option<PathBuf> {
        let refusals = self.refusals.0.lock();
        let of_plugin = |(path, refusal): &(&PathBuf, &Refusal)| {
            refusal.scope == *scope && super::plugin_of(path) == plugin
        };
        refusals.iter().find(of_plugin).map(|(path, _)| path.clone())
    }

    /// Every file that does not serve as it is, by its path; and those that serve for some virtual hosts
    /// and not for others, once for each of these; and what was to be a candidate.
    #[must_use]
    pub fn refused(&self) -> Vec<RefusedInfo> {
        let refusals = self.refusals.0.lock();
        let infos = refusals.iter().map(|(path, refusal)| RefusedInfo {
            path: path.clone(),
            scope: refusal.scope.clone(),
            vhost: None,
            error: refusal.error.clone(),
            since: refusal.since,
            serving: None,
        });
        let mut infos: Vec<RefusedInfo> = infos.collect();
        drop(refusals);
        infos.extend(self.candidates_refused());
        let files = self.files.lock();
        for info in &mut infos {
            let in_its_place = info.path.parent().and_then(Path::parent).map(|around| {
                // Of a candidate: the plugin's own file.
                around.join(info.path.file_name().unwrap_or_default())
            });
            let serving = files.get(&info.path).or_else(|| files.get(&in_its_place?));
            info.serving = serving.map(|it| (it.description.version.clone(), it.code.digest));
        }
        drop(files);
        infos.extend(self.held_back());
        infos.sort_by(|a, b| (&a.path, &a.vhost).cmp(&(&b.path, &b.vhost)));
        infos
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Guest, World};

    const FILE: &str = "guest.wasm";

    fn seen(world: &World) -> Vec<(Stage, Option<String>)> {
        let refused = world.host.registry().refused().into_iter();
        refused.map(|info| (info.error.stage, info.serving.map(|(version, _)| version))).collect()
    }

    #[test]
    fn a_refused_file_is_seen_until_it_is_replaced_or_removed() {
        let mut world = World::empty(1);
        world.offer(FILE, b"no component").unwrap_err();
        assert_eq!(seen(&world), [(Stage::Read, None)]);
        world.offer(FILE, &Guest::default().component()).unwrap();
        assert_eq!(seen(&world), []);

        world.declare(0, "x").unwrap();
        world.bind(0, "x", "refus2").unwrap();
        let unwilling = Guest { version: 2, refuses: "refus2", ..Guest::default() }.component();
        let error = world.offer(FILE, &unwilling).unwrap_err();
        let [info] = &world.host.registry().refused()[..] else { panic!("one file") };
        assert_eq!((&info.error, info.plugin().as_str(), &info.scope), (&error, "guest", &Scope::Global));
        assert_eq!(info.serving.clone().unwrap().0, "1", "what serves instead");
        // The same again is refused since then.
        world.offer(FILE, &unwilling).unwrap_err();
        assert_eq!(world.host.registry().refused()[0].since, info.since);
        world.host.registry().remove(Path::new(FILE)).unwrap();
        assert_eq!(seen(&world), []);
        // Also what never served.
        world.offer(FILE, b"no component").unwrap_err();
        assert!(world.host.registry().remove(Path::new(FILE)).is_none());
        assert_eq!(seen(&world), []);
    }

    #[test]
    fn what_one_vhost_is_refused_crowds_out_nobody_else() {
        let world = World::empty(1);
        for number in 0..=REFUSALS_MAX {
            world.offer_own("a", &format!("a/{number}.wasm"), b"no").unwrap_err();
        }
        assert_eq!(seen(&world).len(), REFUSALS_MAX);
        world.offer_own("b", "b/one.wasm", b"no").unwrap_err();
        assert_eq!(seen(&world).len(), REFUSALS_MAX + 1);
    }
}
