//! How much memory an instance may have, over all its linear memories and tables together.

use wasmtime::ResourceLimiter;

/// The most linear memory of an instance, in bytes.
pub(crate) const GUEST_MEMORY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The most linear memory of an instance of a built-in type, in bytes: it holds the bindings of
/// all vhosts, which the broker's own limits bound.
pub(crate) const BUILTIN_MEMORY_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// The most elements in all tables of an instance.
const TABLE_ELEMENTS_MAX: usize = 200_000;
/// The most core instances, tables and memories of an instance: what languages with a runtime of
/// their own need, and some.
const PARTS_MAX: usize = 100;

/// What an instance has and may have.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    bytes: usize,
    bytes_max: usize,
    elements: usize,
    /// The last growth, in bytes, in case it fails after it was allowed.
    last_bytes: usize,
    refused: bool,
}

impl MemoryLimit {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes: 0, bytes_max, elements: 0, last_bytes: 0, refused: false }
    }

    /// Whether the guest asked for more than it may have, which explains a trap that follows.
    pub(crate) fn was_refused(&self) -> bool {
        self.refused
    }

    /// The most bytes.
    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let allowed = self.bytes.saturating_add(more) <= self.bytes_max;
        self.last_bytes = if allowed { more } else { 0 };
        self.bytes += self.last_bytes;
        self.refused |= !allowed;
        Ok(allowed)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.bytes -= std::mem::take(&mut self.last_bytes);
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let allowed = self.elements.saturating_add(more) <= TABLE_ELEMENTS_MAX;
        if allowed {
            self.elements += more;
        }
        self.refused |= !allowed;
        Ok(allowed)
    }

    fn instances(&self) -> usize {
        PARTS_MAX
    }

    fn tables(&self) -> usize {
        PARTS_MAX
    }

    fn memories(&self) -> usize {
        PARTS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memories_share_one_limit() {
        let mut limit = MemoryLimit::new(100);
        assert!(limit.memory_growing(0, 60, None).unwrap());
        assert!(!limit.memory_growing(0, 60, None).unwrap());
        assert!(limit.was_refused());
        assert!(limit.memory_growing(0, 40, None).unwrap());
        limit.memory_grow_failed(wasmtime::Error::msg("no memory")).unwrap();
        assert!(limit.memory_growing(60, 100, None).unwrap());
    }

    #[test]
    fn tables_are_limited() {
        let mut limit = MemoryLimit::new(100);
        assert!(limit.table_growing(0, TABLE_ELEMENTS_MAX, None).unwrap());
        assert!(!limit.table_growing(0, 1, None).unwrap());
    }
}
