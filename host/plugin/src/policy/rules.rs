//! What an operator says about plugins, and whether it makes sense.

use super::{
    capability::Grants,
    failure::{Attachment, FailurePolicy},
    limits::{Limit, Limits},
    totals::{Total, TotalRules},
};
use crate::scope::CORE_TYPES;
use leveret_model::Name;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// What an operator says about all plugins. The default says nothing: every global plugin may be used
/// everywhere, with the default limits and without grants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyRules {
    /// By the name of a global or shipped plugin, for all virtual hosts.
    pub plugins: BTreeMap<String, PluginRules>,
    /// By virtual host.
    pub vhosts: BTreeMap<Name, VhostRules>,
    /// The remembered answers of all virtual hosts together, in MiB; unset is the default.
    pub remembered_mib: Option<u64>,
}

/// What an operator says about one plugin. What is unset is as it is everywhere, or the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginRules {
    /// `Some(false)` switches it off from the start.
    pub enabled: Option<bool>,
    /// What it may use: all of it, nothing is added to what is said elsewhere.
    pub grants: Option<Grants>,
    /// Limits, each in the unit of its [`Limit::key`].
    pub limits: BTreeMap<Limit, u64>,
    /// What becomes of messages when it fails.
    pub on_failure: Option<FailurePolicy>,
    /// Makes its random numbers repeatable.
    pub random_seed: Option<u64>,
}

/// What an operator says about a virtual host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VhostRules {
    /// The global and shipped plugins that it may use, beside the core types. `None` is all.
    pub allow: Option<BTreeSet<String>>,
    /// No plugin has a higher limit here. Each in the unit of its [`Limit::key`].
    pub ceilings: BTreeMap<Limit, u64>,
    /// What all plugins there may have together.
    pub totals: TotalRules,
    /// By the name of a plugin, for this virtual host: its own files and global ones.
    pub plugins: BTreeMap<String, PluginRules>,
}

/// Rules that make no sense, or that a plugin does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyError {
    /// A value that no such limit can have.
    OutOfRange {
        /// The plugin; `None` for a ceiling.
        plugin: Option<String>,
        /// Where; `None` is everywhere.
        vhost: Option<Name>,
        /// The limit.
        limit: Limit,
        /// Its value, in the unit of its key.
        value: u64,
    },
    /// A limit of a plugin in a virtual host is above the ceiling there.
    AboveCeiling {
        /// The plugin.
        plugin: String,
        /// Where.
        vhost: Name,
        /// The limit.
        limit: Limit,
        /// Its value, in the unit of its key.
        value: u64,
        /// The ceiling, in the same unit.
        ceiling: u64,
    },
    /// A value that no such total can have.
    TotalOutOfRange {
        /// Where; `None` is for all virtual hosts together.
        vhost: Option<Name>,
        /// The total.
        total: Total,
        /// Its value, in MiB.
        value: u64,
    },
    /// The instances that a plugin has from the start do not fit into what all may have together.
    MemoryTogether {
        /// The plugin.
        plugin: String,
        /// Where; `None` is everywhere.
        vhost: Option<Name>,
        /// What one instance begins with, in bytes.
        bytes: u64,
        /// How many instances there will be.
        instances: usize,
        /// The total, in bytes.
        bytes_max: u64,
    },
    /// Two limits do not go together.
    Contradiction {
        /// The plugin; `None` for any, with the virtual host's ceilings alone.
        plugin: Option<String>,
        /// Where; `None` is everywhere.
        vhost: Option<Name>,
        /// Which, and why.
        what: String,
    },
    /// A plugin has more memory from the start than it may have.
    MemoryAtStart {
        /// The plugin.
        plugin: String,
        /// Where; `None` is everywhere.
        vhost: Option<Name>,
        /// What it begins with, in bytes.
        bytes: u64,
        /// The limit, in bytes.
        bytes_max: u64,
    },
    /// A type that cannot stand in for one of the plugin.
    Fallback {
        /// The plugin.
        plugin: String,
        /// Where; `None` is everywhere.
        vhost: Option<Name>,
        /// The type.
        type_name: Name,
    },
    /// A failure policy that makes no sense for what the plugin is.
    Unsuitable {
        /// The plugin.
        plugin: String,
        /// Where; `None` is everywhere.
        vhost: Option<Name>,
        /// What it is.
        attachment: Attachment,
        /// What was asked for.
        on_failure: FailurePolicy,
    },
}

/// `plugin 'a' in vhost 'b'`.
struct Subject<'a>(Option<&'a str>, Option<&'a Name>);

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(Some(plugin), None) => write!(f, "plugin '{plugin}'"),
            Self(Some(plugin), Some(vhost)) => write!(f, "plugin '{plugin}' in vhost '{vhost}'"),
            Self(None, Some(vhost)) => write!(f, "ceilings of vhost '{vhost}'"),
            Self(None, None) => f.write_str("plugins"),
        }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { plugin, vhost, limit, value } => {
                let (range, subject) = (limit.range(), Subject(plugin.as_deref(), vhost.as_ref()));
                write!(f, "{subject}: {limit} = {value}: it is from {} to {}", range.start(), range.end())
            }
            Self::AboveCeiling { plugin, vhost, limit, value, ceiling } => {
                let subject = Subject(Some(plugin), Some(vhost));
                write!(f, "{subject}: {limit} = {value} is above the vhost's ceiling, {limit} = {ceiling}")
            }
            Self::Contradiction { plugin, vhost, what } => {
                write!(f, "{}: {what}", Subject(plugin.as_deref(), vhost.as_ref()))
            }
            Self::MemoryAtStart { plugin, vhost, bytes, bytes_max } => {
                let subject = Subject(Some(plugin), vhost.as_ref());
                let (mib, mib_max) = (bytes.div_ceil(1 << 20), bytes_max >> 20);
                write!(
                    f,
                    "{subject}: it has {mib} MiB of memory from the start; its limit is memory-mib = {mib_max}"
                )
            }
            Self::TotalOutOfRange { vhost, total, value } => {
                let (range, key) = (total.range(), total.key());
                match vhost {
                    Some(vhost) => write!(f, "totals of vhost '{vhost}'")?,
                    None => f.write_str("totals")?,
                }
                write!(f, ": {key} = {value}: it is from {} to {}", range.start(), range.end())
            }
            Self::MemoryTogether { plugin, vhost, bytes, instances, bytes_max } => {
                let subject = Subject(Some(plugin), vhost.as_ref());
                let (mib, mib_max) = (bytes.div_ceil(1 << 20), bytes_max >> 20);
                write!(
                    f,
                    "{subject}: {instances} instances of {mib} MiB from the start do not fit into what all instances \
                     there may have together, totals: memory-mib = {mib_max}"
                )
            }
            Self::Fallback { plugin, vhost, type_name } => {
                let (subject, core) = (Subject(Some(plugin), vhost.as_ref()), CORE_TYPES.join(", "));
                write!(
                    f,
                    "{subject}: the exchange type '{type_name}' cannot stand in: it is one of {core}, and not \
                     the plugin's own"
                )
            }
            Self::Unsuitable { plugin, vhost, attachment, on_failure } => {
                let subject = Subject(Some(plugin), vhost.as_ref());
                write!(f, "{subject}: on-failure = {on_failure} makes no sense for {attachment}")?;
                if (attachment, on_failure) == (&Attachment::ExchangeType, &FailurePolicy::DeadLetter) {
                    f.write_str(
                        ": what is published is in no queue yet, and dead-letter exchanges are queues'. With \
                         unroutable it goes to the alternate exchange",
                    )?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for PolicyError {}

impl PolicyRules {
    /// Whether all limits are in range, below their ceilings, and go together.
    ///
    /// A limit of a plugin everywhere may be above the ceiling of a virtual host: there, the ceiling
    /// counts. One that is set for that very virtual host may not.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), PolicyError> {
        if let Some(value) = self.remembered_mib.filter(|value| !Total::Remembered.range().contains(value)) {
            return Err(PolicyError::TotalOutOfRange { vhost: None, total: Total::Remembered, value });
        }
        for (plugin, rules) in &self.plugins {
            suits_types(plugin, None, rules)?;
            can_be_off(plugin, None, rules)?;
            in_range(Some(plugin), None, &rules.limits)?;
            goes_together(Some(plugin), None, &self.limits(true, None, plugin))?;
        }
        for (vhost, there) in &self.vhosts {
            if let Some((total, value)) = there.totals.out_of_range() {
                return Err(PolicyError::TotalOutOfRange { vhost: Some(vhost.clone()), total, value });
            }
            in_range(None, Some(vhost), &there.ceilings)?;
            below_total(None, vhost, &there.ceilings, there)?;
            goes_together(None, Some(vhost), &capped(Limits::default(), &there.ceilings))?;
            for (plugin, rules) in &there.plugins {
                suits_types(plugin, Some(vhost), rules)?;
                can_be_off(plugin, Some(vhost), rules)?;
                in_range(Some(plugin), Some(vhost), &rules.limits)?;
                below_ceilings(plugin, vhost, rules, there)?;
                below_total(Some(plugin), vhost, &rules.limits, there)?;
                goes_together(Some(plugin), Some(vhost), &self.limits(false, Some(vhost), plugin))?;
            }
            for plugin in self.plugins.keys() {
                goes_together(Some(plugin), Some(vhost), &self.limits(true, Some(vhost), plugin))?;
            }
        }
        Ok(())
    }

    /// The limits of a plugin in a virtual host. What is said of plugins everywhere counts for
    /// `global` ones, not for a virtual host's own.
    pub(super) fn limits(&self, global: bool, vhost: Option<&Name>, plugin: &str) -> Limits {
        let mut limits = Limits::default();
        for rules in self.of(global, vhost, plugin) {
            rules.limits.iter().for_each(|(limit, value)| limits.set(*limit, *value));
        }
        match vhost.and_then(|vhost| self.vhosts.get(vhost)) {
            Some(there) => capped(limits, &there.ceilings),
            None => limits,
        }
    }

    /// What is said of a plugin, the last word last.
    pub(super) fn of<'a>(
        &'a self,
        global: bool,
        vhost: Option<&Name>,
        plugin: &str,
    ) -> impl Iterator<Item = &'a PluginRules> {
        let everywhere = self.plugins.get(plugin).filter(|_| global);
        let here = vhost.and_then(|vhost| self.vhosts.get(vhost)).and_then(|there| there.plugins.get(plugin));
        everywhere.into_iter().chain(here)
    }
}

fn capped(mut limits: Limits, ceilings: &BTreeMap<Limit, u64>) -> Limits {
    for (limit, ceiling) in ceilings {
        if limits.get(*limit) > *ceiling {
            limits.set(*limit, *ceiling);
        }
    }
    limits
}

fn in_range(
    plugin: Option<&str>,
    vhost: Option<&Name>,
    limits: &BTreeMap<Limit, u64>,
) -> Result<(), PolicyError> {
    match limits.iter().find(|(limit, value)| !limit.range().contains(value)) {
        None => Ok(()),
        Some((limit, value)) => Err(PolicyError::OutOfRange {
            plugin: plugin.map(String::from),
            vhost: vhost.cloned(),
            limit: *limit,
            value: *value,
        }),
    }
}

/// What is said of a plugin is said of its exchange types; of interceptors it is said where they are
/// attached.
fn suits_types(plugin: &str, vhost: Option<&Name>, rules: &PluginRules) -> Result<(), PolicyError> {
    let (plugin, vhost) = (String::from(plugin), vhost.cloned());
    match &rules.on_failure {
        Some(FailurePolicy::Fallback(type_name)) => {
            let core = CORE_TYPES.iter().any(|core| core.as_bytes() == type_name.as_bytes());
            if core && plugin.as_bytes() != type_name.as_bytes() {
                return Ok(());
            }
            Err(PolicyError::Fallback { plugin, vhost, type_name: type_name.clone() })
        }
        Some(on_failure) if !on_failure.suits(Attachment::ExchangeType) => Err(PolicyError::Unsuitable {
            plugin,
            vhost,
            attachment: Attachment::ExchangeType,
            on_failure: on_failure.clone(),
        }),
        _ => Ok(()),
    }
}

/// No virtual host is without the core exchange types.
fn can_be_off(plugin: &str, vhost: Option<&Name>, rules: &PluginRules) -> Result<(), PolicyError> {
    match rules.enabled {
        Some(false) if CORE_TYPES.contains(&plugin) => Err(PolicyError::Contradiction {
            plugin: Some(String::from(plugin)),
            vhost: vhost.cloned(),
            what: String::from("enabled = false: a core exchange type cannot be switched off"),
        }),
        _ => Ok(()),
    }
}

fn below_ceilings(
    plugin: &str,
    vhost: &Name,
    rules: &PluginRules,
    there: &VhostRules,
) -> Result<(), PolicyError> {
    for (limit, value) in &rules.limits {
        if let Some(ceiling) = there.ceilings.get(limit).filter(|ceiling| value > *ceiling) {
            return Err(PolicyError::AboveCeiling {
                plugin: String::from(plugin),
                vhost: vhost.clone(),
                limit: *limit,
                value: *value,
                ceiling: *ceiling,
            });
        }
    }
    Ok(())
}

/// An instance may not have more than all of the virtual host together.
fn below_total(
    plugin: Option<&str>,
    vhost: &Name,
    limits: &BTreeMap<Limit, u64>,
    there: &VhostRules,
) -> Result<(), PolicyError> {
    match (limits.get(&Limit::Memory), there.totals.memory_mib) {
        (Some(one), Some(all)) if *one > all => Err(PolicyError::Contradiction {
            plugin: plugin.map(String::from),
            vhost: Some(vhost.clone()),
            what: format!(
                "memory-mib = {one} of one instance is more than all there may have together, totals: memory-mib = {all}"
            ),
        }),
        _ => Ok(()),
    }
}

fn goes_together(plugin: Option<&str>, vhost: Option<&Name>, limits: &Limits) -> Result<(), PolicyError> {
    limits.check().map_err(|what| PolicyError::Contradiction {
        plugin: plugin.map(String::from),
        vhost: vhost.cloned(),
        what,
    })
}
