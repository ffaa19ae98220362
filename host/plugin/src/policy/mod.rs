//! What a plugin may do, and how much of it: grants, limits, failure policy, kill switches, for each
//! plugin in each virtual host.
//!
//! *Not here:* the configuration file (the server turns its tables into [`PolicyRules`]), the
//! enforcement (each limit is held where its resource is: memory in the store, time in the
//! deadline), which file provides which type (the registry).
//!
//! *In and out:* rules go in once; [`Policies::of`] gives a [`PluginPolicy`] for a plugin in a virtual
//! host. Switches change later, and raise [`Policies::generation`].
//!
//! *Invariants:*
//! - Unset is denied: a plugin has no grant that a rule does not name.
//! - No limit is above the ceiling of its virtual host.
//! - A table for plugins everywhere never speaks of a virtual host's own files: whoever may write
//!   into that folder would get, by the choice of a file's name, what was granted to another plugin.
//! - The core exchange types cannot be denied or switched off.

mod capability;
mod failure;
mod limits;
mod policies;
mod rules;
#[cfg(test)]
mod tests;
mod totals;

pub use capability::{Capability, Grants, UnknownCapability};
pub use failure::{Attachment, FailurePolicy};
pub use limits::{
    ANSWER_IDS_MAX, CPU_PER_CALL, CPU_PER_ITEM, CPU_START, HELD_BYTES_MAX, HELD_MESSAGES_MAX, LOG_LINES_MAX,
    Limit, Limits, MEMORY_BYTES_MAX, METRICS_MAX, STATE_BYTES_MAX, STATE_ENTRIES_MAX,
};
pub use policies::{PluginPolicy, Policies, Switch};
pub use rules::{PluginRules, PolicyError, PolicyRules, VhostRules};
pub use totals::{
    REMEMBERED_BYTES_MAX, Total, TotalRules, Totals, VHOST_MEMORY_BYTES_MAX, VHOST_REMEMBERED_BYTES_MAX,
};
