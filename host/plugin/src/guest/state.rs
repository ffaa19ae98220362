//! What the host keeps in the store of an instance.

use super::{memory::MemoryLimit, told::Tellings};
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
    pub(super) memory: MemoryLimit,
    /// Of a built-in type alone, whose memory follows its bindings.
    pub(super) tellings: Option<Tellings>,
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
        let policy = account.policy();
        Self {
            memory: MemoryLimit::new(policy.limits.memory_bytes_max, account.instances().clone()),
            tellings: builtin.then(Tellings::default),
            context: Context::new(account.clone(), form),
            wasi: WasiState::new(policy, digest.0),
        }
    }

    /// A call of the guest begins.
    pub(super) fn begin_call(&mut self) {
        self.wasi.begin_call();
    }

    /// The end of what the guest wrote to standard error in this call.
    pub(super) fn said(&self) -> Option<String> {
        self.wasi.said()
    }

    /// The memory of a built-in type follows what it is told.
    pub(super) fn tell(&mut self, tell: impl FnOnce(&mut Tellings)) {
        if let Some(tellings) = &mut self.tellings {
            tell(tellings);
            self.memory.grow_with(tellings.total());
        }
    }
}

impl HasWasi for GuestState {
    fn wasi(&mut self) -> &mut WasiState {
        &mut self.wasi
    }
}
