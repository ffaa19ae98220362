//! What the host keeps in the store of an instance.

use super::{
    deadline::Deadline,
    memory::{BUILTIN_MEMORY_BYTES_MAX, GUEST_MEMORY_BYTES_MAX, MemoryLimit},
};
use crate::{
    artifact::Digest,
    wasi::{HasWasi, WasiState},
};

/// The host's side of an instance.
pub(crate) struct GuestState {
    pub(super) deadline: Deadline,
    pub(super) memory: MemoryLimit,
    wasi: WasiState,
}

impl GuestState {
    /// The state of a fresh instance of the plugin of that name and digest.
    pub(crate) fn new(plugin: &str, digest: Digest, builtin: bool) -> Self {
        let bytes_max = if builtin { BUILTIN_MEMORY_BYTES_MAX } else { GUEST_MEMORY_BYTES_MAX };
        Self {
            deadline: Deadline::default(),
            memory: MemoryLimit::new(bytes_max),
            wasi: WasiState::new(plugin, digest.0),
        }
    }
}

impl HasWasi for GuestState {
    fn wasi(&mut self) -> &mut WasiState {
        &mut self.wasi
    }
}
