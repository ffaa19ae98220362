//! How much memory an instance may have, over all its linear memories and tables together.

use super::told::Told;
use crate::account::InstanceUse;
use std::sync::Arc;
use wasmtime::ResourceLimiter;

/// The most linear memory of an instance of a built-in type, in bytes, however many bindings there
/// are: it holds those of all vhosts.
const BUILTIN_MEMORY_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// What each binding adds to the limit of a built-in type, in bytes, beside its key and arguments.
const BUILTIN_BYTES_PER_BINDING: usize = 4 * 1024;
/// What each byte of a binding's key and arguments adds, in bytes: a pattern of one-letter words has
/// a node for each other byte, in a table that doubles as it grows.
const BUILTIN_BYTES_PER_BYTE: usize = 128;
/// The most elements in all tables of an instance.
const TABLE_ELEMENTS_MAX: usize = 200_000;
/// What an element of a table takes, in bytes.
const TABLE_ELEMENT_BYTES: usize = 16;
/// The most core instances, tables and memories of an instance: what languages with a runtime of
/// their own need, and some.
const PARTS_MAX: usize = 100;

/// What an instance has and may have.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    bytes: usize,
    /// What of it is in tables, which have a limit of their own.
    tables_bytes: usize,
    bytes_max: usize,
    /// What is allowed without any bindings.
    base_bytes: usize,
    elements: usize,
    /// Of the last growth of a table, which may fail still.
    last_elements: usize,
    /// The last growth, in bytes, in case it fails after it was allowed.
    last_bytes: usize,
    refused: Option<Refused>,
    /// Where all instances of the plugin in the virtual host are counted.
    counted: Arc<InstanceUse>,
}

/// What a guest asked too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Memory,
    /// By all instances of the virtual host together.
    Together,
    Tables,
}

impl MemoryLimit {
    pub(crate) fn new(bytes_max: usize, counted: Arc<InstanceUse>) -> Self {
        counted.began();
        let base_bytes = bytes_max;
        Self {
            bytes: 0,
            tables_bytes: 0,
            bytes_max,
            base_bytes,
            elements: 0,
            last_elements: 0,
            last_bytes: 0,
            refused: None,
            counted,
        }
    }

    /// What the guest may have at most of that which it asked for too much of, for people to read. It
    /// explains a trap that follows.
    pub(crate) fn refused(&self) -> Option<String> {
        Some(match self.refused? {
            Refused::Memory => format!("{} MiB of memory", self.bytes_max >> 20),
            Refused::Together => self.counted.limit_together(),
            Refused::Tables => format!("{TABLE_ELEMENTS_MAX} elements in its tables"),
        })
    }

    /// From now on a built-in type knows these bindings: its limit follows, up to the highest that it
    /// ever was, since linear memory never shrinks.
    pub(crate) fn grow_with(&mut self, told: Told) {
        let more = told.bindings.saturating_mul(BUILTIN_BYTES_PER_BINDING);
        let more = more.saturating_add(told.bytes.saturating_mul(BUILTIN_BYTES_PER_BYTE));
        let most = BUILTIN_MEMORY_BYTES_MAX.max(self.base_bytes);
        self.bytes_max = self.base_bytes.saturating_add(more).min(most).max(self.bytes_max);
    }

    /// The most bytes.
    #[cfg(test)]
    fn bytes_max(&self) -> usize {
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
        let memory_bytes = self.bytes - self.tables_bytes;
        let refused = match memory_bytes.saturating_add(more) <= self.bytes_max {
            true if self.counted.grow(more) => None,
            true => Some(Refused::Together),
            false => Some(Refused::Memory),
        };
        self.last_bytes = if refused.is_none() { more } else { 0 };
        self.bytes += self.last_bytes;
        self.refused = refused.or(self.refused);
        Ok(refused.is_none())
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        let bytes = std::mem::take(&mut self.last_bytes);
        self.bytes -= bytes;
        self.counted.shrank(bytes);
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let bytes = more.saturating_mul(TABLE_ELEMENT_BYTES);
        let refused = match self.elements.saturating_add(more) <= TABLE_ELEMENTS_MAX {
            true if self.counted.grow(bytes) => None,
            true => Some(Refused::Together),
            false => Some(Refused::Tables),
        };
        self.last_elements = if refused.is_none() { more } else { 0 };
        if refused.is_none() {
            self.elements += more;
            self.bytes += bytes;
            self.tables_bytes += bytes;
        }
        self.refused = refused.or(self.refused);
        Ok(refused.is_none())
    }

    /// The table has a limit of its own, or the machine has no more.
    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        let elements = std::mem::take(&mut self.last_elements);
        let bytes = elements.saturating_mul(TABLE_ELEMENT_BYTES);
        self.elements -= elements;
        self.bytes -= bytes;
        self.tables_bytes -= bytes;
        self.counted.shrank(bytes);
        Ok(())
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

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        self.counted.ended(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::together::InstancesRoom;
    use leveret_model::Name;

    #[test]
    fn instances_and_their_memories_are_counted_together() {
        let counted = Arc::new(InstanceUse::default());
        let mut limits = [100, 100].map(|bytes_max| MemoryLimit::new(bytes_max, counted.clone()));
        for limit in &mut limits {
            limit.memory_growing(0, 60, None).unwrap();
            limit.memory_growing(60, 200, None).unwrap();
            limit.memory_growing(60, 70, None).unwrap();
            limit.memory_grow_failed(wasmtime::Error::msg("no memory")).unwrap();
        }
        assert_eq!(counted.now(), (2, 120));
        drop(limits);
        assert_eq!(counted.now(), (0, 0));
    }

    #[test]
    fn all_memories_share_one_limit() {
        let mut limit = MemoryLimit::new(100, Arc::default());
        assert!(limit.memory_growing(0, 60, None).unwrap());
        assert!(!limit.memory_growing(0, 60, None).unwrap());
        assert_eq!(limit.refused().unwrap(), "0 MiB of memory");
        assert!(limit.memory_growing(0, 40, None).unwrap());
        limit.memory_grow_failed(wasmtime::Error::msg("no memory")).unwrap();
        assert!(limit.memory_growing(60, 100, None).unwrap());
    }

    #[test]
    fn a_built_ins_limit_follows_its_bindings_up_to_a_most() {
        let mut limit = MemoryLimit::new(100, Arc::default());
        limit.grow_with(Told { bindings: 2, bytes: 10 });
        assert_eq!(limit.bytes_max(), 100 + 2 * BUILTIN_BYTES_PER_BINDING + 10 * BUILTIN_BYTES_PER_BYTE);
        limit.grow_with(Told { bindings: usize::MAX, bytes: 0 });
        assert_eq!(limit.bytes_max(), BUILTIN_MEMORY_BYTES_MAX);
        limit.grow_with(Told::default());
        assert_eq!(limit.bytes_max(), BUILTIN_MEMORY_BYTES_MAX, "what it has it keeps");
    }

    #[test]
    fn the_instances_of_a_virtual_host_share_a_limit_whichever_plugins_they_are_of() {
        let room = Arc::new(InstancesRoom::new(Name::from_static("a"), 100));
        let plugins = [(); 2].map(|()| Arc::new(InstanceUse::of(room.clone())));
        let [mut one, mut two] = plugins.clone().map(|plugin| MemoryLimit::new(80, plugin));
        assert!(one.memory_growing(0, 60, None).unwrap());
        assert!(!two.memory_growing(0, 41, None).unwrap());
        let limit = two.refused().unwrap();
        assert!(limit.contains("vhost 'a'") && limit.contains("memory-mib"), "{limit}");
        assert!(two.table_growing(0, 2, None).unwrap() && !two.table_growing(2, 3, None).unwrap());
        assert_eq!(plugins[1].now(), (1, 32), "tables are counted");
        assert!(!one.memory_growing(60, 81, None).unwrap());
        assert!(one.refused().unwrap().starts_with("0 MiB"), "its own limit");
        drop(one);
        assert!(two.memory_growing(0, 68, None).unwrap(), "what is gone is given back");
        drop(two);
        assert_eq!(room.taken(), (0, 100));
    }

    #[test]
    fn tables_are_limited() {
        let mut limit = MemoryLimit::new(100, Arc::default());
        assert!(limit.table_growing(0, TABLE_ELEMENTS_MAX, None).unwrap());
        assert_eq!(limit.refused(), None);
        assert!(!limit.table_growing(0, 1, None).unwrap());
        assert_eq!(limit.refused().unwrap(), "200000 elements in its tables");
    }

    /// As often as a guest likes: what it does not get is not charged.
    #[test]
    fn a_table_that_cannot_grow_costs_nothing() {
        let engines = crate::engine::Engines::new().unwrap();
        let strategy = crate::engine::CodeStrategy::Cranelift;
        let text = "(module (table 1 10 funcref)
            (func (export \"grow\") (result i32) (table.grow 0 (ref.null func) (i32.const 150000))))";
        let engine = engines.engine(strategy).unwrap();
        let module = wasmtime::Module::new(engine, wat::parse_str(text).unwrap()).unwrap();
        let counted = Arc::<InstanceUse>::default();
        let mut store = wasmtime::Store::new(engine, MemoryLimit::new(1 << 30, counted.clone()));
        store.limiter(|limit| limit);
        store.set_epoch_deadline(1_000_000);
        let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
        let before = counted.now();
        let grow = instance.get_typed_func::<(), i32>(&mut store, "grow").unwrap();
        for _ in 0..10 {
            assert_eq!(grow.call(&mut store, ()).unwrap(), -1);
        }
        assert_eq!((counted.now(), store.data().refused()), (before, None));
    }

    #[test]
    fn core_instances_memories_and_tables_are_limited_in_number() {
        let engines = crate::engine::Engines::new().unwrap();
        let start = |modules: usize| {
            let instances = "(core instance (instantiate $m))".repeat(modules);
            let text = format!("(component (core module $m (memory 0) (table 0 funcref)) {instances})");
            let strategy = crate::engine::CodeStrategy::Cranelift;
            let component = engines.compile(strategy, &wat::parse_str(text).unwrap()).unwrap();
            let limit = MemoryLimit::new(1 << 20, Arc::default());
            let mut store = wasmtime::Store::new(engines.engine(strategy).unwrap(), limit);
            store.limiter(|limit| limit);
            store.set_epoch_deadline(1_000_000);
            let linker = wasmtime::component::Linker::new(component.engine());
            linker.instantiate(&mut store, &component).map(drop)
        };
        start(PARTS_MAX).unwrap();
        let error = format!("{:#}", start(PARTS_MAX + 1).unwrap_err());
        assert!(error.contains("too high at 101"), "{error}");
    }
}
