//! The tables `[plugins."name"]` and `[vhost."name"]` of the configuration file.
//!
//! Written by hand where a derived reader would name a wrong place: each limit is a key, and an error
//! names the key and its line.

use super::SyncMode;
use leveret_model::Name;
use leveret_plugin::policy::{Capability, FailurePolicy, Grants, Limit, PluginRules, TotalRules, VhostRules};
use serde::{
    Deserialize, Deserializer,
    de::{self, Error as _, MapAccess, Visitor},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
    path::PathBuf,
};
use toml::Spanned;

/// Plugins by name.
pub type PluginTables = BTreeMap<String, Spanned<PluginTable>>;

/// `[plugins."name"]`, or the same within a virtual host.
#[derive(Clone, Debug, Default)]
pub struct PluginTable {
    /// `enabled`
    pub enabled: Option<bool>,
    /// `grants`
    pub grants: Option<Grants>,
    /// `on-failure`
    pub on_failure: Option<FailurePolicy>,
    /// `random-seed`
    pub random_seed: Option<u64>,
    /// Every other key.
    pub limits: LimitTable,
}

/// Limits, each under its key.
#[derive(Clone, Debug, Default)]
pub struct LimitTable(pub BTreeMap<Limit, Spanned<u64>>);

/// `[vhost."name"]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VhostTable {
    /// Its own folder for plugins.
    pub plugins_dir: Option<PathBuf>,
    /// When messages count as safe there.
    pub sync: Option<SyncMode>,
    /// Of which type queues are that name none.
    pub default_queue_type: Option<String>,
    /// How many connections it may have.
    pub max_connections: Option<u64>,
    /// How many queues.
    pub max_queues: Option<u64>,
    /// The global plugins that it may use.
    pub allow: Option<BTreeSet<String>>,
    /// The highest limits there.
    #[serde(default)]
    pub ceilings: LimitTable,
    /// What all plugins there may have together.
    #[serde(default)]
    pub totals: VhostTotalsTable,
    /// Plugins there.
    #[serde(default)]
    pub plugins: PluginTables,
}

/// `totals` of a virtual host.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VhostTotalsTable {
    /// The memory of instances, in MiB.
    pub memory_mib: Option<u64>,
    /// Remembered answers, in MiB.
    pub remembered_mib: Option<u64>,
}

/// `[totals]`: of all virtual hosts.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TotalsTable {
    /// Remembered answers, in MiB.
    pub remembered_mib: Option<u64>,
}

impl LimitTable {
    fn rules(&self) -> BTreeMap<Limit, u64> {
        self.0.iter().map(|(limit, value)| (*limit, *value.get_ref())).collect()
    }

    /// Where the value of a limit is in the text.
    pub fn place(&self, limit: Limit) -> Option<Range<usize>> {
        self.0.get(&limit).map(Spanned::span)
    }
}

impl PluginTable {
    /// What it says.
    #[must_use]
    pub fn rules(&self) -> PluginRules {
        PluginRules {
            enabled: self.enabled,
            grants: self.grants,
            limits: self.limits.rules(),
            on_failure: self.on_failure.clone(),
            random_seed: self.random_seed,
        }
    }
}

impl VhostTable {
    /// What it says of plugins.
    #[must_use]
    pub fn rules(&self) -> VhostRules {
        VhostRules {
            allow: self.allow.clone(),
            ceilings: self.ceilings.rules(),
            totals: TotalRules {
                memory_mib: self.totals.memory_mib,
                remembered_mib: self.totals.remembered_mib,
            },
            plugins: plugin_rules(&self.plugins),
        }
    }
}

/// What tables of plugins say.
pub(super) fn plugin_rules(tables: &PluginTables) -> BTreeMap<String, PluginRules> {
    tables.iter().map(|(name, table)| (name.clone(), table.get_ref().rules())).collect()
}

/// A key of [`PluginTable`].
enum PluginKey {
    Enabled,
    Grants,
    OnFailure,
    RandomSeed,
    Limit(Limit),
}

impl<'de> Deserialize<'de> for PluginKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let key = String::deserialize(deserializer)?;
        Ok(match key.as_str() {
            "enabled" => Self::Enabled,
            "grants" => Self::Grants,
            "on-failure" => Self::OnFailure,
            "random-seed" => Self::RandomSeed,
            other => Self::Limit(
                Limit::of_key(other)
                    .ok_or_else(|| unknown(other, "enabled, grants, on-failure, random-seed, "))?,
            ),
        })
    }
}

fn unknown<E: de::Error>(key: &str, others: &str) -> E {
    let limits = Limit::ALL.map(Limit::key).join(", ");
    E::custom(format!("unknown key `{key}`, expected one of {others}{limits}"))
}

struct PluginVisitor;

impl<'de> Visitor<'de> for PluginVisitor {
    type Value = PluginTable;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the table of a plugin")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PluginTable, A::Error> {
        let mut table = PluginTable::default();
        while let Some(key) = map.next_key()? {
            match key {
                PluginKey::Enabled => table.enabled = Some(map.next_value()?),
                PluginKey::Grants => {
                    let granted: Vec<CapabilityName> = map.next_value()?;
                    table.grants = Some(granted.into_iter().map(|name| name.0).collect());
                }
                PluginKey::OnFailure => table.on_failure = Some(map.next_value::<OnFailure>()?.0),
                PluginKey::RandomSeed => table.random_seed = Some(map.next_value()?),
                PluginKey::Limit(limit) => {
                    table.limits.0.insert(limit, map.next_value()?);
                }
            }
        }
        Ok(table)
    }
}

impl<'de> Deserialize<'de> for PluginTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PluginVisitor)
    }
}

/// The key of a limit and nothing else.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct LimitKey(Limit);

impl<'de> Deserialize<'de> for LimitKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let key = String::deserialize(deserializer)?;
        Limit::of_key(&key).map(Self).ok_or_else(|| unknown(&key, ""))
    }
}

impl<'de> Deserialize<'de> for LimitTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = BTreeMap::<LimitKey, Spanned<u64>>::deserialize(deserializer)?;
        Ok(Self(table.into_iter().map(|(key, value)| (key.0, value)).collect()))
    }
}

struct CapabilityName(Capability);

impl<'de> Deserialize<'de> for CapabilityName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}

/// `"reject"`, or `{ fallback = "direct" }`.
#[derive(Clone, Debug)]
pub(super) struct OnFailure(pub(super) FailurePolicy);

impl<'de> Deserialize<'de> for OnFailure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OnFailureVisitor).map(Self)
    }
}

struct OnFailureVisitor;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fallback {
    fallback: String,
}

impl<'de> Visitor<'de> for OnFailureVisitor {
    type Value = FailurePolicy;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("reject, unroutable, bypass, dead-letter or { fallback = \"an exchange type\" }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<FailurePolicy, E> {
        match text {
            "reject" => Ok(FailurePolicy::Reject),
            "unroutable" => Ok(FailurePolicy::Unroutable),
            "bypass" => Ok(FailurePolicy::Bypass),
            "dead-letter" => Ok(FailurePolicy::DeadLetter),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FailurePolicy, A::Error> {
        let table = Fallback::deserialize(de::value::MapAccessDeserializer::new(map))?;
        let type_name = Name::new(table.fallback.as_bytes()).map_err(A::Error::custom)?;
        Ok(FailurePolicy::Fallback(type_name))
    }
}
