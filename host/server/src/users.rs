//! The users of a broker: those that its store has, and those that its configuration declares.

use crate::{
    config::Config,
    store::{DiskStore, VhostRecord},
};
use anyhow::{Context, anyhow};
use leveret_access::{Access, Settings};
use leveret_model::Name;
use std::sync::Arc;

/// All users. Where there is none, `guest` is made, who may do everything in the virtual hosts that there are; and
/// `guest` may do everything in those that the store knows nothing of.
///
/// # Errors
/// The system gives no threads.
pub fn open(config: &Config, store: &DiskStore) -> anyhow::Result<Arc<Access>> {
    let stored = store.users();
    let declared = config.users.iter();
    for user in declared.filter(|user| stored.iter().any(|stored| stored.name == user.name)) {
        tracing::warn!(
            "user '{}' is declared in the configuration, which holds; what the store has of it is taken away",
            user.name
        );
    }
    let settings = Settings { salt_key: store.salt_key(), ..config.access.clone() };
    let access = Access::new(settings, stored, config.users.clone(), Arc::new(store.clone()));
    let access = access.context("the threads that check passwords")?;
    let vhosts: Vec<Name> = config.vhosts.iter().map(|vhost| vhost.name.clone()).collect();
    let known = store.known_vhosts();
    let new: Vec<Name> = vhosts.iter().filter(|vhost| !known.contains_key(*vhost)).cloned().collect();
    match access.ensure_guest(&vhosts, &new) {
        // Where that is not taken it is noted at another start.
        Ok(()) => new.iter().for_each(|vhost| {
            store.know_vhost(vhost, &VhostRecord::default(), Box::new(|_| {}));
        }),
        // A full disk keeps nobody from what there is.
        Err(error) => tracing::error!("user guest: {}", anyhow!(error)),
    }
    Ok(access)
}
