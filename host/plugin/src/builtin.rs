//! The exchange types that every broker has: the build script's work, embedded.
//!
//! They are components like any other and are called like any other; only where they come
//! from is special.

/// An exchange type in the binary.
#[derive(Clone, Copy)]
pub(crate) struct Builtin {
    /// The plugin's, and that of a type in it, which clients give in exchange.declare.
    pub(crate) name: &'static str,
    /// The component, as a file in the plugins directory would be.
    pub(crate) component: &'static [u8],
    /// Machine code of it for the triple `LEVERET_TARGET`, for
    /// [`Component::deserialize`](wasmtime::component::Component::deserialize); empty where
    /// the building machine could not make any.
    pub(crate) precompiled: &'static [u8],
}

/// Every built-in.
pub(crate) const BUILTINS: &[Builtin] = include!(concat!(env!("OUT_DIR"), "/builtins.rs"));

#[cfg(test)]
mod tests {
    use wasmtime::component::{Component, Linker};
    use wasmtime::{Engine, Precompiled, Store};

    use super::*;
    use crate::engine::CodeStrategy;
    use crate::engine::Engines;
    use crate::policy::Policies;
    use crate::scope::{CORE_TYPES, Scope};
    use crate::wasi::{self, HasWasi, WasiState};

    struct State(WasiState);

    impl HasWasi for State {
        fn wasi(&mut self) -> &mut WasiState {
            &mut self.0
        }
    }

    fn instantiates(component: &Component) {
        for (name, _) in component.component_type().imports(component.engine()) {
            assert!(wasi::is_wasi(name) || name.starts_with("leveret:routing/"), "{name}");
        }
        let mut linker = Linker::<State>::new(component.engine());
        wasi::link(&mut linker, component).unwrap();
        // Capabilities, which need more than this store has; no call is made.
        linker.define_unknown_imports_as_traps(component).unwrap();
        let policy = Policies::default().of(&Scope::Shipped, None, "built-in");
        let mut store = Store::new(component.engine(), State(WasiState::new(&policy, [0; 32])));
        store.set_epoch_deadline(u64::MAX / 2);
        linker.instantiate(&mut store, component).unwrap();
    }

    #[test]
    fn the_core_types_are_there_and_the_successors_of_known_plugins() {
        let names: Vec<_> = BUILTINS.iter().map(|builtin| builtin.name).collect();
        let (core, others) = names.split_at(CORE_TYPES.len());
        assert_eq!(core, CORE_TYPES);
        assert_eq!(
            others,
            [
                "x-delayed-message",
                "x-message-deduplication",
                "x-recent-history",
                "x-lvc",
                "x-modulus-hash",
                "x-consistent-hash",
                "x-random"
            ]
        );
    }

    #[test]
    fn components_compile_link_and_instantiate() {
        let engines = Engines::new().unwrap();
        for builtin in BUILTINS {
            instantiates(&engines.compile(CodeStrategy::Cranelift, builtin.component).unwrap());
        }
    }

    /// Else every start of the broker would compile them anew, and nobody would notice.
    #[test]
    fn the_brokers_engine_takes_the_code_compiled_ahead() {
        let engines = Engines::new().unwrap();
        let engine = engines.engine(CodeStrategy::Cranelift).unwrap();
        for builtin in BUILTINS {
            assert_eq!(Engine::detect_precompiled(builtin.precompiled), Some(Precompiled::Component));
            // SAFETY: the build script made these bytes with wasmtime, and they are unchanged.
            let component = unsafe { Component::deserialize(engine, builtin.precompiled) };
            instantiates(&component.unwrap());
        }
    }

    /// Paths tell of the machine that built the broker, and make each build's digests differ.
    #[test]
    fn components_hold_no_path_of_the_building_machine() {
        let home = env!("CARGO_MANIFEST_DIR").as_bytes();
        for builtin in BUILTINS {
            assert!(!builtin.component.windows(home.len()).any(|bytes| bytes == home), "{}", builtin.name);
        }
    }
}
