//! What instances find in the host, whichever worker or thread they are on: accounts and state.

use crate::{account::Accounts, state::Cells, worker::Berths};
use leveret_model::Form;
use std::fmt;

/// What all instances share.
#[derive(Default)]
pub(crate) struct Services {
    /// By plugin and virtual host.
    pub(crate) accounts: Accounts,
    /// By exchange and layer, and by attachment.
    pub(crate) cells: Cells,
    /// Instances that there is one of for all threads.
    pub(crate) berths: Berths,
    /// How messages that plugins make are encoded.
    pub(crate) form: Option<&'static dyn Form>,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").field("accounts", &self.accounts).finish_non_exhaustive()
    }
}
