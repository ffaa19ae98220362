//! What an operator should know before messages fail: names in the configuration that nobody has, plugins that are
//! not granted what they import, and types that exchanges have from before the start and nobody provides.

use super::{InterceptorInfo, Registry};
use crate::{
    attachment::Attachment,
    policy::PluginRules,
    scope::{CORE_TYPES, Scope},
    version::Version,
};
use leveret_model::Name;
use std::{
    fmt::{self, Write},
    sync::Arc,
    time::Instant,
};

/// How many names are listed where one is wrong.
const NAMES_MAX: usize = 10;

/// Something that will not work as the configuration says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// The kind of it.
    pub about: WarningAbout,
    /// What and where, for people to read.
    pub text: String,
    /// What there is instead, or what to do, for people to read.
    pub hint: String,
}

/// The kind of a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WarningAbout {
    /// An interceptor is attached that no plugin provides there.
    NoInterceptor,
    /// The configuration speaks of a plugin that is not there, or exchanges from before the start have its type.
    NoPlugin,
    /// A plugin imports what it is not granted.
    NotGranted,
}

/// `text: hint`.
impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.text, self.hint)
    }
}

impl Registry {
    /// What an operator should know, as it is now; each once, sorted.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for attachment in self.attachments().all() {
            if let Some((why, hint)) = self.without_interceptor(&attachment) {
                let text = format!("[[intercept]] {}: {why}", attachment.rule);
                warnings.push(Warning { about: WarningAbout::NoInterceptor, text, hint });
            }
        }
        let versions = self.providing();
        self.without_plugin(&versions, &mut warnings);
        versions.iter().for_each(|version| self.without_grant(version, &mut warnings));
        self.without_type(&mut warnings);
        warnings.sort();
        warnings.dedup();
        warnings
    }

    /// Logs the [`Self::warnings`] that there were not the last time. To be called when all files that are
    /// there were noted; from then on it is done again after each that changed.
    pub fn review(&self) {
        let now = self.warnings();
        let before = self.warned.lock().replace(now.clone()).unwrap_or_default();
        self.reviewed.notify_all();
        // What there is instead may change while what is wrong stays.
        let is_known =
            |warning: &Warning| before.iter().any(|it| it.about == warning.about && it.text == warning.text);
        for warning in now.iter().filter(|warning| !is_known(warning)) {
            tracing::warn!(target: "leveret::plugin", "{warning}");
        }
    }

    /// Waits until all files that were there at the start have been looked at. False if that takes until then.
    pub fn wait_until_reviewed(&self, until: Instant) -> bool {
        let mut warned = self.warned.lock();
        !self.reviewed.wait_while_until(&mut warned, |warned| warned.is_none(), until).timed_out()
    }

    /// The same after a file was looked at.
    pub(super) fn review_again(&self) {
        if self.warned.lock().is_some() {
            self.review();
        }
    }

    /// Why nobody is asked at an attachment, if no plugin provides its interceptor there, and a hint.
    pub(super) fn without_interceptor(&self, attachment: &Attachment) -> Option<(String, String)> {
        let (rule, vhost) = (&attachment.rule, &attachment.vhost);
        let wanted = &rule.interceptor;
        self.provider_of(attachment).err()?;
        let reaches = |scope: &Scope| match scope {
            Scope::Vhost(own) => own == vhost && rule.vhost.is_some(),
            Scope::Global | Scope::Shipped => true,
        };
        let all = self.interceptors();
        let text = format!("no plugin provides the interceptor '{wanted}'");
        let may_use =
            |info: &InterceptorInfo| self.policies.of(&info.scope, Some(vhost), &info.plugin).allowed;
        let mut named: Vec<&InterceptorInfo> = all.iter().filter(|info| info.name == *wanted).collect();
        named.sort_by_key(|info| !reaches(&info.scope));
        Some(match named.first() {
            Some(info) if reaches(&info.scope) && may_use(info) => {
                let slots = self.slots.read();
                let refused = slots.hold_of(vhost, &info.plugin).and_then(|hold| hold.refused.as_ref());
                let why = refused.map_or_else(|| String::from("not tried yet"), |it| it.error.to_string());
                (
                    format!("{text} in vhost '{vhost}'"),
                    format!("what there is of its plugin '{}' was {why}", info.plugin),
                )
            }
            Some(info) if reaches(&info.scope) => (
                format!("{text} that vhost '{vhost}' may use"),
                format!("add {:?} to allow in [vhost.\"{vhost}\"]", info.plugin),
            ),
            Some(info) => {
                (format!("{text} there"), format!("the plugin '{}' is of {} alone", info.plugin, info.scope))
            }
            None => {
                let there = all.iter().filter(|info| reaches(&info.scope)).map(|info| info.name.as_str());
                (text, instead(wanted, there, "interceptors"))
            }
        })
    }

    /// The versions that serve types or provide interceptors, each once.
    pub(super) fn providing(&self) -> Vec<Arc<Version>> {
        let mut versions: Vec<Arc<Version>> =
            self.slots.read().serving().map(|(_, _, version)| version.clone()).collect();
        versions.extend(self.interceptor_versions());
        versions.sort_by_key(|version| version.id);
        versions.dedup_by_key(|version| version.id);
        versions
    }

    /// Says of each name of a plugin in the configuration that no plugin has it.
    fn without_plugin(&self, versions: &[Arc<Version>], warnings: &mut Vec<Warning>) {
        let rules = self.policies.rules();
        let reaches = |version: &Version, vhost: Option<&Name>| match &version.scope {
            Scope::Vhost(own) => Some(own) == vhost,
            Scope::Global | Scope::Shipped => true,
        };
        let mut look_for = |plugin: &str, vhost: Option<&Name>, place: String| {
            let there = || versions.iter().filter(|version| reaches(version, vhost));
            if !there().any(|version| version.code.plugin == plugin) {
                let names = there().map(|version| version.code.plugin.as_str());
                let hint = instead(plugin, names.filter(|name| !CORE_TYPES.contains(name)), "plugins");
                let text = format!("{place}: there is no plugin '{plugin}' in service");
                warnings.push(Warning { about: WarningAbout::NoPlugin, text, hint });
            }
        };
        for plugin in rules.plugins.keys() {
            look_for(plugin, None, format!("[plugins.{plugin:?}]"));
        }
        for (vhost, there) in &rules.vhosts {
            for plugin in there.plugins.keys() {
                look_for(plugin, Some(vhost), table(Some(vhost), plugin));
            }
            for plugin in there.allow.iter().flatten() {
                look_for(plugin, None, format!("allow in [vhost.\"{vhost}\"]"));
            }
        }
    }

    /// Where a version is not granted what it imports: everywhere that it may be used, or where it is.
    fn without_grant(&self, version: &Arc<Version>, warnings: &mut Vec<Warning>) {
        let imports = version.code.exported.imports;
        if imports.is_empty() {
            return;
        }
        let missing = |vhost: &Name| imports.without(version.policy(vhost).grants);
        let vhosts = self.vhosts_of(version);
        let everywhere = vhosts.iter().all(|vhost| !missing(vhost).is_empty());
        for vhost in vhosts.iter().filter(|vhost| !missing(vhost).is_empty()) {
            if everywhere || self.uses(version, vhost) {
                let (plugin, missing) = (&version.code.plugin, missing(vhost));
                let text = format!(
                    "the plugin '{plugin}' cannot serve vhost '{vhost}' without being granted {missing}"
                );
                let hint = format!("set {}", self.grants_to_set(version, vhost));
                warnings.push(Warning { about: WarningAbout::NotGranted, text, hint });
            }
        }
    }

    /// The virtual hosts that may use a version, of those that have exchanges, which all have from their start.
    pub(super) fn vhosts_of(&self, version: &Version) -> Vec<Name> {
        let mut vhosts: Vec<Name> = self.slots.read().vhosts().cloned().collect();
        vhosts.retain(|vhost| {
            let policy = version.policy(vhost);
            let own = if let Scope::Vhost(own) = &version.scope { own == vhost } else { true };
            own && policy.allowed && policy.enabled
        });
        vhosts
    }

    /// Whether a virtual host has exchanges of a version's types, or attaches one of its interceptors.
    fn uses(&self, version: &Version, vhost: &Name) -> bool {
        let attached = || {
            let mut here = self.attachments().all().into_iter().filter(|it| it.vhost == *vhost);
            here.any(|it| self.provider_of(&it).is_ok_and(|provider| provider.id == version.id))
        };
        let groups = self.slots.read().groups_for_types(version);
        groups.iter().any(|group| group.vhost == *vhost) || attached()
    }

    /// The key and the table that grant a version all that it imports in a virtual host, as they are written.
    pub(super) fn grants_to_set(&self, version: &Version, vhost: &Name) -> String {
        let plugin = version.code.plugin.as_str();
        let grants = version.policy(vhost).grants.iter().chain(version.code.exported.imports.iter());
        let mut names: Vec<&str> = grants.map(|capability| capability.name()).collect();
        names.sort_unstable();
        names.dedup();
        let here = self.policies.rules().vhosts.get(vhost).and_then(|there| there.plugins.get(plugin));
        // What is said there replaces what is said everywhere.
        let said_there = here.is_some_and(|rules: &PluginRules| rules.grants.is_some());
        let own = matches!(version.scope, Scope::Vhost(_));
        let table = table((own || said_there).then_some(vhost), plugin);
        format!("grants = {names:?} in {table} of the configuration file, which is read at the start")
    }
}

/// The table of a plugin in the configuration, everywhere or in a virtual host.
pub(super) fn table(vhost: Option<&Name>, plugin: &str) -> String {
    match vhost {
        Some(vhost) => format!("[vhost.\"{vhost}\".plugins.{plugin:?}]"),
        None => format!("[plugins.{plugin:?}]"),
    }
}

/// `there are 'a', 'b'`, those first that are spelt most like the one that is not there.
fn instead<'a>(wanted: &str, there: impl Iterator<Item = &'a str>, what: &str) -> String {
    let mut names: Vec<&str> = there.collect();
    names.sort_unstable();
    names.dedup();
    names.sort_by_key(|name| distance(wanted, name));
    if names.is_empty() {
        return format!("there are no {what}");
    }
    let more = names.len().saturating_sub(NAMES_MAX);
    names.truncate(NAMES_MAX);
    let mut text = format!("there are '{}'", names.join("', '"));
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    text
}

/// How many letters have to be put in, taken out or replaced to make one word of the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut before = at;
        let mut left = at + 1;
        for (there, above) in other.iter().zip(row.iter_mut().skip(1)) {
            let replaced = before + usize::from(*there != letter);
            before = *above;
            left = replaced.min(before + 1).min(left + 1);
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = at + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_spelling_comes_first() {
        for (one, other, letters) in [
            ("", "", 0),
            ("stamp", "stamp", 0),
            ("stmap", "stamp", 2),
            ("", "abc", 3),
            ("abc", "", 3),
            ("geofense", "geofence", 1),
        ] {
            assert_eq!(distance(one, other), letters, "{one} {other}");
        }
        let told = instead("stemp", ["append", "by-key", "stamp"].into_iter(), "interceptors");
        assert_eq!(told, "there are 'stamp', 'append', 'by-key'");
        assert_eq!(instead("a", [].into_iter(), "plugins"), "there are no plugins");
        let many: Vec<String> = (0..13).map(|n| format!("p{n:02}")).collect();
        let told = instead("p12", many.iter().map(String::as_str), "plugins");
        assert!(told.starts_with("there are 'p12', ") && told.ends_with(" and 3 more"), "{told}");
    }
}
