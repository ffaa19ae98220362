//! Files that are damaged: they are kept under other names, for whoever looks into what happened.

use crate::{disk::Disk, error::DiskError};

/// What their names begin with.
const PREFIX: &str = "set-aside.";

/// Whether a file was set aside.
pub(crate) fn is_aside(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Sets a file aside. Gives its name from then on, which none had before.
pub(crate) fn set_aside(disk: &dyn Disk, name: &str) -> Result<String, DiskError> {
    let names = disk.list()?;
    let first = format!("{PREFIX}{name}");
    let (mut aside, mut number) = (first.clone(), 1);
    while names.contains(&aside) {
        number += 1;
        aside = format!("{first}.{number}");
    }
    disk.rename(name, &aside)?;
    Ok(aside)
}
