//! What a newer version of the broker keeps is not taken for damage, and not left out: such a store is not served.

use super::{
    codec::{VERSION, VERSION_2},
    spaces::{ADDED, BINDINGS, EXCHANGES, GLOBALS, POLICIES, QUEUES, USERS, VHOSTS},
};
use anyhow::bail;
use leveret_store::Store;

/// What begins with its version, and the last that this broker knows.
const KNOWN: [(leveret_store::Space, &str, u8); 8] = [
    (EXCHANGES, "an exchange", VERSION_2),
    (QUEUES, "a queue", VERSION),
    (BINDINGS, "a binding", VERSION),
    (USERS, "a user", VERSION),
    (VHOSTS, "a virtual host", VERSION),
    (POLICIES, "a policy", VERSION),
    (ADDED, "what was added to a message", VERSION_2),
    (GLOBALS, "a global parameter", VERSION),
];

/// Checks the versions of what is kept.
///
/// # Errors
/// Something is of a later one.
pub(super) fn refuse(store: &Store) -> anyhow::Result<()> {
    for (space, what, last) in KNOWN {
        let mut newest = None;
        store.values_with(space, b"", |_, value, _| newest = newest.max(value.first().copied()));
        if let Some(version) = newest.filter(|version| *version > last) {
            bail!(
                "{what} is kept in version {version}, and this broker knows none after {last}: a newer broker wrote it, \
                 start that one again; nothing was lost"
            );
        }
    }
    Ok(())
}
