//! The types and calls of the contract's versions, generated from `wit/`.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    rust_2018_idioms,
    clippy::all,
    reason = "generated; the documentation is in wit/"
)]

/// Version 0.1.0: an exchange type, plain and in batches.
pub mod v0_1 {
    wasmtime::component::bindgen!({
        path: "../../wit/0.1.0",
        world: "leveret:routing/exchange-type-batch-plugin",
        ownership: Borrowing { duplicate_if_necessary: false },
        with: { "leveret:routing/types": crate::bindings::types_0_1 },
    });
}

/// The types of version 0.1.0: those of 0.2.0 where they are the same.
pub mod types_0_1 {
    use super::v0_2::leveret::routing::types as newer;
    use wasmtime::component::{ComponentType, HasData, Lift, Linker, Lower};

    /// An interface without functions asks nothing of its host.
    pub trait HostWithStore<T>: HasData {}
    impl<D: HasData, T> HostWithStore<T> for D {}
    pub trait Host {}
    impl<H> Host for H {}

    /// There is nothing to add.
    pub fn add_to_linker<T: 'static, D: HasData>(
        _linker: &mut Linker<T>,
        _host: fn(&mut T) -> D::Data<'_>,
    ) -> wasmtime::Result<()> {
        Ok(())
    }

    pub type ExchangeId = u32;
    pub type BindingId = u64;
    pub type Field<'a> = newer::FieldParam<'a>;
    pub type Value<'a> = newer::ValueParam<'a>;
    pub type Property = newer::Property;
    pub type HeaderSelection = newer::HeaderSelection;

    #[derive(Clone, Debug, ComponentType, Lift)]
    #[component(record)]
    pub struct Reads {
        #[component(name = "routing-key")]
        pub routing_key: bool,
        pub headers: HeaderSelection,
        pub properties: Vec<Property>,
        #[component(name = "body-limit")]
        pub body_limit: Option<u32>,
    }

    #[derive(Clone, Debug, ComponentType, Lower)]
    #[component(record)]
    pub struct Message<'a> {
        #[component(name = "routing-key")]
        pub routing_key: &'a [u8],
        pub headers: &'a [Field<'a>],
        pub properties: &'a [Option<Value<'a>>],
        pub body: Option<&'a [u8]>,
    }

    #[derive(Clone, Debug, ComponentType, Lower)]
    #[component(record)]
    pub struct Binding<'a> {
        pub id: BindingId,
        #[component(name = "routing-key")]
        pub routing_key: &'a [u8],
        pub arguments: &'a [Field<'a>],
    }

    #[derive(Clone, Debug, ComponentType, Lift)]
    #[component(variant)]
    pub enum Decision {
        #[component(name = "deliver")]
        Deliver(Vec<BindingId>),
        #[component(name = "drop")]
        Drop,
        #[component(name = "reject")]
        Reject(String),
    }
}

/// Version 0.2.0: everything that a plugin may export and import.
pub mod v0_2 {
    wasmtime::component::bindgen!({
        path: "../../wit/0.2.0",
        inline: "
            package leveret:host;
            world everything {
                include leveret:routing/whole-exchange-type@0.2.0;
                include leveret:routing/whole-interceptor@0.2.0;
            }
        ",
        world: "leveret:host/everything",
        ownership: Borrowing { duplicate_if_necessary: true },
        imports: { default: trappable },
    });
}
