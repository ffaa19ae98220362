//! Which plugin provides which interceptor, and what a new version has to take.
//!
//! An attachment in all virtual hosts takes its interceptor from the global plugins, so that no
//! virtual host can put a file of its own in the place of what the operator attached everywhere. One
//! that names its virtual host takes that one's own plugin first.

use super::{Registry, disabled, not_granted, report::argument_line, slots::Slots};
use crate::{
    account::{Account, Failures},
    artifact::Digest,
    attachment::{Attachment, AttachmentRule, AttachmentUse},
    guest::AttachmentPoint,
    scope::Scope,
    version::{Version, VersionId},
};
use hashbrown::HashMap;
use leveret_broker::port::Wake;
use leveret_model::Name;
use parking_lot::{Mutex, RwLock};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// An interceptor that a plugin provides, for people to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterceptorInfo {
    /// Its name in the configuration.
    pub name: String,
    /// For whom its plugin is there.
    pub scope: Scope,
    /// The plugin.
    pub plugin: String,
    /// The plugin's version as it describes itself.
    pub version: String,
    /// Of its bytes.
    pub digest: Digest,
    /// One line of help, by the plugin.
    pub summary: String,
    /// Where it can be attached.
    pub points: Vec<AttachmentPoint>,
    /// What an attachment may say, by the plugin: each argument a line.
    pub arguments: Vec<String>,
    /// Its verdicts are remembered.
    pub pure: bool,
}

/// A place where an interceptor is attached in one virtual host, for people to look at.
#[derive(Clone, Debug)]
pub struct AttachedInfo {
    /// What the configuration says of it.
    pub rule: Arc<AttachmentRule>,
    /// The virtual host.
    pub vhost: Name,
    /// The version that is asked, or why nobody is.
    pub provider: Result<AttachedTo, String>,
    /// What came of the messages that met it.
    pub counts: AttachmentUse,
    /// How the plugin failed there, with all that it provides.
    pub failures: Failures,
    /// Messages that the plugin's interceptors dropped there, by reason, the latest reason first.
    pub drops: Vec<(Arc<str>, u64)>,
    /// Messages that they did not accept, by reason, the latest reason first.
    pub rejections: Vec<(Arc<str>, u64)>,
}

/// The version that is asked for an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedTo {
    /// The plugin.
    pub plugin: String,
    /// Its version as it describes itself.
    pub version: String,
    /// Of its bytes.
    pub digest: Digest,
}

/// Who provides interceptors.
#[derive(Default)]
pub(super) struct Providers {
    serving: RwLock<HashMap<Scope, HashMap<String, Arc<Version>>>>,
    /// Raised after each change that can be read.
    generation: AtomicU64,
    /// Who waits for a change.
    waiters: Mutex<Vec<Arc<dyn Wake>>>,
}

impl Providers {
    pub(super) fn serves(&self, id: VersionId) -> bool {
        self.serving.read().values().any(|names| names.values().any(|version| version.id == id))
    }

    /// Who provides interceptors, or whether they may, has changed.
    pub(super) fn changed(&self) {
        self.generation.fetch_add(1, Ordering::Release);
        let waiters = std::mem::take(&mut *self.waiters.lock());
        waiters.iter().for_each(|waker| waker.wake());
    }
}

impl Registry {
    /// Numbers the states of who provides interceptors. Read before [`Self::interceptor`] is asked.
    pub(crate) fn interceptors_generation(&self) -> u64 {
        self.providers.generation.load(Ordering::Acquire)
    }

    /// Wakes `waker` when who provides interceptors is not that of this generation any more.
    pub(crate) fn wake_when_interceptors_change(&self, generation: u64, waker: &Arc<dyn Wake>) {
        let mut waiters = self.providers.waiters.lock();
        // Whoever asks again is there already; who is gone needs no wake.
        let is_this = |other: &Arc<dyn Wake>| {
            std::ptr::addr_eq(Arc::as_ptr(other), Arc::as_ptr(waker)) || Arc::strong_count(other) == 1
        };
        waiters.retain(|other| !is_this(other));
        waiters.push(waker.clone());
        drop(waiters);
        if self.interceptors_generation() != generation {
            waker.wake();
        }
    }

    /// The version that is asked for an attachment.
    ///
    /// # Errors
    /// Why there is none, for people to read.
    pub(crate) fn interceptor(&self, attachment: &Attachment) -> Result<Arc<Version>, String> {
        let (name, vhost) = (&attachment.rule.interceptor, &attachment.vhost);
        let version = self.provider_of(attachment)?;
        if !version.policy(vhost).enabled {
            return Err(format!("the interceptor '{name}': {}", disabled(&version)));
        }
        match version.not_granted(vhost) {
            Some(capability) => {
                Err(format!("the interceptor '{name}': {}", not_granted(&version, capability)))
            }
            None => Ok(version),
        }
    }

    pub(super) fn provider_of(&self, attachment: &Attachment) -> Result<Arc<Version>, String> {
        self.provider_by(&self.slots.read(), attachment)
    }

    /// The same for who has the slots.
    pub(super) fn provider_by(&self, slots: &Slots, attachment: &Attachment) -> Result<Arc<Version>, String> {
        let serving = self.providers.serving.read();
        let (name, vhost) = (&attachment.rule.interceptor, &attachment.vhost);
        let own = attachment.rule.vhost.is_some().then(|| Scope::Vhost(vhost.clone()));
        for scope in own.into_iter().chain([Scope::Global, Scope::Shipped]) {
            let version = serving.get(&scope).and_then(|names| names.get(name));
            let version = match scope {
                Scope::Global => slots.older_interceptor(vhost, name, version),
                Scope::Vhost(_) | Scope::Shipped => version.cloned(),
            };
            if let Some(version) = version.filter(|version| version.policy(vhost).allowed) {
                return Ok(version);
            }
        }
        Err(format!("no plugin provides the interceptor '{name}' for vhost '{vhost}'"))
    }

    /// The versions that provide interceptors, one as often as it provides one.
    pub(super) fn interceptor_versions(&self) -> Vec<Arc<Version>> {
        self.providers.serving.read().values().flat_map(HashMap::values).cloned().collect()
    }

    /// For whom plugins of that name are there, in any order: also those that serve nobody now, for want of a
    /// grant or because they are switched off.
    #[must_use]
    pub fn scopes_of(&self, plugin: &str) -> Vec<Scope> {
        let mut versions = self.providing();
        versions.retain(|version| version.code.plugin == plugin);
        versions.iter().map(|version| version.scope.clone()).collect()
    }

    /// Every interceptor that a plugin provides, by name and scope.
    #[must_use]
    pub fn interceptors(&self) -> Vec<InterceptorInfo> {
        let serving = self.providers.serving.read();
        let all = serving.iter().flat_map(|(scope, names)| names.iter().map(move |it| (scope, it)));
        let mut all: Vec<InterceptorInfo> = all
            .filter_map(|(scope, (name, version))| {
                let described = version.describes_interceptor(name)?;
                Some(InterceptorInfo {
                    name: name.clone(),
                    scope: scope.clone(),
                    plugin: version.code.plugin.clone(),
                    version: version.description.version.clone(),
                    digest: version.code.digest,
                    summary: described.summary.clone(),
                    points: described.points.clone(),
                    arguments: described.arguments.iter().map(|it| argument_line("", it)).collect(),
                    pure: described.pure,
                })
            })
            .collect();
        all.sort_by(|a, b| (&a.name, &a.scope).cmp(&(&b.name, &b.scope)));
        all
    }

    /// Every place where an interceptor is attached, in each virtual host, in the order of the
    /// configuration.
    #[must_use]
    pub fn attached(&self) -> Vec<AttachedInfo> {
        let describe = |attachment: &Arc<Attachment>| {
            let provider = self.provider_of(attachment).ok();
            let found = self.interceptor(attachment).map_err(|why| match &provider {
                Some(version) if version.not_granted(&attachment.vhost).is_some() => {
                    format!("{why}: set {}", self.grants_to_set(version, &attachment.vhost))
                }
                Some(_) => why,
                None => {
                    self.without_interceptor(attachment).map_or(why, |(text, hint)| format!("{text}: {hint}"))
                }
            });
            let account = provider.map(|version| self.account_of(&version, &attachment.vhost));
            let used = account.map(|account| account.read()).unwrap_or_default();
            AttachedInfo {
                rule: attachment.rule.clone(),
                vhost: attachment.vhost.clone(),
                provider: found.map(|version| AttachedTo {
                    plugin: version.code.plugin.clone(),
                    version: version.description.version.clone(),
                    digest: version.code.digest,
                }),
                counts: attachment.counts.read(),
                failures: used.failures,
                drops: used.intercepted_drops,
                rejections: used.intercepted_rejections,
            }
        };
        self.attachments.all().iter().map(describe).collect()
    }

    /// The account of a version in a virtual host.
    pub(crate) fn account_of(&self, version: &Version, vhost: &Name) -> Arc<Account> {
        self.services.accounts.of_instance(version, vhost)
    }

    /// Whether the calls of any plugin took long.
    #[cfg(test)]
    pub(crate) fn any_took_long(&self) -> bool {
        self.services.accounts.any_took_long()
    }

    /// The attachments in those virtual hosts that a version would serve if it were put into service now,
    /// whatever else of its plugin serves there.
    pub(super) fn attachments_for(
        &self,
        slots: &Slots,
        version: &Version,
        there: impl Fn(&Name) -> bool,
    ) -> Vec<Arc<Attachment>> {
        let would_serve = |attachment: &Attachment| {
            let (rule, vhost) = (&attachment.rule, &attachment.vhost);
            let in_scope = match &version.scope {
                Scope::Vhost(own) => own == vhost && rule.vhost.is_some(),
                // A virtual host's own plugin goes first.
                Scope::Global | Scope::Shipped => !self
                    .provider_by(slots, attachment)
                    .is_ok_and(|provider| matches!(provider.scope, Scope::Vhost(_))),
            };
            let policy = version.policy(vhost);
            there(vhost)
                && version.describes_interceptor(&rule.interceptor).is_some()
                && in_scope
                && policy.allowed
                && policy.enabled
                && version.not_granted(vhost).is_none()
        };
        self.attachments.all().into_iter().filter(|attachment| would_serve(attachment)).collect()
    }

    /// An attachment in a virtual host whose interceptor its plugin provides now, and this version of it does
    /// not.
    pub(super) fn attachment_dropped(
        &self,
        slots: &Slots,
        version: &Version,
        vhost: &Name,
    ) -> Option<String> {
        let dropped = |attachment: &&Arc<Attachment>| {
            attachment.vhost == *vhost
                && version.describes_interceptor(&attachment.rule.interceptor).is_none()
                && self.provider_by(slots, attachment).is_ok_and(|now| now.is_plugin_of(version))
        };
        let attachment = self.attachments.all().into_iter().find(|attachment| dropped(&attachment))?;
        Some(format!("the new version drops an interceptor that is attached: {}", attachment.rule))
    }

    /// The virtual hosts that have attachments.
    pub(super) fn attached_vhosts(&self) -> impl Iterator<Item = Name> {
        self.attachments.all().into_iter().map(|attachment| attachment.vhost.clone())
    }

    /// From now on a version provides its interceptors, and the one before it provides none.
    pub(super) fn serve_interceptors(&self, old: Option<&Version>, version: &Arc<Version>) {
        let mut serving = self.providers.serving.write();
        let names = serving.entry(version.scope.clone()).or_default();
        if let Some(old) = old {
            names.retain(|_, provider| provider.id != old.id);
        }
        for described in &version.description.interceptors {
            names.insert(described.name.clone(), version.clone());
        }
        drop(serving);
        self.providers.changed();
    }

    /// A version provides no interceptors any more.
    pub(super) fn withdraw_interceptors(&self, version: &Version) {
        if let Some(names) = self.providers.serving.write().get_mut(&version.scope) {
            names.retain(|_, provider| provider.id != version.id);
        }
        self.providers.changed();
    }
}
