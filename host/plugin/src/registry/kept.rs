//! The versions that were in service, on disk: what a plugin can go back to.
//!
//! A directory for each plugin: `global/<plugin>` for one of all virtual hosts,
//! `vhosts/<virtual host>/<plugin>` for one of a virtual host's own, the virtual host's name as in
//! [`folder::name_of`], the plugin's its file's without `.wasm`. In it,
//! - `<digest>.wasm`: the component, the digest in 64 hexadecimal digits;
//! - `history`: a line for each of them, from the one furthest back: digest, a space, when it began
//!   to serve last in milliseconds since 1970, a space, the version by its own words. A line
//!   `removed` in front says that the plugin was taken out of service on purpose;
//! - `rolled-back`, if somebody went back from it: the digest of the file that is not to be taken;
//! - `forms`: which versions share their state, as in `forms.rs`;
//! - `types`: the names of the exchange types that the file provides, a line each.
//!
//! What was read is checked: a component against its digest, a line against this format.

use super::forms::Forms;
use crate::{
    artifact::{Digest, FILE_BYTES_MAX},
    folder,
    private_dir::PrivateDir,
    scope::Scope,
};
use leveret_model::Name;
use std::{
    ffi::OsStr,
    fmt, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How many versions of a plugin are kept, with the one that serves.
pub(super) const VERSIONS_MAX: usize = 3;
/// How much of a version's own words is kept, in bytes.
const VERSION_BYTES_MAX: usize = 200;

const HISTORY: &str = "history";
const HISTORY_BYTES_MAX: u64 = 8192;
const REMOVED: &str = "removed";
const ROLLED_BACK: &str = "rolled-back";
const FORMS: &str = "forms";
const FORMS_BYTES_MAX: u64 = 64 * 1024;
const TYPES: &str = "types";
const TYPES_BYTES_MAX: u64 = 64 * 1024;

const GLOBAL: &str = "global";
const VHOSTS: &str = "vhosts";

/// Which plugin: the same name is another plugin's in another scope.
#[derive(Clone, Copy, Debug)]
pub(super) struct PluginKey<'a> {
    pub(super) scope: &'a Scope,
    /// Its file's name without `.wasm`.
    pub(super) name: &'a OsStr,
}

impl<'a> PluginKey<'a> {
    /// The plugin that lies in this file.
    pub(super) fn of_file(scope: &'a Scope, path: &'a Path) -> Self {
        Self { scope, name: path.file_stem().unwrap_or_default() }
    }
}

impl fmt::Display for PluginKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} plugin {}", self.scope, self.name.display())
    }
}

/// The kept versions of all plugins.
pub(super) struct KeptVersions {
    root: PrivateDir,
}

/// A version that was in service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) digest: Digest,
    /// When it began to serve last.
    pub(super) since: SystemTime,
    pub(super) version: String,
}

/// The versions of one plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    /// Nothing is to serve until a file is offered.
    pub(super) removed: bool,
    /// From the one furthest back.
    pub(super) versions: Vec<Kept>,
}

impl History {
    /// The one that began to serve last.
    pub(super) fn last(&self) -> Option<&Kept> {
        self.versions.iter().max_by_key(|kept| kept.since)
    }

    /// The one to go back to from this one.
    pub(super) fn before(&self, serving: Digest) -> Option<&Kept> {
        match self.versions.iter().position(|kept| kept.digest == serving) {
            Some(at) => self.versions.get(at.checked_sub(1)?),
            None => self.last(),
        }
    }

    /// Whether the first came into service after the second, whatever was gone back from since. What is
    /// not known any more is older.
    pub(super) fn is_newer(&self, one: Digest, than: Digest) -> bool {
        let place = |digest| self.versions.iter().position(|kept| kept.digest == digest);
        place(one) > place(than)
    }

    /// A file went into service: it is the newest, and right before it comes the one that it
    /// replaced, whatever was given up between.
    fn offered(&mut self, digest: Digest, version: String) {
        self.removed = false;
        let last = self.last().map(|kept| kept.digest);
        if last == Some(digest) {
            return;
        }
        let since = self.now();
        if let Some(at) = self.versions.iter().position(|kept| Some(kept.digest) == last) {
            let last = self.versions.remove(at);
            self.versions.push(last);
        }
        self.versions.retain(|kept| kept.digest != digest);
        self.versions.push(Kept { digest, since, version });
        let surplus = self.versions.len().saturating_sub(VERSIONS_MAX);
        self.versions.drain(..surplus);
    }

    /// One that served before serves again, at its place in the order.
    fn went(&mut self, digest: Digest) {
        let since = self.now();
        if let Some(kept) = self.versions.iter_mut().find(|kept| kept.digest == digest) {
            kept.since = since;
        }
    }

    /// Later than all that is known, whatever the clock says; as exact as the file is.
    fn now(&self) -> SystemTime {
        let now = UNIX_EPOCH + Duration::from_millis(millis(SystemTime::now()));
        self.last().map_or(now, |last| now.max(last.since + Duration::from_millis(1)))
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        if self.removed {
            text.push_str(REMOVED);
            text.push('\n');
        }
        for kept in &self.versions {
            let mut version: String = kept.version.chars().filter(|c| !c.is_control()).collect();
            version.truncate(version.floor_char_boundary(VERSION_BYTES_MAX));
            text.push_str(&format!("{} {} {version}\n", hex(kept.digest), millis(kept.since)));
        }
        text
    }

    fn of_text(text: &str) -> Option<Self> {
        let mut history = Self::default();
        for line in text.lines() {
            if line == REMOVED {
                history.removed = true;
                continue;
            }
            let mut fields = line.splitn(3, ' ');
            let digest = Digest::of_hex(fields.next()?)?;
            let since = UNIX_EPOCH.checked_add(Duration::from_millis(fields.next()?.parse().ok()?))?;
            history.versions.push(Kept { digest, since, version: fields.next()?.to_owned() });
        }
        Some(history)
    }
}

impl KeptVersions {
    /// Those in this directory, made if it is not there.
    ///
    /// # Errors
    /// If it cannot be made, or others can reach it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { root: PrivateDir::open(path)? })
    }

    /// A file of this plugin went into service; whether it migrates state that others wrote. What fails is logged.
    pub(super) fn offered(
        &self,
        plugin: PluginKey<'_>,
        (digest, version, migrates): (Digest, &str, bool),
        component: &[u8],
    ) {
        logged(plugin, || {
            let dir = self.dir(plugin)?;
            let mut history = read_history(&dir);
            let before = history.clone();
            let known = read_forms(&dir);
            let mut forms = known.clone();
            forms.learn(digest, migrates, history.last().map(|last| last.digest));
            history.offered(digest, version.to_owned());
            forms.prune(|version| history.versions.iter().any(|kept| kept.digest == version));
            // Before the history, in which what came before it is looked up.
            if forms != known {
                dir.write(FORMS, &[forms.to_text().as_bytes()])?;
            }
            let file = file_name(digest);
            if dir.files()?.iter().all(|(name, _)| *name != file) {
                dir.write(&file, &[component])?;
            }
            if history != before {
                dir.write(HISTORY, &[history.to_text().as_bytes()])?;
            }
            dir.remove(ROLLED_BACK);
            for (name, _) in dir.files()? {
                let listed = history.versions.iter().any(|kept| name == file_name(kept.digest));
                if name.ends_with(".wasm") && !listed {
                    dir.remove(&name);
                }
            }
            Ok(())
        });
    }

    /// Somebody went to another version: `to` serves, and the file `from` is not to be taken. A file that was
    /// gone back from before is still the one that must not be taken: it lies there unchanged; it is taken
    /// again when somebody went to it.
    pub(super) fn went(&self, plugin: PluginKey<'_>, from: Digest, to: Digest) {
        logged(plugin, || {
            let dir = self.dir(plugin)?;
            let mut history = read_history(&dir);
            history.went(to);
            let refused = self.rolled_back(plugin);
            if refused == Some(to) {
                dir.remove(ROLLED_BACK);
            } else if refused.is_none() {
                dir.write(ROLLED_BACK, &[hex(from).as_bytes(), b"\n"])?;
            }
            dir.write(HISTORY, &[history.to_text().as_bytes()])
        });
    }

    /// The plugin was taken out of service on purpose.
    pub(super) fn removed(&self, plugin: PluginKey<'_>) {
        let Some(dir) = self.existing(plugin) else { return };
        logged(plugin, || {
            let history = History { removed: true, ..read_history(&dir) };
            dir.remove(ROLLED_BACK);
            dir.write(HISTORY, &[history.to_text().as_bytes()])
        });
    }

    /// What there is of a plugin.
    pub(super) fn history(&self, plugin: PluginKey<'_>) -> History {
        self.existing(plugin).map(|dir| read_history(&dir)).unwrap_or_default()
    }

    /// Which versions share their state.
    pub(super) fn forms(&self, plugin: PluginKey<'_>) -> Forms {
        self.existing(plugin).map(|dir| read_forms(&dir)).unwrap_or_default()
    }

    /// The file that is not to be taken.
    pub(super) fn rolled_back(&self, plugin: PluginKey<'_>) -> Option<Digest> {
        let text = self.existing(plugin)?.read(ROLLED_BACK, 65).ok()??;
        Digest::of_hex(std::str::from_utf8(&text).ok()?.trim_end())
    }

    /// The exchange types that the plugins of a scope provide, but for those that were removed.
    pub(super) fn provided(&self, scope: &Scope) -> Vec<(String, Vec<Name>)> {
        let Some(around) = self.around(scope) else { return Vec::new() };
        let dirs = std::fs::read_dir(&around).into_iter().flatten().flatten();
        let provided = dirs.filter_map(|dir| {
            let dir = PrivateDir::existing(&dir.path()).ok()?;
            let text = dir.read(TYPES, TYPES_BYTES_MAX).ok()??;
            let names = text.split(|byte| *byte == b'\n').filter(|name| !name.is_empty());
            let names = names.filter_map(|name| Name::new(name).ok()).collect();
            let plugin = dir.path().file_name()?.to_string_lossy().into_owned();
            (!read_history(&dir).removed).then_some((plugin, names))
        });
        provided.collect()
    }

    /// Notes which exchange types a plugin that is kept provides.
    pub(super) fn provides(&self, plugin: PluginKey<'_>, types: &[Name]) {
        let text: Vec<u8> = types.iter().flat_map(|name| [name.as_bytes(), b"\n"].concat()).collect();
        logged(plugin, || {
            let dir = self.dir(plugin)?;
            if dir.read(TYPES, TYPES_BYTES_MAX)?.as_ref() != Some(&text) {
                dir.write(TYPES, &[&text])?;
            }
            Ok(())
        });
    }

    /// Whether a component is kept.
    pub(super) fn has(&self, plugin: PluginKey<'_>, digest: Digest) -> bool {
        self.history(plugin).versions.iter().any(|kept| kept.digest == digest)
    }

    /// A kept component.
    ///
    /// # Errors
    /// Why it is not there.
    pub(super) fn read(&self, plugin: PluginKey<'_>, digest: Digest) -> Result<Vec<u8>, String> {
        let gone = || format!("the version {digest} is not kept any more");
        let dir = self.existing(plugin).ok_or_else(gone)?;
        let read = dir.read(&file_name(digest), FILE_BYTES_MAX);
        let component = read.map_err(|error| format!("the version {digest}: {error}"))?.ok_or_else(gone)?;
        if Digest::of(&component) != digest {
            return Err(format!("the version {digest} is damaged on disk"));
        }
        Ok(component)
    }

    /// The plugin's directory, and those around it, made if they are not there. Whoever writes holds
    /// the lock of the files that serve.
    fn dir(&self, plugin: PluginKey<'_>) -> io::Result<PrivateDir> {
        let place = self.place(plugin).ok_or(io::ErrorKind::InvalidInput)?;
        let around: Vec<&Path> =
            place.ancestors().skip(1).take_while(|dir| *dir != self.root.path()).collect();
        for dir in around.into_iter().rev() {
            PrivateDir::open(dir)?;
        }
        PrivateDir::open(&place)
    }

    /// The plugin's directory, if there is one; looking makes none.
    fn existing(&self, plugin: PluginKey<'_>) -> Option<PrivateDir> {
        let place = self.place(plugin).filter(|place| place.is_dir())?;
        PrivateDir::existing(&place)
            .inspect_err(|error| tracing::warn!(target: "leveret::plugin", "{}: {error}", place.display()))
            .ok()
    }

    /// Where the plugins of a scope are.
    fn around(&self, scope: &Scope) -> Option<PathBuf> {
        let root = self.root.path();
        match scope {
            Scope::Global => Some(root.join(GLOBAL)),
            Scope::Vhost(vhost) => Some(root.join(VHOSTS).join(folder::name_of(vhost))),
            Scope::Shipped => None,
        }
    }

    /// Where a plugin's versions are. Nothing for what is no name of a file, and for what came with the
    /// broker.
    fn place(&self, plugin: PluginKey<'_>) -> Option<PathBuf> {
        let PluginKey { scope, name } = plugin;
        let dir = self.around(scope)?;
        let is_name = Path::new(name).file_name() == Some(name);
        is_name.then(|| dir.join(name))
    }
}

fn read_history(dir: &PrivateDir) -> History {
    let read = || {
        let Some(text) = dir.read(HISTORY, HISTORY_BYTES_MAX)? else { return Ok(History::default()) };
        let history = String::from_utf8(text).ok().and_then(|text| History::of_text(&text));
        history.ok_or_else(|| io::Error::other("it is damaged"))
    };
    read().unwrap_or_else(|error: io::Error| {
        let file = dir.path().join(HISTORY);
        tracing::warn!(target: "leveret::plugin", "older versions are forgotten: {}: {error}", file.display());
        History::default()
    })
}

fn read_forms(dir: &PrivateDir) -> Forms {
    let read = || {
        let Some(text) = dir.read(FORMS, FORMS_BYTES_MAX)? else { return Ok(Forms::default()) };
        let forms = String::from_utf8(text).ok().and_then(|text| Forms::of_text(&text));
        forms.ok_or_else(|| io::Error::other("it is damaged"))
    };
    read().unwrap_or_else(|error: io::Error| {
        let file = dir.path().join(FORMS);
        tracing::warn!(
            target: "leveret::plugin", "which versions share their state is forgotten: {}: {error}", file.display()
        );
        Forms::default()
    })
}

fn logged(plugin: PluginKey<'_>, change: impl FnOnce() -> io::Result<()>) {
    if let Err(error) = change() {
        tracing::warn!(
            target: "leveret::plugin",
            "what serves of {plugin} is not kept for later: {error}"
        );
    }
}

fn file_name(digest: Digest) -> String {
    format!("{}.wasm", hex(digest))
}

fn hex(digest: Digest) -> String {
    digest.to_hex()
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    fn key(plugin: &str) -> PluginKey<'_> {
        PluginKey { scope: &Scope::Global, name: OsStr::new(plugin) }
    }

    fn offered(names: &[&str]) -> History {
        let mut history = History::default();
        names.iter().for_each(|name| history.offered(digest(name), (*name).to_owned()));
        history
    }

    fn order(history: &History) -> Vec<&str> {
        history.versions.iter().map(|kept| kept.version.as_str()).collect()
    }

    #[test]
    fn the_last_three_are_known() {
        let mut history = offered(&["1", "2", "2", "3"]);
        assert_eq!(order(&history), ["1", "2", "3"]);
        history.offered(digest("4"), String::from("4"));
        assert_eq!(order(&history), ["2", "3", "4"]);
        // An older file again is the newest.
        history.offered(digest("2"), String::from("2"));
        assert_eq!(order(&history), ["3", "4", "2"]);
    }

    #[test]
    fn going_back_goes_further_each_time_and_a_new_file_comes_after_what_served() {
        let mut history = offered(&["1", "2", "3"]);
        for (from, to) in [("3", "2"), ("2", "1")] {
            assert_eq!(history.before(digest(from)).unwrap().version, to);
            history.went(digest(to));
            assert_eq!(history.last().unwrap().version, to);
        }
        assert!(history.before(digest("1")).is_none());
        history.offered(digest("4"), String::from("4"));
        assert_eq!(order(&history), ["3", "1", "4"]);
    }

    #[test]
    fn the_format_of_the_history_stays() {
        let text = format!("removed\n{} 1700000000123 1.0 beta\n{} 5 \n", "0a".repeat(32), "ff".repeat(32));
        let history = History::of_text(&text).unwrap();
        assert!(history.removed);
        let first = &history.versions[0];
        assert_eq!((first.digest, first.version.as_str()), (Digest([10; 32]), "1.0 beta"));
        assert_eq!(millis(first.since), 1_700_000_000_123);
        assert_eq!(history.to_text(), text);
        for damaged in ["x", "00 1 v", &format!("{} x v", "00".repeat(32)), &"00".repeat(32)] {
            assert!(History::of_text(damaged).is_none(), "{damaged}");
        }
    }

    #[test]
    fn components_are_kept_as_long_as_they_are_known_and_checked() {
        let scratch = Scratch::new();
        let kept = KeptVersions::open(&scratch.path().join("kept")).unwrap();
        let plugin = key("p");
        for bytes in ["1", "2", "3", "4"] {
            kept.offered(plugin, (digest(bytes), bytes, false), bytes.as_bytes());
        }
        assert_eq!(order(&kept.history(plugin)), ["2", "3", "4"]);
        assert!(kept.read(plugin, digest("1")).unwrap_err().contains("not kept any more"));
        assert_eq!(kept.read(plugin, digest("2")).unwrap(), b"2");
        kept.dir(plugin).unwrap().write(&file_name(digest("2")), &[b"x"]).unwrap();
        assert!(kept.read(plugin, digest("2")).unwrap_err().contains("damaged"));
        kept.dir(plugin).unwrap().write(HISTORY, &[b"nonsense"]).unwrap();
        assert_eq!(kept.history(plugin), History::default());
    }

    #[test]
    fn plugins_of_one_name_are_kept_apart_by_their_scope() {
        let scratch = Scratch::new();
        let root = scratch.path().join("kept");
        let kept = KeptVersions::open(&root).unwrap();
        let vhosts = ["/", "global", "vhosts"].map(|vhost| Scope::Vhost(Name::from_static(vhost)));
        let scopes: Vec<&Scope> = [&Scope::Global].into_iter().chain(&vhosts).collect();
        let name = OsStr::new("p");
        for (number, scope) in scopes.iter().enumerate() {
            let bytes = number.to_string();
            kept.offered(PluginKey { scope, name }, (digest(&bytes), &bytes, false), bytes.as_bytes());
        }
        for (number, scope) in scopes.iter().enumerate() {
            let plugin = PluginKey { scope, name };
            assert_eq!(order(&kept.history(plugin)), [number.to_string()]);
            assert_eq!(
                kept.read(plugin, digest(&number.to_string())).unwrap(),
                number.to_string().as_bytes()
            );
        }
        kept.went(PluginKey { scope: scopes[1], name }, digest("1"), digest("1"));
        kept.removed(PluginKey { scope: scopes[2], name });
        let chosen = |scope| kept.rolled_back(PluginKey { scope, name }).is_some();
        let removed = |scope| kept.history(PluginKey { scope, name }).removed;
        assert_eq!(scopes.iter().map(|scope| chosen(scope)).collect::<Vec<_>>(), [false, true, false, false]);
        assert_eq!(
            scopes.iter().map(|scope| removed(scope)).collect::<Vec<_>>(),
            [false, false, true, false]
        );
        for dir in ["global/p", "vhosts/%2F/p", "vhosts/vhosts/p", "vhosts/global"] {
            PrivateDir::existing(&root.join(dir)).unwrap();
        }
        kept.offered(PluginKey { scope: &Scope::Shipped, name }, (digest("1"), "1", false), b"1");
        assert_eq!(kept.history(PluginKey { scope: &Scope::Shipped, name }), History::default());
    }

    #[test]
    fn names_that_lead_elsewhere_are_none() {
        let scratch = Scratch::new();
        let kept = KeptVersions::open(&scratch.path().join("kept")).unwrap();
        for name in ["..", ".", "", "a/b", "../p.wasm", "/p.wasm", "p.wasm/"] {
            assert!(kept.place(key(name)).is_none(), "{name}");
        }
    }
}
