//! What a durable queue needs to have its messages written.

use crate::store::{Durability, KeptId, Store};
use alloc::sync::Arc;
use core::fmt;

/// Where a durable queue's messages are kept.
#[derive(Clone)]
pub(crate) struct Keeping {
    /// Its number there.
    pub(crate) id: KeptId,
    pub(crate) store: Arc<dyn Store>,
    /// When a message counts as safe.
    pub(crate) durability: Durability,
}

impl fmt::Debug for Keeping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeping").field("id", &self.id).finish_non_exhaustive()
    }
}
