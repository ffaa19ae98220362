//! Virtual hosts and the folders of their plugins.

use super::tables::VhostTable;
use anyhow::{Context, bail};
use leveret_model::Name;
use leveret_plugin::Digest;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use toml::Spanned;

/// The longest name of a folder that is made of a virtual host's, in bytes; what is longer is cut and
/// told apart by its digest.
const FOLDER_NAME_BYTES_MAX: usize = 200;

/// A virtual host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VhostConfig {
    /// Its name.
    pub name: Name,
    /// The folder that is watched for its own plugins.
    pub plugins_dir: PathBuf,
}

/// The virtual hosts, each with a folder of its own.
pub(super) fn vhosts(
    names: Vec<String>,
    tables: &BTreeMap<String, Spanned<VhostTable>>,
    data_dir: &Path,
    plugins_dir: &Path,
) -> anyhow::Result<Vec<VhostConfig>> {
    let mut vhosts: Vec<VhostConfig> = Vec::new();
    if let Some(stray) = tables.keys().find(|name| !names.contains(*name)) {
        bail!("[vhost.{stray:?}]: there is no such virtual host; vhosts names {names:?}");
    }
    for name in names {
        if name.is_empty() {
            bail!("a virtual host needs a name");
        }
        let vhost = Name::new(name.as_bytes()).with_context(|| format!("virtual host {name:?}"))?;
        if vhosts.iter().any(|known| known.name == vhost) {
            continue;
        }
        let table = tables.get(&name).map(Spanned::get_ref);
        let chosen = table.and_then(|table| table.plugins_dir.clone());
        let folder =
            chosen.unwrap_or_else(|| data_dir.join("vhosts").join(folder_name(&vhost)).join("plugins"));
        if folder == plugins_dir {
            bail!("[vhost.{name:?}]: plugins-dir {} is that of all virtual hosts", folder.display());
        }
        if let Some(other) = vhosts.iter().find(|known| known.plugins_dir == folder) {
            bail!("[vhost.{name:?}]: plugins-dir {} is that of {:?}", folder.display(), other.name);
        }
        vhosts.push(VhostConfig { name: vhost, plugins_dir: folder });
    }
    if vhosts.is_empty() {
        bail!("vhosts = []: there must be at least one virtual host");
    }
    Ok(vhosts)
}

/// A virtual host's name as that of a folder: `%2F` for `/`. No two names give the same.
fn folder_name(vhost: &Name) -> String {
    let mut name = String::new();
    for (at, byte) in vhost.as_bytes().iter().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || b"-_".contains(byte) || (*byte == b'.' && at > 0);
        if plain {
            name.push(char::from(*byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    if name.len() > FOLDER_NAME_BYTES_MAX {
        name.truncate(FOLDER_NAME_BYTES_MAX);
        // `%` and a lower-case letter is no escape, so this is no other name's folder.
        name.push_str(&format!("%x{}", Digest::of(vhost.as_bytes())));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_folders_are_plain_and_all_different() {
        let of = |name: &[u8]| folder_name(&Name::new(name).unwrap());
        for (name, folder) in [
            ("/", "%2F"),
            ("tenant-a", "tenant-a"),
            ("..", "%2E."),
            (".hidden", "%2Ehidden"),
            ("a/../b", "a%2F..%2Fb"),
            ("%2F", "%252F"),
            ("ü", "%C3%BC"),
        ] {
            assert_eq!(of(name.as_bytes()), folder);
        }
        let (one, other) = (of(&[b'/'; 255]), of(&[b'/'; 254]));
        assert!(one != other && one.len() < 255 && one.starts_with("%2F%2F"), "{one}");
    }
}
