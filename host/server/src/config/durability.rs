//! When messages count as safe: `sync` of a virtual host, and the tables `[[durability]]`.

use crate::store::VhostDurability;
use leveret_broker::store::Durability;
use leveret_model::Name;
use leveret_plugin::attachment::Pattern;
use serde::Deserialize;
use std::{cmp::Reverse, ops::RangeInclusive, str::FromStr};
use toml::Spanned;

/// How long an interval may be, in milliseconds: a longer one is a mistake or means `never`.
const INTERVAL_MS: RangeInclusive<u32> = 1..=60_000;

/// `always`, `never`, or `interval:10ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SyncMode(pub Durability);

/// `[[durability]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DurabilityTable {
    /// The virtual host; all of them if it is not there.
    pub vhost: Option<String>,
    /// A pattern for queues.
    pub queues: String,
    /// When their messages count as safe.
    pub sync: SyncMode,
}

impl FromStr for SyncMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || {
            let (least, most) = (INTERVAL_MS.start(), INTERVAL_MS.end());
            format!(
                "{text:?} is none of \"always\" (on disk), \"interval:10ms\" (written, and on disk within {least} to \
                 {most} ms) and \"never\" (written; the system chooses when it is on disk)"
            )
        };
        let interval = |text: &str| {
            let number = text.strip_suffix("ms")?;
            let ms = number.parse().ok().filter(|ms| INTERVAL_MS.contains(ms))?;
            number.bytes().all(|byte| byte.is_ascii_digit()).then_some(Durability::Interval(Reverse(ms)))
        };
        match text {
            "always" => Ok(Self(Durability::Always)),
            "never" => Ok(Self(Durability::Never)),
            _ => text.strip_prefix("interval:").and_then(interval).map(Self).ok_or_else(unknown),
        }
    }
}

impl TryFrom<String> for SyncMode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Checks the rules as far as it does not depend on which virtual hosts there are.
///
/// # Errors
/// Which rule makes no sense, and why.
pub(super) fn check(tables: &[Spanned<DurabilityTable>]) -> Result<(), (usize, String)> {
    for (at, table) in tables.iter().enumerate() {
        let DurabilityTable { vhost, queues, .. } = table.get_ref();
        if let Some(text) = vhost {
            Name::new(text.as_bytes()).map_err(|error| (at, format!("{text:?}: {error}")))?;
        }
        let covers = |before: &&Spanned<DurabilityTable>| {
            let DurabilityTable { vhost: other, queues: pattern, .. } = before.get_ref();
            (other.is_none() || other == vhost) && (pattern == queues || pattern == "*")
        };
        if tables.iter().take(at).any(|before| covers(&before)) {
            let what = format!(
                "queues = {queues:?} never counts: a rule before it has the same queues, and the first counts"
            );
            return Err((at, what));
        }
    }
    Ok(())
}

/// What counts in a virtual host.
pub(super) fn of_vhost(
    name: &str,
    usual: Option<SyncMode>,
    tables: &[Spanned<DurabilityTable>],
) -> VhostDurability {
    let tables = tables.iter().map(Spanned::get_ref);
    let its = tables.filter(|table| table.vhost.as_deref().is_none_or(|vhost| vhost == name));
    VhostDurability {
        usual: usual.map_or(Durability::Always, |mode| mode.0),
        rules: its.map(|table| (Pattern::new(&*table.queues), table.sync.0)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_and_others_are_refused_with_all_there_are() {
        let interval = |ms| Ok(SyncMode(Durability::Interval(Reverse(ms))));
        assert_eq!("always".parse(), Ok(SyncMode(Durability::Always)));
        assert_eq!("never".parse(), Ok(SyncMode(Durability::Never)));
        assert_eq!(("interval:1ms".parse(), "interval:60000ms".parse()), (interval(1), interval(60_000)));
        for wrong in [
            "",
            "Always",
            "interval",
            "interval:",
            "interval:0ms",
            "interval:60001ms",
            "interval:10",
            "interval:+1ms",
            "interval:1s",
            "interval:-1ms",
        ] {
            let error = wrong.parse::<SyncMode>().unwrap_err();
            assert!(error.contains(&format!("{wrong:?}")) && error.contains("interval:10ms"), "{error}");
        }
    }
}
