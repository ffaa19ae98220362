//! What the host keeps in the store of an instance.

use super::{
    deadline::Deadline,
    memory::{BUILTIN_MEMORY_BYTES_MAX, GUEST_MEMORY_BYTES_MAX, MemoryLimit},
};
use crate::{
    account::Account,
    artifact::Digest,
    capability::Context,
    wasi::{HasWasi, WasiState},
};

use leveret_model::Form;
use std::sync::Arc;

/// The host's side of an instance.
pub(crate) struct GuestState {
    pub(super) deadline: Deadline,
    pub(super) memory: MemoryLimit,
    pub(crate) context: Context,
    wasi: WasiState,
}

impl GuestState {
    /// The state of a fresh instance of the plugin of that account and digest.
    pub(crate) fn new(
        account: &Arc<Account>,
        form: Option<&'static dyn Form>,
        digest: Digest,
        builtin: bool,
    ) -> Self {
        let bytes_max = if builtin { BUILTIN_MEMORY_BYTES_MAX } else { GUEST_MEMORY_BYTES_MAX };
        Self {
            deadline: Deadline::default(),
            memory: MemoryLimit::new(bytes_max),
            context: Context::new(account.clone(), form),
            wasi: WasiState::new(account.plugin(), digest.0),
        }
    }
}

impl HasWasi for GuestState {
    fn wasi(&mut self) -> &mut WasiState {
        &mut self.wasi
    }
}
