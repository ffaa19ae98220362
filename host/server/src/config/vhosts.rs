//! Virtual hosts and the folders of their plugins.

use super::{DurabilityTable, durability, tables::VhostTable};
use crate::store::VhostDurability;
use anyhow::{Context, bail};
use leveret_broker::queue::QueueKind;
use leveret_model::Name;
use leveret_plugin::folder;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use toml::Spanned;

/// A virtual host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VhostConfig {
    /// Its name.
    pub name: Name,
    /// The folder that is watched for its own plugins.
    pub plugins_dir: PathBuf,
    /// When its messages count as safe.
    pub durability: VhostDurability,
    /// Of which type queues are that name none, if nothing else is said while the broker runs.
    pub queue_type: QueueKind,
    /// How much there may be in it, whatever is said while the broker runs.
    pub limits: VhostLimits,
}

/// How much there may be in a virtual host; what is `None` is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VhostLimits {
    /// How many connections.
    pub connections_max: Option<u64>,
    /// How many queues.
    pub queues_max: Option<u64>,
}

/// The virtual hosts, each with a folder of its own.
pub(super) fn vhosts(
    names: Vec<String>,
    (tables, rules): (&BTreeMap<String, Spanned<VhostTable>>, &[Spanned<DurabilityTable>]),
    data_dir: &Path,
    plugins_dir: &Path,
) -> anyhow::Result<Vec<VhostConfig>> {
    let mut vhosts: Vec<VhostConfig> = Vec::new();
    if let Some(stray) = tables.keys().find(|name| !names.contains(*name)) {
        bail!("[vhost.{stray:?}]: there is no such virtual host; vhosts names {names:?}");
    }
    let named = rules.iter().filter_map(|rule| rule.get_ref().vhost.as_ref());
    if let Some(stray) = named.into_iter().find(|name| !names.contains(*name)) {
        bail!("[[durability]]: vhost = {stray:?}: there is no such virtual host; vhosts names {names:?}");
    }
    for name in &names {
        if name.is_empty() {
            bail!("vhosts = {names:?}: a virtual host needs a name, and \"\" is none");
        }
        let vhost = Name::new(name.as_bytes()).with_context(|| format!("virtual host {name:?}"))?;
        if vhosts.iter().any(|known| known.name == vhost) {
            bail!("vhosts = {names:?}: {name:?} is there twice");
        }
        let table = tables.get(name).map(Spanned::get_ref);
        let chosen = table.and_then(|table| table.plugins_dir.clone());
        let folder =
            chosen.unwrap_or_else(|| data_dir.join("vhosts").join(folder::name_of(&vhost)).join("plugins"));
        if folder == plugins_dir {
            bail!("[vhost.{name:?}]: plugins-dir {} is that of all virtual hosts", folder.display());
        }
        if let Some(other) = vhosts.iter().find(|known| known.plugins_dir == folder) {
            bail!("[vhost.{name:?}]: plugins-dir {} is that of {:?}", folder.display(), other.name);
        }
        let durability = durability::of_vhost(name, table.and_then(|table| table.sync), rules);
        let queue_type = queue_type(name, table.and_then(|table| table.default_queue_type.as_deref()))?;
        let limits = VhostLimits {
            connections_max: table.and_then(|table| table.max_connections),
            queues_max: table.and_then(|table| table.max_queues),
        };
        vhosts.push(VhostConfig { name: vhost, plugins_dir: folder, durability, queue_type, limits });
    }
    if vhosts.is_empty() {
        bail!("vhosts = []: there must be at least one virtual host");
    }
    Ok(vhosts)
}

fn queue_type(vhost: &str, said: Option<&str>) -> anyhow::Result<QueueKind> {
    let Some(said) = said else { return Ok(QueueKind::default()) };
    let known = QueueKind::named(said);
    known.with_context(|| {
        format!("[vhost.{vhost:?}]: default-queue-type = {said:?}: \"classic\" or \"quorum\"")
    })
}
